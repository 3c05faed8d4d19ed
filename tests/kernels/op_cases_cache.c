/*
 * op_cases_cache: see op_cases.h: what writes and reads a cache of keys and values.
 */
#include "tests/kernels/op_cases.h"

/* Pages of n sequences of `each` pages, last page first; one more entry a sequence must not be
   read. */
static int32_t *cache_pages(struct parity_run *r, int64_t n, int64_t each)
{
    int32_t *pages = parity_ids(r, n * (each + 1), 1);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= each; j++) {
            int32_t page = j < each ? (int32_t)(n * (each - j) - 1 - i) : -1000000;
            dev_upload(r->d, pages + i * (each + 1) + j, &page, sizeof page);
        }
    return pages;
}

static int64_t decode_pages(struct parity_run *r, struct op_attention_decode *a, int64_t capacity)
{
    int64_t each = (capacity + a->page_tokens - 1) / a->page_tokens;
    a->pages = cache_pages(r, a->n, each);
    a->pages_ld = each + 1;
    return a->n * each * a->page_tokens * a->g * a->d;
}

/* A cache that holds something. */
static void *cache_input(struct parity_run *r, int64_t count, float range)
{
    return dtype_block(r->t) > 1 ? parity_blocks(r, count, r->t)
                                 : parity_input(r, count, r->t, range);
}

/* Blocks to the bit. */
static void cache_output(struct parity_run *r, const void *cache, int64_t count)
{
    bool blocks = dtype_block(r->t) > 1;
    parity_output(
        r, cache, blocks ? dtype_bytes(r->t, count) : count, blocks ? DTYPE_U8 : r->t, 1e-30);
}

/* shape: n, capacity, g, d, tokens a page or 0, 1: the tokens of one sequence, from the end. What
   is not written stays. */
void op_case_kv_store(struct parity_run *r, const int64_t *s)
{
    if (s[3] % dtype_block(r->t))
        return;
    struct op_kv_store a = {.n = s[0], .g = s[2], .d = s[3], .page_tokens = s[4], .kv_type = r->t};
    int64_t width = a.g * a.d, sequences = s[5] ? 1 : a.n, each = s[1];
    if (s[4]) {
        each = (s[1] + s[4] - 1) / s[4];
        a.pages = cache_pages(r, sequences, each);
        a.pages_ld = s[5] ? 0 : each + 1;
        each *= s[4];
    } else {
        a.sequence_stride = s[5] ? 0 : s[1] * width;
    }
    int32_t *position = parity_ids(r, a.n, (int32_t)s[1]);
    for (int64_t i = 0; s[5] && i < a.n; i++) {
        int32_t at = (int32_t)(s[1] - 1 - i);
        dev_upload(r->d, position + i, &at, sizeof at);
    }
    a.position = position;
    a.k = parity_input(r, a.n * width, DTYPE_F32, 2);
    a.v = parity_input(r, a.n * width, DTYPE_F32, 2);
    a.k_cache = cache_input(r, sequences * each * width, 1);
    a.v_cache = cache_input(r, sequences * each * width, 1);
    r->ops->kv_store(r->d, &a);
    cache_output(r, a.k_cache, sequences * each * width);
    cache_output(r, a.v_cache, sequences * each * width);
}

/* shape: n, capacity, h, g, d, tokens a page or 0, window or 0 */
void op_case_attention_decode(struct parity_run *r, const int64_t *s)
{
    struct op_attention_decode a = {
        .n = s[0], .h = s[2], .g = s[3], .d = s[4], .page_tokens = s[5], .kv_type = r->t};
    a.window = s[6];
    int32_t length[8];
    int64_t cache;
    if (a.d % dtype_block(r->t))
        return;
    a.scale = 0.2f;
    if (s[5]) {
        cache = decode_pages(r, &a, s[1]);
    } else {
        a.sequence_stride = s[1] * a.g * a.d + (dtype_block(r->t) > 1 ? 32 : 8);
        cache = (a.n - 1) * a.sequence_stride + s[1] * a.g * a.d;
    }
    a.q = parity_input(r, a.n * a.h * a.d, DTYPE_F32, 2);
    a.k_cache = cache_input(r, cache, 2);
    a.v_cache = cache_input(r, cache, 1);
    for (int64_t i = 0; i < a.n; i++)
        length[i] = (int32_t)(s[1] - i * (s[1] / 8));
    int32_t *on_device = parity_ids(r, a.n, 1);
    dev_upload(r->d, on_device, length, (size_t)a.n * sizeof *length);
    a.length = on_device;
    a.o = parity_space(r, a.n * a.h * a.d, DTYPE_F32);
    r->ops->attention_decode(r->d, &a);
    parity_output(r, a.o, a.n * a.h * a.d, DTYPE_F32, 1e-5);
}
