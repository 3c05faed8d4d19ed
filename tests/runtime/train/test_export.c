/*
 * Goal: the exported folder holds the merged model and peft's adapter, and opens again as a model.
 * Method: the tiny Llama with peft's own factors (golden): the folder's weights against W + scale B
 * A by plain loops, the adapter's tensors against the factors, its configuration field by field.
 * The tiny GPT-2, whose q and v are parts of one module: the folder's merged module against what
 * peft would make of the written adapter, and a folder of a full training against the file that
 * transformers wrote.
 */
#include "runtime/train/export.h"

#include "base/mem.h"
#include "runtime/convert/merge.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/lora.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;

static void load_factors(struct dev *d, struct model *m, struct safetensors *s)
{
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];
        const struct safetensors_tensor *t = safetensors_find(s, p->name);

        ck_assert_ptr_nonnull(t);
        dev_upload(d, model_master(m) + p->offset, t->data, (size_t)t->bytes);
    }
}

static const float *factor(struct safetensors *s, const char *stem, const char *which)
{
    char name[192];

    snprintf(name, sizeof name, "%s.lora_%s.weight", stem, which);
    return (const float *)safetensors_find(s, name)->data;
}

/* v_proj of layer 1: (32, 64), rank 4, scale 2 */
static void check_merged(struct weights *before, struct weights *after, struct safetensors *s)
{
    static const char stem[] = "model.layers.1.self_attn.v_proj";
    static float w[32][64], got[32][64];
    const float *a = factor(s, stem, "A"), *b = factor(s, stem, "B");
    char name[64];

    snprintf(name, sizeof name, "%s.weight", stem);
    ck_assert(!weights_read(before, name, 32, 64, 0, 32, DTYPE_F32, w, &e));
    ck_assert_msg(!weights_read(after, name, 32, 64, 0, 32, DTYPE_F32, got, &e), "%s", e.text);
    for (int o = 0; o < 32; o++)
        for (int i = 0; i < 64; i++) {
            double want = (double)w[o][i];

            for (int r = 0; r < 4; r++)
                want += 2 * (double)b[o * 4 + r] * (double)a[r * 64 + i];
            ck_assert_double_eq_tol((double)got[o][i], want, 1e-6);
        }
    /* k_proj was no target */
    ck_assert(!weights_read(
        before, "model.layers.1.self_attn.k_proj.weight", 32, 64, 0, 32, DTYPE_F32, w, &e));
    ck_assert(!weights_read(
        after, "model.layers.1.self_attn.k_proj.weight", 32, 64, 0, 32, DTYPE_F32, got, &e));
    ck_assert_mem_eq(w, got, sizeof w);
}

static void check_adapter(const char *folder, struct safetensors *s)
{
    json_auto struct json *v = NULL;
    struct safetensors *f;
    char path[256];

    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", folder);
    ck_assert_msg(!safetensors_open(path, &f, &e), "%s", e.text);
    ck_assert_int_eq(safetensors_count(f), 8);
    for (int i = 0; i < 8; i++) {
        const struct safetensors_tensor *got = safetensors_at(f, i), *want;

        ck_assert(!strncmp(got->name, "base_model.model.", 17));
        want = safetensors_find(s, got->name + 17);
        ck_assert_ptr_nonnull(want);
        ck_assert_int_eq(want->shape[0], got->shape[0]);
        ck_assert_int_eq(want->bytes, got->bytes);
        ck_assert_mem_eq(want->data, got->data, (size_t)got->bytes);
    }
    safetensors_close(f);
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", folder);
    ck_assert_msg(!json_read_file(path, 1 << 16, &v, &e), "%s", e.text);
    ck_assert_str_eq(json_str(v, "peft_type", ""), "LORA");
    ck_assert_str_eq(json_str(v, "task_type", ""), "CAUSAL_LM");
    ck_assert_int_eq(json_int(v, "r", 0), 4);
    ck_assert_int_eq(json_int(v, "lora_alpha", 0), 8);
    ck_assert(json_num(v, "lora_dropout", 0) == 0.25);
    ck_assert_int_eq((int)json_count(json_get(v, "target_modules")), 2);
    ck_assert_str_eq(json_string_value(json_first(json_get(v, "target_modules"))), "q_proj");
    ck_assert(!json_bool(v, "fan_in_fan_out", true));
}

static int export_all(struct model *m, const struct model_config *c, const char *const *labels,
    struct weights *from, const struct jobspec *spec)
{
    const struct export x = {.model = m,
        .config = c,
        .labels = labels,
        .tokenizer_from = from,
        .spec = spec,
        .steps = 10,
        .store = DTYPE_F32};
    return export_model(&x, &e);
}

START_TEST(folder_holds_the_merged_model_and_the_adapter)
{
    static const char *const targets[] = {"q_proj", "v_proj", NULL};
    struct model_conf c = {.t = DTYPE_F32,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 4,
        .lora_rank = 4,
        .lora_alpha = 8,
        .lora_targets = targets};
    struct jobspec spec = {.name = "t",
        .namespace_ = "default",
        .train = {.method = METHOD_LORA, .lora = {4, 8, 0.25, {"q_proj", "v_proj"}, 2}}};
    struct weights *before, *after;
    struct safetensors *s;
    char folder[64], model[128], output[128];
    struct model *m;
    struct dev *d;

    golden_folder(folder);
    bytes_model(folder);
    snprintf(model, sizeof model, "%s/model", folder);
    snprintf(output, sizeof output, "%s/output", folder);
    spec.model.source = model;
    spec.train.output = output;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!weights_open(model, NULL, &before, &e), "%s", e.text);
    c.config = *weights_config(before);
    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert(!model_load(m, before, &e));
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_lora.safetensors", &s, &e), "%s", e.text);
    load_factors(d, m, s);
    ck_assert_msg(!export_all(m, &c.config, NULL, before, &spec), "%s", e.text);
    ck_assert_msg(!weights_open(output, NULL, &after, &e), "%s", e.text);
    ck_assert_int_eq(weights_config(after)->dim, 64);
    check_merged(before, after, s);
    check_adapter(output, s);
    safetensors_close(s);
    weights_close(before);
    weights_close(after);
    model_destroy(m);
    dev_close(d);
    golden_remove(folder);
}
END_TEST

/* -- other families -- */

struct subject {
    struct dev *d;
    struct weights *before;
    struct model *m;
    struct model_conf c;
    char folder[64], output[128];
};

static void subject_open(
    struct subject *g, const char *model, const char *const *targets, bool stabilized)
{
    g->c = (struct model_conf){.t = DTYPE_F32,
        .lora_adaptive = g->c.lora_adaptive,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 4,
        .lora_rank = targets ? 2 : 0,
        .lora_alpha = 3,
        .lora_rank_stabilized = stabilized,
        .lora_targets = targets,
        .seed = 5};
    golden_folder(g->folder);
    snprintf(g->output, sizeof g->output, "%s/output", g->folder);
    ck_assert(!dev_open("cpu", 0, 1, &g->d, &e));
    ck_assert_msg(!weights_open(model, NULL, &g->before, &e), "%s", e.text);
    g->c.config = *weights_config(g->before);
    ck_assert_msg(!model_create(g->d, &g->c, &g->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(g->m, g->before, &e), "%s", e.text);
}

static void subject_close(struct subject *g)
{
    weights_close(g->before);
    model_destroy(g->m);
    dev_close(g->d);
    golden_remove(g->folder);
}

static struct safetensors *open_file(const char *folder, const char *name)
{
    struct safetensors *s;
    char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_msg(!safetensors_open(path, &s, &e), "%s", e.text);
    return s;
}

/* The tensors to the bit under their names; and a description of the same model. */
static void check_export(const char *model)
{
    struct jobspec spec = {.name = "t", .namespace_ = "default", .train = {.method = METHOD_FULL}};
    struct safetensors *from, *to;
    struct weights *after;
    struct subject g = {.d = NULL};

    subject_open(&g, model, NULL, false);
    spec.model.source = model;
    spec.train.output = g.output;
    ck_assert_msg(!export_all(g.m, &g.c.config, NULL, g.before, &spec), "%s", e.text);
    ck_assert_msg(!weights_open(g.output, NULL, &after, &e), "%s", e.text);
    ck_assert_mem_eq(weights_config(after), &g.c.config, sizeof g.c.config);
    weights_close(after);
    from = open_file(model, "model.safetensors");
    to = open_file(g.output, "model.safetensors");
    ck_assert_int_eq(safetensors_count(from), safetensors_count(to));
    for (int i = 0; i < safetensors_count(from); i++) {
        const struct safetensors_tensor *t = safetensors_at(from, i);
        const struct safetensors_tensor *u = safetensors_find(to, t->name);

        ck_assert_msg(u && u->bytes == t->bytes, "%s", t->name);
        ck_assert_msg(!memcmp(u->data, t->data, (size_t)t->bytes), "%s", t->name);
    }
    safetensors_close(from);
    safetensors_close(to);
    subject_close(&g);
}

START_TEST(families_are_exported_as_they_came)
{
    check_export(GOLDEN "tiny-gpt2");
    check_export(GOLDEN "tiny-qwen2");
    check_export(GOLDEN "tiny-qwen3");
    check_export(GOLDEN "tiny-mistral");
    check_export(GOLDEN "tiny-llama3");
    check_export(GOLDEN "tiny-qwen3-moe");
    check_export(GOLDEN "tiny-mixtral");
}
END_TEST

/* Kind: files of the user that a job replaces. */
START_TEST(a_folder_that_holds_something_else_is_not_replaced)
{
    struct jobspec spec = {.name = "t", .namespace_ = "default", .train = {.method = METHOD_FULL}};
    char path[256];
    struct subject g = {.d = NULL};

    subject_open(&g, GOLDEN "tiny-gpt2", NULL, false);
    spec.model.source = GOLDEN "tiny-gpt2";
    spec.train.output = g.output;
    snprintf(path, sizeof path, "%s/checkpoints", g.output);
    ck_assert(!io_mkdirs(path, 0755, &e));
    ck_assert_int_eq(export_all(g.m, &g.c.config, NULL, g.before, &spec), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "holds checkpoints"));
    ck_assert(io_exists(path));
    subject_close(&g);
}
END_TEST

/* B's of this size, so that the adapter does something. */
static void fill_factors(struct subject *g)
{
    int64_t n = model_trainable(g->m);
    mem_autofree float *x = mem_array((size_t)n, sizeof(float));

    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i * 37 % 101 - 50) / 500;
    dev_upload(g->d, model_master(g->m), x, (size_t)n * 4);
}

/* W (in, out) + alpha/r (B A)^T, as peft merges a Conv1D, is what the folder holds. */
static void check_module(struct subject *g, struct safetensors *adapter, struct safetensors *merged,
    const char *module, int64_t rank)
{
    struct safetensors *original = open_file(GOLDEN "tiny-gpt2", "model.safetensors");
    const struct safetensors_tensor *a, *b, *w, *got;
    char name[192];

    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    a = safetensors_find(adapter, name);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    b = safetensors_find(adapter, name);
    snprintf(name, sizeof name, "%s.weight", module);
    w = safetensors_find(original, name);
    got = safetensors_find(merged, name);
    ck_assert_msg(a && b && w && got, "%s", module);
    ck_assert(a->shape[0] == rank && a->shape[1] == w->shape[0]);
    ck_assert(b->shape[0] == w->shape[1] && b->shape[1] == rank);
    for (int64_t i = 0; i < w->shape[0]; i++)
        for (int64_t o = 0; o < w->shape[1]; o++) {
            double want = (double)((const float *)w->data)[i * w->shape[1] + o];

            for (int64_t r = 0; r < rank; r++)
                want += (double)lora_scale(&g->c) * (double)((const float *)b->data)[o * rank + r] *
                    (double)((const float *)a->data)[r * a->shape[1] + i];
            ck_assert_double_eq_tol(
                (double)((const float *)got->data)[i * w->shape[1] + o], want, 1e-6);
        }
    safetensors_close(original);
}

/* What the folder's adapter adds to the original, by convert's reading of it, is what the folder's
   model has; of some modules one value stays, of one none. */
static void check_adaptive(const char *model)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};
    struct jobspec spec = {.name = "t",
        .namespace_ = "default",
        .train = {.method = METHOD_LORA,
            .lora = {.rank = 1,
                .alpha = 3,
                .targets = {"q_proj", "v_proj", "down_proj"},
                .target_count = 3,
                .adalora = {.initial_rank = 2, .interval = 1}}}};
    struct merge *merge;
    struct weights *after;
    struct subject g = {.c.lora_adaptive = true};
    char path[256];
    int changed = 0;
    subject_open(&g, model, targets, false);
    fill_factors(&g);
    for (int i = 0; i < model_trained(g.m)->count; i++) {
        const struct tensor *p = &model_trained(g.m)->at[i];
        int64_t gone = p->layer == 0 && p->role == TENSOR_Q ? 2 : p->role == TENSOR_DOWN ? 0 : 1;
        if (p->part == TENSOR_LORA_E && gone)
            dev_zero(g.d, model_master(g.m) + p->offset, (size_t)gone * sizeof(float));
    }
    spec.model.source = model;
    spec.train.output = g.output;
    ck_assert_msg(!export_all(g.m, &g.c.config, NULL, g.before, &spec), "%s", e.text);
    snprintf(path, sizeof path, "%s/adapter", g.output);
    ck_assert_msg(!merge_open(path, &g.c.config, model_base(g.m), &merge, &e), "%s", e.text);
    ck_assert_msg(!weights_open(g.output, NULL, &after, &e), "%s", e.text);
    for (int i = 0; i < model_base(g.m)->count; i++) {
        const struct tensor *p = &model_base(g.m)->at[i];
        mem_autofree float *want = mem_array((size_t)p->count, sizeof *want);
        mem_autofree float *got = mem_array((size_t)p->count, sizeof *got);
        ck_assert(!weights_read(
            g.before, p->name, p->shape[0], p->shape[1], 0, p->shape[0], DTYPE_F32, want, &e));
        ck_assert(!weights_read(
            after, p->name, p->shape[0], p->shape[1], 0, p->shape[0], DTYPE_F32, got, &e));
        bool differs = memcmp(want, got, (size_t)p->count * sizeof *want);
        if (merge_changes(merge, p))
            merge_add(merge, p, 0, p->shape[0], want);
        for (int64_t k = 0; k < p->count; k++)
            ck_assert_float_eq_tol(want[k], got[k], 1e-6f);
        changed += differs;
    }
    ck_assert_int_eq(changed, 5); /* of two layers' three, less the one without values */
    merge_close(merge);
    weights_close(after);
    subject_close(&g);
}

START_TEST(chosen_ranks_are_exported)
{
    check_adaptive(GOLDEN "tiny-llama");
    check_adaptive(GOLDEN "tiny-gpt2");
}
END_TEST

/* Scaled by alpha / rank, or by alpha / sqrt(rank), which peft takes from a pattern's numbers. */
static void check_adapters_of_gpt2(bool stabilized)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};
    struct jobspec spec = {.name = "t",
        .namespace_ = "default",
        .train = {.method = METHOD_LORA,
            .lora = {2, 3, 0, {"q_proj", "v_proj", "down_proj"}, 3, stabilized}}};
    struct safetensors *adapter, *merged;
    char path[256];
    struct subject g = {.d = NULL};

    subject_open(&g, GOLDEN "tiny-gpt2", targets, stabilized);
    ck_assert_double_eq_tol((double)lora_scale(&g.c), stabilized ? 3 / sqrt(2) : 1.5, 1e-6);
    fill_factors(&g);
    spec.model.source = GOLDEN "tiny-gpt2";
    spec.train.output = g.output;
    ck_assert_msg(!export_all(g.m, &g.c.config, NULL, g.before, &spec), "%s", e.text);
    adapter = open_file(g.output, "adapter/adapter_model.safetensors");
    merged = open_file(g.output, "model.safetensors");
    ck_assert_int_eq(safetensors_count(adapter), 2 * 2 * 2);
    check_module(&g, adapter, merged, "transformer.h.1.attn.c_attn", 4);
    check_module(&g, adapter, merged, "transformer.h.0.mlp.c_proj", 2);
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", g.output);
    json_auto struct json *v = golden_json(path);
    const struct json *list = json_get(v, "target_modules");
    ck_assert_int_eq((int)json_count(list), 2);
    ck_assert_str_eq(json_string_value(json_first(list)), "attn.c_attn");
    ck_assert_str_eq(json_string_value(json_next(json_first(list))), "mlp.c_proj");
    ck_assert(json_bool(v, "fan_in_fan_out", false));
    ck_assert_int_eq(json_int(json_get(v, "rank_pattern"), "attn.c_attn", 0), 4);
    double alpha = json_num(json_get(v, "alpha_pattern"), "attn.c_attn", 0);
    ck_assert_double_eq_tol(
        stabilized ? alpha / sqrt(4) : alpha / 4, (double)lora_scale(&g.c), 1e-6);
    ck_assert(json_bool(v, "use_rslora", false) == stabilized);
    safetensors_close(adapter);
    safetensors_close(merged);
    subject_close(&g);
}

START_TEST(adapters_of_gpt2_go_by_its_modules)
{
    check_adapters_of_gpt2(false);
    check_adapters_of_gpt2(true);
}
END_TEST

/* "dense" ends the names of three modules of a layer, "output.dense" of two: those that are adapted
   are named in full. The classifier is peft's module to save. */
START_TEST(adapters_of_bert_go_by_its_modules)
{
    static const char *const targets[] = {"q_proj", "down_proj", NULL};
    static const char *const labels[] = {"B-A", "B-B", "I-A", "I-B", "O"};
    static const char *const modules[] = {
        "query", "bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.output.dense"};
    struct jobspec spec = {.name = "t",
        .namespace_ = "default",
        .train = {.method = METHOD_LORA, .lora = {2, 3, 0, {"q_proj", "down_proj"}, 2}}};
    char path[256];
    struct subject g = {.d = NULL};
    int i = 0;

    subject_open(&g, GOLDEN "tiny-bert", targets, false);
    fill_factors(&g);
    spec.model.source = GOLDEN "tiny-bert";
    spec.train.output = g.output;
    ck_assert_msg(!export_all(g.m, &g.c.config, labels, NULL, &spec), "%s", e.text);
    struct safetensors *adapter = open_file(g.output, "adapter/adapter_model.safetensors");
    struct safetensors *merged = open_file(g.output, "model.safetensors");
    ck_assert_int_eq(safetensors_count(adapter), 2 * 2 * 2 + 2);
    ck_assert_ptr_nonnull(safetensors_find(
        adapter, "base_model.model.bert.encoder.layer.1.attention.self.query.lora_A.weight"));
    const struct safetensors_tensor *saved =
        safetensors_find(adapter, "base_model.model.classifier.weight");
    const struct safetensors_tensor *whole = safetensors_find(merged, "classifier.weight");
    ck_assert(saved && whole && saved->bytes == 5 * 32 * 4 && whole->bytes == saved->bytes);
    ck_assert_mem_eq(saved->data, whole->data, (size_t)saved->bytes);
    ck_assert_ptr_nonnull(safetensors_find(adapter, "base_model.model.classifier.bias"));
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", g.output);
    json_auto struct json *v = golden_json(path);
    ck_assert_str_eq(json_str(v, "task_type", ""), "TOKEN_CLS");
    ck_assert_str_eq(json_string_value(json_first(json_get(v, "modules_to_save"))), "classifier");
    json_each (name, json_get(v, "target_modules"))
        ck_assert_str_eq(json_string_value(name), modules[i++]);
    ck_assert_int_eq(i, 3);
    snprintf(path, sizeof path, "%s/config.json", g.output);
    json_auto struct json *config = golden_json(path);
    ck_assert_str_eq(json_str(json_get(config, "id2label"), "1", ""), "B-B");
    safetensors_close(adapter);
    safetensors_close(merged);
    subject_close(&g);
}
END_TEST

/* The pooler is in the model, and, frozen, in no adapter. */
START_TEST(adapters_below_labels_of_texts_are_pefts)
{
    static const char *const targets[] = {"q_proj", NULL};
    static const char *const labels[] = {"bad", "fair", "good"},
                             *const saved[] = {"classifier", "score"};
    struct jobspec spec = {.name = "t",
        .namespace_ = "default",
        .train = {.method = METHOD_LORA, .lora = {2, 3, 0, {"q_proj"}, 1}}};
    char path[256];
    struct subject g = {.d = NULL};
    int i = 0;
    subject_open(&g, GOLDEN "tiny-bert-texts", targets, false);
    fill_factors(&g);
    spec.model.source = GOLDEN "tiny-bert-texts";
    spec.train.output = g.output;
    ck_assert_msg(!export_all(g.m, &g.c.config, labels, NULL, &spec), "%s", e.text);
    struct safetensors *adapter = open_file(g.output, "adapter/adapter_model.safetensors");
    struct safetensors *merged = open_file(g.output, "model.safetensors");
    ck_assert_int_eq(safetensors_count(adapter), 2 * 2 + 2);
    ck_assert_ptr_nonnull(safetensors_find(adapter, "base_model.model.classifier.bias"));
    ck_assert_ptr_nonnull(safetensors_find(merged, "bert.pooler.dense.weight"));
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", g.output);
    json_auto struct json *v = golden_json(path);
    ck_assert_str_eq(json_str(v, "task_type", ""), "SEQ_CLS");
    json_each (name, json_get(v, "modules_to_save"))
        ck_assert_str_eq(json_string_value(name), saved[i++]);
    ck_assert_int_eq(i, 2);
    snprintf(path, sizeof path, "%s/config.json", g.output);
    json_auto struct json *config = golden_json(path);
    ck_assert_str_eq(json_string_value(json_first(json_get(config, "architectures"))),
        "BertForSequenceClassification");
    ck_assert_str_eq(json_str(json_get(config, "id2label"), "1", ""), "fair");
    safetensors_close(adapter);
    safetensors_close(merged);
    subject_close(&g);
}
END_TEST

UNIT_MAIN("export", folder_holds_the_merged_model_and_the_adapter,
    families_are_exported_as_they_came, a_folder_that_holds_something_else_is_not_replaced,
    adapters_of_gpt2_go_by_its_modules, adapters_of_bert_go_by_its_modules,
    adapters_below_labels_of_texts_are_pefts, chosen_ranks_are_exported)
