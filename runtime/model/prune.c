/*
 * prune: scores are not negative, so as integers their bits have their order; that of the last one
 * that goes is found in four looks at the row, a byte each, without memory. Of equals the first go.
 */
#include "runtime/model/prune.h"

#include <math.h>

#define OF_FOUR 4

bool prune_takes(const struct tensor *t)
{
    switch (t->role) {
    case TENSOR_Q:
    case TENSOR_K:
    case TENSOR_V:
    case TENSOR_O:
    case TENSOR_GATE:
    case TENSOR_UP:
    case TENSOR_DOWN:
        return t->part == TENSOR_WEIGHT;
    default:
        return false;
    }
}

int prune_check(const struct tensors *t, enum sparsity_pattern p, const char *field, struct err *e)
{
    for (int i = 0; p != SPARSITY_NONE && i < t->count; i++)
        if (t->at[i].role == TENSOR_ROUTER)
            return err_set(e, ERR_USER, "%s: a mixture of experts is not pruned", field);
    for (int i = 0; p == SPARSITY_2_4 && i < t->count; i++)
        if (prune_takes(&t->at[i]) && t->at[i].shape[1] % OF_FOUR)
            return err_set(e, ERR_USER, "%s: 2:4 needs rows of whole fours, and %.120s has %lld",
                field, t->at[i].name, (long long)t->at[i].shape[1]);
    return 0;
}

static uint32_t score(float w, const float *mean, int64_t column)
{
    float x = fabsf(w) * (mean ? sqrtf(mean[column]) : 1);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The n-th smallest score, n from 1; *before: how many are smaller. */
static uint32_t nth_score(
    const float *w, const float *mean, int64_t columns, int64_t n, int64_t *before)
{
    uint32_t found = 0;
    *before = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t counts[256] = {0};
        uint32_t byte = 0;
        for (int64_t j = 0; j < columns; j++) {
            uint32_t s = score(w[j], mean, j);
            if (shift == 24 || s >> (shift + 8) == found >> (shift + 8))
                counts[s >> shift & 255]++;
        }
        while (*before + counts[byte] < n)
            *before += counts[byte++];
        found |= byte << shift;
    }
    return found;
}

static void prune_row(float *w, const float *mean, int64_t columns, int64_t zeros)
{
    int64_t before;
    if (!zeros)
        return;
    uint32_t last = nth_score(w, mean, columns, zeros, &before);
    int64_t equals = zeros - before;
    for (int64_t j = 0; j < columns; j++) {
        uint32_t s = score(w[j], mean, j);
        if (s < last || (s == last && equals-- > 0))
            w[j] = 0;
    }
}

/* Too few for a table of counts: the rank of each by comparison. */
static void prune_four(float *w, const float *mean, int64_t zeros)
{
    uint32_t s[OF_FOUR];
    for (int j = 0; j < OF_FOUR; j++)
        s[j] = score(w[j], mean, j);
    for (int j = 0; j < OF_FOUR; j++) {
        int64_t before = 0;
        for (int k = 0; k < OF_FOUR; k++)
            before += s[k] < s[j] || (s[k] == s[j] && k < j);
        w[j] = before < zeros ? 0 : w[j];
    }
}

void prune_rows(float *w, int64_t rows, int64_t columns, enum sparsity_pattern p, double share,
    const float *mean)
{
    bool fours = p == SPARSITY_2_4;
    int64_t zeros = llround(share * (double)(fours ? OF_FOUR : columns));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        float *row = w + i * columns;
        if (!fours)
            prune_row(row, mean, columns, zeros);
        for (int64_t j = 0; fours && j < columns; j += OF_FOUR)
            prune_four(row + j, mean ? mean + j : NULL, zeros);
    }
}

int64_t prune_zeros(const float *w, int64_t n)
{
    int64_t zeros = 0;
#pragma omp parallel for schedule(static) reduction(+ : zeros)
    for (int64_t i = 0; i < n; i++)
        zeros += w[i] == 0;
    return zeros;
}
