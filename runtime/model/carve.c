/*
 * carve: arithmetic on sizes and addresses; the memory itself is the device's, zeroed when it is
 * opened and never read or written here.
 */
#include "runtime/model/carve.h"

#include <assert.h>

#define CARVE_ALIGN 64

int64_t carve_times(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

int64_t carve_plus(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

void *carve_take(struct carve *c, int64_t bytes)
{
    void *p = c->base ? c->base + c->used : NULL;
    assert(bytes >= 0);
    if (bytes > INT64_MAX - CARVE_ALIGN)
        c->used = INT64_MAX;
    else
        c->used = carve_plus(c->used, (bytes + CARVE_ALIGN - 1) / CARVE_ALIGN * CARVE_ALIGN);
    assert(!c->base || c->used <= c->size);
    if (c->used > c->size)
        c->size = c->used;
    return p;
}

void *carve_tensor(struct carve *c, int64_t rows, int64_t columns, enum dtype t)
{
    return carve_take(c, carve_times(carve_times(rows, columns), dtype_block_bytes(t)));
}

int carve_open(struct carve *c, struct dev *d, struct err *e)
{
    void *base = NULL;
    int rc = c->size ? dev_alloc(d, (size_t)c->size, &base, e) : 0;
    if (rc)
        return rc;
    c->base = base;
    c->used = 0;
    return 0;
}

void carve_close(struct carve *c, struct dev *d)
{
    dev_free(d, c->base);
    *c = (struct carve){0};
}
