/*
 * web: this file owns the loop: libwebsockets' poll, in which our own descriptors are
 * one: an epoll set that holds listeners, their connections and what callers adopted, so that a
 * hang-up never closes a descriptor behind its owner's back. What strangers send is read by
 * web_http.c; libwebsockets sees a client only after its upgrade was granted (web_socket.c).
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/web_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <sys/epoll.h>

#define WRITE_BYTES  16384 /* one write a turn and WebSocket, so that all get their share */
#define HEADER_BYTES 8192  /* of what a dialled peer answers */
#define TICK_MS      250   /* how late a deadline may be seen */

struct loop {
    lws_sorted_usec_list_t timer;
    lws_retry_bo_t retry;
    int epoll_dup; /* libwebsockets' to close */
};

/* A descriptor that a caller adopted. */
struct adopted {
    struct watch watch;
    void (*fn)(void *user, int fd);
    void *user;
};

static void run_watches(struct web *w);

static int protocol_callback(
    struct lws *wsi, enum lws_callback_reasons reason, void *session, void *in, size_t len)
{
    (void)session;
    if (reason != LWS_CALLBACK_RAW_RX_FILE)
        return web_socket_callback(wsi, (int)reason, in, len);
    run_watches(lws_context_user(lws_get_context(wsi)));
    return 0;
}

static const struct lws_protocols protocols[] = {
    {.name = "llmjob", .callback = protocol_callback, .rx_buffer_size = WRITE_BYTES},
    {0},
};

/* -- life -- */

static int create_context(struct web *w)
{
    w->loop->retry = (lws_retry_bo_t){.secs_since_valid_ping = 2, .secs_since_valid_hangup = 8};
    w->retry = &w->loop->retry;
    lws_set_log_level(0, NULL);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .fd_limit_per_thread = (unsigned)w->max_connections + 64,
        .pt_serv_buf_size = WRITE_BYTES,
        .max_http_header_data = HEADER_BYTES,
        .timeout_secs = 5,
        .user = w,
    };
    w->cx = lws_create_context(&info);
    struct lws_context_creation_info vhost = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .timeout_secs = 5,
        .connect_timeout_secs = 5,
        .retry_and_idle_policy = w->retry,
    };
    w->vhost = w->cx ? lws_create_vhost(w->cx, &vhost) : NULL;
    return w->vhost ? 0 : -ERR_RETRY;
}

int web_create(const struct web_conf *conf, struct web **out, struct err *e)
{
    struct web *w = mem_zalloc(sizeof *w);
    struct loop *loop = mem_zalloc(sizeof *loop);
    if (!w || !loop) {
        mem_free(w);
        mem_free(loop);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    w->loop = loop;
    w->epoll = loop->epoll_dup = -1;
    w->body_limit = conf && conf->body_limit ? conf->body_limit : WEB_BODY_BYTES;
    w->max_connections = conf && conf->max_connections ? conf->max_connections : 1024;
    if (!create_context(w))
        w->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll >= 0)
        loop->epoll_dup = fcntl(w->epoll, F_DUPFD_CLOEXEC, 0);
    lws_sock_file_fd_type fd = {.filefd = loop->epoll_dup};
    if (loop->epoll_dup < 0 ||
        !lws_adopt_descriptor_vhost(w->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, "llmjob", NULL)) {
        web_destroy(w);
        return err_set(e, ERR_RETRY, "the web loop cannot be created");
    }
    *out = w;
    return 0;
}

static void free_watch(struct watch *x)
{
    if (x->done_fn)
        x->done_fn(x);
    mem_free(x);
}

void web_destroy(struct web *w)
{
    if (!w)
        return;
    w->destroying = true;
    lws_sul_cancel(&w->loop->timer);
    if (w->cx)
        lws_context_destroy(w->cx);
    io_close(w->epoll);
    for (struct watch *x = w->watches, *next; x; x = next) {
        next = x->next;
        free_watch(x);
    }
    for (struct socket_path *p = w->paths, *next; p; p = next) {
        next = p->next;
        mem_free(p->path);
        mem_free(p);
    }
    mem_free(w->loop);
    mem_free(w);
}

/* -- watched descriptors -- */

int web_watch_add(struct web *w, struct watch *x, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = x};
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev))
        return -errno;
    x->fd = fd;
    x->events = events;
    x->next = w->watches;
    w->watches = x;
    return 0;
}

void web_watch_events(struct web *w, struct watch *x, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = x};
    if (events != x->events && !epoll_ctl(w->epoll, EPOLL_CTL_MOD, x->fd, &ev))
        x->events = events;
}

void web_watch_drop(struct web *w, struct watch *x)
{
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, x->fd, NULL);
    x->dead = w->any_dead = true;
}

static void on_adopted(struct watch *watch, uint32_t events)
{
    struct adopted *a = (struct adopted *)watch;
    (void)events;
    a->fn(a->user, watch->fd);
}

int web_watch_fd(struct web *w, int fd, void (*fn)(void *user, int fd), void *user, struct err *e)
{
    struct adopted *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "out of memory");
    *a = (struct adopted){.watch.fn = on_adopted, .fn = fn, .user = user};
    int rc = web_watch_add(w, &a->watch, fd, EPOLLIN);
    if (rc) {
        mem_free(a);
        return err_sys(e, ERR_BUG, -rc, "watching descriptor %d", fd);
    }
    return 0;
}

void web_unwatch_fd(struct web *w, int fd)
{
    for (struct watch *x = w->watches; x; x = x->next)
        if (x->fd == fd && x->fn == on_adopted && !x->dead) {
            web_watch_drop(w, x);
            return;
        }
}

static void sweep_watches(struct web *w)
{
    if (!w->any_dead)
        return;
    w->any_dead = false;
    for (struct watch **at = &w->watches; *at;) {
        struct watch *x = *at;
        if (x->dead) {
            *at = x->next;
            free_watch(x);
        } else {
            at = &x->next;
        }
    }
}

static void run_watches(struct web *w)
{
    struct epoll_event events[64];
    int n = epoll_wait(w->epoll, events, 64, 0);
    for (int i = 0; i < n; i++) {
        struct watch *x = events[i].data.ptr;
        if (!x->dead)
            x->fn(x, events[i].events);
    }
    sweep_watches(w);
}

/* -- the turn -- */

static void timer_done(lws_sorted_usec_list_t *sul)
{
    (void)sul; /* its only work was to end the wait */
}

int web_turn(struct web *w, int64_t wait_ms, struct err *e)
{
    if (wait_ms > TICK_MS && web_http_waits(w))
        wait_ms = TICK_MS;
    if (wait_ms > 0)
        lws_sul_schedule(w->cx, 0, &w->loop->timer, timer_done, wait_ms * 1000);
    int n = lws_service(w->cx, wait_ms > 0 ? 0 : -1);
    lws_sul_cancel(&w->loop->timer);
    int64_t now_ms = clock_ms();
    if (now_ms >= w->tick_ms) {
        web_http_tick(w, now_ms);
        w->tick_ms = now_ms + TICK_MS;
    }
    sweep_watches(w);
    return n < 0 ? err_set(e, ERR_BUG, "the web loop ended") : 0;
}

void web_wake(struct web *w)
{
    lws_cancel_service(w->cx);
}
