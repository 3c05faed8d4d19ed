/*
 * Goal: a WordPiece tokenizer makes the ids that the tokenizers package makes, whatever its
 * normaliser and pre-tokenizer, and a vocab.txt those of transformers' BertTokenizer. Method:
 * MiniLM's tokenizer and variants of it on thousands of random lines in many scripts, made here as
 * tests/golden/make_tok_wordpiece.py makes them, against a hash of each line's ids (golden); a
 * small vocabulary by hand; files that are wrong; failing calls.
 * needs: faults
 */
#include "runtime/text/tok_wordpiece.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/family/weights.h"
#include "runtime/text/tok_write.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <unistd.h>

/* -- the lines of the golden file -- */

static struct buf vocab; /* vocab.txt */
static struct tok_text *tokens;
static uint32_t token_count;

static void read_vocab(const char *folder)
{
    char path[1100];
    struct err e = {0};
    buf_init(&vocab, 1 << 22);
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    ck_assert_msg(!io_read_file(path, 1 << 22, &vocab, &e), "%s", e.text);
    tokens = mem_array(vocab.len, sizeof *tokens);
    for (char *rest = vocab.data, *line; (line = strtok_r(rest, "\n", &rest));)
        tokens[token_count++] = (struct tok_text){line, strlen(line)};
}

static uint32_t throw_dice(uint64_t *x, uint32_t n)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*x >> 33) % n);
}

static void add_char(uint32_t c, struct buf *out)
{
    char s[4];
    buf_add(out, s, utf8_encode(c, s));
}

static void add_word(uint64_t *x, struct buf *out)
{
    struct tok_text t = tokens[throw_dice(x, token_count)];
    size_t skip = t.len >= 2 && !memcmp(t.s, "##", 2) ? 2 : 0;
    size_t at = out->len;
    buf_add(out, t.s + skip, t.len - skip);
    if (!throw_dice(x, 4) && out->data[at] >= 'a' && out->data[at] <= 'z')
        out->data[at] = (char)(out->data[at] - 32);
    if (!throw_dice(x, 8))
        buf_str(out, "\u0301");
    if (throw_dice(x, 3))
        buf_char(out, ' ');
}

static void add_script(uint64_t *x, struct buf *out)
{
    static const uint32_t ranges[][2] = {{0xc0, 0x24f}, {0x1e00, 0x1eff}, {0x300, 0x36f},
        {0x370, 0x3ff}, {0x1f00, 0x1fff}, {0x400, 0x52f}, {0x590, 0x5ff}, {0x61e, 0x6ff},
        {0x900, 0x97f}, {0xe00, 0xe7f}, {0xac00, 0xd7a3}, {0x3040, 0x30ff}, {0x4e00, 0x9fa5},
        {0x20000, 0x2a6d6}, {0xf900, 0xfad9}, {0xff00, 0xffef}, {0x1f300, 0x1f64f},
        {0x2000, 0x206f}, {0x2100, 0x214f}, {0x24b0, 0x24ef}, {0x1d400, 0x1d4ff}};
    const uint32_t *r = ranges[throw_dice(x, sizeof ranges / sizeof *ranges)];
    for (int n = 1 + (int)throw_dice(x, 6); n > 0; n--)
        add_char(r[0] + throw_dice(x, r[1] - r[0] + 1), out);
}

static void add_fixed(uint64_t *x, struct buf *out)
{
    static const char *const words[] = {"[SEP]", "[MASK]", "[UNK]", "[CLS]", "[sep]", "##ing",
        "don't", "U.S.A.", NULL, NULL, "_a_", "\u00e9t\u00e9"};
    uint32_t i = throw_dice(x, sizeof words / sizeof *words);
    if (words[i])
        buf_str(out, words[i]);
    else /* as long as a word may be, and longer */
        for (uint32_t n = i == 8 ? 101 : 100; n; n--)
            buf_char(out, 'x');
    if (throw_dice(x, 2))
        buf_char(out, ' ');
}

static void make_line(uint64_t i, struct buf *out)
{
    static const uint32_t single[] = {' ', ' ', '\t', '\n', '\r', 0xa0, 0x200b, 0x200d, 0xfeff, 0,
        1, 0x7f, 0x85, 0xad, 0x2028, 0x3000, 0xfffd, 0xfdd0, 0xe000, 0xe001, 0x10ffff, 0x130, 0x3a3,
        0x1e9e, 0xfb01, 0x131};
    uint64_t x = i * 0x9e3779b97f4a7c15u + 1;
    buf_reset(out);
    for (int n = 1 + (int)throw_dice(&x, 12); n > 0; n--) {
        uint32_t kind = throw_dice(&x, 8);
        if (kind < 4) {
            add_word(&x, out);
        } else if (kind == 4) {
            add_script(&x, out);
        } else if (kind == 5) {
            uint32_t k = throw_dice(&x, sizeof single / sizeof *single);
            add_char(single[k], out);
            buf_str(out, k == 1 ? " " : k == 4 ? "\n" : "");
        } else if (kind == 6) {
            buf_char(out, (char)(0x21 + throw_dice(&x, 94)));
        } else {
            add_fixed(&x, out);
        }
    }
}

/* -- comparing -- */

static unsigned int fold(const void *data, size_t size)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 16777619u;
    return (h ^ h >> 16) & 0xffff;
}

/* The i-th of the golden file's hashes, of four digits each. */
static unsigned int hash_at(const char *hashes, int64_t i)
{
    char digits[5] = {0};
    memcpy(digits, hashes + 4 * i, 4);
    return (unsigned int)strtoul(digits, NULL, 16);
}

static void encode_words(const struct tok *t, const struct buf *line, struct tok_ids *ids)
{
    struct err e = {0};
    const char *at = line->data, *end = at + line->len;
    for (const char *next; at <= end; at = next + 1) {
        next = memchr(at, ' ', (size_t)(end - at));
        next = next ? next : end;
        ck_assert_msg(!tok_encode_word(t, at, next - at, ids, &e), "%s", e.text);
    }
}

static void decode(const struct tok *t, const struct tok_ids *ids, bool skip, struct buf *out)
{
    buf_reset(out);
    for (int64_t i = 0; i < ids->count; i++)
        ck_assert_int_eq(tok_decode(t, ids->id[i], skip, out), 0);
}

/* Lines of a variant that differ from the reference; the first is shown. */
static int64_t differing(const struct tok *t, const struct json *v)
{
    const char *ids = json_str(v, "ids", ""), *words = json_str(v, "words", "");
    const char *text = json_str(v, "text", "");
    int64_t lines = json_int(v, "lines", 0), wrong = 0;
    buf_auto struct buf line, back;
    struct tok_ids got = {0};
    struct err e = {0};
    buf_init(&line, 1 << 16);
    buf_init(&back, 1 << 20);
    ck_assert_uint_eq(strlen(ids), 4 * (size_t)lines);
    for (int64_t i = 0; i < lines; i++) {
        make_line((uint64_t)i, &line);
        got.count = 0;
        ck_assert_msg(
            !tok_encode_document(t, line.data, (int64_t)line.len, &got, &e), "%s", e.text);
        bool same = fold(got.id, (size_t)got.count * 4) == hash_at(ids, i);
        if (same && 4 * (size_t)i < strlen(text)) {
            decode(t, &got, i % 2 == 0, &back);
            same = fold(back.data, back.len) == hash_at(text, i);
        }
        if (same && 4 * (size_t)i < strlen(words)) {
            got.count = 0;
            encode_words(t, &line, &got);
            same = fold(got.id, (size_t)got.count * 4) == hash_at(words, i);
        }
        if (!same && !wrong++)
            printf("line %lld: \"%s\" becomes \"%s\"\n", (long long)i, line.data, buf_cstr(&back));
    }
    tok_ids_done(&got);
    return wrong;
}

/* MiniLM's tokenizer with the variant's normaliser and pre-tokenizer, as a text. */
static void make_variant(const struct json *base, const struct json *v, struct buf *text)
{
    static const char *const keys[] = {
        "model", "added_tokens", "post_processor", "decoder", "normalizer", "pre_tokenizer"};
    buf_auto struct buf part;
    buf_init(&part, 1 << 24);
    struct jsonw w;
    jsonw_init(&w, text);
    jsonw_open(&w, NULL, '{');
    for (int i = 0; i < 6; i++) {
        buf_reset(&part);
        ck_assert_int_eq(json_print(json_get(i < 4 ? base : v, keys[i]), &part), 0);
        jsonw_raw(&w, keys[i], buf_cstr(&part));
    }
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
}

static struct tok *open_text(const struct buf *text, const struct json *config)
{
    struct tok_def d;
    struct tok *t = NULL;
    struct err e = {0};
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    json_auto struct json *root = NULL;
    ck_assert_msg(
        !json_parse_within(text->data, text->len, JSON_FILE_VALUES, &root, &e), "%s", e.text);
    ck_assert_msg(!tok_def_json(root, config, "variant", a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, "variant", &t, &e), "%s", e.text);
    arena_destroy(a);
    return t;
}

static struct tok *open_variant(const struct json *base, const struct json *v)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    make_variant(base, v, &text);
    return open_text(&text, json_get(v, "config"));
}

START_TEST(ids_equal_the_reference)
{
    char folder[1024], path[1100];
    if (!golden_fetch("minilm", folder))
        return;
    read_vocab(folder);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    json_auto struct json *base = golden_json(path);
    json_auto struct json *golden = golden_json(GOLDEN "tok_wordpiece.json");
    int64_t wrong = 0;
    ck_assert_uint_ge(json_count(json_get(golden, "variants")), 20);
    json_each (v, json_get(golden, "variants")) {
        struct tok *t = open_variant(base, v);
        int64_t n = differing(t, v);
        printf("%s: %lld of %lld lines differ\n", json_str(v, "name", ""), (long long)n,
            (long long)json_int(v, "lines", 0));
        fflush(stdout);
        wrong += n;
        tok_close(t);
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* -- by way of a GGUF file -- */

static void put_file(const char *in, const char *name, const struct buf *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", in, name);
    golden_write(path, text->data, text->len);
}

/* The published model's folder with another tokenizer. */
static void make_folder(const char *published, const char *made)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char from[1200], to[256];
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", published, files[i]);
        snprintf(to, sizeof to, "%s/%s", made, files[i]);
        ck_assert_int_eq(symlink(from, to), 0);
    }
}

/* NULL: the tokenizer was refused, for e. */
static struct gguf *write_tokenizer(const char *made, struct err *e)
{
    char path[256];
    struct weights *w = NULL;
    struct gguf_writer *to = NULL;
    struct gguf *g = NULL;
    snprintf(path, sizeof path, "%s/keys.gguf", made);
    ck_assert_msg(!weights_open(made, NULL, &w, e), "%s", e->text);
    ck_assert_int_eq(gguf_writer_create(path, &to, e), 0);
    if (!tok_gguf_write(w, to, e)) {
        ck_assert(!gguf_write_tensor(to, "x", DTYPE_F32, 1, (const int64_t[]){1}, e));
        ck_assert(!gguf_write_data(to, &(float){1}, 4, e) && !gguf_write_finish(to, e));
        ck_assert_msg(!gguf_open(path, &g, e), "%s", e->text);
    }
    gguf_writer_destroy(to);
    weights_close(w);
    unlink(path);
    return g;
}

/* By the keys, and by a tokenizer.json that is made of them. */
static void check_keys(const struct gguf *g, const struct json *v)
{
    struct tok_def d;
    struct err e = {0};
    struct tok *t[2] = {NULL};
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    ck_assert_msg(!tok_def_gguf(g, a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, "keys", &t[0], &e), "%s", e.text);
    ck_assert_msg(!tok_def_write(&d, &text, &e), "%s", e.text);
    t[1] = open_text(&text, NULL);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(differing(t[i], v), 0);
        ck_assert_int_eq(tok_pair_template(t[i])->count, 5);
        ck_assert_int_eq(tok_pair_template(t[i])->at[3].type, 1);
        tok_close(t[i]);
    }
    ck_assert(d.mask == 103 && d.pad == 0 && d.wordpiece.unknown == 100);
    arena_destroy(a);
}

START_TEST(ids_of_gguf_files_equal_the_reference)
{
    char folder[1024], path[1100], made[64], written[256] = "";
    if (!golden_fetch("minilm", folder))
        return;
    read_vocab(folder);
    golden_folder(made);
    make_folder(folder, made);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    json_auto struct json *base = golden_json(path);
    json_auto struct json *golden = golden_json(GOLDEN "tok_wordpiece.json");
    json_each (v, json_get(golden, "variants")) {
        struct err e = {0};
        buf_auto struct buf text;
        if (json_get(v, "config"))
            continue;
        buf_init(&text, 1 << 24);
        make_variant(base, v, &text);
        put_file(made, "tokenizer.json", &text);
        struct gguf *g = write_tokenizer(made, &e);
        ck_assert_msg(g || strstr(e.text, "are not BERT's"), "%s", e.text);
        if (g) {
            check_keys(g, v);
            snprintf(written + strlen(written), sizeof written - strlen(written), "%s, ",
                json_str(v, "name", ""));
        }
        gguf_close(g);
    }
    ck_assert_str_eq(written, "uncased, cased, cased without accents, lower with accents, ");
    golden_remove(made);
}
END_TEST

/* -- an older form -- */

/* A folder with vocab.txt and tokenizer_config.json alone. */
START_TEST(vocab_txt_equals_the_reference)
{
    char folder[1024], made[64], path[128];
    if (!golden_fetch("minilm", folder))
        return;
    read_vocab(folder);
    golden_folder(made);
    snprintf(path, sizeof path, "%s/vocab.txt", made);
    buf_auto struct buf text;
    buf_init(&text, 1 << 22);
    for (uint32_t i = 0; i < token_count; i++)
        buf_printf(&text, "%s\n", tokens[i].s);
    golden_write(path, text.data, text.len);
    json_auto struct json *golden = golden_json(GOLDEN "tok_wordpiece.json");
    ck_assert_uint_ge(json_count(json_get(golden, "vocab")), 4);
    json_each (v, json_get(golden, "vocab")) {
        struct tok *t = NULL;
        struct err e = {0};
        buf_reset(&text);
        ck_assert_int_eq(json_print(json_get(v, "config"), &text), 0);
        snprintf(path, sizeof path, "%s/tokenizer_config.json", made);
        golden_write(path, text.data, text.len);
        ck_assert_msg(!tok_open_folder(made, -1, -1, &t, &e), "%s", e.text);
        ck_assert_int_eq(differing(t, v), 0);
        ck_assert_int_eq(tok_pad(t), json_get(json_get(v, "config"), "pad_token") ? 1 : 0);
        ck_assert_int_eq(tok_prefix(t)->count, 1);
        ck_assert_int_eq(tok_suffix(t)->count, 1);
        ck_assert(tok_is_special(t, tok_prefix(t)->id[0]));
        tok_close(t);
    }
    golden_remove(made);
}
END_TEST

/* -- a small one -- */

#define SMALL(more) \
    "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"ba\":1,\"##na\":2,\"b\":3," \
    "\"##a\":4,\"\xe4\xbd\xa0\":5,\"##nas\":6,\".\":7,\"[PAD]\":8}" more "}"

static int define(const char *text, struct arena *a, struct tok_def *d, struct err *e)
{
    struct json *root = NULL;
    ck_assert_msg(!json_parse(text, strlen(text), &root, e), "%s", e->text);
    int rc = tok_def_json(root, NULL, "small.json", a, d, e);
    struct tok *t = NULL;
    if (!rc && !(rc = tok_create(d, "small.json", &t, e)))
        tok_close(t);
    json_destroy(root);
    return rc;
}

static struct tok *open_small(const char *text)
{
    struct tok *t = NULL;
    struct tok_def d;
    struct err e = {0};
    struct arena *a = arena_create(1 << 20);
    json_auto struct json *root = NULL;
    ck_assert_msg(!json_parse(text, strlen(text), &root, &e), "%s", e.text);
    ck_assert_msg(!tok_def_json(root, NULL, "small.json", a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, "small.json", &t, &e), "%s", e.text);
    arena_destroy(a);
    return t;
}

/* want: ids, a digit each. */
static void check_ids(const struct tok *t, const char *word, const char *want)
{
    struct tok_ids ids = {0};
    struct err e = {0};
    char got[32] = {0};
    ck_assert_msg(!tok_encode_word(t, word, (int64_t)strlen(word), &ids, &e), "%s", e.text);
    for (int64_t i = 0; i < ids.count; i++)
        got[i] = (char)('0' + ids.id[i]);
    ck_assert_msg(!strcmp(got, want), "\"%s\": %s, expected %s", word, got, want);
    tok_ids_done(&ids);
}

START_TEST(the_longest_token_comes_first)
{
    struct tok *t = open_small(SMALL("") ",\"padding\":{\"pad_id\":8}}");
    check_ids(t, "banana", "122");
    check_ids(t, "bananas", "126");
    check_ids(t, "baa", "14");
    check_ids(t, "na", "0");  /* continues only */
    check_ids(t, "bax", "0"); /* what began well is forgotten */
    check_ids(t, "\xe4\xbd\xa0", "5");
    check_ids(t, "\xe4\xbd\xa1", "0"); /* two of its bytes are a token's */
    check_ids(t, "", "");
    ck_assert_int_eq(tok_pad(t), 8);
    tok_close(t);
    t = open_small(SMALL(",\"max_input_chars_per_word\":4") "}");
    check_ids(t, "bana", "12");
    check_ids(t, "banan", "0");
    ck_assert_int_eq(tok_pad(t), -1);
    tok_close(t);
    t = open_small(SMALL(",\"unk_token\":\"b\",\"continuing_subword_prefix\":\"\"") "}");
    check_ids(t, "bab", "13");
    check_ids(t, "bac", "3");
    tok_close(t);
}
END_TEST

START_TEST(decoding_joins_what_belongs_together)
{
    static const int32_t ids[] = {2, 1, 2, 7, 0, 1};
    static const struct {
        const char *more, *text;
    } cases[] = {
        {"", "##na bana. [UNK] ba"},
        {",\"decoder\":{\"type\":\"WordPiece\",\"cleanup\":false}", "##na bana . [UNK] ba"},
    };
    for (int k = 0; k < 2; k++) {
        buf_auto struct buf text, out;
        buf_init(&text, 1000);
        buf_init(&out, 1000);
        buf_printf(&text, SMALL("") "%s}", cases[k].more);
        struct tok *t = open_small(text.data);
        for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
            ck_assert(!tok_decode(t, ids[i], false, &out));
        ck_assert_str_eq(buf_cstr(&out), cases[k].text);
        tok_close(t);
    }
}
END_TEST

/* A million characters: minutes when every part of them is looked up. */
START_TEST(a_long_word_is_not_slow)
{
    struct tok *t = open_small(SMALL(",\"max_input_chars_per_word\":9999999") "}");
    size_t n = 1 << 20;
    mem_autofree char *text = mem_alloc(n);
    struct tok_ids ids = {0};
    struct err e = {0};
    memset(text, 'a', n);
    *text = 'b';
    ck_assert(!tok_encode(t, text, (int64_t)n, false, &ids, &e));
    ck_assert_int_eq(ids.count, n - 1);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

/* A normaliser may make a special token of what a client wrote; in a chat it must not. */
START_TEST(no_special_token_comes_from_normalising)
{
    static const char small[] =
        SMALL("") ",\"normalizer\":{\"type\":\"Lowercase\"},"
                  "\"added_tokens\":[{\"id\":9,\"content\":\"<S>\",\"special\":true,"
                  "\"normalized\":true}]}";
    struct tok *t = open_small(small);
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 100);
    ck_assert(!tok_encode(t, "<s>", 3, true, &ids, &e)); /* as the reference has it */
    ck_assert(ids.count == 1 && ids.id[0] == 9);
    buf_str(&text, "<S>");
    ck_assert(!tok_guard(t, "<s><S>", 6, &text));
    ids.count = 0;
    ck_assert(!tok_encode_guarded(t, text.data, (int64_t)text.len, &ids, &e));
    ck_assert(ids.count == 2 && ids.id[0] == 9 && ids.id[1] == 0);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

START_TEST(wrong_files_are_refused)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "unk_token \"[UNK]\""},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", "model.vocab"},
        {"{\"model\":{\"type\":\"Odd\",\"vocab\":{\"a\":0}}}", "model \"Odd\""},
        {SMALL(",\"max_input_chars_per_word\":-1") "}", "max_input_chars_per_word"},
        {SMALL("") ",\"decoder\":{\"type\":\"Odd\"}}", "decoder of a WordPiece: \"Odd\""},
        {SMALL("") ",\"normalizer\":{\"type\":\"Odd\"}}", "normalizer \"Odd\""},
        {SMALL("") ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*\"},"
                   "\"content\":\"b\"}}",
            "expression \"a*\" can match nothing"},
        {SMALL("") ",\"normalizer\":{\"type\":\"Prepend\"}}", "normalizer Prepend"},
        {SMALL("") ",\"pre_tokenizer\":{\"type\":\"Odd\"}}", "pre-tokenizer \"Odd\""},
        {SMALL("") ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", "\"ByteLevel\""},
        {SMALL("") ",\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Odd\"}}",
            "Punctuation with behavior \"Odd\""},
        {SMALL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},"
                   "\"behavior\":\"Isolated\"}}",
            "Split by \"\""},
        {SMALL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
                   "\"behavior\":\"Isolated\"}}",
            "expression \"(\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *a = arena_create(1 << 20);
        struct tok_def d;
        struct err e = {0};
        ck_assert_msg(define(bad[i].text, a, &d, &e) == -ERR_DATA, "%s", bad[i].text);
        ck_assert_msg(strstr(e.text, bad[i].says) && strstr(e.text, "small.json"), "%s", e.text);
        arena_destroy(a);
    }
}
END_TEST

START_TEST(wrong_vocabularies_are_refused)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "v.txt: 0 lines"},
        {"[UNK]\n[CLS]\n", "v.txt: sep_token \"[SEP]\" is no line"},
        {"[UNK]\n[CLS]\n\xff\n[SEP]\n", "v.txt:3: no text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *a = arena_create(1 << 20);
        struct tok_def d;
        struct err e = {0};
        ck_assert_int_eq(
            tok_def_vocab(bad[i].text, strlen(bad[i].text), NULL, "v.txt", a, &d, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, bad[i].says) != NULL, "%s", e.text);
        arena_destroy(a);
    }
}
END_TEST

/* Of equal lines the last counts; an end of line may be CRLF. */
START_TEST(a_vocabulary_is_lines)
{
    static const char text[] = "[UNK]\r\na\r\n\r\na\n[CLS]\n[SEP]";
    struct arena *a = arena_create(1 << 20);
    struct tok_def d;
    struct tok *t = NULL;
    struct err e = {0};
    ck_assert(!tok_def_vocab(text, sizeof text - 1, NULL, "v.txt", a, &d, &e));
    ck_assert(!tok_create(&d, "v.txt", &t, &e));
    check_ids(t, "A", "3");
    ck_assert_int_eq(tok_vocab(t), 6);
    ck_assert_int_eq(tok_pad(t), -1);
    tok_close(t);
    arena_destroy(a);
}
END_TEST

static int use_small(void *user)
{
    struct err e = {0};
    struct tok_def d;
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct arena *a = arena_create(1 << 20);
    if (!a)
        return -ERR_MEMORY;
    int rc = tok_def_json(user, NULL, "small.json", a, &d, &e);
    if (!rc && !(rc = tok_create(&d, "small.json", &t, &e)))
        rc = tok_encode_document(t, "B\xc3\xa9 banana <s>", 14, &ids, &e);
    tok_ids_done(&ids);
    tok_close(t);
    arena_destroy(a);
    return rc;
}

START_TEST(failing_calls_are_reported)
{
    static const char text[] =
        SMALL("") ",\"normalizer\":{\"type\":\"BertNormalizer\"},"
                  "\"added_tokens\":[{\"id\":9,\"content\":\"<S>\",\"normalized\":true}]}";
    struct err e = {0};
    json_auto struct json *root = NULL;
    ck_assert_msg(!json_parse(text, sizeof text - 1, &root, &e), "%s", e.text);
    fault_each(FAULT_MEM, use_small, root);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "tok_wordpiece", .timeout_s = 60},
        (const TTest *const[]){ids_equal_the_reference, ids_of_gguf_files_equal_the_reference,
            vocab_txt_equals_the_reference, the_longest_token_comes_first,
            decoding_joins_what_belongs_together, a_long_word_is_not_slow,
            no_special_token_comes_from_normalising, wrong_files_are_refused,
            wrong_vocabularies_are_refused, a_vocabulary_is_lines, failing_calls_are_reported,
            NULL});
}
