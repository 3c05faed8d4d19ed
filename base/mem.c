/*
 * mem: the house's only caller of malloc. Adds overflow checks, an injected failure for tests, and
 * arenas.
 *
 * An arena is a list of blocks, newest first; allocation is a pointer bump in the newest block. The
 * limit counts rounded requests, not block slack, so what fits does not depend on the order of
 * requests.
 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fault mem_faults = {.what = "allocation"};

/* malloc(0) may be NULL, which would read as failure. */
static size_t at_least_one(size_t size)
{
    return size ? size : 1;
}

void *mem_alloc(size_t size)
{
    return fault_strikes(&mem_faults) ? NULL : malloc(at_least_one(size));
}

void *mem_zalloc(size_t size)
{
    return fault_strikes(&mem_faults) ? NULL : calloc(1, at_least_one(size));
}

void *mem_array(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return mem_zalloc(bytes);
}

void *mem_realloc(void *p, size_t size)
{
    return fault_strikes(&mem_faults) ? NULL : realloc(p, at_least_one(size));
}

void *mem_grow(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return mem_realloc(p, bytes);
}

void *mem_aligned(size_t align, size_t size)
{
    void *p;
    if (align < sizeof(void *))
        align = sizeof(void *);
    if (fault_strikes(&mem_faults) || posix_memalign(&p, align, at_least_one(size)))
        return NULL;
    return p;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    n = strnlen(s, n);
    char *p = mem_alloc(n + 1);
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void mem_free(void *p)
{
    free(p);
}

void mem_free_at(void *pointer_to_pointer)
{
    void *p;
    memcpy(&p, pointer_to_pointer, sizeof p);
    mem_free(p);
}

/* -- arena -- */

#define BLOCK_FIRST_BYTES 4096
#define BLOCK_MAX_BYTES   (256 << 10)

struct block {
    struct block *older;
    size_t size, used; /* of data */
    _Alignas(16) unsigned char data[];
};

struct arena {
    size_t limit, used;
    struct block *newest;
};

struct arena *arena_create(size_t limit_bytes)
{
    struct arena *a = mem_zalloc(sizeof *a);
    if (a)
        a->limit = limit_bytes;
    return a;
}

void arena_destroy(struct arena *a)
{
    if (!a)
        return;
    for (struct block *b = a->newest; b;) {
        struct block *older = b->older;
        mem_free(b);
        b = older;
    }
    mem_free(a);
}

void arena_destroy_at(void *pointer_to_pointer)
{
    arena_destroy(*(struct arena **)pointer_to_pointer);
}

void arena_reset(struct arena *a)
{
    while (a->newest && a->newest->older) {
        struct block *older = a->newest->older;
        mem_free(a->newest);
        a->newest = older;
    }
    if (a->newest)
        a->newest->used = 0;
    a->used = 0;
}

static struct block *add_block(struct arena *a, size_t need)
{
    size_t size = a->newest ? a->newest->size * 2 : BLOCK_FIRST_BYTES;
    if (size > BLOCK_MAX_BYTES)
        size = BLOCK_MAX_BYTES;
    if (size < need)
        size = need;
    struct block *b = mem_alloc(sizeof *b + size);
    if (!b)
        return NULL;
    b->older = a->newest;
    b->size = size;
    b->used = 0;
    a->newest = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size = at_least_one(size);
    if (size > a->limit - a->used)
        return NULL;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded > a->limit - a->used)
        return NULL;
    struct block *b = a->newest;
    if (!b || b->size - b->used < rounded)
        b = add_block(a, rounded);
    if (!b)
        return NULL;
    void *p = b->data + b->used;
    b->used += rounded;
    a->used += rounded;
    return memset(p, 0, rounded);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return arena_alloc(a, bytes);
}

char *arena_strdup(struct arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = arena_alloc(a, n);
    return p ? memcpy(p, s, n) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}
