/*
 * field: the table interpreter behind api/jobspec and api/report. Decoding walks the rows, not
 * the object, so the first error found is the first in the table's order; unknown members are
 * looked for afterwards. Everything from outside is checked here: type, integrality, bounds,
 * length, number of items; nothing a server or a file says may reach an assertion. Pure but for the
 * arena. It must not know any field by name.
 */
#include "base/field.h"

#include "base/hash.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>

#define PATH_BYTES 160
#define DEPTH      8

const char field_none[] = "";

int field_refuse(
    const struct field_source *s, const char *path, struct err *e, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *dot = *s->prefix && *path ? "." : "";
    return err_set(e, s->code, "%s%s%s: %s", s->prefix, dot, path, text);
}

static bool absent(const struct json *v)
{
    return !v || json_is_null(v);
}

/* The value at a dotted path; *out is NULL when it or a parent is absent. */
static int look_up(const struct field_source *s, const struct json *object, const char *path,
    const struct json **out, struct err *e)
{
    *out = NULL;
    for (const char *p = path;;) {
        size_t n = strcspn(p, ".");
        char key[PATH_BYTES];
        assert(n < sizeof key);
        memcpy(key, p, n);
        key[n] = 0;
        const struct json *v = json_get(object, key);
        if (!p[n]) {
            *out = v;
            return 0;
        }
        if (absent(v))
            return 0;
        if (!json_is_object(v)) {
            char parent[PATH_BYTES];
            snprintf(parent, sizeof parent, "%.*s", (int)(p + n - path), path);
            return field_refuse(s, parent, e, "must be an object");
        }
        object = v;
        p += n + 1;
    }
}

static bool bounded(const struct field *f)
{
    return f->min != 0 || f->max != 0;
}

bool field_inside(const struct field *f, double v)
{
    if (isnan(v) || !bounded(f))
        return !isnan(v);
    return (f->min_open ? v > f->min : v >= f->min) && (f->max_open ? v < f->max : v <= f->max);
}

static int check_text(const struct field_source *s, const struct field *f, const char *path,
    const char *text, double min, double max, struct err *e)
{
    size_t n = strlen(text);
    if (max > 0 && (double)n > max)
        return field_refuse(s, path, e, "longer than %.0f bytes", max);
    if ((double)n < min)
        return field_refuse(s, path, e, n ? "shorter than %.0f bytes" : "must not be empty", min);
    if (f->format && n && !f->format->ok(text))
        return field_refuse(s, path, e, "\"%.60s\" is not %s", text, f->format->want);
    return 0;
}

#define NUMBER_BYTES 32

/* Whole numbers as one writes them, without an exponent. */
static const char *show(double n, char out[NUMBER_BYTES])
{
    snprintf(out, NUMBER_BYTES, floor(n) == n && fabs(n) < 1e18 ? "%.0f" : "%.10g", n);
    return out;
}

static int decode_number(const struct field_source *s, const struct field *f, const struct json *v,
    void *at, struct err *e)
{
    bool whole = f->kind != FIELD_NUM;
    const char *want = whole ? "an integer" : "a number";
    if (!json_is_number(v))
        return field_refuse(s, f->path, e, "must be %s", want);
    double n = json_number_value(v);
    if (!isfinite(n) || (whole && (floor(n) != n || fabs(n) > 0x1p53)))
        return field_refuse(s, f->path, e, "must be %s", want);
    char shown[3][NUMBER_BYTES];
    if (!field_inside(f, n))
        return field_refuse(s, f->path, e, "%s is outside %s%s..%s%s", show(n, shown[0]),
            show(f->min, shown[1]), f->min_open ? " (excluded)" : "", show(f->max, shown[2]),
            f->max_open ? " (excluded)" : "");
    if (f->kind == FIELD_INT && fabs(n) > INT32_MAX)
        return field_refuse(s, f->path, e, "%s is too large", show(n, shown[0]));
    if (f->kind == FIELD_INT)
        *(int *)at = (int)n;
    else if (f->kind == FIELD_I64)
        *(int64_t *)at = (int64_t)n;
    else
        *(double *)at = n;
    return 0;
}

static int decode_string(const struct field_source *s, const struct field *f, const struct json *v,
    void *at, struct err *e)
{
    const char *text = json_string_value(v);
    if (!text)
        return field_refuse(s, f->path, e, "must be a string");
    int rc = check_text(s, f, f->path, text, f->min, f->max, e);
    if (rc)
        return rc;
    const char *copy = arena_strdup(s->arena, text);
    if (!copy)
        return err_set(e, ERR_MEMORY, "out of memory reading %s", f->path);
    *(const char **)at = copy;
    return 0;
}

static int decode_enum(
    const struct field_source *s, const struct field *f, const char *text, void *at, struct err *e)
{
    const char *const *names = f->info;
    char list[120] = "";
    for (int i = 0; names[i]; i++) {
        if (text && !strcmp(text, names[i])) {
            *(int *)at = i;
            return 0;
        }
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    if (!text)
        return field_refuse(s, f->path, e, "must be a string");
    return field_refuse(s, f->path, e, "\"%.40s\" is not one of %s", text, list);
}

static int decode_element(const struct field_source *s, const struct field *f, const struct json *v,
    int i, void *at, struct err *e)
{
    char path[PATH_BYTES], whole[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s[%d]", f->path, i);
    if (f->kind == FIELD_NUMBERS) {
        if (!json_is_number(v) && !json_is_null(v))
            return field_refuse(s, path, e, "must be a number");
        ((double *)at)[i] = json_is_null(v) ? NAN : json_number_value(v);
        return 0;
    }
    if (f->kind == FIELD_STRINGS) {
        const char *text = json_string_value(v);
        if (!text)
            return field_refuse(s, path, e, "must be a string");
        int rc = check_text(s, f, path, text, 0, f->item_max, e);
        if (rc)
            return rc;
        ((const char **)at)[i] = arena_strdup(s->arena, text);
        return ((const char **)at)[i] ? 0
                                      : err_set(e, ERR_MEMORY, "out of memory reading %s", path);
    }
    if (!json_is_object(v))
        return field_refuse(s, path, e, "must be an object");
    const struct field_table *t = f->info;
    snprintf(whole, sizeof whole, "%s%s%s", s->prefix, *s->prefix ? "." : "", path);
    struct field_source inner = *s;
    inner.prefix = whole;
    return field_decode(t, &inner, v, (char *)at + (size_t)i * t->size, e);
}

static int decode_list(const struct field_source *s, const struct field *f, const struct json *v,
    void *base, struct err *e)
{
    void *at = (char *)base + f->offset;
    if (!json_is_array(v))
        return field_refuse(s, f->path, e, "must be a list");
    size_t n = json_count(v);
    if ((double)n > f->max)
        return field_refuse(s, f->path, e, "more than %.0f items", f->max);
    if ((double)n < f->min)
        return field_refuse(s, f->path, e, "must have at least %.0f items", f->min);
    if (f->kind == FIELD_ITEMS) {
        void *items = arena_array(s->arena, n ? n : 1, ((const struct field_table *)f->info)->size);
        if (!items)
            return err_set(e, ERR_MEMORY, "out of memory reading %s", f->path);
        *(void **)at = items;
        at = items;
    }
    int i = 0;
    json_each (item, v) {
        int rc = decode_element(s, f, item, i, at, e);
        if (rc)
            return rc;
        i++;
    }
    *(int *)((char *)base + f->count_offset) = i;
    return 0;
}

/* "a,b" into a list of strings. */
static int default_list(
    const struct field_source *s, const struct field *f, void *base, struct err *e)
{
    const char **at = (const char **)((char *)base + f->offset);
    int n = 0;
    for (const char *p = f->def; *p;) {
        size_t len = strcspn(p, ",");
        at[n] = arena_printf(s->arena, "%.*s", (int)len, p);
        if (!at[n++])
            return err_set(e, ERR_MEMORY, "out of memory reading %s", f->path);
        p += len + (p[len] == ',');
    }
    *(int *)((char *)base + f->count_offset) = n;
    return 0;
}

static int set_default(
    const struct field_source *s, const struct field *f, void *base, struct err *e)
{
    void *at = (char *)base + f->offset;
    if (!f->def)
        return field_refuse(s, f->path, e, "required");
    switch (f->kind) {
    case FIELD_BOOL:
        *(bool *)at = !strcmp(f->def, "true");
        return 0;
    case FIELD_INT:
        *(int *)at = (int)strtol(f->def, NULL, 10);
        return 0;
    case FIELD_I64:
        *(int64_t *)at = strtoll(f->def, NULL, 10);
        return 0;
    case FIELD_NUM:
        *(double *)at = strtod(f->def, NULL);
        return 0;
    case FIELD_STR:
        *(const char **)at = f->def == field_none ? NULL : f->def;
        return 0;
    case FIELD_ENUM:
        return decode_enum(s, f, f->def, at, e);
    case FIELD_STRINGS:
        return default_list(s, f, base, e);
    case FIELD_NUMBERS:
    case FIELD_ITEMS:
    case FIELD_INLINE:
        *(int *)((char *)base + f->count_offset) = 0;
        return 0;
    case FIELD_CUSTOM:
    case FIELD_GROUP:
        return 0; /* the struct was zeroed */
    }
    return 0;
}

static int decode_row(const struct field_source *s, const struct field *f, const struct json *v,
    void *base, struct err *e)
{
    void *at = (char *)base + f->offset;
    switch (f->kind) {
    case FIELD_BOOL:
        if (!json_is_bool(v))
            return field_refuse(s, f->path, e, "must be true or false");
        *(bool *)at = json_bool_value(v);
        return 0;
    case FIELD_INT:
    case FIELD_I64:
    case FIELD_NUM:
        return decode_number(s, f, v, at, e);
    case FIELD_STR:
        return decode_string(s, f, v, at, e);
    case FIELD_ENUM:
        return decode_enum(s, f, json_string_value(v), at, e);
    case FIELD_STRINGS:
    case FIELD_NUMBERS:
    case FIELD_ITEMS:
    case FIELD_INLINE:
        return decode_list(s, f, v, base, e);
    case FIELD_CUSTOM:
        return ((const struct field_custom *)f->info)->decode(s, f->path, v, at, e);
    case FIELD_GROUP:
        return json_is_object(v) ? 0 : field_refuse(s, f->path, e, "must be an object");
    }
    return 0;
}

static bool below(const char *path, const char *parent)
{
    size_t n = strlen(parent);
    return !strncmp(path, parent, n) && path[n] == '.';
}

static int refuse_unknown(const struct field_table *t, const struct field_source *s,
    const struct json *object, const char *at, struct err *e)
{
    json_each (v, object) {
        char path[PATH_BYTES];
        int len = snprintf(path, sizeof path, "%s%s%s", at, *at ? "." : "", json_key(v));
        bool leaf = false, parent = false;
        for (size_t i = 0; i < t->count && len < PATH_BYTES; i++) {
            leaf |= t->rows[i].kind != FIELD_GROUP && !strcmp(t->rows[i].path, path);
            parent |= below(t->rows[i].path, path);
        }
        if (!leaf && !parent)
            return field_refuse(s, path, e, "unknown field");
        int rc = parent ? refuse_unknown(t, s, v, path, e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

int field_decode(const struct field_table *t, const struct field_source *s,
    const struct json *object, void *out, struct err *e)
{
    memset(out, 0, t->size);
    for (size_t i = 0; i < t->count; i++) {
        const struct field *f = &t->rows[i];
        const struct json *v;
        int rc = look_up(s, object, f->path, &v, e);
        if (rc)
            return rc;
        rc = absent(v) ? set_default(s, f, out, e) : decode_row(s, f, v, out, e);
        if (rc)
            return rc;
        if (f->kind == FIELD_GROUP && absent(v))
            while (i + 1 < t->count && below(t->rows[i + 1].path, f->path))
                i++;
    }
    return s->strict ? refuse_unknown(t, s, object, "", e) : 0;
}

static bool row_absent(const struct field *f, const void *base)
{
    const void *at = (const char *)base + f->offset;
    switch (f->kind) {
    case FIELD_INT:
        return !field_inside(f, *(const int *)at);
    case FIELD_I64:
        return !field_inside(f, (double)*(const int64_t *)at);
    case FIELD_NUM:
        return !field_inside(f, *(const double *)at);
    case FIELD_STR:
        return !*(const char *const *)at;
    case FIELD_STRINGS:
    case FIELD_NUMBERS:
    case FIELD_ITEMS:
    case FIELD_INLINE:
        return !*(const int *)((const char *)base + f->count_offset);
    case FIELD_CUSTOM:
        return ((const struct field_custom *)f->info)->absent(at);
    default:
        return false;
    }
}

static void encode_list(const struct field *f, const char *key, const void *base, struct jsonw *w)
{
    const char *at = (const char *)base + f->offset;
    int count = *(const int *)((const char *)base + f->count_offset);
    const struct field_table *t = f->info;
    if (f->kind == FIELD_ITEMS)
        at = *(const char *const *)at;
    jsonw_open(w, key, '[');
    for (int i = 0; i < count; i++) {
        if (f->kind == FIELD_STRINGS) {
            jsonw_str(w, NULL, ((const char *const *)at)[i]);
        } else if (f->kind == FIELD_NUMBERS) {
            jsonw_num(w, NULL, ((const double *)at)[i]);
        } else {
            jsonw_open(w, NULL, '{');
            field_encode(t, at + (size_t)i * t->size, w);
            jsonw_close(w);
        }
    }
    jsonw_close(w);
}

static void encode_row(const struct field *f, const char *key, const void *base, struct jsonw *w)
{
    const void *at = (const char *)base + f->offset;
    switch (f->kind) {
    case FIELD_BOOL:
        jsonw_bool(w, key, *(const bool *)at);
        return;
    case FIELD_INT:
        jsonw_int(w, key, *(const int *)at);
        return;
    case FIELD_I64:
        jsonw_int(w, key, *(const int64_t *)at);
        return;
    case FIELD_NUM:
        jsonw_num(w, key, *(const double *)at);
        return;
    case FIELD_STR:
        jsonw_str(w, key, *(const char *const *)at);
        return;
    case FIELD_ENUM:
        jsonw_str(w, key, ((const char *const *)f->info)[*(const int *)at]);
        return;
    case FIELD_CUSTOM:
        ((const struct field_custom *)f->info)->encode(w, key, at);
        return;
    case FIELD_GROUP:
        return;
    default:
        encode_list(f, key, base, w);
    }
}

/* Which parents stand open in the writer, outermost first. */
struct open_parents {
    const char *name[DEPTH]; /* each points into a row's path */
    size_t len[DEPTH];
    int depth;
};

/* Opens and closes objects until exactly the parents of `path` are open; returns its last
 * component. */
static const char *move_to(struct open_parents *o, const char *path, struct jsonw *w)
{
    int depth = 0;
    bool same = true;
    for (size_t n; path[n = strcspn(path, ".")]; path += n + 1, depth++) {
        same = same && depth < o->depth && o->len[depth] == n && !memcmp(o->name[depth], path, n);
        if (same)
            continue;
        for (; o->depth > depth; o->depth--)
            jsonw_close(w);
        char key[PATH_BYTES];
        assert(n < sizeof key && depth < DEPTH);
        memcpy(key, path, n);
        key[n] = 0;
        jsonw_open(w, key, '{');
        o->name[depth] = path;
        o->len[depth] = n;
        o->depth = depth + 1;
    }
    for (; o->depth > depth; o->depth--)
        jsonw_close(w);
    return path;
}

static bool is_given(const struct field *group, const void *in, const struct json *given)
{
    return given ? !absent(json_path(given, group->path)) : ((field_present_fn *)group->info)(in);
}

void field_encode_given(
    const struct field_table *t, const void *in, const struct json *given, struct jsonw *w)
{
    struct open_parents open = {.depth = 0};
    for (size_t i = 0; i < t->count; i++) {
        const struct field *f = &t->rows[i];
        if (f->kind == FIELD_GROUP && !is_given(f, in, given)) {
            while (i + 1 < t->count && below(t->rows[i + 1].path, f->path))
                i++;
        } else if (f->kind != FIELD_GROUP && !row_absent(f, in)) {
            const char *key = move_to(&open, f->path, w);
            encode_row(f, key, in, w);
        }
    }
    for (; open.depth > 0; open.depth--)
        jsonw_close(w);
}

void field_encode(const struct field_table *t, const void *in, struct jsonw *w)
{
    field_encode_given(t, in, NULL, w);
}

static uint64_t hash_text(uint64_t h, const char *s)
{
    return hash_bytes(h, s, strlen(s) + 1);
}

static uint64_t hash_number(uint64_t h, double v)
{
    if (!isfinite(v))
        v = NAN; /* all are null in JSON */
    return isnan(v) ? hash_text(h, "null") : hash_bytes(h, &v, sizeof v);
}

static uint64_t hash_table(const struct field_table *t, const void *in, uint64_t h);

static uint64_t hash_list(const struct field *f, const void *base, uint64_t h)
{
    const char *at = (const char *)base + f->offset;
    int count = *(const int *)((const char *)base + f->count_offset);
    const struct field_table *t = f->info;
    if (f->kind == FIELD_ITEMS)
        at = *(const char *const *)at;
    h = hash_bytes(h, &count, sizeof count);
    for (int i = 0; i < count; i++) {
        if (f->kind == FIELD_STRINGS)
            h = hash_text(h, ((const char *const *)at)[i]);
        else if (f->kind == FIELD_NUMBERS)
            h = hash_number(h, ((const double *)at)[i]);
        else
            h = hash_table(t, at + (size_t)i * t->size, h);
    }
    return h;
}

static uint64_t hash_row(const struct field *f, const void *base, uint64_t h)
{
    const void *at = (const char *)base + f->offset;
    const struct field_custom *custom = f->info;
    switch (f->kind) {
    case FIELD_BOOL:
        return hash_bytes(h, at, sizeof(bool));
    case FIELD_INT:
    case FIELD_ENUM:
        return hash_bytes(h, at, sizeof(int));
    case FIELD_I64:
        return hash_bytes(h, at, sizeof(int64_t));
    case FIELD_NUM:
        return hash_number(h, *(const double *)at);
    case FIELD_STR:
        return hash_text(h, *(const char *const *)at);
    case FIELD_CUSTOM:
        assert(custom->size);
        return hash_bytes(h, at, custom->size);
    case FIELD_GROUP:
        return h;
    default:
        return hash_list(f, base, h);
    }
}

static uint64_t hash_table(const struct field_table *t, const void *in, uint64_t h)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct field *f = &t->rows[i];
        if (f->kind == FIELD_GROUP && !((field_present_fn *)f->info)(in)) {
            while (i + 1 < t->count && below(t->rows[i + 1].path, f->path))
                i++;
        } else if (f->kind == FIELD_GROUP || !row_absent(f, in)) {
            h = hash_bytes(h, &i, sizeof i);
            h = hash_row(f, in, h);
        }
    }
    return h;
}

uint64_t field_hash(const struct field_table *t, const void *in)
{
    return hash_table(t, in, HASH_START);
}
