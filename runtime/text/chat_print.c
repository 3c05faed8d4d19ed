/*
 * chat_print: values as text: as {{ }} shows them (Python's str and, inside lists and maps, repr),
 * and as JSON as Python's json.dumps writes it. A value that contains itself, or one that is nested
 * beyond CHAT_DEPTH, is refused. Must not change a value.
 */
#include "runtime/text/chat_ast.h"

#include "base/utf8.h"
#include "runtime/text/tok_normal.h"

#include <math.h>

/* repr(float): the shortest digits that read back, with an exponent from 1e16 and below 1e-4. */
static void print_float(double d, struct buf *out)
{
    char text[40] = "", digits[24] = "";
    if (!isfinite(d)) {
        buf_str(out, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    for (int n = 0; n <= 16; n++) {
        snprintf(text, sizeof text, "%.*e", n, fabs(d));
        if (strtod(text, NULL) == fabs(d))
            break;
    }
    int count = 0, exponent = 0;
    for (const char *p = text; *p; p++) {
        if (*p == 'e') {
            exponent = (int)strtol(p + 1, NULL, 10);
            break;
        }
        if (*p != '.')
            digits[count++] = *p;
    }
    if (signbit(d))
        buf_char(out, '-');
    if (exponent < -4 || exponent >= 16) {
        buf_printf(out, "%c%s%se%c%02d", digits[0], count > 1 ? "." : "", digits + 1,
            exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int point = exponent + 1; /* digits before it */
    if (point <= 0)
        buf_printf(out, "0.%.*s%s", -point, "0000", digits);
    else if (point >= count)
        buf_printf(out, "%s%.*s.0", digits, point - count, "0000000000000000");
    else
        buf_printf(out, "%.*s.%s", point, digits, digits + point);
}

/* repr(str) */
static void print_quoted(const struct chat_value *v, struct buf *out)
{
    bool single = memchr(v->s, '\'', v->len), twice = memchr(v->s, '"', v->len);
    char quote = single && !twice ? '"' : '\'';
    buf_char(out, quote);
    for (size_t i = 0, n; i < v->len; i += n) {
        const char *s = v->s + i, *known = strchr("\nn\rr\tt", *s);
        n = utf8_sequence(s, v->len - i);
        n = n ? n : 1;
        uint32_t c = utf8_decode(s, n);
        if (*s == quote || *s == '\\')
            buf_printf(out, "\\%c", *s);
        else if (*s && known && (known - "\nn\rr\tt") % 2 == 0 && *s < ' ')
            buf_printf(out, "\\%c", known[1]);
        else if (tok_normal_printable(c))
            buf_add(out, s, n);
        else
            buf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
    buf_char(out, quote);
}

static void print_inside(struct chat_work *w, const struct chat_value *v, struct buf *out)
{
    if (v->kind == CHAT_STRING && !chat_spend_bytes(w, v->len))
        print_quoted(v, out);
    else if (v->kind != CHAT_STRING)
        chat_print(w, v, out);
}

static void print_list(struct chat_work *w, const struct chat_value *v, struct buf *out)
{
    bool tuple = v->form == CHAT_IS_TUPLE;
    buf_char(out, tuple ? '(' : '[');
    for (int64_t i = 0; i < v->count && !w->rc; i++) {
        buf_str(out, i ? ", " : "");
        print_inside(w, &v->items[i], out);
    }
    buf_str(out, !tuple ? "]" : v->count == 1 ? ",)" : ")");
}

static void print_map(struct chat_work *w, const struct chat_map *m, struct buf *out)
{
    buf_str(out, m->assignable ? "<Namespace {" : "{");
    for (int64_t i = 0; i < m->count && !w->rc; i++) {
        buf_str(out, i ? ", " : "");
        print_inside(w, &m->pairs[i].key, out);
        buf_str(out, ": ");
        print_inside(w, &m->pairs[i].value, out);
    }
    buf_str(out, m->assignable ? "}>" : "}");
}

void chat_print(struct chat_work *w, const struct chat_value *v, struct buf *out)
{
    bool lazy = v->kind == CHAT_LIST && v->form == CHAT_IS_LAZY;
    chat_enter(w);
    if (w->rc)
        ;
    else if (v->kind == CHAT_NONE)
        buf_str(out, "None");
    else if (v->kind == CHAT_BOOL)
        buf_str(out, v->b ? "True" : "False");
    else if (v->kind == CHAT_INT)
        buf_printf(out, "%lld", (long long)v->i);
    else if (v->kind == CHAT_FLOAT)
        print_float(v->d, out);
    else if (v->kind == CHAT_STRING && !chat_spend_bytes(w, v->len))
        buf_add(out, v->s, v->len);
    else if (v->kind == CHAT_LIST && !lazy)
        print_list(w, v, out);
    else if (v->kind == CHAT_MAP)
        print_map(w, v->map, out);
    else if (v->kind != CHAT_UNDEFINED)
        chat_fail(
            w, "%s cannot become text", lazy ? "a generator (add |list)" : chat_kind_name(v->kind));
    w->depth--;
}

/* -- JSON -- */

/* Bytes that stand in JSON as they are. */
static size_t plain_run(const char *s, size_t len, bool ascii)
{
    size_t n = 0;
    while (n < len && (unsigned char)s[n] >= 0x20 && s[n] != '"' && s[n] != '\\' &&
        (!ascii || (unsigned char)s[n] < 0x7f))
        n++;
    return n;
}

static void json_string(const struct chat_value *v, bool ascii, struct buf *out)
{
    static const char names[] = "btn\0fr"; /* of 0x08 to 0x0d */
    buf_char(out, '"');
    for (size_t i = 0, n; i < v->len; i += n) {
        n = plain_run(v->s + i, v->len - i, ascii);
        if (n) {
            buf_add(out, v->s + i, n);
            continue;
        }
        unsigned char c = (unsigned char)v->s[i];
        n = utf8_sequence(v->s + i, v->len - i);
        n = n ? n : 1;
        uint32_t point = utf8_decode(v->s + i, n);
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c >= 8 && c <= 13 && c != 11)
            buf_printf(out, "\\%c", names[c - 8]);
        else if (c < 0x20 || (ascii && point >= 0x7f && point < 0x10000))
            buf_printf(out, "\\u%04x", point);
        else if (ascii && point >= 0x10000)
            buf_printf(out, "\\u%04x\\u%04x", 0xd800 + ((point - 0x10000) >> 10),
                0xdc00 + ((point - 0x10000) & 0x3ff));
    }
    buf_char(out, '"');
}

struct json_writer {
    struct chat_work *w;
    const struct chat_json_style *s;
    struct buf *out;
    int level;
};

static void json_value(struct json_writer *j, const struct chat_value *v);

/* Before item i of a container, or before its end (i < 0; had: it had items). */
static void json_break(const struct json_writer *j, int64_t i, bool had)
{
    if (i > 0)
        buf_str(j->out, j->s->comma);
    if (j->s->indent < 0 || (i < 0 && !had))
        return;
    buf_char(j->out, '\n');
    for (int k = 0; k < j->level * j->s->indent; k++)
        buf_char(j->out, ' ');
    chat_spend_bytes(j->w, (size_t)(j->level * j->s->indent));
}

static int by_key(const void *a, const void *b)
{
    const struct chat_pair *const *x = a, *const *y = b;
    return strcmp((*x)->key.s, (*y)->key.s);
}

static void json_map(struct json_writer *j, const struct chat_map *m)
{
    const struct chat_pair **order = chat_alloc(j->w, (size_t)m->count + 1, sizeof *order);
    if (!order)
        return;
    for (int64_t i = 0; i < m->count; i++)
        order[i] = &m->pairs[i];
    if (j->s->sorted)
        qsort(order, (size_t)m->count, sizeof *order, by_key);
    buf_char(j->out, '{');
    j->level++;
    for (int64_t i = 0; i < m->count && !j->w->rc; i++) {
        json_break(j, i, true);
        if (!chat_spend_bytes(j->w, order[i]->key.len))
            json_string(&order[i]->key, j->s->ascii, j->out);
        buf_str(j->out, j->s->colon);
        json_value(j, &order[i]->value);
    }
    j->level--;
    json_break(j, -1, m->count > 0);
    buf_char(j->out, '}');
}

static void json_list(struct json_writer *j, const struct chat_value *v)
{
    buf_char(j->out, '[');
    j->level++;
    for (int64_t i = 0; i < v->count && !j->w->rc; i++) {
        json_break(j, i, true);
        json_value(j, &v->items[i]);
    }
    j->level--;
    json_break(j, -1, v->count > 0);
    buf_char(j->out, ']');
}

static void json_value(struct json_writer *j, const struct chat_value *v)
{
    struct chat_work *w = j->w;
    bool list = v->kind == CHAT_LIST && v->form != CHAT_IS_LAZY;
    chat_enter(w);
    if (w->rc)
        ;
    else if (v->kind == CHAT_STRING && !chat_spend_bytes(w, v->len))
        json_string(v, j->s->ascii, j->out);
    else if (v->kind == CHAT_BOOL)
        buf_str(j->out, v->b ? "true" : "false");
    else if (v->kind == CHAT_NONE)
        buf_str(j->out, "null");
    else if (v->kind == CHAT_INT || v->kind == CHAT_FLOAT)
        chat_print(w, v, j->out);
    else if (list)
        json_list(j, v);
    else if (v->kind == CHAT_MAP && !v->map->assignable)
        json_map(j, v->map);
    else
        chat_fail(w, "%s cannot become JSON",
            v->kind == CHAT_MAP        ? "a namespace"
                : v->kind == CHAT_LIST ? "a generator (add |list)"
                                       : chat_kind_name(v->kind));
    w->depth--;
}

void chat_to_json(struct chat_work *w, const struct chat_value *v, const struct chat_json_style *s,
    struct buf *out)
{
    struct json_writer j = {.w = w, .s = s, .out = out};
    json_value(&j, v);
}
