/*
 * Goal: rank 0 has what every member says, by its place, whichever rank has the member and however
 * many numbers a pass has; the others send their own once, to rank 0 alone. Method: worlds of real
 * processes (ranks.h), every number of members and of ranks in pods of their own, whose sent bytes
 * are counted.
 */
#include "runtime/serve/chorus.h"

#include "api/limits.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/unit.h"

#define MOST 5000

static struct err e;

static float value_of(int place, int64_t i)
{
    return (float)(place * 100000 + i);
}

static bool says(const float *x, int place, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != value_of(place, i))
            return false;
    return true;
}

/* Members of this rank. */
static int count_of(const struct chorus_conf *c)
{
    int n = 0;
    for (int place = c->rank; place < c->members; place += c->ranks)
        n++;
    return n;
}

/* A pass of n numbers. */
static int pass(struct chorus *s, const struct chorus_conf *c, int64_t n)
{
    int64_t before = c->coll ? coll_sent_bytes(c->coll) : 0;
    for (int own = 0; own < count_of(c); own++) {
        float *x = chorus_own(s, own, n);
        for (int64_t i = 0; i < n; i++)
            x[i] = value_of(c->rank + own * c->ranks, i);
    }
    if (chorus_gather(s, n, &e))
        return 1;
    int64_t sent = c->coll ? coll_sent_bytes(c->coll) - before : 0;
    if (!c->rank && sent)
        return 2;
    if (c->rank && (sent < count_of(c) * n * 4 || sent > count_of(c) * n * 4 + 16))
        return 3; /* and a frame */
    for (int place = 0; place < c->members && !c->rank; place++)
        if (!says(chorus_at(s, place, n), place, n))
            return 4;
    return 0;
}

static int body(struct coll *c, int rank, const struct ranks *w)
{
    for (int members = 1; members <= LIMIT_MEMBERS; members++) {
        const struct chorus_conf conf = {w->size > 1 ? c : NULL, rank, w->size, members, MOST};
        int here = rank ? count_of(&conf) : members, step = 0;
        struct chorus *s;
        if (chorus_bytes(&conf) != (int64_t)here * MOST * 4 || chorus_create(&conf, &s, &e))
            return 10;
        static const int64_t counts[] = {1, MOST, 0, 77};
        for (int k = 0; k < 4 && !step; k++)
            step = pass(s, &conf, counts[k]);
        chorus_destroy(s);
        if (step) {
            fprintf(stderr, "rank %d of %d, %d members: step %d\n", rank, w->size, members, step);
            return step;
        }
    }
    return 0;
}

START_TEST(rank_0_has_what_all_say)
{
    for (int size = 1; size <= 4; size++)
        ranks_run((struct ranks){.size = size, .replica = {0, 1, 2, 3}}, body);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "chorus", .timeout_s = 60},
        (const TTest *const[]){rank_0_has_what_all_say, NULL});
}
