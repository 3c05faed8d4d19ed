/*
 * Goal: documents are found by their words and by their vectors, drafts and what was replaced never
 * are, and what is found does not depend on how the library came to be. Method: vectors of four
 * numbers planted by the test; rankings of three chunks worked out by hand; random histories of
 * documents that come, change and go beside a library that has only what is left, whose hits must
 * be the same to the bit; the seed is printed on failure.
 * needs: faults
 */
#include "runtime/serve/library.h"

#include "base/random.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define DIM  4
#define MOST 64

static struct err e;
static struct library *l;

static int64_t count_words(void *user, const char *text, size_t len, struct err *why)
{
    int64_t n = 0;
    (void)user;
    (void)why;
    for (size_t i = 0; i < len; i++)
        n += text[i] != ' ' && (!i || text[i - 1] == ' ' || text[i - 1] == '\n');
    return n;
}

/* Of a text: the same for the same. */
static void vector_of(const char *text, size_t len, float *out)
{
    uint64_t random = len;
    for (size_t i = 0; i < len; i++)
        random = random_mix(random + (unsigned char)text[i]);
    for (int i = 0; i < DIM; i++)
        out[i] = (float)(random_next(&random) % 2001) / 1000 - 1;
}

static int add_all(struct library *to, struct library_file *f, const float *vector, struct err *why)
{
    const struct cut_conf conf = {12, 0, count_words, NULL};
    struct cutter c = {.document = library_text(f)};
    struct cut_chunk x;
    int rc = 0;
    while (!rc && cut_next(&c, &conf, &x, why) == 1) {
        float own[DIM];
        vector_of(c.document->text.data + x.from, x.to - x.from, own);
        rc = library_add(to, f, &x, vector ? vector : own, why);
    }
    return rc;
}

static int draft(struct library *to, const char *name, const char *text, const float *vector,
    struct library_file **out, struct err *why)
{
    struct document d;
    int rc = document_read(DOCUMENT_MARKDOWN, text, strlen(text), &d, why);
    if (!rc)
        rc = library_begin(to, name, &d, out, why);
    document_done(&d);
    return rc ? rc : add_all(to, *out, vector, why);
}

static void put(const char *name, const char *text, const float *vector)
{
    struct library_file *f;
    ck_assert_msg(!draft(l, name, text, vector, &f, &e), "%s", e.text);
    library_publish(l, f);
}

static int find(struct library *in, const char *text, const float *vector, double words,
    struct library_hit *hits)
{
    const struct library_query q = {text, vector, words, 1, LIBRARY_HITS};
    int n = library_search(in, &q, hits, &e);
    ck_assert_int_ge(n, 0);
    return n;
}

static void check_hit(const struct library_hit *h, const char *file, const char *text)
{
    ck_assert_str_eq(h->file, file);
    ck_assert_msg(
        h->len == strlen(text) && !memcmp(h->text, text, h->len), "%.*s", (int)h->len, h->text);
}

static const float east[] = {1, 0, 0, 0}, north[] = {0, 2, 0, 0}, between[] = {3, 3, 0, 0};

START_TEST(both_rankings_count)
{
    struct library_hit h[LIBRARY_HITS];
    ck_assert(!library_create(DIM, MOST, &l, &e));
    put("a.md", "# One\nabout cats", east);
    put("b.md", "about dogs", between);
    put("c.md", "nothing", north);
    /* words: a; vectors: c, b, a: a has 1/61 + 1/63, c 1/61, b 1/62 */
    ck_assert_int_eq(find(l, "cats?", north, 1, h), 3);
    check_hit(&h[0], "a.md", "One\n\nabout cats");
    ck_assert(h[0].title_len == 3 && !memcmp(h[0].title, "One", 3));
    ck_assert_double_eq_tol(h[0].rank, (1.0 / 61 + 1.0 / 63) * 61 / 2, 1e-12);
    ck_assert_double_eq_tol(h[0].cosine, 0, 1e-12);
    check_hit(&h[1], "c.md", "nothing");
    ck_assert_double_eq_tol(h[1].cosine, 1, 1e-6);
    check_hit(&h[2], "b.md", "about dogs");
    ck_assert_double_eq_tol(h[2].cosine, 0.70710678, 1e-6);
    /* by words alone */
    const struct library_query words = {"dogs", north, 1, 0, 5}, one = {"about", north, 1, 0, 1};
    ck_assert_int_eq(library_search(l, &words, h, &e), 1);
    check_hit(&h[0], "b.md", "about dogs");
    ck_assert_double_eq_tol(h[0].rank, 1, 1e-12);
    ck_assert_int_eq(library_search(l, &one, h, &e), 1);
    char id[LIBRARY_FILE_ID];
    library_file_id(h[0].file_id, id);
    ck_assert(strlen(id) == LIBRARY_FILE_ID - 3 && !strncmp(id, "file-", 5));
    library_destroy(l);
}
END_TEST

START_TEST(a_title_is_found_with_all_of_its_section)
{
    struct library_hit h[LIBRARY_HITS];
    ck_assert(!library_create(DIM, MOST, &l, &e));
    put("a.md", "# Zebras\na b c d e f g h. i j k l m n o p. q r s.", NULL);
    ck_assert_int_eq(library_counts(l).chunks, 2);
    const struct library_query q = {"zebras", east, 1, 0, 5};
    ck_assert_int_eq(library_search(l, &q, h, &e), 2);
    ck_assert_int_eq((int)h[1].title_len, 6);
    library_destroy(l);
}
END_TEST

START_TEST(drafts_and_what_is_gone_are_not_found)
{
    struct library_hit h[LIBRARY_HITS];
    struct library_file *f, *other;
    ck_assert(!library_create(DIM, MOST, &l, &e));
    put("a.md", "old words", east);
    ck_assert(!draft(l, "a.md", "new words", north, &f, &e));
    ck_assert_int_eq(find(l, "words", north, 1, h), 1);
    check_hit(&h[0], "a.md", "old words");
    library_publish(l, f);
    ck_assert_int_eq(find(l, "words", north, 1, h), 1); /* before the old one is swept away */
    check_hit(&h[0], "a.md", "new words");
    ck_assert(draft(l, "a.md", "newest words", east, &f, &e) == 0);
    ck_assert(!draft(l, "b.md", "others", east, &other, &e));
    library_drop(l, other);
    ck_assert(library_find(l, "a.md") && !library_find(l, "b.md"));
    library_publish(l, f);
    ck_assert_int_eq(find(l, "words", north, 1, h), 1);
    check_hit(&h[0], "a.md", "newest words");
    ck_assert(library_sweep(l, 1));
    ck_assert(!library_sweep(l, MOST));
    library_drop(l, library_find(l, "a.md"));
    ck_assert_int_eq(find(l, "words", north, 1, h), 0);
    ck_assert(library_counts(l).files == 0 && library_counts(l).chunks == 0);
    library_destroy(l);
}
END_TEST

START_TEST(more_than_it_holds_is_refused)
{
    struct library_file *f;
    char text[8000] = "", *p = text;
    for (int i = 0; i < 9; i++)
        p += snprintf(p, 40, "# t%d\nx\n", i);
    ck_assert(!library_create(DIM, 8, &l, &e));
    ck_assert_int_eq(draft(l, "a.md", text, NULL, &f, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "there would be more than 8 chunks");
    library_drop(l, f);
    ck_assert(!library_sweep(l, MOST));
    memset(text, 'a', 7999);
    for (int i = 0; i < 2; i++)
        ck_assert(!draft(l, i ? "b.md" : "c.md", text, east, &f, &e));
    ck_assert_int_eq(draft(l, "d.md", text, east, &f, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "all texts would have more than 16 KiB");
    library_destroy(l);
    ck_assert_int_lt(library_bytes(384, 8192), (int64_t)96 << 20);
}
END_TEST

static void make_text(uint64_t *random, char *text, size_t size)
{
    size_t at = 0;
    *text = 0;
    for (int n = (int)(random_next(random) % 40); n && at + 40 < size; n--)
        at += (size_t)snprintf(text + at, size - at, "w%d%s", (int)(random_next(random) % 50),
            random_next(random) % 7       ? " "
                : random_next(random) % 2 ? ". "
                                          : "\n# t\n");
}

START_TEST(history_leaves_no_trace)
{
    for (uint64_t seed = 1; seed <= 100; seed++) {
        static char texts[6][600];
        static const char *const names[] = {"a.md", "b.md", "c.md", "d.md", "e.md", "f.md"};
        struct library_hit got[LIBRARY_HITS], want[LIBRARY_HITS];
        struct library *fresh;
        uint64_t random = seed;
        bool there[6] = {false};
        ck_assert(!library_create(DIM, 512, &l, &e) && !library_create(DIM, 512, &fresh, &e));
        for (int step = 0; step < 30; step++) {
            int i = (int)(random_next(&random) % 6);
            struct library_file *f = library_find(l, names[i]);
            ck_assert((f != NULL) == there[i]);
            if (f && random_next(&random) % 3 == 0) {
                library_drop(l, f);
                there[i] = false;
            } else {
                make_text(&random, texts[i], sizeof texts[i]);
                put(names[i], texts[i], NULL);
                there[i] = true;
            }
            library_sweep(l, (int)(random_next(&random) % 4));
        }
        library_sweep(l, 1 << 20);
        struct library *kept = l;
        l = fresh;
        for (int i = 5; i >= 0; i--)
            if (there[i])
                put(names[i], texts[i], NULL);
        int n = find(kept, "w1 w2 w3 w4", east, 1, got),
            m = find(fresh, "w1 w2 w3 w4", east, 1, want);
        ck_assert_msg(n == m, "seed %llu", (unsigned long long)seed);
        for (int i = 0; i < n; i++)
            ck_assert_msg(!strcmp(got[i].file, want[i].file) && got[i].len == want[i].len &&
                    !memcmp(got[i].text, want[i].text, got[i].len) && got[i].rank == want[i].rank &&
                    got[i].cosine == want[i].cosine,
                "seed %llu: hit %d", (unsigned long long)seed, i);
        library_destroy(kept);
        library_destroy(fresh);
    }
}
END_TEST

static int fill(void *user)
{
    struct library *own = NULL;
    struct library_file *f = NULL;
    struct library_hit hits[LIBRARY_HITS];
    struct err why = {0};
    (void)user;
    int rc = library_create(DIM, 8, &own, &why);
    if (!rc && !(rc = draft(own, "a.md", "# a\nb\n# c\nd", NULL, &f, &why))) {
        const struct library_query q = {"b", east, 1, 1, 3};
        library_publish(own, f);
        rc = library_search(own, &q, hits, &why);
        rc = rc > 0 ? 0 : rc;
    }
    library_destroy(own);
    return rc;
}

START_TEST(no_memory_is_an_error)
{
    fault_each(FAULT_MEM, fill, NULL);
}
END_TEST

UNIT_MAIN("library", both_rankings_count, a_title_is_found_with_all_of_its_section,
    drafts_and_what_is_gone_are_not_found, more_than_it_holds_is_refused, history_leaves_no_trace,
    no_memory_is_an_error)
