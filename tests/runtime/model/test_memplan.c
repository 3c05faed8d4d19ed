/*
 * Goal: the plan is what is allocated, and absurd sizes are refused with a figure, never wrapped.
 * Method: models of many shapes are created (a plan that is too small stops model_create by
 * assertion) and compared with their plan; extreme configurations; saturating arithmetic.
 */
#include "runtime/model/memplan.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

START_TEST(models_fit_their_plan)
{
    static const char *const targets[] = {"q_proj", "down_proj", NULL};
    struct dev *d;

    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    for (int i = 0; i < 3 * 128; i++) {
        struct model_conf c = {.config = i & 64 ? tiny_gpt2() : tiny_config(i & 1),
            .t = i & 2 ? DTYPE_BF16 : DTYPE_F32,
            .train = i & 4,
            .recompute = i / 128,
            .lora_rank = i & 8 ? 3 : 0,
            .lora_alpha = 3,
            .lora_dropout = i & 128 ? 0.1f : 0,
            .lora_targets = targets,
            .micro_sequences = i & 16 ? 5 : 1,
            .sequence_length = i & 32 ? 7 : 1,
            .kv_capacity = 9};
        struct memplan p;
        struct model *m;

        ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
        ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
        ck_assert_int_eq(model_memory_bytes(m), p.total);
        if (c.train)
            ck_assert_int_eq(p.master, model_trainable(m) * 4);
        model_destroy(m);
    }
    dev_close(d);
}
END_TEST

START_TEST(figures_of_smollm2)
{
    struct model_conf c = {.config = shape_of("smollm2-135m"),
        .t = DTYPE_BF16,
        .train = true,
        .micro_sequences = 4,
        .sequence_length = 512};
    struct memplan p, less;

    ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
    ck_assert_int_ge(p.master, 134515008LL * 4);
    ck_assert_int_lt(p.master, 134515008LL * 4 + 65536);
    ck_assert_int_eq(p.copy, p.master / 2);
    ck_assert_int_eq(p.optimizer, 2 * p.master);
    ck_assert_int_eq(p.weights, 0);
    ck_assert_int_gt(p.saved, 2048LL * 30 * 5760 * 2); /* numbers a token and layer, BF16 */
    ck_assert_int_lt(p.saved, 2048LL * 30 * 5900 * 2);
    /* Selective drops gate and up, Full also the residual between, qkv, attention's output and
     * what norms and softmax leave; one layer's stand in the scratch */
    c.recompute = RECOMPUTE_SELECTIVE;
    ck_assert(!memplan_model(&c, NULL, &less, &e));
    ck_assert_int_eq(p.saved - less.saved, 2048LL * 30 * 3072 * 2);
    ck_assert_int_eq(less.scratch - p.scratch, 2048LL * 3072 * 2);
    c.recompute = RECOMPUTE_FULL;
    ck_assert(!memplan_model(&c, NULL, &less, &e));
    ck_assert_int_eq(p.saved - less.saved, 2048LL * 30 * ((5760 - 576) * 2 + (2 + 9) * 4));
    ck_assert_int_eq(less.scratch - p.scratch, 2048LL * ((5760 - 576) * 2 + (2 + 9) * 4));
    ck_assert_int_eq(memplan_require(&p, p.total, &e), 0);
    ck_assert_int_eq(memplan_require(&p, p.total - 1, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "MiB"));
}
END_TEST

/* GPT-2 124M as it is trained on one large device: 64 sequences of 1,024 tokens in BF16. */
START_TEST(figures_of_gpt2)
{
    struct model_conf c = {.config = shape_of("gpt2-124m"),
        .t = DTYPE_BF16,
        .train = true,
        .micro_sequences = 64,
        .sequence_length = 1024,
        .logit_rows = 8192};
    int64_t n = 65536, kept = 2 * 768 + 3 * 768 + 768 + 2 * 3072;
    struct memplan p;

    c.config.vocab = 50257;
    ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
    ck_assert_int_ge(p.master, 124439808LL * 4);
    ck_assert_int_lt(p.master, 124439808LL * 4 + 65536);
    /* and of every row in F32: two numbers of two norms, a log-sum-exp of 12 heads */
    ck_assert_int_gt(p.saved, n * 12 * (kept * 2 + 16 * 4));
    ck_assert_int_lt(p.saved, n * (12 * (kept * 2 + 16 * 4) + 768 * 2 + 2 * 4) + 65536);
    /* 50,257 columns are padded to 50,304; F32, and the gradient in BF16 */
    ck_assert_int_eq(p.logits, 8192LL * 50304 * 6 + 2 * 64);
    printf("GPT-2 124M, 64 x 1024 in BF16: %lld MiB\n", (long long)(p.total >> 20));
    ck_assert_int_lt(p.total, 24LL << 30);
}
END_TEST

START_TEST(absurd_sizes_saturate)
{
    struct model_conf c = {.config = tiny_config(true), .train = true};
    struct memplan p;

    ck_assert_int_eq(memplan_times(1LL << 62, 4), INT64_MAX);
    ck_assert_int_eq(memplan_plus(INT64_MAX, 1), INT64_MAX);
    ck_assert_int_eq(memplan_times(3, 4), 12);
    c.micro_sequences = 1LL << 40;
    c.sequence_length = 1LL << 40;
    ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.total, INT64_MAX);
    ck_assert_int_eq(memplan_require(&p, 1LL << 50, &e), -ERR_MEMORY);
    c.config.vocab = INT64_MAX / 4;
    ck_assert_int_lt(memplan_model(&c, NULL, &p, &e), 0);
}
END_TEST

UNIT_MAIN(
    "memplan", models_fit_their_plan, figures_of_smollm2, figures_of_gpt2, absurd_sizes_saturate)
