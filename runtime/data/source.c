/*
 * source: names are collected, then sorted; a file that is packed is read and written in pieces.
 * The only file that includes zlib and zstd.
 */
#include "runtime/data/source.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE      ((size_t)1 << 20) /* bytes unpacked at once */
#define GZIP_ALONE (15 + 16)         /* zlib's way to say: a gzip header, any window */
#define WINDOW_LOG 27                /* of zstd */

/* -- names -- */

void source_done(struct source *s)
{
    for (int i = 0; i < s->count; i++)
        mem_free(s->paths[i]);
    mem_free(s->paths);
    *s = (struct source){.paths = NULL};
}

static int add_path(struct source *s, const char *path, struct err *e)
{
    if (s->count == SOURCE_FILES)
        return err_set(e, ERR_DATA, "%s: more than %d files", path, SOURCE_FILES);
    if (s->count == s->capacity) {
        int capacity = s->capacity ? 2 * s->capacity : 16;
        char **paths = mem_grow(s->paths, (size_t)capacity, sizeof *paths);
        if (!paths)
            return err_set(e, ERR_MEMORY, "no memory for names of files");
        s->paths = paths;
        s->capacity = capacity;
    }
    char *copy = mem_strdup(path);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for names of files");
    s->paths[s->count++] = copy;
    return 0;
}

static bool is_file(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

static int list_folder(struct source *s, const char *path, struct err *e)
{
    DIR *d = opendir(path);
    int rc = 0;
    if (!d)
        return err_sys(e, ERR_DATA, errno, "%s", path);
    for (struct dirent *f; !rc && (f = readdir(d));) {
        char name[LIMIT_PATH_BYTES];
        if (*f->d_name == '.')
            continue;
        if (snprintf(name, sizeof name, "%s/%s", path, f->d_name) >= (int)sizeof name)
            rc = err_set(e, ERR_DATA, "%s: path too long", path);
        else if (is_file(name))
            rc = add_path(s, name, e);
    }
    closedir(d);
    return rc;
}

static int list_pattern(struct source *s, const char *path, struct err *e)
{
    glob_t found = {0};
    int rc = 0, why = glob(path, GLOB_NOSORT, NULL, &found);
    if (why == GLOB_NOSPACE)
        rc = err_set(e, ERR_MEMORY, "no memory for names of files");
    for (size_t i = 0; !why && !rc && i < found.gl_pathc; i++)
        if (is_file(found.gl_pathv[i]))
            rc = add_path(s, found.gl_pathv[i], e);
    globfree(&found);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int source_list(const char *path, struct source *out, struct err *e)
{
    struct source s = {.paths = NULL};
    struct stat st;
    bool there = !stat(path, &st), pattern = !there && strpbrk(path, "*?[");
    int rc = there && S_ISDIR(st.st_mode) ? list_folder(&s, path, e)
        : pattern                         ? list_pattern(&s, path, e)
                                          : add_path(&s, path, e);
    if (!rc && !s.count)
        rc = err_set(e, ERR_DATA, "%s: %s", path, pattern ? "matches no file" : "no file in it");
    if (rc) {
        source_done(&s);
        return rc;
    }
    qsort(s.paths, (size_t)s.count, sizeof *s.paths, by_name);
    *out = s;
    return 0;
}

/* -- packed files -- */

static bool ends_in(const char *path, const char *ending)
{
    size_t n = strlen(path), k = strlen(ending);
    return n > k && !strcasecmp(path + n - k, ending);
}

size_t source_stem(const char *path)
{
    size_t n = strlen(path);
    return ends_in(path, ".gz") ? n - 3 : ends_in(path, ".zst") ? n - 4 : n;
}

enum data_format source_format(const char *path)
{
    static const struct {
        const char *ending;
        enum data_format format;
    } endings[] = {
        {".txt", FORMAT_TEXT},
        {".text", FORMAT_TEXT},
        {".md", FORMAT_TEXT},
        {".jsonl", FORMAT_JSONL},
        {".ndjson", FORMAT_JSONL},
        {".conll", FORMAT_CONLL},
        {".csv", FORMAT_CSV},
        {".tsv", FORMAT_TSV},
    };
    size_t n = source_stem(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i].ending);
        if (n > k && !strncasecmp(path + n - k, endings[i].ending, k))
            return endings[i].format;
    }
    return FORMAT_AUTO;
}

int source_check(const char *path, const char *text, size_t size, struct err *e)
{
    static const char magic[] = "PAR1";
    size_t n = strlen(magic);
    if (!ends_in(path, ".parquet") && !(text && size >= n && !memcmp(text, magic, n)))
        return 0;
    return err_set(
        e, ERR_USER, "%s: Parquet is not read: docs/parquet_to_jsonl.py makes JSONL of it", path);
}

struct unpacking {
    const char *path;
    const struct io_map *packed;
    const struct tokens_progress *progress;
    int fd;
    uint8_t *piece; /* PIECE */
    int64_t most;   /* bytes that may come of it yet */
};

static int write_piece(struct unpacking *u, size_t size, size_t used, struct err *e)
{
    u->most -= (int64_t)size;
    if (u->most < 0)
        return err_set(e, ERR_DATA,
            "%s: more than %d MiB when unpacked, as much as fits into memory: unpack it first",
            u->path, SOURCE_MEMORY_BYTES >> 20);
    int rc = io_write_full(u->fd, u->piece, size, e);
    io_map_forget(u->packed, 0, used);
    return rc ? rc : tokens_go_on(u->progress, e);
}

static int cut_short(const struct unpacking *u, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: ends within packed data: it was cut short", u->path);
}

/* Behind a member may stand another, or zeros, as tapes have them. */
static bool another_member(z_stream *z, const struct unpacking *u)
{
    const uint8_t *end = u->packed->data + u->packed->size;
    while (z->next_in < end && !*z->next_in)
        z->next_in++;
    return z->next_in < end;
}

static int inflate_all(struct unpacking *u, z_stream *z, struct err *e)
{
    const uint8_t *end = u->packed->data + u->packed->size;
    for (int state = Z_OK;;) {
        size_t left = (size_t)(end - z->next_in);
        z->avail_in = left < PIECE ? (uInt)left : (uInt)PIECE;
        z->next_out = u->piece;
        z->avail_out = (uInt)PIECE;
        state = inflate(z, Z_NO_FLUSH);
        size_t made = PIECE - z->avail_out;
        if (state == Z_MEM_ERROR)
            return err_set(e, ERR_MEMORY, "%s: no memory to unpack it", u->path);
        if (state == Z_BUF_ERROR && z->next_in == end)
            return cut_short(u, e);
        if (state != Z_OK && state != Z_STREAM_END)
            return err_set(e, ERR_DATA, "%s: not gzip, or damaged: %s", u->path,
                z->msg ? z->msg : "no end in it");
        int rc = write_piece(u, made, (size_t)(z->next_in - u->packed->data), e);
        if (rc || (state == Z_STREAM_END && !another_member(z, u)))
            return rc;
        if (state == Z_STREAM_END && inflateReset(z) != Z_OK)
            return err_set(e, ERR_BUG, "%s: zlib cannot begin anew", u->path);
    }
}

static int unpack_gzip(struct unpacking *u, struct err *e)
{
    z_stream z = {.next_in = (Bytef *)u->packed->data};
    if (inflateInit2(&z, GZIP_ALONE) != Z_OK)
        return err_set(e, ERR_MEMORY, "%s: no memory to unpack it", u->path);
    int rc = inflate_all(u, &z, e);
    inflateEnd(&z);
    return rc;
}

static int unpack_zstd(struct unpacking *u, struct err *e)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer in = {u->packed->data, u->packed->size, 0};
    int rc = z && !ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG))
        ? 0
        : err_set(e, ERR_MEMORY, "%s: no memory to unpack it", u->path);
    for (size_t left = 0; !rc && (in.pos < in.size || left);) { /* left: of a frame, 0: none */
        ZSTD_outBuffer out = {u->piece, PIECE, 0};
        bool ended = in.pos == in.size;
        left = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(left))
            rc = err_set(
                e, ERR_DATA, "%s: not zstd, or damaged: %s", u->path, ZSTD_getErrorName(left));
        else if (left && ended && !out.pos)
            rc = cut_short(u, e);
        else
            rc = write_piece(u, out.pos, in.pos, e);
    }
    ZSTD_freeDCtx(z);
    return rc;
}

/* Of a file in the folder that has lost its name already, so that nothing of it can be left behind;
 * or in memory. Returns a descriptor, or an error. */
static int open_nameless(const char *folder, struct err *e)
{
    char name[LIMIT_PATH_BYTES];
    uint32_t chance;
    int fd, rc;
    if (!folder) {
        fd = memfd_create("unpacked", MFD_CLOEXEC);
        return fd >= 0 ? fd : err_set(e, ERR_MEMORY, "no memory to unpack a file");
    }
    if ((rc = io_random(&chance, sizeof chance, e)) || (rc = io_mkdirs(folder, 0755, e)))
        return rc;
    if (snprintf(name, sizeof name, "%s/unpacked.%u.tmp", folder, (unsigned)chance) >=
        (int)sizeof name)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    if ((fd = io_create(name, 0600, e)) < 0 || !(rc = io_remove(name, e)))
        return fd;
    io_remove(name, NULL);
    io_close(fd);
    return rc;
}

static int unpack(const char *path, const char *folder, const struct io_map *packed,
    const struct tokens_progress *p, struct io_map *out, struct err *e)
{
    char open_file[64];
    mem_autofree uint8_t *piece = mem_alloc(PIECE);
    if (!piece)
        return err_set(e, ERR_MEMORY, "%s: no memory to unpack it", path);
    io_auto_fd int fd = open_nameless(folder, e);
    if (fd < 0)
        return fd;
    struct unpacking u = {path, packed, p, fd, piece, folder ? INT64_MAX : SOURCE_MEMORY_BYTES};
    int rc = ends_in(path, ".gz") ? unpack_gzip(&u, e) : unpack_zstd(&u, e);
    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", fd);
    return rc ? rc : io_map(open_file, out, e);
}

int source_map(const char *path, const char *folder, const struct tokens_progress *p,
    struct io_map *out, struct err *e)
{
    struct io_map map;
    int rc = io_map(path, &map, e);
    if (rc)
        return rc;
    if (source_stem(path) == strlen(path)) {
        *out = map;
        return 0;
    }
    rc = map.size ? unpack(path, folder, &map, p, out, e)
                  : err_set(e, ERR_DATA, "%s: empty file", path);
    io_unmap(&map);
    return rc;
}
