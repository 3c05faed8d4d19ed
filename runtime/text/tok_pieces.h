/*
 * tok_pieces: a vocabulary of SentencePiece's BPE has no list of merges: two pieces beside one
 * another may become one wherever that is a piece, the best by its score first (Kudo and
 * Richardson, arXiv:1808.06226). Here that becomes a list. Pure but for memory.
 */
#ifndef RUNTIME_TEXT_TOK_PIECES_H
#define RUNTIME_TEXT_TOK_PIECES_H

#include "runtime/text/tok_def.h"

#define TOK_PIECE_BYTES 1024 /* of a piece that merges make */

/* Sets d's merges from its tokens: all ways to cut one that text is made of in two such. scores
   (vocab): by these, the greatest first, equal ones at once, as llama.cpp does; NULL: by the
   tokens' numbers, then by the first half's and the second half's characters, as transformers does
   with tokenizer.model. ERR_DATA: a longer piece, a score that is no number, or more merges than
   there may be; path is only for messages. */
int tok_pieces_merges(
    struct tok_def *d, const double *scores, struct arena *a, const char *path, struct err *e);

/* What scores (vocab) say the same as d's list of merges does; ERR_DATA: none do. */
int tok_pieces_scores(const struct tok_def *d, float *scores, const char *path, struct err *e);

#endif
