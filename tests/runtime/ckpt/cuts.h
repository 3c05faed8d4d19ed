/*
 * cuts: ways to cut a matrix into pieces that tile it: those that ranks of some layout would hold,
 * and random ones.
 */
#ifndef TESTS_RUNTIME_CKPT_CUTS_H
#define TESTS_RUNTIME_CKPT_CUTS_H

#include "runtime/ckpt/piece.h"

#define CUTS_MOST 512

struct cuts {
    struct ckpt_piece at[CUTS_MOST];
    int count;
};

enum cuts_way {
    CUTS_WHOLE,
    CUTS_FLAT_2,
    CUTS_FLAT_3,
    CUTS_FLAT_4,
    CUTS_FLAT_5,
    CUTS_ROWS,
    CUTS_COLUMNS,
    CUTS_2_BY_2,
    CUTS_3_BY_2,
    CUTS_MIXED, /* rectangles above, ranges below */
    CUTS_WAYS
};

void cuts_make(struct cuts *c, enum cuts_way way, int64_t rows, int64_t columns);
/* Any: bands of rows, of rectangles or of ranges that also begin and end within rows. In any order.
   state: of base/random. */
void cuts_draw(struct cuts *c, int64_t rows, int64_t columns, uint64_t *state);
/* A rectangle or a range of the matrix, never empty. */
struct ckpt_piece cuts_any(int64_t rows, int64_t columns, uint64_t *state);
/* From 0 to n - 1. */
int64_t cuts_below(int64_t n, uint64_t *state);

#endif
