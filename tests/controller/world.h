/*
 * world: a cluster in memory for tests of the pure files: an LLMJob decoded from text, pods built
 * by hand, and a plan carried out on them as an API server and kubelets would, one step at a time.
 */
#ifndef TESTS_CONTROLLER_WORLD_H
#define TESTS_CONTROLLER_WORLD_H

#include "api/names.h"
#include "api/report.h"
#include "base/clock.h"
#include "controller/plan/plan.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define WORLD_PODS 40
#define WORLD_NOW  1700000000000

struct world_pod {
    struct pod pod;
    char name[80], uid[40], node[16], ip[32];
    bool exists, lost;
    struct report *report; /* of a replicated job: of its agent, or NULL */
    uint64_t desired_sent; /* likewise */
};

struct world {
    struct job *job;
    struct world_pod pods[WORLD_PODS];
    struct observed_pod list[WORLD_PODS];
    struct observed o;
    struct owned service, gang;
    struct report report;
    struct arena *arena; /* of the report */
    int uids;
};

/* A job of `replicas`, `more` being further fields of spec as JSON (", ..."), or "". */
static inline struct job *world_job(
    int generation, int replicas, const char *task, const char *more, const char *status)
{
    char text[8192];
    struct json *v = NULL;
    struct job *j = NULL;
    struct err e = {0};
    int n = snprintf(text, sizeof text,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{"
        "\"name\":\"j\",\"namespace\":\"n\",\"uid\":\"u1\",\"generation\":%d,"
        "\"resourceVersion\":\"5\",\"creationTimestamp\":\"2023-11-14T22:13:20Z\"},"
        "\"spec\":{\"replicas\":%d,%s%s},\"status\":%s}",
        generation, replicas, task, more, status);
    ck_assert_int_lt(n, (int)sizeof text);
    ck_assert_msg(!json_parse(text, (size_t)n, &v, &e), "%s", e.text);
    ck_assert_int_eq(decode_job(v, &j, &e), 0);
    ck_assert_msg(j->valid, "%s", j->problem);
    json_destroy(v);
    return j;
}

#define WORLD_RUN "\"run\":{\"command\":[\"/bin/true\"]}"

static inline void world_init(struct world *w, int replicas, const char *more)
{
    *w = (struct world){0};
    w->job = world_job(1, replicas, WORLD_RUN, more, "{}");
    w->arena = arena_create(1 << 20);
    report_init(&w->report);
    w->o = (struct observed){.now_ms = WORLD_NOW,
        .image = "img",
        .gangs = true,
        .secret_generation = -1,
        .secret_age_ms = INT64_MAX,
        .failure_age_ms = INT64_MAX,
        .status_age_ms = INT64_MAX,
        .trouble = ""};
}

static inline void world_done(struct world *w)
{
    job_free(w->job);
    arena_destroy(w->arena);
}

static inline struct world_pod *world_find(struct world *w, const char *name)
{
    for (int i = 0; i < WORLD_PODS; i++)
        if (w->pods[i].exists && !strcmp(w->pods[i].name, name))
            return &w->pods[i];
    return NULL;
}

static inline struct world_pod *world_add(struct world *w, int replica)
{
    int i = 0;
    while (w->pods[i].exists)
        ck_assert_int_lt(++i, WORLD_PODS);
    struct world_pod *p = &w->pods[i];
    *p = (struct world_pod){.exists = true};
    snprintf(p->name, sizeof p->name, "j-%d", replica);
    snprintf(p->uid, sizeof p->uid, "p%d", ++w->uids);
    p->pod = (struct pod){.namespace_ = "n",
        .job = "j",
        .name = p->name,
        .uid = p->uid,
        .owner_uid = "u1",
        .node = p->node,
        .ip = p->ip,
        .blocked_reason = "",
        .blocked_message = "",
        .exit_reason = "",
        .replica = replica,
        .phase = POD_PENDING,
        .exit_code = -1};
    return p;
}

static inline void world_run_pod(struct world_pod *p)
{
    p->pod.phase = POD_RUNNING;
    p->pod.ready = true;
    snprintf(p->node, sizeof p->node, "node");
    snprintf(p->ip, sizeof p->ip, "10.0.0.%d", p->pod.replica + 1);
}

static inline int world_by_replica(const void *a, const void *b)
{
    const struct observed_pod *x = a, *y = b;
    return x->pod->replica - y->pod->replica;
}

static inline void world_observe(struct world *w)
{
    int n = 0;
    for (int i = 0; i < WORLD_PODS; i++)
        if (w->pods[i].exists)
            w->list[n++] =
                (struct observed_pod){&w->pods[i].pod, !strcmp(w->pods[i].pod.owner_uid, "u1"),
                    w->pods[i].lost, w->pods[i].report, w->pods[i].desired_sent};
    qsort(w->list, (size_t)n, sizeof *w->list, world_by_replica);
    w->o.job = w->job;
    w->o.pods = w->list;
    w->o.pod_count = n;
}

static inline struct plan *world_plan(struct world *w)
{
    struct plan *p = mem_zalloc(sizeof *p);
    struct err e = {0};
    p->arena = arena_create(16 << 20);
    world_observe(w);
    ck_assert_msg(!plan_llmjob(&w->o, p, &e), "%s", e.text);
    return p;
}

static inline void world_free(struct plan *p)
{
    arena_destroy(p->arena);
    mem_free(p);
}

static inline const struct action *world_action(const struct plan *p, enum action_kind kind)
{
    for (int i = 0; i < p->count; i++)
        if (p->actions[i].kind == kind)
            return &p->actions[i];
    return NULL;
}

static inline bool world_told(const struct plan *p, const char *reason)
{
    for (int i = 0; i < p->count; i++)
        if (p->actions[i].kind == ACTION_EVENT && !strcmp(p->actions[i].reason, reason))
            return true;
    return false;
}

/* Takes the status of a plan as the API server would store it and send it back. */
static inline void world_store_status(struct world *w, const char *patch)
{
    struct json *v = NULL;
    struct err e = {0};
    ck_assert_msg(!json_parse(patch, strlen(patch), &v, &e), "%s", e.text);
    status_decode(json_get(json_first(v), "value"), w->job->arena, &w->job->status);
    json_destroy(v);
}

/* Carries one action out. */
static inline void world_apply(struct world *w, const struct action *a)
{
    struct world_pod *p;
    switch (a->kind) {
    case ACTION_SECRET:
        w->o.secret_generation = w->job->spec.generation;
        w->o.secret_age_ms = 0;
        break;
    case ACTION_SERVICE:
        snprintf(w->service.owner_uid, sizeof w->service.owner_uid, "u1");
        w->o.service = &w->service;
        break;
    case ACTION_GANG:
    case ACTION_GANG_RESIZE:
        snprintf(w->gang.owner_uid, sizeof w->gang.owner_uid, "u1");
        w->gang.min_count = (int)strtol(strstr(a->body, "\"minCount\":") + 11, NULL, 10);
        w->o.gang = &w->gang;
        break;
    case ACTION_CREATE_POD:
        ck_assert_msg(!world_find(w, a->name), "a second pod %s", a->name);
        world_add(w, (int)strtol(strrchr(a->name, '-') + 1, NULL, 10));
        break;
    case ACTION_DELETE_POD:
        p = world_find(w, a->name);
        if (!p || strcmp(p->uid, a->uid) != 0)
            break;
        if (a->force || p->pod.phase == POD_PENDING || plan_pod_ended(&p->pod))
            p->exists = false;
        else
            p->pod.deleting = true;
        break;
    case ACTION_DESIRED:
        if (jobspec_replicated(&w->job->spec)) {
            world_find(w, a->name)->desired_sent = a->hash;
            break;
        }
        w->o.desired_sent = a->hash;
        w->report.generation = w->job->spec.generation;
        break;
    case ACTION_STATUS:
        world_store_status(w, a->body);
        break;
    default:
        break;
    }
}

/* Pods 0..n-1 running, the coordinator at work on all of them, everything written. */
static inline void world_settle(struct world *w, int running)
{
    for (int i = 0; i < running; i++)
        world_run_pod(world_add(w, i));
    w->report.state = JOB_RUNNING;
    w->report.world_replicas = running;
    w->report.connected = w->report.ranks = w->report.data_parallel = running;
    w->report.incarnation = 1;
    w->report.generation = w->job->spec.generation;
    w->o.report = &w->report;
    w->o.report_is_current = true;
    for (int i = 0; i < 5; i++) {
        struct plan *p = world_plan(w);
        for (int k = 0; k < p->count; k++)
            world_apply(w, &p->actions[k]);
        world_free(p);
    }
    struct plan *p = world_plan(w);
    ck_assert_int_eq(p->count, 0);
    world_free(p);
}

#endif
