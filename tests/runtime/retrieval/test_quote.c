/*
 * Goal: a quote stands in its source, word for word, whatever the answer is; and what a reader
 * would call a quote is found. Method: small answers beside the quotes that are to be; random
 * answers, made of pieces of sources and other words, of which each quote is compared with its
 * source; the seed is printed on failure.
 */
#include "runtime/retrieval/quote.h"

#include "base/random.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define MOST 16

static const char *const texts[] = {
    "The debian/rules file must be an executable makefile.\nIt is run by dpkg-buildpackage.",
    "A package must have one maintainer. The maintainer answers for it."};

static struct quote_source sources[2];
static struct quote found[MOST];

static int find(const char *answer)
{
    for (int i = 0; i < 2; i++)
        sources[i] = (struct quote_source){texts[i], strlen(texts[i])};
    return quote_find(answer, strlen(answer), sources, 2, found, MOST);
}

/* quotes: as they stand in their sources, with | between them. */
static void check(const char *answer, const char *quotes)
{
    char got[1024] = "";
    size_t at = 0;
    int n = find(answer);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%.*s", at ? "|" : "",
            (int)(found[i].to - found[i].from), texts[found[i].source] + found[i].from);
    ck_assert_str_eq(got, quotes);
}

START_TEST(runs_of_words_are_quotes)
{
    check("It says that the debian/rules file must be an executable makefile, always.",
        "debian/rules file must be an executable makefile");
    check("An executable\nmakefile. It is run by dpkg-buildpackage.",
        "executable makefile.\nIt is run by dpkg-buildpackage.");
    check("must be an executable makefile; must have one maintainer",
        "must be an executable makefile|must have one maintainer");
    check("must be an exe", "");
    check("nothing of it", "");
    check("", "");
}
END_TEST

START_TEST(a_short_answer_is_quoted_whole_or_not_at_all)
{
    check("debian/rules", "debian/rules");
    check(" \"debian/rules\".", "debian/rules");
    check("debian/rul", "");
    check("one", "");
    check("maintainer", "maintainer");
    check("a maintainer", "");
}
END_TEST

START_TEST(words_are_whole)
{
    check("xmust be an executable", "");
    check("must be an executable make", "must be an executable");
    check("so it must be an executable", "must be an executable");
}
END_TEST

START_TEST(there_are_only_so_many)
{
    sources[0] = (struct quote_source){texts[0], strlen(texts[0])};
    const char *twice = "must be an executable must be an executable";
    ck_assert_int_eq(quote_find(twice, strlen(twice), sources, 1, found, 1), 1);
    ck_assert_int_eq(quote_find(twice, strlen(twice), sources, 1, found, 2), 2);
    ck_assert_uint_eq(found[1].at, 22);
}
END_TEST

static bool same(const char *a, size_t len, const char *b, size_t size)
{
    size_t i = 0, k = 0;
    while (i < len && k < size) {
        bool space = strchr(" \n", a[i]) && strchr(" \n", b[k]);
        if (!space && a[i] != b[k])
            return false;
        i++;
        k++;
        while (space && i < len && strchr(" \n", a[i]))
            i++;
        while (space && k < size && strchr(" \n", b[k]))
            k++;
    }
    return i == len && k == size;
}

START_TEST(each_stands_in_its_source)
{
    int64_t total = 0;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        uint64_t random = seed;
        char answer[600] = "";
        size_t at = 0;
        for (int i = 0; i < 6; i++) {
            const char *text = texts[random_next(&random) % 2];
            size_t from = random_next(&random) % strlen(text), n = random_next(&random) % 60;
            at += (size_t)snprintf(answer + at, sizeof answer - at, "%.*s%s", (int)n, text + from,
                random_next(&random) % 2 ? " " : " some ");
        }
        int n = find(answer);
        for (int i = 0; i < n; i++) {
            const struct quote *q = &found[i];
            ck_assert_msg(same(answer + q->at, q->len, texts[q->source] + q->from, q->to - q->from),
                "seed %llu: %s", (unsigned long long)seed, answer);
            ck_assert(!i || q->at >= found[i - 1].at + found[i - 1].len);
        }
        total += n;
    }
    ck_assert_int_gt(total, 500);
}
END_TEST

UNIT_MAIN("quote", runs_of_words_are_quotes, a_short_answer_is_quoted_whole_or_not_at_all,
    words_are_whole, there_are_only_so_many, each_stands_in_its_source)
