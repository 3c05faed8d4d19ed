/*
 * Goal: the joined products of several adapters are those of each alone, as peft defines them, and
 * targets are checked. Method: plain loops in double for y, du, dA, dB, dx against lora_forward and
 * lora_backward; merging; tables of factors. (Gradients against the loss and against peft:
 * test_pass, test_model.)
 */
#include "runtime/model/lora.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define N   5
#define IN  7
#define OUT 11 /* rows 0-3 free, 4-6 adapted, 7-10 adapted */
#define R   2

static const int first[2] = {4, 7}, rows[2] = {3, 4};
static struct err e;

struct numbers {
    float x[N][IN], dy[N][OUT], y[N][OUT], dx[N][IN], u[N][2 * R], du[N][2 * R];
    float a[2 * R][IN], b[2][4][R], da[2 * R][IN], db[2][4][R];
};

static void fill(struct numbers *s)
{
    uint64_t seed = 3;

    for (size_t i = 0; i < sizeof *s / sizeof(float); i++)
        ((float *)s)[i] = (float)tiny_random(&seed);
}

/* The definition, in double, onto copies of what the outputs held before. */
static void by_definition(struct numbers *s, float scale)
{
    for (int k = 0; k < 2; k++)
        for (int n = 0; n < N; n++)
            for (int r = 0; r < R; r++) {
                double u = 0, du = 0;

                for (int i = 0; i < IN; i++)
                    u += (double)s->x[n][i] * (double)s->a[k * R + r][i];
                for (int o = 0; o < rows[k]; o++)
                    du += (double)scale * (double)s->dy[n][first[k] + o] * (double)s->b[k][o][r];
                for (int o = 0; o < rows[k]; o++) {
                    s->y[n][first[k] + o] += (float)((double)scale * u * (double)s->b[k][o][r]);
                    s->db[k][o][r] += (float)((double)scale * u * (double)s->dy[n][first[k] + o]);
                }
                for (int i = 0; i < IN; i++) {
                    s->da[k * R + r][i] += (float)(du * (double)s->x[n][i]);
                    s->dx[n][i] += (float)(du * (double)s->a[k * R + r][i]);
                }
            }
}

static void near(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_float_eq_tol(a[i], b[i], 1e-5f);
}

START_TEST(products_follow_the_definition)
{
    static struct numbers want, got;
    struct lora l = {.count = 2, .in = IN, .out = OUT, .r = R, .rank = 2 * R, .scale = 1.5f};
    struct batch s = {.n = N, .t = DTYPE_F32};

    ck_assert(!dev_open("cpu", 0, 1, &s.dev, &e));
    fill(&want);
    got = want;
    by_definition(&want, 1.5f);
    l.a = got.a;
    l.da = &got.da[0][0];
    l.u = got.u;
    for (int k = 0; k < 2; k++)
        l.factor[k] = (struct lora_factor){first[k], rows[k], got.b[k], &got.db[k][0][0]};
    l.du = got.du;
    lora_forward(&s, &l, got.x, got.y, false);
    lora_backward(&s, &l, got.x, got.dy, got.dx);
    ck_assert_msg(!dev_sync(s.dev, &e), "%s", e.text);
    near(&want.y[0][0], &got.y[0][0], N * OUT);
    near(&want.da[0][0], &got.da[0][0], 2 * R * IN);
    near(&want.db[0][0][0], &got.db[0][0][0], 2 * 4 * R);
    near(&want.dx[0][0], &got.dx[0][0], N * IN);
    dev_close(s.dev);
}
END_TEST

START_TEST(merged_is_the_same_product)
{
    static struct numbers s;
    float w[3][IN] = {{0}}, y;
    uint64_t seed = 9;

    fill(&s);
    for (int i = 0; i < 3 * IN; i++)
        (&w[0][0])[i] = (float)tiny_random(&seed);
    for (int o = 0; o < 3; o++) {
        float before[IN];

        memcpy(before, w[o], sizeof before);
        lora_merge(w[o], &s.a[0][0], s.b[0][o], 1, IN, R, 1.5f);
        for (int i = 0; i < IN; i++) {
            y = before[i];
            for (int r = 0; r < R; r++)
                y += 1.5f * s.b[0][o][r] * s.a[r][i];
            ck_assert_float_eq_tol(w[o][i], y, 1e-6f);
        }
    }
}
END_TEST

START_TEST(tables_join_what_shares_an_input)
{
    static const char *const targets[] = {"v_proj", "q_proj", "o_proj", NULL};
    struct model_conf c = {.config = tiny_config(true), .lora_rank = 4, .lora_targets = targets};
    struct tensors p = {0};

    ck_assert_msg(!lora_tensors(&c, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.count, 3 * 6);
    ck_assert_str_eq(p.at[0].name, "model.layers.0.self_attn.q_proj.lora_A.weight");
    ck_assert_str_eq(p.at[1].name, "model.layers.0.self_attn.v_proj.lora_A.weight");
    ck_assert_int_eq(p.at[1].offset, p.at[0].offset + p.at[0].count);
    ck_assert_int_eq(p.at[0].shape[0], 4);
    ck_assert_int_eq(p.at[0].shape[1], 24);
    ck_assert_str_eq(p.at[2].name, "model.layers.0.self_attn.q_proj.lora_B.weight");
    ck_assert_int_eq(p.at[2].shape[0], 48);
    ck_assert_int_eq(p.at[2].shape[1], 4);
    tensors_done(&p);
}
END_TEST

START_TEST(all_linear_is_every_matrix_of_a_layer)
{
    static const char *const all[] = {"all-linear", NULL};
    struct model_conf c = {.config = tiny_config(true), .lora_rank = 4, .lora_targets = all};
    struct tensors p = {0};

    ck_assert_msg(!lora_tensors(&c, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.count, c.config.layers * 7 * 2);
    tensors_done(&p);
    c.config.activation = ACTIVATION_GELU; /* has no gate */
    ck_assert_msg(!lora_tensors(&c, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.count, c.config.layers * 6 * 2);
    tensors_done(&p);
}
END_TEST

START_TEST(unknown_targets_are_refused)
{
    static const char *const wrong[] = {"q_proj", "query", NULL}, *const none[] = {NULL};
    struct model_conf c = {.config = tiny_config(true), .lora_rank = 4, .lora_targets = wrong};
    struct tensors p = {0};

    ck_assert_int_eq(lora_tensors(&c, &p, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "query"));
    c.lora_targets = none;
    ck_assert_int_eq(lora_tensors(&c, &p, &e), -ERR_USER);
    c.lora_targets = NULL;
    ck_assert_int_eq(lora_tensors(&c, &p, &e), -ERR_USER);
    ck_assert_ptr_null(p.at);
}
END_TEST

/* As to peft, all matrices are attention's there. */
START_TEST(experts_have_no_adapters)
{
    static const char *const inside[][3] = {{"q_proj", "up_proj"}, {"gate"}, {"down_proj"}};
    static const char *const all[] = {"all-linear", NULL};
    struct model_conf c = {.config = shape_of("tiny-mixtral"), .lora_rank = 4, .lora_targets = all};
    struct tensors p = {0};

    ck_assert_msg(!lora_tensors(&c, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.count, c.config.layers * 4 * 2);
    tensors_done(&p);
    for (int i = 0; i < 3; i++) {
        c.lora_targets = inside[i];
        ck_assert_int_eq(lora_tensors(&c, &p, &e), -ERR_USER);
        ck_assert_msg(strstr(e.text, "spec.train.lora.targets: ") &&
                strstr(e.text, inside[i][i ? 0 : 1]) && strstr(e.text, "is of experts"),
            "%s", e.text);
    }
}
END_TEST

UNIT_MAIN("lora", products_follow_the_definition, merged_is_the_same_product,
    tables_join_what_shares_an_input, all_linear_is_every_matrix_of_a_layer,
    unknown_targets_are_refused, experts_have_no_adapters)
