/*
 * fill: the reverse of the controller's status writer, for people. It is lenient: what is absent or
 * of another type stays unknown on the screen, since a newer or older controller may serve the
 * object.
 */
#include "cli/fill.h"

#include "api/names.h"
#include "base/clock.h"

#include <math.h>

void fill_init(struct screen *s, int64_t now_ms)
{
    *s = (struct screen){.name = "",
        .namespace_ = "",
        .task = "",
        .state = NAME_STATE_UNKNOWN,
        .why = "",
        .layout = "",
        .hint = "",
        .trial_best = -1};
    report_init(&s->report);
    s->report.tokens_per_second = NAN;
    s->now_ms = now_ms;
}

static int64_t time_of(const struct json *object, const char *key)
{
    const char *text = json_str(object, key, NULL);
    int64_t ms = text ? clock_parse(text) : -1;
    return ms > 0 ? ms : 0;
}

static void fill_progress(struct report *r, const struct json *status, int64_t now_ms)
{
    const struct json *p = json_get(status, "progress"), *c = json_get(status, "checkpoint");
    int64_t eta = time_of(p, "eta");
    r->step = json_int(p, "step", 0);
    r->steps = json_int(p, "steps", 0);
    r->tokens = json_int(p, "tokens", 0);
    r->loss = json_num(p, "loss", NAN);
    r->first_loss = json_num(p, "firstLoss", NAN);
    r->validation_loss = json_num(p, "validationLoss", NAN);
    r->first_validation_loss = json_num(p, "firstValidationLoss", NAN);
    r->validation_f1 = json_num(p, "validationF1", NAN);
    r->validation_match = json_num(p, "validationMatch", NAN);
    r->tokens_per_second = json_num(p, "tokensPerSecond", NAN);
    r->loss_scale = json_num(p, "lossScale", NAN);
    r->skipped = json_int(p, "skippedSteps", 0);
    r->last_step_ms = time_of(p, "lastStepTime");
    r->eta_seconds = eta > now_ms ? (eta - now_ms) / 1000 : -1;
    r->checkpoint_step = json_int(c, "step", -1);
    r->checkpoint_path = json_str(c, "path", "");
    r->checkpoint_damaged = json_str(c, "damaged", "");
    r->damaged_bytes = json_int(c, "damagedBytes", 0);
    r->checkpoint_in_memory = json_str(c, "inMemory", "");
    r->checkpoint_ms = time_of(c, "time");
}

static void fill_verdict(struct verdict *v, const struct json *from)
{
    v->kind = json_str(from, "kind", "");
    v->replica = (int)json_int(from, "replica", -1);
    v->rank = (int)json_int(from, "rank", -1);
    v->node = json_str(from, "node", "");
    v->operation = json_str(from, "operation", "");
    v->message = json_str(from, "message", "");
    v->since_ms = time_of(from, "since");
}

static int fill_attempts(struct report *r, const struct json *list, struct arena *a, struct err *e)
{
    size_t n = json_count(list);
    if (n > LIMIT_ATTEMPTS)
        return err_set(e, ERR_DATA, "status.attempts: more than %d items", LIMIT_ATTEMPTS);
    r->attempts = arena_array(a, n + 1, sizeof *r->attempts);
    if (!r->attempts)
        return err_set(e, ERR_MEMORY, "out of memory reading status.attempts");
    json_each (item, list) {
        r->attempts[r->attempt_count++] = (struct attempt){
            .number = json_int(item, "number", 0),
            .started_ms = time_of(item, "started"),
            .ended_ms = time_of(item, "ended"),
            .cause = json_str(item, "cause", ""),
            .replica = (int)json_int(item, "replica", -1),
            .rank = (int)json_int(item, "rank", -1),
            .node = json_str(item, "node", ""),
            .exit_class = json_str(item, "exitClass", ""),
            .step = json_int(item, "step", 0),
            .steps_lost = json_int(item, "stepsLost", 0),
            .log_tail = json_str(item, "logTail", ""),
        };
    }
    return 0;
}

/* Of a search: trials are what it has in place of pods. */
static int fill_trials(struct screen *s, const struct json *from, struct arena *a, struct err *e)
{
    const struct json *list = json_get(from, "table");
    size_t n = json_count(list);
    if (!from)
        return 0;
    if (n > SCREEN_TRIALS)
        return err_set(e, ERR_DATA, "status.trials.table: more than %d items", SCREEN_TRIALS);
    s->trials = arena_array(a, n + 1, sizeof *s->trials);
    if (!s->trials)
        return err_set(e, ERR_MEMORY, "out of memory reading status.trials");
    s->searches = true;
    s->ready = (int)(json_int(from, "succeeded", 0) + json_int(from, "failed", 0));
    s->replicas = (int)json_int(from, "total", 0);
    s->trial_best = (int)json_int(json_get(from, "best"), "index", -1);
    json_each (item, list)
        s->trials[s->trial_count++] = (struct screen_trial){
            .index = (int)json_int(item, "index", 0),
            .rung = (int)json_int(item, "rung", 0),
            .state = json_str(item, "state", ""),
            .parameters = json_str(item, "parameters", ""),
            .value = json_num(item, "value", NAN),
        };
    return 0;
}

/* The sentence that says why: of Failed when it is true, else of the first condition that is not as
 * one wishes. */
static const char *explain_conditions(const struct json *conditions)
{
    static const struct {
        const char *type, *status;
    } wanted[] = {
        {NAME_COND_FAILED, "True"}, {NAME_COND_STALLED, "True"}, {NAME_COND_READY, "False"}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        json_each (c, conditions)
            if (!strcmp(json_str(c, "type", ""), wanted[i].type) &&
                !strcmp(json_str(c, "status", ""), wanted[i].status))
                return json_str(c, "message", "");
    return "";
}

static bool is_condition_true(const struct json *conditions, const char *type)
{
    json_each (c, conditions)
        if (!strcmp(json_str(c, "type", ""), type))
            return !strcmp(json_str(c, "status", ""), "True");
    return false;
}

static const char *task_of_spec(const struct json *spec)
{
    return json_get(spec, "train")   ? "Train"
        : json_get(spec, "evaluate") ? "Evaluate"
        : json_get(spec, "convert")  ? "Convert"
        : json_get(spec, "serve")    ? "Serve"
                                     : "Run";
}

int fill_object(struct screen *s, const struct json *object, struct arena *a, struct err *e)
{
    const struct json *spec = json_get(object, "spec"), *status = json_get(object, "status");
    const struct json *metadata = json_get(object, "metadata");
    const struct json *conditions = json_get(status, "conditions");
    const struct json *layout = json_get(status, "layout");
    struct report *r = &s->report;
    if (strcmp(json_str(object, "kind", ""), NAME_KIND) != 0)
        return err_set(e, ERR_DATA, "not an " NAME_KIND);
    s->name = json_str(metadata, "name", "");
    s->namespace_ = json_str(metadata, "namespace", "");
    s->task = json_str(status, "task", task_of_spec(spec));
    s->state = json_str(status, "state", NAME_STATE_PENDING);
    s->replicas = (int)json_int(spec, "replicas", 1);
    s->ready = (int)json_int(status, "readyReplicas", 0);
    s->layout = json_str(layout, "summary", "");
    s->why = explain_conditions(conditions);
    r->restarts = (int)json_int(status, "restarts", 0);
    r->ranks = (int)json_int(layout, "ranks", 0);
    r->layout_reason = json_str(layout, "reason", "");
    r->layout_balance = json_str(layout, "balance", "");
    r->serve_address = json_str(status, "address", "");
    r->state = is_condition_true(conditions, NAME_COND_FAILED) ? JOB_FAILED
        : is_condition_true(conditions, NAME_COND_COMPLETE)    ? JOB_COMPLETE
                                                               : JOB_WAITING;
    fill_progress(r, status, s->now_ms);
    fill_verdict(&r->verdict, json_get(status, "verdict"));
    int rc = fill_trials(s, json_get(status, "trials"), a, e);
    if (rc)
        return rc;
    return fill_attempts(r, json_get(status, "attempts"), a, e);
}

void fill_report(struct screen *s, const struct report *r)
{
    const char *address = *r->serve_address ? r->serve_address : s->report.serve_address;
    s->report = *r;
    s->report.serve_address = address;
}

static int64_t event_time(const struct json *event)
{
    static const char *const keys[] = {"lastTimestamp", "eventTime", "firstTimestamp"};
    int64_t ms = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !ms; i++)
        ms = time_of(event, keys[i]);
    return ms ? ms : time_of(json_get(event, "metadata"), "creationTimestamp");
}

void fill_events(struct screen *s, const struct json *list)
{
    s->event_count = 0;
    json_each (item, json_get(list, "items")) {
        struct screen_event v = {
            .ms = event_time(item),
            .warning = !strcmp(json_str(item, "type", ""), "Warning"),
            .reason = json_str(item, "reason", ""),
            .message = json_str(item, "message", ""),
            .count = (int)json_int(item, "count", json_int(json_get(item, "series"), "count", 1)),
        };
        /* Insertion by time; when full the oldest goes. */
        int at = s->event_count;
        if (at == SCREEN_EVENTS && v.ms <= s->events[0].ms)
            continue;
        if (at == SCREEN_EVENTS) {
            memmove(s->events, s->events + 1, (size_t)--at * sizeof *s->events);
            s->event_count--;
        }
        while (at > 0 && s->events[at - 1].ms > v.ms)
            at--;
        memmove(
            s->events + at + 1, s->events + at, (size_t)(s->event_count - at) * sizeof *s->events);
        s->events[at] = v;
        s->event_count++;
    }
}
