/*
 * memplan: what a rank will allocate, by kind, before it allocates anything. No device is needed.
 *
 * The figures come from the walks that later cut the same memory (carve), so the prediction is the
 * allocation. They saturate in 64 bits: a size from a hostile file becomes a refusal, never a small
 * number.
 */
#ifndef RUNTIME_MODEL_MEMPLAN_H
#define RUNTIME_MODEL_MEMPLAN_H

#include "base/err.h"
#include "runtime/model/model.h"

#include <stdint.h>

struct memplan {       /* bytes */
    int64_t weights;   /* frozen, in the compute type or quantized; or served, as stored */
    int64_t master;    /* F32 masters of what is trained */
    int64_t copy;      /* their copy of 16 bits */
    int64_t window;    /* of weights that ranks divide (model/zero.h) */
    int64_t gradient;  /* F32; of one that ranks divide its window and the slice */
    int64_t optimizer; /* its state and scratch */
    int64_t exchange;  /* what cheaper sums over ranks take beside */
    int64_t saved;     /* activations kept from forward to backward */
    int64_t scratch;   /* activations of one layer, both directions */
    int64_t logits;    /* of one chunk of rows */
    int64_t teacher;   /* a second model, and what its forward takes */
    int64_t cache;     /* keys and values, serving */
    int64_t beside;    /* adapters that rows may have, likewise */
    int64_t draft;     /* a model that guesses ahead, and what it takes, likewise */
    int64_t programs;  /* model_conf's, serving */
    int64_t total;
    int64_t snapshot; /* what a checkpoint holds of this rank's, in host memory; not in the total */
};

/* What of a pod's memory one rank that serves a model with so many tokens of vocabulary takes where
   no plan counts it: an estimate of programs and libraries, the agent's among them, of kernels'
   scratch, of texts of requests, and of the vocabulary. */
int64_t memplan_programs(int64_t vocab);
/* Of these what a vocabulary takes: of a further model's of the same rank nothing else is added. */
int64_t memplan_vocabulary(int64_t vocab);
/* w: the model on disk when serving; NULL: as if it had the compute type. */
int memplan_model(
    const struct model_conf *c, const struct weights *w, struct memplan *out, struct err *e);
/* The same of a described model; forgets where its tensors are served from. */
int memplan_of(struct model *m, const struct weights *w, struct memplan *out, struct err *e);
/* ERR_MEMORY with both figures when the plan needs more than budget_bytes. */
int memplan_require(const struct memplan *p, int64_t budget_bytes, struct err *e);

#endif
