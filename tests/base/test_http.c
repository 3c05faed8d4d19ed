/*
 * Goal: each request gets one answer with what the server said, or an error that says why; streams
 * arrive in pieces; deadlines, limits and cancelling hold; many requests are in flight at once.
 * Method: a real server on a loopback port that answers by path: echo, slow, cut, stream; the loop
 * turned by hand.
 * needs: threads
 */
#include "base/http.h"

#include "base/clock.h"
#include "tests/fakehttp.h"
#include "tests/unit.h"

#include <poll.h>

struct answers {
    int done, status;
    char body[4096], data[4096];
    struct err error;
    int64_t retry_after_ms;
    bool stop_stream;
    struct http *again; /* done_fn starts another request on it */
    char url[128];
};

static _Atomic int together, most_together;

static bool echo(const struct fakehttp_request *r)
{
    char body[4096], token[128], type[128];
    snprintf(body, sizeof body, "%s %s [%s] [%s] %.*s", r->method, r->path,
        fakehttp_header(r, "Authorization", token, sizeof token),
        fakehttp_header(r, "Content-Type", type, sizeof type), (int)r->len, r->body);
    return fakehttp_answer(r, 200, "", body);
}

static bool handle(void *user, const struct fakehttp_request *r)
{
    struct fakehttp *s = user;
    if (!strcmp(r->path, "/echo"))
        return echo(r);
    if (!strcmp(r->path, "/busy"))
        return fakehttp_answer(r, 429, "Retry-After: 7\r\n", "wait");
    if (!strcmp(r->path, "/cut")) {
        fakehttp_write(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", 41);
        return false;
    }
    if (!strcmp(r->path, "/stream")) {
        fakehttp_begin(r);
        return fakehttp_chunk(r, "one ", 4) && fakehttp_chunk(r, "two", 3) &&
            fakehttp_chunk(r, "", 0);
    }
    if (!strcmp(r->path, "/rain")) {
        bool ok = fakehttp_begin(r);
        for (int i = 0; ok && i < 100; i++) {
            usleep(2000);
            ok = fakehttp_chunk(r, "drop ", 5);
        }
        return ok && fakehttp_chunk(r, "", 0);
    }
    if (!strcmp(r->path, "/hints"))
        return fakehttp_write(r->fd, "HTTP/1.1 102 Processing\r\n\r\n", 27) &&
            fakehttp_answer(r, 200, "A: b\r\n", "ab");
    if (!strcmp(r->path, "/gone"))
        return fakehttp_answer(r, 410, "", "too old");
    if (!strcmp(r->path, "/meet")) { /* answers only when four are here */
        int n = atomic_fetch_add(&together, 1) + 1;
        if (n > atomic_load(&most_together))
            atomic_store(&most_together, n);
        while (atomic_load(&most_together) < 4 && !atomic_load(&s->stop))
            usleep(1000);
        return fakehttp_answer(r, 200, "", "met");
    }
    if (!strcmp(r->path, "/drip"))
        (void)(fakehttp_begin(r) && fakehttp_chunk(r, "first", 5));
    while (!atomic_load(&s->stop)) /* "/silent", and the rest of "/drip" */
        usleep(1000);
    return false;
}

static struct http *client(int most)
{
    struct http *h = NULL;
    struct err e = {0};
    const struct http_conf conf = {.user_agent = "test", .max_in_flight = most, .http2 = true};
    ck_assert_msg(!http_create(&conf, &h, &e), "%s", e.text);
    return h;
}

static void done(void *user, const struct http_response *r)
{
    struct answers *a = user;
    a->done++;
    a->status = r->status;
    a->error = r->error;
    a->retry_after_ms = r->retry_after_ms;
    snprintf(a->body, sizeof a->body, "%s", r->body);
    ck_assert_uint_eq(strlen(r->body), r->len);
    if (a->again) {
        struct http_request next = {
            .method = "GET", .url = a->url, .timeout_ms = 5000, .done_fn = done, .user = a};
        struct err e;
        struct http *h = a->again;
        a->again = NULL;
        ck_assert_int_eq(http_start(h, &next, &e), 0);
    }
}

static int data(void *user, const char *bytes, size_t len)
{
    struct answers *a = user;
    size_t n = strlen(a->data);
    snprintf(a->data + n, sizeof a->data - n, "%.*s", (int)len, bytes);
    return a->stop_stream;
}

static void begin(struct http *h, const struct fakehttp *s, const char *path, struct http_request r,
    struct answers *a)
{
    char url[256];
    struct err e = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
    r.url = url; /* borrowed only until http_start returns */
    r.method = r.method ? r.method : "GET";
    r.done_fn = done;
    r.user = a;
    if (!r.timeout_ms && !r.idle_timeout_ms)
        r.timeout_ms = 5000;
    ck_assert_msg(!http_start(h, &r, &e), "%s", e.text);
    memset(url, 'x', sizeof url);
}

static void turn_until(struct http *h, const int *counter, int want)
{
    struct err e = {0};
    int64_t deadline = clock_ms() + 10000;
    while (*counter < want && clock_ms() < deadline)
        ck_assert_msg(!http_turn(h, NULL, 0, 100, &e), "%s", e.text);
    ck_assert_int_eq(*counter, want);
}

START_TEST(a_request_carries_all_it_was_given)
{
    struct fakehttp s;
    struct answers a = {0};
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    begin(h, &s, "/echo",
        (struct http_request){.method = "PATCH",
            .bearer = "tok",
            .content_type = "application/x",
            .body = "hello",
            .body_len = 5},
        &a);
    turn_until(h, &a.done, 1);
    ck_assert_int_eq(a.status, 200);
    ck_assert_int_eq(a.error.code, ERR_NONE);
    ck_assert_str_eq(a.body, "PATCH /echo [Bearer tok] [application/x] hello");
    begin(h, &s, "/busy", (struct http_request){0}, &a);
    turn_until(h, &a.done, 2);
    ck_assert_int_eq(a.status, 429);
    ck_assert_int_eq(a.retry_after_ms, 7000);
    ck_assert_int_eq(atomic_load(&s.connections), 1); /* kept alive */
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(many_are_in_flight_but_no_more_than_allowed)
{
    struct fakehttp s;
    struct answers a = {0};
    atomic_store(&together, 0);
    atomic_store(&most_together, 0);
    fakehttp_start(&s, handle, &s);
    struct http *h = client(4);
    for (int i = 0; i < 8; i++)
        begin(h, &s, "/meet", (struct http_request){0}, &a);
    ck_assert_int_eq(http_in_flight(h), 8);
    turn_until(h, &a.done, 8);
    ck_assert_int_ge(atomic_load(&most_together), 4);
    ck_assert_int_le(atomic_load(&s.connections), 4);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(streams_arrive_in_pieces_and_can_be_stopped)
{
    struct fakehttp s;
    struct answers a = {0};
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    begin(h, &s, "/stream", (struct http_request){.data_fn = data}, &a);
    turn_until(h, &a.done, 1);
    ck_assert_str_eq(a.data, "one two");
    ck_assert_str_eq(a.body, "");
    a.data[0] = 0;
    begin(h, &s, "/gone", (struct http_request){.data_fn = data}, &a);
    turn_until(h, &a.done, 2);
    ck_assert_int_eq(a.status, 410);
    ck_assert_str_eq(a.body, "too old");
    ck_assert_str_eq(a.data, "");
    a.stop_stream = true;
    begin(h, &s, "/drip", (struct http_request){.data_fn = data}, &a);
    turn_until(h, &a.done, 3);
    ck_assert_int_eq(a.error.code, ERR_DRAINED);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(deadlines_end_what_is_silent)
{
    struct fakehttp s;
    struct answers a = {0};
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    int64_t began = clock_ms();
    begin(h, &s, "/silent", (struct http_request){.timeout_ms = 150}, &a);
    turn_until(h, &a.done, 1);
    ck_assert_int_eq(a.error.code, ERR_HANG);
    begin(h, &s, "/drip", (struct http_request){.idle_timeout_ms = 150, .data_fn = data}, &a);
    turn_until(h, &a.done, 2);
    ck_assert_int_eq(a.error.code, ERR_HANG);
    ck_assert_str_eq(a.data, "first");
    ck_assert_int_lt(clock_ms() - began, 15000);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(failures_say_why)
{
    struct fakehttp s;
    struct answers a = {0};
    struct err e;
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    begin(h, &s, "/cut", (struct http_request){0}, &a);
    turn_until(h, &a.done, 1);
    ck_assert_int_eq(a.error.code, ERR_RETRY);
    ck_assert_int_eq(a.status, 0);
    begin(h, &s, "/echo", (struct http_request){.limit = 3}, &a);
    turn_until(h, &a.done, 2);
    ck_assert_ptr_nonnull(strstr(a.error.text, "exceeds 3 bytes"));
    fakehttp_stop(&s);
    begin(h, &s, "/echo", (struct http_request){0}, &a);
    turn_until(h, &a.done, 3);
    ck_assert_int_eq(a.error.code, ERR_RETRY);
    struct http_request bad = {.method = "GET",
        .url = "file:///etc/passwd",
        .timeout_ms = 1000,
        .done_fn = done,
        .user = &a};
    if (!http_start(h, &bad, &e)) {
        turn_until(h, &a.done, 4);
        ck_assert_int_ne(a.error.code, ERR_NONE);
        ck_assert_str_eq(a.body, "");
    }
    http_destroy(h);
}
END_TEST

START_TEST(destroy_answers_what_is_in_flight)
{
    struct fakehttp s;
    struct answers b = {0}, c = {0};
    struct err e;
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    begin(h, &s, "/silent", (struct http_request){0}, &b);
    begin(h, &s, "/echo", (struct http_request){0}, &c);
    turn_until(h, &c.done, 1);
    ck_assert_int_eq(http_in_flight(h), 1);
    ck_assert_int_eq(http_turn(h, NULL, 0, 0, &e), 0);
    http_destroy(h);
    ck_assert_int_eq(b.done, 1);
    ck_assert_int_eq(b.error.code, ERR_DRAINED);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(callbacks_may_start_requests_and_extra_descriptors_wake)
{
    struct fakehttp s;
    struct answers a = {0};
    struct err e;
    int fds[2];
    fakehttp_start(&s, handle, &s);
    struct http *h = client(0);
    a.again = h;
    snprintf(a.url, sizeof a.url, "http://127.0.0.1:%d/busy", s.port);
    begin(h, &s, "/echo", (struct http_request){0}, &a);
    turn_until(h, &a.done, 2);
    ck_assert_int_eq(a.status, 429);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    int64_t began = clock_ms();
    ck_assert_int_eq(http_turn(h, fds, 1, 10000, &e), 0);
    ck_assert_int_lt(clock_ms() - began, 9000);
    close(fds[0]);
    close(fds[1]);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

/* What each turn costs grows with what is in flight, so many small pieces must not make as many
 * turns. */
START_TEST(what_comes_in_quick_succession_is_looked_at_together)
{
    struct fakehttp s;
    struct answers a = {0};
    struct err e = {0};
    struct http *h = NULL;
    int64_t turns = 0, began = clock_ms();
    const struct http_conf conf = {.gather_ms = 50};
    fakehttp_start(&s, handle, &s);
    ck_assert_int_eq(http_create(&conf, &h, &e), 0);
    begin(h, &s, "/rain", (struct http_request){.data_fn = data}, &a);
    for (; !a.done && turns < 1000; turns++)
        ck_assert_msg(!http_turn(h, NULL, 0, 1000, &e), "%s", e.text);
    ck_assert_int_eq(a.error.code, ERR_NONE);
    ck_assert_uint_eq(strlen(a.data), 500);
    ck_assert_int_le(turns, 10 + 2 * (clock_ms() - began) / 50);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

struct letter {
    struct answers a; /* first: what done_fn is told of */
    const char *text;
    size_t sent;
    char lines[1024];
    int refuse; /* a line of this status */
};

static int64_t piece_of(void *user, char *out, size_t size)
{
    struct letter *l = user;
    size_t n = strlen(l->text + l->sent);
    n = n < 4 ? n : 4;
    n = n < size ? n : size;
    memcpy(out, l->text + l->sent, n);
    l->sent += n;
    return l->text[0] == '!' ? -1 : (int64_t)n;
}

static int line_of(void *user, int status, const char *line)
{
    struct letter *l = user;
    size_t n = strlen(l->lines);
    snprintf(l->lines + n, sizeof l->lines - n, "%d %s|", status, line);
    return status == l->refuse;
}

/* The server says nothing of 100, so the body comes after peer_ms. */
START_TEST(a_body_and_a_head_may_be_passed_in_pieces)
{
    struct fakehttp s;
    struct http *h = NULL;
    struct err e = {0};
    struct letter l = {.text = "hello again"};
    const struct http_request piecewise = {
        .method = "POST", .body_fn = piece_of, .body_len = 11, .line_fn = line_of};
    fakehttp_start(&s, handle, &s);
    ck_assert_int_eq(http_create(&(struct http_conf){.peer_ms = 50}, &h, &e), 0);
    begin(h, &s, "/echo", piecewise, &l.a);
    turn_until(h, &l.a.done, 1);
    ck_assert_int_eq(l.a.status, 200);
    ck_assert_ptr_nonnull(strstr(l.a.body, "hello again"));
    l = (struct letter){.text = ""};
    begin(h, &s, "/hints", (struct http_request){.line_fn = line_of}, &l.a);
    turn_until(h, &l.a.done, 1);
    ck_assert_str_eq(l.a.body, "ab");
    ck_assert_str_eq(l.lines,
        "102 HTTP/1.1 102 Processing|102 |"
        "200 HTTP/1.1 200 X|200 Content-Length: 2|200 A: b|200 |");
    l = (struct letter){.refuse = 102};
    begin(h, &s, "/hints", (struct http_request){.line_fn = line_of}, &l.a);
    turn_until(h, &l.a.done, 1);
    ck_assert_int_eq(l.a.error.code, ERR_DRAINED);
    ck_assert_str_eq(l.lines, "102 HTTP/1.1 102 Processing|");
    l = (struct letter){.text = "!ello again"};
    begin(h, &s, "/echo", piecewise, &l.a);
    turn_until(h, &l.a.done, 1);
    ck_assert_int_eq(l.a.error.code, ERR_DRAINED);
    http_destroy(h);
    fakehttp_stop(&s);
}
END_TEST

static bool is_readable(int fd, int wait_ms)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, wait_ms) == 1;
}

/* As a loop does that has other work: it is told when there is news, and waits for nothing else. */
START_TEST(a_watched_client_wakes_whoever_watches_it)
{
    const struct http_conf conf = {.watched = true, .peer_ms = 2000};
    struct fakehttp s;
    struct answers a = {0}, silent = {0};
    struct http *h = NULL;
    struct err e;
    fakehttp_start(&s, handle, &s);
    ck_assert_int_eq(http_create(&conf, &h, &e), 0);
    ck_assert(!is_readable(http_fd(h), 0));
    begin(h, &s, "/silent", (struct http_request){0}, &silent);
    begin(h, &s, "/rain", (struct http_request){.data_fn = data}, &a);
    int turns = 0;
    for (; !a.done; turns++) {
        ck_assert_int_eq(http_turn(h, NULL, 0, 0, &e), 0);
        ck_assert(a.done || is_readable(http_fd(h), 5000));
    }
    ck_assert_int_gt(turns, 10);
    ck_assert_uint_eq(strlen(a.data), 500);
    ck_assert_int_eq(http_turn(h, NULL, 0, 0, &e), 0);
    ck_assert(!is_readable(http_fd(h), 0)); /* the silent one wakes nobody */
    http_destroy(h);
    ck_assert_int_eq(silent.done, 1);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(what_is_cancelled_is_heard_of_no_more)
{
    struct fakehttp s;
    struct answers drips = {0}, waits = {0}, a = {0};
    struct err e;
    fakehttp_start(&s, handle, &s);
    struct http *h = client(1);
    begin(h, &s, "/drip", (struct http_request){.data_fn = data}, &drips);
    begin(h, &s, "/echo", (struct http_request){0}, &waits);
    while (!*drips.data)
        ck_assert_int_eq(http_turn(h, NULL, 0, 100, &e), 0);
    http_cancel(h, &drips);
    http_cancel(h, &waits);
    ck_assert_int_eq(http_in_flight(h), 0);
    begin(h, &s, "/echo", (struct http_request){0}, &a);
    turn_until(h, &a.done, 1);
    ck_assert_int_eq(a.status, 200);
    http_destroy(h);
    ck_assert_int_eq(drips.done + waits.done, 0);
    fakehttp_stop(&s);
}
END_TEST

START_TEST(once_blocks_for_one_answer)
{
    struct fakehttp s;
    buf_auto struct buf out;
    struct err e = {0};
    char url[128];
    buf_init(&out, 4096);
    fakehttp_start(&s, handle, &s);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/echo", s.port);
    const struct http_conf conf = {0};
    const struct http_request r = {.method = "GET", .url = url, .timeout_ms = 5000};
    ck_assert_int_eq(http_once(&conf, &r, &out, &e), 200);
    ck_assert_str_eq(out.data, "GET /echo [] [] ");
    fakehttp_stop(&s);
    ck_assert_int_eq(http_once(&conf, &r, &out, &e), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "127.0.0.1"));
}
END_TEST

UNIT_MAIN("http", a_request_carries_all_it_was_given, many_are_in_flight_but_no_more_than_allowed,
    streams_arrive_in_pieces_and_can_be_stopped, deadlines_end_what_is_silent, failures_say_why,
    a_body_and_a_head_may_be_passed_in_pieces, destroy_answers_what_is_in_flight,
    callbacks_may_start_requests_and_extra_descriptors_wake,
    what_comes_in_quick_succession_is_looked_at_together, a_watched_client_wakes_whoever_watches_it,
    what_is_cancelled_is_heard_of_no_more, once_blocks_for_one_answer)
