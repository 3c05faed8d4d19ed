/*
 * Goal: the plan is what is allocated, to the byte, and absurd sizes are refused with a figure,
 * never wrapped. Method: a device that counts what it is asked for: models of every combination of
 * family, type, adapters or nothing that is trained, and recomputation, and random shapes (the seed
 * is printed), are created with their pass and optimizer, or loaded with their engine, and compared
 * with their plan; shapes whose figures are known by hand; sizes that no machine has.
 * needs: sample
 */
#include "runtime/model/memplan.h"

#include "base/clock.h"
#include "base/random.h"
#include "kernels/driver.h"
#include "runtime/model/engine.h"
#include "runtime/train/optim.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

/* -- a device that counts -- */

static const struct driver *inner;
static int64_t asked;

static int count_alloc(struct dev *d, size_t bytes, void **out, struct err *err)
{
    asked += (int64_t)bytes;
    return inner->alloc(d, bytes, out, err);
}

static struct dev *open_counting(void)
{
    static struct driver counting;
    struct dev *d;
    ck_assert_msg(!dev_open("cpu", 0, 1, &d, &e), "%s", e.text);
    inner = d->driver;
    counting = *inner;
    counting.alloc = count_alloc;
    counting.reserve = NULL; /* as alloc */
    d->driver = &counting;
    return d;
}

/* -- what is asked for -- */

/* The optimizer's sums of squares, one number a step and one more, are in no plan. */
static void check_training(struct dev *d, const struct model_conf *c, const struct optim_conf *oc)
{
    struct memplan p;
    struct optim *o;
    ck_assert_msg(!memplan_model(c, NULL, &p, &e), "%s", e.text);
    asked = 0;
    struct pass *pass = tiny_pass(d, c);
    ck_assert_msg(!optim_create(d, oc, pass, &o, &e), "%s", e.text);
    ck_assert_int_eq(asked - (PASS_AHEAD + 1) * (int64_t)sizeof(float), p.total);
    ck_assert_int_eq(model_memory_bytes(pass_model(pass)), p.total);
    int64_t first, count;
    model_here(pass_model(pass), &first, &count);
    ck_assert_int_eq(p.master, count * 4);
    ck_assert_int_eq(p.cache, 0);
    optim_destroy(o);
    tiny_pass_close(pass);
}

static void check_serving(struct dev *d, struct weights *w, const struct model_conf *c)
{
    struct memplan p;
    struct model *m;
    struct engine *engine;
    ck_assert_msg(!memplan_model(c, w, &p, &e), "%s", e.text);
    asked = 0;
    ck_assert_msg(!model_create(d, c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(m, &engine, &e), "%s", e.text);
    ck_assert_int_eq(asked, p.total);
    ck_assert_int_eq(model_memory_bytes(m), p.total);
    ck_assert_int_eq(p.master + p.copy + p.gradient + p.optimizer + p.saved, 0);
    engine_destroy(engine);
    model_destroy(m);
}

static const char *const targets[] = {"q_proj", "down_proj", NULL};
static const char *const of_attention[] = {"q_proj", "o_proj", NULL};

static struct model_conf training(struct model_config config, int variant)
{
    return (struct model_conf){.config = config,
        .t = !(variant & 1) ? DTYPE_F32
            : variant & 8   ? DTYPE_F16
                            : DTYPE_BF16,
        .train = true,
        .recompute = variant / 16 % 3,
        .lora_rank = variant & 2 ? 3 : 0,
        .lora_alpha = 3,
        .dropout = variant & 8 ? (struct model_dropout){0.1f, 0.1f, 0.1f, 0.1f}
                               : (struct model_dropout){.embed = 0},
        .lora_dropout = variant & 4 ? 0.1f : 0,
        .lora_adaptive = variant & 4,
        .lora_dora = !(variant & 4) && config.activation == ACTIVATION_SWIGLU,
        .lora_targets = config.experts ? of_attention : targets,
        .micro_sequences = variant & 8 ? 5 : 1,
        .sequence_length = variant & 8 ? 7 : 1};
}

START_TEST(training_takes_its_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 48; i++) {
        const struct model_config configs[] = {tiny_config(true), tiny_config(false), tiny_gpt2(),
            tiny_bert(), tiny_texts(), shape_of("tiny-qwen3"), shape_of("tiny-mistral"),
            shape_of("tiny-qwen3-moe"), shape_of("tiny-masked"), shape_of("tiny-several"),
            shape_of("tiny-last")};
        for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
            struct model_conf c = training(configs[k], i);
            const struct model_config teacher = tiny_config(false);
            struct optim_conf oc = {.steps = 1, .name = (enum optimizer_name)((i + k) % 5)};
            oc.momentum = i % 3 ? 0.9 : 0;
            oc.adalora.rank = c.lora_adaptive ? c.lora_rank : 0;
            c.optimizer_fn = oc.name == OPTIMIZER_ADAMW && !oc.adalora.rank ? NULL : optim_bytes;
            c.optimizer = &oc;
            c.teacher = k < 3 && i % 3 == 0 ? &teacher : NULL;
            check_training(d, &c, &oc);
            c.frozen = !c.lora_rank;
            check_training(d, &c, &oc);
            if (c.config.experts || oc.adalora.rank || (i + (int)k) % 3)
                continue;
            c.lora_rank = 0;
            c.frozen = false;
            c.adapter_size = 3;
            c.adapter_kind = (enum adapter_kind)(k % 2);
            c.adapter_activation = (enum adapter_activation)(i % 3);
            check_training(d, &c, &oc);
        }
    }
    dev_close(d);
}
END_TEST

/* Of a rank that has chunks of sequences. */
START_TEST(chunks_take_their_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 12; i++) {
        const struct model_config configs[] = {
            tiny_config(false), tiny_gpt2(), shape_of("tiny-qwen3"), shape_of("tiny-qwen3-moe")};
        struct model_conf c = training(configs[i % 4], i * 4 & ~12);
        struct optim_conf oc = {.steps = 1, .name = OPTIMIZER_ADAMW};
        c.lora_dora = false;
        c.micro_sequences = 3;
        c.sequence_length = 12;
        c.contexts = 2 + i % 2;
        c.context_rank = i % 2;
        check_training(d, &c, &oc);
    }
    dev_close(d);
}
END_TEST

/* Of a rank that has a share of a mixture: columns, layers, experts and chunks of sequences. */
START_TEST(shares_of_mixtures_take_their_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 16; i++) {
        const struct model_cut cut = {
            1 + i % 2, i % 2, 1 + i / 2 % 2, i / 2 % 2, 1 + i / 4 % 2, i / 4 % 2, NULL, 1};
        struct model_config whole = shape_of(i % 3 ? "tiny-qwen3-moe" : "tiny-mixtral");
        struct model_conf c = training(whole, i * 5 % 16 & ~4);
        struct optim_conf oc = {.steps = 1, .name = OPTIMIZER_ADAMW};
        c.lora_dora = false;
        memset(&c.dropout, 0, sizeof c.dropout);
        c.micro_sequences = 3;
        c.sequence_length = 12;
        c.contexts = 1 + i / 8;
        c.context_rank = i / 8;
        c.stages = cut.pipeline_size;
        c.stage = cut.pipeline;
        c.in_flight[0] = c.stages - c.stage;
        ck_assert_msg(!model_config_share(&whole, &cut, &c.config, &e), "%s", e.text);
        check_training(d, &c, &oc);
    }
    dev_close(d);
}
END_TEST

/* Blocks are as long as they are, and what decodes them stands in the scratch. */
START_TEST(a_quantized_base_takes_its_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 4; i++) {
        const struct model_config configs[] = {
            shape_of("small-llama"), shape_of("small-gpt2"), shape_of("small-masked"), tiny_gpt2()};
        for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
            struct model_conf c = training(configs[k], i & 1 ? 47 - i : i | 2);
            struct optim_conf oc = {.steps = 1, .name = OPTIMIZER_ADAMW};
            c.lora_rank = 3;
            c.quantize = (enum quantize)(QUANTIZE_Q8_0 + i % 3);
            c.config.vocab = i + (int)k ? 320 : 5000;
            c.config.layers = 1;
            if (k == 3)
                c.config.ffn_dim = 64;
            check_training(d, &c, &oc);
        }
    }
    dev_close(d);
}
END_TEST

START_TEST(states_of_fewer_bits_take_their_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 24; i++) {
        static const enum optimizer_name names[] = {
            OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZER_LION, OPTIMIZER_MUON};
        struct model_conf c = training(tiny_wide(), i < 12 ? 0 : 3);
        struct optim_conf oc = {.steps = 1, .momentum = 0.9, .name = names[i % 4]};
        oc.state = (enum optimizer_state)(i / 4 % 3);
        c.optimizer_fn = optim_bytes;
        c.optimizer = &oc;
        check_training(d, &c, &oc);
    }
    dev_close(d);
}
END_TEST

/* A rank's slice of the state, of every optimizer and with adapters; all slices together are the
   whole, and a plan for whichever takes most is that one's. */
START_TEST(divided_states_take_their_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 60; i++) {
        struct optim_conf oc = {.steps = 1, .momentum = 0.9, .name = (enum optimizer_name)(i % 5)};
        struct model_conf c = training(tiny_wide(), i % 2 ? 6 : i % 12 == 4 ? 2 : 0);
        int64_t sum = 0, most = 0;
        struct memplan p, whole;
        oc.state = oc.name == OPTIMIZER_ADAFACTOR ? OPTIMIZER_STATE_FP32
                                                  : (enum optimizer_state)(i / 5 % 3);
        oc.adalora.rank = c.lora_adaptive ? c.lora_rank : 0;
        c.optimizer_fn = optim_bytes;
        c.optimizer = &oc;
        ck_assert(!memplan_model(&c, NULL, &whole, &e));
        c.owners = 2 + i / 15;
        for (c.owner = 0; c.owner < c.owners; c.owner++) {
            check_training(d, &c, &oc);
            ck_assert(!memplan_model(&c, NULL, &p, &e));
            ck_assert_int_eq(whole.total - p.total, whole.optimizer - p.optimizer);
            sum += p.optimizer;
            most = p.optimizer > most ? p.optimizer : most;
        }
        c.owner = -1;
        ck_assert(!memplan_model(&c, NULL, &p, &e));
        ck_assert_int_eq(p.optimizer, most);
        ck_assert_int_ge(sum, whole.optimizer);
        if (c.lora_rank || oc.name >= OPTIMIZER_ADAFACTOR)
            continue; /* scratch of matrices, and what all choose ranks with, is on each */
        ck_assert_int_lt(sum, whole.optimizer + 64 * 2 * c.owners * 20);
    }
    dev_close(d);
}
END_TEST

/* What stages 1 to 3 leave of masters, gradient and weights, full and beside adapters, of a cut
   anywhere and one between tensors; and a plan for whichever takes most is that one's. */
START_TEST(divided_models_take_their_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 36; i++) {
        struct optim_conf oc = {.steps = 1, .momentum = 0.9};
        struct model_conf c = training(i % 4 ? tiny_wide() : tiny_gpt2(), i / 3 % 4);
        int64_t most = 0;
        struct memplan p, whole;
        oc.name = i / 12 == 1 ? OPTIMIZER_MUON : OPTIMIZER_ADAMW;
        c.lora_dora = false;
        c.config.layers = 6;
        c.optimizer_fn = optim_bytes;
        c.slice_fn = optim_owns;
        c.optimizer = &oc;
        ck_assert(!memplan_model(&c, NULL, &whole, &e));
        c.zero_stage = 1 + i % 3;
        c.owners = 2 + i / 12;
        for (c.owner = 0; c.owner < c.owners; c.owner++) {
            check_training(d, &c, &oc);
            ck_assert(!memplan_model(&c, NULL, &p, &e));
            ck_assert_int_eq(
                p.saved + p.scratch + p.logits, whole.saved + whole.scratch + whole.logits);
            ck_assert_int_eq(!p.window, c.zero_stage < 3);
            most = p.total > most ? p.total : most;
        }
        c.owner = -1;
        ck_assert(!memplan_model(&c, NULL, &p, &e));
        ck_assert_int_eq(p.total, most);
    }
    dev_close(d);
}
END_TEST

/* Without a head there are no logits, however large the vocabulary. */
START_TEST(a_headless_model_takes_its_plan)
{
    struct dev *d = open_counting();
    for (int i = 0; i < 16; i++) {
        struct optim_conf oc = {.steps = 1, .name = OPTIMIZER_ADAMW};
        struct model_conf c = training(tiny_bert(), i);
        struct memplan p;
        c.config.labels = 0;
        c.headless = true;
        check_training(d, &c, &oc);
        ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
        ck_assert_int_eq(p.logits, 0);
    }
    dev_close(d);
}
END_TEST

START_TEST(serving_takes_its_plan)
{
    static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2",
        GOLDEN "tiny-qwen2", GOLDEN "tiny-qwen3", GOLDEN "tiny-mistral", GOLDEN "tiny-qwen3-moe",
        GOLDEN "tiny-mixtral"};
    struct dev *d = open_counting();
    for (int i = 0; i < 14; i++) {
        struct weights *w;
        ck_assert_msg(!weights_open(folders[i / 2], NULL, &w, &e), "%s", e.text);
        check_serving(d, w,
            &(struct model_conf){.config = *weights_config(w),
                .t = i % 2 ? DTYPE_BF16 : DTYPE_F32,
                .kv_capacity = 9});
        weights_close(w);
    }
    dev_close(d);
}
END_TEST

static int64_t below(uint64_t *seed, int64_t most)
{
    return 1 + (int64_t)(random_next(seed) % (uint64_t)most);
}

static struct model_config random_config(uint64_t *seed)
{
    struct model_config c = below(seed, 2) > 1 ? tiny_config(true) : tiny_gpt2();
    c.layers = below(seed, 4);
    c.kv_heads = below(seed, 3);
    c.heads = c.kv_heads * below(seed, 3);
    c.head_dim = 2 * below(seed, 9);
    c.dim = below(seed, 50);
    c.ffn_dim = below(seed, 70);
    c.vocab = below(seed, 300);
    c.tied_embeddings = below(seed, 2) > 1;
    c.norm = below(seed, 2) > 1 ? NORM_LAYER : NORM_RMS;
    c.activation = below(seed, 2) > 1 ? ACTIVATION_GELU : ACTIVATION_SWIGLU;
    c.qkv_bias = below(seed, 2) > 1;
    c.ffn_bias = below(seed, 2) > 1;
    c.post_norm = below(seed, 2) > 1;
    c.embed_norm = below(seed, 2) > 1;
    c.types = below(seed, 3) - 1;
    c.labels = below(seed, 100) - 50;
    c.labels = c.labels < 0 ? 0 : c.labels;
    c.bidirectional = c.labels && below(seed, 2) > 1;
    c.pooled = c.bidirectional && below(seed, 2) > 1;
    c.qk_norm = below(seed, 2) > 1;
    c.window = c.bidirectional ? 0 : below(seed, 20) - 1;
    return c;
}

START_TEST(random_shapes_take_their_plan)
{
    uint64_t seed = (uint64_t)clock_ns(), state = seed;
    struct dev *d = open_counting();
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 200; i++) {
        struct model_conf c = training(random_config(&state), (int)below(&state, 48));
        c.sequence_length = below(&state, c.config.context);
        c.logit_rows = below(&state, 3) > 1 ? 0 : below(&state, 40);
        c.packed = !c.config.bidirectional && below(&state, 2) > 1;
        check_training(d, &c, &(struct optim_conf){.steps = 1});
    }
    dev_close(d);
}
END_TEST

/* -- figures -- */

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
    /* numbers a token and layer in BF16, and in F32 of two norms and nine heads; the last residual
       and its norm */
    ck_assert_int_eq(p.saved, 2048LL * (30 * (5760 * 2 + (2 + 9) * 4) + 576 * 2 + 4));
    /* Selective drops gate, up and a norm's number, Full also the residual between, qkv,
       attention's output and what norm and softmax leave; one layer's stand in the scratch */
    /* Int8: all but the embedding and norms, with a scale for 256 */
    struct optim_conf oc = {.name = OPTIMIZER_ADAMW};
    c.optimizer_fn = optim_bytes;
    c.optimizer = &oc;
    for (oc.state = OPTIMIZER_STATE_FP32; oc.state <= OPTIMIZER_STATE_INT8; oc.state++) {
        const int64_t embeds = 49152LL * 576, vectors = 61 * 576;
        const int64_t coded = 134515008 - embeds - vectors;
        const int64_t bytes[] = {
            2 * p.master, p.master, 2 * (coded + coded / 256 * 4 + (embeds + vectors) * 4)};
        ck_assert(!memplan_model(&c, NULL, &less, &e));
        printf("SmolLM2-135M, AdamW, state %d: %.1f MiB\n", oc.state,
            (double)less.optimizer / (1 << 20));
        ck_assert_int_ge(less.optimizer, bytes[oc.state]);
        ck_assert_int_lt(less.optimizer, bytes[oc.state] + 65536);
        ck_assert_int_eq(p.total - less.total, p.optimizer - less.optimizer);
    }
    /* and what a rank of several keeps, of which each has an equal part but for some rounding */
    oc.state = OPTIMIZER_STATE_FP32;
    for (c.owners = 2; c.owners <= 64; c.owners *= 2) {
        c.owner = -1;
        ck_assert(!memplan_model(&c, NULL, &less, &e));
        printf("SmolLM2-135M, AdamW, 1 of %d: %.1f MiB\n", c.owners,
            (double)less.optimizer / (1 << 20));
        ck_assert_int_ge(less.optimizer, p.optimizer / c.owners);
        ck_assert_int_lt(less.optimizer, p.optimizer / c.owners + 16384);
    }
    c.owners = 0;
    c.optimizer_fn = NULL;
    c.recompute = RECOMPUTE_SELECTIVE;
    ck_assert(!memplan_model(&c, NULL, &less, &e));
    ck_assert_int_eq(p.saved - less.saved, 2048LL * 30 * (3072 * 2 + 4));
    ck_assert_int_eq(less.scratch - p.scratch, 2048LL * (3072 * 2 + 4));
    c.recompute = RECOMPUTE_FULL;
    ck_assert(!memplan_model(&c, NULL, &less, &e));
    ck_assert_int_eq(p.saved - less.saved, 2048LL * 30 * ((5760 - 576) * 2 + (2 + 9) * 4));
    ck_assert_int_eq(less.scratch - p.scratch, 2048LL * ((5760 - 576) * 2 + (2 + 9) * 4));
    ck_assert_int_eq(memplan_require(&p, p.total, &e), 0);
    ck_assert_int_eq(memplan_require(&p, p.total - 1, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "MiB"));
}
END_TEST

/* LoRA as docs/models.md has it: the base is Q8_0's 34 bytes for 32 numbers. */
START_TEST(figures_of_a_quantized_base)
{
    static const char *const names[] = {"F32", "Q8_0", "Q4_0", "Q4_K_M"};
    static const enum quantize quantize[] = {
        QUANTIZE_NONE, QUANTIZE_Q8_0, QUANTIZE_Q4_0, QUANTIZE_Q4_K_M};
    struct memplan p[4];
    for (int i = 0; i < 4; i++) {
        struct model_conf c = training(shape_of("smollm2-135m"), 2);
        c.sequence_length = 512;
        c.lora_dora = false;
        c.quantize = quantize[i];
        ck_assert_msg(!memplan_model(&c, NULL, &p[i], &e), "%s", e.text);
        printf("SmolLM2-135M, LoRA beside %s: %lld MiB, of these weights %lld\n", names[i],
            (long long)(p[i].total >> 20), (long long)(p[i].weights >> 20));
    }
    ck_assert_int_ge(p[1].weights, (134515008 - 61 * 576) / 32 * 34LL + 61 * 576 * 4);
    ck_assert_int_lt(p[1].weights, (134515008 - 61 * 576) / 32 * 34LL + 61 * 576 * 4 + 65536);
    /* beside it one matrix of a layer, decoded, and a panel of the head */
    ck_assert_int_lt(p[1].scratch - p[0].scratch, 3072 * 576 * 4 + 65536);
    ck_assert_int_eq(p[1].logits - p[0].logits, 4096 * 576 * 4);
    ck_assert_int_lt(p[1].total, p[0].total - (360 << 20));
    ck_assert_int_lt(p[2].total, p[1].total);
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
    ck_assert_int_eq(p.saved, n * (12 * (kept * 2 + 16 * 4) + 768 * 2 + 2 * 4));
    /* 50,257 columns are padded to 50,304; F32, and the gradient in BF16 */
    ck_assert_int_eq(p.logits, 8192LL * 50304 * 6);
    printf("GPT-2 124M, 64 x 1024 in BF16: %lld MiB\n", (long long)(p.total >> 20));
    ck_assert_int_lt(p.total, 24LL << 30);
}
END_TEST

/* The same by ranks that divide it, a sequence of 64 tokens each: of what a parameter takes, 18
   bytes, N ranks keep 2 + 4 + 12/N, 2 + 16/N and 16/N each, and what stands in windows. */
START_TEST(figures_of_a_divided_gpt2)
{
    const struct optim_conf oc = {.name = OPTIMIZER_ADAMW};
    struct model_conf c = {.config = shape_of("gpt2-124m"),
        .t = DTYPE_BF16,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 64,
        .optimizer_fn = optim_bytes,
        .optimizer = &oc,
        .slice_fn = optim_owns};
    const int64_t layer = 12 * 768 * 768 + 13 * 768, outer = (50257 + 1024 + 2) * 768;
    const int64_t all = 124439808, slack = 1 << 20;
    struct memplan whole, p;
    c.config.vocab = 50257;
    ck_assert_msg(!memplan_model(&c, NULL, &whole, &e), "%s", e.text);
    for (int owners = 2; owners <= 8; owners *= 2)
        for (c.zero_stage = 1; c.zero_stage <= 3; c.zero_stage++) {
            const int64_t slices = 12 * all / owners, gradient = 4 * all / owners;
            const int64_t windows = 4 * (outer + layer) + gradient;
            const int64_t bytes[] = {slices + 6 * all, slices + 2 * all + windows,
                slices + windows + 2 * (outer + 2 * layer)};
            c.owners = owners;
            c.owner = -1;
            ck_assert(!memplan_model(&c, NULL, &p, &e));
            int64_t kept = p.total - p.saved - p.scratch - p.logits;
            printf("GPT-2 124M in BF16, AdamW, stage %d of %d ranks: %lld MiB, undivided %lld\n",
                c.zero_stage, owners, (long long)(p.total >> 20), (long long)(whole.total >> 20));
            ck_assert_int_ge(kept, bytes[c.zero_stage - 1]);
            ck_assert_int_lt(kept, bytes[c.zero_stage - 1] + slack);
            ck_assert(owners != 4 || c.zero_stage < 3 || p.total * 10 <= whole.total * 4);
        }
}
END_TEST

/* -- sizes that no machine has -- */

START_TEST(absurd_sizes_saturate)
{
    struct model_conf c = {.config = tiny_config(true),
        .train = true,
        .micro_sequences = 1LL << 40,
        .sequence_length = 1LL << 40};
    struct memplan p;
    for (c.recompute = RECOMPUTE_NONE; c.recompute <= RECOMPUTE_FULL; c.recompute++) {
        ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
        ck_assert_int_eq(p.saved, INT64_MAX);
        ck_assert_int_eq(p.scratch, INT64_MAX);
        ck_assert_int_eq(p.total, INT64_MAX);
        ck_assert_int_eq(memplan_require(&p, 1LL << 50, &e), -ERR_MEMORY);
    }
    c.train = false;
    c.kv_capacity = 1LL << 60;
    ck_assert_msg(!memplan_model(&c, NULL, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.cache, INT64_MAX);
    ck_assert_int_eq(p.total, INT64_MAX);
    c.config.vocab = INT64_MAX / 4;
    ck_assert_int_lt(memplan_model(&c, NULL, &p, &e), 0);
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "memplan"},
        (const TTest *const[]){training_takes_its_plan, chunks_take_their_plan,
            shares_of_mixtures_take_their_plan, states_of_fewer_bits_take_their_plan,
            divided_states_take_their_plan, divided_models_take_their_plan,
            a_headless_model_takes_its_plan, serving_takes_its_plan,
            a_quantized_base_takes_its_plan, random_shapes_take_their_plan, figures_of_smollm2,
            figures_of_a_quantized_base, figures_of_gpt2, figures_of_a_divided_gpt2,
            absurd_sizes_saturate, NULL});
}
