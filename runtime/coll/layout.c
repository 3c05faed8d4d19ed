/*
 * layout: mixed-radix numbering of ranks. layout_rank is the inverse of layout_place. Called by
 * planner and train; knows nothing of models.
 */
#include "runtime/coll/layout.h"

#include <stdint.h>

int layout_check(const struct layout *l, int world, struct err *e)
{
    const int sizes[] = {l->dp, l->tp, l->pp, l->cp, l->ep};
    int64_t product = 1;

    for (int i = 0; i < 5; i++) {
        if (sizes[i] < 1 || sizes[i] > world)
            return err_set(
                e, ERR_USER, "an axis of the layout has size %d in a world of %d", sizes[i], world);
        product *= sizes[i];
        if (product > world)
            break;
    }
    if (product != world)
        return err_set(e, ERR_USER, "the layout %dx%dx%dx%dx%d does not fill a world of %d", l->dp,
            l->tp, l->pp, l->cp, l->ep, world);
    return 0;
}

struct place layout_place(const struct layout *l, int rank)
{
    struct place p;

    p.tp = rank % l->tp;
    rank /= l->tp;
    p.cp = rank % l->cp;
    rank /= l->cp;
    p.ep = rank % l->ep;
    rank /= l->ep;
    p.dp = rank % l->dp;
    p.pp = rank / l->dp;
    return p;
}

int layout_rank(const struct layout *l, const struct place *p)
{
    return (((p->pp * l->dp + p->dp) * l->ep + p->ep) * l->cp + p->cp) * l->tp + p->tp;
}
