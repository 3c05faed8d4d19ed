/*
 * Goal: the agents of a standalone run are started with the agreed flags, started again when they
 * end, and ended. Method: a shell script stands for the agent: it writes its arguments to its log
 * and sleeps, or ends at once.
 */
#include "base/clock.h"
#include "base/io.h"
#include "cli/crew.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

static char folder[] = "/tmp/test_crew.XXXXXX";
static char agent[64];
static struct crew crew;
static struct arena *arena;

static void write_agent(const char *body)
{
    struct err e;
    char text[512];
    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", body);
    ck_assert_int_eq(io_write_file(agent, text, strlen(text), 0755, &e), 0);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(agent, sizeof agent, "%s/agent", folder);
    arena = arena_create(1 << 20);
    const struct crew_conf conf = {
        .agent = agent, .rank_program = "/r", .folder = folder, .job = "j"};
    crew_init(&crew, &conf);
    clock_set_real();
}

static void teardown(void)
{
    struct err e;
    crew_shrink(&crew, 0, 0);
    arena_destroy(arena);
    io_remove_tree(folder, &e);
}

static void wait_log(int replica, struct buf *out)
{
    char path[128];
    struct err e;
    int64_t until = clock_ms() + 10000;
    buf_init(out, 4096);
    do {
        poll(NULL, 0, 2);
        buf_reset(out);
        ck_assert_int_eq(
            io_read_file(crew_log(&crew, replica, path, sizeof path), 4096, out, &e), 0);
    } while ((!out->len || out->data[out->len - 1] != '\n') && clock_ms() < until);
    ck_assert_uint_gt(out->len, 0);
}

static int wait_end(void)
{
    int64_t until = clock_ms() + 10000;
    int i;
    while ((i = crew_reap(&crew)) < 0 && clock_ms() < until)
        poll(NULL, 0, 2);
    return i;
}

START_TEST(test_flags)
{
    struct err e = {.text = ""};
    buf_auto struct buf log;
    char expect[512];
    write_agent("echo \"$@\"; exec sleep 1000");
    ck_assert_msg(!crew_keep(&crew, 2, &e), "%s", e.text);
    ck_assert_int_eq(crew.count, 2);
    ck_assert_uint_eq(crew.starts, 2);
    wait_log(1, &log);
    const struct crew_member *m = &crew.members[1];
    snprintf(expect, sizeof expect,
        "--job-dir %s/job --run-dir %s/run-1 --listen 127.0.0.1:%u --listen-fd 3 "
        "--serve-listen 127.0.0.1:%u --replica 1 "
        "--pod j-1 --pod-uid %s --node local --rank-program /r\n",
        folder, folder, m->port, m->serve_port, m->uid);
    ck_assert_str_eq(log.data, expect);
    struct desired_member *members = crew_members(&crew, arena);
    snprintf(expect, sizeof expect, "127.0.0.1:%u", m->port);
    ck_assert_str_eq(members[1].address, expect);
    ck_assert_str_eq(members[1].pod, "j-1");
    ck_assert_str_ne(members[0].uid, members[1].uid);
    ck_assert_int_ne(crew.members[0].port, m->port);
    ck_assert_int_eq(crew_keep(&crew, 2, &e), 0); /* nothing to do */
    ck_assert_uint_eq(crew.starts, 2);
}
END_TEST

/* So many that a port which is let go of too early comes again every other time. */
START_TEST(test_ports)
{
    struct err e = {.text = ""};
    uint16_t ports[2 * CREW_MEMBERS];
    write_agent("exec sleep 1000");
    ck_assert_msg(!crew_keep(&crew, CREW_MEMBERS, &e), "%s", e.text);
    for (int i = 0; i < CREW_MEMBERS; i++) {
        ports[2 * i] = crew.members[i].port;
        ports[2 * i + 1] = crew.members[i].serve_port;
    }
    for (int i = 0; i < 2 * CREW_MEMBERS; i++)
        for (int k = 0; k < i; k++)
            ck_assert_int_ne(ports[i], ports[k]);
}
END_TEST

/* Each member its own, of those that the user chose or of all; none when they do not suffice. */
START_TEST(test_gpus)
{
    static const struct {
        const char *visible;
        int replica;
        const char *expect;
    } rows[] = {{NULL, 1, "2,3\n"}, {"5,GPU-8a,7,0", 1, "7,0\n"}, {"5,6,7", 1, "7\n"},
        {"5,6", 1, "\n"}, {"", 0, "\n"}, {"4,9,2", 0, "4,9\n"}};
    write_agent("echo $CUDA_VISIBLE_DEVICES; exec sleep 1000");
    crew.conf.gpus = 2;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {.text = ""};
        buf_auto struct buf log;
        char path[128];
        if (rows[i].visible)
            setenv("CUDA_VISIBLE_DEVICES", rows[i].visible, 1);
        else
            unsetenv("CUDA_VISIBLE_DEVICES");
        remove(crew_log(&crew, rows[i].replica, path, sizeof path));
        ck_assert_msg(!crew_keep(&crew, 2, &e), "%s", e.text);
        wait_log(rows[i].replica, &log);
        ck_assert_str_eq(log.data, rows[i].expect);
        crew_shrink(&crew, 0, 0);
    }
}
END_TEST

START_TEST(test_started_again)
{
    struct err e;
    write_agent("exit 68");
    ck_assert_int_eq(crew_keep(&crew, 1, &e), 0);
    uint16_t port = crew.members[0].port;
    char uid[33];
    snprintf(uid, sizeof uid, "%s", crew.members[0].uid);
    ck_assert_int_eq(wait_end(), 0);
    ck_assert_int_eq(crew.members[0].status, 68);
    ck_assert_int_eq(crew.members[0].ended, 1);
    ck_assert_str_eq(crew_members(&crew, arena)[0].address, "");
    ck_assert_int_eq(crew_keep(&crew, 1, &e), 0); /* too soon */
    ck_assert_uint_eq(crew.starts, 1);
    clock_set_fake(clock_ms() + 1001, 0);
    ck_assert_int_eq(crew_keep(&crew, 1, &e), 0);
    clock_set_real();
    ck_assert_uint_eq(crew.starts, 2);
    ck_assert_int_eq(crew.members[0].port, port);
    ck_assert_str_ne(crew.members[0].uid, uid);
    ck_assert_int_eq(wait_end(), 0);
}
END_TEST

START_TEST(test_shrink)
{
    struct err e;
    pid_t pids[3];
    write_agent("trap '' TERM; while :; do sleep 0.1; done");
    ck_assert_int_eq(crew_keep(&crew, 3, &e), 0);
    for (int i = 0; i < 3; i++)
        pids[i] = crew.members[i].child.pid;
    crew_shrink(&crew, 1, 20);
    ck_assert_int_eq(crew.count, 1);
    ck_assert_int_eq(kill(pids[0], 0), 0);
    ck_assert_int_eq(kill(pids[1], 0), -1);
    ck_assert_int_eq(kill(pids[2], 0), -1);
}
END_TEST

START_TEST(test_bad)
{
    struct err e = {.text = ""};
    ck_assert_int_eq(crew_keep(&crew, CREW_MEMBERS + 1, &e), -ERR_USER);
    ck_assert_int_eq(crew_keep(&crew, 1, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, agent)); /* no such program */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crew");
    TCase *t = tcase_create("crew");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_flags);
    tcase_add_test(t, test_ports);
    tcase_add_test(t, test_gpus);
    tcase_add_test(t, test_started_again);
    tcase_add_test(t, test_shrink);
    tcase_add_test(t, test_bad);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
