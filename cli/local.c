/*
 * local: storage entries to folders of this machine. The result is a spec that api/jobspec
 * accepts, because its mountPaths are moved too. Beyond making folders it touches nothing.
 */
#include "cli/local.h"

#include "api/jobpath.h"
#include "base/io.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_FOLDER "llmjob-data"

const char *local_move(const char *path, const char *from, const char *to, struct arena *a)
{
    size_t n = path ? strlen(from) : 0;
    if (!path || strncmp(path, from, n) || (path[n] && path[n] != '/'))
        return path;
    return arena_printf(a, "%s%s", to, path + n);
}

/* The DIR of NAME in the mapping, or NULL with *found false. */
static const char *find_mapped(const char *mapping, const char *name, struct arena *a, bool *found)
{
    size_t n = strlen(name);
    for (const char *p = mapping; *p;) {
        size_t len = strcspn(p, ",");
        *found = len > n && !strncmp(p, name, n) && p[n] == '=';
        if (*found)
            return arena_printf(a, "%.*s", (int)(len - n - 1), p + n + 1);
        p += len + (p[len] == ',');
    }
    *found = false;
    return NULL;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Names in the mapping that no storage entry has are mistakes. */
static int check_names(const struct jobspec *spec, const char *mapping, struct err *e)
{
    for (const char *p = mapping; *p;) {
        size_t len = strcspn(p, ","), name = strcspn(p, "=");
        bool known = false;
        for (int i = 0; i < spec->storage_count; i++)
            known |=
                strlen(spec->storage[i].name) == name && !strncmp(p, spec->storage[i].name, name);
        if (name >= len || !known)
            return err_set(e, ERR_USER, "--storage %.*s: wanted NAME=DIR, NAME of a storage entry",
                (int)len, p);
        p += len + (p[len] == ',');
    }
    return 0;
}

static int folder_of(const struct jobspec_storage *s, const char *mapping, struct arena *a,
    const char **out, struct err *e)
{
    bool given;
    const char *dir = find_mapped(mapping, s->name, a, &given);
    if (!given && is_folder(s->mount_path)) {
        *out = s->mount_path;
        return 0;
    }
    if (!given)
        dir = arena_printf(a, DEFAULT_FOLDER "/%s", s->name);
    if (!dir)
        return err_set(e, ERR_MEMORY, "out of memory mapping storage %s", s->name);
    if (io_mkdirs(dir, 0755, e))
        return err_wrap(e, "storage %s", s->name);
    char real[PATH_MAX];
    if (!realpath(dir, real))
        return err_set(e, ERR_USER, "storage %s: no folder %s", s->name, dir);
    *out = arena_strdup(a, real);
    return *out ? 0 : err_set(e, ERR_MEMORY, "out of memory mapping storage %s", s->name);
}

/* Paths that lie under the entry's mountPath, but for those that a longer one has moved. */
static int move_paths(struct jobspec *spec, const struct jobspec_storage *s, const char *to,
    bool *moved, struct arena *a, struct err *e)
{
    for (int i = 0; i < jobpath_places(spec); i++) {
        const char *old = *jobpath_place(spec, i);
        const char *path = moved[i] ? old : local_move(old, s->mount_path, to, a);
        if (old && !path)
            return err_set(e, ERR_MEMORY, "out of memory mapping storage %s", s->name);
        if (path && strlen(path) >= LIMIT_PATH_BYTES)
            return err_set(e, ERR_USER, "storage %s: %.60s...: path too long", s->name, path);
        moved[i] |= path != old;
        *jobpath_place(spec, i) = path;
    }
    return 0;
}

static struct jobspec_storage *longest_left(struct jobspec *spec, const bool done[LIMIT_STORAGE])
{
    struct jobspec_storage *s = NULL;
    for (int i = 0; i < spec->storage_count; i++)
        if (!done[i] && (!s || strlen(spec->storage[i].mount_path) > strlen(s->mount_path)))
            s = &spec->storage[i];
    return s;
}

int local_map(struct jobspec *spec, const char *mapping, struct arena *a, struct err *e)
{
    int rc = check_names(spec, mapping, e);
    if (rc)
        return rc;
    /* The longest mountPath first: /data/models is not moved with /data. */
    bool done[LIMIT_STORAGE] = {false};
    bool *moved = arena_array(a, (size_t)jobpath_places(spec), sizeof *moved);
    if (!moved)
        return err_set(e, ERR_MEMORY, "out of memory mapping storage");
    for (struct jobspec_storage *s; (s = longest_left(spec, done));) {
        done[s - spec->storage] = true;
        const char *to;
        rc = folder_of(s, mapping, a, &to, e);
        if (rc)
            return rc;
        rc = move_paths(spec, s, to, moved, a, e);
        if (rc)
            return rc;
        s->mount_path = to;
    }
    return 0;
}
