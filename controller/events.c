/*
 * events: an Event's name is made of the object's and a hash of what is said, so that a POST of
 * what was said before meets itself (409) and becomes a PATCH of its count. A letter is one Event
 * under way. Buckets that are full again are forgotten when their table is; while none is, nothing
 * is written for objects without one. Called by apply (jobs) and main (objects that were skipped).
 */
#include "controller/events.h"

#include "api/limits.h"
#include "api/names.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/table.h"

#include <inttypes.h>

#define BURST          25
#define REFILL_MS      5000
#define OBJECTS_MAX    4096
#define EVENTS_COUNTED 4096
#define BODY_BYTES     ((size_t)16 << 10)
#define NAME_PART      200 /* of the object's name: 253 are allowed in all */

struct events {
    struct kube *kube;
    char *identity;
    struct table buckets; /* uid -> struct bucket */
    struct table counts;  /* event name -> how often, as a pointer */
};

struct bucket {
    int left;
    int64_t since_ms; /* of the last refill */
};

struct letter {
    struct events *all;
    events_done_fn *done_fn;
    void *user;
    char *path; /* of the event */
};

static struct metric dropped_total = {.name = "llmjob_events_dropped_total",
    .help = "Events beyond an object's share.",
    .kind = METRIC_COUNTER};

int events_create(struct kube *k, const char *identity, struct events **out, struct err *e)
{
    static bool registered;
    struct events *ev = mem_zalloc(sizeof *ev);
    if (!ev || !(ev->identity = mem_strdup(identity))) {
        mem_free(ev);
        return err_set(e, ERR_MEMORY, "no memory for events");
    }
    if (!registered)
        metric_register(&dropped_total);
    registered = true;
    ev->kube = k;
    *out = ev;
    return 0;
}

void events_destroy(struct events *ev)
{
    if (!ev)
        return;
    const char *key;
    void *b;
    for (size_t at = 0; table_next(&ev->buckets, &at, &key, &b);)
        mem_free(b);
    table_done(&ev->buckets);
    table_done(&ev->counts);
    mem_free(ev->identity);
    mem_free(ev);
}

/* -- the bucket -- */

static void refill(struct bucket *b, int64_t now_ms)
{
    int64_t n = (now_ms - b->since_ms) / REFILL_MS;
    b->since_ms += n * REFILL_MS;
    b->left = n > BURST - b->left ? BURST : b->left + (int)n;
}

static void forget_full(struct events *ev, int64_t now_ms)
{
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&ev->buckets, &at, &key, &v);) {
        struct bucket *b = v;
        refill(b, now_ms);
        if (b->left < BURST)
            continue;
        table_remove(&ev->buckets, key);
        mem_free(b);
    }
}

static struct bucket *bucket_of(struct events *ev, const char *uid, int64_t now_ms)
{
    struct err ignored;
    struct bucket *b = table_get(&ev->buckets, uid);
    if (b)
        return b;
    if (ev->buckets.count >= OBJECTS_MAX)
        forget_full(ev, now_ms);
    if (ev->buckets.count >= OBJECTS_MAX || !(b = mem_zalloc(sizeof *b)))
        return NULL;
    *b = (struct bucket){BURST, now_ms};
    if (!table_put(&ev->buckets, uid, b, &ignored))
        return b;
    mem_free(b);
    return NULL;
}

static bool take_token(struct events *ev, const char *uid)
{
    int64_t now_ms = clock_ms();
    struct bucket *b = bucket_of(ev, uid, now_ms);
    if (b)
        refill(b, now_ms);
    if (!b || !b->left)
        return false;
    b->left--;
    return true;
}

/* -- the Event -- */

static uint64_t hash_of(const char *uid, const char *reason, const char *message)
{
    const char *const parts[] = {uid, reason, message};
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < 3; i++)
        for (const char *p = parts[i]; *p; p++)
            h = (h ^ (unsigned char)*p) * 1099511628211u;
    return h;
}

static void write_event(struct jsonw *w, const struct events *ev, const struct events_about *o,
    bool warning, const char *reason, const char *message, const char *name)
{
    char now[40];
    clock_format(clock_wall_ms(), now, sizeof now);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "apiVersion", "v1");
    jsonw_str(w, "kind", "Event");
    jsonw_open(w, "metadata", '{');
    jsonw_str(w, "name", name);
    jsonw_str(w, "namespace", *o->namespace_ ? o->namespace_ : "default");
    jsonw_close(w);
    jsonw_open(w, "involvedObject", '{');
    jsonw_str(w, "apiVersion", o->api_version);
    jsonw_str(w, "kind", o->kind);
    jsonw_str(w, "name", o->name);
    if (*o->namespace_)
        jsonw_str(w, "namespace", o->namespace_);
    jsonw_str(w, "uid", o->uid);
    jsonw_close(w);
    jsonw_str(w, "reason", reason);
    jsonw_str(w, "message", message);
    jsonw_str(w, "type", warning ? "Warning" : "Normal");
    jsonw_open(w, "source", '{');
    jsonw_str(w, "component", NAME_FIELD_OWNER);
    jsonw_close(w);
    jsonw_str(w, "reportingComponent", NAME_CONTROLLER);
    jsonw_str(w, "reportingInstance", ev->identity);
    jsonw_str(w, "firstTimestamp", now);
    jsonw_str(w, "lastTimestamp", now);
    jsonw_int(w, "count", 1);
    jsonw_close(w);
}

static void end(struct letter *l)
{
    if (l->done_fn)
        l->done_fn(l->user);
    mem_free(l->path);
    mem_free(l);
}

static void written(void *user, const struct http_response *r)
{
    struct letter *l = user;
    struct err e = {0};
    if (kube_check(r, &e))
        log_debug("event not recorded", LOG_S("event", l->path), LOG_ERR(&e));
    end(l);
}

/* POST found the event there already: count it up. */
static void posted(void *user, const struct http_response *r)
{
    struct letter *l = user;
    struct table *counts = &l->all->counts;
    struct err e = {0};
    if (r->status != 409) {
        written(user, r);
        return;
    }
    const char *name = strrchr(l->path, '/') + 1;
    uintptr_t count = (uintptr_t)table_get(counts, name);
    count = count ? count + 1 : 2;
    if (counts->count >= EVENTS_COUNTED)
        table_done(counts);
    table_put(counts, name, (void *)count, &e);
    char now[40], body[128];
    clock_format(clock_wall_ms(), now, sizeof now);
    int len =
        snprintf(body, sizeof body, "{\"count\":%zu,\"lastTimestamp\":\"%s\"}", (size_t)count, now);
    const struct kube_call call = {.method = "PATCH",
        .path = l->path,
        .body = body,
        .len = (size_t)len,
        .content_type = KUBE_MERGE_PATCH,
        .done_fn = written,
        .user = l};
    if (kube_start(l->all->kube, &call, &e))
        end(l);
}

static int post(struct letter *l, const struct events_about *o, bool warning, const char *reason,
    const char *message, struct err *e)
{
    buf_auto struct buf body, path;
    struct jsonw w;
    char name[LIMIT_SUBDOMAIN_BYTES];
    buf_init(&body, BODY_BYTES);
    buf_init(&path, 1024);
    snprintf(name, sizeof name, "%.*s.%016" PRIx64, NAME_PART, o->name,
        hash_of(o->uid, reason, message));
    buf_printf(&path, "/api/v1/namespaces/%s/events", *o->namespace_ ? o->namespace_ : "default");
    jsonw_init(&w, &body);
    write_event(&w, l->all, o, warning, reason, message, name);
    if (jsonw_end(&w) || !buf_ok(&path))
        return err_set(e, ERR_MEMORY, "no memory for an event");
    size_t all = path.len;
    buf_printf(&path, "/%s", name);
    l->path = mem_strdup(buf_cstr(&path));
    if (!l->path)
        return err_set(e, ERR_MEMORY, "no memory for an event");
    path.data[all] = 0;
    path.len = all;
    buf_str(&path, KUBE_UNCHECKED);
    if (!buf_ok(&path))
        return err_set(e, ERR_MEMORY, "no memory for an event");
    const struct kube_call call = {.method = "POST",
        .path = path.data,
        .body = body.data,
        .len = body.len,
        .done_fn = posted,
        .user = l};
    return kube_start(l->all->kube, &call, e);
}

bool events_post(struct events *ev, const struct events_about *o, bool warning, const char *reason,
    const char *message, events_done_fn *done_fn, void *user)
{
    struct err e = {0};
    if (!take_token(ev, o->uid)) {
        metric_add(&dropped_total, 1);
        return false;
    }
    log_info("event", LOG_S("kind", o->kind), LOG_S("namespace", o->namespace_),
        LOG_S("name", o->name), LOG_S("reason", reason), LOG_S("message", message));
    struct letter *l = mem_zalloc(sizeof *l);
    if (!l)
        return false;
    *l = (struct letter){.all = ev, .done_fn = done_fn, .user = user};
    if (!post(l, o, warning, reason, message, &e))
        return true;
    log_debug("event not recorded", LOG_S("name", o->name), LOG_ERR(&e));
    mem_free(l->path);
    mem_free(l);
    return false;
}
