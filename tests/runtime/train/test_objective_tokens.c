/*
 * Goal: masked tokens are learnt: the loss falls below what is had by knowing how frequent tokens
 * are, alike in any world and through an interruption, and the folder is a BertForMaskedLM with
 * which the next training goes on. Method: real ranks on the golden BERT with that head and on a
 * text in which tokens tell their neighbours; and what must be refused.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/io.h"
#include "runtime/family/weights.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define MASKED GOLDEN "tiny-bert-masked"
#define STEPS  16

static struct err e;

/* Words that go on for a while: those around a hidden one tell it. */
static void write_text(const char *path)
{
    static const char *const words[] = {
        "the", "berlin", "of", "anna", "was", "in", "for", "and", "to", "at"};
    buf_auto struct buf b;
    uint32_t x = 5;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 140; i++) {
        x = x * 1664525u + 1013904223u;
        for (int k = 0; k < 28; k++)
            buf_printf(&b, "%s ", words[(x >> 16) % 10]);
    }
    golden_write(path, b.data, b.len);
}

static void setup(void)
{
    training_setup();
    write_text(training_path("corpus.txt"));
}

static struct jobspec job(const char *run)
{
    struct jobspec s = training_job(run);
    s.model.source = MASKED;
    s.train.objective = OBJECTIVE_MASKED_LM;
    s.train.masking.share = 0.15;
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.batch_sequences = 32;
    s.train.optimizer.learning_rate = 1e-2;
    return s;
}

static struct outcome run(const struct jobspec *spec, int size, int incarnation, int stop_after)
{
    return training_run(&(struct training){
        .spec = spec, .size = size, .incarnation = incarnation, .stop_after = stop_after});
}

static void keep(const char *name)
{
    ck_assert(!rename(training_path("output/model.safetensors"), training_path(name)));
    golden_remove(training_path("output"));
}

START_TEST(masked_tokens_are_learnt_alike_in_any_world)
{
    static struct event events[8 * STEPS];
    struct outcome o[3];
    char board[256];
    snprintf(board, sizeof board, "%s/board", training_folder);
    for (int i = 0; i < 3; i++) {
        static const char *const runs[] = {"one", "two", "three"};
        struct jobspec s = job(runs[i]);
        s.train.masking.whole_word = true;
        s.train.tensorboard = i ? NULL : board;
        o[i] = training_run_whole(&s, i + 1);
        ck_assert_double_lt(o[i].validation, 2.0); /* ten words: 2.3 */
        ck_assert_double_gt(o[i].first_validation, 4);
        for (int k = 1; k <= STEPS; k++)
            ck_assert_double_lt(fabs(o[i].loss[k] / o[0].loss[k] - 1), 1e-3);
    }
    printf("loss %.4f, after %d steps %.4f\n", o[0].first_validation, STEPS, o[0].validation);
    ck_assert_double_lt(fabs(o[1].validation / o[0].validation - 1), 1e-3);
    int n = events_shown(board, events, 8 * STEPS);
    ck_assert(events_at(events, n, "perplexity/validation", STEPS));
    for (int i = 0; i < n; i++)
        if (events[i].step == STEPS && !strcmp(events[i].tag, "perplexity/validation"))
            ck_assert_float_eq(events[i].value, (float)exp(o[0].validation));
    struct weights *w;
    ck_assert_msg(!weights_open(training_path("output"), NULL, &w, &e), "%s", e.text);
    ck_assert(weights_config(w)->masked && !weights_config(w)->labels);
    weights_close(w);
}
END_TEST

START_TEST(an_interruption_does_not_show)
{
    struct jobspec straight = job("straight"), cut = job("cut");
    straight.train.steps = cut.train.steps = 20;
    /* the corpus is gone round: its tokens are hidden anew */
    straight.train.batch_sequences = cut.train.batch_sequences = 16;
    struct outcome a = training_run_whole(&straight, 2);
    keep("straight.safetensors");
    struct outcome b = run(&cut, 2, 1, 4);
    ck_assert(b.drained && b.last >= 4 && b.last < 20);
    b = run(&cut, 2, 2, 0);
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE && b.last == 20, "%s", b.message);
    ck_assert(b.loss[20] == a.loss[20] && b.validation == a.validation);
    training_same_files(
        training_path("straight.safetensors"), training_path("output/model.safetensors"));
    /* of another share it is another training */
    cut.train.masking.share = 0.2;
    b = run(&cut, 2, 3, 0);
    ck_assert_int_eq(b.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(b.message, "spec.train.masking.share"), "%s", b.message);
}
END_TEST

/* Nothing is learnt, so the same tokens would have the same loss. */
START_TEST(each_epoch_hides_other_tokens)
{
    struct jobspec s = job("epochs");
    s.train.optimizer.learning_rate = 0;
    s.train.batch_sequences = 275;
    s.train.steps = 2;
    struct outcome o = training_run_whole(&s, 1);
    ck_assert_int_eq(o.held_out, 5);
    ck_assert_double_gt(fabs(o.loss[2] / o.loss[1] - 1), 1e-4);
    ck_assert_double_lt(fabs(o.loss[2] / o.loss[1] - 1), 0.2);
    ck_assert(o.validation == o.first_validation); /* its tokens stay */
}
END_TEST

/* A head is drawn where there is none, and adapters leave one that there is as it was. */
START_TEST(heads_are_fresh_or_frozen)
{
    struct jobspec s = job("fresh");
    struct weights *w[2];
    float x[2][96];
    s.model.source = GOLDEN "tiny-bert";
    struct outcome o = training_run_whole(&s, 1);
    ck_assert_double_eq_tol(o.first_validation, log(96), 0.8);
    ck_assert_double_lt(o.validation, 3);
    training_lora(&s);
    s.checkpoint.path = training_path("lora");
    o = run(&s, 1, 1, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(
        strstr(o.message, "spec.train.method: LoRA trains no head of masked"), "%s", o.message);
    s.model.source = MASKED;
    s.precision = PRECISION_BF16;
    o = training_run_whole(&s, 2);
    ck_assert_double_lt(o.validation, o.first_validation);
    const char *const folders[] = {MASKED, training_path("output")};
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(!weights_open(folders[i], NULL, &w[i], &e), "%s", e.text);
        ck_assert(!weights_read(w[i], "lm_head.bias", 96, 1, 0, 96, DTYPE_F32, x[i], &e));
        weights_close(w[i]);
    }
    for (int i = 0; i < 96; i++)
        ck_assert_float_eq_tol(x[1][i], x[0][i], 0.01f * fabsf(x[0][i]));
    json_auto struct json *config =
        golden_json(training_path("output/adapter/adapter_config.json"));
    ck_assert(json_is_null(json_get(config, "task_type")));
}
END_TEST

START_TEST(what_is_refused)
{
    struct jobspec s = job("refused");
    s.model.source = training_path("model");
    struct outcome o = run(&s, 1, 1, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "spec.train.objective: MaskedLM needs a model that sees"), "%s",
        o.message);
    s = training_job("refused");
    s.model.source = MASKED;
    o = run(&s, 1, 1, 0);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "spec.train.objective: CausalLM needs"), "%s", o.message);
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){"objective_tokens", 120, setup, training_teardown},
        (const TTest *const[]){masked_tokens_are_learnt_alike_in_any_world,
            an_interruption_does_not_show, each_epoch_hides_other_tokens, heads_are_fresh_or_frozen,
            what_is_refused, NULL});
}
