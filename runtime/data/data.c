/*
 * data: the corpus is tokenised once into one array; a sample is a window of it, so nothing is
 * copied but the window. The order of an epoch is a permutation computed point by point: a Feistel
 * network over the next power of four, walked until it lands inside (Black and Rogaway, "Ciphers
 * with Arbitrary Finite Domains", 2002). It needs no memory and no state, so any rank at any world
 * size computes any position. Thread: read-only after open.
 */
#include "runtime/data/internal.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "runtime/files/hash.h"

#include <assert.h>
#include <strings.h>

#define LINE_LIMIT     (64 << 20) /* bytes of one JSONL line */
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

static int add_document(
    struct data *d, const struct tok *t, const char *line, size_t len, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = json_parse(line, len, &v, e);
    if (rc)
        return rc;
    const char *text = json_str(v, "text", NULL);
    if (!text)
        return err_set(e, ERR_DATA, "no object with a string \"text\"");
    int64_t before = d->ids.count;
    rc = tok_encode_document(t, text, (int64_t)strlen(text), &d->ids, e);
    bool ended = d->ids.count > before && d->ids.id[d->ids.count - 1] == tok_eos(t);
    if (!rc && tok_eos(t) >= 0 && !ended)
        rc = tok_ids_add(&d->ids, tok_eos(t), e);
    return rc;
}

static bool blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r')
            return false;
    return true;
}

static int read_jsonl(struct data *d, const char *path, const char *text, size_t size,
    const struct tok *t, struct err *e)
{
    int64_t line = 1;
    size_t first = 0;
    while (first < size && strchr(" \t\r\n", text[first]))
        first++;
    if (first < size && text[first] == '[')
        return err_set(e, ERR_DATA,
            "%s: a JSON array, not JSONL: put each document on a line of its "
            "own, {\"text\": \"...\"}",
            path);
    for (size_t at = 0; at < size; line++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t len = end ? (size_t)(end - text) - at : size - at;
        if (len > LINE_LIMIT)
            return err_set(e, ERR_DATA, "%s: line %lld: longer than %d bytes", path,
                (long long)line, LINE_LIMIT);
        if (!blank(text + at, len) && add_document(d, t, text + at, len, e))
            return err_wrap(e, "%s: line %lld", path, (long long)line);
        at += len + 1;
    }
    return 0;
}

/* What Auto takes a file for by the end of its name. A .json may be anything: it is never
   guessed. */
static int format_of(const char *path, enum data_format *format, struct err *e)
{
    static const struct {
        const char *ending;
        enum data_format format;
    } endings[] = {
        {".txt", FORMAT_TEXT},
        {".text", FORMAT_TEXT},
        {".md", FORMAT_TEXT},
        {".jsonl", FORMAT_JSONL},
        {".ndjson", FORMAT_JSONL},
        {".conll", FORMAT_CONLL},
    };
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i].ending);
        if (n <= k || strcasecmp(path + n - k, endings[i].ending))
            continue;
        *format = endings[i].format;
        return 0;
    }
    return err_set(e, ERR_USER,
        "%s: format Auto knows .txt, .text, .md, .jsonl and .ndjson: set "
        "spec.train.data.format to Text or JSONL",
        path);
}

static int count_samples(struct data *d, const char *path, struct err *e)
{
    d->samples = d->ids.count > 0 ? (d->ids.count - 1) / d->sequence_length : 0;
    if (d->samples > 0)
        return 0;
    return err_set(e, ERR_DATA, "%s: %lld tokens, a sample needs %d", path, (long long)d->ids.count,
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

int data_text(
    const char *path, const struct io_map *map, const char **text, size_t *size, struct err *e)
{
    const char *at = (const char *)map->data;
    size_t n = map->size;
    if (n >= BOM_BYTES && !memcmp(at, BOM, BOM_BYTES)) {
        at += BOM_BYTES;
        n -= BOM_BYTES;
    }
    if (!n)
        return err_set(e, ERR_DATA, "%s: empty file", path);
    int rc = check_utf8(path, at, n, e);
    if (rc)
        return rc;
    *text = at;
    *size = n;
    return 0;
}

static int read_corpus(struct data *d, const char *path, const struct io_map *map,
    enum data_format format, const struct tok *t, struct err *e)
{
    const char *text;
    size_t size;
    int rc = data_text(path, map, &text, &size, e);
    if (rc)
        return rc;
    if (format == FORMAT_JSONL)
        rc = read_jsonl(d, path, text, size, t, e);
    else if (tok_encode_document(t, text, (int64_t)size, &d->ids, e))
        rc = err_wrap(e, "%s", path);
    return rc ? rc : count_samples(d, path, e);
}

int data_open(const char *path, enum data_format format, const struct tok *t, int sequence_length,
    struct data **out, struct err *e)
{
    struct io_map map = {0};
    struct data *d = NULL;
    int rc;
    if (format == FORMAT_AUTO && (rc = format_of(path, &format, e)))
        return rc;
    if (format == FORMAT_CONLL)
        return err_set(e, ERR_USER,
            "%s: sentences with labels are for spec.train.objective TokenClassification", path);
    rc = data_create(sequence_length, &d, e);
    if (rc)
        return rc;
    rc = io_map(path, &map, e);
    if (!rc)
        rc = read_corpus(d, path, &map, format, t, e);
    io_unmap(&map);
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
    return d->ids.count;
}

uint64_t data_digest(const struct data *d)
{
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
    const int32_t *from = d->ids.id + sample * d->sequence_length;
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
