/*
 * Goal: text becomes the ids that transformers gives with the same folder: special tokens in the
 * text, flags of added tokens, what a post-processor puts around it; and a chat's client forges no
 * special token. Method: small tokenizers in many variants against what transformers'
 * tokenizer(text) makes of each (golden), as read and as written and read again; guarded texts,
 * whole and in two parts, hold no special token and decode to themselves; a GGUF file's keys.
 */
#include "runtime/text/tok_added.h"

#include "base/mem.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

/* The golden file's tokenizer with what the variant says otherwise, as text. */
static void variant_text(const struct json *golden, const struct json *variant, struct buf *out)
{
    static const char *const keys[] = {"added_tokens", "post_processor", "normalizer"};
    struct jsonw w;
    buf_auto struct buf part;
    buf_init(&part, 1 << 20);
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    for (int i = 0; i < 5; i++) {
        const char *key = i < 3 ? keys[i] : i == 3 ? "model" : "pre_tokenizer";
        const struct json *from = i < 3 ? variant : json_get(golden, "tokenizer");
        buf_reset(&part);
        ck_assert_int_eq(json_print(json_get(from, key), &part), 0);
        jsonw_raw(&w, key, buf_cstr(&part));
    }
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
}

/* again: written and read once more. */
static struct tok *open_variant(const struct json *golden, const struct json *variant, bool again)
{
    struct tok *t = NULL;
    struct tok_def d;
    struct err e = {0};
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    json_auto struct json *root = NULL, *back = NULL;
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    variant_text(golden, variant, &text);
    ck_assert_msg(json_parse(text.data, text.len, &root, &e) == 0, "%s", e.text);
    ck_assert_msg(tok_def_json(root, json_get(variant, "config"), "rules", a, &d, &e) == 0,
        "%s: %s", json_str(variant, "name", ""), e.text);
    if (again) {
        buf_reset(&text);
        ck_assert_int_eq(tok_def_write(&d, &text, &e), 0);
        ck_assert_msg(json_parse(text.data, text.len, &back, &e) == 0, "%s", e.text);
        ck_assert_msg(tok_def_json(back, NULL, "rules", a, &d, &e) == 0, "%s", e.text);
    }
    ck_assert_msg(tok_create(&d, "rules", &t, &e) == 0, "%s", e.text);
    arena_destroy(a);
    return t;
}

static void check_case(const struct tok *t, const char *name, const struct json *c)
{
    struct tok_ids got = {0};
    struct err e = {0};
    const char *text = json_str(c, "text", NULL);
    int64_t count;
    mem_autofree int32_t *ids = golden_ids(json_get(c, "ids"), &count);
    ck_assert_msg(tok_encode_document(t, text, (int64_t)strlen(text), &got, &e) == 0, "%s", e.text);
    ck_assert_msg(got.count == count, "%s, \"%s\": %lld ids, expected %lld", name, text,
        (long long)got.count, (long long)count);
    for (int64_t i = 0; i < count; i++)
        ck_assert_msg(got.id[i] == ids[i], "%s, \"%s\": id %lld is %d, expected %d", name, text,
            (long long)i, got.id[i], ids[i]);
    tok_ids_done(&got);
}

static void check_variants(bool again)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_rules.json");
    ck_assert_uint_ge(json_count(json_get(golden, "variants")), 15);
    json_each (v, json_get(golden, "variants")) {
        struct tok *t = open_variant(golden, v, again);
        const struct json *special = json_first(json_get(v, "special"));
        json_each (c, json_get(v, "cases"))
            check_case(t, json_str(v, "name", ""), c);
        for (int32_t id = 0; id < tok_vocab(t); id++) {
            bool want = special && (int32_t)json_number_value(special) == id;
            ck_assert_msg(tok_is_special(t, id) == want, "%s: %d", json_str(v, "name", ""), id);
            special = want ? json_next(special) : special;
        }
        tok_close(t);
    }
}

START_TEST(text_is_what_transformers_makes_of_it)
{
    check_variants(false);
}
END_TEST

START_TEST(a_written_tokenizer_does_the_same)
{
    check_variants(true);
}
END_TEST

/* text in two parts, each guarded, as a template might put them together. */
static void check_guarded(const struct tok *t, const char *text, size_t cut)
{
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf guarded, back;
    buf_init(&guarded, 1 << 16);
    buf_init(&back, 1 << 16);
    ck_assert_int_eq(tok_guard(t, text, cut, &guarded), 0);
    ck_assert_int_eq(tok_guard(t, text + cut, strlen(text) - cut, &guarded), 0);
    ck_assert_int_eq(tok_encode_guarded(t, buf_cstr(&guarded), (int64_t)guarded.len, &ids, &e), 0);
    for (int64_t i = 0; i < ids.count; i++) {
        ck_assert_msg(!tok_is_special(t, ids.id[i]), "\"%s\" cut at %zu", text, cut);
        tok_decode(t, ids.id[i], false, &back);
    }
    buf_auto struct buf want; /* all but the noncharacter */
    buf_init(&want, 1 << 16);
    tok_added_unguard(text, strlen(text), &want);
    ck_assert_str_eq(buf_cstr(&back), buf_cstr(&want));
    tok_ids_done(&ids);
}

START_TEST(clients_forge_no_special_token)
{
    static const char *const texts[] = {"<s>", "a<s>b</s>", "<<s>>", "<s></s><pad>", "<s",
        "x\xef\xb7\x90<s>", "<\xef\xb7\x90s>", "\xef\xb7\x90\xef\xb7\x90</s>\xef\xb7\x90"};
    json_auto struct json *golden = golden_json(GOLDEN "tok_rules.json");
    json_each (v, json_get(golden, "variants")) {
        struct tok *t = open_variant(golden, v, false);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            for (size_t cut = 0; cut <= strlen(texts[i]); cut++)
                if (((uint8_t)texts[i][cut] & 0xc0) != 0x80)
                    check_guarded(t, texts[i], cut);
        tok_close(t);
    }
}
END_TEST

/* One character leaves no place inside. */
START_TEST(special_tokens_of_one_character_are_guarded)
{
    struct tok_text tokens[] = {{"a", 1}, {">", 1}, {"<", 1}, {"<>", 2}, {"\xe2\x82\xac", 3}};
    uint8_t kinds[] = {TOK_NORMAL, TOK_SPECIAL, TOK_SPECIAL, TOK_SPECIAL, TOK_SPECIAL};
    uint8_t flags[] = {0, TOK_NORMALIZED, 0, 0, 0};
    struct tok_def d = {.vocab = 5, .tokens = tokens, .kinds = kinds, .flags = flags};
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 100);
    ck_assert_int_eq(tok_create(&d, "made", &t, &e), 0);
    ck_assert_int_eq(tok_guard(t, "a<>a><a\xe2\x82\xac", 10, &text), 0);
    buf_str(&text, "<>");
    ck_assert_int_eq(tok_encode_guarded(t, text.data, (int64_t)text.len, &ids, &e), 0);
    ck_assert_int_eq(ids.count, 4); /* the reference drops what no token is for */
    ck_assert_int_eq(ids.id[2], 0);
    ck_assert_int_eq(ids.id[3], 3);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

/* Many added tokens that are each other's beginnings, against a plain search. */
START_TEST(the_longest_is_found_among_many)
{
    enum { N = 3000 };
    static char text[N][8];
    struct tok_text tokens[N];
    uint8_t kinds[N];
    uint32_t start[N + 1] = {0};
    struct tok_def d = {.vocab = N, .tokens = tokens, .kinds = kinds};
    struct tok_added a = {0};
    struct err e = {0};
    unsigned int seed = 7;
    buf_auto struct buf all;
    buf_init(&all, 1 << 16);
    for (int i = 0; i < N; i++) {
        size_t n = 1 + (size_t)rand_r(&seed) % 7;
        for (size_t k = 0; k < n; k++)
            text[i][k] = "ab<"[rand_r(&seed) % 3];
        kinds[i] = rand_r(&seed) % 2 ? TOK_ADDED : TOK_SPECIAL;
        buf_add(&all, text[i], n);
        start[i + 1] = (uint32_t)all.len;
    }
    ck_assert_int_eq(tok_added_init(&a, &d, all.data, start, TOK_ADDED_AS_IS, &e), 0);
    for (int round = 0; round < 20000; round++) {
        char s[10];
        size_t len = 1 + (size_t)rand_r(&seed) % 10;
        struct tok_match m = {-1, 0, 0};
        for (size_t k = 0; k < len; k++)
            s[k] = "ab<c"[rand_r(&seed) % 4];
        int32_t want = -1;
        size_t from = 0;
        for (; want < 0 && from < len; from++)
            for (int32_t i = 0; i < N; i++) {
                size_t n = start[i + 1] - start[i];
                if (n <= len - from && !memcmp(s + from, text[i], n) &&
                    (want < 0 || n > start[want + 1] - start[want]))
                    want = i;
            }
        ck_assert_int_eq(tok_added_next(&a, s, len, 0, true, &m), want >= 0);
        ck_assert_int_eq(m.id, want);
        if (want >= 0)
            ck_assert_uint_eq(m.from, from - 1);
    }
    tok_added_done(&a);
}
END_TEST

/* What the template wrote itself stays what it is. */
START_TEST(special_tokens_beside_guarded_text_count)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_rules.json");
    struct tok *t = open_variant(golden, json_first(json_get(golden, "variants")), false);
    struct tok_ids ids = {0};
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 100);
    buf_str(&text, "<s>");
    ck_assert_int_eq(tok_guard(t, "</s><tool>", 10, &text), 0);
    buf_str(&text, "</s>");
    ck_assert_int_eq(tok_encode_guarded(t, text.data, (int64_t)text.len, &ids, &e), 0);
    ck_assert_int_eq(ids.id[0], 259);
    ck_assert_int_eq(ids.id[ids.count - 2], 262); /* not special: counts wherever it stands */
    ck_assert_int_eq(ids.id[ids.count - 1], 260);
    ck_assert_int_eq(ids.count, 3 + 4);
    tok_ids_done(&ids);
    tok_close(t);
}
END_TEST

/* The ids of "a" by a file with these keys; -1: the key is absent. */
static void check_gguf(const char *pre, int add_bos, int add_eos, int pad, const char *want)
{
    static const char *const tokens[] = {"a", "<s>", "</s>"};
    static const int32_t types[] = {1, 3, 3};
    struct gguf_make m;
    struct gguf *g = NULL;
    struct tok_def d;
    struct tok *t = NULL;
    struct tok_ids ids = {0};
    struct err e = {0};
    struct arena *a = arena_create(1 << 20);
    buf_auto struct buf file, got;
    buf_init(&file, 1 << 16);
    buf_init(&got, 100);
    gguf_make_init(&m);
    gguf_make_str(&m, "tokenizer.ggml.model", "gpt2");
    gguf_make_str(&m, "tokenizer.ggml.pre", pre);
    gguf_make_strs(&m, "tokenizer.ggml.tokens", tokens, 3);
    gguf_make_i32s(&m, "tokenizer.ggml.token_type", types, 3);
    gguf_make_strs(&m, "tokenizer.ggml.merges", NULL, 0);
    gguf_make_u32(&m, "tokenizer.ggml.bos_token_id", 1);
    gguf_make_u32(&m, "tokenizer.ggml.eos_token_id", 2);
    if (add_bos >= 0)
        gguf_make_raw(&m, "tokenizer.ggml.add_bos_token", 7, &(uint8_t){(uint8_t)add_bos}, 1);
    if (add_eos >= 0)
        gguf_make_raw(&m, "tokenizer.ggml.add_eos_token", 7, &(uint8_t){(uint8_t)add_eos}, 1);
    if (pad >= 0)
        gguf_make_u32(&m, "tokenizer.ggml.padding_token_id", (uint32_t)pad);
    gguf_make_finish(&m, &file);
    ck_assert_msg(gguf_parse(file.data, file.len, "made", &g, &e) == 0, "%s", e.text);
    ck_assert_msg(tok_def_gguf(g, a, &d, &e) == 0, "%s", e.text);
    ck_assert_int_eq(tok_create(&d, "made", &t, &e), 0);
    ck_assert_int_eq(tok_encode_document(t, "a", 1, &ids, &e), 0);
    for (int64_t i = 0; i < ids.count; i++)
        tok_decode(t, ids.id[i], false, &got);
    ck_assert_str_eq(buf_cstr(&got), want);
    ck_assert_int_eq(tok_pad(t), pad < 3 ? pad : -1);
    tok_ids_done(&ids);
    tok_close(t);
    arena_destroy(a);
    gguf_close(g);
    gguf_make_done(&m);
}

START_TEST(keys_of_gguf_files_are_heeded)
{
    check_gguf("gpt-2", -1, -1, -1, "a");
    check_gguf("gpt-2", 1, 0, 0, "<s>a");
    check_gguf("gpt-2", 1, 1, 2, "<s>a</s>");
    check_gguf("gpt-2", -1, 1, 3, "a</s>");
    check_gguf("llama-bpe", -1, -1, -1, "<s>a"); /* as llama.cpp has it for this name */
    check_gguf("llama-bpe", 0, -1, -1, "a");
}
END_TEST

START_TEST(unknown_post_processors_are_refused)
{
    static const struct {
        const char *post, *says;
    } bad[] = {
        {"{\"type\":\"Odd\"}", "post_processor \"Odd\""},
        {"{\"type\":\"TemplateProcessing\",\"single\":[]}", "without \"A\""},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}",
            "with piece \"B\""},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}",
            "with piece \"x\""},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"a\",9],\"sep\":[\"a\",0]}",
            "an id is no token's"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"a\"],\"sep\":[\"a\",0]}", "cls or sep"},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"BertProcessing\",\"cls\":["
         "\"a\","
         "0],\"sep\":[\"a\",0]},{\"type\":\"BertProcessing\"}]}",
            "a second post_processor"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *a = arena_create(1 << 20);
        json_auto struct json *root = NULL;
        struct tok_def d;
        struct err e = {0};
        buf_auto struct buf text;
        buf_init(&text, 1 << 12);
        buf_printf(&text,
            "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{"
            "\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"post_processor\":%s}",
            bad[i].post);
        ck_assert_msg(json_parse(text.data, text.len, &root, &e) == 0, "%s", e.text);
        ck_assert_int_eq(tok_def_json(root, NULL, "bad.json", a, &d, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, bad[i].says) && strstr(e.text, "bad.json"), "%s", e.text);
        arena_destroy(a);
    }
}
END_TEST

UNIT_MAIN("tok_added", text_is_what_transformers_makes_of_it, a_written_tokenizer_does_the_same,
    clients_forge_no_special_token, special_tokens_of_one_character_are_guarded,
    the_longest_is_found_among_many, special_tokens_beside_guarded_text_count,
    keys_of_gguf_files_are_heeded, unknown_post_processors_are_refused)
