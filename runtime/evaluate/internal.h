/*
 * evaluate/internal: one evaluation, as the files of this folder share it: evaluate.c is the job
 * and what all objectives have in common, perplexity.c looks at running text, choice.c at questions
 * with choices; forecast.c says what it would take. Nobody else includes it.
 */
#ifndef RUNTIME_EVALUATE_INTERNAL_H
#define RUNTIME_EVALUATE_INTERNAL_H

#include "base/json.h"
#include "runtime/convert/merge.h"
#include "runtime/convert/meter.h"
#include "runtime/evaluate/evaluate.h"
#include "runtime/evaluate/questions.h"
#include "runtime/evaluate/rounds.h"
#include "runtime/train/adapterhub.h"

struct evaluation {
    const struct train_conf *conf;
    const struct jobspec *spec;
    struct measure_conf measure;
    struct weights *weights;
    struct tensors tensors;    /* of an adapter's model */
    struct merge *merge;       /* or NULL */
    struct adapterhub *behind; /* an adapter behind sub-layers, in its place; or NULL */
    struct group group;        /* the ranks that look at an item together */
    struct meter meter;
    int64_t have, items;       /* of the file; that are looked at */
    struct rounds_item *found; /* (items) */
};

static inline bool evaluation_leads(const struct evaluation *v)
{
    return v->conf->orders->rank == 0;
}

/* The items that are looked at are spread evenly over those of the file. */
static inline int64_t evaluation_item(const struct evaluation *v, int64_t i)
{
    return i * v->have / v->items;
}

/* Is it one of those of which runtime/train/finished.h looks? */
bool evaluation_finds_labels(const struct jobspec_evaluate *s);
/* ERR_USER: the other objectives are not for this model, or a window is longer than its context. */
int evaluation_check_model(
    const struct jobspec_evaluate *s, const struct model_config *c, struct err *e);

/* Of the file's items, spec.evaluate.samples at most; then the model is loaded, all is told, and
   item_fn looks at each, shared over the ranks: v->found holds what it found. */
int evaluation_share(
    struct evaluation *v, int64_t have, rounds_item_fn *item_fn, void *user, struct err *e);

/* Each opens its file, shares it, and on rank 0 adds its figures to the open object and logs
   them. */
int evaluate_perplexity(struct evaluation *v, struct jsonw *w, struct err *e);
int evaluate_choice(struct evaluation *v, struct jsonw *w, struct err *e);
/* Of each choice of a question -ln of its probability behind it; adds to *tokens what was read. */
int evaluate_losses(struct evaluation *v, const struct questions *all, const struct question *q,
    double *losses /* (choices) */, int64_t *tokens, struct err *e);

#endif
