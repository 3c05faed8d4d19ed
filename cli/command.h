/*
 * command: what each file of a command gives to main's table. A command gets its own arguments
 * (argv[0] is its name), prints results to stdout, and returns 0 or -code; main prints the error
 * and turns the code into the exit status. A command that ends with a status of its own (a job's)
 * puts it into *status and returns 0.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/conf.h"
#include "base/err.h"

#include <stdio.h>

typedef int command_fn(int argc, char **argv, int *status, struct err *e);

command_fn command_run;
command_fn command_top;
command_fn command_plot;
command_fn command_validate;
command_fn command_checkpoint;
command_fn command_plan;
command_fn command_api_doc;

/*
 * Reads flags and exactly one operand, which may stand before or after the flags. 1: go on; 0:
 * --help was printed, usage first; or -ERR_USER. what names the operand in the message of its
 * absence.
 */
int command_flags(const struct conf_item *items, const char *usage, const char *what, int argc,
    char **argv, void *conf, const char **operand, struct err *e);

/* Prints a line. All that is in it is shown as base/utf8 shows text from outside: names, paths and
 * messages must not act on the terminal. */
void command_print(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
