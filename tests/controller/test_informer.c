/*
 * Goal: whatever the connection does, the copy becomes equal to what the server holds, and every
 * removal is reported. Method: a fake API server that pages, cuts watches inside a line, forgets
 * old versions, refuses and resets; the copy is compared with the server's objects after each.
 */
#include "controller/informer.h"

#include "base/clock.h"
#include "controller/table.h"
#include "tests/controller/fakekube.h"

struct copy {
	struct table keys; /* key -> resourceVersion */
	int removals, fail_next;
};

static int changed(void *user, const char *key, const struct json *object, struct err *e)
{
	struct copy *c = user;
	if (c->fail_next > 0 && !--c->fail_next)
		return err_set(e, ERR_MEMORY, "as ordered");
	if (!object) {
		c->removals += table_remove(&c->keys, key) != NULL;
		return 0;
	}
	const char *version = json_str(json_get(object, "metadata"), "resourceVersion", "0");
	return table_put(&c->keys, key, (void *)(uintptr_t)strtoul(version, NULL, 10), e);
}

struct set {
	struct fakekube *f;
	struct kube *k;
	struct informer *i;
	struct copy copy;
};

static void start(struct set *s, const char *selector)
{
	struct err e;
	*s = (struct set){.f = fakekube_start()};
	s->k = fakekube_client(s->f);
	const struct informer_conf conf = {.name = "pods",
					   .path = "/api/v1/pods",
					   .selector = selector,
					   .changed_fn = changed,
					   .user = &s->copy};
	ck_assert_int_eq(informer_create(s->k, &conf, &s->i, &e), 0);
}

static void stop(struct set *s)
{
	kube_destroy(s->k);
	informer_destroy(s->i);
	table_done(&s->copy.keys);
	fakekube_stop(s->f);
}

static void add(struct set *s, int n)
{
	char path[128], text[256];
	snprintf(path, sizeof path, "/api/v1/namespaces/n/pods/p%d", n);
	snprintf(text, sizeof text, "{\"metadata\":{\"name\":\"p%d\",\"namespace\":\"n\"}}", n);
	fakekube_put(s->f, path, text);
}

static void drop(struct set *s, int n)
{
	char path[128];
	snprintf(path, sizeof path, "/api/v1/namespaces/n/pods/p%d", n);
	fakekube_remove(s->f, path);
}

/* Is the copy what the server holds, versions and all? */
static bool equal(struct set *s)
{
	size_t live = 0;
	bool same = informer_synced(s->i);
	pthread_mutex_lock(&s->f->lock);
	for (int i = 0; i < s->f->count; i++) {
		const struct fakekube_object *o = &s->f->objects[i];
		char key[128];
		snprintf(key, sizeof key, "n/%s", strrchr(o->path, '/') + 1);
		uintptr_t version = (uintptr_t)table_get(&s->copy.keys, key);
		same &= o->deleted ? !version : version == (uintptr_t)o->version;
		live += !o->deleted;
	}
	same &= live == s->copy.keys.count && live == informer_count(s->i);
	pthread_mutex_unlock(&s->f->lock);
	return same;
}

static void until_equal(struct set *s)
{
	struct err e = {0};
	int64_t deadline = clock_ms() + 15000;
	while (!equal(s) && clock_ms() < deadline) {
		int64_t due = informer_turn(s->i);
		int64_t wait = due < 0 ? 20 : due - clock_ms();
		ck_assert_msg(!http_turn(kube_http(s->k), NULL, 0, wait < 20 ? wait : 20, &e), "%s",
			      e.text);
	}
	ck_assert_msg(equal(s), "the copy has %zu keys", s->copy.keys.count);
}

START_TEST(lists_come_in_pages_and_changes_follow)
{
	struct set s;
	start(&s, "llmjob.dev/job");
	for (int i = 0; i < 1203; i++)
		add(&s, i);
	until_equal(&s);
	ck_assert_int_eq(atomic_load(&s.f->lists), 3);
	add(&s, 5);
	add(&s, 1300);
	drop(&s, 7);
	until_equal(&s);
	ck_assert_int_eq(s.copy.removals, 1);
	ck_assert_int_eq(atomic_load(&s.f->lists), 3);
	ck_assert_uint_eq(informer_version(s.i), (uint64_t)s.f->version);
	stop(&s);
}
END_TEST

START_TEST(a_watch_cut_inside_a_line_is_resumed)
{
	struct set s;
	start(&s, NULL);
	add(&s, 1);
	until_equal(&s);
	for (int i = 0; i < 3; i++) {
		atomic_store(&s.f->cut, true);
		add(&s, 10 + i);
		until_equal(&s);
	}
	ck_assert_int_eq(atomic_load(&s.f->lists), 1);
	ck_assert_int_ge(atomic_load(&s.f->watches), 4);
	stop(&s);
}
END_TEST

START_TEST(versions_forgotten_by_the_server_cause_a_list_that_finds_removals)
{
	struct set s;
	start(&s, NULL);
	for (int i = 0; i < 5; i++)
		add(&s, i);
	until_equal(&s);
	fakekube_fault(s.f, "watch=true", FAULT_STATUS, 410, 1);
	atomic_store(&s.f->cut, true);
	drop(&s, 2);
	until_equal(&s);
	s.f->oldest = s.f->version + 1; /* an ERROR event, until the next change */
	atomic_store(&s.f->cut, true);
	drop(&s, 3);
	s.f->oldest = 0;
	add(&s, 9);
	until_equal(&s);
	ck_assert_int_ge(atomic_load(&s.f->lists), 2);
	ck_assert_int_eq(s.copy.removals, 2);
	stop(&s);
}
END_TEST

START_TEST(refusals_and_resets_are_sat_out)
{
	struct set s;
	start(&s, NULL);
	for (int i = 0; i < 700; i++)
		add(&s, i);
	fakekube_fault(s.f, "limit=500", FAULT_STATUS, 500, 1);
	fakekube_fault(s.f, "limit=", FAULT_RESET, 0, 1);
	fakekube_fault(s.f, "continue=", FAULT_STATUS, 410, 1);
	fakekube_fault(s.f, "watch=true", FAULT_RESET, 0, 1);
	fakekube_fault(s.f, "watch=true", FAULT_STATUS, 429, 1);
	until_equal(&s);
	add(&s, 3);
	until_equal(&s);
	stop(&s);
}
END_TEST

START_TEST(what_the_owner_could_not_take_is_listed_again)
{
	struct set s;
	start(&s, NULL);
	add(&s, 1);
	until_equal(&s);
	s.copy.fail_next = 1;
	add(&s, 2);
	until_equal(&s);
	ck_assert_int_ge(atomic_load(&s.f->lists), 2);
	stop(&s);
}
END_TEST

UNIT_MAIN("informer", lists_come_in_pages_and_changes_follow, a_watch_cut_inside_a_line_is_resumed,
	  versions_forgotten_by_the_server_cause_a_list_that_finds_removals,
	  refusals_and_resets_are_sat_out, what_the_owner_could_not_take_is_listed_again)
