/*
 * sample: the next token from logits: greedy (temperature 0), or drawn at a temperature from the
 * nucleus of probability top_p (Holtzman et al. 2020). Seeded: the same logits and seed give the
 * same tokens. Host only, pure but for the generator's state.
 */
#ifndef RUNTIME_SERVE_SAMPLE_H
#define RUNTIME_SERVE_SAMPLE_H

#include "base/err.h"
#include "runtime/model/engine.h"

#include <stdint.h>

struct sampler;

int sampler_create(int64_t vocab, struct sampler **out, struct err *e);
void sampler_destroy(struct sampler *s);
/* At the start of a request. temperature >= 0; 0 < top_p <= 1; both are rounded to F32. */
void sampler_start(struct sampler *s, double temperature, double top_p, uint64_t seed);
int32_t sampler_next(struct sampler *s, const float *logits);
/* In place of sampler_next where the logits are on a device: with these the operation `sample`
   draws the same token. */
struct sample_draw sampler_draw(struct sampler *s);

#endif
