/*
 * coll_internal: what the files of this folder share. Nobody else includes it.
 *
 * coll.c groups the ranks, opens the transports and offers the public operations; meet.c connects;
 * host.c is for host memory, composed of local.c (shared memory of one pod), tcp.c (ring between
 * the pods' leaders) and pairs.c (messages); overlap.c runs reductions beside the caller; nccl.c
 * and staged.c are for device memory; reduce.c adds.
 *
 * Terms: the members are the ranks of this collective, an arithmetic series of the world's; ranks
 * are always named by their number in the world. The local ranks are the members of this rank's
 * replica, in rank order; the first of them is the leader; the ring joins the leaders in replica
 * order.
 */
#ifndef RUNTIME_COLL_INTERNAL_H
#define RUNTIME_COLL_INTERNAL_H

#include "runtime/coll/coll.h"
#include "runtime/door/trace.h"

#include <stdatomic.h>
#include <stdbool.h>

#define COLL_MAX_LOCAL    64
#define COLL_MAX_REGIONS  64
#define COLL_SECRET_BYTES 130
#define COLL_STAGING      (1 << 20) /* bytes of host memory that go through shared memory at once */
#define COLL_SLICE_MS     20        /* how often a waiter looks at sockets, abort and deadline */
#define COLL_RING_SEGMENT (256 << 10)

struct driver_comm;

/* A way to reduce memory among some ranks: its own members, which coll.c chose. A table a file; an
 * operation that it has no need of is NULL. Each is called by all its ranks in the same order. */
struct coll_transport {
    const char *name;
    bool
        overlaps; /* all_reduce only starts: what follows join on the device waits, and wait does */
    int (*open)(struct coll *c, struct err *e);
    /* Memory that it reduces without a copy, zeroed, given back by close. */
    int (*alloc)(struct coll *c, size_t bytes, void **out, struct err *e);
    /* In place. */
    int (*all_reduce)(struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op,
        struct err *e);
    /* In place. Slices are told by where they begin: member i's is [first[i], first[i + 1]), and
     * the last entry is the count of the whole. What is outside of this rank's is spoilt. */
    int (*reduce_scatter)(struct coll *c, void *data, const int64_t *first, enum dtype t,
        enum coll_reduce op, struct err *e);
    int (*all_gather)(
        struct coll *c, void *data, const int64_t *first, size_t element, struct err *e);
    /* What exchange needs; once, by all members. */
    int (*connect)(struct coll *c, struct err *e);
    /* At most coll_most_messages, none of them to this rank itself. */
    int (*exchange)(struct coll *c, const struct coll_message *messages, int n, struct err *e);
    /* The same by all members, one message each way; may reorder them. */
    int (*all_to_all)(struct coll *c, struct coll_message *messages, int n, struct err *e);
    /* Everyone takes the leader's bytes. */
    int (*broadcast)(struct coll *c, void *data, size_t bytes, struct err *e);
    void (*join)(struct coll *c);
    int (*wait)(struct coll *c, struct err *e);
    void (*abort)(struct coll *c); /* from any thread */
    void (*close)(struct coll *c); /* half-open is fine */
};
extern const struct coll_transport coll_local, coll_tcp;              /* parts of the next */
extern const struct coll_transport coll_host, coll_staged, coll_nccl; /* all members */

struct coll_region { /* one shared mapping: local_count parts of part_bytes each */
    uint8_t *base;
    size_t part_bytes;
};

struct coll {
    struct coll_conf conf; /* peers and secret are this object's own copies */
    char secret[COLL_SECRET_BYTES];
    int first, stride, size, index; /* the members, and this rank's place among them */
    int local[COLL_MAX_LOCAL];      /* ranks */
    int local_count, local_index;
    int *leaders;                                  /* ranks, in ring order */
    int leader_count, leader_index;                /* index -1: not a leader */
    const struct coll_transport *within, *between; /* local ranks, leaders; NULL: a rank alone */
    const struct coll_transport *device;           /* what device memory is reduced by */
    _Atomic(struct coll *) groups;                 /* formed from this one; it owns them */
    struct coll *sibling;                          /* the next of its parent's groups */

    int control[COLL_MAX_LOCAL]; /* leader: socket to each local rank; others: [0] to the leader */
    int abort_fd;                /* eventfd */
    _Atomic bool aborted;
    _Atomic int64_t sent_bytes;    /* into sockets */
    uint64_t sequence;             /* of collectives, in which all members take part */
    int64_t *slices;               /* size + 1: where those of the one under way begin */
    bool connected;                /* for messages */
    bool beside;                   /* another thread's: it has no trace */
    struct coll_message *messages; /* coll_most_messages: of an all-to-all */

    /* host.c */
    int64_t *cut; /* 2 (size + 1): the slices within a piece, of all members and of all pods */

    /* local.c */
    struct coll_region region[COLL_MAX_REGIONS]; /* [0]: control words and staging */
    int region_count;
    uint32_t phase; /* of the barrier */

    /* tcp.c */
    int next, prev;   /* ring sockets, -1 when alone */
    uint8_t *segment; /* COLL_RING_SEGMENT: what arrives before it is reduced */

    /* pairs.c */
    int *pair; /* the socket to each member, -1 to itself; NULL: not connected */
    struct coll_flows *flows;

    /* staged.c */
    uint8_t *stage;                /* shared memory */
    int64_t *staged_cut;           /* size + 1 */
    void *block[COLL_MAX_REGIONS]; /* device memory of coll_alloc */
    int block_count;

    /* overlap.c */
    struct coll_overlap *overlap;     /* NULL: reductions are over when they were started */
    int awaited;                      /* rank; by whoever waited last */
    _Atomic(struct wire_page *) page; /* told of waits and progress; NULL: the caller computes on */

    /* nccl.c */
    _Atomic(struct driver_comm *) comm; /* NULL for a rank alone */
    struct driver_message *passed;      /* coll_most_messages */
    int64_t waited_ms;                  /* the last time */
    int64_t started_bytes;              /* and not waited for; coll.c's */
    enum wire_operation started;        /* the last of it, a collective rather than an exchange */

    struct trace *trace;         /* or NULL */
    int64_t begun, inside_bytes; /* of the one that the caller is in */
    enum wire_operation inside;
};

/* -- coll.c -- */
/* Whether a waiter that has waited since start_ms must give up: abort, deadline, or a closed
 * control socket. */
int coll_check_wait(struct coll *c, int64_t start_ms, int waiting_for, struct err *e);
/* Tells the page for whom it waits. */
void coll_tell_awaited(struct coll *c, int rank);
/* Whether a neighbour has closed its ring socket. Not while a transfer is under way: who has sent
 * the last of it may go. */
int coll_check_ring(struct coll *c, struct err *e);

/* The slices within [from, from + count) of what they are of, counted from there: in `into`, which
 * has an entry for each member and one more. */
const int64_t *coll_cut(
    const struct coll *c, int64_t *into, const int64_t *first, int64_t from, int64_t count);

/* The page for whoever carries a collective out; or NULL. */
static inline struct wire_page *coll_page(struct coll *c)
{
    return atomic_load_explicit(&c->page, memory_order_acquire);
}

/* -- overlap.c -- */
struct coll_job { /* a reduction that was started */
    void *data;
    int64_t count;
    const int64_t *slices; /* (size + 1) of a reduce-scatter, copied; NULL: an all-reduce */
    enum dtype t;
    enum coll_reduce op;
};
/* Waits when too many are under way. */
void coll_overlap_add(struct coll *c, const struct coll_job *job);
/* Until none is under way; the first failure of any. */
int coll_overlap_finish(struct coll *c, struct err *e);
/* coll_trace of c alone. */
void coll_overlap_trace(struct coll *c, struct trace *t);
void coll_overlap_close(struct coll *c);

/* -- meet.c -- */
/* Opens the sockets to local leader, local ranks and ring neighbours, each authenticated. */
int coll_meet(struct coll *c, struct err *e);
/* One socket between every two members, into c->pair. */
int coll_meet_pairs(struct coll *c, struct err *e);

/* -- pairs.c -- */
int coll_pairs_open(struct coll *c, struct err *e);
int coll_most_messages(const struct coll *c);
/* windows: host memory of so many bytes, through which device memory goes; NULL: it need not. */
int coll_pairs_exchange(struct coll *c, const struct coll_message *messages, int n,
    uint8_t *windows, size_t bytes, struct err *e);
void coll_pairs_close(struct coll *c);

/* -- local.c -- */
/* Whether this rank's memory at p lies in the pod's shared mapping. */
bool coll_local_holds(const struct coll *c, const void *p, size_t bytes);
/* The messages of an all-to-all between local ranks, whose data lies in the mapping: each is copied
 * once. The others' are left: *n of them. */
int coll_local_all_to_all(struct coll *c, struct coll_message *messages, int *n, struct err *e);

/* -- staged.c -- */
/* Device memory of no particular kind. */
int coll_staged_alloc(struct coll *c, size_t bytes, void **out, struct err *e);
void coll_staged_free(struct coll *c);

/* -- nccl.c -- */
bool coll_nccl_can(const struct coll *c);

/* -- reduce.c -- */
/* into[i] = reduce(into[i], from[i]) */
void coll_reduce_pair(
    void *into, const void *from, int64_t count, enum dtype t, enum coll_reduce op);
/* Reduces parts[0..n-1] in that order and stores the result to outs[0..m-1], of them or others. */
void coll_reduce_all(void *const *parts, int n, void *const *outs, int m, int64_t count,
    enum dtype t, enum coll_reduce op);
size_t coll_element(enum dtype t); /* bytes; 0: not supported */

#endif
