/*
 * Goal: scores are BM25's, and what is found after texts came and went is what a new index finds.
 * Method: three small texts whose scores were computed by hand from the formula; random texts, of
 * which some are removed, beside an index that never had them; the seed is printed on failure.
 * needs: faults
 */
#include "runtime/retrieval/bm25.h"

#include "base/random.h"
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 40

static struct err e;

static void add(struct bm25 *b, int32_t slot, const char *text)
{
    ck_assert_msg(!bm25_add(b, slot, text, strlen(text), &e), "%s", e.text);
}

/* N = 3, mean length (4 + 2 + 6) / 3 = 4. "cat" is in two: idf = ln(1 + 1.5 / 2.5) = 0.4700036;
   once in 4 words: 2.2 / (1 + 1.2) = 1; twice in 6: 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 1.5)) =
   1.2055. "dog" is in one: idf = ln(1 + 2.5 / 1.5) = 0.9808293; once in 2 words: 2.2 / (1 + 1.2 *
   (0.25 + 0.75 * 0.5)) = 1.257143. */
START_TEST(scores_are_those_of_the_formula)
{
    struct bm25 *b;
    float s[3];
    ck_assert(!bm25_create(3, &b, &e));
    add(b, 0, "The cat, it sat");
    add(b, 1, "a dog");
    add(b, 2, "Cat and cat-like: is one");
    bm25_score(b, "CAT cat", 7, s);
    ck_assert_double_le(fabs((double)s[0] - 0.4700036), 1e-6);
    ck_assert(s[1] == 0);
    ck_assert_double_le(fabs((double)s[2] - 0.4700036 * 4.4 / 3.65), 1e-6);
    bm25_score(b, "dog cat", 7, s);
    ck_assert_double_le(fabs((double)s[0] - 0.4700036), 1e-6);
    ck_assert_double_le(fabs((double)s[1] - 0.9808293 * 2.2 / 1.75), 1e-6);
    bm25_score(b, "bird, ...", 9, s);
    ck_assert(s[0] == 0 && s[1] == 0 && s[2] == 0);
    bm25_destroy(b);
}
END_TEST

/* Names fall into their parts; other alphabets are taken as they are. */
START_TEST(words_are_letters_and_digits)
{
    struct bm25 *b;
    float s[2];
    char text[200], query[100];
    ck_assert(!bm25_create(2, &b, &e));
    memset(text, 'x', 80);
    snprintf(text + 80, 100,
        " debian/rules dpkg-dev \xc3\xbc"
        "ber 12");
    add(b, 0, text);
    const char *const found[] = {"rules", "dpkg", "DEV",
        "\xc3\xbc"
        "ber",
        "12"};
    for (size_t i = 0; i < 5; i++) {
        bm25_score(b, found[i], strlen(found[i]), s);
        ck_assert_msg(s[0] > 0, "%s", found[i]);
    }
    memset(query, 'x', 64);
    bm25_score(b, query, 64, s); /* of a longer word 63 bytes count */
    ck_assert(s[0] > 0 && s[1] == 0);
    bm25_score(b, query, 62, s);
    ck_assert(s[0] == 0);
    bm25_destroy(b);
}
END_TEST

static void make_text(uint64_t *random, char *out)
{
    int n = 1 + (int)(random_next(random) % 20);
    for (*out = 0; n; n--)
        out += snprintf(out, 8, "w%d ", (int)(random_next(random) % 30));
}

START_TEST(what_went_leaves_nothing)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        static char texts[SLOTS][200];
        uint64_t random = seed;
        float got[SLOTS], want[SLOTS];
        struct bm25 *a, *b;
        bool there[SLOTS] = {false};
        ck_assert(!bm25_create(SLOTS, &a, &e) && !bm25_create(SLOTS, &b, &e));
        for (int step = 0; step < 120; step++) {
            int32_t slot = (int32_t)(random_next(&random) % SLOTS);
            if (there[slot]) {
                bm25_remove(a, slot, texts[slot], strlen(texts[slot]));
            } else {
                make_text(&random, texts[slot]);
                add(a, slot, texts[slot]);
            }
            there[slot] = !there[slot];
        }
        for (int32_t slot = SLOTS - 1; slot >= 0; slot--)
            if (there[slot])
                add(b, slot, texts[slot]);
        if (!there[0])
            bm25_remove(b, 0, "w1", 2); /* of none: nothing */
        bm25_score(a, "w1 w2 w3 w29", 12, got);
        bm25_score(b, "w1 w2 w3 w29", 12, want);
        ck_assert_msg(!memcmp(got, want, sizeof got), "seed %llu", (unsigned long long)seed);
        bm25_destroy(a);
        bm25_destroy(b);
    }
}
END_TEST

static int index_two(void *user)
{
    struct bm25 *b = NULL;
    struct err why = {0};
    (void)user;
    int rc = bm25_create(2, &b, &why);
    if (!rc && !(rc = bm25_add(b, 0, "a b c d e a", 11, &why)))
        rc = bm25_add(b, 1, "a b f", 5, &why);
    bm25_destroy(b);
    return rc;
}

START_TEST(no_memory_is_an_error)
{
    fault_each(FAULT_MEM, index_two, NULL);
}
END_TEST

UNIT_MAIN("bm25", scores_are_those_of_the_formula, words_are_letters_and_digits,
    what_went_leaves_nothing, no_memory_is_an_error)
