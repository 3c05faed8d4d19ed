/*
 * model_load: fills a model's tensors: from files (rows decoded through a bounded host stage, or
 * for serving stored blocks as they are) or with fresh random numbers that depend on the seed and
 * the tensor's name only, whatever the layout. Called once after model_create; must not be called
 * in a step.
 */
#include "runtime/model/internal.h"

#include "base/mem.h"
#include "base/random.h"
#include "runtime/door/beat.h"

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

/* Elements [first, first + n) of a freshly initialised tensor. GPT-2 scales the projections that
   end in the residual, of which there are two a layer (Radford et al. 2019, 2.3). */
static void fresh(
    const struct model *m, const struct tensor *p, int64_t first, int64_t n, float *out)
{
    uint64_t seed = name_seed(m->conf.seed, p->name);
    const struct model_config *c = &m->conf.config;
    bool residual = p->role == TENSOR_O || p->role == TENSOR_DOWN;
    float bound = p->dims == 2 ? 1 / sqrtf((float)p->shape[1]) : 0;
    float deviation = 0.02f;

    if (residual && c->scaled_init)
        deviation /= sqrtf(2 * (float)c->layers);

#pragma omp parallel for schedule(static) if (n > 1 << 16)
    for (int64_t i = 0; i < n; i++)
        if (p->dims == 1)
            out[i] = p->part == TENSOR_BIAS ? 0 : 1;
        else if (p->part == TENSOR_LORA_A)
            out[i] = bound * (float)(2 * uniform(seed, first + i) - 1);
        else
            out[i] = p->part == TENSOR_LORA_B ? 0 : deviation * normal(seed, first + i);
}

/* Host F32 values to where the part lives: the master, or the frozen weights in their type. */
static void place(
    struct model *m, const struct tensor *p, bool trained, int64_t first, int64_t n, float *stage)
{
    int64_t at = p->offset + first;

    if (trained) {
        dev_upload(m->dev, m->master + at, stage, (size_t)n * 4);
        return;
    }
    if (m->act == DTYPE_BF16) {
        uint16_t *narrow = (uint16_t *)stage;

        for (int64_t i = 0; i < n; i++) /* in place: element i is read before byte 2i is written */
            narrow[i] = f32_to_bf16(stage[i]);
    }
    dev_upload(
        m->dev, at_element(m->frozen, at, m->act), stage, (size_t)(n * dtype_block_bytes(m->act)));
}

static int fill_part(struct model *m, struct weights *w, const struct tensor *p, bool trained,
    float *stage, struct err *e)
{
    int64_t cols = p->dims == 2 ? p->shape[1] : 1, rows = p->shape[0];
    int64_t chunk = STAGE_ELEMENTS / cols;

    for (int64_t row = 0, n; row < rows; row += n) {
        n = rows - row < chunk ? rows - row : chunk;
        if (w) {
            int rc = weights_read(w, p->name, rows, cols, row, n, DTYPE_F32, stage, e);

            if (rc)
                return rc;
        } else {
            fresh(m, p, row * cols, n * cols, stage);
        }
        place(m, p, trained, row * cols, n * cols, stage);
        beat(m->conf.page);
    }
    return 0;
}

static int fill(struct model *m, struct weights *w, struct err *e)
{
    mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof(float));
    bool full = !m->conf.lora_rank;
    int rc = 0;

    if (!stage)
        return err_set(e, ERR_MEMORY, "no memory to load the model");
    for (int i = 0; i < m->base.count && !rc; i++)
        rc = fill_part(m, w, &m->base.at[i], full, stage, e);
    for (int i = 0; i < m->lora.count && !rc; i++)
        rc = fill_part(m, NULL, &m->lora.at[i], true, stage, e);
    if (rc)
        return rc;
    model_master_changed(m);
    return dev_sync(m->dev, e);
}

int model_init_random(struct model *m, struct err *e)
{
    if (!m->conf.train)
        return err_set(e, ERR_USER, "a model with random weights cannot be served");
    return fill(m, NULL, e);
}

/* -- serving: stored blocks -- */

static int64_t stored_size(const struct model *m, const struct weights_tensor *t)
{
    return t->type == DTYPE_F32 && m->conf.t == DTYPE_BF16 ? t->bytes / 2 : t->bytes;
}

static int load_stored(
    struct model *m, struct weights *w, const struct tensor *p, struct stored *out, struct err *e)
{
    const struct weights_tensor *t = weights_find(w, p->name);
    const void *raw;
    enum dtype type;
    int rc;

    if (!t)
        return err_set(e, ERR_DATA, "the model has no tensor %s", p->name);
    if (t->dims != p->dims || t->shape[0] != p->shape[0] ||
        (p->dims == 2 && t->shape[1] != p->shape[1]))
        return err_set(
            e, ERR_DATA, "tensor %s has another shape than the configuration says", p->name);
    out->type = t->type == DTYPE_F32 && m->conf.t == DTYPE_BF16 ? DTYPE_BF16 : t->type;
    out->data = model_cut(&m->stored_arena, stored_size(m, t));
    if (out->type == t->type) {
        rc = weights_raw(w, p->name, &type, &raw, e);
        if (!rc)
            dev_upload(m->dev, out->data, raw, (size_t)t->bytes);
        return rc;
    }
    for (int64_t row = 0, n, chunk = STAGE_ELEMENTS / p->shape[1]; row < p->shape[0]; row += n) {
        mem_autofree void *stage = NULL;

        n = p->shape[0] - row < chunk ? p->shape[0] - row : chunk;
        stage = mem_array((size_t)(n * p->shape[1]), 2);
        if (!stage)
            return err_set(e, ERR_MEMORY, "no memory to load the model");
        rc = weights_read(w, p->name, p->shape[0], p->shape[1], row, n, DTYPE_BF16, stage, e);
        if (rc)
            return rc;
        dev_upload(m->dev, at_element(out->data, row * p->shape[1], DTYPE_BF16), stage,
            (size_t)(n * p->shape[1]) * 2);
    }
    return 0;
}

/* Norms, biases and learned positions: F32, whatever the file has. */
static int load_plain(
    struct model *m, struct weights *w, const struct tensor *p, const void **out, struct err *e)
{
    mem_autofree float *host = mem_array((size_t)p->count, sizeof(float));
    void *to = model_cut(&m->stored_arena, p->count * 4);
    int64_t cols = p->dims == 2 ? p->shape[1] : 1;
    int rc;

    if (!host)
        return err_set(e, ERR_MEMORY, "no memory to load the model");
    rc = weights_read(w, p->name, p->shape[0], cols, 0, p->shape[0], DTYPE_F32, host, e);
    if (rc)
        return rc;
    dev_upload(m->dev, to, host, (size_t)p->count * 4);
    *out = to;
    return 0;
}

static int load_norm(struct model *m, struct weights *w, enum tensor_role role, int64_t layer,
    struct norm *out, struct err *e)
{
    const struct tensor *bias = tensors_get(&m->base, role, TENSOR_BIAS, layer, -1);
    int rc = load_plain(m, w, tensors_get(&m->base, role, TENSOR_WEIGHT, layer, -1), &out->w, e);
    return rc || !bias ? rc : load_plain(m, w, bias, &out->bias, e);
}

static int load_linear(
    struct model *m, struct weights *w, int64_t layer, struct linear *to, struct err *e)
{
    for (int j = 0; j < to->shape.pieces; j++) {
        enum tensor_role role = to->shape.role[j];
        const struct tensor *bias = tensors_get(&m->base, role, TENSOR_BIAS, layer, -1);
        int rc = load_stored(
            m, w, tensors_get(&m->base, role, TENSOR_WEIGHT, layer, -1), &to->stored[j], e);
        if (!rc && bias)
            rc = load_plain(m, w, bias, &to->bias[j], e);
        if (rc)
            return rc;
    }
    return 0;
}

static int load_layer(struct model *m, struct weights *w, int64_t i, struct err *e)
{
    struct layer *l = &m->layers[i];
    int rc = 0;
    for (enum linear_kind k = 0; k < LINEARS && !rc; k++)
        rc = load_linear(m, w, i, &l->linear[k], e);
    if (!rc)
        rc = load_norm(m, w, TENSOR_NORM_ATTENTION, i, &l->norm[0], e);
    if (!rc)
        rc = load_norm(m, w, TENSOR_NORM_FFN, i, &l->norm[1], e);
    beat(m->conf.page);
    return rc;
}

static int64_t serving_bytes(const struct model *m, const struct weights *w)
{
    int64_t size = 0;
    for (int i = 0; i < m->base.count; i++) {
        const struct tensor *p = &m->base.at[i];
        const struct weights_tensor *t = weights_find(w, p->name);
        bool plain = p->dims == 1 || p->role == TENSOR_POSITIONS;
        size = memplan_plus(size, plain ? p->count * 4 : t ? stored_size(m, t) : 0);
        size = memplan_plus(size, 64);
    }
    return size;
}

static int load_serving(struct model *m, struct weights *w, struct err *e)
{
    const struct tensor *embed = tensors_get(&m->base, TENSOR_EMBED, TENSOR_WEIGHT, -1, -1);
    const struct tensor *positions = tensors_get(&m->base, TENSOR_POSITIONS, TENSOR_WEIGHT, -1, -1);
    int64_t size = serving_bytes(m, w);
    int rc = model_arena_open(m, &m->stored_arena, size, e);
    m->plan.total += size - m->plan.weights;
    m->plan.weights = size;
    if (!rc)
        rc = load_stored(m, w, embed, &m->stored_embed, e);
    m->stored_head = m->stored_embed;
    if (!rc && tensors_head(&m->base) != embed)
        rc = load_stored(m, w, tensors_head(&m->base), &m->stored_head, e);
    if (!rc && positions)
        rc = load_plain(m, w, positions, &m->positions, e);
    for (int64_t i = 0; i < m->conf.config.layers && !rc; i++)
        rc = load_layer(m, w, i, e);
    if (!rc)
        rc = load_norm(m, w, TENSOR_NORM_FINAL, -1, &m->final, e);
    return rc ? rc : model_decode_prepare(m, e);
}

int model_load(struct model *m, struct weights *w, struct err *e)
{
    return m->conf.train ? fill(m, w, e) : load_serving(m, w, e);
}
