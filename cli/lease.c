/*
 * lease: the holder removes the file before it lets go, so one who opened it before that looks
 * again whether what it has locked is still the file of that name. It must not wait.
 */
#include "cli/lease.h"

#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRIES  16 /* a holder that just left, each time */
#define HOLDER "process "

/* Another user's file can be locked too, though not written. */
static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    return fd < 0 && (errno == EACCES || errno == EROFS)
        ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        : fd;
}

static int refuse_held(int fd, const char *path, struct err *e)
{
    char line[160] = "";
    ssize_t n = pread(fd, line, sizeof line - 1, 0);
    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *c = line; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return err_set(
        e, ERR_USER, "in use by %s (%.80s)", *line ? line : "a process just started", path);
}

static void write_holder(int fd, const char *what)
{
    char line[512], host[64] = "", since[32] = "";
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm t;
    gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &t))
        strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &t);
    int n = snprintf(
        line, sizeof line, HOLDER "%d on %s since %s, %.300s\n", (int)getpid(), host, since, what);
    if (!ftruncate(fd, 0))
        io_write_full(fd, line, (size_t)n, NULL); /* a lock without a name holds as well */
}

/* Nothing yet, or what a holder wrote: no file of somebody's is written over. */
static bool is_lease(int fd)
{
    char begin[sizeof HOLDER];
    ssize_t n = pread(fd, begin, sizeof begin - 1, 0);
    return !n || (n == sizeof begin - 1 && !memcmp(begin, HOLDER, sizeof begin - 1));
}

static bool is_file_at(int fd, const char *path)
{
    struct stat mine, there;
    return !fstat(fd, &mine) && !stat(path, &there) && mine.st_dev == there.st_dev &&
        mine.st_ino == there.st_ino;
}

int lease_take(const char *path, const char *what, struct folder_lease *out, struct err *e)
{
    if (strlen(path) >= sizeof out->path)
        return err_set(e, ERR_RETRY, "%.80s...: path too long", path);
    for (int i = 0; i < TRIES; i++) {
        io_auto_fd int fd = open_file(path);
        if (fd < 0)
            return err_sys(e, ERR_RETRY, errno, "%s", path);
        if (flock(fd, LOCK_EX | LOCK_NB))
            return errno == EWOULDBLOCK ? refuse_held(fd, path, e)
                                        : err_sys(e, ERR_RETRY, errno, "%s", path);
        if (!is_file_at(fd, path))
            continue;
        if (!is_lease(fd))
            return err_set(e, ERR_RETRY, "%s: it is no lease", path);
        write_holder(fd, what);
        *out = (struct folder_lease){.fd = fd};
        snprintf(out->path, sizeof out->path, "%s", path);
        fd = -1;
        return 0;
    }
    return err_set(e, ERR_RETRY, "%s: it comes and goes", path);
}

void lease_drop(struct folder_lease *l)
{
    if (l->fd < 0)
        return;
    unlink(l->path);
    io_close(l->fd);
    l->fd = -1;
}
