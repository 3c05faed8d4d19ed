/*
 * http: the only file that includes libcurl. Many requests in flight on one connection (HTTP/2
 * where the server speaks it), driven by the caller's loop: no thread of its own.
 *
 * A request is described by struct http_request (borrowed until http_start returns), answered by
 * done_fn once; a streaming request (watch) also gets data_fn per piece. Every request has a
 * deadline, and an idle deadline when it streams. Callbacks may start requests but must not destroy
 * the client.
 */
#ifndef BASE_HTTP_H
#define BASE_HTTP_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http; /* a client: connections, TLS settings */

struct http_conf {
    const char *ca_file, *cert_file, *key_file; /* or NULL */
    const char *ca_pem, *cert_pem, *key_pem;    /* or NULL: as bytes, from a kubeconfig's *-data */
    bool insecure;
    bool http2;
    int max_in_flight; /* further requests wait in order; 0: 64 */
    int gather_ms;     /* once something has come, wait so long for more before it is looked at */
    int peer_ms;       /* a peer that does not take a connection, or acknowledge what was sent or a
                          probe, for so long is gone; 0: 10 s, and what the system says */
    bool watched;      /* another loop waits for http_fd, and calls http_turn with wait_ms 0 */
    const char *user_agent;
};

struct http_response {
    int status;       /* 0 when no answer came; then error says why */
    const char *body; /* NUL-terminated; empty for a streaming request */
    size_t len;
    int64_t retry_after_ms; /* -1: none */
    struct err error;       /* ERR_NONE when an answer came, whatever its status */
};

struct http_request {
    const char *method; /* "GET", ... */
    const char *url;
    const char *bearer;         /* token or NULL */
    const char *content_type;   /* of body, or NULL */
    const char *const *headers; /* further "Name: value", NULL-terminated, or NULL */
    const void *body;
    size_t body_len;
    /* In place of body, body_len bytes of it: fills out and says how much, negative ends the
     * request. Asked when the server has said 100 Continue, or has said nothing for peer_ms. */
    int64_t (*body_fn)(void *user, char *out, size_t size);
    /* Each line of a head that comes, without its end, also of one that is not the last (status
     * below 200); empty: it has ended. Non-zero ends the request. */
    int (*line_fn)(void *user, int status, const char *line);
    int64_t timeout_ms;      /* whole request; 0 only with idle_timeout_ms */
    int64_t idle_timeout_ms; /* no byte for so long: ends with ERR_HANG; 0: none */
    size_t limit;            /* bytes of the answer; 0: 64 MiB */
    int (*data_fn)(void *user, const char *data, size_t len); /* non-zero ends the request */
    void (*done_fn)(void *user, const struct http_response *r);
    void *user;
};

int http_create(const struct http_conf *conf, struct http **out, struct err *e);
/* done_fn of every request in flight is called with ERR_DRAINED. */
void http_destroy(struct http *h);
int http_start(struct http *h, const struct http_request *r, struct err *e);
/* Ends what was started with this user; done_fn is not called. Not within a callback. */
void http_cancel(struct http *h, const void *user);
/* Of a watched client: readable when http_turn has something to do. What was started since, and
 * deadlines, want a turn besides. */
int http_fd(const struct http *h);
int http_in_flight(const struct http *h);

/* One turn: waits at most wait_ms for network activity or for extra_fds, runs callbacks. */
int http_turn(
    struct http *h, const int *extra_fds, int extra_count, int64_t wait_ms, struct err *e);

/* Convenience for tools: one blocking request; the body is appended to *out. Returns the HTTP
 * status or -code. */
int http_once(
    const struct http_conf *conf, const struct http_request *r, struct buf *out, struct err *e);

#endif
