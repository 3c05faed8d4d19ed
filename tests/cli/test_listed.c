/*
 * Goal: a job file that changes lists adapters anew, in the folders of this machine, where they may
 * change, and what is wrong with one is said once. Method: desired states and specs in memory.
 */
#include "cli/listed.h"
#include "tests/served_job.h"
#include "tests/unit.h"

#include <string.h>

#define A "{\"name\":\"a\",\"path\":\"/data/x\"}"
#define B "{\"name\":\"b\",\"path\":\"/data/y\"}"

static struct err e;

static struct arena *arena;

static int reread(struct listed *l, struct jobspec *now, struct desired *d)
{
    return listed_reread(l, now, "d=/tmp", d, arena, &e);
}

START_TEST(a_list_that_changes_is_taken)
{
    struct listed l = {0};
    struct desired d = {.lists_adapters = true};
    arena = arena_create(1 << 20);
    struct jobspec now = served_job("[" A "," B "]", arena);
    ck_assert_int_eq(reread(&l, &now, &d), 1);
    ck_assert_int_eq(d.adapter_count, 2);
    ck_assert_str_eq(d.adapters[1].path, "/tmp/y");
    now = served_job("[" A "," B "]", arena);
    ck_assert_int_eq(reread(&l, &now, &d), 0);
    now = served_job("[" B "," A "]", arena);
    ck_assert_int_eq(reread(&l, &now, &d), 1);
    ck_assert_str_eq(d.adapters[0].name, "b");
    d.lists_adapters = false; /* all are loaded before it serves */
    now = served_job("[{\"name\":\"c\", \"path\":\"/data/x\"}]", arena);
    ck_assert_int_eq(reread(&l, &now, &d), 0);
    ck_assert_int_eq(d.adapter_count, 2);
    listed_done(&l);
    arena_destroy(arena);
}
END_TEST

START_TEST(what_is_wrong_is_said_once)
{
    struct listed l = {0};
    struct report r;
    report_init(&r);
    ck_assert_ptr_null(listed_wrong(&l, &r));
    r.adapters_wrong = "a: no such folder";
    ck_assert_str_eq(listed_wrong(&l, &r), "a: no such folder");
    ck_assert_ptr_null(listed_wrong(&l, &r));
    r.adapters_wrong = "";
    ck_assert_ptr_null(listed_wrong(&l, &r));
    r.adapters_wrong = "a: no such folder";
    ck_assert_str_eq(listed_wrong(&l, &r), "a: no such folder");
}
END_TEST

UNIT_MAIN("listed", a_list_that_changes_is_taken, what_is_wrong_is_said_once)
