/*
 * meter: a model of a conversion as an engine, beside windows of a text for it.
 */
#ifndef RUNTIME_CONVERT_METER_H
#define RUNTIME_CONVERT_METER_H

#include "runtime/convert/measure.h"
#include "runtime/data/data.h"
#include "runtime/model/engine.h"
#include "runtime/text/tok.h"

struct meter {
    const struct measure_conf *conf;
    int64_t length; /* T, of a window */

    /* of meter_open */
    struct tok *tok;
    struct data *data;
    struct model *model;
    struct engine *engine;
    int32_t *inputs, *targets; /* (T) */
};

/* conf and length are there, all else is zero. A failure needs meter_close, too. */
int meter_open(
    struct meter *m, struct weights *w, const char *text, enum data_format format, struct err *e);
void meter_close(struct meter *m);

#endif
