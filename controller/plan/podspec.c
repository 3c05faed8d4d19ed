/*
 * podspec: nothing but writing. One function a part of the pod, in the order in which they appear
 * in it. What may be set by users comes from struct jobspec, everything else is fixed here, next to
 * the reason where it is not plain.
 */
#include "controller/plan/podspec.h"

#include "api/names.h"
#include "base/hash.h"
#include "base/json.h"

#include <inttypes.h>

#define USER                 65532 /* "nonroot" of the usual base images */
#define SHM_SIZE             "8Gi" /* a bound, not a reservation: gradients are exchanged here */
#define GRACE_SECONDS        60
#define DRAIN_MARGIN_SECONDS 10
/* That a pod which must go is still led to: it is ended 1 s or 2 before the last node knows. */
#define LINGER_SECONDS       5
/* Before a pod on an unreachable node is given up; Kubernetes says 300. */
#define NODE_LOST_SECONDS    15

static void str_map(struct jsonw *w, const char *key, const struct jobspec_map *m)
{
    if (!m->count)
        return;
    jsonw_open(w, key, '{');
    for (int i = 0; i < m->count; i++)
        jsonw_str(w, m->keys[i], m->values[i]);
    jsonw_close(w);
}

/* revision: of a pod that has one, else 0. */
static void labels(struct jsonw *w, const struct jobspec *s, int replica, uint64_t revision)
{
    jsonw_open(w, "labels", '{');
    jsonw_str(w, NAME_LABEL_APP, "llmjob");
    jsonw_str(w, NAME_LABEL_INSTANCE, s->name);
    jsonw_str(w, NAME_LABEL_MANAGED, NAME_FIELD_OWNER);
    jsonw_str(w, NAME_LABEL_JOB, s->name);
    if (replica >= 0) {
        char text[16];
        snprintf(text, sizeof text, "%d", replica);
        jsonw_str(w, NAME_LABEL_REPLICA, text);
    }
    if (revision) {
        char text[PODSPEC_REVISION_BYTES];
        snprintf(text, sizeof text, "%016" PRIx64, revision);
        jsonw_str(w, NAME_LABEL_REVISION, text);
    }
    jsonw_close(w);
}

static void owner(struct jsonw *w, const struct jobspec *s)
{
    jsonw_open(w, "ownerReferences", '[');
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "apiVersion", NAME_API_VERSION);
    jsonw_str(w, "kind", NAME_KIND);
    jsonw_str(w, "name", s->name);
    jsonw_str(w, "uid", s->uid);
    jsonw_bool(w, "controller", true);
    jsonw_close(w);
    jsonw_close(w);
}

/* Opens "metadata"; the caller may add to it and closes it. */
static void metadata(
    struct jsonw *w, const struct jobspec *s, const char *name, int replica, uint64_t revision)
{
    jsonw_open(w, "metadata", '{');
    jsonw_str(w, "name", name);
    jsonw_str(w, "namespace", s->namespace_);
    labels(w, s, replica, revision);
    owner(w, s);
}

static void open_object(struct jsonw *w, struct buf *out, const char *version, const char *kind)
{
    jsonw_init(w, out);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "apiVersion", version);
    jsonw_str(w, "kind", kind);
}

static int end_object(struct jsonw *w, struct err *e)
{
    jsonw_close(w);
    return jsonw_end(w) ? err_set(e, ERR_MEMORY, "no memory for an object") : 0;
}

/* -- the pod -- */

static void pod_security(struct jsonw *w)
{
    jsonw_open(w, "securityContext", '{');
    jsonw_bool(w, "runAsNonRoot", true);
    jsonw_int(w, "runAsUser", USER);
    jsonw_int(w, "runAsGroup", USER);
    jsonw_int(w, "fsGroup", USER);
    jsonw_str(w, "fsGroupChangePolicy", "OnRootMismatch");
    jsonw_open(w, "seccompProfile", '{');
    jsonw_str(w, "type", "RuntimeDefault");
    jsonw_close(w);
    jsonw_close(w);
}

static void container_security(struct jsonw *w)
{
    jsonw_open(w, "securityContext", '{');
    jsonw_bool(w, "allowPrivilegeEscalation", false);
    jsonw_bool(w, "readOnlyRootFilesystem", true);
    jsonw_open(w, "capabilities", '{');
    jsonw_open(w, "drop", '[');
    jsonw_str(w, NULL, "ALL");
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

static void toleration(struct jsonw *w, const char *key, const char *operator_, const char *value,
    const char *effect, int64_t seconds)
{
    jsonw_open(w, NULL, '{');
    if (key)
        jsonw_str(w, "key", key);
    jsonw_str(w, "operator", operator_);
    if (value)
        jsonw_str(w, "value", value);
    if (effect)
        jsonw_str(w, "effect", effect);
    if (seconds >= 0)
        jsonw_int(w, "tolerationSeconds", seconds);
    jsonw_close(w);
}

static void tolerations(struct jsonw *w, const struct jobspec *s)
{
    static const char *const lost[] = {
        "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"};
    jsonw_open(w, "tolerations", '[');
    for (int i = 0; i < s->placement.toleration_count; i++) {
        const struct jobspec_toleration *t = &s->placement.tolerations[i];
        toleration(
            w, t->key, t->operator_ ? t->operator_ : "Equal", t->value, t->effect, t->seconds);
    }
    for (int k = 0; k < 2; k++) {
        bool given = false;
        for (int i = 0; i < s->placement.toleration_count; i++) {
            const char *key = s->placement.tolerations[i].key;
            given |= !key || !strcmp(key, lost[k]);
        }
        if (!given)
            toleration(w, lost[k], "Exists", NULL, "NoExecute", NODE_LOST_SECONDS);
    }
    jsonw_close(w);
}

static void affinity_term(struct jsonw *w, const struct jobspec *s)
{
    jsonw_str(w, "topologyKey", s->placement.topology_key);
    jsonw_open(w, "labelSelector", '{');
    jsonw_open(w, "matchLabels", '{');
    jsonw_str(w, NAME_LABEL_JOB, s->name);
    jsonw_close(w);
    jsonw_close(w);
}

static void placement(struct jsonw *w, const struct jobspec *s)
{
    str_map(w, "nodeSelector", &s->placement.node_selector);
    tolerations(w, s);
    if (s->placement.priority_class)
        jsonw_str(w, "priorityClassName", s->placement.priority_class);
    if (s->placement.runtime_class)
        jsonw_str(w, "runtimeClassName", s->placement.runtime_class);
    if (!s->placement.topology_key)
        return;
    jsonw_open(w, "affinity", '{');
    jsonw_open(w, "podAffinity", '{');
    jsonw_open(w,
        s->placement.topology_required ? "requiredDuringSchedulingIgnoredDuringExecution"
                                       : "preferredDuringSchedulingIgnoredDuringExecution",
        '[');
    jsonw_open(w, NULL, '{');
    if (s->placement.topology_required) {
        affinity_term(w, s);
    } else {
        jsonw_int(w, "weight", 100);
        jsonw_open(w, "podAffinityTerm", '{');
        affinity_term(w, s);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

static void env_value(struct jsonw *w, const char *name, const char *value)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", name);
    jsonw_str(w, "value", value);
    jsonw_close(w);
}

static void env_field(struct jsonw *w, const char *name, const char *field)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", name);
    jsonw_open(w, "valueFrom", '{');
    jsonw_open(w, "fieldRef", '{');
    jsonw_str(w, "fieldPath", field);
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

static void env(struct jsonw *w, const struct jobspec *s, int replica)
{
    char text[16];
    bool alone = jobspec_replicated(s); /* each coordinates itself */
    snprintf(text, sizeof text, "%d", alone ? 0 : replica);
    jsonw_open(w, "env", '[');
    env_value(w, NAME_ENV_JOB, s->name);
    env_value(w, NAME_ENV_REPLICA, text);
    if (alone)
        env_value(w, NAME_ENV_ALONE, "true");
    snprintf(text, sizeof text, "%d", LINGER_SECONDS);
    if (s->task == TASK_SERVE)
        env_value(w, NAME_ENV_LINGER, text);
    env_value(w, NAME_ENV_JOB_DIR, NAME_JOB_DIR);
    env_field(w, NAME_ENV_NAMESPACE, "metadata.namespace");
    env_field(w, NAME_ENV_POD, "metadata.name");
    env_field(w, NAME_ENV_POD_UID, "metadata.uid");
    env_field(w, NAME_ENV_NODE, "spec.nodeName");
    jsonw_close(w);
}

static void resources(struct jsonw *w, const struct jobspec *s)
{
    bool device = strcmp(s->device.resource, "cpu") != 0;
    for (int i = 0; i < s->limits.count; i++)
        device &= strcmp(s->limits.keys[i], s->device.resource) != 0;
    if (!s->requests.count && !s->limits.count && !device)
        return;
    jsonw_open(w, "resources", '{');
    str_map(w, "requests", &s->requests);
    jsonw_open(w, "limits", '{');
    for (int i = 0; i < s->limits.count; i++)
        jsonw_str(w, s->limits.keys[i], s->limits.values[i]);
    if (device) {
        char text[16];
        snprintf(text, sizeof text, "%d", s->device.per_replica);
        jsonw_str(w, s->device.resource, text);
    }
    jsonw_close(w);
    jsonw_close(w);
}

static void probe(
    struct jsonw *w, const char *key, const char *path, int period, int failures, int timeout)
{
    jsonw_open(w, key, '{');
    jsonw_open(w, "httpGet", '{');
    jsonw_str(w, "path", path);
    jsonw_str(w, "port", NAME_PORT_AGENT_TEXT);
    jsonw_close(w);
    jsonw_int(w, "periodSeconds", period);
    jsonw_int(w, "failureThreshold", failures);
    jsonw_int(w, "timeoutSeconds", timeout);
    jsonw_close(w);
}

static void port(struct jsonw *w, const char *name, int number)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", name);
    jsonw_int(w, "containerPort", number);
    jsonw_close(w);
}

static void mount(struct jsonw *w, const char *volume, const char *path, bool read_only)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", volume);
    jsonw_str(w, "mountPath", path);
    if (read_only)
        jsonw_bool(w, "readOnly", true);
    jsonw_close(w);
}

/* Users' volumes get a prefix, so that none can take the name of another. */
static void volume_name(char *out, size_t size, const struct jobspec_storage *st)
{
    snprintf(out, size, "s-%s", st->name);
}

/* Whether the job brings a /tmp of its own: a pod with two would be refused for ever. */
static bool own_tmp(const struct jobspec *s)
{
    for (int i = 0; i < s->storage_count; i++)
        if (!strcmp(s->storage[i].mount_path, "/tmp"))
            return true;
    return false;
}

static void mounts(struct jsonw *w, const struct jobspec *s)
{
    jsonw_open(w, "volumeMounts", '[');
    mount(w, "job", NAME_JOB_DIR, true);
    mount(w, "run", NAME_RUN_DIR, false);
    mount(w, "shm", "/dev/shm", false);
    if (!own_tmp(s))
        mount(w, "tmp", "/tmp", false);
    for (int i = 0; i < s->storage_count; i++) {
        char name[LIMIT_SUBDOMAIN_BYTES];
        volume_name(name, sizeof name, &s->storage[i]);
        mount(w, name, s->storage[i].mount_path, s->storage[i].read_only);
    }
    jsonw_close(w);
}

static void container(struct jsonw *w, const struct jobspec *s, int replica, const char *image)
{
    jsonw_open(w, "containers", '[');
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", NAME_CONTAINER);
    jsonw_str(w, "image", s->image && *s->image ? s->image : image);
    jsonw_open(w, "command", '[');
    jsonw_str(w, NULL, NAME_AGENT_PROGRAM);
    jsonw_close(w);
    env(w, s, replica);
    jsonw_open(w, "ports", '[');
    port(w, NAME_PORT_AGENT_TEXT, NAME_PORT_AGENT);
    if (s->task == TASK_SERVE)
        port(w, NAME_PORT_SERVE_TEXT, NAME_PORT_SERVE);
    jsonw_close(w);
    resources(w, s);
    probe(w, "startupProbe", NAME_PATH_HEALTH, 1, 120, 2);
    probe(w, "livenessProbe", NAME_PATH_HEALTH, 10, 6, 5);
    probe(w, "readinessProbe", NAME_PATH_READY, 1, 3, 2);
    container_security(w);
    mounts(w, s);
    /* The agent's last words, shown by kubectl describe when it dies early. */
    jsonw_str(w, "terminationMessagePolicy", "FallbackToLogsOnError");
    jsonw_close(w);
    jsonw_close(w);
}

static void empty_dir(struct jsonw *w, const char *name, const char *medium, const char *size)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", name);
    jsonw_open(w, "emptyDir", '{');
    if (medium)
        jsonw_str(w, "medium", medium);
    if (size)
        jsonw_str(w, "sizeLimit", size);
    jsonw_close(w);
    jsonw_close(w);
}

static void storage_volume(struct jsonw *w, const struct jobspec_storage *st)
{
    char name[LIMIT_SUBDOMAIN_BYTES], size[32];
    volume_name(name, sizeof name, st);
    if (!st->claim) {
        snprintf(size, sizeof size, "%lld", (long long)st->scratch_bytes);
        empty_dir(w, name, NULL, st->scratch_bytes > 0 ? size : NULL);
        return;
    }
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", name);
    jsonw_open(w, "persistentVolumeClaim", '{');
    jsonw_str(w, "claimName", st->claim);
    if (st->read_only)
        jsonw_bool(w, "readOnly", true);
    jsonw_close(w);
    jsonw_close(w);
}

static void secret_source(struct jsonw *w, const char *name, const char *only_key)
{
    jsonw_open(w, NULL, '{');
    jsonw_open(w, "secret", '{');
    jsonw_str(w, "name", name);
    if (only_key) {
        jsonw_open(w, "items", '[');
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "key", only_key);
        jsonw_str(w, "path", only_key);
        jsonw_close(w);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
}

/* Of its keys those alone that alerts name, each once: no other is for this pod. */
static void webhook_source(struct jsonw *w, const struct jobspec *s)
{
    const struct jobspec_alert *list = s->serve.classify.alerts;
    jsonw_open(w, NULL, '{');
    jsonw_open(w, "secret", '{');
    jsonw_str(w, "name", s->serve.classify.webhook_secret);
    jsonw_open(w, "items", '[');
    for (int i = 0; i < s->serve.classify.alert_count; i++) {
        char path[300];
        int j = 0;
        while (list[i].webhook_key && j < i &&
            (!list[j].webhook_key || strcmp(list[j].webhook_key, list[i].webhook_key) != 0))
            j++;
        if (!list[i].webhook_key || j < i)
            continue;
        snprintf(path, sizeof path, NAME_WEBHOOK_DIR "/%s", list[i].webhook_key);
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "key", list[i].webhook_key);
        jsonw_str(w, "path", path);
        jsonw_close(w);
    }
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

/* The job's own Secret and, beside it, the user's API key and what webhooks want to see. */
static void job_volume(struct jsonw *w, const struct jobspec *s)
{
    char secret[LIMIT_SUBDOMAIN_BYTES];
    snprintf(secret, sizeof secret, "%s" NAME_SECRET_SUFFIX, s->name);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "name", "job");
    jsonw_open(w, "projected", '{');
    jsonw_int(w, "defaultMode", 0440);
    jsonw_open(w, "sources", '[');
    secret_source(w, secret, NULL);
    if (s->task == TASK_SERVE && s->serve.api_key_secret)
        secret_source(w, s->serve.api_key_secret, NAME_API_KEY_FILE);
    if (s->task == TASK_SERVE && s->serve.classify.webhook_secret)
        webhook_source(w, s);
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

static void volumes(struct jsonw *w, const struct jobspec *s)
{
    jsonw_open(w, "volumes", '[');
    job_volume(w, s);
    empty_dir(w, "run", NULL, NULL);
    empty_dir(w, "shm", "Memory", SHM_SIZE);
    if (!own_tmp(s))
        empty_dir(w, "tmp", NULL, NULL);
    for (int i = 0; i < s->storage_count; i++)
        storage_volume(w, &s->storage[i]);
    jsonw_close(w);
}

/* What may change without another pod is left out, and the operator's own image with it. */
int podspec_revision(const struct jobspec *s, uint64_t *out, struct err *e)
{
    struct jobspec same = *s;
    buf_auto struct buf text;
    same.generation = 0;
    same.replicas = 1;
    same.suspend = false;
    same.managed_by = NAME_CONTROLLER;
    same.elastic = (struct jobspec_elastic){1, 0};
    same.active_deadline_seconds = 0;
    same.ttl_seconds_after_finished = -1;
    if (same.serve.adapter_memory) { /* those who serve are told of the others */
        same.serve.adapters = NULL;
        same.serve.adapter_count = 0;
    }
    buf_init(&text, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(&same, &text, e);
    if (rc)
        return rc;
    uint64_t h = hash_bytes(HASH_START, text.data, text.len);
    *out = h ? h : 1;
    return 0;
}

int podspec_pod(const struct jobspec *s, int replica, const char *image, bool gang, struct buf *out,
    struct err *e)
{
    struct jsonw w;
    char name[LIMIT_SUBDOMAIN_BYTES];
    uint64_t revision = 0;
    int rc = jobspec_replicated(s) ? podspec_revision(s, &revision, e) : 0;
    if (rc)
        return rc;
    snprintf(name, sizeof name, "%s-%d", s->name, replica);
    open_object(&w, out, "v1", "Pod");
    metadata(&w, s, name, replica, revision);
    jsonw_open(&w, "annotations", '{');
    jsonw_str(&w, "kubectl.kubernetes.io/default-container", NAME_CONTAINER);
    if (s->task == TASK_SERVE) { /* for autoscalers */
        char port_text[16];
        snprintf(port_text, sizeof port_text, "%d", NAME_PORT_AGENT);
        jsonw_str(&w, "prometheus.io/scrape", "true");
        jsonw_str(&w, "prometheus.io/port", port_text);
    }
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_open(&w, "spec", '{');
    jsonw_str(&w, "hostname", name);
    jsonw_str(&w, "subdomain", s->name);
    jsonw_str(&w, "restartPolicy", "OnFailure");
    jsonw_int(&w, "terminationGracePeriodSeconds",
        s->task == TASK_SERVE ? LINGER_SECONDS + s->serve.drain_seconds + DRAIN_MARGIN_SECONDS
                              : GRACE_SECONDS);
    jsonw_bool(&w, "automountServiceAccountToken", false);
    jsonw_bool(&w, "enableServiceLinks", false);
    if (gang) {
        jsonw_open(&w, "schedulingGroup", '{');
        jsonw_str(&w, "podGroupName", s->name);
        jsonw_close(&w);
    }
    placement(&w, s);
    pod_security(&w);
    container(&w, s, replica, image);
    volumes(&w, s);
    jsonw_close(&w);
    return end_object(&w, e);
}

/* -- the others -- */

int podspec_service(const struct jobspec *s, struct buf *out, struct err *e)
{
    struct jsonw w;
    bool serve = s->task == TASK_SERVE;
    const char *port_name = serve ? NAME_PORT_SERVE_TEXT : NAME_PORT_AGENT_TEXT;
    open_object(&w, out, "v1", "Service");
    metadata(&w, s, s->name, -1, 0);
    jsonw_close(&w);
    jsonw_open(&w, "spec", '{');
    if (!serve) {
        jsonw_str(&w, "clusterIP", "None");
        jsonw_bool(&w, "publishNotReadyAddresses", true);
    }
    jsonw_open(&w, "selector", '{');
    jsonw_str(&w, NAME_LABEL_JOB, s->name);
    if (serve && !jobspec_replicated(s)) /* of pods that share a model the one that answers */
        jsonw_str(&w, NAME_LABEL_REPLICA, "0");
    jsonw_close(&w);
    jsonw_open(&w, "ports", '[');
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "name", port_name);
    jsonw_int(&w, "port", serve ? NAME_PORT_SERVE : NAME_PORT_AGENT);
    jsonw_str(&w, "targetPort", port_name);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_close(&w);
    return end_object(&w, e);
}

int podspec_gang(const struct jobspec *s, int min_count, struct buf *out, struct err *e)
{
    struct jsonw w;
    open_object(&w, out, PODSPEC_GANG_API, "PodGroup");
    metadata(&w, s, s->name, -1, 0);
    jsonw_close(&w);
    jsonw_open(&w, "spec", '{');
    jsonw_open(&w, "schedulingPolicy", '{');
    jsonw_open(&w, "gang", '{');
    jsonw_int(&w, "minCount", min_count);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_close(&w);
    return end_object(&w, e);
}

int podspec_trial(
    const struct jobspec *s, const struct jobspec *trial, int index, struct buf *out, struct err *e)
{
    struct jsonw w;
    char number[16];
    snprintf(number, sizeof number, "%d", index);
    open_object(&w, out, NAME_API_VERSION, NAME_KIND);
    jsonw_open(&w, "metadata", '{');
    jsonw_str(&w, "name", trial->name);
    jsonw_str(&w, "namespace", s->namespace_);
    jsonw_open(&w, "labels", '{');
    jsonw_str(&w, NAME_LABEL_APP, "llmjob");
    jsonw_str(&w, NAME_LABEL_MANAGED, NAME_FIELD_OWNER);
    jsonw_str(&w, NAME_LABEL_SEARCH, s->name);
    jsonw_str(&w, NAME_LABEL_TRIAL, number);
    jsonw_close(&w);
    owner(&w, s);
    jsonw_close(&w);
    jobspec_write(trial, NULL, &w);
    return end_object(&w, e);
}

int podspec_secret(const struct jobspec *s, const char *token, struct buf *out, struct err *e)
{
    buf_auto struct buf file;
    struct jsonw w;
    char name[LIMIT_SUBDOMAIN_BYTES], generation[32];
    buf_init(&file, LIMIT_JOB_FILE_BYTES);
    int rc = jobspec_encode(s, &file, e);
    if (rc)
        return rc;
    snprintf(name, sizeof name, "%s" NAME_SECRET_SUFFIX, s->name);
    snprintf(generation, sizeof generation, "%lld", (long long)s->generation);
    open_object(&w, out, "v1", "Secret");
    metadata(&w, s, name, -1, 0);
    jsonw_open(&w, "annotations", '{');
    jsonw_str(&w, NAME_ANNOTATION_GENERATION, generation);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_open(&w, "stringData", '{');
    jsonw_strn(&w, NAME_JOB_FILE, buf_cstr(&file), file.len);
    if (token)
        jsonw_str(&w, NAME_TOKEN_FILE, token);
    jsonw_close(&w);
    return end_object(&w, e);
}
