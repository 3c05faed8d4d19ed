/*
 * lead: every fact is followed by settle(): decide until quiet, carry out, log a change
 * of state once. The secret of an incarnation is made here and never logged.
 */
#include "agent/lead.h"

#include "agent/mesh.h"
#include "agent/saver.h"
#include "agent/world.h"
#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"

#include <string.h>

#define HEALTH_MS   1000
#define SAVE_MS     10000 /* and at once when the state changes */
#define REPORT_FILE "report.json"

struct lead {
    struct lead_conf conf;
    struct world *world;
    struct mesh *mesh;
    struct saver *saver; /* of the report */
    struct health_conf health;
    int kept[LIMIT_REPLICAS]; /* replicas that have a link */
    int kept_count;
    char secret[65];
    enum job_state shown;
    int64_t shown_incarnation;
    int64_t health_due_ms, save_due_ms;
    bool dirty, released;
};

static struct world_now now_of(void)
{
    return (struct world_now){.ms = clock_ms(), .wall_ms = clock_wall_ms()};
}

/* -- carrying out -- */

static void prepare(struct lead *l)
{
    unsigned char raw[32];
    struct err e = {0};
    if (io_random(raw, sizeof raw, &e)) {
        log_error("no secret for the incarnation", LOG_ERR(&e));
        return; /* the world's own deadline ends the attempt */
    }
    io_hex(raw, sizeof raw, l->secret);
    int n = world_ranks(l->world);
    for (int i = 0; i < n;) {
        struct world_place first = world_place(l->world, i);
        int count = 0;
        while (i + count < n && world_place(l->world, i + count).replica == first.replica)
            count++;
        struct mesh_msg msg = {.type = MESH_PREPARE,
            .incarnation = world_incarnation(l->world),
            .term = world_term(l->world),
            .secret = l->secret,
            .ranks = count,
            .first_rank = i};
        mesh_tell(l->mesh, first.replica, &msg);
        i += count;
    }
}

/* "10.0.0.7:7070" -> "10.0.0.7"; a member without address is this agent itself. */
static const char *host_of(const struct lead *l, const char *address, struct net_address *out)
{
    return net_parse(address, out) ? out->host : l->conf.self_host;
}

static void write_table(const struct lead *l, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '[');
    for (int i = 0; i < world_ranks(l->world); i++) {
        struct world_place p = world_place(l->world, i);
        struct net_address at;
        jsonw_open(&w, NULL, '{');
        jsonw_int(&w, "rank", i);
        jsonw_int(&w, "replica", p.replica);
        jsonw_int(&w, "local_rank", p.local);
        jsonw_str(&w, "host", host_of(l, p.address, &at));
        jsonw_int(&w, "port", p.port);
        jsonw_str(&w, "node", p.node);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_end(&w);
}

static void each_member(struct lead *l, const struct mesh_msg *msg)
{
    int last = -1;
    for (int i = 0; i < world_ranks(l->world); i++) {
        int replica = world_place(l->world, i).replica;
        if (replica != last)
            mesh_tell(l->mesh, replica, msg);
        last = replica;
    }
}

static void start(struct lead *l)
{
    buf_auto struct buf table;
    buf_init(&table, LIMIT_FRAME_BYTES);
    write_table(l, &table);
    int n = world_ranks(l->world);
    log_info("world formed", LOG_I("incarnation", world_incarnation(l->world)), LOG_I("ranks", n));
    each_member(l,
        &(struct mesh_msg){.type = MESH_START,
            .incarnation = world_incarnation(l->world),
            .world = n,
            .table_json = buf_cstr(&table)});
}

static void carry_out(struct lead *l, const struct world_action *a)
{
    switch (a->kind) {
    case WORLD_PREPARE:
        prepare(l);
        break;
    case WORLD_START:
        start(l);
        break;
    case WORLD_STOP:
        each_member(l,
            &(struct mesh_msg){.type = MESH_STOP, .incarnation = a->incarnation, .mode = a->mode});
        break;
    case WORLD_DROP:
        log_warn("a member does not end its ranks", LOG_I("replica", a->replica));
        mesh_drop(l->mesh, a->replica);
        break;
    case WORLD_RELEASE:
        for (int i = 0; i < l->kept_count; i++)
            mesh_tell(l->mesh, l->kept[i], &(struct mesh_msg){.type = MESH_RELEASE});
        l->released = true;
        break;
    }
}

static void settle(struct lead *l)
{
    struct world_actions actions;
    struct world_now now = now_of();
    enum job_state before;
    int turns = 0;
    do { /* a phase may move without an action: go on until nothing changes */
        before = world_state(l->world);
        world_decide(l->world, now, &actions);
        for (int i = 0; i < actions.count; i++)
            carry_out(l, &actions.list[i]);
    } while ((actions.count || world_state(l->world) != before) && ++turns < 16);
    l->dirty = true;
    enum job_state state = world_state(l->world);
    int64_t incarnation = world_incarnation(l->world);
    if (state == l->shown && incarnation == l->shown_incarnation)
        return;
    log_info("job state", LOG_S("state", job_state_name(state)), LOG_I("incarnation", incarnation),
        LOG_I("ranks", world_ranks(l->world)));
    l->shown = state;
    l->shown_incarnation = incarnation;
    l->save_due_ms = 0;
}

/* -- facts -- */

static void superseded(struct lead *l, int replica, int64_t term)
{
    log_warn("a member follows another coordinator", LOG_I("replica", replica), LOG_I("term", term),
        LOG_I("own_term", world_term(l->world)));
    world_superseded(l->world, term);
    l->save_due_ms = 0; /* this agent ends, and must not begin below it */
}

static void on_message(void *user, int replica, const struct mesh_msg *m)
{
    struct lead *l = user;
    struct world *w = l->world;
    switch (m->type) {
    case MESH_HELLO:
        if (m->replica != replica) {
            log_warn("another replica answers", LOG_I("wanted", replica), LOG_I("got", m->replica));
            mesh_drop(l->mesh, replica);
            return;
        }
        world_joined(w, replica, m->uid, m->incarnation, now_of());
        break;
    case MESH_PREPARED:
        world_prepared(w, replica, m->incarnation, m->ports, m->port_count);
        break;
    case MESH_REFUSED:
        if (m->term)
            superseded(l, replica, m->term);
        else
            world_refused(w, m->incarnation);
        break;
    case MESH_FRAME:
        world_frame(w, replica, m->incarnation, m->local, m->frame, m->payload, now_of());
        break;
    case MESH_EXIT:
        world_exit(w, replica, m, now_of());
        break;
    case MESH_ENDED:
        world_ended(w, replica, m->incarnation);
        break;
    case MESH_BEAT:
        world_beats(w, replica, m->incarnation, m->beats, m->beat_count);
        l->dirty = true;
        return;
    case MESH_LEAVING:
        world_leaving(w, replica);
        break;
    default:
        return;
    }
    settle(l);
}

static void on_closed(void *user, int replica, const char *why)
{
    struct lead *l = user;
    log_info("member lost", LOG_I("replica", replica), LOG_S("why", why));
    world_lost(l->world, replica, now_of());
    settle(l);
}

/* The pod's own member is reached by loopback, whatever address the pod has or will have. */
static int keep_links(struct lead *l, const struct desired *d, struct err *e)
{
    char self[NET_TEXT_BYTES];
    net_write(l->conf.self_host, l->conf.self_port, self);
    for (int i = 0; i < l->kept_count; i++) {
        bool still = false;
        for (int k = 0; k < d->member_count && !still; k++)
            still = d->members[k].replica == l->kept[i];
        if (!still) {
            mesh_forget(l->mesh, l->kept[i]);
            world_lost(l->world, l->kept[i], now_of());
        }
    }
    l->kept_count = 0;
    for (int i = 0; i < d->member_count && i < LIMIT_REPLICAS; i++) {
        const struct desired_member *m = &d->members[i];
        int rc = mesh_keep(l->mesh, m->replica, m->uid, m->replica ? m->address : self, e);
        if (rc)
            return rc;
        l->kept[l->kept_count++] = m->replica;
    }
    return 0;
}

int lead_desired(struct lead *l, const struct desired *d, struct err *e)
{
    int rc = world_desired(l->world, d, now_of(), e);
    if (rc == 0) {
        mesh_term(l->mesh, world_term(l->world));
        l->health = (struct health_conf){.hang_ms = 1000 * (int64_t)d->health.hang_seconds,
            .straggler_factor = d->health.straggler_factor};
        rc = keep_links(l, d, e);
    }
    settle(l);
    return rc;
}

/* -- time -- */

static void check_health(struct lead *l)
{
    struct health_verdict v = {.kind = HEALTH_WELL, .rank = -1};
    if (world_watched(l->world))
        health_judge(&l->health, world_rows(l->world), world_ranks(l->world),
            world_median_step_ms(l->world), world_busy(l->world), &v);
    if (v.kind == HEALTH_HANG)
        log_warn("hang", LOG_I("rank", v.rank), LOG_S("operation", v.operation),
            LOG_S("message", v.message));
    world_verdict(l->world, &v, now_of());
}

static int report_path(const struct lead *l, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/%s", l->conf.run_dir, REPORT_FILE);
    return n > 0 && (size_t)n < size ? 0 : -1;
}

static void save(struct lead *l)
{
    struct err e = {0};
    struct report r;
    buf_auto struct buf text;
    buf_init(&text, LIMIT_REPORT_BYTES);
    struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    if (!a || lead_report(l, a, &r, &e) || report_encode(&r, &text, &e))
        log_warn("the report is not kept", LOG_ERR(&e));
    else
        saver_put(l->saver, buf_take(&text));
    arena_destroy(a);
    l->dirty = false;
}

void lead_tick(struct lead *l, int64_t now_ms)
{
    mesh_tick(l->mesh, now_ms);
    if (now_ms >= l->health_due_ms) {
        l->health_due_ms = now_ms + HEALTH_MS;
        check_health(l);
    }
    settle(l);
    if (l->dirty && now_ms >= l->save_due_ms) {
        l->save_due_ms = now_ms + SAVE_MS;
        save(l);
    }
}

/* -- life -- */

static void recover(struct lead *l)
{
    char path[LIMIT_PATH_BYTES];
    struct err e = {0};
    json_auto struct json *v = NULL;
    struct report r;
    if (report_path(l, path, sizeof path) || !io_exists(path))
        return;
    struct arena *a = arena_create(2 * LIMIT_REPORT_BYTES);
    if (!a || json_read_file(path, LIMIT_REPORT_BYTES, &v, &e) || report_decode(v, a, &r, &e))
        log_warn("the last report cannot be read", LOG_ERR(&e));
    else
        world_recover(l->world, &r);
    arena_destroy(a);
}

static int open_saver(struct lead *l, struct err *e)
{
    char path[LIMIT_PATH_BYTES];
    return report_path(l, path, sizeof path)
        ? err_set(e, ERR_USER, "%s: the path is too long", l->conf.run_dir)
        : saver_create(path, NULL, &l->saver, e);
}

/* Ranks of a pod: one of a model that is served or converted whole. */
static int per_replica(const struct jobspec *s)
{
    bool shared =
        s->parallelism.tensor > 1 || s->parallelism.pipeline > 1 || s->serve.ensemble.ranks > 1;
    bool whole = s->task == TASK_CONVERT || (s->task == TASK_SERVE && !shared);
    return whole ? 1 : s->device.per_replica;
}

int lead_create(const struct lead_conf *conf, struct lead **out, struct err *e)
{
    static const struct mesh_fns fns = {on_message, on_closed};
    struct lead *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "out of memory");
    l->conf = *conf;
    const struct jobspec *s = conf->spec;
    struct world_conf wc = {
        .task = s->task,
        .per_replica = per_replica(s),
        .tensor = s->parallelism.tensor,
        .pipeline = s->parallelism.pipeline,
        .expert = s->parallelism.expert,
        .context = s->parallelism.context,
        .members = s->serve.ensemble.ranks,
        .incarnation = conf->incarnation,
        .term = conf->term,
    };
    int rc = world_create(&wc, &l->world, e);
    if (rc == 0)
        rc = mesh_create(conf->web, &conf->of, conf->uid, &fns, l, &l->mesh, e);
    if (rc == 0)
        rc = open_saver(l, e);
    if (rc) {
        lead_destroy(l);
        return rc;
    }
    recover(l);
    l->shown = world_state(l->world);
    l->shown_incarnation = world_incarnation(l->world);
    *out = l;
    return 0;
}

void lead_destroy(struct lead *l)
{
    if (!l)
        return;
    saver_destroy(l->saver);
    mesh_destroy(l->mesh);
    world_destroy(l->world);
    mem_free(l);
}

int lead_report(const struct lead *l, struct arena *a, struct report *out, struct err *e)
{
    int rc = world_report(l->world, a, out, e);
    if (rc || out->state != JOB_SERVING || !world_ranks(l->world))
        return rc;
    struct net_address first;
    char text[NET_TEXT_BYTES];
    net_write(host_of(l, world_place(l->world, 0).address, &first), l->conf.serve_port, text);
    out->serve_address = arena_strdup(a, text);
    return out->serve_address ? 0 : err_set(e, ERR_MEMORY, "out of memory for the report");
}

bool lead_released(const struct lead *l)
{
    return l->released;
}

bool lead_over(const struct lead *l)
{
    return world_over(l->world);
}
