/*
 * status: routes and encodes; what it shows is decided elsewhere.
 */
#include "agent/status.h"

#include "base/clock.h"
#include "base/json.h"
#include "api/limits.h"
#include "api/names.h"
#include "base/mem.h"
#include "base/metric.h"
#include "api/report.h"
#include "base/secret.h"

#include <string.h>

static struct metric incarnation = {.name = NAME_METRIC_INCARNATION,
    .help = "Greatest incarnation this agent has seen",
    .kind = METRIC_GAUGE};
static struct metric in_world = {.name = NAME_METRIC_IN_WORLD,
    .help = "1 while this pod's ranks are in a world",
    .kind = METRIC_GAUGE};
static struct metric step = {
    .name = NAME_METRIC_STEP, .help = "Training step, on the coordinator", .kind = METRIC_GAUGE};
static struct metric rate = {.name = NAME_METRIC_RATE,
    .help = "Training rate of the world, on the coordinator",
    .kind = METRIC_GAUGE};
static struct metric restarts = {.name = NAME_METRIC_RESTARTS,
    .help = "Attempts that ended by failure, on the coordinator",
    .kind = METRIC_GAUGE};
static struct metric sequences = {.name = NAME_METRIC_SEQUENCES,
    .help = "Sequences of a step that this pod's ranks have, of shares by measured speed",
    .kind = METRIC_GAUGE};

void status_register(void)
{
    struct metric *all[] = {&incarnation, &in_world, &step, &rate, &restarts, &sequences};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        metric_register(all[i]);
}

static void answer_text(struct web_exchange *x, int code, const char *text)
{
    web_answer(x, code, "text/plain", text, strlen(text), NULL);
}

static bool authorized(const struct agent_status *s, const struct web_exchange *x)
{
    const char *token = web_header(x, "x-llmjob-token");
    return token ? secret_equal(token, s->token)
                 : secret_bearer(web_header(x, "authorization"), s->token);
}

static void put_desired(struct agent_status *s, struct web_exchange *x)
{
    json_auto struct json *v = NULL;
    struct desired d;
    struct err e = {0};
    size_t len;
    const char *body = web_body(x, &len);
    arena_auto struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    int rc = a ? json_parse_within(body, len, LIMIT_FRAME_VALUES, &v, &e)
               : err_set(&e, ERR_MEMORY, "out of memory");
    if (!rc && !(rc = desired_decode(v, a, &d, &e)) && !(rc = edit_desired(s->edit, &d, &e)))
        rc = s->forward && !d.release ? forward_told(s->forward, &d, &e)
                                      : lead_desired(s->lead, &d, &e);
    if (rc)
        answer_text(x, rc == -ERR_MEMORY || rc == -ERR_RETRY ? 503 : 400, e.text);
    else
        web_answer(x, 204, "text/plain", "", 0, NULL);
}

static void get_job(const struct agent_status *s, struct web_exchange *x)
{
    buf_auto struct buf out;
    struct report r;
    struct err e = {0};
    buf_init(&out, LIMIT_REPORT_BYTES);
    arena_auto struct arena *a = arena_create(2 * LIMIT_REPORT_BYTES);
    int rc = a ? lead_report(s->lead, a, &r, &e) : err_set(&e, ERR_MEMORY, "out of memory");
    rc = rc ? rc : monitor_report(s->monitor, a, &r, &e);
    if (!rc)
        roster_report(s->edit ? s->edit->roster : NULL, &r);
    if (rc || (rc = report_encode(&r, &out, &e)))
        answer_text(x, 503, e.text);
    else
        web_answer(x, 200, "application/json", out.data, out.len, NULL);
}

static void get_metrics(const struct agent_status *s, struct web_exchange *x)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    metric_set(&incarnation, (double)member_incarnation(s->member));
    metric_set(&in_world, member_in_world(s->member));
    if (s->front)
        front_measure(s->front);
    metric_set(&sequences, (double)member_sequences(s->member));
    struct arena *a = s->lead ? arena_create(2 * LIMIT_REPORT_BYTES) : NULL;
    struct report r;
    struct err e = {0};
    if (a && lead_report(s->lead, a, &r, &e) == 0) {
        metric_set(&step, (double)r.step);
        metric_set(&rate, r.tokens_per_second);
        metric_set(&restarts, r.restarts);
    }
    arena_destroy(a);
    metric_print(&out);
    web_answer(x, 200, "text/plain; version=0.0.4", buf_cstr(&out), out.len, NULL);
}

static bool is_ready(const struct agent_status *s)
{
    return s->front ? front_serving(s->front) : member_in_world(s->member);
}

static bool is_desired(const struct web_exchange *x)
{
    return !strcmp(web_path(x), NAME_PATH_DESIRED) && !strcmp(web_method(x), "PUT");
}

static bool is_job(const struct web_exchange *x)
{
    return !strcmp(web_path(x), NAME_PATH_JOB) && !strcmp(web_method(x), "GET");
}

bool status_admit(void *user, struct web_exchange *x)
{
    const struct agent_status *s = user;
    const char *path = web_path(x);
    bool open = !strcmp(path, NAME_PATH_HEALTH) || !strcmp(path, NAME_PATH_READY) ||
        !strcmp(path, NAME_PATH_METRICS);
    if (!is_desired(x) && !is_job(x) && (!open || strcmp(web_method(x), "GET") != 0))
        answer_text(x, 404, "not found\n");
    else if (!open && !authorized(s, x))
        answer_text(x, 401, "the job's token is needed\n");
    else if (!open && !s->lead)
        answer_text(x, 409, "this replica is not the coordinator\n");
    else
        return true;
    return false;
}

void status_request(void *user, struct web_exchange *x)
{
    struct agent_status *s = user;
    const char *path = web_path(x);
    if (!strcmp(path, NAME_PATH_HEALTH))
        answer_text(x, 200, "ok\n");
    else if (!strcmp(path, NAME_PATH_READY))
        answer_text(x, is_ready(s) ? 200 : 503, is_ready(s) ? "ok\n" : "not in a world\n");
    else if (!strcmp(path, NAME_PATH_METRICS))
        get_metrics(s, x);
    else if (is_desired(x))
        put_desired(s, x);
    else
        get_job(s, x);
}
