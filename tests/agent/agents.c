/*
 * agents: each agent is this very program again, which runs agent_main in a child and is its own
 * rank program, with TESTRANK in its environment. Ports are found by binding them all at once.
 */
#include "tests/agent/agents.h"

#include "agent/agent.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/secret.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct agents agents;

static struct err e;
static struct arena *arena; /* of the report */

/* -- agents -- */

/* Let go of when all are known: one that was let go of may come again. */
static void find_ports(void)
{
    int fds[2 * AGENTS_COUNT + 1];
    for (int i = 0; i <= 2 * AGENTS_COUNT; i++) {
        uint16_t *port =
            i <= AGENTS_COUNT ? &agents.ports[i] : &agents.serve_ports[i - AGENTS_COUNT - 1];
        fds[i] = io_listen("127.0.0.1", 0, port, &e);
        ck_assert_int_ge(fds[i], 0);
    }
    for (int i = 0; i <= 2 * AGENTS_COUNT; i++)
        io_close(fds[i]);
    agents.serve_port = agents.serve_ports[0];
}

void agents_write(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", agents.dir, name);
    ck_assert_msg(io_write_file(path, text, strlen(text), 0600, &e) == 0, "%s", e.text);
}

void agents_job(const char *task)
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
        strstr(task, "run") ? "" : "\"model\":{\"source\":\"/tmp/model.gguf\"},", agents.dir, task);
    agents_write("job.json", text);
}

void agents_start(int i)
{
    fflush(NULL);
    agents.pid[i] = fork();
    ck_assert_int_ge(agents.pid[i], 0);
    if (agents.pid[i])
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
    setpgid(0, 0);
    char listen[32], listener[16], serve[32], replica[8], run_dir[128], pod[16], uid[16], node[16];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", agents.ports[i]);
    snprintf(listener, sizeof listener, "%d", agents.listener);
    bool first = i == AGENTS_TWIN || agents.alone; /* each is of a world of its own */
    snprintf(serve, sizeof serve, "127.0.0.1:%u",
        agents.alone ? agents.serve_ports[i] : agents.serve_port);
    snprintf(replica, sizeof replica, "%d", first ? 0 : i);
    snprintf(run_dir, sizeof run_dir, "%s/run-%d", agents.dir, i);
    snprintf(pod, sizeof pod, "t-%d", i);
    snprintf(uid, sizeof uid, "uid-%d", i);
    snprintf(node, sizeof node, "node-%d", i);
    const char *argv[] = {"llmjob-agent", "--job-dir", agents.dir, "--run-dir", run_dir, "--listen",
        listen, "--listen-fd", listener, "--serve-listen", serve, "--replica", replica, "--pod",
        pod, "--pod-uid", uid, "--node", node, "--rank-program", "/proc/self/exe", "--alone",
        "--linger-seconds", "1", NULL};
    int argc = (int)(sizeof argv / sizeof *argv) - (agents.alone ? 1 : 4);
    _exit(agent_main(argc, (char **)argv));
}

void agents_setup(const char *script)
{
    snprintf(agents.dir, sizeof agents.dir, "/tmp/test-agent-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(agents.dir));
    agents_write("token", "secret\n");
    agents_job(AGENTS_TRAIN);
    setenv("TESTRANK", script, 1);
    find_ports();
    memset(agents.pid, 0, sizeof agents.pid);
    agents.lead = 0;
    agents.term = 1;
    agents.alone = false;
    agents.listener = 0;
}

void agents_teardown(void)
{
    for (int i = 0; i <= AGENTS_COUNT; i++)
        if (agents.pid[i] > 0) {
            kill(agents.pid[i], SIGKILL);
            waitpid(agents.pid[i], NULL, 0);
        }
    io_remove_tree(agents.dir, &e);
}

int agents_wait(int i)
{
    int64_t end_ms = clock_ms() + AGENTS_WAIT_MS;
    int st;
    while (waitpid(agents.pid[i], &st, WNOHANG) == 0) {
        ck_assert_msg(clock_ms() < end_ms, "agent %d does not end", i);
        usleep(20000);
    }
    agents.pid[i] = 0;
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* -- the controller's side -- */

/* Of an agent's pod, as the controller makes it of the job's. */
const char *agents_token(int i)
{
    static char token[SECRET_TOKEN_BYTES];
    char uid[16];
    snprintf(uid, sizeof uid, "uid-%d", i);
    ck_assert_int_eq(secret_of_pod("secret", uid, token, &e), 0);
    return token;
}

int agents_request(
    const char *method, const char *path, const char *token, const char *body, struct buf *out)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", agents.ports[agents.lead], path);
    struct http_request r = {.method = method,
        .url = url,
        .bearer = token,
        .content_type = "application/json",
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .timeout_ms = 5000};
    return http_once(&(struct http_conf){0}, &r, out, &e);
}

/* The status of the answer. */
int agents_tell(struct agents_wish wish)
{
    static int64_t generation = 1;
    struct desired_member members[AGENTS_COUNT];
    char pod[AGENTS_COUNT][16], uid[AGENTS_COUNT][16], node[AGENTS_COUNT][16],
        address[AGENTS_COUNT][32];
    for (int i = 0; i < wish.members; i++) {
        snprintf(pod[i], sizeof pod[i], "t-%d", i);
        snprintf(uid[i], sizeof uid[i], "uid-%d", i ? i : agents.lead);
        snprintf(node[i], sizeof node[i], "node-%d", i);
        snprintf(address[i], sizeof address[i], "127.0.0.1:%u", agents.ports[i ? i : agents.lead]);
        members[i] = (struct desired_member){i, pod[i], uid[i], node[i], address[i]};
    }
    struct desired d = {.generation = generation++,
        .term = agents.term,
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
    int64_t end_ms = clock_ms() + AGENTS_WAIT_MS;
    for (;;) { /* an agent that is just starting refuses connections */
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        int status =
            agents_request("PUT", "/v1/desired", agents_token(agents.lead), body.data, &out);
        if (status > 0)
            return status;
        int st;
        ck_assert_msg(waitpid(agents.pid[agents.lead], &st, WNOHANG) == 0, "the coordinator ended");
        ck_assert_msg(clock_ms() < end_ms, "PUT: %s", e.text);
        usleep(20000);
    }
}

void agents_want(struct agents_wish wish)
{
    ck_assert_int_eq(agents_tell(wish), 204);
}

bool agents_report(void)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    buf_init(&out, 1 << 20);
    if (agents_request("GET", "/v1/job", agents_token(agents.lead), NULL, &out) != 200)
        return false;
    if (!arena)
        arena = arena_create(64 << 20);
    arena_reset(arena);
    ck_assert_msg(json_parse(out.data, out.len, &v, &e) == 0, "%s", e.text);
    ck_assert_msg(report_decode(v, arena, &agents.report, &e) == 0, "%s: %s", e.text, out.data);
    return true;
}

const struct attempt *agents_attempt(int back)
{
    ck_assert_int_gt(agents.report.attempt_count, back);
    return &agents.report.attempts[agents.report.attempt_count - 1 - back];
}

/* The process of a rank: a child of its agent. */
pid_t agents_rank(pid_t parent)
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

bool agents_lives(pid_t pid)
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

void agents_start_world(const char *script)
{
    agents_setup(script);
    for (int i = 0; i < AGENTS_COUNT; i++)
        agents_start(i);
    agents_want((struct agents_wish){.replicas = 3, .members = 3});
    agents_until(agents.report.state == JOB_RUNNING && agents.report.step >= 3);
    ck_assert_int_eq(agents.report.ranks, 6);
    ck_assert_int_eq(agents.report.world_replicas, 3);
    ck_assert_int_eq(agents.report.connected, 3);
    ck_assert_int_eq(agents.report.incarnation, 1);
}
