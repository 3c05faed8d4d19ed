/*
 * Goal: words of GGUF files are those of a BERT, by what llama.cpp's converters of all times write,
 * and what such a file cannot say is refused by its name. Method: a small vocabulary by hand in
 * both forms, its ids, and settings by their keys; tables of wrong files and of tokenizers that
 * have no place there; every failing call.
 * needs: faults
 */
#include "runtime/text/tok_bert.h"

#include "tests/runtime/gguf_make.h"
#include "tests/unit.h"

#define MARK "\xe2\x96\x81"

static struct err e;

/* A word's beginning; going on; in brackets as newer files have it, and older; a mark alone. */
static const char *const words[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", MARK "ab", "ab",
    MARK "[x]", "[y]", MARK, MARK "added", "[PAD11]"};
enum { WORDS = sizeof words / sizeof *words };
static const char *const meant[WORDS] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "##ab",
    "[x]", "[y]", "##" MARK, "added", NULL};
static const int32_t types[WORDS] = {3, 2, 3, 3, 3, 1, 1, 1, 1, 1, 4, 5};

static void begin(struct gguf_make *m, bool specials)
{
    static const struct {
        const char *key;
        uint32_t id;
    } ids[] = {{"tokenizer.ggml.unknown_token_id", 1}, {"tokenizer.ggml.cls_token_id", 2},
        {"tokenizer.ggml.seperator_token_id", 3}, {"tokenizer.ggml.mask_token_id", 4}};
    gguf_make_init(m);
    gguf_make_str(m, "tokenizer.ggml.model", "bert");
    gguf_make_strs(m, "tokenizer.ggml.tokens", words, WORDS);
    gguf_make_i32s(m, "tokenizer.ggml.token_type", types, WORDS);
    for (size_t i = 0; i < 4 && specials; i++)
        gguf_make_u32(m, ids[i].key, ids[i].id);
}

static int read_made(
    struct gguf_make *m, struct arena *a, struct gguf **g, struct tok_def *d, struct err *why)
{
    static struct buf file;
    buf_done(&file);
    buf_init(&file, 1 << 16);
    gguf_make_finish(m, &file);
    gguf_make_done(m);
    int rc = gguf_parse(file.data, file.len, "made.gguf", g, why);
    return rc ? rc : tok_def_gguf(*g, a, d, why);
}

START_TEST(words_are_read_by_their_marks)
{
    struct gguf_make m;
    struct gguf *g = NULL;
    struct tok_def d;
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    arena_auto struct arena *a = arena_create(1 << 20);
    static const char text[] = "\xc3\x81"
                               "Bab ab z added";
    static const int32_t want[] = {2, 5, 6, 5, 1, 10, 3};
    begin(&m, true);
    ck_assert_msg(!read_made(&m, a, &g, &d, &e), "%s", e.text);
    for (int i = 0; i < WORDS; i++) {
        ck_assert_int_eq(d.kinds[i], i < 5 ? TOK_SPECIAL : meant[i] ? TOK_NORMAL : TOK_UNUSED);
        ck_assert_msg(!meant[i] ||
                (d.tokens[i].len == strlen(meant[i]) &&
                    !memcmp(d.tokens[i].s, meant[i], d.tokens[i].len)),
            "%d: %.*s", i, (int)d.tokens[i].len, d.tokens[i].s);
        if (meant[i] && d.kinds[i] == TOK_NORMAL && i != 8) /* whose form is the older one */
            ck_assert_str_eq(tok_bert_token(&d, i, a), words[i]);
    }
    ck_assert(d.bos < 0 && d.eos < 0 && d.mask == 4 && d.pad == 0);
    ck_assert_msg(!tok_create(&d, "made.gguf", &t, &e), "%s", e.text);
    ck_assert(!tok_encode_document(t, text, sizeof text - 1, &ids, &e));
    ck_assert_int_eq(ids.count, 7);
    ck_assert_mem_eq(ids.id, want, sizeof want);
    tok_ids_done(&ids);
    tok_close(t);
    gguf_close(g);
}
END_TEST

START_TEST(keys_say_what_is_done_to_letters)
{
    for (int i = 0; i < 9; i++) { /* each key: absent, false, true */
        struct gguf_make m;
        struct gguf *g = NULL;
        struct tok_def d;
        struct tok_bert how = {0};
        arena_auto struct arena *a = arena_create(1 << 20);
        int lower = i % 3, accents = i / 3;
        begin(&m, true);
        if (lower)
            gguf_make_raw(&m, "tokenizer.ggml.normalizer.lowercase", 7, &(uint8_t){lower == 2}, 1);
        if (accents)
            gguf_make_raw(
                &m, "tokenizer.ggml.normalizer.strip_accents", 7, &(uint8_t){accents == 2}, 1);
        ck_assert_msg(!read_made(&m, a, &g, &d, &e), "%s", e.text);
        ck_assert(tok_bert_get(&d, &how));
        ck_assert_int_eq(how.lower, lower != 1);
        ck_assert_int_eq(how.accents, accents ? accents == 2 : lower != 1);
        gguf_close(g);
    }
}
END_TEST

START_TEST(wrong_files_are_refused)
{
    for (int i = 0; i < 3; i++) {
        struct gguf_make m;
        struct gguf *g = NULL;
        struct tok_def d;
        arena_auto struct arena *a = arena_create(1 << 20);
        static const char *const wanted[] = {
            "made.gguf: tokenizer.ggml.unknown_token_id is missing",
            "tokenizer.ggml.padding_token_id", "tokenizer.ggml.bos_token_id"};
        begin(&m, i);
        if (i)
            gguf_make_u32(&m, wanted[i], WORDS);
        ck_assert_int_eq(read_made(&m, a, &g, &d, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, wanted[i]), "%s", e.text);
        gguf_close(g);
    }
}
END_TEST

/* A definition that a file can say, but for what `spoil` does. */
static void spoil(struct tok_def *d, int i)
{
    static const char *const texts[] = {"##" MARK "a", "##[z]"};
    if (i == 0)
        d->steps.list[0].kind = TOK_STEP_NMT;
    else if (i == 1)
        d->stages[1].drop = TOK_SPLIT_DROP_MATCHES;
    else if (i == 2)
        d->wordpiece.prefix = (struct tok_text){"@@", 2};
    else if (i == 3)
        d->wordpiece.word_limit = 200;
    else if (i == 4)
        d->suffix.count = 0;
    else if (i == 5)
        tok_def_pair(d, TOK_PAIR_ROBERTA);
    else if (i < 8)
        d->tokens[5] = (struct tok_text){texts[i - 6], strlen(texts[i - 6])};
    else
        d->kinds[5] = TOK_ADDED;
}

START_TEST(what_a_file_cannot_say_is_refused)
{
    static const char *const wanted[] = {"are not BERT's", "are not BERT's", "has ## before",
        "words of up to 100 characters", "around texts", "around texts", "this one has no place",
        "this one has no place", "added and not special has no place"};
    for (int i = 0; i < 9; i++) {
        struct gguf_make m;
        struct gguf *g = NULL;
        struct tok_def d;
        arena_auto struct arena *a = arena_create(1 << 20);
        begin(&m, true);
        ck_assert_msg(!read_made(&m, a, &g, &d, &e), "%s", e.text);
        ck_assert_msg(!tok_bert_check(&d, "x.json", &e), "%s", e.text);
        spoil(&d, i);
        ck_assert_int_eq(tok_bert_check(&d, "x.json", &e), -ERR_DATA);
        ck_assert_msg(
            strstr(e.text, wanted[i]) && !strncmp(e.text, "x.json: ", 8), "%d: %s", i, e.text);
        gguf_close(g);
    }
}
END_TEST

/* What is made of it then is the same code as for others, and PCRE2 does without some memory. */
static int read_all(void *user)
{
    struct err why = {0};
    struct tok_def d;
    buf_auto struct buf json;
    buf_init(&json, 1 << 20);
    arena_auto struct arena *a = arena_create(1 << 20);
    if (!a)
        return -ERR_MEMORY;
    int rc = tok_def_gguf(user, a, &d, &why);
    return rc ? rc : tok_def_write(&d, &json, &why);
}

START_TEST(failing_calls_are_reported)
{
    struct gguf_make m;
    struct gguf *g = NULL;
    struct tok_def d;
    arena_auto struct arena *a = arena_create(1 << 20);
    begin(&m, true);
    ck_assert_msg(!read_made(&m, a, &g, &d, &e), "%s", e.text);
    fault_each(FAULT_MEM, read_all, g);
    gguf_close(g);
}
END_TEST

UNIT_MAIN("tok_bert", words_are_read_by_their_marks, keys_say_what_is_done_to_letters,
    wrong_files_are_refused, what_a_file_cannot_say_is_refused, failing_calls_are_reported)
