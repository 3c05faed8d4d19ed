/*
 * mix: the rules as switches over role and layer.
 */
#include "runtime/family/mix.h"

static bool is_plain(const struct tensor *t)
{
    return t->dims == 1 || t->role == TENSOR_POSITIONS || t->role == TENSOR_TYPES ||
        t->role == TENSOR_ROUTER;
}

static bool is_head(const struct model_config *c, const struct tensor *t)
{
    return t->role == TENSOR_HEAD || (t->role == TENSOR_EMBED && c->tied_embeddings);
}

/* The first eighth of the layers, the last, and of those between every third. */
static bool gets_more_bits(int64_t layer, int64_t layers)
{
    int64_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

static enum dtype type_of_q4_k_m(const struct model_config *c, const struct tensor *t, bool joined)
{
    bool listed = t->role == TENSOR_V || t->role == TENSOR_DOWN || t->role == TENSOR_EXPERT_DOWN;
    if (is_head(c, t) || joined)
        return DTYPE_Q6_K;
    return listed && gets_more_bits(t->layer, c->layers) ? DTYPE_Q6_K : DTYPE_Q4_K;
}

/* What holds rows of that many numbers. */
static enum dtype that_fits(enum dtype type, int64_t columns)
{
    if (columns % dtype_block(type) == 0)
        return type;
    if (columns % 32)
        return DTYPE_F16;
    return type == DTYPE_Q4_K ? DTYPE_Q5_1 : DTYPE_Q8_0;
}

enum dtype mix_type(const struct model_config *c, enum quantize q, const struct tensor *t,
    bool joined, enum dtype stored)
{
    if (is_plain(t))
        return DTYPE_F32;
    switch (q) {
    case QUANTIZE_NONE:
        return stored;
    case QUANTIZE_F32:
        return DTYPE_F32;
    case QUANTIZE_F16:
        return DTYPE_F16;
    case QUANTIZE_BF16:
        return DTYPE_BF16;
    case QUANTIZE_Q8_0:
        return that_fits(DTYPE_Q8_0, t->shape[1]);
    case QUANTIZE_Q4_0:
        return that_fits(is_head(c, t) ? DTYPE_Q6_K : DTYPE_Q4_0, t->shape[1]);
    case QUANTIZE_Q4_K_M:
        return that_fits(type_of_q4_k_m(c, t, joined), t->shape[1]);
    }
    return stored;
}

/* What all matrices have; DTYPES: they differ. */
static enum dtype common_type(const struct weights *from)
{
    enum dtype common = DTYPES;
    for (int i = 0; i < weights_count(from); i++) {
        const struct weights_tensor *t = weights_at(from, i);
        if (t->dims < 2)
            continue;
        if (common != DTYPES && t->type != common)
            return DTYPES;
        common = t->type;
    }
    return common;
}

enum dtype mix_folder_type(enum quantize q, const struct weights *from)
{
    enum dtype common = common_type(from);
    if (q == QUANTIZE_BF16 || q == QUANTIZE_F16)
        return q == QUANTIZE_BF16 ? DTYPE_BF16 : DTYPE_F16;
    return q == QUANTIZE_NONE && (common == DTYPE_BF16 || common == DTYPE_F16) ? common : DTYPE_F32;
}

uint32_t mix_file_type(enum quantize q, const struct weights *from)
{
    enum dtype common = q == QUANTIZE_NONE ? common_type(from) : DTYPES;
    if (q == QUANTIZE_Q4_K_M)
        return 15;
    if (q == QUANTIZE_Q4_0)
        return 2;
    if (q == QUANTIZE_Q8_0 || common == DTYPE_Q8_0)
        return 7;
    if (q == QUANTIZE_F16 || common == DTYPE_F16)
        return 1;
    return q == QUANTIZE_BF16 || common == DTYPE_BF16 ? 32 : 0;
}
