/*
 * calls: goal: what a model writes becomes the calls that it means and the words around them, in
 * each form, however its text is cut; what only looks like a call is text and no byte of it is lost
 * (kind: words that vanish). Method: pure; each text of a table is fed whole, cut in two at every
 * byte, and byte by byte. Random texts out of the pieces of such forms are fed whole and byte by
 * byte, and those in which no call is found come out as they went in.
 * needs: faults
 */
#include "agent/calls.h"

#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <string.h>

/* What comes of text, which is cut at `cut` and every `step` bytes behind it: the words, then each
 * call. */
static int feed(enum wire_calls form, int most, const char *text, size_t len, size_t cut,
    size_t step, struct buf *out)
{
    struct calls c;
    calls_init(&c, form, most);
    int rc = calls_add(&c, text, cut);
    for (size_t at = cut; at < len && !rc; at += step)
        rc = calls_add(&c, text + at, len - at < step ? len - at : step);
    rc = rc ? rc : calls_end(&c);
    if (!rc)
        rc = buf_add(out, buf_cstr(&c.text), c.text.len);
    for (int i = 0; i < c.count && !rc; i++)
        rc = buf_printf(out, "|%s(%s)", c.call[i].name, c.call[i].arguments);
    calls_done(&c);
    return rc;
}

#define OPEN  "<tool_call>"
#define CLOSE "</tool_call>"
#define F     "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"
#define G     "{\"arguments\": {\"y\":\"}</tool_call>\\\\\"} , \"name\":\"g\"}"
#define ODD   "{\"arguments\":{},\"n\":[\"]\",1e3, true],\"name\":\"\\u0066\",\"z\":\"\\\"\"}"

static const struct {
    enum wire_calls form;
    int most;
    const char *text, *is; /* NULL: the text, as it is */
} table[] = {
    {WIRE_CALLS_HERMES, 9, OPEN "\n" F "\n" CLOSE, "|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, "Let me see.\n\n" OPEN F CLOSE "\n" OPEN G CLOSE "\n",
        "Let me see.|f({\"x\": 1})|g({\"y\":\"}</tool_call>\\\\\"})"},
    {WIRE_CALLS_HERMES, 1, OPEN F CLOSE OPEN G CLOSE " done", " done|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, OPEN ODD CLOSE, "|f({})"},
    {WIRE_CALLS_HERMES, 9, OPEN F, "|f({\"x\": 1})"}, /* the turn may end there */
    {WIRE_CALLS_HERMES, 9, OPEN F "\n</tool", "|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, "<<tool_call" OPEN F CLOSE, "<<tool_call|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, OPEN F "<" OPEN G CLOSE, OPEN F "<|g({\"y\":\"}</tool_call>\\\\\"})"},
    {WIRE_CALLS_HERMES, 9, OPEN F OPEN F CLOSE, OPEN F "|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, OPEN OPEN F CLOSE "\n", OPEN "|f({\"x\": 1})"},
    {WIRE_CALLS_HERMES, 9, "plain \xe4\xbd\xa0 words \n", NULL},
    {WIRE_CALLS_HERMES, 9, "a < b <tool_cal", NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "{\"name\":\"f\",\"arguments\":{\"x\":", NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "{\"name\":\"f\"}" CLOSE " x", NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "{\"name\":\"\",\"arguments\":{}}" CLOSE, NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "{\"name\":\"f\",\"arguments\":\"x\"}" CLOSE, NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "{'name':'f','arguments':{}}" CLOSE, NULL},
    {WIRE_CALLS_HERMES, 9, OPEN "f(1)" CLOSE, NULL},
    {WIRE_CALLS_LLAMA, 9, "{\"name\": \"f\", \"parameters\": {\"x\": [1, 2]}}",
        "|f({\"x\": [1, 2]})"},
    {WIRE_CALLS_LLAMA, 9, "\n\n<|python_tag|>" F "; " F " ", "|f({\"x\": 1})|f({\"x\": 1})"},
    {WIRE_CALLS_LLAMA, 9, F "; and so on " F, "; and so on " F "|f({\"x\": 1})"},
    {WIRE_CALLS_LLAMA, 9, "It is " F, NULL},
    {WIRE_CALLS_LLAMA, 9, " {\"x\": 1} " F, NULL},
    {WIRE_CALLS_LLAMA, 9, "<|python_tag|>print(1)" F, NULL},
    {WIRE_CALLS_MISTRAL, 9, "[TOOL_CALLS] [" F ", " G "]",
        "|f({\"x\": 1})|g({\"y\":\"}</tool_call>\\\\\"})"},
    {WIRE_CALLS_MISTRAL, 1, "So: [TOOL_CALLS][" F "," F "]\n", "So:|f({\"x\": 1})"},
    {WIRE_CALLS_MISTRAL, 9, "[1] [TOOL_CALLS][" F ",1] [TOOL_CALLS] [] x", NULL},
    {WIRE_CALLS_MISTRAL, 9, "[TOOL_CALLS]f{}", NULL},
    {WIRE_CALLS_NONE, 9, OPEN F CLOSE, NULL},
};

START_TEST(calls_and_words_whatever_the_cuts)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *text = table[i].text, *is = table[i].is ? table[i].is : text;
        size_t len = strlen(text);
        for (size_t cut = 0; cut <= 2 * len; cut++) { /* beyond len: byte by byte from there */
            buf_auto struct buf out;
            buf_init(&out, 1 << 16);
            int rc = feed(table[i].form, table[i].most, text, len, cut % (len + 1),
                cut > len ? 1 : len, &out);
            ck_assert_int_eq(rc, 0);
            ck_assert_msg(!strcmp(buf_cstr(&out), is), "case %zu, cut at %zu: %s\nexpected %s", i,
                cut, buf_cstr(&out), is);
        }
    }
}
END_TEST

START_TEST(texts_without_calls_come_out_as_they_went_in)
{
    static const char *const pieces[] = {OPEN, CLOSE, F, G, "[TOOL_CALLS]", "[", "]", ",", "{", "}",
        "\"", "\\", " ", "\n", ";", "<", "word", "<|python_tag|>", "\"name\":", ODD};
    uint64_t seed = sample_setting("LLMJOB_SEED");
    int with = 0, without = 0;
    sample_print();
    for (int i = 0; i < 6000; i++) {
        enum wire_calls form = WIRE_CALLS_HERMES + (enum wire_calls)(i % 3);
        buf_auto struct buf text, once, bytes;
        buf_init(&text, 1 << 16);
        buf_init(&once, 1 << 16);
        buf_init(&bytes, 1 << 16);
        for (uint64_t n = random_next(&seed) % 12; n; n--)
            buf_str(&text, pieces[random_next(&seed) % (sizeof pieces / sizeof *pieces)]);
        ck_assert(!feed(form, CALLS_MOST, buf_cstr(&text), text.len, 0, text.len + 1, &once));
        ck_assert(!feed(form, CALLS_MOST, buf_cstr(&text), text.len, 0, 1, &bytes));
        ck_assert_msg(!strcmp(buf_cstr(&once), buf_cstr(&bytes)), "%s", buf_cstr(&text));
        bool called = strstr(buf_cstr(&once), "|f(") || strstr(buf_cstr(&once), "|g(");
        ck_assert_msg(called || !strcmp(buf_cstr(&once), buf_cstr(&text)), "%s", buf_cstr(&text));
        with += called;
        without += !called;
    }
    ck_assert_int_gt(with, 100);
    ck_assert_int_gt(without, 1000);
}
END_TEST

/* Of a call that is too long, and of more than may be told. */
START_TEST(what_is_too_much)
{
    buf_auto struct buf text, out;
    buf_init(&text, 2 * CALLS_BYTES);
    buf_init(&out, 2 * CALLS_BYTES);
    buf_str(&text, OPEN "{\"name\":\"f\",\"arguments\":{\"x\":\"");
    for (int i = 0; i < CALLS_BYTES; i++)
        buf_char(&text, 'a');
    buf_str(&text, "\"}}" CLOSE);
    ck_assert(!feed(WIRE_CALLS_HERMES, 9, text.data, text.len, 0, 1000, &out));
    ck_assert_str_eq(out.data, text.data);
    buf_reset(&text);
    buf_reset(&out);
    for (int i = 0; i < CALLS_MOST + 1; i++)
        buf_str(&text, OPEN F CLOSE);
    ck_assert(!feed(WIRE_CALLS_HERMES, CALLS_MOST + 1, text.data, text.len, 0, 7, &out));
    ck_assert_uint_eq(out.len, CALLS_MOST * strlen("|f({\"x\": 1})"));
}
END_TEST

static int feed_under_faults(void *user)
{
    static const char text[] = "a " OPEN F CLOSE;
    buf_auto struct buf out;
    (void)user;
    buf_init(&out, 1 << 16);
    return feed(WIRE_CALLS_HERMES, 9, text, sizeof text - 1, 0, 5, &out);
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, feed_under_faults, NULL);
}
END_TEST

UNIT_MAIN("calls", calls_and_words_whatever_the_cuts, texts_without_calls_come_out_as_they_went_in,
    what_is_too_much, out_of_memory)
