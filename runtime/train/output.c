/*
 * output: see output.h. Nothing is removed before the rename that replaces it has succeeded, and
 * then only files that the table below names, so a file of somebody else's is never touched: it
 * keeps its folder from being replaced, and at worst from being removed. Where a file system cannot
 * exchange two folders, the old one waits under <output>.<random>.old for the new one, and a start
 * that finds it without the other puts it back. A folder that is being written is locked by its
 * mark. Called at the start of a job and at its end, on rank 0.
 */
#include "runtime/train/output.h"

#include "base/io.h"
#include "api/jobpath.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_BYTES  8192
#define OWNER_BYTES 160
#define MARK_BEGIN  "llmjob output of "
#define MARK_END    "end\n" /* behind the last file: the folder is whole */

/* All that a job writes into its output. */
static const char *const files[] = {
    "model.safetensors",
    "config.json",
    "model.gguf",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "chat_template.jinja",
    "report.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/adapter.safetensors",
    "adapter/head_config.json",
    "adapter/model_head.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
};
#define FILES  ((int)(sizeof files / sizeof *files))
#define NEEDED 2 /* of them, from the first, no output is without that is a Hugging Face folder */
#define GGUF   2

static const char *const folders[] = {"adapter", "1_Pooling"};
#define FOLDERS ((int)(sizeof folders / sizeof *folders))

struct output {
    const char *field;       /* of the spec that names it: "train.output" */
    char owner[OWNER_BYTES]; /* "namespace/name" of the job */
    char folder[LIMIT_PATH_BYTES], temporary[LIMIT_PATH_BYTES];
    int mark;           /* of the temporary folder, locked */
    bool without_model; /* a report, or an adapter alone */
};

struct mark {
    char owner[OWNER_BYTES];
    bool whole;           /* sizes are known */
    int64_t sizes[FILES]; /* -1: not written */
    int64_t seconds;      /* when the mark was written, after all files */
};

static int join(char out[LIMIT_PATH_BYTES], const char *folder, const char *name, struct err *e)
{
    if (snprintf(out, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
        return err_set(e, ERR_USER, "%s: path too long", folder);
    return 0;
}

static void parent_of(const struct output *o, char out[LIMIT_PATH_BYTES])
{
    int n = (int)(strrchr(o->folder, '/') - o->folder);
    snprintf(out, LIMIT_PATH_BYTES, "%.*s", n ? n : 1, o->folder);
}

static int file_index(const char *name)
{
    int i = 0;
    while (i < FILES && strcmp(files[i], name))
        i++;
    return i;
}

/* -- the mark -- */

static void parse_line(const char *line, struct mark *m)
{
    char *name;
    long long size = strtoll(line, &name, 10);
    int i = *name == ' ' ? file_index(name + 1) : FILES;
    if (i < FILES && size >= 0)
        m->sizes[i] = size;
}

/* 1: read; 0: the folder carries none; or -code. */
static int read_mark(const char *folder, struct mark *m, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    struct stat st;
    buf_auto struct buf text;
    buf_init(&text, MARK_BYTES);
    int rc = join(path, folder, OUTPUT_MARK, e);
    if (rc || lstat(path, &st) || !S_ISREG(st.st_mode) || st.st_size >= MARK_BYTES)
        return rc;
    rc = io_read_file(path, MARK_BYTES, &text, e);
    if (rc)
        return rc;
    char *at = (char *)buf_cstr(&text);
    size_t n = strlen(MARK_BEGIN), owner = strcspn(at, "\n");
    if (strncmp(at, MARK_BEGIN, n) || !at[owner] || owner - n >= sizeof m->owner)
        return 0;
    *m = (struct mark){.seconds = st.st_mtime};
    snprintf(m->owner, sizeof m->owner, "%.*s", (int)(owner - n), at + n);
    for (int i = 0; i < FILES; i++)
        m->sizes[i] = -1;
    for (at += owner + 1; strchr(at, '\n'); at = strchr(at, 0) + 1) {
        m->whole |= !strcmp(at, MARK_END);
        *strchr(at, '\n') = 0;
        parse_line(at, m);
    }
    return 1;
}

/* The sizes of what was written, behind the first line. */
static int finish_mark(const struct output *o, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, MARK_BYTES);
    char file[LIMIT_PATH_BYTES];
    bool gguf = !join(file, o->temporary, files[GGUF], NULL) && io_exists(file);
    bool folder = !gguf && !o->without_model;
    for (int i = 0; i < FILES; i++) {
        char path[LIMIT_PATH_BYTES];
        struct stat st;
        int rc = join(path, o->temporary, files[i], e);
        if (rc)
            return rc;
        if (!lstat(path, &st))
            buf_printf(&text, "%lld %s\n", (long long)st.st_size, files[i]);
        else if ((i < NEEDED && folder) || (errno != ENOENT && errno != ENOTDIR))
            return err_sys(e, ERR_RETRY, errno, "%s", path);
    }
    buf_str(&text, MARK_END);
    if (!buf_ok(&text))
        return err_set(e, ERR_MEMORY, "%s: no memory to write it", o->folder);
    int rc = io_write_full(o->mark, text.data, text.len, e);
    return rc ? rc : io_fsync(o->mark, e);
}

/* -- what a folder holds -- */

/* Written by the one who left the mark, and not changed since. */
static bool is_ours(const char *folder, const char *name, const struct mark *m)
{
    char path[LIMIT_PATH_BYTES];
    struct stat st;
    int i = file_index(name);
    if (i == FILES || join(path, folder, name, NULL) || lstat(path, &st) || !S_ISREG(st.st_mode))
        return false;
    return !m->whole || (st.st_size == m->sizes[i] && st.st_mtime <= m->seconds);
}

static bool is_real_folder(const char *path)
{
    struct stat st;
    return !lstat(path, &st) && S_ISDIR(st.st_mode);
}

static bool is_our_folder(const char *name)
{
    for (int i = 0; i < FOLDERS; i++)
        if (!strcmp(name, folders[i]))
            return true;
    return false;
}

/* Counts the entries of folder/below; the first that is not ours goes to foreign. m may be NULL:
   none is. */
static int look_into(const char *folder, const char *below, const struct mark *m, int *count,
    char foreign[LIMIT_PATH_BYTES], struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int rc = join(path, folder, below, e);
    if (rc)
        return rc;
    DIR *d = opendir(path);
    if (!d)
        return err_sys(e, ERR_USER, errno, "%s", path);
    for (struct dirent *f; !rc && !*foreign && (f = readdir(d));) {
        char name[LIMIT_PATH_BYTES];
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, ".."))
            continue;
        snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", f->d_name);
        ++*count;
        if (m && !strcmp(name, OUTPUT_MARK))
            continue;
        if (m && is_our_folder(name) && !join(path, folder, name, NULL) && is_real_folder(path))
            rc = look_into(folder, name, m, count, foreign, e);
        else if (!m || !is_ours(folder, name, m))
            snprintf(foreign, LIMIT_PATH_BYTES, "%s", name);
    }
    closedir(d);
    return rc;
}

/* May what stands at the output be replaced? */
static int check_standing(const char *folder, const char *owner, struct err *e)
{
    struct stat st;
    struct mark m;
    char foreign[LIMIT_PATH_BYTES] = "";
    int count = 0;
    if (lstat(folder, &st))
        return errno == ENOENT ? 0 : err_sys(e, ERR_USER, errno, "%s", folder);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_USER, "%s is no folder%s", folder,
            S_ISLNK(st.st_mode) ? " but a link; name the folder itself" : "");
    int rc = io_is_mount(folder, e);
    if (rc > 0)
        return err_set(e, ERR_USER,
            "%s is a mount, which cannot be replaced; name "
            "a folder in it",
            folder);
    int marked = rc ? rc : read_mark(folder, &m, e);
    if (marked < 0)
        return marked;
    rc = look_into(folder, "", marked && m.whole ? &m : NULL, &count, foreign, e);
    if (rc || !count)
        return rc;
    if (*foreign)
        return err_set(e, ERR_USER,
            "%.100s holds %.60s, which llmjob did not write "
            "or somebody changed; move it away or name another folder",
            folder, foreign);
    if (strcmp(m.owner, owner))
        return err_set(e, ERR_USER,
            "%.100s holds the model of the job %.60s; move "
            "it away or name another folder",
            folder, m.owner);
    return 0;
}

/* Removes the table's files, then the folders if they are empty; the mark goes last. */
static int remove_ours(const char *folder, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    for (int i = 0; i < FILES + FOLDERS + 1; i++) {
        const char *name = i < FILES ? files[i]
            : i < FILES + FOLDERS    ? folders[i - FILES]
                                     : OUTPUT_MARK;
        int rc = join(path, folder, name, e);
        if (rc || (rc = io_remove(path, e)))
            return rc;
    }
    return io_remove(folder, e);
}

/* -- links and mounts -- */

/* Does path lie in the folder, or is it the folder itself? What does not exist yet is where its
   nearest parent is. */
static bool lies_in(const char *path, const struct stat *folder)
{
    char name[LIMIT_PATH_BYTES], real[PATH_MAX];
    snprintf(name, sizeof name, "%s", path);
    while (!realpath(name, real)) {
        char *slash = strrchr(name, '/');
        if (!slash || slash == name)
            return false;
        *slash = 0;
    }
    for (;;) {
        struct stat st;
        if (!stat(real, &st) && st.st_dev == folder->st_dev && st.st_ino == folder->st_ino)
            return true;
        char *slash = strrchr(real, '/');
        if (!real[1])
            return false;
        slash[slash == real] = 0;
    }
}

/* By what the file system says: jobspec has compared the names. */
static int check_apart(const struct jobspec *spec, const char *output, struct err *e)
{
    struct stat there, other;
    bool stands = !stat(output, &there);
    for (int i = 0; i < jobpath_count; i++) {
        const struct jobpath *p = &jobpath_table[i];
        const char *path = jobpath_of(spec, p);
        if (!p->apart || !path)
            continue;
        if ((stands && lies_in(path, &there)) || (!stat(path, &other) && lies_in(output, &other)))
            return err_set(e, ERR_USER,
                "through a link or a mount %.100s is, "
                "contains or lies in spec.%s",
                output, p->field);
    }
    return 0;
}

/* -- leftovers -- */

/* Another process may just be writing it. */
static bool is_abandoned(const char *folder)
{
    char path[LIMIT_PATH_BYTES];
    if (join(path, folder, OUTPUT_MARK, NULL))
        return false;
    io_auto_fd int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && (!flock(fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK);
}

/* A folder beside the output, under a name that this file makes. */
static void clean_leftover(const struct output *o, const char *leftover, bool old)
{
    struct mark m;
    struct err e;
    char foreign[LIMIT_PATH_BYTES] = "";
    int count = 0, rc;
    if (!is_real_folder(leftover) || read_mark(leftover, &m, NULL) != 1 ||
        strcmp(m.owner, o->owner) || !is_abandoned(leftover) ||
        look_into(leftover, "", &m, &count, foreign, NULL) || *foreign)
        return;
    if (old && !io_exists(o->folder))
        rc = io_rename(leftover, o->folder, &e);
    else
        rc = remove_ours(leftover, &e);
    if (rc)
        log_warn("a leftover stays", LOG_S("folder", leftover), LOG_ERR(&e));
}

static bool has_end(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

/* "<output>.<8 hexadecimal digits>.partial" or ".old" */
static void clean_leftovers(const struct output *o, const char *parent)
{
    const char *base = strrchr(o->folder, '/') + 1;
    size_t n = strlen(base);
    DIR *d = opendir(parent);
    for (struct dirent *f; d && (f = readdir(d));) {
        char path[LIMIT_PATH_BYTES];
        const char *rest = f->d_name + n;
        if (strncmp(f->d_name, base, n) || *rest != '.' ||
            strspn(rest + 1, "0123456789abcdef") != 8)
            continue;
        bool old = !strcmp(rest + 9, ".old");
        if ((old || has_end(rest, ".partial")) && !join(path, parent, f->d_name, NULL))
            clean_leftover(o, path, old);
    }
    if (d)
        closedir(d);
}

/* -- creating -- */

/* <folder>.<random>.<end> */
static int beside(
    const struct output *o, const char *end, char out[LIMIT_PATH_BYTES], struct err *e)
{
    uint32_t random;
    int rc = io_random(&random, sizeof random, e);
    if (!rc &&
        snprintf(out, LIMIT_PATH_BYTES, "%s.%08x.%s", o->folder, random, end) >= LIMIT_PATH_BYTES)
        rc = err_set(e, ERR_USER, "%s: path too long", o->folder);
    if (rc)
        out[0] = 0;
    return rc;
}

static int init(struct output *o, const struct jobspec *spec, struct err *e)
{
    const struct jobpath *p = jobpath_output(spec);
    const char *path = jobpath_of(spec, p);
    size_t n = strlen(path);
    bool adapter = spec->task == TASK_TRAIN && spec->train.method == METHOD_ADAPTER;
    *o = (struct output){
        .mark = -1, .field = p->field, .without_model = adapter || spec->task == TASK_EVALUATE};
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (*path != '/' || n < 2)
        return err_set(e, ERR_USER, "%s is no absolute path", path);
    if (n >= sizeof o->folder)
        return err_set(e, ERR_USER, "%.100s...: path too long", path);
    snprintf(o->folder, sizeof o->folder, "%.*s", (int)n, path);
    const char *writer = spec->task == TASK_TRAIN ? spec->train.exported_by : NULL;
    snprintf(o->owner, sizeof o->owner, "%s/%s", spec->namespace_, writer ? writer : spec->name);
    return 0;
}

static int make_temporary(struct output *o, struct err *e)
{
    char path[LIMIT_PATH_BYTES], line[OWNER_BYTES + 32];
    int rc;
    if ((rc = beside(o, "partial", o->temporary, e)) || (rc = io_mkdirs(o->temporary, 0755, e)) ||
        (rc = join(path, o->temporary, OUTPUT_MARK, e)))
        return rc;
    o->mark = io_create(path, 0644, e);
    if (o->mark < 0)
        return o->mark;
    flock(o->mark, LOCK_EX | LOCK_NB); /* where there are no locks, a name of its own must do */
    int n = snprintf(line, sizeof line, MARK_BEGIN "%s\n", o->owner);
    return io_write_full(o->mark, line, (size_t)n, e);
}

int output_create(const struct jobspec *spec, struct output **out, struct err *e)
{
    struct output *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory to write an output");
    int rc;
    if ((rc = init(o, spec, e)) || (rc = make_temporary(o, e))) {
        output_destroy(o);
        return rc;
    }
    *out = o;
    return 0;
}

const char *output_folder(const struct output *o)
{
    return o->temporary;
}

void output_destroy(struct output *o)
{
    if (!o)
        return;
    io_close(o->mark);
    if (o->temporary[0])
        remove_ours(o->temporary, NULL);
    mem_free(o);
}

void output_destroy_at(struct output **o)
{
    output_destroy(*o);
}

int output_check(const struct jobspec *spec, struct err *e)
{
    struct output o;
    output_auto struct output *probe = NULL;
    int rc = init(&o, spec, e);
    if (rc)
        return rc;
    for (int i = 0; i < jobpath_count; i++) {
        const char *path = jobpath_of(spec, &jobpath_table[i]);
        if (jobpath_table[i].written && jobpath_table[i].apart && path &&
            (rc = io_mkdirs(path, 0755, e)))
            return rc;
    }
    char parent[LIMIT_PATH_BYTES];
    parent_of(&o, parent);
    if (io_mkdirs(parent, 0755, e))
        return err_wrap(e, "spec.%s", o.field);
    clean_leftovers(&o, parent);
    if (check_apart(spec, o.folder, e) || check_standing(o.folder, o.owner, e) ||
        output_create(spec, &probe, e) || /* can its parent be written? */
        remove_ours(probe->temporary, e))
        return err_wrap(e, "spec.%s", o.field);
    probe->temporary[0] = 0;
    return 0;
}

/* -- putting it in place -- */

/* A moment without the folder; whatever fails, the old one is put back. */
static int replace_aside(struct output *o, char old[LIMIT_PATH_BYTES], struct err *e)
{
    int rc = beside(o, "old", old, e);
    if (rc)
        return rc;
    rc = io_rename(o->folder, old, e);
    if (!rc)
        rc = io_rename(o->temporary, o->folder, e);
    if (rc)
        io_rename(old, o->folder, NULL);
    return rc;
}

/* old: where what stood there is now, "" when nothing did. */
static int put_in_place(struct output *o, char old[LIMIT_PATH_BYTES], struct err *e)
{
    struct err why = {0};
    if (!io_rename(o->temporary, o->folder, &why)) /* nothing there, or an empty folder */
        return 0;
    if (why.sys != ENOTEMPTY && why.sys != EEXIST) {
        if (e)
            *e = why;
        return -(int)why.code;
    }
    if (io_exchange(o->temporary, o->folder, &why))
        return replace_aside(o, old, e);
    snprintf(old, LIMIT_PATH_BYTES, "%s", o->temporary);
    char parent[LIMIT_PATH_BYTES];
    parent_of(o, parent);
    int rc = io_sync_folder(parent, e);
    if (rc)
        o->temporary[0] = 0; /* the old one stays until the new one is sure to */
    return rc;
}

/* The table and what was written are one. */
static int check_written(const struct output *o, struct err *e)
{
    const struct mark any = {.whole = false};
    char foreign[LIMIT_PATH_BYTES] = "";
    int count = 0, rc = look_into(o->temporary, "", &any, &count, foreign, e);
    if (!rc && *foreign)
        rc = err_set(e, ERR_BUG, "%s: %.60s is not a file that an output has", o->folder, foreign);
    return rc;
}

static int sync_folders(const struct output *o, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    int rc = 0;
    for (int i = 0; i < FOLDERS && !rc; i++) {
        rc = join(path, o->temporary, folders[i], e);
        if (!rc && io_exists(path))
            rc = io_sync_folder(path, e);
    }
    return rc ? rc : io_sync_folder(o->temporary, e);
}

int output_commit(struct output *o, struct err *e)
{
    char old[LIMIT_PATH_BYTES] = "";
    struct err why;
    int rc;
    if ((rc = check_written(o, e)) || (rc = finish_mark(o, e)) || (rc = sync_folders(o, e)))
        return rc;
    if (check_standing(o->folder, o->owner, e))
        return err_wrap(e, "spec.%s", o->field);
    rc = put_in_place(o, old, e);
    if (rc)
        return rc;
    o->temporary[0] = 0;
    if (*old && remove_ours(old, &why))
        log_warn("the older output stays", LOG_S("folder", old), LOG_ERR(&why));
    return 0;
}
