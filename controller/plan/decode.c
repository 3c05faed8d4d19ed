/*
 * decode: one function a kind. A pod, of which there may be 100,000, is one block: the struct, then
 * its strings. A job that api/jobspec refuses is kept with the sentence that says why, so that its
 * status can say so too. No I/O, no decision.
 */
#include "controller/plan/decode.h"

#include "api/names.h"
#include "base/mem.h"

#include <stddef.h>

#define JOB_BYTES     ((size_t)16 << 20)  /* more than any object that the parser takes needs */
#define INVALID_BYTES ((size_t)256 << 10) /* kept of a job that is refused */
#define NAME_BYTES    253                 /* as the API bounds them */
#define MESSAGE_BYTES 512 /* of the kubelet and the scheduler; a longer one is cut */

static const struct json *controller_of(const struct json *meta)
{
    json_each (owner, json_get(meta, "ownerReferences"))
        if (json_bool(owner, "controller", false))
            return owner;
    return NULL;
}

static const char *owner_uid(const struct json *meta)
{
    return json_str(controller_of(meta), "uid", "");
}

/* -- LLMJob -- */

static struct arena *fresh_arena(struct job *j, size_t limit)
{
    arena_destroy(j->arena);
    return j->arena = arena_create(limit);
}

static const char *short_name(
    struct arena *a, const struct json *object, const char *key, const char *def)
{
    return arena_printf(a, "%.*s", NAME_BYTES, json_str(object, key, def));
}

static int keep_invalid(struct job *j, const struct json *object, struct err *e)
{
    const struct json *meta = json_get(object, "metadata");
    struct jobspec *s = &j->spec;
    *s = (struct jobspec){0};
    if (!fresh_arena(j, INVALID_BYTES))
        return err_set(e, ERR_MEMORY, "no memory for a job");
    s->name = short_name(j->arena, meta, "name", "");
    s->namespace_ = short_name(j->arena, meta, "namespace", "");
    s->uid = short_name(j->arena, meta, "uid", "");
    s->managed_by = short_name(j->arena, json_get(object, "spec"), "managedBy", NAME_CONTROLLER);
    s->generation = json_int(meta, "generation", 0);
    if (!s->name || !s->namespace_ || !s->uid || !s->managed_by)
        return err_set(e, ERR_MEMORY, "no memory for a job");
    return 0;
}

/* The spec, or why it is none. */
static int read_spec(struct job *j, const struct json *object, struct err *e)
{
    struct err why = {0};
    int rc = jobspec_decode(object, j->arena, &j->spec, &why);
    j->valid = !rc;
    if (!rc)
        return 0;
    snprintf(j->problem, sizeof j->problem, "%s", why.text);
    return rc == -ERR_MEMORY ? err_set(e, ERR_MEMORY, "no memory for a job")
                             : keep_invalid(j, object, e);
}

/* Only another LLMJob: whatever else owns a job is no affair of ours. */
static int read_owner(struct job *j, const struct json *meta, struct err *e)
{
    const struct json *owner = controller_of(meta);
    bool ours = !strcmp(json_str(owner, "kind", ""), NAME_KIND) &&
        !strcmp(json_str(owner, "apiVersion", ""), NAME_API_VERSION);
    j->owner = short_name(j->arena, ours ? owner : NULL, "name", "");
    j->owner_uid = short_name(j->arena, ours ? owner : NULL, "uid", "");
    return j->owner && j->owner_uid ? 0 : err_set(e, ERR_MEMORY, "no memory for a job");
}

int decode_job(const struct json *object, struct job **out, struct err *e)
{
    struct job *j = mem_zalloc(sizeof *j);
    if (!j || !fresh_arena(j, JOB_BYTES)) {
        job_free(j);
        return err_set(e, ERR_MEMORY, "no memory for a job");
    }
    int rc = read_spec(j, object, e);
    if (!rc)
        rc = read_owner(j, json_get(object, "metadata"), e);
    if (rc) {
        job_free(j);
        return rc;
    }
    j->deleting = json_path(object, "metadata.deletionTimestamp") != NULL;
    status_decode(json_get(object, "status"), j->arena, &j->status);
    *out = j;
    return 0;
}

void job_free(struct job *j)
{
    if (!j)
        return;
    arena_destroy(j->arena);
    mem_free(j);
}

/* -- Pod -- */

static const size_t pod_strings[] = {
    offsetof(struct pod, namespace_),
    offsetof(struct pod, job),
    offsetof(struct pod, name),
    offsetof(struct pod, uid),
    offsetof(struct pod, owner_uid),
    offsetof(struct pod, node),
    offsetof(struct pod, ip),
    offsetof(struct pod, blocked_reason),
    offsetof(struct pod, blocked_message),
    offsetof(struct pod, exit_reason),
};
#define POD_STRINGS (sizeof pod_strings / sizeof *pod_strings)

static const char **string_at(struct pod *p, size_t i)
{
    return (const char **)((char *)p + pod_strings[i]);
}

static const char *string_of(const struct pod *p, size_t i)
{
    return *string_at((struct pod *)p, i);
}

bool pod_same(const struct pod *a, const struct pod *b)
{
    for (size_t i = 0; i < POD_STRINGS; i++)
        if (strcmp(string_of(a, i), string_of(b, i)) != 0)
            return false;
    return a->replica == b->replica && a->revision == b->revision && a->phase == b->phase &&
        a->ready == b->ready && a->deleting == b->deleting && a->restarts == b->restarts &&
        a->exit_code == b->exit_code;
}

static size_t kept_length(const char *s)
{
    return strnlen(s, MESSAGE_BYTES);
}

/* Moves a pod whose strings are borrowed from the tree into a block of its own. */
static struct pod *pod_pack(struct pod *borrowed)
{
    size_t size = sizeof *borrowed;
    for (size_t i = 0; i < POD_STRINGS; i++)
        size += kept_length(*string_at(borrowed, i)) + 1;
    struct pod *p = mem_alloc(size);
    if (!p)
        return NULL;
    *p = *borrowed;
    char *text = (char *)(p + 1);
    for (size_t i = 0; i < POD_STRINGS; i++) {
        size_t n = kept_length(*string_at(borrowed, i));
        memcpy(text, *string_at(borrowed, i), n);
        text[n] = 0;
        *string_at(p, i) = text;
        text += n + 1;
    }
    return p;
}

static enum pod_phase phase_of(const char *name)
{
    static const char *const names[] = {"Pending", "Running", "Succeeded", "Failed"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i]))
            return (enum pod_phase)i;
    return POD_UNKNOWN;
}

static bool one_of(const char *s, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(s, *names))
            return true;
    return false;
}

static void read_container(const struct json *container, struct pod *p)
{
    static const char *const image[] = {
        "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", NULL};
    static const char *const normal[] = {"ContainerCreating", "PodInitializing", "", NULL};
    const struct json *waiting = json_path(container, "state.waiting");
    const struct json *ended = json_path(container, "state.terminated");
    const char *reason = json_str(waiting, "reason", "");
    p->restarts = (int)json_int(container, "restartCount", 0);
    if (!one_of(reason, normal)) {
        p->blocked_reason = one_of(reason, image) ? NAME_REASON_IMAGE : reason;
        p->blocked_message = json_str(waiting, "message", reason);
    }
    if (!ended)
        ended = json_path(container, "lastState.terminated");
    if (ended) {
        p->exit_code = (int)json_int(ended, "exitCode", -1);
        p->exit_reason = json_str(ended, "reason", "");
    }
}

static void read_conditions(const struct json *status, struct pod *p)
{
    json_each (c, json_get(status, "conditions")) {
        const char *type = json_str(c, "type", "");
        bool yes = !strcmp(json_str(c, "status", ""), "True");
        if (!strcmp(type, "Ready"))
            p->ready = yes;
        if (!strcmp(type, "PodScheduled") && !yes) {
            p->blocked_reason = NAME_REASON_UNSCHEDULABLE;
            p->blocked_message = json_str(c, "message", "");
        }
    }
}

int decode_pod(const struct json *object, struct pod **out, struct err *e)
{
    const struct json *meta = json_get(object, "metadata");
    const struct json *labels = json_get(meta, "labels");
    const struct json *status = json_get(object, "status");
    const char *replica = json_str(labels, NAME_LABEL_REPLICA, "-1");
    struct pod p = {
        .namespace_ = json_str(meta, "namespace", ""),
        .job = json_str(labels, NAME_LABEL_JOB, ""),
        .name = json_str(meta, "name", ""),
        .uid = json_str(meta, "uid", ""),
        .owner_uid = owner_uid(meta),
        .node = json_str(json_get(object, "spec"), "nodeName", ""),
        .ip = json_str(status, "podIP", ""),
        .blocked_reason = "",
        .blocked_message = "",
        .exit_reason = "",
        .phase = phase_of(json_str(status, "phase", "Pending")),
        .deleting = json_get(meta, "deletionTimestamp") != NULL,
        .exit_code = -1,
    };
    char *end;
    long n = strtol(replica, &end, 10);
    p.replica = *replica && !*end && n >= 0 && n <= LIMIT_REPLICAS ? (int)n : -1;
    p.revision = strtoull(json_str(labels, NAME_LABEL_REVISION, "0"), NULL, 16);
    read_conditions(status, &p);
    json_each (container, json_get(status, "containerStatuses")) {
        if (!strcmp(json_str(container, "name", ""), NAME_CONTAINER))
            read_container(container, &p);
    }
    if (p.phase == POD_FAILED) {
        p.blocked_reason = json_str(status, "reason", NAME_REASON_POD_FAILED);
        p.blocked_message = json_str(status, "message", "");
    }
    *out = pod_pack(&p);
    return *out ? 0 : err_set(e, ERR_MEMORY, "no memory for a pod");
}

void pod_free(struct pod *p)
{
    mem_free(p);
}

/* -- the rest -- */

bool decode_node_ready(const struct json *object)
{
    json_each (c, json_path(object, "status.conditions")) {
        if (!strcmp(json_str(c, "type", ""), "Ready"))
            return !strcmp(json_str(c, "status", ""), "True");
    }
    return false;
}

void decode_owned(const struct json *object, struct owned *out)
{
    const struct json *meta = json_get(object, "metadata");
    *out = (struct owned){
        .deleting = json_get(meta, "deletionTimestamp") != NULL,
        .min_count = (int)json_int(json_path(object, "spec.schedulingPolicy.gang"), "minCount", 0),
    };
    snprintf(out->owner_uid, sizeof out->owner_uid, "%s", owner_uid(meta));
}
