/*
 * carve: one block of device memory, cut into tensors. The walk that cuts is the walk that counts:
 * without a base carve_take gives NULL and only adds up, and `size` ends as what a block needs; the
 * same calls with a base then give addresses. So a prediction is an allocation by construction.
 *
 * Sizes are not negative and saturate at INT64_MAX: one from a hostile file becomes a refusal,
 * never a small number. `used` may be set back to an earlier value: what follows then shares memory
 * with what came after it, and `size` is the most that was ever used.
 */
#ifndef RUNTIME_MODEL_CARVE_H
#define RUNTIME_MODEL_CARVE_H

#include "base/err.h"
#include "kernels/dev.h"

struct carve {
    char *base; /* NULL: counting */
    int64_t used, size;
};

/* 64-byte aligned. Cutting more than was counted is a bug that stops. */
void *carve_take(struct carve *c, int64_t bytes);
/* (rows, columns) of a type without blocks */
void *carve_tensor(struct carve *c, int64_t rows, int64_t columns, enum dtype t);

/* From counting to cutting: allocates what was counted; nothing when that is 0. */
int carve_open(struct carve *c, struct dev *d, struct err *e);
void carve_close(struct carve *c, struct dev *d);

int64_t carve_times(int64_t a, int64_t b);
int64_t carve_plus(int64_t a, int64_t b);

#endif
