/*
 * Goal: each tensor gets the type that llama.cpp gives it. Method: the types of SmolLM2-135M's and
 * of a wider model's tensors, role by role and layer by layer, beside what llama-quantize gives
 * such models: which layers get more bits, and what rows get that are no whole blocks.
 */
#include "runtime/family/mix.h"

#include "tests/runtime/shapes.h"
#include "tests/unit.h"

static struct model_config config;
static struct tensors all;

static void open_shape(int64_t dim, int64_t ffn, int64_t layers, bool tied)
{
    struct err e = {0};
    config = shape_of("tiny-llama");
    config.dim = dim;
    config.ffn_dim = ffn;
    config.layers = layers;
    config.tied_embeddings = tied;
    config.heads = config.kv_heads = dim / 64;
    config.head_dim = 64;
    ck_assert_msg(!tensors_create(&config, &all, &e), "%s", e.text);
}

static enum dtype type_of(enum quantize q, enum tensor_role role, int layer)
{
    const struct tensor *t = tensors_get(&all, role, TENSOR_WEIGHT, layer, -1);
    ck_assert_ptr_nonnull(t);
    return mix_type(&config, q, t, false, DTYPE_BF16);
}

START_TEST(a_wide_model_gets_super_blocks)
{
    /* of 32 layers the first four, the last four, and every third between them */
    static const int more[] = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
    int n = 0;
    open_shape(4096, 11008, 32, false);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_HEAD, -1), DTYPE_Q6_K);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_EMBED, -1), DTYPE_Q4_K);
    for (int l = 0; l < 32; l++) {
        bool listed = n < 16 && more[n] == l;
        n += listed;
        enum dtype want = listed ? DTYPE_Q6_K : DTYPE_Q4_K;
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_V, l), want);
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_DOWN, l), want);
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_Q, l), DTYPE_Q4_K);
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_O, l), DTYPE_Q4_K);
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_UP, l), DTYPE_Q4_K);
        ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_NORM_FFN, l), DTYPE_F32);
    }
    ck_assert_int_eq(n, 16);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_0, TENSOR_HEAD, -1), DTYPE_Q6_K);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_0, TENSOR_EMBED, -1), DTYPE_Q4_0);
    ck_assert_int_eq(type_of(QUANTIZE_Q8_0, TENSOR_HEAD, -1), DTYPE_Q8_0);
    tensors_done(&all);
}
END_TEST

/* SmolLM2's rows of 576 numbers are no super-blocks, those of 1536 are. */
START_TEST(rows_that_are_no_blocks_get_the_next_format)
{
    open_shape(576, 1536, 30, true);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_EMBED, -1), DTYPE_Q8_0); /* the head, too */
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_V, 0), DTYPE_Q8_0);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_V, 3), DTYPE_Q5_1);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_Q, 0), DTYPE_Q5_1);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_UP, 0), DTYPE_Q5_1);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_DOWN, 0), DTYPE_Q6_K);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_DOWN, 3), DTYPE_Q4_K);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_0, TENSOR_EMBED, -1), DTYPE_Q8_0);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_0, TENSOR_Q, 0), DTYPE_Q4_0);
    ck_assert_int_eq(type_of(QUANTIZE_NONE, TENSOR_Q, 0), DTYPE_BF16);
    ck_assert_int_eq(type_of(QUANTIZE_NONE, TENSOR_NORM_FINAL, -1), DTYPE_F32);
    ck_assert_int_eq(type_of(QUANTIZE_F16, TENSOR_Q, 0), DTYPE_F16);
    tensors_done(&all);
    open_shape(64, 72, 1, true);
    ck_assert_int_eq(type_of(QUANTIZE_Q8_0, TENSOR_DOWN, 0), DTYPE_F16);
    ck_assert_int_eq(type_of(QUANTIZE_Q4_K_M, TENSOR_DOWN, 0), DTYPE_F16);
    tensors_done(&all);
}
END_TEST

START_TEST(experts_are_feed_forwards_and_routers_are_not_rounded)
{
    struct err e = {0};
    config = shape_of("small-qwen3-moe");
    config.dim = config.expert_ffn_dim = 256;
    ck_assert_msg(!tensors_create(&config, &all, &e), "%s", e.text);
    const struct tensor *down = tensors_get(&all, TENSOR_EXPERT_DOWN, TENSOR_WEIGHT, 1, 2);
    const struct tensor *up = tensors_get(&all, TENSOR_EXPERT_UP, TENSOR_WEIGHT, 1, 2);
    ck_assert_int_eq(mix_type(&config, QUANTIZE_Q4_K_M, down, false, DTYPE_F32), DTYPE_Q6_K);
    ck_assert_int_eq(mix_type(&config, QUANTIZE_Q4_K_M, up, false, DTYPE_F32), DTYPE_Q4_K);
    ck_assert_int_eq(type_of(QUANTIZE_Q8_0, TENSOR_ROUTER, 1), DTYPE_F32);
    ck_assert_int_eq(type_of(QUANTIZE_NONE, TENSOR_ROUTER, 1), DTYPE_F32);
    tensors_done(&all);
}
END_TEST

UNIT_MAIN("mix", a_wide_model_gets_super_blocks, rows_that_are_no_blocks_get_the_next_format,
    experts_are_feed_forwards_and_routers_are_not_rounded)
