/*
 * Goal: token ids equal the reference's on any text, and decode back to it. Method: 200 lines
 * against the ids of the tokenizers package (golden) for the five published tokenizers, and blocks
 * of ten thousand random ones of many scripts against a hash of theirs; random byte soup decoded
 * back; bad input.
 * needs: sample
 */
#include "runtime/text/tok.h"

#include "base/clock.h"
#include "runtime/text/tok_def.h"
#include "runtime/family/weights.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/text/lines.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <time.h>

struct model {
    const char *fetch, *golden;
};
static const struct model smollm2 = {"smollm2", GOLDEN "tok_smollm2.json"};
static const struct model qwen3 = {"tokenizer-qwen3", GOLDEN "tok_qwen3.json"};
static const struct model gpt2 = {"tokenizer-gpt2", GOLDEN "tok_gpt2.json"};
static const struct model llama3 = {"tokenizer-llama3", GOLDEN "tok_llama3.json"};
static const struct model gemma3 = {"tokenizer-gemma3", GOLDEN "tok_gemma3.json"};

/* GPT-2 was published as encoder.json and vocab.bpe: put together as the tokenizer.json that came
 * later. */
static struct tok *open_gpt2(const char *folder)
{
    char path[1100];
    buf_auto struct buf vocab, merges, text;
    struct err e = {0};
    buf_init(&vocab, 1 << 24);
    buf_init(&merges, 1 << 24);
    buf_init(&text, 1 << 24);
    snprintf(path, sizeof path, "%s/encoder.json", folder);
    ck_assert_int_eq(io_read_file(path, 1 << 24, &vocab, &e), 0);
    snprintf(path, sizeof path, "%s/vocab.bpe", folder);
    ck_assert_int_eq(io_read_file(path, 1 << 24, &merges, &e), 0);
    struct jsonw w;
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    jsonw_raw(
        &w, "added_tokens", "[{\"id\":50256,\"content\":\"<|endoftext|>\",\"special\":true}]");
    jsonw_raw(&w, "pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}");
    jsonw_open(&w, "model", '{');
    jsonw_raw(&w, "vocab", vocab.data);
    jsonw_open(&w, "merges", '[');
    char *rest = strchr(merges.data, '\n'), *line; /* after "#version" */
    for (; (line = strtok_r(rest, "\n", &rest));)
        jsonw_str(&w, NULL, line);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    json_auto struct json *root = NULL;
    ck_assert_msg(
        json_parse_within(text.data, text.len, JSON_FILE_VALUES, &root, &e) == 0, "%s", e.text);
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    struct tok_def d;
    struct tok *t = NULL;
    ck_assert_msg(tok_def_json(root, NULL, folder, a, &d, &e) == 0, "%s", e.text);
    ck_assert_msg(tok_create(&d, folder, &t, &e) == 0, "%s", e.text);
    arena_destroy(a);
    return t;
}

/* NULL when the model cannot be had. */
static struct tok *open_model(const struct model *m)
{
    char path[1024];
    if (!golden_fetch(m->fetch, path))
        return NULL;
    struct err e = {0};
    struct tok *t = NULL;
    if (m == &gpt2)
        return open_gpt2(path);
    if (m == &smollm2) {
        struct weights *w = NULL;
        ck_assert_msg(weights_open(path, NULL, &w, &e) == 0, "%s", e.text);
        ck_assert_msg(tok_open(w, &t, &e) == 0, "%s", e.text);
        weights_close(w); /* the tokenizer stands on its own */
        return t;
    }
    ck_assert_msg(tok_open_folder(path, -1, -1, &t, &e) == 0, "%s", e.text);
    return t;
}

static void check_ids(const struct tok *t, const char *text, bool special, const struct json *want)
{
    struct tok_ids got = {0};
    struct err e = {0};
    ck_assert_msg(
        tok_encode(t, text, (int64_t)strlen(text), special, &got, &e) == 0, "%s: %s", text, e.text);
    int64_t count;
    mem_autofree int32_t *ids = golden_ids(want, &count);
    bool same = got.count == count && (!count || !memcmp(ids, got.id, (size_t)count * sizeof *ids));
    for (int64_t i = 0; !same && i < got.count && i < count; i++)
        if (got.id[i] != ids[i]) {
            printf(
                "first difference at %lld: got %d, expected %d\n", (long long)i, got.id[i], ids[i]);
            break;
        }
    ck_assert_msg(
        same, "\"%s\": %lld ids, expected %lld", text, (long long)got.count, (long long)count);
    tok_ids_done(&got);
}

static void check_document(const struct tok *t, const char *text, const struct json *want)
{
    struct tok_ids got = {0};
    struct err e = {0};
    int64_t count;
    mem_autofree int32_t *ids = golden_ids(want, &count);
    ck_assert_msg(
        tok_encode_document(t, text, (int64_t)strlen(text), &got, &e) == 0, "%s: %s", text, e.text);
    ck_assert_msg(got.count == count && !memcmp(ids, got.id, (size_t)count * sizeof *ids),
        "\"%s\": %lld ids, expected %lld", text, (long long)got.count, (long long)count);
    tok_ids_done(&got);
}

static void decode_all(const struct tok *t, const struct tok_ids *ids, bool skip, struct buf *out)
{
    buf_reset(out);
    for (int64_t i = 0; i < ids->count; i++)
        ck_assert_int_eq(tok_decode(t, ids->id[i], skip, out), 0);
}

static void check_text(const struct tok *t, const struct json *list, const char *want)
{
    struct tok_ids ids = {0};
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    ids.id = golden_ids(list, &ids.count);
    decode_all(t, &ids, false, &text);
    ck_assert_str_eq(buf_cstr(&text), want);
    tok_ids_done(&ids);
}

static void compare(const struct model *m)
{
    struct tok *t = open_model(m);
    if (!t)
        return;
    json_auto struct json *lines = golden_json(GOLDEN "tok_lines.json");
    json_auto struct json *golden = golden_json(m->golden);
    ck_assert_uint_eq(json_count(lines), 200);
    const struct json *ids = json_first(json_get(golden, "ids"));
    json_each (line, lines) {
        check_ids(t, json_string_value(line), false, ids);
        ids = json_next(ids);
    }
    ids = json_first(json_get(golden, "ids"));
    json_each (text, json_get(golden, "text")) {
        check_text(t, ids, json_string_value(text));
        ids = json_next(ids);
    }
    json_each (s, json_get(golden, "special"))
        check_ids(t, json_str(s, "text", ""), true, json_get(s, "ids"));
    ck_assert_uint_ge(json_count(json_get(golden, "document")), 6);
    json_each (s, json_get(golden, "document"))
        check_document(t, json_str(s, "text", ""), json_get(s, "ids"));
    tok_close(t);
}

START_TEST(smollm2_ids_equal_the_reference)
{
    compare(&smollm2);
}
END_TEST

START_TEST(qwen3_ids_equal_the_reference)
{
    compare(&qwen3);
}
END_TEST

START_TEST(gpt2_ids_equal_the_reference)
{
    compare(&gpt2);
}
END_TEST

START_TEST(llama3_ids_equal_the_reference)
{
    compare(&llama3);
}
END_TEST

START_TEST(gemma3_ids_equal_the_reference)
{
    compare(&gemma3);
}
END_TEST

static int64_t differing(const struct tok *t, const char *want, const struct lines_pieces *p)
{
    int64_t blocks = (int64_t)strlen(want) / 8, wrong = 0;
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf line;
    buf_init(&line, 1 << 16);
    for (int64_t block = 0; block < blocks; block++) {
        uint32_t h = LINES_HASH;
        bool taken = sample_takes((uint64_t)block);
        for (int64_t i = 0; taken && i < LINES_BLOCK; i++) {
            lines_make((uint64_t)(block * LINES_BLOCK + i), p, &line);
            ids.count = 0;
            const char *s = buf_cstr(&line);
            ck_assert_msg(!tok_encode(t, s, (int64_t)line.len, false, &ids, &e), "%s", e.text);
            h = lines_fold(h, ids.id, (size_t)ids.count * 4);
        }
        if (taken && h != lines_hash_at(want, block) && !wrong++)
            printf("block %lld differs\n", (long long)block);
    }
    tok_ids_done(&ids);
    return wrong;
}

START_TEST(lines_of_many_scripts_equal_the_reference)
{
    const struct model *const models[] = {&smollm2, &qwen3, &gpt2, &llama3, &gemma3};
    json_auto struct json *lines = golden_json(GOLDEN "tok_lines.json");
    json_auto struct json *many = golden_json(GOLDEN "tok_many.json");
    struct lines_pieces p = lines_pieces_of(lines);
    sample_print();
    ck_assert_int_eq(json_int(many, "lines", 0), 10000);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *want = json_str(many, models[i]->fetch, "");
        struct tok *t = open_model(models[i]);
        ck_assert_uint_eq(strlen(want), 8 * 10000 / LINES_BLOCK);
        if (t)
            ck_assert_msg(!differing(t, want, &p), "%s", models[i]->fetch);
        tok_close(t);
    }
    mem_free(p.text);
}
END_TEST

START_TEST(text_survives_encoding_and_decoding)
{
    static const char *const pool[] = {"a", "the", " ", "\n", "é", "你", "😀", "̈", "\t", "12", "'s",
        "<|", "|im_end|>", "\xe2\x80\xa8"};
    struct tok *t = open_model(&smollm2);
    if (!t)
        return;
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    buf_auto struct buf text, back;
    buf_init(&text, 1 << 20);
    buf_init(&back, 1 << 20);
    for (int round = 0; round < 300; round++) {
        buf_reset(&text);
        for (int n = rand_r(&seed) % 60; n >= 0; n--)
            buf_str(&text, pool[(size_t)rand_r(&seed) % (sizeof pool / sizeof *pool)]);
        struct tok_ids ids = {0};
        struct err e = {0};
        ck_assert_int_eq(tok_encode(t, text.data, (int64_t)text.len, round & 1, &ids, &e), 0);
        decode_all(t, &ids, false, &back);
        ck_assert_str_eq(buf_cstr(&back), text.data);
        tok_ids_done(&ids);
    }
    tok_close(t);
}
END_TEST

START_TEST(special_tokens_only_where_wanted)
{
    struct tok *t = open_model(&smollm2);
    if (!t)
        return;
    const char *text = "<|im_start|>x<|im_end|>";
    struct tok_ids ids = {0};
    struct err e = {0};
    ck_assert_int_eq(tok_encode(t, text, (int64_t)strlen(text), true, &ids, &e), 0);
    ck_assert_int_eq(ids.count, 3);
    ck_assert_int_eq(ids.id[0], tok_bos(t));
    ck_assert_int_eq(ids.id[2], tok_eos(t));
    ck_assert(tok_is_special(t, ids.id[0]) && !tok_is_special(t, ids.id[1]));
    ck_assert(!tok_is_special(t, -1) && !tok_is_special(t, tok_vocab(t)));
    buf_auto struct buf out;
    buf_init(&out, 100);
    decode_all(t, &ids, true, &out);
    ck_assert_str_eq(buf_cstr(&out), "x");
    decode_all(t, &ids, false, &out);
    ck_assert_str_eq(buf_cstr(&out), text);

    ids.count = 0;
    ck_assert_int_eq(tok_encode(t, text, (int64_t)strlen(text), false, &ids, &e), 0);
    for (int64_t i = 0; i < ids.count; i++)
        ck_assert(!tok_is_special(t, ids.id[i]));
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

START_TEST(bad_text_is_refused_and_nothing_appended)
{
    struct tok *t = open_model(&smollm2);
    if (!t)
        return;
    struct tok_ids ids = {0};
    struct err e = {0};
    ck_assert_int_eq(tok_encode(t, "fine", 4, false, &ids, &e), 0);
    int64_t before = ids.count;
    ck_assert_int_eq(tok_encode(t, "ab\xff", 3, false, &ids, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "byte 2"));
    ck_assert_int_eq(tok_encode(t, "\xed\xa0\x80", 3, false, &ids, &e), -ERR_DATA);
    ck_assert_int_eq(ids.count, before);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

/* -- in parts -- */

struct taken {
    struct tok_ids *from, all;
    const char *at;
    int parts;
};

static int take_part(void *context, const char *at, struct err *e)
{
    struct taken *t = context;
    ck_assert(at >= t->at);
    t->at = at;
    t->parts++;
    for (int64_t i = 0; i < t->from->count; i++)
        ck_assert(!tok_ids_add(&t->all, t->from->id[i], e));
    t->from->count = 0;
    return 0;
}

static void check_parts(const struct tok *t, const struct buf *text, size_t part, int least)
{
    struct tok_ids whole = {0}, rest = {0};
    struct taken taken = {.from = &rest};
    struct err e = {0};
    int64_t len = (int64_t)text->len;
    ck_assert_msg(!tok_encode_document(t, text->data, len, &whole, &e), "%s", e.text);
    ck_assert_msg(
        !tok_encode_parts(t, text->data, len, part, &rest, take_part, &taken, &e), "%s", e.text);
    ck_assert_int_ge(taken.parts, least);
    take_part(&taken, text->data + len, &e);
    ck_assert_int_eq(taken.all.count, whole.count);
    ck_assert_mem_eq(taken.all.id, whole.id, (size_t)whole.count * sizeof *whole.id);
    tok_ids_done(&whole);
    tok_ids_done(&rest);
    tok_ids_done(&taken.all);
}

/* Words, runs of white space, marks that compose, names of tokens: whatever may stand where a text
   is cut. */
static void write_soup(struct buf *out, unsigned int *seed, int words)
{
    static const char *const pool[] = {"the", " light", "\n", "\n", "\n\n", " ", "  ", "\t", "1999",
        "e", "\u0301", "\u0308", "\u00e9t\u00e9", "\u4f60\u597d", "\U0001f600", "'ll", "...", ",",
        "\r\n", "\u1100", "\u1161", "<|endoftext|>", "<|im_end|>", "\u00a0", "\u3000", "if(x){",
        "<s>", "</s>"};
    buf_reset(out);
    for (int i = 0; i < words; i++)
        buf_str(out, pool[(size_t)rand_r(seed) % (sizeof pool / sizeof *pool)]);
}

/* Of the kind "another split, other ids". `least`: of lines that a text may be cut into, so many
   parts at least are taken. */
START_TEST(ids_of_parts_are_those_of_the_whole)
{
    const struct model *const models[] = {&smollm2, &qwen3, &gpt2, &llama3, &gemma3};
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct tok *t = open_model(models[i]);
        for (int round = 0; t && round < 4; round++) {
            write_soup(&text, &seed, 2000);
            check_parts(t, &text, 16 + (size_t)rand_r(&seed) % 400, 5);
        }
        tok_close(t);
    }
}
END_TEST

/* SentencePiece's way: nothing cuts a text but its lines, and something is put before it once. */
START_TEST(a_text_that_nothing_cuts_is_taken_by_lines)
{
    struct tok_text tokens[] = {{"a", 1}, {"b", 1}, {"\n", 1}, {"ab", 2}, {"\n\n", 2},
        {"\u2581", 3}, {"\u2581a", 4}, {"b\n", 2}};
    uint8_t kinds[8] = {0};
    struct tok_text merges[][2] = {{{"a", 1}, {"b", 1}}, {{"\n", 1}, {"\n", 1}},
        {{"\u2581", 3}, {"a", 1}}, {{"b", 1}, {"\n", 1}}};
    struct tok_def d = {.model = TOK_BPE_CHARS,
        .vocab = 8,
        .tokens = tokens,
        .kinds = kinds,
        .merge_count = 4,
        .merges = merges,
        .chars = {.unknown = -1},
        .steps = {.list = {{.kind = TOK_STEP_PREPEND, .to = {"\u2581", 3}},
                      {.kind = TOK_STEP_REPLACE, .from = {" ", 1}, .to = {"\u2581", 3}}},
            .count = 2},
        .bos = -1,
        .eos = -1,
        .pad = -1};
    struct tok *t = NULL;
    struct err e = {0};
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    memset(kinds, TOK_NORMAL, sizeof kinds);
    ck_assert_msg(!tok_create(&d, "made", &t, &e), "%s", e.text);
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    for (int round = 0; round < 200; round++) {
        buf_reset(&text);
        for (int i = 0; i < 400; i++)
            buf_char(&text, "ab \n"[rand_r(&seed) % 4]);
        check_parts(t, &text, 8 + (size_t)rand_r(&seed) % 60, 2);
    }
    tok_close(t);
    /* A token that goes on behind a newline, and the text stays whole. */
    tokens[7] = (struct tok_text){"\na", 2};
    merges[3][0] = (struct tok_text){"\n", 1};
    merges[3][1] = (struct tok_text){"a", 1};
    ck_assert_msg(!tok_create(&d, "made", &t, &e), "%s", e.text);
    check_parts(t, &text, 8, 0);
    tok_close(t);
}
END_TEST

/* -- digests -- */

START_TEST(a_digest_is_of_all_that_decides)
{
    static const char *const texts[] = {"a", "b", "ab", "<s>"};
    struct tok_text tokens[4], merges[1][2] = {{{"a", 1}, {"b", 1}}};
    uint8_t kinds[] = {TOK_NORMAL, TOK_NORMAL, TOK_NORMAL, TOK_SPECIAL}, flags[4] = {0};
    double scores[4] = {0};
    struct tok_def d = {.vocab = 4, .merge_count = 1, .eos = 3, .stage_count = 1};
    for (int i = 0; i < 4; i++)
        tokens[i] = (struct tok_text){texts[i], strlen(texts[i])};
    d.tokens = tokens;
    d.kinds = kinds;
    d.flags = flags;
    d.merges = merges;
    d.scores = scores;
    d.stages[0].pattern = "a+";
    uint64_t same = tok_def_digest(&d);
    ck_assert_uint_eq(tok_def_digest(&d), same);
#define DIFFERS(change, back) \
    do { \
        change; \
        ck_assert_uint_ne(tok_def_digest(&d), same); \
        back; \
        ck_assert_uint_eq(tok_def_digest(&d), same); \
    } while (0)
    DIFFERS(tokens[0].s = "b", tokens[0].s = "a");
    DIFFERS(kinds[3] = TOK_ADDED, kinds[3] = TOK_SPECIAL);
    DIFFERS(flags[3] = TOK_RSTRIP, flags[3] = 0);
    DIFFERS(d.merge_count = 0, d.merge_count = 1);
    DIFFERS(d.eos = 2, d.eos = 3);
    DIFFERS(d.ignore_merges = true, d.ignore_merges = false);
    DIFFERS(d.stages[0].pattern = "b+", d.stages[0].pattern = "a+");
    DIFFERS(d.stages[0].drop = TOK_SPLIT_DROP_REST, d.stages[0].drop = TOK_SPLIT_DROP_NONE);
    DIFFERS(d.steps.count = 1, d.steps.count = 0);
    DIFFERS(d.prefix.count = 1, d.prefix.count = 0);
    DIFFERS(scores[1] = -1, scores[1] = 0);
    DIFFERS(d.spaces = TOK_SPACES_MARKED, d.spaces = TOK_SPACES_AS_IS);
    DIFFERS(d.ranks = &(int32_t){0}, d.ranks = NULL);
#undef DIFFERS
}
END_TEST

UNIT_MAIN("tok", smollm2_ids_equal_the_reference, qwen3_ids_equal_the_reference,
    llama3_ids_equal_the_reference, gpt2_ids_equal_the_reference, gemma3_ids_equal_the_reference,
    lines_of_many_scripts_equal_the_reference, text_survives_encoding_and_decoding,
    special_tokens_only_where_wanted, bad_text_is_refused_and_nothing_appended,
    ids_of_parts_are_those_of_the_whole, a_text_that_nothing_cuts_is_taken_by_lines,
    a_digest_is_of_all_that_decides)
