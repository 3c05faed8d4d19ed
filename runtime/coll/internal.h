/*
 * coll_internal: what coll.c (grouping, public operations), coll/meet.c (connections), coll/local.c
 * (shared memory of one pod), coll/tcp.c (ring between the pods' leaders), coll/nccl.c and
 * coll/staged.c (device memory) and coll/reduce.c (the sums) share. Nobody else includes it.
 *
 * Terms: the local group is the ranks of this rank's replica, in rank order; its first rank is the
 * leader; the ring joins the leaders in replica order.
 */
#ifndef RUNTIME_COLL_INTERNAL_H
#define RUNTIME_COLL_INTERNAL_H

#include "runtime/coll/coll.h"

#include <stdatomic.h>
#include <stdbool.h>

#define COLL_MAX_LOCAL      64
#define COLL_MAX_REGIONS    64
#define COLL_STAGING        (1 << 20) /* bytes a rank for memory that is not shared */
#define COLL_REGION0_HEADER 128       /* bytes of a rank's barrier word, before its staging area */
#define COLL_SLICE_MS       20        /* how often a waiter looks at sockets, abort and deadline */
#define COLL_RING_SEGMENT   (256 << 10)

struct driver_comm;
enum coll_device { COLL_HOST, COLL_STAGED, COLL_NCCL }; /* how device memory is reduced */

struct coll_region { /* one shared mapping: local_count parts of part_bytes each */
    uint8_t *base;
    size_t part_bytes;
};

struct coll {
    struct coll_conf conf;
    struct wire_peer *peers;   /* own copy, world entries */
    int local[COLL_MAX_LOCAL]; /* ranks of this replica */
    int local_count, local_index;
    int *leaders;                   /* rank of each replica's leader, ring order */
    int leader_count, leader_index; /* index -1: not a leader */

    int control[COLL_MAX_LOCAL]; /* leader: socket to each local rank; others: [0] to the leader
                                  */
    struct coll_region region[COLL_MAX_REGIONS]; /* [0]: control words and staging */
    int region_count;
    uint32_t phase; /* of the local barrier */

    int next, prev;   /* ring sockets, -1 when alone */
    uint8_t *segment; /* COLL_RING_SEGMENT: what arrives before it is reduced */
    int abort_fd;     /* eventfd */
    _Atomic bool aborted;
    uint64_t sequence; /* of collectives */

    enum coll_device device;
    _Atomic(struct driver_comm *) comm; /* NCCL; NULL in a world of one */
    int64_t started_bytes;              /* enqueued and not waited for */
    int64_t waited_ms;                  /* the last time */
    uint8_t *stage;                     /* COLL_STAGE_BYTES that the host's transports share */
    void *block[COLL_MAX_REGIONS];      /* device memory of coll_alloc */
    int block_count;
};

/* -- coll.c -- */
void coll_beat(struct coll *c, int waiting_for);
/* Whether a waiter that has waited since start_ms must give up: abort, deadline, or a closed
 * control socket. */
int coll_check_wait(struct coll *c, int64_t start_ms, int waiting_for, struct err *e);
/* Whether a neighbour has closed its ring socket. Not while a transfer is under way: who has sent
 * the last of it may go. */
int coll_check_ring(struct coll *c, struct err *e);
/* In place, host memory; no word to the page. */
int coll_reduce_host(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);
/* A part of a new region shared by the local ranks. */
int coll_alloc_shared(struct coll *c, size_t bytes, void **out, struct err *e);

/* -- coll/meet.c -- */
/* Opens the sockets to local leader, local ranks and ring neighbours, each authenticated. */
int coll_meet(struct coll *c, struct err *e);

/* -- coll/tcp.c -- */
int coll_tcp_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);

/* -- coll/local.c -- */
int coll_local_region(
    struct coll *c, size_t part_bytes, struct err *e); /* adds one; all local ranks */
void coll_local_done(struct coll *c);
int coll_local_barrier(struct coll *c, struct err *e);
/* Sums the local ranks' parts at the same offset of a region; everyone gets the result. */
int coll_local_allreduce(struct coll *c, int region, size_t offset, int64_t count, enum dtype t,
    enum coll_reduce op, struct err *e);
/* Everyone takes the leader's bytes. */
int coll_local_spread(struct coll *c, int region, size_t offset, size_t bytes, struct err *e);

/* -- coll/nccl.c -- */
int coll_nccl_open(struct coll *c, struct err *e); /* collective */
void coll_nccl_close(struct coll *c);
void coll_nccl_abort(struct coll *c); /* from any thread */
bool coll_nccl_can(const struct coll *c);
int coll_nccl_alloc(struct coll *c, size_t bytes, void **out, struct err *e);
int coll_nccl_start(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);
void coll_nccl_join(struct coll *c);
int coll_nccl_wait(struct coll *c, struct err *e);

/* -- coll/staged.c -- */
int coll_staged_open(struct coll *c, struct err *e); /* collective */
int coll_staged_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);

/* -- coll/reduce.c -- */
/* into[i] = reduce(into[i], from[i]) */
void coll_reduce_pair(
    void *into, const void *from, int64_t count, enum dtype t, enum coll_reduce op);
/* Reduces parts[0..n-1] in that order and stores the result to every part. */
void coll_reduce_all(void *const *parts, int n, int64_t count, enum dtype t, enum coll_reduce op);
size_t coll_element(enum dtype t); /* bytes; 0: not supported */

#endif
