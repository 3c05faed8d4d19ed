/*
 * adapters: each folder is opened twice, to count and to fill, and the factors of one alone are in
 * host memory at a time.
 */
#include "runtime/convert/adapters.h"

#include "base/mem.h"
#include "runtime/convert/merge.h"
#include "runtime/door/beat.h"
#include "runtime/files/hash.h"
#include "runtime/model/dora.h"
#include "runtime/model/lora.h"

#include <string.h>

#define LENGTH_ROWS 64 /* of a matrix in host memory at once */

struct adapter_folder {
    const struct jobspec_served_adapter *of;
    struct tensors all; /* the model's, and, of a rank that has a share, */
    struct tensors own; /* that one's; else empty */
    struct merge *merge;
    float **gain; /* (all.count) host; NULL: it has none */
    uint64_t digest;
    int next; /* of all: not put yet */
};

int adapters_find(const struct jobspec_serve *s, const char *name)
{
    for (int i = 0; i < s->adapter_count; i++)
        if (!strcmp(s->adapters[i].name, name))
            return i + 1;
    return 0;
}

/* What it adds to the i-th tensor; NULL: nothing, as where AdaLoRA kept no value. */
static const struct merge_factors *factors_of(const struct adapter_folder *f, int i)
{
    const struct merge_factors *x = merge_of(f->merge, &f->all.at[i]);
    return x && x->rank ? x : NULL;
}

static struct beside_shape shape_of(const struct merge_factors *f)
{
    return (struct beside_shape){.rank = f->rank, .scale = f->scale, .gains = f->m};
}

/* -- reading -- */

/* gain (rows) = m / |W + s B A| by rows, those that this rank has of t; a row of no length stays as
   it is. */
static int find_gains(struct weights *w, const struct tensor *t, const struct merge_factors *f,
    float *gain, struct err *e)
{
    int64_t in = t->whole[1], row = t->begin[0], end = row + t->shape[0];
    mem_autofree float *rows = mem_array((size_t)(LENGTH_ROWS * in), sizeof *rows);
    if (!rows)
        return err_set(e, ERR_MEMORY, "no memory for rows of %lld columns", (long long)in);
    for (int64_t n; row < end; row += n) {
        n = end - row < LENGTH_ROWS ? end - row : LENGTH_ROWS;
        int rc = weights_read(w, t->name, t->whole[0], in, row, n, DTYPE_F32, rows, e);
        if (rc)
            return rc;
        lora_merge(rows, f->a, f->b + row * f->rank, n, in, f->rank, f->scale);
        dora_lengths(rows, n, in, gain + row);
        for (int64_t i = row; i < row + n; i++)
            gain[i] = gain[i] > 0 ? f->m[i] / gain[i] : 1;
    }
    return 0;
}

/* What this rank has of it; NULL: nothing. */
static const struct tensor *own_of(const struct adapter_folder *f, const struct tensor *t)
{
    return f->own.count ? tensors_find(&f->own, t->name) : t;
}

static void add_digest(
    struct adapter_folder *f, const struct tensor *t, const struct merge_factors *x)
{
    const size_t each = sizeof(float);
    const uint64_t parts[] = {f->digest, (uint64_t)t->order, (uint64_t)x->rank,
        hash_xxh3(&x->scale, sizeof x->scale),
        hash_xxh3(x->a, (size_t)(x->rank * t->shape[1]) * each),
        hash_xxh3(x->b, (size_t)(t->shape[0] * x->rank) * each),
        x->m ? hash_xxh3(x->m, (size_t)t->shape[0] * each) : 0};
    f->digest = hash_xxh3(parts, sizeof parts);
}

static int read_numbers(struct adapter_folder *f, struct weights *w, struct err *e)
{
    f->gain = mem_array((size_t)f->all.count, sizeof *f->gain);
    if (!f->gain)
        return err_set(e, ERR_MEMORY, "no memory for a table of matrices");
    for (int i = 0; i < f->all.count; i++) {
        const struct tensor *t = &f->all.at[i];
        const struct merge_factors *x = factors_of(f, i);
        if (!x)
            continue;
        add_digest(f, t, x);
        const struct tensor *own = own_of(f, t);
        if (!own)
            merge_forget(f->merge, t);
        if (!own || !x->m)
            continue;
        f->gain[i] = mem_array((size_t)t->shape[0], sizeof *f->gain[i]);
        int rc = f->gain[i] ? find_gains(w, own, x, f->gain[i], e)
                            : err_set(e, ERR_MEMORY, "no memory for lengths of rows");
        if (rc)
            return rc;
    }
    return 0;
}

static int open_folder(struct adapter_folder *f, const struct adapter_model *m, struct err *e)
{
    const char *path = f->of->path;
    int rc;
    if ((rc = tensors_create(m->whole, &f->all, e)) ||
        (model_config_is_share(m->own) && (rc = tensors_create(m->own, &f->own, e))))
        return rc;
    if (!m->weights)
        return merge_open_shapes(path, m->whole, &f->all, &f->merge, e);
    rc = merge_open(path, m->whole, &f->all, &f->merge, e);
    return rc ? rc : read_numbers(f, m->weights, e);
}

int adapter_folder_open(const struct jobspec_served_adapter *of, const struct adapter_model *m,
    struct adapter_folder **out, struct err *e)
{
    struct adapter_folder *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "%s: no memory to read it", of->name);
    f->of = of;
    int rc = open_folder(f, m, e);
    if (rc) {
        adapter_folder_close(f);
        return err_wrap(e, "%s", of->name);
    }
    *out = f;
    return 0;
}

void adapter_folder_close(struct adapter_folder *f)
{
    if (!f)
        return;
    for (int i = 0; f->gain && i < f->all.count; i++)
        mem_free(f->gain[i]);
    mem_free(f->gain);
    merge_close(f->merge);
    tensors_done(&f->own);
    tensors_done(&f->all);
    mem_free(f);
}

uint64_t adapter_folder_digest(const struct adapter_folder *f)
{
    return f->digest;
}

int adapter_folder_describe(const struct adapter_folder *f, struct beside *b, int i, struct err *e)
{
    for (int k = 0; k < f->all.count; k++) {
        const struct merge_factors *x = factors_of(f, k);
        const struct beside_shape s = x ? shape_of(x) : (struct beside_shape){0};
        int rc = x ? beside_describe(b, i, &f->all.at[k], &s, e) : 0;
        if (rc)
            return err_wrap(e, "%s", f->of->name);
    }
    return 0;
}

/* The k-th tensor's, of which the rank may have a part alone; it leaves host memory. */
static int put_tensor(struct adapter_folder *f, int k, struct beside *b, int i, struct err *e)
{
    const struct tensor *t = &f->all.at[k];
    const struct merge_factors *x = factors_of(f, k);
    const struct beside_shape s = shape_of(x);
    int rc = beside_put(b, i, own_of(f, t), &s, &(struct beside_values){x->a, x->b, f->gain[k]}, e);
    merge_forget(f->merge, t);
    mem_free(f->gain[k]);
    f->gain[k] = NULL;
    return rc;
}

int adapter_folder_put(struct adapter_folder *f, struct beside *b, int i, int64_t most_bytes,
    bool *left, struct err *e)
{
    int64_t bytes = 0;
    for (; f->next < f->all.count && bytes < most_bytes; f->next++) {
        const struct tensor *t = &f->all.at[f->next];
        const struct merge_factors *x = factors_of(f, f->next);
        if (!x)
            continue;
        bytes += x->rank * (t->shape[0] + t->shape[1]) * (int64_t)sizeof(float);
        int rc = put_tensor(f, f->next, b, i, e);
        if (rc)
            return err_wrap(e, "%s", f->of->name);
    }
    *left = f->next < f->all.count;
    return 0;
}

/* -- all of them -- */

int adapters_describe(
    const struct jobspec_serve *s, const struct model_config *c, struct beside **out, struct err *e)
{
    const struct adapter_model m = {.whole = c, .own = c};
    struct beside *b;
    int rc = beside_create(c, s->adapter_count, 0, &b, e);
    if (rc)
        return rc;
    for (int i = 0; i < s->adapter_count && !rc; i++) {
        struct adapter_folder *f = NULL;
        rc = adapter_folder_open(&s->adapters[i], &m, &f, e);
        rc = rc ? rc : adapter_folder_describe(f, b, i, e);
        adapter_folder_close(f);
    }
    if (rc) {
        beside_destroy(b);
        return rc;
    }
    *out = b;
    return 0;
}

int adapters_load(const struct jobspec_serve *s, const struct model_config *own, struct weights *w,
    struct dev *d, struct beside *b, struct wire_page *page, uint64_t *digest, struct err *e)
{
    const struct adapter_model m = {weights_config(w), own, w};
    uint64_t both[2] = {0, 0};
    int rc = 0;
    for (int i = 0; i < s->adapter_count && !rc; i++) {
        struct adapter_folder *f = NULL;
        bool left;
        rc = beside_open(b, i, own, d, e);
        rc = rc ? rc : adapter_folder_open(&s->adapters[i], &m, &f, e);
        rc = rc ? rc : adapter_folder_put(f, b, i, INT64_MAX, &left, e);
        both[1] = rc ? 0 : adapter_folder_digest(f);
        both[0] = hash_xxh3(both, sizeof both);
        adapter_folder_close(f);
        beat(page);
    }
    *digest = both[0];
    return rc;
}
