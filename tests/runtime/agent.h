/*
 * agent: the agent's side of a rank's socket, for tests of the rank: forks a child that runs a body
 * over real frames, and reads what it sends. Every wait has a deadline.
 */
#ifndef TESTS_RUNTIME_AGENT_H
#define TESTS_RUNTIME_AGENT_H

#include "api/jobspec.h"
#include "api/wire.h"
#include "base/json.h"

#include <sys/types.h>

#define AGENT_MS     20000
#define AGENT_SECRET "00112233445566778899aabbccddeeff" /* of what agent_prepare says */

struct agent {
    pid_t pid;
    int fd;
    struct wire_reader reader;
    struct wire_frame frame; /* the last one */
};

/* The child runs body(fd) and exits with what it returns. */
void agent_spawn(struct agent *a, int (*body)(int fd));
void agent_send(struct agent *a, enum wire_type type, const char *json);
/* The next frame, which must be of this type; its JSON (not for WIRE_TOKEN). */
struct json *agent_expect(struct agent *a, enum wire_type type);
/* WIRE_FAILED of this class, with `word` in its message, which is one line. */
void agent_expect_failed(struct agent *a, const char *class, const char *word);

/* A job on this resource with its model in folder/model; good until the test ends. */
struct jobspec agent_job(enum task task, const char *resource, const char *folder);
/* The port where the rank listens for its peers; the job file lies in folder. */
int agent_prepare(struct agent *a, const struct jobspec *spec, const char *folder);
/* Prepare and start of a world of one. */
void agent_start(struct agent *a, const struct jobspec *spec, const char *folder);

/* Waits for the child's exit status, then closes the socket. */
int agent_wait(struct agent *a);
/* Closes the socket and waits for the child's exit status. */
int agent_end(struct agent *a);

#endif
