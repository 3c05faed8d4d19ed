/*
 * ckpt_folder: names are matched whole against the few forms that ckpt.c and io_write_file make.
 * Absence is only what the system calls absence: a folder that cannot be read just now must not
 * look like one without a generation, for then it would be removed.
 */
#include "runtime/ckpt/folder.h"

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "runtime/files/hash.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEPS_LIMIT 4096 /* folders; of generations there are at most `keep` */

/* A bad device, the user's rights, or something that may pass. */
static int fail_at(struct err *e, const char *path)
{
    int sys = errno;
    bool rights = sys == EACCES || sys == EPERM || sys == EROFS || sys == ENOTDIR;
    return err_sys(e, sys == EIO ? ERR_DEVICE : rights ? ERR_USER : ERR_RETRY, sys, "%s", path);
}

/* -- paths -- */

int ckpt_folder_path(char out[LIMIT_PATH_BYTES], struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, LIMIT_PATH_BYTES, fmt, ap);
    va_end(ap);
    return n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "checkpoint path is too long");
}

int ckpt_folder_step(const char *path, int64_t step, char out[LIMIT_PATH_BYTES], struct err *e)
{
    return ckpt_folder_path(out, e, "%s/step-%08" PRId64, path, step);
}

int ckpt_folder_manifest(const char *path, int64_t step, char out[LIMIT_PATH_BYTES], struct err *e)
{
    return ckpt_folder_path(out, e, "%s/step-%08" PRId64 "/manifest.json", path, step);
}

/* -- looking -- */

/* The step of a folder that step_folder would name so; others are the user's. */
static bool step_of(const char *name, int64_t *out)
{
    char same[64];
    if (strncmp(name, "step-", 5) != 0 ||
        !number_whole(name + 5, strlen(name + 5), NUMBER_EXACT, out))
        return false;
    snprintf(same, sizeof same, "step-%08" PRId64, *out);
    return !strcmp(same, name);
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Every name of a folder but the two of dots; an absent folder has none. */
static int each_name(const char *folder, int (*fn)(void *user, const char *name, struct err *e),
    void *user, struct err *e)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? 0 : fail_at(e, folder);
    int rc = 0;
    for (struct dirent *f; !rc && (errno = 0, f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
            rc = fn(user, f->d_name, e);
    if (!rc && errno)
        rc = fail_at(e, folder);
    closedir(d);
    return rc;
}

struct listing {
    const char *path;
    int64_t *steps;
    int count;
};

static int list_one(void *user, const char *name, struct err *e)
{
    struct listing *l = user;
    int64_t step;
    if (!step_of(name, &step))
        return 0;
    if (l->count == STEPS_LIMIT)
        return err_set(e, ERR_USER, "%s: more than %d folders of steps", l->path, STEPS_LIMIT);
    l->steps[l->count++] = step;
    return 0;
}

int ckpt_folder_list(const char *path, int64_t **out, int *count, struct err *e)
{
    struct listing l = {.path = path, .steps = mem_array(STEPS_LIMIT, sizeof *l.steps)};
    if (!l.steps)
        return err_set(e, ERR_MEMORY, "%s: no memory to list it", path);
    int rc = each_name(path, list_one, &l, e);
    if (rc) {
        mem_free(l.steps);
        return rc;
    }
    qsort(l.steps, (size_t)l.count, sizeof *l.steps, descending);
    *out = l.steps;
    *count = l.count;
    return 0;
}

int ckpt_folder_committed(const char *path, int64_t step, bool *out, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    struct err why = {0};
    int rc = ckpt_folder_manifest(path, step, manifest, e);
    if (rc)
        return rc;
    rc = (int)(io_file_size(manifest, &why) < 0 ? -(int)why.code : 0);
    if (rc && why.sys != ENOENT && why.sys != ENOTDIR) {
        if (e)
            *e = why;
        return rc;
    }
    *out = !rc;
    return 0;
}

int ckpt_folder_check(const char *folder, const struct ckpt_file *f, bool hashed, struct err *e)
{
    char path[LIMIT_PATH_BYTES], hash[HASH_XXH3_HEX];
    int rc = ckpt_folder_path(path, e, "%s/%s", folder, f->name);
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
    if (!hashed || (rc = hash_xxh3_file(fd, size, hash, e)))
        return rc;
    return strcmp(hash, f->hash) ? err_set(e, ERR_CORRUPT, "%s: its hash does not match", path) : 0;
}

/* -- names -- */

/* '#' stands for decimal digits, '%' for hexadecimal ones. */
static bool matches(const char *form, const char *name)
{
    for (; *form; form++) {
        size_t n = *form == '#' ? strspn(name, "0123456789")
            : *form == '%'      ? strspn(name, "0123456789abcdef")
                                : (size_t)(*name == *form);
        if (!n)
            return false;
        name += n;
    }
    return !*name;
}

static int entry_compare(const void *a, const void *b)
{
    const struct ckpt_folder_entry *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? 1 : -1;
    return strcmp(x->name, y->name);
}

struct entries {
    const char *path;
    struct ckpt_folder_entry *at;
    int count;
};

static int add_entry(void *user, const char *name, struct err *e)
{
    struct entries *l = user;
    struct ckpt_folder_entry x = {.step = 0};
    size_t n = strcspn(name, ".");
    if (strlen(name) >= sizeof x.name)
        return 0;
    memcpy(x.name, name, n);
    x.aside = matches("step-#.damaged", name) || matches("step-#.damaged-#", name);
    if (!step_of(x.name, &x.step) || (name[n] && !x.aside))
        return 0;
    memcpy(x.name, name, strlen(name));
    if (l->count == STEPS_LIMIT)
        return err_set(e, ERR_USER, "%s: more than %d folders of steps", l->path, STEPS_LIMIT);
    l->at[l->count++] = x;
    return 0;
}

int ckpt_folder_all(const char *path, struct ckpt_folder_entry **out, int *count, struct err *e)
{
    struct entries l = {.path = path, .at = mem_array(STEPS_LIMIT, sizeof *l.at)};
    if (!l.at)
        return err_set(e, ERR_MEMORY, "%s: no memory to list it", path);
    int rc = each_name(path, add_entry, &l, e);
    if (rc) {
        mem_free(l.at);
        return rc;
    }
    qsort(l.at, (size_t)l.count, sizeof *l.at, entry_compare);
    *out = l.at;
    *count = l.count;
    return 0;
}

/* -- removing -- */

static bool is_ours(const char *name)
{
    static const char *const forms[] = {
        "manifest.json", "manifest.json.#.#.tmp", "rank-#-%.safetensors", ".rank-#-%"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (matches(forms[i], name))
            return true;
    return false;
}

static bool listed(const struct ckpt_manifest *m, const char *name)
{
    if (!m)
        return false;
    if (!strcmp(name, "manifest.json"))
        return true;
    for (int i = 0; i < m->file_count; i++)
        if (!strcmp(m->files[i].name, name))
            return true;
    return false;
}

static int remove_file(const char *folder, const char *name, struct err *e)
{
    char file[LIMIT_PATH_BYTES];
    int rc = ckpt_folder_path(file, e, "%s/%s", folder, name);
    if (rc)
        return rc;
    return unlink(file) && errno != ENOENT ? fail_at(e, file) : 0;
}

struct clearing {
    const char *folder;
    const struct ckpt_manifest *keep;
};

static int clear_one(void *user, const char *name, struct err *e)
{
    const struct clearing *c = user;
    return is_ours(name) && !listed(c->keep, name) ? remove_file(c->folder, name, e) : 0;
}

int ckpt_folder_clear(
    const char *path, int64_t step, const struct ckpt_manifest *keep, struct err *e)
{
    char folder[LIMIT_PATH_BYTES];
    const struct clearing c = {folder, keep};
    int rc;
    if ((rc = ckpt_folder_step(path, step, folder, e)) ||
        /* from here on it is no generation */
        (!keep && (rc = remove_file(folder, "manifest.json", e))) ||
        (rc = each_name(folder, clear_one, (void *)&c, e)) || keep)
        return rc;
    if (rmdir(folder) && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        return fail_at(e, folder);
    return 0;
}

/* -- setting aside -- */

int ckpt_folder_set_aside(const char *path, int64_t step, char name[64], struct err *e)
{
    char from[LIMIT_PATH_BYTES], to[LIMIT_PATH_BYTES], aside[64];
    int rc = ckpt_folder_step(path, step, from, e);
    for (int n = 1; !rc && n <= STEPS_LIMIT; n++) {
        char again[16] = "";
        if (n > 1)
            snprintf(again, sizeof again, "-%d", n);
        snprintf(aside, sizeof aside, "step-%08" PRId64 ".damaged%s", step, again);
        rc = ckpt_folder_path(to, e, "%s/%s", path, aside);
        if (rc || io_exists(to))
            continue;
        rc = io_rename(from, to, e);
        if (!rc)
            memcpy(name, aside, sizeof aside);
        return rc;
    }
    return rc ? rc : err_set(e, ERR_USER, "%s: %d damaged folders of it", from, STEPS_LIMIT);
}

struct weighing {
    const char *folder;
    int64_t bytes;
};

static int weigh_one(void *user, const char *name, struct err *e)
{
    struct weighing *w = user;
    char file[LIMIT_PATH_BYTES];
    struct stat st;
    int rc = ckpt_folder_path(file, e, "%s/%s", w->folder, name);
    if (rc)
        return rc;
    if (lstat(file, &st))
        return errno == ENOENT ? 0 : fail_at(e, file);
    if (S_ISREG(st.st_mode))
        w->bytes += st.st_size;
    return 0;
}

int ckpt_folder_aside(const char *path, int *count, int64_t *bytes, struct err *e)
{
    mem_autofree struct ckpt_folder_entry *all = NULL;
    char folder[LIMIT_PATH_BYTES];
    struct weighing w = {.folder = folder};
    int n = 0, found = 0, rc = ckpt_folder_all(path, &all, &n, e);
    for (int i = 0; i < n && !rc; i++) {
        if (!all[i].aside)
            continue;
        found++;
        rc = ckpt_folder_path(folder, e, "%s/%s", path, all[i].name);
        rc = rc ? rc : each_name(folder, weigh_one, &w, e);
    }
    if (rc)
        return rc;
    *count = found;
    *bytes = w.bytes;
    return 0;
}

static int sweep_claims(void *user, const char *name, struct err *e)
{
    bool ours = matches("incarnation.#.#.tmp", name) || matches(CKPT_FOLDER_OWNER ".#.#.tmp", name);
    return ours ? remove_file(user, name, e) : 0;
}

static int sweep_step(const char *path, int64_t step, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    struct ckpt_manifest m;
    bool committed = false;
    int rc = ckpt_folder_committed(path, step, &committed, e);
    if (rc || !committed)
        return rc ? rc : ckpt_folder_clear(path, step, NULL, e);
    rc = ckpt_folder_manifest(path, step, manifest, e);
    if (rc || ckpt_manifest_read(manifest, &m, NULL))
        return rc;
    rc = ckpt_folder_clear(path, step, &m, e);
    ckpt_manifest_done(&m);
    return rc;
}

int ckpt_folder_sweep(const char *path, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    int count = 0, rc = ckpt_folder_list(path, &steps, &count, e);
    if (rc || (rc = each_name(path, sweep_claims, (void *)path, e)))
        return rc;
    for (int i = 0; i < count; i++)
        if ((rc = sweep_step(path, steps[i], e)))
            return rc;
    return 0;
}
