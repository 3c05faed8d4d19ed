/*
 * unit: what every unit test of base shares: running a list of Check tests, and the fault loop.
 *
 * The fault loop runs a body with its 1st, 2nd, ... call of a kind failing until a run is too short
 * to be hit. A failure that the body reports without an injected one, one that it swallows, and a
 * body that makes no call at all are errors of the test. In builds without FAULT=1 the body runs
 * once and must succeed.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include "base/io.h"
#include "base/mem.h"
#include "tests/sample.h"

#include <check.h>
#include <stdint.h>

#define FAULT_MEM (&mem_faults)
#define FAULT_IO  (&io_faults)
#define FAULT_MAX 5000

/* body: 0, or a negative code after which nothing is left behind. */
static inline void fault_each(struct fault *f, int (*body)(void *user), void *user)
{
#ifdef LLMJOB_FAULT
    for (uint64_t n = 1; n <= FAULT_MAX; n++) {
        fault_arm(f, n);
        int rc = body(user);
        uint64_t calls = fault_calls(f);
        fault_arm(f, 0);
        if (calls < n) {
            ck_assert_msg(rc == 0, "failed (%d) although no %s did", rc, f->what);
            ck_assert_msg(n > 1, "no %s was made", f->what);
            return;
        }
        ck_assert_msg(rc < 0, "%s %llu failed unnoticed", f->what, (unsigned long long)n);
    }
    ck_abort_msg("still failing after %d runs", FAULT_MAX);
#else
    (void)f;
    ck_assert_int_eq(body(user), 0);
#endif
}

struct unit {
    const char *name;
    int timeout_s;                      /* of a test; 0: 30 */
    void (*setup)(void), (*done)(void); /* around each test, in its process; or NULL */
};

static inline int unit_run_with(const struct unit *u, const TTest *const *tests)
{
    Suite *s = suite_create(u->name);
    TCase *c = tcase_create(u->name);
    tcase_set_timeout(c, u->timeout_s ? u->timeout_s : 30);
    tcase_add_checked_fixture(c, u->setup, u->done);
    for (; *tests; tests++)
        tcase_add_test(c, *tests);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

/* Tests that take long: one in LLMJOB_SAMPLE neighbours, half as many under AddressSanitizer, but
   one of a short list. */
static inline int unit_run_sampled(const struct unit *u, const TTest *const *tests)
{
    uint64_t n = sample_setting("LLMJOB_SAMPLE"), all = 0;
    const TTest *taken[64] = {NULL}; /* no list is half as long */
    int count = 0;
    while (tests[all])
        all++;
#ifdef __SANITIZE_ADDRESS__
    n = sample_few();
#endif
    n = n > all ? all : n;
    sample_print();
    for (uint64_t i = 0; i < all; i++)
        if (sample_takes_of(n, i))
            taken[count++] = tests[i];
    return unit_run_with(u, taken);
}

/* Tests that compute, of a program that runs in the plain build as well and fails no calls: each is
   tried in one of the two builds, one of LLMJOB_SAMPLE
   neighbours under AddressSanitizer. */
static inline int unit_run_divided(const struct unit *u, const TTest *const *tests)
{
    uint64_t n = sample_setting("LLMJOB_SAMPLE"), all = 0;
    const TTest *taken[64] = {NULL};
    int count = 0;
    while (tests[all])
        all++;
    n = n > all ? all : n; /* so that there is one */
    sample_print();
    for (uint64_t i = 0; i < all; i++)
        if (sample_takes_here(n, i))
            taken[count++] = tests[i];
    return unit_run_with(u, taken);
}

static inline int unit_run(const char *name, const TTest *const *tests)
{
    return unit_run_with(&(struct unit){.name = name}, tests);
}
#define UNIT_MAIN_WITHIN(name, seconds, ...) \
    int main(void) \
    { \
        return unit_run_with( \
            &(struct unit){name, seconds, NULL, NULL}, (const TTest *const[]){__VA_ARGS__, NULL}); \
    }
#define UNIT_MAIN(name, ...) \
    int main(void) \
    { \
        return unit_run(name, (const TTest *const[]){__VA_ARGS__, NULL}); \
    }

#endif
