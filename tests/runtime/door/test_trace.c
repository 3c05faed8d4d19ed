/*
 * Goal: a trace has the spans of the steps that were asked for, of two threads, one in another, and
 * nothing else; without one nothing happens; what there is no room for is counted. Method: a file
 * in a folder of the test's, read with a JSON parser (tests/runtime/traces.h).
 */
#include "runtime/door/trace.h"

#include "base/clock.h"
#include "base/io.h"
#include "tests/runtime/traces.h"
#include "tests/unit.h"

#include <pthread.h>
#include <stdlib.h>

static char folder[32], path[64];
static struct traces seen;

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_trace-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/trace-3.json", folder);
}

static void teardown(void)
{
    struct err e;
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

static int open_trace(int64_t from, int64_t steps, struct trace **t)
{
    struct err e;
    return trace_create(&(struct trace_conf){path, 3, from, steps}, t, &e);
}

static void *reduce(void *t)
{
    for (int i = 0; i < 50; i++)
        trace_end(t, trace_begin(t), TRACE_NETWORK, "allreduce", "bytes", 4096 + i);
    return NULL;
}

static int take_step(struct trace *t, int64_t step)
{
    struct err e;
    pthread_t thread;
    int rc = trace_step(t, step, &e);
    ck_assert_int_eq(pthread_create(&thread, NULL, reduce, t), 0);
    int64_t forward = trace_begin(t);
    for (int i = 0; i < 4; i++) {
        int64_t layer = trace_begin(t), until = clock_ns() + 20000; /* more than is rounded */
        while (clock_ns() < until) {
        }
        trace_end(t, layer, TRACE_RANK, "layer", "layer", i);
    }
    trace_end(t, forward, TRACE_RANK, "forward", NULL, 0);
    pthread_join(thread, NULL);
    return rc;
}

START_TEST(steps_that_were_asked_for)
{
    struct trace *t = NULL;
    struct err e;
    ck_assert_int_eq(open_trace(2, 2, &t), 0);
    for (int64_t step = 1; step <= 3; step++)
        ck_assert_int_eq(take_step(t, step), 0);
    ck_assert_int_lt(io_file_size(path, &e), 0); /* the last one is not over */
    ck_assert_int_eq(take_step(t, 4), 0);
    traces_read(path, &seen);
    ck_assert_int_eq(seen.rank, 3);
    ck_assert_int_eq(seen.lost, 0);
    ck_assert_int_eq(seen.count, 2 * (1 + 1 + 4 + 50));
    ck_assert_int_eq(traces_count(&seen, "forward", "step", TRACE_RANK), 2);
    ck_assert_int_eq(traces_count(&seen, "layer", "forward", TRACE_RANK), 8);
    ck_assert_int_eq(traces_count(&seen, "allreduce", NULL, TRACE_NETWORK), 100);
    for (int i = 0, step = 2; i < seen.count; i++) {
        const struct traces_span *s = &seen.span[i];
        if (!strcmp(s->name, "step"))
            ck_assert_int_eq(s->number, step++);
        if (!strcmp(s->name, "allreduce"))
            ck_assert(s->number >= 4096 && s->number < 4146);
        if (!strcmp(s->name, "forward"))
            ck_assert_int_eq(s->number, -1);
    }
    trace_destroy(t);
}
END_TEST

START_TEST(none_is_no_fault)
{
    struct err e;
    ck_assert_int_eq(take_step(NULL, 1), 0);
    ck_assert_int_eq(trace_step(NULL, 0, &e), 0);
    trace_destroy(NULL);
}
END_TEST

START_TEST(what_has_no_room)
{
    struct trace *t = NULL;
    struct err e;
    ck_assert_int_eq(open_trace(1, 100, &t), 0);
    ck_assert_int_eq(trace_step(t, 1, &e), 0);
    for (int i = 0; i < 70000; i++)
        trace_end(t, trace_begin(t), TRACE_RANK, "layer", "layer", i);
    ck_assert_int_eq(trace_step(t, 0, &e), 0);
    buf_auto struct buf text;
    buf_init(&text, 16 << 20);
    ck_assert_int_eq(io_read_file(path, 16 << 20, &text, &e), 0);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&text), "\"lost\":4465"));
    trace_destroy(t);
}
END_TEST

/* Opened, one step, written. */
static int record(void *user)
{
    struct trace *t = NULL;
    struct err e;
    (void)user;
    int rc = open_trace(1, 1, &t);
    if (!rc)
        (void)trace_step(t, 1, &e);
    if (!rc)
        rc = trace_step(t, 0, &e);
    trace_destroy(t);
    return rc;
}

START_TEST(every_failure)
{
    fault_each(FAULT_MEM, record, NULL);
    fault_each(FAULT_IO, record, NULL);
}
END_TEST

int main(void)
{
    const struct unit unit = {.name = "trace", .setup = setup, .done = teardown};
    const TTest *const tests[] = {
        steps_that_were_asked_for, none_is_no_fault, what_has_no_room, every_failure, NULL};
    return unit_run_with(&unit, tests);
}
