/*
 * Goal: what a folder of checkpoints holds is told as its manifests say it, and damage of any file
 * is found and named. Method: generations of two ranks, listed and verified as they are and with a
 * bit of each file flipped, a file cut, one gone; versions that say less; nothing that is printed
 * acts on a terminal.
 */
#include "runtime/ckpt/inspect.h"

#include "runtime/ckpt/folder.h"
#include "runtime/files/hash.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <unistd.h>

static char folder[64];
static char files[2][64]; /* of the step that was saved last */
static struct err e;

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static void save(int64_t step)
{
    char hashes[2][17];
    int64_t bytes[2];
    float x[6] = {1, 2, 3, 4, 5, 6};
    struct ckpt_state s = {.step = step,
        .incarnation = 1,
        .world = 2,
        .layout = "dp1 x tp2",
        .source = "/data/models/m\x1b[31m.gguf",
        .written_ms = 1790000000000,
        .identity = "{\"spec.precision\":\"BF16\",\"spec.train.method\":\"LoRA\"}"};
    for (int rank = 0; rank < 2; rank++) {
        const struct ckpt_piece p = {2, 6, 0, 3 * rank, 2, 3};
        struct ckpt_writer *w = NULL;
        ck_assert(!ckpt_begin(folder, step, rank, &w, &e));
        ck_assert(!ckpt_put_piece(w, "w", &p, DTYPE_F32, x, &e));
        ck_assert(!ckpt_finish(w, hashes[rank], &bytes[rank], &e));
        ckpt_file_name(rank, hashes[rank], files[rank]);
    }
    ck_assert(!ckpt_commit(folder, &s, 2, (const char(*)[17])hashes, bytes, 9, &e));
}

/* What is printed, until the next call. */
static const char *said(int (*ask)(int argc, char **argv, FILE *out, struct err *e), int argc,
    const char *const *args, int rc)
{
    static char text[8192];
    char *argv[4];
    FILE *out = fmemopen(text, sizeof text, "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < argc; i++)
        argv[i] = (char *)args[i];
    e.text[0] = 0;
    int is = ask(argc, argv, out, &e);
    fclose(out);
    ck_assert_msg(is == rc, "%d: %s", is, e.text);
    return text;
}

static const char *list(void)
{
    return said(ckpt_inspect_run, 2, (const char *[]){"ls", folder}, 0);
}

static const char *verify(const char *step, int rc)
{
    return said(ckpt_inspect_run, step ? 3 : 2, (const char *[]){"verify", folder, step}, rc);
}

static char *path_of(const char *step, const char *file)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s/%s", folder, step, file);
    return path;
}

/* Flips the lowest bit of a byte, counted from the end. */
static void flip(const char *path, size_t from_end)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 24);
    ck_assert(!io_read_file(path, 1 << 24, &text, &e));
    text.data[text.len - from_end] ^= 1;
    golden_write(path, text.data, text.len);
}

START_TEST(generations_are_listed_newest_first)
{
    char name[64];
    ck_assert_ptr_nonnull(strstr(list(), "holds no checkpoint"));
    save(25);
    save(1000);
    save(50);
    ck_assert(!ckpt_folder_set_aside(folder, 50, name, &e));
    ck_assert_str_eq(name, "step-00000050.damaged");
    save(50);
    ck_assert(!ckpt_folder_set_aside(folder, 50, name, &e));
    ck_assert_str_eq(name, "step-00000050.damaged-2");
    ck_assert(!io_mkdirs(path_of("step-00000075", ""), 0755, &e));
    const char *text = list();
    const char *at[] = {strstr(text, "STEP"), strstr(text, "    1000  "),
        strstr(text, "      75  unfinished"), strstr(text, "set aside as step-00000050.damaged\n"),
        strstr(text, "set aside as step-00000050.damaged-2\n"), strstr(text, "      25  ")};
    for (int i = 0; i < 6; i++)
        ck_assert_msg(at[i] && (!i || at[i] > at[i - 1]), "%d in:\n%s", i, text);
    ck_assert_msg(strstr(text,
                      "      25  2026-09-21T14:13:20Z     2.0 MiB  2 (dp1 x tp2)  BF16       "
                      "complete  LoRA of /data/models/m\\u001b[31m.gguf\n") != NULL,
        "%s", text);
    ck_assert_ptr_null(strchr(text, 0x1b));
}
END_TEST

/* Also what others put there, and whatever becomes of it. */
START_TEST(what_is_set_aside_is_weighed)
{
    char name[64];
    int64_t bytes = -1, more = 0;
    int count = -1;
    save(50);
    ck_assert(!ckpt_folder_aside(folder, &count, &bytes, &e));
    ck_assert(count == 0 && bytes == 0);
    ck_assert_ptr_null(strstr(list(), "set aside"));
    ck_assert(!ckpt_folder_set_aside(folder, 50, name, &e));
    ck_assert(!ckpt_folder_aside(folder, &count, &bytes, &e));
    ck_assert_int_eq(count, 1);
    ck_assert_int_ge(bytes, 2 * 24); /* of the tensor's halves */
    ck_assert_ptr_nonnull(strstr(list(), "1 folder set aside, "));
    save(50);
    ck_assert(!ckpt_folder_set_aside(folder, 50, name, &e));
    golden_write(path_of(name, "odd"), "12345", 5);
    ck_assert(!ckpt_folder_aside(folder, &count, &more, &e));
    ck_assert_int_eq(count, 2);
    ck_assert_int_eq(more, 2 * bytes + 5);
    ck_assert_ptr_nonnull(strstr(list(), "2 folders set aside, "));
}
END_TEST

START_TEST(damage_is_listed_as_far_as_it_is_seen)
{
    save(1);
    save(2);
    char *path = path_of("step-00000002", files[1]);
    ck_assert(!truncate(path, 5000));
    const char *text = list();
    ck_assert_msg(strstr(text, "damaged") && strstr(text, path), "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "complete"));
    ck_assert(!unlink(path));
    ck_assert_msg(strstr(list(), path) != NULL, "%s", list());
    flip(path_of("step-00000002", "manifest.json"), 20);
    ck_assert_ptr_nonnull(strstr(list(), "       2  damaged: "));
}
END_TEST

START_TEST(every_flipped_bit_is_found)
{
    for (int file = -1; file < 2; file++) {
        save(1);
        save(2);
        const char *name = file < 0 ? "manifest.json" : files[file];
        ck_assert_str_eq(
            verify(NULL, 0), "step 2: whole: 2 files, 2.0 MiB\nstep 1: whole: 2 files, 2.0 MiB\n");
        flip(path_of("step-00000002", name), 3);
        const char *text = verify(NULL, -ERR_CORRUPT);
        ck_assert_msg(
            strstr(text, "step 2: damaged: ") && strstr(text, "step 1: whole"), "%s", text);
        ck_assert_msg(strstr(text, path_of("step-00000002", name)) != NULL, "%s", text);
        ck_assert_msg(strstr(e.text, path_of("step-00000002", name)) != NULL, "%s", e.text);
        verify("2", -ERR_CORRUPT);
        ck_assert_str_eq(verify("1", 0), "step 1: whole: 2 files, 2.0 MiB\n");
    }
}
END_TEST

/* Each file that is bad has its line, and what hangs together badly has one. */
START_TEST(all_that_is_wrong_is_named)
{
    save(1);
    ck_assert(!truncate(path_of("step-00000001", files[0]), 100));
    ck_assert(!unlink(path_of("step-00000001", files[1])));
    const char *text = verify(NULL, -ERR_CORRUPT);
    ck_assert_msg(strstr(text, files[0]) && strstr(text, files[1]), "%s", text);
    ck_assert_msg(strstr(e.text, files[0]) && strstr(e.text, "100 bytes, its manifest says 1048"),
        "%s", e.text);
}
END_TEST

START_TEST(what_is_not_there_is_the_callers_mistake)
{
    ck_assert_str_eq(verify(NULL, -ERR_USER), "");
    ck_assert_ptr_nonnull(strstr(e.text, "holds no checkpoint"));
    save(3);
    verify("4", -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "of step 4"));
    static const char *const bad[][3] = {{"ls", "/absent/folder"}, {"ls", "/dev/null"},
        {"verify", "/absent/folder"}, {"verify", "/tmp", "-3"}, {"verify", "/tmp", "3x"},
        {"ls", "/tmp", "3"}, {"remove", "/tmp"}};
    static const int counts[] = {2, 2, 2, 3, 3, 3, 2};
    for (int i = 0; i < 7; i++)
        said(ckpt_inspect_run, counts[i], bad[i], -ERR_USER);
    said(ckpt_inspect_run, 1, bad[0], -ERR_USER);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"ckpt_inspect", 120, setup, teardown},
        (const TTest *const[]){generations_are_listed_newest_first, what_is_set_aside_is_weighed,
            damage_is_listed_as_far_as_it_is_seen, every_flipped_bit_is_found,
            all_that_is_wrong_is_named, what_is_not_there_is_the_callers_mistake, NULL});
}
