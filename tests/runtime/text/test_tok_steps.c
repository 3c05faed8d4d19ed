/*
 * Goal: each step of a normaliser makes of a text what it says. Method: a table of steps, alone and
 * one after the other; texts that cannot grow beyond measure; failing calls. That whole tokenizers
 * agree with the reference is test_tok_wordpiece's affair.
 * needs: faults
 */
#include "runtime/text/tok_steps.h"

#include "base/mem.h"
#include "tests/unit.h"

#define TEXT(s) \
    { \
        s, sizeof s - 1 \
    }

static const struct {
    struct tok_steps steps;
    const char *text, *want;
} cases[] = {
    {{{}, 0}, "As \u00c9t\u00e9", "As \u00c9t\u00e9"},
    {{{{.kind = TOK_STEP_NFC}}, 1}, "e\u0301", "\u00e9"},
    {{{{.kind = TOK_STEP_NFD}}, 1}, "\u00e9", "e\u0301"},
    {{{{.kind = TOK_STEP_NFKC}}, 1}, "\ufb01\u2460", "fi1"},
    {{{{.kind = TOK_STEP_NFKD}}, 1}, "\u1e9b\u0323", "s\u0323\u0307"},
    {{{{.kind = TOK_STEP_CLEAN}}, 1}, "a\tb\nc\rd\u00a0e\u2028f", "a b c d e f"},
    {{{{.kind = TOK_STEP_CLEAN}}, 1}, "a\x01\x7f\xc2\x85\u00ad\u200b\ufeff\ufffd\x0b\u200d.", "a."},
    {{{{.kind = TOK_STEP_NMT}}, 1}, "a\x01\x0b\x7f\xc2\x9f.\tb\nc\u200bd\u2581e\ufefff\u00a0",
        "a. b c d e f\u00a0"},
    {{{{.kind = TOK_STEP_SPACE_HAN}}, 1}, "a\u4f60\u597dz\u3042\U00020000", /* no kana */
        "a \u4f60  \u597d z\u3042 \U00020000 "},
    {{{{.kind = TOK_STEP_STRIP_NONSPACING}}, 1}, "e\u0301\u00e9\u0903", "e\u00e9\u0903"},
    {{{{.kind = TOK_STEP_STRIP_MARKS}}, 1}, "e\u0301\u00e9\u0903\u20dd", "e\u00e9"},
    {{{{.kind = TOK_STEP_LOWER}}, 1}, "AZ\u00c9\u0416\u03a3\u1e9e\u0130\u2126",
        "az\u00e9\u0436\u03c3\u00dfi\u0307\u03c9"},
    {{{{.kind = TOK_STEP_TRIM_LEFT}}, 1}, " \u3000 a ", "a "},
    {{{{.kind = TOK_STEP_TRIM_RIGHT}}, 1}, " a \u3000\u2003", " a"},
    {{{{.kind = TOK_STEP_TRIM_RIGHT}}, 1}, "\u3000\u2003", ""},
    {{{{.kind = TOK_STEP_PREPEND, .to = TEXT("\u2581")}}, 1}, "a", "\u2581a"},
    {{{{.kind = TOK_STEP_PREPEND, .to = TEXT("\u2581")}}, 1}, "", ""},
    {{{{.kind = TOK_STEP_REPLACE, .from = TEXT("aa"), .to = TEXT("b")}}, 1}, "aaaaa", "bba"},
    {{{{.kind = TOK_STEP_REPLACE, .from = TEXT("a"), .to = TEXT("")}}, 1}, "aa", ""},
    {{{{.kind = TOK_STEP_NFD}, {.kind = TOK_STEP_STRIP_NONSPACING}, {.kind = TOK_STEP_LOWER}}, 3},
        "\u00c9t\u00c9", "ete"},
    {{{{.kind = TOK_STEP_TRIM_LEFT}, {.kind = TOK_STEP_REPLACE, .from = TEXT(" "), .to = TEXT("_")},
          {.kind = TOK_STEP_TRIM_RIGHT}},
         3},
        "  a b\n", "a_b"},
};

static int run_case(void *user)
{
    size_t i = *(size_t *)user;
    const char *out;
    size_t len;
    void *owned;
    struct err e = {0};
    int rc = tok_steps_run(
        &cases[i].steps, cases[i].text, strlen(cases[i].text), &out, &len, &owned, &e);
    if (rc)
        return rc;
    ck_assert_msg(len == strlen(cases[i].want) && !memcmp(out, cases[i].want, len),
        "%zu: \"%.*s\", expected \"%s\"", i, (int)len, out, cases[i].want);
    mem_free(owned);
    return 0;
}

START_TEST(steps_are_the_references)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_int_eq(run_case(&i), 0);
}
END_TEST

/* A file may ask for more than there is memory. */
START_TEST(no_text_grows_beyond_measure)
{
    struct tok_steps s = {.count = TOK_STEPS_LIMIT};
    for (int i = 0; i < TOK_STEPS_LIMIT; i++)
        s.list[i] = (struct tok_step){
            .kind = TOK_STEP_REPLACE, .from = TEXT("a"), .to = TEXT("aaaaaaaaaa")};
    const char *out;
    size_t len;
    void *owned;
    struct err e = {0};
    ck_assert_int_eq(tok_steps_run(&s, "banana", 6, &out, &len, &owned, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "normalise"));
}
END_TEST

START_TEST(failing_calls_are_reported)
{
    size_t last = sizeof cases / sizeof *cases - 1;
    fault_each(FAULT_MEM, run_case, &last);
    last--;
    fault_each(FAULT_MEM, run_case, &last);
}
END_TEST

UNIT_MAIN(
    "tok_steps", steps_are_the_references, no_text_grows_beyond_measure, failing_calls_are_reported)
