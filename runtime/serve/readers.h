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

struct readers_facts {
    int count, of;      /* members that are there, in all ranks, of so many */
    int64_t context;    /* tokens of a text, at most, that all read */
    int64_t parameters; /* of this rank's, when they are loaded */
    int64_t bytes;      /* of these, and of programs beside them */
};

/* All are planned, and none is loaded: ERR_MEMORY, with what each takes; else as members_open and
   reader_plan. All ranks call, and then load. job.dev NULL: they are not loaded. */
int readers_open(const struct readers_conf *c, struct readers **out, struct err *e);
int readers_load(struct readers *s, struct err *e);
void readers_close(struct readers *s);
void readers_tell(const struct readers *s, struct readers_facts *out);
/* Bytes that this rank's i-th member takes; *name: borrowed. */
int64_t readers_member(const struct readers *s, int i, const char **name);
/* Loaded; NULL: this rank, which is not rank 0, has none. */
const struct reader *readers_first(const struct readers *s);
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
