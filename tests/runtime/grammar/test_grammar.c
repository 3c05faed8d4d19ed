/*
 * Goal: a schema becomes a grammar whose every text satisfies it, what is not supported is refused
 * by its path, and no schema, however made, takes long or much. Method: tables of schemas with
 * texts that are theirs and such that are not; refusals with their paths; and random walks, whose
 * texts are JSON and are taken again. That they satisfy schemas that nobody here has thought of is
 * shown by another's validator: tests/prove/grammar.sh.
 * needs: faults
 */
#include "runtime/grammar/schema.h"

#include "base/clock.h"
#include "tests/runtime/grammar/walk.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static struct err e;
static char path[SCHEMA_PATH];

/* Texts, separated by a tab. */
static const struct {
    const char *schema, *good, *bad;
} table[] = {
    {"{\"type\":\"null\"}", "null", "nul\tnulll\t\t null"},
    {"{\"type\":\"boolean\"}", "true\tfalse", "1\ttru"},
    {"{\"type\":\"integer\"}", "0\t-7\t123456789012345", "01\t1.0\t1e3\t+1\t-\t1234567890123456"},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}", "-3\t-1\t0\t9\t10\t12",
        "-4\t13\t-0\t20\t100\t012"},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}",
        "100\t999\t1000\t345", "99\t1001\t10000\t-100"},
    {"{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":1.5}", "1", "0\t2"},
    {"{\"type\":\"integer\",\"minimum\":1234,\"maximum\":5678}",
        "1234\t1239\t1300\t2000\t5678\t5599", "1233\t5679\t6000\t999\t12345"},
    {"{\"type\":\"number\"}", "0\t-0\t1.5\t-2e10\t1E-3\t0.0\t7e+2",
        "1.\t.5\t1e\t1e+-3\t1e123\tNaN"},
    {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}", "0\t1\t0.5\t0.999", "1.0\t1.5\t-0.1\t2"},
    {"{\"type\":\"number\",\"minimum\":-2}", "-2\t-1.9\t-0.5\t7.25", "-2.1\t-3"},
    {"{\"type\":\"string\"}",
        "\"\"\t\"a\"\t\"\\n\\\"\\\\\\/\"\t\"\\u00e9\"\t\"\\ud83d\\ude00\"\t\"\xc3\xa9\"",
        "a\t\"\t\"\\u0000\"\t\"\\ud83d\"\t\"\\ude00\"\t\"\\x\"\t\"\x01\"\t\"\xc3\"\t"
        "\"\xed\xa0\x80\""},
    {"{\"type\":\"string\",\"minLength\":1,\"maxLength\":2}",
        "\"a\"\t\"\xc3\xa9\xf0\x9f\x98\x80\"\t\"\\ud83d\\ude00x\"", "\"\"\t\"abc\""},
    {"{\"type\":\"string\",\"pattern\":\"^[a-c]{2}$\"}", "\"ab\"\t\"cc\"",
        "\"a\"\t\"abc\"\t\"xab\"\t\"ad\""},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"\t\"b\"", "\"\"\t\"ac\""},
    {"{\"type\":\"string\",\"pattern\":\"^a|b$\"}", "\"a\"\t\"ax\"\t\"xb\"", "\"xa\"\t\"bx\""},
    {"{\"type\":\"string\",\"pattern\":\"^(?:x|\\\\d+y?)*$\"}", "\"\"\t\"x12yx\"", "\"y\"\t\"xy\""},
    {"{\"pattern\":\"^[^a\\\"]\\\\S$\"}", "\"bc\"\t\"\\nd\"\t\"\xc3\xa9z\"",
        "\"ab\"\t\"b \"\t\"\\\"b\""},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-29\"", "\"2024-13-01\"\t\"24-01-01\""},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}", "\"10.0.0.255\"", "\"10.0.0.256\"\t\"1.2.3\""},
    {"{\"enum\":[\"a\",\"ab\",1,null,{\"x\":[1]}]}", "\"a\"\t\"ab\"\t1\tnull\t{\"x\":[1]}",
        "\"b\"\t\"abc\"\t2\t{\"x\":[2]}"},
    {"{\"type\":\"string\",\"enum\":[\"a\",1]}", "\"a\"", "1"},
    {"{\"const\":\"q\\\"\\n\"}", "\"q\\\"\\n\"", "\"q\""},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
        "[]\t[1]\t[1,2]\t[1, 2]\t[\n  1,\n  2\n]", "[1,]\t[,1]\t[\"a\"]\t[1  ,2]"},
    {"{\"type\":\"array\",\"items\":{\"const\":1},\"minItems\":2,\"maxItems\":3}", "[1,1]\t[1,1,1]",
        "[]\t[1]\t[1,1,1,1]"},
    {"{\"type\":\"array\",\"items\":{\"const\":1},\"minItems\":2}", "[1,1]\t[1,1,1,1,1]",
        "[]\t[1]"},
    {"{\"type\":\"array\",\"maxItems\":0}", "[]", "[1]"},
    {"{\"prefixItems\":[{\"const\":1},{\"const\":2}]}", "[]\t[1]\t[1,2]", "[2]\t[1,2,3]"},
    {"{\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":3}}", "[]\t[1]\t[1,3,3]", "[3]\t[1,1]"},
    {"{\"prefixItems\":[{\"const\":1}],\"items\":false,\"minItems\":1}", "[1]", "[]\t[1,1]"},
    {"{\"type\":\"object\"}", "{}\t{\"a\":1}\t{\"a\": {\"b\": [true, null]}, \"c\": \"d\"}",
        "{\"a\"}\t{a:1}\t[]\t{\"a\":1,}"},
    {"{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}},"
     "\"required\":[\"b\"]}",
        "{\"b\":2}\t{\"a\":1,\"b\":2}\t{\"a\":1,\"b\":2,\"c\":3}\t{ \"b\": 2, \"c\": 3 }",
        "{}\t{\"a\":1}\t{\"b\":2,\"a\":1}\t{\"b\":2,\"b\":2}\t{\"b\":2,\"d\":1}\t{,\"b\":2}"},
    {"{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{\"const\":2}}",
        "{}\t{\"ab\":1}\t{\"a\":2}\t{\"abc\":2,\"x\":2}\t{\"ab\":1,\"b\":2}\t{\"\":2}",
        "{\"ab\":2}\t{\"a\":1}\t{\"\\u0061b\":2}\t{\"b\":2,\"ab\":1}"},
    {"{\"properties\":{\"\xc3\xa9\":{\"const\":1}},\"additionalProperties\":{\"const\":2}}",
        "{\"\xc3\xa9\":1}\t{\"\xc3\xa8\":2}\t{\"\xc3\xa9\xc3\xa9\":2}", "{\"\xc3\xa9\":2}"},
    {"{\"properties\":{\"a\":{\"const\":1}},\"additionalProperties\":true}", "{\"a\":1,\"b\":[2]}",
        "{\"a\":2}"},
    {"{\"type\":\"object\",\"additionalProperties\":false}", "{}", "{\"a\":1}"},
    {"{\"required\":[\"z\"],\"type\":\"object\"}", "{\"z\":1}\t{\"z\":{},\"y\":0}",
        "{}\t{\"y\":0}"},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}", "5\tnull", "\"a\""},
    {"{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},"
     "\"anyOf\":[{\"required\":[\"k\"]},{\"properties\":{\"m\":{\"const\":2}},"
     "\"required\":[\"m\"]}]}",
        "{\"k\":1}\t{\"m\":2}\t{\"k\":1,\"m\":2}", "{}"},
    {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", "\"a\"\t1", "null"},
    {"{\"oneOf\":[{\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},"
     "\"required\":[\"t\",\"x\"],\"type\":\"object\"},"
     "{\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"],\"type\":\"object\"}]}",
        "{\"t\":\"a\",\"x\":1}\t{\"t\":\"b\"}", "{\"t\":\"a\"}\t{\"t\":\"c\"}"},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/n\"}],\"minimum\":3,"
     "\"$defs\":{\"n\":{\"type\":\"integer\",\"maximum\":5}}}",
        "3\t5", "2\t6"},
    {"{\"$ref\":\"#/$defs/a~1b%20c\",\"$defs\":{\"a/b c\":{\"const\":1}}}", "1", "2"},
    {"{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\","
     "\"properties\":{\"v\":{\"type\":\"integer\"},"
     "\"l\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}},\"required\":[\"v\",\"l\"]}}}",
        "{\"v\":1,\"l\":[]}\t{\"v\":1,\"l\":[{\"v\":2,\"l\":[]},{\"v\":3,\"l\":[]}]}",
        "{\"v\":1}\t{\"v\":1,\"l\":[1]}"},
    {"{\"type\":[\"string\",\"null\"]}", "\"a\"\tnull", "1"},
    {"true", "1\t[{}]", ""},
};

static void each_text(const struct automaton *a, const char *texts, bool good, const char *schema)
{
    for (const char *p = texts;; p++) {
        size_t n = strcspn(p, "\t");
        ck_assert_msg(walk_takes(a, p, n) == good, "%s: %.*s is %s", schema, (int)n, p,
            good ? "not taken" : "taken");
        p += n;
        if (!*p)
            return;
    }
}

START_TEST(what_satisfies_it_is_taken)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct automaton a;
        ck_assert_msg(
            !walk_compile(table[i].schema, &a, path, &e), "%s: %s", table[i].schema, e.text);
        each_text(&a, table[i].good, true, table[i].schema);
        each_text(&a, table[i].bad, false, table[i].schema);
        automaton_done(&a);
    }
}
END_TEST

#define NEST(x) "{\"properties\":{\"a\":" x "}}"

static const struct {
    const char *schema, *path, *word;
} refused[] = {
    {"3", "schema", "must be an object"},
    {"false", "", "no value"},
    {"{\"type\":\"strin\"}", "schema.type", "no such type"},
    {"{\"frob\":1}", "schema.frob", "not supported"},
    {NEST("{\"not\":{}}"), "schema.properties.a.not", "not supported"},
    {"{\"patternProperties\":{}}", "schema.patternProperties", "not supported"},
    {"{\"if\":{}}", "schema.if", "not supported"},
    {"{\"contains\":{}}", "schema.contains", "not supported"},
    {"{\"type\":\"array\",\"uniqueItems\":true}", "schema.uniqueItems", "not supported"},
    {"{\"type\":\"string\",\"type\":\"integer\"}", "schema.type", "twice"},
    {"{\"type\":\"number\",\"multipleOf\":2}", "schema.multipleOf", "not supported"},
    {"{\"type\":\"number\",\"exclusiveMinimum\":2}", "schema.exclusiveMinimum", "whole ends"},
    {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "", "no value"},
    {"{\"type\":\"string\",\"minLength\":-1}", "schema.minLength", "whole number"},
    {"{\"type\":\"string\",\"maxLength\":1000000}", "", "too large"},
    {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "schema.pattern", "group"},
    {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "schema.pattern", "escape"},
    {"{\"type\":\"string\",\"pattern\":\"a\\\\b\"}", "schema.pattern", "escape"},
    {"{\"type\":\"string\",\"pattern\":\"[z-a]\"}", "schema.pattern", "wrong way"},
    {"{\"type\":\"string\",\"pattern\":\"a{2\"}", "schema.pattern", "quantifier"},
    {"{\"type\":\"string\",\"pattern\":\"(a\"}", "schema.pattern", "no end"},
    {"{\"type\":\"string\",\"pattern\":\"a**\"}", "schema.pattern", "not supported here"},
    {"{\"type\":\"string\",\"pattern\":\"^a+$\",\"maxLength\":3}", "schema.pattern", "maxLength"},
    {"{\"type\":\"string\",\"pattern\":\"(((a{1000}){1000}){1000}){1000}\"}", "schema.pattern",
        "too often"},
    {"{\"enum\":[]}", "schema.enum", "list"},
    {"{\"enum\":[9007199254740993]}", "schema.enum", "exact"},
    {"{\"enum\":[\"a\"],\"minLength\":1}", "schema.minLength", "beside enum"},
    {"{\"type\":\"integer\",\"const\":\"a\"}", "", "no value"},
    {"{\"$ref\":\"#\"}", "schema", "part of itself"},
    {"{\"$ref\":\"#/$defs/x\"}", "schema.$ref", "nothing"},
    {"{\"$ref\":\"http://example.com/x\"}", "schema.$ref", "references into"},
    {"{\"$ref\":\"#/$defs/x\",\"$defs\":{\"x\":{\"const\":1},\"x\":{\"const\":2}}}", "schema.$ref",
        "nothing"},
    {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "schema", "part of itself"},
    {"{\"anyOf\":[]}", "schema.anyOf", "list"},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "schema.oneOf", "both hold"},
    {"{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"object\",\"required\":[\"a\"]}]}",
        "schema.oneOf", "both hold"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "",
        "no value"},
    {"{\"required\":[\"a\"],\"additionalProperties\":false}", "schema.required",
        "may not be there"},
    {"{\"type\":\"object\",\"minProperties\":1}", "schema.minProperties", "required"},
    {"{\"type\":\"object\",\"maxProperties\":1}", "schema.maxProperties", "not supported"},
    {"{\"allOf\":[{\"properties\":{\"a\":true}},{\"properties\":{\"b\":true},"
     "\"additionalProperties\":false}]}",
        "schema.allOf[1].additionalProperties", "declared beside"},
    {"{\"items\":5}", "schema.items", "must be an object"},
};

START_TEST(what_is_not_supported_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct automaton a;
        e = (struct err){0};
        ck_assert_msg(walk_compile(refused[i].schema, &a, path, &e) == -ERR_USER, "%s is taken",
            refused[i].schema);
        ck_assert_msg(strstr(e.text, refused[i].word), "%s: %s", refused[i].schema, e.text);
        if (*refused[i].path)
            ck_assert_str_eq(path, refused[i].path);
        automaton_done(&a);
    }
}
END_TEST

START_TEST(walks_end_and_are_taken_again)
{
    struct vocab *v = NULL;
    uint64_t seed = sample_setting("LLMJOB_SEED");
    sample_print();
    ck_assert(!walk_vocab(&v, &e));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct automaton a;
        ck_assert(!walk_compile(table[i].schema, &a, path, &e));
        for (int k = 0; k < 6; k++) {
            buf_auto struct buf text;
            json_auto struct json *back = NULL;
            buf_init(&text, 1 << 20);
            ck_assert_msg(!walk_draw(&a, k % 2 ? v : NULL, &seed, &text, &e), "%s: %s, %.300s",
                table[i].schema, e.text, buf_cstr(&text));
            ck_assert_msg(!json_parse(buf_cstr(&text), text.len, &back, &e), "%s: %s, %.300s",
                table[i].schema, e.text, buf_cstr(&text));
            ck_assert_msg(
                walk_takes(&a, text.data, text.len), "%s: %.300s", table[i].schema, text.data);
        }
        automaton_done(&a);
    }
    vocab_destroy(v);
}
END_TEST

/* Each is refused, or made and its first tokens found, within a second. */
START_TEST(no_schema_takes_long)
{
    static const struct {
        const char *before, *each, *after;
        int times;
    } large[] = {
        {"{\"enum\":[0", ",\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "]}", 20000},
        {"{\"type\":\"object\",\"required\":[\"a\"", ",\"b\"", "]}", 60000},
        {"{\"anyOf\":[{}", ",{\"type\":\"object\"}", "]}", 10000},
        {"{\"allOf\":[{}", ",{\"type\":\"object\"}", "]}", 10000},
        {"{\"type\":\"string\",\"pattern\":\"", "(a|b)*", "$\"}", 400},
        {"{\"type\":\"string\",\"pattern\":\"", "a?", "$\"}", 1000},
        {"{\"type\":\"string\",\"pattern\":\"", ".*", "$\"}", 900},
        {"{\"anyOf\":[{\"const\":\"x\"}", ",{\"type\":\"string\",\"pattern\":\"(a|aa)+$\"}", "]}",
            400},
    };
    struct vocab *v = NULL;
    ck_assert(!walk_vocab(&v, &e));
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        buf_auto struct buf text;
        struct automaton a;
        struct matcher *m = NULL;
        const uint64_t *bits;
        int64_t began = clock_thread_ms();
        buf_init(&text, 4 << 20);
        buf_str(&text, large[i].before);
        for (int k = 0; k < large[i].times; k++)
            buf_str(&text, large[i].each);
        buf_str(&text, large[i].after);
        e = (struct err){0};
        int rc = walk_compile(buf_cstr(&text), &a, path, &e);
        for (int k = 0; !rc && k < 2; k++)
            if ((m || !(rc = matcher_create(&a, &m, &e))) && !(rc = vocab_allowed(v, m, &bits, &e)))
                rc =
                    matcher_take(m, "\"a", k ? 0 : 2, &e) == -ERR_DATA ? 0 : matcher_failure(m, &e);
        int64_t took = clock_thread_ms() - began;
        ck_assert_msg(!rc || rc == -ERR_USER || rc == -ERR_DATA, "case %zu: %s", i, e.text);
        printf("case %zu: %lld ms: %s\n", i, (long long)took, rc ? e.text : "taken");
        ck_assert_msg(took < 1000, "case %zu took %lld ms", i, (long long)took);
        matcher_destroy(m);
        automaton_done(&a);
    }
    vocab_destroy(v);
}
END_TEST

static int compile_and_draw(void *user)
{
    struct automaton a;
    buf_auto struct buf text;
    uint64_t seed = 1;
    (void)user;
    buf_init(&text, 1 << 20);
    int rc = walk_compile("{\"properties\":{\"a\":{\"enum\":[1,2]},\"b\":{\"type\":\"string\"}},"
                          "\"required\":[\"a\"],\"additionalProperties\":{\"type\":\"null\"}}",
        &a, path, &e);
    rc = rc ? rc : walk_draw(&a, NULL, &seed, &text, &e);
    automaton_done(&a);
    return rc;
}

START_TEST(memory_that_is_not_there_is_told)
{
    fault_each(FAULT_MEM, compile_and_draw, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"grammar", 60, NULL, NULL},
        (const TTest *const[]){what_satisfies_it_is_taken, what_is_not_supported_is_refused,
            walks_end_and_are_taken_again, no_schema_takes_long, memory_that_is_not_there_is_told,
            NULL});
}
