/*
 * Goal: the caches hold what was last seen, mark the right jobs, and forget what is gone. Method:
 * changes as an informer reports them, in every order of job and pod; the snapshot of each state;
 * failures counted.
 * needs: faults
 */
#include "controller/observe.h"

#include "api/search.h"
#include "base/clock.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static char dirty[4096];

static void note(void *user, const char *key)
{
    (void)user;
    size_t n = strlen(dirty);
    snprintf(dirty + n, sizeof dirty - n, "%s ", key);
}

static struct cluster *make(void)
{
    struct cluster *c = NULL;
    struct err e;
    dirty[0] = 0;
    clock_set_fake(100000, 100000);
    ck_assert_int_eq(cluster_create(note, NULL, &c, &e), 0);
    return c;
}

static void change(int (*fn)(void *, const char *, const struct json *, struct err *),
    struct cluster *c, const char *key, const char *text)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (text)
        ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_int_eq(fn(c, key, v, &e), 0);
}

static void set_job(struct cluster *c, const char *uid)
{
    char text[512];
    snprintf(text, sizeof text,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{"
        "\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"%s\",\"generation\":1},\"spec\":{"
        "\"run\":{\"command\":[\"x\"]}}}",
        uid);
    change(cluster_job_changed, c, "n/a", text);
}

static void set_pod(struct cluster *c, int replica, const char *uid, const char *more)
{
    char text[1024], key[32];
    snprintf(key, sizeof key, "n/a-%d", replica);
    snprintf(text, sizeof text,
        "{\"metadata\":{\"name\":\"a-%d\",\"namespace\":\"n\",\"uid\":\"%s\",\"labels\":{"
        "\"llmjob.dev/job\":\"a\",\"llmjob.dev/replica\":\"%d\"},\"ownerReferences\":[{"
        "\"uid\":\"u1\",\"controller\":true}]},\"spec\":{\"nodeName\":\"k\"},%s}",
        replica, uid, replica, more);
    change(cluster_pod_changed, c, key, text);
}

#define RUNNING "\"status\":{\"phase\":\"Running\",\"podIP\":\"10.0.0.1\"}"
#define FAILED  "\"status\":{\"phase\":\"Failed\"}"

static int look(struct cluster *c, struct arena *a, struct observed *o)
{
    struct err e;
    arena_reset(a);
    return cluster_observe(c, "n/a", a, o, &e);
}

START_TEST(a_snapshot_is_sorted_and_knows_whose_pods_they_are)
{
    struct cluster *c = make();
    struct arena *a = arena_create(1 << 20);
    struct observed o;
    set_pod(c, 2, "p2", RUNNING); /* pods before the job */
    set_pod(c, 0, "p0", RUNNING);
    ck_assert_int_eq(look(c, a, &o), 0);
    set_job(c, "u1");
    ck_assert_int_eq(look(c, a, &o), 1);
    ck_assert_int_eq(o.pod_count, 2);
    ck_assert_int_eq(o.pods[0].pod->replica, 0);
    ck_assert(o.pods[0].ours);
    ck_assert(o.pods[0].node_lost); /* a node never seen */
    ck_assert_ptr_null(observed_coordinator(&o));
    change(cluster_node_changed, c, "k",
        "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    look(c, a, &o);
    ck_assert(!o.pods[0].node_lost);
    ck_assert_str_eq(observed_coordinator(&o)->pod->uid, "p0");
    ck_assert_ptr_null(observed_replica(&o, 1));
    set_job(c, "u2"); /* another job of that name */
    look(c, a, &o);
    ck_assert(!o.pods[0].ours);
    ck_assert_ptr_null(observed_replica(&o, 0));
    change(cluster_node_changed, c, "k", NULL);
    look(c, a, &o);
    ck_assert(o.pods[0].node_lost); /* removed */
    cluster_without_nodes(c);
    look(c, a, &o);
    ck_assert(!o.pods[0].node_lost);
    arena_destroy(a);
    cluster_destroy(c);
}
END_TEST

START_TEST(changes_mark_the_jobs_they_concern)
{
    struct cluster *c = make();
    set_job(c, "u1");
    ck_assert_str_eq(dirty, "n/a ");
    change(cluster_node_changed, c, "other", "{}");
    ck_assert_str_eq(dirty, "n/a ");
    set_pod(c, 0, "p0", RUNNING);
    ck_assert_str_eq(dirty, "n/a n/a ");
    change(cluster_node_changed, c, "k", "{}");
    ck_assert_str_eq(dirty, "n/a n/a n/a ");
    change(cluster_node_changed, c, "k", "{}"); /* no news */
    set_pod(c, 0, "p0", RUNNING);
    set_pod(c, 0, "p0", RUNNING ",\"other\":{\"x\":1}");
    ck_assert_str_eq(dirty, "n/a n/a n/a ");
    change(cluster_pod_changed, c, "n/a-0", NULL);
    change(cluster_job_changed, c, "n/a", NULL);
    ck_assert_ptr_null(cluster_memory(c, "n/a"));
    cluster_destroy(c);
}
END_TEST

static void set_trial(struct cluster *c, const char *name, const char *owner)
{
    char text[512], key[32];
    snprintf(key, sizeof key, "n/%s", name);
    snprintf(text, sizeof text,
        "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"n\",\"uid\":\"%s\","
        "\"ownerReferences\":[{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\","
        "\"name\":\"a\",\"uid\":\"%s\",\"controller\":true}]},"
        "\"spec\":{\"run\":{\"command\":[\"x\"]}}}",
        name, name, owner);
    change(cluster_job_changed, c, key, text);
}

static const char search[] =
    "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{"
    "\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u1\",\"generation\":1},\"spec\":{"
    "\"storage\":[{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/d\"}],"
    "\"model\":{\"source\":\"/d/m\"},\"checkpoint\":{\"path\":\"/d/c\"},"
    "\"train\":{\"data\":{\"train\":\"/d/t.txt\"},\"steps\":9,"
    "\"optimizer\":{\"schedule\":\"Constant\"},\"output\":\"/d/o\"},"
    "\"search\":{\"algorithm\":\"SuccessiveHalving\",\"maxTrials\":6,\"halving\":{"
    "\"minSteps\":1},\"parameters\":[{\"name\":\"seed\",\"min\":1,\"max\":9}]}}}";

/* Whether seen before or after it; a job of such a name that is not its own is none. */
START_TEST(trials_belong_to_their_search)
{
    struct cluster *c = make();
    struct arena *a = arena_create(1 << 20);
    struct observed o;
    set_trial(c, "a-t1-r1", "u1");
    change(cluster_job_changed, c, "n/a", search);
    dirty[0] = 0;
    set_trial(c, "a-t2", "u1");
    ck_assert_str_eq(dirty, "n/a n/a-t2 ");
    set_trial(c, "a-t0", "u2");
    set_trial(c, "a-t7", "u1");
    ck_assert_int_eq(look(c, a, &o), 1);
    ck_assert_int_eq(o.trial_count, 2);
    ck_assert_int_eq(o.trials[0].trial, 2);
    ck_assert_int_eq(o.trials[0].rung, 0);
    ck_assert_str_eq(o.trials[1].job->spec.uid, "a-t1-r1");
    ck_assert_int_eq(o.trials[1].trial, 1);
    ck_assert_int_eq(o.trials[1].rung, 1);
    dirty[0] = 0;
    change(cluster_job_changed, c, "n/a-t2", NULL);
    ck_assert_str_eq(dirty, "n/a n/a-t2 ");
    set_trial(c, "a-best", "u1");
    look(c, a, &o);
    ck_assert_int_eq(o.trial_count, 2);
    ck_assert_int_eq(o.trials[1].trial, SEARCH_MODEL);
    ck_assert_int_eq(o.trials[1].rung, SEARCH_MODEL);
    arena_destroy(a);
    cluster_destroy(c);
}
END_TEST

START_TEST(only_unwanted_ends_count_as_failures)
{
    struct cluster *c = make();
    struct arena *a = arena_create(1 << 20);
    struct observed o;
    set_job(c, "u1");
    set_pod(c, 0, "p0", RUNNING);
    set_pod(c, 0, "p0", FAILED);
    change(cluster_pod_changed, c, "n/a-0", NULL); /* once, not twice */
    look(c, a, &o);
    ck_assert_int_eq(o.failures, 1);
    set_pod(c, 0, "p1", RUNNING);
    change(cluster_pod_changed, c, "n/a-0", NULL); /* vanished */
    look(c, a, &o);
    ck_assert_int_eq(o.failures, 2);
    set_pod(c, 0, "p2", RUNNING);
    set_pod(c, 0, "p3", RUNNING); /* replaced between two looks */
    look(c, a, &o);
    ck_assert_int_eq(o.failures, 3);
    clock_set_fake(100000 + 600001, 0); /* long ago is forgotten */
    look(c, a, &o);
    ck_assert_int_eq(o.failures, 0);
    arena_destroy(a);
    cluster_destroy(c);
}
END_TEST

START_TEST(memory_belongs_to_one_job_not_to_a_name)
{
    struct cluster *c = make();
    set_job(c, "u1");
    struct memory *m = cluster_memory(c, "n/a");
    ck_assert_int_eq(m->secret_generation, -1);
    m->token = mem_strdup("secret");
    m->secret_generation = 1;
    set_job(c, "u1");
    ck_assert_str_eq(cluster_memory(c, "n/a")->token, "secret");
    set_job(c, "u2");
    ck_assert_ptr_null(cluster_memory(c, "n/a")->token);
    ck_assert_int_eq(cluster_memory(c, "n/a")->secret_generation, -1);
    cluster_destroy(c);
}
END_TEST

static int fill(void *user)
{
    struct cluster *c = NULL;
    struct err e;
    json_auto struct json *v = NULL;
    const char *text = "{\"metadata\":{\"name\":\"a-0\",\"namespace\":\"n\",\"labels\":{"
                       "\"llmjob.dev/job\":\"a\"}}}";
    (void)user;
    int rc;
    if (!(rc = json_parse(text, strlen(text), &v, &e)) &&
        !(rc = cluster_create(note, NULL, &c, &e)) &&
        !(rc = cluster_pod_changed(c, "n/a-0", v, &e)) &&
        !(rc = cluster_service_changed(c, "n/a", v, &e)))
        rc = cluster_node_changed(c, "k", v, &e);
    cluster_destroy(c);
    return rc;
}

START_TEST(failed_allocation_is_reported)
{
    fault_each(FAULT_MEM, fill, NULL);
}
END_TEST

UNIT_MAIN("observe", a_snapshot_is_sorted_and_knows_whose_pods_they_are,
    changes_mark_the_jobs_they_concern, trials_belong_to_their_search,
    only_unwanted_ends_count_as_failures, memory_belongs_to_one_job_not_to_a_name,
    failed_allocation_is_reported)
