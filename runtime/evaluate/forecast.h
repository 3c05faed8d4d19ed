/*
 * forecast: what `llmjob plan` prints of an evaluation or a served model: the layouts that its
 * ranks may have, what each takes of a rank's memory, and which of them the job gets: its own, for
 * nothing is chosen.
 * Nothing is run or written; of the model configuration and tensors' types are read, of texts
 * nothing.
 */
#ifndef RUNTIME_EVALUATE_FORECAST_H
#define RUNTIME_EVALUATE_FORECAST_H

#include "base/err.h"

#include <stdio.h>

/* `llmjob-rank forecast [flags] JOB`, that the command line starts (cli/plan.c): argv from
 * the first flag on, JOB a job.json. ERR_MEMORY, when all is printed: the job's layout does not
 * fit. */
int forecast_run(int argc, char **argv, FILE *out, struct err *e);

#endif
