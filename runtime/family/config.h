/*
 * config: one transformer, described by data: residuals around attention and a feed-forward, and
 * above them a head over the vocabulary or over labels. The description is all that is computed by;
 * which family it came from only says what files call things.
 */
#ifndef RUNTIME_FAMILY_CONFIG_H
#define RUNTIME_FAMILY_CONFIG_H

#include "base/err.h"
#include "kernels/ops.h"

#include <stdbool.h>
#include <stdint.h>

enum norm_kind { NORM_RMS, NORM_LAYER }; /* NORM_LAYER has a bias */
enum activation_kind {                   /* GELU has no gate */
    ACTIVATION_SWIGLU,
    ACTIVATION_GELU, /* tanh form */
    ACTIVATION_GELU_ERF,
};
enum position_kind { POSITIONS_ROTARY, POSITIONS_LEARNED };

/* What a rank has of a model that several share. Tensor parallelism (Shoeybi et al.,
   arXiv:1909.08053) gives it some of the key/value heads with the heads that read them, of the
   columns of the feed-forward, or of each expert's, and of the vocabulary's rows; pipeline
   parallelism some of the layers, the first rank the embeddings with them, the last one the head;
   expert parallelism (Lepikhin et al., arXiv:2006.16668) some of the experts of each layer.
   Each of them one behind the other, but for layers in chunks: of c chunks a stage of p has virtual
   stages stage, stage + p, ... of c p (Narayanan et al., arXiv:2104.04473). Zeros: all of it. */
struct model_share {
    int64_t heads, kv_heads, ffn_dim, expert_ffn_dim, vocab, layers, experts; /* of the model */
    /* where the share begins */
    int64_t first_kv_head, first_ffn, first_expert_ffn, first_token, first_layer, first_expert;
    int tensor_ranks, expert_ranks; /* that have a layer, or its experts, together */
    int stages, stage, chunks;      /* of a pipeline; chunks 0: one */
};

#define MODEL_CHUNKS 64 /* of a stage, at most: spec.parallelism.virtualStages */

#define MODEL_EOS_LIMIT     16   /* tokens that end a text */
#define MODEL_EXPERTS_LIMIT 1024 /* of a layer */

/* Shares that training leaves out, of embeddings, of what sub-layers add, of attention's
   probabilities, of what a classifier reads. */
struct model_dropout {
    float embed, residual, attention, classifier;
};

/* Zeros in the fields behind `rope_theta` describe a Llama. */
struct model_config {
    char architecture[32]; /* the family whose names and config.json it goes by: "llama" */
    int64_t vocab, dim, layers, heads, kv_heads, head_dim, ffn_dim, context;
    float norm_eps, rope_theta; /* rope_theta 0 when positions are learned */
    enum norm_kind norm;
    enum activation_kind activation;
    enum position_kind positions;
    bool qkv_bias, o_bias, ffn_bias;
    bool scaled_init; /* fresh projections into the residual are 1/sqrt(2 layers) as large */
    bool tied_embeddings;
    bool post_norm;     /* y = norm(x + f(x)), no final norm; else y = x + f(norm(x)) */
    bool bidirectional; /* attention sees the whole sequence; else the tokens up to each */
    int64_t types;      /* rows of the token type table; 0: none. All tokens are of type 0 */
    bool embed_norm;    /* a norm above the embeddings */
    int64_t labels;     /* > 0: a classifier (labels, dim) with bias instead of a vocabulary head */
    bool pooled;        /* a pooler (dim, dim) reads the first token: labels are of whole texts */
    bool last;          /* labels are of whole texts, told at the last token, without a bias */
    bool several;       /* of the labels of a text any number hold: each is told by itself */
    bool masked;        /* the vocabulary's head tells masked tokens: a transform and its norm
                           below it, a bias on it */
    int32_t bos_id, eos_id, pad_id;        /* -1: none */
    int32_t more_eos[MODEL_EOS_LIMIT - 1]; /* what else ends a text */
    int more_eos_count;
    int64_t window; /* > 0: attention sees so many tokens, the last one included; 0: all */
    bool qk_norm;   /* an RMS norm of each head of q and of k, before positions turn them */
    struct op_rope_scaling rope_scaling;
    /* > 0: in place of the one feed-forward so many of expert_ffn_dim, gated by SiLU: each token
       goes to experts_per_token of them, by a router's softmax over all. ffn_dim is then only
       kept. */
    int64_t experts, experts_per_token, expert_ffn_dim;
    bool norm_topk;               /* the weights of those chosen are divided by their sum */
    float balance_loss_coef;      /* of the loss that keeps experts evenly loaded, in training */
    struct model_dropout dropout; /* that its training has by its config.json; nothing is computed
                                     by it unless a job says so (spec.train.modelDropout) */
    struct model_share share; /* heads, kv_heads, ffn_dim, expert_ffn_dim, vocab, layers, experts
                                 are its */
};

int model_config_read(const char *path, struct model_config *out, struct err *e); /* config.json */
/* Bounds, divisibility, overflow; ERR_DATA. */
int model_config_check(const struct model_config *c, struct err *e);
struct model_cut { /* of how many, and which of them */
    int tensor_size, tensor, pipeline_size, pipeline, expert_size, expert;
    const int64_t *stage_layers; /* (pipeline_size), at least 1 each; NULL: even */
    int chunks; /* of a stage's layers; 0: one. More than that only of even stages */
};
/* The share of a rank; heads, columns, layers and experts are dealt out as evenly as they can be.
   ERR_USER names the field of spec.parallelism: there is too little to share out, or a kind that is
   not cut. */
int model_config_share(const struct model_config *whole, const struct model_cut *cut,
    struct model_config *out, struct err *e);
bool model_config_is_share(const struct model_config *c);
bool model_config_is_cut(const struct model_config *c);   /* by tensor parallelism */
bool model_config_is_dealt(const struct model_config *c); /* by expert parallelism */
bool model_config_is_first(const struct model_config *c); /* Has it the embeddings, */
bool model_config_is_last(const struct model_config *c);  /* and the head? */
/* Layers go by their number in the whole model, and a rank's own by their order: the number of the
   i-th, and the first of a chunk; behind the last chunk all there are. */
int64_t model_config_layer(const struct model_config *c, int64_t i);
int64_t model_config_chunk_begins(const struct model_config *c, int chunk);
int model_config_chunks(const struct model_config *c); /* 1 or more */
/* Have the layers of this chunk the embeddings below them, the head above them? */
bool model_config_chunk_is_first(const struct model_config *c, int chunk);
bool model_config_chunk_is_last(const struct model_config *c, int chunk);
void model_config_whole(struct model_config *c); /* a share becomes the whole again */
/* Of a layer of the whole model, which its router chooses from. */
int64_t model_config_experts(const struct model_config *c);
/* Of a share by expert parallelism: the first of those that a rank of its group has. */
int64_t model_config_first_expert(const struct model_config *c, int rank);
bool model_config_tells_texts(const struct model_config *c); /* are its labels of whole texts? */
/* Do both have a classifier, of as many labels and of the same kind? */
bool model_config_same_labels(const struct model_config *a, const struct model_config *b);
bool model_config_ends(const struct model_config *c, int32_t id); /* is it one of its eos? */

#endif
