/*
 * merge: a LoRA adapter in peft's format (adapter_config.json, adapter_model.safetensors) that is
 * added to the matrices of its base model: W + s B A, with s = alpha / r, or alpha / sqrt(r) where
 * use_rslora says so, and where use_dora does each row brought to the length that was learnt, as
 * peft's merge_and_unload; of AdaLoRA W + alpha / (init_r + 1e-5) B diag(E) A. What else an
 * adapter can hold (biases, modules_to_save, embeddings) is ERR_DATA that names it, and so is one
 * of another model, or one behind sub-layers (runtime/model/bottleneck.h), which is not linear.
 */
#ifndef RUNTIME_CONVERT_MERGE_H
#define RUNTIME_CONVERT_MERGE_H

#include "runtime/family/family.h"
#include "runtime/family/weights.h"

struct merge;
struct merge_factors { /* of a tensor (rows, columns); host */
    float *a;          /* (rank, columns) */
    float *b;          /* (rows, rank); NULL: it is not changed */
    float *m;          /* (rows) lengths that use_dora gives the rows; NULL: as they come */
    int64_t rank;
    float scale;
};

/* all: the model's own tensors, borrowed until close. */
int merge_open(const char *folder, const struct model_config *c, const struct tensors *all,
    struct merge **out, struct err *e);
/* The same without the numbers: what merge_of gives has ranks, scales and whether there are
   lengths, and points to nothing that may be read. */
int merge_open_shapes(const char *folder, const struct model_config *c, const struct tensors *all,
    struct merge **out, struct err *e);
void merge_close(struct merge *m); /* NULL is fine */
/* The tensor's numbers leave memory: it is changed no more. */
void merge_forget(struct merge *m, const struct tensor *t);
/* Whether it changes the tensor; a NULL merge changes none. */
bool merge_changes(const struct merge *m, const struct tensor *t);
/* What it adds to the tensor, until close; NULL: nothing. */
const struct merge_factors *merge_of(const struct merge *m, const struct tensor *t);
/* Adds its part to rows [row, row + rows) of the tensor, w (rows, columns). */
void merge_add(const struct merge *m, const struct tensor *t, int64_t row, int64_t rows, float *w);

#endif
