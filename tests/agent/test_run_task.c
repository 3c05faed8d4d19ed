/*
 * Goal: a rank's environment is whole: what is inherited, torchrun's variables over it, the spec's
 * over both; and a command is the spec's command and arguments.
 * Method: small lists compared text by text; an arena too small for one text at a time.
 */
#include "agent/run_task.h"

#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static const struct run_task_place place = {.rank = 5,
    .world = 6,
    .local = 1,
    .local_world = 2,
    .replica = 2,
    .master = "10.0.0.7",
    .master_port = 4711};

static struct jobspec_run spec(void)
{
    static const char *keys[] = {"WHO", "RANK"}, *values[] = {"me", "mine"};
    return (struct jobspec_run){.command = {"/bin/sh", "-c"},
        .command_count = 2,
        .args = {"true", "x"},
        .arg_count = 2,
        .env = {keys, values, 2}};
}

START_TEST(a_command_is_followed_by_its_arguments)
{
    struct jobspec_run run = spec();
    char *argv[RUN_TASK_ARGV];
    static const char *const expected[] = {"/bin/sh", "-c", "true", "x"};
    run_task_command(&run, argv);
    for (int i = 0; i < 4; i++)
        ck_assert_str_eq(argv[i], expected[i]);
    ck_assert_ptr_null(argv[4]);
}
END_TEST

START_TEST(the_spec_wins_over_torchrun_and_that_over_what_is_inherited)
{
    struct jobspec_run run = spec();
    char *const inherited[] = {"HOME=/", "WORLD_SIZE=1", "RANKS=many", NULL};
    static const char *const expected[] = {"HOME=/", "WORLD_SIZE=6", "RANKS=many", "RANK=mine",
        "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", "GROUP_RANK=2", "MASTER_ADDR=10.0.0.7",
        "MASTER_PORT=4711", "WHO=me"};
    struct arena *a = arena_create(RUN_TASK_BYTES);
    struct err e = {0};
    char **env;
    ck_assert_int_eq(run_task_environment(&run, &place, inherited, a, &env, &e), 0);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        ck_assert_str_eq(env[i], expected[i]);
    ck_assert_ptr_null(env[sizeof expected / sizeof *expected]);
    arena_destroy(a);
}
END_TEST

START_TEST(a_part_of_an_environment_is_an_error)
{
    struct jobspec_run run = spec();
    char *const inherited[] = {"HOME=/", NULL};
    char **env = NULL;
    struct err e = {0};
    size_t enough = 0, refused = 0;
    for (size_t bytes = 16; !enough; bytes += 16, refused += !enough) {
        struct arena *a = arena_create(bytes);
        ck_assert_ptr_nonnull(a);
        if (!run_task_environment(&run, &place, inherited, a, &env, &e))
            enough = bytes;
        else
            ck_assert_msg(e.code == ERR_MEMORY && !env, "%s", e.text);
        arena_destroy(a);
    }
    ck_assert_uint_gt(refused, 5);
    ck_assert_str_eq(e.text, "the environment exceeds 2097152 bytes");
}
END_TEST

UNIT_MAIN("run_task", a_command_is_followed_by_its_arguments,
    the_spec_wins_over_torchrun_and_that_over_what_is_inherited,
    a_part_of_an_environment_is_an_error)
