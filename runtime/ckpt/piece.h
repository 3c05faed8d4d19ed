/*
 * ckpt_piece: which part of a tensor an entry of a checkpoint is, and the arithmetic of such parts:
 * whether they follow one another, where two of them meet, and whether many are the whole, each
 * element once. A part is a rectangle of a matrix; of a tensor whose shape does not matter, a range
 * of its elements, as a rectangle in one row of them all. Elements of a part stand row by row.
 * Pure; counts are 64-bit, and the whole has at most NUMBER_EXACT elements (2^53 - 1).
 */
#ifndef RUNTIME_CKPT_PIECE_H
#define RUNTIME_CKPT_PIECE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct ckpt_piece {
    int64_t rows, columns; /* of the whole; 1 row: a range of a flat tensor */
    int64_t row, column;   /* of the part's first element */
    int64_t height, width; /* of the part */
};

/* Elements [offset, offset + count) of total. */
struct ckpt_piece ckpt_piece_flat(int64_t total, int64_t offset, int64_t count);
/* The same part; of whole rows, as a range. */
struct ckpt_piece ckpt_piece_simplest(const struct ckpt_piece *p);
bool ckpt_piece_is_flat(const struct ckpt_piece *p);
/* Does it lie within its tensor? Nothing below may be asked of one that does not. */
bool ckpt_piece_fits(const struct ckpt_piece *p);
int64_t ckpt_piece_total(const struct ckpt_piece *p); /* elements of the whole */
int64_t ckpt_piece_count(const struct ckpt_piece *p); /* and of the part */

/* When next begins where *p ends, so that the elements of both make one part: grows *p by it. */
bool ckpt_piece_join(struct ckpt_piece *p, const struct ckpt_piece *next);

/* A run of `count` elements that both have: from element `from` of the one on, and `to` of the
 * other. Anything but 0 ends the walk. */
typedef int ckpt_piece_fn(void *user, int64_t from, int64_t to, int64_t count, struct err *e);
/* Of parts of a same total. Runs come in the order of `to`. */
int ckpt_piece_meet(const struct ckpt_piece *from, const struct ckpt_piece *to, ckpt_piece_fn *fn,
    void *user, struct err *e);

/* Whether the parts are the whole and have no element twice. They are of one total, and those that
 * are not flat of one shape. ERR_CORRUPT says where there is a hole, or two. */
int ckpt_piece_tile(const struct ckpt_piece *parts, int count, struct err *e);

#endif
