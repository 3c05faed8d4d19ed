/*
 * bench_ops: rates of the device operations at the shapes of SmolLM2-135M, best of several runs:
 * GFLOP/s of the matrix products and of attention, GB/s of what memory bounds.  Usage: bench_ops
 * [kind [threads [rows]]] Rows (default 1024) are the tokens of a micro-batch, in one sequence for
 * attention.
 */
#include "kernels/ops.h"

#include "base/clock.h"

#include <stdlib.h>

enum { DIM = 576, HEADS = 9, KV_HEADS = 3, HEAD = 64, FFN = 1536, VOCAB = 49152, RUNS = 5 };

struct bench {
    struct dev *d;
    const struct ops *ops;
    int64_t rows;
    char *memory[4]; /* large enough for every operand */
    int32_t *ids;    /* (8192) */
    float *small;    /* (VOCAB + 8192) */
};

/* Every 16 bits are a BF16 of 2^-7 to 2^-3, so any pair is such an F32 too, and no block has an
 * extreme scale. */
static void fill(struct bench *b, size_t bytes)
{
    static uint16_t part[1 << 20];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof part / 2; i++) {
        x = x * 1664525u + 1013904223u;
        part[i] = (uint16_t)(0x3c00u + ((x >> 16) & 0x81ffu));
    }
    for (int m = 0; m < 4; m++)
        for (size_t at = 0; at + sizeof part <= bytes; at += sizeof part)
            dev_upload(b->d, b->memory[m] + at, part, sizeof part);
}

static void fail(const struct err *e)
{
    fprintf(stderr, "bench_ops: %s\n", e->text);
    exit(1);
}

/* Best seconds of RUNS calls of op(args). */
#define BEST(b, name, args) \
    __extension__({ \
        int64_t best_ = INT64_MAX; \
        for (int run_ = 0; run_ <= RUNS; run_++) { \
            struct err e_ = {0}; \
            int64_t from_ = clock_ns(); \
            (b)->ops->name((b)->d, (args)); \
            if (dev_sync((b)->d, &e_)) \
                fail(&e_); \
            int64_t took_ = clock_ns() - from_; \
            if (run_ && took_ < best_) /* the first builds primitives */ \
                best_ = took_; \
        } \
        (double)best_ * 1e-9; \
    })

static void row(const char *name, enum dtype t, double seconds, double amount, const char *unit)
{
    printf("%-34s %-5s %10.3f ms %9.1f %s\n", name, dtype_name(t), seconds * 1e3,
        amount / seconds * 1e-9, unit);
    fflush(stdout);
}

static void matmul(struct bench *b, const char *name, enum dtype t, int64_t m, int64_t n, int64_t k,
    bool ta, bool tb)
{
    bool weight_gradient = ta;
    struct op_matmul a = {.m = m, .n = n, .k = k, .ta = ta, .tb = tb, .ab_type = t, .alpha = 1};
    a.c_type = weight_gradient ? DTYPE_F32 : t;
    a.beta = weight_gradient;
    a.a = b->memory[0];
    a.b = b->memory[1];
    a.c = b->memory[2];
    a.lda = ta ? m : k;
    a.ldb = tb ? k : n;
    a.ldc = n;
    row(name, t, BEST(b, matmul, &a), 2.0 * (double)m * (double)n * (double)k, "GFLOP/s");
}

static void matmuls(struct bench *b, enum dtype t)
{
    static const struct {
        const char *name;
        int64_t out, in;
    } layers[] = {{"qkv", DIM + 2 * KV_HEADS * HEAD, DIM}, {"out", DIM, DIM},
        {"gate and up", 2 * FFN, DIM}, {"down", DIM, FFN}, {"logits", VOCAB, DIM},
        {"lora A (rank 16)", 16, DIM}, {"lora B (rank 16)", DIM, 16}};
    char name[64];
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        int64_t out = layers[i].out, in = layers[i].in;
        snprintf(name, sizeof name, "%s: y = x W^T", layers[i].name);
        matmul(b, name, t, b->rows, out, in, false, true);
        snprintf(name, sizeof name, "%s: dx = dy W", layers[i].name);
        matmul(b, name, t, b->rows, in, out, false, false);
        snprintf(name, sizeof name, "%s: dW += dy^T x", layers[i].name);
        matmul(b, name, t, out, in, b->rows, true, false);
    }
}

static void attention(struct bench *b, enum dtype t)
{
    struct op_attention a = {
        .b = 1, .tokens = b->rows, .h = HEADS, .g = KV_HEADS, .d = HEAD, .t = t, .scale = 0.125f};
    size_t size = t == DTYPE_F32 ? 4 : 2;
    int64_t q = b->rows * DIM * (int64_t)size;
    a.q = b->memory[0];
    a.k = b->memory[0] + q;
    a.v = b->memory[0] + 2 * q;
    a.ldq = DIM;
    a.ldk = a.ldv = KV_HEADS * HEAD;
    a.o = b->memory[1];
    a.lse = (float *)(b->memory[1] + q);
    a.dout = b->memory[0] + 3 * q;
    a.dq = b->memory[2];
    a.dk = b->memory[2] + q;
    a.dv = b->memory[2] + 2 * q;
    double flops =
        2.0 * (double)b->rows * (double)b->rows * DIM; /* two products, half of them masked */
    row("attention", t, BEST(b, attention, &a), flops, "GFLOP/s");
    row("attention_back", t, BEST(b, attention_back, &a), 2.5 * flops, "GFLOP/s");
}

static void rows(struct bench *b, enum dtype t)
{
    double bytes = (double)b->rows * (t == DTYPE_F32 ? 4 : 2);
    struct op_rmsnorm n = {
        .n = b->rows, .c = DIM, .eps = 1e-5f, .t = t, .x = b->memory[0], .w = b->memory[1]};
    n.y = b->memory[2];
    n.rstd = b->small + VOCAB;
    row("rmsnorm", t, BEST(b, rmsnorm, &n), 2 * bytes * DIM, "GB/s");
    n.dy = b->memory[2];
    n.dx = b->memory[1] + (1 << 20);
    n.dw = b->small;
    n.accumulate = true;
    row("rmsnorm_back", t, BEST(b, rmsnorm_back, &n), 4 * bytes * DIM, "GB/s");

    struct op_rope r = {.n = b->rows,
        .heads = HEADS,
        .d = HEAD,
        .ld = DIM,
        .x = b->memory[0],
        .theta = 1e5f,
        .t = t};
    r.position = b->ids;
    row("rope", t, BEST(b, rope, &r), 2 * bytes * DIM, "GB/s");

    struct op_swiglu s = {
        .n = b->rows, .f = FFN, .ld = 2 * FFN, .gate = b->memory[0], .y = b->memory[1], .t = t};
    s.up = b->memory[0] + FFN * (t == DTYPE_F32 ? 4 : 2);
    row("swiglu", t, BEST(b, swiglu, &s), 3 * bytes * FFN, "GB/s");
    s.dy = b->memory[1];
    s.dgate = b->memory[2];
    s.dup = b->memory[2] + FFN * (t == DTYPE_F32 ? 4 : 2);
    row("swiglu_back", t, BEST(b, swiglu_back, &s), 5 * bytes * FFN, "GB/s");

    struct op_xent x = {.n = b->rows,
        .v = VOCAB,
        .ld = VOCAB,
        .logits = b->memory[0],
        .scale = 1e-3f,
        .backward = true,
        .t = t};
    x.target = b->ids;
    x.loss = b->small + VOCAB;
    row("xent with gradient", t, BEST(b, xent, &x), 2 * bytes * VOCAB, "GB/s");

    struct op_embed e = {
        .n = b->rows, .c = DIM, .v = VOCAB, .ids = b->ids, .t = t, .table_type = t};
    e.table = b->memory[0];
    e.out = b->memory[1];
    e.dout = b->memory[1];
    e.dtable = (float *)b->memory[2];
    row("embed", t, BEST(b, embed, &e), 2 * bytes * DIM, "GB/s");
    row("embed_back", t, BEST(b, embed_back, &e), (bytes + 8 * (double)b->rows) * DIM, "GB/s");
}

static void vectors(struct bench *b)
{
    int64_t count = (int64_t)24 << 20;
    float *p[4];
    for (int i = 0; i < 4; i++)
        p[i] = (float *)b->memory[i];
    struct op_sumsq s = {.count = count, .x = p[0], .out = p[1]};
    row("sumsq", DTYPE_F32, BEST(b, sumsq, &s), 4.0 * (double)count, "GB/s");
    struct op_axpby x = {.count = count, .x = p[0], .y = p[1], .a = 1, .b = 1};
    row("axpby", DTYPE_F32, BEST(b, axpby, &x), 12.0 * (double)count, "GB/s");
    struct op_convert c = {.count = count, .x = p[0], .y = p[1], .y_type = DTYPE_BF16};
    row("convert f32 -> bf16", DTYPE_F32, BEST(b, convert, &c), 6.0 * (double)count, "GB/s");
    struct op_adamw w = {
        .count = count / 2, .w = p[0], .m = p[1], .v = p[2], .grad = p[3], .lr = 1e-3f};
    w.beta1 = 0.9f;
    w.beta2 = 0.95f;
    w.eps = 1e-8f;
    w.grad_scale = 1;
    w.step = 10;
    w.w16 = (uint16_t *)(p[3] + count / 2);
    row("adamw with bf16 copy", DTYPE_F32, BEST(b, adamw, &w), 15.0 * (double)count, "GB/s");
}

static void decoding(struct bench *b)
{
    static const enum dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q4_K,
        DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q8_0, DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    char name[64];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int64_t m = 1; m <= 16; m *= 4) {
            struct op_quant_matmul q = {.m = m, .n = VOCAB, .k = 768, .w_type = types[i]};
            q.x = (const float *)b->memory[2];
            q.w = b->memory[0];
            q.y = (float *)b->memory[1];
            snprintf(name, sizeof name, "quant_matmul m = %d", (int)m);
            row(name, types[i], BEST(b, quant_matmul, &q), (double)dtype_bytes(types[i], q.n * q.k),
                "GB/s of W");
        }
    struct op_attention_decode a = {
        .n = 1, .h = HEADS, .g = KV_HEADS, .d = HEAD, .scale = 0.125f, .kv_type = DTYPE_BF16};
    a.q = a.o = (float *)b->memory[2];
    a.k_cache = b->memory[0];
    a.v_cache = b->memory[1];
    a.length = b->ids;
    int32_t length = 2048;
    dev_upload(b->d, b->ids, &length, sizeof length);
    row("attention_decode, 2048 tokens", DTYPE_BF16, BEST(b, attention_decode, &a),
        4.0 * 2048 * KV_HEADS * HEAD, "GB/s");
}

int main(int argc, char **argv)
{
    struct bench b = {.rows = argc > 3 ? strtol(argv[3], NULL, 10) : 1024};
    struct err e = {0};
    struct dev_info info;
    if (dev_open(
            argc > 1 ? argv[1] : "cpu", 0, argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0, &b.d, &e))
        fail(&e);
    if (b.rows < 1 || b.rows > 8192) {
        err_set(&e, ERR_USER, "rows: 1 to 8192");
        fail(&e);
    }
    b.ops = dev_ops(b.d);
    size_t bytes = (size_t)VOCAB * (size_t)(b.rows > DIM ? b.rows : DIM) * 4;
    if (bytes < (size_t)160 << 20)
        bytes = (size_t)160 << 20;
    for (int i = 0; i < 4; i++)
        if (dev_alloc(b.d, bytes, (void **)&b.memory[i], &e))
            fail(&e);
    if (dev_alloc(b.d, 8192 * 4, (void **)&b.ids, &e) ||
        dev_alloc(b.d, (VOCAB + 8192) * 4, (void **)&b.small, &e))
        fail(&e);
    fill(&b, bytes);
    dev_describe(b.d, &info);
    printf(
        "%s (%s), %d threads, %lld rows\n", info.kind, info.name, info.threads, (long long)b.rows);
    for (enum dtype t = DTYPE_F32; t <= DTYPE_BF16; t++) {
        matmuls(&b, t);
        attention(&b, t);
        rows(&b, t);
    }
    vectors(&b);
    decoding(&b);
    for (int i = 0; i < 4; i++)
        dev_free(b.d, b.memory[i]);
    dev_free(b.d, b.ids);
    dev_free(b.d, b.small);
    dev_close(b.d);
    return 0;
}
