/*
 * Goal: one leader at a time: taken when free, not while another renews, taken over when that
 * stops, lost when it cannot be renewed or another has it, handed over on release. Method: two
 * candidates on one fake API server, its clock stepped by hand; the Lease as stored; refused and
 * unanswered requests.
 * needs: threads
 */
#include "controller/kube/lease.h"

#include "base/clock.h"
#include "tests/controller/fakekube.h"

#define LEASE "/apis/coordination.k8s.io/v1/namespaces/here/leases/l"

struct candidate {
    struct kube *k;
    struct lease *l;
};

static int64_t now;

static void step(int64_t ms)
{
    now += ms;
    clock_set_fake(now, 1700000000000 + now);
}

static void join(struct candidate *c, struct fakekube *f, const char *identity)
{
    struct err e;
    c->k = fakekube_client(f);
    ck_assert_int_eq(lease_create(c->k, "here", "l", identity, &c->l, &e), 0);
}

static void leave(struct candidate *c)
{
    kube_destroy(c->k);
    lease_destroy(c->l);
}

/* Everything that is due now, requests answered. */
static void work(struct candidate *c)
{
    struct err e = {0};
    for (int i = 0; i < 4; i++) {
        lease_turn(c->l);
        while (http_in_flight(kube_http(c->k)))
            ck_assert_int_eq(http_turn(kube_http(c->k), NULL, 0, 20, &e), 0);
    }
}

START_TEST(one_leads_until_it_stops_renewing)
{
    struct fakekube *f = fakekube_start();
    struct candidate a, b;
    step(1000);
    join(&a, f, "a");
    join(&b, f, "b");
    work(&a);
    ck_assert_int_eq(lease_state(a.l), LEASE_HELD);
    char *text = fakekube_get(f, LEASE);
    ck_assert_ptr_nonnull(strstr(text, "\"holderIdentity\":\"a\""));
    mem_free(text);
    for (int i = 0; i < 20; i++) { /* 40 s of renewals */
        step(2000);
        work(&a);
        work(&b);
        ck_assert_int_eq(lease_state(a.l), LEASE_HELD);
        ck_assert_int_eq(lease_state(b.l), LEASE_WAITING);
    }
    for (int i = 0; i < 7; i++) { /* a is silent: 14 s are not enough, 16 s are */
        step(2000);
        work(&b);
    }
    ck_assert_int_eq(lease_state(b.l), LEASE_WAITING);
    step(2000);
    work(&b);
    ck_assert_int_eq(lease_state(b.l), LEASE_HELD);
    work(&a); /* it comes back too late */
    ck_assert_int_eq(lease_state(a.l), LEASE_LOST);
    text = fakekube_get(f, LEASE);
    ck_assert_ptr_nonnull(strstr(text, "\"holderIdentity\":\"b\""));
    ck_assert_ptr_nonnull(strstr(text, "\"leaseTransitions\":1"));
    mem_free(text);
    leave(&a);
    leave(&b);
    fakekube_stop(f);
}
END_TEST

START_TEST(a_conflict_shows_another_holder)
{
    struct fakekube *f = fakekube_start();
    struct candidate a;
    step(1000);
    join(&a, f, "a");
    work(&a);
    fakekube_put(f, LEASE,
        "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holderIdentity\":\"z\","
        "\"renewTime\":\"x\",\"leaseDurationSeconds\":15}}");
    fakekube_fault(f, "PUT", FAULT_STATUS, 409, 1);
    step(2000);
    work(&a);
    ck_assert_int_eq(lease_state(a.l), LEASE_LOST);
    leave(&a);
    fakekube_stop(f);
}
END_TEST

START_TEST(refused_renewals_are_repeated_and_lose_in_the_end)
{
    struct fakekube *f = fakekube_start();
    struct candidate a;
    step(1000);
    join(&a, f, "a");
    work(&a);
    fakekube_fault(f, "leases", FAULT_STATUS, 500, 2);
    step(2000);
    work(&a);
    step(2000);
    work(&a);
    step(2000);
    work(&a);
    ck_assert_int_eq(lease_state(a.l), LEASE_HELD);
    fakekube_fault(f, "leases", FAULT_STATUS, 500, 1000);
    for (int i = 0; i < 5; i++) {
        step(2000);
        work(&a);
        ck_assert_int_eq(lease_state(a.l), LEASE_HELD);
    }
    step(2000);
    work(&a);
    ck_assert_int_eq(lease_state(a.l), LEASE_LOST);
    leave(&a);
    fakekube_stop(f);
}
END_TEST

START_TEST(a_released_lease_is_free_at_once)
{
    struct fakekube *f = fakekube_start();
    struct candidate a, b;
    struct err e = {0};
    step(1000);
    join(&a, f, "a");
    join(&b, f, "b");
    work(&a);
    work(&b);
    lease_release(a.l);
    while (!lease_idle(a.l))
        ck_assert_int_eq(http_turn(kube_http(a.k), NULL, 0, 20, &e), 0);
    step(2000);
    work(&b);
    ck_assert_int_eq(lease_state(b.l), LEASE_HELD);
    leave(&a);
    leave(&b);
    fakekube_stop(f);
}
END_TEST

UNIT_MAIN("lease", one_leads_until_it_stops_renewing, a_conflict_shows_another_holder,
    refused_renewals_are_repeated_and_lose_in_the_end, a_released_lease_is_free_at_once)
