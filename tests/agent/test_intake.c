/*
 * intake: goal: what a source has comes once and in order, also to one that begins where another
 * was done; no more waits than may; a folder that does not answer holds nobody up, and goes on when
 * it does. Method: files of the test's, and a folder that hangs (tests/hang.h). needs: threads
 */
#include "agent/intake.h"

#include "base/clock.h"
#include "base/json.h"
#include "tests/hang.h"
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 10000

static char folder[64], path[96];
static struct intake *r;
static struct follow_item item;
static struct err e;

static void begin(const char *what, bool directory, const struct follow_place *from)
{
    ck_assert_int_eq(intake_create(what, directory, &r, &e), 0);
    ck_assert(!intake_view(r).begun);
    intake_begin(r, from);
}

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/llmjob-intake-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    r = NULL;
}

static void teardown(void)
{
    intake_destroy(r);
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

static void put(const char *text, size_t len)
{
    FILE *f = fopen(path, "a");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, len, f), len);
    fclose(f);
}

#define view_until(condition) \
    do { \
        int64_t until_ms = clock_ms() + WAIT_MS; \
        for (struct intake_view v = intake_view(r); !(condition); v = intake_view(r)) \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
    } while (0)

static void take(void)
{
    view_until(v.waiting > 0);
    ck_assert(intake_next(r, &item));
}

/* Where the mark is, as it is kept. */
static struct follow_place kept_place(void)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    struct jsonw w;
    buf_init(&out, 4096);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    intake_write(r, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_int_eq(json_parse(out.data, out.len, &v, &e), 0);
    return follow_place_read(v);
}

static struct follow_place start(void)
{
    return follow_place_read(NULL);
}

START_TEST(lines_come_once_and_in_order)
{
    struct follow_place from = start();
    char line[16];
    begin(path, false, &from);
    view_until(v.whole && !v.behind); /* there is no file yet */
    ck_assert(!intake_next(r, &item));
    for (int i = 0; i < 1000; i++)
        put(line, (size_t)snprintf(line, sizeof line, "%d\n", i));
    for (int i = 0; i < 1000; i++) {
        take();
        ck_assert_int_eq((int)strtol(item.text, NULL, 10), i);
        ck_assert(!item.name && !item.cut);
        if (i == 700)
            intake_mark(r);
    }
    from = kept_place();
    intake_destroy(r);
    begin(path, false, &from);
    take();
    ck_assert_int_eq((int)strtol(item.text, NULL, 10), 701);
    ck_assert_int_eq(kept_place().offset, from.offset); /* taken, and not done with */
}
END_TEST

START_TEST(no_more_waits_than_may)
{
    const struct follow_place from = start();
    char *text = mem_alloc(INTAKE_BYTES / 2);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', INTAKE_BYTES / 2);
    text[INTAKE_BYTES / 2 - 1] = '\n';
    for (int i = 0; i < 6; i++)
        put(text, INTAKE_BYTES / 2);
    for (int i = 0; i < 2 * INTAKE_ITEMS; i++)
        put("a\0b\n", 4);
    begin(path, false, &from);
    view_until(v.whole);
    ck_assert_int_le(intake_view(r).waiting, 3); /* two are half a line's end too few */
    for (int i = 0; i < 6; i++) {
        take();
        ck_assert_uint_eq(item.len, INTAKE_BYTES / 2 - 1);
    }
    view_until(v.whole);
    ck_assert_int_eq(intake_view(r).waiting, INTAKE_ITEMS);
    ck_assert(intake_view(r).behind);
    for (int i = 0; i < 2 * INTAKE_ITEMS; i++) {
        take();
        ck_assert(item.len == 3 && !memcmp(item.text, "a\0b", 3));
    }
    view_until(v.whole && !v.behind);
    mem_free(text);
}
END_TEST

START_TEST(files_of_a_directory)
{
    const struct follow_place from = start();
    put("one", 3);
    begin(folder, true, &from);
    take();
    ck_assert(item.len == 3 && !strcmp(item.name, "log") && item.ms > 0);
    intake_mark(r);
    ck_assert_str_eq(kept_place().name, "log");
}
END_TEST

START_TEST(what_cannot_be_read_is_told)
{
    const struct follow_place from = start();
    begin(folder, false, &from); /* which is no file */
    view_until(v.fails.code == ERR_USER);
    ck_assert(intake_view(r).whole && !intake_view(r).behind);
}
END_TEST

START_TEST(a_folder_that_does_not_answer)
{
    const struct follow_place from = start();
    if (!hang_possible())
        return;
    put("one\n", 4);
    begin(path, false, &from);
    take();
    view_until(!v.behind);
    int hang = hang_begin(folder);
    int64_t began_ms = clock_ms();
    for (int i = 0; i < 1000; i++)
        ck_assert(!intake_next(r, &item) && intake_view(r).late_ms == 0);
    ck_assert_int_lt(clock_ms() - began_ms, 1000);
    hang_end(folder, hang);
    put("two\n", 4);
    take();
    ck_assert_str_eq(item.text, "two");
    hang = hang_begin(folder);
    began_ms = clock_ms();
    intake_destroy(r); /* it may be at the folder, where it is left */
    r = NULL;
    ck_assert_int_lt(clock_ms() - began_ms, 5 * INTAKE_END_MS);
    hang_end(folder, hang);
}
END_TEST

static int make_one(void *user)
{
    struct intake *one = NULL;
    (void)user;
    int rc = intake_create(path, true, &one, &e);
    intake_destroy(one);
    return rc;
}

START_TEST(want_of_memory)
{
    fault_each(FAULT_MEM, make_one, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"intake", 60, setup, teardown},
        (const TTest *const[]){lines_come_once_and_in_order, no_more_waits_than_may,
            files_of_a_directory, what_cannot_be_read_is_told, a_folder_that_does_not_answer,
            want_of_memory, NULL});
}
