/*
 * orders: what the agent tells a rank before anything else: the job, and the rank's place in the
 * world (WIRE_PREPARE and WIRE_START of api/wire.h). Plain data: what is done with it is not
 * known here. Everything lives until orders_done.
 */
#ifndef RUNTIME_DOOR_ORDERS_H
#define RUNTIME_DOOR_ORDERS_H

#include "api/jobspec.h"
#include "base/mem.h"
#include "runtime/door/door.h"

struct orders {
    const struct jobspec *spec;
    int rank, world, replica, local_rank, local_world;
    int64_t incarnation;
    char secret[130];        /* of the incarnation, hex */
    struct wire_peer *peers; /* (world), by rank */
    int listen_fd; /* where the other ranks of the world call; -1: whoever took it owns it */
    int copies_fd; /* the pod's memory that outlives its ranks (runtime/ckpt/copy.h); -1: none */

    /* private to orders.c */
    struct arena *arena;
    struct jobspec job;
};

/* Waits for both frames, and binds the listener between them. A failure needs orders_done, too. */
int orders_take(struct orders *o, struct door *d, struct err *e);
void orders_done(struct orders *o);

#endif
