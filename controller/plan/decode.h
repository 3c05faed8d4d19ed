/*
 * decode: the few facts that the controller keeps of each object, out of the API server's JSON.
 *
 * Each kind decodes into one heap block (an LLMJob into an arena), freed by its _free. What is
 * absent reads as "" or 0; nothing an API server sends can fail but for memory. JSON ends here.
 */
#ifndef CONTROLLER_PLAN_DECODE_H
#define CONTROLLER_PLAN_DECODE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "base/json.h"
#include "controller/plan/status.h"

#include <stdbool.h>
#include <stdint.h>

struct job {
    struct arena *arena;
    bool valid; /* else spec has name, namespace_, uid, generation and managed_by alone */
    struct jobspec spec;
    char problem[256];             /* why not */
    const char *owner, *owner_uid; /* the LLMJob whose trial it is, or "" */
    bool deleting;
    struct status status;
};

enum pod_phase { POD_PENDING, POD_RUNNING, POD_SUCCEEDED, POD_FAILED, POD_UNKNOWN };

struct pod {
    const char *namespace_, *job, *name, *uid, *owner_uid, *node, *ip;
    const char *blocked_reason, *blocked_message; /* why it does not start, or why it failed */
    const char *exit_reason;                      /* of the agent's last end */
    int replica;                                  /* -1: no such label */
    uint64_t revision;                            /* likewise, 0 */
    enum pod_phase phase;
    bool ready, deleting;
    int restarts;  /* of the agent's container */
    int exit_code; /* -1: has not ended yet */
};

struct node {
    bool ready;
};

struct owned { /* a Service or PodGroup */
    bool deleting;
    int min_count;
    char owner_uid[64];
};

int decode_job(const struct json *object, struct job **out, struct err *e);
void job_free(struct job *j);
int decode_pod(const struct json *object, struct pod **out, struct err *e);
void pod_free(struct pod *p);
bool pod_same(const struct pod *a, const struct pod *b); /* in all that is kept of them */
bool decode_node_ready(const struct json *object);
void decode_owned(const struct json *object, struct owned *out);

#endif
