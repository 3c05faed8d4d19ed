/*
 * Goal: reports arrive about once a second, belong to the pod they came from, and silence is
 * measured; what is told arrives with the token. Method: a real server as the agent, its answers
 * set by the test; real time, short.
 */
#include "controller/coordinator.h"

#include "base/clock.h"
#include "tests/controller/fakekube.h"

struct agent {
	struct fakehttp s;
	pthread_mutex_t lock;
	char report[512], told[4096], token[128];
	int status;
};

static bool serve(void *user, const struct fakehttp_request *r)
{
	struct agent *a = user;
	pthread_mutex_lock(&a->lock);
	char report[512];
	int status = a->status;
	snprintf(report, sizeof report, "%s", a->report);
	fakehttp_header(r, "Authorization", a->token, sizeof a->token);
	if (!strcmp(r->method, "PUT"))
		snprintf(a->told, sizeof a->told, "%s %.*s", r->path, (int)r->len, r->body);
	pthread_mutex_unlock(&a->lock);
	return fakehttp_answer(r, status, "", strcmp(r->method, "PUT") ? report : "");
}

static void set(struct agent *a, int status, const char *report)
{
	pthread_mutex_lock(&a->lock);
	a->status = status;
	snprintf(a->report, sizeof a->report, "%s", report);
	pthread_mutex_unlock(&a->lock);
}

static int news;

static void note(void *user, const char *key)
{
	(void)user;
	ck_assert_str_eq(key, "n/a");
	news++;
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
	ck_assert_int_eq(coordinators_create(b->k, false, b->agent.s.port, note, NULL, &b->c, &e),
			 0);
	b->t = (struct coordinator_target){"n", "a-0", "u1", "127.0.0.1", "sesame", 0, true};
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

static void told(void *user, const struct http_response *r)
{
	*(int *)user = r->status;
}

START_TEST(what_is_told_arrives_and_is_asked_about)
{
	struct bench b;
	struct coordinator_view v;
	struct err e;
	int status = 0;
	start(&b);
	until_news(&b, 1);
	ck_assert_int_eq(coordinator_put(b.c, "n/a", "{\"x\":1}", told, &status, &e), 0);
	while (!status)
		ck_assert_int_eq(http_turn(kube_http(b.k), NULL, 0, 20, &e), 0);
	ck_assert_int_eq(status, 200);
	ck_assert_str_eq(b.agent.told, "/v1/desired {\"x\":1}");
	coordinator_look(b.c, "n/a", &v);
	ck_assert(!v.current);                        /* the report at hand is from before */
	ck_assert_int_eq(coordinators_turn(b.c), -1); /* asked at once: it waits for no time */
	until_news(&b, 2);
	coordinator_look(b.c, "n/a", &v);
	ck_assert(v.current);
	ck_assert_int_eq(coordinator_put(b.c, "n/b", "{}", told, &status, &e), -ERR_PEER);
	stop(&b);
}
END_TEST

UNIT_MAIN("coordinator", reports_come_again_and_again, silence_is_measured_and_the_last_report_kept,
	  another_pod_starts_with_nothing, what_is_told_arrives_and_is_asked_about)
