/*
 * conll: a line is cut into columns; what has none ends a sentence when one was begun. Only blanks
 * and tabs part columns, so that a word may hold any other space of Unicode.
 */
#include "runtime/data/conll.h"

#include <stdbool.h>
#include <string.h>

#define DOCUMENT "-DOCSTART-"

struct column {
    const char *s;
    size_t len;
};

void conll_begin(struct conll *c, const char *path, const char *text, size_t size)
{
    *c = (struct conll){.path = path, .at = text, .end = text + size, .line = 1};
}

/* Columns of the line that begins at `at`, one more than CONLL_COLUMNS at most; *next: behind its
 * end. */
static int split_line(
    const char *at, const char *end, struct column out[CONLL_COLUMNS + 1], const char **next)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *stop = newline ? newline : end;
    int n = 0;
    *next = newline ? newline + 1 : end;
    if (stop > at && stop[-1] == '\r')
        stop--;
    while (n <= CONLL_COLUMNS) {
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        if (at == stop)
            return n;
        out[n].s = at;
        while (at < stop && *at != ' ' && *at != '\t')
            at++;
        out[n].len = (size_t)(at - out[n].s);
        n++;
    }
    return n;
}

static int check_columns(const struct conll *c, const struct column *x, int n, struct err *e)
{
    const struct column *label = &x[n - 1];
    long long line = c->line;
    if (n < 2 || n > CONLL_COLUMNS)
        return err_set(e, ERR_DATA, "%s: line %lld: %s, not 2 to 4 columns from word to label",
            c->path, line, n < 2 ? "one column" : "more than four columns");
    if (c->columns && n != c->columns)
        return err_set(e, ERR_DATA, "%s: line %lld: %d columns, but %d on the lines before",
            c->path, line, n, c->columns);
    if (x->len > CONLL_WORD_BYTES || label->len > CONLL_LABEL_BYTES)
        return err_set(e, ERR_DATA,
            "%s: line %lld: a word of %zu and a label of %zu bytes, and "
            "%d and %d are allowed",
            c->path, line, x->len, label->len, CONLL_WORD_BYTES, CONLL_LABEL_BYTES);
    if (memchr(x->s, 0, x->len) || memchr(label->s, 0, label->len))
        return err_set(e, ERR_DATA, "%s: line %lld: a NUL byte", c->path, line);
    return 0;
}

static bool is_document(const struct column *x, int n)
{
    return n > 0 && x->len == sizeof DOCUMENT - 1 && !memcmp(x->s, DOCUMENT, x->len);
}

int conll_next(struct conll *c, struct conll_word *out, struct err *e)
{
    bool begun = c->begun;
    while (c->at < c->end) {
        struct column x[CONLL_COLUMNS + 1];
        const char *next;
        int n = split_line(c->at, c->end, x, &next), rc = 0;
        bool parts = n == 0 || is_document(x, n);
        if (!parts && (rc = check_columns(c, x, n, e)))
            return rc;
        int64_t line = c->line++;
        c->at = next;
        if (parts && !begun)
            continue;
        c->begun = !parts;
        if (parts)
            return CONLL_SENTENCE;
        c->columns = n;
        *out = (struct conll_word){x[0].s, x[n - 1].s, (int)x[0].len, (int)x[n - 1].len, line};
        return CONLL_WORD;
    }
    c->begun = false;
    return begun ? CONLL_SENTENCE : CONLL_END;
}
