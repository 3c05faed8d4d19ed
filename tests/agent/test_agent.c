/*
 * agent: goal: whole agents on loopback do what the controller relies on: form a world, survive a
 * rank's death, a lost agent and a hang, scale, suspend, complete, fail and release. Method: each
 * test runs real agents as child processes with the testrank as their rank program (this very
 * program with TESTRANK in its environment) and speaks to the coordinator as the controller does.
 * Reports are awaited with a deadline; nothing depends on how fast it goes.
 */
#include "agent/agent.h"
#include "base/buf.h"
#include "base/clock.h"
#include "api/exitcode.h"
#include "base/http.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "api/names.h"
#include "api/report.h"
#include "base/secret.h"
#include "tests/agent/testrank.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define AGENTS  3
#define TWIN    AGENTS /* another agent of replica 0 */
#define WAIT_MS 20000

static char dir[64];
static pid_t agents[AGENTS + 1];
static uint16_t ports[AGENTS + 1], serve_port;
static int lead; /* the agent that the controller takes for the coordinator, and its term */
static int64_t term;
static struct err e;

/* -- the fixture -- */

/* Let go of when all are known: one that was let go of may come again. */
static void find_ports(void)
{
    int fds[AGENTS + 2];
    for (int i = 0; i <= AGENTS + 1; i++) {
        fds[i] = io_listen("127.0.0.1", 0, i <= AGENTS ? &ports[i] : &serve_port, &e);
        ck_assert_int_ge(fds[i], 0);
    }
    for (int i = 0; i <= AGENTS + 1; i++)
        io_close(fds[i]);
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_msg(io_write_file(path, text, strlen(text), 0600, &e) == 0, "%s", e.text);
}

static void job(const char *task)
{
    char text[4096];
    snprintf(text, sizeof text,
        "{\"name\":\"t\",\"namespace\":\"d\",\"uid\":\"u\",\"generation\":1,\"spec\":{"
        "\"replicas\":%d,\"device\":{\"resource\":\"cpu\",\"perReplica\":%d},"
        "\"storage\":[{\"name\":\"d\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "%s\"elastic\":{\"minReplicas\":1,\"waitSeconds\":2},"
        "\"checkpoint\":{\"path\":\"%s/ckpt\",\"everySteps\":5},"
        "\"restart\":{\"maxRestarts\":2,\"windowSeconds\":600},\"health\":{\"hangSeconds\":2},%s}}",
        strstr(task, "serve") ? 1 : 3, strstr(task, "serve") ? 1 : 2,
        strstr(task, "run") ? "" : "\"model\":{\"source\":\"/tmp/model.gguf\"},", dir, task);
    write_text("job.json", text);
}

#define TRAIN \
    "\"train\":{\"objective\":\"CausalLM\",\"method\":\"Full\",\"data\":{\"train\":\"/tmp/" \
    "t.txt\"}," \
    "\"sequenceLength\":16,\"batchSequences\":12,\"steps\":100,\"output\":\"/tmp/out\"}"

static void start_agent(int i)
{
    fflush(NULL);
    agents[i] = fork();
    ck_assert_int_ge(agents[i], 0);
    if (agents[i])
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
    setpgid(0, 0);
    char listen[32], serve[32], replica[8], run_dir[128], pod[16], uid[16], node[16];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", ports[i]);
    snprintf(serve, sizeof serve, "127.0.0.1:%u", serve_port);
    snprintf(replica, sizeof replica, "%d", i == TWIN ? 0 : i);
    snprintf(run_dir, sizeof run_dir, "%s/run-%d", dir, i);
    snprintf(pod, sizeof pod, "t-%d", i);
    snprintf(uid, sizeof uid, "uid-%d", i);
    snprintf(node, sizeof node, "node-%d", i);
    const char *argv[] = {"llmjob-agent", "--job-dir", dir, "--run-dir", run_dir, "--listen",
        listen, "--serve-listen", serve, "--replica", replica, "--pod", pod, "--pod-uid", uid,
        "--node", node, "--rank-program", "/proc/self/exe", NULL};
    int argc = (int)(sizeof argv / sizeof *argv) - 1;
    _exit(agent_main(argc, (char **)argv));
}

static void setup_script(const char *script)
{
    snprintf(dir, sizeof dir, "/tmp/test-agent-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    write_text("token", "secret\n");
    job(TRAIN);
    setenv("TESTRANK", script, 1);
    find_ports();
    memset(agents, 0, sizeof agents);
    lead = 0;
    term = 1;
}

static void teardown(void)
{
    for (int i = 0; i <= AGENTS; i++)
        if (agents[i] > 0) {
            kill(agents[i], SIGKILL);
            waitpid(agents[i], NULL, 0);
        }
    io_remove_tree(dir, &e);
}

static int wait_exit(int i)
{
    int64_t end_ms = clock_ms() + WAIT_MS;
    int st;
    while (waitpid(agents[i], &st, WNOHANG) == 0) {
        ck_assert_msg(clock_ms() < end_ms, "agent %d does not end", i);
        usleep(20000);
    }
    agents[i] = 0;
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* -- the controller's side -- */

/* Of an agent's pod, as the controller makes it of the job's. */
static const char *token_of(int i)
{
    static char token[SECRET_TOKEN_BYTES];
    char uid[16];
    snprintf(uid, sizeof uid, "uid-%d", i);
    ck_assert_int_eq(secret_of_pod("secret", uid, token, &e), 0);
    return token;
}

static int request(
    const char *method, const char *path, const char *token, const char *body, struct buf *out)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", ports[lead], path);
    struct http_request r = {.method = method,
        .url = url,
        .bearer = token,
        .content_type = "application/json",
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .timeout_ms = 5000};
    return http_once(&(struct http_conf){0}, &r, out, &e);
}

struct wish {
    int replicas, members;
    bool suspend, release;
};

/* The status of the answer. */
static int tell(struct wish wish)
{
    static int64_t generation = 1;
    struct member members[AGENTS];
    char pod[AGENTS][16], uid[AGENTS][16], node[AGENTS][16], address[AGENTS][32];
    for (int i = 0; i < wish.members; i++) {
        snprintf(pod[i], sizeof pod[i], "t-%d", i);
        snprintf(uid[i], sizeof uid[i], "uid-%d", i ? i : lead);
        snprintf(node[i], sizeof node[i], "node-%d", i);
        snprintf(address[i], sizeof address[i], "127.0.0.1:%u", ports[i ? i : lead]);
        members[i] = (struct member){i, pod[i], uid[i], node[i], address[i]};
    }
    struct desired d = {.generation = generation++,
        .term = term,
        .replicas = wish.replicas,
        .suspend = wish.suspend,
        .release = wish.release,
        .elastic = {.min_replicas = 1, .wait_seconds = 2},
        .restart = {.max_restarts = 2, .window_seconds = 600},
        .health = {.hang_seconds = 2},
        .members = members,
        .member_count = wish.members};
    buf_auto struct buf body;
    buf_init(&body, 1 << 20);
    ck_assert_int_eq(desired_encode(&d, &body, &e), 0);
    int64_t end_ms = clock_ms() + WAIT_MS;
    for (;;) { /* an agent that is just starting refuses connections */
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        int status = request("PUT", "/v1/desired", token_of(lead), body.data, &out);
        if (status > 0)
            return status;
        int st;
        ck_assert_msg(waitpid(agents[lead], &st, WNOHANG) == 0, "the coordinator ended");
        ck_assert_msg(clock_ms() < end_ms, "PUT: %s", e.text);
        usleep(20000);
    }
}

static void want(struct wish wish)
{
    ck_assert_int_eq(tell(wish), 204);
}

static struct arena *arena;
static struct report report;

static bool get_report(void)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    buf_init(&out, 1 << 20);
    if (request("GET", "/v1/job", token_of(lead), NULL, &out) != 200)
        return false;
    if (!arena)
        arena = arena_create(64 << 20);
    arena_reset(arena);
    ck_assert_msg(json_parse(out.data, out.len, &v, &e) == 0, "%s", e.text);
    ck_assert_msg(report_decode(v, arena, &report, &e) == 0, "%s: %s", e.text, out.data);
    return true;
}

static const struct attempt *last_attempt(int back)
{
    ck_assert_int_gt(report.attempt_count, back);
    return &report.attempts[report.attempt_count - 1 - back];
}

/* Polls the report, as the controller does, until the condition holds. */
#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + WAIT_MS; \
        while (!get_report() || !(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, \
                "timed out: %s; state %s, incarnation %lld, step %lld, %s", #condition, \
                job_state_name(report.state), (long long)report.incarnation, \
                (long long)report.step, report.failure_message); \
            usleep(20000); \
        } \
    } while (0)

/* The process of a rank: a child of its agent. */
static pid_t child_of(pid_t parent)
{
    char path[64];
    buf_auto struct buf text;
    buf_init(&text, 4096);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
    ck_assert_msg(io_read_file(path, 4095, &text, &e) == 0, "%s", e.text);
    pid_t child = (pid_t)strtol(buf_cstr(&text), NULL, 10);
    ck_assert_int_gt(child, 1);
    return child;
}

static bool lives(pid_t pid)
{
    char path[64];
    buf_auto struct buf text;
    buf_init(&text, 4096);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (io_read_file(path, 4095, &text, &e))
        return false;
    const char *state = strrchr(buf_cstr(&text), ')');
    return state && state[2] != 'Z'; /* init may be slow to collect it */
}

static void start_world(const char *script)
{
    setup_script(script);
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_RUNNING && report.step >= 3);
    ck_assert_int_eq(report.ranks, 6);
    ck_assert_int_eq(report.world_replicas, 3);
    ck_assert_int_eq(report.connected, 3);
    ck_assert_int_eq(report.incarnation, 1);
}

/* -- tests -- */

/* What no writer left in the checkpoint's folder starts no count: rank 0, which has to claim the
 * folder, says what is wrong with it (here it just writes its own). */
START_TEST(an_absurd_claim_does_not_count)
{
    char path[160];
    setup_script("steps=40,step_ms=5");
    snprintf(path, sizeof path, "%s/ckpt", dir);
    ck_assert_msg(!io_mkdirs(path, 0755, &e), "%s", e.text);
    write_text("ckpt/incarnation", "9223372036854775807\n");
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_COMPLETE);
    ck_assert_int_eq(report.incarnation, 1);
}
END_TEST

START_TEST(completes_and_releases)
{
    start_world("steps=40,step_ms=5");
    until(report.state == JOB_COMPLETE);
    ck_assert_int_eq(report.step, 40);
    ck_assert_int_eq(report.steps, 40);
    ck_assert_int_eq(report.checkpoint_step, 40);
    ck_assert_int_eq(report.restarts, 0);
    ck_assert_int_gt(report.loss_history_count, 5);
    until(last_attempt(0)->ended_ms);
    ck_assert_str_eq(last_attempt(0)->cause, NAME_REASON_COMPLETED);
    want((struct wish){.replicas = 3, .members = 3, .release = true});
    for (int i = 0; i < AGENTS; i++)
        ck_assert_int_eq(wait_exit(i), 0);
    /* A finished job stays finished when its agent comes back. */
    start_agent(0);
    want((struct wish){.replicas = 3, .members = 1});
    until(report.state == JOB_COMPLETE);
}
END_TEST

START_TEST(a_killed_rank_is_restarted_in_place)
{
    start_world("steps=100000,step_ms=20");
    pid_t before[AGENTS];
    memcpy(before, agents, sizeof before);
    until(report.step >= 12);
    int64_t start_ms = clock_ms();
    kill(child_of(agents[1]), SIGKILL);
    until(report.incarnation == 2 && report.state == JOB_RUNNING &&
        report.step > last_attempt(1)->step - last_attempt(1)->steps_lost);
    int64_t took_ms = clock_ms() - start_ms;
    printf("rank death to first new step: %lld ms\n", (long long)took_ms);
    ck_assert_int_lt(took_ms, 10000);
    const struct attempt *a = last_attempt(1);
    ck_assert_str_eq(a->cause, NAME_REASON_RANK_FAILED);
    ck_assert_int_eq(a->replica, 1);
    ck_assert_int_ge(a->rank, 2);
    ck_assert_int_le(a->rank, 3);
    ck_assert_str_eq(a->node, "node-1");
    ck_assert_int_ge(a->steps_lost, 0);
    ck_assert_int_le(a->steps_lost, 5);
    ck_assert_int_eq(report.restarts, 1);
    ck_assert_mem_eq(before, agents, sizeof before);
}
END_TEST

START_TEST(scales_down_and_up)
{
    start_world("steps=100000,step_ms=10");
    want((struct wish){.replicas = 1, .members = 3});
    until(report.state == JOB_RUNNING && report.world_replicas == 1 && report.ranks == 2);
    ck_assert_str_eq(last_attempt(1)->cause, "Scaled");
    ck_assert_int_eq(last_attempt(1)->steps_lost, 0);
    ck_assert_int_eq(report.restarts, 0);
    int64_t step = report.step;
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_RUNNING && report.world_replicas == 3 && report.step > step);
    ck_assert_int_eq(last_attempt(1)->steps_lost, 0);
    ck_assert_int_eq(report.incarnation, 3);
    ck_assert_int_eq(report.restarts, 0);
}
END_TEST

START_TEST(a_lost_agent_comes_back)
{
    start_world("steps=100000,step_ms=10");
    pid_t rank = child_of(agents[2]);
    kill(agents[2], SIGKILL);
    waitpid(agents[2], NULL, 0);
    until(!strcmp(report.verdict.kind, NAME_REASON_LOST_PEER) || report.incarnation == 2);
    until(!lives(rank)); /* no rank survives its agent */
    start_agent(2);
    until(report.state == JOB_RUNNING && report.incarnation == 2 && report.ranks == 6);
    ck_assert_str_eq(last_attempt(1)->cause, NAME_REASON_LOST_PEER);
    ck_assert_int_eq(last_attempt(1)->replica, 2);
    /* It does not come back: go on with fewer after waitSeconds. */
    kill(agents[2], SIGKILL);
    waitpid(agents[2], NULL, 0);
    agents[2] = 0;
    until(report.state == JOB_RUNNING && report.incarnation == 3 && report.ranks == 4);
    ck_assert_int_eq(report.world_replicas, 2);
}
END_TEST

START_TEST(the_coordinator_comes_back)
{
    start_world("steps=100000,step_ms=10");
    pid_t rank = child_of(agents[1]);
    kill(agents[0], SIGKILL);
    waitpid(agents[0], NULL, 0);
    int64_t end_ms = clock_ms() + WAIT_MS; /* its ranks wait for nobody for long */
    while (lives(rank)) {
        ck_assert_int_lt(clock_ms(), end_ms);
        usleep(20000);
    }
    start_agent(0);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_RUNNING && report.ranks == 6);
    ck_assert_int_ge(report.incarnation, 2);
    ck_assert_int_ge(report.attempt_count, 2); /* the history survived */
}
END_TEST

/* A node's kubelet dies, its containers live on, and replica 0 is made anew: the older agent ends,
 * and ends again when it comes back. The kind: two coordinators that take the pods from each other
 * for ever. */
START_TEST(an_older_coordinator_ends)
{
    char run_dir[128];
    start_world("steps=100000,step_ms=10");
    start_agent(TWIN);
    lead = TWIN;
    term = 2;
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_RUNNING && report.ranks == 6);
    ck_assert_int_eq(report.incarnation, 2);
    ck_assert_int_eq(report.term, 2);
    ck_assert_int_eq(wait_exit(0), EXIT_CLASS_DRAINED);
    lead = 0;
    term = 1; /* whoever tells it so has slept */
    start_agent(0);
    ck_assert_int_eq(tell((struct wish){.replicas = 3, .members = 3}), 400);
    kill(agents[0], SIGKILL);
    waitpid(agents[0], NULL, 0);
    snprintf(run_dir, sizeof run_dir, "%s/run-0", dir); /* it remembers nothing now */
    ck_assert_int_eq(io_remove_tree(run_dir, &e), 0);
    start_agent(0);
    want((struct wish){.replicas = 3, .members = 3});
    ck_assert_int_eq(wait_exit(0), EXIT_CLASS_DRAINED);
    lead = TWIN;
    until(report.state == JOB_RUNNING);
    int64_t step = report.step;
    until(report.step > step + 50);
    ck_assert_int_eq(report.incarnation, 2);
}
END_TEST

START_TEST(suspends_and_resumes)
{
    start_world("steps=100000,step_ms=10");
    want((struct wish){.replicas = 3, .members = 3, .suspend = true});
    until(report.state == JOB_SUSPENDED);
    ck_assert_int_eq(report.ranks, 0);
    ck_assert_int_eq(report.world_replicas, 0);
    int64_t step = report.step;
    ck_assert_int_eq(report.checkpoint_step, step);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_RUNNING && report.step > step);
    ck_assert_int_eq(last_attempt(1)->steps_lost, 0);
}
END_TEST

START_TEST(user_errors_fail_at_once)
{
    setup_script("steps=100,step_ms=5,fault=data,rank=3,step=7");
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_FAILED);
    ck_assert_str_eq(report.failure_reason, NAME_REASON_BAD_DATA);
    ck_assert_str_eq(report.failure_message, "/data/train.jsonl:7: invalid UTF-8");
    ck_assert_int_eq(report.failure, ERR_DATA);
    ck_assert_int_eq(report.incarnation, 1);
    until(report.ranks == 0);
    ck_assert_int_eq(last_attempt(0)->rank, 3);
    ck_assert_ptr_nonnull(strstr(last_attempt(0)->log_tail, "fault data at step 7"));
}
END_TEST

START_TEST(restarts_are_budgeted)
{
    setup_script("steps=100,step_ms=5,fault=crash,rank=0,step=7");
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_FAILED);
    ck_assert_str_eq(report.failure_reason, NAME_REASON_RESTARTS);
    ck_assert_int_eq(report.incarnation, 3); /* two restarts */
    ck_assert_str_eq(last_attempt(0)->exit_class, "bug");
}
END_TEST

START_TEST(a_hang_is_named_and_ended)
{
    start_world("steps=100000,step_ms=10,fault=hang,rank=4,step=9,incarnation=1");
    until(!strcmp(report.verdict.kind, NAME_REASON_HANG));
    ck_assert_int_eq(report.verdict.rank, 4);
    ck_assert_int_eq(report.verdict.replica, 2);
    ck_assert_str_eq(report.verdict.node, "node-2");
    ck_assert_str_eq(report.verdict.operation, "barrier");
    ck_assert_msg(strstr(report.verdict.message, " s; NCCL: rank 4 is missing") != NULL, "%s",
        report.verdict.message);
    until(report.state == JOB_RUNNING && report.incarnation == 2 && report.step > 10);
    ck_assert_str_eq(last_attempt(1)->cause, NAME_REASON_HANG);
}
END_TEST

START_TEST(a_leaving_pod_drains_first)
{
    start_world("steps=100000,step_ms=10");
    kill(agents[2], SIGTERM);
    ck_assert_int_eq(wait_exit(2), 0);
    until(last_attempt(0)->ended_ms || report.incarnation == 2);
    const struct attempt *first = &report.attempts[0];
    ck_assert_str_eq(first->cause, "Leaving");
    until(report.state == JOB_RUNNING && report.incarnation == 2);
    ck_assert_int_eq(report.attempts[0].steps_lost, 0);
    ck_assert_int_eq(report.restarts, 0);
    kill(agents[0], SIGTERM); /* the coordinator itself */
    ck_assert_int_eq(wait_exit(0), 0);
}
END_TEST

START_TEST(runs_other_programs)
{
    setup_script("");
    char task[512];
    snprintf(task, sizeof task,
        "\"run\":{\"command\":[\"/bin/sh\",\"-c\",\"echo $RANK $WORLD_SIZE $LOCAL_RANK "
        "$GROUP_RANK $MASTER_ADDR $WHO > %s/out-$RANK\"],\"env\":{\"WHO\":\"me\"}}",
        dir);
    job(task);
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    until(report.state == JOB_COMPLETE);
    char path[128];
    snprintf(path, sizeof path, "%s/out-5", dir);
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
    int64_t end_ms = clock_ms() + WAIT_MS;
    buf_auto struct buf text;
    buf_init(&text, 4096);
    snprintf(path, sizeof path, "%s/%s", dir, name);
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
    setup_script("");
    char task[512];
    snprintf(task, sizeof task,
        "\"run\":{\"command\":[\"/bin/sh\",\"-c\",\"trap '' HUP TERM; sleep 60 & echo $! "
        "> %s/child-$RANK; echo $$ > %s/rank-$RANK; wait\"]}",
        dir, dir);
    job(task);
    for (int i = 0; i < AGENTS; i++)
        start_agent(i);
    want((struct wish){.replicas = 3, .members = 3});
    int fds[12];
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "child-%d", i);
        fds[2 * i] = pidfd_in(name);
        snprintf(name, sizeof name, "rank-%d", i);
        fds[2 * i + 1] = pidfd_in(name);
    }
    for (int i = 0; i < AGENTS; i++)
        kill(agents[i], SIGHUP);
    for (int i = 0; i < AGENTS; i++)
        ck_assert_int_eq(wait_exit(i), 0);
    for (int i = 0; i < 12; i++) {
        ck_assert_msg(!io_wait_readable(fds[i], clock_ms() + WAIT_MS, &e), "%s %d lives",
            i % 2 ? "rank" : "child of rank", i / 2);
        io_close(fds[i]);
    }
}
END_TEST

/* The OpenAI port: a status and the body. */
static int chat(int max_tokens, struct buf *out)
{
    char url[96], body[256];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/chat/completions", serve_port);
    snprintf(body, sizeof body,
        "{\"model\":\"tiny\",\"max_tokens\":%d,\"messages\":[{\"role\":\"user\","
        "\"content\":\"hi\"}]}",
        max_tokens);
    struct http_request r = {.method = "POST",
        .url = url,
        .content_type = "application/json",
        .body = body,
        .body_len = strlen(body),
        .timeout_ms = 60000};
    return http_once(&(struct http_conf){0}, &r, out, &e);
}

START_TEST(serves_and_drains)
{
    setup_script("token_ms=2");
    job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    start_agent(0);
    want((struct wish){.replicas = 1, .members = 1});
    until(report.state == JOB_SERVING);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", serve_port);
    ck_assert_str_eq(report.serve_address, address);
    buf_auto struct buf out, ready;
    buf_init(&out, 1 << 20);
    buf_init(&ready, 1 << 20);
    ck_assert_int_eq(request("GET", "/readyz", NULL, NULL, &ready), 200);
    ck_assert_int_eq(chat(10, &out), 200);
    ck_assert_ptr_nonnull(strstr(out.data, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82\"")); /* whole */
    ck_assert_ptr_nonnull(strstr(out.data, "\"completion_tokens\":10"));
    /* Its rank dies: served again, by another incarnation. */
    kill(child_of(agents[0]), SIGKILL);
    until(report.state == JOB_SERVING && report.incarnation == 2);
    /* A request in flight (for seconds: it must be seen) outlives the order to go. */
    fflush(NULL);
    pid_t client = fork();
    if (client == 0) {
        buf_reset(&out);
        bool whole = chat(1500, &out) == 200 && strstr(out.data, "\"completion_tokens\":1500");
        _exit(whole ? 0 : 1);
    }
    int st = 0;
    do { /* until the request is in */
        ck_assert_msg(waitpid(client, &st, WNOHANG) == 0,
            "the request ended (%#x) before it was seen in flight", st);
        buf_reset(&ready);
        ck_assert_int_eq(request("GET", "/metrics", NULL, NULL, &ready), 200);
    } while (!strstr(ready.data, "llmjob_requests_in_flight 1"));
    kill(agents[0], SIGTERM);
    waitpid(client, &st, 0);
    ck_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    ck_assert_int_eq(wait_exit(0), 0);
}
END_TEST

/* A hang while it serves has a verdict of its own, in any phase but idle, and is ended. */
START_TEST(a_rank_that_never_ends_rendering_is_named_and_ended)
{
    setup_script("token_ms=2,fault=render,incarnation=1");
    job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    start_agent(0);
    want((struct wish){.replicas = 1, .members = 1});
    until(report.state == JOB_SERVING);
    fflush(NULL);
    pid_t client = fork();
    if (client == 0) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        _exit(chat(10, &out) == 200);
    }
    until(!strcmp(report.verdict.kind, NAME_REASON_HANG));
    ck_assert_str_eq(report.verdict.operation, "render");
    until(report.state == JOB_SERVING && report.incarnation == 2);
    int st = 0;
    waitpid(client, &st, 0);
    ck_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0); /* it was told that it failed */
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chat(10, &out), 200);
}
END_TEST

START_TEST(guards_its_doors)
{
    setup_script("");
    start_agent(0);
    want((struct wish){.replicas = 0, .members = 1});
    static const struct {
        const char *method, *path, *token; /* "": the pod's */
        int status;
    } table[] = {
        {"GET", "/v1/job", "wrong", 401},
        {"PUT", "/v1/desired", "wrong", 401},
        {"GET", "/v1/job", NULL, 401},
        {"GET", "/healthz", NULL, 200},
        {"GET", "/readyz", NULL, 503},
        {"GET", "/metrics", NULL, 200},
        {"GET", "/nowhere", "", 404},
        {"PUT", "/v1/desired", "", 400},
        {"GET", "/v1/job", "secret", 401}, /* the job's, which nobody sends */
        {"GET", "/v1/job", "", 200},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        const char *body = !strcmp(table[i].method, "PUT") ? "{\"replicas\":-3}" : NULL;
        const char *token = table[i].token && !*table[i].token ? token_of(0) : table[i].token;
        int status = request(table[i].method, table[i].path, token, body, &out);
        ck_assert_msg(status == table[i].status, "%s %s: %d, not %d", table[i].method,
            table[i].path, status, table[i].status);
    }
}
END_TEST

/* -- strangers -- */

static int64_t resident_kib(pid_t pid)
{
    char path[64], *at;
    buf_auto struct buf text;
    buf_init(&text, 65536);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    ck_assert_msg(io_read_file(path, 65536, &text, &e) == 0, "%s", e.text);
    at = strstr(buf_cstr(&text), "VmRSS:");
    ck_assert_ptr_nonnull(at);
    return strtoll(at + 6, NULL, 10);
}

static int health(void)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    return request("GET", "/healthz", NULL, NULL, &out);
}

#define FLOOD 300

/* Writes what the socket takes of a head and then of a body that never ends; false when none. */
static bool push(int fd, const char *head, size_t *sent, size_t most)
{
    static char body[65536];
    size_t head_len = strlen(head);
    const char *from = *sent < head_len ? head + *sent : body;
    size_t n = *sent < head_len ? head_len - *sent : sizeof body;
    if (*sent >= most)
        return false;
    ssize_t k = send(fd, from, n < most - *sent ? n : most - *sent, MSG_NOSIGNAL);
    *sent += k > 0 ? (size_t)k : 0;
    return k > 0;
}

/* FLOOD connections that each send a head and `most` bytes; by how much the agent grew, in KiB. */
static int64_t flood(uint16_t port, const char *head, size_t most)
{
    static int fds[FLOOD];
    static size_t sent[FLOOD];
    int64_t before = resident_kib(agents[0]), peak = 0;
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = io_connect("127.0.0.1", port, clock_ms() + WAIT_MS, &e);
        ck_assert_msg(fds[i] >= 0, "%s", e.text);
        ck_assert_int_eq(io_set_nonblocking(fds[i], true, &e), 0);
        sent[i] = 0;
    }
    for (int quiet = 0; quiet < 3;) {
        bool more = false;
        for (int i = 0; i < FLOOD; i++)
            more = push(fds[i], head, &sent[i], most) || more;
        ck_assert_int_eq(health(), 200); /* the agent has had its turn, and answers */
        quiet = more ? 0 : quiet + 1;
        int64_t now = resident_kib(agents[0]);
        peak = now > peak ? now : peak;
    }
    for (int i = 0; i < FLOOD; i++)
        io_close(fds[i]);
    return peak - before;
}

/* The bounds of docs/architecture.md, and what malloc and the sockets' code need beside. */
#ifdef __SANITIZE_ADDRESS__
#define SLACK_KIB (512 << 10) /* it keeps 256 MiB of what was freed */
#else
#define SLACK_KIB (8 << 10)
#endif
#define CONTROL_KIB (28 << 10)
#define API_KIB     (80 << 10)
#define PUT_4_MIB   "PUT /v1/desired HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n"

/* Unfinished requests, with and without a credential, beyond what the agent may hold. */
START_TEST(strangers_take_no_more_than_the_bound)
{
    setup_script("token_ms=2");
    job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    start_agent(0);
    want((struct wish){.replicas = 1, .members = 1});
    until(report.state == JOB_SERVING);
    int64_t grew = flood(ports[0], PUT_4_MIB "\r\n", 4194304);
    ck_assert_msg(grew < SLACK_KIB, "by strangers: %lld KiB", (long long)grew);
    char head[512];
    snprintf(head, sizeof head, PUT_4_MIB "Authorization: Bearer %s\r\n\r\n", token_of(0));
    grew = flood(ports[0], head, 4194304);
    ck_assert_int_gt(grew, 8 << 10); /* they are let in */
    ck_assert_msg(grew < CONTROL_KIB + SLACK_KIB, "by friends: %lld KiB", (long long)grew);
    grew = flood(serve_port,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", 1048576);
    ck_assert_msg(grew < API_KIB + SLACK_KIB, "by the API: %lld KiB", (long long)grew);
    until(report.state == JOB_SERVING);
}
END_TEST

int main(void)
{
    if (getenv("TESTRANK")) /* started by an agent: be the rank */
        return testrank_main();
    Suite *suite = suite_create("agent");
    TCase *tc = tcase_create("agents");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_set_timeout(tc, 90);
    tcase_add_test(tc, completes_and_releases);
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
    tcase_add_test(tc, serves_and_drains);
    tcase_add_test(tc, a_rank_that_never_ends_rendering_is_named_and_ended);
    tcase_add_test(tc, guards_its_doors);
    tcase_add_test(tc, strangers_take_no_more_than_the_bound);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
