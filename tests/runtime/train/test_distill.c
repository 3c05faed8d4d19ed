/*
 * Goal: a training with a teacher depends on neither the world nor its interruptions, and one whose
 * teacher is another is another training. Method: short trainings on real ranks on a tiny Llama: a
 * first one's output teaches a fresh model; one and two ranks; a stop and a resume, to the bit; how
 * near to the teacher's its losses come; a tiny BERT that labels texts, by one that does; teachers
 * that cannot be.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 40 /* so many that a request to stop comes long before the last */

static struct err e;
static char teacher[128];

static struct jobspec job(const char *name)
{
    struct jobspec s = training_job(name);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    return s;
}

static struct jobspec taught(const char *name)
{
    struct jobspec s = job(name);
    s.train.seed = 7;
    s.train.distill.teacher = teacher;
    s.train.distill.temperature = 2;
    s.train.distill.weight = 0.5;
    return s;
}

static struct outcome run(const struct jobspec *s, int size, int incarnation, int stop_after)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after});
    enum exit_class want = stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE;
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == want, "%s", o.message);
    return o;
}

static void make_teacher(void)
{
    struct jobspec s = job("teacher");
    snprintf(teacher, sizeof teacher, "%s", training_path("taught-by"));
    run(&s, 1, 1, 0);
    ck_assert(!io_rename(training_path("output"), teacher, &e));
}

static void refused(
    const struct jobspec *s, int incarnation, enum exit_class class, const char *says)
{
    struct outcome o =
        training_run(&(struct training){.spec = s, .size = 1, .incarnation = incarnation});
    ck_assert_msg(o.exit[0] == class, "%s", o.message);
    ck_assert_msg(strstr(o.message, says), "%s", o.message);
}

/* Another teacher: two tokens change places, or, without them, the last byte is another. */
static void spoil(const char *file, const char *const tokens[2])
{
    buf_auto struct buf text;
    char path[160];
    buf_init(&text, 1 << 24);
    snprintf(path, sizeof path, "%s/%s", teacher, file);
    ck_assert(!io_read_file(path, 1 << 24, &text, &e));
    if (tokens) {
        char *a = strstr(text.data, tokens[0]), *b = strstr(text.data, tokens[1]);
        ck_assert(a && b);
        a[1] = tokens[1][1];
        b[1] = tokens[0][1];
    } else {
        text.data[text.len - 1] ^= 1;
    }
    ck_assert(!io_write_file(path, text.data, text.len, 0644, &e));
}

START_TEST(neither_world_nor_interruption_shows)
{
    make_teacher();
    struct jobspec one = taught("one"), two = taught("two"), cut = taught("cut");
    struct outcome a = run(&one, 1, 1, 0), b = run(&two, 2, 1, 0);
    ck_assert_double_lt(a.loss[STEPS], 0.9 * a.loss[1]);
    ck_assert_double_lt(a.validation, a.first_validation);
    ck_assert(
        !io_rename(training_path("output/model.safetensors"), training_path("straight.out"), &e));
    struct outcome c = run(&cut, 2, 1, 4);
    ck_assert(c.last >= 5 && c.last < STEPS);
    c = run(&cut, 2, 2, 0);
    for (int k = 1; k <= STEPS; k++) {
        ck_assert_msg(fabs(b.loss[k] / a.loss[k] - 1) < 1e-5,
            "two ranks, step %d: %.9g, one rank %.9g", k, b.loss[k], a.loss[k]);
        ck_assert(k < c.first || c.loss[k] == b.loss[k]);
    }
    training_same_checkpoints("two", "cut");
    training_same_files(training_path("straight.out"), training_path("output/model.safetensors"));
    cut.train.distill.weight = 0.25;
    refused(&cut, 3, EXIT_CLASS_USER, "spec.train.distill.weight: 0.5");
    cut = taught("cut");
    spoil("model.safetensors", NULL);
    refused(&cut, 3, EXIT_CLASS_USER, "spec.train.distill.teacher: content");
}
END_TEST

START_TEST(teachers_that_cannot_be_are_refused)
{
    struct jobspec s = taught("refused");
    snprintf(teacher, sizeof teacher, "/nowhere/model.gguf");
    refused(&s, 1, EXIT_CLASS_DATA, "/nowhere/model.gguf");
    snprintf(teacher, sizeof teacher, GOLDEN "tiny-qwen2");
    refused(&s, 1, EXIT_CLASS_USER,
        "spec.train.distill.teacher: a vocabulary of 131 tokens, and spec.model has 256");
    snprintf(teacher, sizeof teacher, GOLDEN "tiny-bert");
    refused(&s, 1, EXIT_CLASS_USER, "spec.train.distill.teacher: a bert, which predicts no next");
    snprintf(teacher, sizeof teacher, GOLDEN "tiny-mixtral");
    refused(&s, 1, EXIT_CLASS_USER, "spec.train.distill: a mixture of experts neither teaches");
    make_teacher();
    spoil("tokenizer.json", (const char *const[]){"\"a\"", "\"b\""});
    refused(&s, 1, EXIT_CLASS_USER, "spec.train.distill.teacher: its token 97 is not that of");
}
END_TEST

/* Texts of the letters that tiny-bert-texts knows, with its labels or others. */
static struct jobspec taught_labels(const char *name, const char *const labels[3])
{
    struct jobspec s = job(name);
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < 60; i++)
        buf_printf(&b, "{\"text\": \"%c %c was in %s\", \"label\": \"%s\"}\n", 'a' + i % 7,
            'k' + i % 5, i % 2 ? "berlin" : "the", labels[i % 3]);
    golden_write(training_path("texts.jsonl"), b.data, b.len);
    snprintf(teacher, sizeof teacher, GOLDEN "tiny-bert-texts");
    s.model.source = GOLDEN "tiny-bert-texts";
    s.train.objective = OBJECTIVE_SEQUENCE_CLASSIFICATION;
    s.train.data.train = training_path("texts.jsonl");
    s.train.data.format = FORMAT_JSONL;
    s.train.steps = 12;
    s.train.distill.teacher = teacher;
    s.train.distill.temperature = 2;
    s.train.distill.weight = 0.5;
    return s;
}

START_TEST(a_classifier_is_taught_by_one_with_its_labels)
{
    static const char *const same[] = {"positive", "negative", "neutral"};
    struct jobspec one = taught_labels("one", same), two = one, alone = one;
    two.checkpoint.path = training_path("two");
    alone.checkpoint.path = training_path("alone");
    alone.train.distill.teacher = NULL;
    struct outcome a = run(&one, 1, 1, 0), b = run(&two, 2, 1, 0), c = run(&alone, 1, 1, 0);
    for (int k = 1; k <= 12; k++)
        ck_assert_msg(fabs(b.loss[k] / a.loss[k] - 1) < 1e-5, "step %d: %.9g, one rank %.9g", k,
            b.loss[k], a.loss[k]);
    ck_assert_double_gt(fabs(a.loss[12] / c.loss[12] - 1), 1e-3);
    /* The first step's teacher is the pupil itself: half of the text's loss is left. */
    ck_assert_double_eq_tol(a.loss[1] / c.loss[1], 0.5, 1e-5);
}
END_TEST

/* At a text's last token; the teacher is what the pupil begins as. */
START_TEST(a_decoder_is_taught_at_the_last_token)
{
    struct jobspec s = taught_labels("first", (const char *const[]){"a", "b", "c"}), alone;
    s.train.distill.teacher = NULL;
    s.train.steps = 4;
    s.model.source = training_path("model");
    run(&s, 1, 1, 0);
    snprintf(teacher, sizeof teacher, "%s", training_path("taught-by"));
    ck_assert(!io_rename(training_path("output"), teacher, &e));
    s.model.source = teacher;
    alone = s;
    alone.checkpoint.path = training_path("alone");
    s.checkpoint.path = training_path("taught");
    s.train.distill.teacher = teacher;
    struct outcome a = run(&s, 1, 1, 0), b = run(&alone, 1, 1, 0);
    ck_assert_double_eq_tol(a.loss[1] / b.loss[1], 0.5, 1e-5);
    ck_assert_double_gt(fabs(a.loss[4] / b.loss[4] - 0.5), 1e-6);
}
END_TEST

START_TEST(a_teacher_of_other_labels_is_refused)
{
    struct jobspec s = taught_labels("names", (const char *const[]){"positive", "good", "bad"});
    refused(&s, 1, EXIT_CLASS_USER,
        "spec.train.distill.teacher: a bert, whose labels are not those of spec.train.data");
    s = taught_labels("number", (const char *const[]){"positive", "negative", "negative"});
    refused(&s, 1, EXIT_CLASS_USER,
        "spec.train.distill.teacher: finds 3 labels, and spec.train.data has 2");
    snprintf(teacher, sizeof teacher, GOLDEN "tiny-bert-masked");
    refused(&s, 1, EXIT_CLASS_USER, "spec.train.distill.teacher: a bert, which finds no labels");
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "distill",
                                .timeout_s = 120,
                                .setup = training_setup,
                                .done = training_teardown},
        (const TTest *const[]){neither_world_nor_interruption_shows,
            teachers_that_cannot_be_are_refused, a_classifier_is_taught_by_one_with_its_labels,
            a_decoder_is_taught_at_the_last_token, a_teacher_of_other_labels_is_refused, NULL});
}
