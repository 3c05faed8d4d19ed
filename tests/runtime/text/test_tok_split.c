/*
 * Goal: text is cut where the reference's expressions cut it, nothing is lost, and bad expressions
 * are refused. Method: tables of pieces; Unicode's white space; a random text whose pieces must add
 * up to it.
 * needs: faults
 */
#include "runtime/text/tok_split.h"

#include "tests/unit.h"

#include <string.h>
#include <time.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Appends the piece and a bar. */
static int collect(void *out, const char *piece, size_t len, struct err *e)
{
    if (buf_add(out, piece, len) || buf_char(out, '|'))
        return err_set(e, ERR_MEMORY, "no room");
    return 0;
}

static void check(const char *const *patterns, const char *text, const char *pieces)
{
    struct tok_split *s = NULL;
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 4096);
    ck_assert_int_eq(tok_split_create(&s, &e), 0);
    for (; *patterns; patterns++)
        ck_assert_msg(tok_split_add(s, *patterns, TOK_SPLIT_DROP_NONE, &e) == 0, "%s", e.text);
    ck_assert_msg(tok_split_run(s, text, strlen(text), collect, &out, &e) == 0, "%s", e.text);
    ck_assert_str_eq(buf_cstr(&out), pieces);
    tok_split_destroy(s);
}

START_TEST(pieces_are_the_references)
{
    static const char *const gpt2[] = {GPT2, NULL}, *const digits[] = {"\\p{N}", GPT2, NULL};
    static const char *const none[] = {NULL};
    check(gpt2, "Hello, world's  end 12\n", "Hello|,| world|'s| | end| 12|\n|");
    check(gpt2, "  \n  x", "  \n | x|");
    check(digits, "a12 3b", "a|1|2| |3|b|");
    check(digits, "", "");
    check(none, "all at once", "all at once|");
    /* U+0085 is white, U+180E is not (any more), so it joins what follows */
    check(gpt2, "a\xc2\x85\xe1\xa0\x8e!", "a|\xc2\x85|\xe1\xa0\x8e!|");
}
END_TEST

/* What is dropped is no piece for what follows either. */
START_TEST(pieces_are_dropped_where_wanted)
{
    static const struct {
        enum tok_split_drop drop;
        const char *pieces;
    } cases[] = {{TOK_SPLIT_DROP_NONE, " |a|--|b| |c|"}, {TOK_SPLIT_DROP_MATCHES, "a|--|b|c|"},
        {TOK_SPLIT_DROP_REST, " | |"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tok_split *s = NULL;
        struct err e = {0};
        buf_auto struct buf out;
        buf_init(&out, 4096);
        ck_assert_int_eq(tok_split_create(&s, &e), 0);
        ck_assert_int_eq(tok_split_add(s, "\\s", cases[i].drop, &e), 0);
        ck_assert_int_eq(tok_split_add(s, "-+", TOK_SPLIT_DROP_NONE, &e), 0);
        ck_assert_int_eq(tok_split_run(s, " a--b c", 7, collect, &out, &e), 0);
        ck_assert_str_eq(buf_cstr(&out), cases[i].pieces);
        tok_split_destroy(s);
    }
}
END_TEST

START_TEST(bad_expressions_are_refused)
{
    struct tok_split *s = NULL;
    struct err e = {0};
    ck_assert_int_eq(tok_split_create(&s, &e), 0);
    ck_assert_int_eq(tok_split_add(s, "(unclosed", TOK_SPLIT_DROP_NONE, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "(unclosed"));
    ck_assert_int_eq(tok_split_add(s, "\\C", TOK_SPLIT_DROP_NONE, &e), -ERR_DATA);
    for (int i = 0; i < TOK_SPLIT_STAGES; i++)
        ck_assert_int_eq(tok_split_add(s, "x", TOK_SPLIT_DROP_NONE, &e), 0);
    ck_assert_int_eq(tok_split_add(s, "x", TOK_SPLIT_DROP_NONE, &e), -ERR_DATA);
    tok_split_destroy(s);
    tok_split_destroy(NULL);
}
END_TEST

static int refuse(void *context, const char *piece, size_t len, struct err *e)
{
    (void)piece;
    (void)len;
    ++*(int *)context;
    return err_set(e, ERR_USER, "enough");
}

START_TEST(a_callbacks_failure_ends_the_run)
{
    struct tok_split *s = NULL;
    struct err e = {0};
    int calls = 0;
    ck_assert_int_eq(tok_split_create(&s, &e), 0);
    ck_assert_int_eq(tok_split_add(s, " ", TOK_SPLIT_DROP_NONE, &e), 0);
    ck_assert_int_eq(tok_split_run(s, "a b c", 5, refuse, &calls, &e), -ERR_USER);
    ck_assert_int_eq(calls, 1);
    tok_split_destroy(s);
}
END_TEST

static int append(void *out, const char *piece, size_t len, struct err *e)
{
    (void)e;
    ck_assert_uint_gt(len, 0);
    return buf_add(out, piece, len);
}

START_TEST(nothing_is_lost)
{
    static const char *const pool[] = {" ", "a", "1", "\n", "é", "你", "😀", "'", "ll", "\t", "."};
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    struct tok_split *s = NULL;
    struct err e = {0};
    ck_assert_int_eq(tok_split_create(&s, &e), 0);
    ck_assert_int_eq(tok_split_add(s, "\\p{N}{1,3}", TOK_SPLIT_DROP_NONE, &e), 0);
    ck_assert_int_eq(
        tok_split_add(s, "x*", TOK_SPLIT_DROP_NONE, &e), 0); /* may match nothing: must still end */
    ck_assert_int_eq(tok_split_add(s, GPT2, TOK_SPLIT_DROP_NONE, &e), 0);
    buf_auto struct buf text, out;
    buf_init(&text, 1 << 16);
    buf_init(&out, 1 << 16);
    for (int round = 0; round < 1000; round++) {
        buf_reset(&text);
        buf_reset(&out);
        for (int n = rand_r(&seed) % 50; n >= 0; n--)
            buf_str(&text, pool[(size_t)rand_r(&seed) % (sizeof pool / sizeof *pool)]);
        ck_assert_int_eq(tok_split_run(s, text.data, text.len, append, &out, &e), 0);
        ck_assert_str_eq(buf_cstr(&out), text.data);
    }
    tok_split_destroy(s);
}
END_TEST

/* Taken from where the last piece ended, to a place that knows nothing of what follows. */
static void split_in_parts(
    const struct tok_split *s, const struct buf *text, size_t part, struct buf *out)
{
    struct err e = {0};
    size_t from = 0, done, room = part;
    for (; text->len - from > room; from = done) {
        size_t to = from + room;
        while (((unsigned char)text->data[to] & 0xc0) == 0x80)
            to--;
        ck_assert_int_eq(tok_split_some(s, text->data, from, to, &done, collect, out, &e), 0);
        ck_assert(done >= from && done <= to);
        room = done > from ? part : 2 * room;
    }
    ck_assert_int_eq(tok_split_rest(s, text->data, from, text->len, collect, out, &e), 0);
}

/* Expressions that look ahead, look back, take newlines along or match rarely. */
START_TEST(pieces_of_parts_are_those_of_the_whole)
{
    static const char *const patterns[] = {GPT2,
        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
        "|\\s+(?!\\S)|\\s+",
        "(?<=\\n)a|\\bll|^.|.$", "\\s+$|\\n", "ll1"};
    static const char *const pool[] = {" ", "a", "1", "\n", "é", "你", "😀", "'", "ll", "\t", "."};
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    buf_auto struct buf text, whole, parts;
    buf_init(&text, 1 << 16);
    buf_init(&whole, 1 << 16);
    buf_init(&parts, 1 << 16);
    for (int round = 0; round < 500; round++) {
        struct tok_split *s = NULL;
        struct err e = {0};
        ck_assert_int_eq(tok_split_create(&s, &e), 0);
        const char *pattern = patterns[(size_t)round % (sizeof patterns / sizeof *patterns)];
        ck_assert_msg(!tok_split_add(s, pattern, TOK_SPLIT_DROP_NONE, &e), "%s", e.text);
        if (round % 2)
            ck_assert_int_eq(tok_split_add(s, "\\p{N}", TOK_SPLIT_DROP_NONE, &e), 0);
        buf_reset(&text);
        buf_reset(&whole);
        buf_reset(&parts);
        for (int n = rand_r(&seed) % 300; n >= 0; n--)
            buf_str(&text, pool[(size_t)rand_r(&seed) % (sizeof pool / sizeof *pool)]);
        ck_assert_int_eq(tok_split_run(s, text.data, text.len, collect, &whole, &e), 0);
        split_in_parts(s, &text, 4 + (size_t)rand_r(&seed) % 60, &parts);
        ck_assert_str_eq(buf_cstr(&parts), buf_cstr(&whole));
        tok_split_destroy(s);
    }
}
END_TEST

static int create_only(void *user)
{
    (void)user;
    struct tok_split *s = NULL;
    struct err e = {0};
    int rc = tok_split_create(&s, &e);
    tok_split_destroy(s);
    return rc;
}

static int run_only(void *user)
{
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 100);
    return tok_split_run(user, "a b", 3, collect, &out, &e);
}

/* Adding is left out: without memory for the JIT the interpreter runs the expression, by design. */
START_TEST(matches_are_replaced)
{
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {{" {2,}", "a  b   c d ", "a_b_c d "},
        {"[\\u00AD\\u200b]", "a\u00ad\u200bu00", "a__u00"}, {"\\s", "\u180e\u3000\n", "\u180e__"},
        {"x", "", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tok_split *s = NULL;
        struct err e = {0};
        buf_auto struct buf out;
        buf_init(&out, 4096);
        ck_assert_int_eq(tok_split_create(&s, &e), 0);
        ck_assert_int_eq(tok_split_add(s, cases[i].pattern, TOK_SPLIT_DROP_NONE, &e), 0);
        ck_assert(!tok_split_matches_empty(s));
        ck_assert_int_eq(tok_split_replace(s, cases[i].text, strlen(cases[i].text),
                             (struct tok_text){"_", 1}, &out, &e),
            0);
        ck_assert_str_eq(buf_cstr(&out), cases[i].want);
        tok_split_destroy(s);
    }
}
END_TEST

static int replace_only(void *s)
{
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 4096);
    int rc = tok_split_replace(s, "a b", 3, (struct tok_text){"_", 1}, &out, &e);
    return rc ? rc : buf_ok(&out) ? 0 : -ERR_MEMORY; /* the buffer's is for the caller to ask */
}

START_TEST(failed_allocations_are_reported)
{
    struct tok_split *s = NULL;
    struct err e = {0};
    fault_each(FAULT_MEM, create_only, NULL);
    ck_assert_int_eq(tok_split_create(&s, &e), 0);
    ck_assert_int_eq(tok_split_add(s, "\\s+", TOK_SPLIT_DROP_NONE, &e), 0);
    fault_each(FAULT_MEM, run_only, s);
    fault_each(FAULT_MEM, replace_only, s);
    tok_split_destroy(s);
}
END_TEST

UNIT_MAIN("tok_split", pieces_are_the_references, pieces_are_dropped_where_wanted,
    bad_expressions_are_refused, a_callbacks_failure_ends_the_run, nothing_is_lost,
    pieces_of_parts_are_those_of_the_whole, matches_are_replaced, failed_allocations_are_reported)
