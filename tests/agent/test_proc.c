/*
 * proc: goal: ranks are started with their doors, heard to their last word, seen dying at once,
 * stopped by the ladder, and never orphaned; one that does not read is neither waited for nor
 * killed (kind: a client ends the rank). Method: small shell programs as ranks on a real loop.
 */
#include "agent/proc.h"
#include "base/clock.h"
#include "api/limits.h"
#include "base/mem.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit.h"

extern char **environ;

static struct web *w;
static struct procs *ps;
static struct err e;
static struct proc *p;
static struct proc_exit last;
static char tail[LIMIT_LOG_TAIL_BYTES + 1];
static int exits, frames;
static int copies_fd; /* 0: none */
static enum wire_type frame_type;

static void on_frame_(void *user, struct proc *from, const struct wire_frame *frame)
{
    ck_assert_ptr_eq(user, &exits);
    (void)from;
    frames++;
    frame_type = frame->type;
}

static void on_exit_(void *user, struct proc *from, const struct proc_exit *x)
{
    ck_assert_ptr_eq(user, &exits);
    (void)from;
    exits++;
    last = *x;
    snprintf(tail, sizeof tail, "%s", x->log_tail);
    p = NULL;
}

static void spawn(const char *script, bool wire)
{
    char *argv[] = {"/bin/sh", "-c", (char *)script, NULL};
    struct proc_conf conf = {.argv = argv,
        .env = environ,
        .prefix = "[rank 0] ",
        .wire = wire,
        .copies_fd = copies_fd,
        .frame_fn = on_frame_,
        .exit_fn = on_exit_,
        .user = &exits};
    ck_assert_msg(procs_spawn(ps, &conf, &p, &e) == 0, "%s", e.text);
}

static void begin(void)
{
    sigset_t set; /* as the agent, which reads it from a signalfd */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    exits = frames = 0;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(procs_create(w, &ps, &e), 0);
}

static void end(void)
{
    procs_destroy(ps);
    web_destroy(w);
}

#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + 10000; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
            ck_assert_int_eq(web_turn(w, 20, &e), 0); \
            procs_tick(ps, clock_ms()); \
        } \
    } while (0)

START_TEST(exit_classes)
{
    static const struct {
        const char *script;
        enum exit_class class_;
        int status, signal;
    } table[] = {
        {"exit 0", EXIT_CLASS_DONE, 0, 0},
        {"exit 65", EXIT_CLASS_DATA, 65, 0},
        {"exit 71", EXIT_CLASS_DRAINED, 71, 0},
        {"exit 1", EXIT_CLASS_BUG, 1, 0},
        {"kill -SEGV $$", EXIT_CLASS_BUG, 139, SIGSEGV},
        {"kill -KILL $$", EXIT_CLASS_PEER, 137, SIGKILL},
    };
    begin();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        spawn(table[i].script, false);
        until(exits == (int)i + 1);
        ck_assert_int_eq(last.class_, table[i].class_);
        ck_assert_int_eq(last.status, table[i].status);
        ck_assert_int_eq(last.signal, table[i].signal);
        ck_assert(!last.asked);
    }
    ck_assert_int_eq(procs_count(ps), 0);
    end();
}
END_TEST

START_TEST(a_program_that_is_not_there)
{
    begin();
    char *argv[] = {"/nonexistent/rank", NULL};
    struct proc_conf conf = {.argv = argv,
        .env = environ,
        .prefix = "",
        .frame_fn = on_frame_,
        .exit_fn = on_exit_,
        .user = &exits};
    ck_assert_int_eq(procs_spawn(ps, &conf, &p, &e), 0);
    until(exits == 1);
    ck_assert_int_eq(last.class_, EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(tail, "/nonexistent/rank: No such file"));
    end();
}
END_TEST

START_TEST(keeps_the_last_words)
{
    begin();
    spawn("i=0; while [ $i -lt 500 ]; do echo line $i >&2; i=$((i+1)); done; printf end >&2; "
          "exit 72",
        false);
    until(exits == 1);
    ck_assert_uint_eq(strlen(tail), LIMIT_LOG_TAIL_BYTES);
    ck_assert_str_eq(tail + strlen(tail) - 12, "line 499\nend");
    end();
}
END_TEST

START_TEST(the_doors)
{
    begin();
    /* Answers with a frame of type 65 and "{}", tells what it sees of its page, and dies: all of it
     * arrives. */
    spawn("head -c 10 <&3 >/dev/null; printf '\\002\\000\\000\\000\\101\\000\\000\\000{}' >&3; "
          "readlink /proc/self/fd/4 >&2; exit 0",
        true);
    ck_assert_ptr_nonnull(proc_page(p));
    ck_assert_int_eq(proc_send(p, WIRE_STOP, "{}", &e), 0);
    until(exits == 1);
    ck_assert_int_eq(frames, 1);
    ck_assert_int_eq(frame_type, WIRE_LOADED);
    ck_assert_ptr_nonnull(strstr(tail, "llmjob-heartbeat"));
    end();
}
END_TEST

/* What one wrote the next one reads; who is given none has none. */
START_TEST(memory_outlives_a_rank)
{
    begin();
    copies_fd = memfd_create("kept", MFD_CLOEXEC);
    ck_assert_int_ge(copies_fd, 0);
    spawn("printf before >&5; kill -KILL $$", true);
    until(exits == 1);
    spawn("head -c 6 /proc/self/fd/5 >&2; readlink /proc/self/fd/3 /proc/self/fd/4 >&2", true);
    until(exits == 2);
    ck_assert_ptr_nonnull(strstr(tail, "before"));
    ck_assert_ptr_nonnull(strstr(tail, "socket:"));
    ck_assert_ptr_nonnull(strstr(tail, "llmjob-heartbeat"));
    close(copies_fd);
    copies_fd = 0;
    spawn("[ -e /proc/self/fd/5 ] && echo there >&2; exit 0", true);
    until(exits == 3);
    ck_assert_ptr_null(strstr(tail, "there"));
    end();
}
END_TEST

#define BIG (1 << 20)

/* What it is sent while it does not read waits, up to a bound, and then comes whole. The script
 * stops itself, and when it is let go tells the size of what it read. */
START_TEST(a_rank_that_does_not_read)
{
    char script[128], want[64];
    siginfo_t info;
    int rc = 0, sent = 0;
    char *big = mem_alloc(BIG + 1);
    memset(big, 'x', BIG);
    big[BIG] = '\0';
    begin();
    snprintf(script, sizeof script, "kill -STOP $$; head -c %lld <&3 | cksum >&2; exit 0",
        5 * (BIG + 8LL));
    spawn(script, true);
    ck_assert_int_eq(waitid(P_PID, (id_t)proc_pid(p), &info, WSTOPPED | WNOWAIT), 0);
    int64_t start_ms = clock_ms();
    while (sent < 100 && (rc = proc_send(p, WIRE_REQUEST, big, &e)) == 0)
        sent++;
    ck_assert_int_eq(rc, -ERR_RETRY);
    ck_assert_int_ge(sent, 5);
    ck_assert_int_le((int64_t)sent * BIG, PROC_SEND_BYTES + BIG);
    until(clock_ms() - start_ms >= 500); /* nothing comes of it */
    ck_assert_int_eq(exits, 0);
    kill((pid_t)proc_pid(p), SIGCONT);
    until(exits == 1);
    ck_assert(!last.asked);
    ck_assert_int_eq(last.status, 0);
    snprintf(want, sizeof want, " %lld", 5 * (BIG + 8LL));
    ck_assert_msg(strstr(tail, want) != NULL, "%s", tail);
    mem_free(big);
    end();
}
END_TEST

START_TEST(a_malformed_frame_ends_the_rank)
{
    begin();
    spawn("printf '\\377\\377\\377\\377\\101\\000\\000\\000' >&3; sleep 100", true);
    until(exits == 1);
    ck_assert_int_eq(last.signal, SIGKILL);
    end();
}
END_TEST

START_TEST(the_kill_ladder)
{
    begin();
    spawn("exec sleep 100", false);
    proc_stop(p, 5000);
    until(exits == 1);
    ck_assert_int_eq(last.signal, SIGTERM);
    ck_assert(last.asked);
    /* A frame tells that it is deaf now. */
    spawn("trap '' TERM; printf '\\002\\000\\000\\000\\101\\000\\000\\000{}' >&3; "
          "while :; do sleep 1; done",
        true);
    until(frames == 1);
    int64_t start_ms = clock_ms();
    proc_stop(p, 300);
    until(exits == 2);
    ck_assert_int_eq(last.signal, SIGKILL);
    ck_assert_int_ge(clock_ms() - start_ms, 300);
    ck_assert_int_lt(clock_ms() - start_ms, 10000);
    spawn("exec sleep 100", false);
    proc_stop(p, 5000);
    proc_stop(p, 0);
    until(exits == 3);
    end();
}
END_TEST

/* A stop that comes between a rank's death and its being seen does not pass for the reason. */
START_TEST(the_dead_are_not_stopped)
{
    begin();
    spawn("exit 66", false);
    siginfo_t info;
    ck_assert_int_eq(waitid(P_PID, (id_t)proc_pid(p), &info, WEXITED | WNOWAIT), 0);
    proc_stop(p, 0);
    until(exits == 1);
    ck_assert(!last.asked);
    ck_assert_int_eq(last.class_, EXIT_CLASS_CORRUPT);
    end();
}
END_TEST

START_TEST(death_is_seen_at_once)
{
    begin();
    spawn("exec sleep 100", true);
    pid_t pid = (pid_t)proc_pid(p);
    int64_t start_ms = clock_ms();
    kill(pid, SIGKILL);
    until(exits == 1);
    ck_assert_int_lt(clock_ms() - start_ms, 15000); /* at once, on a busy machine */
    end();
}
END_TEST

START_TEST(reaps_ranks_and_orphans)
{
    begin();
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* as PID 1 is for a pod */
    spawn("(sleep 0.1 & exec setsid sleep 0.2) & exit 66", false);
    pid_t other = fork();
    if (other == 0)
        _exit(0);
    int64_t until_ms = clock_ms() + 5000;
    siginfo_t info;
    /* Until no child, dead or alive, is left; looking collects nothing. */
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        ck_assert_int_lt(clock_ms(), until_ms);
        procs_reap(ps);
        usleep(10000);
    }
    ck_assert_int_eq(exits, 1);
    ck_assert_int_eq(last.class_, EXIT_CLASS_CORRUPT);
    end();
}
END_TEST

UNIT_MAIN("proc", exit_classes, a_program_that_is_not_there, keeps_the_last_words, the_doors,
    memory_outlives_a_rank, a_rank_that_does_not_read, a_malformed_frame_ends_the_rank,
    the_kill_ladder, the_dead_are_not_stopped, death_is_seen_at_once, reaps_ranks_and_orphans)
