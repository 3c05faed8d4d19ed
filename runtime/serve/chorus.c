/*
 * chorus: in memory those of a rank stand side by side, so that they are one message.
 */
#include "runtime/serve/chorus.h"

#include "api/limits.h"
#include "base/mem.h"
#include "runtime/model/carve.h"

#include <assert.h>

struct chorus {
    struct chorus_conf conf;
    float *said; /* (members, most): on rank 0 of all, on others of their own */
};

/* Members of a rank, */
static int count_of(int members, int ranks, int rank)
{
    return members / ranks + (rank < members % ranks);
}

/* and of those before it. */
static int first_of(int members, int ranks, int rank)
{
    return rank * (members / ranks) + (rank < members % ranks ? rank : members % ranks);
}

int64_t chorus_bytes(const struct chorus_conf *c)
{
    int here = c->rank ? count_of(c->members, c->ranks, c->rank) : c->members;
    return carve_times(carve_times(here, c->most), (int64_t)sizeof(float));
}

int chorus_create(const struct chorus_conf *c, struct chorus **out, struct err *e)
{
    struct chorus *s = mem_zalloc(sizeof *s);
    assert(c->members >= 1 && c->members <= LIMIT_MEMBERS && c->ranks <= LIMIT_MEMBERS);
    if (s)
        *s = (struct chorus){*c, mem_alloc((size_t)chorus_bytes(c))};
    int rc = s && (s->said || !chorus_bytes(c))
        ? 0
        : err_set(e, ERR_MEMORY, "no memory for what %d members say", c->members);
    if (!rc && c->coll)
        rc = coll_connect_host(c->coll, e);
    if (rc) {
        chorus_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

void chorus_destroy(struct chorus *s)
{
    if (!s)
        return;
    mem_free(s->said);
    mem_free(s);
}

/* Rank 0's own are the first. */
float *chorus_own(const struct chorus *s, int own, int64_t n)
{
    assert(n <= s->conf.most && own < count_of(s->conf.members, s->conf.ranks, s->conf.rank));
    return s->said + own * n;
}

int chorus_gather(struct chorus *s, int64_t n, struct err *e)
{
    struct coll_message m[LIMIT_MEMBERS];
    int k = 0;
    for (int rank = 1; rank < s->conf.ranks && n; rank++) {
        int count = count_of(s->conf.members, s->conf.ranks, rank);
        size_t bytes = (size_t)(count * n) * sizeof(float);
        int64_t at = s->conf.rank ? 0 : first_of(s->conf.members, s->conf.ranks, rank) * n;
        if (count && s->conf.rank == 0)
            m[k++] = (struct coll_message){s->said + at, bytes, rank, true};
        else if (count && s->conf.rank == rank)
            m[k++] = (struct coll_message){s->said + at, bytes, 0, false};
    }
    return k ? coll_exchange(s->conf.coll, m, k, e) : 0;
}

const float *chorus_at(const struct chorus *s, int place, int64_t n)
{
    int rank = place % s->conf.ranks, own = place / s->conf.ranks;
    assert(!s->conf.rank && place < s->conf.members);
    return s->said + (first_of(s->conf.members, s->conf.ranks, rank) + own) * n;
}
