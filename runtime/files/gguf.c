/*
 * gguf: the reader. One pass over keys, one over tensor infos, both by a cursor that cannot leave
 * the file; then tensors are sorted by offset so that overlap is a comparison of neighbours.
 * Nothing is read past what the pass has checked, so getters need no further checks but of type.
 * Little-endian hosts only (x86-64, aarch64), as the format is. Must not know what a key or a
 * tensor is for.
 */
#include "runtime/files/gguf.h"

#include "base/buf.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/mem.h"

#define KEYS_LIMIT      65536
#define ARRAY_LIMIT     (INT64_C(1) << 28) /* elements; vocabularies have under 2^19 */
#define ALIGNMENT_LIMIT 65536

static const struct {
    const char *name;
    uint8_t bytes; /* 0: has no fixed size */
    bool integer;
} types[GGUF_TYPES] = {
    [GGUF_U8] = {"u8", 1, true},
    [GGUF_I8] = {"i8", 1, true},
    [GGUF_U16] = {"u16", 2, true},
    [GGUF_I16] = {"i16", 2, true},
    [GGUF_U32] = {"u32", 4, true},
    [GGUF_I32] = {"i32", 4, true},
    [GGUF_F32] = {"f32", 4, false},
    [GGUF_BOOL] = {"bool", 1, false},
    [GGUF_STRING] = {"string", 0, false},
    [GGUF_ARRAY] = {"array", 0, false},
    [GGUF_U64] = {"u64", 8, true},
    [GGUF_I64] = {"i64", 8, true},
    [GGUF_F64] = {"f64", 8, false},
};

/* ggml.h's types, in its order. */
static const struct {
    const char *name;
    enum dtype type; /* DTYPES: not read */
} tensor_types[] = {
    {"F32", DTYPE_F32},
    {"F16", DTYPE_F16},
    {"Q4_0", DTYPE_Q4_0},
    {"Q4_1", DTYPE_Q4_1},
    {"Q4_2", DTYPES},
    {"Q4_3", DTYPES},
    {"Q5_0", DTYPE_Q5_0},
    {"Q5_1", DTYPE_Q5_1},
    {"Q8_0", DTYPE_Q8_0},
    {"Q8_1", DTYPES},
    {"Q2_K", DTYPES},
    {"Q3_K", DTYPES},
    {"Q4_K", DTYPE_Q4_K},
    {"Q5_K", DTYPE_Q5_K},
    {"Q6_K", DTYPE_Q6_K},
    {"Q8_K", DTYPES},
    {"IQ2_XXS", DTYPES},
    {"IQ2_XS", DTYPES},
    {"IQ3_XXS", DTYPES},
    {"IQ1_S", DTYPES},
    {"IQ4_NL", DTYPES},
    {"IQ3_S", DTYPES},
    {"IQ2_S", DTYPES},
    {"IQ4_XS", DTYPES},
    {"I8", DTYPES},
    {"I16", DTYPES},
    {"I32", DTYPE_I32},
    {"I64", DTYPES},
    {"F64", DTYPES},
    {"IQ1_M", DTYPES},
    {"BF16", DTYPE_BF16},
    {"Q4_0_4_4", DTYPES},
    {"Q4_0_4_8", DTYPES},
    {"Q4_0_8_8", DTYPES},
    {"TQ1_0", DTYPES},
    {"TQ2_0", DTYPES},
    {"IQ4_NL_4_4", DTYPES},
    {"IQ4_NL_4_8", DTYPES},
    {"IQ4_NL_8_8", DTYPES},
    {"MXFP4", DTYPES},
};

int gguf_tensor_type(enum dtype t)
{
    int known = (int)(sizeof tensor_types / sizeof *tensor_types);
    for (int i = 0; i < known; i++)
        if (tensor_types[i].type == t)
            return i;
    return -1;
}

struct gguf_key {
    struct gguf_str name;
    enum gguf_type type, element; /* element: of an array */
    int64_t count;                /* of an array */
    const uint8_t *value;         /* first byte of a scalar, string length or array element */
    const uint8_t *begin, *end;   /* all of it: an array with what its elements are */
};

struct gguf {
    char *path;
    struct io_map map; /* empty when parsed from memory */
    const uint8_t *data;
    size_t size;
    struct gguf_key *keys; /* sorted by name */
    int64_t key_count;
    struct gguf_tensor *tensors; /* sorted by offset */
    int64_t tensor_count;
};

/* A position in the file; left is what remains after it. */
struct cursor {
    const uint8_t *p;
    size_t left;
};

static bool skip(struct cursor *c, uint64_t n)
{
    if (n > c->left)
        return false;
    c->p += n;
    c->left -= n;
    return true;
}

static bool take(struct cursor *c, void *out, size_t n)
{
    const uint8_t *p = c->p;
    if (!skip(c, n))
        return false;
    memcpy(out, p, n);
    return true;
}

static bool take_str(struct cursor *c, struct gguf_str *out)
{
    uint64_t len;
    if (!take(c, &len, sizeof len))
        return false;
    *out = (struct gguf_str){.s = (const char *)c->p, .len = len};
    return skip(c, len);
}

static int str_compare(const struct gguf_str *a, const struct gguf_str *b)
{
    int d = memcmp(a->s, b->s, a->len < b->len ? a->len : b->len);
    return d ? d : (a->len > b->len) - (a->len < b->len);
}

static int key_compare(const void *a, const void *b)
{
    return str_compare(&((const struct gguf_key *)a)->name, &((const struct gguf_key *)b)->name);
}

static int tensor_by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

static int tensor_by_name(const void *a, const void *b)
{
    return strcmp(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

/* Skips one value; false when it leaves the file or its type is unknown. */
static bool skip_value(struct cursor *c, enum gguf_type t)
{
    struct gguf_str s;
    if (t == GGUF_STRING)
        return take_str(c, &s);
    return types[t].bytes && skip(c, types[t].bytes);
}

static int parse_array(struct gguf *g, struct cursor *c, struct gguf_key *k, struct err *e)
{
    uint32_t element;
    uint64_t count;
    int len = (int)(k->name.len < 100 ? k->name.len : 100);
    if (!take(c, &element, sizeof element) || !take(c, &count, sizeof count))
        return err_set(e, ERR_DATA, "%s: truncated at key %.*s", g->path, len, k->name.s);
    if (element >= GGUF_TYPES || element == GGUF_ARRAY)
        return err_set(e, ERR_DATA, "%s: key %.*s: array of type %u is not supported", g->path, len,
            k->name.s, element);
    if (count > ARRAY_LIMIT)
        return err_set(e, ERR_DATA, "%s: key %.*s: absurd array length %llu", g->path, len,
            k->name.s, (unsigned long long)count);
    k->element = (enum gguf_type)element;
    k->count = (int64_t)count;
    k->value = c->p;
    bool fits = true;
    if (types[element].bytes)
        fits = skip(c, count * types[element].bytes);
    else
        for (uint64_t i = 0; fits && i < count; i++)
            fits = skip_value(c, k->element);
    if (!fits)
        return err_set(e, ERR_DATA, "%s: key %.*s: array leaves the file", g->path, len, k->name.s);
    return 0;
}

static int parse_keys(struct gguf *g, struct cursor *c, struct err *e)
{
    for (int64_t i = 0; i < g->key_count; i++) {
        struct gguf_key *k = &g->keys[i];
        uint32_t type;
        if (!take_str(c, &k->name) || !take(c, &type, sizeof type))
            return err_set(e, ERR_DATA, "%s: truncated in key %lld of %lld", g->path, (long long)i,
                (long long)g->key_count);
        int len = (int)(k->name.len < 100 ? k->name.len : 100);
        if (type >= GGUF_TYPES)
            return err_set(
                e, ERR_DATA, "%s: key %.*s has unknown type %u", g->path, len, k->name.s, type);
        k->type = (enum gguf_type)type;
        k->value = k->begin = c->p;
        if (k->type == GGUF_ARRAY) {
            int rc = parse_array(g, c, k, e);
            if (rc)
                return rc;
        } else if (!skip_value(c, k->type)) {
            return err_set(
                e, ERR_DATA, "%s: key %.*s: value leaves the file", g->path, len, k->name.s);
        }
        k->end = c->p;
    }
    if (g->key_count)
        qsort(g->keys, (size_t)g->key_count, sizeof *g->keys, key_compare);
    for (int64_t i = 1; i < g->key_count; i++)
        if (!key_compare(&g->keys[i - 1], &g->keys[i])) {
            int len = (int)(g->keys[i].name.len < 100 ? g->keys[i].name.len : 100);
            return err_set(
                e, ERR_DATA, "%s: key %.*s stands twice", g->path, len, g->keys[i].name.s);
        }
    return 0;
}

static int take_type(const struct gguf *g, uint32_t type, struct gguf_tensor *t, struct err *e)
{
    size_t known = sizeof tensor_types / sizeof *tensor_types;
    buf_auto struct buf list;
    buf_init(&list, 256);
    if (type < known && tensor_types[type].type != DTYPES) {
        t->type = tensor_types[type].type;
        return 0;
    }
    for (size_t i = 0; i < known; i++)
        if (tensor_types[i].type != DTYPES && tensor_types[i].type != DTYPE_I32)
            buf_printf(&list, "%s%s", list.len ? ", " : "", tensor_types[i].name);
    if (type < known)
        return err_set(e, ERR_DATA, "%s: tensor %s has type %s; what is read: %s", g->path, t->name,
            tensor_types[type].name, buf_cstr(&list));
    return err_set(e, ERR_DATA, "%s: tensor %s has type %u; what is read: %s", g->path, t->name,
        type, buf_cstr(&list));
}

/* One tensor info; *offset is relative to the data section, whose place is not known yet. */
static int parse_tensor(
    struct gguf *g, struct cursor *c, struct gguf_tensor *t, uint64_t *offset, struct err *e)
{
    struct gguf_str name;
    uint32_t dims, type;
    if (!take_str(c, &name) || !take(c, &dims, sizeof dims))
        return err_set(e, ERR_DATA, "%s: truncated in the tensor list", g->path);
    if (!name.len || name.len >= sizeof t->name || memchr(name.s, 0, name.len))
        return err_set(
            e, ERR_DATA, "%s: a tensor name of %zu bytes is not valid", g->path, name.len);
    memcpy(t->name, name.s, name.len);
    if (dims < 1 || dims > 4)
        return err_set(e, ERR_DATA, "%s: tensor %s has %u dimensions", g->path, t->name, dims);
    t->dims = (int)dims;
    int64_t elements = 1;
    for (uint32_t i = 0; i < dims; i++) {
        int64_t n;
        if (!take(c, &n, sizeof n))
            return err_set(e, ERR_DATA, "%s: truncated at tensor %s", g->path, t->name);
        if (n < 1 || __builtin_mul_overflow(elements, n, &elements))
            return err_set(e, ERR_DATA, "%s: tensor %s has an absurd dimension %lld", g->path,
                t->name, (long long)n);
        t->shape[dims - 1 - i] = n;
    }
    if (!take(c, &type, sizeof type) || !take(c, offset, sizeof *offset))
        return err_set(e, ERR_DATA, "%s: truncated at tensor %s", g->path, t->name);
    int rc = take_type(g, type, t, e);
    if (rc)
        return rc;
    t->bytes = t->shape[dims - 1] % dtype_block(t->type) ? -1 : dtype_bytes(t->type, elements);
    if (t->bytes < 0)
        return err_set(e, ERR_DATA, "%s: tensor %s: rows of %lld are no whole %s blocks", g->path,
            t->name, (long long)t->shape[dims - 1], dtype_name(t->type));
    return 0;
}

/* Sorts the tensors by offset, after the names were found unique. */
static int check_tensors(struct gguf *g, struct err *e)
{
    qsort(g->tensors, (size_t)g->tensor_count, sizeof *g->tensors, tensor_by_name);
    for (int64_t i = 1; i < g->tensor_count; i++)
        if (!tensor_by_name(&g->tensors[i - 1], &g->tensors[i]))
            return err_set(e, ERR_DATA, "%s: tensor %s stands twice", g->path, g->tensors[i].name);
    qsort(g->tensors, (size_t)g->tensor_count, sizeof *g->tensors, tensor_by_offset);
    for (int64_t i = 1; i < g->tensor_count; i++)
        if (g->tensors[i - 1].data + g->tensors[i - 1].bytes > g->tensors[i].data)
            return err_set(e, ERR_DATA, "%s: tensors %s and %s overlap", g->path,
                g->tensors[i - 1].name, g->tensors[i].name);
    return 0;
}

static int parse_tensors(struct gguf *g, struct cursor *c, struct err *e)
{
    int64_t alignment = 32;
    if (gguf_has(g, "general.alignment")) {
        int rc = gguf_int(g, "general.alignment", 1, ALIGNMENT_LIMIT, &alignment, e);
        if (rc)
            return rc;
    }
    if (alignment & (alignment - 1))
        return err_set(e, ERR_DATA, "%s: general.alignment %lld is no power of two", g->path,
            (long long)alignment);
    mem_autofree uint64_t *offsets = mem_array((size_t)g->tensor_count + 1, sizeof *offsets);
    if (!offsets)
        return err_set(e, ERR_MEMORY, "%s: no memory for the tensor list", g->path);
    for (int64_t i = 0; i < g->tensor_count; i++) {
        int rc = parse_tensor(g, c, &g->tensors[i], &offsets[i], e);
        if (rc)
            return rc;
    }
    uint64_t mask = (uint64_t)alignment - 1;
    uint64_t start = ((uint64_t)(c->p - g->data) + mask) & ~mask;
    uint64_t room = start > g->size ? 0 : g->size - start;
    for (int64_t i = 0; i < g->tensor_count; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (offsets[i] & mask)
            return err_set(e, ERR_DATA, "%s: tensor %s is not aligned", g->path, t->name);
        if (offsets[i] > room || (uint64_t)t->bytes > room - offsets[i])
            return err_set(e, ERR_DATA,
                "%s: tensor %s needs bytes up to %llu, the file ends at %zu", g->path, t->name,
                (unsigned long long)(start + offsets[i]) + (uint64_t)t->bytes, g->size);
        t->data = g->data + start + offsets[i];
    }
    return check_tensors(g, e);
}

static int parse(struct gguf *g, struct err *e)
{
    struct cursor c = {.p = g->data, .left = g->size};
    struct {
        char magic[4];
        uint32_t version;
        uint64_t tensors, keys;
    } head;
    if (!take(&c, &head, sizeof head))
        return err_set(e, ERR_DATA, "%s: %zu bytes are no GGUF file", g->path, g->size);
    if (memcmp(head.magic, "GGUF", 4))
        return err_set(e, ERR_DATA, "%s: not a GGUF file", g->path);
    if (head.version != 2 && head.version != 3)
        return err_set(e, ERR_DATA, "%s: GGUF version %u is not supported", g->path, head.version);
    if (head.tensors > LIMIT_TENSORS || head.keys > KEYS_LIMIT)
        return err_set(e, ERR_DATA, "%s: absurd counts: %llu tensors, %llu keys", g->path,
            (unsigned long long)head.tensors, (unsigned long long)head.keys);
    g->tensor_count = (int64_t)head.tensors;
    g->key_count = (int64_t)head.keys;
    g->keys = mem_array(head.keys + 1, sizeof *g->keys);
    g->tensors = mem_array(head.tensors + 1, sizeof *g->tensors);
    if (!g->keys || !g->tensors)
        return err_set(e, ERR_MEMORY, "%s: no memory for the tensor list", g->path);
    int rc = parse_keys(g, &c, e);
    return rc ? rc : parse_tensors(g, &c, e);
}

static struct gguf *create(const char *path, struct err *e)
{
    struct gguf *g = mem_zalloc(sizeof *g);
    if (g && !(g->path = mem_strdup(path))) {
        mem_free(g);
        g = NULL;
    }
    if (!g)
        err_set(e, ERR_MEMORY, "%s: no memory to open it", path);
    return g;
}

static int finish(struct gguf *g, struct gguf **out, struct err *e)
{
    int rc = parse(g, e);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gguf_open(const char *path, struct gguf **out, struct err *e)
{
    struct gguf *g = create(path, e);
    if (!g)
        return -ERR_MEMORY;
    int rc = io_map(path, &g->map, e);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    g->data = g->map.data;
    g->size = g->map.size;
    return finish(g, out, e);
}

int gguf_parse(const void *data, size_t size, const char *path, struct gguf **out, struct err *e)
{
    struct gguf *g = create(path, e);
    if (!g)
        return -ERR_MEMORY;
    g->data = data;
    g->size = size;
    return finish(g, out, e);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    io_unmap(&g->map);
    mem_free(g->keys);
    mem_free(g->tensors);
    mem_free(g->path);
    mem_free(g);
}

void gguf_release(const struct gguf *g)
{
    io_map_forget(&g->map, 0, g->map.size);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

const void *gguf_bytes(const struct gguf *g, size_t *size)
{
    *size = g->size;
    return g->data;
}

int gguf_tensor_count(const struct gguf *g)
{
    return (int)g->tensor_count;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i)
{
    return &g->tensors[i];
}

static const struct gguf_key *find(const struct gguf *g, const char *key)
{
    struct gguf_key want = {.name = {.s = key, .len = strlen(key)}};
    return g->key_count ? bsearch(&want, g->keys, (size_t)g->key_count, sizeof want, key_compare)
                        : NULL;
}

int64_t gguf_key_count(const struct gguf *g)
{
    return g->key_count;
}

struct gguf_str gguf_key_name(const struct gguf *g, int64_t i)
{
    return g->keys[i].name;
}

void gguf_key_value(
    const struct gguf *g, int64_t i, enum gguf_type *type, const void **value, size_t *bytes)
{
    *type = g->keys[i].type;
    *value = g->keys[i].begin;
    *bytes = (size_t)(g->keys[i].end - g->keys[i].begin);
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

static int absent(const struct gguf *g, const char *key, const char *wanted, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k)
        return err_set(e, ERR_DATA, "%s: key %s is missing", g->path, key);
    return err_set(
        e, ERR_DATA, "%s: key %s is %s, not %s", g->path, key, types[k->type].name, wanted);
}

/* false when it does not fit (a u64 beyond 2^63). */
static bool load_int(enum gguf_type t, const uint8_t *p, int64_t *out)
{
    uint64_t u = 0;
    memcpy(&u, p, types[t].bytes);
    switch (t) {
    case GGUF_I8:
        *out = (int8_t)u;
        return true;
    case GGUF_I16:
        *out = (int16_t)u;
        return true;
    case GGUF_I32:
        *out = (int32_t)u;
        return true;
    default:
        *out = (int64_t)u;
        return t != GGUF_U64 || u <= INT64_MAX;
    }
}

int gguf_int(
    const struct gguf *g, const char *key, int64_t low, int64_t high, int64_t *out, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    int64_t v;
    if (!k || !types[k->type].integer)
        return absent(g, key, "an integer", e);
    if (!load_int(k->type, k->value, &v) || v < low || v > high)
        return err_set(e, ERR_DATA, "%s: key %s is not in [%lld, %lld]", g->path, key,
            (long long)low, (long long)high);
    *out = v;
    return 0;
}

static double load_float(enum gguf_type t, const uint8_t *p)
{
    double d;
    float f;
    if (t == GGUF_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    memcpy(&f, p, sizeof f);
    return (double)f;
}

bool gguf_key_number(const struct gguf *g, int64_t i, double *out)
{
    const struct gguf_key *k = &g->keys[i];
    int64_t v;
    if (k->type == GGUF_F32 || k->type == GGUF_F64)
        *out = load_float(k->type, k->value);
    else if (k->type == GGUF_BOOL)
        *out = *k->value != 0;
    else if (types[k->type].integer && load_int(k->type, k->value, &v))
        *out = (double)v;
    else
        return false;
    return true;
}

int gguf_num(const struct gguf *g, const char *key, double *out, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || (k->type != GGUF_F32 && k->type != GGUF_F64))
        return absent(g, key, "a number", e);
    *out = load_float(k->type, k->value);
    return 0;
}

int gguf_string(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || k->type != GGUF_STRING)
        return absent(g, key, "a string", e);
    struct cursor c = {.p = k->value, .left = g->size - (size_t)(k->value - g->data)};
    take_str(&c, out);
    return 0;
}

bool gguf_bool(const struct gguf *g, const char *key, bool def)
{
    const struct gguf_key *k = find(g, key);
    return k && k->type == GGUF_BOOL ? *k->value != 0 : def;
}

int gguf_strings(
    const struct gguf *g, const char *key, struct gguf_str **out, int64_t *count, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || k->type != GGUF_ARRAY || k->element != GGUF_STRING)
        return absent(g, key, "an array of strings", e);
    struct gguf_str *a = mem_array((size_t)k->count + 1, sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory for key %s", g->path, key);
    struct cursor c = {.p = k->value, .left = g->size - (size_t)(k->value - g->data)};
    for (int64_t i = 0; i < k->count; i++)
        take_str(&c, &a[i]);
    *out = a;
    *count = k->count;
    return 0;
}

int gguf_ints(const struct gguf *g, const char *key, int64_t **out, int64_t *count, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || k->type != GGUF_ARRAY || !types[k->element].integer)
        return absent(g, key, "an array of integers", e);
    mem_autofree int64_t *a = mem_array((size_t)k->count + 1, sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory for key %s", g->path, key);
    for (int64_t i = 0; i < k->count; i++)
        if (!load_int(k->element, k->value + i * types[k->element].bytes, &a[i]))
            return err_set(
                e, ERR_DATA, "%s: key %s: element %lld is too great", g->path, key, (long long)i);
    *out = a;
    *count = k->count;
    a = NULL;
    return 0;
}

int gguf_nums(const struct gguf *g, const char *key, double **out, int64_t *count, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || k->type != GGUF_ARRAY || (k->element != GGUF_F32 && k->element != GGUF_F64))
        return absent(g, key, "an array of numbers", e);
    double *a = mem_array((size_t)k->count + 1, sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "%s: no memory for key %s", g->path, key);
    for (int64_t i = 0; i < k->count; i++)
        a[i] = load_float(k->element, k->value + i * types[k->element].bytes);
    *out = a;
    *count = k->count;
    return 0;
}

int gguf_byte_array(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e)
{
    const struct gguf_key *k = find(g, key);
    if (!k || k->type != GGUF_ARRAY || (k->element != GGUF_U8 && k->element != GGUF_I8))
        return absent(g, key, "an array of bytes", e);
    *out = (struct gguf_str){(const char *)k->value, (size_t)k->count};
    return 0;
}
