/*
 * document: the writer that readers share, and those of plain text, Markdown and JSON lines.
 * Sections are closed when the next one begins.
 */
#include "runtime/retrieval/document_internal.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define UNDERLINE  3              /* characters of a heading's, at least */
#define CODE       4              /* spaces before a line of Markdown that is kept as it is */
#define LINK_BYTES ((size_t)1024) /* of one, at most */

enum document_kind document_kind_of(const char *name)
{
    static const struct {
        const char *ending;
        enum document_kind kind;
    } kinds[] = {{".txt", DOCUMENT_TEXT}, {".md", DOCUMENT_MARKDOWN},
        {".markdown", DOCUMENT_MARKDOWN}, {".html", DOCUMENT_HTML}, {".htm", DOCUMENT_HTML},
        {".jsonl", DOCUMENT_JSONL}};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcasecmp(dot, kinds[i].ending))
            return kinds[i].kind;
    return DOCUMENT_NONE;
}

/* -- writing -- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

void document_begin(struct document_out *o, struct document *to)
{
    *o = (struct document_out){.to = to};
    buf_init(&o->line, DOCUMENT_BYTES);
}

void document_add(struct document_out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct buf *b = &o->line;
        if (!is_space(text[i]))
            buf_char(b, text[i]);
        else if (b->len && !is_space(b->data[b->len - 1]))
            buf_char(b, ' ');
    }
}

void document_add_raw(struct document_out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != '\r' && text[i] != '\f')
            buf_char(&o->line, text[i] == '\t' ? ' ' : text[i]);
}

static void trim(struct buf *b)
{
    while (b->len && is_space(b->data[b->len - 1]))
        b->data[--b->len] = 0;
}

void document_break(struct document_out *o)
{
    trim(&o->line);
    if (o->line.len)
        buf_char(&o->line, '\n');
}

/* NULL: no memory, which the text then says. */
static struct document_section *new_section(struct document *d)
{
    if (d->count == d->capacity) {
        size_t n = d->capacity ? 2 * d->capacity : 16;
        void *more = mem_grow(d->sections, n, sizeof *d->sections);
        if (!more) {
            d->text.failed = true;
            return NULL;
        }
        d->sections = more;
        d->capacity = n;
    }
    return &d->sections[d->count++];
}

static void put_paragraph(struct document *d, const struct buf *line, bool title)
{
    size_t len = line->len;
    if (title && len > DOCUMENT_TITLE)
        len = utf8_whole(line->data, DOCUMENT_TITLE);
    if (d->text.len)
        buf_str(&d->text, "\n\n");
    size_t from = d->text.len;
    buf_add(&d->text, line->data, len);
    if (title || !d->count) {
        struct document_section *s = new_section(d);
        if (s)
            *s = (struct document_section){.from = from, .title = title ? len : 0};
    }
    if (d->count)
        d->sections[d->count - 1].to = d->text.len;
}

void document_end_paragraph(struct document_out *o)
{
    trim(&o->line);
    if (o->line.failed)
        o->to->text.failed = true;
    else if (o->line.len)
        put_paragraph(o->to, &o->line, o->title);
    buf_reset(&o->line);
    o->title = false;
}

int document_finish(struct document_out *o, struct err *e)
{
    document_end_paragraph(o);
    buf_done(&o->line);
    if (buf_ok(&o->to->text))
        return 0;
    return err_set(e, ERR_DATA, "its text has more than %zu MiB", DOCUMENT_BYTES >> 20);
}

void document_done(struct document *d)
{
    buf_done(&d->text);
    mem_free(d->sections);
    *d = (struct document){.count = 0};
}

/* -- plain text and Markdown -- */

struct document_line {
    const char *at;
    size_t len, indent; /* without and of the spaces before it */
};

/* The next one, without its end; false: there is none. */
static bool next_line(const char **at, const char *end, struct document_line *out)
{
    if (*at >= end)
        return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    size_t len = (size_t)((stop ? stop : end) - *at), indent = 0;
    while (indent < len && is_space((*at)[indent]))
        indent++;
    *out = (struct document_line){*at + indent, len - indent, indent};
    while (out->len && is_space(out->at[out->len - 1]))
        out->len--;
    *at = stop ? stop + 1 : end;
    return true;
}

/* Nothing but one of the characters that underline headings. */
static bool is_rule(const struct document_line *l)
{
    if (l->indent || l->len < UNDERLINE || !strchr("=-~*^#+\"", *l->at))
        return false;
    for (size_t i = 1; i < l->len; i++)
        if (l->at[i] != *l->at)
            return false;
    return true;
}

static bool begins_item(const struct document_line *l)
{
    size_t digits = 0;
    while (digits < l->len && digits < 4 && l->at[digits] >= '0' && l->at[digits] <= '9')
        digits++;
    bool number =
        digits && digits + 1 < l->len && strchr(".)", l->at[digits]) && is_space(l->at[digits + 1]);
    return number || (l->len > 1 && strchr("*-+", *l->at) && is_space(l->at[1]));
}

/* `# A title #`; 0: it is none, else where its words begin. */
static size_t hashes_of(const struct document_line *l)
{
    size_t n = 0;
    while (n < l->len && l->at[n] == '#')
        n++;
    return !l->indent && n && n <= 6 && n < l->len && is_space(l->at[n]) ? n : 0;
}

/* Markdown's links and pictures are their text: `[text](target)`. */
static void add_words(struct document_out *o, const char *p, size_t len, bool markdown)
{
    for (size_t i = 0; i < len; i++) {
        size_t near = len - i < LINK_BYTES ? len - i : LINK_BYTES;
        const char *close = markdown && p[i] == '[' ? memchr(p + i, ']', near) : NULL;
        size_t text = close ? (size_t)(close - p) : 0;
        const char *end = close && text + 1 < len && close[1] == '('
            ? memchr(close, ')', near - (text - i))
            : NULL;
        if (markdown && p[i] == '!' && i + 1 < len && p[i + 1] == '[')
            continue; /* a picture's */
        if (end) {
            document_add(o, p + i + 1, text - i - 1);
            i = (size_t)(end - p);
        } else {
            document_add(o, p + i, 1);
        }
    }
}

static void add_title(struct document_out *o, const char *p, size_t len, bool markdown)
{
    document_end_paragraph(o);
    o->title = true;
    add_words(o, p, len, markdown);
    document_end_paragraph(o);
}

struct document_lines {
    struct document_out *o;
    bool markdown, fenced;
    bool blank, code; /* the line before was */
};

/* A line of a paragraph. */
static void add_line(struct document_lines *s, const struct document_line *l)
{
    struct document_out *o = s->o;
    bool item = begins_item(l), code = s->markdown && l->indent >= CODE && !item;
    s->code = s->fenced || (code && (s->blank || s->code));
    if (s->code || item)
        document_break(o);
    if (s->code) {
        document_add_raw(o, l->at - l->indent, l->len + l->indent);
        document_break(o);
        return;
    }
    add_words(o, l->at, l->len, s->markdown);
    document_add(o, " ", 1);
}

/* What stands in one line, and below it. */
static void take_line(
    struct document_lines *s, const struct document_line *l, const char **at, const char *end)
{
    const char *behind = *at;
    struct document_line below;
    size_t hashes = s->markdown && !s->fenced ? hashes_of(l) : 0;
    bool fence =
        s->markdown && l->len >= 3 && (!memcmp(l->at, "```", 3) || !memcmp(l->at, "~~~", 3));
    if (fence) {
        s->fenced = !s->fenced;
        document_break(s->o);
    } else if (!l->len && !s->fenced) {
        document_end_paragraph(s->o);
    } else if (hashes) {
        size_t len = l->len;
        while (len > hashes && (l->at[len - 1] == '#' || is_space(l->at[len - 1])))
            len--;
        add_title(s->o, l->at + hashes, len - hashes, true);
    } else if (!s->fenced && is_rule(l)) {
        document_end_paragraph(s->o); /* above a heading, or between parts */
    } else if (!s->fenced && !l->indent && !s->o->line.len && next_line(&behind, end, &below) &&
        is_rule(&below) && below.len + 1 >= l->len) {
        add_title(s->o, l->at, l->len, s->markdown);
        *at = behind;
    } else {
        add_line(s, l);
    }
    s->blank = !l->len;
}

static void read_lines(struct document_out *o, const char *text, size_t len, bool markdown)
{
    struct document_lines s = {.o = o, .markdown = markdown, .blank = true};
    const char *at = text, *end = text + len;
    struct document_line l;
    while (next_line(&at, end, &l))
        take_line(&s, &l, &at, end);
}

/* -- JSON lines -- */

static int read_record(struct document_out *o, const char *line, size_t len, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = json_parse(line, len, &v, e);
    if (rc)
        return rc;
    const char *text = json_str(v, "text", NULL), *title = json_str(v, "title", "");
    if (!text)
        return err_set(e, ERR_DATA, "there is no string \"text\"");
    if (*title)
        add_title(o, title, strlen(title), false);
    read_lines(o, text, strlen(text), false);
    document_end_paragraph(o);
    return 0;
}

static int read_records(struct document_out *o, const char *text, size_t len, struct err *e)
{
    const char *at = text, *end = text + len;
    struct document_line l;
    for (int64_t n = 1; next_line(&at, end, &l); n++)
        if (l.len && read_record(o, l.at, l.len, e))
            return err_wrap(e, "line %lld", (long long)n);
    return 0;
}

int document_read(
    enum document_kind kind, const char *bytes, size_t size, struct document *out, struct err *e)
{
    struct document_out o;
    int rc = 0;
    *out = (struct document){.count = 0};
    buf_init(&out->text, DOCUMENT_BYTES);
    if (size > DOCUMENT_BYTES)
        return err_set(e, ERR_DATA, "it has more than %zu MiB", DOCUMENT_BYTES >> 20);
    size_t valid = utf8_valid_prefix(bytes, size);
    if (valid < size || memchr(bytes, 0, size))
        return err_set(e, ERR_DATA, "it is no UTF-8 at byte %zu",
            valid < size ? valid : (size_t)((const char *)memchr(bytes, 0, size) - bytes));
    if (size >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3)) {
        bytes += 3;
        size -= 3;
    }
    document_begin(&o, out);
    if (kind == DOCUMENT_HTML)
        document_html(&o, bytes, size);
    else if (kind == DOCUMENT_JSONL)
        rc = read_records(&o, bytes, size, e);
    else
        read_lines(&o, bytes, size, kind == DOCUMENT_MARKDOWN);
    struct err late = {0};
    int ended = document_finish(&o, &late);
    if (!rc && ended)
        *e = late;
    return rc ? rc : ended;
}
