/*
 * train/evaluate: the objective's metrics over a fixed set of sequences, spread evenly over the
 * validation samples and shared over the ranks. Changes nothing that is trained.
 */
#include "runtime/train/internal.h"

#include <math.h>

#define EVALUATE_SEQUENCES 16

/* This rank's part of n sequences out of the `have` that begin at `start`; *sum: of its losses. */
static int add_losses(struct train *t, const struct data *from, int64_t start, int64_t have,
    int64_t n, double *sum, struct err *e)
{
    int64_t length = t->spec->train.sequence_length, first, count;
    data_share(n, t->orders->world, t->orders->rank, &first, &count);
    for (int64_t i = 0, b; i < count; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        for (int64_t j = 0; j < b; j++)
            t->objective->batch_fn(from, start + (first + i + j) * have / n, t->inputs + j * length,
                t->labels + j * length);
        int rc = t->objective->loss_fn(t->pass, b, t->inputs, t->labels, 0, false, e);
        if (rc)
            return rc;
    }
    return pass_loss(t->pass, sum, e);
}

static int tell(struct train *t, struct err *e)
{
    const struct objective *o = t->objective;
    for (int i = 0; i < o->metric_count; i++) {
        double value = o->metrics[i].value_fn(t->state.validation_loss);
        int rc = train_tell_metric(t, o->metrics[i].name, value, e);
        if (rc)
            return rc;
    }
    return train_tell(t, WIRE_EVALUATED,
        (struct door_field[]){{"step", (double)t->state.step, NULL},
            {"loss", t->state.validation_loss, NULL}, {NULL, 0, NULL}},
        e);
}

int train_evaluate(struct train *t, struct err *e)
{
    const struct data *from = t->validation ? t->validation : t->data;
    int64_t start = t->validation ? 0 : t->train_samples;
    int64_t have = data_samples(from) - start;
    int64_t n = have < EVALUATE_SEQUENCES ? have : EVALUATE_SEQUENCES;
    if (n < 1)
        return 0;
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    double sum = 0;
    int rc = add_losses(t, from, start, have, n, &sum, e);
    if (rc)
        return rc;
    float total = (float)(sum / (double)t->objective->labels_fn(&t->spec->train, n));
    rc = coll_allreduce(t->coll, &total, 1, DTYPE_F32, COLL_SUM, e);
    if (rc)
        return rc;
    t->state.validation_loss = (double)total;
    if (isnan(t->state.first_validation_loss))
        t->state.first_validation_loss = (double)total;
    return train_leads(t) ? tell(t, e) : 0;
}
