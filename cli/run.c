/*
 * run: the command that runs a job file on this machine alone. It takes the controller's place:
 * writes the job folder (job.json, token), keeps an agent a replica (cli/crew), tells the
 * coordinator what is desired and shows what it reports. The job file is read again when it
 * changes, so editing `replicas` scales the running job, and `serve.adapters` under
 * `serve.adapterMemory` changes what a served model has. The first Ctrl-C suspends the job
 * (checkpoint, then end), the second kills. The exit status is the job's class. It knows nothing of
 * training; all it does is what the coordinator's report asks for.
 */
#include "api/exitcode.h"
#include "api/jobpath.h"
#include "api/names.h"
#include "api/search.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/io.h"
#include "base/net.h"
#include "base/secret.h"
#include "cli/command.h"
#include "cli/crew.h"
#include "cli/echo.h"
#include "cli/evaluated.h"
#include "cli/fill.h"
#include "cli/lease.h"
#include "cli/listed.h"
#include "cli/local.h"
#include "cli/run_secrets.h"
#include "cli/spawn.h"
#include "cli/terminal.h"
#include "cli/trials.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define TURN_MS    400
#define REQUEST_MS 1500
#define GRACE_MS   10000 /* agents have to end after SIGTERM or release */
#define LEFT_MS    1500  /* members have to end after the coordinator */
#define GIVE_UP    5     /* ends of an agent in a row that never answered */
#define EVENTS     32
#define DOUBLED_MS 2000 /* timeout(1) sends SIGTERM twice: to its command and to their group */

struct run_conf {
    const char *storage, *agent, *rank_program, *api_key_file, *webhook_secret;
    int64_t replicas, port;
    bool plain, keep;
};

static const struct conf_item run_items[] = {
    {"storage", CONF_STR, offsetof(struct run_conf, storage), NULL, "",
        "folders of storage entries, NAME=DIR,...; else the mountPath if it exists, else "
        "./llmjob-data/NAME"},
    {"replicas", CONF_INT, offsetof(struct run_conf, replicas), NULL, "-1",
        "start with so many, whatever the file says; -1: as the file says"},
    {"port", CONF_INT, offsetof(struct run_conf, port), NULL, "8000", "of a served model, if free"},
    {"api-key-file", CONF_STR, offsetof(struct run_conf, api_key_file), NULL, "",
        "file that holds the API keys of a served model, a line each"},
    {"webhook-secret", CONF_STR, offsetof(struct run_conf, webhook_secret), NULL, "",
        "folder that has the alerts' webhookKey, a file each, in the place of a Secret"},
    {"agent", CONF_STR, offsetof(struct run_conf, agent), NULL, "",
        "path of llmjob-agent; else beside llmjob"},
    {"rank-program", CONF_STR, offsetof(struct run_conf, rank_program), NULL, "",
        "path of llmjob-rank; else beside the agent"},
    {"plain", CONF_BOOL, offsetof(struct run_conf, plain), NULL, NULL,
        "print lines, also on a terminal"},
    {"keep", CONF_BOOL, offsetof(struct run_conf, keep), NULL, NULL,
        "keep the folder with the logs also when all went well"},
    {0},
};

static const char run_usage[] =
    "llmjob run FILE [flags]\n\n"
    "Runs the LLMJob of FILE on this machine alone, with the same agents and ranks as on a "
    "cluster.\n"
    "Editing replicas in FILE scales the running job. Ctrl-C saves a checkpoint and ends; running\n"
    "the file again goes on from there. A second Ctrl-C ends at once.";

struct event {
    int64_t ms;
    bool warning;
    char reason[32], message[320];
};

struct local_run {
    struct run_conf conf;
    const char *file;
    struct run_secrets secrets;
    struct timespec changed; /* of file, when it was read */
    struct arena *job_arena, *scratch;
    struct listed listed;     /* adapters of a served model */
    struct arena *reports[2]; /* the report lives in the one, the next is decoded into the other */
    int current;
    struct jobspec spec;
    char folder[256], token[65], agent[512], rank[512];
    struct crew crew;
    struct echo echo;              /* of a run task */
    struct folder_lease leases[2]; /* on the folders that a training writes */
    int signals;                   /* signalfd */
    int interrupts;
    int64_t interrupted_ms; /* the first time */
    struct desired desired;
    bool told; /* the coordinator has this desired state */
    bool answered;
    unsigned starts; /* of agents, that were told */
    struct report report;
    struct event events[EVENTS];
    int event_count;
    struct terminal terminal;
};

static void note_event(struct local_run *r, bool warning, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void note_event(struct local_run *r, bool warning, const char *reason, const char *fmt, ...)
{
    if (r->event_count == EVENTS)
        memmove(r->events, r->events + 1, (size_t)--r->event_count * sizeof *r->events);
    struct event *v = &r->events[r->event_count++];
    va_list ap;
    *v = (struct event){.ms = clock_wall_ms(), .warning = warning};
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    va_start(ap, fmt);
    vsnprintf(v->message, sizeof v->message, fmt, ap);
    va_end(ap);
}

/* -- before the first agent -- */

static void find_programs(struct local_run *r)
{
    spawn_find(r->conf.agent, NULL, "llmjob-agent", "llmjob-agent", r->agent, sizeof r->agent);
    spawn_find(r->conf.rank_program, r->agent, "llmjob-rank", NAME_LIB_DIR "/llmjob-rank", r->rank,
        sizeof r->rank);
}

static int make_folder(struct local_run *r, struct err *e)
{
    const char *base = getenv("TMPDIR");
    snprintf(r->folder, sizeof r->folder, "%.128s/llmjob-%s-XXXXXX", base && *base ? base : "/tmp",
        r->spec.name);
    if (!mkdtemp(r->folder))
        return err_sys(e, ERR_USER, errno, "%s", r->folder);
    char path[320];
    snprintf(path, sizeof path, "%s/job", r->folder);
    return io_mkdirs(path, 0700, e);
}

static int write_token(struct local_run *r, struct err *e)
{
    uint8_t secret[32];
    int rc = io_random(secret, sizeof secret, e);
    if (rc)
        return rc;
    io_hex(secret, sizeof secret, r->token);
    char path[320];
    snprintf(path, sizeof path, "%s/job/%s", r->folder, NAME_TOKEN_FILE);
    return io_write_file(path, r->token, strlen(r->token), 0600, e);
}

/* All that agents read: as the Secret of a job in a cluster. */
static int write_job(struct local_run *r, struct err *e)
{
    int rc = make_folder(r, e);
    if (rc)
        return rc;
    rc = write_token(r, e);
    if (rc)
        return rc;
    char path[320];
    snprintf(path, sizeof path, "%s/job", r->folder);
    rc = run_secrets_write(&r->secrets, &r->spec, path, e);
    if (rc)
        return rc;
    buf_auto struct buf json;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    rc = jobspec_encode(&r->spec, &json, e);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/job/%s", r->folder, NAME_JOB_FILE);
    return io_write_file(path, json.data, json.len, 0600, e);
}

/* On one machine one replica of a served model has all that several would share. */
static int replicas_here(const struct jobspec *s)
{
    return jobspec_replicated(s) && s->replicas > 1 ? 1 : s->replicas;
}

static int read_job(struct local_run *r, struct err *e)
{
    struct stat st;
    if (stat(r->file, &st))
        return err_sys(e, ERR_USER, errno, "%s", r->file);
    r->changed = st.st_mtim;
    int rc = jobspec_read_file(r->file, r->job_arena, &r->spec, e);
    if (rc)
        return rc;
    if (r->conf.replicas >= 0)
        r->spec.replicas = (int)r->conf.replicas;
    r->spec.replicas = replicas_here(&r->spec);
    if (r->conf.replicas > CREW_MEMBERS || r->spec.replicas > CREW_MEMBERS)
        return err_set(e, ERR_USER, "replicas: at most %d on one machine", CREW_MEMBERS);
    r->secrets = (struct run_secrets){r->file, r->conf.api_key_file, r->conf.webhook_secret};
    rc = run_secrets_check(&r->secrets, &r->spec, e);
    if (rc)
        return rc;
    rc = local_map(&r->spec, r->conf.storage, r->job_arena, e);
    if (rc)
        return rc;
    r->desired = (struct desired){.generation = 1,
        .replicas = r->spec.replicas,
        .suspend = r->spec.suspend,
        .elastic = r->spec.elastic,
        .restart = r->spec.restart,
        .health = r->spec.health,
        .lists_adapters = r->spec.serve.adapter_memory > 0,
        .adapters = r->spec.serve.adapters,
        .adapter_count = r->spec.serve.adapter_memory ? r->spec.serve.adapter_count : 0};
    return 0;
}

/* What an agent will read must be right: two entries may have got one folder. */
static int check_mapped(struct local_run *r, struct err *e)
{
    buf_auto struct buf json;
    buf_init(&json, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(&r->spec, &json, e);
    if (rc)
        return rc;
    json_auto struct json *tree = NULL;
    rc = json_parse(json.data, json.len, &tree, e);
    if (rc)
        return rc;
    struct jobspec spec;
    arena_reset(r->scratch);
    rc = jobspec_decode(tree, r->scratch, &spec, e);
    return rc ? err_wrap(e, "%s: with its storage on this machine", r->file) : 0;
}

/* At most one process trains into a folder. Where there are no locks, a word of it must do. */
static int take_lease(struct local_run *r, struct folder_lease *l, const char *field,
    const char *folder, const char *tail, struct err *e)
{
    char path[sizeof l->path], parent[sizeof l->path], file[PATH_MAX];
    struct err why = {.sys = 0};
    snprintf(path, sizeof path, "%s%s", folder, tail);
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path) + 1, path);
    int rc = io_mkdirs(parent, 0755, &why);
    if (!rc)
        rc = lease_take(path, realpath(r->file, file) ? file : r->file, l, &why);
    if (rc == -ERR_USER && !why.sys)
        return err_set(e, ERR_USER, "spec.%s: %s", field, why.text);
    if (rc)
        note_event(r, true, NAME_REASON_NOT_LOCKED,
            "spec.%s: a second run would not be noticed: %s", field, why.text);
    return 0;
}

/* NULL: none, or another job writes it. */
static const struct jobpath *own_output(const struct jobspec *s)
{
    return s->task == TASK_TRAIN && s->train.exported_by ? NULL : jobpath_output(s);
}

static int take_leases(struct local_run *r, struct err *e)
{
    const struct jobpath *output = own_output(&r->spec);
    int rc = 0;
    if (r->spec.task == TASK_TRAIN)
        rc = take_lease(
            r, &r->leases[0], "checkpoint.path", r->spec.checkpoint.path, "/.llmjob-lease", e);
    return rc || !output ? rc
                         : take_lease(r, &r->leases[1], output->field, jobpath_of(&r->spec, output),
                               ".llmjob-lease", e);
}

static int catch_signals(struct local_run *r, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->signals < 0 ? err_sys(e, ERR_BUG, errno, "signalfd") : 0;
}

/* -- a turn -- */

static void desire(struct local_run *r, int replicas, bool suspend)
{
    r->desired.replicas = replicas;
    r->desired.suspend = suspend;
    r->desired.generation++;
    r->told = false;
}

static void take_signals(struct local_run *r)
{
    struct signalfd_siginfo info;
    while (read(r->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        bool doubled = info.ssi_signo == SIGTERM && r->interrupts &&
            clock_ms() - r->interrupted_ms < DOUBLED_MS;
        if (info.ssi_signo == SIGWINCH) {
            terminal_resize(&r->terminal);
        } else if (!doubled && ++r->interrupts == 1) {
            r->interrupted_ms = clock_ms();
            note_event(r, true, NAME_REASON_INTERRUPTED,
                "saving a checkpoint, then ending; Ctrl-C again ends at once");
            desire(r, r->desired.replicas, true);
        }
    }
}

/* Of what may be edited, all but replicas and suspend. */
static uint64_t hash_policy(const struct desired *d)
{
    const struct desired policy = {
        .elastic = d->elastic, .restart = d->restart, .health = d->health};
    return desired_hash(&policy);
}

static bool file_changed(struct local_run *r)
{
    struct stat st;
    if (stat(r->file, &st) ||
        (st.st_mtim.tv_sec == r->changed.tv_sec && st.st_mtim.tv_nsec == r->changed.tv_nsec))
        return false;
    r->changed = st.st_mtim;
    return true;
}

/* Of a changed file that is taken which may change in a cluster too: replicas, suspend, elastic,
 * restart and health, and serve.adapters where they may. A file in the middle of an edit is left
 * alone. */
static void reread_file(struct local_run *r)
{
    if (r->interrupts || !file_changed(r))
        return;
    struct err e;
    struct jobspec now;
    arena_reset(r->scratch);
    if (jobspec_read_file(r->file, r->scratch, &now, &e)) {
        note_event(r, true, NAME_REASON_FILE_IGNORED, "%s", e.text);
        return;
    }
    now.replicas = replicas_here(&now);
    if (now.replicas > CREW_MEMBERS) {
        note_event(
            r, true, NAME_REASON_FILE_IGNORED, "replicas: at most %d on one machine", CREW_MEMBERS);
        return;
    }
    int listed = listed_reread(&r->listed, &now, r->conf.storage, &r->desired, r->scratch, &e);
    if (listed < 0) {
        note_event(r, true, NAME_REASON_FILE_IGNORED, "%s", e.text);
        return;
    }
    if (listed) {
        note_event(r, false, NAME_REASON_EDITED, "serve.adapters: %d, as the file says now",
            r->desired.adapter_count);
        desire(r, r->desired.replicas, r->desired.suspend);
    }
    uint64_t policy = hash_policy(&r->desired);
    r->desired.elastic = now.elastic;
    r->desired.restart = now.restart;
    r->desired.health = now.health;
    if (hash_policy(&r->desired) != policy) {
        note_event(
            r, false, NAME_REASON_EDITED, "elastic, restart and health as the file says now");
        desire(r, r->desired.replicas, r->desired.suspend);
    }
    if (now.replicas == r->desired.replicas && now.suspend == r->desired.suspend)
        return;
    note_event(r, false, NAME_REASON_SCALING, "replicas %d, was %d%s", now.replicas,
        r->desired.replicas, now.suspend ? ", suspended" : "");
    desire(r, now.replicas, now.suspend);
}

static int send_request(struct local_run *r, const char *method, const char *path,
    const struct buf *body, struct buf *out, struct err *e)
{
    char url[128], token[SECRET_TOKEN_BYTES];
    snprintf(url, sizeof url, "http://" NET_LOOPBACK ":%u%s", r->crew.members[0].port, path);
    int rc = secret_of_pod(r->token, r->crew.members[0].uid, token, e);
    if (rc)
        return rc;
    const struct http_conf conf = {.user_agent = "llmjob"};
    const struct http_request q = {
        .method = method,
        .url = url,
        .bearer = token,
        .content_type = body ? "application/json" : NULL,
        .body = body ? body->data : NULL,
        .body_len = body ? body->len : 0,
        .timeout_ms = REQUEST_MS,
        .limit = LIMIT_REPORT_BYTES,
    };
    int status = http_once(&conf, &q, out, e);
    if (status < 0)
        return status;
    if (status / 100 == 2)
        return 0;
    return err_set(e, status / 100 == 4 ? ERR_BUG : ERR_RETRY, "%s %s: status %d: %.120s", method,
        path, status, buf_cstr(out));
}

static int tell_coordinator(struct local_run *r, struct err *e)
{
    arena_reset(r->scratch);
    r->desired.term = 1 + r->crew.members[0].ended; /* another agent, another term */
    r->desired.members = crew_members(&r->crew, r->scratch);
    r->desired.member_count = r->crew.count;
    if (!r->desired.members)
        return err_set(e, ERR_MEMORY, "out of memory");
    buf_auto struct buf body, answer;
    buf_init(&body, LIMIT_REPORT_BYTES);
    buf_init(&answer, LIMIT_REPORT_BYTES);
    int rc = desired_encode(&r->desired, &body, e);
    if (rc)
        return rc;
    rc = send_request(r, "PUT", NAME_PATH_DESIRED, &body, &answer, e);
    if (rc)
        return rc;
    r->told = true;
    return 0;
}

static int ask_coordinator(struct local_run *r, struct err *e)
{
    buf_auto struct buf answer;
    buf_init(&answer, LIMIT_REPORT_BYTES);
    int rc = send_request(r, "GET", NAME_PATH_JOB, NULL, &answer, e);
    if (rc)
        return rc;
    json_auto struct json *tree = NULL;
    rc = json_parse(buf_cstr(&answer), answer.len, &tree, e);
    if (rc)
        return rc;
    struct arena *next = r->reports[!r->current];
    arena_reset(next);
    rc = report_decode(tree, next, &r->report, e);
    if (rc)
        return rc;
    r->current = !r->current;
    r->answered = true;
    const char *wrong = listed_wrong(&r->listed, &r->report);
    if (wrong)
        note_event(r, true, NAME_REASON_ADAPTER, "%s", wrong);
    return 0;
}

static int watch_agents(struct local_run *r, struct err *e)
{
    int keep = r->desired.replicas > 0 ? r->desired.replicas : 1;
    for (int i; (i = crew_reap(&r->crew)) >= 0;) {
        const struct crew_member *m = &r->crew.members[i];
        note_event(r, true, NAME_REASON_AGENT_ENDED, "replica %d: status %d", i, m->status);
        r->told = false;
        if (!r->answered && m->ended >= GIVE_UP) {
            char log[512];
            return err_set(e, exit_class_code(m->status),
                "%s ended %d times with status %d; see %s", r->agent, m->ended, m->status,
                crew_log(&r->crew, i, log, sizeof log));
        }
    }
    if (r->answered && r->crew.count > keep && r->report.generation == r->desired.generation &&
        r->report.world_replicas <= r->desired.replicas)
        crew_shrink(&r->crew, keep, GRACE_MS);
    /* While a smaller world forms, the surplus agents are kept too. */
    int rc = crew_keep(&r->crew, r->crew.count > keep ? r->crew.count : keep, e);
    if (r->crew.starts != r->starts) {
        note_event(r, false, NAME_REASON_AGENTS_STARTED, "%u", r->crew.starts - r->starts);
        r->starts = r->crew.starts;
        r->told = false;
    }
    return rc;
}

static void fill_screen(const struct local_run *r, struct screen *s)
{
    static char layout[REPORT_LAYOUT_BYTES];
    fill_init(s, clock_wall_ms());
    fill_report(s, &r->report);
    report_layout(&r->report, layout);
    s->name = r->spec.name;
    s->task = task_name(r->spec.task);
    s->state = r->answered ? job_state_name(r->report.state) : NAME_STATE_STARTING;
    s->why = r->report.failure_message;
    s->layout = layout;
    s->ready = r->report.connected;
    s->replicas = r->desired.replicas;
    s->hint = r->interrupts
        ? "Ctrl-C again ends at once, without a checkpoint"
        : "Ctrl-C saves a checkpoint and ends; editing replicas in the file scales";
    for (int i = 0; i < r->event_count; i++) {
        const struct event *v = &r->events[i];
        s->events[s->event_count++] =
            (struct screen_event){v->ms, v->warning, v->reason, v->message, 1};
    }
}

static bool is_finished(const struct local_run *r)
{
    if (!r->answered)
        return false;
    enum job_state s = r->report.state;
    bool current = r->report.generation == r->desired.generation;
    return s == JOB_COMPLETE || s == JOB_FAILED || (r->interrupts && current && s == JOB_SUSPENDED);
}

static void wait_for_news(struct local_run *r)
{
    struct pollfd p[CREW_MEMBERS + 1] = {{.fd = r->signals, .events = POLLIN}};
    for (int i = 0; i < r->crew.count; i++)
        p[i + 1] = (struct pollfd){.fd = r->crew.members[i].child.pidfd, .events = POLLIN};
    poll(p, (nfds_t)r->crew.count + 1, TURN_MS);
}

/* Tells and asks. An agent that does not answer yet is no error, one of another version is. */
static int talk_to_coordinator(struct local_run *r, struct err *e)
{
    struct err why = {.text = ""};
    int rc = r->told ? 0 : tell_coordinator(r, &why);
    if (!rc && !(rc = ask_coordinator(r, &why)))
        r->told = r->report.generation == r->desired.generation;
    return rc == -ERR_BUG || rc == -ERR_DATA ? err_set(e, ERR_BUG, "%s", why.text) : 0;
}

static int show(struct local_run *r, struct err *e)
{
    struct screen s;
    int rc = r->spec.task == TASK_RUN
        ? echo_news(&r->echo, &r->crew, is_finished(r), r->terminal.fd, e)
        : 0;
    fill_screen(r, &s);
    return rc ? rc : terminal_show(&r->terminal, &s, e);
}

/* Until the job is finished or killed. */
static int run_turns(struct local_run *r, struct err *e)
{
    for (;;) {
        take_signals(r);
        if (r->interrupts > 1)
            return err_set(e, ERR_DRAINED, "killed; training goes on from the last checkpoint");
        reread_file(r);
        int rc = watch_agents(r, e);
        if (rc)
            return rc;
        rc = talk_to_coordinator(r, e);
        if (rc)
            return rc;
        rc = show(r, e);
        if (rc)
            return rc;
        if (is_finished(r))
            return 0;
        wait_for_news(r);
    }
}

/* -- the end -- */

static void release_agents(struct local_run *r)
{
    struct err ignored;
    r->desired.release = true;
    r->desired.generation++;
    int64_t deadline = clock_ms() + (tell_coordinator(r, &ignored) ? 0 : GRACE_MS);
    for (bool running = true; running && clock_ms() < deadline;) {
        running = false;
        for (int i; (i = crew_reap(&r->crew)) >= 0;) {
            int64_t others_ms = clock_ms() + LEFT_MS; /* who were told before the first ended */
            if (i == 0 && deadline > others_ms)
                deadline = others_ms;
        }
        for (int i = 0; i < r->crew.count; i++)
            running |= r->crew.members[i].child.pid != 0;
        if (running)
            wait_for_news(r);
    }
    crew_shrink(&r->crew, 0, GRACE_MS);
}

static void say_epochs(const struct json *epochs)
{
    json_each (x, epochs) {
        char validation[64] = "";
        bool matched = json_get(x, "validationMatch");
        if (json_is_number(json_get(x, "validationLoss")))
            snprintf(validation, sizeof validation, "  validation loss %.4f  %s %.4f",
                json_num(x, "validationLoss", 0), matched ? "match" : "f1",
                json_num(x, matched ? "validationMatch" : "validationF1", 0));
        command_print(stdout, "epoch %.0f: train loss %.4f%s", json_num(x, "epoch", 0),
            json_num(x, "trainLoss", 0), validation);
    }
}

/* A model's row of the table; a column without figures stays empty. */
static void say_model(const struct json *report, const char *key)
{
    const struct json *m = json_get(report, key);
    char perplexity[32] = "", speed[32] = "", zeros[32] = "";
    if (json_get(m, "perplexity"))
        snprintf(perplexity, sizeof perplexity, "%.4f", json_num(m, "perplexity", 0));
    if (json_get(m, "tokensPerSecond"))
        snprintf(speed, sizeof speed, "%.1f", json_num(m, "tokensPerSecond", 0));
    if (json_get(m, "sparsity"))
        snprintf(zeros, sizeof zeros, " %9.2f%%", 100 * json_num(m, "sparsity", 0));
    command_print(stdout, "%-8s %10.1f %12s %10s%s", key, json_num(m, "bytes", 0) / (1 << 20),
        perplexity, speed, zeros);
}

static void say_what_was_converted(const struct json *report)
{
    command_print(stdout, "%-8s %10s %12s %10s%s", "", "MiB", "perplexity", "tokens/s",
        json_get(report, "prune") ? "      zeros" : "");
    say_model(report, "source");
    say_model(report, "output");
}

static void say_what_was_tested(const struct json *report, const char *path)
{
    const struct json *all = json_path(report, "test.entities.lenient.micro avg");
    const struct json *classes = json_path(report, "test.classes");
    const struct json *ranking = json_path(report, "test.ranking");
    const struct json *similarity = json_path(report, "test.similarity");
    say_epochs(json_get(report, "epochs"));
    if (all)
        command_print(stdout, "test: f1 %.4f  precision %.4f  recall %.4f  of %.0f entities, by %s",
            json_num(all, "f1-score", 0), json_num(all, "precision", 0), json_num(all, "recall", 0),
            json_num(all, "support", 0), path);
    if (classes)
        command_print(stdout, "test: accuracy %.4f  macro f1 %.4f  of %.0f labels, by %s",
            json_num(classes, "accuracy", 0),
            json_num(json_get(classes, "macro avg"), "f1-score", 0),
            json_num(classes, "support", 0), path);
    if (ranking)
        command_print(stdout,
            "test: recall@10 %.4f  mrr@10 %.4f  ndcg@10 %.4f  of %.0f among %.0f, by %s",
            json_num(ranking, "recall@10", 0), json_num(ranking, "mrr@10", 0),
            json_num(ranking, "ndcg@10", 0), json_num(ranking, "queries", 0),
            json_num(ranking, "candidates", 0), path);
    if (similarity)
        command_print(stdout, "test: spearman %.4f  pearson %.4f  of %.0f pairs, by %s",
            json_num(similarity, "spearman", 0), json_num(similarity, "pearson", 0),
            json_num(json_get(report, "test"), "pairs", 0), path);
}

/* What the report in the output comes to, where there is one. */
static void say_what_was_found(const struct jobspec *spec)
{
    json_auto struct json *report = NULL;
    buf_auto struct buf text;
    struct err ignored;
    char path[LIMIT_PATH_BYTES + 16];
    const struct jobpath *output = own_output(spec);
    buf_init(&text, LIMIT_FRAME_BYTES);
    if (!output || (spec->task == TASK_TRAIN && spec->train.objective == OBJECTIVE_CAUSAL_LM))
        return;
    snprintf(path, sizeof path, "%s/report.json", jobpath_of(spec, output));
    if (io_read_file(path, LIMIT_FRAME_BYTES, &text, &ignored) ||
        json_parse(buf_cstr(&text), text.len, &report, &ignored))
        return;
    if (spec->task == TASK_CONVERT)
        say_what_was_converted(report);
    else if (spec->task == TASK_EVALUATE)
        evaluated_print(stdout, report, path);
    else
        say_what_was_tested(report, path);
}

static void say_how_it_ended(struct local_run *r, int *status)
{
    const struct report *p = &r->report;
    struct screen s;
    fill_screen(r, &s);
    s.hint = "";
    terminal_leave(&r->terminal, &s);
    if (p->state == JOB_FAILED) {
        *status = (int)exit_class_of(p->failure ? p->failure : ERR_BUG);
        command_print(stderr, "llmjob run: %s failed: %s: %s", r->spec.name, p->failure_reason,
            p->failure_message);
    } else if (p->state == JOB_COMPLETE) {
        *status = EXIT_CLASS_DONE;
        const struct jobpath *output = own_output(&r->spec);
        command_print(stdout, "%s is complete%s%s", r->spec.name, output ? ": " : "",
            output ? jobpath_of(&r->spec, output) : "");
        say_what_was_found(&r->spec);
    } else {
        *status = EXIT_CLASS_DRAINED;
        if (r->spec.task == TASK_CONVERT) /* goes on from nothing */
            command_print(stdout, "%s is stopped; run it again to convert anew", r->spec.name);
        else if (r->spec.task == TASK_EVALUATE)
            command_print(stdout, "%s is stopped; run it again to evaluate anew", r->spec.name);
        else
            command_print(stdout, "%s is suspended at step %lld; run it again to go on",
                r->spec.name, (long long)p->step);
    }
}

static int make_arenas(struct local_run *r, struct err *e)
{
    r->job_arena = arena_create(1 << 20);
    r->scratch = arena_create(1 << 20);
    r->reports[0] = arena_create(8 << 20);
    r->reports[1] = arena_create(8 << 20);
    bool made = r->job_arena && r->scratch && r->reports[0] && r->reports[1];
    return made ? 0 : err_set(e, ERR_MEMORY, "out of memory");
}

static int prepare_job(struct local_run *r, struct err *e)
{
    static int (*const steps[])(struct local_run * r, struct err * e) = {
        make_arenas, read_job, check_mapped, take_leases, catch_signals};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int rc = steps[i](r, e);
        if (rc)
            return rc;
    }
    find_programs(r);
    return 0;
}

static int prepare_run(struct local_run *r, struct err *e)
{
    int rc = write_job(r, e);
    if (rc)
        return rc;
    report_init(&r->report);
    const char *kind = device_kind(r->spec.device.resource);
    const struct crew_conf conf = {.agent = r->agent,
        .rank_program = r->rank,
        .folder = r->folder,
        .job = r->spec.name,
        .serve_port = (uint16_t)r->conf.port,
        .gpus = kind && !strcmp(kind, "cuda") ? r->spec.device.per_replica : 0};
    crew_init(&r->crew, &conf);
    /* A program's own lines are what a person runs it for: no picture is drawn over them. */
    terminal_init(&r->terminal, STDOUT_FILENO, r->conf.plain || r->spec.task == TASK_RUN);
    return 0;
}

/* well: all went well; then the folder with the logs goes, unless it is to be kept. */
static void clean_up(struct local_run *r, bool well)
{
    struct err ignored;
    terminal_leave(&r->terminal, NULL);
    for (int i = 0; i < r->crew.count; i++)
        spawn_signal_group(&r->crew.members[i].child, SIGKILL);
    crew_shrink(&r->crew, 0, 0);
    if (*r->folder && !r->conf.keep && well)
        io_remove_tree(r->folder, &ignored);
    else if (*r->folder)
        command_print(stderr, "llmjob run: logs are in %s", r->folder);
    lease_drop(&r->leases[0]);
    lease_drop(&r->leases[1]);
    io_close(r->signals);
    listed_done(&r->listed);
    arena_destroy(r->reports[0]);
    arena_destroy(r->reports[1]);
    arena_destroy(r->scratch);
    arena_destroy(r->job_arena);
}

int command_run(int argc, char **argv, int *status, struct err *e)
{
    struct local_run r = {.signals = -1, .leases = {{.fd = -1}, {.fd = -1}}};
    int rc = command_flags(run_items, run_usage, "job file", argc, argv, &r.conf, &r.file, e);
    if (rc <= 0)
        return rc;
    if (r.conf.port < 0 || r.conf.port > 65535)
        return err_set(e, ERR_USER, "port: %lld is outside 0..65535", (long long)r.conf.port);
    rc = prepare_job(&r, e);
    if (!rc && search_wanted(&r.spec)) {
        const struct trials_conf trials = {.spec = &r.spec,
            .agent = r.agent,
            .rank = r.rank,
            .keep = r.conf.keep,
            .output_lease = &r.leases[1],
            .signals = r.signals};
        rc = trials_run(&trials, status, e);
    } else if (!rc && !(rc = prepare_run(&r, e)) && !(rc = run_turns(&r, e))) {
        say_how_it_ended(&r, status);
        release_agents(&r);
    }
    clean_up(&r, !rc && !*status);
    return rc;
}
