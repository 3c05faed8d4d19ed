/*
 * hooks: goal: a webhook hears of each change once, in order and in Alertmanager's form, also when
 * its first tries fail; what it refuses, or never takes, is given up, counted, and keeps nobody
 * else; what waits is bounded. The kind: an alarm that is lost, told twice, or holds up the server.
 * Method: a real HTTP server on loopback (base/web) that fails as often as told, and the monotonic
 * clock of the test's choosing, so that nothing waits in real time for a next try.
 */
#include "agent/hooks.h"

#include "api/names.h"
#include "base/io.h"

#include "tests/base/web_client.h"
#include "tests/unit.h"

static struct hooks *h;
static char folder[64];
static struct jobspec spec;
static char urls[2][64];
static int64_t now_ms;

static int failures;      /* of the next requests so many */
static int fail_with;     /* their status */
static const char *after; /* a header of theirs, or NULL */
static int asked, taken;
static char bodies[16][4096], paths[16][32], proofs[16][64]; /* proof: its Authorization */

static void on_request(void *user, struct web_exchange *x)
{
    size_t len;
    const char *body = web_body(x, &len);
    const char *headers[] = {after, NULL};
    (void)user;
    asked++;
    if (failures > 0) {
        failures--;
        web_answer(x, fail_with, "text/plain", "no", 2, after ? headers : NULL);
        return;
    }
    ck_assert_int_lt(taken, 16);
    snprintf(bodies[taken], sizeof bodies[0], "%.*s", (int)len, body);
    snprintf(paths[taken++], sizeof paths[0], "%s", web_path(x));
    const char *proof = web_header(x, "authorization");
    snprintf(proofs[taken - 1], sizeof proofs[0], "%s", proof ? proof : "");
    ck_assert_str_eq(web_method(x), "POST");
    ck_assert_str_eq(web_header(x, "content-type"), "application/json");
    web_answer(x, 200, "text/plain", "ok", 2, NULL);
}

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/llmjob-hooks-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    const struct web_door door = {.host = "127.0.0.1", .request_fn = on_request};
    ck_assert_int_eq(web_create(&(struct web_conf){0}, &w, &e), 0);
    ck_assert_int_eq(web_open(w, &door, &port, &e), 0);
    spec = (struct jobspec){.name = "j",
        .namespace_ = "n",
        .serve = {.model_name = "m",
            .classify = {
                .alerts = {{.name = "a", .label = "spam", .window_seconds = 60, .share = 0.5},
                    {.name = "b", .label = "ham", .window_seconds = 60, .share = 0.25},
                    {.name = "c", .label = "ham", .window_seconds = 60, .share = 0.25}},
                .alert_count = 3}}};
    for (int i = 0; i < 2; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%u/%c", port, 'a' + i);
        spec.serve.classify.alerts[i].webhook = urls[i];
    }
    ck_assert_int_eq(hooks_create(&spec, folder, &h, &e), 0);
    now_ms = 1000;
}

static void teardown(void)
{
    hooks_destroy(h);
    web_destroy(w);
    ck_assert_int_eq(io_remove_tree(folder, &e), 0);
}

static void add(int alert, bool firing, int64_t ms)
{
    const struct alerts_change c = {.alert = &spec.serve.classify.alerts[alert],
        .index = alert,
        .firing = firing,
        .ms = ms,
        .fired_ms = firing ? ms : 1000,
        .share = 0.75,
        .items = 8};
    hooks_add(h, &c, now_ms);
}

static bool goes_on(void)
{
    hooks_tick(h, now_ms);
    return false;
}

/* The loop turns, and the test's clock stands. */
#define hooks_until(condition) until(NULL, goes_on() || (condition))

START_TEST(is_told_at_last_and_in_order)
{
    failures = 2;
    fail_with = 503;
    add(0, true, 1000);
    add(0, false, 61000);
    hooks_until(hooks_view(h, 0).retried == 1);
    ck_assert_int_eq(hooks_view(h, 0).waiting, 2);
    now_ms += 499; /* half a second after the first, a second after the next */
    goes_on();
    ck_assert_int_eq(asked, 1);
    now_ms += 1;
    hooks_until(hooks_view(h, 0).retried == 2);
    now_ms += 999;
    goes_on();
    ck_assert_int_eq(asked, 2);
    now_ms += 1;
    hooks_until(hooks_view(h, 0).delivered == 2);
    ck_assert_int_eq(asked, 4);
    ck_assert_int_eq(hooks_view(h, 0).told_ms, 61000);
    ck_assert_int_eq(hooks_view(h, 0).waiting, 0);
    ck_assert_ptr_nonnull(strstr(bodies[0], "\"status\":\"firing\""));
    ck_assert_ptr_nonnull(strstr(bodies[1], "\"status\":\"resolved\""));
    ck_assert_str_eq(paths[0], "/a");
}
END_TEST

START_TEST(a_refusal_is_final_and_keeps_nobody)
{
    failures = 1;
    fail_with = 404;
    add(0, true, 1000);
    hooks_until(hooks_view(h, 0).dropped == 1);
    add(1, true, 2000);
    add(2, true, 2000); /* has none */
    hooks_until(hooks_view(h, 1).delivered == 1);
    ck_assert_int_eq(asked, 2);
    ck_assert_int_eq(hooks_view(h, 0).told_ms, 1000);
    ck_assert_int_eq(hooks_view(h, 2).waiting, 0);
    ck_assert_str_eq(paths[0], "/b");
}
END_TEST

START_TEST(who_never_takes_it_is_given_up)
{
    failures = 1000;
    fail_with = 500;
    add(0, true, 1000);
    for (int tries = 1; tries <= 11; tries++) { /* a minute apart: a twelfth would be too late */
        hooks_until(hooks_view(h, 0).retried + hooks_view(h, 0).dropped == tries);
        ck_assert_int_eq(asked, tries);
        ck_assert_int_eq(hooks_view(h, 0).dropped, tries / 11);
        now_ms += 60000;
    }
    ck_assert_int_eq(hooks_view(h, 0).waiting, 0);
}
END_TEST

START_TEST(who_says_when_is_asked_then)
{
    failures = 1;
    fail_with = 429;
    after = "Retry-After: 7";
    add(0, true, 1000);
    hooks_until(hooks_view(h, 0).retried == 1);
    now_ms += 6999;
    goes_on();
    ck_assert_int_eq(asked, 1);
    now_ms += 1;
    hooks_until(hooks_view(h, 0).delivered == 1);
}
END_TEST

/* The first is on its way, and keeps its place; the oldest of the others gives up its. */
START_TEST(what_waits_is_bounded)
{
    failures = 1;
    fail_with = 503;
    add(0, true, 0);
    hooks_until(hooks_view(h, 0).retried == 1);
    for (int i = 1; i <= HOOKS_WAITING + 2; i++)
        add(0, i % 2 == 0, i * 1000);
    ck_assert_int_eq(hooks_view(h, 0).waiting, HOOKS_WAITING);
    ck_assert_int_eq(hooks_view(h, 0).dropped, 3);
    now_ms += 60000;
    hooks_until(hooks_view(h, 0).waiting == 0);
    ck_assert_int_eq(hooks_view(h, 0).delivered, HOOKS_WAITING);
    ck_assert_int_eq(hooks_view(h, 0).told_ms, (HOOKS_WAITING + 2) * 1000);
    ck_assert_ptr_nonnull(strstr(bodies[0], "\"startsAt\":\"1970-01-01T00:00:00Z\""));
    ck_assert_ptr_nonnull(strstr(bodies[1], "\"startsAt\":\"1970-01-01T00:00:04Z\""));
}
END_TEST

START_TEST(nobody_listens)
{
    web_destroy(w);
    ck_assert_int_eq(web_create(&(struct web_conf){0}, &w, &e), 0);
    add(0, true, 1000);
    hooks_until(hooks_view(h, 0).retried == 1);
    ck_assert_int_eq(asked, 0);
}
END_TEST

/* As a receiver made for Alertmanager reads it. */
static void put_key(const char *name, const char *text, size_t len)
{
    char path[128];
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR, folder);
    ck_assert_int_eq(io_mkdirs(path, 0700, &e), 0);
    snprintf(path, sizeof path, "%s/" NAME_WEBHOOK_DIR "/%s", folder, name);
    ck_assert_int_eq(io_write_file(path, text, len, 0600, &e), 0);
}

START_TEST(a_secret_is_sent_where_it_belongs)
{
    static const struct {
        const char *text, *sent; /* NULL: it is refused */
        size_t len;
    } table[] = {{"t0ken=\n", "Bearer t0ken=", 7},
        {"Basic bWU6cGFzcw==\r\n", "Basic bWU6cGFzcw==", 20}, {"", NULL, 0}, {"\n", NULL, 1},
        {"a\nX-More: b", NULL, 11}, {"a\0b", NULL, 3}, {" a", NULL, 2}, {"\xc3\xa4", NULL, 2}};
    spec.serve.classify.alerts[0].webhook_key = "token.a";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hooks_destroy(h);
        h = NULL;
        put_key("token.a", table[i].text, table[i].len);
        int rc = hooks_create(&spec, folder, &h, &e);
        ck_assert_int_eq(rc, table[i].sent ? 0 : -ERR_USER);
        if (rc) {
            ck_assert_ptr_nonnull(strstr(e.text, "/webhooks/token.a: what is sent as"));
            continue;
        }
        taken = 0;
        add(0, true, 1000);
        hooks_until(taken == 1);
        ck_assert_str_eq(proofs[0], table[i].sent);
        add(1, true, 1000); /* another's */
        hooks_until(taken == 2);
        ck_assert_str_eq(proofs[1], "");
    }
    spec.serve.classify.alerts[0].webhook_key = "none";
    ck_assert_int_eq(hooks_create(&spec, folder, &h, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "webhookKey of the alert a: "));
}
END_TEST

START_TEST(a_secret_is_not_taken_elsewhere)
{
    char there[96];
    spec.serve.classify.alerts[0].webhook_key = "k";
    put_key("k", "t", 1);
    hooks_destroy(h);
    ck_assert_int_eq(hooks_create(&spec, folder, &h, &e), 0);
    snprintf(there, sizeof there, "Location: %s", urls[1]);
    failures = 1;
    fail_with = 307;
    after = there;
    add(0, true, 1000);
    hooks_until(hooks_view(h, 0).dropped == 1);
    ck_assert_int_eq(asked, 1);
}
END_TEST

static int make_with_key(void *user)
{
    struct hooks *one = NULL;
    (void)user;
    int rc = hooks_create(&spec, folder, &one, &e);
    hooks_destroy(one);
    return rc;
}

START_TEST(want_of_memory)
{
    spec.serve.classify.alerts[0].webhook_key = "k";
    put_key("k", "t", 1);
    fault_each(FAULT_MEM, make_with_key, NULL);
}
END_TEST

START_TEST(alertmanagers_form)
{
    const struct alerts_change c = {.alert = &spec.serve.classify.alerts[0],
        .firing = false,
        .ms = 61000,
        .fired_ms = 1000,
        .share = 0.125,
        .items = 8};
    buf_auto struct buf out;
    buf_init(&out, 4096);
    hooks_write(&spec, &c, &out);
    ck_assert_str_eq(buf_cstr(&out),
        "{\"version\":\"4\",\"groupKey\":\"{}:{alertname=\\\"a\\\"}\",\"truncatedAlerts\":0,"
        "\"status\":\"resolved\",\"receiver\":\"llmjob\",\"groupLabels\":{\"alertname\":\"a\"},"
        "\"commonLabels\":{\"alertname\":\"a\",\"job\":\"j\",\"label\":\"spam\",\"model\":\"m\","
        "\"namespace\":\"n\"},\"commonAnnotations\":{},\"externalURL\":\"\",\"alerts\":[{"
        "\"status\":\"resolved\",\"labels\":{\"alertname\":\"a\",\"job\":\"j\",\"label\":\"spam\","
        "\"model\":\"m\",\"namespace\":\"n\"},\"annotations\":{\"summary\":\"12.5% of 8 texts in "
        "60 s are spam; it was alarming from 50%\",\"share\":\"0.125000\",\"items\":\"8\"},"
        "\"startsAt\":\"1970-01-01T00:00:01Z\",\"endsAt\":\"1970-01-01T00:01:01Z\","
        "\"generatorURL\":\"\",\"fingerprint\":\"4f8e4bbd5474bacb\"}]}");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"hooks", 30, setup, teardown},
        (const TTest *const[]){is_told_at_last_and_in_order, a_refusal_is_final_and_keeps_nobody,
            who_never_takes_it_is_given_up, who_says_when_is_asked_then, what_waits_is_bounded,
            nobody_listens, a_secret_is_sent_where_it_belongs, a_secret_is_not_taken_elsewhere,
            want_of_memory, alertmanagers_form, NULL});
}
