/*
 * Goal: sentences with labels become the samples that transformers' token classification makes of
 * them, labels have the same numbers wherever they are learnt, and what could be learnt wrongly is
 * refused with its line. Method: a WordPiece of eleven tokens, whose ids are written out by hand; a
 * digest for each thing that may differ; a table of bad files.
 * needs: faults
 */
#include "runtime/data/data.h"

#include "tests/runtime/golden.h"
#include "tests/runtime/wordpiece.h"
#include "tests/unit.h"

#define T 8

static const char two[] = "unaffable B-PER\nruns O\n. O\n\nParis B-LOC\nParis I-LOC\n";

static char path[100];
static struct tok *tok;
static struct err e;

static void begin(void)
{
    tok = wordpiece_begin("a.conll", path);
}

static void end(void)
{
    wordpiece_end(tok, path);
}

/* With the labels that the file has itself. */
static int learn_and_open(int length, struct data_labels *labels, struct data **out)
{
    int rc = data_labels_learn_words(labels, path, &e);
    return rc ? rc : data_open_tagged(path, tok, length, labels, out, &e);
}

static struct data *open_text(const char *text, struct data_labels *labels)
{
    struct data *d = NULL;
    golden_write(path, text, strlen(text));
    int rc = learn_and_open(T, labels, &d);
    ck_assert_msg(!rc, "%s", e.text);
    return d;
}

static void check(
    const struct data *d, int64_t sample, int n, const int32_t *ids, const int32_t *tags)
{
    int32_t inputs[T], labels[T], length, counted = 0;
    data_tagged_sample(d, sample, T, inputs, labels, &length);
    ck_assert_int_eq(length, n);
    ck_assert_int_eq(data_tagged_length(d, sample), n);
    for (int i = 0; i < T; i++) {
        ck_assert_int_eq(inputs[i], i < n ? ids[i] : PAD);
        ck_assert_int_eq(labels[i], i < n ? tags[i] : -1);
        counted += labels[i] >= 0;
    }
    ck_assert_int_eq(data_tagged_labels(d, sample), counted);
}

START_TEST(the_first_token_of_a_word_has_its_label)
{
    static const char *const names[] = {"B-LOC", "B-PER", "I-LOC", "O"};
    struct data_labels labels = {.names = NULL};
    struct data *d = open_text(two, &labels);
    ck_assert_int_eq(labels.count, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_str_eq(labels.names[i], names[i]);
    ck_assert_int_eq(data_samples(d), 2);
    ck_assert_int_eq(data_tagged_truncated(d), 0);
    check(d, 0, 7, (const int32_t[]){CLS, UN, AFF, ABLE, RUNS, DOT, SEP},
        (const int32_t[]){-1, 1, -1, -1, 3, 3, -1});
    check(d, 1, 4, (const int32_t[]){CLS, PARIS, PARIS, SEP}, (const int32_t[]){-1, 0, 2, -1});
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

START_TEST(what_does_not_fit_is_left_out_and_counted)
{
    static const char text[] = "runs O\nruns O\nruns O\nruns O\nruns O\nunaffable B-X\nruns O\n\n"
                               "runs O\nruns O\nruns O\nruns O\nruns O\nruns O\n\n"
                               "\xe2\x80\x8b B-X\n\n\xe2\x80\x8b O\nruns B-X\n";
    struct data_labels labels = {.names = NULL};
    struct data *d = open_text(text, &labels);
    /* The third is nothing to the tokenizer; of the fourth a word is. */
    ck_assert_int_eq(data_samples(d), 3);
    ck_assert_int_eq(data_tagged_truncated(d), 1);
    check(d, 0, 8, (const int32_t[]){CLS, RUNS, RUNS, RUNS, RUNS, RUNS, UN, SEP},
        (const int32_t[]){-1, 1, 1, 1, 1, 1, 0, -1});
    check(d, 1, 8, (const int32_t[]){CLS, RUNS, RUNS, RUNS, RUNS, RUNS, RUNS, SEP},
        (const int32_t[]){-1, 1, 1, 1, 1, 1, 1, -1});
    check(d, 2, 3, (const int32_t[]){CLS, RUNS, SEP}, (const int32_t[]){-1, 0, -1});
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

/* A file for evaluation is numbered as the training file, though it lacks some. */
START_TEST(labels_are_those_of_all_files)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = open_text(two, &labels), *v = NULL;
    golden_write(path, "runs O\n", 7);
    ck_assert_msg(!data_open_tagged(path, tok, T, &labels, &v, &e), "%s", e.text);
    check(v, 0, 3, (const int32_t[]){CLS, RUNS, SEP}, (const int32_t[]){-1, 3, -1});
    data_close(v);
    golden_write(path, "runs O\n\nParis B-LO\n", 19);
    ck_assert_int_eq(data_open_tagged(path, tok, T, &labels, &v, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.conll: line 3: label \"B-LO\" was not learnt"));
    /* Learnt as well, it moves those behind it. */
    ck_assert(!data_labels_learn_words(&labels, path, &e));
    ck_assert_int_eq(labels.count, 5);
    ck_assert_msg(!data_open_tagged(path, tok, T, &labels, &v, &e), "%s", e.text);
    check(v, 0, 3, (const int32_t[]){CLS, RUNS, SEP}, (const int32_t[]){-1, 4, -1});
    check(v, 1, 3, (const int32_t[]){CLS, PARIS, SEP}, (const int32_t[]){-1, 0, -1});
    data_close(v);
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

START_TEST(a_digest_is_of_ids_labels_names_and_sentences)
{
    static const char *const texts[] = {two,
        "unaffable B-PER\nruns O\n. O\n\nParis B-LOC\nruns I-LOC\n",
        "unaffable B-PER\nruns O\n. O\n\nParis B-LOC\nParis B-LOC\n",
        "unaffable B-PET\nruns O\n. O\n\nParis B-LOC\nParis I-LOC\n",
        "unaffable B-PER\nruns O\n. O\nParis B-LOC\nParis I-LOC\n"};
    uint64_t digests[5];
    for (int i = 0; i < 5; i++) {
        struct data_labels labels = {.names = NULL};
        struct data *d = open_text(texts[i], &labels), *again = NULL;
        digests[i] = data_digest(d);
        ck_assert(!data_open_tagged(path, tok, T, &labels, &again, &e));
        ck_assert(data_digest(again) == digests[i]);
        for (int k = 0; k < i; k++)
            ck_assert_msg(digests[k] != digests[i], "%d and %d", k, i);
        data_close(d);
        data_close(again);
        data_labels_done(&labels);
    }
}
END_TEST

START_TEST(bad_files_are_refused)
{
    static const char *const rows[][2] = {
        {"", "a.conll: empty file"},
        {"\n\n", "a.conll: no sentence in it"},
        {"-DOCSTART-\n", "a.conll: no sentence in it"},
        {"\xe2\x80\x8b O\n\xe2\x80\x8b B-X\n", "a.conll: no sentence in it"},
        {"runs O\nParis O\n", "a.conll: each word has the label \"O\": there is nothing to learn"},
        {"runs O\nParis\n", "a.conll: line 2: one column"},
        {"runs O\n\xff O\n", "a.conll: line 2: invalid UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct data_labels labels = {.names = NULL};
        struct data *d = NULL;
        golden_write(path, rows[i][0], strlen(rows[i][0]));
        ck_assert_int_eq(learn_and_open(T, &labels, &d), -ERR_DATA);
        ck_assert_msg(strstr(e.text, rows[i][1]) != NULL, "%s", e.text);
        ck_assert(!d);
        data_labels_done(&labels);
    }
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    golden_write(path, two, sizeof two - 1);
    ck_assert_int_eq(learn_and_open(2, &labels, &d), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.sequenceLength: 2"));
    data_labels_done(&labels);
    ck_assert_int_eq(data_labels_learn_words(&labels, "/nowhere.conll", &e), -ERR_DATA);
    ck_assert_int_eq(data_open_tagged("/nowhere.conll", tok, T, &labels, &d, &e), -ERR_DATA);
}
END_TEST

/* Of words that are no entities, such as parts of speech. */
START_TEST(plain_labels_are_labels_as_well)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = open_text("unaffable NN\nruns VB\n. O\n", &labels);
    ck_assert_int_eq(labels.scheme, DATA_SCHEME_PLAIN);
    check(d, 0, 7, (const int32_t[]){CLS, UN, AFF, ABLE, RUNS, DOT, SEP},
        (const int32_t[]){-1, 0, -1, -1, 2, 1, -1});
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

START_TEST(labels_have_a_bound)
{
    buf_auto struct buf text;
    struct data_labels labels = {.names = NULL};
    buf_init(&text, 1 << 20);
    for (int i = DATA_LABELS; i > 0; i--)
        buf_printf(&text, "runs B-%d\n", i);
    data_close(open_text(buf_cstr(&text), &labels));
    ck_assert_int_eq(labels.count, DATA_LABELS);
    for (int i = 1; i < DATA_LABELS; i++)
        ck_assert_int_lt(strcmp(labels.names[i - 1], labels.names[i]), 0);
    data_labels_done(&labels);
    buf_str(&text, "runs O\n");
    golden_write(path, text.data, text.len);
    struct data *d = NULL;
    ck_assert_int_eq(learn_and_open(T, &labels, &d), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "line 1025: more than 1024 different labels"));
    data_labels_done(&labels);
}
END_TEST

static int open_once(void *user)
{
    (void)user;
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    struct err why = {0};
    int rc = data_labels_learn_words(&labels, path, &why);
    rc = rc ? rc : data_open_tagged(path, tok, T, &labels, &d, &why);
    ck_assert(!rc || !d);
    data_close(d);
    data_labels_done(&labels);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    golden_write(path, two, sizeof two - 1);
    fault_each(FAULT_MEM, open_once, NULL);
    fault_each(FAULT_IO, open_once, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"tagged", 30, begin, end},
        (const TTest *const[]){the_first_token_of_a_word_has_its_label,
            what_does_not_fit_is_left_out_and_counted, labels_are_those_of_all_files,
            a_digest_is_of_ids_labels_names_and_sentences, bad_files_are_refused,
            plain_labels_are_labels_as_well, labels_have_a_bound, failed_calls_are_reported, NULL});
}
