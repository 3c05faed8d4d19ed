/*
 * buf: the bounded byte buffer that every text, frame and answer of the house is built in. Capacity
 * doubles from 64 bytes up to limit + 1. Failure is sticky: a half-written text must never be
 * mistaken for a whole one.
 */
#include "base/buf.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_done(struct buf *b)
{
    if (!b)
        return;
    mem_free(b->data);
    *b = (struct buf){.limit = b->limit};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

static int fail(struct buf *b)
{
    buf_done(b);
    b->failed = true;
    return -ERR_MEMORY;
}

/* Room for n more bytes and the NUL. */
static int reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return -ERR_MEMORY;
    if (n > b->limit - b->len)
        return fail(b);
    size_t need = b->len + n + 1;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need && cap <= SIZE_MAX / 2)
        cap *= 2;
    if (cap > b->limit)
        cap = b->limit + 1;
    if (cap < need)
        cap = need;
    char *data = mem_realloc(b->data, cap);
    if (!data)
        return fail(b);
    b->data = data;
    b->cap = cap;
    return 0;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
    int rc = reserve(b, len);
    if (rc)
        return rc;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
    return 0;
}

int buf_str(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_char(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

int buf_fill(struct buf *b, char c, size_t n)
{
    int rc = reserve(b, n);
    if (rc)
        return rc;
    if (n)
        memset(b->data + b->len, c, n);
    b->len += n;
    b->data[b->len] = 0;
    return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return rc;
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    size_t room = b->cap ? b->cap - b->len : 0;
    int n = vsnprintf(room ? b->data + b->len : NULL, room, fmt, ap);
    int rc = n < 0 ? fail(b) : (size_t)n >= room ? reserve(b, (size_t)n) : 0;
    if (!rc) {
        if ((size_t)n >= room)
            vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

void buf_drop(struct buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    if (!n)
        return;
    b->len -= n;
    memmove(b->data, b->data + n, b->len + 1);
}

const char *buf_cstr(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_take(struct buf *b)
{
    if (b->failed || (!b->data && reserve(b, 0)))
        return NULL;
    char *data = b->data;
    data[b->len] = 0;
    *b = (struct buf){.limit = b->limit};
    return data;
}

bool buf_ok(const struct buf *b)
{
    return !b->failed;
}
