/*
 * model: the weights of one configurable transformer on a device, for training or for serving; pass
 * (training) and engine (serving) compute with them. Tensors live in device memory, never
 * dereferenced by the host, and go by name (runtime/family/tensors.h).
 *
 * Training: parameters in compute type t (F32, BF16 or F16) with F32 masters for what is trainable:
 * everything, or adapters and a classifier, or nothing. Serving: as stored on disk.
 */
#ifndef RUNTIME_MODEL_MODEL_H
#define RUNTIME_MODEL_MODEL_H

#include "base/err.h"
#include "api/jobspec.h"
#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/family/tensors.h"
#include "runtime/family/weights.h"

#include <stdbool.h>
#include <stdint.h>

/* What a model of that precision computes in. */
enum dtype model_type_of(enum precision p);
struct model_conf;
/* What its keys and values are kept in. */
enum dtype model_cache_type(const struct model_conf *c);
/* What so many pages of its cache take. */
int64_t model_cache_bytes(const struct model_conf *c, int64_t pages);

struct beside;
struct model;
struct trace;

struct model_addition { /* to tensors of the table while they are loaded: an adapter's part */
    bool (*changes_fn)(const void *of, const struct tensor *t);
    /* To rows [row, row + rows), w (rows, columns). */
    void (*add_fn)(const void *of, const struct tensor *t, int64_t row, int64_t rows, float *w);
    const void *of;
};

struct model_values { /* of what is added to a model that is served */
    int (*read_fn)(const void *of, const struct tensor *t, float *out, struct err *e);
    const void *of;
};

struct model_conf {
    struct model_config config;
    enum dtype t; /* compute type */
    bool train;
    bool frozen;             /* nothing is trained: a pass forward is all; train too */
    int64_t micro_sequences; /* B of one forward, training */
    int64_t sequence_length; /* T, training */
    int lora_rank;           /* 0: full training */
    float lora_alpha, lora_dropout;
    struct model_dropout dropout; /* dropout.h; training */
    bool lora_rank_stabilized, lora_dora;
    bool lora_adaptive;              /* AdaLoRA, which begins with lora_rank */
    const char *const *lora_targets; /* NULL-terminated: "q_proj", ... */
    int64_t adapter_size; /* columns inside adapters behind sub-layers (bottleneck.h); 0: none */
    enum adapter_kind adapter_kind;
    enum adapter_activation adapter_activation;
    const struct model_values *adapter; /* serving, with such adapters: what they hold */
    const struct beside
        *beside;         /* serving: adapters that a row may have, borrowed for life; or NULL */
    int64_t draft_bytes; /* serving: what a model that guesses ahead takes in the same rank */
    /* LoRA beside a quantized base (model/blocks.h): the frozen matrices have the types in memory
       that spec.convert would give them in a GGUF file; QUANTIZE_NONE: those that they have in
       `stored`, borrowed until the model is created, where that is not NULL; else t. */
    enum quantize quantize;
    const struct weights *stored;
    /* A model whose predictions are learnt too, borrowed for life; NULL: none. op_distill's. */
    const struct model_config *teacher;
    const int32_t *teacher_label_from; /* as label_from, of the teacher's classifier */
    float distill_weight, distill_temperature;
    uint64_t seed;            /* of random weights, LoRA's A and dropout */
    enum recompute recompute; /* what of a layer backward makes again: model/net.h */
    int64_t logit_rows;       /* at once, at most; 0: as many as suit a processor */
    bool packed;              /* rows may hold several documents, training */
    bool headless;            /* what counts are hidden states: pass_means, encoder_embed */
    bool encodes;             /* serving, of texts as wholes: encoder.h, in place of engine.h */
    int64_t kv_capacity;      /* tokens of a sequence, serving */
    int64_t kv_pages;         /* of the cache (kvcache.h), at least those of a sequence;
                                              0: as many */
    enum kv_cache kv_cache;   /* what keys and values are kept in, serving; Auto: t */
    int64_t programs; /* serving from a pod's memory: what programs take of it (memplan_programs) */
    const struct model_addition *addition; /* serving; what it changes has type t. NULL: none */
    bool fresh_labels;                     /* the classifier is drawn, whatever there is to load */
    const int32_t *label_from; /* (labels) the row of each in that to load; NULL: the same */
    /* Ranks that divide the optimizer's state, and which of them this is; -1, where one only plans:
       the one that takes most. 0: each keeps all of it. */
    int owners, owner;
    int zero_stage; /* what else they divide: model/zero.h. With slice_fn alone */
    /* What an owner has of the flat range of what is trained: the optimizer's slice. */
    void (*slice_fn)(const struct model_conf *c, const struct tensors *trained, int owner,
        int64_t *first, int64_t *count);
    bool whole_masters; /* though there are owners: each computes with all */
    /* Bytes that the optimizer will take beside, of what is trained; NULL: AdamW's, undivided. */
    int64_t (*optimizer_fn)(const struct model_conf *c, const struct tensors *trained);
    const void *optimizer;
    /* Bytes that sums over so many ranks take beside, of so many trained elements, where what
       crosses is made smaller; NULL: none. The planner sets replicas. */
    int64_t (*exchange_fn)(const struct model_conf *c, int64_t elements);
    const void *exchange;
    /* Bytes that this rank puts into a checkpoint, at most, with the same user; NULL: they are not
       kept in memory. */
    int64_t (*snapshot_fn)(const struct model_conf *c, const struct tensors *trained);
    int replicas;
    struct coll *coll; /* gradients are placed in its memory when not NULL, and masters that several
                          ranks renew */
    struct coll *tensor;   /* of config's shares of layers, a rank each, in their order; or NULL */
    struct coll *pipeline; /* of its stages likewise, connected for messages; or NULL */
    struct coll *expert;   /* of those who have its experts, in their order, connected; or NULL */
    struct coll *tied;     /* of the first and the last, where the embedding is the head; or NULL */
    int stage, stages;     /* this rank's of them; 0 stages: one */
    /* micro-batches between forward and backward, of each chunk of the stage's layers, no more of a
       later one; 0: 1 */
    int64_t in_flight[MODEL_CHUNKS];
    struct coll *world;   /* of all that share it, and of other replicas; where there are shares */
    bool answers;         /* of the replicas it is the one that tells what it has (shares.h) */
    struct coll *context; /* of the ranks that share each sequence (context.h); or NULL */
    int contexts, context_rank; /* how many, 0: 1; which this is. sequence_length is the whole */
    struct wire_page *page;     /* a beat a layer; or NULL */
    struct trace *trace;        /* of layers, forward and backward; or NULL */
};

int model_create(struct dev *d, const struct model_conf *c, struct model **out, struct err *e);
void model_destroy(struct model *m);
/* Once, before anything is computed. A pooler or a head of masked tokens that w has not, and a
   classifier that it has not or has for another number or kind of labels, are fresh as in
   model_init_random. */
int model_load(struct model *m, struct weights *w, struct err *e);
/* normal(0, 0.02), less for projections into the residual where the configuration says so; norms 1,
   biases 0; depends on seed, name and the configuration only */
int model_init_random(struct model *m, struct err *e);
int64_t model_parameters(const struct model *m);
/* Tokens that there are logits for: of a share those of the whole model. */
int64_t model_vocab(const struct model *m);
/* Of all that a rank with this model allocates (memplan). */
int64_t model_memory_bytes(const struct model *m);

/* Every tensor of the model itself, trained or not; of a share, what it has of each. */
const struct tensors *model_base(const struct model *m);
/* The trainable parameters: one flat F32 master range, and what stands in it. */
const struct tensors *model_trained(const struct model *m);
/* The same tables of the whole model, in the same order: of other shapes where this is a share. */
const struct tensors *model_whole_base(const struct model *m);
const struct tensors *model_whole_trained(const struct model *m);
int64_t model_trainable(const struct model *m); /* elements of the flat range */
/* Is it of a share whose rank is not the first that has it whole? That one speaks for all. */
bool model_is_copy(const struct model *m, const struct tensor *t);
/* Is it the embedding as the head of a pipeline's last stage? */
bool model_is_tied(const struct model *m, const struct tensor *t);
/* Which of the flat range's masters are here: all, unless ranks divide them. */
void model_here(const struct model *m, int64_t *first, int64_t *count);
float *model_master(struct model *m); /* device F32, of those */
/* The same at an element of the flat range, one that is here. */
float *model_master_at(struct model *m, int64_t at);
/* The device copy of the masters in t, or NULL when t is F32. */
uint16_t *model_compute_copy(struct model *m);
enum dtype model_compute_type(const struct model *m); /* t */
/* 1 or more; *owner: which of them this is. */
int model_owners(const struct model *m, int *owner);
struct coll *model_coll(const struct model *m); /* of the configuration; or NULL */
void model_master_changed(struct model *m); /* masters were written from outside: renews the copy */
/* The same by each owner of its own slice: all take the others'. A collective; enqueues. */
int model_slices_changed(struct model *m, struct err *e);
/* Where ranks divide the masters: those here were read, the copy of all others is taken. */
int model_masters_read(struct model *m, struct err *e);

/* Have other ranks numbers that model_read would be asked for? */
bool model_is_divided(const struct model *m);
/* One named tensor as F32 on the host, LoRA merged in when merged (export); of a share what it has
   of it, and of what ranks divide what is here, among zeros (runtime/model/shares.h puts them
   together, and merges then). */
int model_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e);

#endif
