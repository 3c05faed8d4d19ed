/*
 * proc: the child is made with fork, because its death signal must be set between fork
 * and exec; the agent is small and single-threaded, so that is cheap and safe. A kill goes to the
 * whole process group: a rank may have children (run tasks do). Out-of-memory kills are told from
 * others by the cgroup's own counter. The loop tells only of what can be read: an epoll set is
 * readable when the socket in it can be written, which is how frames that wait go on.
 */
#include "agent/proc.h"

#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_BYTES (1 << 20)
#define LINE_BYTES   1024

struct frame { /* to the rank, header included */
    struct frame *next;
    size_t len, sent;
    char data[];
};

struct proc {
    struct procs *set;
    struct proc *next;
    struct proc_conf conf;
    char prefix[64];
    pid_t pid;
    int pidfd, socket, errors;  /* errors: the read end of its stderr */
    int writable;               /* the epoll set */
    struct frame *first, **end; /* that wait for it */
    size_t waiting;             /* their bytes */
    struct wire_page *page;
    struct wire_reader reader;
    bool asked, dead;
    int64_t kill_ms; /* when SIGKILL is due, 0: never */
    int64_t oom_before;
    char line[LINE_BYTES];
    size_t line_len;
    char tail[LIMIT_LOG_TAIL_BYTES + 1];
    size_t tail_len;
};

struct procs {
    struct web *web;
    struct proc *head;
};

/* -- the cgroup's out-of-memory counter -- */

static int64_t counter_in(const char *path, const char *key)
{
    buf_auto struct buf text;
    buf_init(&text, 4096);
    struct err ignored = {0};
    if (io_read_file(path, 4096, &text, &ignored))
        return -1;
    const char *at = strstr(buf_cstr(&text), key);
    return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

static int64_t oom_kills(void)
{
    int64_t n = counter_in("/sys/fs/cgroup/memory.events", "oom_kill ");
    return n >= 0 ? n : counter_in("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill ");
}

/* -- stderr -- */

static void flush_line(struct proc *p)
{
    char out[sizeof p->prefix + LINE_BYTES + 1];
    int n = snprintf(out, sizeof out, "%s%.*s\n", p->prefix, (int)p->line_len, p->line);
    struct err ignored = {0};
    if (n > 0)
        io_write_full(STDERR_FILENO, out, (size_t)n, &ignored);
    p->line_len = 0;
}

static void keep_tail(struct proc *p, const char *data, size_t n)
{
    if (n > LIMIT_LOG_TAIL_BYTES) {
        data += n - LIMIT_LOG_TAIL_BYTES;
        n = LIMIT_LOG_TAIL_BYTES;
    }
    size_t keep = LIMIT_LOG_TAIL_BYTES - n;
    if (p->tail_len > keep) {
        memmove(p->tail, p->tail + p->tail_len - keep, keep);
        p->tail_len = keep;
    }
    memcpy(p->tail + p->tail_len, data, n);
    p->tail_len += n;
}

/* Returns false at the end of the pipe. */
static bool read_errors(struct proc *p)
{
    char data[4096];
    for (int i = 0; i < 64; i++) { /* a chatty rank must not starve the loop */
        ssize_t n = read(p->errors, data, sizeof data);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        keep_tail(p, data, (size_t)n);
        for (ssize_t k = 0; k < n; k++) {
            if (data[k] != '\n')
                p->line[p->line_len++] = data[k];
            if (data[k] == '\n' || p->line_len == LINE_BYTES)
                flush_line(p);
        }
    }
    return true;
}

static void on_errors(void *user, int fd)
{
    struct proc *p = user;
    if (!read_errors(p))
        web_unwatch_fd(p->set->web, fd);
}

/* -- frames -- */

/* all: until the socket is empty, for the last words of a dead rank; else one piece a turn. */
static void read_frames(struct proc *p, bool all)
{
    struct err e = {0};
    int n, rc;
    do {
        struct wire_frame frame;
        n = wire_read(&p->reader, p->socket, &e);
        while ((rc = wire_next(&p->reader, &frame, &e)) > 0)
            p->conf.frame_fn(p->conf.user, p, &frame);
    } while (all && n > 0 && rc == 0);
    if (rc < 0) {
        log_warn("a rank sent a malformed frame", LOG_S("rank", p->prefix), LOG_ERR(&e));
        proc_stop(p, 0);
    }
    if (rc < 0 || n < 0)
        web_unwatch_fd(p->set->web, p->socket);
}

static void on_socket(void *user, int fd)
{
    (void)fd;
    read_frames(user, false);
}

/* -- frames to the rank -- */

static void drop_first(struct proc *p)
{
    struct frame *f = p->first;
    p->first = f->next;
    if (!p->first)
        p->end = &p->first;
    p->waiting -= f->len;
    mem_free(f);
}

static void drop_frames(struct proc *p)
{
    while (p->first)
        drop_first(p);
}

/* What the socket takes now. */
static int flush_frames(struct proc *p, struct err *e)
{
    while (p->first) {
        struct frame *f = p->first;
        int64_t n = io_send_now(p->socket, f->data + f->sent, f->len - f->sent, e);
        if (n <= 0)
            return (int)n;
        f->sent += (size_t)n;
        if (f->sent == f->len)
            drop_first(p);
    }
    return 0;
}

static void on_writable(void *user, int fd)
{
    struct proc *p = user;
    struct err ignored = {0};
    if (flush_frames(p, &ignored))
        drop_frames(p); /* the rank closed its socket: its end will tell */
    if (!p->first)
        web_unwatch_fd(p->set->web, fd);
}

static int watch_writable(struct proc *p, struct err *e)
{
    struct epoll_event event = {.events = EPOLLOUT};
    if (p->writable < 0)
        p->writable = epoll_create1(EPOLL_CLOEXEC);
    if (p->writable < 0 ||
        (epoll_ctl(p->writable, EPOLL_CTL_ADD, p->socket, &event) && errno != EEXIST))
        return err_sys(e, ERR_RETRY, errno, "watching a rank's socket");
    return web_watch_fd(p->set->web, p->writable, on_writable, p, e);
}

static int queue_frame(struct proc *p, enum wire_type type, const char *json, struct err *e)
{
    size_t len = strlen(json), all = WIRE_HEADER_BYTES + len;
    if (len > LIMIT_FRAME_BYTES || p->waiting + all > PROC_SEND_BYTES)
        return err_set(e, ERR_RETRY, "the rank does not read its frames");
    struct frame *f = mem_alloc(sizeof *f + all);
    if (!f)
        return err_set(e, ERR_MEMORY, "out of memory for a frame");
    *f = (struct frame){.len = all};
    wire_header(type, (uint32_t)len, f->data);
    memcpy(f->data + WIRE_HEADER_BYTES, json, len);
    *p->end = f;
    p->end = &f->next;
    p->waiting += all;
    return 0;
}

int proc_send(struct proc *p, enum wire_type type, const char *json, struct err *e)
{
    bool behind = p->first != NULL; /* others: on_writable goes on with them */
    if (p->socket < 0 || p->dead)
        return err_set(e, ERR_PEER, "the rank takes no frames");
    int rc = queue_frame(p, type, json, e);
    if (rc || behind)
        return rc;
    rc = flush_frames(p, e);
    return rc || !p->first ? rc : watch_writable(p, e);
}

/* -- death -- */

static void proc_free(struct proc *p)
{
    int fds[] = {p->socket, p->writable, p->errors, p->pidfd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) {
            web_unwatch_fd(p->set->web, fds[i]);
            io_close(fds[i]);
        }
    if (p->page)
        munmap(p->page, (size_t)sysconf(_SC_PAGESIZE));
    wire_reader_done(&p->reader);
    drop_frames(p);
    mem_free(p);
}

static enum exit_class class_of_signal(const struct proc *p, int sig)
{
    switch (sig) {
    case SIGKILL:
        return !p->asked && p->oom_before >= 0 && oom_kills() > p->oom_before ? EXIT_CLASS_MEMORY
                                                                              : EXIT_CLASS_PEER;
    case SIGSEGV:
    case SIGABRT:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
        return EXIT_CLASS_BUG;
    default:
        return EXIT_CLASS_PEER;
    }
}

static void unlink_proc(struct proc *p)
{
    for (struct proc **at = &p->set->head; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            return;
        }
}

/* Collects a dead child of ours: last frames, last lines, then its end. */
static void collect(struct proc *p)
{
    int st = 0;
    if (p->dead || waitpid(p->pid, &st, WNOHANG) != p->pid)
        return;
    p->dead = true;
    if (p->socket >= 0)
        read_frames(p, true);
    read_errors(p);
    if (p->line_len)
        flush_line(p);
    /* What it left behind in its group must not outlive it. */
    kill(-p->pid, SIGKILL);
    struct proc_exit x = {.asked = p->asked, .log_tail = p->tail};
    p->tail[p->tail_len] = '\0';
    if (WIFSIGNALED(st)) {
        x.signal = WTERMSIG(st);
        x.status = 128 + x.signal;
        x.class_ = class_of_signal(p, x.signal);
    } else {
        x.status = WEXITSTATUS(st);
        x.class_ = exit_class_of(exit_class_code(x.status));
    }
    unlink_proc(p);
    p->conf.exit_fn(p->conf.user, p, &x);
    proc_free(p);
}

static void on_death(void *user, int fd)
{
    (void)fd;
    collect(user);
}

static struct proc *find(struct procs *ps, pid_t pid)
{
    for (struct proc *p = ps->head; p; p = p->next)
        if (p->pid == pid)
            return p;
    return NULL;
}

void procs_reap(struct procs *ps)
{
    for (int i = 0; i < 1024; i++) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
            return;
        struct proc *p = find(ps, info.si_pid);
        if (p)
            collect(p);
        else
            waitpid(info.si_pid, NULL, WNOHANG);
    }
}

/* -- spawn -- */

/* Between fork and exec: only async-signal-safe calls. */
static _Noreturn void become_rank(
    const struct proc_conf *conf, pid_t parent, int socket_fd, int page_fd, int errors_fd)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL); /* no handler of the parent may run here */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_CLASS_PEER); /* the agent died before the line above */
    dup2(errors_fd, STDERR_FILENO);
    if (conf->wire) {
        /* Out of the way of each other first, then in place; dup2 clears close-on-exec. */
        const int from[] = {socket_fd, page_fd, conf->copies_fd};
        const int to[] = {WIRE_FD_SOCKET, WIRE_FD_PAGE, WIRE_FD_COPIES};
        int clear[3], n = conf->copies_fd > 0 ? 3 : 2;
        for (int i = 0; i < n; i++)
            clear[i] = fcntl(from[i], F_DUPFD, 10);
        for (int i = 0; i < n; i++) {
            dup2(clear[i], to[i]);
            close(clear[i]);
        }
    }
    execvpe(conf->argv[0], conf->argv, conf->env);
    dprintf(STDERR_FILENO, "%s: %s\n", conf->argv[0], strerror(errno));
    _exit(EXIT_CLASS_USER);
}

static int make_page(struct proc *p, int *fd, struct err *e)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    *fd = memfd_create("llmjob-heartbeat", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)size))
        return err_sys(e, ERR_RETRY, errno, "creating the heartbeat page");
    void *page = mmap(NULL, size, PROT_READ, MAP_SHARED, *fd, 0);
    if (page == MAP_FAILED)
        return err_sys(e, ERR_RETRY, errno, "mapping the heartbeat page");
    p->page = page;
    return 0;
}

static int make_doors(struct proc *p, int theirs[3], struct err *e)
{
    int pipes[2], pair[2];
    if (pipe2(pipes, O_CLOEXEC))
        return err_sys(e, ERR_RETRY, errno, "creating a pipe");
    p->errors = pipes[0];
    theirs[2] = pipes[1];
    int rc = io_set_nonblocking(p->errors, true, e);
    if (rc || !p->conf.wire)
        return rc;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return err_sys(e, ERR_RETRY, errno, "creating a socket pair");
    p->socket = pair[0];
    theirs[0] = pair[1];
    int bytes = SOCKET_BYTES;
    setsockopt(p->socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    rc = io_set_nonblocking(p->socket, true, e);
    return rc ? rc : make_page(p, &theirs[1], e);
}

static int launch(struct proc *p, const int theirs[3], struct err *e)
{
    pid_t parent = getpid();
    p->oom_before = oom_kills();
    p->pid = fork();
    if (p->pid < 0)
        return err_sys(e, ERR_RETRY, errno, "starting %s", p->conf.argv[0]);
    if (p->pid == 0)
        become_rank(&p->conf, parent, theirs[0], theirs[1], theirs[2]);
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    int rc = p->pidfd < 0 ? err_sys(e, ERR_RETRY, errno, "opening a pidfd") : 0;
    if (rc || (rc = web_watch_fd(p->set->web, p->pidfd, on_death, p, e)) ||
        (rc = web_watch_fd(p->set->web, p->errors, on_errors, p, e)) ||
        (p->conf.wire && (rc = web_watch_fd(p->set->web, p->socket, on_socket, p, e)))) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    return rc;
}

int procs_spawn(struct procs *ps, const struct proc_conf *conf, struct proc **out, struct err *e)
{
    struct proc *p = mem_zalloc(sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "out of memory");
    p->set = ps;
    p->conf = *conf;
    p->pidfd = p->socket = p->writable = p->errors = -1;
    wire_reader_init(&p->reader);
    p->end = &p->first;
    snprintf(p->prefix, sizeof p->prefix, "%s", conf->prefix);
    p->conf.prefix = p->prefix;
    int theirs[3] = {-1, -1, -1};
    int rc = make_doors(p, theirs, e);
    if (rc == 0)
        rc = launch(p, theirs, e);
    for (int i = 0; i < 3; i++)
        io_close(theirs[i]);
    p->conf.argv = p->conf.env = NULL; /* the caller's, borrowed for this call */
    if (rc) {
        proc_free(p);
        return rc;
    }
    p->next = ps->head;
    ps->head = p;
    *out = p;
    return 0;
}

/* -- the set -- */

int procs_create(struct web *w, struct procs **out, struct err *e)
{
    struct procs *ps = mem_zalloc(sizeof *ps);
    if (!ps)
        return err_set(e, ERR_MEMORY, "out of memory");
    ps->web = w;
    *out = ps;
    return 0;
}

void procs_destroy(struct procs *ps)
{
    if (!ps)
        return;
    for (struct proc *p = ps->head, *next; p; p = next) {
        next = p->next;
        kill(-p->pid, SIGKILL);
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        proc_free(p);
    }
    mem_free(ps);
}

void procs_tick(struct procs *ps, int64_t now_ms)
{
    for (struct proc *p = ps->head; p; p = p->next)
        if (p->kill_ms && now_ms >= p->kill_ms) {
            /* The group may not exist yet when the child has not reached setsid. */
            if (kill(-p->pid, SIGKILL))
                kill(p->pid, SIGKILL);
            p->kill_ms = now_ms + 1000;
        }
}

int procs_count(const struct procs *ps)
{
    int n = 0;
    for (const struct proc *p = ps->head; p; p = p->next)
        n++;
    return n;
}

/* By itself, if it is not stopped: collected or not. */
static bool has_ended(const struct proc *p)
{
    siginfo_t info = {.si_pid = 0};
    if (p->dead)
        return true;
    return !waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

void proc_stop(struct proc *p, int64_t grace_ms)
{
    if (has_ended(p)) /* its end is its own, and told as such */
        return;
    int64_t due_ms = clock_ms() + grace_ms;
    if (!p->kill_ms || due_ms < p->kill_ms)
        p->kill_ms = due_ms;
    int sig = grace_ms > 0 ? SIGTERM : SIGKILL;
    if (!p->asked || sig == SIGKILL)
        if (kill(-p->pid, sig))
            kill(p->pid, sig);
    p->asked = true;
}

const struct wire_page *proc_page(const struct proc *p)
{
    return p->page;
}

int64_t proc_pid(const struct proc *p)
{
    return p->pid;
}
