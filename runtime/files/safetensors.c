/*
 * safetensors: the reader checks the header once and keeps entries sorted by name; tensor data
 * stays in the mapping. The writer only makes headers: data follows by whoever holds it. Entries
 * must fill the data section exactly, so a file that was cut or glued is refused at open.
 * Little-endian hosts only, as the format is. Must not know what a tensor is for.
 */
#include "runtime/files/safetensors.h"

#include "base/io.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/mem.h"

static const struct {
    const char *name;
    enum dtype type;
} types[] = {
    {"F32", DTYPE_F32},
    {"BF16", DTYPE_BF16},
    {"F16", DTYPE_F16},
    {"I32", DTYPE_I32},
    {"U8", DTYPE_U8},
    {"I64", SAFETENSORS_UNREAD},
};

struct safetensors {
    char *path;
    struct io_map map; /* empty when parsed from memory */
    const uint8_t *data;
    size_t have, size; /* bytes at data, and of the file; fewer when only the header is read */
    struct json *header;
    struct safetensors_tensor *tensors; /* sorted by name */
    int count;
};

static const char *type_name(enum dtype t)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == t)
            return types[i].name;
    return NULL;
}

/* A whole number in [0, 2^53], which a double holds exactly. */
static bool whole(const struct json *v, int64_t *out)
{
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 0 && d <= 9007199254740992.0))
        return false;
    *out = (int64_t)d;
    return (double)*out == d;
}

static int bad(const struct safetensors *s, const char *name, const char *what, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: tensor %.100s: %s", s->path, name, what);
}

/* -1: too many */
static int64_t bytes_of(enum dtype t, int64_t elements)
{
    int64_t bytes;
    if (t != SAFETENSORS_UNREAD)
        return dtype_bytes(t, elements);
    return __builtin_mul_overflow(elements, 8, &bytes) ? -1 : bytes;
}

/* begin is relative to the data section, which starts at `start` of the file. */
static int parse_entry(struct safetensors *s, const struct json *v, size_t start, int64_t *begin,
    struct safetensors_tensor *t, struct err *e)
{
    const char *name = json_key(v);
    const struct json *shape = json_get(v, "shape"), *at = json_get(v, "data_offsets");
    if (strlen(name) >= sizeof t->name)
        return bad(s, name, "its name is too long", e);
    snprintf(t->name, sizeof t->name, "%s", name);

    const char *dtype = json_str(v, "dtype", "");
    size_t known = sizeof types / sizeof *types, i = 0;
    while (i < known && strcmp(types[i].name, dtype))
        i++;
    if (i == known)
        return err_set(e, ERR_DATA, "%s: tensor %.100s: dtype %.16s; what is read: F32, BF16, F16",
            s->path, name, dtype);
    t->type = types[i].type;

    if (!json_is_array(shape) || json_count(shape) > 4)
        return bad(s, name, "shape is no list of up to four numbers", e);
    int64_t elements = 1;
    json_each (n, shape) {
        int64_t d;
        if (!whole(n, &d) || d < 0 || __builtin_mul_overflow(elements, d, &elements))
            return bad(s, name, "absurd dimension", e);
        t->shape[t->dims++] = d;
    }
    int64_t end;
    if (!json_is_array(at) || json_count(at) != 2 || !whole(json_first(at), begin) ||
        !whole(json_next(json_first(at)), &end) || *begin > end)
        return bad(s, name, "data_offsets is no ascending pair", e);
    t->bytes = bytes_of(t->type, elements);
    if (t->bytes < 0 || t->bytes != end - *begin)
        return bad(s, name, "data_offsets do not agree with dtype and shape", e);
    if ((uint64_t)end > s->size - start)
        return bad(s, name, "its data lies beyond the end of the file", e);
    t->offset = (int64_t)start + *begin;
    t->data = s->have == s->size ? s->data + t->offset : NULL;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(
        ((const struct safetensors_tensor *)a)->name, ((const struct safetensors_tensor *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return (x->offset > y->offset) - (x->offset < y->offset);
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* one of no elements takes no place */
}

static int check_layout(struct safetensors *s, size_t start, struct err *e)
{
    int64_t next = (int64_t)start;
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_offset);
    for (int i = 0; i < s->count; i++) {
        if (s->tensors[i].offset != next)
            return bad(s, s->tensors[i].name, "hole or overlap before its data", e);
        next += s->tensors[i].bytes;
    }
    if (next != (int64_t)s->size)
        return err_set(e, ERR_DATA, "%s: bytes after the last tensor", s->path);
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    for (int i = 1; i < s->count; i++)
        if (!by_name(&s->tensors[i - 1], &s->tensors[i]))
            return bad(s, s->tensors[i].name, "stands twice", e);
    return 0;
}

static int parse(struct safetensors *s, struct err *e)
{
    uint64_t length;
    if (s->have < sizeof length)
        return err_set(e, ERR_DATA, "%s: %zu bytes are no safetensors file", s->path, s->have);
    memcpy(&length, s->data, sizeof length);
    if (length > s->have - sizeof length)
        return err_set(
            e, ERR_DATA, "%s: absurd header length %llu", s->path, (unsigned long long)length);
    if (length > SAFETENSORS_HEADER_LIMIT)
        return err_set(e, ERR_DATA, "%s: a header of %llu bytes, at most %d are read", s->path,
            (unsigned long long)length, SAFETENSORS_HEADER_LIMIT);
    size_t start = sizeof length + length;
    int rc = json_parse_within(
        (const char *)s->data + sizeof length, length, SAFETENSORS_HEADER_VALUES, &s->header, e);
    if (rc)
        return err_wrap(e, "%s: header", s->path);
    if (!json_is_object(s->header))
        return err_set(e, ERR_DATA, "%s: the header is no object", s->path);
    size_t entries = json_count(s->header);
    if (entries > LIMIT_TENSORS)
        return err_set(e, ERR_DATA, "%s: absurd number of tensors: %zu", s->path, entries);
    s->tensors = mem_array(entries + 1, sizeof *s->tensors);
    if (!s->tensors)
        return err_set(e, ERR_MEMORY, "%s: no memory for the tensor list", s->path);
    json_each (v, s->header) {
        int64_t begin;
        if (!strcmp(json_key(v), "__metadata__"))
            continue;
        rc = parse_entry(s, v, start, &begin, &s->tensors[s->count], e);
        if (rc)
            return rc;
        s->count++;
    }
    return check_layout(s, start, e);
}

static struct safetensors *create(const char *path, struct err *e)
{
    struct safetensors *s = mem_zalloc(sizeof *s);
    if (s && !(s->path = mem_strdup(path))) {
        mem_free(s);
        s = NULL;
    }
    if (!s)
        err_set(e, ERR_MEMORY, "%s: no memory to open it", path);
    return s;
}

static int finish(struct safetensors *s, struct safetensors **out, struct err *e)
{
    int rc = parse(s, e);
    if (rc) {
        safetensors_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int safetensors_open(const char *path, struct safetensors **out, struct err *e)
{
    struct safetensors *s = create(path, e);
    if (!s)
        return -ERR_MEMORY;
    int rc = io_map(path, &s->map, e);
    if (rc) {
        safetensors_close(s);
        return rc;
    }
    s->data = s->map.data;
    s->have = s->size = s->map.size;
    return finish(s, out, e);
}

int safetensors_parse(
    const void *data, size_t size, const char *path, struct safetensors **out, struct err *e)
{
    struct safetensors *s = create(path, e);
    if (!s)
        return -ERR_MEMORY;
    s->data = data;
    s->have = s->size = size;
    return finish(s, out, e);
}

int safetensors_parse_header(const void *head, size_t size, size_t file_size, const char *path,
    struct safetensors **out, struct err *e)
{
    struct safetensors *s = create(path, e);
    if (!s)
        return -ERR_MEMORY;
    s->data = head;
    s->have = size;
    s->size = file_size;
    int rc = finish(s, out, e);
    if (!rc) { /* the caller's memory ends before the object does */
        s->data = NULL;
        s->have = s->size = 0;
    }
    return rc;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    io_unmap(&s->map);
    json_destroy(s->header);
    mem_free(s->tensors);
    mem_free(s->path);
    mem_free(s);
}

void safetensors_release(const struct safetensors *s)
{
    io_map_forget(&s->map, 0, s->map.size);
}

int safetensors_count(const struct safetensors *s)
{
    return s->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i)
{
    return &s->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    int low = 0, high = s->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int d = strcmp(name, s->tensors[middle].name);
        if (!d)
            return &s->tensors[middle];
        if (d < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    return json_str(json_get(s->header, "__metadata__"), key, NULL);
}

const void *safetensors_bytes(const struct safetensors *s, size_t *size)
{
    *size = s->size;
    return s->data;
}

int safetensors_header(const struct safetensors_entry *entries, int count,
    const char *const *metadata, size_t pad_to, struct buf *out, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, SAFETENSORS_HEADER_LIMIT);
    struct jsonw w;
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    if (metadata && *metadata) {
        jsonw_open(&w, "__metadata__", '{');
        for (; *metadata; metadata += 2)
            jsonw_str(&w, metadata[0], metadata[1]);
        jsonw_close(&w);
    }
    int64_t offset = 0;
    for (int i = 0; i < count; i++) {
        const struct safetensors_entry *t = &entries[i];
        jsonw_open(&w, t->name, '{');
        jsonw_str(&w, "dtype", type_name(t->type));
        jsonw_open(&w, "shape", '[');
        for (int d = 0; d < t->dims; d++)
            jsonw_int(&w, NULL, t->shape[d]);
        jsonw_close(&w);
        jsonw_open(&w, "data_offsets", '[');
        jsonw_int(&w, NULL, offset);
        jsonw_int(&w, NULL, offset += t->bytes);
        jsonw_close(&w);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "safetensors header of %d tensors does not fit", count);
    uint64_t length = (text.len + 7) / 8 * 8;
    if (pad_to && pad_to < length + sizeof length)
        return err_set(e, ERR_USER, "safetensors header of %d tensors needs %llu bytes", count,
            (unsigned long long)length);
    if (pad_to)
        length = pad_to - sizeof length;
    buf_add(out, &length, sizeof length);
    buf_add(out, text.data, text.len);
    buf_fill(out, ' ', length - text.len);
    return buf_ok(out) ? 0 : err_set(e, ERR_MEMORY, "no memory for a safetensors header");
}
