/*
 * head: logits = h W^T over the vocabulary, and in training the loss, chunk by chunk: no more than
 * a chunk of logits is ever in memory. Or logits = h W^T + bias over the labels of a classifier, of
 * which there are few: all rows are one chunk. Where labels are of whole texts there is one row for
 * each sequence: that of its last token, or what a pooler makes of its first, tanh(h P^T + b)
 * (Devlin et al. 2019; the pooler of transformers' BertModel). Of masked tokens (masked.h) the rows
 * are those alone whose token is to be told. Where a text may have several labels each is told by
 * itself: the loss is softmax' of the pair (0, logit), which is the binary cross-entropy of the
 * logit. Logits are F32 whatever the compute type: 16 bits would be lost in the loss. A
 * headless model has none of it. Only enqueues.
 */
#ifndef RUNTIME_MODEL_HEAD_H
#define RUNTIME_MODEL_HEAD_H

#include "runtime/model/batch.h"
#include "runtime/model/blocks.h"
#include "runtime/model/carve.h"
#include "runtime/model/dropout.h"
#include "runtime/model/internal.h"
#include "runtime/model/masked.h"

struct head;
struct head_teacher { /* a model that has been run over the same rows: runtime/model/teacher.h */
    const struct batch *s;
    const struct head *head;
    float weight, temperature; /* op_distill's */
};

struct head {
    bool none;         /* headless: all below is zero */
    struct stored w;   /* (V, C): the embedding's, when tied; V is the labels of a classifier */
    const void *bias;  /* (V) t, of a classifier or of masked tokens; or NULL */
    float *dw, *dbias; /* NULL when frozen or absent */
    struct dropout dropout;    /* of what a classifier reads */
    int64_t rows;              /* R: of a chunk */
    int64_t columns;           /* from row to row: V, in training padded */
    float *logits;             /* (R, V); with backward overwritten, in F32 training */
    uint16_t *dlogits;         /* (R, V) t; in F32 training the gradient takes the logits' place */
    float *top, *total, *most; /* (R) of a share of the vocabulary: op_xent's stages; else NULL */
    float *whole;              /* (V of all ranks) likewise: a row of logits put together */
    const struct head_teacher *teacher; /* its predictions are learnt, too, in backward; or NULL */
    /* of labels of whole texts */
    struct stored pooler;          /* (C, C) */
    const void *pooler_bias;       /* (C) t */
    float *dpooler, *dpooler_bias; /* NULL when frozen */
    void *pooled, *dpooled;        /* (B, C) t; of last tokens (B, C), (B + 1, C) */
    void *dropped;                 /* (B, C) pooled, less what is left out; NULL: no dropout */
    float *pair, *ones;            /* (2) 0 and 1; (columns): of several labels; or NULL */
    float *pairs, *losses;         /* (B * columns, 2), (B * columns): likewise */
    struct masked masked;          /* of masked tokens */
    /* of a quantized base */
    struct blocks blocks; /* w */
    float *sum;           /* (R, C) in 16 bits: dh, panel by panel */
};

void head_bind(struct head *w, const struct model *m, float *gradient);
void head_carve(struct head *w, const struct batch *s, struct carve *c);
/* Writes what stays in the memory that was carved; waits for the device. */
int head_begin(const struct head *w, struct dev *d, struct err *e);
/* loss (N), of labels of whole texts (B), of masked tokens (s->chosen, and as many targets), =
   -log p(target), or op_distill's; with backward also s->dh and the gradients, times scale. Of
   several labels targets are (B, columns), 0, 1 or -1: nothing, and the loss of a text is the sum
   over labels. */
void head_loss(const struct batch *s, const struct head *w, const int32_t *targets, float *loss,
    float scale, bool backward);
/* The same with backward, of a vocabulary, each sequence's times its own: scales (B), host. */
void head_backward(const struct batch *s, const struct head *w, const int32_t *targets, float *loss,
    const float *scales);
/* logits (1, V) of one row of s->h, of a vocabulary. Training. */
void head_next(const struct batch *s, const struct head *w, int64_t row);
/* logits (n, V) of the rows of s->h from `row` on; n <= R. Serving. */
void head_logits(const struct batch *s, const struct head *w, int64_t row, int64_t n);

/* logits (n, labels) of a model with labels: of whole texts at rows s->chosen_rows (n) of s->h, of
   words at its first n. Serving. */
void head_labels(const struct batch *s, const struct head *w, int64_t n);

/* Row i of the logits in hand, over the whole vocabulary, (V) on the device: of a share it is put
   together, on all its ranks, and good until the next call. */
const float *head_whole(const struct batch *s, const struct head *w, int64_t i);

/* Bytes of a row of logits, with its gradient's. */
int64_t head_row_bytes(const struct model_conf *c);

#endif
