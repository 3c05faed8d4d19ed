/*
 * rank: this process as the agent sees it: the frames on the socket, the heartbeat page, the place
 * in the world.
 *
 * The main thread owns the model and all sends but one; the reader thread takes the agent's frames:
 * WIRE_STOP and WIRE_CHECKPOINT become flags that train looks at on a step boundary, requests go to
 * the queue, and a closed socket ends the process at once, whatever the main thread is stuck in. fd
 * -1 (tests, benches): frames are dropped.
 */
#ifndef RUNTIME_RANK_H
#define RUNTIME_RANK_H

#include "base/err.h"
#include "api/jobspec.h"
#include "base/json.h"
#include "base/mem.h"
#include "api/wire.h"
#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/serve/sched.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct rank {
    const struct jobspec *spec;
    int rank, world, replica, local_rank, local_world;
    int64_t incarnation;
    int64_t budget_bytes; /* memory this rank may use */
    struct dev *dev;
    struct wire_page *page; /* or NULL */
    struct sched *sched;    /* serving only */
    _Atomic(struct coll *) coll;
    _Atomic bool stop, checkpoint; /* asked by the agent */

    /* private to rank.c */
    int fd;
    struct arena *arena;
    struct jobspec job;
    struct wire_reader reader;
    pthread_mutex_t send_lock;
    _Atomic bool ending;  /* the last frame is out: a closed socket is no loss */
    _Atomic bool limited; /* by rank_end_within */
    char secret[130];
    int listen_fd;
    struct coll_peer *peers;
};

/* The device of a local rank by spec.device.resource: a pod sees the GPUs that it was given, and
   each of its ranks takes one. ERR_USER for a resource that ranks cannot compute on. */
int rank_device(const char *resource, int local_rank, const char **kind, int *index, struct err *e);

/* Prepare and start frames, the device, the reader thread, and for training the collective. */
int rank_open(struct rank *r, int fd, struct wire_page *page, struct err *e);
void rank_close(struct rank *r); /* half-built is fine */

int rank_send(struct rank *r, enum wire_type type, const void *data, size_t size, struct err *e);
/* A JSON object; the list ends with a NULL name. text NULL: the number, NaN becomes null. */
struct rank_field {
    const char *name;
    double value;
    const char *text;
};
int rank_send_fields(
    struct rank *r, enum wire_type type, const struct rank_field *fields, struct err *e);
/* WIRE_DONE; output NULL: stopped as asked. */
int rank_send_done(struct rank *r, int64_t step, const char *output, struct err *e);
/* For a failure that leaves the device busy, so that giving its memory or its communicator back may
   wait for ever: tells it and ends the process after ms, unless that has ended before. The first
   call counts. From any thread. */
#define RANK_END_MS 10000
void rank_end_within(struct rank *r, int64_t ms, const struct err *why);
/* WIRE_FAILED with class and message; its own failure is ignored: the process is about to end. */
void rank_send_failed(struct rank *r, const struct err *why);

#endif
