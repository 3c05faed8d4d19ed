/*
 * Goal: pairs merge by rank, then from the left, whatever the piece's length, and bytes are spelled
 * as GPT-2 spelled them. Method: a small vocabulary by hand, and small ones of characters against
 * the tokenizers package (golden); all bytes there and back; a long piece (it must not take
 * quadratic time); merges that are wrong; failing calls. That whole tokenizers agree with the
 * reference is test_tok's affair.
 * needs: faults
 */
#include "runtime/text/tok_bpe.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#define TEXT(s) \
    { \
        s, sizeof s - 1 \
    }

static struct tok_text tokens[] = {TEXT("a"), TEXT("b"), TEXT("ab"), TEXT("ba"), TEXT("abab"),
    TEXT("bab"), TEXT("\u0120"), TEXT("aa"), TEXT("aaaa")};
static uint8_t kinds[sizeof tokens / sizeof *tokens];
static struct tok_text merges[][2] = {{TEXT("b"), TEXT("a")}, {TEXT("a"), TEXT("b")},
    {TEXT("ab"), TEXT("ab")}, {TEXT("a"), TEXT("a")}, {TEXT("aa"), TEXT("aa")}};

static struct tok_def definition(void)
{
    memset(kinds, TOK_NORMAL, sizeof kinds);
    return (struct tok_def){.vocab = sizeof tokens / sizeof *tokens,
        .tokens = tokens,
        .kinds = kinds,
        .merge_count = sizeof merges / sizeof *merges,
        .merges = merges};
}

static struct tok *create(const struct tok_def *d)
{
    struct tok *t = NULL;
    struct err e = {0};
    ck_assert_msg(!tok_create(d, "small", &t, &e), "%s", e.text);
    return t;
}

/* want: ids, a digit each. */
static void check(const struct tok *t, const char *piece, const char *want)
{
    struct tok_ids ids = {0};
    struct err e = {0};
    char got[32] = {0};
    ck_assert_msg(!tok_encode(t, piece, (int64_t)strlen(piece), false, &ids, &e), "%s", e.text);
    for (int64_t i = 0; i < ids.count; i++)
        got[i] = (char)('0' + ids.id[i]);
    ck_assert_msg(!strcmp(got, want), "\"%s\": %s, expected %s", piece, got, want);
    tok_ids_done(&ids);
}

START_TEST(the_lowest_rank_merges_first)
{
    struct tok_def d = definition();
    struct tok *t = create(&d);
    check(t, "ab", "2");
    check(t, "ba", "3");
    check(t, "abab", "031"); /* "ba" ranks before "ab" */
    check(t, "aaa", "70");   /* the left one */
    check(t, "aaaaa", "80");
    check(t, "a b", "061");
    check(t, "axb", "2"); /* what the vocabulary lacks is dropped */
    check(t, "bab", "31");
    tok_close(t);
    d.ignore_merges = true;
    t = create(&d);
    check(t, "bab", "5");
    check(t, "abab", "4");
    check(t, "babb", "311");
    tok_close(t);
}
END_TEST

/* A BPE of characters: spaces, characters that fall back to bytes, and those that are unknown. */
START_TEST(characters_are_the_references)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_chars.json");
    ck_assert_uint_ge(json_count(golden), 8);
    json_each (v, golden) {
        struct arena *a = arena_create(1 << 20);
        struct tok_def d;
        struct err e = {0};
        ck_assert_msg(!tok_def_json(json_get(v, "tokenizer"), NULL, "small", a, &d, &e), "%s: %s",
            json_str(v, "name", ""), e.text);
        struct tok *t = create(&d);
        json_each (c, json_get(v, "cases")) {
            const char *text = json_str(c, "text", NULL);
            struct tok_ids got = {0};
            int64_t count;
            mem_autofree int32_t *ids = golden_ids(json_get(c, "ids"), &count);
            ck_assert(!tok_encode_document(t, text, (int64_t)strlen(text), &got, &e));
            ck_assert_msg(
                got.count == count && (!count || !memcmp(ids, got.id, (size_t)count * sizeof *ids)),
                "%s, \"%s\": %lld ids, expected %lld", json_str(v, "name", ""), text,
                (long long)got.count, (long long)count);
            tok_ids_done(&got);
        }
        tok_close(t);
        arena_destroy(a);
    }
}
END_TEST

START_TEST(tokens_of_characters_are_decoded)
{
    static struct tok_text text[] = {TEXT("\u2581a"), TEXT("<0xE2>"), TEXT("<0x82>"),
        TEXT("<0xAC>"), TEXT("\u2581\u2581"), TEXT("<0xxx>")};
    struct tok_def d = definition();
    struct buf out;
    d.model = TOK_BPE_CHARS;
    d.tokens = text;
    d.vocab = sizeof text / sizeof *text;
    d.chars = (struct tok_chars_def){.unknown = -1, .byte_fallback = true, .decodes_bytes = true};
    d.merge_count = 0;
    struct tok *t = create(&d);
    buf_init(&out, 100);
    for (int32_t i = 0; i < d.vocab; i++)
        ck_assert(!tok_decode(t, i, false, &out));
    ck_assert_str_eq(buf_cstr(&out), " a\u20ac  <0xxx>");
    buf_done(&out);
    tok_close(t);
}
END_TEST

START_TEST(every_byte_has_its_character)
{
    buf_auto struct buf text, back;
    buf_init(&text, 1 << 10);
    buf_init(&back, 1 << 10);
    for (int b = 0; b < 256; b++) {
        char s[4];
        buf_add(&text, s, utf8_encode(tok_byte_char((uint8_t)b), s));
    }
    ck_assert(tok_bytes((struct tok_text){text.data, text.len}, &back));
    ck_assert_uint_eq(back.len, 256);
    for (int b = 0; b < 256; b++)
        ck_assert_int_eq((uint8_t)back.data[b], b);
    ck_assert(!tok_bytes((struct tok_text)TEXT("a b"), &back));
    ck_assert(!tok_bytes((struct tok_text)TEXT("a\u2028"), &back));
    ck_assert_uint_eq(back.len, 256); /* nothing is left behind */
}
END_TEST

START_TEST(wrong_merges_are_refused)
{
    static struct tok_text wrong[][2] = {
        {TEXT("a"), TEXT("x")}, {TEXT("a"), TEXT("")}, {TEXT("b"), TEXT("b")}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tok_def d = definition();
        struct tok *t = NULL;
        struct err e = {0};
        d.merges = &wrong[i];
        d.merge_count = 1;
        ck_assert_int_eq(tok_create(&d, "small", &t, &e), -ERR_DATA);
        ck_assert_str_eq(e.text, "small: merge 0 is not of tokens in the vocabulary");
    }
}
END_TEST

/* A million bytes without a place to cut: minutes when quadratic, well under a second when not. */
START_TEST(a_long_piece_is_not_slow)
{
    struct tok_def d = definition();
    struct tok *t = create(&d);
    size_t n = 1 << 20;
    mem_autofree char *text = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + i * i % 7 % 2);
    struct tok_ids ids = {0};
    struct err e = {0};
    ck_assert_int_eq(tok_encode(t, text, (int64_t)n, false, &ids, &e), 0);
    ck_assert_int_gt(ids.count, 1000);
    memset(text, 'a', n);
    ids.count = 0;
    ck_assert_int_eq(tok_encode(t, text, (int64_t)n, false, &ids, &e), 0);
    ck_assert_int_eq(ids.count, n / 4);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

static int use_small(void *user)
{
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct err e = {0};
    int rc = tok_create(user, "small", &t, &e);
    if (!rc)
        rc = tok_encode(t, "ababab", 6, false, &ids, &e);
    tok_ids_done(&ids);
    tok_close(t);
    return rc;
}

START_TEST(failing_calls_are_reported)
{
    struct tok_def d = definition();
    fault_each(FAULT_MEM, use_small, &d);
}
END_TEST

UNIT_MAIN("tok_bpe", the_lowest_rank_merges_first, characters_are_the_references,
    tokens_of_characters_are_decoded, every_byte_has_its_character, wrong_merges_are_refused,
    a_long_piece_is_not_slow, failing_calls_are_reported)
