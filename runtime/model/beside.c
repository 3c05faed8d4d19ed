/*
 * beside: a table of what each adapter has of each matrix, and one block of device memory that all
 * of it is cut from by the walk that counted it.
 */
#include "runtime/model/beside.h"

#include "base/mem.h"
#include "runtime/model/carve.h"

#include <assert.h>

struct adapted {               /* of one matrix (rows, in) */
    struct beside_shape shape; /* rank 0: it is as the model has it */
    int64_t rows, in;
    float *a, *b, *gain; /* as in beside_values, on the device; once it is open */
};

struct beside {
    struct dev *dev; /* NULL: not open */
    struct model_config config;
    int adapters;
    struct adapted *place; /* (adapters, L, LINEARS, LINEAR_PIECES) */
    struct carve memory;
};

static int64_t places_of_one(const struct beside *b)
{
    return b->config.layers * LINEARS * LINEAR_PIECES;
}

static struct adapted *place_at(
    const struct beside *b, int adapter, enum linear_kind kind, int64_t layer, int i)
{
    return b->place + adapter * places_of_one(b) + (layer * LINEARS + kind) * LINEAR_PIECES + i;
}

/* -- life -- */

int beside_create(const struct model_config *c, int adapters, struct beside **out, struct err *e)
{
    struct beside *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for adapters");
    *b = (struct beside){.config = *c, .adapters = adapters};
    b->place = mem_array((size_t)(adapters * places_of_one(b)), sizeof *b->place);
    if (!b->place) {
        beside_destroy(b);
        return err_set(e, ERR_MEMORY, "no memory for a table of %d adapters", adapters);
    }
    *out = b;
    return 0;
}

void beside_destroy(struct beside *b)
{
    if (!b)
        return;
    if (b->dev)
        carve_close(&b->memory, b->dev);
    mem_free(b->place);
    mem_free(b);
}

/* NULL: it is no matrix of a layer that every token goes through. */
static struct adapted *find_place(const struct beside *b, int adapter, const struct tensor *t)
{
    if (t->part != TENSOR_WEIGHT || t->dims != 2 || t->layer < 0)
        return NULL;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(&b->config, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (s.role[i] == t->role && s.rows[i] == t->shape[0] && s.in == t->shape[1])
                return place_at(b, adapter, k, t->layer, i);
    }
    return NULL;
}

/* Counts, or cuts. */
static void carve_place(struct adapted *p, struct carve *c)
{
    if (!p->shape.rank)
        return;
    p->a = carve_tensor(c, p->shape.rank, p->in, DTYPE_F32);
    p->b = carve_tensor(c, p->rows, p->shape.rank, DTYPE_F32);
    p->gain = p->shape.gains ? carve_tensor(c, p->rows, 1, DTYPE_F32) : NULL;
}

int beside_describe(struct beside *b, int adapter, const struct tensor *t,
    const struct beside_shape *s, struct err *e)
{
    struct adapted *p = find_place(b, adapter, t);
    assert(!b->dev && s->rank >= 1);
    if (!p)
        return err_set(
            e, ERR_DATA, "%s: what is served has adapters of dense matrices of layers", t->name);
    *p = (struct adapted){.shape = *s, .rows = t->shape[0], .in = t->shape[1]};
    return 0;
}

int beside_count(const struct beside *b)
{
    return b ? b->adapters : 0;
}

int64_t beside_bytes(const struct beside *b)
{
    struct carve c = {0};
    for (int64_t i = 0; b && i < b->adapters * places_of_one(b); i++) {
        struct adapted counted = b->place[i];
        carve_place(&counted, &c);
    }
    return c.size;
}

int64_t beside_rank(const struct beside *b)
{
    int64_t most = 0;
    for (int64_t i = 0; b && i < b->adapters * places_of_one(b); i++)
        most = b->place[i].shape.rank > most ? b->place[i].shape.rank : most;
    return most;
}

int beside_open(struct beside *b, struct dev *d, struct err *e)
{
    assert(!b->dev);
    b->memory = (struct carve){.size = beside_bytes(b)};
    int rc = carve_open(&b->memory, d, e);
    if (rc)
        return rc;
    b->dev = d;
    for (int64_t i = 0; i < b->adapters * places_of_one(b); i++)
        carve_place(&b->place[i], &b->memory);
    return 0;
}

int beside_put(struct beside *b, int adapter, const struct tensor *t, const struct beside_shape *s,
    const struct beside_values *v, struct err *e)
{
    struct adapted *p = find_place(b, adapter, t);
    assert(b->dev);
    if (!p || p->shape.rank != s->rank || p->shape.gains != s->gains)
        return err_set(e, ERR_DATA, "%s: the adapter changed while it was read", t->name);
    p->shape.scale = s->scale;
    dev_upload(b->dev, p->a, v->a, (size_t)(s->rank * p->in) * sizeof(float));
    dev_upload(b->dev, p->b, v->b, (size_t)(p->rows * s->rank) * sizeof(float));
    if (p->gain)
        dev_upload(b->dev, p->gain, v->gain, (size_t)p->rows * sizeof(float));
    return 0;
}

/* -- products -- */

/* y (m, n) = x (m, k) times w (n, k) */
static void multiply(const struct batch *s, int64_t m, int64_t n, int64_t k, const float *x,
    const float *w, float *y)
{
    OP(s, quant_matmul, .m = m, .n = n, .k = k, .x = x, .w = w, .w_type = DTYPE_F32, .y = y);
}

static void forward_place(
    const struct batch *s, const struct adapted *p, int64_t n, const float *x, float *y)
{
    multiply(s, n, p->shape.rank, p->in, x, p->a, s->beside_u);             /* (n, in) -> (n, r) */
    multiply(s, n, p->rows, p->shape.rank, s->beside_u, p->b, s->beside_v); /* -> (n, rows) */
    OP(s, axpby, .count = n * p->rows, .x = s->beside_v, .x_type = DTYPE_F32, .y = y,
        .y_type = DTYPE_F32, .a = p->shape.scale, .b = 1);
    if (p->gain)
        OP(s, scale, .n = n, .c = p->rows, .x = y, .w = p->gain, .y = y, .t = DTYPE_F32);
}

void beside_forward(const struct batch *s, enum linear_kind kind, int64_t layer, int i,
    const struct linear_shape *shape, const float *x, float *y)
{
    for (int k = 0; k < s->groups; k++) {
        const struct beside_group *g = &s->group[k];
        const struct adapted *p = place_at(s->beside, g->adapter, kind, layer, i);
        if (p->shape.rank)
            forward_place(s, p, g->rows, x + g->row * shape->in, y + g->row * shape->rows[i]);
    }
}
