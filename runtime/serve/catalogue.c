/*
 * catalogue: lines are counted first, so that nothing but lists of shared texts grows.
 */
#include "runtime/serve/catalogue.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/table.h"
#include "base/utf8.h"

#include <math.h>
#include <string.h>

#define LINE_BYTES  (1 << 20)
#define LINE_VALUES 4096
#define FILE_BYTES  ((size_t)1 << 30)
#define ID_BYTES    256

struct catalogue_column { /* of a feature */
    bool met;
    float *value;   /* (count) of a number */
    int64_t *first; /* (count + 1) of a Shared one: where each item's begin in list */
    int32_t *list;  /* (used) */
    int64_t used, capacity;
    struct table numbers; /* text: its number and 1 */
};

struct catalogue {
    const char *path;
    const struct jobspec_feature *features;
    int feature_count;
    int64_t count, capacity;
    const char **id, **text; /* (count) */
    struct table items;      /* id: its place and 1 */
    struct catalogue_column columns[LIMIT_FEATURES];
    struct arena *texts;
    int64_t line; /* that is read, from 1 */
};

static int refuse(const struct catalogue *c, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(const struct catalogue *c, struct err *e, const char *fmt, ...)
{
    struct err why;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof why.text, fmt, ap);
    va_end(ap);
    return err_set(e, ERR_DATA, "%s: line %lld: %s", c->path, (long long)c->line, why.text);
}

static int no_memory(const struct catalogue *c, struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the items of %s", c->path);
}

static void *number_and_one(int64_t n)
{
    return (void *)(uintptr_t)(n + 1);
}

static int64_t number_of(const struct table *t, const char *key)
{
    return (int64_t)(uintptr_t)table_get(t, key) - 1;
}

/* -- an item -- */

static int read_id(struct catalogue *c, const struct json *item, struct err *e)
{
    const char *id = json_str(item, "id", NULL);
    char digits[24];
    int64_t n;
    if (!id && !json_i64(item, "id", &n, NULL)) {
        snprintf(digits, sizeof digits, "%lld", (long long)n);
        id = digits;
    }
    if (!id || !*id || strlen(id) > ID_BYTES)
        return refuse(
            c, e, "no \"id\" that is a whole number or a string of 1 to %d bytes", ID_BYTES);
    if (number_of(&c->items, id) >= 0)
        return refuse(c, e, "item \"%.60s\" is there already", id);
    if (!(c->id[c->count] = arena_strdup(c->texts, id)))
        return no_memory(c, e);
    return table_put(&c->items, id, number_and_one(c->count), e);
}

static int read_text(struct catalogue *c, const struct json *item, struct err *e)
{
    const char *text = json_str(item, "text", NULL);
    if (!text || !*text)
        return refuse(c, e, "no \"text\" that is a string");
    if (!(c->text[c->count] = arena_strdup(c->texts, text)))
        return no_memory(c, e);
    return 0;
}

static int read_number(struct catalogue *c, const struct jobspec_feature *f,
    struct catalogue_column *to, const struct json *v, struct err *e)
{
    double x = json_number_value(v);
    bool logarithm = f->use == FEATURE_LOG_VALUE;
    if (!json_is_number(v) || !isfinite((float)x))
        return refuse(c, e, "\"%s\" is no number", f->name);
    if (logarithm && x < 0)
        return refuse(c, e, "\"%s\" is below 0, and has no LogValue", f->name);
    to->value[c->count] = (float)(logarithm ? log1p(x) : x);
    return 0;
}

static int add_shared(struct catalogue *c, const struct jobspec_feature *f,
    struct catalogue_column *to, const struct json *v, struct err *e)
{
    const char *text = json_string_value(v);
    if (!text)
        return refuse(c, e, "\"%s\" is neither a string nor a list of strings", f->name);
    int64_t n = number_of(&to->numbers, text), new = (int64_t)to->numbers.count;
    int rc = n < 0 ? table_put(&to->numbers, text, number_and_one(new), e) : 0;
    if (rc)
        return rc;
    n = n < 0 ? new : n;
    for (int64_t i = to->first[c->count]; i < to->used; i++)
        if (to->list[i] == n)
            return 0;
    if (to->used == to->capacity) {
        int64_t capacity = to->capacity ? 2 * to->capacity : 1024;
        int32_t *list = mem_grow(to->list, (size_t)capacity, sizeof *list);
        if (!list)
            return no_memory(c, e);
        to->list = list;
        to->capacity = capacity;
    }
    to->list[to->used++] = (int32_t)n;
    return 0;
}

static int read_shared(struct catalogue *c, const struct jobspec_feature *f,
    struct catalogue_column *to, const struct json *v, struct err *e)
{
    int rc = 0;
    if (!json_is_array(v))
        return add_shared(c, f, to, v, e);
    for (const struct json *one = json_first(v); one && !rc; one = json_next(one))
        rc = add_shared(c, f, to, one, e);
    return rc;
}

static int read_feature(struct catalogue *c, int i, const struct json *item, struct err *e)
{
    const struct jobspec_feature *f = &c->features[i];
    struct catalogue_column *to = &c->columns[i];
    const struct json *v = json_get(item, f->name);
    bool shared = f->use == FEATURE_SHARED, given = v && !json_is_null(v);
    int rc = 0;
    if (shared)
        to->first[c->count] = to->used;
    else
        to->value[c->count] = NAN;
    if (given)
        rc = shared ? read_shared(c, f, to, v, e) : read_number(c, f, to, v, e);
    if (shared)
        to->first[c->count + 1] = to->used;
    to->met |= given;
    return rc;
}

static int read_item(struct catalogue *c, const char *line, size_t n, struct err *e)
{
    json_auto struct json *item = NULL;
    struct err why;
    int rc = json_parse_within(line, n, LINE_VALUES, &item, &why);
    if (rc)
        return rc == -ERR_MEMORY ? no_memory(c, e) : refuse(c, e, "%.160s", why.text);
    if (!json_is_object(item))
        return refuse(c, e, "an item is a JSON object");
    if ((rc = read_id(c, item, e)) || (rc = read_text(c, item, e)))
        return rc;
    for (int i = 0; i < c->feature_count && !rc; i++)
        rc = read_feature(c, i, item, e);
    c->count++;
    return rc;
}

/* -- the file -- */

/* The line that begins at *at, without its end; false: there is none. */
static bool next_line(const struct io_map *map, size_t *at, const char **line, size_t *n)
{
    if (*at >= map->size)
        return false;
    *line = (const char *)map->data + *at;
    const char *end = memchr(*line, '\n', map->size - *at);
    *n = end ? (size_t)(end - *line) : map->size - *at;
    *at += *n + 1;
    if (*n && (*line)[*n - 1] == '\r')
        (*n)--;
    return true;
}

static int make_room(struct catalogue *c, const struct io_map *map, struct err *e)
{
    const char *line;
    size_t n;
    for (size_t at = 0; next_line(map, &at, &line, &n);)
        c->capacity += n > 0;
    if (c->capacity < 1 || c->capacity > LIMIT_CATALOGUE_ITEMS)
        return err_set(e, ERR_DATA, "%s: %lld items, and 1 to %d are allowed", c->path,
            (long long)c->capacity, LIMIT_CATALOGUE_ITEMS);
    size_t count = (size_t)c->capacity;
    c->id = mem_array(count, sizeof *c->id);
    c->text = mem_array(count, sizeof *c->text);
    c->texts = arena_create(FILE_BYTES);
    bool ok = c->id && c->text && c->texts;
    for (int i = 0; i < c->feature_count && ok; i++) {
        struct catalogue_column *to = &c->columns[i];
        if (c->features[i].use == FEATURE_SHARED)
            ok = (to->first = mem_array(count + 1, sizeof *to->first));
        else
            ok = (to->value = mem_array(count, sizeof *to->value));
    }
    return ok ? 0 : no_memory(c, e);
}

static int read_items(struct catalogue *c, const struct io_map *map, struct err *e)
{
    const char *line, *text = (const char *)map->data;
    size_t n, valid = utf8_valid_prefix(text, map->size);
    int rc = 0;
    for (size_t at = 0; !rc && next_line(map, &at, &line, &n);) {
        c->line++;
        if ((size_t)(line - text) + n > valid)
            rc = refuse(c, e, "is no UTF-8");
        else if (n > LINE_BYTES)
            rc = refuse(c, e, "has more than %d bytes", LINE_BYTES);
        else if (n)
            rc = read_item(c, line, n, e);
    }
    return rc;
}

/* To [0, 1] over all that have one. */
static void scale_values(const struct catalogue *c, float *value)
{
    float least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i < c->count; i++) {
        least = value[i] < least ? value[i] : least;
        most = value[i] > most ? value[i] : most;
    }
    for (int64_t i = 0; i < c->count; i++)
        if (!isnan(value[i]))
            value[i] =
                most > least ? (float)(((double)value[i] - least) / ((double)most - least)) : 0;
}

static int seal_features(struct catalogue *c, struct err *e)
{
    for (int i = 0; i < c->feature_count; i++) {
        if (!c->columns[i].met)
            return err_set(e, ERR_DATA,
                "%s: no item has \"%s\", which spec.serve.recommend.features[%d] names", c->path,
                c->features[i].name, i);
        if (c->columns[i].value)
            scale_values(c, c->columns[i].value);
    }
    return 0;
}

int catalogue_open(const char *path, const struct jobspec_feature *features, int count,
    struct catalogue **out, struct err *e)
{
    struct io_map map = {.data = NULL};
    int rc = io_map(path, &map, e);
    if (rc)
        return rc;
    struct catalogue *c = mem_zalloc(sizeof *c);
    if (!c)
        rc = err_set(e, ERR_MEMORY, "no memory for the items of %s", path);
    else if (map.size > FILE_BYTES)
        rc = err_set(e, ERR_DATA, "%s: more than %d MiB", path, (int)(FILE_BYTES >> 20));
    if (!rc) {
        c->path = path;
        c->features = features;
        c->feature_count = count;
    }
    if (!rc && !(rc = make_room(c, &map, e)) && !(rc = read_items(c, &map, e)))
        rc = seal_features(c, e);
    io_unmap(&map);
    if (rc)
        catalogue_close(c);
    else
        *out = c;
    return rc;
}

void catalogue_close(struct catalogue *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->feature_count; i++) {
        mem_free(c->columns[i].value);
        mem_free(c->columns[i].first);
        mem_free(c->columns[i].list);
        table_done(&c->columns[i].numbers);
    }
    mem_free(c->id);
    mem_free(c->text);
    table_done(&c->items);
    arena_destroy(c->texts);
    mem_free(c);
}

int64_t catalogue_count(const struct catalogue *c)
{
    return c->count;
}

int64_t catalogue_find(const struct catalogue *c, const char *id)
{
    return number_of(&c->items, id);
}

const char *catalogue_id(const struct catalogue *c, int64_t item)
{
    return c->id[item];
}

const char *catalogue_text(const struct catalogue *c, int64_t item)
{
    return c->text[item];
}

float catalogue_value(const struct catalogue *c, int feature, int64_t item)
{
    return c->columns[feature].value[item];
}

const int32_t *catalogue_shared(const struct catalogue *c, int feature, int64_t item, int *n)
{
    const struct catalogue_column *of = &c->columns[feature];
    *n = (int)(of->first[item + 1] - of->first[item]);
    return of->list + of->first[item];
}

int32_t catalogue_kinds(const struct catalogue *c, int feature)
{
    return (int32_t)c->columns[feature].numbers.count;
}
