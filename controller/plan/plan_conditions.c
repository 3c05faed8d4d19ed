/*
 * plan_conditions: what a job is doing, in words: its state, and the conditions with their reasons
 * and messages. A condition keeps its time while its status stays, and one that is not the
 * controller's (a queue's, say) stays as it is. Messages hold nothing that changes each second, or
 * every pass would write. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"

struct activity { /* the state, and what most conditions say of it */
    const char *state, *reason, *message;
    bool ready, steady, stalled;
};

/* Why pods do not start, by an example: one that a scheduler may yet place says the least. NULL:
 * none is held up. */
static const char *explain_held_up(const struct observed *o, struct arena *a, const char **reason)
{
    const struct pod *worst = NULL;
    int n = 0, surge = jobspec_replicated(&o->job->spec);
    for (int i = 0; i < o->pod_count; i++) {
        const struct pod *p = o->pods[i].pod;
        if (!o->pods[i].ours || p->deleting || !*p->blocked_reason || p->ready ||
            p->replica >= o->job->spec.replicas + surge)
            continue;
        n++;
        if (!worst ||
            (!strcmp(worst->blocked_reason, NAME_REASON_UNSCHEDULABLE) &&
                strcmp(p->blocked_reason, NAME_REASON_UNSCHEDULABLE) != 0))
            worst = p;
    }
    if (!worst)
        return NULL;
    *reason = worst->blocked_reason;
    return n == 1
        ? arena_printf(a, "pod %s: %s", worst->name, worst->blocked_message)
        : arena_printf(a, "%d pods, for example %s: %s", n, worst->name, worst->blocked_message);
}

static void describe_running(const struct observed *o, struct arena *a, struct activity *act)
{
    const struct report *r = o->report;
    enum task task = o->job->spec.task;
    act->ready = true;
    act->steady =
        r->generation == o->job->spec.generation && r->world_replicas == o->job->spec.replicas;
    act->reason = task == TASK_TRAIN ? NAME_REASON_TRAINING
        : task == TASK_SERVE         ? NAME_REASON_SERVING
        : task == TASK_CONVERT       ? NAME_REASON_CONVERTING
        : task == TASK_EVALUATE      ? NAME_REASON_EVALUATING
                                     : NAME_REASON_RUNNING;
    act->state = act->reason;
    act->message = arena_printf(a, "%d ranks on %d of %d replicas, incarnation %lld", r->ranks,
        r->world_replicas, o->job->spec.replicas, (long long)r->incarnation);
}

static void describe_waiting(
    const struct observed *o, int ready, struct arena *a, struct activity *act)
{
    int want = o->job->spec.replicas;
    const char *message = explain_held_up(o, a, &act->reason);
    act->state = NAME_STATE_PENDING;
    if (message) {
        act->message = message;
    } else if (o->unreachable_ms > PLAN_UNREACHABLE_MS && !jobspec_replicated(&o->job->spec)) {
        act->state = NAME_STATE_UNREACHABLE;
        act->reason = NAME_REASON_COORDINATOR;
        act->message = "the agent of replica 0 does not answer";
    } else if (o->report && ready == want && !jobspec_replicated(&o->job->spec)) {
        act->state = NAME_STATE_FORMING;
        act->reason = NAME_REASON_FORMING_WORLD;
        act->message = arena_printf(a, "%d of %d agents have joined", o->report->connected, want);
    } else {
        act->reason = NAME_REASON_PODS_PENDING;
        act->message = arena_printf(a, "%d of %d pods are ready", ready, want);
    }
}

/* Some pods answer. What keeps others from it is told beside that. */
static void describe_serving(
    const struct observed *o, const struct serving *s, struct arena *a, struct activity *act)
{
    int want = o->job->spec.replicas;
    const char *reason, *held = explain_held_up(o, a, &reason);
    act->ready = true;
    act->steady = s->updated == want && s->live == want;
    act->state = act->reason = NAME_REASON_SERVING;
    act->message = s->stale
        ? arena_printf(a, "%d of %d replicas answer, %d of the present version",
              s->ready < want ? s->ready : want, want, s->updated)
        : arena_printf(a, "%d of %d replicas answer", s->ready < want ? s->ready : want, want);
    if (s->failed && act->message) {
        act->stalled = true;
        act->message = arena_printf(a, "%s; pod %s gave up: %s", act->message, s->failed->pod->name,
            s->failed->report->failure_message);
    } else if (held && act->message) {
        act->message = arena_printf(a, "%s; %s", act->message, held);
    }
}

static bool report_runs(const struct report *r)
{
    return r && (r->state == JOB_RUNNING || r->state == JOB_SERVING);
}

static void describe_active(const struct observed *o, const struct serving *s, int ready,
    struct arena *a, struct activity *act)
{
    bool runs =
        s ? s->ready > 0 : report_runs(o->report) && o->unreachable_ms <= PLAN_UNREACHABLE_MS;
    if (runs && s)
        describe_serving(o, s, a, act);
    else if (runs)
        describe_running(o, a, act);
    else
        describe_waiting(o, ready, a, act);
    if (!*o->trouble)
        return;
    act->stalled = true;
    act->steady = false;
    if (!runs) {
        act->state = NAME_STATE_BLOCKED;
        act->reason = NAME_REASON_REFUSED;
        act->message = o->trouble;
    }
}

static void describe_search(const struct observed *o, const struct outlook *look,
    const struct status *next, struct arena *a, struct activity *act)
{
    const struct search *x = look->search;
    for (int i = 0; i < o->trial_count; i++)
        act->ready |= status_is_true(&o->trials[i].job->status, NAME_COND_READY);
    act->state = act->reason = NAME_REASON_SEARCHING;
    act->steady = !x->slots && !*o->trouble;
    act->stalled = *o->trouble;
    act->message = x->model >= 0
        ? arena_printf(a, "%s trials are over; the model of trial %d, with %s %.4f, is written",
              next->ready, next->trials.best.index, search_metric_name(&o->job->spec),
              next->trials.best.value)
        : x->best < 0
        ? arena_printf(a, "%s trials are over, %d run", next->ready, x->running)
        : arena_printf(a, "%s trials are over, %d run; the best is trial %d with %s %.4f",
              next->ready, x->running, next->trials.best.index, search_metric_name(&o->job->spec),
              next->trials.best.value);
    if (act->stalled && !x->running) {
        act->state = NAME_STATE_BLOCKED;
        act->reason = NAME_REASON_REFUSED;
        act->message = o->trouble;
    }
}

static void describe_suspended(
    const struct observed *o, const struct outlook *look, struct activity *act)
{
    bool zero = !o->job->spec.suspend;
    act->state = look->suspended ? NAME_STATE_SUSPENDED : NAME_STATE_SUSPENDING;
    act->reason = zero ? NAME_REASON_SCALED_TO_ZERO : NAME_REASON_SUSPENDED;
    act->message =
        look->suspended ? "the pods are released" : "a checkpoint is awaited before the pods go";
    act->steady = look->suspended && !o->pod_count;
}

static void describe_job(const struct observed *o, const struct outlook *look,
    const struct status *next, struct arena *a, struct activity *act)
{
    *act = (struct activity){.message = ""};
    if (look->outcome == OUTCOME_FAILED)
        *act = (struct activity){
            NAME_STATE_FAILED, look->reason, look->message, .steady = true, .stalled = true};
    else if (look->outcome == OUTCOME_COMPLETE)
        *act = (struct activity){NAME_STATE_COMPLETE, look->reason, look->message, .steady = true};
    else if (!o->job->valid)
        *act = (struct activity){
            NAME_STATE_INVALID, NAME_REASON_USER_ERROR, o->job->problem, .stalled = true};
    else if (look->suspend)
        describe_suspended(o, look, act);
    else if (look->search)
        describe_search(o, look, next, a, act);
    else
        describe_active(o, look->serving, next->ready_replicas, a, act);
}

/* -- conditions -- */

static void add_condition(const struct observed *o, struct status *s, const char *type,
    const char *status, const char *reason, const char *message)
{
    const struct condition *old = status_condition(&o->job->status, type);
    bool same = old && !strcmp(old->status, status) && old->transition_ms > 0;
    s->conditions[s->condition_count++] = (struct condition){
        .type = type,
        .status = status,
        .reason = reason,
        .message = message,
        .generation = o->job->spec.generation,
        /* Whole seconds, as the API keeps them: else the next pass would see a change. */
        .transition_ms = same ? old->transition_ms : o->now_ms / 1000 * 1000,
    };
}

static const char *true_or_false(bool b)
{
    return b ? "True" : "False";
}

static void add_healthy(const struct observed *o, const struct outlook *look, struct status *s)
{
    const char *type = NAME_COND_HEALTHY;
    bool idle = look->outcome != OUTCOME_NONE || look->suspend;
    if (s->verdict.kind)
        add_condition(
            o, s, type, "False", s->verdict.kind, s->verdict.message ? s->verdict.message : "");
    else if (!idle && o->unreachable_ms > PLAN_UNREACHABLE_MS)
        add_condition(o, s, type, "Unknown", NAME_REASON_COORDINATOR,
            look->serving ? "the agent of a ready pod does not answer"
                          : "the agent of replica 0 does not answer");
    else if (!idle && (look->serving ? look->serving->ready > 0 : report_runs(o->report)))
        add_condition(o, s, type, "True", NAME_REASON_ALL_WELL, "");
    else
        add_condition(o, s, type, "Unknown", NAME_REASON_NOT_STARTED, "no ranks run");
}

static void add_own_conditions(const struct observed *o, const struct outlook *look,
    const struct activity *act, struct status *s)
{
    bool complete = look->outcome == OUTCOME_COMPLETE, failed = look->outcome == OUTCOME_FAILED;
    bool over = complete || failed;
    bool progressing = !over && !look->suspend && o->job->valid;
    const char *why = act->reason, *text = act->message;
    add_condition(o, s, NAME_COND_READY, true_or_false(act->ready), why, text);
    add_condition(o, s, NAME_COND_PROGRESSING, true_or_false(progressing), why, text);
    add_condition(o, s, NAME_COND_COMPLETE, true_or_false(complete), why, complete ? text : "");
    add_condition(o, s, NAME_COND_FAILED, true_or_false(failed), why, failed ? text : "");
    add_condition(o, s, NAME_COND_SUSPENDED, true_or_false(!over && look->suspended),
        look->suspend ? why : NAME_REASON_NOT_SUSPENDED, look->suspended ? text : "");
    add_healthy(o, look, s);
    add_condition(
        o, s, NAME_COND_RECONCILING, true_or_false(!act->steady), why, act->steady ? "" : text);
    const char *stalled_by = *o->trouble ? o->trouble : text;
    add_condition(
        o, s, NAME_COND_STALLED, true_or_false(act->stalled), why, act->stalled ? stalled_by : "");
}

/* Which replicas have the adapters that the spec lists, and have looked at them; what is wrong with
 * one, as the first of them says. */
static int add_adapters(
    const struct observed *o, const struct outlook *look, struct arena *a, struct status *s)
{
    const struct jobspec_serve *v = &o->job->spec.serve;
    if (!v->adapter_memory || !look->serving || look->outcome != OUTCOME_NONE || look->suspend)
        return 0;
    int64_t list = report_adapters(v->adapters, v->adapter_count);
    int have = 0, live = 0, want = o->job->spec.replicas;
    const struct observed_pod *wrong = NULL;
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *p = &o->pods[i];
        if (!plan_pod_answers(p) || p->pod->revision != look->serving->revision)
            continue;
        bool has = p->report && p->report->adapters_list == list;
        live++;
        have += has;
        if (has && *p->report->adapters_wrong && !wrong)
            wrong = p;
    }
    want = live > want ? live : want;
    const char *text = wrong
        ? arena_printf(a, "pod %s: %s", wrong->pod->name, wrong->report->adapters_wrong)
        : have < want
        ? arena_printf(a, "%d of %d replicas have the %d adapters", have, want, v->adapter_count)
        : arena_printf(a, "%d adapters, in each of %d replicas", v->adapter_count, want);
    if (!text)
        return -1;
    add_condition(o, s, NAME_COND_ADAPTERS, true_or_false(!wrong && have == want),
        wrong             ? NAME_REASON_ADAPTER
            : have < want ? NAME_REASON_LISTING
                          : NAME_REASON_LISTED,
        text);
    return 0;
}

static void keep_foreign_conditions(const struct observed *o, struct status *s)
{
    const struct status *old = &o->job->status;
    for (int i = 0; i < old->condition_count && s->condition_count < STATUS_CONDITIONS; i++)
        if (!status_condition(s, old->conditions[i].type) &&
            strcmp(old->conditions[i].type, NAME_COND_ADAPTERS) != 0)
            s->conditions[s->condition_count++] = old->conditions[i];
}

int plan_conditions(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *next, struct err *e)
{
    struct activity act;
    describe_job(o, look, next, a, &act);
    if (!act.message)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    next->state = act.state;
    next->condition_count = 0;
    add_own_conditions(o, look, &act, next);
    if (add_adapters(o, look, a, next))
        return err_set(e, ERR_MEMORY, "no memory for a status");
    keep_foreign_conditions(o, next);
    return 0;
}
