/*
 * chat_filter: filters and methods of any value, of lists and of maps, and the door to those of
 * strings (chat_text.c). Jinja2's and Python's names and arguments; what gives a generator there
 * gives a list that is marked lazy here. Must not know nodes.
 */
#include "runtime/text/chat_ast.h"

#include "base/utf8.h"

#include <math.h>

/* -- arguments -- */

const struct chat_value *chat_arg(const struct chat_call *c, int position, const char *name)
{
    const struct chat_args *a = c->args;
    for (int i = 0; i < a->count; i++)
        if (a->names[i] ? name && !strcmp(a->names[i], name) : i == position) {
            a->used[i] = true;
            return &a->values[i];
        }
    return NULL;
}

int chat_misused(const struct chat_call *c)
{
    return chat_fail(c->w, "%.40s of %s with these arguments is not supported", c->name,
        chat_kind_name(c->self->kind));
}

int64_t chat_arg_int(const struct chat_call *c, int position, const char *name, int64_t absent)
{
    const struct chat_value *v = chat_arg(c, position, name);
    if (!v || v->kind == CHAT_NONE)
        return absent;
    if (v->kind != CHAT_INT)
        chat_misused(c);
    return v->kind == CHAT_INT ? v->i : absent;
}

bool chat_arg_bool(const struct chat_call *c, int position, const char *name, bool absent)
{
    const struct chat_value *v = chat_arg(c, position, name);
    return v ? chat_truthy(v) : absent;
}

const struct chat_value *chat_arg_text(
    const struct chat_call *c, int position, const char *name, const struct chat_value *absent)
{
    const struct chat_value *v = chat_arg(c, position, name);
    if (!v && absent)
        return absent;
    if (v && v->kind == CHAT_STRING)
        return v;
    chat_misused(c);
    return NULL;
}

/* -- any value -- */

static int do_string(const struct chat_call *c, struct chat_value *out)
{
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    chat_print(c->w, c->self, &b);
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_length(const struct chat_call *c, struct chat_value *out)
{
    *out = chat_int(chat_length(c->w, c->self));
    return out->i < 0 ? chat_misused(c) : c->w->rc;
}

static int do_tojson(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *indent = chat_arg(c, 1, "indent");
    const struct chat_value *separators = chat_arg(c, 2, "separators");
    bool text = indent && indent->kind == CHAT_STRING;
    int64_t width = text ? 0 : chat_arg_int(c, 1, "indent", -1);
    struct chat_json_style s = {.indent = (int)width,
        .ascii = chat_arg_bool(c, 0, "ensure_ascii", false),
        .sorted = chat_arg_bool(c, 3, "sort_keys", false),
        .comma = width < 0 ? ", " : ",",
        .colon = ": "};
    if (text || width < -1 || width > 100)
        return chat_misused(c);
    if (separators && separators->kind != CHAT_NONE) {
        if (separators->kind != CHAT_LIST || separators->count != 2 ||
            separators->items[0].kind != CHAT_STRING || separators->items[1].kind != CHAT_STRING)
            return chat_misused(c);
        s.comma = separators->items[0].s;
        s.colon = separators->items[1].s;
    }
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    chat_to_json(c->w, c->self, &s, &b);
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_default(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *instead = chat_arg(c, 0, "default_value");
    bool falsy = chat_arg_bool(c, 1, "boolean", false) && !chat_truthy(c->self);
    *out = c->self->kind != CHAT_UNDEFINED && !falsy ? *c->self
        : instead                                    ? *instead
                                                     : chat_constant("");
    return 0;
}

static int do_int(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *instead = chat_arg(c, 0, "default");
    double d = NAN;
    char *end = NULL;
    *out = instead ? *instead : chat_int(0);
    if (c->self->kind == CHAT_STRING && c->self->len) {
        long long v = strtoll(c->self->s, &end, 10);
        end += strspn(end, " \n\t");
        if (!*end && end != c->self->s) {
            *out = chat_int(v);
            return 0;
        }
        d = strtod(c->self->s, &end);
        d = *end ? NAN : d;
    } else {
        chat_number(c->self, &d);
    }
    if (fabs(d) < 0x1p62)
        *out = chat_int(c->self->kind == CHAT_INT ? c->self->i : (int64_t)d);
    return 0;
}

static int do_float(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *instead = chat_arg(c, 0, "default");
    double d = 0;
    char *end = NULL;
    bool ok = chat_number(c->self, &d);
    if (c->self->kind == CHAT_STRING && c->self->len) {
        d = strtod(c->self->s, &end);
        ok = !*end;
    }
    *out = ok ? chat_float(d) : instead ? *instead : chat_float(0);
    return 0;
}

static int do_abs(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *v = c->self;
    if (v->kind == CHAT_FLOAT)
        *out = chat_float(fabs(v->d));
    else if (v->kind == CHAT_INT && v->i != INT64_MIN)
        *out = chat_int(v->i < 0 ? -v->i : v->i);
    else
        return chat_misused(c);
    return 0;
}

static int do_round(const struct chat_call *c, struct chat_value *out)
{
    int64_t digits = chat_arg_int(c, 0, "precision", 0);
    static const struct chat_value common = {.kind = CHAT_STRING, .s = "common", .len = 6};
    const struct chat_value *method = chat_arg_text(c, 1, "method", &common);
    double d, scale = pow(10, (double)digits);
    if (!method || !chat_number(c->self, &d) || digits < -15 || digits > 15)
        return chat_misused(c);
    d = !strcmp(method->s, "ceil")    ? ceil(d * scale) / scale
        : !strcmp(method->s, "floor") ? floor(d * scale) / scale
                                      : nearbyint(d * scale) / scale;
    *out = chat_float(d);
    return 0;
}

/* -- attributes: "a.b" of an item, as map, sort and selectattr take them -- */

static void attribute_of(struct chat_work *w, const struct chat_value *item,
    const struct chat_value *path, struct chat_value *out)
{
    struct chat_value at = *item;
    if (path->kind == CHAT_INT) {
        chat_item(w, &at, path, out);
        return;
    }
    for (const char *s = path->s, *end = s + path->len; s <= end && !w->rc;) {
        const char *dot = memchr(s, '.', (size_t)(end - s));
        struct chat_value name = chat_string(w, s, (size_t)((dot ? dot : end) - s));
        if (name.kind == CHAT_STRING && name.len && strspn(name.s, "0123456789") == name.len)
            name = chat_int(strtoll(name.s, NULL, 10));
        struct chat_value of = at;
        chat_item(w, &of, &name, &at);
        s = dot ? dot + 1 : end + 1;
    }
    *out = at;
}

static bool is_path(const struct chat_value *v)
{
    return v && (v->kind == CHAT_STRING || v->kind == CHAT_INT);
}

/* The rest of a call's arguments, for the filter or test that it names. */
static struct chat_args rest_of(const struct chat_call *c, int from)
{
    const struct chat_args *a = c->args;
    for (int i = from; i < a->count; i++)
        a->used[i] = true;
    if (a->positional <= from)
        return (struct chat_args){0};
    return (struct chat_args){.values = a->values + from,
        .names = a->names + from,
        .used = a->used + from,
        .count = a->count - from,
        .positional = a->positional - from};
}

static int do_map(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *path = chat_arg(c, -1, "attribute");
    const struct chat_value *instead = chat_arg(c, -1, "default");
    const struct chat_value *filter = path ? NULL : chat_arg_text(c, 0, NULL, NULL);
    struct chat_value items;
    if ((path && !is_path(path)) || c->w->rc || chat_items(c->w, c->self, &items))
        return chat_misused(c);
    struct chat_args rest = rest_of(c, 1);
    *out = chat_list(c->w, items.count);
    out->form = CHAT_IS_LAZY;
    for (int64_t i = 0; i < items.count && !chat_spend(c->w, 1); i++) {
        struct chat_value *to = &out->items[i];
        struct chat_call one = {.w = c->w, .self = &items.items[i], .args = &rest};
        if (path) {
            attribute_of(c->w, &items.items[i], path, to);
            if (to->kind == CHAT_UNDEFINED && instead)
                *to = *instead;
        } else {
            one.name = filter->s;
            chat_apply(&one, to);
        }
    }
    return c->w->rc;
}

/* select, reject, selectattr, rejectattr: items for which a test holds, or does not. */
static int choose(const struct chat_call *c, bool by_attribute, bool wanted, struct chat_value *out)
{
    int at = by_attribute;
    const struct chat_value *path = by_attribute ? chat_arg(c, 0, NULL) : NULL;
    const struct chat_value *test = chat_arg(c, at, NULL);
    struct chat_value items;
    if ((by_attribute && !is_path(path)) || (test && test->kind != CHAT_STRING) ||
        chat_items(c->w, c->self, &items))
        return chat_misused(c);
    struct chat_args rest = rest_of(c, at + 1);
    *out = chat_list(c->w, items.count);
    out->form = CHAT_IS_LAZY;
    out->count = 0;
    for (int64_t i = 0; i < items.count && !chat_spend(c->w, 1); i++) {
        struct chat_value of = items.items[i];
        if (path)
            attribute_of(c->w, &items.items[i], path, &of);
        struct chat_call one = {.w = c->w, .self = &of, .args = &rest};
        bool holds = chat_truthy(&of);
        if (test) {
            one.name = test->s;
            chat_test(&one, &holds);
        }
        if (holds == wanted)
            out->items[out->count++] = items.items[i];
    }
    return c->w->rc;
}

static int do_select(const struct chat_call *c, struct chat_value *out)
{
    return choose(c, false, true, out);
}

static int do_reject(const struct chat_call *c, struct chat_value *out)
{
    return choose(c, false, false, out);
}

static int do_selectattr(const struct chat_call *c, struct chat_value *out)
{
    return choose(c, true, true, out);
}

static int do_rejectattr(const struct chat_call *c, struct chat_value *out)
{
    return choose(c, true, false, out);
}

/* -- lists -- */

static int do_first(const struct chat_call *c, struct chat_value *out)
{
    struct chat_value items;
    if (!chat_items(c->w, c->self, &items) && items.count)
        *out = items.items[0];
    return c->w->rc;
}

static int do_last(const struct chat_call *c, struct chat_value *out)
{
    struct chat_value items;
    if (!chat_items(c->w, c->self, &items) && items.count)
        *out = items.items[items.count - 1];
    return c->w->rc;
}

static const struct chat_value nothing = {.kind = CHAT_STRING, .s = "", .len = 0};

static int join(const struct chat_call *c, const struct chat_value *list,
    const struct chat_value *between, const struct chat_value *path, struct chat_value *out)
{
    struct chat_value items;
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    if (chat_items(c->w, list, &items))
        return c->w->rc;
    for (int64_t i = 0; i < items.count && !chat_spend_bytes(c->w, between->len); i++) {
        struct chat_value v = items.items[i];
        if (path)
            attribute_of(c->w, &items.items[i], path, &v);
        if (i)
            buf_add(&b, between->s, between->len);
        chat_print(c->w, &v, &b);
    }
    *out = chat_take(c->w, &b);
    return c->w->rc;
}

static int do_join(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *between = chat_arg_text(c, 0, "d", &nothing);
    const struct chat_value *path = chat_arg(c, 1, "attribute");
    if (!between || (path && !is_path(path)))
        return chat_misused(c);
    return join(c, c->self, between, path, out);
}

/* "between".join(list) */
static int do_join_method(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *list = chat_arg(c, 0, NULL);
    return list ? join(c, list, c->self, NULL, out) : chat_misused(c);
}

static int do_list(const struct chat_call *c, struct chat_value *out)
{
    if (!chat_items(c->w, c->self, out))
        out->form = CHAT_IS_LIST;
    return c->w->rc;
}

static int do_reverse(const struct chat_call *c, struct chat_value *out)
{
    struct chat_value items, reversed;
    if (chat_items(c->w, c->self, &items))
        return c->w->rc;
    reversed = chat_list(c->w, items.count);
    for (int64_t i = 0; reversed.kind == CHAT_LIST && i < items.count; i++)
        reversed.items[i] = items.items[items.count - 1 - i];
    if (c->self->kind == CHAT_STRING && !c->w->rc)
        return join(c, &reversed, &nothing, NULL, out);
    reversed.form = CHAT_IS_LAZY;
    *out = reversed;
    return c->w->rc;
}

/* What an item is sorted or told apart by: its attribute, in lower case unless asked otherwise. */
static struct chat_value key_of(const struct chat_call *c, const struct chat_value *item,
    const struct chat_value *path, bool exact)
{
    static const struct chat_args none = {0};
    struct chat_value v = *item;
    if (path)
        attribute_of(c->w, item, path, &v);
    struct chat_value key = v;
    struct chat_call lower = {.w = c->w, .name = "lower", .self = &v, .args = &none};
    if (!exact && v.kind == CHAT_STRING)
        chat_apply(&lower, &key);
    return key;
}

/* Merges two sorted halves of [low, high); stable. */
static void merge_sort(const struct chat_call *c, struct chat_value (*v)[2],
    struct chat_value (*spare)[2], int64_t low, int64_t high, bool down)
{
    int64_t middle = low + (high - low) / 2, i = low, j = middle, k = low;
    if (high - low < 2 || chat_spend(c->w, high - low))
        return;
    merge_sort(c, v, spare, low, middle, down);
    merge_sort(c, v, spare, middle, high, down);
    while (k < high) {
        bool right = i == middle;
        if (!right && j < high) {
            int d = chat_order(c->w, &v[j][0], &v[i][0]);
            right = down ? d > 0 : d < 0;
        }
        memcpy(spare[k++], right ? v[j++] : v[i++], sizeof *v);
    }
    memcpy(v + low, spare + low, (size_t)(high - low) * sizeof *v);
}

static int sort(const struct chat_call *c, const struct chat_value *items,
    const struct chat_value *path, bool exact, bool down, struct chat_value *out)
{
    struct chat_value(*v)[2] = chat_alloc(c->w, (size_t)items->count + 1, sizeof *v);
    struct chat_value(*spare)[2] = chat_alloc(c->w, (size_t)items->count + 1, sizeof *v);
    *out = chat_list(c->w, items->count);
    for (int64_t i = 0; i < items->count && !c->w->rc; i++) {
        v[i][0] = key_of(c, &items->items[i], path, exact);
        v[i][1] = items->items[i];
    }
    if (!c->w->rc)
        merge_sort(c, v, spare, 0, items->count, down);
    for (int64_t i = 0; i < items->count && !c->w->rc; i++)
        out->items[i] = v[i][1];
    return c->w->rc;
}

static int do_sort(const struct chat_call *c, struct chat_value *out)
{
    bool down = chat_arg_bool(c, 0, "reverse", false);
    bool exact = chat_arg_bool(c, 1, "case_sensitive", false);
    const struct chat_value *path = chat_arg(c, 2, "attribute");
    struct chat_value items;
    if ((path && !is_path(path)) || chat_items(c->w, c->self, &items))
        return chat_misused(c);
    return sort(c, &items, path, exact, down, out);
}

static int do_unique(const struct chat_call *c, struct chat_value *out)
{
    bool exact = chat_arg_bool(c, 0, "case_sensitive", false);
    const struct chat_value *path = chat_arg(c, 1, "attribute");
    struct chat_value items;
    if ((path && !is_path(path)) || chat_items(c->w, c->self, &items))
        return chat_misused(c);
    struct chat_value keys = chat_list(c->w, items.count);
    *out = chat_list(c->w, items.count);
    keys.count = out->count = 0;
    out->form = CHAT_IS_LAZY;
    for (int64_t i = 0; i < items.count && !c->w->rc; i++) {
        struct chat_value key = key_of(c, &items.items[i], path, exact);
        if (chat_contains(c->w, &keys, &key))
            continue;
        keys.items[keys.count++] = key;
        out->items[out->count++] = items.items[i];
    }
    return c->w->rc;
}

static int extreme(const struct chat_call *c, bool most, struct chat_value *out)
{
    bool exact = chat_arg_bool(c, 0, "case_sensitive", false);
    const struct chat_value *path = chat_arg(c, 1, "attribute");
    struct chat_value items, best;
    if ((path && !is_path(path)) || chat_items(c->w, c->self, &items))
        return chat_misused(c);
    for (int64_t i = 0; i < items.count && !c->w->rc; i++) {
        struct chat_value key = key_of(c, &items.items[i], path, exact);
        int d = i ? chat_order(c->w, &key, &best) : 1;
        if (i && !(most ? d > 0 : d < 0))
            continue;
        best = key;
        *out = items.items[i];
    }
    return c->w->rc;
}

static int do_min(const struct chat_call *c, struct chat_value *out)
{
    return extreme(c, false, out);
}

static int do_max(const struct chat_call *c, struct chat_value *out)
{
    return extreme(c, true, out);
}

static int do_sum(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *path = chat_arg(c, 0, "attribute");
    const struct chat_value *start = chat_arg(c, 1, "start");
    struct chat_value items;
    int64_t whole = start && start->kind == CHAT_INT ? start->i : 0;
    double real = 0, d;
    bool is_real = start && start->kind == CHAT_FLOAT;
    if (is_real)
        real = start->d;
    if ((path && path->kind != CHAT_NONE && !is_path(path)) || chat_items(c->w, c->self, &items))
        return chat_misused(c);
    for (int64_t i = 0; i < items.count && !chat_spend(c->w, 1); i++) {
        struct chat_value v = items.items[i];
        if (is_path(path))
            attribute_of(c->w, &items.items[i], path, &v);
        if (!chat_number(&v, &d))
            return chat_misused(c);
        is_real = is_real || v.kind == CHAT_FLOAT;
        real += v.kind == CHAT_FLOAT ? d : 0;
        if (v.kind != CHAT_FLOAT &&
            __builtin_add_overflow(whole, v.kind == CHAT_INT ? v.i : v.b, &whole))
            return chat_fail(c->w, "number out of range");
    }
    *out = is_real ? chat_float(real + (double)whole) : chat_int(whole);
    return c->w->rc;
}

static int do_index(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *of = chat_arg(c, 0, NULL);
    for (int64_t i = 0; of && i < c->self->count && !chat_spend(c->w, 1); i++)
        if (chat_equal(c->w, of, &c->self->items[i])) {
            *out = chat_int(i);
            return c->w->rc;
        }
    return chat_misused(c);
}

static int do_count_items(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *of = chat_arg(c, 0, NULL);
    int64_t n = 0;
    for (int64_t i = 0; of && i < c->self->count && !chat_spend(c->w, 1); i++)
        n += chat_equal(c->w, of, &c->self->items[i]);
    *out = chat_int(n);
    return of ? c->w->rc : chat_misused(c);
}

/* -- maps -- */

static int do_keys(const struct chat_call *c, struct chat_value *out)
{
    *out = chat_keys(c->w, c->self->map);
    return c->w->rc;
}

static int do_values(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_map *m = c->self->map;
    *out = chat_list(c->w, m->count);
    for (int64_t i = 0; out->kind == CHAT_LIST && i < m->count; i++)
        out->items[i] = m->pairs[i].value;
    return c->w->rc;
}

static int do_items(const struct chat_call *c, struct chat_value *out)
{
    bool none = c->self->kind == CHAT_UNDEFINED;
    const struct chat_map *m = none ? NULL : c->self->map;
    *out = chat_list(c->w, none ? 0 : m->count);
    for (int64_t i = 0; m && !c->w->rc && i < m->count; i++) {
        struct chat_value pair = chat_list(c->w, 2);
        if (pair.kind != CHAT_LIST)
            break;
        pair.form = CHAT_IS_TUPLE;
        pair.items[0] = m->pairs[i].key;
        pair.items[1] = m->pairs[i].value;
        out->items[i] = pair;
    }
    out->form = c->method ? CHAT_IS_LIST : CHAT_IS_LAZY;
    return c->w->rc;
}

static int do_dictsort(const struct chat_call *c, struct chat_value *out)
{
    static const struct chat_value key = {.kind = CHAT_STRING, .s = "key", .len = 3};
    bool exact = chat_arg_bool(c, 0, "case_sensitive", false);
    const struct chat_value *by = chat_arg_text(c, 1, "by", &key);
    bool down = chat_arg_bool(c, 2, "reverse", false);
    struct chat_value pairs;
    if (!by || do_items(c, &pairs))
        return c->w->rc;
    struct chat_value place = chat_int(strcmp(by->s, "value") == 0);
    return sort(c, &pairs, &place, exact, down, out);
}

static int do_get(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *key = chat_arg(c, 0, NULL), *instead = chat_arg(c, 1, NULL);
    if (!key)
        return chat_misused(c);
    const struct chat_value *v =
        key->kind == CHAT_STRING ? chat_map_get(c->w, c->self->map, key->s, key->len) : NULL;
    *out = v ? *v : instead ? *instead : chat_none();
    return c->w->rc;
}

static int do_attr(const struct chat_call *c, struct chat_value *out)
{
    const struct chat_value *name = chat_arg_text(c, 0, "name", NULL);
    if (name && c->self->kind == CHAT_LOOP)
        chat_item(c->w, c->self, name, out);
    return c->w->rc; /* of a dict an attribute is no item */
}

static int do_copy(const struct chat_call *c, struct chat_value *out)
{
    *out = *c->self; /* neither can change */
    return 0;
}

static int do_cycle(const struct chat_call *c, struct chat_value *out)
{
    if (!c->args->positional)
        return chat_misused(c);
    for (int i = 0; i < c->args->positional; i++)
        c->args->used[i] = true;
    *out = c->args->values[c->self->loop->i % c->args->positional];
    return 0;
}

/* -- the tables -- */

static const struct chat_function functions[] = {
    {"string", CHAT_AS_FILTER, OF_ANY, do_string},
    {"length", CHAT_AS_FILTER, OF_ANY, do_length},
    {"count", CHAT_AS_FILTER, OF_ANY, do_length},
    {"tojson", CHAT_AS_FILTER, OF_ANY, do_tojson},
    {"default", CHAT_AS_FILTER, OF_ANY, do_default},
    {"d", CHAT_AS_FILTER, OF_ANY, do_default},
    {"int", CHAT_AS_FILTER, OF_ANY, do_int},
    {"float", CHAT_AS_FILTER, OF_ANY, do_float},
    {"abs", CHAT_AS_FILTER, OF_ANY, do_abs},
    {"round", CHAT_AS_FILTER, OF_ANY, do_round},
    {"attr", CHAT_AS_FILTER, OF_ANY, do_attr},
    {"map", CHAT_AS_FILTER, OF_ITEMS, do_map},
    {"select", CHAT_AS_FILTER, OF_ITEMS, do_select},
    {"reject", CHAT_AS_FILTER, OF_ITEMS, do_reject},
    {"selectattr", CHAT_AS_FILTER, OF_ITEMS, do_selectattr},
    {"rejectattr", CHAT_AS_FILTER, OF_ITEMS, do_rejectattr},
    {"first", CHAT_AS_FILTER, OF_ITEMS, do_first},
    {"last", CHAT_AS_FILTER, OF_ITEMS, do_last},
    {"join", CHAT_AS_FILTER, OF_ITEMS, do_join},
    {"join", CHAT_AS_METHOD, OF_STRING, do_join_method},
    {"list", CHAT_AS_FILTER, OF_ITEMS, do_list},
    {"reverse", CHAT_AS_FILTER, OF_ITEMS, do_reverse},
    {"sort", CHAT_AS_FILTER, OF_ITEMS, do_sort},
    {"unique", CHAT_AS_FILTER, OF_ITEMS, do_unique},
    {"min", CHAT_AS_FILTER, OF_ITEMS, do_min},
    {"max", CHAT_AS_FILTER, OF_ITEMS, do_max},
    {"sum", CHAT_AS_FILTER, OF_ITEMS, do_sum},
    {"index", CHAT_AS_METHOD, OF_LIST, do_index},
    {"count", CHAT_AS_METHOD, OF_LIST, do_count_items},
    {"copy", CHAT_AS_METHOD, OF_LIST | OF_MAP, do_copy},
    {"keys", CHAT_AS_METHOD, OF_MAP, do_keys},
    {"values", CHAT_AS_METHOD, OF_MAP, do_values},
    {"items", CHAT_AS_METHOD, OF_MAP, do_items},
    {"items", CHAT_AS_FILTER, OF_MAP | 1 << CHAT_UNDEFINED, do_items},
    {"dictsort", CHAT_AS_FILTER, OF_MAP, do_dictsort},
    {"get", CHAT_AS_METHOD, OF_MAP, do_get},
    {"cycle", CHAT_AS_METHOD, 1 << CHAT_LOOP, do_cycle},
    {NULL, 0, 0, NULL},
};

/* *known: some kind has it. */
static const struct chat_function *find_function(
    const struct chat_function *table, const struct chat_call *c, int of, bool *known)
{
    for (const struct chat_function *f = table; f->name; f++) {
        if (strcmp(f->name, c->name) || !(f->as & (c->method ? CHAT_AS_METHOD : CHAT_AS_FILTER)))
            continue;
        *known = true;
        if (f->of & of)
            return f;
    }
    return NULL;
}

int chat_apply(const struct chat_call *c, struct chat_value *out)
{
    struct chat_call call = *c;
    struct chat_value text;
    bool known = false;
    *out = (struct chat_value){0};
    const struct chat_function *f = find_function(functions, c, 1 << c->self->kind, &known);
    if (!f)
        f = find_function(chat_text_functions, c, 1 << c->self->kind, &known);
    if (!f && !c->method) { /* filters of strings take anything that becomes text */
        f = find_function(chat_text_functions, c, OF_STRING, &known);
        if (f && do_string(c, &text))
            return c->w->rc;
        call.self = f ? &text : c->self;
    }
    if (c->self->kind == CHAT_UNDEFINED && c->method)
        return chat_fail(c->w, "%.80s of an undefined value", c->name);
    if (!f && !known)
        return chat_fail(
            c->w, "%s \"%.40s\" is not supported", c->method ? "method" : "filter", c->name);
    if (!f)
        return chat_misused(c);
    if (chat_spend(c->w, 1) || f->run(&call, out))
        return c->w->rc;
    for (int i = 0; i < c->args->count; i++)
        if (!c->args->used[i])
            return chat_misused(c);
    return c->w->rc;
}
