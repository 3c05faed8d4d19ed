/*
 * Goal: two processes never hold one lease, the second learns who the first is, and a holder that
 * is killed leaves none behind (kind: two runs that write one folder). Method: leases in a
 * temporary folder, between two descriptors of this process and between processes; a child that is
 * killed.
 */
#include "cli/lease.h"

#include "base/io.h"
#include "tests/unit.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/test_lease.XXXXXX";
static char path[64];

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/lease", folder);
}

static void teardown(void)
{
    ck_assert_int_eq(io_remove_tree(folder, NULL), 0);
}

START_TEST(the_second_is_refused_and_told)
{
    struct err e = {.text = ""};
    struct folder_lease a, b = {.fd = -1};
    char pid[32], host[64] = "";
    ck_assert_msg(!lease_take(path, "/jobs/a.yaml", &a, &e), "%s", e.text);
    ck_assert_int_eq(lease_take(path, "/jobs/b.yaml", &b, &e), -ERR_USER);
    ck_assert_int_eq(b.fd, -1);
    gethostname(host, sizeof host - 1);
    snprintf(pid, sizeof pid, "in use by process %d on ", (int)getpid());
    ck_assert_msg(!strncmp(e.text, pid, strlen(pid)) && strstr(e.text, host) &&
            strstr(e.text, " since 20") && strstr(e.text, "Z, /jobs/a.yaml") &&
            strstr(e.text, path),
        "%s", e.text);
    lease_drop(&a);
    ck_assert(!io_exists(path));
    ck_assert_msg(!lease_take(path, "/jobs/b.yaml", &b, &e), "%s", e.text);
    lease_drop(&a); /* again is fine */
    ck_assert(io_exists(path));
    lease_drop(&b);
}
END_TEST

START_TEST(what_the_file_says_is_shown_as_text)
{
    struct err e = {.text = ""};
    struct folder_lease a, b;
    char text[400];
    memset(text, 'x', sizeof text);
    memcpy(text, "\033[2Jme\xff", 7);
    ck_assert_int_eq(lease_take(path, "w", &a, &e), 0);
    ck_assert_int_eq(io_write_new(path, text, sizeof text, 0644, &e), 0);
    ck_assert_int_eq(lease_take(path, "w", &b, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "in use by ?[2Jme?xxx"), "%s", e.text);
    ck_assert_int_eq(io_write_new(path, "", 0, 0644, &e), 0);
    ck_assert_int_eq(lease_take(path, "w", &b, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "in use by a process just started"), "%s", e.text);
    lease_drop(&a);
}
END_TEST

START_TEST(a_killed_holder_holds_nothing)
{
    struct err e = {.text = ""};
    struct folder_lease l;
    int told[2];
    char c;
    ck_assert_int_eq(pipe(told), 0);
    pid_t pid = fork();
    if (!pid) {
        if (!lease_take(path, "w", &l, &e) && write(told[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    ck_assert_int_eq(read(told[0], &c, 1), 1);
    ck_assert_int_eq(lease_take(path, "w", &l, &e), -ERR_USER);
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(io_exists(path));
    ck_assert_msg(!lease_take(path, "w", &l, &e), "%s", e.text);
    lease_drop(&l);
    io_close(told[0]);
    io_close(told[1]);
}
END_TEST

/* Many at once, over and over: never two, whatever falls between opening and locking. */
START_TEST(never_two)
{
    pid_t pids[4];
    char inside[80];
    snprintf(inside, sizeof inside, "%s/inside", folder);
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i])
            continue;
        for (int held = 0; held < 50;) {
            struct folder_lease l;
            if (lease_take(path, "w", &l, NULL))
                continue;
            held++;
            if (mkdir(inside, 0700) || rmdir(inside))
                _exit(1);
            lease_drop(&l);
        }
        _exit(0);
    }
    for (int i = 0; i < 4; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(!status, "two held it");
    }
}
END_TEST

START_TEST(where_no_lock_can_be)
{
    struct err e = {.text = ""};
    struct folder_lease l;
    ck_assert_int_eq(lease_take("/proc/no-lease", "w", &l, &e), -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(e.text, "/proc/no-lease"));
    ck_assert_int_eq(io_write_new(path, "my own file", 11, 0644, &e), 0);
    ck_assert_int_eq(lease_take(path, "w", &l, &e), -ERR_RETRY);
    ck_assert_int_eq((int)io_file_size(path, &e), 11); /* kind: files of the user */
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/tmp", path), 0);
    ck_assert_int_eq(lease_take(path, "w", &l, &e), -ERR_RETRY); /* no link is followed */
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"lease", 0, setup, teardown},
        (const TTest *const[]){the_second_is_refused_and_told, what_the_file_says_is_shown_as_text,
            a_killed_holder_holds_nothing, never_two, where_no_lock_can_be, NULL});
}
