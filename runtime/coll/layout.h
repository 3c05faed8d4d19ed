/*
 * layout: which place a rank has in the axes of parallelism. Pure arithmetic.
 *
 * Ranks are numbered with tensor fastest, then context, expert, data, and pipeline slowest: ranks
 * that talk most are neighbours. Only the data axis is used now; the others have size 1.
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

int layout_check(
    const struct layout *l, int world, struct err *e); /* ERR_USER: sizes do not fill the world */
struct place layout_place(const struct layout *l, int rank);
int layout_rank(const struct layout *l, const struct place *p);

#endif
