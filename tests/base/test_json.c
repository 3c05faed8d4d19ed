/*
 * Goal: exactly RFC 8259 is accepted, within bounds; what is read is what was written, to the last
 * digit; what is printed is JSON whatever went in; no allocation failure is lost or leaks. Method:
 * tables of good and bad texts (after the JSON Parsing Test Suite's cases), random trees and
 * numbers there and back, fault loops. cJSON must accept all that the checker passes: json_parse
 * would say ERR_MEMORY else.
 * needs: faults
 */
#include "base/json.h"

#include "base/mem.h"
#include "tests/unit.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct json *parse(const char *text)
{
    struct json *v = NULL;
    struct err e;
    int rc = json_parse(text, strlen(text), &v, &e);
    ck_assert_msg(rc == 0, "%s: %s", text, rc ? e.text : "");
    return v;
}

START_TEST(good_texts)
{
    static const char *const good[] = {
        "null",
        " true ",
        "\t\r\n false",
        "0",
        "-0",
        "-1.5e+3",
        "1E5",
        "0.0",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,2 , 3]",
        "{\"a\":1,\"b\":[{}]}",
        "\"\\u0041\\n\\/\\\\\\\"\"",
        "\"\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\"",
        "\"\x7f\"",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "1e-400",
        "123456789012345678901",
        "[[[[[[]]]]]]",
        "\"\\uFFFE\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        json_auto struct json *v = parse(good[i]);
        ck_assert_ptr_nonnull(v);
    }
}
END_TEST

static const struct {
    const char *text;
    int offset;
} bad_text[] = {
    {"", 0},
    {" ", 1},
    {"nul", 0},
    {"True", 0},
    {"nullx", 4},
    {"null null", 5},
    {"01", 1},
    {"-", 1},
    {"+1", 0},
    {".5", 0},
    {"1.", 2},
    {"1e", 2},
    {"1e+", 3},
    {"1e999", 5},
    {"-1e999", 6},
    {"NaN", 0},
    {"Infinity", 0},
    {"0x1", 1},
    {"'a'", 0},
    {"\"", 1},
    {"\"a", 2},
    {"\"\n\"", 1},
    {"\"\\x\"", 3},
    {"\"\\u12\"", 3},
    {"\"\\u12g4\"", 3},
    {"\"\\", 2},
    {"\"\\u0000\"", 7},
    {"\"\\ud800\"", 7},
    {"\"\\ud800\\u0041\"", 13},
    {"\"\\udc00\"", 7},
    {"\"\xff\"", 1},
    {"\"\xc0\x80\"", 1},
    {"\"\xed\xa0\x80\"", 1},
    {"[", 1},
    {"]", 0},
    {"[1", 2},
    {"[1,", 3},
    {"[1,]", 3},
    {"[,1]", 1},
    {"[1 2]", 3},
    {"[1}", 2},
    {"{", 1},
    {"{\"a\"", 4},
    {"{\"a\":", 5},
    {"{\"a\":}", 5},
    {"{\"a\":1", 6},
    {"{\"a\":1,", 7},
    {"{\"a\":1,}", 7},
    {"{a:1}", 1},
    {"{1:1}", 1},
    {"{\"a\" 1}", 5},
    {"{\"a\":1]", 6},
    {"[]]", 2},
    {"//", 0},
    {"[1]/**/", 3},
    {"\xef\xbb\xbf[]", 0},
    {"\"a\"b", 3},
    {"-a", 1},
    {"[\"a\",\n4\n,1,", 11},
};

START_TEST(bad_texts)
{
    for (size_t i = 0; i < sizeof bad_text / sizeof *bad_text; i++) {
        struct json *v = NULL;
        struct err e;
        int offset = -1;
        int rc = json_parse(bad_text[i].text, strlen(bad_text[i].text), &v, &e);
        ck_assert_msg(rc == -ERR_DATA && !v, "\"%s\" was taken", bad_text[i].text);
        ck_assert_int_eq(sscanf(e.text, "JSON byte %d:", &offset), 1);
        ck_assert_msg(offset == bad_text[i].offset, "\"%s\": %s", bad_text[i].text, e.text);
    }
    struct json *v = NULL;
    ck_assert_int_eq(json_parse("1\0", 2, &v, NULL), -ERR_DATA);
    ck_assert_int_eq(json_parse("\"a\0b\"", 5, &v, NULL), -ERR_DATA);
    ck_assert_ptr_null(v);
}
END_TEST

START_TEST(number_length_is_bounded)
{
    char text[80] = "0.";
    struct json *v = NULL;
    memset(text + 2, '1', 62);
    ck_assert_int_eq(json_parse(text, 63, &v, NULL), 0);
    ck_assert(json_number_value(v) > 0.1);
    json_destroy(v);
    v = NULL;
    ck_assert_int_eq(json_parse(text, 64, &v, NULL), -ERR_DATA);
    ck_assert_ptr_null(v);
}
END_TEST

/* A short text of many values takes many times its own size: the number is refused before any is
 * kept. */
START_TEST(values_are_bounded)
{
    static const char text[] = "[1,{\"a\":[]},null]"; /* 5 values */
    struct json *v = NULL;
    struct err e = {0};
    ck_assert_int_eq(json_parse_within(text, sizeof text - 1, 4, &v, &e), -ERR_DATA);
    ck_assert_ptr_null(v);
    ck_assert_str_eq(e.text, "JSON byte 12: more values than are read here");
    ck_assert_int_eq(json_parse_within(text, sizeof text - 1, 5, &v, NULL), 0);
    json_destroy(v);
}
END_TEST

START_TEST(every_prefix_is_refused)
{
    static const char text[] =
        "{\"a\":[1.5e3,true,null,\"\\u00e9\\ud83d\\ude00\"],\"b\":{\"c\":-0}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        mem_autofree char *copy =
            mem_strndup(text, n); /* exact size: reading beyond is seen by ASAN */
        struct json *v = NULL;
        ck_assert_int_eq(json_parse(copy, n, &v, NULL), -ERR_DATA);
    }
}
END_TEST

START_TEST(depth_is_bounded)
{
    char text[2 * (JSON_DEPTH + 1)];
    for (int depth = JSON_DEPTH; depth <= JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        json_auto struct json *v = NULL;
        struct err e;
        int rc = json_parse(text, 2 * (size_t)depth, &v, &e);
        ck_assert_int_eq(rc, depth > JSON_DEPTH ? -ERR_DATA : 0);
        buf_auto struct buf out;
        buf_init(&out, 1000);
        if (v)
            ck_assert_int_eq(json_print(v, &out), 0);
    }
    size_t many = 1 << 20;
    mem_autofree char *deep = mem_alloc(many);
    memset(deep, '[', many);
    struct json *v = NULL;
    ck_assert_int_eq(json_parse(deep, many, &v, NULL), -ERR_DATA);
    /* A tree built by hand may be deeper than one that is printed. */
    json_auto struct json *built = json_new_array();
    for (int i = 0; i < JSON_DEPTH; i++) {
        struct json *outer = json_new_array();
        json_push(outer, built);
        built = outer;
    }
    buf_auto struct buf out;
    buf_init(&out, 1000);
    ck_assert_int_eq(json_print(built, &out), -ERR_DATA);
}
END_TEST

START_TEST(navigation_and_lenient_getters)
{
    json_auto struct json *v =
        parse("{\"s\":\"x\",\"i\":-3,\"d\":2.5,\"b\":true,\"n\":null,\"Key\":1,"
              "\"o\":{\"p\":{\"q\":7}},\"a\":[10,20,30]}");
    ck_assert_str_eq(json_str(v, "s", "d"), "x");
    ck_assert_str_eq(json_str(v, "i", "d"), "d");
    ck_assert_int_eq(json_int(v, "i", 9), -3);
    ck_assert_int_eq(json_int(v, "d", 9), 9);
    ck_assert_int_eq(json_int(v, "s", 9), 9);
    ck_assert_int_eq(json_int(v, "absent", 9), 9);
    ck_assert(json_num(v, "d", 0) == 2.5 && json_num(v, "b", 8) == 8);
    ck_assert(json_bool(v, "b", false) && json_bool(v, "n", true) && !json_bool(v, "i", false));
    ck_assert_ptr_null(json_get(v, "key"));
    ck_assert_int_eq(json_int(json_path(v, "o.p"), "q", 0), 7);
    ck_assert(json_number_value(json_path(v, "o.p.q")) == 7);
    ck_assert_ptr_null(json_path(v, "o.x.q"));
    ck_assert_ptr_null(json_path(v, "a.b"));
    ck_assert_ptr_null(json_path(v, "o.pp"));
    ck_assert_ptr_null(json_path(NULL, "a"));
    ck_assert_ptr_null(json_get(NULL, "a"));
    ck_assert_ptr_null(json_get(json_get(v, "a"), "a"));
    ck_assert_ptr_null(json_first(NULL));
    ck_assert_ptr_null(json_next(NULL));
    ck_assert_ptr_null(json_key(json_first(json_get(v, "a"))));
    ck_assert_str_eq(json_key(json_first(v)), "s");
    ck_assert_uint_eq(json_count(v), 8);
    ck_assert_uint_eq(json_count(NULL), 0);
    double sum = 0;
    json_each (item, json_get(v, "a"))
        sum += json_number_value(item);
    ck_assert(sum == 60);
    ck_assert(!json_is_object(NULL) && !json_is_null(NULL) && !json_bool_value(NULL));
    ck_assert(json_number_value(NULL) == 0 && !json_string_value(NULL));
}
END_TEST

START_TEST(integers_beyond_2_to_53_are_refused)
{
    json_auto struct json *v =
        parse("{\"max\":9007199254740991,\"min\":-9007199254740991,\"big\":9007199254740993,"
              "\"edge\":9007199254740992,\"huge\":1e300,\"half\":1.5,\"exp\":1e3,\"s\":\"1\"}");
    int64_t n = 77;
    struct err e;
    ck_assert_int_eq(json_i64(v, "max", &n, &e), 0);
    ck_assert_int_eq(n, 9007199254740991);
    ck_assert_int_eq(json_i64(v, "min", &n, &e), 0);
    ck_assert_int_eq(n, -9007199254740991);
    ck_assert_int_eq(json_i64(v, "exp", &n, &e), 0);
    ck_assert_int_eq(n, 1000);
    static const char *const bad[] = {"big", "edge", "huge", "half", "s", "absent"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(json_i64(v, bad[i], &n, &e), -ERR_DATA);
        ck_assert_int_eq(strncmp(e.text, bad[i], strlen(bad[i])), 0);
        ck_assert_int_eq(n, 1000);
        ck_assert_int_eq(json_int(v, bad[i], -1), -1);
    }
}
END_TEST

START_TEST(writer_output)
{
    buf_auto struct buf b;
    buf_init(&b, 10000);
    struct jsonw w;
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "max", INT64_MAX);
    jsonw_int(&w, "min", INT64_MIN);
    jsonw_str(&w, "s", "a\"\\\b\f\n\r\t\v\x1f\x7f/\xc3\xa9");
    jsonw_str(&w, "none", NULL);
    jsonw_strn(&w, "bad",
        "\xff"
        "a\xed\xa0\x80\xf0\x9f",
        7);
    jsonw_strn(&w, "nul", "a\0b", 3);
    jsonw_open(&w, "list", '[');
    jsonw_num(&w, NULL, 0.1);
    jsonw_num(&w, NULL, -0.0);
    jsonw_num(&w, NULL, 1e21);
    jsonw_num(&w, NULL, (double)NAN);
    jsonw_num(&w, NULL, -(double)INFINITY);
    jsonw_num(&w, NULL, 3);
    jsonw_bool(&w, NULL, true);
    jsonw_null(&w, NULL);
    jsonw_open(&w, NULL, '{');
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_raw(&w, "raw", "[1]");
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_str_eq(buf_cstr(&b),
        "{\"max\":9223372036854775807,\"min\":-9223372036854775808,"
        "\"s\":\"a\\\"\\\\\\b\\f\\n\\r\\t\\u000b\\u001f\x7f/\xc3\xa9\",\"none\":null,"
        "\"bad\":\"\xef\xbf\xbd"
        "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\","
        "\"nul\":\"a\\u0000b\",\"list\":[0.1,-0,1e+21,null,null,3,true,null,{}],\"raw\":[1]}");
}
END_TEST

START_TEST(numbers_read_back)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    for (int i = 0; i < 200000; i++) {
        uint64_t bits =
            (uint64_t)rand_r(&seed) << 42 ^ (uint64_t)rand_r(&seed) << 21 ^ (uint64_t)rand_r(&seed);
        double d;
        memcpy(&d, &bits, sizeof d);
        if (i % 3 == 0)
            d = (double)(rand_r(&seed) % 100000) / 1000;
        if (i < 20)
            d = (double[]){DBL_MAX, DBL_MIN, DBL_TRUE_MIN, 0.1, 1.0 / 3, 1e22, 1e23, 5e-324, 0, 2.5,
                9007199254740992.0, 9007199254740994.0, 1e15, 123456.789, 1e-7,
                2.2250738585072011e-308, 100, 0.5, 4.35, 1e16}[i];
        if (!isfinite(d))
            continue;
        buf_auto struct buf b;
        buf_init(&b, 100);
        struct jsonw w;
        jsonw_init(&w, &b);
        jsonw_num(&w, NULL, d);
        ck_assert_int_eq(jsonw_end(&w), 0);
        json_auto struct json *v = parse(buf_cstr(&b));
        if (json_number_value(v) != d)
            ck_abort_msg("%a came back as %a through %s", d, json_number_value(v), buf_cstr(&b));
        if (i % 3 == 0 && i >= 20)
            ck_assert_uint_le(b.len, 6); /* the shortest text, not 17 digits */
    }
}
END_TEST

static void add_random(struct json *to, int depth, unsigned *seed)
{
    for (int i = rand_r(seed) % 6; i > 0; i--) {
        char key[8];
        snprintf(key, sizeof key, "\xc3\xa9%d", i);
        struct json *child;
        switch (rand_r(seed) % (depth ? 6 : 4)) {
        case 0:
            child = json_new_number(rand_r(seed) / 7.0);
            break;
        case 1:
            child = json_new_string(rand_r(seed) % 2 ? "a\"\\\n\xf0\x9f\x98\x80" : "");
            break;
        case 2:
            child = json_new_bool(rand_r(seed) % 2);
            break;
        case 3:
            child = json_new_null();
            break;
        default:
            child = rand_r(seed) % 2 ? json_new_object() : json_new_array();
            add_random(child, depth - 1, seed);
        }
        if (json_is_object(to))
            ck_assert_int_eq(json_put(to, key, child), 0);
        else
            ck_assert_int_eq(json_push(to, child), 0);
    }
}

START_TEST(random_trees_print_and_read_back)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    for (int i = 0; i < 2000; i++) {
        json_auto struct json *tree = i % 2 ? json_new_object() : json_new_array();
        add_random(tree, 5, &seed);
        buf_auto struct buf once, twice;
        buf_init(&once, 1 << 20);
        buf_init(&twice, 1 << 20);
        ck_assert_int_eq(json_print(tree, &once), 0);
        json_auto struct json *again = parse(buf_cstr(&once));
        ck_assert_int_eq(json_print(again, &twice), 0);
        ck_assert_str_eq(buf_cstr(&once), buf_cstr(&twice));
        ck_assert_uint_eq(json_count(tree), json_count(again));
    }
}
END_TEST

static int read_all(void *user)
{
    struct json *v = NULL;
    struct err e = {0};
    int rc = json_parse(user, strlen(user), &v, &e);
    ck_assert(rc ? !v && e.code == ERR_MEMORY : v != NULL);
    json_destroy(v);
    return rc;
}

static int build_and_print(void *user)
{
    (void)user;
    json_auto struct json *v = json_new_object();
    int rc;
    if ((rc = json_put(v, "a", json_new_array())) ||
        (rc = json_push(json_get(v, "a"), json_new_string("x"))) ||
        (rc = json_put(v, "n", json_new_number(3))))
        return rc;
    buf_auto struct buf b;
    buf_init(&b, 1000);
    return json_print(v, &b);
}

START_TEST(failed_allocations)
{
    fault_each(FAULT_MEM, read_all, "{\"a\":[1,\"two\",{\"b\":null}],\"c\":true}");
    fault_each(FAULT_MEM, build_and_print, NULL);
}
END_TEST

static int read_file(void *path)
{
    json_auto struct json *v = NULL;
    return json_read_file(path, 1000, &v, NULL);
}

START_TEST(files)
{
    char path[] = "/tmp/test_json.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, "[1]x", 4), 4);
    struct json *v = NULL;
    struct err e;
    ck_assert_int_eq(json_read_file(path, 1000, &v, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_ptr_nonnull(strstr(e.text, "byte 3"));
    ck_assert_int_eq(ftruncate(fd, 3), 0);
    close(fd);
    ck_assert_int_eq(json_read_file(path, 2, &v, &e), -ERR_DATA);
    ck_assert_int_eq(read_file(path), 0);
    ck_assert_int_eq(io_write_file(path, "\xef\xbb\xbf[1]", 6, 0644, &e), 0);
    ck_assert_int_eq(read_file(path), 0); /* a byte order mark */
    fault_each(FAULT_MEM, read_file, path);
    fault_each(FAULT_IO, read_file, path);
    unlink(path);
    ck_assert_int_eq(json_read_file(path, 1000, &v, &e), -ERR_DATA);
    ck_assert_ptr_null(v);
}
END_TEST

/* Misuse is a programmer's error and aborts; in a child, so that the test goes on. */
static bool aborts(void (*misuse)(struct jsonw *w))
{
    pid_t child = fork();
    if (!child) {
        struct buf b;
        struct jsonw w;
        close(STDERR_FILENO);
        buf_init(&b, 10000);
        jsonw_init(&w, &b);
        misuse(&w);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

static void key_in_array(struct jsonw *w)
{
    jsonw_open(w, NULL, '[');
    jsonw_int(w, "k", 1);
}

static void no_key_in_object(struct jsonw *w)
{
    jsonw_open(w, NULL, '{');
    jsonw_int(w, NULL, 1);
}

static void two_roots(struct jsonw *w)
{
    jsonw_int(w, NULL, 1);
    jsonw_int(w, NULL, 1);
}

static void not_closed(struct jsonw *w)
{
    jsonw_open(w, NULL, '[');
    jsonw_end(w);
}

static void closed_twice(struct jsonw *w)
{
    jsonw_open(w, NULL, '[');
    jsonw_close(w);
    jsonw_close(w);
}

static void too_deep(struct jsonw *w)
{
    for (int i = 0; i < 40; i++)
        jsonw_open(w, NULL, '[');
}

START_TEST(misuse_of_the_writer_aborts)
{
    void (*const misuse[])(struct jsonw *) = {
        key_in_array, no_key_in_object, two_roots, not_closed, closed_twice, too_deep};
    for (size_t i = 0; i < sizeof misuse / sizeof *misuse; i++)
        ck_assert_msg(aborts(misuse[i]), "case %zu", i);
}
END_TEST

UNIT_MAIN("json", good_texts, bad_texts, number_length_is_bounded, values_are_bounded,
    every_prefix_is_refused, depth_is_bounded, navigation_and_lenient_getters,
    integers_beyond_2_to_53_are_refused, writer_output, numbers_read_back,
    random_trees_print_and_read_back, failed_allocations, files, misuse_of_the_writer_aborts)
