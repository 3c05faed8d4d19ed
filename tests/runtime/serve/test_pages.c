/*
 * Goal: no page is given to two sequences unless they begin alike, none is lost, and what is found
 * holds the very tokens that are asked for, under the same salt, whatever was given up in between.
 * Method: small tables; then random sequences over few tokens, so that many begin alike, in few
 * pages, so that many are given up, beside a plain account of who has which page and what stands in
 * it.
 */
#include "runtime/serve/pages.h"

#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#define T     4 /* tokens of a page */
#define PAGES 24
#define SEQS  6
#define MOST  8 /* pages of a sequence */

static struct err e;

static struct pages *create(int32_t count)
{
    struct pages *p;
    ck_assert_msg(!pages_create(count, T, &p, &e), "%s", e.text);
    return p;
}

START_TEST(every_page_is_given_once)
{
    struct pages *p = create(3);
    bool seen[3] = {false};
    for (int i = 0; i < 3; i++) {
        int32_t page = pages_take(p);
        ck_assert(page >= 0 && page < 3 && !seen[page]);
        seen[page] = true;
    }
    ck_assert_int_eq(pages_take(p), PAGE_NONE);
    pages_drop(p, 1);
    ck_assert_int_eq(pages_left(p), 1);
    ck_assert_int_eq(pages_take(p), 1);
    pages_destroy(p);
    pages_destroy(NULL);
}
END_TEST

START_TEST(what_begins_alike_shares)
{
    static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, other[] = {1, 2, 3, 4, 5, 6, 7, 9};
    struct pages *p = create(8);
    int32_t a = pages_take(p), b = pages_take(p), found[2];
    pages_seal(p, 0, a, PAGE_NONE, text);
    pages_seal(p, 0, b, a, text + T);
    ck_assert_int_eq(pages_find(p, 0, text, 9, found), 2);
    ck_assert(found[0] == a && found[1] == b);
    ck_assert_int_eq(pages_find(p, 0, other, 8, found), 1);
    ck_assert_int_eq(pages_find(p, 0, text, 3, found), 0);
    ck_assert_int_eq(pages_find(p, 0, text + T, 4, found), 0); /* not where a text begins */
    pages_destroy(p);
}
END_TEST

/* Nor does a salt equal a page's serial. */
START_TEST(what_has_another_salt_is_not_found)
{
    static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct pages *p = create(4);
    int32_t a = pages_take(p), b = pages_take(p), found[2];
    pages_seal(p, 7, a, PAGE_NONE, text);
    pages_seal(p, 7, b, a, text + T);
    for (uint64_t salt = 0; salt < 9; salt++) {
        ck_assert_int_eq(pages_find(p, salt, text, 8, found), salt == 7 ? 2 : 0);
        ck_assert_int_eq(pages_find(p, salt, text + T, 4, found), 0);
    }
    pages_destroy(p);
}
END_TEST

/* Two computed the same side by side: what follows either is found. */
START_TEST(twins_lead_on)
{
    static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct pages *p = create(4);
    int32_t a = pages_take(p), twin = pages_take(p), next = pages_take(p), found[2];
    pages_seal(p, 0, a, PAGE_NONE, text);
    pages_seal(p, 0, twin, PAGE_NONE, text);
    pages_seal(p, 0, next, twin, text + T);
    ck_assert_int_eq(pages_find(p, 0, text, 8, found), 2);
    ck_assert(found[0] == a && found[1] == next);
    pages_destroy(p);
}
END_TEST

/* Of what nobody has, the longest unused goes first, and of one sequence its end. */
START_TEST(the_oldest_goes_first)
{
    static const int32_t x[] = {1, 1, 1, 1, 2, 2, 2, 2}, y[] = {3, 3, 3, 3};
    struct pages *p = create(3);
    int32_t a = pages_take(p), b = pages_take(p), c = pages_take(p), found[2];
    pages_seal(p, 0, a, PAGE_NONE, x);
    pages_seal(p, 0, b, a, x + T);
    pages_seal(p, 0, c, PAGE_NONE, y);
    pages_drop(p, b);
    pages_drop(p, a);
    pages_drop(p, c);
    ck_assert_int_eq(pages_take(p), b);
    ck_assert_int_eq(pages_find(p, 0, x, 8, found), 1);
    ck_assert_int_eq(found[0], a);
    pages_drop(p, a);                   /* used since */
    ck_assert_int_eq(pages_take(p), c); /* of another text now */
    ck_assert_int_eq(pages_find(p, 0, y, 4, found), 0);
    pages_destroy(p);
}
END_TEST

/* -- random worlds -- */

struct text { /* what stands in a page, all before it included; 0 tokens: unknown */
    int32_t ids[MOST * T];
    int64_t count;
    uint64_t salt;
};

struct seq {
    int32_t ids[MOST * T], pages[MOST];
    int64_t count, paged;
    uint64_t salt;
};

static struct text holds[PAGES];
static int users[PAGES];

static void drop_all(struct pages *p, struct seq *s)
{
    while (s->paged) {
        users[s->pages[--s->paged]]--;
        pages_drop(p, s->pages[s->paged]);
    }
}

/* Finds, checks what was found, takes the rest while there is any, and seals all. */
static void begin(struct pages *p, struct seq *s, uint64_t *random)
{
    int64_t want = 1 + (int64_t)(random_next(random) % MOST);
    s->count = want * T;
    s->salt = random_next(random) % 2;
    for (int64_t i = 0; i < s->count; i++) /* pages of one word: few texts */
        s->ids[i] = i % T ? s->ids[i - 1] : (int32_t)(random_next(random) % 2);
    s->paged = pages_find(p, s->salt, s->ids, s->count, s->pages);
    for (int64_t i = 0; i < s->paged; i++) {
        const struct text *t = &holds[s->pages[i]];
        ck_assert_int_eq(t->count, (i + 1) * T);
        ck_assert_uint_eq(t->salt, s->salt);
        ck_assert_mem_eq(t->ids, s->ids, (size_t)t->count * sizeof *t->ids);
        users[s->pages[i]]++;
    }
    for (int32_t page; s->paged < want && (page = pages_take(p)) != PAGE_NONE; s->paged++) {
        ck_assert_int_eq(users[page], 0);
        users[page] = 1;
        s->pages[s->paged] = page;
        pages_seal(
            p, s->salt, page, s->paged ? s->pages[s->paged - 1] : PAGE_NONE, s->ids + s->paged * T);
        holds[page].salt = s->salt;
        holds[page].count = (s->paged + 1) * T;
        memcpy(holds[page].ids, s->ids, sizeof holds[page].ids);
    }
}

START_TEST(random_sequences)
{
    uint64_t seed = sample_setting("LLMJOB_SEED"), random = seed;
    struct seq seqs[SEQS] = {0};
    struct pages *p = create(PAGES);
    int64_t found = 0;
    memset(users, 0, sizeof users);
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (int i = 0; i < 20000; i++) {
        struct seq *s = &seqs[random_next(&random) % SEQS];
        int left = 0;
        if (s->paged)
            drop_all(p, s);
        else
            begin(p, s, &random);
        for (int page = 0; page < PAGES; page++) {
            left += !users[page];
            found += users[page] > 1;
        }
        ck_assert_int_eq(pages_left(p), left);
    }
    ck_assert_int_gt(found, 1000);
    pages_destroy(p);
}
END_TEST

UNIT_MAIN("pages", every_page_is_given_once, what_begins_alike_shares,
    what_has_another_salt_is_not_found, twins_lead_on, the_oldest_goes_first, random_sequences)
