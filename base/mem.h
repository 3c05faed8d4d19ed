/*
 * mem: allocation that can be made to fail, and arenas.
 *
 * Every allocation of the house goes through here (base/banned.h forbids malloc and friends), so a
 * test can fail the n-th one (FAULT=1 builds). All functions return NULL on failure and never
 * abort; callers turn that into ERR_MEMORY. mem_free(NULL) is fine. Thread: the functions are as
 * thread-safe as malloc; an arena belongs to one thread.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size);               /* not zeroed */
void *mem_zalloc(size_t size);              /* zeroed */
void *mem_array(size_t count, size_t size); /* zeroed; NULL when count * size overflows */
void *mem_realloc(void *p, size_t size);    /* p stays valid on failure */
/* realloc to count * size with overflow check */
void *mem_grow(void *p, size_t count, size_t size);
void *mem_aligned(size_t align, size_t size); /* align: a power of two; free with mem_free */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
void mem_free(void *p);

/* Cleanup attribute: mem_autofree char *p = ...; frees at scope end. */
#define mem_autofree __attribute__((cleanup(mem_free_at)))
void mem_free_at(void *pointer_to_pointer);

extern struct fault mem_faults; /* of the functions above */

/* An arena: many small allocations with one life, bounded by limit_bytes. */
struct arena;
struct arena *arena_create(size_t limit_bytes);
void arena_destroy(struct arena *a);
#define arena_auto __attribute__((cleanup(arena_destroy_at)))
void arena_destroy_at(void *pointer_to_pointer);
void arena_reset(struct arena *a);               /* keeps its first block */
void *arena_alloc(struct arena *a, size_t size); /* zeroed, 16-byte aligned; NULL at the limit */
void *arena_array(struct arena *a, size_t count, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t arena_used(const struct arena *a);

#endif
