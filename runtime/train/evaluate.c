/*
 * train/evaluate: the objective's metrics over a fixed set of sequences, spread evenly over those
 * that are held for it and shared over the ranks. Changes nothing that is trained. What is told is
 * the same on every rank, and rank 0 tells it.
 */
#include "runtime/train/internal.h"

#include "base/log.h"

#include <math.h>

struct kept { /* sequences that are kept for one purpose */
    const char *name;
    const struct data *from;
    int64_t start, have; /* which of `from` */
    int64_t n;           /* of them, that are looked at */
};

static bool has_labels(const struct train *t)
{
    return t->objective->labels != OBJECTIVE_LABELS_NONE;
}

static struct kept keep(
    const struct train *t, const char *name, const struct data *from, int64_t start)
{
    struct kept h = {.name = name, .from = from, .start = start};
    int64_t most = t->objective->evaluated;
    h.have = data_samples(from) - start;
    h.n = most && most < h.have ? most : h.have;
    return h;
}

static int64_t sequence_at(const struct kept *h, int64_t i)
{
    return h->start + i * h->have / h->n;
}

static int64_t count_labels(const struct train *t, const struct kept *h)
{
    int64_t sum = 0;
    if (!t->objective->labels_fn)
        return h->n * t->spec->train.sequence_length;
    for (int64_t i = 0; i < h->n; i++)
        sum += t->objective->labels_fn(h->from, sequence_at(h, i));
    return sum;
}

static int64_t longest(const struct train *t, const struct kept *h, int64_t first, int64_t count)
{
    int64_t most = 0;
    if (!t->objective->tokens_fn)
        return t->spec->train.sequence_length;
    for (int64_t i = first; i < first + count; i++) {
        int64_t n = t->objective->tokens_fn(h->from, sequence_at(h, i));
        most = n > most ? n : most;
    }
    return most;
}

/* This rank's part; *sum: of its losses. */
static int add_losses(struct train *t, const struct kept *h, double *sum, struct err *e)
{
    int64_t first, count;
    const struct pass_input in = {
        .ids = t->inputs, .lengths = t->lengths, .first = t->first, .targets = t->labels};
    data_share(h->n, t->orders->world, t->orders->rank, &first, &count);
    for (int64_t i = 0, b; i < count; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        train_set_length(t, longest(t, h, first + i, b));
        for (int64_t j = 0; j < b; j++)
            train_fill(t, h->from, sequence_at(h, first + i + j), j);
        int rc = t->objective->loss_fn(t->pass, b, &in, 0, false, e);
        if (rc || (has_labels(t) && (rc = train_judge(t, first + i, b, e))))
            return rc;
    }
    return pass_loss(t->pass, sum, e);
}

/* *loss: the mean of a label; and what was found. Both of the world. */
static int look(struct train *t, const struct kept *h, double *loss, struct err *e)
{
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    double sum = 0;
    if (has_labels(t))
        train_found_clear(t);
    int rc = add_losses(t, h, &sum, e);
    if (rc)
        return rc;
    float total = (float)(sum / (double)count_labels(t, h));
    if ((rc = coll_allreduce(t->coll, &total, 1, DTYPE_F32, COLL_SUM, e)) ||
        (has_labels(t) && (rc = train_judge_all(t, e))))
        return rc;
    *loss = (double)total;
    return 0;
}

/* To TensorBoard. */
static int tell_points(struct train *t, const struct kept *h, double loss, struct err *e)
{
    const struct objective *o = t->objective;
    for (int i = 0; i < o->metric_count; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s/%s", o->metrics[i].name, h->name);
        int rc = train_tell_metric(t, tag, o->metrics[i].value_fn(loss), e);
        if (rc)
            return rc;
    }
    return has_labels(t) ? train_tell_found(t, h->name, e) : 0;
}

static int tell(struct train *t, const struct kept *h, struct err *e)
{
    double loss = t->state.validation_loss;
    struct door_field fields[4] = {{"step", (double)t->state.step, NULL}, {"loss", loss, NULL}};
    int rc = tell_points(t, h, loss, e);
    if (rc ||
        (rc = train_log_metrics(t,
             (struct door_field[]){{"step", (double)t->state.step, NULL},
                 {"validationLoss", loss, NULL},
                 {"validationF1", has_labels(t) ? train_f1(t) : NAN, NULL}, {NULL, 0, NULL}},
             e)))
        return rc;
    if (has_labels(t)) {
        fields[2] = (struct door_field){"f1", train_f1(t), NULL};
        train_log_found(t, h->name, loss);
    }
    return train_tell(t, WIRE_EVALUATED, fields, e);
}

/* What was looked at stands beside what the epoch that ends here was learnt with. */
static void note_epoch(struct train *t)
{
    struct ckpt_state *s = &t->state;
    struct ckpt_epoch *last = s->epochs + s->epoch_count - 1;
    if (!s->epoch_count || last->step != s->step)
        return;
    last->validation_loss = s->validation_loss;
    last->f1 = train_f1(t);
}

int train_evaluate(struct train *t, struct err *e)
{
    const struct kept h = keep(t, "validation", t->validation ? t->validation : t->data,
        t->validation ? 0 : t->train_samples);
    if (h.n < 1)
        return 0;
    int rc = look(t, &h, &t->state.validation_loss, e);
    if (rc)
        return rc;
    if (isnan(t->state.first_validation_loss))
        t->state.first_validation_loss = t->state.validation_loss;
    note_epoch(t);
    return train_leads(t) ? tell(t, &h, e) : 0;
}

static void write_epochs(const struct train *t, struct jsonw *w)
{
    jsonw_open(w, "epochs", '[');
    for (int i = 0; i < t->state.epoch_count; i++) {
        const struct ckpt_epoch *x = &t->state.epochs[i];
        jsonw_open(w, NULL, '{');
        jsonw_int(w, "epoch", x->epoch);
        jsonw_int(w, "step", x->step);
        jsonw_num(w, "trainLoss", x->loss);
        jsonw_num(w, "validationLoss", x->validation_loss);
        jsonw_num(w, "validationF1", x->f1);
        jsonw_close(w);
    }
    jsonw_close(w);
}

/* h: what was looked at; NULL: there is no test. */
static int write_report(struct train *t, const struct kept *h, double loss, struct err *e)
{
    struct jsonw w;
    buf_reset(&t->report);
    jsonw_init(&w, &t->report);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "objective", t->objective->name);
    jsonw_int(&w, "step", t->state.step);
    write_epochs(t, &w);
    if (h) {
        jsonw_open(&w, h->name, '{');
        jsonw_num(&w, "loss", loss);
        jsonw_int(&w, t->objective->labels == OBJECTIVE_LABELS_TEXTS ? "texts" : "sentences", h->n);
        train_write_found(t, &w);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory for a report") : 0;
}

int train_test(struct train *t, struct err *e)
{
    if (!has_labels(t))
        return 0;
    if (!t->test)
        return train_leads(t) ? write_report(t, NULL, 0, e) : 0;
    const struct kept h = keep(t, "test", t->test, 0);
    double loss;
    int rc = look(t, &h, &loss, e);
    if (rc || !train_leads(t))
        return rc;
    /* What stands in a checkpoint has had its points already. */
    if (t->saved_step != t->state.step && (rc = tell_points(t, &h, loss, e)))
        return rc;
    train_log_found(t, h.name, loss);
    return write_report(t, &h, loss, e);
}
