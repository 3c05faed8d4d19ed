/*
 * Goal: the strongest source wins, bad values are refused with their source, and a failure changes
 * nothing. Method: one table of every kind; each source alone, all pairs of sources, each mistake;
 * faults.
 * needs: faults
 */
#include "base/conf.h"

#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct conf_sample {
    const char *listen;
    int64_t workers;
    double factor;
    bool verbose;
    const char *none;
};

static const struct conf_item items[] = {
    {"listen", CONF_STR, offsetof(struct conf_sample, listen), "TEST_LISTEN", ":80", "address"},
    {"workers", CONF_INT, offsetof(struct conf_sample, workers), "TEST_WORKERS", "4", "how many"},
    {"factor", CONF_NUM, offsetof(struct conf_sample, factor), "TEST_FACTOR", "1.5", "how much"},
    {"verbose", CONF_BOOL, offsetof(struct conf_sample, verbose), "TEST_VERBOSE", NULL, "say more"},
    {"none", CONF_STR, offsetof(struct conf_sample, none), NULL, NULL, "no default"},
    {0},
};

static char path[] = "/tmp/test_conf.XXXXXX";
static struct err e;

static int load(struct conf_sample *out, const char *const *args)
{
    char *argv[16] = {"program"};
    int argc = 1;
    for (; *args; args++)
        argv[argc++] = (char *)*args;
    return conf_load(items, argc, argv, out, &e);
}
#define LOAD(out, ...) load((out), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void with_file(const char *text)
{
    static int fd = -1;
    if (fd < 0)
        fd = mkstemp(path);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

START_TEST(defaults)
{
    struct conf_sample c;
    memset(&c, 0xff, sizeof c);
    ck_assert_int_eq(LOAD(&c), 1);
    ck_assert_str_eq(c.listen, ":80");
    ck_assert_int_eq(c.workers, 4);
    ck_assert(c.factor == 1.5 && !c.verbose && !c.none);
}
END_TEST

START_TEST(flags)
{
    struct conf_sample c;
    ck_assert_int_eq(
        LOAD(&c, "--listen", "a:1", "--workers=-7", "--verbose", "run", "--factor"), 5);
    ck_assert_str_eq(c.listen, "a:1");
    ck_assert_int_eq(c.workers, -7);
    ck_assert(c.verbose);
    ck_assert_int_eq(LOAD(&c, "--verbose=false", "--listen=", "--none=a=b", "--", "--x"), 5);
    ck_assert(!c.verbose);
    ck_assert_str_eq(c.listen, "");
    ck_assert_str_eq(c.none, "a=b");
    ck_assert_int_eq(LOAD(&c, "-", "--listen"), 1);
    ck_assert_int_eq(LOAD(&c, "--workers", "1", "--workers", "2"), 5);
    ck_assert_int_eq(c.workers, 2);
}
END_TEST

START_TEST(strongest_source_wins)
{
    with_file("workers: 1\nfactor: 0.25\nverbose: true\nnone: \"8\"\nlisten: null\n");
    setenv("TEST_WORKERS", "2", 1);
    struct conf_sample c;
    ck_assert_int_eq(LOAD(&c, "--config", path), 3);
    ck_assert_int_eq(c.workers, 2);
    ck_assert(c.factor == 0.25 && c.verbose);
    ck_assert_str_eq(c.none, "8");
    ck_assert_str_eq(c.listen, ":80");
    ck_assert_int_eq(LOAD(&c, "--workers=3", "--verbose=0", "--config", path), 5);
    ck_assert_int_eq(c.workers, 3);
    ck_assert(!c.verbose);
    unsetenv("TEST_WORKERS");
    ck_assert_int_eq(LOAD(&c, "--config", path), 3);
    ck_assert_int_eq(c.workers, 1);
    conf_done();
    conf_done();
    unlink(path);
}
END_TEST

START_TEST(mistakes_are_refused)
{
    static const struct {
        const char *arg, *value, *text;
    } bad[] = {
        {"--nonsense", NULL, "unknown flag --nonsense; --help lists them"},
        {"-v", NULL, "unknown flag -v; --help lists them"},
        {"---", NULL, "unknown flag ---; --help lists them"},
        {"--listenx=1", NULL, "unknown flag --listenx=1; --help lists them"},
        {"--listen", NULL, "--listen needs a value"},
        {"--workers", "x", "workers: \"x\" is not a whole number (from flag)"},
        {"--workers", "1.5", "workers: \"1.5\" is not a whole number (from flag)"},
        {"--workers=", NULL, "workers: \"\" is not a whole number (from flag)"},
        {"--workers", "9223372036854775808", NULL},
        {"--factor", "nan", "factor: \"nan\" is not a number (from flag)"},
        {"--factor", "1e999", NULL},
        {"--verbose=yes", NULL, "verbose: \"yes\" is not true or false (from flag)"},
        {"--config", "/no/such", "/no/such: No such file or directory"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct conf_sample c, before;
        memset(&c, 0x55, sizeof c);
        memset(&before, 0x55, sizeof before);
        ck_assert_int_eq(LOAD(&c, bad[i].arg, bad[i].value), -ERR_USER);
        ck_assert(!memcmp(&c, &before, sizeof c));
        if (bad[i].text)
            ck_assert_str_eq(e.text, bad[i].text);
    }
    struct conf_sample c;
    setenv("TEST_FACTOR", "much", 1);
    ck_assert_int_eq(LOAD(&c), -ERR_USER);
    ck_assert_str_eq(e.text, "factor: \"much\" is not a number (from TEST_FACTOR)");
}
END_TEST

START_TEST(bad_files_are_refused)
{
    static const char *const bad[] = {
        "workers: [1]",
        "listen: {a: b}",
        "unknown: 1",
        "- workers",
        "workers: 1\n---\nworkers: 2",
        "a: b: c",
        "workers: many",
        "just text",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        with_file(bad[i]);
        struct conf_sample c;
        ck_assert_msg(LOAD(&c, "--config", path) == -ERR_USER, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(e.text, path));
    }
    with_file("");
    struct conf_sample c;
    ck_assert_int_eq(LOAD(&c, "--config", path), 3);
    conf_done();
    unlink(path);
}
END_TEST

START_TEST(help_lists_every_item)
{
    int fd[2], keep = dup(STDOUT_FILENO);
    ck_assert_int_eq(pipe(fd), 0);
    fflush(stdout);
    dup2(fd[1], STDOUT_FILENO);
    struct conf_sample c;
    int rc = LOAD(&c, "--help", "--nonsense");
    fflush(stdout);
    dup2(keep, STDOUT_FILENO);
    close(fd[1]);
    char text[4096] = "";
    ck_assert_int_gt(read(fd[0], text, sizeof text - 1), 0);
    ck_assert_int_eq(rc, 0);
    ck_assert_ptr_nonnull(strstr(text, "Usage: program"));
    ck_assert_ptr_nonnull(
        strstr(text, "  --workers <int>             how many [TEST_WORKERS] (default 4)\n"));
    for (const struct conf_item *i = items; i->name; i++)
        ck_assert_ptr_nonnull(strstr(text, i->help));
}
END_TEST

static int load_file(void *user)
{
    struct conf_sample c;
    int rc = LOAD(&c, "--config", user);
    if (rc > 0)
        ck_assert_str_eq(c.listen, "from a file");
    conf_done();
    return rc > 0 ? 0 : rc;
}

START_TEST(faults)
{
    with_file("listen: from a file\nworkers: 3\n");
    fault_each(FAULT_MEM, load_file, path);
    fault_each(FAULT_IO, load_file, path);
    unlink(path);
}
END_TEST

UNIT_MAIN("conf", defaults, flags, strongest_source_wins, mistakes_are_refused,
    bad_files_are_refused, help_lists_every_item, faults)
