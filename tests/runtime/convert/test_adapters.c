/*
 * Goal: what a folder of peft's holds is served as it would be merged, whatever its ranks,
 * matrices, scale and types, over models of every family, and over blocks; and what is not served
 * is refused by its name before a model is loaded. Method: random adapters, all beside one model;
 * logits of each are those of a model that it was merged into, and no other's; folders that are
 * wrong in one way; every allocation and read fails once.
 * needs: cuda faults
 */
#include "runtime/convert/adapters.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/convert/merge.h"
#include "runtime/model/engine.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/peft.h"
#include "tests/unit.h"

#include <math.h>

#define T      20
#define PAGES  2
#define BLOCKS 6 /* the family that is a GGUF file */

static struct err e;
static char folder[64];
static const char *const models[] = {"tiny-llama", "tiny-gpt2", "tiny-qwen2", "tiny-qwen3",
    "tiny-mistral", "tiny-qwen3-moe", "blocks"};

/* What is tried beside each model; those without targets have all. */
static const struct {
    const char *name, *targets;
    int rank;
    enum dtype type;
    bool stabilized, dora;
} kinds[] = {
    {"plain", NULL, 3, DTYPE_F32, false, false},
    {"attention/some", "q_proj v_proj", 1, DTYPE_BF16, false, false},
    {"stabilized", "o_proj k_proj", 9, DTYPE_F32, true, false},
    {"lengths", NULL, 4, DTYPE_F32, false, true},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static struct jobspec_serve spec;
static char paths[KINDS][96];
static uint64_t digest; /* of those that were loaded */

static void write_adapters(const struct model_config *c)
{
    static struct jobspec_served_adapter named[KINDS];
    spec = (struct jobspec_serve){.adapters = named, .adapter_count = KINDS};
    for (int i = 0; i < KINDS; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%d", folder, i);
        const struct peft p = {.folder = paths[i],
            .config = c,
            .targets = kinds[i].targets,
            .rank = kinds[i].rank,
            .seed = (uint64_t)i + 1,
            .type = kinds[i].type,
            .stabilized = kinds[i].stabilized,
            .dora = kinds[i].dora};
        peft_write(&p);
        spec.adapters[i] = (struct jobspec_served_adapter){kinds[i].name, paths[i]};
    }
}

static struct weights *open_weights(int model)
{
    char path[128];
    struct weights *w;
    snprintf(path, sizeof path, GOLDEN "%s", models[model]);
    if (model == BLOCKS) {
        buf_auto struct buf file;
        buf_init(&file, 1 << 22);
        gguf_make_tiny(&file);
        snprintf(path, sizeof path, "%s/tiny.gguf", folder);
        golden_write(path, file.data, file.len);
    }
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    return w;
}

struct served {
    struct beside *beside;
    struct model *m;
    struct engine *engine;
};

static void open_engine(struct served *s, struct dev *d, struct weights *w, struct beside *beside,
    const struct model_addition *a)
{
    const struct model_conf c = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .kv_capacity = T,
        .beside = beside,
        .addition = a};
    *s = (struct served){.beside = beside};
    ck_assert_msg(!model_create(d, &c, &s->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(s->m, w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(s->m, &s->engine, &e), "%s", e.text);
}

static void close_engine(struct served *s)
{
    engine_destroy(s->engine);
    model_destroy(s->m);
    beside_destroy(s->beside);
}

static void run(const struct served *s, int adapter, float *logits)
{
    static const int32_t pages[PAGES] = {0, 1};
    int32_t ids[T];
    for (int i = 0; i < T; i++)
        ids[i] = (i * 37 + 11) % 61;
    struct engine_part part = {
        .ids = ids, .count = T, .pages = pages, .adapter = adapter, .logits = logits};
    ck_assert_msg(!engine_run(s->engine, &part, 1, &e), "%s", e.text);
}

/* The root of the mean square of a - b. */
static double distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)n);
}

/* Of blocks less near: their product may round rows, which that of the merged matrix does not. */
static void same_as_merged(struct dev *d, struct weights *w, const struct served *s, int i,
    bool blocks, const float *model)
{
    int64_t v = weights_config(w)->vocab;
    mem_autofree float *got = mem_array((size_t)v, sizeof *got);
    mem_autofree float *want = mem_array((size_t)v, sizeof *want);
    struct tensors all;
    struct model_addition a;
    struct served merged;
    peft_merge(paths[i], weights_config(w), &all, &a);
    open_engine(&merged, d, w, NULL, &a);
    run(&merged, 0, want);
    run(s, i + 1, got);
    double near = distance(got, want, v), far = distance(got, model, v);
    ck_assert_msg(near < far * (blocks ? 0.05 : 1e-4),
        "%s: %g from the merged model's, %g from "
        "the model's",
        kinds[i].name, near, far);
    close_engine(&merged);
    merge_close((struct merge *)(uintptr_t)a.of);
    tensors_done(&all);
}

/* Each beside one model, then that of each. */
static void serve_all(const char *device, int model)
{
    struct dev *d;
    struct served s;
    struct beside *beside;
    golden_folder(folder);
    struct weights *w = open_weights(model);
    write_adapters(weights_config(w));
    ck_assert_msg(!dev_open(device, 0, 1, &d, &e), "%s", e.text);
    ck_assert_msg(!adapters_describe(&spec, weights_config(w), &beside, &e), "%s", e.text);
    ck_assert_int_eq(beside_rank(beside), 9 + weights_config(w)->layers - 1);
    ck_assert_msg(
        !adapters_load(&spec, weights_config(w), w, d, beside, NULL, &digest, &e), "%s", e.text);
    open_engine(&s, d, w, beside, NULL);
    mem_autofree float *own = mem_array((size_t)weights_config(w)->vocab, sizeof *own);
    run(&s, 0, own);
    for (int i = 0; i < KINDS; i++)
        same_as_merged(d, w, &s, i, model == BLOCKS, own);
    close_engine(&s);
    weights_close(w);
    dev_close(d);
    golden_remove(folder);
}

/* _i: the model */
START_TEST(what_is_served_is_what_is_merged)
{
    serve_all("cpu", _i);
}
END_TEST

/* On a GPU without one (tests/cudasim): matrices in F32, and blocks. */
START_TEST(on_a_gpu_too)
{
    serve_all("cuda", _i ? BLOCKS : 0);
}
END_TEST

START_TEST(names_are_found)
{
    struct jobspec_served_adapter named[] = {{"a", "/a"}, {"b/c", "/b"}};
    const struct jobspec_serve two = {.adapters = named, .adapter_count = 2};
    ck_assert_int_eq(adapters_find(&two, "a"), 1);
    ck_assert_int_eq(adapters_find(&two, "b/c"), 2);
    ck_assert_int_eq(adapters_find(&two, "b"), 0);
    ck_assert_int_eq(adapters_find(&(struct jobspec_serve){0}, "a"), 0);
}
END_TEST

static struct weights *weights;

static void refuse(const char *says)
{
    struct beside *b;
    e.text[0] = 0;
    ck_assert(adapters_describe(&spec, weights_config(weights), &b, &e));
    ck_assert_msg(strstr(e.text, says), "%s", e.text);
    bool named = false;
    for (int i = 0; i < spec.adapter_count; i++)
        named |= !strncmp(e.text, spec.adapters[i].name, strlen(spec.adapters[i].name));
    ck_assert_msg(named, "%s", e.text);
}

static void write_config(int i, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_config.json", paths[i]);
    golden_write(path, text, strlen(text));
}

START_TEST(what_is_not_served_is_refused)
{
    struct beside *b;
    struct dev *d;
    golden_folder(folder);
    weights = open_weights(0);
    write_adapters(weights_config(weights));
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!adapters_describe(&spec, weights_config(weights), &b, &e), "%s", e.text);
    const struct peft other = {
        .folder = paths[2], .config = weights_config(weights), .rank = 2, .type = DTYPE_F32};
    peft_write(&other); /* meanwhile */
    ck_assert_int_eq(
        adapters_load(&spec, weights_config(weights), weights, d, b, NULL, &digest, &e), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "stabilized: ") && strstr(e.text, "changed while"), "%s", e.text);
    beside_destroy(b);
    dev_close(d);
    write_config(1, "{\"peft_type\":\"LORA\",\"modules_to_save\":[\"lm_head\"]}");
    refuse("attention/some: ");
    refuse("an adapter with modules_to_save");
    write_config(1, "{\"peft_type\":\"IA3\"}");
    refuse("peft_type \"IA3\"");
    write_config(1, "{\"config\":{\"mh_adapter\":true},\"version\":\"adapters.1.3.0\"}");
    refuse("an adapter behind sub-layers");
    spec.adapters[1].path = "/nowhere";
    refuse("/nowhere/adapter_config.json");
    weights_close(weights);
    golden_remove(folder);
}
END_TEST

static int load_once(void *user)
{
    struct dev *d = user;
    struct beside *b = NULL;
    struct err why = {0};
    int rc = adapters_describe(&spec, weights_config(weights), &b, &why);
    if (!rc)
        rc = adapters_load(&spec, weights_config(weights), weights, d, b, NULL, &digest, &why);
    beside_destroy(b);
    ck_assert_int_eq(rc, -(int)why.code);
    return rc;
}

START_TEST(each_failure_is_told)
{
    struct dev *d;
    golden_folder(folder);
    weights = open_weights(0);
    write_adapters(weights_config(weights));
    spec.adapter_count = 1;
    spec.adapters[0] = spec.adapters[3]; /* with lengths */
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    fault_each(FAULT_MEM, load_once, d);
    fault_each(FAULT_IO, load_once, d);
    dev_close(d);
    weights_close(weights);
    golden_remove(folder);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("adapters");
    TCase *c = tcase_create("adapters");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, what_is_served_is_what_is_merged, 0, BLOCKS + 1);
    tcase_add_loop_test(c, on_a_gpu_too, 0, 2);
    tcase_add_test(c, names_are_found);
    tcase_add_test(c, what_is_not_served_is_refused);
    tcase_add_test(c, each_failure_is_told);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
