/*
 * encoder: a loaded model that reads whole texts, to make an embedding of each, or to tell its
 * labels or those of its tokens. The texts of a pass stand one behind the other, without padding
 * and without a cache: products are of all rows, attention is of each text by itself. All memory is
 * allocated at create.
 *
 * Where the device gives a row the same bits whatever the other rows are (dev_rows_alike), what is
 * found of a text is the same to the bit, alone or in any pass. Of one rank alone.
 */
#ifndef RUNTIME_MODEL_ENCODER_H
#define RUNTIME_MODEL_ENCODER_H

#include "base/err.h"
#include "runtime/family/pooling.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"

#define ENCODER_ROWS  512 /* tokens of a pass, or those of the longest text, if that has more */
#define ENCODER_TEXTS 128 /* of a pass */

struct encoder;

struct encoder_text {     /* host */
    const int32_t *ids;   /* (count) */
    const int32_t *types; /* (count); NULL: all 0, and so where the model has no types */
    int64_t count;        /* 1 to model_conf.kv_capacity */
};

/* c, whose compute type is set, becomes that of w as it is served. c->encodes: w reads whole texts,
   having labels, or seeing the whole of them, or by a folder that says how embeddings are made,
   which p has then. tokens: of a text, at most; 0: what the folder says, else the model. ERR_USER:
   it has not so many; ERR_DATA as of pooling_read. */
int encoder_conf(const struct weights *w, int64_t tokens, struct model_conf *c, struct pooling *p,
    struct err *e);

/* m, of a model_conf that encodes, is borrowed until destroy; headless, for embeddings. */
int encoder_create(struct model *m, struct encoder **out, struct err *e);
void encoder_destroy(struct encoder *g);
/* Adds its part of the plan. */
int encoder_plan(struct model *m, struct memplan *plan, struct err *e);
int64_t encoder_rows(const struct encoder *g); /* tokens of a pass */

/* -ERR_DATA: ids or types that the model has not; -ERR_USER: no tokens, or too many. */
int encoder_check(const struct encoder *g, const struct encoder_text *t, struct err *e);
/* Any number of texts, in as many passes as they take; all are checked before. */
/* out (n, C) F32, host; not normalized */
int encoder_embed(struct encoder *g, const struct encoder_text *texts, int64_t n,
    enum pooling_kind pooling, float *out, struct err *e);
/* Of a model with labels: logits (n, labels) F32, host; of one that labels words (all tokens,
   labels), text by text. */
int encoder_label(
    struct encoder *g, const struct encoder_text *texts, int64_t n, float *logits, struct err *e);

#endif
