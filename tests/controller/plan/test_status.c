/*
 * Goal: a status that somebody has damaged reads as empty, whatever is wrong with it; one that was
 * written comes back (test_plan_status). Method: texts with one thing wrong each.
 */
#include "tests/controller/world.h"

START_TEST(a_damaged_status_reads_as_empty)
{
    static const char *const texts[] = {"[]", "{\"conditions\":[{}]}", "{\"replicas\":\"many\"}",
        "{\"attempts\":[{\"started\":\"yesterday\"}]}", "{\"progress\":7}"};
    struct arena *a = arena_create(1 << 20);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct json *v = NULL;
        struct err e;
        struct status s;
        ck_assert_int_eq(json_parse(texts[i], strlen(texts[i]), &v, &e), 0);
        status_decode(v, a, &s);
        ck_assert_int_eq(s.generation, -1);
        ck_assert_int_eq(s.condition_count, 0);
        json_destroy(v);
    }
    arena_destroy(a);
}
END_TEST

UNIT_MAIN("status", a_damaged_status_reads_as_empty)
