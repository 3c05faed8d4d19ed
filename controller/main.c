/*
 * main: the operator's program: flags, the one loop, and the pass.
 *
 * Each turn starts what is due (watches, lease, questions to coordinators, passes) and then waits
 * in http_turn for the network, a signal or the next due time. A pass: observe -> plan -> apply; a
 * key is in one pass at a time, and the next waits until the caches show what the last one wrote.
 * Every replica keeps its caches warm; only the leader makes passes, and one that loses the lease
 * ends at once, so that two never write.
 */
#include "api/exitcode.h"
#include "api/names.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/secret.h"
#include "controller/apply.h"
#include "controller/coordinator.h"
#include "controller/dashboard.h"
#include "controller/kube/informer.h"
#include "controller/kube/kube.h"
#include "controller/kube/lease.h"
#include "controller/kube/workq.h"
#include "controller/observe.h"
#include "controller/plan/plan.h"
#include "controller/plan/podspec.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Requests; API servers allow 250 streams a connection, some 100 and we queue. */
#define IN_FLIGHT   160
#define PASSES      32 /* at a time */
#define SHARE       4  /* of one namespace: its requests leave room for others' */
#define PASS_BYTES  ((size_t)64 << 20)
#define NEWS_MS     50  /* news of a job come in bunches: one pass for all of them */
#define AGAIN_MS    20  /* after a pass that did something: to see whether that was all */
#define LOOK_MS     500 /* at caches that lag: they may catch up without news of the job */
#define GATHER_MS   20  /* of answers and news, as each look at them costs by what is in flight */
#define TURN_MS     1000
#define DISCOVER_MS 2000
#define GOODBYE_MS  3000

struct flags {
    const char *listen, *image, *image_cuda, *kubeconfig, *namespace_;
    const char *lease_namespace, *lease_name, *log_format, *log_level, *pod_access;
    bool leader_elect, watch_nodes;
};

static const struct conf_item flag_items[] = {
    {"listen", CONF_STR, offsetof(struct flags, listen), NAME_ENV_LISTEN, "0.0.0.0:8080",
        "address of /healthz, /readyz and /metrics"},
    {"image", CONF_STR, offsetof(struct flags, image), NAME_ENV_IMAGE, NULL,
        "image of jobs that name none: the controller's own"},
    {"image-cuda", CONF_STR, offsetof(struct flags, image_cuda), NAME_ENV_IMAGE_CUDA, "",
        "image of those on NVIDIA GPUs, with the CUDA plugin; default: --image"},
    {"kubeconfig", CONF_STR, offsetof(struct flags, kubeconfig), NULL, NULL,
        "kubeconfig file; default: $KUBECONFIG, else in-cluster, else ~/.kube/config"},
    {"namespace", CONF_STR, offsetof(struct flags, namespace_), NULL, NULL,
        "look after this namespace only"},
    {"lease-namespace", CONF_STR, offsetof(struct flags, lease_namespace), NULL, NULL,
        "namespace of the leader's lease; default: the controller's own"},
    {"lease-name", CONF_STR, offsetof(struct flags, lease_name), NULL, NAME_FIELD_OWNER,
        "name of the leader's lease"},
    {"leader-elect", CONF_BOOL, offsetof(struct flags, leader_elect), NULL, "true",
        "act only while holding the lease"},
    {"watch-nodes", CONF_BOOL, offsetof(struct flags, watch_nodes), NULL, "true",
        "false: without the right to watch nodes; pods on a lost one go when Kubernetes says so"},
    {"log-format", CONF_STR, offsetof(struct flags, log_format), NAME_ENV_LOG_FORMAT, "text",
        "text or json"},
    {"log-level", CONF_STR, offsetof(struct flags, log_level), NAME_ENV_LOG_LEVEL, "info",
        "debug, info, warn or error"},
    {"pod-access", CONF_STR, offsetof(struct flags, pod_access), NULL, "direct",
        "how agents are reached: direct, or proxy through the API server"},
    {0},
};

enum { JOBS, PODS, NODES, SERVICES, GANGS, INFORMERS };

static const struct {
    const char *name, *version, *kind, *plural, *selector;
    int (*changed_fn)(void *, const char *, const struct json *, struct err *);
    bool cluster_wide;
} kinds[INFORMERS] = {
    [JOBS] = {"jobs", NAME_API_VERSION, NAME_KIND, NAME_PLURAL, NULL, cluster_job_changed, false},
    [PODS] = {"pods", "v1", "Pod", "pods", NAME_LABEL_JOB, cluster_pod_changed, false},
    [NODES] = {"nodes", "v1", "Node", "nodes", NULL, cluster_node_changed, true},
    [SERVICES] = {"services", "v1", "Service", "services", NAME_LABEL_JOB, cluster_service_changed,
        false},
    [GANGS] = {"podgroups", PODSPEC_GANG_API, "PodGroup", "podgroups", NAME_LABEL_JOB,
        cluster_gang_changed, false},
};

#define SKIPPED(kind_) \
    { \
        .name = NAME_METRIC_SKIPPED, \
        .help = "Objects that could not be read, each time they came.", .kind = METRIC_COUNTER, \
        .labels = "kind=\"" kind_ "\"" \
    }
static struct metric skipped_total[INFORMERS] = {
    [JOBS] = SKIPPED("LLMJob"),
    [PODS] = SKIPPED("Pod"),
    [NODES] = SKIPPED("Node"),
    [SERVICES] = SKIPPED("Service"),
    [GANGS] = SKIPPED("PodGroup"),
};

static struct metric jobs_gauge = {
    .name = NAME_METRIC_JOBS, .help = "LLMJobs known.", .kind = METRIC_GAUGE};
static struct metric queue_gauge = {
    .name = NAME_METRIC_QUEUE, .help = "Jobs that wait for a pass.", .kind = METRIC_GAUGE};
static struct metric leader_gauge = {
    .name = NAME_METRIC_LEADER, .help = "1 while this process leads.", .kind = METRIC_GAUGE};
static struct metric pass_seconds = {.name = NAME_METRIC_PASS_SECONDS,
    .help = "Time to observe and plan one job.",
    .kind = METRIC_HISTOGRAM};

static const struct workq_conf pass_turns = {
    .share = SHARE, .backoff_first_ms = 100, .backoff_last_ms = 60000};

struct controller {
    struct flags flags;
    char identity[300];
    struct kube *kube;
    struct informer *informers[INFORMERS]; /* GANGS: NULL where not served, NODES: by flag */
    struct cluster *cluster;
    struct workq *queue;
    struct coordinators *coordinators;
    struct events *events;
    struct apply *apply;
    struct lease *lease; /* NULL without leader election */
    struct dashboard *dashboard;
    int signal_fd;
    bool stop, trimmed;
};

static void queue_pass(struct controller *c, const char *key, int64_t delay_ms)
{
    struct err e;
    if (workq_add_after(c->queue, key, delay_ms, &e))
        log_error("cannot queue a job", LOG_S("job", key), LOG_ERR(&e));
}

static void mark_dirty(void *user, const char *key)
{
    queue_pass(user, key, NEWS_MS);
}

/* -- the pass -- */

static void pass_failed(struct controller *c, const char *key, const struct err *e)
{
    char job[300]; /* the queue may drop its key */
    snprintf(job, sizeof job, "%s", key);
    int64_t backoff_ms = workq_done(c->queue, key, true);
    if (e->code != ERR_DRAINED)
        log_warn("pass failed", LOG_S("job", job), LOG_I("retry_ms", backoff_ms), LOG_ERR(e));
}

static void pass_done(void *user, const char *key, int rc, const struct err *e, int64_t again_ms)
{
    struct controller *c = user;
    if (rc) {
        pass_failed(c, key, e);
        return;
    }
    bool soon = again_ms >= 0 && again_ms < AGAIN_MS;
    queue_pass(c, key, soon ? again_ms : AGAIN_MS);
    workq_done(c->queue, key, false);
}

/* What was written last must have come back first, or the pass would decide on the past. */
static bool caches_lag(const struct controller *c, const struct memory *m, int64_t *left_ms)
{
    static const int kind[WAITS] = {JOBS, PODS, SERVICES, GANGS};
    bool lag = false;
    for (int i = 0; i < WAITS; i++)
        lag |= m->wait[i] && informer_version(c->informers[kind[i]]) < m->wait[i];
    *left_ms = m->wait_until_ms - clock_ms();
    return lag && *left_ms > 0;
}

/* key: of the agent; pod: NULL where there is none. */
static int aim_at_pod(struct controller *c, const char *key, const struct memory *m,
    const struct observed *o, const struct observed_pod *pod, int ranks, struct err *e)
{
    if (!pod || !m->token)
        return coordinator_aim(c->coordinators, key, NULL, e);
    char token[SECRET_TOKEN_BYTES];
    int rc = secret_of_pod(m->token, pod->pod->uid, token, e);
    if (rc)
        return rc;
    const struct coordinator_target t = {.namespace_ = o->job->spec.namespace_,
        .pod = pod->pod->name,
        .uid = pod->pod->uid,
        .ip = pod->pod->ip,
        .token = token,
        .restarts = pod->pod->restarts,
        .ranks = ranks,
        .ready = pod->pod->ready};
    return coordinator_aim(c->coordinators, key, &t, e);
}

/* Points the questions at the live pod of replica 0 and adds what it says to the snapshot. */
static int ask_coordinator(
    struct controller *c, const char *key, struct memory *m, struct observed *o, struct err *e)
{
    int rc = aim_at_pod(
        c, key, m, o, observed_coordinator(o), o->pod_count * o->job->spec.device.per_replica, e);
    if (rc)
        return rc;
    struct coordinator_view view;
    coordinator_look(c->coordinators, key, &view);
    o->report = view.report;
    o->report_is_current = view.current;
    o->unreachable_ms = view.unreachable_ms;
    o->desired_sent = view.desired;
    if (view.unauthorized)
        o->secret_generation = m->secret_generation = -1; /* read the token again */
    return 0;
}

/* The pod of a replica that can be asked, or NULL. */
static struct observed_pod *asked_pod(const struct observed *o, int replica)
{
    for (int i = 0; i < o->pod_count; i++)
        if (o->pods[i].pod->replica == replica && observed_runs(&o->pods[i]))
            return &o->pods[i];
    return NULL;
}

/* Each pod of a replicated job coordinates itself. */
static int ask_pods(
    struct controller *c, const char *key, struct memory *m, struct observed *o, struct err *e)
{
    int before = m->agents;
    m->agents = 0;
    for (int i = 0; i < o->pod_count; i++)
        if (o->pods[i].pod->replica >= m->agents)
            m->agents = o->pods[i].pod->replica + 1;
    for (int i = 0; i < m->agents || i < before; i++) {
        char agent[COORDINATOR_KEY_BYTES];
        struct coordinator_view view;
        struct observed_pod *pod = asked_pod(o, i);
        coordinator_key(key, i, agent);
        int rc = aim_at_pod(c, agent, m, o, pod, 1, e);
        if (rc)
            return rc;
        coordinator_look(c->coordinators, agent, &view);
        if (view.unauthorized)
            o->secret_generation = m->secret_generation = -1;
        if (!pod)
            continue;
        pod->report = view.report;
        pod->desired_sent = view.desired;
        o->report = o->report ? o->report : view.report;
        if (pod->pod->ready && view.unreachable_ms > o->unreachable_ms)
            o->unreachable_ms = view.unreachable_ms;
    }
    return 0;
}

static struct plan *new_plan(struct err *e)
{
    struct plan *p = mem_zalloc(sizeof *p);
    if (p && (p->arena = arena_create(PASS_BYTES)))
        return p;
    mem_free(p);
    err_set(e, ERR_MEMORY, "no memory for a pass");
    return NULL;
}

static void free_plan(struct plan *p)
{
    if (p)
        arena_destroy(p->arena);
    mem_free(p);
}

/* Ends a key's turn without a run. */
static void end_turn(struct controller *c, const char *key, int64_t again_ms)
{
    if (again_ms >= 0)
        queue_pass(c, key, again_ms);
    workq_done(c->queue, key, false);
}

/* For a job that names none. */
static const char *image_for_job(const struct flags *f, const struct jobspec *s)
{
    const char *kind = device_kind(s->device.resource);
    return kind && !strcmp(kind, "cuda") && *f->image_cuda ? f->image_cuda : f->image;
}

/* Observes and plans; *job is NULL when there is none of that key. */
static int decide(struct controller *c, const char *key, struct memory *m, struct plan *p,
    const struct job **job, struct err *e)
{
    struct observed o;
    int rc = cluster_observe(c->cluster, key, p->arena, &o, e);
    if (rc <= 0)
        return rc;
    *job = o.job;
    o.image = image_for_job(&c->flags, &o.job->spec);
    o.gangs = c->informers[GANGS] != NULL;
    rc = o.job->valid && jobspec_replicated(&o.job->spec) ? ask_pods(c, key, m, &o, e)
                                                          : ask_coordinator(c, key, m, &o, e);
    return rc ? rc : plan_llmjob(&o, p, e);
}

static void pass_over_job(struct controller *c, const char *key)
{
    struct memory *m = cluster_memory(c->cluster, key);
    struct err e = {0};
    if (!m) {
        coordinator_forget(c->coordinators, key);
        end_turn(c, key, -1);
        return;
    }
    int64_t left_ms;
    if (caches_lag(c, m, &left_ms)) {
        end_turn(c, key, left_ms < LOOK_MS ? left_ms : LOOK_MS);
        return;
    }
    int64_t began_ns = clock_ns();
    const struct job *job = NULL;
    struct plan *p = new_plan(&e);
    int rc = p ? decide(c, key, m, p, &job, &e) : -(int)e.code;
    metric_observe(&pass_seconds, (double)(clock_ns() - began_ns) / 1e9);
    if (!rc && p->count) {
        apply_start(c->apply, key, job, p);
        return;
    }
    int64_t again_ms = p ? p->again_ms : -1;
    free_plan(p);
    if (rc)
        pass_failed(c, key, &e);
    else
        end_turn(c, key, again_ms);
}

static bool caches_synced(const struct controller *c)
{
    for (int i = 0; i < INFORMERS; i++)
        if (c->informers[i] && !informer_synced(c->informers[i]))
            return false;
    return true;
}

static bool is_leader(const struct controller *c)
{
    return !c->lease || lease_state(c->lease) == LEASE_HELD;
}

static void make_passes(struct controller *c)
{
    const char *key;
    if (!caches_synced(c) || !is_leader(c))
        return;
    if (!c->trimmed) {
        malloc_trim(0); /* the first lists pass through memory that is not needed again */
        c->trimmed = true;
    }
    while (apply_running(c->apply) < PASSES && (key = workq_take(c->queue)))
        pass_over_job(c, key);
}

/* -- the loop -- */

/* Objects that nobody can read, to those who can mend them. */
static void tell_skipped(struct controller *c)
{
    const struct informer_skipped *s;
    for (int i = 0; i < INFORMERS; i++) {
        if (!c->informers[i])
            continue;
        while ((s = informer_untold(c->informers[i]))) {
            char text[400];
            const struct skim *o = &s->object;
            const struct events_about about = {
                kinds[i].version, kinds[i].kind, o->namespace_, o->name, o->uid};
            snprintf(text, sizeof text,
                "the llmjob controller cannot read this object and goes on without it: %s", s->why);
            if (*o->name)
                events_post(c->events, &about, true, NAME_REASON_SKIPPED, text, NULL, NULL);
        }
    }
}

static void take_sooner(int64_t *next_ms, int64_t due_ms)
{
    if (due_ms >= 0 && due_ms < *next_ms)
        *next_ms = due_ms;
}

static void read_signals(struct controller *c)
{
    struct signalfd_siginfo s;
    while (read(c->signal_fd, &s, sizeof s) == (ssize_t)sizeof s) {
        log_info("stopping", LOG_I("signal", s.ssi_signo));
        c->stop = true;
    }
}

static int turn_loop(struct controller *c, struct err *e)
{
    int64_t next = clock_ms() + TURN_MS;
    for (int i = 0; i < INFORMERS; i++)
        if (c->informers[i])
            take_sooner(&next, informer_turn(c->informers[i]));
    if (c->lease)
        take_sooner(&next, lease_turn(c->lease));
    if (c->lease && lease_state(c->lease) == LEASE_LOST)
        return err_set(e, ERR_PEER, "the lease is lost");
    make_passes(c);
    if (is_leader(c)) {
        tell_skipped(c);
        take_sooner(&next, coordinators_turn(c->coordinators));
        if (caches_synced(c) && apply_running(c->apply) < PASSES)
            take_sooner(&next, workq_next_ms(c->queue));
    }
    dashboard_beat(c->dashboard, caches_synced(c));
    metric_set(&jobs_gauge, (double)informer_count(c->informers[JOBS]));
    metric_set(&queue_gauge, (double)workq_waiting(c->queue));
    metric_set(&leader_gauge, is_leader(c));
    int rc = http_turn(kube_http(c->kube), &c->signal_fd, 1, next - clock_ms(), e);
    read_signals(c);
    return rc;
}

static int run_loop(struct controller *c, struct err *e)
{
    int rc = 0;
    while (!c->stop && !rc)
        rc = turn_loop(c, e);
    if (rc || !c->lease || lease_state(c->lease) != LEASE_HELD)
        return rc;
    /* Let what is under way end and hand the lease over, but not for long. */
    int64_t deadline = clock_ms() + GOODBYE_MS;
    while (!rc && apply_running(c->apply) && clock_ms() < deadline)
        rc = http_turn(kube_http(c->kube), NULL, 0, 50, e);
    lease_release(c->lease);
    while (!rc && !lease_idle(c->lease) && clock_ms() < deadline)
        rc = http_turn(kube_http(c->kube), NULL, 0, 50, e);
    return rc;
}

/* -- start -- */

struct discovery {
    bool done, gangs;
    struct err error;
};

static void gangs_discovered(void *user, const struct http_response *r)
{
    struct discovery *d = user;
    d->done = true;
    if (r->status == 404)
        return;
    json_auto struct json *v = NULL;
    if (kube_check(r, &d->error) || json_parse(r->body, r->len, &v, &d->error))
        return;
    json_each (resource, json_get(v, "resources")) {
        d->gangs |= !strcmp(json_str(resource, "name", ""), "podgroups");
    }
}

/* Does this API server know PodGroups? Asked until it answers, or a signal comes. */
static int discover_gangs(struct controller *c, bool *gangs, struct err *e)
{
    while (!c->stop) {
        struct discovery d = {0};
        const struct kube_call call = {.method = "GET",
            .path = "/apis/" PODSPEC_GANG_API,
            .done_fn = gangs_discovered,
            .user = &d};
        int rc = kube_start(c->kube, &call, e);
        while (!rc && !d.done)
            rc = http_turn(kube_http(c->kube), &c->signal_fd, 1, TURN_MS, e);
        if (rc)
            return rc;
        read_signals(c);
        if (d.error.code == ERR_NONE) {
            *gangs = d.gangs;
            return 0;
        }
        log_warn("the API server does not answer", LOG_S("server", kube_server(c->kube)),
            LOG_ERR(&d.error));
        rc = http_turn(kube_http(c->kube), &c->signal_fd, 1, DISCOVER_MS, e);
        if (rc)
            return rc;
        read_signals(c);
    }
    return err_set(e, ERR_DRAINED, "stopped while starting");
}

static void write_path(const struct controller *c, int kind, char *out, size_t size)
{
    const char *version = kinds[kind].version, *plural = kinds[kind].plural;
    const char *root = strchr(version, '/') ? "/apis/" : "/api/";
    const char *ns = c->flags.namespace_;
    if (ns && *ns && !kinds[kind].cluster_wide)
        snprintf(out, size, "%s%s/namespaces/%s/%s", root, version, ns, plural);
    else
        snprintf(out, size, "%s%s/%s", root, version, plural);
}

static int make_informers(struct controller *c, bool gangs, struct err *e)
{
    if (!c->flags.watch_nodes)
        cluster_without_nodes(c->cluster);
    for (int i = 0; i < INFORMERS; i++) {
        if ((i == GANGS && !gangs) || (i == NODES && !c->flags.watch_nodes))
            continue;
        char path[512];
        write_path(c, i, path, sizeof path);
        const struct informer_conf conf = {.name = kinds[i].name,
            .path = path,
            .selector = kinds[i].selector,
            .changed_fn = kinds[i].changed_fn,
            .user = c->cluster,
            .skipped = &skipped_total[i]};
        metric_register(&skipped_total[i]);
        int rc = informer_create(c->kube, &conf, &c->informers[i], e);
        if (rc)
            return rc;
    }
    return 0;
}

static int make_identity(struct controller *c, struct err *e)
{
    unsigned char salt[4];
    char host[200] = "unknown", hex[2 * sizeof salt + 1];
    gethostname(host, sizeof host - 1);
    int rc = io_random(salt, sizeof salt, e);
    if (rc)
        return rc;
    io_hex(salt, sizeof salt, hex);
    snprintf(c->identity, sizeof c->identity, "%s_%s", host, hex);
    return 0;
}

static int check_flags(const struct flags *f, struct err *e)
{
    enum log_level level;
    int rc = log_level_parse(f->log_level, &level, e);
    if (rc)
        return rc;
    if (strcmp(f->log_format, "text") != 0 && strcmp(f->log_format, "json") != 0)
        return err_set(e, ERR_USER, "--log-format: text or json");
    if (strcmp(f->pod_access, "direct") != 0 && strcmp(f->pod_access, "proxy") != 0)
        return err_set(e, ERR_USER, "--pod-access: direct or proxy");
    if (!f->image || !*f->image)
        return err_set(e, ERR_USER, "--image: which image should jobs run?");
    log_setup("llmjob-controller", level, !strcmp(f->log_format, "json"));
    return 0;
}

static int make_signals(struct controller *c, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    c->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return c->signal_fd < 0 ? err_sys(e, ERR_BUG, errno, "signalfd") : 0;
}

/* Signals, probes, and the API server, whose first answer is awaited. */
static int make_connections(struct controller *c, bool *gangs, struct err *e)
{
    int rc = make_signals(c, e);
    if (rc)
        return rc;
    rc = make_identity(c, e);
    if (rc)
        return rc;
    const struct kube_conf kube = {.kubeconfig = c->flags.kubeconfig,
        .max_in_flight = IN_FLIGHT,
        .gather_ms = GATHER_MS,
        .user_agent = "llmjob-controller/" LLMJOB_VERSION};
    rc = kube_create(&kube, &c->kube, e);
    if (rc)
        return rc;
    rc = dashboard_start(c->flags.listen, &c->dashboard, e);
    return rc ? rc : discover_gangs(c, gangs, e);
}

static int make_parts(struct controller *c, struct err *e)
{
    bool proxy = !strcmp(c->flags.pod_access, "proxy");
    int rc = workq_create(&pass_turns, &c->queue, e);
    if (rc)
        return rc;
    rc = cluster_create(mark_dirty, c, &c->cluster, e);
    if (rc)
        return rc;
    rc = coordinators_create(c->kube, proxy, NAME_PORT_AGENT, mark_dirty, c, &c->coordinators, e);
    if (rc)
        return rc;
    rc = events_create(c->kube, c->identity, &c->events, e);
    if (rc)
        return rc;
    const struct apply_conf apply = {.kube = c->kube,
        .coordinators = c->coordinators,
        .cluster = c->cluster,
        .events = c->events,
        .done_fn = pass_done,
        .user = c};
    return apply_create(&apply, &c->apply, e);
}

static int make_lease(struct controller *c, struct err *e)
{
    const struct flags *f = &c->flags;
    if (!f->leader_elect)
        return 0;
    bool named = f->lease_namespace && *f->lease_namespace;
    const char *ns = named ? f->lease_namespace : kube_namespace(c->kube);
    return lease_create(c->kube, ns, f->lease_name, c->identity, &c->lease, e);
}

static int make_controller(struct controller *c, struct err *e)
{
    struct metric *const metrics[] = {&jobs_gauge, &queue_gauge, &leader_gauge, &pass_seconds};
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        metric_register(metrics[i]);
    bool gangs = false;
    int rc = make_connections(c, &gangs, e);
    if (rc)
        return rc;
    rc = make_parts(c, e);
    if (rc)
        return rc;
    rc = make_informers(c, gangs, e);
    if (rc)
        return rc;
    rc = make_lease(c, e);
    if (rc)
        return rc;
    log_info("started", LOG_S("version", LLMJOB_VERSION), LOG_S("server", kube_server(c->kube)),
        LOG_I("gangs", gangs), LOG_S("pod_access", c->flags.pod_access));
    return 0;
}

static void destroy_controller(struct controller *c)
{
    kube_destroy(c->kube); /* first: it ends every request, and with them the runs */
    for (int i = 0; i < INFORMERS; i++)
        informer_destroy(c->informers[i]);
    lease_destroy(c->lease);
    apply_destroy(c->apply);
    events_destroy(c->events);
    coordinators_destroy(c->coordinators);
    cluster_destroy(c->cluster);
    workq_destroy(c->queue);
    dashboard_stop(c->dashboard);
    io_close(c->signal_fd);
}

static int run_program(struct controller *c, struct err *e)
{
    int rc = check_flags(&c->flags, e);
    if (rc)
        return rc;
    rc = make_controller(c, e);
    return rc ? rc : run_loop(c, e);
}

int main(int argc, char **argv)
{
    struct controller c = {.signal_fd = -1};
    struct err e = {0};
    log_setup("llmjob-controller", LOG_INFO, false);
    int rc = conf_load(flag_items, argc, argv, &c.flags, &e);
    if (rc == 0)
        return 0;
    if (rc > 0)
        rc = rc < argc ? err_set(&e, ERR_USER, "unexpected argument \"%s\"", argv[rc])
                       : run_program(&c, &e);
    if (rc && e.code != ERR_DRAINED)
        log_error("ended", LOG_ERR(&e));
    destroy_controller(&c);
    conf_done();
    return rc ? (int)exit_class_of(e.code == ERR_DRAINED ? ERR_NONE : e.code) : 0;
}
