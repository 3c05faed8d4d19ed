/*
 * monitor: goal: lines that are posted are answered line by line, in their order, a bounded number
 * at the rank at a time; their labels fire an alert and resolve it, which a webhook hears of though
 * it fails twice; a source is read once whatever ends in between; who may not ask is refused, who
 * goes away or does not read costs nobody else. The kind: an alarm that is missed or told twice.
 * Method: a front and a webhook's server on real sockets, the test in the rank's place (fronts.h).
 */
#include "tests/unit.h"

#include "agent/aside.h"
#include "agent/monitor.h"
#include "tests/agent/fronts.h"
#include "tests/hang.h"

#include <unistd.h>

#define MONITOR_PATH "/v1/monitor"

static struct jobspec spec;
static char folder[64], file[96], url[64];
static int hook_failures, hook_asked;
static char hooked[8][4096];
static int hooked_count;
static int64_t now_ms;
static struct front_client c;

static void on_hook(void *user, struct web_exchange *x)
{
    size_t len;
    const char *body = web_body(x, &len);
    (void)user;
    hook_asked++;
    if (hook_failures > 0) {
        hook_failures--;
        web_answer(x, 503, "text/plain", "", 0, NULL);
        return;
    }
    ck_assert_int_lt(hooked_count, 8);
    snprintf(hooked[hooked_count++], sizeof hooked[0], "%.*s", (int)len, body);
    web_answer(x, 200, "text/plain", "", 0, NULL);
}

static void begin(void)
{
    ck_assert_int_eq(monitor_create(&spec, folder, folder, &watch, &e), 0);
    serve("tiny", 2);
    front_does(f, WIRE_DOES_CLASSIFY, (struct openai_members){0});
    monitor_set_rank(watch, rank_takes, NULL);
    const struct web_door door = {.host = "127.0.0.1", .request_fn = on_hook};
    uint16_t port;
    ck_assert_int_eq(web_open(w, &door, &port, &e), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/hook", port);
    now_ms = clock_ms();
}

static void end(void)
{
    client_close(&c);
    teardown();
    monitor_destroy(watch);
}

static void setup_watch(void)
{
    snprintf(folder, sizeof folder, "/tmp/llmjob-monitor-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/log", folder);
    spec = (struct jobspec){.task = TASK_SERVE,
        .name = "j",
        .namespace_ = "n",
        .serve = {.model_name = "tiny",
            .classify = {.alerts = {{.name = "burst",
                             .label = "spam",
                             .window_seconds = 60,
                             .share = 0.5,
                             .clear_share = 0.25,
                             .min_items = 4,
                             .webhook = url}},
                .alert_count = 1}}};
    begin();
}

static void teardown_watch(void)
{
    end();
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

static bool goes_on(void)
{
    monitor_tick(watch, now_ms);
    return false;
}
#define watch_until(condition) until(&c, goes_on() || (condition))

/* The rank answers what it was sent last: each text that begins with s is spam. */
static int answer(void)
{
    json_auto struct json *v = NULL;
    uint64_t id = last_id();
    char element[96], json[160];
    int n = 0;
    ck_assert_int_eq(last_type, WIRE_REQUEST);
    ck_assert_int_eq(json_parse(last_json, strlen(last_json), &v, &e), 0);
    ck_assert_str_eq(json_str(v, "read", ""), "classify");
    ck_assert_int_eq(json_int(v, "truncate", 0), -1);
    json_each (text, json_get(v, "input")) {
        bool spam = *json_string_value(text) == 's';
        int len = snprintf(element, sizeof element,
            "%s{\"index\":%d,\"label\":\"%s\",\"probs\":[%s],\"num_classes\":2}", n ? "," : "", n,
            spam ? "spam" : "ham", spam ? "0.1,0.9" : "0.75,0.25");
        say(id, element, (size_t)len);
        n++;
    }
    int len = snprintf(json, sizeof json,
        "{\"id\":%llu,\"reason\":\"stop\",\"prompt_tokens\":9,\"items\":%d}",
        (unsigned long long)id, n);
    front_frame(f, &(struct wire_frame){WIRE_FINISHED, json, (uint32_t)len});
    return n;
}

static void put_lines(struct buf *out, int n, const char *text, int64_t seconds)
{
    for (int i = 0; i < n; i++)
        buf_printf(out, "{\"text\":\"%s\",\"time\":%lld}\n", text, (long long)(seconds + i));
}

static void post(const char *body)
{
    client_open(&c);
    ask(&c, MONITOR_PATH, body);
}

START_TEST(lines_are_answered_in_order)
{
    post("{\"text\":\"s one\",\"id\":\"x\",\"time\":0}\n\n  \nnonsense\n"
         "{\"text\":\"ham\",\"time\":0}");
    watch_until(sent == 1);
    ck_assert_int_eq(monitor_at_rank(watch), 1);
    ck_assert_int_eq(front_in_flight(f), 1);
    ck_assert(!front_done(f));
    answer();
    watch_until(has(&c, "\r\n0\r\n\r\n"));
    const char *first = strstr(c_in(&c),
        "{\"index\":0,\"id\":\"x\",\"time\":\"1970-01-01T00:00:00Z\","
        "\"label\":\"spam\",\"probs\":[0.1,0.9]}\n");
    const char *second = strstr(c_in(&c), "{\"index\":1,\"error\":\"a line must be JSON\"}\n");
    const char *third = strstr(c_in(&c), "{\"index\":2,\"time\":");
    ck_assert_msg(first && second > first && third > second, "%s", c_in(&c));
    ck_assert(has(&c, "HTTP/1.1 200") && has(&c, "Content-Type: application/x-ndjson"));
    ck_assert_int_eq(monitor_streams(watch), 0);
    ck_assert(front_done(f));
    goes_on();
    ck_assert(metric_is(NAME_METRIC_WATCH_TEXTS "{label=\"spam\"} 1"));
    ck_assert(metric_is(NAME_METRIC_WATCH_WRONG " 1"));
}
END_TEST

START_TEST(a_burst_fires_and_resolves)
{
    buf_auto struct buf body;
    buf_init(&body, 1 << 20);
    hook_failures = 2;
    put_lines(&body, 20, "ham", 1000); /* one a second */
    put_lines(&body, 25, "spam", 1020);
    put_lines(&body, 50, "ham", 1045);
    post(buf_cstr(&body));
    for (int read = 0, batch = 1; read < 95; batch++) {
        watch_until(sent == batch);
        int n = answer();
        ck_assert_int_le(n, MONITOR_TEXTS);
        read += n;
    }
    watch_until(has(&c, "\"index\":94"));
    ck_assert(metric_is(NAME_METRIC_ALERT_FIRING "{alert=\"burst\"} 0"));
    for (int i = 0; i < 100 && hooked_count < 2; i++) { /* the clock of tries is the test's */
        int before = hook_asked;
        watch_until(hook_asked > before || hooked_count == 2);
        for (int k = 0; k < 20; k++)
            turn(&c), goes_on();
        now_ms += 1000;
    }
    ck_assert_int_eq(hook_asked, 4);
    /* 20 of 40 at 1039; of the last minute below a quarter when 15 of 60 have become fewer */
    ck_assert_ptr_nonnull(strstr(hooked[0], "\"startsAt\":\"1970-01-01T00:17:19Z\""));
    ck_assert_ptr_nonnull(strstr(hooked[0], "\"status\":\"firing\""));
    ck_assert_ptr_nonnull(strstr(hooked[1], "\"status\":\"resolved\""));
    ck_assert_ptr_nonnull(strstr(hooked[1],
        "\"startsAt\":\"1970-01-01T00:17:19Z\","
        "\"endsAt\":\"1970-01-01T00:18:10Z\""));
    client_close(&c);
    client_open(&c);
    send_head(&c, "GET " MONITOR_PATH, "Authorization: Bearer key");
    watch_until(has(&c, "\"curves\":{"));
    ck_assert_msg(has(&c, "\"state\":\"inactive\"") && has(&c, "\"delivered\":2,\"retried\":2") &&
            has(&c, "\"fired\":\"1970-01-01T00:17:19Z\"") && !has(&c, url),
        "%s", c_in(&c));
}
END_TEST

/* What time alone does: the stream is silent, and the alert ends. */
START_TEST(silence_resolves)
{
    buf_auto struct buf body;
    buf_init(&body, 4096);
    put_lines(&body, 4, "spam", 1000);
    post(buf_cstr(&body));
    watch_until(sent == 1);
    answer();
    watch_until(hooked_count == 1);
    now_ms += MONITOR_GRACE_MS + 56000; /* to 1059 */
    goes_on();
    ck_assert(metric_is(NAME_METRIC_ALERT_FIRING "{alert=\"burst\"} 1"));
    now_ms += 1000;
    watch_until(hooked_count == 2);
    ck_assert_ptr_nonnull(strstr(hooked[1], "\"endsAt\":\"1970-01-01T00:17:40Z\""));
}
END_TEST

START_TEST(who_may_not_ask)
{
    as_key = "wrong";
    post("{\"text\":\"a\"}");
    until(&c, has(&c, " 401 "));
    ck_assert_int_eq(sent, 0);
    client_close(&c);
    as_key = "key";
    client_open(&c);
    send_head(&c, "DELETE " MONITOR_PATH, "Authorization: Bearer key");
    until(&c, has(&c, " 405 ") && has(&c, "Allow: GET, POST, OPTIONS"));
    client_close(&c);
    post("");
    until(&c, has(&c, " 200 ") && has(&c, "\r\n0\r\n\r\n"));
    client_close(&c);
    front_drain(f);
    post("{\"text\":\"a\"}");
    until(&c, has(&c, " 503 ") && has(&c, "draining"));
    ck_assert_int_eq(monitor_streams(watch), 0);
}
END_TEST

START_TEST(streams_are_bounded_and_take_turns)
{
    struct front_client more[MONITOR_STREAMS];
    buf_auto struct buf body;
    buf_init(&body, 1 << 20);
    put_lines(&body, 2 * MONITOR_TEXTS, "ham", 5);
    for (int i = 0; i < MONITOR_STREAMS; i++) {
        client_open(&more[i]);
        ask(&more[i], MONITOR_PATH, buf_cstr(&body));
        until(&more[i], monitor_streams(watch) == i + 1);
        ck_assert_int_eq(monitor_at_rank(watch), i ? LIMIT_RANK_WATCHING : 1);
    }
    post("{\"text\":\"a\"}");
    until(&c, has(&c, " 429 ") && has(&c, "Retry-After: "));
    ck_assert_int_eq(sent, LIMIT_RANK_WATCHING);
    answer(); /* of the second */
    watch_until(sent == LIMIT_RANK_WATCHING + 1);
    answer(); /* and before its next comes another's: */
    until(&more[2], has(&more[2], "\"index\":0"));
    client_close(&more[0]); /* it goes away with something at the rank */
    until(NULL, monitor_streams(watch) == MONITOR_STREAMS - 1 && last_type == WIRE_CANCEL);
    ck_assert_uint_eq(last_id(), MONITOR_ID);
    finish(MONITOR_ID, "cancelled", "");
    goes_on();
    front_lost(f); /* the others end, and say so */
    ck_assert_int_eq(monitor_streams(watch), 0);
    until(&more[1], has(&more[1], "\"error\":\"the model was stopped\"}\n"));
    until(&more[9], has(&more[9], " 503 "));
    for (int i = 1; i < MONITOR_STREAMS; i++)
        client_close(&more[i]);
}
END_TEST

START_TEST(what_the_rank_refuses)
{
    post("{\"text\":\"a\",\"time\":3}");
    watch_until(sent == 1);
    finish(last_id(), "error", "it does not fit");
    watch_until(
        has(&c, "{\"index\":0,\"error\":\"it does not fit\"}\n") && has(&c, "\r\n0\r\n\r\n"));
    client_close(&c);
    post("{\"text\":\"a\",\"time\":3}");
    watch_until(sent == 2);
    say(last_id(), "{", 1); /* it says nonsense */
    finish(last_id(), "stop", "");
    watch_until(has(&c, "the model's answer cannot be read"));
}
END_TEST

/* Whose answers nobody takes is not asked about further, and goes on when somebody does. */
START_TEST(a_client_that_does_not_read_waits)
{
    buf_auto struct buf body;
    int small = 64 << 10, large = 1 << 20, batches = 0, quiet = 0;
    buf_init(&body, 1 << 20);
    while (body.len < (1 << 20) - 64)
        buf_str(&body, "{\"text\":\"a\"}\n");
    client_open(&c);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    struct front_client posting = c; /* whose answers ask() reads meanwhile are none */
    ask(&posting, MONITOR_PATH, buf_cstr(&body));
    c = posting;
    until(NULL, monitor_streams(watch) == 1);
    while (quiet < 50) { /* turns in which the rank was asked nothing */
        int before = sent;
        goes_on();
        turn(NULL);
        quiet = sent == before ? quiet + 1 : 0;
        while (batches < sent)
            batches += (answer(), 1);
    }
    ck_assert_int_eq(monitor_at_rank(watch), 0);
    ck_assert_int_eq(monitor_streams(watch), 1);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
    for (int64_t until_ms = clock_ms() + DEADLINE_MS; !has(&c, "\r\n0\r\n\r\n");) {
        ck_assert_int_lt(clock_ms(), until_ms);
        goes_on();
        turn(&c);
        if (c.in.len > (1 << 20)) /* all of it is more than is kept here */
            buf_drop(&c.in, c.in.len - 4096);
        while (batches < sent)
            batches += (answer(), 1);
    }
    ck_assert_int_eq(monitor_streams(watch), 0);
}
END_TEST

static void write_file(const char *text)
{
    FILE *at = fopen(file, "a");
    ck_assert_ptr_nonnull(at);
    fputs(text, at);
    fclose(at);
}

static void begin_with_file(void)
{
    end();
    spec.serve.classify.file = file;
    begin();
}

START_TEST(a_source_counts_once)
{
    begin_with_file();
    write_file("{\"text\":\"spam\",\"time\":10}\nbad\n{\"text\":\"spam\",\"time\":11}\n");
    client_open(&c);
    watch_until(sent == 1);
    front_lost(f); /* before it was answered: it is asked again */
    goes_on();
    ck_assert_int_eq(front_ready(f, 100, WIRE_CALLS_NONE, &e), 0);
    monitor_set_rank(watch, rank_takes, NULL);
    watch_until(sent == 2);
    ck_assert_int_eq(answer(), 2);
    now_ms += 5000;
    write_file("{\"text\":\"spam\",\"time\":12}\n");
    watch_until(sent == 3); /* and this program ends before it is answered */
    end();
    begin();
    client_open(&c);
    watch_until(sent == 1);
    ck_assert_int_eq(answer(), 1); /* that line alone */
    now_ms += 5000;
    write_file("{\"text\":\"spam\",\"time\":13}\n");
    watch_until(sent == 2);
    ck_assert_int_eq(hook_asked, 0);
    answer(); /* the fourth, of those before and after */
    watch_until(hooked_count == 1);
    ck_assert_ptr_nonnull(strstr(hooked[0], "\"items\":\"4\""));
    now_ms += 5000;
    goes_on();
    hook_failures = 1; /* that it has resolved is told by who comes after */
    now_ms += 60000;
    watch_until(hook_asked == 2);
    end();
    begin();
    client_open(&c);
    watch_until(hooked_count == 2);
    ck_assert_ptr_nonnull(strstr(hooked[1], "\"status\":\"resolved\""));
    ck_assert_int_eq(hook_asked, 3);
}
END_TEST

/* Of the first alert, in the report. */
static const char *message(void)
{
    struct report r = {0};
    arena_auto struct arena *a = arena_create(1 << 16);
    ck_assert_int_eq(monitor_report(watch, a, &r, &e), 0);
    ck_assert_int_ge(r.alert_count, 1);
    return r.alerts[0].message; /* a constant */
}

/* Turns go on, each as short as ever, until it is said of both folders that they do not answer. */
START_TEST(a_folder_that_does_not_answer)
{
    int64_t slowest_ms = 0, began_ms;
    if (!hang_possible())
        return;
    begin_with_file();
    write_file("{\"text\":\"spam\",\"time\":10}\n");
    client_open(&c);
    watch_until(sent == 1);
    answer();
    int hang = hang_begin(folder);
    for (int i = 2;
         !has(&c, "\"source\":{\"state\":\"late\"") || !has(&c, "\"kept\":{\"state\":\"late\"");
         i++) {
        ck_assert_int_lt(clock_ms() - now_ms, 2 * ASIDE_LATE_MS);
        client_close(&c);
        post("{\"text\":\"spam\",\"time\":11}"); /* a client is answered as ever */
        watch_until(sent == i);
        answer();
        watch_until(has(&c, "\"index\":0"));
        client_close(&c);
        client_open(&c);
        send_head(&c, "GET " MONITOR_PATH, "Authorization: Bearer key");
        watch_until(has(&c, "\"curves\":{"));
        began_ms = clock_ms();
        monitor_tick(watch, began_ms);
        slowest_ms = clock_ms() - began_ms > slowest_ms ? clock_ms() - began_ms : slowest_ms;
    }
    ck_assert_int_lt(slowest_ms, 1000);
    ck_assert_str_eq(message(), "the source does not answer");
    ck_assert(
        !metric_is(NAME_METRIC_WATCH_SOURCE " 0") && !metric_is(NAME_METRIC_WATCH_STATE " 0"));
    hang_end(folder, hang);
    int before = sent;
    write_file("{\"text\":\"spam\",\"time\":12}\n");
    now_ms = clock_ms();
    watch_until(sent == before + 1);
    ck_assert_int_eq(answer(), 1);
    now_ms += 5000;
    watch_until(
        metric_is(NAME_METRIC_WATCH_SOURCE " 0") && metric_is(NAME_METRIC_WATCH_STATE " 0"));
    ck_assert_str_eq(message(), "");
    end();
    begin();
    client_open(&c);
    write_file("{\"text\":\"spam\",\"time\":13}\n");
    watch_until(sent == 1);
    ck_assert_int_eq(answer(), 1); /* the others were kept as read */
}
END_TEST

START_TEST(one_has_the_state)
{
    struct monitor *other;
    begin_with_file();
    write_file("{\"text\":\"spam\",\"time\":10}\n");
    client_open(&c);
    ck_assert_int_eq(monitor_create(&spec, folder, folder, &other, &e), 0);
    monitor_set_rank(other, rank_takes, NULL);
    monitor_ready(other);
    watch_until(sent == 1);
    for (int i = 0; i < 5; i++)
        monitor_tick(other, clock_ms() + 5000 * i);
    ck_assert_int_eq(sent, 1);
    answer();
    end();
    watch = NULL;
    write_file("{\"text\":\"spam\",\"time\":11}\n");
    for (int64_t until_ms = clock_ms() + DEADLINE_MS; !monitor_at_rank(other);) {
        ck_assert_int_lt(clock_ms(), until_ms);
        monitor_tick(other, clock_ms() + 60000);
    }
    ck_assert_ptr_nonnull(strstr(last_json, "\"input\":[\"spam\"]")); /* the first was read */
    monitor_destroy(other);
    begin();
    client_open(&c);
}
END_TEST

static int make_one(void *user)
{
    struct monitor *m = NULL;
    (void)user;
    int rc = monitor_create(&spec, folder, folder, &m, &e);
    monitor_destroy(m);
    return rc;
}

START_TEST(want_of_memory)
{
    spec.serve.classify.file = file;
    fault_each(FAULT_MEM, make_one, NULL);
    spec.serve.classify.file = NULL;
    spec.serve.classify.directory = folder;
    fault_each(FAULT_MEM, make_one, NULL);
    client_open(&c);
}
END_TEST

START_TEST(nothing_is_watched)
{
    struct monitor *none = watch;
    spec.serve.classify.alert_count = 0;
    ck_assert_int_eq(monitor_create(&spec, folder, folder, &none, &e), 0);
    ck_assert_ptr_null(none);
    monitor_tick(none, 1);
    monitor_drain(none);
    ck_assert_int_eq(monitor_streams(none) + monitor_at_rank(none), 0);
    spec.serve.classify.alert_count = 1;
    client_open(&c);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"monitor", 60, setup_watch, teardown_watch},
        (const TTest *const[]){lines_are_answered_in_order, a_burst_fires_and_resolves,
            silence_resolves, who_may_not_ask, streams_are_bounded_and_take_turns,
            what_the_rank_refuses, a_client_that_does_not_read_waits, a_source_counts_once,
            a_folder_that_does_not_answer, one_has_the_state, want_of_memory, nothing_is_watched,
            NULL});
}
