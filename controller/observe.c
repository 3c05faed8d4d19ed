/*
 * observe: the caches behind the snapshot. Pods hang under the job that their label names, whether
 * or not that job is known yet; a place without job and pods is dropped. Lost pods are counted
 * here, because only the step from one version of a pod to the next shows them. Makes no request
 * and decides nothing.
 */
#include "controller/observe.h"

#include "api/names.h"
#include "api/search.h"
#include "base/clock.h"
#include "base/table.h"

#define KEY_BYTES          600
#define FAILURES_FORGET_MS 600000

struct cluster_place { /* one job's */
    struct job *job;   /* or NULL: pods of a job not seen yet, or gone */
    struct pod **pods;
    int count, cap;
    struct owned *service, *gang;
    struct memory memory;
};

struct cluster {
    struct table places;   /* "namespace/job" -> struct cluster_place */
    struct table pod_jobs; /* "namespace/pod" -> struct cluster_place's key, owned */
    struct table nodes;    /* name -> struct node */
    bool nodes_unknown;    /* they are not watched: none is taken for lost */
    cluster_dirty_fn *dirty_fn;
    void *user;
};

int cluster_create(cluster_dirty_fn *fn, void *user, struct cluster **out, struct err *e)
{
    struct cluster *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for the caches");
    c->dirty_fn = fn;
    c->user = user;
    *out = c;
    return 0;
}

void cluster_without_nodes(struct cluster *c)
{
    c->nodes_unknown = true;
}

static void forget_memory(struct memory *m)
{
    mem_free(m->token);
    *m = (struct memory){.secret_generation = -1};
}

static void place_free(struct cluster_place *p)
{
    job_free(p->job);
    for (int i = 0; i < p->count; i++)
        pod_free(p->pods[i]);
    mem_free(p->pods);
    mem_free(p->service);
    mem_free(p->gang);
    forget_memory(&p->memory);
    mem_free(p);
}

void cluster_destroy(struct cluster *c)
{
    if (!c)
        return;
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&c->places, &at, &key, &v);)
        place_free(v);
    for (size_t at = 0; table_next(&c->pod_jobs, &at, &key, &v);)
        mem_free(v);
    for (size_t at = 0; table_next(&c->nodes, &at, &key, &v);)
        mem_free(v);
    table_done(&c->places);
    table_done(&c->pod_jobs);
    table_done(&c->nodes);
    mem_free(c);
}

static struct cluster_place *find_or_make(struct cluster *c, const char *key, struct err *e)
{
    struct cluster_place *p = table_get(&c->places, key);
    if (p)
        return p;
    p = mem_zalloc(sizeof *p);
    if (!p) {
        err_set(e, ERR_MEMORY, "no memory for a job");
        return NULL;
    }
    forget_memory(&p->memory);
    if (table_put(&c->places, key, p, e)) {
        mem_free(p);
        return NULL;
    }
    return p;
}

static void drop_if_empty(struct cluster *c, const char *key)
{
    struct cluster_place *p = table_get(&c->places, key);
    if (!p || p->job || p->count || p->service || p->gang)
        return;
    table_remove(&c->places, key);
    place_free(p);
}

/* -- changes -- */

/* News of a trial is news of its search. */
static void mark_owner(struct cluster *c, const struct job *j)
{
    char key[KEY_BYTES];
    if (!j || !*j->owner)
        return;
    snprintf(key, sizeof key, "%s/%s", j->spec.namespace_, j->owner);
    if (table_get(&c->places, key))
        c->dirty_fn(c->user, key);
}

int cluster_job_changed(void *user, const char *key, const struct json *object, struct err *e)
{
    struct cluster *c = user;
    struct job *j = NULL;
    if (object) {
        int rc = decode_job(object, &j, e);
        if (rc)
            return rc;
    }
    struct cluster_place *p = find_or_make(c, key, e);
    if (!p) {
        job_free(j);
        return -(int)ERR_MEMORY;
    }
    /* Another object of the same name: what is remembered speaks of the old one. */
    if (!j || (p->job && strcmp(p->job->spec.uid, j->spec.uid) != 0))
        forget_memory(&p->memory);
    mark_owner(c, j ? j : p->job);
    job_free(p->job);
    p->job = j;
    c->dirty_fn(c->user, key);
    drop_if_empty(c, key);
    return 0;
}

static struct pod **find_pod(struct cluster_place *p, const char *name)
{
    for (int i = 0; p && i < p->count; i++)
        if (!strcmp(p->pods[i]->name, name))
            return &p->pods[i];
    return NULL;
}

/* A pod that fails, or goes although nobody had asked it to, counts towards the back-off of
 * replacements. */
static void count_failure(struct cluster_place *p, const struct pod *old, const struct pod *new)
{
    bool failed = new &&new->phase == POD_FAILED && old->phase != POD_FAILED;
    bool vanished =
        !new && !old->deleting && old->phase != POD_FAILED && old->phase != POD_SUCCEEDED;
    struct memory *m = &p->memory;
    if (!failed && !vanished)
        return;
    if (clock_ms() - m->failure_ms > FAILURES_FORGET_MS)
        m->failures = 0;
    m->failures++;
    m->failure_ms = clock_ms();
}

static int add_pod(struct cluster_place *p, struct pod *pod, struct err *e)
{
    if (p->count == p->cap) {
        int cap = p->cap ? p->cap * 2 : 4;
        struct pod **pods = mem_grow(p->pods, (size_t)cap, sizeof *pods);
        if (!pods)
            return err_set(e, ERR_MEMORY, "no memory for pods");
        p->pods = pods;
        p->cap = cap;
    }
    p->pods[p->count++] = pod;
    return 0;
}

static int insert_pod(struct cluster *c, struct cluster_place *p, const char *key,
    const char *job_key, struct pod *pod, struct err *e)
{
    mem_autofree char *copy = mem_strdup(job_key);
    if (!copy || table_put(&c->pod_jobs, key, copy, e))
        return err_set(e, ERR_MEMORY, "no memory for pods");
    int rc = add_pod(p, pod, e);
    if (rc)
        table_remove(&c->pod_jobs, key);
    else
        copy = NULL;
    return rc;
}

static void remove_pod(struct cluster *c, const char *key, const char *name)
{
    char *job_key = table_remove(&c->pod_jobs, key);
    if (!job_key)
        return;
    struct cluster_place *p = table_get(&c->places, job_key);
    struct pod **at = find_pod(p, name);
    if (at) {
        count_failure(p, *at, NULL);
        pod_free(*at);
        *at = p->pods[--p->count];
    }
    c->dirty_fn(c->user, job_key);
    drop_if_empty(c, job_key);
    mem_free(job_key);
}

int cluster_pod_changed(void *user, const char *key, const struct json *object, struct err *e)
{
    struct cluster *c = user;
    if (!object) {
        const char *slash = strchr(key, '/');
        remove_pod(c, key, slash ? slash + 1 : key);
        return 0;
    }
    struct pod *pod = NULL;
    int rc = decode_pod(object, &pod, e);
    if (rc)
        return rc;
    char job_key[KEY_BYTES];
    snprintf(job_key, sizeof job_key, "%s/%s", pod->namespace_, pod->job);
    const char *before = table_get(&c->pod_jobs, key);
    if (before && strcmp(before, job_key) != 0)
        remove_pod(c, key, pod->name);
    struct cluster_place *p = find_or_make(c, job_key, e);
    struct pod **at = find_pod(p, pod->name);
    if (at && pod_same(*at, pod)) {
        pod_free(pod); /* nothing that a pass looks at */
        return 0;
    }
    if (at) {
        count_failure(p, *at, strcmp((*at)->uid, pod->uid) ? NULL : pod);
        pod_free(*at);
        *at = pod;
    } else {
        rc = p ? insert_pod(c, p, key, job_key, pod, e)
               : err_set(e, ERR_MEMORY, "no memory for pods");
        if (rc) {
            pod_free(pod);
            return rc;
        }
    }
    c->dirty_fn(c->user, job_key);
    return 0;
}

static void mark_jobs_on(struct cluster *c, const char *node)
{
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&c->places, &at, &key, &v);) {
        const struct cluster_place *p = v;
        for (int i = 0; i < p->count; i++)
            if (!strcmp(p->pods[i]->node, node)) {
                c->dirty_fn(c->user, key);
                break;
            }
    }
}

int cluster_node_changed(void *user, const char *key, const struct json *object, struct err *e)
{
    struct cluster *c = user;
    struct node *n = table_get(&c->nodes, key);
    bool ready = object && decode_node_ready(object);
    bool same = n && object && n->ready == ready;
    if (!object) {
        mem_free(table_remove(&c->nodes, key));
    } else if (n) {
        n->ready = ready;
    } else {
        n = mem_zalloc(sizeof *n);
        if (!n)
            return err_set(e, ERR_MEMORY, "no memory for a node");
        n->ready = ready;
        int rc = table_put(&c->nodes, key, n, e);
        if (rc) {
            mem_free(n);
            return rc;
        }
    }
    if (!same)
        mark_jobs_on(c, key);
    return 0;
}

static int owned_changed(
    struct cluster *c, const char *key, const struct json *object, size_t offset, struct err *e)
{
    struct cluster_place *p = find_or_make(c, key, e);
    struct owned *o = object ? mem_alloc(sizeof *o) : NULL;
    if (!p || (object && !o)) {
        mem_free(o);
        return err_set(e, ERR_MEMORY, "no memory for an object");
    }
    if (object)
        decode_owned(object, o);
    struct owned **at = (struct owned **)((char *)p + offset);
    mem_free(*at);
    *at = o;
    c->dirty_fn(c->user, key);
    drop_if_empty(c, key);
    return 0;
}

int cluster_service_changed(void *user, const char *key, const struct json *object, struct err *e)
{
    return owned_changed(user, key, object, offsetof(struct cluster_place, service), e);
}

int cluster_gang_changed(void *user, const char *key, const struct json *object, struct err *e)
{
    return owned_changed(user, key, object, offsetof(struct cluster_place, gang), e);
}

/* -- looking -- */

const struct job *cluster_job(const struct cluster *c, const char *key)
{
    const struct cluster_place *p = table_get(&c->places, key);
    return p ? p->job : NULL;
}

struct memory *cluster_memory(struct cluster *c, const char *key)
{
    struct cluster_place *p = table_get(&c->places, key);
    return p && p->job ? &p->memory : NULL;
}

/* Is there one? */
static bool add_trial(
    struct cluster *c, const struct job *parent, int trial, int rung, struct observed_trial *out)
{
    const struct jobspec *s = &parent->spec;
    char name[SEARCH_NAME_BYTES], key[KEY_BYTES];
    search_name(s, trial, rung, name);
    snprintf(key, sizeof key, "%s/%s", s->namespace_, name);
    const struct job *j = cluster_job(c, key);
    if (!j || strcmp(j->owner_uid, s->uid) != 0)
        return false;
    *out = (struct observed_trial){j, trial, rung};
    return true;
}

/* Their names are known: no list of a job's trials is kept. */
static int observe_trials(struct cluster *c, const struct job *parent, struct arena *a,
    struct observed *out, struct err *e)
{
    const struct jobspec *s = &parent->spec;
    if (!parent->valid || !search_wanted(s))
        return 0;
    struct observed_trial *trials = arena_array(a, SEARCH_RUNS + 1, sizeof *trials);
    if (!trials)
        return err_set(e, ERR_MEMORY, "no memory for a snapshot");
    int n = 0, most = search_trials(s), rungs = search_rungs(s);
    for (int i = 0; i < rungs * most && n < SEARCH_RUNS; i++)
        n += add_trial(c, parent, i % most, i / most, &trials[n]);
    n += add_trial(c, parent, SEARCH_MODEL, SEARCH_MODEL, &trials[n]);
    out->trials = trials;
    out->trial_count = n;
    return 0;
}

static int by_replica(const void *a, const void *b)
{
    const struct observed_pod *x = a, *y = b;
    if (x->pod->replica != y->pod->replica)
        return x->pod->replica < y->pod->replica ? -1 : 1;
    return strcmp(x->pod->name, y->pod->name);
}

static bool node_lost(const struct cluster *c, const char *name)
{
    if (c->nodes_unknown || !*name)
        return false;
    const struct node *n = table_get(&c->nodes, name);
    return !n || !n->ready;
}

static int64_t age_ms(int64_t since_ms)
{
    return since_ms ? clock_ms() - since_ms : INT64_MAX;
}

int cluster_observe(
    struct cluster *c, const char *key, struct arena *a, struct observed *out, struct err *e)
{
    struct cluster_place *p = table_get(&c->places, key);
    if (!p || !p->job)
        return 0;
    const struct memory *m = &p->memory;
    struct observed_pod *pods = arena_array(a, (size_t)p->count + 1, sizeof *pods);
    if (!pods)
        return err_set(e, ERR_MEMORY, "no memory for a snapshot");
    for (int i = 0; i < p->count; i++)
        pods[i] = (struct observed_pod){
            .pod = p->pods[i],
            .ours = !strcmp(p->pods[i]->owner_uid, p->job->spec.uid),
            .node_lost = node_lost(c, p->pods[i]->node),
        };
    qsort(pods, (size_t)p->count, sizeof *pods, by_replica);
    *out = (struct observed){
        .now_ms = clock_wall_ms(),
        .job = p->job,
        .pods = pods,
        .pod_count = p->count,
        .image = "",
        .service = p->service,
        .gang = p->gang,
        .secret_generation = m->secret_generation,
        .secret_age_ms = age_ms(m->secret_seen_ms),
        .failures = age_ms(m->failure_ms) > FAILURES_FORGET_MS ? 0 : m->failures,
        .failure_age_ms = age_ms(m->failure_ms),
        .status_age_ms = age_ms(m->status_written_ms),
        .trouble = m->trouble,
    };
    int rc = observe_trials(c, p->job, a, out, e);
    return rc ? rc : 1;
}
