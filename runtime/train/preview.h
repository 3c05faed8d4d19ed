/*
 * preview: what `llmjob plan` prints: the layouts that a training may have, in the order of what a
 * step of each is predicted to take, and which of them it would get. Nothing is run or written; of
 * the model its configuration is read, of texts nothing.
 */
#ifndef RUNTIME_TRAIN_PREVIEW_H
#define RUNTIME_TRAIN_PREVIEW_H

#include "base/err.h"

#include <stdio.h>

/* `llmjob-rank plan [flags] JOB`, that the command line starts (cli/plan.c): argv from the first
 * flag on, JOB a job.json. ERR_MEMORY, when all is printed: nothing fits. */
int preview_run(int argc, char **argv, FILE *out, struct err *e);

#endif
