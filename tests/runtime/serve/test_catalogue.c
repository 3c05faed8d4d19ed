/*
 * Goal: items are what a file says of them, numbers scaled over all of them and texts numbered;
 * what is wrong is refused by file and line. Method: small files beside what is worked out by hand.
 * needs: faults
 */
#include "runtime/serve/catalogue.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

static const struct jobspec_feature features[] = {
    {"year", FEATURE_VALUE, 1}, {"liked", FEATURE_LOG_VALUE, 1}, {"genres", FEATURE_SHARED, 1}};
static const char films[] =
    "{\"id\":\"a\",\"text\":\"Alien\",\"year\":1979,\"liked\":0,"
    "\"genres\":[\"Horror\",\"Horror\"]}\n"
    "\n"
    "{\"id\":7,\"text\":\"Babe\",\"year\":1995,\"liked\":99,\"genres\":\"Comedy\",\"other\":{}}\r\n"
    "{\"id\":\"c\",\"text\":\"Clue\",\"year\":1987,\"liked\":9,\"genres\":[\"Comedy\",\"Crime\"]}\n"
    "{\"id\":\"d\",\"text\":\"Dumbo\",\"genres\":null}";

static char folder[64], path[96];
static struct err e;

static int open_text(const char *text, int count, struct catalogue **out)
{
    snprintf(path, sizeof path, "%s/items.jsonl", folder);
    ck_assert(!io_write_file(path, text, strlen(text), 0600, NULL));
    return catalogue_open(path, features, count, out, &e);
}

START_TEST(items_are_what_the_file_says)
{
    static const float year[] = {0, 1, 0.5f}, liked[] = {0, 1, 0.5f};
    struct catalogue *c = NULL;
    int n;
    golden_folder(folder);
    ck_assert_msg(!open_text(films, 3, &c), "%s", e.text);
    ck_assert_int_eq(catalogue_count(c), 4);
    ck_assert_int_eq(catalogue_find(c, "7"), 1);
    ck_assert_int_eq(catalogue_find(c, "Alien"), -1);
    ck_assert_str_eq(catalogue_id(c, 1), "7");
    ck_assert_str_eq(catalogue_text(c, 3), "Dumbo");
    for (int i = 0; i < 3; i++) {
        ck_assert_float_eq_tol(catalogue_value(c, 0, i), year[i], 1e-6f);
        ck_assert_float_eq_tol(catalogue_value(c, 1, i), liked[i], 1e-6f);
    }
    ck_assert(isnan(catalogue_value(c, 0, 3)) && isnan(catalogue_value(c, 1, 3)));
    ck_assert_int_eq(catalogue_kinds(c, 2), 3);
    ck_assert_int_eq(*catalogue_shared(c, 2, 0, &n), 0);
    ck_assert_int_eq(n, 1); /* each once */
    ck_assert_int_eq(catalogue_shared(c, 2, 2, &n)[1], 2);
    ck_assert_int_eq(catalogue_shared(c, 2, 2, &n)[0], *catalogue_shared(c, 2, 1, &(int){0}));
    ck_assert_int_eq(n, 2);
    (void)catalogue_shared(c, 2, 3, &n);
    ck_assert_int_eq(n, 0);
    catalogue_close(c);
    golden_remove(folder);
}
END_TEST

#define A "{\"id\":1,\"text\":\"x\",\"year\":1}\n"
static const struct {
    const char *text;
    int features;
    const char *says;
} refused[] = {
    {"", 0, "items.jsonl: 0 items, and 1 to 1048576 are allowed"},
    {A "[]", 0, "line 2: an item is a JSON object"},
    {A "\n{\"id\":2", 0, "line 3: "},
    {"{\"text\":\"x\"}", 0, "line 1: no \"id\" that is a whole number or a string of 1 to 256"},
    {"{\"id\":1.5,\"text\":\"x\"}", 0, "line 1: no \"id\""},
    {"{\"id\":\"\",\"text\":\"x\"}", 0, "line 1: no \"id\""},
    {A "{\"id\":\"1\",\"text\":\"x\"}", 0, "line 2: item \"1\" is there already"},
    {"{\"id\":1,\"text\":7}", 0, "line 1: no \"text\" that is a string"},
    {"{\"id\":1,\"text\":\"\"}", 0, "line 1: no \"text\""},
    {"{\"id\":1,\"text\":\"x\",\"year\":\"1979\"}", 1, "line 1: \"year\" is no number"},
    {"{\"id\":1,\"text\":\"x\",\"year\":1e300}", 1, "line 1: \"year\" is no number"},
    {A "{\"id\":2,\"text\":\"x\",\"liked\":-1}", 2, "line 2: \"liked\" is below 0"},
    {A "{\"id\":2,\"text\":\"x\",\"liked\":1,\"genres\":[7]}", 3,
        "line 2: \"genres\" is neither a string nor a list of strings"},
    {A, 2, "no item has \"liked\", which spec.serve.recommend.features[1] names"},
    {A "{\"id\":2,\"text\":\"\xff\"}", 0, "line 2: is no UTF-8"},
};

START_TEST(what_is_wrong_is_refused)
{
    struct catalogue *c = NULL;
    golden_folder(folder);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(open_text(refused[i].text, refused[i].features, &c) == -ERR_DATA, "%s",
            refused[i].text);
        ck_assert_msg(strstr(e.text, refused[i].says), "%s", e.text);
    }
    ck_assert_int_eq(catalogue_open("/none/items.jsonl", features, 0, &c, &e), -ERR_DATA);
    golden_remove(folder);
}
END_TEST

static int open_films(void *user)
{
    struct catalogue *c = NULL;
    (void)user;
    int rc = catalogue_open(path, features, 3, &c, &e);
    catalogue_close(c);
    return rc;
}

START_TEST(each_allocation_may_fail)
{
    struct catalogue *c = NULL;
    golden_folder(folder);
    ck_assert(!open_text(films, 3, &c));
    catalogue_close(c);
    fault_each(FAULT_MEM, open_films, NULL);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN(
    "catalogue", items_are_what_the_file_says, what_is_wrong_is_refused, each_allocation_may_fail)
