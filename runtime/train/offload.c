/*
 * offload: what is left is unmapped at once, and its writing begins; when a further part is left,
 * the one before has probably been written, is waited for and dropped from the kernel's cache.
 */
#include "runtime/train/offload.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BEHIND 4 /* parts that are being written: a window of two states and their scales */

struct file_part {
    int64_t from, to; /* of the file, whole pages; 0, 0: none */
};

struct offload {
    int fd, failed; /* an errno */
    char *data;
    int64_t bytes, page;
    struct file_part behind[BEHIND];
    int next;
};

static int refuse(const char *folder, const char *what, int number, struct err *e)
{
    return err_set(e, ERR_USER, "spec.train.optimizer.offload: %s%s%s: %s", folder,
        *what ? ": " : "", what, strerror(number));
}

/* Of a file system in memory nothing would be gained, and its pages cannot be let go of. */
static int check_folder(const char *folder, struct err *e)
{
    struct statfs s;
    if (statfs(folder, &s))
        return refuse(folder, "", errno, e);
    if (s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC)
        return err_set(e, ERR_USER,
            "spec.train.optimizer.offload: %s is memory itself (a tmpfs), not a disk", folder);
    return 0;
}

/* Some file systems have no files without a name: then it loses its name at once. */
static int open_nameless(const char *folder, struct err *e)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[LIMIT_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/.llmjob-offload-XXXXXX", folder);
    if ((fd = mkostemp(path, O_CLOEXEC)) < 0)
        return refuse(folder, "", errno, e);
    unlink(path);
    return fd;
}

static int take_room(struct offload *o, const char *folder, struct err *e)
{
    struct statfs s;
    int number = posix_fallocate(o->fd, 0, o->bytes);
    if (!number)
        return 0;
    if (number != ENOSPC && number != EDQUOT && number != EFBIG)
        return refuse(folder, "no room can be set aside", number, e);
    long long left = statfs(folder, &s) ? 0 : (long long)s.f_bavail * (long long)s.f_bsize >> 20;
    return err_set(e, ERR_USER,
        "spec.train.optimizer.offload: %s has no room for %lld MiB of optimizer state of this "
        "rank: %lld MiB are left",
        folder, (long long)((o->bytes + (1 << 20) - 1) >> 20), left);
}

int offload_open(const char *folder, int64_t bytes, struct offload **out, struct err *e)
{
    int rc = check_folder(folder, e);
    if (rc)
        return rc;
    struct offload *o = mem_zalloc(sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory for an offloaded state");
    *o = (struct offload){.fd = open_nameless(folder, e), .page = sysconf(_SC_PAGESIZE)};
    o->bytes = (bytes + o->page - 1) / o->page * o->page;
    if (o->fd < 0 || (o->bytes && (rc = take_room(o, folder, e)))) {
        rc = rc ? rc : -ERR_USER;
        offload_close(o);
        return rc;
    }
    void *at = o->bytes ? mmap(NULL, (size_t)o->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0)
                        : NULL;
    if (at == MAP_FAILED) {
        rc = refuse(folder, "cannot be mapped", errno, e);
        offload_close(o);
        return rc;
    }
    o->data = at;
    if (at)
        madvise(at, (size_t)o->bytes, MADV_RANDOM); /* we say ourselves what comes */
    *out = o;
    return 0;
}

void offload_close(struct offload *o)
{
    if (!o)
        return;
    if (o->data)
        munmap(o->data, (size_t)o->bytes);
    io_close(o->fd);
    mem_free(o);
}

void *offload_data(struct offload *o)
{
    return o->data;
}

/* -- windows -- */

/* Whole pages that the range touches. */
static struct file_part pages_of(const struct offload *o, const void *at, int64_t n)
{
    int64_t from = (const char *)at - o->data, to = from + n;
    assert(from >= 0 && n >= 0 && to <= o->bytes);
    return n ? (struct file_part){from / o->page * o->page, (to + o->page - 1) / o->page * o->page}
             : (struct file_part){0, 0};
}

void offload_expect(struct offload *o, const void *at, int64_t n)
{
    const struct file_part p = pages_of(o, at, n);
    if (p.to)
        madvise(o->data + p.from, (size_t)(p.to - p.from), MADV_WILLNEED);
}

/* Waits until a part has been written, and lets the kernel's cache go of it. */
static void drop(struct offload *o, struct file_part *p)
{
    const unsigned all =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (!p->to)
        return;
    if (sync_file_range(o->fd, p->from, p->to - p->from, all) && errno != ESPIPE)
        o->failed = errno;
    posix_fadvise(o->fd, p->from, p->to - p->from, POSIX_FADV_DONTNEED);
    *p = (struct file_part){0, 0};
}

/* A page that two windows share leaves with the second. */
void offload_leave(struct offload *o, const void *at, int64_t n)
{
    struct file_part *behind = &o->behind[o->next];
    const struct file_part p = pages_of(o, at, n);
    o->next = (o->next + 1) % BEHIND;
    drop(o, behind);
    if (!p.to)
        return;
    madvise(o->data + p.from, (size_t)(p.to - p.from), MADV_DONTNEED);
    if (sync_file_range(o->fd, p.from, p.to - p.from, SYNC_FILE_RANGE_WRITE) && errno != ESPIPE)
        o->failed = errno;
    *behind = p;
}

int offload_settle(struct offload *o, struct err *e)
{
    for (int i = 0; i < BEHIND; i++)
        drop(o, &o->behind[i]);
    if (!o->failed)
        return 0;
    return err_set(e, ERR_USER,
        "spec.train.optimizer.offload: optimizer state could not be written: %s",
        strerror(o->failed));
}
