/*
 * agent: see agent.h. What does not come in time, or is not what is due, fails the test.
 */
#include "tests/runtime/agent.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void agent_spawn(struct agent *a, int (*body)(int fd))
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    a->pid = fork();
    ck_assert(a->pid >= 0);
    if (!a->pid) {
        close(pair[0]);
        _exit(body(pair[1]));
    }
    close(pair[1]);
    a->fd = pair[0];
    wire_reader_init(&a->reader);
}

void agent_send(struct agent *a, enum wire_type type, const char *json)
{
    struct err e = {0};
    ck_assert_msg(!wire_send(a->fd, type, json, (uint32_t)strlen(json), clock_ms() + AGENT_MS, &e),
        "%s", e.text);
}

struct json *agent_expect(struct agent *a, enum wire_type type)
{
    struct json *v = NULL;
    struct err e = {0};
    ck_assert_msg(
        wire_wait(&a->reader, a->fd, clock_ms() + AGENT_MS, &a->frame, &e) >= 0, "%s", e.text);
    ck_assert_msg(a->frame.type == type, "frame %d where %d is due: %.200s", (int)a->frame.type,
        (int)type, a->frame.data);
    if (type != WIRE_TOKEN)
        ck_assert_msg(!json_parse(a->frame.data, a->frame.len, &v, &e), "%s", e.text);
    return v;
}

void agent_expect_failed(struct agent *a, const char *class, const char *word)
{
    json_auto struct json *v = agent_expect(a, WIRE_FAILED);
    const char *message = json_str(v, "message", "");
    ck_assert_str_eq(json_str(v, "class", ""), class);
    ck_assert_msg(strstr(message, word) != NULL, "%s", message);
    ck_assert_ptr_null(strchr(message, '\n'));
}

struct jobspec agent_job(enum task task, const char *resource, const char *folder)
{
    static struct arena *arena;
    struct jobspec s;
    struct err e = {0};
    arena = arena ? arena : arena_create(1 << 20);
    const char *text = arena_printf(arena,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"j\","
        "\"namespace\":\"n\",\"uid\":\"u\",\"generation\":1},\"spec\":{"
        "\"device\":{\"resource\":\"%s\"},"
        "\"storage\":[{\"name\":\"s\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "\"model\":{\"source\":\"%s/model\"},%s}}",
        resource, folder,
        task == TASK_SERVE
            ? "\"serve\":{\"modelName\":\"m\"}"
            : "\"checkpoint\":{\"path\":\"/tmp/x\"},\"train\":{\"data\":{\"train\":\"/tmp/c\"},"
              "\"steps\":5,\"sequenceLength\":16,\"batchSequences\":4,\"output\":\"/tmp/o\"}");
    ck_assert_ptr_nonnull(text);
    json_auto struct json *v = NULL;
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, &s, &e), "%s", e.text);
    return s;
}

int agent_prepare(struct agent *a, const struct jobspec *spec, const char *folder)
{
    buf_auto struct buf b;
    char path[128], text[512];
    struct err e = {0};
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    ck_assert_msg(!jobspec_encode(spec, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/job.json", folder);
    golden_write(path, b.data, b.len);
    snprintf(text, sizeof text,
        "{\"job_file\":\"%s\",\"incarnation\":3,\"secret\":\"" AGENT_SECRET "\","
        "\"rank_local\":0,\"local_world\":1,\"replica\":0,\"bind_host\":\"127.0.0.1\"}",
        path);
    agent_send(a, WIRE_PREPARE, text);
    json_auto struct json *ready = agent_expect(a, WIRE_READY);
    int port = (int)json_int(ready, "port", 0);
    ck_assert_int_gt(port, 0);
    return port;
}

void agent_start(struct agent *a, const struct jobspec *spec, const char *folder)
{
    char text[512];
    snprintf(text, sizeof text,
        "{\"rank\":0,\"world\":1,\"ranks\":[{\"rank\":0,\"replica\":0,\"local_rank\":0,"
        "\"host\":\"127.0.0.1\",\"port\":%d,\"node\":\"n\"}]}",
        agent_prepare(a, spec, folder));
    agent_send(a, WIRE_START, text);
}

int agent_wait(struct agent *a)
{
    int64_t until = clock_ms() + AGENT_MS;
    int status = 0;
    pid_t got;
    while (!(got = waitpid(a->pid, &status, WNOHANG)) && clock_ms() < until)
        usleep(2000);
    if (!got)
        kill(a->pid, SIGKILL);
    if (a->fd >= 0)
        close(a->fd);
    wire_reader_done(&a->reader);
    ck_assert_msg(got == a->pid, "the rank did not end");
    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

int agent_end(struct agent *a)
{
    close(a->fd);
    a->fd = -1;
    return agent_wait(a);
}
