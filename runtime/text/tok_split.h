/*
 * tok_split: cuts text into the pieces that a model makes tokens of: a list of regular expressions,
 * each applied to the pieces of the one before; what an expression matches and what lies between
 * matches are pieces alike ("Isolated" in tokenizer.json), unless one of the two is dropped. The
 * only file that includes PCRE2.
 *
 * Patterns are written for Oniguruma, whose \s is Unicode's White_Space; PCRE2's also holds U+180E,
 * so \s and \S are spelled out before compiling, and \uHHHH, which PCRE2 lacks. Thread: running is
 * reentrant, adding is not.
 */
#ifndef RUNTIME_TEXT_TOK_SPLIT_H
#define RUNTIME_TEXT_TOK_SPLIT_H

#include "base/buf.h"
#include "runtime/text/tok_steps.h"

#include <stdbool.h>
#include <stddef.h>

#define TOK_SPLIT_STAGES 8
/* GPT-2's expression, which most after it contain. */
#define TOK_SPLIT_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+" \
    "|\\s+(?!\\S)|\\s+"

enum tok_split_drop { TOK_SPLIT_DROP_NONE, TOK_SPLIT_DROP_MATCHES, TOK_SPLIT_DROP_REST };

struct tok_split;

int tok_split_create(struct tok_split **out, struct err *e);
void tok_split_destroy(struct tok_split *s);
int tok_split_add(struct tok_split *s, const char *pattern, enum tok_split_drop drop,
    struct err *e); /* ERR_DATA: bad pattern */
/* text: valid UTF-8. piece_fn is given the pieces in order; its failure ends the run and is
 * returned. */
int tok_split_run(const struct tok_split *s, const char *text, size_t len,
    int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e), void *context,
    struct err *e);
/* The same of text[from .. len), where `from` is the end of a piece of text, of which more follows
 * behind len: only those pieces that it cannot change, whatever it is. *done: where they end; from,
 * when there are none. Without a stage there are none. */
int tok_split_some(const struct tok_split *s, const char *text, size_t from, size_t len,
    size_t *done, int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e),
    void *context, struct err *e);
/* The same of what is left at the end of text. */
int tok_split_rest(const struct tok_split *s, const char *text, size_t from, size_t len,
    int (*piece_fn)(void *context, const char *piece, size_t len, struct err *e), void *context,
    struct err *e);
bool tok_split_any(const struct tok_split *s); /* a stage */
/* Appends text with `to` for all that its first stage matches. */
int tok_split_replace(const struct tok_split *s, const char *text, size_t len, struct tok_text to,
    struct buf *out, struct err *e);
/* May its first stage match nothing at all, and so everywhere? */
bool tok_split_matches_empty(const struct tok_split *s);
/* Bytes before `from` that count, at most. */
size_t tok_split_behind(const struct tok_split *s);

#endif
