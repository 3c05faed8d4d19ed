/*
 * Goal: base/field moves every kind of row between a struct and JSON, and refuses what a row does
 * not allow. Method: one struct with a row of each kind makes a round trip; defaults, absent
 * groups, nested parents and strict decoding are each shown on it. api/jobspec's and api/report's
 * tests cover bounds and messages at large.
 */
#include "base/field.h"

#include <check.h>
#include <math.h>

struct point {
    int x;
    const char *label;
};

struct all {
    bool flag;
    int small;
    int64_t large;
    double number;
    const char *text, *optional;
    int choice;
    const char *words[3];
    int word_count;
    double values[3];
    int value_count;
    struct point inside[2];
    int inside_count;
    struct point *points;
    int point_count;
    int custom;
    bool grouped;
    int group_a;
    const char *group_b;
};

static const char *const choices[] = {"Red", "Green", NULL};

static int twice_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    if (!json_is_number(v))
        return field_refuse(s, path, e, "must be doubled");
    *(int *)at = (int)json_number_value(v) / 2;
    return 0;
}

static void twice_encode(struct jsonw *w, const char *key, const void *at)
{
    jsonw_int(w, key, *(const int *)at * 2);
}

static bool twice_absent(const void *at)
{
    return !*(const int *)at;
}

static bool is_short(const char *s)
{
    return strlen(s) < 5;
}

static bool has_group(const void *base)
{
    return ((const struct all *)base)->grouped || ((const struct all *)base)->group_b;
}

static const struct field_custom twice = {twice_decode, twice_encode, twice_absent, sizeof(int)};
static const struct field_format short_format = {is_short, "short"};

#define AT(member) .offset = offsetof(struct all, member)
#define N(member)  .count_offset = offsetof(struct all, member)
static const struct field point_rows[] = {
    {.path = "x", .kind = FIELD_INT, .offset = offsetof(struct point, x), .min = 1, .max = 9},
    {.path = "meta.label",
        .kind = FIELD_STR,
        .offset = offsetof(struct point, label),
        .def = field_none},
};
static const struct field_table point_table = {point_rows, 2, sizeof(struct point)};
static const struct field rows[] = {
    {.path = "flag", .kind = FIELD_BOOL, AT(flag), .def = "true"},
    {.path = "a.small", .kind = FIELD_INT, AT(small), .def = "3", .min = 1, .max = 9},
    {.path = "a.b.large", .kind = FIELD_I64, AT(large), .def = "0", .min = 1, .max = 1e15},
    {.path = "a.b.number", .kind = FIELD_NUM, AT(number), .def = "nan"},
    {.path = "a.text", .kind = FIELD_STR, AT(text), .def = "x", .max = 8, .format = &short_format},
    {.path = "optional", .kind = FIELD_STR, AT(optional), .def = field_none, .min = 1, .max = 8},
    {.path = "choice", .kind = FIELD_ENUM, AT(choice), .def = "Green", .info = choices},
    {.path = "words",
        .kind = FIELD_STRINGS,
        AT(words),
        .def = "p,q",
        .max = 3,
        N(word_count),
        .item_max = 4},
    {.path = "values", .kind = FIELD_NUMBERS, AT(values), .def = "", .max = 3, N(value_count)},
    {.path = "inside",
        .kind = FIELD_INLINE,
        AT(inside),
        .def = "",
        .max = 2,
        N(inside_count),
        .info = &point_table},
    {.path = "points",
        .kind = FIELD_ITEMS,
        AT(points),
        .def = "",
        .max = 5,
        N(point_count),
        .info = &point_table},
    {.path = "custom", .kind = FIELD_CUSTOM, AT(custom), .def = "", .info = &twice},
    {.path = "group", .kind = FIELD_GROUP, .def = "", .info = has_group},
    {.path = "group.a", .kind = FIELD_INT, AT(group_a), .def = "5", .min = 0, .max = 9},
    {.path = "group.b", .kind = FIELD_STR, AT(group_b)},
};
static const struct field_table table = {rows, sizeof rows / sizeof *rows, sizeof(struct all)};

static struct arena *arena;

static int decode(const char *text, bool strict, struct all *out, struct err *e)
{
    const struct field_source s = {"top", strict, ERR_DATA, arena};
    struct json *v;
    ck_assert_msg(!json_parse(text, strlen(text), &v, e), "%s", text);
    int r = field_decode(&table, &s, v, out, e);
    json_destroy(v);
    return r;
}

static void setup(void)
{
    arena = arena_create(1 << 16);
}

static void teardown(void)
{
    arena_destroy(arena);
}

static const char whole[] = "{\"flag\":false,\"a\":{\"small\":9,\"b\":{\"large\":5,\"number\":0.5},"
                            "\"text\":\"abc\"},\"optional\":\"o\","
                            "\"choice\":\"Red\",\"words\":[\"u\"],\"values\":[1,null],\"inside\":[{"
                            "\"x\":1,\"meta\":{\"label\":\"l\"}},"
                            "{\"x\":2}],\"points\":[{\"x\":3},{\"x\":4},{\"x\":5}],\"custom\":8,"
                            "\"group\":{\"a\":0,\"b\":\"g\"}}";

static void assert_encodes(const struct all *in, const char *expect)
{
    struct buf b buf_auto;
    struct jsonw w;
    buf_init(&b, 1 << 16);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    field_encode(&table, in, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_str_eq(b.data, expect);
}

/* The hash tells apart what the text does: each member of the text changed alone, and none. */
START_TEST(test_hash)
{
    static const char *const others[] = {
        "{}",
        "{\"flag\":false}",
        "{\"a\":{\"small\":9}}",
        "{\"a\":{\"b\":{\"large\":5}}}",
        "{\"a\":{\"b\":{\"number\":0.5}}}",
        "{\"a\":{\"text\":\"abc\"}}",
        "{\"optional\":\"o\"}",
        "{\"choice\":\"Red\"}",
        "{\"words\":[\"u\"]}",
        "{\"words\":[\"\",\"u\"]}",
        "{\"words\":[\"u\",\"\"]}",
        "{\"values\":[1]}",
        "{\"values\":[null]}",
        "{\"values\":[1,null]}",
        "{\"inside\":[{\"x\":1}]}",
        "{\"inside\":[{\"x\":1,\"meta\":{\"label\":\"l\"}}]}",
        "{\"points\":[{\"x\":1}]}",
        "{\"points\":[{\"x\":1},{\"x\":1}]}",
        "{\"custom\":8}",
        "{\"group\":{\"b\":\"g\"}}",
        "{\"group\":{\"a\":0,\"b\":\"g\"}}",
        whole,
    };
    enum { OTHERS = sizeof others / sizeof *others };
    uint64_t seen[OTHERS];
    struct all a;
    struct err e = {.text = ""};
    for (int i = 0; i < OTHERS; i++) {
        ck_assert_msg(!decode(others[i], true, &a, &e), "%s: %s", others[i], e.text);
        seen[i] = field_hash(&table, &a);
        ck_assert_msg(!decode(others[i], true, &a, &e), "%s", e.text);
        ck_assert_uint_eq(seen[i], field_hash(&table, &a)); /* of other strings */
        a.small = 77; /* outside: absent, as another value outside is */
        uint64_t h = field_hash(&table, &a);
        a.small = 78;
        ck_assert_uint_eq(h, field_hash(&table, &a));
        for (int k = 0; k < i; k++)
            ck_assert_msg(seen[i] != seen[k], "%s\n%s", others[i], others[k]);
    }
}
END_TEST

START_TEST(test_round_trip)
{
    struct all a;
    struct err e = {.text = ""};
    ck_assert_msg(!decode(whole, true, &a, &e), "%s", e.text);
    ck_assert_int_eq(a.custom, 4);
    ck_assert(isnan(a.values[1]));
    ck_assert_int_eq(a.points[2].x, 5);
    ck_assert_ptr_null(a.inside[1].label);
    assert_encodes(&a, whole);
}
END_TEST

START_TEST(test_defaults)
{
    struct all a;
    struct err e = {.text = ""};
    ck_assert_msg(!decode("{\"a\": null, \"words\": null}", true, &a, &e), "%s", e.text);
    ck_assert(a.flag && a.small == 3 && !a.large && isnan(a.number) && a.choice == 1);
    ck_assert(!a.optional && !a.group_b && !a.group_a);
    assert_encodes(&a,
        "{\"flag\":true,\"a\":{\"small\":3,\"text\":\"x\"},\"choice\":\"Green\","
        "\"words\":[\"p\",\"q\"]}");
    ck_assert_msg(!decode("{\"group\": {\"b\": \"c\"}}", true, &a, &e), "%s", e.text);
    ck_assert_int_eq(a.group_a, 5);
}
END_TEST

static const struct {
    const char *text, *expect;
    bool only_strict;
} bad[] = {
    {"{\"flag\": 1}", "top.flag: must be true or false", false},
    {"{\"a\": 1}", "top.a: must be an object", false},
    {"{\"a\": {\"b\": []}}", "top.a.b: must be an object", false},
    {"{\"a\": {\"small\": 10}}", "top.a.small: 10 is outside 1..9", false},
    {"{\"a\": {\"b\": {\"large\": 0}}}", "top.a.b.large: 0 is outside 1..1000000000000000", false},
    {"{\"a\": {\"text\": \"abcdef\"}}", "top.a.text: \"abcdef\" is not short", false},
    {"{\"a\": {\"text\": \"abcdefghi\"}}", "top.a.text: longer than 8 bytes", false},
    {"{\"optional\": \"\"}", "top.optional: must not be empty", false},
    {"{\"choice\": \"Blue\"}", "top.choice: \"Blue\" is not one of Red, Green", false},
    {"{\"words\": [1]}", "top.words[0]: must be a string", false},
    {"{\"words\": [\"a\", \"abcde\"]}", "top.words[1]: longer than 4", false},
    {"{\"words\": [\"a\", \"b\", \"c\", \"d\"]}", "top.words: more than 3 items", false},
    {"{\"inside\": [{\"x\": 1}, {}]}", "top.inside[1].x: required", false},
    {"{\"points\": [{\"x\": 0}]}", "top.points[0].x: 0 is outside", false},
    {"{\"custom\": \"x\"}", "top.custom: must be doubled", false},
    {"{\"group\": {}}", "top.group.b: required", false},
    {"{\"group\": []}", "top.group: must be an object", false},
    {"{\"odd\": 1}", "top.odd: unknown field", true},
    {"{\"a\": {\"b\": {\"odd\": 1}}}", "top.a.b.odd: unknown field", true},
    {"{\"points\": [{\"x\": 1, \"y\": 1}]}", "top.points[0].y: unknown field", true},
};

START_TEST(test_bad)
{
    struct all a;
    struct err e = {.text = ""};
    ck_assert_int_eq(decode(bad[_i].text, true, &a, &e), -ERR_DATA);
    ck_assert_msg(strstr(e.text, bad[_i].expect), "%s: \"%s\"", bad[_i].text, e.text);
    ck_assert_int_eq(decode(bad[_i].text, false, &a, &e), bad[_i].only_strict ? 0 : -ERR_DATA);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("field");
    TCase *t = tcase_create("field");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_hash);
    tcase_add_test(t, test_defaults);
    tcase_add_loop_test(t, test_bad, 0, (int)(sizeof bad / sizeof *bad));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
