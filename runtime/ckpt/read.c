/*
 * ckpt_read: a generation as tensors. Every file is hashed and its header read when the generation
 * is opened, and each tensor found to be there once and whole; data is read when it is asked for.
 * All by pread, never by a mapping: a disk that fails or a file that was cut must be an error that
 * leads to the generation before, not the end of the process. Any thread, one at a time.
 */
#include "runtime/ckpt/ckpt.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/ckpt/folder.h"
#include "runtime/files/safetensors.h"

#include <inttypes.h>

#define WINDOW_BYTES (1 << 20) /* short runs of a file are read in one go */

struct ckpt_entry {   /* an entry of a file */
    const char *name; /* of the tensor, up to the last '@' of the entry's */
    size_t name_len;
    enum dtype type;
    int file;
    int64_t at, bytes; /* of the data in the file */
    struct ckpt_piece piece;
};

struct ckpt_reader {
    char folder[LIMIT_PATH_BYTES];
    struct ckpt_manifest manifest;
    struct safetensors **files; /* headers only */
    int file_count;
    struct ckpt_entry *entries; /* by name, then as they stand in the files */
    int entry_count;
    ckpt_read_fn *read_fn; /* NULL: they are the folder's */
    void *user;
    int fd, open_file; /* the file that was read last; fd -1: none */
    uint8_t *window;   /* what was read of it, NULL: nothing yet */
    int64_t window_at, window_bytes;
};

/* -- opening -- */

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int d = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int entry_compare(const void *a, const void *b)
{
    const struct ckpt_entry *x = a, *y = b;
    int d = name_compare(x->name, x->name_len, y->name, y->name_len);
    if (d)
        return d;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static int file_path(const struct ckpt_reader *r, int i, char out[LIMIT_PATH_BYTES], struct err *e)
{
    return ckpt_folder_path(out, e, "%s/%s", r->folder, r->manifest.files[i].name);
}

/* A failure that an older generation may not have. */
static bool is_damage(int rc)
{
    return rc == -ERR_CORRUPT || rc == -ERR_DATA || rc == -ERR_DEVICE;
}

static int turn_to_file(struct ckpt_reader *r, int file, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    if (r->open_file == file && (r->read_fn || r->fd >= 0))
        return 0;
    int rc = file_path(r, file, path, e);
    if (rc)
        return rc;
    io_close(r->fd);
    r->fd = r->read_fn ? -1 : io_open_read(path, e);
    r->open_file = file;
    r->window_bytes = 0;
    return r->read_fn || r->fd >= 0 ? 0 : r->fd;
}

/* Of the file that was turned to. */
static int read_file(struct ckpt_reader *r, void *to, int64_t bytes, int64_t at, struct err *e)
{
    struct err why = {0};
    int rc = r->read_fn ? r->read_fn(r->user, r->open_file, to, bytes, at, &why)
                        : io_pread_full(r->fd, to, (size_t)bytes, at, &why);
    if (!rc)
        return 0;
    err_set(e, is_damage(rc) ? ERR_CORRUPT : why.code, "%s", why.text);
    return err_wrap(e, "%s/%s", r->folder, r->manifest.files[r->open_file].name);
}

static int open_header(struct ckpt_reader *r, int i, struct err *e)
{
    int64_t size = r->manifest.files[i].bytes;
    size_t n = size < CKPT_HEADER_BYTES ? (size_t)size : CKPT_HEADER_BYTES;
    char path[LIMIT_PATH_BYTES];
    mem_autofree uint8_t *head = mem_alloc(n + 1);
    if (!head)
        return err_set(e, ERR_MEMORY, "%s: no memory for a header", r->folder);
    int rc;
    if ((rc = file_path(r, i, path, e)) || (rc = turn_to_file(r, i, e)) ||
        (rc = read_file(r, head, (int64_t)n, 0, e)) ||
        (rc = safetensors_parse_header(head, n, (size_t)size, path, &r->files[r->file_count], e)))
        return rc;
    r->file_count++;
    return 0;
}

static int open_file(struct ckpt_reader *r, int i, enum ckpt_depth depth, struct err *e)
{
    int rc = r->read_fn
        ? 0
        : ckpt_folder_check(r->folder, &r->manifest.files[i], depth == CKPT_HASHES, e);
    return rc ? rc : open_header(r, i, e);
}

static bool read_pair(const char *text, char between, int64_t *a, int64_t *b)
{
    const char *second = strchr(text, between);
    return second && number_whole(text, (size_t)(second - text), NUMBER_EXACT, a) &&
        number_whole(second + 1, strlen(second + 1), NUMBER_EXACT, b);
}

/* From "offset" and "total", or "row,column" and "RxC". */
static bool read_piece(
    const struct safetensors_tensor *t, const char *place, const char *whole, struct ckpt_piece *p)
{
    *p = (struct ckpt_piece){.rows = 1, .height = 1, .width = t->shape[0]};
    if (t->dims == 1)
        return number_whole(place, strlen(place), NUMBER_EXACT, &p->column) &&
            number_whole(whole, strlen(whole), NUMBER_EXACT, &p->columns);
    p->height = t->shape[0];
    p->width = t->shape[1];
    return t->dims == 2 && read_pair(place, ',', &p->row, &p->column) &&
        read_pair(whole, 'x', &p->rows, &p->columns);
}

static int read_entry(const struct ckpt_reader *r, int file, const struct safetensors_tensor *t,
    struct ckpt_entry *s, struct err *e)
{
    const char *at = strrchr(t->name, '@');
    const char *whole = safetensors_metadata(r->files[file], t->name);
    if (!at || !whole || t->type == SAFETENSORS_UNREAD || !read_piece(t, at + 1, whole, &s->piece))
        return err_set(e, ERR_CORRUPT, "%s/%s: %.64s is no piece of a tensor", r->folder,
            r->manifest.files[file].name, t->name);
    if (!ckpt_piece_fits(&s->piece) || ckpt_piece_count(&s->piece) < 1)
        return err_set(e, ERR_CORRUPT, "%s/%s: %.64s lies outside its tensor", r->folder,
            r->manifest.files[file].name, t->name);
    s->name = t->name;
    s->name_len = (size_t)(at - t->name);
    s->type = t->type;
    s->file = file;
    s->at = t->offset;
    s->bytes = t->bytes;
    return 0;
}

static bool same_tensor(const struct ckpt_entry *a, const struct ckpt_entry *b)
{
    return !name_compare(a->name, a->name_len, b->name, b->name_len);
}

/* Two shapes of one matrix, or two types or sizes of one tensor. */
static int check_alike(
    const struct ckpt_reader *r, const struct ckpt_entry *s, int n, struct err *e)
{
    const struct ckpt_entry *matrix = NULL;
    for (int i = 0; i < n; i++) {
        const struct ckpt_piece *p = &s[i].piece, *m = matrix ? &matrix->piece : p;
        bool flat = ckpt_piece_is_flat(p);
        if (s[i].type != s->type || ckpt_piece_total(p) != ckpt_piece_total(&s->piece) ||
            (!flat && (p->rows != m->rows || p->columns != m->columns)))
            return err_set(e, ERR_CORRUPT, "%s/%s: tensor %.*s is not as in %s", r->folder,
                r->manifest.files[s[i].file].name, (int)s->name_len, s->name,
                r->manifest.files[s->file].name);
        if (!flat)
            matrix = &s[i];
    }
    return 0;
}

/* Each tensor is there as a whole, and each element once. */
static int check_tensors(const struct ckpt_reader *r, struct err *e)
{
    mem_autofree struct ckpt_piece *parts = mem_array((size_t)r->entry_count + 1, sizeof *parts);
    if (!parts)
        return err_set(e, ERR_MEMORY, "no memory for %d pieces", r->entry_count);
    for (int i = 0, n; i < r->entry_count; i += n) {
        const struct ckpt_entry *s = &r->entries[i];
        for (n = 0; i + n < r->entry_count && same_tensor(s, s + n); n++)
            parts[n] = s[n].piece;
        int rc = check_alike(r, s, n, e);
        if (rc)
            return rc;
        if (ckpt_piece_tile(parts, n, e))
            return err_wrap(e, "%s: tensor %.*s has", r->folder, (int)s->name_len, s->name);
    }
    return 0;
}

static int index_entries(struct ckpt_reader *r, struct err *e)
{
    size_t count = 0;
    for (int i = 0; i < r->file_count; i++)
        count += (size_t)safetensors_count(r->files[i]);
    r->entries = count < INT32_MAX ? mem_array(count + 1, sizeof *r->entries) : NULL;
    if (!r->entries)
        return err_set(e, ERR_MEMORY, "no memory for %zu pieces", count);
    for (int i = 0; i < r->file_count; i++)
        for (int k = 0; k < safetensors_count(r->files[i]); k++) {
            struct ckpt_entry *s = &r->entries[r->entry_count];
            int rc = read_entry(r, i, safetensors_at(r->files[i], k), s, e);
            if (rc)
                return rc;
            r->entry_count++;
        }
    qsort(r->entries, (size_t)r->entry_count, sizeof *r->entries, entry_compare);
    return check_tensors(r, e);
}

static int open_all(struct ckpt_reader *r, int64_t step, enum ckpt_depth depth, struct err *e)
{
    const struct ckpt_manifest *m = &r->manifest;
    if (m->state.step != step)
        return err_set(e, ERR_CORRUPT, "%s holds step %" PRId64, r->folder, m->state.step);
    r->files = mem_array((size_t)m->file_count, sizeof *r->files);
    if (!r->files)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    int rc = 0;
    for (int i = 0; i < m->file_count && !rc; i++)
        rc = open_file(r, i, depth, e);
    return rc ? rc : index_entries(r, e);
}

int ckpt_open_files(struct ckpt_manifest *m, ckpt_read_fn *read_fn, void *user,
    struct ckpt_reader **out, struct err *e)
{
    struct ckpt_reader *r = mem_zalloc(sizeof *r);
    if (!r) {
        ckpt_manifest_done(m);
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    }
    r->fd = r->open_file = -1;
    r->read_fn = read_fn;
    r->user = user;
    r->manifest = *m;
    *m = (struct ckpt_manifest){0};
    snprintf(r->folder, sizeof r->folder, "memory");
    int rc = open_all(r, r->manifest.state.step, CKPT_HEADERS, e);
    if (rc) {
        ckpt_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

int ckpt_open_step(const char *path, int64_t step, enum ckpt_depth depth, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    struct ckpt_reader *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
    r->fd = r->open_file = -1;
    int rc;
    if ((rc = ckpt_folder_step(path, step, r->folder, e)) ||
        (rc = ckpt_folder_manifest(path, step, manifest, e)) ||
        (rc = ckpt_manifest_read(manifest, &r->manifest, e)) ||
        (out && (rc = open_all(r, step, depth, e)))) {
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

/* Tries generations up to `limit`, newest first; out NULL: manifests only, and in silence. *found:
 * how many there are at all; newest: what is wrong with the newest that was tried. */
static int try_all(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, int *found, struct err *newest, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    int count = 0, rc = ckpt_folder_list(path, &steps, &count, e);
    for (int i = 0; i < count && !rc; i++) {
        bool committed = true;
        struct err why = {0};
        rc = ckpt_folder_committed(path, steps[i], &committed, &why);
        *found += committed;
        if (!rc && committed && steps[i] <= limit &&
            !(rc = ckpt_open_step(path, steps[i], CKPT_HASHES, out, state, &why)))
            return 0;
        if (is_damage(rc)) {
            if (newest->code == ERR_NONE)
                *newest = why;
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
    struct err newest = {0};
    int found = 0;
    return try_all(path, INT64_MAX, NULL, state, &found, &newest, e);
}

int ckpt_open_newest(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e)
{
    struct ckpt_reader *r = NULL;
    struct err newest = {0};
    int found = 0, rc = try_all(path, limit, &r, state, &found, &newest, e);
    if (rc)
        return rc;
    if (!r && found)
        return err_set(e, ERR_CORRUPT,
            "%s%snone of the %d checkpoints in %s can be read; remove "
            "them to begin anew",
            newest.text, *newest.text ? "; " : "", found, path);
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
    mem_free(r->entries);
    mem_free(r->window);
    mem_free(r);
}

/* -- gathering -- */

/* The first entry of a tensor, or NULL; those that follow it have the same name. */
static const struct ckpt_entry *first_entry(const struct ckpt_reader *r, const char *name)
{
    size_t len = strlen(name);
    int low = 0, high = r->entry_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct ckpt_entry *s = &r->entries[middle];
        if (name_compare(s->name, s->name_len, name, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const struct ckpt_entry *s = &r->entries[low];
    return low < r->entry_count && !name_compare(s->name, s->name_len, name, len) ? s : NULL;
}

bool ckpt_has(const struct ckpt_reader *r, const char *name)
{
    return first_entry(r, name);
}

/* Bytes [skip, skip + bytes) of an entry. */
static int read_run(struct ckpt_reader *r, const struct ckpt_entry *s, int64_t skip, void *to,
    int64_t bytes, struct err *e)
{
    int64_t at = s->at + skip, left = s->bytes - skip;
    int rc = turn_to_file(r, s->file, e);
    if (rc)
        return rc;
    if (bytes >= WINDOW_BYTES / 2)
        return read_file(r, to, bytes, at, e);
    if (at < r->window_at || at + bytes > r->window_at + r->window_bytes) {
        if (!r->window && !(r->window = mem_alloc(WINDOW_BYTES)))
            return err_set(e, ERR_MEMORY, "no memory to read a checkpoint");
        int64_t n = left < WINDOW_BYTES ? left : WINDOW_BYTES;
        r->window_bytes = 0;
        if ((rc = read_file(r, r->window, n, at, e)))
            return rc;
        r->window_at = at;
        r->window_bytes = n;
    }
    memcpy(to, r->window + (at - r->window_at), (size_t)bytes);
    return 0;
}

struct gathering {
    struct ckpt_reader *reader;
    const struct ckpt_entry *entry;
    uint8_t *data;
    int64_t size; /* of an element */
};

/* ckpt_piece_fn */
static int gather_run(void *user, int64_t from, int64_t to, int64_t count, struct err *e)
{
    const struct gathering *g = user;
    return read_run(
        g->reader, g->entry, from * g->size, g->data + to * g->size, count * g->size, e);
}

static int check_wanted(
    const struct ckpt_entry *s, const struct ckpt_piece *p, enum dtype t, struct err *e)
{
    const struct ckpt_piece *has = &s->piece;
    if (ckpt_piece_total(has) != ckpt_piece_total(p) || s->type != t)
        return err_set(e, ERR_CORRUPT,
            "checkpoint's tensor %.*s has %" PRId64 " elements of %s, not %" PRId64 " of %s",
            (int)s->name_len, s->name, ckpt_piece_total(has), dtype_name(s->type),
            ckpt_piece_total(p), dtype_name(t));
    if (!ckpt_piece_is_flat(has) && !ckpt_piece_is_flat(p) && has->columns != p->columns)
        return err_set(e, ERR_CORRUPT,
            "checkpoint's tensor %.*s is %" PRId64 " x %" PRId64 ", not %" PRId64 " x %" PRId64,
            (int)s->name_len, s->name, has->rows, has->columns, p->rows, p->columns);
    return 0;
}

int ckpt_get_piece(struct ckpt_reader *r, const char *name, const struct ckpt_piece *p,
    enum dtype t, void *data, struct err *e)
{
    const struct ckpt_entry *first = first_entry(r, name), *end = r->entries + r->entry_count;
    if (!first)
        return err_set(e, ERR_CORRUPT, "checkpoint has no tensor %.128s", name);
    if (!ckpt_piece_fits(p))
        return err_set(e, ERR_BUG, "tensor %.64s: piece lies outside it", name);
    for (const struct ckpt_entry *s = first; s < end && same_tensor(s, first); s++) {
        struct gathering g = {r, s, data, dtype_block_bytes(t)};
        int rc = check_wanted(s, p, t, e);
        if (rc || (rc = ckpt_piece_meet(&s->piece, p, gather_run, &g, e)))
            return rc;
    }
    return 0;
}

int ckpt_get(struct ckpt_reader *r, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, void *data, struct err *e)
{
    const struct ckpt_piece p = ckpt_piece_flat(total, offset, count);
    return ckpt_get_piece(r, name, &p, t, data, e);
}
