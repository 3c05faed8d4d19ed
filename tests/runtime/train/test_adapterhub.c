/*
 * Goal: an adapter behind sub-layers is saved as AdapterHub's `adapters` saves it, and what is
 * read back computes the same; what cannot be computed is refused by name. Method: the golden
 * adapters of the tiny Llama, GPT-2 and BERT: names, shapes and values of the files, and their
 * configurations; logits of the engine with the folder beside the loss of the training's own pass;
 * a folder whose configuration or tensors are changed; every failure in turn.
 * needs: faults
 */
#include "runtime/train/adapterhub.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/model/engine.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;
static struct safetensors *golden;
static char folder[64];

static void setup(void)
{
    golden_folder(folder);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_adapters.safetensors", &golden, &e), "%s", e.text);
}

static void done(void)
{
    safetensors_close(golden);
    golden_remove(folder);
}

struct subject {
    struct trained t;
    struct model_conf c;
    struct jobspec spec;
};

/* The golden adapter, exported to the folder. */
static void save(struct subject *s, const char *model, enum adapter_kind kind, int reduction,
    enum adapter_activation activation)
{
    static const char *const kinds[] = {"Houlsby", "Pfeiffer"};
    static const char *const labels[] = {"a", "b", "c", "d", "e"};
    char path[96], prefix[64];
    snprintf(path, sizeof path, GOLDEN "tiny-%s", model);
    snprintf(prefix, sizeof prefix, "%s.%s.", model, kinds[kind]);
    s->c = trained_conf(&s->t, path, 3, 16, 0);
    s->c.adapter_size = s->c.config.dim / reduction;
    s->c.adapter_kind = kind;
    s->c.adapter_activation = activation;
    trained_open(&s->t, &s->c);
    trained_set(&s->t, golden, prefix, kind == ADAPTER_HOULSBY ? 16 : 8);
    s->spec =
        (struct jobspec){.name = "my-job", .train = {.adapter = {kind, reduction, activation}}};
    s->spec.model.source = "/models/base";
    const struct export x = {.model = s->t.m,
        .config = &s->c.config,
        .labels = s->c.config.labels ? labels : NULL,
        .spec = &s->spec};
    ck_assert_msg(!adapterhub_write(&x, folder, &e), "%s", e.text);
}

static struct json *read_json(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return golden_json(path);
}

/* The file's tensor is the golden one. */
static void check_tensor(const struct safetensors *f, const char *name, const char *from)
{
    const struct safetensors_tensor *is = safetensors_find(f, name),
                                    *want = safetensors_find(golden, from);
    ck_assert_msg(is && want && is->bytes == want->bytes && is->dims == want->dims, "%s", name);
    ck_assert_mem_eq(is->shape, want->shape, sizeof is->shape);
    ck_assert_mem_eq(is->data, want->data, (size_t)is->bytes);
}

static struct safetensors *open_file(const char *name)
{
    struct safetensors *f;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_msg(!safetensors_open(path, &f, &e), "%s", e.text);
    return f;
}

START_TEST(names_are_adapterhubs)
{
    struct subject s;
    save(&s, "llama", ADAPTER_HOULSBY, 16, ADAPTER_SILU);
    json_auto struct json *v = read_json("adapter_config.json");
    const struct json *c = json_get(v, "config");
    ck_assert(adapterhub_is(v));
    ck_assert_str_eq(json_str(v, "name", ""), "my-job");
    ck_assert_str_eq(json_str(v, "model_name", ""), "/models/base");
    ck_assert_str_eq(json_str(v, "model_class", ""), "LlamaForCausalLM");
    ck_assert_str_eq(json_str(v, "model_type", ""), "llama");
    ck_assert_int_eq(json_int(v, "hidden_size", 0), 64);
    ck_assert_int_eq(strncmp(json_str(v, "version", ""), "adapters.", 9), 0);
    ck_assert(json_bool(c, "mh_adapter", false) && json_bool(c, "output_adapter", false));
    ck_assert(!json_bool(c, "original_ln_before", true));
    ck_assert_str_eq(json_str(c, "non_linearity", ""), "swish");
    ck_assert_int_eq(json_int(c, "reduction_factor", 0), 16);
    struct safetensors *f = open_file("adapter.safetensors");
    ck_assert_int_eq(safetensors_count(f), 16);
    check_tensor(f, "model.layers.1.attention_adapters.adapters.my-job.adapter_down.0.weight",
        "llama.Houlsby.model.layers.1.self_attn.o_proj.adapter_down.weight");
    check_tensor(f, "model.layers.0.output_adapters.adapters.my-job.adapter_up.bias",
        "llama.Houlsby.model.layers.0.mlp.down_proj.adapter_up.bias");
    safetensors_close(f);
    trained_close(&s.t);
}
END_TEST

START_TEST(a_classifier_stands_beside)
{
    struct subject s;
    save(&s, "bert", ADAPTER_PFEIFFER, 8, ADAPTER_SILU);
    json_auto struct json *v = read_json("adapter_config.json"),
                          *head = read_json("head_config.json");
    const struct json *c = json_get(v, "config");
    ck_assert(!json_bool(c, "mh_adapter", true) && json_bool(c, "original_ln_before", false));
    ck_assert_str_eq(json_str(head, "model_class", ""), "BertForTokenClassification");
    ck_assert_int_eq(json_int(head, "num_labels", 0), 5);
    ck_assert_int_eq(json_int(json_get(head, "label2id"), "d", 0), 3);
    ck_assert(json_is_null(json_get(head, "config")) && json_is_null(json_get(head, "name")));
    struct safetensors *f = open_file("adapter.safetensors");
    ck_assert_int_eq(safetensors_count(f), 8);
    check_tensor(f, "bert.encoder.layer.1.output.adapters.my-job.adapter_down.0.bias",
        "bert.Pfeiffer.model.layers.1.mlp.down_proj.adapter_down.bias");
    safetensors_close(f);
    f = open_file("model_head.safetensors");
    ck_assert_int_eq(safetensors_count(f), 2);
    const struct safetensors_tensor *w = safetensors_find(f, "classifier.weight");
    float values[5 * 32];
    trained_read(&s.t, "classifier.weight", values, 5 * 32);
    ck_assert(w && w->bytes == sizeof values && !memcmp(w->data, values, sizeof values));
    safetensors_close(f);
    struct adapterhub *a = NULL;
    ck_assert_msg(!adapterhub_open(folder, &s.c.config, &a, &e) && a, "%s", e.text);
    adapterhub_close(a);
    trained_close(&s.t);
}
END_TEST

/* The mean of -log p over a batch of the pass and of the engine. */
static void check_engine(
    const char *model, enum adapter_kind kind, int reduction, enum adapter_activation activation)
{
    struct subject s;
    struct adapterhub *a;
    struct engine *engine;
    struct model *m;
    int32_t ids[17];
    double want, is = 0;
    save(&s, model, kind, reduction, activation);
    for (int i = 0; i < 17; i++)
        ids[i] = i * 37 % 100;
    const struct pass_input in = {.ids = ids, .targets = ids + 1};
    ck_assert_msg(!pass_step(s.t.pass, 1, &in, 1, false, &want, &e), "%s", e.text);
    ck_assert_msg(!adapterhub_open(folder, &s.c.config, &a, &e) && a, "%s", e.text);
    struct model_conf c = {.config = s.c.config, .t = DTYPE_F32, .kv_capacity = 17};
    adapterhub_serve(a, &c);
    ck_assert_msg(!model_create(s.t.d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, s.t.w, &e), "%s", e.text);
    adapterhub_close(a);
    ck_assert_msg(!engine_create(m, &engine, &e), "%s", e.text);
    int64_t vocab = c.config.vocab;
    mem_autofree float *logits = mem_array((size_t)(16 * vocab), sizeof *logits);
    ck_assert_msg(!engine_extend(engine, ids, 9, 0, true, logits, &e), "%s", e.text);
    for (int i = 9; i < 16; i++) /* and one by one */
        ck_assert_msg(
            !engine_extend(engine, ids + i, 1, i, true, logits + i * vocab, &e), "%s", e.text);
    for (int i = 0; i < 16; i++) {
        double sum = 0;
        for (int64_t k = 0; k < vocab; k++)
            sum += exp((double)logits[i * vocab + k]);
        is += log(sum) - (double)logits[i * vocab + ids[i + 1]];
    }
    ck_assert_msg(fabs(is / want - 1) < 1e-5, "%s: %.9g, %.9g", model, is, want);
    engine_destroy(engine);
    model_destroy(m);
    trained_close(&s.t);
    golden_remove(folder);
    golden_folder(folder);
}

START_TEST(the_engine_computes_what_was_trained)
{
    check_engine("llama", ADAPTER_HOULSBY, 16, ADAPTER_SILU);
    check_engine("llama", ADAPTER_PFEIFFER, 16, ADAPTER_RELU);
    check_engine("gpt2", ADAPTER_HOULSBY, 8, ADAPTER_RELU);
    check_engine("gpt2", ADAPTER_PFEIFFER, 8, ADAPTER_GELU);
}
END_TEST

/* -- what is refused -- */

static void put_config(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    golden_write(path, text, strlen(text));
}

static void refuse(const struct model_config *c, const char *config, const char *says)
{
    char text[512];
    struct adapterhub *a = NULL;
    snprintf(text, sizeof text, "{\"name\":\"my-job\",\"config\":{%s}}", config);
    put_config(text);
    ck_assert_msg(adapterhub_open(folder, c, &a, &e) == -ERR_DATA, "%s was taken", config);
    ck_assert_msg(strstr(e.text, says) && strstr(e.text, folder), "%s", e.text);
}

START_TEST(what_is_not_computed_is_refused)
{
#define HOULSBY "\"mh_adapter\":true,\"output_adapter\":true,\"non_linearity\":\"relu\""
    struct subject s;
    struct adapterhub *a = NULL;
    struct model_config other;
    save(&s, "llama", ADAPTER_HOULSBY, 16, ADAPTER_SILU);
    const struct model_config *c = &s.c.config;
    refuse(c, HOULSBY ",\"original_ln_before\":true", "neither Houlsby's nor Pfeiffer's");
    refuse(c, HOULSBY ",\"ln_after\":true", "an adapter whose ln_after is not false");
    refuse(c, HOULSBY ",\"is_parallel\":true", "is_parallel");
    refuse(c, HOULSBY ",\"phm_layer\":1", "phm_layer");
    refuse(c, HOULSBY ",\"inv_adapter\":\"nice\"", "inv_adapter");
    refuse(c, HOULSBY ",\"architecture\":\"lora\"", "architecture");
    refuse(c, HOULSBY ",\"leave_out\":[1]", "leave_out");
    refuse(c, HOULSBY ",\"scaling\":\"learned\"", "scaling");
    refuse(c, "\"mh_adapter\":true,\"non_linearity\":\"tanh\"", "non_linearity \"tanh\"");
    refuse(c, "\"output_adapter\":true,\"original_ln_before\":true,\"non_linearity\":\"relu\"",
        "16 tensors, and this llama model's adapter has 8");
    other = *c;
    other.layers = 3;
    refuse(&other, HOULSBY, "no model.layers.2.self_attn.o_proj.adapter_down.weight");
    other = *c;
    other.dim = 32;
    refuse(&other, HOULSBY, "does not fit the model");
    put_config("{\"name\":\"other\",\"config\":{" HOULSBY "}}");
    ck_assert_int_eq(adapterhub_open(folder, c, &a, &e), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "no adapter \"other\" of this llama model"), "%s", e.text);
    put_config("{\"peft_type\":\"LORA\"}");
    ck_assert(!adapterhub_open(folder, c, &a, &e) && !a);
    char path[128];
    snprintf(path, sizeof path, "%s/adapter.safetensors", folder);
    ck_assert(!io_remove(path, &e));
    refuse(c, HOULSBY, "no adapter.safetensors; save_adapter writes it with use_safetensors=True");
    trained_close(&s.t);
}
END_TEST

static struct model_config config;

static int open_once(void *user)
{
    struct adapterhub *a = NULL;
    (void)user;
    int rc = adapterhub_open(folder, &config, &a, &e);
    adapterhub_close(a);
    return rc;
}

START_TEST(each_failure_is_told)
{
    struct subject s;
    save(&s, "llama", ADAPTER_HOULSBY, 16, ADAPTER_SILU);
    config = s.c.config;
    fault_each(FAULT_MEM, open_once, NULL);
    fault_each(FAULT_IO, open_once, NULL);
    trained_close(&s.t);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"adapterhub", 120, setup, done},
        (const TTest *const[]){names_are_adapterhubs, a_classifier_stands_beside,
            the_engine_computes_what_was_trained, what_is_not_computed_is_refused,
            each_failure_is_told, NULL});
}
