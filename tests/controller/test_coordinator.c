/*
 * Goal: reports arrive about once a second, belong to the pod they came from, and silence is
 * measured; what is told arrives with the token; and an agent, which is a stranger, can neither
 * make the operator hold more than its job warrants nor delay another's. Method: a real server as
 * the agent, its answers set by the test, hung and huge ones among them; real time, short.
 * needs: threads
 */
#include "controller/coordinator.h"

#include "base/clock.h"
#include "tests/controller/fakekube.h"

struct agent {
    struct fakehttp s;
    pthread_mutex_t lock;
    const char *report;
    char told[4096], token[128];
    int status, puts, put_status;
    _Atomic int hung; /* requests for "/hung": never answered */
};

static bool serve(void *user, const struct fakehttp_request *r)
{
    struct agent *a = user;
    char token[128] = "";
    fakehttp_header(r, "Authorization", token, sizeof token);
    if (strstr(token, "hang")) {
        atomic_fetch_add(&a->hung, 1);
        while (!atomic_load(&a->s.stop))
            usleep(5000);
        return false;
    }
    pthread_mutex_lock(&a->lock);
    bool put = !strcmp(r->method, "PUT");
    const char *report = put ? "" : a->report;
    int status = put && a->put_status ? a->put_status : a->status;
    memcpy(a->token, token, sizeof token);
    if (put) {
        a->puts++;
        snprintf(a->told, sizeof a->told, "%s %.*s", r->path, (int)r->len, r->body);
    }
    pthread_mutex_unlock(&a->lock);
    return fakehttp_answer(r, status, "", report);
}

/* report: static. */
static void set(struct agent *a, int status, const char *report)
{
    pthread_mutex_lock(&a->lock);
    a->status = status;
    a->report = report;
    pthread_mutex_unlock(&a->lock);
}

static int news;

static void note(void *user, const char *key)
{
    (void)user;
    news += !strcmp(key, "n/a");
}

struct bench {
    struct agent agent;
    struct fakekube *f;
    struct kube *k;
    struct coordinators *c;
    struct coordinator_target t;
};

static void start(struct bench *b)
{
    struct err e;
    news = 0;
    *b = (struct bench){0};
    pthread_mutex_init(&b->agent.lock, NULL);
    set(&b->agent, 200, "{\"generation\":4,\"state\":\"Running\",\"worldReplicas\":2}");
    fakehttp_start(&b->agent.s, serve, &b->agent);
    b->f = fakekube_start();
    b->k = fakekube_client(b->f);
    ck_assert_int_eq(coordinators_create(b->k, false, b->agent.s.port, note, NULL, &b->c, &e), 0);
    b->t = (struct coordinator_target){"n", "a-0", "u1", "127.0.0.1", "sesame", 0, 2, true};
    ck_assert_int_eq(coordinator_aim(b->c, "n/a", &b->t, &e), 0);
}

static void stop(struct bench *b)
{
    kube_destroy(b->k);
    coordinators_destroy(b->c);
    fakekube_stop(b->f);
    fakehttp_stop(&b->agent.s);
}

static void until_news(struct bench *b, int want)
{
    struct err e;
    int64_t deadline = clock_ms() + 10000;
    while (news < want && clock_ms() < deadline) {
        coordinators_turn(b->c);
        ck_assert_int_eq(http_turn(kube_http(b->k), NULL, 0, 20, &e), 0);
    }
    ck_assert_int_ge(news, want);
}

START_TEST(reports_come_again_and_again)
{
    struct bench b;
    struct coordinator_view v;
    int64_t began = clock_ms();
    start(&b);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_ptr_null(v.report);
    until_news(&b, 1);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_int_eq(v.report->generation, 4);
    ck_assert_int_eq(v.report->state, JOB_RUNNING);
    ck_assert_int_eq(v.unreachable_ms, 0);
    ck_assert(v.current);
    ck_assert_str_eq(b.agent.token, "Bearer sesame");
    set(&b.agent, 200, "{\"generation\":5,\"state\":\"Complete\"}");
    until_news(&b, 2);
    ck_assert_int_ge(clock_ms() - began, 1000); /* from question to question */
    coordinator_look(b.c, "n/a", &v);
    ck_assert_int_eq(v.report->state, JOB_COMPLETE);
    stop(&b);
}
END_TEST

START_TEST(silence_is_measured_and_the_last_report_kept)
{
    struct bench b;
    struct coordinator_view v;
    start(&b);
    until_news(&b, 1);
    set(&b.agent, 200, "not json");
    until_news(&b, 2);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_int_eq(v.report->generation, 4);
    set(&b.agent, 401, "{}");
    until_news(&b, 3);
    coordinator_look(b.c, "n/a", &v);
    ck_assert(v.unauthorized);
    ck_assert_int_gt(v.unreachable_ms, 500);
    stop(&b);
}
END_TEST

START_TEST(another_pod_starts_with_nothing)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    start(&b);
    until_news(&b, 1);
    b.t.restarts = 1; /* the same pod, another process */
    coordinator_aim(b.c, "n/a", &b.t, &e);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_ptr_null(v.report);
    coordinators_turn(b.c); /* a question under way ... */
    b.t.uid = "u2";         /* ... when the pod is replaced: its answer counts for nobody */
    coordinator_aim(b.c, "n/a", &b.t, &e);
    set(&b.agent, 200, "{\"generation\":6,\"state\":\"Waiting\"}");
    until_news(&b, 2);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_ptr_nonnull(v.report);
    coordinator_aim(b.c, "n/a", NULL, &e);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_ptr_null(v.report);
    ck_assert_int_eq(coordinators_turn(b.c), -1);
    stop(&b);
}
END_TEST

/* Each of a job's pods may coordinate itself; what is new of any is news of the job. */
START_TEST(agents_of_one_job_are_asked_side_by_side_until_it_is_forgotten)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    char keys[3][COORDINATOR_KEY_BYTES];
    start(&b);
    for (int i = 0; i < 3; i++) {
        coordinator_key("n/a", i, keys[i]);
        b.t.uid = i ? i > 1 ? "u3" : "u2" : "u1";
        ck_assert_int_eq(coordinator_aim(b.c, keys[i], &b.t, &e), 0);
    }
    ck_assert_str_eq(keys[0], "n/a");
    ck_assert_int_eq(coordinator_aim(b.c, "n/b", &b.t, &e), 0);
    until_news(&b, 3);
    for (int i = 0; i < 3; i++) {
        coordinator_look(b.c, keys[i], &v);
        ck_assert_ptr_nonnull(v.report);
    }
    coordinators_turn(b.c); /* questions under way may still be answered */
    coordinator_forget(b.c, "n/a");
    for (int i = 0; i < 3; i++) {
        coordinator_look(b.c, keys[i], &v);
        ck_assert_ptr_null(v.report);
    }
    coordinator_aim(b.c, "n/b", NULL, &e);
    ck_assert_int_eq(coordinators_turn(b.c), -1);
    stop(&b);
}
END_TEST

static void until_told(struct bench *b, int puts)
{
    struct err e;
    int64_t deadline = clock_ms() + 10000;
    for (int n = 0; n < puts && clock_ms() < deadline;) {
        coordinators_turn(b->c);
        ck_assert_int_eq(http_turn(kube_http(b->k), NULL, 0, 20, &e), 0);
        pthread_mutex_lock(&b->agent.lock);
        n = b->agent.puts;
        pthread_mutex_unlock(&b->agent.lock);
    }
    ck_assert_int_ge(b->agent.puts, puts);
}

START_TEST(what_is_told_arrives_and_is_asked_about)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    start(&b);
    until_news(&b, 1);
    int64_t least_ms = INT64_MAX; /* of several: a busy machine may stand still in one */
    for (int i = 0; i < 5 && least_ms >= 900; i++) {
        ck_assert_int_eq(coordinator_desire(b.c, "n/a", "{\"x\":1}", 5 + i, &e), 0);
        coordinator_look(b.c, "n/a", &v);
        ck_assert_uint_eq(v.desired, 5 + i);
        ck_assert(!v.current); /* the report at hand is from before */
        int64_t began = clock_ms();
        int had = news;
        until_told(&b, 1 + i);
        ck_assert_str_eq(b.agent.told, "/v1/desired {\"x\":1}");
        until_news(&b, had + 1);
        least_ms = clock_ms() - began < least_ms ? clock_ms() - began : least_ms;
    }
    ck_assert_int_lt(least_ms, 900); /* asked at once */
    coordinator_look(b.c, "n/a", &v);
    ck_assert(v.current);
    until_news(&b, 3);
    ck_assert_int_eq(b.agent.puts, 1); /* it was accepted */
    ck_assert_int_eq(coordinator_desire(b.c, "n/b", "{}", 5, &e), 0);
    coordinator_look(b.c, "n/b", &v);
    ck_assert_uint_eq(v.desired, 0);
    stop(&b);
}
END_TEST

START_TEST(what_is_refused_is_told_again_and_reports_go_on)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    start(&b);
    b.agent.put_status = 503;
    ck_assert_int_eq(coordinator_desire(b.c, "n/a", "{}", 5, &e), 0);
    until_told(&b, 2);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_ptr_nonnull(v.report);
    ck_assert(!v.current);
    pthread_mutex_lock(&b.agent.lock);
    b.agent.put_status = 204;
    pthread_mutex_unlock(&b.agent.lock);
    until_told(&b, 3);
    for (v.current = false; !v.current; coordinator_look(b.c, "n/a", &v))
        until_news(&b, news + 1);
    stop(&b);
}
END_TEST

/* -- strangers -- */

static long memory_kib(void)
{
    char line[200];
    long v = 0;
    FILE *f = fopen("/proc/self/status", "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6))
            v = strtol(line + 6, NULL, 10);
    fclose(f);
    return v;
}

/* Less than one bomb; a sanitizer remembers in memory of its own what passed through. */
#ifdef __SANITIZE_THREAD__
#define BOMB_KIB (128 << 10)
#else
#define BOMB_KIB (4 << 10)
#endif

static const char *repeat(const char *head, const char *part, const char *tail, size_t bytes)
{
    struct buf b;
    buf_init(&b, 8 << 20);
    buf_str(&b, head);
    while (b.len + strlen(part) < bytes)
        buf_str(&b, part);
    buf_str(&b, tail);
    return buf_take(&b);
}

/* A report of 4 MiB once cost 179 MB: it may cost what a job of its size warrants, and no more. */
START_TEST(a_report_is_no_larger_than_its_job_warrants)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    const size_t most = 4 << 20;
    const char *const bombs[] = {
        repeat("{\"state\":\"Running\",\"x\":[", "0,", "0]}", most),
        repeat("{\"state\":\"Running\",\"ranks\":[", "{},", "{}]}", most),
        repeat("{\"state\":\"", "x", "\"}", most),
        repeat("", "[", "", most),
        /* within the bytes of its job, but not within the values or the facts */
        repeat("{\"state\":\"Running\",\"x\":[", "0,", "0]}", 8 << 10),
        repeat("{\"state\":\"Running\",\"x\":\"", "x", "\"}", (128 << 10) + 100),
    };
    start(&b);
    until_news(&b, 1);
    long before = memory_kib();
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        set(&b.agent, 200, bombs[i]);
        until_news(&b, news + 1);
        coordinator_look(b.c, "n/a", &v);
        ck_assert_int_eq(v.report->generation, 4); /* the last good one */
        b.t.ready = !b.t.ready;
        coordinator_aim(b.c, "n/a", &b.t, &e); /* forgives it when ready */
        b.t.ready = true;
        coordinator_aim(b.c, "n/a", &b.t, &e);
    }
    ck_assert_int_lt(memory_kib() - before, BOMB_KIB);
    /* What it may have it may have: rows for each of its ranks, which are not kept. */
    b.t.ranks = 1000;
    coordinator_aim(b.c, "n/a", &b.t, &e);
    mem_autofree char *large = (char *)repeat(
        "{\"state\":\"Running\",\"generation\":9,\"ranks\":[", "{\"rank\":1},", "{}]}", 600 << 10);
    set(&b.agent, 200, large);
    until_news(&b, news + 1);
    coordinator_look(b.c, "n/a", &v);
    ck_assert_int_eq(v.report->generation, 9);
    ck_assert_int_eq(v.report->rank_row_count, 0);
    stop(&b); /* till then one may still be on its way */
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++)
        mem_free((char *)bombs[i]);
}
END_TEST

START_TEST(hanging_agents_delay_nobody_elses)
{
    struct bench b;
    struct err e;
    struct coordinator_view v;
    start(&b);
    until_news(&b, 1);
    for (int i = 0; i < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "bad/%d", i);
        const struct coordinator_target t = {"bad", "x", "u", "127.0.0.1", "hang", 0, 2, true};
        ck_assert_int_eq(coordinator_aim(b.c, key, &t, &e), 0);
    }
    while (atomic_load(&b.agent.hung) < 32) {
        coordinators_turn(b.c);
        ck_assert_int_eq(http_turn(kube_http(b.k), NULL, 0, 20, &e), 0);
    }
    /* A new report each second, as without them; the seconds are not waited for. The hung ones are
       given up after 4 s of real time, and others asked in their stead: none of them was yet. */
    for (int64_t now_ms = clock_ms(); news < 4; now_ms += 20) {
        clock_set_fake(now_ms, now_ms);
        coordinators_turn(b.c);
        ck_assert_int_eq(http_turn(kube_http(b.k), NULL, 0, 1, &e), 0);
        ck_assert_int_eq(atomic_load(&b.agent.hung), 32); /* their share */
    }
    clock_set_real();
    coordinator_look(b.c, "n/a", &v);
    ck_assert_int_eq(v.unreachable_ms, 0);
    stop(&b);
}
END_TEST

/* An operator of many jobs has nothing to do while their agents cannot be reached: silence is told
 * when it begins, for the plan knows by itself when to look at it again. */
START_TEST(lasting_silence_makes_no_news)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    start(&b);
    until_news(&b, 1);
    fakehttp_stop(&b.agent.s);
    int64_t now_ms = clock_ms();
    for (int i = 0; i < 1000; i++) {
        int before = news;
        now_ms += 20;
        clock_set_fake(now_ms, now_ms);
        coordinators_turn(b.c);
        ck_assert_int_eq(http_turn(kube_http(b.k), NULL, 0, 1, &e), 0);
        coordinator_look(b.c, "n/a", &v);
        ck_assert(news == before || v.unreachable_ms > 0);
    }
    ck_assert_int_eq(news, 2);
    ck_assert_int_gt(v.unreachable_ms, 15000);
    clock_set_real();
    kube_destroy(b.k);
    coordinators_destroy(b.c);
    fakekube_stop(b.f);
}
END_TEST

UNIT_MAIN("coordinator", reports_come_again_and_again, silence_is_measured_and_the_last_report_kept,
    another_pod_starts_with_nothing, agents_of_one_job_are_asked_side_by_side_until_it_is_forgotten,
    what_is_told_arrives_and_is_asked_about, what_is_refused_is_told_again_and_reports_go_on,
    a_report_is_no_larger_than_its_job_warrants, hanging_agents_delay_nobody_elses,
    lasting_silence_makes_no_news)
