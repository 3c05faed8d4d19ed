/*
 * Goal: whatever a model wants to say, what is drawn is a text that the request's response_format
 * allows, whole where the turn ends; and a format that cannot be kept to is refused before. Method:
 * a tokenizer of bytes and logits at random, of which the greatest is taken; an end of the turn is
 * drawn where it may be. What memory cannot be had for ends the answer.
 * needs: faults
 */
#include "runtime/serve/constrain.h"

#include "base/json.h"
#include "base/random.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <math.h>

#define VOCAB 258 /* two that have no text */
#define END   257

static char folder[64], param[SCHEMA_PATH];
static struct weights *w;
static struct tok *t;
static struct vocab *v;
static struct err e;

static void setup(void)
{
    char path[128];
    golden_folder(folder);
    bytes_model(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    ck_assert_msg(!tok_open(w, &t, &e), "%s", e.text);
    ck_assert_msg(!constrain_vocab(t, w, VOCAB, &v, &e), "%s", e.text);
}

static void teardown(void)
{
    vocab_destroy(v);
    tok_close(t);
    weights_close(w);
    golden_remove(folder);
}

static int open_format(const char *format, struct constrain **out)
{
    json_auto struct json *body = NULL;
    char text[1024];
    snprintf(text, sizeof text, "{\"response_format\":%s}", format);
    e = (struct err){0};
    *out = NULL;
    int rc = json_parse(text, strlen(text), &body, &e);
    return rc ? rc : constrain_open(body, WIRE_CALLS_NONE, v, out, param, &e);
}

#define SCHEMA(text) "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":" text "}}"
#define PERSON \
    SCHEMA( \
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":5}," \
        "\"age\":{\"type\":\"integer\",\"minimum\":7,\"maximum\":12}},\"required\":[\"name\"]}")

/* One answer; 0: it ended as it may. */
static int answer(struct constrain *c, uint64_t *seed, struct buf *text)
{
    static const int32_t end[] = {END};
    for (int i = 0; i < 2000; i++) {
        float logits[VOCAB];
        int32_t best = 0;
        for (int k = 0; k < VOCAB; k++)
            logits[k] = (float)(random_next(seed) >> 40);
        logits['"'] *= 1.3f; /* strings end */
        logits[END] *= 1.5f;
        constrain_logits(c, end, 1, logits, VOCAB);
        for (int k = 1; k < VOCAB; k++)
            best = logits[k] > logits[best] ? k : best;
        char byte = (char)best;
        int rc = constrain_take(c, &byte, best == END ? 0 : 1, &e);
        if (rc || best == END)
            return rc;
        ck_assert_int_lt(best, 256);
        if ((rc = buf_char(text, byte)))
            return rc;
        if (constrain_is_over(c))
            return 0;
    }
    return err_set(&e, ERR_HANG, "it did not end: %.100s", buf_cstr(text));
}

START_TEST(answers_are_of_the_format)
{
    uint64_t seed = sample_setting("LLMJOB_SEED");
    sample_print();
    for (int i = 0; i < 60; i++) {
        struct constrain *c;
        buf_auto struct buf text;
        json_auto struct json *said = NULL;
        buf_init(&text, 1 << 16);
        ck_assert_msg(
            !open_format(i % 2 ? PERSON : "{\"type\":\"json_object\"}", &c), "%s", e.text);
        ck_assert_msg(!answer(c, &seed, &text), "%s", e.text);
        ck_assert_msg(!json_parse(text.data, text.len, &said, &e), "%s: %s", e.text, text.data);
        ck_assert(json_is_object(said));
        if (i % 2) {
            int64_t age = json_int(said, "age", 7);
            ck_assert_msg(json_str(said, "name", NULL) && age >= 7 && age <= 12, "%s", text.data);
        }
        constrain_close(c);
    }
}
END_TEST

/* -- calls of tools -- */

#define TOOL(name, more) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"" more "}}"
#define PARAMETERS \
    ",\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"enum\":[1,\"a\"]}}," \
    "\"required\":[\"x\"]}"
#define TOOLS "\"tools\":[" TOOL("f", PARAMETERS) "," TOOL("g", "") "]"

static int open_calls(const char *body, enum wire_calls calls, struct constrain **out)
{
    json_auto struct json *asked = NULL;
    ck_assert(!json_parse(body, strlen(body), &asked, &e));
    ck_assert(constrain_asked(asked));
    return constrain_open(asked, calls, v, out, param, &e);
}

/* Is text, whole, what may be said? */
static bool may_be(const char *body, enum wire_calls calls, const char *text)
{
    struct constrain *c;
    ck_assert_msg(!open_calls(body, calls, &c), "%s", e.text);
    bool may = !constrain_take(c, text, strlen(text), &e) &&
        (constrain_is_over(c) || !constrain_take(c, "", 0, &e));
    constrain_close(c);
    return may;
}

START_TEST(calls_that_must_be)
{
    static const char any[] = "{" TOOLS ",\"tool_choice\":\"required\"}",
                      one[] = "{" TOOLS ",\"tool_choice\":\"required\","
                              "\"parallel_tool_calls\":false}",
                      g[] = "{" TOOLS ",\"tool_choice\":{\"function\":{\"name\":\"g\"}}}";
    static const char call_f[] =
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>";
    static const char call_g[] = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
    char both[256];
    snprintf(both, sizeof both, "%s\n%s", call_f, call_g);
    ck_assert(may_be(any, WIRE_CALLS_HERMES, call_f) && may_be(any, WIRE_CALLS_HERMES, call_g));
    ck_assert(may_be(any, WIRE_CALLS_HERMES, both) && !may_be(one, WIRE_CALLS_HERMES, both));
    ck_assert(may_be(one, WIRE_CALLS_HERMES, call_f));
    ck_assert(may_be(g, WIRE_CALLS_HERMES, call_g) && !may_be(g, WIRE_CALLS_HERMES, call_f));
    ck_assert(!may_be(any, WIRE_CALLS_HERMES, "hello") && !may_be(any, WIRE_CALLS_HERMES, ""));
    ck_assert(!may_be(
        any, WIRE_CALLS_HERMES, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>"));
    ck_assert(may_be(any, WIRE_CALLS_LLAMA, "{\"name\": \"f\", \"parameters\": {\"x\":\"a\"}}"));
    ck_assert(may_be(any, WIRE_CALLS_MISTRAL,
        "[TOOL_CALLS] [{\"name\": \"g\", \"arguments\": {}}, {\"name\": \"f\", "
        "\"arguments\": {\"x\":1}}]"));
    struct constrain *c;
    ck_assert_int_eq(open_calls(any, WIRE_CALLS_UNKNOWN, &c), -ERR_USER);
    ck_assert_int_eq(open_calls("{\"tools\":[" TOOL("f",
                                    ",\"parameters\":{\"not\":{}}") "],"
                                                                    "\"tool_choice\":\"required\"}",
                         WIRE_CALLS_HERMES, &c),
        -ERR_USER);
    ck_assert_str_eq(param, "tools[0].function.parameters.not");
}
END_TEST

START_TEST(what_is_not_asked_for_is_nothing)
{
    struct constrain *c;
    json_auto struct json *body = json_new_object();
    ck_assert(!constrain_open(body, WIRE_CALLS_NONE, v, &c, param, &e));
    ck_assert_ptr_null(c);
    constrain_close(c);
}
END_TEST

START_TEST(what_cannot_be_kept_to_is_refused)
{
    static const struct {
        const char *format, *param, *word;
    } table[] = {
        {SCHEMA("{\"not\":{}}"), "response_format.json_schema.schema.not", "not supported"},
        {SCHEMA("false"), "response_format.json_schema.schema", "no value"},
        {SCHEMA("{\"type\":\"string\",\"maxLength\":99999}"), "response_format.json_schema.schema",
            "too large"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct constrain *c;
        ck_assert_int_eq(open_format(table[i].format, &c), -ERR_USER);
        ck_assert_str_eq(param, table[i].param);
        ck_assert_msg(strstr(e.text, table[i].word) && strstr(e.text, param), "%s", e.text);
        ck_assert_ptr_null(c);
    }
}
END_TEST

START_TEST(a_turn_ends_only_where_the_text_is_whole)
{
    struct constrain *c;
    ck_assert(!open_format(SCHEMA("{\"type\":\"integer\"}"), &c));
    ck_assert_int_eq(constrain_take(c, "", 0, &e), -ERR_DATA);
    ck_assert_int_eq(constrain_take(c, "x", 1, &e), -ERR_DATA);
    ck_assert(!constrain_take(c, "12", 2, &e) && !constrain_is_over(c));
    ck_assert(!constrain_take(c, "", 0, &e));
    constrain_close(c);
}
END_TEST

/* What is known without finding it out; asking changes nothing. */
START_TEST(what_may_follow)
{
    static const int32_t end[] = {END};
    float logits[VOCAB] = {0};
    struct constrain *c;
    ck_assert(!open_format(SCHEMA("{\"enum\":[\"red\",\"rest\"]}"), &c));
    ck_assert(constrain_may_follow(c, "no one", 6)); /* as far as anybody knows */
    constrain_logits(c, end, 1, logits, VOCAB);
    ck_assert(!constrain_may_follow(c, "no one", 6));
    ck_assert(constrain_may_follow(c, "\"red\"", 5));
    ck_assert(!constrain_take(c, "\"re", 3, &e));
    ck_assert(!constrain_may_follow(c, "a", 1) || constrain_may_follow(c, "d", 1));
    constrain_logits(c, end, 1, logits, VOCAB);
    ck_assert(!constrain_may_follow(c, "ad", 2) && constrain_may_follow(c, "d", 1));
    ck_assert(!constrain_take(c, "st\"", 3, &e) && constrain_is_over(c));
    constrain_close(c);
}
END_TEST

static int open_and_answer(void *user)
{
    struct constrain *c;
    buf_auto struct buf text;
    uint64_t seed = 3;
    (void)user;
    buf_init(&text, 1 << 16);
    int rc = open_format(SCHEMA("{\"enum\":[\"red\",\"green\"]}"), &c);
    rc = rc ? rc : answer(c, &seed, &text);
    constrain_close(c);
    return rc;
}

START_TEST(memory_that_is_not_there_ends_the_answer)
{
    fault_each(FAULT_MEM, open_and_answer, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"constrain", 60, setup, teardown},
        (const TTest *const[]){answers_are_of_the_format, calls_that_must_be,
            what_is_not_asked_for_is_nothing, what_cannot_be_kept_to_is_refused,
            a_turn_ends_only_where_the_text_is_whole, what_may_follow,
            memory_that_is_not_there_ends_the_answer, NULL});
}
