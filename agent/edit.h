/*
 * edit: what of a job's spec an agent follows beside the desired state: the adapters of a served
 * model under spec.serve.adapterMemory. What is edited is written to a job file in the run folder
 * first, which ranks and agents that start later read, and then told to whoever runs.
 */
#ifndef AGENT_EDIT_H
#define AGENT_EDIT_H

#include "agent/roster.h"
#include "api/jobspec.h"
#include "api/report.h"
#include "base/err.h"

struct edit {              /* borrowed, but for the arena */
    struct jobspec *spec;  /* its adapters become those of d */
    struct roster *roster; /* or NULL */
    const char *run_dir;
    char *job_file; /* (LIMIT_PATH_BYTES) becomes that of the run folder */
    struct arena *arena;
};

void edit_done(struct edit *x);
/* Nothing changes unless all does. x may be NULL. */
int edit_desired(struct edit *x, const struct desired *d, struct err *e);

#endif
