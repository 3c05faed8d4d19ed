/*
 * pass_internal: a pass as its own files see it. pass.c is one batch, forward and backward;
 * pass_stage.c the same of a stage of a pipeline. Nobody else includes it.
 */
#ifndef RUNTIME_MODEL_PASS_INTERNAL_H
#define RUNTIME_MODEL_PASS_INTERNAL_H

#include "runtime/model/context.h"
#include "runtime/model/dispatch.h"
#include "runtime/model/internal.h"
#include "runtime/model/net.h"
#include "runtime/model/parallel.h"
#include "runtime/model/pass.h"
#include "runtime/model/teacher.h"

struct pass {
    struct model *model;
    struct dev *dev;
    struct net *nets;  /* of each batch between forward and backward */
    int64_t in_flight; /* of the first chunk, which has most */
    struct net_memory memory;
    struct teacher *teacher; /* or NULL */
    struct parallel parallel;
    struct dispatch *dispatch; /* or NULL */
    struct context context;
    struct batch batch; /* the largest */
    struct batch last;  /* of pass_forward */
    int64_t tokens;     /* of a sequence, now; of what this rank has of it */
    float *gradient;    /* of all that is trained, or its window */
    float *slice;       /* what is kept of a gradient that ranks divide; else NULL */
    bool gradient_shared;
    struct zero *zero; /* NULL: ranks divide neither gradient nor weights */
    struct zero divided;
    int32_t *ids, *targets, *position;       /* (N) */
    int32_t *own_ids, *own_rows, *own_slots; /* (N) of a share of the vocabulary; else NULL */
    int64_t own;
    int32_t *types;                /* (N) NULL: no types */
    bool typed;                    /* they are of the last step's; else zeros */
    int32_t *lengths;              /* (B) */
    int32_t *sees_from;            /* (N); NULL: neither a window nor documents */
    int32_t *chosen_rows, *slots;  /* (N) where the head does not read all rows; else NULL */
    int64_t chosen;                /* of the last step's */
    bool documents;                /* position and sees_from are of the last step's */
    float *expert_count, *balance; /* (B, E), (B): of a mixture of experts; else NULL */
    /* of a stage of a pipeline: what comes in place of the former while it goes; of the batch that
       is in backward; and what comes in place of that */
    float *next_count, *whole_count, *next_whole_count;
    float *expert_load; /* (PASS_AHEAD, E): counts since pass_loss */
    float *loss;        /* (N) */
    float *loss_total;  /* (PASS_AHEAD, N): by row, since pass_loss */
    int ahead;          /* which of these is being added to */
    float *host;        /* (N), or the logits of all labels; host */
    void *hidden;       /* (T, C) t, host, of a headless model; else NULL */
    void (*ready_fn)(void *user, int64_t first, int64_t count);
    void *ready_user;
};

/* Batches of a chunk of layers between forward and backward, 1 or more. */
int64_t pass_in_flight(const struct pass *p, int chunk);
/* Where every token of n rows stands, and what it sees from: the beginning of its document (first;
   NULL: of its row) or of the window; goes up. */
void pass_upload_places(struct pass *p, const int32_t *first, int64_t n);
/* What the balance loss of each of b sequences weighs, for gradients times scale; goes up. Of a
   model without experts nothing. */
void pass_upload_balance(struct pass *p, int64_t b, const struct pass_input *in, float scale);
/* Rows of targets, losses and logits of b sequences: a token each, or a text each. */
int64_t pass_rows(const struct pass *p, int64_t b);
/* The first b sequences of p's largest batch, of as many tokens as there are now. */
struct batch pass_batch(const struct pass *p, int64_t b, const struct pass_input *in, bool drops);
/* ids, types, documents and lengths of s, which is pass_batch's. */
int pass_upload_input(struct pass *p, struct batch *s, const struct pass_input *in, struct err *e);
/* Input and targets of b sequences go up. *out: what the net runs over. */
int pass_upload(struct pass *p, int64_t b, const struct pass_input *in, bool drops,
    struct batch *out, struct err *e);
/* Of a mixture of experts: nothing has been chosen yet by b sequences; and when all layers have
   been run, before backward: what was chosen is added to pass_expert_load, over all ranks that
   share the sequences. */
void pass_clear_counts(struct pass *p, int64_t b);
void pass_add_counts(struct pass *p, int64_t b);
/* Adds the losses of b sequences to what those of each row have come to since pass_loss. */
void pass_add_losses(struct pass *p, int64_t b);
/* net_backward's layer_fn; user: the pass. */
void pass_tell_ready(void *user, int64_t layer);

#endif
