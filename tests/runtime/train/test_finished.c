/*
 * Goal: a finished classifier is reported as its training's test was, by one rank and by three, and
 * what does not belong to it is refused by name. Method: the tiny BERTs of tests/golden, and a tiny
 * Llama, learn sentences and texts made here; their output is evaluated on the test's file, and
 * both report.json are compared, figure by figure; a file of pairs that transformers evaluated; a
 * model whose labels are not sorted; a stop.
 * needs: sample
 */
#include "base/buf.h"
#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define TEXTS 140 /* more than a micro-batch of 2048 tokens */

enum what { WORDS, TEXTS_OF_ONE, TEXTS_OF_SEVERAL, PAIRS, TEXTS_BY_LAST, PAIRS_BY_LAST };

/* At the last token, by a decoder. */
static bool by_last(enum what what)
{
    return what >= TEXTS_BY_LAST;
}

static char train_path[256], test_path[256];

static const char *pick(uint32_t *state, const char *const *words, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return words[(*state >> 16) % n];
}

static void write_words(const char *path, int count, uint32_t seed)
{
    static const char *const names[] = {"anna", "berlin", "ed", "ion", "lia", "as"};
    static const char *const words[] = {"the", "of", "and", "was", "-"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k <= i % 7; k++)
            buf_printf(&b, "%s O\n", pick(&seed, words, 5));
        const char *name = pick(&seed, names, 6);
        buf_printf(&b, "%s B-%s\n", name, strchr("ael", *name) ? "PER" : "LOC");
        buf_str(&b, i % 3 ? "y O\n. O\n\n" : "y I-LOC\n. O\n\n");
    }
    golden_write(path, b.data, b.len);
}

static void write_texts(const char *path, int count, uint32_t seed)
{
    static const char *const words[] = {"the", "of", "and", "was"};
    static const char *const deciding[] = {"anna", "berlin"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++) {
        const char *word = pick(&seed, deciding, 2);
        buf_printf(&b, "{\"text\": \"%s", word);
        for (int k = 0; k <= i % 5; k++)
            buf_printf(&b, " %s", pick(&seed, words, 4));
        buf_printf(&b, "\", \"label\": \"%s\"}\n", *word == 'a' ? "spam" : "ham");
    }
    golden_write(path, b.data, b.len);
}

static void write_sets(const char *path, int count, uint32_t seed)
{
    static const char *const words[] = {"the", "anna", "berlin", "was"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++) {
        const char *one = pick(&seed, words, 4), *other = pick(&seed, words, 4);
        bool anna = *one == 'a' || *other == 'a', berlin = *one == 'b' || *other == 'b';
        buf_printf(&b, "{\"text\": \"%s %s\", \"labels\": [%s%s%s]}\n", one, other,
            anna ? "\"she\"" : "", anna && berlin ? ", " : "", berlin ? "\"there\"" : "");
    }
    golden_write(path, b.data, b.len);
}

/* Which of two texts has the word decides. */
static void write_pairs(const char *path, int count, uint32_t seed)
{
    static const char *const words[] = {"the", "of", "and", "was"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < count; i++) {
        bool first = !strcmp(pick(&seed, words, 4), "of");
        buf_printf(&b, "{\"text\": \"%s", first ? "anna" : "berlin");
        for (int k = 0; k < i % 7; k++)
            buf_printf(&b, " %s", pick(&seed, words, 4));
        buf_printf(&b, "\", \"text_pair\": \"%s", first ? "berlin" : "anna");
        for (int k = 0; k < i % 5; k++)
            buf_printf(&b, " %s", pick(&seed, words, 4));
        buf_printf(&b, "\", \"label\": \"%s\"}\n", first ? "first" : "second");
    }
    golden_write(path, b.data, b.len);
}

static void write_files(enum what what)
{
    static void (*const write[])(const char *path, int count, uint32_t seed) = {
        write_words, write_texts, write_sets, write_pairs, write_texts, write_pairs};
    snprintf(train_path, sizeof train_path, "%s", training_path(what ? "a.jsonl" : "a.conll"));
    snprintf(test_path, sizeof test_path, "%s", training_path(what ? "t.jsonl" : "t.conll"));
    write[what](train_path, 24, 1);
    write[what](test_path, TEXTS, 2);
}

static struct jobspec learn(enum what what)
{
    struct jobspec s = training_job("run");
    if (!by_last(what))
        s.model.source = what ? GOLDEN "tiny-bert-texts" : GOLDEN "tiny-bert";
    s.train.objective = what ? OBJECTIVE_SEQUENCE_CLASSIFICATION : OBJECTIVE_TOKEN_CLASSIFICATION;
    s.train.data.format = what ? FORMAT_JSONL : FORMAT_CONLL;
    s.train.data.train = train_path;
    s.train.data.test = test_path;
    s.train.sequence_length = 16; /* some are longer */
    s.train.batch_sequences = 4;
    /* The one for words finds some of everything as it is, and a decoder soon knows all. */
    s.train.steps = what == WORDS ? 2 : by_last(what) ? 4 : 24;
    s.train.evaluate_every_steps = 0;
    s.train.optimizer.warmup_steps = 0;
    s.train.optimizer.learning_rate = what ? 1e-2 : 1e-5;
    return s;
}

static struct jobspec look(enum what what, const char *output)
{
    struct jobspec s = training_job("run");
    s.task = TASK_EVALUATE;
    s.model.source = training_path("output");
    s.train.output = s.checkpoint.path = NULL;
    s.evaluate.objective =
        what ? EVALUATED_SEQUENCE_CLASSIFICATION : EVALUATED_TOKEN_CLASSIFICATION;
    s.evaluate.data = test_path;
    s.evaluate.format = what ? FORMAT_JSONL : FORMAT_CONLL;
    s.evaluate.sequence_length = 16;
    s.evaluate.output = training_path(output);
    return s;
}

static struct outcome run(const struct jobspec *s, int size)
{
    return training_run(&(struct training){.spec = s, .size = size, .incarnation = 1});
}

static void run_well(const struct jobspec *s, int size)
{
    struct outcome o = run(s, size);
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "rank %d: %s", i, o.message);
    ck_assert(o.done);
}

static struct json *report(const char *output)
{
    char path[64];
    snprintf(path, sizeof path, "%s/report.json", output);
    return golden_json(training_path(path));
}

static void same(const struct json *a, const struct json *b)
{
    buf_auto struct buf x, y;
    buf_init(&x, 1 << 20);
    buf_init(&y, 1 << 20);
    ck_assert(a && b && !json_print(a, &x) && !json_print(b, &y));
    ck_assert_str_eq(buf_cstr(&x), buf_cstr(&y));
}

static void check_as_in_training(enum what what, enum precision precision)
{
    write_files(what);
    struct jobspec s = learn(what);
    s.precision = precision;
    s.checkpoint.path = training_path((const char *[]){"fp32", "bf16", "fp16"}[precision]);
    run_well(&s, 1);
    s = look(what, "one");
    s.precision = precision;
    run_well(&s, 1);
    json_auto struct json *trained = report("output"), *one = report("one");
    const struct json *test = json_get(trained, "test");
    const char *of = what ? "classes" : "entities";
    const struct json *found = json_get(one, of), *was = json_get(test, of);
    if (what) /* ranks by the last bits of logits, which micro-batches of other shapes change */
        ck_assert_double_eq_tol(json_num(found, "rocAuc", 0), json_num(was, "rocAuc", 1), 1e-2);
    json_each (x, was)
        if (strcmp(json_key(x), "rocAuc") != 0)
            same(json_get(found, json_key(x)), x);
    ck_assert_int_eq(json_int(one, what ? "texts" : "sentences", 0), TEXTS);
    ck_assert_double_lt(fabs(json_num(one, "loss", 0) / json_num(test, "loss", NAN) - 1), 1e-5);
    ck_assert_str_eq(json_str(one, "objective", ""), json_str(trained, "objective", "none"));
    if (precision != PRECISION_FP32)
        return;
    s = look(what, "three");
    s.precision = precision;
    run_well(&s, 3);
    json_auto struct json *three = report("three");
    same(three, one); /* to the last bit */
}

START_TEST(words_are_reported_as_in_training)
{
    check_as_in_training(WORDS, PRECISION_FP32);
    check_as_in_training(WORDS, PRECISION_BF16);
    check_as_in_training(WORDS, PRECISION_FP16);
}
END_TEST

START_TEST(texts_are_reported_as_in_training)
{
    check_as_in_training(TEXTS_OF_ONE, PRECISION_FP32);
}
END_TEST

START_TEST(sets_of_labels_are_reported_as_in_training)
{
    check_as_in_training(TEXTS_OF_SEVERAL, PRECISION_FP32);
}
END_TEST

START_TEST(pairs_are_reported_as_in_training)
{
    check_as_in_training(PAIRS, PRECISION_FP32);
}
END_TEST

START_TEST(texts_by_a_decoder_are_reported_as_in_training)
{
    check_as_in_training(TEXTS_BY_LAST, PRECISION_FP32);
}
END_TEST

START_TEST(pairs_by_a_decoder_are_reported_as_in_training)
{
    check_as_in_training(PAIRS_BY_LAST, PRECISION_FP32);
}
END_TEST

static void refused(const struct jobspec *s, enum exit_class class, const char *word)
{
    struct outcome o = run(s, 1);
    ck_assert_msg(o.exit[0] == class, "class %d: %s", o.exit[0], o.message);
    ck_assert_msg(strstr(o.message, word) != NULL, "%s", o.message);
    ck_assert(!io_exists(s->evaluate.output));
}

START_TEST(what_does_not_belong_is_refused)
{
    write_files(WORDS);
    struct jobspec s = look(WORDS, "no");
    s.model.source = GOLDEN "tiny-bert-texts";
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.objective: TokenClassification needs a model that");
    s.model.source = training_path("model");
    refused(&s, EXIT_CLASS_USER, "a llama, finds no labels");
    s.model.source = GOLDEN "tiny-bert";
    golden_write(test_path, "the O\n\nanna B-ORG\n", 18);
    refused(&s, EXIT_CLASS_DATA, "t.conll: line 3: label \"B-ORG\" was not learnt");
    s.evaluate.sequence_length = 49;
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.sequenceLength: 49 exceeds the model's context");
    s.evaluate.sequence_length = 2;
    refused(&s, EXIT_CLASS_USER, "spec.evaluate.sequenceLength: 2 has no room");
    write_files(TEXTS_OF_SEVERAL);
    s = look(TEXTS_OF_ONE, "no");
    s.model.source = GOLDEN "tiny-bert-texts";
    refused(&s, EXIT_CLASS_DATA, "t.jsonl: line 1: has \"labels\", but what was learnt are texts");
}
END_TEST

/* In a file or a configuration. */
static void swap_names(const char *from, const char *to, const char *a, const char *b)
{
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    ck_assert_msg(!io_read_file(from, 1 << 20, &text, &e), "%s", e.text);
    for (char *p = (char *)buf_cstr(&text); *p; p++) {
        const char *is = !strncmp(p, a, strlen(a)) ? b : !strncmp(p, b, strlen(b)) ? a : NULL;
        if (is)
            memcpy(p, is, strlen(is));
    }
    golden_write(to, text.data, text.len);
}

/* The row of each label is found by its name. */
/* From the file to the figures, of pairs of which many are cut. */
START_TEST(pairs_are_transformers)
{
    json_auto struct json *golden = golden_json(GOLDEN "tiny_bert_pairs.json");
    buf_auto struct buf lines;
    buf_init(&lines, 1 << 20);
    json_each (v, json_get(golden, "pairs")) {
        ck_assert(!json_print(v, &lines));
        buf_char(&lines, '\n');
    }
    write_files(PAIRS);
    golden_write(test_path, lines.data, lines.len);
    struct jobspec s = look(PAIRS, "pairs");
    s.model.source = GOLDEN "tiny-bert-texts";
    s.evaluate.sequence_length = (int)json_int(golden, "length", 0);
    run_well(&s, 2);
    json_auto struct json *v = report("pairs");
    double loss = json_num(golden, "loss", NAN);
    ck_assert_int_eq(json_int(v, "texts", 0), (int64_t)json_count(json_get(golden, "pairs")));
    ck_assert_int_gt(json_int(v, "truncated", 0), 20);
    ck_assert_double_lt(fabs(json_num(v, "loss", 0) / loss - 1), 1e-5);
    ck_assert_double_eq(
        json_num(json_get(v, "classes"), "accuracy", 0), json_num(golden, "accuracy", 1));
}
END_TEST

START_TEST(labels_need_not_be_sorted)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    double loss[2];
    struct err e = {0};
    write_files(WORDS);
    struct jobspec s = look(WORDS, "sorted");
    s.model.source = GOLDEN "tiny-bert";
    s.evaluate.samples = 5;
    for (int i = 0; i < 2; i++) {
        run_well(&s, 1);
        json_auto struct json *v = report("sorted");
        loss[i] = json_num(v, "loss", NAN);
        ck_assert_int_eq(json_int(v, "sentences", 0), 5);
        s.model.source = training_path("other");
        ck_assert(!io_mkdirs(s.model.source, 0755, &e));
        for (int k = 0; k < 3; k++) {
            char from[64], to[64];
            snprintf(from, sizeof from, GOLDEN "tiny-bert/%s", files[k]);
            snprintf(to, sizeof to, "other/%s", files[k]);
            swap_names(from, training_path(to), k ? "\n" : "B-LOC", k ? "\n" : "I-PER");
        }
        swap_names(test_path, test_path, "B-LOC", "I-PER");
    }
    ck_assert_double_lt(fabs(loss[1] / loss[0] - 1), 1e-6);
}
END_TEST

START_TEST(a_stop_is_every_ranks)
{
    write_files(WORDS);
    struct jobspec s = look(WORDS, "stopped");
    s.model.source = GOLDEN "tiny-bert";
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 1000; i++)
        buf_str(&b, "anna B-PER\n\n");
    golden_write(test_path, b.data, b.len);
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .stop_after = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_DRAINED);
    ck_assert_int_eq(o.exit[1], EXIT_CLASS_DRAINED);
    ck_assert(o.drained && !io_exists(s.evaluate.output));
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){"finished", 120, training_setup, training_teardown},
        (const TTest *const[]){words_are_reported_as_in_training, texts_are_reported_as_in_training,
            sets_of_labels_are_reported_as_in_training, pairs_are_reported_as_in_training,
            texts_by_a_decoder_are_reported_as_in_training,
            pairs_by_a_decoder_are_reported_as_in_training, what_does_not_belong_is_refused,
            pairs_are_transformers, labels_need_not_be_sorted, a_stop_is_every_ranks, NULL});
}
