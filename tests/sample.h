/*
 * sample: of what takes long a test tries a part, so that all tests end in time: of each
 * LLMJOB_SAMPLE neighbours in a list (unset: 1, which is all) one, and LLMJOB_SEED says which.
 * `make prove` tries all.
 */
#ifndef TESTS_SAMPLE_H
#define TESTS_SAMPLE_H

#include "base/random.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t sample_setting(const char *name)
{
    const char *text = getenv(name);
    uint64_t value = text ? strtoull(text, NULL, 10) : 0;
    return value ? value : 1;
}

/* One of each n neighbours. */
static inline bool sample_takes_of(uint64_t n, uint64_t i)
{
    return random_mix(random_mix(sample_setting("LLMJOB_SEED")) + i / n) % n == i % n;
}

static inline bool sample_takes(uint64_t i)
{
    return sample_takes_of(sample_setting("LLMJOB_SAMPLE"), i);
}

/* Of what takes longest: of each so many neighbours one. */
static inline uint64_t sample_few(void)
{
    uint64_t n = sample_setting("LLMJOB_SAMPLE");
    return n > 1 ? 2 * n : 1;
}

/* Of what shows the same in each build: under AddressSanitizer one of n neighbours, without it the
   others, so that all are tried once. */
static inline bool sample_takes_here(uint64_t n, uint64_t i)
{
#ifdef __SANITIZE_ADDRESS__
    return sample_takes_of(n, i);
#else
    return n == 1 || !sample_takes_of(n, i);
#endif
}

/* Of what threads do with much memory, each access of which ThreadSanitizer writes down: there one
   of LLMJOB_SAMPLE neighbours, in the other builds all. */
static inline bool sample_takes_traced(uint64_t i)
{
#ifdef __SANITIZE_THREAD__
    return sample_takes(i);
#else
    (void)i;
    return true;
#endif
}

static inline void sample_print(void)
{
    printf("LLMJOB_SAMPLE=%llu LLMJOB_SEED=%llu\n",
        (unsigned long long)sample_setting("LLMJOB_SAMPLE"),
        (unsigned long long)sample_setting("LLMJOB_SEED"));
}

#endif
