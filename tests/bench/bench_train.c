/*
 * bench_train: training tokens per second of one case on this machine, and the memory that its
 * process took at most; what the matrix-product rate measured in the same run allows stands beside.
 * bench_train.py is the same of torch, bench_train.sh puts both side by side.
 *
 * Usage: bench_train CASE TYPE [SECONDS [THREADS [LAYERS]]]; TYPE: F32 or BF16; LAYERS: the first
 * so many of the model's, to try it out; 0: all. Weights are random. A step is forward, backward,
 * clipping and AdamW; the figure is the median of all but the first two.
 * The ceiling is the rate of one large product (2048 x 1536 x 576) divided by the flops of a token:
 * 6 x parameters for full training, 4 x parameters plus the factors' own for LoRA, attention's
 * products not counted.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/train/optim.h"
#include "tests/runtime/shapes.h"

#include <sys/resource.h>

#define WARM_UP 2
#define STEPS   1000

static const struct bench_case {
    const char *name, *shape;
    int64_t sequences, tokens;
    bool lora;
    enum quantize base; /* of what is frozen */
} cases[] = {
    {"gpt2", "gpt2-124m", 4, 512, false, QUANTIZE_NONE},
    {"smollm2", "smollm2-135m", 4, 512, false, QUANTIZE_NONE},
    {"smollm2-lora", "smollm2-135m", 4, 512, true, QUANTIZE_NONE},
    {"smollm2-qlora", "smollm2-135m", 4, 512, true, QUANTIZE_Q8_0},
    {"bert", "bert-base", 16, 128, false, QUANTIZE_NONE},
};
#define CASES (sizeof cases / sizeof *cases)

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
    for (int round = 0; round < 10; round++) {
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

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* *rate: tokens a second of the median step. */
static int measure(struct pass *pass, struct optim *o, const struct bench_case *c, int64_t vocab,
    int64_t labels, double seconds, double *rate, struct err *e)
{
    int64_t n = c->sequences * c->tokens, begin = clock_ns(), steps = 0;
    mem_autofree int32_t *ids = mem_array((size_t)n + 1, sizeof *ids);
    mem_autofree int32_t *targets = mem_array((size_t)n, sizeof *targets);
    double taken[STEPS], loss, norm;

    if (!ids || !targets)
        return err_set(e, ERR_MEMORY, "no memory for a batch");
    for (int64_t i = 0; i <= n; i++)
        ids[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)vocab);
    for (int64_t i = 0; i < n; i++)
        targets[i] = labels ? ids[i] % (int32_t)labels : ids[i + 1];
    const struct pass_input in = {.ids = ids, .targets = targets};
    while (
        steps < STEPS && (steps < WARM_UP + 3 || (double)(clock_ns() - begin) * 1e-9 < seconds)) {
        int64_t start = clock_ns();
        int rc;

        pass_zero_gradient(pass);
        if ((rc = pass_step(pass, c->sequences, &in, 1.0f / (float)n, true, &loss, e)) ||
            (rc = optim_step(o, steps + 1, &norm, e)))
            return rc;
        taken[steps++] = (double)(clock_ns() - start) * 1e-9;
    }
    qsort(taken + WARM_UP, (size_t)(steps - WARM_UP), sizeof *taken, by_size);
    *rate = (double)n / taken[WARM_UP + (steps - WARM_UP) / 2];
    return 0;
}

static int run(struct dev *d, const struct bench_case *c, enum dtype t, double seconds, int layers,
    double *rate, double *flops, struct err *e)
{
    static const char *const targets[] = {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};
    struct model_conf conf = {.config = shape_of(c->shape),
        .t = t,
        .train = true,
        .micro_sequences = c->sequences,
        .sequence_length = c->tokens,
        .lora_rank = c->lora ? 8 : 0,
        .lora_alpha = 16,
        .lora_targets = targets,
        .quantize = c->base,
        .seed = 1};
    struct optim_conf oc = {.learning_rate = 1e-4,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .clip_norm = 1,
        .layer_decay = 1,
        .schedule = SCHEDULE_CONSTANT,
        .steps = STEPS};
    if (layers)
        conf.config.layers = layers;
    struct model *m = NULL;
    struct pass *pass = NULL;
    struct optim *o = NULL;
    int rc;
    if (!(rc = model_create(d, &conf, &m, e)) && !(rc = pass_create(m, &pass, e)) &&
        !(rc = model_init_random(m, e)) && !(rc = optim_create(d, &oc, pass, &o, e)))
        rc = measure(pass, o, c, conf.config.vocab, conf.config.labels, seconds, rate, e);
    if (!rc) {
        double trained = (double)model_trainable(m);
        *flops = 6 * trained + (c->lora ? 4 * ((double)model_parameters(m) - trained) : 0);
    }
    optim_destroy(o);
    pass_destroy(pass);
    model_destroy(m);
    return rc;
}

static const struct bench_case *find_case(const char *name)
{
    for (size_t i = 0; i < CASES; i++)
        if (!strcmp(cases[i].name, name))
            return &cases[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const struct bench_case *c = argc > 2 ? find_case(argv[1]) : NULL;
    enum dtype t = argc > 2 && !strcmp(argv[2], "BF16") ? DTYPE_BF16 : DTYPE_F32;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 30, rate = 0, flops = 1;
    int threads = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 2;
    int layers = argc > 5 ? (int)strtol(argv[5], NULL, 10) : 0;
    struct err e = {0};
    struct dev *d = NULL;

    if (!c || (t == DTYPE_F32 && strcmp(argv[2], "F32"))) {
        fprintf(stderr,
            "bench_train: CASE (gpt2, smollm2, smollm2-lora, smollm2-qlora, bert) "
            "TYPE (F32, BF16)\n");
        return 1;
    }
    if (dev_open("cpu", 0, threads, &d, &e) || run(d, c, t, seconds, layers, &rate, &flops, &e)) {
        fprintf(stderr, "bench_train: %s\n", e.text);
        dev_close(d);
        return 1;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double gflops = product_rate(d, t, &e);
    dev_close(d);
    printf("%.1f tokens/s %ld MiB; products %.0f GFLOP/s allow %.0f tokens/s\n", rate,
        used.ru_maxrss >> 10, gflops, gflops * 1e9 / flops);
    return gflops < 0;
}
