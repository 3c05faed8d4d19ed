/*
 * forecast: what `llmjob plan` prints of an evaluation or one served model: the layouts that its
 * ranks may have, what each takes of a rank's memory, and which of them the job gets: its own, for
 * nothing is chosen.
 * Nothing is run or written; of the model configuration and tensors' types are read, of texts
 * nothing.
 */
#ifndef RUNTIME_EVALUATE_FORECAST_H
#define RUNTIME_EVALUATE_FORECAST_H

#include "api/jobspec.h"

#include <stdio.h>

/* What a rank that serves needs beside its model for the documents that it answers from, of a pod's
 * memory or of a device's (runtime/serve/retrieve.h); 0: there are none. */
typedef int forecast_documents_fn(
    const struct jobspec *spec, bool pods, int64_t *bytes, struct err *e);

/* `llmjob-rank forecast [flags] JOB`, that the command line starts (cli/plan.c): argv from
 * the first flag on, JOB a job.json. ERR_MEMORY, when all is printed: the job's layout does not
 * fit. */
int forecast_run(
    int argc, char **argv, forecast_documents_fn *documents_fn, FILE *out, struct err *e);

#endif
