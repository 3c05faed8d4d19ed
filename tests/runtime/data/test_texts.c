/*
 * Goal: texts with labels become the samples that transformers' sequence classification makes of
 * them: the whole text, special tokens around it, one label. Method: a WordPiece of eleven tokens,
 * whose ids are written out by hand; texts that are too long, empty, or of labels nobody learnt;
 * pairs of texts.
 * needs: faults
 */
#include "runtime/data/data.h"

#include "tests/runtime/golden.h"
#include "tests/runtime/wordpiece.h"
#include "tests/unit.h"

#define T 6

static const char three[] = "text,label\nunaffable.,good\n,bad\n\"Paris, runs\",good\n";

static char path[100];
static struct tok *tok;
static struct err e;

static void begin(void)
{
    tok = wordpiece_begin("a.csv", path);
}

static void end(void)
{
    wordpiece_end(tok, path);
}

static int learn_and_open(const char *text, int length, struct data_labels *l, struct data **out)
{
    golden_write(path, text, strlen(text));
    int rc = data_labels_learn_texts(l, path, FORMAT_AUTO, &e);
    return rc ? rc : data_open_texts(path, FORMAT_AUTO, tok, length, l, out, &e);
}

static void check(const struct data *d, int64_t sample, int n, const int32_t *ids, int32_t label)
{
    int32_t inputs[T + 2], labels[T + 2], length;
    data_tagged_sample(d, sample, T + 2, inputs, labels, &length);
    ck_assert_int_eq(length, n);
    ck_assert_int_eq(data_tagged_length(d, sample), n);
    ck_assert_int_eq(data_tagged_labels(d, sample), 1);
    for (int i = 0; i < T + 2; i++) {
        ck_assert_int_eq(inputs[i], i < n ? ids[i] : PAD);
        ck_assert_int_eq(labels[i], i ? -1 : label);
    }
}

START_TEST(a_text_is_a_sample_with_its_label)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    ck_assert_msg(!learn_and_open(three, T, &labels, &d), "%s", e.text);
    ck_assert_int_eq(data_samples(d), 3);
    ck_assert_int_eq(data_tagged_truncated(d), 0);
    check(d, 0, 6, (const int32_t[]){CLS, UN, AFF, ABLE, DOT, SEP}, 1);
    check(d, 1, 2, (const int32_t[]){CLS, SEP}, 0);
    check(d, 2, 5, (const int32_t[]){CLS, PARIS, UNK, RUNS, SEP}, 1);
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

START_TEST(several_labels_are_a_row_of_zeros_and_ones)
{
    static const int32_t want[3][3] = {{1, 0, 1}, {0, 0, 0}, {0, 1, 0}};
    struct data_labels labels = {.names = NULL};
    struct data *d[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(!learn_and_open(i ? "text,labels\nruns,c|a\nparis,\nun,a\n"
                                        : "text,labels\nruns,c|a\nparis,\nun,b\n",
                          T, &labels, &d[i]),
            "%s", e.text);
        ck_assert_int_eq(data_samples(d[i]), 3);
    }
    for (int k = 0; k < 3; k++) {
        int32_t inputs[T], sets[3], length;
        data_tagged_sample(d[0], k, T, inputs, sets, &length);
        ck_assert_mem_eq(sets, want[k], sizeof sets);
        ck_assert(length == 3 && inputs[3] == PAD);
        ck_assert_int_eq(data_tagged_labels(d[0], k), 3); /* each is told */
    }
    ck_assert(data_digest(d[0]) != data_digest(d[1]));
    data_close(d[0]);
    data_close(d[1]);
    d[0] = NULL;
    ck_assert_int_eq(learn_and_open("text,labels\nruns,a|b|a\n", T, &labels, &d[0]), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.csv: line 2: label \"a\" stands twice"));
    data_labels_done(&labels);
}
END_TEST

#define PAIRS "text,text_pair,label\n"

static void check_pair(
    const struct data *d, int64_t sample, int n, const int32_t *ids, const int32_t *types)
{
    int32_t inputs[T + 2], labels[T + 2], got[T + 2], length;
    data_tagged_sample(d, sample, T + 2, inputs, labels, &length);
    data_tagged_types(d, sample, T + 2, got);
    ck_assert_int_eq(length, n);
    for (int i = 0; i < T + 2; i++) {
        ck_assert_int_eq(inputs[i], i < n ? ids[i] : PAD);
        ck_assert_int_eq(got[i], i < n ? types[i] : 0);
        ck_assert_int_eq(labels[i] >= 0, i == 0);
    }
}

START_TEST(a_pair_is_one_sequence_with_types)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL, *single = NULL;
    ck_assert_msg(!learn_and_open(PAIRS "runs,paris,x\n,runs,y\n"
                                        "runs runs runs,un un,x\nruns,un un un un,y\n",
                      T, &labels, &d),
        "%s", e.text);
    ck_assert(data_paired(d) && labels.texts == DATA_TEXTS_PAIRED);
    ck_assert_int_eq(data_samples(d), 4);
    ck_assert_int_eq(data_tagged_truncated(d), 2);
    check_pair(
        d, 0, 5, (const int32_t[]){CLS, RUNS, SEP, PARIS, SEP}, (const int32_t[]){0, 0, 0, 1, 1});
    check_pair(d, 1, 4, (const int32_t[]){CLS, SEP, RUNS, SEP}, (const int32_t[]){0, 0, 1, 1});
    check_pair(d, 2, 6, (const int32_t[]){CLS, RUNS, RUNS, SEP, UN, SEP},
        (const int32_t[]){0, 0, 0, 0, 1, 1});
    check_pair(d, 3, 6, (const int32_t[]){CLS, RUNS, SEP, UN, UN, SEP},
        (const int32_t[]){0, 0, 0, 1, 1, 1});
    data_labels_done(&labels);
    ck_assert(!learn_and_open(three, T, &labels, &single));
    ck_assert(!data_paired(single) && labels.texts == DATA_TEXTS_SINGLE);
    data_close(single);
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

/* The same ids as one text. */
START_TEST(types_are_part_of_a_digest)
{
    uint64_t digests[2];
    for (int i = 0; i < 2; i++) {
        struct data_labels labels = {.names = NULL};
        struct data *d = NULL;
        ck_assert(!learn_and_open(
            i ? PAIRS "runs,un,x\nun,un,y\n" : "text,label\nruns [SEP] un,x\nun [SEP] un,y\n", T,
            &labels, &d));
        ck_assert_int_eq(data_tagged_length(d, 0), 5);
        digests[i] = data_digest(d);
        data_close(d);
        data_labels_done(&labels);
    }
    ck_assert(digests[0] != digests[1]);
}
END_TEST

START_TEST(pairs_and_single_texts_do_not_mix)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    ck_assert(!learn_and_open(three, T, &labels, &d));
    data_close(d);
    d = NULL;
    ck_assert_int_eq(learn_and_open(PAIRS "runs,un,good\n", T, &labels, &d), -ERR_DATA);
    ck_assert_ptr_nonnull(
        strstr(e.text, "a.csv: line 2: has a \"text_pair\", but texts before it have none"));
    data_labels_done(&labels);
    ck_assert_int_eq(learn_and_open(PAIRS "un,un,x\nun,un,y\n", 3, &labels, &d), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text,
        "a.csv: line 2: a sequenceLength of 3 has no room for a word: the tokenizer puts 3"));
    ck_assert_int_eq(learn_and_open("text,label\nun,x\nun,y\n", T, &labels, &d), -ERR_DATA);
    ck_assert_ptr_nonnull(
        strstr(e.text, "a.csv: line 2: has no \"text_pair\", but texts before it have one"));
    data_labels_done(&labels);
    ck_assert(!d);
}
END_TEST

START_TEST(what_does_not_fit_is_cut_and_counted)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    ck_assert(!learn_and_open(
        "text,label\nruns runs runs runs,x\nruns runs unaffable runs,y\n", T, &labels, &d));
    ck_assert_int_eq(data_samples(d), 2);
    ck_assert_int_eq(data_tagged_truncated(d), 1);
    check(d, 0, 6, (const int32_t[]){CLS, RUNS, RUNS, RUNS, RUNS, SEP}, 0);
    check(d, 1, 6, (const int32_t[]){CLS, RUNS, RUNS, UN, AFF, SEP}, 1);
    data_close(d);
    data_labels_done(&labels);
}
END_TEST

START_TEST(a_digest_is_of_ids_labels_and_names)
{
    static const char *const texts[] = {three,
        "text,label\nunaffable.,good\n,good\n\"Paris, runs\",bad\n",
        "text,label\nunaffable.,good\n,bad\n\"Paris runs\",good\n",
        "text,label\nunaffable.,good\n,worse\n\"Paris, runs\",good\n"};
    uint64_t digests[4];
    for (int i = 0; i < 4; i++) {
        struct data_labels labels = {.names = NULL};
        struct data *d = NULL;
        ck_assert_msg(!learn_and_open(texts[i], T, &labels, &d), "%s", e.text);
        digests[i] = data_digest(d);
        for (int k = 0; k < i; k++)
            ck_assert_msg(digests[k] != digests[i], "%d and %d", k, i);
        data_close(d);
        data_labels_done(&labels);
    }
}
END_TEST

START_TEST(bad_files_are_refused)
{
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    ck_assert_int_eq(learn_and_open("text,label\n", T, &labels, &d), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.csv: no text in it"));
    ck_assert(!learn_and_open(three, T, &labels, &d));
    data_close(d);
    d = NULL;
    golden_write(path, "text,label\na,good\nb,better\n", 27);
    ck_assert_int_eq(data_open_texts(path, FORMAT_AUTO, tok, T, &labels, &d, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.csv: line 3: label \"better\" was not learnt"));
    ck_assert_int_eq(data_open_texts(path, FORMAT_AUTO, tok, 2, &labels, &d, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.sequenceLength: 2"));
    ck_assert_int_eq(
        data_open_texts("/nowhere.csv", FORMAT_AUTO, tok, T, &labels, &d, &e), -ERR_DATA);
    ck_assert(!d);
    data_labels_done(&labels);
}
END_TEST

static int open_once(void *user)
{
    (void)user;
    struct data_labels labels = {.names = NULL};
    struct data *d = NULL;
    int rc = data_labels_learn_texts(&labels, path, FORMAT_AUTO, &e);
    rc = rc ? rc : data_open_texts(path, FORMAT_AUTO, tok, T, &labels, &d, &e);
    ck_assert(!rc || !d);
    data_close(d);
    data_labels_done(&labels);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    golden_write(path, PAIRS "runs,paris,x\nun,un,y\n", sizeof PAIRS "runs,paris,x\nun,un,y\n" - 1);
    fault_each(FAULT_MEM, open_once, NULL);
    golden_write(path, three, sizeof three - 1);
    fault_each(FAULT_MEM, open_once, NULL);
    fault_each(FAULT_IO, open_once, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"texts", 30, begin, end},
        (const TTest *const[]){a_text_is_a_sample_with_its_label,
            several_labels_are_a_row_of_zeros_and_ones, a_pair_is_one_sequence_with_types,
            types_are_part_of_a_digest, pairs_and_single_texts_do_not_mix,
            what_does_not_fit_is_cut_and_counted, a_digest_is_of_ids_labels_and_names,
            bad_files_are_refused, failed_calls_are_reported, NULL});
}
