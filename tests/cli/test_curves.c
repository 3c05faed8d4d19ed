/*
 * Goal: curves are what a training did last: steps that were done twice count once, what was lost
 * not at all, and torn lines do no harm. Method: files written line by line.
 */
#include "cli/curves.h"

#include "base/io.h"
#include "tests/unit.h"

#include <math.h>
#include <unistd.h>

static char folder[64];
static struct err e;

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_curves.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    e = (struct err){.text = ""};
}

static void done(void)
{
    io_remove_tree(folder, &e);
}

static int read_text(const char *text, struct curves *m)
{
    char path[96];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    ck_assert_int_eq(io_write_file(path, text, strlen(text), 0600, &e), 0);
    return curves_read(folder, m, &e);
}

START_TEST(the_newer_line_of_a_step_counts)
{
    struct curves m;
    ck_assert_msg(!read_text("{\"step\":0,\"validationLoss\":5}\n"
                             "{\"step\":1,\"loss\":4,\"learningRate\":0.5}\n"
                             "{\"step\":2,\"loss\":3}\n{\"step\":3,\"loss\":2.5}\n"
                             "{\"step\":2,\"loss\":3.5}\n\n[7]\nnull\n{\"step\":-1,\"loss\":9}\n"
                             "{\"step\":4,\"loss\":\"x\"}\n{\"step\":5,\"lo",
                      &m),
        "%s", e.text);
    const struct curve *loss = &m.of[CURVE_LOSS];
    ck_assert_uint_eq(loss->count, 2);
    ck_assert(loss->points[0].step == 1 && loss->points[0].value == 4);
    ck_assert(loss->points[1].step == 2 && loss->points[1].value == 3.5);
    ck_assert(curves_last(&m, CURVE_LOSS) == 3.5);
    ck_assert(curves_last(&m, CURVE_VALIDATION_LOSS) == 5);
    ck_assert(curves_last(&m, CURVE_LEARNING_RATE) == 0.5);
    ck_assert(isnan(curves_last(&m, CURVE_VALIDATION_F1)));
    curves_free(&m);
}
END_TEST

START_TEST(what_is_no_record_is_refused)
{
    struct curves m;
    ck_assert_int_eq(read_text("nothing\n", &m), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "/metrics.jsonl: no step in it"));
    ck_assert_int_lt(curves_read("/nowhere/at/all", &m, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.text, "/nowhere/at/all"));
}
END_TEST

START_TEST(long_records_are_read)
{
    struct curves m;
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    for (int i = 1; i <= 3000; i++)
        buf_printf(&text, "{\"step\":%d,\"loss\":%d}\n", i, i % 7);
    ck_assert_int_eq(read_text(buf_cstr(&text), &m), 0);
    ck_assert_uint_eq(m.of[CURVE_LOSS].count, 3000);
    curves_free(&m);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "curves", .setup = setup, .done = done},
        (const TTest *const[]){the_newer_line_of_a_step_counts, what_is_no_record_is_refused,
            long_records_are_read, NULL});
}
