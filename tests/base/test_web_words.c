/*
 * web_http: goal: what a client may hear before an answer: that its body is wanted, with a line of
 * the door's own, and now and then that an answer is to come; and what a door is told of who asks.
 * Method: server and client live in this process (tests/base/web_client.h); time is a fake clock's.
 */
#include "tests/base/web_client.h"
#include "tests/unit.h"

static struct web_exchange *held;

static void later(int64_t ms)
{
    clock_set_fake(clock_ms() + ms, 0);
}

static uint64_t ids[2];

static bool greet(void *user, struct web_exchange *x)
{
    (void)user;
    ids[0] = ids[1];
    ids[1] = web_id(x);
    ck_assert(web_reached(x, "127.0.0.1", port));
    ck_assert(!web_reached(x, "127.0.0.1", (uint16_t)(port + 1)) && !web_reached(x, "::1", port) &&
        !web_reached(x, "localhost", port));
    ck_assert_int_eq(web_noted(x), 0);
    web_note(x, (int64_t)ids[1] + 1);
    web_continue(x, "X-Here: yes");
    return true;
}

static void take(void *user, struct web_exchange *x)
{
    (void)user;
    held = x;
    ck_assert_int_eq(web_noted(x), (int64_t)ids[1] + 1);
    web_body_drop(x, 2);
    web_pulse(x, 1000);
}

/* What a client hears before there is an answer: that its body is read, and that one is to come. */
START_TEST(words_come_before_an_answer)
{
    struct web_client c;
    size_t len;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(
        web_open(w, &(struct web_door){.host = "127.0.0.1", .admit_fn = greet, .request_fn = take},
            &port, &e),
        0);
    client_open(&c);
    for (int i = 0; i < 2; i++) {
        client_write(
            &c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        until(&c, has(&c, "HTTP/1.1 100 Continue\r\nX-Here: yes\r\n\r\n"));
        held = NULL;
        client_write(&c, "hello");
        until(&c, held);
        ck_assert_str_eq(web_body(held, &len), "llo");
        ck_assert_uint_eq(len, 3);
        ck_assert(!has(&c, " 102 "));
        later(1000);
        until(&c, count(&c, "HTTP/1.1 102 Processing\r\n\r\n") == 1);
        later(1000);
        until(&c, count(&c, "HTTP/1.1 102 Processing\r\n\r\n") == 2);
        web_stream_begin(held, 200, "text/plain"); /* from now on nothing but that */
        until(&c, has(&c, "HTTP/1.1 200 OK\r\n"));
        later(1000);
        web_stream_data(held, "data", 4);
        web_stream_end(held);
        until(&c, has(&c, "data\r\n0\r\n\r\n"));
        ck_assert_int_eq(count(&c, " 102 "), 2);
        buf_reset(&c.in);
    }
    ck_assert_uint_ne(ids[0], ids[1]);
    client_close(&c);
    clock_set_real();
    web_destroy(w);
}
END_TEST

UNIT_MAIN("web_words", words_come_before_an_answer)
