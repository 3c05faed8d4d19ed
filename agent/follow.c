/*
 * follow: a place is an inode and the byte behind the last line; or a time and the name of the last
 * file. Times of a directory's files are in microseconds, which JSON carries exactly.
 */
#include "agent/follow.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "api/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (64 << 10)
#define NEXT_FILES  256 /* that are known ahead */

struct follow {
    const char *path;
    bool directory;
    struct follow_place at;
    struct buf text;
    /* a file */
    int fd;
    size_t used;      /* of text: the line that was given last */
    bool skips;       /* the rest of a line that is too long */
    int64_t quiet_ms; /* since when nothing came of a file that has lost its name; 0: it has not */
    /* a directory */
    struct follow_place *next; /* (NEXT_FILES) sorted */
    int next_count, next_at;
};

int follow_create(const char *path, bool directory, struct follow **out, struct err *e)
{
    struct follow *f = mem_zalloc(sizeof *f);
    struct follow_place *next = directory ? mem_array(NEXT_FILES, sizeof *next) : NULL;
    if (!f || (directory && !next)) {
        mem_free(f);
        mem_free(next);
        return err_set(e, ERR_MEMORY, "no memory to follow %s", path);
    }
    *f = (struct follow){.path = path, .directory = directory, .at.us = -1, .fd = -1, .next = next};
    buf_init(&f->text, FOLLOW_BYTES + PIECE_BYTES);
    *out = f;
    return 0;
}

void follow_destroy(struct follow *f)
{
    if (!f)
        return;
    io_close(f->fd);
    buf_done(&f->text);
    mem_free(f->next);
    mem_free(f);
}

/* -- a file -- */

static void begin_file(struct follow *f, int fd, int64_t inode, int64_t offset)
{
    f->fd = fd;
    f->at.inode = inode;
    f->at.offset = offset;
    f->used = 0;
    f->skips = false;
    f->quiet_ms = 0;
    buf_reset(&f->text);
}

static int64_t hash_line(const char *text, size_t len)
{
    return (int64_t)(hash_bytes(HASH_START, text, len) >> 12); /* JSON carries 53 bits */
}

/* Does what is open begin as the file did that was read? */
static bool begins_alike(const struct follow *f, int fd)
{
    char piece[PIECE_BYTES];
    ssize_t n = f->at.first ? pread(fd, piece, sizeof piece, 0) : 0;
    const char *end = n > 0 ? memchr(piece, '\n', (size_t)n) : NULL;
    return !f->at.first || (end && hash_line(piece, (size_t)(end - piece)) == f->at.first);
}

/* The name, beside path, of the file that had it once; false: it is gone. */
static bool find_inode(const struct follow *f, int64_t inode, char out[LIMIT_PATH_BYTES])
{
    char folder[LIMIT_PATH_BYTES];
    bool found = false;
    snprintf(folder, sizeof folder, "%s", f->path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        return false;
    *slash = 0;
    DIR *d = opendir(*folder ? folder : "/");
    for (struct dirent *x; d && !found && (x = readdir(d));) {
        found = (int64_t)x->d_ino == inode;
        if (found &&
            snprintf(out, LIMIT_PATH_BYTES, "%s/%s", folder, x->d_name) >= LIMIT_PATH_BYTES)
            found = false;
    }
    if (d)
        closedir(d);
    return found;
}

/* 1: it is open; 0: there is none, or, as it was read before, another one is there. */
static int open_as(struct follow *f, const char *path, bool before, struct err *e)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &s)) {
        io_close(fd);
        return err_sys(e, ERR_RETRY, errno, "opening %s", path);
    }
    bool same = (int64_t)s.st_ino == f->at.inode && s.st_size >= f->at.offset;
    int64_t offset = before ? f->at.offset : 0;
    if (before && (!S_ISREG(s.st_mode) || !same || !begins_alike(f, fd))) {
        io_close(fd);
        return 0;
    }
    if (!S_ISREG(s.st_mode) || lseek(fd, offset, SEEK_SET) < 0) {
        io_close(fd);
        return err_set(e, ERR_USER, "%s is no regular file", path);
    }
    f->at.first = before ? f->at.first : 0;
    begin_file(f, fd, (int64_t)s.st_ino, offset);
    return 1;
}

/* Where it was left, or from its beginning. */
static int open_file(struct follow *f, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int rc = f->at.inode && find_inode(f, f->at.inode, path) ? open_as(f, path, true, e) : 0;
    return rc ? rc : open_as(f, f->path, false, e);
}

/* A line that is whole, or all there is of the last one. */
static bool take_line(struct follow *f, bool last, struct follow_item *out)
{
    const char *text = buf_cstr(&f->text), *end = memchr(text, '\n', f->text.len);
    size_t len = end ? (size_t)(end - text) : f->text.len;
    bool whole = end || (last && f->text.len), cut = f->skips || len > FOLLOW_BYTES;
    if (!whole && len > FOLLOW_BYTES) { /* its end is still to come */
        f->at.offset += (int64_t)len;
        f->skips = true;
        buf_reset(&f->text);
    }
    if (!whole)
        return false;
    if (!f->at.offset && end && len < PIECE_BYTES)
        f->at.first = hash_line(text, len);
    f->used = len + (end ? 1 : 0);
    f->at.offset += (int64_t)f->used;
    f->skips = false;
    *out = (struct follow_item){.text = cut ? "" : text, .len = cut ? 0 : len, .cut = cut};
    return true;
}

/* Nothing came. 1: begin anew, *anew; or all of it was read, *over. 0: it may still grow. */
static int look_at_name(struct follow *f, int64_t wall_ms, bool *over, struct err *e)
{
    struct stat named, open_one;
    *over = false;
    if (fstat(f->fd, &open_one))
        return err_sys(e, ERR_RETRY, errno, "reading %s", f->path);
    if (open_one.st_size < f->at.offset + (int64_t)f->text.len) {
        if (lseek(f->fd, 0, SEEK_SET) < 0)
            return err_sys(e, ERR_RETRY, errno, "reading %s", f->path);
        begin_file(f, f->fd, f->at.inode, 0);
        f->at.first = 0;
        return 1;
    }
    bool gone = stat(f->path, &named) || (int64_t)named.st_ino != f->at.inode;
    f->quiet_ms = !gone ? 0 : f->quiet_ms ? f->quiet_ms : wall_ms;
    *over = gone && wall_ms - f->quiet_ms >= FOLLOW_SETTLE_MS;
    return *over;
}

static int next_line(struct follow *f, int64_t wall_ms, struct follow_item *out, struct err *e)
{
    char piece[PIECE_BYTES];
    buf_drop(&f->text, f->used);
    f->used = 0;
    for (;;) {
        int rc = f->fd < 0 ? open_file(f, e) : 1;
        if (rc <= 0)
            return rc;
        if (take_line(f, false, out))
            return 1;
        ssize_t n = read(f->fd, piece, sizeof piece);
        if (n < 0)
            return err_sys(e, ERR_RETRY, errno, "reading %s", f->path);
        if (n > 0) {
            f->quiet_ms = 0;
            if (buf_add(&f->text, piece, (size_t)n))
                return err_set(e, ERR_MEMORY, "no memory to follow %s", f->path);
            continue;
        }
        bool over;
        if ((rc = look_at_name(f, wall_ms, &over, e)) <= 0)
            return rc;
        if (!over)
            continue;
        bool rest = take_line(f, true, out);
        io_close(f->fd);
        f->fd = -1;
        f->at.inode = f->at.offset = f->at.first = 0;
        if (rest)
            return 1;
        buf_reset(&f->text);
    }
}

/* -- a directory -- */

static int by_time(const void *a, const void *b)
{
    const struct follow_place *x = a, *y = b;
    return x->us != y->us ? (x->us > y->us) - (x->us < y->us) : strcmp(x->name, y->name);
}

/* Keeps the first NEXT_FILES of all. */
static void put_file(struct follow *f, const struct follow_place *p)
{
    int at = f->next_count;
    if (at == NEXT_FILES && by_time(p, &f->next[at - 1]) >= 0)
        return;
    at -= at == NEXT_FILES;
    f->next_count = at + 1;
    for (; at > 0 && by_time(p, &f->next[at - 1]) < 0; at--)
        f->next[at] = f->next[at - 1];
    f->next[at] = *p;
}

static int look_for_files(struct follow *f, int64_t wall_ms, struct err *e)
{
    f->next_count = f->next_at = 0;
    DIR *d = opendir(f->path);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, ERR_RETRY, errno, "opening %s", f->path);
    for (struct dirent *x; (x = readdir(d));) {
        struct stat s;
        struct follow_place p = {0};
        if (*x->d_name == '.' || strlen(x->d_name) >= FOLLOW_NAME_BYTES ||
            fstatat(dirfd(d), x->d_name, &s, AT_SYMLINK_NOFOLLOW) || !S_ISREG(s.st_mode))
            continue;
        p.us = (int64_t)s.st_ctim.tv_sec * 1000000 + s.st_ctim.tv_nsec / 1000;
        memcpy(p.name, x->d_name, strlen(x->d_name));
        if (p.us / 1000 + FOLLOW_SETTLE_MS <= wall_ms && by_time(&p, &f->at) > 0)
            put_file(f, &p);
    }
    closedir(d);
    return 0;
}

/* 1: it was read; 0: it has gone meanwhile. */
static int read_text(
    struct follow *f, const struct follow_place *p, struct follow_item *out, struct err *e)
{
    char path[LIMIT_PATH_BYTES + FOLLOW_NAME_BYTES], piece[PIECE_BYTES];
    ssize_t n = 1;
    snprintf(path, sizeof path, "%s/%s", f->path, p->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0
                                                 : err_sys(e, ERR_RETRY, errno, "opening %s", path);
    buf_reset(&f->text);
    while (f->text.len <= FOLLOW_BYTES && (n = read(fd, piece, sizeof piece)) > 0)
        buf_add(&f->text, piece, (size_t)n);
    int why = errno;
    io_close(fd);
    if (n < 0)
        return err_sys(e, ERR_RETRY, why, "reading %s", path);
    if (!buf_ok(&f->text))
        return err_set(e, ERR_MEMORY, "no memory for %s", path);
    bool cut = f->text.len > FOLLOW_BYTES;
    size_t len = cut ? FOLLOW_BYTES : f->text.len;
    for (size_t i = 0; i < len; i++)
        f->text.data[i] = f->text.data[i] ? f->text.data[i] : ' ';
    *out = (struct follow_item){
        .text = buf_cstr(&f->text), .len = len, .name = f->at.name, .ms = p->us / 1000, .cut = cut};
    return 1;
}

static int next_file(struct follow *f, int64_t wall_ms, struct follow_item *out, struct err *e)
{
    for (;;) {
        int rc = f->next_at == f->next_count ? look_for_files(f, wall_ms, e) : 0;
        if (rc || f->next_at == f->next_count)
            return rc;
        const struct follow_place *p = &f->next[f->next_at];
        if ((rc = read_text(f, p, out, e)) < 0)
            return rc;
        f->next_at++;
        f->at = *p;
        if (rc)
            return 1;
    }
}

int follow_next(struct follow *f, int64_t wall_ms, struct follow_item *out, struct err *e)
{
    return f->directory ? next_file(f, wall_ms, out, e) : next_line(f, wall_ms, out, e);
}

/* -- its place -- */

struct follow_place follow_place(const struct follow *f)
{
    return f->at;
}

void follow_go(struct follow *f, const struct follow_place *p)
{
    f->at = *p;
}

void follow_place_write(const struct follow_place *p, bool directory, struct jsonw *w)
{
    if (directory) {
        jsonw_int(w, "changedMicroseconds", p->us);
        jsonw_str(w, "name", p->name);
    } else {
        jsonw_int(w, "inode", p->inode);
        jsonw_int(w, "offset", p->offset);
        jsonw_int(w, "first", p->first);
    }
}

struct follow_place follow_place_read(const struct json *v)
{
    struct follow_place p = {.us = json_int(v, "changedMicroseconds", -1),
        .inode = json_int(v, "inode", 0),
        .offset = json_int(v, "offset", 0),
        .first = json_int(v, "first", 0)};
    snprintf(p.name, sizeof p.name, "%s", json_str(v, "name", ""));
    return p.us < -1 || p.inode < 0 || p.offset < 0 ? (struct follow_place){.us = -1} : p;
}
