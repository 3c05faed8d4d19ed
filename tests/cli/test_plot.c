/*
 * Goal: llmjob plot finds the curves of what it is given, and says what it cannot draw. Method:
 * folders as trainings and searches leave them; the command runs as main calls it, what it prints
 * is read back.
 */
#include "base/io.h"
#include "cli/command.h"
#include "tests/unit.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[64];
static struct err e;

static void write_run(const char *name, double first)
{
    char path[160], text[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(io_mkdirs(path, 0700, &e), 0);
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, name);
    int n = snprintf(text, sizeof text,
        "{\"step\":0,\"validationLoss\":%.1f}\n{\"step\":1,\"loss\":%.1f}\n"
        "{\"step\":2,\"loss\":1}\n",
        first + 1, first);
    ck_assert_int_eq(io_write_file(path, text, (size_t)n, 0600, &e), 0);
}

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_plot.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    write_run("one", 3);
    write_run("search/t2", 4);
    write_run("search/t10", 5);
    e = (struct err){.text = ""};
}

static void done(void)
{
    io_remove_tree(folder, &e);
}

/* plot [flag [value]] run; what is printed. */
static const char *plot(int want, const char *flag, const char *value, const char *run)
{
    static struct buf text;
    char said[96], path[160];
    const char *args[] = {"plot", flag, value, path, NULL};
    int status, count = 4;
    snprintf(said, sizeof said, "%s/said", folder);
    snprintf(path, sizeof path, "%s/%s", folder, run);
    fflush(stdout);
    int saved = dup(1);
    ck_assert_ptr_nonnull(freopen(said, "w", stdout));
    int rc = command_plot(count, (char **)args, &status, &e);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    ck_assert_msg(rc == want, "%d: %s", rc, e.text);
    buf_done(&text);
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(io_read_file(said, 1 << 20, &text, &e), 0);
    return buf_cstr(&text);
}

START_TEST(a_chart_for_each_metric_that_there_is)
{
    const char *said = plot(0, "--height", "9", "one");
    ck_assert_ptr_nonnull(strstr(said, "loss\n        3 ┤"));
    ck_assert_ptr_nonnull(strstr(said, "validationLoss\n"));
    ck_assert_ptr_nonnull(strstr(said, "/one  1 at step 2\n"));
    said = plot(0, "--metric", "loss", "one");
    ck_assert_ptr_null(strstr(said, "validationLoss\n"));
}
END_TEST

START_TEST(a_search_stands_for_its_trials)
{
    const char *said = plot(0, "--metric", "validationLoss", "search");
    const char *first = strstr(said, "/search/t2  5 at"), *then = strstr(said, "/search/t10  6 at");
    ck_assert(first && then && first < then);
}
END_TEST

START_TEST(a_file_is_written)
{
    char path[96];
    buf_auto struct buf text;
    snprintf(path, sizeof path, "%s/x.svg", folder);
    ck_assert_str_eq(plot(0, "--svg", path, "one"), "");
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(io_read_file(path, 1 << 20, &text, &e), 0);
    ck_assert(!strncmp(buf_cstr(&text), "<svg ", 5));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&text), "</svg>\n"));
}
END_TEST

START_TEST(what_cannot_be_drawn)
{
    plot(-ERR_DATA, "--metric", "validationF1", "one");
    plot(-ERR_USER, "--metric", "los", "one");
    plot(-ERR_USER, "--metric", "loss", "nowhere");
    plot(-ERR_USER, "--metric", "loss", ".");
    plot(-ERR_USER, "--width", "29", "one");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "plot", .setup = setup, .done = done},
        (const TTest *const[]){a_chart_for_each_metric_that_there_is,
            a_search_stands_for_its_trials, a_file_is_written, what_cannot_be_drawn, NULL});
}
