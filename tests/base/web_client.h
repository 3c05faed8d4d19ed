/*
 * web_client: clients of base/web for its tests: non-blocking sockets pumped between turns of the
 * loop, so that every exchange is driven to its end without threads or sleeps, and a promise that
 * is not kept shows as a time-out. One loop `w`, one port, one error a test program.
 */
#ifndef TESTS_BASE_WEB_CLIENT_H
#define TESTS_BASE_WEB_CLIENT_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/web.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define DEADLINE_MS 10000

static struct web *w;
static uint16_t port;
static struct err e;

struct web_client {
    int fd;
    bool closed;
    struct buf in;
};

static inline void client_open(struct web_client *c)
{
    *c = (struct web_client){.fd = io_connect("127.0.0.1", port, clock_ms() + DEADLINE_MS, &e)};
    ck_assert_msg(c->fd >= 0, "%s", e.text);
    ck_assert_int_eq(io_set_nonblocking(c->fd, true, &e), 0);
    buf_init(&c->in, 8 << 20);
}

static inline void client_close(struct web_client *c)
{
    io_close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
}

static inline void client_write(struct web_client *c, const char *text)
{
    ck_assert_int_eq(io_send_full(c->fd, text, strlen(text), clock_ms() + DEADLINE_MS, &e), 0);
}

static inline void turn(struct web_client *c)
{
    ck_assert_int_eq(web_turn(w, 5, &e), 0);
    char piece[65536];
    while (c && c->fd >= 0 && !c->closed) {
        ssize_t n = recv(c->fd, piece, sizeof piece, 0);
        if (n > 0)
            buf_add(&c->in, piece, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
            c->closed = true;
        else
            break;
    }
}

/* Turns until the condition holds; the time-out is the failure. */
#define until(c, condition) until_within(DEADLINE_MS, c, condition)
#define until_within(ms, c, condition) \
    do { \
        int64_t end_ms = clock_ms() + (ms); \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < end_ms, "timed out: %s", #condition); \
            turn(c); \
        } \
    } while (0)

static inline int count(struct web_client *c, const char *text)
{
    int n = 0;
    for (const char *p = buf_cstr(&c->in); (p = strstr(p, text)); p++)
        n++;
    return n;
}

static inline bool has(struct web_client *c, const char *text)
{
    return strstr(buf_cstr(&c->in), text) != NULL;
}

#endif
