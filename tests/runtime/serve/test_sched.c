/*
 * Goal: nobody who decodes waits for a prompt longer than the bound, keys share by their weights,
 * the oldest that runs always goes on, and every sequence ends, however few pages there are and
 * whatever the order becomes. Method: a table of steps; then random worlds (arrivals, keys,
 * priorities, prompts, answers, pages, limits) in which what the scheduler says is done with plain
 * numbers, and what must hold of every step is checked; and worlds in which keys want more than
 * there is, whose tokens are counted.
 */
#include "runtime/serve/sched.h"

#include "base/fair.h"
#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#define MOST 8
#define KEYS 3

static struct sched_view view(const struct sched_seq *seq, int count, int64_t pages_left)
{
    return (struct sched_view){.seq = seq,
        .count = count,
        .pages_left = pages_left,
        .page_tokens = 4,
        .most_running = 3,
        .rows = 16,
        .chunk = 6,
        .may_begin = true};
}

static const struct { /* all of one key */
    const char *name;
    struct {
        int64_t tokens, done, pages;
        bool running, drew, credit;
        int priority;
    } seq[4];
    int count;
    int64_t pages_left;
    enum sched_change change;
    int which; /* where there is a change */
    int64_t rows[4];
} table[] = {
    {"nobody", {{0}}, 0, 9, SCHED_NONE, -1, {0}},
    {"the oldest begins", {{5, 0, 0, false, false, false, 0}, {1, 0, 0, false, false, false, 0}}, 2,
        9, SCHED_BEGIN, 0, {0}},
    {"a place too few",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {5, 4, 2, true, true, false, 0}, {1, 0, 0, false, false, false, 0}},
        4, 9, SCHED_NONE, -1, {1, 1, 1, 0}},
    {"pages for all its tokens, and one for each that runs",
        {{5, 4, 2, true, true, false, 0}, {8, 0, 0, false, false, false, 0}}, 2, 3, SCHED_BEGIN, 1,
        {0}},
    {"a page too few", {{5, 4, 2, true, true, false, 0}, {8, 0, 0, false, false, false, 0}}, 2, 2,
        SCHED_NONE, -1, {1, 0}},
    {"nobody overtakes",
        {{5, 4, 2, true, true, false, 0}, {8, 0, 0, false, false, false, 0},
            {1, 0, 0, false, false, false, 0}},
        3, 2, SCHED_NONE, -1, {1, 0, 0}},
    {"decoding first, a bounded chunk of the oldest prompt beside it",
        {{9, 0, 3, true, false, false, 0}, {5, 4, 2, true, true, false, 0},
            {9, 0, 3, true, false, false, 0}},
        3, 0, SCHED_NONE, -1, {6, 1, 0}},
    {"what is left goes to the next",
        {{9, 5, 3, true, false, false, 0}, {9, 0, 3, true, false, false, 0},
            {6, 5, 2, true, true, false, 0}},
        3, 0, SCHED_NONE, -1, {4, 2, 1}},
    {"the youngest gives up its pages",
        {{5, 4, 1, true, true, false, 0}, {9, 0, 3, true, false, false, 0}}, 2, 0, SCHED_STOP, 1,
        {0}},
    {"also when it is the one in need",
        {{9, 3, 3, true, false, false, 0}, {5, 4, 1, true, true, false, 0}}, 2, 0, SCHED_STOP, 1,
        {0}},
    {"credit begins first", {{5, 0, 0, false, false, false, 0}, {5, 0, 0, false, false, true, 9}},
        2, 9, SCHED_BEGIN, 1, {0}},
    {"of equals the lower priority",
        {{5, 0, 0, false, false, true, 0}, {5, 0, 0, false, false, true, -1}}, 2, 9, SCHED_BEGIN, 1,
        {0}},
    {"nobody overtakes it",
        {{5, 4, 2, true, true, false, 0}, {1, 0, 0, false, false, false, 0},
            {8, 0, 0, false, false, true, 0}},
        3, 2, SCHED_NONE, -1, {1, 0, 0}},
    {"its prompt goes first", {{9, 0, 3, true, false, false, 0}, {9, 0, 3, true, false, true, 0}},
        2, 0, SCHED_NONE, -1, {0, 6}},
    {"a place for who has credit: the last of those without",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {5, 4, 2, true, true, false, 0}, {1, 0, 0, false, false, true, 0}},
        4, 9, SCHED_GIVE_WAY, 2, {0}},
    {"a place for the lower priority",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 2},
            {5, 4, 2, true, true, false, 1}, {1, 0, 0, false, false, false, 0}},
        4, 9, SCHED_GIVE_WAY, 1, {0}},
    {"who has not drawn yet stays",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {5, 3, 2, true, false, false, 0}, {1, 0, 0, false, false, true, 0}},
        4, 9, SCHED_GIVE_WAY, 1, {0}},
    {"also at its last row",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {5, 4, 2, true, false, false, 0}, {1, 0, 0, false, false, true, 0}},
        4, 9, SCHED_GIVE_WAY, 1, {0}},
    {"and so does the oldest",
        {{5, 4, 2, true, true, false, 0}, {5, 0, 2, true, false, false, 0},
            {5, 0, 2, true, false, false, 0}, {1, 0, 0, false, false, true, 0}},
        4, 9, SCHED_NONE, -1, {1, 5, 1}},
    {"pages for who has credit",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {8, 0, 0, false, false, true, 0}},
        3, 1, SCHED_GIVE_WAY, 1, {0}},
    {"not if they would not do",
        {{5, 4, 2, true, true, false, 0}, {5, 4, 2, true, true, false, 0},
            {8, 0, 0, false, false, true, 0}},
        3, 0, SCHED_NONE, -1, {1, 1, 0}},
    {"the last in order gives its pages up",
        {{5, 4, 1, true, true, true, 0}, {9, 3, 3, true, false, false, 0},
            {9, 3, 3, true, false, true, 0}},
        3, 0, SCHED_STOP, 1, {0}},
    {"but for the oldest", {{5, 4, 1, true, true, false, 9}, {9, 3, 3, true, false, true, 0}}, 2, 0,
        SCHED_STOP, 1, {0}},
};

START_TEST(steps)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct sched_seq seq[4];
        int64_t rows[4] = {7, 7, 7, 7}, all = 0;
        for (int k = 0; k < table[i].count; k++)
            seq[k] = (struct sched_seq){.tokens = table[i].seq[k].tokens,
                .done = table[i].seq[k].done,
                .pages = table[i].seq[k].pages,
                .running = table[i].seq[k].running,
                .drew = table[i].seq[k].drew,
                .credit = table[i].seq[k].credit,
                .priority = table[i].seq[k].priority,
                .weight = 1};
        sched_count(seq, table[i].count);
        const struct sched_view v = view(seq, table[i].count, table[i].pages_left);
        const struct sched_step s = sched_next(&v, rows);
        ck_assert_msg(s.change == table[i].change, "%s: %d", table[i].name, (int)s.change);
        if (s.change != SCHED_NONE)
            ck_assert_msg(s.which == table[i].which, "%s: %d", table[i].name, s.which);
        for (int k = 0; k < table[i].count; all += table[i].rows[k++])
            ck_assert_msg(rows[k] == table[i].rows[k], "%s: %lld rows of %d", table[i].name,
                (long long)rows[k], k);
        ck_assert_msg(s.rows == all, "%s: %lld rows", table[i].name, (long long)s.rows);
    }
}
END_TEST

START_TEST(nobody_begins_behind_a_stop)
{
    static const struct sched_seq seq[] = {{.tokens = 1}};
    struct sched_view v = view(seq, 1, 9);
    int64_t rows[1];
    v.may_begin = false;
    const struct sched_step s = sched_next(&v, rows);
    ck_assert(s.change == SCHED_NONE && !s.rows);
}
END_TEST

static struct sched_seq runs(int key, int weight)
{
    return (struct sched_seq){.tokens = 5,
        .done = 4,
        .pages = 2,
        .running = true,
        .drew = true,
        .key = key,
        .weight = weight};
}

/* Three that run, and one of another key that waits. */
START_TEST(places_are_shared)
{
    for (int weight = 1; weight <= 3; weight++) {
        struct sched_seq seq[] = {runs(0, weight), runs(0, weight), runs(0, weight),
            {.tokens = 1, .key = 1, .weight = 1}};
        int64_t rows[4];
        sched_count(seq, 4);
        struct sched_view v = view(seq, 4, 9);
        struct sched_step s = sched_next(&v, rows);
        ck_assert_int_eq(s.change, weight < 3 ? SCHED_GIVE_WAY : SCHED_NONE);
        ck_assert(s.change == SCHED_NONE || s.which == 2);
        seq[3].key = 0; /* of their own it waits */
        sched_count(seq, 4);
        ck_assert_int_eq(sched_next(&v, rows).change, SCHED_NONE);
        seq[1].running = false; /* though it would go before who runs already */
        seq[1].tokens = 40;
        v.pages_left = 0;
        ck_assert_int_eq(sched_next(&v, rows).change, SCHED_NONE);
    }
}
END_TEST

START_TEST(those_of_a_key_are_counted)
{
    struct sched_seq seq[] = {{.key = 1, .priority = 2}, {.key = 2}, {.key = 1, .priority = 1},
        {.key = 1, .priority = 2}, {.key = 2}};
    static const int before[] = {1, 0, 0, 2, 1};
    sched_count(seq, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(seq[i].before, before[i]);
}
END_TEST

START_TEST(chunks_fit_their_time)
{
    ck_assert_int_eq(sched_chunk(100, 40, 1, 8), 56);
    ck_assert_int_eq(sched_chunk(100, 40, 0.1, 8), 6); /* less than a whole one */
    ck_assert_int_eq(sched_chunk(100, 95, 1, 8), 88);  /* as long again */
    ck_assert_int_eq(sched_chunk(100, 500, 0.1, 8), 48);
    ck_assert_int_eq(sched_chunk(100, 500, 0, 8), 1); /* a prompt goes on, however slow */
}
END_TEST

/* -- random worlds -- */

struct world {
    struct sched_seq seq[MOST];
    int64_t id[MOST], left[MOST]; /* tokens that it still draws */
    int key[MOST];
    struct fair turns;
    int64_t took[KEYS];
    int count, begun, ended, gave_way;
    int64_t pages, page_tokens;
    struct sched_view v;
    uint64_t random;
};

static int64_t up_to(struct world *w, int64_t n)
{
    return 1 + (int64_t)(random_next(&w->random) % (uint64_t)n);
}

static int64_t pages_of(const struct world *w, int64_t tokens)
{
    return (tokens + w->page_tokens - 1) / w->page_tokens;
}

static int64_t pages_left(const struct world *w)
{
    int64_t left = w->pages;
    for (int i = 0; i < w->count; i++)
        left -= w->seq[i].pages;
    return left;
}

static void arrive(struct world *w)
{
    int64_t most = w->pages * w->page_tokens, tokens = up_to(w, most - 1);
    if (w->count == MOST)
        return;
    w->seq[w->count] = (struct sched_seq){.tokens = tokens, .priority = (int)up_to(w, 3)};
    w->key[w->count] = (int)up_to(w, KEYS) - 1;
    w->id[w->count] = w->begun++;
    w->left[w->count++] = up_to(w, most - tokens);
}

static void leave(struct world *w, int i)
{
    for (w->count--; i < w->count; i++) {
        w->seq[i] = w->seq[i + 1];
        w->id[i] = w->id[i + 1];
        w->key[i] = w->key[i + 1];
        w->left[i] = w->left[i + 1];
    }
    w->ended++;
}

static int oldest_running(const struct world *w)
{
    int i = 0;
    while (i < w->count && !w->seq[i].running)
        i++;
    return i;
}

static void begin_round(struct world *w)
{
    bool wants[FAIR_CLASSES] = {false};
    for (int i = 0; i < w->count; i++)
        wants[w->key[i]] |= !w->seq[i].running || w->seq[i].tokens - w->seq[i].done > 1;
    fair_round(&w->turns, wants);
    for (int i = 0; i < w->count; i++) {
        w->seq[i].credit = fair_has(&w->turns, w->key[i]);
        w->seq[i].key = w->key[i];
        w->seq[i].weight = w->turns.of[w->key[i]].weight;
    }
    sched_count(w->seq, w->count);
}

/* Changes who runs until somebody does; returns the rows of the step. */
static int64_t decide(struct world *w, int64_t *rows)
{
    w->v.may_begin = true;
    begin_round(w);
    for (int changes = 0;; changes++) {
        ck_assert_int_le(changes, 2 * MOST);
        w->v.seq = w->seq;
        w->v.count = w->count;
        w->v.pages_left = pages_left(w);
        const struct sched_step s = sched_next(&w->v, rows);
        if (s.change == SCHED_NONE)
            return s.rows;
        struct sched_seq *q = &w->seq[s.which];
        ck_assert(q->running == (s.change != SCHED_BEGIN));
        ck_assert(s.change == SCHED_BEGIN || s.which > oldest_running(w));
        ck_assert(s.change != SCHED_GIVE_WAY || q->drew);
        w->gave_way += s.change == SCHED_GIVE_WAY;
        q->drew = false;
        q->running = s.change == SCHED_BEGIN;
        q->pages = q->running ? pages_of(w, q->tokens) : 0;
        q->done = 0;
        w->v.may_begin &= s.change != SCHED_STOP;
        ck_assert_int_ge(pages_left(w), 0);
    }
}

static void run_step(struct world *w)
{
    int64_t rows[MOST], all = decide(w, rows), prompts = 0;
    int running = 0;
    ck_assert(all > 0 || !w->count); /* somebody goes on */
    ck_assert_int_le(all, w->v.rows);
    for (int i = 0; i < w->count; i++) {
        const struct sched_seq *q = &w->seq[i];
        running += q->running;
        ck_assert(q->running || !rows[i]);
        ck_assert_int_le(rows[i], q->tokens - q->done);
        if (q->running && q->tokens - q->done == 1)
            ck_assert_int_eq(rows[i], 1); /* it never waits */
        else
            prompts += rows[i];
    }
    ck_assert_int_le(prompts, w->v.chunk);
    ck_assert_int_le(running, w->v.most_running);
    for (int i = w->count - 1; i >= 0; i--) {
        struct sched_seq *q = &w->seq[i];
        q->done += rows[i];
        fair_spend(&w->turns, w->key[i], rows[i]);
        w->took[w->key[i]] += rows[i];
        q->pages = q->running ? pages_of(w, q->done > q->tokens ? q->done : q->tokens) : 0;
        if (!rows[i] || q->done < q->tokens)
            continue;
        q->tokens++;
        q->drew = true;
        if (!--w->left[i])
            leave(w, i);
    }
    ck_assert_int_ge(pages_left(w), 0);
}

START_TEST(random_worlds)
{
    uint64_t seed = sample_setting("LLMJOB_SEED");
    int gave_way = 0;
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t n = 0; n < 300; n++) {
        struct world w = {.random = random_mix(seed) + n};
        w.page_tokens = up_to(&w, 5);
        w.pages = 1 + up_to(&w, 12);
        w.v = (struct sched_view){.page_tokens = w.page_tokens};
        w.v.most_running = (int)up_to(&w, MOST);
        w.v.rows = w.v.most_running + up_to(&w, 20);
        w.v.chunk = up_to(&w, 16);
        fair_init(&w.turns, up_to(&w, 20), 20);
        for (int i = 0; i < 200; i++) {
            if (up_to(&w, 4) == 1)
                arrive(&w);
            if (w.count && up_to(&w, 25) == 1) /* cancelled */
                leave(&w, (int)up_to(&w, w.count) - 1);
            run_step(&w);
        }
        for (int i = 0; w.count; i++) {
            ck_assert_msg(i < 20000, "world %llu does not end", (unsigned long long)n);
            run_step(&w);
        }
        ck_assert_int_eq(w.ended, w.begun);
        gave_way += w.gave_way;
    }
    ck_assert_int_gt(gave_way, 200);
}
END_TEST

/* -- shares -- */

static void add(struct world *w, int key, int64_t tokens, int64_t answer)
{
    ck_assert_int_lt(w->count, MOST);
    w->seq[w->count] = (struct sched_seq){.tokens = tokens};
    w->key[w->count] = key;
    w->left[w->count++] = answer;
}

/* Pages for all, three places, 16 rows a step of which 6 are for prompts. */
static struct world wide(int64_t quantum)
{
    struct world w = {.pages = 10000, .page_tokens = 4};
    w.v = view(w.seq, 0, 0);
    fair_init(&w.turns, quantum, quantum);
    return w;
}

/* All places and all prompts are one key's, whose answers do not end; another's request has its
   first token when its prompt and a round are computed, and of the same key it waits. */
START_TEST(a_crowd_holds_up_nobody_elses)
{
    for (int key = 0; key < 2; key++) {
        struct world w = wide(8);
        for (int i = 0; i < MOST - 1; i++)
            add(&w, 0, 12, 1000);
        for (int i = 0; i < 20; i++)
            run_step(&w);
        add(&w, key, 24, 1);
        int took = 0;
        while (took < 200 && w.count == MOST) {
            run_step(&w);
            took++;
        }
        ck_assert_msg(key ? took <= 3 * 24 / 6 : took == 200, "key %d: %d steps", key, took);
    }
}
END_TEST

/* Requests of 28 tokens and answers of 8. Of one key there are always as many as run and two that
   wait, of another one after another; a quantum is several of them, so mostly both have credit. The
   other's waits for no place then, and for no prompt but the oldest's: until its first token little
   more is computed than both prompts and what decodes beside them. */
START_TEST(nor_while_it_has_credit)
{
    struct world w = wide(256);
    int64_t waited = 0, most = 0, pause = 0;
    int came = 0;
    bool waits = false;
    w.random = 1;
    w.v.most_running = 4;
    w.v.chunk = 32;
    w.v.rows = 64;
    for (int step = 0; step < 4000; step++) {
        int has[2] = {0};
        for (int i = 0; i < w.count; i++)
            has[w.key[i]]++;
        for (; has[0] < 6; has[0]++)
            add(&w, 0, 28, 8);
        if (!has[1] && pause-- <= 0) {
            add(&w, 1, 28, 8);
            waits = true;
            waited = 0;
            came++;
            pause = up_to(&w, 20);
        }
        int64_t before = w.took[0] + w.took[1];
        run_step(&w);
        waited += w.took[0] + w.took[1] - before;
        most = waits && waited > most ? waited : most;
        for (int i = 0; i < w.count; i++)
            waits &= w.key[i] == 0 || !w.seq[i].drew;
    }
    ck_assert_int_gt(came, 100);
    ck_assert_msg(most <= 2 * (32 + 4), "%lld rows", (long long)most);
}
END_TEST

/* Each key always wants: prompts alone, or long answers, beyond the places that there are. */
START_TEST(keys_take_their_shares)
{
    for (int i = 0; i < 2; i++) {
        struct world w = wide(16);
        fair_weigh(&w.turns, 1, 3);
        for (int step = 0; step < 4000; step++) {
            int has[2] = {0};
            for (int k = 0; k < w.count; k++)
                has[w.key[k]]++;
            for (int key = 0; key < 2; key++)
                while (has[key]++ < 4)
                    add(&w, key, i ? 2 : 40, i ? 300 : 1);
            run_step(&w);
        }
        double share = (double)w.took[1] / (double)(w.took[0] + w.took[1]);
        ck_assert_msg(share > 0.72 && share < 0.78, "%d: %f", i, share);
    }
}
END_TEST

UNIT_MAIN("sched", steps, nobody_begins_behind_a_stop, places_are_shared,
    those_of_a_key_are_counted, chunks_fit_their_time, random_worlds, a_crowd_holds_up_nobody_elses,
    nor_while_it_has_credit, keys_take_their_shares)
