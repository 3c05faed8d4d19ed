/*
 * fair: see fair.h. Rounds are counted, not made one by one.
 */
#include "base/fair.h"

#include <assert.h>

void fair_init(struct fair *f, int64_t quantum, int64_t debt)
{
    assert(quantum > 0 && debt > 0);
    *f = (struct fair){.quantum = quantum, .debt = debt};
    for (int i = 0; i < FAIR_CLASSES; i++)
        f->of[i] = (struct fair_class){.weight = 1, .credit = quantum};
}

void fair_weigh(struct fair *f, int which, int weight)
{
    assert(weight >= 1 && weight <= FAIR_WEIGHT);
    f->of[which].weight = weight;
}

bool fair_has(const struct fair *f, int which)
{
    return f->of[which].credit > 0;
}

void fair_spend(struct fair *f, int which, int64_t cost)
{
    struct fair_class *c = &f->of[which];
    int64_t least = -f->debt * c->weight;
    c->credit -= cost;
    c->credit = c->credit < least ? least : c->credit;
}

/* Rounds after which it has credit. */
static int64_t rounds_to(const struct fair *f, const struct fair_class *c)
{
    return c->credit > 0 ? 0 : -c->credit / (f->quantum * c->weight) + 1;
}

void fair_round(struct fair *f, const bool *wants)
{
    int64_t rounds = -1;
    for (int i = 0; i < FAIR_CLASSES; i++)
        if (wants[i] && (rounds < 0 || rounds_to(f, &f->of[i]) < rounds))
            rounds = rounds_to(f, &f->of[i]);
    for (int i = 0; i < FAIR_CLASSES && rounds > 0; i++) {
        struct fair_class *c = &f->of[i];
        int64_t full = f->quantum * c->weight, more = c->credit + rounds * full;
        if (c->credit < full)
            c->credit = more < full ? more : full;
    }
}
