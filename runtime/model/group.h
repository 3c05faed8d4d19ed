/*
 * group: the ranks that have one model together, each a share of it (model_config_share): those
 * that divide its layers' matrices, and the stages that divide its layers. A world has one such
 * group or several, replicas of each other. For models that are run forward; what a training's
 * ranks share is more (runtime/train/open.c).
 */
#ifndef RUNTIME_MODEL_GROUP_H
#define RUNTIME_MODEL_GROUP_H

#include "runtime/coll/coll.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"

struct group {
    struct layout layout;
    struct place place;             /* this rank's */
    struct coll *tensor, *pipeline; /* the world's to destroy; or NULL */
};

/* The ranks that differ from this one in the axis alone; NULL where there are no others. All ranks
   of the world call. */
int group_axis(struct coll *world, const struct layout *l, int rank, enum layout_axis axis,
    struct coll **out, struct err *e);
/* All ranks of the world call; out is zeroes. Collective. */
int group_open(
    struct coll *world, const struct layout *l, int rank, struct group *out, struct err *e);
/* c's configuration, of a whole model, becomes this rank's share, and with whom it is one is said.
   ERR_USER: the model cannot be shared out so. */
int group_share(const struct group *g, struct model_conf *c, struct err *e);

/* What the rank of the layout takes that takes most; c, w: of the whole model, as memplan_model has
   them. ERR_USER: the model cannot be shared out so. */
int group_measure(const struct layout *l, const struct model_conf *c, const struct weights *w,
    struct memplan *out, struct err *e);

/* Has the group more ranks than this? */
static inline bool group_is_shared(const struct group *g)
{
    return g->tensor || g->pipeline;
}
/* Of its ranks, the one whose figures count in sums over the world; its stage has the head. */
static inline bool group_counts(const struct group *g)
{
    return g->place.tp == 0 && g->place.pp + 1 == g->layout.pp;
}

#endif
