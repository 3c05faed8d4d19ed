/*
 * Goal: pairs of texts become the samples that transformers makes of each text: the whole text,
 * special tokens around it; equal texts are found, labels kept, and a change of either shows in the
 * digest. Method: a WordPiece of eleven tokens, whose ids are written out by hand; texts that are
 * too long, empty or equal; files that are no such thing.
 * needs: faults
 */
#include "runtime/data/data.h"

#include "tests/runtime/golden.h"
#include "tests/runtime/wordpiece.h"
#include "tests/unit.h"

#define T 6

static const char three[] = "a,b\nunaffable.,Paris\nparis,runs\n\"runs\",PARIS\n";

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

static int write_and_open(const char *text, int length, struct data **out)
{
    *out = NULL;
    golden_write(path, text, strlen(text));
    return data_open_matches(path, FORMAT_AUTO, tok, length, out, &e);
}

static void check(const struct data *d, int64_t text, int n, const int32_t *ids)
{
    int32_t inputs[T + 2], length;
    data_match_text(d, text, T + 2, inputs, &length);
    ck_assert_int_eq(length, n);
    ck_assert_int_eq(data_match_length(d, text), n);
    for (int i = 0; i < T + 2; i++)
        ck_assert_int_eq(inputs[i], i < n ? ids[i] : PAD);
}

START_TEST(a_pair_is_two_sequences)
{
    struct data *d;
    ck_assert_msg(!write_and_open(three, T, &d), "%s", e.text);
    ck_assert_int_eq(data_samples(d), 3);
    ck_assert(!data_match_labelled(d));
    check(d, 0, 6, (const int32_t[]){CLS, UN, AFF, ABLE, DOT, SEP});
    check(d, 1, 3, (const int32_t[]){CLS, PARIS, SEP});
    check(d, 4, 3, (const int32_t[]){CLS, RUNS, SEP});
    ck_assert_int_eq(data_match_tokens(d, 0), 9);
    ck_assert_int_eq(data_match_one(d, 0), 1);
    static const int32_t same[] = {0, 1, 1, 3, 3, 1};
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(data_match_same(d, i), same[i]);
    data_close(d);
}
END_TEST

START_TEST(what_does_not_fit_is_cut_and_the_same)
{
    struct data *d;
    ck_assert(!write_and_open("b,a\nruns runs runs runs runs,runs runs runs runs\n", T, &d));
    ck_assert_int_eq(data_tagged_truncated(d), 1);
    check(d, 0, 6, (const int32_t[]){CLS, RUNS, RUNS, RUNS, RUNS, SEP});
    check(d, 1, 6, (const int32_t[]){CLS, RUNS, RUNS, RUNS, RUNS, SEP});
    ck_assert_int_eq(data_match_same(d, 1), 0);
    data_close(d);
}
END_TEST

/* More texts than a first table of them has slots. */
START_TEST(many_equal_texts_are_found)
{
    static char text[1 << 17] = "a,b\n";
    struct data *d;
    size_t n = strlen(text);
    for (int i = 0; i < 500; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%.*s,%.*s\n", 1 + i % 50 * 5,
            "runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs "
            "runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs "
            "runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs runs",
            9 + i % 7, "paris un .........");
    ck_assert_msg(!write_and_open(text, 64, &d), "%s", e.text);
    for (int64_t i = 0; i < 1000; i++) {
        int32_t one[64], other[64], lengths[2];
        int64_t same = data_match_same(d, i);
        ck_assert(same <= i && data_match_same(d, same) == same);
        data_match_text(d, i, 64, one, lengths);
        data_match_text(d, same, 64, other, lengths + 1);
        ck_assert_mem_eq(one, other, sizeof one);
        for (int64_t k = 0; k < same; k++) {
            data_match_text(d, k, 64, other, lengths + 1);
            ck_assert(memcmp(one, other, sizeof one) != 0);
        }
    }
    data_close(d);
}
END_TEST

START_TEST(a_digest_is_of_texts_and_labels)
{
    static const char *const texts[] = {three, "a,b\nunaffable.,Paris\nparis,runs\nruns,runs\n",
        "a,b,label\nunaffable.,Paris,0\nparis,runs,1\n\"runs\",PARIS,0.5\n",
        "a,b,label\nunaffable.,Paris,0\nparis,runs,1\n\"runs\",PARIS,1\n",
        "a,b\nunaffable,. Paris\nparis,runs\n\"runs\",PARIS\n"};
    uint64_t digests[5];
    struct data *d;
    for (int i = 0; i < 5; i++) {
        ck_assert_msg(!write_and_open(texts[i], T, &d), "%s", e.text);
        digests[i] = data_digest(d);
        for (int k = 0; k < i; k++)
            ck_assert_msg(digests[k] != digests[i], "%d and %d", k, i);
        if (i == 2)
            ck_assert(data_match_labelled(d) && data_match_label(d, 0) == 0 &&
                data_match_label(d, 1) == 1 && data_match_label(d, 2) == 0.5f);
        data_close(d);
    }
}
END_TEST

START_TEST(bad_files_are_refused)
{
    static const char *const rows[][2] = {
        {"a,b\n", "a.csv: no pair in it"},
        {"a,label\nx,1\n", "a.csv: line 1: names no column \"b\""},
        {"a,b,a\n", "a.csv: two columns \"a\""},
        {"a,b,label\nx,y,2\n", "a.csv: line 2: a label of a pair is a number from 0 to 1"},
        {"a,b,label\nx,y,1\nx,y,\n", "a.csv: line 3: a label of a pair is a number"},
        {"a,b,label\nx,y,0.5x\n", "a.csv: line 2: a label of a pair is a number"},
        {"a,b\nx\n", "a.csv: line 2: 1 column"},
    };
    struct data *d;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_int_eq(write_and_open(rows[i][0], T, &d), -ERR_DATA);
        ck_assert_msg(strstr(e.text, rows[i][1]), "%s", e.text);
        ck_assert(!d);
    }
    ck_assert_int_eq(write_and_open(three, 2, &d), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.sequenceLength: 2"));
    ck_assert_int_eq(data_open_matches("/nowhere.csv", FORMAT_AUTO, tok, T, &d, &e), -ERR_DATA);
    static const char mixed[] =
        "{\"a\":\"x\",\"b\":\"y\",\"label\":1}\n{\"a\":\"x\",\"b\":\"y\"}\n";
    golden_write(path, mixed, sizeof mixed - 1);
    ck_assert_int_eq(data_open_matches(path, FORMAT_JSONL, tok, T, &d, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.csv: line 2: no label, unlike the pairs before it"));
}
END_TEST

static int open_once(void *user)
{
    (void)user;
    struct data *d = NULL;
    int rc = data_open_matches(path, FORMAT_AUTO, tok, T, &d, &e);
    ck_assert(!rc || !d);
    data_close(d);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    golden_write(path, three, sizeof three - 1);
    fault_each(FAULT_MEM, open_once, NULL);
    fault_each(FAULT_IO, open_once, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"data_matches", 30, begin, end},
        (const TTest *const[]){a_pair_is_two_sequences, what_does_not_fit_is_cut_and_the_same,
            many_equal_texts_are_found, a_digest_is_of_texts_and_labels, bad_files_are_refused,
            failed_calls_are_reported, NULL});
}
