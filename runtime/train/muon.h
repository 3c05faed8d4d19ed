/*
 * muon: the direction of Muon's update: a matrix whose singular values are all near 1, from one
 * with any, by five steps of a Newton-Schulz iteration of fifth order (Jordan et al., "Muon: An
 * optimizer for hidden layers in neural networks", 2024; as torch.optim.Muon). Products are made
 * in BF16, as torch's are, or in F32 where the model computes in that. Only enqueues; the memory is
 * scratch that is planned for the largest matrix.
 */
#ifndef RUNTIME_TRAIN_MUON_H
#define RUNTIME_TRAIN_MUON_H

#include "runtime/model/carve.h"

struct muon {
    struct dev *dev;
    enum dtype t;           /* of the products */
    int64_t elements, side; /* of the largest matrix, the longest shorter side; 0: no matrix */
    float *direction;       /* (elements): what is given and what is made of it */
    void *x[2];             /* (elements) t */
    void *gram, *poly;      /* (side, side) t */
    float *sumsq;           /* (1) */
};

/* For a model that computes in `model`. */
enum dtype muon_type(enum dtype model);
/* Makes the scratch large enough for a matrix of (rows, cols). */
void muon_admit(struct muon *m, int64_t rows, int64_t cols);
void muon_carve(struct muon *m, struct carve *c);
/* direction (rows, cols) becomes orthogonal. A matrix of zeros stays one. */
void muon_orthogonalise(struct muon *m, int64_t rows, int64_t cols);

#endif
