/*
 * Goal: adapters that are there never take more than the limit, one that a sequence has is never
 * dropped, and whoever waits gets its adapter, however many ask for the others. Method: a table of
 * steps; then random worlds (sizes, limits, requests, how long they last) in which what lru says is
 * done with plain numbers, and what must hold of every step is checked; and one in which requests
 * for all that is there never end coming.
 */
#include "runtime/serve/lru.h"

#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#define ITEMS  6
#define WORLDS 300

static const struct { /* items are {bytes, there, users, used, waits} */
    const char *name;
    struct lru_item item[4];
    int count;
    enum lru_change change;
    int which;
    int may_begin; /* of the items that are there, a bit each */
} table[] = {
    {"nobody waits", {{4, true, 0, 1, 0}, {9, false, 0, 0, 0}}, 2, LRU_NONE, -1, 1},
    {"what it takes is not known", {{0, false, 0, 0, 1}}, 1, LRU_LOOK, 0, 0},
    {"there is room", {{6, true, 1, 1, 0}, {4, false, 0, 0, 1}}, 2, LRU_LOAD, 1, 1},
    {"the oldest request first", {{4, false, 0, 0, 7}, {4, false, 0, 0, 3}}, 2, LRU_LOAD, 1, 0},
    {"the least recently used goes", {{5, true, 0, 9, 0}, {5, true, 0, 2, 0}, {5, false, 0, 0, 1}},
        3, LRU_DROP, 1, 1},
    {"never one in use", {{5, true, 0, 9, 0}, {5, true, 2, 2, 0}, {5, false, 0, 0, 1}}, 3, LRU_DROP,
        0, 1},
    {"all are in use: one begins no more",
        {{5, true, 1, 9, 0}, {5, true, 2, 2, 0}, {5, false, 0, 0, 1}}, 3, LRU_NONE, -1, 1},
    {"as many as it takes", {{5, true, 1, 9, 0}, {5, true, 2, 2, 0}, {8, false, 0, 0, 1}}, 3,
        LRU_NONE, -1, 0},
    {"nobody overtakes who waits for room",
        {{9, true, 1, 9, 0}, {5, false, 0, 0, 1}, {1, false, 0, 0, 2}}, 3, LRU_NONE, -1, 0},
    {"of the same time the first", {{5, true, 0, 2, 0}, {5, true, 0, 2, 0}, {5, false, 0, 0, 1}}, 3,
        LRU_DROP, 0, 2},
};

START_TEST(steps_are_these)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct lru_view v = {table[i].item, table[i].count, 10};
        const struct lru_step s = lru_next(&v);
        ck_assert_msg(s.change == table[i].change && s.which == table[i].which,
            "%s: change %d of %d", table[i].name, s.change, s.which);
        for (int k = 0; k < v.count; k++)
            ck_assert_msg(lru_may_begin(&v, k) == (table[i].may_begin >> k & 1), "%s: may %d begin",
                table[i].name, k);
    }
}
END_TEST

/* -- worlds -- */

struct world {
    struct lru_item item[ITEMS];
    struct lru_view view;
    int64_t size[ITEMS];
    int64_t ends[ITEMS][64];             /* steps at which sequences end; 0: none */
    int waiting[ITEMS], promised[ITEMS]; /* requests; those that it was loaded for */
    int64_t now, numbers, begun, dropped;
};

static void ask(struct world *w, int i)
{
    w->waiting[i]++;
    w->numbers++;
    if (!w->item[i].waits)
        w->item[i].waits = w->numbers;
}

static void begin(struct world *w, int i, int64_t lasts)
{
    int k = 0;
    while (w->ends[i][k])
        k++;
    ck_assert_int_lt(k, 64);
    w->ends[i][k] = w->now + lasts;
    w->item[i].users++;
    w->item[i].used = ++w->numbers;
    w->begun++;
}

static void end_some(struct world *w)
{
    for (int i = 0; i < ITEMS; i++)
        for (int k = 0; k < 64; k++)
            if (w->ends[i][k] && w->ends[i][k] <= w->now) {
                w->ends[i][k] = 0;
                w->item[i].users--;
            }
}

static void do_next(struct world *w)
{
    const struct lru_step s = lru_next(&w->view);
    struct lru_item *x = &w->item[s.which < 0 ? 0 : s.which];
    if (s.change == LRU_LOOK) {
        ck_assert(!x->bytes && x->waits);
        x->bytes = w->size[s.which];
    } else if (s.change == LRU_LOAD) {
        ck_assert(!x->there && x->waits);
        x->there = true;
        x->used = ++w->numbers;
        x->waits = 0;
        x->users = w->promised[s.which] = w->waiting[s.which];
        w->waiting[s.which] = 0;
    } else if (s.change == LRU_DROP) {
        ck_assert(x->there && !x->users);
        x->there = false;
        x->bytes = 0;
        w->dropped++;
    }
    ck_assert_int_le(lru_taken(&w->view), w->view.limit_bytes);
}

static void begin_waiting(struct world *w, uint64_t *random, int64_t lasts)
{
    for (int i = 0; i < ITEMS; i++) {
        for (; w->promised[i]; w->promised[i]--, w->item[i].users--)
            begin(w, i, 1 + (int64_t)(random_next(random) % (uint64_t)lasts));
        while (w->waiting[i] && lru_may_begin(&w->view, i) && w->item[i].users < 64) {
            w->waiting[i]--;
            begin(w, i, 1 + (int64_t)(random_next(random) % (uint64_t)lasts));
        }
        if (!w->waiting[i])
            w->item[i].waits = 0;
    }
}

static void open_world(struct world *w, uint64_t *random)
{
    *w = (struct world){.view = {w->item, ITEMS, 10 + (int64_t)(random_next(random) % 20)}};
    for (int i = 0; i < ITEMS; i++)
        w->size[i] = 1 + (int64_t)(random_next(random) % (uint64_t)w->view.limit_bytes);
}

START_TEST(everybody_gets_its_adapter)
{
    int64_t dropped = 0;
    sample_print();
    for (uint64_t n = 0; n < WORLDS; n++) {
        static struct world w;
        uint64_t random = random_mix(sample_setting("LLMJOB_SEED")) + n;
        int64_t asked = 0;
        open_world(&w, &random);
        for (; w.now < 3000 && (w.now < 200 || w.begun < asked); w.now++) {
            end_some(&w);
            for (int k = 0; w.now < 200 && asked < w.begun + 20 && k < 3; k++, asked++)
                ask(&w, (int)(random_next(&random) % ITEMS));
            do_next(&w);
            begin_waiting(&w, &random, 20);
        }
        ck_assert_msg(w.begun == asked, "world %llu: %lld of %lld requests began",
            (unsigned long long)n, (long long)w.begun, (long long)asked);
        dropped += w.dropped;
    }
    ck_assert_int_gt(dropped, WORLDS);
}
END_TEST

/* Two fill the memory, and are asked for in every step. */
START_TEST(who_waits_is_not_starved)
{
    static struct world w;
    uint64_t random = 1;
    open_world(&w, &random);
    w.view.limit_bytes = 10;
    for (int i = 0; i < ITEMS; i++)
        w.size[i] = 5;
    for (; w.now < 400; w.now++) {
        end_some(&w);
        if (w.now < 300 || !w.waiting[2])
            for (int i = 0; i < 2; i++)
                if (w.waiting[i] + w.item[i].users < 8)
                    ask(&w, i);
        if (w.now == 100)
            ask(&w, 2);
        do_next(&w);
        begin_waiting(&w, &random, 12);
        ck_assert(w.now < 140 || !w.waiting[2]);
    }
    ck_assert_int_gt(w.dropped, 1);
}
END_TEST

UNIT_MAIN("lru", steps_are_these, everybody_gets_its_adapter, who_waits_is_not_starved)
