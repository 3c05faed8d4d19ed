/*
 * web_internal: what the files of base/web share. web.c owns the loop and its descriptors,
 * web_http.c listeners, connections and exchanges, web_socket.c WebSockets. Only web.c and
 * web_socket.c know libwebsockets.
 *
 * A closed connection's memory outlives the round of events in which it was closed: its watch is
 * marked dead and freed afterwards, since the same round may hold a later event for it.
 */
#ifndef BASE_WEB_INTERNAL_H
#define BASE_WEB_INTERNAL_H

#include "base/buf.h"
#include "base/request.h"
#include "base/web.h"

struct lws;
struct lws_vhost;
struct lws_context;
struct lws_retry_bo;
struct loop; /* libwebsockets' part of struct web, of web.c */

/* A descriptor in the loop's epoll set; the first member of what it belongs to, freed with it. */
struct watch {
    struct watch *next;
    int fd;
    uint32_t events;
    bool dead;
    void (*fn)(struct watch *watch, uint32_t events);
    void (*done_fn)(struct watch *watch); /* frees what it holds, or NULL */
};

struct listener {
    struct watch watch;
    struct web *web;
    struct web_door door;
    bool paused;     /* no descriptor was left to accept with */
    int connections; /* upgraded ones included */
    size_t held;     /* bytes of request bodies and answers */
};

struct socket_path {
    struct socket_path *next;
    char *path;
    const struct web_socket_fns *fns;
    void *user;
};

struct web {
    struct loop *loop;
    struct lws_context *cx;
    struct lws_vhost *vhost;
    const struct lws_retry_bo *retry; /* when to ping, and when a silent peer is gone */
    int epoll;
    struct watch *watches;
    bool any_dead, destroying;
    struct socket_path *paths;
    struct web_socket *adopting; /* whose upgrade libwebsockets is being told of */
    size_t body_limit;
    int max_connections;
    uint64_t exchanges;
    int64_t tick_ms; /* when deadlines are looked at next */
};

/* web.c */
int web_watch_add(struct web *w, struct watch *x, int fd, uint32_t events);
void web_watch_events(struct web *w, struct watch *x, uint32_t events);
void web_watch_drop(struct web *w, struct watch *x); /* dead; the descriptor stays open */

/* web_http.c */
bool web_http_waits(const struct web *w); /* something has a deadline */
void web_http_tick(struct web *w, int64_t now_ms);
/* Takes the descriptor of a client, as if it had come through l; closes it when there is no
 * room. */
void web_http_adopt(struct listener *l, int fd);
/* An upgraded connection of l ended. */
void web_http_left(struct listener *l);

/* web_socket.c */
const struct socket_path *web_socket_path(const struct web *w, const char *path);
/* Hands a client's descriptor over for good; key: the header's value, checked. */
void web_socket_accept(struct listener *l, int fd, const char *key, const struct socket_path *p);
int web_socket_callback(struct lws *wsi, int reason, void *in, size_t len);

#endif
