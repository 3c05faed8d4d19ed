/*
 * data/masked: a window of running text between what stands around a text, and what is drawn for
 * each place in it: pure functions of the seed, the draw and the place, so that neither ranks nor
 * micro-batches nor a resumed run see another text. Windows do not end at the ends of documents:
 * each holds as much text as fits (RoBERTa's FULL-SENTENCES, arXiv:1907.11692, 4.2).
 */
#include "runtime/data/internal.h"

#include "base/mem.h"
#include "base/random.h"

#include <assert.h>

enum masks_kind { MASKS_SPECIAL = 1, MASKS_CONTINUES = 2 };

enum { DRAW_CHOICE, DRAW_FATE, DRAW_TOKEN, DRAWS }; /* what is drawn for a place */

#define MASKED_OF_TEN  8 /* of ten chosen tokens so many are hidden, the next is another */
#define ANOTHER_OF_TEN 9

/* -- opening -- */

void data_masks_destroy(struct masks *m)
{
    if (m)
        mem_free(m->kinds);
    mem_free(m);
}

static int check_tokenizer(const struct tok *t, const struct data_masking *m, struct err *e)
{
    if (tok_mask(t) < 0)
        return err_set(e, ERR_USER,
            "spec.train.objective: MaskedLM needs a token that hides others, and the tokenizer of "
            "spec.model names no mask_token");
    if (m->whole_word && !tok_marks_words(t))
        return err_set(e, ERR_USER,
            "spec.train.masking.wholeWord: the tokenizer of spec.model does not mark the tokens "
            "that go on with a word");
    return 0;
}

static int create_masks(
    const struct tok *t, const struct data_masking *m, struct masks **out, struct err *e)
{
    struct masks *x = mem_zalloc(sizeof *x);
    uint8_t *kinds = mem_array((size_t)tok_vocab(t), 1);
    if (!x || !kinds) {
        mem_free(x);
        mem_free(kinds);
        return err_set(e, ERR_MEMORY, "no memory for a corpus");
    }
    for (int32_t i = 0; i < tok_vocab(t); i++)
        kinds[i] = (uint8_t)((tok_is_special(t, i) ? MASKS_SPECIAL : 0) |
            (m->whole_word && tok_continues(t, i) ? MASKS_CONTINUES : 0));
    *x = (struct masks){.seed = random_mix(m->seed),
        .limit = (uint64_t)(m->share * 0x1p32),
        .mask = tok_mask(t),
        .vocab = tok_vocab(t),
        .prefix = tok_prefix(t),
        .suffix = tok_suffix(t),
        .kinds = kinds};
    *out = x;
    return 0;
}

/* Tokens of the text in a sample. */
static int64_t window_of(const struct data *d)
{
    return d->sequence_length - d->masks->prefix->count - d->masks->suffix->count;
}

static int count_windows(struct data *d, const char *path, struct err *e)
{
    struct masks *m = d->masks;
    int64_t count = data_tokens(d);
    int n = m->prefix->count;
    if (d->tokens.rows)
        return err_set(e, ERR_USER,
            "%s: spec.train.objective: MaskedLM learns running text, and this is of conversations "
            "or completions",
            path);
    if (count >= n && !memcmp(d->tokens.ids, m->prefix->id, (size_t)n * sizeof(int32_t)))
        m->from = n; /* it stands before each sample anyway */
    d->samples = (count - m->from) / window_of(d);
    if (d->samples > 0)
        return 0;
    return err_set(e, ERR_DATA, "%s: %lld tokens, a sample needs %lld", path, (long long)count,
        (long long)window_of(d));
}

int data_open_masked(const char *path, const char *tokens, int sequence_length, const struct tok *t,
    const struct data_masking *m, struct data **out, struct err *e)
{
    struct data *d = NULL;
    int rc;
    if ((rc = check_tokenizer(t, m, e)) || (rc = data_create_tagged(sequence_length, t, &d, e)))
        return rc;
    if ((rc = create_masks(t, m, &d->masks, e)) || (rc = tokens_open(tokens, &d->tokens, e)) ||
        (rc = count_windows(d, path, e))) {
        data_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

/* -- samples -- */

struct window { /* a sample's text */
    const struct masks *m;
    const int32_t *ids; /* (n) */
    int64_t n;
    uint64_t seed; /* of the draw */
    int64_t least; /* where the word begins for which the least is drawn */
    bool few;      /* no other word is chosen */
};

/* 32 bits. */
static uint64_t drawn(const struct window *w, int64_t place, int of)
{
    return random_mix(w->seed + (uint64_t)(place * DRAWS + of) * RANDOM_STEP) >> 32;
}

static bool is_kind(const struct window *w, int64_t i, enum masks_kind kind)
{
    return w->m->kinds[w->ids[i]] & kind;
}

/* Where the word of place i begins, that of the place before it being `begin`. */
static int64_t begin_of(const struct window *w, int64_t i, int64_t begin)
{
    return i && is_kind(w, i, MASKS_CONTINUES) && !is_kind(w, i - 1, MASKS_SPECIAL) ? begin : i;
}

/* Is the token at i of a word that is chosen, which begins at `begin`? */
static bool is_chosen(const struct window *w, int64_t i, int64_t begin)
{
    if (w->few)
        return begin == w->least;
    return !is_kind(w, i, MASKS_SPECIAL) && drawn(w, begin, DRAW_CHOICE) < w->m->limit;
}

static struct window open_window(const struct data *d, int64_t draw)
{
    int64_t n = window_of(d), sample = draw % d->samples;
    assert(draw >= 0 && d->masks);
    struct window w = {.m = d->masks,
        .ids = d->tokens.ids + d->masks->from + sample * n,
        .n = n,
        .seed = random_mix(d->masks->seed + (uint64_t)draw)};
    uint64_t least = UINT64_MAX;
    for (int64_t i = 0, begin = 0; i < n; i++) {
        begin = begin_of(&w, i, begin);
        uint64_t x = is_kind(&w, i, MASKS_SPECIAL) ? UINT64_MAX : drawn(&w, begin, DRAW_CHOICE);
        if (x < least) {
            least = x;
            w.least = begin;
        }
    }
    w.few = least >= w.m->limit;
    return w;
}

int64_t data_masked_told(const struct data *d, int64_t draw)
{
    const struct window w = open_window(d, draw);
    int64_t told = 0;
    for (int64_t i = 0, begin = 0; i < w.n; i++) {
        begin = begin_of(&w, i, begin);
        told += is_chosen(&w, i, begin);
    }
    return told;
}

/* What stands in a sample where the token at i is to be told. */
static int32_t shown(const struct window *w, int64_t i)
{
    uint64_t fate = drawn(w, i, DRAW_FATE) * 10 >> 32;
    if (fate < MASKED_OF_TEN)
        return w->m->mask;
    if (fate < ANOTHER_OF_TEN)
        return (int32_t)(drawn(w, i, DRAW_TOKEN) * (uint64_t)w->m->vocab >> 32);
    return w->ids[i];
}

void data_masked_sample(const struct data *d, int64_t draw, int64_t room, int32_t *inputs,
    int32_t *targets, int32_t *length)
{
    const struct window w = open_window(d, draw);
    const struct tok_affix *prefix = w.m->prefix, *suffix = w.m->suffix;
    assert(room >= d->sequence_length);
    memset(targets, -1, (size_t)room * sizeof *targets);
    memcpy(inputs, prefix->id, (size_t)prefix->count * sizeof *inputs);
    inputs += prefix->count;
    targets += prefix->count;
    for (int64_t i = 0, begin = 0; i < w.n; i++) {
        begin = begin_of(&w, i, begin);
        bool told = is_chosen(&w, i, begin);
        inputs[i] = told ? shown(&w, i) : w.ids[i];
        targets[i] = told ? w.ids[i] : -1;
    }
    memcpy(inputs + w.n, suffix->id, (size_t)suffix->count * sizeof *inputs);
    *length = d->sequence_length;
}
