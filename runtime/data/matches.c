/*
 * data/matches: pairs of texts, as tokens. Text 2k is the first of pair k and text 2k + 1 its
 * second: they stand one behind the other as they go to the model, special tokens included, and are
 * cut to the sequence length when they are read. Texts are the same when their tokens are: no model
 * can tell them apart. Either each pair of a file has a label or none has.
 */
#include "runtime/data/internal.h"

#include "base/mem.h"
#include "runtime/files/hash.h"

#include <assert.h>
#include <math.h>

struct pair_reader { /* while they are read */
    struct data *d;
    const struct tok *t;
    const char *path;
};

/* One more of d->samples, which counts texts until all are read. */
static int add_text(
    struct pair_reader *x, const char *text, int64_t bytes, int64_t line, struct err *e)
{
    struct data *d = x->d;
    int64_t first = d->ids.count;
    int rc;
    if (tok_encode_document(x->t, text, bytes, &d->ids, e))
        return err_wrap(e, "%s: line %lld", x->path, (long long)line);
    if (d->ids.count == first)
        return err_set(e, ERR_DATA, "%s: line %lld: a text of which the tokenizer makes nothing",
            x->path, (long long)line);
    if ((rc = data_cut_text(d, x->t, first, e)) || (rc = data_begin_sample(d, first, e)))
        return rc;
    d->first[++d->samples] = d->ids.count;
    return 0;
}

/* The bits of a float as a tag, so that a digest sees it. */
static int add_label(struct pair_reader *x, double value, struct err *e)
{
    float f = (float)value;
    int32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return tok_ids_add(&x->d->tags, bits, e);
}

static int add_pair(void *user, const struct labelled_text *t, struct err *e)
{
    struct pair_reader *x = user;
    struct data *d = x->d;
    bool labelled = !isnan(t->value);
    int rc;
    if (d->samples && labelled != (d->tags.count > 0))
        return err_set(e, ERR_DATA, "%s: line %lld: %s label, unlike the pairs before it", x->path,
            (long long)t->line, labelled ? "a" : "no");
    if (d->samples > INT32_MAX - 2)
        return err_set(e, ERR_DATA, "%s: more than %d texts", x->path, INT32_MAX);
    if ((rc = add_text(x, t->text, t->text_bytes, t->line, e)) ||
        (rc = add_text(x, t->second, t->second_bytes, t->line, e)))
        return rc;
    return labelled ? add_label(x, t->value, e) : 0;
}

static bool are_same(const struct data *d, int64_t a, int64_t b)
{
    int64_t n = d->first[a + 1] - d->first[a];
    return n == d->first[b + 1] - d->first[b] &&
        !memcmp(d->ids.id + d->first[a], d->ids.id + d->first[b], (size_t)n * sizeof *d->ids.id);
}

/* The first of those that are the same as each text, by a table of texts under their digests. */
static int find_same(struct data *d, int64_t texts, struct err *e)
{
    uint64_t slots = 2;
    while (slots < 2 * (uint64_t)texts)
        slots *= 2;
    mem_autofree int32_t *table = mem_array(slots, sizeof *table); /* 1 + text; 0: free */
    d->same = mem_array((size_t)texts, sizeof *d->same);
    if (!table || !d->same)
        return err_set(e, ERR_MEMORY, "no memory for %lld texts", (long long)texts);
    for (int64_t i = 0; i < texts; i++) {
        int64_t n = d->first[i + 1] - d->first[i];
        uint64_t at = hash_xxh3(d->ids.id + d->first[i], (size_t)n * sizeof *d->ids.id);
        for (at &= slots - 1; table[at] && !are_same(d, table[at] - 1, i);)
            at = (at + 1) & (slots - 1);
        if (!table[at])
            table[at] = (int32_t)i + 1;
        d->same[i] = table[at] - 1;
    }
    return 0;
}

static int read_pairs(struct pair_reader *x, enum data_format format, struct err *e)
{
    int rc = data_labelled_each(x->path, format, true, add_pair, x, e);
    if (rc)
        return rc;
    if (!x->d->samples)
        return err_set(e, ERR_DATA, "%s: no pair in it", x->path);
    if ((rc = find_same(x->d, x->d->samples, e)))
        return rc;
    x->d->samples /= 2;
    x->d->pad = tok_pad(x->t) >= 0 ? tok_pad(x->t) : 0;
    return 0;
}

int data_open_matches(const char *path, enum data_format format, const struct tok *t,
    int sequence_length, struct data **out, struct err *e)
{
    struct pair_reader x = {.t = t, .path = path};
    int rc = data_create_tagged(sequence_length, t, &x.d, e);
    if (rc)
        return rc;
    if ((rc = read_pairs(&x, format, e))) {
        data_close(x.d);
        return rc;
    }
    *out = x.d;
    return 0;
}

/* -- samples -- */

bool data_match_labelled(const struct data *d)
{
    return d->tags.count;
}

float data_match_label(const struct data *d, int64_t pair)
{
    float f;
    assert(pair >= 0 && pair < d->tags.count);
    memcpy(&f, &d->tags.id[pair], sizeof f);
    return f;
}

int32_t data_match_same(const struct data *d, int64_t text)
{
    assert(text >= 0 && text < 2 * d->samples);
    return d->same[text];
}

int64_t data_match_length(const struct data *d, int64_t text)
{
    assert(text >= 0 && text < 2 * d->samples);
    return d->first[text + 1] - d->first[text];
}

int64_t data_match_tokens(const struct data *d, int64_t pair)
{
    return data_match_length(d, 2 * pair) + data_match_length(d, 2 * pair + 1);
}

int64_t data_match_one(const struct data *d, int64_t pair)
{
    (void)d;
    (void)pair;
    return 1;
}

void data_match_text(
    const struct data *d, int64_t text, int64_t room, int32_t *inputs, int32_t *length)
{
    int64_t n = data_match_length(d, text);
    assert(n <= room);
    memcpy(inputs, d->ids.id + d->first[text], (size_t)n * sizeof *inputs);
    for (int64_t i = n; i < room; i++)
        inputs[i] = d->pad;
    *length = (int32_t)n;
}
