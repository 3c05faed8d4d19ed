/*
 * rounds: items that ranks share, some a round. Behind each round all ranks know what was found of
 * its items, to the bit, whichever rank looked, and whether one of them was asked to stop. So what
 * is made of it in the order of the items depends neither on the world nor on time.
 *
 * Where several ranks look at an item together all of them call item_fn, one after another item,
 * and stop behind a round only: none of them may leave the others alone with one.
 */
#ifndef RUNTIME_EVALUATE_ROUNDS_H
#define RUNTIME_EVALUATE_ROUNDS_H

#include "base/err.h"
#include "runtime/coll/coll.h"
#include "runtime/door/door.h"

#include <stdint.h>

struct rounds_item {
    double loss;   /* sum of -ln p of its targets */
    double labels; /* its targets */
    double tokens; /* that the model read for it */
    double extra[3];
};

typedef int rounds_item_fn(
    void *user, int64_t item, struct rounds_item *out /* zeroes */, struct err *e);

struct rounds {
    struct coll *coll;
    struct door *door;
    int part, parts; /* this rank's part of a round, and how many there are */
    bool together;   /* other ranks have the same part, */
    bool counts;     /* and of them this one's figures are taken */
    bool tells;      /* of the world, this rank */
    int64_t items;
};

/* found (items), zeroed. Each round is told. A failure of item_fn ends this rank's part;
 * -ERR_DRAINED is a wish to stop, and then all ranks return it. */
int rounds_run(const struct rounds *r, rounds_item_fn *item_fn, void *user,
    struct rounds_item *found, struct err *e);
/* Of items [0, n), in their order. */
struct rounds_item rounds_sum(const struct rounds_item *found, int64_t n);

#endif
