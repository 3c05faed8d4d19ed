/*
 * ops: the one list of operations. From LLMJOB_OPS come the function table of every device, the
 * declarations of the CPU reference (cpu/ref.c, op_ref_<name>) and of the fast CPU version
 * (op_cpu_<name>), and the parity test that runs each against the reference. An operation that a
 * device lacks makes dev_open fail.
 *
 * Conventions: row-major, contiguous unless a stride (ld, in elements) is given. B batch, T tokens
 * of a sequence, N = B*T rows, C channels, H query heads, G key/value heads, D head size, V
 * vocabulary, F hidden size of the feed-forward. `t` is the element type of activations and
 * weights: F32 or BF16. Gradients of weights, statistics and losses are always F32; sums are
 * accumulated in F32. "+=" marks an accumulating output.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/dev.h"

/* C (m, n) = alpha * op(A) (m, k) * op(B) (k, n) + beta * C; ta: A is stored (k, m); tb: B is
   stored (n, k). a_type = b_type in {F32, BF16}; c_type F32 or BF16 (beta needs the same C). */
struct op_matmul {
	int64_t m, n, k;
	const void *a, *b;
	void *c;
	int64_t lda, ldb, ldc;
	bool ta, tb;
	enum dtype ab_type, c_type;
	float alpha, beta; /* beta 0 or 1 */
};

/* y (m, n) F32 = x (m, k) F32 * W^T, W (n, k) in GGUF blocks of w_type (or F32, BF16, F16); m
 * small: decoding. */
struct op_quant_matmul {
	int64_t m, n, k;
	const float *x;
	const void *w;
	enum dtype w_type;
	float *y;
};

/* out (n, c) = table[ids] ; ids (n) I32 in [0, v) (checked by the caller) */
struct op_embed {
	int64_t n, c, v;
	const int32_t *ids;
	const void *table; /* (v, c) t; forward */
	void *out;         /* (n, c) t; forward */
	const void *dout;  /* (n, c) t; backward */
	float *dtable;     /* (v, c) F32 +=; backward */
	enum dtype t;
};

/* y (n, c) = x * rstd * w, rstd (n) = 1/sqrt(mean(x^2) + eps) */
struct op_rmsnorm {
	int64_t n, c;
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

/* Rotary positions in place on x (n, heads, d), "half" layout: pairs (i, i + d/2). ld: elements a
   row. position (n) I32; inverse: rotate by the negative angle (backward). */
struct op_rope {
	int64_t n, heads, d, ld;
	void *x;
	const int32_t *position;
	float theta;
	bool inverse;
	enum dtype t;
};

/* Causal attention with grouped heads over q (b, t, h, d), k, v (b, t, g, d) with row strides
   (elements from one token to the next); o (b, t, h, d) contiguous; lse (b, h, t) F32; scale
   usually 1/sqrt(d). No (t, t) matrix in memory. Backward writes dq, dk, dv with the strides of q,
   k, v. */
struct op_attention {
	int64_t b, tokens, h, g, d;
	float scale;
	const void *q, *k, *v;
	int64_t ldq, ldk, ldv;
	void *o;
	float *lse;
	const void *dout; /* (b, t, h, d); backward */
	void *dq, *dk, *dv;
	enum dtype t;
};

/* Decoding: q (n, h, d) F32, one new token each of n sequences; k_cache, v_cache of sequence i:
   (capacity, g, d) of kv_type at k_cache + i * sequence_stride elements; length[i] tokens are valid
   (the new one included); o (n, h, d) F32. */
struct op_attention_decode {
	int64_t n, h, g, d;
	float scale;
	const float *q;
	const void *k_cache, *v_cache;
	int64_t sequence_stride;
	const int32_t *length;
	float *o;
	enum dtype kv_type; /* F32 or BF16 */
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

/* logits (n, v) t -> loss (n) F32 = -log softmax[target] (0 where target < 0), and, when backward,
   logits become (softmax - onehot) * scale in place (0 where target < 0). */
struct op_xent {
	int64_t n, v;
	void *logits;
	const int32_t *target;
	float *loss;
	float scale;
	bool backward;
	enum dtype t;
};

/* y = a * x + b * y over count elements (types independent) */
struct op_axpby {
	int64_t count;
	const void *x;
	enum dtype x_type;
	void *y;
	enum dtype y_type;
	float a, b;
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

/* AdamW with decoupled decay on F32 master weights; w16, if not NULL, receives the rounded copy.
   grad_scale multiplies the gradient first (clipping). step counts from 1. */
struct op_adamw {
	int64_t count;
	float *w, *m, *v;
	const float *grad;
	uint16_t *w16; /* BF16 or NULL */
	float lr, beta1, beta2, eps, weight_decay, grad_scale;
	int64_t step;
};

#define LLMJOB_OPS(X)                                                                              \
	X(matmul, struct op_matmul)                                                                \
	X(quant_matmul, struct op_quant_matmul)                                                    \
	X(embed, struct op_embed)                                                                  \
	X(embed_back, struct op_embed)                                                             \
	X(rmsnorm, struct op_rmsnorm)                                                              \
	X(rmsnorm_back, struct op_rmsnorm)                                                         \
	X(rope, struct op_rope)                                                                    \
	X(attention, struct op_attention)                                                          \
	X(attention_back, struct op_attention)                                                     \
	X(attention_decode, struct op_attention_decode)                                            \
	X(swiglu, struct op_swiglu)                                                                \
	X(swiglu_back, struct op_swiglu)                                                           \
	X(xent, struct op_xent)                                                                    \
	X(axpby, struct op_axpby)                                                                  \
	X(convert, struct op_convert)                                                              \
	X(sumsq, struct op_sumsq)                                                                  \
	X(adamw, struct op_adamw)

struct ops {
#define OPS_FIELD(name, args) void (*name)(struct dev *, const args *);
	LLMJOB_OPS(OPS_FIELD)
#undef OPS_FIELD
};

/* The two CPU implementations; the fast one may leave an entry to the reference only in
 * cpu/table.c. */
#define OPS_DECLARE(name, args)                                                                    \
	void op_ref_##name(struct dev *, const args *);                                            \
	void op_cpu_##name(struct dev *, const args *);
LLMJOB_OPS(OPS_DECLARE)
#undef OPS_DECLARE

#endif
