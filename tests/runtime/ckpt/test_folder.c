/*
 * Goal: of a folder that is the user's, only what bears the writer's names is taken for a
 * checkpoint's or removed, and what cannot be told is no answer. Method: folders full of names at
 * the edge of each form; a folder that is a file; every call failed once (FAULT builds).
 * needs: faults
 */
#include "runtime/ckpt/folder.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64];
static struct err e;

static const char *in_folder(const char *name)
{
    static char path[2][300];
    static int next;
    char *p = path[next++ % 2];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

START_TEST(steps_are_those_of_the_writer)
{
    static const char *const names[] = {"step-00000007", "step-123456789", "step-00000000",
        "step-7", "step-000000007", "step-0000000x", "step-", "step--0000001", "step-00000007.old",
        "step-99999999999999999999", "step-9223372036854775807", "xstep-00000009"};
    int64_t *steps = NULL;
    int count = -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert(!io_mkdirs(in_folder(names[i]), 0755, &e));
    ck_assert_msg(!ckpt_folder_list(folder, &steps, &count, &e), "%s", e.text);
    ck_assert_int_eq(count, 3);
    ck_assert(steps[0] == 123456789 && steps[1] == 7 && steps[2] == 0);
    mem_free(steps);
    ck_assert_int_eq(ckpt_folder_list(in_folder("absent"), &steps, &count, &e), 0);
    ck_assert_int_eq(count, 0);
    mem_free(steps);
    golden_write(in_folder("file"), "x", 1);
    ck_assert_int_eq(ckpt_folder_list(in_folder("file"), &steps, &count, &e), -ERR_USER);
}
END_TEST

START_TEST(more_folders_than_are_looked_at_are_refused)
{
    int64_t *steps = NULL;
    int count;
    for (int i = 0; i < 4097; i++) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d", i);
        ck_assert(!io_mkdirs(in_folder(name), 0755, &e));
    }
    /* else the newest might be the one that is left out */
    ck_assert_int_eq(ckpt_folder_list(folder, &steps, &count, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, folder));
}
END_TEST

START_TEST(what_cannot_be_told_is_no_answer)
{
    bool committed = true;
    ck_assert_int_eq(ckpt_folder_committed(folder, 1, &committed, &e), 0);
    ck_assert(!committed);
    ck_assert(!io_mkdirs(in_folder("step-00000001"), 0755, &e));
    golden_write(in_folder("step-00000001/manifest.json"), "x", 1);
    ck_assert_int_eq(ckpt_folder_committed(folder, 1, &committed, &e), 0);
    ck_assert(committed);
    ck_assert(!io_mkdirs(in_folder("step-00000002/manifest.json"), 0755, &e));
    ck_assert_int_eq(ckpt_folder_committed(folder, 2, &committed, &e), -ERR_DATA);
}
END_TEST

static int ask(void *user)
{
    bool committed = false;
    (void)user;
    int rc = ckpt_folder_committed(folder, 1, &committed, &e);
    ck_assert(rc || committed); /* a failure never looks like absence */
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    ck_assert(!io_mkdirs(in_folder("step-00000001"), 0755, &e));
    golden_write(in_folder("step-00000001/manifest.json"), "x", 1);
    fault_each(FAULT_IO, ask, NULL);
}
END_TEST

START_TEST(a_kept_generation_keeps_its_files)
{
    static const char kept[] = "rank-00000-0123456789abcdef.safetensors";
    struct ckpt_file file = {.hash = "0123456789abcdef"};
    const struct ckpt_manifest m = {.files = &file, .file_count = 1};
    char name[80];
    ckpt_file_name(0, file.hash, file.name);
    ck_assert_str_eq(file.name, kept);
    ck_assert(!io_mkdirs(in_folder("step-00000001"), 0755, &e));
    for (int i = 0; i < 2; i++) { /* of this save and of another world's */
        snprintf(name, sizeof name, "step-00000001/rank-0000%d-0123456789abcdef.safetensors", i);
        golden_write(in_folder(name), "x", 1);
    }
    golden_write(in_folder("step-00000001/manifest.json"), "x", 1);
    golden_write(in_folder("step-00000001/rank-00000-0123.safetensors.bak"), "x", 1);
    ck_assert(!ckpt_folder_clear(folder, 1, &m, &e));
    ck_assert(io_exists(in_folder("step-00000001/manifest.json")));
    snprintf(name, sizeof name, "step-00000001/%s", kept);
    ck_assert(io_exists(in_folder(name)));
    ck_assert(!io_exists(in_folder("step-00000001/rank-00001-0123456789abcdef.safetensors")));
    ck_assert(!ckpt_folder_clear(folder, 1, NULL, &e));
    ck_assert(!io_exists(in_folder("step-00000001/manifest.json")));
    ck_assert(io_exists(in_folder("step-00000001/rank-00000-0123.safetensors.bak")));
    ck_assert(!ckpt_folder_clear(folder, 2, NULL, &e)); /* absent is fine */
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"ckpt_folder", 30, setup, teardown},
        (const TTest *const[]){steps_are_those_of_the_writer,
            more_folders_than_are_looked_at_are_refused, what_cannot_be_told_is_no_answer,
            failed_calls_are_reported, a_kept_generation_keeps_its_files, NULL});
}
