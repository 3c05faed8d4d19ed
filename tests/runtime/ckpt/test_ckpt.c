/*
 * Goal: what was saved by any number of ranks is read by any number; a crash at any point leaves
 * the newest complete generation readable; whatever cannot be read (damage, a failing disk, a file
 * that was cut, an absurd number) leads to the generation before or to an error that names the
 * file; an older incarnation cannot commit; what is removed is the writer's own. Method: worlds
 * that save and gather; a child killed at random moments while it saves; every call failed once
 * (FAULT builds); bit flips in every file; tables of names and numbers.
 * needs: faults
 */
#include "runtime/ckpt/ckpt.h"

#include "runtime/ckpt/manifest.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOTAL 1000

static char folder[64];

/* The value of element i of the tensor at a step. */
static float value(int64_t step, int64_t i)
{
    return (float)(step * 10000 + i);
}

static int put_slices(struct ckpt_writer *w, int64_t step, int world, int rank, struct err *e)
{
    float x[TOTAL];
    int64_t first = TOTAL * rank / world, end = TOTAL * (rank + 1) / world;
    int rc = 0;
    for (int64_t i = 0; i < TOTAL; i++)
        x[i] = value(step, i);
    for (int64_t at = first, n; at < end && !rc; at += n) { /* in pieces, which join */
        n = end - at < 300 ? end - at : 300;
        rc = ckpt_put(w, "w", TOTAL, at, n, DTYPE_F32, x + at, e);
    }
    if (!rc && rank == 0)
        rc = ckpt_put(w, "b@1", 3, 0, 3, DTYPE_BF16, "abcdef", e);
    return rc;
}

static const char *owner = "a"; /* of what save commits */

static int save(int64_t step, int world, int64_t incarnation, struct err *e)
{
    char hashes[8][17];
    int64_t bytes[8];
    for (int rank = 0; rank < world; rank++) {
        struct ckpt_writer *w = NULL;
        int rc = ckpt_begin(folder, step, rank, &w, e);
        if (rc)
            return rc;
        rc = put_slices(w, step, world, rank, e);
        if (rc) {
            ckpt_abandon(w);
            return rc;
        }
        rc = ckpt_finish(w, hashes[rank], &bytes[rank], e);
        if (rc)
            return rc;
    }
    struct ckpt_state s = {.step = step,
        .samples = step * 8,
        .tokens = step * 100,
        .seed = 9,
        .incarnation = incarnation,
        .world = world,
        .loss = 1.5};
    snprintf(s.owner, sizeof s.owner, "%s", owner);
    return ckpt_commit(folder, &s, world, (const char(*)[17])hashes, bytes, 2, e);
}

/* The newest generation, checked to hold what its step saved; -1: none. */
static int64_t newest(int readers)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    float x[TOTAL];
    ck_assert_msg(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e) == 0, "%s", e.text);
    if (!r)
        return -1;
    for (int rank = 0; rank < readers; rank++) {
        int64_t first = TOTAL * rank / readers, n = TOTAL * (rank + 1) / readers - first;
        ck_assert_msg(ckpt_get(r, "w", TOTAL, first, n, DTYPE_F32, x, &e) == 0, "%s", e.text);
        for (int64_t i = 0; i < n; i++)
            ck_assert_float_eq(x[i], value(s.step, first + i));
    }
    char text[6];
    ck_assert_int_eq(ckpt_get(r, "b@1", 3, 0, 3, DTYPE_BF16, text, &e), 0);
    ck_assert_mem_eq(text, "abcdef", 6);
    ck_assert_int_eq(s.samples, s.step * 8);
    ckpt_close(r);
    return s.step;
}

START_TEST(any_world_reads_what_any_world_wrote)
{
    struct err e = {0};
    golden_folder(folder);
    ck_assert_int_eq(newest(1), -1);
    for (int writers = 1; writers <= 4; writers++) {
        ck_assert_msg(save(writers, writers, 1, &e) == 0, "%s", e.text);
        for (int readers = 1; readers <= 5; readers++)
            ck_assert_int_eq(newest(readers), writers);
    }
    golden_remove(folder);
    ck_assert_int_eq(newest(1), -1); /* an absent folder holds none */
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    float x[TOTAL];
    golden_folder(folder);
    ck_assert_int_eq(save(5, 2, 1, &e), 0);
    ck_assert_int_eq(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), 0);
    ck_assert_int_eq(ckpt_get(r, "w", TOTAL, 0, 1, DTYPE_F32, x, &e), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(
            ckpt_get(r, (const char *[]){"v", "", "w@0"}[i], TOTAL, 0, 1, DTYPE_F32, x, &e),
            -ERR_CORRUPT);
    ck_assert_int_eq(ckpt_get(r, "w", TOTAL - 1, 0, 1, DTYPE_F32, x, &e), -ERR_CORRUPT);
    ck_assert_int_eq(ckpt_get(r, "w", TOTAL, 0, 1, DTYPE_BF16, x, &e), -ERR_CORRUPT);
    ck_assert_int_eq(ckpt_get(r, "w", TOTAL, TOTAL, 1, DTYPE_F32, x, &e), -ERR_BUG);
    ckpt_close(r);
    ckpt_close(NULL);
    golden_remove(folder);
}
END_TEST

START_TEST(gaps_are_seen)
{
    struct ckpt_writer *w = NULL;
    struct ckpt_reader *r = NULL;
    struct ckpt_state s = {.step = 1, .incarnation = 1, .world = 1};
    struct err e = {0};
    float x[10] = {0};
    char hash[17];
    int64_t bytes;
    golden_folder(folder);
    ck_assert_int_eq(ckpt_begin(folder, 1, 0, &w, &e), 0);
    ck_assert_int_eq(ckpt_put(w, "w", 10, 0, 4, DTYPE_F32, x, &e), 0);
    ck_assert_int_eq(ckpt_put(w, "w", 10, 6, 4, DTYPE_F32, x, &e), 0);
    ck_assert_int_eq(ckpt_put(w, "w", 10, 8, 4, DTYPE_F32, x, &e), -ERR_BUG);
    ck_assert_int_eq(ckpt_finish(w, hash, &bytes, &e), 0);
    ck_assert_int_eq(ckpt_commit(folder, &s, 1, (const char(*)[17]) & hash, &bytes, 2, &e), 0);
    ck_assert_int_eq(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.text, "tensor w has: a gap at 4"));
    golden_remove(folder);
}
END_TEST

static int count_entries(const char *name, const char *prefix)
{
    char path[200];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));)
        n += !strncmp(f->d_name, prefix, strlen(prefix)) && strcmp(f->d_name, ".") &&
            strcmp(f->d_name, "..");
    if (d)
        closedir(d);
    return n;
}

START_TEST(the_newest_generations_stay)
{
    struct err e = {0};
    struct ckpt_writer *w = NULL;
    golden_folder(folder);
    ck_assert_int_eq(ckpt_begin(folder, 2, 0, &w, &e), 0); /* never finished: goes too */
    ckpt_abandon(w);
    for (int64_t step = 1; step <= 5; step++)
        ck_assert_int_eq(save(step, 2, 1, &e), 0);
    ck_assert_int_eq(count_entries("", "step-"), 2);
    ck_assert_int_eq(newest(1), 5);
    /* the same step again, by another world: one set of files stays */
    ck_assert_int_eq(save(5, 3, 1, &e), 0);
    ck_assert_int_eq(newest(2), 5);
    ck_assert_int_eq(count_entries("step-00000005", ""), 4);
    golden_remove(folder);
}
END_TEST

START_TEST(an_older_incarnation_cannot_commit)
{
    struct err e = {0};
    golden_folder(folder);
    ck_assert_int_eq(ckpt_claim(folder, 3, "a", &e), 0);
    ck_assert_int_eq(save(1, 1, 3, &e), 0);
    ck_assert_int_eq(ckpt_claim(folder, 4, "a", &e), 0);
    ck_assert_int_eq(ckpt_claim(folder, 4, "a", &e), 0); /* the same again is fine */
    ck_assert_int_eq(ckpt_claim(folder, 3, "a", &e), -ERR_DRAINED);
    ck_assert_int_eq(save(2, 1, 3, &e), -ERR_DRAINED);
    ck_assert_int_eq(newest(1), 1);
    ck_assert_int_eq(save(2, 1, 4, &e), 0);
    ck_assert_int_eq(newest(1), 2);
    golden_remove(folder);
}
END_TEST

/* Two halves of a job that cannot see each other come to the same number: one of them goes on. */
START_TEST(a_number_has_one_owner)
{
    char file[400];
    struct err e = {0};
    golden_folder(folder);
    ck_assert_int_eq(ckpt_claim(folder, 3, "a", &e), 0);
    ck_assert_int_eq(ckpt_claim(folder, 3, "b", &e), -ERR_DRAINED);
    owner = "b";
    ck_assert_int_eq(save(1, 1, 3, &e), -ERR_DRAINED);
    owner = "a";
    ck_assert_int_eq(save(1, 1, 3, &e), 0);
    ck_assert_int_eq(ckpt_claim(folder, 4, "b", &e), 0);
    ck_assert_int_eq(save(2, 1, 4, &e), -ERR_DRAINED);
    owner = "b";
    ck_assert_int_eq(save(2, 1, 4, &e), 0);
    owner = "a";
    snprintf(file, sizeof file, "%s/.llmjob-owner", folder);
    ck_assert_int_eq(unlink(file), 0); /* a claim of an earlier version has none */
    ck_assert_int_eq(ckpt_claim(folder, 4, "a", &e), 0);
    golden_remove(folder);
}
END_TEST

static void flip(const char *path, unsigned int *seed)
{
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    ck_assert_int_eq(io_read_file(path, 1 << 24, &text, &e), 0);
    /* in what comes last: in the padding of a header, which is most of it, any reader sees it */
    size_t near = text.len < 1500 ? text.len : 1500;
    text.data[text.len - 1 - (size_t)rand_r(seed) % near] ^= (char)(1 << rand_r(seed) % 8);
    golden_write(path, text.data, text.len);
}

/* The first file of a step that begins so; fails the test when there is none. */
static void find_file(const char *step, const char *prefix, char path[400])
{
    char in[200];
    *path = 0;
    snprintf(in, sizeof in, "%s/%s", folder, step);
    DIR *d = opendir(in);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d));)
        if (!strncmp(f->d_name, prefix, strlen(prefix)))
            snprintf(path, 400, "%s/%s", in, f->d_name);
    closedir(d);
    ck_assert_msg(*path, "no %s in %s", prefix, in);
}

/* Flips one bit of each file of the newest generation in turn; the one before must be used. */
START_TEST(damage_is_seen_and_the_older_generation_used)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    struct err e = {0};
    for (int file = 0; file < 3; file++) {
        golden_folder(folder);
        ck_assert_int_eq(save(1, 2, 1, &e), 0);
        ck_assert_int_eq(save(2, 2, 1, &e), 0);
        char path[400], prefix[16] = "manifest.json";
        if (file < 2)
            snprintf(prefix, sizeof prefix, "rank-%05d", file);
        find_file("step-00000002", prefix, path);
        ck_assert_int_eq(newest(1), 2);
        flip(path, &seed);
        ck_assert_int_eq(newest(1), 1);
        ck_assert_int_eq(save(2, 2, 1, &e), 0); /* training comes by again */
        ck_assert_int_eq(newest(1), 2);
        golden_remove(folder);
    }
}
END_TEST

/* A child saves step after step and is killed in the midst of it; what it last reported as
   committed, or a later one, must be there and whole. */
START_TEST(a_crash_loses_no_committed_generation)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    golden_folder(folder);
    int64_t step = 0;
    for (int round = 0; round < 25; round++) {
        int ends[2];
        ck_assert_int_eq(pipe(ends), 0);
        pid_t pid = fork();
        if (!pid) {
            struct err e = {0};
            for (int64_t s = step + 1;; s++)
                if (save(s, 2, 1, &e) || write(ends[1], &s, sizeof s) != sizeof s)
                    _exit(1);
        }
        close(ends[1]);
        int64_t committed = step;
        if (round % 2) /* by time, or right after a commit */
            usleep((useconds_t)(rand_r(&seed) % 20000));
        else
            ck_assert_int_eq(read(ends[0], &committed, sizeof committed), sizeof committed);
        kill(pid, SIGKILL);
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status));
        while (read(ends[0], &committed, sizeof committed) == sizeof committed)
            ;
        close(ends[0]);
        int64_t found = newest(2);
        ck_assert_msg(found >= committed || (found < 0 && !committed), "found %lld, committed %lld",
            (long long)found, (long long)committed);
        step = found < 0 ? 0 : found;
    }
    ck_assert_int_gt(step, 10);
    golden_remove(folder);
}
END_TEST

/* Step 2 is saved with its n-th call failing, for every n. In other builds nothing fails and it is
 * saved once. */
START_TEST(every_failed_call_leaves_a_generation)
{
    for (uint64_t n = 1;; n++) {
        struct err e = {0};
        golden_folder(folder);
        ck_assert_int_eq(save(1, 2, 1, &e), 0);
        fault_arm(&io_faults, n);
        int rc = save(2, 2, 1, &e);
        uint64_t calls = fault_calls(&io_faults);
        fault_arm(&io_faults, 0);
        int64_t found = newest(2);
        /* committed, though clearing up failed, is fine; lost or half is not */
        ck_assert_msg(
            rc ? found == 1 || found == 2 : found == 2, "call %d: %lld", (int)n, (long long)found);
        golden_remove(folder);
        if (calls < n) {
            ck_assert_int_eq(rc, 0);
            break;
        }
    }
}
END_TEST

/* -- what cannot be read -- */

static void put(const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    golden_write(path, text, strlen(text));
}

static bool there(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return io_exists(path);
}

/* A file that shrinks under its reader is an error, where a mapping would be a SIGBUS. */
START_TEST(a_file_that_shrinks_is_an_error)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    float x[TOTAL];
    char path[400];
    golden_folder(folder);
    ck_assert_int_eq(save(1, 1, 1, &e), 0);
    ck_assert_int_eq(save(2, 1, 1, &e), 0);
    ck_assert_int_eq(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), 0);
    find_file("step-00000002", "rank-", path);
    ck_assert_int_eq(truncate(path, 5000), 0);
    int rc = ckpt_get(r, "w", TOTAL, 0, TOTAL, DTYPE_F32, x, &e);
    ck_assert_int_eq(rc, -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ckpt_close(r);
    ck_assert_int_eq(newest(1), 1);
    ck_assert_int_eq(ckpt_open_newest(folder, 1, &r, &s, &e), 0); /* as its caller goes on */
    ck_assert_int_eq(s.step, 1);
    ckpt_close(r);
    golden_remove(folder);
}
END_TEST

/* Every read of the newest generation failed once: the one before is used, and nothing else. In
 * other builds nothing fails. */
START_TEST(a_disk_that_fails_leads_to_the_older_generation)
{
    struct err e = {0};
    int older = 0;
    golden_folder(folder);
    ck_assert_int_eq(save(1, 2, 1, &e), 0);
    ck_assert_int_eq(save(2, 2, 1, &e), 0);
    for (uint64_t n = 1;; n++) {
        struct ckpt_reader *r = NULL;
        struct ckpt_state s = {0};
        fault_arm(&io_faults, n);
        int rc = ckpt_open_newest(folder, INT64_MAX, &r, &s, &e);
        uint64_t calls = fault_calls(&io_faults);
        fault_arm(&io_faults, 0);
        ck_assert_msg(!rc && r, "call %d: %s", (int)n, rc ? e.text : "no checkpoint");
        ckpt_close(r);
        older += s.step == 1;
        if (calls < n) {
            ck_assert_int_eq(s.step, 2);
            break;
        }
    }
#ifdef LLMJOB_FAULT
    ck_assert_int_gt(older, 5);
#endif
    golden_remove(folder);
}
END_TEST

/* With checkpoints there and none that can be read, to begin anew would lose them all. */
START_TEST(nothing_readable_is_not_nothing)
{
    struct ckpt_reader *r = NULL;
    struct ckpt_state s;
    struct err e = {0};
    char path[400];
    golden_folder(folder);
    ck_assert_int_eq(save(1, 1, 1, &e), 0);
    find_file("step-00000001", "rank-", path);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(ckpt_open_newest(folder, INT64_MAX, &r, &s, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.text, folder));
    ck_assert_ptr_null(r);
    ck_assert_int_eq(ckpt_open_newest(folder, 0, &r, &s, &e), -ERR_CORRUPT);
    golden_remove(folder);
}
END_TEST

START_TEST(an_absurd_claim_is_refused_by_name)
{
    static const char *const bad[] = {"", "0\n", "-1\n", "12x\n", "nonsense", "1e3\n", "1 2",
        "9007199254740993\n", "9223372036854775807\n", "99999999999999999999\n"};
    struct err e = {0};
    golden_folder(folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char said[64], path[100];
        buf_auto struct buf text;
        buf_init(&text, 100);
        put("incarnation", bad[i]);
        snprintf(said, sizeof said, "%s/incarnation", folder);
        ck_assert_msg(ckpt_claim(folder, 5, "a", &e) == -ERR_DATA, "\"%s\"", bad[i]);
        ck_assert_msg(strstr(e.text, said) != NULL, "%s", e.text);
        ck_assert_int_eq(save(1, 1, 5, &e), -ERR_DATA);
        snprintf(path, sizeof path, "%s/incarnation", folder);
        ck_assert_int_eq(io_read_file(path, 99, &text, &e), 0);
        ck_assert_str_eq(buf_cstr(&text), bad[i]);
    }
    /* the greatest can be claimed, and what would follow it is said to be too much */
    put("incarnation", "9007199254740990\n");
    ck_assert_int_eq(ckpt_claim(folder, (INT64_C(1) << 53) - 1, "a", &e), 0);
    ck_assert_int_eq(ckpt_claim(folder, INT64_C(1) << 53, "a", &e), -ERR_DATA);
    ck_assert_int_eq(ckpt_claim(folder, 0, "a", &e), -ERR_DATA);
    golden_remove(folder);
}
END_TEST

/* -- what is removed -- */

START_TEST(leftovers_go_with_the_next_claim_and_nothing_else)
{
    static const char *const ours[] = {"step-00000002/.rank-00001-0a1b2c3d",
        "step-00000002/manifest.json.12.3.tmp",
        "step-00000002/rank-00007-0123456789abcdef.safetensors",
        "step-00000003/rank-00000-0123456789abcdef.safetensors",
        "step-00000003/.rank-00000-ffffffff", "incarnation.7.0.tmp"};
    static const char *const others[] = {"notes.md", "step-00000002/notes.md",
        "step-00000002/rank-00000.txt", "step-00000004/keep.txt",
        "step-5/rank-00000-0123456789abcdef.safetensors", "step-00000006/.rank-00000-0000000g",
        "samples/1-0.log"};
    static const char *const folders[] = {
        "step-00000003", "step-00000004", "step-5", "step-00000006", "samples"};
    struct err e = {0};
    golden_folder(folder);
    ck_assert_int_eq(save(1, 2, 1, &e), 0);
    ck_assert_int_eq(save(2, 2, 1, &e), 0);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        ck_assert_int_eq(io_mkdirs(path, 0755, &e), 0);
    }
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        put(ours[i], "left");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        put(others[i], "mine");
    put("step-00000001/manifest.json", "damaged"); /* its files may be wanted yet */
    int files = count_entries("step-00000001", "rank-");
    ck_assert_int_eq(ckpt_claim(folder, 2, "a", &e), 0);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        ck_assert_msg(!there(ours[i]), "%s stays", ours[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(there(others[i]), "%s is gone", others[i]);
    ck_assert(!there("step-00000003"));
    ck_assert_int_eq(count_entries("step-00000001", "rank-"), files);
    ck_assert_int_eq(newest(1), 2);
    golden_remove(folder);
}
END_TEST

START_TEST(pruning_leaves_files_of_others)
{
    struct err e = {0};
    golden_folder(folder);
    for (int64_t step = 1; step <= 4; step++) {
        char name[40];
        ck_assert_int_eq(save(step, 1, 1, &e), 0);
        snprintf(name, sizeof name, "step-%08d/notes.md", (int)step);
        put(name, "mine");
    }
    ck_assert_int_eq(save(4, 2, 1, &e), 0);
    for (int step = 1; step <= 4; step++) {
        char name[40];
        snprintf(name, sizeof name, "step-%08d/notes.md", step);
        ck_assert_msg(there(name), "%s is gone", name);
        snprintf(name, sizeof name, "step-%08d", step);
        ck_assert_int_eq(count_entries(name, "rank-"), step < 3 ? 0 : step - 2);
    }
    golden_remove(folder);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"ckpt", 120, NULL, NULL}, /* disks may be slow */
        (const TTest *const[]){any_world_reads_what_any_world_wrote, what_does_not_fit_is_refused,
            gaps_are_seen, the_newest_generations_stay, an_older_incarnation_cannot_commit,
            a_number_has_one_owner, damage_is_seen_and_the_older_generation_used,
            a_crash_loses_no_committed_generation, every_failed_call_leaves_a_generation,
            a_file_that_shrinks_is_an_error, a_disk_that_fails_leads_to_the_older_generation,
            nothing_readable_is_not_nothing, an_absurd_claim_is_refused_by_name,
            leftovers_go_with_the_next_claim_and_nothing_else, pruning_leaves_files_of_others,
            NULL});
}
