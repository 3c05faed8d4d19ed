/*
 * state_body: what optimizers keep of their elements (op_adamw in kernels/ops.h), as F32 for a
 * chunk of an update and back. F32 is used where it stands; else a chunk is decoded into a buffer.
 * Part of isa_body.h. Chunks are whole blocks, so the results do not depend on the number of
 * threads.
 */
struct state_code {
    float value[256];
    float
        above[256]; /* x is nearer to value[i + 1] than to value[i] above this; the last: unused */
};

struct state_kept {
    enum dtype t;
    void *at;
    float *scale;
    uint64_t seed;
    bool first; /* a first moment; else a second */
    struct state_code code;
};

static void state_open(struct state_kept *s)
{
    if (s->t != DTYPE_U8)
        return;
    for (int i = 0; i < 256; i++)
        s->code.value[i] = op_code_value(s->first, i);
    for (int i = 0; i < 255; i++)
        s->code.above[i] = (s->code.value[i] + s->code.value[i + 1]) / 2;
}

static void state_decode(
    const struct state_code *code, const uint8_t *restrict at, float scale, int64_t n, float *x)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] = code->value[at[i]] * scale;
}

/* By halves: the last i that x is above. */
#define STATE_HALF(half) at += x > above[at + (half)-1] ? (half) : 0

/* to (n) = the codes of x (n) over `top`, which is above 0. */
static void state_encode(const struct state_code *code, bool first, const float *restrict values,
    float top, int64_t n, uint8_t *restrict to)
{
    const float *restrict above = code->above;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = values[i] / top;
        int32_t at = 0;
        STATE_HALF(128);
        STATE_HALF(64);
        STATE_HALF(32);
        STATE_HALF(16);
        STATE_HALF(8);
        STATE_HALF(4);
        STATE_HALF(2);
        STATE_HALF(1);
        at = !first && x > 0 && !at ? 1 : at;
        to[i] = (uint8_t)at;
    }
}

static void state_encode_block(const struct state_kept *s, int64_t from, int64_t n, const float *x)
{
    float top = 0;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++)
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    s->scale[from / OP_STATE_BLOCK] = top;
    state_encode(&s->code, s->first, x, top > 0 ? top : 1, n, (uint8_t *)s->at + from);
}

static void state_round(const struct state_kept *s, int64_t from, int64_t n, const float *x)
{
    const uint64_t seed = op_random_from(s->seed, (uint64_t)from);
    const int shift = s->first ? 0 : 16;
    uint16_t *restrict to = (uint16_t *)s->at + from;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = op_round_bf16(x[i], op_random(seed, (uint64_t)i) >> shift);
}

/* Elements [from, from + n) as F32: where they stand, or in buffer (n). */
ISA_INLINE float *state_take(const struct state_kept *s, int64_t from, int64_t n, float *buffer)
{
    if (s->t == DTYPE_F32)
        return (float *)s->at + from;
    if (s->t == DTYPE_BF16)
        return (float *)math_span(DTYPE_BF16, s->at, from, n, buffer);
    for (int64_t i = 0; i < n; i += OP_STATE_BLOCK)
        state_decode(&s->code, (const uint8_t *)s->at + from + i,
            s->scale[(from + i) / OP_STATE_BLOCK], n - i < OP_STATE_BLOCK ? n - i : OP_STATE_BLOCK,
            buffer + i);
    return buffer;
}

ISA_INLINE void state_put(const struct state_kept *s, int64_t from, int64_t n, const float *x)
{
    if (s->t == DTYPE_BF16)
        state_round(s, from, n, x);
    for (int64_t i = 0; i < n && s->t == DTYPE_U8; i += OP_STATE_BLOCK)
        state_encode_block(s, from + i, n - i < OP_STATE_BLOCK ? n - i : OP_STATE_BLOCK, x + i);
}
