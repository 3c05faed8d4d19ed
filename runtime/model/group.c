/*
 * group: from places in the layout to communicators, and from these to a configuration.
 */
#include "runtime/model/group.h"

int group_axis(struct coll *world, const struct layout *l, int rank, enum layout_axis axis,
    struct coll **out, struct err *e)
{
    const struct layout_group g = layout_group(l, rank, axis);
    return g.size > 1 ? coll_group(world, &g, out, e) : 0;
}

int group_open(
    struct coll *world, const struct layout *l, int rank, struct group *out, struct err *e)
{
    out->layout = *l;
    out->place = layout_place(l, rank);
    int rc;
    if ((rc = group_axis(world, l, rank, LAYOUT_TENSOR, &out->tensor, e)) ||
        (rc = group_axis(world, l, rank, LAYOUT_PIPELINE, &out->pipeline, e)))
        return rc;
    return out->pipeline ? coll_connect(out->pipeline, e) : 0;
}

int group_share(const struct group *g, struct model_conf *c, struct err *e)
{
    const struct layout *l = &g->layout;
    const struct model_cut cut = {l->tp, g->place.tp, l->pp, g->place.pp, 1, 0, NULL, 1};
    const struct model_config whole = c->config;
    int rc = model_config_share(&whole, &cut, &c->config, e);
    if (rc)
        return rc;
    c->tensor = g->tensor;
    c->pipeline = g->pipeline;
    c->stage = g->place.pp;
    c->stages = l->pp;
    return 0;
}

/* The first shares of matrices are the largest, and no stage between has more layers than the
   first. */
int group_measure(const struct layout *l, const struct model_conf *c, const struct weights *w,
    struct memplan *out, struct err *e)
{
    struct memplan most = {0};
    for (int stage = 0; stage<l->pp; stage += l->pp> 2 ? l->pp - 1 : 1) {
        const struct group g = {.layout = *l, .place = {.pp = stage}};
        struct model_conf share = *c;
        struct memplan one;
        int rc = group_share(&g, &share, e);
        if (rc || (rc = memplan_model(&share, w, &one, e)))
            return rc;
        most = one.total > most.total ? one : most;
    }
    *out = most;
    return 0;
}
