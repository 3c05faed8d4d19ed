/*
 * tokens: the header is written when all else is, so a file that was cut short has none. What is
 * read back is believed no further than its size: counts are checked against it before anything is
 * looked at.
 */
#include "runtime/data/tokens.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/files/hash.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define MAGIC   "LLMJTOKS"
#define VERSION 1
#define ENDING  ".tokens"
#define PENDING (64 << 10) /* ids gathered before they are written */
#define PIECE   (16 << 20) /* bytes verified between two signs of life */
#define KEY_HEX 16

static const struct tokens_header ours = {
    .magic = MAGIC, .version = VERSION, .header_bytes = sizeof(struct tokens_header)};

int tokens_go_on(const struct tokens_progress *p, struct err *e)
{
    return p && p->fn ? p->fn(p->user, e) : 0;
}

int tokens_path(const char *folder, uint64_t key, char out[LIMIT_PATH_BYTES], struct err *e)
{
    int n = snprintf(out, LIMIT_PATH_BYTES, "%s/%016" PRIx64 ENDING, folder, key);
    return n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "%s: path too long", folder);
}

static uint64_t digest_header(const struct tokens_header *h)
{
    return hash_xxh3(h, offsetof(struct tokens_header, digest));
}

static uint64_t rows_at(int64_t ids)
{
    return (sizeof(struct tokens_header) + (uint64_t)ids * sizeof(int32_t) + 7) / 8 * 8;
}

/* -- reading -- */

static bool is_whole(const struct tokens_header *h, uint64_t size)
{
    if (memcmp(h, &ours, offsetof(struct tokens_header, key)) != 0 ||
        h->digest != digest_header(h) || h->ids < 0 || h->rows < -1 ||
        (uint64_t)h->ids > size / sizeof(int32_t) ||
        (h->rows > 0 && (uint64_t)h->rows > size / sizeof(struct tokens_row)))
        return false;
    return h->rows < 0 ? size == sizeof *h + (uint64_t)h->ids * sizeof(int32_t)
                       : size == rows_at(h->ids) + (uint64_t)h->rows * sizeof(struct tokens_row);
}

int tokens_open(const char *path, struct tokens *out, struct err *e)
{
    struct tokens t = {.ids = NULL};
    int rc = io_map(path, &t.map, e);
    if (rc)
        return rc;
    if (t.map.size >= sizeof t.header)
        memcpy(&t.header, t.map.data, sizeof t.header);
    if (t.map.size < sizeof t.header || !is_whole(&t.header, t.map.size)) {
        io_unmap(&t.map);
        return err_set(e, ERR_CORRUPT, "%s: no file of tokens, or a damaged one", path);
    }
    t.ids = (const int32_t *)(const void *)(t.map.data + sizeof t.header);
    if (t.header.rows >= 0)
        t.rows = (const struct tokens_row *)(const void *)(t.map.data + rows_at(t.header.ids));
    *out = t;
    return 0;
}

void tokens_close(struct tokens *t)
{
    io_unmap(&t->map);
    *t = (struct tokens){.ids = NULL};
}

static bool are_tokens(const int32_t *ids, int64_t count, int32_t vocab, bool rows)
{
    bool all = true;
    for (int64_t i = 0; i < count; i++) {
        int32_t id = rows && ids[i] < 0 ? ~ids[i] : ids[i];
        all = all && id >= 0 && id < vocab;
    }
    return all;
}

static bool are_rows(const struct tokens *t)
{
    int64_t end = t->header.ids;
    for (int64_t i = t->header.rows - 1; i >= 0; i--) {
        const struct tokens_row *r = &t->rows[i];
        if (r->first < 0 || r->first > end - 2 || r->learnt < 1 || r->learnt >= end - r->first)
            return false;
        end = r->first;
    }
    return !end;
}

int tokens_verify(
    const struct tokens *t, int32_t vocab, const struct tokens_progress *p, struct err *e)
{
    static const char damaged[] = "the file of tokens is damaged";
    struct hash_stream *ids = NULL;
    int rc = hash_stream_create(&ids, e);
    if (rc)
        return rc;
    for (int64_t at = 0, n; at < t->header.ids && !rc; at += n) {
        n = t->header.ids - at < PIECE / 4 ? t->header.ids - at : PIECE / 4;
        hash_stream_add(ids, t->ids + at, (size_t)n * sizeof *t->ids);
        rc = are_tokens(t->ids + at, n, vocab, t->rows != NULL) ? tokens_go_on(p, e)
                                                                : err_set(e, ERR_CORRUPT, damaged);
        size_t from = (size_t)((const uint8_t *)(t->ids + at) - t->map.data);
        io_map_forget(&t->map, from, from + (size_t)n * sizeof *t->ids);
    }
    if (!rc &&
        (hash_stream_xxh3(ids) != t->header.ids_digest ||
            (t->rows &&
                (!are_rows(t) ||
                    hash_xxh3(t->rows, (size_t)t->header.rows * sizeof *t->rows) !=
                        t->header.rows_digest))))
        rc = err_set(e, ERR_CORRUPT, damaged);
    hash_stream_destroy(ids);
    return rc;
}

/* -- writing -- */

struct tokens_writer {
    struct tokens_header header;
    char path[LIMIT_PATH_BYTES], temporary[LIMIT_PATH_BYTES];
    int fd;
    bool appeared; /* the temporary file, by our doing */
    struct hash_stream *digest;
    int32_t pending[PENDING];
    int64_t pending_count;
    struct tokens_row *rows;
    int64_t row_capacity, row_first; /* where the row begins that is being added */
};

static int open_writer(struct tokens_writer *w, const char *folder, uint64_t key, struct err *e)
{
    uint32_t chance;
    w->header = ours;
    w->header.key = key;
    w->header.rows = -1;
    int rc;
    if ((rc = io_random(&chance, sizeof chance, e)) || (rc = io_mkdirs(folder, 0755, e)) ||
        (rc = tokens_path(folder, key, w->path, e)) || (rc = hash_stream_create(&w->digest, e)))
        return rc;
    if (snprintf(w->temporary, sizeof w->temporary, "%s.%u.tmp", w->path, (unsigned)chance) >=
        (int)sizeof w->temporary)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    w->fd = io_create(w->temporary, 0644, e);
    if (w->fd < 0)
        return w->fd;
    w->appeared = true;
    return io_write_full(w->fd, &w->header, sizeof w->header, e);
}

int tokens_create(const char *folder, uint64_t key, struct tokens_writer **out, struct err *e)
{
    struct tokens_writer *w = mem_zalloc(sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory to write tokens");
    w->fd = -1;
    int rc = open_writer(w, folder, key, e);
    if (rc)
        tokens_abandon(w);
    else
        *out = w;
    return rc;
}

static int flush(struct tokens_writer *w, struct err *e)
{
    size_t bytes = (size_t)w->pending_count * sizeof *w->pending;
    hash_stream_add(w->digest, w->pending, bytes);
    w->pending_count = 0;
    return bytes ? io_write_full(w->fd, w->pending, bytes, e) : 0;
}

int tokens_add(struct tokens_writer *w, const int32_t *ids, int64_t count, struct err *e)
{
    for (int64_t at = 0, n; at < count; at += n) {
        n = PENDING - w->pending_count;
        n = n < count - at ? n : count - at;
        memcpy(w->pending + w->pending_count, ids + at, (size_t)n * sizeof *ids);
        w->pending_count += n;
        int rc = w->pending_count == PENDING ? flush(w, e) : 0;
        if (rc)
            return rc;
    }
    w->header.ids += count;
    return 0;
}

int64_t tokens_written(const struct tokens_writer *w)
{
    return w->header.ids;
}

int tokens_end_row(struct tokens_writer *w, int64_t learnt, struct err *e)
{
    w->header.rows = w->header.rows < 0 ? 0 : w->header.rows;
    if (w->header.rows == w->row_capacity) {
        int64_t capacity = w->row_capacity ? 2 * w->row_capacity : 1024;
        struct tokens_row *rows = mem_grow(w->rows, (size_t)capacity, sizeof *rows);
        if (!rows)
            return err_set(e, ERR_MEMORY, "no memory for %lld documents", (long long)capacity);
        w->rows = rows;
        w->row_capacity = capacity;
    }
    w->rows[w->header.rows++] = (struct tokens_row){w->row_first, learnt};
    w->row_first = w->header.ids;
    return 0;
}

static int finish(struct tokens_writer *w, struct err *e)
{
    static const char zeros[8];
    uint64_t end = sizeof w->header + (uint64_t)w->header.ids * sizeof(int32_t);
    int rc = flush(w, e);
    if (rc)
        return rc;
    w->header.ids_digest = hash_stream_xxh3(w->digest);
    if (w->header.rows >= 0) {
        size_t bytes = (size_t)w->header.rows * sizeof *w->rows;
        w->header.rows_digest = hash_xxh3(w->rows, bytes);
        if ((rc = io_write_full(w->fd, zeros, (size_t)(rows_at(w->header.ids) - end), e)) ||
            (rc = io_write_full(w->fd, w->rows, bytes, e)))
            return rc;
    }
    w->header.digest = digest_header(&w->header);
    if ((rc = io_pwrite_full(w->fd, &w->header, sizeof w->header, 0, e)) ||
        (rc = io_fsync(w->fd, e)))
        return rc;
    return io_rename(w->temporary, w->path, e);
}

int tokens_commit(struct tokens_writer *w, int64_t skipped, struct err *e)
{
    w->header.skipped = skipped;
    int rc = finish(w, e);
    w->appeared = w->appeared && rc;
    tokens_abandon(w);
    return rc;
}

void tokens_abandon(struct tokens_writer *w)
{
    if (!w)
        return;
    io_close(w->fd);
    if (w->appeared)
        io_remove(w->temporary, NULL);
    hash_stream_destroy(w->digest);
    mem_free(w->rows);
    mem_free(w);
}

/* -- sweeping -- */

/* <key>.tokens, or <key>.tokens.<number>.tmp of a writer that did not end. */
static bool bears_name(const char *name, uint64_t *key, bool *unfinished)
{
    char same[64];
    size_t digits = strspn(name, "0123456789abcdef");
    if (digits != KEY_HEX)
        return false;
    *key = strtoull(name, NULL, 16);
    snprintf(same, sizeof same, "%016" PRIx64 ENDING, *key);
    size_t n = strlen(same);
    if (strncmp(name, same, n) != 0)
        return false;
    const char *rest = name + n;
    size_t number = *rest == '.' ? strspn(rest + 1, "0123456789") : 0;
    *unfinished = number && !strcmp(rest + 1 + number, ".tmp");
    return !*rest || *unfinished;
}

static bool bears_header(const char *path)
{
    struct tokens_header h;
    io_auto_fd int fd = io_open_read(path, NULL);
    return fd >= 0 && !io_pread_full(fd, &h, sizeof h, 0, NULL) &&
        !memcmp(&h, ours.magic, sizeof ours.magic);
}

static int sweep_one(
    const char *folder, const char *name, const uint64_t *keep, int count, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    uint64_t key;
    bool unfinished, kept = false;
    if (!bears_name(name, &key, &unfinished) ||
        snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    for (int i = 0; i < count && !unfinished; i++)
        kept = kept || keep[i] == key;
    return kept || !bears_header(path) ? 0 : io_remove(path, e);
}

int tokens_sweep(const char *folder, const uint64_t *keep, int count, struct err *e)
{
    DIR *d = opendir(folder);
    int rc = 0;
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, ERR_RETRY, errno, "%s", folder);
    for (struct dirent *f; !rc && (f = readdir(d));)
        rc = sweep_one(folder, f->d_name, keep, count, e);
    closedir(d);
    return rc;
}
