/*
 * oracle: the loss of a model in double, by plain loops written from the formulas and from names
 * alone: no kernel, no joined matrix, no index of the table is used. It serves where F32 is too
 * coarse: differences of its losses give derivatives to ten digits.
 */
#ifndef TESTS_RUNTIME_ORACLE_H
#define TESTS_RUNTIME_ORACLE_H

#include "runtime/model/model.h"
#include "runtime/family/tensors.h"

struct oracle {
    struct model_config config;
    struct tensors base, lora;   /* names and places of what follows */
    double *w, *factors;         /* to be changed at will; factors NULL without LoRA */
    double scale;                /* alpha / r */
    struct model_dropout shares; /* of embeddings, sub-layers, attention, what a classifier reads */
    double dropout;              /* of the input of A */
    uint64_t seed;               /* of dropout */
    int64_t place;               /* of the batch's first sequence in the order of training */
    int64_t b, t;                /* sequences and their length */
    const int32_t *lengths;      /* (b) how much of each exists; NULL: all */
    const int32_t *first;        /* (b, t) where documents begin; NULL: at 0 */
    const int32_t *begins;       /* (t) of the sequence in work; or NULL */
    int64_t there;               /* of the sequence in work */
    double *work, *dropped;
};

/* The parameters that m has now, for batches of b sequences of t tokens. */
void oracle_open(struct oracle *o, struct dev *d, struct model *m, const struct model_conf *c);
void oracle_close(struct oracle *o);
/* Where the trained part `name` stands. */
double *oracle_part(struct oracle *o, const char *name);
/* The sum of -log p over the targets that are not negative: tokens, or labels. */
double oracle_loss(struct oracle *o, const int32_t *ids, const int32_t *targets);

#endif
