/*
 * point: what was told is kept for the process, and written as the environment would name it. Until
 * then no life has a number, and nothing is meant.
 */
#include "base/point.h"

#ifdef LLMJOB_FAULT
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic int64_t told_life, told_round;
static _Atomic int told_who = -1;

void point_tell(int who, int64_t life)
{
    atomic_store(&told_who, who);
    atomic_store(&told_life, life);
}

void point_round(int64_t n)
{
    atomic_store(&told_round, n);
}

void point_pass(const char *name)
{
    point_pass_at(name, atomic_load(&told_round));
}

void point_pass_at(const char *name, int64_t round)
{
    char here[120];
    const char *list = getenv(POINT_DIE_AT);
    if (!list)
        return;
    int n = snprintf(here, sizeof here, "%s:%lld:%d:%lld", name, (long long)round,
        atomic_load(&told_who), (long long)atomic_load(&told_life));
    for (const char *at = list; (at = strstr(at, here)); at += n)
        if ((at == list || at[-1] == ',') && (!at[n] || at[n] == ','))
            kill(getpid(), SIGKILL);
}
#endif
