/*
 * beside: of each adapter a table of what it has of each matrix, and one block of device memory
 * that all of it, and what its products take between, is cut from by the walk that counted it.
 */
#include "runtime/model/beside.h"

#include "base/mem.h"
#include "runtime/model/carve.h"
#include "runtime/model/engine.h"

#include <assert.h>

struct adapted {               /* of one matrix (rows, in) */
    struct beside_shape shape; /* rank 0: it is as the model has it */
    float *a, *b, *gain; /* as in beside_values, on the device, of this rank; once it is open */
};

struct beside_adapter {
    struct adapted *place; /* (L, LINEARS, LINEAR_PIECES) of the whole model; NULL: not described */
    struct carve memory;
    float *u;        /* (ENGINE_ROWS, the greatest rank) between both products */
    struct dev *dev; /* NULL: not open */
};

struct beside {
    struct model_config config; /* the whole model's */
    int64_t limit_bytes;
    int adapters;
    struct beside_adapter *adapter; /* (adapters) */
};

static int64_t places_of(const struct model_config *whole)
{
    return whole->layers * LINEARS * LINEAR_PIECES;
}

static struct adapted *place_at(
    const struct beside_adapter *x, enum linear_kind kind, int64_t layer, int i)
{
    return x->place ? x->place + (layer * LINEARS + kind) * LINEAR_PIECES + i : NULL;
}

/* -- life -- */

int beside_create(const struct model_config *c, int adapters, int64_t limit_bytes,
    struct beside **out, struct err *e)
{
    struct beside *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for adapters");
    assert(!model_config_is_share(c));
    *b = (struct beside){.config = *c, .limit_bytes = limit_bytes, .adapters = adapters};
    b->adapter = mem_array((size_t)adapters, sizeof *b->adapter);
    if (!b->adapter) {
        beside_destroy(b);
        return err_set(e, ERR_MEMORY, "no memory for a table of %d adapters", adapters);
    }
    *out = b;
    return 0;
}

void beside_drop(struct beside *b, int adapter)
{
    struct beside_adapter *x = &b->adapter[adapter];
    if (x->dev)
        carve_close(&x->memory, x->dev);
    mem_free(x->place);
    *x = (struct beside_adapter){0};
}

void beside_destroy(struct beside *b)
{
    if (!b)
        return;
    for (int i = 0; b->adapter && i < b->adapters; i++)
        beside_drop(b, i);
    mem_free(b->adapter);
    mem_free(b);
}

/* Where a tensor of the model c stands in the table; false: it is no matrix of a layer that every
   token goes through. */
static bool find_place(
    const struct model_config *c, const struct tensor *t, enum linear_kind *kind, int *piece)
{
    if (t->part != TENSOR_WEIGHT || t->dims != 2 || t->layer < 0)
        return false;
    for (enum linear_kind k = 0; k < LINEARS; k++) {
        struct linear_shape s;
        linear_shape(c, k, &s);
        for (int i = 0; i < s.pieces; i++)
            if (s.role[i] == t->role && s.rows[i] == t->whole[0] && s.in == t->whole[1]) {
                *kind = k;
                *piece = i;
                return true;
            }
    }
    return false;
}

int beside_describe(struct beside *b, int adapter, const struct tensor *t,
    const struct beside_shape *s, struct err *e)
{
    struct beside_adapter *x = &b->adapter[adapter];
    enum linear_kind kind;
    int piece;
    assert(!x->dev && s->rank >= 1);
    if (!find_place(&b->config, t, &kind, &piece))
        return err_set(
            e, ERR_DATA, "%s: what is served has adapters of dense matrices of layers", t->name);
    if (!x->place)
        x->place = mem_array((size_t)places_of(&b->config), sizeof *x->place);
    if (!x->place)
        return err_set(e, ERR_MEMORY, "no memory for a table of matrices");
    *place_at(x, kind, t->layer, piece) = (struct adapted){.shape = *s};
    return 0;
}

int beside_count(const struct beside *b)
{
    return b ? b->adapters : 0;
}

static int64_t rank_of(const struct beside *b, const struct beside_adapter *x)
{
    int64_t most = 0;
    for (int64_t i = 0; x->place && i < places_of(&b->config); i++)
        most = x->place[i].shape.rank > most ? x->place[i].shape.rank : most;
    return most;
}

int64_t beside_rank(const struct beside *b)
{
    int64_t most = 0;
    for (int i = 0; i < beside_count(b); i++) {
        int64_t rank = rank_of(b, &b->adapter[i]);
        most = rank > most ? rank : most;
    }
    return most;
}

/* Counts, or cuts. */
static void carve_place(struct adapted *p, int64_t rows, int64_t in, struct carve *c)
{
    if (!p->shape.rank)
        return;
    p->a = carve_tensor(c, p->shape.rank, in, DTYPE_F32);
    p->b = carve_tensor(c, rows, p->shape.rank, DTYPE_F32);
    p->gain = p->shape.gains ? carve_tensor(c, rows, 1, DTYPE_F32) : NULL;
}

/* Of what a rank with the model c has; kept: the table learns of it. */
static void carve_adapter(const struct beside *b, struct beside_adapter *x,
    const struct model_config *c, bool kept, struct carve *to)
{
    if (!x->place)
        return;
    float *u = carve_tensor(to, ENGINE_ROWS, rank_of(b, x), DTYPE_F32);
    x->u = kept ? u : x->u;
    for (int64_t l = 0; l < c->layers; l++)
        for (enum linear_kind k = 0; k < LINEARS; k++) {
            struct linear_shape s;
            linear_shape(c, k, &s);
            for (int i = 0; i < s.pieces; i++) {
                struct adapted *p = place_at(x, k, model_config_layer(c, l), i), counted = *p;
                carve_place(kept ? p : &counted, s.rows[i], s.in, to);
            }
        }
}

int64_t beside_bytes_of(const struct beside *b, int adapter, const struct model_config *c)
{
    struct carve counted = {0};
    carve_adapter(b, &b->adapter[adapter], c, false, &counted);
    return counted.size;
}

int64_t beside_bytes(const struct beside *b, const struct model_config *c)
{
    int64_t sum = 0;
    for (int i = 0; i < beside_count(b); i++)
        sum = carve_plus(sum, beside_bytes_of(b, i, c));
    return b && b->limit_bytes ? b->limit_bytes : sum;
}

int beside_open(
    struct beside *b, int adapter, const struct model_config *c, struct dev *d, struct err *e)
{
    struct beside_adapter *x = &b->adapter[adapter];
    assert(!x->dev);
    x->memory = (struct carve){.size = beside_bytes_of(b, adapter, c)};
    int rc = carve_open(&x->memory, d, e);
    if (rc)
        return rc;
    x->dev = d;
    carve_adapter(b, x, c, true, &x->memory);
    return 0;
}

bool beside_is_open(const struct beside *b, int adapter)
{
    return b->adapter[adapter].dev;
}

/* Of A (rank, in of the whole) the columns of t. */
static void put_columns(
    struct dev *d, const struct tensor *t, int64_t rank, const float *whole, float *a)
{
    int64_t in = t->shape[1];
    if (in == t->whole[1]) {
        dev_upload(d, a, whole, (size_t)(rank * in) * sizeof *a);
        return;
    }
    for (int64_t r = 0; r < rank; r++)
        dev_upload(d, a + r * in, whole + r * t->whole[1] + t->begin[1], (size_t)in * sizeof *a);
}

int beside_put(struct beside *b, int adapter, const struct tensor *t, const struct beside_shape *s,
    const struct beside_values *v, struct err *e)
{
    struct beside_adapter *x = &b->adapter[adapter];
    enum linear_kind kind;
    int piece;
    assert(x->dev);
    bool known = find_place(&b->config, t, &kind, &piece);
    struct adapted *p = known ? place_at(x, kind, t->layer, piece) : NULL;
    if (!p || p->shape.rank != s->rank || p->shape.gains != s->gains)
        return err_set(e, ERR_DATA, "%s: the adapter changed while it was read", t->name);
    p->shape.scale = s->scale;
    int64_t first = t->begin[0], rows = t->shape[0];
    put_columns(x->dev, t, s->rank, v->a, p->a);
    dev_upload(x->dev, p->b, v->b + first * s->rank, (size_t)(rows * s->rank) * sizeof(float));
    if (p->gain)
        dev_upload(x->dev, p->gain, v->gain + first, (size_t)rows * sizeof(float));
    return 0;
}

/* -- products -- */

/* y (m, n) = x (m, k) times w (n, k) */
static void multiply(const struct batch *s, int64_t m, int64_t n, int64_t k, const float *x,
    const float *w, float *y)
{
    OP(s, quant_matmul, .m = m, .n = n, .k = k, .x = x, .w = w, .w_type = DTYPE_F32, .y = y);
}

/* Of n rows, and a matrix (rows, in). */
static void forward_place(const struct batch *s, const struct adapted *p, float *u, int64_t n,
    int64_t rows, int64_t in, const float *x, float *y)
{
    multiply(s, n, p->shape.rank, in, x, p->a, u);             /* (n, in) -> (n, r) */
    multiply(s, n, rows, p->shape.rank, u, p->b, s->beside_v); /* -> (n, rows) */
    OP(s, axpby, .count = n * rows, .x = s->beside_v, .x_type = DTYPE_F32, .y = y,
        .y_type = DTYPE_F32, .a = p->shape.scale, .b = 1);
    if (p->gain)
        OP(s, scale, .n = n, .c = rows, .x = y, .w = p->gain, .y = y, .t = DTYPE_F32);
}

void beside_forward(const struct batch *s, enum linear_kind kind, int64_t layer, int i,
    const struct linear_shape *shape, const float *x, float *y)
{
    int64_t rows = shape->rows[i], in = shape->in;
    for (int k = 0; k < s->groups; k++) {
        const struct beside_group *g = &s->group[k];
        const struct beside_adapter *a = &s->beside->adapter[g->adapter];
        const struct adapted *p = place_at(a, kind, layer, i);
        if (p && p->shape.rank)
            forward_place(s, p, a->u, g->rows, rows, in, x + g->row * in, y + g->row * rows);
    }
}
