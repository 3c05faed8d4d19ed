/*
 * interleave: an item is a place in the order of groups, chunks and micro-batches.
 */
#include "runtime/model/interleave.h"

/* Forwards, or backwards, of one rank, those of a short group's gaps included. */
static int64_t items(const struct interleave *x)
{
    return (x->batches + x->stages - 1) / x->stages * x->stages * x->chunks;
}

/* Turns from a forward to the backward of the same place. */
static int64_t ahead(const struct interleave *x)
{
    return 2 * (x->stages - 1 - x->stage) + (int64_t)(x->chunks - 1) * x->stages;
}

int64_t interleave_turns(const struct interleave *x)
{
    return items(x) + ahead(x);
}

static struct interleave_item item_at(const struct interleave *x, int64_t i)
{
    int64_t group = (int64_t)x->stages * x->chunks;
    int64_t k = i / group * x->stages + i % x->stages;
    bool is = i >= 0 && i < items(x) && k < x->batches;
    return is ? (struct interleave_item){true, (int)(i % group / x->stages), k}
              : (struct interleave_item){.is = false};
}

struct interleave_item interleave_forward(const struct interleave *x, int64_t turn)
{
    return item_at(x, turn);
}

struct interleave_item interleave_backward(const struct interleave *x, int64_t turn)
{
    struct interleave_item b = item_at(x, turn - ahead(x));
    b.chunk = x->chunks - 1 - b.chunk;
    return b;
}

/* A micro-batch is in flight for as many turns in each group; a chunk's forwards take as many
   turns together as there are stages, once in a group's. */
int64_t interleave_in_flight(const struct interleave *x, int chunk)
{
    int64_t group = (int64_t)x->stages * x->chunks;
    int64_t turns = ahead(x) + (int64_t)(x->chunks - 1 - 2 * chunk) * x->stages + 1;
    int64_t rest = turns % group < x->stages ? turns % group : x->stages;
    int64_t most = turns / group * x->stages + rest;
    return most < x->batches ? most : x->batches;
}
