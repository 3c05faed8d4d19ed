/*
 * library: a chunk has a slot in the index of words, and in that of vectors an id: its document's
 * hash, which of two versions it is of, and its number in it. So chunks of equal rank stand in one
 * order, however they came.
 */
#include "runtime/serve/library.h"

#include "base/mem.h"
#include "runtime/files/hash.h"
#include "runtime/retrieval/bm25.h"
#include "runtime/retrieval/fuse.h"
#include "runtime/serve/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BITS 16 /* of a chunk in its document */
#define HASH_BITS   46
#define WORDS_BYTES 4096 /* of the index of words for a chunk: its postings, and its new words */
#define BLOCK_ROWS  1024 /* of vectors that are allocated at once, */
#define LANES       16   /* and what a row is padded to */

struct library_file {
    struct library_file *next;
    char *name;
    uint64_t id;
    int64_t base; /* of its chunks' ids */
    struct document text;
    struct library_chunk {
        struct cut_chunk at;
        int32_t slot;
    } * chunks;
    int count, capacity;
    bool published;
};

struct library {
    struct bm25 *words;
    struct vectors *vectors;
    struct library_file *first;         /* published, by id */
    struct library_file *drafts, *gone; /* not to be found */
    int32_t *free;                      /* (left) slots */
    int32_t most, left;
    int64_t dim;
    struct library_counts counts;
    int64_t held_bytes; /* of all texts */
    float *scores;      /* (most) by slot */
};

/* Of vectors, whose rows come in blocks and are padded. */
static int64_t vectors_limit(int64_t dim, int32_t most)
{
    return ((int64_t)most + BLOCK_ROWS) * ((dim + LANES) * (int64_t)sizeof(float) + 64);
}

int64_t library_bytes(int64_t dim, int32_t most)
{
    return vectors_limit(dim, most) + (int64_t)most * (LIBRARY_CHUNK_BYTES + WORDS_BYTES);
}

int library_create(int64_t dim, int32_t most, struct library **out, struct err *e)
{
    struct library *l = mem_zalloc(sizeof *l);
    int rc = l ? 0 : err_set(e, ERR_MEMORY, "no memory for a library");
    if (rc)
        return rc;
    l->most = l->left = most;
    l->dim = dim;
    l->free = mem_array((size_t)most, sizeof *l->free);
    l->scores = mem_array((size_t)most, sizeof *l->scores);
    if (!l->free || !l->scores)
        rc = err_set(e, ERR_MEMORY, "no memory for %d chunks", most);
    for (int32_t i = 0; i < most && !rc; i++)
        l->free[i] = most - 1 - i;
    if (rc || (rc = bm25_create(most, &l->words, e)) ||
        (rc = vectors_create(dim, vectors_limit(dim, most), &l->vectors, e))) {
        library_destroy(l);
        return rc;
    }
    *out = l;
    return 0;
}

static void file_destroy(struct library_file *f)
{
    document_done(&f->text);
    mem_free(f->chunks);
    mem_free(f->name);
    mem_free(f);
}

static void list_destroy(struct library_file *f)
{
    for (struct library_file *next; f; f = next) {
        next = f->next;
        file_destroy(f);
    }
}

void library_destroy(struct library *l)
{
    if (!l)
        return;
    list_destroy(l->first);
    list_destroy(l->drafts);
    list_destroy(l->gone);
    bm25_destroy(l->words);
    vectors_destroy(l->vectors);
    mem_free(l->free);
    mem_free(l->scores);
    mem_free(l);
}

/* -- documents -- */

static uint64_t hash_of(const char *name)
{
    return hash_xxh3(name, strlen(name));
}

void library_file_id(uint64_t id, char out[LIBRARY_FILE_ID])
{
    snprintf(out, LIBRARY_FILE_ID, "file-%016llx", (unsigned long long)id);
}

struct library_file *library_find(const struct library *l, const char *name)
{
    uint64_t id = hash_of(name);
    struct library_file *f = l->first;
    while (f && f->id != id)
        f = f->next;
    return f && !strcmp(f->name, name) ? f : NULL;
}

/* Does another document have its ids? */
static bool is_taken(const struct library *l, uint64_t id, const char *name)
{
    const struct library_file *f = l->first;
    while (f && (f->id >> (64 - HASH_BITS) != id >> (64 - HASH_BITS) || !strcmp(f->name, name)))
        f = f->next;
    return f;
}

/* Of its ids the version that no other version of that name has now. */
static int64_t new_base(const struct library *l, uint64_t id)
{
    int64_t base = (int64_t)(id >> (64 - HASH_BITS) << (NUMBER_BITS + 1));
    for (const struct library_file *f = l->first; f; f = f->next)
        if (f->base == base)
            return base | (int64_t)1 << NUMBER_BITS;
    return base;
}

/* What still has ids of that document is swept away at once. */
static void sweep_document(struct library *l, uint64_t id)
{
    bool found = true;
    while (found) {
        found = false;
        for (const struct library_file *f = l->gone; f && !found; f = f->next)
            found = f->id >> (64 - HASH_BITS) == id >> (64 - HASH_BITS);
        if (found)
            library_sweep(l, 1);
    }
}

int library_begin(struct library *l, const char *name, struct document *d,
    struct library_file **out, struct err *e)
{
    uint64_t id = hash_of(name);
    if (l->held_bytes + (int64_t)d->text.len > (int64_t)l->most * LIBRARY_CHUNK_BYTES)
        return err_set(e, ERR_USER, "all texts would have more than %lld KiB",
            (long long)((int64_t)l->most * LIBRARY_CHUNK_BYTES >> 10));
    if (is_taken(l, id, name))
        return err_set(e, ERR_USER, "its name has the hash of another one's");
    struct library_file *f = mem_zalloc(sizeof *f);
    if (!f || !(f->name = mem_strdup(name))) {
        mem_free(f);
        return err_set(e, ERR_MEMORY, "no memory for a document");
    }
    sweep_document(l, id);
    f->id = id;
    f->base = new_base(l, id);
    f->text = *d;
    *d = (struct document){.count = 0};
    l->held_bytes += (int64_t)f->text.text.len;
    f->next = l->drafts;
    l->drafts = f;
    *out = f;
    return 0;
}

const struct document *library_text(const struct library_file *f)
{
    return &f->text;
}

/* With its section's title, where it goes on with one. */
static void add_words(const struct library_file *f, const struct cut_chunk *c, struct buf *out)
{
    const struct document_section *s = &f->text.sections[c->section];
    const char *text = buf_cstr(&f->text.text);
    if (c->from > s->from && s->title) {
        buf_add(out, text + s->from, s->title);
        buf_char(out, '\n');
    }
    buf_add(out, text + c->from, c->to - c->from);
}

static int grow(struct library_file *f)
{
    if (f->count < f->capacity)
        return 0;
    int n = f->capacity ? 2 * f->capacity : 8;
    void *more = mem_grow(f->chunks, (size_t)n, sizeof *f->chunks);
    if (!more)
        return -ERR_MEMORY;
    f->chunks = more;
    f->capacity = n;
    return 0;
}

int library_add(struct library *l, struct library_file *f, const struct cut_chunk *c,
    const float *vector, struct err *e)
{
    buf_auto struct buf words;
    buf_init(&words, DOCUMENT_BYTES);
    if (!l->left || f->count >= 1 << NUMBER_BITS)
        return err_set(e, ERR_USER, "there would be more than %d chunks",
            l->left ? 1 << NUMBER_BITS : l->most);
    add_words(f, c, &words);
    if (!buf_ok(&words) || grow(f))
        return err_set(e, ERR_MEMORY, "no memory for a chunk");
    int32_t slot = l->free[l->left - 1];
    int rc = bm25_add(l->words, slot, buf_cstr(&words), words.len, e);
    if (rc)
        return rc;
    if ((rc = vectors_put(l->vectors, f->base + f->count, vector, e))) {
        bm25_remove(l->words, slot, buf_cstr(&words), words.len);
        return rc;
    }
    l->left--;
    f->chunks[f->count++] = (struct library_chunk){*c, slot};
    return 0;
}

static void unlink_file(struct library_file **at, const struct library_file *f)
{
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
}

static void count_file(struct library *l, const struct library_file *f, int sign)
{
    l->counts.files += sign;
    l->counts.chunks += sign * f->count;
    l->counts.bytes += sign * (int64_t)f->text.text.len;
}

void library_drop(struct library *l, struct library_file *f)
{
    unlink_file(f->published ? &l->first : &l->drafts, f);
    if (f->published)
        count_file(l, f, -1);
    f->next = l->gone;
    l->gone = f;
}

void library_publish(struct library *l, struct library_file *f)
{
    struct library_file *old = library_find(l, f->name), **at = &l->first;
    if (old)
        library_drop(l, old);
    unlink_file(&l->drafts, f);
    while (*at && (*at)->id < f->id)
        at = &(*at)->next;
    f->next = *at;
    *at = f;
    f->published = true;
    count_file(l, f, 1);
}

/* The last one of a version that is gone. */
static void forget_chunk(struct library *l, struct library_file *f)
{
    const struct library_chunk *c = &f->chunks[--f->count];
    buf_auto struct buf words;
    buf_init(&words, DOCUMENT_BYTES);
    vectors_remove(l->vectors, f->base + f->count);
    add_words(f, &c->at, &words);
    if (!buf_ok(&words)) /* the slot is lost, and its words stay; nothing finds them */
        return;
    bm25_remove(l->words, c->slot, buf_cstr(&words), words.len);
    l->free[l->left++] = c->slot;
}

bool library_sweep(struct library *l, int chunks)
{
    while (l->gone) {
        struct library_file *f = l->gone;
        for (; f->count && chunks; chunks--)
            forget_chunk(l, f);
        if (f->count)
            return true;
        l->gone = f->next;
        l->held_bytes -= (int64_t)f->text.text.len;
        file_destroy(f);
    }
    return false;
}

struct library_counts library_counts(const struct library *l)
{
    return l->counts;
}

/* -- searches -- */

struct ranked {
    int64_t id;
    float score;
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score < y->score ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The best by words of published documents; ids (FUSE_DEPTH). */
static int64_t rank_words(struct library *l, const char *text, struct ranked *all, int64_t *ids)
{
    int64_t n = 0;
    bm25_score(l->words, text, strlen(text), l->scores);
    for (const struct library_file *f = l->first; f; f = f->next)
        for (int i = 0; i < f->count; i++)
            if (l->scores[f->chunks[i].slot] > 0)
                all[n++] = (struct ranked){f->base + i, l->scores[f->chunks[i].slot]};
    qsort(all, (size_t)n, sizeof *all, by_score);
    n = n < FUSE_DEPTH ? n : FUSE_DEPTH;
    for (int64_t i = 0; i < n; i++)
        ids[i] = all[i].id;
    return n;
}

/* A vectors_score_fn: what is a draft's, or gone, is not found. */
static float score_published(void *user, int64_t id, float dot)
{
    const struct library *l = user;
    const struct library_file *const lists[] = {l->drafts, l->gone};
    int64_t base = id >> NUMBER_BITS << NUMBER_BITS;
    for (int i = 0; i < 2; i++)
        for (const struct library_file *f = lists[i]; f; f = f->next)
            if (f->base == base)
                return -INFINITY;
    return dot;
}

static int64_t rank_vectors(struct library *l, const float *vector, int64_t *ids)
{
    struct vectors_hit hits[FUSE_DEPTH];
    bool hides = l->drafts || l->gone;
    int64_t n =
        vectors_search(l->vectors, vector, FUSE_DEPTH, hides ? score_published : NULL, l, hits);
    for (int64_t i = 0; i < n; i++)
        ids[i] = hits[i].id;
    return n;
}

static struct library_hit hit_of(
    const struct library *l, const struct library_query *q, const struct fuse_hit *h)
{
    const struct library_file *f = l->first;
    while (f->base != h->id >> NUMBER_BITS << NUMBER_BITS)
        f = f->next;
    const struct cut_chunk *c = &f->chunks[h->id - f->base].at;
    const struct document_section *s = &f->text.sections[c->section];
    const char *text = buf_cstr(&f->text.text);
    return (struct library_hit){.file = f->name,
        .file_id = f->id,
        .title = text + s->from,
        .title_len = s->title,
        .text = text + c->from,
        .len = c->to - c->from,
        .rank = h->score * (FUSE_RANKS + 1) / (q->words + q->vectors),
        .cosine = vectors_cosine(vectors_get(l->vectors, h->id), q->vector, l->dim)};
}

int library_search(
    struct library *l, const struct library_query *q, struct library_hit *hits, struct err *e)
{
    int64_t words[FUSE_DEPTH], vectors[FUSE_DEPTH];
    struct fuse_hit found[2 * FUSE_DEPTH];
    mem_autofree struct ranked *all = mem_array((size_t)l->most, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for a search");
    const struct fuse_ranking rankings[] = {
        {words, q->words > 0 ? rank_words(l, q->text, all, words) : 0, q->words},
        {vectors, q->vectors > 0 ? rank_vectors(l, q->vector, vectors) : 0, q->vectors}};
    int64_t n = fuse_rankings(rankings, 2, found);
    n = n < q->most ? n : q->most;
    for (int64_t i = 0; i < n; i++)
        hits[i] = hit_of(l, q, &found[i]);
    return (int)n;
}
