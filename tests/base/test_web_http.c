/*
 * web_http: goal: the HTTP door of base/web serves what is right in turn, and no stranger stops it.
 * The kinds of fault: a request behind another that ends the loop or is lost; memory, slots or time
 * without bound for who has shown no credential; a loop that spins. Method: server and clients live
 * in this process (tests/base/web_client.h); time that must pass is a fake clock's.
 */
#include "tests/base/web_client.h"

#include "tests/unit.h"
#include "tests/web_listen.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES (7 << 20) /* more than the buffers between two sockets */

static struct web_exchange *held; /* the exchange that /later and /stream keep */
static int gone;

static void on_gone(void *user)
{
    (void)user;
    held = NULL;
    gone++;
}

static void on_request(void *user, struct web_exchange *x)
{
    ck_assert_ptr_eq(user, &port);
    size_t len;
    const char *body = web_body(x, &len);
    if (!strcmp(web_path(x), "/echo")) {
        char text[512];
        const char *token = web_header(x, "x-llmjob-token"), *auth = web_header(x, "authorization");
        int n = snprintf(text, sizeof text, "%s|%s|%s|%zu|%.20s", web_method(x),
            token ? token : "-", auth ? auth : "-", len, body);
        const char *headers[] = {"Retry-After: 3", NULL};
        web_answer(x, 200, "text/plain", text, (size_t)n, headers);
    } else if (!strcmp(web_path(x), "/big") || !strcmp(web_path(x), "/huge")) {
        size_t n = web_path(x)[1] == 'b' ? 3 << 20 : HUGE_BYTES;
        char *big = mem_alloc(n);
        memset(big, 'b', n);
        web_answer(x, 200, "text/plain", big, n, NULL);
        mem_free(big);
    } else if (!strcmp(web_path(x), "/last")) {
        web_last(x);
        web_answer(x, 200, "text/plain", "bye\n", 4, NULL);
    } else if (!strcmp(web_path(x), "/later") || !strcmp(web_path(x), "/stream")) {
        held = x;
        web_set_user(x, NULL, on_gone);
        if (web_path(x)[1] == 's')
            web_stream_begin(x, 200, "text/event-stream");
    } else {
        web_answer(x, 404, "text/plain", "no\n", 3, NULL);
    }
}

static void setup(void)
{
    struct web_conf conf = {.body_limit = 512 << 10, .max_connections = 8};
    held = NULL;
    gone = 0;
    ck_assert_int_eq(web_create(&conf, &w, &e), 0);
    ck_assert_msg(web_listen(w, "127.0.0.1", 0, on_request, &port, &port, &e) == 0, "%s", e.text);
}

static void teardown(void)
{
    clock_set_real();
    web_destroy(w);
}

START_TEST(answers_and_keeps_the_connection)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "GET /ec%68o?a=1&b=2 HTTP/1.1\r\nHost: x\r\nX-Llmjob-Token: s3\r\n\r\n");
    until(&c, has(&c, "GET|s3|-|0|"));
    ck_assert(has(&c, "HTTP/1.1 200"));
    ck_assert(has(&c, "etry-"));
    buf_reset(&c.in);
    client_write(&c,
        "POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
        "Content-Length: 10\r\n\r\n01234");
    for (int i = 0; i < 5; i++)
        turn(&c);
    ck_assert_uint_eq(c.in.len, 0);
    client_write(&c, "56789");
    until(&c, has(&c, "POST|-|Bearer t|10|0123456789"));
    buf_reset(&c.in);
    client_write(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    until(&c, has(&c, "POST|-|-|0|"));
    buf_reset(&c.in);
    client_write(&c, "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    until(&c, has(&c, "HTTP/1.1 404") && has(&c, "no\n"));
    client_close(&c);
}
END_TEST

/* Said before the answer it is told; said while a stream goes on its end is the connection's. */
START_TEST(an_answer_may_be_the_last)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "GET /last HTTP/1.1\r\nHost: x\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    until(&c, c.closed);
    ck_assert(has(&c, "Connection: close\r\n") && has(&c, "bye\n") && !has(&c, "GET|"));
    client_close(&c);
    client_open(&c);
    client_write(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    until(&c, held);
    web_last(held);
    ck_assert_int_eq(web_stream_data(held, "more", 4), 0);
    until(&c, has(&c, "more"));
    ck_assert(!c.closed);
    web_stream_end(held);
    until(&c, c.closed);
    ck_assert(has(&c, "\r\n0\r\n\r\n"));
    client_close(&c);
}
END_TEST

#define POST_X(body, n) "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " #n "\r\n\r\n" body
#define GET_X           "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"

/* More than one request in one write: answered in turn, none lost, the loop goes on. */
START_TEST(requests_behind_each_other_are_answered_in_turn)
{
    static const struct {
        const char *text;
        int answers, bad;
        const char *last;
    } table[] = {
        {POST_X("hello", 5) POST_X("again", 5), 2, 0, "|5|again"},
        {GET_X GET_X, 2, 0, "GET|-|-|0|"},
        {GET_X POST_X("hello", 5), 2, 0, "|5|hello"},
        {POST_X("hello", 5) GET_X, 2, 0, "GET|-|-|0|"},
        {POST_X("hello", 5) "\r\n", 1, 0, "|5|hello"},
        {POST_X("hello", 5) "\r\n" GET_X, 2, 0, "GET|-|-|0|"},
        {POST_X("hello", 4) POST_X("again", 5), 2, 1, "501"}, /* one byte too many */
        {"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" POST_X("x", 1), 2, 0,
            "|1|x"},
        {GET_X GET_X GET_X GET_X GET_X "GET /echo HTTP/1.0\r\n\r\n" GET_X, 6, 0,
            "Connection: close"},
        {POST_X("a", 1) "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                        "\r\n1\r\nb\r\n0\r\n\r\n" POST_X("c", 1),
            3, 0, "|1|c"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (size_t piece = 1; piece < 1000; piece += 998) {
            struct web_client c;
            client_open(&c);
            for (const char *p = table[i].text; piece == 1 && *p; p++) {
                ck_assert_int_eq((int)send(c.fd, p, 1, MSG_NOSIGNAL), 1);
                turn(&c);
            }
            if (piece > 1)
                client_write(&c, table[i].text);
            until(&c, count(&c, "HTTP/1.1 ") == table[i].answers && has(&c, table[i].last));
            ck_assert_int_eq(count(&c, "HTTP/1.1 501"), table[i].bad);
            client_close(&c);
        }
    struct web_client c; /* and it serves on, waiting in between */
    client_open(&c);
    client_write(&c, GET_X);
    until(&c, has(&c, "GET|"));
    clock_t before = clock();
    for (int i = 0; i < 20; i++)
        turn(&c);
    ck_assert_int_lt((clock() - before) * 1000 / CLOCKS_PER_SEC, 50); /* of 100 ms */
    client_close(&c);
}
END_TEST

/* Requests behind one that is answered later wait for it. */
START_TEST(a_later_answer_keeps_the_order)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx" GET_X);
    until(&c, held);
    for (int i = 0; i < 10; i++)
        turn(&c);
    ck_assert_uint_eq(c.in.len, 0);
    web_answer(held, 200, "text/plain", "first", 5, NULL);
    until(&c, has(&c, "GET|"));
    ck_assert(strstr(c.in.data, "first") < strstr(c.in.data, "GET|"));
    client_close(&c);
}
END_TEST

START_TEST(a_client_that_sends_no_more_is_answered)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, POST_X("hello", 5) GET_X);
    shutdown(c.fd, SHUT_WR);
    until(&c, c.closed);
    ck_assert_int_eq(count(&c, "HTTP/1.1 200"), 2);
    client_close(&c);
}
END_TEST

START_TEST(refuses_and_closes)
{
    static const struct {
        const char *request, *status;
    } table[] = {
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", "413"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
         "Expect: 100-continue\r\n\r\n",
            "413"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", NULL},
        {"POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", "411"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 12z\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n",
            "400"},
        {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", "400"},
        {"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
        {"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "501"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
        {"\x16\x03\x01 hello", "400"},
        {"GET /echo HTTP/1.1\r\n\r\n", "400"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct web_client c;
        char line[32];
        client_open(&c);
        client_write(&c, table[i].request);
        if (!table[i].status) { /* a chunk beyond the limit: refused once it is there */
            static char half[300 << 10];
            memset(half, 'x', sizeof half - 1);
            client_write(&c, half);
            for (int k = 0; k < 5; k++)
                turn(&c);
            client_write(&c, half);
        }
        snprintf(line, sizeof line, "HTTP/1.1 %s ", table[i].status ? table[i].status : "413");
        until(&c, has(&c, line) && c.closed);
        ck_assert(has(&c, "Connection: close"));
        ck_assert_int_eq(count(&c, "HTTP/1.1 "), 1);
        client_close(&c);
    }
}
END_TEST

START_TEST(takes_chunked_bodies_and_says_continue)
{
    struct web_client c;
    client_open(&c);
    client_write(&c,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Expect: 100-continue\r\n\r\n");
    until(&c, has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
    client_write(&c, "5;x=y\r\nhello\r\n");
    for (int i = 0; i < 5; i++)
        turn(&c);
    client_write(&c, "6\r\n again\r\n0\r\nSum: 1\r\n\r\n");
    until(&c, has(&c, "POST|-|-|11|hello again"));
    client_write(&c, GET_X);
    until(&c, has(&c, "GET|"));
    client_close(&c);
}
END_TEST

START_TEST(head_has_no_body_and_old_clients_no_chunks)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n" GET_X);
    until(&c, has(&c, "GET|"));
    ck_assert_int_eq(count(&c, "HTTP/1.1 200"), 2);
    ck_assert_int_eq(count(&c, "Content-Length: 10"), 2);
    ck_assert_int_eq(count(&c, "GET|"), 1);
    client_close(&c);
    client_open(&c);
    client_write(&c, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    until(&c, has(&c, "GET|"));
    ck_assert(has(&c, "Connection: keep-alive"));
    buf_reset(&c.in);
    client_write(&c, "POST /stream HTTP/1.0\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    web_stream_data(held, "data", 4);
    web_stream_end(held);
    until(&c, c.closed);
    ck_assert(has(&c, "\r\n\r\ndata") && !has(&c, "hunked"));
    client_close(&c);
}
END_TEST

/* -- strangers -- */

static int asked; /* how often admit ran */

static bool admit(void *user, struct web_exchange *x)
{
    const char *auth = web_header(x, "authorization");
    ck_assert_ptr_eq(user, &port);
    asked++;
    size_t len;
    web_body(x, &len);
    ck_assert_uint_eq(len, 0);
    if (auth && !strcmp(auth, "Bearer key"))
        return true;
    web_answer(x, 401, "text/plain", "who?\n", 5, NULL);
    return false;
}

static void open_door(const struct web_door *door)
{
    struct web_door d = *door;
    d.host = "127.0.0.1";
    d.request_fn = on_request;
    d.user = &port;
    ck_assert_msg(web_open(w, &d, &port, &e) == 0, "%s", e.text);
}

START_TEST(credentials_are_asked_for_before_the_body)
{
    struct web_client c;
    open_door(&(struct web_door){.admit_fn = admit});
    client_open(&c);
    client_write(&c,
        "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n"
        "Expect: 100-continue\r\n\r\n");
    until(&c, has(&c, "HTTP/1.1 401") && c.closed);
    ck_assert(has(&c, "Connection: close") && !has(&c, " 100 "));
    client_close(&c);
    client_open(&c);
    client_write(&c, GET_X); /* no body: the connection may stay */
    until(&c, has(&c, "who?"));
    client_write(&c,
        "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        "Authorization: Bearer key\r\n\r\n{}");
    until(&c, has(&c, "|2|{}"));
    ck_assert_int_eq(asked, 3);
    client_close(&c);
}
END_TEST

START_TEST(bodies_share_the_doors_memory)
{
    enum { CLIENTS = 8, HALF = 200 << 10 };
    static char half[HALF + 1];
    struct web_client c[CLIENTS];
    int full = 0;
    memset(half, 'x', HALF);
    open_door(&(struct web_door){.memory = 1 << 20});
    for (int i = 0; i < CLIENTS; i++) { /* unfinished all */
        client_open(&c[i]);
        client_write(&c[i], "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 409600\r\n\r\n");
    }
    for (int i = 0; i < CLIENTS; i++) {
        client_write(&c[i], half);
        for (int k = 0; k < 20; k++)
            turn(&c[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        full += has(&c[i], "HTTP/1.1 503") && has(&c[i], "Retry-After: 1");
        ck_assert(c[i].in.len == 0 || has(&c[i], "HTTP/1.1 503"));
    }
    ck_assert_int_ge(full, CLIENTS - 5); /* 5 times 200 KiB are a MiB */
    ck_assert_int_lt(full, CLIENTS);     /* those that fitted are not harmed */
    for (int i = 0; i < CLIENTS; i++)
        client_close(&c[i]);
    client_open(&c[0]); /* and what they held is free again */
    for (int k = 0; k < 20; k++)
        turn(&c[0]);
    client_write(&c[0], "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 204800\r\n\r\n");
    client_write(&c[0], half);
    until(&c[0], has(&c[0], "|204800|"));
    client_close(&c[0]);
}
END_TEST

/* Silent ones, half requests, idle ones and such that do not read take every slot; a newcomer is
 * served all the same. */
START_TEST(strangers_keep_nobody_out)
{
    static const char *const texts[] = {
        "", "GET / HT", GET_X, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"};
    struct web_client c[8], late, asking; /* _i: 1 when none of them reads */
    open_door(&(struct web_door){.memory = 256 << 20});
    client_open(&asking);
    client_write(&asking, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&asking, held);
    for (int i = 0; i < 8; i++) {
        client_open(&c[i]);
        client_write(&c[i], _i ? texts[3] : texts[i % 4]);
        turn(NULL);
    }
    for (int i = 0; i < 20; i++) {
        client_open(&late);
        client_write(&late, GET_X);
        until(&late, has(&late, "GET|"));
        client_close(&late);
    }
    web_answer(held, 200, "text/plain", "served", 6, NULL); /* who is served is not put out */
    until(&asking, has(&asking, "served"));
    client_close(&asking);
    for (int i = 0; i < 8; i++)
        client_close(&c[i]);
}
END_TEST

/* One door taken to the last slot by requests in flight says nothing about another. */
START_TEST(doors_have_slots_of_their_own)
{
    struct web_client c[3], probe;
    uint16_t other = port;
    open_door(&(struct web_door){.slots = 2});
    for (int i = 0; i < 3; i++) {
        client_open(&c[i]);
        client_write(&c[i], "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        for (int k = 0; k < 5; k++)
            turn(&c[i]);
    }
    ck_assert(!c[0].closed && !c[1].closed && c[2].closed);
    port = other;
    client_open(&probe);
    client_write(&probe, GET_X);
    until(&probe, has(&probe, "GET|"));
    client_close(&probe);
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
}
END_TEST

/* -- time -- */

static int64_t now_ms;

static void pass(struct web_client *c, int64_t ms)
{
    now_ms += ms;
    clock_set_fake(now_ms, 0);
    for (int i = 0; i < 5; i++)
        turn(c);
}

/* Deadlines are absolute: a byte now and then moves none of them. */
START_TEST(slow_clients_are_given_up)
{
    struct web_client c;
    now_ms = clock_ms();
    /* a head */
    client_open(&c);
    client_write(&c, "GET /echo HTTP/1.1\r\nHost: x\r\nA: ");
    pass(&c, 0);
    for (int64_t t = 0; t < WEB_HEAD_MS - 2000; t += 1000) {
        pass(&c, 1000);
        client_write(&c, "a");
    }
    ck_assert(!c.closed && !c.in.len);
    pass(&c, 3000);
    until(&c, has(&c, "HTTP/1.1 408") && c.closed);
    client_close(&c);
    /* nothing at all */
    client_open(&c);
    pass(&c, 0);
    pass(&c, WEB_HEAD_MS - 1000);
    ck_assert(!c.closed);
    pass(&c, 2000);
    until(&c, c.closed && !c.in.len);
    client_close(&c);
    /* a body */
    client_open(&c);
    client_write(&c, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    pass(&c, 0);
    for (int64_t t = 0; t < WEB_BODY_MS - 2000; t += 1000) {
        pass(&c, 1000);
        client_write(&c, "a");
    }
    ck_assert(!c.closed && !c.in.len);
    pass(&c, 3000);
    until(&c, has(&c, "HTTP/1.1 408") && c.closed);
    client_close(&c);
    /* between requests */
    client_open(&c);
    client_write(&c, GET_X);
    until(&c, has(&c, "GET|"));
    pass(&c, WEB_IDLE_MS - 1000);
    ck_assert(!c.closed);
    pass(&c, 2000);
    until(&c, c.closed);
    client_close(&c);
}
END_TEST

/* A client that does not read its answer, and one that is refused and does not go. */
START_TEST(clients_that_do_not_read_are_given_up)
{
    struct web_client c;
    now_ms = clock_ms();
    client_open(&c);
    ck_assert_int_eq(setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)), 0);
    client_write(&c, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    pass(NULL, 0);
    pass(NULL, WEB_WRITE_MS - 1000);
    pass(NULL, 2000);
    until(&c, c.closed);
    ck_assert_uint_lt(c.in.len, HUGE_BYTES);
    client_close(&c);
    client_open(&c);
    client_write(&c, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n");
    until(&c, has(&c, "HTTP/1.1 501"));
    pass(&c, 5000);
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) { /* its socket is gone: a reset comes back */
        rc = io_send_full(c.fd, "more", 4, clock_ms() + 1000, &e);
        pass(NULL, 0);
    }
    ck_assert_int_lt(rc, 0);
    client_close(&c);
}
END_TEST

/* A handler may think as long as it likes. */
START_TEST(thinking_has_no_deadline)
{
    struct web_client c;
    now_ms = clock_ms();
    client_open(&c);
    client_write(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    pass(&c, 3600000);
    ck_assert_int_eq(gone, 0);
    web_answer(held, 200, "text/plain", "thought", 7, NULL);
    until(&c, has(&c, "thought"));
    client_close(&c);
}
END_TEST

/* No descriptor is left: the client waits in the queue, and the loop does not spin over it. */
START_TEST(want_of_descriptors_is_waited_out)
{
    struct rlimit was, none;
    struct web_client c;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    client_open(&c);
    client_write(&c, GET_X);
    none = was;
    int lowest = dup(0);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int64_t until_ms = clock_ms() + 400;
    int turns = 0;
    for (; clock_ms() < until_ms; turns++)
        ck_assert_int_eq(web_turn(w, 50, &e), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert_int_le(turns, 40); /* 8 without the client; some thousand for a spinning loop */
    ck_assert(!c.in.len);
    until(&c, has(&c, "GET|"));
    client_close(&c);
}
END_TEST

START_TEST(sends_large_answers_whole)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    until(&c, c.in.len > (3 << 20));
    const char *body = strstr(buf_cstr(&c.in), "\r\n\r\n");
    ck_assert_ptr_nonnull(body);
    until(&c, c.in.len == (size_t)(body + 4 - c.in.data) + (3 << 20));
    client_close(&c);
}
END_TEST

START_TEST(streams_in_chunks)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    ck_assert_int_eq(web_stream_data(held, "one", 3), 0);
    until(&c, has(&c, "3\r\none\r\n"));
    ck_assert(has(&c, "hunked"));
    ck_assert_int_eq(web_stream_data(held, "four", 4), 0);
    web_stream_end(held);
    until(&c, has(&c, "4\r\nfour\r\n0\r\n\r\n"));
    ck_assert_int_eq(gone, 0);
    buf_reset(&c.in); /* the connection serves on */
    client_write(&c, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    until(&c, has(&c, "GET|"));
    client_close(&c);
}
END_TEST

START_TEST(a_stream_is_bounded)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    static char piece[65536];
    int rc = 0, n = 0;
    for (; rc == 0 && n < 100; n++)
        rc = web_stream_data(held, piece, sizeof piece);
    ck_assert_int_eq(rc, -ERR_MEMORY);
    ck_assert_int_eq(n, 17);
    client_close(&c);
}
END_TEST

/* _i: 0 while an answer is awaited, 1 while streaming */
START_TEST(tells_when_the_client_goes)
{
    struct web_client c;
    client_open(&c);
    client_write(&c,
        _i ? "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
           : "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    if (_i) {
        web_stream_data(held, "tok", 3);
        until(&c, has(&c, "tok"));
    }
    client_close(&c);
    until(NULL, gone == 1);
}
END_TEST

START_TEST(answers_later)
{
    struct web_client c;
    client_open(&c);
    client_write(&c, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    until(&c, held);
    web_answer(held, 503, "application/json", "{}", 2, NULL);
    until(&c, has(&c, "HTTP/1.1 503") && has(&c, "{}"));
    client_close(&c);
    for (int i = 0; i < 10; i++)
        turn(NULL);
    ck_assert_int_eq(gone, 0);
}
END_TEST

START_TEST(bounds_connections)
{
    struct web_client c[12];
    int closed = 0;
    for (int i = 0; i < 12; i++)
        client_open(&c[i]);
    for (int i = 0; i < 50 && closed < 4; i++) { /* all are closed in the end: they say nothing */
        closed = 0;
        for (int k = 0; k < 12; k++) {
            turn(&c[k]);
            closed += c[k].closed;
        }
    }
    for (int i = 0; i < 12; i++)
        client_close(&c[i]);
    ck_assert_int_ge(closed, 4);
    ck_assert_int_lt(closed, 12);
}
END_TEST

/* -- upgrades -- */

static int upgraded;

static void ws_open(void *user, struct web_socket *s)
{
    (void)user;
    (void)s;
    upgraded++;
}

static void ws_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    (void)user;
    web_send(s, text, len);
}

static void ws_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    (void)why;
    upgraded--;
}

static const struct web_socket_fns ws_fns = {ws_open, ws_message, ws_closed};

#define WS(path, version, key, more) \
    "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n" \
    "Upgrade: websocket\r\nSec-WebSocket-Version: " version "\r\n" \
    "Sec-WebSocket-Key: " key "\r\n" more "\r\n"
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

/* The upgrade is judged by its head alone, on a fresh connection and on a used one. */
START_TEST(upgrades_are_strict)
{
    static const struct {
        const char *text, *status;
    } table[] = {
        {WS("/ws", "13", KEY, ""), "101"},
        {WS("/else", "13", KEY, ""), "404"},
        {WS("/ws", "8", KEY, ""), "426"},
        {WS("/ws", "13", "short==", ""), "400"},
        {WS("/ws", "13", "dGhlIHNhbXBsZSBub25jZ\tQ=", ""), "400"},
        {WS("/ws", "13", KEY, "Content-Length: 1\r\n") "x", "400"},
        {WS("/ws", "13", KEY, "") "\x81\x85????hello", "400"},
        /* not WebSocket, or no upgrade: an ordinary request */
        {"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            "200"},
        {"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "200"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Content-Length: 0\r\n\r\n",
            "200"},
    };
    ck_assert_int_eq(web_accept_sockets(w, "/ws", &ws_fns, NULL, &e), 0);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (int used = 0; used < 2; used++) {
            struct web_client c;
            char line[16];
            client_open(&c);
            if (used) {
                client_write(&c, GET_X);
                until(&c, has(&c, "GET|"));
                buf_reset(&c.in);
            }
            client_write(&c, table[i].text);
            snprintf(line, sizeof line, "HTTP/1.1 %s ", table[i].status);
            until(&c, has(&c, line));
            if (table[i].status[0] == '1') {
                until(&c, upgraded == 1);
                client_write(&c, "\x81\x85????WZSSP"); /* "hello", masked */
                until(&c, has(&c, "\x81\x05hello"));
            } else {
                ck_assert_int_eq(upgraded, 0);
            }
            client_close(&c);
            until(NULL, upgraded == 0);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("web_http");
    TCase *http = tcase_create("http");
    tcase_add_checked_fixture(http, setup, teardown);
    tcase_add_test(http, answers_and_keeps_the_connection);
    tcase_add_test(http, an_answer_may_be_the_last);
    tcase_add_test(http, requests_behind_each_other_are_answered_in_turn);
    tcase_add_test(http, a_later_answer_keeps_the_order);
    tcase_add_test(http, a_client_that_sends_no_more_is_answered);
    tcase_add_test(http, refuses_and_closes);
    tcase_add_test(http, takes_chunked_bodies_and_says_continue);
    tcase_add_test(http, head_has_no_body_and_old_clients_no_chunks);
    tcase_add_test(http, credentials_are_asked_for_before_the_body);
    tcase_add_test(http, bodies_share_the_doors_memory);
    tcase_add_loop_test(http, strangers_keep_nobody_out, 0, 2);
    tcase_add_test(http, doors_have_slots_of_their_own);
    tcase_add_test(http, slow_clients_are_given_up);
    tcase_add_test(http, clients_that_do_not_read_are_given_up);
    tcase_add_test(http, thinking_has_no_deadline);
    tcase_add_test(http, want_of_descriptors_is_waited_out);
    tcase_add_test(http, sends_large_answers_whole);
    tcase_add_test(http, streams_in_chunks);
    tcase_add_test(http, a_stream_is_bounded);
    tcase_add_loop_test(http, tells_when_the_client_goes, 0, 2);
    tcase_add_test(http, answers_later);
    tcase_add_test(http, bounds_connections);
    tcase_add_test(http, upgrades_are_strict);
    tcase_set_timeout(http, 40);
    suite_add_tcase(suite, http);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
