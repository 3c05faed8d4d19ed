/*
 * guess: see guess.h.
 */
#include "runtime/serve/guess.h"

#define MISSES 6 /* after which a rest is no longer than the one before: 2^6 - 1 steps */

void guess_init(struct guess *g, int most)
{
    *g = (struct guess){.most = most, .reach = most};
}

int guess_length(struct guess *g)
{
    if (!g->rest)
        return g->reach;
    g->rest--;
    return 0;
}

void guess_note(struct guess *g, int guessed, int right)
{
    int reach = right == guessed ? 2 * g->reach : right + 1;
    g->reach = reach < g->most ? reach : g->most;
    g->misses = right ? 0 : g->misses < MISSES ? g->misses + 1 : MISSES;
    g->rest = right ? 0 : (1 << g->misses) - 1;
}

int guess_room(int rows, int few, int most)
{
    if (rows > few)
        return most;
    return few - rows < most ? few - rows : most;
}
