/*
 * data: a text corpus as fixed-length training samples, in an order that does not depend on the
 * world.
 *
 * Text: the whole file is one document. JSONL: one document a line, field "text". A document is
 * what tok_encode_document makes of it, in JSONL followed by eos unless it ends with one. Auto goes
 * by the end of the file's name and refuses those it does not know. The stream is tokenised once,
 * and cut into samples of sequence_length + 1 tokens with stride sequence_length (the last partial
 * one is dropped). Sample k of epoch e is permutation(seed, e)[k], a pure function; the data
 * position is one number: samples consumed since the start. Invalid UTF-8 or JSON, an empty file,
 * or fewer tokens than one sample: ERR_DATA naming file and line.
 */
#ifndef RUNTIME_DATA_DATA_H
#define RUNTIME_DATA_DATA_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/text/tok.h"

#include <stdint.h>

struct data;

int data_open(const char *path, enum data_format format, const struct tok *t, int sequence_length,
    struct data **out, struct err *e);
/* A corpus given as ids, for tests and synthetic runs; ids are copied. */
int data_from_ids(
    const int32_t *ids, int64_t count, int sequence_length, struct data **out, struct err *e);
void data_close(struct data *d);
int64_t data_samples(const struct data *d); /* of one epoch */
int64_t data_tokens(const struct data *d);
uint64_t data_digest(const struct data *d); /* of every token: format and tokenizer count too */

/* How many of the last samples are kept for a validation loss where no file is given for it: one of
 * fifty, but four at least, and never more than a tenth: none of fewer than ten. Pure. */
int64_t data_held_out(int64_t samples);
/* The sample (0 .. samples-1) that stands at `position` samples since the start of training.
   Pure. */
int64_t data_sample_at(int64_t samples, uint64_t seed, int64_t position);
/* Inputs and targets (sequence_length each; targets are inputs shifted by one). */
void data_sample(const struct data *d, int64_t sample, int32_t *inputs, int32_t *targets);

/* Which positions of a step's global batch belong to this rank: [*first, *first + *count),
   contiguous, sizes differ by at most one, union over ranks = [0, batch). Pure. */
void data_share(int64_t batch, int world, int rank, int64_t *first, int64_t *count);

#endif
