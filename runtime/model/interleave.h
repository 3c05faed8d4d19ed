/*
 * interleave: in which order a rank of a pipeline whose layers are in chunks runs micro-batches
 * forward and backward (Narayanan et al., arXiv:2104.04473, 2.2.2). Pure arithmetic.
 *
 * Micro-batches go through the pipeline in groups of as many as there are stages: forward a group
 * through the first chunk, then through the second, and so on; backward likewise from the last. In
 * turn i a rank runs the i-th forward, then the backward that is `ahead` behind it, then exchanges
 * once with its neighbours. The last group may be short: what is not there has its turns, in which
 * nothing is done, so any number of micro-batches will do.
 *
 * The first stage is ahead of the last by two forwards for each stage between, one for the way
 * there and one for the way back. So the exchange behind turn i of stage r is one with that behind
 * turn i - 1 of stage r + 1, and of the last of p stages with that behind turn i + p - 1 of the
 * first: each has an hour, i + r, that all its messages share. Whoever waits in an exchange of one
 * hour waits for ranks that are at an earlier one, or in this; those of the earliest hour wait for
 * nobody else. So no two wait for each other, whether or not a message that nobody receives yet can
 * be sent: over sockets with little room, and in a group of NCCL's calls, which ends when all do.
 */
#ifndef RUNTIME_MODEL_INTERLEAVE_H
#define RUNTIME_MODEL_INTERLEAVE_H

#include <stdbool.h>
#include <stdint.h>

struct interleave {
    int stages, stage, chunks; /* 2 or more; which; of each stage */
    int64_t batches;           /* micro-batches */
};

struct interleave_item {
    bool is;   /* else nothing is run */
    int chunk; /* of the stage's */
    int64_t k; /* micro-batch */
};

/* Turns are 0 .. interleave_turns - 1. */
int64_t interleave_turns(const struct interleave *x);
/* What runs forward in a turn, and what backward after it; a turn may be any number. */
struct interleave_item interleave_forward(const struct interleave *x, int64_t turn);
struct interleave_item interleave_backward(const struct interleave *x, int64_t turn);
/* Micro-batches between forward and backward of a chunk, at most; no more of a later chunk. Each
   chunk's are neighbours in k. */
int64_t interleave_in_flight(const struct interleave *x, int chunk);

#endif
