/*
 * bench_train: training tokens per second of SmolLM2-135M on this machine, LoRA and full, BF16 and
 * FP32, against what the matrix-product rate measured in the same run allows.
 *
 * Usage: bench_train [threads [model.gguf [seconds]]]. Without a model the weights are random
 * numbers in the same shapes. A step is forward, backward and AdamW over 4 sequences of 512 tokens.
 * The ceiling is the rate of one large product (2048 x 1536 x 576, the feed-forward's) divided by
 * the flops of a token: 6 x parameters for full training, 4 x parameters plus the factors' own for
 * LoRA, attention's products not counted.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/train/optim.h"
#include "tests/runtime/shapes.h"

#define SEQUENCES 4
#define TOKENS    512

static double product_rate(struct dev *d, enum dtype t, struct err *e)
{
    struct op_matmul o = {.m = 2048,
        .n = 1536,
        .k = 576,
        .lda = 576,
        .ldb = 576,
        .ldc = 1536,
        .tb = true,
        .ab_type = t,
        .c_type = t,
        .alpha = 1};
    void *a, *b, *c;
    double best = 0;

    if (dev_alloc(d, 2048 * 576 * 4, &a, e) || dev_alloc(d, 1536 * 576 * 4, &b, e) ||
        dev_alloc(d, 2048 * 1536 * 4, &c, e))
        return -1;
    o.a = a;
    o.b = b;
    o.c = c;
    for (int round = 0; round < 30; round++) {
        int64_t start = clock_ns();

        for (int i = 0; i < 10; i++)
            dev_ops(d)->matmul(d, &o);
        if (dev_sync(d, e))
            return -1;
        double rate = 10 * 2.0 * 2048 * 1536 * 576 / (double)(clock_ns() - start);
        best = rate > best ? rate : best;
    }
    dev_free(d, a);
    dev_free(d, b);
    dev_free(d, c);
    return best; /* GFLOP/s */
}

static int measure(
    struct pass *pass, struct optim *o, int64_t vocab, double seconds, double *rate, struct err *e)
{
    static int32_t ids[SEQUENCES * TOKENS + 1];
    const struct pass_input in = {.ids = ids, .targets = ids + 1};
    double loss, norm, best = 0;
    int64_t begin = clock_ns();

    for (int i = 0; i <= SEQUENCES * TOKENS; i++)
        ids[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)vocab);
    for (int64_t step = 1; step < 4 || (double)(clock_ns() - begin) * 1e-9 < seconds; step++) {
        int64_t start = clock_ns();

        pass_zero_gradient(pass);
        if (pass_step(pass, SEQUENCES, &in, 1.0f / (SEQUENCES * TOKENS), true, &loss, e) ||
            optim_step(o, step, &norm, e))
            return -1;
        double r = SEQUENCES * TOKENS / ((double)(clock_ns() - start) * 1e-9);
        best = r > best ? r : best;
    }
    *rate = best;
    return 0;
}

static int run(struct dev *d, struct weights *w, bool lora, enum dtype t, double gflops,
    double seconds, struct err *e)
{
    static const char *const targets[] = {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};
    struct model_conf conf = {.config = w ? *weights_config(w) : shape_of("smollm2-135m"),
        .t = t,
        .train = true,
        .micro_sequences = SEQUENCES,
        .sequence_length = TOKENS,
        .lora_rank = lora ? 8 : 0,
        .lora_alpha = 16,
        .lora_targets = targets,
        .seed = 1};
    struct optim_conf oc = {.learning_rate = 1e-4,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .clip_norm = 1,
        .schedule = SCHEDULE_CONSTANT,
        .steps = 1000};
    struct model *m = NULL;
    struct pass *pass = NULL;
    struct optim *o = NULL;
    double rate, ceiling, frozen, trained;
    int rc;
    if (!(rc = model_create(d, &conf, &m, e)) && !(rc = pass_create(m, &pass, e)) &&
        !(rc = w ? model_load(m, w, e) : model_init_random(m, e)) &&
        !(rc = optim_create(d, &oc, pass, &o, e)) &&
        !(rc = measure(pass, o, conf.config.vocab, seconds, &rate, e))) {
        trained = (double)model_trainable(m);
        frozen = lora ? (double)model_parameters(m) - trained : 0;
        ceiling = gflops * 1e9 / (6 * trained + 4 * frozen);
        printf("train %s %s: %.0f tokens/s, products %.0f GFLOP/s allow %.0f, ratio %.2f, "
               "memory %lld MiB\n",
            lora ? "lora" : "full", dtype_name(t), rate, gflops, ceiling, rate / ceiling,
            (long long)(model_memory_bytes(m) >> 20));
        fflush(stdout);
    }
    optim_destroy(o);
    pass_destroy(pass);
    model_destroy(m);
    return rc;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 30;
    struct err e = {0};
    struct dev *d = NULL;
    struct weights *w = NULL;
    int rc = dev_open("cpu", 0, threads, &d, &e);

    if (!rc && argc > 2)
        rc = weights_open(argv[2], NULL, &w, &e);
    for (int i = 0; i < 2 && !rc; i++) {
        enum dtype t = i ? DTYPE_F32 : DTYPE_BF16;
        double gflops = product_rate(d, t, &e);

        for (int lora = 0; lora < 2 && !rc; lora++)
            rc = gflops < 0 ? -1 : run(d, w, lora, t, gflops, seconds, &e);
    }
    if (rc)
        fprintf(stderr, "bench_train: %s\n", e.text);
    weights_close(w);
    dev_close(d);
    return rc ? 1 : 0;
}
