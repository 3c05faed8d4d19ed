/*
 * Goal: what ranks find of their items is on all of them, to the bit, and one rank's wish to stop
 * is everybody's; ranks that look together leave none of them alone. Method: worlds of one to four
 * ranks over fewer and more items than they take in a round; numbers whose sum would not be
 * themselves; a rank whose item asks for a stop, and one that is asked to.
 */
#include "runtime/evaluate/rounds.h"

#include "tests/runtime/coll/ranks.h"
#include "tests/unit.h"

#define MOST 40

static int64_t items;
static int together = 1; /* ranks that look at an item */
static int64_t looked_at;

static double number(int64_t item, int k)
{
    return 1 / (double)(1 + item * 7 + k) - 0.1;
}

static int find(void *user, int64_t item, struct rounds_item *out, struct err *e)
{
    (void)user, (void)e;
    looked_at++;
    *out = (struct rounds_item){number(item, 0), number(item, 1), number(item, 2),
        {number(item, 3), -0.0, number(item, 5)}};
    return 0;
}

static int find_or_stop(void *user, int64_t item, struct rounds_item *out, struct err *e)
{
    return item == 13 ? err_set(e, ERR_DRAINED, "stopped") : find(user, item, out, e);
}

static int run(struct coll *c, int rank, const struct ranks *w, rounds_item_fn *item_fn,
    struct rounds_item *found, struct err *e)
{
    static struct door door;
    door_init(&door, -1, NULL);
    const struct rounds r = {.coll = c,
        .door = &door,
        .part = rank / together,
        .parts = w->size / together,
        .together = together > 1,
        .counts = rank % together + 1 == together,
        .tells = rank == 0,
        .items = items};
    memset(found, 0, MOST * sizeof *found);
    return rounds_run(&r, item_fn, NULL, found, e);
}

static int whole_body(struct coll *c, int rank, const struct ranks *w)
{
    static struct rounds_item found[MOST];
    struct err e = {0};
    if (run(c, rank, w, find, found, &e))
        return 1;
    if (together == w->size && looked_at != items)
        return 4;
    for (int64_t i = 0; i < items; i++) {
        struct rounds_item want;
        find(NULL, i, &want, NULL);
        if (memcmp(&want, &found[i], sizeof want) != 0)
            return 2;
    }
    return ranks_same(c, found, sizeof found, w) ? 0 : 3;
}

static int stop_body(struct coll *c, int rank, const struct ranks *w)
{
    static struct rounds_item found[MOST];
    struct err e = {0};
    return run(c, rank, w, find_or_stop, found, &e) == -ERR_DRAINED ? 0 : 1;
}

START_TEST(all_know_what_each_found)
{
    static const int64_t counts[] = {1, 2, 11, MOST};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int n = 1; n <= 3; n++) {
            items = counts[i];
            ranks_run((struct ranks){.size = n, .replica = {0, 0, 1}}, whole_body);
        }
}
END_TEST

START_TEST(a_stop_is_every_ranks)
{
    for (int n = 1; n <= 3; n++) {
        items = MOST;
        ranks_run((struct ranks){.size = n}, stop_body);
    }
}
END_TEST

/* All look, and one of them counts. */
START_TEST(ranks_look_together)
{
    for (int n = 2; n <= 4; n += 2)
        for (int parts = 1; parts <= n / 2; parts++) {
            items = 11;
            together = n / parts;
            ranks_run((struct ranks){.size = n}, whole_body);
        }
}
END_TEST

/* A rank that is asked to stop goes on to the round's end, where the others learn of it. */
static int asked_body(struct coll *c, int rank, const struct ranks *w)
{
    static struct rounds_item found[MOST];
    static struct door door;
    const struct rounds r = {
        .coll = c, .door = &door, .parts = 1, .together = true, .counts = rank == 0, .items = MOST};
    struct err e = {0};
    (void)w;
    door_init(&door, -1, NULL);
    atomic_store(&door.stop, rank == 1);
    if (rounds_run(&r, find, NULL, found, &e) != -ERR_DRAINED)
        return 1;
    return looked_at == 4 ? 0 : 2;
}

START_TEST(a_stop_ends_a_round)
{
    ranks_run((struct ranks){.size = 3}, asked_body);
}
END_TEST

UNIT_MAIN("rounds", all_know_what_each_found, a_stop_is_every_ranks, ranks_look_together,
    a_stop_ends_a_round)
