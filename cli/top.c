/*
 * top: the command that watches one job of the cluster. It asks kubectl, so that it sees what the
 * user may see and needs no credentials of its own: the LLMJob, its events, and the coordinator's
 * report by kubectl exec for what is fresher than status (a row a rank). A missing report leaves
 * those rows out and is no error. Ends when the job does, with the job's class as exit status.
 */
#include "api/exitcode.h"
#include "api/names.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli/command.h"
#include "cli/fill.h"
#include "cli/spawn.h"
#include "cli/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define KUBECTL_MS  10000
#define REPORT_MS   5000
#define TRIES       5 /* failures of kubectl in a row before giving up */
#define ARGS        24
#define EVENT_TURNS 2 /* events change less often */

struct top_conf {
    const char *namespace_, *context, *kubeconfig, *kubectl;
    double interval;
    bool plain, once;
};

static const struct conf_item top_items[] = {
    {"namespace", CONF_STR, offsetof(struct top_conf, namespace_), NULL, "",
        "namespace of the job"},
    {"context", CONF_STR, offsetof(struct top_conf, context), NULL, "",
        "context of the kubeconfig"},
    {"kubeconfig", CONF_STR, offsetof(struct top_conf, kubeconfig), NULL, "", "as kubectl's"},
    {"kubectl", CONF_STR, offsetof(struct top_conf, kubectl), NAME_ENV_KUBECTL, "kubectl",
        "kubectl to ask"},
    {"interval", CONF_NUM, offsetof(struct top_conf, interval), NULL, "1", "seconds between looks"},
    {"plain", CONF_BOOL, offsetof(struct top_conf, plain), NULL, NULL,
        "print lines, also on a terminal"},
    {"once", CONF_BOOL, offsetof(struct top_conf, once), NULL, NULL, "print one picture and end"},
    {0},
};

static const char top_usage[] =
    "llmjob top JOB [-n NAMESPACE] [flags]\n\n"
    "Shows a job of the cluster on one live screen, or as lines when the output is no terminal:\n"
    "state, layout, progress, a row a rank, past worlds and why they ended, events.\n"
    "Ends when the job is complete or failed, or by Ctrl-C.";

struct top {
    struct top_conf conf;
    const char *job;
    struct arena *arena;
    struct json *object, *report, *events;
    struct screen screen;
    struct terminal terminal;
    int signals;
};

/* kubectl with the common flags, then rest up to its NULL. */
static int run_kubectl(const struct top *t, const char *const *rest, int64_t timeout_ms,
    struct buf *out, struct err *e)
{
    const char *argv[ARGS] = {t->conf.kubectl};
    const char *const flags[][2] = {{"--namespace", t->conf.namespace_},
        {"--context", t->conf.context}, {"--kubeconfig", t->conf.kubeconfig}};
    int n = 1;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (!*flags[i][1])
            continue;
        argv[n++] = flags[i][0];
        argv[n++] = flags[i][1];
    }
    for (; *rest && n < ARGS - 1; rest++)
        argv[n++] = *rest;
    argv[n] = NULL;
    return spawn_capture(argv, timeout_ms, out, e);
}

/* kubectl's answer as a tree that takes the place of *tree; the old one stays on failure. */
static int fetch_json(const struct top *t, const char *const *rest, int64_t timeout_ms,
    struct json **tree, struct err *e)
{
    buf_auto struct buf out;
    buf_init(&out, 16 << 20);
    int rc = run_kubectl(t, rest, timeout_ms, &out, e);
    if (rc)
        return rc;
    struct json *fresh;
    rc = json_parse(buf_cstr(&out), out.len, &fresh, e);
    if (rc)
        return rc;
    json_destroy(*tree);
    *tree = fresh;
    return 0;
}

static void fetch_report(struct top *t)
{
    char pod[96];
    struct err ignored;
    snprintf(pod, sizeof pod, "%s-0", t->job);
    const char *const ask[] = {
        "exec", pod, "-c", NAME_CONTAINER, "--", "llmjob-agent", "report", NULL};
    json_destroy(t->report);
    t->report = NULL;
    fetch_json(t, ask, REPORT_MS, &t->report, &ignored);
}

static void fetch_events(struct top *t)
{
    char involved[96];
    struct err ignored;
    snprintf(involved, sizeof involved, "involvedObject.name=%s", t->job);
    const char *const events[] = {
        "get", "events", "--field-selector", involved, "-o", "json", NULL};
    fetch_json(t, events, KUBECTL_MS, &t->events, &ignored);
}

static int look_at_job(struct top *t, int turn, struct err *e)
{
    const char *const object[] = {"get", NAME_PLURAL "." NAME_GROUP, t->job, "-o", "json", NULL};
    int rc = fetch_json(t, object, KUBECTL_MS, &t->object, e);
    if (rc)
        return rc;
    if (json_int(json_get(t->object, "status"), "replicas", 0) > 0)
        fetch_report(t);
    if (turn % EVENT_TURNS == 0)
        fetch_events(t);
    arena_reset(t->arena);
    fill_init(&t->screen, clock_wall_ms());
    rc = fill_object(&t->screen, t->object, t->arena, e);
    struct err ignored;
    struct report report;
    /* The controller's word on the end, not the agent's. */
    enum job_state state = t->screen.report.state;
    if (!rc && t->report && !report_decode(t->report, t->arena, &report, &ignored))
        fill_report(&t->screen, &report);
    t->screen.report.state = state;
    fill_events(&t->screen, t->events);
    t->screen.hint = t->conf.once ? "" : "Ctrl-C leaves; the job goes on";
    return rc;
}

/* True when the user wants to leave; otherwise after the interval. */
static bool wait_for_user(struct top *t)
{
    int64_t until = clock_ms() + (int64_t)(t->conf.interval * 1000);
    for (;;) {
        struct pollfd p = {.fd = t->signals, .events = POLLIN};
        struct signalfd_siginfo info;
        int64_t left = until - clock_ms();
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return false;
        if (read(t->signals, &info, sizeof info) != (ssize_t)sizeof info)
            continue;
        if (info.ssi_signo != SIGWINCH)
            return true;
        terminal_resize(&t->terminal);
        return false;
    }
}

static int class_of_job(const struct report *r)
{
    if (r->state != JOB_FAILED)
        return EXIT_CLASS_DONE;
    return (int)exit_class_of(r->failure ? r->failure : ERR_USER);
}

/* Until the job ends or the user leaves. */
static int watch_job(struct top *t, int *status, struct err *e)
{
    int failures = 0;
    for (int turn = 0;; turn++) {
        struct err why = {.text = ""};
        int rc = look_at_job(t, turn, &why);
        failures = rc ? failures + 1 : 0;
        /* The first look must work: a job that is not there, or no cluster. */
        if (rc && (turn == 0 || failures == TRIES || rc != -ERR_RETRY)) {
            *e = why;
            return rc;
        }
        if (!rc) {
            rc = terminal_show(&t->terminal, &t->screen, e);
            if (rc)
                return rc;
        }
        enum job_state state = t->screen.report.state;
        *status = class_of_job(&t->screen.report);
        if (state == JOB_FAILED || state == JOB_COMPLETE || wait_for_user(t))
            return 0;
    }
}

/* A picture, not a redraw. */
static int show_once(struct top *t, struct err *e)
{
    int rc = look_at_job(t, 0, e);
    if (rc)
        return rc;
    buf_auto struct buf picture;
    buf_init(&picture, 1 << 20);
    rc = screen_draw(&t->screen, &t->terminal.style, &picture);
    fputs(buf_cstr(&picture), stdout);
    return rc;
}

static int catch_signals(struct top *t, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return t->signals < 0 ? err_sys(e, ERR_BUG, errno, "signalfd") : 0;
}

/* kubectl's own short flag. */
static void accept_n(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-n"))
            argv[i] = (char *)"--namespace";
}

static int run_top(struct top *t, int *status, struct err *e)
{
    t->arena = arena_create(8 << 20);
    int rc = t->arena ? catch_signals(t, e) : err_set(e, ERR_MEMORY, "out of memory");
    if (rc)
        return rc;
    terminal_init(&t->terminal, STDOUT_FILENO, t->conf.plain);
    return t->conf.once ? show_once(t, e) : watch_job(t, status, e);
}

int command_top(int argc, char **argv, int *status, struct err *e)
{
    struct top t = {.signals = -1};
    accept_n(argc, argv);
    int rc = command_flags(top_items, top_usage, "job", argc, argv, &t.conf, &t.job, e);
    if (rc <= 0)
        return rc;
    if (!(t.conf.interval >= 0.1 && t.conf.interval <= 3600))
        return err_set(e, ERR_USER, "interval: wanted 0.1 to 3600 seconds");
    rc = run_top(&t, status, e);
    t.screen.hint = "";
    terminal_leave(&t.terminal, rc ? NULL : &t.screen);
    io_close(t.signals);
    json_destroy(t.object);
    json_destroy(t.report);
    json_destroy(t.events);
    arena_destroy(t.arena);
    return rc;
}
