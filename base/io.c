/*
 * io: the shim between the house and the kernel. Every call goes through SYS(), which restarts on
 * EINTR and in FAULT=1 builds fails the n-th one with EIO, so that each error path runs under test.
 * Classes of failure: a path that cannot be read is bad data, one that cannot be written is the
 * user's, EIO is a bad device, everything else may pass with time.
 */
#include "base/io.h"

#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TREE_DEPTH 64 /* of io_remove_tree, which holds a descriptor a level */

struct fault io_faults = {.what = "system call"};

#define SYS(call) (fault_strikes(&io_faults) ? (errno = EIO, -1L) : TEMP_FAILURE_RETRY(call))

static enum err_code class_of(int sys, enum err_code path_class)
{
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case EEXIST:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case ENAMETOOLONG:
    case EINVAL:
        return path_class;
    case EIO:
        return ERR_DEVICE;
    default:
        return ERR_RETRY;
    }
}

static int fail_read(struct err *e, const char *path)
{
    int sys = errno;
    return err_sys(e, class_of(sys, ERR_DATA), sys, "%s", path);
}

static int fail_write(struct err *e, const char *path)
{
    int sys = errno;
    return err_sys(e, class_of(sys, ERR_USER), sys, "%s", path);
}

/* The path behind a descriptor, for messages. */
static const char *fd_path(int fd, char out[static 200])
{
    int keep = errno;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, 199);
    if (n < 0)
        n = snprintf(out, 199, "descriptor %d", fd);
    out[n] = 0;
    errno = keep;
    return out;
}

/* -- files -- */

int io_open_read(const char *path, struct err *e)
{
    int fd = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
    return fd < 0 ? fail_read(e, path) : fd;
}

int io_create(const char *path, mode_t mode, struct err *e)
{
    int fd = (int)SYS(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    return fd < 0 ? fail_write(e, path) : fd;
}

int io_append(const char *path, mode_t mode, struct err *e)
{
    int fd = (int)SYS(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, mode));
    return fd < 0 ? fail_write(e, path) : fd;
}

void io_close(int fd)
{
    int keep = errno;
    if (fd >= 0)
        close(fd);
    errno = keep;
}

void io_close_at(int *fd)
{
    io_close(*fd);
}

int io_pread_full(int fd, void *p, size_t n, int64_t offset, struct err *e)
{
    if (offset < 0 || n > (uint64_t)(INT64_MAX - offset))
        return err_set(e, ERR_DATA, "offset %lld is out of range", (long long)offset);
    char name[200];
    for (size_t done = 0; done < n;) {
        ssize_t r = SYS(pread(fd, (char *)p + done, n - done, offset + (int64_t)done));
        if (r < 0)
            return fail_read(e, fd_path(fd, name));
        if (!r)
            return err_set(e, ERR_DATA, "%s: ends %zu bytes early", fd_path(fd, name), n - done);
        done += (size_t)r;
    }
    return 0;
}

int io_write_full(int fd, const void *p, size_t n, struct err *e)
{
    char name[200];
    for (size_t done = 0; done < n;) {
        ssize_t w = SYS(write(fd, (const char *)p + done, n - done));
        if (w < 0)
            return fail_write(e, fd_path(fd, name));
        done += (size_t)w;
    }
    return 0;
}

int io_pwrite_full(int fd, const void *p, size_t n, int64_t offset, struct err *e)
{
    char name[200];
    for (size_t done = 0; done < n;) {
        ssize_t w = SYS(pwrite(fd, (const char *)p + done, n - done, offset + (int64_t)done));
        if (w < 0)
            return fail_write(e, fd_path(fd, name));
        done += (size_t)w;
    }
    return 0;
}

int io_fsync(int fd, struct err *e)
{
    char name[200];
    return SYS(fsync(fd)) ? fail_write(e, fd_path(fd, name)) : 0;
}

int io_read_file(const char *path, size_t limit, struct buf *out, struct err *e)
{
    io_auto_fd int fd = io_open_read(path, e);
    if (fd < 0)
        return fd;
    buf_auto struct buf b;
    buf_init(&b, limit);
    char piece[16 << 10];
    for (;;) {
        ssize_t r = SYS(read(fd, piece, sizeof piece));
        if (r < 0)
            return fail_read(e, path);
        if (!r)
            break;
        if ((size_t)r > limit - b.len)
            return err_set(e, ERR_DATA, "%s: more than %zu bytes", path, limit);
        if (buf_add(&b, piece, (size_t)r))
            return err_set(e, ERR_MEMORY, "%s: out of memory", path);
    }
    if (b.len > out->limit - out->len || buf_add(out, b.data, b.len))
        return err_set(e, ERR_MEMORY, "%s: %zu bytes do not fit", path, b.len);
    return 0;
}

int io_sync_folder(const char *path, struct err *e)
{
    io_auto_fd int fd = (int)SYS(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return fail_write(e, path);
    return io_fsync(fd, e);
}

/* Makes a rename or an unlink of path durable. */
static int sync_parent(const char *path, struct err *e)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) + (slash == path) : 1;
    snprintf(folder, sizeof folder, "%.*s", n, slash ? path : ".");
    return io_sync_folder(folder, e);
}

int io_rename(const char *from, const char *to, struct err *e)
{
    if (SYS(rename(from, to)))
        return fail_write(e, to);
    return sync_parent(to, e);
}

int io_rename_new(const char *from, const char *to, struct err *e)
{
    int rc = (int)SYS(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
    if (rc && errno == EINVAL) { /* a file system that cannot */
        struct stat st;
        rc = lstat(to, &st) ? (int)SYS(rename(from, to)) : (errno = EEXIST, -1);
    }
    return rc ? fail_write(e, to) : 0;
}

int io_exchange(const char *a, const char *b, struct err *e)
{
    return SYS(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)) ? fail_write(e, b) : 0;
}

int io_write_new(const char *path, const void *p, size_t n, mode_t mode, struct err *e)
{
    io_auto_fd int fd = io_create(path, mode, e);
    if (fd < 0)
        return fd;
    int rc = io_write_full(fd, p, n, e);
    return rc ? rc : io_fsync(fd, e);
}

int io_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *e)
{
    static _Atomic unsigned serial; /* two threads may write one path: the last rename wins */
    char temporary[PATH_MAX];
    int len = snprintf(temporary, sizeof temporary, "%s.%d.%u.tmp", path, (int)getpid(),
        atomic_fetch_add(&serial, 1));
    if (len >= (int)sizeof temporary)
        return err_set(e, ERR_USER, "%s: path too long", path);
    int rc = io_write_new(temporary, p, n, mode, e);
    if (!rc)
        rc = io_rename(temporary, path, e);
    if (rc)
        unlink(temporary);
    return rc;
}

int io_mkdirs(const char *path, mode_t mode, struct err *e)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (!n || n >= sizeof part)
        return err_set(e, ERR_USER, "%s: path %s", path, n ? "too long" : "empty");
    for (size_t i = 1; i <= n; i++) {
        if (path[i] && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        int rc = (int)SYS(mkdir(part, mode));
        if (rc && errno != EEXIST)
            return fail_write(e, part);
        /* else all that is ever synced in it may go with its name */
        if (!rc && (rc = sync_parent(part, e)))
            return rc;
    }
    struct stat st;
    if (SYS(stat(path, &st)))
        return fail_write(e, path);
    return S_ISDIR(st.st_mode) ? 0 : err_set(e, ERR_USER, "%s: exists and is no folder", path);
}

int io_remove(const char *path, struct err *e)
{
    int rc = (int)SYS(unlink(path));
    if (rc && errno == EISDIR)
        rc = (int)SYS(rmdir(path));
    return rc && errno != ENOENT ? fail_write(e, path) : 0;
}

static int is_mount(int at, const char *name, int flags)
{
    struct statx s;
    if (SYS(statx(at, name, flags, STATX_BASIC_STATS, &s)))
        return -1;
    return s.stx_attributes & STATX_ATTR_MOUNT_ROOT ? 1 : 0;
}

int io_is_mount(const char *path, struct err *e)
{
    int rc = is_mount(AT_FDCWD, path, 0);
    return rc < 0 ? fail_read(e, path) : rc;
}

static int remove_at(int at, const char *name, int depth, struct err *e);

static int remove_entries(DIR *dir, int depth, struct err *e)
{
    for (struct dirent *d; (d = readdir(dir));) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        int rc = remove_at(dirfd(dir), d->d_name, depth, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int remove_at(int at, const char *name, int depth, struct err *e)
{
    if (!SYS(unlinkat(at, name, 0)) || errno == ENOENT)
        return 0;
    if (errno != EISDIR)
        return fail_write(e, name);
    if (depth == TREE_DEPTH)
        return err_set(e, ERR_USER, "%s: more than %d folders deep", name, TREE_DEPTH);
    int fd = (int)SYS(openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd < 0)
        return fail_write(e, name);
    int mount = is_mount(fd, "", AT_EMPTY_PATH);
    DIR *dir = mount ? NULL : fdopendir(fd);
    if (!dir) {
        io_close(fd);
        return mount > 0 ? err_set(e, ERR_USER, "%s: something is mounted there", name)
                         : fail_write(e, name);
    }
    int rc = remove_entries(dir, depth + 1, e);
    closedir(dir);
    if (rc)
        return rc;
    return SYS(unlinkat(at, name, AT_REMOVEDIR)) ? fail_write(e, name) : 0;
}

int io_remove_tree(const char *path, struct err *e)
{
    return remove_at(AT_FDCWD, path, 0, e);
}

int64_t io_file_size(const char *path, struct err *e)
{
    struct stat st;
    if (SYS(stat(path, &st)))
        return fail_read(e, path);
    return S_ISREG(st.st_mode) ? st.st_size : err_set(e, ERR_DATA, "%s: no regular file", path);
}

bool io_exists(const char *path)
{
    return !access(path, F_OK);
}

int io_map(const char *path, struct io_map *out, struct err *e)
{
    io_auto_fd int fd = io_open_read(path, e);
    if (fd < 0)
        return fd;
    struct stat st;
    if (SYS(fstat(fd, &st)))
        return fail_read(e, path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_DATA, "%s: no regular file", path);
    struct io_map m = {.size = (size_t)st.st_size};
    if (m.size) {
        void *p = fault_strikes(&io_faults) ? (errno = ENOMEM, MAP_FAILED)
                                            : mmap(NULL, m.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            return fail_read(e, path);
        m.data = p;
    }
    *out = m;
    return 0;
}

void io_unmap(struct io_map *m)
{
    if (m && m->data)
        munmap((void *)m->data, m->size);
    if (m)
        *m = (struct io_map){0};
}

void io_map_forget(const struct io_map *m, size_t from, size_t to)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    from = (from + page - 1) / page * page;
    to = to / page * page;
    if (!m->data || to <= from)
        return;
    /* The kernel's cache counts as in use while it was read more than once. */
    madvise((void *)(m->data + from), to - from, MADV_COLD);
    madvise((void *)(m->data + from), to - from, MADV_DONTNEED);
}

/* -- sockets -- */

static int fail_socket(struct err *e, const char *what)
{
    int sys = errno;
    switch (sys) {
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ETIMEDOUT:
        return err_sys(e, ERR_PEER, sys, "%s", what);
    default:
        return err_sys(e, class_of(sys, ERR_RETRY), sys, "%s", what);
    }
}

/* poll until the deadline. Its own time-out ends the wait, so a clock that stands still cannot
 * prolong it. */
static int wait_for(int fd, short events, int64_t deadline_ms, const char *what, struct err *e)
{
    for (;;) {
        int64_t left = deadline_ms - clock_ms();
        left = left < 0 ? 0 : left > INT_MAX ? INT_MAX : left;
        struct pollfd p = {.fd = fd, .events = events};
        int r = fault_strikes(&io_faults) ? (errno = EIO, -1) : poll(&p, 1, (int)left);
        if (r > 0)
            return 0;
        if (!r)
            return err_set(e, ERR_HANG, "%s: nothing happened before the deadline", what);
        if (errno != EINTR)
            return fail_socket(e, what);
    }
}

int io_wait_readable(int fd, int64_t deadline_ms, struct err *e)
{
    return wait_for(fd, POLLIN, deadline_ms, "receive", e);
}

static int no_delay(int fd)
{
    int rc = (int)SYS(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
    return rc && errno == EOPNOTSUPP ? 0 : rc; /* a UNIX socket has nothing to delay */
}

/* A name query in flight, held by its thread and by the one that waits; the last of them frees
 * it. */
struct lookup {
    _Atomic int holders;
    sem_t done;
    char host[256], service[8];
    struct addrinfo *result;
    _Atomic int rc; /* of getaddrinfo; stored after result */
};

static void lookup_release(struct lookup *l)
{
    if (atomic_fetch_sub(&l->holders, 1) > 1)
        return;
    if (l->result)
        freeaddrinfo(l->result);
    sem_destroy(&l->done);
    mem_free(l);
}

static void *look_up(void *user)
{
    struct lookup *l = user;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = getaddrinfo(l->host, l->service, &hints, &l->result);
    atomic_store(&l->rc, rc);
    sem_post(&l->done);
    lookup_release(l);
    return NULL;
}

static int lookup_start(struct lookup *l)
{
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int sys = pthread_create(&thread, &detached, look_up, l);
    pthread_attr_destroy(&detached);
    return sys;
}

/* getaddrinfo knows no deadline, so it runs in a thread that is left behind when the deadline
 * passes. */
static int resolve_name(const char *host, const char *service, int64_t deadline_ms,
    struct addrinfo **out, struct err *e)
{
    struct lookup *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "%s: out of memory", host);
    atomic_store(&l->holders, 2);
    sem_init(&l->done, 0, 0);
    snprintf(l->host, sizeof l->host, "%s", host);
    snprintf(l->service, sizeof l->service, "%s", service);
    int rc = 0, sys = lookup_start(l);
    const struct timespec until = clock_after(deadline_ms - clock_ms());
    if (sys) {
        lookup_release(l); /* for the thread that never was */
        rc = err_sys(e, ERR_RETRY, sys, "%s: no thread to look it up", host);
    } else if (TEMP_FAILURE_RETRY(sem_clockwait(&l->done, CLOCK_MONOTONIC, &until))) {
        rc = err_set(e, ERR_HANG, "%s: no answer from the name service before the deadline", host);
    } else if (l->rc) {
        rc = err_set(
            e, l->rc == EAI_MEMORY ? ERR_MEMORY : ERR_RETRY, "%s: %s", host, gai_strerror(l->rc));
    } else {
        *out = l->result;
        l->result = NULL;
    }
    lookup_release(l);
    return rc;
}

static int resolve(
    const char *host, uint16_t port, int64_t deadline_ms, struct addrinfo **out, struct err *e)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (!getaddrinfo(host, service, &hints, out))
        return 0;
    return resolve_name(host, service, deadline_ms, out, e);
}

static int listen_at(const struct addrinfo *a, const char *host, struct err *e)
{
    int fd = (int)SYS(socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return fail_socket(e, host);
    int on = 1, off = 0;
    if (SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)) ||
        (a->ai_family == AF_INET6 &&
            SYS(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off))) ||
        SYS(bind(fd, a->ai_addr, a->ai_addrlen)) || SYS(listen(fd, SOMAXCONN))) {
        int rc = fail_socket(e, host);
        io_close(fd);
        return rc;
    }
    return fd;
}

static int local_port(int fd, uint16_t *out, struct err *e)
{
    struct sockaddr_storage s;
    socklen_t len = sizeof s;
    if (SYS(getsockname(fd, (struct sockaddr *)&s, &len)))
        return fail_socket(e, "local address");
    *out = ntohs(s.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&s)->sin6_port
                                         : ((struct sockaddr_in *)&s)->sin_port);
    return 0;
}

int io_listen(const char *host, uint16_t port, uint16_t *bound_port, struct err *e)
{
    if (!host || !*host) {
        int fd = io_listen("::", port, bound_port, NULL);
        return fd >= 0 ? fd : io_listen("0.0.0.0", port, bound_port, e);
    }
    struct addrinfo *list;
    int fd = resolve(host, port, clock_ms() + 5000, &list, e);
    if (fd < 0)
        return fd;
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        fd = listen_at(a, host, e);
        if (fd >= 0)
            break;
    }
    freeaddrinfo(list);
    int rc = fd < 0 || !bound_port ? 0 : local_port(fd, bound_port, e);
    if (rc)
        io_close(fd);
    return rc ? rc : fd;
}

int io_accept(int fd, int64_t deadline_ms, struct err *e)
{
    for (;;) {
        int rc = wait_for(fd, POLLIN, deadline_ms, "accept", e);
        if (rc)
            return rc;
        int client = (int)SYS(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
        if (client < 0 && (errno == EAGAIN || errno == ECONNABORTED))
            continue; /* that client changed its mind */
        if (client < 0)
            return fail_socket(e, "accept");
        if (!no_delay(client))
            return client;
        rc = fail_socket(e, "accept");
        io_close(client);
        return rc;
    }
}

static int finish_connect(int fd, const char *host, int64_t deadline_ms, struct err *e)
{
    int rc = wait_for(fd, POLLOUT, deadline_ms, host, e);
    if (rc)
        return rc;
    int sys;
    socklen_t len = sizeof sys;
    if (SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len)))
        return fail_socket(e, host);
    return sys ? err_sys(e, ERR_RETRY, sys, "%s", host) : 0;
}

static int connect_to(
    const struct addrinfo *a, const char *host, int64_t deadline_ms, struct err *e)
{
    io_auto_fd int fd =
        (int)SYS(socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return fail_socket(e, host);
    int rc = 0;
    if (SYS(connect(fd, a->ai_addr, a->ai_addrlen)))
        rc = errno == EINPROGRESS ? finish_connect(fd, host, deadline_ms, e)
                                  : err_sys(e, class_of(errno, ERR_RETRY), errno, "%s", host);
    if (!rc && no_delay(fd))
        rc = fail_socket(e, host);
    if (rc || (rc = io_set_nonblocking(fd, false, e)))
        return rc;
    int connected = fd;
    fd = -1;
    return connected;
}

int io_connect(const char *host, uint16_t port, int64_t deadline_ms, struct err *e)
{
    struct addrinfo *list;
    int fd = resolve(host, port, deadline_ms, &list, e);
    if (fd < 0)
        return fd;
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        fd = connect_to(a, host, deadline_ms, e);
        if (fd >= 0)
            break;
    }
    freeaddrinfo(list);
    return fd;
}

/* The bytes of an address; one of IPv4 that came to a socket of IPv6 as what it is. */
static const void *address_bytes(const struct sockaddr *a, size_t *len)
{
    if (a->sa_family == AF_INET) {
        *len = sizeof(struct in_addr);
        return &((const struct sockaddr_in *)a)->sin_addr;
    }
    const struct in6_addr *six = &((const struct sockaddr_in6 *)a)->sin6_addr;
    bool mapped = IN6_IS_ADDR_V4MAPPED(six);
    *len = mapped ? sizeof(struct in_addr) : sizeof *six;
    return mapped ? (const char *)six + sizeof *six - sizeof(struct in_addr) : (const char *)six;
}

/* -1: host is no numeric address; else whether that is what s has. */
static int address_is(const struct sockaddr_storage *s, const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *known;
    if (getaddrinfo(host, NULL, &hints, &known))
        return -1;
    bool same = false;
    if (s->ss_family == AF_INET || s->ss_family == AF_INET6) {
        size_t n, m;
        const void *has = address_bytes((const struct sockaddr *)s, &n);
        const void *want = address_bytes(known->ai_addr, &m);
        same = n == m && !memcmp(has, want, n);
    }
    freeaddrinfo(known);
    return same;
}

bool io_peer_is(int fd, const char *host)
{
    struct sockaddr_storage s = {0};
    socklen_t size = sizeof s;
    bool gone = SYS(getpeername(fd, (struct sockaddr *)&s, &size)) < 0;
    int is = address_is(&s, host);
    return is < 0 || (is && !gone);
}

bool io_own_is(int fd, const char *host, uint16_t port)
{
    struct sockaddr_storage s = {0};
    socklen_t size = sizeof s;
    uint16_t bound = 0;
    return !local_port(fd, &bound, NULL) && bound == port &&
        !SYS(getsockname(fd, (struct sockaddr *)&s, &size)) && address_is(&s, host) == 1;
}

int64_t io_recv_now(int fd, void *p, size_t n, struct err *e)
{
    ssize_t r = SYS(recv(fd, p, n, MSG_DONTWAIT));
    if (r < 0 && errno == EAGAIN)
        return 0;
    if (r < 0)
        return fail_socket(e, "receive");
    return r ? r : err_set(e, ERR_PEER, "receive: the peer closed the connection");
}

int io_recv_full(int fd, void *p, size_t n, int64_t deadline_ms, struct err *e)
{
    for (size_t done = 0; done < n;) {
        int64_t r = io_recv_now(fd, (char *)p + done, n - done, e);
        if (r < 0)
            return (int)r;
        done += (size_t)r;
        int rc = r ? 0 : wait_for(fd, POLLIN, deadline_ms, "receive", e);
        if (rc)
            return rc;
    }
    return 0;
}

int64_t io_send_now(int fd, const void *p, size_t n, struct err *e)
{
    ssize_t w = SYS(send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (w < 0 && errno != EAGAIN)
        return fail_socket(e, "send");
    return w < 0 ? 0 : w;
}

int io_send_full(int fd, const void *p, size_t n, int64_t deadline_ms, struct err *e)
{
    for (size_t done = 0; done < n;) {
        int64_t w = io_send_now(fd, (const char *)p + done, n - done, e);
        if (w < 0)
            return (int)w;
        done += (size_t)w;
        int rc = w ? 0 : wait_for(fd, POLLOUT, deadline_ms, "send", e);
        if (rc)
            return rc;
    }
    return 0;
}

int io_set_nonblocking(int fd, bool on, struct err *e)
{
    int flags = (int)SYS(fcntl(fd, F_GETFL));
    if (flags < 0)
        return fail_socket(e, "fcntl");
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return SYS(fcntl(fd, F_SETFL, flags)) ? fail_socket(e, "fcntl") : 0;
}

/* -- odds and ends -- */

int io_random(void *p, size_t n, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = SYS(getrandom((char *)p + done, n - done, 0));
        if (r < 0)
            return err_sys(e, ERR_DEVICE, errno, "getrandom");
        done += (size_t)r;
    }
    return 0;
}

void io_hex(const void *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * n] = 0;
}
