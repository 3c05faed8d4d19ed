/*
 * Goal: two texts become the ids and types that transformers and the tokenizers package make of
 * them, cut to any length. Method: hundreds of pairs with published tokenizers against hashes, and
 * small ones with all kinds of post-processors against ids (tests/golden/make_tok_pairs.py); ways
 * with pairs that are not read; failing calls.
 * needs: faults
 */
#include "base/mem.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static struct err e;

static struct tok *create(const struct json *root)
{
    struct tok *t = NULL;
    struct tok_def d;
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    ck_assert_msg(!tok_def_json(root, NULL, "small.json", a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, "small.json", &t, &e), "%s", e.text);
    arena_destroy(a);
    return t;
}

static struct tok_texts texts_of(const char *a, const char *b, int64_t most)
{
    return (struct tok_texts){{a, b}, {(int64_t)strlen(a), (int64_t)strlen(b)}, most};
}

/* -- published ones -- */

static uint32_t mix(uint32_t h, const struct tok_ids *ids)
{
    for (int64_t i = 0; i < ids->count; i++)
        for (int k = 0; k < 32; k += 8)
            h = (h ^ ((uint32_t)ids->id[i] >> k & 0xff)) * 16777619u;
    return h;
}

static const char *line_at(const struct json *lines, int64_t i)
{
    const struct json *v = json_first(lines);
    for (; i; i--)
        v = json_next(v);
    return json_string_value(v);
}

/* Whether pair i of the golden file becomes what has that hash, of four digits. */
static bool is_same(const struct tok *t, const struct json *lines, int64_t i, const char *hash)
{
    const struct tok_texts pair =
        texts_of(line_at(lines, i % 200), line_at(lines, (7 * i + i / 200) % 200), 4 + i * 5 % 61);
    struct tok_ids ids = {0}, types = {0};
    bool cut;
    char digits[9];
    ck_assert_msg(!tok_encode_pair(t, &pair, &ids, &types, &cut, &e), "%s", e.text);
    ck_assert(ids.count == types.count && ids.count <= pair.most);
    ck_assert(!cut || ids.count == pair.most);
    uint32_t h = mix(mix(2166136261u, &ids), &types);
    snprintf(digits, sizeof digits, "%04x", (unsigned int)((h ^ h >> 16) & 0xffff));
    tok_ids_done(&ids);
    tok_ids_done(&types);
    return !memcmp(digits, hash, 4);
}

static void check_hashes(const struct tok *t, const struct json *v, int64_t pairs)
{
    json_auto struct json *lines = golden_json(GOLDEN "tok_lines.json");
    const char *hashes = json_str(v, "hashes", "");
    int64_t wrong = 0;
    ck_assert_uint_eq(strlen(hashes), 4 * (size_t)pairs);
    for (int64_t i = 0; i < pairs; i++)
        wrong += !is_same(t, lines, i, hashes + 4 * i);
    ck_assert_msg(!wrong, "%s: %lld of %lld pairs differ", json_str(v, "name", ""),
        (long long)wrong, (long long)pairs);
}

/* MiniLM's vocab.txt alone. */
static struct tok *open_vocab(const char *folder)
{
    char path[1100];
    struct tok_def d;
    struct tok *t = NULL;
    struct arena *a = arena_create(TOK_ARENA_BYTES);
    buf_auto struct buf text;
    buf_init(&text, 1 << 22);
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    ck_assert(!io_read_file(path, 1 << 22, &text, &e));
    ck_assert_msg(!tok_def_vocab(text.data, text.len, NULL, path, a, &d, &e), "%s", e.text);
    ck_assert_msg(!tok_create(&d, path, &t, &e), "%s", e.text);
    arena_destroy(a);
    return t;
}

START_TEST(published_tokenizers_equal_the_reference)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_pairs.json");
    int64_t pairs = json_int(golden, "pairs", 0);
    ck_assert(pairs >= 300 && json_count(json_get(golden, "published")) == 3);
    json_each (v, json_get(golden, "published")) {
        char folder[1024], path[1100];
        bool minilm = !strcmp(json_str(v, "name", ""), "minilm");
        struct json *root = NULL;
        if (!golden_fetch(json_str(v, "name", ""), folder))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, json_str(v, "file", ""));
        ck_assert_msg(
            !json_read_file_within(path, 48 << 20, (size_t)2 << 20, &root, &e), "%s", e.text);
        struct tok *t = create(root);
        json_destroy(root);
        check_hashes(t, v, pairs);
        tok_close(t);
        if (!minilm)
            continue;
        t = open_vocab(folder);
        check_hashes(t, v, pairs);
        tok_close(t);
    }
}
END_TEST

/* -- small ones -- */

static struct tok *open_small(const struct json *golden, const char *post)
{
    static const char *const keys[] = {"model", "pre_tokenizer"};
    buf_auto struct buf text, part;
    buf_init(&text, 1 << 20);
    buf_init(&part, 1 << 20);
    struct jsonw w;
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    for (int i = 0; i < 2; i++) {
        buf_reset(&part);
        ck_assert(!json_print(json_get(json_get(golden, "tokenizer"), keys[i]), &part));
        jsonw_raw(&w, keys[i], buf_cstr(&part));
    }
    buf_reset(&part);
    ck_assert(!json_print(json_get(golden, "added_tokens"), &part));
    jsonw_raw(&w, "added_tokens", buf_cstr(&part));
    jsonw_raw(&w, "post_processor", post);
    jsonw_close(&w);
    ck_assert(!jsonw_end(&w));
    json_auto struct json *root = NULL;
    ck_assert_msg(!json_parse(text.data, text.len, &root, &e), "%s", e.text);
    return create(root);
}

static void check_list(const struct tok_ids *got, const struct json *want, const char *of)
{
    int64_t n;
    mem_autofree int32_t *ids = golden_ids(want, &n);
    ck_assert_msg(got->count == n && !memcmp(got->id, ids, (size_t)n * 4), "%s", of);
}

static void check_case(const struct tok *t, const struct json *c, const char *name)
{
    const struct tok_texts pair =
        texts_of(json_str(c, "a", NULL), json_str(c, "b", NULL), json_int(c, "most", 0));
    struct tok_ids ids = {0}, types = {0};
    bool cut;
    char of[200];
    snprintf(of, sizeof of, "%s: \"%s\" and \"%s\", %lld", name, pair.text[0], pair.text[1],
        (long long)pair.most);
    ck_assert_msg(!tok_encode_pair(t, &pair, &ids, &types, &cut, &e), "%s", e.text);
    check_list(&ids, json_get(c, "ids"), of);
    check_list(&types, json_get(c, "types"), of);
    tok_ids_done(&ids);
    tok_ids_done(&types);
}

START_TEST(post_processors_of_all_kinds_equal_the_reference)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_pairs.json");
    ck_assert_uint_ge(json_count(json_get(golden, "small")), 10);
    json_each (v, json_get(golden, "small")) {
        buf_auto struct buf post;
        buf_init(&post, 1 << 16);
        ck_assert(!json_print(json_get(v, "post_processor"), &post));
        struct tok *t = open_small(golden, buf_cstr(&post));
        ck_assert_uint_ge(json_count(json_get(v, "cases")), 90);
        json_each (c, json_get(v, "cases"))
            check_case(t, c, json_str(v, "name", ""));
        tok_close(t);
    }
}
END_TEST

#define TEMPLATE(pair) \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]," \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[259],\"tokens\":[\"<s>\"]}}," \
    "\"pair\":[" pair "]}"
#define PIECE(id, type) "{\"Sequence\":{\"id\":\"" id "\",\"type_id\":" type "}}"
#define TOKEN(id)       "{\"SpecialToken\":{\"id\":\"" id "\",\"type_id\":0}}"

/* Single texts are none the worse for it. */
START_TEST(what_is_not_read_of_pairs_is_known)
{
    static const struct {
        const char *post;
        int around;
    } cases[] = {
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "1")), 0},
        {TEMPLATE(PIECE("A", "0") "," TOKEN("<s>") "," PIECE("B", "255")), 1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "256")), -1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "-1")), -1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("C", "1")), -1},
        {TEMPLATE(PIECE("A", "0")), -1},
        {TEMPLATE(PIECE("B", "0") "," PIECE("B", "0")), -1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "0") "," PIECE("A", "0")), -1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "0") "," TOKEN("<none>")), -1},
        {TEMPLATE(PIECE("A", "0") "," PIECE("B", "0") ",{}"), -1},
        {TEMPLATE(""), -1},
    };
    json_auto struct json *golden = golden_json(GOLDEN "tok_pairs.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tok_ids ids = {0};
        struct tok *t = open_small(golden, cases[i].post);
        ck_assert_msg(
            tok_pair_around(t) == cases[i].around, "%s: %d", cases[i].post, tok_pair_around(t));
        ck_assert(!tok_encode_document(t, "ab", 2, &ids, &e) && ids.count == 1);
        tok_ids_done(&ids);
        tok_close(t);
    }
}
END_TEST

/* Of a definition without a file: longer than any file's. */
START_TEST(the_longest_pieces_fit)
{
    struct tok_def d = {.prefix = {.count = TOK_AFFIX_LIMIT}, .suffix = {.count = TOK_AFFIX_LIMIT}};
    tok_def_pair(&d, TOK_PAIR_EACH);
    ck_assert_int_eq(d.pair.count, TOK_PAIR_LIMIT);
    ck_assert_int_eq(d.pair.at[TOK_AFFIX_LIMIT].id, TOK_PAIR_FIRST);
    ck_assert_int_eq(d.pair.at[TOK_PAIR_LIMIT - 1].type, 1);
}
END_TEST

static int encode_once(void *user)
{
    const struct tok_texts pair = texts_of("a b a b a", "ab", 100);
    struct tok_ids ids = {0}, types = {0};
    bool cut;
    int rc = tok_ids_add(&ids, 1, &e);
    rc = rc ? rc : tok_ids_add(&types, 0, &e);
    if (!rc && (rc = tok_encode_pair(user, &pair, &ids, &types, &cut, &e)))
        ck_assert(ids.count == 1 && types.count == 1);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    return rc;
}

START_TEST(failing_calls_are_reported)
{
    json_auto struct json *golden = golden_json(GOLDEN "tok_pairs.json");
    struct tok *t = open_small(golden, "null");
    fault_each(FAULT_MEM, encode_once, t);
    const struct tok_texts bad = texts_of("a", "b\xff", 100);
    struct tok_ids ids = {0}, types = {0};
    bool cut;
    ck_assert_int_eq(tok_encode_pair(t, &bad, &ids, &types, &cut, &e), -ERR_DATA);
    ck_assert(!ids.count && !types.count);
    tok_close(t);
}
END_TEST

UNIT_MAIN_WITHIN("tok_pair", 120, published_tokenizers_equal_the_reference,
    post_processors_of_all_kinds_equal_the_reference, what_is_not_read_of_pairs_is_known,
    the_longest_pieces_fit, failing_calls_are_reported)
