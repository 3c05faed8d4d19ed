/*
 * Goal: a corpus becomes the ids that its tokenizer makes of it, once, and is refused with its line
 * where it is none. Method: the tiny model's byte tokenizer on small files; a table of bad ones;
 * what stands in the folder of tokens before and after a second opening, after changes of text and
 * tokenizer, and after damage.
 * needs: faults
 */
#include "runtime/data/corpus.h"

#include "base/mem.h"
#include "runtime/data/data.h"
#include "runtime/files/gguf.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <sys/stat.h>

static const struct err no_chat = {.code = ERR_USER, .text = "it has none"};

static char folder[64], path[100], cache[100];
static struct tok *tok;
static uint64_t key;

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
    snprintf(cache, sizeof cache, "%s/tokens", folder);
    golden_write(path, text, size);
}

static void teardown(void)
{
    tok_close(tok);
    golden_remove(folder);
}

static int open_corpus(
    const char *from, enum data_format format, int length, struct data **out, struct err *e)
{
    char tokens[LIMIT_PATH_BYTES];
    const struct corpus c = {.path = from, .format = format, .tok = tok, .folder = cache};
    int rc = corpus_tokenize(&c, &key, e);
    rc = rc ? rc : tokens_path(cache, key, tokens, e);
    return rc ? rc : data_open(from, tokens, length, false, out, e);
}

static void check_sample(const struct data *d, int64_t sample, const char *text)
{
    int32_t in[8], out[8], length;
    size_t n = strlen(text) - 1;
    data_sample(d, sample, 8, in, out, &length);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(in[i], (uint8_t)text[i]);
        ck_assert_int_eq(out[i], (uint8_t)text[i + 1]);
    }
}

START_TEST(documents_are_separated)
{
    const char *text =
        "{\"text\":\"ab\"}\n\n  \t\r\n{\"text\":\"c\\n\",\"id\":7}\r\n{\"text\":\"d\"}";
    setup("a.jsonl", text, strlen(text));
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_msg(open_corpus(path, FORMAT_AUTO, 6, &d, &e) == 0, "%s", e.text);
    ck_assert_int_eq(data_tokens(d), 8);
    check_sample(d, 0, "ab\2c\n\2d");
    data_close(d);
    d = NULL;
    /* the same file as plain text is another corpus */
    ck_assert_int_eq(open_corpus(path, FORMAT_TEXT, 6, &d, &e), 0);
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
    ck_assert_int_eq(open_corpus(path, FORMAT_AUTO, 6, &d, &e), 0);
    check_sample(d, 0, "\1a\2\2b\2\2");
    ck_assert_int_eq(data_tokens(d), 7);
    data_close(d);
    golden_write(path, "<s>ab</s>", 9);
    ck_assert_int_eq(open_corpus(path, FORMAT_TEXT, 3, &d, &e), 0);
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
        int32_t in[5], out[5], length;
        setup("a.jsonl", text, sizeof text - 1);
        tok_close(tok);
        def.suffix = (struct tok_affix){{3}, i}; /* eos by the tokenizer, or by us */
        ck_assert_int_eq(tok_create(&def, "made", &tok, &e), 0);
        ck_assert_int_eq(open_corpus(path, FORMAT_AUTO, 5, &d, &e), 0);
        ck_assert_int_eq(data_tokens(d), 6);
        data_sample(d, 0, 5, in, out, &length);
        ck_assert_mem_eq(in, want[i], sizeof in);
        ck_assert_int_eq(out[4], want[i][5]);
        data_close(d);
        d = NULL;
        golden_write(path, "ab", 2); /* one stream */
        ck_assert_int_eq(open_corpus(path, FORMAT_TEXT, 2, &d, &e), 0);
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
        {"a.json", "[{\"text\":\"abcdef\"}]", FORMAT_AUTO, 0, "set the field format"},
        {"a.json", "{\"text\":\"abcdef\"}", FORMAT_AUTO, 0, "set the field format"},
        {"a", "abcdef", FORMAT_AUTO, 0, "set the field format"},
        {"txt", "abcdef", FORMAT_AUTO, 0, "set the field format"},
        {"a.csv", "abcdef", FORMAT_AUTO, 0, "set the field format"},
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
        int rc = open_corpus(path, rows[i].format, 4, &d, &e);
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
        ck_assert_msg(open_corpus(path, FORMAT_AUTO, 4, &d, &e) == -ERR_DATA, "%s", bad[i].name);
        ck_assert_msg(strstr(e.text, bad[i].says) && strstr(e.text, path), "%s", e.text);
        ck_assert_int_eq(open_corpus("/nonexistent.txt", FORMAT_AUTO, 4, &d, &e), -ERR_DATA);
        teardown();
    }
}
END_TEST

/* -- once -- */

static int count_files(void)
{
    DIR *d = opendir(cache);
    int n = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static void open_and_close(const char *from)
{
    struct data *d = NULL;
    struct err e = {0};
    ck_assert_msg(!open_corpus(from, FORMAT_TEXT, 4, &d, &e), "%s", e.text);
    data_close(d);
}

static void file_of_key(struct stat *st, char out[LIMIT_PATH_BYTES])
{
    ck_assert(!tokens_path(cache, key, out, NULL) && !stat(out, st));
}

START_TEST(what_was_tokenised_is_found_again)
{
    char file[LIMIT_PATH_BYTES], other[100];
    struct stat first, again;
    setup("a.txt", "abcdefgh", 8);
    open_and_close(path);
    file_of_key(&first, file);
    uint64_t was = key;
    open_and_close(path);
    snprintf(other, sizeof other, "%s/b.txt", folder); /* of the same content */
    golden_write(other, "abcdefgh", 8);
    open_and_close(other);
    file_of_key(&again, file);
    ck_assert(key == was && first.st_ino == again.st_ino && count_files() == 1);
    golden_write(path, "abcdefgi", 8);
    open_and_close(path);
    ck_assert(key != was && count_files() == 2);
    /* the same bytes, read as something else */
    uint64_t text = key;
    struct data *d = NULL;
    struct err e = {0};
    golden_write(path, "{\"text\":\"abcdefgi\"}", 19);
    open_and_close(path);
    text = key;
    ck_assert(!open_corpus(path, FORMAT_JSONL, 4, &d, &e) && key != text);
    data_close(d);
    teardown();
}
END_TEST

/* A byte anywhere, a cut anywhere. */
START_TEST(damaged_tokens_are_made_anew)
{
    char file[LIMIT_PATH_BYTES];
    struct stat st;
    struct err e = {0};
    setup("a.txt", "abcdefgh", 8);
    open_and_close(path);
    buf_auto struct buf whole, now;
    buf_init(&whole, 1 << 16);
    buf_init(&now, 1 << 16);
    file_of_key(&st, file);
    ck_assert(!io_read_file(file, 1 << 16, &whole, &e));
    for (size_t i = 0; i < whole.len; i += 1 + i % 7) {
        whole.data[i] ^= 64;
        golden_write(file, whole.data, whole.len);
        whole.data[i] ^= 64;
        open_and_close(path);
        golden_write(file, whole.data, i);
        open_and_close(path);
        buf_reset(&now);
        ck_assert(!io_read_file(file, 1 << 16, &now, &e) && now.len == whole.len);
        ck_assert_mem_eq(now.data, whole.data, now.len);
    }
    ck_assert_int_eq(count_files(), 1);
    teardown();
}
END_TEST

struct signs {
    int count, fail_at;
};

static int sign(void *user, struct err *e)
{
    struct signs *s = user;
    return ++s->count == s->fail_at ? err_set(e, ERR_PEER, "nobody is there") : 0;
}

/* And that whoever waits is told of it, and may end it. */
START_TEST(a_long_text_is_taken_in_parts)
{
    struct signs s = {0};
    struct data *d = NULL;
    struct err e = {0};
    char tokens[LIMIT_PATH_BYTES];
    size_t size = 6 << 20;
    mem_autofree char *text = mem_alloc(size);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < size; i++)
        text[i] = "light and day\n"[i % 14];
    memcpy(text + size / 2, "\xc3\xa9", 2);
    setup("a.txt", text, size);
    const struct corpus c = {
        .path = path, .format = FORMAT_AUTO, .tok = tok, .folder = cache, .progress = {sign, &s}};
    ck_assert_msg(!corpus_tokenize(&c, &key, &e), "%s", e.text);
    ck_assert_int_ge(s.count, 7);
    ck_assert(!tokens_path(cache, key, tokens, &e) && !data_open(path, tokens, 7, false, &d, &e));
    ck_assert_int_eq(data_tokens(d), (int64_t)size);
    check_sample(d, 2, "light an"); /* at 14 */
    data_close(d);
    golden_remove(cache);
    s = (struct signs){.fail_at = 5};
    ck_assert_int_eq(corpus_tokenize(&c, &key, &e), -ERR_PEER);
    ck_assert_int_eq(count_files(), 0);
    teardown();
}
END_TEST

/* -- rows -- */

static bool packed; /* as told_of opens it */

static const char *told_of(
    const char *name, const char *text, int64_t skip, int length, struct data **out)
{
    static struct err e;
    char tokens[LIMIT_PATH_BYTES];
    e = (struct err){0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    golden_write(path, text, strlen(text));
    const struct corpus c = {.path = path,
        .format = FORMAT_AUTO,
        .tok = tok,
        .no_chat = &no_chat,
        .skip = skip,
        .folder = cache};
    if (!corpus_tokenize(&c, &key, &e) && !tokens_path(cache, key, tokens, &e))
        data_open(path, tokens, length, packed, out, &e);
    return e.text;
}

/* Inputs, a bar, and targets with "." where nothing is learnt; padding is not written. */
static const char *row(const struct data *d, int64_t sample)
{
    static char text[100];
    int32_t in[16], out[16], length;
    char *at = text;
    data_sample(d, sample, 16, in, out, &length);
    ck_assert_int_eq(length, data_length(d, sample));
    int64_t learnt = 0;
    for (int i = 0; i < 16; i++) {
        learnt += out[i] >= 0;
        ck_assert(i < length || (out[i] == -1 && in[i] == 0));
    }
    ck_assert_int_eq(learnt, data_learnt(d, sample));
    for (int i = 0; i < length; i++)
        *at++ = in[i] == 2 ? '$' : (char)in[i];
    *at++ = '|';
    for (int i = 0; i < length; i++)
        *at++ = out[i] < 0 ? '.' : out[i] == 2 ? '$' : (char)out[i];
    *at = 0;
    return text;
}

START_TEST(completions_are_samples_of_their_own)
{
    static const char text[] = "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n"
                               "{\"prompt\":\"abcdefgh\",\"completion\":\"ij\"}\n"
                               "{\"prompt\":\"x\",\"completion\":\"12345678\"}\n";
    struct data *d = NULL;
    setup("unused.txt", "x", 1);
    ck_assert_str_eq(told_of("a.jsonl", text, 0, 16, &d), "");
    ck_assert_int_eq(data_samples(d), 3);
    ck_assert_str_eq(row(d, 0), "abcd|.cd$");
    ck_assert_str_eq(row(d, 1), "abcdefghij|.......ij$");
    ck_assert_str_eq(row(d, 2), "x12345678|12345678$");
    ck_assert(data_truncated(d) == 0 && data_dropped(d) == 0 && data_tokens(d) == 26);
    uint64_t whole = data_digest(d);
    data_close(d);
    d = NULL;
    /* cut to six inputs: of the second nothing that is learnt is left */
    ck_assert_str_eq(told_of("a.jsonl", text, 0, 6, &d), "");
    ck_assert_int_eq(data_samples(d), 2);
    ck_assert_str_eq(row(d, 0), "abcd|.cd$");
    ck_assert_str_eq(row(d, 1), "x12345|123456");
    ck_assert(data_truncated(d) == 2 && data_dropped(d) == 1);
    ck_assert_uint_eq(data_digest(d), whole);
    data_close(d);
    d = NULL;
    ck_assert_ptr_nonnull(
        strstr(told_of("b.jsonl", "{\"prompt\":\"abcdefgh\",\"completion\":\"ij\"}", 0, 6, &d),
            "spec.train.sequenceLength: within 6 tokens"));
    /* the same tokens, other marks */
    ck_assert_str_eq(told_of("b.jsonl", "{\"prompt\":\"abc\",\"completion\":\"d\"}", 0, 6, &d), "");
    uint64_t one = data_digest(d);
    data_close(d);
    ck_assert_str_eq(told_of("b.jsonl", "{\"prompt\":\"ab\",\"completion\":\"cd\"}", 0, 6, &d), "");
    ck_assert_uint_ne(data_digest(d), one);
    data_close(d);
    teardown();
}
END_TEST

#define GOOD "{\"text\":\"abcdef\"}\n"
#define BAD  "{\"text\":7}\n"

START_TEST(bad_records_are_left_out_as_far_as_allowed)
{
    static const struct {
        const char *name, *text;
        int64_t skip;
        const char *says; /* "": accepted */
    } rows[] = {
        {"a.jsonl", GOOD BAD GOOD, 0, "a.jsonl: line 2: no object with a string"},
        {"a.jsonl", GOOD BAD GOOD, 1, ""},
        {"a.jsonl", GOOD BAD GOOD, 0, "a.jsonl: line 2: no object with a string"},
        {"a.jsonl", GOOD BAD GOOD BAD, 1, "a.jsonl: line 4: no object with a string"},
        {"a.jsonl", GOOD "{\"text\":\"\xff\"}\n{\"text\n\n" GOOD, 2, ""},
        {"a.jsonl", GOOD "{\"prompt\":\"a\",\"completion\":\"b\"}\n", 0,
            "line 2: has \"prompt\" and \"completion\", but lines before it \"text\""},
        {"a.jsonl", GOOD "{\"prompt\":\"a\",\"completion\":\"b\"}\n", 1, ""},
        {"a.jsonl", "{\"messages\":[]}\n", 0, "line 1: messages need a chat template: it has"},
        {"a.jsonl", "{\"messages\":[]}\n" GOOD, 1, "messages need a chat template: it has"},
        {"a.txt", "abcdef", 1, "spec.train.data.skipBadRecords: text is one stream"},
    };
    setup("unused.txt", "x", 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct data *d = NULL;
        const char *told = told_of(rows[i].name, rows[i].text, rows[i].skip, 4, &d);
        ck_assert_msg(
            *rows[i].says ? strstr(told, rows[i].says) != NULL : !*told, "%zu: %s", i, told);
        ck_assert(*rows[i].says || (data_tokens(d) - 7) % 7 == 0);
        data_close(d);
    }
    teardown();
}
END_TEST

/* -- several files -- */

START_TEST(a_folder_is_one_corpus)
{
    struct data *d = NULL;
    struct err e = {0};
    char in[200];
    setup("unused.txt", "x", 1);
    snprintf(in, sizeof in, "%s/in", folder);
    ck_assert(!io_mkdirs(in, 0755, &e));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%d.txt", in, 2 - i);
        golden_write(path, i ? "abc" : "def", 3);
    }
    ck_assert_msg(!open_corpus(in, FORMAT_AUTO, 7, &d, &e), "%s", e.text);
    ck_assert_int_eq(data_tokens(d), 8);
    check_sample(d, 0, "abc\2def\2"); /* one behind another, each with eos */
    data_close(d);
    golden_write(path, "caf\xe9", 4);
    ck_assert_int_eq(open_corpus(in, FORMAT_AUTO, 7, &d, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "in/1.txt: line 1: invalid UTF-8"));
    snprintf(path, sizeof path, "%s/3.jsonl", in);
    golden_write(path, GOOD, sizeof GOOD - 1);
    ck_assert_int_eq(open_corpus(in, FORMAT_AUTO, 7, &d, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "3.jsonl: not of the same format as"));
    snprintf(in, sizeof in, "%s/in/[12].txt", folder);
    ck_assert_int_eq(open_corpus(in, FORMAT_AUTO, 7, &d, &e), -ERR_DATA);
    teardown();
}
END_TEST

START_TEST(documents_are_packed_whole)
{
    static const char text[] = "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n"
                               "{\"prompt\":\"x\",\"completion\":\"12345\"}\n"
                               "{\"prompt\":\"abcdefghijklm\",\"completion\":\"n\"}\n"
                               "{\"prompt\":\"y\",\"completion\":\"z\"}\n";
    static const int32_t want[] = {0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 10, 10};
    struct data *d = NULL;
    int32_t first[12];
    setup("unused.txt", "x", 1);
    packed = true;
    ck_assert_str_eq(told_of("a.jsonl", text, 0, 12, &d), "");
    ck_assert(data_packed(d) && data_samples(d) == 1 && data_dropped(d) == 1);
    ck_assert_str_eq(row(d, 0), "abcdx12345yz|.cd$12345$z$");
    data_first(d, 0, 12, first);
    ck_assert_mem_eq(first, want, sizeof want);
    data_close(d);
    d = NULL;
    ck_assert_str_eq(told_of("a.jsonl", text, 0, 14, &d), "");
    ck_assert_int_eq(data_samples(d), 2); /* the third fits, alone */
    ck_assert_str_eq(row(d, 1), "abcdefghijklmn|............n$");
    data_close(d);
    d = NULL;
    ck_assert_ptr_nonnull(strstr(told_of("b.jsonl", GOOD, 0, 4, &d), "spec.train.data.packing"));
    teardown();
}
END_TEST

static int open_jsonl(void *user)
{
    (void)user;
    struct data *d = NULL;
    struct err e = {0};
    int rc = open_corpus(path, FORMAT_AUTO, 2, &d, &e);
    data_close(d);
    if (!rc)
        golden_remove(cache);
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

UNIT_MAIN("corpus", documents_are_separated, special_tokens_in_text_count,
    documents_begin_and_end_as_the_tokenizer_asks, formats_are_not_guessed,
    bad_files_are_refused_with_their_line, what_was_tokenised_is_found_again,
    damaged_tokens_are_made_anew, a_long_text_is_taken_in_parts,
    completions_are_samples_of_their_own, bad_records_are_left_out_as_far_as_allowed,
    a_folder_is_one_corpus, documents_are_packed_whole, failed_calls_are_reported)
