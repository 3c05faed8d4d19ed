/*
 * Goal: the reference means what kernels/ops.h says, where neither derivatives (test_gradient.c)
 * nor another implementation can show it: parts of a vocabulary, pages of a cache, rows in groups,
 * scaled frequencies, which GELU is which, and whatever is drawn by chance. Method: equality with a
 * plainer operation or torch's numbers, and frequencies against probabilities.
 */
#include "tests/kernels/parity.h"

#include "tests/unit.h"

#include <math.h>

#define SEED 4711

static struct dev *ref;
static struct parity_run run;

static void begin(void)
{
    struct err e = {0};
    ck_assert_int_eq(dev_open("cpu-ref", 0, 1, &ref, &e), 0);
    parity_begin(&run, ref, DTYPE_F32, SEED);
}

static void end(void)
{
    parity_end(&run);
    dev_close(ref);
}

/* Columns [first, first + v) of x (n, total). */
static float *columns(const float *x, int64_t n, int64_t total, int64_t first, int64_t v)
{
    float *out = parity_space(&run, n * v, DTYPE_F32);
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * v, x + i * total + first, (size_t)v * sizeof *x);
    return out;
}

/* The loss and gradient of three ranks that share the vocabulary are those of the whole. */
START_TEST(vocabulary_in_parts)
{
    enum { N = 6, V = 37, RANKS = 3 };
    static const int64_t first[RANKS + 1] = {0, 10, 11, V};
    begin();
    float *logits = parity_input(&run, N * V, DTYPE_F32, 5);
    int32_t *target = parity_ids(&run, N, V);
    float *loss = parity_space(&run, N, DTYPE_F32);
    struct op_xent part[RANKS];
    target[1] = -1;
    target[2] = 10; /* the middle rank's only column */
    for (int r = 0; r < RANKS; r++) {
        int64_t v = first[r + 1] - first[r];
        part[r] = (struct op_xent){.n = N,
            .v = v,
            .ld = v,
            .logits = columns(logits, N, V, first[r], v),
            .target = target,
            .loss = parity_space(&run, N, DTYPE_F32),
            .scale = 0.7f,
            .backward = true,
            .stage = OP_XENT_STATS,
            .first = first[r],
            .top = parity_space(&run, N, DTYPE_F32),
            .sum = parity_space(&run, N, DTYPE_F32)};
        op_ref_xent(ref, &part[r]);
    }
    for (int i = 0; i < N; i++) { /* what the ranks exchange */
        float top = fmaxf(part[0].top[i], fmaxf(part[1].top[i], part[2].top[i])), sum = 0;
        for (int r = 0; r < RANKS; r++)
            sum += part[r].sum[i] * expf(part[r].top[i] - top);
        for (int r = 0; r < RANKS; r++) {
            part[r].top[i] = top;
            part[r].sum[i] = sum;
        }
    }
    op_ref_xent(ref,
        &(struct op_xent){.n = N,
            .v = V,
            .ld = V,
            .logits = logits,
            .target = target,
            .loss = loss,
            .scale = 0.7f,
            .backward = true});
    for (int r = 0; r < RANKS; r++) {
        part[r].stage = OP_XENT_FINISH;
        op_ref_xent(ref, &part[r]);
        for (int64_t i = 0; i < N * part[r].v; i++) {
            int64_t row = i / part[r].v, at = first[r] + i % part[r].v;
            ck_assert_float_eq_tol(((float *)part[r].logits)[i], logits[row * V + at], 1e-6f);
        }
    }
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(part[0].loss[i] + part[1].loss[i] + part[2].loss[i], loss[i], 1e-5f);
    ck_assert(loss[1] == 0 && loss[2] > 0);
    end();
}
END_TEST

/* A cache cut into shuffled pages gives, bit for bit, what the same cache gives in one piece. */
START_TEST(cache_in_pages)
{
    enum { N = 2, H = 4, G = 2, D = 6, PAGE = 3, PAGES = 4, CAPACITY = PAGE * PAGES };
    static const int32_t length[N] = {11, 7},
                         pages[N][PAGES + 1] = {{5, 0, 7, 2, -1}, {1, 6, 3, 4, -1}};
    float paged[2][N * PAGES * PAGE * G * D], o[2][N * H * D];
    begin();
    struct op_attention_decode a = {.n = N, .h = H, .g = G, .d = D, .scale = 0.4f};
    const float *k = parity_input(&run, N * CAPACITY * G * D, DTYPE_F32, 1),
                *v = parity_input(&run, N * CAPACITY * G * D, DTYPE_F32, 1);
    for (int64_t i = 0; i < N * PAGES; i++) {
        int64_t to = pages[i / PAGES][i % PAGES] * PAGE * G * D;
        memcpy(paged[0] + to, k + i * PAGE * G * D, PAGE * G * D * sizeof(float));
        memcpy(paged[1] + to, v + i * PAGE * G * D, PAGE * G * D * sizeof(float));
    }
    a.q = parity_input(&run, N * H * D, DTYPE_F32, 1);
    a.k_cache = k;
    a.v_cache = v;
    a.sequence_stride = CAPACITY * G * D;
    a.length = length;
    a.o = o[0];
    op_ref_attention_decode(ref, &a);
    a.k_cache = paged[0];
    a.v_cache = paged[1];
    a.pages = pages[0];
    a.pages_ld = PAGES + 1;
    a.page_tokens = PAGE;
    a.sequence_stride = -1;
    a.o = o[1];
    op_ref_attention_decode(ref, &a);
    ck_assert_mem_eq(o[0], o[1], sizeof o[0]);
    end();
}
END_TEST

/* Rows in groups are the rows they are when they stand alone, forward and back. */
START_TEST(rows_in_groups)
{
    enum { N = 6, C = 5, GROUP = 3, LDX = 19, LDY = 22 };
    float x[N * C], dy[N * C], y[N * C], dx[N * C], rstd[2][N];
    begin();
    struct op_rmsnorm a = {.n = N, .c = C, .eps = 1e-5f, .t = DTYPE_F32};
    const float *xs = parity_input(&run, N / GROUP * LDX, DTYPE_F32, 2);
    const float *dys = parity_input(&run, N / GROUP * LDY, DTYPE_F32, 1);
    float *ys = parity_input(&run, N / GROUP * LDY, DTYPE_F32, 1);
    float *dxs = parity_input(&run, N / GROUP * LDX, DTYPE_F32, 1);
    float *dw[2] = {parity_input(&run, C, DTYPE_F32, 0), parity_input(&run, C, DTYPE_F32, 0)};
    float behind = ys[GROUP * C], behind_dx = dxs[GROUP * C];
    for (int i = 0; i < N; i++) {
        memcpy(x + i * C, xs + i / GROUP * LDX + i % GROUP * C, C * sizeof *x);
        memcpy(dy + i * C, dys + i / GROUP * LDY + i % GROUP * C, C * sizeof *dy);
    }
    a.w = parity_input(&run, C, DTYPE_F32, 2);
    a.x = x;
    a.y = y;
    a.dy = dy;
    a.dx = dx;
    a.dw = dw[0];
    a.rstd = rstd[0];
    op_ref_rmsnorm(ref, &a);
    op_ref_rmsnorm_back(ref, &a);
    a.group = GROUP;
    a.ldx = LDX;
    a.ldy = LDY;
    a.x = xs;
    a.y = ys;
    a.dy = dys;
    a.dx = dxs;
    a.dw = dw[1];
    a.rstd = rstd[1];
    op_ref_rmsnorm(ref, &a);
    op_ref_rmsnorm_back(ref, &a);
    for (int i = 0; i < N; i++) {
        ck_assert_mem_eq(y + i * C, ys + i / GROUP * LDY + i % GROUP * C, C * sizeof *y);
        ck_assert_mem_eq(dx + i * C, dxs + i / GROUP * LDX + i % GROUP * C, C * sizeof *dx);
    }
    ck_assert_mem_eq(rstd[0], rstd[1], sizeof rstd[0]);
    ck_assert_mem_eq(dw[0], dw[1], C * sizeof *dw[0]);
    ck_assert(ys[GROUP * C] == behind && dxs[GROUP * C] == behind_dx);
    end();
}
END_TEST

/* transformers' _compute_llama3_parameters: factor 8, 1, 4, 8192, base 500000, heads of 16. */
START_TEST(frequencies_are_scaled)
{
    static const double kept[] = {1, 0.19392276, 0.03760603, 0.007292664}; /* of 8 frequencies */
    static const double scaled[] = {0.00052484602, 3.4281021e-05, 6.6478669e-06, 1.2891732e-06};
    const struct op_rope_scaling llama3 = {OP_ROPE_LLAMA3, 8, 1, 4, 8192};
    for (int i = 0; i < 8; i++) {
        double f = pow(500000, -i / 8.0), got = op_rope_scaled(&llama3, f);
        double want = i < 4 ? kept[i] : scaled[i - 4];
        ck_assert_msg(fabs(got / want - 1) < 2e-6, "%d: %.9g, not %.9g", i, got, want);
        const struct op_rope_scaling linear = {.kind = OP_ROPE_LINEAR, .factor = 4};
        ck_assert_double_eq(op_rope_scaled(&linear, f), f / 4);
        ck_assert_double_eq(op_rope_scaled(&(struct op_rope_scaling){0}, f), f);
    }
}
END_TEST

/* torch.nn.functional.gelu(x, approximate="tanh"), and without it, in double. */
START_TEST(both_gelus)
{
    enum { COUNT = 5 };
    const float x[COUNT] = {-3, -1, 0, 0.5f, 2}, one = 1;
    static const double want[2][COUNT] = {
        {-0.0036373920817729943, -0.15880800939172324, 0, 0.34571400982514394, 1.954597694087775},
        {-0.004049694094890283, -0.15865525393145707, 0, 0.34573123063700656, 1.9544997361036416}};
    begin();
    for (int i = 0; i < 2; i++) {
        float y[COUNT], pre[COUNT];
        op_ref_matmul(ref,
            &(struct op_matmul){.m = 1,
                .n = COUNT,
                .k = 1,
                .a = &one,
                .b = x,
                .c = y,
                .lda = 1,
                .ldb = COUNT,
                .ldc = COUNT,
                .alpha = 1,
                .pre = pre,
                .act = i ? OP_ACT_GELU_ERF : OP_ACT_GELU});
        ck_assert_mem_eq(pre, x, sizeof x);
        for (int k = 0; k < COUNT; k++)
            ck_assert_double_eq_tol((double)y[k], want[i][k], 1e-7);
    }
    end();
}
END_TEST

/* What dropout keeps, and what it gives, is right on average; the gradient drops the same ones. */
START_TEST(dropout_keeps_the_mean)
{
    enum { COUNT = 100000 };
    begin();
    float *x = parity_space(&run, COUNT, DTYPE_F32), *y = parity_space(&run, COUNT, DTYPE_F32);
    double kept = 0, sum = 0;
    for (int i = 0; i < COUNT; i++) {
        x[i] = 1;
        y[i] = 2;
    }
    struct op_dropout a = {.count = COUNT, .x = x, .p = 0.3f, .seed = SEED};
    op_ref_dropout(ref, &a);
    a.x = y;
    op_ref_dropout(ref, &a);
    for (int i = 0; i < COUNT; i++) {
        kept += x[i] != 0;
        sum += x[i];
        ck_assert(y[i] == 2 * x[i]);
    }
    ck_assert_double_eq_tol(kept / COUNT, 0.7, 5e-3); /* 3.5 standard deviations */
    ck_assert_double_eq_tol(sum / COUNT, 1, 7e-3);
    a.seed++;
    op_ref_dropout(ref, &a);
    double both = 0;
    for (int i = 0; i < COUNT; i++)
        both += y[i] != 0;
    ck_assert_double_eq_tol(both / COUNT, 0.49, 6e-3); /* another seed: independent */
    end();
}
END_TEST

/* Of one sequence of random numbers, probabilities left out. */
static struct op_attention dropping(int64_t tokens, int64_t h, int64_t d)
{
    struct op_attention a = {
        .b = 1, .tokens = tokens, .h = h, .g = h, .d = d, .scale = 1, .bidirectional = true};
    int64_t count = tokens * h * d;
    a.ldq = a.ldk = a.ldv = h * d;
    a.q = parity_input(&run, count, DTYPE_F32, 1);
    a.k = parity_input(&run, count, DTYPE_F32, 1);
    a.v = parity_input(&run, count, DTYPE_F32, 1);
    a.o = parity_space(&run, count, DTYPE_F32);
    a.lse = parity_space(&run, tokens * h, DTYPE_F32);
    a.drop = (struct op_attention_drop){.p = 0.3f, .seed = SEED, .heads = h, .keys = tokens};
    return a;
}

/* What is left of the probabilities gives, on average over seeds, what all of them do, and of one
   seed something else; lse is that of all. */
START_TEST(dropped_probabilities_keep_the_mean)
{
    enum { T = 6, H = 2, D = 3, COUNT = T * H * D, SEEDS = 20000 };
    double mean[COUNT] = {0}, square[COUNT] = {0};
    begin();
    struct op_attention a = dropping(T, H, D);
    float *o = a.o, *lse = a.lse, whole[COUNT], whole_lse[T * H];
    for (int s = 0; s < SEEDS; s++, a.drop.seed = random_mix(a.drop.seed)) {
        op_ref_attention(ref, &a);
        for (int i = 0; i < COUNT; i++) {
            mean[i] += (double)o[i] / SEEDS;
            square[i] += (double)o[i] * (double)o[i] / SEEDS;
        }
    }
    memcpy(whole_lse, lse, sizeof whole_lse);
    memcpy(whole, o, sizeof whole);
    a.drop.p = 0;
    op_ref_attention(ref, &a);
    ck_assert_mem_eq(whole_lse, lse, sizeof whole_lse);
    ck_assert(memcmp(whole, o, sizeof whole) != 0);
    for (int i = 0; i < COUNT; i++) {
        double deviation = sqrt((square[i] - mean[i] * mean[i]) / SEEDS);
        ck_assert(deviation > 0);
        ck_assert_msg(fabs(mean[i] - (double)o[i]) < 5 * deviation, "%d: %g, %g of all, +- %g", i,
            mean[i], (double)o[i], deviation);
    }
    end();
}
END_TEST

/* Some heads of a layer, and some queries of a sequence, draw what they draw among all. */
START_TEST(shares_of_attention_drop_the_same)
{
    enum { T = 7, H = 4, D = 3, HEAD = 1, BEFORE = 3 };
    begin();
    struct op_attention a = dropping(T, H, D), heads, queries;
    a.bidirectional = false;
    op_ref_attention(ref, &a);
    heads = queries = a;
    heads.h = heads.g = 2;
    heads.q = (const float *)a.q + HEAD * D;
    heads.k = (const float *)a.k + HEAD * D;
    heads.v = (const float *)a.v + HEAD * D;
    heads.o = parity_space(&run, T * 2 * D, DTYPE_F32);
    heads.drop.seed = op_random_from(a.drop.seed, HEAD * T * T);
    op_ref_attention(ref, &heads);
    for (int i = 0; i < T * 2 * D; i++)
        ck_assert_float_eq(
            ((float *)heads.o)[i], ((float *)a.o)[(i / (2 * D) * H + HEAD) * D + i % (2 * D)]);
    queries.before = BEFORE;
    queries.tokens = T - BEFORE;
    queries.q = (const float *)a.q + BEFORE * a.ldq;
    queries.o = parity_space(&run, queries.tokens * H * D, DTYPE_F32);
    op_ref_attention(ref, &queries);
    for (int i = 0; i < queries.tokens * H * D; i++)
        ck_assert_float_eq(((float *)queries.o)[i], ((float *)a.o)[BEFORE * H * D + i]);
    end();
}
END_TEST

START_TEST(infinite_gradients_change_nothing)
{
    enum { COUNT = 5 };
    const float sums[] = {INFINITY, NAN};
    for (int i = 0; i < 2; i++) {
        float w[COUNT] = {1, 2, 3, 4, 5}, m[COUNT] = {0.5f}, v[COUNT] = {0.25f};
        float grad[COUNT] = {INFINITY, 1}, was[3][COUNT];
        uint16_t w16[COUNT] = {9, 8, 7, 6, 5}, was16[COUNT];
        memcpy(was[0], w, sizeof w);
        memcpy(was[1], m, sizeof m);
        memcpy(was[2], v, sizeof v);
        memcpy(was16, w16, sizeof w16);
        op_ref_adamw(ref,
            &(struct op_adamw){.count = COUNT,
                .w = w,
                .m = m,
                .v = v,
                .grad = grad,
                .w16 = w16,
                .lr = 1,
                .weight_decay = 1,
                .grad_scale = 1,
                .step = 1,
                .sumsq = &sums[i]});
        ck_assert_mem_eq(was[0], w, sizeof w);
        ck_assert_mem_eq(was[1], m, sizeof m);
        ck_assert_mem_eq(was[2], v, sizeof v);
        ck_assert_mem_eq(was16, w16, sizeof w16);
    }
}
END_TEST

START_TEST(infinite_gradients_leave_the_others_alone)
{
    const float bad = INFINITY, grad[6] = {INFINITY, 1};
    float x[5][6] = {{1, 2, 3, 4, 5, 6}, {1}, {2, 3}, {4, 5, 6}, {7}}, was[5][6];
    uint16_t w16[6] = {9, 8, 7, 6, 5, 4}, was16[6];
    memcpy(was, x, sizeof x);
    memcpy(was16, w16, sizeof w16);
    op_ref_sgd(ref,
        &(struct op_sgd){.count = 6,
            .w = x[0],
            .m = x[1],
            .grad = grad,
            .w16 = w16,
            .lr = 1,
            .momentum = 0.5f,
            .weight_decay = 1,
            .grad_scale = 1,
            .sumsq = &bad});
    op_ref_lion(ref,
        &(struct op_lion){.count = 6,
            .w = x[0],
            .m = x[1],
            .grad = grad,
            .w16 = w16,
            .lr = 1,
            .beta1 = 0.5f,
            .beta2 = 0.5f,
            .weight_decay = 1,
            .grad_scale = 1,
            .sumsq = &bad});
    op_ref_lion(ref,
        &(struct op_lion){.count = 6,
            .m = x[1],
            .grad = grad,
            .beta1 = 0.5f,
            .beta2 = 0.5f,
            .grad_scale = 1,
            .sumsq = &bad,
            .blend = x[4]});
    op_ref_adafactor(ref,
        &(struct op_adafactor){.rows = 2,
            .cols = 3,
            .w = x[0],
            .row = x[2],
            .col = x[3],
            .grad = grad,
            .w16 = w16,
            .lr = 1,
            .weight_decay = 1,
            .grad_scale = 1,
            .step = 1,
            .sumsq = &bad});
    ck_assert_mem_eq(was, x, sizeof x);
    ck_assert_mem_eq(was16, w16, sizeof w16);
}
END_TEST

/* Adafactor's first step of a matrix of rank one, by hand: the factors give the squares themselves,
   so u is the sign, its root mean square 1, and a weight moves by rate * max(EPS2, rms of w). */
START_TEST(adafactor_of_rank_one)
{
    const float grad[6] = {1, 2, -4, 0.5f, 1, -2};
    float w[6] = {3, 3, 3, 3, 3, 3}, row[2] = {0}, col[3] = {0};
    op_ref_adafactor(ref,
        &(struct op_adafactor){.rows = 2,
            .cols = 3,
            .w = w,
            .row = row,
            .col = col,
            .grad = grad,
            .lr = 0.1f,
            .weight_decay = 0.5f,
            .grad_scale = 1,
            .step = 1});
    ck_assert_double_eq_tol((double)row[0], 7, 1e-5);
    ck_assert_double_eq_tol((double)row[1], 1.75, 1e-5);
    ck_assert_double_eq_tol((double)col[2], 10, 1e-5);
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq_tol((double)w[i], 2.85 - (grad[i] > 0 ? 0.3 : -0.3), 1e-5);
    /* Without the gradient the means shrink by 2^-0.8, and nothing moves but by decay. */
    op_ref_adafactor(ref,
        &(struct op_adafactor){.rows = 2,
            .cols = 3,
            .w = w,
            .row = row,
            .col = col,
            .grad = (const float[6]){0},
            .lr = 0.1f,
            .grad_scale = 1,
            .step = 2});
    ck_assert_double_eq_tol((double)row[0], 7 * (1 - pow(2, -0.8)), 1e-5);
    ck_assert_double_eq_tol((double)w[0], 2.55, 1e-5);
    /* From step 100 on the rate of 0.1 is 1 / sqrt(step). */
    float v[3] = {3, 3, 3}, squares[3] = {1, 1, 1};
    op_ref_adafactor(ref,
        &(struct op_adafactor){.rows = 1,
            .cols = 3,
            .w = v,
            .col = squares,
            .grad = (const float[3]){1, 1, -1},
            .lr = 0.1f,
            .grad_scale = 1,
            .step = 400});
    ck_assert_double_eq_tol((double)v[0], 2.85, 1e-5);
    ck_assert_double_eq_tol((double)v[2], 3.15, 1e-5);
}
END_TEST

static int32_t draw(const float *logits, int64_t v, float temperature, float top_p, float u)
{
    int32_t token = -1;
    op_ref_sample(ref,
        &(struct op_sample){.n = 1,
            .v = v,
            .logits = logits,
            .temperature = &temperature,
            .top_p = &top_p,
            .u = &u,
            .token = &token});
    return token;
}

/* Probabilities 0.4, 0.3, 0.1, 0.1, 0.1 at temperature 1, stored as 1, 3, 0, 2, 4. */
START_TEST(drawn_tokens)
{
    const float logits[] = {logf(0.1f), logf(0.4f), logf(0.1f), logf(0.3f), logf(0.1f)};
    begin();
    ck_assert_int_eq(draw(logits, 5, 0, 0.1f, 0.99f), 1); /* greedy */
    /* The whole distribution, in the order of the index: 0.1, 0.5, 0.6, 0.9, 1. */
    static const float whole[] = {0, 0.09f, 0.11f, 0.49f, 0.51f, 0.61f, 0.89f, 0.91f, 0.9999f};
    static const int32_t whole_token[] = {0, 0, 1, 1, 2, 3, 3, 4, 4};
    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(draw(logits, 5, 1, 1, whole[i]), whole_token[i]);
    /* The nucleus of 0.75 is 1, 3 and the first of the equals: 0.4, 0.7, 0.8 of 0.8. */
    static const float nucleus[] = {0, 0.49f, 0.51f, 0.87f, 0.88f, 0.9999f};
    static const int32_t nucleus_token[] = {1, 1, 3, 3, 0, 0};
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(draw(logits, 5, 1, 0.75f, nucleus[i]), nucleus_token[i]);
    ck_assert_int_eq(draw(logits, 5, 1, 0.01f, 0.9999f), 1);
    /* At half the temperature probabilities go by their squares: 0.16, 0.09 and 0.01 of 0.28. */
    ck_assert_int_eq(draw(logits, 5, 0.5f, 0.99f, 0.56f), 1);
    ck_assert_int_eq(draw(logits, 5, 0.5f, 0.99f, 0.58f), 3);
    /* No number: some token all the same. */
    const float none[] = {1, NAN, 2}, all[] = {NAN, NAN, NAN};
    for (int i = 0; i < 2; i++) {
        int32_t a = draw(none, 3, 1, i ? 1 : 0.5f, 0.9f);
        int32_t b = draw(all, 3, 1, i ? 1 : 0.5f, 0.9f);
        ck_assert(a >= 0 && a < 3 && b >= 0 && b < 3);
    }
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {vocabulary_in_parts, cache_in_pages, rows_in_groups,
        frequencies_are_scaled, both_gelus, dropout_keeps_the_mean,
        dropped_probabilities_keep_the_mean, shares_of_attention_drop_the_same,
        infinite_gradients_change_nothing, infinite_gradients_leave_the_others_alone,
        adafactor_of_rank_one, drawn_tokens, NULL};
    return unit_run("ref", tests);
}
