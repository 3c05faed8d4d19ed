/*
 * cut: a section is walked piece by piece, a sentence or a line each, whose tokens are counted
 * once; a chunk is as many of them as fit. A piece that alone does not fit is halved.
 */
#include "runtime/retrieval/cut.h"

#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>

#define PIECE_BYTES 600 /* a longer sentence is several pieces */

struct cut_piece {
    size_t to;
    int64_t tokens;
    bool paragraph; /* it ends one */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n';
}

static size_t skip_spaces(const char *text, size_t at, size_t to)
{
    while (at < to && is_space(text[at]))
        at++;
    return at;
}

static bool ends_sentence(const char *text, size_t at, size_t to)
{
    bool stop = strchr(".!?", text[at]) && text[at];
    return text[at] == '\n' || (stop && at + 1 < to && is_space(text[at + 1]));
}

/* Where the piece that begins at `at` ends, of `most` bytes at most: behind a sentence, a line or a
   word, or, of a long one, a character. */
static size_t piece_end(const char *text, size_t at, size_t to, size_t most)
{
    size_t end = to - at < most ? to : at + most;
    for (size_t i = at; i < end; i++)
        if (ends_sentence(text, i, to))
            return text[i] == '\n' ? i : i + 1;
    if (end == to)
        return to;
    for (size_t i = end; i > at + 1; i--)
        if (is_space(text[i - 1]))
            return i - 1;
    size_t whole = utf8_whole(text + at, end - at);
    return whole ? at + whole : to;
}

/* The next piece; *p begins at `at`, which is no space. */
static int next_piece(const struct cut_conf *conf, const char *text, size_t at, size_t to,
    struct cut_piece *p, struct err *e)
{
    int64_t room = conf->most / 2;
    for (size_t most = PIECE_BYTES;; most /= 2) {
        p->to = piece_end(text, at, to, most);
        p->tokens = conf->count_fn(conf->user, text + at, p->to - at, e);
        if (p->tokens < 0)
            return (int)p->tokens;
        if (p->tokens <= room || most <= 8)
            break;
    }
    p->paragraph =
        p->to >= to || (p->to + 1 < to && text[p->to] == '\n' && text[p->to + 1] == '\n');
    return 0;
}

/* Of n pieces, those that the chunk has: up to the last paragraph's end of its second half, if it
   does not hold the rest of the section. */
static int choose_end(const struct cut_piece *p, int n, int64_t most, bool whole)
{
    int64_t sum = 0;
    int best = n;
    for (int i = 0; i < n && !whole; i++) {
        sum += p[i].tokens;
        if (p[i].paragraph && sum >= most / 2)
            best = i + 1;
    }
    return best;
}

/* The first piece of the next chunk, the first of those that stand in the overlap. */
static int choose_next(const struct cut_piece *p, int end, int64_t overlap)
{
    int64_t sum = 0;
    int next = end;
    while (next > 1 && (sum += p[next - 1].tokens) <= overlap)
        next--;
    return next;
}

static int count_title(const struct cut_conf *conf, const struct document *d,
    const struct document_section *s, int64_t *out, struct err *e)
{
    int64_t n =
        s->title ? conf->count_fn(conf->user, buf_cstr(&d->text) + s->from, s->title, e) : 0;
    if (n < 0)
        return (int)n;
    *out = n < conf->most / 4 ? n : conf->most / 4;
    return 0;
}

int cut_next(struct cutter *c, const struct cut_conf *conf, struct cut_chunk *out, struct err *e)
{
    const struct document *d = c->document;
    if (c->section >= d->count)
        return 0;
    const struct document_section *s = &d->sections[c->section];
    const char *text = buf_cstr(&d->text);
    struct cut_piece p[CUT_PIECES];
    int n = 0;
    int64_t title = 0, sum = 0;
    int rc = count_title(conf, d, s, &title, e);
    if (rc)
        return rc;
    bool first = c->at <= s->from;
    size_t from = first ? s->from : c->at;
    size_t at = first ? skip_spaces(text, s->from + s->title, s->to) : from;
    int64_t most = conf->most - title;
    while (at < s->to && n < CUT_PIECES) {
        if ((rc = next_piece(conf, text, at, s->to, &p[n], e)))
            return rc;
        if (n && sum + p[n].tokens > most)
            break;
        sum += p[n].tokens;
        at = skip_spaces(text, p[n++].to, s->to);
    }
    bool whole = at >= s->to;
    int end = choose_end(p, n, most, whole), next = choose_next(p, end, conf->overlap);
    *out = (struct cut_chunk){from, whole || !n ? s->to : p[end - 1].to, c->section};
    c->section += whole;
    c->at = whole ? 0 : skip_spaces(text, p[next - 1].to, s->to);
    return 1;
}
