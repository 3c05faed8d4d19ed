/*
 * kept_file: the name is made of the keys, so who writes the same writes the same name. What is
 * written has a name of its own until it is whole.
 */
#include "runtime/serve/kept_file.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/files/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC      "LLMJVECS"
#define VERSION    1
#define ENDING     ".vectors"
#define UNFINISHED ".unfinished"
#define HEX        16
#define TRIES      64 /* names for one file, where others have them */

struct kept_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t encoder;
    int64_t dim, count;
    uint64_t keys;   /* digest of the keys */
    uint64_t digest; /* of all before it */
};

static const struct kept_header ours = {
    .magic = MAGIC, .version = VERSION, .header_bytes = sizeof(struct kept_header)};

static uint64_t digest_header(const struct kept_header *h)
{
    return hash_xxh3(h, offsetof(struct kept_header, digest));
}

int64_t kept_file_record(int64_t dim)
{
    return KEPT_FILE_KEY + dim * (int64_t)sizeof(float) + (int64_t)sizeof(uint64_t);
}

static int path_of(const char *folder, const char *name, char out[LIMIT_PATH_BYTES], struct err *e)
{
    int n = snprintf(out, LIMIT_PATH_BYTES, "%s/%s", folder, name);
    return n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "%s: path too long", folder);
}

bool kept_file_bears_name(const char *name, uint64_t encoder, bool *unfinished)
{
    char own[HEX + 2];
    snprintf(own, sizeof own, "%016" PRIx64 "-", encoder);
    size_t n = strlen(name), digits = strspn(name, "0123456789abcdef-");
    *unfinished = !strcmp(name + digits, UNFINISHED);
    return n < KEPT_FILE_NAME && !strncmp(name, own, HEX + 1) &&
        (*unfinished || !strcmp(name + digits, ENDING));
}

/* -- reading -- */

static int check_header(const struct kept_header *h, uint64_t encoder, int64_t dim, int64_t size)
{
    if (memcmp(h, &ours, offsetof(struct kept_header, encoder)) != 0 || h->encoder != encoder)
        return -ERR_DATA;
    if (h->digest != digest_header(h) || h->dim != dim || h->count < 1 || h->count > size ||
        size != (int64_t)sizeof *h + h->count * (KEPT_FILE_KEY + kept_file_record(dim)))
        return -ERR_CORRUPT;
    return 0;
}

static int read_keys(struct kept_file *f, const struct kept_header *h, struct err *e)
{
    size_t size = (size_t)h->count * sizeof *f->keys;
    f->keys = mem_array((size_t)h->count, sizeof *f->keys);
    if (!f->keys)
        return err_set(e, ERR_MEMORY, "no memory for the keys of kept embeddings");
    int rc = io_pread_full(f->fd, f->keys, size, sizeof *h, e);
    if (rc)
        return rc;
    for (int64_t i = 1; i < h->count; i++)
        if (memcmp(&f->keys[i - 1], &f->keys[i], sizeof *f->keys) >= 0)
            rc = -1;
    if (rc || hash_xxh3(f->keys, size) != h->keys)
        return err_set(e, ERR_CORRUPT, "its keys are not those that were written");
    f->count = h->count;
    return 0;
}

static int open_file(
    struct kept_file *f, const char *path, uint64_t encoder, int64_t most, struct err *e)
{
    struct kept_header h = {0};
    struct stat st;
    f->fd = io_open_read(path, e);
    if (f->fd < 0)
        return f->fd;
    if (fstat(f->fd, &st) || !S_ISREG(st.st_mode) || st.st_size < (int64_t)sizeof h)
        return err_set(e, ERR_DATA, "it is none of ours");
    int rc = io_pread_full(f->fd, &h, sizeof h, 0, e);
    if (rc)
        return rc;
    if ((rc = check_header(&h, encoder, f->dim, st.st_size)))
        return err_set(e, (enum err_code) - rc,
            rc == -ERR_DATA ? "it is none of ours" : "it has not the size that it says");
    if (h.count > most)
        return err_set(e, ERR_USER, "it has %lld embeddings, and %lld more may be held",
            (long long)h.count, (long long)most);
    return read_keys(f, &h, e);
}

int kept_file_open(const char *folder, const char *name, uint64_t encoder, int64_t dim,
    int64_t most, struct kept_file *out, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    *out = (struct kept_file){.fd = -1, .dim = dim};
    snprintf(out->name, sizeof out->name, "%s", name);
    int rc = path_of(folder, name, path, e);
    if (!rc)
        rc = open_file(out, path, encoder, most, e);
    if (rc && rc != -ERR_CORRUPT)
        kept_file_close(out);
    return rc;
}

void kept_file_close(struct kept_file *f)
{
    io_close(f->fd);
    mem_free(f->keys);
    *f = (struct kept_file){.fd = -1};
}

int64_t kept_file_find(const struct kept_file *f, const struct kept_key *key)
{
    int64_t from = 0, to = f->count;
    while (from < to) {
        int64_t mid = (from + to) / 2;
        int by = memcmp(&f->keys[mid], key, sizeof *key);
        if (!by)
            return mid;
        if (by < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return -1;
}

int kept_file_read(const struct kept_file *f, int64_t i, float *row, void *scratch, struct err *e)
{
    size_t record = (size_t)kept_file_record(f->dim), summed = record - sizeof(uint64_t);
    uint64_t sum;
    int rc = io_pread_full(f->fd, scratch, record,
        (int64_t)sizeof(struct kept_header) + f->count * KEPT_FILE_KEY + i * (int64_t)record, e);
    if (rc)
        return rc;
    memcpy(&sum, (const char *)scratch + summed, sizeof sum);
    if (memcmp(scratch, &f->keys[i], sizeof *f->keys) != 0 || sum != hash_xxh3(scratch, summed))
        return err_set(e, ERR_CORRUPT, "number %lld is not what was written", (long long)i);
    memcpy(row, (const char *)scratch + KEPT_FILE_KEY, (size_t)f->dim * sizeof *row);
    return 0;
}

int kept_file_remove(const char *folder, const struct kept_file *f, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    struct stat now, opened;
    int rc = path_of(folder, f->name, path, e);
    if (rc)
        return rc;
    if (lstat(path, &now) || fstat(f->fd, &opened) || now.st_ino != opened.st_ino ||
        now.st_dev != opened.st_dev)
        return 0;
    return io_remove(path, e);
}

/* -- writing -- */

static int write_record(
    int fd, const struct kept_file_new *n, int64_t i, float *row, char *record, struct err *e)
{
    size_t size = (size_t)kept_file_record(n->dim), summed = size - sizeof(uint64_t);
    int rc = n->row_fn(n->user, i, row, e);
    if (rc)
        return rc;
    memcpy(record, &n->keys[i], KEPT_FILE_KEY);
    memcpy(record + KEPT_FILE_KEY, row, (size_t)n->dim * sizeof *row);
    uint64_t sum = hash_xxh3(record, summed);
    memcpy(record + summed, &sum, sizeof sum);
    return io_write_full(fd, record, size, e);
}

static int write_all(
    const char *path, const struct kept_file_new *n, const struct kept_header *h, struct err *e)
{
    mem_autofree char *record = mem_alloc((size_t)kept_file_record(n->dim));
    mem_autofree float *row = mem_array((size_t)n->dim, sizeof *row);
    if (!record || !row)
        return err_set(e, ERR_MEMORY, "no memory for an embedding");
    io_auto_fd int fd = io_create(path, 0644, e);
    if (fd < 0)
        return fd;
    int rc = io_write_full(fd, h, sizeof *h, e);
    if (!rc)
        rc = io_write_full(fd, n->keys, (size_t)n->count * sizeof *n->keys, e);
    for (int64_t i = 0; i < n->count && !rc; i++)
        rc = write_record(fd, n, i, row, record, e);
    return rc;
}

/* The first name that no other file has. 1: a file that is whole has it. */
static int choose_name(const char *folder, const struct kept_file_new *n,
    const struct kept_header *h, char *name, struct err *e)
{
    for (int i = 0; i < TRIES; i++) {
        char path[LIMIT_PATH_BYTES];
        struct kept_file f;
        snprintf(name, KEPT_FILE_NAME, "%016" PRIx64 "-%016" PRIx64 "-%x" ENDING, h->encoder,
            h->keys, (unsigned)i);
        int rc = path_of(folder, name, path, e);
        if (rc || !io_exists(path))
            return rc;
        rc = kept_file_open(folder, name, h->encoder, h->dim, n->count, &f, e);
        kept_file_close(&f);
        if (!rc)
            return 1;
    }
    return err_set(e, ERR_DATA, "%s: others' files have all names for kept embeddings", folder);
}

int kept_file_write(const char *folder, const struct kept_file_new *n, char *name, struct err *e)
{
    char part[LIMIT_PATH_BYTES], final[LIMIT_PATH_BYTES], own[KEPT_FILE_NAME];
    uint64_t random;
    struct kept_header h = ours;
    h.encoder = n->encoder;
    h.dim = n->dim;
    h.count = n->count;
    h.keys = hash_xxh3(n->keys, (size_t)n->count * sizeof *n->keys);
    h.digest = digest_header(&h);
    int rc = choose_name(folder, n, &h, name, e);
    if (rc)
        return rc < 0 ? rc : 0;
    if ((rc = io_random(&random, sizeof random, e)))
        return rc;
    snprintf(own, sizeof own, "%016" PRIx64 "-%016" PRIx64 UNFINISHED, n->encoder, random);
    if ((rc = path_of(folder, own, part, e)) || (rc = path_of(folder, name, final, e)))
        return rc;
    struct err why = {0};
    if ((rc = write_all(part, n, &h, &why)) || (rc = io_rename_new(part, final, &why)))
        io_remove(part, NULL);
    if (rc && why.sys != EEXIST) { /* else another replica was faster */
        *e = why;
        return rc;
    }
    return 0;
}
