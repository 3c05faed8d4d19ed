/*
 * lease: one request at a time: GET, then perhaps POST or PUT. The object is always written whole,
 * of our own fields. Knows nothing of what the leader does.
 */
#include "controller/kube/lease.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

#define DURATION_MS 15000 /* others wait so long after the last renewal they saw */
#define DEADLINE_MS 10000 /* a leader gives up so long after its last renewal that succeeded */
#define EVERY_MS    2000

struct lease {
    struct kube *kube;
    char *namespace_, *name, *identity;
    enum lease_state state;
    bool busy, releasing, released; /* released: the write in flight, or done, gives it up */
    int64_t due_ms;
    int64_t renewed_ms; /* when the last renewal that succeeded was sent */
    int64_t sent_ms;
    char version[32], acquired[40];
    int64_t transitions;
    struct err last;
    /* what was last seen of the holder, and when it changed */
    char holder[256], stamp[64];
    int64_t changed_ms;
};

int lease_create(struct kube *k, const char *namespace_, const char *name, const char *identity,
    struct lease **out, struct err *e)
{
    struct lease *l = mem_zalloc(sizeof *l);
    if (l) {
        l->kube = k;
        l->namespace_ = mem_strdup(namespace_);
        l->name = mem_strdup(name);
        l->identity = mem_strdup(identity);
    }
    if (!l || !l->namespace_ || !l->name || !l->identity) {
        lease_destroy(l);
        return err_set(e, ERR_MEMORY, "no memory for a lease");
    }
    *out = l;
    return 0;
}

void lease_destroy(struct lease *l)
{
    if (!l)
        return;
    mem_free(l->namespace_);
    mem_free(l->name);
    mem_free(l->identity);
    mem_free(l);
}

enum lease_state lease_state(const struct lease *l)
{
    return l->state;
}

bool lease_idle(const struct lease *l)
{
    return !l->busy && (l->state != LEASE_HELD || !l->releasing || l->released);
}

/* MicroTime, which the API wants with six digits. */
static void micro_time(char *out, size_t size)
{
    int64_t now = clock_wall_ms();
    char seconds[40];
    clock_format(now, seconds, sizeof seconds);
    size_t n = strcspn(seconds, "Z.");
    snprintf(out, size, "%.*s.%03d000Z", (int)n, seconds, (int)(now % 1000));
}

static void write_lease(const struct lease *l, struct buf *out)
{
    struct jsonw w;
    char now[64];
    micro_time(now, sizeof now);
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "apiVersion", "coordination.k8s.io/v1");
    jsonw_str(&w, "kind", "Lease");
    jsonw_open(&w, "metadata", '{');
    jsonw_str(&w, "name", l->name);
    jsonw_str(&w, "namespace", l->namespace_);
    if (*l->version)
        jsonw_str(&w, "resourceVersion", l->version);
    jsonw_close(&w);
    jsonw_open(&w, "spec", '{');
    jsonw_str(&w, "holderIdentity", l->releasing ? "" : l->identity);
    jsonw_int(&w, "leaseDurationSeconds", l->releasing ? 1 : DURATION_MS / 1000);
    jsonw_str(&w, "acquireTime", *l->acquired ? l->acquired : now);
    jsonw_str(&w, "renewTime", now);
    jsonw_int(&w, "leaseTransitions", l->transitions);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

static void note_failure(struct lease *l, const struct err *e)
{
    if (l->last.code == ERR_NONE)
        log_warn("lease request failed", LOG_S("lease", l->name), LOG_ERR(e));
    l->last = *e;
}

static int send_request(struct lease *l, const char *method, const char *body,
    void (*done_fn)(void *user, const struct http_response *r), struct err *e)
{
    buf_auto struct buf path;
    bool create = !strcmp(method, "POST");
    buf_init(&path, 1024);
    buf_printf(&path, "/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s", l->namespace_,
        create ? "" : "/", create ? "" : l->name);
    if (!buf_ok(&path))
        return err_set(e, ERR_MEMORY, "no memory for a path");
    const struct kube_call call = {.method = method,
        .path = path.data,
        .body = body,
        .len = body ? strlen(body) : 0,
        .timeout_ms = EVERY_MS * 2,
        .background = true,
        .done_fn = done_fn,
        .user = l};
    l->sent_ms = clock_ms();
    l->busy = true;
    int rc = kube_start(l->kube, &call, e);
    if (rc)
        l->busy = false;
    return rc;
}

static void write_now(struct lease *l, const char *method);

static void note_version(struct lease *l, const struct http_response *r)
{
    json_auto struct json *v = NULL;
    struct err ignored;
    if (json_parse(r->body, r->len, &v, &ignored))
        return;
    const char *version = json_str(json_get(v, "metadata"), "resourceVersion", "");
    if (strlen(version) < sizeof l->version)
        snprintf(l->version, sizeof l->version, "%s", version);
}

static void lease_written(void *user, const struct http_response *r)
{
    struct lease *l = user;
    struct err e = {0};
    l->busy = false;
    l->due_ms = clock_ms() + EVERY_MS;
    if (r->error.code == ERR_DRAINED)
        return;
    if (kube_check(r, &e)) {
        /* Somebody else wrote: look who. A leader that still sees itself there goes on. */
        if (r->status == 409)
            l->due_ms = 0;
        *l->version = 0;
        note_failure(l, &e);
        return;
    }
    note_version(l, r);
    l->last = (struct err){0};
    if (l->releasing) {
        if (!l->released)
            write_now(l, "PUT");
        return;
    }
    l->renewed_ms = l->sent_ms;
    if (l->state == LEASE_WAITING) {
        l->state = LEASE_HELD;
        log_info("leading", LOG_S("lease", l->name), LOG_S("identity", l->identity));
    }
}

static void write_now(struct lease *l, const char *method)
{
    buf_auto struct buf body;
    struct err e = {0};
    buf_init(&body, 4096);
    l->released = l->releasing;
    write_lease(l, &body);
    int rc = buf_ok(&body) ? send_request(l, method, body.data, lease_written, &e)
                           : err_set(&e, ERR_MEMORY, "no memory for a lease");
    if (rc) {
        note_failure(l, &e);
        l->due_ms = clock_ms() + EVERY_MS;
    }
}

static void take_over(struct lease *l, const char *method)
{
    micro_time(l->acquired, sizeof l->acquired);
    if (*l->holder && strcmp(l->holder, l->identity) != 0)
        l->transitions++;
    write_now(l, method);
}

/* Remembers the holder's stamp; its age counts from when it was seen to change. */
static void note_holder(struct lease *l, const struct json *spec)
{
    const char *holder = json_str(spec, "holderIdentity", "");
    const char *stamp = json_str(spec, "renewTime", "");
    if (strcmp(holder, l->holder) != 0 || strcmp(stamp, l->stamp) != 0 || !l->changed_ms)
        l->changed_ms = clock_ms();
    snprintf(l->holder, sizeof l->holder, "%s", holder);
    snprintf(l->stamp, sizeof l->stamp, "%s", stamp);
    l->transitions = json_int(spec, "leaseTransitions", 0);
    snprintf(l->acquired, sizeof l->acquired, "%s", json_str(spec, "acquireTime", ""));
}

static void lease_seen(void *user, const struct http_response *r)
{
    struct lease *l = user;
    json_auto struct json *v = NULL;
    struct err e = {0};
    l->busy = false;
    l->due_ms = clock_ms() + EVERY_MS;
    if (r->error.code == ERR_DRAINED)
        return;
    if (r->status == 404) {
        *l->version = 0;
        *l->holder = 0;
        if (!l->releasing)
            take_over(l, "POST");
        return;
    }
    if (kube_check(r, &e) || json_parse(r->body, r->len, &v, &e)) {
        note_failure(l, &e);
        return;
    }
    const struct json *spec = json_get(v, "spec");
    note_version(l, r);
    note_holder(l, spec);
    int64_t duration = json_int(spec, "leaseDurationSeconds", DURATION_MS / 1000) * 1000;
    bool mine = !strcmp(l->holder, l->identity);
    if (l->state == LEASE_HELD && !mine) {
        l->state = LEASE_LOST;
        log_error("the lease has another holder", LOG_S("holder", l->holder));
    } else if (l->releasing) {
        write_now(l, "PUT");
    } else if (mine) {
        write_now(l, "PUT");
    } else if (!*l->holder || clock_ms() - l->changed_ms > duration) {
        take_over(l, "PUT");
    }
}

int64_t lease_turn(struct lease *l)
{
    int64_t now = clock_ms();
    if (l->state == LEASE_HELD && !l->releasing && now - l->renewed_ms > DEADLINE_MS) {
        l->state = LEASE_LOST;
        log_error("the lease could not be renewed in time", LOG_S("lease", l->name));
    }
    if (l->state == LEASE_LOST || l->busy)
        return -1;
    if (now < l->due_ms)
        return l->due_ms;
    if (l->state == LEASE_HELD && *l->version) {
        write_now(l, "PUT"); /* nobody else has written since, or the version refuses it */
        return l->busy ? -1 : l->due_ms;
    }
    struct err e;
    if (send_request(l, "GET", NULL, lease_seen, &e)) {
        note_failure(l, &e);
        l->due_ms = now + EVERY_MS;
        return l->due_ms;
    }
    return -1;
}

void lease_release(struct lease *l)
{
    if (l->state != LEASE_HELD || l->releasing)
        return;
    l->releasing = true;
    if (!l->busy && *l->version)
        write_now(l, "PUT");
}
