/*
 * device: the device that a rank computes on, and how much of it is the rank's, by
 * spec.device.resource and the rank's number in its replica. Never another device than the one that
 * was asked for.
 */
#ifndef RUNTIME_MODEL_DEVICE_H
#define RUNTIME_MODEL_DEVICE_H

#include "base/err.h"
#include "kernels/dev.h"

/* A pod sees the GPUs that it was given, and each of its ranks takes one. ERR_USER for a resource
 * that ranks cannot compute on. */
int device_choose(
    const char *resource, int local_rank, const char **kind, int *index, struct err *e);
/* Opens it; *budget_bytes: the memory this rank may use. A replica's processors and memory are
 * shared evenly by its ranks. */
int device_open(const char *resource, int local_rank, int local_world, struct dev **out,
    int64_t *budget_bytes, struct err *e);

#endif
