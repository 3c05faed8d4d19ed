/*
 * Goal: what is guessed is what followed the place behind which the longest part of a text's end
 * stands, and looking costs no more than it may. Method: small texts by hand; random ones of few
 * tokens against a search of all places, the seed printed on failure; failing memory.
 * needs: faults
 */
#include "runtime/serve/ngram.h"

#include "base/random.h"
#include "tests/unit.h"

#define CONTEXT 64

static struct err e;

static struct ngram *index_of(int64_t context)
{
    struct ngram *n;
    ck_assert_msg(!ngram_create(context, &n, &e), "%s", e.text);
    return n;
}

/* Is `want`, letter by letter, what follows `text`? */
static void follows(const char *text, int most, const char *want)
{
    int32_t ids[CONTEXT], guess[CONTEXT];
    int64_t count = (int64_t)strlen(text);
    char got[CONTEXT] = "";
    struct ngram *n = index_of(CONTEXT);
    for (int64_t i = 0; i < count; i++)
        ids[i] = text[i];
    int found = ngram_guess(n, ids, count, most, guess);
    for (int i = 0; i < found; i++)
        got[i] = (char)guess[i];
    ck_assert_msg(!strcmp(got, want), "behind %s: %s, not %s", text, got, want);
    ngram_destroy(n);
}

START_TEST(as_it_went_on_before)
{
    follows("", 4, "");
    follows("ab", 4, "");
    follows("abc", 4, "");
    follows("abcabc", 4, "abca"); /* into what is guessed itself */
    follows("aaaa", 3, "aaa");
    follows("abcxbc", 4, "");             /* two are not enough */
    follows("abcx-abcy-abc", 2, "y-");    /* of equals the last */
    follows("1abcx-2abcy-1abc", 2, "x-"); /* the longest */
    follows("abcdefgh-abc", 4, "defg");
}
END_TEST

/* By looking at every place. */
static int search(const int32_t *ids, int64_t count, int most, int32_t *guess)
{
    int64_t longest = NGRAM_TOKENS - 1, best = 0;
    for (int64_t place = count - 1; place > 0; place--) {
        int64_t k = 0;
        while (k < place && k < 32 && ids[place - 1 - k] == ids[count - 1 - k])
            k++;
        if (k > longest) {
            longest = k;
            best = place;
        }
    }
    for (int i = 0; best && i < most; i++)
        guess[i] = best + i < count ? ids[best + i] : guess[best + i - count];
    return best ? most : 0;
}

/* Sixteen places of one bucket are looked at, so each three tokens stand rarely enough. */
START_TEST(as_a_search_finds_it)
{
    int found = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        int32_t ids[400], want[16], got[16];
        uint64_t random = seed;
        struct ngram *n = index_of(400);
        for (int64_t count = 0; count < 400; count++) {
            int most = 1 + (int)(random_next(&random) % 16);
            if (random_next(&random) % 3) { /* not each time */
                int k = search(ids, count, most, want);
                ck_assert_msg(ngram_guess(n, ids, count, most, got) == k &&
                        !memcmp(got, want, (size_t)k * sizeof *got),
                    "seed %llu, %lld tokens", (unsigned long long)seed, (long long)count);
                found += k > 0;
            }
            ids[count] = (int32_t)(random_next(&random) % 7);
        }
        ngram_destroy(n);
    }
    ck_assert_int_gt(found, 10000);
}
END_TEST

static int create_once(void *user)
{
    struct ngram *n;
    (void)user;
    int rc = ngram_create(CONTEXT, &n, &e);
    if (!rc)
        ngram_destroy(n);
    return rc;
}

START_TEST(memory_that_fails_is_reported)
{
    fault_each(FAULT_MEM, create_once, NULL);
}
END_TEST

UNIT_MAIN("ngram", as_it_went_on_before, as_a_search_finds_it, memory_that_fails_is_reported)
