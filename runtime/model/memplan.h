/*
 * memplan: what a rank will allocate, family by family, before it allocates anything. Pure.
 *
 * The same figures size the arenas of model and optim, so the prediction is the allocation. Every
 * product is saturating in 64 bits: a size from a hostile file becomes a refusal, never a small
 * number.
 */
#ifndef RUNTIME_MODEL_MEMPLAN_H
#define RUNTIME_MODEL_MEMPLAN_H

#include "base/err.h"
#include "runtime/model/model.h"

#include <stdint.h>

#define MEMPLAN_SERVE_ROWS 256 /* tokens of one prefill chunk */

struct memplan {       /* bytes */
    int64_t weights;   /* frozen or serving weights, in compute type or stored blocks */
    int64_t master;    /* F32 masters of what is trained */
    int64_t copy;      /* their BF16 copy */
    int64_t gradient;  /* F32 */
    int64_t optimizer; /* AdamW's m and v */
    int64_t saved;     /* activations kept from forward to backward */
    int64_t scratch;   /* activations of one layer, both directions */
    int64_t logits;    /* of one chunk of rows */
    int64_t cache;     /* keys and values, serving */
    int64_t total;
};

/* w: the model on disk when serving (stored blocks are kept); may be NULL. */
int memplan_model(
    const struct model_conf *c, const struct weights *w, struct memplan *out, struct err *e);
/* ERR_MEMORY with both figures when the plan needs more than budget_bytes. */
int memplan_require(const struct memplan *p, int64_t budget_bytes, struct err *e);

/* Rows of logits that are in memory at once; elements from one to the next: in training a multiple
   of 64, so that every row is aligned; bytes of a row, with its gradient's. */
int64_t memplan_logit_rows(const struct model_conf *c);
int64_t memplan_logit_columns(const struct model_conf *c);
int64_t memplan_logit_row_bytes(const struct model_conf *c);

/* Saturating arithmetic on sizes that are not negative. */
int64_t memplan_times(int64_t a, int64_t b);
int64_t memplan_plus(int64_t a, int64_t b);

#endif
