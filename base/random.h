/*
 * random: the counter-based generator SplitMix64 (Steele, Lea and Flood, 2014): the same numbers
 * everywhere, for data orders, fresh weights, sampling and tests. Not for secrets: io_random.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

#ifdef __CUDACC__ /* device code draws from the same generator */
#define RANDOM_INLINE __host__ __device__ static inline
#else
#define RANDOM_INLINE static inline
#endif

#define RANDOM_STEP 0x9e3779b97f4a7c15u /* 2^64 by the golden ratio */

/* A number that looks drawn, the same for the same x. */
RANDOM_INLINE uint64_t random_mix(uint64_t x)
{
    x += RANDOM_STEP;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The next number of a sequence; any state begins one. */
RANDOM_INLINE uint64_t random_next(uint64_t *state)
{
    uint64_t z = random_mix(*state);
    *state += RANDOM_STEP;
    return z;
}

#endif
