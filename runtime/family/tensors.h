/*
 * tensors: the one table of the tensors that a model has, by its configuration: the name, role,
 * layer and shape of each, and where it stands in one flat range of elements. Pure.
 *
 * Names and layouts are Hugging Face's for Llama ("model.layers.3.self_attn.q_proj.weight", (out,
 * in)), whatever the family; learned positions are "model.embed_positions.weight", token types
 * "model.embed_types.weight", the norm above both "model.embed_norm", labels have a "classifier",
 * below which, where they are of whole texts, stands "model.pooler"; a head of masked tokens is a
 * "model.transform", the norm above it "model.transform_norm", and "lm_head.bias" on the embedding.
 *
 * The table is in the order of the flat range. Matrices that read the same input stand one behind
 * the other (q, k, v; gate, up), so one product serves them while every name stays separate; so do
 * their biases. Of a layer's experts first the gates and ups stand in the order of experts, then
 * the downs: each the same distance behind the one before, so a range of experts is a range of
 * elements. Matrices come first and vectors (norms, biases) last: what weight decay applies to
 * is one run. What is not joined begins at a multiple of TENSORS_ALIGN elements; the gaps hold
 * zeros for ever. The factors of adapters are a table of the same kind. Sizes are checked in 64
 * bits.
 */
#ifndef RUNTIME_FAMILY_TENSORS_H
#define RUNTIME_FAMILY_TENSORS_H

#include "base/err.h"
#include "base/table.h"
#include "runtime/family/config.h"

#define TENSORS_ALIGN 32

enum tensor_role { /* in the order of computing */
    TENSOR_EMBED,
    TENSOR_POSITIONS,
    TENSOR_TYPES,
    TENSOR_NORM_EMBED,
    TENSOR_NORM_ATTENTION,
    TENSOR_Q,
    TENSOR_K,
    TENSOR_V,
    TENSOR_NORM_Q,
    TENSOR_NORM_K,
    TENSOR_O,
    TENSOR_NORM_FFN,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_DOWN,
    TENSOR_ROUTER,
    TENSOR_EXPERT_GATE,
    TENSOR_EXPERT_UP,
    TENSOR_EXPERT_DOWN,
    TENSOR_NORM_FINAL,
    TENSOR_TRANSFORM,
    TENSOR_NORM_TRANSFORM,
    TENSOR_HEAD,
    TENSOR_POOLER,
    TENSOR_CLASSIFIER,
    TENSOR_ROLES
};

enum tensor_part {
    TENSOR_WEIGHT,
    TENSOR_BIAS,
    TENSOR_LORA_A,
    TENSOR_LORA_B,
    TENSOR_LORA_E, /* singular values, of AdaLoRA: runtime/model/lora.h */
    TENSOR_LORA_M, /* lengths of rows: runtime/model/dora.h */
    /* of the adapter behind what a matrix gives: runtime/model/bottleneck.h */
    TENSOR_ADAPTER_DOWN,
    TENSOR_ADAPTER_UP,
    TENSOR_ADAPTER_DOWN_BIAS,
    TENSOR_ADAPTER_UP_BIAS,
    TENSOR_PARTS
};

/* What tensor parallelism gives to each rank. */
enum tensor_axis {
    AXIS_NONE,    /* all of it */
    AXIS_ROWS,    /* some of what it gives: q, k, v, gate, up, the vocabulary */
    AXIS_COLUMNS, /* some of what it reads: o, down; the results are added up */
};

struct tensor {
    char name[128]; /* canonical; of adapters peft's: "model.layers.0.mlp.up_proj.lora_A.weight" */
    enum tensor_role role;
    enum tensor_part part;
    int layer, expert;     /* -1: of the whole model; of no expert */
    int order;             /* its place in the order of computing: each bias behind its weight */
    int dims;              /* 2, or 1: a vector */
    int64_t shape[2];      /* (rows, columns); (rows, 1) */
    int64_t whole[2];      /* the same of the model's, of which a share's rank has a part: */
    int64_t begin[2];      /* the row and the column where it begins */
    int64_t offset, count; /* in elements, inside the flat range */
    int64_t rotary_heads;  /* of rows that turn with positions; 0: none */
    bool decay;            /* weight decay applies */
    enum tensor_axis axis;
};

struct tensors {
    struct tensor *at;
    int count, capacity;
    int64_t elements;    /* of the flat range, gaps included */
    int layers, experts; /* of the whole model, where this is a share's */
    int *by_role;        /* 1 + the index; 0: none */
    struct table by_name;
};

/* Every tensor of the model itself. */
int tensors_create(const struct model_config *c, struct tensors *out, struct err *e);
void tensors_done(struct tensors *t);
/* NULL: there is none. */
const struct tensor *tensors_get(const struct tensors *t, enum tensor_role role,
    enum tensor_part part, int64_t layer, int64_t expert);
const struct tensor *tensors_find(const struct tensors *t, const char *name);

bool tensor_is_cut(const struct tensor *t); /* Is it a part of the model's? */
/* Does each rank of tensor parallelism make a part of its gradient only, though it has it all? */
bool tensor_is_shared(const struct tensor *t);

/* To make a table: appends one by its role, part, layer, expert, dims and shape; joined: directly
   behind the one before. Nothing is found in it before tensors_seal. */
int tensors_add(struct tensors *t, const struct model_config *c, const struct tensor *what,
    bool joined, struct err *e);
/* A classifier, if the model has one: what adapters train beside themselves. */
int tensors_add_classifier(struct tensors *t, const struct model_config *c, struct err *e);
int tensors_seal(struct tensors *t, const struct model_config *c, struct err *e);

/* Matrices that read the same input and stand as one. LINEAR_GATE_UP is up alone where the
   activation has no gate. Those of a mixture of experts, of one expert, are behind LINEARS: they
   have no adapters. */
enum linear_kind {
    LINEAR_QKV,
    LINEAR_O,
    LINEAR_GATE_UP,
    LINEAR_DOWN,
    LINEARS,
    LINEAR_ROUTER,
    LINEAR_EXPERT_GATE_UP,
    LINEAR_EXPERT_DOWN,
};
#define LINEAR_PIECES 3

struct linear_shape { /* (out, in): `pieces` matrices stacked by rows */
    int64_t in, out;
    int pieces;
    int64_t rows[LINEAR_PIECES];
    enum tensor_role role[LINEAR_PIECES];
    bool bias;
    /* of a share of the model (tensor parallelism) */
    bool splits; /* it gives some of the columns, and every rank reads the same */
    bool adds;   /* it reads some of the columns, and what it gives is a part of a sum */
};
void linear_shape(const struct model_config *c, enum linear_kind kind, struct linear_shape *out);

/* "q_proj" */
const char *tensor_short_name(enum tensor_role role);
bool tensor_of_expert(enum tensor_role role);
/* A stem with the expert's number for its asterisk, if it has one: "mlp.experts.3.up_proj". */
#define TENSOR_STEM_BYTES 96
const char *tensor_stem(const char *stem, int expert, char out[TENSOR_STEM_BYTES]);

#endif
