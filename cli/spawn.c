/*
 * spawn: children with pidfds. A child gets empty signal masks, default signal actions, no
 * descriptor but 0, 1, 2 and one that it may be handed, and /dev/null for its input. It is made
 * with fork, because its death signal must be set between fork and exec. A child is reaped exactly
 * once, here. Single-threaded: the death signal goes by the thread that forks. It must not decide
 * what runs or when it runs again.
 */
#include "cli/spawn.h"

#include "api/exitcode.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void spawn_find(const char *given, const char *beside, const char *name, const char *fallback,
    char *out, size_t size)
{
    char self[512] = "";
    if (*given) {
        snprintf(out, size, "%s", given);
        return;
    }
    if (!beside) {
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        self[n > 0 ? n : 0] = 0;
        beside = self;
    }
    const char *slash = strrchr(beside, '/');
    snprintf(out, size, "%.*s/%s", slash ? (int)(slash - beside) : 1, slash ? beside : ".", name);
    if (access(out, X_OK))
        snprintf(out, size, "%s", fallback);
}

/* environ with `set` in it; the list is the caller's to free. */
static const char **environment_with(const char *set)
{
    size_t count = 0, kept = 0, name = strcspn(set, "=") + 1;
    while (environ[count])
        count++;
    const char **list = mem_array(count + 2, sizeof *list);
    for (size_t i = 0; list && i < count; i++)
        if (strncmp(environ[i], set, name) != 0)
            list[kept++] = environ[i];
    if (list) {
        list[kept++] = set;
        list[kept] = NULL;
    }
    return list;
}

struct launch { /* of a child; all that it needs between fork and exec */
    char *const *argv, *const *env;
    int out, err_out, pass; /* pass: -1: none */
    int failed;             /* a pipe to tell errno by, closed by exec */
    pid_t parent;
};

/* Between fork and exec: only async-signal-safe calls. */
static _Noreturn void become_child(const struct launch *l)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    if (getppid() != l->parent)
        _exit(EXIT_CLASS_PEER); /* it died before the line above */
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Out of the way of each other first, then in place; dup2 clears close-on-exec. */
    int from[] = {null, l->out, l->err_out, l->pass};
    int n = l->pass < 0 ? SPAWN_PASSED : SPAWN_PASSED + 1;
    int failed = fcntl(l->failed, F_DUPFD_CLOEXEC, 10);
    bool placed = true;
    for (int i = 0; i < n; i++)
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 10);
    for (int i = 0; i < n; i++)
        placed = placed && dup2(from[i], i) == i;
    if (placed)
        execvpe(l->argv[0], l->argv, l->env);
    int sys = errno;
    (void)!write(failed, &sys, sizeof sys);
    _exit(EXIT_CLASS_USER);
}

/* 0 when the child runs its program, else its errno. */
static int launch_child(const struct launch *l, int told, pid_t *pid)
{
    int sys = 0;
    *pid = fork();
    if (*pid < 0)
        return errno;
    if (*pid == 0)
        become_child(l);
    close(l->failed);
    if (TEMP_FAILURE_RETRY(read(told, &sys, sizeof sys)) != (ssize_t)sizeof sys)
        return 0;
    waitpid(*pid, NULL, 0);
    return sys;
}

/* fds: its output, its errors, and what it is handed or -1. */
static int start_child(
    const char *const *argv, const char *set, const int fds[3], struct child *c, struct err *e)
{
    mem_autofree const char **changed = set ? environment_with(set) : NULL;
    if (set && !changed)
        return err_set(e, ERR_MEMORY, "out of memory");
    int told[2];
    if (pipe2(told, O_CLOEXEC))
        return err_sys(e, ERR_RETRY, errno, "pipe");
    const struct launch l = {.argv = (char *const *)argv,
        .env = changed ? (char *const *)changed : environ,
        .out = fds[0],
        .err_out = fds[1],
        .pass = fds[2],
        .failed = told[1],
        .parent = getpid()};
    pid_t pid;
    int sys = launch_child(&l, told[0], &pid);
    io_close(told[0]);
    if (pid < 0)
        io_close(told[1]);
    if (sys)
        return err_sys(e, ERR_USER, sys, "%s", argv[0]);
    int fd = pidfd_open(pid, 0);
    if (fd < 0) {
        sys = errno;
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_sys(e, ERR_BUG, sys, "pidfd_open");
    }
    *c = (struct child){pid, fd};
    return 0;
}

int spawn_start(const char *const *argv, const char *set, int pass, const char *log,
    struct child *out, struct err *e)
{
    io_auto_fd int fd = io_append(log, 0600, e);
    return fd < 0 ? fd : start_child(argv, set, (const int[]){fd, fd, pass}, out, e);
}

bool spawn_ended(struct child *c, int *status)
{
    int s;
    if (!c->pid || waitpid(c->pid, &s, WNOHANG) != c->pid)
        return false;
    *status = WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
    io_close(c->pidfd);
    *c = (struct child){0, -1};
    return true;
}

void spawn_signal(const struct child *c, int sig)
{
    if (c->pid)
        kill(c->pid, sig);
}

void spawn_signal_group(const struct child *c, int sig)
{
    if (c->pid)
        kill(-c->pid, sig);
}

static bool wait_end(struct child *c, int64_t deadline_ms, int *status)
{
    for (;;) {
        struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
        int64_t left = deadline_ms - clock_ms();
        if (spawn_ended(c, status))
            return true;
        if (left <= 0)
            return false;
        poll(&p, 1, (int)(left < 60000 ? left : 60000));
    }
}

void spawn_end(struct child *c, int64_t deadline_ms)
{
    if (!c->pid)
        return;
    int status;
    spawn_signal(c, SIGTERM);
    if (wait_end(c, deadline_ms, &status))
        return;
    spawn_signal_group(c, SIGKILL);
    wait_end(c, INT64_MAX / 2, &status);
}

/* Reads both pipes until they are closed or the deadline has passed. */
static int read_both(int fds[2], struct buf *bufs[2], int64_t deadline_ms)
{
    while (fds[0] >= 0 || fds[1] >= 0) {
        struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        int64_t left = deadline_ms - clock_ms();
        if (left <= 0)
            return -ERR_HANG;
        poll(p, 2, (int)(left < 60000 ? left : 60000));
        for (int i = 0; i < 2; i++) {
            char data[16384];
            if (fds[i] < 0 || !p[i].revents)
                continue;
            ssize_t n = read(fds[i], data, sizeof data);
            if (n > 0) {
                buf_add(bufs[i], data, (size_t)n);
            } else if (n == 0 || errno != EINTR) {
                io_close(fds[i]);
                fds[i] = -1;
            }
        }
    }
    return 0;
}

/* Both ends close on exec. */
static int open_pipes(int out[2], int said[2], struct err *e)
{
    if (pipe2(out, O_CLOEXEC))
        return err_sys(e, ERR_RETRY, errno, "pipe");
    if (pipe2(said, O_CLOEXEC)) {
        int sys = errno;
        io_close(out[0]);
        io_close(out[1]);
        return err_sys(e, ERR_RETRY, sys, "pipe");
    }
    return 0;
}

/* The rest of a child's life. */
static int read_to_end(struct child *c, const char *name, int fds[2], struct buf *out,
    int64_t timeout_ms, int64_t deadline_ms, struct err *e)
{
    buf_auto struct buf said;
    buf_init(&said, 64 << 10);
    struct buf *bufs[2] = {out, &said};
    int status = 0;
    if (read_both(fds, bufs, deadline_ms) || !wait_end(c, deadline_ms, &status)) {
        spawn_signal_group(c, SIGKILL);
        wait_end(c, INT64_MAX / 2, &status);
        return err_set(e, ERR_HANG, "%s: no end within %d ms", name, (int)timeout_ms);
    }
    if (status) {
        int line = (int)strcspn(buf_cstr(&said), "\n");
        return err_set(e, ERR_RETRY, "%s: %.*s", name, line, buf_cstr(&said));
    }
    return buf_ok(out) ? 0 : err_set(e, ERR_MEMORY, "%s: too much output", name);
}

int spawn_capture(const char *const *argv, int64_t timeout_ms, struct buf *out, struct err *e)
{
    int out_pipe[2], said_pipe[2];
    int rc = open_pipes(out_pipe, said_pipe, e);
    if (rc)
        return rc;
    struct child c;
    int fds[2] = {out_pipe[0], said_pipe[0]};
    int64_t deadline_ms = clock_ms() + timeout_ms;
    rc = start_child(argv, NULL, (const int[]){out_pipe[1], said_pipe[1], -1}, &c, e);
    io_close(out_pipe[1]);
    io_close(said_pipe[1]);
    if (!rc)
        rc = read_to_end(&c, argv[0], fds, out, timeout_ms, deadline_ms, e);
    io_close(fds[0]);
    io_close(fds[1]);
    return rc;
}
