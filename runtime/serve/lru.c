/*
 * lru: there are a few hundred adapters at most, so they are looked through each time.
 */
#include "runtime/serve/lru.h"

int64_t lru_taken(const struct lru_view *v)
{
    int64_t sum = 0;
    for (int i = 0; i < v->count; i++)
        sum += v->item[i].there ? v->item[i].bytes : 0;
    return sum;
}

/* The one whose turn it is; -1: nobody waits for one that is not there. */
static int first_wanted(const struct lru_view *v)
{
    int first = -1;
    for (int i = 0; i < v->count; i++) {
        const struct lru_item *x = &v->item[i];
        if (x->waits && !x->there && (first < 0 || x->waits < v->item[first].waits))
            first = i;
    }
    return first;
}

/* The least recently used behind `after` (-1: of all), of those that are there; -1: there is none.
   Of the same time the one that comes first goes first. */
static int next_to_go(const struct lru_view *v, int after)
{
    int next = -1;
    for (int i = 0; i < v->count; i++) {
        const struct lru_item *x = &v->item[i];
        bool behind = after < 0 || x->used > v->item[after].used ||
            (x->used == v->item[after].used && i > after);
        if (x->there && behind && (next < 0 || x->used < v->item[next].used))
            next = i;
    }
    return next;
}

struct lru_step lru_next(const struct lru_view *v)
{
    int first = first_wanted(v);
    if (first < 0)
        return (struct lru_step){LRU_NONE, -1};
    if (!v->item[first].bytes)
        return (struct lru_step){LRU_LOOK, first};
    if (lru_taken(v) + v->item[first].bytes <= v->limit_bytes)
        return (struct lru_step){LRU_LOAD, first};
    for (int i = next_to_go(v, -1); i >= 0; i = next_to_go(v, i))
        if (!v->item[i].users)
            return (struct lru_step){LRU_DROP, i};
    return (struct lru_step){LRU_NONE, -1};
}

bool lru_may_begin(const struct lru_view *v, int which)
{
    int first = first_wanted(v);
    if (!v->item[which].there)
        return false;
    int64_t left = v->limit_bytes - lru_taken(v);
    if (first < 0 || !v->item[first].bytes)
        return true;
    for (int i = next_to_go(v, -1); i >= 0 && left < v->item[first].bytes; i = next_to_go(v, i)) {
        if (i == which)
            return false;
        left += v->item[i].bytes;
    }
    return true;
}
