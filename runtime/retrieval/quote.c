/*
 * quote: a word is what stands between spaces; a quote begins and ends at the edge of letters and
 * digits in both texts, so that it is no part of a word.
 */
#include "runtime/retrieval/quote.h"

#include <stdbool.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c & 0x80;
}

/* Is p, in [0, len], the edge of a word? */
static bool is_edge(const char *s, size_t len, size_t p)
{
    return p == 0 || p == len || !is_letter(s[p - 1]) || !is_letter(s[p]);
}

struct quote_run { /* the same in both, from their beginnings on */
    size_t answer, source;
    int words;
};

/* How far a from i and b from k are alike, back to where both have an edge behind letters. */
static struct quote_run compare(
    const char *a, size_t len, size_t i, const char *b, size_t size, size_t k)
{
    struct quote_run best = {0, 0, 0};
    size_t x = i, y = k;
    int words = 1;
    while (x < len && y < size) {
        if (is_space(a[x]) && is_space(b[y])) {
            while (x < len && is_space(a[x]))
                x++;
            while (y < size && is_space(b[y]))
                y++;
            words++;
            continue;
        }
        if (a[x] != b[y])
            break;
        x++;
        y++;
        if (is_edge(a, len, x) && is_edge(b, size, y))
            best = (struct quote_run){x - i, y - k, words};
    }
    return best;
}

/* The longest run of a source at the word that begins at i. */
static struct quote_run longest(
    const char *a, size_t len, size_t i, const struct quote_source *s, size_t *from)
{
    struct quote_run best = {0, 0, 0};
    for (size_t k = 0; k < s->len;) {
        const char *next = memchr(s->text + k, a[i], s->len - k);
        if (!next)
            break;
        k = (size_t)(next - s->text);
        struct quote_run r =
            is_edge(s->text, s->len, k) ? compare(a, len, i, s->text, s->len, k) : best;
        if (r.answer > best.answer) {
            best = r;
            *from = k;
        }
        k++;
    }
    return best;
}

/* Without what stands around its letters: spaces, quotation marks, a full stop. */
static void bare(const char *a, size_t len, size_t *from, size_t *to)
{
    *from = 0;
    *to = len;
    while (*from < *to && !is_letter(a[*from]))
        ++*from;
    while (*to > *from && !is_letter(a[*to - 1]))
        --*to;
}

int quote_find(const char *answer, size_t len, const struct quote_source *sources, int count,
    struct quote *out, int most)
{
    size_t begin, end;
    int n = 0;
    len = len < QUOTE_ANSWER ? len : QUOTE_ANSWER;
    bare(answer, len, &begin, &end);
    for (size_t i = begin; i < end && n < most;) {
        struct quote best = {.at = i};
        int words = 0;
        for (int s = 0; s < count; s++) {
            size_t from = 0;
            struct quote_run r = longest(answer, len, i, &sources[s], &from);
            if (r.answer <= best.len)
                continue;
            best = (struct quote){i, r.answer, s, from, from + r.source};
            words = r.words;
        }
        bool all = i == begin && i + best.len >= end && best.len >= QUOTE_LETTERS;
        if (words >= QUOTE_WORDS || all) {
            out[n++] = best;
            i += best.len;
        }
        while (i < end && !is_space(answer[i]))
            i++;
        while (i < end && !is_letter(answer[i]))
            i++;
    }
    return n;
}
