/*
 * Goal: keys and values stand where attention reads them: by layer, page and token, in the cache's
 * type. Method: tokens of two sequences stored in pieces, and read back from their pages; F32
 * exactly, BF16 rounded, Q8_0 within half a step of its block. Its size is what is planned.
 */
#include "runtime/model/kvcache.h"

#include "kernels/quant.h"
#include "tests/unit.h"

#include <math.h>

#define LAYERS   3
#define CAPACITY 40 /* tokens of a sequence: the last of its pages is not full */
#define PAGES    6
#define WIDTH    64

static struct err e;

static float value(int64_t layer, int64_t token, int64_t i, int which)
{
    return (float)(layer * 100000 + token * 128 + i) + (which ? 0.5f : 0.25f);
}

static const int32_t pages[2][3] = {{4, 0, 3}, {1, 5, 2}};

/* n tokens of a sequence behind `past`; of both at once where n is 1. */
static void store(struct kvcache *c, int64_t layer, int64_t past, int64_t n)
{
    float k[CAPACITY * WIDTH], v[CAPACITY * WIDTH];
    int32_t position[CAPACITY];
    for (int which = 0; which < (n == 1 ? 1 : 2); which++) {
        int64_t rows = n == 1 ? 2 : n;
        struct kvcache_rows at = {position, pages[which], n == 1 ? 3 : 0};
        for (int64_t i = 0; i < rows; i++) {
            int64_t sequence = n == 1 ? i : which, token = past + (n == 1 ? 0 : i);
            position[i] = (int32_t)token;
            for (int64_t x = 0; x < WIDTH; x++) {
                k[i * WIDTH + x] = value(layer, token + 100 * sequence, x, 0);
                v[i * WIDTH + x] = value(layer, token + 100 * sequence, x, 1);
            }
        }
        kvcache_store(c, layer, &at, rows, k, v);
    }
}

static void check_element(const void *at, enum dtype t, int64_t i, float want)
{
    if (t == DTYPE_F32) {
        ck_assert(((const float *)at)[i] == want);
    } else if (t == DTYPE_Q8_0) {
        float block[32];
        quant_decode(t, (const char *)at + dtype_bytes(t, i / 32 * 32), 32, block);
        ck_assert_float_eq_tol(block[i % 32], want, (want + 32) * (0.5f / 127 + 0x1p-11f));
    } else {
        ck_assert_uint_eq(((const uint16_t *)at)[i], f32_to_bf16(want));
    }
}

static void check(enum dtype t)
{
    struct kvcache *c;
    struct dev *d;

    ck_assert_int_eq(kvcache_pages(CAPACITY), 3);
    ck_assert_int_eq(kvcache_pages(3 * KVCACHE_PAGE), 3);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!kvcache_create(d, LAYERS, PAGES, WIDTH, t, &c, &e), "%s", e.text);
    ck_assert_int_eq(kvcache_type(c), t);
    for (int64_t layer = 0; layer < LAYERS; layer++)
        for (int64_t past = 0, n; past < CAPACITY; past += n) {
            n = past < 18 ? 9 : 1;
            store(c, layer, past, n);
        }
    for (int64_t i = 0; i < LAYERS * 2 * CAPACITY * WIDTH; i++) {
        int64_t layer = i / (2 * CAPACITY * WIDTH), sequence = i / (CAPACITY * WIDTH) % 2;
        int64_t token = i / WIDTH % CAPACITY, x = i % WIDTH;
        int64_t page = pages[sequence][token / KVCACHE_PAGE];
        int64_t at = (page * KVCACHE_PAGE + token % KVCACHE_PAGE) * WIDTH + x;
        token += 100 * sequence;
        check_element(kvcache_keys(c, layer), t, at, value(layer, token, x, 0));
        check_element(kvcache_values(c, layer), t, at, value(layer, token, x, 1));
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

START_TEST(q8_0_is_within_half_a_step)
{
    check(DTYPE_Q8_0);
}
END_TEST

START_TEST(a_page_of_blocks_takes_little_more_than_a_byte_a_number)
{
    int64_t numbers = 2 * LAYERS * PAGES * KVCACHE_PAGE * WIDTH;
    ck_assert_int_eq(kvcache_bytes(LAYERS, PAGES, WIDTH, DTYPE_F32), 4 * numbers);
    ck_assert_int_eq(kvcache_bytes(LAYERS, PAGES, WIDTH, DTYPE_BF16), 2 * numbers);
    ck_assert_int_eq(kvcache_bytes(LAYERS, PAGES, WIDTH, DTYPE_Q8_0), numbers * 34 / 32);
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

UNIT_MAIN("kvcache", f32_is_exact, bf16_is_rounded, q8_0_is_within_half_a_step,
    a_page_of_blocks_takes_little_more_than_a_byte_a_number, absurd_sizes_are_refused)
