/*
 * crew: the agents of a standalone run, a process a replica, as the kubelet keeps the pods of a
 * job: started, started again when they end, ended in order. Each listens on two loopback ports
 * that stay its own when it is started again. A member's index is its replica.
 */
#ifndef CLI_CREW_H
#define CLI_CREW_H

#include "api/report.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/spawn.h"

#include <stdbool.h>
#include <stdint.h>

#define CREW_MEMBERS 64 /* more replicas than this do not belong on one machine */

struct crew_conf {
    const char *agent, *rank_program; /* programs */
    const char *folder;  /* of the run: job/ is the job folder; logs and run folders go here */
    const char *job;     /* name */
    uint16_t serve_port; /* of replica 0, if free; 0: any */
    int gpus;            /* a member's own, of those that CUDA_VISIBLE_DEVICES shows; 0: all */
};

struct crew_member {
    struct child child;
    char uid[33];
    uint16_t port, serve_port;
    int64_t again_ms; /* when it may start again (clock_ms) */
    int ended;        /* times it ended by itself */
    int status;       /* of its last end */
};

struct crew {
    struct crew_conf conf;
    struct crew_member members[CREW_MEMBERS];
    int count;
    unsigned starts; /* of all members, ever */
};

void crew_init(struct crew *c, const struct crew_conf *conf); /* conf's strings are borrowed */
/* Starts what is not running of replicas 0 .. count-1; never ends one. */
int crew_keep(struct crew *c, int count, struct err *e);
/* Reaps; the lowest replica that ended, or -1. Call until -1. */
int crew_reap(struct crew *c);
/* Ends replicas count and above, or all when 0: SIGTERM to all, SIGKILL after grace_ms. */
void crew_shrink(struct crew *c, int count, int64_t grace_ms);
/* The members as the coordinator is told them; NULL when out of memory. */
struct desired_member *crew_members(const struct crew *c, struct arena *a);
/* Path of the log of a replica's agent and ranks. */
const char *crew_log(const struct crew *c, int replica, char *out, size_t size);

#endif
