/*
 * readers: several models that label texts as one (spec.serve.ensemble): each reads the same
 * tokens, and what all say of a text, or of a word, is averaged (average.h). One of them speaks for
 * all where requests ask what there is: labels, tokens, the longest text.
 *
 * Ranks may have some of them each (spec.serve.ensemble.ranks, members.h). Rank 0 has the texts,
 * tells the others what a pass reads (relay.h), and averages what all say (chorus.h): to the bit
 * what one rank says that has all of them.
 */
#ifndef RUNTIME_SERVE_READERS_H
#define RUNTIME_SERVE_READERS_H

#include "api/jobspec.h"
#include "runtime/serve/reader.h"

struct readers;

struct readers_conf {
    const struct jobspec *spec; /* borrowed */
    struct reader_conf job;     /* of the job's model, with whose tokenizer all read */
    struct coll *coll; /* of the ranks that have some each; borrowed; NULL: this one has all */
    int rank;
};

/* All are planned before one is loaded: ERR_MEMORY, with what each takes; else as members_open and
   reader_open. All ranks call. */
int readers_open(const struct readers_conf *c, struct readers **out, struct err *e);
void readers_close(struct readers *s);
/* NULL: this rank, which is not rank 0, has none. */
const struct reader *readers_first(const struct readers *s);
/* Members that are there, of so many; parameters and bytes of this rank's. */
void readers_tell(
    const struct readers *s, int *count, int *of, int64_t *parameters, int64_t *bytes);
/* reader_label's contract, of one pass: ENCODER_TEXTS texts of reader_rows tokens together, at
   most. The logits are the average's. Rank 0's. */
int readers_label(
    struct readers *s, const struct encoder_text *texts, int64_t n, float *out, struct err *e);

/* Rank 0's, where there are others: nothing is to be read now, nor will be. */
int readers_rest(struct readers *s, struct err *e);
int readers_end(struct readers *s, struct err *e);
/* The others': reads with rank 0 until the end: -ERR_DRAINED. */
int readers_follow(struct readers *s, struct err *e);

#endif
