/*
 * measure: what a model on disk costs and is worth: bytes of its tensors, its mean loss on windows
 * of a text, exp of which is the perplexity, and how fast it decodes. By the engine that serves it.
 */
#ifndef RUNTIME_CONVERT_MEASURE_H
#define RUNTIME_CONVERT_MEASURE_H

#include "api/jobspec.h"
#include "kernels/dev.h"
#include "runtime/door/door.h"
#include "runtime/family/weights.h"

#include <stdint.h>

struct measure_conf {
    struct door *door;
    const struct jobspec *spec; /* precision, and of a conversion spec.convert.evaluate */
    struct dev *dev;
    int64_t budget_bytes;
};

struct measured {
    int64_t bytes;             /* of all tensors, as stored */
    int64_t sequences, tokens; /* that were predicted; 0: nothing was evaluated */
    double sparsity;           /* share of zeros in what can be pruned; -1: not looked at */
    double loss;               /* mean of -ln p, over those tokens */
    double tokens_per_second;  /* decoded one by one; 0: not measured */
};

int64_t measure_bytes(const struct weights *w);
/* -ERR_DRAINED when somebody asked to stop. */
int measure_sparsity(const struct measure_conf *c, struct weights *w, double *out, struct err *e);
/* All but sparsity. w stays the caller's. -ERR_DRAINED when somebody asked to stop. */
int measure_model(
    const struct measure_conf *c, struct weights *w, struct measured *out, struct err *e);

#endif
