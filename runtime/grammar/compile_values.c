/*
 * compile_values: literals, strings, numbers and arrays of a view.
 */
#include "runtime/grammar/internal.h"
#include "runtime/grammar/numbers.h"
#include "runtime/grammar/pattern.h"
#include "runtime/grammar/strings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT 9007199254740991.0

/* -- literals -- */

static unsigned type_of(const struct json *v)
{
    double n = json_number_value(v);
    return json_is_null(v)  ? TYPE_NULL
        : json_is_bool(v)   ? TYPE_BOOL
        : json_is_string(v) ? TYPE_STRING
        : json_is_array(v)  ? TYPE_ARRAY
        : json_is_object(v) ? TYPE_OBJECT
        : n == floor(n)     ? TYPE_WHOLE
                            : TYPE_FRACTION;
}

/* Numbers that a double cannot be told from its neighbours by are refused. */
static bool is_exact(const struct json *v)
{
    double n = json_number_value(v);
    if (json_is_number(v))
        return isfinite(n) && (n != floor(n) || fabs(n) <= EXACT);
    if (json_is_object(v) || json_is_array(v))
        json_each (x, v)
            if (!is_exact(x))
                return false;
    return true;
}

static const char *text_of(struct compiler *c, const struct json *v, const struct schema_place *at)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    if (!is_exact(v)) {
        compiler_refuse(c, at, "a number is too large to be exact");
        return NULL;
    }
    const char *copy = json_print(v, &text) ? NULL : arena_strdup(c->arena, buf_cstr(&text));
    if (!copy)
        compiler_no_memory(c);
    return copy;
}

static int by_text(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Of one keyword; sorted, each once. */
static int texts_of(struct compiler *c, const struct schema_part *p, const char *key,
    unsigned types, const char ***out)
{
    const struct json *v = json_get(p->schema, key);
    const struct schema_place *at = compiler_place(c, p->place, key, 0);
    bool list = !strcmp(key, "enum");
    size_t most = list ? json_count(v) : 1, n = 0, kept = 0;
    if (list && (!json_is_array(v) || !most || most > SCHEMA_VALUES))
        compiler_refuse(c, at, "it must be a list of 1 to %d values", SCHEMA_VALUES);
    const char **texts = c->rc ? NULL : arena_array(c->arena, most, sizeof *texts);
    if (!texts) {
        compiler_no_memory(c);
        return -1;
    }
    json_each (x, list ? v : NULL)
        if (!c->rc && (type_of(x) & types))
            texts[n++] = text_of(c, x, at);
    if (!list && (type_of(v) & types))
        texts[n++] = text_of(c, v, at);
    if (c->rc)
        return -1;
    qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(texts[kept - 1], texts[i]) != 0)
            texts[kept++] = texts[i];
    *out = texts;
    return (int)kept;
}

static int common(const char **x, int n, const char **y, int m)
{
    int kept = 0;
    for (int i = 0, k = 0; i < n && k < m;) {
        int d = strcmp(x[i], y[k]);
        if (!d)
            x[kept++] = x[i];
        i += d <= 0;
        k += d >= 0;
    }
    return kept;
}

int literals_of(struct compiler *c, const struct schema_view *v, unsigned types, const char ***out)
{
    static const char *const keys[] = {"enum", "const"};
    int n = -1;
    for (int i = 0; i < v->count; i++)
        for (int k = 0; k < 2; k++) {
            const char **more;
            if (!json_get(v->part[i].schema, keys[k]))
                continue;
            int m = texts_of(c, &v->part[i], keys[k], types, &more);
            if (m < 0)
                return -1;
            if (n >= 0)
                m = common(more, m, *out, n);
            *out = more;
            n = m;
        }
    return n;
}

/* Texts n, sorted, which begin alike for `at` bytes. */
static int32_t tree(struct compiler *c, const char **text, int n, size_t at, int32_t next)
{
    size_t same = at;
    while (text[0][same] && text[0][same] == text[n - 1][same])
        same++;
    int32_t node = AUTOMATON_NEVER;
    int i = 0;
    if (!text[0][same]) {
        node = next;
        i = 1;
    }
    while (i < n) {
        int first = i;
        while (i < n && text[i][same] == text[first][same])
            i++;
        node = automaton_fork(c->a, node,
            automaton_text(
                c->a, text[first] + same, 1, tree(c, text + first, i - first, same + 1, next)));
    }
    return automaton_text(c->a, text[0] + at, same - at, node);
}

int32_t compile_literals(
    struct compiler *c, const struct schema_view *v, unsigned types, int32_t next)
{
    const char **text = NULL;
    int n = literals_of(c, v, types, &text);
    return n > 0 ? tree(c, text, n, 0, next) : AUTOMATON_NEVER;
}

/* -- strings -- */

#define DATE  "\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])"
#define CLOCK "([01]\\d|2[0-3]):[0-5]\\d"
#define TIME  CLOCK ":[0-5]\\d(\\.\\d{1,6})?(Z|[+-]" CLOCK ")"
#define OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define HEX   "[0-9a-f]"

/* The shape alone: which days a month has is not looked at. */
static const char *format_pattern(const char *format)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {{"date", "^" DATE "$"}, {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"}, {"ipv4", "^(" OCTET "\\.){3}" OCTET "$"},
        {"uuid", "^" HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}$"}};
    for (size_t i = 0; format && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i].name, format))
            return formats[i].pattern;
    return NULL;
}

static int32_t build_pattern(struct compiler *c, const struct schema_place *at, const char *pattern,
    int64_t least, int64_t most, int32_t next)
{
    struct pattern_length length;
    struct err why = {0};
    int32_t node;
    int32_t any = compiler_any_char(c);
    int rc = pattern_build(c->a, pattern, any, next, &node, &length, &why);
    if (rc == -ERR_MEMORY)
        return compiler_no_memory(c);
    if (rc)
        return compiler_refuse(c, at, "%.120s", why.text);
    if (length.least < least || (most >= 0 && (length.most < 0 || length.most > most)))
        return compiler_refuse(
            c, at, "the pattern itself must keep to minLength and maxLength beside it");
    return node;
}

int32_t compile_string(struct compiler *c, const struct schema_view *v, int32_t next)
{
    int64_t least = view_count(c, v, "minLength", true, 0);
    int64_t most = view_count(c, v, "maxLength", false, -1);
    const struct schema_part *p = view_find(v, "pattern", 0), *f = view_find(v, "format", 0);
    const char *form = f ? format_pattern(json_str(f->schema, "format", NULL)) : NULL;
    int32_t end = automaton_byte(c->a, '"', '"', next), node;
    if (c->rc || (most >= 0 && least > most))
        return AUTOMATON_NEVER;
    if (p) {
        const struct schema_place *at = compiler_place(c, p->place, "pattern", 0);
        const char *text = json_str(p->schema, "pattern", NULL);
        if (!text || view_find(v, "pattern", (int)(p - v->part) + 1))
            return compiler_refuse(c, at, "it must be one string");
        node = build_pattern(c, at, text, least, most, end);
    } else if (form && !least && most < 0) {
        node = build_pattern(c, f->place, form, 0, -1, end);
    } else {
        node = automaton_repeat(c->a, compiler_any_char(c), least, most, end);
    }
    return automaton_byte(c->a, '"', '"', node);
}

/* -- numbers -- */

/* The ends of the range, as whole numbers within it. */
static bool read_range(
    struct compiler *c, const struct schema_view *v, bool whole, int64_t *low, int64_t *high)
{
    static const struct {
        const char *key;
        bool low, exclusive;
    } ends[] = {{"minimum", true, false}, {"exclusiveMinimum", true, true},
        {"maximum", false, false}, {"exclusiveMaximum", false, true}};
    bool bounded = false;
    *low = -NUMBERS_MOST;
    *high = NUMBERS_MOST;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        double x;
        if (!view_number(c, v, ends[i].key, ends[i].low, &x))
            continue;
        const struct schema_place *at =
            compiler_place(c, view_find(v, ends[i].key, 0)->place, ends[i].key, 0);
        if (fabs(x) > EXACT)
            compiler_refuse(c, at, "it is too large to be exact");
        else if (!whole && (ends[i].exclusive || x != floor(x)))
            compiler_refuse(c, at,
                "of numbers with a fraction only whole ends, which are "
                "included, are supported");
        if (c->rc)
            return false;
        double next = ends[i].low ? (ends[i].exclusive ? floor(x) + 1 : ceil(x))
                                  : (ends[i].exclusive ? ceil(x) - 1 : floor(x));
        if (ends[i].low && next > (double)*low)
            *low = (int64_t)next;
        if (!ends[i].low && next < (double)*high)
            *high = (int64_t)next;
        bounded = true;
    }
    return bounded;
}

int32_t compile_number(
    struct compiler *c, const struct schema_view *v, unsigned types, int32_t next)
{
    double step = 1;
    int64_t low, high;
    bool whole = !(types & TYPE_FRACTION);
    if (view_number(c, v, "multipleOf", true, &step) && (!whole || step != 1))
        return compiler_refuse(c,
            compiler_place(c, view_find(v, "multipleOf", 0)->place, "multipleOf", 0),
            "it is not supported");
    bool bounded = read_range(c, v, whole, &low, &high);
    if (c->rc)
        return AUTOMATON_NEVER;
    if (whole)
        return numbers_whole(c->a, low, high, next);
    if (!(types & TYPE_WHOLE))
        return AUTOMATON_NEVER;
    return bounded ? numbers_within(c->a, low, high, next) : numbers_any(c->a, next);
}

/* -- arrays -- */

struct items {
    const int32_t *first; /* (fixed) the rules of those of prefixItems */
    int64_t fixed;
    int32_t other; /* the rule of those behind; -1: there are none */
    int64_t least, most;
};

static int32_t build_item(struct compiler *c, const struct items *items, int64_t i, int32_t next)
{
    return compiler_space(
        c, automaton_call(c->a, i < items->fixed ? items->first[i] : items->other, next));
}

/* From behind; `rest`: what follows i items. */
static int32_t build_items(struct compiler *c, const struct items *items, int32_t next)
{
    struct automaton *a = c->a;
    int64_t last = items->most, i;
    int32_t close = compiler_space(c, automaton_byte(a, ']', ']', next)), rest = close;
    if (items->other < 0 && (last < 0 || last > items->fixed))
        last = items->fixed;
    if (last < 0) { /* any number */
        i = items->least > items->fixed ? items->least : items->fixed;
        i = i ? i : 1;
        rest = automaton_knot(a);
        automaton_tie(a, rest, automaton_byte(a, ',', ',', build_item(c, items, i, rest)), close);
    } else {
        i = last;
        rest = last >= items->least ? close : AUTOMATON_NEVER;
    }
    while (i > 1 && rest != AUTOMATON_NEVER) {
        i--;
        rest = automaton_fork(a, i >= items->least ? close : AUTOMATON_NEVER,
            automaton_byte(a, ',', ',', build_item(c, items, i, rest)));
    }
    int32_t node = items->least ? AUTOMATON_NEVER : automaton_byte(a, ']', ']', next);
    if (last)
        node = automaton_fork(a, node, build_item(c, items, 0, rest));
    return automaton_byte(a, '[', '[', node);
}

int32_t compile_array(struct compiler *c, const struct schema_view *v, int32_t next)
{
    const struct schema_part *p = view_find(v, "prefixItems", 0), *q = view_find(v, "items", 0),
                             *u = view_find(v, "uniqueItems", 0);
    struct items items = {.other = -1,
        .least = view_count(c, v, "minItems", true, 0),
        .most = view_count(c, v, "maxItems", false, -1)};
    if (u && !(items.most >= 0 && items.most < 2) &&
        (!json_is_bool(json_get(u->schema, "uniqueItems")) ||
            json_bool(u->schema, "uniqueItems", true)))
        return compiler_refuse(
            c, compiler_place(c, u->place, "uniqueItems", 0), "it is not supported");
    if ((p && view_find(v, "prefixItems", (int)(p - v->part) + 1)) ||
        (q && view_find(v, "items", (int)(q - v->part) + 1)) || (p && q && p != q))
        return compiler_refuse(c, (q ? q : p)->place, "two schemas say what items are");
    const struct json *prefix = p ? json_get(p->schema, "prefixItems") : NULL,
                      *other = q ? json_get(q->schema, "items") : NULL;
    const struct schema_place *at = p ? compiler_place(c, p->place, "prefixItems", 0) : NULL;
    int64_t fixed = items.fixed = (int64_t)json_count(prefix);
    if (p && (!json_is_array(prefix) || !fixed || fixed > SCHEMA_VALUES))
        return compiler_refuse(c, at, "it must be a list of 1 to %d schemas", SCHEMA_VALUES);
    int32_t *rules = arena_array(c->arena, (size_t)fixed + 1, sizeof *rules);
    if (!rules)
        return compiler_no_memory(c);
    items.first = rules;
    int k = 0;
    json_each (x, prefix) {
        rules[k] = compiler_rule(c, x, compiler_place(c, at, NULL, k));
        k++;
    }
    bool none = json_is_bool(other) && !json_bool_value(other);
    if (other && !none)
        items.other = compiler_rule(c, other, compiler_place(c, q->place, "items", 0));
    else if (!other && (!p || items.least > fixed)) /* what is said nothing of */
        items.other = compiler_any(c);
    if (c->rc)
        return AUTOMATON_NEVER;
    return build_items(c, &items, next);
}
