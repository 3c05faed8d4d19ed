/*
 * tok_table: the two hash tables of a tokenizer: bytes of a token -> id, and (left id, right id) ->
 * rank and id of the merged token. Open addressing, at most half full, filled once, then read by
 * any thread.
 */
#ifndef RUNTIME_TEXT_TOK_TABLE_H
#define RUNTIME_TEXT_TOK_TABLE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct tok_names { /* bytes -> id */
    int32_t *slot; /* id, or -1 */
    uint64_t mask;
    const char *bytes; /* token i is bytes[start[i] .. start[i + 1]) */
    const uint32_t *start;
};
int tok_names_init(
    struct tok_names *t, int32_t vocab, const char *bytes, const uint32_t *start, struct err *e);
void tok_names_done(struct tok_names *t);
void tok_names_add(struct tok_names *t, int32_t id); /* the first of equal texts stays */
int32_t tok_names_find(const struct tok_names *t, const char *s, size_t len); /* -1: none */

struct tok_pair {
    int32_t left, right; /* left -1: empty slot */
    int32_t rank, merged;
};
struct tok_pairs {
    struct tok_pair *slot;
    uint64_t mask;
};
int tok_pairs_init(struct tok_pairs *t, int64_t count, struct err *e);
void tok_pairs_done(struct tok_pairs *t);
void tok_pairs_put(struct tok_pairs *t, struct tok_pair p); /* the last of equal pairs stays */
const struct tok_pair *tok_pairs_find(const struct tok_pairs *t, int32_t left, int32_t right);

#endif
