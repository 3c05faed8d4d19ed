/*
 * Goal: what is written is what is read; a file that is cut short, or has another byte anywhere, is
 * none; and only files of ours are ever removed. Method: small files of both kinds; every byte of
 * one turned, every length of it; a folder with files that look nearly like ours.
 * needs: faults
 */
#include "runtime/data/tokens.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <errno.h>
#include <unistd.h>

#define VOCAB 100

static char folder[64], path[LIMIT_PATH_BYTES];
static const int32_t ids[] = {1, 2, ~3, 4, ~5, ~6, 99};

static void begin(void)
{
    golden_folder(folder);
}

static int write_file(uint64_t key, bool rows, struct err *e)
{
    struct tokens_writer *w = NULL;
    int rc = tokens_create(folder, key, &w, e);
    if (rc)
        return rc;
    if ((rc = tokens_add(w, ids, rows ? 4 : 2, e)) || (rows && (rc = tokens_end_row(w, 1, e))) ||
        (rows && (rc = tokens_add(w, ids + 4, 3, e))) || (rows && (rc = tokens_end_row(w, 2, e)))) {
        tokens_abandon(w);
        return rc;
    }
    ck_assert_int_eq(tokens_written(w), rows ? 7 : 2);
    return tokens_commit(w, 5, e);
}

static void make(uint64_t key, bool rows)
{
    struct err e = {0};
    ck_assert_msg(!write_file(key, rows, &e), "%s", e.text);
    ck_assert(!tokens_path(folder, key, path, &e));
}

static int check(int32_t vocab)
{
    struct tokens t;
    struct err e = {0};
    int rc = tokens_open(path, &t, &e);
    if (rc)
        return rc;
    rc = tokens_verify(&t, vocab, NULL, &e);
    tokens_close(&t);
    return rc;
}

START_TEST(what_is_written_is_read)
{
    struct tokens t;
    struct err e = {0};
    begin();
    make(0x12ab, true);
    ck_assert_msg(!tokens_open(path, &t, &e), "%s", e.text);
    ck_assert(t.header.key == 0x12ab && t.header.skipped == 5);
    ck_assert(t.header.ids == 7 && t.header.rows == 2);
    ck_assert_mem_eq(t.ids, ids, sizeof ids);
    ck_assert(t.rows[0].first == 0 && t.rows[0].learnt == 1);
    ck_assert(t.rows[1].first == 4 && t.rows[1].learnt == 2);
    tokens_close(&t);
    ck_assert_int_eq(check(VOCAB), 0);
    ck_assert_int_eq(check(VOCAB - 1), -ERR_CORRUPT); /* 99 is none */
    make(0x12ab, false);                              /* in its place */
    ck_assert(!tokens_open(path, &t, &e) && t.header.rows == -1 && !t.rows);
    tokens_close(&t);
    ck_assert_int_eq(check(VOCAB), 0);
    golden_remove(folder);
}
END_TEST

START_TEST(damage_is_found)
{
    begin();
    for (int rows = 0; rows < 2; rows++) {
        buf_auto struct buf whole;
        struct err e = {0};
        make(7, rows);
        buf_init(&whole, 1 << 16);
        ck_assert(!io_read_file(path, 1 << 16, &whole, &e));
        size_t ids_end = sizeof(struct tokens_header) + (rows ? 7 : 2) * sizeof(int32_t);
        for (size_t i = 0; i < whole.len; i++) {
            whole.data[i] = (char)(whole.data[i] ^ 1 << i % 8);
            golden_write(path, whole.data, whole.len);
            whole.data[i] = (char)(whole.data[i] ^ 1 << i % 8);
            bool fill = i >= ids_end && i < (ids_end + 7) / 8 * 8;
            ck_assert_msg(check(VOCAB) == (fill ? 0 : -ERR_CORRUPT), "byte %zu", i);
            golden_write(path, whole.data, i);
            ck_assert_msg(check(VOCAB) == -ERR_CORRUPT, "%zu bytes", i);
        }
    }
    golden_remove(folder);
}
END_TEST

START_TEST(only_files_of_ours_are_removed)
{
    static const struct {
        const char *name;
        bool ours, stays;
    } files[] = {
        {"00000000000000aa.tokens", true, true},
        {"00000000000000bb.tokens", true, false},
        {"00000000000000cc.tokens", false, true},
        {"00000000000000aa.tokens.17.tmp", true, false},
        {"00000000000000aa.tokens.17.tmp2", true, true},
        {"00000000000000aa.tokens.x.tmp", true, true},
        {"00000000000000dd.token", true, true},
        {"aa.tokens", true, true},
        {"notes.txt", false, true},
    };
    char file[200];
    buf_auto struct buf whole;
    struct err e = {0};
    const uint64_t keep[] = {0xaa, 0xee};
    begin();
    make(7, false);
    buf_init(&whole, 1 << 16);
    ck_assert(!io_read_file(path, 1 << 16, &whole, &e) && !io_remove(path, &e));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, files[i].name);
        golden_write(file, files[i].ours ? whole.data : "mine", files[i].ours ? whole.len : 4);
    }
    ck_assert_msg(!tokens_sweep(folder, keep, 2, &e), "%s", e.text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, files[i].name);
        ck_assert_msg(io_exists(file) == files[i].stays, "%s", files[i].name);
    }
    golden_remove(folder);
    ck_assert_int_eq(tokens_sweep("/nonexistent", keep, 2, &e), 0);
}
END_TEST

static int write_one(void *user)
{
    (void)user;
    struct err e = {0};
    int rc = write_file(9, true, &e);
    if (!rc)
        rc = check(VOCAB);
    else
        ck_assert_int_eq(rmdir(folder) && errno != ENOENT, 0); /* nothing was left in it */
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    begin();
    make(9, true);
    ck_assert(!io_remove(path, NULL));
    fault_each(FAULT_MEM, write_one, NULL);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("tokens", what_is_written_is_read, damage_is_found, only_files_of_ours_are_removed,
    failed_calls_are_reported)
