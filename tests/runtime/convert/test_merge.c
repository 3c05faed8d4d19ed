/*
 * Goal: a merged adapter is W + s B A, as peft has it, for whatever modules the family has, and
 * what is not merged is refused by its name. Method: adapters with random factors written here, of
 * the tiny Llama and of the tiny GPT-2, whose q, k and v are one module, with a pattern and with
 * rank-stabilised scale, in F32 and BF16; each sum against plain loops in double; one with
 * magnitudes (DoRA) against peft's merge_and_unload; configurations with one more key.
 * needs: faults
 */
#include "runtime/convert/merge.h"

#include "base/io.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define RANK    3
#define PATTERN 6 /* alpha of c_attn */

static char folder[64];
static struct err e;
static struct model_config config;
static struct tensors all;

static float factor(int64_t i)
{
    return bf16_to_f32(f32_to_bf16((float)((i * 2654435761u) % 1000) / 1000 - 0.5f));
}

struct factor { /* of a module */
    const char *name;
    int64_t rows, columns;
};

/* Number k of factor f is factor(1000 f + k). */
static void write_adapter(const struct factor *list, int count, enum dtype type, const char *more)
{
    struct safetensors_entry entries[8] = {0};
    char path[128];
    buf_auto struct buf file, text;
    buf_init(&file, 1 << 20);
    buf_init(&text, 1 << 16);
    for (int f = 0; f < count; f++) {
        entries[f].type = type;
        entries[f].dims = 2;
        entries[f].shape[0] = list[f].rows;
        entries[f].shape[1] = list[f].columns;
        entries[f].bytes = dtype_bytes(type, list[f].rows * list[f].columns);
        snprintf(
            entries[f].name, sizeof entries[f].name, "base_model.model.%s.weight", list[f].name);
    }
    ck_assert(!safetensors_header(entries, count, NULL, 0, &file, &e));
    for (int f = 0; f < count; f++)
        for (int64_t k = 0; k < list[f].rows * list[f].columns; k++) {
            float x = factor(1000 * f + k);
            uint16_t h = f32_to_bf16(x);
            buf_add(&file, type == DTYPE_F32 ? (void *)&x : (void *)&h, type == DTYPE_F32 ? 4 : 2);
        }
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    golden_write(path, file.data, file.len);
    buf_printf(&text, "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":4,\"bias\":\"none\",%s}",
        RANK, more);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    golden_write(path, text.data, text.len);
}

static const struct factor llama[] = {
    {"model.layers.1.self_attn.q_proj.lora_A", RANK, 64},
    {"model.layers.1.self_attn.q_proj.lora_B", 64, RANK},
    {"model.layers.0.mlp.down_proj.lora_A", RANK, 128},
    {"model.layers.0.mlp.down_proj.lora_B", 64, RANK},
};
static const struct factor gpt2[] = {
    {"transformer.h.1.attn.c_attn.lora_A", RANK, 32},
    {"transformer.h.1.attn.c_attn.lora_B", 96, RANK},
};

static void open_model(const char *name)
{
    golden_folder(folder);
    char path[128];
    snprintf(path, sizeof path, GOLDEN "%s/config.json", name);
    ck_assert_msg(!model_config_read(path, &config, &e), "%s", e.text);
    ck_assert_msg(!tensors_create(&config, &all, &e), "%s", e.text);
}

static void close_model(void)
{
    tensors_done(&all);
    golden_remove(folder);
}

/* What is added to a tensor of ones is scale * B[first + r] A, of factors a and a + 1. */
static void check_added(const struct merge *m, const char *name, int a, int64_t first, double scale)
{
    const struct tensor *t = tensors_find(&all, name);
    int64_t columns = t->shape[1];
    mem_autofree float *w = mem_array((size_t)t->count, sizeof *w);
    ck_assert(merge_changes(m, t));
    for (int64_t i = 0; i < t->count; i++)
        w[i] = 1;
    for (int64_t row = 0; row < t->shape[0]; row += 8) /* some rows at a time */
        merge_add(m, t, row, t->shape[0] - row < 8 ? t->shape[0] - row : 8, w + row * columns);
    for (int64_t r = 0; r < t->shape[0]; r++)
        for (int64_t i = 0; i < columns; i++) {
            double want = 1;
            for (int64_t k = 0; k < RANK; k++)
                want += scale * (double)factor(1000 * (a + 1) + (first + r) * RANK + k) *
                    (double)factor(1000 * a + k * columns + i);
            ck_assert_double_eq_tol((double)w[r * columns + i], want, 1e-6);
        }
}

START_TEST(an_adapter_is_added_to_its_matrices)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    open_model("tiny-llama");
    for (int k = 0; k < 2; k++) {
        struct merge *m = NULL;
        write_adapter(llama, 4, types[k], k ? "\"use_rslora\":true" : "\"modules_to_save\":null");
        ck_assert_msg(!merge_open(folder, &config, &all, &m, &e), "%s", e.text);
        double scale = k ? 4 / sqrt(RANK) : 4.0 / RANK;
        check_added(m, "model.layers.1.self_attn.q_proj.weight", 0, 0, scale);
        check_added(m, "model.layers.0.mlp.down_proj.weight", 2, 0, scale);
        ck_assert(!merge_changes(m, tensors_find(&all, "model.layers.0.self_attn.q_proj.weight")));
        ck_assert(!merge_changes(m, tensors_find(&all, "model.norm.weight")));
        merge_close(m);
    }
    ck_assert(!merge_changes(NULL, tensors_find(&all, "model.norm.weight")));
    close_model();
}
END_TEST

START_TEST(parts_of_one_module_share_its_factors)
{
    struct merge *m = NULL;
    open_model("tiny-gpt2");
    write_adapter(gpt2, 2, DTYPE_F32, "\"alpha_pattern\":{\"attn.c_attn\":6}");
    ck_assert_msg(!merge_open(folder, &config, &all, &m, &e), "%s", e.text);
    check_added(m, "model.layers.1.self_attn.q_proj.weight", 0, 0, (double)PATTERN / RANK);
    check_added(m, "model.layers.1.self_attn.k_proj.weight", 0, 32, (double)PATTERN / RANK);
    check_added(m, "model.layers.1.self_attn.v_proj.weight", 0, 64, (double)PATTERN / RANK);
    merge_close(m);
    close_model();
}
END_TEST

static int open_once(void *user)
{
    struct merge *m = NULL;
    struct err why = {0};
    (void)user;
    int rc = merge_open(folder, &config, &all, &m, &why);
    ck_assert_int_eq(rc, -(int)why.code);
    if (!rc)
        merge_close(m);
    return rc;
}

/* One tensor of peft's, under the name that it has in an adapter. */
static void add_golden(
    struct safetensors *from, const char *part, struct safetensors_entry *entry, struct buf *data)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.1.self_attn.q_proj.%s", part);
    const struct safetensors_tensor *t = safetensors_find(from, name);
    ck_assert_ptr_nonnull(t);
    *entry = (struct safetensors_entry){.type = t->type, .dims = t->dims, .bytes = t->bytes};
    memcpy(entry->shape, t->shape, sizeof entry->shape);
    snprintf(entry->name, sizeof entry->name, "base_model.model.%s", name);
    ck_assert(!buf_add(data, t->data, (size_t)t->bytes));
}

/* peft's own numbers (tests/golden/make_dora.py). */
START_TEST(lengths_are_brought_to_what_was_learnt)
{
    static const char *const parts[] = {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"};
    static const char text[] = "{\"peft_type\":\"LORA\",\"lora_alpha\":8,\"use_dora\":true}";
    struct safetensors *golden;
    struct safetensors_entry entries[3];
    struct weights *base;
    struct merge *m = NULL;
    float w[64 * 64];
    char path[128];
    buf_auto struct buf file, data;
    buf_init(&file, 1 << 20);
    buf_init(&data, 1 << 20);
    open_model("tiny-llama");
    ck_assert(!safetensors_open(GOLDEN "tiny_dora.safetensors", &golden, &e));
    for (int i = 0; i < 3; i++)
        add_golden(golden, parts[i], &entries[i], &data);
    ck_assert(!safetensors_header(entries, 3, NULL, 0, &file, &e));
    ck_assert(!buf_add(&file, data.data, data.len));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    golden_write(path, file.data, file.len);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    golden_write(path, text, sizeof text - 1);
    ck_assert_msg(!merge_open(folder, &config, &all, &m, &e), "%s", e.text);
    const struct tensor *t = tensors_find(&all, "model.layers.1.self_attn.q_proj.weight");
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &base, &e), "%s", e.text);
    ck_assert(!weights_read(base, t->name, 64, 64, 0, 64, DTYPE_F32, w, &e));
    for (int64_t row = 0; row < 64; row += 8)
        merge_add(m, t, row, 8, w + row * 64);
    const float *want = (const float *)safetensors_find(golden, "merged.q_proj")->data;
    for (int i = 0; i < 64 * 64; i++)
        ck_assert_float_eq_tol(w[i], want[i], 1e-5f);
    merge_close(m);
    fault_each(FAULT_MEM, open_once, NULL);
    weights_close(base);
    safetensors_close(golden);
    close_model();
}
END_TEST

/* What peft saved (tests/golden/make_adalora.py): of one module nothing is left. */
static void write_adaptive(const char *text)
{
    struct safetensors *golden;
    struct safetensors_entry entries[32];
    int n = 0;
    char path[128];
    buf_auto struct buf file, data;
    buf_init(&file, 1 << 20);
    buf_init(&data, 1 << 20);
    ck_assert(!safetensors_open(GOLDEN "tiny_adalora.safetensors", &golden, &e));
    for (int i = 0; i < safetensors_count(golden); i++) {
        const struct safetensors_tensor *t = safetensors_at(golden, i);
        if (strncmp(t->name, "saved.", 6) != 0)
            continue;
        entries[n] =
            (struct safetensors_entry){.type = t->type, .dims = t->dims, .bytes = t->bytes};
        memcpy(entries[n].shape, t->shape, sizeof t->shape);
        snprintf(entries[n++].name, sizeof entries->name, "%s", t->name + 6);
        ck_assert(!buf_add(&data, t->data, (size_t)t->bytes));
    }
    ck_assert_int_eq(n, 6 * 3);
    ck_assert(!safetensors_header(entries, n, NULL, 0, &file, &e));
    ck_assert(!buf_add(&file, data.data, data.len));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    golden_write(path, file.data, file.len);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    golden_write(path, text, strlen(text));
    safetensors_close(golden);
}

START_TEST(chosen_ranks_are_added)
{
    static const char text[] = "{\"peft_type\":\"ADALORA\",\"lora_alpha\":8,\"init_r\":6}";
    struct safetensors *golden;
    struct weights *base;
    struct merge *m = NULL;
    float w[64 * 64];
    open_model("tiny-llama");
    write_adaptive(text);
    ck_assert_msg(!merge_open(folder, &config, &all, &m, &e), "%s", e.text);
    const struct tensor *t = tensors_find(&all, "model.layers.1.self_attn.q_proj.weight");
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &base, &e), "%s", e.text);
    ck_assert(!weights_read(base, t->name, 64, 64, 0, 64, DTYPE_F32, w, &e));
    for (int64_t row = 0; row < 64; row += 8)
        merge_add(m, t, row, 8, w + row * 64);
    ck_assert(!safetensors_open(GOLDEN "tiny_adalora.safetensors", &golden, &e));
    const float *want = (const float *)safetensors_find(golden, "merged.q_proj")->data;
    for (int i = 0; i < 64 * 64; i++)
        ck_assert_float_eq_tol(w[i], want[i], 1e-6f);
    merge_close(m);
    fault_each(FAULT_MEM, open_once, NULL);
    weights_close(base);
    safetensors_close(golden);
    close_model();
}
END_TEST

static void refuse(const char *says)
{
    struct merge *m = NULL;
    ck_assert_msg(merge_open(folder, &config, &all, &m, &e) == -ERR_DATA, "%s was taken", says);
    ck_assert_msg(strstr(e.text, says) && strstr(e.text, folder), "%s", e.text);
}

START_TEST(what_is_not_merged_is_refused)
{
    static const struct factor stranger[] = {{"model.layers.2.mlp.up_proj.lora_A", RANK, 64},
        {"model.layers.2.mlp.up_proj.lora_B", 128, RANK}};
    static const struct factor wide[] = {{"model.layers.0.mlp.up_proj.lora_A", RANK, 64},
        {"model.layers.0.mlp.up_proj.lora_B", 120, RANK}};
    static const struct factor half[] = {{"model.layers.0.mlp.up_proj.lora_A", RANK, 64}};
    open_model("tiny-llama");
    refuse("adapter_config.json");
    write_adapter(stranger, 2, DTYPE_F32, "\"x\":0");
    refuse("model.layers.2.mlp.up_proj.lora_A.weight belongs to no matrix of this llama model");
    write_adapter(wide, 2, DTYPE_F32, "\"x\":0");
    refuse("up_proj.lora_B.weight does not fit the model");
    write_adapter(half, 1, DTYPE_F32, "\"x\":0");
    refuse("belongs to no matrix");
    write_adapter(llama, 4, DTYPE_F32, "\"use_dora\":true");
    refuse("use_dora, but no magnitudes of model.layers.0.mlp.down_proj.weight");
    write_adapter(llama, 4, DTYPE_F32, "\"modules_to_save\":[\"lm_head\"]");
    refuse("an adapter with modules_to_save is not merged");
    write_adapter(llama, 4, DTYPE_F32, "\"alpha_pattern\":{\".*q_proj\":3}");
    refuse("expressions are not supported");
    write_adapter(llama, 4, DTYPE_F32, "\"alpha_pattern\":{\"q_proj\":\"3\"}");
    refuse("\"q_proj\" is no number");
    write_adapter(llama, 4, DTYPE_F32, "\"rank_pattern\":{\"mlp.down_proj\":7}");
    refuse("model.layers.0.mlp.down_proj has rank 3, and adapter_config.json says 7");
    write_adaptive("{\"peft_type\":\"ADALORA\",\"use_dora\":true}");
    refuse("an ADALORA with use_dora is not merged");
    write_adaptive("{\"peft_type\":\"IA3\"}");
    refuse("peft_type \"IA3\"; what is merged: LORA, ADALORA");
    write_adaptive("{\"config\":{\"mh_adapter\":true},\"version\":\"adapters.1.3.0\"}");
    refuse("an adapter behind sub-layers is not linear, so no matrix can take it up");
    close_model();
}
END_TEST

START_TEST(each_failure_is_told)
{
    open_model("tiny-llama");
    write_adapter(llama, 4, DTYPE_F32, "\"x\":0");
    fault_each(FAULT_MEM, open_once, NULL);
    fault_each(FAULT_IO, open_once, NULL);
    close_model();
}
END_TEST

UNIT_MAIN("merge", an_adapter_is_added_to_its_matrices, parts_of_one_module_share_its_factors,
    lengths_are_brought_to_what_was_learnt, chosen_ranks_are_added, what_is_not_merged_is_refused,
    each_failure_is_told)
