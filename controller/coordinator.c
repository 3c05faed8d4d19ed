/*
 * coordinator: one line a job, with the address of its agent and the last report. A line that is
 * dropped while a question is in flight lives until the answer. A pod that was replaced, or whose
 * container restarted, gets a new line, so that no report of an earlier agent can be taken for one
 * of the present. Called by main (aim, look, turn) and apply (put); decides nothing.
 */
#include "controller/coordinator.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/names.h"
#include "controller/table.h"

#define EVERY_MS      1000
#define BACKOFF_MS    8000
#define TIMEOUT_MS    4000
#define IN_FLIGHT_MAX 64
#define REPORT_BYTES  ((size_t)4 * LIMIT_REPORT_BYTES)

struct line {
	struct coordinators *all;
	char *key, *uid, *token,
		*url; /* url: up to the path; a path of the API server when by proxy */
	int restarts;
	bool ready, asking, dropped, unauthorized;
	int failures;
	int64_t due_ms, asked_ms;
	bool fresh;   /* the last question was asked after the last accepted desired state */
	bool current; /* the report at hand answers such a question */
	int64_t silent_since_ms; /* 0: it answers */
	struct arena *arena;
	struct report report;
};

struct coordinators {
	struct kube *kube;
	bool proxy;
	int port, asking;
	coordinator_news_fn *fn;
	void *user;
	struct table lines;
};

int coordinators_create(struct kube *k, bool proxy, int port, coordinator_news_fn *fn, void *user,
			struct coordinators **out, struct err *e)
{
	struct coordinators *c = mem_zalloc(sizeof *c);
	if (!c)
		return err_set(e, ERR_MEMORY, "no memory for the coordinators");
	*c = (struct coordinators){.kube = k, .proxy = proxy, .port = port, .fn = fn, .user = user};
	*out = c;
	return 0;
}

static void line_free(struct line *l)
{
	if (!l)
		return;
	arena_destroy(l->arena);
	mem_free(l->key);
	mem_free(l->uid);
	mem_free(l->token);
	mem_free(l->url);
	mem_free(l);
}

void coordinators_destroy(struct coordinators *c)
{
	if (!c)
		return;
	const char *key;
	void *l;
	for (size_t at = 0; table_next(&c->lines, &at, &key, &l);)
		line_free(l);
	table_done(&c->lines);
	mem_free(c);
}

static void drop(struct coordinators *c, struct line *l)
{
	table_remove(&c->lines, l->key);
	if (l->asking)
		l->dropped = true;
	else
		line_free(l);
}

static char *url_of(const struct coordinators *c, const struct coordinator_target *t)
{
	struct buf url buf_auto;
	buf_init(&url, 2048);
	if (c->proxy)
		buf_printf(&url, "/api/v1/namespaces/%s/pods/%s:%d/proxy", t->namespace_, t->pod,
			   c->port);
	else
		buf_printf(&url, strchr(t->ip, ':') ? "http://[%s]:%d" : "http://%s:%d", t->ip,
			   c->port);
	return buf_take(&url);
}

int coordinator_aim(struct coordinators *c, const char *key, const struct coordinator_target *t,
		    struct err *e)
{
	struct line *l = table_get(&c->lines, key);
	bool same = l && t && !strcmp(l->uid, t->uid) && l->restarts == t->restarts &&
		    !strcmp(l->token, t->token);
	if (l && !same)
		drop(c, l);
	if (!t)
		return 0;
	if (same) {
		if (t->ready && !l->ready)
			l->due_ms = 0; /* it has just come up: do not sit out a back-off */
		l->ready = t->ready;
		return 0;
	}
	l = mem_zalloc(sizeof *l);
	if (!l)
		return err_set(e, ERR_MEMORY, "no memory for a coordinator");
	*l = (struct line){.all = c,
			   .restarts = t->restarts,
			   .ready = t->ready,
			   .silent_since_ms = clock_ms()};
	l->key = mem_strdup(key);
	l->uid = mem_strdup(t->uid);
	l->token = mem_strdup(t->token);
	l->url = url_of(c, t);
	if (!l->key || !l->uid || !l->token || !l->url || table_put(&c->lines, key, l, e)) {
		line_free(l);
		return err_set(e, ERR_MEMORY, "no memory for a coordinator");
	}
	return 0;
}

void coordinator_look(const struct coordinators *c, const char *key, struct coordinator_view *out)
{
	const struct line *l = table_get(&c->lines, key);
	*out = (struct coordinator_view){0};
	if (!l)
		return;
	out->report = l->arena ? &l->report : NULL;
	out->current = l->arena && l->current;
	out->unreachable_ms = l->silent_since_ms ? clock_ms() - l->silent_since_ms : 0;
	out->unauthorized = l->unauthorized;
}

/* -- requests -- */

static int start(struct line *l, const char *method, const char *path, const char *body,
		 void (*done_fn)(void *user, const struct http_response *r), void *user,
		 struct err *e)
{
	struct buf url buf_auto, token buf_auto;
	buf_init(&url, 4096);
	buf_init(&token, 4096);
	buf_printf(&url, "%s%s", l->url, path);
	buf_printf(&token, NAME_HEADER_TOKEN ": %s", l->token);
	if (!buf_ok(&url) || !buf_ok(&token))
		return err_set(e, ERR_MEMORY, "no memory for a request");
	const char *const headers[] = {token.data, NULL};
	if (l->all->proxy) {
		const struct kube_call call = {.method = method,
					       .path = url.data,
					       .body = body,
					       .len = body ? strlen(body) : 0,
					       .headers = headers,
					       .timeout_ms = TIMEOUT_MS,
					       .background = true,
					       .done_fn = done_fn,
					       .user = user};
		return kube_start(l->all->kube, &call, e);
	}
	const struct http_request r = {.method = method,
				       .url = url.data,
				       .bearer = l->token,
				       .content_type = body ? "application/json" : NULL,
				       .body = body,
				       .body_len = body ? strlen(body) : 0,
				       .timeout_ms = TIMEOUT_MS,
				       .limit = LIMIT_REPORT_BYTES,
				       .done_fn = done_fn,
				       .user = user};
	return http_start(kube_http(l->all->kube), &r, NULL, e);
}

static int64_t interval_ms(const struct coordinators *c)
{
	int64_t n = (int64_t)c->lines.count;
	return n > EVERY_MS ? n : EVERY_MS; /* at most 1,000 questions a second */
}

static int take_report(struct line *l, const struct http_response *r, struct err *e)
{
	struct json *v json_auto = NULL;
	struct report report;
	if (r->error.code != ERR_NONE) {
		*e = r->error;
		return -(int)e->code;
	}
	if (r->status != 200)
		return err_set(e, ERR_RETRY, "the agent answered %d", r->status);
	int rc = json_parse(r->body, r->len, &v, e);
	if (rc)
		return rc;
	struct arena *a = arena_create(REPORT_BYTES);
	if (!a)
		return err_set(e, ERR_MEMORY, "no memory for a report");
	rc = report_decode(v, a, &report, e);
	if (rc) {
		arena_destroy(a);
		return rc;
	}
	arena_destroy(l->arena);
	l->arena = a;
	l->report = report;
	return 0;
}

static void answered(void *user, const struct http_response *r)
{
	struct line *l = user;
	struct coordinators *c = l->all;
	struct err e;
	c->asking--;
	l->asking = false;
	if (l->dropped) {
		line_free(l);
		return;
	}
	if (r->error.code == ERR_DRAINED)
		return;
	l->unauthorized = r->status == 401 || r->status == 403;
	if (take_report(l, r, &e)) {
		int64_t delay = EVERY_MS << (l->failures < 3 ? l->failures : 3);
		if (!l->silent_since_ms)
			l->silent_since_ms = clock_ms();
		if (l->failures++ == 0)
			log_debug("coordinator silent", LOG_S("job", l->key), LOG_ERR(&e));
		l->due_ms = clock_ms() + (delay < BACKOFF_MS ? delay : BACKOFF_MS);
	} else {
		l->failures = 0;
		l->silent_since_ms = 0;
		l->current = l->fresh;
		l->due_ms = l->asked_ms + interval_ms(c);
	}
	c->fn(c->user, l->key);
}

static int ask(struct line *l, struct err *e)
{
	int rc = start(l, "GET", "/v1/job", NULL, answered, l, e);
	if (rc)
		return rc;
	l->asked_ms = clock_ms();
	l->asking = l->fresh = true;
	l->all->asking++;
	return 0;
}

int64_t coordinators_turn(struct coordinators *c)
{
	const char *key;
	void *v;
	int64_t now = clock_ms(), next = -1;
	for (size_t at = 0; table_next(&c->lines, &at, &key, &v);) {
		struct line *l = v;
		struct err e;
		if (l->asking)
			continue;
		if (l->due_ms > now || c->asking >= IN_FLIGHT_MAX) {
			if (next < 0 || l->due_ms < next)
				next = l->due_ms;
			continue;
		}
		if (ask(l, &e)) {
			log_warn("cannot ask a coordinator", LOG_S("job", l->key), LOG_ERR(&e));
			l->due_ms = now + EVERY_MS;
		}
	}
	/* Full: an answer makes room, and ends the wait by itself. */
	return c->asking >= IN_FLIGHT_MAX ? -1 : next;
}

struct telling {
	struct coordinators *all;
	void (*done_fn)(void *user, const struct http_response *r);
	void *user;
	char uid[64];
	char key[];
};

static void told(void *user, const struct http_response *r)
{
	struct telling *t = user;
	struct line *l = table_get(&t->all->lines, t->key);
	if (l && !strcmp(l->uid, t->uid) && (r->status == 200 || r->status == 204)) {
		l->fresh = l->current = false;
		l->due_ms = 0; /* see at once what comes of it */
	}
	t->done_fn(t->user, r);
	mem_free(t);
}

int coordinator_put(struct coordinators *c, const char *key, const char *body,
		    void (*done_fn)(void *user, const struct http_response *r), void *user,
		    struct err *e)
{
	struct line *l = table_get(&c->lines, key);
	if (!l)
		return err_set(e, ERR_PEER, "the coordinator is gone");
	struct telling *t = mem_zalloc(sizeof *t + strlen(key) + 1);
	if (!t)
		return err_set(e, ERR_MEMORY, "no memory for a request");
	t->all = c;
	t->done_fn = done_fn;
	t->user = user;
	memcpy(t->key, key, strlen(key) + 1);
	snprintf(t->uid, sizeof t->uid, "%s", l->uid);
	int rc = start(l, "PUT", "/v1/desired", body, told, t, e);
	if (rc)
		mem_free(t);
	return rc;
}
