/*
 * status: a table of fields for base/field, and the conditions. Next status = previous status +
 * what is observed: facts that nobody reports at the moment (progress, layout, checkpoint,
 * attempts) stay as they were, and a condition keeps its time while its status stays. Messages hold
 * nothing that changes each second, or every pass would write. Pure; called by decode (reading) and
 * plan (next).
 */
#include "controller/plan/status.h"

#include "base/clock.h"
#include "base/field.h"
#include "api/names.h"
#include "controller/plan/plan.h"

#include <math.h>

#define COUNT(a)   (sizeof a / sizeof *(a))
#define TEXT_BYTES 4096 /* more than is ever written: what is longer is not the controller's */

/* -- encoding -- */

static int time_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    int64_t ms = json_string_value(v) ? clock_parse(json_string_value(v)) : -1;
    if (ms < 0)
        return field_refuse(s, path, e, "must be a time");
    *(int64_t *)at = ms;
    return 0;
}

static void time_encode(struct jsonw *w, const char *key, const void *at)
{
    char text[40];
    clock_format(*(const int64_t *)at, text, sizeof text);
    jsonw_str(w, key, text);
}

static bool time_absent(const void *at)
{
    return *(const int64_t *)at <= 0;
}

static const struct field_custom time_field = {
    time_decode, time_encode, time_absent, sizeof(int64_t)};

#define ROW(path_, kind_, member, def_) \
    .path = (path_), .kind = FIELD_##kind_, .offset = offsetof(TABLE, member), .def = (def_)
#define TEXT(path_, member)   ROW(path_, STR, member, field_none), .max = TEXT_BYTES
#define TIME(path_, member)   ROW(path_, CUSTOM, member, ""), .info = &time_field
#define SMALL(path_, member)  ROW(path_, INT, member, "-1"), .min = 0, .max = INT32_MAX
#define WHOLE(path_, member)  ROW(path_, I64, member, "-1"), .min = 0, .max = 0x1p53
#define NUMBER(path_, member) ROW(path_, NUM, member, "nan")

#define TABLE struct condition
static const struct field condition_rows[] = {
    {TEXT("type", type)},
    {TEXT("status", status)},
    {TEXT("reason", reason)},
    {ROW("message", STR, message, ""), .max = TEXT_BYTES},
    {TIME("lastTransitionTime", transition_ms)},
    {WHOLE("observedGeneration", generation)},
};
static const struct field_table condition_table = {
    condition_rows, COUNT(condition_rows), sizeof(TABLE)};
#undef TABLE

#define TABLE struct attempt
static const struct field attempt_rows[] = {
    {WHOLE("number", number)},
    {TIME("started", started_ms)},
    {TIME("ended", ended_ms)},
    {TEXT("cause", cause)},
    {SMALL("replica", replica)},
    {SMALL("rank", rank)},
    {TEXT("node", node)},
    {TEXT("exitClass", exit_class)},
    {WHOLE("step", step)},
    {WHOLE("stepsLost", steps_lost)},
    {TEXT("logTail", log_tail)},
};
static const struct field_table attempt_table = {attempt_rows, COUNT(attempt_rows), sizeof(TABLE)};
#undef TABLE

#define TABLE struct status
static const struct field status_rows[] = {
    {WHOLE("observedGeneration", generation)},
    {TEXT("task", task)},
    {TEXT("state", state)},
    {TEXT("ready", ready)},
    {SMALL("replicas", replicas)},
    {SMALL("readyReplicas", ready_replicas)},
    {TEXT("selector", selector)},
    {SMALL("restarts", restarts)},
    {TEXT("address", address)},
    {ROW("conditions", INLINE, conditions, ""), .max = STATUS_CONDITIONS,
        .count_offset = offsetof(TABLE, condition_count), .info = &condition_table},
    {TEXT("layout.summary", layout.summary)},
    {SMALL("layout.ranks", layout.ranks)},
    {SMALL("layout.data", layout.data)},
    {SMALL("layout.tensor", layout.tensor)},
    {SMALL("layout.pipeline", layout.pipeline)},
    {SMALL("layout.context", layout.context)},
    {TEXT("layout.memoryPerRank", layout.memory_per_rank)},
    {WHOLE("progress.step", progress.step)},
    {WHOLE("progress.steps", progress.steps)},
    {WHOLE("progress.tokens", progress.tokens)},
    {WHOLE("progress.heldOutSequences", progress.held_out)},
    {NUMBER("progress.loss", progress.loss)},
    {NUMBER("progress.firstLoss", progress.first_loss)},
    {NUMBER("progress.validationLoss", progress.validation_loss)},
    {NUMBER("progress.firstValidationLoss", progress.first_validation_loss)},
    {NUMBER("progress.tokensPerSecond", progress.tokens_per_second)},
    {TIME("progress.eta", progress.eta_ms)},
    {TIME("progress.lastStepTime", progress.last_step_ms)},
    {WHOLE("checkpoint.step", checkpoint.step)},
    {TEXT("checkpoint.path", checkpoint.path)},
    {TIME("checkpoint.time", checkpoint.ms)},
    {WHOLE("coordinator.term", coordinator.term)},
    {TEXT("coordinator.podUID", coordinator.pod_uid)},
    {SMALL("coordinator.restarts", coordinator.restarts)},
    {TEXT("verdict.kind", verdict.kind)},
    {SMALL("verdict.replica", verdict.replica)},
    {SMALL("verdict.rank", verdict.rank)},
    {TEXT("verdict.node", verdict.node)},
    {TEXT("verdict.operation", verdict.operation)},
    {TIME("verdict.since", verdict.since_ms)},
    {TEXT("verdict.message", verdict.message)},
    {ROW("attempts", ITEMS, attempts, ""), .max = LIMIT_ATTEMPTS,
        .count_offset = offsetof(TABLE, attempt_count), .info = &attempt_table},
};
static const struct field_table status_table = {status_rows, COUNT(status_rows), sizeof(TABLE)};
#undef TABLE

void status_init(struct status *s)
{
    *s = (struct status){
        .generation = -1,
        .replicas = -1,
        .ready_replicas = -1,
        .restarts = -1,
        .layout = {.ranks = -1, .data = -1, .tensor = -1, .pipeline = -1, .context = -1},
        .progress = {.step = -1,
            .steps = -1,
            .tokens = -1,
            .held_out = -1,
            .loss = NAN,
            .first_loss = NAN,
            .validation_loss = NAN,
            .first_validation_loss = NAN,
            .tokens_per_second = NAN},
        .checkpoint = {.step = -1},
        .coordinator = {.term = -1, .restarts = -1},
        .verdict = {.replica = -1, .rank = -1},
    };
}

void status_decode(const struct json *v, struct arena *a, struct status *out)
{
    const struct field_source s = {"status", false, ERR_DATA, a};
    struct err ignored;
    if (!json_is_object(v) || field_decode(&status_table, &s, v, out, &ignored))
        status_init(out);
    for (int i = 0; i < out->condition_count; i++) {
        const struct condition *c = &out->conditions[i];
        if (!c->type || !c->status || !c->reason)
            status_init(out);
    }
}

int status_encode(const struct status *s, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    field_encode(&status_table, s, &w);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory for a status") : 0;
}

uint64_t status_hash(const struct status *s)
{
    return field_hash(&status_table, s);
}

const struct condition *status_condition(const struct status *s, const char *type)
{
    for (int i = 0; i < s->condition_count; i++)
        if (!strcmp(s->conditions[i].type, type))
            return &s->conditions[i];
    return NULL;
}

bool status_is_true(const struct status *s, const char *type)
{
    const struct condition *c = status_condition(s, type);
    return c && !strcmp(c->status, "True");
}

bool status_finished(const struct status *s, int64_t *since_ms)
{
    const char *type = status_is_true(s, NAME_COND_COMPLETE) ? NAME_COND_COMPLETE
        : status_is_true(s, NAME_COND_FAILED)                ? NAME_COND_FAILED
                                                             : NULL;
    if (type && since_ms)
        *since_ms = status_condition(s, type)->transition_ms;
    return type != NULL;
}

/* -- the next status -- */

struct activity { /* what the job is doing, in the words of its conditions */
    const char *state, *reason, *message;
    bool ready, steady, stalled;
};

static const char *optional(const char *s)
{
    return s && *s ? s : NULL;
}

static const char *put_off(const struct observed *o, struct arena *a, const char **reason)
{
    const struct pod *worst = NULL;
    int n = 0;
    for (int i = 0; i < o->pod_count; i++) {
        const struct pod *p = o->pods[i].pod;
        if (!o->pods[i].ours || p->deleting || !*p->blocked_reason || p->ready ||
            p->replica >= o->job->spec.replicas)
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

static void running(const struct observed *o, struct arena *a, struct activity *act)
{
    const struct report *r = o->report;
    enum task task = o->job->spec.task;
    act->ready = true;
    act->steady =
        r->generation == o->job->spec.generation && r->world_replicas == o->job->spec.replicas;
    act->reason = task == TASK_TRAIN ? NAME_REASON_TRAINING
        : task == TASK_SERVE         ? NAME_REASON_SERVING
                                     : NAME_REASON_RUNNING;
    act->state = act->reason;
    act->message = arena_printf(a, "%d ranks on %d of %d replicas, incarnation %lld", r->ranks,
        r->world_replicas, o->job->spec.replicas, (long long)r->incarnation);
}

static void waiting(const struct observed *o, int ready, struct arena *a, struct activity *act)
{
    const char *message = put_off(o, a, &act->reason);
    int want = o->job->spec.replicas;
    act->state = "Pending";
    if (message) {
        act->message = message;
    } else if (o->unreachable_ms > PLAN_UNREACHABLE_MS) {
        act->state = "Unreachable";
        act->reason = NAME_REASON_COORDINATOR;
        act->message = "the agent of replica 0 does not answer";
    } else if (o->report && ready == want) {
        act->state = "Forming";
        act->reason = NAME_REASON_FORMING_WORLD;
        act->message = arena_printf(a, "%d of %d agents have joined", o->report->connected, want);
    } else {
        act->reason = NAME_REASON_PODS_PENDING;
        act->message = arena_printf(a, "%d of %d pods are ready", ready, want);
    }
}

static void active(const struct observed *o, int ready, struct arena *a, struct activity *act)
{
    const struct report *r = o->report;
    bool runs = r && o->unreachable_ms <= PLAN_UNREACHABLE_MS &&
        (r->state == JOB_RUNNING || r->state == JOB_SERVING);
    if (runs)
        running(o, a, act);
    else
        waiting(o, ready, a, act);
    if (!*o->trouble)
        return;
    act->stalled = true;
    act->steady = false;
    if (!runs) {
        act->state = "Blocked";
        act->reason = "RequestRefused";
        act->message = o->trouble;
    }
}

static void describe(const struct observed *o, const struct outlook *look, int ready,
    struct arena *a, struct activity *act)
{
    *act = (struct activity){.message = ""};
    if (look->outcome == OUTCOME_FAILED) {
        *act = (struct activity){"Failed", look->reason, look->message, false, true, true};
    } else if (look->outcome == OUTCOME_COMPLETE) {
        *act = (struct activity){"Complete", look->reason, look->message, false, true, false};
    } else if (!o->job->valid) {
        *act = (struct activity){
            "Invalid", NAME_REASON_USER_ERROR, o->job->problem, false, false, true};
    } else if (look->suspend) {
        bool zero = !o->job->spec.suspend;
        act->state = look->suspended ? "Suspended" : "Suspending";
        act->reason = zero ? NAME_REASON_SCALED_TO_ZERO : NAME_REASON_SUSPENDED;
        act->message = look->suspended ? "the pods are released"
                                       : "a checkpoint is awaited before the pods go";
        act->steady = look->suspended && !o->pod_count;
    } else {
        active(o, ready, a, act);
    }
}

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

static const char *yes(bool b)
{
    return b ? "True" : "False";
}

static void healthy_condition(
    const struct observed *o, const struct outlook *look, struct status *s)
{
    const struct report *r = o->report;
    const char *type = NAME_COND_HEALTHY;
    bool idle = look->outcome != OUTCOME_NONE || look->suspend;
    if (s->verdict.kind)
        add_condition(
            o, s, type, "False", s->verdict.kind, s->verdict.message ? s->verdict.message : "");
    else if (!idle && o->unreachable_ms > PLAN_UNREACHABLE_MS)
        add_condition(o, s, type, "Unknown", NAME_REASON_COORDINATOR,
            "the agent of replica 0 does not answer");
    else if (!idle && r && (r->state == JOB_RUNNING || r->state == JOB_SERVING))
        add_condition(o, s, type, "True", NAME_REASON_ALL_WELL, "");
    else
        add_condition(o, s, type, "Unknown", NAME_REASON_NOT_STARTED, "no ranks run");
}

static void own_conditions(const struct observed *o, const struct outlook *look,
    const struct activity *act, struct status *s)
{
    bool complete = look->outcome == OUTCOME_COMPLETE, failed = look->outcome == OUTCOME_FAILED;
    bool over = complete || failed;
    const char *why = act->reason, *text = act->message;
    add_condition(o, s, NAME_COND_READY, yes(act->ready), why, text);
    add_condition(
        o, s, NAME_COND_PROGRESSING, yes(!over && !look->suspend && o->job->valid), why, text);
    add_condition(o, s, NAME_COND_COMPLETE, yes(complete), why, complete ? text : "");
    add_condition(o, s, NAME_COND_FAILED, yes(failed), why, failed ? text : "");
    add_condition(o, s, NAME_COND_SUSPENDED, yes(!over && look->suspended),
        look->suspend ? why : NAME_REASON_NOT_SUSPENDED, look->suspended ? text : "");
    healthy_condition(o, look, s);
    add_condition(o, s, NAME_COND_RECONCILING, yes(!act->steady), why, act->steady ? "" : text);
    add_condition(o, s, NAME_COND_STALLED, yes(act->stalled), why,
        !act->stalled     ? ""
            : *o->trouble ? o->trouble
                          : text);
}

/* Conditions of others (a queue's, say) stay as they are. */
static void foreign_conditions(const struct observed *o, struct status *s)
{
    const struct status *old = &o->job->status;
    for (int i = 0; i < old->condition_count && s->condition_count < STATUS_CONDITIONS; i++)
        if (!status_condition(s, old->conditions[i].type))
            s->conditions[s->condition_count++] = old->conditions[i];
}

static double rounded(double v, double unit)
{
    return isfinite(v) ? round(v / unit) * unit : NAN;
}

/* Four decimals: v * 10^4 is whole, so the division gives the shortest printing. */
static double loss_of(double v)
{
    return isfinite(v) ? round(v * 1e4) / 1e4 : NAN;
}

static double rate_of(double v)
{
    if (!isfinite(v) || v <= 0)
        return NAN;
    double unit = pow(10, floor(log10(v)) - 2);
    return unit >= 1 ? rounded(v, unit) : round(v / unit) / round(1 / unit);
}

static const char *layout_summary(const struct report *r, struct arena *a)
{
    char text[128];
    size_t n = (size_t)snprintf(text, sizeof text, "dp%d", r->data_parallel);
    const int ways[] = {r->tensor, r->pipeline, r->context};
    const char *const names[] = {"tp", "pp", "cp"};
    for (int i = 0; i < 3; i++)
        if (ways[i] > 1)
            n += (size_t)snprintf(text + n, sizeof text - n, " x %s%d", names[i], ways[i]);
    return arena_strdup(a, text);
}

static void from_report(const struct report *r, struct arena *a, struct status *s)
{
    if (r->ranks > 0) {
        s->layout.summary = layout_summary(r, a);
        s->layout.ranks = r->ranks;
        s->layout.data = r->data_parallel;
        s->layout.tensor = r->tensor;
        s->layout.pipeline = r->pipeline;
        s->layout.context = r->context;
        s->layout.memory_per_rank = r->memory_per_rank_bytes > 0
            ? arena_printf(a, "%lldMi", (long long)(r->memory_per_rank_bytes >> 20))
            : NULL;
    }
    if (r->steps > 0) {
        s->progress.step = r->step;
        s->progress.steps = r->steps;
        s->progress.tokens = r->tokens;
        s->progress.held_out = r->held_out;
        s->progress.loss = loss_of(r->loss);
        s->progress.first_loss = loss_of(r->first_loss);
        s->progress.validation_loss = loss_of(r->validation_loss);
        s->progress.first_validation_loss = loss_of(r->first_validation_loss);
        s->progress.tokens_per_second = rate_of(r->tokens_per_second);
        s->progress.last_step_ms = r->last_step_ms / 1000 * 1000;
        s->progress.eta_ms = r->eta_seconds >= 0 && r->last_step_ms > 0
            ? s->progress.last_step_ms + r->eta_seconds * 1000
            : 0;
    }
    if (r->checkpoint_step >= 0) {
        s->checkpoint.step = r->checkpoint_step;
        s->checkpoint.path = optional(r->checkpoint_path);
        s->checkpoint.ms = r->checkpoint_ms / 1000 * 1000;
    }
    if (r->restarts > s->restarts)
        s->restarts = r->restarts;
    s->verdict = r->verdict;
    s->verdict.kind = optional(r->verdict.kind);
    s->verdict.node = optional(r->verdict.node);
    s->verdict.operation = optional(r->verdict.operation);
    s->verdict.message = optional(r->verdict.message);
    s->verdict.since_ms = r->verdict.since_ms / 1000 * 1000;
}

static struct attempt tidy_attempt(const struct attempt *t)
{
    struct attempt out = *t;
    out.started_ms = t->started_ms / 1000 * 1000;
    out.ended_ms = t->ended_ms / 1000 * 1000;
    out.cause = optional(t->cause);
    out.node = optional(t->node);
    out.exit_class = optional(t->exit_class);
    out.log_tail = optional(t->log_tail);
    return out;
}

static int by_number(const void *a, const void *b)
{
    const struct attempt *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* The report's attempts, and those of the status that it no longer tells of. */
static int merge_attempts(
    const struct observed *o, struct arena *a, struct status *s, struct err *e)
{
    const struct report *r = o->report;
    int n = 0;
    struct attempt *all = arena_array(a, 2 * LIMIT_ATTEMPTS, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for attempts");
    for (int i = 0; i < r->attempt_count && n < LIMIT_ATTEMPTS; i++)
        all[n++] = tidy_attempt(&r->attempts[i]);
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
            all[i].cause = "CoordinatorLost";
        }
    int drop = n > LIMIT_ATTEMPTS ? n - LIMIT_ATTEMPTS : 0;
    s->attempts = all + drop;
    s->attempt_count = n - drop;
    return 0;
}

static void count_pods(const struct observed *o, int *live, int *ready)
{
    *live = *ready = 0;
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *p = &o->pods[i];
        if (!p->ours || plan_pod_ended(p->pod))
            continue;
        ++*live;
        *ready += p->pod->ready && !p->pod->deleting && !p->node_lost &&
            p->pod->replica < o->job->spec.replicas;
    }
}

int status_next(const struct observed *o, const struct outlook *look, struct arena *a,
    struct status *out, struct err *e)
{
    const struct jobspec *spec = &o->job->spec;
    struct status s = o->job->status;
    struct activity act;
    int live, ready;
    count_pods(o, &live, &ready);
    s.generation = spec->generation;
    s.task = o->job->valid ? task_name(spec->task) : NULL;
    s.replicas = live;
    s.ready_replicas = ready;
    s.ready = arena_printf(a, "%d/%d", ready, spec->replicas);
    s.selector = arena_printf(a, NAME_LABEL_JOB "=%s", spec->name);
    s.restarts = s.restarts > 0 ? s.restarts : 0;
    s.verdict = (struct verdict){.replica = -1, .rank = -1};
    if (o->report) {
        from_report(o->report, a, &s);
        int rc = merge_attempts(o, a, &s, e);
        if (rc)
            return rc;
    }
    if (look->outcome != OUTCOME_NONE || look->suspended)
        s.verdict = (struct verdict){.replica = -1, .rank = -1};
    plan_term_next(o, &s);
    describe(o, look, ready, a, &act);
    s.state = act.state;
    s.address = act.ready && spec->task == TASK_SERVE
        ? arena_printf(a, "%s.%s.svc:%d", spec->name, spec->namespace_, NAME_PORT_SERVE)
        : NULL;
    if (!s.ready || !s.selector || !act.message)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    s.condition_count = 0;
    own_conditions(o, look, &act, &s);
    foreign_conditions(o, &s);
    *out = s;
    return 0;
}
