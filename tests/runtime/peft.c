/*
 * peft: what stands in the files follows from the table of tensors and from random numbers; nothing
 * here reads an adapter but peft_merge.
 */
#include "tests/runtime/peft.h"

#include "base/io.h"
#include "base/random.h"
#include "kernels/quant.h"
#include "runtime/convert/merge.h"
#include "runtime/family/family.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <string.h>

#define ENTRIES 256

static struct err e;

struct file { /* under construction */
    const struct peft *of;
    struct safetensors_entry entries[ENTRIES];
    int count;
    struct buf data;
    uint64_t random;
};

/* rows x columns numbers around `middle`, at most `width` away. */
static void put(struct file *f, const struct family_place *p, const char *which, int64_t rows,
    int64_t columns, double middle, double width)
{
    struct safetensors_entry *x = &f->entries[f->count++];
    bool wide = f->of->type == DTYPE_F32;
    ck_assert_int_le(f->count, ENTRIES);
    *x = (struct safetensors_entry){.type = f->of->type,
        .dims = columns ? 2 : 1,
        .shape = {rows, columns},
        .bytes = (wide ? 4 : 2) * rows * (columns ? columns : 1)};
    snprintf(x->name, sizeof x->name, "base_model.model.%.*s.%s",
        (int)(strlen(p->name) - strlen(".weight")), p->name, which);
    for (int64_t i = 0; i < x->bytes / (wide ? 4 : 2); i++) {
        double u = (double)(random_next(&f->random) >> 11) * 0x1p-53;
        float v = (float)(middle + width * (2 * u - 1));
        uint16_t narrow = f32_to_bf16(v);
        buf_add(&f->data, wide ? (const void *)&v : &narrow, wide ? 4 : 2);
    }
}

static bool is_target(const struct peft *p, const struct tensor *t)
{
    const char *name = tensor_short_name(t->role);
    bool layers = t->part == TENSOR_WEIGHT && t->dims == 2 && t->layer >= 0 &&
        (t->role <= TENSOR_O || (t->role >= TENSOR_GATE && t->role <= TENSOR_DOWN));
    return layers && (!p->targets || strstr(p->targets, name));
}

/* Those that the family has as one matrix are written with the first of them. */
static void put_matrix(struct file *f, const struct tensors *all, const struct tensor *t)
{
    struct family_place p;
    family_place(f->of->config, all, t, FAMILY_HF, &p);
    int64_t rank = f->of->rank + t->layer, out = p.shape[p.transposed ? 1 : 0];
    if (p.first)
        return;
    put(f, &p, "lora_A.weight", rank, t->shape[1], 0, 0.5);
    put(f, &p, "lora_B.weight", out, rank, 0, 0.25);
    if (f->of->dora)
        put(f, &p, "lora_magnitude_vector", out, 0, 1, 0.5);
}

/* Ranks differ from that of the first layer's. */
static void put_ranks(const struct file *f, struct buf *config)
{
    static const char head[] = "base_model.model.", tail[] = ".lora_A.weight";
    const char *before = ",\"rank_pattern\":{";
    for (int i = 0; i < f->count; i++) {
        const char *name = f->entries[i].name + strlen(head), *end = strstr(name, tail);
        if (!end || f->entries[i].shape[0] == f->of->rank)
            continue;
        buf_printf(config, "%s\"%.*s\":%lld", before, (int)(end - name), name,
            (long long)f->entries[i].shape[0]);
        before = ",";
    }
    buf_str(config, *before && before[1] ? "}" : "}}");
}

void peft_write(const struct peft *p)
{
    static struct file f;
    struct tensors all = {0};
    char path[256];
    buf_auto struct buf file;
    f = (struct file){.of = p, .random = p->seed};
    buf_init(&f.data, 8 << 20);
    buf_init(&file, 8 << 20);
    ck_assert_msg(!tensors_create(p->config, &all, &e), "%s", e.text);
    for (int i = 0; i < all.count; i++)
        if (is_target(p, &all.at[i]))
            put_matrix(&f, &all, &all.at[i]);
    tensors_done(&all);
    ck_assert_int_gt(f.count, 0);
    ck_assert_msg(!io_mkdirs(p->folder, 0755, &e), "%s", e.text);
    ck_assert(!safetensors_header(f.entries, f.count, NULL, 0, &file, &e));
    ck_assert(!buf_add(&file, f.data.data, f.data.len));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", p->folder);
    golden_write(path, file.data, file.len);
    buf_reset(&file);
    buf_printf(&file,
        "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d,\"use_rslora\":%s,\"use_dora\":%s",
        p->rank, p->rank + 1, p->stabilized ? "true" : "false", p->dora ? "true" : "false");
    put_ranks(&f, &file);
    snprintf(path, sizeof path, "%s/adapter_config.json", p->folder);
    golden_write(path, file.data, file.len);
    buf_done(&f.data);
}

static bool changes(const void *of, const struct tensor *t)
{
    return merge_changes(of, t);
}

static void add(const void *of, const struct tensor *t, int64_t row, int64_t rows, float *w)
{
    merge_add(of, t, row, rows, w);
}

void peft_merge(
    const char *folder, const struct model_config *c, struct tensors *all, struct model_addition *a)
{
    struct merge *m = NULL;
    ck_assert_msg(!tensors_create(c, all, &e), "%s", e.text);
    ck_assert_msg(!merge_open(folder, c, all, &m, &e), "%s", e.text);
    *a = (struct model_addition){changes, add, m};
}
