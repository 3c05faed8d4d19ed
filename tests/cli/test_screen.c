/*
 * Goal: a person sees the right thing, whatever the width, height and content.
 * Method: whole pictures are compared with golden text; then, for every width and height up to a
 * large one, no line is wider and no picture higher than it may be. The log lines of a job's life
 * are compared as a whole, and nothing is told twice.
 */
#include "cli/screen.h"

#include <check.h>
#include <math.h>

#define T0 1790000000000 /* 2026-09-21T14:13:20Z */

static struct attempt attempts[] = {
    {3, T0 - 90000, T0 - 60000, "RankFailed", 1, 1, "node-b", "peer", 12, 2, ""},
    {4, T0 - 60000, T0 - 30000, "Scaled", -1, -1, "", "none", 20, 0, ""},
    {5, T0 - 30000, 0, "", -1, -1, "", "", 24, 0, ""},
};
static struct report_rank ranks[] = {
    {0, 0, "node-a", "forward", 24, 20, 0},
    {1, 1, "node-b", "collective", 24, 12000, 0},
};

static struct screen training(void)
{
    struct screen s = {.name = "kjv",
        .namespace_ = "lab",
        .task = "Train",
        .state = "Running",
        .why = "",
        .layout = "dp2",
        .ready = 2,
        .replicas = 2,
        .now_ms = T0,
        .hint = "Ctrl-C leaves"};
    struct report *r = &s.report;
    report_init(r);
    r->ranks = r->data_parallel = 2;
    r->memory_per_rank_bytes = 812ll << 20;
    r->step = 24;
    r->steps = 60;
    r->tokens = 18432;
    r->loss = 3.4021;
    r->first_loss = 4.1123;
    r->tokens_per_second = 1625;
    r->eta_seconds = 200;
    const double history[] = {4.1, 3.9, 3.95, 3.6, 3.5, 3.4};
    memcpy(r->loss_history, history, sizeof history);
    r->loss_history_count = 6;
    r->checkpoint_step = 20;
    r->checkpoint_ms = T0 - 4000;
    r->checkpoint_path = "/data/ckpt/kjv/step-20";
    r->restarts = 1;
    r->attempts = attempts;
    r->attempt_count = 3;
    r->rank_rows = ranks;
    r->rank_row_count = 2;
    s.events[0] =
        (struct screen_event){T0 - 61000, true, "RankFailed", "rank 1 on node-b was killed", 1};
    s.events[1] = (struct screen_event){T0 - 60000, false, "WorldFormed", "2 ranks, dp2", 3};
    s.event_count = 2;
    return s;
}

static const char *draw(const struct screen *s, int width, int height, bool colour)
{
    static struct buf b;
    const struct screen_style style = {width, height, colour};
    buf_done(&b);
    buf_init(&b, 1 << 20);
    ck_assert_int_eq(screen_draw(s, &style, &b), 0);
    return buf_cstr(&b);
}

static const char golden[] =
    "kjv in lab  Train  Running  2/2 ready  layout dp2  812 MiB a rank  1 restart\n"
    "step     24/60  ████████████░░░░░░░░░░░░░░░░░░  40%  3m20s left\n"
    "loss  3.4021  from 4.1123  █▆▇▃▂▁\n"
    "rate  1625 tokens/s  18432 tokens  checkpoint at step 20, 4s ago\n"
    "\n"
    " RANK REPLICA  NODE                 PHASE            STEP\n"
    "    0       0  node-a               forward            24\n"
    "    1       1  node-b               collective         24  silent for 12s\n"
    "\n"
    "14:12:20  world 3 ended at step 12, 2 lost: RankFailed of rank 1 on node-b\n"
    "14:12:50  world 4 ended at step 20: Scaled\n"
    "14:12:50  world 5 runs\n"
    "\n"
    "14:12:19  RankFailed       rank 1 on node-b was killed\n"
    "14:12:20  WorldFormed      2 ranks, dp2 (3 times)\n"
    "\n"
    "Ctrl-C leaves\n";

START_TEST(test_training)
{
    struct screen s = training();
    ck_assert_str_eq(draw(&s, 90, 40, false), golden);
}
END_TEST

START_TEST(test_waiting)
{
    struct screen s = {.name = "a",
        .namespace_ = "",
        .task = "Train",
        .state = "Pending",
        .layout = "",
        .hint = "",
        .why = "0/3 nodes are available: insufficient nvidia.com/gpu",
        .replicas = 8,
        .now_ms = T0};
    report_init(&s.report);
    ck_assert_str_eq(draw(&s, 90, 40, false),
        "a  Train  Pending  0/8 ready\n"
        "0/3 nodes are available: insufficient nvidia.com/gpu\n");
}
END_TEST

START_TEST(test_search)
{
    static struct screen_trial trials[] = {{0, 0, "Succeeded", "optimizer.learningRate 0.1", 3.25},
        {1, 0, "Failed", "optimizer.learningRate 9", NAN},
        {2, 0, "Running", "optimizer.learningRate 0.3", NAN}};
    struct screen s = {.name = "a",
        .namespace_ = "",
        .task = "Train",
        .state = "Searching",
        .layout = "",
        .hint = "",
        .why = "",
        .ready = 2,
        .replicas = 12,
        .searches = true,
        .trials = trials,
        .trial_count = 3,
        .trial_best = 0,
        .now_ms = T0};
    report_init(&s.report);
    ck_assert_str_eq(draw(&s, 90, 40, false),
        "a  Train  Searching  2/12 trials over\n"
        "\n"
        "TRIAL RUNG  STATE             VALUE  PARAMETERS\n"
        "    0    0  Succeeded        3.2500  optimizer.learningRate 0.1\n"
        "    1    0  Failed                   optimizer.learningRate 9\n"
        "    2    0  Running                  optimizer.learningRate 0.3\n");
    /* With little room the newest, and the best. */
    ck_assert_str_eq(draw(&s, 90, 10, false),
        "a  Train  Searching  2/12 trials over\n"
        "\n"
        "TRIAL RUNG  STATE             VALUE  PARAMETERS\n"
        "    0    0  Succeeded        3.2500  optimizer.learningRate 0.1\n"
        "    2    0  Running                  optimizer.learningRate 0.3\n"
        "      and 1 more\n");
}
END_TEST

START_TEST(test_verdict_and_address)
{
    struct screen s = {.name = "a",
        .namespace_ = "",
        .task = "Serve",
        .state = "Serving",
        .layout = "dp1",
        .hint = "",
        .why = "",
        .ready = 1,
        .replicas = 1,
        .now_ms = T0};
    report_init(&s.report);
    s.report.serve_address = "10.0.0.7:8000";
    s.report.verdict = (struct verdict){
        "Hang", 1, 1, "node-b", "allreduce", "rank 1 on node-b is silent", T0 - 11000};
    ck_assert_str_eq(draw(&s, 90, 40, false),
        "a  Serve  Serving  1/1 ready  layout dp1\n"
        "http://10.0.0.7:8000/v1\n"
        "Hang for 11s: rank 1 on node-b is silent\n");
}
END_TEST

/* Columns of a line: code points outside escape sequences. */
static int columns(const char *line, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\033') {
            while (i < len && line[i] != 'm')
                i++;
            continue;
        }
        n += ((unsigned char)line[i] & 0xc0) != 0x80;
    }
    return n;
}

START_TEST(test_fits_every_size)
{
    struct screen s = training();
    for (int width = 20; width < 140; width++) {
        for (int height = 1; height < 30; height++) {
            int lines = 0;
            for (const char *p = draw(&s, width, height, width % 2); *p; lines++) {
                size_t n = strcspn(p, "\n");
                ck_assert_msg(columns(p, n) <= width, "%dx%d: %.*s", width, height, (int)n, p);
                p += n + (p[n] == '\n');
            }
            ck_assert_msg(lines <= height, "%dx%d: %d lines", width, height, lines);
            ck_assert_int_gt(lines, 0);
        }
    }
}
END_TEST

START_TEST(test_many_ranks)
{
    static struct report_rank many[500];
    struct screen s = training();
    for (int i = 0; i < 500; i++)
        many[i] = (struct report_rank){i, i, "n", "forward", 1, 0, 0};
    s.report.rank_rows = many;
    s.report.rank_row_count = 500;
    ck_assert_ptr_nonnull(strstr(draw(&s, 90, 40, false), "and 472 more"));
}
END_TEST

/* What comes from a cluster must not reach the terminal as a command: shown escaped, as lines too,
 * and within the width. */
START_TEST(test_control_characters)
{
    static const char shown[] = "bad\\u001b[2J text\\u0007\\u009b\\u202e\xef\xbf\xbd end";
    struct screen s = training();
    s.why = "bad\033[2J\ttext\x07\xc2\x9b\xe2\x80\xae\x9b end";
    ck_assert_ptr_nonnull(strstr(draw(&s, 90, 40, false), shown));
    struct screen_told told = {0};
    buf_auto struct buf lines;
    buf_init(&lines, 1 << 16);
    ck_assert_int_eq(screen_tell(&s, &told, &lines), 0);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&lines), shown));
    for (int width = 20; width < 60; width++) {
        const char *line = strstr(draw(&s, width, 40, false), "bad");
        int columns = 0;
        for (; *line != '\n'; line++)
            columns += (*line & 0xc0) != 0x80;
        ck_assert_int_le(columns, width);
    }
}
END_TEST

START_TEST(test_colours)
{
    struct screen s = training();
    ck_assert_ptr_nonnull(strstr(draw(&s, 90, 40, true), "\033[1m\033[32mRunning\033[0m"));
    s.state = "Failed";
    ck_assert_ptr_nonnull(strstr(draw(&s, 90, 40, true), "\033[1m\033[31mFailed\033[0m"));
}
END_TEST

static const char *tell(const struct screen *s, struct screen_told *told)
{
    static struct buf b;
    buf_done(&b);
    buf_init(&b, 1 << 20);
    ck_assert_int_eq(screen_tell(s, told, &b), 0);
    return buf_cstr(&b);
}

START_TEST(test_lines)
{
    struct screen s = training();
    struct screen_told told = {0};
    s.report.attempt_count = 2;
    ck_assert_str_eq(tell(&s, &told),
        "14:13:20  Train kjv: Running, 2/2 ready, layout dp2\n"
        "14:13:20  world 3 ended at step 12, 2 lost: RankFailed of rank 1 on node-b\n"
        "14:13:20  world 4 ended at step 20: Scaled\n"
        "14:13:20  step 24/60  loss 3.4021  1625 tokens/s\n"
        "14:13:20  checkpoint at step 20 in /data/ckpt/kjv/step-20\n"
        "14:13:20  RankFailed: rank 1 on node-b was killed\n"
        "14:13:20  WorldFormed: 2 ranks, dp2\n");
    ck_assert_str_eq(tell(&s, &told), "");
    s.report.step = 25; /* too soon for another line */
    s.now_ms += 1000;
    ck_assert_str_eq(tell(&s, &told), "");
    s.now_ms += 1000;
    s.report.attempt_count = 3;
    s.report.loss_scale = 32768;
    s.report.skipped = 1;
    s.replicas = 3;
    ck_assert_str_eq(tell(&s, &told),
        "14:13:22  Train kjv: Running, 2/3 ready, layout dp2\n"
        "14:13:22  world 5 runs\n"
        "14:13:22  step 25/60  loss 3.4021  1625 tokens/s  1 skipped\n");
    s.report.attempts[2].ended_ms = T0;
    s.report.attempts[2].cause = "Complete";
    s.state = "Complete";
    s.report.step = 60; /* the last step is always told */
    s.now_ms += 100;
    s.events[1].count = 4;
    ck_assert_str_eq(tell(&s, &told),
        "14:13:22  Train kjv: Complete, 2/3 ready, layout dp2\n"
        "14:13:22  world 5 ended at step 24: Complete\n"
        "14:13:22  step 60/60  loss 3.4021  1625 tokens/s  1 skipped\n"
        "14:13:22  WorldFormed: 2 ranks, dp2\n");
    ck_assert_str_eq(tell(&s, &told), "");
    s.report.checkpoint_damaged = "step-00000040.damaged";
    s.report.damaged_bytes = 3 << 20;
    ck_assert_str_eq(tell(&s, &told),
        "14:13:22  a checkpoint could not be read and the one before it was taken; it is kept as "
        "step-00000040.damaged; what is kept so takes 3 MiB\n");
    ck_assert_str_eq(tell(&s, &told), "");
    struct report_alert alert = {"burst", true, 5000, 0, ""};
    s.report.alerts = &alert;
    s.report.alert_count = 1;
    ck_assert_str_eq(tell(&s, &told), "14:13:22  AlertFiring: alert burst\n");
    ck_assert_str_eq(tell(&s, &told), "");
    alert = (struct report_alert){"burst", false, 6000, 7000, ""}; /* once more, and over */
    ck_assert_str_eq(tell(&s, &told),
        "14:13:22  AlertFiring: alert burst\n14:13:22  AlertResolved: alert burst\n");
    ck_assert_str_eq(tell(&s, &told), "");
    s.report.layout_reason = "dp2 needs 3 MiB of 2";
    ck_assert_str_eq(tell(&s, &told), "14:13:22  layout chosen: dp2 needs 3 MiB of 2\n");
    ck_assert_str_eq(tell(&s, &told), "");
    s.report.layout_balance = "a step's 8 sequences: 6 2";
    ck_assert_str_eq(tell(&s, &told), "14:13:22  by measured speed: a step's 8 sequences: 6 2\n");
    ck_assert_str_eq(tell(&s, &told), "");
    ck_assert_ptr_nonnull(
        strstr(draw(&s, 90, 40, false), "by measured speed: a step's 8 sequences: 6 2\n"));
    ranks[0].share = 6;
    ck_assert_ptr_nonnull(
        strstr(draw(&s, 90, 40, false), "forward            24  6 of a step's sequences\n"));
    ranks[0].share = 0;
}
END_TEST

START_TEST(test_evaluations)
{
    struct screen s = training();
    struct screen_told told = {0};
    tell(&s, &told);
    s.report.validation_loss = s.report.first_validation_loss = 3.5;
    ck_assert_str_eq(tell(&s, &told), "14:13:20  validation loss 3.5000\n");
    s.report.validation_loss = 3.25;
    s.report.validation_f1 = 0.8125;
    ck_assert_str_eq(tell(&s, &told), "14:13:20  validation loss 3.2500  f1 0.8125\n");
    ck_assert_str_eq(tell(&s, &told), "");
    ck_assert_ptr_nonnull(
        strstr(draw(&s, 90, 40, false), "\nvalid 3.2500  from 3.5000  f1 0.8125\n"));
    s.report.validation_loss = 3;
    s.report.validation_f1 = NAN;
    s.report.validation_match = 0.75;
    ck_assert_str_eq(tell(&s, &told), "14:13:20  validation loss 3.0000  match 0.7500\n");
    ck_assert_ptr_nonnull(strstr(draw(&s, 90, 40, false), "  from 3.5000  match 0.7500\n"));
}
END_TEST

START_TEST(test_parts)
{
    char text[64];
    const struct {
        int64_t ms;
        const char *expect;
    } durations[] = {{-5, "0s"}, {999, "0s"}, {59000, "59s"}, {60000, "1m00s"}, {3599000, "59m59s"},
        {3600000, "1h00m"}, {86399000, "23h59m"}, {86400000 * 3ll, "3d"}};
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        screen_duration(durations[i].ms, text, sizeof text);
        ck_assert_str_eq(text, durations[i].expect);
    }
    buf_auto struct buf b;
    buf_init(&b, 256);
    const double values[] = {1, NAN, 2, INFINITY, 1.5};
    screen_sparkline(values, 5, &b);
    ck_assert_str_eq(b.data, "▁ █ ▅");
    buf_reset(&b);
    screen_sparkline((double[]){3, 3}, 2, &b); /* no range: no division by zero */
    ck_assert_str_eq(b.data, "▁▁");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("screen");
    TCase *t = tcase_create("screen");
    tcase_add_test(t, test_training);
    tcase_add_test(t, test_waiting);
    tcase_add_test(t, test_search);
    tcase_add_test(t, test_verdict_and_address);
    tcase_add_test(t, test_fits_every_size);
    tcase_add_test(t, test_many_ranks);
    tcase_add_test(t, test_control_characters);
    tcase_add_test(t, test_colours);
    tcase_add_test(t, test_lines);
    tcase_add_test(t, test_evaluations);
    tcase_add_test(t, test_parts);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
