/*
 * pages: whose the pages of a key/value cache are. A page belongs to any number of sequences that
 * begin with the same tokens; one that nobody has keeps its tokens' keys until it is wanted for
 * others, the longest unused first, and until then a sequence that begins with them finds it.
 *
 * A full page is known by its tokens and the page before it, and found by a hash of both; what is
 * found is compared, so that no two texts can be taken for each other. Where a text begins stands a
 * salt: what was computed under another is not found. Pure: no device, no clock.
 */
#ifndef RUNTIME_SERVE_PAGES_H
#define RUNTIME_SERVE_PAGES_H

#include "base/err.h"

#include <stdint.h>

#define PAGE_NONE (-1)

struct pages;

/* count >= 1 pages of `tokens` tokens. */
int pages_create(int32_t count, int32_t tokens, struct pages **out, struct err *e);
void pages_destroy(struct pages *p);
/* A page for one sequence, PAGE_NONE: all belong to some. */
int32_t pages_take(struct pages *p);
/* One sequence less has it. Drop a sequence's last page first: what is kept longest is then what
   most sequences can begin with. */
void pages_drop(struct pages *p, int32_t page);
/* How many pages_take would give. */
int32_t pages_left(const struct pages *p);
/* The keys of ids (tokens) stand in the page, behind those of page `before` of the sequence, sealed
   too; PAGE_NONE: it is the first. From now on it is found, by who names the same salt: what else
   keys depend on, and who may know them. */
void pages_seal(struct pages *p, uint64_t salt, int32_t page, int32_t before, const int32_t *ids);
/* The pages that a sequence of `count` tokens can begin with, whole ones; each is taken. Returns
   how many. */
int64_t pages_find(struct pages *p, uint64_t salt, const int32_t *ids, int64_t count, int32_t *out);

#endif
