/*
 * evaluate/choice: the log-likelihood of each choice behind its question (Brown et al. 2020, 2.4),
 * as lm-evaluation-harness has it: acc takes the choice of the greatest sum, acc_norm that of the
 * greatest sum a character; of equals the first. Where question and choice are longer than the
 * window, what the question begins with is left out.
 */
#include "runtime/evaluate/internal.h"

#include "base/log.h"
#include "runtime/door/beat.h"

#include <math.h>

enum { EXTRA_RIGHT, EXTRA_RIGHT_NORM, EXTRA_CUT };

struct asking {
    struct evaluation *v;
    struct questions questions;
};

static int go_on(void *user, struct err *e)
{
    const struct evaluation *v = user;
    beat(v->conf->door->page);
    return atomic_load(&v->conf->door->stop) ? err_set(e, ERR_DRAINED, "stopped on request") : 0;
}

/* Of the question's tokens, what does not fit into the window with the choice. */
static int64_t cut_of(
    const struct evaluation *v, const struct question *q, const struct questions_choice *x)
{
    int64_t over = q->count - 1 + x->count - v->meter.length;
    return over > 0 ? over : 0;
}

/* The question without its first `cut` tokens, and without the last one. */
static int read_context(
    struct evaluation *v, const int32_t *ids, int64_t count, int64_t cut, struct err *e)
{
    int64_t n = count - 1 - cut;
    return n ? engine_extend(v->meter.engine, ids + cut, n, 0, false, NULL, e) : 0;
}

/* Behind what was read. */
static int lose_choice(struct evaluation *v, const struct questions *all, const struct question *q,
    const struct questions_choice *x, int64_t cut, double *loss, struct err *e)
{
    const int32_t *ids = all->ids.id;
    struct meter *m = &v->meter;
    m->inputs[0] = ids[q->first + q->count - 1];
    for (int64_t i = 0; i + 1 < x->count; i++)
        m->inputs[i + 1] = ids[x->first + i];
    return meter_loss(m, m->inputs, ids + x->first, x->count, q->count - 1 - cut, loss, e);
}

int evaluate_losses(struct evaluation *v, const struct questions *all, const struct question *q,
    double *losses, int64_t *tokens, struct err *e)
{
    int64_t known = -1, n = q->count; /* of the question, the model has read all but `known` */
    for (int k = 0; k < q->choices; k++) {
        const struct questions_choice *x = &all->choices[q->choice + k];
        int64_t cut = cut_of(v, q, x);
        int rc = cut == known ? 0 : read_context(v, all->ids.id + q->first, n, cut, e);
        losses[k] = 0;
        if (rc || (rc = lose_choice(v, all, q, x, cut, &losses[k], e)))
            return rc;
        *tokens += x->count + (cut == known ? 0 : n - 1 - cut);
        known = cut;
    }
    return 0;
}

/* The first of the least. */
static int least(const double *values, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = values[i] < values[best] ? i : best;
    return best;
}

static int look_at_question(void *user, int64_t item, struct rounds_item *out, struct err *e)
{
    const struct asking *a = user;
    const struct question *q = &a->questions.list[evaluation_item(a->v, item)];
    double losses[QUESTIONS_CHOICES], norms[QUESTIONS_CHOICES];
    int64_t tokens = 0;
    int rc = evaluate_losses(a->v, &a->questions, q, losses, &tokens, e);
    if (rc)
        return rc;
    struct rounds_item found = {.loss = losses[q->answer], .tokens = (double)tokens};
    found.labels = (double)a->questions.choices[q->choice + q->answer].count;
    found.extra[EXTRA_RIGHT] = least(losses, q->choices) == q->answer;
    for (int k = 0; k < q->choices; k++) {
        const struct questions_choice *x = &a->questions.choices[q->choice + k];
        norms[k] = losses[k] / (double)x->characters;
        if (cut_of(a->v, q, x))
            found.extra[EXTRA_CUT] = 1;
    }
    found.extra[EXTRA_RIGHT_NORM] = least(norms, q->choices) == q->answer;
    *out = found;
    return 0;
}

/* Of a mean of n zeros and ones, by the variance of a sample. */
static double standard_error(double mean, int64_t n)
{
    return n > 1 ? sqrt(mean * (1 - mean) / (double)(n - 1)) : NAN;
}

static void report(const struct evaluation *v, struct jsonw *w)
{
    struct rounds_item all = rounds_sum(v->found, v->items);
    double n = (double)v->items, loss = all.loss / all.labels;
    double right = all.extra[EXTRA_RIGHT] / n, norm = all.extra[EXTRA_RIGHT_NORM] / n;
    double error = standard_error(right, v->items), norm_error = standard_error(norm, v->items);
    jsonw_int(w, "questions", v->items);
    jsonw_int(w, "truncated", (int64_t)all.extra[EXTRA_CUT]);
    jsonw_num(w, "accuracy", right);
    jsonw_num(w, "accuracyStandardError", error);
    jsonw_num(w, "accuracyNorm", norm);
    jsonw_num(w, "accuracyNormStandardError", norm_error);
    jsonw_num(w, "loss", loss);
    if (all.extra[EXTRA_CUT] > 0)
        log_warn("questions are longer than spec.evaluate.sequenceLength: what they begin with is "
                 "left out",
            LOG_I("questions", (int64_t)all.extra[EXTRA_CUT]), LOG_I("of", v->items));
    log_info("evaluated", LOG_S("objective", evaluated_name(v->spec->evaluate.objective)),
        LOG_I("questions", v->items), LOG_F("accuracy", right), LOG_F("standard_error", error),
        LOG_F("accuracy_norm", norm), LOG_F("norm_standard_error", norm_error),
        LOG_F("loss", loss));
}

static int read_questions(struct asking *a, struct chat *chat, struct err *e)
{
    const struct evaluation *v = a->v;
    const struct questions_conf c = {.path = v->spec->evaluate.data,
        .tok = v->meter.tok,
        .chat = chat,
        .length = v->meter.length,
        .progress = {go_on, a->v}};
    return questions_open(&c, &a->questions, e);
}

int evaluate_choice(struct evaluation *v, struct jsonw *w, struct err *e)
{
    struct asking a = {.v = v};
    struct chat *chat = NULL;
    int rc = v->spec->evaluate.chat ? chat_open(v->weights, &chat, e) : 0;
    if (rc)
        return err_wrap(e, "spec.evaluate.chat");
    if (!(rc = read_questions(&a, chat, e)) &&
        !(rc = evaluation_share(v, a.questions.count, look_at_question, &a, e)) &&
        evaluation_leads(v))
        report(v, w);
    questions_done(&a.questions);
    chat_close(chat);
    return rc;
}
