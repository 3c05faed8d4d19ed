/*
 * web: goal: the promises of base/web.h hold on real sockets. Method: server and clients live in
 * this process; plain clients are non-blocking sockets pumped between turns of the loop, so every
 * exchange is driven to its end without threads or sleeps and a promise that is not kept shows as a
 * time-out.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/web.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 10000

static struct web *w;
static uint16_t port;
static struct err e;

struct client {
	int fd;
	bool closed;
	struct buf in;
};

static void client_open(struct client *c)
{
	*c = (struct client){.fd = io_connect("127.0.0.1", port, clock_ms() + DEADLINE_MS, &e)};
	ck_assert_msg(c->fd >= 0, "%s", e.text);
	ck_assert_int_eq(io_set_nonblocking(c->fd, true, &e), 0);
	buf_init(&c->in, 8 << 20);
}

static void client_close(struct client *c)
{
	io_close(c->fd);
	c->fd = -1;
	buf_done(&c->in);
}

static void client_write(struct client *c, const char *text)
{
	ck_assert_int_eq(io_send_full(c->fd, text, strlen(text), clock_ms() + DEADLINE_MS, &e), 0);
}

static void turn(struct client *c)
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
#define until_within(ms, c, condition)                                                             \
	do {                                                                                       \
		int64_t end_ms = clock_ms() + (ms);                                                \
		while (!(condition)) {                                                             \
			ck_assert_msg(clock_ms() < end_ms, "timed out: %s", #condition);           \
			turn(c);                                                                   \
		}                                                                                  \
	} while (0)

static bool has(struct client *c, const char *text)
{
	return strstr(buf_cstr(&c->in), text) != NULL;
}

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
		const char *token = web_header(x, "x-llmjob-token"),
			   *auth = web_header(x, "authorization");
		int n = snprintf(text, sizeof text, "%s|%s|%s|%s|%zu|%.20s", web_method(x),
				 web_query(x), token ? token : "-", auth ? auth : "-", len, body);
		const char *headers[] = {"Retry-After: 3", NULL};
		web_answer(x, 200, "text/plain", text, (size_t)n, headers);
	} else if (!strcmp(web_path(x), "/big")) {
		size_t n = 3 << 20;
		char *big = mem_alloc(n);
		memset(big, 'b', n);
		web_answer(x, 200, "text/plain", big, n, NULL);
		mem_free(big);
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
	ck_assert_msg(web_listen(w, "127.0.0.1", 0, on_request, &port, &port, &e) == 0, "%s",
		      e.text);
}

static void teardown(void)
{
	web_destroy(w);
}

START_TEST(answers_and_keeps_the_connection)
{
	struct client c;
	client_open(&c);
	client_write(&c, "GET /ec%68o?a=1&b=2 HTTP/1.1\r\nHost: x\r\nX-Llmjob-Token: s3\r\n\r\n");
	until(&c, has(&c, "GET|a=1&b=2|s3|-|0|"));
	ck_assert(has(&c, "HTTP/1.1 200"));
	ck_assert(has(&c, "etry-"));
	buf_reset(&c.in);
	client_write(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
			 "Content-Length: 10\r\n\r\n01234");
	for (int i = 0; i < 5; i++)
		turn(&c);
	ck_assert_uint_eq(c.in.len, 0);
	client_write(&c, "56789");
	until(&c, has(&c, "POST||-|Bearer t|10|0123456789"));
	buf_reset(&c.in);
	client_write(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
	until(&c, has(&c, "POST||-|-|0|"));
	buf_reset(&c.in);
	client_write(&c, "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
	until(&c, has(&c, "HTTP/1.1 404") && has(&c, "no\n"));
	client_close(&c);
}
END_TEST

START_TEST(refuses_bodies_without_bound)
{
	static const struct {
		const char *request, *status;
	} table[] = {
		{"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
		 "HTTP/1.1 413"},
		{"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		 "HTTP/1.1 411"},
		{"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 12z\r\n\r\n", "HTTP/1.1 411"},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct client c;
		client_open(&c);
		client_write(&c, table[i].request);
		until(&c, has(&c, table[i].status) && c.closed);
		client_close(&c);
	}
}
END_TEST

START_TEST(sends_large_answers_whole)
{
	struct client c;
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
	struct client c;
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
	until(&c, has(&c, "GET||"));
	client_close(&c);
}
END_TEST

START_TEST(a_stream_is_bounded)
{
	struct client c;
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
	struct client c;
	client_open(&c);
	client_write(&c, _i ? "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
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
	struct client c;
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

START_TEST(a_taken_port_is_an_error)
{
	struct err why = {0};
	ck_assert_int_lt(web_listen(w, "127.0.0.1", port, on_request, &port, NULL, &why), 0);
	ck_assert_int_ne(why.code, ERR_NONE);
}
END_TEST

START_TEST(bounds_connections)
{
	struct client c[12];
	int closed = 0;
	for (int i = 0; i < 12; i++)
		client_open(&c[i]);
	for (int i = 0; i < 50; i++)
		for (int k = 0; k < 12; k++)
			turn(&c[k]);
	for (int i = 0; i < 12; i++) {
		closed += c[i].closed;
		client_close(&c[i]);
	}
	ck_assert_int_ge(closed, 4);
	ck_assert_int_lt(closed, 12);
}
END_TEST

/* ---- WebSocket ---- */

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
	struct client c;
	client_open(&c);
	client_write(
		&c,
		"GET /v1/mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
	until(&c, server.opened == 1);
	int64_t start_ms = clock_ms();
	until_within(45000, &c, server.closed == 1);
	ck_assert_int_ge(clock_ms() - start_ms, 4000);
	client_close(&c);
}
END_TEST

/* ---- descriptors and time ---- */

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

START_TEST(waits_no_longer_than_asked_and_wakes)
{
	for (int i = 0; i < 20; i++) /* start-up work of the library */
		web_turn(w, 0, &e);
	int64_t start_ms = clock_ms();
	ck_assert_int_eq(web_turn(w, 150, &e), 0);
	int64_t took_ms = clock_ms() - start_ms;
	ck_assert_int_le(took_ms, 2000);
	pthread_t t;
	ck_assert_int_eq(pthread_create(&t, NULL, waker, w), 0);
	start_ms = clock_ms();
	for (int i = 0; i < 3; i++)
		web_turn(w, i ? 0 : 20000, &e);
	ck_assert_int_le(clock_ms() - start_ms, 15000);
	pthread_join(t, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("web");
	TCase *http = tcase_create("http");
	tcase_add_checked_fixture(http, setup, teardown);
	tcase_add_test(http, answers_and_keeps_the_connection);
	tcase_add_test(http, refuses_bodies_without_bound);
	tcase_add_test(http, sends_large_answers_whole);
	tcase_add_test(http, streams_in_chunks);
	tcase_add_test(http, a_stream_is_bounded);
	tcase_add_loop_test(http, tells_when_the_client_goes, 0, 2);
	tcase_add_test(http, answers_later);
	tcase_add_test(http, a_taken_port_is_an_error);
	tcase_add_test(http, bounds_connections);
	tcase_add_test(http, watches_descriptors_to_their_end);
	tcase_add_test(http, waits_no_longer_than_asked_and_wakes);
	tcase_set_timeout(http, 30);
	suite_add_tcase(suite, http);
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
