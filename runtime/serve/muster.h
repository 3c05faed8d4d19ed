/*
 * muster: what `llmjob plan` prints of several models that answer as one (spec.serve.ensemble):
 * what each rank's members take of its memory, by the plans that are made of them before they are
 * loaded (ensemble.h, readers.h), and what documents take beside them (retrieve.h). Nothing is
 * loaded, run or written.
 */
#ifndef RUNTIME_SERVE_MUSTER_H
#define RUNTIME_SERVE_MUSTER_H

#include "base/err.h"

#include <stdio.h>

/* `llmjob-rank muster --memory-bytes=N JOB`, that the command line starts (cli/plan.c): argv from
 * the first flag on, JOB a job.json. ERR_MEMORY, when all is printed: a rank has too little. Else
 * as ensemble_open or readers_open. */
int muster_run(int argc, char **argv, FILE *out, struct err *e);

#endif
