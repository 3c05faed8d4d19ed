/*
 * tok_steps: a normaliser: what a tokenizer does to a text before it cuts it, a list of steps that
 * each make a text of a text (tokenizer.json's "normalizer", taken apart). Pure but for memory.
 *
 * Equal to the tokenizers package (0.23) but for characters that one of the two does not know: of
 * kinds of characters it has the tables of Unicode 8, so that some 400 later marks, 130 later signs
 * of punctuation and 20 later control characters are none for it; of case it has newer ones than
 * utf8proc (55 letters).
 */
#ifndef RUNTIME_TEXT_TOK_STEPS_H
#define RUNTIME_TEXT_TOK_STEPS_H

#include "base/err.h"

#include <stddef.h>

struct tok_split;

#define TOK_STEPS_LIMIT 32

struct tok_text {
    const char *s;
    size_t len;
};

enum tok_step_kind {
    TOK_STEP_NFC,
    TOK_STEP_NFD,
    TOK_STEP_NFKC,
    TOK_STEP_NFKD,
    TOK_STEP_CLEAN,            /* no control characters; white space becomes a space */
    TOK_STEP_SPACE_HAN,        /* spaces around Han characters */
    TOK_STEP_STRIP_NONSPACING, /* no nonspacing marks */
    TOK_STEP_STRIP_MARKS,      /* no marks of any kind */
    TOK_STEP_LOWER,
    TOK_STEP_TRIM_LEFT, /* no white space there */
    TOK_STEP_TRIM_RIGHT,
    TOK_STEP_PREPEND,  /* `to`, before a text that is not empty */
    TOK_STEP_REPLACE,  /* `from`, which is not empty, by `to` */
    TOK_STEP_MATCHES,  /* what `by` matches, whose expression `from` is, by `to` */
    TOK_STEP_CHARSMAP, /* what characters become by the table that `from` is (tok_charsmap) */
    TOK_STEP_LONGEST,  /* the same as SentencePiece itself has it, by the longest key */
    TOK_STEP_SPACES,   /* runs of spaces become one, and none stands at an end */
    TOK_STEP_NMT,      /* fewer control characters than CLEAN; some others become a space, too */
};

struct tok_step {
    enum tok_step_kind kind;
    struct tok_text from, to; /* borrowed */
    const struct tok_split *by;
};

struct tok_steps {
    struct tok_step list[TOK_STEPS_LIMIT];
    int count;
};

/* text: valid UTF-8. *out is what the steps make of it, *out_len bytes: a part of text where they
   change nothing, else memory that the caller frees with mem_free (*owned, NULL otherwise). */
int tok_steps_run(const struct tok_steps *steps, const char *text, size_t len, const char **out,
    size_t *out_len, void **owned, struct err *e);

#endif
