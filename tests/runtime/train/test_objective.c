/*
 * Goal: an objective makes of a sample what its field means by it.
 * Method: CausalLM over a corpus of known ids: each label is the input that follows, the last one
 * the first input of the next sample; every label of it counts; the first metric is the loss that
 * status shows. Classification is the corpus's own samples, and counts what is labelled; a pair
 * counts as one. That the losses are the model's is what test_train, test_classify and test_match
 * show.
 */
#include "runtime/train/objective.h"
#include "tests/unit.h"

#define LENGTH  7
#define SAMPLES 5

static const struct objective *objective(enum objective_kind kind)
{
    const struct jobspec_train s = {.objective = kind};
    return objective_of(&s);
}

START_TEST(causal_labels_are_the_inputs_that_follow)
{
    const struct objective *o = objective(OBJECTIVE_CAUSAL_LM);
    int32_t ids[LENGTH * SAMPLES + 1], inputs[LENGTH], labels[LENGTH], length;
    struct data *d;
    struct err e;
    for (int i = 0; i <= LENGTH * SAMPLES; i++)
        ids[i] = 11 + i * i;
    ck_assert_msg(!data_from_ids(ids, LENGTH * SAMPLES + 1, LENGTH, &d, &e), "%s", e.text);
    ck_assert_int_eq(data_samples(d), SAMPLES);
    for (int64_t k = 0; k < SAMPLES; k++) {
        o->batch_fn(d, k, LENGTH, inputs, labels, &length);
        for (int i = 0; i < LENGTH; i++) {
            ck_assert_int_eq(inputs[i], ids[k * LENGTH + i]);
            ck_assert_int_eq(labels[i], ids[k * LENGTH + i + 1]);
        }
    }
    ck_assert(o->labels_fn(d, 0) == LENGTH && o->tokens_fn(d, 0) == LENGTH);
    data_close(d);
}
END_TEST

START_TEST(causal_samples_are_the_corpus_own)
{
    const struct objective *o = objective(OBJECTIVE_CAUSAL_LM);
    ck_assert_str_eq(o->name, "CausalLM");
    ck_assert(!o->bidirectional && !o->labels);
    ck_assert(o->labels_fn == data_learnt && o->tokens_fn == data_length);
    ck_assert_int_gt(o->evaluated, 0);
    ck_assert_int_ge(o->metric_count, 1);
    ck_assert_str_eq(o->metrics[0].name, "loss");
    ck_assert_double_eq(o->metrics[0].value_fn(2.25), 2.25);
}
END_TEST

static void check_labels(const struct objective *o, const char *name, enum objective_labels of)
{
    ck_assert_str_eq(o->name, name);
    ck_assert(o->bidirectional && o->labels == of && o->labels_fn == data_tagged_labels);
    ck_assert(o->batch_fn == data_tagged_sample && o->tokens_fn == data_tagged_length);
    ck_assert_int_eq(o->evaluated, 0); /* all */
    ck_assert_str_eq(o->metrics[0].name, "loss");
    ck_assert_double_eq(o->metrics[0].value_fn(2.25), 2.25);
}

START_TEST(classification_counts_what_is_labelled)
{
    check_labels(
        objective(OBJECTIVE_TOKEN_CLASSIFICATION), "TokenClassification", OBJECTIVE_LABELS_WORDS);
    check_labels(objective(OBJECTIVE_SEQUENCE_CLASSIFICATION), "SequenceClassification",
        OBJECTIVE_LABELS_TEXTS);
}
END_TEST

START_TEST(a_pair_is_two_rows_and_one_label)
{
    const struct objective *o = objective(OBJECTIVE_DPO);
    ck_assert_str_eq(o->name, "DPO");
    ck_assert(o->pairs && !o->bidirectional && !o->labels && !o->loss_fn);
    ck_assert(objective_rows(o) == 2 && objective_rows(objective(OBJECTIVE_CAUSAL_LM)) == 1);
    ck_assert(o->batch_fn == data_pair_sample && o->longest_fn == data_pair_longest);
    ck_assert(o->labels_fn(NULL, 7) == 1 && o->tokens_fn == data_length);
    ck_assert_int_gt(o->evaluated, 0);
}
END_TEST

START_TEST(masked_samples_have_hidden_tokens)
{
    const struct objective *o = objective(OBJECTIVE_MASKED_LM);
    ck_assert_str_eq(o->name, "MaskedLM");
    ck_assert(o->bidirectional && o->masked && !o->labels);
    ck_assert(o->batch_fn == data_masked_sample && o->labels_fn == data_masked_told);
    ck_assert_ptr_null(o->tokens_fn); /* all are full */
    ck_assert_int_eq(o->metric_count, 2);
    ck_assert_str_eq(o->metrics[1].name, "perplexity");
    ck_assert_double_eq_tol(o->metrics[1].value_fn(2), 7.389056, 1e-6);
}
END_TEST

START_TEST(pairs_have_a_loop_of_their_own)
{
    const struct objective *o = objective(OBJECTIVE_PAIR_MATCHING);
    ck_assert_str_eq(o->name, "PairMatching");
    ck_assert(o->bidirectional && !o->labels && o->loop && objective_reports(o));
    ck_assert(o->labels_fn == data_match_one && o->tokens_fn == data_match_tokens);
    ck_assert_int_eq(o->loop->sequences, 2);
    ck_assert(!objective(OBJECTIVE_SEQUENCE_CLASSIFICATION)->loop);
    ck_assert(!objective_reports(objective(OBJECTIVE_CAUSAL_LM)));
}
END_TEST

UNIT_MAIN("objective", causal_labels_are_the_inputs_that_follow, causal_samples_are_the_corpus_own,
    masked_samples_have_hidden_tokens, classification_counts_what_is_labelled,
    a_pair_is_two_rows_and_one_label, pairs_have_a_loop_of_their_own)
