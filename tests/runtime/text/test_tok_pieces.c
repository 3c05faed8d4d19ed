/*
 * Goal: vocabularies of SentencePiece's make the ids that sentencepiece makes where they stand in a
 * GGUF file, and those that transformers makes where their own file is all that a folder has of a
 * tokenizer. Method: two that tests/golden/make_tok_pieces.py trains, thousands of random lines
 * against a hash of each block of them (golden), texts by hand; what a tokenizer.json is made of a
 * GGUF file's, and a GGUF file's keys of a folder, read back to the same ids; mistakes by name;
 * every truncation; failing calls.
 * needs: faults
 */
#include "runtime/text/tok_pieces.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/family/tensors.h"
#include "runtime/text/tok_write.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/shapes.h"
#include "tests/runtime/text/lines.h"
#include "tests/unit.h"

static struct json *golden;
static char folder[64];
static struct err e;

static void setup(void)
{
    golden = golden_json(GOLDEN "tok_pieces.json");
    golden_folder(folder);
}

static void done(void)
{
    json_destroy(golden);
    golden_remove(folder);
}

/* -- a GGUF file of it -- */

static void put_nums(struct gguf_make *m, const char *key, const struct json *list)
{
    uint64_t count = json_count(list);
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    buf_add(&b, &(uint32_t){6}, 4);
    buf_add(&b, &count, 8);
    json_each (v, list)
        buf_add(&b, &(float){(float)json_number_value(v)}, 4);
    gguf_make_raw(m, key, 9, b.data, b.len);
}

static void put_types(struct gguf_make *m, const struct json *list)
{
    mem_autofree int32_t *types = mem_array(json_count(list), sizeof *types);
    uint64_t count = 0;
    json_each (v, list)
        types[count++] = (int32_t)json_number_value(v);
    gguf_make_i32s(m, "tokenizer.ggml.token_type", types, count);
}

static int of_base64(char c)
{
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(all, c) : NULL;
    return at ? (int)(at - all) : -1;
}

static void put_charsmap(struct gguf_make *m, const char *text)
{
    buf_auto struct buf table, b;
    buf_init(&table, 1 << 20);
    buf_init(&b, 1 << 20);
    uint32_t bits = 0;
    for (int n = 0; *text && of_base64(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)of_base64(*text);
        n += 6;
        if (n >= 8)
            buf_char(&table, (char)(bits >> (n -= 8)));
    }
    buf_add(&b, &(uint32_t){0}, 4);
    buf_add(&b, &(uint64_t){table.len}, 8);
    buf_add(&b, table.data, table.len);
    gguf_make_raw(m, "tokenizer.ggml.precompiled_charsmap", 9, b.data, b.len);
}

static void put_bool(struct gguf_make *m, const char *key, bool v)
{
    gguf_make_raw(m, key, 7, &(uint8_t){v}, 1);
}

/* The keys that llama.cpp's converter writes. */
static void make_keys(struct gguf_make *m, const char *model)
{
    const struct json *v = json_get(golden, model);
    struct lines_pieces p = lines_pieces_of(json_get(v, "tokens"));
    bool t5 = !strcmp(model, "t5");
    gguf_make_init(m);
    gguf_make_str(m, "tokenizer.ggml.model", model);
    gguf_make_str(m, "tokenizer.ggml.pre", "default");
    gguf_make_strs(m, "tokenizer.ggml.tokens", p.text, p.count);
    put_nums(m, "tokenizer.ggml.scores", json_get(v, "scores"));
    put_types(m, json_get(v, "types"));
    if (t5) {
        put_charsmap(m, json_str(v, "charsmap", ""));
        put_bool(m, "tokenizer.ggml.remove_extra_whitespaces", true);
    }
    put_bool(m, "tokenizer.ggml.add_bos_token", false);
    put_bool(m, "tokenizer.ggml.add_eos_token", false);
    mem_free(p.text);
}

static int try_open(const struct buf *file, struct tok **out, struct err *why)
{
    struct gguf *g = NULL;
    struct tok_def d;
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    if (!a)
        return -ERR_MEMORY;
    int rc = gguf_parse(file->data, file->len, "made.gguf", &g, why);
    if (!rc && !(rc = tok_def_gguf(g, a, &d, why)))
        rc = tok_create(&d, "made.gguf", out, why);
    gguf_close(g);
    arena_destroy(a);
    return rc;
}

static struct tok *open_made(struct gguf_make *m)
{
    struct tok *t = NULL;
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_finish(m, &file);
    gguf_make_done(m);
    ck_assert_msg(!try_open(&file, &t, &e), "%s", e.text);
    return t;
}

/* -- comparing -- */

static void drop_marks(struct buf *line)
{
    char *at;
    while ((at = memmem(line->data, line->len, TOK_SPACE, 3))) {
        *at = '_';
        memmove(at + 1, at + 3, line->len - (size_t)(at - line->data) - 3);
        line->len -= 2;
    }
    for (size_t i = 0; i < line->len; i++)
        if (line->data[i] == '|')
            line->data[i] = '_';
}

/* Blocks of lines that differ from the reference's; the first line of the first is shown. */
static int64_t differing(
    const struct tok *t, const struct json *v, bool document, const struct lines_pieces *p)
{
    const char *want = json_str(v, "ids", "");
    int64_t lines = json_int(v, "lines", 0), wrong = 0;
    struct tok_ids got = {0};
    buf_auto struct buf line;
    buf_init(&line, 1 << 16);
    ck_assert_uint_eq(strlen(want), 8 * (size_t)lines / LINES_BLOCK);
    for (int64_t block = 0; block < lines / LINES_BLOCK; block++) {
        uint32_t h = LINES_HASH;
        for (int64_t i = block * LINES_BLOCK; i < (block + 1) * LINES_BLOCK; i++) {
            lines_make((uint64_t)i, p, &line);
            drop_marks(&line);
            got.count = 0;
            const char *s = buf_cstr(&line);
            ck_assert_msg(!(document ? tok_encode_document(t, s, (int64_t)line.len, &got, &e)
                                     : tok_encode(t, s, (int64_t)line.len, false, &got, &e)),
                "%s", e.text);
            h = lines_fold(h, got.id, (size_t)got.count * 4);
        }
        if (h != lines_hash_at(want, block) && !wrong++)
            printf("block %lld differs\n", (long long)block);
    }
    tok_ids_done(&got);
    return wrong;
}

static void check_cases(const struct tok *t, const struct json *v, bool document)
{
    json_each (c, json_get(v, "cases")) {
        const char *text = json_str(c, "text", "");
        struct tok_ids got = {0};
        int64_t len = (int64_t)strlen(text), count;
        mem_autofree int32_t *want = golden_ids(json_get(c, "ids"), &count);
        ck_assert_msg(!(document ? tok_encode_document(t, text, len, &got, &e)
                                 : tok_encode(t, text, len, false, &got, &e)),
            "%s", e.text);
        bool same = got.count == count && !memcmp(got.id, want, (size_t)count * sizeof *want);
        for (int64_t i = 0; !same && i < got.count; i++)
            printf("%d ", got.id[i]);
        ck_assert_msg(same, "\"%s\"", text);
        tok_ids_done(&got);
    }
}

static void compare_gguf(const char *model)
{
    const struct json *v = json_get(golden, model);
    struct lines_pieces p = lines_pieces_of(json_get(v, "tokens"));
    struct gguf_make m;
    make_keys(&m, model);
    struct tok *t = open_made(&m);
    check_cases(t, v, false);
    ck_assert_int_eq(differing(t, v, false, &p), 0);
    tok_close(t);
    mem_free(p.text);
}

START_TEST(llamas_in_gguf_files_equal_sentencepiece)
{
    compare_gguf("llama");
}
END_TEST

START_TEST(unigrams_in_gguf_files_equal_sentencepiece)
{
    compare_gguf("t5");
}
END_TEST

/* -- files of SentencePiece's own -- */

/* folder/name; NULL data: tests/golden's file of the name `from`. */
static void put_file(const char *name, const char *from, const char *data)
{
    char path[128];
    buf_auto struct buf file;
    buf_init(&file, 1 << 20);
    if (data) {
        buf_str(&file, data);
    } else {
        snprintf(path, sizeof path, GOLDEN "%s", from);
        ck_assert_msg(!io_read_file(path, 1 << 20, &file, &e), "%s", e.text);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    golden_write(path, file.data, file.len);
}

static void put_config(const struct json *config)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    ck_assert_int_eq(json_print(config, &text), 0);
    put_file("tokenizer_config.json", NULL, buf_cstr(&text));
}

static void take_away(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert(!remove(path));
}

static const struct json *vocabulary(const char *file)
{
    const char *model = !strcmp(file, "spiece.model") ? "t5" : "llama";
    return json_get(json_get(golden, model), "tokens");
}

START_TEST(folders_equal_transformers)
{
    ck_assert_uint_eq(json_count(json_get(golden, "folders")), 4);
    json_each (v, json_get(golden, "folders")) {
        const char *file = json_str(v, "file", "");
        struct lines_pieces p = lines_pieces_of(vocabulary(file));
        struct tok *t = NULL;
        put_file(file, *file == 's' ? "pieces-unigram.model" : "pieces-bpe.model", NULL);
        put_config(json_get(v, "config"));
        ck_assert_msg(!tok_open_folder(folder, -1, -1, &t, &e), "%s", e.text);
        check_cases(t, v, true);
        ck_assert_int_eq(differing(t, v, true, &p), 0);
        tok_close(t);
        take_away(file);
        mem_free(p.text);
    }
}
END_TEST

START_TEST(two_texts_are_paired_as_t5_does)
{
    static const char config[] = "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":0}";
    struct tok *t = NULL;
    put_file("spiece.model", "pieces-unigram.model", NULL);
    put_file("tokenizer_config.json", NULL, config);
    ck_assert_msg(!tok_open_folder(folder, -1, -1, &t, &e), "%s", e.text);
    const struct tok_template *pair = tok_pair_template(t);
    ck_assert_int_eq(pair->count, 4);
    ck_assert(pair->at[0].id == TOK_PAIR_FIRST && pair->at[2].id == TOK_PAIR_SECOND);
    ck_assert(pair->at[1].id == 1 && pair->at[3].id == 1 && pair->at[3].type == 0);
    ck_assert(tok_eos(t) == 1 && tok_pad(t) == 0 && tok_bos(t) < 0);
    tok_close(t);
}
END_TEST

/* -- from one file to another -- */

static void write_json(const char *model, struct buf *out)
{
    struct gguf_make m;
    struct gguf *g = NULL;
    struct tok_def d;
    buf_auto struct buf file;
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    buf_init(&file, 1 << 24);
    make_keys(&m, model);
    gguf_make_finish(&m, &file);
    gguf_make_done(&m);
    ck_assert_msg(!gguf_parse(file.data, file.len, "made.gguf", &g, &e), "%s", e.text);
    ck_assert_msg(!tok_def_gguf(g, a, &d, &e), "%s", e.text);
    if (d.steps.list[0].kind == TOK_STEP_LONGEST) {
        ck_assert_int_eq(tok_def_write(&d, out, &e), -ERR_DATA);
        ck_assert_ptr_nonnull(strstr(e.text, "tokenizer.ggml.precompiled_charsmap"));
        memmove(d.steps.list, d.steps.list + 1, (size_t)--d.steps.count * sizeof *d.steps.list);
    }
    ck_assert_msg(!tok_def_write(&d, out, &e), "%s", e.text);
    gguf_close(g);
    arena_destroy(a);
}

static struct tok *open_written(const struct buf *text)
{
    struct tok *t = NULL;
    put_file("tokenizer.json", NULL, text->data);
    put_file("tokenizer_config.json", NULL, "{}");
    ck_assert_msg(!tok_open_folder(folder, -1, -1, &t, &e), "%s", e.text);
    return t;
}

START_TEST(a_llama_of_a_gguf_file_becomes_a_tokenizer_json)
{
    const struct json *v = json_get(golden, "llama");
    struct lines_pieces p = lines_pieces_of(json_get(v, "tokens"));
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    write_json("llama", &text);
    struct tok *t = open_written(&text);
    check_cases(t, v, false);
    ck_assert_int_eq(differing(t, v, false, &p), 0);
    tok_close(t);
    mem_free(p.text);
}
END_TEST

/* What needs no table of characters. */
START_TEST(a_unigram_of_a_gguf_file_becomes_a_tokenizer_json)
{
    static const char *const texts[] = {"the beginning", "  a   b ", "<unk> x", " "};
    struct gguf_make m;
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    write_json("t5", &text);
    make_keys(&m, "t5");
    struct tok *want = open_made(&m), *got = open_written(&text);
    for (int i = 0; i < 4; i++) {
        struct tok_ids a = {0}, b = {0};
        int64_t len = (int64_t)strlen(texts[i]);
        ck_assert(!tok_encode(want, texts[i], len, true, &a, &e));
        ck_assert(!tok_encode(got, texts[i], len, true, &b, &e));
        ck_assert_int_eq(a.count, b.count);
        ck_assert(!a.count || !memcmp(a.id, b.id, (size_t)a.count * 4));
        tok_ids_done(&a);
        tok_ids_done(&b);
    }
    tok_close(want);
    tok_close(got);
}
END_TEST

/* A model in the folder, with so many tokens. */
static void put_model(int64_t vocab)
{
    struct model_config c = shape_of("tiny-llama");
    struct tensors list = {0};
    struct hf_writer *h = NULL;
    c.vocab = vocab;
    ck_assert(!tensors_create(&c, &list, &e));
    ck_assert_msg(!hf_writer_create(folder, &c, NULL, &h, &e), "%s", e.text);
    for (int i = 0; i < list.count; i++) {
        const struct tensor *t = &list.at[i];
        mem_autofree float *x =
            mem_array((size_t)(t->shape[0] * (t->dims > 1 ? t->shape[1] : 1)), sizeof *x);
        ck_assert(!hf_writer_tensor(h, t->name, t->dims, t->shape, x, DTYPE_F32, &e));
    }
    ck_assert_msg(!hf_writer_finish(h, &e), "%s", e.text);
    hf_writer_destroy(h);
    tensors_done(&list);
}

/* The folder's tokenizer as a GGUF file's. */
static int write_keys(struct buf *file)
{
    char path[128];
    struct weights *w = NULL;
    struct gguf_writer *to = NULL;
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    ck_assert_int_eq(tok_write_check(w, &e), 0);
    snprintf(path, sizeof path, "%s/keys.gguf", folder);
    ck_assert(!gguf_writer_create(path, &to, &e));
    int rc = tok_gguf_write(w, to, &e);
    if (!rc) {
        ck_assert(!gguf_write_tensor(to, "x", DTYPE_F32, 1, (const int64_t[]){1}, &e));
        ck_assert(!gguf_write_data(to, &(float){1}, 4, &e) && !gguf_write_finish(to, &e));
        ck_assert(!io_read_file(path, 1 << 24, file, &e));
    }
    gguf_writer_destroy(to);
    weights_close(w);
    return rc;
}

START_TEST(a_llama_of_a_folder_becomes_keys)
{
    const struct json *v = json_get(golden, "llama");
    struct lines_pieces p = lines_pieces_of(json_get(v, "tokens"));
    struct tok *t = NULL;
    buf_auto struct buf text, file;
    buf_init(&text, 1 << 24);
    buf_init(&file, 1 << 24);
    write_json("llama", &text);
    put_file("tokenizer.json", NULL, text.data);
    put_model((int64_t)p.count + 3);
    ck_assert_msg(!write_keys(&file), "%s", e.text);
    ck_assert_msg(!try_open(&file, &t, &e), "%s", e.text);
    ck_assert_int_eq(tok_vocab(t), (int32_t)p.count + 3);
    check_cases(t, v, false);
    ck_assert_int_eq(differing(t, v, false, &p), 0);
    tok_close(t);
    mem_free(p.text);
}
END_TEST

/* No space before a text, and a token behind the pieces. */
START_TEST(a_folder_of_pieces_becomes_keys)
{
    static const char text[] = "a b<|im_end|> c\u00e9";
    struct tok *want = NULL, *got = NULL;
    struct tok_ids a = {0}, b = {0};
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    put_file("tokenizer.model", "pieces-bpe.model", NULL);
    const struct json *third = json_next(json_next(json_first(json_get(golden, "folders"))));
    put_config(json_get(third, "config"));
    put_model(901);
    ck_assert_msg(!write_keys(&file), "%s", e.text);
    ck_assert_msg(!try_open(&file, &got, &e), "%s", e.text);
    ck_assert_msg(!tok_open_folder(folder, -1, -1, &want, &e), "%s", e.text);
    ck_assert(!tok_encode_document(want, text, sizeof text - 1, &a, &e));
    ck_assert(!tok_encode_document(got, text, sizeof text - 1, &b, &e));
    ck_assert_int_eq(a.count, b.count);
    ck_assert_mem_eq(a.id, b.id, (size_t)a.count * 4);
    tok_ids_done(&a);
    tok_ids_done(&b);
    tok_close(want);
    tok_close(got);
    put_file("tokenizer_config.json", NULL, "{\"tokenizer_class\":\"LlamaTokenizer\"}");
    ck_assert_int_eq(write_keys(&file), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "before all texts or none"));
}
END_TEST

/* -- what is wrong -- */

#define PIECE_A \
    "\x0a\x03\x0a\x01" \
    "a"
#define SPM_BPE PIECE_A "\x12\x02\x18\x02"

struct mistake {
    const char *file;
    size_t len;
    const char *config, *wanted;
};

START_TEST(wrong_files_are_named)
{
#define FILE_OF(text) text, sizeof text - 1
#define LLAMA         "{\"tokenizer_class\":\"LlamaTokenizer\"}"
    static const struct mistake mistakes[] = {
        {FILE_OF(""), LLAMA, "tokenizer.model: is no file of SentencePiece's"},
        {FILE_OF("{\"version\": 1}"), LLAMA, "is no file of SentencePiece's"},
        {FILE_OF("\x0a\x7f\x0a"), LLAMA, "is no file of SentencePiece's"},
        {FILE_OF("\x0b"), LLAMA, "is no file of SentencePiece's"},
        {FILE_OF("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), LLAMA, "is no file"},
        {FILE_OF("\x0a\x02\x0a\x00"), LLAMA, "piece 0 is no text"},
        {FILE_OF("\x0a\x03\x0a\x01\xff"), LLAMA, "piece 0 is no text"},
        {FILE_OF("\x0a\x05\x0a\x01"
                 "a\x18\x09"),
            LLAMA, "piece 0 has no valid kind"},
        {FILE_OF("\x0a\x08\x0a\x01"
                 "a\x15\x00\x00\xc0\x7f"),
            LLAMA, "piece 0 has no valid score"},
        {FILE_OF(SPM_BPE), "{}", "only with a tokenizer_class"},
        {FILE_OF(SPM_BPE), "{\"tokenizer_class\":\"T5Tokenizer\"}",
            "tokenizer_class \"T5Tokenizer\" of a BPE; what is read: LlamaTokenizer"},
        {FILE_OF(PIECE_A), LLAMA, "of a Unigram; what is read: T5Tokenizer"},
        {FILE_OF(PIECE_A "\x12\x02\x18\x03"), LLAMA, "its model is of words or characters"},
        {FILE_OF(PIECE_A), "{\"tokenizer_class\":\"T5Tokenizer\"}", "extra_ids"},
        {FILE_OF(PIECE_A), "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":0}", "is no file"},
        {FILE_OF(PIECE_A "\x1a\x03\x12\x01x"),
            "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":0}",
            "precompiled_charsmap is no such table"},
        {FILE_OF(SPM_BPE),
            "{\"tokenizer_class\":\"LlamaTokenizer\",\"added_tokens_decoder\":"
            "{\"2\":{\"content\":\"b\"}}}",
            "added_tokens_decoder has no token 1"},
        {FILE_OF(SPM_BPE),
            "{\"tokenizer_class\":\"LlamaTokenizer\",\"added_tokens_decoder\":"
            "{\"x\":{\"content\":\"b\"}}}",
            "\"x\" of added_tokens_decoder is no"}};
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const struct mistake *m = &mistakes[i];
        struct tok_text file = {m->file, m->len};
        struct json *config = NULL;
        struct tok_def d;
        struct arena *a = arena_create(TOK_ARENA_BYTES);
        ck_assert(!json_parse(m->config, strlen(m->config), &config, &e));
        ck_assert_int_eq(tok_def_spm(file, config, "tokenizer.model", a, &d, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, m->wanted), "\"%s\" without \"%s\"", e.text, m->wanted);
        arena_destroy(a);
        json_destroy(config);
    }
}
END_TEST

START_TEST(added_tokens_of_an_older_file_are_refused)
{
    struct tok *t = NULL;
    put_file("tokenizer.model", "pieces-bpe.model", NULL);
    put_file("tokenizer_config.json", NULL, LLAMA);
    put_file("added_tokens.json", NULL, "{\"<pad>\": 900}");
    ck_assert_int_eq(tok_open_folder(folder, -1, -1, &t, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "added_tokens.json beside tokenizer.model is not read"));
}
END_TEST

/* Keys of a vocabulary of two, one of them otherwise. */
START_TEST(wrong_keys_are_named)
{
    static const char *const words[] = {"<unk>", "a"};
    static const struct {
        const char *model, *score, *wanted;
    } mistakes[] = {
        {"rwkv", "", "what is read: gpt2 (BPE of bytes), llama (BPE of SentencePiece), t5"},
        {"llama", "", "key tokenizer.ggml.scores is missing"},
        {"llama", "\0\0\xc0\x7f", "2 tokens with 1 scores"},
        {"llama", "\0\0\0\0\0\0\xc0\x7f", "token 1 has no score"},
        {"t5", "\0\0\0\0\0\0\0\0", "2 tokens, of which none is the unknown one"}};
    static const size_t sizes[] = {0, 0, 4, 8, 8};
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct gguf_make m;
        struct tok *t = NULL;
        buf_auto struct buf file, scores;
        buf_init(&file, 1 << 16);
        buf_init(&scores, 1 << 16);
        buf_add(&scores, &(uint32_t){6}, 4);
        buf_add(&scores, &(uint64_t){sizes[i] / 4}, 8);
        buf_add(&scores, mistakes[i].score, sizes[i]);
        gguf_make_init(&m);
        gguf_make_str(&m, "tokenizer.ggml.model", mistakes[i].model);
        gguf_make_strs(&m, "tokenizer.ggml.tokens", words, 2);
        if (sizes[i])
            gguf_make_raw(&m, "tokenizer.ggml.scores", 9, scores.data, scores.len);
        gguf_make_finish(&m, &file);
        gguf_make_done(&m);
        ck_assert_int_eq(try_open(&file, &t, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, mistakes[i].wanted), "\"%s\" without \"%s\"", e.text,
            mistakes[i].wanted);
    }
}
END_TEST

/* Of a vocabulary by hand: scores that say what merges do, and merges of which none do. */
static int scores_of(struct tok_text (*merges)[2], int64_t count, float *scores)
{
    struct tok_text tokens[] = {{"a", 1}, {"b", 1}, {"ab", 2}, {"aa", 2}, {"aab", 3}};
    uint8_t kinds[5];
    struct tok_def d = {.model = TOK_BPE_CHARS, .vocab = 5, .tokens = tokens, .kinds = kinds};
    memset(kinds, TOK_NORMAL, sizeof kinds);
    d.merges = merges;
    d.merge_count = count;
    return tok_pieces_scores(&d, scores, "made", &e);
}

START_TEST(scores_say_what_merges_do_or_are_refused)
{
    struct tok_text whole[][2] = {
        {{"a", 1}, {"a", 1}}, {{"aa", 2}, {"b", 1}}, {{"a", 1}, {"ab", 2}}, {{"a", 1}, {"b", 1}}};
    float scores[5];
    ck_assert_msg(!scores_of(whole, 4, scores), "%s", e.text);
    ck_assert(scores[3] == 0 && scores[4] == -1 && scores[2] == -2 && scores[0] == -3);
    ck_assert_int_eq(scores_of(whole, 3, scores), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "4 pairs of its tokens make a token, and it merges 3"));
    struct tok_text apart[][2] = {
        {{"aa", 2}, {"b", 1}}, {{"a", 1}, {"a", 1}}, {{"a", 1}, {"ab", 2}}, {{"a", 1}, {"b", 1}}};
    ck_assert_int_eq(scores_of(apart, 4, scores), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "the merges of token \"aab\" do not stand together"));
    struct tok_text strange[][2] = {{{"a", 1}, {"c", 1}}};
    ck_assert_int_eq(scores_of(strange, 1, scores), -ERR_DATA);
}
END_TEST

/* Of three alike the left two are one: no order of pairs, all of them as good. */
START_TEST(equal_scores_merge_from_the_left)
{
    static const char *const words[] = {"<unk>", "x", "xx", "xxx"};
    static const float scores[] = {0, -9, -2, -1};
    struct gguf_make m;
    struct tok_ids ids = {0};
    buf_auto struct buf list;
    buf_init(&list, 1 << 10);
    buf_add(&list, &(uint32_t){6}, 4);
    buf_add(&list, &(uint64_t){4}, 8);
    buf_add(&list, scores, sizeof scores);
    gguf_make_init(&m);
    gguf_make_str(&m, "tokenizer.ggml.model", "llama");
    gguf_make_strs(&m, "tokenizer.ggml.tokens", words, 4);
    gguf_make_raw(&m, "tokenizer.ggml.scores", 9, list.data, list.len);
    put_bool(&m, "tokenizer.ggml.add_space_prefix", false);
    struct tok *t = open_made(&m);
    ck_assert(!tok_encode(t, "xxxxx", 5, false, &ids, &e));
    ck_assert(ids.count == 2 && ids.id[0] == 3 && ids.id[1] == 2);
    ck_assert(tok_prefix(t)->count == 1 && tok_bos(t) == 1 && tok_eos(t) == 2);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

START_TEST(a_file_that_ends_early_is_read_or_refused)
{
    buf_auto struct buf file;
    struct json *config = NULL;
    buf_init(&file, 1 << 20);
    ck_assert(!json_parse(LLAMA, strlen(LLAMA), &config, &e));
    ck_assert(!io_read_file(GOLDEN "pieces-bpe.model", 1 << 20, &file, &e));
    for (size_t n = 0; n < file.len; n += n < 200 || n + 200 > file.len ? 1 : 97) {
        mem_autofree char *cut = mem_alloc(n ? n : 1);
        struct tok_def d;
        struct arena *a = arena_create(TOK_ARENA_BYTES);
        memcpy(cut, file.data, n);
        int rc = tok_def_spm((struct tok_text){cut, n}, config, "cut", a, &d, &e);
        ck_assert(!rc || rc == -ERR_DATA);
        arena_destroy(a);
    }
    json_destroy(config);
}
END_TEST

static int open_pieces(void *user)
{
    struct tok *t = NULL;
    (void)user;
    int rc = tok_open_folder(folder, -1, -1, &t, &(struct err){0});
    tok_close(t);
    return rc;
}

static int open_keys(void *user)
{
    struct tok *t = NULL;
    int rc = try_open(user, &t, &(struct err){0});
    tok_close(t);
    return rc;
}

START_TEST(failing_calls_are_reported)
{
    static const char piece[] = SPM_BPE "\x0a\x03\x0a\x01"
                                        "b"
                                        "\x0a\x04\x0a\x02"
                                        "ab";
    static const char *const words[] = {"<unk>", "a", "aa"};
    static const char scores[] = "\6\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    struct gguf_make m;
    buf_auto struct buf file;
    char path[128];
    buf_init(&file, 1 << 16);
    snprintf(path, sizeof path, "%s/tokenizer.model", folder);
    golden_write(path, piece, sizeof piece - 1);
    put_file("tokenizer_config.json", NULL, LLAMA);
    fault_each(FAULT_MEM, open_pieces, NULL);
    gguf_make_init(&m);
    gguf_make_str(&m, "tokenizer.ggml.model", "llama");
    gguf_make_strs(&m, "tokenizer.ggml.tokens", words, 3);
    gguf_make_raw(&m, "tokenizer.ggml.scores", 9, scores, sizeof scores - 1);
    gguf_make_finish(&m, &file);
    gguf_make_done(&m);
    fault_each(FAULT_MEM, open_keys, &file);
}
END_TEST

int main(void)
{
    return unit_run_with(
        &(struct unit){.name = "tok_pieces", .timeout_s = 60, .setup = setup, .done = done},
        (const TTest *const[]){llamas_in_gguf_files_equal_sentencepiece,
            unigrams_in_gguf_files_equal_sentencepiece, folders_equal_transformers,
            two_texts_are_paired_as_t5_does, a_llama_of_a_gguf_file_becomes_a_tokenizer_json,
            a_unigram_of_a_gguf_file_becomes_a_tokenizer_json, a_llama_of_a_folder_becomes_keys,
            a_folder_of_pieces_becomes_keys, wrong_files_are_named,
            added_tokens_of_an_older_file_are_refused, wrong_keys_are_named,
            scores_say_what_merges_do_or_are_refused, equal_scores_merge_from_the_left,
            a_file_that_ends_early_is_read_or_refused, failing_calls_are_reported, NULL});
}
