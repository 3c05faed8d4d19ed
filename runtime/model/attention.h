/*
 * attention: f(h) = attention(h W_q, h W_k, h W_v) W_o, causal unless the model is bidirectional,
 * over the tokens of a sequence that exist, with grouped heads (arXiv:2305.13245) and rotary
 * positions where the model has them (RoFormer, arXiv:2104.09864; half layout). Where the model has
 * norms of heads (arXiv:2302.05442), each head of q and of k goes through one before it is turned.
 * Where it has a window (Longformer, arXiv:2004.05150; Mistral, arXiv:2310.06825), a token sees so
 * many, itself included. In training some of the probabilities may be left out (dropout.h). In
 * serving keys and values go to the cache, and are read there, through the pages of each row's
 * sequence. Where ranks share sequences (context.h), a rank's queries are two chunks of each, and
 * keys and values those of all.
 */
#ifndef RUNTIME_MODEL_ATTENTION_H
#define RUNTIME_MODEL_ATTENTION_H

#include "runtime/model/context.h"
#include "runtime/model/dropout.h"
#include "runtime/model/linear.h"
#include "runtime/model/norm.h"

struct attention {       /* H heads and G key/value heads of size D */
    struct linear w_qkv; /* ((H + 2 G) D, C) */
    struct linear w_o;   /* (C, H D) */
    struct norm norm_q, norm_k;
    struct dropout dropout; /* of probabilities */
    /* kept */
    void *qkv;  /* (N, (H + 2 G) D), rotated where there are no norms of heads */
    void *qk;   /* (N, (H + G) D), q and k behind these norms and rotated; NULL: none */
    void *att;  /* (N, H D) */
    float *lse; /* (B, H, T) log-sum-exp of the scores; of chunks (B, 2, H, T / 2) */
    /* scratch of backward */
    void *datt; /* (N, H D) */
    void *dqkv; /* (N, (H + 2 G) D) */
    void *dqk;  /* (N, (H + G) D); NULL: no norms of heads */
    /* scratch of both, where ranks share sequences */
    struct context_keys all;
};

struct sublayer_kind;
extern const struct sublayer_kind attention_kind;

#endif
