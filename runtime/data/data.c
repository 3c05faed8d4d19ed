/*
 * data: the corpus is one array of ids, mapped; a sample is a window of it, so nothing is
 * copied but the window. The order of an epoch is a permutation computed point by point: a Feistel
 * network over the next power of four, walked until it lands inside (Black and Rogaway, "Ciphers
 * with Arbitrary Finite Domains", 2002). It needs no memory and no state, so any rank at any world
 * size computes any position. Thread: read-only after open.
 */
#include "runtime/data/internal.h"
#include "runtime/data/source.h"

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

/* Of a row's tokens those that are looked at: one more than there are inputs. */
static int64_t row_tokens(const struct data *d, int64_t row)
{
    const struct tokens *t = &d->tokens;
    int64_t end = row + 1 < t->header.rows ? t->rows[row + 1].first : t->header.ids;
    int64_t n = end - t->rows[row].first;
    return n <= d->sequence_length ? n : d->sequence_length + 1;
}

static int pack_rows(struct data *d, struct err *e)
{
    const struct tokens *t = &d->tokens;
    mem_autofree int32_t *sizes = mem_array((size_t)t->header.rows, sizeof *sizes);
    if (!sizes)
        return err_set(e, ERR_MEMORY, "no memory for %lld documents", (long long)t->header.rows);
    for (int64_t i = 0; i < t->header.rows; i++)
        sizes[i] = t->rows[i].learnt <= d->sequence_length ? (int32_t)(row_tokens(d, i) - 1) : -1;
    int rc = packing_create(sizes, t->header.rows, d->sequence_length, &d->packing, e);
    if (!rc)
        d->samples = d->packing.samples;
    return rc;
}

/* Does anything remain to be learnt of all the rows from `row` on that are one sample? */
static bool row_counts(const struct data *d, int64_t row)
{
    const struct tokens_row *r = d->tokens.rows + row;
    int64_t most = d->sequence_length;
    return r[0].learnt <= most && (!d->pairs || r[1].learnt <= most);
}

/* Rows that are longer are cut, and one of which nothing that is learnt is left is no sample. */
static int choose_rows(struct data *d, const char *path, struct err *e)
{
    const struct tokens *t = &d->tokens;
    int64_t most = d->sequence_length, step = d->pairs ? 2 : 1;
    if (t->header.rows % step)
        return err_set(e, ERR_CORRUPT, "%s: its tokens are no pairs", path);
    for (int64_t i = 0; i < t->header.rows; i++) {
        int64_t end = i + 1 < t->header.rows ? t->rows[i + 1].first : t->header.ids;
        d->truncated += end - t->rows[i].first > most + 1;
        d->samples += i % step == 0 && row_counts(d, i);
    }
    if (!d->samples)
        return err_set(e, ERR_DATA,
            "%s: spec.train.sequenceLength: within %d tokens of a document nothing is learnt", path,
            d->sequence_length);
    d->dropped = t->header.rows / step - d->samples;
    if (d->packed)
        return pack_rows(d, e);
    if (!d->dropped)
        return 0;
    d->chosen = mem_array((size_t)d->samples, sizeof *d->chosen);
    if (!d->chosen)
        return err_set(e, ERR_MEMORY, "no memory for %lld documents", (long long)d->samples);
    for (int64_t i = 0, n = 0; i < t->header.rows; i += step)
        if (row_counts(d, i))
            d->chosen[n++] = i / step;
    return 0;
}

static int count_samples(struct data *d, const char *path, struct err *e)
{
    if (d->tokens.rows)
        return choose_rows(d, path, e);
    if (d->packed)
        return err_set(e, ERR_USER,
            "%s: spec.train.data.packing: only allowed with conversations and completions; running "
            "text fills every sequence",
            path);
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

int data_text_open(const char *path, struct data_text *out, struct err *e)
{
    struct data_text t = {.at = NULL};
    int rc = source_map(path, NULL, NULL, &t.map, e);
    if (rc)
        return rc;
    data_skip_mark(&t.map, &t.at, &t.size);
    rc = t.size ? check_utf8(path, t.at, t.size, e) : err_set(e, ERR_DATA, "%s: empty file", path);
    if (rc)
        io_unmap(&t.map);
    else
        *out = t;
    return rc;
}

void data_text_done(struct data_text *t)
{
    io_unmap(&t->map);
}

static int open_tokens(
    struct data *d, const char *path, const char *tokens, struct data **out, struct err *e)
{
    int rc = tokens_open(tokens, &d->tokens, e);
    rc = rc ? rc : count_samples(d, path, e);
    if (rc)
        data_close(d);
    else
        *out = d;
    return rc;
}

int data_open(const char *path, const char *tokens, int sequence_length, bool packed,
    struct data **out, struct err *e)
{
    struct data *d = NULL;
    int rc = data_create(sequence_length, &d, e);
    if (rc)
        return rc;
    d->packed = packed;
    return open_tokens(d, path, tokens, out, e);
}

int data_open_pairs(
    const char *path, const char *tokens, int sequence_length, struct data **out, struct err *e)
{
    struct data *d = NULL;
    int rc = data_create(sequence_length, &d, e);
    if (rc)
        return rc;
    d->pairs = true;
    return open_tokens(d, path, tokens, out, e);
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
    tok_ids_done(&d->types);
    tok_ids_done(&d->sets);
    mem_free(d->first);
    mem_free(d->same);
    mem_free(d->chosen);
    packing_done(&d->packing);
    data_masks_destroy(d->masks);
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
    const struct tokens_header *h = &d->tokens.header;
    const uint64_t both[] = {h->ids_digest, h->rows_digest};
    if (d->tokens.ids)
        return d->tokens.rows ? hash_xxh3(both, sizeof both) : h->ids_digest;
    uint64_t ids = hash_xxh3(d->ids.id, (size_t)d->ids.count * sizeof *d->ids.id);
    if (!d->first)
        return ids;
    int64_t rows = d->same ? 2 * d->samples : d->samples;
    const uint64_t all[] = {ids, hash_xxh3(d->tags.id, (size_t)d->tags.count * sizeof *d->tags.id),
        hash_xxh3(d->first, (size_t)(rows + 1) * sizeof *d->first), d->names};
    uint64_t digest = hash_xxh3(all, sizeof all);
    const struct tok_ids *const more[] = {&d->sets, &d->types};
    for (int i = 0; i < 2; i++) {
        const struct tok_ids *x = more[i];
        const uint64_t two[] = {digest, hash_xxh3(x->id, (size_t)x->count * sizeof *x->id)};
        digest = x->count ? hash_xxh3(two, sizeof two) : digest;
    }
    return digest;
}

int64_t data_truncated(const struct data *d)
{
    return d->truncated;
}

int64_t data_dropped(const struct data *d)
{
    return d->dropped;
}

/* How many rows a sample has; the i-th is row_at. */
static int64_t rows_of(const struct data *d, int64_t sample)
{
    assert(sample >= 0 && sample < d->samples);
    if (d->pairs)
        return 2;
    return d->packed ? d->packing.begin[sample + 1] - d->packing.begin[sample] : 1;
}

static int64_t row_at(const struct data *d, int64_t sample, int64_t i)
{
    if (d->packed)
        return d->packing.rows[d->packing.begin[sample] + i];
    int64_t row = d->chosen ? d->chosen[sample] : sample;
    return d->pairs ? 2 * row + i : row;
}

int64_t data_length(const struct data *d, int64_t sample)
{
    if (!d->tokens.rows)
        return d->sequence_length;
    int64_t sum = 0, n = rows_of(d, sample);
    for (int64_t i = 0; i < n; i++)
        sum += row_tokens(d, row_at(d, sample, i)) - 1;
    return sum;
}

static int64_t row_learnt(const struct data *d, int64_t row)
{
    const int32_t *ids = d->tokens.ids + d->tokens.rows[row].first;
    int64_t n = row_tokens(d, row), count = 0;
    for (int64_t i = 1; i < n; i++)
        count += ids[i] >= 0;
    return count;
}

int64_t data_learnt(const struct data *d, int64_t sample)
{
    if (!d->tokens.rows)
        return d->sequence_length;
    int64_t sum = 0, n = rows_of(d, sample);
    for (int64_t i = 0; i < n; i++)
        sum += row_learnt(d, row_at(d, sample, i));
    return sum;
}

/* Returns how many. */
static int64_t fill_row(const struct data *d, int64_t row, int32_t *inputs, int32_t *targets)
{
    const int32_t *ids = d->tokens.ids + d->tokens.rows[row].first;
    int64_t n = row_tokens(d, row) - 1;
    for (int64_t i = 0; i < n; i++) {
        inputs[i] = ids[i] < 0 ? ~ids[i] : ids[i];
        targets[i] = ids[i + 1] < 0 ? -1 : ids[i + 1];
    }
    return n;
}

static void pad_row(int64_t from, int64_t room, int32_t *inputs, int32_t *targets)
{
    for (int64_t at = from; at < room; at++) {
        inputs[at] = 0;
        targets[at] = -1;
    }
}

static void fill_rows(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *length)
{
    int64_t at = 0, n = rows_of(d, sample);
    assert(data_length(d, sample) <= room);
    for (int64_t i = 0; i < n; i++)
        at += fill_row(d, row_at(d, sample, i), inputs + at, targets + at);
    *length = (int32_t)at;
    pad_row(at, room, inputs, targets);
}

int64_t data_pair_longest(const struct data *d, int64_t sample)
{
    int64_t a = row_tokens(d, row_at(d, sample, 0)), b = row_tokens(d, row_at(d, sample, 1));
    return (a > b ? a : b) - 1;
}

void data_pair_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *lengths)
{
    assert(d->pairs && data_pair_longest(d, sample) <= room);
    for (int64_t i = 0; i < 2; i++, inputs += room, targets += room) {
        int64_t n = fill_row(d, row_at(d, sample, i), inputs, targets);
        lengths[i] = (int32_t)n;
        pad_row(n, room, inputs, targets);
    }
}

bool data_packed(const struct data *d)
{
    return d->packed;
}

void data_first(const struct data *d, int64_t sample, int64_t room, int32_t *first)
{
    int64_t at = 0, n = rows_of(d, sample);
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = at, end = at + row_tokens(d, row_at(d, sample, i)) - 1;
        while (at < end)
            first[at++] = (int32_t)begin;
    }
    for (int64_t end = at; at < room; at++)
        first[at] = (int32_t)end;
}

void data_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *length)
{
    assert(sample >= 0 && sample < d->samples);
    if (d->tokens.rows) {
        fill_rows(d, sample, room, inputs, targets, length);
        return;
    }
    const int32_t *ids = d->tokens.ids ? d->tokens.ids : d->ids.id;
    const int32_t *from = ids + sample * d->sequence_length;
    size_t bytes = (size_t)d->sequence_length * sizeof *from;
    assert(room >= d->sequence_length);
    memcpy(inputs, from, bytes);
    memcpy(targets, from + 1, bytes);
    *length = d->sequence_length;
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
