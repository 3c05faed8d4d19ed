/*
 * Goal: request takes any bytes without harm, and where a request ends does not depend on how the
 * bytes arrive. Method: the input is read as a stream of requests in pieces of 1 byte, of 7 and
 * whole; what was read (heads, contents, where it ended and with which status) must be the same.
 */
#include "base/buf.h"
#include "base/request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void note_head(struct buf *log, const struct request *r)
{
    must(r->method && r->path && r->query);
    must(!(r->sized && r->chunked) && !(r->http10 && r->chunked));
    buf_printf(log, "%s %s %s %d %d %d\n", r->method, r->path, r->query, r->keep_alive, r->expects,
        r->websocket);
    for (const char *p = r->headers; p < r->headers_end;) {
        const char *value = p + strlen(p) + 1;
        must(request_header(r, p) != NULL);
        must(!strpbrk(p, "\r\n: ") && !strpbrk(value, "\r\n"));
        buf_printf(log, "%s=%s\n", p, value);
        p = value + strlen(value) + 1;
    }
}

/* Reads the body from *at on; false when the stream ends or is refused in it. */
static bool read_body(const struct request *r, const char *text, size_t size, size_t step,
    size_t *at, struct buf *log)
{
    struct request_body b;
    request_body_begin(&b, r);
    while (!request_body_ended(&b)) {
        const char *piece;
        size_t n, now = step < size - *at ? step : size - *at;
        int64_t k = now ? request_body_take(&b, text + *at, now, &piece, &n) : -1;
        if (k < 0) {
            buf_printf(log, "body %lld\n", (long long)k);
            return false;
        }
        must(k > 0 && (size_t)k <= now);
        must(!n || (piece >= text + *at && piece + n <= text + *at + k));
        buf_add(log, piece, n);
        *at += (size_t)k;
    }
    return true;
}

static void read_all(const char *text, size_t size, size_t step, struct buf *log)
{
    for (size_t at = 0; at < size;) {
        size_t scanned = 0, have = 0;
        int n = 0;
        while (n == 0 && have < size - at) {
            have = have + step < size - at ? have + step : size - at;
            n = request_find(text + at, have, &scanned);
        }
        must(n <= (int)have);
        struct request r = {0};
        int status = n > 2 ? request_parse(text + at, (size_t)n, &r) : 0;
        if (n <= 0 || status) {
            buf_printf(log, "head %d %d\n", n, status);
            return;
        }
        at += (size_t)n;
        if (n == 2)
            continue;
        note_head(log, &r);
        bool whole = read_body(&r, text, size, step, &at, log);
        request_done(&r);
        if (!whole)
            return;
        buf_printf(log, "at %zu\n", at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 7, SIZE_MAX / 2};
    buf_auto struct buf first, log;
    buf_init(&first, 16 << 20);
    read_all((const char *)data, size, steps[0], &first);
    for (size_t i = 1; i < sizeof steps / sizeof *steps; i++) {
        buf_init(&log, 16 << 20);
        read_all((const char *)data, size, steps[i], &log);
        must(log.len == first.len && !memcmp(buf_cstr(&log), buf_cstr(&first), log.len));
        buf_done(&log);
    }
    return 0;
}
