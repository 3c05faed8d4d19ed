/*
 * pattern: a recursive descent makes a tree of at most PATTERN_NODES, of which nodes of the
 * automaton are built from the end. A class is a rule, so what is repeated costs two nodes a time.
 */
#include "runtime/grammar/pattern.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/grammar/strings.h"

#include <stdlib.h>
#include <string.h>

#define CLASS_RANGES 256

enum piece_kind { PIECE_EMPTY, PIECE_CLASS, PIECE_BOTH, PIECE_EITHER, PIECE_REPEAT };

struct pattern_piece {
    enum piece_kind kind;
    int32_t rule; /* of a class */
    int left, right;
    int64_t least, most; /* of a repeat */
    struct pattern_length length;
};

struct pattern {
    struct automaton *a;
    const char *at;
    struct pattern_piece *piece; /* (PATTERN_NODES) */
    int count, depth;
    int32_t any;
    struct err *e;
};

struct ranges { /* of code points */
    struct {
        uint32_t low, high;
    } at[CLASS_RANGES];
    int count;
    bool ascii; /* its opposite is within ASCII */
};

static int refuse(struct pattern *p, const char *what)
{
    return err_set(p->e, ERR_USER, "%s, at \"%.20s\"", what, p->at);
}

/* -- the tree -- */

static int64_t times(int64_t x, int64_t n)
{
    return x < 0 || n < 0 ? (x == 0 || n == 0 ? 0 : -1) : x * n;
}

static struct pattern_length length_of(const struct pattern *p, const struct pattern_piece *x)
{
    static const struct pattern_length none = {0};
    struct pattern_length l = x->left >= 0 ? p->piece[x->left].length : none,
                          r = x->right >= 0 ? p->piece[x->right].length : none;
    switch (x->kind) {
    case PIECE_EMPTY:
        return none;
    case PIECE_CLASS:
        return (struct pattern_length){1, 1};
    case PIECE_BOTH:
        return (struct pattern_length){
            l.least + r.least, l.most < 0 || r.most < 0 ? -1 : l.most + r.most};
    case PIECE_EITHER:
        return (struct pattern_length){l.least < r.least ? l.least : r.least,
            l.most < 0 || r.most < 0 ? -1
                : l.most > r.most    ? l.most
                                     : r.most};
    case PIECE_REPEAT:
        break;
    }
    return (struct pattern_length){times(l.least, x->least), times(l.most, x->most)};
}

static int add(struct pattern *p, struct pattern_piece x)
{
    if (p->count == PATTERN_NODES)
        return refuse(p, "it is too long");
    x.length = length_of(p, &x);
    if (x.length.least > INT32_MAX || x.length.most > INT32_MAX)
        return refuse(p, "it repeats too often");
    p->piece[p->count] = x;
    return p->count++;
}

/* -- characters -- */

static void put(struct ranges *r, uint32_t low, uint32_t high)
{
    if (r->count < CLASS_RANGES) {
        r->at[r->count].low = low;
        r->at[r->count++].high = high;
    }
}

static void put_named(struct ranges *r, char name)
{
    if (name == 'd' || name == 'w')
        put(r, '0', '9');
    if (name == 'w') {
        put(r, 'A', 'Z');
        put(r, '_', '_');
        put(r, 'a', 'z');
    }
    if (name == 's') {
        put(r, '\t', '\r');
        put(r, ' ', ' ');
    }
    r->ascii = true;
}

static int by_low(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static void turn_over(struct ranges *r)
{
    struct ranges out = {.ascii = r->ascii};
    uint32_t from = r->ascii ? 0x20 : 1, last = r->ascii ? 0x7e : STRINGS_LAST;
    qsort(r->at, (size_t)r->count, sizeof *r->at, by_low);
    for (int i = 0; i < r->count; i++) {
        if (r->at[i].low > from)
            put(&out, from, r->at[i].low - 1 < last ? r->at[i].low - 1 : last);
        if (r->at[i].high >= from)
            from = r->at[i].high + 1;
    }
    if (from <= last)
        put(&out, from, last);
    *r = out;
}

static int add_class(struct pattern *p, const struct ranges *r)
{
    int32_t rule = automaton_rule(p->a), end = automaton_return(p->a), node = AUTOMATON_NEVER;
    if (r->count == CLASS_RANGES)
        return refuse(p, "a class has too many ranges");
    for (int i = 0; i < r->count; i++)
        node = automaton_fork(p->a, node, strings_point(p->a, r->at[i].low, r->at[i].high, end));
    automaton_begin(p->a, rule, node);
    return add(
        p, (struct pattern_piece){.kind = PIECE_CLASS, .rule = rule, .left = -1, .right = -1});
}

static int read_hex(struct pattern *p, int count, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < count; i++) {
        static const char all[] = "0123456789abcdef0123456789ABCDEF";
        const char *at = *p->at ? strchr(all, *p->at) : NULL;
        if (!at)
            return refuse(p, "an escape lacks its digits");
        *out = *out * 16 + (uint32_t)((at - all) % 16);
        p->at++;
    }
    return *out && (*out < 0xd800 || *out > 0xdfff) ? 0 : refuse(p, "no character has that code");
}

/* Behind a backslash. *point: one character, or 0 and *r has more. */
static int read_escape(struct pattern *p, struct ranges *r, uint32_t *point)
{
    static const char controls[] = "t\tn\nr\rf\fv\v";
    char c = *p->at;
    *point = 0;
    if (c && strchr("dws", c)) {
        put_named(r, *p->at++);
        return 0;
    }
    if (c && strchr("DWS", c)) {
        struct ranges own = {0};
        put_named(&own, (char)(*p->at++ - 'A' + 'a'));
        turn_over(&own);
        for (int i = 0; i < own.count; i++)
            put(r, own.at[i].low, own.at[i].high);
        r->ascii = true;
        return 0;
    }
    for (const char *k = controls; *k; k += 2)
        if (*k == c)
            *point = (uint32_t)k[1];
    if (!*point && c && strchr("^$\\.*+?()[]{}|/-", c))
        *point = (uint32_t)c;
    if (*point) {
        p->at++;
        return 0;
    }
    if (c != 'x' && c != 'u')
        return refuse(p, "this escape is not supported");
    p->at++;
    return read_hex(p, c == 'x' ? 2 : 4, point);
}

static void read_character(struct pattern *p, uint32_t *point)
{
    size_t left = strlen(p->at), n = utf8_sequence(p->at, left < 4 ? left : 4);
    n = n ? n : 1;
    *point = utf8_decode(p->at, n);
    p->at += n;
}

/* Behind the bracket. */
static int read_class(struct pattern *p)
{
    struct ranges r = {0};
    bool turned = *p->at == '^';
    p->at += turned;
    if (*p->at == ']')
        return refuse(p, "a class is empty");
    while (*p->at && *p->at != ']') {
        uint32_t low, high;
        int rc = 0;
        if (*p->at == '[')
            return refuse(p, "a bracket in a class needs a backslash");
        if (*p->at == '\\' && p->at++)
            rc = read_escape(p, &r, &low);
        else
            read_character(p, &low);
        if (rc)
            return rc;
        bool range = *p->at == '-' && p->at[1] && p->at[1] != ']';
        if (!low && range)
            return refuse(p, "a range needs a character on each side");
        high = low;
        if (range && *++p->at == '\\' && p->at++)
            rc = read_escape(p, &r, &high);
        else if (range)
            read_character(p, &high);
        if (rc)
            return rc;
        if (low > high)
            return refuse(p, "a range is the wrong way round");
        if (low)
            put(&r, low, high);
    }
    if (*p->at != ']')
        return refuse(p, "a class has no end");
    p->at++;
    if (turned)
        turn_over(&r);
    return add_class(p, &r);
}

static int read_dot(struct pattern *p)
{
    struct ranges r = {0};
    put(&r, '\n', '\n');
    put(&r, '\r', '\r');
    put(&r, 0x85, 0x85);
    put(&r, 0x2028, 0x2029);
    turn_over(&r);
    return add_class(p, &r);
}

/* -- what is made of them -- */

static int read_either(struct pattern *p, bool outermost);

static int read_group(struct pattern *p)
{
    if (*p->at == '?' && p->at[1] != ':')
        return refuse(p, "this kind of group is not supported");
    p->at += *p->at == '?' ? 2 : 0;
    if (++p->depth > PATTERN_DEPTH)
        return refuse(p, "groups are nested too deeply");
    int x = read_either(p, false);
    p->depth--;
    if (x < 0)
        return x;
    if (*p->at != ')')
        return refuse(p, "a group has no end");
    p->at++;
    return x;
}

static int read_atom(struct pattern *p)
{
    char c = *p->at;
    uint32_t point;
    struct ranges r = {0};
    if (strchr("^$*+?{}]", c))
        return refuse(p, "this is not supported here");
    if (c == '(' && p->at++)
        return read_group(p);
    if (c == '[' && p->at++)
        return read_class(p);
    if (c == '.' && p->at++)
        return read_dot(p);
    if (c == '\\' && p->at++) {
        int rc = read_escape(p, &r, &point);
        if (rc)
            return rc;
    } else {
        read_character(p, &point);
    }
    if (point)
        put(&r, point, point);
    return add_class(p, &r);
}

static int read_count(struct pattern *p, int64_t *out)
{
    char *end;
    if (*p->at < '0' || *p->at > '9')
        return refuse(p, "a brace needs a backslash, or a number");
    *out = strtoll(p->at, &end, 10);
    if (*out > PATTERN_REPEAT)
        return refuse(p, "it repeats more than 1000 times");
    p->at = end;
    return 0;
}

static int read_braces(struct pattern *p, int64_t *least, int64_t *most)
{
    int rc = read_count(p, least);
    *most = *least;
    if (!rc && *p->at == ',') {
        p->at++;
        *most = -1;
        if (*p->at != '}')
            rc = read_count(p, most);
    }
    if (rc)
        return rc;
    if (*p->at != '}' || (*most >= 0 && *most < *least))
        return refuse(p, "this quantifier cannot be read");
    p->at++;
    return 0;
}

static int read_repeat(struct pattern *p)
{
    int x = read_atom(p), rc = 0;
    struct pattern_piece r = {.kind = PIECE_REPEAT, .left = x, .right = -1, .most = -1};
    char c = *p->at;
    if (x < 0 || !c || !strchr("*+?{", c))
        return x;
    p->at++;
    if (c == '+')
        r.least = 1;
    else if (c == '?')
        r.most = 1;
    else if (c == '{')
        rc = read_braces(p, &r.least, &r.most);
    if (rc)
        return rc;
    p->at += *p->at == '?'; /* of the same texts, another is tried first */
    return add(p, r);
}

static int read_both(struct pattern *p)
{
    int x = add(p, (struct pattern_piece){.kind = PIECE_EMPTY, .left = -1, .right = -1});
    while (x >= 0 && *p->at && !strchr("|)", *p->at)) {
        if (*p->at == '$' && (!p->at[1] || p->at[1] == '|'))
            break;
        int y = read_repeat(p);
        x = y < 0 ? y : add(p, (struct pattern_piece){.kind = PIECE_BOTH, .left = x, .right = y});
    }
    return x;
}

static int add_anything(struct pattern *p)
{
    int x = add(
        p, (struct pattern_piece){.kind = PIECE_CLASS, .rule = p->any, .left = -1, .right = -1});
    return x < 0
        ? x
        : add(p, (struct pattern_piece){.kind = PIECE_REPEAT, .left = x, .right = -1, .most = -1});
}

/* One of the whole's, which may stand anywhere in the text unless it is held at its ends. */
static int read_whole(struct pattern *p)
{
    bool first = *p->at == '^', last;
    p->at += first;
    int x = read_both(p), any;
    last = x >= 0 && *p->at == '$';
    p->at += last;
    if (x >= 0 && !first)
        x = (any = add_anything(p)) < 0
            ? any
            : add(p, (struct pattern_piece){.kind = PIECE_BOTH, .left = any, .right = x});
    if (x >= 0 && !last)
        x = (any = add_anything(p)) < 0
            ? any
            : add(p, (struct pattern_piece){.kind = PIECE_BOTH, .left = x, .right = any});
    return x;
}

static int read_either(struct pattern *p, bool outermost)
{
    int x = outermost ? read_whole(p) : read_both(p);
    while (x >= 0 && *p->at == '|') {
        p->at++;
        int y = outermost ? read_whole(p) : read_both(p);
        x = y < 0 ? y : add(p, (struct pattern_piece){.kind = PIECE_EITHER, .left = x, .right = y});
    }
    return x;
}

/* -- nodes -- */

static int32_t build(struct pattern *p, int x, int32_t next)
{
    const struct pattern_piece *at = &p->piece[x];
    struct automaton *a = p->a;
    if (at->kind == PIECE_CLASS)
        return automaton_call(a, at->rule, next);
    if (at->kind == PIECE_BOTH)
        return build(p, at->left, build(p, at->right, next));
    if (at->kind == PIECE_EITHER)
        return automaton_fork(a, build(p, at->left, next), build(p, at->right, next));
    if (at->kind == PIECE_EMPTY)
        return next;
    if (p->piece[at->left].kind == PIECE_CLASS)
        return automaton_repeat(a, p->piece[at->left].rule, at->least, at->most, next);
    int32_t rule = automaton_rule(a);
    automaton_begin(a, rule, build(p, at->left, automaton_return(a)));
    return automaton_repeat(a, rule, at->least, at->most, next);
}

int pattern_build(struct automaton *a, const char *pattern, int32_t any, int32_t next,
    int32_t *node, struct pattern_length *length, struct err *e)
{
    mem_autofree struct pattern_piece *pieces = mem_array(PATTERN_NODES, sizeof *pieces);
    struct pattern p = {.a = a, .at = pattern, .piece = pieces, .any = any, .e = e};
    if (!pieces)
        return err_set(e, ERR_MEMORY, "no memory for a pattern");
    int x = read_either(&p, true);
    if (x >= 0 && *p.at)
        x = refuse(&p, "this is not supported here");
    if (x < 0)
        return x;
    *length = p.piece[x].length;
    *node = build(&p, x, next);
    return 0;
}
