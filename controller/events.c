/*
 * events: an Event's name is made of the object's and a hash of what is said, so that a POST of
 * what was said before meets itself (409) and becomes a PATCH of its count. A letter is one Event
 * under way. Buckets that are full again are forgotten when their table is; while none is, nothing
 * is written for objects without one.
 */
#include "controller/events.h"

#include "api/limits.h"
#include "api/names.h"
#include "base/clock.h"
#include "base/hash.h"
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

static struct metric dropped_total = {.name = NAME_METRIC_EVENTS_DROPPED,
    .help = "Events beyond an object's share.",
    .kind = METRIC_COUNTER};

int events_create(struct kube *k, const char *identity, struct events **out, struct err *e)
{
    struct events *ev = mem_zalloc(sizeof *ev);
    if (ev)
        *ev = (struct events){.kube = k, .identity = mem_strdup(identity)};
    if (!ev || !ev->identity) {
        events_destroy(ev);
        return err_set(e, ERR_MEMORY, "no memory for events");
    }
    static bool registered;
    if (!registered)
        metric_register(&dropped_total);
    registered = true;
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

static void refill_bucket(struct bucket *b, int64_t now_ms)
{
    int64_t n = (now_ms - b->since_ms) / REFILL_MS;
    b->since_ms += n * REFILL_MS;
    b->left = n > BURST - b->left ? BURST : b->left + (int)n;
}

static void forget_full_buckets(struct events *ev, int64_t now_ms)
{
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&ev->buckets, &at, &key, &v);) {
        struct bucket *b = v;
        refill_bucket(b, now_ms);
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
        forget_full_buckets(ev, now_ms);
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
        refill_bucket(b, now_ms);
    if (!b || !b->left)
        return false;
    b->left--;
    return true;
}

/* -- the Event -- */

static uint64_t hash_event(const char *uid, const char *reason, const char *message)
{
    const char *const parts[] = {uid, reason, message};
    uint64_t h = HASH_START;
    for (int i = 0; i < 3; i++)
        h = hash_bytes(h, parts[i], strlen(parts[i]));
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

static void end_letter(struct letter *l)
{
    if (l->done_fn)
        l->done_fn(l->user);
    mem_free(l->path);
    mem_free(l);
}

static void letter_done(void *user, const struct http_response *r)
{
    struct letter *l = user;
    struct err e = {0};
    if (kube_check(r, &e))
        log_debug("event not recorded", LOG_S("event", l->path), LOG_ERR(&e));
    end_letter(l);
}

/* POST found the event there already: count it up. */
static void letter_posted(void *user, const struct http_response *r)
{
    struct letter *l = user;
    struct table *counts = &l->all->counts;
    struct err e = {0};
    if (r->status != 409) {
        letter_done(user, r);
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
        .done_fn = letter_done,
        .user = l};
    if (kube_start(l->all->kube, &call, &e))
        end_letter(l);
}

/* Where the Event of that name is, and where one is created. */
static int name_paths(
    struct letter *l, const char *namespace_, const char *name, struct buf *all, struct err *e)
{
    buf_auto struct buf one;
    buf_init(&one, 1024);
    buf_printf(&one, "/api/v1/namespaces/%s/events/%s", namespace_, name);
    buf_printf(all, "/api/v1/namespaces/%s/events" KUBE_UNCHECKED, namespace_);
    l->path = buf_take(&one);
    return l->path && buf_ok(all) ? 0 : err_set(e, ERR_MEMORY, "no memory for an event");
}

static int post_letter(struct letter *l, const struct events_about *o, bool warning,
    const char *reason, const char *message, struct err *e)
{
    char name[LIMIT_SUBDOMAIN_BYTES];
    snprintf(name, sizeof name, "%.*s.%016" PRIx64, NAME_PART, o->name,
        hash_event(o->uid, reason, message));
    buf_auto struct buf path;
    buf_init(&path, 1024);
    int rc = name_paths(l, *o->namespace_ ? o->namespace_ : "default", name, &path, e);
    if (rc)
        return rc;
    buf_auto struct buf body;
    buf_init(&body, BODY_BYTES);
    struct jsonw w;
    jsonw_init(&w, &body);
    write_event(&w, l->all, o, warning, reason, message, name);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory for an event");
    const struct kube_call call = {.method = "POST",
        .path = path.data,
        .body = body.data,
        .len = body.len,
        .done_fn = letter_posted,
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
    if (!post_letter(l, o, warning, reason, message, &e))
        return true;
    log_debug("event not recorded", LOG_S("name", o->name), LOG_ERR(&e));
    mem_free(l->path);
    mem_free(l);
    return false;
}
