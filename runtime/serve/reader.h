/*
 * reader: a model that reads whole texts, with its tokenizer: embeds them, or tells their labels or
 * those of their words. What a served model of that kind has, and what anything else that wants
 * embeddings opens: text to tokens, tokens to what is found of them. What that is of a text depends
 * on no other text, to the bit, where the device's rows do not (encoder.h). One thread.
 */
#ifndef RUNTIME_SERVE_READER_H
#define RUNTIME_SERVE_READER_H

#include "api/wire.h"
#include "runtime/family/weights.h"
#include "runtime/model/encoder.h"
#include "runtime/text/tok.h"

struct reader;

struct reader_conf { /* borrowed; weights and dev until the reader is closed */
    struct weights *weights;
    struct dev *dev;
    const struct tok *tok;  /* of other files, with the same tokens; NULL: the model's own */
    enum dtype t;           /* of large products' weights that are F32 in the files */
    int64_t context;        /* tokens of a text, at most; 0: what the model says */
    int64_t budget_bytes;   /* memory that may be used */
    bool beside;            /* another model, with whose memory programs are counted */
    struct wire_page *page; /* a beat a layer; or NULL */
};

struct reader_facts {
    enum wire_does does; /* EMBED, CLASSIFY or TAG */
    int64_t context;     /* tokens of a text, at most */
    int64_t dim;         /* of an embedding */
    bool normalized;     /* embeddings have length 1 */
    int64_t labels;
    const char *const *names; /* (labels) */
    bool several;             /* any number of them hold, each told by itself */
    int64_t parameters, memory_bytes;
};

/* Of a model whose folder may say how its embeddings are made (runtime/family/pooling.h): what it
   does. ERR_DATA: that is not supported. */
int reader_does(const struct weights *w, enum wire_does *out, struct err *e);

/* Tokens of a text, and bytes, that one so opened would have; of the latter the tokenizer and
   programs take none. Fails as reader_open, but for memory. */
int reader_plan(const struct reader_conf *c, int64_t *context, int64_t *bytes, struct err *e);
/* Of a pod's memory, what programs take beside such models, however many (memplan_programs); of one
   that stands beside another model, its vocabulary. 0 without a device. */
int64_t reader_programs(const struct reader_conf *c);
/* ERR_USER: the model generates; its context is less. ERR_MEMORY: it does not fit. */
int reader_open(const struct reader_conf *c, struct reader **out, struct err *e);
void reader_close(struct reader *r);
const struct reader_facts *reader_facts(const struct reader *r);
const struct tok *reader_tok(const struct reader *r);
/* Of all that makes an embedding of tokens: weights, their type, what is done with hidden states;
   of a model that embeds. */
uint64_t reader_digest(const struct reader *r);
void reader_beat(const struct reader *r);    /* for what is done in place of reading */
int64_t reader_rows(const struct reader *r); /* tokens that are read at once, at most */

/* Appends a text's tokens, or those of two as one, whose types then stand beside all that ids has.
   most: of a longer text so many are kept, what is put around it among them; 0: it is refused, as
   is an empty one (ERR_USER). second NULL: there is one. */
struct reader_text {
    const char *first, *second;
    int64_t most;
};
int reader_tokens(const struct reader *r, const struct reader_text *t, struct tok_ids *ids,
    struct tok_ids *types, struct err *e);

/* Would it be read? encoder_check. */
int reader_check(const struct reader *r, const struct encoder_text *t, struct err *e);
/* out (n, dim): embeddings of n texts, of any number; as encoder_embed, and normalized. */
int reader_embed(
    struct reader *r, const struct encoder_text *texts, int64_t n, float *out, struct err *e);
/* The logits of their labels: encoder_label. */
int reader_label(
    struct reader *r, const struct encoder_text *texts, int64_t n, float *out, struct err *e);
/* In place, x (n): to length 1, unless it has none. */
void reader_normalize(float *x, int64_t n);

#endif
