/*
 * hash: FNV-1a (Fowler, Noll and Vo), 64 bits: equal bytes have equal hashes on every machine and
 * in every version. For telling things apart and for tables; whoever chooses the bytes can make two
 * collide.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 14695981039346656037u

static inline uint64_t hash_bytes(uint64_t h, const void *bytes, size_t count)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < count; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

#endif
