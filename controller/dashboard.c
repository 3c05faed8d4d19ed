/*
 * dashboard: a small server around base/web and base/metric. The thread shares nothing with the
 * loop but two atomics and the metrics, which are atomics too. Serves probes and Prometheus,
 * nothing else.
 */
#include "controller/dashboard.h"

#include "api/names.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/net.h"
#include "base/web.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define STALLED_MS    30000 /* a loop that has not turned for so long is broken */
#define TURN_MS       1000
#define METRICS_BYTES ((size_t)1 << 20)
#define CONNECTIONS   64
#define ANSWER_BYTES  (4 * METRICS_BYTES) /* that clients have not read */

struct dashboard {
    struct web *web;
    pthread_t thread;
    uint16_t port;
    bool serving; /* the thread runs */
    _Atomic int64_t beat_ms;
    _Atomic bool ready, stop;
};

static void answer_text(struct web_exchange *x, int status, const char *text)
{
    web_answer(x, status, "text/plain; charset=utf-8", text, strlen(text), NULL);
}

static void answer_metrics(struct web_exchange *x)
{
    buf_auto struct buf text;
    buf_init(&text, METRICS_BYTES);
    metric_print(&text);
    if (buf_ok(&text))
        web_answer(
            x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_cstr(&text), text.len, NULL);
    else
        answer_text(x, 500, "too many metrics\n");
}

static void answer_request(void *user, struct web_exchange *x)
{
    struct dashboard *d = user;
    const char *path = web_path(x);
    bool turns = clock_ms() - atomic_load(&d->beat_ms) < STALLED_MS;
    if (strcmp(web_method(x), "GET") != 0)
        answer_text(x, 405, "only GET\n");
    else if (!strcmp(path, NAME_PATH_HEALTH))
        answer_text(x, turns ? 200 : 503, turns ? "ok\n" : "the loop does not turn\n");
    else if (!strcmp(path, NAME_PATH_READY))
        answer_text(x, turns && atomic_load(&d->ready) ? 200 : 503,
            atomic_load(&d->ready) ? "ok\n" : "the caches are not complete\n");
    else if (!strcmp(path, NAME_PATH_METRICS))
        answer_metrics(x);
    else
        answer_text(x, 404, "no such page\n");
}

static void *serve_probes(void *user)
{
    struct dashboard *d = user;
    struct err e;
    while (!atomic_load(&d->stop))
        if (web_turn(d->web, TURN_MS, &e)) {
            log_error("dashboard ended", LOG_ERR(&e));
            break;
        }
    return NULL;
}

/* Without signals: they belong to the loop's signalfd. */
static int start_thread(struct dashboard *d, struct err *e)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&d->thread, NULL, serve_probes, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed)
        return err_sys(e, ERR_RETRY, failed, "cannot start the dashboard's thread");
    d->serving = true;
    return 0;
}

static int open_dashboard(struct dashboard *d, const struct net_address *at, struct err *e)
{
    const struct web_conf conf = {.max_connections = CONNECTIONS};
    const struct web_door door = {.host = at->host,
        .port = at->port,
        .request_fn = answer_request,
        .user = d,
        .plain = true,
        .body_limit = 4096,
        .memory = ANSWER_BYTES};
    int rc = web_create(&conf, &d->web, e);
    if (rc)
        return rc;
    rc = web_open(d->web, &door, &d->port, e);
    return rc ? rc : start_thread(d, e);
}

int dashboard_start(const char *listen, struct dashboard **out, struct err *e)
{
    struct net_address at;
    if (!net_parse(listen, &at))
        return err_set(e, ERR_USER, "--listen: \"%.100s\" is not host:port", listen);
    struct dashboard *d = mem_zalloc(sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for the dashboard");
    atomic_store(&d->beat_ms, clock_ms());
    int rc = open_dashboard(d, &at, e);
    if (rc)
        dashboard_stop(d);
    else
        *out = d;
    return rc;
}

void dashboard_stop(struct dashboard *d)
{
    if (!d)
        return;
    if (d->serving) {
        atomic_store(&d->stop, true);
        web_wake(d->web);
        pthread_join(d->thread, NULL);
    }
    web_destroy(d->web);
    mem_free(d);
}

uint16_t dashboard_port(const struct dashboard *d)
{
    return d->port;
}

void dashboard_beat(struct dashboard *d, bool ready)
{
    atomic_store(&d->beat_ms, clock_ms());
    atomic_store(&d->ready, ready);
}
