/*
 * hooks: a lane an alert; what a lane is about to tell stands first in it, and goes when it was
 * told or given up. So resolved never overtakes firing.
 */
#include "agent/hooks.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/http.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define FIRST_MS     500 /* after a first try that failed */
#define LONGEST_MS   60000
#define TRY_MS       10000
#define ANSWER_BYTES (64 << 10) /* which nobody reads */
#define BODY_BYTES   (64 << 10)
#define HEADER_BYTES sizeof "Authorization: Bearer "

struct hook_letter {
    struct alerts_change change;
    int64_t until_ms;
};

struct lane {
    struct hooks *all;
    const struct jobspec_alert *alert;
    struct hook_letter queue[HOOKS_WAITING];
    int count, tries; /* of the first */
    bool on_its_way;
    int64_t due_ms;      /* of the next try */
    char *authorization; /* a header; NULL: none */
    struct hooks_view is;
};

struct hooks {
    const struct jobspec *spec;
    struct http *http;
    struct lane lanes[LIMIT_ALERTS];
    int64_t now_ms;
};

static void lane_done(struct lane *l)
{
    if (l->authorization)
        explicit_bzero(l->authorization, strlen(l->authorization));
    mem_free(l->authorization);
}

/* A token, or a scheme and what it takes (RFC 9110, 11.6.2): that has a space, a token has none. */
static int read_authorization(struct lane *l, const char *job_dir, struct err *e)
{
    char path[LIMIT_PATH_BYTES], text[LIMIT_WEBHOOK_BYTES + 1];
    buf_auto struct buf in;
    buf_init(&in, sizeof text);
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR "/%s", job_dir, l->alert->webhook_key);
    int rc = io_read_file(path, LIMIT_WEBHOOK_BYTES, &in, e);
    if (rc)
        return err_wrap(e, "webhookKey of the alert %s", l->alert->name);
    snprintf(text, sizeof text, "%s", buf_cstr(&in));
    size_t len = strlen(text);
    bool good = len == in.len && *text != ' ';
    while (len && strchr("\r\n", text[len - 1]))
        text[--len] = 0;
    for (const char *p = text; *p; p++)
        good = good && *p >= ' ' && *p <= '~';
    if (!good || !len)
        rc = err_set(e, ERR_USER,
            "%s: what is sent as Authorization must be one line of printable ASCII", path);
    else if (!(l->authorization = mem_alloc(len + HEADER_BYTES)))
        rc = err_set(e, ERR_MEMORY, "no memory for webhooks");
    else
        snprintf(l->authorization, len + HEADER_BYTES, "Authorization: %s%s",
            strchr(text, ' ') ? "" : "Bearer ", text);
    explicit_bzero(text, sizeof text);
    explicit_bzero(in.data, in.len);
    return rc;
}

int hooks_create(const struct jobspec *spec, const char *job_dir, struct hooks **out, struct err *e)
{
    struct hooks *h = mem_zalloc(sizeof *h);
    if (!h)
        return err_set(e, ERR_MEMORY, "no memory for webhooks");
    const struct http_conf conf = {.ca_file = spec->serve.classify.ca_file,
        .user_agent = "llmjob",
        .max_in_flight = LIMIT_ALERTS};
    int rc = http_create(&conf, &h->http, e);
    if (rc) {
        mem_free(h);
        return rc;
    }
    h->spec = spec;
    for (int i = 0; i < spec->serve.classify.alert_count; i++) {
        struct lane *l = &h->lanes[i];
        *l = (struct lane){
            .all = h, .alert = &spec->serve.classify.alerts[i], .is = {.told_ms = -1}};
        if (l->alert->webhook_key && !rc)
            rc = read_authorization(l, job_dir, e);
    }
    if (rc)
        hooks_destroy(h);
    else
        *out = h;
    return rc;
}

void hooks_destroy(struct hooks *h)
{
    if (!h)
        return;
    for (int i = 0; i < h->spec->serve.classify.alert_count; i++)
        if (h->lanes[i].count)
            log_warn("a webhook was not told to the end", LOG_S("alert", h->lanes[i].alert->name),
                LOG_I("waiting", h->lanes[i].count));
    http_destroy(h->http);
    for (int i = 0; i < h->spec->serve.classify.alert_count; i++)
        lane_done(&h->lanes[i]);
    mem_free(h);
}

/* -- what is told -- */

static void write_labels(struct jsonw *w, const char *key, const struct jobspec *spec,
    const struct jobspec_alert *a, bool all)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "alertname", a->name);
    if (all) {
        jsonw_str(w, "job", spec->name);
        jsonw_str(w, "label", a->label);
        jsonw_str(w, "model", spec->serve.model_name);
        jsonw_str(w, "namespace", spec->namespace_);
    }
    jsonw_close(w);
}

static void write_annotations(struct jsonw *w, const struct alerts_change *c)
{
    const struct jobspec_alert *a = c->alert;
    char text[512];
    snprintf(text, sizeof text, "%.1f%% of %lld texts in %d s are %s; %s %g%%", 100 * c->share,
        (long long)c->items, a->window_seconds, a->label,
        c->firing ? "it is alarming from" : "it was alarming from", 100 * a->share);
    jsonw_open(w, "annotations", '{');
    jsonw_str(w, "summary", text);
    snprintf(text, sizeof text, "%.6f", c->share);
    jsonw_str(w, "share", text);
    snprintf(text, sizeof text, "%lld", (long long)c->items);
    jsonw_str(w, "items", text);
    jsonw_close(w);
}

static void write_time(struct jsonw *w, const char *key, int64_t ms)
{
    char text[40];
    clock_format(ms, text, sizeof text);
    jsonw_str(w, key, text);
}

static uint64_t hash_labels(const struct jobspec *spec, const struct jobspec_alert *a)
{
    const char *const parts[] = {spec->namespace_, spec->name, a->name, a->label};
    uint64_t h = HASH_START;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        h = hash_bytes(h, parts[i], strlen(parts[i]) + 1);
    return h;
}

static void write_alert(struct jsonw *w, const struct jobspec *spec, const struct alerts_change *c)
{
    char fingerprint[20];
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, hash_labels(spec, c->alert));
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "status", c->firing ? "firing" : "resolved");
    write_labels(w, "labels", spec, c->alert, true);
    write_annotations(w, c);
    write_time(w, "startsAt", c->fired_ms);
    if (c->firing) /* as Go prints a time that is none */
        jsonw_str(w, "endsAt", "0001-01-01T00:00:00Z");
    else
        write_time(w, "endsAt", c->ms);
    jsonw_str(w, "generatorURL", "");
    jsonw_str(w, "fingerprint", fingerprint);
    jsonw_close(w);
}

void hooks_write(const struct jobspec *spec, const struct alerts_change *c, struct buf *out)
{
    char group[128];
    struct jsonw w;
    snprintf(group, sizeof group, "{}:{alertname=\"%s\"}", c->alert->name);
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "version", "4");
    jsonw_str(&w, "groupKey", group);
    jsonw_int(&w, "truncatedAlerts", 0);
    jsonw_str(&w, "status", c->firing ? "firing" : "resolved");
    jsonw_str(&w, "receiver", "llmjob");
    write_labels(&w, "groupLabels", spec, c->alert, false);
    write_labels(&w, "commonLabels", spec, c->alert, true);
    jsonw_open(&w, "commonAnnotations", '{');
    jsonw_close(&w);
    jsonw_str(&w, "externalURL", "");
    jsonw_open(&w, "alerts", '[');
    write_alert(&w, spec, c);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

/* -- telling -- */

static void drop_first(struct lane *l)
{
    l->is.told_ms = l->queue[0].change.ms;
    l->tries = 0;
    l->due_ms = 0;
    l->count--;
    memmove(l->queue, l->queue + 1, (size_t)l->count * sizeof *l->queue);
}

static void give_up(struct lane *l, const char *why)
{
    log_warn("a webhook was given up", LOG_S("alert", l->alert->name),
        LOG_S("status", l->queue[0].change.firing ? "firing" : "resolved"), LOG_S("why", why));
    l->is.dropped++;
    drop_first(l);
}

static bool worth_again(int status)
{
    return !status || status == 408 || status == 429 || status >= 500;
}

static int64_t pause_ms(const struct lane *l, int64_t asked_ms)
{
    int64_t ms = FIRST_MS;
    for (int i = 1; i < l->tries && ms < LONGEST_MS; i++)
        ms *= 2;
    ms = ms < LONGEST_MS ? ms : LONGEST_MS;
    return asked_ms > ms ? asked_ms : ms;
}

static void on_answer(void *user, const struct http_response *r)
{
    struct lane *l = user;
    char why[300];
    l->on_its_way = false;
    if (r->error.code == ERR_DRAINED) /* this program ends */
        return;
    if (r->status >= 200 && r->status < 300) {
        l->is.delivered++;
        drop_first(l);
        return;
    }
    if (r->status)
        snprintf(why, sizeof why, "it answers %d", r->status);
    else
        snprintf(why, sizeof why, "%s", r->error.text);
    l->due_ms = l->all->now_ms + pause_ms(l, r->retry_after_ms);
    if (!worth_again(r->status) || l->due_ms > l->queue[0].until_ms) {
        give_up(l, why);
        return;
    }
    l->is.retried++;
    if (l->tries == 1)
        log_info("a webhook is told again", LOG_S("alert", l->alert->name), LOG_S("why", why));
}

static void tell(struct lane *l)
{
    buf_auto struct buf body;
    struct err e = {0};
    buf_init(&body, BODY_BYTES);
    hooks_write(l->all->spec, &l->queue[0].change, &body);
    const char *const headers[] = {l->authorization, NULL};
    const struct http_request r = {.method = "POST",
        .url = l->alert->webhook,
        .content_type = "application/json",
        .headers = headers,
        .body = buf_cstr(&body),
        .body_len = body.len,
        .timeout_ms = TRY_MS,
        .limit = ANSWER_BYTES,
        .done_fn = on_answer,
        .user = l};
    l->tries++;
    l->on_its_way = true;
    if (buf_ok(&body) && !http_start(l->all->http, &r, &e))
        return;
    l->on_its_way = false;
    give_up(l, buf_ok(&body) ? e.text : "out of memory");
}

void hooks_add(struct hooks *h, const struct alerts_change *c, int64_t now_ms)
{
    struct lane *l = &h->lanes[c->index];
    if (!c->alert->webhook)
        return;
    if (l->count == HOOKS_WAITING) { /* the first is on its way */
        log_warn("a webhook has too much to be told", LOG_S("alert", c->alert->name));
        l->is.dropped++;
        l->count--;
        memmove(l->queue + 1, l->queue + 2, (size_t)(l->count - 1) * sizeof *l->queue);
    }
    l->queue[l->count++] = (struct hook_letter){*c, now_ms + HOOKS_MS};
}

void hooks_tick(struct hooks *h, int64_t now_ms)
{
    struct err e = {0};
    h->now_ms = now_ms;
    for (int i = 0; i < h->spec->serve.classify.alert_count; i++) {
        struct lane *l = &h->lanes[i];
        if (l->count && !l->on_its_way && now_ms >= l->due_ms)
            tell(l);
    }
    if (http_in_flight(h->http) && http_turn(h->http, NULL, 0, 0, &e))
        log_warn("webhooks cannot be told", LOG_ERR(&e));
}

struct hooks_view hooks_view(const struct hooks *h, int alert)
{
    struct hooks_view v = h->lanes[alert].is;
    v.waiting = h->lanes[alert].count;
    return v;
}
