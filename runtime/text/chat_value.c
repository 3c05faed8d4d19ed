/*
 * chat_value: the values of a template, Python's str, list and dict as far as chat templates go:
 * making, comparing and looking into them. Values are immutable but for namespaces, through which
 * one may come to contain itself: so whatever walks a value counts its depth. All of it spends from
 * the rendering's budget. Must not know filters or nodes.
 */
#include "runtime/text/chat_ast.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>

#define LOOK_UNITS 4096 /* between two looks at the clock: well under a millisecond */

/* -- the budget -- */

int chat_fail(struct chat_work *w, const char *fmt, ...)
{
    char what[200];
    if (w->rc)
        return w->rc;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (w->line)
        w->rc = err_set(w->e, ERR_DATA, "line %d: %s", w->line, what);
    else
        w->rc = err_set(w->e, ERR_DATA, "%s", what);
    return w->rc;
}

int chat_spend(struct chat_work *w, int64_t units)
{
    if (w->rc)
        return w->rc;
    if (units > w->units)
        return chat_fail(w, "the template does too much for one conversation");
    w->units -= units;
    if (w->units > w->look_at)
        return 0;
    w->look_at = w->units - LOOK_UNITS;
    if (clock_thread_ms() > w->until_ms)
        return chat_fail(w, "the template takes too long for one conversation");
    return 0;
}

int chat_spend_bytes(struct chat_work *w, size_t bytes)
{
    return chat_spend(w, (int64_t)(bytes / CHAT_UNIT_BYTES) + 1);
}

int chat_enter(struct chat_work *w)
{
    return ++w->depth > CHAT_DEPTH ? chat_fail(w, "nested too deeply") : chat_spend(w, 1);
}

void *chat_alloc(struct chat_work *w, size_t count, size_t size)
{
    size_t bytes, before = arena_used(w->a);
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > INT64_MAX)
        bytes = INT64_MAX;
    if (chat_spend_bytes(w, bytes))
        return NULL;
    void *p = arena_alloc(w->a, bytes);
    if (!p && bytes < CHAT_ARENA - before)
        w->rc = err_set(w->e, ERR_MEMORY, "no memory to render a conversation");
    else if (!p)
        chat_fail(
            w, "the template needs more than %d MiB for one conversation", (int)(CHAT_ARENA >> 20));
    return p;
}

/* -- making -- */

struct chat_value chat_constant(const char *s)
{
    return (struct chat_value){.kind = CHAT_STRING, .s = s, .len = strlen(s)};
}

struct chat_value chat_string(struct chat_work *w, const char *s, size_t len)
{
    char *copy = chat_alloc(w, len + 1, 1);
    if (!copy)
        return (struct chat_value){0};
    if (len)
        memcpy(copy, s, len);
    return (struct chat_value){.kind = CHAT_STRING, .s = copy, .len = len};
}

struct chat_value chat_take(struct chat_work *w, struct buf *text)
{
    struct chat_value v = {0};
    if (buf_ok(text))
        v = chat_string(w, buf_cstr(text), text->len);
    else
        chat_fail(w, "a text of more than %d MiB", (int)(CHAT_TEXT_BYTES >> 20));
    buf_done(text);
    return v;
}

struct chat_value chat_int(int64_t i)
{
    return (struct chat_value){.kind = CHAT_INT, .i = i};
}

struct chat_value chat_float(double d)
{
    return (struct chat_value){.kind = CHAT_FLOAT, .d = d};
}

struct chat_value chat_bool(bool b)
{
    return (struct chat_value){.kind = CHAT_BOOL, .b = b};
}

struct chat_value chat_none(void)
{
    return (struct chat_value){.kind = CHAT_NONE};
}

struct chat_value chat_list(struct chat_work *w, int64_t count)
{
    struct chat_value *items = chat_alloc(w, (size_t)count + 1, sizeof *items);
    if (!items)
        return (struct chat_value){0};
    return (struct chat_value){.kind = CHAT_LIST, .items = items, .count = count};
}

struct chat_value chat_new_map(struct chat_work *w)
{
    struct chat_map *m = chat_alloc(w, 1, sizeof *m);
    if (!m)
        return (struct chat_value){0};
    return (struct chat_value){.kind = CHAT_MAP, .map = m};
}

static struct chat_pair *find_pair(
    struct chat_work *w, const struct chat_map *m, const char *key, size_t len)
{
    for (int64_t i = 0; i < m->count; i++) {
        struct chat_pair *p = &m->pairs[i];
        if (i % 8 == 0 && chat_spend(w, 1))
            return NULL;
        if (p->key.len == len && !memcmp(p->key.s, key, len))
            return p;
    }
    return NULL;
}

int chat_map_put(
    struct chat_work *w, struct chat_map *m, const struct chat_value *key, struct chat_value v)
{
    if (key->kind != CHAT_STRING)
        return chat_fail(w, "a key is %s", chat_kind_name(key->kind));
    struct chat_pair *p = find_pair(w, m, key->s, key->len);
    if (p) {
        p->value = v;
        return w->rc;
    }
    if (m->count == m->room) {
        int64_t room = m->room ? 2 * m->room : 4;
        struct chat_pair *grown = chat_alloc(w, (size_t)room, sizeof *grown);
        if (!grown)
            return w->rc;
        if (m->count)
            memcpy(grown, m->pairs, (size_t)m->count * sizeof *grown);
        m->pairs = grown;
        m->room = room;
    }
    m->pairs[m->count++] = (struct chat_pair){.key = *key, .value = v};
    return w->rc;
}

const struct chat_value *chat_map_get(
    struct chat_work *w, const struct chat_map *m, const char *key, size_t len)
{
    const struct chat_pair *p = find_pair(w, m, key, len);
    return p ? &p->value : NULL;
}

static struct chat_value from_json_container(struct chat_work *w, const struct json *v)
{
    struct chat_value out =
        json_is_object(v) ? chat_new_map(w) : chat_list(w, (int64_t)json_count(v));
    int64_t i = 0;
    json_each (item, out.kind == CHAT_UNDEFINED ? NULL : v) {
        struct chat_value child = chat_from_json(w, item);
        if (w->rc)
            break;
        if (out.kind == CHAT_LIST) {
            out.items[i++] = child;
            continue;
        }
        struct chat_value key = chat_string(w, json_key(item), strlen(json_key(item)));
        if (w->rc || chat_map_put(w, out.map, &key, child))
            break;
    }
    return w->rc ? (struct chat_value){0} : out;
}

struct chat_value chat_from_json(struct chat_work *w, const struct json *v)
{
    if (json_is_object(v) || json_is_array(v))
        return from_json_container(w, v);
    if (json_is_string(v))
        return chat_string(w, json_string_value(v), strlen(json_string_value(v)));
    if (json_is_bool(v))
        return chat_bool(json_bool_value(v));
    if (!json_is_number(v))
        return chat_none();
    double d = json_number_value(v);
    if (d == floor(d) && fabs(d) <= 9007199254740992.0)
        return chat_int((int64_t)d);
    return chat_float(d);
}

/* -- asking -- */

const char *chat_kind_name(enum chat_kind k)
{
    static const char *const names[] = {
        "an undefined value",
        "nothing",
        "a boolean",
        "an integer",
        "a float",
        "a string",
        "a list",
        "a map",
        "the loop",
        "a macro",
    };
    return names[k];
}

bool chat_truthy(const struct chat_value *v)
{
    switch (v->kind) {
    case CHAT_BOOL:
        return v->b;
    case CHAT_INT:
        return v->i != 0;
    case CHAT_FLOAT:
        return v->d != 0;
    case CHAT_STRING:
        return v->len != 0;
    case CHAT_LIST:
        return v->count != 0 || v->form == CHAT_IS_LAZY;
    case CHAT_MAP:
        return v->map->count != 0 || v->map->assignable;
    case CHAT_LOOP:
    case CHAT_MACRO:
        return true;
    default:
        return false;
    }
}

bool chat_number(const struct chat_value *v, double *out)
{
    switch (v->kind) {
    case CHAT_INT:
        *out = (double)v->i;
        return true;
    case CHAT_FLOAT:
        *out = v->d;
        return true;
    case CHAT_BOOL:
        *out = v->b;
        return true;
    default:
        return false;
    }
}

static bool equal_maps(struct chat_work *w, const struct chat_map *x, const struct chat_map *y)
{
    if (x == y)
        return true;
    bool same = x->count == y->count && x->assignable == y->assignable;
    for (int64_t i = 0; same && i < x->count; i++) {
        const struct chat_value *v = chat_map_get(w, y, x->pairs[i].key.s, x->pairs[i].key.len);
        same = v && chat_equal(w, v, &x->pairs[i].value);
    }
    return same;
}

static bool equal_lists(struct chat_work *w, const struct chat_value *x, const struct chat_value *y)
{
    bool same = x->count == y->count && x->form == y->form;
    for (int64_t i = 0; same && i < x->count; i++)
        same = chat_equal(w, &x->items[i], &y->items[i]);
    return same;
}

bool chat_equal(struct chat_work *w, const struct chat_value *x, const struct chat_value *y)
{
    double p, q;
    bool same = true;
    if (x->kind == CHAT_INT && y->kind == CHAT_INT)
        return x->i == y->i;
    if (chat_number(x, &p) && chat_number(y, &q))
        return p == q;
    if (x->kind != y->kind)
        return false;
    if (chat_enter(w)) {
        w->depth--;
        return false;
    }
    if (x->kind == CHAT_STRING)
        same = x->len == y->len && !chat_spend_bytes(w, x->len) && !memcmp(x->s, y->s, x->len);
    else if (x->kind == CHAT_LIST)
        same = equal_lists(w, x, y);
    else if (x->kind == CHAT_MAP)
        same = equal_maps(w, x->map, y->map);
    else if (x->kind == CHAT_MACRO)
        same = x->macro == y->macro;
    w->depth--;
    return same;
}

static int order_lists(struct chat_work *w, const struct chat_value *x, const struct chat_value *y)
{
    int d = 0;
    for (int64_t i = 0; i < x->count && i < y->count && !d && !w->rc; i++)
        d = chat_equal(w, &x->items[i], &y->items[i]) ? 0
                                                      : chat_order(w, &x->items[i], &y->items[i]);
    return d ? d : (x->count > y->count) - (x->count < y->count);
}

int chat_order(struct chat_work *w, const struct chat_value *x, const struct chat_value *y)
{
    double p, q;
    int d = 0;
    if (x->kind == CHAT_INT && y->kind == CHAT_INT)
        return (x->i > y->i) - (x->i < y->i);
    if (chat_number(x, &p) && chat_number(y, &q))
        return (p > q) - (p < q);
    chat_enter(w);
    if (x->kind == CHAT_LIST && y->kind == CHAT_LIST && x->form == y->form && !w->rc) {
        d = order_lists(w, x, y);
    } else if (x->kind == CHAT_STRING && y->kind == CHAT_STRING) {
        size_t least = x->len < y->len ? x->len : y->len;
        d = chat_spend_bytes(w, least) ? 0 : memcmp(x->s, y->s, least);
        d = d ? d : (x->len > y->len) - (x->len < y->len);
    } else {
        chat_fail(w, "%s and %s have no order", chat_kind_name(x->kind), chat_kind_name(y->kind));
    }
    w->depth--;
    return d;
}

bool chat_contains(struct chat_work *w, const struct chat_value *in, const struct chat_value *x)
{
    bool found = false;
    switch (in->kind) {
    case CHAT_STRING:
        if (x->kind != CHAT_STRING)
            chat_fail(w, "%s in a string", chat_kind_name(x->kind));
        return !chat_spend_bytes(w, in->len + x->len) &&
            (!x->len || memmem(in->s, in->len, x->s, x->len));
    case CHAT_LIST:
        for (int64_t i = 0; i < in->count && !found && !chat_spend(w, 1); i++)
            found = chat_equal(w, x, &in->items[i]);
        return found;
    case CHAT_MAP:
        return x->kind == CHAT_STRING && chat_map_get(w, in->map, x->s, x->len);
    case CHAT_UNDEFINED:
        return false;
    default:
        chat_fail(w, "\"in\" of %s", chat_kind_name(in->kind));
        return false;
    }
}

int64_t chat_length(struct chat_work *w, const struct chat_value *v)
{
    int64_t n = 0;
    switch (v->kind) {
    case CHAT_STRING:
        for (size_t i = 0; !i && !chat_spend_bytes(w, v->len);)
            for (; i < v->len; i++)
                n += (v->s[i] & 0xc0) != 0x80;
        return n;
    case CHAT_LIST:
        return v->form == CHAT_IS_LAZY ? -1 : v->count;
    case CHAT_MAP:
        return v->map->assignable ? -1 : v->map->count;
    case CHAT_LOOP:
        return v->loop->count;
    case CHAT_UNDEFINED:
        return 0;
    default:
        return -1;
    }
}

/* -- looking into them -- */

struct chat_value chat_substring(
    struct chat_work *w, const struct chat_value *v, int64_t from, int64_t count)
{
    size_t at = 0, end;
    if (chat_spend_bytes(w, v->len))
        return (struct chat_value){0};
    for (; from > 0 && at < v->len; from--)
        at += utf8_sequence(v->s + at, v->len - at);
    for (end = at; count > 0 && end < v->len; count--)
        end += utf8_sequence(v->s + end, v->len - end);
    return chat_string(w, v->s + at, end - at);
}

static void loop_item(const struct chat_loop *l, const char *name, struct chat_value *out)
{
    const struct {
        const char *name;
        struct chat_value v;
    } fields[] = {
        {"index", chat_int(l->i + 1)},
        {"index0", chat_int(l->i)},
        {"revindex", chat_int(l->count - l->i)},
        {"revindex0", chat_int(l->count - l->i - 1)},
        {"first", chat_bool(l->i == 0)},
        {"last", chat_bool(l->i == l->count - 1)},
        {"length", chat_int(l->count)},
        {"depth", chat_int(1)},
        {"depth0", chat_int(0)},
    };
    if (!strcmp(name, "previtem") && l->i > 0)
        *out = l->items[l->i - 1];
    if (!strcmp(name, "nextitem") && l->i < l->count - 1)
        *out = l->items[l->i + 1];
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!strcmp(name, fields[i].name))
            *out = fields[i].v;
}

void chat_item(struct chat_work *w, const struct chat_value *of, const struct chat_value *index,
    struct chat_value *out)
{
    *out = (struct chat_value){0};
    bool text = index->kind == CHAT_STRING, whole = index->kind == CHAT_INT;
    if (of->kind == CHAT_MAP && text) {
        const struct chat_value *v = chat_map_get(w, of->map, index->s, index->len);
        if (v)
            *out = *v;
    } else if (of->kind == CHAT_LOOP && text) {
        loop_item(of->loop, index->s, out);
    } else if ((of->kind == CHAT_LIST || of->kind == CHAT_STRING) && whole) {
        int64_t count = chat_length(w, of), i = index->i < 0 ? index->i + count : index->i;
        if (i >= 0 && i < count)
            *out = of->kind == CHAT_LIST ? of->items[i] : chat_substring(w, of, i, 1);
    } else if (of->kind == CHAT_UNDEFINED) {
        chat_fail(w, "%.80s of an undefined value", text ? index->s : "item");
    } /* else as Jinja2: undefined */
}

struct chat_value chat_keys(struct chat_work *w, const struct chat_map *m)
{
    struct chat_value out = chat_list(w, m->count);
    for (int64_t i = 0; out.kind == CHAT_LIST && i < m->count; i++)
        out.items[i] = m->pairs[i].key;
    return out;
}

static struct chat_value characters(struct chat_work *w, const struct chat_value *v)
{
    struct chat_value out = chat_list(w, chat_length(w, v));
    size_t at = 0;
    for (int64_t i = 0; out.kind == CHAT_LIST && i < out.count && !w->rc; i++) {
        size_t n = utf8_sequence(v->s + at, v->len - at);
        out.items[i] = chat_string(w, v->s + at, n);
        at += n;
    }
    return out;
}

int chat_items(struct chat_work *w, const struct chat_value *v, struct chat_value *out)
{
    switch (v->kind) {
    case CHAT_LIST:
        *out = *v;
        break;
    case CHAT_MAP:
        *out = chat_keys(w, v->map);
        break;
    case CHAT_STRING:
        *out = characters(w, v);
        break;
    case CHAT_UNDEFINED:
        *out = chat_list(w, 0);
        break;
    default:
        chat_fail(w, "%s cannot be looped over", chat_kind_name(v->kind));
    }
    return w->rc;
}
