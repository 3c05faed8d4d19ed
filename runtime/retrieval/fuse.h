/*
 * fuse: several rankings of the same things as one: reciprocal rank fusion (Cormack, Clarke and
 * Buettcher, SIGIR 2009): a thing's score is the sum over the rankings of weight / (60 + its rank),
 * ranks from 1 on; a ranking without it adds nothing. Pure.
 */
#ifndef RUNTIME_RETRIEVAL_FUSE_H
#define RUNTIME_RETRIEVAL_FUSE_H

#include <stdint.h>

#define FUSE_RANKS 60  /* the paper's constant */
#define FUSE_DEPTH 100 /* of a ranking, at most */

struct fuse_ranking {
    const int64_t *ids; /* (count) the best first; each once */
    int64_t count;
    double weight;
};

struct fuse_hit {
    int64_t id;
    double score;
};

/* out (sum of the counts): by score, of equals the lower id; how many there are. */
int64_t fuse_rankings(const struct fuse_ranking *rankings, int n, struct fuse_hit *out);

#endif
