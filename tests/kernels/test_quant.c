/*
 * Goal: GGUF blocks decode to what the gguf package decodes them to, and f16 and bf16 conversions
 * are exact. Method: golden blocks (tests/golden/make_quants.py) through quant_decode and through
 * the convert and quant_matmul operations of both kinds (a product with the identity gives the
 * weights back); all 65536 f16 and bf16 patterns back and forth. A row's products, and its
 * attention to a cache, have the same bits alone and among any number of others, by every
 * instruction set, which serving stands on.
 */
#include "kernels/quant.h"

#include "base/mem.h"
#include "base/random.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"
#include "kernels/quant_encode.h"
#include "tests/golden/quants.h"

#include <check.h>
#include <math.h>

static const struct golden {
    enum dtype t;
    const uint8_t *blocks;
    size_t bytes;
    const uint32_t *bits;
} golden[] = {
    {DTYPE_Q8_0, quants_q8_0, sizeof quants_q8_0, quants_q8_0_f32},
    {DTYPE_Q4_0, quants_q4_0, sizeof quants_q4_0, quants_q4_0_f32},
    {DTYPE_Q4_1, quants_q4_1, sizeof quants_q4_1, quants_q4_1_f32},
    {DTYPE_Q5_0, quants_q5_0, sizeof quants_q5_0, quants_q5_0_f32},
    {DTYPE_Q5_1, quants_q5_1, sizeof quants_q5_1, quants_q5_1_f32},
    {DTYPE_Q4_K, quants_q4_k, sizeof quants_q4_k, quants_q4_k_f32},
    {DTYPE_Q5_K, quants_q5_k, sizeof quants_q5_k, quants_q5_k_f32},
    {DTYPE_Q6_K, quants_q6_k, sizeof quants_q6_k, quants_q6_k_f32},
};
enum { GOLDEN = sizeof golden / sizeof *golden };

/* A fused multiply-add may round differently: one part in 2^22 of the largest value that the
 * block's scales allow. */
static void check_values(const struct golden *g, const float *got, const char *how)
{
    float want[QUANTS_ELEMENTS], largest = 0;
    memcpy(want, g->bits, sizeof want);
    for (int i = 0; i < QUANTS_ELEMENTS; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int i = 0; i < QUANTS_ELEMENTS; i++)
        ck_assert_msg(fabsf(got[i] - want[i]) <= largest * 0x1p-22f,
            "%s by %s, element %d: %g, not %g", dtype_name(g->t), how, i, got[i], want[i]);
}

START_TEST(test_golden_decode)
{
    const struct golden *g = &golden[_i];
    float got[QUANTS_ELEMENTS];
    ck_assert_int_eq(dtype_bytes(g->t, QUANTS_ELEMENTS), g->bytes);
    quant_decode(g->t, g->blocks, QUANTS_ELEMENTS, got);
    check_values(g, got, "quant_decode");
}
END_TEST

START_TEST(test_golden_operations)
{
    static const char *const kinds[] = {"cpu", "cpu-ref"};
    const struct golden *g = &golden[_i];
    for (size_t n = 0; n < 2; n++) {
        struct err e = {0};
        struct dev *d;
        float got[QUANTS_ELEMENTS], *x, *y;
        const int64_t k = 256;
        ck_assert_int_eq(dev_open(kinds[n], 0, 1, &d, &e), 0);
        dev_ops(d)->convert(d,
            &(struct op_convert){.count = QUANTS_ELEMENTS,
                .x = g->blocks,
                .x_type = g->t,
                .y = got,
                .y_type = DTYPE_F32});
        check_values(g, got, "convert");
        ck_assert_int_eq(dev_alloc(d, k * k * sizeof(float), (void **)&x, &e), 0);
        ck_assert_int_eq(dev_alloc(d, QUANTS_ELEMENTS * sizeof(float), (void **)&y, &e), 0);
        for (int i = 0; i < k; i++)
            x[i * k + i] = 1;
        for (int from = 0; from < k; from += 16) /* 16 rows: the decoding path */
            dev_ops(d)->quant_matmul(d,
                &(struct op_quant_matmul){.m = 16,
                    .n = QUANTS_ELEMENTS / k,
                    .k = k,
                    .x = x + from * k,
                    .w = g->blocks,
                    .w_type = g->t,
                    .y = y + from * QUANTS_ELEMENTS / k});
        ck_assert_int_eq(dev_sync(d, &e), 0);
        for (int i = 0; i < QUANTS_ELEMENTS; i++) /* y (k, n) is W transposed */
            got[i] = y[i % k * (QUANTS_ELEMENTS / k) + i / k];
        check_values(g, got, "quant_matmul");
        dev_free(d, x);
        dev_free(d, y);
        dev_close(d);
    }
}
END_TEST

#define ROWS 70 /* more than are multiplied with weights in registers, or with a tile at once */

/* Each row of x by itself, and the first `rows` of them at once: to the bit. */
static void same_rows(struct dev *d, struct op_quant_matmul a)
{
    static const int64_t rows[] = {2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 64, 65, ROWS};
    mem_autofree float *alone = mem_array((size_t)(ROWS * a.n), sizeof *alone);
    mem_autofree float *batch = mem_array((size_t)(ROWS * a.n), sizeof *batch);
    struct op_quant_matmul one = a;
    struct err e = {0};
    one.m = 1;
    for (int64_t i = 0; i < ROWS; i++) {
        one.x = a.x + i * a.k;
        one.y = alone + i * a.n;
        dev_ops(d)->quant_matmul(d, &one);
    }
    a.y = batch;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        memset(batch, 0xff, (size_t)(ROWS * a.n) * sizeof *batch);
        a.m = rows[r];
        dev_ops(d)->quant_matmul(d, &a);
        for (int64_t i = 0; i < a.m * a.n; i++)
            ck_assert_msg(!memcmp(&batch[i], &alone[i], sizeof *batch),
                "%s, %s: row %lld of %lld is %g, alone %g", cpu_isa_chosen()->name,
                dtype_name(a.w_type), (long long)(i / a.n), (long long)a.m, batch[i], alone[i]);
    }
    ck_assert_int_eq(dev_sync(d, &e), 0);
}

/* Row lengths with and without what vectors leave over. */
static void same_rows_of_all(struct dev *d, const float *x, const float *w32, const uint16_t *w16)
{
    for (int i = 0; i < 2 * GOLDEN; i++)
        same_rows(d,
            (struct op_quant_matmul){.n = QUANTS_ELEMENTS / 256,
                .k = 256,
                .x = x,
                .w = golden[i / 2].blocks,
                .w_type = golden[i / 2].t,
                .coarse = i % 2});
    for (int64_t k = 33; k <= 288; k += 85) {
        struct op_quant_matmul a = {.n = 5, .k = k, .x = x, .w = w32};
        same_rows(d, a);
        a.w = w16;
        a.w_type = DTYPE_BF16;
        same_rows(d, a);
        a.w_type = DTYPE_F16;
        same_rows(d, a);
    }
}

START_TEST(test_rows_do_not_depend_on_others)
{
    enum { K = 288 };
    mem_autofree float *x = mem_array(ROWS * K, sizeof *x), *w32 = mem_array(5 * K, sizeof *w32);
    mem_autofree uint16_t *w16 = mem_array(5 * K, sizeof *w16);
    struct err e = {0};
    struct dev *d;
    for (uint64_t i = 0; i < ROWS * K; i++)
        x[i] = (float)(random_mix(i) >> 40) * 0x1p-23f - 1;
    for (uint64_t i = 0; i < 5 * K; i++) {
        w32[i] = (float)(random_mix(~i) >> 40) * 0x1p-23f - 1;
        w16[i] = (uint16_t)(random_mix(~i) & 0xbbff); /* finite, of any sign */
    }
    ck_assert_int_eq(dev_open("cpu", 0, 2, &d, &e), 0);
    ck_assert(dev_rows_alike(d));
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        same_rows_of_all(d, x, w32, w16);
    }
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

/* Of several products of the same rows of x at once each has the bits that it has by itself. */
static void same_together(struct dev *d, const float *x, const int *of, int64_t m)
{
    enum { K = 256, N = QUANTS_ELEMENTS / K, MOST = 5 };
    struct op_quant_matmul op[MOST];
    float one[MOST][ROWS * N], all[MOST][ROWS * N];
    struct err e = {0};
    memset(all, 0xff, sizeof all);
    for (int i = MOST - 1; i >= 0; i--) {
        op[i] = (struct op_quant_matmul){.m = m,
            .n = N,
            .k = K,
            .x = x,
            .w = golden[of[i]].blocks,
            .w_type = golden[of[i]].t,
            .coarse = true,
            .y = one[i]};
        dev_ops(d)->quant_matmul(d, &op[i]);
        op[i].y = all[i];
    }
    for (int i = 0; i + 1 < MOST; i++)
        op[i].next = &op[i + 1];
    dev_ops(d)->quant_matmul(d, op);
    ck_assert_int_eq(dev_sync(d, &e), 0);
    for (int i = 0; i < MOST; i++)
        for (int64_t k = 0; k < m * N; k++)
            ck_assert_msg(!memcmp(&one[i][k], &all[i][k], sizeof **all),
                "%s: product %d of %s, %lld rows: %g, alone %g", cpu_isa_chosen()->name, i,
                dtype_name(op[i].w_type), (long long)m, all[i][k], one[i][k]);
}

START_TEST(test_products_together_are_those_alone)
{
    static const char *const kinds[] = {"cpu", "cpu-ref"};
    static const int of[][5] = {{0, 0, 0, 0, 0}, {1, 6, 6, 1, 0}, {6, 2, 3, 4, 5}};
    static const int64_t rows[] = {1, 2, 8, 9, ROWS};
    float x[ROWS * 256];
    struct err e = {0};
    for (uint64_t i = 0; i < ROWS * 256; i++)
        x[i] = (float)(random_mix(i) >> 40) * 0x1p-23f - 1;
    for (int kind = 0; kind < 2; kind++) {
        struct dev *d;
        ck_assert_int_eq(dev_open(kinds[kind], 0, 2, &d, &e), 0);
        for (int i = 0; cpu_isa_usable(i) && !(kind && i); i++) {
            cpu_isa_force(cpu_isa_usable(i));
            for (size_t k = 0; k < sizeof of / sizeof *of; k++)
                for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
                    same_together(d, x, of[k], rows[r]);
        }
        cpu_isa_force(NULL);
        dev_close(d);
    }
}
END_TEST

/* What blocks of integers are multiplied with are whole numbers, however a processor does it: every
   set of instructions has the same bits, and so have pods on unlike processors. On x86-64 the base
   alone has others: it rounds products before they are added. So does AVX2's where it is compiled
   for AddressSanitizer, as those for AVX-512 are not. */
static bool rounds_before(const char *name)
{
#if defined(__x86_64__) && defined(__SANITIZE_ADDRESS__)
    return !strcmp(name, "base") || !strcmp(name, "avx2");
#elif defined(__x86_64__)
    return !strcmp(name, "base");
#else
    (void)name;
    return false;
#endif
}

START_TEST(test_rows_do_not_depend_on_the_processor)
{
    enum { K = 256, M = 17, N = QUANTS_ELEMENTS / K };
    float x[M * K], all[2][M * N], one[2][N];
    struct err e = {0};
    struct dev *d;
    for (uint64_t i = 0; i < M * K; i++)
        x[i] = (float)(random_mix(i) >> 40) * 0x1p-23f - 1;
    ck_assert_int_eq(dev_open("cpu", 0, 2, &d, &e), 0);
    for (int g = 0; g < 2 * GOLDEN; g++)
        for (int i = 0; cpu_isa_usable(i); i++) {
            struct op_quant_matmul a = {.m = M,
                .n = N,
                .k = K,
                .x = x,
                .w = golden[g / 2].blocks,
                .w_type = golden[g / 2].t,
                .coarse = g % 2,
                .y = all[i > 0]};
            if (i && rounds_before(cpu_isa_usable(i)->name))
                continue;
            cpu_isa_force(cpu_isa_usable(i));
            dev_ops(d)->quant_matmul(d, &a);
            a.m = 1;
            a.y = one[i > 0];
            dev_ops(d)->quant_matmul(d, &a);
            ck_assert_msg(!memcmp(all[0], all[i > 0], sizeof *all) &&
                    !memcmp(one[0], one[i > 0], sizeof *one),
                "%s: other bits by %s than by %s", dtype_name(a.w_type), cpu_isa_usable(i)->name,
                cpu_isa_usable(0)->name);
        }
    ck_assert_int_eq(dev_sync(d, &e), 0);
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

/* A product with whole numbers that the blocks can hold is exact, however large or small what the
   others of a group are multiplied by; an infinity stays in its own row. */
static void check_extremes(struct dev *d, int64_t m, bool coarse)
{
    enum { K = 64, N = 11 };
    uint8_t w[N][K / 32][34] = {{{0}}};
    float x[5][K] = {{0}}, y[5][N];
    struct err e = {0};
    for (int j = 0; j < N; j++)
        for (int g = 0; g < K / 32; g++) {
            uint16_t one = f32_to_f16(1);
            memcpy(w[j][g], &one, 2);
            for (int l = 0; l < 32; l++)
                w[j][g][2 + l] = (uint8_t)(int8_t)(l == j ? -128 : 0);
        }
    for (int j = 0; j < N; j++) {
        x[0][j] = 0x1p100f;
        x[1][j] = 0x1p-100f;
        x[2][j] = 32767;
        x[2][32 + j] = -32767;
        x[3][j] = (float)(j - 5);
    }
    x[4][40] = INFINITY;
    dev_ops(d)->quant_matmul(d,
        &(struct op_quant_matmul){.m = m,
            .n = N,
            .k = K,
            .x = x[5 - m],
            .w = w,
            .w_type = DTYPE_Q8_0,
            .coarse = coarse,
            .y = y[5 - m]});
    ck_assert_int_eq(dev_sync(d, &e), 0);
    for (int64_t i = 5 - m; i < 4; i++)
        for (int j = 0; j < N; j++)
            ck_assert_msg(y[i][j] == -128 * (x[i][j] + x[i][32 + j]), "%s, row %d: %g for %g",
                cpu_isa_chosen()->name, (int)i, y[i][j], x[i][j]);
    for (int j = 0; j < N; j++)
        ck_assert(!isfinite(y[4][j]));
}

/* All weights and all of x as large as they can be, of either sign: sums of Q6_K's products are the
   largest there are. */
static void check_largest(struct dev *d, int64_t m, float each, bool coarse)
{
    enum { K = 256, N = 9 };
    uint8_t w[N][210] = {{0}};
    float x[5][K], y[5][N];
    struct err e = {0};
    uint16_t one = f32_to_f16(1);
    for (int j = 0; j < N; j++) {
        memset(w[j] + 192, 0x80, 16); /* scales of -128; weights of -32 */
        memcpy(w[j] + 208, &one, 2);
    }
    for (int i = 0; i < 5 * K; i++)
        x[i / K][i % K] = each;
    dev_ops(d)->quant_matmul(d,
        &(struct op_quant_matmul){.m = m,
            .n = N,
            .k = K,
            .x = x[0],
            .w = w,
            .w_type = DTYPE_Q6_K,
            .coarse = coarse,
            .y = y[0]});
    ck_assert_int_eq(dev_sync(d, &e), 0);
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < N; j++)
            ck_assert_msg(fabsf(y[i][j] / (each * 4096 * K) - 1) < (coarse ? 1e-4f : 1e-6f),
                "%s: %g for %g", cpu_isa_chosen()->name, y[i][j], each * 4096 * K);
}

START_TEST(test_extremes)
{
    struct err e = {0};
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        for (int64_t m = 1; m <= 5; m++)
            for (int coarse = 0; coarse < 2; coarse++) {
                check_extremes(d, m, coarse);
                check_largest(d, m, 1, coarse);
                check_largest(d, m, -1.999999f, coarse);
                check_largest(d, m, 1.999999f, coarse);
            }
    }
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

/* -- a cache of blocks -- */

/* What the kind stores of x (count): decoded to out. */
static void store_blocks(struct dev *d, const float *x, int64_t count, float *out)
{
    uint8_t k[8 * 34], v[8 * 34];
    const int32_t position = 0;
    struct err e = {0};
    ck_assert_int_le(count, 8 * 32);
    dev_ops(d)->kv_store(d,
        &(struct op_kv_store){.n = 1,
            .g = 1,
            .d = count,
            .k = x,
            .v = x,
            .k_cache = k,
            .v_cache = v,
            .position = &position,
            .kv_type = DTYPE_Q8_0});
    ck_assert_int_eq(dev_sync(d, &e), 0);
    ck_assert_mem_eq(k, v, (size_t)dtype_bytes(DTYPE_Q8_0, count));
    quant_decode(DTYPE_Q8_0, k, count, out);
}

/* Blocks of any size within half a step, and what f16 makes of the scale; ties to even. */
static void check_stored(struct dev *d, const char *name)
{
    float x[256], got[256], size = 3e-5f;
    for (int b = 0; b < 8; b++, size *= 20)
        for (int i = 0; i < 32; i++)
            x[32 * b + i] = i == b
                ? -size
                : size * ((float)(random_mix((uint64_t)(32 * b + i)) >> 40) * 0x1p-23f - 1);
    for (int i = 0; i < 32; i++) /* steps of 1: 0.5 is 0, 1.5 and 2.5 are 2 */
        x[i] = i ? (float)i - 0.5f : 127;
    store_blocks(d, x, 256, got);
    for (int i = 0; i < 256; i++) {
        float most = 0;
        for (int k = 0; k < 32; k++)
            most = fmaxf(most, fabsf(x[i / 32 * 32 + k]));
        ck_assert_msg(fabsf(got[i] - x[i]) <= most * (0.5f / 127 + 0x1p-11f) + 0x1p-25f * 127,
            "%s: number %d is %g, stored as %g", name, i, x[i], got[i]);
        if (i < 32)
            ck_assert_msg(got[i] == rintf(x[i]), "%s: %g became %g", name, x[i], got[i]);
    }
}

/* Zeros, what is too small for a scale, infinities and NaN, each beside a block that is well. */
static void check_strange(struct dev *d, const char *name)
{
    static const float strange[] = {0, 1e-30f, 1e-42f, INFINITY, -INFINITY, NAN, 3e38f};
    float x[64], got[64];
    for (int s = 0; s < 7; s++) {
        for (int i = 0; i < 64; i++)
            x[i] = i >= 32 ? 1 : i == 5 ? strange[s] : 0;
        store_blocks(d, x, 64, got);
        ck_assert_msg(
            s < 3 ? got[5] == 0 : !isfinite(got[5]), "%s: %g became %g", name, x[5], got[5]);
        for (int i = 0; i < 64; i++)
            ck_assert(i >= 32 ? fabsf(got[i] - 1) < 1e-3f : s > 2 || got[i] == 0);
    }
}

START_TEST(test_caches_of_blocks)
{
    struct err e = {0};
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu-ref", 0, 1, &d, &e), 0);
    check_stored(d, "the reference");
    check_strange(d, "the reference");
    dev_close(d);
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        check_stored(d, cpu_isa_usable(i)->name);
        check_strange(d, cpu_isa_usable(i)->name);
    }
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

/* -- queries of one sequence against its cache -- */
enum { QUERIES = 40, HEADS = 6, GROUPS = 2, PAGE = 16, PAGES = 10 };

/* Each row by itself, and all at once: to the bit. */
static void same_queries(struct dev *d, struct op_attention_decode a)
{
    int64_t width = a.h * a.d;
    mem_autofree float *alone = mem_array((size_t)(QUERIES * width), sizeof *alone);
    mem_autofree float *batch = mem_array((size_t)(QUERIES * width), sizeof *batch);
    struct err e = {0};
    a.o = batch;
    dev_ops(d)->attention_decode(d, &a);
    for (int64_t i = 0; i < QUERIES; i++) {
        struct op_attention_decode one = a;
        one.n = 1;
        one.q = a.q + i * width;
        one.length = a.length + i;
        one.pages = a.pages + i * a.pages_ld;
        one.o = alone + i * width;
        dev_ops(d)->attention_decode(d, &one);
    }
    ck_assert_int_eq(dev_sync(d, &e), 0);
    for (int64_t i = 0; i < QUERIES * width; i++)
        ck_assert_msg(!memcmp(&alone[i], &batch[i], sizeof *alone),
            "%s, head size %lld, window %lld: row %lld is %g, alone %g", cpu_isa_chosen()->name,
            (long long)a.d, (long long)a.window, (long long)(i / width), batch[i], alone[i]);
}

/* Two sequences: a chunk of one, which a page of its own ends, and single tokens of another. */
static void same_queries_of_all(struct dev *d, enum dtype t, int64_t dim, int64_t window)
{
    int64_t count = PAGES * PAGE * GROUPS * dim, width = HEADS * dim;
    mem_autofree float *x = mem_array((size_t)(QUERIES * width), sizeof *x);
    mem_autofree float *f32 = mem_array((size_t)(2 * count), sizeof *f32);
    mem_autofree uint16_t *f16 = mem_array((size_t)(2 * count), sizeof *f16);
    mem_autofree uint8_t *q8_0 = mem_array((size_t)(2 * count), 2);
    int32_t length[QUERIES], pages[QUERIES][PAGES];
    for (int64_t i = 0; i < QUERIES * width; i++)
        x[i] = (float)(random_mix((uint64_t)i) >> 40) * 0x1p-22f - 2;
    for (int64_t i = 0; i < 2 * count; i++) {
        f32[i] = (float)(random_mix(~(uint64_t)i) >> 40) * 0x1p-22f - 2;
        f16[i] = t == DTYPE_BF16 ? f32_to_bf16(f32[i]) : f32_to_f16(f32[i]);
    }
    for (int i = 0; i < QUERIES; i++) {
        length[i] = i < 35 ? 41 + i : 150 - 3 * (i - 35);
        for (int p = 0; p < PAGES; p++)
            pages[i][p] = i < 35 ? (p * 7 + 3) % PAGES : (p * 3 + i) % PAGES;
    }
    if (t == DTYPE_Q8_0)
        quant_encode(t, f32, 2 * count, NULL, q8_0);
    const void *cache = t == DTYPE_F32 ? (const void *)f32 : t == DTYPE_Q8_0 ? q8_0 : (void *)f16;
    same_queries(d,
        (struct op_attention_decode){.n = QUERIES,
            .h = HEADS,
            .g = GROUPS,
            .d = dim,
            .scale = 0.2f,
            .q = x,
            .k_cache = cache,
            .v_cache = (const char *)cache + dtype_bytes(t, count),
            .length = length,
            .window = window,
            .pages = pages[0],
            .pages_ld = PAGES,
            .page_tokens = PAGE,
            .kv_type = t});
}

START_TEST(test_queries_do_not_depend_on_others)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct err e = {0};
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu", 0, 2, &d, &e), 0);
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        for (int t = 0; t < 3; t++)
            for (int64_t window = 0; window <= 40; window += 40) {
                same_queries_of_all(d, types[t], 48, window);
                same_queries_of_all(d, types[t], 33, window);
            }
        same_queries_of_all(d, DTYPE_Q8_0, 64, 0);
        same_queries_of_all(d, DTYPE_Q8_0, 32, 40);
    }
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

START_TEST(test_half_round_trip)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (isnan(f))
            ck_assert(isnan(f16_to_f32(f32_to_f16(f))));
        else
            ck_assert_uint_eq(f32_to_f16(f), h);
        if (isnan(b))
            ck_assert(isnan(bf16_to_f32(f32_to_bf16(b))));
        else
            ck_assert_uint_eq(f32_to_bf16(b), h);
    }
}
END_TEST

START_TEST(test_half_rounding)
{
    static const struct {
        float in;
        uint16_t f16, bf16;
    } table[] = {{1, 0x3c00, 0x3f80}, {1 + 0x1p-11f, 0x3c00, 0x3f80}, /* a tie goes to even */
        {1 + 3 * 0x1p-11f, 0x3c02, 0x3f80}, {1 + 0x1p-11f + 0x1p-20f, 0x3c01, 0x3f80},
        {1 + 0x1p-8f, 0x3c04, 0x3f80}, {1 + 3 * 0x1p-8f, 0x3c0c, 0x3f82}, {65504, 0x7bff, 0x4780},
        {65519.996f, 0x7bff, 0x4780}, {65520, 0x7c00, 0x4780}, {-1e30f, 0xfc00, 0xf14a},
        {0x1p-24f, 0x0001, 0x3380}, {0x1p-25f, 0x0000, 0x3300}, {3 * 0x1p-25f, 0x0002, 0x33c0},
        {-0x1p-14f, 0x8400, 0xb880}, {-0.0f, 0x8000, 0x8000}, {INFINITY, 0x7c00, 0x7f80}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(f32_to_f16(table[i].in) == table[i].f16, "f16 of %g: %04x", table[i].in,
            f32_to_f16(table[i].in));
        ck_assert_msg(f32_to_bf16(table[i].in) == table[i].bf16, "bf16 of %g: %04x", table[i].in,
            f32_to_bf16(table[i].in));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant");
    TCase *t = tcase_create("quant");
    tcase_add_loop_test(t, test_golden_decode, 0, GOLDEN);
    tcase_add_loop_test(t, test_golden_operations, 0, GOLDEN);
    tcase_add_test(t, test_rows_do_not_depend_on_others);
    tcase_add_test(t, test_products_together_are_those_alone);
    tcase_add_test(t, test_rows_do_not_depend_on_the_processor);
    tcase_add_test(t, test_extremes);
    tcase_add_test(t, test_caches_of_blocks);
    tcase_add_test(t, test_queries_do_not_depend_on_others);
    tcase_add_test(t, test_half_round_trip);
    tcase_add_test(t, test_half_rounding);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
