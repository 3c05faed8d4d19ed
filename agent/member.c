/*
 * member: a prepare that comes while older ranks live waits until the last of them is gone, so the
 * coordinator may hurry without ever mixing incarnations in a pod. A run task (agent/run_task) has
 * no frames: its ranks are "prepared" as soon as a port is chosen and are started only then.
 */
#include "agent/member.h"

#include "agent/canary.h"
#include "agent/mesh.h"
#include "agent/run_task.h"
#include "agent/term.h"
#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BEAT_MS      1000
#define LEAVE_MS     25000 /* below the usual 30 s that a pod gets to end */
#define RUN_DRAIN_MS 20000 /* SIGTERM to SIGKILL of a run task that is asked to stop */
#define SECRET_BYTES 129
#define COPIES_BYTES ((off_t)1 << 50) /* sparse; what ranks put there is all it takes */

extern char **environ;

struct local { /* a rank of this pod */
    struct member *member;
    int index;
    struct proc *proc; /* NULL: not started, or gone */
    bool ready;
    uint16_t port;
    bool failed; /* it sent WIRE_FAILED */
    enum exit_class failed_class;
    char failed_message[256];
    uint64_t beats;   /* last seen on the page */
    int64_t beats_ms; /* when they moved */
    int64_t idle_ms; /* since when it says that it is idle though a request waits; 0: it does not */
};

enum member_phase { WAITING, PREPARING, PREPARED, STARTED };

struct order {           /* a prepare */
    int64_t incarnation; /* 0: none */
    int ranks, first_rank;
    char secret[SECRET_BYTES];
};

struct member {
    struct member_conf conf;
    struct web_socket *link;
    struct term term;     /* of the coordinator that is followed, or was last */
    int64_t link_lost_ms; /* 0: it is open */
    int64_t greatest, incarnation;
    enum member_phase phase;
    struct order next; /* waits until the ranks before it are gone */
    char secret[SECRET_BYTES];
    int ranks, first_rank, alive;
    struct local local[LIMIT_RANKS_PER_REPLICA];
    int64_t beat_due_ms;
    int64_t drain_ms; /* a serving rank is told to stop when the front is idle, at the latest
                         then */
    bool released;
    int64_t leave_ms; /* when patience with the coordinator ends, 0: not leaving */
    int copies_fd;    /* memory that outlives ranks, and not this agent; -1: none */
    char *serving;    /* what the rank said of itself while its first answer is awaited, or NULL */
    int64_t asked_ms; /* since when it is */
};

static void adopt(struct member *m);

/* Nothing is read or written here: the ranks' slots lie at places that they know. */
static int make_copies(const struct jobspec *s, int *fd, struct err *e)
{
    *fd = -1;
    if (s->task != TASK_TRAIN || !s->checkpoint.in_memory_every_steps)
        return 0;
    *fd = memfd_create("llmjob-copies", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, COPIES_BYTES))
        return err_sys(e, ERR_RETRY, errno, "making memory that outlives ranks");
    return 0;
}

int member_create(const struct member_conf *conf, struct member **out, struct err *e)
{
    struct member *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "out of memory");
    m->conf = *conf;
    m->greatest = conf->incarnation;
    term_load(conf->run_dir, &m->term);
    int rc = make_copies(conf->spec, &m->copies_fd, e);
    if (rc) {
        member_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

void member_destroy(struct member *m)
{
    if (!m)
        return;
    io_close(m->copies_fd);
    mem_free(m->serving);
    mem_free(m);
}

static void tell(struct member *m, const struct mesh_msg *msg)
{
    if (m->link)
        mesh_send(m->link, msg);
}

static void stop_ranks(struct member *m, int64_t grace_ms)
{
    for (int i = 0; i < m->ranks; i++)
        if (m->local[i].proc)
            proc_stop(m->local[i].proc, grace_ms);
}

/* -- a rank's end -- */

static void all_gone(struct member *m)
{
    tell(m, &(struct mesh_msg){.type = MESH_ENDED, .incarnation = m->incarnation});
    m->drain_ms = 0;
    m->phase = WAITING;
    if (m->next.incarnation)
        adopt(m);
}

static void tell_exit(struct member *m, const struct local *l, const struct proc_exit *x)
{
    /* A rank that said why it failed knows better than its exit status. */
    enum exit_class c = l->failed && !x->signal ? l->failed_class : x->class_;
    log_info("rank ended", LOG_I("incarnation", m->incarnation),
        LOG_I("rank", m->first_rank + l->index), LOG_I("status", x->status),
        LOG_S("class", err_code_name(exit_class_code((int)c))),
        LOG_S("message", l->failed_message));
    tell(m,
        &(struct mesh_msg){.type = MESH_EXIT,
            .incarnation = m->incarnation,
            .local = l->index,
            .class_ = c,
            .signal = x->signal,
            .asked = x->asked,
            .message = l->failed_message,
            .log_tail = x->log_tail});
}

static void on_rank_exit(void *user, struct proc *p, const struct proc_exit *x)
{
    struct local *l = user;
    struct member *m = l->member;
    (void)p;
    l->proc = NULL;
    m->alive--;
    mem_free(m->serving);
    m->serving = NULL;
    if (m->conf.front && l->index == 0)
        front_lost(m->conf.front);
    tell_exit(m, l, x);
    if (!m->alive)
        all_gone(m);
}

/* -- a rank's frames -- */

static void on_ready(struct member *m, struct local *l, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    int64_t port = -1;
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e) == 0)
        port = json_int(v, "port", -1);
    if (port < 0 || port > 65535) {
        log_warn("a rank named no port", LOG_I("rank", m->first_rank + l->index));
        proc_stop(l->proc, 0);
        return;
    }
    l->ready = true;
    l->port = (uint16_t)port;
    struct mesh_msg msg = {
        .type = MESH_PREPARED, .incarnation = m->incarnation, .port_count = m->ranks};
    for (int i = 0; i < m->ranks; i++) {
        if (!m->local[i].ready)
            return;
        msg.ports[i] = m->local[i].port;
    }
    if (m->phase == PREPARING) {
        m->phase = PREPARED;
        tell(m, &msg);
    }
}

static void on_failed(struct local *l, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e))
        return;
    l->failed = true;
    /* The class travels as a name or as an exit status. */
    const char *name = json_str(v, "class", NULL);
    l->failed_class = name ? exit_class_of(err_code_parse(name))
                           : exit_class_of(exit_class_code((int)json_int(v, "class", 72)));
    snprintf(l->failed_message, sizeof l->failed_message, "%s", json_str(v, "message", ""));
}

static void relay(struct member *m, const struct local *l, const struct wire_frame *frame)
{
    /* Parsed here, so that what one rank garbles never reaches the coordinator. */
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e)) {
        log_warn("a rank's frame is no JSON", LOG_I("type", frame->type), LOG_ERR(&e));
        return;
    }
    tell(m,
        &(struct mesh_msg){.type = MESH_FRAME,
            .incarnation = m->incarnation,
            .local = l->index,
            .frame = frame->type,
            .payload_json = frame->data});
}

/* Rank 0 takes requests: the agent's own comes first. */
static void on_serving(struct member *m, struct local *l, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    buf_auto struct buf ask;
    buf_init(&ask, 1024);
    mem_free(m->serving);
    m->serving = mem_strdup(frame->data);
    m->asked_ms = clock_ms();
    if (m->serving && !json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e) &&
        !canary_write(wire_does_of(json_str(v, "does", "")), &ask, &e) &&
        !proc_send(l->proc, WIRE_REQUEST, ask.data, &e))
        return;
    log_error("the model cannot be asked", LOG_ERR(&e));
    stop_ranks(m, MEMBER_GRACE_MS);
}

/* It has answered: clients may come, and the coordinator is told. */
static void open_front(struct member *m, struct local *l)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    mem_autofree char *text = m->serving;
    m->serving = NULL;
    size_t n = strlen(text);
    int rc = json_parse_within(text, n, LIMIT_FRAME_VALUES, &v, &e);
    front_does(m->conf.front, wire_does_of(json_str(v, "does", "")),
        (struct openai_members){(int)json_int(v, "members", 0), (int)json_int(v, "of", 0)});
    if (rc ||
        front_ready(m->conf.front, json_int(v, "context_length", 0),
            wire_calls_of(json_str(v, "calls", "")), &e)) {
        log_error("the API cannot be opened", LOG_ERR(&e));
        stop_ranks(m, MEMBER_GRACE_MS);
        return;
    }
    relay(m, l, &(struct wire_frame){.type = WIRE_SERVING, .data = text, .len = (uint32_t)n});
}

static void on_answer(struct member *m, struct local *l, const struct wire_frame *frame)
{
    char why[256];
    enum canary_says says = m->serving ? canary_hear(frame, why) : CANARY_NOTHING;
    l->idle_ms = 0;
    if (says == CANARY_NOTHING)
        front_frame(m->conf.front, frame);
    if (says == CANARY_REFUSED) /* by a model that is asked otherwise: it hears and speaks */
        log_warn("the model refused the first request", LOG_S("message", why));
    if (says == CANARY_ANSWERED || says == CANARY_REFUSED)
        open_front(m, l);
}

static void on_rank_frame(void *user, struct proc *p, const struct wire_frame *frame)
{
    struct local *l = user;
    struct member *m = l->member;
    (void)p;
    switch (frame->type) {
    case WIRE_READY:
        on_ready(m, l, frame);
        break;
    case WIRE_FAILED:
        on_failed(l, frame);
        break;
    case WIRE_ADAPTERS:
    case WIRE_INDEXED:
        if (m->conf.front)
            front_frame(m->conf.front, frame);
        break;
    case WIRE_TOKEN:
    case WIRE_LOGPROBS:
    case WIRE_FINISHED:
        if (m->conf.front)
            on_answer(m, l, frame);
        break;
    case WIRE_SERVING:
        if (m->conf.front && l->index == 0)
            on_serving(m, l, frame);
        else
            relay(m, l, frame);
        break;
    default:
        relay(m, l, frame);
        break;
    }
}

/* -- starting ranks -- */

static void tell_not_started(struct member *m, struct local *l, const struct err *e)
{
    snprintf(l->failed_message, sizeof l->failed_message, "%s", e->text);
    l->failed = true;
    l->failed_class = exit_class_of(e->code);
    tell_exit(m, l, &(struct proc_exit){.log_tail = ""});
}

static int spawn_one(
    struct member *m, struct local *l, char *const *argv, char *const *env, struct err *e)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "[rank %d] ", m->first_rank + l->index);
    struct proc_conf conf = {.argv = argv,
        .env = env,
        .prefix = prefix,
        .wire = m->conf.spec->task != TASK_RUN,
        .copies_fd = m->copies_fd,
        .frame_fn = on_rank_frame,
        .exit_fn = on_rank_exit,
        .user = l};
    int rc = procs_spawn(m->conf.procs, &conf, &l->proc, e);
    if (rc == 0) {
        m->alive++;
        l->beats_ms = clock_ms();
    }
    return rc;
}

static int send_prepare(struct member *m, struct local *l, struct err *e)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_FRAME_BYTES);
    struct jsonw w;
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "job_file", m->conf.job_file);
    jsonw_int(&w, "incarnation", m->incarnation);
    jsonw_str(&w, "secret", m->secret);
    jsonw_int(&w, "rank_local", l->index);
    jsonw_int(&w, "local_world", m->ranks);
    jsonw_int(&w, "replica", m->conf.replica);
    jsonw_str(&w, "bind_host", m->conf.bind_host);
    jsonw_bool(&w, "copies", m->copies_fd >= 0);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "out of memory");
    return proc_send(l->proc, WIRE_PREPARE, text.data, e);
}

/* A port that is free now, for the program's own rendezvous. */
static uint16_t free_port(const char *host)
{
    uint16_t port = 0;
    struct err ignored = {0};
    int fd = io_listen(host, 0, &port, &ignored);
    io_close(fd);
    return fd < 0 ? 0 : port;
}

static int send_to_rank(void *user, enum wire_type type, const char *json)
{
    struct member *m = user;
    struct err e = {0};
    return m->local[0].proc ? proc_send(m->local[0].proc, type, json, &e) : -ERR_PEER;
}

static void spawn_ranks(struct member *m)
{
    char *argv[] = {(char *)m->conf.rank_program, NULL};
    m->phase = PREPARING;
    for (int i = 0; i < m->ranks; i++)
        m->local[i] = (struct local){.member = m, .index = i};
    if (m->conf.spec->task == TASK_RUN) {
        m->phase = PREPARED;
        struct mesh_msg msg = {
            .type = MESH_PREPARED, .incarnation = m->incarnation, .port_count = m->ranks};
        msg.ports[0] = free_port(m->conf.bind_host);
        tell(m, &msg);
        return;
    }
    if (m->conf.front)
        front_set_rank(m->conf.front, send_to_rank, m);
    /* OpenMP threads that wait spin for milliseconds by default: ruinous where pods share cores.
     * What the pod's environment says wins. */
    setenv("GOMP_SPINCOUNT", "2000", 0);
    for (int i = 0; i < m->ranks; i++) {
        struct err e = {0};
        if (spawn_one(m, &m->local[i], argv, environ, &e))
            tell_not_started(m, &m->local[i], &e);
        else if (send_prepare(m, &m->local[i], &e))
            proc_stop(m->local[i].proc, 0);
    }
    if (!m->alive)
        all_gone(m);
}

static void adopt(struct member *m)
{
    m->incarnation = m->next.incarnation;
    m->ranks = m->next.ranks;
    m->first_rank = m->next.first_rank;
    memcpy(m->secret, m->next.secret, sizeof m->secret);
    m->next.incarnation = 0;
    spawn_ranks(m);
}

/* -- run tasks -- */

static void run_rank(struct member *m, struct local *l, const struct mesh_msg *start)
{
    const struct jobspec_run *run = &m->conf.spec->run;
    const struct json *first = json_first(start->table);
    const struct run_task_place place = {.rank = m->first_rank + l->index,
        .world = start->world,
        .local = l->index,
        .local_world = m->ranks,
        .replica = m->conf.replica,
        .master = json_str(first, "host", NET_LOOPBACK),
        .master_port = json_int(first, "port", 0)};
    char *argv[RUN_TASK_ARGV], **env = NULL;
    struct err e = {0};
    run_task_command(run, argv);
    struct arena *a = arena_create(RUN_TASK_BYTES);
    int rc = a ? run_task_environment(run, &place, environ, a, &env, &e)
               : err_set(&e, ERR_MEMORY, "no memory for an environment");
    if (!rc)
        rc = spawn_one(m, l, argv, env, &e);
    if (rc)
        tell_not_started(m, l, &e);
    arena_destroy(a);
}

/* -- the coordinator's messages -- */

static void refuse_term(const struct member *m, struct web_socket *s)
{
    mesh_send(s,
        &(struct mesh_msg){
            .type = MESH_REFUSED, .incarnation = m->greatest, .term = m->term.number});
}

/* Kept before it is acted on. Without a disk to keep it on it holds as long as this agent does. */
static void take_term(struct member *m, int64_t number, const char *uid)
{
    struct err e = {0};
    if (number == m->term.number)
        return;
    term_take(&m->term, number, uid);
    if (term_save(m->conf.run_dir, &m->term, &e))
        log_warn("the term is not kept", LOG_I("term", number), LOG_ERR(&e));
}

static void on_prepare(struct member *m, const struct mesh_msg *msg)
{
    if (msg->term < m->term.number) {
        refuse_term(m, m->link);
        return;
    }
    take_term(m, msg->term, m->term.uid); /* the link is that pod's */
    if (msg->incarnation <= m->greatest || m->leave_ms) {
        tell(m, &(struct mesh_msg){.type = MESH_REFUSED, .incarnation = m->greatest});
        return;
    }
    m->greatest = msg->incarnation;
    m->next = (struct order){
        .incarnation = msg->incarnation, .ranks = msg->ranks, .first_rank = msg->first_rank};
    snprintf(m->next.secret, sizeof m->next.secret, "%s", msg->secret);
    if (m->alive)
        stop_ranks(m, MEMBER_GRACE_MS); /* the last one's end adopts the order */
    else
        adopt(m);
}

static void on_start(struct member *m, const struct mesh_msg *msg)
{
    if (m->phase != PREPARED || msg->incarnation != m->incarnation)
        return;
    m->phase = STARTED;
    if (m->conf.spec->task == TASK_RUN) {
        for (int i = 0; i < m->ranks; i++)
            run_rank(m, &m->local[i], msg);
        if (!m->alive)
            all_gone(m);
        return;
    }
    buf_auto struct buf table;
    buf_auto struct buf frame;
    buf_init(&table, LIMIT_FRAME_BYTES);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    json_print(msg->table, &table);
    for (int i = 0; i < m->ranks; i++) {
        struct err e = {0};
        buf_reset(&frame);
        buf_printf(&frame, "{\"rank\":%d,\"world\":%d,\"ranks\":%s}", m->first_rank + i, msg->world,
            buf_cstr(&table));
        if (!m->local[i].proc)
            continue;
        if (!buf_ok(&frame) || proc_send(m->local[i].proc, WIRE_START, frame.data, &e))
            proc_stop(m->local[i].proc, 0);
    }
}

static void drain_ranks(struct member *m)
{
    if (m->conf.spec->task == TASK_RUN) {
        stop_ranks(m, RUN_DRAIN_MS);
        return;
    }
    if (m->conf.front) { /* first the requests in flight, then the rank: member_tick */
        front_drain(m->conf.front);
        m->drain_ms = clock_ms() + 1000 * (int64_t)m->conf.spec->serve.drain_seconds;
        return;
    }
    for (int i = 0; i < m->ranks; i++) {
        struct err e = {0};
        if (m->local[i].proc)
            proc_send(m->local[i].proc, WIRE_STOP, "{}", &e);
    }
}

static void on_stop(struct member *m, const struct mesh_msg *msg)
{
    if (msg->incarnation != m->incarnation)
        return;
    if (!m->alive) {
        all_gone(m);
        return;
    }
    if (msg->mode == MESH_DRAIN)
        drain_ranks(m);
    else
        stop_ranks(m, msg->mode == MESH_TERM ? MEMBER_GRACE_MS : 0);
}

static void link_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct member *m = user;
    if (s != m->link)
        return;
    json_auto struct json *v = NULL;
    struct mesh_msg msg;
    struct err e = {0};
    if (json_parse_within(text, len, LIMIT_FRAME_VALUES, &v, &e) || mesh_decode(v, &msg, &e)) {
        log_warn("the coordinator's message was refused", LOG_ERR(&e));
        web_close(s);
        return;
    }
    switch (msg.type) {
    case MESH_PREPARE:
        on_prepare(m, &msg);
        break;
    case MESH_START:
        on_start(m, &msg);
        break;
    case MESH_STOP:
        on_stop(m, &msg);
        break;
    case MESH_RELEASE:
        m->released = true;
        break;
    default:
        break; /* a later version's message: not for us */
    }
}

static void link_open(void *user, struct web_socket *s, int64_t term, const char *uid)
{
    struct member *m = user;
    if (!term_admits(&m->term, term, uid)) {
        log_warn("a coordinator whose term is over was refused", LOG_I("term", term),
            LOG_S("pod_uid", uid), LOG_I("followed", m->term.number));
        refuse_term(m, s);
        web_close(s);
        return;
    }
    bool another = strcmp(uid, m->term.uid) != 0;
    take_term(m, term, uid);
    if (m->link) {
        struct web_socket *old = m->link;
        m->link = NULL;
        if (another) {
            log_warn("another coordinator took over", LOG_I("term", term));
            refuse_term(m, old);
        }
        web_close(old);
    }
    if (m->alive) /* they belong to a coordinator that is gone */
        stop_ranks(m, MEMBER_GRACE_MS);
    m->link = s;
    m->link_lost_ms = 0;
    tell(m,
        &(struct mesh_msg){.type = MESH_HELLO,
            .incarnation = m->greatest,
            .replica = m->conf.replica,
            .uid = m->conf.uid,
            .pod = m->conf.pod,
            .node = m->conf.node});
    if (m->leave_ms)
        tell(m, &(struct mesh_msg){.type = MESH_LEAVING});
}

static void link_closed(void *user, struct web_socket *s, const char *why)
{
    struct member *m = user;
    if (s != m->link)
        return;
    log_info("coordinator link closed", LOG_S("why", why));
    m->link = NULL;
    m->link_lost_ms = clock_ms();
}

const struct gate_fns member_link_fns = {link_open, link_message, link_closed};

/* -- time -- */

static void read_page(struct local *l, struct health_rank *out, int64_t now_ms)
{
    const struct wire_page *page = l->proc ? proc_page(l->proc) : NULL;
    *out = (struct health_rank){.waiting_for = -1};
    if (!page)
        return;
    uint64_t beats = atomic_load_explicit(&page->beats, memory_order_acquire);
    if (beats != l->beats) {
        l->beats = beats;
        l->beats_ms = now_ms;
    }
    uint32_t phase = atomic_load(&page->phase);
    out->phase = phase < WIRE_PHASES ? (enum wire_phase)phase : WIRE_PHASE_START;
    out->step = atomic_load(&page->step);
    out->silent_ms = now_ms - l->beats_ms;
    out->collective = atomic_load(&page->collective);
    out->in_collective = atomic_load(&page->in_collective) != 0;
    out->operation = atomic_load(&page->operation);
    out->waiting_for = atomic_load(&page->waiting_for);
    out->share = atomic_load(&page->share);
    wire_page_noted(page, out->note);
    if (atomic_load(&page->magic) != WIRE_PAGE_MAGIC)
        out->waiting_for = -1;
}

/* A server is not idle while a request waits for it: then the time since it was last heard counts,
 * however well its page looks; and the first answer is awaited for so long and no longer. */
static void mind_requests(
    const struct member *m, struct local *l, struct health_rank *row, int64_t now_ms)
{
    bool waits = m->serving || front_in_flight(m->conf.front);
    if (m->serving && now_ms - m->asked_ms >= CANARY_MS) {
        row->phase = WIRE_PHASE_SERVE_PREFILL;
        row->silent_ms = now_ms - m->asked_ms;
        row->in_collective = false;
        return;
    }
    if (row->phase != WIRE_PHASE_SERVE_IDLE || !waits) {
        l->idle_ms = 0;
        return;
    }
    l->idle_ms = l->idle_ms ? l->idle_ms : now_ms;
    row->phase = WIRE_PHASE_SERVE_PREFILL;
    row->silent_ms = now_ms - l->idle_ms;
}

static void beat(struct member *m, int64_t now_ms)
{
    struct mesh_msg msg = {
        .type = MESH_BEAT, .incarnation = m->incarnation, .beat_count = m->ranks};
    for (int i = 0; i < m->ranks; i++)
        read_page(&m->local[i], &msg.beats[i], now_ms);
    if (m->conf.front)
        mind_requests(m, &m->local[0], &msg.beats[0], now_ms);
    tell(m, &msg);
}

static void tick_drain(struct member *m, int64_t now_ms)
{
    if (!m->drain_ms || (!front_done(m->conf.front) && now_ms < m->drain_ms))
        return;
    struct err e = {0};
    m->drain_ms = 0;
    if (!m->local[0].proc || proc_send(m->local[0].proc, WIRE_STOP, "{}", &e))
        stop_ranks(m, MEMBER_GRACE_MS);
}

void member_tick(struct member *m, int64_t now_ms)
{
    if (m->alive && now_ms >= m->beat_due_ms) {
        m->beat_due_ms = now_ms + BEAT_MS;
        beat(m, now_ms);
    }
    if (m->alive && m->link_lost_ms && now_ms - m->link_lost_ms >= MEMBER_ORPHAN_MS) {
        log_warn("the coordinator is gone: ending ranks", LOG_I("incarnation", m->incarnation));
        m->link_lost_ms = now_ms; /* said once; the ladder does the rest */
        stop_ranks(m, MEMBER_GRACE_MS);
    }
    if (m->conf.front)
        tick_drain(m, now_ms);
    if (m->leave_ms && now_ms >= m->leave_ms)
        stop_ranks(m, MEMBER_GRACE_MS);
}

void member_leave(struct member *m, int64_t now_ms)
{
    if (m->leave_ms)
        return;
    int64_t patience_ms = LEAVE_MS;
    int64_t drain_ms = 1000 * (int64_t)m->conf.spec->serve.drain_seconds + 5000;
    if (m->conf.spec->task == TASK_SERVE && drain_ms > patience_ms)
        patience_ms = drain_ms;
    m->leave_ms = now_ms + patience_ms;
    if (m->link)
        tell(m, &(struct mesh_msg){.type = MESH_LEAVING});
    else
        stop_ranks(m, MEMBER_GRACE_MS);
}

bool member_busy(const struct member *m)
{
    return m->alive > 0;
}

bool member_released(const struct member *m)
{
    return m->released;
}

bool member_in_world(const struct member *m)
{
    return m->phase == STARTED && m->alive > 0;
}

int64_t member_sequences(const struct member *m)
{
    int64_t sum = 0;
    for (int i = 0; i < m->ranks; i++) {
        const struct wire_page *page = m->local[i].proc ? proc_page(m->local[i].proc) : NULL;
        sum += page ? atomic_load(&page->share) : 0;
    }
    return sum;
}

int64_t member_incarnation(const struct member *m)
{
    return m->greatest;
}

int64_t member_term(const struct member *m)
{
    return m->term.number;
}
