/*
 * tok_normal: Unicode's normalisation forms (UAX #15), which some tokenizers apply to text before
 * they cut it, and what kind of character one is. The only file that includes utf8proc. Thread:
 * reentrant.
 */
#ifndef RUNTIME_TEXT_TOK_NORMAL_H
#define RUNTIME_TEXT_TOK_NORMAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tok_normal_form { TOK_NORMAL_NFC, TOK_NORMAL_NFD, TOK_NORMAL_NFKC, TOK_NORMAL_NFKD };
/* text: valid UTF-8. *out is its normal form, *out_len bytes: text itself when it is ASCII, else
   memory that the caller frees with mem_free (*owned, NULL otherwise). */
int tok_normal_to(enum tok_normal_form form, const char *text, size_t len, const char **out,
    size_t *out_len, void **owned, struct err *e);

/* The character that n bytes (of a valid sequence) are. */
uint32_t tok_normal_char(const char *s, size_t n);
bool tok_normal_is_space(uint32_t c); /* Unicode's White_Space */
bool tok_normal_is_word(uint32_t c);  /* letters, marks, decimal digits, connectors: \w */
bool tok_normal_is_mark(uint32_t c);  /* of any kind */
bool tok_normal_is_nonspacing(uint32_t c);
bool tok_normal_is_control(uint32_t c); /* control, format, private use */
/* Does a grapheme cluster (UAX #29) end between the two? *state: 0 at the begin of a cluster. */
bool tok_normal_breaks(uint32_t before, uint32_t c, int32_t *state);
/* One code point's simple case mapping: itself when it has none. */
uint32_t tok_normal_upper(uint32_t c);
uint32_t tok_normal_lower(uint32_t c);
uint32_t tok_normal_title(uint32_t c);
enum tok_normal_class {
    TOK_NORMAL_OTHER,
    TOK_NORMAL_LETTER,
    TOK_NORMAL_DIGIT,
    TOK_NORMAL_INVISIBLE, /* control, format, unassigned, separators but the space */
};
enum tok_normal_class tok_normal_class(uint32_t c);
bool tok_normal_printable(uint32_t c);

#endif
