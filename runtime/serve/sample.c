/*
 * sample: one number a token, also where it is greedy, so that a token's number depends on its
 * place alone.
 */
#include "runtime/serve/sample.h"

#include "base/random.h"

void sampler_start(struct sampler *s, double temperature, double top_p, uint64_t seed)
{
    *s = (struct sampler){.temperature = (float)temperature, .top_p = (float)top_p, .state = seed};
}

struct sample_draw sampler_draw(struct sampler *s)
{
    return (struct sample_draw){
        s->temperature, s->top_p, (float)(random_next(&s->state) >> 40) * 0x1p-24f};
}
