/*
 * Goal: chunks cover a document, each within its tokens, broken where a reader would break it, with
 * an overlap that is bounded. Method: tokens are words here; small texts beside the chunks that are
 * to be, then random texts, of which each word must stand in some chunk, none be broken, and no
 * chunk or overlap be longer than it may; the seed is printed on failure.
 */
#include "runtime/retrieval/cut.h"

#include "base/random.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static struct document d;
static struct err e;

static int64_t count_words(void *user, const char *text, size_t len, struct err *why)
{
    int64_t n = 0;
    (void)user;
    (void)why;
    for (size_t i = 0; i < len; i++)
        n += text[i] != ' ' && text[i] != '\n' && (!i || text[i - 1] == ' ' || text[i - 1] == '\n');
    return n;
}

static void read_text(const char *text)
{
    ck_assert_msg(!document_read(DOCUMENT_MARKDOWN, text, strlen(text), &d, &e), "%s", e.text);
}

/* chunks: as they are to be, with | between them. */
static void check(const char *text, int64_t most, int64_t overlap, const char *chunks)
{
    const struct cut_conf conf = {most, overlap, count_words, NULL};
    char got[4096] = "";
    size_t at = 0;
    read_text(text);
    struct cutter c = {.document = &d};
    struct cut_chunk x;
    int rc;
    while ((rc = cut_next(&c, &conf, &x, &e)) == 1)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%.*s", at ? "|" : "",
            (int)(x.to - x.from), d.text.data + x.from);
    ck_assert_int_eq(rc, 0);
    ck_assert_str_eq(got, chunks);
    document_done(&d);
}

START_TEST(a_section_is_a_chunk_if_it_fits)
{
    check("# One\na b c.\n\nd e.\n# Two\nf", 8, 0, "One\n\na b c.\n\nd e.|Two\n\nf");
    check("no title", 8, 0, "no title");
    check("# A\n# B\nx", 8, 0, "A|B\n\nx");
    check("", 8, 0, "");
}
END_TEST

START_TEST(it_ends_where_a_paragraph_or_a_sentence_does)
{
    check("a b c d e.\n\nf g h i. j k l m.\n\nn", 8, 0, "a b c d e.|f g h i. j k l m.|n");
    check("a b c. d e f. g h i j. k", 8, 0, "a b c. d e f.|g h i j. k");
    check("a b c. d e f. g h i j. k", 8, 3, "a b c. d e f.|d e f. g h i j. k");
    check("# T\na b c. d e f. g h i. k l m. o p", 8, 0, "T\n\na b c. d e f.|g h i. k l m.|o p");
}
END_TEST

START_TEST(a_long_sentence_is_cut_between_words)
{
    char text[2600] = "", *p = text;
    for (int i = 0; i < 500; i++)
        p += snprintf(p, 8, "w%d ", i % 10);
    read_text(text);
    const struct cut_conf conf = {8, 2, count_words, NULL};
    struct cutter c = {.document = &d};
    struct cut_chunk x;
    size_t before = 0;
    while (cut_next(&c, &conf, &x, &e) == 1) {
        ck_assert(x.from <= before + 1 && x.to > before);
        ck_assert_int_le(count_words(NULL, d.text.data + x.from, x.to - x.from, &e), 8);
        ck_assert(x.to == d.text.len || d.text.data[x.to] == ' ');
        before = x.to;
    }
    ck_assert_uint_eq(before, d.text.len);
    document_done(&d);
}
END_TEST

static void make_random(uint64_t *random, char *text, size_t size)
{
    static const char *const parts[] = {"word ", "a ", "end. ", "what? ", "\n\n", "\n",
        "\n\n# title of it\n", "\xc3\xa9\xc3\xa9 ",
        "averyveryverylongwordthatgoesonandonandonforquiteawhile "};
    size_t at = 0;
    while (at + 80 < size)
        at += (size_t)snprintf(text + at, size - at, "%s", parts[random_next(random) % 9]);
}

START_TEST(chunks_cover_any_text)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed;
        char text[3000];
        make_random(&random, text, 100 + random_next(&random) % 2800);
        int64_t most = 12 + (int64_t)(random_next(&random) % 40);
        const struct cut_conf conf = {most, most / 4, count_words, NULL};
        read_text(text);
        struct cutter c = {.document = &d};
        struct cut_chunk x, last = {0, 0, 0};
        int n = 0;
        while (cut_next(&c, &conf, &x, &e) == 1) {
            const struct document_section *s = &d.sections[x.section];
            ck_assert_msg(x.from >= s->from && x.to <= s->to && x.to > x.from, "seed %llu",
                (unsigned long long)seed);
            int64_t words = count_words(NULL, d.text.data + x.from, x.to - x.from, &e);
            ck_assert_msg(words <= most, "seed %llu: %lld of %lld", (unsigned long long)seed,
                (long long)words, (long long)most);
            bool same = n && last.section == x.section;
            if (same && x.from < last.to) {
                ck_assert_msg(
                    x.from > last.from && x.to > last.to, "seed %llu", (unsigned long long)seed);
                ck_assert_int_le(
                    count_words(NULL, d.text.data + x.from, last.to - x.from, &e), most / 4);
            } else if (same) {
                ck_assert_int_eq(count_words(NULL, d.text.data + last.to, x.from - last.to, &e), 0);
            } else {
                ck_assert_msg(x.from == s->from && (!n || last.to == d.sections[last.section].to),
                    "seed %llu", (unsigned long long)seed);
            }
            last = x;
            n++;
        }
        ck_assert(
            !d.count || (last.section == d.count - 1 && last.to == d.sections[d.count - 1].to));
        document_done(&d);
    }
}
END_TEST

static int64_t refuse_to_count(void *user, const char *text, size_t len, struct err *why)
{
    (void)user;
    (void)text;
    return err_set(why, ERR_DATA, "%zu bytes", len);
}

START_TEST(a_count_that_fails_is_told)
{
    const struct cut_conf conf = {8, 0, refuse_to_count, NULL};
    struct cut_chunk x;
    read_text("a b");
    struct cutter c = {.document = &d};
    ck_assert_int_eq(cut_next(&c, &conf, &x, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "3 bytes");
    document_done(&d);
}
END_TEST

UNIT_MAIN("cut", a_section_is_a_chunk_if_it_fits, it_ends_where_a_paragraph_or_a_sentence_does,
    a_long_sentence_is_cut_between_words, chunks_cover_any_text, a_count_that_fails_is_told)
