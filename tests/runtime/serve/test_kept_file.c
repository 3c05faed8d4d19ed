/*
 * Goal: a file of embeddings gives back what was written, or says what it is instead: none of ours,
 * damaged, too large. Method: files of two numbers a row, each byte of one changed in turn; every
 * call that may fail does.
 * needs: faults
 */
#include "runtime/serve/kept_file.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ENCODER 0x1234
#define ROWS    3

static const struct kept_key keys[ROWS] = {{"0000000000000000000000000000000"},
    {"0000000000000000000000000000001"}, {"1000000000000000000000000000000"}};
static struct err e;
static char folder[64], name[KEPT_FILE_NAME], path[160];

static int two_numbers(void *user, int64_t i, float *row, struct err *why)
{
    (void)user;
    row[0] = (float)i;
    row[1] = -2;
    return i < ROWS ? 0 : err_set(why, ERR_BUG, "no such row");
}

static const struct kept_file_new three = {ENCODER, 2, ROWS, keys, two_numbers, NULL};

static void setup(void)
{
    golden_folder(folder);
    ck_assert_msg(!kept_file_write(folder, &three, name, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/%s", folder, name);
}

static void done(void)
{
    golden_remove(folder);
}

static int open_it(struct kept_file *f)
{
    return kept_file_open(folder, name, ENCODER, 2, ROWS, f, &e);
}

START_TEST(what_was_written_is_read)
{
    struct kept_file f;
    float row[2];
    char scratch[64], second[KEPT_FILE_NAME];
    bool unfinished;
    ck_assert_int_le(kept_file_record(2), sizeof scratch);
    ck_assert(kept_file_bears_name(name, ENCODER, &unfinished) && !unfinished);
    ck_assert(!kept_file_bears_name(name, ENCODER + 1, &unfinished));
    ck_assert_msg(!open_it(&f), "%s", e.text);
    for (int64_t i = 0; i < ROWS; i++) {
        ck_assert_int_eq(kept_file_find(&f, &keys[i]), i);
        ck_assert(!kept_file_read(&f, i, row, scratch, &e));
        ck_assert(row[0] == (float)i && row[1] == -2);
    }
    const struct kept_key none = {"0000000000000000000000000000002"};
    ck_assert_int_eq(kept_file_find(&f, &none), -1);
    ck_assert(!kept_file_write(folder, &three, second, &e)); /* which is there */
    ck_assert_str_eq(name, second);
    ck_assert(!io_remove(path, &e));
    golden_write(path, "x", 1);
    ck_assert(!kept_file_remove(folder, &f, &e) && io_exists(path)); /* another's now */
    kept_file_close(&f);
    ck_assert_int_eq(open_it(&f), -ERR_DATA);
    ck_assert(!kept_file_write(folder, &three, second, &e));
    ck_assert_str_ne(name, second);
    snprintf(name, sizeof name, "%s", second);
    ck_assert(!open_it(&f) && !kept_file_remove(folder, &f, &e));
    kept_file_close(&f);
    ck_assert_int_eq(open_it(&f), -ERR_DATA);
}
END_TEST

START_TEST(another_encoders_and_larger_ones_are_refused)
{
    struct kept_file f;
    ck_assert_int_eq(kept_file_open(folder, name, ENCODER + 1, 2, ROWS, &f, &e), -ERR_DATA);
    ck_assert_int_eq(kept_file_open(folder, name, ENCODER, 2, ROWS - 1, &f, &e), -ERR_USER);
    ck_assert_int_eq(kept_file_open(folder, name, ENCODER, 3, ROWS, &f, &e), -ERR_CORRUPT);
    kept_file_close(&f);
}
END_TEST

/* All of it is verified: no change of a byte and no end goes unseen. */
START_TEST(each_byte_counts)
{
    buf_auto struct buf b;
    buf_init(&b, 4096);
    ck_assert(!io_read_file(path, 4096, &b, &e));
    for (size_t at = 0; at < 2 * b.len; at++) {
        struct kept_file f;
        float row[2];
        char scratch[64];
        int wrong = 0;
        size_t size = at < b.len ? b.len : at - b.len;
        b.data[at % b.len] ^= 4;
        golden_write(path, b.data, size);
        b.data[at % b.len] ^= 4;
        int rc = open_it(&f);
        ck_assert(rc == 0 || rc == -ERR_DATA || rc == -ERR_CORRUPT);
        for (int64_t i = 0; i < ROWS && !rc; i++)
            wrong += kept_file_read(&f, i, row, scratch, &e) == -ERR_CORRUPT;
        ck_assert_msg(rc || wrong == 1, "byte %zu", at);
        kept_file_close(&f);
    }
}
END_TEST

static int write_and_read(void *user)
{
    struct kept_file f;
    float row[2];
    char scratch[64];
    (void)user;
    unlink(path);
    int rc = kept_file_write(folder, &three, name, &e);
    if (rc || (rc = open_it(&f)))
        return rc;
    rc = kept_file_read(&f, 1, row, scratch, &e);
    if (!rc)
        rc = kept_file_remove(folder, &f, &e);
    kept_file_close(&f);
    return rc;
}

START_TEST(each_call_may_fail)
{
    fault_each(FAULT_IO, write_and_read, NULL);
    fault_each(FAULT_MEM, write_and_read, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"kept_file", 60, setup, done},
        (const TTest *const[]){what_was_written_is_read,
            another_encoders_and_larger_ones_are_refused, each_byte_counts, each_call_may_fail,
            NULL});
}
