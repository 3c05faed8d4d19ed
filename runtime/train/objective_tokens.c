/*
 * train/objective_tokens: what has a loss for each token that is to be told. CausalLM predicts each
 * from those before it: labels are the inputs shifted by one, those of running text all count, of a
 * conversation what the assistant says, and the loss is the mean of -log p over them (Radford et
 * al. 2018, L1). What follows does not reach back, so padding behind a sequence needs no mask, but
 * where experts count the tokens that come to them. MaskedLM tells hidden tokens of running text
 * from what is around them (Devlin et al. 2019, 3.1); all of its samples are full.
 */
#include "runtime/train/internal.h"

#include <math.h>

#define CAUSAL_EVALUATED 16
#define MASKED_EVALUATED 64 /* of which one token in seven counts */

/* -- files -- */

static int open_running(
    const struct train *t, const char *path, const char *tokens, struct data **out, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    return data_open(path, tokens, s->sequence_length, s->data.packing, out, e);
}

static int causal_file(struct train *t, const char *path, struct data **out, struct err *e)
{
    return train_open_corpus(t, path, open_running, out, e);
}

static int open_masked(
    const struct train *t, const char *path, const char *tokens, struct data **out, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    const struct data_masking m = {s->masking.share, s->masking.whole_word, s->seed};
    return data_open_masked(path, tokens, s->sequence_length, t->tok, &m, out, e);
}

static int masked_file(struct train *t, const char *path, struct data **out, struct err *e)
{
    return train_open_corpus(t, path, open_masked, out, e);
}

static int masked_head(struct train *t, struct err *e)
{
    (void)e;
    t->config.masked = true;
    return 0;
}

/* -- the loop -- */

static int tokens_loss(struct train *t, int64_t b, float scale, bool backward, struct err *e)
{
    if (train_is_staged(t))
        return train_pipeline_look(t, b, e);
    const struct pass_input in = {.ids = t->inputs,
        .lengths = pass_counts_tokens(t->pass) ? t->lengths : NULL,
        .told = t->told,
        .first = t->first,
        .targets = t->labels};
    return pass_step(t->pass, b, &in, scale, backward, NULL, e);
}

static int masked_tell(struct train *t, const char *of, const double *means, struct err *e)
{
    return train_tell_figure(t, "perplexity", of, exp(means[0]), e);
}

#define TOKENS \
    .compute_fn = train_compute, .loss_fn = tokens_loss, .sums_fn = train_losses, .sums = 1, \
    .look_fn = train_look

static const struct objective_loop causal_loop = {TOKENS};
static const struct objective_loop masked_loop = {TOKENS, .tell_fn = masked_tell};

const struct objective objective_causal_lm = {
    .name = "CausalLM",
    .model = &objective_left_to_right,
    .rows = 1,
    .parts = 1,
    .evaluated = CAUSAL_EVALUATED,
    .file_fn = causal_file,
    .batch_fn = data_sample,
    .labels_fn = data_learnt,
    .tokens_fn = data_length,
    .loop = &causal_loop,
};

const struct objective objective_masked_lm = {
    .name = "MaskedLM",
    .model = &objective_whole,
    .drawn = true,
    .rows = 1,
    .parts = 1,
    .evaluated = MASKED_EVALUATED,
    .head_fn = masked_head,
    .file_fn = masked_file,
    .batch_fn = data_masked_sample,
    .labels_fn = data_masked_told,
    .loop = &masked_loop,
};
