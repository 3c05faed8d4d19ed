/*
 * Goal: labels have the same numbers in whatever order files and lines bring them, labels of words
 * are known as those of entities or as plain ones, what would mix them is refused with its line.
 * Method: small files of both kinds, learnt one behind another; a table of schemes.
 * needs: faults
 */
#include "runtime/data/internal.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64], path[100];
static struct err e;

static void begin(void)
{
    golden_folder(folder);
}

static void end(void)
{
    golden_remove(folder);
}

static int learn(struct data_labels *l, const char *name, const char *text)
{
    size_t n = strlen(name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    golden_write(path, text, strlen(text));
    return n > 6 && !strcmp(name + n - 6, ".conll")
        ? data_labels_learn_words(l, path, &e)
        : data_labels_learn_texts(l, path, FORMAT_AUTO, &e);
}

static void check_names(const struct data_labels *l, const char *const *want)
{
    int n = 0, at;
    for (; want[n]; n++) {
        ck_assert_int_lt(n, l->count);
        ck_assert_str_eq(l->names[n], want[n]);
        ck_assert(data_labels_find(l, want[n], (int)strlen(want[n]), &at) && at == n);
    }
    ck_assert_int_eq(l->count, n);
    ck_assert(!data_labels_find(l, "", 0, &at) && !data_labels_find(l, "zz", 2, &at));
}

START_TEST(several_labels_of_texts_are_learnt)
{
    static const char *const all[] = {"a", "b", "c", NULL};
    struct data_labels l = {.names = NULL};
    ck_assert_msg(
        !learn(&l, "a.jsonl",
            "{\"text\":\"t\",\"labels\":[\"b\",\"a\"]}\n{\"text\":\"t\",\"labels\":[]}\n"),
        "%s", e.text);
    ck_assert_int_eq(l.arity, DATA_ARITY_SEVERAL);
    ck_assert_msg(!learn(&l, "b.csv", "text,labels\nt,c|b\n"), "%s", e.text);
    check_names(&l, all);
    ck_assert_int_eq(learn(&l, "c.csv", "text,label\nt,c\n"), -ERR_DATA);
    ck_assert_ptr_nonnull(
        strstr(e.text, "c.csv: line 2: has \"label\", but texts before it \"labels\""));
    data_labels_done(&l);
    ck_assert(
        !learn(&l, "a.jsonl", "{\"text\":\"t\",\"labels\":[\"b\"]}\n")); /* some may lack it */
    data_labels_done(&l);
    ck_assert_int_eq(learn(&l, "a.jsonl", "{\"text\":\"t\",\"labels\":[]}\n"), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a.jsonl: no text has a label"));
    data_labels_done(&l);
    ck_assert_int_eq(
        learn(&l, "a.jsonl", "{\"text\":\"t\",\"label\":\"b\"}\n{\"text\":\"t\",\"labels\":[]}\n"),
        -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "line 2: has \"labels\", but texts before it \"label\""));
    data_labels_done(&l);
}
END_TEST

START_TEST(labels_of_texts_are_those_of_all_files)
{
    static const char *const first[] = {"10", "Sci/Tech", "b", NULL};
    static const char *const all[] = {"10", "Sci/Tech", "a", "b", "ba", NULL};
    struct data_labels l = {.names = NULL}, m = {.names = NULL};
    ck_assert_msg(!learn(&l, "a.jsonl",
                      "{\"text\":\"t\",\"label\":\"b\"}\n{\"text\":\"t\",\"label\":10}\n"
                      "{\"text\":\"t\",\"label\":\"Sci/Tech\"}\n"),
        "%s", e.text);
    check_names(&l, first);
    uint64_t digest = data_labels_digest(&l);
    ck_assert_msg(!learn(&l, "b.csv", "text,label\nt,ba\nt,b\nt,a\n"), "%s", e.text);
    check_names(&l, all);
    ck_assert(data_labels_digest(&l) != digest);
    ck_assert(!learn(&m, "b.tsv", "label\ttext\nba\tt\na\tt\n"));
    ck_assert(!learn(&m, "c.csv", "label,text\nb,t\nSci/Tech,t\n10,t\n"));
    check_names(&m, all);
    ck_assert(data_labels_digest(&l) == data_labels_digest(&m));
    ck_assert_int_eq(l.scheme, DATA_SCHEME_OPEN);
    data_labels_done(&l);
    data_labels_done(&m);
}
END_TEST

START_TEST(labels_of_words_have_a_scheme)
{
    static const struct {
        const char *text;
        enum data_scheme scheme;
        const char *refused; /* or NULL */
    } rows[] = {
        {"a O\nb B-PER\n", DATA_SCHEME_ENTITIES, NULL},
        {"a S-X\nb O\n\nc E-Y\nd I-Y-Z\n", DATA_SCHEME_ENTITIES, NULL},
        {"a NN\nb VB\n", DATA_SCHEME_PLAIN, NULL},
        {"a O\nb PER\n", DATA_SCHEME_PLAIN, NULL},
        {"a B-\nb b-PER\nc L-PER\nd 0\n", DATA_SCHEME_PLAIN, NULL},
        {"a B-PER\nb PER\n", 0,
            "line 2: label \"PER\" is none of O, B-, I-, E- and S- with a type"},
        {"a O\n\nb NN\nc B-NN\n", 0, "line 4: label \"B-NN\" is one of B-, I-, E- and S-"},
        {"a B-X\nb B-\n", 0, "line 2: label \"B-\" is none of O"},
        {"a O\nb O\n", 0, "each word has the label \"O\": there is nothing to learn"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct data_labels l = {.names = NULL};
        int rc = learn(&l, "a.conll", rows[i].text);
        ck_assert_int_eq(rc, rows[i].refused ? -ERR_DATA : 0);
        if (rows[i].refused)
            ck_assert_msg(strstr(e.text, rows[i].refused) != NULL, "%s", e.text);
        else
            ck_assert_int_eq(l.scheme, rows[i].scheme);
        data_labels_done(&l);
    }
}
END_TEST

/* The training file decides: another one must be of its kind. */
START_TEST(a_later_file_is_of_the_same_scheme)
{
    struct data_labels l = {.names = NULL};
    ck_assert(!learn(&l, "a.conll", "a O\nb B-PER\n"));
    ck_assert_int_eq(learn(&l, "b.conll", "a O\nb NN\n"), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "b.conll: line 2: label \"NN\""));
    ck_assert(!learn(&l, "c.conll", "a O\n"));
    ck_assert_int_eq(l.count, 2);
    data_labels_done(&l);
}
END_TEST

START_TEST(one_label_alone_is_refused)
{
    struct data_labels l = {.names = NULL};
    ck_assert_int_eq(learn(&l, "a.csv", "text,label\na,x\nb,x\n"), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "each text has the label \"x\": there is nothing to"));
    ck_assert_int_eq(data_labels_learn_texts(&l, "/nowhere.csv", FORMAT_AUTO, &e), -ERR_DATA);
    ck_assert_int_eq(data_labels_learn_words(&l, "/nowhere.conll", &e), -ERR_DATA);
    data_labels_done(&l);
}
END_TEST

static int learn_once(void *user)
{
    struct data_labels l = {.names = NULL};
    int rc = learn(&l, "a.csv", "text,label\na,x\nb,y\n");
    rc = rc ? rc : learn(&l, "a.conll", "a B-x\nb O\n");
    data_labels_done(&l);
    (void)user;
    return rc;
}

START_TEST(a_models_labels_are_sorted_and_have_a_scheme)
{
    static const char *const names[] = {"O", "B-b", "B-a", "c", "O"};
    static const char *const sorted[] = {"B-a", "B-b", "O", NULL};
    struct data_labels l = {.names = NULL};
    ck_assert_msg(!data_labels_of(&l, names, 3, true, &e), "%s", e.text);
    check_names(&l, sorted);
    ck_assert_int_eq(l.scheme, DATA_SCHEME_ENTITIES);
    data_labels_done(&l);
    ck_assert_int_eq(data_labels_of(&l, names, 4, true, &e), 0);
    ck_assert_int_eq(l.scheme, DATA_SCHEME_PLAIN);
    data_labels_done(&l);
    ck_assert_int_eq(data_labels_of(&l, names, 4, false, &e), 0);
    ck_assert_int_eq(l.scheme, DATA_SCHEME_OPEN);
    data_labels_done(&l);
    ck_assert_int_eq(data_labels_of(&l, names, 5, true, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "two labels \"O\"");
    data_labels_done(&l);
    ck_assert_int_eq(data_labels_of(&l, names, DATA_LABELS + 1, true, &e), -ERR_DATA);
}
END_TEST

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, learn_once, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"labels", 30, begin, end},
        (const TTest *const[]){several_labels_of_texts_are_learnt,
            labels_of_texts_are_those_of_all_files, labels_of_words_have_a_scheme,
            a_later_file_is_of_the_same_scheme, one_label_alone_is_refused,
            a_models_labels_are_sorted_and_have_a_scheme, failed_calls_are_reported, NULL});
}
