/*
 * model_load: fills a model's tensors: from files (rows decoded through a bounded host stage, or
 * for serving stored blocks as they are) or with fresh random numbers that depend on the seed and
 * the tensor's name only, whatever the layout.
 */
#include "runtime/model/internal.h"

#include "base/mem.h"
#include "base/random.h"
#include "kernels/quant_encode.h"
#include "runtime/door/beat.h"
#include "runtime/model/batch.h"
#include "runtime/model/dora.h"

#include <math.h>

#define STAGE_ELEMENTS (4 << 20) /* host staging of a load: bounded whatever the tensor */

/* -- filling -- */

static uint64_t name_seed(uint64_t seed, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u ^ random_mix(seed);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return random_mix(h);
}

static double uniform(uint64_t seed, int64_t i) /* (0, 1) */
{
    return ((double)(random_mix(seed + (uint64_t)i) >> 11) + 0.5) * 0x1p-53;
}

static float normal(uint64_t seed, int64_t i)
{
    return (float)(sqrt(-2 * log(uniform(seed, 2 * i))) * cos(2 * M_PI * uniform(seed, 2 * i + 1)));
}

/* Elements [first, first + n) of a freshly initialised tensor, of the whole of it. GPT-2 scales the
   projections that end in the residual, of which there are two a layer (Radford et al. 2019,
   2.3). */
static void draw_fresh(
    const struct model *m, const struct tensor *p, int64_t first, int64_t n, float *out)
{
    uint64_t seed = name_seed(m->conf.seed, p->name);
    const struct model_config *c = &m->conf.config;
    bool residual = p->role == TENSOR_O || p->role == TENSOR_DOWN;
    bool even = p->part == TENSOR_LORA_A && !m->conf.lora_adaptive;
    bool zero = p->part == TENSOR_LORA_B && !m->conf.lora_adaptive;
    bool weighs = p->part == TENSOR_WEIGHT || p->part == TENSOR_LORA_M;
    float one = weighs ? 1 : 0; /* of a vector */
    float bound = p->dims == 2 ? 1 / sqrtf((float)p->whole[1]) : 0;
    float deviation = 0.02f;
    if (residual && c->scaled_init && p->part == TENSOR_WEIGHT)
        deviation /= sqrtf(2 * (float)(model_config_is_share(c) ? c->share.layers : c->layers));
#pragma omp parallel for schedule(static) if (n > 1 << 16)
    for (int64_t i = 0; i < n; i++)
        if (p->dims == 1)
            out[i] = one;
        else if (even)
            out[i] = bound * (float)(2 * uniform(seed, first + i) - 1);
        else
            out[i] = zero ? 0 : deviation * normal(seed, first + i);
}

/* In place: element i is read before byte 2i is written. */
static void narrow(enum dtype t, void *values, int64_t n)
{
    const float *wide = values;
    uint16_t *to = values;
    for (int64_t i = 0; i < n; i++)
        to[i] = f32_to_half(t, wide[i]);
}

/* n rows of F32 values to blocks; what quant_encode makes of a row depends on it alone. */
static void encode_rows(enum dtype type, const float *rows, int64_t n, int64_t cols, uint8_t *out)
{
    int64_t bytes = dtype_bytes(type, cols);
#pragma omp parallel for schedule(static) if (n * cols > 1 << 16)
    for (int64_t i = 0; i < n; i++)
        quant_encode(type, rows + i * cols, cols, NULL, out + i * bytes);
}

struct fill {         /* host */
    float *rows;      /* (STAGE_ELEMENTS) values, or blocks that stay as they are */
    uint8_t *encoded; /* the same as blocks; NULL: the base is not quantized */
};

static void *row_at(const struct stored *w, const struct tensor *p, int64_t row)
{
    return (char *)w->data + dtype_bytes(w->type, row * p->shape[1]);
}

/* Elements [first, first + count) of a flat range: those that are here. */
static void place_slice(struct model *m, bool trained, int64_t first, int64_t count, float *values)
{
    const struct zero_slice own = trained ? m->own : m->own_base;
    enum dtype t = trained ? DTYPE_F32 : m->conf.t;
    int64_t from = own.first > first ? own.first : first, end = own.first + own.count;
    end = end < first + count ? end : first + count;
    if (from >= end)
        return;
    float *at = values + (from - first);
    if (t != DTYPE_F32)
        narrow(t, at, end - from);
    dev_upload(m->dev, at_element(trained ? (void *)m->master : m->frozen, from - own.first, t), at,
        (size_t)((end - from) * dtype_block_bytes(t)));
}

/* Host F32 values to where the tensor lives: the master, or the frozen weights in their type. */
static void place_rows(struct model *m, const struct tensor *p, bool trained, int64_t row,
    int64_t n, const struct fill *s)
{
    int64_t first = row * p->shape[1], count = n * p->shape[1];
    if (trained || m->weights_window.units) {
        place_slice(m, trained, p->offset + first, count, s->rows);
        return;
    }
    const struct stored to = model_frozen(m, p);
    if (dtype_block(to.type) > 1)
        encode_rows(to.type, s->rows, n, p->shape[1], s->encoded);
    else if (to.type != DTYPE_F32)
        narrow(to.type, s->rows, count);
    dev_upload(m->dev, row_at(&to, p, row),
        dtype_block(to.type) > 1 ? (const void *)s->encoded : s->rows,
        (size_t)dtype_bytes(to.type, count));
}

/* Is the tensor as w has it? Else it is drawn. */
static bool is_loaded(const struct model *m, const struct weights *w, const struct tensor *p)
{
    const struct model_config *is = &m->conf.config, *has = w ? weights_config(w) : NULL;
    if (!has)
        return false;
    if (p->role == TENSOR_POOLER)
        return has->pooled;
    if (is->masked && p->role >= TENSOR_TRANSFORM && p->role <= TENSOR_HEAD)
        return has->masked;
    return p->role != TENSOR_CLASSIFIER ||
        (!m->conf.fresh_labels && model_config_same_labels(has, is));
}

static int read_rows(struct model *m, struct weights *w, const struct tensor *p, int64_t row,
    int64_t n, float *out, struct err *e)
{
    int64_t rows = p->whole[0], cols = p->whole[1];
    const int32_t *from = p->role == TENSOR_CLASSIFIER ? m->conf.label_from : NULL;
    if (!from)
        return weights_read(w, p->name, rows, cols, row, n, DTYPE_F32, out, e);
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++)
        rc = weights_read(w, p->name, rows, cols, from[row + i], 1, DTYPE_F32, out + i * cols, e);
    return rc;
}

/* Blocks as the files have them. */
static int copy_rows(struct model *m, struct weights *w, const struct tensor *p, int64_t row,
    int64_t n, const struct fill *s, struct err *e)
{
    const struct stored to = model_frozen(m, p);
    int rc = weights_read(w, p->name, p->shape[0], p->shape[1], row, n, to.type, s->rows, e);
    if (!rc)
        dev_upload(
            m->dev, row_at(&to, p, row), s->rows, (size_t)dtype_bytes(to.type, n * p->shape[1]));
    return rc;
}

/* Of n whole rows the columns of a share move together. */
static void keep_columns(const struct tensor *p, int64_t n, enum dtype t, void *rows)
{
    size_t own = (size_t)(p->shape[1] * dtype_block_bytes(t));
    for (int64_t i = 0; p->shape[1] < p->whole[1] && i < n; i++)
        memmove((char *)rows + (size_t)i * own, at_element(rows, i * p->whole[1] + p->begin[1], t),
            own);
}

static int fill_rows(struct model *m, struct weights *w, const struct tensor *p, bool trained,
    int64_t row, int64_t n, const struct fill *s, struct err *e)
{
    enum dtype type = trained ? DTYPE_F32 : model_frozen(m, p).type;
    int64_t from = p->begin[0] + row;
    if (!is_loaded(m, w, p))
        draw_fresh(m, p, from * p->whole[1], n * p->whole[1], s->rows);
    else if (dtype_block(type) > 1 && weights_find(w, p->name)->type == type)
        return copy_rows(m, w, p, row, n, s, e);
    else {
        int rc = read_rows(m, w, p, from, n, s->rows, e);
        if (rc)
            return rc;
    }
    keep_columns(p, n, DTYPE_F32, s->rows);
    place_rows(m, p, trained, row, n, s);
    return 0;
}

/* Does this rank keep some of these rows? */
static bool is_here(
    const struct model *m, const struct tensor *p, bool trained, int64_t row, int64_t n)
{
    const struct zero_slice own = trained ? m->own : m->own_base;
    int64_t first = p->offset + row * p->shape[1], end = first + n * p->shape[1];
    return first < own.first + own.count && end > own.first;
}

static int fill_tensor(struct model *m, struct weights *w, const struct tensor *p, bool trained,
    const struct fill *s, struct err *e)
{
    int64_t rows = p->shape[0], chunk = STAGE_ELEMENTS / p->whole[1];
    for (int64_t row = 0, n; row < rows; row += n) {
        n = rows - row < chunk ? rows - row : chunk;
        int rc = is_here(m, p, trained, row, n) ? fill_rows(m, w, p, trained, row, n, s, e) : 0;
        if (rc)
            return rc;
        beat(m->conf.page);
    }
    return 0;
}

/* What DoRA begins with: the lengths of the frozen rows, as they are computed with. */
static int fill_lengths(struct model *m, struct err *e)
{
    for (int i = 0; i < m->added.count; i++) {
        const struct tensor *p = &m->added.at[i];
        if (p->part != TENSOR_LORA_M)
            continue;
        const struct tensor *w = tensors_get(&m->base, p->role, TENSOR_WEIGHT, p->layer, -1);
        mem_autofree float *rows = mem_array((size_t)w->count, sizeof *rows);
        mem_autofree float *lengths = mem_array((size_t)p->count, sizeof *lengths);
        if (!rows || !lengths)
            return err_set(e, ERR_MEMORY, "no memory to load the model");
        int rc = model_read(m, w->name, false, rows, w->count, e);
        if (rc)
            return rc;
        dora_lengths(rows, w->shape[0], w->shape[1], lengths);
        place_rows(m, p, true, 0, p->count, &(struct fill){.rows = lengths});
        if ((rc = dev_sync(m->dev, e)))
            return rc;
        beat(m->conf.page);
    }
    return 0;
}

static int fill_all(struct model *m, struct weights *w, struct err *e)
{
    bool quantized = model_is_quantized(&m->conf);
    mem_autofree float *rows = mem_array(STAGE_ELEMENTS, sizeof(float));
    mem_autofree uint8_t *encoded = quantized ? mem_array(STAGE_ELEMENTS, 2) : NULL;
    if (!rows || (quantized && !encoded))
        return err_set(e, ERR_MEMORY, "no memory to load the model");
    const struct fill stage = {rows, encoded};
    bool full = !model_is_frozen(&m->conf);
    int rc = 0;
    for (int i = 0; i < m->base.count && !rc; i++)
        rc = fill_tensor(m, w, &m->base.at[i], full, &stage, e);
    for (int i = 0; i < m->added.count && !rc; i++) {
        const struct tensor *p = &m->added.at[i];
        rc = fill_tensor(m, p->part < TENSOR_LORA_A ? w : NULL, p, true, &stage, e);
    }
    if (rc || (rc = fill_lengths(m, e)))
        return rc;
    rc = model_masters_read(m, e);
    return rc ? rc : dev_sync(m->dev, e);
}

int model_init_random(struct model *m, struct err *e)
{
    if (!m->conf.train)
        return err_set(e, ERR_USER, "a model with random weights cannot be served");
    return fill_all(m, NULL, e);
}

/* -- serving: as stored -- */

/* Vectors and learned positions are F32 whatever the file has. */
static bool is_plain(const struct tensor *p)
{
    return p->dims == 1 || p->role == TENSOR_POSITIONS;
}

/* As the whole model has it. */
static const struct tensor *whole_of(const struct model *m, const struct tensor *p)
{
    return model_config_is_share(&m->conf.config) ? tensors_find(&m->whole_base, p->name) : p;
}

static bool is_changed(const struct model *m, const struct tensor *p)
{
    const struct model_addition *a = m->conf.addition;
    return a && a->changes_fn(a->of, whole_of(m, p));
}

/* The type on the device of what has `type` in the file. */
static enum dtype type_served(const struct model *m, const struct tensor *p, enum dtype type)
{
    if (is_plain(p))
        return DTYPE_F32;
    if (is_changed(m, p))
        return m->conf.t;
    return type == DTYPE_F32 ? m->conf.t : type;
}

/* Rows and columns of a matrix in blocks are cut between blocks. */
static bool is_cut_in_block(const struct model *m, const struct tensor *p, enum dtype type)
{
    int64_t block = dtype_block(type_served(m, p, type));
    return p->shape[1] != p->whole[1] && (p->begin[1] % block || p->shape[1] % block);
}

int model_check_stored(const struct model *m, const struct weights *w, struct err *e)
{
    for (int i = 0; i < m->base.count; i++) {
        const struct tensor *p = &m->base.at[i];
        const struct weights_tensor *t = weights_find(w, p->name);
        if (t && is_cut_in_block(m, p, t->type))
            return err_set(e, ERR_USER,
                "spec.parallelism.tensor: a rank's columns of %s, [%lld, %lld), are not whole "
                "blocks of %lld, as %s has them",
                p->name, (long long)p->begin[1], (long long)(p->begin[1] + p->shape[1]),
                (long long)dtype_block(t->type), dtype_name(t->type));
    }
    return 0;
}

void model_carve_stored(struct model *m, const struct weights *w, struct carve *c)
{
    for (int i = 0; i < m->base.count; i++) {
        const struct tensor *p = &m->base.at[i];
        const struct weights_tensor *t = w ? weights_find(w, p->name) : NULL;
        enum dtype type = type_served(m, p, t ? t->type : m->conf.t);
        int64_t bytes = t && t->type == type && !tensor_is_cut(p)
            ? t->bytes
            : p->shape[0] * dtype_bytes(type, p->shape[1]);
        m->stored[i] = (struct stored){type, carve_take(c, bytes)};
    }
}

/* Blocks as they are; of a share its rows, and of each its columns. */
static int load_raw(struct model *m, struct weights *w, const struct tensor *p,
    const struct stored *to, struct err *e)
{
    const char *raw;
    enum dtype type;
    int rc = weights_raw(w, p->name, &type, (const void **)&raw, e);
    if (rc)
        return rc;
    int64_t row = dtype_bytes(type, p->whole[1]), own = dtype_bytes(type, p->shape[1]);
    raw += p->begin[0] * row + dtype_bytes(type, p->begin[1]);
    if (own == row) {
        dev_upload(m->dev, to->data, raw, (size_t)(p->shape[0] * row));
        return 0;
    }
    for (int64_t i = 0; i < p->shape[0]; i++)
        dev_upload(m->dev, (char *)to->data + i * own, raw + i * row, (size_t)own);
    return 0;
}

/* Experts are computed with as one: each at the same distance behind the one before. */
static int check_experts(const struct model *m, int i, struct err *e)
{
    const struct tensor *p = &m->base.at[i];
    const struct tensor *first = tensors_get(&m->base, p->role, p->part, p->layer, 0);
    if (p->expert < 1 || m->stored[i].type == m->stored[first - m->base.at].type)
        return 0;
    return err_set(e, ERR_DATA, "tensor %s is of type %s, and that of expert 0 of %s", p->name,
        dtype_name(m->stored[i].type), dtype_name(m->stored[first - m->base.at].type));
}

/* Whole rows become a share's. What is added is added in F32. */
static int read_decoded(struct model *m, struct weights *w, const struct tensor *p, int64_t row,
    int64_t n, enum dtype type, void *stage, struct err *e)
{
    const struct model_addition *a = m->conf.addition;
    bool changed = is_changed(m, p);
    int64_t from = p->begin[0] + row;
    int rc = weights_read(
        w, p->name, p->whole[0], p->whole[1], from, n, changed ? DTYPE_F32 : type, stage, e);
    if (rc)
        return rc;
    if (changed)
        a->add_fn(a->of, whole_of(m, p), from, n, stage);
    if (changed && type != DTYPE_F32)
        narrow(type, stage, n * p->whole[1]);
    keep_columns(p, n, type, stage);
    return 0;
}

/* Rows decoded to F32 or 16 bits, through a bounded host stage. */
static int load_decoded(struct model *m, struct weights *w, const struct tensor *p,
    const struct stored *to, struct err *e)
{
    int64_t rows = p->shape[0], cols = p->shape[1], size = dtype_block_bytes(to->type);
    int64_t whole = p->whole[1], chunk = whole > STAGE_ELEMENTS ? 1 : STAGE_ELEMENTS / whole;
    chunk = rows < chunk ? rows : chunk;
    mem_autofree void *stage = mem_array((size_t)(chunk * whole), sizeof(float));
    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to load the model");
    for (int64_t row = 0, n; row < rows; row += n) {
        n = rows - row < chunk ? rows - row : chunk;
        int rc = read_decoded(m, w, p, row, n, to->type, stage, e);
        if (rc)
            return rc;
        dev_upload(
            m->dev, at_element(to->data, row * cols, to->type), stage, (size_t)(n * cols * size));
    }
    return 0;
}

static int load_stored(struct model *m, struct weights *w, const struct tensor *p,
    const struct stored *to, struct err *e)
{
    const struct weights_tensor *t = weights_find(w, p->name);
    if (is_plain(p))
        return load_decoded(m, w, p, to, e);
    if (!t)
        return err_set(e, ERR_DATA, "the model has no tensor %s", p->name);
    if (t->dims != p->dims || t->shape[0] != p->whole[0] || t->shape[1] != p->whole[1])
        return err_set(
            e, ERR_DATA, "tensor %s has another shape than the configuration says", p->name);
    return to->type == t->type && !is_changed(m, p) ? load_raw(m, w, p, to, e)
                                                    : load_decoded(m, w, p, to, e);
}

/* What is added, as F32. */
static int load_added(struct model *m, struct err *e)
{
    int64_t bytes = carve_times(m->added.elements, 4);
    void *at = NULL;
    int rc = bytes ? dev_alloc(m->dev, (size_t)bytes, &at, e) : 0;
    m->master = at;
    for (int i = 0; i < m->added.count && !rc; i++) {
        const struct tensor *p = &m->added.at[i];
        mem_autofree float *values = mem_array((size_t)p->count, sizeof *values);
        if (!values)
            return err_set(e, ERR_MEMORY, "no memory to load the model");
        rc = m->conf.adapter->read_fn(m->conf.adapter->of, p, values, e);
        if (!rc)
            dev_upload(m->dev, m->master + p->offset, values, (size_t)p->count * 4);
    }
    return rc;
}

static int load_serving(struct model *m, struct weights *w, struct err *e)
{
    int rc = memplan_of(m, w, &m->plan, e);
    if (rc)
        return rc;
    model_carve_stored(m, w, &m->arena);
    rc = carve_open(&m->arena, m->dev, e);
    if (rc)
        return rc;
    model_carve_stored(m, w, &m->arena);
    for (int i = 0; i < m->base.count; i++) {
        if ((rc = check_experts(m, i, e)) ||
            (rc = load_stored(m, w, &m->base.at[i], &m->stored[i], e)))
            return rc;
        beat(m->conf.page);
    }
    rc = load_added(m, e);
    return rc ? rc : dev_sync(m->dev, e);
}

int model_load(struct model *m, struct weights *w, struct err *e)
{
    return m->conf.train ? fill_all(m, w, e) : load_serving(m, w, e);
}
