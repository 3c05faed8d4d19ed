/*
 * Goal: a walk finds each file once, whatever the steps, and what it may not follow it does not.
 * Method: a folder with folders, links and hidden names; walks of one entry at a time and of all.
 * needs: faults
 */
#include "runtime/retrieval/folder.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static struct err e;

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    ck_assert_msg(!io_write_new(path, text, strlen(text), 0644, &e), "%s", e.text);
}

static void setup(void)
{
    char path[256], to[256];
    golden_folder(root);
    snprintf(path, sizeof path, "%s/a/b", root);
    ck_assert(!io_mkdirs(path, 0755, &e));
    snprintf(path, sizeof path, "%s/.hidden", root);
    ck_assert(!io_mkdirs(path, 0755, &e));
    put("x.txt", "1");
    put("a/y.txt", "22");
    put("a/b/z.md", "333");
    put("a.txt", "4444");
    put(".hidden/secret", "5");
    put(".dot", "6");
    snprintf(to, sizeof to, "%s/.hidden/secret", root);
    snprintf(path, sizeof path, "%s/link.txt", root);
    ck_assert(!symlink(to, path));
    snprintf(path, sizeof path, "%s/a/loop", root);
    ck_assert(!symlink(root, path));
    snprintf(path, sizeof path, "%s/nowhere.txt", root);
    ck_assert(!symlink("/nonexistent", path));
}

static void done(void)
{
    golden_remove(root);
}

static void check_walk(int entries)
{
    static const struct {
        const char *name;
        int64_t size;
    } want[] = {{"a.txt", 4}, {"a/b/z.md", 3}, {"a/y.txt", 2}, {"link.txt", 1}, {"x.txt", 1}};
    struct folder *f;
    bool over = false;
    int n;
    ck_assert_msg(!folder_open(root, &f, &e), "%s", e.text);
    for (int steps = 0; !over; steps++) {
        ck_assert_msg(!folder_walk(f, entries, &over, &e), "%s", e.text);
        ck_assert_int_lt(steps, 100);
    }
    const struct folder_file *files = folder_files(f, &n);
    ck_assert_int_eq(n, 5);
    for (int i = 0; i < n; i++) {
        ck_assert_str_eq(files[i].name, want[i].name);
        ck_assert_int_eq(files[i].size, want[i].size);
        ck_assert(files[i].changed_ns > 0);
    }
    folder_close(f);
}

START_TEST(each_file_is_found_once)
{
    check_walk(1);
    check_walk(3);
    check_walk(1000);
}
END_TEST

START_TEST(what_is_no_folder_is_refused)
{
    struct folder *f;
    char path[256];
    snprintf(path, sizeof path, "%s/x.txt", root);
    ck_assert_int_eq(folder_open(path, &f, &e), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "x.txt"), "%s", e.text);
    ck_assert_int_eq(folder_open("/nonexistent", &f, &e), -ERR_DATA);
}
END_TEST

START_TEST(there_are_only_so_many_in_one_another)
{
    char path[256];
    struct folder *f;
    bool over = false;
    int rc = 0;
    size_t n = (size_t)snprintf(path, sizeof path, "%s", root);
    for (int i = 0; i < FOLDER_DEPTH; i++)
        n += (size_t)snprintf(path + n, sizeof path - n, "/d");
    ck_assert(!io_mkdirs(path, 0755, &e));
    ck_assert(!folder_open(root, &f, &e));
    while (!rc && !over)
        rc = folder_walk(f, 10, &over, &e);
    ck_assert_int_eq(rc, -ERR_USER);
    ck_assert_msg(strstr(e.text, "d/d/d"), "%s", e.text);
    folder_close(f);
}
END_TEST

static int walk_all(void *user)
{
    struct folder *f = NULL;
    struct err why = {0};
    bool over = false;
    (void)user;
    int rc = folder_open(root, &f, &why);
    while (!rc && !over)
        rc = folder_walk(f, 10, &over, &why);
    folder_close(f);
    return rc;
}

START_TEST(no_memory_is_an_error)
{
    fault_each(FAULT_MEM, walk_all, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"folder", 0, setup, done},
        (const TTest *const[]){each_file_is_found_once, what_is_no_folder_is_refused,
            there_are_only_so_many_in_one_another, no_memory_is_an_error, NULL});
}
