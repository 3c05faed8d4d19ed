/*
 * progress: goal: the report shows the curve of the model that lives, thinned evenly, and the right
 * median and eta. Method: feed frames as rank 0 sends them and look at the report.
 */
#include "agent/progress.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit.h"

static struct progress p;
static struct report r;

static struct json *parse(const char *text)
{
    struct json *v = NULL;
    struct err e = {0};
    ck_assert_int_eq(json_parse(text, strlen(text), &v, &e), 0);
    return v;
}

static void loaded(int64_t resumed)
{
    char text[128];
    snprintf(text, sizeof text,
        "{\"resumed_step\":%lld,\"steps\":1000,\"held_out\":4,\"memory_bytes\":77,"
        "\"zero_stage\":1}",
        (long long)resumed);
    json_auto struct json *v = parse(text);
    progress_incarnation(&p);
    progress_loaded(&p, v);
}

static void step(int64_t n, double loss, int64_t now_ms)
{
    char text[128];
    snprintf(text, sizeof text,
        "{\"step\":%lld,\"loss\":%g,\"tokens\":%lld,\"tokens_per_second\":50}", (long long)n, loss,
        (long long)n * 10);
    json_auto struct json *v = parse(text);
    progress_step(&p, v, now_ms, 1700000000000 + now_ms);
}

START_TEST(nothing_known_at_first)
{
    progress_init(&p);
    report_init(&r);
    progress_report(&p, &r);
    ck_assert(isnan(r.loss) && isnan(r.first_loss) && isnan(r.validation_loss));
    ck_assert_int_eq(r.eta_seconds, -1);
    ck_assert_int_eq(r.checkpoint_step, -1);
    ck_assert_int_eq(progress_median_step_ms(&p), 0);
}
END_TEST

/* As long as ranks tell theirs; a world that is formed anew has told none. */
START_TEST(a_chosen_layout_is_reported)
{
    progress_init(&p);
    report_init(&r);
    r.ranks = r.data_parallel = 8;
    r.tensor = r.pipeline = 1;
    json_auto struct json *v =
        parse("{\"tensor\":2,\"pipeline\":2,\"zero_stage\":1,\"layout_reason\":\"why\"}");
    progress_loaded(&p, v);
    progress_report(&p, &r);
    ck_assert(r.data_parallel == 2 && r.tensor == 2 && r.pipeline == 2 && r.zero_stage == 1);
    ck_assert_str_eq(r.layout_reason, "why");
    ck_assert_str_eq(r.layout_balance, "");
    json_auto struct json *balanced = parse("{\"step\":8,\"text\":\"6 2\"}");
    progress_balanced(&p, balanced);
    progress_report(&p, &r);
    ck_assert_str_eq(r.layout_balance, "6 2");
    r.context = 2; /* told */
    progress_report(&p, &r);
    ck_assert(r.data_parallel == 1 && r.tensor == 2 && r.pipeline == 2);
    r.context = 1;
    r.ranks = 6; /* not what was told of */
    r.data_parallel = 6;
    r.tensor = r.pipeline = 1;
    progress_report(&p, &r);
    ck_assert(r.data_parallel == 6 && r.tensor == 1);
    progress_incarnation(&p);
    r.ranks = 8;
    progress_report(&p, &r);
    ck_assert(r.tensor == 1 && r.zero_stage == 0);
    ck_assert(!*r.layout_reason && !*r.layout_balance);
}
END_TEST

START_TEST(median_and_eta)
{
    progress_init(&p);
    loaded(0);
    int64_t now_ms = 1000;
    static const int64_t took[] = {0, 100, 100, 5000, 100, 100, 100, 9000, 100};
    for (int i = 0; i < 9; i++)
        step(i + 1, 3, now_ms += took[i]);
    report_init(&r);
    progress_report(&p, &r);
    ck_assert_int_eq(progress_median_step_ms(&p), 100);
    ck_assert_int_eq(r.eta_seconds, (1000 - 9) / 10);
    ck_assert_int_eq(r.tokens, 90);
    ck_assert_int_eq(r.held_out, 4);
    ck_assert_int_eq(r.memory_per_rank_bytes, 77);
    ck_assert_int_eq(r.zero_stage, 1);
}
END_TEST

START_TEST(steps_that_are_told_together)
{
    progress_init(&p);
    loaded(0);
    for (int i = 1; i <= 8; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"step\":%d,\"loss\":1,\"seconds\":0.25}", i);
        json_auto struct json *v = parse(text);
        progress_step(&p, v, 1000 * (i / 4), 0);
    }
    ck_assert_int_eq(progress_median_step_ms(&p), 250);
}
END_TEST

START_TEST(history_stays_bounded_and_even)
{
    progress_init(&p);
    loaded(0);
    for (int i = 1; i <= 1000; i++)
        step(i, 1000 - i, i * 10);
    ck_assert_int_le(p.history_count, LIMIT_LOSS_HISTORY);
    ck_assert_int_ge(p.history_count, LIMIT_LOSS_HISTORY / 2);
    for (int i = 1; i < p.history_count; i++) {
        ck_assert_int_ge(p.history_step[i] - p.history_step[i - 1], p.history_stride);
        ck_assert_double_eq(p.history[i], (double)(1000 - p.history_step[i]));
    }
    ck_assert_double_eq(p.history[0], 999);
    ck_assert_double_eq(p.first_loss, 999);
}
END_TEST

START_TEST(a_restart_forgets_what_was_lost)
{
    progress_init(&p);
    loaded(0);
    for (int i = 1; i <= 12; i++)
        step(i, i, i * 10);
    loaded(10);
    ck_assert_int_eq(p.step, 10);
    ck_assert_int_eq(p.history_count, 10);
    step(11, 0.5, 5000);
    ck_assert_int_eq(p.history_step[p.history_count - 1], 11);
    ck_assert_double_eq(p.history[p.history_count - 1], 0.5);
    ck_assert_int_eq(progress_median_step_ms(&p), 0); /* the pause between is no step */
}
END_TEST

START_TEST(saves_and_evaluations)
{
    progress_init(&p);
    json_auto struct json *scaled = parse("{\"step\":25,\"loss_scale\":1024,\"skipped_steps\":6}");
    json_auto struct json *saved = parse("{\"step\":25,\"path\":\"/c/step-00000025\"}");
    json_auto struct json *first = parse("{\"step\":0,\"loss\":4}");
    json_auto struct json *later = parse("{\"step\":25,\"loss\":2,\"f1\":0.75,\"match\":0.5}");
    progress_report(&p, &r);
    ck_assert(isnan(r.loss_scale));
    progress_step(&p, scaled, 0, 0);
    progress_saved(&p, saved, 99);
    progress_evaluated(&p, first);
    ck_assert(isnan(p.validation_f1) && isnan(p.validation_match));
    progress_evaluated(&p, later);
    report_init(&r);
    progress_report(&p, &r);
    ck_assert_int_eq(r.checkpoint_step, 25);
    ck_assert_double_eq(r.loss_scale, 1024);
    ck_assert_int_eq(r.skipped, 6);
    ck_assert_str_eq(r.checkpoint_path, "/c/step-00000025");
    ck_assert_double_eq(r.first_validation_loss, 4);
    ck_assert_double_eq(r.validation_loss, 2);
    ck_assert_double_eq(r.validation_f1, 0.75);
    ck_assert_double_eq(r.validation_match, 0.5);
    struct progress q;
    progress_init(&q);
    progress_recover(&q, &r);
    ck_assert_int_eq(q.checkpoint_step, 25);
    ck_assert_double_eq(q.validation_loss, 2);
    ck_assert_double_eq(q.validation_match, 0.5);
}
END_TEST

/* A world that read what was newest says nothing of the one before it. */
START_TEST(a_damaged_checkpoint_is_remembered)
{
    progress_init(&p);
    report_init(&r);
    progress_report(&p, &r);
    ck_assert_str_eq(r.checkpoint_damaged, "");
    json_auto struct json *damaged =
        parse("{\"resumed_step\":25,\"steps\":100,\"damaged\":\"step-00000050.damaged\"}");
    json_auto struct json *whole =
        parse("{\"resumed_step\":75,\"steps\":100,\"damaged\":\"\",\"damaged_bytes\":4096}");
    progress_loaded(&p, damaged);
    progress_loaded(&p, whole);
    progress_report(&p, &r);
    ck_assert_str_eq(r.checkpoint_damaged, "step-00000050.damaged");
    struct progress q;
    progress_init(&q);
    progress_recover(&q, &r);
    ck_assert_str_eq(q.checkpoint_damaged, "step-00000050.damaged");
    ck_assert(r.damaged_bytes == 4096 && q.damaged_bytes == 4096);
}
END_TEST

START_TEST(what_is_kept_in_memory_is_the_newest_worlds)
{
    progress_init(&p);
    report_init(&r);
    json_auto struct json *kept = parse("{\"steps\":100,\"copies\":\"every 1 steps\"}");
    json_auto struct json *none = parse("{\"steps\":100}");
    progress_loaded(&p, kept);
    progress_report(&p, &r);
    struct progress q;
    progress_init(&q);
    progress_recover(&q, &r);
    ck_assert_str_eq(q.checkpoint_in_memory, "every 1 steps");
    progress_loaded(&p, none);
    progress_report(&p, &r);
    ck_assert_str_eq(r.checkpoint_in_memory, "");
}
END_TEST

UNIT_MAIN("progress", nothing_known_at_first, median_and_eta, a_chosen_layout_is_reported,
    steps_that_are_told_together, history_stays_bounded_and_even, a_restart_forgets_what_was_lost,
    saves_and_evaluations, a_damaged_checkpoint_is_remembered,
    what_is_kept_in_memory_is_the_newest_worlds)
