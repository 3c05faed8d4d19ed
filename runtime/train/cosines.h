/*
 * cosines: what is lost on a batch of pairs of texts whose embeddings have length 1, so that
 * products are cosines, and the gradient by each embedding. In-batch negatives: of each pair k
 * -log softmax(cos(a_k, b_j) / temperature over all j) at j = k (Henderson et al.,
 * arXiv:1705.00652; sentence-transformers' MultipleNegativesRankingLoss). A b that stands in the
 * batch twice is a negative of the other's a, as it is there. Cosine: (cos(a_k, b_k) - label_k)^2
 * (CosineSimilarityLoss). The loss of a batch is the mean over its pairs. Each number is summed in
 * one order, whatever the threads. Pure.
 */
#ifndef RUNTIME_TRAIN_COSINES_H
#define RUNTIME_TRAIN_COSINES_H

#include <stdbool.h>
#include <stdint.h>

struct cosines {
    int64_t n, c;        /* pairs; columns of an embedding */
    const float *e;      /* (2n, C): a and b of each pair in turn */
    const int32_t *rows; /* (2n) which row of e each of these is; NULL: as they stand */
    const float *labels; /* (n) of Cosine; NULL: in-batch negatives */
    float temperature;   /* of in-batch negatives */
};

/* Floats that g holds for n pairs: (n, n), or (n) with labels. */
int64_t cosines_products(int64_t n, bool labelled);
/* losses (n); g: the gradient of their mean by each cosine that counts. */
void cosines_loss(const struct cosines *p, float *g, float *losses);
/* The gradient of that mean by embeddings [first, first + count) of the 2n: de (count, C). */
void cosines_back(const struct cosines *p, const float *g, int64_t first, int64_t count, float *de);

float cosines_one(const struct cosines *p, int64_t a, int64_t b); /* of embeddings a and b */
/* To length 1; what it was is returned, and given back to the gradient by x (C) of what is lost. A
   vector of zeros stays one, and learns nothing. */
float cosines_normalize(float *x, int64_t c);
void cosines_normalize_back(const float *y, float length, float *dy, int64_t c);

#endif
