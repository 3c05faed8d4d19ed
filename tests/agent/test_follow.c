/*
 * follow: goal: each line of a file that grows, is rotated, shortened or read on after a break
 * comes once and in order, as does each file of a directory, and none half. The kind: an alarm that
 * is missed because the log was rotated. Method: real files in a folder of the test's, and a wall
 * clock of its choosing; random writers that rotate, beside what they wrote, with breaks at marks.
 */
#include "agent/follow.h"

#include "base/clock.h"
#include "base/random.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[96];
static struct follow *f;
static struct follow_item item;
static struct follow_place at_mark;
static struct err e;
static int64_t wall_ms;

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/llmjob-follow-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    wall_ms = clock_wall_ms();
    ck_assert_int_eq(follow_create(path, false, &f, &e), 0);
    at_mark = follow_place(f);
}

static void teardown(void)
{
    follow_destroy(f);
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

static void put(const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_write_full(fd, text, strlen(text), &e), 0);
    io_close(fd);
}

/* "" : there is none; a line has a bar behind it. */
static const char *next(void)
{
    static char said[64];
    int rc = follow_next(f, wall_ms, &item, &e);
    ck_assert_msg(rc >= 0, "%s", e.text);
    snprintf(
        said, sizeof said, "%.*s%s", rc ? (int)item.len : 0, rc ? item.text : "", rc ? "|" : "");
    return said;
}

static void mark(void)
{
    at_mark = follow_place(f);
}

/* Another reads on from the last mark. */
static void break_off(bool directory)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    struct jsonw w;
    buf_init(&out, 4096);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    follow_place_write(&at_mark, directory, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_int_eq(json_parse(out.data, out.len, &v, &e), 0);
    follow_destroy(f);
    f = NULL;
    ck_assert_int_eq(follow_create(directory ? folder : path, directory, &f, &e), 0);
    const struct follow_place from = follow_place_read(v);
    follow_go(f, &from);
}

START_TEST(a_file_grows)
{
    ck_assert_str_eq(next(), ""); /* nor is it there */
    put("one\ntwo\nthr");
    ck_assert_str_eq(next(), "one|");
    ck_assert_str_eq(next(), "two|");
    ck_assert_str_eq(next(), "");
    put("ee\n\nfour");
    ck_assert_str_eq(next(), "three|");
    ck_assert_str_eq(next(), "|");
    ck_assert_str_eq(next(), "");
    wall_ms += 1000000; /* its end may come however late */
    ck_assert_str_eq(next(), "");
    put("\n");
    ck_assert_str_eq(next(), "four|");
    ck_assert(!item.name && !item.cut);
}
END_TEST

static void rotate(const char *to)
{
    char old[128];
    snprintf(old, sizeof old, "%s/%s", folder, to);
    ck_assert_int_eq(rename(path, old), 0);
}

START_TEST(a_file_is_rotated)
{
    put("one\ntwo\n");
    ck_assert_str_eq(next(), "one|");
    rotate("log.1");
    put("three\n");
    ck_assert_str_eq(next(), "two|");
    ck_assert_str_eq(next(), ""); /* who writes may still have the old one */
    wall_ms += FOLLOW_SETTLE_MS - 1;
    ck_assert_str_eq(next(), "");
    char old[128];
    snprintf(old, sizeof old, "%s/log.1", folder);
    FILE *late = fopen(old, "a");
    fputs("late\nrest", late);
    fclose(late);
    ck_assert_str_eq(next(), "late|");
    ck_assert_str_eq(next(), "");
    wall_ms += FOLLOW_SETTLE_MS;
    ck_assert_str_eq(next(), "rest|"); /* without an end */
    ck_assert_str_eq(next(), "three|");
    ck_assert_str_eq(next(), "");
}
END_TEST

START_TEST(a_file_is_shortened)
{
    put("one\ntwo\n");
    ck_assert_str_eq(next(), "one|");
    ck_assert_str_eq(next(), "two|");
    ck_assert_str_eq(next(), "");
    ck_assert_int_eq(truncate(path, 0), 0);
    put("new\n");
    ck_assert_str_eq(next(), "new|");
}
END_TEST

START_TEST(a_break)
{
    put("one\ntwo\nthree\n");
    next();
    mark();
    ck_assert_str_eq(next(), "two|");
    break_off(false); /* before two was done with */
    ck_assert_str_eq(next(), "two|");
    mark();
    rotate("log.1"); /* in the break */
    put("four\n");
    break_off(false);
    ck_assert_str_eq(next(), "three|");
    ck_assert_str_eq(next(), "");
    wall_ms += FOLLOW_SETTLE_MS;
    ck_assert_str_eq(next(), "four|");
    mark();
    ck_assert_int_eq(truncate(path, 0), 0);
    put("x\n");
    break_off(false);
    ck_assert_str_eq(next(), "x|");
}
END_TEST

START_TEST(a_line_that_is_too_long)
{
    char *text = mem_zalloc(2 * FOLLOW_BYTES + 8);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', 2 * FOLLOW_BYTES);
    put("a\n");
    put(text);
    put("\nb\n");
    ck_assert_str_eq(next(), "a|");
    ck_assert_str_eq(next(), "|");
    ck_assert(item.cut);
    ck_assert_str_eq(next(), "b|");
    ck_assert(!item.cut);
    mark();
    break_off(false); /* bytes were counted */
    ck_assert_str_eq(next(), "");
    text[FOLLOW_BYTES] = 0;
    put(text);
    put("\n");
    ck_assert_int_eq(follow_next(f, wall_ms, &item, &e), 1);
    ck_assert(!item.cut && item.len == FOLLOW_BYTES);
    mem_free(text);
}
END_TEST

START_TEST(what_cannot_be_read_is_said)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(follow_next(f, wall_ms, &item, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "is no regular file"));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(follow_next(f, wall_ms, &item, &e), -ERR_USER);
    ck_assert_int_eq(unlink(path), 0);
    put("a\n");
    ck_assert_str_eq(next(), "a|");
}
END_TEST

static int64_t changed_ms(const char *name)
{
    char at[160];
    struct stat s;
    snprintf(at, sizeof at, "%s/%s", folder, name);
    ck_assert_int_eq(stat(at, &s), 0);
    return (int64_t)s.st_ctim.tv_sec * 1000 + s.st_ctim.tv_nsec / 1000000;
}

static void put_file(const char *name, const char *text, size_t len)
{
    char at[160];
    snprintf(at, sizeof at, "%s/%s", folder, name);
    ck_assert_int_eq(io_write_file(at, text, len, 0600, &e), 0);
}

START_TEST(a_directory)
{
    char dir[128];
    follow_destroy(f);
    ck_assert_int_eq(follow_create(folder, true, &f, &e), 0);
    put_file("b", "one\0two\n", 8);
    put_file(".hidden", "x", 1);
    snprintf(dir, sizeof dir, "%s/folder", folder);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    snprintf(dir, sizeof dir, "%s/link", folder);
    ck_assert_int_eq(symlink("b", dir), 0);
    wall_ms = changed_ms("b") + FOLLOW_SETTLE_MS - 1;
    ck_assert_str_eq(next(), ""); /* it may still be written */
    wall_ms += 2;
    ck_assert_str_eq(next(), "one two\n|");
    ck_assert_str_eq(item.name, "b");
    ck_assert_int_eq(item.ms, changed_ms("b"));
    ck_assert_str_eq(next(), "");
    mark();
    while (clock_wall_ms() <= changed_ms("b") + 10)
        continue;              /* a kernel's times may be 10 ms coarse */
    put_file("a", "three", 5); /* after b, whatever its name */
    put_file("c", "", 0);
    wall_ms = clock_wall_ms() + 2 * FOLLOW_SETTLE_MS;
    ck_assert_str_eq(next(), "three|");
    break_off(true); /* not marked: once more */
    ck_assert_str_eq(next(), "three|");
    mark();
    break_off(true);
    ck_assert_str_eq(next(), "|");
    ck_assert(item.len == 0 && !strcmp(item.name, "c"));
    ck_assert_str_eq(next(), "");
}
END_TEST

/* More than are known ahead, in their order. */
START_TEST(many_files)
{
    char name[16], last[16] = "";
    int count = 0;
    int64_t last_ms = 0;
    follow_destroy(f);
    ck_assert_int_eq(follow_create(folder, true, &f, &e), 0);
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%03d", (i * 7) % 600);
        char at[160];
        snprintf(at, sizeof at, "%s/%s", folder, name);
        int fd = open(at, O_WRONLY | O_CREAT, 0600);
        ck_assert_int_eq(write(fd, name, 3), 3);
        io_close(fd);
    }
    wall_ms = clock_wall_ms() + 2 * FOLLOW_SETTLE_MS;
    while (follow_next(f, wall_ms, &item, &e) == 1) {
        ck_assert(item.len == 3 && !memcmp(item.text, item.name, 3));
        ck_assert(item.ms > last_ms || (item.ms == last_ms && strcmp(item.name, last) != 0));
        last_ms = item.ms;
        snprintf(last, sizeof last, "%s", item.name);
        count++;
    }
    ck_assert_int_eq(count, 600);
}
END_TEST

/* Numbers, by a writer that rotates; every one comes once, whatever the reader does. */
START_TEST(random_writers)
{
    uint64_t seed = sample_setting("LLMJOB_SEED");
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (int round = 0; round < 20; round++) {
        int before = 1000 * round, written = before, marked = before, read = before;
        int rotations = 0, rotated = before;
        bool may_rotate = false; /* the mark is in the newest file */
        for (int step = 0; step < 300 || read < written; step++) {
            char line[24], old[24];
            uint64_t what = random_next(&seed) % 20;
            if (step < 300 && what < 8) {
                snprintf(line, sizeof line, "%d\n", ++written);
                put(line);
            } else if (step < 300 && what == 8 && may_rotate) {
                may_rotate = false;
                rotated = written;
                snprintf(old, sizeof old, "log.%d", ++rotations);
                rotate(old);
                wall_ms += 5000;
                while (follow_next(f, wall_ms, &item, &e) == 1)
                    ck_assert_int_eq((int)strtol(item.text, NULL, 10), ++read);
                put("");
                wall_ms += 5000;
                follow_next(f, wall_ms, &item, &e); /* the new one is noticed before the next */
            } else if (what == 9) {
                mark();
                marked = read;
                may_rotate = read > rotated;
            } else if (what == 10) {
                break_off(false);
                read = marked;
            } else if (follow_next(f, wall_ms, &item, &e) == 1) {
                ck_assert_int_eq((int)strtol(item.text, NULL, 10), ++read);
            } else {
                wall_ms += 700;
            }
        }
        ck_assert_int_eq(read, written);
        mark();
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"follow", 30, setup, teardown},
        (const TTest *const[]){a_file_grows, a_file_is_rotated, a_file_is_shortened, a_break,
            a_line_that_is_too_long, what_cannot_be_read_is_said, a_directory, many_files,
            random_writers, NULL});
}
