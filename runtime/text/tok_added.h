/*
 * tok_added: finds added tokens in text, before anything is merged, as the tokenizers package does:
 * from left to right, the longest of those that begin at a place, each with its flags. Thread:
 * read-only after creation.
 */
#ifndef RUNTIME_TEXT_TOK_ADDED_H
#define RUNTIME_TEXT_TOK_ADDED_H

#include "base/buf.h"
#include "runtime/text/tok_def.h"

struct tok_added_one {
    const char *text; /* in the caller's bytes */
    size_t len;
    int32_t id;
    uint8_t flags;
    bool special;
    int32_t shorter; /* the longest other one that it begins with; -1: none */
};

struct tok_added {
    struct tok_added_one *list; /* by their bytes */
    int32_t count;
    int32_t from[257]; /* those of byte b: list[from[b] .. from[b + 1]) */
};

enum tok_added_list {
    TOK_ADDED_AS_IS,      /* those looked for in text as it is */
    TOK_ADDED_NORMALIZED, /* those looked for in normalised text */
    TOK_ADDED_GUARDED,    /* the former, and all that are special, as they are written */
    TOK_ADDED_LISTS
};

/* bytes, start: of all tokens (token i is bytes[start[i] .. start[i + 1])); they outlive it. */
int tok_added_init(struct tok_added *a, const struct tok_def *d, const char *bytes,
    const uint32_t *start, enum tok_added_list list, struct err *e);
void tok_added_done(struct tok_added *a);

struct tok_match {
    int32_t id;
    size_t from, to; /* with the spaces that it takes along */
};
/* The next one in text[at .. len), all before `at` being used up; false: there is none. Special
   ones count only where wanted, and hide what else their text holds where not. */
bool tok_added_next(const struct tok_added *a, const char *text, size_t len, size_t at,
    bool special, struct tok_match *out);

/*
 * A guard is a noncharacter of Unicode (U+FDD0), put behind the first character of what would be a
 * special token, or could become one with what follows the text; and before one that is a single
 * character. It survives what a template does with strings, and goes before the text is cut into
 * pieces. One that the text has itself is dropped: it is for no text that is interchanged.
 */
#define TOK_GUARD       "\xef\xb7\x90"
#define TOK_GUARD_BYTES 3
int tok_added_guard(const struct tok_added *a, const char *text, size_t len, struct buf *out);
int tok_added_unguard(const char *text, size_t len, struct buf *out);

#endif
