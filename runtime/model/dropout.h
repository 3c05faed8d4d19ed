/*
 * dropout: in training a share of the numbers at some places of a model is left out at random, and
 * the rest is scaled up (Srivastava et al., JMLR 15, 2014): of the sum of the embeddings, of what
 * each sub-layer adds to the residual (Vaswani et al., arXiv:1706.03762, 5.4), and of what a
 * classifier reads, as transformers' hidden_dropout_prob, embd_pdrop and resid_pdrop do, and of
 * attention's probabilities (attention_probs_dropout_prob, attn_pdrop, attention_dropout).
 *
 * What is left out follows from the seed, the place and where a row stands in the order of
 * training, or a query and a key of a head do, so backward draws it again, and neither
 * micro-batches nor ranks change it, whatever they share. Only enqueues.
 */
#ifndef RUNTIME_MODEL_DROPOUT_H
#define RUNTIME_MODEL_DROPOUT_H

#include "runtime/model/batch.h"
#include "runtime/model/internal.h"

struct dropout { /* at one place; p 0: none */
    float p;
    uint64_t seed;
};

/* Of the place by which this tensor stands: embeddings, a sub-layer's norm, a classifier, what
   attention makes of queries (TENSOR_Q). */
struct dropout dropout_bind(const struct model *m, enum tensor_role role, int64_t layer);
uint64_t dropout_seed(uint64_t seed, enum tensor_role role, int64_t layer);
bool dropout_drops(const struct batch *s, const struct dropout *d);
/* x (n, C) in place, a row for every `every` rows of the batch; forward and, of the gradient,
   backward. Nothing where nothing drops. */
void dropout_apply(
    const struct batch *s, const struct dropout *d, int64_t n, int64_t every, void *x);
/* Of the batch's probabilities from sequence i of it on. */
struct op_attention_drop dropout_of_attention(
    const struct batch *s, const struct dropout *d, int64_t i);

#endif
