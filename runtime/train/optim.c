/*
 * optim: the update of one step. The table of tensors puts matrices before vectors, so decay is one
 * run of the flat range and no decay another; gaps between tensors hold zeros, which AdamW keeps.
 * Allocates at create only.
 */
#include "runtime/train/optim.h"

#include "base/mem.h"
#include "kernels/ops.h"

#include <math.h>

struct optim {
    struct dev *dev;
    struct optim_conf conf;
    struct pass *pass;
    struct model *model;
    float *m, *v;
    float *sum;      /* (PASS_AHEAD), device: squares of the gradient, by step */
    int64_t decayed; /* elements [0, decayed) decay */
};

double optim_rate(const struct optim_conf *c, int64_t step)
{
    if (step <= c->warmup_steps)
        return c->learning_rate * (double)step / (double)c->warmup_steps;
    if (c->schedule == SCHEDULE_CONSTANT || c->steps <= c->warmup_steps)
        return c->learning_rate;
    double left = 1 - (double)(step - 1 - c->warmup_steps) / (double)(c->steps - c->warmup_steps);
    left = left < 0 ? 0 : left;
    return c->learning_rate *
        (c->schedule == SCHEDULE_LINEAR ? left : 0.5 * (1 - cos(M_PI * left)));
}

static int find_decayed(struct optim *o, struct err *e)
{
    const struct tensors *t = model_trained(o->model);
    int i = 0;
    for (; i < t->count && t->at[i].decay; i++)
        ;
    o->decayed = i < t->count ? t->at[i].offset : t->elements;
    for (; i < t->count; i++)
        if (t->at[i].decay)
            return err_set(e, ERR_BUG, "%s decays but stands behind a norm", t->at[i].name);
    return 0;
}

int optim_create(
    struct dev *d, const struct optim_conf *c, struct pass *p, struct optim **out, struct err *e)
{
    struct model *m = pass_model(p);
    size_t bytes = (size_t)model_trainable(m) * sizeof(float);
    struct optim *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory for the optimizer");
    *o = (struct optim){.dev = d, .conf = *c, .pass = p, .model = m};
    void *at[3] = {0};
    int rc = find_decayed(o, e);
    for (int i = 0; i < 3 && !rc; i++)
        rc = dev_alloc(d, i < 2 ? bytes : PASS_AHEAD * sizeof(float), &at[i], e);
    o->m = at[0];
    o->v = at[1];
    o->sum = at[2];
    if (rc) {
        optim_destroy(o);
        return rc;
    }
    *out = o;
    return 0;
}

void optim_destroy(struct optim *o)
{
    if (!o)
        return;
    dev_free(o->dev, o->m);
    dev_free(o->dev, o->v);
    dev_free(o->dev, o->sum);
    mem_free(o);
}

static float *sum_of(const struct optim *o, int64_t step)
{
    return o->sum + step % PASS_AHEAD;
}

int optim_norm(struct optim *o, int64_t step, double *grad_norm, struct err *e)
{
    float sum;
    dev_download(o->dev, &sum, sum_of(o, step), sizeof sum);
    int rc = dev_sync(o->dev, e);
    if (rc)
        return rc;
    if (!isfinite(sum))
        return err_set(e, ERR_USER,
            "the gradient of step %lld is not finite: lower spec.train.optimizer.learningRate or "
            "look at the data",
            (long long)step);
    *grad_norm = sqrt((double)sum);
    return 0;
}

static void update(struct optim *o, int64_t from, int64_t to, int64_t step, double decay)
{
    if (from == to)
        return;
    uint16_t *copy = model_compute_copy(o->model);
    OP(o, adamw, .count = to - from, .w = model_master(o->model) + from, .m = o->m + from,
        .v = o->v + from, .grad = pass_gradient(o->pass) + from, .w16 = copy ? copy + from : NULL,
        .lr = (float)optim_rate(&o->conf, step), .beta1 = (float)o->conf.beta1,
        .beta2 = (float)o->conf.beta2, .eps = (float)o->conf.epsilon, .weight_decay = (float)decay,
        .grad_scale = 1, .step = step, .sumsq = sum_of(o, step),
        .clip_norm = (float)o->conf.clip_norm);
}

int optim_step(struct optim *o, int64_t step, double *grad_norm, struct err *e)
{
    dev_zero(o->dev, sum_of(o, step), sizeof(float));
    OP(o, sumsq, .count = model_trainable(o->model), .x = pass_gradient(o->pass),
        .out = sum_of(o, step));
    int rc = grad_norm ? optim_norm(o, step, grad_norm, e) : 0;
    if (rc)
        return rc;
    update(o, 0, o->decayed, step, o->conf.weight_decay);
    update(o, o->decayed, model_trainable(o->model), step, 0);
    return grad_norm ? dev_sync(o->dev, e) : 0;
}

float *optim_m(struct optim *o)
{
    return o->m;
}

float *optim_v(struct optim *o)
{
    return o->v;
}
