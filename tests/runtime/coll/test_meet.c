/*
 * Goal: only those who know the incarnation's secret take a place in a world, and who else knocks
 * neither breaks nor delays it. Method: ranks that are real processes (ranks.h), strangers of
 * several kinds before them, and one who stands between two ranks.
 */
#include "base/clock.h"
#include "base/io.h"
#include "tests/runtime/coll/ranks.h"

#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A rank with another secret, and a stranger that speaks garbage, take no place in the world. */
START_TEST(test_secret)
{
    struct ranks w = {.size = 2, .replica = {0, 1}, .timeout_ms = 1500};
    ranks_open(&w);
    pid_t honest = fork();
    if (!honest) {
        struct coll *c = NULL;
        struct err e = {0};
        _exit(ranks_create(&w, 0, RANKS_SECRET, &c, &e) ? 0 : 1);
    }
    pid_t forger = fork();
    if (!forger) {
        struct coll *c = NULL;
        struct err e = {0};
        _exit(ranks_create(&w, 1, "wrong", &c, &e) ? 0 : 1);
    }
    struct err e = {0};
    int fd = io_connect("127.0.0.1", w.peers[0].port, clock_ms() + 1000, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_send_full(fd, "GET / HTTP/1.0\r\n\r\n", 18, clock_ms() + 1000, &e), 0);
    int status;
    waitpid(honest, &status, 0);
    ck_assert_int_eq(status, 0);
    waitpid(forger, &status, 0);
    ck_assert_int_eq(status, 0);
    io_close(fd);
}
END_TEST

/* A connection from an address of this machine that need not be 127.0.0.1. */
static int call_from(const char *source, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(inet_pton(AF_INET, source, &a.sin_addr), 1);
    ck_assert_int_eq(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    to.sin_port = htons(port);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Within the 20 s of a world, which is less than strangers that were waited for would take. */
static void expect_world(const struct ranks *w)
{
    pid_t pid[2];
    for (int r = 0; r < 2; r++)
        pid[r] = ranks_start(w, r, ranks_others_body);
    for (int r = 0; r < 2; r++) {
        int status;
        waitpid(pid[r], &status, 0);
        ck_assert_int_eq(status, 0);
    }
}

/* Strangers that connect first and say too little neither break nor delay the world. */
START_TEST(test_stranger)
{
    struct ranks w = {.size = 2, .replica = {0, 1}};
    ranks_open(&w);
    struct err e = {0};
    int fds[12]; /* each would be read for 5 s */
    for (int i = 0; i < 12; i++) {
        fds[i] = io_connect("127.0.0.1", w.peers[0].port, clock_ms() + 1000, &e);
        ck_assert_int_ge(fds[i], 0);
    }
    ck_assert_int_eq(io_send_full(fds[1], "llmcoll2", 8, clock_ms() + 1000, &e), 0);
    io_close(fds[2]);
    expect_world(&w);
    for (int i = 0; i < 12; i++)
        if (i != 2)
            io_close(fds[i]);
}
END_TEST

/* Many more silent connections than there is room for, from an address of the rank table (where
 * each would be read for 5 s, and 64 side by side) and from another: the world forms as if they
 * were not there. The kind: strangers that hold a place which only a proof should give. */
START_TEST(test_many_strangers)
{
    static const char *const sources[] = {"127.0.0.1", "127.0.0.2"};
    static int fds[600];
    struct ranks w = {.size = 2, .replica = {0, 1}};
    ranks_open(&w);
    int n = 0, count = (int)(sizeof fds / sizeof *fds);
    for (; n < count; n++)
        fds[n] = call_from(sources[_i], w.peers[n % 2].port);
    expect_world(&w);
    while (n)
        io_close(fds[--n]);
}
END_TEST

/* Stands between rank 0 and rank 1, hears a hello that is true, and says it once more by itself. */
static void replay_and_relay(int listener, uint16_t to, int replays)
{
    struct err e = {0};
    char text[512];
    int from = io_accept(listener, clock_ms() + 10000, &e);
    ssize_t n = from < 0 ? -1 : recv(from, text, sizeof text, 0);
    for (int i = 0; i < replays && n > 0; i++) {
        int fd = io_connect("127.0.0.1", to, clock_ms() + 5000, &e);
        if (fd < 0 || io_send_full(fd, text, (size_t)n, clock_ms() + 5000, &e))
            _exit(1);
        char answered; /* it is heard, and challenged, before the true one comes */
        if (recv(fd, &answered, 1, MSG_PEEK) < 0)
            _exit(1);
    }
    int onward = io_connect("127.0.0.1", to, clock_ms() + 5000, &e);
    if (n <= 0 || onward < 0 || io_send_full(onward, text, (size_t)n, clock_ms() + 5000, &e))
        _exit(1);
    struct pollfd p[2] = {{from, POLLIN, 0}, {onward, POLLIN, 0}};
    while (poll(p, 2, 10000) > 0)
        for (int i = 0; i < 2; i++) {
            if (!p[i].revents)
                continue;
            n = recv(p[i].fd, text, sizeof text, MSG_DONTWAIT);
            if (n <= 0 || io_send_full(p[!i].fd, text, (size_t)n, clock_ms() + 5000, &e))
                _exit(0);
        }
    _exit(0);
}

/* A recorded hello proves nothing: its place stays free for who can answer the challenge. Were it
 * taken, the true one, which the relay hears once, would be let go and wait in vain. */
START_TEST(test_replayed_hello)
{
    struct ranks w = {.size = 2, .replica = {0, 1}}, told;
    struct err e = {0};
    uint16_t between = 0;
    ranks_open(&w);
    int listener = io_listen("127.0.0.1", 0, &between, &e);
    ck_assert_int_ge(listener, 0);
    pid_t relay = fork();
    if (!relay)
        replay_and_relay(listener, w.peers[1].port, 3);
    told = w;
    told.peers[1].port = between; /* rank 0 calls it there */
    pid_t pid[2] = {
        ranks_start(&told, 0, ranks_others_body), ranks_start(&w, 1, ranks_others_body)};
    for (int r = 0; r < 2; r++) {
        int status;
        waitpid(pid[r], &status, 0);
        ck_assert_int_eq(status, 0);
    }
    kill(relay, SIGKILL);
    waitpid(relay, NULL, 0);
    io_close(listener);
}
END_TEST

/* Sixty-four ranks, each connection with its proofs: in 8 pods, in one each; then every two of them
 * connected. The time is from the first rank's start to the last one's readiness, and is printed:
 * the aim is a second on a machine that does nothing else. */
static struct {
    _Atomic int64_t formed_ms, connected_ms;
} * when;

static void store_later(_Atomic int64_t *at)
{
    int64_t now_ms = clock_ms(), seen = atomic_load(at);
    while (seen < now_ms && !atomic_compare_exchange_weak(at, &seen, now_ms)) {
    }
}

static int many_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    store_later(&when->formed_ms);
    if (coll_connect(c, &e)) {
        fprintf(stderr, "rank %d of %d: %s\n", rank, w->size, e.text);
        return 1;
    }
    store_later(&when->connected_ms);
    return coll_barrier(c, &e) ? 2 : 0;
}

START_TEST(test_many_ranks)
{
    struct ranks w = {.size = 64};
    when = mmap(NULL, sizeof *when, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(when, MAP_FAILED);
    for (int r = 0; r < w.size; r++)
        w.replica[r] = _i ? r : r / 8;
    int64_t begin_ms = clock_ms();
    ranks_run(w, many_body);
    int64_t formed_ms = atomic_load(&when->formed_ms) - begin_ms;
    printf("64 ranks in %d pods: formed in %lld ms, every two connected %lld ms later\n",
        _i ? 64 : 8, (long long)formed_ms,
        (long long)(atomic_load(&when->connected_ms) - begin_ms - formed_ms));
    ck_assert_int_lt(formed_ms, 10000);
    munmap(when, sizeof *when);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("meet");
    TCase *t = tcase_create("meet");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_secret);
    tcase_add_test(t, test_stranger);
    tcase_add_loop_test(t, test_many_strangers, 0, 2);
    tcase_add_test(t, test_replayed_hello);
    tcase_add_loop_test(t, test_many_ranks, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
