/*
 * coordinator: one line an agent that coordinates, with its address, what it is told and the last
 * report. A work queue says whose turn it is: one request a line at a time, first what it has not
 * accepted yet, then the question. A line that is dropped while a request is in flight lives until
 * the answer. A pod that was replaced, or whose container restarted, gets a new line, so that no
 * report of an earlier agent can be taken for one of the present. Decides nothing.
 */
#include "controller/coordinator.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"
#include "base/table.h"
#include "controller/kube/skim.h"
#include "controller/kube/workq.h"

#include <assert.h>
#include <inttypes.h>

#define EVERY_MS      1000
#define TIMEOUT_MS    4000
#define IN_FLIGHT_MAX 64
#define SHARE         32 /* of one namespace */
/* Of all answers in flight together; one more may begin while it is not reached. */
#define ANSWERS_BYTES ((size_t)16 << 20)

static const struct workq_conf turns = {SHARE, EVERY_MS, 60000};

struct line {
    struct coordinators *all;
    char *key, *uid, *token, *url; /* url: up to the path; a path of the API server when by proxy */
    char *job;                     /* the key up to the replica */
    char *turn;                    /* its key in the queue: of this line alone, "<key>#<number>" */
    int restarts, ranks;
    bool ready, busy, dropped, unauthorized;
    int64_t asked_ms;
    size_t limit;  /* of the answer in flight */
    char *desired; /* body, or NULL */
    uint64_t desired_hash, accepted, telling;
    bool refused;            /* the last thing told: ask before it is told again */
    bool fresh;              /* the last question was asked after the last accepted desired state */
    bool current;            /* the report at hand answers such a question */
    int64_t silent_since_ms; /* 0: it answers */
    struct arena *arena;
    struct report report;
};

struct coordinators {
    struct kube *kube;
    bool proxy;
    int port, in_flight;
    size_t answers; /* bytes that the answers in flight may have */
    coordinator_news_fn *fn;
    void *user;
    uint64_t made;      /* lines */
    struct table lines; /* by key */
    struct workq *queue;
};

int coordinators_create(struct kube *k, bool proxy, int port, coordinator_news_fn *fn, void *user,
    struct coordinators **out, struct err *e)
{
    struct coordinators *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for the coordinators");
    *c = (struct coordinators){.kube = k, .proxy = proxy, .port = port, .fn = fn, .user = user};
    int rc = workq_create(&turns, &c->queue, e);
    if (rc)
        coordinators_destroy(c);
    else
        *out = c;
    return rc;
}

static void line_free(struct line *l)
{
    if (!l)
        return;
    arena_destroy(l->arena);
    mem_free(l->key);
    mem_free(l->job);
    mem_free(l->turn);
    mem_free(l->uid);
    mem_free(l->token);
    mem_free(l->url);
    mem_free(l->desired);
    mem_free(l);
}

void coordinators_destroy(struct coordinators *c)
{
    if (!c)
        return;
    const char *key;
    void *l;
    for (size_t at = 0; table_next(&c->lines, &at, &key, &l);)
        line_free(l);
    table_done(&c->lines);
    workq_destroy(c->queue);
    mem_free(c);
}

static void drop_line(struct coordinators *c, struct line *l)
{
    table_remove(&c->lines, l->key);
    workq_remove(c->queue, l->turn);
    if (l->busy)
        l->dropped = true;
    else
        line_free(l);
}

void coordinator_key(const char *job, int replica, char out[COORDINATOR_KEY_BYTES])
{
    if (replica)
        snprintf(out, COORDINATOR_KEY_BYTES, "%s#%d", job, replica);
    else
        snprintf(out, COORDINATOR_KEY_BYTES, "%s", job);
}

static char *job_of_key(const char *key)
{
    char *job = mem_strdup(key);
    if (job)
        job[strcspn(job, "#")] = 0;
    return job;
}

void coordinator_forget(struct coordinators *c, const char *job)
{
    const char *key;
    void *l;
    for (size_t at = 0; table_next(&c->lines, &at, &key, &l);) {
        if (strcmp(((struct line *)l)->job, job) != 0)
            continue;
        drop_line(c, l);
        at = 0; /* the table has changed */
    }
}

static char *url_of_agent(const struct coordinators *c, const struct coordinator_target *t)
{
    buf_auto struct buf url;
    buf_init(&url, 2048);
    char address[NET_TEXT_BYTES];
    net_write(t->ip, (unsigned)c->port, address);
    if (c->proxy)
        buf_printf(&url, "/api/v1/namespaces/%s/pods/%s:%d/proxy", t->namespace_, t->pod, c->port);
    else
        buf_printf(&url, "http://%s", address);
    return buf_take(&url);
}

static char *turn_of_line(const char *key, uint64_t number)
{
    buf_auto struct buf turn;
    buf_init(&turn, COORDINATOR_KEY_BYTES + 24);
    buf_printf(&turn, "%s#%" PRIu64, key, number);
    return buf_take(&turn);
}

static struct line *line_at(const struct coordinators *c, const char *turn)
{
    char key[COORDINATOR_KEY_BYTES];
    snprintf(key, sizeof key, "%.*s", (int)(strrchr(turn, '#') - turn), turn);
    return table_get(&c->lines, key);
}

static int add_line(
    struct coordinators *c, const char *key, const struct coordinator_target *t, struct err *e)
{
    struct line *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "no memory for a coordinator");
    *l = (struct line){.all = c,
        .restarts = t->restarts,
        .ranks = t->ranks,
        .ready = t->ready,
        .silent_since_ms = clock_ms()};
    l->key = mem_strdup(key);
    l->job = job_of_key(key);
    l->uid = mem_strdup(t->uid);
    l->token = mem_strdup(t->token);
    l->url = url_of_agent(c, t);
    l->turn = turn_of_line(key, ++c->made);
    if (!l->key || !l->job || !l->uid || !l->token || !l->url || !l->turn ||
        workq_add(c->queue, l->turn, e)) {
        line_free(l);
        return err_set(e, ERR_MEMORY, "no memory for a coordinator");
    }
    if (table_put(&c->lines, key, l, e)) {
        workq_remove(c->queue, l->turn);
        line_free(l);
        return err_set(e, ERR_MEMORY, "no memory for a coordinator");
    }
    return 0;
}

int coordinator_aim(
    struct coordinators *c, const char *key, const struct coordinator_target *t, struct err *e)
{
    struct line *l = table_get(&c->lines, key);
    bool same = l && t && !strcmp(l->uid, t->uid) && l->restarts == t->restarts &&
        !strcmp(l->token, t->token);
    if (l && !same)
        drop_line(c, l);
    if (!t)
        return 0;
    if (!same)
        return add_line(c, key, t, e);
    if (t->ready && !l->ready)
        workq_forgive(c->queue, l->turn); /* it has just come up: do not sit out a back-off */
    l->ready = t->ready;
    l->ranks = t->ranks;
    return 0;
}

void coordinator_look(const struct coordinators *c, const char *key, struct coordinator_view *out)
{
    const struct line *l = table_get(&c->lines, key);
    *out = (struct coordinator_view){0};
    if (!l)
        return;
    out->report = l->arena ? &l->report : NULL;
    out->current = l->arena && l->current;
    if (l->silent_since_ms) /* 0 would say that it answers */
        out->unreachable_ms = clock_ms() - l->silent_since_ms + 1;
    out->unauthorized = l->unauthorized;
    out->desired = l->desired_hash;
}

int coordinator_desire(
    struct coordinators *c, const char *key, const char *body, uint64_t hash, struct err *e)
{
    struct line *l = table_get(&c->lines, key);
    if (!l)
        return 0;
    char *copy = mem_strdup(body);
    if (!copy || workq_add(c->queue, l->turn, e)) {
        mem_free(copy);
        return err_set(e, ERR_MEMORY, "no memory for a desired state");
    }
    mem_free(l->desired);
    l->desired = copy;
    l->desired_hash = hash;
    l->accepted = l->telling = 0;
    l->fresh = l->current = l->refused = false;
    return 0;
}

/* -- requests -- */

static int start_request(struct line *l, const char *method, const char *path, const char *body,
    void (*done_fn)(void *user, const struct http_response *r), struct err *e)
{
    buf_auto struct buf url, token;
    buf_init(&url, 4096);
    buf_init(&token, 4096);
    buf_printf(&url, "%s%s", l->url, path);
    buf_printf(&token, NAME_HEADER_TOKEN ": %s", l->token);
    if (!buf_ok(&url) || !buf_ok(&token))
        return err_set(e, ERR_MEMORY, "no memory for a request");
    const char *const headers[] = {token.data, NULL};
    if (l->all->proxy) {
        const struct kube_call call = {.method = method,
            .path = url.data,
            .body = body,
            .len = body ? strlen(body) : 0,
            .headers = headers,
            .timeout_ms = TIMEOUT_MS,
            .background = true,
            .limit = l->limit,
            .done_fn = done_fn,
            .user = l};
        return kube_start(l->all->kube, &call, e);
    }
    const struct http_request r = {.method = method,
        .url = url.data,
        .bearer = l->token,
        .content_type = body ? "application/json" : NULL,
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .timeout_ms = TIMEOUT_MS,
        .limit = l->limit,
        .done_fn = done_fn,
        .user = l};
    return http_start(kube_http(l->all->kube), &r, e);
}

static int64_t interval_ms(const struct coordinators *c)
{
    int64_t n = (int64_t)c->lines.count;
    return n > EVERY_MS ? n : EVERY_MS; /* at most 1,000 questions a second */
}

static int take_report(struct line *l, const struct http_response *r, struct err *e)
{
    static const char *const left_out[] = {"ranks", NULL}; /* for the screen alone */
    json_auto struct json *v = NULL;
    buf_auto struct buf text;
    struct report report;
    buf_init(&text, LIMIT_REPORT_FACTS_BYTES);
    if (skim_without(r->body, r->len, left_out, &text))
        return err_set(e, ERR_RETRY, "a report of more than %d bytes beside its ranks",
            LIMIT_REPORT_FACTS_BYTES);
    int rc = json_parse_within(buf_cstr(&text), text.len, LIMIT_REPORT_VALUES, &v, e);
    if (rc)
        return rc;
    struct arena *a = arena_create(2 * LIMIT_REPORT_FACTS_BYTES);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory for a report");
    rc = report_decode(v, a, &report, e);
    if (rc) {
        arena_destroy(a);
        return rc;
    }
    arena_destroy(l->arena);
    l->arena = a;
    l->report = report;
    return 0;
}

/* What every answer means; 0 where it is 200 or 204. */
static int check_answer(struct line *l, const struct http_response *r, struct err *e)
{
    l->unauthorized = r->status == 401 || r->status == 403;
    if (r->error.code != ERR_NONE) {
        *e = r->error;
        return -(int)e->code;
    }
    if (r->status != 200 && r->status != 204)
        return err_set(e, ERR_RETRY, "the agent answered %d", r->status);
    return 0;
}

/* Ends a request. True: the line is still wanted. */
static bool end_request(struct line *l, const struct http_response *r)
{
    struct coordinators *c = l->all;
    c->in_flight--;
    c->answers -= l->limit;
    l->busy = false;
    if (!l->dropped)
        return r->error.code != ERR_DRAINED;
    workq_done(c->queue, l->turn, false);
    line_free(l);
    return false;
}

/* True: worth a pass. Silence is, when it begins; that it lasts the plan foresees by itself. */
static bool next_turn(struct line *l, int rc, const struct err *why, int64_t delay_ms)
{
    struct coordinators *c = l->all;
    struct err e;
    if (rc) {
        int64_t backoff_ms = workq_done(c->queue, l->turn, true);
        if (!l->silent_since_ms || backoff_ms == EVERY_MS)
            log_debug("coordinator silent", LOG_S("job", l->key), LOG_ERR(why));
        if (!l->silent_since_ms)
            l->silent_since_ms = clock_ms();
        return backoff_ms == EVERY_MS;
    }
    l->silent_since_ms = 0;
    if (workq_add_after(c->queue, l->turn, delay_ms, &e))
        log_error("cannot queue a question", LOG_S("job", l->key), LOG_ERR(&e));
    workq_done(c->queue, l->turn, false);
    return true;
}

static void report_answered(void *user, const struct http_response *r)
{
    struct line *l = user;
    struct err e = {0};
    if (!end_request(l, r))
        return;
    int rc = check_answer(l, r, &e);
    if (!rc && !(rc = take_report(l, r, &e)))
        l->current = l->fresh;
    if (next_turn(l, rc, &e, l->asked_ms + interval_ms(l->all) - clock_ms()) || r->status)
        l->all->fn(l->all->user, l->job);
}

static void desired_answered(void *user, const struct http_response *r)
{
    struct line *l = user;
    struct err e = {0};
    if (!end_request(l, r))
        return;
    int rc = check_answer(l, r, &e);
    l->refused = rc != 0;
    if (!rc && l->telling && l->telling == l->desired_hash) {
        l->accepted = l->telling;
        l->fresh = l->current = false;
        log_info("desired state sent", LOG_S("job", l->key), LOG_S("pod", l->uid));
    }
    /* Ask at once what comes of it; a refusal is an answer too. */
    bool news = next_turn(l, r->status ? 0 : rc, &e, 0);
    if (rc && news)
        l->all->fn(l->all->user, l->job);
}

static void speak_to_agent(struct line *l)
{
    struct coordinators *c = l->all;
    struct err e = {0};
    bool tell = l->desired && l->accepted != l->desired_hash && !l->refused;
    l->limit = report_limit_bytes(l->ranks);
    int rc = tell ? start_request(l, "PUT", NAME_PATH_DESIRED, l->desired, desired_answered, &e)
                  : start_request(l, "GET", NAME_PATH_JOB, NULL, report_answered, &e);
    if (rc) {
        log_warn("cannot ask a coordinator", LOG_S("job", l->key), LOG_ERR(&e));
        workq_done(c->queue, l->turn, true);
        return;
    }
    l->telling = tell ? l->desired_hash : 0;
    l->refused &= tell;
    l->fresh = !tell && l->accepted == l->desired_hash;
    l->asked_ms = clock_ms();
    l->busy = true;
    c->in_flight++;
    c->answers += l->limit;
}

int64_t coordinators_turn(struct coordinators *c)
{
    const char *turn;
    while (c->in_flight < IN_FLIGHT_MAX && c->answers < ANSWERS_BYTES &&
        (turn = workq_take(c->queue))) {
        struct line *l = line_at(c, turn);
        assert(l && !l->busy);
        speak_to_agent(l);
    }
    /* Full: an answer makes room, and ends the wait by itself. */
    bool full = c->in_flight >= IN_FLIGHT_MAX || c->answers >= ANSWERS_BYTES;
    return full ? -1 : workq_next_ms(c->queue);
}
