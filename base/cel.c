/*
 * cel: a recursive descent that computes as it reads, a function a level of precedence. While
 * `unread` is above 0 an expression is only read over, which is how its end is found; a body that a
 * list's elements are put into is read once a element. A failure is kept and ends all levels, each
 * of which returns an absent value then.
 */
#include "base/cel.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 4 };

enum cel_kind { CEL_ABSENT, CEL_BOOL, CEL_NUMBER, CEL_STRING, CEL_TREE, CEL_LITERAL };

struct cel_value {
    enum cel_kind kind;
    bool truth;
    double number;
    const char *text[2]; /* of a string: one behind the other */
    size_t len[2];
    bool lower;              /* its letters count as small ones */
    const struct json *tree; /* an object, or a list */
    const char *elements;    /* of a list in the rule: where they begin */
};

struct cel {
    const char *rule, *at;
    struct {
        const char *name;
        size_t len;
        struct cel_value value;
    } variables[VARIABLES];
    int variable_count;
    int unread; /* above 0: what is read does not count */
    int depth;  /* of expressions that this one is part of */
    bool failed;
    struct err *e;
};

static const struct cel_value nothing = {.kind = CEL_ABSENT};

static struct cel_value read_expression(struct cel *c);

static struct cel_value fail(struct cel *c, const char *why)
{
    if (!c->failed)
        err_set(
            c->e, ERR_BUG, "rule \"%.60s...\", byte %d: %s", c->rule, (int)(c->at - c->rule), why);
    c->failed = true;
    return nothing;
}

static struct cel_value truth(bool is)
{
    return (struct cel_value){.kind = CEL_BOOL, .truth = is};
}

static struct cel_value number(double n)
{
    return (struct cel_value){.kind = CEL_NUMBER, .number = n};
}

static struct cel_value string(const char *s, size_t n)
{
    return (struct cel_value){.kind = CEL_STRING, .text = {s}, .len = {n}};
}

static struct cel_value value_of(const struct json *v)
{
    if (!v || json_is_null(v))
        return nothing;
    if (json_is_bool(v))
        return truth(json_bool_value(v));
    if (json_is_number(v))
        return number(json_number_value(v));
    if (json_is_string(v))
        return string(json_string_value(v), strlen(json_string_value(v)));
    return (struct cel_value){.kind = CEL_TREE, .tree = v};
}

/* -- tokens -- */

static void skip_space(struct cel *c)
{
    while (*c->at == ' ')
        c->at++;
}

/* Takes the token when it is next; an operator that another one begins with is not that one. */
static bool take(struct cel *c, const char *token)
{
    size_t n = strlen(token);
    skip_space(c);
    if (c->failed || strncmp(c->at, token, n) != 0)
        return false;
    if (isalpha((unsigned char)*token) && (isalnum((unsigned char)c->at[n]) || c->at[n] == '_'))
        return false;
    c->at += n;
    return true;
}

static void want(struct cel *c, const char *token)
{
    if (!take(c, token))
        fail(c, token);
}

static const char *take_name(struct cel *c, size_t *len)
{
    skip_space(c);
    const char *name = c->at;
    while (isalnum((unsigned char)*c->at) || *c->at == '_')
        c->at++;
    *len = (size_t)(c->at - name);
    if (!*len)
        fail(c, "a name is expected");
    return name;
}

static bool is_name(const char *name, size_t len, const char *word)
{
    return strlen(word) == len && !memcmp(name, word, len);
}

/* -- values -- */

static bool counts(const struct cel *c)
{
    return !c->unread && !c->failed;
}

static bool is_true(struct cel *c, struct cel_value v)
{
    if (counts(c) && v.kind != CEL_BOOL)
        fail(c, "before this true or false is expected");
    return v.truth;
}

static double as_number(struct cel *c, struct cel_value v)
{
    if (counts(c) && v.kind != CEL_NUMBER)
        fail(c, "before this a number is expected");
    return v.number;
}

static size_t length(const struct cel_value *v)
{
    return v->len[0] + v->len[1];
}

static char letter(const struct cel_value *v, size_t i)
{
    char c = i < v->len[0] ? v->text[0][i] : v->text[1][i - v->len[0]];
    return v->lower && c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Does `whole` have `part` from byte `from` on? */
static bool has_part(const struct cel_value *whole, const struct cel_value *part, size_t from)
{
    size_t n = length(part);
    if (from + n > length(whole))
        return false;
    for (size_t i = 0; i < n; i++)
        if (letter(whole, from + i) != letter(part, i))
            return false;
    return true;
}

static bool equal(struct cel *c, const struct cel_value *a, const struct cel_value *b)
{
    if (counts(c) && (a->kind != b->kind || a->kind < CEL_BOOL || a->kind > CEL_STRING))
        fail(c, "before this two values of one simple type are expected");
    return a->kind == CEL_BOOL  ? a->truth == b->truth
        : a->kind == CEL_NUMBER ? a->number == b->number
                                : length(a) == length(b) && has_part(a, b, 0);
}

static struct cel_value add(struct cel *c, struct cel_value a, struct cel_value b)
{
    if (a.kind != CEL_STRING)
        return number(as_number(c, a) + as_number(c, b));
    if (b.kind != CEL_STRING || a.text[1] || b.text[1] || a.lower || b.lower)
        return fail(c, "before this two strings are expected, as they are");
    a.text[1] = b.text[0];
    a.len[1] = b.len[0];
    return a;
}

/* -- lists -- */

struct cel_list {
    const struct json *item;
    const char *at; /* of a list in the rule */
    bool any;       /* is something left? */
};

static struct cel_list list_of(struct cel *c, const struct cel_value *v)
{
    struct cel_list l = {.at = v->elements};
    if (counts(c) && v->kind != CEL_ABSENT && v->kind != CEL_LITERAL &&
        (v->kind != CEL_TREE || !json_is_array(v->tree)))
        fail(c, "before this a list is expected");
    l.item = v->kind == CEL_TREE ? json_first(v->tree) : NULL;
    l.any = counts(c) && (l.item || l.at);
    return l;
}

static struct cel_value next_of(struct cel *c, struct cel_list *l)
{
    if (l->item) {
        struct cel_value v = value_of(l->item);
        l->item = json_next(l->item);
        l->any = l->item;
        return v;
    }
    const char *here = c->at;
    c->at = l->at;
    struct cel_value v = read_expression(c);
    l->any = take(c, ",");
    l->at = c->at;
    c->at = here;
    return v;
}

static struct cel_value read_list(struct cel *c)
{
    skip_space(c);
    struct cel_value v = {.kind = CEL_LITERAL, .elements = c->at};
    c->unread++;
    do
        read_expression(c);
    while (take(c, ","));
    c->unread--;
    want(c, "]");
    return v;
}

static bool is_in(struct cel *c, const struct cel_value *v, const struct cel_value *list)
{
    bool found = false;
    for (struct cel_list l = list_of(c, list); l.any && !c->failed && !found;) {
        struct cel_value other = next_of(c, &l);
        found = equal(c, v, &other);
    }
    return found;
}

/* The rest of all(x, body), exists() or exists_one(): of how many elements is the body true? */
static int read_elements(struct cel *c, const struct cel_value *list, int *total)
{
    size_t len;
    const char *name = take_name(c, &len);
    want(c, ",");
    if (c->variable_count == VARIABLES) {
        fail(c, "too many lists in one another");
        return 0;
    }
    const char *body = c->at;
    c->unread++;
    read_expression(c);
    c->unread--;
    const char *end = c->at;
    int n = 0, i = c->variable_count++;
    *total = 0;
    for (struct cel_list l = list_of(c, list); l.any && !c->failed;) {
        c->variables[i].name = name;
        c->variables[i].len = len;
        c->variables[i].value = next_of(c, &l);
        c->at = body;
        n += is_true(c, read_expression(c));
        ++*total;
    }
    c->variable_count--;
    if (!c->failed)
        c->at = end;
    want(c, ")");
    return n;
}

/* -- expressions, from the tightest binding on -- */

static struct cel_value size_of(struct cel *c, const struct cel_value *v)
{
    int n = 0;
    if (v->kind == CEL_STRING) {
        for (size_t i = 0; i < length(v); i++)
            n += (letter(v, i) & 0xc0) != 0x80; /* characters, in UTF-8 */
        return number(n);
    }
    for (struct cel_list l = list_of(c, v); l.any && !c->failed; n++)
        next_of(c, &l);
    return number(n);
}

static struct cel_value call(
    struct cel *c, const struct cel_value *of, const char *name, size_t len)
{
    int total;
    if (is_name(name, len, "all"))
        return truth(read_elements(c, of, &total) == total);
    if (is_name(name, len, "exists"))
        return truth(read_elements(c, of, &total) > 0);
    if (is_name(name, len, "exists_one"))
        return truth(read_elements(c, of, &total) == 1);
    bool starts = is_name(name, len, "startsWith"), ends = is_name(name, len, "endsWith");
    struct cel_value part = starts || ends ? read_expression(c) : nothing;
    want(c, ")");
    if (!counts(c))
        return nothing;
    if (is_name(name, len, "size"))
        return size_of(c, of);
    if (of->kind != CEL_STRING || (part.kind != CEL_STRING && (starts || ends)))
        return fail(c, "before this a string's function is expected");
    if (starts)
        return truth(has_part(of, &part, 0));
    if (ends)
        return truth(
            length(&part) <= length(of) && has_part(of, &part, length(of) - length(&part)));
    if (!is_name(name, len, "lowerAscii"))
        return fail(c, "before this there is a function that is not known");
    struct cel_value small = *of;
    small.lower = true;
    return small;
}

/* What follows a value: members and functions. One that is not there may be asked after. */
static struct cel_value read_members(struct cel *c, struct cel_value v)
{
    while (take(c, ".")) {
        size_t len;
        char key[64];
        const char *name = take_name(c, &len);
        if (take(c, "(")) {
            v = call(c, &v, name, len);
            continue;
        }
        if (!counts(c))
            continue;
        if (v.kind != CEL_TREE || !json_is_object(v.tree) || len >= sizeof key)
            return fail(c, "before this the member of what is no object");
        memcpy(key, name, len);
        key[len] = 0;
        v = value_of(json_get(v.tree, key));
    }
    return v;
}

static struct cel_value read_name(struct cel *c)
{
    size_t len;
    const char *name = take_name(c, &len);
    if (is_name(name, len, "true") || is_name(name, len, "false"))
        return truth(*name == 't');
    if (is_name(name, len, "has") && take(c, "(")) {
        struct cel_value v = read_expression(c);
        want(c, ")");
        return truth(v.kind != CEL_ABSENT);
    }
    if (is_name(name, len, "double") && take(c, "(")) {
        struct cel_value v = read_expression(c);
        want(c, ")");
        return number(as_number(c, v));
    }
    for (int i = c->variable_count; i--;)
        if (c->variables[i].len == len && !memcmp(c->variables[i].name, name, len))
            return c->variables[i].value;
    return counts(c) ? fail(c, "before this a name that is not known") : nothing;
}

static struct cel_value read_primary(struct cel *c)
{
    skip_space(c);
    if (take(c, "(")) {
        struct cel_value v = read_expression(c);
        want(c, ")");
        return v;
    }
    if (take(c, "["))
        return read_list(c);
    if (*c->at == '\'') {
        const char *text = ++c->at;
        c->at += strcspn(c->at, "'\\");
        struct cel_value v = string(text, (size_t)(c->at - text));
        want(c, "'");
        return v;
    }
    if (isdigit((unsigned char)*c->at)) {
        char *end;
        struct cel_value v = number(strtod(c->at, &end));
        c->at = end;
        return v;
    }
    return read_name(c);
}

static struct cel_value read_unary(struct cel *c)
{
    if (take(c, "!"))
        return truth(!is_true(c, read_unary(c)));
    if (take(c, "-"))
        return number(-as_number(c, read_unary(c)));
    return read_members(c, read_primary(c));
}

/* Whole numbers are divided as such. */
static struct cel_value divide(struct cel *c, double a, double b, bool rest)
{
    if (!counts(c))
        return nothing;
    bool whole = a == floor(a) && b == floor(b);
    if (b == 0 || (rest && !whole))
        return fail(c, "before this a division that has no result");
    return number(rest ? fmod(a, b) : whole ? trunc(a / b) : a / b);
}

static struct cel_value read_product(struct cel *c)
{
    struct cel_value v = read_unary(c);
    for (;;) {
        if (take(c, "*"))
            v = number(as_number(c, v) * as_number(c, read_unary(c)));
        else if (take(c, "/"))
            v = divide(c, as_number(c, v), as_number(c, read_unary(c)), false);
        else if (take(c, "%"))
            v = divide(c, as_number(c, v), as_number(c, read_unary(c)), true);
        else
            return v;
    }
}

static struct cel_value read_sum(struct cel *c)
{
    struct cel_value v = read_product(c);
    for (;;) {
        if (take(c, "+"))
            v = add(c, v, read_product(c));
        else if (take(c, "-"))
            v = number(as_number(c, v) - as_number(c, read_product(c)));
        else
            return v;
    }
}

static struct cel_value read_relation(struct cel *c)
{
    struct cel_value a = read_sum(c);
    bool same = take(c, "==");
    if (same || take(c, "!=")) {
        struct cel_value b = read_sum(c);
        return truth(equal(c, &a, &b) == same);
    }
    if (take(c, "<="))
        return truth(as_number(c, a) <= as_number(c, read_sum(c)));
    if (take(c, ">="))
        return truth(as_number(c, a) >= as_number(c, read_sum(c)));
    if (take(c, "<"))
        return truth(as_number(c, a) < as_number(c, read_sum(c)));
    if (take(c, ">"))
        return truth(as_number(c, a) > as_number(c, read_sum(c)));
    if (!take(c, "in"))
        return a;
    struct cel_value list = read_sum(c);
    return truth(is_in(c, &a, &list));
}

static struct cel_value read_and(struct cel *c)
{
    struct cel_value v = read_relation(c);
    while (take(c, "&&")) {
        bool settled = !is_true(c, v);
        c->unread += settled;
        bool next = is_true(c, read_relation(c));
        c->unread -= settled;
        v = truth(!settled && next);
    }
    return v;
}

/* Most rules begin with what they are not about: once the whole is true, no more is read. */
static struct cel_value read_or(struct cel *c)
{
    struct cel_value v = read_and(c);
    while (take(c, "||")) {
        bool settled = is_true(c, v);
        if (settled && c->depth == 1 && counts(c)) {
            c->at += strlen(c->at);
            return v;
        }
        c->unread += settled;
        bool next = is_true(c, read_and(c));
        c->unread -= settled;
        v = truth(settled || next);
    }
    return v;
}

static struct cel_value read_expression(struct cel *c)
{
    c->depth++;
    struct cel_value v = read_or(c);
    if (take(c, "?")) {
        bool first = is_true(c, v);
        c->unread += !first;
        struct cel_value a = read_expression(c);
        c->unread -= !first;
        want(c, ":");
        c->unread += first;
        struct cel_value b = read_expression(c);
        c->unread -= first;
        v = first ? a : b;
    }
    c->depth--;
    return v;
}

int cel_holds(const char *rule, const struct json *self, bool *holds, struct err *e)
{
    struct cel c = {.rule = rule, .at = rule, .e = e, .variable_count = 1};
    c.variables[0].name = "self";
    c.variables[0].len = strlen("self");
    c.variables[0].value = value_of(self);
    bool is = is_true(&c, read_expression(&c));
    skip_space(&c);
    if (!c.failed && *c.at)
        fail(&c, "here nothing more is expected");
    if (c.failed)
        return -ERR_BUG;
    *holds = is;
    return 0;
}
