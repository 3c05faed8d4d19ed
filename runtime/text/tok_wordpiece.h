/*
 * tok_wordpiece: WordPiece (Schuster and Nakajima 2012, as BERT has it): a word is cut into the
 * longest token that it begins with, then the longest that the rest begins with, and so on; where
 * that ends without a token, the whole word is the unknown token. Thread: read-only after creation.
 */
#ifndef RUNTIME_TEXT_TOK_WORDPIECE_H
#define RUNTIME_TEXT_TOK_WORDPIECE_H

#include "runtime/text/tok_def.h"
#include "runtime/text/tok_table.h"

struct tok_wordpiece {
    const struct tok_names *names; /* borrowed */
    char *prefix;                  /* of tokens that continue a word: "##" */
    size_t prefix_len;
    size_t longest; /* bytes of a token */
    int64_t word_limit;
    int32_t unknown;
    bool cleanup;
};

/* names: of the normal tokens, as they are written. */
int tok_wordpiece_init(
    struct tok_wordpiece *m, const struct tok_def *d, const struct tok_names *names, struct err *e);
void tok_wordpiece_done(struct tok_wordpiece *m);
int tok_wordpiece_encode(const struct tok_wordpiece *m, const char *word, size_t len,
    struct tok_ids *out, struct err *e);
/* Appends a token's text: a space before what begins a word, unless out is empty. */
int tok_wordpiece_decode(
    const struct tok_wordpiece *m, const char *token, size_t len, struct buf *out);

#endif
