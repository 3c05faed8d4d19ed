/*
 * choose: the layouts that a training may have where spec.parallelism leaves axes open: which of
 * them fit, how long a step of each takes (runtime/train/cost.h), which is the fastest. Pure. Each
 * is tried as if it had been told, so what a plan of it takes is the planner's to say. The fields
 * of planner_input.most are loops of choose_layouts, one inside the other.
 */
#ifndef RUNTIME_TRAIN_CHOOSE_H
#define RUNTIME_TRAIN_CHOOSE_H

#include "runtime/train/cost.h"

struct layout_choice {
    int tensor, pipeline, zero_stage; /* what is told */
    bool fits;
    struct planner_plan plan; /* fits: the fastest micro-batch of it; else one sequence */
    struct cost cost;         /* of that plan */
    struct err why;           /* it does not fit: planner_plan's words */
};

struct choices { /* legal layouts: those that fit, the fastest first; then the others likewise */
    struct layout_choice *at;
    int count, fitting;
};

/* *out is the caller's to free, with choose_done. ERR_USER: the words of the layout of which
 * nothing open is used, where none is legal. */
int choose_layouts(
    const struct planner_input *in, const struct cost_speed *s, struct choices *out, struct err *e);
void choose_done(struct choices *c);
/* "dp2 x tp2 x pp2 v2 zero1" */
#define CHOOSE_TEXT_BYTES (LAYOUT_TEXT_BYTES + 24)
void choose_text(const struct layout_choice *c, char out[CHOOSE_TEXT_BYTES]);

/* May anything become what it is not told to be? */
bool choose_may(const struct planner_input *in);
/* The fastest that fits, with the reason; in's axes become its. told: why the layout that nothing
 * was chosen for is none, which is told where nothing else is legal. ERR_MEMORY: none fits. */
int choose_plan(struct planner_input *in, const struct cost_speed *s, const struct err *told,
    struct planner_plan *out, struct err *e);

#endif
