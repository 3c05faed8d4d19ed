/*
 * ngram: how a sequence may go on, as it did where its last tokens stood before: prompt lookup
 * (Saxena, https://github.com/apoorvumang/prompt-lookup-decoding). What is edited, quoted or laid
 * out as data repeats what stands before it. Pure; a token is put into the index once, and a look
 * into it is bounded, however long the sequence is.
 */
#ifndef RUNTIME_SERVE_NGRAM_H
#define RUNTIME_SERVE_NGRAM_H

#include "base/err.h"

#include <stdint.h>

#define NGRAM_TOKENS 3 /* that must stand there, at least */

struct ngram;

/* Of a sequence of `context` tokens at most, and no tokens yet. */
int ngram_create(int64_t context, struct ngram **out, struct err *e);
void ngram_destroy(struct ngram *n);
/* guess (most): what followed the place before the end of ids (count) behind which the longest part
   of that end stands, of equals the last such place; returns how many, 0: there is none. ids go on
   from those of the call before; count < context. guess may be ids + count. */
int ngram_guess(struct ngram *n, const int32_t *ids, int64_t count, int most, int32_t *guess);

#endif
