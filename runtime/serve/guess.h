/*
 * guess: how many tokens are guessed of a sequence before the model is asked (speculative decoding,
 * arXiv:2211.17192): guesses that come true cost little more than one token, others are rows for
 * nothing. So a sequence whose guesses fail has fewer, and then none for a while, ever longer;
 * one whose guesses come true has more. No clock: what is guessed follows from the tokens and from
 * who runs beside them. Pure.
 */
#ifndef RUNTIME_SERVE_GUESS_H
#define RUNTIME_SERVE_GUESS_H

#include <stdint.h>

/* How many of ids (n), guessed to follow what was drawn of a user's sequence, may come true. */
typedef int guess_follow_fn(void *user, const int32_t *ids, int n);

struct guess {
    int most, reach; /* tokens at once: that are asked for, and now */
    int misses;      /* one after another, of which none came true */
    int rest;        /* steps without guesses that are still to come */
};

void guess_init(struct guess *g, int most /* at least 1 */);
/* In each step in which the sequence could have some: how many, 0: none. */
int guess_length(struct guess *g);
/* Of `guessed` tokens, at least 1, the first `right` came true. */
void guess_note(struct guess *g, int guessed, int right);

/* Rows that are left to the guesses of a step of `rows` without them: `most` in all, but where up
   to `few` rows cost hardly more than one, and one more costs much, only those; few 0: it does not.
 */
int guess_room(int rows, int few, int most);

#endif
