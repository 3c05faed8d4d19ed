/*
 * planner: picks layout and micro-batch from the model, the world and the memory a rank may use.
 * Pure: same input, same plan. Now: data parallel over the whole world.
 */
#ifndef RUNTIME_TRAIN_PLANNER_H
#define RUNTIME_TRAIN_PLANNER_H

#include "base/err.h"
#include "runtime/coll/layout.h"
#include "runtime/model/memplan.h"

#include <stdint.h>

struct planner_input {
    struct model_conf model; /* micro_sequences and logit_rows are the planner's to choose */
    int64_t batch_sequences; /* of the global batch */
    int64_t sample_rows;     /* sequences of the model that one of these is; 0: one */
    int world;
    int64_t budget_bytes; /* of one rank */
    int64_t rows;         /* of a micro-batch, from which on more gain nothing; 0: a processor's */
};

struct planner_plan {
    struct layout layout;
    int64_t micro_sequences; /* of the batch's, each sample_rows of the model's */
    int64_t logit_rows;      /* as in model_conf */
    struct memplan memory;
};

/* ERR_MEMORY with the figures, and the recomputation that would do if one does, when not even one
 * sequence fits. */
int planner_plan(const struct planner_input *in, struct planner_plan *out, struct err *e);
/* What a plan that is given takes of this rank's memory: sets out->memory. ERR_USER: its layout
 * does not fill the world; ERR_MEMORY: it does not fit. */
int planner_measure(const struct planner_input *in, struct planner_plan *out, struct err *e);

#endif
