/*
 * train: the step loop. The host looks at the device after each step that it has enqueued, or after
 * a few where it cannot read the device's memory (take_steps). Rank 0 alone reports; what all ranks
 * must decide alike comes out of a reduction, never from a clock or a flag of their own.
 */
#include "runtime/train/train.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/point.h"
#include "runtime/model/shares.h"
#include "runtime/train/balance.h"
#include "runtime/train/export.h"
#include "runtime/train/internal.h"

#include <math.h>

#define AHEAD_S 1.0     /* between two looks at the device, for requests to be heard */
#define STOPS   0x1p40f /* more than all ranks that are busy with a checkpoint */

struct wish { /* of any rank; the same on every rank */
    bool stop, save;
    bool written; /* no rank is busy with a checkpoint; not told beside a stop, which waits */
};

/* -- stepping -- */

/* A training does not end for want of a picture. */
static void record_step(struct train *t, int64_t step)
{
    struct err e;
    if (trace_step(t->trace, step, &e))
        log_warn("the trace could not be written", LOG_S("error", e.text));
}

static int update(struct train *t, int64_t step, struct err *e)
{
    int64_t begun = trace_begin(t->trace);
    beat_phase(t->door->page, WIRE_PHASE_OPTIMIZER);
    optim_set_scale(t->optim, scale_factor(&t->state.scale), t->state.scale.skipped);
    int rc = optim_step(t->optim, step, NULL, e);
    trace_end(t->trace, begun, TRACE_RANK, "optimizer", NULL, 0);
    return rc;
}

static int enqueue_step(struct train *t, int64_t step, struct err *e)
{
    int64_t start_ns = clock_ns();
    record_step(t, step);
    int rc = t->objective->loop->compute_fn(t, step, e);
    if (rc || (t->balanced && (rc = train_time_step(t, start_ns, e))) || (rc = train_reduce(t, e)))
        return rc;
    rc = update(t, step, e);
    /* Every step, for no other wait for the device has a deadline. The update is still to be done
       then, and what comes next is enqueued meanwhile. A step later, launches and uploads would
       stand behind a reduction that may never end, and wait for room among themselves. */
    if (rc || (t->tensor && (rc = coll_reduce_wait(t->tensor, e))) ||
        (t->pipeline && (rc = coll_reduce_wait(t->pipeline, e))) ||
        (t->expert && (rc = coll_reduce_wait(t->expert, e))) ||
        (t->context && (rc = coll_reduce_wait(t->context, e))) ||
        (rc = coll_reduce_wait(t->replicas, e)) ||
        (t->exchange && (rc = exchange_wait(t->exchange, e))) ||
        (rc = optim_choose(t->optim, step, e)))
        return rc;
    return train_prune(t, step, e);
}

int train_prune(struct train *t, int64_t step, struct err *e)
{
    double zeros;
    int rc = sparsity_prune(t->sparsity, step, &zeros, e);
    if (!rc && zeros >= 0 && train_leads(t))
        log_info("pruned", LOG_I("step", step), LOG_F("sparsity", zeros));
    return rc;
}

static bool save_is_due(struct train *t)
{
    int64_t seconds = t->spec->checkpoint.every_seconds;
    return atomic_exchange(&t->door->checkpoint, false) ||
        (train_leads(t) && seconds > 0 && !t->saving.phase &&
            clock_ms() - t->saved_ms >= seconds * 1000);
}

/* The share of the busiest expert in each of n steps, over all ranks. */
static int settle_experts(struct train *t, int n, struct step *s, struct err *e)
{
    int64_t experts = t->config.experts;
    float counts[PASS_AHEAD * MODEL_EXPERTS_LIMIT]; /* (n, experts) */
    int rc = pass_expert_load(t->pass, counts, e);
    if (rc || (rc = coll_allreduce(t->coll, counts, n * experts, DTYPE_F32, COLL_SUM, e)))
        return rc;
    for (int i = 0; i < n; i++) {
        const float *count = counts + i * experts;
        double sum = 0, most = 0;
        for (int64_t j = 0; j < experts; j++) {
            sum += (double)count[j];
            most = fmax(most, (double)count[j]);
        }
        s[i].busiest_expert = sum > 0 ? most / sum : 0;
    }
    return 0;
}

/* Of the n steps that were enqueued last, this rank's part of the mean square of their norms. */
static int look_at_local(struct train *t, int n, float *squares, struct err *e)
{
    double norm;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        rc = optim_look(t->optim, t->state.step + 1 + i, &norm, e);
        squares[i] = rc ? 0 : (float)(norm * norm / t->plan.layout.dp);
    }
    return rc;
}

/* Looks at n steps that were enqueued since start_ns. Losses and wishes become the world's, and so
   does how many are enqueued next. */
static int settle(
    struct train *t, int n, int64_t start_ns, struct step *s, struct wish *w, struct err *e)
{
    const struct objective_loop *loop = t->objective->loop;
    double sums[PASS_AHEAD + OBJECTIVE_SUMS];
    /* losses; stop or busy, save; seconds a step; all sums; squares of local norms */
    float v[2 * PASS_AHEAD + 3 + OBJECTIVE_SUMS];
    int rc = t->config.experts ? settle_experts(t, n, s, e) : 0;
    int more = loop->sums > 1 ? loop->sums : 0;
    bool busy;
    if (rc || (rc = loop->sums_fn(t, sums, e)) || (rc = train_saving(t, &busy, e)))
        return rc;
    for (int i = 0; i < n + more && !train_counts(t); i++)
        sums[i] = 0;
    for (int i = 0; i < n; i++)
        v[i] = (float)(sums[i] / (double)train_labels(t, t->state.step + 1 + i));
    v[n] = atomic_load(&t->door->stop) ? STOPS : busy ? 1 : 0;
    v[n + 1] = save_is_due(t) ? 1 : 0;
    v[n + 2] = (float)((double)(clock_ns() - start_ns) * 1e-9 / n / t->orders->world);
    for (int i = 0; i < more; i++)
        v[n + 3 + i] = (float)(sums[i] / (double)train_labels(t, t->state.step + 1));
    float *squares = v + n + 3 + more;
    int local = t->outer ? n : 0;
    if ((rc = look_at_local(t, local, squares, e)) ||
        (rc = coll_allreduce(t->coll, v, n + 3 + more + local, DTYPE_F32, COLL_SUM, e)))
        return rc;
    for (int i = 0; i < n; i++) {
        s[i].loss = (double)v[i];
        s[i].grad_norm = local ? sqrt((double)squares[i]) : 0;
        s[i].seconds = (double)(clock_ns() - start_ns) * 1e-9 / n;
    }
    for (int i = 0; i < more; i++) /* of these no step is ahead of another */
        s->means[i] = (double)v[n + 3 + i];
    *w = (struct wish){.stop = v[n] >= STOPS, .save = v[n + 1] > 0, .written = !(v[n] > 0)};
    double seconds = (double)v[n + 2];
    t->ahead = seconds * PASS_AHEAD < AHEAD_S ? PASS_AHEAD : (int64_t)(AHEAD_S / seconds);
    return 0;
}

/* The epoch whose last whole batch is taken next behind `step`, and the step at whose end it is. */
static int64_t next_epoch(const struct train *t, int64_t step, int64_t *end)
{
    int64_t batch = t->spec->train.batch_sequences, samples = t->train_samples;
    int64_t epoch = step * batch / samples;
    while (epoch * samples / batch <= step)
        epoch++;
    *end = epoch * samples / batch;
    return epoch;
}

/* The mean loss of an epoch's labels, as it went, of steps that count; at its end it is kept, of
   the newest epochs. */
static void add_to_epoch(struct train *t, double loss, bool counts)
{
    struct ckpt_state *s = &t->state;
    if (!objective_reports(t->objective))
        return;
    int64_t labels = train_labels(t, s->step), end, epoch = next_epoch(t, s->step - 1, &end);
    if (counts) {
        s->epoch_loss += loss * (double)labels;
        s->epoch_labels += labels;
    }
    if (end != s->step)
        return;
    if (s->epoch_count == CKPT_EPOCHS)
        memmove(s->epochs, s->epochs + 1, (size_t)--s->epoch_count * sizeof *s->epochs);
    struct ckpt_epoch *x = &s->epochs[s->epoch_count++];
    *x = (struct ckpt_epoch){.epoch = epoch,
        .step = s->step,
        .loss = s->epoch_loss / (double)s->epoch_labels,
        .validation_loss = NAN};
    for (int i = 0; i < CKPT_SCORES; i++)
        x->scores[i] = NAN;
    s->epoch_loss = 0;
    s->epoch_labels = 0;
    if (train_leads(t))
        log_info(
            "epoch", LOG_I("epoch", x->epoch), LOG_I("step", x->step), LOG_F("trainLoss", x->loss));
}

/* Of gradients of each rank's own, which all have heard of. */
static int judge_local(struct train *t, int64_t step, struct step *s, struct err *e)
{
    double norm;
    if (isfinite(s->grad_norm))
        return 0;
    int rc = optim_norm(t->optim, step, &norm, e);
    return rc ? rc
              : err_set(e, ERR_USER, "the gradient of step %lld is not finite on another rank",
                    (long long)step);
}

/* In FP16 a gradient that is not finite, which is so on all ranks, costs the step, and the scale
   its half; but by the least scale it ends the training, as it does in other types. */
static int judge_gradient(struct train *t, int64_t step, struct step *s, struct err *e)
{
    struct ckpt_scale *scale = &t->state.scale;
    double norm = 0;
    if (t->outer)
        return judge_local(t, step, s, e);
    if (!(scale->scale > 0))
        return optim_norm(t->optim, step, &s->grad_norm, e);
    int rc = optim_look(t->optim, step, &norm, e);
    if (rc)
        return rc;
    bool finite = isfinite(norm);
    if (!scale_step(scale, finite))
        return optim_norm(t->optim, step, &s->grad_norm, e);
    s->grad_norm = finite ? norm : NAN;
    if (!finite && train_leads(t))
        log_warn("step skipped: its gradient was not finite", LOG_I("step", step),
            LOG_F("lossScale", scale->scale), LOG_I("skippedSteps", scale->skipped));
    return 0;
}

/* A step becomes the training's last one, unless its gradient was not finite. */
static int account(struct train *t, struct step *s, struct err *e)
{
    int64_t step = t->state.step + 1;
    int rc;
    if ((rc = judge_gradient(t, step, s, e)) || (rc = train_log_samples(t, step, e)))
        return rc;
    t->state.step = step;
    t->state.samples = step * t->spec->train.batch_sequences;
    t->state.tokens += train_tokens(t, step);
    bool counts = isfinite(s->loss) || !isnan(s->grad_norm); /* not of a step that was skipped */
    if (counts) {
        t->state.loss = s->loss;
        if (step == 1)
            t->state.first_loss = s->loss;
    }
    add_to_epoch(t, s->loss, counts);
    beat_step(t->door->page, step);
    return train_tell_step(t, s, e);
}

static int64_t next_of(int64_t step, int64_t every, int64_t never)
{
    return every ? (step / every + 1) * every : never;
}

/* The next step after which one evaluates; the last one is finish's affair. */
static int64_t next_evaluation(const struct train *t)
{
    int64_t every = t->spec->train.evaluate_every_steps;
    if (every)
        return next_of(t->state.step, every, 0);
    int64_t end = t->steps;
    if (objective_reports(t->objective) && !t->spec->train.steps)
        (void)next_epoch(t, t->state.step, &end);
    return end;
}

/* The last step that may be enqueued before the host looks: one after which something else is due
   ends the run. */
static int64_t last_ahead(const struct train *t)
{
    const struct jobspec_train *s = &t->spec->train;
    int64_t step = t->state.step;
    int64_t last = step + (t->runs_ahead && t->ahead > 1 ? t->ahead : 1);
    const int64_t due[] = {t->steps, next_evaluation(t),
        next_of(step, t->spec->checkpoint.every_steps, last),
        next_of(step, t->outer ? s->communication.local_steps : 0, last),
        next_of(step, t->balanced ? BALANCE_STEPS : 0, last),
        next_of(step, t->copies ? train_copy_period(t) : 0, last),
        next_of(step, s->histogram_every_steps, last),
        next_of(step, s->generate.every_steps, last)};
    for (size_t i = 0; i < sizeof due / sizeof *due; i++)
        last = due[i] < last ? due[i] : last;
    return last;
}

/* Enqueues a run of steps, waits for the device and accounts for each. */
static int take_steps(struct train *t, struct wish *w, struct err *e)
{
    int64_t begun = t->state.step, last = last_ahead(t), start_ns = clock_ns();
    int n = (int)(last - begun), rc;
    struct step s[PASS_AHEAD] = {{0}};
    for (int i = 0; i < n; i++) {
        if (i > 0)
            pass_next_loss(t->pass);
        rc = enqueue_step(t, begun + 1 + i, e);
        if (rc)
            return rc;
    }
    rc = train_copied(t, e);
    rc = rc ? rc : settle(t, n, start_ns, s, w, e);
    for (int i = 0; i < n && !rc; i++)
        rc = account(t, &s[i], e);
    return rc;
}

/* Wishes wait until all have the same weights; true: now they have. */
static bool take_wish(struct train *t, struct wish *w)
{
    t->wants_stop |= w->stop;
    t->wants_save |= w->save;
    w->stop = t->wants_stop;
    w->save = t->wants_save;
    if (!train_shares(t))
        return false;
    t->wants_stop = t->wants_save = false;
    return true;
}

/* A world before this one may have ended while it saved what this one was begun with. */
static int save_recalled(struct train *t, struct err *e)
{
    int64_t every = t->spec->checkpoint.every_steps, step = t->state.step;
    return step > t->saved_step && step > 0 && every && step % every == 0
        ? train_save(t, SAVE_BEHIND, e)
        : 0;
}

/* Steps until the last one (0) or a stop (-ERR_DRAINED). */
static int run_steps(struct train *t, struct err *e)
{
    int64_t save_every = t->spec->checkpoint.every_steps;
    int rc = save_recalled(t, e);
    if (rc)
        return rc;
    while (t->state.step < t->steps) {
        struct wish w = {0};
        point_round(t->state.step);
        int64_t evaluation = next_evaluation(t);
        rc = take_steps(t, &w, e);
        int64_t step = t->state.step;
        if (rc || (w.written && (rc = train_save_goes_on(t, e))))
            return rc;
        point_round(step);
        bool shares = take_wish(t, &w);
        if (t->outer && shares && (rc = outer_step(t->outer, e)))
            return rc;
        if (step == t->steps)
            return 0;
        if (!shares)
            continue;
        if (t->balanced && step % BALANCE_STEPS == 0 && (rc = train_rebalance(t, e)))
            return rc;
        if (step == evaluation)
            rc = train_evaluate(t, e);
        if (!rc && (w.save || w.stop || (save_every && step % save_every == 0)))
            rc = train_save(t, w.stop ? SAVE_NOW : SAVE_BEHIND, e);
        if (rc)
            return rc;
        if (!w.stop && (rc = train_copy(t, e)))
            return rc;
        if (w.stop)
            return err_set(e, ERR_DRAINED, "stopped on request after step %lld", (long long)step);
    }
    return 0;
}

/* -- ending -- */

/* Rank 0 writes what those that share the model tell it. */
static int write_output(struct train *t, const struct export *x, struct err *e)
{
    if (t->spec->train.exported_by)
        return 0;
    if (!train_leads(t))
        return model_is_divided(t->model) ? shares_answer(t->model, e) : 0;
    int rc = export_model(x, e);
    return rc ? rc : shares_end(t->model, e);
}

static int finish(struct train *t, struct err *e)
{
    int rc;
    if ((t->saved_step != t->state.step && (rc = train_evaluate(t, e))) ||
        (rc = train_test(t, e)) || (rc = train_save(t, SAVE_NOW, e)))
        return rc;
    record_step(t, 0);
    beat_phase(t->door->page, WIRE_PHASE_EXPORT);
    const struct export x = {.model = t->model,
        .config = &t->config,
        .labels = (const char *const *)t->names.names,
        .tokenizer_from = t->weights,
        .spec = t->spec,
        .steps = t->steps,
        .store = model_type_of(t->spec->precision),
        .page = t->door->page,
        .embeds = t->objective->headless,
        .report = &t->report};
    rc = write_output(t, &x, e);
    if (rc || (rc = coll_barrier(t->coll, e)))
        return rc;
    train_drop_copies(t);
    return 0;
}

/* Nothing may wait for ranks that will not come, nor for a device that waits for them. */
static void let_go(struct train *t, const struct err *why)
{
    struct dev_info info;
    dev_describe(t->dev, &info);
    if (info.host_readable)
        return;
    door_end_soon(t->door, why);
    coll_abort(t->coll);
}

static int run(struct train *t, struct err *e)
{
    int rc;
    if ((rc = train_open(t, e)) || (t->state.step == 0 && (rc = train_evaluate(t, e))) ||
        (rc = run_steps(t, e)))
        return rc;
    return finish(t, e);
}

int train_run(const struct train_conf *c, struct err *e)
{
    struct train t = {.door = c->door,
        .orders = c->orders,
        .dev = c->dev,
        .spec = c->orders->spec,
        .budget_bytes = c->budget_bytes,
        .coll = c->coll,
        .log_fd = -1,
        .metrics_fd = -1};
    int rc = run(&t, e);
    if (rc == -ERR_DRAINED)
        record_step(&t, 0);
    if (!rc)
        rc = door_send_done(t.door, t.state.step, t.spec->train.output, e);
    else if (rc == -ERR_DRAINED)
        (void)door_send_done(t.door, t.state.step, NULL, NULL);
    if (rc && rc != -ERR_DRAINED)
        let_go(&t, e);
    train_close(&t);
    return rc;
}
