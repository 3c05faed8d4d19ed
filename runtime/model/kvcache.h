/*
 * kvcache: keys and values of one sequence while serving, on the device, one block allocated at
 * start. Layout per layer: keys (capacity, g, d), then values (capacity, g, d), of type F32 or
 * 16 bits.
 */
#ifndef RUNTIME_MODEL_KVCACHE_H
#define RUNTIME_MODEL_KVCACHE_H

#include "base/err.h"
#include "kernels/dev.h"

struct kvcache;

/* What a cache takes; INT64_MAX: more than there can be. */
int64_t kvcache_bytes(int64_t layers, int64_t capacity, int64_t width, enum dtype t);
int kvcache_create(struct dev *d, int64_t layers, int64_t capacity, int64_t width /* g * d */,
    enum dtype t, struct kvcache **out, struct err *e);
void kvcache_destroy(struct kvcache *c);
/* Tokens position[0] to position[n - 1], all different and below the capacity (checked by the
   caller): k and v (n, width) F32; all on the device. */
void kvcache_store(struct kvcache *c, int64_t layer, const int32_t *position, int64_t n,
    const float *k, const float *v);
const void *kvcache_keys(const struct kvcache *c, int64_t layer);
const void *kvcache_values(const struct kvcache *c, int64_t layer);
enum dtype kvcache_type(const struct kvcache *c);

#endif
