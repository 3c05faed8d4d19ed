/*
 * search: a hyper-parameter search as pure functions of its spec: what a trial's parameters are,
 * what spec it trains by, which trials are to run now, when the search is over and which is best.
 *
 * A run is a trial at a rung. Random and Grid have one rung; SuccessiveHalving trains all trials to
 * search.halving.minSteps, the best of them (one of `factor`) to `factor` times as many, and so on;
 * the last rung has train.steps. A rung begins when the one before is over, so what is promoted
 * never depends on which trial was faster. A promoted trial goes on from its own checkpoint. When
 * all are over the best of them is gone on with once more, from its last checkpoint: that run has
 * no step to take and writes the model into the search's output, as every training does at its end.
 * Parameters depend on the spec and the trial's number alone. Nothing here keeps state: whoever
 * runs the trials says what has become of each (search_look_fn).
 */
#ifndef API_SEARCH_H
#define API_SEARCH_H

#include "api/jobspec.h"
#include "base/field.h"

#define SEARCH_RUNS       512 /* of all rungs: LIMIT_TRIALS (1 + 1/2 + 1/4 + ...) */
#define SEARCH_NAME_BYTES 80
#define SEARCH_JOB_NAME   50 /* characters of a job that has a search: its trials add some */

enum trial_state { TRIAL_WAITING, TRIAL_RUNNING, TRIAL_SUCCEEDED, TRIAL_FAILED };

struct search_run {
    int trial, rung;
    enum trial_state state;
    double value; /* of the metric, once it has succeeded; else NaN */
    bool writes;  /* the model of the trial's run at that rung, which is over */
};

struct search {
    /* Of the rungs that have begun, by rung, then trial; then, once they are over, the one that
       writes. */
    struct search_run runs[SEARCH_RUNS];
    int count;
    int total;                      /* runs of all rungs, had none failed */
    int running, succeeded, failed; /* of trials */
    int slots; /* how many waiting runs may begin now, the first ones in order */
    bool over; /* nothing is left to run */
    int best;  /* of runs, among those of the highest rung; -1: none has succeeded */
    int model; /* of runs, the one that writes; -1: it is not its turn yet, or never will be */
};

/* What has become of a run; *value: of the metric, NaN when there is none. Trial and rung
 * SEARCH_MODEL: of the one that writes. */
#define SEARCH_MODEL (-1)
typedef enum trial_state search_look_fn(void *user, int trial, int rung, double *value);

/* For the tables of api/jobspec. */
extern const char *const search_algorithms[], *const search_metrics[], *const search_goals[];
extern const struct field_table search_parameter_table;

bool search_wanted(const struct jobspec *s); /* has it a search? */
int search_trials(const struct jobspec *s);
int search_rungs(const struct jobspec *s);
int64_t search_steps(const struct jobspec *s, int rung); /* to train to; 0: epochs */
void search_decide(const struct jobspec *s, search_look_fn *look, void *user, struct search *out);

/* "<job>-t<trial>", and of a rung above the first one "-r<rung>" behind it; "<job>-best" of trial
 * SEARCH_MODEL. */
void search_name(const struct jobspec *s, int trial, int rung, char out[SEARCH_NAME_BYTES]);
/* The job of a run: its parent's, with the trial's parameters, and folders of its own below those
 * of the parent, but the parent's output, into which none but the one that writes does so. Strings
 * live in the arena or are the parent's. */
int search_job(const struct jobspec *s, const struct search_run *r, struct arena *a,
    struct jobspec *out, struct err *e);
/* "optimizer.learningRate 0.001, lora.rank 8"; NULL when out of memory. */
const char *search_parameters(const struct jobspec *s, int trial, struct arena *a);
/* The i-th number of a training that a search may set; false: the job has none such. i counts up to
 * SEARCH_NUMBERS. */
#define SEARCH_NUMBERS 18
bool search_number(const struct jobspec *s, int i, const char **name, double *value);
const char *search_metric_name(const struct jobspec *s); /* "validationLoss", ... */
const char *trial_state_name(enum trial_state s); /* "Waiting", "Running", "Succeeded", "Failed" */
struct search_figures { /* of a training at its end; NaN: not known of it */
    double loss, validation_loss, validation_f1, validation_match;
};
double search_metric(const struct jobspec *s, struct search_figures of);

/* Trial's parameters and steps alone, into out, which is a copy of s. */
void search_set(const struct jobspec *s, int trial, int rung, struct jobspec *out);
/* What no rule says of spec.search: its values are those of what they are set as, and each trial
 * keeps the rules. body: as jobspec_check's. */
int search_check(
    const struct field_source *f, const struct jobspec *s, const struct json *body, struct err *e);

#endif
