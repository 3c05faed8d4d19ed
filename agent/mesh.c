/*
 * mesh: the codec trusts nobody: counts and ranges are checked here, so that
 * agent/member.c and agent/lead.c may index by what a message says. Links are the coordinator's
 * only, and open when the pod has proved itself; a member's single link lives in member.c.
 */
#include "agent/mesh.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"

#include <string.h>

#define DIALS_IN_FLIGHT 64
#define BACKOFF_MIN_MS  250
#define BACKOFF_MAX_MS  4000

static const char *const type_names[MESH_TYPES] = {
    [MESH_HELLO] = "hello",
    [MESH_PREPARED] = "prepared",
    [MESH_REFUSED] = "refused",
    [MESH_FRAME] = "frame",
    [MESH_EXIT] = "exit",
    [MESH_ENDED] = "ended",
    [MESH_BEAT] = "beat",
    [MESH_LEAVING] = "leaving",
    [MESH_PREPARE] = "prepare",
    [MESH_START] = "start",
    [MESH_STOP] = "stop",
    [MESH_RELEASE] = "release",
};
static const char *const stop_names[] = {
    [MESH_DRAIN] = "drain", [MESH_TERM] = "term", [MESH_KILL] = "kill"};

/* -- writing -- */

static void write_beats(struct jsonw *w, const struct mesh_msg *m)
{
    jsonw_open(w, "ranks", '[');
    for (int i = 0; i < m->beat_count; i++) {
        const struct health_rank *r = &m->beats[i];
        jsonw_open(w, NULL, '[');
        jsonw_int(w, NULL, r->phase);
        jsonw_int(w, NULL, r->step);
        jsonw_int(w, NULL, r->silent_ms);
        jsonw_int(w, NULL, (int64_t)r->collective);
        jsonw_int(w, NULL, r->in_collective);
        jsonw_int(w, NULL, r->operation);
        jsonw_int(w, NULL, r->waiting_for);
        if (r->share)
            jsonw_int(w, NULL, r->share);
        if (*r->note)
            jsonw_str(w, NULL, r->note);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static void write_fields(struct jsonw *w, const struct mesh_msg *m)
{
    switch (m->type) {
    case MESH_HELLO:
        jsonw_int(w, "replica", m->replica);
        jsonw_str(w, "uid", m->uid);
        jsonw_str(w, "pod", m->pod);
        jsonw_str(w, "node", m->node);
        break;
    case MESH_PREPARED:
        jsonw_open(w, "ports", '[');
        for (int i = 0; i < m->port_count; i++)
            jsonw_int(w, NULL, m->ports[i]);
        jsonw_close(w);
        break;
    case MESH_FRAME:
        jsonw_int(w, "local", m->local);
        jsonw_int(w, "type", m->frame);
        jsonw_raw(w, "payload", m->payload_json);
        break;
    case MESH_EXIT:
        jsonw_int(w, "local", m->local);
        jsonw_int(w, "class", m->class_);
        jsonw_int(w, "signal", m->signal);
        jsonw_bool(w, "asked", m->asked);
        jsonw_strn(w, "message", m->message, strlen(m->message));
        jsonw_strn(w, "logTail", m->log_tail, strlen(m->log_tail));
        break;
    case MESH_BEAT:
        write_beats(w, m);
        break;
    case MESH_REFUSED:
        jsonw_int(w, "term", m->term);
        break;
    case MESH_PREPARE:
        jsonw_int(w, "term", m->term);
        jsonw_str(w, "secret", m->secret);
        jsonw_int(w, "ranks", m->ranks);
        jsonw_int(w, "firstRank", m->first_rank);
        break;
    case MESH_START:
        jsonw_int(w, "world", m->world);
        jsonw_raw(w, "ranks", m->table_json);
        break;
    case MESH_STOP:
        jsonw_str(w, "mode", stop_names[m->mode]);
        break;
    case MESH_ENDED:
    case MESH_LEAVING:
    case MESH_RELEASE:
    case MESH_TYPES:
        break;
    }
}

int mesh_encode(const struct mesh_msg *m, struct buf *out, struct err *e)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "t", type_names[m->type]);
    jsonw_int(&w, "incarnation", m->incarnation);
    write_fields(&w, m);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "out of memory for a message") : 0;
}

void mesh_send(struct web_socket *s, const struct mesh_msg *m)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_FRAME_BYTES);
    struct err e = {0};
    if (mesh_encode(m, &text, &e) || web_send(s, text.data, text.len)) {
        log_warn("a mesh link takes no more", LOG_S("message", type_names[m->type]));
        web_close(s);
    }
}

/* -- reading -- */

static int read_ports(const struct json *v, struct mesh_msg *m, struct err *e)
{
    json_each (item, json_get(v, "ports")) {
        double port = json_number_value(item);
        if (m->port_count == LIMIT_RANKS_PER_REPLICA || !(port >= 0 && port <= 65535))
            return err_set(e, ERR_DATA, "mesh: ports out of range");
        m->ports[m->port_count++] = (uint16_t)port;
    }
    return 0;
}

static int read_beats(const struct json *v, struct mesh_msg *m, struct err *e)
{
    json_each (row, json_get(v, "ranks")) {
        double f[8] = {0};
        const char *note = NULL;
        int n = 0;
        json_each (x, row) {
            if (n < 8 && !json_string_value(x))
                f[n++] = json_number_value(x);
            else
                note = json_string_value(x);
        }
        if (m->beat_count == LIMIT_RANKS_PER_REPLICA || n < 7 || !(f[0] >= 0) ||
            !(f[0] < WIRE_PHASES))
            return err_set(e, ERR_DATA, "mesh: a beat is malformed");
        for (int i = 1; i < 8; i++)
            if (!(f[i] >= -1 && f[i] < 9e15))
                return err_set(e, ERR_DATA, "mesh: a beat is out of range");
        struct health_rank *r = &m->beats[m->beat_count++];
        *r = (struct health_rank){
            .phase = (enum wire_phase)f[0],
            .step = (int64_t)f[1],
            .silent_ms = (int64_t)f[2],
            .collective = f[3] < 0 ? 0 : (uint64_t)f[3],
            .in_collective = f[4] > 0,
            .operation = f[5] < 0 || f[5] > 1000 ? 0 : (uint32_t)f[5],
            .waiting_for = f[6] > INT32_MAX ? -1 : (int)f[6],
            .share = f[7] < 0 ? 0 : (int64_t)f[7],
        };
        snprintf(r->note, sizeof r->note, "%s", note ? note : "");
    }
    return 0;
}

static int read_small(
    const struct json *v, const char *key, int64_t min, int64_t max, int *out, struct err *e)
{
    int64_t n = json_int(v, key, min - 1);
    if (n < min || n > max)
        return err_set(e, ERR_DATA, "mesh: %s is out of range", key);
    *out = (int)n;
    return 0;
}

static int read_term(const struct json *v, int64_t min, struct mesh_msg *m, struct err *e)
{
    m->term = json_int(v, "term", 0);
    return m->term < min ? err_set(e, ERR_DATA, "mesh: term is out of range") : 0;
}

static int read_exit(const struct json *v, struct mesh_msg *m, struct err *e)
{
    int n = 0, rc;
    if ((rc = read_small(v, "local", 0, LIMIT_RANKS_PER_REPLICA - 1, &m->local, e)) ||
        (rc = read_small(v, "class", 0, 255, &n, e)))
        return rc;
    m->class_ = exit_class_of(exit_class_code(n));
    m->signal = (int)json_int(v, "signal", 0);
    m->asked = json_bool(v, "asked", false);
    m->message = json_str(v, "message", "");
    m->log_tail = json_str(v, "logTail", "");
    return 0;
}

static int read_fields(const struct json *v, struct mesh_msg *m, struct err *e)
{
    int rc = 0, n = 0;
    switch (m->type) {
    case MESH_HELLO:
        m->uid = json_str(v, "uid", "");
        m->pod = json_str(v, "pod", "");
        m->node = json_str(v, "node", "");
        return read_small(v, "replica", 0, LIMIT_REPLICAS - 1, &m->replica, e);
    case MESH_PREPARED:
        return read_ports(v, m, e);
    case MESH_FRAME:
        m->payload = json_get(v, "payload");
        if ((rc = read_small(v, "local", 0, LIMIT_RANKS_PER_REPLICA - 1, &m->local, e)) ||
            (rc = read_small(v, "type", WIRE_READY, WIRE_BALANCED, &n, e)))
            return rc;
        m->frame = (enum wire_type)n;
        return 0;
    case MESH_EXIT:
        return read_exit(v, m, e);
    case MESH_BEAT:
        return read_beats(v, m, e);
    case MESH_PREPARE:
        m->secret = json_str(v, "secret", "");
        if ((rc = read_term(v, 1, m, e)) ||
            (rc = read_small(v, "ranks", 1, LIMIT_RANKS_PER_REPLICA, &m->ranks, e)))
            return rc;
        return read_small(v, "firstRank", 0, INT32_MAX, &m->first_rank, e);
    case MESH_START:
        m->table = json_get(v, "ranks");
        if (!json_is_array(m->table))
            return err_set(e, ERR_DATA, "mesh: a start without its table");
        return read_small(v, "world", 1, INT32_MAX, &m->world, e);
    case MESH_STOP:
        for (int i = 0; i < 3; i++)
            if (!strcmp(json_str(v, "mode", ""), stop_names[i])) {
                m->mode = (enum mesh_stop)i;
                return 0;
            }
        return err_set(e, ERR_DATA, "mesh: unknown stop mode");
    case MESH_REFUSED:
        return read_term(v, 0, m, e);
    case MESH_ENDED:
    case MESH_LEAVING:
    case MESH_RELEASE:
    case MESH_TYPES:
        return 0;
    }
    return rc;
}

int mesh_decode(const struct json *v, struct mesh_msg *out, struct err *e)
{
    const char *name = json_str(v, "t", "");
    struct mesh_msg m = {.type = MESH_TYPES, .incarnation = json_int(v, "incarnation", 0)};
    for (int i = 0; i < MESH_TYPES; i++)
        if (!strcmp(name, type_names[i]))
            m.type = (enum mesh_type)i;
    if (m.type == MESH_TYPES)
        return err_set(e, ERR_DATA, "mesh: unknown message \"%.32s\"", name);
    if (m.incarnation < 0)
        return err_set(e, ERR_DATA, "mesh: a negative incarnation");
    int rc = read_fields(v, &m, e);
    if (rc)
        return rc;
    *out = m;
    return 0;
}

/* -- links -- */

struct link {
    struct mesh *mesh;
    struct link *next;
    int replica;
    char uid[LIMIT_NAME_BYTES]; /* of the pod that is wanted there */
    struct net_address to;      /* port 0: no address yet */
    struct web_socket *socket;  /* dialling, in the handshake or open */
    bool open, forgotten;
    bool unproved; /* said once, until it proves itself */
    struct proof proof;
    int64_t prove_ms; /* the handshake's deadline, 0: none is under way */
    int64_t due_ms, backoff_ms;
};

struct mesh {
    struct web *web;
    struct mesh_fns fns;
    void *user;
    struct proof_identity of;
    const char *uid;
    int64_t term;
    struct link *links; /* by replica */
    int dialling;
};

int mesh_create(struct web *w, const struct proof_identity *of, const char *uid,
    const struct mesh_fns *fns, void *user, struct mesh **out, struct err *e)
{
    struct mesh *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "out of memory");
    m->web = w;
    m->fns = *fns;
    m->user = user;
    m->of = *of;
    m->uid = uid;
    *out = m;
    return 0;
}

void mesh_destroy(struct mesh *m)
{
    if (!m)
        return;
    for (struct link *l = m->links, *next; l; l = next) {
        next = l->next;
        mem_free(l);
    }
    mem_free(m);
}

static struct link *find_link(const struct mesh *m, int replica)
{
    for (struct link *l = m->links; l && l->replica <= replica; l = l->next)
        if (l->replica == replica && !l->forgotten)
            return l;
    return NULL;
}

static void unlink_free(struct link *l)
{
    for (struct link **at = &l->mesh->links; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    mem_free(l);
}

static int64_t next_backoff(struct link *l)
{
    int64_t wait = l->backoff_ms;
    l->backoff_ms = wait * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : wait * 2;
    return wait;
}

static void link_open(void *user, struct web_socket *s)
{
    struct link *l = user;
    const struct mesh *m = l->mesh;
    buf_auto struct buf call;
    struct err e = {0};
    buf_init(&call, PROOF_BYTES);
    web_socket_limit(s, PROOF_BYTES);
    l->prove_ms = clock_ms() + PROOF_MS;
    if (proof_call(&l->proof, &m->of, m->uid, l->uid, m->term, &call, &e) ||
        web_send(s, call.data, call.len))
        web_close(s);
}

/* The answer to our call: only the pod that is wanted can give it. */
static void link_challenged(struct link *l, struct web_socket *s, const char *text, size_t len)
{
    buf_auto struct buf answer;
    struct err e = {0};
    buf_init(&answer, PROOF_BYTES);
    if (proof_answer(&l->proof, text, len, &answer, &e) || web_send(s, answer.data, answer.len)) {
        if (!l->unproved)
            log_warn("a member was not proved", LOG_I("replica", l->replica),
                LOG_S("host", l->to.host), LOG_ERR(&e));
        l->unproved = true;
        web_close(s);
        return;
    }
    web_socket_limit(s, LIMIT_FRAME_BYTES);
    l->prove_ms = 0;
    l->unproved = false;
    l->open = true;
    l->mesh->dialling--;
}

static void link_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct link *l = user;
    if (l->forgotten)
        return;
    if (!l->open) {
        link_challenged(l, s, text, len);
        return;
    }
    json_auto struct json *v = NULL;
    struct mesh_msg m;
    struct err e = {0};
    if (json_parse_within(text, len, LIMIT_FRAME_VALUES, &v, &e) || mesh_decode(v, &m, &e)) {
        log_warn("a member's message was refused", LOG_I("replica", l->replica), LOG_ERR(&e));
        web_close(s);
        return;
    }
    l->backoff_ms = BACKOFF_MIN_MS; /* it speaks: a later break is redialled at once */
    l->mesh->fns.message_fn(l->mesh->user, l->replica, &m);
}

static void link_closed(void *user, struct web_socket *s, const char *why)
{
    struct link *l = user;
    (void)s;
    bool was_open = l->open;
    if (!was_open)
        l->mesh->dialling--;
    l->open = false;
    l->prove_ms = 0;
    l->socket = NULL;
    if (l->forgotten) {
        unlink_free(l);
        return;
    }
    l->due_ms = clock_ms() + next_backoff(l);
    if (was_open)
        l->mesh->fns.closed_fn(l->mesh->user, l->replica, why);
}

static const struct web_socket_fns link_fns = {link_open, link_message, link_closed};

void mesh_term(struct mesh *m, int64_t term)
{
    m->term = term;
}

int mesh_keep(struct mesh *m, int replica, const char *uid, const char *address, struct err *e)
{
    struct net_address to = {0};
    if (*address && (!net_parse(address, &to) || !*to.host || !to.port))
        return err_set(e, ERR_USER, "\"%s\" is no host:port", address);
    struct link *l = find_link(m, replica);
    if (!l) {
        l = mem_zalloc(sizeof *l);
        if (!l)
            return err_set(e, ERR_MEMORY, "out of memory");
        *l = (struct link){.mesh = m, .replica = replica, .backoff_ms = BACKOFF_MIN_MS};
        struct link **at = &m->links;
        while (*at && (*at)->replica < replica)
            at = &(*at)->next;
        l->next = *at;
        *at = l;
    }
    if (l->to.port == to.port && !strcmp(l->to.host, to.host) && !strcmp(l->uid, uid))
        return 0;
    snprintf(l->uid, sizeof l->uid, "%s", uid);
    l->to = to;
    l->due_ms = 0;
    l->backoff_ms = BACKOFF_MIN_MS;
    if (l->socket)
        web_close(l->socket);
    return 0;
}

void mesh_forget(struct mesh *m, int replica)
{
    struct link *l = find_link(m, replica);
    if (!l)
        return;
    l->forgotten = true;
    if (l->socket)
        web_close(l->socket);
    else
        unlink_free(l);
}

void mesh_drop(struct mesh *m, int replica)
{
    struct link *l = find_link(m, replica);
    if (l && l->socket)
        web_close(l->socket);
}

void mesh_tell(struct mesh *m, int replica, const struct mesh_msg *msg)
{
    struct link *l = find_link(m, replica);
    if (l && l->open)
        mesh_send(l->socket, msg);
}

void mesh_tick(struct mesh *m, int64_t now_ms)
{
    for (struct link *l = m->links; l; l = l->next)
        if (l->prove_ms && now_ms >= l->prove_ms) {
            l->prove_ms = 0;
            web_close(l->socket);
        }
    for (struct link *l = m->links; l && m->dialling < DIALS_IN_FLIGHT; l = l->next) {
        if (l->socket || l->forgotten || !l->to.port || now_ms < l->due_ms)
            continue;
        struct err e = {0};
        m->dialling++;
        if (web_dial(m->web, l->to.host, l->to.port, MESH_PATH, &link_fns, l, &l->socket, &e)) {
            m->dialling--;
            l->socket = NULL;
            l->due_ms = now_ms + next_backoff(l);
        }
    }
}
