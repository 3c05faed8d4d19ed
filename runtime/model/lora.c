/*
 * lora: the products of low-rank adapters over joined matrices, forward, backward and merged. All
 * tensors are device memory, except in lora_merge. Must not touch gradients of the frozen weight:
 * that is what makes it cheap.
 */
#include "runtime/model/lora.h"

#include "kernels/ops.h"

bool lora_targets(const struct model_conf *c, enum tensor_role role)
{
    for (const char *const *t = c->lora_targets; t && *t; t++)
        if (!strcmp(*t, tensor_short_name(role)))
            return true;
    return false;
}

static bool names_matrix(const struct model_config *c, const char *target)
{
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(c, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (!strcmp(tensor_short_name(s.role[i]), target))
                return true;
    }
    return false;
}

static int check_targets(const struct model_conf *c, struct err *e)
{
    if (!c->lora_targets || !*c->lora_targets)
        return err_set(e, ERR_USER, "spec.train.lora.targets: no matrix is named");
    for (const char *const *t = c->lora_targets; *t; t++)
        if (!names_matrix(&c->config, *t))
            return err_set(e, ERR_USER,
                "spec.train.lora.targets: %s is no matrix of this model (q_proj, k_proj, v_proj, "
                "o_proj, %sup_proj, down_proj)",
                *t, c->config.activation == ACTIVATION_SWIGLU ? "gate_proj, " : "");
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
        if (!lora_targets(c, s.role[i]))
            continue;
        struct tensor x = {
            .role = s.role[i], .part = part, .layer = layer, .expert = -1, .dims = 2};
        x.shape[0] = part == TENSOR_LORA_A ? c->lora_rank : s.rows[i];
        x.shape[1] = part == TENSOR_LORA_A ? s.in : c->lora_rank;
        int rc = tensors_add(t, &x, joined, e);
        if (rc)
            return rc;
        joined = true;
    }
    return 0;
}

int lora_tensors(const struct model_conf *c, struct tensors *out, struct err *e)
{
    struct tensors t = {0};
    int rc = check_targets(c, e);
    for (int l = 0; l < c->config.layers && !rc; l++)
        for (enum linear_kind k = 0; k < LINEARS && !rc; k++) {
            rc = add_factors(&t, c, TENSOR_LORA_A, l, k, e);
            if (!rc)
                rc = add_factors(&t, c, TENSOR_LORA_B, l, k, e);
        }
    if (!rc)
        rc = tensors_seal(&t, e);
    if (rc) {
        tensors_done(&t);
        return rc;
    }
    *out = t;
    return 0;
}

int64_t lora_rank_sum(const struct model_conf *c)
{
    int64_t sum = 0;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(&c->config, k, &s);
        for (int i = 0; i < s.pieces; i++)
            sum += lora_targets(c, s.role[i]) ? c->lora_rank : 0;
    }
    return sum;
}

int64_t lora_dropped_columns(const struct model_conf *c)
{
    int64_t columns = 0;
    if (!c->lora_rank || c->lora_dropout <= 0)
        return 0;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(&c->config, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (lora_targets(c, s.role[i]) && s.in > columns)
                columns = s.in;
    }
    return columns;
}

uint64_t lora_seed(uint64_t seed, int64_t layer, enum linear_kind kind)
{
    uint64_t i = 2 * ((uint64_t)layer * LINEARS + kind);

    return (uint64_t)op_random(seed, i) << 32 | op_random(seed, i + 1);
}

static void *element(void *p, int64_t index, enum dtype t)
{
    return (char *)p + index * dtype_block_bytes(t);
}

/* Leaves out of io->dropped (n, in) what is left out of these rows. */
static void leave_out(struct dev *d, const struct lora *l, const struct lora_io *io)
{
    uint64_t seed = op_random_from(l->seed, (uint64_t)(io->first * io->in));

    dev_ops(d)->dropout(d,
        &(struct op_dropout){
            .count = io->n * io->in, .x = io->dropped, .p = l->dropout, .seed = seed, .t = io->t});
}

/* What A multiplies: x, or what dropout leaves of it. */
static const void *input(struct dev *d, const struct lora *l, const struct lora_io *io)
{
    if (!io->dropped)
        return io->x;
    dev_copy(d, io->dropped, io->x, (size_t)(io->n * io->in * dtype_block_bytes(io->t)));
    leave_out(d, l, io);
    return io->dropped;
}

void lora_project(struct dev *d, const struct lora *l, const struct lora_io *io)
{
    if (l->count)
        dev_ops(d)->matmul(d,
            &(struct op_matmul){.m = io->n,
                .n = l->rank,
                .k = io->in,
                .a = input(d, l, io),
                .b = l->a,
                .c = l->u,
                .lda = io->in,
                .ldb = io->in,
                .ldc = l->rank,
                .tb = true,
                .ab_type = io->t,
                .c_type = io->t,
                .alpha = 1});
}

void lora_forward(struct dev *d, const struct lora *l, const struct lora_io *io)
{
    const struct ops *ops = dev_ops(d);

    lora_project(d, l, io);
    for (int i = 0; i < l->count; i++) {
        const struct lora_factor *f = &l->factor[i];

        ops->matmul(d,
            &(struct op_matmul){.m = io->n,
                .n = f->rows,
                .k = l->r,
                .a = element(l->u, i * l->r, io->t),
                .b = f->b,
                .c = element(io->y, f->row, io->t),
                .lda = l->rank,
                .ldb = l->r,
                .ldc = io->out,
                .tb = true,
                .ab_type = io->t,
                .c_type = io->t,
                .alpha = l->scale,
                .beta = io->set ? 0 : 1});
    }
}

static void backward_factor(struct dev *d, const struct lora *l, int i, const struct lora_io *io)
{
    const struct lora_factor *f = &l->factor[i];
    const struct ops *ops = dev_ops(d);
    struct op_matmul du = {.m = io->n,
        .n = l->r,
        .k = f->rows,
        .a = element((void *)io->dy, f->row, io->t),
        .b = f->b,
        .c = element(io->du, i * l->r, io->t),
        .lda = io->out,
        .ldb = l->r,
        .ldc = l->rank,
        .ab_type = io->t,
        .c_type = io->t,
        .alpha = l->scale};
    struct op_matmul db = {.m = f->rows,
        .n = l->r,
        .k = io->n,
        .a = du.a,
        .b = element(l->u, i * l->r, io->t),
        .c = f->db,
        .lda = io->out,
        .ldb = l->rank,
        .ldc = l->r,
        .ta = true,
        .ab_type = io->t,
        .c_type = DTYPE_F32,
        .alpha = l->scale,
        .beta = 1};

    ops->matmul(d, &du);
    ops->matmul(d, &db);
}

void lora_backward(struct dev *d, const struct lora *l, const struct lora_io *io)
{
    const struct ops *ops = dev_ops(d);

    if (!l->count)
        return;
    for (int i = 0; i < l->count; i++)
        backward_factor(d, l, i, io);
    ops->matmul(d,
        &(struct op_matmul){.m = l->rank,
            .n = io->in,
            .k = io->n,
            .a = io->du,
            .b = input(d, l, io),
            .c = l->da,
            .lda = l->rank,
            .ldb = io->in,
            .ldc = io->in,
            .ta = true,
            .ab_type = io->t,
            .c_type = DTYPE_F32,
            .alpha = 1,
            .beta = 1});
    if (!io->dx)
        return;
    /* dx through dropout: made where the dropped input was */
    ops->matmul(d,
        &(struct op_matmul){.m = io->n,
            .n = io->in,
            .k = l->rank,
            .a = io->du,
            .b = l->a,
            .c = io->dropped ? io->dropped : io->dx,
            .lda = l->rank,
            .ldb = io->in,
            .ldc = io->in,
            .ab_type = io->t,
            .c_type = io->t,
            .alpha = 1,
            .beta = io->dropped ? 0 : 1});
    if (!io->dropped)
        return;
    leave_out(d, l, io);
    ops->axpby(d,
        &(struct op_axpby){.count = io->n * io->in,
            .x = io->dropped,
            .x_type = io->t,
            .y = io->dx,
            .y_type = io->t,
            .a = 1,
            .b = 1});
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
