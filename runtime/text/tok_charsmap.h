/*
 * tok_charsmap: SentencePiece's table of what characters become (precompiled_charsmap): the size in
 * bytes of a double-array trie (Aoe 1989, as Darts-clone lays it out) as 32 bits, its units of 32
 * bits each, all little-endian, then texts that end in NUL. Keys are bytes, values offsets into the
 * texts. Whatever a file holds, nothing outside it is read, and a look-up ends with its key.
 * Thread: read-only.
 */
#ifndef RUNTIME_TEXT_TOK_CHARSMAP_H
#define RUNTIME_TEXT_TOK_CHARSMAP_H

#include "runtime/text/tok_steps.h"

#include <stdbool.h>
#include <stdint.h>

struct tok_charsmap {
    const char *units; /* count of 4 bytes each, not aligned */
    uint32_t count;
    struct tok_text texts; /* valid UTF-8 */
};

/* map borrows data; false: it is no such table. */
bool tok_charsmap_init(struct tok_charsmap *map, struct tok_text data);
/* Is it one, and are its texts UTF-8? Of what a file holds to be asked once, before it is used. */
bool tok_charsmap_check(struct tok_text data);
/* What the shortest key becomes that the n bytes at s begin with; false: there is none. */
bool tok_charsmap_find(
    const struct tok_charsmap *map, const char *s, size_t n, struct tok_text *out);
/* Bytes of the longest key that the n bytes at s begin with, and what it becomes; 0: there is
   none. A key that ends within a character is none. */
size_t tok_charsmap_longest(
    const struct tok_charsmap *map, const char *s, size_t n, struct tok_text *out);

#endif
