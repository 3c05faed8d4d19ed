/*
 * cost: how long a step of a planned training takes on ranks of known speed, by its parts. Pure: a
 * model of what this runtime does, and of no other.
 *
 * A product takes its operations and a pass over its operands and result, one after the other, and
 * a micro-batch some rows' time more than it has, so that small ones and narrow shares cost time;
 * what goes by element takes its passes over memory.
 *
 * A sum of g ranks takes 2 (g - 1) / g times its bytes over the link and a latency for each step of
 * a ring, or, of NCCL and where that is less, twice its bytes and the steps of a tree over pods;
 * its halves are half a ring (after NCCL's own model, src/graph/tuning.cc). What leaves in parts
 * counts as one. Stages wait for the slowest of them, and p - 1 micro-batches for the first and the
 * last (1F1B: Narayanan et al., arXiv:2104.04473). With layers in v chunks each of these is one of
 * a chunk, a v-th as long, but there are v times as many messages, and a last group that has not p
 * micro-batches takes as long as one that has. Nothing is taken to overlap.
 *
 * Ranks of a pod that share its processor have all of it while others wait: neighbouring stages are
 * as fast as their mean, and only pods are idle while a pipeline fills and empties.
 */
#ifndef RUNTIME_TRAIN_COST_H
#define RUNTIME_TRAIN_COST_H

#include "runtime/train/planner.h"

struct cost_link {
    double latency_s;   /* of one step of a collective that carries nothing */
    double bytes_per_s; /* of one rank, while all use it */
};

struct cost_speed {
    double flops_per_s;               /* of a rank's large matrix products in the compute type */
    double memory_bytes_per_s;        /* of a rank's memory, read or written */
    struct cost_link inside, between; /* pods */
    int pod_ranks;                    /* neighbours in one pod; 0: 1 */
    bool trees;                       /* NCCL's collectives, not those of the host */
    bool shared;                      /* a pod's ranks compute with one processor, not one each */
};

/* Steps that follow each other in a sum among so many members of each of so many pods. */
struct cost_steps {
    double inside, between;
};
struct cost_steps cost_ring(const struct cost_speed *s, int members, int pods);
struct cost_steps cost_tree(int members, int pods);

struct cost {         /* seconds of a step */
    double compute;   /* of the slowest stages: products, and passes over activations */
    double tensor;    /* sums among ranks that share layers */
    double expert;    /* rows to their experts and back, and what is summed up between these */
    double context;   /* keys and values among ranks that share sequences */
    double pipeline;  /* messages between stages */
    double idle;      /* a stage's while a pipeline fills and empties */
    double data;      /* the gradient's sum, or its parts and the weights' */
    double optimizer; /* its pass over memory */
    double total;
};

/* in: with every axis told, of which p is the plan. */
void cost_step(const struct planner_input *in, const struct planner_plan *p,
    const struct cost_speed *s, struct cost *out);

#endif
