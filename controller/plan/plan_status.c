/*
 * plan_status: the next status, and whether it is worth a write. Next status = previous status +
 * what is observed: facts that nobody reports at the moment (progress, layout, checkpoint,
 * attempts) stay as they were. What says something new is written at once, with its events; numbers
 * alone now and then. Numbers and times are rounded, so that what has not changed gives the same
 * bytes. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"

#include <math.h>
#include <stdio.h>

/* What a status that differs in numbers alone waits for: */
#define PROGRESS_EVERY_MS 5000  /* of a job that is ready */
#define PENDING_EVERY_MS  15000 /* of another */
#define STATUS_BYTES      ((size_t)1 << 20)

/* -- what the coordinator reports -- */

static const char *null_if_empty(const char *s)
{
    return s && *s ? s : NULL;
}

static int64_t whole_seconds(int64_t ms)
{
    return ms / 1000 * 1000;
}

/* Four decimals: v * 10^4 is whole, so the division gives the shortest printing. */
static double round_loss(double v)
{
    return isfinite(v) ? round(v * 1e4) / 1e4 : NAN;
}

/* Three digits, for the same reason by a division where they end behind the point. */
static double round_rate(double v)
{
    if (!isfinite(v) || v <= 0)
        return NAN;
    double unit = pow(10, floor(log10(v)) - 2);
    return unit >= 1 ? round(v / unit) * unit : round(v / unit) / round(1 / unit);
}

static void copy_layout(const struct report *r, struct arena *a, struct status *s)
{
    char summary[REPORT_LAYOUT_BYTES];
    report_layout(r, summary);
    s->layout.summary = arena_strdup(a, summary);
    s->layout.ranks = r->ranks;
    s->layout.data = r->data_parallel;
    s->layout.tensor = r->tensor;
    s->layout.pipeline = r->pipeline;
    s->layout.context = r->context;
    s->layout.expert = r->expert;
    s->layout.zero_stage = r->zero_stage;
    s->layout.memory_per_rank = r->memory_per_rank_bytes > 0
        ? arena_printf(a, "%lldMi", (long long)(r->memory_per_rank_bytes >> 20))
        : NULL;
    s->layout.reason = *r->layout_reason ? r->layout_reason : NULL;
    s->layout.balance = *r->layout_balance ? r->layout_balance : NULL;
}

static void copy_progress(const struct report *r, struct status *s)
{
    bool dated = r->eta_seconds >= 0 && r->last_step_ms > 0;
    s->progress.step = r->step;
    s->progress.steps = r->steps;
    s->progress.tokens = r->tokens;
    s->progress.held_out = r->held_out;
    s->progress.loss = round_loss(r->loss);
    s->progress.first_loss = round_loss(r->first_loss);
    s->progress.validation_loss = round_loss(r->validation_loss);
    s->progress.first_validation_loss = round_loss(r->first_validation_loss);
    s->progress.validation_f1 = round_loss(r->validation_f1);
    s->progress.validation_match = round_loss(r->validation_match);
    s->progress.tokens_per_second = round_rate(r->tokens_per_second);
    s->progress.loss_scale = r->loss_scale;
    s->progress.skipped = isfinite(r->loss_scale) ? r->skipped : -1;
    s->progress.last_step_ms = whole_seconds(r->last_step_ms);
    s->progress.eta_ms = dated ? s->progress.last_step_ms + r->eta_seconds * 1000 : 0;
}

static struct verdict copy_verdict(const struct verdict *v)
{
    struct verdict out = *v;
    out.kind = null_if_empty(v->kind);
    out.node = null_if_empty(v->node);
    out.operation = null_if_empty(v->operation);
    out.message = null_if_empty(v->message);
    out.since_ms = whole_seconds(v->since_ms);
    return out;
}

static struct attempt copy_attempt(const struct attempt *t)
{
    struct attempt out = *t;
    out.started_ms = whole_seconds(t->started_ms);
    out.ended_ms = whole_seconds(t->ended_ms);
    out.cause = null_if_empty(t->cause);
    out.node = null_if_empty(t->node);
    out.exit_class = null_if_empty(t->exit_class);
    out.log_tail = null_if_empty(t->log_tail);
    return out;
}

static int by_number(const void *a, const void *b)
{
    const struct attempt *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* The report's attempts, and those of the status that it no longer tells of. */
static int merge_attempts(const struct report *r, struct arena *a, struct status *s, struct err *e)
{
    int n = 0;
    struct attempt *all = arena_array(a, 2 * LIMIT_ATTEMPTS, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for attempts");
    for (int i = 0; i < r->attempt_count && n < LIMIT_ATTEMPTS; i++)
        all[n++] = copy_attempt(&r->attempts[i]);
    int told = n;
    for (int i = 0; i < s->attempt_count && i < LIMIT_ATTEMPTS; i++) {
        bool known = false;
        for (int k = 0; k < told; k++)
            known |= all[k].number == s->attempts[i].number;
        if (!known)
            all[n++] = s->attempts[i];
    }
    qsort(all, (size_t)n, sizeof *all, by_number);
    /* A coordinator that was lost could not tell how its last world ended. */
    for (int i = 0; i + 1 < n; i++)
        if (!all[i].ended_ms) {
            all[i].ended_ms = all[i + 1].started_ms;
            all[i].cause = NAME_CAUSE_COORDINATOR_LOST;
        }
    int drop = n > LIMIT_ATTEMPTS ? n - LIMIT_ATTEMPTS : 0;
    s->attempts = all + drop;
    s->attempt_count = n - drop;
    return 0;
}

static int copy_alerts(const struct report *r, struct arena *a, struct status *s, struct err *e)
{
    struct status_alert *list = arena_array(a, (size_t)r->alert_count + 1, sizeof *list);
    if (!list)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    for (int i = 0; i < r->alert_count; i++)
        list[i] = (struct status_alert){.name = r->alerts[i].name,
            .state = r->alerts[i].firing ? NAME_ALERT_FIRING : NAME_ALERT_INACTIVE,
            .fired_ms = whole_seconds(r->alerts[i].fired_ms),
            .resolved_ms = whole_seconds(r->alerts[i].resolved_ms),
            .message = *r->alerts[i].message ? r->alerts[i].message : NULL};
    s->alerts = list;
    s->alert_count = r->alert_count;
    return 0;
}

static void copy_report(const struct report *r, struct arena *a, struct status *s)
{
    if (r->ranks > 0)
        copy_layout(r, a, s);
    if (r->steps > 0)
        copy_progress(r, s);
    if (r->checkpoint_step >= 0) {
        s->checkpoint.step = r->checkpoint_step;
        s->checkpoint.path = null_if_empty(r->checkpoint_path);
        s->checkpoint.ms = whole_seconds(r->checkpoint_ms);
    }
    if (*r->checkpoint_damaged) {
        s->checkpoint.damaged = r->checkpoint_damaged;
        s->checkpoint.damaged_bytes = r->damaged_bytes;
    }
    if (r->steps > 0)
        s->checkpoint.in_memory = null_if_empty(r->checkpoint_in_memory);
    if (r->restarts > s->restarts)
        s->restarts = r->restarts;
    s->verdict = copy_verdict(&r->verdict);
}

/* Attempts are numbered by agent: those of one are kept. */
static bool tells_of_replica_0(const struct observed *o)
{
    const struct observed_pod *first = observed_replica(o, 0);
    return !jobspec_replicated(&o->job->spec) || (first && first->report == o->report);
}

/* Of a replicated job, each pod of which tells of itself alone: its verdict names the pod. */
static int copy_pods(const struct observed *o, struct arena *a, struct status *s, struct err *e)
{
    int restarts = 0;
    s->verdict = (struct verdict){.replica = -1, .rank = -1};
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *p = &o->pods[i];
        if (!p->report)
            continue;
        restarts += p->report->restarts;
        if (s->verdict.kind || !*p->report->verdict.kind)
            continue;
        s->verdict = copy_verdict(&p->report->verdict);
        s->verdict.replica = p->pod->replica;
        s->verdict.message = arena_printf(
            a, "pod %s: %s", p->pod->name, s->verdict.message ? s->verdict.message : "");
        if (!s->verdict.message)
            return err_set(e, ERR_MEMORY, "no memory for a status");
    }
    if (restarts > s->restarts)
        s->restarts = restarts;
    return 0;
}

/* -- the next status -- */

/* Of a replicated job a pod more than replicas takes the place of one that is to go. */
static void count_replicas(const struct observed *o, const struct serving *v, struct status *s)
{
    int want = o->job->spec.replicas;
    s->ready_replicas = v->ready < want ? v->ready : want;
    s->updated_replicas = v->updated;
}

static void count_pods(const struct observed *o, struct status *s)
{
    s->replicas = s->ready_replicas = 0;
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *p = &o->pods[i];
        if (!p->ours || plan_pod_ended(p->pod))
            continue;
        s->replicas++;
        s->ready_replicas += p->pod->ready && !p->pod->deleting && !p->node_lost &&
            p->pod->replica < o->job->spec.replicas;
    }
}

int plan_status_next(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *out, struct err *e)
{
    const struct jobspec *spec = &o->job->spec;
    const struct verdict no_verdict = {.replica = -1, .rank = -1};
    struct status s = o->job->status;
    s.generation = spec->generation;
    s.task = o->job->valid ? task_name(spec->task) : NULL;
    count_pods(o, &s);
    if (look->serving)
        count_replicas(o, look->serving, &s);
    s.ready = arena_printf(a, "%d/%d", s.ready_replicas, spec->replicas);
    s.selector = arena_printf(a, NAME_LABEL_JOB "=%s", spec->name);
    if (!s.ready || !s.selector)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    s.restarts = s.restarts > 0 ? s.restarts : 0;
    s.verdict = no_verdict;
    int rc = plan_search_status(o, look, a, &s, e);
    if (rc)
        return rc;
    if (o->report)
        copy_report(o->report, a, &s);
    if (o->report && (rc = copy_alerts(o->report, a, &s, e)))
        return rc;
    if (o->report && tells_of_replica_0(o))
        rc = merge_attempts(o->report, a, &s, e);
    if (!rc && look->serving)
        rc = copy_pods(o, a, &s, e);
    if (rc)
        return rc;
    if (look->outcome != OUTCOME_NONE || look->suspended)
        s.verdict = no_verdict;
    plan_term_next(o, &s);
    rc = plan_conditions(o, look, a, &s, e);
    if (rc)
        return rc;
    bool answers = spec->task == TASK_SERVE && status_is_true(&s, NAME_COND_READY);
    s.address = answers
        ? arena_printf(a, "%s.%s.svc:%d", spec->name, spec->namespace_, NAME_PORT_SERVE)
        : NULL;
    *out = s;
    return 0;
}

/* -- whether to write it -- */

/* Whether all that differs can wait: how far the job is, in numbers and in the words that hold
 * them. What settles the numbers is news. */
static bool can_wait(const struct observed *o, const struct status *next, uint64_t hash)
{
    struct status copy = o->job->status;
    int want = o->job->spec.replicas, live = next->replicas;
    bool settled = live == next->ready_replicas && (live == want || !live);
    copy.progress = next->progress;
    const char *damaged = copy.checkpoint.damaged;
    copy.checkpoint = next->checkpoint;
    copy.checkpoint.damaged = damaged;
    if (!settled) {
        copy.replicas = next->replicas;
        copy.ready_replicas = next->ready_replicas;
        copy.updated_replicas = next->updated_replicas;
        copy.ready = next->ready;
    }
    for (int i = 0; i < copy.condition_count && i < next->condition_count; i++)
        copy.conditions[i].message = next->conditions[i].message;
    return status_hash(&copy) == hash;
}

int plan_status(const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    struct status next;
    int rc = plan_status_next(o, look, p->arena, &next, e);
    if (rc)
        return rc;
    uint64_t hash = status_hash(&next);
    if (hash == status_hash(&o->job->status))
        return 0;
    /* A job that begins: what there is to say is said when its first pods are there. */
    bool begins =
        o->job->status.generation < 0 && !o->pod_count && plan_count(p, ACTION_CREATE_POD);
    if (begins && !*o->trouble)
        return 0;
    int64_t every_ms =
        status_is_true(&next, NAME_COND_READY) ? PROGRESS_EVERY_MS : PENDING_EVERY_MS;
    if (o->status_age_ms < every_ms && can_wait(o, &next, hash)) {
        plan_again(p, every_ms - o->status_age_ms);
        return 0;
    }
    buf_auto struct buf body;
    buf_init(&body, STATUS_BYTES);
    rc = status_encode(&next, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_STATUS, e);
    if (!a)
        return -(int)ERR_BUG;
    /* "add" replaces the whole status: what is absent now does not linger. */
    a->body = arena_printf(
        p->arena, "[{\"op\":\"add\",\"path\":\"/status\",\"value\":%s}]", buf_cstr(&body));
    if (!a->body)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    return plan_events(o, &next, p, e);
}
