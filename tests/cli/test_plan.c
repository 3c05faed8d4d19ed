/*
 * Goal: what is typed after `llmjob plan` is checked here, and asked of llmjob-rank as it
 * understands it, with the job in memory. Method: the command in a child, with programs of the
 * shell in that program's place, and mistakes; what llmjob-rank answers is
 * tests/runtime/train/test_preview.c's, or tests/runtime/evaluate/test_forecast.c's.
 */
#include "base/io.h"
#include "cli/command.h"
#include "tests/unit.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char said[65536], folder[] = "/tmp/llmjob-test-XXXXXX", file[64], show[64];
static struct err e;

static void write_text(const char *path, int mode, const char *text)
{
    ck_assert_msg(!io_write_file(path, text, strlen(text), (mode_t)mode, &e), "%s", e.text);
}

static const char *model = "m, init: Random";

/* A job with these lines of its spec. */
static void write_job(const char *lines)
{
    char text[1024];
    snprintf(text, sizeof text,
        "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\nmetadata: {name: j}\nspec:\n"
        "  replicas: 2\n  storage: [{name: d, claimName: c, mountPath: %s}]\n"
        "  model: {source: %s/%s}\n%s",
        folder, folder, model, lines);
    write_text(file, 0644, text);
}

#define TRAIN \
    "  checkpoint: {path: %s/c}\n" \
    "  train: {data: {train: %s/t.txt}, steps: 3, batchSequences: 8, sequenceLength: 16,\n" \
    "    output: %s/o}\n"

static void write_training(const char *more)
{
    char lines[768];
    snprintf(lines, sizeof lines, "%s" TRAIN, more, folder, folder, folder);
    write_job(lines);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/job.yaml", folder);
    snprintf(show, sizeof show, "%s/show", folder);
    write_text(show, 0755, "#!/bin/sh\necho \"$@\"\nfor last; do :; done\ncat \"$last\"\n");
}

static void teardown(void)
{
    ck_assert(!io_remove_tree(folder, &e));
}

/* Its exit status; what it prints, or its error, stands in `said`. */
static int ask(const char *const *args)
{
    char *argv[12] = {(char *)"plan"};
    int argc = 1, ends[2], status = 0;
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    ck_assert(!pipe(ends));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        struct err why = {.text = ""};
        dup2(ends[1], 1);
        int rc = command_plan(argc, argv, &status, &why);
        if (rc)
            printf("%s\n", why.text);
        fflush(stdout);
        _exit(-rc);
    }
    close(ends[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(ends[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t)n;
    said[len] = 0;
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void says(const char *what)
{
    ck_assert_msg(strstr(said, what) != NULL, "no %s in: %s", what, said);
}

START_TEST(the_program_is_asked)
{
    write_training("");
    ck_assert_int_eq(ask((const char *[]){file, "--memory", "2Gi", "--replicas=4", "--tflops",
                         "1.5", "--between-us", "7", "--rank-program", show, NULL}),
        0);
    says("plan --memory-bytes=2147483648 --best=8 --tflops=1.5 --memory-gb-s=0 --inside-gb-s=0 "
         "--inside-us=0 --between-gb-s=0 --between-us=7 /proc/self/fd/");
    says("\"replicas\":4");
    says("\"init\":\"Random\"");
    ck_assert_int_eq(
        ask((const char *[]){"--memory=1", "--rank-program", "/bin/false", file, NULL}), 1);
}
END_TEST

START_TEST(memory_is_found)
{
    write_training("  resources: {requests: {memory: 3Gi}, limits: {memory: 6Gi}}\n"
                   "  device: {perReplica: 2}\n");
    ck_assert_int_eq(ask((const char *[]){file, "--rank-program", show, NULL}), 0);
    says("--memory-bytes=3221225472 ");
    write_training("  device: {resource: nvidia.com/gpu}\n");
    ck_assert_int_eq(ask((const char *[]){file, "--rank-program", show, NULL}), 0);
    says("--memory-bytes=85899345920 ");
}
END_TEST

START_TEST(mistakes_are_named)
{
    static const struct {
        const char *args[5], *says;
    } rows[] = {
        {{NULL}, "no job file given"},
        {{file, "x"}, "x: one job file is expected"},
        {{file}, "--memory is needed: spec.resources does not say"},
        {{file, "--memory", "much"}, "--memory: \"much\" is no size such as 80Gi"},
        {{file, "--replicas", "0"}, "--replicas: from 1 to 5000"},
        {{file, "--replicas", "5001"}, "--replicas: from 1 to 5000"},
        {{file, "--best", "0"}, "--best: from 1 to 1000"},
        {{file, "--tflops", "-1"}, "--tflops: not in 0 to 1e9"},
        {{file, "--between-gb-s", "nan"}, "between-gb-s"},
        {{file, "--storage", "nobody=/tmp"}, "--storage nobody=/tmp: wanted NAME=DIR"},
    };
    write_training("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(ask(rows[i].args) == ERR_USER, "row %zu: %s", i, said);
        ck_assert_msg(strstr(said, rows[i].says) != NULL, "row %zu: %s", i, said);
    }
}
END_TEST

START_TEST(of_an_evaluation_another_program_is_asked)
{
    char lines[512];
    snprintf(lines, sizeof lines,
        "  parallelism: {tensor: 2}\n  evaluate: {data: %s/t.txt, output: %s/o}\n", folder, folder);
    write_job(lines);
    ck_assert_int_eq(
        ask((const char *[]){file, "--memory", "2Gi", "--rank-program", show, NULL}), ERR_USER);
    says("Random is only allowed with train");
    model = "m";
    write_job(lines);
    ck_assert_int_eq(
        ask((const char *[]){file, "--memory", "2Gi", "--rank-program", show, NULL}), 0);
    says("forecast --memory-bytes=2147483648 --best=8 /proc/self/fd/");
    says("\"tensor\":2");
    write_job("  parallelism: {tensor: 2}\n  serve: {}\n");
    ck_assert_int_eq(
        ask((const char *[]){file, "--memory", "2Gi", "--rank-program", show, NULL}), 0);
    says("forecast --memory-bytes=2147483648 ");
    write_job("  serve: {ensemble: {members: [{name: a}, {name: b}]}}\n");
    ck_assert_int_eq(
        ask((const char *[]){file, "--memory", "2Gi", "--rank-program", show, NULL}), 0);
    says("muster --memory-bytes=2147483648 /proc/self/fd/");
}
END_TEST

START_TEST(a_conversion_and_a_program_are_not_laid_out)
{
    write_text(file, 0644,
        "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\nmetadata: {name: j}\n"
        "spec: {run: {command: [/bin/true]}}\n");
    ck_assert_int_eq(ask((const char *[]){file, NULL}), ERR_USER);
    says("only trainings, evaluations and served models are laid out, and this is a Run job");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"plan", 20, setup, teardown},
        (const TTest *const[]){the_program_is_asked, memory_is_found, mistakes_are_named,
            of_an_evaluation_another_program_is_asked, a_conversion_and_a_program_are_not_laid_out,
            NULL});
}
