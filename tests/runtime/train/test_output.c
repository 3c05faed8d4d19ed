/*
 * Goal: an output takes the place of nothing that is not this job's own older output, and whatever
 * fails, the older or the newer one stands whole (kind: files of the user that a job replaces or
 * removes). Method: small files in a temporary folder. What may not be replaced is put there in
 * each way, before the start and during the training; nothing of it may be gone. A child that ends
 * in the middle stands for a killed rank. Each system call is failed in turn.
 * needs: faults
 */
#include "runtime/train/output.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static struct err e;
static struct jobspec spec;

static const char *at(const char *name)
{
    static char path[8][256];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, 256, "%s/%s", folder, name);
    return p;
}

static void put(const char *path, const char *text)
{
    ck_assert_msg(!io_write_new(path, text, strlen(text), 0644, &e), "%s", e.text);
}

static void make(const char *path)
{
    ck_assert_msg(!io_mkdirs(path, 0755, &e), "%s", e.text);
}

static bool holds(const char *path, const char *text)
{
    buf_auto struct buf b;
    buf_init(&b, 4096);
    return io_exists(path) && !io_read_file(path, 4095, &b, &e) && !strcmp(buf_cstr(&b), text);
}

static int entries(const char *path)
{
    int n = -2;
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

static void setup(void)
{
    static char output[128], checkpoint[128], board[128], model[128], data[128];
    golden_folder(folder);
    snprintf(output, sizeof output, "%s/runs/out", folder);
    snprintf(checkpoint, sizeof checkpoint, "%s/ckpt", folder);
    snprintf(board, sizeof board, "%s/board", folder);
    snprintf(model, sizeof model, "%s/model", folder);
    snprintf(data, sizeof data, "%s/text.txt", folder);
    make(model);
    put(data, "text");
    spec = (struct jobspec){.name = "a", .namespace_ = "n", .task = TASK_TRAIN};
    spec.model.source = model;
    spec.checkpoint.path = checkpoint;
    spec.train.data.train = data;
    spec.train.tensorboard = board;
    spec.train.output = output;
}

static void teardown(void)
{
    golden_remove(folder);
}

static void fill(struct output *o, const char *text, bool adapter)
{
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", output_folder(o));
    put(path, text);
    snprintf(path, sizeof path, "%s/model.safetensors", output_folder(o));
    put(path, text);
    snprintf(path, sizeof path, "%s/adapter", output_folder(o));
    if (!adapter)
        return;
    make(path);
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", output_folder(o));
    put(path, text);
    snprintf(path, sizeof path, "%s/1_Pooling", output_folder(o));
    make(path);
    snprintf(path, sizeof path, "%s/1_Pooling/config.json", output_folder(o));
    put(path, text);
}

/* A training from its start to its end. */
static int write_output(const char *text, bool adapter)
{
    struct output *o = NULL;
    int rc;
    if (!(rc = output_check(&spec, &e)) && !(rc = output_create(&spec, &o, &e))) {
        fill(o, text, adapter);
        rc = output_commit(o, &e);
    }
    output_destroy(o);
    return rc;
}

static void must_write(const char *text, bool adapter)
{
    ck_assert_msg(!write_output(text, adapter), "%s", e.text);
}

START_TEST(an_output_appears_whole_and_alone)
{
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    ck_assert(!io_exists(spec.train.output)); /* the check leaves nothing there */
    ck_assert_int_eq(entries(at("runs")), 0);
    must_write("one", true);
    ck_assert(holds(at("runs/out/config.json"), "one"));
    ck_assert(holds(at("runs/out/adapter/adapter_config.json"), "one"));
    ck_assert(holds(at("runs/out/" OUTPUT_MARK),
        "llmjob output of n/a\n3 model.safetensors\n3 config.json\n"
        "3 adapter/adapter_config.json\n3 1_Pooling/config.json\nend\n"));
    ck_assert_int_eq(entries(at("runs")), 1);
}
END_TEST

START_TEST(an_own_older_output_and_an_empty_folder_are_replaced)
{
    make(spec.train.output);
    must_write("one", true);
    must_write("two", false);
    ck_assert(holds(at("runs/out/model.safetensors"), "two"));
    ck_assert(!io_exists(at("runs/out/adapter")) && !io_exists(at("runs/out/1_Pooling")));
    ck_assert_int_eq(entries(at("runs")), 1);
    ((char *)spec.train.output)[strlen(spec.train.output)] = '/'; /* "out/" is the same */
    must_write("three", true);
    ck_assert(holds(at("runs/out/adapter/adapter_config.json"), "three"));
    ck_assert_int_eq(entries(at("runs")), 1);
}
END_TEST

/* -- what may not be replaced -- */

static void leave_notes(void)
{
    put(at("runs/out/notes.md"), "mine");
}

static void leave_folder(void)
{
    make(at("runs/out/step-00000010"));
}

static void leave_in_adapter(void)
{
    put(at("runs/out/adapter/notes.md"), "mine");
}

static void leave_template(void) /* a name that a job may write, but this one did not */
{
    put(at("runs/out/chat_template.jinja"), "mine");
}

static void resize(void)
{
    put(at("runs/out/config.json"), "mine");
}

static void edit(void) /* later than the mark, as long as before */
{
    struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    struct stat st;
    put(at("runs/out/config.json"), "own");
    ck_assert(!stat(at("runs/out/" OUTPUT_MARK), &st));
    t[1] = (struct timespec){.tv_sec = st.st_mtime + 1};
    ck_assert(!utimensat(AT_FDCWD, at("runs/out/config.json"), t, 0));
}

static void link_model(void) /* the file moved away and linked */
{
    ck_assert(!rename(at("runs/out/config.json"), at("config.json")));
    ck_assert(!symlink(at("config.json"), at("runs/out/config.json")));
}

static void lose_mark(void)
{
    ck_assert(!unlink(at("runs/out/" OUTPUT_MARK)));
}

static void cut_mark(void)
{
    put(at("runs/out/" OUTPUT_MARK), "llmjob output of n/a\n");
}

static void other_job(void)
{
    put(at("runs/out/" OUTPUT_MARK),
        "llmjob output of n/b\n3 model.safetensors\n3 config.json\n"
        "3 adapter/adapter_config.json\n3 1_Pooling/config.json\nend\n");
}

static const struct {
    void (*disturb)(void);
    const char *why, *stays, *text;
} foreign[] = {
    {leave_notes, "holds notes.md", "runs/out/notes.md", "mine"},
    {leave_folder, "holds step-00000010", "runs/out/step-00000010/.", NULL},
    {leave_in_adapter, "holds adapter/notes.md", "runs/out/adapter/notes.md", "mine"},
    {leave_template, "holds chat_template.jinja", "runs/out/chat_template.jinja", "mine"},
    {resize, "holds config.json", "runs/out/config.json", "mine"},
    {edit, "holds config.json", "runs/out/config.json", "own"},
    {link_model, "holds config.json", "config.json", "one"},
    {lose_mark, "which llmjob did not write", "runs/out/config.json", "one"},
    {cut_mark, "which llmjob did not write", "runs/out/config.json", "one"},
    {other_job, "holds the model of the job n/b", "runs/out/config.json", "one"},
};

static void refused(int i, int rc)
{
    ck_assert_int_eq(rc, -ERR_USER);
    ck_assert_msg(
        strstr(e.text, foreign[i].why) && strstr(e.text, "spec.train.output"), "%s", e.text);
    ck_assert_msg(io_exists(at(foreign[i].stays)), "%s is gone", foreign[i].stays);
    ck_assert(!foreign[i].text || holds(at(foreign[i].stays), foreign[i].text));
    ck_assert(holds(at("runs/out/model.safetensors"), "one"));
    ck_assert_int_eq(entries(at("runs")), 1); /* and nothing half done beside it */
}

START_TEST(what_is_not_ours_stays)
{
    must_write("one", true);
    foreign[_i].disturb();
    refused(_i, output_check(&spec, &e));
}
END_TEST

START_TEST(what_came_during_the_training_stays)
{
    struct output *o = NULL;
    must_write("one", true);
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    foreign[_i].disturb();
    ck_assert_msg(!output_create(&spec, &o, &e), "%s", e.text);
    fill(o, "two", false);
    int rc = output_commit(o, &e);
    output_destroy(o);
    refused(_i, rc);
}
END_TEST

START_TEST(what_is_no_folder_of_its_own_is_refused)
{
    make(at("runs"));
    put(at("runs/out"), "a file");
    ck_assert_int_eq(output_check(&spec, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "is no folder"));
    ck_assert(!unlink(at("runs/out")));
    make(at("elsewhere"));
    ck_assert(!symlink(at("elsewhere"), at("runs/out")));
    ck_assert_int_eq(output_check(&spec, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "is no folder but a link"));
    spec.train.output = "/proc";
    ck_assert_int_eq(output_check(&spec, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "/proc is a mount"));
    spec.train.output = at("text.txt/out");
    ck_assert_int_eq(output_check(&spec, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.output: "));
    ck_assert(holds(at("text.txt"), "text"));
}
END_TEST

/* Texts that have nothing in common, folders that do. */
START_TEST(links_hide_nothing)
{
    static const struct {
        const char *link, *to, *output, *checkpoint, *field;
    } rows[] = {
        {"runs", "model", "runs/tuned", NULL, "spec.model.source"},
        {"runs", "ckpt", "runs/out", NULL, "spec.checkpoint.path"},
        {"runs", ".", "runs/board", NULL, "spec.train.tensorboard"},
        {"runs", ".", "runs/x", "x/y", "spec.checkpoint.path"},
        {"runs", "board", "board/a/b", "runs/a", "spec.checkpoint.path"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        teardown();
        setup();
        spec.train.output = at(rows[i].output);
        make(at("board"));
        make(at("ckpt"));
        if (rows[i].checkpoint)
            spec.checkpoint.path = at(rows[i].checkpoint);
        ck_assert(!symlink(at(rows[i].to), at(rows[i].link)));
        ck_assert_int_eq(output_check(&spec, &e), -ERR_USER);
        ck_assert_msg(strstr(e.text, rows[i].field) && strstr(e.text, "a link or a mount"),
            "%s, not %s", e.text, rows[i].field);
    }
}
END_TEST

/* -- leftovers -- */

/* A rank that is killed while it writes. */
static void be_killed(void)
{
    struct output *o;
    pid_t pid = fork();
    if (!pid) {
        if (output_create(&spec, &o, &e))
            _exit(1);
        fill(o, "half", true);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(a_killed_export_is_cleared_away)
{
    must_write("one", false);
    be_killed();
    be_killed();
    ck_assert_int_eq(entries(at("runs")), 3);
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    ck_assert_int_eq(entries(at("runs")), 1);
    ck_assert(holds(at("runs/out/config.json"), "one"));
}
END_TEST

START_TEST(only_our_own_leftovers_are_cleared_away)
{
    struct output *alive;
    struct jobspec mine = spec;
    make(at("runs/out.00000000.partial")); /* no mark */
    make(at("runs/out.0000000g.partial"));
    make(at("runs/other.00000000.partial"));
    be_killed(); /* with a file of somebody's */
    DIR *d = opendir(at("runs"));
    for (struct dirent *f; (f = readdir(d));) {
        char path[600];
        snprintf(path, sizeof path, "%s/runs/%s/notes.md", folder, f->d_name);
        if (f->d_name[0] != '.' && strcmp(f->d_name, "out.0000000g.partial"))
            put(path, "mine");
    }
    closedir(d);
    spec.name = "b";
    be_killed(); /* another job */
    spec = mine;
    ck_assert_msg(!output_create(&spec, &alive, &e), "%s", e.text);
    int before = entries(at("runs"));
    ck_assert_int_eq(before, 6);
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    ck_assert_int_eq(entries(at("runs")), before);
    output_destroy(alive);
    ck_assert_int_eq(entries(at("runs")), before - 1);
}
END_TEST

/* Killed between the two renames of a file system that cannot exchange, and after them. */
START_TEST(an_output_that_was_moved_aside_comes_back)
{
    must_write("one", false);
    ck_assert(!rename(at("runs/out"), at("runs/out.0123abcd.old")));
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    ck_assert(holds(at("runs/out/config.json"), "one"));
    ck_assert(!rename(at("runs/out"), at("runs/out.0123abcd.old")));
    make(at("runs/out"));
    ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
    ck_assert(!io_exists(at("runs/out.0123abcd.old")));
}
END_TEST

/* -- failures -- */

START_TEST(a_file_that_the_table_lacks_is_a_bug)
{
    struct output *o;
    char path[256];
    ck_assert_msg(!output_create(&spec, &o, &e), "%s", e.text);
    fill(o, "one", false);
    snprintf(path, sizeof path, "%s/new.json", output_folder(o));
    put(path, "?");
    ck_assert_int_eq(output_commit(o, &e), -ERR_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "new.json"));
    ck_assert(!unlink(path));
    output_destroy(o);
    ck_assert_int_eq(entries(at("runs")), 0);
}
END_TEST

/* By whoever took it for a leftover, where there are no locks. */
START_TEST(what_is_no_longer_whole_is_not_put_in_place)
{
    struct output *o;
    char path[256];
    must_write("one", false);
    ck_assert_msg(!output_create(&spec, &o, &e), "%s", e.text);
    fill(o, "two", false);
    snprintf(path, sizeof path, "%s/model.safetensors", output_folder(o));
    ck_assert(!unlink(path));
    ck_assert_int_eq(output_commit(o, &e), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "model.safetensors"));
    output_destroy(o);
    ck_assert(holds(at("runs/out/model.safetensors"), "one"));
}
END_TEST

START_TEST(of_an_evaluation_the_report_is_all)
{
    struct output *o;
    spec.task = TASK_EVALUATE;
    spec.train.output = NULL;
    spec.evaluate.output = at("report");
    for (int i = 0; i < 2; i++) {
        char path[512];
        ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
        ck_assert_msg(!output_create(&spec, &o, &e), "%s", e.text);
        snprintf(path, sizeof path, "%s/report.json", output_folder(o));
        put(path, "{}");
        ck_assert_msg(!output_commit(o, &e), "%s", e.text);
        output_destroy(o);
        ck_assert(holds(at("report/report.json"), "{}"));
    }
}
END_TEST

#ifdef LLMJOB_FAULT
/* The n-th call of commit fails, or of putting it in place without an exchange. */
START_TEST(the_old_or_the_new_stands_whole)
{
    for (uint64_t n = 1, calls = n; n <= calls; n++) {
        struct output *o;
        must_write("old", true);
        ck_assert_msg(!output_create(&spec, &o, &e), "%s", e.text);
        fill(o, "new", false);
        fault_arm(&io_faults, n);
        int rc = output_commit(o, &e);
        calls = fault_calls(&io_faults);
        fault_arm(&io_faults, 0);
        output_destroy(o);
        const char *text = rc ? "old" : "new";
        if (rc && holds(at("runs/out/config.json"), "new"))
            text = "new"; /* in place, but it is not sure to stay there */
        ck_assert_msg(holds(at("runs/out/config.json"), text), "call %d", (int)n);
        ck_assert_msg(holds(at("runs/out/model.safetensors"), text), "call %d", (int)n);
        ck_assert(io_exists(at("runs/out/adapter")) == !strcmp(text, "old"));
        ck_assert_msg(!output_check(&spec, &e), "%s", e.text);
        ck_assert_msg(entries(at("runs")) == 1, "call %d leaves something", (int)n);
    }
}
END_TEST
#endif

/* A first output each time: where one stands, an exchange that fails is only one way less. */
static int whole(void *user)
{
    static int round;
    struct jobspec job = *(const struct jobspec *)user;
    struct output *o = NULL;
    struct err why = {0};
    char output[256];
    snprintf(output, sizeof output, "%s/runs/out-%d", folder, round++);
    job.train.output = output;
    int rc;
    if ((rc = output_check(&job, &why)) || (rc = output_create(&job, &o, &why)))
        return rc;
    for (int i = 0; i < 2 && !rc; i++) {
        snprintf(output, sizeof output, "%s/%s", output_folder(o),
            i ? "config.json" : "model.safetensors");
        rc = io_write_new(output, "x", 1, 0644, &why);
    }
    if (!rc)
        rc = output_commit(o, &why);
    output_destroy(o);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, whole, &spec);
    fault_each(FAULT_IO, whole, &spec);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("output");
    TCase *c = tcase_create("output");
    int rows = (int)(sizeof foreign / sizeof *foreign);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, an_output_appears_whole_and_alone);
    tcase_add_test(c, an_own_older_output_and_an_empty_folder_are_replaced);
    tcase_add_loop_test(c, what_is_not_ours_stays, 0, rows);
    tcase_add_loop_test(c, what_came_during_the_training_stays, 0, rows);
    tcase_add_test(c, what_is_no_folder_of_its_own_is_refused);
    tcase_add_test(c, links_hide_nothing);
    tcase_add_test(c, a_killed_export_is_cleared_away);
    tcase_add_test(c, only_our_own_leftovers_are_cleared_away);
    tcase_add_test(c, an_output_that_was_moved_aside_comes_back);
    tcase_add_test(c, a_file_that_the_table_lacks_is_a_bug);
    tcase_add_test(c, what_is_no_longer_whole_is_not_put_in_place);
    tcase_add_test(c, of_an_evaluation_the_report_is_all);
#ifdef LLMJOB_FAULT
    tcase_add_test(c, the_old_or_the_new_stands_whole);
#endif
    tcase_add_test(c, failed_calls_are_reported);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
