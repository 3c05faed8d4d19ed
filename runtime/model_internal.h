/*
 * model_internal: what model.c (life, loading, reading), model_forward.c and model_backward.c
 * share. Nobody else includes it.
 *
 * Activations have type `act`: the compute type in training, F32 in serving. In training a joined
 * matrix is one (out, in) block and its product one (n, out) block; in serving each named matrix
 * keeps its stored type, and the product of piece i is a contiguous (n, rows[i]) block behind those
 * before it.
 */
#ifndef RUNTIME_MODEL_INTERNAL_H
#define RUNTIME_MODEL_INTERNAL_H

#include "kernels/ops.h"
#include "runtime/kvcache.h"
#include "runtime/lora.h"
#include "runtime/memplan.h"
#include "runtime/model.h"
#include "runtime/parts.h"

struct stored { /* a matrix in the type it has on disk; serving */
	enum dtype type;
	void *data;
};

struct linear {
	struct linear_shape shape;
	const void *w; /* (out, in) act; training */
	float *dw;     /* (out, in); NULL when frozen */
	struct lora lora;
	struct stored stored[LINEAR_PIECES];
};

struct layer {
	struct linear linear[LINEARS];
	const void *norm[2]; /* (C) act: before attention, before the feed-forward */
	float *dnorm[2];     /* NULL when frozen */
	/* saved by forward */
	void *x_in, *x_mid; /* (N, C) residual before each half; the same block in serving */
	void *qkv;          /* (N, q + 2 kv), rotated */
	void *att;          /* (N, q) */
	void *gu;           /* (N, 2F) */
	float *rstd[2];     /* (N) */
	float *lse;         /* (b, H, T) */
};

struct arena_dev { /* a device block that is cut up at start */
	char *base;
	int64_t size, used;
};

struct model {
	struct dev *dev;
	const struct ops *ops;
	struct model_conf conf;
	enum dtype act;
	struct memplan plan;
	struct parts base; /* every tensor of the model */
	struct parts lora; /* the factors; empty without LoRA */
	int64_t rows;      /* N: the most rows of one forward */
	int64_t logit_rows;

	/* training: flat ranges */
	char *frozen;    /* base tensors in act; NULL when all are trained */
	float *master;   /* trainable */
	uint16_t *copy;  /* BF16 of master, or NULL */
	float *gradient; /* trainable */
	bool gradient_owned;

	struct arena_dev saved, scratch, logits_arena, stored_arena;
	struct layer *layers;
	const void *embed, *head; /* (V, C) act; training */
	float *dembed, *dhead;
	struct stored stored_embed, stored_head;
	const void *final_norm;
	float *dfinal_norm;

	void *x_out;       /* (N, C) residual after the last layer */
	float *rstd_final; /* (N) */
	/* scratch */
	void *h, *dh, *dx, *datt, *dqkv;    /* (N, C) x3, (N, q), (N, q + 2 kv) */
	void *activated, *dactivated, *dgu; /* (N, F) x2, (N, 2F) */
	void *du;                           /* (N, sum of LoRA ranks) */
	float *logits;                      /* (R, V) */
	uint16_t *logits16;                 /* (R, V); BF16 training */
	float *loss;                        /* (N) */
	int32_t *ids, *targets, *position;  /* (N) */
	/* serving */
	struct kvcache *cache;
	float *sum;     /* (N, C): a product before it is added to the residual */
	uint16_t *x16;  /* (N, widest): a product's input */
	float *decoded; /* one matrix */
	uint16_t *decoded16;
	int32_t *length;  /* (N) */
	float *host_loss; /* (N), host */
};

struct batch {              /* what one forward runs over */
	int64_t b, tokens;  /* n = b * tokens */
	int64_t past;       /* serving: cached tokens before */
	const int32_t *ids; /* serving: (n), host */
};

static inline void *at_element(const void *p, int64_t index, enum dtype t)
{
	return (char *)p + index * dtype_block_bytes(t);
}

/* Embedding, layers, final norm: m->h = norm(x_out). */
void model_forward(struct model *m, const struct batch *s);
/* Logits and losses chunk by chunk (n rows); when backward also dh = gradient of m->h, and the
 * head's gradient. */
void model_head(struct model *m, int64_t n, float scale, bool backward);
/* From dh back to every gradient. */
void model_backward(struct model *m, const struct batch *s);
/* y (n, pieces) = x W^T by the stored type of each piece; serving */
void model_stored_product(struct model *m, const struct stored *w, const float *x, float *y,
			  int64_t n, int64_t in, int64_t out);

#endif
