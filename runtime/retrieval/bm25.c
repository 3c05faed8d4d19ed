/*
 * bm25: a table from words to lists of postings, each a slot and how often the word is there, in no
 * order; a text that goes takes its postings out of the lists of its words, the last one into their
 * place. The length of a text is its words, and is kept by slot.
 */
#include "runtime/retrieval/bm25.h"

#include "base/mem.h"
#include "base/table.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define K1         1.2
#define B          0.75
#define WORD_BYTES 64 /* of a longer word only so many count */

struct posting {
    int32_t slot, times;
};

struct bm25_word {
    struct posting *list;
    int32_t count, capacity;
};

struct bm25 {
    struct table words;
    int32_t *lengths; /* (slots) words; -1: there is no text */
    int32_t slots;
    int64_t count, total; /* texts; words of all */
};

int bm25_create(int32_t slots, struct bm25 **out, struct err *e)
{
    struct bm25 *b = mem_zalloc(sizeof *b);
    int32_t *lengths = mem_array((size_t)slots, sizeof *lengths);
    if (!b || !lengths) {
        mem_free(b);
        mem_free(lengths);
        return err_set(e, ERR_MEMORY, "no memory for an index of %d texts", slots);
    }
    b->slots = slots;
    b->lengths = lengths;
    for (int32_t i = 0; i < slots; i++)
        lengths[i] = -1;
    *out = b;
    return 0;
}

void bm25_destroy(struct bm25 *b)
{
    const char *key;
    void *value;
    if (!b)
        return;
    for (size_t at = 0; table_next(&b->words, &at, &key, &value);) {
        mem_free(((struct bm25_word *)value)->list);
        mem_free(value);
    }
    table_done(&b->words);
    mem_free(b->lengths);
    mem_free(b);
}

/* -- words -- */

static bool is_part(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c & 0x80;
}

/* The next word from *at on, in lower case where that is ASCII; false: there is none. */
static bool next_word(const char *text, size_t len, size_t *at, char out[WORD_BYTES])
{
    size_t i = *at, n = 0;
    while (i < len && !is_part(text[i]))
        i++;
    for (; i < len && is_part(text[i]); i++)
        if (n + 1 < WORD_BYTES)
            out[n++] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i];
    out[n] = 0;
    *at = i;
    return n;
}

/* -- texts -- */

static struct bm25_word *word_of(struct bm25 *b, const char *name, struct err *e)
{
    struct bm25_word *w = table_get(&b->words, name);
    if (w)
        return w;
    if (!(w = mem_zalloc(sizeof *w)) || table_put(&b->words, name, w, NULL)) {
        mem_free(w);
        err_set(e, ERR_MEMORY, "no memory for an index of words");
        return NULL;
    }
    return w;
}

/* The text's are the last ones of the lists, while it is added. */
static int count_word(struct bm25_word *w, int32_t slot, struct err *e)
{
    if (w->count && w->list[w->count - 1].slot == slot) {
        w->list[w->count - 1].times++;
        return 0;
    }
    if (w->count == w->capacity) {
        int32_t n = w->capacity ? 2 * w->capacity : 4;
        void *more = mem_grow(w->list, (size_t)n, sizeof *w->list);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for an index of words");
        w->list = more;
        w->capacity = n;
    }
    w->list[w->count++] = (struct posting){slot, 1};
    return 0;
}

static void drop_word(struct bm25 *b, const char *name, int32_t slot)
{
    struct bm25_word *w = table_get(&b->words, name);
    int32_t i = 0;
    while (w && i < w->count && w->list[i].slot != slot)
        i++;
    if (w && i < w->count)
        w->list[i] = w->list[--w->count];
    if (w && !w->count) {
        table_remove(&b->words, name);
        mem_free(w->list);
        mem_free(w);
    }
}

static void drop_words(struct bm25 *b, int32_t slot, const char *text, size_t len)
{
    char name[WORD_BYTES];
    for (size_t at = 0; next_word(text, len, &at, name);)
        drop_word(b, name, slot);
}

int bm25_add(struct bm25 *b, int32_t slot, const char *text, size_t len, struct err *e)
{
    char name[WORD_BYTES];
    int32_t words = 0;
    for (size_t at = 0; next_word(text, len, &at, name); words++) {
        struct bm25_word *w = word_of(b, name, e);
        if (!w || count_word(w, slot, e)) {
            drop_words(b, slot, text, len);
            return -ERR_MEMORY;
        }
    }
    b->lengths[slot] = words;
    b->total += words;
    b->count++;
    return 0;
}

void bm25_remove(struct bm25 *b, int32_t slot, const char *text, size_t len)
{
    if (b->lengths[slot] < 0)
        return;
    drop_words(b, slot, text, len);
    b->total -= b->lengths[slot];
    b->lengths[slot] = -1;
    b->count--;
}

/* -- queries -- */

static void score_word(const struct bm25 *b, const struct bm25_word *w, float *scores)
{
    double n = w->count, all = (double)b->count, mean = (double)b->total / all;
    double idf = log(1 + (all - n + 0.5) / (n + 0.5));
    for (int32_t i = 0; i < w->count; i++) {
        double times = w->list[i].times, length = b->lengths[w->list[i].slot];
        double part = times * (K1 + 1) / (times + K1 * (1 - B + B * length / mean));
        scores[w->list[i].slot] += (float)(idf * part);
    }
}

void bm25_score(const struct bm25 *b, const char *query, size_t len, float *scores)
{
    const struct bm25_word *seen[BM25_TERMS];
    char name[WORD_BYTES];
    int n = 0;
    memset(scores, 0, (size_t)b->slots * sizeof *scores);
    for (size_t at = 0; n < BM25_TERMS && next_word(query, len, &at, name);) {
        const struct bm25_word *w = table_get(&b->words, name);
        bool known = !w;
        for (int i = 0; i < n && !known; i++)
            known = seen[i] == w;
        if (known)
            continue;
        seen[n++] = w;
        score_word(b, w, scores);
    }
}
