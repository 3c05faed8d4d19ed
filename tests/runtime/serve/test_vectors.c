/*
 * Goal: a search finds what sorting all vectors finds, through any additions, replacements and
 * removals, and within its memory. Method: random worlds beside a plain list, of vectors whose
 * products are exact so that many are equal, and of any with a tolerance; seeds are printed on
 * failure.
 * needs: faults
 */
#include "runtime/serve/vectors.h"

#include "base/random.h"
#include "tests/unit.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#define DIM    37 /* no whole lanes */
#define IDS    64
#define ROOM   (4 << 20)
#define seeded (unsigned long long)seed

struct world {
    struct vectors *v;
    uint64_t random;
    bool there[IDS];
    float x[IDS][DIM];
};

/* One whose length is 1 to the bit: of four halves, or of one 1. */
static void draw_exact(struct world *w, float x[DIM])
{
    int n = random_next(&w->random) % 2 ? 4 : 1;
    memset(x, 0, DIM * sizeof *x);
    for (int i = 0; i < n;) {
        float *at = &x[random_next(&w->random) % DIM];
        if (*at != 0)
            continue;
        *at = (random_next(&w->random) % 2 ? 1.0f : -1.0f) / (n == 4 ? 2 : 1);
        i++;
    }
}

static int64_t id_at(int i) /* ids are not dense, nor all positive */
{
    return (int64_t)(i - 3) * 1000003;
}

static void change(struct world *w, void (*draw)(struct world *w, float x[DIM]))
{
    int i = (int)(random_next(&w->random) % IDS);
    if (random_next(&w->random) % 3) {
        draw(w, w->x[i]);
        w->there[i] = true;
        ck_assert_int_eq(vectors_put(w->v, id_at(i), w->x[i], NULL), 0);
    } else {
        ck_assert_int_eq(vectors_remove(w->v, id_at(i)), w->there[i]);
        w->there[i] = false;
    }
}

static int hit_order(const void *a, const void *b)
{
    const struct vectors_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static float leave_odd_out(void *user, int64_t id, float dot)
{
    (*(int *)user)++;
    return id % 2 ? -INFINITY : -dot;
}

/* All that are there, in order; odd_out: as leave_odd_out has it. */
static int64_t sort_all(const struct world *w, const float *q, bool odd_out, struct vectors_hit *to)
{
    int64_t n = 0;
    for (int i = 0; i < IDS; i++) {
        double dot = 0, squares = 0;
        for (int j = 0; j < DIM; j++) {
            dot += (double)w->x[i][j] * q[j];
            squares += (double)w->x[i][j] * w->x[i][j];
        }
        if (!w->there[i] || (odd_out && id_at(i) % 2))
            continue;
        dot /= sqrt(squares);
        to[n++] = (struct vectors_hit){id_at(i), (float)(odd_out ? -dot : dot)};
    }
    qsort(to, (size_t)n, sizeof *to, hit_order);
    return n;
}

START_TEST(as_sorting_has_it)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w = {.random = seed};
        ck_assert_int_eq(vectors_create(DIM, ROOM, &w.v, NULL), 0);
        for (int step = 0; step < 200; step++) {
            float q[DIM];
            struct vectors_hit got[IDS], want[IDS];
            int asked = 0, there = 0;
            change(&w, draw_exact);
            for (int j = 0; j < DIM; j++)
                q[j] = (float)(random_next(&w.random) % 5) - 2;
            int64_t k = 1 + (int64_t)(random_next(&w.random) % IDS);
            bool odd_out = random_next(&w.random) % 2;
            int64_t n = vectors_search(w.v, q, k, odd_out ? leave_odd_out : NULL, &asked, got);
            int64_t all = sort_all(&w, q, odd_out, want);
            for (int i = 0; i < IDS; i++)
                there += w.there[i];
            ck_assert_msg(n == (all < k ? all : k), "seed %llu: %lld hits", seeded, (long long)n);
            for (int64_t i = 0; i < n; i++)
                ck_assert_msg(got[i].id == want[i].id && got[i].score == want[i].score,
                    "seed %llu, step %d, hit %lld", seeded, step, (long long)i);
            ck_assert_msg(vectors_count(w.v) == there, "seed %llu", seeded);
            ck_assert_msg(asked == (odd_out ? there : 0), "seed %llu: %d", seeded, asked);
        }
        vectors_destroy(w.v);
    }
}
END_TEST

START_TEST(what_is_kept_is_a_direction)
{
    struct vectors *v;
    struct vectors_hit hit;
    float x[3] = {3, 0, -4}, unit[3] = {0.6f, 0, -0.8f}, none[3] = {0}, odd[3] = {1, NAN, 0};
    struct err e = {0};
    ck_assert_int_eq(vectors_create(3, ROOM, &v, NULL), 0);
    ck_assert_ptr_null(vectors_get(v, 7));
    ck_assert_int_eq(vectors_search(v, x, 1, NULL, NULL, &hit), 0);
    ck_assert_int_eq(vectors_put(v, 7, x, NULL), 0);
    ck_assert_mem_eq(vectors_get(v, 7), unit, sizeof unit);
    ck_assert_int_eq(vectors_search(v, x, 1, NULL, NULL, &hit), 1);
    ck_assert_int_eq(hit.id, 7);
    ck_assert_float_eq_tol(hit.score, 5, 1e-6f);
    ck_assert_int_eq(vectors_put(v, 7, none, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "a vector of length 0 has no direction");
    ck_assert_int_eq(vectors_put(v, 8, odd, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "a vector has a number that is not finite");
    ck_assert_mem_eq(vectors_get(v, 7), unit, sizeof unit);
    ck_assert_int_eq(vectors_count(v), 1);
    vectors_destroy(v);
}
END_TEST

/* Many more than a block has, by any number of threads. */
START_TEST(threads_and_order_change_nothing)
{
    enum { MANY = 5000, K = 50 };
    struct vectors_hit first[K], hits[K];
    for (int turn = 0; turn < 4; turn++) {
        struct vectors *v;
        uint64_t random = 42;
        float x[DIM], q[DIM];
        ck_assert_int_eq(vectors_create(DIM, ROOM, &v, NULL), 0);
        for (int i = 0; i < MANY; i++) {
            int64_t id = turn % 2 ? MANY - 1 - i : i;
            random = (uint64_t)id;
            for (int j = 0; j < DIM; j++)
                x[j] = (float)(random_next(&random) >> 40) - 8e6f;
            ck_assert_int_eq(vectors_put(v, id, x, NULL), 0);
        }
        for (int j = 0; j < DIM; j++)
            q[j] = (float)(j % 7) - 3.1f;
        omp_set_num_threads(1 + turn);
        ck_assert_int_eq(vectors_search(v, q, K, NULL, NULL, turn ? hits : first), K);
        ck_assert(!turn || !memcmp(hits, first, sizeof hits));
        for (int i = 1; i < K; i++)
            ck_assert_int_lt(hit_order(&first[i - 1], &first[i]), 0);
        for (int i = 0; i < MANY; i += 2)
            ck_assert(vectors_remove(v, i));
        int64_t bytes = vectors_bytes(v);
        for (int i = 1; i < MANY; i += 2)
            ck_assert(vectors_remove(v, i));
        ck_assert_int_lt(vectors_bytes(v), bytes);
        ck_assert_int_eq(vectors_count(v), 0);
        vectors_destroy(v);
    }
}
END_TEST

START_TEST(it_keeps_to_its_memory)
{
    float x[DIM] = {1};
    struct err e = {0};
    for (int64_t limit = 1 << 16; limit <= 2 << 20; limit *= 2) {
        struct vectors *v = NULL;
        int rc = vectors_create(DIM, limit, &v, &e);
        if (rc) {
            ck_assert_int_eq(rc, -ERR_USER);
            ck_assert_int_le(limit, 1 << 17);
            continue;
        }
        for (int64_t i = 0; i < vectors_most(v); i++)
            ck_assert_int_eq(vectors_put(v, i, x, NULL), 0);
        ck_assert_int_le(vectors_bytes(v), limit);
        ck_assert_int_eq(vectors_put(v, -1, x, &e), -ERR_USER);
        ck_assert_int_eq(vectors_put(v, 5, x, NULL), 0); /* one that is there */
        ck_assert(vectors_remove(v, 5));
        ck_assert_int_eq(vectors_put(v, -1, x, NULL), 0);
        vectors_destroy(v);
    }
}
END_TEST

START_TEST(cosines_are_of_directions)
{
    const float east[2] = {3, 0}, north[2] = {0, 1e-20f}, between[2] = {-2, 2}, none[2] = {0};
    ck_assert_double_eq_tol(vectors_cosine(east, east, 2), 1, 1e-15);
    ck_assert_double_eq_tol(vectors_cosine(east, north, 2), 0, 1e-15);
    ck_assert_double_eq_tol(vectors_cosine(east, between, 2), -sqrt(0.5), 1e-15);
    ck_assert_double_eq_tol(vectors_cosine(north, between, 2), sqrt(0.5), 1e-15);
    ck_assert(vectors_cosine(none, east, 2) == 0 && vectors_cosine(east, none, 2) == 0);
}
END_TEST

static int create_and_put(void *user)
{
    struct vectors *v = NULL;
    float x[DIM] = {1};
    (void)user;
    int rc = vectors_create(DIM, ROOM, &v, NULL);
    for (int i = 0; i < 1100 && !rc; i++)
        rc = vectors_put(v, i, x, NULL);
    vectors_destroy(v);
    return rc;
}

START_TEST(each_allocation_may_fail)
{
    fault_each(FAULT_MEM, create_and_put, NULL);
}
END_TEST

UNIT_MAIN("vectors", as_sorting_has_it, what_is_kept_is_a_direction,
    threads_and_order_change_nothing, it_keeps_to_its_memory, cosines_are_of_directions,
    each_allocation_may_fail)
