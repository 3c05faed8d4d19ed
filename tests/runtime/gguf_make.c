/*
 * gguf_make: see gguf_make.h. A fixture, linked into every test of this room. Written from the
 * format's description, not from the reader.
 */
#include "tests/runtime/gguf_make.h"

#include "base/mem.h"
#include "kernels/dev.h"
#include "runtime/files/safetensors.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <math.h>

void gguf_make_init(struct gguf_make *m)
{
    *m = (struct gguf_make){.version = 3, .alignment = 32};
    buf_init(&m->keys, 1 << 24);
    buf_init(&m->infos, 1 << 24);
    buf_init(&m->data, 1 << 24);
}

void gguf_make_done(struct gguf_make *m)
{
    buf_done(&m->keys);
    buf_done(&m->infos);
    buf_done(&m->data);
}

static void put_str(struct buf *b, const char *s)
{
    uint64_t n = strlen(s);
    buf_add(b, &n, 8);
    buf_add(b, s, n);
}

void gguf_make_raw(struct gguf_make *m, const char *key, uint32_t type, const void *p, size_t n)
{
    put_str(&m->keys, key);
    buf_add(&m->keys, &type, 4);
    buf_add(&m->keys, p, n);
    m->key_count++;
}

void gguf_make_u32(struct gguf_make *m, const char *key, uint32_t v)
{
    gguf_make_raw(m, key, 4, &v, 4);
}

void gguf_make_f32(struct gguf_make *m, const char *key, float v)
{
    gguf_make_raw(m, key, 6, &v, 4);
}

void gguf_make_str(struct gguf_make *m, const char *key, const char *v)
{
    gguf_make_raw(m, key, 8, NULL, 0);
    put_str(&m->keys, v);
}

static void put_array(struct gguf_make *m, const char *key, uint32_t type, uint64_t count)
{
    gguf_make_raw(m, key, 9, &type, 4);
    buf_add(&m->keys, &count, 8);
}

void gguf_make_strs(struct gguf_make *m, const char *key, const char *const *v, uint64_t count)
{
    put_array(m, key, 8, count);
    for (uint64_t i = 0; i < count; i++)
        put_str(&m->keys, v[i]);
}

void gguf_make_i32s(struct gguf_make *m, const char *key, const int32_t *v, uint64_t count)
{
    put_array(m, key, 5, count);
    buf_add(&m->keys, v, count * 4);
}

static void align(struct buf *b, uint64_t alignment)
{
    while (b->len % alignment)
        buf_char(b, 0);
}

void gguf_make_tensor(struct gguf_make *m, const char *name, uint32_t type, uint32_t dims,
    const int64_t *ne, int64_t offset, const void *data, size_t bytes)
{
    align(&m->data, m->alignment);
    uint64_t at = offset < 0 ? m->data.len : (uint64_t)offset;
    put_str(&m->infos, name);
    buf_add(&m->infos, &dims, 4);
    buf_add(&m->infos, ne, dims * 8);
    buf_add(&m->infos, &type, 4);
    buf_add(&m->infos, &at, 8);
    buf_add(&m->data, data, bytes);
    m->tensor_count++;
}

void gguf_make_finish(const struct gguf_make *m, struct buf *out)
{
    buf_reset(out);
    buf_add(out, "GGUF", 4);
    buf_add(out, &m->version, 4);
    buf_add(out, &m->tensor_count, 8);
    buf_add(out, &m->key_count, 8);
    buf_add(out, m->keys.data, m->keys.len);
    buf_add(out, m->infos.data, m->infos.len);
    align(out, m->alignment);
    buf_add(out, m->data.data, m->data.len);
    ck_assert(buf_ok(out));
}

/* -- the tiny model -- */

static void quantise(const float *x, int64_t count, struct buf *out)
{
    for (int64_t i = 0; i < count; i += 32) {
        float most = 0;
        for (int k = 0; k < 32; k++)
            most = fmaxf(most, fabsf(x[i + k]));
        uint16_t scale = f32_to_f16(most / 127);
        buf_add(out, &scale, 2);
        for (int k = 0; k < 32; k++)
            buf_char(out, (char)lrintf(x[i + k] / f16_to_f32(scale)));
    }
}

static void put_tensor(struct gguf_make *m, const struct safetensors_tensor *t, const char *name,
    int64_t head_dim, bool quantised)
{
    int64_t rows = t->shape[0], cols = t->dims > 1 ? t->shape[1] : 1;
    int64_t ne[2] = {t->dims > 1 ? cols : rows, rows};
    struct buf data;
    buf_init(&data, 1 << 24);
    for (int64_t r = 0; r < rows; r++) {
        /* llama.cpp's permute: row 2j + s of a head comes from row s * half + j */
        int64_t in = r % (head_dim ? head_dim : 1), half = head_dim / 2;
        int64_t from = head_dim ? r - in + in % 2 * half + in / 2 : r;
        buf_add(&data, t->data + from * cols * 4, (size_t)cols * 4);
    }
    if (quantised) {
        struct buf blocks;
        buf_init(&blocks, 1 << 24);
        quantise((const float *)(const void *)data.data, rows * cols, &blocks);
        gguf_make_tensor(m, name, 8, 2, ne, -1, blocks.data, blocks.len);
        buf_done(&blocks);
    } else {
        gguf_make_tensor(m, name, 0, (uint32_t)t->dims, ne, -1, data.data, data.len);
    }
    buf_done(&data);
}

/* head_dim: of interleaved rows; 0: none are. Of tensors, those that there are. */
static void put_tensors(
    struct gguf_make *m, const struct safetensors *s, int64_t head_dim, bool quantised)
{
    static const char *const parts[][2] = {
        {"input_layernorm", "attn_norm"},
        {"post_attention_layernorm", "ffn_norm"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
        {"self_attn.q_norm", "attn_q_norm"},
        {"self_attn.k_norm", "attn_k_norm"},
    };
    char name[128], theirs[128];
    put_tensor(m, safetensors_find(s, "model.embed_tokens.weight"), "token_embd.weight", 0, false);
    put_tensor(m, safetensors_find(s, "model.norm.weight"), "output_norm.weight", 0, false);
    if (safetensors_find(s, "lm_head.weight"))
        put_tensor(m, safetensors_find(s, "lm_head.weight"), "output.weight", 0, false);
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 11; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, parts[i][0]);
            snprintf(theirs, sizeof theirs, "blk.%d.%s.weight", l, parts[i][1]);
            if (i < 6 || safetensors_find(s, name))
                put_tensor(m, safetensors_find(s, name), theirs, i == 2 || i == 3 ? head_dim : 0,
                    quantised && l == 1 && i == 8);
        }
}

static void put_tokenizer(struct gguf_make *m)
{
    char text[256][8];
    const char *tokens[256];
    int32_t types[256];
    for (int b = 0; b < 256; b++) {
        uint32_t c = tok_byte_char((uint8_t)b);
        if (c < 0x80)
            snprintf(text[b], 8, "%c", (char)c);
        else
            snprintf(text[b], 8, "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)));
        tokens[b] = text[b];
        types[b] = 1;
    }
    tokens[1] = "<s>";
    tokens[2] = "</s>";
    types[1] = types[2] = 3;
    gguf_make_str(m, "tokenizer.ggml.model", "gpt2");
    gguf_make_str(m, "tokenizer.ggml.pre", "gpt-2");
    gguf_make_strs(m, "tokenizer.ggml.tokens", tokens, 256);
    gguf_make_i32s(m, "tokenizer.ggml.token_type", types, 256);
    gguf_make_strs(m, "tokenizer.ggml.merges", NULL, 0);
    gguf_make_u32(m, "tokenizer.ggml.bos_token_id", 1);
    gguf_make_u32(m, "tokenizer.ggml.eos_token_id", 2);
    gguf_make_str(m, "tokenizer.chat_template",
        "{% for m in messages %}{{ bos_token + m.content + eos_token }}{% endfor %}");
}

void gguf_make_tiny(struct buf *out)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    ck_assert_msg(!safetensors_open(GOLDEN "tiny-llama/model.safetensors", &s, &e), "%s", e.text);
    struct gguf_make m;
    gguf_make_init(&m);
    gguf_make_str(&m, "general.architecture", "llama");
    gguf_make_u32(&m, "llama.embedding_length", 64);
    gguf_make_u32(&m, "llama.block_count", 2);
    gguf_make_u32(&m, "llama.attention.head_count", 4);
    gguf_make_u32(&m, "llama.attention.head_count_kv", 2);
    gguf_make_u32(&m, "llama.feed_forward_length", 128);
    gguf_make_u32(&m, "llama.context_length", 128);
    gguf_make_f32(&m, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_make_f32(&m, "llama.rope.freq_base", 10000);
    put_tokenizer(&m);
    put_tensors(&m, s, 16, true);
    gguf_make_finish(&m, out);
    gguf_make_done(&m);
    safetensors_close(s);
}

/* transposed: (in, out) becomes (out, in), as llama.cpp's converter does */
static void put_gpt2(struct gguf_make *m, const struct safetensors *s, const char *from,
    const char *name, bool transposed, bool quantised)
{
    char full[160];
    snprintf(full, sizeof full, "transformer.%s", from);
    const struct safetensors_tensor *t = safetensors_find(s, full);
    ck_assert_msg(t != NULL, "%s", full);
    int64_t a = t->shape[0], b = t->dims > 1 ? t->shape[1] : 1;
    const float *x = (const float *)(const void *)t->data;
    int64_t ne[2] = {t->dims == 1 || transposed ? a : b, transposed ? b : a};
    struct buf data, blocks;
    buf_init(&data, 1 << 24);
    buf_init(&blocks, 1 << 24);
    for (int64_t i = 0; i < a * b; i++)
        buf_add(&data, &x[transposed ? i % a * b + i / a : i], 4);
    if (quantised) {
        quantise((const float *)(const void *)data.data, a * b, &blocks);
        gguf_make_tensor(m, name, 8, 2, ne, -1, blocks.data, blocks.len);
    } else {
        gguf_make_tensor(m, name, 0, (uint32_t)t->dims, ne, -1, data.data, data.len);
    }
    buf_done(&data);
    buf_done(&blocks);
}

static void put_gpt2_layer(struct gguf_make *m, const struct safetensors *s, int layer)
{
    static const struct {
        const char *from, *to;
        bool norm, quantised;
    } rows[] = {
        {"ln_1", "attn_norm", true, false},
        {"attn.c_attn", "attn_qkv", false, true},
        {"attn.c_proj", "attn_output", false, false},
        {"ln_2", "ffn_norm", true, false},
        {"mlp.c_fc", "ffn_up", false, false},
        {"mlp.c_proj", "ffn_down", false, true},
    };
    char from[128], to[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(from, sizeof from, "h.%d.%s.weight", layer, rows[i].from);
        snprintf(to, sizeof to, "blk.%d.%s.weight", layer, rows[i].to);
        put_gpt2(m, s, from, to, !rows[i].norm, rows[i].quantised && layer == 1);
        snprintf(from, sizeof from, "h.%d.%s.bias", layer, rows[i].from);
        snprintf(to, sizeof to, "blk.%d.%s.bias", layer, rows[i].to);
        put_gpt2(m, s, from, to, false, false);
    }
}

void gguf_make_gpt2(struct buf *out)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    ck_assert_msg(!safetensors_open(GOLDEN "tiny-gpt2/model.safetensors", &s, &e), "%s", e.text);
    struct gguf_make m;
    gguf_make_init(&m);
    gguf_make_str(&m, "general.architecture", "gpt2");
    gguf_make_u32(&m, "gpt2.embedding_length", 32);
    gguf_make_u32(&m, "gpt2.block_count", 2);
    gguf_make_u32(&m, "gpt2.attention.head_count", 4);
    gguf_make_u32(&m, "gpt2.feed_forward_length", 128);
    gguf_make_u32(&m, "gpt2.context_length", 48);
    gguf_make_f32(&m, "gpt2.attention.layer_norm_epsilon", 1e-5f);
    put_gpt2(&m, s, "wte.weight", "token_embd.weight", false, false);
    put_gpt2(&m, s, "wpe.weight", "position_embd.weight", false, false);
    for (int l = 0; l < 2; l++)
        put_gpt2_layer(&m, s, l);
    put_gpt2(&m, s, "ln_f.weight", "output_norm.weight", false, false);
    put_gpt2(&m, s, "ln_f.bias", "output_norm.bias", false, false);
    gguf_make_finish(&m, out);
    gguf_make_done(&m);
    safetensors_close(s);
}

/* By what llama.cpp divides a frequency: its converter's generate_extra_tensors. */
static float llama3_factor(double frequency)
{
    double wavelength = 2 * M_PI / frequency, context = 32, smooth;
    if (wavelength < context / 4)
        return 1;
    if (wavelength > context / 1)
        return 8;
    smooth = (context / wavelength - 1) / (4 - 1);
    return (float)(1 / ((1 - smooth) / 8 + smooth));
}

static void put_llama3(struct gguf_make *m)
{
    float factors[8];
    for (int i = 0; i < 8; i++)
        factors[i] = llama3_factor(1 / pow(10000, (double)i / 8));
    gguf_make_u32(m, "llama.rope.scaling.original_context_length", 32);
    gguf_make_tensor(
        m, "rope_freqs.weight", 0, 1, (const int64_t[]){8, 1}, -1, factors, sizeof factors);
}

void gguf_make_family(const char *name, struct buf *out)
{
    bool qwen3 = !strcmp(name, "qwen3"), mistral = !strcmp(name, "mistral");
    uint32_t head_dim = qwen3 ? 12 : mistral ? 8 : 16;
    struct safetensors *s = NULL;
    struct gguf_make m;
    struct err e = {0};
    char text[96];
    snprintf(text, sizeof text, GOLDEN "tiny-%s/model.safetensors", name);
    ck_assert_msg(!safetensors_open(text, &s, &e), "%s", e.text);
    gguf_make_init(&m);
    gguf_make_str(&m, "general.architecture", qwen3 ? "qwen3" : "llama");
#define KEY(key) (snprintf(text, sizeof text, "%s.%s", qwen3 ? "qwen3" : "llama", key), text)
    gguf_make_u32(&m, KEY("embedding_length"), 32);
    gguf_make_u32(&m, KEY("block_count"), 2);
    gguf_make_u32(&m, KEY("attention.head_count"), 4);
    gguf_make_u32(&m, KEY("attention.head_count_kv"), 2);
    gguf_make_u32(&m, KEY("attention.key_length"), head_dim);
    gguf_make_u32(&m, KEY("attention.value_length"), head_dim);
    gguf_make_u32(&m, KEY("rope.dimension_count"), head_dim);
    gguf_make_u32(&m, KEY("feed_forward_length"), 48);
    gguf_make_u32(&m, KEY("context_length"), 64);
    gguf_make_f32(&m, KEY("attention.layer_norm_rms_epsilon"), qwen3 ? 1e-6f : 1e-5f);
    gguf_make_f32(&m, KEY("rope.freq_base"), qwen3 ? 1e6f : 1e4f);
    if (mistral)
        gguf_make_u32(&m, KEY("attention.sliding_window"), 7);
#undef KEY
    if (!qwen3 && !mistral)
        put_llama3(&m);
    put_tensors(&m, s, qwen3 ? 0 : head_dim, false);
    gguf_make_finish(&m, out);
    gguf_make_done(&m);
    safetensors_close(s);
}

/* The same of each of four experts as one tensor, (rows, columns) of each behind the other. */
static void put_stacked(struct gguf_make *m, const struct safetensors *s, const char *layer,
    const char *from, const char *to, bool quantised)
{
    char name[128];
    int64_t ne[3] = {0, 0, 4};
    struct buf data, blocks;
    buf_init(&data, 1 << 24);
    buf_init(&blocks, 1 << 24);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.experts.%d.%s.weight", layer, i, from);
        const struct safetensors_tensor *t = safetensors_find(s, name);
        ck_assert_msg(t != NULL, "%s", name);
        ne[0] = t->shape[1];
        ne[1] = t->shape[0];
        buf_add(&data, t->data, (size_t)t->bytes);
    }
    if (quantised) {
        quantise((const float *)(const void *)data.data, ne[0] * ne[1] * 4, &blocks);
        gguf_make_tensor(m, to, 8, 3, ne, -1, blocks.data, blocks.len);
    } else {
        gguf_make_tensor(m, to, 0, 3, ne, -1, data.data, data.len);
    }
    buf_done(&blocks);
    buf_done(&data);
}

static void put_experts(
    struct gguf_make *m, const struct safetensors *s, bool qwen3, bool quantised)
{
    char layer[64], name[128], to[64];
    for (int l = 0; l < 2; l++) {
        snprintf(layer, sizeof layer, "model.layers.%d.%s", l, qwen3 ? "mlp" : "block_sparse_moe");
        snprintf(name, sizeof name, "%s.gate.weight", layer);
        snprintf(to, sizeof to, "blk.%d.ffn_gate_inp.weight", l);
        put_tensor(m, safetensors_find(s, name), to, 0, false);
        snprintf(to, sizeof to, "blk.%d.ffn_gate_exps.weight", l);
        put_stacked(m, s, layer, qwen3 ? "gate_proj" : "w1", to, quantised);
        snprintf(to, sizeof to, "blk.%d.ffn_up_exps.weight", l);
        put_stacked(m, s, layer, qwen3 ? "up_proj" : "w3", to, quantised);
        snprintf(to, sizeof to, "blk.%d.ffn_down_exps.weight", l);
        put_stacked(m, s, layer, qwen3 ? "down_proj" : "w2", to, false);
    }
}

void gguf_make_mixture(const char *name, bool quantised, struct buf *out)
{
    bool qwen3 = !strcmp(name, "qwen3-moe");
    uint32_t head_dim = qwen3 ? 12 : 8;
    struct safetensors *s = NULL;
    struct gguf_make m;
    struct err e = {0};
    char text[96];
    snprintf(text, sizeof text, GOLDEN "tiny-%s/model.safetensors", name);
    ck_assert_msg(!safetensors_open(text, &s, &e), "%s", e.text);
    gguf_make_init(&m);
    gguf_make_str(&m, "general.architecture", qwen3 ? "qwen3moe" : "llama");
#define KEY(key) (snprintf(text, sizeof text, "%s.%s", qwen3 ? "qwen3moe" : "llama", key), text)
    gguf_make_u32(&m, KEY("embedding_length"), 32);
    gguf_make_u32(&m, KEY("block_count"), 2);
    gguf_make_u32(&m, KEY("attention.head_count"), 4);
    gguf_make_u32(&m, KEY("attention.head_count_kv"), 2);
    gguf_make_u32(&m, KEY("attention.key_length"), head_dim);
    gguf_make_u32(&m, KEY("attention.value_length"), head_dim);
    gguf_make_u32(&m, KEY("rope.dimension_count"), head_dim);
    gguf_make_u32(&m, KEY("feed_forward_length"), qwen3 ? 48 : 20);
    gguf_make_u32(&m, KEY("context_length"), 64);
    gguf_make_u32(&m, KEY("expert_count"), 4);
    gguf_make_u32(&m, KEY("expert_used_count"), 2);
    if (qwen3)
        gguf_make_u32(&m, KEY("expert_feed_forward_length"), 24);
    gguf_make_f32(&m, KEY("attention.layer_norm_rms_epsilon"), qwen3 ? 1e-6f : 1e-5f);
    gguf_make_f32(&m, KEY("rope.freq_base"), qwen3 ? 1e6f : 1e4f);
#undef KEY
    put_tensors(&m, s, qwen3 ? 0 : head_dim, false);
    put_experts(&m, s, qwen3, quantised);
    gguf_make_finish(&m, out);
    gguf_make_done(&m);
    safetensors_close(s);
}
