/*
 * alerts: goal: an alert fires when, and only when, the share of its label in the window has been
 * high for as long as asked, and resolves when it is below the other bound or too few texts are
 * left; at the same times whoever tells the time how often; also late texts count, memory is
 * bounded, and what was kept goes on as if nothing had been. The kind: an alarm that flaps, comes
 * late, or never ends. Method: planted clocks; random streams beside an account that keeps every
 * text and counts anew at every moment.
 */
#include "agent/alerts.h"

#include "base/random.h"
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES 4096
#define TEXTS   400
#define BASE_MS INT64_C(1000000000000)

static struct alerts_change changes[CHANGES];
static int change_count;
static struct alerts *a;
static struct err e;

static void on_change(void *user, const struct alerts_change *c)
{
    (void)user;
    ck_assert_int_lt(change_count, CHANGES);
    changes[change_count++] = *c;
}

static const struct jobspec_alert usual = {.name = "spam",
    .label = "spam",
    .window_seconds = 60,
    .share = 0.5,
    .clear_share = 0.25,
    .for_seconds = 10,
    .min_items = 4};

static void start(const struct jobspec_alert *list, int count)
{
    alerts_destroy(a);
    change_count = 0;
    ck_assert_int_eq(alerts_create(list, count, on_change, NULL, &a, &e), 0);
}

static void teardown(void)
{
    alerts_destroy(a);
    a = NULL;
}

static bool add(int64_t seconds, const char *label)
{
    return alerts_add(a, BASE_MS + 1000 * seconds, &label, 1);
}

static void check_change(int i, bool firing, int64_t seconds)
{
    ck_assert_int_lt(i, change_count);
    ck_assert_int_eq(changes[i].firing, firing);
    ck_assert_int_eq(changes[i].ms, BASE_MS + 1000 * seconds);
}

START_TEST(fires_after_its_time_and_resolves_below_the_other_bound)
{
    start(&usual, 1);
    for (int s = 0; s < 4; s++)
        ck_assert(add(s, "ham"));
    for (int s = 4; s < 7; s++)
        add(s, "spam");
    ck_assert_int_eq(alerts_view(a, 0).since_ms, -1);
    add(7, "spam"); /* 4 of 8 */
    ck_assert_int_eq(alerts_view(a, 0).since_ms, BASE_MS + 7000);
    alerts_advance(a, BASE_MS + 16999);
    ck_assert_int_eq(change_count, 0);
    alerts_advance(a, BASE_MS + 30000); /* nobody told it at 17 s */
    ck_assert_int_eq(change_count, 1);
    check_change(0, true, 17);
    ck_assert(fabs(changes[0].share - 0.5) < 1e-12 && changes[0].items == 8);
    for (int s = 30; s < 38; s++) /* 4 of 16: a quarter is not below a quarter */
        add(s, "ham");
    ck_assert_int_eq(change_count, 1);
    add(38, "ham");
    check_change(1, false, 38);
    ck_assert(!alerts_view(a, 0).firing && alerts_view(a, 0).fired_ms == BASE_MS + 17000 &&
        alerts_view(a, 0).resolved_ms == BASE_MS + 38000);
}
END_TEST

START_TEST(a_moment_below_begins_anew)
{
    start(&usual, 1);
    for (int s = 0; s < 4; s++)
        add(s, "spam");
    for (int s = 4; s < 9; s++) /* 4 of 9 at 8 s */
        add(s, "ham");
    ck_assert_int_eq(alerts_view(a, 0).since_ms, -1);
    add(9, "spam"); /* 5 of 10 */
    alerts_advance(a, BASE_MS + 18999);
    ck_assert_int_eq(change_count, 0);
    alerts_advance(a, BASE_MS + 19000);
    check_change(0, true, 19);
}
END_TEST

START_TEST(a_silent_stream_resolves)
{
    start(&usual, 1);
    for (int s = 0; s < 4; s++)
        add(s, "spam");
    alerts_advance(a, BASE_MS + 59999); /* the first bucket is left behind at 60 s */
    ck_assert_int_eq(change_count, 1);
    alerts_advance(a, BASE_MS + 86400000);
    ck_assert_int_eq(change_count, 2);
    check_change(0, true, 13);
    check_change(1, false, 60);
    ck_assert_int_eq(alerts_view(a, 0).items, 0);
}
END_TEST

/* Between two buckets' beginnings, the second of which ends it: both are told. */
START_TEST(fires_before_what_ends_it)
{
    const char *spam = "spam";
    start(&usual, 1);
    for (int i = 0; i < 3; i++)
        add(0, "spam");
    alerts_add(a, BASE_MS + 49500, &spam, 1);
    alerts_advance(a, BASE_MS + 100000);
    ck_assert_int_eq(change_count, 2);
    ck_assert_int_eq(changes[0].ms, BASE_MS + 59500);
    check_change(1, false, 60);
    ck_assert_int_eq(changes[1].fired_ms, BASE_MS + 59500);
}
END_TEST

START_TEST(what_comes_late_counts_where_it_belongs)
{
    const char *spam = "spam";
    start(&usual, 1);
    add(100, "ham");
    ck_assert(!alerts_add(a, BASE_MS + 39999, &spam, 1)); /* before the window */
    for (int i = 0; i < 5; i++)
        ck_assert(add(45, "spam"));
    ck_assert_int_eq(alerts_view(a, 0).items, 6);
    alerts_advance(a, BASE_MS + 105000); /* 45 s leave */
    ck_assert_int_eq(alerts_view(a, 0).items, 1);
    ck_assert_int_eq(alerts_now_ms(a), BASE_MS + 105000);
    alerts_advance(a, BASE_MS); /* time does not go back */
    ck_assert_int_eq(alerts_now_ms(a), BASE_MS + 105000);
    ck_assert(!alerts_add(a, -1, &spam, 1));
}
END_TEST

START_TEST(a_text_has_several_labels_or_none)
{
    static const char *const both[] = {"urgent", "spam"};
    struct jobspec_alert list[2] = {usual, usual};
    list[1].label = "urgent";
    list[0].for_seconds = list[1].for_seconds = 0;
    start(list, 2);
    for (int i = 0; i < 3; i++)
        alerts_add(a, BASE_MS, both, 2);
    alerts_add(a, BASE_MS, both, 1);
    ck_assert_int_eq(change_count, 2);
    ck_assert_int_eq(changes[0].index, 0);
    ck_assert(fabs(changes[1].share - 1) < 1e-12);
    for (int i = 0; i < 16; i++)
        alerts_add(a, BASE_MS, NULL, 0);
    ck_assert_int_eq(change_count, 4);
}
END_TEST

/* Of many labels the curves show ALERTS_LABELS, and every text. */
START_TEST(curves)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    struct jsonw w;
    start(&usual, 1);
    for (int i = 0; i < 2 * ALERTS_LABELS; i++) {
        char label[16];
        const char *name = label;
        snprintf(label, sizeof label, "l%d", i);
        alerts_add(a, BASE_MS + i, &name, 1);
    }
    alerts_advance(a, BASE_MS + 3000);
    buf_init(&out, 1 << 20);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    alerts_write_curves(a, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_int_eq(json_parse(buf_cstr(&out), out.len, &v, &e), 0);
    ck_assert_int_eq(json_int(v, "stepMs", 0), 2000);
    ck_assert_uint_eq(json_count(json_get(v, "texts")), ALERTS_POINTS);
    ck_assert_uint_eq(json_count(json_get(v, "labels")), ALERTS_LABELS);
    double sum = 0;
    json_each (n, json_get(v, "texts"))
        sum += json_number_value(n);
    ck_assert(fabs(sum - 2 * ALERTS_LABELS) < 1e-9);
    alerts_advance(a, BASE_MS + 86400000); /* all is forgotten */
    buf_reset(&out);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    alerts_write_curves(a, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    const char *first = strstr(buf_cstr(&out), "\"texts\":");
    ck_assert_uint_lt(strcspn(first, "]"), strcspn(first, "123456789"));
}
END_TEST

/* -- random streams -- */

static struct {
    int64_t ms;
    bool hit;
} texts[TEXTS];
static int text_count;

struct account {
    bool firing;
    int64_t since_ms;
    struct alerts_change changes[CHANGES];
    int count;
};

static void note(struct account *k, bool firing, int64_t ms)
{
    ck_assert_int_lt(k->count, CHANGES);
    k->firing = firing;
    k->since_ms = -1;
    k->changes[k->count++] = (struct alerts_change){.firing = firing, .ms = ms};
}

/* As the specification says it, of the texts so far. */
static void count_anew(struct account *k, const struct jobspec_alert *s, int known, int64_t ms)
{
    int64_t width = 1000 * (int64_t)s->window_seconds / ALERTS_BUCKETS;
    int n = 0, hits = 0;
    for (int i = 0; i < known; i++)
        if (texts[i].ms / width > ms / width - ALERTS_BUCKETS) {
            n++;
            hits += texts[i].hit;
        }
    double clear = s->clear_share < 0 ? s->share : s->clear_share, share = n ? (double)hits / n : 0;
    bool alarming = n >= s->min_items && share >= s->share;
    int64_t for_ms = 1000 * (int64_t)s->for_seconds;
    if (!k->firing && k->since_ms >= 0 && ms - k->since_ms >= for_ms)
        note(k, true, k->since_ms + for_ms);
    if (k->firing) {
        if (n < s->min_items || share < clear)
            note(k, false, ms);
        return;
    }
    k->since_ms = !alarming ? -1 : k->since_ms < 0 ? ms : k->since_ms;
    if (alarming && ms - k->since_ms >= for_ms)
        note(k, true, k->since_ms + for_ms);
}

/* At every bucket's beginning, and at every text. */
static void account_all(struct account *k, const struct jobspec_alert *s, int64_t end_ms)
{
    int64_t width = 1000 * (int64_t)s->window_seconds / ALERTS_BUCKETS;
    *k = (struct account){.since_ms = -1};
    int known = 0;
    for (int64_t ms = texts[0].ms; ms <= end_ms;) {
        count_anew(k, s, known, ms); /* what leaves goes first */
        if (known < text_count && texts[known].ms == ms)
            count_anew(k, s, ++known, ms);
        int64_t next = (ms / width + 1) * width;
        ms = known < text_count && texts[known].ms < next ? texts[known].ms : next;
    }
}

static void draw_texts(uint64_t *seed)
{
    int64_t ms = BASE_MS;
    int rate = 1;
    text_count = 0;
    while (text_count < TEXTS) {
        if (random_next(seed) % 40 == 0)
            rate = (int)(random_next(seed) % 5);
        if (random_next(seed) % 60 == 0)
            ms += (int64_t)(random_next(seed) % 9000); /* a pause */
        ms += 1 + (int64_t)(random_next(seed) % 150);
        texts[text_count].ms = ms;
        texts[text_count++].hit = (int)(random_next(seed) % 5) < rate;
    }
}

static void tell_time(uint64_t *seed, int64_t from_ms, int64_t to_ms)
{
    while (random_next(seed) % 3 && from_ms < to_ms) {
        from_ms += (int64_t)(random_next(seed) % (uint64_t)(to_ms - from_ms + 1));
        alerts_advance(a, from_ms);
    }
}

/* Kept as JSON in the middle, and taken up by another. */
static void change_hands(const struct jobspec_alert *s)
{
    buf_auto struct buf out;
    json_auto struct json *v = NULL;
    struct jsonw w;
    buf_init(&out, 1 << 20);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    alerts_write(a, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_int_eq(json_parse(buf_cstr(&out), out.len, &v, &e), 0);
    alerts_destroy(a);
    ck_assert_int_eq(alerts_create(s, 1, on_change, NULL, &a, &e), 0);
    ck_assert(alerts_read(a, v));
}

START_TEST(as_counted_anew_at_every_moment)
{
    static struct account k;
    uint64_t seed = sample_setting("LLMJOB_SEED");
    int fired = 0;
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (int round = 0; round < 60; round++) {
        struct jobspec_alert s = {.name = "n",
            .label = "x",
            .window_seconds = 6 + 3 * (int)(random_next(&seed) % 3),
            .share = 0.2 * (double)(1 + random_next(&seed) % 5),
            .for_seconds = (int)(random_next(&seed) % 3),
            .min_items = 1 + (int)(random_next(&seed) % 20)};
        s.clear_share = random_next(&seed) % 2 ? -1 : s.share / 2;
        draw_texts(&seed);
        int64_t end_ms = texts[TEXTS - 1].ms + 20000;
        account_all(&k, &s, end_ms);
        start(&s, 1);
        for (int i = 0; i < TEXTS; i++) {
            const char *label = texts[i].hit ? "x" : "y";
            ck_assert(alerts_add(a, texts[i].ms, &label, 1));
            if (i + 1 < TEXTS)
                tell_time(&seed, texts[i].ms, texts[i + 1].ms);
            if (random_next(&seed) % 100 == 0)
                change_hands(&s);
        }
        alerts_advance(a, end_ms);
        ck_assert_int_eq(change_count, k.count);
        for (int i = 0; i < k.count; i++)
            ck_assert_msg(
                changes[i].firing == k.changes[i].firing && changes[i].ms == k.changes[i].ms,
                "round %d, change %d: at %lld, not %lld", round, i, (long long)changes[i].ms,
                (long long)k.changes[i].ms);
        fired += k.count;
    }
    ck_assert_int_gt(fired, 100);
}
END_TEST

START_TEST(what_was_kept_of_another_alert_is_left_alone)
{
    static const char *const kept[] = {"{}", "{\"now\":5}",
        "{\"now\":5,\"alerts\":[{\"name\":\"spam\",\"label\":\"ham\",\"windowSeconds\":60}]}",
        "{\"now\":5,\"alerts\":[{\"name\":\"spam\",\"label\":\"spam\",\"windowSeconds\":60,"
        "\"texts\":[1],\"hits\":[2]}]}",
        "{\"now\":5,\"alerts\":7}"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        json_auto struct json *v = NULL;
        start(&usual, 1);
        ck_assert_int_eq(json_parse(kept[i], strlen(kept[i]), &v, &e), 0);
        ck_assert(!alerts_read(a, v));
        ck_assert_int_eq(alerts_view(a, 0).items, 0);
        for (int s = 0; s < 4; s++)
            add(s, "spam");
        alerts_advance(a, BASE_MS + 20000);
        check_change(0, true, 13);
    }
}
END_TEST

/* More hits than texts, a window of another time, firing without a beginning. */
START_TEST(damage_is_left_alone)
{
    static const struct {
        const char *from, *to;
    } damages[] = {{"\"hits\":[0", "\"hits\":[9"}, {"\"texts\":[0", "\"texts\":[-1"},
        {"\"texts\":[0", "\"texts\":[0.5"}, {"\"newest\":1", "\"newest\":2"},
        {"\"firing\":false", "\"firing\":true"}, {"\"fired\":-1", "\"fired\":9000000000000"}};
    buf_auto struct buf out;
    struct jsonw w;
    start(&usual, 1);
    add(21, "spam");
    buf_init(&out, 1 << 20);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    alerts_write(a, &w);
    jsonw_close(&w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        json_auto struct json *v = NULL;
        buf_auto struct buf bad;
        const char *at = strstr(buf_cstr(&out), damages[i].from);
        ck_assert_msg(at != NULL, "%s: %s", damages[i].from, buf_cstr(&out));
        buf_init(&bad, 1 << 20);
        buf_add(&bad, out.data, (size_t)(at - out.data));
        buf_printf(&bad, "%s%s", damages[i].to, at + strlen(damages[i].from));
        ck_assert_int_eq(json_parse(buf_cstr(&bad), bad.len, &v, &e), 0);
        start(&usual, 1);
        ck_assert_msg(!alerts_read(a, v), "%s", damages[i].to);
        ck_assert(alerts_view(a, 0).items == 0 && !alerts_view(a, 0).firing);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"alerts", 30, NULL, teardown},
        (const TTest *const[]){fires_after_its_time_and_resolves_below_the_other_bound,
            a_moment_below_begins_anew, a_silent_stream_resolves, fires_before_what_ends_it,
            what_comes_late_counts_where_it_belongs, a_text_has_several_labels_or_none, curves,
            as_counted_anew_at_every_moment, what_was_kept_of_another_alert_is_left_alone,
            damage_is_left_alone, NULL});
}
