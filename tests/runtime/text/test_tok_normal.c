/*
 * Goal: text reaches its normal form exactly as UAX #15 has it, and nothing else is touched.
 * Method: composition, canonical order, singletons, Hangul and text that must stay; the other three
 * forms; ASCII is given back as it is; the fault loop. That whole tokenizers agree with the
 * reference is test_tok's affair.
 * needs: faults
 */
#include "runtime/text/tok_normal.h"

#include "tests/unit.h"

static const char *const cases[][2] = {
    {"", ""}, {"plain ASCII\n", "plain ASCII\n"}, {"e\u0301", "\u00e9"}, /* composed */
    {"\u00e9", "\u00e9"},                                                /* stays */
    {"a\u0323\u0302", "\u1ead"},          /* two marks on one letter */
    {"a\u0302\u0323", "\u1ead"},          /* in the other order */
    {"\u212b", "\u00c5"},                 /* singleton: the angstrom sign */
    {"\u1112\u1161\u11ab", "\ud55c"},     /* Hangul */
    {"\ufb01", "\ufb01"},                 /* compatibility forms are kept */
    {"\u0958", "\u0915\u093c"},           /* composition exclusion */
    {"x \U0001f600 y", "x \U0001f600 y"}, /* beyond the basic plane */
};

static int normalise(void *user)
{
    const char *const *c = user;
    const char *out;
    size_t len;
    void *owned;
    struct err e = {0};
    int rc = tok_normal_to(TOK_NORMAL_NFC, c[0], strlen(c[0]), &out, &len, &owned, &e);

    if (rc)
        return rc;
    ck_assert_msg(
        len == strlen(c[1]) && !memcmp(out, c[1], len), "\"%s\": \"%.*s\"", c[0], (int)len, out);
    mem_free(owned);
    return 0;
}

START_TEST(form_c)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_int_eq(normalise((void *)cases[i]), 0);
}
END_TEST

START_TEST(other_forms)
{
    static const struct {
        enum tok_normal_form form;
        const char *text;
    } forms[] = {{TOK_NORMAL_NFC, "\u00e9\ufb01\u1e9b\u0323"},
        {TOK_NORMAL_NFD, "e\u0301\ufb01\u017f\u0323\u0307"}, {TOK_NORMAL_NFKC, "\u00e9fi\u1e69"},
        {TOK_NORMAL_NFKD, "e\u0301fis\u0323\u0307"}};
    static const char text[] = "\u00e9\ufb01\u1e9b\u0323";
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const char *out;
        size_t len;
        void *owned;
        struct err e = {0};
        ck_assert_int_eq(
            tok_normal_to(forms[i].form, text, sizeof text - 1, &out, &len, &owned, &e), 0);
        ck_assert_msg(len == strlen(forms[i].text) && !memcmp(out, forms[i].text, len),
            "%zu: \"%.*s\"", i, (int)len, out);
        mem_free(owned);
    }
}
END_TEST

START_TEST(ascii_is_borrowed)
{
    const char *text = "abc", *out;
    size_t len;
    void *owned;
    struct err e = {0};

    ck_assert_int_eq(tok_normal_to(TOK_NORMAL_NFC, text, 3, &out, &len, &owned, &e), 0);
    ck_assert_ptr_eq(out, text);
    ck_assert_ptr_null(owned);
}
END_TEST

START_TEST(memory_faults)
{
    fault_each(FAULT_MEM, normalise, (void *)cases[2]);
}
END_TEST

START_TEST(characters)
{
    ck_assert_uint_eq(tok_normal_upper(0xe9), 0xc9);
    ck_assert_uint_eq(tok_normal_lower(0x416), 0x436);
    ck_assert_uint_eq(tok_normal_title(0x1c6), 0x1c5);
    ck_assert_uint_eq(tok_normal_upper('1'), '1');
    ck_assert_int_eq(tok_normal_class(0xe9), TOK_NORMAL_LETTER);
    ck_assert_int_eq(tok_normal_class(0x0664), TOK_NORMAL_DIGIT);
    ck_assert_int_eq(tok_normal_class('+'), TOK_NORMAL_OTHER);
    ck_assert_int_eq(tok_normal_class(0x200b), TOK_NORMAL_INVISIBLE);
    ck_assert(tok_normal_is_mark(0x903) && !tok_normal_is_nonspacing(0x903));
    ck_assert(tok_normal_is_mark(0x301) && tok_normal_is_nonspacing(0x301));
    ck_assert(tok_normal_is_mark(0x20dd) && !tok_normal_is_mark('a'));
    ck_assert(tok_normal_is_control(0x85) && tok_normal_is_control(0x200b));
    ck_assert(tok_normal_is_control(0xe000) && !tok_normal_is_control(0x378)); /* unassigned */
    ck_assert(tok_normal_is_word(0x1f170) && !tok_normal_is_word(0x1f600));
    ck_assert(tok_normal_printable(' ') && !tok_normal_printable(0xa0));
}
END_TEST

int main(void)
{
    return unit_run("tok_normal",
        (const TTest *const[]){
            form_c, other_forms, characters, ascii_is_borrowed, memory_faults, NULL});
}
