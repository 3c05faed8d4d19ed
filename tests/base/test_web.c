/*
 * web: goal: the promises of base/web.h about WebSockets, descriptors and the loop hold on real
 * sockets. Method: both ends live in this process (tests/base/web_client.h). HTTP is
 * test_web_http's.
 * needs: threads
 */
#include "tests/base/web_client.h"
#include "tests/web_listen.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static void on_request(void *user, struct web_exchange *x)
{
    ck_assert_ptr_eq(user, &port);
    web_answer(x, 404, "text/plain", "no\n", 3, NULL);
}

static void setup(void)
{
    struct web_conf conf = {.body_limit = 512 << 10, .max_connections = 8};
    ck_assert_int_eq(web_create(&conf, &w, &e), 0);
    ck_assert_msg(web_listen(w, "127.0.0.1", 0, on_request, &port, &port, &e) == 0, "%s", e.text);
}

static void teardown(void)
{
    web_destroy(w);
}

START_TEST(a_taken_port_is_an_error)
{
    struct err why = {0};
    ck_assert_int_lt(web_listen(w, "127.0.0.1", port, on_request, &port, NULL, &why), 0);
    ck_assert_int_ne(why.code, ERR_NONE);
}
END_TEST

/* -- WebSocket -- */

struct end {
    struct web_socket *s;
    int opened, closed, messages;
    size_t longest;
    char why[64];
    struct buf last;
};
static struct end server, dialler;

static void end_open(void *user, struct web_socket *s)
{
    struct end *end = user;
    end->s = s;
    end->opened++;
}

static void end_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct end *end = user;
    ck_assert_ptr_eq(end->s, s);
    end->messages++;
    for (size_t i = 0; len > 1000 && i < len; i++)
        ck_assert_int_eq(text[i], 'm');
    if (len > end->longest)
        end->longest = len;
    buf_reset(&end->last);
    buf_add(&end->last, text, len);
}

static void end_closed(void *user, struct web_socket *s, const char *why)
{
    struct end *end = user;
    (void)s;
    end->s = NULL;
    end->closed++;
    snprintf(end->why, sizeof end->why, "%s", why);
}

static const struct web_socket_fns fns = {end_open, end_message, end_closed};

static void sockets_setup(void)
{
    setup();
    memset(&server, 0, sizeof server);
    memset(&dialler, 0, sizeof dialler);
    buf_init(&server.last, 1 << 20);
    buf_init(&dialler.last, 1 << 20);
    ck_assert_int_eq(web_accept_sockets(w, "/v1/mesh", &fns, &server, &e), 0);
}

static void sockets_teardown(void)
{
    web_destroy(w);
    buf_done(&server.last);
    buf_done(&dialler.last);
}

START_TEST(sockets_carry_whole_messages)
{
    struct web_socket *s;
    ck_assert_int_eq(web_dial(w, "127.0.0.1", port, "/v1/mesh", &fns, &dialler, &s, &e), 0);
    until(NULL, dialler.opened && server.opened);
    ck_assert_int_eq(web_send(server.s, "hello", 5), 0);
    until(NULL, dialler.messages == 1);
    ck_assert_str_eq(buf_cstr(&dialler.last), "hello");
    static char big[300000];
    memset(big, 'm', sizeof big);
    ck_assert_int_eq(web_send(s, big, sizeof big), 0);
    ck_assert_int_eq(web_send(s, "end", 3), 0);
    until(NULL, server.messages == 2);
    ck_assert_uint_eq(server.longest, sizeof big);
    ck_assert_str_eq(buf_cstr(&server.last), "end");
    web_send(s, "bye", 3); /* sent before the close */
    web_close(s);
    until(NULL, server.closed && dialler.closed);
    ck_assert_int_eq(server.messages, 3);
    ck_assert_int_eq(server.closed + dialler.closed, 2);
}
END_TEST

START_TEST(sockets_need_the_path)
{
    struct web_socket *s;
    if (web_dial(w, "127.0.0.1", port, "/v1/else", &fns, &dialler, &s, &e) == 0)
        until(NULL, dialler.closed);
    ck_assert_int_eq(dialler.opened, 0);
    ck_assert_int_eq(server.opened, 0);
}
END_TEST

START_TEST(a_dial_to_nobody_fails)
{
    struct web_socket *s;
    uint16_t nobody;
    int fd = io_listen("127.0.0.1", 0, &nobody, &e);
    io_close(fd);
    if (web_dial(w, "127.0.0.1", nobody, "/v1/mesh", &fns, &dialler, &s, &e) == 0)
        until(NULL, dialler.closed == 1);
    ck_assert_int_eq(dialler.opened, 0);
}
END_TEST

START_TEST(a_message_beyond_the_limit_closes)
{
    struct web_socket *s;
    ck_assert_int_eq(web_dial(w, "127.0.0.1", port, "/v1/mesh", &fns, &dialler, &s, &e), 0);
    until(NULL, dialler.opened && server.opened);
    static char big[600000];
    memset(big, 'm', sizeof big);
    ck_assert_int_eq(web_send(s, big, sizeof big), 0);
    until(NULL, server.closed == 1);
    ck_assert_int_eq(server.messages, 0);
    ck_assert_str_eq(server.why, "a message is too large");
}
END_TEST

/* Less may be allowed to one socket, as long as nobody knows who is there. */
START_TEST(a_socket_has_a_limit_of_its_own)
{
    struct web_socket *s;
    ck_assert_int_eq(web_dial(w, "127.0.0.1", port, "/v1/mesh", &fns, &dialler, &s, &e), 0);
    until(NULL, dialler.opened && server.opened);
    static char big[2000];
    memset(big, 'm', sizeof big);
    web_socket_limit(server.s, sizeof big);
    ck_assert_int_eq(web_send(s, big, sizeof big), 0);
    until(NULL, server.messages == 1);
    web_socket_limit(server.s, sizeof big - 1);
    ck_assert_int_eq(web_send(s, big, sizeof big), 0);
    until(NULL, server.closed == 1);
    ck_assert_int_eq(server.messages, 1);
}
END_TEST

START_TEST(a_silent_peer_is_gone)
{
    /* A raw client upgrades by hand and then never answers a ping. */
    struct web_client c;
    client_open(&c);
    client_write(&c,
        "GET /v1/mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    until(&c, server.opened == 1);
    int64_t start_ms = clock_ms();
    until_within(45000, &c, server.closed == 1);
    ck_assert_int_ge(clock_ms() - start_ms, 4000);
    client_close(&c);
}
END_TEST

/* -- descriptors and time -- */

static int reads;

static void on_pipe(void *user, int fd)
{
    (void)user;
    char b[8];
    reads++;
    if (read(fd, b, sizeof b) <= 0) {
        web_unwatch_fd(w, fd);
        reads += 100;
    }
}

START_TEST(watches_descriptors_to_their_end)
{
    int p[2];
    ck_assert_int_eq(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
    reads = 0;
    ck_assert_int_eq(web_watch_fd(w, p[0], on_pipe, NULL, &e), 0);
    ck_assert_int_eq((int)write(p[1], "0123456789abcdefghij", 20), 20);
    close(p[1]); /* data and hang-up together: none of it may be lost */
    until(NULL, reads >= 100);
    ck_assert_int_eq(reads, 104);
    close(p[0]);
}
END_TEST

static void *waker(void *arg)
{
    web_wake(arg);
    return NULL;
}

/* Nothing else happens in this loop: a turn that did not end when asked, or was not woken, would be
   there when the case's time is over. */
START_TEST(waits_no_longer_than_asked_and_wakes)
{
    for (int i = 0; i < 20; i++) /* start-up work of the library */
        web_turn(w, 0, &e);
    ck_assert_int_eq(web_turn(w, 150, &e), 0);
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, waker, w), 0);
    ck_assert_int_eq(web_turn(w, 3600000, &e), 0);
    pthread_join(t, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("web");
    TCase *loop = tcase_create("loop");
    tcase_add_checked_fixture(loop, setup, teardown);
    tcase_add_test(loop, a_taken_port_is_an_error);
    tcase_add_test(loop, watches_descriptors_to_their_end);
    tcase_add_test(loop, waits_no_longer_than_asked_and_wakes);
    tcase_set_timeout(loop, 30);
    suite_add_tcase(suite, loop);
    TCase *sockets = tcase_create("sockets");
    tcase_add_checked_fixture(sockets, sockets_setup, sockets_teardown);
    tcase_add_test(sockets, sockets_carry_whole_messages);
    tcase_add_test(sockets, sockets_need_the_path);
    tcase_add_test(sockets, a_dial_to_nobody_fails);
    tcase_add_test(sockets, a_message_beyond_the_limit_closes);
    tcase_add_test(sockets, a_socket_has_a_limit_of_its_own);
    tcase_add_test(sockets, a_silent_peer_is_gone);
    tcase_set_timeout(sockets, 60);
    suite_add_tcase(suite, sockets);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
