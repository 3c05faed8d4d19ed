/*
 * Goal: a Unigram tokenizer makes the ids that the tokenizers package makes, and the same text of
 * them, whatever its normaliser, its table of characters and its way with spaces. Method: a
 * published tokenizer and one of six scripts in many shapes on thousands of random lines, made here
 * as tests/golden/make_tok_unigram.py makes them, against a hash of each block of lines (golden);
 * small ones by hand, text by text (golden); a text in parts; files that are wrong; failing calls.
 * needs: faults
 */
#include "runtime/text/tok_unigram.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/text/lines.h"
#include "tests/unit.h"

static struct json *golden;

static void setup(void)
{
    golden = golden_json(GOLDEN "tok_unigram.json");
}

static void done(void)
{
    json_destroy(golden);
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

/* The text of ids as the reference has it, which takes what marks the first token's begin away:
   its Metaspace all marks of that token, its Strip one space. */
static void decode(const struct tok *t, const struct tok_ids *ids, bool skip,
    const struct json *decoder, struct buf *out)
{
    bool all = !strcmp(json_str(decoder, "type", ""), "Metaspace");
    bool never = !strcmp(json_str(decoder, "prepend_scheme", ""), "never"), first = !never;
    buf_reset(out);
    for (int64_t i = 0; i < ids->count; i++) {
        ck_assert_int_eq(tok_decode(t, ids->id[i], skip, out), 0);
        if (!first || (skip && tok_is_special(t, ids->id[i])))
            continue;
        size_t kept = 0;
        for (size_t k = 0; all && k < out->len; k++)
            if (out->data[k] != ' ')
                out->data[kept++] = out->data[k];
        out->len = all ? kept : out->len;
        first = false;
    }
    if (!all && out->len && *out->data == ' ')
        buf_drop(out, 1);
}

/* Blocks of lines that differ from the reference; the first is named. */
static int64_t differing(const struct tok *t, const struct json *v, const struct json *decoder,
    const struct lines_pieces *p)
{
    const char *want[] = {
        json_str(v, "ids", ""), json_str(v, "words", ""), json_str(v, "text", "")};
    int64_t lines = json_int(v, "lines", 0), wrong = 0;
    buf_auto struct buf line, back;
    struct tok_ids got = {0};
    struct err e = {0};
    buf_init(&line, 1 << 16);
    buf_init(&back, 1 << 20);
    ck_assert_uint_eq(strlen(want[0]), 8 * (size_t)lines / LINES_BLOCK);
    for (int64_t block = 0; block < lines / LINES_BLOCK; block++) {
        uint32_t h[] = {LINES_HASH, LINES_HASH, LINES_HASH};
        bool more = 8 * (size_t)block < strlen(want[1]);
        for (int64_t i = block * LINES_BLOCK; i < (block + 1) * LINES_BLOCK; i++) {
            lines_make((uint64_t)i, p, &line);
            got.count = 0;
            ck_assert_msg(!tok_encode_document(t, buf_cstr(&line), (int64_t)line.len, &got, &e),
                "%s", e.text);
            h[0] = lines_fold(h[0], got.id, (size_t)got.count * 4);
            if (!more)
                continue;
            decode(t, &got, i % 2 == 0, decoder, &back);
            h[2] = lines_fold(h[2], back.data, back.len);
            got.count = 0;
            encode_words(t, &line, &got);
            h[1] = lines_fold(h[1], got.id, (size_t)got.count * 4);
        }
        for (int k = 0; k < (more ? 3 : 1); k++)
            if (h[k] != lines_hash_at(want[k], block) && !wrong++)
                printf("%s: block %lld\n", ((const char *[]){"ids", "words", "text"})[k],
                    (long long)block);
    }
    tok_ids_done(&got);
    return wrong;
}

static struct tok *open_json(const struct json *root)
{
    struct tok_def d;
    struct tok *t = NULL;
    struct err e = {0};
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    ck_assert_msg(!tok_def_json(root, NULL, "unigram.json", a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, "unigram.json", &t, &e), "%s", e.text);
    arena_destroy(a);
    return t;
}

START_TEST(a_published_one_equals_the_reference)
{
    char folder[1024], path[1100];
    struct err e = {0};
    if (!golden_fetch("tokenizer-mon", folder))
        return;
    json_auto struct json *root = NULL;
    snprintf(path, sizeof path, "%s/mon_tokenizer.json", folder);
    ck_assert_msg(!json_read_file_within(path, 48 << 20, (size_t)2 << 20, &root, &e), "%s", e.text);
    struct lines_pieces p = lines_pieces_of(json_path(root, "model.vocab"));
    struct tok *t = open_json(root);
    ck_assert_int_eq(differing(t, json_get(golden, "mon"), json_get(root, "decoder"), &p), 0);
    tok_close(t);
    mem_free(p.text);
}
END_TEST

static void add_base64(const struct buf *data, struct buf *out)
{
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < data->len; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < data->len ? (uint8_t)data->data[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            buf_char(out, i + k <= data->len ? all[bits >> (18 - 6 * k) & 63] : '=');
    }
}

/* text with SentencePiece's tables in place of their names. */
static void put_tables(const char *folder, const char *text, struct buf *out)
{
    static const char key[] = "\"precompiled_charsmap\":\"";
    char path[1100];
    struct err e = {0};
    buf_auto struct buf table;
    buf_init(&table, 1 << 20);
    for (const char *at; (at = strstr(text, key));) {
        size_t n = strcspn(at + strlen(key), "\"");
        snprintf(path, sizeof path, "%s/%.*s.bin", folder, (int)n, at + strlen(key));
        buf_reset(&table);
        ck_assert_msg(!io_read_file(path, 1 << 20, &table, &e), "%s", e.text);
        buf_add(out, text, (size_t)(at - text) + strlen(key));
        add_base64(&table, out);
        text = at + strlen(key) + n;
    }
    buf_str(out, text);
}

/* -- in parts -- */

struct taken {
    struct tok_ids *from, all;
    int parts;
};

static int take_part(void *context, const char *at, struct err *e)
{
    struct taken *t = context;
    (void)at;
    t->parts++;
    for (int64_t i = 0; i < t->from->count; i++)
        ck_assert(!tok_ids_add(&t->all, t->from->id[i], e));
    t->from->count = 0;
    return 0;
}

/* The ids of a text in parts are those of the whole. */
static int check_parts(const struct tok *t, const struct lines_pieces *p)
{
    struct tok_ids whole = {0}, rest = {0};
    struct taken taken = {.from = &rest};
    struct err e = {0};
    buf_auto struct buf line, text;
    buf_init(&line, 1 << 16);
    buf_init(&text, 1 << 20);
    for (uint64_t i = 0; i < 200; i++) {
        lines_make(i, p, &line);
        buf_add(&text, line.data, line.len);
        buf_str(&text, i % 3 ? "\n" : "");
    }
    int64_t len = (int64_t)text.len;
    ck_assert_msg(!tok_encode_document(t, text.data, len, &whole, &e), "%s", e.text);
    ck_assert_msg(
        !tok_encode_parts(t, text.data, len, 100, &rest, take_part, &taken, &e), "%s", e.text);
    take_part(&taken, NULL, &e);
    ck_assert_int_eq(taken.all.count, whole.count);
    ck_assert_mem_eq(taken.all.id, whole.id, (size_t)whole.count * sizeof *whole.id);
    tok_ids_done(&whole);
    tok_ids_done(&rest);
    tok_ids_done(&taken.all);
    return taken.parts;
}

/* The trained tokenizer in a shape. */
static struct tok *open_shape(const char *folder, const struct json *v)
{
    static const char *const keys[] = {
        "added_tokens", "post_processor", "normalizer", "pre_tokenizer", "decoder"};
    struct err e = {0};
    struct jsonw w;
    buf_auto struct buf text, part;
    buf_init(&text, 1 << 24);
    buf_init(&part, 1 << 24);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    for (int i = 0; i < 5; i++) {
        buf_reset(&part);
        ck_assert_int_eq(
            json_print(json_get(i < 2 ? json_get(golden, "base") : v, keys[i]), &part), 0);
        jsonw_raw(&w, keys[i], buf_cstr(&part));
    }
    jsonw_open(&w, "model", '{');
    jsonw_str(&w, "type", "Unigram");
    jsonw_int(&w, "unk_id", 3);
    buf_reset(&part);
    ck_assert_int_eq(json_print(json_get(golden, "vocab"), &part), 0);
    jsonw_raw(&w, "vocab", buf_cstr(&part));
    jsonw_close(&w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    buf_reset(&part);
    put_tables(folder, buf_cstr(&text), &part);
    json_auto struct json *root = NULL;
    ck_assert_msg(
        !json_parse_within(part.data, part.len, JSON_FILE_VALUES, &root, &e), "%s", e.text);
    return open_json(root);
}

START_TEST(shapes_equal_the_reference)
{
    char folder[1024];
    int64_t wrong = 0;
    if (!golden_fetch("sentencepiece", folder))
        return;
    struct lines_pieces p = lines_pieces_of(json_get(golden, "vocab"));
    ck_assert_uint_ge(json_count(json_get(golden, "shapes")), 14);
    json_each (v, json_get(golden, "shapes")) {
        struct tok *t = open_shape(folder, v);
        int64_t n = differing(t, v, json_get(v, "decoder"), &p);
        printf("%s: %lld blocks differ, %d parts\n", json_str(v, "name", ""), (long long)n,
            check_parts(t, &p));
        fflush(stdout);
        wrong += n;
        tok_close(t);
    }
    ck_assert_int_eq(wrong, 0);
    mem_free(p.text);
}
END_TEST

/* -- small ones -- */

static bool same_ids(const struct tok_ids *got, const struct json *want)
{
    int64_t i = 0;
    if ((size_t)got->count != json_count(want))
        return false;
    json_each (v, want)
        if (got->id[i++] != (int32_t)json_number_value(v))
            return false;
    return true;
}

START_TEST(small_ones_equal_the_reference)
{
    ck_assert_uint_ge(json_count(json_get(golden, "small")), 13);
    json_each (v, json_get(golden, "small")) {
        const struct json *root = json_get(v, "tokenizer");
        struct tok *t = open_json(root);
        json_each (c, json_get(v, "cases")) {
            const char *text = json_str(c, "text", "");
            struct tok_ids got = {0};
            struct err e = {0};
            buf_auto struct buf back;
            buf_init(&back, 1 << 16);
            ck_assert_msg(
                !tok_encode_document(t, text, (int64_t)strlen(text), &got, &e), "%s", e.text);
            ck_assert_msg(
                same_ids(&got, json_get(c, "ids")), "%s: \"%s\"", json_str(v, "name", ""), text);
            decode(t, &got, true, json_get(root, "decoder"), &back);
            const char *want = json_str(c, "decoded", buf_cstr(&back));
            ck_assert_msg(!strcmp(buf_cstr(&back), want), "%s: \"%s\" becomes \"%s\"",
                json_str(v, "name", ""), text, buf_cstr(&back));
            tok_ids_done(&got);
        }
        tok_close(t);
    }
}
END_TEST

#define SMALL(more) \
    "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1]," \
    "[\"b\",-2],[\"ab\",-1.5],[\"<s>\",0],[\"<x>\",0]]},\"added_tokens\":[{\"id\":0," \
    "\"content\":\"<unk>\",\"special\":true},{\"id\":4,\"content\":\"<s>\"," \
    "\"special\":true}]" more "}"

static struct tok *open_small(const char *text)
{
    struct err e = {0};
    json_auto struct json *root = NULL;
    ck_assert_msg(!json_parse(text, strlen(text), &root, &e), "%s", e.text);
    return open_json(root);
}

/* What a client wrote is text, and a normaliser may make a special token's name of it. */
START_TEST(no_special_token_comes_of_a_text)
{
    struct tok *t = open_small(SMALL(",\"normalizer\":{\"type\":\"NFKC\"}"));
    static const char wide[] = "\uff1cs\uff1e";
    struct tok_ids ids = {0};
    struct err e = {0};
    ck_assert(!tok_encode(t, wide, (int64_t)strlen(wide), true, &ids, &e));
    ck_assert(ids.count == 1 && ids.id[0] == 4); /* as the reference has it */
    ids.count = 0;
    ck_assert(!tok_encode(t, "<s>", 3, false, &ids, &e));
    ck_assert(ids.count == 1 && ids.id[0] == 0);
    ids.count = 0;
    ck_assert(!tok_encode_guarded(t, wide, (int64_t)strlen(wide), &ids, &e));
    ck_assert(ids.count == 1 && ids.id[0] == 0);
    ids.count = 0;
    ck_assert(!tok_encode(t, "<x>", 3, false, &ids, &e)); /* is a token like any other */
    ck_assert(ids.count == 1 && ids.id[0] == 5);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

/* Two million characters that nothing cuts; their scratch is that of a few. */
START_TEST(a_long_text_needs_little)
{
    struct tok *t = open_small(SMALL(""));
    size_t n = 1 << 21;
    mem_autofree char *text = mem_alloc(n);
    struct tok_unigram m = {0};
    struct tok_unigram_work w = {0};
    struct tok_ids ids = {0};
    struct err e = {0};
    for (size_t i = 0; i < n; i++)
        text[i] = "ab"[i % 2];
    ck_assert(!tok_encode(t, text, (int64_t)n, false, &ids, &e));
    ck_assert_int_eq(ids.count, n / 2);
    ck_assert_int_eq(ids.id[n / 2 - 1], 3);
    /* The same by the model itself. */
    struct tok_text tokens[] = {{"?", 1}, {"ab", 2}, {"a", 1}};
    uint8_t kinds[] = {TOK_SPECIAL, TOK_NORMAL, TOK_NORMAL};
    uint8_t flags[] = {TOK_OF_MODEL, TOK_OF_MODEL, TOK_OF_MODEL};
    double scores[] = {0, -1, -2};
    uint32_t start[] = {0, 1, 3, 4};
    struct tok_names names;
    struct tok_def d = {.model = TOK_UNIGRAM,
        .vocab = 3,
        .tokens = tokens,
        .kinds = kinds,
        .flags = flags,
        .scores = scores};
    ck_assert(!tok_names_init(&names, 3, "?aba", start, &e));
    ck_assert(!tok_unigram_init(&m, &d, &names, kinds, &e));
    ids.count = 0;
    ck_assert(!tok_unigram_encode(&m, &w, text, n, false, &ids, &e));
    ck_assert_int_eq(ids.count, n / 2);
    ck_assert_int_le(w.room, 256);
    tok_unigram_work_done(&w);
    tok_unigram_done(&m);
    tok_names_done(&names);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

static int define(const char *text, struct err *e)
{
    json_auto struct json *root = NULL;
    struct tok_def d;
    struct tok *t = NULL;
    struct arena *a = arena_create(1 << 20);
    if (!a)
        return -ERR_MEMORY;
    int rc = json_parse(text, strlen(text), &root, e);
    if (!rc && !(rc = tok_def_json(root, NULL, "small.json", a, &d, e)) &&
        !(rc = tok_create(&d, "small.json", &t, e))) {
        struct tok_ids ids = {0};
        rc = tok_encode_document(t, "ab \u4f60<s>abba", 14, &ids, e);
        tok_ids_done(&ids);
        tok_close(t);
    }
    arena_destroy(a);
    return rc;
}

#define UNIGRAM(rest) "{\"model\":{\"type\":\"Unigram\"," rest "}}"
#define METASPACE     ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\""

START_TEST(wrong_files_are_refused)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {UNIGRAM("\"unk_id\":0"), "model.vocab"},
        {UNIGRAM("\"unk_id\":0,\"vocab\":{\"a\":0}"), "model.vocab"},
        {UNIGRAM("\"unk_id\":0,\"vocab\":[]"), "vocabulary is empty"},
        {UNIGRAM("\"unk_id\":0,\"vocab\":[[\"a\"]]"), "token \"a\" has no valid score"},
        {UNIGRAM("\"unk_id\":0,\"vocab\":[[1,2]]"), "has no valid score"},
        {UNIGRAM("\"unk_id\":1,\"vocab\":[[\"a\",0]]"), "unk_id"},
        {UNIGRAM("\"unk_id\":null,\"vocab\":[[\"a\",0]]"), "unk_id"},
        {SMALL(",\"decoder\":{\"type\":\"WordPiece\"}"), "decoder of a model of characters"},
        {SMALL(",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"), "\"ByteLevel\""},
        {SMALL(",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}"),
            "Metaspace with replacement \"_\""},
        {SMALL(METASPACE ",\"prepend_scheme\":\"odd\"}"), "prepend_scheme \"odd\""},
        {SMALL(METASPACE ",\"add_prefix_space\":false}"), "prepend_scheme \"always\""},
        {SMALL(METASPACE ",\"prepend_scheme\":\"first\"},\"normalizer\":{\"type\":\"Strip\","
                         "\"strip_left\":true}"),
            "prepend_scheme \"first\" behind"},
        {SMALL(
             ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\","
             "\"replacement\":\"\u2581\"},{\"type\":\"Digits\"}]}"),
            "after Metaspace: \"Digits\""},
        {SMALL(",\"normalizer\":{\"type\":\"Precompiled\"}"), "precompiled_charsmap is damaged"},
        {SMALL(",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"),
            "precompiled_charsmap is damaged"},
        {SMALL(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},"
               "\"content\":\"b\"}"),
            "\"x*\" can match nothing"},
        {SMALL(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},"
               "\"content\":\"b\"}"),
            "expression \"(\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        ck_assert_msg(define(bad[i].text, &e) == -ERR_DATA, "%s", bad[i].text);
        ck_assert_msg(strstr(e.text, bad[i].says) && strstr(e.text, "small.json"), "%s", e.text);
    }
}
END_TEST

static int use_small(void *user)
{
    struct err e = {0};
    return define(user, &e);
}

/* Without an expression, for one whose compiler fails is interpreted. */
START_TEST(failing_calls_are_reported)
{
    static char text[] = SMALL(METASPACE ",\"split\":false},\"normalizer\":{\"type\":\"NFKC\"}");
    fault_each(FAULT_MEM, use_small, text);
}
END_TEST

int main(void)
{
    return unit_run_with(
        &(struct unit){.name = "tok_unigram", .timeout_s = 60, .setup = setup, .done = done},
        (const TTest *const[]){a_published_one_equals_the_reference, shapes_equal_the_reference,
            small_ones_equal_the_reference, no_special_token_comes_of_a_text,
            a_long_text_needs_little, wrong_files_are_refused, failing_calls_are_reported, NULL});
}
