/*
 * Goal: an event file holds what was recorded, framed as TensorBoard checks it, and a restart
 * leaves neither gap nor double. Method: files are read back by the tests' own decoder, whose CRC
 * is held to its published check value; runs that follow one another in a folder.
 * needs: faults
 */
#include "runtime/train/tensorboard.h"

#include "base/clock.h"
#include "base/io.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <dirent.h>
#include <unistd.h>

static void only_file(const char *folder, char path[400])
{
    DIR *d = opendir(folder);
    int files = 0;
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.') {
            snprintf(path, 400, "%s/%s", folder, f->d_name);
            files++;
        }
    closedir(d);
    ck_assert_int_eq(files, 1);
}

START_TEST(scalars_read_back)
{
    static struct event events[3000];
    char folder[64], inner[80], path[400];
    struct tensorboard *t = NULL;
    struct err e = {0};
    ck_assert_uint_eq(events_crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
    golden_folder(folder);
    snprintf(inner, sizeof inner, "%s/a/b", folder); /* made when absent */
    clock_set_fake(0, 1700000000250);
    ck_assert_msg(tensorboard_create(inner, 3, 0, &t, &e) == 0, "%s", e.text);
    only_file(inner, path);
    ck_assert_ptr_nonnull(strstr(path, "/events.out.tfevents.1700000000."));
    ck_assert_int_eq(events_read(path, events, 3000), 2); /* the head is there at once */
    for (int i = 0; i < 2000; i++)
        ck_assert_int_eq(
            tensorboard_scalar(t, i % 2 ? "loss/train" : "rate", i * 100000, i / 8.0, &e), 0);
    ck_assert_int_eq(tensorboard_flush(t, &e), 0);
    ck_assert_int_eq(events_read(path, events, 3000), 2002);
    ck_assert_str_eq(events[0].version, "brain.Event:2");
    ck_assert_double_eq(events[0].wall, 1700000000.25);
    ck_assert(events[1].start && events[1].step == 0);
    for (int i = 0; i < 2000; i++) {
        ck_assert_str_eq(events[i + 2].tag, i % 2 ? "loss/train" : "rate");
        ck_assert_uint_eq(events[i + 2].step, (uint64_t)i * 100000);
        ck_assert_float_eq(events[i + 2].value, (float)i / 8);
    }
    ck_assert_int_eq(tensorboard_scalar(t, "last", 1, 1, &e), 0);
    tensorboard_close(t); /* writes what is pending */
    ck_assert_int_eq(events_read(path, events, 3000), 2003);
    clock_set_real();
    golden_remove(folder);
}
END_TEST

/* A run that ended at step 9 unseen is gone on with from step 6, on a machine whose clock is
 * behind, then again within the same second: each step is shown once, by the last that made it. */
START_TEST(a_restart_goes_on_without_gap_or_double)
{
    static const struct {
        int64_t ms, first, last;
    } runs[] = {{1700000500000, 0, 9}, {1700000000000, 6, 8}, {1700000000000, 8, 12}};
    static struct event events[100];
    char folder[64], other[100];
    struct err e = {0};
    golden_folder(folder);
    snprintf(other, sizeof other, "%s/events.out.tfevents.99999999999999999999.x", folder);
    for (int i = 0; i < 3; i++) {
        struct tensorboard *t = NULL;
        clock_set_fake(0, runs[i].ms);
        ck_assert_msg(!tensorboard_create(folder, 9 + i, runs[i].first, &t, &e), "%s", e.text);
        for (int64_t step = runs[i].first; step <= runs[i].last; step++)
            ck_assert(!tensorboard_scalar(t, "loss", step, i, &e));
        ck_assert(!tensorboard_flush(t, &e));
        int count = events_shown(folder, events, 100); /* while it is still written */
        ck_assert_int_eq(count, (int)runs[i].last + 1);
        for (int64_t step = 0; step <= runs[i].last; step++)
            ck_assert_int_eq(events_at(events, count, "loss", (uint64_t)step), 1);
        ck_assert_float_eq(events[count - 1].value, (float)i);
        tensorboard_close(t);
    }
    clock_set_real();
    golden_write(other, "", 0); /* no name that could be followed */
    struct tensorboard *t = NULL;
    ck_assert(!tensorboard_create(folder, 20, 3, &t, &e));
    tensorboard_close(t);
    ck_assert_int_eq(unlink(other), 0);
    ck_assert_int_eq(events_shown(folder, events, 100), 3);
    golden_remove(folder);
}
END_TEST

/* Byte for byte as TensorBoard's own summary writer encodes {"a": 0.5, "b": 2}. */
START_TEST(numbers_are_those_of_hparams)
{
    static const char plugin[] = "\x0a\x07hparams\x12\x22\x1a\x20"
                                 "\x0a\x0e\x0a\x01"
                                 "a\x12\x09\x11\0\0\0\0\0\0\xe0\x3f"
                                 "\x0a\x0e\x0a\x01"
                                 "b\x12\x09\x11\0\0\0\0\0\0\0\x40";
    const struct tensorboard_number numbers[] = {{"a", 0.5}, {"b", 2}};
    static struct event events[10];
    char folder[64], path[400];
    struct tensorboard *t = NULL;
    struct err e = {0};
    struct io_map m;
    golden_folder(folder);
    ck_assert_msg(!tensorboard_create(folder, 1, 0, &t, &e), "%s", e.text);
    ck_assert(!tensorboard_numbers(t, numbers, 2, &e));
    ck_assert(!tensorboard_scalar(t, "loss", 1, 3, &e));
    tensorboard_close(t);
    only_file(folder, path);
    ck_assert_int_eq(events_read(path, events, 10), 4);
    ck_assert_str_eq(events[2].tag, "_hparams_/session_start_info");
    ck_assert(!events[2].start && events[2].step == 0);
    ck_assert_str_eq(events[3].tag, "loss");
    ck_assert(!io_map(path, &m, &e));
    ck_assert_ptr_nonnull(memmem(m.data, m.size, plugin, sizeof plugin - 1));
    io_unmap(&m);
    golden_remove(folder);
}
END_TEST

/* As torch's writer encodes them: HistogramProto with packed lists; a string tensor of "text". */
START_TEST(histograms_and_texts_read_back)
{
    static const float x[] = {-1, 0.5f, 0.5f, 0.625f, 3};
    static const char plugin[] = "\x4a\x08\x0a\x06\x0a\x04text";
    static struct histogram h;
    static struct event events[10];
    char folder[64], path[400];
    struct tensorboard *t = NULL;
    struct err e = {0};
    struct io_map m;
    golden_folder(folder);
    histogram_clear(&h);
    histogram_add(&h, x, 5);
    ck_assert_msg(!tensorboard_create(folder, 1, 0, &t, &e), "%s", e.text);
    ck_assert(!tensorboard_histogram(t, "gradients/a", 7, &h, &e));
    ck_assert(!tensorboard_text(t, "generated/0", 8, "In the beginning", &e));
    tensorboard_close(t);
    only_file(folder, path);
    ck_assert_int_eq(events_read(path, events, 10), 4);
    ck_assert_str_eq(events[2].tag, "gradients/a");
    ck_assert_uint_eq(events[2].step, 7);
    ck_assert(events[2].histogram.min == -1 && events[2].histogram.max == 3);
    ck_assert(events[2].histogram.count == 5 && events[2].histogram.counted == 5);
    ck_assert(events[2].histogram.sum == 3.625 && events[2].histogram.squares == 10.890625);
    ck_assert_int_eq(events[2].histogram.bounds, 6);
    ck_assert_str_eq(events[3].tag, "generated/0");
    ck_assert_uint_eq(events[3].step, 8);
    ck_assert_str_eq(events[3].text, "In the beginning");
    ck_assert(!io_map(path, &m, &e));
    ck_assert_ptr_nonnull(memmem(m.data, m.size, plugin, sizeof plugin - 1));
    io_unmap(&m);
    golden_remove(folder);
}
END_TEST

static int write_one(void *user)
{
    struct tensorboard *t = NULL;
    struct err e = {0};
    int rc = tensorboard_create(user, 1, 0, &t, &e);
    if (!rc)
        rc = tensorboard_numbers(t, &(struct tensorboard_number){"optimizer.beta1", 0.5}, 1, &e);
    static struct histogram h = {.counts = {[7] = 1}, .count = 1};
    if (!rc && !(rc = tensorboard_histogram(t, "gradients/a", 1, &h, &e)))
        rc = tensorboard_text(t, "generated/0", 1, "x", &e);
    if (!rc && !(rc = tensorboard_scalar(t, "loss", 1, 2, &e)))
        rc = tensorboard_sync(t, &e);
    tensorboard_close(t);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    char folder[64];
    golden_folder(folder);
    fault_each(FAULT_MEM, write_one, folder);
    fault_each(FAULT_IO, write_one, folder);
    golden_remove(folder);
}
END_TEST

UNIT_MAIN("tensorboard", scalars_read_back, a_restart_goes_on_without_gap_or_double,
    numbers_are_those_of_hparams, histograms_and_texts_read_back, failed_calls_are_reported)
