/*
 * words: a text as the words that a model labels: what stands between white space, without the
 * punctuation at its ends, each character of which is a word by itself, as files of labelled words
 * have them; and labels of words put together to entities. Pure.
 */
#ifndef RUNTIME_SERVE_WORDS_H
#define RUNTIME_SERVE_WORDS_H

#include <stdbool.h>
#include <stdint.h>

struct words_word {
    int64_t at, end; /* bytes of the text, [at, end) */
};
/* The word behind *w, whose end is 0 at first, in place of it; false: there is none. text (len):
   valid UTF-8. */
bool words_next(const char *text, int64_t len, struct words_word *w);

/* Labels go by IOB2 or IOBES where they begin with a letter and a hyphen ("B-PER"), which is no
   part of an entity's kind; O, and only O, is none. */
struct words_entity {
    const char *kind; /* within the label; NULL: there is none */
    struct words_word place;
    double sum; /* of its words' scores */
    int64_t words;
};
/* A word, its label and how sure that is, behind those before: true, when it ended the entity *x,
   which is *ended then; *x is the one that goes on. */
bool words_add(struct words_entity *x, const struct words_word *w, const char *label, double score,
    struct words_entity *ended);

#endif
