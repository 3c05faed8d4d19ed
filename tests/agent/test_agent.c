/*
 * Goal: whole agents on loopback do what the controller relies on: form a world, survive a rank's
 * death, a lost agent and a hang, scale, suspend, complete, fail and release.
 * Method: each test runs real agents as child processes (agents) with the testrank as their rank
 * program, and speaks to the coordinator as the controller does.
 */
#include "agent/agent.h"

#include "api/exitcode.h"
#include "api/names.h"
#include "base/io.h"
#include "tests/agent/agents.h"
#include "tests/agent/testrank.h"

#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;

/* What no writer left in the checkpoint's folder starts no count: rank 0, which has to claim the
 * folder, says what is wrong with it (here it just writes its own). */
START_TEST(an_absurd_claim_does_not_count)
{
    char path[160];
    agents_setup("steps=40,step_ms=5");
    snprintf(path, sizeof path, "%s/ckpt", agents.dir);
    ck_assert_msg(!io_mkdirs(path, 0755, &e), "%s", e.text);
    agents_write("ckpt/incarnation", "9223372036854775807\n");
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_COMPLETE);
    ck_assert_int_eq(agents.report.incarnation, 1);
}
END_TEST

/* Its starter listens for it: a call that comes before it can answer is answered. */
START_TEST(who_calls_while_it_starts_is_heard)
{
    static const char call[] = "GET " NAME_PATH_HEALTH " HTTP/1.1\r\nHost: a\r\n\r\n";
    char answer[12];
    int64_t until_ms = clock_ms() + AGENTS_WAIT_MS;
    agents_setup("");
    agents.listener = io_listen("127.0.0.1", agents.ports[0], NULL, &e);
    ck_assert_msg(agents.listener > 0, "%s", e.text);
    int fd = io_connect("127.0.0.1", agents.ports[0], until_ms, &e);
    ck_assert_msg(fd >= 0 && !io_send_full(fd, call, strlen(call), until_ms, &e), "%s", e.text);
    agents_start(0);
    ck_assert_msg(!io_recv_full(fd, answer, sizeof answer, until_ms, &e), "%s", e.text);
    ck_assert_mem_eq(answer, "HTTP/1.1 200", sizeof answer);
    io_close(fd);
    io_close(agents.listener);
    agents.listener = STDERR_FILENO;
    agents_start(1);
    ck_assert_int_eq(agents_wait(1), EXIT_CLASS_USER);
}
END_TEST

START_TEST(completes_and_releases)
{
    agents_start_world("steps=40,step_ms=5");
    agents_until(agents.report.state == JOB_COMPLETE);
    ck_assert_int_eq(agents.report.step, 40);
    ck_assert_int_eq(agents.report.steps, 40);
    ck_assert_int_eq(agents.report.checkpoint_step, 40);
    ck_assert_int_eq(agents.report.restarts, 0);
    ck_assert_int_gt(agents.report.loss_history_count, 5);
    agents_until(agents_attempt(0)->ended_ms);
    ck_assert_str_eq(agents_attempt(0)->cause, NAME_REASON_COMPLETED);
    agents_want((struct agents_wish){.replicas = 3, .members = 3, .release = true});
    for (int i = 0; i < AGENTS_COUNT; i++)
        ck_assert_int_eq(agents_wait(i), 0);
    /* A finished job stays finished when its agent comes back. */
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 3, .members = 1});
    agents_until(agents.report.state == JOB_COMPLETE);
}
END_TEST

START_TEST(a_killed_rank_is_restarted_in_place)
{
    agents_start_world("steps=100000,step_ms=20");
    pid_t before[AGENTS_COUNT];
    memcpy(before, agents.pid, sizeof before);
    agents_until(agents.report.step >= 12);
    int64_t start_ms = clock_ms();
    kill(agents_rank(agents.pid[1]), SIGKILL);
    agents_until(agents.report.incarnation == 2 && agents.report.state == JOB_RUNNING &&
        agents.report.step > agents_attempt(1)->step - agents_attempt(1)->steps_lost);
    int64_t took_ms = clock_ms() - start_ms;
    printf("rank death to first new step: %lld ms\n", (long long)took_ms);
    ck_assert_int_lt(took_ms, 10000);
    const struct attempt *a = agents_attempt(1);
    ck_assert_str_eq(a->cause, NAME_REASON_RANK_FAILED);
    ck_assert_int_eq(a->replica, 1);
    ck_assert_int_ge(a->rank, 2);
    ck_assert_int_le(a->rank, 3);
    ck_assert_str_eq(a->node, "node-1");
    ck_assert_int_ge(a->steps_lost, 0);
    ck_assert_int_le(a->steps_lost, 5);
    ck_assert_int_eq(agents.report.restarts, 1);
    ck_assert_mem_eq(before, agents.pid, sizeof before);
}
END_TEST

START_TEST(scales_down_and_up)
{
    agents_start_world("steps=100000,step_ms=10");
    agents_want((struct agents_wish){.replicas = 1, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.world_replicas == 1 &&
        agents.report.ranks == 2);
    ck_assert_str_eq(agents_attempt(1)->cause, "Scaled");
    ck_assert_int_eq(agents_attempt(1)->steps_lost, 0);
    ck_assert_int_eq(agents.report.restarts, 0);
    int64_t step = agents.report.step;
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.world_replicas == 3 &&
        agents.report.step > step);
    ck_assert_int_eq(agents_attempt(1)->steps_lost, 0);
    ck_assert_int_eq(agents.report.incarnation, 3);
    ck_assert_int_eq(agents.report.restarts, 0);
}
END_TEST

START_TEST(a_lost_agent_comes_back)
{
    agents_start_world("steps=100000,step_ms=10");
    pid_t rank = agents_rank(agents.pid[2]);
    kill(agents.pid[2], SIGKILL);
    waitpid(agents.pid[2], NULL, 0);
    agents_until(!strcmp(agents.report.verdict.kind, NAME_REASON_LOST_PEER) ||
        agents.report.incarnation == 2);
    agents_until(!agents_lives(rank)); /* no rank survives its agent */
    agents_start(2);
    agents_until(agents.report.state == JOB_RUNNING && agents.report.incarnation == 2 &&
        agents.report.ranks == 6);
    ck_assert_str_eq(agents_attempt(1)->cause, NAME_REASON_LOST_PEER);
    ck_assert_int_eq(agents_attempt(1)->replica, 2);
    /* It does not come back: go on with fewer after waitSeconds. */
    kill(agents.pid[2], SIGKILL);
    waitpid(agents.pid[2], NULL, 0);
    agents.pid[2] = 0;
    agents_until(agents.report.state == JOB_RUNNING && agents.report.incarnation == 3 &&
        agents.report.ranks == 4);
    ck_assert_int_eq(agents.report.world_replicas, 2);
}
END_TEST

START_TEST(the_coordinator_comes_back)
{
    agents_start_world("steps=100000,step_ms=10");
    pid_t rank = agents_rank(agents.pid[1]);
    kill(agents.pid[0], SIGKILL);
    waitpid(agents.pid[0], NULL, 0);
    int64_t end_ms = clock_ms() + AGENTS_WAIT_MS; /* its ranks wait for nobody for long */
    while (agents_lives(rank)) {
        ck_assert_int_lt(clock_ms(), end_ms);
        usleep(20000);
    }
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.ranks == 6);
    ck_assert_int_ge(agents.report.incarnation, 2);
    ck_assert_int_ge(agents.report.attempt_count, 2); /* the history survived */
}
END_TEST

/* A node's kubelet dies, its containers live on, and replica 0 is made anew: the older agent ends,
 * and ends again when it comes back. The kind: two coordinators that take the pods from each other
 * for ever. */
START_TEST(an_older_coordinator_ends)
{
    char run_dir[128];
    agents_start_world("steps=100000,step_ms=10");
    agents_start(AGENTS_TWIN);
    agents.lead = AGENTS_TWIN;
    agents.term = 2;
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.ranks == 6);
    ck_assert_int_eq(agents.report.incarnation, 2);
    ck_assert_int_eq(agents.report.term, 2);
    ck_assert_int_eq(agents_wait(0), EXIT_CLASS_DRAINED);
    agents.lead = 0;
    agents.term = 1; /* whoever tells it so has slept */
    agents_start(0);
    ck_assert_int_eq(agents_tell((struct agents_wish){.replicas = 3, .members = 3}), 400);
    kill(agents.pid[0], SIGKILL);
    waitpid(agents.pid[0], NULL, 0);
    snprintf(run_dir, sizeof run_dir, "%s/run-0", agents.dir); /* it remembers nothing now */
    ck_assert_int_eq(io_remove_tree(run_dir, &e), 0);
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    ck_assert_int_eq(agents_wait(0), EXIT_CLASS_DRAINED);
    agents.lead = AGENTS_TWIN;
    agents_until(agents.report.state == JOB_RUNNING);
    int64_t step = agents.report.step;
    agents_until(agents.report.step > step + 50);
    ck_assert_int_eq(agents.report.incarnation, 2);
}
END_TEST

START_TEST(suspends_and_resumes)
{
    agents_start_world("steps=100000,step_ms=10");
    agents_want((struct agents_wish){.replicas = 3, .members = 3, .suspend = true});
    agents_until(agents.report.state == JOB_SUSPENDED);
    ck_assert_int_eq(agents.report.ranks, 0);
    ck_assert_int_eq(agents.report.world_replicas, 0);
    int64_t step = agents.report.step;
    ck_assert_int_eq(agents.report.checkpoint_step, step);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.step > step);
    ck_assert_int_eq(agents_attempt(1)->steps_lost, 0);
}
END_TEST

START_TEST(user_errors_fail_at_once)
{
    agents_setup("steps=100,step_ms=5,fault=data,rank=3,step=7");
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_FAILED);
    ck_assert_str_eq(agents.report.failure_reason, NAME_REASON_BAD_DATA);
    ck_assert_str_eq(agents.report.failure_message, "/data/train.jsonl:7: invalid UTF-8");
    ck_assert_int_eq(agents.report.failure, ERR_DATA);
    ck_assert_int_eq(agents.report.incarnation, 1);
    agents_until(agents.report.rank_row_count == 0);
    ck_assert_int_eq(agents.report.ranks, 6); /* those that it had, as long as it is read of */
    ck_assert_int_eq(agents.report.data_parallel, 6);
    ck_assert_int_eq(agents_attempt(0)->rank, 3);
    ck_assert_ptr_nonnull(strstr(agents_attempt(0)->log_tail, "fault data at step 7"));
}
END_TEST

START_TEST(restarts_are_budgeted)
{
    agents_setup("steps=100,step_ms=5,fault=crash,rank=0,step=7");
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_FAILED);
    ck_assert_str_eq(agents.report.failure_reason, NAME_REASON_RESTARTS);
    ck_assert_int_eq(agents.report.incarnation, 3); /* two restarts */
    ck_assert_str_eq(agents_attempt(0)->exit_class, "bug");
}
END_TEST

START_TEST(a_hang_is_named_and_ended)
{
    agents_start_world("steps=100000,step_ms=10,fault=hang,rank=4,step=9,incarnation=1");
    agents_until(!strcmp(agents.report.verdict.kind, NAME_REASON_HANG));
    ck_assert_int_eq(agents.report.verdict.rank, 4);
    ck_assert_int_eq(agents.report.verdict.replica, 2);
    ck_assert_str_eq(agents.report.verdict.node, "node-2");
    ck_assert_str_eq(agents.report.verdict.operation, "barrier");
    ck_assert_msg(strstr(agents.report.verdict.message, " s; NCCL: rank 4 is missing") != NULL,
        "%s", agents.report.verdict.message);
    agents_until(agents.report.state == JOB_RUNNING && agents.report.incarnation == 2 &&
        agents.report.step > 10);
    ck_assert_str_eq(agents_attempt(1)->cause, NAME_REASON_HANG);
}
END_TEST

START_TEST(a_leaving_pod_drains_first)
{
    agents_start_world("steps=100000,step_ms=10");
    kill(agents.pid[2], SIGTERM);
    ck_assert_int_eq(agents_wait(2), 0);
    agents_until(agents_attempt(0)->ended_ms || agents.report.incarnation == 2);
    const struct attempt *first = &agents.report.attempts[0];
    ck_assert_str_eq(first->cause, "Leaving");
    agents_until(agents.report.state == JOB_RUNNING && agents.report.incarnation == 2);
    ck_assert_int_eq(agents.report.attempts[0].steps_lost, 0);
    ck_assert_int_eq(agents.report.restarts, 0);
    kill(agents.pid[0], SIGTERM); /* the coordinator itself */
    ck_assert_int_eq(agents_wait(0), 0);
}
END_TEST

START_TEST(runs_other_programs)
{
    agents_setup("");
    char task[512];
    snprintf(task, sizeof task,
        "\"run\":{\"command\":[\"/bin/sh\",\"-c\",\"echo $RANK $WORLD_SIZE $LOCAL_RANK "
        "$GROUP_RANK $MASTER_ADDR $WHO > %s/out-$RANK\"],\"env\":{\"WHO\":\"me\"}}",
        agents.dir);
    agents_job(task);
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_COMPLETE);
    char path[128];
    snprintf(path, sizeof path, "%s/out-5", agents.dir);
    buf_auto struct buf text;
    buf_init(&text, 4096);
    ck_assert_msg(io_read_file(path, 4095, &text, &e) == 0, "%s", e.text);
    ck_assert_str_eq(buf_cstr(&text), "5 6 1 2 127.0.0.1 me\n");
}
END_TEST

/* Of the process whose number the file holds, once it is there. */
static int pidfd_in(const char *name)
{
    char path[128];
    int64_t end_ms = clock_ms() + AGENTS_WAIT_MS;
    buf_auto struct buf text;
    buf_init(&text, 4096);
    snprintf(path, sizeof path, "%s/%s", agents.dir, name);
    while (!text.len || text.data[text.len - 1] != '\n') {
        ck_assert_msg(clock_ms() < end_ms, "no %s", name);
        usleep(20000);
        buf_reset(&text);
        if (io_exists(path))
            ck_assert(!io_read_file(path, 4095, &text, &e));
    }
    int fd = pidfd_open((pid_t)strtol(text.data, NULL, 10), 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* Kind: processes that outlive those for whom they run. The agent's starter is gone: ranks end, and
 * what they began, at once. */
START_TEST(a_starter_that_is_gone_takes_all_along)
{
    agents_setup("");
    char task[512];
    snprintf(task, sizeof task,
        "\"run\":{\"command\":[\"/bin/sh\",\"-c\",\"trap '' HUP TERM; sleep 60 & echo $! "
        "> %s/child-$RANK; echo $$ > %s/rank-$RANK; wait\"]}",
        agents.dir, agents.dir);
    agents_job(task);
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    int fds[12];
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "child-%d", i);
        fds[2 * i] = pidfd_in(name);
        snprintf(name, sizeof name, "rank-%d", i);
        fds[2 * i + 1] = pidfd_in(name);
    }
    for (int i = 0; i < AGENTS_COUNT; i++)
        kill(agents.pid[i], SIGHUP);
    for (int i = 0; i < AGENTS_COUNT; i++)
        ck_assert_int_eq(agents_wait(i), 0);
    for (int i = 0; i < 12; i++) {
        ck_assert_msg(!io_wait_readable(fds[i], clock_ms() + AGENTS_WAIT_MS, &e), "%s %d lives",
            i % 2 ? "rank" : "child of rank", i / 2);
        io_close(fds[i]);
    }
}
END_TEST

int main(void)
{
    if (getenv("TESTRANK")) /* started by an agent: be the rank */
        return testrank_main();
    Suite *suite = suite_create("agent");
    TCase *tc = tcase_create("agents");
    tcase_add_checked_fixture(tc, NULL, agents_teardown);
    tcase_set_timeout(tc, 90);
    tcase_add_test(tc, completes_and_releases);
    tcase_add_test(tc, who_calls_while_it_starts_is_heard);
    tcase_add_test(tc, an_absurd_claim_does_not_count);
    tcase_add_test(tc, a_killed_rank_is_restarted_in_place);
    tcase_add_test(tc, scales_down_and_up);
    tcase_add_test(tc, a_lost_agent_comes_back);
    tcase_add_test(tc, the_coordinator_comes_back);
    tcase_add_test(tc, an_older_coordinator_ends);
    tcase_add_test(tc, suspends_and_resumes);
    tcase_add_test(tc, user_errors_fail_at_once);
    tcase_add_test(tc, restarts_are_budgeted);
    tcase_add_test(tc, a_hang_is_named_and_ended);
    tcase_add_test(tc, a_leaving_pod_drains_first);
    tcase_add_test(tc, runs_other_programs);
    tcase_add_test(tc, a_starter_that_is_gone_takes_all_along);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
