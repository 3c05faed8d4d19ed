/*
 * readers: several models that label texts as one (spec.serve.ensemble): each reads the same
 * tokens, and what all say of a text, or of a word, is averaged (average.h). One of them speaks for
 * all where requests ask what there is: labels, tokens, the longest text.
 */
#ifndef RUNTIME_SERVE_READERS_H
#define RUNTIME_SERVE_READERS_H

#include "api/jobspec.h"
#include "runtime/serve/reader.h"

struct readers;

/* c: of the job's model, with whose tokenizer all read; spec is borrowed. All are planned before
   one is loaded: ERR_MEMORY, with what each takes; else as members_open and reader_open. */
int readers_open(
    const struct jobspec *spec, const struct reader_conf *c, struct readers **out, struct err *e);
void readers_close(struct readers *s);
const struct reader *readers_first(const struct readers *s);
/* Members that are there, of so many; parameters and bytes of all. */
void readers_tell(
    const struct readers *s, int *count, int *of, int64_t *parameters, int64_t *bytes);
/* reader_label's contract, of one pass: ENCODER_TEXTS texts of reader_rows tokens together, at
   most. The logits are the average's. */
int readers_label(
    struct readers *s, const struct encoder_text *texts, int64_t n, float *out, struct err *e);

#endif
