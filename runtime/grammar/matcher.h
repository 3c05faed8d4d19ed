/*
 * matcher: a text that is being written, and what an automaton allows behind it. A state is a
 * number: of a set of places in the automaton, each with the calls that are open there. States and
 * the ways between them are found when they are first asked for, and kept, so that a byte costs a
 * look into a table; what is kept is bounded (about 2 MiB between tokens), and begins anew with
 * the present state when it is full.
 *
 * From every state but MATCHER_NO some text leads to an end. One token may cost MATCHER_WORK; a
 * matcher that exceeds that, or has no memory, fails: it allows nothing more. One thread.
 */
#ifndef RUNTIME_GRAMMAR_MATCHER_H
#define RUNTIME_GRAMMAR_MATCHER_H

#include "base/err.h"
#include "runtime/grammar/automaton.h"

#include <stdbool.h>
#include <stdint.h>

#define MATCHER_NO      0       /* the state: no text goes on from here */
#define MATCHER_UNKNOWN (-1)    /* nobody has asked yet (matcher_known) */
#define MATCHER_WORK    4000000 /* places looked at, some 20 ns each */

struct matcher;

/* a is borrowed, and finished. At the start of a text. */
int matcher_create(const struct automaton *a, struct matcher **out, struct err *e);
void matcher_destroy(struct matcher *m);
/* Where the text is. A number is good until the next matcher_take. */
int32_t matcher_state(const struct matcher *m);
/* The state behind one more byte. */
int32_t matcher_next(struct matcher *m, int32_t state, uint8_t byte);
/* The same where that was found before, else MATCHER_UNKNOWN: no work is done. */
int32_t matcher_known(const struct matcher *m, int32_t state, uint8_t byte);
/* Is the text whole there? */
bool matcher_may_end(const struct matcher *m, int32_t state);
/* Is it, and nothing may follow? */
bool matcher_is_over(const struct matcher *m);
/* The text goes on. -ERR_DATA: it may not; then nothing is changed. -ERR_USER, -ERR_MEMORY: it has
   failed. */
int matcher_take(struct matcher *m, const char *bytes, size_t len, struct err *e);
int matcher_failure(const struct matcher *m, struct err *e); /* 0: it has not failed */
/* Memory of the caller's (mem_alloc) that goes with a state, and is freed with it; NULL: none. */
void *matcher_kept(const struct matcher *m, int32_t state);
void matcher_keep(struct matcher *m, int32_t state, void *p, size_t bytes);

#endif
