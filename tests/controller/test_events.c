/*
 * Goal: Events reach the API server, what is said again is counted up, and one object's flood costs
 * nobody more than its bucket: who can stop the operator's Events for others. Method: a fake API
 * server and a fake clock; the requests it saw and the objects it holds.
 * needs: threads
 */
#include "controller/events.h"

#include "base/clock.h"
#include "tests/controller/fakekube.h"

struct post_office {
    struct fakekube *f;
    struct kube *k;
    struct events *ev;
    int over;
};

static const struct events_about job = {"llmjob.dev/v1alpha1", "LLMJob", "n", "j", "uid-j"};
static const struct events_about other = {"v1", "Pod", "m", "p", "uid-p"};

static void start(struct post_office *p)
{
    struct err e;
    *p = (struct post_office){.f = fakekube_start()};
    p->k = fakekube_client(p->f);
    ck_assert_int_eq(events_create(p->k, "me", &p->ev, &e), 0);
    clock_set_fake(1000, 1700000000000);
}

static void stop(struct post_office *p)
{
    clock_set_real();
    kube_destroy(p->k);
    events_destroy(p->ev);
    fakekube_stop(p->f);
}

static void count(void *user)
{
    ((struct post_office *)user)->over++;
}

/* n different sentences; returns how many went out. */
static int say(struct post_office *p, const struct events_about *o, int from, int n)
{
    struct err e = {0};
    int sent = 0, want = p->over;
    for (int i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "sentence %d", from + i);
        bool out = events_post(p->ev, o, true, "Reason", text, count, p);
        sent += out;
        want += out;
    }
    while (p->over < want)
        ck_assert_msg(!http_turn(kube_http(p->k), NULL, 0, 20, &e), "%s", e.text);
    return sent;
}

START_TEST(what_is_said_again_is_counted)
{
    struct post_office p;
    start(&p);
    ck_assert_int_eq(say(&p, &job, 1, 1), 1);
    ck_assert_int_eq(p.f->count, 1);
    mem_autofree char *text = fakekube_get(p.f, p.f->objects[0].path);
    ck_assert_ptr_nonnull(strstr(text, "\"message\":\"sentence 1\",\"type\":\"Warning\""));
    ck_assert_ptr_nonnull(strstr(text, "\"kind\":\"LLMJob\",\"name\":\"j\",\"namespace\":\"n\""));
    ck_assert_int_eq(strncmp(p.f->objects[0].path, "/api/v1/namespaces/n/events/j.", 30), 0);
    ck_assert_int_eq(say(&p, &job, 1, 1), 1);
    ck_assert_int_eq(p.f->count, 1);
    ck_assert_int_eq(atomic_load(&p.f->mutations), 3); /* POST; POST again, PATCH */
    ck_assert_int_eq(say(&p, &other, 1, 1), 1);
    ck_assert_int_eq(p.f->count, 2);
    stop(&p);
}
END_TEST

START_TEST(a_flood_costs_no_more_than_its_bucket)
{
    struct post_office p;
    start(&p);
    ck_assert_int_eq(say(&p, &job, 0, 200), 25);
    ck_assert_int_eq(say(&p, &other, 0, 3), 3);
    clock_set_fake(1000 + 4999, 0);
    ck_assert_int_eq(say(&p, &job, 200, 10), 0);
    clock_set_fake(1000 + 5000, 0);
    ck_assert_int_eq(say(&p, &job, 300, 10), 1);
    clock_set_fake(1000 + 30000, 0);
    ck_assert_int_eq(say(&p, &job, 400, 10), 5);
    clock_set_fake(1000 + 86400000, 0);
    ck_assert_int_eq(say(&p, &job, 500, 100), 25);
    stop(&p);
}
END_TEST

START_TEST(a_flood_of_objects_is_bounded_and_passes)
{
    struct post_office p;
    int sent = 0;
    start(&p);
    for (int i = 0; i < 4200; i++) {
        char uid[16];
        snprintf(uid, sizeof uid, "u%d", i);
        const struct events_about o = {"v1", "Pod", "m", "p", uid};
        sent += events_post(p.ev, &o, true, "Reason", "a sentence", NULL, NULL);
    }
    ck_assert_int_eq(sent, 4096);
    clock_set_fake(1000 + 5000, 0);
    ck_assert(events_post(p.ev, &other, true, "Reason", "a sentence", NULL, NULL));
    stop(&p);
}
END_TEST

UNIT_MAIN("events", what_is_said_again_is_counted, a_flood_costs_no_more_than_its_bucket,
    a_flood_of_objects_is_bounded_and_passes)
