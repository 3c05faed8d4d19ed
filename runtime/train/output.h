/*
 * output: the folder of a finished model. It appears whole or not at all: written under a temporary
 * name beside the final one, and renamed into place, where it replaces an older one of the same
 * job. Every such folder carries a mark, the file .llmjob-output: a line that names the job, then a
 * line a file with its size. What carries no mark, or the mark of another job, or holds a file that
 * the mark does not name or that was changed after it, is never replaced nor removed.
 */
#ifndef RUNTIME_TRAIN_OUTPUT_H
#define RUNTIME_TRAIN_OUTPUT_H

#include "base/err.h"
#include "api/jobspec.h"

#define OUTPUT_MARK ".llmjob-output"

/* Before the first step: could the output be put in place now? -ERR_USER with what to do when not.
   Makes the folders that the job writes in; removes what a killed export of this job left behind.
 */
int output_check(const struct jobspec *spec, struct err *e);

/* The temporary folder, empty but for the mark. The caller writes the files of output.c's table
   into it and fsyncs them. */
struct output;
int output_create(const struct jobspec *spec, struct output **out, struct err *e);
const char *output_folder(const struct output *o);
/* Puts it in place; on failure what stood there stands there still. */
int output_commit(struct output *o, struct err *e);
void output_destroy(struct output *o); /* NULL is fine; removes what was not put in place */
#define output_auto __attribute__((cleanup(output_destroy_at)))
void output_destroy_at(struct output **o);

#endif
