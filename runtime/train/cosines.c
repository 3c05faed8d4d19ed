/*
 * cosines: rows of cosines are independent of one another, so threads share them out; a softmax is
 * taken relative to its greatest term.
 */
#include "runtime/train/cosines.h"

#include <math.h>
#include <string.h>

#define LANES    8
#define WORTHY   (1 << 16) /* products of numbers, for threads to share them */
#define SHORTEST 1e-12f    /* as torch's normalize */

static const float *row_of(const struct cosines *p, int64_t i)
{
    return p->e + (p->rows ? p->rows[i] : i) * p->c;
}

/* In lanes, which compilers may keep in a register each. */
static float dot(const float *x, const float *y, int64_t n)
{
    float lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += x[i + k] * y[i + k];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    for (; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void add_scaled(float *to, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += by * x[i];
}

float cosines_one(const struct cosines *p, int64_t a, int64_t b)
{
    return dot(row_of(p, a), row_of(p, b), p->c);
}

int64_t cosines_products(int64_t n, bool labelled)
{
    return labelled ? n : n * n;
}

/* -- in-batch negatives -- */

/* s (n): cosines of one a become the gradient of its part of the mean. */
static float row_loss(const struct cosines *p, int64_t i, float *s)
{
    float most = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < p->n; j++) {
        s[j] = cosines_one(p, 2 * i, 2 * j + 1) / p->temperature;
        most = s[j] > most ? s[j] : most;
    }
    for (int64_t j = 0; j < p->n; j++)
        sum += exp((double)(s[j] - most));
    double loss = log(sum) + (double)most - (double)s[i];
    double scale = 1 / ((double)p->n * (double)p->temperature);
    for (int64_t j = 0; j < p->n; j++)
        s[j] = (float)((exp((double)(s[j] - most)) / sum - (i == j)) * scale);
    return (float)loss;
}

/* g_ij of all pairs whose a, or whose b, it is. */
static void negatives_back(const struct cosines *p, const float *g, int64_t i, float *de)
{
    bool second = i % 2;
    for (int64_t j = 0; j < p->n; j++)
        if (second)
            add_scaled(de, row_of(p, 2 * j), g[j * p->n + i / 2], p->c);
        else
            add_scaled(de, row_of(p, 2 * j + 1), g[i / 2 * p->n + j], p->c);
}

/* -- both -- */

void cosines_loss(const struct cosines *p, float *g, float *losses)
{
#pragma omp parallel for schedule(static) if (p->n * p->n * p->c > WORTHY)
    for (int64_t i = 0; i < p->n; i++) {
        if (!p->labels) {
            losses[i] = row_loss(p, i, g + i * p->n);
            continue;
        }
        float apart = cosines_one(p, 2 * i, 2 * i + 1) - p->labels[i];
        losses[i] = apart * apart;
        g[i] = 2 * apart / (float)p->n;
    }
}

void cosines_back(const struct cosines *p, const float *g, int64_t first, int64_t count, float *de)
{
    memset(de, 0, (size_t)(count * p->c) * sizeof *de);
#pragma omp parallel for schedule(static) if (count * p->n * p->c > WORTHY)
    for (int64_t k = 0; k < count; k++) {
        int64_t i = first + k;
        if (p->labels)
            add_scaled(de + k * p->c, row_of(p, i ^ 1), g[i / 2], p->c);
        else
            negatives_back(p, g, i, de + k * p->c);
    }
}

/* -- lengths -- */

float cosines_normalize(float *x, int64_t c)
{
    float length = sqrtf(dot(x, x, c));
    float by = length > SHORTEST ? length : SHORTEST;
    for (int64_t i = 0; i < c; i++)
        x[i] /= by;
    return length;
}

/* d(x / |x|): what lies along y = x / |x| is lost. */
void cosines_normalize_back(const float *y, float length, float *dy, int64_t c)
{
    float along = dot(y, dy, c);
    for (int64_t i = 0; i < c; i++)
        dy[i] = length > SHORTEST ? (dy[i] - along * y[i]) / length : 0;
}
