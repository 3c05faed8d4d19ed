/*
 * document_html: HTML as it is found: tags are read where they look like some, and are text where
 * not; nothing is refused. Blocks are paragraphs, headings titles, lines of <pre> stay lines; what
 * is not shown (script, style, title) or leads elsewhere (nav) is left out. After the tokenizer of
 * the HTML standard, of which it knows tags, comments, attributes and the character references that
 * texts have.
 */
#include "runtime/retrieval/document_internal.h"

#include "base/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TAG_BYTES 16 /* of a name that is known, with its end */

struct tag {
    char name[TAG_BYTES]; /* in lower case; "" for a longer one */
    bool closes;
    size_t len; /* of the whole, in the file */
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list))
            return true;
    return false;
}

/* Where a tag's `>` stands, behind its attributes, of which a quoted one may hold another. Where a
   quote does not close in what a tag may have, no quote of that stretch counts, of the tags behind
   it neither (until *unquoted): so a file is gone through twice at most, whatever is in it. */
static size_t tag_end(const char *p, size_t len, const char **unquoted)
{
    size_t most = len < DOCUMENT_TAG ? len : DOCUMENT_TAG;
    char quote = 0;
    for (size_t i = 1; i < most && p >= *unquoted; i++) {
        if (quote)
            quote = p[i] == quote ? 0 : quote;
        else if (p[i] == '>')
            return i + 1;
        else if ((p[i] == '"' || p[i] == '\'') && p[i - 1] == '=')
            quote = p[i];
    }
    if (quote)
        *unquoted = p + most;
    const char *end = p < *unquoted ? memchr(p, '>', most) : NULL;
    return end ? (size_t)(end - p) + 1 : most;
}

/* What begins with `<` here; false: it is text. unquoted: as tag_end's. */
static bool read_tag(const char *p, size_t len, const char **unquoted, struct tag *out)
{
    size_t at = 1, n = 0;
    *out = (struct tag){.len = 0};
    if (len >= 4 && !memcmp(p, "<!--", 4)) {
        const char *end = memmem(p + 4, len - 4, "-->", 3);
        out->len = end ? (size_t)(end - p) + 3 : len;
        return true;
    }
    if (len >= 2 && (p[1] == '!' || p[1] == '?')) {
        out->len = tag_end(p, len, unquoted);
        return true;
    }
    if (len >= 2 && p[1] == '/') {
        out->closes = true;
        at++;
    }
    if (at >= len || !is_letter(p[at]))
        return false;
    for (; at + n < len && (is_letter(p[at + n]) || (p[at + n] >= '0' && p[at + n] <= '9')); n++)
        if (n + 1 < TAG_BYTES)
            out->name[n] = (char)(p[at + n] | 0x20);
    if (n >= TAG_BYTES)
        out->name[0] = 0;
    out->len = tag_end(p, len, unquoted);
    return true;
}

/* -- character references -- */

static uint32_t named(const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint32_t code;
    } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''},
        {"nbsp", ' '}, {"copy", 0xa9}, {"reg", 0xae}, {"sect", 0xa7}, {"para", 0xb6},
        {"middot", 0xb7}, {"laquo", 0xab}, {"raquo", 0xbb}, {"times", 0xd7}, {"deg", 0xb0},
        {"auml", 0xe4}, {"ouml", 0xf6}, {"uuml", 0xfc}, {"Auml", 0xc4}, {"Ouml", 0xd6},
        {"Uuml", 0xdc}, {"szlig", 0xdf}, {"eacute", 0xe9}, {"egrave", 0xe8}, {"agrave", 0xe0},
        {"ccedil", 0xe7}, {"ntilde", 0xf1}, {"oslash", 0xf8}, {"aring", 0xe5}, {"ndash", 0x2013},
        {"mdash", 0x2014}, {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c},
        {"rdquo", 0x201d}, {"bull", 0x2022}, {"hellip", 0x2026}, {"trade", 0x2122},
        {"rarr", 0x2192}, {"larr", 0x2190}, {"euro", 0x20ac}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == len && !memcmp(name, names[i].name, len))
            return names[i].code;
    return 0;
}

/* Of `&...;` at p: its character, and the bytes that it takes; 0: it is text. */
static size_t read_reference(const char *p, size_t len, uint32_t *out)
{
    const char *semicolon = memchr(p, ';', len < 12 ? len : 12);
    size_t n = semicolon ? (size_t)(semicolon - p) : 0;
    char digits[12] = "", *end;
    if (n < 2)
        return 0;
    if (p[1] != '#') {
        *out = named(p + 1, n - 1);
        return *out ? n + 1 : 0;
    }
    memcpy(digits, p + 2, n - 2);
    bool hex = *digits == 'x' || *digits == 'X';
    unsigned long code = strtoul(digits + hex, &end, hex ? 16 : 10);
    bool text = (code >= ' ' && code < 0xd800) || (code > 0xdfff && code <= 0x10ffff);
    *out = code == '\n' || code == '\t' || code == 0xa0 ? ' ' : (uint32_t)code;
    return !*end && end > digits + hex && (text || *out == ' ') ? n + 1 : 0;
}

/* -- the walk -- */

static void add_text(struct document_out *o, const char *p, size_t len, bool raw)
{
    for (size_t i = 0; i < len;) {
        char character[4] = {p[i]};
        uint32_t code;
        size_t taken = p[i] == '&' ? read_reference(p + i, len - i, &code) : 0;
        size_t n = taken ? utf8_encode(code, character) : 1;
        (raw ? document_add_raw : document_add)(o, character, n);
        i += taken ? taken : 1;
    }
}

/* Bytes up to the end tag of an element that is left out, its own included. */
static size_t skip_element(const char *p, size_t len, const char *name, const char **unquoted)
{
    static const char *const raw[] = {"script", "style", "title", NULL};
    bool text = is_one_of(name, raw); /* in which nothing but its own end is a tag */
    int open = 1;
    for (size_t i = 0; i < len;) {
        const char *next = memchr(p + i, '<', len - i);
        struct tag t;
        if (!next)
            break;
        i = (size_t)(next - p);
        bool other = text &&
            (len - i < strlen(name) + 2 || next[1] != '/' ||
                strncasecmp(next + 2, name, strlen(name)) != 0);
        if (other || !read_tag(next, len - i, unquoted, &t)) {
            i++;
            continue;
        }
        i += t.len;
        if (!strcmp(t.name, name))
            open += t.closes ? -1 : 1;
        if (!open)
            return i;
    }
    return len;
}

/* What a tag does to the text around it. */
static void take_tag(struct document_out *o, const struct tag *t, int *raw)
{
    static const char *const blocks[] = {"p", "div", "section", "article", "main", "ul", "ol", "dl",
        "dt", "table", "blockquote", "pre", "figure", "figcaption", "header", "footer", "hr",
        "body", "html", "address", "details", "summary", "aside", "form", "fieldset", NULL};
    static const char *const lines[] = {"br", "li", "tr", "dd", NULL};
    bool heading = t->name[0] == 'h' && t->name[1] >= '1' && t->name[1] <= '6' && !t->name[2];
    bool cell = !strcmp(t->name, "td") || !strcmp(t->name, "th");
    bool term = !strcmp(t->name, "dt") && t->closes; /* what it is follows */
    if (term)
        document_break(o);
    else if (heading || is_one_of(t->name, blocks))
        document_end_paragraph(o);
    else if (is_one_of(t->name, lines))
        document_break(o);
    else if (cell)
        document_add(o, " ", 1);
    if (heading)
        o->title = !t->closes;
    if (!strcmp(t->name, "pre"))
        *raw = !t->closes;
}

void document_html(struct document_out *o, const char *text, size_t len)
{
    static const char *const hidden[] = {
        "script", "style", "title", "nav", "template", "noscript", "svg", NULL};
    const char *unquoted = text;
    int raw = 0;
    for (size_t i = 0; i < len;) {
        const char *next = memchr(text + i, '<', len - i);
        size_t at = next ? (size_t)(next - text) : len;
        struct tag t;
        add_text(o, text + i, at - i, raw);
        i = at;
        if (i >= len)
            break;
        if (!read_tag(next, len - i, &unquoted, &t)) {
            add_text(o, next, 1, raw);
            i++;
            continue;
        }
        i += t.len;
        if (!t.closes && is_one_of(t.name, hidden))
            i += skip_element(text + i, len - i, t.name, &unquoted);
        else
            take_tag(o, &t, &raw);
    }
}
