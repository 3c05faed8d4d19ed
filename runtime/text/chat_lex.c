/*
 * chat_lex: names, strings, numbers and operators, as Jinja2 cuts them. Strings have Python's
 * escapes; a half of a surrogate pair, which is no text, is refused. It must not know what the
 * tokens mean.
 */
#include "runtime/text/chat_parser.h"

#include "base/utf8.h"

#include <errno.h>

#define STRING_LIMIT (1 << 20)

int chat_lex_fail(struct chat_parser *p, int line, const char *what, const char *detail)
{
    if (!p->rc)
        p->rc = err_set(p->e, ERR_DATA, "line %d: %s%s%.40s%s", line, what, detail ? " \"" : "",
            detail ? detail : "", detail ? "\"" : "");
    p->t = (struct chat_token){.kind = CHAT_TOKEN_END, .line = line};
    return p->rc;
}

const char *chat_lex_copy(struct chat_parser *p, const char *s, size_t len)
{
    char *copy = arena_alloc(p->a, len + 1);
    if (!copy) {
        chat_lex_fail(p, p->line, "the template needs too much memory", NULL);
        return "";
    }
    return len ? memcpy(copy, s, len) : copy;
}

int chat_lex_enter(struct chat_parser *p)
{
    if (++p->depth > CHAT_LEX_DEPTH)
        chat_lex_fail(p, p->t.line, "nested too deeply", NULL);
    return p->rc;
}

static bool name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(struct chat_parser *p)
{
    for (; *p->p == ' ' || *p->p == '\t' || *p->p == '\n' || *p->p == '\r'; p->p++)
        p->line += *p->p == '\n';
}

/* -- strings -- */

/* Exactly `digits` hexadecimal ones at *at; -1: there are fewer. */
static int64_t hex_number(const char **at, int digits)
{
    int64_t v = 0;
    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        int d = digit(c)           ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    *at += digits;
    return v;
}

/* After a backslash at *at: one of x, u and U. -1: no character. */
static int64_t escaped_character(const char **at)
{
    char kind = *(*at)++;
    int64_t c = hex_number(at, kind == 'x' ? 2 : kind == 'u' ? 4 : 8), low = 0;
    if (c >= 0xd800 && c < 0xdc00 && !strncmp(*at, "\\u", 2)) {
        *at += 2;
        low = hex_number(at, 4);
        c = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((c - 0xd800) << 10) + low - 0xdc00 : -1;
    }
    return c >= 0xd800 && c < 0xe000 ? -1 : c > 0x10ffff ? -1 : c;
}

static void unescape(struct chat_parser *p, struct buf *out)
{
    static const char from[] = "nrt\\'\"abfv", to[] = "\n\r\t\\'\"\a\b\f\v";
    const char c = *p->p, *known = c ? strchr(from, c) : NULL;
    char utf8[4];
    if (known) {
        buf_char(out, to[known - from]);
        p->p++;
    } else if (c == '\n') { /* a line that goes on */
        p->line++;
        p->p++;
    } else if (c >= '0' && c <= '7') {
        int64_t v = 0;
        for (int i = 0; i < 3 && *p->p >= '0' && *p->p <= '7'; i++)
            v = v * 8 + *p->p++ - '0';
        buf_add(out, utf8, utf8_encode((uint32_t)v, utf8));
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int64_t v = escaped_character(&p->p);
        if (v < 0)
            chat_lex_fail(p, p->line, "an escape in a string is no character", NULL);
        else
            buf_add(out, utf8, utf8_encode((uint32_t)v, utf8));
    } else { /* Python keeps the backslash of an unknown escape */
        buf_char(out, '\\');
    }
}

static void lex_string(struct chat_parser *p)
{
    buf_auto struct buf text;
    buf_init(&text, STRING_LIMIT);
    int line = p->line;
    char quote = *p->p++;
    while (!p->rc && *p->p && *p->p != quote) {
        p->line += *p->p == '\n';
        if (*p->p == '\\') {
            p->p++;
            unescape(p, &text);
        } else {
            buf_char(&text, *p->p++);
        }
    }
    if (!*p->p) {
        chat_lex_fail(p, line, "a string does not end", NULL);
        return;
    }
    if (p->rc)
        return;
    p->p++;
    if (!buf_ok(&text)) {
        p->rc = err_set(p->e, ERR_MEMORY, "no memory for a chat template");
        return;
    }
    struct chat_value v = {
        .kind = CHAT_STRING, .s = chat_lex_copy(p, buf_cstr(&text), text.len), .len = text.len};
    p->t = (struct chat_token){.kind = CHAT_TOKEN_STRING, .line = line, .v = v};
}

/* -- the other tokens -- */

static void lex_number(struct chat_parser *p)
{
    char text[64], *end;
    size_t n = 0, i = 0;
    bool is_float = false;
    /* digits, with "_" among them, a fraction, an exponent */
    for (; n < sizeof text - 1; i++) {
        char c = p->p[i], after = c ? p->p[i + 1] : 0;
        bool sign = after == '+' || after == '-';
        if (c == '_' && digit(after))
            continue;
        if (c == '.' && digit(after) && !is_float)
            is_float = true;
        else if ((c == 'e' || c == 'E') && (digit(after) || (sign && digit(p->p[i + 2]))))
            is_float = true;
        else if ((c == '+' || c == '-') && i && (p->p[i - 1] | 0x20) == 'e')
            ;
        else if (!digit(c))
            break;
        text[n++] = c;
    }
    text[n] = 0;
    errno = 0;
    struct chat_value v = is_float
        ? (struct chat_value){.kind = CHAT_FLOAT, .d = strtod(text, &end)}
        : (struct chat_value){.kind = CHAT_INT, .i = strtoll(text, &end, 10)};
    if (errno || *end || n == sizeof text - 1) {
        chat_lex_fail(p, p->line, "number out of range", NULL);
        return;
    }
    p->p += i;
    p->t = (struct chat_token){
        .kind = is_float ? CHAT_TOKEN_FLOAT : CHAT_TOKEN_INT, .line = p->line, .v = v};
}

static void lex_operator(struct chat_parser *p)
{
    static const char *const pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
    static const char singles[] = "+-*/%~<>=.,:|()[]{}";
    p->t = (struct chat_token){.kind = CHAT_TOKEN_OP, .line = p->line};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strncmp(p->p, pairs[i], 2)) {
            memcpy(p->t.op, pairs[i], 2);
            p->p += 2;
            return;
        }
    char found[2] = {*p->p, 0};
    if (!*p->p)
        chat_lex_fail(p, p->line, "a tag does not end", NULL);
    else if (!strchr(singles, *p->p))
        chat_lex_fail(p, p->line, "unexpected character", found);
    else
        p->t.op[0] = *p->p++;
    p->braces += chat_lex_is_op(p, "{") - chat_lex_is_op(p, "}");
}

void chat_lex_advance(struct chat_parser *p)
{
    if (p->rc)
        return;
    skip_blanks(p);
    const char *s = p->p;
    char mark = (*s == '-' || *s == '+') && !strncmp(s + 1, p->close, 2) ? *s : 0;
    if (!p->braces && (mark || !strncmp(s, p->close, 2))) {
        p->p += mark ? 3 : 2;
        p->strip = mark == '-';
        p->trim_newline = *p->close == '%' && mark != '+';
        p->after_tag = true;
        p->t = (struct chat_token){.kind = CHAT_TOKEN_END, .line = p->line};
        return;
    }
    if (name_start(*s)) {
        while (name_start(*p->p) || digit(*p->p))
            p->p++;
        size_t len = (size_t)(p->p - s);
        p->t = (struct chat_token){.kind = CHAT_TOKEN_NAME, .line = p->line};
        p->t.v =
            (struct chat_value){.kind = CHAT_STRING, .s = chat_lex_copy(p, s, len), .len = len};
    } else if (digit(*s)) {
        lex_number(p);
    } else if (*s == '\'' || *s == '"') {
        lex_string(p);
    } else {
        lex_operator(p);
    }
}

/* -- looking at them -- */

bool chat_lex_is_op(const struct chat_parser *p, const char *op)
{
    return p->t.kind == CHAT_TOKEN_OP && !strcmp(p->t.op, op);
}

bool chat_lex_is_word(const struct chat_parser *p, const char *word)
{
    return p->t.kind == CHAT_TOKEN_NAME && !strcmp(p->t.v.s, word);
}

bool chat_lex_op(struct chat_parser *p, const char *op)
{
    if (!chat_lex_is_op(p, op))
        return false;
    chat_lex_advance(p);
    return true;
}

bool chat_lex_word(struct chat_parser *p, const char *word)
{
    if (!chat_lex_is_word(p, word))
        return false;
    chat_lex_advance(p);
    return true;
}

void chat_lex_expect(struct chat_parser *p, const char *op)
{
    if (!chat_lex_op(p, op))
        chat_lex_fail(p, p->t.line, "expected", op);
}

const char *chat_lex_name(struct chat_parser *p)
{
    const char *s = p->t.kind == CHAT_TOKEN_NAME ? p->t.v.s : NULL;
    if (s)
        chat_lex_advance(p);
    else
        chat_lex_fail(p, p->t.line, "expected a name", NULL);
    return s ? s : "";
}

void chat_lex_expect_end(struct chat_parser *p)
{
    bool text = p->t.kind == CHAT_TOKEN_NAME || p->t.kind == CHAT_TOKEN_STRING;
    if (!p->rc && p->t.kind != CHAT_TOKEN_END)
        chat_lex_fail(p, p->t.line, "the tag should end here",
            p->t.kind == CHAT_TOKEN_OP ? p->t.op
                : text                 ? p->t.v.s
                                       : NULL);
}
