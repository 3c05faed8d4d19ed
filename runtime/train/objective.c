/*
 * objective: which row each name of spec.train.objective is, and what rows have in common.
 */
#include "runtime/train/objective.h"

static bool goes_left_to_right(const struct model_config *c)
{
    return !c->bidirectional;
}

static bool sees_the_whole(const struct model_config *c)
{
    return c->bidirectional;
}

const struct objective_model objective_left_to_right = {
    "model that goes from left to right", goes_left_to_right};
const struct objective_model objective_whole = {
    "model that sees whole sentences, a bert", sees_the_whole};

const struct objective *objective_of(const struct jobspec_train *s)
{
    static const struct objective *const all[] = {
        [OBJECTIVE_CAUSAL_LM] = &objective_causal_lm,
        [OBJECTIVE_MASKED_LM] = &objective_masked_lm,
        [OBJECTIVE_TOKEN_CLASSIFICATION] = &objective_words,
        [OBJECTIVE_SEQUENCE_CLASSIFICATION] = &objective_texts,
        [OBJECTIVE_DPO] = &objective_dpo,
        [OBJECTIVE_PAIR_MATCHING] = &objective_match,
    };
    return all[s->objective];
}
