/*
 * data: the corpus is one array of ids, mapped; a sample is a window of it, so nothing is
 * copied but the window. The order of an epoch is a permutation computed point by point: a Feistel
 * network over the next power of four, walked until it lands inside (Black and Rogaway, "Ciphers
 * with Arbitrary Finite Domains", 2002). It needs no memory and no state, so any rank at any world
 * size computes any position. Thread: read-only after open.
 */
#include "runtime/data/internal.h"

#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "runtime/files/hash.h"

#include <assert.h>

#define FEISTEL_ROUNDS 6
#define BOM            "\xef\xbb\xbf" /* a byte order mark, which some editors put before text */
#define BOM_BYTES      3
#define HELD_OUT_SHARE 50 /* one sample of so many */
#define HELD_OUT_MIN   4
#define HELD_OUT_MOST  10 /* the same, and never more */

static int64_t line_of(const char *text, size_t offset)
{
    int64_t line = 1;
    for (const char *p = text, *end = text + offset; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        line++;
    return line;
}

static int check_utf8(const char *path, const char *text, size_t size, struct err *e)
{
    size_t valid = utf8_valid_prefix(text, size);
    if (valid == size)
        return 0;
    return err_set(
        e, ERR_DATA, "%s: line %lld: invalid UTF-8", path, (long long)line_of(text, valid));
}

static int count_samples(struct data *d, const char *path, struct err *e)
{
    int64_t count = data_tokens(d);
    d->samples = count > 0 ? (count - 1) / d->sequence_length : 0;
    if (d->samples > 0)
        return 0;
    return err_set(e, ERR_DATA, "%s: %lld tokens, a sample needs %d", path, (long long)count,
        d->sequence_length + 1);
}

int data_create(int sequence_length, struct data **out, struct err *e)
{
    if (sequence_length < 1)
        return err_set(e, ERR_USER, "sequence length %d is not positive", sequence_length);
    struct data *d = mem_zalloc(sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for a corpus");
    d->sequence_length = sequence_length;
    *out = d;
    return 0;
}

void data_skip_mark(const struct io_map *map, const char **text, size_t *size)
{
    const char *at = (const char *)map->data;
    bool marked = map->size >= BOM_BYTES && !memcmp(at, BOM, BOM_BYTES);
    *text = marked ? at + BOM_BYTES : at;
    *size = marked ? map->size - BOM_BYTES : map->size;
}

int data_text(
    const char *path, const struct io_map *map, const char **text, size_t *size, struct err *e)
{
    const char *at;
    size_t n;
    data_skip_mark(map, &at, &n);
    if (!n)
        return err_set(e, ERR_DATA, "%s: empty file", path);
    int rc = check_utf8(path, at, n, e);
    if (rc)
        return rc;
    *text = at;
    *size = n;
    return 0;
}

int data_open(
    const char *path, const char *tokens, int sequence_length, struct data **out, struct err *e)
{
    struct data *d = NULL;
    int rc = data_create(sequence_length, &d, e);
    if (rc)
        return rc;
    rc = tokens_open(tokens, &d->tokens, e);
    rc = rc ? rc : count_samples(d, path, e);
    if (rc)
        data_close(d);
    else
        *out = d;
    return rc;
}

int data_from_ids(
    const int32_t *ids, int64_t count, int sequence_length, struct data **out, struct err *e)
{
    struct data *d = NULL;
    int rc = data_create(sequence_length, &d, e);
    for (int64_t i = 0; !rc && i < count; i++)
        rc = tok_ids_add(&d->ids, ids[i], e);
    if (rc || (rc = count_samples(d, "ids", e))) {
        data_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void data_close(struct data *d)
{
    if (!d)
        return;
    tokens_close(&d->tokens);
    tok_ids_done(&d->ids);
    tok_ids_done(&d->tags);
    mem_free(d->first);
    mem_free(d);
}

int64_t data_samples(const struct data *d)
{
    return d->samples;
}

int64_t data_tokens(const struct data *d)
{
    return d->tokens.ids ? d->tokens.header.ids : d->ids.count;
}

uint64_t data_digest(const struct data *d)
{
    if (d->tokens.ids)
        return d->tokens.header.ids_digest;
    uint64_t ids = hash_xxh3(d->ids.id, (size_t)d->ids.count * sizeof *d->ids.id);
    if (!d->first)
        return ids;
    const uint64_t all[] = {ids, hash_xxh3(d->tags.id, (size_t)d->tags.count * sizeof *d->tags.id),
        hash_xxh3(d->first, (size_t)(d->samples + 1) * sizeof *d->first), d->names};
    return hash_xxh3(all, sizeof all);
}

void data_sample(const struct data *d, int64_t sample, int32_t *inputs, int32_t *targets)
{
    assert(sample >= 0 && sample < d->samples);
    const int32_t *ids = d->tokens.ids ? d->tokens.ids : d->ids.id;
    const int32_t *from = ids + sample * d->sequence_length;
    size_t bytes = (size_t)d->sequence_length * sizeof *from;
    memcpy(inputs, from, bytes);
    memcpy(targets, from + 1, bytes);
}

/* -- order: pure -- */

int64_t data_held_out(int64_t samples)
{
    int64_t held = samples / HELD_OUT_SHARE;
    held = held > HELD_OUT_MIN ? held : HELD_OUT_MIN;
    return held < samples / HELD_OUT_MOST ? held : samples / HELD_OUT_MOST;
}

int64_t data_sample_at(int64_t samples, uint64_t seed, int64_t position)
{
    assert(samples > 0 && position >= 0);
    uint64_t n = (uint64_t)samples, key = random_mix(random_mix(seed) + (uint64_t)position / n);
    int half = 1; /* bits; the domain is 4^half */
    while (half < 32 && (UINT64_C(1) << (2 * half)) < n)
        half++;
    uint64_t mask = (UINT64_C(1) << half) - 1, x = (uint64_t)position % n;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
            uint64_t next = left ^ (random_mix(key ^ random_mix(round << 32 ^ right)) & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= n);
    return (int64_t)x;
}

void data_share(int64_t batch, int world, int rank, int64_t *first, int64_t *count)
{
    assert(batch >= 0 && world > 0 && rank >= 0 && rank < world);
    int64_t each = batch / world, more = batch % world;
    *first = rank * each + (rank < more ? rank : more);
    *count = each + (rank < more);
}
