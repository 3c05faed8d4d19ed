/*
 * layout: mixed-radix numbering of ranks. layout_rank is the inverse of layout_place. Must know
 * nothing of models, nor of what a group is for.
 */
#include "runtime/coll/layout.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>

/* Fastest axis first: by enum layout_axis. */
struct sizes {
    int of[LAYOUT_AXES];
};

static struct sizes sizes_of(const struct layout *l)
{
    return (struct sizes){{l->tp, l->ep, l->cp, l->dp, l->pp}};
}

int layout_check(const struct layout *l, int world, struct err *e)
{
    struct sizes sizes = sizes_of(l);
    int64_t product = 1;
    for (int i = 0; i < LAYOUT_AXES && product <= world; i++) {
        if (sizes.of[i] < 1 || sizes.of[i] > world)
            return err_set(e, ERR_USER, "an axis of the layout has size %d in a world of %d",
                sizes.of[i], world);
        product *= sizes.of[i];
    }
    if (product != world)
        return err_set(e, ERR_USER, "the layout %dx%dx%dx%dx%d does not fill a world of %d", l->dp,
            l->tp, l->pp, l->cp, l->ep, world);
    return 0;
}

void layout_text(const struct layout *l, char out[LAYOUT_TEXT_BYTES])
{
    const int sizes[] = {l->tp, l->pp, l->cp, l->ep};
    static const char *const names[] = {"tp", "pp", "cp", "ep"};
    size_t n = (size_t)snprintf(out, LAYOUT_TEXT_BYTES, "dp%d", l->dp);
    for (int i = 0; i < 4 && n < LAYOUT_TEXT_BYTES; i++)
        if (sizes[i] > 1)
            n += (size_t)snprintf(out + n, LAYOUT_TEXT_BYTES - n, " x %s%d", names[i], sizes[i]);
}

struct place layout_place(const struct layout *l, int rank)
{
    struct sizes sizes = sizes_of(l);
    int at[LAYOUT_AXES];
    for (int i = 0; i < LAYOUT_AXES; i++) {
        at[i] = rank % sizes.of[i];
        rank /= sizes.of[i];
    }
    return (struct place){.tp = at[LAYOUT_TENSOR],
        .cp = at[LAYOUT_CONTEXT],
        .ep = at[LAYOUT_EXPERT],
        .dp = at[LAYOUT_DATA],
        .pp = at[LAYOUT_PIPELINE]};
}

int layout_rank(const struct layout *l, const struct place *p)
{
    return (((p->pp * l->dp + p->dp) * l->cp + p->cp) * l->ep + p->ep) * l->tp + p->tp;
}

struct layout_group layout_group(const struct layout *l, int rank, enum layout_axis axis)
{
    struct sizes sizes = sizes_of(l);
    int stride = 1;
    for (int i = 0; i < (int)axis; i++)
        stride *= sizes.of[i];
    int index = rank / stride % sizes.of[axis];
    return (struct layout_group){
        .first = rank - index * stride, .stride = stride, .size = sizes.of[axis], .index = index};
}

struct layout_group layout_replicas(const struct layout *l, int rank)
{
    int stride = l->tp * l->ep, size = l->cp * l->dp, index = rank / stride % size;
    return (struct layout_group){
        .first = rank - index * stride, .stride = stride, .size = size, .index = index};
}
