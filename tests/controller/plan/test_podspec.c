/*
 * Goal: a pod holds exactly what the job asks for and passes the restricted profile; objects belong
 * to the job. Method: the JSON of jobs with every placement and storage field, parsed again and
 * looked at by path; the same bytes twice.
 * needs: faults
 */
#include "controller/plan/podspec.h"

#include "api/names.h"
#include "tests/controller/world.h"

#define EVERYTHING \
    ",\"image\":\"mine:2\",\"device\":{\"resource\":\"nvidia.com/gpu\",\"perReplica\":4}," \
    "\"resources\":{\"requests\":{\"cpu\":\"2\"},\"limits\":{\"memory\":\"4Gi\"}}," \
    "\"placement\":{\"nodeSelector\":{\"zone\":\"a\"},\"tolerations\":[{\"key\":" \
    "\"node.kubernetes.io/unreachable\",\"operator\":\"Exists\",\"effect\":\"NoExecute\"," \
    "\"tolerationSeconds\":5}],\"priorityClassName\":\"high\",\"runtimeClassName\":" \
    "\"nvidia\",\"topology\":{\"key\":\"rack\",\"required\":true}},\"storage\":[{\"name\":" \
    "\"data\",\"claimName\":\"c\",\"mountPath\":\"/data\",\"readOnly\":true},{\"name\":" \
    "\"tmp\",\"scratch\":\"1Gi\",\"mountPath\":\"/scratch\"}]"

static struct json *pod(struct job *j, int replica, bool gang)
{
    buf_auto struct buf a, b;
    struct json *v = NULL;
    struct err e = {0};
    buf_init(&a, PODSPEC_LIMIT);
    buf_init(&b, PODSPEC_LIMIT);
    ck_assert_int_eq(podspec_pod(&j->spec, replica, "own:1", gang, &a, &e), 0);
    ck_assert_int_eq(podspec_pod(&j->spec, replica, "own:1", gang, &b, &e), 0);
    ck_assert_str_eq(a.data, b.data);
    ck_assert_msg(!json_parse(a.data, a.len, &v, &e), "%s", e.text);
    return v;
}

static const char *str(const struct json *v, const char *path, const char *key)
{
    return json_str(json_path(v, path), key, "(none)");
}

START_TEST(every_pod_is_restricted_and_belongs_to_its_job)
{
    struct job *j = world_job(3, 2, WORLD_RUN, "", "{}");
    json_auto struct json *v = pod(j, 1, true);
    const struct json *spec = json_get(v, "spec");
    const struct json *c = json_first(json_get(spec, "containers"));
    const struct json *owner = json_first(json_path(v, "metadata.ownerReferences"));
    ck_assert_str_eq(str(v, "metadata", "name"), "j-1");
    ck_assert_str_eq(json_str(owner, "uid", ""), "u1");
    ck_assert(json_bool(owner, "controller", false));
    ck_assert_str_eq(json_str(json_path(v, "metadata.labels"), NAME_LABEL_REPLICA, ""), "1");
    ck_assert_str_eq(str(v, "spec.schedulingGroup", "podGroupName"), "j");
    ck_assert(json_bool(json_get(spec, "securityContext"), "runAsNonRoot", false));
    ck_assert_str_eq(str(spec, "securityContext.seccompProfile", "type"), "RuntimeDefault");
    ck_assert(!json_bool(spec, "automountServiceAccountToken", true));
    ck_assert(!json_bool(spec, "enableServiceLinks", true));
    const struct json *s = json_get(c, "securityContext");
    ck_assert(!json_bool(s, "allowPrivilegeEscalation", true));
    ck_assert(json_bool(s, "readOnlyRootFilesystem", false));
    ck_assert_str_eq(json_string_value(json_first(json_path(s, "capabilities.drop"))), "ALL");
    ck_assert_str_eq(json_str(c, "image", ""), "own:1");
    ck_assert_ptr_null(json_get(c, "resources"));
    ck_assert_uint_eq(json_count(json_get(spec, "tolerations")), 2);
    ck_assert_str_eq(json_str(spec, "restartPolicy", ""), "OnFailure");
    ck_assert_str_eq(str(c, "readinessProbe.httpGet", "path"), "/readyz");
    job_free(j);
}
END_TEST

START_TEST(what_users_may_set_arrives)
{
    struct job *j = world_job(1, 2, WORLD_RUN, EVERYTHING, "{}");
    json_auto struct json *v = pod(j, 0, false);
    const struct json *spec = json_get(v, "spec");
    const struct json *c = json_first(json_get(spec, "containers"));
    ck_assert_ptr_null(json_get(spec, "schedulingGroup"));
    ck_assert_str_eq(json_str(c, "image", ""), "mine:2");
    ck_assert_str_eq(str(c, "resources.requests", "cpu"), "2");
    ck_assert_str_eq(str(c, "resources.limits", "memory"), "4Gi");
    ck_assert_str_eq(str(c, "resources.limits", "nvidia.com/gpu"), "4");
    ck_assert_str_eq(str(spec, "nodeSelector", "zone"), "a");
    ck_assert_str_eq(json_str(spec, "priorityClassName", ""), "high");
    ck_assert_str_eq(json_str(spec, "runtimeClassName", ""), "nvidia");
    ck_assert_uint_eq(json_count(json_get(spec, "tolerations")), 2);
    ck_assert_int_eq(
        json_int(json_first(json_get(spec, "tolerations")), "tolerationSeconds", 0), 5);
    const struct json *term = json_first(
        json_path(spec, "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"));
    ck_assert_str_eq(json_str(term, "topologyKey", ""), "rack");
    int found = 0;
    json_each (volume, json_get(spec, "volumes")) {
        const char *name = json_str(volume, "name", "");
        if (!strcmp(name, "s-data"))
            found += !strcmp(str(volume, "persistentVolumeClaim", "claimName"), "c");
        if (!strcmp(name, "s-tmp"))
            found += !strcmp(str(volume, "emptyDir", "sizeLimit"), "1073741824");
    }
    ck_assert_int_eq(found, 2);
    job_free(j);
}
END_TEST

/* A pod with two volumes on one path would be refused by the API server for ever. */
START_TEST(a_job_may_bring_its_own_tmp)
{
    struct job *j = world_job(1, 1, WORLD_RUN,
        ",\"storage\":[{\"name\":\"t\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}]", "{}");
    json_auto struct json *v = pod(j, 0, false);
    const struct json *spec = json_get(v, "spec");
    int mounts = 0, volumes = 0;
    json_each (m, json_get(json_first(json_get(spec, "containers")), "volumeMounts")) {
        if (!strcmp(json_str(m, "mountPath", ""), "/tmp"))
            mounts += strcmp(json_str(m, "name", ""), "s-t") ? 100 : 1;
    }
    json_each (m, json_get(spec, "volumes")) {
        volumes += !strcmp(json_str(m, "name", ""), "tmp");
    }
    ck_assert_int_eq(mounts, 1);
    ck_assert_int_eq(volumes, 0);
    job_free(j);
}
END_TEST

static bool selects_replica(const struct job *j)
{
    buf_auto struct buf b;
    json_auto struct json *v = NULL;
    struct err e;
    buf_init(&b, PODSPEC_LIMIT);
    ck_assert_int_eq(podspec_service(&j->spec, &b, &e), 0);
    ck_assert_int_eq(json_parse(b.data, b.len, &v, &e), 0);
    return json_get(json_path(v, "spec.selector"), NAME_LABEL_REPLICA);
}

/* Whose pods are led to: all that have the whole model, or the one that has rank 0. */
START_TEST(a_served_model_is_replicated_where_ranks_do_not_share_it)
{
    static const char storage[] =
        ",\"storage\":[{\"name\":\"m\",\"claimName\":\"c\",\"mountPath\":\"/m\"}]";
    static const char serve[] = "\"model\":{\"source\":\"/m/a.gguf\"},\"serve\":{}";
    char shared[256];
    snprintf(shared, sizeof shared, "%s,\"parallelism\":{\"tensor\":2}", storage);
    struct job *whole = world_job(1, 2, serve, storage, "{}");
    struct job *share = world_job(1, 2, serve, shared, "{}");
    ck_assert(jobspec_replicated(&whole->spec) && !jobspec_replicated(&share->spec));
    ck_assert(!selects_replica(whole) && selects_replica(share));
    for (int i = 0; i < 2; i++) {
        json_auto struct json *v = pod(i ? share : whole, 1, false);
        const char *revision = json_str(json_path(v, "metadata.labels"), NAME_LABEL_REVISION, "");
        const struct json *c = json_first(json_path(v, "spec.containers"));
        const char *alone = "false", *replica = "";
        json_each (x, json_get(c, "env")) {
            if (!strcmp(json_str(x, "name", ""), NAME_ENV_ALONE))
                alone = json_str(x, "value", "");
            if (!strcmp(json_str(x, "name", ""), NAME_ENV_REPLICA))
                replica = json_str(x, "value", "");
        }
        ck_assert_uint_eq(strlen(revision), i ? 0 : PODSPEC_REVISION_BYTES - 1);
        ck_assert_str_eq(alone, i ? "false" : "true");
        ck_assert_str_eq(replica, i ? "1" : "0");
        ck_assert_str_eq(json_str(json_path(v, "metadata.labels"), NAME_LABEL_REPLICA, ""), "1");
    }
    job_free(whole);
    job_free(share);
}
END_TEST

#define ALERT(name, key) \
    "{\"name\":\"" name "\",\"label\":\"x\",\"share\":1,\"webhook\":\"http://h/\"," \
    "\"webhookKey\":\"" key "\"}"

START_TEST(serving_drains_and_is_reached_by_a_service)
{
    struct job *j = world_job(1, 1,
        "\"model\":{\"source\":\"/m/"
        "a.gguf\"},\"serve\":{\"drainSeconds\":90,\"apiKeySecret\":\"keys\",\"classify\":{"
        "\"webhookSecret\":\"hooks\",\"alerts\":[" ALERT("a", "k") "," ALERT("b", "k") "," ALERT(
            "c", "l") "]}}",
        ",\"storage\":[{\"name\":\"m\",\"claimName\":\"c\",\"mountPath\":\"/m\"}]", "{}");
    json_auto struct json *v = pod(j, 0, false);
    ck_assert_int_eq(json_int(json_get(v, "spec"), "terminationGracePeriodSeconds", 0),
        105); /* it lingers, drains, and has some time to spare */
    ck_assert_uint_eq(
        json_count(json_get(json_first(json_path(v, "spec.containers")), "ports")), 2);
    const struct json *notes = json_path(v, "metadata.annotations");
    ck_assert_str_eq(json_str(notes, "prometheus.io/port", ""), "7070");
    const struct json *job = json_first(json_path(v, "spec.volumes"));
    ck_assert_str_eq(json_str(job, "name", ""), "job");
    const struct json *own = json_first(json_path(job, "projected.sources"));
    ck_assert_str_eq(str(own, "secret", "name"), "j-job");
    ck_assert_str_eq(str(json_next(own), "secret", "name"), "keys");
    const struct json *hooks = json_next(json_next(own)), *items = json_path(hooks, "secret.items");
    ck_assert_str_eq(str(hooks, "secret", "name"), "hooks");
    ck_assert_uint_eq(json_count(items), 2);
    ck_assert_str_eq(json_str(json_first(items), "key", ""), "k");
    ck_assert_str_eq(json_str(json_first(items), "path", ""), "webhooks/k");
    ck_assert_str_eq(json_str(json_next(json_first(items)), "key", ""), "l");
    buf_auto struct buf b;
    json_auto struct json *service = NULL;
    struct err e;
    buf_init(&b, PODSPEC_LIMIT);
    ck_assert_int_eq(podspec_service(&j->spec, &b, &e), 0);
    ck_assert_int_eq(json_parse(b.data, b.len, &service, &e), 0);
    ck_assert_ptr_null(json_path(service, "spec.clusterIP"));
    ck_assert_int_eq(json_int(json_first(json_path(service, "spec.ports")), "port", 0), 8000);
    job_free(j);
}
END_TEST

START_TEST(the_secret_holds_the_job_file_that_decodes_to_the_same_job)
{
    struct job *j = world_job(7, 3, WORLD_RUN, EVERYTHING, "{}");
    buf_auto struct buf b;
    json_auto struct json *v = NULL, *file = NULL;
    struct err e = {0};
    struct jobspec spec;
    buf_init(&b, PODSPEC_LIMIT);
    ck_assert_int_eq(podspec_secret(&j->spec, "sesame", &b, &e), 0);
    ck_assert_int_eq(json_parse(b.data, b.len, &v, &e), 0);
    ck_assert_str_eq(str(v, "stringData", NAME_TOKEN_FILE), "sesame");
    const struct json *annotations = json_path(v, "metadata.annotations");
    ck_assert_str_eq(json_str(annotations, NAME_ANNOTATION_GENERATION, ""), "7");
    const char *text = json_str(json_get(v, "stringData"), NAME_JOB_FILE, "");
    ck_assert_int_eq(json_parse(text, strlen(text), &file, &e), 0);
    ck_assert_msg(!jobspec_decode(file, j->arena, &spec, &e), "%s", e.text);
    ck_assert_int_eq(spec.replicas, 3);
    ck_assert_str_eq(spec.uid, "u1");
    buf_reset(&b);
    ck_assert_int_eq(podspec_secret(&j->spec, NULL, &b, &e), 0);
    ck_assert_ptr_null(strstr(b.data, "\"token\""));
    job_free(j);
}
END_TEST

static int encode_pod(void *user)
{
    const struct job *j = user;
    buf_auto struct buf b;
    struct err e;
    buf_init(&b, PODSPEC_LIMIT);
    return podspec_pod(&j->spec, 0, "own:1", true, &b, &e);
}

START_TEST(failed_allocation_is_reported)
{
    struct job *j = world_job(1, 1, WORLD_RUN, EVERYTHING, "{}");
    fault_each(FAULT_MEM, encode_pod, j);
    job_free(j);
}
END_TEST

UNIT_MAIN("podspec", every_pod_is_restricted_and_belongs_to_its_job, what_users_may_set_arrives,
    a_job_may_bring_its_own_tmp, a_served_model_is_replicated_where_ranks_do_not_share_it,
    serving_drains_and_is_reached_by_a_service,
    the_secret_holds_the_job_file_that_decodes_to_the_same_job, failed_allocation_is_reported)
