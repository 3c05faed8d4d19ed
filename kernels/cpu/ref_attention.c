/*
 * ref_attention: the reference attention (see ref.c). One query at a time against all the keys it
 * may see; the row of probabilities is recomputed in the backward pass from the saved log of the
 * sum of exponentials. Shapes: q, o, dout (B, T, H, D); k, v (B, before + T, G, D); head h reads
 * key/value head h / (H / G).
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

#include <math.h>

struct ref_head { /* offsets of one (batch, head) */
    int64_t b, h, g;
};

/* Of a sequence, those before its queries included. */
static int64_t ref_keys(const struct op_attention *a)
{
    return a->before + a->tokens;
}
static int64_t ref_q(const struct op_attention *a, struct ref_head s, int64_t t)
{
    return (s.b * a->tokens + t) * a->ldq + s.h * a->d;
}
static int64_t ref_k(const struct op_attention *a, struct ref_head s, int64_t t)
{
    return (s.b * ref_keys(a) + t) * a->ldk + s.g * a->d;
}
static int64_t ref_v(const struct op_attention *a, struct ref_head s, int64_t t)
{
    return (s.b * ref_keys(a) + t) * a->ldv + s.g * a->d;
}
static int64_t ref_o(const struct op_attention *a, struct ref_head s, int64_t t)
{
    return ((s.b * a->tokens + t) * a->h + s.h) * a->d;
}

static double ref_dot(
    const struct op_attention *a, const void *x, int64_t xi, const void *y, int64_t yi)
{
    double sum = 0;
    for (int64_t c = 0; c < a->d; c++)
        sum += (double)ref_load(a->t, x, xi + c) * ref_load(a->t, y, yi + c);
    return sum;
}

/* The tokens of sequence b that exist, and the keys that its query i sees: [first, end). */
static int64_t ref_length(const struct op_attention *a, int64_t b)
{
    return a->length ? a->length[b] : a->tokens;
}
static int64_t ref_first(const struct op_attention *a, int64_t b, int64_t i)
{
    return a->first ? a->first[b * a->tokens + i] : 0;
}
static int64_t ref_end(const struct op_attention *a, int64_t b, int64_t i)
{
    int64_t length = ref_length(a, b);
    return i >= length ? 0 : a->bidirectional ? length : a->before + i + 1;
}

static double ref_keep(const struct op_attention *a, struct ref_head s, int64_t i, int64_t j)
{
    return op_attention_keep(&a->drop, op_attention_draw(a, s.b, s.h, i) + (uint64_t)j);
}

static void ref_attention_query(
    const struct op_attention *a, struct ref_head s, int64_t i, double *p)
{
    double max = -INFINITY, sum = 0;
    int64_t first = ref_first(a, s.b, i), end = ref_end(a, s.b, i);
    for (int64_t j = first; j < end; j++) {
        p[j] = a->scale * ref_dot(a, a->q, ref_q(a, s, i), a->k, ref_k(a, s, j));
        max = fmax(max, p[j]);
    }
    for (int64_t j = first; j < end; j++)
        sum += p[j] = exp(p[j] - max);
    a->lse[(s.b * a->h + s.h) * a->tokens + i] = end ? (float)(max + log(sum)) : 0;
    for (int64_t j = first; j < end; j++)
        p[j] *= ref_keep(a, s, i, j);
    for (int64_t c = 0; c < a->d; c++) {
        double o = 0;
        for (int64_t j = first; j < end; j++)
            o += p[j] * ref_load(a->t, a->v, ref_v(a, s, j) + c);
        ref_store(a->t, a->o, ref_o(a, s, i) + c, end ? (float)(o / sum) : 0);
    }
}

void op_ref_attention(struct dev *d, const struct op_attention *a)
{
    double *p = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)ref_keys(a) * sizeof *p);
    if (!p)
        return;
    for (int64_t b = 0; b < a->b; b++)
        for (int64_t h = 0; h < a->h; h++)
            for (int64_t i = 0; i < a->tokens; i++)
                ref_attention_query(a, (struct ref_head){b, h, h / (a->h / a->g)}, i, p);
}

/* Adds the gradients that query i of one head gives: dq (D), and dk, dv (keys, D) of its key/value
 * head. */
static void ref_attention_query_back(
    const struct op_attention *a, struct ref_head s, int64_t i, double *dq, double *dk, double *dv)
{
    double lse = a->lse[(s.b * a->h + s.h) * a->tokens + i];
    double delta = ref_dot(a, a->dout, ref_o(a, s, i), a->o, ref_o(a, s, i));
    int64_t end = ref_end(a, s.b, i);
    for (int64_t c = 0; c < a->d; c++)
        dq[c] = 0;
    for (int64_t j = ref_first(a, s.b, i); j < end; j++) {
        double p = exp(a->scale * ref_dot(a, a->q, ref_q(a, s, i), a->k, ref_k(a, s, j)) - lse);
        double keep = ref_keep(a, s, i, j);
        double dp = keep * ref_dot(a, a->dout, ref_o(a, s, i), a->v, ref_v(a, s, j));
        double ds = p * (dp - delta) * a->scale;
        for (int64_t c = 0; c < a->d; c++) {
            dv[j * a->d + c] += p * keep * ref_load(a->t, a->dout, ref_o(a, s, i) + c);
            dk[j * a->d + c] += ds * ref_load(a->t, a->q, ref_q(a, s, i) + c);
            dq[c] += ds * ref_load(a->t, a->k, ref_k(a, s, j) + c);
        }
    }
    for (int64_t c = 0; c < a->d; c++)
        ref_store(a->t, a->dq, ref_q(a, s, i) + c, (float)dq[c]);
}

void op_ref_attention_back(struct dev *d, const struct op_attention *a)
{
    int64_t group = a->h / a->g, span = ref_keys(a) * a->d;
    double *dk = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(2 * span + a->d) * sizeof *dk),
           *dv = dk + span, *dq = dv + span;
    if (!dk)
        return;
    for (int64_t b = 0; b < a->b; b++)
        for (int64_t g = 0; g < a->g; g++) {
            struct ref_head s = {b, g * group, g};
            memset(dk, 0, (size_t)(2 * span) * sizeof *dk);
            for (; s.h < (g + 1) * group; s.h++)
                for (int64_t i = 0; i < a->tokens; i++)
                    ref_attention_query_back(a, s, i, dq, dk, dv);
            for (int64_t j = 0; j < ref_keys(a); j++)
                for (int64_t c = 0; c < a->d; c++) {
                    ref_store(a->t, a->dk, ref_k(a, s, j) + c, (float)dk[j * a->d + c]);
                    ref_store(a->t, a->dv, ref_v(a, s, j) + c, (float)dv[j * a->d + c]);
                }
        }
}

/* -- decoding -- */
/* Element of the caches where token j of sequence i begins. */
static int64_t ref_cached(const struct op_attention_decode *a, int64_t i, int64_t j)
{
    if (!a->pages)
        return i * a->sequence_stride + j * a->g * a->d;
    int64_t page = a->pages[i * a->pages_ld + j / a->page_tokens];
    return (page * a->page_tokens + j % a->page_tokens) * a->g * a->d;
}

/* count numbers, whole blocks, as Q8_0 (kernels/ops.h). */
static void ref_store_blocks(const float *x, int64_t count, uint8_t *out)
{
    for (; count > 0; count -= 32, x += 32, out += 34) {
        float most = 0;
        for (int i = 0; i < 32; i++)
            most = fabsf(x[i]) > most || isnan(x[i]) ? fabsf(x[i]) : most;
        float d = most / 127, inverse = d >= 0x1p-126f ? 1 / d : 0;
        uint16_t scale = f32_to_f16(isnan(most) ? NAN : d);
        memcpy(out, &scale, sizeof scale);
        for (int i = 0; i < 32; i++) {
            float q = rintf(x[i] * inverse);
            out[2 + i] = q >= -127 && q <= 127 ? (uint8_t)(int8_t)q : 0;
        }
    }
}

/* Of a cache, of any of its types. */
static double ref_cached_load(enum dtype t, const void *cache, int64_t i)
{
    if (t != DTYPE_Q8_0)
        return ref_load(t, cache, i);
    const uint8_t *block = (const uint8_t *)cache + i / 32 * 34;
    return (double)quant_f16_at(block) * (int8_t)block[2 + i % 32];
}

void op_ref_kv_store(struct dev *d, const struct op_kv_store *a)
{
    const struct op_attention_decode cache = {.g = a->g,
        .d = a->d,
        .sequence_stride = a->sequence_stride,
        .pages = a->pages,
        .pages_ld = a->pages_ld,
        .page_tokens = a->page_tokens};
    int64_t width = a->g * a->d;
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        int64_t at = ref_cached(&cache, i, a->position[i]);
        if (a->kv_type == DTYPE_Q8_0) {
            int64_t bytes = dtype_bytes(DTYPE_Q8_0, at);
            ref_store_blocks(a->k + i * width, width, (uint8_t *)a->k_cache + bytes);
            ref_store_blocks(a->v + i * width, width, (uint8_t *)a->v_cache + bytes);
            continue;
        }
        for (int64_t c = 0; c < width; c++) {
            ref_store(a->kv_type, a->k_cache, at + c, a->k[i * width + c]);
            ref_store(a->kv_type, a->v_cache, at + c, a->v[i * width + c]);
        }
    }
}

static void ref_decode_head(const struct op_attention_decode *a, int64_t i, int64_t h, double *p)
{
    const float *q = a->q + (i * a->h + h) * a->d;
    float *o = a->o + (i * a->h + h) * a->d;
    int64_t head = h / (a->h / a->g) * a->d;
    double max = -INFINITY, sum = 0;
    int64_t end = a->length[i], first = a->window && end > a->window ? end - a->window : 0;
    for (int64_t j = first; j < end; j++) {
        int64_t at = ref_cached(a, i, j) + head;
        p[j] = 0;
        for (int64_t c = 0; c < a->d; c++)
            p[j] += q[c] * ref_cached_load(a->kv_type, a->k_cache, at + c);
        max = fmax(max, p[j] *= a->scale);
    }
    for (int64_t j = first; j < end; j++)
        sum += p[j] = exp(p[j] - max);
    for (int64_t c = 0; c < a->d; c++) {
        double v = 0;
        for (int64_t j = first; j < end; j++)
            v += p[j] * ref_cached_load(a->kv_type, a->v_cache, ref_cached(a, i, j) + head + c);
        o[c] = (float)(v / sum);
    }
}

void op_ref_attention_decode(struct dev *d, const struct op_attention_decode *a)
{
    int32_t longest = 0;
    for (int64_t i = 0; i < a->n; i++)
        longest = a->length[i] > longest ? a->length[i] : longest;
    double *p = cpu_scratch(d, CPU_SCRATCH_OP, ((size_t)longest + 1) * sizeof *p);
    for (int64_t i = 0; p && i < a->n; i++)
        for (int64_t h = 0; h < a->h; h++)
            ref_decode_head(a, i, h, p);
}
