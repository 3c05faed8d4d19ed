/*
 * chat_text: what strings can do, as methods and as filters: Python's str as far as chat templates
 * go. Case follows Unicode's simple mappings, and the sharp s becomes SS in upper case. A position
 * is a code point's. Called through its table by chat_filter.c. Must not know lists beyond making
 * them.
 */
#include "runtime/text/chat_ast.h"

#include "base/utf8.h"
#include "runtime/text/tok_normal.h"

/* Bytes of the white character (Python's str.isspace) that s begins with, or 0. */
static size_t white_at(const char *s, size_t len)
{
    static const char *const wide[] = {"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    unsigned char c = len ? (unsigned char)*s : 0;
    if (c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f))
        return 1;
    if (len >= 3 && !memcmp(s, "\xe2\x80", 2) && (unsigned char)s[2] <= 0x8a)
        return 3;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t n = strlen(wide[i]);
        if (n <= len && !memcmp(s, wide[i], n))
            return n;
    }
    return 0;
}

/* -- stripping -- */

/* Bytes of the character at s when it is one of chars (NULL: white), or 0. */
static size_t strips(const char *s, size_t len, const struct chat_value *chars)
{
    size_t n = utf8_sequence(s, len);
    if (!chars)
        return white_at(s, len);
    return n && memmem(chars->s, chars->len, s, n) ? n : 0;
}

static int strip(const struct chat_call *c, bool left, bool right, struct chat_value *out)
{
    const struct chat_value *chars = chat_arg(c, 0, "chars");
    if (chars && chars->kind == CHAT_NONE)
        chars = NULL;
    if (chars && chars->kind != CHAT_STRING)
        return chat_misused(c);
    size_t from = 0, to = c->self->len, n;
    const char *s = c->self->s;
    if (chat_spend_bytes(c->w, to * (chars ? 1 + chars->len / CHAT_UNIT_BYTES : 1)))
        return c->w->rc;
    while (left && from < to && (n = strips(s + from, to - from, chars)))
        from += n;
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && (s[at] & 0xc0) == 0x80)
            at--;
        if (!strips(s + at, to - at, chars))
            break;
        to = at;
    }
    *out = chat_string(c->w, s + from, to - from);
    return c->w->rc;
}

static int do_trim(const struct chat_call *c, struct chat_value *out)
{
    return strip(c, true, true, out);
}

static int do_lstrip(const struct chat_call *c, struct chat_value *out)
{
    return strip(c, true, false, out);
}

static int do_rstrip(const struct chat_call *c, struct chat_value *out)
{
    return strip(c, false, true, out);
}

static bool has_affix(const struct chat_value *s, const struct chat_value *a, bool end)
{
    return a->kind == CHAT_STRING && a->len <= s->len &&
        !memcmp(s->s + (end ? s->len - a->len : 0), a->s, a->len);
}

/* Of one string, or of any of a tuple. */
static int do_affix(const struct chat_call *c, bool end, struct chat_value *out)
{
    const struct chat_value *a = chat_arg(c, 0, NULL);
    if (!a || (a->kind != CHAT_STRING && a->kind != CHAT_LIST))
        return chat_misused(c);
    const struct chat_value *of = a->kind == CHAT_LIST ? a->items : a;
    int64_t count = a->kind == CHAT_LIST ? a->count : 1;
    bool found = false;
    for (int64_t i = 0; i < count && !found && !chat_spend_bytes(c->w, of[i].len); i++)
        found = has_affix(c->self, &of[i], end);
    *out = chat_bool(found);
    return c->w->rc;
}

static int do_startswith(const struct chat_call *c, struct chat_value *out)
{
    return do_affix(c, false, out);
}

static int do_endswith(const struct chat_call *c, struct chat_value *out)
{
    return do_affix(c, true, out);
}

static int remove_affix(const struct chat_call *c, bool end, struct chat_value *out)
{
    const struct chat_value *a = chat_arg_text(c, 0, NULL, NULL), *s = c->self;
    if (!a)
        return c->w->rc;
    size_t cut = has_affix(s, a, end) ? a->len : 0;
    *out = chat_string(c->w, s->s + (end ? 0 : cut), s->len - cut);
    return c->w->rc;
}

static int do_removeprefix(const struct chat_call *c, struct chat_value *out)
{
    return remove_affix(c, false, out);
}

static int do_removesuffix(const struct chat_call *c, struct chat_value *out)
{
    return remove_affix(c, true, out);
}

/* -- case -- */

enum change { TO_UPPER, TO_LOWER, TO_CAPITALIZED, TO_TITLE };

/* Of Jinja's title filter a word begins after these; of Python's str.title after what is no
   letter. */
static bool begins_word(uint32_t before, bool method)
{
    if (method)
        return tok_normal_class(before) != TOK_NORMAL_LETTER;
    return before < 0x80 && (strchr("-([{<", (int)before) || white_at((char[]){(char)before}, 1));
}

static int change_case(const struct chat_call *c, enum change change, struct chat_value *out)
{
    struct buf b;
    const struct chat_value *v = c->self;
    uint32_t before = ' ';
    buf_init(&b, CHAT_TEXT_BYTES);
    if (chat_spend_bytes(c->w, 16 * v->len))
        return c->w->rc;
    for (size_t i = 0, n; i < v->len; i += n) {
        char text[4];
        n = utf8_sequence(v->s + i, v->len - i);
        n = n ? n : 1;
        uint32_t point = utf8_decode(v->s + i, n), to;
        bool first = change == TO_TITLE ? begins_word(before, c->method)
                                        : change == TO_CAPITALIZED && i == 0;
        before = point;
        if (change == TO_UPPER && point == 0xdf) {
            buf_str(&b, "SS");
            continue;
        }
        to = change == TO_UPPER ? tok_normal_upper(point)
            : first             ? tok_normal_title(point)
                                : tok_normal_lower(point);
        buf_add(&b, text, utf8_encode(to, text));
    }
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_upper(const struct chat_call *c, struct chat_value *out)
{
    return change_case(c, TO_UPPER, out);
}

static int do_lower(const struct chat_call *c, struct chat_value *out)
{
    return change_case(c, TO_LOWER, out);
}

static int do_capitalize(const struct chat_call *c, struct chat_value *out)
{
    return change_case(c, TO_CAPITALIZED, out);
}

static int do_title(const struct chat_call *c, struct chat_value *out)
{
    return change_case(c, TO_TITLE, out);
}

bool chat_text_is_case(const struct chat_value *v, bool upper)
{
    bool cased = false;
    for (size_t i = 0, n; i < v->len; i += n) {
        n = utf8_sequence(v->s + i, v->len - i);
        n = n ? n : 1;
        uint32_t c = utf8_decode(v->s + i, n);
        bool is_upper = tok_normal_lower(c) != c, is_lower = tok_normal_upper(c) != c;
        if (upper ? is_lower : is_upper)
            return false;
        cased = cased || is_upper || is_lower;
    }
    return cased;
}

static int do_isupper(const struct chat_call *c, struct chat_value *out)
{
    *out = chat_bool(chat_text_is_case(c->self, true));
    return chat_spend_bytes(c->w, 16 * c->self->len);
}

static int do_islower(const struct chat_call *c, struct chat_value *out)
{
    *out = chat_bool(chat_text_is_case(c->self, false));
    return chat_spend_bytes(c->w, 16 * c->self->len);
}

/* Whether all characters, of which there is one, are of one of two classes. */
static int all_of(const struct chat_call *c, enum tok_normal_class one, enum tok_normal_class other,
    struct chat_value *out)
{
    const struct chat_value *v = c->self;
    bool all = v->len > 0;
    for (size_t i = 0, n; all && i < v->len; i += n) {
        n = utf8_sequence(v->s + i, v->len - i);
        n = n ? n : 1;
        enum tok_normal_class is = tok_normal_class(utf8_decode(v->s + i, n));
        all = is == one || is == other;
    }
    *out = chat_bool(all);
    return chat_spend_bytes(c->w, 16 * v->len);
}

static int do_isdigit(const struct chat_call *c, struct chat_value *out)
{
    return all_of(c, TOK_NORMAL_DIGIT, TOK_NORMAL_DIGIT, out);
}

static int do_isalpha(const struct chat_call *c, struct chat_value *out)
{
    return all_of(c, TOK_NORMAL_LETTER, TOK_NORMAL_LETTER, out);
}

static int do_isalnum(const struct chat_call *c, struct chat_value *out)
{
    return all_of(c, TOK_NORMAL_LETTER, TOK_NORMAL_DIGIT, out);
}

static int do_isspace(const struct chat_call *c, struct chat_value *out)
{
    size_t i = 0, n;
    while ((n = white_at(c->self->s + i, c->self->len - i)))
        i += n;
    *out = chat_bool(c->self->len && i == c->self->len);
    return chat_spend_bytes(c->w, c->self->len);
}

/* -- cutting and finding -- */

/* The last occurrence of needle in s[0..len), or NULL. */
static const char *find_last(
    struct chat_work *w, const char *s, size_t len, const struct chat_value *needle)
{
    const char *last = NULL, *end = s + len, *hit;
    if (chat_spend_bytes(w, len))
        return NULL;
    if (!needle->len)
        return end;
    while ((hit = memmem(s, (size_t)(end - s), needle->s, needle->len)) &&
        !chat_spend_bytes(w, needle->len)) {
        last = hit;
        s = hit + 1;
    }
    return last;
}

/* A growing list: *out's items are its own. */
static void push(struct chat_work *w, struct chat_value *list, int64_t *room, struct chat_value v)
{
    if (list->count == *room) {
        struct chat_value grown = chat_list(w, *room ? 2 * *room : 8);
        if (grown.kind != CHAT_LIST)
            return;
        if (list->count)
            memcpy(grown.items, list->items, (size_t)list->count * sizeof v);
        *room = grown.count;
        list->items = grown.items;
    }
    list->items[list->count++] = v;
}

/* At white space, of any length; limit < 0: all. */
static void split_words(
    struct chat_work *w, const struct chat_value *v, int64_t limit, struct chat_value *out)
{
    int64_t room = 0;
    size_t at = 0, n, end;
    while (!w->rc) {
        while ((n = white_at(v->s + at, v->len - at)))
            at += n;
        if (at == v->len)
            return;
        for (end = at; end < v->len && !white_at(v->s + end, v->len - end);)
            end++;
        if (limit >= 0 && out->count == limit)
            for (end = v->len; end > at && white_at(v->s + end - 1, 1);)
                end--;
        push(w, out, &room, chat_string(w, v->s + at, end - at));
        at = limit >= 0 && out->count > limit ? v->len : end;
    }
}

static void split_at(struct chat_work *w, const struct chat_value *v, const struct chat_value *sep,
    int64_t limit, struct chat_value *out)
{
    int64_t room = 0;
    const char *s = v->s, *end = s + v->len, *hit = s;
    while (hit && !w->rc) {
        hit =
            limit < 0 || out->count < limit ? memmem(s, (size_t)(end - s), sep->s, sep->len) : NULL;
        push(w, out, &room, chat_string(w, s, (size_t)((hit ? hit : end) - s)));
        s = hit ? hit + sep->len : s;
    }
}

static void split_from_end(struct chat_work *w, const struct chat_value *v,
    const struct chat_value *sep, int64_t limit, struct chat_value *out)
{
    int64_t room = 0;
    size_t len = v->len;
    const char *hit = v->s;
    while (hit && !w->rc) {
        hit = limit < 0 || out->count < limit ? find_last(w, v->s, len, sep) : NULL;
        size_t from = hit ? (size_t)(hit - v->s) + sep->len : 0;
        push(w, out, &room, chat_string(w, v->s + from, len - from));
        len = hit ? (size_t)(hit - v->s) : 0;
    }
    for (int64_t i = 0; i < out->count / 2; i++) {
        struct chat_value x = out->items[i];
        out->items[i] = out->items[out->count - 1 - i];
        out->items[out->count - 1 - i] = x;
    }
}

static int split(const struct chat_call *c, bool from_end, struct chat_value *out)
{
    const struct chat_value *sep = chat_arg(c, 0, "sep");
    int64_t limit = chat_arg_int(c, 1, "maxsplit", -1);
    if (sep && sep->kind == CHAT_NONE)
        sep = NULL;
    if ((sep && (sep->kind != CHAT_STRING || !sep->len)) || (!sep && from_end && limit >= 0))
        return chat_misused(c);
    if (chat_spend_bytes(c->w, 16 * c->self->len))
        return c->w->rc;
    *out = chat_list(c->w, 0);
    if (c->w->rc)
        return c->w->rc;
    if (!sep)
        split_words(c->w, c->self, limit, out);
    else if (from_end && limit >= 0)
        split_from_end(c->w, c->self, sep, limit, out);
    else
        split_at(c->w, c->self, sep, limit, out);
    return c->w->rc;
}

static int do_split(const struct chat_call *c, struct chat_value *out)
{
    return split(c, false, out);
}

static int do_rsplit(const struct chat_call *c, struct chat_value *out)
{
    return split(c, true, out);
}

static int do_splitlines(const struct chat_call *c, struct chat_value *out)
{
    bool keep = chat_arg_bool(c, 0, "keepends", false);
    const char *s = c->self->s, *end = s + c->self->len;
    int64_t room = 0;
    *out = chat_list(c->w, 0);
    while (s < end && !chat_spend_bytes(c->w, 1)) {
        const char *stop = s;
        while (stop < end && !strchr("\n\r\v\f", *stop))
            stop++;
        size_t mark = stop == end ? 0 : *stop == '\r' && stop + 1 < end && stop[1] == '\n' ? 2 : 1;
        push(c->w, out, &room, chat_string(c->w, s, (size_t)(stop - s) + (keep ? mark : 0)));
        s = stop + mark;
    }
    return c->w->rc;
}

static int do_find(const struct chat_call *c, bool last, struct chat_value *out)
{
    const struct chat_value *sub = chat_arg_text(c, 0, NULL, NULL), *s = c->self;
    if (!sub || chat_spend_bytes(c->w, 8 * s->len))
        return c->w->rc;
    const char *hit =
        last ? find_last(c->w, s->s, s->len, sub) : memmem(s->s, s->len, sub->s, sub->len);
    struct chat_value before = {
        .kind = CHAT_STRING, .s = s->s, .len = hit ? (size_t)(hit - s->s) : 0};
    *out = chat_int(hit ? chat_length(c->w, &before) : -1);
    return c->w->rc;
}

static int do_find_first(const struct chat_call *c, struct chat_value *out)
{
    return do_find(c, false, out);
}

static int do_find_last(const struct chat_call *c, struct chat_value *out)
{
    return do_find(c, true, out);
}

/* Replaces up to limit (< 0: all) occurrences, or only counts them (to NULL). */
static int64_t replace_all(const struct chat_call *c, const struct chat_value *from,
    const struct chat_value *to, int64_t limit, struct buf *b)
{
    const char *s = c->self->s, *end = s + c->self->len, *hit = s;
    int64_t count = 0;
    while (limit < 0 || count < limit) {
        hit = from->len ? memmem(s, (size_t)(end - s), from->s, from->len)
                        : s + (count && s < end); /* around every byte of ASCII */
        if (!hit || (!from->len && count && s == end) || chat_spend_bytes(c->w, to ? to->len : 0))
            break;
        if (to) {
            buf_add(b, s, (size_t)(hit - s));
            buf_add(b, to->s, to->len);
        }
        s = hit + from->len;
        count++;
    }
    if (to)
        buf_add(b, s, (size_t)(end - s));
    return count;
}

static int do_replace(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *from = chat_arg_text(c, 0, "old", NULL);
    const struct chat_value *to = chat_arg_text(c, 1, "new", NULL);
    int64_t limit = chat_arg_int(c, 2, "count", -1);
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    if (c->w->rc || chat_spend_bytes(c->w, c->self->len))
        return c->w->rc;
    if (!from->len)
        return chat_misused(c);
    replace_all(c, from, to, limit, &b);
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_count(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *of = chat_arg_text(c, 0, NULL, NULL);
    if (!of || chat_spend_bytes(c->w, c->self->len))
        return c->w->rc;
    if (!of->len)
        return chat_misused(c);
    *out = chat_int(replace_all(c, of, NULL, -1, NULL));
    return c->w->rc;
}

/* -- laying out -- */

static int do_indent(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *width = chat_arg(c, 0, "width");
    bool first = chat_arg_bool(c, 1, "first", false);
    bool blank = chat_arg_bool(c, 2, "blank", false);
    int64_t spaces = !width ? 4 : width->kind == CHAT_INT ? width->i : 0;
    bool text = width && width->kind == CHAT_STRING;
    const char *s = c->self->s, *end = s + c->self->len;
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    if (spaces < 0 || spaces > 1000 || (width && !text && width->kind != CHAT_INT))
        return chat_misused(c);
    for (bool begins = true; s < end || begins; begins = false) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        size_t n = (size_t)((stop ? stop : end) - s);
        bool last = !stop;
        if (chat_spend_bytes(c->w, n + (size_t)spaces + (text ? width->len : 0)))
            break;
        if ((begins ? first : true) && (n || blank)) {
            for (int64_t i = 0; i < spaces; i++)
                buf_char(&b, ' ');
            if (text)
                buf_add(&b, width->s, width->len);
        }
        buf_add(&b, s, n);
        if (!last)
            buf_char(&b, '\n');
        s = last ? end : stop + 1;
    }
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_same(const struct chat_call *c, struct chat_value *out)
{
    *out = *c->self;
    return 0;
}

static int do_escape(const struct chat_call *c, struct chat_value *out)
{
    static const char marks[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    if (chat_spend_bytes(c->w, 4 * c->self->len))
        return c->w->rc;
    for (size_t i = 0; i < c->self->len; i++) {
        const char *mark = c->self->s[i] ? strchr(marks, c->self->s[i]) : NULL;
        if (mark)
            buf_str(&b, names[mark - marks]);
        else
            buf_char(&b, c->self->s[i]);
    }
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

#define OF_STRING (1 << CHAT_STRING)
const struct chat_function chat_text_functions[] = {
    {"trim", CHAT_AS_FILTER, OF_STRING, do_trim},
    {"strip", CHAT_AS_METHOD, OF_STRING, do_trim},
    {"lstrip", CHAT_AS_METHOD, OF_STRING, do_lstrip},
    {"rstrip", CHAT_AS_METHOD, OF_STRING, do_rstrip},
    {"upper", CHAT_AS_BOTH, OF_STRING, do_upper},
    {"lower", CHAT_AS_BOTH, OF_STRING, do_lower},
    {"title", CHAT_AS_BOTH, OF_STRING, do_title},
    {"capitalize", CHAT_AS_BOTH, OF_STRING, do_capitalize},
    {"startswith", CHAT_AS_METHOD, OF_STRING, do_startswith},
    {"endswith", CHAT_AS_METHOD, OF_STRING, do_endswith},
    {"removeprefix", CHAT_AS_METHOD, OF_STRING, do_removeprefix},
    {"removesuffix", CHAT_AS_METHOD, OF_STRING, do_removesuffix},
    {"isupper", CHAT_AS_METHOD, OF_STRING, do_isupper},
    {"islower", CHAT_AS_METHOD, OF_STRING, do_islower},
    {"isdigit", CHAT_AS_METHOD, OF_STRING, do_isdigit},
    {"isalpha", CHAT_AS_METHOD, OF_STRING, do_isalpha},
    {"isalnum", CHAT_AS_METHOD, OF_STRING, do_isalnum},
    {"isspace", CHAT_AS_METHOD, OF_STRING, do_isspace},
    {"split", CHAT_AS_METHOD, OF_STRING, do_split},
    {"rsplit", CHAT_AS_METHOD, OF_STRING, do_rsplit},
    {"splitlines", CHAT_AS_METHOD, OF_STRING, do_splitlines},
    {"find", CHAT_AS_METHOD, OF_STRING, do_find_first},
    {"rfind", CHAT_AS_METHOD, OF_STRING, do_find_last},
    {"count", CHAT_AS_METHOD, OF_STRING, do_count},
    {"replace", CHAT_AS_BOTH, OF_STRING, do_replace},
    {"indent", CHAT_AS_FILTER, OF_STRING, do_indent},
    {"safe", CHAT_AS_FILTER, OF_STRING, do_same},
    {"escape", CHAT_AS_FILTER, OF_STRING, do_escape},
    {"e", CHAT_AS_FILTER, OF_STRING, do_escape},
    {NULL, 0, 0, NULL},
};
