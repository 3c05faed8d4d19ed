/*
 * tok: text is cut at added tokens that are looked for as it is written; the normaliser makes
 * another text of what lies between, which is cut at the other added tokens, then by the
 * pre-tokenizer; and the model makes ids of each piece. After creation everything is read-only; an
 * encoding's scratch is its own. Never sees a file.
 */
#include "runtime/text/tok.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/tok_added.h"
#include "runtime/text/tok_bpe.h"
#include "runtime/text/tok_def.h"
#include "runtime/text/tok_table.h"
#include "runtime/text/tok_unigram.h"
#include "runtime/text/tok_wordpiece.h"

#define TEXT_LIMIT INT32_MAX /* bytes of all tokens, of a text between added ones, ... */

struct tok {
    enum tok_model model;
    int32_t vocab, bos, eos, pad, mask;
    uint8_t *kinds;
    char *bytes;            /* of all tokens, decoded */
    uint32_t *start;        /* vocab + 1 */
    char *normal_bytes;     /* of added tokens that are looked for in normalised text */
    uint32_t *normal_start; /* vocab + 1; NULL: they are as they are written */
    struct tok_names names; /* of the model's tokens; special ones only of a Unigram */
    struct tok_bpe bpe;
    struct tok_wordpiece wordpiece;
    struct tok_unigram unigram;
    enum tok_spaces spaces;
    bool decodes_bytes;
    struct tok_steps steps;
    char *step_texts; /* what the steps point to */
    struct tok_split *step_by[TOK_STEPS_LIMIT];
    struct tok_split *split;
    struct tok_added added[TOK_ADDED_LISTS];
    struct tok_affix prefix, suffix;
    struct tok_template pair;
    bool ends_lines;   /* of BPE: no token goes on behind a newline with anything else */
    bool lines_divide; /* the normaliser makes of two lines what it makes of each */
    uint64_t digest;
};

/* -- building -- */

static int build_names(struct tok *t, const struct tok_def *d, struct err *e)
{
    int rc = tok_names_init(&t->names, t->vocab, t->bytes, t->start, e);
    if (rc)
        return rc;
    /* Of equal tokens of a BPE the first counts, else (lines of a vocab.txt) the last. */
    bool unigram = t->model == TOK_UNIGRAM, last = unigram || t->model == TOK_WORDPIECE;
    for (int32_t i = 0; i < t->vocab; i++) {
        int32_t id = last ? t->vocab - 1 - i : i;
        bool added = t->model != TOK_BPE && t->kinds[id] == TOK_ADDED && d->flags &&
            d->flags[id] & TOK_OF_MODEL;
        if (unigram ? d->flags[id] & TOK_OF_MODEL : t->kinds[id] == TOK_NORMAL || added)
            tok_names_add(&t->names, id);
    }
    return 0;
}

static int build_bytes(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    bool alphabet = d->model == TOK_BPE;
    buf_auto struct buf all;
    buf_init(&all, TEXT_LIMIT);
    for (int32_t i = 0; i < d->vocab; i++) {
        t->start[i] = (uint32_t)all.len;
        t->kinds[i] = d->kinds[i];
        if (alphabet && d->kinds[i] == TOK_NORMAL && tok_bytes(d->tokens[i], &all))
            continue;
        if (alphabet && d->kinds[i] == TOK_NORMAL) /* cannot come from bytes, so never from text */
            t->kinds[i] = TOK_UNUSED;
        buf_add(&all, d->tokens[i].s, d->tokens[i].len);
    }
    t->start[d->vocab] = (uint32_t)all.len;
    t->bytes = buf_take(&all);
    if (!t->bytes)
        return err_set(e, ERR_DATA, "%s: the vocabulary is empty or does not fit", path);
    return build_names(t, d, e);
}

static char *copy_text(struct tok_text *text, char *to)
{
    if (text->len)
        memcpy(to, text->s, text->len);
    text->s = to;
    return to + text->len;
}

static int compile_step(struct tok *t, int i, struct err *e)
{
    struct tok_step *step = &t->steps.list[i];
    mem_autofree char *pattern = mem_strndup(step->from.s, step->from.len);
    if (!pattern)
        return err_set(e, ERR_MEMORY, "no memory for a tokenizer's normaliser");
    int rc;
    if ((rc = tok_split_create(&t->step_by[i], e)) ||
        (rc = tok_split_add(t->step_by[i], pattern, TOK_SPLIT_DROP_NONE, e)))
        return rc;
    if (tok_split_matches_empty(t->step_by[i]))
        return err_set(e, ERR_DATA, "normalizer expression \"%.80s\" can match nothing", pattern);
    step->by = t->step_by[i];
    return 0;
}

static int copy_steps(struct tok *t, const struct tok_def *d, struct err *e)
{
    size_t size = 1;
    int rc;
    t->steps = d->steps;
    for (int i = 0; i < t->steps.count; i++)
        size += t->steps.list[i].from.len + t->steps.list[i].to.len;
    char *to = t->step_texts = mem_alloc(size);
    if (!to)
        return err_set(e, ERR_MEMORY, "no memory for a tokenizer's normaliser");
    for (int i = 0; i < t->steps.count; i++)
        to = copy_text(&t->steps.list[i].to, copy_text(&t->steps.list[i].from, to));
    for (int i = 0; i < t->steps.count; i++)
        if (t->steps.list[i].kind == TOK_STEP_MATCHES && (rc = compile_step(t, i, e)))
            return rc;
    return 0;
}

/* What added tokens are in normalised text. */
static int normalize_added(struct tok *t, const struct tok_def *d, struct err *e)
{
    if (!t->steps.count || !d->flags)
        return 0;
    buf_auto struct buf all;
    buf_init(&all, TEXT_LIMIT);
    t->normal_start = mem_array((size_t)d->vocab + 1, sizeof *t->normal_start);
    if (!t->normal_start)
        return err_set(e, ERR_MEMORY, "no memory for the added tokens");
    for (int32_t i = 0; i < d->vocab; i++) {
        t->normal_start[i] = (uint32_t)all.len;
        if (!(d->flags[i] & TOK_NORMALIZED))
            continue;
        const char *normal;
        size_t len;
        void *owned;
        int rc =
            tok_steps_run(&t->steps, d->tokens[i].s, d->tokens[i].len, &normal, &len, &owned, e);
        if (rc)
            return rc;
        buf_add(&all, normal, len);
        mem_free(owned);
    }
    t->normal_start[d->vocab] = (uint32_t)all.len;
    t->normal_bytes = buf_take(&all);
    return t->normal_bytes ? 0 : err_set(e, ERR_MEMORY, "no memory for the added tokens");
}

static int build_added(struct tok *t, const struct tok_def *d, struct err *e)
{
    int rc = normalize_added(t, d, e);
    for (int k = 0; !rc && k < TOK_ADDED_LISTS; k++) {
        bool normal = k == TOK_ADDED_NORMALIZED && t->normal_start;
        rc = tok_added_init(&t->added[k], d, normal ? t->normal_bytes : t->bytes,
            normal ? t->normal_start : t->start, (enum tok_added_list)k, e);
    }
    return rc;
}

static int build_split(struct tok *t, const struct tok_def *d, struct err *e)
{
    int rc = tok_split_create(&t->split, e);
    for (int i = 0; !rc && i < d->stage_count; i++)
        rc = tok_split_add(t->split, d->stages[i].pattern, d->stages[i].drop, e);
    return rc;
}

#define NEWLINE_BYTE "<0x0A>" /* a token of its own */

/* A newline, then another character. */
static bool goes_on(const char *s, size_t len)
{
    const char *end = s + len;
    for (const char *at = s; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        if (at + 1 < end && at[1] != '\n')
            return true;
    return len > strlen(NEWLINE_BYTE) && memmem(s, len, NEWLINE_BYTE, strlen(NEWLINE_BYTE));
}

/* An unknown newline might become one with unknown characters beside it. */
static bool ends_lines(const struct tok *t)
{
    bool known = !t->bpe.of_chars || t->bpe.chars.byte_fallback;
    if (t->model == TOK_WORDPIECE || t->model == TOK_UNIGRAM || t->spaces || t->bpe.ignore_merges ||
        (!(known && t->bpe.byte_id['\n'] >= 0) && tok_names_find(&t->names, "\n", 1) < 0))
        return false;
    for (int32_t i = 0; i < t->vocab; i++)
        if (t->kinds[i] != TOK_UNUSED &&
            goes_on(t->bytes + t->start[i], t->start[i + 1] - t->start[i]))
            return false;
    return true;
}

/* Each step goes character by character and leaves a newline one; and nothing is looked for in what
   they make. */
static bool lines_divide(const struct tok *t)
{
    for (int i = 0; i < t->steps.count; i++) {
        const struct tok_step *s = &t->steps.list[i];
        bool one = s->from.len && utf8_sequence(s->from.s, s->from.len) == s->from.len;
        if (s->kind == TOK_STEP_CLEAN || s->kind == TOK_STEP_NMT || s->kind == TOK_STEP_TRIM_LEFT ||
            s->kind == TOK_STEP_TRIM_RIGHT || s->kind == TOK_STEP_MATCHES ||
            s->kind == TOK_STEP_LONGEST || s->kind == TOK_STEP_SPACES ||
            (s->kind == TOK_STEP_REPLACE && (!one || *s->from.s == '\n')))
            return false;
    }
    return !t->added[TOK_ADDED_NORMALIZED].count;
}

static int build(struct tok *t, const struct tok_def *d, const char *path, struct err *e)
{
    int rc;
    if (!t->start || !t->kinds)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    if ((rc = build_bytes(t, d, path, e)))
        return rc;
    if (d->model == TOK_WORDPIECE)
        rc = tok_wordpiece_init(&t->wordpiece, d, &t->names, e);
    else if (d->model == TOK_UNIGRAM)
        rc = tok_unigram_init(&t->unigram, d, &t->names, t->kinds, e);
    else
        rc = tok_bpe_init(&t->bpe, d, &t->names, path, e);
    if (rc)
        return rc;
    if ((rc = copy_steps(t, d, e)) || (rc = build_added(t, d, e)) || (rc = build_split(t, d, e)))
        return err_wrap(e, "%s", path);
    t->ends_lines = ends_lines(t);
    t->lines_divide = lines_divide(t);
    t->digest = tok_def_digest(d);
    return 0;
}

int tok_create(const struct tok_def *d, const char *path, struct tok **out, struct err *e)
{
    struct tok *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    t->model = d->model;
    t->spaces = d->spaces;
    t->decodes_bytes = d->chars.decodes_bytes;
    t->vocab = d->vocab;
    t->bos = d->bos;
    t->eos = d->eos;
    t->pad = d->pad;
    t->mask = d->mask;
    t->prefix = d->prefix;
    t->suffix = d->suffix;
    t->pair = d->pair;
    t->start = mem_array((size_t)d->vocab + 1, sizeof *t->start);
    t->kinds = mem_array((size_t)d->vocab + 1, sizeof *t->kinds);
    int rc = build(t, d, path, e);
    if (rc)
        tok_close(t);
    else
        *out = t;
    return rc;
}

void tok_close(struct tok *t)
{
    if (!t)
        return;
    tok_split_destroy(t->split);
    tok_names_done(&t->names);
    tok_bpe_done(&t->bpe);
    tok_wordpiece_done(&t->wordpiece);
    tok_unigram_done(&t->unigram);
    for (int i = 0; i < TOK_STEPS_LIMIT; i++)
        tok_split_destroy(t->step_by[i]);
    for (int k = 0; k < TOK_ADDED_LISTS; k++)
        tok_added_done(&t->added[k]);
    mem_free(t->step_texts);
    mem_free(t->normal_bytes);
    mem_free(t->normal_start);
    mem_free(t->kinds);
    mem_free(t->start);
    mem_free(t->bytes);
    mem_free(t);
}

/* -- encoding -- */

struct encoding {
    const struct tok *tok;
    struct tok_ids *out;
    struct tok_bpe_work work;
    struct tok_unigram_work unigram;
    struct buf marked;  /* a piece with its spaces marked */
    const char *raw_at; /* where the text begins */
    const char *origin; /* and where its normal form does, if that is what is being encoded */
    bool special, guarded;
    size_t part; /* bytes of a text that is taken in parts; 0: whole */
    int (*part_fn)(void *context, const char *at, struct err *e);
    void *context;
    const char *raw; /* the text that is used up when its normal form is; NULL: it has none */
};

void tok_ids_done(struct tok_ids *ids)
{
    mem_free(ids->id);
    *ids = (struct tok_ids){0};
}

int tok_ids_add(struct tok_ids *out, int32_t id, struct err *e)
{
    if (out->count == out->capacity) {
        int64_t capacity = out->capacity ? 2 * out->capacity : 64;
        int32_t *grown = mem_grow(out->id, (size_t)capacity, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for %lld tokens", (long long)capacity);
        out->id = grown;
        out->capacity = capacity;
    }
    out->id[out->count++] = id;
    return 0;
}

static bool begins_marked(const char *s, size_t len)
{
    return *s == ' ' || (len >= strlen(TOK_SPACE) && !memcmp(s, TOK_SPACE, strlen(TOK_SPACE)));
}

/* A piece as SentencePiece has it. (What the stage for spaces cuts off begins with one, but for the
   first of what it cuts.) */
static int mark_spaces(struct encoding *n, const char **piece, size_t *len, struct err *e)
{
    const char *s = *piece, *end = s + *len;
    enum tok_spaces how = n->tok->spaces;
    bool wanted =
        how == TOK_SPACES_BEFORE_ALL || (how == TOK_SPACES_BEFORE_FIRST && s == n->origin);
    bool before = wanted && !begins_marked(s, *len);
    if (!before && !memchr(s, ' ', *len))
        return 0;
    buf_reset(&n->marked);
    buf_str(&n->marked, before ? TOK_SPACE : "");
    for (const char *at; (at = memchr(s, ' ', (size_t)(end - s))); s = at + 1) {
        buf_add(&n->marked, s, (size_t)(at - s));
        buf_str(&n->marked, TOK_SPACE);
    }
    if (buf_add(&n->marked, s, (size_t)(end - s)))
        return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", *len);
    *piece = n->marked.data;
    *len = n->marked.len;
    return 0;
}

static int encode_piece(void *context, const char *piece, size_t len, struct err *e)
{
    struct encoding *n = context;
    int rc = n->tok->spaces && len ? mark_spaces(n, &piece, &len, e) : 0;
    if (rc)
        return rc;
    if (n->tok->model == TOK_UNIGRAM)
        return tok_unigram_encode(
            &n->tok->unigram, &n->unigram, piece, len, n->special && !n->guarded, n->out, e);
    if (n->tok->model == TOK_WORDPIECE)
        return tok_wordpiece_encode(&n->tok->wordpiece, piece, len, n->out, e);
    return tok_bpe_encode(&n->tok->bpe, &n->work, piece, len, n->out, e);
}

/* Text is used up, as far as `at`. */
static int end_part(struct encoding *n, const char *at, struct err *e)
{
    return n->part_fn(n->context, n->raw ? n->raw : at, e);
}

/* Behind the last newline that something else follows; at: there is none. */
static size_t last_line(const char *text, size_t at, size_t len)
{
    for (size_t i = len; i > at + 1; i--)
        if (text[i - 2] == '\n' && text[i - 1] != '\n')
            return i - 1;
    return at;
}

/* Tokens of text[at .. len), which goes on behind len, as far as that cannot change them; *done:
   where they end. */
static int encode_some(
    struct encoding *n, const char *text, size_t at, size_t len, size_t *done, struct err *e)
{
    if (tok_split_any(n->tok->split))
        return tok_split_some(n->tok->split, text, at, len, done, encode_piece, n, e);
    *done = n->tok->ends_lines ? last_line(text, at, len) : at;
    return *done > at ? encode_piece(n, text + at, *done - at, e) : 0;
}

/* What of len bytes, behind which text goes on, is whole characters. */
static size_t whole_chars(const char *text, size_t len)
{
    while (len && ((uint8_t)text[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static int encode_long_words(struct encoding *n, const char *text, size_t len, struct err *e)
{
    size_t at = 0, part = n->part;
    while (len - at > part) {
        size_t done;
        int rc = encode_some(n, text, at, whole_chars(text, at + part), &done, e);
        if (rc || (done > at && (rc = end_part(n, text + done, e))))
            return rc;
        part = done > at ? n->part : 2 * part;
        at = done;
    }
    return tok_split_rest(n->tok->split, text, at, len, encode_piece, n, e);
}

/* What lies between added tokens. */
static int encode_words(struct encoding *n, const char *text, size_t len, struct err *e)
{
    if (n->part && len > n->part)
        return encode_long_words(n, text, len, e);
    return tok_split_run(n->tok->split, text, len, encode_piece, n, e);
}

/* Appends the normal form of a part of a text. *begins: nothing has come of the parts before it, so
   that what the normaliser puts before a text still has its place. */
static int add_normal(
    struct encoding *n, const char *text, size_t len, bool *begins, struct buf *out, struct err *e)
{
    struct tok_steps steps = {.count = 0};
    void *owned = NULL;
    for (int i = 0; i < n->tok->steps.count; i++)
        if (*begins || n->tok->steps.list[i].kind != TOK_STEP_PREPEND)
            steps.list[steps.count++] = n->tok->steps.list[i];
    int rc = tok_steps_run(&steps, text, len, &text, &len, &owned, e);
    if (!rc && buf_add(out, text, len))
        rc = err_set(e, ERR_MEMORY, "no memory to normalise %zu bytes", len);
    *begins = *begins && !len;
    mem_free(owned);
    return rc;
}

/* A text whose lines may be normalised one by one. */
static int encode_long_plain(struct encoding *n, const char *text, size_t len, struct err *e)
{
    size_t behind = tok_split_behind(n->tok->split), from = 0, part = n->part;
    bool begins = true, first = text == n->raw_at;
    buf_auto struct buf normal; /* from `from` on still to be tokenised */
    buf_init(&normal, TEXT_LIMIT);
    for (size_t at = 0, to, done; at < len; at = to) {
        to = len - at > part ? last_line(text, at, at + part) : len;
        part = to > at ? n->part : 2 * part;
        if (to == at)
            continue;
        int rc = add_normal(n, text + at, to - at, &begins, &normal, e);
        if (rc)
            return rc;
        const char *s = buf_cstr(&normal);
        n->origin = first ? s : NULL;
        if (to == len)
            return tok_split_rest(n->tok->split, s, from, normal.len, encode_piece, n, e);
        if ((rc = encode_some(n, s, from, normal.len, &done, e)) ||
            (rc = n->part_fn(n->context, text + to, e)))
            return rc;
        first = first && !done;
        size_t keep = done > behind ? whole_chars(s, done - behind) : 0;
        buf_drop(&normal, keep);
        from = done - keep;
    }
    return 0;
}

/* text between tokens of `added` by between_fn. */
static int encode_around(struct encoding *n, enum tok_added_list list, bool special,
    const char *text, size_t len,
    int (*between_fn)(struct encoding *, const char *, size_t, struct err *), struct err *e)
{
    struct tok_match m;
    size_t at = 0;
    for (; tok_added_next(&n->tok->added[list], text, len, at, special, &m); at = m.to) {
        int rc;
        if ((rc = between_fn(n, text + at, m.from - at, e)) || (rc = tok_ids_add(n->out, m.id, e)))
            return rc;
        if (n->part && n->out->count > (int64_t)n->part && (rc = end_part(n, text + m.to, e)))
            return rc;
    }
    return between_fn(n, text + at, len - at, e);
}

/* Of a guarded text all special tokens have been found by now: none may come from normalising. */
static int encode_plain(struct encoding *n, const char *text, size_t len, struct err *e)
{
    if (n->part && len > n->part && n->tok->steps.count && n->tok->lines_divide)
        return encode_long_plain(n, text, len, e);
    const char *raw = text;
    bool first = text == n->raw_at;
    buf_auto struct buf clean;
    buf_init(&clean, TEXT_LIMIT);
    if (n->guarded) {
        if (tok_added_unguard(text, len, &clean))
            return err_set(e, ERR_MEMORY, "no memory to tokenise %zu bytes", len);
        text = buf_cstr(&clean);
        len = clean.len;
    }
    void *owned = NULL;
    int rc = tok_steps_run(&n->tok->steps, text, len, &text, &len, &owned, e);
    n->raw = owned ? raw : NULL;
    n->origin = first ? text : NULL;
    if (!rc)
        rc = encode_around(
            n, TOK_ADDED_NORMALIZED, n->special && !n->guarded, text, len, encode_words, e);
    n->raw = NULL;
    mem_free(owned);
    return rc;
}

static int encode(struct encoding *n, const char *text, int64_t len, struct err *e)
{
    size_t size = (size_t)len;
    size_t valid = n->part ? size : utf8_valid_prefix(text, size); /* in parts: it was checked */
    if (valid < size)
        return err_set(e, ERR_DATA, "invalid UTF-8 at byte %zu", valid);
    int64_t before_count = n->out->count;
    buf_init(&n->marked, TEXT_LIMIT);
    n->raw_at = text;
    int rc = encode_around(n, n->guarded ? TOK_ADDED_GUARDED : TOK_ADDED_AS_IS, n->special, text,
        size, encode_plain, e);
    tok_bpe_work_done(&n->work);
    tok_unigram_work_done(&n->unigram);
    buf_done(&n->marked);
    if (rc && !n->part)
        n->out->count = before_count;
    return rc;
}

int tok_encode(const struct tok *t, const char *text, int64_t len, bool special,
    struct tok_ids *out, struct err *e)
{
    return encode(&(struct encoding){.tok = t, .out = out, .special = special}, text, len, e);
}

static int add_affix(const struct tok_affix *affix, struct tok_ids *out, struct err *e)
{
    int rc = 0;
    for (int i = 0; !rc && i < affix->count; i++)
        rc = tok_ids_add(out, affix->id[i], e);
    return rc;
}

int tok_encode_document(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e)
{
    int64_t before_count = out->count;
    int rc;
    if ((rc = add_affix(&t->prefix, out, e)) || (rc = tok_encode(t, text, len, true, out, e)) ||
        (rc = add_affix(&t->suffix, out, e)))
        out->count = before_count;
    return rc;
}

int tok_encode_parts(const struct tok *t, const char *text, int64_t len, size_t part,
    struct tok_ids *out, int (*part_fn)(void *context, const char *at, struct err *e),
    void *context, struct err *e)
{
    struct encoding n = {.tok = t,
        .out = out,
        .special = true,
        .part = part,
        .part_fn = part_fn,
        .context = context};
    int rc;
    if ((rc = add_affix(&t->prefix, out, e)) || (rc = encode(&n, text, len, e)))
        return rc;
    return add_affix(&t->suffix, out, e);
}

int tok_encode_word(
    const struct tok *t, const char *word, int64_t len, struct tok_ids *out, struct err *e)
{
    return tok_encode(t, word, len, true, out, e);
}

int tok_guard(const struct tok *t, const char *text, size_t len, struct buf *out)
{
    return tok_added_guard(&t->added[TOK_ADDED_GUARDED], text, len, out);
}

int tok_encode_guarded(
    const struct tok *t, const char *text, int64_t len, struct tok_ids *out, struct err *e)
{
    return encode(
        &(struct encoding){.tok = t, .out = out, .special = true, .guarded = true}, text, len, e);
}

/* -- the rest -- */

int tok_decode(const struct tok *t, int32_t id, bool skip_special, struct buf *out)
{
    if (id < 0 || id >= t->vocab || (skip_special && t->kinds[id] == TOK_SPECIAL))
        return 0;
    const char *token = t->bytes + t->start[id];
    size_t len = t->start[id + 1] - t->start[id];
    if (t->model == TOK_WORDPIECE && t->kinds[id] != TOK_UNUSED)
        return tok_wordpiece_decode(&t->wordpiece, token, len, out);
    if (t->model == TOK_UNIGRAM)
        return tok_chars_decode(t->decodes_bytes, token, len, out);
    return tok_bpe_decode(&t->bpe, token, len, out);
}

bool tok_is_special(const struct tok *t, int32_t id)
{
    return id >= 0 && id < t->vocab && t->kinds[id] == TOK_SPECIAL;
}

int32_t tok_vocab(const struct tok *t)
{
    return t->vocab;
}

int32_t tok_bos(const struct tok *t)
{
    return t->bos;
}

int32_t tok_eos(const struct tok *t)
{
    return t->eos;
}

uint64_t tok_digest(const struct tok *t)
{
    return t->digest;
}

int32_t tok_pad(const struct tok *t)
{
    return t->pad;
}

int32_t tok_mask(const struct tok *t)
{
    return t->mask;
}

bool tok_marks_words(const struct tok *t)
{
    return t->model == TOK_WORDPIECE && t->wordpiece.prefix_len;
}

bool tok_continues(const struct tok *t, int32_t id)
{
    size_t n = t->wordpiece.prefix_len;
    return tok_marks_words(t) && id >= 0 && id < t->vocab && t->kinds[id] == TOK_NORMAL &&
        t->start[id + 1] - t->start[id] > n &&
        !memcmp(t->bytes + t->start[id], t->wordpiece.prefix, n);
}

const struct tok_affix *tok_prefix(const struct tok *t)
{
    return &t->prefix;
}

const struct tok_affix *tok_suffix(const struct tok *t)
{
    return &t->suffix;
}

const struct tok_template *tok_pair_template(const struct tok *t)
{
    return &t->pair;
}
