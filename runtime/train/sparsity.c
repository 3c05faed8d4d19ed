/*
 * sparsity: masters come to the host some rows at a time, are pruned there and go back: it happens
 * every few steps, and so every device prunes alike. Allocates at create only.
 */
#include "runtime/train/sparsity.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/door/beat.h"
#include "runtime/model/prune.h"

#include <math.h>

#define STAGE_ELEMENTS (1 << 20)
#define EVERY_STEPS    10 /* where spec does not say */

struct sparsity {
    struct jobspec_train spec;
    struct dev *dev;
    struct model *model;
    struct optim *optim;
    struct wire_page *page;
    float *stage; /* (rows, columns) of a matrix: whole rows, as many as there is room for */
    int64_t room;
};

/* -- the schedule -- */

double sparsity_share(const struct jobspec_train *s, int64_t step)
{
    enum sparsity_pattern p = s->sparsity.pattern;
    int64_t start = s->sparsity.start_step, end = s->sparsity.end_step;
    int64_t every = s->sparsity.every_steps ? s->sparsity.every_steps : EVERY_STEPS;
    double target = p == SPARSITY_2_4 ? 0.5 : s->sparsity.target;
    if ((p != SPARSITY_2_4 && p != SPARSITY_UNSTRUCTURED) || step < start || step > end)
        return -1;
    if (step == end)
        return target;
    double left = 1 - (double)(step - start) / (double)(end - start);
    return (step - start) % every ? -1 : target * (1 - left * left * left);
}

int64_t sparsity_masks_from(const struct jobspec_train *s)
{
    return s->sparsity.pattern == SPARSITY_NONE ? 0 : s->sparsity.start_step + 1;
}

/* -- life -- */

int sparsity_create(const struct jobspec_train *s, struct dev *d, struct model *m, struct optim *o,
    struct wire_page *page, struct sparsity **out, struct err *e)
{
    const struct tensors *t = model_trained(m);
    if (s->sparsity.pattern == SPARSITY_NONE)
        return 0;
    int rc = prune_check(t, s->sparsity.pattern, "spec.train.sparsity", e);
    if (rc)
        return rc;
    struct sparsity *x = mem_zalloc(sizeof *x);
    if (!x)
        return err_set(e, ERR_MEMORY, "no memory to prune");
    *x = (struct sparsity){
        .spec = *s, .dev = d, .model = m, .optim = o, .page = page, .room = STAGE_ELEMENTS};
    for (int i = 0; i < t->count; i++)
        if (prune_takes(&t->at[i]) && t->at[i].shape[1] > x->room)
            x->room = t->at[i].shape[1];
    x->stage = mem_array((size_t)x->room, sizeof *x->stage);
    if (!x->stage) {
        sparsity_destroy(x);
        return err_set(e, ERR_MEMORY, "no memory to prune");
    }
    *out = x;
    return 0;
}

void sparsity_destroy(struct sparsity *s)
{
    if (!s)
        return;
    mem_free(s->stage);
    mem_free(s);
}

/* -- pruning -- */

/* share negative: only looks. */
static int prune_matrix(
    struct sparsity *s, const struct tensor *t, double share, int64_t *zeros, struct err *e)
{
    int64_t columns = t->shape[1], chunk = s->room / columns;
    float *w = model_master(s->model) + t->offset;
    for (int64_t row = 0, n; row < t->shape[0]; row += n) {
        n = t->shape[0] - row < chunk ? t->shape[0] - row : chunk;
        size_t bytes = (size_t)(n * columns) * sizeof *w;
        dev_download(s->dev, s->stage, w + row * columns, bytes);
        int rc = dev_sync(s->dev, e);
        if (rc)
            return rc;
        if (share >= 0) {
            prune_rows(s->stage, n, columns, s->spec.sparsity.pattern, share, NULL);
            dev_upload(s->dev, w + row * columns, s->stage, bytes);
        }
        *zeros += prune_zeros(s->stage, n * columns);
        beat(s->page);
    }
    return 0;
}

static int prune_all(struct sparsity *s, double share, double *zeros, struct err *e)
{
    const struct tensors *t = model_trained(s->model);
    int64_t found = 0, count = 0;
    for (int i = 0; i < t->count; i++) {
        if (!prune_takes(&t->at[i]))
            continue;
        int rc = prune_matrix(s, &t->at[i], share, &found, e);
        if (rc)
            return rc;
        count += t->at[i].count;
    }
    *zeros = (double)found / (double)count;
    return 0;
}

int sparsity_prune(struct sparsity *s, int64_t step, double *zeros, struct err *e)
{
    double share = s ? sparsity_share(&s->spec, step) : -1;
    *zeros = -1;
    if (share < 0)
        return 0;
    int rc = prune_all(s, share, zeros, e);
    if (rc)
        return rc;
    optim_masters_pruned(s->optim);
    model_master_changed(s->model);
    return dev_sync(s->dev, e);
}

int sparsity_measure(struct sparsity *s, double *zeros, struct err *e)
{
    return prune_all(s, -1, zeros, e);
}
