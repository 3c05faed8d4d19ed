/*
 * kvcache: storage only. Which page is whose, and what of it is valid, is the caller's knowledge
 * (runtime/serve/pages.h), so going back to a shorter prefix costs nothing. Must not allocate after
 * kvcache_create.
 */
#include "runtime/model/kvcache.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model/carve.h"

#include <assert.h>

struct kvcache {
    struct dev *dev;
    char *block;
    int64_t width;
    int64_t half_bytes; /* the keys (or values) of one layer */
    enum dtype t;
};

int64_t kvcache_pages(int64_t tokens)
{
    return tokens / KVCACHE_PAGE + (tokens % KVCACHE_PAGE != 0);
}

int64_t kvcache_bytes(int64_t layers, int64_t pages, int64_t width, enum dtype t)
{
    int64_t blocks = carve_times(KVCACHE_PAGE, width / dtype_block(t));
    int64_t page = carve_times(blocks, dtype_block_bytes(t));
    return carve_times(carve_times(pages, page), 2 * layers);
}

int kvcache_create(struct dev *d, int64_t layers, int64_t pages, int64_t width, enum dtype t,
    struct kvcache **out, struct err *e)
{
    assert(width % dtype_block(t) == 0);
    int64_t total = kvcache_bytes(layers, pages, width, t);
    if (total == INT64_MAX)
        return err_set(
            e, ERR_MEMORY, "a cache of %lld pages of tokens is too large", (long long)pages);
    struct kvcache *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a cache");
    void *block;
    int rc = dev_reserve(d, (size_t)total, &block, e);
    if (rc) {
        mem_free(c);
        return rc;
    }
    *c = (struct kvcache){d, block, width, dtype_bytes(t, pages * KVCACHE_PAGE * width), t};
    *out = c;
    return 0;
}

void kvcache_destroy(struct kvcache *c)
{
    if (!c)
        return;
    dev_free(c->dev, c->block);
    mem_free(c);
}

static void *keys(const struct kvcache *c, int64_t layer)
{
    return c->block + 2 * layer * c->half_bytes;
}

static void *values(const struct kvcache *c, int64_t layer)
{
    return c->block + (2 * layer + 1) * c->half_bytes;
}

const void *kvcache_keys(const struct kvcache *c, int64_t layer)
{
    return keys(c, layer);
}

const void *kvcache_values(const struct kvcache *c, int64_t layer)
{
    return values(c, layer);
}

enum dtype kvcache_type(const struct kvcache *c)
{
    return c->t;
}

void kvcache_store(struct kvcache *c, int64_t layer, const struct kvcache_rows *rows, int64_t n,
    const float *k, const float *v)
{
    OP(c, kv_store, .n = n, .g = 1, .d = c->width, .k = k, .v = v, .k_cache = keys(c, layer),
        .v_cache = values(c, layer), .position = rows->position, .pages = rows->pages,
        .pages_ld = rows->ld, .page_tokens = KVCACHE_PAGE, .kv_type = c->t);
}
