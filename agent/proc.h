/*
 * proc: the rank processes of a pod: spawn, watch, stop.
 *
 * A rank gets its own session, a socket on WIRE_FD_SOCKET and the heartbeat page on WIRE_FD_PAGE
 * (unless conf.wire is false), and a pipe for stderr whose lines are passed on with a prefix. It
 * dies with the agent (PR_SET_PDEATHSIG). Its death is seen through a pidfd; exit_fn is called
 * once, after its last frames and lines were delivered, and then the proc is freed. Callbacks run
 * inside web_turn or procs_tick; they may stop procs and spawn new ones. As PID 1 the agent also
 * inherits orphans: procs_reap collects those.
 */
#ifndef AGENT_PROC_H
#define AGENT_PROC_H

#include "base/err.h"
#include "api/exitcode.h"
#include "api/limits.h"
#include "base/web.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct procs; /* the set, with its loop */
struct proc;  /* one process */

struct proc_exit {
    enum exit_class class_;
    int status;           /* exit status, or 128 + signal */
    int signal;           /* 0: exited by itself */
    bool asked;           /* stopped or killed by proc_stop */
    const char *log_tail; /* the last LIMIT_LOG_TAIL_BYTES of stderr */
};

struct proc_conf {
    char *const *argv; /* argv[0]: a path, or a name looked up in PATH */
    char *const *env;
    const char *prefix; /* of its stderr lines, "[rank 3] " */
    bool wire;
    int copies_fd; /* becomes WIRE_FD_COPIES, with wire; below 1: none */
    void (*frame_fn)(void *user, struct proc *p, const struct wire_frame *frame);
    void (*exit_fn)(void *user, struct proc *p, const struct proc_exit *exit);
    void *user;
};

int procs_create(struct web *w, struct procs **out, struct err *e);
void procs_destroy(struct procs *ps); /* kills what is left; no callbacks */
int procs_spawn(struct procs *ps, const struct proc_conf *conf, struct proc **out, struct err *e);
/* On SIGCHLD: collects every dead child, ours and inherited ones. */
void procs_reap(struct procs *ps);
/* Drives the kill ladder; call at least every 250 ms. */
void procs_tick(struct procs *ps, int64_t now_ms);
int procs_count(const struct procs *ps);

/* SIGTERM to its process group now, SIGKILL after grace_ms; grace 0: SIGKILL now. Repeats only
 * shorten. */
void proc_stop(struct proc *p, int64_t grace_ms);
/* Never waits: what the socket does not take now is kept, in order, and follows as the rank reads.
 * -ERR_RETRY when PROC_SEND_BYTES of it would be exceeded; nothing of the frame is sent then. That
 * a rank does not read is no reason to kill it: its heartbeat tells whether it lives. */
#define PROC_SEND_BYTES (2 * LIMIT_FRAME_BYTES)
int proc_send(struct proc *p, enum wire_type type, const char *json, struct err *e);
const struct wire_page *proc_page(const struct proc *p); /* NULL without wire */
int64_t proc_pid(const struct proc *p);

#endif
