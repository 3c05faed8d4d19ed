/*
 * saver: goal: the newest text is in the file in the end, and whoever puts one does not wait until
 * it is there, also of a folder that does not answer; one of two savers has the file. Method: many
 * texts at once, of which the file is seen to become few; a folder that is missing at first, one
 * that hangs (tests/hang.h); two savers with a lock; allocations that fail. needs: threads
 */
#include "agent/aside.h"
#include "agent/saver.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/mem.h"

#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "tests/hang.h"
#include "tests/unit.h"

#define PUTS  400
#define BYTES (256 << 10)

static struct err e;
static char dir[32], path[64];

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/test-saver-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static char *text_of(int i)
{
    char *text = mem_alloc(BYTES + 16);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a' + i % 26, BYTES);
    snprintf(text + BYTES, 16, "%d", i);
    return text;
}

static void assert_is(int i)
{
    mem_autofree char *text = text_of(i);
    buf_auto struct buf found;
    buf_init(&found, 2 * BYTES);
    ck_assert_msg(!io_read_file(path, 2 * BYTES, &found, &e), "%s", e.text);
    ck_assert_msg(!strcmp(buf_cstr(&found), text), "it is not text %d", i);
}

static int renames_in(int watch)
{
    _Alignas(struct inotify_event) char events[65536];
    ssize_t n;
    int sum = 0;
    while ((n = read(watch, events, sizeof events)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *x = (void *)(events + at);
            sum += (x->mask & IN_MOVED_TO) != 0;
            at += (ssize_t)(sizeof *x + x->len);
        }
    return sum;
}

START_TEST(the_newest_text_is_written)
{
    struct saver *s;
    make_dir();
    snprintf(path, sizeof path, "%s/text", dir);
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    ck_assert_int_ge(inotify_add_watch(watch, dir, IN_MOVED_TO), 0);
    ck_assert_msg(!saver_create(path, NULL, &s, &e), "%s", e.text);
    for (int i = 0; i < PUTS; i++)
        saver_put(s, text_of(i));
    saver_destroy(s);
    assert_is(PUTS - 1);
    int times = renames_in(watch);
    ck_assert_msg(times > 0 && times < PUTS / 2, "written %d times", times);
    io_close(watch);
    ck_assert_int_eq(io_remove_tree(dir, &e), 0);
}
END_TEST

/* What cannot be written is not the end: a later text may be. */
START_TEST(goes_on_after_a_failure)
{
    struct saver *s;
    char sub[64];
    make_dir();
    snprintf(sub, sizeof sub, "%s/sub", dir);
    snprintf(path, sizeof path, "%s/text", sub);
    ck_assert_msg(!saver_create(path, NULL, &s, &e), "%s", e.text);
    saver_put(s, text_of(1));
    saver_destroy(s);
    ck_assert(!io_exists(path));
    ck_assert_msg(!saver_create(path, NULL, &s, &e), "%s", e.text);
    saver_put(s, text_of(2));
    ck_assert_int_eq(io_mkdirs(sub, 0700, &e), 0);
    saver_put(s, text_of(3));
    saver_destroy(s);
    assert_is(3);
    saver_destroy(NULL);
    ck_assert_int_eq(io_remove_tree(dir, &e), 0);
}
END_TEST

/* The claim's answer, when it comes. */
static int claimed(struct saver *s, char **kept)
{
    int rc;
    int64_t until_ms = clock_ms() + 10000;
    *kept = NULL;
    while (!(rc = saver_claim(s, kept, &e)))
        ck_assert_int_lt(clock_ms(), until_ms);
    return rc;
}

START_TEST(one_has_the_file)
{
    struct saver *one, *two;
    char lock[80], *kept;
    make_dir();
    snprintf(path, sizeof path, "%s/sub/text", dir);
    snprintf(lock, sizeof lock, "%s/sub/lock", dir);
    ck_assert_int_eq(saver_create(path, lock, &one, &e), 0);
    ck_assert_int_eq(saver_create(path, lock, &two, &e), 0);
    ck_assert_int_eq(claimed(one, &kept), 1);
    ck_assert_ptr_null(kept); /* there was none */
    ck_assert_int_eq(claimed(two, &kept), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "another has it"));
    saver_put(one, text_of(1));
    saver_destroy(one);
    ck_assert_int_eq(claimed(two, &kept), 1);
    mem_autofree char *first = text_of(1);
    ck_assert_str_eq(kept, first);
    mem_free(kept);
    ck_assert_int_eq(claimed(two, &kept), 1);
    ck_assert_ptr_null(kept); /* once */
    saver_destroy(two);
    ck_assert_int_eq(truncate(path, SAVER_BYTES + 1), 0); /* what cannot be read is not forgotten */
    ck_assert_int_eq(saver_create(path, lock, &one, &e), 0);
    ck_assert_int_eq(claimed(one, &kept), -ERR_DATA);
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(claimed(one, &kept), 1);
    saver_destroy(one);
    ck_assert_int_eq(io_remove_tree(dir, &e), 0);
}
END_TEST

START_TEST(a_folder_that_does_not_answer)
{
    struct saver *s;
    make_dir();
    snprintf(path, sizeof path, "%s/text", dir);
    if (!hang_possible())
        return;
    ck_assert_int_eq(saver_create(path, NULL, &s, &e), 0);
    int hang = hang_begin(dir);
    int64_t began_ms = clock_ms();
    for (int i = 0; i < PUTS; i++)
        saver_put(s, text_of(i));
    ck_assert_int_eq(saver_late_ms(s), 0); /* not yet */
    ck_assert_int_lt(clock_ms() - began_ms, ASIDE_LATE_MS);
    hang_end(dir, hang);
    saver_put(s, text_of(PUTS));
    saver_destroy(s);
    assert_is(PUTS);
    ck_assert_int_eq(io_remove_tree(dir, &e), 0);
}
END_TEST

static int create_under_faults(void *user)
{
    struct saver *s = NULL;
    (void)user;
    int rc = saver_create("/tmp/nothing", "/tmp/lock", &s, &e);
    saver_destroy(s);
    return rc;
}

START_TEST(without_memory)
{
    fault_each(FAULT_MEM, create_under_faults, NULL);
}
END_TEST

UNIT_MAIN("saver", the_newest_text_is_written, goes_on_after_a_failure, one_has_the_file,
    a_folder_that_does_not_answer, without_memory)
