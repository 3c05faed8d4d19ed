/*
 * status: a table of fields for base/field. What it leaves out of a status, nobody writes. Decoding
 * is lenient, and knows no meaning of a value but that a condition has a type, a status and a
 * reason. No decision: what status should say is plan_status.c's affair.
 */
#include "controller/plan/status.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/field.h"
#include <math.h>

#define COUNT(a)   (sizeof a / sizeof *(a))
#define TEXT_BYTES 4096 /* more than is ever written: what is longer is not the controller's */

/* -- codec -- */

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

#define TABLE struct status_alert
static const struct field alert_rows[] = {
    {TEXT("name", name)},
    {TEXT("state", state)},
    {TIME("fired", fired_ms)},
    {TIME("resolved", resolved_ms)},
    {TEXT("message", message)},
};
static const struct field_table alert_table = {alert_rows, COUNT(alert_rows), sizeof(TABLE)};
#undef TABLE

#define TABLE struct status_trial
static const struct field trial_rows[] = {
    {SMALL("index", index)},
    {SMALL("rung", rung)},
    {TEXT("state", state)},
    {NUMBER("value", value)},
    {TEXT("parameters", parameters)},
};
static const struct field_table trial_table = {trial_rows, COUNT(trial_rows), sizeof(TABLE)};
#undef TABLE

#define TABLE struct status
static const struct field status_rows[] = {
    {WHOLE("observedGeneration", generation)},
    {TEXT("task", task)},
    {TEXT("state", state)},
    {TEXT("ready", ready)},
    {SMALL("replicas", replicas)},
    {SMALL("readyReplicas", ready_replicas)},
    {SMALL("updatedReplicas", updated_replicas)},
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
    {SMALL("layout.expert", layout.expert)},
    {SMALL("layout.zeroStage", layout.zero_stage)},
    {TEXT("layout.memoryPerRank", layout.memory_per_rank)},
    {TEXT("layout.reason", layout.reason)},
    {TEXT("layout.balance", layout.balance)},
    {WHOLE("progress.step", progress.step)},
    {WHOLE("progress.steps", progress.steps)},
    {WHOLE("progress.tokens", progress.tokens)},
    {WHOLE("progress.heldOutSequences", progress.held_out)},
    {NUMBER("progress.loss", progress.loss)},
    {NUMBER("progress.firstLoss", progress.first_loss)},
    {NUMBER("progress.validationLoss", progress.validation_loss)},
    {NUMBER("progress.firstValidationLoss", progress.first_validation_loss)},
    {NUMBER("progress.validationF1", progress.validation_f1)},
    {NUMBER("progress.validationMatch", progress.validation_match)},
    {NUMBER("progress.tokensPerSecond", progress.tokens_per_second)},
    {NUMBER("progress.lossScale", progress.loss_scale)},
    {WHOLE("progress.skippedSteps", progress.skipped)},
    {TIME("progress.eta", progress.eta_ms)},
    {TIME("progress.lastStepTime", progress.last_step_ms)},
    {WHOLE("checkpoint.step", checkpoint.step)},
    {TEXT("checkpoint.path", checkpoint.path)},
    {TEXT("checkpoint.damaged", checkpoint.damaged)},
    {WHOLE("checkpoint.damagedBytes", checkpoint.damaged_bytes)},
    {TEXT("checkpoint.inMemory", checkpoint.in_memory)},
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
    {ROW("alerts", ITEMS, alerts, ""), .max = LIMIT_ALERTS,
        .count_offset = offsetof(TABLE, alert_count), .info = &alert_table},
    {SMALL("trials.total", trials.total)},
    {SMALL("trials.running", trials.running)},
    {SMALL("trials.succeeded", trials.succeeded)},
    {SMALL("trials.failed", trials.failed)},
    {SMALL("trials.best.index", trials.best.index)},
    {NUMBER("trials.best.value", trials.best.value)},
    {TEXT("trials.best.parameters", trials.best.parameters)},
    {TEXT("trials.best.output", trials.best.output)},
    {ROW("trials.table", ITEMS, trials.table, ""), .max = STATUS_TRIALS,
        .count_offset = offsetof(TABLE, trials.count), .info = &trial_table},
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
        .updated_replicas = -1,
        .restarts = -1,
        .layout = {.ranks = -1,
            .data = -1,
            .tensor = -1,
            .pipeline = -1,
            .context = -1,
            .expert = -1,
            .zero_stage = -1},
        .progress = {.step = -1,
            .steps = -1,
            .tokens = -1,
            .held_out = -1,
            .skipped = -1,
            .loss = NAN,
            .first_loss = NAN,
            .validation_loss = NAN,
            .first_validation_loss = NAN,
            .validation_f1 = NAN,
            .validation_match = NAN,
            .tokens_per_second = NAN,
            .loss_scale = NAN},
        .checkpoint = {.step = -1},
        .coordinator = {.term = -1, .restarts = -1},
        .verdict = {.replica = -1, .rank = -1},
        .trials = {.total = -1,
            .running = -1,
            .succeeded = -1,
            .failed = -1,
            .best = {.index = -1, .value = NAN}},
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

/* -- looking -- */

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
