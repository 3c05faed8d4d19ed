/*
 * Goal: llmjob validate accepts what is right (kind: what the ecosystem's own tools accept), names
 * what is wrong, and its exit code says which.
 * Method: the command is called as main calls it, on the samples and on manifests with mistakes.
 */
#include "base/io.h"
#include "cli/command.h"

#include <check.h>
#include <fcntl.h>
#include <glob.h>
#include <unistd.h>

static char out_path[] = "/tmp/test_validate.XXXXXX";

static int validate(const char *const *args, struct err *e, struct buf *out)
{
    char *argv[8] = {(char *)"validate"};
    int argc = 1, status = -1;
    struct err ignored;
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    fflush(stdout);
    int saved = dup(1), fd = open(out_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 1);
    int r = command_validate(argc, argv, &status, e);
    fflush(stdout);
    dup2(saved, 1);
    close(fd);
    close(saved);
    ck_assert_int_eq(status, 0);
    buf_init(out, 1 << 20);
    ck_assert_int_eq(io_read_file(out_path, 1 << 20, out, &ignored), 0);
    remove(out_path);
    return r;
}

START_TEST(test_good)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    const char *const args[] = {
        "manifests/samples/finetune.yaml", "manifests/samples/serve.yaml", NULL};
    ck_assert_msg(!validate(args, &e, &out), "%s", e.text);
    ck_assert_str_eq(out.data,
        "manifests/samples/finetune.yaml: valid: Train kjv, 2 replicas\n"
        "manifests/samples/serve.yaml: valid: Serve kjv-chat, 1 replica\n");
}
END_TEST

/* All that users are given to copy is right, and stands in the table of it. */
START_TEST(test_samples)
{
    struct err e = {.text = ""};
    buf_auto struct buf table;
    glob_t found;
    buf_init(&table, 1 << 16);
    ck_assert_int_eq(io_read_file("manifests/samples/README.md", 1 << 16, &table, &e), 0);
    ck_assert_int_eq(glob("manifests/samples/*.yaml", 0, NULL, &found), 0);
    ck_assert_uint_ge(found.gl_pathc, 30);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        buf_auto struct buf out;
        char link[128];
        const char *const args[] = {found.gl_pathv[i], NULL};
        ck_assert_msg(!validate(args, &e, &out), "%s", e.text);
        snprintf(link, sizeof link, "(%s)", strrchr(found.gl_pathv[i], '/') + 1);
        ck_assert_msg(strstr(buf_cstr(&table), link), "no %s in the samples' README", link);
    }
    globfree(&found);
}
END_TEST

START_TEST(test_print)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    const char *const args[] = {"--print", "manifests/samples/run.yaml", NULL};
    ck_assert_int_eq(validate(args, &e, &out), 0);
    ck_assert_ptr_nonnull(strstr(out.data, "\"stragglerFactor\":2"));
}
END_TEST

/* kubectl create takes it: a generated name, and booleans and numbers of YAML 1.1. */
START_TEST(test_what_kubectl_takes)
{
    static const char text[] = "apiVersion: llmjob.dev/v1alpha1\nkind: LLMJob\n"
                               "metadata: {generateName: nightly-}\n"
                               "spec:\n  suspend: yes\n  replicas: 0x2\n"
                               "  placement: {topology: {key: zone, required: On}}\n"
                               "  run: {command: [sh, 'on'], env: {WHEN: 'off'}}\n";
    char path[] = "/tmp/test_validate_job.XXXXXX";
    struct err e = {.text = ""};
    buf_auto struct buf out;
    const char *const args[] = {"--print", path, NULL};
    int fd = mkstemp(path);
    ck_assert_int_eq(io_write_full(fd, text, sizeof text - 1, &e), 0);
    io_close(fd);
    ck_assert_msg(!validate(args, &e, &out), "%s", e.text);
    remove(path);
    ck_assert_ptr_nonnull(strstr(out.data, "\"name\":\"nightly-xxxxx\""));
    ck_assert_ptr_nonnull(strstr(out.data, "\"suspend\":true"));
    ck_assert_ptr_nonnull(strstr(out.data, "\"replicas\":2"));
    ck_assert_ptr_nonnull(strstr(out.data, "\"required\":true"));
}
END_TEST

START_TEST(test_bad)
{
    struct err e = {.text = ""};
    buf_auto struct buf out, none;
    const char *const args[] = {
        "tests/e2e/bad-manifests/precision.yaml", "manifests/samples/run.yaml", NULL};
    ck_assert_int_eq(validate(args, &e, &out), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "precision.yaml: spec.precision: \"FP8\""));
    ck_assert_ptr_nonnull(strstr(out.data, "run.yaml: valid")); /* the others are looked at too */
    const char *const nothing[] = {NULL};
    ck_assert_int_eq(validate(nothing, &e, &none), -ERR_USER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("validate");
    TCase *t = tcase_create("validate");
    tcase_add_test(t, test_good);
    tcase_add_test(t, test_samples);
    tcase_add_test(t, test_print);
    tcase_add_test(t, test_what_kubectl_takes);
    tcase_add_test(t, test_bad);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
