/*
 * coll: collectives between the ranks of a world, or of a group of it, and messages between two of
 * them. The ranks of one pod reduce in shared memory, their leaders over TCP.
 *
 * Host memory and device memory are apart: coll_allreduce and the like are for the host's, what is
 * started, joined and waited for (coll_*_start) for the device's. Where the host can read the
 * device these are the same reduction; else NCCL, or, where the device has no communicators or
 * conf.staged says so, the host's transports by way of a staging buffer.
 *
 * Deterministic: the result of coll_allreduce depends on the number of ranks only, never on timing,
 * and is bitwise the same on every rank. Every wait has a deadline (timeout_ms): -ERR_HANG; a
 * closed connection: -ERR_PEER. coll_abort may be called from another thread or a signal-free
 * watcher: every wait ends with -ERR_DRAINED. After any failure the object may only be destroyed.
 * One collective at a time. Authentication: a connection begins with an HMAC over both nonces with
 * the incarnation's secret, checked before anything else is read.
 */
#ifndef RUNTIME_COLL_COLL_H
#define RUNTIME_COLL_COLL_H

#include "base/err.h"
#include "api/wire.h"
#include "kernels/dev.h"
#include "runtime/coll/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct coll;
struct trace;

struct coll_conf {
    int rank, world;
    const struct wire_peer *peers; /* world entries, by rank */
    int listen_fd;                 /* of this rank; taken */
    const char *secret;            /* hex, of the incarnation */
    int64_t incarnation;
    int64_t timeout_ms;     /* of one wait */
    struct wire_page *page; /* told of every collective and beat; or NULL */
    struct dev *dev;        /* whose memory is reduced; outlives the coll. NULL: the host's */
    bool staged;            /* not NCCL: several ranks on one GPU */
    /* Told why before a failed communicator is given up, which may take for ever; or NULL. */
    void (*failing_fn)(void *user, const struct err *why);
    void *failing_user;
};

enum coll_reduce { COLL_SUM, COLL_MAX };

int coll_create(const struct coll_conf *conf, struct coll **out, struct err *e);
/* The collective among these ranks of the world, of which this one is one: itself where they are
 * all, else a new one, that is aborted and destroyed with it. All ranks of the world call at once,
 * with groups of the same axis. Ranks are told, on the page and in errors, by their number in the
 * world; coll_broadcast and coll_allgather count them by their index in the group. */
int coll_group(
    struct coll *world, const struct layout_group *members, struct coll **out, struct err *e);
/* The same, but always a new one, of host memory whatever the device, which tells no page: for
 * another thread to use while this one uses the world's. Ranks may form groups of several sizes. */
int coll_group_beside(
    struct coll *world, const struct layout_group *members, struct coll **out, struct err *e);
void coll_destroy(struct coll *c);
void coll_abort(struct coll *c);

/* Memory for coll_reduce_start: of the device, which the network reaches directly where it can; of
   the pod's shared mapping where the host reads the device's memory, so that nothing is copied
   first. 64-byte aligned, zeroed. All ranks call in the same order with the same size. Freed by
   coll_destroy. */
int coll_alloc(struct coll *c, size_t bytes, void **out, struct err *e);

/* In place over count elements of F32, BF16, F16 or I32 (16 bits are summed up in F32), in host
 * memory. */
int coll_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);
int coll_allgather(
    struct coll *c, const void *mine, size_t bytes, void *all /* size * bytes */, struct err *e);
int coll_broadcast(struct coll *c, void *data, size_t bytes, int root, struct err *e);
int coll_barrier(struct coll *c, struct err *e);

/* The same over device memory, in order with the device's operations: start reads what they have
   written so far, and what is enqueued after join reads the result. Several may be started before
   one join; all ranks start the same ones in the same order. Neither waits with NCCL, so before the
   host waits for the device it must coll_reduce_wait: the only one with a deadline. Join waits with
   coll_overlap; what failed is told by wait. Both are for all that was started, of any kind. As of
   coll_alloc, what one rank has of the memory all have, or none. */
int coll_reduce_start(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e);

/* Slices: data is one flat range, of which each member has a slice, one behind the other in the
   members' order; counts has an entry a member, of elements, the same on every rank; any may be 0.
   Both are in place: of data outside of its own slice reduce-scatter leaves nothing in particular,
   and all-gather reads nothing. What reduce-scatter leaves in a slice is to the bit what
   coll_reduce_start of the same memory leaves there (with NCCL: to rounding). t: as for
   coll_allreduce; of all-gather any whose block is one element. */
int coll_reduce_scatter_start(struct coll *c, void *data, const int64_t *counts, enum dtype t,
    enum coll_reduce op, struct err *e);
int coll_all_gather_start(
    struct coll *c, void *data, const int64_t *counts, enum dtype t, struct err *e);

/* Messages between members, which are counted by their index in the group. Connects every two of
   them: at the start, once, all members at once, before any of the next four. */
int coll_connect(struct coll *c, struct err *e);
struct coll_message {
    void *data; /* of a message that is sent, only read */
    size_t bytes;
    int peer; /* another member */
    bool receive;
};
/* All n messages, at most twice as many as members, are under way at once: members may send to each
   other, or each to the next around a ring. Only those take part who send or receive. A message
   meets the receive of its receiver that is as many-th between the two; both tell the same size, or
   ERR_BUG (with NCCL nothing in particular). Of messages in several calls an earlier one may have
   to be received before a later one is sent. */
int coll_exchange_start(struct coll *c, const struct coll_message *messages, int n, struct err *e);
int coll_send_start(struct coll *c, const void *data, size_t bytes, int to, struct err *e);
int coll_receive_start(struct coll *c, void *data, size_t bytes, int from, struct err *e);
/* A collective: out_counts[i] elements go to member i, in_counts[i] come from it, and lie one
   behind the other in the members' order in out and in, which do not overlap. in_counts[i] is what
   member i has for this one; any may be 0. t: one whose block is one element. */
int coll_all_to_all_start(struct coll *c, const void *out, const int64_t *out_counts, void *in,
    const int64_t *in_counts, enum dtype t, struct err *e);

/* The same messages of host memory, whatever the device: all are over when it returns. All members
   connect at once, at the start. */
int coll_connect_host(struct coll *c, struct err *e);
int coll_exchange(struct coll *c, const struct coll_message *messages, int n, struct err *e);

void coll_reduce_join(struct coll *c);
int coll_reduce_wait(struct coll *c, struct err *e);
/* From now on reductions that are started (coll_reduce_start, coll_reduce_scatter_start) are under
   way on a thread of c's own while the caller computes on; what is started next of another kind
   waits for them. For members in several pods whose host reads the device's memory: nothing is
   changed where the device overlaps by itself, nor in one pod, where sums are the processors' work.
   All members or none. Before the first is started; stays until c is destroyed. */
int coll_overlap(struct coll *c, struct err *e);
/* Whether one computes on while what was started is under way. */
bool coll_overlaps(const struct coll *c);
/* Bytes that this rank has sent over the network, in groups of c, too; -1 where it cannot tell
   (NCCL). What stays in shared memory is none. */
int64_t coll_sent_bytes(const struct coll *c);
/* What is started and waited for from now on, in groups of c, too, is recorded; t NULL: no more,
   and whatever is under way will not be. */
void coll_trace(struct coll *c, struct trace *t);
const char *coll_transport(const struct coll *c); /* of device memory: "host", "staged", "nccl" */

#endif
