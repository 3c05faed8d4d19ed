/*
 * chorus: what each member of several models that answer as one says in a pass, in the hands of
 * rank 0, which averages it. Ranks may have some of the members each, in turn: the member at place
 * i is rank i % ranks's. Each sends what its own say to rank 0 alone: nobody else needs it. By
 * place it is the same whoever has them.
 */
#ifndef RUNTIME_SERVE_CHORUS_H
#define RUNTIME_SERVE_CHORUS_H

#include "runtime/coll/coll.h"

struct chorus;

struct chorus_conf {
    struct coll *coll; /* of the ranks; borrowed; NULL: this one has all */
    int rank, ranks;   /* 1 without */
    int members;       /* of all ranks */
    int64_t most;      /* numbers that a member says in a pass, at most */
};

/* Bytes that it takes, saturated. */
int64_t chorus_bytes(const struct chorus_conf *c);
/* All ranks call: those of several connect. */
int chorus_create(const struct chorus_conf *c, struct chorus **out, struct err *e);
void chorus_destroy(struct chorus *s);
/* (n) where this rank's own-th member leaves what it says in a pass in which each says n. */
float *chorus_own(const struct chorus *s, int own, int64_t n);
/* Behind these: rank 0 has all. */
int chorus_gather(struct chorus *s, int64_t n, struct err *e);
/* Rank 0's: (n) of the member at a place. */
const float *chorus_at(const struct chorus *s, int place, int64_t n);

#endif
