/*
 * compile_object: the members of an object in the order in which they are declared, and behind them
 * those that additionalProperties allows, whose names are none of the declared ones.
 */
#include "runtime/grammar/internal.h"
#include "runtime/grammar/strings.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 256 /* of a property, beside additional ones */

struct property {
    const char *name;
    int32_t rule;
    bool required;
};

struct object {
    struct property *property; /* (count) in the end; SCHEMA_PROPERTIES at most */
    int count, required;
    int32_t other; /* the rule of additional ones; -1: there are none */
};

/* -- what is declared -- */

static bool is_declared(const struct schema_part *p, const char *name)
{
    return json_get(json_get(p->schema, "properties"), name);
}

static void add_properties(struct compiler *c, struct object *o, const struct schema_part *p)
{
    const struct json *list = json_get(p->schema, "properties");
    const struct schema_place *at = list ? compiler_place(c, p->place, "properties", 0) : NULL;
    if (!at)
        return;
    if (!json_is_object(list)) {
        compiler_refuse(c, at, "it must be an object");
        return;
    }
    json_each (x, list) {
        const struct schema_place *own = compiler_place(c, at, json_key(x), 0);
        for (int i = 0; i < o->count; i++)
            if (!strcmp(o->property[i].name, json_key(x)))
                compiler_refuse(c, own, "it is declared twice");
        if (o->count == SCHEMA_PROPERTIES)
            compiler_refuse(c, at, "an object may have %d properties", SCHEMA_PROPERTIES);
        if (c->rc)
            return;
        o->property[o->count++] =
            (struct property){.name = json_key(x), .rule = compiler_rule(c, x, own)};
    }
}

static void add_required(
    struct compiler *c, struct object *o, const struct schema_view *v, const struct schema_part *p)
{
    const struct json *list = json_get(p->schema, "required");
    const struct schema_place *at = list ? compiler_place(c, p->place, "required", 0) : NULL;
    if (at && (!json_is_array(list) || json_count(list) > SCHEMA_PROPERTIES))
        compiler_refuse(c, at, "it must be a list of at most %d names", SCHEMA_PROPERTIES);
    bool closed = o->other < 0 && view_find(v, "additionalProperties", 0);
    json_each (x, at && !c->rc ? list : NULL) {
        const char *name = json_string_value(x);
        int i = 0;
        if (!name) {
            compiler_refuse(c, at, "it must be a list of names");
            return;
        }
        while (i < o->count && strcmp(o->property[i].name, name) != 0)
            i++;
        if (i == o->count && o->count == SCHEMA_PROPERTIES)
            compiler_refuse(c, at, "an object may have %d properties", SCHEMA_PROPERTIES);
        if (i == o->count && closed)
            compiler_refuse(c, at, "`%.60s` is required, but may not be there", name);
        if (c->rc)
            return;
        if (i == o->count) /* what is said nothing else of */
            o->property[o->count++] =
                (struct property){.name = name, .rule = o->other < 0 ? compiler_any(c) : o->other};
        o->required += !o->property[i].required;
        o->property[i].required = true;
    }
}

/* Where nothing is said of additional properties there are none beside declared ones. */
static void read_other(struct compiler *c, struct object *o, const struct schema_view *v)
{
    const struct schema_part *p = view_find(v, "additionalProperties", 0);
    o->other = -1;
    if (!p) {
        if (!view_find(v, "properties", 0))
            o->other = compiler_any(c);
        return;
    }
    const struct json *other = json_get(p->schema, "additionalProperties");
    const struct schema_place *at = compiler_place(c, p->place, "additionalProperties", 0);
    if (view_find(v, "additionalProperties", (int)(p - v->part) + 1)) {
        compiler_refuse(c, at, "two schemas say what additional properties are");
        return;
    }
    for (int i = 0; i < v->count; i++)
        if (&v->part[i] != p && view_find(v, "properties", i) == &v->part[i])
            json_each (x, json_get(v->part[i].schema, "properties"))
                if (!is_declared(p, json_key(x))) {
                    compiler_refuse(c, at, "`%.60s` is declared beside it", json_key(x));
                    return;
                }
    if (!json_is_bool(other) || json_bool_value(other))
        o->other = compiler_rule(c, other, at);
}

static void check_counts(struct compiler *c, const struct object *o, const struct schema_view *v)
{
    const struct schema_part *p = view_find(v, "minProperties", 0),
                             *q = view_find(v, "maxProperties", 0);
    int64_t least = view_count(c, v, "minProperties", true, 0);
    int64_t most = view_count(c, v, "maxProperties", false, INT32_MAX);
    if (least > o->required)
        compiler_refuse(c, compiler_place(c, p->place, "minProperties", 0),
            "only what required already says is supported");
    if (q && (o->other >= 0 || most < o->count))
        compiler_refuse(c, compiler_place(c, q->place, "maxProperties", 0),
            "it is not supported: declare the properties, and no additional ones");
}

/* -- names of additional properties -- */

/* Without escapes, so that a declared name cannot be written in another way. */
static int32_t plain_points(struct automaton *a, uint32_t low, uint32_t high, int32_t next)
{
    static const struct {
        uint32_t low, high;
    } plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, STRINGS_LAST}};
    int32_t node = AUTOMATON_NEVER;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        uint32_t from = low > plain[i].low ? low : plain[i].low;
        uint32_t to = high < plain[i].high ? high : plain[i].high;
        if (from <= to)
            node = automaton_fork(a, node, automaton_point(a, from, to, next));
    }
    return node;
}

static uint32_t point_at(const char *s, size_t *bytes)
{
    size_t left = strlen(s);
    *bytes = utf8_sequence(s, left < 4 ? left : 4);
    *bytes = *bytes ? *bytes : 1;
    return utf8_decode(s, *bytes);
}

/* Names n, sorted, which begin alike for `at` bytes: what may follow so that none of them is
   written. rest: any characters and the end. */
static int32_t other_names(
    struct compiler *c, const char **name, int n, size_t at, int32_t rest, int32_t end)
{
    int32_t node = AUTOMATON_NEVER;
    uint32_t from = 0;
    int i = 0;
    if (n && !name[0][at])
        i = 1;
    else
        node = end;
    while (i < n) {
        size_t bytes;
        uint32_t point = point_at(name[i] + at, &bytes);
        int first = i;
        while (i < n && !memcmp(name[i] + at, name[first] + at, bytes))
            i++;
        if (point > from)
            node = automaton_fork(c->a, node, plain_points(c->a, from, point - 1, rest));
        node = automaton_fork(c->a, node,
            plain_points(c->a, point, point,
                other_names(c, name + first, i - first, at + bytes, rest, end)));
        from = point + 1;
    }
    return automaton_fork(c->a, node, plain_points(c->a, from, STRINGS_LAST, rest));
}

static int by_name(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static int32_t other_name(struct compiler *c, const struct object *o, const struct schema_place *at)
{
    const char **name = arena_array(c->arena, (size_t)o->count + 1, sizeof *name);
    int32_t rule = automaton_rule(c->a), end, rest = automaton_knot(c->a);
    if (!name)
        return compiler_no_memory(c);
    for (int i = 0; i < o->count; i++) {
        name[i] = o->property[i].name;
        if (strlen(name[i]) > NAME_BYTES)
            return compiler_refuse(c, at, "a name is longer than %d bytes", NAME_BYTES);
    }
    qsort(name, (size_t)o->count, sizeof *name, by_name);
    end = automaton_byte(c->a, '"', '"', automaton_return(c->a));
    if (c->key_char < 0) {
        c->key_char = automaton_rule(c->a);
        automaton_begin(
            c->a, c->key_char, plain_points(c->a, 0, STRINGS_LAST, automaton_return(c->a)));
    }
    automaton_tie(c->a, rest, automaton_call(c->a, c->key_char, rest), end);
    automaton_begin(
        c->a, rule, automaton_byte(c->a, '"', '"', other_names(c, name, o->count, 0, rest, end)));
    return rule;
}

/* -- members -- */

/* Behind a name. */
static int32_t build_value(struct compiler *c, int32_t rule, int32_t next)
{
    int32_t node = automaton_call(c->a, rule, next);
    node = automaton_fork(c->a, node, automaton_byte(c->a, ' ', ' ', node));
    return automaton_byte(c->a, ':', ':', node);
}

static int32_t build_members(struct compiler *c, const struct object *o, int32_t name, int32_t next)
{
    struct automaton *a = c->a;
    int32_t close = automaton_byte(a, '}', '}', next);
    int32_t first = close, rest = compiler_space(c, close); /* nothing, something stands before */
    if (o->other >= 0) {
        int32_t knot = automaton_knot(a);
        int32_t member = compiler_space(c, automaton_call(a, name, build_value(c, o->other, knot)));
        automaton_tie(a, knot, automaton_byte(a, ',', ',', member), rest);
        rest = knot;
        first = automaton_fork(a, close, member);
    }
    for (int i = o->count; i-- > 0 && !a->fault && !a->no_memory;) {
        const struct property *p = &o->property[i];
        int32_t member =
            compiler_space(c, strings_quoted(a, p->name, build_value(c, p->rule, rest)));
        int32_t behind = automaton_byte(a, ',', ',', member);
        first = p->required ? member : automaton_fork(a, member, first);
        rest = p->required ? behind : automaton_fork(a, behind, rest);
    }
    return automaton_byte(a, '{', '{', first);
}

int32_t compile_object(struct compiler *c, const struct schema_view *v, int32_t next)
{
    struct object o = {.other = -1};
    int32_t name = -1;
    size_t most = 1;
    for (int i = 0; i < v->count; i++)
        most += json_count(json_get(v->part[i].schema, "properties")) +
            json_count(json_get(v->part[i].schema, "required"));
    most = most < SCHEMA_PROPERTIES ? most : SCHEMA_PROPERTIES;
    o.property = arena_array(c->arena, most, sizeof *o.property);
    if (!o.property)
        return compiler_no_memory(c);
    for (int i = 0; i < v->count; i++)
        add_properties(c, &o, &v->part[i]);
    read_other(c, &o, v);
    for (int i = 0; i < v->count && !c->rc; i++)
        add_required(c, &o, v, &v->part[i]);
    check_counts(c, &o, v);
    if (o.other >= 0 && !c->rc)
        name = other_name(c, &o, v->count ? v->part[0].place : &c->top);
    return c->rc ? AUTOMATON_NEVER : build_members(c, &o, name, next);
}
