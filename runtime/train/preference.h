/*
 * preference: the loss of a pair of answers, of which the first is preferred, and a micro-batch of
 * pairs through a model. With r = log p(answer) - log p_reference(answer), each over the tokens
 * that count, and z = beta (r_chosen - r_rejected):
 *
 *     Sigmoid  -(1 - e) log sigmoid(z) - e log sigmoid(-z)   e: labelSmoothing
 *              (Rafailov et al., arXiv:2305.18290, eq. 7; e: Mitchell 2023, conservative DPO)
 *     IPO      (r_chosen / n_chosen - r_rejected / n_rejected - 1 / (2 beta))^2   n: its tokens
 *              (Azar et al., arXiv:2310.12036, eq. 17, by token as TRL has it)
 *
 * Its gradient by the parameters is that of -log p of either answer, times a number each, which is
 * known when both answers have gone forward. Must not know steps, ranks or files.
 */
#ifndef RUNTIME_TRAIN_PREFERENCE_H
#define RUNTIME_TRAIN_PREFERENCE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/model/pass.h"

enum preference_sum { /* over pairs; beta r is an answer's reward */
    PREFERENCE_LOSS,
    PREFERENCE_CHOSEN,   /* rewards */
    PREFERENCE_REJECTED, /* the same */
    PREFERENCE_ACCURACY, /* 1 where the first reward is greater */
    PREFERENCE_MARGIN,   /* the first reward less the second */
    PREFERENCE_LOGP_CHOSEN,
    PREFERENCE_LOGP_REJECTED,
    PREFERENCE_SUMS
};

struct preference {
    double beta, label_smoothing;
    enum dpo_loss loss;
};

struct preference_pair {           /* chosen, rejected */
    double log_p[2], reference[2]; /* of all tokens that count */
    int64_t tokens[2];             /* so many */
};
/* Adds to the sums; slopes: the loss' derivatives by -log_p. Pure. */
void preference_add(const struct preference *c, const struct preference_pair *p,
    double sums[PREFERENCE_SUMS], double slopes[2]);

struct preference_batch {
    int64_t pairs, tokens;   /* T: of a row */
    const double *reference; /* (pairs, 2), host; NULL: only log_p is wanted */
    double *log_p;           /* (pairs, 2), host: becomes what the model has */
    float *scales;           /* (pairs, 2), host: used up */
    bool drops;              /* dropout leaves something out */
};
/* in: two rows a pair. Adds to the sums; backward: gradient += that of the losses' sum, times
   scale. */
int preference_step(struct pass *p, const struct preference *c, const struct preference_batch *b,
    const struct pass_input *in, float scale, bool backward, double sums[PREFERENCE_SUMS],
    struct err *e);

#endif
