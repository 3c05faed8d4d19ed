/*
 * data/texts: texts with a label each, as tokens. A sample is a text as the tokenizer makes it,
 * special tokens included, cut to the sequence length when it is read; the label stands beside its
 * first token, so that a sample is what it is of sentences with labels (tagged.c). Several labels
 * of a text are a set, a bit each. A pair of texts is one sequence, whose tokens have types.
 */
#include "runtime/data/internal.h"

struct texts { /* while they are read */
    struct data *d;
    const struct tok *t;
    const struct data_labels *labels;
    const char *path;
};

int data_labelled_each(const char *path, enum data_format format, bool pairs,
    data_labelled_fn *each, void *user, struct err *e)
{
    data_text_auto struct data_text text = {.at = NULL};
    struct labelled from;
    struct labelled_text t;
    int rc = data_text_open(path, &text, e);
    if (rc)
        return rc;
    rc = labelled_begin(&from, path, format, pairs, text.at, text.size, e);
    while (!rc && (rc = labelled_next(&from, &t, e)) > 0)
        rc = each(user, &t, e);
    labelled_done(&from);
    return rc;
}

int data_cut_text(struct data *d, const struct tok *t, int64_t first, struct err *e)
{
    const struct tok_affix *suffix = tok_suffix(t);
    if (d->ids.count - first <= d->sequence_length)
        return 0;
    d->truncated++;
    d->ids.count = first + d->sequence_length - suffix->count;
    int rc = 0;
    for (int i = 0; i < suffix->count && !rc; i++)
        rc = tok_ids_add(&d->ids, suffix->id[i], e);
    return rc;
}

static int find_label(const struct texts *x, const struct labelled_text *t,
    const struct labelled_label *at, int *label, struct err *e)
{
    if (data_labels_find(x->labels, at->name, at->bytes, label))
        return 0;
    return err_set(e, ERR_DATA, "%s: line %lld: label \"%.*s\" was not learnt", x->path,
        (long long)t->line, at->bytes < 40 ? at->bytes : 40, at->name);
}

/* *label: of a text with one; of several the set is filled. */
static int find_labels(
    struct texts *x, const struct labelled_text *t, int *label, int32_t *set, struct err *e)
{
    struct labelled_label at = {.name = NULL};
    enum data_arity is = t->several ? DATA_ARITY_SEVERAL : DATA_ARITY_ONE;
    if (x->labels->arity != DATA_ARITY_OPEN && x->labels->arity != is)
        return err_set(e, ERR_DATA, "%s: line %lld: has %s, but what was learnt are texts with %s",
            x->path, (long long)t->line, t->several ? "\"labels\"" : "\"label\"",
            t->several ? "one label each" : "several labels");
    while (labelled_next_label(t, &at)) {
        int rc = find_label(x, t, &at, label, e);
        if (rc || !t->several)
            return rc;
        int32_t bit = (int32_t)(UINT32_C(1) << *label % 32);
        if (set[*label / 32] & bit)
            return err_set(e, ERR_DATA, "%s: line %lld: label \"%.*s\" stands twice", x->path,
                (long long)t->line, at.bytes < 40 ? at.bytes : 40, at.name);
        set[*label / 32] |= bit;
    }
    *label = -1;
    return 0;
}

static int add_set(struct data *d, const int32_t *set, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < d->set_words && !rc; i++)
        rc = tok_ids_add(&d->sets, set[i], e);
    return rc;
}

static int encode_pair(struct texts *x, const struct labelled_text *t, struct err *e)
{
    struct data *d = x->d;
    const struct tok_texts pair = {
        {t->text, t->second}, {t->text_bytes, t->second_bytes}, d->sequence_length};
    int around = tok_pair_around(x->t);
    bool cut = false;
    if (around < 0)
        return err_set(e, ERR_USER,
            "%s: line %lld: a pair of texts, and what the model's post_processor makes of pairs is "
            "not supported",
            x->path, (long long)t->line);
    if (d->sequence_length <= around)
        return err_set(e, ERR_USER,
            "%s: line %lld: a sequenceLength of %d has no room for a word: the tokenizer puts %d "
            "tokens around each pair of texts",
            x->path, (long long)t->line, d->sequence_length, around);
    if (tok_encode_pair(x->t, &pair, &d->ids, &d->types, &cut, e))
        return err_wrap(e, "%s: line %lld", x->path, (long long)t->line);
    d->truncated += cut;
    return 0;
}

static int encode_text(struct texts *x, const struct labelled_text *t, struct err *e)
{
    struct data *d = x->d;
    int64_t first = d->ids.count;
    if (t->second)
        return encode_pair(x, t, e);
    if (tok_encode_document(x->t, t->text, t->text_bytes, &d->ids, e))
        return err_wrap(e, "%s: line %lld", x->path, (long long)t->line);
    return data_cut_text(d, x->t, first, e);
}

static int add_text(void *user, const struct labelled_text *t, struct err *e)
{
    struct texts *x = user;
    struct data *d = x->d;
    int64_t first = d->ids.count;
    int32_t set[DATA_LABELS / 32] = {0};
    int label, rc = find_labels(x, t, &label, set, e);
    if (rc || (rc = encode_text(x, t, e)))
        return rc;
    if (d->ids.count == first) /* nothing of it is left */
        return 0;
    if ((rc = data_begin_sample(d, first, e)) || (rc = data_add_tags(d, label, e)) ||
        (rc = add_set(d, set, e)))
        return rc;
    d->first[++d->samples] = d->ids.count;
    return 0;
}

int data_open_texts(const char *path, enum data_format format, const struct tok *t,
    int sequence_length, const struct data_labels *labels, struct data **out, struct err *e)
{
    struct texts x = {.t = t, .labels = labels, .path = path};
    int rc = data_create_tagged(sequence_length, t, &x.d, e);
    if (rc)
        return rc;
    if (labels->arity == DATA_ARITY_SEVERAL) {
        x.d->label_count = labels->count;
        x.d->set_words = (labels->count + 31) / 32;
    }
    rc = data_labelled_each(path, format, false, add_text, &x, e);
    if (!rc && !x.d->samples)
        rc = err_set(e, ERR_DATA, "%s: no text in it", path);
    if (rc) {
        data_close(x.d);
        return rc;
    }
    data_seal_tagged(x.d, labels, t);
    *out = x.d;
    return 0;
}
