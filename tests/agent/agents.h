/*
 * agents: whole agents on loopback, each a child process, with testrank as their rank program, and
 * the side of the controller that speaks to the coordinator. A program that uses it calls
 * testrank_main when TESTRANK is in its environment. Reports are awaited with a deadline; nothing
 * depends on how fast it goes.
 */
#ifndef TESTS_AGENT_AGENTS_H
#define TESTS_AGENT_AGENTS_H

#include "api/report.h"
#include "base/buf.h"
#include "base/clock.h"

#include <check.h>
#include <sys/types.h>
#include <unistd.h>

#define AGENTS_COUNT   3
#define AGENTS_TWIN    AGENTS_COUNT /* another agent of replica 0 */
#define AGENTS_WAIT_MS 20000
#define AGENTS_TRAIN \
    "\"train\":{\"objective\":\"CausalLM\",\"method\":\"Full\"," \
    "\"data\":{\"train\":\"/tmp/t.txt\"},\"sequenceLength\":16,\"batchSequences\":12," \
    "\"steps\":100,\"output\":\"/tmp/out\"}"

extern struct agents {
    char dir[64];
    pid_t pid[AGENTS_COUNT + 1];
    uint16_t ports[AGENTS_COUNT + 1], serve_port;
    uint16_t serve_ports[AGENTS_COUNT]; /* of those that serve alone; the first is serve_port */
    int listener;                       /* that those that start inherit; 0: none */
    bool alone; /* those that start serve without a controller's word, and linger for a second */
    int lead;   /* the agent that the controller takes for the coordinator, and its term */
    int64_t term;
    struct report report; /* the last one */
} agents;

void agents_setup(const char *script); /* of testrank */
void agents_teardown(void);
void agents_write(const char *name, const char *text); /* a file in the job's folder */
void agents_job(const char *task);
void agents_start(int i);
void agents_start_world(const char *script); /* all of them, until they have stepped */
int agents_wait(int i);                      /* until it ends: its exit status */
pid_t agents_rank(pid_t agent);              /* the process of a rank: a child of its agent */
bool agents_lives(pid_t pid);

struct agents_wish {
    int replicas, members;
    bool suspend, release;
};
int agents_tell(struct agents_wish wish); /* the status of the answer */
void agents_want(struct agents_wish wish);
/* Of an agent's pod, as the controller makes it of the job's. */
const char *agents_token(int i);
int agents_request(
    const char *method, const char *path, const char *token, const char *body, struct buf *out);
bool agents_report(void);
const struct attempt *agents_attempt(int back); /* 0: the last */

/* Polls the report, as the controller does, until the condition holds. */
#define agents_until(condition) \
    do { \
        int64_t until_ms = clock_ms() + AGENTS_WAIT_MS; \
        while (!agents_report() || !(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, \
                "timed out: %s; state %s, incarnation %lld, step %lld, %s", #condition, \
                job_state_name(agents.report.state), (long long)agents.report.incarnation, \
                (long long)agents.report.step, agents.report.failure_message); \
            usleep(20000); \
        } \
    } while (0)

#endif
