/*
 * Goal: a model that reads whole texts is the same model in a GGUF file, as llama.cpp has it, and
 * what such a file cannot say is refused by name. Method: the tiny BERTs to GGUF and back: tensors
 * to the bit, configuration, labels, tokens of texts and pairs, how embeddings are made; the file's
 * names and keys; hidden states of files in blocks beside the folder's.
 */
#include "runtime/convert/convert.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/family/pooling.h"
#include "runtime/family/weights.h"
#include "runtime/model/encoder.h"
#include "runtime/text/tok.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

static char folder[64];
static struct err e;
static struct door door;

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static void put(const char *model, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", folder, model, name);
    golden_write(path, text, strlen(text));
}

/* <folder>/<name>: the golden model; class: another one than its own, or NULL. */
static void make_model(const char *name, const char *class)
{
    static const char *const files[] = {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char from[256], to[256];
    snprintf(to, sizeof to, "%s/%s/1_Pooling", folder, name);
    ck_assert(!io_mkdirs(to, 0755, &e));
    for (int i = 0; i < 4; i++) {
        buf_auto struct buf text;
        buf_init(&text, 1 << 24);
        snprintf(from, sizeof from, GOLDEN "%s/%s", name, files[i]);
        snprintf(to, sizeof to, "%s/%s/%s", folder, name, files[i]);
        ck_assert_msg(!io_read_file(from, 1 << 24, &text, &e), "%s", e.text);
        char *at = !i && class ? strstr(buf_cstr(&text), "\"Bert") : NULL;
        if (at) { /* shorter than the one that stands there */
            memset(at, ' ', strcspn(at, "\n"));
            memcpy(at, class, strlen(class));
        }
        golden_write(to, text.data, text.len);
    }
}

/* A body alone, whose embeddings are the first token's. */
static void make_body(void)
{
    char path[256];
    make_model("tiny-bert-masked", "\"BertModel\"");
    snprintf(path, sizeof path, "%s/tiny-bert-masked", folder);
    const struct pooling p = {true, POOLING_FIRST, true, 24};
    ck_assert_msg(!pooling_write(path, &p, 32, &e), "%s", e.text);
}

static int convert(const char *from, const char *to, const char *how)
{
    static struct orders orders;
    struct jobspec spec;
    char text[1024];
    json_auto struct json *v = NULL;
    struct arena *arena = arena_create(1 << 20);
    struct convert_conf c = {.door = &door, .orders = &orders, .budget_bytes = 1 << 30};
    e = (struct err){0};
    door_init(&door, -1, NULL);
    snprintf(text, sizeof text,
        "{\"name\":\"j\",\"namespace\":\"n\",\"spec\":{\"precision\":\"FP32\","
        "\"storage\":[{\"name\":\"s\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "\"model\":{\"source\":\"%s/%s\"},\"convert\":{\"output\":\"%s/%s\",%s}}}",
        folder, from, folder, to, how);
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, &spec, &e), "%s", e.text);
    orders.spec = &spec;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &c.dev, &e), 0);
    int rc = convert_run(&c, &e);
    dev_close(c.dev);
    arena_destroy(arena);
    return rc;
}

static void convert_ok(const char *from, const char *to, const char *how)
{
    int rc = convert(from, to, how);
    ck_assert_msg(!rc, "%s to %s: %s", from, to, e.text);
}

static struct weights *open_model(const char *name)
{
    struct weights *w = NULL;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    return w;
}

/* -- the same model -- */

static void same_tensors(struct weights *x, struct weights *y)
{
    ck_assert_int_eq(weights_count(x), weights_count(y));
    for (int i = 0; i < weights_count(x); i++) {
        const struct weights_tensor *t = weights_at(x, i);
        int64_t rows = t->shape[0], columns = t->dims > 1 ? t->shape[1] : 1;
        size_t n = (size_t)(rows * columns);
        mem_autofree float *p = mem_array(n, 4), *q = mem_array(n, 4);
        ck_assert(!weights_read(x, t->name, rows, columns, 0, rows, DTYPE_F32, p, &e));
        ck_assert(!weights_read(y, t->name, rows, columns, 0, rows, DTYPE_F32, q, &e));
        ck_assert_msg(!memcmp(p, q, n * 4), "%s differs", t->name);
    }
}

static void same_tokens(struct weights *x, struct weights *y)
{
    static const char text[] = "Un\u00e9 c[SEP]at b\u4f60, [UNK] abab";
    struct weights *const w[] = {x, y};
    struct tok_ids ids[2] = {{0}}, types[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        struct tok *t = NULL;
        bool cut;
        struct tok_texts two = {{text, "b a"}, {sizeof text - 1, 3}, 48};
        ck_assert_msg(!tok_open(w[i], &t, &e), "%s", e.text);
        ck_assert(!tok_encode_pair(t, &two, &ids[i], &types[i], &cut, &e));
        ck_assert(!tok_encode(t, text, sizeof text - 1, true, &ids[i], &e));
        ck_assert(tok_pad(t) == 0 && tok_mask(t) == 4);
        tok_close(t);
    }
    ck_assert_int_gt(ids[0].count, 20);
    ck_assert_int_eq(ids[0].count, ids[1].count);
    ck_assert_mem_eq(ids[0].id, ids[1].id, (size_t)ids[0].count * 4);
    ck_assert_int_eq(types[0].count, types[1].count);
    ck_assert_mem_eq(types[0].id, types[1].id, (size_t)types[0].count * 4);
    for (int i = 0; i < 2; i++) {
        tok_ids_done(&ids[i]);
        tok_ids_done(&types[i]);
    }
}

static void same_model(const char *a, const char *b)
{
    struct weights *x = open_model(a), *y = open_model(b);
    ck_assert_mem_eq(weights_config(x), weights_config(y), sizeof(struct model_config));
    same_tensors(x, y);
    same_tokens(x, y);
    const char *const *p = weights_labels(x), *const *q = weights_labels(y);
    ck_assert_int_eq(!p, !q);
    for (int64_t i = 0; p && i < weights_config(x)->labels; i++)
        ck_assert_str_eq(p[i], q[i]);
    weights_close(x);
    weights_close(y);
}

/* How embeddings are made, as who serves it finds it. */
static struct pooling pooling_found(const char *name, int64_t *tokens)
{
    struct weights *w = open_model(name);
    struct model_conf c = {.t = DTYPE_F32};
    struct pooling p;
    ck_assert_msg(!encoder_conf(w, 0, &c, &p, &e), "%s", e.text);
    ck_assert(c.encodes);
    *tokens = c.kv_capacity;
    weights_close(w);
    return p;
}

START_TEST(there_and_back_it_is_the_same_model)
{
    static const char *const outputs[] = {"tiny-bert-masked", "g/model.gguf", "back"};
    int64_t tokens;
    make_model("tiny-bert-texts", NULL);
    convert_ok("tiny-bert-texts", "t", "\"format\":\"GGUF\"");
    convert_ok("t/model.gguf", "t-back", "\"format\":\"HuggingFace\"");
    same_model("tiny-bert-texts", "t/model.gguf");
    same_model("tiny-bert-texts", "t-back");
    make_body();
    convert_ok("tiny-bert-masked", "g", "\"format\":\"GGUF\",\"quantize\":\"F32\"");
    convert_ok("g/model.gguf", "back", "\"format\":\"HuggingFace\"");
    for (int i = 0; i < 3; i++) {
        struct pooling p = pooling_found(outputs[i], &tokens);
        ck_assert_msg(p.said && p.kind == POOLING_FIRST && p.normalized, "%s", outputs[i]);
        ck_assert_int_eq(tokens, 24);
        same_model("tiny-bert-masked", outputs[i]);
    }
}
END_TEST

/* -- the file -- */

static double number_of(const struct gguf *g, const char *key)
{
    for (int64_t i = 0; i < gguf_key_count(g); i++) {
        struct gguf_str name = gguf_key_name(g, i);
        double v = -1;
        if (name.len == strlen(key) && !memcmp(name.s, key, name.len) && gguf_key_number(g, i, &v))
            return v;
    }
    return -1;
}

START_TEST(the_file_has_the_names_of_llama_cpp)
{
    static const struct {
        const char *key;
        double value;
    } keys[] = {{"bert.attention.causal", 0}, {"bert.pooling_type", 4}, {"bert.context_length", 48},
        {"bert.embedding_length", 32}, {"bert.block_count", 2}, {"bert.feed_forward_length", 64},
        {"bert.attention.head_count", 4}, {"tokenizer.ggml.token_type_count", 2},
        {"tokenizer.ggml.padding_token_id", 0}, {"tokenizer.ggml.unknown_token_id", 1},
        {"tokenizer.ggml.bos_token_id", 2}, {"tokenizer.ggml.cls_token_id", 2},
        {"tokenizer.ggml.seperator_token_id", 3}, {"tokenizer.ggml.mask_token_id", 4},
        {"tokenizer.ggml.normalizer.lowercase", 1}};
    static const char *const names[] = {"token_embd.weight", "token_types.weight",
        "position_embd.weight", "token_embd_norm.bias", "blk.1.attn_q.bias",
        "blk.0.attn_output.weight", "blk.0.attn_output_norm.weight", "blk.1.ffn_up.weight",
        "blk.1.ffn_down.bias", "blk.0.layer_output_norm.bias", "cls.weight", "cls.output.bias"};
    make_model("tiny-bert-texts", NULL);
    convert_ok("tiny-bert-texts", "t", "\"format\":\"GGUF\"");
    struct weights *w = open_model("t/model.gguf");
    const struct gguf *g = weights_gguf(w);
    mem_autofree struct gguf_str *tokens = NULL, *labels = NULL;
    int64_t count;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(number_of(g, keys[i].key) == keys[i].value, "%s: %g", keys[i].key,
            number_of(g, keys[i].key));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int k = 0;
        while (k < gguf_tensor_count(g) && strcmp(gguf_tensor_at(g, k)->name, names[i]))
            k++;
        ck_assert_msg(k < gguf_tensor_count(g), "%s", names[i]);
    }
    ck_assert(!gguf_strings(g, "bert.classifier.output_labels", &labels, &count, &e) && count == 3);
    ck_assert(labels[2].len == 8 && !memcmp(labels[2].s, "positive", 8));
    ck_assert(!gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &count, &e) && count == 96);
    ck_assert(tokens[2].len == 5 && !memcmp(tokens[2].s, "[CLS]", 5));
    for (int64_t i = 5; i < count; i++)
        ck_assert(tokens[i].len && memcmp(tokens[i].s, "##", 2) != 0);
    weights_close(w);
}
END_TEST

/* -- blocks -- */

static void embed(const char *name, float out[32])
{
    static const int32_t ids[] = {2, 11, 12, 13, 14, 15, 20, 3};
    const struct encoder_text text = {ids, NULL, 8};
    struct model_conf c = {.t = DTYPE_F32};
    struct pooling p;
    struct dev *d = NULL;
    struct model *m = NULL;
    struct encoder *g = NULL;
    struct weights *w = open_model(name);
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    ck_assert_msg(!encoder_conf(w, 0, &c, &p, &e), "%s", e.text);
    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    ck_assert_msg(!encoder_create(m, &g, &e), "%s", e.text);
    ck_assert_msg(!encoder_embed(g, &text, 1, p.kind, out, &e), "%s", e.text);
    encoder_destroy(g);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}

START_TEST(files_in_blocks_embed_nearly_the_same)
{
    static const struct {
        const char *how;
        double least; /* cosine */
    } rows[] = {{"F32", 1}, {"BF16", 0.999}, {"F16", 0.99999}, {"Q8_0", 0.999}, {"Q4_0", 0.9},
        {"Q4_K_M", 0.95}};
    float want[32], got[32];
    make_body();
    embed("tiny-bert-masked", want);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char how[64], to[32];
        double ab = 0, aa = 0, bb = 0;
        snprintf(how, sizeof how, "\"format\":\"GGUF\",\"quantize\":\"%s\"", rows[i].how);
        convert_ok("tiny-bert-masked", rows[i].how, how);
        snprintf(to, sizeof to, "%s/model.gguf", rows[i].how);
        embed(to, got);
        for (int k = 0; k < 32; k++) {
            ab += (double)want[k] * got[k];
            aa += (double)want[k] * want[k];
            bb += (double)got[k] * got[k];
        }
        double cosine = ab / sqrt(aa * bb);
        printf("%s: cosine %.6f\n", rows[i].how, cosine);
        ck_assert(
            i ? cosine >= rows[i].least && cosine < 1 - 1e-12 : !memcmp(want, got, sizeof want));
    }
}
END_TEST

/* -- what cannot be -- */

static void refuse(const char *from, const char *how, int code, const char *says)
{
    char path[256];
    int rc = convert(from, "refused", how);
    ck_assert_msg(rc == -code && strstr(e.text, says), "%d: %s", rc, e.text);
    snprintf(path, sizeof path, "%s/refused", folder);
    ck_assert(!io_exists(path));
}

static void edit_tokenizer(const char *from, const char *to)
{
    char path[256];
    buf_auto struct buf text, edited;
    buf_init(&text, 1 << 20);
    buf_init(&edited, 1 << 20);
    snprintf(path, sizeof path, "%s/tiny-bert-masked/tokenizer.json", folder);
    ck_assert(!io_read_file(path, 1 << 20, &text, &e));
    char *at = strstr(buf_cstr(&text), from);
    ck_assert_ptr_nonnull(at);
    buf_add(&edited, text.data, (size_t)(at - text.data));
    buf_str(&edited, to);
    buf_str(&edited, at + strlen(from));
    golden_write(path, edited.data, edited.len);
}

START_TEST(what_a_file_cannot_say_is_refused)
{
    static const char gguf[] = "\"format\":\"GGUF\"";
    make_model("tiny-bert", NULL);
    refuse("tiny-bert", gguf, ERR_USER, "spec.convert.format: a bert model with labels of tokens");
    make_model("tiny-bert-masked", NULL);
    refuse("tiny-bert-masked", gguf, ERR_USER,
        "spec.convert.format: a bert model with a head of masked tokens");
    make_body();
    refuse("tiny-bert-masked",
        "\"format\":\"GGUF\",\"evaluate\":{\"data\":\"/tmp/t\",\"sequenceLength\":8,"
        "\"sequences\":1}",
        ERR_USER, "spec.convert.evaluate: is for models that go on with texts");
    refuse("tiny-bert-masked",
        "\"format\":\"GGUF\",\"quantize\":\"Q4_0\",\"calibration\":\"/tmp/t\"", ERR_USER,
        "spec.convert.calibration: is for");
    refuse("tiny-bert-masked", "\"format\":\"HuggingFace\",\"mergeAdapter\":\"/tmp/t\"", ERR_USER,
        "spec.convert.mergeAdapter: is for");
    put("tiny-bert-masked", "tokenizer_config.json", "{\"cls_token\":\"[CLS]\"}");
    edit_tokenizer("\"special\": true\n    }\n  ]", "\"special\": false\n    }\n  ]");
    refuse("tiny-bert-masked", gguf, ERR_DATA,
        "token \"[MASK]\": one that is added and not special has no place");
    edit_tokenizer("\"BertNormalizer\"", "\"NFC\"");
    refuse("tiny-bert-masked", gguf, ERR_DATA, "are not BERT's");
    put("tiny-bert-masked", "modules.json",
        "[{\"type\":\"x.Transformer\",\"path\":\"\"},{\"type\":\"x.Pooling\",\"path\":\"1_Pooling\""
        "}]");
    refuse("tiny-bert-masked", gguf, ERR_USER, "has no Normalize");
    convert_ok("tiny-bert-masked", "refused", "\"format\":\"HuggingFace\"");
}
END_TEST

int main(void)
{
    const struct unit u = {.name = "encoders", .timeout_s = 60, .setup = setup, .done = teardown};
    return unit_run_with(&u,
        (const TTest *const[]){there_and_back_it_is_the_same_model,
            the_file_has_the_names_of_llama_cpp, files_in_blocks_embed_nearly_the_same,
            what_a_file_cannot_say_is_refused, NULL});
}
