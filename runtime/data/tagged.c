/*
 * data/tagged: a CoNLL file as tokens with labels. Sentences stand one behind another as
 * they go to the model, special tokens included, and are cut to the sequence length when they are
 * read. A word that the tokenizer makes nothing of takes its label with it.
 */
#include "runtime/data/internal.h"

#include "base/mem.h"
#include "runtime/data/conll.h"

#include <assert.h>

/* -- sentences -- */

struct sentences { /* while they are read */
    struct data *d;
    const struct tok *t;
    const struct data_labels *labels;
    const char *path;
    int64_t begin; /* of this one in d->ids, behind what stands before a text */
};

int data_add_tags(struct data *d, int32_t first, struct err *e)
{
    int rc = 0;
    for (int32_t tag = first; d->tags.count < d->ids.count && !rc; tag = -1)
        rc = tok_ids_add(&d->tags, tag, e);
    return rc;
}

static int add_affix(struct data *d, const struct tok_affix *x, struct err *e)
{
    for (int i = 0; i < x->count; i++) {
        int rc = tok_ids_add(&d->ids, x->id[i], e);
        if (rc)
            return rc;
    }
    return data_add_tags(d, -1, e);
}

static int add_word(struct sentences *s, const struct conll_word *w, struct err *e)
{
    int label;
    if (!data_labels_find(s->labels, w->label, w->label_bytes, &label))
        return err_set(e, ERR_DATA, "%s: line %lld: label \"%.*s\" was not learnt", s->path,
            (long long)w->line, w->label_bytes < 40 ? w->label_bytes : 40, w->label);
    if (tok_encode_word(s->t, w->word, w->word_bytes, &s->d->ids, e))
        return err_wrap(e, "%s: line %lld", s->path, (long long)w->line);
    return data_add_tags(s->d, label, e);
}

int data_begin_sample(struct data *d, int64_t first, struct err *e)
{
    if (d->samples + 1 >= d->first_capacity) {
        int64_t capacity = d->first_capacity ? 2 * d->first_capacity : 1024;
        int64_t *grown = mem_grow(d->first, (size_t)capacity, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for a corpus");
        d->first = grown;
        d->first_capacity = capacity;
    }
    d->first[d->samples] = first;
    return 0;
}

static int begin_sentence(struct sentences *s, struct err *e)
{
    struct data *d = s->d;
    int rc = data_begin_sample(d, d->ids.count, e);
    rc = rc ? rc : add_affix(d, tok_prefix(s->t), e);
    s->begin = d->ids.count;
    return rc;
}

static int end_sentence(struct sentences *s, struct err *e)
{
    struct data *d = s->d;
    int64_t most = d->first[d->samples] + d->sequence_length - tok_suffix(s->t)->count;
    if (d->ids.count == s->begin) { /* nothing of it is left */
        d->ids.count = d->tags.count = d->first[d->samples];
        return 0;
    }
    if (d->ids.count > most) {
        d->ids.count = d->tags.count = most;
        d->truncated++;
    }
    int rc = add_affix(d, tok_suffix(s->t), e);
    if (rc)
        return rc;
    d->first[++d->samples] = d->ids.count;
    return 0;
}

static int read_sentences(struct sentences *s, struct err *e)
{
    data_text_auto struct data_text text = {.at = NULL};
    int rc = data_text_open(s->path, &text, e);
    if (rc)
        return rc;
    struct conll c;
    struct conll_word w;
    bool begun = false;
    int event;
    conll_begin(&c, s->path, text.at, text.size);
    while ((event = conll_next(&c, &w, e)) > CONLL_END) {
        bool word = event == CONLL_WORD;
        if ((word && !begun && (rc = begin_sentence(s, e))) ||
            (rc = word ? add_word(s, &w, e) : end_sentence(s, e)))
            return rc;
        begun = word;
    }
    if (event)
        return event;
    if (!s->d->samples)
        return err_set(e, ERR_DATA, "%s: no sentence in it", s->path);
    return 0;
}

int data_create_tagged(int sequence_length, const struct tok *t, struct data **out, struct err *e)
{
    int around = tok_prefix(t)->count + tok_suffix(t)->count;
    if (sequence_length <= around)
        return err_set(e, ERR_USER,
            "spec.train.sequenceLength: %d has no room for a word: the tokenizer puts %d tokens "
            "around each text",
            sequence_length, around);
    return data_create(sequence_length, out, e);
}

void data_seal_tagged(struct data *d, const struct data_labels *labels, const struct tok *t)
{
    d->names = data_labels_digest(labels);
    d->pad = tok_pad(t) >= 0 ? tok_pad(t) : 0;
}

int data_open_tagged(const char *path, const struct tok *t, int sequence_length,
    const struct data_labels *labels, struct data **out, struct err *e)
{
    struct sentences s = {.t = t, .labels = labels, .path = path};
    int rc = data_create_tagged(sequence_length, t, &s.d, e);
    if (rc)
        return rc;
    if ((rc = read_sentences(&s, e))) {
        data_close(s.d);
        return rc;
    }
    data_seal_tagged(s.d, labels, t);
    *out = s.d;
    return 0;
}

/* -- samples -- */

int64_t data_tagged_truncated(const struct data *d)
{
    return d->truncated;
}

int64_t data_tagged_length(const struct data *d, int64_t sample)
{
    assert(d->first && sample >= 0 && sample < d->samples);
    return d->first[sample + 1] - d->first[sample];
}

int64_t data_tagged_labels(const struct data *d, int64_t sample)
{
    int64_t n = data_tagged_length(d, sample), labels = d->label_count;
    const int32_t *tag = d->tags.id + d->first[sample];
    for (int64_t i = 0; i < n && !d->label_count; i++)
        labels += tag[i] >= 0;
    return labels;
}

bool data_paired(const struct data *d)
{
    return d->types.count;
}

void data_tagged_types(const struct data *d, int64_t sample, int64_t room, int32_t *types)
{
    int64_t n = data_tagged_length(d, sample);
    assert(n <= room && data_paired(d));
    memcpy(types, d->types.id + d->first[sample], (size_t)n * sizeof *types);
    memset(types + n, 0, (size_t)(room - n) * sizeof *types);
}

void data_tagged_sample(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
    int32_t *labels, int32_t *length)
{
    int64_t n = data_tagged_length(d, sample);
    assert(n <= room);
    memcpy(inputs, d->ids.id + d->first[sample], (size_t)n * sizeof *inputs);
    for (int64_t i = n; i < room; i++)
        inputs[i] = d->pad;
    *length = (int32_t)n;
    const int32_t *set = d->sets.id + sample * d->set_words;
    for (int i = 0; i < d->label_count; i++)
        labels[i] = set[i / 32] >> i % 32 & 1;
    if (d->label_count)
        return;
    memcpy(labels, d->tags.id + d->first[sample], (size_t)n * sizeof *labels);
    for (int64_t i = n; i < room; i++)
        labels[i] = -1;
}
