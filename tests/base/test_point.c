/*
 * Goal: a process ends at the point that it was told, and at no other: by name, round, who and
 * life, alone or in a list. Method: children that pass points, each with another environment; in
 * builds without FAULT=1 all live.
 * needs: faults
 */
#include "base/point.h"

#include "tests/unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The points that a child passes before it ends: 0 to 4. */
static int lives_for(const char *told)
{
    int status;
    int ends[2];
    ck_assert(!pipe(ends));
    pid_t pid = fork();
    ck_assert(pid >= 0);
    if (!pid) {
        if (told)
            setenv(POINT_DIE_AT, told, 1);
        for (int i = 0; i < 4; i++) {
            point_round(7 + i / 2);
            if (i < 3)
                point_pass(i % 2 ? "write" : "read");
            else
                point_pass_at("write", 99);
            if (!i)
                point_tell(1, 3); /* the first point is before that */
            ck_assert_int_eq(write(ends[1], "x", 1), 1);
        }
        _exit(0);
    }
    close(ends[1]);
    char text[8];
    ssize_t n, passed = 0;
    while ((n = read(ends[0], text, sizeof text)) > 0)
        passed += n;
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(passed == 4 ? WIFEXITED(status) : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return (int)passed;
}

START_TEST(a_process_ends_where_it_was_told)
{
    static const struct {
        const char *told;
        int passed;
    } cases[] = {{NULL, 4}, {"", 4}, {"read:7:1:3", 4}, {"read:7:-1:0", 0}, {"write:7:1:3", 1},
        {"write:99:1:3", 3}, {"write:8:1:3", 4}, {"read:8:1:3", 2}, {"read:8:1:31", 4},
        {"read:8:1", 4}, {"aread:8:1:3", 4}, {"write:8:0:3", 4}, {"write:9:1:3", 4},
        {"write:8:1:4", 4}, {"write:8:1:4,read:8:1:3", 2}, {"read:8:1:3,write:7:1:3", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
#ifdef LLMJOB_FAULT
        int want = cases[i].passed;
#else
        int want = 4;
#endif
        int passed = lives_for(cases[i].told);
        ck_assert_msg(passed == want, "%s: %d points, not %d", cases[i].told, passed, want);
    }
}
END_TEST

UNIT_MAIN("point", a_process_ends_where_it_was_told)
