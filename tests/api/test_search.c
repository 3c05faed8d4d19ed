/*
 * Goal: a search is a function of its spec: parameters depend on nothing but the trial's number, a
 * grid has every point once, and whatever the order in which trials end, the same ones are promoted
 * and the same one is best. Method: tables; searches stepped to their ends in random orders, the
 * seed printed.
 */
#include "api/search.h"

#include "tests/api/jobspecs.h"
#include "tests/unit.h"

#include <math.h>
#include <time.h>

#define HEAD \
    JOBSPECS_HEAD "{" JOBSPECS_STORAGE ", model: {source: /data/m}, checkpoint: {path: /data/c}, " \
                  "train: {data: {train: /data/t.txt}, steps: 90, tensorboard: /data/b, " \
                  "optimizer: {schedule: Constant}, output: /data/o}, search: "
#define RATE "{name: optimizer.learningRate, min: 0.0001, max: 1, scale: Log}"

static struct jobspec read_spec(const char *search)
{
    char text[2048];
    struct jobspec s;
    struct err e = {.text = ""};
    snprintf(text, sizeof text, HEAD "%s}}", search);
    struct json *documents = jobspecs_parse(text);
    ck_assert_msg(!jobspec_decode(json_first(documents), jobspecs_arena, &s, &e), "%s", e.text);
    json_destroy(documents);
    return s;
}

START_TEST(parameters_depend_on_spec_and_trial_alone)
{
    struct jobspec s = read_spec("{maxTrials: 200, seed: 7, parameters: [" RATE
                                 ", {name: batchSequences, min: 2, max: 5}, {name: seed, values: "
                                 "[3, 5]}]}");
    int sizes[6] = {0}, small = 0;
    for (int i = 0; i < 200; i++) {
        struct jobspec a = s, b = s;
        search_set(&s, i, 0, &a);
        search_set(&s, i, 0, &b);
        ck_assert(!memcmp(&a, &b, sizeof a));
        double rate = a.train.optimizer.learning_rate;
        ck_assert(rate >= 1e-4 && rate <= 1);
        small += rate < 1e-2; /* half of the range, by its logarithm */
        ck_assert_int_ge(a.train.batch_sequences, 2);
        ck_assert_int_le(a.train.batch_sequences, 5);
        sizes[a.train.batch_sequences]++;
        ck_assert(a.train.seed == 3 || a.train.seed == 5);
    }
    ck_assert_int_gt(small, 70);
    ck_assert_int_lt(small, 130);
    for (int i = 2; i <= 5; i++)
        ck_assert_int_gt(sizes[i], 25);
    /* The numbers themselves: a controller and a command line of other builds agree on them. */
    ck_assert_str_eq(search_parameters(&s, 0, jobspecs_arena),
        "optimizer.learningRate 0.07692, batchSequences 2, seed 5");
    ck_assert_str_eq(search_parameters(&s, 199, jobspecs_arena),
        "optimizer.learningRate 0.007381, batchSequences 2, seed 5");
}
END_TEST

START_TEST(a_grid_has_every_point_once)
{
    struct jobspec s =
        read_spec("{algorithm: Grid, maxTrials: 6, parameters: [{name: "
                  "optimizer.learningRate, values: [0.1, 0.2]}, {name: seed, values: "
                  "[1, 2, 3]}]}");
    ck_assert_int_eq(search_trials(&s), 6);
    for (int i = 0; i < 6; i++) {
        struct jobspec a = s;
        search_set(&s, i, 0, &a);
        ck_assert(a.train.optimizer.learning_rate == (i < 3 ? 0.1 : 0.2));
        ck_assert_int_eq((int)a.train.seed, 1 + i % 3);
    }
}
END_TEST

START_TEST(the_job_of_a_run_is_its_own)
{
    struct jobspec s = read_spec("{algorithm: SuccessiveHalving, maxTrials: 9, halving: {minSteps: "
                                 "10}, parameters: [" RATE "]}");
    struct search_run run = {.trial = 4, .rung = 0};
    struct jobspec job;
    struct err e = {.text = ""};
    ck_assert_int_eq(search_rungs(&s), 3);
    ck_assert_int_eq(search_job(&s, &run, jobspecs_arena, &job, &e), 0);
    ck_assert_str_eq(job.name, "j-t4");
    ck_assert_str_eq(job.checkpoint.path, "/data/c/t4");
    ck_assert_str_eq(job.train.output, "/data/o");
    ck_assert_str_eq(job.train.exported_by, "j-best");
    ck_assert_str_eq(job.train.tensorboard, "/data/b/t4");
    ck_assert_int_eq((int)job.train.steps, 10);
    ck_assert(!search_wanted(&job));
    double rate = job.train.optimizer.learning_rate;
    run.rung = 2;
    ck_assert_int_eq(search_job(&s, &run, jobspecs_arena, &job, &e), 0);
    ck_assert_str_eq(job.name, "j-t4-r2");
    ck_assert_str_eq(job.checkpoint.path, "/data/c/t4");
    ck_assert_int_eq((int)job.train.steps, 90);
    ck_assert(job.train.optimizer.learning_rate == rate);
    run = (struct search_run){.trial = 4, .rung = 1, .writes = true};
    ck_assert_int_eq(search_job(&s, &run, jobspecs_arena, &job, &e), 0);
    ck_assert_str_eq(job.name, "j-best");
    ck_assert_str_eq(job.checkpoint.path, "/data/c/t4");
    ck_assert_str_eq(job.train.output, "/data/o");
    ck_assert_ptr_null(job.train.exported_by);
    ck_assert_int_eq((int)job.train.steps, 30); /* all of them are in its checkpoint */
    ck_assert(job.train.optimizer.learning_rate == rate);
}
END_TEST

/* -- stepping -- */

struct ends { /* of runs, by rung and trial */
    enum trial_state state[10][LIMIT_TRIALS], model;
    const struct jobspec *spec;
};

/* Some fail, some have no figure, some are equal; better with more steps. */
static double outcome(const struct jobspec *s, int trial, int rung, enum trial_state *state)
{
    *state = trial % 7 == 3 ? TRIAL_FAILED : TRIAL_SUCCEEDED;
    return trial % 11 == 5 ? NAN
                           : (double)((trial * 37 + 11) % 16) + 1.0 / (double)search_steps(s, rung);
}

static enum trial_state look(void *user, int trial, int rung, double *value)
{
    struct ends *w = user;
    if (trial == SEARCH_MODEL)
        return w->model;
    enum trial_state state = w->state[rung][trial], end;
    double v = outcome(w->spec, trial, rung, &end);
    if (state == TRIAL_SUCCEEDED)
        *value = v;
    return state;
}

static void run_to_end(const struct jobspec *s, unsigned seed, struct search *x)
{
    struct ends w = {.spec = s};
    for (int turn = 0;; turn++) {
        ck_assert_int_lt(turn, 100000);
        search_decide(s, look, &w, x);
        ck_assert_int_le(x->running + x->slots, s->search.parallel_trials);
        if (x->over)
            return;
        ck_assert_int_gt(x->running + x->slots + (x->model >= 0), 0);
        for (int i = 0, left = x->slots; i < x->count; i++) {
            struct search_run *r = &x->runs[i];
            enum trial_state *at = r->writes ? &w.model : &w.state[r->rung][r->trial];
            if (r->state == TRIAL_WAITING && left-- > 0 && rand_r(&seed) % 2)
                *at = TRIAL_RUNNING;
            else if (r->state == TRIAL_RUNNING && r->writes)
                *at = TRIAL_SUCCEEDED;
            else if (r->state == TRIAL_RUNNING && rand_r(&seed) % 3 == 0)
                outcome(s, r->trial, r->rung, at);
        }
    }
}

static const char *const searches[] = {
    "{maxTrials: 23, parallelTrials: 4, parameters: [" RATE "]}",
    "{maxTrials: 256, parallelTrials: 64, parameters: [" RATE "]}",
    "{maxTrials: 60, parallelTrials: 7, earlyStopTrials: 6, parameters: [" RATE "]}",
    "{algorithm: SuccessiveHalving, maxTrials: 30, parallelTrials: 5, halving: {minSteps: 10}, "
    "parameters: [" RATE "]}",
    "{algorithm: SuccessiveHalving, maxTrials: 256, parallelTrials: 9, halving: {minSteps: 1, "
    "factor: 2}, parameters: [" RATE "]}",
    "{algorithm: SuccessiveHalving, maxTrials: 1, halving: {minSteps: 1}, parameters: [" RATE "]}",
    "{algorithm: SuccessiveHalving, maxTrials: 9, halving: {minSteps: 90}, parameters: [" RATE "]}",
};

START_TEST(the_order_in_which_trials_end_changes_nothing)
{
    static struct search first, other;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    struct jobspec s = read_spec(searches[_i]);
    run_to_end(&s, 1, &first);
    ck_assert_int_ge(first.best, 0);
    for (unsigned i = 0; i < 6; i++) {
        run_to_end(&s, seed + i, &other);
        ck_assert_int_eq(other.count, first.count);
        ck_assert_int_eq(other.best, first.best);
        for (int k = 0; k < first.count; k++) {
            ck_assert_int_eq(other.runs[k].trial, first.runs[k].trial);
            ck_assert_int_eq(other.runs[k].rung, first.runs[k].rung);
            ck_assert_int_eq(other.runs[k].state, first.runs[k].state);
        }
    }
}
END_TEST

START_TEST(the_best_of_a_rung_go_on_with_more_steps)
{
    static struct search x;
    struct jobspec s = read_spec(searches[3]);
    run_to_end(&s, 3, &x);
    ck_assert_int_eq(search_rungs(&s), 3);
    ck_assert_int_eq((int)search_steps(&s, 0), 10);
    ck_assert_int_eq((int)search_steps(&s, 1), 30);
    ck_assert_int_eq((int)search_steps(&s, 2), 90);
    ck_assert_int_eq(x.total, 30 + 10 + 3);
    ck_assert_int_eq(x.count, x.total + 1);
    ck_assert_int_eq(x.model, x.total);
    ck_assert_int_eq(x.runs[x.best].rung, 2);
    /* Nothing that stayed behind was better than what went on. */
    for (int i = 0; i < 30; i++)
        for (int k = 30; k < 40; k++) {
            bool promoted = false;
            for (int m = 30; m < 40; m++)
                promoted |= x.runs[m].trial == x.runs[i].trial;
            if (x.runs[i].state == TRIAL_SUCCEEDED && !promoted)
                ck_assert(x.runs[i].value >= x.runs[x.runs[k].trial].value);
        }
}
END_TEST

START_TEST(a_search_stops_early_at_the_same_trial)
{
    static struct search x;
    struct jobspec s = read_spec(searches[2]);
    run_to_end(&s, 5, &x);
    /* Values 11, 0, 5, (fails), 15, (none), 9, 4, ... : trial 1 stays the best. */
    ck_assert_int_eq(x.runs[x.best].trial, 1);
    ck_assert_int_eq(x.count, 8 + 1);
    ck_assert_int_eq(x.total, 8);
}
END_TEST

START_TEST(all_have_failed)
{
    static struct search x;
    struct jobspec s = read_spec(searches[3]);
    struct ends w = {.spec = &s};
    for (int i = 0; i < 30; i++)
        w.state[0][i] = TRIAL_FAILED;
    search_decide(&s, look, &w, &x);
    ck_assert(x.over);
    ck_assert_int_eq(x.best, -1);
    ck_assert_int_eq(x.model, -1);
    ck_assert_int_eq(x.failed, 30);
}
END_TEST

/* Only when all trials are over; it is none of them, and a search without it is not over. */
START_TEST(the_best_is_written_last)
{
    static struct search x;
    struct jobspec s = read_spec("{maxTrials: 2, parallelTrials: 2, parameters: [" RATE "]}");
    struct ends w = {.spec = &s};
    w.state[0][0] = TRIAL_SUCCEEDED;
    w.state[0][1] = TRIAL_RUNNING;
    search_decide(&s, look, &w, &x);
    ck_assert_int_eq(x.model, -1);
    w.state[0][1] = TRIAL_SUCCEEDED; /* 48 % 16 = 0, below 11 */
    search_decide(&s, look, &w, &x);
    ck_assert(!x.over && x.slots == 1 && x.running == 0 && x.succeeded == 2);
    ck_assert_int_eq(x.runs[x.best].trial, 1);
    ck_assert(x.model == 2 && x.runs[2].writes && x.runs[2].trial == 1);
    w.model = TRIAL_RUNNING;
    search_decide(&s, look, &w, &x);
    ck_assert(!x.over && x.slots == 0);
    w.model = TRIAL_FAILED;
    search_decide(&s, look, &w, &x);
    ck_assert(x.over && x.failed == 0 && x.runs[x.best].trial == 1);
    ck_assert_int_eq(x.runs[x.model].state, TRIAL_FAILED);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("search");
    TCase *t = tcase_create("search");
    tcase_add_checked_fixture(t, jobspecs_begin, jobspecs_end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, parameters_depend_on_spec_and_trial_alone);
    tcase_add_test(t, a_grid_has_every_point_once);
    tcase_add_test(t, the_job_of_a_run_is_its_own);
    tcase_add_loop_test(t, the_order_in_which_trials_end_changes_nothing, 0,
        (int)(sizeof searches / sizeof *searches));
    tcase_add_test(t, the_best_of_a_rung_go_on_with_more_steps);
    tcase_add_test(t, a_search_stops_early_at_the_same_trial);
    tcase_add_test(t, all_have_failed);
    tcase_add_test(t, the_best_is_written_last);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
