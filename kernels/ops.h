/*
 * ops: the one list of operations. From LLMJOB_OPS come the function table of every device, the
 * declarations of the CPU reference (op_ref_<name>), the tables of the fast CPU version and of
 * CUDA, the macro OP that runs one, and the parity test that holds each against the reference. An
 * operation that a device lacks makes dev_open fail.
 *
 * Conventions: row-major, contiguous unless a stride (ld, in elements) is given. B batch, T tokens
 * of a sequence, N = B*T rows, C channels, H query heads, G key/value heads, D head size, V
 * vocabulary, F hidden size of the feed-forward. `t` is the element type of activations and
 * weights: F32, BF16 or F16. Gradients of weights, statistics and losses are
 * always F32; sums are accumulated in F32. "+=" marks an accumulating output.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "base/random.h"
#include "kernels/dev.h"

#ifdef __CUDACC__ /* device code draws from the same generator */
#define OPS_INLINE __host__ __device__ static inline
#else
#define OPS_INLINE static inline
#endif

/* C (m, n) = act(alpha * op(A) (m, k) * op(B) (k, n) + bias + beta * C); ta: A is stored (k, m);
   tb: B is stored (n, k). ab_type, of both operands, is F32, BF16 or F16; c_type F32 or ab_type, or
   any of the three where ab_type is F32. What an F16 result cannot hold (beyond 65504) is infinite.
   bias (n) of ab_type is added to every row, NULL: none. GELU is its tanh form, GELU_ERF x Phi(x)
   itself (arXiv:1606.08415); pre (m, n) of c_type with ld = ldc, if not NULL, receives what they
   were applied to. */
enum op_act { OP_ACT_NONE, OP_ACT_GELU, OP_ACT_GELU_ERF };
struct op_matmul {
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc;
    bool ta, tb;
    enum dtype ab_type, c_type;
    float alpha, beta; /* beta 0 or 1 */
    const void *bias;
    enum op_act act;
    void *pre;
};

/* y (m, n) F32 = x (m, k) F32 * W^T, W (n, k) in GGUF blocks of w_type (or F32, BF16, F16). coarse:
   with blocks a device may round each 32 values of a row of x to 16 bits and a common power of two.
   next: another product of the same rows of x, as coarse, with the same bits as by itself. */
struct op_quant_matmul {
    int64_t m, n, k;
    const float *x;
    const void *w;
    enum dtype w_type;
    bool coarse;
    float *y;
    const struct op_quant_matmul *next; /* or NULL */
};

/* out (n, c) = table[ids], or += when accumulate (a second table: learned positions); ids (n) I32
   in [0, v) (checked by the caller). table_type is t; where t is F32, any type whose blocks divide
   a row. Forward, of a table of t: its rows and those of out begin so many elements apart; 0: c. */
struct op_embed {
    int64_t n, c, v;
    int64_t ld_table, ld_out;
    const int32_t *ids;
    const void *table; /* (v, c) of table_type; forward */
    enum dtype table_type;
    void *out;        /* (n, c) t; forward */
    const void *dout; /* (n, c) t; backward */
    float *dtable;    /* (v, c) F32 +=; backward */
    bool accumulate;  /* forward */
    enum dtype t;
};

/* y (n, c) = x * rstd * w, rstd (n) = 1/sqrt(mean(x^2) + eps). group > 0: rows stand in groups of
   so many, contiguous, groups of x and dx ldx elements apart, of y and dy ldy (the heads of a
   token); 0: all are contiguous. */
struct op_rmsnorm {
    int64_t n, c;
    int64_t group, ldx, ldy;
    float eps;
    const void *x, *w; /* (n, c), (c) */
    void *y;
    float *rstd; /* (n): written forward, read backward */
    const void *dy;
    void *dx;  /* (n, c) t; = backward, or += when accumulate */
    float *dw; /* (c) F32 +=; NULL when w is frozen */
    bool accumulate;
    enum dtype t;
};

/* y (n, c) = (x - mean) * rstd * w + bias, mean and rstd (n): of x's row, rstd = 1/sqrt(variance +
   eps) with the biased variance (Ba et al., arXiv:1607.06450) */
struct op_layernorm {
    int64_t n, c;
    float eps;
    const void *x, *w, *bias; /* (n, c), (c), (c); bias may be NULL */
    void *y;
    float *mean, *rstd; /* (n): written forward, read backward */
    const void *dy;
    void *dx;          /* (n, c) t; = backward, or += when accumulate */
    float *dw, *dbias; /* (c) F32 +=; NULL when frozen */
    bool accumulate;
    enum dtype t;
};

/* dx = dy * gelu'(x) over count elements; dx may be dy */
struct op_gelu_back {
    int64_t count;
    const void *x, *dy;
    void *dx;
    bool erf; /* of x Phi(x); else of the tanh form */
    enum dtype t;
};

/* x (count) = tanh(x), in place. Backward, dy *= 1 - x^2 in place, with x as forward left it. */
struct op_tanh {
    int64_t count;
    void *x, *dy; /* dy: backward */
    enum dtype t;
};

/* y = f(x) over count elements: RELU max(x, 0), of slope 0 where x is 0, or SILU x / (1 + exp(-x));
   y may be x. Backward, dx = dy * f'(x); dx may be dy. */
enum op_activation { OP_RELU, OP_SILU };
struct op_activate {
    int64_t count;
    enum op_activation kind;
    const void *x, *dy; /* dy, dx: backward */
    void *y, *dx;
    enum dtype t;
};

/* dbias (c) F32 += the column sums of dy (n, c), rows ld apart; x not NULL: of dy * x, like dy
   (what multiplied the columns has that gradient) */
struct op_bias_back {
    int64_t n, c, ld;
    const void *dy, *x;
    float *dbias;
    enum dtype t;
};

/* y (n, c) = x * w + bias, or += when accumulate: a number a column. w (c) F32, bias (c) t or NULL;
   y may be x unless it accumulates. */
struct op_scale {
    int64_t n, c;
    const void *x;
    const float *w;
    const void *bias;
    void *y;
    bool accumulate;
    enum dtype t;
};

/* x (count) *= keep / (1 - p), in place, keep drawn with probability 1 - p: element i is kept when
   op_random(seed, i) >= p * 2^32, so backward is the same call on the gradient. 0 <= p < 1. */
struct op_dropout {
    int64_t count;
    void *x;
    float p;
    uint64_t seed;
    enum dtype t;
};

/* How the frequencies of rotary positions are changed for contexts longer than those of a first
   training. LINEAR: divided by factor (arXiv:2306.15595). LLAMA3 (transformers' "llama3"): by
   factor where fewer than `low` waves fit the first `context`, not at all where more than `high`
   do, in between by a mixture of both. */
enum op_rope_kind { OP_ROPE_PLAIN, OP_ROPE_LINEAR, OP_ROPE_LLAMA3 };
struct op_rope_scaling {
    enum op_rope_kind kind;
    float factor, low, high;
    int64_t context;
};

/* Rotary positions in place on x (n, heads, d), "half" layout: pairs (i, i + d/2), of frequency
   theta^(-2i/d), scaled. ld: elements a row. position (n) I32; inverse: rotate by the negative
   angle (backward). */
struct op_rope {
    int64_t n, heads, d, ld;
    void *x;
    const int32_t *position;
    float theta;
    struct op_rope_scaling scaling;
    bool inverse;
    enum dtype t;
};

/* Dropout of attention's probabilities; p 0: none. Of sequence b, head h, query i and key j,
   counted in what is whole, index ((b * heads + h) * keys + i) * keys + j draws (op_random): below
   p * 2^32 the probability is left out, else it is scaled by 1 / (1 - p). 0 <= p < 1. heads, keys:
   of a whole sequence; who has a share of its heads moves the seed on (op_random_from). */
struct op_attention_drop {
    float p;
    uint64_t seed;
    int64_t heads, keys;
};

/* Attention with grouped heads over q (b, t, h, d), k, v (b, t, g, d) with row strides (elements
   from one token to the next), causal unless bidirectional; o (b, t, h, d) contiguous; lse (b, h,
   t) F32; scale usually 1/sqrt(d). No (t, t) matrix in memory. length (b) I32 in [1, t], or NULL:
   only the first length[i] tokens of sequence i exist; the rows of the others get o = 0, lse = 0
   and zero gradients. first (b, t) I32, or NULL, where causal: query i of a sequence sees keys from
   first[i] on; 0 <= first[i] <= i, and it never falls along a sequence (the caller sees to it).
   before, where causal and without length: so many more keys, of k, v, dk, dv (b, before + t, g,
   d), stand in each sequence before the token of its first query, which first counts: query i is
   token before + i. drop: lse is that of all probabilities, and backward draws again what forward
   left out. Backward writes dq, dk, dv with the strides of q, k, v. */
struct op_attention {
    int64_t b, tokens, h, g, d;
    int64_t before;
    float scale;
    const void *q, *k, *v;
    int64_t ldq, ldk, ldv;
    void *o;
    float *lse;
    const void *dout; /* (b, t, h, d); backward */
    void *dq, *dk, *dv;
    bool bidirectional;
    const int32_t *length, *first;
    struct op_attention_drop drop;
    enum dtype t;
};

/* Keys and values k, v (n, g, d) F32 into a cache of attention_decode's layout: row i is token
   position[i] of sequence i. n tokens of one sequence: sequence_stride, or pages_ld, is 0. No two
   rows may have one place. A block of Q8_0 has the scale d = max |x| / 127 as f16, and x / d
   rounded to even; a scale that f16 has not makes zeros, or what is not finite, as do infinity
   and NaN. */
struct op_kv_store {
    int64_t n, g, d;
    const float *k, *v;
    void *k_cache, *v_cache;
    int64_t sequence_stride;
    const int32_t *position; /* (n) I32 */
    const int32_t *pages;    /* I32, or NULL */
    int64_t pages_ld, page_tokens;
    enum dtype kv_type; /* F32, BF16 or F16; on CPUs Q8_0, where heads are whole blocks */
};

/* Decoding: q (n, h, d) F32, one new token each of n sequences; k_cache, v_cache of sequence i:
   (capacity, g, d) of kv_type at k_cache + i * sequence_stride elements; length[i] tokens are valid
   (the new one included), of which the last `window` are seen where that is not 0; o (n, h, d) F32.
   Paged when pages is not NULL: token j of sequence i stands in page pages[i * pages_ld + j /
   page_tokens], and page p is (page_tokens, g, d) at k_cache + p * page_tokens * g * d
   (arXiv:2309.06180); sequence_stride is not used then. */
struct op_attention_decode {
    int64_t n, h, g, d;
    float scale;
    const float *q;
    const void *k_cache, *v_cache;
    int64_t sequence_stride;
    const int32_t *length;
    int64_t window;
    float *o;
    const int32_t *pages; /* I32, or NULL */
    int64_t pages_ld, page_tokens;
    enum dtype kv_type; /* F32, BF16 or F16; on CPUs Q8_0, where heads are whole blocks */
};

/* y (n, f) = silu(gate) * up; gate and up (n, f) with row stride ld (so that one (n, 2f) product
 * serves both) */
struct op_swiglu {
    int64_t n, f, ld;
    const void *gate, *up;
    void *y; /* (n, f) contiguous */
    const void *dy;
    void *dgate, *dup; /* stride ld; backward */
    enum dtype t;
};

/* A mixture of experts: each row (a token) goes to k of e feed-forwards (Shazeer et al.,
   arXiv:1701.06538). p (n, e) holds logits, which become their softmax in place; of each row the k
   greatest, the greatest first and of equals the one of lower index, go to expert (n, k) I32, and
   what the softmax has of them to weight (n, k), divided by their sum when `normalized`. count
   (n / tokens, e), or NULL: += how often the tokens of each sequence chose an expert; length as in
   attention: tokens that do not exist choose, and count for nothing.

   Backward: p, expert, weight and count as forward left them; dlogits (n, e) t, from dweight (n, k)
   and, of tokens that exist, from balance[s] * count[s, e] as the gradient of p. balance (n /
   tokens), or NULL: none. */
struct op_route {
    int64_t n, e, k, tokens;
    bool normalized;
    float *p;
    int32_t *expert;
    float *weight;
    const int32_t *length;
    float *count;
    const float *dweight, *balance; /* backward */
    void *dlogits;
    enum dtype t;
};

/* n choices, expert (n) I32 in [0, e), ordered by expert and within one as they come: row (n) I32
   is the choice at each place, place (n) I32 the place of each choice, and those of expert i stand
   at [offset[i], offset[i + 1]); offset (e + 1) I32. */
struct op_expert_sort {
    int64_t n, e;
    const int32_t *expert;
    int32_t *row, *place, *offset;
};

/* Rows of n tokens, k choices each, by row and place of expert_sort. expert_gather: y (n * k, c),
   y[i] = x[row[i] / k]; expert_sum: y (n, c) = or += (accumulate) the sum over j of x[place[i * k +
   j]]. */
struct op_expert_rows {
    int64_t n, k, c;
    const void *x;
    const int32_t *row, *place; /* gather, sum */
    void *y;
    bool accumulate;
    enum dtype t;
};

/* x (n, c) t: row i *= weight[row[i]], weight (n) F32. Backward, with dy (n, c) not NULL: first
   dweight[row[i]] = the product of rows i of x and dy; then both are multiplied. */
struct op_expert_weigh {
    int64_t n, c;
    const int32_t *row;
    const float *weight;
    void *x, *dy;
    float *dweight;
    enum dtype t;
};

/* Of each of `experts` experts its own matrix W (out, in), which begins at w + i * ldw elements,
   with its rows [offset[i], offset[i + 1]) of x (n, in) and y (n, out): what is not NULL of y = x
   W^T; dx = dy W; dW F32 += dy^T x, at dw + i * ldw. Rows of none of them are not written. */
struct op_expert_matmul {
    int64_t n, experts, in, out, ldw;
    const int32_t *offset; /* (experts + 1) */
    const void *w, *x, *dy;
    void *y, *dx;
    float *dw;
    enum dtype t;
};

/* As expert_matmul's y, of quant_matmul's types: W of w_type at w + i * stride bytes. */
struct op_expert_quant_matmul {
    int64_t n, experts, in, out, stride;
    const int32_t *offset;
    const float *x;
    const void *w;
    enum dtype w_type;
    bool coarse; /* as of quant_matmul */
    float *y;
};

/* logits (n, v) t -> loss (n) F32 = -log softmax[target] (0 where target < 0), and, when
   backward, logits become (softmax - onehot) * scale in place (0 where target < 0), or, with
   gradient16, stay as they are and it is written there. Rows begin ld >= v elements apart; what
   stands between them is neither read nor written.

   Vocabulary-parallel (arXiv:1909.08053): the columns are [first, first + v) of a wider
   vocabulary. stage STATS writes top (n) = the row's greatest logit and sum (n) = sum of
   exp(logit - top); the ranks take the maximum M of top; stage MEET reads it from most, and sum
   *= exp(top - most); the ranks take the sum S of sum; stage FINISH reads M and S from top and
   sum, and gives loss = log S + M - logit[target] where the target is in these columns, 0
   elsewhere, and the gradient as above. */
enum op_xent_stage { OP_XENT_WHOLE, OP_XENT_STATS, OP_XENT_MEET, OP_XENT_FINISH };
struct op_xent {
    int64_t n, v, ld;
    void *logits;
    const int32_t *target;
    float *loss;
    float scale;
    bool backward;
    void *gradient16; /* (n, v) BF16, rows ld apart, of F32 logits; or NULL */
    bool f16;         /* that is F16 instead */
    enum op_xent_stage stage;
    int64_t first;     /* 0 when the vocabulary is whole */
    float *top, *sum;  /* (n); NULL when the stage is WHOLE */
    const float *most; /* (n); stage MEET */
    enum dtype t;
};

/* Cross-entropy with a teacher (Hinton et al., arXiv:1503.02531), of rows of F32 logits z of a
   student and u of its teacher, rows ld apart; with p(T) = softmax(z / T), q(T) = softmax(u / T):
   loss (n) = (1 - w) * -log p(1)[target] + w * T^2 * sum of q(T) * (log q(T) - log p(T)), and
   logits become its gradient, ((1 - w) * (p(1) - onehot) + w * T * (p(T) - q(T))) * scale, in
   place or in gradient16, as of op_xent; both are 0 where target < 0. */
struct op_distill {
    int64_t n, v, ld;
    float *logits;
    const float *teacher;
    const int32_t *target;
    float *loss;
    float scale, weight, temperature; /* w, T > 0 */
    uint16_t *gradient16;             /* BF16, rows ld apart; or NULL */
    bool f16;                         /* that is F16 instead */
};

/* y = a * x + b * y over count elements (types independent); sumsq (1) F32, if not NULL: a is
   divided by max(sqrt(*sumsq), 1e-7), without the host */
struct op_axpby {
    int64_t count;
    const void *x;
    enum dtype x_type;
    void *y;
    enum dtype y_type;
    float a, b;
    const float *sumsq;
};

/* out F32 = x of any dtype (blocks decoded); or F32 -> BF16/F16 */
struct op_convert {
    int64_t count;
    const void *x;
    enum dtype x_type;
    void *y;
    enum dtype y_type;
};

/* *out (1) F32 += sum of squares of x (count) F32; the order of summation is fixed: bitwise
 * repeatable */
struct op_sumsq {
    int64_t count;
    const float *x;
    float *out;
};

/* x (count) F32 becomes 0 where w (count) F32 is, in place */
struct op_mask {
    int64_t count;
    float *x;
    const float *w;
};

/* What an update keeps of its elements, m and v, is of type `state`: F32; BF16; or U8, an index of
   a dynamic code (Dettmers et al., arXiv:2110.02861), signed for m, for v without sign, times the
   greatest magnitude of the OP_STATE_BLOCK elements that it stands among, which is in m_scale and
   v_scale (count / OP_STATE_BLOCK, rounded up) F32. An update decodes, computes in F32, and encodes
   what it has computed: the weights follow from what was not yet rounded. To U8 the nearest value
   is taken, but a v above zero never becomes zero, for it divides. BF16 is rounded up or down at
   random, so that small steps of a slow mean add up to what they are; element i draws
   op_random(seed, i), m by its lower half, v by its upper. */
#define OP_STATE_BLOCK 256

/* AdamW with decoupled decay on F32 master weights; w16, if not NULL, receives the rounded copy.
   grad_scale multiplies the gradient first. step counts from 1. Without the host, by sumsq (1) F32,
   the sum of the gradient's squares, or NULL: when it is not finite nothing is written; and with
   norm = sqrt(*sumsq) > clip_norm > 0 the gradient is also multiplied by clip_norm / (norm +
   1e-6). */
struct op_adamw {
    int64_t count;
    float *w;
    void *m, *v;
    const float *grad;
    uint16_t *w16; /* BF16 or NULL */
    float lr, beta1, beta2, eps, weight_decay, grad_scale;
    int64_t step;
    const float *sumsq;
    float clip_norm;
    enum dtype state; /* as above */
    float *m_scale, *v_scale;
    uint64_t seed;
};

/* As op_adamw of what both have. g = gradient + weight_decay * w; m = momentum * m + g, and w -= lr
   * m; m NULL: w -= lr * g. */
struct op_sgd {
    int64_t count;
    float *w;
    void *m;
    const float *grad;
    uint16_t *w16;
    float lr, momentum, weight_decay, grad_scale;
    const float *sumsq;
    float clip_norm;
    enum dtype state; /* of m, as of op_adamw */
    float *m_scale;
    uint64_t seed;
};

/* As op_adamw of what both have. c = beta1 * m + (1 - beta1) * gradient; m = beta2 * m + (1 -
   beta2) * gradient; w = (1 - lr * weight_decay) * w - lr * sign(c) (Chen et al.,
   arXiv:2302.06675). blend not NULL: it receives c, and w is neither read nor written. */
struct op_lion {
    int64_t count;
    float *w;
    void *m;
    const float *grad;
    uint16_t *w16;
    float lr, beta1, beta2, weight_decay, grad_scale;
    const float *sumsq;
    float clip_norm;
    float *blend;     /* F32 or NULL */
    enum dtype state; /* of m, as of op_adamw */
    float *m_scale;
    uint64_t seed;
};

/* As op_adamw of what both have, over one matrix (rows, cols) (Shazeer, Stern, arXiv:1804.04235; in
   the form of torch.optim.Adafactor). row (rows) and col (cols) are running means of the gradient's
   squares, g, along rows and columns: row += step^-0.8 * (mean of g - row); the estimate is v = row
   * col / max(mean of row, EPS1). row NULL: a vector, rows is 1, and v = col. u = gradient /
   sqrt(max(v, EPS1^2)); w = (1 - lr * weight_decay) * w - min(lr, 1 / sqrt(step)) * max(EPS2, rms
   of w) / max(1, rms of u) * u. */
#define OP_ADAFACTOR_EPS1 0x1p-23f
#define OP_ADAFACTOR_EPS2 1e-3f
struct op_adafactor {
    int64_t rows, cols;
    float *w, *row, *col;
    const float *grad;
    uint16_t *w16;
    float lr, weight_decay, grad_scale;
    int64_t step;
    const float *sumsq;
    float clip_norm;
};

/* How much a weight matters, smoothed, and how much that varies (Zhang et al., arXiv:2303.10512,
   3.2, as peft has it), with sumsq and clip_norm as of op_adamw: s = |w * gradient|; mean = beta1 *
   mean + (1 - beta1) * s; spread = beta2 * spread + (1 - beta2) * |s - mean|. */
struct op_importance {
    int64_t count;
    const float *w, *grad;
    float *mean, *spread;
    float beta1, beta2;
    const float *sumsq;
    float clip_norm;
};

/* token[i] drawn from row i of logits (n, v) F32: the greatest (the first
   of equals) at temperature 0; else softmax(logits / temperature), kept to the smallest set of most
   likely tokens (ties by index) that reaches top_p, and the token at which the running sum of
   these, likeliest first (by index when top_p is 1), passes u[i] of their total, u (n) in [0, 1). A
   row with a NaN gives some token of [0, v). temperature, top_p, u: (n) on the device. */
struct op_sample {
    int64_t n, v;
    const float *logits;
    const float *temperature, *top_p, *u;
    int32_t *token;
};

/* The counter-based generator of dropout: the same bits on every device,
   the upper half of what base/random gives for seed and index. */
OPS_INLINE uint32_t op_random(uint64_t seed, uint64_t index)
{
    return (uint32_t)(random_mix(seed + index * RANDOM_STEP) >> 32);
}

/* F32 -> BF16, up with the probability of what is cut off, by the lower 16 of `bits`; x finite. */
OPS_INLINE uint16_t op_round_bf16(float x, uint32_t bits)
{
    union {
        float f;
        uint32_t u;
    } v;
    v.f = x;
    return (uint16_t)((v.u + (bits & 0xffffu)) >> 16);
}

/* What index i, 0 .. 255, of a dynamic code stands for, in ascending order: 0, 1, and of seven
   decades the centres of equal parts, 2 of [1e-7, 1e-6] and twice as many of each decade above, to
   128 of [0.1, 1]. Signed: half as many of both signs; zero is index 127, and there is no -1. One
   division of whole numbers that F32 holds: the same bits on every device. */
OPS_INLINE float op_code_value(bool with_sign, int i)
{
    int at = with_sign ? (i < 127 ? 127 - i : i - 127) : i + 1;
    int parts = with_sign ? 1 : 2, scale = 20000000;
    if (i == 255 || (with_sign ? i == 127 : i == 0))
        return i == 255 ? 1.0f : 0.0f;
    for (; 2 * parts <= at; parts *= 2)
        scale /= 10;
    float value = (float)(2 * parts + 18 * (at - parts) + 9) / (float)(scale * parts);
    return with_sign && i < 127 ? -value : value;
}

/* The type of a gradient beside its logits. */
OPS_INLINE enum dtype op_type16(bool f16)
{
    return f16 ? DTYPE_F16 : DTYPE_BF16;
}

/* Of rows in groups: where row i begins. */
OPS_INLINE int64_t op_row_at(int64_t i, int64_t c, int64_t group, int64_t ld)
{
    return group ? i / group * ld + i % group * c : i * c;
}

/* What becomes of a frequency, in radians a position. */
OPS_INLINE double op_rope_scaled(const struct op_rope_scaling *s, double frequency)
{
    if (s->kind == OP_ROPE_PLAIN)
        return frequency;
    double kept = 0, waves = (double)s->context * frequency / 6.283185307179586;
    if (s->kind == OP_ROPE_LLAMA3)
        kept = (waves - (double)s->low) / ((double)s->high - (double)s->low);
    kept = kept < 0 ? 0 : kept > 1 ? 1 : kept;
    return kept * frequency + (1 - kept) * frequency / (double)s->factor;
}

/* The seed under which index i draws what `seed` draws at first + i. */
OPS_INLINE uint64_t op_random_from(uint64_t seed, uint64_t first)
{
    return seed + first * RANDOM_STEP;
}

/* The index of key 0 in the row of query i, before + i of its sequence. */
OPS_INLINE uint64_t op_attention_draw(const struct op_attention *a, int64_t b, int64_t h, int64_t i)
{
    uint64_t keys = (uint64_t)a->drop.keys;
    return (((uint64_t)b * (uint64_t)a->drop.heads + (uint64_t)h) * keys +
               (uint64_t)(a->before + i)) *
        keys;
}

/* What is drawn below it is left out. */
OPS_INLINE uint32_t op_drop_least(float p)
{
    double least = (double)p * 0x1p32;
    uint32_t below = (uint32_t)least;
    return below + ((double)below < least);
}

/* What the probability is multiplied with. */
OPS_INLINE float op_attention_keep(const struct op_attention_drop *d, uint64_t index)
{
    if (d->p > 0)
        return op_random(d->seed, index) >= op_drop_least(d->p) ? 1 / (1 - d->p) : 0;
    return 1;
}

#define LLMJOB_OPS(X) \
    X(matmul, struct op_matmul) \
    X(quant_matmul, struct op_quant_matmul) \
    X(embed, struct op_embed) \
    X(embed_back, struct op_embed) \
    X(rmsnorm, struct op_rmsnorm) \
    X(rmsnorm_back, struct op_rmsnorm) \
    X(layernorm, struct op_layernorm) \
    X(layernorm_back, struct op_layernorm) \
    X(bias_back, struct op_bias_back) \
    X(scale, struct op_scale) \
    X(gelu_back, struct op_gelu_back) \
    X(tanh, struct op_tanh) \
    X(tanh_back, struct op_tanh) \
    X(activate, struct op_activate) \
    X(activate_back, struct op_activate) \
    X(dropout, struct op_dropout) \
    X(rope, struct op_rope) \
    X(attention, struct op_attention) \
    X(attention_back, struct op_attention) \
    X(kv_store, struct op_kv_store) \
    X(attention_decode, struct op_attention_decode) \
    X(swiglu, struct op_swiglu) \
    X(swiglu_back, struct op_swiglu) \
    X(route, struct op_route) \
    X(route_back, struct op_route) \
    X(expert_sort, struct op_expert_sort) \
    X(expert_gather, struct op_expert_rows) \
    X(expert_sum, struct op_expert_rows) \
    X(expert_weigh, struct op_expert_weigh) \
    X(expert_matmul, struct op_expert_matmul) \
    X(expert_quant_matmul, struct op_expert_quant_matmul) \
    X(xent, struct op_xent) \
    X(distill, struct op_distill) \
    X(axpby, struct op_axpby) \
    X(convert, struct op_convert) \
    X(sumsq, struct op_sumsq) \
    X(mask, struct op_mask) \
    X(adamw, struct op_adamw) \
    X(sgd, struct op_sgd) \
    X(lion, struct op_lion) \
    X(adafactor, struct op_adafactor) \
    X(importance, struct op_importance) \
    X(sample, struct op_sample)

struct ops {
#define OPS_FIELD(name, args) void (*name)(struct dev *, const args *);
    LLMJOB_OPS(OPS_FIELD)
#undef OPS_FIELD
};

/* From an operation's name to the structure it takes. */
union op_args {
#define OPS_ARGS(name, args) args name;
    LLMJOB_OPS(OPS_ARGS)
#undef OPS_ARGS
};

/* Runs an operation on the device of o, anything with a member `dev`; what is not named is zero:
   OP(o, swiglu, .n = n, .f = f, .ld = 2 * f, .gate = gate, .up = up, .y = y, .t = t); */
#define OP(o, name, ...) \
    dev_ops((o)->dev)->name((o)->dev, &(__typeof__(((union op_args *)0)->name)){__VA_ARGS__})

#define OPS_DECLARE_REF(name, args) void op_ref_##name(struct dev *, const args *);
LLMJOB_OPS(OPS_DECLARE_REF)
#undef OPS_DECLARE_REF

#endif
