/*
 * world: how a rank joins the others of its world: the collective over them, on its device.
 */
#ifndef RUNTIME_TRAIN_WORLD_H
#define RUNTIME_TRAIN_WORLD_H

#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/door/orders.h"

/* Takes orders->listen_fd. A communicator that fails, and cannot be given up, ends the process
 * (door_end_within). ERR_USER: an environment that asks for an unknown kind of collectives. */
int world_connect(
    struct orders *orders, struct door *d, struct dev *dev, struct coll **out, struct err *e);

#endif
