/*
 * trials: the controller's place for a search (controller/plan/plan_search): api/search says what
 * is to run, this starts it, waits, and writes down what it came to. A trial's figure is the last
 * one in its metrics.jsonl. The record is replaced as a whole after each end; a search of other
 * trials in the same folder is refused before anything is started.
 */
#include "cli/trials.h"

#include "api/exitcode.h"
#include "api/names.h"
#include "api/search.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli/command.h"
#include "cli/curves.h"
#include "cli/spawn.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_FILE  "search.json"
#define RECORD_BYTES (1 << 20)
#define PATH_ROOM    (LIMIT_PATH_BYTES + 64)

struct trial_child {
    struct child child;
    struct search_run run;
};

struct trials {
    const struct trials_conf *conf;
    struct arena *arena;
    char self[512];
    struct search search;
    struct search_run ended[SEARCH_RUNS];
    int ended_count;
    struct trial_child running[LIMIT_PARALLEL_TRIALS];
    int running_count;
    int interrupts;
    int failure; /* exit status of the first that failed */
};

static const char *path_of(const struct trials *t, char out[PATH_ROOM], const char *name)
{
    snprintf(out, PATH_ROOM, "%s/%s", t->conf->spec->checkpoint.path, name);
    return out;
}

/* A file of a run, beside the checkpoints: "t3-r1.log", or "best.log" of the one that writes. */
static const char *file_of(
    const struct trials *t, char out[PATH_ROOM], const struct search_run *r, const char *end)
{
    const struct jobspec *s = t->conf->spec;
    char name[SEARCH_NAME_BYTES], file[SEARCH_NAME_BYTES + 8];
    search_name(s, r->writes ? SEARCH_MODEL : r->trial, r->rung, name);
    snprintf(file, sizeof file, "%s%s", name + strnlen(s->name, SEARCH_JOB_NAME) + 1, end);
    return path_of(t, out, file);
}

static bool is_run(const struct search_run *r, int trial, int rung)
{
    return r->writes ? trial == SEARCH_MODEL : r->trial == trial && r->rung == rung;
}

/* search_look_fn */
static enum trial_state look_at_run(void *user, int trial, int rung, double *value)
{
    const struct trials *t = user;
    for (int i = 0; i < t->ended_count; i++)
        if (is_run(&t->ended[i], trial, rung)) {
            *value = t->ended[i].value;
            return t->ended[i].state;
        }
    for (int i = 0; i < t->running_count; i++)
        if (is_run(&t->running[i].run, trial, rung))
            return TRIAL_RUNNING;
    return TRIAL_WAITING;
}

/* -- the record -- */

static int write_record(const struct trials *t, struct err *e)
{
    const struct jobspec *s = t->conf->spec;
    char path[PATH_ROOM];
    buf_auto struct buf text;
    struct jsonw w;
    buf_init(&text, RECORD_BYTES);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "metric", search_metric_name(s));
    jsonw_open(&w, "trials", '[');
    for (int i = 0; i < t->ended_count; i++) {
        const struct search_run *r = &t->ended[i];
        const char *parameters = search_parameters(s, r->trial, t->arena);
        if (r->writes)
            continue;
        jsonw_open(&w, NULL, '{');
        jsonw_int(&w, "trial", r->trial);
        jsonw_int(&w, "rung", r->rung);
        jsonw_int(&w, "steps", search_steps(s, r->rung));
        jsonw_str(&w, "state", trial_state_name(r->state));
        if (r->state == TRIAL_SUCCEEDED)
            jsonw_num(&w, "value", r->value);
        jsonw_str(&w, "parameters", parameters ? parameters : "");
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "out of memory writing " RECORD_FILE);
    return io_write_file(path_of(t, path, RECORD_FILE), text.data, text.len, 0644, e);
}

static int read_run(struct trials *t, const struct json *v, const char *path, struct err *e)
{
    const struct jobspec *s = t->conf->spec;
    int64_t trial = json_int(v, "trial", -1), rung = json_int(v, "rung", -1);
    bool failed = !strcmp(json_str(v, "state", ""), trial_state_name(TRIAL_FAILED));
    if (trial < 0 || trial >= LIMIT_TRIALS || rung < 0 || t->ended_count == SEARCH_RUNS)
        return err_set(e, ERR_DATA, "%s: no record of a search", path);
    if (trial >= search_trials(s) || rung >= search_rungs(s))
        return 0; /* of a search that was longer */
    const char *parameters = search_parameters(s, (int)trial, t->arena);
    const char *were = json_str(v, "parameters", "");
    if (!parameters)
        return err_set(e, ERR_MEMORY, "out of memory reading %s", path);
    if (strcmp(were, parameters) != 0 || json_int(v, "steps", -1) != search_steps(s, (int)rung))
        return err_set(e, ERR_USER,
            "spec.checkpoint.path: %s is of another search: trial %d had %.100s and %lld steps, "
            "and has %.100s and %lld now",
            path, (int)trial, were, (long long)json_int(v, "steps", -1), parameters,
            (long long)search_steps(s, (int)rung));
    t->ended[t->ended_count++] = (struct search_run){.trial = (int)trial,
        .rung = (int)rung,
        .state = failed ? TRIAL_FAILED : TRIAL_SUCCEEDED,
        .value = json_num(v, "value", NAN)};
    return 0;
}

/* What failed is tried again: what was in its way may be gone. */
static int read_record(struct trials *t, struct err *e)
{
    char path[PATH_ROOM];
    struct stat st;
    if (stat(path_of(t, path, RECORD_FILE), &st))
        return 0;
    buf_auto struct buf text;
    json_auto struct json *tree = NULL;
    buf_init(&text, RECORD_BYTES);
    int rc = io_read_file(path, RECORD_BYTES - 1, &text, e);
    if (rc)
        return rc;
    if (json_parse(buf_cstr(&text), text.len, &tree, e))
        return err_wrap(e, "%s", path);
    const char *metric = json_str(tree, "metric", "");
    if (strcmp(metric, search_metric_name(t->conf->spec)) != 0)
        return err_set(e, ERR_USER,
            "spec.checkpoint.path: %s is of another search: its metric was %.40s", path, metric);
    json_each (v, json_get(tree, "trials"))
        if ((rc = read_run(t, v, path, e)))
            return rc;
    int kept = 0;
    for (int i = 0; i < t->ended_count; i++)
        if (t->ended[i].state == TRIAL_SUCCEEDED)
            t->ended[kept++] = t->ended[i];
    t->ended_count = kept;
    return 0;
}

/* -- a trial -- */

static void say_begin(const struct trials *t, const struct search_run *r, int64_t steps)
{
    const char *parameters = search_parameters(t->conf->spec, r->trial, t->arena);
    char many[32] = "";
    if (steps)
        snprintf(many, sizeof many, ", %lld steps", (long long)steps);
    if (r->writes)
        command_print(stdout, "the model of trial %d is written", r->trial);
    else
        command_print(
            stdout, "trial %d begins: %s%s", r->trial, parameters ? parameters : "", many);
    fflush(stdout);
}

static int start_trial(struct trials *t, const struct search_run *r, struct err *e)
{
    char file[PATH_ROOM], log[PATH_ROOM];
    struct jobspec job;
    buf_auto struct buf text;
    buf_init(&text, LIMIT_JOB_FILE_BYTES);
    file_of(t, file, r, ".json");
    file_of(t, log, r, ".log");
    int rc = search_job(t->conf->spec, r, t->arena, &job, e);
    if (rc || (rc = jobspec_encode(&job, &text, e)) ||
        (rc = io_write_file(file, text.data, text.len, 0644, e)))
        return rc;
    const char *const argv[] = {t->self, "run", file, "--plain", "--agent", t->conf->agent,
        "--rank-program", t->conf->rank, t->conf->keep ? "--keep" : NULL, NULL};
    struct trial_child *c = &t->running[t->running_count];
    *c = (struct trial_child){.run = *r};
    if ((rc = spawn_start(argv, NULL, -1, log, &c->child, e)))
        return rc;
    t->running_count++;
    say_begin(t, r, job.train.steps);
    return 0;
}

static double read_value(const struct trials *t, const struct search_run *r)
{
    struct jobspec job;
    struct curves m;
    struct err ignored;
    if (search_job(t->conf->spec, r, t->arena, &job, &ignored) ||
        curves_read(job.checkpoint.path, &m, &ignored))
        return NAN;
    double value = search_metric(t->conf->spec,
        (struct search_figures){curves_last(&m, CURVE_LOSS), curves_last(&m, CURVE_VALIDATION_LOSS),
            curves_last(&m, CURVE_VALIDATION_F1), curves_last(&m, CURVE_VALIDATION_MATCH)});
    curves_free(&m);
    return value;
}

static void say_end(const struct trials *t, const struct search_run *r, int status)
{
    char log[PATH_ROOM];
    file_of(t, log, r, ".log");
    if (r->state == TRIAL_SUCCEEDED && !r->writes)
        command_print(stdout, "trial %d is complete: %s %.4f", r->trial,
            search_metric_name(t->conf->spec), r->value);
    else if (r->state == TRIAL_FAILED && !r->writes)
        command_print(stdout, "trial %d failed%s: see %s", r->trial,
            status ? "" : ", it has not reported the metric", log);
    fflush(stdout);
}

/* What a run came to goes into the record, unless it was only stopped. */
static int note_end(struct trials *t, const struct trial_child *c, int status, struct err *e)
{
    struct search_run r = c->run;
    char log[PATH_ROOM];
    file_of(t, log, &r, ".log");
    if (status == EXIT_CLASS_DRAINED || (status && t->interrupts)) {
        command_print(stdout, "trial %d is stopped", r.trial);
        return t->interrupts
            ? 0
            : err_set(e, ERR_DRAINED, "trial %d was stopped; see %s", r.trial, log);
    }
    if (!r.writes)
        r.value = status == EXIT_CLASS_DONE ? read_value(t, &r) : NAN;
    bool failed = status != EXIT_CLASS_DONE || isnan(r.value);
    r.state = failed ? TRIAL_FAILED : TRIAL_SUCCEEDED;
    if (failed && !t->failure)
        t->failure = status ? status : EXIT_CLASS_DATA;
    t->ended[t->ended_count++] = r;
    say_end(t, &r, status);
    return write_record(t, e);
}

static int reap_trials(struct trials *t, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < t->running_count && !rc;) {
        struct trial_child c = t->running[i];
        int status;
        if (!spawn_ended(&t->running[i].child, &status)) {
            i++;
            continue;
        }
        t->running[i] = t->running[--t->running_count];
        rc = note_end(t, &c, status, e);
    }
    return rc;
}

/* -- the loop -- */

static void take_signals(struct trials *t)
{
    struct signalfd_siginfo info;
    while (read(t->conf->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGWINCH)
            continue;
        if (++t->interrupts == 1)
            command_print(stdout, "saving checkpoints, then ending; Ctrl-C again ends at once");
        fflush(stdout);
        for (int i = 0; i < t->running_count; i++)
            spawn_signal(&t->running[i].child, SIGTERM);
    }
}

static void wait_for_news(const struct trials *t)
{
    struct pollfd p[LIMIT_PARALLEL_TRIALS + 1] = {{.fd = t->conf->signals, .events = POLLIN}};
    for (int i = 0; i < t->running_count; i++)
        p[i + 1] = (struct pollfd){.fd = t->running[i].child.pidfd, .events = POLLIN};
    poll(p, (nfds_t)t->running_count + 1, -1);
}

/* Those that run and do not count any more, of a search that stopped early. */
static void end_trials(struct trials *t)
{
    for (int i = 0; i < t->running_count; i++)
        spawn_end(&t->running[i].child, clock_ms() + 10000);
    t->running_count = 0;
}

static int start_trials(struct trials *t, struct err *e)
{
    const struct search *x = &t->search;
    int left = t->interrupts ? 0 : x->slots;
    if (left && x->model >= 0) {
        end_trials(t);
        lease_drop(t->conf->output_lease);
        t->failure = 0;
    }
    for (int i = 0; i < x->count && left > 0; i++) {
        if (x->runs[i].state != TRIAL_WAITING)
            continue;
        int rc = start_trial(t, &x->runs[i], e);
        if (rc)
            return rc;
        left--;
    }
    return 0;
}

/* Until the search is over, or all is stopped. */
static int run_trials(struct trials *t, struct err *e)
{
    for (;;) {
        take_signals(t);
        int rc = reap_trials(t, e);
        if (rc)
            return rc;
        search_decide(t->conf->spec, look_at_run, t, &t->search);
        if ((rc = start_trials(t, e)))
            return rc;
        if (t->search.over || (t->interrupts && !t->running_count))
            return 0;
        wait_for_news(t);
    }
}

/* -- the end -- */

static void print_table(const struct trials *t)
{
    const struct jobspec *s = t->conf->spec;
    command_print(
        stdout, "%5s %7s  %-9s %15s  parameters", "trial", "steps", "state", search_metric_name(s));
    for (int i = 0; i < t->search.count; i++) {
        const struct search_run *r = &t->search.runs[i];
        const char *parameters = search_parameters(s, r->trial, t->arena);
        char value[32] = "", steps[24] = "";
        if (r->writes)
            continue;
        if (!isnan(r->value))
            snprintf(value, sizeof value, "%.4f", r->value);
        if (search_steps(s, r->rung))
            snprintf(steps, sizeof steps, "%lld", (long long)search_steps(s, r->rung));
        command_print(stdout, "%5d %7s  %-9s %15s  %s%s", r->trial, steps,
            trial_state_name(r->state), value, parameters ? parameters : "",
            i == t->search.best ? "   <- best" : "");
    }
}

static void say_how_it_ended(struct trials *t, int *status)
{
    const struct jobspec *s = t->conf->spec;
    const struct search *x = &t->search;
    const struct search_run *model = x->model >= 0 ? &x->runs[x->model] : NULL;
    char log[PATH_ROOM];
    print_table(t);
    if (!x->over) {
        *status = EXIT_CLASS_DRAINED;
        command_print(stdout, "%s is suspended; run it again to go on", s->name);
    } else if (model && model->state == TRIAL_SUCCEEDED) {
        *status = EXIT_CLASS_DONE;
        command_print(stdout, "%s is complete: the best trial is %d: %s", s->name, model->trial,
            s->train.output);
    } else {
        *status = t->failure ? t->failure : EXIT_CLASS_DATA;
        if (model)
            command_print(stderr,
                "llmjob run: %s failed: the best trial is %d, but its model was not written: see "
                "%s",
                s->name, model->trial, file_of(t, log, model, ".log"));
        else
            command_print(stderr, "llmjob run: %s failed: all %d trials did", s->name, x->failed);
    }
}

static int find_self(struct trials *t, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", t->self, sizeof t->self - 1);
    if (n <= 0)
        return err_set(e, ERR_BUG, "/proc/self/exe cannot be read");
    t->self[n] = 0;
    return io_mkdirs(t->conf->spec->checkpoint.path, 0755, e);
}

int trials_run(const struct trials_conf *conf, int *status, struct err *e)
{
    struct trials *t = mem_zalloc(sizeof *t);
    if (!t || !(t->arena = arena_create(64 << 20))) {
        mem_free(t);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    t->conf = conf;
    int rc;
    if (!(rc = find_self(t, e)) && !(rc = read_record(t, e)) && !(rc = run_trials(t, e)))
        say_how_it_ended(t, status);
    end_trials(t);
    arena_destroy(t->arena);
    mem_free(t);
    return rc;
}
