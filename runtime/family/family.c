/*
 * family: which families there are, and where the files of each keep the tensors. Pure. What GGUF
 * files call a tensor is the same for all families but where theirs says otherwise; Hugging Face's
 * names are the canonical ones, with the same exception. Sources: llama.cpp's
 * gguf-py/gguf/constants.py, and its converter's LlamaModel.permute and GPT2Model.
 */
#include "runtime/family/family.h"

static const struct family *const families[] = {&family_llama, &family_qwen2, &family_qwen3,
    &family_mistral, &family_gpt2, &family_bert, &family_qwen3_moe, &family_mixtral};
#define FAMILIES (sizeof families / sizeof *families)

const struct family *family_named(const char *architecture, size_t len)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (strlen(families[i]->architecture) == len &&
            !memcmp(families[i]->architecture, architecture, len))
            return families[i];
    return NULL;
}

const struct family *family_of(const struct model_config *c)
{
    return family_named(c->architecture, strlen(c->architecture));
}

const struct family *family_of_gguf(const char *architecture, size_t len)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        const char *name = families[i]->gguf_architecture;
        name = name ? name : families[i]->architecture;
        if (strlen(name) == len && !memcmp(name, architecture, len))
            return families[i];
    }
    return NULL;
}

const char *family_gguf_architecture(const struct model_config *c)
{
    const struct family *f = family_of(c);
    return f->gguf_architecture ? f->gguf_architecture : f->architecture;
}

const char *family_list(char out[FAMILY_LIST_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < FAMILIES && n < FAMILY_LIST_BYTES; i++)
        n += (size_t)snprintf(
            out + n, FAMILY_LIST_BYTES - n, "%s%s", i ? ", " : "", families[i]->architecture);
    return out;
}

/* -- places -- */

static const char *const gguf_names[TENSOR_ROLES] = {
    [TENSOR_EMBED] = "token_embd",
    [TENSOR_POSITIONS] = "position_embd",
    [TENSOR_NORM_ATTENTION] = "attn_norm",
    [TENSOR_Q] = "attn_q",
    [TENSOR_K] = "attn_k",
    [TENSOR_V] = "attn_v",
    [TENSOR_NORM_Q] = "attn_q_norm",
    [TENSOR_NORM_K] = "attn_k_norm",
    [TENSOR_O] = "attn_output",
    [TENSOR_NORM_FFN] = "ffn_norm",
    [TENSOR_GATE] = "ffn_gate",
    [TENSOR_UP] = "ffn_up",
    [TENSOR_DOWN] = "ffn_down",
    [TENSOR_ROUTER] = "ffn_gate_inp",
    [TENSOR_EXPERT_GATE] = "ffn_gate_exps",
    [TENSOR_EXPERT_UP] = "ffn_up_exps",
    [TENSOR_EXPERT_DOWN] = "ffn_down_exps",
    [TENSOR_NORM_FINAL] = "output_norm",
    [TENSOR_HEAD] = "output",
};

/* NULL: the canonical name. */
static const char *own_name(const struct family *f, enum family_format format, enum tensor_role r)
{
    const char *name = f->names[format][r];
    return name || format == FAMILY_HF ? name : gguf_names[r];
}

static void name_place(
    const struct family *f, const struct tensor *t, enum family_format format, char out[128])
{
    const char *suffix = t->part == TENSOR_BIAS ? "bias" : "weight";
    char of_expert[TENSOR_STEM_BYTES];
    const char *name = own_name(f, format, t->role);
    if (name)
        name = tensor_stem(name, t->expert, of_expert);
    if (!name)
        snprintf(out, 128, "%s", t->name);
    else if (t->layer < 0)
        snprintf(out, 128, "%s.%s", name, suffix);
    else
        snprintf(out, 128, "%s.%d.%s.%s", format == FAMILY_GGUF ? "blk" : f->hf_layers, t->layer,
            name, suffix);
}

/* Adds up the rows of those that the file keeps as one with t. */
static void join_rows(const struct family *f, const struct tensors *all, const struct tensor *t,
    enum family_format format, struct family_place *out)
{
    const char *name = own_name(f, format, t->role);
    out->shape[0] = 0;
    for (enum tensor_role r = 0; r < TENSOR_ROLES; r++) {
        const struct tensor *x = tensors_get(all, r, t->part, t->layer, t->expert);
        const char *other = own_name(f, format, r);
        if (!x || (x != t && (!name || !other || strcmp(name, other))))
            continue;
        if (x == t)
            out->first = out->shape[0];
        out->shape[0] += x->shape[0];
    }
}

void family_place(const struct model_config *c, const struct tensors *all, const struct tensor *t,
    enum family_format format, struct family_place *out)
{
    const struct family *f = family_of(c);
    struct family_place p = {.dims = t->dims, .shape = {t->shape[0], t->shape[1]}};
    name_place(f, t, format, p.name);
    join_rows(f, all, t, format, &p);
    if (format == FAMILY_GGUF) {
        p.interleaved = f->gguf_interleaved && t->rotary_heads;
        if (t->expert >= 0) {
            p.stacked = c->experts;
            p.first += t->expert * p.shape[0];
            p.shape[0] *= c->experts;
        }
    } else {
        if (f->hf_optional && !strncmp(p.name, f->hf_optional, strlen(f->hf_optional)))
            p.optional = (int)strlen(f->hf_optional);
        p.transposed = f->hf_transposed && t->layer >= 0 && t->dims == 2;
    }
    if (p.transposed) {
        int64_t rows = p.shape[0];
        p.shape[0] = p.shape[1];
        p.shape[1] = rows;
    }
    *out = p;
}

void family_adapter(const struct model_config *c, int layer, bool attention, char out[128])
{
    const struct family *f = family_of(c);
    const char *own = f->hf_adapters[!attention];
    const char *usual = attention ? "attention_adapters" : "output_adapters";
    snprintf(out, 128, "%s.%d.%s", f->hf_layers ? f->hf_layers : "model.layers", layer,
        own ? own : usual);
}

int64_t family_gguf_row(int64_t row, int64_t head_dim)
{
    int64_t in_head = row % head_dim, half = head_dim / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}
