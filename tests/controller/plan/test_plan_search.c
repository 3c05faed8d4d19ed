/*
 * Goal: a search makes its trials, at most so many at a time, and ends with what they came to,
 * whatever happens to the controller and to the trials' jobs. Method: the plan carried out on
 * trials in memory: passes that stop half-way, jobs that are deleted by others, a controller that
 * has forgotten everything; the status at the end is the same in each of these worlds.
 */
#include "tests/controller/world.h"

#include <math.h>
#include <time.h>

#define TRIALS 64

#define TRAIN \
    "\"storage\":[{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/data\"}]," \
    "\"model\":{\"source\":\"/data/m\"},\"checkpoint\":{\"path\":\"/data/c\"}," \
    "\"train\":{\"data\":{\"train\":\"/data/t.txt\"},\"steps\":90," \
    "\"optimizer\":{\"schedule\":\"Constant\"},\"output\":\"/data/o\"}"
#define RATE \
    "\"parameters\":[{\"name\":\"optimizer.learningRate\",\"min\":0.0001,\"max\":1," \
    "\"scale\":\"Log\"}]"
#define RANDOM ",\"search\":{\"maxTrials\":12,\"parallelTrials\":3," RATE "}"
#define HALVING \
    ",\"search\":{\"algorithm\":\"SuccessiveHalving\",\"maxTrials\":9,\"parallelTrials\":4," \
    "\"halving\":{\"minSteps\":10}," RATE "}"

struct hunt { /* a search, and the jobs of its trials */
    struct world w;
    unsigned seed;
    struct job *jobs[TRIALS];
    struct observed_trial list[TRIALS];
    int count, created, uids, running_most;
};

static void hunt_init(struct hunt *h, unsigned seed, const char *more)
{
    *h = (struct hunt){.seed = seed};
    world_init(&h->w, 1, "");
    job_free(h->w.job);
    h->w.job = world_job(1, 1, TRAIN, more, "{}");
}

static void hunt_done(struct hunt *h)
{
    for (int i = 0; i < h->count; i++)
        job_free(h->jobs[i]);
    world_done(&h->w);
}

static int by_run(const void *a, const void *b)
{
    const struct observed_trial *x = a, *y = b;
    return x->rung != y->rung ? x->rung - y->rung : x->trial - y->trial;
}

static bool is_writer(const struct job *j)
{
    return !strcmp(j->spec.name, "j-best");
}

/* As observe does: by the names. */
static void hunt_observe(struct hunt *h)
{
    for (int i = 0; i < h->count; i++) {
        const char *tail = h->jobs[i]->spec.name + 3; /* "j-t" */
        char *end;
        if (is_writer(h->jobs[i])) {
            h->list[i] = (struct observed_trial){h->jobs[i], SEARCH_MODEL, SEARCH_MODEL};
            continue;
        }
        h->list[i] = (struct observed_trial){h->jobs[i], (int)strtol(tail, &end, 10), 0};
        if (*end)
            h->list[i].rung = (int)strtol(end + 2, NULL, 10);
    }
    qsort(h->list, (size_t)h->count, sizeof *h->list, by_run);
    h->w.o.trials = h->list;
    h->w.o.trial_count = h->count;
}

static int find_trial(const struct hunt *h, const char *name)
{
    for (int i = 0; i < h->count; i++)
        if (!strcmp(h->jobs[i]->spec.name, name))
            return i;
    return -1;
}

static void drop_trial(struct hunt *h, int i)
{
    job_free(h->jobs[i]);
    h->jobs[i] = h->jobs[--h->count];
}

static bool all_ended(const struct hunt *h)
{
    for (int i = 0; i < h->count; i++)
        if (!status_finished(&h->jobs[i]->status, NULL))
            return false;
    return true;
}

static void create_trial(struct hunt *h, const struct action *a)
{
    struct json *v = NULL;
    struct err e = {0};
    struct job *j = NULL;
    ck_assert_int_eq(find_trial(h, a->name), -1);
    ck_assert_int_lt(h->count, TRIALS);
    ck_assert_msg(!json_parse(a->body, strlen(a->body), &v, &e), "%s", e.text);
    ck_assert_int_eq(decode_job(v, &j, &e), 0);
    ck_assert_msg(j->valid, "%s", j->problem);
    ck_assert_str_eq(j->owner, "j");
    ck_assert_str_eq(j->owner_uid, "u1");
    ck_assert_str_eq(j->spec.name, a->name);
    ck_assert(!search_wanted(&j->spec));
    ck_assert_str_eq(j->spec.train.output, "/data/o");
    if (!is_writer(j))
        ck_assert_str_eq(j->spec.train.exported_by, "j-best");
    else
        ck_assert(!j->spec.train.exported_by && all_ended(h));
    ck_assert_str_eq(json_str(json_path(v, "metadata.labels"), NAME_LABEL_SEARCH, ""), "j");
    json_destroy(v);
    j->spec.uid = arena_printf(j->arena, "t%d", ++h->uids);
    h->jobs[h->count++] = j;
    h->created++;
}

static void carry_out(struct hunt *h, const struct action *a)
{
    ck_assert_int_ne(a->kind, ACTION_CREATE_POD);
    ck_assert_int_ne(a->kind, ACTION_SECRET);
    if (a->kind == ACTION_CREATE_TRIAL)
        create_trial(h, a);
    else if (a->kind == ACTION_DELETE_TRIAL)
        drop_trial(h, find_trial(h, a->name));
    else
        world_apply(&h->w, a);
}

/* The first n actions of a pass; returns how many there were. */
static int pass(struct hunt *h, int n)
{
    hunt_observe(h);
    struct plan *p = world_plan(&h->w);
    int all = p->count;
    for (int i = 0; i < all && i < n; i++)
        carry_out(h, &p->actions[i]);
    world_free(p);
    return all;
}

/* The run that writes has no steps, and so no figures. */
static void end_writer(struct job *j, bool well)
{
    j->status.conditions[0] =
        (struct condition){.type = well ? NAME_COND_COMPLETE : NAME_COND_FAILED,
            .status = "True",
            .reason = "R",
            .message = "no space left",
            .transition_ms = 1};
    j->status.condition_count = 1;
}

/* A trial's job ends: the rate nearest to 0.01 is the best, those above 0.3 fail. */
static void end_trial(struct job *j)
{
    if (is_writer(j)) {
        end_writer(j, true);
        return;
    }
    double rate = j->spec.train.optimizer.learning_rate;
    bool failed = rate > 0.3;
    j->status.progress.validation_loss = failed
        ? NAN
        : round(fabs(log10(rate) + 2) * 1e4) / 1e4 + 10.0 / (double)j->spec.train.steps;
    j->status.conditions[0] =
        (struct condition){.type = failed ? NAME_COND_FAILED : NAME_COND_COMPLETE,
            .status = "True",
            .reason = "R",
            .message = "the loss is not finite",
            .transition_ms = 1};
    j->status.condition_count = 1;
}

static int count_running(const struct hunt *h)
{
    int n = 0;
    for (int i = 0; i < h->count; i++)
        n += !status_finished(&h->jobs[i]->status, NULL);
    return n;
}

static void mishap(struct hunt *h)
{
    int i = h->count ? rand_r(&h->seed) % h->count : -1;
    if (i >= 0 && rand_r(&h->seed) % 4 == 0)
        drop_trial(h, i); /* somebody deleted it; what it came to may have been seen, or not */
    else if (i >= 0 && !status_finished(&h->jobs[i]->status, NULL))
        end_trial(h->jobs[i]);
}

static void hunt_run(struct hunt *h, bool mishaps)
{
    const struct status *s = &h->w.job->status;
    int most = h->w.job->spec.search.parallel_trials;
    for (int turn = 0; !status_finished(s, NULL); turn++) {
        ck_assert_int_lt(turn, 5000);
        h->w.o.now_ms += 1000;
        pass(h, mishaps ? rand_r(&h->seed) % 6 : PLAN_ACTIONS);
        ck_assert_int_le(count_running(h), most);
        if (mishaps)
            mishap(h);
        else if (h->count)
            for (int i = 0; i < h->count; i++)
                if (!status_finished(&h->jobs[i]->status, NULL)) {
                    end_trial(h->jobs[i]);
                    break;
                }
    }
    for (int i = 0; i < 3; i++)
        pass(h, PLAN_ACTIONS);
    ck_assert_int_eq(pass(h, PLAN_ACTIONS), 0);
    ck_assert_int_eq(count_running(h), 0);
}

/* What the trials came to, as text. */
static void print_trials(const struct hunt *h, struct buf *out)
{
    const struct status *s = &h->w.job->status;
    buf_printf(out, "%d %d %d, best %d %.4f %s %s\n", s->trials.total, s->trials.succeeded,
        s->trials.failed, s->trials.best.index, s->trials.best.value, s->trials.best.parameters,
        s->trials.best.output);
    for (int i = 0; i < s->trials.count; i++)
        buf_printf(out, "%d %d %s %.4f %s\n", s->trials.table[i].index, s->trials.table[i].rung,
            s->trials.table[i].state, s->trials.table[i].value, s->trials.table[i].parameters);
}

static void compare_worlds(const char *more)
{
    buf_auto struct buf calm;
    struct hunt h;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    buf_init(&calm, 1 << 20);
    hunt_init(&h, 0, more);
    hunt_run(&h, false);
    print_trials(&h, &calm);
    ck_assert(status_is_true(&h.w.job->status, NAME_COND_COMPLETE));
    int total = h.w.job->status.trials.total;
    ck_assert_int_eq(h.created, total + 1);
    ck_assert_str_eq(h.w.job->status.trials.best.output, "/data/o");
    char ready[32];
    snprintf(ready, sizeof ready, "%d/%d", total, total);
    ck_assert_str_eq(h.w.job->status.ready, ready);
    hunt_done(&h);
    for (unsigned i = 0; i < 30; i++) {
        buf_auto struct buf wild;
        buf_init(&wild, 1 << 20);
        hunt_init(&h, seed + i, more);
        hunt_run(&h, true);
        print_trials(&h, &wild);
        ck_assert_str_eq(buf_cstr(&wild), buf_cstr(&calm));
        hunt_done(&h);
    }
}

START_TEST(mishaps_change_nothing_of_a_random_search)
{
    compare_worlds(RANDOM);
}
END_TEST

START_TEST(mishaps_change_nothing_of_successive_halving)
{
    compare_worlds(HALVING);
}
END_TEST

START_TEST(status_tells_how_far_it_is)
{
    struct hunt h;
    hunt_init(&h, 0, RANDOM);
    pass(&h, PLAN_ACTIONS);
    ck_assert_int_eq(h.count, 3);
    pass(&h, PLAN_ACTIONS);
    const struct status *s = &h.w.job->status;
    ck_assert_str_eq(s->state, NAME_REASON_SEARCHING);
    ck_assert_str_eq(s->ready, "0/12");
    ck_assert_int_eq(s->trials.running, 3);
    ck_assert_int_eq(s->trials.count, 3);
    ck_assert(status_is_true(s, NAME_COND_PROGRESSING));
    for (int i = 0; i < 3; i++)
        end_trial(h.jobs[i]);
    for (int i = 0; i < 4; i++)
        pass(&h, PLAN_ACTIONS);
    ck_assert_str_eq(s->ready, "3/12");
    ck_assert_int_eq(s->trials.count, 6);
    ck_assert_int_ge(s->trials.best.index, 0);
    hunt_done(&h);
}
END_TEST

START_TEST(a_suspended_search_runs_nothing_and_goes_on)
{
    struct hunt h;
    hunt_init(&h, 0, RANDOM);
    for (int i = 0; i < 3; i++)
        pass(&h, PLAN_ACTIONS);
    end_trial(h.jobs[0]);
    h.w.job->spec.suspend = true;
    h.w.job->spec.generation++;
    for (int i = 0; i < 3; i++)
        pass(&h, PLAN_ACTIONS);
    ck_assert_int_eq(count_running(&h), 0);
    ck_assert_int_eq(h.count, 1); /* what has ended stays, with its logs */
    ck_assert(status_is_true(&h.w.job->status, NAME_COND_SUSPENDED));
    h.w.job->spec.suspend = false;
    h.w.job->spec.generation++;
    hunt_run(&h, false);
    ck_assert_int_eq(h.w.job->status.trials.succeeded + h.w.job->status.trials.failed, 12);
    hunt_done(&h);
}
END_TEST

/* Trials that are over first, then the run that writes; when that fails, so does the search. */
START_TEST(a_model_that_is_not_written_fails_the_search)
{
    struct hunt h;
    hunt_init(&h, 0, RANDOM);
    const struct status *s = &h.w.job->status;
    for (int turn = 0; find_trial(&h, "j-best") < 0; turn++) {
        ck_assert_int_lt(turn, 100);
        ck_assert_ptr_null(s->trials.best.output);
        pass(&h, PLAN_ACTIONS);
        for (int i = 0; i < h.count; i++)
            if (!is_writer(h.jobs[i]) && !status_finished(&h.jobs[i]->status, NULL))
                end_trial(h.jobs[i]);
    }
    pass(&h, PLAN_ACTIONS);
    ck_assert_str_eq(s->ready, "12/12");
    ck_assert(!status_finished(s, NULL));
    end_writer(h.jobs[find_trial(&h, "j-best")], false);
    for (int i = 0; i < 4; i++)
        pass(&h, PLAN_ACTIONS);
    const struct condition *c = status_condition(s, NAME_COND_FAILED);
    ck_assert_str_eq(c->status, "True");
    ck_assert_str_eq(c->reason, NAME_REASON_NOT_WRITTEN);
    ck_assert_ptr_nonnull(strstr(c->message, "but its model was not written: no space left"));
    ck_assert_ptr_null(s->trials.best.output);
    ck_assert_int_ge(s->trials.best.index, 0);
    hunt_done(&h);
}
END_TEST

/* Those that a search which stopped early does not wait for are deleted before the model's turn. */
START_TEST(what_does_not_count_makes_room_for_the_model)
{
    struct hunt h;
    hunt_init(&h, 0,
        ",\"search\":{\"algorithm\":\"Grid\",\"parallelTrials\":4,\"earlyStopTrials\":2,"
        "\"parameters\":[{\"name\":\"optimizer.learningRate\",\"values\":[0.01,0.1,0.2,0.001]}]}");
    pass(&h, PLAN_ACTIONS);
    ck_assert_int_eq(h.count, 4);
    for (int i = 0; i < 4; i++)
        if (strcmp(h.jobs[i]->spec.name, "j-t3") != 0)
            end_trial(h.jobs[i]);
    for (int i = 0; i < 3; i++)
        pass(&h, PLAN_ACTIONS);
    ck_assert_int_eq(find_trial(&h, "j-t3"), -1);
    ck_assert_int_ge(find_trial(&h, "j-best"), 0);
    hunt_run(&h, false);
    ck_assert(status_is_true(&h.w.job->status, NAME_COND_COMPLETE));
    ck_assert_int_eq(h.w.job->status.trials.best.index, 0);
    hunt_done(&h);
}
END_TEST

START_TEST(a_search_fails_when_all_trials_do)
{
    struct hunt h;
    hunt_init(&h, 0,
        ",\"search\":{\"maxTrials\":2,\"parameters\":[{\"name\":\"optimizer.learningRate\","
        "\"values\":[0.9,0.8]}]}");
    hunt_run(&h, false);
    const struct condition *c = status_condition(&h.w.job->status, NAME_COND_FAILED);
    ck_assert_str_eq(c->status, "True");
    ck_assert_str_eq(c->reason, NAME_REASON_TRIALS_FAILED);
    ck_assert_str_eq(c->message,
        "all 2 trials failed, or ended without validationLoss; j-t0: the loss is not finite");
    hunt_done(&h);
}
END_TEST

START_TEST(what_runs_when_the_time_is_over_is_ended)
{
    struct hunt h;
    hunt_init(&h, 0, RANDOM ",\"activeDeadlineSeconds\":100");
    for (int i = 0; i < 3; i++)
        pass(&h, PLAN_ACTIONS);
    h.w.o.now_ms += 200000;
    pass(&h, PLAN_ACTIONS);
    ck_assert_str_eq(
        status_condition(&h.w.job->status, NAME_COND_FAILED)->reason, NAME_REASON_DEADLINE);
    pass(&h, PLAN_ACTIONS);
    ck_assert_int_eq(h.count, 0);
    hunt_done(&h);
}
END_TEST

UNIT_MAIN("plan_search", mishaps_change_nothing_of_a_random_search,
    mishaps_change_nothing_of_successive_halving, status_tells_how_far_it_is,
    a_suspended_search_runs_nothing_and_goes_on, a_search_fails_when_all_trials_do,
    a_model_that_is_not_written_fails_the_search, what_does_not_count_makes_room_for_the_model,
    what_runs_when_the_time_is_over_is_ended)
