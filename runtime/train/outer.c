/*
 * outer: every rank computes the whole outer step, from the same sum, and so to the same bits. The
 * sum goes by way of the model's gradient, which lies where collectives reach it.
 */
#include "runtime/train/outer.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/model/carve.h"

struct outer {
    struct dev *dev;
    struct outer_conf conf;
    struct pass *pass;
    struct model *model;
    int64_t elements;
    struct carve memory;
    float *shared, *momentum; /* (elements): the weights of the last outer step, and its momentum */
};

static void carve_outer(struct outer *o)
{
    o->shared = carve_tensor(&o->memory, 1, o->elements, DTYPE_F32);
    o->momentum = carve_tensor(&o->memory, 1, o->elements, DTYPE_F32);
}

int64_t outer_bytes(int64_t elements)
{
    struct outer o = {.elements = elements};
    carve_outer(&o);
    return o.memory.size;
}

int outer_create(
    struct dev *d, const struct outer_conf *c, struct pass *p, struct outer **out, struct err *e)
{
    struct outer *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory for outer steps");
    *o = (struct outer){.dev = d, .conf = *c, .pass = p, .model = pass_model(p)};
    o->elements = model_trainable(o->model);
    carve_outer(o);
    int rc = carve_open(&o->memory, d, e);
    if (rc) {
        outer_destroy(o);
        return rc;
    }
    carve_outer(o);
    outer_begin(o);
    *out = o;
    return 0;
}

void outer_destroy(struct outer *o)
{
    if (!o)
        return;
    carve_close(&o->memory, o->dev);
    mem_free(o);
}

void outer_begin(struct outer *o)
{
    dev_copy(o->dev, o->shared, model_master(o->model), (size_t)o->elements * 4);
}

struct shard_extra outer_part(const struct outer *o)
{
    return (struct shard_extra){
        .suffix = ".outer_momentum", .at = o->momentum, .count = o->elements, .shared = true};
}

/* to = by * to + a * from */
static void blend(struct outer *o, double a, const float *from, double by, float *to)
{
    OP(o, axpby, .count = o->elements, .x = from, .x_type = DTYPE_F32, .y = to, .y_type = DTYPE_F32,
        .a = (float)a, .b = (float)by);
}

static int add_up(struct outer *o, float *g, struct err *e)
{
    const struct outer_conf *c = &o->conf;
    if (c->exchange)
        return exchange_reduce(c->exchange, g, e);
    int rc = coll_reduce_start(c->coll, g, o->elements, DTYPE_F32, COLL_SUM, e);
    if (!rc)
        coll_reduce_join(c->coll);
    return rc;
}

int outer_step(struct outer *o, struct err *e)
{
    const struct outer_conf *c = &o->conf;
    float *g = pass_gradient(o->pass), *w = model_master(o->model);
    int64_t bytes = o->elements * 4;
    dev_copy(o->dev, g, o->shared, (size_t)bytes);
    blend(o, -1, w, 1, g);
    int rc = add_up(o, g, e);
    if (rc)
        return rc;
    blend(o, 1.0 / c->ranks, g, c->momentum, o->momentum);
    blend(o, c->momentum, o->momentum, 1.0 / c->ranks, g);
    blend(o, -c->learning_rate, g, 1, o->shared);
    dev_copy(o->dev, w, o->shared, (size_t)bytes);
    model_master_changed(o->model);
    rc = c->exchange ? exchange_wait(c->exchange, e) : coll_reduce_wait(c->coll, e);
    return rc ? rc : dev_sync(o->dev, e);
}
