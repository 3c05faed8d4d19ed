/*
 * train/spread: how gradient and weights are spread over numbers, tensor by tensor, to TensorBoard
 * (spec.train.histogramEverySteps). Rank 0 reads them from the device, a bounded part at a time,
 * when the host has looked at a step and before another is enqueued; the experts of a layer are
 * one. The gradient is the whole step's, of all ranks, as the optimizer took it before it was
 * clipped; the weights are F32, as the step left them. Nothing is changed.
 */
#include "base/mem.h"
#include "runtime/train/internal.h"

#define STAGE_ELEMENTS (1 << 18)
#define FIRST_EXPERT   ".experts.0."

struct spread {
    struct histogram histogram;
    float stage[STAGE_ELEMENTS];
};

int train_open_spread(struct train *t, struct err *e)
{
    if (!t->board || !t->spec->train.histogram_every_steps)
        return 0;
    t->spread = mem_zalloc(sizeof *t->spread);
    return t->spread ? 0 : err_set(e, ERR_MEMORY, "no memory for histograms");
}

static int add_range(struct train *t, const float *at, int64_t count, struct err *e)
{
    struct spread *x = t->spread;
    for (int64_t i = 0, n; i < count; i += n) {
        n = count - i < STAGE_ELEMENTS ? count - i : STAGE_ELEMENTS;
        dev_download(t->dev, x->stage, at + i, (size_t)n * sizeof *x->stage);
        int rc = dev_sync(t->dev, e);
        if (rc)
            return rc;
        histogram_add(&x->histogram, x->stage, n);
        beat(t->door->page);
    }
    return 0;
}

/* kind/name; of experts without their number. */
static void name_tag(const char *kind, const struct tensor *x, char out[192])
{
    const char *expert = x->expert < 0 ? NULL : strstr(x->name, FIRST_EXPERT);
    int head = expert ? (int)(expert - x->name) : (int)strlen(x->name);
    snprintf(out, 192, "%s/%.*s%s%s", kind, head, x->name, expert ? ".experts." : "",
        expert ? expert + sizeof FIRST_EXPERT - 1 : "");
}

static bool is_same(const struct tensor *a, const struct tensor *b)
{
    return a->layer == b->layer && a->role == b->role && a->part == b->part;
}

/* Of the i-th trained tensor, and the same one of the layer's other experts. */
static int tell_tensor(struct train *t, const char *kind, const float *flat, int i, struct err *e)
{
    const struct tensors *all = model_trained(t->model);
    const struct tensor *x = &all->at[i];
    char tag[192];
    int end = x->expert < 0 ? i + 1 : all->count;
    histogram_clear(&t->spread->histogram);
    for (int k = i; k < end; k++) {
        int rc = is_same(x, &all->at[k])
            ? add_range(t, flat + all->at[k].offset, all->at[k].count, e)
            : 0;
        if (rc)
            return rc;
    }
    name_tag(kind, x, tag);
    return t->spread->histogram.count
        ? tensorboard_histogram(t->board, tag, t->state.step, &t->spread->histogram, e)
        : 0;
}

int train_tell_spread(struct train *t, struct err *e)
{
    const struct tensors *all = model_trained(t->model);
    int64_t every = t->spec->train.histogram_every_steps;
    int rc = 0;
    if (!t->spread || t->state.step % every)
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    for (int i = 0; i < all->count && !rc; i++) {
        if (all->at[i].expert > 0)
            continue;
        if (!(rc = tell_tensor(t, "gradients", pass_gradient(t->pass), i, e)))
            rc = tell_tensor(t, "weights", model_master(t->model), i, e);
    }
    return rc;
}
