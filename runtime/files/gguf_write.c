/*
 * gguf_write: keys and tensor infos gather in two buffers, which the first byte of data sends to
 * the file; from then on only data is taken. A tensor's offset is known as soon as it is announced.
 */
#include "runtime/files/gguf_write.h"

#include "api/limits.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"

#define VERSION    3
#define HEAD_LIMIT ((size_t)1 << 30) /* of keys; a vocabulary has some MiB */

struct gguf_writer {
    char *path;
    int fd;
    struct buf keys, infos;
    uint64_t key_count;
    int64_t *ends; /* (tensors): where the data of each ends, padding not counted */
    int count, capacity;
    bool begun;  /* the head is in the file */
    int64_t at;  /* bytes of data in the file */
    int current; /* the tensor that the next bytes are of */
};

int gguf_writer_create(const char *path, struct gguf_writer **out, struct err *e)
{
    struct gguf_writer *w = mem_zalloc(sizeof *w);
    if (!w || !(w->path = mem_strdup(path))) {
        mem_free(w);
        return err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
    }
    buf_init(&w->keys, HEAD_LIMIT);
    buf_init(&w->infos, HEAD_LIMIT);
    w->fd = io_create(path, 0644, e);
    if (w->fd < 0) {
        int rc = w->fd;
        gguf_writer_destroy(w);
        return rc;
    }
    *out = w;
    return 0;
}

void gguf_writer_destroy(struct gguf_writer *w)
{
    if (!w)
        return;
    io_close(w->fd);
    buf_done(&w->keys);
    buf_done(&w->infos);
    mem_free(w->ends);
    mem_free(w->path);
    mem_free(w);
}

/* -- keys -- */

static void put_str(struct buf *b, const char *s, size_t len)
{
    uint64_t n = len;
    buf_add(b, &n, sizeof n);
    buf_add(b, s, len);
}

static void put_key(struct gguf_writer *w, const char *key, size_t len, uint32_t type)
{
    put_str(&w->keys, key, len);
    buf_add(&w->keys, &type, sizeof type);
    w->key_count++;
}

static void put_value(
    struct gguf_writer *w, const char *key, uint32_t type, const void *value, size_t bytes)
{
    put_key(w, key, strlen(key), type);
    buf_add(&w->keys, value, bytes);
}

void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    put_value(w, key, GGUF_U32, &v, sizeof v);
}

void gguf_write_f32(struct gguf_writer *w, const char *key, float v)
{
    put_value(w, key, GGUF_F32, &v, sizeof v);
}

void gguf_write_bool(struct gguf_writer *w, const char *key, bool v)
{
    uint8_t byte = v;
    put_value(w, key, GGUF_BOOL, &byte, sizeof byte);
}

void gguf_write_str(struct gguf_writer *w, const char *key, const char *text, size_t len)
{
    put_key(w, key, strlen(key), GGUF_STRING);
    put_str(&w->keys, text, len);
}

static void put_array(struct gguf_writer *w, const char *key, uint32_t type, int64_t count)
{
    uint64_t n = (uint64_t)count;
    put_value(w, key, GGUF_ARRAY, &type, sizeof type);
    buf_add(&w->keys, &n, sizeof n);
}

void gguf_write_strs(
    struct gguf_writer *w, const char *key, const struct gguf_str *list, int64_t count)
{
    put_array(w, key, GGUF_STRING, count);
    for (int64_t i = 0; i < count; i++)
        put_str(&w->keys, list[i].s, list[i].len);
}

void gguf_write_i32s(struct gguf_writer *w, const char *key, const int32_t *list, int64_t count)
{
    put_array(w, key, GGUF_I32, count);
    buf_add(&w->keys, list, (size_t)count * sizeof *list);
}

void gguf_write_f32s(struct gguf_writer *w, const char *key, const float *list, int64_t count)
{
    put_array(w, key, GGUF_F32, count);
    buf_add(&w->keys, list, (size_t)count * sizeof *list);
}

void gguf_write_key(struct gguf_writer *w, const struct gguf *from, int64_t i)
{
    struct gguf_str name = gguf_key_name(from, i);
    enum gguf_type type;
    const void *value;
    size_t bytes;
    gguf_key_value(from, i, &type, &value, &bytes);
    put_key(w, name.s, name.len, type);
    buf_add(&w->keys, value, bytes);
}

/* -- tensors -- */

static int64_t aligned(int64_t n)
{
    return (n + GGUF_WRITE_ALIGNMENT - 1) / GGUF_WRITE_ALIGNMENT * GGUF_WRITE_ALIGNMENT;
}

static int add_end(struct gguf_writer *w, int64_t end, struct err *e)
{
    if (w->count == w->capacity) {
        int capacity = w->capacity ? 2 * w->capacity : 64;
        void *grown = capacity > 2 * LIMIT_TENSORS
            ? NULL
            : mem_grow(w->ends, (size_t)capacity, sizeof *w->ends);
        if (!grown)
            return err_set(e, ERR_MEMORY, "%s: no memory for %d tensors", w->path, capacity);
        w->ends = grown;
        w->capacity = capacity;
    }
    w->ends[w->count++] = end;
    return 0;
}

int gguf_write_tensor(struct gguf_writer *w, const char *name, enum dtype type, int dims,
    const int64_t *shape, struct err *e)
{
    int64_t elements = 1, start = w->count ? aligned(w->ends[w->count - 1]) : 0, bytes, end;
    int number = gguf_tensor_type(type);
    for (int i = 0; i < dims; i++)
        if (shape[i] < 1 || __builtin_mul_overflow(elements, shape[i], &elements))
            return err_set(e, ERR_DATA, "%s: tensor %s has an absurd dimension %lld", w->path, name,
                (long long)shape[i]);
    bytes = shape[dims - 1] % dtype_block(type) ? -1 : dtype_bytes(type, elements);
    if (w->begun || number < 0 || bytes < 0 || strlen(name) >= GGUF_NAME_BYTES ||
        __builtin_add_overflow(start, bytes, &end) || end > INT64_MAX / 2)
        return err_set(e, ERR_BUG, "%s: tensor %s of type %s does not go into it", w->path, name,
            dtype_name(type));
    uint32_t n = (uint32_t)dims, stored = (uint32_t)number;
    put_str(&w->infos, name, strlen(name));
    buf_add(&w->infos, &n, sizeof n);
    for (int i = dims - 1; i >= 0; i--)
        buf_add(&w->infos, &shape[i], sizeof *shape);
    buf_add(&w->infos, &stored, sizeof stored);
    buf_add(&w->infos, &start, sizeof start);
    return add_end(w, end, e);
}

static int pad(struct gguf_writer *w, int64_t from, int64_t to, struct err *e)
{
    static const uint8_t zeros[GGUF_WRITE_ALIGNMENT];
    return io_write_full(w->fd, zeros, (size_t)(to - from), e);
}

static int begin(struct gguf_writer *w, struct err *e)
{
    buf_auto struct buf head;
    const uint32_t version = VERSION;
    const uint64_t counts[] = {(uint64_t)w->count, w->key_count};
    buf_init(&head, 64);
    buf_str(&head, "GGUF");
    buf_add(&head, &version, sizeof version);
    buf_add(&head, counts, sizeof counts);
    if (!buf_ok(&head) || !buf_ok(&w->keys) || !buf_ok(&w->infos))
        return err_set(e, ERR_MEMORY, "%s: no memory for its head", w->path);
    int64_t size = (int64_t)(head.len + w->keys.len + w->infos.len);
    int rc;
    if ((rc = io_write_full(w->fd, head.data, head.len, e)) ||
        (rc = io_write_full(w->fd, w->keys.data, w->keys.len, e)) ||
        (rc = io_write_full(w->fd, w->infos.data, w->infos.len, e)) ||
        (rc = pad(w, size, aligned(size), e)))
        return err_wrap(e, "%s", w->path);
    w->begun = true;
    buf_done(&w->keys);
    buf_done(&w->infos);
    return 0;
}

int gguf_write_data(struct gguf_writer *w, const void *data, size_t bytes, struct err *e)
{
    int rc = w->begun ? 0 : begin(w, e);
    if (rc)
        return rc;
    if (w->current == w->count || (int64_t)bytes > w->ends[w->current] - w->at)
        return err_set(e, ERR_BUG, "%s: more data than its tensors have", w->path);
    rc = io_write_full(w->fd, data, bytes, e);
    if (rc)
        return err_wrap(e, "%s", w->path);
    w->at += (int64_t)bytes;
    if (w->at < w->ends[w->current])
        return 0;
    w->current++;
    rc = pad(w, w->at, aligned(w->at), e);
    w->at = aligned(w->at);
    return rc ? err_wrap(e, "%s", w->path) : 0;
}

int gguf_write_finish(struct gguf_writer *w, struct err *e)
{
    if (!w->begun || w->current < w->count)
        return err_set(
            e, ERR_BUG, "%s: tensor %d of %d is incomplete", w->path, w->current + 1, w->count);
    int rc = io_fsync(w->fd, e);
    return rc ? err_wrap(e, "%s", w->path) : 0;
}
