/*
 * logprob: the logarithms of the probabilities that a row of logits gives, of a token and of the
 * likeliest ones: of the model's own distribution, before any temperature, penalty or bias (what
 * vLLM calls raw logprobs). Exponentials in F32, their sum in double (runtime/model/likelihood.h).
 * Pure.
 */
#ifndef RUNTIME_SERVE_LOGPROB_H
#define RUNTIME_SERVE_LOGPROB_H

#include <stdint.h>

struct logprob {
    int32_t token;
    float logprob;
};

/* out (1 + top): of token, one of v, then of the `top` likeliest, likeliest first, of equals the
   lower id. 0 <= top <= LIMIT_LOGPROBS and v. */
void logprob_of(const float *logits, int64_t v, int32_t token, int top, struct logprob *out);

#endif
