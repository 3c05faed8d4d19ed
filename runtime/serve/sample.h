/*
 * sample: how the tokens of a request are drawn: at its temperature (0: greedy), from its nucleus
 * (Holtzman et al., arXiv:1904.09751), by numbers of its own sequence. The same seed gives the same
 * numbers; the operation `sample` (kernels/ops.h) draws with them. Pure but for the generator's
 * state.
 */
#ifndef RUNTIME_SERVE_SAMPLE_H
#define RUNTIME_SERVE_SAMPLE_H

#include "runtime/model/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct shape;
struct sampler {
    float temperature, top_p; /* as the device takes them */
    uint64_t state;
    const struct shape *shape; /* borrowed, or NULL: the logits are drawn from as they are */
    bool tells;                /* the logits of what is drawn are wanted on the host, */
    bool scores;               /* and those of the prompt's tokens (batcher.h) */
};

/* At the start of a request, without a shape. temperature >= 0; 0 < top_p <= 1; both are rounded to
   F32. */
void sampler_start(struct sampler *s, double temperature, double top_p, uint64_t seed);
/* For the next token. */
struct sample_draw sampler_draw(struct sampler *s);

#endif
