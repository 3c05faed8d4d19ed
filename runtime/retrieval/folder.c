/*
 * folder: open folders on a stack, the innermost last. A file that is gone when it is looked at was
 * never there.
 */
#include "runtime/retrieval/folder.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct folder {
    struct folder_level {
        DIR *dir;
        size_t name; /* bytes of its own name, with the slash behind it */
    } levels[FOLDER_DEPTH];
    int depth;
    char name[LIMIT_PATH_BYTES]; /* of the innermost: "" or "policy/" */
    size_t len;
    struct folder_file *files;
    int count, capacity;
};

static int enter(struct folder *f, DIR *dir, const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (f->depth == FOLDER_DEPTH || f->len + n + 2 > sizeof f->name) {
        closedir(dir);
        return err_set(e, ERR_USER, "%.120s%.60s: more than %d folders in one another", f->name,
            name, FOLDER_DEPTH);
    }
    f->levels[f->depth++] = (struct folder_level){dir, *name ? n + 1 : 0};
    if (*name) {
        memcpy(f->name + f->len, name, n);
        memcpy(f->name + f->len + n, "/", 2);
        f->len += n + 1;
    }
    return 0;
}

static void leave(struct folder *f)
{
    struct folder_level *l = &f->levels[--f->depth];
    closedir(l->dir);
    f->len -= l->name;
    f->name[f->len] = 0;
}

int folder_open(const char *path, struct folder **out, struct err *e)
{
    DIR *dir = opendir(path);
    if (!dir)
        return err_sys(e, ERR_DATA, errno, "%s", path);
    struct folder *f = mem_zalloc(sizeof *f);
    if (!f) {
        closedir(dir);
        return err_set(e, ERR_MEMORY, "no memory for a folder");
    }
    (void)enter(f, dir, "", e); /* the first one has room */
    *out = f;
    return 0;
}

void folder_close(struct folder *f)
{
    if (!f)
        return;
    while (f->depth)
        leave(f);
    for (int i = 0; i < f->count; i++)
        mem_free(f->files[i].name);
    mem_free(f->files);
    mem_free(f);
}

static int add_file(struct folder *f, const char *name, const struct stat *st, struct err *e)
{
    char path[LIMIT_PATH_BYTES + NAME_MAX + 1];
    if (f->count == FOLDER_FILES)
        return err_set(e, ERR_USER, "more than %d files", FOLDER_FILES);
    if (f->count == f->capacity) {
        int n = f->capacity ? 2 * f->capacity : 64;
        void *more = mem_grow(f->files, (size_t)n, sizeof *f->files);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for the names of files");
        f->files = more;
        f->capacity = n;
    }
    snprintf(path, sizeof path, "%s%s", f->name, name);
    char *own = mem_strdup(path);
    if (!own)
        return err_set(e, ERR_MEMORY, "no memory for the names of files");
    f->files[f->count++] = (struct folder_file){.name = own,
        .size = st->st_size,
        .changed_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};
    return 0;
}

static int enter_folder(struct folder *f, int at, const char *name, struct err *e)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir)
        return enter(f, dir, name, e);
    int sys = errno;
    io_close(fd);
    return sys == ENOENT ? 0 : err_sys(e, ERR_DATA, sys, "%.120s%.60s", f->name, name);
}

static int take_entry(struct folder *f, const char *name, struct err *e)
{
    int at = dirfd(f->levels[f->depth - 1].dir);
    struct stat st;
    if (*name == '.' || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (S_ISDIR(st.st_mode))
        return enter_folder(f, at, name, e);
    bool file = S_ISREG(st.st_mode) ||
        (S_ISLNK(st.st_mode) && !fstatat(at, name, &st, 0) && S_ISREG(st.st_mode));
    return file ? add_file(f, name, &st, e) : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct folder_file *)a)->name, ((const struct folder_file *)b)->name);
}

int folder_walk(struct folder *f, int entries, bool *over, struct err *e)
{
    int rc = 0;
    for (; entries && f->depth && !rc; entries--) {
        errno = 0;
        const struct dirent *next = readdir(f->levels[f->depth - 1].dir);
        if (next)
            rc = take_entry(f, next->d_name, e);
        else if (errno)
            rc = err_sys(e, ERR_DATA, errno, "%s", *f->name ? f->name : ".");
        else
            leave(f);
    }
    if (rc)
        return rc;
    *over = !f->depth;
    if (*over && f->count)
        qsort(f->files, (size_t)f->count, sizeof *f->files, by_name);
    return 0;
}

const struct folder_file *folder_files(const struct folder *f, int *count)
{
    *count = f->count;
    return f->files;
}
