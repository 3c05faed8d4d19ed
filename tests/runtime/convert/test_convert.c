/*
 * Goal: a converted model is the same model. Method: the tiny golden models, with a tokenizer of
 * their vocabularies, to GGUF and back: tensors to the bit, configuration, tokens; blocks against
 * their encoder; losses of source and output, which are equal where nothing is rounded; an
 * adapter's sum; what is pruned; the names that llama.cpp has for Mistrals and mixtures; a
 * training's quantized base against the file; the report; what is refused, a stop, and that
 * nothing is left behind then.
 */
#include "runtime/convert/convert.h"

#include "base/io.h"
#include "kernels/quant_encode.h"
#include "runtime/family/weights.h"
#include "runtime/files/gguf.h"
#include "runtime/model/model.h"
#include "runtime/model/prune.h"
#include "runtime/text/tok.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <dirent.h>
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

/* GPT-2's stand-ins for the first `count` bytes, and an end of text. */
static void write_tokenizer(const char *path, int count)
{
    char symbol[4];
    struct jsonw w;
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "pre_tokenizer", '{');
    jsonw_str(&w, "type", "ByteLevel");
    jsonw_bool(&w, "add_prefix_space", false);
    jsonw_close(&w);
    jsonw_open(&w, "added_tokens", '[');
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "id", count - 1);
    jsonw_str(&w, "content", "<|end|>");
    jsonw_bool(&w, "special", true);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_open(&w, "model", '{');
    jsonw_str(&w, "type", "BPE");
    jsonw_open(&w, "vocab", '{');
    for (int i = 0; i < count - 1; i++) {
        bytes_symbol(i, symbol);
        jsonw_int(&w, symbol, i);
    }
    jsonw_close(&w);
    jsonw_open(&w, "merges", '[');
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_close(&w);
    ck_assert(!jsonw_end(&w));
    golden_write(path, b.data, b.len);
}

/* <folder>/<name>: the golden model with a tokenizer. */
static void make_model(const char *name, int vocab)
{
    static const char *const files[] = {
        "config.json", "generation_config.json", "model.safetensors"};
    char from[256], to[256];
    snprintf(to, sizeof to, "%s/%s", folder, name);
    ck_assert(!io_mkdirs(to, 0755, &e));
    for (int i = 0; i < 3; i++) {
        buf_auto struct buf text;
        buf_init(&text, 1 << 24);
        snprintf(from, sizeof from, GOLDEN "%s/%s", name, files[i]);
        snprintf(to, sizeof to, "%s/%s/%s", folder, name, files[i]);
        ck_assert_msg(!io_read_file(from, 1 << 24, &text, &e), "%s", e.text);
        golden_write(to, text.data, text.len);
    }
    snprintf(to, sizeof to, "%s/%s/tokenizer.json", folder, name);
    write_tokenizer(to, vocab);
    snprintf(to, sizeof to, "%s/%s/tokenizer_config.json", folder, name);
    static const char config[] = "{\"eos_token\":\"<|end|>\",\"chat_template\":\"{{ messages }}\"}";
    golden_write(to, config, strlen(config));
    snprintf(to, sizeof to, "%s/text.txt", folder);
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    for (int i = 0; i < 200; i++)
        buf_printf(&text, "%d!", i * 7919 % 1000);
    golden_write(to, text.data, text.len);
}

static int convert(const char *from, const char *to, const char *how)
{
    static struct orders orders;
    struct jobspec spec;
    char text[1024];
    json_auto struct json *v = NULL;
    struct arena *arena = arena_create(1 << 20);
    struct convert_conf c = {.door = &door, .orders = &orders};
    e = (struct err){0};
    snprintf(text, sizeof text,
        "{\"name\":\"j\",\"namespace\":\"n\",\"spec\":{\"precision\":\"FP32\","
        "\"storage\":[{\"name\":\"s\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "\"model\":{\"source\":\"%s/%s\"},\"convert\":{\"output\":\"%s/%s\",%s}}}",
        folder, from, folder, to, how);
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, &spec, &e), "%s", e.text);
    orders.spec = &spec;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &c.dev, &e), 0);
    c.budget_bytes = 1 << 30;
    int rc = convert_run(&c, &e);
    dev_close(c.dev);
    arena_destroy(arena);
    return rc;
}

static void convert_ok(const char *from, const char *to, const char *how)
{
    door_init(&door, -1, NULL);
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

static float *read_tensor(struct weights *w, const struct weights_tensor *t, int64_t *count)
{
    int64_t rows = t->shape[0], columns = t->dims > 1 ? t->shape[1] : 1;
    float *x = mem_array((size_t)(rows * columns), sizeof *x);
    ck_assert_msg(
        !weights_read(w, t->name, rows, columns, 0, rows, DTYPE_F32, x, &e), "%s", e.text);
    *count = rows * columns;
    return x;
}

static void same_tensors(const char *a, const char *b)
{
    struct weights *x = open_model(a), *y = open_model(b);
    ck_assert_int_eq(weights_count(x), weights_count(y));
    for (int i = 0; i < weights_count(x); i++) {
        int64_t n, m;
        const struct weights_tensor *t = weights_at(x, i);
        mem_autofree float *p = read_tensor(x, t, &n);
        mem_autofree float *q = read_tensor(y, weights_find(y, t->name), &m);
        ck_assert_int_eq(n, m);
        ck_assert_msg(!memcmp(p, q, (size_t)n * 4), "%s and %s: %s differs", a, b, t->name);
    }
    weights_close(x);
    weights_close(y);
}

/* All that is computed by, and what ends a text. */
static void same_config(const char *a, const char *b)
{
    struct weights *x = open_model(a), *y = open_model(b);
    struct model_config p = *weights_config(x), q = *weights_config(y);
    for (int32_t id = 0; id < (int32_t)p.vocab; id++)
        ck_assert_msg(model_config_ends(&q, id) >= weights_ends(x, id), "%s: %d", b, id);
    p.bos_id = q.bos_id;
    p.eos_id = q.eos_id;
    p.pad_id = q.pad_id;
    memcpy(p.more_eos, q.more_eos, sizeof p.more_eos);
    p.more_eos_count = q.more_eos_count;
    ck_assert_mem_eq(&p, &q, sizeof p);
    weights_close(x);
    weights_close(y);
}

static void same_tokens(const char *a, const char *b)
{
    static const char text[] = "1001 nights<|end|>, \"and\" one";
    struct weights *w[2] = {open_model(a), open_model(b)};
    struct tok_ids ids[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        struct tok *t = NULL;
        ck_assert_msg(!tok_open(w[i], &t, &e), "%s", e.text);
        ck_assert(!tok_encode(t, text, sizeof text - 1, true, &ids[i], &e));
        tok_close(t);
        weights_close(w[i]);
    }
    ck_assert_int_gt(ids[0].count, 10);
    ck_assert_int_eq(ids[0].count, ids[1].count);
    ck_assert_mem_eq(ids[0].id, ids[1].id, (size_t)ids[0].count * sizeof *ids[0].id);
    tok_ids_done(&ids[0]);
    tok_ids_done(&ids[1]);
}

static const struct {
    const char *name;
    int vocab;
} models[] = {{"tiny-llama", 256}, {"tiny-qwen2", 131}, {"tiny-gpt2", 131}, {"tiny-llama3", 131}};

START_TEST(there_and_back_it_is_the_same_model)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *name = models[i].name;
        make_model(name, models[i].vocab);
        convert_ok(name, "g", "\"format\":\"GGUF\"");
        same_tensors(name, "g/model.gguf");
        same_config(name, "g/model.gguf");
        same_tokens(name, "g/model.gguf");
        convert_ok("g/model.gguf", "h", "\"format\":\"HuggingFace\"");
        same_tensors(name, "h");
        same_config("g/model.gguf", "h");
        same_tokens(name, "h");
        convert_ok("g/model.gguf", "k", "\"format\":\"GGUF\"");
        same_tensors(name, "k/model.gguf");
        same_config("g/model.gguf", "k/model.gguf");
        same_tokens(name, "k/model.gguf");
    }
}
END_TEST

START_TEST(halves_survive_the_way_to_the_bit)
{
    static const char *const types[] = {"BF16", "F16"};
    make_model("tiny-llama", 256);
    for (int i = 0; i < 2; i++) {
        char how[64];
        snprintf(how, sizeof how, "\"format\":\"HuggingFace\",\"quantize\":\"%s\"", types[i]);
        convert_ok("tiny-llama", "half", how);
        convert_ok("half", "g", "\"format\":\"GGUF\"");
        convert_ok("g/model.gguf", "h", "\"format\":\"HuggingFace\"");
        same_tensors("half", "h");
        struct weights *w = open_model("h");
        ck_assert_int_eq(weights_find(w, "model.layers.0.self_attn.q_proj.weight")->type,
            i ? DTYPE_F16 : DTYPE_BF16);
        weights_close(w);
    }
}
END_TEST

/* Each matrix is what its encoder makes of the source's rows, rotary ones in their order too. */
START_TEST(blocks_are_their_encoders)
{
    static const char *const names[] = {"model.layers.1.self_attn.q_proj.weight",
        "model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"};
    make_model("tiny-llama", 256);
    convert_ok("tiny-llama", "g", "\"quantize\":\"Q8_0\"");
    struct weights *x = open_model("tiny-llama"), *y = open_model("g/model.gguf");
    for (int i = 0; i < 3; i++) {
        int64_t n;
        enum dtype type;
        const void *raw;
        mem_autofree float *rows = read_tensor(x, weights_find(x, names[i]), &n);
        mem_autofree uint8_t *want = mem_array((size_t)dtype_bytes(DTYPE_Q8_0, n), 1);
        ck_assert(!weights_raw(y, names[i], &type, &raw, &e));
        ck_assert_int_eq(type, DTYPE_Q8_0);
        quant_encode(type, rows, n, NULL, want);
        ck_assert_mem_eq(raw, want, (size_t)dtype_bytes(type, n));
    }
    weights_close(x);
    weights_close(y);
    convert_ok("g/model.gguf", "k", "\"quantize\":\"None\"");
    same_tensors("g/model.gguf", "k/model.gguf");
    convert_ok("g/model.gguf", "h", "\"format\":\"HuggingFace\"");
    same_tensors("g/model.gguf", "h");
}
END_TEST

static struct json *report_of(const char *output)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/report.json", folder, output);
    return golden_json(path);
}

/* -- a training beside it -- */

/* The base of a training that adapters are trained beside: in blocks, as files have them or as made
   of the source. */
static struct model *open_base(struct dev *d, struct weights *w, bool stored, enum quantize q)
{
    static const char *const targets[] = {"q_proj", NULL};
    struct model *m;
    const struct model_conf c = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 8,
        .lora_rank = 2,
        .lora_alpha = 2,
        .lora_targets = targets,
        .stored = stored ? w : NULL,
        .quantize = q};
    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    return m;
}

START_TEST(a_base_is_quantized_as_a_file_is)
{
    static const char *const names[] = {"tiny-llama", "tiny-gpt2"};
    static const char *const how[] = {"Q8_0", "Q4_0", "Q4_K_M"};
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    make_model("tiny-llama", 256);
    make_model("tiny-gpt2", 131);
    for (int i = 0; i < 6; i++) {
        char conversion[64];
        snprintf(conversion, sizeof conversion, "\"quantize\":\"%s\"", how[i % 3]);
        convert_ok(names[i / 3], "base", conversion);
        struct weights *file = open_model("base/model.gguf"), *source = open_model(names[i / 3]);
        struct model *a = open_base(d, file, true, QUANTIZE_NONE);
        struct model *b = open_base(d, source, false, (enum quantize)(QUANTIZE_Q8_0 + i % 3));
        ck_assert_int_eq(model_memory_bytes(a), model_memory_bytes(b));
        for (int k = 0; k < model_base(a)->count; k++) {
            const struct tensor *p = &model_base(a)->at[k];
            mem_autofree float *x = mem_array((size_t)p->count, 4),
                               *y = mem_array((size_t)p->count, 4);
            ck_assert(x && y && !model_read(a, p->name, false, x, p->count, &e) &&
                !model_read(b, p->name, false, y, p->count, &e));
            ck_assert_msg(!memcmp(x, y, (size_t)p->count * 4), "%s: %s", how[i % 3], p->name);
        }
        model_destroy(a);
        model_destroy(b);
        weights_close(file);
        weights_close(source);
    }
    dev_close(d);
}
END_TEST

START_TEST(the_report_says_what_it_cost)
{
    char how[512];
    make_model("tiny-llama", 256);
    snprintf(how, sizeof how,
        "\"evaluate\":{\"data\":\"%s/text.txt\",\"sequenceLength\":48,\"sequences\":3}", folder);
    convert_ok("tiny-llama", "g", how);
    json_auto struct json *same = report_of("g");
    const struct json *before = json_get(same, "source"), *after = json_get(same, "output");
    ck_assert_int_eq(json_int(json_get(same, "evaluated"), "tokens", 0), 3 * 48);
    ck_assert_double_eq(json_num(before, "loss", 0), json_num(after, "loss", 1));
    ck_assert_double_eq_tol(
        json_num(before, "perplexity", 0), exp(json_num(before, "loss", 0)), 1e-9);
    ck_assert_double_gt(json_num(after, "tokensPerSecond", 0), 0);
    ck_assert_int_eq(json_int(before, "bytes", 0), 90432 * 4);
    snprintf(how, sizeof how,
        "\"evaluate\":{\"data\":\"%s/text.txt\",\"sequenceLength\":48,\"sequences\":3},"
        "\"quantize\":\"Q4_0\"",
        folder);
    convert_ok("tiny-llama", "g", how);
    json_auto struct json *less = report_of("g");
    after = json_get(less, "output");
    ck_assert_str_eq(json_str(less, "quantize", ""), "Q4_0");
    ck_assert_double_ne(json_num(after, "loss", 0), json_num(before, "loss", 0));
    ck_assert_double_eq_tol(json_num(after, "loss", 0), json_num(before, "loss", 0), 0.2);
    ck_assert_int_lt(json_int(after, "bytes", 0), 90432);
}
END_TEST

/* -- what llama.cpp has other names for -- */

static void edit_config(const char *name, const char *from, const char *to)
{
    char path[256];
    buf_auto struct buf text, changed;
    buf_init(&text, 1 << 16);
    buf_init(&changed, 1 << 16);
    snprintf(path, sizeof path, "%s/%s/config.json", folder, name);
    ck_assert(!io_read_file(path, 1 << 16, &text, &e));
    const char *at = strstr(buf_cstr(&text), from);
    ck_assert_msg(at, "%s: no %s", name, from);
    buf_printf(
        &changed, "%.*s%s%s", (int)(at - buf_cstr(&text)), buf_cstr(&text), to, at + strlen(from));
    golden_write(path, changed.data, changed.len);
}

static void check_keys(const struct gguf *g, const char *architecture, int64_t experts)
{
    struct gguf_str is;
    char key[64];
    int64_t n = 0;
    ck_assert(!gguf_string(g, "general.architecture", &is, &e));
    ck_assert_msg(is.len == strlen(architecture) && !memcmp(is.s, architecture, is.len), "%.*s",
        (int)is.len, is.s);
    snprintf(key, sizeof key, "%s.expert_count", architecture);
    ck_assert_int_eq(gguf_has(g, key), experts > 0);
    snprintf(key, sizeof key, "%s.expert_used_count", architecture);
    ck_assert(!experts || (!gguf_int(g, key, 1, 9, &n, &e) && n == 2));
    snprintf(key, sizeof key, "%s.expert_feed_forward_length", architecture);
    ck_assert_int_eq(gguf_has(g, key), !strcmp(architecture, "qwen3moe"));
}

/* The experts of a layer are one tensor, the router is F32. */
static void check_experts(const struct gguf *g, enum dtype type)
{
    int found = 0;
    for (int i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        bool gate = !strcmp(t->name, "blk.1.ffn_gate_exps.weight");
        ck_assert(!gate || (t->dims == 3 && t->shape[0] == 4 && t->shape[2] == 32));
        ck_assert(!gate || t->type == type);
        bool router = !strcmp(t->name, "blk.0.ffn_gate_inp.weight");
        ck_assert(!router || (t->dims == 2 && t->type == DTYPE_F32));
        found += gate + router;
    }
    ck_assert_int_eq(found, 2);
}

/* Nothing is lost, and less is where that is asked for. */
START_TEST(files_have_the_names_of_llama_cpp)
{
    static const struct {
        const char *model, *architecture, *from, *to;
        int64_t experts;
    } rows[] = {{"tiny-mistral", "llama", "\"sliding_window\": 7", "\"sliding_window\": null", 0},
        {"tiny-mixtral", "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2", 4},
        {"tiny-qwen3-moe", "qwen3moe", "\"norm_topk_prob\": false", "\"norm_topk_prob\": true", 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char how[512];
        make_model(rows[i].model, 131);
        edit_config(rows[i].model, rows[i].from, rows[i].to);
        for (int quantized = 0; quantized < 2; quantized++) {
            snprintf(how, sizeof how,
                "\"evaluate\":{\"data\":\"%s/text.txt\",\"sequenceLength\":48,\"sequences\":2}%s",
                folder, quantized ? ",\"quantize\":\"Q8_0\"" : "");
            convert_ok(rows[i].model, "g", how);
            struct weights *w = open_model("g/model.gguf");
            check_keys(weights_gguf(w), rows[i].architecture, rows[i].experts);
            if (rows[i].experts)
                check_experts(weights_gguf(w), quantized ? DTYPE_Q8_0 : DTYPE_F32);
            weights_close(w);
            json_auto struct json *report = report_of("g");
            double was = json_num(json_get(report, "source"), "loss", 0);
            double is = json_num(json_get(report, "output"), "loss", 1);
            ck_assert_double_lt(fabs(was - is), 0.02);
            ck_assert_int_eq(was != is, quantized);
            if (!quantized)
                same_tensors(rows[i].model, "g/model.gguf");
        }
        convert_ok("g/model.gguf", "h", "\"format\":\"HuggingFace\"");
        same_tensors("g/model.gguf", "h");
        convert_ok("g/model.gguf", "k", "\"quantize\":\"None\"");
        same_tensors("g/model.gguf", "k/model.gguf");
    }
}
END_TEST

/* What the run left in the folder beside the models. */
static int count_entries(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void refuse(const char *from, const char *to, const char *how, int code, const char *says)
{
    int entries = count_entries();
    door_init(&door, -1, NULL);
    int rc = convert(from, to, how);
    ck_assert_msg(rc == -code && strstr(e.text, says), "%d: %s", rc, e.text);
    ck_assert_int_eq(count_entries(), entries);
}

START_TEST(what_cannot_be_is_refused_and_leaves_nothing)
{
    char path[256];
    make_model("tiny-llama", 256);
    refuse("nothing", "g", "\"format\":\"GGUF\"", ERR_DATA, "No such file");
    snprintf(path, sizeof path, "%s/mine", folder);
    ck_assert(!io_mkdirs(path, 0755, &e));
    snprintf(path, sizeof path, "%s/mine/letter.txt", folder);
    golden_write(path, "dear", 4);
    refuse("tiny-llama", "mine", "\"format\":\"GGUF\"", ERR_USER,
        "mine holds letter.txt, which llmjob did not write");
    make_model("tiny-mistral", 131);
    refuse("tiny-mistral", "g", "\"format\":\"GGUF\"", ERR_USER,
        "spec.convert.format: a mistral model whose attention sees the last 7 of 64 tokens");
    make_model("tiny-qwen3-moe", 131);
    refuse("tiny-qwen3-moe", "g", "\"format\":\"GGUF\"", ERR_USER,
        "spec.convert.format: a qwen3_moe model with norm_topk_prob false");
    snprintf(path, sizeof path, "%s/tiny-llama/tokenizer.json", folder);
    static const char spaces[] =
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Digits\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    golden_write(path, spaces, strlen(spaces));
    refuse("tiny-llama", "g", "\"format\":\"GGUF\"", ERR_DATA,
        "its normalizer and pre-tokenizer are none that GGUF files have a name for");
    static const char unigram[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0]]}}";
    golden_write(path, unigram, strlen(unigram));
    refuse("tiny-llama", "g", "\"format\":\"GGUF\"", ERR_DATA,
        "a GGUF file is written with a BPE or a WordPiece only, and this is a Unigram");
}
END_TEST

START_TEST(a_stop_leaves_nothing)
{
    int entries;
    make_model("tiny-llama", 256);
    entries = count_entries();
    door_init(&door, -1, NULL);
    atomic_store(&door.stop, true);
    ck_assert_int_eq(convert("tiny-llama", "g", "\"format\":\"GGUF\""), -ERR_DRAINED);
    ck_assert_int_eq(count_entries(), entries);
    convert_ok("tiny-llama", "g", "\"format\":\"GGUF\"");
}
END_TEST

/* What is least is least of the sum, which stands in g. */
static void pruned_after_merging(void)
{
    static const char name[] = "model.layers.0.self_attn.q_proj.weight";
    char how[512];
    int64_t n, m;
    snprintf(how, sizeof how,
        "\"format\":\"HuggingFace\",\"mergeAdapter\":\"%s/adapter\",\"prune\":{\"pattern\":"
        "\"2:4\"}",
        folder);
    convert_ok("tiny-llama", "both", how);
    struct weights *x = open_model("g/model.gguf"), *y = open_model("both");
    const struct weights_tensor *t = weights_find(y, name);
    mem_autofree float *p = read_tensor(x, weights_find(x, name), &n), *q = read_tensor(y, t, &m);
    prune_rows(p, t->shape[0], t->shape[1], SPARSITY_2_4, 0.5, NULL);
    ck_assert_mem_eq(p, q, (size_t)n * sizeof *p);
    weights_close(x);
    weights_close(y);
}

/* Of rank 1: what is added to an element is a product of two numbers. */
START_TEST(an_adapter_is_merged)
{
    char path[256], how[512];
    static const char config[] = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":2}";
    static const char header[] =
        "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F32\","
        "\"shape\":[1,64],\"data_offsets\":[0,256]},"
        "\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\":{\"dtype\":\"F32\","
        "\"shape\":[64,1],\"data_offsets\":[256,512]}}";
    uint64_t size = sizeof header - 1;
    float factors[128];
    buf_auto struct buf file;
    buf_init(&file, 1 << 16);
    make_model("tiny-llama", 256);
    for (int i = 0; i < 128; i++)
        factors[i] = (float)(i % 64) / 64;
    buf_add(&file, &size, 8);
    buf_add(&file, header, size);
    buf_add(&file, factors, sizeof factors);
    snprintf(path, sizeof path, "%s/adapter", folder);
    ck_assert(!io_mkdirs(path, 0755, &e));
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", folder);
    golden_write(path, file.data, file.len);
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", folder);
    golden_write(path, config, strlen(config));
    snprintf(how, sizeof how, "\"mergeAdapter\":\"%s/adapter\"", folder);
    convert_ok("tiny-llama", "g", how);
    struct weights *x = open_model("tiny-llama"), *y = open_model("g/model.gguf");
    for (int i = 0; i < weights_count(x); i++) {
        int64_t n, m;
        const struct weights_tensor *t = weights_at(x, i);
        mem_autofree float *p = read_tensor(x, t, &n), *q = read_tensor(y, t, &m);
        bool changed = !strcmp(t->name, "model.layers.0.self_attn.q_proj.weight");
        for (int64_t k = 0; k < n; k++) {
            float more = changed ? 2 * factors[k % 64] * factors[64 + k / 64] : 0;
            ck_assert(fabsf(q[k] - (p[k] + more)) <= (changed ? 1e-6f : 0));
        }
    }
    weights_close(x);
    weights_close(y);
    pruned_after_merging();
}
END_TEST

static const char *const pruned_kinds[] = {"q_proj", "o_proj", "gate_proj", "down_proj"};

static struct weights_tensor const *matrix(struct weights *w, int kind)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.1.%s.%s.weight", kind < 2 ? "self_attn" : "mlp",
        pruned_kinds[kind]);
    return weights_find(w, name);
}

/* Of every four, two; what is left is the source's to the bit, and so is all that is no matrix of a
   layer. Through the types that hold zeros. */
START_TEST(two_of_every_four_are_zero)
{
    static const char *const how[] = {"\"format\":\"HuggingFace\"",
        "\"format\":\"HuggingFace\",\"quantize\":\"BF16\"", "\"quantize\":\"Q8_0\"",
        "\"quantize\":\"Q4_0\""};
    make_model("tiny-llama", 256);
    for (size_t h = 0; h < sizeof how / sizeof *how; h++) {
        char text[256];
        snprintf(text, sizeof text, "%s,\"prune\":{\"pattern\":\"2:4\"}", how[h]);
        convert_ok("tiny-llama", "p", text);
        struct weights *x = open_model("tiny-llama"), *y = open_model(h < 2 ? "p" : "p/model.gguf");
        for (int i = 0; i < 4; i++) {
            int64_t n, m;
            mem_autofree float *p = read_tensor(x, matrix(x, i), &n);
            mem_autofree float *q = read_tensor(y, matrix(y, i), &m);
            for (int64_t k = 0; k < n; k += 4) {
                int zeros = 0;
                for (int64_t j = k; j < k + 4; j++) {
                    zeros += q[j] == 0;
                    ck_assert(q[j] == 0 || h || q[j] == p[j]);
                }
                ck_assert_msg(h < 2 ? zeros == 2 : zeros >= 2, "%s: %d", how[h], zeros);
            }
        }
        weights_close(x);
        weights_close(y);
    }
}
END_TEST

/* By the row, of magnitude alone and of magnitude times what comes in: with a text other zeros. The
   embedding stays as it is. The report counts them. */
START_TEST(a_share_of_each_row_is_zero)
{
    char text[512];
    make_model("tiny-llama", 256);
    convert_ok("tiny-llama", "p",
        "\"format\":\"HuggingFace\",\"prune\":{\"pattern\":\"Unstructured\",\"target\":0.25}");
    snprintf(text, sizeof text,
        "\"format\":\"HuggingFace\",\"calibration\":\"%s/text.txt\",\"prune\":{\"pattern\":"
        "\"Unstructured\",\"target\":0.25}",
        folder);
    convert_ok("tiny-llama", "q", text);
    struct weights *x = open_model("p"), *y = open_model("q");
    int64_t n, m, others = 0;
    const struct weights_tensor *t = matrix(x, 3);
    mem_autofree float *p = read_tensor(x, t, &n), *q = read_tensor(y, t, &m);
    for (int64_t row = 0; row < t->shape[0]; row++) {
        int64_t zeros[2] = {0};
        for (int64_t k = row * t->shape[1]; k < (row + 1) * t->shape[1]; k++) {
            zeros[0] += p[k] == 0;
            zeros[1] += q[k] == 0;
            others += (p[k] == 0) != (q[k] == 0);
        }
        ck_assert_int_eq(zeros[0], t->shape[1] / 4);
        ck_assert_int_eq(zeros[1], t->shape[1] / 4);
    }
    ck_assert_int_gt(others, n / 50);
    weights_close(x);
    weights_close(y);
    json_auto struct json *report = report_of("q");
    ck_assert_str_eq(json_str(report, "prune", ""), "Unstructured");
    ck_assert_double_eq(json_num(json_get(report, "output"), "sparsity", 0), 0.25);
    ck_assert_double_eq_tol(json_num(json_get(report, "source"), "sparsity", 1), 0, 1e-3);
}
END_TEST

int main(void)
{
    const struct unit u = {.name = "convert", .timeout_s = 60, .setup = setup, .done = teardown};
    return unit_run_with(&u,
        (const TTest *const[]){there_and_back_it_is_the_same_model,
            halves_survive_the_way_to_the_bit, blocks_are_their_encoders,
            a_base_is_quantized_as_a_file_is, files_have_the_names_of_llama_cpp,
            the_report_says_what_it_cost, what_cannot_be_is_refused_and_leaves_nothing,
            a_stop_leaves_nothing, an_adapter_is_merged, two_of_every_four_are_zero,
            a_share_of_each_row_is_zero, NULL});
}
