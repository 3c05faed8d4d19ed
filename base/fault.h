/*
 * fault: fails the n-th call of a kind, so that a test can take every error path. A kind is one
 * counter, which whoever makes such calls asks before each. Only builds with FAULT=1 count; in
 * others nothing ever strikes. Any thread.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fault {
    const char *what; /* "allocation" */
    _Atomic uint64_t calls, at;
};

/* The n-th call from now fails, once; 0: none does. */
static inline void fault_arm(struct fault *f, uint64_t n)
{
    atomic_store(&f->at, 0);
    atomic_store(&f->calls, 0);
    atomic_store(&f->at, n);
}

static inline uint64_t fault_calls(const struct fault *f) /* since it was armed */
{
    return atomic_load(&f->calls);
}

/* Counts a call; whether it is to fail. */
static inline bool fault_strikes(struct fault *f)
{
#ifdef LLMJOB_FAULT
    uint64_t n = atomic_fetch_add(&f->calls, 1) + 1;
    return n == atomic_load(&f->at);
#else
    (void)f;
    return false;
#endif
}

#endif
