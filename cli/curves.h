/*
 * curves: what a training has written to metrics.jsonl, as curves. A training that went on from a
 * checkpoint has written some steps twice: the newer line counts, and what the older world did
 * beyond it does not. A line that is no JSON object (the last one, of a machine that stopped) is
 * passed over.
 */
#ifndef CLI_CURVES_H
#define CLI_CURVES_H

#include "base/err.h"

#include <stddef.h>

enum curve_kind {
    CURVE_LOSS,
    CURVE_VALIDATION_LOSS,
    CURVE_VALIDATION_F1,
    CURVE_VALIDATION_MATCH,
    CURVE_LEARNING_RATE,
    CURVE_GRADIENT_NORM,
    CURVE_SPEED,
    CURVE_KINDS
};

struct curve_point {
    double step, value;
};

struct curve { /* by step */
    struct curve_point *points;
    size_t count, room;
};

struct curves {
    struct curve of[CURVE_KINDS];
};

const char *curves_name(enum curve_kind k); /* as in the file */
/* path: the file, or a folder that holds one. -ERR_USER: there is none; -ERR_DATA: it holds no
 * step, or is too large. */
int curves_read(const char *path, struct curves *out, struct err *e);
void curves_free(struct curves *m);
/* The newest value; NaN: there is none. */
double curves_last(const struct curves *m, enum curve_kind k);

#endif
