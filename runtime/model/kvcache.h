/*
 * kvcache: keys and values of sequences while serving, on the device, one block allocated at start.
 * It is cut into pages of KVCACHE_PAGE tokens (arXiv:2309.06180), so that sequences of any length
 * share it, and a page may belong to several that begin alike. Layout per layer: keys (pages,
 * KVCACHE_PAGE, g, d), then values likewise, of type F32 or 16 bits, or of Q8_0 on processors.
 */
#ifndef RUNTIME_MODEL_KVCACHE_H
#define RUNTIME_MODEL_KVCACHE_H

#include "base/err.h"
#include "kernels/dev.h"

#define KVCACHE_PAGE 16 /* tokens */

struct kvcache;

/* Whose tokens a batch's rows are: row i is token position[i] of the sequence whose page j is
   pages[i * ld + j]; ld 0: of one sequence. On the device. */
struct kvcache_rows {
    const int32_t *position, *pages;
    int64_t ld;
};

/* Pages that so many tokens take. */
int64_t kvcache_pages(int64_t tokens);
/* What a cache takes; INT64_MAX: more than there can be. */
int64_t kvcache_bytes(int64_t layers, int64_t pages, int64_t width, enum dtype t);
int kvcache_create(struct dev *d, int64_t layers, int64_t pages, int64_t width /* g * d */,
    enum dtype t, struct kvcache **out, struct err *e);
void kvcache_destroy(struct kvcache *c);
/* k and v (n, width) F32, of n rows, all of different places in pages that there are (checked by
   the caller); all on the device. */
void kvcache_store(struct kvcache *c, int64_t layer, const struct kvcache_rows *rows, int64_t n,
    const float *k, const float *v);
const void *kvcache_keys(const struct kvcache *c, int64_t layer);
const void *kvcache_values(const struct kvcache *c, int64_t layer);
enum dtype kvcache_type(const struct kvcache *c);

#endif
