/*
 * Goal: a search on one machine runs its trials, so many at a time, keeps what they came to, and
 * goes on from it, and at last has the best one's model written. Method: this program is also the
 * trial: started as `run FILE` it reads the job as llmjob would, writes metrics.jsonl where the job
 * says, and ends as its rate says: above 1 it fails, above 0.1 it tells no metric; and it is the
 * run that writes. The command runs as main calls it.
 */
#include "api/exitcode.h"
#include "api/jobspec.h"
#include "base/io.h"
#include "cli/command.h"
#include "tests/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], job_file[96];
static struct err e;

/* -- the trial -- */

/* The folder must be free for it by then. */
static int write_model(const struct jobspec *s)
{
    char path[LIMIT_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s.llmjob-lease", s->train.output);
    if (getenv("TEST_NO_ROOM"))
        return EXIT_CLASS_USER;
    if (strcmp(s->name, "s-best") != 0 || io_exists(path))
        return EXIT_CLASS_BUG;
    snprintf(path, sizeof path, "%s/model", s->train.output);
    return io_mkdirs(s->train.output, 0700, &e) ||
            io_write_file(path, s->checkpoint.path, strlen(s->checkpoint.path), 0600, &e)
        ? EXIT_CLASS_BUG
        : EXIT_CLASS_DONE;
}

static int trial_main(const char *file)
{
    struct arena *a = arena_create(1 << 20);
    struct jobspec s;
    char path[LIMIT_PATH_BYTES + 32], text[128];
    alarm(60);
    if (jobspec_read_file(file, a, &s, &e) || io_mkdirs(s.checkpoint.path, 0700, &e))
        return EXIT_CLASS_BUG;
    if (!s.train.exported_by) {
        int status = write_model(&s);
        arena_destroy(a);
        return status;
    }
    if (getenv("TEST_HANG") && strstr(file, "/t3.json"))
        pause(); /* until the search ends it */
    double rate = s.train.optimizer.learning_rate;
    snprintf(path, sizeof path, "%s/metrics.jsonl", s.checkpoint.path);
    int n = snprintf(text, sizeof text, "{\"step\":%d,\"%s\":%.6f}\n", (int)s.train.steps,
        rate > 0.1 ? "loss" : "validationLoss", rate + 1.0 / (double)s.train.steps);
    if (io_write_file(path, text, (size_t)n, 0600, &e))
        return EXIT_CLASS_BUG;
    /* The first run of trial 2 is interrupted, from the inside, and with it the search. */
    if (getenv("TEST_INTERRUPT") && strstr(file, "/t2.json")) {
        kill(getppid(), SIGINT);
        pause(); /* until the search ends it */
    }
    arena_destroy(a);
    return rate > 1 ? EXIT_CLASS_DATA : EXIT_CLASS_DONE;
}

/* -- the search -- */

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_trials.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(job_file, sizeof job_file, "%s/job.yaml", folder);
    unsetenv("TEST_INTERRUPT");
    unsetenv("TEST_HANG");
    unsetenv("TEST_NO_ROOM");
    e = (struct err){.text = ""};
}

static void done(void)
{
    io_remove_tree(folder, &e);
}

static void write_job(const char *search)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
        "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\nmetadata: {name: s}\nspec:\n"
        "  storage: [{name: d, claimName: c, mountPath: %s}]\n  model: {source: %s/m}\n"
        "  checkpoint: {path: %s/c}\n  train:\n    data: {train: %s/t.txt}\n    steps: 40\n"
        "    optimizer: {schedule: Constant}\n    output: %s/o\n  search: {%s}\n",
        folder, folder, folder, folder, folder, search);
    ck_assert_int_eq(io_write_file(job_file, text, (size_t)n, 0600, &e), 0);
}

/* Runs it, what is printed in the file `said`; the result, and *status. */
static int run_search(int *status)
{
    const char *args[] = {"run", job_file, "--plain", NULL};
    char said[96];
    snprintf(said, sizeof said, "%s/said", folder);
    fflush(stdout);
    int saved = dup(1);
    ck_assert_ptr_nonnull(freopen(said, "w", stdout));
    *status = -1;
    int rc = command_run(3, (char **)args, status, &e);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    return rc;
}

static const char *was_said(void)
{
    static struct buf text;
    char said[96];
    snprintf(said, sizeof said, "%s/said", folder);
    buf_done(&text);
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(io_read_file(said, 1 << 20, &text, &e), 0);
    return buf_cstr(&text);
}

/* The output holds what the trial's checkpoint came to. */
static void check_written(const char *trial)
{
    char path[128], want[128];
    buf_auto struct buf text;
    snprintf(path, sizeof path, "%s/o/model", folder);
    snprintf(want, sizeof want, "%s/c/%s", folder, trial);
    buf_init(&text, 1 << 10);
    ck_assert_msg(!io_read_file(path, 1 << 10, &text, &e), "%s", e.text);
    ck_assert_str_eq(buf_cstr(&text), want);
}

#define GRID(values) \
    "algorithm: Grid, maxTrials: 6, parallelTrials: 2, parameters: [{name: " \
    "optimizer.learningRate, values: [" values "]}]"

START_TEST(the_best_is_found_and_failures_are_counted)
{
    int status;
    write_job(GRID("0.09, 2, 0.05, 0.5, 0.08"));
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    const char *said = was_said();
    ck_assert_ptr_nonnull(strstr(said, "trial 1 failed: see"));
    ck_assert_ptr_nonnull(strstr(said, "trial 3 failed, it has not reported the metric: see"));
    ck_assert_ptr_nonnull(strstr(said,
        "trial   steps  state      validationLoss  parameters\n"
        "    0      40  Succeeded          0.1150  optimizer.learningRate 0.09\n"
        "    1      40  Failed                     optimizer.learningRate 2\n"
        "    2      40  Succeeded          0.0750  optimizer.learningRate 0.05   <- best\n"
        "    3      40  Failed                     optimizer.learningRate 0.5\n"
        "    4      40  Succeeded          0.1050  optimizer.learningRate 0.08\n"
        "s is complete: the best trial is 2: "));
    ck_assert_ptr_nonnull(strstr(said, "the model of trial 2 is written\n"));
    check_written("t2");
}
END_TEST

/* Trial 3 would run for ever, and does not count when three have not been better than the first. */
START_TEST(what_does_not_count_is_ended_for_the_model)
{
    int status;
    setenv("TEST_HANG", "1", 1);
    write_job("algorithm: Grid, maxTrials: 6, parallelTrials: 2, earlyStopTrials: 2, parameters: "
              "[{name: optimizer.learningRate, values: [0.05, 0.06, 0.07, 0.01]}]");
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    ck_assert_ptr_nonnull(strstr(was_said(), "trial 3 begins"));
    ck_assert_ptr_nonnull(strstr(was_said(), "the best trial is 0: "));
    check_written("t0");
}
END_TEST

START_TEST(a_model_that_was_not_written_is_written_by_the_next_run)
{
    int status;
    setenv("TEST_NO_ROOM", "1", 1);
    write_job(GRID("0.09, 0.05"));
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_USER);
    ck_assert_ptr_null(strstr(was_said(), "is complete: the best"));
    unsetenv("TEST_NO_ROOM");
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    ck_assert_ptr_null(strstr(was_said(), "begins"));
    check_written("t1");
}
END_TEST

START_TEST(what_is_promoted_trains_on)
{
    int status;
    write_job("algorithm: SuccessiveHalving, maxTrials: 4, halving: {minSteps: 10, factor: 2}, "
              "parameters: [{name: optimizer.learningRate, min: 0.01, max: 0.1}]");
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    const char *table = strstr(was_said(), "trial   steps");
    int rows = -1;
    for (const char *p = table; *p; p = strchr(p, '\n') + 1)
        rows += *p == ' ' || p == table;
    ck_assert_int_eq(rows, 4 + 2 + 1);
    ck_assert_ptr_nonnull(strstr(table, "      20  Succeeded"));
    ck_assert_ptr_nonnull(strstr(table, "      40  Succeeded"));
    char best[8];
    ck_assert_ptr_nonnull(strstr(table, "/o\n"));
    ck_assert_int_eq(sscanf(strstr(table, "best trial is "), "best trial is %d", &rows), 1);
    snprintf(best, sizeof best, "t%d", rows);
    check_written(best);
}
END_TEST

START_TEST(an_interrupted_search_goes_on)
{
    int status;
    char path[128];
    struct stat before, after;
    write_job(GRID("0.09, 0.07, 0.05, 0.06"));
    setenv("TEST_INTERRUPT", "1", 1);
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DRAINED);
    ck_assert_ptr_nonnull(strstr(was_said(), "trial 2 is stopped"));
    ck_assert_ptr_nonnull(strstr(was_said(), "s is suspended; run it again to go on"));
    snprintf(path, sizeof path, "%s/c/t0/metrics.jsonl", folder);
    ck_assert_int_eq(stat(path, &before), 0);
    unsetenv("TEST_INTERRUPT");
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    ck_assert_ptr_nonnull(strstr(was_said(), "the best trial is 2: "));
    ck_assert_ptr_null(strstr(was_said(), "trial 0 begins")); /* it was over */
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(before.st_ino, after.st_ino);
    /* Another search in its place. */
    write_job(GRID("0.09, 0.03, 0.05, 0.06"));
    ck_assert_int_eq(run_search(&status), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text,
        "/c/search.json is of another search: trial 1 had optimizer.learningRate 0.07 and 40 "
        "steps, and has optimizer.learningRate 0.03 and 40 now"));
}
END_TEST

START_TEST(when_all_fail_so_does_the_search)
{
    int status;
    write_job(GRID("2, 3"));
    ck_assert_msg(!run_search(&status), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DATA);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "run"))
        return trial_main(argv[2]);
    return unit_run_with(&(struct unit){.name = "trials", .setup = setup, .done = done},
        (const TTest *const[]){the_best_is_found_and_failures_are_counted,
            what_is_promoted_trains_on, an_interrupted_search_goes_on,
            when_all_fail_so_does_the_search, what_does_not_count_is_ended_for_the_model,
            a_model_that_was_not_written_is_written_by_the_next_run, NULL});
}
