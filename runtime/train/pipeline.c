/*
 * train/pipeline: a step of a model whose layers are shared out in stages: one forward, one
 * backward (Narayanan et al., arXiv:2104.04473, 2.2.1). A stage begins with as many forwards as
 * there are stages behind it, then takes turns, so no more micro-batches than that and one wait
 * for their backward. What goes up and what comes down meet in one exchange, so that no two wait
 * for each other. Of objectives that tell tokens: padding stands behind what is learnt.
 */
#include "runtime/train/internal.h"

struct staged_step { /* of this rank's share of the batch */
    struct train *t;
    int64_t first, count, micro, batches;
    float scale;
};

static int64_t sequences_of(const struct staged_step *r, int64_t k)
{
    int64_t left = r->count - k * r->micro;
    return left < r->micro ? left : r->micro;
}

static struct pass_input input_of(const struct train *t)
{
    return (struct pass_input){.ids = t->inputs, .targets = t->labels, .first = t->first};
}

/* Micro-batch k in t->inputs and what stands beside them. */
static struct pass_input fill(const struct staged_step *r, int64_t k)
{
    struct train *t = r->t;
    int64_t b = sequences_of(r, k), first = r->first + k * r->micro;
    for (int64_t j = 0; j < b; j++)
        train_fill(t, t->data, train_sample_at(t, first + j), j);
    pass_set_place(t->pass, first);
    return input_of(t);
}

static int forward(const struct staged_step *r, int64_t k, struct err *e)
{
    const struct pass_input in = fill(r, k);
    return pass_stage_forward(r->t->pass, k, sequences_of(r, k), &in, r->scale, true, e);
}

static int backward(const struct staged_step *r, int64_t k, struct err *e)
{
    const struct pass_input in = fill(r, k);
    train_begin_backward(r->t, k + 1 == r->batches);
    return pass_stage_backward(r->t->pass, k, sequences_of(r, k), &in, e);
}

/* The forwards before the first backward. */
static int warm_up(const struct staged_step *r, int64_t ahead, struct err *e)
{
    for (int64_t k = 0; k < ahead; k++) {
        struct pass_traffic in = {.input = sequences_of(r, k), .k = k};
        struct pass_traffic out = {.output = in.input};
        int rc;
        if ((rc = pass_stage_exchange(r->t->pass, &in, e)) || (rc = forward(r, k, e)) ||
            (rc = pass_stage_exchange(r->t->pass, &out, e)))
            return rc;
    }
    return 0;
}

/* A forward and a backward by turns, with `ahead` forwards between. */
static int take_turns(const struct staged_step *r, int64_t ahead, struct err *e)
{
    struct pass_traffic first = {.input = sequences_of(r, ahead), .k = ahead};
    int rc = ahead < r->batches ? pass_stage_exchange(r->t->pass, &first, e) : 0;
    for (int64_t k = ahead; k < r->batches && !rc; k++) {
        int64_t done = k - ahead;
        struct pass_traffic next = {
            .output = sequences_of(r, k), .output_gradient = sequences_of(r, done)};
        struct pass_traffic before = {.input_gradient = next.output_gradient};
        if (k + 1 < r->batches) {
            before.input = sequences_of(r, k + 1);
            before.k = k + 1;
        }
        if ((rc = forward(r, k, e)) || (rc = pass_stage_exchange(r->t->pass, &next, e)) ||
            (rc = backward(r, done, e)))
            return rc;
        rc = pass_stage_exchange(r->t->pass, &before, e);
    }
    return rc;
}

static int cool_down(const struct staged_step *r, int64_t ahead, struct err *e)
{
    for (int64_t k = r->batches - ahead; k < r->batches; k++) {
        struct pass_traffic in = {.output_gradient = sequences_of(r, k)};
        struct pass_traffic out = {.input_gradient = in.output_gradient};
        int rc;
        if ((rc = pass_stage_exchange(r->t->pass, &in, e)) || (rc = backward(r, k, e)) ||
            (rc = pass_stage_exchange(r->t->pass, &out, e)))
            return rc;
    }
    return 0;
}

int train_pipeline(struct train *t, int64_t first, int64_t count, float scale, struct err *e)
{
    const struct staged_step r = {.t = t,
        .first = first,
        .count = count,
        .micro = t->plan.micro_sequences,
        .batches = (count + t->plan.micro_sequences - 1) / t->plan.micro_sequences,
        .scale = scale};
    int64_t behind = t->plan.layout.pp - 1 - train_stage(t);
    int64_t ahead = behind < r.batches ? behind : r.batches;
    int rc;
    if ((rc = warm_up(&r, ahead, e)) || (rc = take_turns(&r, ahead, e)))
        return rc;
    return cool_down(&r, ahead, e);
}

int train_pipeline_look(struct train *t, int64_t b, struct err *e)
{
    struct pass_traffic in = {.input = b}, out = {.output = b};
    const struct pass_input input = input_of(t);
    int rc;
    if ((rc = pass_stage_exchange(t->pass, &in, e)) ||
        (rc = pass_stage_forward(t->pass, 0, b, &input, 0, false, e)))
        return rc;
    return pass_stage_exchange(t->pass, &out, e);
}
