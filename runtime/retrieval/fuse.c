/*
 * fuse: rankings are short, so that a thing is found by looking at all.
 */
#include "runtime/retrieval/fuse.h"

#include <stdlib.h>

static int by_score(const void *a, const void *b)
{
    const struct fuse_hit *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score < y->score ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int64_t fuse_rankings(const struct fuse_ranking *rankings, int n, struct fuse_hit *out)
{
    int64_t count = 0;
    for (int r = 0; r < n; r++)
        for (int64_t i = 0; i < rankings[r].count && rankings[r].weight > 0; i++) {
            int64_t id = rankings[r].ids[i], at = 0;
            while (at < count && out[at].id != id)
                at++;
            if (at == count)
                out[count++] = (struct fuse_hit){.id = id};
            out[at].score += rankings[r].weight / (double)(FUSE_RANKS + 1 + i);
        }
    qsort(out, (size_t)count, sizeof *out, by_score);
    return count;
}
