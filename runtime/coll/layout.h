/*
 * layout: which place a rank has in the axes of parallelism, and with whom it shares an axis: the
 * only place that knows who is where. Pure arithmetic.
 *
 * Ranks are numbered with tensor fastest, then expert, context, data, and pipeline slowest: ranks
 * that talk most are neighbours. So the ranks that differ in one axis only are an arithmetic
 * series, and so are those that have the same weights.
 */
#ifndef RUNTIME_COLL_LAYOUT_H
#define RUNTIME_COLL_LAYOUT_H

#include "base/err.h"

struct layout { /* sizes; product = world */
    int dp, tp, pp, cp, ep;
};
struct place { /* 0 <= place.x < layout.x */
    int dp, tp, pp, cp, ep;
};

enum layout_axis {
    LAYOUT_TENSOR,
    LAYOUT_EXPERT,
    LAYOUT_CONTEXT,
    LAYOUT_DATA,
    LAYOUT_PIPELINE,
    LAYOUT_AXES
};

struct layout_group { /* ranks first, first + stride, ...: size of them */
    int first, stride, size;
    int index; /* of the rank that asked */
};

/* ERR_USER: the sizes do not fill the world. */
int layout_check(const struct layout *l, int world, struct err *e);
struct place layout_place(const struct layout *l, int rank);
int layout_rank(const struct layout *l, const struct place *p);
/* "dp2 x tp2": data parallelism, and the other axes that are in use. */
#define LAYOUT_TEXT_BYTES 48
void layout_text(const struct layout *l, char out[LAYOUT_TEXT_BYTES]);
/* The ranks that differ from this one in no axis but the given one. */
struct layout_group layout_group(const struct layout *l, int rank, enum layout_axis axis);
/* Those that have the same weights: they differ in data and context, the latter faster. */
struct layout_group layout_replicas(const struct layout *l, int rank);

#endif
