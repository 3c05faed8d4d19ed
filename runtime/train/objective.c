/*
 * objective: CausalLM predicts each token from those before it: labels are the inputs shifted by
 * one, those of running text all count, of a conversation what the assistant says, and the loss is
 * the mean of -log p over them (Radford et al. 2018, L1). What follows does not reach back, so
 * padding behind a sequence needs no mask, but where experts count the tokens that come to them.
 * MaskedLM tells hidden tokens of running text from what is around them (Devlin et al. 2019, 3.1).
 * TokenClassification predicts the label of each word at its first token (Devlin et al. 2019, 5.3),
 * SequenceClassification that of a text at its first token, [CLS], through the pooler (4.1);
 * padding is not attended to.
 * DPO learns from pairs which of two answers is better (Rafailov et al., arXiv:2305.18290).
 * PairMatching makes embeddings of texts, the means of their tokens' hidden states (Reimers and
 * Gurevych, arXiv:1908.10084); what is lost on them is cosines.h's, and the loop match.c's.
 */
#include "runtime/train/objective.h"

#include "runtime/train/internal.h"

#include <math.h>

#define CAUSAL_EVALUATED 16
#define PAIRS_EVALUATED  128
#define MASKED_EVALUATED 64 /* of which one token in seven counts */

static double loss_itself(double loss)
{
    return loss;
}

static const struct objective_metric metrics[] = {{"loss", loss_itself}};
static const struct objective_metric masked_metrics[] = {
    {"loss", loss_itself}, {"perplexity", exp}};

/* No padding is seen: there is none, or it lies behind. */
static int unpadded_loss(struct pass *p, int64_t b, const struct pass_input *in, float scale,
    bool backward, struct err *e)
{
    struct pass_input whole = *in;
    if (!pass_counts_tokens(p))
        whole.lengths = NULL;
    return pass_step(p, b, &whole, scale, backward, NULL, e);
}

static int labels_loss(struct pass *p, int64_t b, const struct pass_input *in, float scale,
    bool backward, struct err *e)
{
    return pass_step(p, b, in, scale, backward, NULL, e);
}

/* Samples of labelled words and texts are of one form. */
#define LABELLED \
    .batch_fn = data_tagged_sample, .labels_fn = data_tagged_labels, \
    .tokens_fn = data_tagged_length, .loss_fn = labels_loss, .metrics = metrics, .metric_count = 1

static int64_t one_pair(const struct data *d, int64_t sample)
{
    (void)d;
    (void)sample;
    return 1;
}

static const struct objective objectives[] = {
    [OBJECTIVE_CAUSAL_LM] = {.name = "CausalLM",
        .evaluated = CAUSAL_EVALUATED,
        .batch_fn = data_sample,
        .labels_fn = data_learnt,
        .tokens_fn = data_length,
        .loss_fn = unpadded_loss,
        .metrics = metrics,
        .metric_count = 1},
    [OBJECTIVE_MASKED_LM] = {.name = "MaskedLM",
        .bidirectional = true,
        .masked = true,
        .evaluated = MASKED_EVALUATED,
        .batch_fn = data_masked_sample,
        .labels_fn = data_masked_told,
        .loss_fn = unpadded_loss,
        .metrics = masked_metrics,
        .metric_count = 2},
    [OBJECTIVE_TOKEN_CLASSIFICATION] = {.name = "TokenClassification",
        .bidirectional = true,
        .labels = OBJECTIVE_LABELS_WORDS,
        LABELLED},
    [OBJECTIVE_SEQUENCE_CLASSIFICATION] = {.name = "SequenceClassification",
        .bidirectional = true,
        .labels = OBJECTIVE_LABELS_TEXTS,
        LABELLED},
    [OBJECTIVE_DPO] = {.name = "DPO",
        .pairs = true,
        .evaluated = PAIRS_EVALUATED,
        .batch_fn = data_pair_sample,
        .labels_fn = one_pair,
        .tokens_fn = data_length,
        .longest_fn = data_pair_longest,
        .metrics = metrics,
        .metric_count = 1},
    [OBJECTIVE_PAIR_MATCHING] = {.name = "PairMatching",
        .bidirectional = true,
        .labels_fn = data_match_one,
        .tokens_fn = data_match_tokens,
        .loop = &match_loop,
        .metrics = metrics,
        .metric_count = 1},
};

const struct objective *objective_of(const struct jobspec_train *s)
{
    return &objectives[s->objective];
}
