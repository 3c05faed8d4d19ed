/*
 * meter: a model as an engine, beside windows of a text for it where there is one, and how well it
 * predicts tokens: the sum of -ln p, whatever the number of threads.
 */
#ifndef RUNTIME_CONVERT_METER_H
#define RUNTIME_CONVERT_METER_H

#include "runtime/convert/measure.h"
#include "runtime/convert/merge.h"
#include "runtime/data/data.h"
#include "runtime/model/engine.h"
#include "runtime/model/group.h"
#include "runtime/text/tok.h"
#include "runtime/train/adapterhub.h"

struct meter {
    const struct measure_conf *conf;
    int64_t length;                  /* T, of a window, or the most tokens at once */
    const struct merge *merge;       /* an adapter that the model is loaded with; or NULL */
    const struct adapterhub *behind; /* one behind its sub-layers; or NULL */
    const struct group *group;       /* the ranks that have the model together; NULL: this alone */

    /* of the functions below */
    struct tok *tok;
    struct data *data;
    struct model_addition addition;
    struct model *model;
    struct engine *engine;
    int32_t *inputs, *targets; /* (T) */
};

/* The steps of opening, in this order; conf, length and merge are there, all else is zero. A
   failure needs meter_close, too. */
int meter_begin(struct meter *m, struct weights *w, struct err *e); /* the tokenizer */
int meter_text(struct meter *m, const char *text, enum data_format format, struct err *e);
int meter_load(struct meter *m, struct weights *w, struct err *e);
/* All of them. */
int meter_open(
    struct meter *m, struct weights *w, const char *text, enum data_format format, struct err *e);
void meter_close(struct meter *m);

/* Adds to *sum -ln p of each of n targets, that follow the ids, behind `past` tokens that the
 * engine knows; as engine_losses. -ERR_DRAINED when somebody asked to stop: never of a group, whose
 * ranks must stop together. */
int meter_loss(struct meter *m, const int32_t *ids, const int32_t *targets, int64_t n, int64_t past,
    double *sum, struct err *e);
/* The same of a window of the text. */
int meter_window(struct meter *m, int64_t sample, double *sum, struct err *e);

#endif
