/*
 * planner: picks layout and micro-batch from the model, the world and the memory a rank may use.
 * Pure: same input, same plan. Axes are as they are told, and data parallel has the rest; which
 * layout to tell where that does not fit, runtime/train/choose.h finds out.
 */
#ifndef RUNTIME_TRAIN_PLANNER_H
#define RUNTIME_TRAIN_PLANNER_H

#include "api/limits.h"
#include "api/rules.h"
#include "base/err.h"
#include "runtime/coll/layout.h"
#include "runtime/model/memplan.h"

#include <stdint.h>

/* Rows of a micro-batch from which on a processor gains nothing. */
#define PLANNER_ROWS 2048

/* Stages that may have layers by their speed, at most. */
#define PLANNER_STAGES 64

struct planner_input {
    struct model_conf model; /* micro_sequences and logit_rows are the planner's to choose */
    int64_t batch_sequences; /* of the global batch */
    int64_t sample_rows;     /* sequences of the model that one of these is; 0: one */
    int world, rank;
    int data;             /* ranks that the data axis is to have; 0: as many as there are */
    int tensor, pipeline; /* ranks that share layers' matrices, and layers; 0: 1 */
    int virtual_stages;   /* chunks of layers of each of a pipeline's ranks; 0: 1 */
    int expert;           /* ranks that share layers' experts; 0: 1 */
    int context;          /* ranks that share each sequence; 0: 1 */
    int zero_stage;       /* 0 .. 3 */
    int64_t budget_bytes; /* of one rank */
    int64_t rows;         /* of a micro-batch, from which on more gain nothing; 0: a processor's */
    bool unlike;          /* shares of the batch may become larger than equal ones */
    struct rules_most
        most; /* that what is 0 above may become when it does not fit so; 0: it stays */
};

struct planner_plan {
    struct layout layout;
    int chunks;                           /* of each stage's layers; 0: one */
    int owners, owner;                    /* as in model_conf */
    int zero_stage;                       /* of the owners; 0: there are none */
    int64_t micro_sequences;              /* of the batch's, each sample_rows of the model's */
    int64_t logit_rows;                   /* as in model_conf */
    int64_t stage_layers[PLANNER_STAGES]; /* of each stage; the first 0: even */
    struct memplan memory;
    char reason[LIMIT_REASON_BYTES]; /* of a layout that was chosen; "": it was told */
};

/* Who is where, of in's world and axes: ERR_USER as below. */
int planner_lay_out(const struct planner_input *in, struct layout *out, struct err *e);
/* For the rank that needs most. ERR_MEMORY with the figures, and the recomputation that would do
 * if one does, when not even one sequence fits; ERR_USER: the world is not the one asked for. */
int planner_plan(const struct planner_input *in, struct planner_plan *out, struct err *e);
/* The plan with so many sequences a micro-batch, or, where there are fewer or more gain nothing,
 * with as many as that; it need not fit. */
int planner_with(const struct planner_input *in, int64_t micro_sequences, struct planner_plan *out,
    struct err *e);
/* Gives stages as many layers as their speed says, ns being what a layer takes each of them: where
 * all still fit, and the slowest becomes faster by BALANCE_GUESS per cent of balance.h. Else false,
 * and *out stays. */
bool planner_stages(const struct planner_input *in, const int64_t *ns, struct planner_plan *out);
/* What rank in->rank creates by it: its share of the model, sizes, its part in the optimizer's
 * state; all but communicators. ERR_USER: spec.model cannot be shared out so. */
int planner_model(const struct planner_input *in, const struct planner_plan *p,
    struct model_conf *out, struct err *e);
/* What a plan that is given takes of this rank's memory: sets out->memory, owners and owner.
 * ERR_USER: its layout does not fill the world; ERR_MEMORY: it does not fit. */
int planner_measure(const struct planner_input *in, struct planner_plan *out, struct err *e);

#endif
