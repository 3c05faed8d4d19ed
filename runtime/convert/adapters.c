/*
 * adapters: each folder is opened twice, to count and to fill, and the factors of one alone are in
 * host memory at a time.
 */
#include "runtime/convert/adapters.h"

#include "base/mem.h"
#include "runtime/convert/merge.h"
#include "runtime/door/beat.h"
#include "runtime/model/dora.h"
#include "runtime/model/lora.h"

#include <string.h>

#define LENGTH_ROWS 64 /* of a matrix in host memory at once */

int adapters_find(const struct jobspec_serve *s, const char *name)
{
    for (int i = 0; i < s->adapter_count; i++)
        if (!strcmp(s->adapters[i].name, name))
            return i + 1;
    return 0;
}

/* Where AdaLoRA kept no value there is nothing to add. */
static bool adds(const struct merge_factors *f)
{
    return f && f->rank;
}

static struct beside_shape shape_of(const struct merge_factors *f)
{
    return (struct beside_shape){.rank = f->rank, .scale = f->scale, .gains = f->m};
}

static int describe(
    const struct merge *m, int i, const struct tensors *all, struct beside *b, struct err *e)
{
    for (int k = 0; k < all->count; k++) {
        const struct merge_factors *f = merge_of(m, &all->at[k]);
        if (!adds(f))
            continue;
        struct beside_shape s = shape_of(f);
        int rc = beside_describe(b, i, &all->at[k], &s, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* gain (rows) = m / |W + s B A| by rows; a row of no length stays as it is. */
static int find_gains(struct weights *w, const struct tensor *t, const struct merge_factors *f,
    float *gain, struct err *e)
{
    int64_t in = t->shape[1];
    mem_autofree float *rows = mem_array((size_t)(LENGTH_ROWS * in), sizeof *rows);
    if (!rows)
        return err_set(e, ERR_MEMORY, "no memory for rows of %lld columns", (long long)in);
    for (int64_t row = 0, n; row < t->shape[0]; row += n) {
        n = t->shape[0] - row < LENGTH_ROWS ? t->shape[0] - row : LENGTH_ROWS;
        int rc = weights_read(w, t->name, t->shape[0], in, row, n, DTYPE_F32, rows, e);
        if (rc)
            return rc;
        lora_merge(rows, f->a, f->b + row * f->rank, n, in, f->rank, f->scale);
        dora_lengths(rows, n, in, gain + row);
        for (int64_t i = row; i < row + n; i++)
            gain[i] = gain[i] > 0 ? f->m[i] / gain[i] : 1;
    }
    return 0;
}

static int fill(const struct merge *m, int i, const struct tensors *all, struct weights *w,
    struct beside *b, struct err *e)
{
    for (int k = 0; k < all->count; k++) {
        const struct tensor *t = &all->at[k];
        const struct merge_factors *f = merge_of(m, t);
        if (!adds(f))
            continue;
        struct beside_shape s = shape_of(f);
        mem_autofree float *gain = f->m ? mem_array((size_t)t->shape[0], sizeof *gain) : NULL;
        if (f->m && !gain)
            return err_set(e, ERR_MEMORY, "no memory for lengths of rows");
        int rc = f->m ? find_gains(w, t, f, gain, e) : 0;
        if (rc ||
            (rc = beside_put(
                 b, i, t, &s, &(struct beside_values){.a = f->a, .b = f->b, .gain = gain}, e)))
            return rc;
    }
    return 0;
}

/* Of adapter i: it is described, or with w filled. */
static int visit(const struct jobspec_serve *s, int i, const struct model_config *c,
    struct weights *w, struct beside *b, struct err *e)
{
    const struct jobspec_served_adapter *x = &s->adapters[i];
    struct tensors all = {0};
    struct merge *m = NULL;
    int rc = tensors_create(c, &all, e);
    rc = rc ? rc : merge_open(x->path, c, &all, &m, e);
    if (!rc)
        rc = w ? fill(m, i, &all, w, b, e) : describe(m, i, &all, b, e);
    merge_close(m);
    tensors_done(&all);
    return rc ? err_wrap(e, "%s", x->name) : 0;
}

int adapters_describe(
    const struct jobspec_serve *s, const struct model_config *c, struct beside **out, struct err *e)
{
    struct beside *b;
    int rc = beside_create(c, s->adapter_count, &b, e);
    if (rc)
        return rc;
    for (int i = 0; i < s->adapter_count; i++)
        if ((rc = visit(s, i, c, NULL, b, e))) {
            beside_destroy(b);
            return rc;
        }
    *out = b;
    return 0;
}

int adapters_load(const struct jobspec_serve *s, struct weights *w, struct beside *b,
    struct wire_page *page, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < s->adapter_count && !rc; i++) {
        rc = visit(s, i, weights_config(w), w, b, e);
        beat(page);
    }
    return rc;
}
