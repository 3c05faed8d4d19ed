/*
 * report: the tables that describe desired state and report for base/field. Every string is
 * bounded, so that what a coordinator sends can be held in memory and in an object's status. No
 * I/O.
 */
#include "api/report.h"

#include "api/rows.h"
#include "base/hash.h"

#include <math.h>
#include <string.h>

#define MESSAGE_BYTES 1024
#define COUNTER_MAX   9007199254740991.0 /* the greatest integer that JSON carries exactly */

#define TEXT(path_, member, max_)        ROW(path_, STR, member, ""), RANGE(0, max_)
#define COUNTER(path_, member)           ROW(path_, I64, member, "0"), RANGE(0, COUNTER_MAX)
#define SMALL(path_, member, min_, max_) ROW(path_, INT, member, #min_), RANGE(min_, max_)
#define NUMBER(path_, member)            ROW(path_, NUM, member, "nan")
#define ITEMS(path_, member, n, max_, tb) \
    ROW(path_, ITEMS, member, ""), RANGE(0, max_), COUNTED(n), .info = &(tb)
#define RANKS_MAX (LIMIT_REPLICAS * LIMIT_RANKS_PER_REPLICA)

static const char *const state_names[] = {
    "Waiting",
    "Forming",
    "Running",
    "Serving",
    "Stopping",
    "Suspended",
    "Complete",
    "Failed",
    NULL,
};
_Static_assert(COUNT(state_names) == JOB_STATES + 1, "a name for every job state");

/* As err_code_name, which tests/api/test_report.c compares. */
static const char *const class_names[] = {
    "none",
    "retry",
    "user",
    "data",
    "corrupt",
    "device",
    "peer",
    "hang",
    "memory",
    "drained",
    "bug",
    NULL,
};
_Static_assert(COUNT(class_names) == ERR_CODES + 1, "a name for every error code");

const char *job_state_name(enum job_state s)
{
    return s < JOB_STATES ? state_names[s] : "Unknown";
}

#define TABLE struct desired_member
static const struct field member_rows[] = {
    {ROW("replica", INT, replica, NULL), RANGE(0, LIMIT_REPLICAS - 1)},
    {TEXT("pod", pod, 253)},
    {TEXT("uid", uid, 63)},
    {TEXT("node", node, 253)},
    {TEXT("address", address, LIMIT_ADDRESS_BYTES - 1)},
};
static const struct field_table member_table = TABLE_OF(member_rows);
#undef TABLE

#define TABLE struct jobspec_served_adapter
static const struct field adapter_rows[] = {
    {ROW("name", STR, name, NULL), RANGE(1, 128)},
    {ROW("path", STR, path, NULL), RANGE(1, LIMIT_PATH_BYTES - 1)},
};
static const struct field_table adapter_table = TABLE_OF(adapter_rows);
#undef TABLE

#define TABLE struct desired
static const struct field desired_rows[] = {
    {ROW("generation", I64, generation, NULL), RANGE(0, COUNTER_MAX)},
    {ROW("term", I64, term, NULL), RANGE(1, COUNTER_MAX)},
    {ROW("replicas", INT, replicas, NULL), RANGE(0, LIMIT_REPLICAS)},
    {ROW("suspend", BOOL, suspend, "false")},
    {ROW("release", BOOL, release, "false")},
    {MIN_REPLICAS},
    {WAIT_SECONDS},
    {MAX_RESTARTS},
    {WINDOW_SECONDS},
    {HANG_SECONDS},
    {STRAGGLER_FACTOR},
    {ROW("listsAdapters", BOOL, lists_adapters, "false")},
    {ITEMS("adapters", adapters, adapter_count, LIMIT_ADAPTERS, adapter_table)},
    {ITEMS("members", members, member_count, LIMIT_REPLICAS, member_table)},
};
static const struct field_table desired_table = TABLE_OF(desired_rows);
#undef TABLE

#define TABLE struct attempt
static const struct field attempt_rows[] = {
    {COUNTER("number", number)},
    {COUNTER("started", started_ms)},
    {COUNTER("ended", ended_ms)},
    {TEXT("cause", cause, 63)},
    {SMALL("replica", replica, -1, LIMIT_REPLICAS)},
    {SMALL("rank", rank, -1, RANKS_MAX)},
    {TEXT("node", node, 253)},
    {TEXT("exitClass", exit_class, 31)},
    {COUNTER("step", step)},
    {COUNTER("stepsLost", steps_lost)},
    {TEXT("logTail", log_tail, LIMIT_LOG_TAIL_BYTES)},
};
static const struct field_table attempt_table = TABLE_OF(attempt_rows);
#undef TABLE

#define TABLE struct report_rank
static const struct field rank_rows[] = {
    {SMALL("rank", rank, 0, RANKS_MAX)},
    {SMALL("replica", replica, 0, LIMIT_REPLICAS)},
    {TEXT("node", node, 253)},
    {TEXT("phase", phase, 63)},
    {COUNTER("step", step)},
    {COUNTER("silentMs", silent_ms)},
    {COUNTER("share", share)},
};
static const struct field_table rank_table = TABLE_OF(rank_rows);
#undef TABLE

#define TABLE struct report_alert
static const struct field alert_rows[] = {
    {TEXT("name", name, 63)},
    {ROW("firing", BOOL, firing, "false")},
    {COUNTER("fired", fired_ms)},
    {COUNTER("resolved", resolved_ms)},
    {TEXT("message", message, 63)},
};
static const struct field_table alert_table = TABLE_OF(alert_rows);
#undef TABLE

#define TABLE struct report
static const struct field report_rows[] = {
    {COUNTER("generation", generation)},
    {COUNTER("term", term)},
    {COUNTER("incarnation", incarnation)},
    {ROW("state", ENUM, state, NULL), .info = state_names},
    {SMALL("worldReplicas", world_replicas, 0, LIMIT_REPLICAS)},
    {SMALL("connected", connected, 0, LIMIT_REPLICAS)},
    {SMALL("restarts", restarts, 0, INT32_MAX)},
    {SMALL("layout.ranks", ranks, 0, RANKS_MAX)},
    {SMALL("layout.data", data_parallel, 0, RANKS_MAX)},
    {SMALL("layout.tensor", tensor, 0, RANKS_MAX)},
    {SMALL("layout.pipeline", pipeline, 0, RANKS_MAX)},
    {SMALL("layout.context", context, 0, RANKS_MAX)},
    {SMALL("layout.expert", expert, 0, RANKS_MAX)},
    {SMALL("layout.zeroStage", zero_stage, 0, 3)},
    {COUNTER("layout.memoryPerRankBytes", memory_per_rank_bytes)},
    {TEXT("layout.reason", layout_reason, LIMIT_REASON_BYTES - 1)},
    {TEXT("layout.balance", layout_balance, LIMIT_REASON_BYTES - 1)},
    {COUNTER("progress.step", step)},
    {COUNTER("progress.steps", steps)},
    {COUNTER("progress.tokens", tokens)},
    {COUNTER("progress.heldOutSequences", held_out)},
    {NUMBER("progress.loss", loss)},
    {NUMBER("progress.firstLoss", first_loss)},
    {NUMBER("progress.validationLoss", validation_loss)},
    {NUMBER("progress.firstValidationLoss", first_validation_loss)},
    {NUMBER("progress.validationF1", validation_f1)},
    {NUMBER("progress.validationMatch", validation_match)},
    {NUMBER("progress.tokensPerSecond", tokens_per_second)},
    {NUMBER("progress.lossScale", loss_scale)},
    {COUNTER("progress.skippedSteps", skipped)},
    {COUNTER("progress.lastStepMs", last_step_ms)},
    {ROW("progress.etaSeconds", I64, eta_seconds, "-1"), RANGE(0, COUNTER_MAX)},
    {ROW("progress.lossHistory", NUMBERS, loss_history, ""), RANGE(0, LIMIT_LOSS_HISTORY),
        COUNTED(loss_history_count)},
    {ROW("checkpoint.step", I64, checkpoint_step, "-1"), RANGE(0, COUNTER_MAX)},
    {COUNTER("checkpoint.ms", checkpoint_ms)},
    {TEXT("checkpoint.path", checkpoint_path, LIMIT_PATH_BYTES - 1)},
    {TEXT("checkpoint.damaged", checkpoint_damaged, LIMIT_NAME_BYTES - 1)},
    {COUNTER("checkpoint.damagedBytes", damaged_bytes)},
    {TEXT("checkpoint.inMemory", checkpoint_in_memory, LIMIT_REASON_BYTES - 1)},
    {TEXT("verdict.kind", verdict.kind, 31)},
    {SMALL("verdict.replica", verdict.replica, -1, LIMIT_REPLICAS)},
    {SMALL("verdict.rank", verdict.rank, -1, RANKS_MAX)},
    {TEXT("verdict.node", verdict.node, 253)},
    {TEXT("verdict.operation", verdict.operation, 63)},
    {TEXT("verdict.message", verdict.message, MESSAGE_BYTES)},
    {COUNTER("verdict.sinceMs", verdict.since_ms)},
    {ITEMS("attempts", attempts, attempt_count, LIMIT_ATTEMPTS, attempt_table)},
    {ITEMS("ranks", rank_rows, rank_row_count, RANKS_MAX, rank_table)},
    {ROW("failure.class", ENUM, failure, "none"), .info = class_names},
    {TEXT("failure.reason", failure_reason, 63)},
    {TEXT("failure.message", failure_message, MESSAGE_BYTES)},
    {TEXT("serveAddress", serve_address, LIMIT_ADDRESS_BYTES - 1)},
    {ITEMS("alerts", alerts, alert_count, LIMIT_ALERTS, alert_table)},
    {COUNTER("adapters.list", adapters_list)},
    {TEXT("adapters.wrong", adapters_wrong, MESSAGE_BYTES)},
};
static const struct field_table report_table = TABLE_OF(report_rows);
#undef TABLE

static int encode(const struct field_table *t, const void *in, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    field_encode(t, in, &w);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "out of memory writing a report") : 0;
}

/* Strings with their ends, so that nothing of one can pass for another's. */
int64_t report_adapters(const struct jobspec_served_adapter *adapters, int count)
{
    uint64_t h = HASH_START;
    for (int i = 0; i < count; i++) {
        h = hash_bytes(h, adapters[i].name, strlen(adapters[i].name) + 1);
        h = hash_bytes(h, adapters[i].path, strlen(adapters[i].path) + 1);
    }
    return (int64_t)(h % (uint64_t)COUNTER_MAX) + 1;
}

struct jobspec_served_adapter *report_copy_adapters(
    const struct jobspec_served_adapter *from, int count, struct arena *a)
{
    struct jobspec_served_adapter *out = arena_array(a, (size_t)count + 1, sizeof *out);
    for (int i = 0; i < count && out; i++) {
        out[i].name = arena_strdup(a, from[i].name);
        out[i].path = arena_strdup(a, from[i].path);
        if (!out[i].name || !out[i].path)
            return NULL;
    }
    return out;
}

int desired_encode(const struct desired *d, struct buf *out, struct err *e)
{
    return encode(&desired_table, d, out, e);
}

uint64_t desired_hash(const struct desired *d)
{
    return field_hash(&desired_table, d);
}

int report_encode(const struct report *r, struct buf *out, struct err *e)
{
    return encode(&report_table, r, out, e);
}

int desired_decode(const struct json *v, struct arena *a, struct desired *out, struct err *e)
{
    const struct field_source s = {"", false, ERR_DATA, a};
    struct desired d;
    if (!json_is_object(v))
        return err_set(e, ERR_DATA, "the desired state must be an object");
    int rc = field_decode(&desired_table, &s, v, &d, e);
    if (rc)
        return rc;
    for (int i = 1; i < d.member_count; i++)
        if (d.members[i].replica <= d.members[i - 1].replica)
            return err_set(e, ERR_DATA, "members[%d]: not sorted by replica", i);
    *out = d;
    return 0;
}

int report_decode(const struct json *v, struct arena *a, struct report *out, struct err *e)
{
    const struct field_source s = {"", false, ERR_DATA, a};
    struct report report;
    if (!json_is_object(v))
        return err_set(e, ERR_DATA, "a report must be an object");
    int rc = field_decode(&report_table, &s, v, &report, e);
    if (rc)
        return rc;
    *out = report;
    return 0;
}

size_t report_limit_bytes(int64_t ranks)
{
    int64_t n = LIMIT_REPORT_FACTS_BYTES + ranks * LIMIT_REPORT_RANK_BYTES;
    return (size_t)(n < LIMIT_REPORT_BYTES ? n : LIMIT_REPORT_BYTES);
}

void report_layout(const struct report *r, char out[REPORT_LAYOUT_BYTES])
{
    const struct {
        const char *name;
        int ways;
    } axes[] = {{"tp", r->tensor}, {"pp", r->pipeline}, {"cp", r->context}, {"ep", r->expert}};
    size_t n = REPORT_LAYOUT_BYTES, at = 0;
    *out = 0;
    if (!r->ranks)
        return;
    at = (size_t)snprintf(out, n, "dp%d", r->data_parallel);
    for (size_t i = 0; i < COUNT(axes); i++)
        if (axes[i].ways > 1)
            at += (size_t)snprintf(out + at, n - at, " x %s%d", axes[i].name, axes[i].ways);
    if (r->zero_stage)
        snprintf(out + at, n - at, " zero%d", r->zero_stage);
}

void report_init(struct report *r)
{
    *r = (struct report){
        .loss = NAN,
        .first_loss = NAN,
        .validation_loss = NAN,
        .first_validation_loss = NAN,
        .validation_f1 = NAN,
        .validation_match = NAN,
        .tokens_per_second = 0,
        .loss_scale = NAN,
        .eta_seconds = -1,
        .layout_reason = "",
        .layout_balance = "",
        .checkpoint_step = -1,
        .checkpoint_path = "",
        .checkpoint_damaged = "",
        .checkpoint_in_memory = "",
        .verdict =
            {.kind = "", .replica = -1, .rank = -1, .node = "", .operation = "", .message = ""},
        .failure_reason = "",
        .failure_message = "",
        .serve_address = "",
        .adapters_wrong = "",
    };
}
