/*
 * train/pipeline: a step of a model whose layers are shared out in stages: one forward, one
 * backward (Narayanan et al., arXiv:2104.04473, 2.2.1). A stage begins with as many forwards as
 * there are stages behind it, then takes turns, so no more micro-batches than that and one wait
 * for their backward. What goes up and what comes down meet in one exchange, so that no two wait
 * for each other. Stages whose layers are in chunks interleave these (runtime/model/interleave.h).
 * Of objectives that tell tokens: padding stands behind what is learnt, and only a mixture of
 * experts is told where it begins.
 */
#include "runtime/model/interleave.h"
#include "runtime/train/internal.h"

struct staged_step { /* of this rank's share of the batch */
    struct train *t;
    int64_t first, count, micro;
    int64_t batches; /* more than count has where others' experts need this rank */
    float scale;
};

static int64_t sequences_of(const struct staged_step *r, int64_t k)
{
    int64_t left = r->count - k * r->micro;
    if (left <= 0)
        return 1; /* nothing is learnt of it */
    return left < r->micro ? left : r->micro;
}

static struct pass_input input_of(const struct train *t)
{
    return (struct pass_input){.ids = t->inputs,
        .lengths = pass_counts_tokens(t->pass) ? t->lengths : NULL,
        .told = t->told,
        .targets = t->labels,
        .first = t->first};
}

static struct pass_part part_of(const struct staged_step *r, int64_t k, int chunk)
{
    return (struct pass_part){sequences_of(r, k), k, chunk};
}

/* Micro-batch k in t->inputs and what stands beside them. */
static struct pass_input fill(const struct staged_step *r, int64_t k)
{
    struct train *t = r->t;
    int64_t b = sequences_of(r, k), first = r->first + k * r->micro;
    if (k * r->micro >= r->count)
        train_fill_idle(t);
    for (int64_t j = 0; j < b && k * r->micro < r->count; j++)
        train_fill(t, t->data, train_sample_at(t, first + j), j);
    pass_set_place(t->pass, first);
    return input_of(t);
}

static int forward(const struct staged_step *r, const struct pass_part *x, struct err *e)
{
    const struct pass_input in = fill(r, x->k);
    return pass_stage_forward(r->t->pass, x, &in, r->scale, true, e);
}

static int backward(const struct staged_step *r, const struct pass_part *x, struct err *e)
{
    const struct pass_input in = fill(r, x->k);
    train_begin_backward(r->t, x->k + 1 == r->batches);
    return pass_stage_backward(r->t->pass, x, &in, r->scale, e);
}

/* -- stages of one run of layers -- */

/* The forwards before the first backward. */
static int warm_up(const struct staged_step *r, int64_t ahead, struct err *e)
{
    for (int64_t k = 0; k < ahead; k++) {
        struct pass_traffic in = {.input = part_of(r, k, 0)}, out = {.output = in.input};
        int rc;
        if ((rc = pass_stage_exchange(r->t->pass, &in, e)) || (rc = forward(r, &in.input, e)) ||
            (rc = pass_stage_exchange(r->t->pass, &out, e)))
            return rc;
    }
    return 0;
}

/* A forward and a backward by turns, with `ahead` forwards between. */
static int take_turns(const struct staged_step *r, int64_t ahead, struct err *e)
{
    struct pass_traffic first = {.input = part_of(r, ahead, 0)};
    int rc = ahead < r->batches ? pass_stage_exchange(r->t->pass, &first, e) : 0;
    for (int64_t k = ahead; k < r->batches && !rc; k++) {
        struct pass_part done = part_of(r, k - ahead, 0);
        struct pass_traffic next = {.output = part_of(r, k, 0), .output_gradient = done};
        struct pass_traffic before = {.input_gradient = done};
        if (k + 1 < r->batches)
            before.input = part_of(r, k + 1, 0);
        if ((rc = forward(r, &next.output, e)) ||
            (rc = pass_stage_exchange(r->t->pass, &next, e)) || (rc = backward(r, &done, e)))
            return rc;
        rc = pass_stage_exchange(r->t->pass, &before, e);
    }
    return rc;
}

static int cool_down(const struct staged_step *r, int64_t ahead, struct err *e)
{
    for (int64_t k = r->batches - ahead; k < r->batches; k++) {
        struct pass_traffic in = {.output_gradient = part_of(r, k, 0)};
        struct pass_traffic out = {.input_gradient = in.output_gradient};
        int rc;
        if ((rc = pass_stage_exchange(r->t->pass, &in, e)) ||
            (rc = backward(r, &in.output_gradient, e)) ||
            (rc = pass_stage_exchange(r->t->pass, &out, e)))
            return rc;
    }
    return 0;
}

static int one_forward_one_backward(const struct staged_step *r, struct err *e)
{
    int64_t behind = r->t->plan.layout.pp - 1 - train_stage(r->t);
    int64_t ahead = behind < r->batches ? behind : r->batches;
    int rc;
    if ((rc = warm_up(r, ahead, e)) || (rc = take_turns(r, ahead, e)))
        return rc;
    return cool_down(r, ahead, e);
}

/* -- stages whose layers are in chunks -- */

static struct pass_part part_at(const struct staged_step *r, struct interleave_item i)
{
    return i.is ? part_of(r, i.k, i.chunk) : (struct pass_part){.b = 0};
}

static int interleaved(const struct staged_step *r, int chunks, struct err *e)
{
    const struct interleave x = {r->t->plan.layout.pp, train_stage(r->t), chunks, r->batches};
    struct pass_part f = part_at(r, interleave_forward(&x, 0)), b = {.b = 0};
    const struct pass_traffic first = {.input = f};
    int rc = pass_stage_exchange(r->t->pass, &first, e);
    for (int64_t i = 0, end = interleave_turns(&x); i < end && !rc; i++) {
        struct pass_traffic all = {.output = f, .input_gradient = b};
        all.input = part_at(r, interleave_forward(&x, i + 1));
        all.output_gradient = part_at(r, interleave_backward(&x, i + 1));
        if ((f.b && (rc = forward(r, &f, e))) || (b.b && (rc = backward(r, &b, e))))
            return rc;
        rc = pass_stage_exchange(r->t->pass, &all, e);
        f = all.input;
        b = all.output_gradient;
    }
    return rc;
}

/* -- a step -- */

int train_pipeline(struct train *t, int64_t first, int64_t count, float scale, struct err *e)
{
    const struct staged_step r = {.t = t,
        .first = first,
        .count = count,
        .micro = t->plan.micro_sequences,
        .batches = train_rounds(t, t->spec->train.batch_sequences, count),
        .scale = scale};
    int chunks = train_chunks(t);
    return chunks > 1 ? interleaved(&r, chunks, e) : one_forward_one_backward(&r, e);
}

int train_pipeline_look(struct train *t, int64_t b, struct err *e)
{
    const struct pass_input input = input_of(t);
    for (int chunk = 0; chunk < train_chunks(t); chunk++) {
        struct pass_traffic in = {.input = {b, 0, chunk}}, out = {.output = in.input};
        int rc;
        if ((rc = pass_stage_exchange(t->pass, &in, e)) ||
            (rc = pass_stage_forward(t->pass, &in.input, &input, 0, false, e)) ||
            (rc = pass_stage_exchange(t->pass, &out, e)))
            return rc;
    }
    return 0;
}
