/*
 * ngram: of each place that NGRAM_TOKENS precede the one before it in the same bucket is known, so
 * that a look is a walk from the newest place on, with all that is found compared.
 */
#include "runtime/serve/ngram.h"

#include "base/mem.h"
#include "base/random.h"

#define TRIES 16 /* places of a bucket that are looked at */
#define REACH 32 /* tokens before a place that are compared */

struct ngram {
    int64_t count; /* places before it are in the index */
    uint64_t buckets;
    int32_t *last;  /* (buckets) the newest place; 0: none */
    int32_t *prior; /* (context) of a place, the one before in its bucket */
};

int ngram_create(int64_t context, struct ngram **out, struct err *e)
{
    struct ngram *n = mem_zalloc(sizeof *n);
    if (!n)
        return err_set(e, ERR_MEMORY, "no memory for an index of tokens");
    n->count = NGRAM_TOKENS;
    for (n->buckets = 16; n->buckets < (uint64_t)context; n->buckets *= 2)
        ;
    n->last = mem_array(n->buckets, sizeof *n->last);
    n->prior = mem_array((size_t)context, sizeof *n->prior);
    if (!n->last || !n->prior) {
        ngram_destroy(n);
        return err_set(e, ERR_MEMORY, "no memory for an index of %lld tokens", (long long)context);
    }
    *out = n;
    return 0;
}

void ngram_destroy(struct ngram *n)
{
    if (!n)
        return;
    mem_free(n->last);
    mem_free(n->prior);
    mem_free(n);
}

static int32_t *bucket_before(const struct ngram *n, const int32_t *ids, int64_t place)
{
    uint64_t h = 0;
    for (int k = 1; k <= NGRAM_TOKENS; k++)
        h = random_mix(h ^ (uint32_t)ids[place - k]);
    return &n->last[h & (n->buckets - 1)];
}

/* Tokens before two places, a < b, that are the same. */
static int64_t alike_before(const int32_t *ids, int64_t a, int64_t b)
{
    int64_t k = 0;
    while (k < REACH && k < a && ids[a - 1 - k] == ids[b - 1 - k])
        k++;
    return k;
}

int ngram_guess(struct ngram *n, const int32_t *ids, int64_t count, int most, int32_t *guess)
{
    int64_t best = 0, longest = NGRAM_TOKENS - 1;
    for (; n->count < count; n->count++) {
        int32_t *last = bucket_before(n, ids, n->count);
        n->prior[n->count] = *last;
        *last = (int32_t)n->count;
    }
    int64_t place = count < NGRAM_TOKENS ? 0 : *bucket_before(n, ids, count);
    for (int i = 0; i < TRIES && place; i++, place = n->prior[place]) {
        int64_t alike = alike_before(ids, place, count);
        if (alike > longest) {
            longest = alike;
            best = place;
        }
    }
    for (int i = 0; best && i < most; i++) /* beyond the end: what was guessed there */
        guess[i] = best + i < count ? ids[best + i] : guess[best + i - count];
    return best ? most : 0;
}
