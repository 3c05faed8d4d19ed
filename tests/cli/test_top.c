/*
 * Goal: llmjob top shows a job with nothing but kubectl, bears kubectl's failures, and ends when
 * the job does. Method: a shell script stands for kubectl: it writes down how it was called and
 * answers from files; the object becomes Complete or Failed on its n-th look.
 */
#include "api/exitcode.h"
#include "base/io.h"
#include "cli/command.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

static char folder[] = "/tmp/test_top.XXXXXX";
static char kubectl[64], out_path[64];

static void put(const char *name, const char *text)
{
    struct err e;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(io_write_file(path, text, strlen(text), 0755, &e), 0);
}

/* $n counts the looks at the object. */
static void put_kubectl(const char *object_case)
{
    char text[2048];
    snprintf(text, sizeof text,
        "#!/bin/bash\ncd %s\necho \"$*\" >>calls\n"
        "case \"$*\" in\n"
        "*'get llmjobs.llmjob.dev j -o json'*) n=$(($(cat n 2>/dev/null) + 1)); echo $n "
        ">n; %s ;;\n"
        "*'exec j-0 -c llmjob -- llmjob-agent report'*) cat report ;;\n"
        "*'get events --field-selector involvedObject.name=j -o json'*) cat events ;;\n"
        "*) echo 'unexpected' >&2; exit 9 ;;\nesac\n",
        folder, object_case);
    put("kubectl", text);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(kubectl, sizeof kubectl, "%s/kubectl", folder);
    snprintf(out_path, sizeof out_path, "%s/out", folder);
    put("running",
        "{\"kind\": \"LLMJob\", \"metadata\": {\"name\": \"j\", \"namespace\": "
        "\"lab\"}, \"spec\": {\"replicas\": 2, "
        "\"train\": {}}, \"status\": {\"state\": \"Training\", \"replicas\": 2, "
        "\"readyReplicas\": 2, "
        "\"progress\": {\"step\": 3, \"steps\": 9}}}");
    put("complete",
        "{\"kind\": \"LLMJob\", \"metadata\": {\"name\": \"j\"}, \"spec\": "
        "{\"replicas\": 2, \"train\": {}}, "
        "\"status\": {\"state\": \"Complete\", \"conditions\": [{\"type\": "
        "\"Complete\", \"status\": \"True\"}]}}");
    put("failed",
        "{\"kind\": \"LLMJob\", \"metadata\": {\"name\": \"j\"}, \"spec\": "
        "{\"replicas\": 2, \"train\": {}}, "
        "\"status\": {\"state\": \"Failed\", \"conditions\": [{\"type\": \"Failed\", "
        "\"status\": \"True\", "
        "\"message\": \"/data/t: line 3\"}]}}");
    put("report",
        "{\"state\": \"Running\", \"progress\": {\"step\": 4, \"steps\": 9, \"loss\": 2.5}, "
        "\"ranks\": [{\"rank\": 1, \"node\": \"n1\", \"phase\": \"forward\"}]}");
    put("events",
        "{\"items\": [{\"reason\": \"PodCreated\", \"message\": \"j-0\", "
        "\"lastTimestamp\": \"2026-09-21T14:13:20Z\"}]}");
}

static void teardown(void)
{
    struct err e;
    io_remove_tree(folder, &e);
}

static int top(const char *const *args, int *status, struct buf *out, struct err *e)
{
    char *argv[16] = {(char *)"top", (char *)"j", (char *)"--kubectl", kubectl,
        (char *)"--interval", (char *)"0.1"};
    int argc = 6;
    struct err ignored;
    for (; *args; args++)
        argv[argc++] = (char *)*args;
    fflush(stdout);
    int saved = dup(1), fd = open(out_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 1);
    int r = command_top(argc, argv, status, e);
    fflush(stdout);
    dup2(saved, 1);
    close(fd);
    close(saved);
    buf_init(out, 1 << 20);
    ck_assert_int_eq(io_read_file(out_path, 1 << 20, out, &ignored), 0);
    return r;
}

static void assert_has(const struct buf *out, const char *text)
{
    ck_assert_msg(strstr(buf_cstr(out), text), "no '%s' in:\n%s", text, buf_cstr(out));
}

START_TEST(test_once)
{
    struct err e = {.text = ""};
    buf_auto struct buf out, calls;
    int status = -1;
    put_kubectl("cat running");
    const char *const args[] = {"--once", "-n", "lab", "--context", "c", NULL};
    ck_assert_msg(!top(args, &status, &out, &e), "%s", e.text);
    assert_has(&out, "j in lab  Train  Training  2/2 ready");
    assert_has(&out, "4/9"); /* the report is fresher than status */
    assert_has(&out, "n1");
    assert_has(&out, "PodCreated");
    char path[128];
    snprintf(path, sizeof path, "%s/calls", folder);
    buf_init(&calls, 1 << 16);
    ck_assert_int_eq(io_read_file(path, 1 << 16, &calls, &e), 0);
    assert_has(&calls, "--namespace lab --context c get llmjobs.llmjob.dev j -o json");
}
END_TEST

START_TEST(test_until_complete)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    put_kubectl("if [ $n -lt 3 ]; then cat running; else cat complete; fi");
    ck_assert_msg(!top((const char *const[]){NULL}, &status, &out, &e), "%s", e.text);
    ck_assert_int_eq(status, EXIT_CLASS_DONE);
    assert_has(&out, "Train j: Training, 2/2 ready");
    assert_has(&out, "Train j: Complete");
}
END_TEST

START_TEST(test_until_failed)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    put_kubectl("cat failed");
    ck_assert_int_eq(top((const char *const[]){NULL}, &status, &out, &e), 0);
    ck_assert_int_eq(status, EXIT_CLASS_USER);
    assert_has(&out, "/data/t: line 3");
}
END_TEST

/* kubectl fails now and then, and there is no report and no event list. */
START_TEST(test_bears_failures)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    int status = -1;
    put_kubectl("case $n in 2|3) echo 'connection refused' >&2; exit 1;; 5) cat complete;; *) "
                "cat running;; esac");
    put("report", "not a report");
    put("events", "");
    ck_assert_msg(!top((const char *const[]){NULL}, &status, &out, &e), "%s", e.text);
    assert_has(&out, "step 3/9");
    assert_has(&out, "Train j: Complete");
}
END_TEST

START_TEST(test_gives_up)
{
    struct err e = {.text = ""};
    buf_auto struct buf out, again;
    int status = -1;
    put_kubectl("echo 'llmjobs.llmjob.dev \"j\" not found' >&2; exit 1");
    ck_assert_int_eq(top((const char *const[]){NULL}, &status, &out, &e), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "\"j\" not found"));
    put("n", "0");
    put_kubectl("if [ $n = 1 ]; then cat running; else echo 'gone' >&2; exit 1; fi");
    ck_assert_int_eq(top((const char *const[]){NULL}, &status, &again, &e), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "gone"));
}
END_TEST

START_TEST(test_bad_interval)
{
    struct err e = {.text = ""};
    char *argv[] = {(char *)"top", (char *)"j", (char *)"--interval", (char *)"0"};
    int status;
    ck_assert_int_eq(command_top(4, argv, &status, &e), -ERR_USER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("top");
    TCase *t = tcase_create("top");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_once);
    tcase_add_test(t, test_until_complete);
    tcase_add_test(t, test_until_failed);
    tcase_add_test(t, test_bears_failures);
    tcase_add_test(t, test_gives_up);
    tcase_add_test(t, test_bad_interval);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
