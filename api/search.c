/*
 * search: the trial table, the rungs, and what no rule says of it. Everything is computed anew from
 * the spec and from what is said of the runs; a tie goes to the trial with the lower number. A
 * drawn value is rounded to four digits, so that what a person reads is what a trial trains with.
 * It must not look at a clock, a file or an environment.
 */
#include "api/search.h"

#include "api/rows.h"
#include "api/rules.h"
#include "base/random.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define PARAMETER_BYTES 64
#define FOLDER_BYTES    16 /* "/t255-r8" */
#define VALUE_MAX       1e9

/* -- the spec's part: names, and the table of a parameter -- */

const char *const search_algorithms[] = {"Random", "Grid", "SuccessiveHalving", NULL};
const char *const search_metrics[] = {
    "loss", "validationLoss", "validationF1", "validationMatch", NULL};
const char *const search_goals[] = {"Minimize", "Maximize", NULL};
static const char *const scale_names[] = {"Linear", "Log", NULL};
/* What may differ between trials: each is a number of spec.train. */
static const char *const parameter_names[] = {"batchSequences", "dropout", "attentionDropout",
    "seed", "lora.rank", "lora.alpha", "lora.dropout", "optimizer.learningRate",
    "optimizer.minLearningRate", "optimizer.warmupSteps", "optimizer.decaySteps",
    "optimizer.layerDecay", "optimizer.weightDecay", "optimizer.momentum", "optimizer.beta1",
    "optimizer.beta2", "optimizer.epsilon", "optimizer.clipNorm", NULL};

#define TABLE struct jobspec_parameter
static const struct field parameter_rows[] = {
    {ROW("name", ENUM, name, NULL), .info = parameter_names},
    {ROW("values", NUMBERS, values, ""), RANGE(1, LIMIT_SEARCH_VALUES), COUNTED(value_count)},
    {ROW("min", NUM, min, "-1"), RANGE(0, VALUE_MAX)},
    {ROW("max", NUM, max, "-1"), RANGE(0, VALUE_MAX)},
    {ROW("scale", ENUM, scale, "Linear"), .info = scale_names},
};
const struct field_table search_parameter_table = TABLE_OF(parameter_rows);
#undef TABLE

bool search_wanted(const struct jobspec *s)
{
    return s->task == TASK_TRAIN && s->search.parameter_count > 0;
}

const char *trial_state_name(enum trial_state s)
{
    static const char *const names[] = {"Waiting", "Running", "Succeeded", "Failed"};
    return names[s];
}

double search_metric(const struct jobspec *s, struct search_figures of)
{
    switch (s->search.metric) {
    case SEARCH_LOSS:
        return of.loss;
    case SEARCH_VALIDATION_LOSS:
        return of.validation_loss;
    case SEARCH_VALIDATION_F1:
        return of.validation_f1;
    case SEARCH_VALIDATION_MATCH:
        break;
    }
    return of.validation_match;
}

const char *search_metric_name(const struct jobspec *s)
{
    return search_metrics[s->search.metric];
}

/* -- trials -- */

/* Points of the grid; LIMIT_TRIALS + 1 when there are more. */
static int grid_size(const struct jobspec_search *x)
{
    int n = 1;
    for (int i = 0; i < x->parameter_count && n <= LIMIT_TRIALS; i++)
        n *= x->parameters[i].value_count;
    return n <= LIMIT_TRIALS ? n : LIMIT_TRIALS + 1;
}

int search_trials(const struct jobspec *s)
{
    return s->search.algorithm == SEARCH_GRID ? grid_size(&s->search) : s->search.max_trials;
}

static const struct field *field_of(const struct jobspec_parameter *p)
{
    char path[PARAMETER_BYTES];
    snprintf(path, sizeof path, "train.%s", parameter_names[p->name]);
    return jobspec_field(path);
}

bool search_number(const struct jobspec *s, int i, const char **name, double *value)
{
    const struct field *f = field_of(&(struct jobspec_parameter){.name = i});
    const void *at = (const char *)s + f->offset;
    static_assert(sizeof parameter_names / sizeof *parameter_names == SEARCH_NUMBERS + 1,
        "a name for each number");
    *name = parameter_names[i];
    *value = f->kind == FIELD_INT ? *(const int *)at
        : f->kind == FIELD_I64    ? (double)*(const int64_t *)at
                                  : *(const double *)at;
    bool lora = !strncmp(*name, "lora.", 5);
    return field_inside(f, *value) && (!lora || s->train.method == METHOD_LORA);
}

/* Which of the values: the last parameter of a grid changes with every trial. */
static double grid_value(const struct jobspec_search *x, int trial, int at)
{
    for (int i = x->parameter_count - 1; i > at; i--)
        trial /= x->parameters[i].value_count;
    return x->parameters[at].values[trial % x->parameters[at].value_count];
}

static double round_digits(double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.4g", v);
    return strtod(text, NULL);
}

static double drawn_value(const struct jobspec_search *x, int trial, int at)
{
    const struct jobspec_parameter *p = &x->parameters[at];
    uint64_t bits =
        random_mix(random_mix(x->seed) + (uint64_t)trial * LIMIT_SEARCH_PARAMETERS + (uint64_t)at);
    double u = (double)(bits >> 11) * 0x1p-53; /* 0 <= u < 1 */
    if (p->value_count)
        return p->values[(int)(u * p->value_count)];
    bool whole = field_of(p)->kind != FIELD_NUM;
    double v = p->scale == SEARCH_LOG ? p->min * exp(u * log(p->max / p->min))
        : whole                       ? p->min + u * (p->max - p->min + 1)
                                      : p->min + u * (p->max - p->min);
    v = whole ? floor(v) : round_digits(v);
    return v < p->min ? p->min : v > p->max ? p->max : v;
}

static double value_of(const struct jobspec_search *x, int trial, int at)
{
    return x->algorithm == SEARCH_GRID ? grid_value(x, trial, at) : drawn_value(x, trial, at);
}

void search_set(const struct jobspec *s, int trial, int rung, struct jobspec *out)
{
    for (int i = 0; i < s->search.parameter_count; i++) {
        const struct field *f = field_of(&s->search.parameters[i]);
        void *at = (char *)out + f->offset;
        double v = value_of(&s->search, trial, i);
        if (f->kind == FIELD_INT)
            *(int *)at = (int)v;
        else if (f->kind == FIELD_I64)
            *(int64_t *)at = (int64_t)v;
        else
            *(double *)at = v;
    }
    out->train.steps = search_steps(s, rung);
}

const char *search_parameters(const struct jobspec *s, int trial, struct arena *a)
{
    const char *text = "";
    for (int i = 0; i < s->search.parameter_count && text; i++)
        text = arena_printf(a, "%s%s%s %.10g", text, i ? ", " : "",
            parameter_names[s->search.parameters[i].name], value_of(&s->search, trial, i));
    return text;
}

/* -- rungs -- */

static int rung_size(const struct jobspec *s, int rung)
{
    int n = search_trials(s);
    for (int i = 0; i < rung; i++)
        n /= s->search.halving.factor;
    return n > 1 ? n : 1;
}

static int64_t steps_by_factor(const struct jobspec *s, int rung)
{
    int64_t steps = s->search.halving.min_steps; /* at most 1e9, the factor at most 10 */
    for (int i = 0; i < rung && steps < s->train.steps; i++)
        steps *= s->search.halving.factor;
    return steps;
}

/* The last rung is that of one trial, or of all steps. */
int search_rungs(const struct jobspec *s)
{
    int last = 0;
    if (s->search.algorithm == SEARCH_SUCCESSIVE_HALVING)
        while (rung_size(s, last) > 1 && steps_by_factor(s, last) < s->train.steps)
            last++;
    return last + 1;
}

int64_t search_steps(const struct jobspec *s, int rung)
{
    return rung + 1 < search_rungs(s) ? steps_by_factor(s, rung) : s->train.steps;
}

/* -- what is to be done -- */

static bool has_ended(const struct search_run *r)
{
    return r->state == TRIAL_SUCCEEDED || r->state == TRIAL_FAILED;
}

static bool is_better(
    const struct jobspec *s, const struct search_run *a, const struct search_run *b)
{
    if (b->state != TRIAL_SUCCEEDED || a->state != TRIAL_SUCCEEDED)
        return a->state == TRIAL_SUCCEEDED && b->state != TRIAL_SUCCEEDED;
    if (a->value != b->value)
        return s->search.goal == SEARCH_MAXIMIZE ? a->value > b->value : a->value < b->value;
    return a->trial < b->trial;
}

static void add_run(struct search *x, int trial, int rung, search_look_fn *look, void *user)
{
    assert(x->count < SEARCH_RUNS);
    struct search_run *r = &x->runs[x->count++];
    *r = (struct search_run){.trial = trial, .rung = rung, .value = NAN};
    r->state = look(user, trial, rung, &r->value);
    /* Without the figure there is nothing to compare. */
    if (r->state == TRIAL_SUCCEEDED && isnan(r->value))
        r->state = TRIAL_FAILED;
    if (r->state != TRIAL_SUCCEEDED)
        r->value = NAN;
}

/* The rank of a run among those of its rung: how many are better. */
static int rank_of(const struct jobspec *s, const struct search *x, int from, int to, int i)
{
    int better = 0;
    for (int k = from; k < to; k++)
        better += is_better(s, &x->runs[k], &x->runs[i]);
    return better;
}

/* The runs of the next rung, when all of runs[from..] are over and some are to go on. */
static void promote(
    const struct jobspec *s, struct search *x, int from, int rung, search_look_fn *look, void *user)
{
    int to = x->count, most = rung_size(s, rung);
    for (int i = from; i < to; i++)
        if (!has_ended(&x->runs[i]))
            return;
    for (int i = from; i < to; i++)
        if (x->runs[i].state == TRIAL_SUCCEEDED && rank_of(s, x, from, to, i) < most)
            add_run(x, x->runs[i].trial, rung, look, user);
}

/* So many trials count: all up to the one after which none has been better for long enough. What
 * comes later does not, though it may have been quicker. */
static int trials_that_count(const struct jobspec *s, const struct search *x)
{
    int best = -1;
    for (int i = 0; i < x->count && has_ended(&x->runs[i]); i++) {
        if (best < 0 || is_better(s, &x->runs[i], &x->runs[best]))
            best = i;
        if (i - best >= s->search.early_stop_trials)
            return i + 1;
    }
    return x->count;
}

static void sum_up(const struct jobspec *s, struct search *x)
{
    x->best = x->model = -1;
    int waiting = 0;
    for (int i = 0; i < x->count; i++) {
        const struct search_run *r = &x->runs[i];
        x->running += r->state == TRIAL_RUNNING;
        x->succeeded += r->state == TRIAL_SUCCEEDED;
        x->failed += r->state == TRIAL_FAILED;
        waiting += r->state == TRIAL_WAITING;
        if (r->state == TRIAL_SUCCEEDED &&
            (x->best < 0 || r->rung > x->runs[x->best].rung || is_better(s, r, &x->runs[x->best])))
            x->best = i;
    }
    int free_slots = s->search.parallel_trials - x->running;
    x->over = !waiting && !x->running;
    x->slots = free_slots < 0 ? 0 : free_slots < waiting ? free_slots : waiting;
}

/* Of a search whose trials are over. */
static void add_model(struct search *x, search_look_fn *look, void *user)
{
    double ignored;
    if (!x->over || x->best < 0)
        return;
    assert(x->count < SEARCH_RUNS);
    x->model = x->count++;
    struct search_run *r = &x->runs[x->model];
    *r = x->runs[x->best];
    r->writes = true;
    r->state = look(user, SEARCH_MODEL, SEARCH_MODEL, &ignored);
    x->over = has_ended(r);
    x->slots = r->state == TRIAL_WAITING;
}

void search_decide(const struct jobspec *s, search_look_fn *look, void *user, struct search *out)
{
    struct search *x = out;
    int rungs = search_rungs(s), n = search_trials(s);
    *x = (struct search){.count = 0};
    for (int i = 0; i < n; i++)
        add_run(x, i, 0, look, user);
    for (int rung = 0, from = 0; rung < rungs; rung++) {
        int begun = x->count;
        x->total += rung_size(s, rung);
        if (rung + 1 < rungs && begun > from)
            promote(s, x, from, rung + 1, look, user);
        from = begun;
    }
    if (s->search.early_stop_trials && rungs == 1)
        x->count = x->total = trials_that_count(s, x);
    sum_up(s, x);
    add_model(x, look, user);
}

/* -- the job of a run -- */

static void folder_name(int trial, int rung, char out[FOLDER_BYTES])
{
    snprintf(out, FOLDER_BYTES, rung ? "t%d-r%d" : "t%d", trial, rung);
}

void search_name(const struct jobspec *s, int trial, int rung, char out[SEARCH_NAME_BYTES])
{
    char tail[FOLDER_BYTES] = "best";
    if (trial != SEARCH_MODEL)
        folder_name(trial, rung, tail);
    snprintf(out, SEARCH_NAME_BYTES, "%.*s-%s", SEARCH_JOB_NAME, s->name, tail);
}

/* A trial has one checkpoint, from which it goes on in the next rung, and at last to be written. */
static int set_paths(const struct jobspec *s, const struct search_run *r, struct arena *a,
    struct jobspec *out, struct err *e)
{
    char folder[FOLDER_BYTES], writer[SEARCH_NAME_BYTES];
    folder_name(r->trial, 0, folder);
    search_name(s, SEARCH_MODEL, SEARCH_MODEL, writer);
    out->checkpoint.path = arena_printf(a, "%s/%s", s->checkpoint.path, folder);
    if (s->train.tensorboard)
        out->train.tensorboard = arena_printf(a, "%s/%s", s->train.tensorboard, folder);
    out->train.exported_by = r->writes ? NULL : arena_strdup(a, writer);
    bool whole = out->checkpoint.path && (r->writes || out->train.exported_by) &&
        (!s->train.tensorboard || out->train.tensorboard);
    return whole ? 0 : err_set(e, ERR_MEMORY, "no memory for a trial");
}

int search_job(const struct jobspec *s, const struct search_run *r, struct arena *a,
    struct jobspec *out, struct err *e)
{
    char name[SEARCH_NAME_BYTES];
    struct jobspec child = *s;
    search_name(s, r->writes ? SEARCH_MODEL : r->trial, r->rung, name);
    search_set(s, r->trial, r->rung, &child);
    child.search = (struct jobspec_search){.parameter_count = 0};
    child.name = arena_strdup(a, name);
    child.uid = "";
    child.generation = 1;
    child.suspend = false;
    /* The whole search's, which the parent keeps. */
    child.active_deadline_seconds = 0;
    child.ttl_seconds_after_finished = -1;
    if (!child.name)
        return err_set(e, ERR_MEMORY, "no memory for a trial");
    int rc = set_paths(s, r, a, &child, e);
    if (!rc)
        *out = child;
    return rc;
}

/* -- rules -- */

static int check_values(const struct field_source *f, const struct jobspec *s, int i, struct err *e)
{
    const struct jobspec_parameter *p = &s->search.parameters[i];
    const struct field *row = field_of(p);
    int n = p->value_count ? p->value_count : 2;
    for (int k = 0; k < n; k++) {
        double v = p->value_count ? p->values[k] : k ? p->max : p->min;
        bool fits = field_inside(row, v) && (row->kind == FIELD_NUM || floor(v) == v);
        char path[48];
        snprintf(path, sizeof path, "search.parameters[%d]", i);
        if (!fits)
            return field_refuse(f, path, e, "%.10g is no value of spec.%s", v, row->path);
    }
    return 0;
}

/* Only rules that read what trials set can be broken by one. */
static int check_trial(const struct field_source *f, const struct jobspec *s,
    const struct json *body, int trial, struct err *e)
{
    struct jobspec child = *s;
    struct json *subject json_auto = NULL;
    search_set(s, trial, search_rungs(s) - 1, &child);
    int rc = rules_subject(&child, body, &subject, e);
    for (int i = 0; i < s->search.parameter_count && !rc; i++) {
        const char *name = parameter_names[s->search.parameters[i].name];
        const char *dot = strrchr(name, '.');
        rc = rules_check(f, subject, dot ? dot + 1 : name, e);
    }
    return rc ? err_wrap(e, "spec.search: trial %d", trial) : 0;
}

int search_check(
    const struct field_source *f, const struct jobspec *s, const struct json *body, struct err *e)
{
    const char *const folders[] = {s->checkpoint.path, s->train.tensorboard};
    int rc = 0;
    for (int i = 0; i < s->search.parameter_count && !rc; i++)
        rc = check_values(f, s, i, e);
    if (!rc && s->search.algorithm == SEARCH_GRID && grid_size(&s->search) > s->search.max_trials)
        rc = field_refuse(f, "search.maxTrials", e, "the grid has more points than these %d",
            s->search.max_trials);
    for (int i = 0; i < 2 && !rc; i++)
        if (folders[i] && strlen(folders[i]) + FOLDER_BYTES > LIMIT_PATH_BYTES)
            rc = field_refuse(
                f, "search", e, "%.60s...: too long for a folder below it", folders[i]);
    for (int trial = 0; trial < search_trials(s) && !rc; trial++)
        rc = check_trial(f, s, body, trial, e);
    return rc;
}
