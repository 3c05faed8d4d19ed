/*
 * ckpt_read: a generation as tensors. Every file is hashed and its header read when the generation
 * is opened; data is read when it is asked for. All by pread, never by a mapping: a disk that fails
 * or a file that was cut must be an error that leads to the generation before, not the end of the
 * process. Any thread, one at a time.
 */
#include "runtime/ckpt/ckpt.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/ckpt/folder.h"
#include "runtime/files/hash.h"
#include "runtime/files/safetensors.h"

#include <inttypes.h>

struct slice {
    const char *name; /* up to the '@' of the entry's */
    size_t name_len;
    int64_t total, offset, count; /* elements */
    enum dtype type;
    int file;
    int64_t at; /* of its first byte in the file */
};

struct ckpt_reader {
    char folder[LIMIT_PATH_BYTES];
    struct ckpt_manifest manifest;
    struct safetensors **files; /* headers only */
    int file_count;
    struct slice *slices; /* by name, then offset */
    int slice_count;
    int fd, open_file; /* the file that was read last; fd -1: none */
};

/* -- opening -- */

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int d = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int slice_compare(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int d = name_compare(x->name, x->name_len, y->name, y->name_len);
    return d ? d : (x->offset > y->offset) - (x->offset < y->offset);
}

static int file_path(const struct ckpt_reader *r, int i, char out[LIMIT_PATH_BYTES], struct err *e)
{
    return ckpt_folder_path(out, e, "%s/%s", r->folder, r->manifest.files[i].name);
}

static int open_header(struct ckpt_reader *r, int fd, const char *path, int64_t size, struct err *e)
{
    size_t n = size < CKPT_HEADER_BYTES ? (size_t)size : CKPT_HEADER_BYTES;
    mem_autofree uint8_t *head = mem_alloc(n + 1);
    if (!head)
        return err_set(e, ERR_MEMORY, "%s: no memory for its header", path);
    int rc = io_pread_full(fd, head, n, 0, e);
    if (!rc)
        rc = safetensors_parse_header(head, n, (size_t)size, path, &r->files[r->file_count], e);
    r->file_count += !rc;
    return rc;
}

static int open_file(struct ckpt_reader *r, int i, struct err *e)
{
    const struct ckpt_file *f = &r->manifest.files[i];
    char path[LIMIT_PATH_BYTES], hash[HASH_XXH3_HEX];
    int rc = file_path(r, i, path, e);
    if (rc)
        return rc;
    io_auto_fd int fd = io_open_read(path, e);
    if (fd < 0)
        return fd;
    int64_t size = io_file_size(path, e);
    if (size < 0)
        return (int)size;
    if (size != f->bytes)
        return err_set(e, ERR_CORRUPT, "%s: %" PRId64 " bytes, its manifest says %" PRId64, path,
            size, f->bytes);
    rc = hash_xxh3_file(fd, size, hash, e);
    if (!rc && strcmp(hash, f->hash))
        rc = err_set(e, ERR_CORRUPT, "%s: its hash does not match", path);
    return rc ? rc : open_header(r, fd, path, size, e);
}

/* "name@offset", with the tensor's total as its metadata. */
static int read_entry(const struct ckpt_reader *r, int file, const struct safetensors_tensor *t,
    struct slice *s, struct err *e)
{
    const char *at = strrchr(t->name, '@');
    const char *total = safetensors_metadata(r->files[file], t->name);
    if (!at || !total || t->dims != 1 || t->shape[0] < 1 || t->type == SAFETENSORS_UNREAD ||
        !number_whole(at + 1, strlen(at + 1), NUMBER_EXACT, &s->offset) ||
        !number_whole(total, strlen(total), NUMBER_EXACT, &s->total))
        return err_set(e, ERR_CORRUPT, "%s/%s: %.64s is no slice", r->folder,
            r->manifest.files[file].name, t->name);
    s->name = t->name;
    s->name_len = (size_t)(at - t->name);
    s->type = t->type;
    s->file = file;
    s->at = t->offset;
    s->count = t->shape[0];
    if (s->count > s->total || s->offset > s->total - s->count)
        return err_set(e, ERR_CORRUPT, "%s/%s: %.64s lies outside its tensor", r->folder,
            r->manifest.files[file].name, t->name);
    return 0;
}

static int index_slices(struct ckpt_reader *r, struct err *e)
{
    size_t count = 0;
    for (int i = 0; i < r->file_count; i++)
        count += (size_t)safetensors_count(r->files[i]);
    r->slices = mem_array(count + 1, sizeof *r->slices);
    if (!r->slices)
        return err_set(e, ERR_MEMORY, "no memory for %zu slices", count);
    for (int i = 0; i < r->file_count; i++)
        for (int k = 0; k < safetensors_count(r->files[i]); k++) {
            int rc =
                read_entry(r, i, safetensors_at(r->files[i], k), &r->slices[r->slice_count], e);
            if (rc)
                return rc;
            r->slice_count++;
        }
    qsort(r->slices, (size_t)r->slice_count, sizeof *r->slices, slice_compare);
    return 0;
}

static int open_all(struct ckpt_reader *r, int64_t step, struct err *e)
{
    const struct ckpt_manifest *m = &r->manifest;
    if (m->state.step != step)
        return err_set(e, ERR_CORRUPT, "%s holds step %" PRId64, r->folder, m->state.step);
    r->files = mem_array((size_t)m->file_count, sizeof *r->files);
    if (!r->files)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    int rc = 0;
    for (int i = 0; i < m->file_count && !rc; i++)
        rc = open_file(r, i, e);
    return rc ? rc : index_slices(r, e);
}

static int open_generation(const char *path, int64_t step, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    struct ckpt_reader *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    r->fd = -1;
    int rc;
    if ((rc = ckpt_folder_step(path, step, r->folder, e)) ||
        (rc = ckpt_folder_manifest(path, step, manifest, e)) ||
        (rc = ckpt_manifest_read(manifest, &r->manifest, e)) ||
        (out && (rc = open_all(r, step, e)))) {
        ckpt_close(r);
        return rc;
    }
    *state = r->manifest.state;
    if (out)
        *out = r;
    else
        ckpt_close(r);
    return 0;
}

/* A failure that an older generation may not have. */
static bool is_damage(int rc)
{
    return rc == -ERR_CORRUPT || rc == -ERR_DATA || rc == -ERR_DEVICE;
}

/* Tries generations up to `limit`, newest first; out NULL: manifests only, and in silence. *found:
 * how many there are at all. */
static int try_all(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, int *found, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    int count = 0, rc = ckpt_folder_list(path, &steps, &count, e);
    for (int i = 0; i < count && !rc; i++) {
        bool committed = true;
        struct err why = {0};
        rc = ckpt_folder_committed(path, steps[i], &committed, &why);
        *found += committed;
        if (!rc && committed && steps[i] <= limit &&
            !(rc = open_generation(path, steps[i], out, state, &why)))
            return 0;
        if (is_damage(rc)) {
            if (out)
                log_warn("checkpoint skipped", LOG_I("step", steps[i]), LOG_ERR(&why));
            rc = 0;
        }
        if (rc && e)
            *e = why;
    }
    return rc;
}

int ckpt_peek(const char *path, struct ckpt_state *state, struct err *e)
{
    int found = 0;
    return try_all(path, INT64_MAX, NULL, state, &found, e);
}

int ckpt_open_newest(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e)
{
    struct ckpt_reader *r = NULL;
    int found = 0, rc = try_all(path, limit, &r, state, &found, e);
    if (rc)
        return rc;
    if (!r && found)
        return err_set(e, ERR_CORRUPT,
            "%s: none of its %d checkpoints can be read; see the log for each, and "
            "remove them to begin anew",
            path, found);
    *out = r;
    return 0;
}

void ckpt_close(struct ckpt_reader *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->file_count; i++)
        safetensors_close(r->files[i]);
    ckpt_manifest_done(&r->manifest);
    io_close(r->fd);
    mem_free(r->files);
    mem_free(r->slices);
    mem_free(r);
}

/* -- gathering -- */

/* The first slice of a tensor, or NULL; those that follow it have the same name. */
static const struct slice *first_slice(const struct ckpt_reader *r, const char *name)
{
    size_t len = strlen(name);
    int low = 0, high = r->slice_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct slice *s = &r->slices[middle];
        if (name_compare(s->name, s->name_len, name, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const struct slice *s = &r->slices[low];
    return low < r->slice_count && !name_compare(s->name, s->name_len, name, len) ? s : NULL;
}

static int read_slice(struct ckpt_reader *r, const struct slice *s, int64_t skip, void *to,
    int64_t bytes, struct err *e)
{
    if (r->fd < 0 || r->open_file != s->file) {
        char path[LIMIT_PATH_BYTES];
        int rc = file_path(r, s->file, path, e);
        if (rc)
            return rc;
        io_close(r->fd);
        r->fd = io_open_read(path, e);
        r->open_file = s->file;
        if (r->fd < 0)
            return r->fd;
    }
    struct err why = {0};
    int rc = io_pread_full(r->fd, to, (size_t)bytes, s->at + skip, &why);
    return rc ? err_set(e, is_damage(rc) ? ERR_CORRUPT : why.code, "%s", why.text) : 0;
}

int ckpt_get(struct ckpt_reader *r, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, void *data, struct err *e)
{
    const struct slice *s = first_slice(r, name), *end = r->slices + r->slice_count;
    if (!s)
        return err_set(e, ERR_CORRUPT, "checkpoint has no tensor %.128s", name);
    if (offset < 0 || count < 0 || offset > total - count)
        return err_set(e, ERR_BUG, "tensor %.64s: slice lies outside it", name);
    int64_t size = dtype_block_bytes(t), at = offset;
    for (; s < end && at < offset + count; s++) {
        if (strlen(name) != s->name_len || memcmp(s->name, name, s->name_len))
            break;
        if (s->total != total || s->type != t)
            return err_set(e, ERR_CORRUPT,
                "checkpoint's tensor %.128s has %" PRId64 " elements of %s, not %" PRId64 " of %s",
                name, s->total, dtype_name(s->type), total, dtype_name(t));
        if (s->offset > at)
            break;
        if (s->offset + s->count <= at)
            continue;
        int64_t to = s->offset + s->count;
        to = to < offset + count ? to : offset + count;
        int rc = read_slice(r, s, (at - s->offset) * size, (uint8_t *)data + (at - offset) * size,
            (to - at) * size, e);
        if (rc)
            return rc;
        at = to;
    }
    if (at < offset + count)
        return err_set(
            e, ERR_CORRUPT, "checkpoint's tensor %.128s has a gap at %" PRId64, name, at);
    return 0;
}
