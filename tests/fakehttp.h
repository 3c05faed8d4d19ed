/*
 * fakehttp: a small real HTTP/1.1 server on a loopback port, a thread a connection, for tests of
 * clients. What is answered is the test's: its handler sees each request and writes bytes, so it
 * can also answer late, in pieces, wrongly, or not at all. Handlers run on the server's threads;
 * share state under a lock.
 */
#ifndef TESTS_FAKEHTTP_H
#define TESTS_FAKEHTTP_H

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKEHTTP_CONNECTIONS 256

struct fakehttp_request {
    char method[16], path[2048]; /* path with its query */
    const char *headers;         /* raw lines */
    const char *body;
    size_t len;
    int fd;
};

struct fakehttp;
/* Returns false to close the connection. */
typedef bool fakehttp_fn(void *user, const struct fakehttp_request *r);

struct fakehttp {
    int fd;
    uint16_t port;
    fakehttp_fn *fn;
    void *user;
    pthread_t acceptor;
    _Atomic int connections, requests;
    _Atomic bool stop;
    _Atomic int fds[FAKEHTTP_CONNECTIONS]; /* open ones, plus 1; 0: free */
    pthread_t threads[FAKEHTTP_CONNECTIONS];
    int thread_count;
};

struct fakehttp_connection {
    struct fakehttp *s;
    int slot;
};

static inline bool fakehttp_write(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool fakehttp_answer(
    const struct fakehttp_request *r, int status, const char *headers, const char *body)
{
    char head[1024];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n", status,
        strlen(body), headers);
    return fakehttp_write(r->fd, head, (size_t)n) && fakehttp_write(r->fd, body, strlen(body));
}

/* Begins a chunked answer; then fakehttp_chunk as often as wanted, "" to end. */
static inline bool fakehttp_begin(const struct fakehttp_request *r)
{
    const char *head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    return fakehttp_write(r->fd, head, strlen(head));
}

static inline bool fakehttp_chunk(const struct fakehttp_request *r, const char *text, size_t len)
{
    char head[32];
    int n = snprintf(head, sizeof head, "%zx\r\n", len);
    return fakehttp_write(r->fd, head, (size_t)n) && fakehttp_write(r->fd, text, len) &&
        fakehttp_write(r->fd, "\r\n", 2);
}

/* The value of a header into out, or "". */
static inline const char *fakehttp_header(
    const struct fakehttp_request *r, const char *name, char *out, size_t size)
{
    size_t n = strlen(name);
    out[0] = 0;
    for (const char *p = r->headers; p && *p; p = strstr(p, "\r\n") ? strstr(p, "\r\n") + 2 : NULL)
        if (!strncasecmp(p, name, n) && p[n] == ':')
            snprintf(out, size, "%.*s", (int)strcspn(p + n + 2, "\r"), p + n + 2);
    return out;
}

static inline bool fakehttp_read(int fd, struct buf *in, struct fakehttp_request *r)
{
    char chunk[8192], length[32];
    char *end;
    while (!(end = in->len ? strstr(in->data, "\r\n\r\n") : NULL)) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0 || buf_add(in, chunk, (size_t)n))
            return false;
    }
    size_t head = (size_t)(end - in->data) + 4;
    r->headers = in->data;
    size_t body = strtoul(fakehttp_header(r, "Content-Length", length, sizeof length), NULL, 10);
    while (in->len < head + body) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0 || buf_add(in, chunk, (size_t)n))
            return false;
    }
    r->headers = in->data;
    r->body = in->data + head;
    r->len = body;
    return sscanf(in->data, "%15s %2047s", r->method, r->path) == 2;
}

static inline void *fakehttp_serve(void *user)
{
    struct fakehttp_connection *c = user;
    struct fakehttp *s = c->s;
    int fd = atomic_load(&s->fds[c->slot]) - 1;
    struct buf in;
    buf_init(&in, 16 << 20);
    for (;;) {
        struct fakehttp_request r = {.fd = fd};
        if (!fakehttp_read(fd, &in, &r))
            break;
        atomic_fetch_add(&s->requests, 1);
        size_t used = (size_t)(r.body - in.data) + r.len;
        if (!s->fn(s->user, &r))
            break;
        buf_drop(&in, used);
    }
    buf_done(&in);
    shutdown(fd, SHUT_RDWR);
    mem_free(c);
    return NULL;
}

static inline void *fakehttp_accept(void *user)
{
    struct fakehttp *s = user;
    while (!atomic_load(&s->stop)) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            break;
        ck_assert_int_lt(s->thread_count, FAKEHTTP_CONNECTIONS);
        struct fakehttp_connection *c = mem_zalloc(sizeof *c);
        *c = (struct fakehttp_connection){s, s->thread_count};
        atomic_store(&s->fds[c->slot], fd + 1);
        atomic_fetch_add(&s->connections, 1);
        pthread_create(&s->threads[s->thread_count++], NULL, fakehttp_serve, c);
    }
    return NULL;
}

static inline void fakehttp_start(struct fakehttp *s, fakehttp_fn *fn, void *user)
{
    struct err e = {0};
    memset(s, 0, sizeof *s);
    s->fn = fn;
    s->user = user;
    s->fd = io_listen("127.0.0.1", 0, &s->port, &e);
    ck_assert_msg(s->fd >= 0, "%s", e.text);
    io_set_nonblocking(s->fd, false, &e);
    ck_assert_int_eq(pthread_create(&s->acceptor, NULL, fakehttp_accept, s), 0);
}

/* Ends every connection; handlers that wait must watch s->stop. */
static inline void fakehttp_stop(struct fakehttp *s)
{
    atomic_store(&s->stop, true);
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->acceptor, NULL);
    for (int i = 0; i < s->thread_count; i++)
        shutdown(atomic_load(&s->fds[i]) - 1, SHUT_RDWR);
    for (int i = 0; i < s->thread_count; i++) {
        pthread_join(s->threads[i], NULL);
        close(atomic_load(&s->fds[i]) - 1);
    }
    close(s->fd);
}

#endif
