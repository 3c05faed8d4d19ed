/*
 * walk: texts that an automaton allows, drawn at random without a model: byte by byte, or token by
 * token of a small vocabulary. One that grows long is led to its end.
 */
#ifndef TESTS_RUNTIME_GRAMMAR_WALK_H
#define TESTS_RUNTIME_GRAMMAR_WALK_H

#include "runtime/grammar/vocab.h"

#define WALK_LONG  400   /* bytes, from which on the end is looked for */
#define WALK_MOST  20000 /* bytes; what is longer is drawn again, */
#define WALK_TRIES 50    /* so often: what holds two of its kind may never end */

/* All bytes, and pieces of JSON of several. */
int walk_vocab(struct vocab **out, struct err *e);
/* v: by its tokens; NULL: by bytes. 0: *out has a whole text. */
int walk_draw(const struct automaton *a, const struct vocab *v, uint64_t *seed, struct buf *out,
    struct err *e);
/* Is text one of the automaton's? */
bool walk_takes(const struct automaton *a, const char *text, size_t len);
/* The automaton of a schema's text; path: of a refusal. */
int walk_compile(const char *schema, struct automaton *a, char path[128], struct err *e);

#endif
