/*
 * served_job: a job that serves a model with adapters that come and go, for tests of who follows
 * its list.
 */
#ifndef TESTS_SERVED_JOB_H
#define TESTS_SERVED_JOB_H

#include "api/jobspec.h"
#include "base/json.h"

#include <check.h>
#include <stdio.h>

/* Under /data, decoded into a; adapters: a list. */
static inline struct jobspec served_job(const char *adapters, struct arena *a)
{
    static char text[1024];
    struct jobspec s;
    struct err e;
    json_auto struct json *v = NULL;
    int n = snprintf(text, sizeof text,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"j\","
        "\"namespace\":\"n\",\"uid\":\"u\",\"generation\":1},\"spec\":{\"storage\":[{"
        "\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/data\"}],"
        "\"model\":{\"source\":\"/data/m\"},"
        "\"serve\":{\"adapterMemory\":\"64Mi\",\"adapters\":%s}}}",
        adapters);
    ck_assert_msg(!json_parse(text, (size_t)n, &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, a, &s, &e), "%s", e.text);
    return s;
}

#endif
