/*
 * vocab: the texts of a tokenizer's tokens as a tree, and which of them may follow: the tree is
 * walked with a matcher, whole branches left out. What was found of a state goes with it.
 * Read-only once it is made: any number of matchers use it.
 */
#ifndef RUNTIME_GRAMMAR_VOCAB_H
#define RUNTIME_GRAMMAR_VOCAB_H

#include "base/buf.h"
#include "runtime/grammar/matcher.h"

#define VOCAB_TOKEN_BYTES 255 /* a longer one is never allowed */

struct vocab;

/* text_fn adds the bytes of a token; none: it is never allowed. */
int vocab_create(int32_t count, int (*text_fn)(void *user, int32_t id, struct buf *out), void *user,
    struct vocab **out, struct err *e);
void vocab_destroy(struct vocab *v);
/* *bits (count, 64 a word): the tokens that may follow in the matcher's state; m's, until its next
   matcher_take. */
int vocab_allowed(const struct vocab *v, struct matcher *m, const uint64_t **bits, struct err *e);

#endif
