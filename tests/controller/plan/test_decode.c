/*
 * Goal: the facts kept of an object are those in it, and nothing that an API server may send is
 * refused or crashes. Method: objects as API servers send them; objects with everything missing or
 * of the wrong type; allocation faults.
 * needs: faults
 */
#include "controller/plan/decode.h"

#include "api/names.h"
#include "tests/unit.h"

#include <string.h>

static struct json *parse(const char *text)
{
    struct json *v = NULL;
    struct err e = {0};
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    return v;
}

static struct pod *pod_of(const char *text)
{
    json_auto struct json *v = parse(text);
    struct pod *p = NULL;
    struct err e;
    ck_assert_int_eq(decode_pod(v, &p, &e), 0);
    return p;
}

#define POD(status) \
    "{\"metadata\":{\"name\":\"a-3\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":{" \
    "\"llmjob.dev/job\":\"a\",\"llmjob.dev/replica\":\"3\"," \
    "\"llmjob.dev/revision\":\"00ff\"},\"ownerReferences\":[" \
    "{\"uid\":\"x\"},{\"uid\":\"o\",\"controller\":true}]},\"spec\":{\"nodeName\":\"k\"}," \
    "\"status\":{" status "}}"

START_TEST(a_running_pod)
{
    struct pod *p =
        pod_of(POD("\"phase\":\"Running\",\"podIP\":\"10.0.0.1\",\"conditions\":[{\"type\":"
                   "\"Ready\",\"status\":\"True\"}],\"containerStatuses\":[{\"name\":\"x\","
                   "\"restartCount\":9},{\"name\":\"llmjob\",\"restartCount\":2,\"state\":{"
                   "\"running\":{}},\"lastState\":{\"terminated\":{\"exitCode\":137,\"reason\":"
                   "\"OOMKilled\"}}}]"));
    ck_assert_str_eq(p->name, "a-3");
    ck_assert_str_eq(p->job, "a");
    ck_assert_int_eq(p->replica, 3);
    ck_assert_uint_eq(p->revision, 255);
    ck_assert_str_eq(p->owner_uid, "o");
    ck_assert_str_eq(p->node, "k");
    ck_assert_str_eq(p->ip, "10.0.0.1");
    ck_assert_int_eq(p->phase, POD_RUNNING);
    ck_assert(p->ready && !p->deleting);
    ck_assert_int_eq(p->restarts, 2);
    ck_assert_int_eq(p->exit_code, 137);
    ck_assert_str_eq(p->exit_reason, "OOMKilled");
    ck_assert_str_eq(p->blocked_reason, "");
    pod_free(p);
}
END_TEST

START_TEST(pods_that_do_not_start)
{
    static const struct {
        const char *text, *reason, *message;
    } cases[] = {
        {POD("\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":"
             "\"Unschedulable\",\"message\":\"no node\"}]"),
            NAME_REASON_UNSCHEDULABLE, "no node"},
        {POD("\"containerStatuses\":[{\"name\":\"llmjob\",\"state\":{\"waiting\":{"
             "\"reason\":\"ImagePullBackOff\",\"message\":\"no image\"}}}]"),
            NAME_REASON_IMAGE, "no image"},
        {POD("\"containerStatuses\":[{\"name\":\"llmjob\",\"state\":{\"waiting\":{"
             "\"reason\":\"CreateContainerConfigError\",\"message\":\"no secret\"}}}]"),
            "CreateContainerConfigError", "no secret"},
        {POD("\"containerStatuses\":[{\"name\":\"llmjob\",\"state\":{\"waiting\":{"
             "\"reason\":\"ContainerCreating\"}}}]"),
            "", ""},
        {POD("\"phase\":\"Failed\",\"reason\":\"Evicted\",\"message\":\"low on memory\""),
            "Evicted", "low on memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pod *p = pod_of(cases[i].text);
        ck_assert_str_eq(p->blocked_reason, cases[i].reason);
        ck_assert_str_eq(p->blocked_message, cases[i].message);
        pod_free(p);
    }
}
END_TEST

START_TEST(odd_objects_are_taken_as_they_are)
{
    static const char *const texts[] = {"{}", "{\"metadata\":7,\"status\":[],\"spec\":null}",
        "{\"metadata\":{\"labels\":{\"llmjob.dev/replica\":\"-2\"}}}",
        "{\"metadata\":{\"labels\":{\"llmjob.dev/replica\":\"1x\"}}}",
        "{\"metadata\":{\"labels\":{\"llmjob.dev/replica\":\"99999\"}},\"status\":{"
        "\"containerStatuses\":[7,{\"name\":7}],\"conditions\":{\"a\":1}}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct pod *p = pod_of(texts[i]);
        json_auto struct json *v = parse(texts[i]);
        struct owned owned;
        ck_assert_int_eq(p->replica, -1);
        ck_assert_uint_eq(p->revision, 0);
        ck_assert_str_eq(p->name, "");
        decode_owned(v, &owned);
        ck_assert_str_eq(owned.owner_uid, "");
        ck_assert(!decode_node_ready(v));
        pod_free(p);
    }
}
END_TEST

/* Whatever its size or number of values, a job is decoded or refused: it is never an error of
 * memory, which would list all jobs again, for ever. */
START_TEST(no_size_of_a_job_is_an_error_of_the_list)
{
    /* around the text */
    static const char *const parts[][3] = {{"\"env\":{\"A\":\"", "\"}", ""},
        {"\"args\":[\"", "\"]", ""}, {"\"x\":\"", "\"},\"managedBy\":\"", "\",\"y\":{"}};
    mem_autofree char *large = mem_alloc((3 << 20) + 1);
    memset(large, 'x', 3 << 20);
    large[3 << 20] = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        buf_auto struct buf b, part;
        struct job *j = NULL;
        struct err e = {0};
        buf_init(&b, 16 << 20);
        buf_init(&part, 16 << 20);
        buf_printf(&part, "%s%s%s", parts[i][0], large, parts[i][1]);
        if (*parts[i][2])
            buf_printf(&part, "%s%s", large, parts[i][2]);
        buf_printf(&b,
            "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{"
            "\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\"},\"spec\":{\"replicas\":"
            "1,"
            "\"run\":{\"command\":[\"x\"],%s}},\"status\":{\"state\":\"%s\"}}",
            part.data, large);
        json_auto struct json *v = parse(b.data);
        ck_assert_msg(!decode_job(v, &j, &e), "%s", e.text);
        ck_assert_str_eq(j->spec.name, "a");
        ck_assert(!j->valid || i == 2);
        ck_assert_ptr_null(j->status.state);
        if (!j->valid)
            ck_assert_uint_lt(arena_used(j->arena), 64 << 10);
        job_free(j);
    }
}
END_TEST

START_TEST(a_job_that_is_refused_keeps_its_name_and_the_reason)
{
    json_auto struct json *v =
        parse("{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{"
              "\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"generation\":4,"
              "\"resourceVersion\":\"12\"},\"spec\":{\"replicas\":\"two\",\"run\":{\"command\":["
              "\"x\"]}}}");
    struct job *j = NULL;
    struct err e;
    ck_assert_int_eq(decode_job(v, &j, &e), 0);
    ck_assert(!j->valid);
    ck_assert_ptr_nonnull(strstr(j->problem, "spec.replicas"));
    ck_assert_str_eq(j->spec.uid, "u");
    ck_assert_int_eq(j->spec.generation, 4);
    ck_assert_str_eq(j->spec.managed_by, NAME_CONTROLLER);
    job_free(j);
}
END_TEST

static int both(void *user)
{
    struct pod *p = NULL;
    struct job *j = NULL;
    struct err e = {0};
    (void)user;
    struct json *v = NULL;
    const char *text = "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\","
                       "\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\","
                       "\"generation\":1},\"spec\":{\"run\":{\"command\":[\"x\"]}}}";
    int rc = json_parse(text, strlen(text), &v, &e);
    if (!rc && !(rc = decode_pod(v, &p, &e)))
        rc = decode_job(v, &j, &e);
    pod_free(p);
    job_free(j);
    json_destroy(v);
    return rc;
}

START_TEST(failed_allocation_is_reported)
{
    fault_each(FAULT_MEM, both, NULL);
}
END_TEST

UNIT_MAIN("decode", a_running_pod, pods_that_do_not_start, odd_objects_are_taken_as_they_are,
    no_size_of_a_job_is_an_error_of_the_list, a_job_that_is_refused_keeps_its_name_and_the_reason,
    failed_allocation_is_reported)
