/*
 * Goal: a corpus becomes the same samples in the same order for every world, and bad files are
 * refused with their line. Method: the tiny model's byte tokenizer on small files; permutations
 * checked to be permutations; shares checked to cover the batch; a table of bad files.
 * needs: faults
 */
#include "runtime/data/data.h"

#include "runtime/text/tok_def.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64], path[100];
static struct tok *tok;

/* A tokenizer whose ids are bytes, but for 1 and 2: <s> and </s>. */
static void setup(const char *name, const char *text, size_t size)
{
    buf_auto struct buf file;
    struct gguf *g = NULL;
    struct tok_def d;
    struct err e = {0};
    struct arena *a = arena_create(1 << 24);
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    ck_assert_int_eq(gguf_parse(file.data, file.len, "tiny", &g, &e), 0);
    ck_assert_int_eq(tok_def_gguf(g, a, &d, &e), 0);
    ck_assert_int_eq(tok_create(&d, "tiny", &tok, &e), 0);
    arena_destroy(a);
    gguf_close(g);
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    golden_write(path, text, size);
}

static void teardown(void)
{
    tok_close(tok);
    golden_remove(folder);
}

static void check_sample(const struct data *d, int64_t sample, const char *text)
{
    int32_t in[8], out[8];
    size_t n = strlen(text) - 1;
    data_sample(d, sample, in, out);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(in[i], (uint8_t)text[i]);
        ck_assert_int_eq(out[i], (uint8_t)text[i + 1]);
    }
}

START_TEST(text_is_cut_into_samples)
{
    setup("a.txt", "abcdefghijkl", 12);
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_msg(data_open(path, FORMAT_AUTO, tok, 4, &d, &e) == 0, "%s", e.text);
    ck_assert_int_eq(data_tokens(d), 12);
    ck_assert_int_eq(data_samples(d), 2); /* the third would need a thirteenth token */
    check_sample(d, 0, "abcde");
    check_sample(d, 1, "efghi");
    data_close(d);
    data_close(NULL);
    teardown();
}
END_TEST

START_TEST(documents_are_separated)
{
    const char *text =
        "{\"text\":\"ab\"}\n\n  \t\r\n{\"text\":\"c\\n\",\"id\":7}\r\n{\"text\":\"d\"}";
    setup("a.jsonl", text, strlen(text));
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_msg(data_open(path, FORMAT_AUTO, tok, 6, &d, &e) == 0, "%s", e.text);
    ck_assert_int_eq(data_tokens(d), 8);
    check_sample(d, 0, "ab\2c\n\2d");
    data_close(d);
    d = NULL;
    /* the same file as plain text is another corpus */
    ck_assert_int_eq(data_open(path, FORMAT_TEXT, tok, 6, &d, &e), 0);
    ck_assert_int_eq(data_tokens(d), (int64_t)strlen(text));
    data_close(d);
    teardown();
}
END_TEST

/* Of the kind "meaning that changes silently": what is written as a special token is one, and a
   document that ends with eos does not get another. */
START_TEST(special_tokens_in_text_count)
{
    const char *text = "{\"text\":\"<s>a</s>\"}\n{\"text\":\"</s>b\"}\n{\"text\":\"\"}\n";
    setup("a.jsonl", text, strlen(text));
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_int_eq(data_open(path, FORMAT_AUTO, tok, 6, &d, &e), 0);
    check_sample(d, 0, "\1a\2\2b\2\2");
    ck_assert_int_eq(data_tokens(d), 7);
    data_close(d);
    golden_write(path, "<s>ab</s>", 9);
    ck_assert_int_eq(data_open(path, FORMAT_TEXT, tok, 3, &d, &e), 0);
    check_sample(d, 0, "\1ab\2");
    data_close(d);
    teardown();
}
END_TEST

/* Of the same kind: a text begins, and ends, as the tokenizer asks. */
START_TEST(documents_begin_and_end_as_the_tokenizer_asks)
{
    static const char text[] = "{\"text\":\"a\"}\n{\"text\":\"b\"}";
    struct tok_def def = {.vocab = 4, .bos = 2, .eos = 3};
    struct tok_text tokens[] = {{"a", 1}, {"b", 1}, {"<s>", 3}, {"</s>", 4}};
    uint8_t kinds[] = {TOK_NORMAL, TOK_NORMAL, TOK_SPECIAL, TOK_SPECIAL};
    static const int32_t want[2][6] = {{2, 0, 3, 2, 1, 3}, {2, 0, 3, 2, 1, 3}};
    def.tokens = tokens;
    def.kinds = kinds;
    def.prefix = (struct tok_affix){{2}, 1};
    for (int i = 0; i < 2; i++) {
        struct data *d = NULL;
        struct err e = {0};
        int32_t in[5], out[5];
        setup("a.jsonl", text, sizeof text - 1);
        tok_close(tok);
        def.suffix = (struct tok_affix){{3}, i}; /* eos by the tokenizer, or by us */
        ck_assert_int_eq(tok_create(&def, "made", &tok, &e), 0);
        ck_assert_int_eq(data_open(path, FORMAT_AUTO, tok, 5, &d, &e), 0);
        ck_assert_int_eq(data_tokens(d), 6);
        data_sample(d, 0, in, out);
        ck_assert_mem_eq(in, want[i], sizeof in);
        ck_assert_int_eq(out[4], want[i][5]);
        data_close(d);
        d = NULL;
        golden_write(path, "ab", 2); /* one stream */
        ck_assert_int_eq(data_open(path, FORMAT_TEXT, tok, 2, &d, &e), 0);
        ck_assert_int_eq(data_tokens(d), 3 + i);
        data_close(d);
        teardown();
    }
}
END_TEST

/* Of the kind "files read as what they are not". */
START_TEST(formats_are_not_guessed)
{
    static const struct {
        const char *name, *text;
        enum data_format format;
        int64_t tokens; /* 0: refused */
        const char *says;
    } rows[] = {
        {"a.txt", "abcdef", FORMAT_AUTO, 6, NULL},
        {"a.TXT", "abcdef", FORMAT_AUTO, 6, NULL},
        {"a.text", "[bcdef", FORMAT_AUTO, 6, NULL},
        {"a.md", "abcdef", FORMAT_AUTO, 6, NULL},
        {"a.txt",
            "\xef\xbb\xbf"
            "abcdef",
            FORMAT_AUTO, 6, NULL},
        {"a.jsonl", "\xef\xbb\xbf{\"text\":\"abcdef\"}", FORMAT_AUTO, 7, NULL},
        {"a.ndjson", "{\"text\":\"abcdef\"}", FORMAT_AUTO, 7, NULL},
        {"a.txt", "\xef\xbb\xbf", FORMAT_AUTO, 0, "empty file"},
        {"a.json", "[{\"text\":\"abcdef\"}]", FORMAT_AUTO, 0, "spec.train.data.format"},
        {"a.json", "{\"text\":\"abcdef\"}", FORMAT_AUTO, 0, "spec.train.data.format"},
        {"a", "abcdef", FORMAT_AUTO, 0, "spec.train.data.format"},
        {"txt", "abcdef", FORMAT_AUTO, 0, "spec.train.data.format"},
        {"a.csv", "abcdef", FORMAT_AUTO, 0, "spec.train.data.format"},
        {"a.csv", "abcdef", FORMAT_TEXT, 6, NULL},
        {"a.conll", "abcdef O", FORMAT_AUTO, 0, "spec.train.objective TokenClassification"},
        {"a.txt", "abcdef O", FORMAT_CONLL, 0, "spec.train.objective TokenClassification"},
        {"a.json", "{\"text\":\"abcdef\"}", FORMAT_JSONL, 7, NULL},
        {"a.json", "\n [{\"text\":\"abcdef\"}]", FORMAT_JSONL, 0, "a JSON array, not JSONL"},
        {"a.jsonl", "[\n{\"text\":\"abcdef\"}]", FORMAT_AUTO, 0, "a JSON array, not JSONL"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct data *d = NULL;
        struct err e = {0};
        setup(rows[i].name, rows[i].text, strlen(rows[i].text));
        int rc = data_open(path, rows[i].format, tok, 4, &d, &e);
        if (rows[i].tokens)
            ck_assert_msg(!rc && data_tokens(d) == rows[i].tokens, "%zu: %s", i, e.text);
        else
            ck_assert_msg(
                rc && strstr(e.text, rows[i].says) && strstr(e.text, path), "%zu: %s", i, e.text);
        data_close(d);
        teardown();
    }
}
END_TEST

START_TEST(bad_files_are_refused_with_their_line)
{
    static const struct {
        const char *name, *text, *says;
    } bad[] = {
        {"empty.txt", "", "empty file"},
        {"short.txt", "abcd", "4 tokens, a sample needs 5"},
        {"latin.txt", "fine\nfine\ncaf\xe9 au lait", "line 3: invalid UTF-8"},
        {"surrogate.jsonl", "{\"text\":\"fine\"}\n{\"text\":\"\xed\xa0\x80\"}",
            "line 2: invalid UTF-8"},
        {"a.jsonl", "{\"text\":\"fine\"}\n{\"text\":\"cut", "line 2"},
        {"b.jsonl", "{\"text\":\"fine\"}\n\n{\"texts\":\"x\"}", "line 3: no object with a string"},
        {"c.jsonl", "{\"text\":\"fine\"}\n[1]", "line 2: no object with a string"},
        {"d.jsonl", "{\"text\":5}", "line 1"},
        {"e.jsonl", "\n \n", "0 tokens"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setup(bad[i].name, bad[i].text, strlen(bad[i].text));
        struct data *d = NULL;
        struct err e = {0};
        ck_assert_msg(data_open(path, FORMAT_AUTO, tok, 4, &d, &e) == -ERR_DATA, "%s", bad[i].name);
        ck_assert_msg(strstr(e.text, bad[i].says) && strstr(e.text, path), "%s", e.text);
        ck_assert_int_eq(data_open("/nonexistent.txt", FORMAT_AUTO, tok, 4, &d, &e), -ERR_DATA);
        teardown();
    }
}
END_TEST

START_TEST(an_epoch_is_a_permutation)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 1000, 4096, 4097};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k];
        mem_autofree char *seen = mem_zalloc((size_t)n);
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, (size_t)n);
            for (int64_t i = 0; i < n; i++) {
                int64_t s = data_sample_at(n, 42, epoch * n + i);
                ck_assert(s >= 0 && s < n && !seen[s]);
                seen[s] = 1;
            }
        }
    }
}
END_TEST

/* Not a proof of randomness: an order that stayed, or was the same for other seeds and epochs,
 * would show. */
START_TEST(orders_differ_by_seed_and_epoch)
{
    enum { N = 1000 };
    int same_place = 0, same_seed = 0, same_epoch = 0, ascending = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t s = data_sample_at(N, 1, i);
        same_place += s == i;
        same_seed += s == data_sample_at(N, 2, i);
        same_epoch += s == data_sample_at(N, 1, N + i);
        ascending += i + 1 < N && s < data_sample_at(N, 1, i + 1);
    }
    ck_assert_int_lt(same_place, 10);
    ck_assert_int_lt(same_seed, 10);
    ck_assert_int_lt(same_epoch, 10);
    ck_assert(ascending > 420 && ascending < 580);
}
END_TEST

START_TEST(order_is_fixed_for_good)
{
    /* a checkpoint's data position means the same samples in every later version */
    static const int64_t want[8] = {214, 733, 131, 225, 373, 155, 371, 557};
    for (int64_t i = 0; i < 8; i++)
        ck_assert_int_eq(data_sample_at(1000, 42, i), want[i]);
}
END_TEST

START_TEST(shares_cover_the_batch)
{
    for (int64_t batch = 0; batch < 40; batch++)
        for (int world = 1; world < 20; world++) {
            int64_t next = 0;
            for (int rank = 0; rank < world; rank++) {
                int64_t first, count;
                data_share(batch, world, rank, &first, &count);
                ck_assert_int_eq(first, next);
                ck_assert(count == batch / world || count == batch / world + 1);
                next += count;
            }
            ck_assert_int_eq(next, batch);
        }
}
END_TEST

/* Never more than a tenth; of a set that is not small, what checkpoints of it were made with. */
START_TEST(a_tenth_at_most_is_held_out)
{
    static const int64_t want[][2] = {
        {1, 0}, {9, 0}, {10, 1}, {19, 1}, {39, 3}, {40, 4}, {250, 5}, {562, 11}, {10000, 200}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_int_eq(data_held_out(want[i][0]), want[i][1]);
    for (int64_t n = 0; n < 5000; n++) {
        ck_assert_int_le(10 * data_held_out(n), n);
        if (n >= 40)
            ck_assert_int_eq(data_held_out(n), n / 50 > 4 ? n / 50 : 4);
    }
}
END_TEST

START_TEST(a_digest_is_of_every_token)
{
    int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    struct data *a = NULL, *b = NULL;
    struct err e = {0};
    ck_assert(!data_from_ids(ids, 7, 3, &a, &e));
    for (int i = 0; i < 7; i++) {
        ids[i]++;
        ck_assert(!data_from_ids(ids, 7, 3, &b, &e));
        ck_assert_uint_ne(data_digest(a), data_digest(b));
        data_close(b);
        ids[i]--;
    }
    ck_assert(!data_from_ids(ids, 6, 3, &b, &e));
    ck_assert_uint_ne(data_digest(a), data_digest(b));
    data_close(b);
    ck_assert(!data_from_ids(ids, 7, 2, &b, &e)); /* however it is cut */
    ck_assert_uint_eq(data_digest(a), data_digest(b));
    data_close(b);
    data_close(a);
}
END_TEST

START_TEST(ids_make_a_corpus)
{
    const int32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    int32_t in[3], out[3];
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_int_eq(data_from_ids(ids, 7, 3, &d, &e), 0);
    ck_assert_int_eq(data_samples(d), 2);
    data_sample(d, 1, in, out);
    ck_assert(in[0] == 8 && in[2] == 10 && out[2] == 11);
    data_close(d);
    ck_assert_int_eq(data_from_ids(ids, 3, 3, &d, &e), -ERR_DATA);
    ck_assert_int_eq(data_from_ids(ids, 3, 0, &d, &e), -ERR_USER);
}
END_TEST

static int open_jsonl(void *user)
{
    (void)user;
    struct data *d = NULL;
    struct err e = {0};
    int rc = data_open(path, FORMAT_AUTO, tok, 2, &d, &e);
    data_close(d);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    const char *text = "{\"text\":\"abc\"}\n{\"text\":\"defg\"}\n";
    setup("a.jsonl", text, strlen(text));
    fault_each(FAULT_MEM, open_jsonl, NULL);
    fault_each(FAULT_IO, open_jsonl, NULL);
    teardown();
}
END_TEST

UNIT_MAIN("data", text_is_cut_into_samples, documents_are_separated, special_tokens_in_text_count,
    documents_begin_and_end_as_the_tokenizer_asks, formats_are_not_guessed,
    bad_files_are_refused_with_their_line, an_epoch_is_a_permutation,
    orders_differ_by_seed_and_epoch, order_is_fixed_for_good, shares_cover_the_batch,
    a_tenth_at_most_is_held_out, a_digest_is_of_every_token, ids_make_a_corpus,
    failed_calls_are_reported)
