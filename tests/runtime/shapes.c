/*
 * shapes: see shapes.h. A fixture, linked into every test of this room. Random weights depend on
 * the tensor's place and the element alone.
 */
#include "tests/runtime/shapes.h"

#include "base/buf.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/family/tensors.h"

#include <assert.h>
#include <math.h>

#define LLAMA \
    .architecture = "llama", .norm_eps = 1e-5f, .rope_theta = 10000, .tied_embeddings = true, \
    .bos_id = -1, .eos_id = -1, .pad_id = -1
#define GPT2 \
    .architecture = "gpt2", .norm_eps = 1e-5f, .norm = NORM_LAYER, .activation = ACTIVATION_GELU, \
    .positions = POSITIONS_LEARNED, .qkv_bias = true, .o_bias = true, .ffn_bias = true, \
    .scaled_init = true, .tied_embeddings = true, .bos_id = -1, .eos_id = -1, .pad_id = -1
#define BERT \
    .architecture = "bert", .norm_eps = 1e-12f, .norm = NORM_LAYER, \
    .activation = ACTIVATION_GELU_ERF, .positions = POSITIONS_LEARNED, .qkv_bias = true, \
    .o_bias = true, .ffn_bias = true, .tied_embeddings = true, .post_norm = true, \
    .bidirectional = true, .embed_norm = true, .types = 2, .bos_id = -1, .eos_id = -1, .pad_id = 0
#define QWEN3 \
    .architecture = "qwen3", .norm_eps = 1e-6f, .rope_theta = 1000000, .qk_norm = true, \
    .bos_id = -1, .eos_id = -1, .pad_id = -1
#define MISTRAL \
    .architecture = "mistral", .norm_eps = 1e-5f, .rope_theta = 10000, .bos_id = -1, .eos_id = -1, \
    .pad_id = -1
#define QWEN3_MOE(f) \
    .architecture = "qwen3_moe", .norm_eps = 1e-6f, .rope_theta = 1000000, .qk_norm = true, \
    .bos_id = -1, .eos_id = -1, .pad_id = -1, .expert_ffn_dim = f
#define MIXTRAL(f) \
    .architecture = "mixtral", .norm_eps = 1e-5f, .rope_theta = 10000, .bos_id = -1, .eos_id = -1, \
    .pad_id = -1, .norm_topk = true, .expert_ffn_dim = f
#define EXPERTS(e, k) .experts = e, .experts_per_token = k, .balance_loss_coef = 0.5f
#define SIZES(v, c, l, h, kv, d, f, t) \
    .vocab = v, .dim = c, .layers = l, .heads = h, .kv_heads = kv, .head_dim = d, .ffn_dim = f, \
    .context = t

static const struct {
    const char *name;
    struct model_config config;
} shapes[] = {
    {"tiny-llama", {LLAMA, SIZES(61, 24, 3, 6, 2, 8, 40, 64)}},
    {"tiny-gpt2", {GPT2, SIZES(61, 21, 3, 3, 3, 7, 37, 17)}},
    {"tiny-bert", {BERT, SIZES(61, 21, 3, 3, 3, 7, 37, 17), .labels = 5}},
    {"tiny-texts", {BERT, SIZES(61, 21, 3, 3, 3, 7, 37, 17), .labels = 5, .pooled = true}},
    {"tiny-several",
        {BERT, SIZES(61, 21, 3, 3, 3, 7, 37, 17), .labels = 5, .pooled = true, .several = true}},
    {"tiny-last",
        {MISTRAL, SIZES(61, 24, 3, 6, 2, 8, 40, 64), .window = 5, .labels = 5, .last = true}},
    {"tiny-masked", {BERT, SIZES(61, 21, 3, 3, 3, 7, 37, 17), .masked = true}},
    {"tiny-qwen3", {QWEN3, SIZES(61, 24, 3, 6, 2, 10, 40, 64)}},
    {"tiny-mistral", {MISTRAL, SIZES(61, 24, 3, 6, 2, 8, 40, 64), .window = 5}},
    {"tiny-qwen3-moe", {QWEN3_MOE(13), SIZES(61, 24, 2, 6, 2, 10, 40, 64), EXPERTS(5, 2)}},
    {"tiny-mixtral", {MIXTRAL(20), SIZES(61, 24, 2, 6, 2, 8, 20, 64), EXPERTS(3, 2), .window = 5}},
    /* of its four frequencies one is kept, one mixed, two are divided */
    {"tiny-llama3",
        {LLAMA, SIZES(61, 24, 3, 6, 2, 8, 40, 64), .rope_scaling = {OP_ROPE_LLAMA3, 8, 1, 4, 96}}},
    {"small-llama", {LLAMA, SIZES(320, 128, 2, 4, 2, 64, 192, 96)}},
    {"small-gpt2", {GPT2, SIZES(320, 128, 2, 2, 2, 64, 512, 96)}},
    {"small-bert", {BERT, SIZES(320, 128, 2, 2, 2, 64, 512, 96), .labels = 9}},
    {"small-texts", {BERT, SIZES(320, 128, 2, 2, 2, 64, 512, 96), .labels = 9, .pooled = true}},
    {"small-masked", {BERT, SIZES(320, 128, 2, 2, 2, 64, 512, 96), .masked = true}},
    {"small-qwen3", {QWEN3, SIZES(320, 128, 2, 4, 2, 64, 192, 96)}},
    {"small-mistral", {MISTRAL, SIZES(320, 128, 2, 4, 2, 64, 192, 96), .window = 9}},
    /* padded to a multiple of 128, as is usual: GPT-2's own vocabulary has 50,257 */
    {"small-qwen3-moe", {QWEN3_MOE(96), SIZES(320, 128, 2, 4, 2, 64, 192, 96), EXPERTS(8, 3)}},
    {"gpt2-124m", {GPT2, SIZES(50304, 768, 12, 12, 12, 64, 3072, 1024)}},
    {"bert-base", {BERT, SIZES(30522, 768, 12, 12, 12, 64, 3072, 512), .labels = 9}},
    {"smollm2-135m", {LLAMA, SIZES(49152, 576, 30, 9, 3, 64, 1536, 2048)}},
    {"llama-1.1b", {LLAMA, SIZES(32000, 2048, 22, 32, 4, 64, 5632, 2048)}},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

int shape_find(const char *name, struct model_config *out, struct err *e)
{
    buf_auto struct buf known = {0};

    for (size_t i = 0; i < SHAPES; i++)
        if (!strcmp(name, shapes[i].name)) {
            *out = shapes[i].config;
            return 0;
        }
    buf_init(&known, 1024);
    for (size_t i = 0; i < SHAPES; i++)
        buf_printf(&known, " %s", shapes[i].name);
    return err_set(
        e, ERR_USER, "no shape %s; there are%s", name, known.data ? known.data : " none");
}

struct model_config shape_of(const char *name)
{
    struct model_config c = {0};
    int rc = shape_find(name, &c, NULL);

    assert(!rc);
    return c;
}

/* Matrices keep the variance of what they multiply; norms are near 1, biases near 0. */
static void fill(const struct tensor *p, uint64_t seed, float *out)
{
    float range = p->dims == 2 ? sqrtf(3 / (float)p->shape[1]) : 0.1f;
    float middle = p->dims == 1 && !strstr(p->name, ".bias") ? 1 : 0;

#pragma omp parallel for schedule(static) if (p->count > 1 << 16)
    for (int64_t i = 0; i < p->count; i++)
        out[i] = middle + range * ((float)op_random(seed, (uint64_t)i) * 0x1p-31f - 1);
}

static int write_parts(
    struct hf_writer *w, const struct tensors *p, enum dtype store, struct err *e)
{
    int rc = 0;

    for (int i = 0; i < p->count && !rc; i++) {
        const struct tensor *part = &p->at[i];
        mem_autofree float *host = mem_array((size_t)part->count, sizeof(float));

        if (!host)
            return err_set(e, ERR_MEMORY, "no memory for %s", part->name);
        fill(part, (uint64_t)i, host);
        rc = hf_writer_tensor(w, part->name, part->dims, part->shape, host, store, e);
    }
    return rc;
}

int shape_write(const char *folder, const struct model_config *c, enum dtype store, struct err *e)
{
    struct tensors p = {0};
    struct hf_writer *w = NULL;
    int rc;
    if (!(rc = tensors_create(c, &p, e)) && !(rc = hf_writer_create(folder, c, NULL, &w, e)) &&
        !(rc = write_parts(w, &p, store, e)))
        rc = hf_writer_finish(w, e);
    hf_writer_destroy(w);
    tensors_done(&p);
    return rc;
}
