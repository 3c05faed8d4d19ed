/*
 * model_files: see model_files.h.
 */
#include "tests/runtime/model_files.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

char model_files_folder[64];

void model_files_path(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", model_files_folder, name);
}

void model_files_copy(const char *from, const char *name)
{
    char path[128];
    buf_auto struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 24);
    model_files_path(path, name);
    ck_assert_msg(io_read_file(from, 1 << 24, &text, &e) == 0, "%s", e.text);
    golden_write(path, text.data, text.len);
}

void model_files_write(const char *path, const char *text)
{
    golden_write(path, text, strlen(text));
}

struct weights *model_files_open(const char *path)
{
    struct weights *w = NULL;
    struct err e = {0};
    ck_assert_msg(weights_open(path, NULL, &w, &e) == 0, "%s", e.text);
    return w;
}

float *model_files_read(struct weights *w, const char *name, int64_t *count)
{
    const struct weights_tensor *t = weights_find(w, name);
    ck_assert_msg(t != NULL, "%s", name);
    int64_t rows = t->shape[0], cols = t->dims > 1 ? t->shape[1] : 1;
    float *x = mem_array((size_t)(rows * cols), sizeof *x);
    struct err e = {0};
    ck_assert_msg(weights_read(w, name, rows, cols, 0, rows, DTYPE_F32, x, &e) == 0, "%s", e.text);
    *count = rows * cols;
    return x;
}

/* Every tensor of b equals a's within the tolerance. */
void model_files_compare(struct weights *a, struct weights *b, float tolerance)
{
    ck_assert_int_eq(weights_count(a), weights_count(b));
    for (int i = 0; i < weights_count(a); i++) {
        const char *name = weights_at(a, i)->name;
        int64_t n, m;
        mem_autofree float *x = model_files_read(a, name, &n), *y = model_files_read(b, name, &m);
        ck_assert_int_eq(n, m);
        for (int64_t k = 0; k < n; k++)
            ck_assert_msg(fabsf(x[k] - y[k]) <= tolerance, "%s[%lld]: %g, %g", name, (long long)k,
                (double)x[k], (double)y[k]);
    }
}
