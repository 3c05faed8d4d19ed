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
        int64_t n = train_longest(t, h->from, sequence_at(h, i));
        most = n > most ? n : most;
    }
    return most;
}

/* This rank's part; sums: of its losses, and of pairs the others (PREFERENCE_SUMS). */
static int add_losses(struct train *t, const struct kept *h, double *sums, struct err *e)
{
    int64_t first, count;
    data_share(h->n, t->orders->world, t->orders->rank, &first, &count);
    for (int64_t i = 0, b; i < count; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        train_set_length(t, longest(t, h, first + i, b));
        for (int64_t j = 0; j < b; j++)
            train_fill(t, h->from, sequence_at(h, first + i + j), j);
        int rc = train_loss(t, b, 0, false, e);
        if (rc || (has_labels(t) && (rc = train_judge(t, first + i, b, e))))
            return rc;
    }
    if (!t->objective->pairs)
        return pass_loss(t->pass, sums, e);
    train_take_sums(t, sums);
    return 0;
}

/* means: the loss, the mean of a label, and of pairs the others; and what was found. All of the
   world. */
static int look(struct train *t, const struct kept *h, double means[PREFERENCE_SUMS], struct err *e)
{
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    if (t->objective->loop)
        return t->objective->loop->look_fn(t, h->from, h->start, h->n, means, e);
    double sums[PREFERENCE_SUMS] = {0};
    float total[PREFERENCE_SUMS];
    if (has_labels(t))
        train_found_clear(t);
    int rc = add_losses(t, h, sums, e);
    if (rc)
        return rc;
    int n = t->objective->pairs ? PREFERENCE_SUMS : 1;
    for (int i = 0; i < n; i++)
        total[i] = (float)(sums[i] / (double)count_labels(t, h));
    if ((rc = coll_allreduce(t->coll, total, n, DTYPE_F32, COLL_SUM, e)) ||
        (has_labels(t) && (rc = train_judge_all(t, e))))
        return rc;
    for (int i = 0; i < n; i++)
        means[i] = (double)total[i];
    return 0;
}

/* What was found, of one kind or another: to TensorBoard, to the log, to the report. */
static int tell_found(struct train *t, const char *of, struct err *e)
{
    if (t->objective->loop)
        return t->objective->loop->tell_fn(t, of, e);
    return has_labels(t) ? train_tell_found(t, of, e) : 0;
}

static void log_found(const struct train *t, const char *of, double loss)
{
    if (t->objective->loop)
        t->objective->loop->log_fn(t, of, loss);
    else if (has_labels(t))
        train_log_found(t, of, loss);
}

static void write_found(const struct train *t, const struct kept *h, struct jsonw *w)
{
    const struct objective *o = t->objective;
    const char *labelled = o->labels == OBJECTIVE_LABELS_TEXTS ? "texts" : "sentences";
    jsonw_int(w, o->loop ? o->loop->samples : labelled, h->n);
    if (o->loop)
        o->loop->write_fn(t, w);
    else
        train_write_found(t, w);
}

/* To TensorBoard. */
static int tell_points(struct train *t, const struct kept *h, const double *means, struct err *e)
{
    const struct objective *o = t->objective;
    for (int i = 0; i < o->metric_count; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s/%s", o->metrics[i].name, h->name);
        int rc = train_tell_metric(t, tag, o->metrics[i].value_fn(means[0]), e);
        if (rc)
            return rc;
    }
    return o->pairs ? train_tell_pairs(t, h->name, means, e) : tell_found(t, h->name, e);
}

static int tell(struct train *t, const struct kept *h, const double *means, struct err *e)
{
    const struct objective_loop *own = t->objective->loop;
    double loss = t->state.validation_loss;
    struct door_field fields[4] = {{"step", (double)t->state.step, NULL}, {"loss", loss, NULL}};
    int rc = tell_points(t, h, means, e);
    if (rc ||
        (rc = train_log_metrics(t,
             (struct door_field[]){{"step", (double)t->state.step, NULL},
                 {"validationLoss", loss, NULL},
                 {"validationF1", has_labels(t) ? train_f1(t) : NAN, NULL},
                 {"validationMatch", own ? own->match_fn(t) : NAN, NULL}, {NULL, 0, NULL}},
             e)))
        return rc;
    if (t->objective->pairs)
        train_log_pairs(t, h->name, means);
    if (has_labels(t))
        fields[2] = (struct door_field){"f1", train_f1(t), NULL};
    if (own)
        fields[2] = (struct door_field){"match", own->match_fn(t), NULL};
    log_found(t, h->name, loss);
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
    if (t->objective->loop)
        last->match = t->objective->loop->match_fn(t);
    else
        last->f1 = train_f1(t);
}

static struct kept keep_validation(const struct train *t)
{
    return keep(t, "validation", t->validation ? t->validation : t->data,
        t->validation ? 0 : t->train_samples);
}

int64_t train_looked_at(const struct train *t, int64_t i, const struct data **from)
{
    const struct kept h = keep_validation(t);
    if (i < 0)
        return h.n;
    *from = h.from;
    return sequence_at(&h, i);
}

int train_evaluate(struct train *t, struct err *e)
{
    double means[PREFERENCE_SUMS];
    const struct kept h = keep_validation(t);
    if (h.n < 1)
        return 0;
    int rc = look(t, &h, means, e);
    if (rc)
        return rc;
    t->state.validation_loss = means[0];
    if (isnan(t->state.first_validation_loss))
        t->state.first_validation_loss = t->state.validation_loss;
    note_epoch(t);
    return train_leads(t) ? tell(t, &h, means, e) : 0;
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
        if (t->objective->loop)
            jsonw_num(w, "validationMatch", x->match);
        else
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
        write_found(t, h, &w);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory for a report") : 0;
}

int train_test(struct train *t, struct err *e)
{
    if (!objective_reports(t->objective))
        return 0;
    if (!t->test)
        return train_leads(t) ? write_report(t, NULL, 0, e) : 0;
    const struct kept h = keep(t, "test", t->test, 0);
    double means[PREFERENCE_SUMS];
    int rc = look(t, &h, means, e);
    if (rc || !train_leads(t))
        return rc;
    /* What stands in a checkpoint has had its points already. */
    if (t->saved_step != t->state.step && (rc = tell_points(t, &h, means, e)))
        return rc;
    log_found(t, h.name, means[0]);
    return write_report(t, &h, means[0], e);
}
