/*
 * tok_pieces: each token is cut at every character; a hash table tells whether both halves are
 * tokens, too.
 */
#include "runtime/text/tok_pieces.h"

#include "base/utf8.h"
#include "runtime/text/tok_table.h"

#include <math.h>

#define TEXT_LIMIT INT32_MAX

struct vocabulary {
    struct buf bytes;
    uint32_t *start;
    struct tok_names names;
};

struct piece_cut { /* of a token in two */
    double score;
    int32_t whole, chars; /* chars: of the first half */
    uint32_t at;          /* and its bytes */
};

struct piece_cuts {
    struct piece_cut *list;
    int64_t count, room;
};

/* As tok.c has it: what merges can make. */
static bool is_piece(const struct tok_def *d, int32_t i)
{
    return d->kinds[i] == TOK_NORMAL ||
        (d->kinds[i] == TOK_ADDED && d->flags && d->flags[i] & TOK_OF_MODEL);
}

static void vocabulary_done(struct vocabulary *v)
{
    tok_names_done(&v->names);
    mem_free(v->start);
    buf_done(&v->bytes);
}

static int vocabulary_init(
    struct vocabulary *v, const struct tok_def *d, const char *path, struct err *e)
{
    *v = (struct vocabulary){0};
    buf_init(&v->bytes, TEXT_LIMIT);
    v->start = mem_array((size_t)d->vocab + 1, sizeof *v->start);
    for (int32_t i = 0; v->start && i < d->vocab; i++) {
        v->start[i] = (uint32_t)v->bytes.len;
        if (is_piece(d, i))
            buf_add(&v->bytes, d->tokens[i].s, d->tokens[i].len);
    }
    if (!v->start || !buf_ok(&v->bytes))
        return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
    v->start[d->vocab] = (uint32_t)v->bytes.len;
    int rc = tok_names_init(&v->names, d->vocab, buf_cstr(&v->bytes), v->start, e);
    for (int32_t i = 0; !rc && i < d->vocab; i++)
        if (is_piece(d, i) && d->tokens[i].len)
            tok_names_add(&v->names, i);
    return rc;
}

static int add_cut(struct piece_cuts *c, struct piece_cut cut, const char *path, struct err *e)
{
    if (c->count == TOK_MERGES_LIMIT)
        return err_set(
            e, ERR_DATA, "%s: more than %d pairs of tokens that make one", path, TOK_MERGES_LIMIT);
    if (c->count == c->room) {
        int64_t room = c->room ? 2 * c->room : 1024;
        struct piece_cut *grown = mem_grow(c->list, (size_t)room, sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "%s: no memory for the merges", path);
        c->list = grown;
        c->room = room;
    }
    c->list[c->count++] = cut;
    return 0;
}

static int cut_token(const struct tok_def *d, int32_t i, double score, const struct vocabulary *v,
    struct piece_cuts *c, const char *path, struct err *e)
{
    struct tok_text t = d->tokens[i];
    if (isnan(score))
        return err_set(e, ERR_DATA, "%s: token %d has no score", path, i);
    if (t.len > TOK_PIECE_BYTES)
        return err_set(
            e, ERR_DATA, "%s: token %d has more than %d bytes", path, i, TOK_PIECE_BYTES);
    int rc = 0;
    size_t at = t.len ? utf8_sequence(t.s, t.len) : 0;
    for (int32_t chars = 1; !rc && at < t.len; chars++) {
        if (tok_names_find(&v->names, t.s, at) >= 0 &&
            tok_names_find(&v->names, t.s + at, t.len - at) >= 0)
            rc = add_cut(c, (struct piece_cut){score, i, chars, (uint32_t)at}, path, e);
        at += utf8_sequence(t.s + at, t.len - at);
    }
    return rc;
}

static int by_score(const void *a, const void *b)
{
    const struct piece_cut *x = a, *y = b;
    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    if (x->whole != y->whole)
        return x->whole < y->whole ? -1 : 1;
    return (x->chars > y->chars) - (x->chars < y->chars);
}

static int put_merges(
    struct tok_def *d, const struct piece_cuts *c, bool ranked, struct arena *a, struct err *e)
{
    size_t count = (size_t)c->count;
    struct tok_text(*merges)[2] = arena_array(a, count + 1, sizeof *merges);
    int32_t *ranks = ranked ? arena_array(a, count + 1, sizeof *ranks) : NULL;
    if (!merges || (ranked && !ranks))
        return err_set(e, ERR_MEMORY, "no memory for the merges");
    for (size_t i = 0; i < count; i++) {
        const struct piece_cut *x = &c->list[i];
        struct tok_text t = d->tokens[x->whole];
        merges[i][0] = (struct tok_text){t.s, x->at};
        merges[i][1] = (struct tok_text){t.s + x->at, t.len - x->at};
        if (ranked)
            ranks[i] = !i ? 0 : ranks[i - 1] + (x[-1].score > x->score);
    }
    d->merges = merges;
    d->ranks = ranks;
    d->merge_count = c->count;
    return 0;
}

static int find_cuts(const struct tok_def *d, const double *scores, struct piece_cuts *c,
    const char *path, struct err *e)
{
    struct vocabulary v;
    int rc = vocabulary_init(&v, d, path, e);
    for (int32_t i = 0; !rc && i < d->vocab; i++)
        if (is_piece(d, i))
            rc = cut_token(d, i, scores ? scores[i] : 0, &v, c, path, e);
    vocabulary_done(&v);
    return rc;
}

int tok_pieces_merges(
    struct tok_def *d, const double *scores, struct arena *a, const char *path, struct err *e)
{
    struct piece_cuts c = {0};
    int rc = find_cuts(d, scores, &c, path, e);
    if (!rc && c.count)
        qsort(c.list, (size_t)c.count, sizeof *c.list, by_score);
    if (!rc)
        rc = put_merges(d, &c, scores != NULL, a, e);
    mem_free(c.list);
    return rc;
}

/* -- the other way -- */

/* Scores fall by one from a token that merges make to the next; those of one stand together. */
static int score_merged(const struct tok_def *d, const struct vocabulary *v, float *scores,
    int32_t *made, struct err *e)
{
    int32_t before = -1;
    *made = 0;
    for (int64_t i = 0; i < d->merge_count; i++) {
        const struct tok_text *m = d->merges[i];
        char whole[2 * TOK_PIECE_BYTES];
        if (m[0].len + m[1].len > sizeof whole)
            return err_set(
                e, ERR_DATA, "merge %lld is of more than %zu bytes", (long long)i, sizeof whole);
        memcpy(whole, m[0].s, m[0].len);
        memcpy(whole + m[0].len, m[1].s, m[1].len);
        int32_t id = tok_names_find(&v->names, whole, m[0].len + m[1].len);
        if (id < 0)
            return err_set(
                e, ERR_DATA, "merge %lld is not of tokens in the vocabulary", (long long)i);
        if (id == before)
            continue;
        if (scores[id] <= 0)
            return err_set(e, ERR_DATA, "the merges of token \"%.*s\" do not stand together",
                (int)(d->tokens[id].len < 40 ? d->tokens[id].len : 40), d->tokens[id].s);
        scores[before = id] = 0 - (float)(*made)++;
    }
    return 0;
}

int tok_pieces_scores(const struct tok_def *d, float *scores, const char *path, struct err *e)
{
    struct vocabulary v;
    struct piece_cuts c = {0};
    int32_t made;
    for (int32_t i = 0; i < d->vocab; i++)
        scores[i] = 1; /* none yet */
    int rc = vocabulary_init(&v, d, path, e);
    if (!rc && (rc = score_merged(d, &v, scores, &made, e)))
        err_wrap(e, "%s: no scores say what its merges do", path);
    vocabulary_done(&v);
    if (rc || (rc = find_cuts(d, NULL, &c, path, e))) {
        mem_free(c.list);
        return rc;
    }
    mem_free(c.list);
    if (c.count != d->merge_count)
        return err_set(e, ERR_DATA,
            "%s: no scores say what its merges do: %lld pairs of its tokens make a token, and it "
            "merges %lld",
            path, (long long)c.count, (long long)d->merge_count);
    for (int32_t i = 0; i < d->vocab; i++)
        if (scores[i] > 0)
            scores[i] = 0 - (float)made;
    return 0;
}
