/*
 * fair: whose turn it is among classes that share something, each by its weight: deficit round
 * robin (Shreedhar and Varghese, SIGCOMM 1995), where what a turn costs may be known only when it
 * was taken, so that a class goes into debt (surplus round robin). Who has credit goes before who
 * has none; when none of those that want a turn has any, a round begins, and each class gets a
 * quantum for its weight, as far as it has spent the last one. So of classes that always want, each
 * gets its share but for a quantum and the cost of a turn, and one that comes waits for none of
 * what others want beyond theirs. What nobody with credit wants costs nobody a wait.
 *
 * Pure. Costs are in any unit, below 2^40.
 */
#ifndef BASE_FAIR_H
#define BASE_FAIR_H

#include <stdbool.h>
#include <stdint.h>

#define FAIR_CLASSES 64
#define FAIR_WEIGHT  1000 /* of a class, at most */

struct fair {
    int64_t quantum, debt; /* for a weight of 1 */
    struct fair_class {
        int weight;
        int64_t credit;
    } of[FAIR_CLASSES];
};

/* All classes weigh 1 and have a quantum. Of a debt beyond `debt` nothing is kept: for what was
   taken because nobody else wanted it. */
void fair_init(struct fair *f, int64_t quantum, int64_t debt);
/* 1 to FAIR_WEIGHT. */
void fair_weigh(struct fair *f, int which, int weight);
bool fair_has(const struct fair *f, int which);
/* Below 0: it is given back. */
void fair_spend(struct fair *f, int which, int64_t cost);
/* wants (FAIR_CLASSES). Begins as many rounds as it takes until one of those has credit. */
void fair_round(struct fair *f, const bool *wants);

#endif
