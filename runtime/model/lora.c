/*
 * lora: the products of low-rank adapters over joined matrices, forward, backward and merged. All
 * tensors are device memory, except in lora_merge. Must not touch gradients of the frozen weight:
 * that is what makes it cheap.
 */
#include "runtime/model/lora.h"

#include "runtime/model/gemm.h"

#include <math.h>

/* peft's word for every matrix of the layers; those of experts are none of its kind. */
#define ALL_LINEAR "all-linear"

static bool is_target(const struct model_conf *c, enum tensor_role role)
{
    for (const char *const *t = c->lora_targets; t && *t; t++)
        if (!strcmp(*t, tensor_short_name(role)) || !strcmp(*t, ALL_LINEAR))
            return true;
    return false;
}

static bool names_matrix(const struct model_config *c, const char *target)
{
    if (!strcmp(target, ALL_LINEAR))
        return true;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(c, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (!strcmp(tensor_short_name(s.role[i]), target))
                return true;
    }
    return false;
}

static bool names_expert(const struct model_config *c, const char *target)
{
    for (enum tensor_role r = TENSOR_ROUTER; r <= TENSOR_EXPERT_DOWN && c->experts; r++)
        if (!strcmp(tensor_short_name(r), target))
            return true;
    return false;
}

static int check_targets(const struct model_conf *c, struct err *e)
{
    if (!c->lora_targets || !*c->lora_targets)
        return err_set(e, ERR_USER, "spec.train.lora.targets: no matrix is named");
    for (const char *const *t = c->lora_targets; *t; t++) {
        if (names_expert(&c->config, *t))
            return err_set(e, ERR_USER,
                "spec.train.lora.targets: %s is of experts, which adapters are not supported for; "
                "q_proj, k_proj, v_proj and o_proj can be named",
                *t);
        if (!names_matrix(&c->config, *t))
            return err_set(e, ERR_USER,
                "spec.train.lora.targets: %s is no matrix of this model (q_proj, k_proj, v_proj, "
                "o_proj, %sup_proj, down_proj)",
                *t, c->config.activation == ACTIVATION_SWIGLU ? "gate_proj, " : "");
    }
    return 0;
}

/* The A's (part) of one joined matrix, or its B's. */
static int add_factors(struct tensors *t, const struct model_conf *c, enum tensor_part part,
    int layer, enum linear_kind kind, struct err *e)
{
    struct linear_shape s;
    linear_shape(&c->config, kind, &s);
    bool joined = false;
    for (int i = 0; i < s.pieces; i++) {
        if (!is_target(c, s.role[i]))
            continue;
        struct tensor x = {
            .role = s.role[i], .part = part, .layer = layer, .expert = -1, .dims = 2};
        x.shape[0] = part == TENSOR_LORA_A ? c->lora_rank : s.rows[i];
        x.shape[1] = part == TENSOR_LORA_A ? s.in : c->lora_rank;
        int rc = tensors_add(t, &c->config, &x, joined, e);
        if (rc)
            return rc;
        joined = true;
    }
    return 0;
}

/* Vectors of `part` beside each target's factors, singular values of joined matrices one behind the
   other. All stand behind the matrices. */
static int add_vectors(
    struct tensors *t, const struct model_conf *c, enum tensor_part part, struct err *e)
{
    for (int64_t n = 0; n < c->config.layers; n++)
        for (enum linear_kind k = 0; k < LINEARS; k++) {
            int l = (int)model_config_layer(&c->config, n);
            struct linear_shape s;
            bool joined = false;
            linear_shape(&c->config, k, &s);
            for (int i = 0; i < s.pieces; i++) {
                struct tensor x = {
                    .role = s.role[i], .part = part, .layer = l, .expert = -1, .dims = 1};
                x.shape[0] = part == TENSOR_LORA_E ? c->lora_rank : s.rows[i];
                x.shape[1] = 1;
                if (!is_target(c, s.role[i]))
                    continue;
                int rc = tensors_add(t, &c->config, &x, joined, e);
                if (rc)
                    return rc;
                joined = part == TENSOR_LORA_E;
            }
        }
    return 0;
}

static int check_dora(const struct model_conf *c, struct err *e)
{
    if (!c->lora_dora || c->config.activation == ACTIVATION_SWIGLU)
        return 0;
    return err_set(e, ERR_USER,
        "spec.train.lora.dora: not of a %s: only of models with SwiGLU (llama, mistral, qwen2, "
        "qwen3)",
        c->config.architecture);
}

int lora_tensors(const struct model_conf *c, struct tensors *out, struct err *e)
{
    struct tensors t = {0};
    int rc = check_targets(c, e);
    rc = rc ? rc : check_dora(c, e);
    for (int64_t n = 0; n < c->config.layers && !rc; n++)
        for (enum linear_kind k = 0; k < LINEARS; k++) {
            int l = (int)model_config_layer(&c->config, n);
            if ((rc = add_factors(&t, c, TENSOR_LORA_A, l, k, e)) ||
                (rc = add_factors(&t, c, TENSOR_LORA_B, l, k, e)))
                break;
        }
    /* A classifier begins as nothing that factors could adapt: it is trained itself, as peft does
       (modules_to_save). */
    if (rc || (rc = tensors_add_classifier(&t, &c->config, e)) ||
        (c->lora_adaptive && (rc = add_vectors(&t, c, TENSOR_LORA_E, e))) ||
        (c->lora_dora && (rc = add_vectors(&t, c, TENSOR_LORA_M, e))) ||
        (rc = tensors_seal(&t, &c->config, e))) {
        tensors_done(&t);
        return rc;
    }
    *out = t;
    return 0;
}

float lora_adaptive_scale(double alpha, double rank)
{
    return (float)((alpha > 0 ? alpha : rank) / (rank + 1e-5));
}

float lora_scale(const struct model_conf *c)
{
    float r = (float)c->lora_rank;
    if (c->lora_adaptive)
        return lora_adaptive_scale((double)c->lora_alpha, (double)c->lora_rank);
    return c->lora_alpha / (c->lora_rank_stabilized ? sqrtf(r) : r);
}

uint64_t lora_seed(uint64_t seed, int64_t layer, enum linear_kind kind)
{
    uint64_t i = 2 * ((uint64_t)layer * LINEARS + kind);
    return (uint64_t)op_random(seed, i) << 32 | op_random(seed, i + 1);
}

void lora_carve(struct lora *l, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    if (!l->count)
        return;
    l->u = carve_tensor(kept, s->n, l->rank, s->t);
    l->du = carve_tensor(scratch, s->n, l->rank, s->t);
    if (l->adaptive)
        l->v = carve_tensor(scratch, s->n, l->rank, s->t);
    if (l->dropout > 0)
        l->dropped = carve_tensor(scratch, s->n, l->in, s->t);
}

/* -- products -- */

/* u (n, rank) = x (n, in) A^T */
static struct gemm gemm_of_a(const struct batch *s, const struct lora *l)
{
    return (struct gemm){.n = s->n,
        .in = l->in,
        .out = l->rank,
        .ldx = l->in,
        .ldy = l->rank,
        .t = s->t,
        .y_type = s->t,
        .scale = 1};
}

/* its rows of y (n, out) = scale * its columns of u (n, rank) B^T */
static struct gemm gemm_of_b(
    const struct batch *s, const struct lora *l, const struct lora_factor *f)
{
    return (struct gemm){.n = s->n,
        .in = l->r,
        .out = f->rows,
        .ldx = l->rank,
        .ldy = l->out,
        .t = s->t,
        .y_type = s->t,
        .scale = l->scale};
}

static bool drops(const struct batch *s, const struct lora *l)
{
    return s->drops && l->dropout > 0;
}

/* Leaves out of l->dropped (n, in) what is left out of these rows. */
static void leave_out(const struct batch *s, const struct lora *l)
{
    OP(s, dropout, .count = s->n * l->in, .x = l->dropped, .p = l->dropout,
        .seed = op_random_from(l->seed, (uint64_t)(s->first * l->in)), .t = s->t);
}

/* What A multiplies: x, or what dropout leaves of it. */
static const void *input_of_a(const struct batch *s, const struct lora *l, const void *x)
{
    if (!drops(s, l))
        return x;
    dev_copy(s->dev, l->dropped, x, (size_t)(s->n * l->in * dtype_block_bytes(s->t)));
    leave_out(s, l);
    return l->dropped;
}

void lora_project(const struct batch *s, const struct lora *l, const void *x)
{
    if (!l->count)
        return;
    struct gemm a = gemm_of_a(s, l);
    gemm_forward(s, &a, input_of_a(s, l, x), l->a, l->u);
}

/* to (n, rank) = from * E */
static void apply_values(const struct batch *s, const struct lora *l, const void *from, void *to)
{
    OP(s, scale, .n = s->n, .c = l->rank, .x = from, .w = l->e, .y = to, .t = s->t);
}

/* What the B's multiply. */
static const void *input_of_b(const struct batch *s, const struct lora *l)
{
    if (!l->adaptive)
        return l->u;
    apply_values(s, l, l->u, l->v);
    return l->v;
}

void lora_forward(const struct batch *s, const struct lora *l, const void *x, void *y, bool set)
{
    lora_project(s, l, x);
    const void *v = input_of_b(s, l);
    for (int i = 0; i < l->count; i++) {
        const struct lora_factor *f = &l->factor[i];
        struct gemm b = gemm_of_b(s, l, f);
        b.add = !set;
        gemm_forward(s, &b, at_element(v, i * l->r, s->t), f->b, at_element(y, f->row, s->t));
    }
}

void lora_backward(
    const struct batch *s, const struct lora *l, const void *x, const void *dy, void *dx)
{
    if (!l->count)
        return;
    const void *v = input_of_b(s, l);
    for (int i = 0; i < l->count; i++) {
        const struct lora_factor *f = &l->factor[i];
        const void *dy_i = at_element(dy, f->row, s->t), *v_i = at_element(v, i * l->r, s->t);
        struct gemm b = gemm_of_b(s, l, f);
        gemm_dx(s, &b, dy_i, f->b, at_element(l->du, i * l->r, s->t));
        gemm_dw(s, &b, dy_i, v_i, f->db);
    }
    if (l->adaptive) { /* du holds dv so far */
        OP(s, bias_back, .n = s->n, .c = l->rank, .ld = l->rank, .dy = l->du, .x = l->u,
            .dbias = l->de, .t = s->t);
        apply_values(s, l, l->du, l->du);
    }
    struct gemm a = gemm_of_a(s, l);
    gemm_dw(s, &a, l->du, input_of_a(s, l, x), l->da);
    if (!dx)
        return;
    a.add = !drops(s, l);
    gemm_dx(s, &a, l->du, l->a, a.add ? dx : l->dropped);
    if (a.add)
        return;
    leave_out(s, l); /* the gradient passes where the input did */
    OP(s, axpby, .count = s->n * l->in, .x = l->dropped, .x_type = s->t, .y = dx, .y_type = s->t,
        .a = 1, .b = 1);
}

void lora_merge(
    float *w, const float *a, const float *b, int64_t out, int64_t in, int64_t r, float scale)
{
    for (int64_t o = 0; o < out; o++)
        for (int64_t j = 0; j < r; j++) {
            float f = scale * b[o * r + j];

            for (int64_t i = 0; i < in; i++)
                w[o * in + i] += f * a[j * in + i];
        }
}

void lora_apply_values(float *a, const float *e, int64_t r, int64_t in)
{
    for (int64_t j = 0; j < r; j++)
        for (int64_t i = 0; i < in; i++)
            a[j * in + i] *= e[j];
}
