/*
 * Goal: an objective makes of a sample what its field means by it.
 * Method: CausalLM over a corpus of known ids: each label is the input that follows, the last one
 * the first input of the next sample; every label counts; the first metric is the loss that
 * status shows. That its loss is the model's is what test_train's losses show.
 */
#include "runtime/train/objective.h"
#include "tests/unit.h"

#define LENGTH  7
#define SAMPLES 5

START_TEST(causal_labels_are_the_inputs_that_follow)
{
    const struct jobspec_train s = {.sequence_length = LENGTH, .batch_sequences = 3};
    const struct objective *o = objective_of(&s);
    int32_t ids[LENGTH * SAMPLES + 1], inputs[LENGTH], labels[LENGTH];
    struct data *d;
    struct err e;
    for (int i = 0; i <= LENGTH * SAMPLES; i++)
        ids[i] = 11 + i * i;
    ck_assert_msg(!data_from_ids(ids, LENGTH * SAMPLES + 1, LENGTH, &d, &e), "%s", e.text);
    ck_assert_int_eq(data_samples(d), SAMPLES);
    for (int64_t k = 0; k < SAMPLES; k++) {
        o->batch_fn(d, k, inputs, labels);
        for (int i = 0; i < LENGTH; i++) {
            ck_assert_int_eq(inputs[i], ids[k * LENGTH + i]);
            ck_assert_int_eq(labels[i], ids[k * LENGTH + i + 1]);
        }
    }
    data_close(d);
}
END_TEST

START_TEST(every_causal_label_counts)
{
    const struct jobspec_train s = {.sequence_length = LENGTH, .batch_sequences = 3};
    const struct objective *o = objective_of(&s);
    ck_assert_str_eq(o->name, "CausalLM");
    ck_assert_int_eq(o->labels_fn(&s, s.batch_sequences), 3 * LENGTH);
    ck_assert_int_ge(o->metric_count, 1);
    ck_assert_str_eq(o->metrics[0].name, "loss/validation");
    ck_assert_double_eq(o->metrics[0].value_fn(2.25), 2.25);
}
END_TEST

UNIT_MAIN("objective", causal_labels_are_the_inputs_that_follow, every_causal_label_counts)
