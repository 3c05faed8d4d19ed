/*
 * Goal: a job that its own parts could not read is refused before it is accepted (kind: a limit met
 * only after the job has begun). Method: environments at and beyond the limits, beside the rule of
 * manifests/crd.yaml.
 */
#include "base/io.h"
#include "api/jobspec.h"
#include "tests/unit.h"

#include <string.h>

/* `count` variables of 4096 times the byte that `text` is in JSON. */
static int decode_large(int count, const char *text, struct err *e)
{
    buf_auto struct buf b;
    json_auto struct json *v = NULL;
    struct jobspec spec;
    buf_init(&b, 4 << 20);
    buf_str(&b, "{\"name\":\"a\",\"spec\":{\"replicas\":1,\"run\":{\"command\":[\"x\"],\"env\":{");
    for (int i = 0; i < count; i++) {
        buf_printf(&b, "%s\"E%d\":\"", i ? "," : "", i);
        for (int n = 0; n < 4096; n++)
            buf_str(&b, text);
        buf_str(&b, "\"");
    }
    buf_str(&b, "}}}}");
    ck_assert_int_eq(json_parse(b.data, b.len, &v, e), 0);
    struct arena *a = arena_create(16 << 20);
    int r = jobspec_decode(v, a, &spec, e);
    arena_destroy(a);
    return r;
}

/* A job that its own parts could not read is refused before it is accepted, with the limit
 * named. */
START_TEST(a_job_too_large_for_its_parts_is_refused)
{
    struct err e = {.text = ""};
    ck_assert_msg(!decode_large(48, "x", &e), "%s", e.text);
    ck_assert_int_eq(decode_large(49, "x", &e), -ERR_USER);
    ck_assert_str_eq(e.text,
        "spec.run: command, args and env hold 200842 characters together, and 200000 are allowed");
    /* Few characters may still be many bytes of JSON. */
    ck_assert_msg(!decode_large(30, "\\\"", &e), "%s", e.text);
    ck_assert_int_eq(decode_large(48, "\\\"", &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec: 39") && strstr(e.text, " bytes as job.json, and 262144"),
        "%s", e.text);
    ck_assert_int_eq(decode_large(11, "\\u0001", &e), -ERR_USER);
    /* The API server bounds the same. */
    char rule[32];
    struct buf crd buf_auto;
    buf_init(&crd, 1 << 20);
    snprintf(rule, sizeof rule, ".sum() : 0) <= %d\"", LIMIT_RUN_CHARACTERS);
    ck_assert_int_eq(io_read_file("manifests/crd.yaml", 1 << 20, &crd, &e), 0);
    ck_assert_ptr_nonnull(strstr(crd.data, rule));
}
END_TEST

UNIT_MAIN("jobspec_size", a_job_too_large_for_its_parts_is_refused)
