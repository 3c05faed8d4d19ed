/*
 * logprob: the sum is made once for all of a row's.
 */
#include "runtime/serve/logprob.h"

#include "api/limits.h"
#include "runtime/model/likelihood.h"
#include "runtime/serve/top.h"

#include <assert.h>

void logprob_of(const float *logits, int64_t v, int32_t token, int top, struct logprob *out)
{
    struct likelihood x = likelihood_of(logits, v, token);
    int32_t ids[LIMIT_LOGPROBS];
    assert(top >= 0 && top <= LIMIT_LOGPROBS && top <= v && x.found);
    if (top)
        top_of(logits, v, top, ids);
    out[0] = (struct logprob){token, (float)-likelihood_loss(&x, 1, 1)};
    for (int i = 0; i < top; i++) {
        x.target = logits[ids[i]];
        out[i + 1] = (struct logprob){ids[i], (float)-likelihood_loss(&x, 1, 1)};
    }
}
