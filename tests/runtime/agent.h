/*
 * agent: the agent's side of a rank's socket, for tests of the rank: forks a child that runs a body
 * over real frames, and reads what it sends. Every wait has a deadline.
 */
#ifndef TESTS_RUNTIME_AGENT_H
#define TESTS_RUNTIME_AGENT_H

#include "base/clock.h"
#include "api/jobspec.h"
#include "api/wire.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define AGENT_MS 20000

struct agent {
    pid_t pid;
    int fd;
    struct wire_reader reader;
    struct wire_frame frame; /* the last one */
};

/* The child runs body(fd) and exits with what it returns. */
static inline void agent_spawn(struct agent *a, int (*body)(int fd))
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

static inline void agent_send(struct agent *a, enum wire_type type, const char *json)
{
    struct err e = {0};

    ck_assert_msg(!wire_send(a->fd, type, json, (uint32_t)strlen(json), clock_ms() + AGENT_MS, &e),
        "%s", e.text);
}

/* The next frame, which must be of this type; its JSON (not for WIRE_TOKEN). */
static inline struct json *agent_expect(struct agent *a, enum wire_type type)
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

/* The port where the rank listens for its peers. */
static inline int agent_prepare(struct agent *a, const struct jobspec *spec, const char *folder)
{
    buf_auto struct buf b;
    char path[128], text[512];
    struct err e = {0};

    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    ck_assert_msg(!jobspec_encode(spec, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/job.json", folder);
    golden_write(path, b.data, b.len);
    snprintf(text, sizeof text,
        "{\"job_file\":\"%s\",\"incarnation\":3,\"secret\":"
        "\"00112233445566778899aabbccddeeff\","
        "\"rank_local\":0,\"local_world\":1,\"replica\":0,\"bind_host\":\"127.0.0.1\"}",
        path);
    agent_send(a, WIRE_PREPARE, text);
    struct json *ready = agent_expect(a, WIRE_READY);
    int port = (int)json_int(ready, "port", 0);
    ck_assert_int_gt(port, 0);
    json_destroy(ready);
    return port;
}

/* Prepare and start of a world of one. */
static inline void agent_start(struct agent *a, const struct jobspec *spec, const char *folder)
{
    int port = agent_prepare(a, spec, folder);
    char text[512];

    snprintf(text, sizeof text,
        "{\"rank\":0,\"world\":1,\"ranks\":[{\"rank\":0,\"replica\":0,\"local_rank\":0,"
        "\"host\":\"127.0.0.1\",\"port\":%d,\"node\":\"n\"}],\"layout\":{\"data\":1}}",
        port);
    agent_send(a, WIRE_START, text);
}

/* Waits for the child's exit status, then closes the socket. */
static inline int agent_wait(struct agent *a)
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

/* Closes the socket and waits for the child's exit status. */
static inline int agent_end(struct agent *a)
{
    close(a->fd);
    a->fd = -1;
    return agent_wait(a);
}

#endif
