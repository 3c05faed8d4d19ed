/*
 * web: an HTTP/1.1 server with streaming answers, WebSocket on both sides and adopted file
 * descriptors: the one loop of an agent, and the controller's small server. Single-threaded: every
 * callback runs inside web_turn.
 *
 * What strangers can take is bounded by door (a listener). A connection has a slot and 32 KiB; a
 * door admits a request by its headers before a byte of the body is kept; bodies and answers of a
 * door share web_door.memory. Deadlines are absolute: WEB_HEAD_MS for a request's head, WEB_BODY_MS
 * for its body, WEB_IDLE_MS between requests, WEB_WRITE_MS for what is queued to be taken by the
 * client. When all slots are taken, the connection that has waited longest for a whole request
 * makes room for the newcomer, so idle strangers keep nobody out.
 */
#ifndef BASE_WEB_H
#define BASE_WEB_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEB_HEAD_MS  10000
#define WEB_BODY_MS  30000
#define WEB_IDLE_MS  60000
#define WEB_WRITE_MS 60000

struct web;          /* loop and listeners */
struct web_exchange; /* one request of a client */
struct web_socket;   /* one WebSocket */

#define WEB_BODY_BYTES (1 << 20)

struct web_conf {
    size_t body_limit;   /* of a request and of a WebSocket's message; 0: WEB_BODY_BYTES */
    int max_connections; /* WebSockets, and slots of a door that names none; 0: 1024 */
};

/* Answers at once with web_answer, or keeps the exchange and answers later, or streams. */
typedef void web_request_fn(void *user, struct web_exchange *x);
/* Runs when the head is read, before the body: true reads on; false after it has answered. */
typedef bool web_admit_fn(void *user, struct web_exchange *x);

struct web_door {
    const char *host; /* borrowed for web_open */
    uint16_t port;
    int listener; /* a socket that listens there already, taken with success; 0: none */
    web_request_fn *request_fn;
    web_admit_fn *admit_fn; /* or NULL: all */
    void *user;
    bool plain;        /* WebSocket paths are not for this door */
    int slots;         /* connections at once; 0: max_connections */
    size_t body_limit; /* of one request; 0: web_conf's */
    size_t memory;     /* bodies and answers of all its connections; 0: 16 MiB */
};

int web_create(const struct web_conf *conf, struct web **out, struct err *e);
void web_destroy(struct web *w); /* calls nobody back */
/* Listens; all requests that no WebSocket path takes go to the door's functions. */
int web_open(struct web *w, const struct web_door *door, uint16_t *bound_port, struct err *e);
/* One turn of the loop, at most wait_ms. */
int web_turn(struct web *w, int64_t wait_ms, struct err *e);
void web_wake(struct web *w); /* from another thread */

/* exchange: valid from the request until answered or gone */
const char *web_method(const struct web_exchange *x); /* HEAD is "GET": the answer is cut here */
const char *web_path(const struct web_exchange *x);   /* decoded, no query */
const char *web_header(const struct web_exchange *x, const char *lower_case_name); /* or NULL */
const char *web_body(const struct web_exchange *x, size_t *len);
/* gone_fn tells that the client went away before it was answered. */
void web_set_user(struct web_exchange *x, void *user, void (*gone_fn)(void *user));
/* Unlike that of any other request to this web. */
uint64_t web_id(const struct web_exchange *x);
/* What is known of it, the caller's own number; 0 until then. */
void web_note(struct web_exchange *x, int64_t note);
int64_t web_noted(const struct web_exchange *x);
/* Whether the client connected to this numeric address. */
bool web_reached(const struct web_exchange *x, const char *host, uint16_t port);
/* Within admit_fn: a "Name: value" line of the 100 Continue that goes before the body is read. */
void web_continue(struct web_exchange *x, const char *line);
/* The first n bytes of the body are not of it. */
void web_body_drop(struct web_exchange *x, size_t n);
/* As long as no answer has begun the client hears every so many ms that one is to come (102). */
void web_pulse(struct web_exchange *x, int64_t every_ms);
/* A further "Name: value" line of the answer to come, streamed or not. */
void web_add_header(struct web_exchange *x, const char *line);
/* The connection ends with the answer to come, or under way. */
void web_last(struct web_exchange *x);
/* headers: further "Name: value" lines, NULL-terminated, or NULL */
void web_answer(struct web_exchange *x, int status, const char *content_type, const void *body,
    size_t len, const char *const *headers);
void web_stream_begin(struct web_exchange *x, int status, const char *content_type);
/* Queued, bounded 1 MiB: -ERR_MEMORY. */
int web_stream_data(struct web_exchange *x, const void *data, size_t len);
/* Of that, what the client has not taken. */
size_t web_stream_left(const struct web_exchange *x);
void web_stream_end(struct web_exchange *x);

/* WebSocket: whole text messages, bounded by body_limit; pings every 2 s; gone after 8 s of
 * silence. Who is at the other end is for the messages to prove. */
struct web_socket_fns {
    void (*open_fn)(void *user, struct web_socket *s);
    void (*message_fn)(void *user, struct web_socket *s, const char *text, size_t len);
    /* s is invalid afterwards. */
    void (*closed_fn)(void *user, struct web_socket *s, const char *why);
};
/* Server side, at every door that is not plain: paths equal to `path` upgrade. user is the
 * path's. */
int web_accept_sockets(
    struct web *w, const char *path, const struct web_socket_fns *fns, void *user, struct err *e);
/* Client side; closed_fn is called when it cannot be opened. */
int web_dial(struct web *w, const char *host, uint16_t port, const char *path,
    const struct web_socket_fns *fns, void *user, struct web_socket **out, struct err *e);
/* Of a message from now on; a longer one closes the socket. */
void web_socket_limit(struct web_socket *s, size_t bytes);
int web_send(struct web_socket *s, const char *text, size_t len); /* queued, bounded: -ERR_MEMORY */
void web_close(struct web_socket *s);

/* Adopt a descriptor: fn runs when it is readable. Not closed by web_destroy. */
int web_watch_fd(struct web *w, int fd, void (*fn)(void *user, int fd), void *user, struct err *e);
void web_unwatch_fd(struct web *w, int fd);

#endif
