/*
 * ckpt_inspect: what a person asks of a folder of checkpoints: which generations there are, and
 * whether all that their files hold is as it was written. Prints to `out`; changes nothing, and
 * needs no claim: a training may go on beside it. What was set aside is told of as that, and what
 * it takes.
 */
#ifndef RUNTIME_CKPT_INSPECT_H
#define RUNTIME_CKPT_INSPECT_H

#include "base/err.h"

#include <stdint.h>
#include <stdio.h>

/* A line a generation, newest first, with what its manifest says; damaged is marked what can be
 * told without reading all data. ERR_USER: there is no such folder. */
int ckpt_inspect_list(const char *path, FILE *out, struct err *e);
/* Reads and hashes every file of the generation of a step, -1: of all. A line for each that is
 * whole, and one for each file that is not; ERR_CORRUPT, with the first of these, when there is
 * any. ERR_USER: there is no such generation. */
int ckpt_inspect_verify(const char *path, int64_t step, FILE *out, struct err *e);

/* `llmjob-rank checkpoint ls PATH` and `... verify PATH STEP`, that the command line starts: argv
 * from "ls" on. */
int ckpt_inspect_run(int argc, char **argv, FILE *out, struct err *e);

#endif
