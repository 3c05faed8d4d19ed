/*
 * vectors: rows are padded to whole lanes with zeros, so that a product has no rest, and is added
 * up lane by lane, which every build does in the same order. A table of places, open addressing,
 * finds the row of an id; the last row takes the place of one that is removed.
 */
#include "runtime/serve/vectors.h"

#include "base/mem.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

#define LANES      16 /* sums of a product side by side: four registers of the smallest machine */
#define BLOCK_ROWS 1024
#define MOST_DIM   (1 << 20)
#define MOST_ROWS  (1 << 29)
#define WORTHY     (1 << 16) /* numbers of all rows from which threads are woken */

struct vectors_block {
    float *x; /* (BLOCK_ROWS, ld) */
    float score[BLOCK_ROWS];
    int64_t id[BLOCK_ROWS];
};

struct vectors {
    int64_t dim, ld; /* ld: dim in whole lanes */
    int64_t count, most;
    struct vectors_block **blocks; /* (blocks_most); those up to blocks_count are there */
    int64_t blocks_count, blocks_most;
    int32_t *slots;      /* (slots_count) a row and 1, 0: none; at most half of them are taken */
    int64_t slots_count; /* a power of two */
    float *query;        /* (ld) */
};

/* -- memory -- */

static int64_t block_bytes(const struct vectors *v)
{
    return (int64_t)sizeof **v->blocks + BLOCK_ROWS * v->ld * (int64_t)sizeof(float);
}

static int64_t fixed_bytes(const struct vectors *v)
{
    return (int64_t)sizeof *v + v->blocks_most * (int64_t)sizeof(void *) +
        v->slots_count * (int64_t)sizeof *v->slots + v->ld * (int64_t)sizeof *v->query;
}

/* So many blocks, and the slots for their rows. */
static void plan_blocks(struct vectors *v, int64_t blocks)
{
    v->blocks_most = blocks;
    v->most = blocks * BLOCK_ROWS;
    for (v->slots_count = 1; v->slots_count < 2 * v->most;)
        v->slots_count *= 2;
}

int vectors_create(int64_t dim, int64_t limit_bytes, struct vectors **out, struct err *e)
{
    if (dim < 1 || dim > MOST_DIM)
        return err_set(e, ERR_BUG, "vectors of %lld numbers", (long long)dim);
    struct vectors *v = mem_zalloc(sizeof *v);
    if (!v)
        return err_set(e, ERR_MEMORY, "no memory for vectors");
    v->dim = dim;
    v->ld = (dim + LANES - 1) / LANES * LANES;
    int64_t blocks = limit_bytes / block_bytes(v);
    plan_blocks(v, blocks < MOST_ROWS / BLOCK_ROWS ? blocks : MOST_ROWS / BLOCK_ROWS);
    while (v->blocks_most > 0 && fixed_bytes(v) + v->blocks_most * block_bytes(v) > limit_bytes)
        plan_blocks(v, v->blocks_most - 1);
    if (v->blocks_most < 1) {
        int64_t needed = (plan_blocks(v, 1), fixed_bytes(v) + block_bytes(v));
        vectors_destroy(v);
        return err_set(e, ERR_USER,
            "vectors of %lld numbers need %lld bytes of memory at least, and have %lld",
            (long long)dim, (long long)needed, (long long)limit_bytes);
    }
    v->blocks = mem_array((size_t)v->blocks_most, sizeof *v->blocks);
    v->slots = mem_array((size_t)v->slots_count, sizeof *v->slots);
    v->query = mem_array((size_t)v->ld, sizeof *v->query);
    if (!v->blocks || !v->slots || !v->query) {
        vectors_destroy(v);
        return err_set(e, ERR_MEMORY, "no memory for vectors");
    }
    *out = v;
    return 0;
}

static void free_block(struct vectors_block *b)
{
    mem_free(b->x);
    mem_free(b);
}

void vectors_destroy(struct vectors *v)
{
    if (!v)
        return;
    for (int64_t i = 0; i < v->blocks_count; i++)
        free_block(v->blocks[i]);
    mem_free(v->blocks);
    mem_free(v->slots);
    mem_free(v->query);
    mem_free(v);
}

static int add_block(struct vectors *v, struct err *e)
{
    struct vectors_block *b = mem_zalloc(sizeof *b);
    if (b && !(b->x = mem_aligned(64, (size_t)(BLOCK_ROWS * v->ld) * sizeof *b->x))) {
        mem_free(b);
        b = NULL;
    }
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for more than %lld vectors", (long long)v->count);
    v->blocks[v->blocks_count++] = b;
    return 0;
}

int64_t vectors_count(const struct vectors *v)
{
    return v->count;
}

int64_t vectors_most(const struct vectors *v)
{
    return v->most;
}

int64_t vectors_bytes(const struct vectors *v)
{
    return fixed_bytes(v) + v->blocks_count * block_bytes(v);
}

/* -- rows -- */

static int64_t *id_of(const struct vectors *v, int64_t row)
{
    return &v->blocks[row / BLOCK_ROWS]->id[row % BLOCK_ROWS];
}

static float *row_of(const struct vectors *v, int64_t row)
{
    return v->blocks[row / BLOCK_ROWS]->x + row % BLOCK_ROWS * v->ld;
}

static int64_t home_of(const struct vectors *v, int64_t id)
{
    return (int64_t)(random_mix((uint64_t)id) & (uint64_t)(v->slots_count - 1));
}

/* The slot of id, or the free one where it would stand. */
static int64_t slot_of(const struct vectors *v, int64_t id)
{
    int64_t at = home_of(v, id);
    while (v->slots[at] && *id_of(v, v->slots[at] - 1) != id)
        at = (at + 1) & (v->slots_count - 1);
    return at;
}

/* Those behind a slot that becomes free move up where they would be looked for there. */
static void free_slot(struct vectors *v, int64_t at)
{
    int64_t mask = v->slots_count - 1;
    for (int64_t next = (at + 1) & mask; v->slots[next]; next = (next + 1) & mask) {
        int64_t home = home_of(v, *id_of(v, v->slots[next] - 1));
        if (((next - home) & mask) < ((next - at) & mask))
            continue;
        v->slots[at] = v->slots[next];
        at = next;
    }
    v->slots[at] = 0;
}

int vectors_put(struct vectors *v, int64_t id, const float *row, struct err *e)
{
    double squares = 0;
    for (int64_t i = 0; i < v->dim; i++)
        squares += (double)row[i] * row[i];
    if (!isfinite(squares) || squares <= 0)
        return err_set(e, ERR_DATA, "a vector %s",
            squares <= 0 ? "of length 0 has no direction" : "has a number that is not finite");
    int64_t slot = slot_of(v, id), at = v->slots[slot] - 1;
    if (at < 0) {
        if (v->count == v->most)
            return err_set(e, ERR_USER, "no room for more than %lld vectors of %lld numbers",
                (long long)v->most, (long long)v->dim);
        int rc = v->count == v->blocks_count * BLOCK_ROWS ? add_block(v, e) : 0;
        if (rc)
            return rc;
        at = v->count++;
        *id_of(v, at) = id;
        v->slots[slot] = (int32_t)(at + 1);
    }
    float *to = row_of(v, at);
    for (int64_t i = 0; i < v->dim; i++)
        to[i] = (float)(row[i] / sqrt(squares));
    memset(to + v->dim, 0, (size_t)(v->ld - v->dim) * sizeof *to);
    return 0;
}

bool vectors_remove(struct vectors *v, int64_t id)
{
    int64_t slot = slot_of(v, id), at = v->slots[slot] - 1, last = v->count - 1;
    if (at < 0)
        return false;
    free_slot(v, slot);
    if (at != last) {
        v->slots[slot_of(v, *id_of(v, last))] = (int32_t)(at + 1);
        *id_of(v, at) = *id_of(v, last);
        memcpy(row_of(v, at), row_of(v, last), (size_t)v->ld * sizeof *v->query);
    }
    v->count--;
    if (v->blocks_count > 1 && v->count == (v->blocks_count - 2) * BLOCK_ROWS) /* one is kept */
        free_block(v->blocks[--v->blocks_count]);
    return true;
}

const float *vectors_get(const struct vectors *v, int64_t id)
{
    int32_t at = v->slots[slot_of(v, id)];
    return at ? row_of(v, at - 1) : NULL;
}

/* -- search -- */

static float product(const float *a, const float *b, int64_t n)
{
    float sum[LANES] = {0};
    for (int64_t i = 0; i < n; i += LANES)
        for (int j = 0; j < LANES; j++)
            sum[j] += a[i + j] * b[i + j];
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            sum[j] += sum[j + half];
    return sum[0];
}

static void score_rows(struct vectors *v)
{
#pragma omp parallel for schedule(static) if (v->count * v->ld > WORTHY)
    for (int64_t i = 0; i < v->count; i++)
        v->blocks[i / BLOCK_ROWS]->score[i % BLOCK_ROWS] = product(row_of(v, i), v->query, v->ld);
}

static bool hit_before(struct vectors_hit a, struct vectors_hit b)
{
    return a.score != b.score ? a.score > b.score : a.id < b.id;
}

/* x goes where hits[at] stood, and down below all that come before it: the last one is on top. */
static void sift_hit(struct vectors_hit *hits, int64_t n, int64_t at, struct vectors_hit x)
{
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && hit_before(hits[child], hits[child + 1]))
            child++;
        if (!hit_before(x, hits[child]))
            break;
        hits[at] = hits[child];
    }
    hits[at] = x;
}

static void raise_hit(struct vectors_hit *hits, int64_t at, struct vectors_hit x)
{
    for (int64_t up; at && hit_before(hits[up = (at - 1) / 2], x); at = up)
        hits[at] = hits[up];
    hits[at] = x;
}

int64_t vectors_search(struct vectors *v, const float *query, int64_t k, vectors_score_fn *score_fn,
    void *user, struct vectors_hit *hits)
{
    int64_t n = 0;
    memcpy(v->query, query, (size_t)v->dim * sizeof *query); /* what is behind stays 0 */
    score_rows(v);
    for (int64_t i = 0; i < v->count; i++) {
        struct vectors_hit x = {*id_of(v, i), v->blocks[i / BLOCK_ROWS]->score[i % BLOCK_ROWS]};
        if (score_fn)
            x.score = score_fn(user, x.id, x.score);
        if (x.score == -INFINITY)
            continue;
        if (n < k)
            raise_hit(hits, n++, x);
        else if (hit_before(x, hits[0]))
            sift_hit(hits, n, 0, x);
    }
    for (int64_t left = n; left-- > 1;) {
        struct vectors_hit worst = hits[0];
        sift_hit(hits, left, 0, hits[left]);
        hits[left] = worst;
    }
    return n;
}

double vectors_cosine(const float *a, const float *b, int64_t n)
{
    double dot = 0, x = 0, y = 0;
    for (int64_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        x += (double)a[i] * (double)a[i];
        y += (double)b[i] * (double)b[i];
    }
    return x > 0 && y > 0 ? dot / sqrt(x * y) : 0;
}
