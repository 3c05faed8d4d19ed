/*
 * term: whom a pod follows. A term is a number that only grows in a job; whoever issues it (the
 * controller, the standalone run) gives a new one whenever replica 0's agent is another than
 * before, so of two coordinators the one of the greater term is the present one. A member keeps the
 * greatest that has proved itself, also across restarts of its container, and follows no lower one:
 * an older coordinator that still runs somewhere can take nothing back. The rule is pure;
 * agent/member.c applies it, tests/agent/test_term.c runs worlds of two coordinators against it.
 */
#ifndef AGENT_TERM_H
#define AGENT_TERM_H

#include "base/err.h"
#include "api/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct term {
    int64_t number;             /* 0: nobody's yet */
    char uid[LIMIT_NAME_BYTES]; /* pod of the coordinator that has it */
};

/* Whether who comes with this term may be followed: a greater one, or the same of the same pod. */
bool term_admits(const struct term *seen, int64_t number, const char *uid);
void term_take(struct term *seen, int64_t number, const char *uid);
/* In the run folder. What is absent or damaged reads as nobody's. */
void term_load(const char *run_dir, struct term *out);
int term_save(const char *run_dir, const struct term *t, struct err *e);

#endif
