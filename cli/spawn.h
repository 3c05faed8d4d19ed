/*
 * spawn: child processes of the command line: long-lived ones watched by pidfd, and short ones
 * whose output is read. Every child is the leader of its own process group, so that Ctrl-C reaches
 * only us and a kill reaches what it began. A child gets SIGHUP when this process ends, however it
 * ends.
 */
#ifndef CLI_SPAWN_H
#define CLI_SPAWN_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    int pidfd; /* readable when it ended */
};

/* The given path; else `name` beside the program `beside` (NULL: this one); else fallback. */
void spawn_find(const char *given, const char *beside, const char *name, const char *fallback,
    char *out, size_t size);

#define SPAWN_PASSED 3 /* the descriptor of a child that has been handed one */

/* argv[0] is a path, or a name looked for in PATH. set: "NAME=value", over what this process's
 * environment says of NAME; or NULL. pass: a descriptor of ours that the child has, too, as
 * SPAWN_PASSED; -1: none. Output goes to the end of log (made when absent). */
int spawn_start(const char *const *argv, const char *set, int pass, const char *log,
    struct child *out, struct err *e);
/* Reaps it when it has ended: true and its status (the exit status, or 128 + the signal); never
 * blocks. */
bool spawn_ended(struct child *c, int *status);
void spawn_signal(const struct child *c, int sig);       /* the process */
void spawn_signal_group(const struct child *c, int sig); /* and all that it began */
/* SIGTERM; after deadline_ms (monotonic) SIGKILL to the group; reaps. */
void spawn_end(struct child *c, int64_t deadline_ms);

/* Runs to its end, at most timeout_ms; stdout is appended to *out, the first line of stderr becomes
 * the error's text. 0 when it exits 0, -ERR_RETRY otherwise, -ERR_HANG on time-out (killed),
 * -ERR_USER when there is no such program. */
int spawn_capture(const char *const *argv, int64_t timeout_ms, struct buf *out, struct err *e);

#endif
