/*
 * Goal: an objective makes of a sample what its field means by it, takes the models that it can,
 * and has a loop that is whole.
 * Method: CausalLM over a corpus of known ids: each label is the input that follows, the last one
 * the first input of the next sample; every label of it counts. Classification is the corpus's own
 * samples, and counts what is labelled; a pair counts as one. That the losses are the model's is
 * what test_train and test_objective_* show.
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

/* Of models that go from left to right, that see the whole, and that do either and tell texts. */
static void check_takes(const struct objective *o, bool left, bool whole, bool texts)
{
    struct model_config c = {.architecture = "gpt2"};
    ck_assert(o->model->takes_fn(&c) == left);
    snprintf(c.architecture, sizeof c.architecture, "llama");
    ck_assert(o->model->takes_fn(&c) == (left || texts));
    snprintf(c.architecture, sizeof c.architecture, "bert");
    c.bidirectional = true;
    ck_assert(o->model->takes_fn(&c) == whole);
}

START_TEST(loops_are_whole)
{
    for (int i = 0; i <= OBJECTIVE_PAIR_MATCHING; i++) {
        const struct objective *o = objective(i);
        const struct objective_loop *l = o->loop;
        ck_assert(o->name && o->model && o->file_fn && o->rows > 0 && o->parts > 0);
        ck_assert(l->compute_fn && l->sums_fn && l->look_fn && l->sums <= OBJECTIVE_SUMS);
        ck_assert(l->sums == 1 || (l->sums > 1 && l->tell_fn));
        ck_assert(!l->score == !l->write_fn && (!l->score || (l->log_fn && o->samples)));
        ck_assert(!o->batch_fn == !l->loss_fn);
    }
}
END_TEST

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
    check_takes(o, true, false, false);
    ck_assert(o->labels_fn == data_learnt && o->tokens_fn == data_length);
    ck_assert_int_gt(o->evaluated, 0);
}
END_TEST

static void check_labels(const struct objective *o, const char *name, const char *samples)
{
    ck_assert_str_eq(o->name, name);
    ck_assert_str_eq(o->samples, samples);
    ck_assert(o->labels_fn == data_tagged_labels && o->head_fn && objective_reports(o));
    ck_assert(o->batch_fn == data_tagged_sample && o->tokens_fn == data_tagged_length);
    ck_assert_int_eq(o->evaluated, 0); /* all */
    ck_assert_str_eq(o->loop->score->name, "f1");
}

START_TEST(classification_counts_what_is_labelled)
{
    const struct objective *words = objective(OBJECTIVE_TOKEN_CLASSIFICATION);
    const struct objective *texts = objective(OBJECTIVE_SEQUENCE_CLASSIFICATION);
    check_labels(words, "TokenClassification", "sentences");
    check_labels(texts, "SequenceClassification", "texts");
    check_takes(words, false, true, false);
    check_takes(texts, false, true, true);
}
END_TEST

START_TEST(a_pair_is_two_rows_and_one_label)
{
    const struct objective *o = objective(OBJECTIVE_DPO);
    ck_assert_str_eq(o->name, "DPO");
    check_takes(o, true, false, false);
    ck_assert(o->rows == 2 && objective(OBJECTIVE_CAUSAL_LM)->rows == 1);
    ck_assert(o->batch_fn == data_pair_sample && o->longest_fn == data_pair_longest);
    ck_assert(o->labels_fn(NULL, 7) == 1 && o->tokens_fn == data_length);
    ck_assert_int_gt(o->evaluated, 0);
}
END_TEST

START_TEST(masked_samples_have_hidden_tokens)
{
    const struct objective *o = objective(OBJECTIVE_MASKED_LM);
    ck_assert_str_eq(o->name, "MaskedLM");
    check_takes(o, false, true, false);
    ck_assert(o->drawn && o->head_fn);
    ck_assert(o->batch_fn == data_masked_sample && o->labels_fn == data_masked_told);
    ck_assert_ptr_null(o->tokens_fn); /* all are full */
}
END_TEST

START_TEST(pairs_of_texts_may_be_parted)
{
    const struct objective *o = objective(OBJECTIVE_PAIR_MATCHING);
    ck_assert_str_eq(o->name, "PairMatching");
    check_takes(o, false, true, false);
    ck_assert(o->headless && o->rows == 1 && o->parts == 2 && objective_reports(o));
    ck_assert(o->labels_fn == data_match_one && o->tokens_fn == data_match_tokens);
    ck_assert_str_eq(o->loop->score->name, "match");
    ck_assert(!objective_reports(objective(OBJECTIVE_CAUSAL_LM)));
}
END_TEST

UNIT_MAIN("objective", loops_are_whole, causal_labels_are_the_inputs_that_follow,
    causal_samples_are_the_corpus_own, masked_samples_have_hidden_tokens,
    classification_counts_what_is_labelled, a_pair_is_two_rows_and_one_label,
    pairs_of_texts_may_be_parted)
