/*
 * Goal: whatever bytes come in at the HTTP door of base/web, the server neither crashes nor hangs:
 * a connection ends within a bounded number of turns once its peer has gone, and everything that it
 * held is given back. Method: a socket pair into the real server with a small handler and a path
 * for WebSockets. The first byte of an input says in which pieces the rest is written, the second
 * how the peer behaves (whether it shuts down before it goes, whether it reads) and which
 * allocation and which system call fail meanwhile.
 */
#include "base/io.h"
#include "base/mem.h"
#include "base/web_internal.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURNS      2000
#define BODY_BYTES 4096
#define HELD       4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static struct web *w;
static struct listener *door;
static struct web_exchange *held[HELD]; /* answered a turn later */
static int sockets;                     /* open ones */

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void on_gone(void *user)
{
    *(struct web_exchange **)user = NULL;
}

static void keep(struct web_exchange *x)
{
    for (int i = 0; i < HELD; i++)
        if (!held[i]) {
            held[i] = x;
            web_set_user(x, &held[i], on_gone);
            return;
        }
    web_answer(x, 429, "text/plain", "", 0, NULL);
}

static void on_request(void *user, struct web_exchange *x)
{
    static char big[100000];
    size_t len;
    const char *body = web_body(x, &len), *path = web_path(x);
    (void)user;
    must(len <= BODY_BYTES && strlen(path) < REQUEST_HEAD_BYTES);
    if (!strcmp(path, "/big"))
        web_answer(x, 200, "text/plain", big, sizeof big, NULL);
    else if (!strcmp(path, "/later"))
        keep(x);
    else if (!strcmp(path, "/stream")) {
        web_stream_begin(x, 200, "text/event-stream");
        keep(x);
    } else
        web_answer(x, 200, "text/plain", body, len, NULL);
}

static bool on_head(void *user, struct web_exchange *x)
{
    (void)user;
    const char *origin = web_header(x, "origin");
    if (!origin || strcmp(origin, "nobody") != 0)
        return true;
    web_answer(x, 401, "text/plain", "who?", 4, NULL);
    return false;
}

static void ws_open(void *user, struct web_socket *s)
{
    (void)user;
    sockets++;
    web_send(s, "hello", 5);
}

static void ws_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    (void)user;
    if (len && text[0] == 'c')
        web_close(s);
    web_send(s, text, len);
}

static void ws_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    must(why && *why);
    sockets--;
}

static const struct web_socket_fns fns = {ws_open, ws_message, ws_closed};

static void start(void)
{
    const struct web_conf conf = {.body_limit = BODY_BYTES, .max_connections = 8};
    const struct web_door d = {
        .host = "127.0.0.1", .request_fn = on_request, .admit_fn = on_head, .memory = 1 << 20};
    must(!web_create(&conf, &w, NULL));
    must(!web_open(w, &d, NULL, NULL));
    door = (struct listener *)w->watches;
    must(!web_accept_sockets(w, "/ws", &fns, NULL, NULL));
}

static void turn(int peer, bool reads)
{
    static char sink[65536];
    must(!web_turn(w, 0, NULL));
    for (int i = 0; i < HELD; i++) {
        struct web_exchange *x = held[i];
        held[i] = NULL;
        if (x && !strcmp(web_path(x), "/later")) {
            web_answer(x, 200, "text/plain", "late", 4, NULL);
        } else if (x) {
            web_stream_data(x, "event", 5);
            web_stream_end(x);
        }
    }
    while (reads && recv(peer, sink, sizeof sink, 0) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned runs;
    int pair[2];
    if (!w)
        start();
    if (size < 2)
        return 0;
    size_t piece = data[0] ? data[0] : SIZE_MAX;
    bool shuts = data[1] & 1, reads = !(data[1] & 2);
    must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    fault_arm(&mem_faults, data[1] >> 2 & 7); /* 0: none */
    fault_arm(&io_faults, data[1] >> 5);
    web_http_adopt(door, pair[0]);
    for (size_t at = 2, turns = 0; at < size && turns < 300; turns++) {
        size_t n = size - at < piece ? size - at : piece;
        ssize_t sent = send(pair[1], data + at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            break;
        at += sent > 0 ? (size_t)sent : 0;
        turn(pair[1], reads);
    }
    for (int i = 0; i < 20; i++)
        turn(pair[1], reads);
    if (shuts)
        shutdown(pair[1], SHUT_WR);
    for (int i = 0; shuts && i < 10; i++)
        turn(pair[1], reads);
    close(pair[1]);
    for (int i = 0; i < TURNS && door->connections; i++)
        turn(-1, false);
    fault_arm(&mem_faults, 0);
    fault_arm(&io_faults, 0);
    must(!door->connections && !door->held && !sockets && !w->any_dead);
    must(w->watches == &door->watch && !door->watch.next);
    if (++runs % 8192 == 0 && __lsan_do_recoverable_leak_check)
        must(!__lsan_do_recoverable_leak_check());
    return 0;
}
