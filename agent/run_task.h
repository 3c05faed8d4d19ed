/*
 * run_task: what a rank of a job with spec.run is: the command line of the spec and an environment
 * as torchrun gives it, so that programs written for it find their world. It speaks no frames; how
 * it ends is all that it says. Pure: no process is started here.
 *
 *   RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK    GROUP_RANK is the replica
 *   MASTER_ADDR MASTER_PORT                                   where rank 0 may listen
 */
#ifndef AGENT_RUN_TASK_H
#define AGENT_RUN_TASK_H

#include "api/jobspec.h"
#include "api/limits.h"
#include "base/err.h"
#include "base/mem.h"

#define RUN_TASK_ARGV  (2 * LIMIT_RUN_ARGS + 1)
#define RUN_TASK_BYTES (2 << 20) /* of an environment; Linux takes a quarter of the stack's limit */

struct run_task_place {
    int rank, world, local, local_world, replica;
    const char *master;
    int64_t master_port;
};

void run_task_command(const struct jobspec_run *run, char *argv[RUN_TASK_ARGV]); /* borrowed */
/* What is inherited, over it the variables above, over these the spec's: all of it in a, an arena
 * of RUN_TASK_BYTES, or an error: never a part of it. */
int run_task_environment(const struct jobspec_run *run, const struct run_task_place *place,
    char *const *inherited, struct arena *a, char ***out, struct err *e);

#endif
