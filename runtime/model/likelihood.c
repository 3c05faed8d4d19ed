/*
 * likelihood: exponentials in F32, sums in double, in the order of the columns and of the ranks.
 */
#include "runtime/model/likelihood.h"

#include <math.h>

struct likelihood likelihood_of(const float *logits, int64_t columns, int64_t token)
{
    struct likelihood x = {.top = logits[0], .found = token >= 0 && token < columns};
    for (int64_t i = 1; i < columns; i++)
        x.top = logits[i] > x.top ? logits[i] : x.top;
    for (int64_t i = 0; i < columns; i++)
        x.sum += (double)expf(logits[i] - x.top);
    if (x.found)
        x.target = logits[token];
    return x;
}

double likelihood_loss(const struct likelihood *all, int ranks, int64_t stride)
{
    float most = all->top, target = all->target;
    double sum = 0;
    for (int r = 1; r < ranks; r++)
        most = all[r * stride].top > most ? all[r * stride].top : most;
    for (int r = 0; r < ranks; r++) {
        const struct likelihood *x = &all[r * stride];
        sum += x->sum * (double)expf(x->top - most);
        target = x->found ? x->target : target;
    }
    return log(sum) + (double)(most - target);
}
