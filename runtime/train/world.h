/*
 * world: how a rank joins the others of its world: the collective over them, on its device, and the
 * plan that all follow.
 */
#ifndef RUNTIME_TRAIN_WORLD_H
#define RUNTIME_TRAIN_WORLD_H

#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/door/orders.h"
#include "runtime/train/planner.h"
#include "runtime/train/speed.h"

/* Takes orders->listen_fd. A communicator that fails, and cannot be given up, ends the process
 * (door_end_soon). ERR_USER: an environment that asks for an unknown kind of collectives. */
int world_connect(
    struct orders *orders, struct door *d, struct dev *dev, struct coll **out, struct err *e);
/* Rank 0 plans, for the least memory that a rank of the world may use; all take what it tells.
 * Where what is told does not do and axes are open, all measure how fast they are, and rank 0
 * chooses: in's axes become its choice. out->memory is this rank's own: ERR_MEMORY where that does
 * not fit. A refusal is everybody's. each: (world), of every rank how fast it is, which is measured
 * before all else then; or NULL. */
int world_plan(const struct speed_world *w, struct planner_input *in, struct speed_rank *each,
    struct planner_plan *out, struct err *e);

/* All ranks read the same files, as far as these tell: ERR_USER names one that does not. */
int world_agree(struct coll *c, int world, uint64_t digest, int64_t count, struct err *e);

#endif
