/*
 * Goal: what a request asks of texts is what is read, in order, and what is said of them follows
 * from what the model finds, in the API's form. Method: requests to the tiny BERTs of tests/golden,
 * what is said parsed and compared with what the reader finds of the same texts here; what is wrong
 * is refused with one sentence, which names the text.
 */
#include "runtime/serve/items.h"

#include "api/limits.h"
#include "base/mem.h"
#include "runtime/serve/words.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/shapes.h"
#include "tests/unit.h"

#include <limits.h>
#include <math.h>
#include <unistd.h>

#define TEXTS GOLDEN "tiny-bert-texts"
#define WORDS GOLDEN "tiny-bert"
#define BARE  GOLDEN "tiny-bert-masked"
#define DIM   32

static struct err e;
static struct dev *d;
static struct weights *w;
static struct reader *r;

static void open_reader(const char *folder)
{
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    const struct reader_conf c = {
        .weights = w, .dev = d, .t = DTYPE_F32, .budget_bytes = (int64_t)1 << 30};
    ck_assert_msg(!reader_open(&c, &r, &e), "%s", e.text);
}

static void close_reader(void)
{
    reader_close(r);
    weights_close(w);
    dev_close(d);
}

static int find(const struct encoder_text *t, float *out, struct err *why)
{
    return reader_facts(r)->does == WIRE_DOES_EMBED ? reader_embed(r, t, 1, out, why)
                                                    : reader_label(r, t, 1, out, why);
}

/* What is said of a request's texts, as a list; NULL: it is refused, and e says why. */
static struct json *ask(const char *body)
{
    struct items_asked t;
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    float found[64 * 8];
    struct json *v = NULL;
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    buf_char(&out, '[');
    int rc = items_open(&t, r, NULL, body, strlen(body), &e);
    while (!rc && !items_over(&t)) {
        ids.count = types.count = 0;
        if ((rc = items_read(&t, &ids, &types, &e)))
            break;
        ck_assert_int_eq(ids.count, types.count);
        const struct encoder_text text = {ids.id, types.id, ids.count};
        ck_assert_msg(!find(&text, found, &e), "%s", e.text);
        rc = items_tell(&t, found, ids.count, &out, &e);
    }
    if (!rc)
        ck_assert_int_gt(t.tokens, 0);
    items_done(&t);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    buf_char(&out, ']');
    if (!rc)
        ck_assert_msg(!json_parse(out.data, out.len, &v, &e), "%s: %s", out.data, e.text);
    return v;
}

/* What the reader finds of a text, or of two. */
static void found_of(const char *first, const char *second, float *out)
{
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    const struct reader_text text = {.first = first, .second = second};
    ck_assert_msg(!reader_tokens(r, &text, &ids, &types, &e), "%s", e.text);
    const struct encoder_text one = {ids.id, types.id, ids.count};
    ck_assert_msg(!find(&one, out, &e), "%s", e.text);
    tok_ids_done(&ids);
    tok_ids_done(&types);
}

static double number(const struct json *v, const char *key)
{
    ck_assert_msg(json_is_number(json_get(v, key)), "%s", key);
    return json_num(v, key, 0);
}

static const struct json *at(const struct json *list, int i)
{
    const struct json *v = json_first(list);
    while (i--)
        v = json_next(v);
    return v;
}

/* -- embeddings -- */

static void same_vector(const struct json *v, const float *want, int64_t n)
{
    ck_assert_int_eq((int64_t)json_count(v), n);
    json_each (x, v)
        ck_assert_double_eq_tol(json_number_value(x), (double)*want++, 1e-8);
}

START_TEST(embeddings_are_the_readers)
{
    float a[DIM], b[DIM];
    open_reader(BARE);
    found_of("anna", NULL, a);
    found_of("berlin is in the", NULL, b);
    json_auto struct json *two =
        ask("{\"read\":\"embed\",\"input\":[\"anna\",\"berlin is in the\"]}");
    ck_assert_msg(two, "%s", e.text);
    ck_assert_uint_eq(json_count(two), 2);
    ck_assert_str_eq(json_str(at(two, 0), "object", ""), "embedding");
    ck_assert_int_eq(json_int(at(two, 1), "index", 0), 1);
    same_vector(json_get(at(two, 0), "embedding"), a, DIM);
    same_vector(json_get(at(two, 1), "embedding"), b, DIM);

    /* the same as token ids, [CLS] anna [SEP], cut or not */
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    const struct reader_text text = {.first = "anna"};
    char body[160];
    ck_assert(!reader_tokens(r, &text, &ids, &types, &e));
    ck_assert_int_eq(ids.count, 3);
    snprintf(body, sizeof body, "{\"read\":\"embed\",\"input\":[[%d,%d,%d,9]],\"truncate\":3}",
        ids.id[0], ids.id[1], ids.id[2]);
    json_auto struct json *one = ask(body);
    ck_assert_msg(one, "%s", e.text);
    same_vector(json_get(at(one, 0), "embedding"), a, DIM);
    tok_ids_done(&ids);
    tok_ids_done(&types);

    /* the first numbers, of length 1 again */
    json_auto struct json *few = ask("{\"read\":\"embed\",\"input\":[\"anna\"],\"dimensions\":5}");
    float length = 0;
    for (int i = 0; i < 5; i++)
        length += a[i] * a[i];
    for (int i = 0; i < 5; i++)
        b[i] = a[i] / sqrtf(length);
    same_vector(json_get(at(few, 0), "embedding"), b, 5);
    close_reader();
}
END_TEST

/* As a client decodes it: each letter's place in RFC 4648's alphabet. */
static size_t decode(const char *text, unsigned char *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0, bits = 0, v = 0;
    ck_assert_uint_eq(strlen(text) % 4, 0);
    for (; *text && *text != '='; text++) {
        const char *letter = strchr(letters, *text);
        ck_assert_ptr_nonnull(letter);
        v = v << 6 | (size_t)(letter - letters);
        if ((bits += 6) >= 8)
            out[n++] = (unsigned char)(v >> (bits -= 8) & 255);
    }
    return n;
}

START_TEST(base64_is_the_same_numbers)
{
    static const int dims[] = {32, 31, 30, 29, 1}; /* each kind of end */
    open_reader(BARE);
    for (int i = 0; i < 5; i++) {
        unsigned char bytes[512];
        float got[DIM], want[DIM];
        char body[160];
        snprintf(body, sizeof body,
            "{\"read\":\"embed\",\"input\":[\"the\"],\"dimensions\":%d,\"base64\":true}", dims[i]);
        json_auto struct json *v = ask(body);
        ck_assert_msg(v, "%s", e.text);
        ck_assert_uint_eq(decode(json_str(at(v, 0), "embedding", ""), bytes), 4 * (size_t)dims[i]);
        memcpy(got, bytes, 4 * (size_t)dims[i]);
        found_of("the", NULL, want);
        if (dims[i] < DIM)
            reader_normalize(want, dims[i]);
        ck_assert_mem_eq(got, want, 4 * (size_t)dims[i]);
    }
    close_reader();
}
END_TEST

/* -- labels -- */

START_TEST(labels_have_probabilities)
{
    float logits[3];
    open_reader(TEXTS);
    found_of("anna was in berlin", NULL, logits);
    json_auto struct json *v =
        ask("{\"read\":\"classify\",\"input\":[\"the\",\"anna was in berlin\"]}");
    ck_assert_msg(v, "%s", e.text);
    double sum = 0, all = 0;
    int best = 0, i = 0;
    for (int k = 0; k < 3; k++) {
        sum += exp((double)logits[k]);
        best = logits[k] > logits[best] ? k : best;
    }
    json_each (p, json_get(at(v, 1), "probs")) {
        ck_assert_double_eq_tol(json_number_value(p), exp((double)logits[i++]) / sum, 1e-7);
        all += json_number_value(p);
    }
    ck_assert_double_eq_tol(all, 1, 1e-6);
    ck_assert_str_eq(json_str(at(v, 1), "label", ""), weights_labels(w)[best]);
    ck_assert_int_eq(json_int(at(v, 1), "num_classes", 0), 3);
    ck_assert_ptr_null(json_get(at(v, 1), "labels"));
    close_reader();
}
END_TEST

/* A folder of tiny-bert-texts, its config.json begun otherwise. */
static void open_changed(char folder[64], const char *from, const char *to)
{
    buf_auto struct buf config, out;
    char path[128], root[PATH_MAX];
    static const char *const files[] = {"tokenizer.json", "vocab.txt", "model.safetensors"};
    golden_folder(folder);
    buf_init(&config, 1 << 16);
    buf_init(&out, 1 << 16);
    ck_assert(!io_read_file(TEXTS "/config.json", 1 << 16, &config, &e));
    const char *place = strstr(config.data, from);
    ck_assert_ptr_nonnull(place);
    buf_printf(&out, "%.*s%s%s", (int)(place - config.data), config.data, to, place + strlen(from));
    snprintf(path, sizeof path, "%s/config.json", folder);
    golden_write(path, out.data, out.len);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, TEXTS "/%s", files[i]);
        ck_assert_ptr_nonnull(realpath(path, root));
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        ck_assert_int_eq(symlink(root, path), 0);
    }
    open_reader(folder);
}

START_TEST(several_labels_are_told_each_by_itself)
{
    char folder[64];
    float logits[3];
    open_changed(folder, "{", "{\"problem_type\":\"multi_label_classification\",");
    ck_assert(reader_facts(r)->several);
    found_of("anna", NULL, logits);
    json_auto struct json *v = ask("{\"read\":\"classify\",\"input\":[\"anna\"]}");
    int i = 0, holds = 0;
    json_each (p, json_get(at(v, 0), "probs"))
        ck_assert_double_eq_tol(json_number_value(p), 1 / (1 + exp(-(double)logits[i++])), 1e-7);
    for (i = 0; i < 3; i++)
        holds += logits[i] > 0;
    ck_assert_uint_eq(json_count(json_get(at(v, 0), "labels")), (size_t)holds);
    ck_assert_ptr_null(ask("{\"read\":\"compare\",\"first\":[\"a\"],\"second\":[\"b\"]}"));
    close_reader();
    golden_remove(folder);
}
END_TEST

/* Each word is one token of the vocabulary here, so word i is row 1 + i. */
START_TEST(words_become_entities)
{
    static const char
        text[] = "é anna was in berlin, for the of",
        request[] = "{\"read\":\"classify\",\"input\":[\"é anna was in berlin, for the of\"]}";
    float logits[64 * 8];
    open_reader(WORDS);
    ck_assert_int_eq(reader_facts(r)->does, WIRE_DOES_TAG);
    found_of(text, NULL, logits);
    json_auto struct json *v = ask(request);
    ck_assert_msg(v, "%s", e.text);
    struct words_entity x = {.kind = NULL}, ended;
    struct words_word at_word = {0, 0};
    const struct json *said = json_first(json_get(at(v, 0), "entities"));
    int entities = 0;
    for (int row = 1; words_next(text, (int64_t)strlen(text), &at_word) || x.kind; row++) {
        const float *own = logits + row * 5;
        int best = 0;
        for (int k = 1; k < 5; k++)
            best = own[k] > own[best] ? k : best;
        bool over = row > 9;
        if (!words_add(&x, &at_word, over ? "O" : weights_labels(w)[best], 0.5, &ended))
            continue;
        ck_assert_ptr_nonnull(said);
        const char *word = json_str(said, "word", "");
        ck_assert_uint_eq(strlen(word), (size_t)(ended.place.end - ended.place.at));
        ck_assert(!strncmp(word, text + ended.place.at, strlen(word)));
        ck_assert_str_eq(json_str(said, "entity_group", ""), ended.kind);
        int64_t start = json_int(said, "start", -1); /* of characters: é is one, of two bytes */
        ck_assert_int_eq(start, ended.place.at ? ended.place.at - 1 : 0);
        ck_assert_int_eq(json_int(said, "end", -1), ended.place.end - 1);
        ck_assert(number(said, "score") > 0.2 && number(said, "score") <= 1);
        said = json_next(said);
        entities++;
    }
    ck_assert_int_gt(entities, 0);
    ck_assert_ptr_null(said);
    ck_assert_int_eq(json_int(at(v, 0), "num_classes", 0), 5);
    close_reader();
}
END_TEST

/* -- two texts -- */

static double cosine(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

START_TEST(texts_are_compared_by_cosines)
{
    float a[DIM], b[DIM], c[DIM];
    open_reader(BARE);
    found_of("anna", NULL, a);
    found_of("berlin", NULL, b);
    found_of("of the", NULL, c);
    json_auto struct json *one = ask(
        "{\"read\":\"compare\",\"first\":[\"anna\"],\"second\":[\"berlin\",\"of the\",\"anna\"]}");
    ck_assert_msg(one, "%s", e.text);
    ck_assert_double_eq_tol(number(at(one, 0), "score"), cosine(a, b), 1e-6);
    ck_assert_double_eq_tol(number(at(one, 1), "score"), cosine(a, c), 1e-6);
    ck_assert_double_eq_tol(number(at(one, 2), "score"), 1, 1e-6);
    ck_assert_str_eq(json_str(at(one, 2), "object", ""), "score");
    json_auto struct json *each =
        ask("{\"read\":\"compare\",\"first\":[\"anna\",\"berlin\"],\"second\":"
            "[\"berlin\",\"of the\"]}");
    ck_assert_uint_eq(json_count(each), 2);
    ck_assert_double_eq_tol(number(at(each, 0), "score"), cosine(a, b), 1e-6);
    ck_assert_double_eq_tol(number(at(each, 1), "score"), cosine(b, c), 1e-6);

    json_auto struct json *rank =
        ask("{\"read\":\"rank\",\"first\":[\"anna\"],\"second\":[\"berlin\",\"anna\",\"of the\"]}");
    double before = 2;
    int seen = 0;
    ck_assert_uint_eq(json_count(rank), 3);
    ck_assert_int_eq(json_int(at(rank, 0), "index", -1), 1);
    ck_assert_str_eq(json_str(json_get(at(rank, 0), "document"), "text", ""), "anna");
    json_each (x, rank) {
        ck_assert_double_le(number(x, "relevance_score"), before);
        before = number(x, "relevance_score");
        seen |= 1 << json_int(x, "index", 0);
    }
    ck_assert_int_eq(seen, 7);
    json_auto struct json *top = ask("{\"read\":\"rank\",\"first\":[\"anna\"],\"second\":["
                                     "\"berlin\",\"anna\"],\"top\":1,\"documents\":false}");
    ck_assert_uint_eq(json_count(top), 1);
    ck_assert_ptr_null(json_get(at(top, 0), "document"));
    close_reader();
}
END_TEST

/* Of two labels the second one's probability is told, of one the sigmoid of its logit. */
START_TEST(texts_are_compared_by_a_classifier_of_pairs)
{
    struct model_config c;
    char folder[64], path[160];
    float logits[2];
    for (int labels = 1; labels <= 2; labels++) {
        struct weights *from;
        ck_assert(!weights_open(TEXTS, NULL, &from, &e));
        c = *weights_config(from);
        c.labels = labels;
        weights_close(from);
        golden_folder(folder);
        ck_assert_msg(!shape_write(folder, &c, DTYPE_F32, &e), "%s", e.text);
        for (int i = 0; i < 2; i++) {
            char root[PATH_MAX];
            const char *name = i ? "vocab.txt" : "tokenizer.json";
            snprintf(path, sizeof path, TEXTS "/%s", name);
            ck_assert_ptr_nonnull(realpath(path, root));
            snprintf(path, sizeof path, "%s/%s", folder, name);
            ck_assert_int_eq(symlink(root, path), 0);
        }
        open_reader(folder);
        found_of("anna", "in berlin", logits);
        json_auto struct json *v = ask("{\"read\":\"compare\",\"first\":[\"anna\"],\"second\":["
                                       "\"of\",\"in berlin\"]}");
        ck_assert_msg(v, "%s", e.text);
        double x = (double)(labels == 1 ? logits[0] : logits[1] - logits[0]);
        ck_assert_double_eq_tol(number(at(v, 1), "score"), 1 / (1 + exp(-x)), 1e-7);
        close_reader();
        golden_remove(folder);
    }
}
END_TEST

/* -- refusals -- */

static const struct {
    const char *folder, *body, *text;
} refused[] = {
    {BARE, "{", "JSON byte"},
    {BARE, "{\"chat\":true}", "reads texts"},
    {BARE, "{\"read\":\"classify\",\"input\":[\"a\"]}", "no labels"},
    {TEXTS, "{\"read\":\"embed\",\"input\":[\"a\"]}", "no embeddings"},
    {TEXTS, "{\"read\":\"compare\",\"first\":[\"a\"],\"second\":[\"b\"]}", "one label or two"},
    {WORDS, "{\"read\":\"rank\",\"first\":[\"a\"],\"second\":[\"b\"]}", "labels words"},
    {WORDS, "{\"read\":\"classify\",\"input\":[[1,2]]}", "text number 0: a model that labels"},
    {BARE, "{\"read\":\"embed\",\"input\":[]}", "1 to 2048"},
    {BARE, "{\"read\":\"compare\",\"first\":[\"a\",\"b\"],\"second\":[\"b\"]}", "pairs"},
    {BARE, "{\"read\":\"embed\",\"input\":[\"a\"],\"dimensions\":33}", "1 to 32"},
    {BARE, "{\"read\":\"embed\",\"input\":[\"a\"],\"truncate\":49}", "48"},
    {BARE, "{\"read\":\"embed\",\"input\":[\"a\",[]]}", "text number 1: it has 0"},
    {BARE, "{\"read\":\"embed\",\"input\":[\"a\",[1,96]]}", "text number 1"},
    {BARE, "{\"read\":\"embed\",\"input\":[[4000000000]]}", "text number 0"},
    {BARE,
        "{\"read\":\"embed\",\"input\":[\"a\",\"a a a a a a a a a a a a a a a a a a a a a a a "
        "a a a a a a a a a a a a a a a a a a a a a a a a a a a a\"]}",
        "text number 1: it has more than the 48"},
    {WORDS,
        "{\"read\":\"classify\",\"input\":[\"a a a a a a a a a a a a a a a a a a a a a a a "
        "a a a a a a a a a a a a a a a a a a a a a a a a a a a a\"]}",
        "text number 0: it has more than the 48"},
};

START_TEST(what_is_wrong_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        open_reader(refused[i].folder);
        e = (struct err){0};
        ck_assert_msg(!ask(refused[i].body), "taken: %s", refused[i].body);
        ck_assert_msg((e.code == ERR_USER || e.code == ERR_DATA) && strstr(e.text, refused[i].text),
            "%s: %s", refused[i].body, e.text);
        close_reader();
    }
}
END_TEST

/* An answer that would be too long is refused before anything is read. */
START_TEST(an_answer_is_bounded)
{
    struct items_asked t;
    char folder[1024];
    if (!golden_fetch("minilm", folder))
        return;
    open_reader(folder);
    for (int base64 = 0; base64 < 2; base64++) {
        buf_auto struct buf body;
        buf_init(&body, 1 << 20);
        buf_printf(
            &body, "{\"read\":\"embed\",\"base64\":%s,\"input\":[\"a\"", base64 ? "true" : "false");
        for (int i = 1; i < 2048; i++)
            buf_str(&body, ",\"a\"");
        buf_str(&body, "]}");
        int rc = items_open(&t, r, NULL, body.data, body.len, &e);
        ck_assert_int_eq(rc, base64 ? 0 : -ERR_USER);
        ck_assert(base64 || (strstr(e.text, "8 MiB") && strstr(e.text, "base64")));
        items_done(&t);
    }
    close_reader();
}
END_TEST

/* What cannot be known before: of many words there may be many entities. */
START_TEST(what_was_said_is_counted)
{
    static float logits[64 * 8];
    struct items_asked t;
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    buf_auto struct buf out;
    static const char body[] =
        "{\"read\":\"classify\",\"input\":[\"anna in berlin\",\"the\",\"of\"]}";
    buf_init(&out, LIMIT_ITEMS_BYTES);
    open_reader(WORDS);
    ck_assert(!items_open(&t, r, NULL, body, sizeof body - 1, &e));
    for (int i = 0; i < 2; i++) {
        ids.count = types.count = 0;
        ck_assert(!items_read(&t, &ids, &types, &e));
        if (i)
            t.said = LIMIT_ITEMS_BYTES - 10;
        ck_assert_int_eq(items_tell(&t, logits, ids.count, &out, &e), i ? -ERR_USER : 0);
    }
    ck_assert(strstr(e.text, "8 MiB"));
    items_done(&t);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    close_reader();
}
END_TEST

UNIT_MAIN("items", embeddings_are_the_readers, base64_is_the_same_numbers,
    labels_have_probabilities, several_labels_are_told_each_by_itself, words_become_entities,
    texts_are_compared_by_cosines, texts_are_compared_by_a_classifier_of_pairs,
    what_is_wrong_is_refused, an_answer_is_bounded, what_was_said_is_counted)
