/*
 * Goal: the page is Prometheus' text format to the letter, and no update of any thread is lost.
 * Method: one of each kind compared with the expected text; threads adding at once while another
 * prints.
 * needs: faults threads
 */
#include "base/metric.h"

#include "tests/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static struct metric requests_get = {.name = "llmjob_requests_total",
    .help = "Requests sent.",
    .kind = METRIC_COUNTER,
    .labels = "verb=\"get\""};
static struct metric requests_put = {.name = "llmjob_requests_total",
    .help = "Requests sent.",
    .kind = METRIC_COUNTER,
    .labels = "verb=\"put\""};
static struct metric depth = {
    .name = "llmjob_queue_depth", .help = "Keys waiting.", .kind = METRIC_GAUGE};
static struct metric latency = {
    .name = "llmjob_pass_seconds", .help = "One pass.", .kind = METRIC_HISTOGRAM};

static const char *page(void)
{
    static struct buf b;
    buf_done(&b);
    buf_init(&b, 100000);
    metric_print(&b);
    return buf_cstr(&b);
}

START_TEST(text_format)
{
    ck_assert_str_eq(page(), "");
    metric_register(&requests_get);
    metric_register(&requests_put);
    metric_register(&depth);
    metric_register(&latency);
    metric_register(&depth); /* twice is once */
    metric_add(&requests_get, 2);
    metric_add(&requests_put, 0.0015);
    metric_set(&depth, -3.25);
    static const double seconds[] = {0.005, 0.0051, 0.3, 10, 11, 1e6};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++)
        metric_observe(&latency, seconds[i]);
    ck_assert_str_eq(page(),
        "# HELP llmjob_requests_total Requests sent.\n"
        "# TYPE llmjob_requests_total counter\n"
        "llmjob_requests_total{verb=\"get\"} 2\n"
        "llmjob_requests_total{verb=\"put\"} 0.002\n"
        "# HELP llmjob_queue_depth Keys waiting.\n"
        "# TYPE llmjob_queue_depth gauge\n"
        "llmjob_queue_depth -3.250\n"
        "# HELP llmjob_pass_seconds One pass.\n"
        "# TYPE llmjob_pass_seconds histogram\n"
        "llmjob_pass_seconds_bucket{le=\"0.005\"} 1\n"
        "llmjob_pass_seconds_bucket{le=\"0.01\"} 2\n"
        "llmjob_pass_seconds_bucket{le=\"0.025\"} 2\n"
        "llmjob_pass_seconds_bucket{le=\"0.05\"} 2\n"
        "llmjob_pass_seconds_bucket{le=\"0.1\"} 2\n"
        "llmjob_pass_seconds_bucket{le=\"0.25\"} 2\n"
        "llmjob_pass_seconds_bucket{le=\"0.5\"} 3\n"
        "llmjob_pass_seconds_bucket{le=\"1\"} 3\n"
        "llmjob_pass_seconds_bucket{le=\"2.5\"} 3\n"
        "llmjob_pass_seconds_bucket{le=\"5\"} 3\n"
        "llmjob_pass_seconds_bucket{le=\"10\"} 4\n"
        "llmjob_pass_seconds_bucket{le=\"+Inf\"} 6\n"
        "llmjob_pass_seconds_sum 1000021.310\n"
        "llmjob_pass_seconds_count 6\n");
}
END_TEST

/* Another name has the same values, and labels of its own. */
START_TEST(another_name)
{
    static struct metric depth_again = {.name = "other:depth",
        .help = "Keys.",
        .kind = METRIC_GAUGE,
        .labels = "a=\"b\"",
        .of = &depth};
    static struct metric latency_again = {
        .name = "other:seconds", .help = "One.", .kind = METRIC_HISTOGRAM, .of = &latency};
    metric_register(&depth);
    metric_register(&latency);
    metric_register(&depth_again);
    metric_register(&latency_again);
    metric_set(&depth, 7);
    metric_observe(&latency, 0.02);
    ck_assert_ptr_nonnull(strstr(page(), "\nother:depth{a=\"b\"} 7\n# HELP other:seconds One.\n"));
    ck_assert_ptr_nonnull(strstr(page(), "\nother:seconds_bucket{le=\"0.025\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(page(), "\nother:seconds_sum 0.020\nother:seconds_count 1\n"));
}
END_TEST

static _Atomic bool done;

static void *update(void *user)
{
    (void)user;
    for (int i = 0; i < 20000; i++) {
        metric_add(&requests_get, 1);
        metric_observe(&latency, 0.02);
    }
    return NULL;
}

static void *print(void *user)
{
    (void)user;
    while (!atomic_load(&done)) {
        struct buf b;
        buf_init(&b, 100000);
        metric_print(&b);
        buf_done(&b);
    }
    return NULL;
}

START_TEST(no_update_is_lost)
{
    metric_register(&requests_get);
    metric_register(&latency);
    pthread_t thread[4], printer;
    ck_assert_int_eq(pthread_create(&printer, NULL, print, NULL), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, update, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&done, true);
    pthread_join(printer, NULL);
    ck_assert_ptr_nonnull(strstr(page(), "llmjob_requests_total{verb=\"get\"} 80000\n"));
    ck_assert_ptr_nonnull(strstr(page(), "llmjob_pass_seconds_count 80000\n"));
    ck_assert_ptr_nonnull(strstr(page(), "llmjob_pass_seconds_sum 1600\n"));
}
END_TEST

static int print_once(void *user)
{
    (void)user;
    buf_auto struct buf b;
    buf_init(&b, 100000);
    metric_print(&b);
    return buf_ok(&b) ? 0 : -ERR_MEMORY;
}

START_TEST(faults)
{
    metric_register(&latency);
    fault_each(FAULT_MEM, print_once, NULL);
}
END_TEST

UNIT_MAIN("metric", text_format, another_name, no_update_is_lost, faults)
