/*
 * Goal: what is edited of a served model's adapters stands in the job file that the next rank
 * reads, and in nothing where it fails or may not change. Method: a job in memory, desired states
 * that have crossed as JSON, and the file that is left.
 */
#include "agent/edit.h"
#include "base/buf.h"
#include "base/io.h"
#include "api/limits.h"
#include "api/names.h"
#include "tests/served_job.h"
#include "tests/unit.h"

#include <string.h>
#include <unistd.h>

static struct err e;
static struct arena *arena;
static struct jobspec spec;
static struct roster roster;
static char folder[] = "/tmp/llmjob-test-XXXXXX", job_file[LIMIT_PATH_BYTES];
static struct edit x;

static void setup(void)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    arena = arena_create(1 << 20);
    spec = served_job("[{\"name\":\"x\",\"path\":\"/data/x\"},"
                      "{\"name\":\"z\",\"path\":\"/data/z\"}]",
        arena);
    ck_assert_int_eq(roster_init(&roster, &spec.serve, &e), 0);
    snprintf(job_file, sizeof job_file, "/elsewhere/job.json");
    x = (struct edit){.spec = &spec, .roster = &roster, .run_dir = folder, .job_file = job_file};
}

static void teardown(void)
{
    char path[LIMIT_PATH_BYTES];
    snprintf(path, sizeof path, "%s/" NAME_JOB_FILE, folder);
    unlink(path);
    rmdir(folder);
    roster_done(&roster);
    edit_done(&x);
    arena_destroy(arena);
}

/* As it arrives. */
static int tell(const struct jobspec_served_adapter *adapters, int count, bool lists)
{
    const struct desired d = {.generation = 2,
        .term = 1,
        .replicas = 1,
        .lists_adapters = lists,
        .adapters = (struct jobspec_served_adapter *)adapters,
        .adapter_count = count};
    struct desired heard;
    buf_auto struct buf text;
    json_auto struct json *v = NULL;
    buf_init(&text, LIMIT_REPORT_BYTES);
    arena_auto struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    ck_assert_int_eq(desired_encode(&d, &text, &e), 0);
    ck_assert_int_eq(json_parse(text.data, text.len, &v, &e), 0);
    ck_assert_msg(!desired_decode(v, a, &heard, &e), "%s", e.text);
    return edit_desired(&x, &heard, &e);
}

START_TEST(the_next_rank_reads_what_is_edited)
{
    const struct jobspec_served_adapter list[] = {{"z", "/data/z"}, {"n/1", "/data/n"}};
    struct jobspec read;
    json_auto struct json *v = NULL;
    ck_assert_msg(!tell(list, 2, true), "%s", e.text);
    ck_assert(!strncmp(job_file, folder, strlen(folder)));
    ck_assert_msg(!json_read_file(job_file, LIMIT_JOB_FILE_BYTES, &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, &read, &e), "%s", e.text);
    ck_assert(read.serve.adapter_count == 2 && spec.serve.adapter_count == 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(read.serve.adapters[i].name, list[i].name);
        ck_assert_str_eq(read.serve.adapters[i].path, list[i].path);
        ck_assert_str_eq(roster_now(&roster)->adapters[i].name, list[i].name);
    }
    ck_assert_int_eq(read.serve.adapter_memory, spec.serve.adapter_memory);
    ck_assert_int_eq(roster_now(&roster)->number, 1);
    ck_assert_int_eq(tell(list, 2, true), 0); /* again: nothing */
    ck_assert_int_eq(roster_now(&roster)->number, 1);
    ck_assert_int_eq(tell(NULL, 0, true), 0);
    ck_assert_int_eq(roster_now(&roster)->count, 0);
}
END_TEST

START_TEST(what_may_not_change_does_not)
{
    const struct jobspec_served_adapter list[] = {{"n", "/data/n"}};
    ck_assert_int_eq(tell(NULL, 0, false), 0); /* of a controller that knows of no lists */
    ck_assert_int_eq(roster_now(&roster)->count, 2);
    x.run_dir = "/nowhere/at/all";
    ck_assert_int_ne(tell(list, 1, true), 0);
    ck_assert(roster_now(&roster)->count == 2 && spec.serve.adapter_count == 2);
    ck_assert_str_eq(job_file, "/elsewhere/job.json");
    x.run_dir = folder;
    spec.serve.adapter_memory = 0;
    ck_assert_int_eq(tell(list, 1, true), 0);
    ck_assert_int_eq(roster_now(&roster)->count, 2);
    struct desired d = {.lists_adapters = true};
    ck_assert_int_eq(edit_desired(NULL, &d, &e), 0);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"edit", 10, setup, teardown},
        (const TTest *const[]){
            the_next_rank_reads_what_is_edited, what_may_not_change_does_not, NULL});
}
