/*
 * train/gradient: a step's gradient on this rank, and its sum over all, or of it what this rank
 * updates. Backward tells which parts are complete; these are sent off in lots while it goes on (Li
 * et al., arXiv:2006.15704). Every rank starts the same reductions in the same order.
 */
#include "runtime/model/context.h"
#include "runtime/train/internal.h"

/* Parts that are ready are sent off in lots of so many elements, or an eighth of the gradient:
   large enough for the network's full speed, small enough that the first leaves early. */
#define LOT (4 << 20)

/* Tokens of a row come to a multiple of at least so many, where there is room. */
#define LENGTH_STEP 8

void train_share(const struct train *t, int64_t step, int64_t *first, int64_t *count)
{
    int64_t batch = t->spec->train.batch_sequences;
    if (t->balanced)
        train_balanced_share(t, first, count);
    else
        data_share(batch, train_parts(t), train_part(t), first, count);
    *first += (step - 1) * batch;
}

int64_t train_sample_at(const struct train *t, int64_t position)
{
    int64_t sample = data_sample_at(t->train_samples, t->spec->train.seed, position);
    int64_t epoch = t->objective->drawn ? position / t->train_samples : 0;
    return sample + epoch * data_samples(t->data);
}

/* Over positions of the training order; fn NULL: each sequence is full. */
static int64_t add_up(const struct train *t, int64_t first, int64_t count,
    int64_t (*fn)(const struct data *d, int64_t sample))
{
    int64_t sum = 0;
    if (!fn)
        return count * t->spec->train.sequence_length;
    for (int64_t i = first; i < first + count; i++)
        sum += fn(t->data, train_sample_at(t, i));
    return sum;
}

int64_t train_labels(const struct train *t, int64_t step)
{
    int64_t batch = t->spec->train.batch_sequences;
    return add_up(t, (step - 1) * batch, batch, t->objective->labels_fn);
}

int64_t train_own_labels(const struct train *t, int64_t step)
{
    int64_t first, count;
    if (!t->outer)
        return train_labels(t, step);
    train_share(t, step, &first, &count);
    int64_t labels = add_up(t, first, count, t->objective->labels_fn);
    return labels > 0 ? labels : 1;
}

int64_t train_tokens(const struct train *t, int64_t step)
{
    int64_t batch = t->spec->train.batch_sequences;
    return add_up(t, (step - 1) * batch, batch, t->objective->tokens_fn);
}

void train_set_length(struct train *t, int64_t longest)
{
    int64_t most = t->spec->train.sequence_length, contexts = t->plan.layout.cp;
    int64_t chunks = contexts > 1 ? 2 * contexts : 1; /* of equal length */
    int64_t step = (LENGTH_STEP + chunks - 1) / chunks * chunks;
    int64_t length = (longest + step - 1) / step * step;
    t->length = length < most ? length : most;
    pass_set_tokens(t->pass, train_row(t));
}

static int32_t count_told(const struct train *t, const int32_t *labels)
{
    int32_t told = 0;
    for (int64_t i = 0; i < t->length; i++)
        told += labels[i] >= 0;
    return told;
}

/* Of a whole row, the chunks that are this rank's (runtime/model/context.h), at its beginning. */
static void take_chunks(const struct train *t, int32_t *row)
{
    const struct layout *l = &t->plan.layout;
    int64_t n = train_row(t) / 2, rank = layout_place(l, t->orders->rank).cp;
    for (int half = 0; half < 2 && l->cp > 1 && row; half++)
        memmove(
            row + half * n, row + context_chunk(l->cp, rank, half) * n, (size_t)n * sizeof *row);
}

void train_fill(struct train *t, const struct data *d, int64_t sample, int64_t j)
{
    int64_t row = j * t->objective->rows, at = row * train_row(t);
    int64_t width = t->config.several ? t->config.labels : train_row(t);
    t->objective->batch_fn(
        d, sample, t->length, t->inputs + at, t->labels + row * width, t->lengths + row);
    if (t->objective->loop->fill_fn)
        t->objective->loop->fill_fn(t, d, sample, j);
    if (t->first)
        data_first(d, sample, t->length, t->first + at); /* there is room for a whole row */
    if (t->told)
        t->told[row] = count_told(t, t->labels + at);
    take_chunks(t, t->inputs + at);
    take_chunks(t, t->labels + row * width);
    take_chunks(t, t->first ? t->first + at : NULL);
    if (t->types)
        data_tagged_types(d, sample, t->length, t->types + at);
}

int64_t train_longest(const struct train *t, const struct data *d, int64_t sample)
{
    const struct objective *o = t->objective;
    return o->longest_fn ? o->longest_fn(d, sample) : o->tokens_fn(d, sample);
}

/* Of the global batch, so that no rank's part of it decides. */
static int64_t longest(const struct train *t, int64_t step)
{
    const struct jobspec_train *s = &t->spec->train;
    int64_t batch = s->batch_sequences, most = 0;
    if (!t->objective->tokens_fn)
        return s->sequence_length;
    for (int64_t i = (step - 1) * batch; i < step * batch; i++) {
        int64_t n = train_longest(t, t->data, train_sample_at(t, i));
        most = n > most ? n : most;
    }
    return most;
}

int64_t train_rounds(const struct train *t, int64_t n, int64_t count)
{
    int64_t micro = t->plan.micro_sequences, first, most = count;
    if (t->expert)
        data_share(n, train_parts(t), 0, &first, &most);
    return (most + micro - 1) / micro;
}

void train_fill_idle(struct train *t)
{
    for (int64_t i = 0; i < t->length; i++) {
        t->inputs[i] = 0;
        t->labels[i] = -1;
    }
    if (t->first)
        memset(t->first, 0, (size_t)t->length * sizeof *t->first);
    t->lengths[0] = 1;
    if (t->told)
        t->told[0] = 0;
}

int train_idle(struct train *t, float scale, bool backward, struct err *e)
{
    train_set_length(t, 1);
    train_fill_idle(t);
    return t->objective->loop->loss_fn(t, 1, scale, backward, e);
}

/* Its sum becomes everybody's, or, of what is updated by one rank, that rank's. */
static int start_lot(struct train *t, int64_t first, int64_t end, struct err *e)
{
    float *g = pass_gradient(t->pass) + first;
    const int64_t *counts = optim_counts(t->optim, first, end);
    if (counts)
        return coll_reduce_scatter_start(t->replicas, g, counts, DTYPE_F32, COLL_SUM, e);
    return coll_reduce_start(t->replicas, g, end - first, DTYPE_F32, COLL_SUM, e);
}

/* From backward: [first, first + count) of the gradient is complete, from the end downwards. */
static void take_ready(void *user, int64_t first, int64_t count)
{
    struct train *t = user;
    struct lots *l = &t->lots;
    if (l->failure.code != ERR_NONE)
        return;
    if (l->top == model_trainable(t->model))
        l->top = l->open = first + count;
    l->low = first;
    if (l->open - l->low < LOT && l->open - l->low < model_trainable(t->model) / 8)
        return;
    if (!start_lot(t, l->low, l->open, &l->failure))
        l->open = l->low;
}

void train_begin_gradient(struct train *t)
{
    int64_t end = model_trainable(t->model);
    pass_zero_gradient(t->pass);
    t->lots = (struct lots){end, end, end, {0}};
}

void train_begin_backward(struct train *t, bool last)
{
    pass_watch_gradient(t->pass, t->lots_wanted && last ? take_ready : NULL, t);
}

/* Micro-batches that the rank with most has of n samples more than this one, with `count`: where
   ranks divide gradient or weights all take as many. */
static int64_t micro_batches_less(const struct train *t, int64_t n, int64_t count)
{
    int64_t micro = t->plan.micro_sequences, first, most;
    data_share(n, train_parts(t), 0, &first, &most);
    return (most + micro - 1) / micro - (count + micro - 1) / micro;
}

int train_skip_rest(struct train *t, int64_t n, int64_t count, bool backward, struct err *e)
{
    int rc = 0;
    for (int64_t i = train_meets(t) ? micro_batches_less(t, n, count) : 0; i > 0 && !rc; i--)
        rc = pass_skip(t->pass, backward, e);
    return rc;
}

int train_compute(struct train *t, int64_t step, struct err *e)
{
    int64_t first, count;
    float scale = (float)scale_factor(&t->state.scale) / (float)train_own_labels(t, step);
    train_share(t, step, &first, &count);
    train_set_length(t, longest(t, step));
    train_begin_gradient(t);
    if (train_is_staged(t))
        return train_pipeline(t, first, count, scale, e);
    int64_t rounds = train_rounds(t, t->spec->train.batch_sequences, count);
    for (int64_t i = 0, b; rounds-- > 0; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        if (!b) {
            int rc = train_idle(t, scale, true, e);
            if (rc)
                return rc;
            continue;
        }
        for (int64_t j = 0; j < b; j++)
            train_fill(t, t->data, train_sample_at(t, first + i + j), j);
        beat_phase(t->door->page, WIRE_PHASE_FORWARD);
        train_begin_backward(t, i + b == count);
        pass_set_place(t->pass, (first + i) * t->objective->rows);
        int rc = t->objective->loop->loss_fn(t, b, scale, true, e);
        if (rc)
            return rc;
    }
    return train_skip_rest(t, t->spec->train.batch_sequences, count, true, e);
}

int train_losses(struct train *t, double *sums, struct err *e)
{
    return pass_loss(t->pass, sums, e);
}

int train_reduce(struct train *t, struct err *e)
{
    struct lots *l = &t->lots;
    int64_t end = model_trainable(t->model);
    beat_phase(t->door->page, WIRE_PHASE_COLLECTIVE);
    if (l->failure.code != ERR_NONE) {
        *e = l->failure;
        return -(int)e->code;
    }
    int rc = pass_share_gradient(t->pass, e);
    if (rc || t->outer || train_meets(t))
        return rc;
    if (t->exchange)
        return exchange_reduce(t->exchange, pass_gradient(t->pass), e);
    if ((rc = start_lot(t, 0, l->open, e)) || (l->top < end && (rc = start_lot(t, l->top, end, e))))
        return rc;
    coll_reduce_join(t->replicas);
    return 0;
}
