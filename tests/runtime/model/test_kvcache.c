/*
 * Goal: keys and values stand where attention reads them: by layer, token by token, in the cache's
 * type. Method: tokens stored in pieces, over one another, and read back; F32 exactly, BF16
 * rounded.
 */
#include "runtime/model/kvcache.h"

#include "tests/unit.h"

#define LAYERS   3
#define CAPACITY 10
#define WIDTH    12

static struct err e;

static float value(int64_t layer, int64_t token, int64_t i, int which)
{
    return (float)(layer * 1000 + token * 50 + i) + (which ? 0.5f : 0.25f);
}

static void check(enum dtype t)
{
    float k[CAPACITY * WIDTH], v[CAPACITY * WIDTH];
    int32_t position[CAPACITY];
    struct kvcache *c;
    struct dev *d;

    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!kvcache_create(d, LAYERS, CAPACITY, WIDTH, t, &c, &e), "%s", e.text);
    ck_assert_int_eq(kvcache_type(c), t);
    for (int64_t layer = 0; layer < LAYERS; layer++)
        for (int64_t past = 0, n; past < CAPACITY; past += n) {
            n = past < 4 ? 4 : 1;
            for (int64_t i = 0; i < n * WIDTH; i++) {
                k[i] = value(layer, past + i / WIDTH, i % WIDTH, 0);
                v[i] = value(layer, past + i / WIDTH, i % WIDTH, 1);
            }
            for (int64_t i = 0; i < n; i++)
                position[i] = (int32_t)(past + i);
            kvcache_store(c, layer, position, n, k, v);
        }
    for (int64_t layer = 0; layer < LAYERS; layer++)
        for (int64_t i = 0; i < CAPACITY * WIDTH; i++)
            for (int which = 0; which < 2; which++) {
                const void *at = which ? kvcache_values(c, layer) : kvcache_keys(c, layer);
                float want = value(layer, i / WIDTH, i % WIDTH, which);

                if (t == DTYPE_F32)
                    ck_assert(((const float *)at)[i] == want);
                else
                    ck_assert_uint_eq(((const uint16_t *)at)[i], f32_to_bf16(want));
            }
    ck_assert(!dev_sync(d, &e));
    kvcache_destroy(c);
    dev_close(d);
}

START_TEST(f32_is_exact)
{
    check(DTYPE_F32);
}
END_TEST

START_TEST(bf16_is_rounded)
{
    check(DTYPE_BF16);
}
END_TEST

START_TEST(absurd_sizes_are_refused)
{
    struct kvcache *c = NULL;
    struct dev *d;

    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_int_eq(kvcache_create(d, 100, 1LL << 50, 1 << 20, DTYPE_F32, &c, &e), -ERR_MEMORY);
    ck_assert_ptr_null(c);
    kvcache_destroy(NULL);
    dev_close(d);
}
END_TEST

UNIT_MAIN("kvcache", f32_is_exact, bf16_is_rounded, absurd_sizes_are_refused)
