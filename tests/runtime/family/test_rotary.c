/*
 * Goal: a GGUF file gives the model that the Hugging Face folder gives, where they say it
 * differently: how the frequencies of rotary positions are scaled, windows, norms of heads, and
 * whose model a "llama" is. Factors of frequencies that no scaling explains are refused. Method:
 * the folders of tests/golden/make_families.py written as llama.cpp's converter writes them.
 */
#include "runtime/family/rotary.h"

#include "base/mem.h"
#include "runtime/family/weights.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64], path[128];
static struct err e;

static void setup(void)
{
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/made.gguf", folder);
}

static void done(void)
{
    golden_remove(folder);
}

static struct weights *open_ok(const char *from)
{
    struct weights *w = NULL;
    ck_assert_msg(weights_open(from, NULL, &w, &e) == 0, "%s", e.text);
    return w;
}

static void same_tensor(struct weights *a, struct weights *b, const struct weights_tensor *t)
{
    int64_t rows = t->shape[0], cols = t->dims > 1 ? t->shape[1] : 1;
    size_t bytes = (size_t)(rows * cols) * 4;
    mem_autofree float *x = mem_alloc(bytes), *y = mem_alloc(bytes);
    ck_assert(x && y && !weights_read(a, t->name, rows, cols, 0, rows, DTYPE_F32, x, &e));
    ck_assert_msg(!weights_read(b, t->name, rows, cols, 0, rows, DTYPE_F32, y, &e), "%s", e.text);
    ck_assert_msg(!memcmp(x, y, bytes), "%s", t->name);
}

static void check_family(const char *name)
{
    char from[96];
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_family(name, &file);
    golden_write(path, file.data, file.len);
    snprintf(from, sizeof from, GOLDEN "tiny-%s", name);
    struct weights *hf = open_ok(from), *gguf = open_ok(path);
    const struct model_config *c = weights_config(gguf), *want = weights_config(hf);
    ck_assert_int_eq(weights_count(hf), weights_count(gguf));
    for (int i = 0; i < weights_count(hf); i++)
        same_tensor(hf, gguf, weights_at(hf, i));
    ck_assert_str_eq(c->architecture, want->architecture);
    ck_assert(c->window == want->window && c->qk_norm == want->qk_norm);
    ck_assert(c->head_dim == want->head_dim && c->rope_theta == want->rope_theta);
    ck_assert_mem_eq(&c->rope_scaling, &want->rope_scaling, sizeof c->rope_scaling);
    ck_assert(c->window || c->qk_norm || c->rope_scaling.kind); /* what is asked here */
    weights_close(hf);
    weights_close(gguf);
}

START_TEST(both_formats_give_the_same_model)
{
    check_family("qwen3");
    check_family("mistral");
    check_family("llama3");
}
END_TEST

START_TEST(other_factors_of_frequencies_are_refused)
{
    static const struct {
        int at;
        float factor;
    } rows[] = {{0, 2}, {7, 1}, {1, 1}, {7, 0.5f}, {4, 7.99f}};
    buf_auto struct buf file;
    buf_init(&file, 1 << 24);
    gguf_make_family("llama3", &file);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weights *w = NULL;
        struct gguf *g = NULL;
        ck_assert_msg(!gguf_parse(file.data, file.len, "made", &g, &e), "%s", e.text);
        const struct gguf_tensor *t = gguf_tensor_at(g, 0);
        ck_assert_str_eq(t->name, ROTARY_GGUF_FACTORS);
        uint8_t *factor = (uint8_t *)(uintptr_t)t->data + 4 * rows[i].at, was[4];
        memcpy(was, factor, 4);
        memcpy(factor, &rows[i].factor, 4);
        gguf_close(g);
        golden_write(path, file.data, file.len);
        memcpy(factor, was, 4);
        ck_assert_int_eq(weights_open(path, NULL, &w, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, "tensor rope_freqs.weight is of no scaling"), "%s", e.text);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "rotary", .setup = setup, .done = done},
        (const TTest *const[]){
            both_formats_give_the_same_model, other_factors_of_frequencies_are_refused, NULL});
}
