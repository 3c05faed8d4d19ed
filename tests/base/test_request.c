/*
 * Goal: two readers of one stream never differ about where a request ends: what is ambiguous is
 * refused with its status, what is plain is read whole, however the bytes arrive. The kind of
 * fault: a request hidden in another (smuggling), and a reader that never ends. Method: tables of
 * heads and of bodies, each fed whole and byte by byte.
 * needs: faults
 */
#include "base/request.h"
#include "base/buf.h"
#include "base/mem.h"
#include "tests/unit.h"

#include <string.h>

/* The status of a head that begins at text; 0 when it was read, -1 when more is needed. */
static int read_head(const char *text, size_t len, size_t step, struct request *out)
{
    size_t at = 0;
    for (size_t n = step < len ? step : len;; n = n + step < len ? n + step : len) {
        int found = request_find(text, n, &at);
        if (found < 0)
            return -found;
        if (found > 0)
            return request_parse(text, (size_t)found, out);
        if (n == len)
            return -1;
    }
}

#define H "Host: x\r\n"

static const struct {
    const char *text;
    int status;
} heads[] = {
    {"GET / HTTP/1.1\r\n" H "\r\n", 0},
    {"GET / HTTP/1.0\r\n\r\n", 0},
    {"GET / HTTP/1.1\r\n" H, -1},
    {"GET / HTTP/1.1\r\n\r\n", 400}, /* whose? */
    {"GET / HTTP/1.1\r\n" H H "\r\n", 400},
    /* lines */
    {"GET / HTTP/1.1\n" H "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H " folded: y\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "\tfolded\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "Name : y\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "No colon\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H ": y\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400},
    {"\x16\x03\x01\x02", 400}, /* TLS at a door that speaks none */
    /* the first line */
    {"GET  / HTTP/1.1\r\n" H "\r\n", 400},
    {" GET / HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /\r\n\r\n", 400},
    {"GET / HTTP/1.1 \r\n" H "\r\n", 400},
    {"GET / HTTP/2.0\r\n" H "\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\n", 505},
    {"GET / http/1.1\r\n" H "\r\n", 400},
    {"CONNECT x:1 HTTP/1.1\r\n" H "\r\n", 405},
    {"TRACE / HTTP/1.1\r\n" H "\r\n", 405},
    {"BREW / HTTP/1.1\r\n" H "\r\n", 501},
    {"G(T / HTTP/1.1\r\n" H "\r\n", 400},
    {"GET x HTTP/1.1\r\n" H "\r\n", 400},
    {"GET * HTTP/1.1\r\n" H "\r\n", 400},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0},
    {"GET http://x/y HTTP/1.1\r\n" H "\r\n", 0},
    {"GET http:///y HTTP/1.1\r\n" H "\r\n", 400},
    {"GET ftp://x/y HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /%zz HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /%00 HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /%4 HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /a#b HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", 400},
    /* lengths */
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n", 0},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", 0},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"PUT / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", 501},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400},
    {"PUT / HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n", 0},
    {"PUT / HTTP/1.1\r\n" H "Expect: a miracle\r\n\r\n", 417},
    {"GET / HTTP/1.1\r\n" H "Authorization: a\r\nauthorization: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "Cookie: a\r\nCookie: b\r\n\r\n", 0},
};

START_TEST(each_head_has_its_status)
{
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct request r = {0};
        const size_t len = strlen(heads[i].text);
        for (size_t step = 1; step <= len; step += len - 1) {
            int status = read_head(heads[i].text, len, step, &r);
            ck_assert_msg(status == heads[i].status, "%s: %d, not %d", heads[i].text, status,
                heads[i].status);
            request_done(&r);
        }
    }
}
END_TEST

START_TEST(a_head_is_read_whole)
{
    static const char text[] = "POST /a%20b?c=%20d&e HTTP/1.1\r\nHOST:x\r\nX-One: \t two words \t"
                               "\r\nEmpty:\r\nUpgrade: h2c, WebSocket\r\n"
                               "Connection: keep-alive , Upgrade\r\nExpect: 100-Continue\r\n"
                               "Content-Length: 0012\r\n\r\nbehind";
    struct request r;
    ck_assert_int_eq(read_head(text, sizeof text - 1, 7, &r), 0);
    ck_assert_str_eq(r.method, "POST");
    ck_assert_str_eq(r.path, "/a b");
    ck_assert_str_eq(r.query, "c=%20d&e");
    ck_assert_str_eq(request_header(&r, "host"), "x");
    ck_assert_str_eq(request_header(&r, "x-one"), "two words");
    ck_assert_str_eq(request_header(&r, "empty"), "");
    ck_assert_ptr_null(request_header(&r, "x"));
    ck_assert(r.keep_alive && r.expects && r.sized && !r.chunked && !r.http10);
    ck_assert(!r.websocket); /* a POST */
    ck_assert_uint_eq(r.length, 12);
    request_done(&r);
}
END_TEST

START_TEST(knows_who_stays)
{
    static const struct {
        const char *text;
        bool stays;
    } table[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: x, Close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: x\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct request r;
        ck_assert_int_eq(read_head(table[i].text, strlen(table[i].text), 1000, &r), 0);
        ck_assert_msg(r.keep_alive == table[i].stays, "%s", table[i].text);
        request_done(&r);
    }
}
END_TEST

START_TEST(a_head_is_bounded)
{
    buf_auto struct buf b;
    struct request r;
    buf_init(&b, 1 << 20);
    buf_str(&b, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < REQUEST_HEADERS - 1; i++)
        buf_str(&b, "A: b\r\n");
    size_t full = b.len;
    buf_str(&b, "\r\n");
    ck_assert_int_eq(read_head(b.data, b.len, b.len, &r), 0);
    request_done(&r);
    b.len = full;
    buf_str(&b, "A: b\r\n\r\n");
    ck_assert_int_eq(read_head(b.data, b.len, b.len, &r), 431);
    buf_reset(&b);
    buf_str(&b, "GET /");
    while (b.len < REQUEST_HEAD_BYTES - 1)
        buf_char(&b, 'a');
    ck_assert_int_eq(read_head(b.data, b.len, 1000, &r), -1);
    buf_char(&b, 'a');
    ck_assert_int_eq(read_head(b.data, b.len, 1000, &r), 431);
    buf_str(&b, "\r\n\r\n"); /* all at once: not a byte more than piecemeal */
    ck_assert_int_eq(read_head(b.data, b.len, b.len, &r), 431);
}
END_TEST

/* The body's content in out; bytes taken, or the negative status; -1000 when it has not ended. */
static int64_t read_body(const struct request *r, const char *text, size_t step, struct buf *out)
{
    struct request_body b;
    size_t at = 0, len = strlen(text);
    request_body_begin(&b, r);
    buf_reset(out);
    while (!request_body_ended(&b)) {
        const char *piece;
        size_t n, now = step < len - at ? step : len - at;
        if (!now)
            return -1000;
        int64_t k = request_body_take(&b, text + at, now, &piece, &n);
        if (k < 0)
            return k;
        ck_assert_int_gt(k, 0);
        buf_add(out, piece, n);
        at += (size_t)k;
    }
    return (int64_t)at;
}

START_TEST(bodies_end_where_they_say)
{
    static const struct {
        const char *text, *content;
        int64_t taken;
    } table[] = {
        {"0\r\n\r\nGET", "", 5},
        {"5\r\nhello\r\n0\r\n\r\nGET", "hello", 15},
        {"00005;x=\"y\"\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\nB:\r\n\r\nGET", "hello!", 47},
        {"a\r\n0123456789\r\n0;last\r\n\r\n", "0123456789", 25},
        {"5\r\nhello\r\n0\r\n", NULL, -1000},
        {"5\nhello\r\n0\r\n\r\n", NULL, -400},
        {"5\r\nhello0\r\n\r\n", NULL, -400},
        {"5\r\nhello\n0\r\n\r\n", NULL, -400},
        {"5 \r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"\r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"-5\r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"0x5\r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"00000000000000005\r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"5;\x01\r\nhello\r\n0\r\n\r\n", NULL, -400},
        {"0\r\n\n", NULL, -400},
        {"0\r\nA: b\n\r\n", NULL, -400},
        {"0\r\n\rX", NULL, -400},
    };
    const struct request chunked = {.chunked = true};
    buf_auto struct buf out;
    buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (size_t step = 1; step < 101; step += 33) {
            int64_t n = read_body(&chunked, table[i].text, step, &out);
            ck_assert_msg(n == table[i].taken, "%s: %lld", table[i].text, (long long)n);
            if (table[i].content)
                ck_assert_str_eq(buf_cstr(&out), table[i].content);
        }
    const struct request sized = {.sized = true, .length = 5}, empty = {.sized = true};
    ck_assert_int_eq(read_body(&sized, "helloGET", 3, &out), 5);
    ck_assert_str_eq(buf_cstr(&out), "hello");
    ck_assert_int_eq(read_body(&sized, "hell", 3, &out), -1000);
    ck_assert_int_eq(read_body(&empty, "GET", 3, &out), 0);
}
END_TEST

START_TEST(what_nobody_reads_is_bounded_too)
{
    const struct request chunked = {.chunked = true};
    buf_auto struct buf b, out;
    buf_init(&b, 1 << 20);
    buf_init(&out, 4096);
    buf_str(&b, "5;");
    for (int i = 0; i < 300; i++)
        buf_char(&b, 'x');
    ck_assert_int_eq(read_body(&chunked, b.data, 1000, &out), -400);
    buf_reset(&b);
    buf_str(&b, "0\r\n");
    for (int i = 0; i < 2000; i++)
        buf_str(&b, "A:b\r\n");
    ck_assert_int_eq(read_body(&chunked, b.data, 1000, &out), -400);
}
END_TEST

START_TEST(a_status_has_a_name)
{
    ck_assert_str_eq(request_reason(200), "OK");
    ck_assert_str_eq(request_reason(503), "Service Unavailable");
    ck_assert_str_eq(request_reason(299), "Status");
}
END_TEST

static int parse_once(void *user)
{
    static const char text[] = "GET / HTTP/1.1\r\n" H "\r\n";
    struct request r;
    (void)user;
    int status = request_parse(text, sizeof text - 1, &r);
    if (status)
        return status == 503 ? -ERR_MEMORY : -ERR_BUG;
    request_done(&r);
    return 0;
}

START_TEST(survives_want_of_memory)
{
    fault_each(FAULT_MEM, parse_once, NULL);
}
END_TEST

UNIT_MAIN("request", each_head_has_its_status, a_head_is_read_whole, knows_who_stays,
    a_head_is_bounded, bodies_end_where_they_say, what_nobody_reads_is_bounded_too,
    a_status_has_a_name, survives_want_of_memory)
