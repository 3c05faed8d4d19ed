/*
 * exclusive: may two branches of a oneOf be satisfied by one value? No, if their types differ, if
 * they list different values, or if, of objects, one requires a property that the other gives other
 * values or does not allow. Everything else counts as yes.
 */
#include "runtime/grammar/internal.h"

#include <string.h>

#define BRANCHES 64
#define LEVELS   3 /* of properties in properties */

/* Is a property of that name never allowed? */
static bool forbids(const struct schema_view *v, const char *name)
{
    for (int i = 0; i < v->count; i++) {
        const struct json *s = v->part[i].schema, *other = json_get(s, "additionalProperties");
        if (json_is_bool(other) && !json_bool_value(other) &&
            !json_get(json_get(s, "properties"), name))
            return true;
    }
    return false;
}

static bool property_of(
    struct compiler *c, const struct schema_view *v, const char *name, struct schema_view *out)
{
    *out = (struct schema_view){0};
    for (int i = 0; i < v->count; i++) {
        const struct json *x = json_get(json_get(v->part[i].schema, "properties"), name);
        if (x)
            view_add(c, out, x, v->part[i].place);
    }
    return out->count > 0;
}

static bool share_a_value(const char **x, int n, const char **y, int m)
{
    for (int i = 0, k = 0; i < n && k < m;) {
        int d = strcmp(x[i], y[k]);
        if (!d)
            return true;
        i += d < 0;
        k += d > 0;
    }
    return false;
}

static bool exclude(
    struct compiler *c, const struct schema_view *x, const struct schema_view *y, int levels);

static bool exclude_by_property(
    struct compiler *c, const struct schema_view *x, const struct schema_view *y, int levels)
{
    for (int i = 0; i < x->count; i++)
        json_each (r, json_get(x->part[i].schema, "required")) {
            const char *name = json_string_value(r);
            struct schema_view p, q;
            if (c->rc)
                return false;
            if (name && forbids(y, name))
                return true;
            if (name && levels && property_of(c, x, name, &p) && property_of(c, y, name, &q) &&
                exclude(c, &p, &q, levels - 1))
                return true;
        }
    return false;
}

static bool exclude(
    struct compiler *c, const struct schema_view *x, const struct schema_view *y, int levels)
{
    unsigned own = view_types(c, x), other = view_types(c, y);
    const char **a, **b;
    if (x->never || y->never || !(own & other))
        return true;
    int n = literals_of(c, x, own, &a), m = literals_of(c, y, other, &b);
    if (n >= 0 && m >= 0)
        return !share_a_value(a, n, b, m);
    return (own & other) == TYPE_OBJECT &&
        (exclude_by_property(c, x, y, levels) || exclude_by_property(c, y, x, levels));
}

void exclusive_check(struct compiler *c, const struct schema_part *one)
{
    size_t n = json_count(one->schema), i = 0;
    if (n > BRANCHES) {
        compiler_refuse(c, one->place, "at most %d branches are supported", BRANCHES);
        return;
    }
    struct schema_view *views = arena_array(c->arena, n, sizeof *views);
    if (!views) {
        compiler_no_memory(c);
        return;
    }
    json_each (x, one->schema)
        view_add(c, &views[i++], x, one->place);
    for (i = 0; i < n; i++)
        for (size_t k = 0; k < i && !c->rc; k++)
            if (!exclude(c, &views[i], &views[k], LEVELS))
                compiler_refuse(
                    c, one->place, "branches %zu and %zu may both hold: use anyOf", k, i);
}
