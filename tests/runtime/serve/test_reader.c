/*
 * Goal: a published model's embeddings are sentence-transformers', from its own folder, and what a
 * model does is known by what it is. Method: MiniLM's embeddings of texts, empty, strange and long
 * ones, beside those of tests/golden/make_embeddings.py; tiny models of every kind; texts that are
 * too long; a folder whose modules.json makes an embedding model of one that generates.
 */
#include "runtime/serve/reader.h"

#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "tests/far.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define BUDGET ((int64_t)1 << 30)

static struct err e;
static struct dev *d;
static struct weights *w;
static struct reader *r;

static struct reader_conf conf_of(const char *folder)
{
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    return (struct reader_conf){.weights = w, .dev = d, .t = DTYPE_F32, .budget_bytes = BUDGET};
}

static void open_reader(const char *folder)
{
    const struct reader_conf c = conf_of(folder);
    ck_assert_msg(!reader_open(&c, &r, &e), "%s", e.text);
}

static void close_reader(void)
{
    reader_close(r);
    r = NULL;
    weights_close(w);
    dev_close(d);
}

START_TEST(embeddings_are_those_of_sentence_transformers)
{
    char folder[1024];
    struct safetensors *golden;
    if (!golden_fetch("minilm", folder))
        return;
    json_auto struct json *said = golden_json(GOLDEN "minilm_embeddings.json");
    ck_assert_msg(
        !safetensors_open(GOLDEN "minilm_embeddings.safetensors", &golden, &e), "%s", e.text);
    open_reader(folder);
    const struct reader_facts *f = reader_facts(r);
    ck_assert(f->does == WIRE_DOES_EMBED && f->dim == 384 && f->context == 256 && f->normalized);
    struct encoder_text texts[16];
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    int64_t begins[17] = {0}, n = 0;
    const struct json *tokens = json_first(json_get(said, "tokens"));
    json_each (text, json_get(said, "texts")) {
        const struct reader_text one = {.first = json_string_value(text), .most = f->context};
        ck_assert_msg(!reader_tokens(r, &one, &ids, &types, &e), "%s", e.text);
        begins[++n] = ids.count;
        ck_assert_int_eq(ids.count - begins[n - 1], (int64_t)json_number_value(tokens));
        tokens = json_next(tokens);
    }
    ck_assert_int_eq(types.count, ids.count);
    for (int64_t i = 0; i < n; i++) {
        texts[i] = (struct encoder_text){
            ids.id + begins[i], types.id + begins[i], begins[i + 1] - begins[i]};
        ck_assert(!reader_check(r, &texts[i], &e));
    }
    mem_autofree float *got = mem_array((size_t)(n * f->dim), sizeof *got);
    ck_assert_ptr_nonnull(got);
    ck_assert_msg(!reader_embed(r, texts, n, got, &e), "%s", e.text);
    const float *want = (const float *)safetensors_at(golden, 0)->data;
    double far = 0;
    for (int64_t i = 0; i < n * f->dim; i++)
        far = farther(far, fabs((double)got[i] - (double)want[i]));
    printf("%d texts: at most %.2g from sentence-transformers\n", (int)n, far);
    ck_assert_double_le(far, 1e-5);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    safetensors_close(golden);
    close_reader();
}
END_TEST

START_TEST(what_a_model_is_says_what_it_does)
{
    static const struct {
        const char *folder;
        enum wire_does does;
    } cases[] = {{GOLDEN "tiny-bert", WIRE_DOES_TAG},
        {GOLDEN "tiny-bert-texts", WIRE_DOES_CLASSIFY},
        {GOLDEN "tiny-bert-masked", WIRE_DOES_EMBED}, {GOLDEN "tiny-llama", WIRE_DOES_GENERATE},
        {GOLDEN "tiny-qwen3-moe", WIRE_DOES_GENERATE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum wire_does does;
        ck_assert(!weights_open(cases[i].folder, NULL, &w, &e));
        ck_assert_msg(!reader_does(w, &does, &e), "%s", e.text);
        ck_assert_int_eq(does, cases[i].does);
        weights_close(w);
    }
}
END_TEST

/* Two texts as the tokenizer joins them, and cut texts keep what is put around them. */
START_TEST(texts_become_tokens)
{
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    struct reader_text pair = {.first = "a b", .second = "c"}, one = {.first = "a b c d e f g h"};
    open_reader(GOLDEN "tiny-bert-texts");
    const struct reader_facts *f = reader_facts(r);
    ck_assert(f->does == WIRE_DOES_CLASSIFY && f->labels == 3 && !f->several);
    ck_assert_str_eq(f->names[2], "positive");
    ck_assert(f->parameters > 0 && f->memory_bytes > 0 && f->context == 48);
    ck_assert_int_ge(reader_rows(r), f->context);
    ck_assert_msg(!reader_tokens(r, &pair, &ids, &types, &e), "%s", e.text);
    ck_assert(types.count == ids.count && !types.id[0] && types.id[types.count - 1] == 1);
    int64_t before = ids.count;
    int32_t end = tok_suffix(reader_tok(r))->id[0];
    one.most = 5;
    ck_assert_msg(!reader_tokens(r, &one, &ids, &types, &e), "%s", e.text);
    ck_assert_int_eq(ids.count - before, 5);
    ck_assert_int_eq(ids.id[ids.count - 1], end);
    ck_assert_int_eq(types.count, ids.count);
    one.most = 1; /* not even what is around it */
    ck_assert_int_eq(reader_tokens(r, &one, &ids, &types, &e), -ERR_USER);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    close_reader();
}
END_TEST

START_TEST(too_long_is_refused)
{
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    char text[400];
    for (int i = 0; i < 399; i++)
        text[i] = i % 2 ? ' ' : 'a';
    text[399] = 0;
    const struct reader_text one = {.first = text}, pair = {.first = text, .second = "a"};
    open_reader(GOLDEN "tiny-bert-texts");
    ck_assert_int_eq(reader_tokens(r, &one, &ids, &types, &e), -ERR_USER);
    ck_assert(strstr(e.text, "48") && strstr(e.text, "truncate_prompt_tokens"));
    ck_assert_int_eq(reader_tokens(r, &pair, &ids, &types, &e), -ERR_USER);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    close_reader();
}
END_TEST

/* A Llama with a modules.json embeds by its last token; without one it generates. */
START_TEST(a_model_that_goes_on_with_texts_may_embed)
{
    static const char modules[] = "[{\"path\": \"\", \"type\": \"x.Transformer\"}, "
                                  "{\"path\": \"1_Pooling\", \"type\": \"x.Pooling\"}]";
    char folder[64], path[160];
    float got[64];
    golden_folder(folder);
    bytes_model(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    struct reader_conf c = conf_of(path);
    ck_assert_int_eq(reader_open(&c, &r, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "modules.json"), "%s", e.text);
    weights_close(w);
    dev_close(d);
    snprintf(path, sizeof path, "%s/model/1_Pooling", folder);
    ck_assert(!io_mkdirs(path, 0755, &e));
    snprintf(path, sizeof path, "%s/model/1_Pooling/config.json", folder);
    golden_write(path, "{\"pooling_mode_lasttoken\": true}", 32);
    snprintf(path, sizeof path, "%s/model/modules.json", folder);
    golden_write(path, modules, strlen(modules));
    snprintf(path, sizeof path, "%s/model", folder);
    open_reader(path);
    ck_assert(reader_facts(r)->does == WIRE_DOES_EMBED && !reader_facts(r)->normalized);
    const int32_t ids[] = {10, 20, 30};
    const struct encoder_text text = {ids, NULL, 3};
    ck_assert_msg(!reader_embed(r, &text, 1, got, &e), "%s", e.text);
    ck_assert_int_eq(reader_label(r, &text, 0, got, &e), 0);
    float length = 0;
    for (int i = 0; i < 64; i++)
        length += got[i] * got[i];
    ck_assert_float_gt(fabsf(length - 1), 1e-3f);
    reader_normalize(got, 64);
    length = 0;
    for (int i = 0; i < 64; i++)
        length += got[i] * got[i];
    ck_assert_float_eq_tol(length, 1, 1e-5f);
    close_reader();
    golden_remove(folder);
}
END_TEST

START_TEST(memory_is_refused_with_the_figure)
{
    struct reader_conf c = conf_of(GOLDEN "tiny-bert-texts");
    c.budget_bytes = 1 << 10;
    ck_assert_int_eq(reader_open(&c, &r, &e), -ERR_MEMORY);
    c.budget_bytes = BUDGET;
    c.context = 49;
    ck_assert_int_eq(reader_open(&c, &r, &e), -ERR_USER);
    ck_assert(strstr(e.text, "contextLength"));
    weights_close(w);
    dev_close(d);
}
END_TEST

UNIT_MAIN("reader", embeddings_are_those_of_sentence_transformers,
    what_a_model_is_says_what_it_does, texts_become_tokens, too_long_is_refused,
    a_model_that_goes_on_with_texts_may_embed, memory_is_refused_with_the_figure)
