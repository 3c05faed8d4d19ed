/*
 * train/evaluate: the objective's metrics over a fixed set of sequences, spread evenly over those
 * that are held for it and shared over the ranks. Changes nothing that is trained. What is told is
 * the same on every rank, and rank 0 tells it.
 */
#include "runtime/train/internal.h"

#include "base/log.h"

#include <math.h>

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

static int look_at_share(struct train *t, const struct kept *h, struct err *e)
{
    const struct objective_loop *loop = t->objective->loop;
    int64_t first, count;
    data_share(h->n, train_parts(t), train_part(t), &first, &count);
    int64_t rounds = train_rounds(t, h->n, count);
    for (int64_t i = 0, b; rounds-- > 0; i += b) {
        b = count - i < t->plan.micro_sequences ? count - i : t->plan.micro_sequences;
        if (!b) {
            int rc = train_idle(t, 0, false, e);
            if (rc)
                return rc;
            continue;
        }
        train_set_length(t, longest(t, h, first + i, b));
        for (int64_t j = 0; j < b; j++)
            train_fill(t, h->from, sequence_at(h, first + i + j), j);
        int rc = loop->loss_fn(t, b, 0, false, e);
        if (rc || (loop->seen_fn && (rc = loop->seen_fn(t, first + i, b, e))))
            return rc;
    }
    return train_skip_rest(t, h->n, count, false, e);
}

int train_look(struct train *t, const struct kept *h, double *means, struct err *e)
{
    const struct objective_loop *loop = t->objective->loop;
    double sums[OBJECTIVE_SUMS] = {0};
    float total[OBJECTIVE_SUMS];
    int rc;
    if ((rc = look_at_share(t, h, e)) || (rc = loop->sums_fn(t, sums, e)))
        return rc;
    for (int i = 0; i < loop->sums; i++)
        total[i] = train_counts(t) ? (float)(sums[i] / (double)count_labels(t, h)) : 0;
    if ((rc = coll_allreduce(t->coll, total, loop->sums, DTYPE_F32, COLL_SUM, e)))
        return rc;
    for (int i = 0; i < loop->sums; i++)
        means[i] = (double)total[i];
    return 0;
}

/* To TensorBoard. */
static int tell_points(struct train *t, const struct kept *h, const double *means, struct err *e)
{
    const struct objective_loop *loop = t->objective->loop;
    int rc = train_tell_figure(t, "loss", h->name, means[0], e);
    return rc || !loop->tell_fn ? rc : loop->tell_fn(t, h->name, means, e);
}

static void log_found(const struct train *t, const struct kept *h, const double *means)
{
    if (t->objective->loop->log_fn)
        t->objective->loop->log_fn(t, h->name, means);
}

static int tell(struct train *t, const struct kept *h, const double *means, struct err *e)
{
    const struct objective_score *score = t->objective->loop->score;
    struct door_field step = {"step", (double)t->state.step, NULL}, end = {NULL, 0, NULL};
    double value = score ? score->value_fn(t) : NAN;
    int rc = tell_points(t, h, means, e);
    if (rc ||
        (rc = train_log_metrics(t,
             (struct door_field[]){step, {"validationLoss", means[0], NULL},
                 {score ? score->validation : NULL, value, NULL}, end},
             e)))
        return rc;
    log_found(t, h, means);
    return train_tell(t, WIRE_EVALUATED,
        (struct door_field[]){
            step, {"loss", means[0], NULL}, {score ? score->name : NULL, value, NULL}, end},
        e);
}

/* What was looked at stands beside what the epoch that ends here was learnt with. */
static void note_epoch(struct train *t)
{
    const struct objective_score *score = t->objective->loop->score;
    struct ckpt_state *s = &t->state;
    struct ckpt_epoch *last = s->epochs + s->epoch_count - 1;
    if (!s->epoch_count || last->step != s->step)
        return;
    last->validation_loss = s->validation_loss;
    last->scores[score->kept] = score->value_fn(t);
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
    double means[OBJECTIVE_SUMS];
    const struct kept h = keep_validation(t);
    if (h.n < 1)
        return 0;
    int64_t begun = trace_begin(t->trace);
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    int rc = t->objective->loop->look_fn(t, &h, means, e);
    trace_end(t->trace, begun, TRACE_RANK, "evaluation", "sequences", h.n);
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
    const struct objective_score *score = t->objective->loop->score;
    jsonw_open(w, "epochs", '[');
    for (int i = 0; i < t->state.epoch_count; i++) {
        const struct ckpt_epoch *x = &t->state.epochs[i];
        jsonw_open(w, NULL, '{');
        jsonw_int(w, "epoch", x->epoch);
        jsonw_int(w, "step", x->step);
        jsonw_num(w, "trainLoss", x->loss);
        jsonw_num(w, "validationLoss", x->validation_loss);
        jsonw_num(w, score->validation, x->scores[score->kept]);
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
        jsonw_int(&w, t->objective->samples, h->n);
        t->objective->loop->write_fn(t, &w);
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
    double means[OBJECTIVE_SUMS];
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    int rc = t->objective->loop->look_fn(t, &h, means, e);
    if (rc || !train_leads(t))
        return rc;
    /* What stands in a checkpoint has had its points already. */
    if (t->saved_step != t->state.step && (rc = tell_points(t, &h, means, e)))
        return rc;
    log_found(t, &h, means);
    return write_report(t, &h, means[0], e);
}
