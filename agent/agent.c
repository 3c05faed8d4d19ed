/*
 * agent: the program llmjob-agent: PID 1 of a pod, or one of several on loopback. Reads its
 * configuration and the job folder once, wires the modules to one loop (base/web), turns it until
 * the job is released or the pod is asked to go, and exits.
 *
 *   llmjob-agent [flags]           run
 *   llmjob-agent [flags] report    print the local coordinator's report
 *
 * SIGTERM drains: training stops at a step boundary with a checkpoint, serving finishes what is in
 * flight, after a while in which requests are still taken from those who have not heard of it. A
 * second one kills; so does SIGHUP, which says that whoever started the agent is gone.
 * SIGCHLD collects ranks and inherited orphans.
 */
#include "agent/agent.h"

#include "agent/edit.h"
#include "agent/forward.h"
#include "agent/front.h"
#include "agent/gate.h"
#include "agent/lead.h"
#include "agent/member.h"
#include "agent/mesh.h"
#include "agent/monitor.h"
#include "agent/proc.h"
#include "agent/roster.h"
#include "agent/status.h"
#include "base/clock.h"
#include "base/conf.h"
#include "api/exitcode.h"
#include "api/incarnation.h"
#include "base/http.h"
#include "base/io.h"
#include "api/jobspec.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "api/names.h"
#include "base/net.h"
#include "base/secret.h"
#include "base/web.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_MS       100
#define FLUSH_MS      300 /* last messages of a leaving agent */
#define TOKEN_BYTES   256
/* Of the control door: controller, coordinator, probes and Prometheus need a handful. */
#define CONTROL_SLOTS 128
#define CONTROL_BYTES (24 << 20) /* two desired states or reports at their limit */

struct agent_conf {
    const char *job_dir, *run_dir, *listen, *serve_listen, *pod, *pod_uid, *node, *rank_program;
    const char *log_level;
    bool log_json, alone;
    int64_t replica, listen_fd, linger_seconds;
};

static const struct conf_item items[] = {
    {"job-dir", CONF_STR, offsetof(struct agent_conf, job_dir), NAME_ENV_JOB_DIR, NAME_JOB_DIR,
        "folder with " NAME_JOB_FILE " and " NAME_TOKEN_FILE},
    {"run-dir", CONF_STR, offsetof(struct agent_conf, run_dir), NAME_ENV_RUN_DIR, NAME_RUN_DIR,
        "writable folder for state that survives a restart of the container"},
    {"listen", CONF_STR, offsetof(struct agent_conf, listen), NAME_ENV_LISTEN, "0.0.0.0:7070",
        "control address"},
    {"listen-fd", CONF_INT, offsetof(struct agent_conf, listen_fd), NULL, "0",
        "inherited socket that listens at the control address; 0: none"},
    {"serve-listen", CONF_STR, offsetof(struct agent_conf, serve_listen), NAME_ENV_SERVE_LISTEN,
        "0.0.0.0:8000", "address of the OpenAI API"},
    {"replica", CONF_INT, offsetof(struct agent_conf, replica), NAME_ENV_REPLICA, "0",
        "index of this pod; 0 coordinates"},
    {"pod", CONF_STR, offsetof(struct agent_conf, pod), NAME_ENV_POD, "", "name of this pod"},
    {"pod-uid", CONF_STR, offsetof(struct agent_conf, pod_uid), NAME_ENV_POD_UID, "", "its UID"},
    {"node", CONF_STR, offsetof(struct agent_conf, node), NAME_ENV_NODE, "", "name of its node"},
    {"alone", CONF_BOOL, offsetof(struct agent_conf, alone), NAME_ENV_ALONE, NULL,
        "serve by the job file, without a word of the controller"},
    {"linger-seconds", CONF_INT, offsetof(struct agent_conf, linger_seconds), NAME_ENV_LINGER, "0",
        "how long an agent that serves takes requests after it was asked to go"},
    {"rank-program", CONF_STR, offsetof(struct agent_conf, rank_program), NAME_ENV_RANK_PROGRAM, "",
        "the rank's program; default: llmjob-rank beside this one, else in " NAME_LIB_DIR},
    {"log-level", CONF_STR, offsetof(struct agent_conf, log_level), NAME_ENV_LOG_LEVEL, "info",
        "debug, info, warn or error"},
    {"log-json", CONF_BOOL, offsetof(struct agent_conf, log_json), NAME_ENV_LOG_JSON, NULL,
        "one JSON object a line"},
    {0},
};

struct agent {
    struct agent_conf conf;
    struct arena *arena;
    struct jobspec spec;
    char job_file[LIMIT_PATH_BYTES], rank_program[LIMIT_PATH_BYTES];
    char token[TOKEN_BYTES];
    struct api_keys keys;               /* of the OpenAI API */
    char pod_token[SECRET_TOKEN_BYTES]; /* what the controller presents */
    struct net_address listen, serve;
    struct web *web;
    struct procs *procs;
    struct monitor *monitor; /* NULL: nothing is watched */
    struct forward *forward; /* NULL: nothing is routed */
    struct front *front;
    struct member *member;
    struct gate *gate;
    struct lead *lead;
    struct agent_status status;
    struct roster roster; /* of the adapters of a served model */
    struct edit edit;
    int signals;
    bool leaving;
    int64_t leave_ms; /* when ranks are told that it leaves, 0: not asked to, or they are */
    int64_t flush_ms; /* when the loop may end, 0: not yet */
};

/* -- configuration -- */

static int read_address(const char *text, const char *flag, struct net_address *out, struct err *e)
{
    return net_parse(text, out) && *out->host
        ? 0
        : err_set(e, ERR_USER, "--%s: \"%s\" is no host:port", flag, text);
}

/* A short secret on one line. */
static int read_secret(const char *dir, const char *file, char out[TOKEN_BYTES], struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    buf_init(&text, TOKEN_BYTES);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int rc = io_read_file(path, TOKEN_BYTES - 1, &text, e);
    if (rc)
        return rc;
    size_t n = strcspn(buf_cstr(&text), "\r\n");
    if (n == 0)
        return err_set(e, ERR_USER, "%s is empty", path);
    snprintf(out, TOKEN_BYTES, "%.*s", (int)n, text.data);
    return 0;
}

static int read_keys(const char *dir, struct api_keys *out, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    buf_init(&text, LIMIT_API_KEYS_BYTES + 1);
    snprintf(path, sizeof path, "%s/%s", dir, NAME_API_KEY_FILE);
    int rc = io_read_file(path, LIMIT_API_KEYS_BYTES, &text, e);
    return rc ? rc : keys_read(buf_cstr(&text), text.len, out, e);
}

static int find_rank_program(struct agent *a, struct err *e)
{
    if (a->conf.rank_program[0]) {
        snprintf(a->rank_program, sizeof a->rank_program, "%s", a->conf.rank_program);
        return 0;
    }
    char self[LIMIT_PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 32);
    char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;
    if (!slash)
        return err_set(e, ERR_USER, "--rank-program is needed");
    snprintf(slash + 1, 32, "llmjob-rank");
    bool beside = access(self, X_OK) == 0;
    snprintf(
        a->rank_program, sizeof a->rank_program, "%s", beside ? self : NAME_LIB_DIR "/llmjob-rank");
    return 0;
}

/* The job file of one who serves alone is what it was when the pod began, but for what it is told
 * of edits: a later one is of pods that take its place. The copy outlives the container. */
static int keep_job_file(struct agent *a, struct err *e)
{
    char kept[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    snprintf(kept, sizeof kept, "%s/%s", a->conf.run_dir, NAME_JOB_FILE);
    buf_init(&text, LIMIT_JOB_FILE_BYTES);
    int rc = io_mkdirs(a->conf.run_dir, 0700, e);
    if (!rc && !io_exists(kept) &&
        !(rc = io_read_file(a->job_file, LIMIT_JOB_FILE_BYTES, &text, e)))
        rc = io_write_file(kept, buf_cstr(&text), text.len, 0600, e);
    memcpy(a->job_file, kept, sizeof kept);
    return rc;
}

static int read_job(struct agent *a, struct err *e)
{
    snprintf(a->job_file, sizeof a->job_file, "%s/%s", a->conf.job_dir, NAME_JOB_FILE);
    int rc = a->conf.alone ? keep_job_file(a, e) : 0;
    if (rc)
        return rc;
    a->arena = arena_create(4 << 20);
    if (!a->arena)
        return err_set(e, ERR_MEMORY, "out of memory");
    if (jobspec_load(a->job_file, a->arena, &a->spec, e))
        return err_wrap(e, "%s", a->job_file);
    if (a->spec.task == TASK_SERVE && a->spec.serve.api_key_secret)
        return read_keys(a->conf.job_dir, &a->keys, e);
    return 0;
}

/* 0: nobody has written there. So is what no writer left: rank 0, which must claim the folder,
 * refuses it, and its words reach the job's status. */
static int64_t checkpoint_incarnation(const struct jobspec *spec)
{
    char file[LIMIT_PATH_BYTES];
    int64_t n = 0;
    if (spec->checkpoint.path && !incarnation_path(spec->checkpoint.path, file, NULL) &&
        incarnation_read(spec->checkpoint.path, &n, NULL))
        log_warn("no incarnation in it", LOG_S("file", file));
    return n;
}

/* -- signals -- */

static void on_signal(void *user, int fd)
{
    struct agent *a = user;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            procs_reap(a->procs);
            continue;
        }
        if (a->leaving || info.ssi_signo == SIGHUP) { /* asked twice, or alone: now */
            a->flush_ms = clock_ms();
            continue;
        }
        log_info("asked to go: draining");
        a->leaving = true;
        a->leave_ms = clock_ms();
        if (a->front && front_serving(a->front) && a->conf.linger_seconds > 0) {
            front_leave(a->front);
            a->leave_ms += 1000 * a->conf.linger_seconds;
        }
    }
}

static int watch_signals(struct agent *a, struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (a->signals < 0)
        return err_set(e, ERR_BUG, "signalfd is not available");
    return web_watch_fd(a->web, a->signals, on_signal, a, e);
}

/* -- wiring -- */

static int no_rank(void *user, enum wire_type type, const char *json)
{
    (void)user;
    (void)type;
    (void)json;
    return -ERR_PEER;
}

static int create_front(struct agent *a, struct err *e)
{
    if (a->spec.task != TASK_SERVE || a->conf.replica != 0) /* rank 0 answers, in its pod */
        return 0;
    const struct forward_conf route = {.web = a->web,
        .serve = &a->spec.serve,
        .pod = a->conf.pod,
        .uid = a->conf.pod_uid,
        .of = {a->token, a->spec.uid},
        .keys = &a->keys,
        .idle_ms = FORWARD_IDLE_MS};
    int rc = monitor_create(&a->spec, a->conf.job_dir, a->conf.run_dir, &a->monitor, e);
    if (!rc && a->spec.serve.routing.prefix_affinity && a->conf.alone)
        rc = forward_create(&route, &a->forward, e);
    if (rc || (rc = roster_init(&a->roster, &a->spec.serve, e)))
        return rc;
    struct front_conf conf = {.web = a->web,
        .listen_host = a->serve.host,
        .listen_port = a->serve.port,
        .model = a->spec.serve.model_name,
        .roster = &a->roster,
        .keys = &a->keys,
        .monitor = a->monitor,
        .forward = a->forward,
        .max_queue = a->spec.serve.max_queue,
        .max_queue_tokens = a->spec.serve.max_queue_tokens,
        .max_at_rank = a->spec.serve.max_sequences + LIMIT_RANK_REQUESTS - LIMIT_RANK_TURNS,
        .max_turns = LIMIT_RANK_TURNS,
        .send_fn = no_rank};
    return front_create(&conf, &a->front, e);
}

static int create_member(struct agent *a, int64_t incarnation, struct err *e)
{
    struct member_conf conf = {.procs = a->procs,
        .front = a->front,
        .spec = &a->spec,
        .job_file = a->job_file,
        .rank_program = a->rank_program,
        .bind_host = a->listen.host,
        .run_dir = a->conf.run_dir,
        .replica = (int)a->conf.replica,
        .pod = a->conf.pod,
        .uid = a->conf.pod_uid,
        .node = a->conf.node,
        .incarnation = incarnation};
    return member_create(&conf, &a->member, e);
}

static int create_lead(struct agent *a, int64_t incarnation, struct err *e)
{
    if (a->conf.replica != 0)
        return 0;
    struct lead_conf conf = {.web = a->web,
        .spec = &a->spec,
        .of = {a->token, a->spec.uid},
        .uid = a->conf.pod_uid,
        .run_dir = a->conf.run_dir,
        .self_host = net_near(a->listen.host),
        .self_port = a->listen.port,
        .serve_port = a->serve.port,
        .incarnation = incarnation,
        .term = member_term(a->member)};
    return lead_create(&conf, &a->lead, e);
}

/* Probes come here too: a door of its own, so that clients of the API take nothing from them. */
static int open_control(struct agent *a, struct err *e)
{
    struct web_door door = {.host = a->listen.host,
        .port = a->listen.port,
        .listener = (int)a->conf.listen_fd,
        .request_fn = status_request,
        .admit_fn = status_admit,
        .user = &a->status,
        .slots = CONTROL_SLOTS,
        .body_limit = LIMIT_REPORT_BYTES,
        .memory = CONTROL_BYTES};
    return web_open(a->web, &door, &a->listen.port, e);
}

static int create(struct agent *a, struct err *e)
{
    struct web_conf wc = {
        .body_limit = LIMIT_FRAME_BYTES, .max_connections = LIMIT_REPLICAS + 1024};
    int64_t incarnation = checkpoint_incarnation(&a->spec);
    const struct proof_identity of = {a->token, a->spec.uid};
    int rc;
    if ((rc = io_mkdirs(a->conf.run_dir, 0700, e)) || (rc = web_create(&wc, &a->web, e)) ||
        (rc = procs_create(a->web, &a->procs, e)) || (rc = watch_signals(a, e)) ||
        (rc = create_front(a, e)) || (rc = create_member(a, incarnation, e)) ||
        (rc = gate_create(
             a->web, &of, a->conf.pod_uid, &member_link_fns, a->member, &a->gate, e)) ||
        (rc = open_control(a, e)) || (rc = create_lead(a, incarnation, e)))
        return rc;
    a->status = (struct agent_status){.token = a->pod_token,
        .lead = a->lead,
        .front = a->front,
        .forward = a->forward,
        .monitor = a->monitor,
        .member = a->member,
        .edit = &a->edit};
    a->edit = (struct edit){.spec = &a->spec,
        .roster = a->front ? &a->roster : NULL,
        .run_dir = a->conf.run_dir,
        .job_file = a->job_file};
    status_register();
    return 0;
}

static void destroy(struct agent *a)
{
    procs_destroy(a->procs);
    forward_destroy(a->forward);
    web_destroy(a->web);
    lead_destroy(a->lead);
    gate_destroy(a->gate);
    member_destroy(a->member);
    front_destroy(a->front);
    roster_done(&a->roster);
    edit_done(&a->edit);
    monitor_destroy(a->monitor);
    io_close(a->signals);
    arena_destroy(a->arena);
}

/* What a controller would say of a world of this pod alone. */
static int order_itself(struct agent *a, struct err *e)
{
    struct desired_member self = {0, a->conf.pod, a->conf.pod_uid, a->conf.node, ""};
    const struct desired d = {.generation = a->spec.generation,
        .term = 1,
        .replicas = 1,
        .elastic = a->spec.elastic,
        .restart = a->spec.restart,
        .health = a->spec.health,
        .members = &self,
        .member_count = 1};
    if (!a->conf.alone)
        return 0;
    if (!a->lead || !jobspec_replicated(&a->spec))
        return err_set(e, ERR_USER, "--alone: only replica 0 of a model that is served whole");
    return lead_desired(a->lead, &d, e);
}

/* -- the loop -- */

static bool may_end(const struct agent *a)
{
    bool idle = !member_busy(a->member) && !(a->front && front_in_flight(a->front));
    return idle && !a->leave_ms &&
        (a->leaving || member_released(a->member) ||
            (a->lead && (lead_released(a->lead) || lead_over(a->lead))));
}

static int run(struct agent *a, struct err *e)
{
    while (!a->flush_ms || clock_ms() < a->flush_ms) {
        int rc = web_turn(a->web, TURN_MS, e);
        if (rc)
            return rc;
        forward_tick(a->forward);
        int64_t now_ms = clock_ms();
        procs_tick(a->procs, now_ms);
        if (a->leave_ms && now_ms >= a->leave_ms) {
            a->leave_ms = 0;
            member_leave(a->member, now_ms);
        }
        gate_tick(a->gate, now_ms);
        member_tick(a->member, now_ms);
        monitor_tick(a->monitor, now_ms);
        if (a->lead)
            lead_tick(a->lead, now_ms);
        if (!a->flush_ms && may_end(a))
            a->flush_ms = now_ms + FLUSH_MS;
    }
    return a->lead && lead_over(a->lead)
        ? err_set(e, ERR_DRAINED, "another coordinator has taken over")
        : 0;
}

static int print_report(const struct agent *a, struct err *e)
{
    char address[NET_TEXT_BYTES], url[NET_TEXT_BYTES + 16];
    net_write(net_near(a->listen.host), a->listen.port, address);
    snprintf(url, sizeof url, "http://%s" NAME_PATH_JOB, address);
    buf_auto struct buf out;
    buf_init(&out, LIMIT_REPORT_BYTES);
    struct http_request r = {
        .method = "GET", .url = url, .bearer = a->pod_token, .timeout_ms = 5000};
    int status = http_once(&(struct http_conf){0}, &r, &out, e);
    if (status < 0)
        return status;
    if (status != 200)
        return err_set(e, ERR_USER, "the agent answers %d: %.150s", status, buf_cstr(&out));
    printf("%s\n", buf_cstr(&out));
    return 0;
}

/* Ranks do not have it. */
static int take_listener(int64_t fd, struct err *e)
{
    int listens = 0;
    if (!fd)
        return 0;
    if (fd < 0 || fd > INT_MAX ||
        getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof listens}) ||
        !listens || fcntl((int)fd, F_SETFD, FD_CLOEXEC))
        return err_set(e, ERR_USER, "--listen-fd: %lld is no socket that listens", (long long)fd);
    return 0;
}

/* What the flags say must hold before anything is read. */
static int check_flags(struct agent *a, struct err *e)
{
    if (a->conf.replica < 0 || a->conf.replica >= LIMIT_REPLICAS)
        return err_set(e, ERR_USER, "--replica is out of range");
    if (!*a->conf.pod_uid || strlen(a->conf.pod_uid) >= LIMIT_NAME_BYTES)
        return err_set(e, ERR_USER, "--pod-uid must have 1 to %d bytes", LIMIT_NAME_BYTES - 1);
    int rc = take_listener(a->conf.listen_fd, e);
    if (rc)
        return rc;
    rc = read_address(a->conf.listen, "listen", &a->listen, e);
    return rc ? rc : read_address(a->conf.serve_listen, "serve-listen", &a->serve, e);
}

/* rest: of the arguments, where the flags end, or a negative code. */
static int act(struct agent *a, int argc, char **argv, int rest, struct err *e)
{
    enum log_level level = LOG_INFO;
    int rc = rest < 0 ? rest : log_level_parse(a->conf.log_level, &level, e);
    log_setup("llmjob-agent", level, a->conf.log_json);
    if (rc)
        return rc;
    bool report = rest < argc && !strcmp(argv[rest], "report");
    if (rest + report < argc)
        return err_set(e, ERR_USER, "unknown argument \"%s\"", argv[rest + report]);
    if ((rc = check_flags(a, e)) ||
        (rc = read_secret(a->conf.job_dir, NAME_TOKEN_FILE, a->token, e)) ||
        (rc = secret_of_pod(a->token, a->conf.pod_uid, a->pod_token, e)))
        return rc;
    if (report)
        return print_report(a, e);
    if ((rc = read_job(a, e)) || (rc = find_rank_program(a, e)) || (rc = create(a, e)) ||
        (rc = order_itself(a, e)))
        return rc;
    return run(a, e);
}

int agent_main(int argc, char **argv)
{
    struct agent a = {.signals = -1};
    struct err e = {0};
    int rest = conf_load(items, argc, argv, &a.conf, &e);
    if (rest == 0)
        return EXIT_CLASS_DONE;
    int rc = act(&a, argc, argv, rest, &e);
    if (rc)
        log_error("the agent ends", LOG_ERR(&e));
    destroy(&a);
    return (int)exit_class_of(rc ? e.code : ERR_NONE);
}
