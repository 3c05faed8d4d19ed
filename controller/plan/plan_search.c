/*
 * plan_search: a job that searches has trials in place of pods. What a trial came to stands in
 * status once it was seen there, and in the trial's own status before; from both, and the spec, all
 * else follows, so a controller that ends loses nothing. A suspended search deletes the trials that
 * run: made anew, they go on from their checkpoints. The run that writes the best trial's model is
 * a job like a trial's, of a fixed name, and is looked at in its own status alone. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "controller/plan/podspec.h"

#include <math.h>

static const struct status_trial *recorded_run(const struct status *s, int trial, int rung)
{
    for (int i = 0; i < s->trials.count; i++)
        if (s->trials.table[i].index == trial && s->trials.table[i].rung == rung)
            return &s->trials.table[i];
    return NULL;
}

static const struct job *job_of_run(const struct observed *o, int trial, int rung)
{
    for (int i = 0; i < o->trial_count; i++)
        if (o->trials[i].trial == trial && o->trials[i].rung == rung)
            return o->trials[i].job;
    return NULL;
}

static bool says(const struct status_trial *t, enum trial_state state)
{
    return t && t->state && !strcmp(t->state, trial_state_name(state));
}

/* search_look_fn; user: the snapshot. */
static enum trial_state look_at_run(void *user, int trial, int rung, double *value)
{
    const struct observed *o = user;
    const struct status_trial *t = recorded_run(&o->job->status, trial, rung);
    const struct job *j = job_of_run(o, trial, rung);
    if (says(t, TRIAL_FAILED))
        return TRIAL_FAILED;
    if (says(t, TRIAL_SUCCEEDED)) {
        *value = t->value;
        return TRIAL_SUCCEEDED;
    }
    if (!j)
        return TRIAL_WAITING;
    if (status_is_true(&j->status, NAME_COND_FAILED))
        return TRIAL_FAILED;
    if (!status_is_true(&j->status, NAME_COND_COMPLETE))
        return TRIAL_RUNNING;
    *value = search_metric(&o->job->spec,
        (struct search_figures){j->status.progress.loss, j->status.progress.validation_loss,
            j->status.progress.validation_f1, j->status.progress.validation_match});
    return TRIAL_SUCCEEDED;
}

/* -- the outlook -- */

/* Why a job failed; "" where it says nothing. */
static const char *failure_of(const struct job *j)
{
    const struct condition *c = j ? status_condition(&j->status, NAME_COND_FAILED) : NULL;
    return c && !strcmp(c->status, "True") ? c->message : "";
}

static bool is_written(const struct search *x)
{
    return x->model >= 0 && x->runs[x->model].state == TRIAL_SUCCEEDED;
}

static const char *describe_best(const struct observed *o, const struct search *x, struct arena *a)
{
    const struct search_run *r = &x->runs[x->best];
    const char *parameters = search_parameters(&o->job->spec, r->trial, a);
    if (!parameters)
        return NULL;
    const char *best = arena_printf(a, "the best trial is %d (%s), %s %.4f", r->trial, parameters,
        search_metric_name(&o->job->spec), r->value);
    if (!best)
        return NULL;
    return is_written(x) ? arena_printf(a, "%s, in %s", best, o->job->spec.train.output)
                         : arena_printf(a, "%s, but its model was not written: %.500s", best,
                               failure_of(job_of_run(o, SEARCH_MODEL, SEARCH_MODEL)));
}

/* Why they failed, by an example. */
static const char *describe_failures(
    const struct observed *o, const struct search *x, struct arena *a)
{
    const char *why = "";
    for (int i = 0; i < o->trial_count && !*why; i++) {
        const char *of = failure_of(o->trials[i].job);
        if (*of)
            why = arena_printf(a, "; %s: %.500s", o->trials[i].job->spec.name, of);
        if (!why)
            return NULL;
    }
    return arena_printf(a, "all %d trials failed, or ended without %s%s", x->failed,
        search_metric_name(&o->job->spec), why);
}

int plan_search_outlook(
    const struct observed *o, struct plan *p, struct outlook *look, struct err *e)
{
    struct search *x = arena_alloc(p->arena, sizeof *x);
    if (!x)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    search_decide(&o->job->spec, look_at_run, (void *)o, x);
    look->search = x;
    if (!x->over)
        return 0;
    look->outcome = is_written(x) ? OUTCOME_COMPLETE : OUTCOME_FAILED;
    look->reason = is_written(x) ? NAME_REASON_COMPLETED
        : x->best >= 0           ? NAME_REASON_NOT_WRITTEN
                                 : NAME_REASON_TRIALS_FAILED;
    look->message =
        x->best >= 0 ? describe_best(o, x, p->arena) : describe_failures(o, x, p->arena);
    return look->message ? 0 : err_set(e, ERR_MEMORY, "no memory for a message");
}

/* -- actions -- */

static int start_trial(
    const struct observed *o, const struct search_run *r, struct plan *p, struct err *e)
{
    struct jobspec job;
    buf_auto struct buf body;
    buf_init(&body, PODSPEC_LIMIT);
    int rc = search_job(&o->job->spec, r, p->arena, &job, e);
    if (rc || (rc = podspec_trial(&o->job->spec, &job, r->trial, &body, e)))
        return rc;
    struct action *a = plan_add(p, ACTION_CREATE_TRIAL, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = job.name;
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a trial");
}

static int start_trials(
    const struct observed *o, const struct search *x, struct plan *p, struct err *e)
{
    int left = x->slots;
    for (int i = 0; i < x->count && left > 0; i++) {
        if (x->runs[i].state != TRIAL_WAITING)
            continue;
        int rc = start_trial(o, &x->runs[i], p, e);
        if (rc)
            return rc;
        left--;
    }
    if (x->slots && x->model >= 0)
        return plan_event(p, false, NAME_REASON_TRIAL_STARTED, e,
            "the model of trial %d is written", x->runs[x->model].trial);
    return x->slots
        ? plan_event(p, false, NAME_REASON_TRIAL_STARTED, e, "started %d trials", x->slots)
        : 0;
}

/* Those that have not ended by themselves; the run that writes only with `all`. */
static int delete_trials(const struct observed *o, bool all, struct plan *p, struct err *e)
{
    int deleted = 0;
    for (int i = 0; i < o->trial_count; i++) {
        const struct job *j = o->trials[i].job;
        bool stays = !all && o->trials[i].trial == SEARCH_MODEL;
        if (stays || j->deleting || status_finished(&j->status, NULL) || deleted == PLAN_PODS)
            continue;
        struct action *a = plan_add(p, ACTION_DELETE_TRIAL, e);
        if (!a)
            return -(int)ERR_BUG;
        a->name = j->spec.name;
        a->uid = j->spec.uid;
        deleted++;
    }
    return deleted
        ? plan_event(p, false, NAME_REASON_TRIAL_DELETED, e, "deleted %d trials", deleted)
        : 0;
}

int plan_search(const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    if (look->finished) {
        int rc = delete_trials(o, true, p, e);
        return rc ? rc : plan_release(o, p, e);
    }
    if (look->outcome != OUTCOME_NONE)
        return 0; /* recorded first: what the trials came to must not go with them */
    if (look->suspend)
        return delete_trials(o, true, p, e);
    /* Of a search that stopped early: they do not count, and hold what the last run needs. */
    int rc = look->search->model >= 0 ? delete_trials(o, false, p, e) : 0;
    return rc ? rc : start_trials(o, look->search, p, e);
}

/* -- status -- */

/* Of a search that is over, what still runs does not count. */
static int write_table(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *next, struct err *e)
{
    const struct search *x = look->search;
    struct status_trial *rows = arena_array(a, (size_t)x->count + 1, sizeof *rows);
    int n = 0;
    for (int i = 0; i < x->count && rows; i++) {
        const struct search_run *r = &x->runs[i];
        if (r->writes || r->state == TRIAL_WAITING ||
            (r->state == TRIAL_RUNNING && look->outcome != OUTCOME_NONE))
            continue;
        rows[n] = (struct status_trial){r->trial, r->rung, trial_state_name(r->state),
            search_parameters(&o->job->spec, r->trial, a), r->value};
        if (!rows[n++].parameters)
            rows = NULL;
    }
    if (!rows)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    next->trials.table = rows;
    next->trials.count = n;
    return 0;
}

int plan_search_status(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *next, struct err *e)
{
    const struct search *x = look->search;
    const char *was = o->job->status.ready;
    if (!x && was && o->job->valid && search_wanted(&o->job->spec))
        next->ready = was; /* it is over: all else stays as it is */
    if (!x)
        return 0;
    int rc = write_table(o, look, a, next, e);
    if (rc)
        return rc;
    next->trials.total = x->total;
    next->trials.running = look->outcome != OUTCOME_NONE ? 0 : x->running;
    next->trials.succeeded = x->succeeded;
    next->trials.failed = x->failed;
    next->ready = arena_printf(a, "%d/%d", x->succeeded + x->failed, x->total);
    if (x->best >= 0) {
        const struct search_run *r = &x->runs[x->best];
        next->trials.best.index = r->trial;
        next->trials.best.value = r->value;
        next->trials.best.parameters = search_parameters(&o->job->spec, r->trial, a);
        next->trials.best.output = is_written(x) ? o->job->spec.train.output : NULL;
    }
    bool whole = next->ready && (x->best < 0 || next->trials.best.parameters);
    return whole ? 0 : err_set(e, ERR_MEMORY, "no memory for a status");
}
