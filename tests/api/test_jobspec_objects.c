/*
 * Goal: what stands around a spec (kind, version, metadata), and files with other documents beside
 * the job, are read as kubectl reads them. Method: tables of objects and of files.
 */
#include "api/jobspec.h"

#include "base/io.h"
#include "tests/api/jobspecs.h"
#include "tests/unit.h"

static const struct {
    const char *yaml, *expect;
} objects[] = {
    {"[]", "must be an object"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v9, metadata: {name: a}}",
        "apiVersion: \"llmjob.dev/v9\""},
    {"{kind: Pod, apiVersion: llmjob.dev/v1alpha1, metadata: {name: a}}", "kind: \"Pod\""},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1}", "metadata: required"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {}}", "metadata.name: required"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {name: A}}",
        "metadata.name: \"A\""},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {name: 1a}}", "metadata.name"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {generateName: A-}}",
        "metadata.generateName: with the five characters"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {generateName: "
     "a23456789-123456789-123456789-123456789-123456789-1234}}",
        "metadata.generateName: with the five characters"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {generateName: 7}}",
        "metadata.name: required"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {generateName: a-, namespace: B}}",
        "metadata.namespace"},
    {"{kind: LLMJob, apiVersion: llmjob.dev/v1alpha1, metadata: {name: a}}", "spec: required"},
    {"{name: a, spec: 7}", "spec: required"},
    {"{spec: {run: {command: [a]}}}", "name: required"},
};

START_TEST(test_objects)
{
    struct err e = {.text = ""};
    struct jobspec spec;
    struct json *documents = jobspecs_parse(objects[_i].yaml);
    ck_assert_int_eq(jobspec_decode(json_first(documents), jobspecs_arena, &spec, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, objects[_i].expect), "%s", e.text);
    json_destroy(documents);
}
END_TEST

static const struct {
    const char *text, *expect; /* NULL: accepted */
} files[] = {
    {JOBSPECS_HEAD "{run: {command: [a]}}}", NULL},
    {"{\"name\": \"a\", \"uid\": \"u\", \"generation\": 4, \"spec\": {\"run\": {\"command\": "
     "[\"x\"]}}}",
        NULL},
    {"kind: ConfigMap\n---\n" JOBSPECS_HEAD "{run: {command: [a]}}}\n", NULL},
    {JOBSPECS_HEAD "{run: {command: [a], shell: true}}}", "spec.run.shell: unknown field"},
    {JOBSPECS_HEAD "{run: {command: [a]}, device: {count: 2}}}",
        "spec.device.count: unknown field"},
    {JOBSPECS_HEAD
        "{storage: [{name: a, claimName: b, mountPath: /c, size: 1}], run: {command: [a]}}}",
        "spec.storage[0].size: unknown field"},
    {"kind: ConfigMap\n", "no LLMJob"},
    {JOBSPECS_HEAD "{run: {command: [a]}}}\n---\n" JOBSPECS_HEAD "{run: {command: [a]}}}\n",
        "more than one"},
};

START_TEST(test_files)
{
    struct err e = {.text = ""};
    struct jobspec spec;
    char path[] = "/tmp/test_jobspec.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(io_write_full(fd, files[_i].text, strlen(files[_i].text), &e), 0);
    io_close(fd);
    int rc = jobspec_read_file(path, jobspecs_arena, &spec, &e);
    if (files[_i].expect) {
        ck_assert_int_eq(rc, -ERR_USER);
        ck_assert_msg(strstr(e.text, files[_i].expect) && strstr(e.text, path), "%s", e.text);
    } else {
        ck_assert_msg(!rc, "%s", e.text);
        ck_assert_str_eq(spec.run.command[0], _i == 1 ? "x" : "a");
    }
    remove(path);
}
END_TEST

/* What `kubectl create` takes: a name that the API server completes. */
START_TEST(test_generated_name)
{
    static const char *const metadata[][2] = {
        {"generateName: kjv-", "kjv-xxxxx"},
        {"generateName: kjv-, name: ''", "kjv-xxxxx"},
        {"generateName: kjv-, name: mine", "mine"},
        {"generateName: a23456789-123456789-123456789-123456789-123456789-123",
            "a23456789-123456789-123456789-123456789-123456789-123xxxxx"},
    };
    for (size_t i = 0; i < sizeof metadata / sizeof *metadata; i++) {
        struct err e = {.text = ""};
        struct jobspec spec;
        char text[512];
        snprintf(text, sizeof text,
            "{apiVersion: llmjob.dev/v1alpha1, kind: LLMJob, metadata: {namespace: ns, "
            "%s}, spec: {run: {command: [a]}}}",
            metadata[i][0]);
        struct json *documents = jobspecs_parse(text);
        ck_assert_msg(
            !jobspec_decode(json_first(documents), jobspecs_arena, &spec, &e), "%s", e.text);
        ck_assert_str_eq(spec.name, metadata[i][1]);
        ck_assert_str_eq(spec.namespace_, "ns");
        json_destroy(documents);
    }
}
END_TEST

#define COUNT(a) (int)(sizeof a / sizeof *(a))

int main(void)
{
    Suite *s = suite_create("jobspec_objects");
    TCase *t = tcase_create("jobspec_objects");
    tcase_add_checked_fixture(t, jobspecs_begin, jobspecs_end);
    tcase_add_loop_test(t, test_objects, 0, COUNT(objects));
    tcase_add_loop_test(t, test_files, 0, COUNT(files));
    tcase_add_test(t, test_generated_name);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
