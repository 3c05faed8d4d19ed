/*
 * objective: CausalLM predicts each token from those before it: labels are the inputs shifted by
 * one, all of them count, the loss is the mean of -log p over them (Radford et al. 2018, L1).
 */
#include "runtime/train/objective.h"

static int64_t causal_labels(const struct jobspec_train *s, int64_t sequences)
{
    return sequences * s->sequence_length;
}

static int causal_loss(struct pass *p, int64_t b, const int32_t *inputs, const int32_t *labels,
    float scale, bool backward, struct err *e)
{
    return pass_step(p, b, inputs, NULL, labels, scale, backward, NULL, e);
}

static double loss_itself(double loss)
{
    return loss;
}

static const struct objective_metric causal_metrics[] = {{"loss/validation", loss_itself}};

static const struct objective causal = {
    .name = "CausalLM",
    .batch_fn = data_sample,
    .labels_fn = causal_labels,
    .loss_fn = causal_loss,
    .metrics = causal_metrics,
    .metric_count = sizeof causal_metrics / sizeof *causal_metrics,
};

const struct objective *objective_of(const struct jobspec_train *s)
{
    (void)s; /* the one that there is */
    return &causal;
}
