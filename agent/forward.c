/*
 * forward: a parcel a request, known to the HTTP client by its address. The client's sockets are
 * watched by web's loop, which they wake; forward_tick does the work. A replica that could not be
 * reached is not asked again for SHY_MS, so that one that is dead costs few requests a wait.
 */
#include "agent/forward.h"

#include "agent/dialect.h"
#include "agent/reply.h"
#include "agent/route.h"
#include "agent/vouch.h"
#include "api/limits.h"
#include "api/names.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define FORWARDED   "x-llmjob-forwarded" /* as NAME_HEADER_FORWARDED is read */
#define PEER_MS     2000
#define SHY_MS      2000
#define PULSE_MS    30000     /* of who works on an answer that has not begun */
#define EVENT_BYTES (1 << 20) /* as much as its sender may queue */

struct forward_peer {
    const char *name, *uid, *address; /* of the arena */
    int64_t shy_ms;                   /* until then */
};

struct parcel {
    struct forward *of;
    struct parcel *next;
    struct web_exchange *x;
    char uid[LIMIT_NAME_BYTES]; /* of the pod that it went to */
    struct vouch vouch;
    char seal[VOUCH_MAC_BYTES + 1];
    size_t sent; /* of it and the body */
    bool proven;
    enum openai_place place;
    bool stream, begun;
    bool line;       /* of a stream: what has come ends with a line; */
    struct buf rest; /* of it, what is no whole event yet */
    struct openai_answer a;
};

struct forward {
    struct forward_conf conf;
    struct http *http;
    char secret[VOUCH_NONCE_BYTES]; /* of this process, that nonces are made with */
    struct parcel *first;
    int in_flight;
    struct arena *arena; /* of the peers */
    struct forward_peer *peers;
    const char **names; /* theirs */
    int count;
    void (*serve_fn)(void *user, struct web_exchange *x);
    void *user;
};

static void look_again(void *user, int fd)
{
    (void)user;
    (void)fd; /* its only work was to end the wait */
}

int forward_create(const struct forward_conf *conf, struct forward **out, struct err *e)
{
    struct forward *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory for routing");
    f->conf = *conf;
    const struct http_conf client = {.user_agent = "llmjob",
        .max_in_flight = conf->serve->max_queue,
        .peer_ms = PEER_MS,
        .watched = true};
    uint8_t raw[SECRET_NONCE_BYTES];
    int rc = io_random(raw, sizeof raw, e);
    if (!rc) {
        io_hex(raw, sizeof raw, f->secret);
        rc = http_create(&client, &f->http, e);
    }
    if (!rc)
        rc = web_watch_fd(conf->web, http_fd(f->http), look_again, f, e);
    if (rc)
        forward_destroy(f);
    else
        *out = f;
    return rc;
}

static void parcel_free(struct parcel *p)
{
    struct parcel **at = &p->of->first;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->of->in_flight--;
    buf_done(&p->rest);
    mem_free(p);
}

void forward_destroy(struct forward *f)
{
    if (!f)
        return;
    while (f->first) {
        http_cancel(f->http, f->first);
        parcel_free(f->first);
    }
    if (f->http)
        web_unwatch_fd(f->conf.web, http_fd(f->http));
    http_destroy(f->http);
    arena_destroy(f->arena);
    mem_free(f);
}

void forward_bind(
    struct forward *f, void (*serve_fn)(void *user, struct web_exchange *x), void *user)
{
    if (!f)
        return;
    f->serve_fn = serve_fn;
    f->user = user;
}

/* -- what comes back -- */

/* It is the caller's again. */
static void hand_back(struct parcel *p)
{
    struct forward *f = p->of;
    struct web_exchange *x = p->x;
    parcel_free(p);
    web_set_user(x, NULL, NULL);
    f->serve_fn(f->user, x);
}

static void end_with_error(struct parcel *p, const char *why)
{
    struct openai_refusal r;
    buf_auto struct buf out;
    buf_init(&out, 8192);
    openai_refuse(&r, 503, NULL, NULL, "%s", why);
    if (p->begun) {
        dialect_error_event(&out, p->place, &p->a, &r);
        web_stream_data(p->x, buf_cstr(&out), out.len);
        web_stream_end(p->x);
    } else {
        reply_error(p->x, &r);
    }
    parcel_free(p);
}

static void on_gone(void *user)
{
    struct parcel *p = user;
    http_cancel(p->of->http, p);
    parcel_free(p);
}

/* The proof comes with 100; without it nothing is believed. After 417 curl would ask again. */
static int on_line(void *user, int status, const char *line)
{
    static const char name[] = NAME_HEADER_PROOF ": ";
    struct parcel *p = user;
    if (status == 100 && !strncasecmp(line, name, sizeof name - 1))
        p->proven =
            vouch_heard(&p->vouch, line + sizeof name - 1) && !vouch_seal(&p->vouch, p->seal, NULL);
    return (!*line && !p->proven) || status == 417 ? -1 : 0;
}

static int64_t on_body(void *user, char *out, size_t size)
{
    struct parcel *p = user;
    size_t len, n = p->sent < VOUCH_MAC_BYTES ? VOUCH_MAC_BYTES - p->sent : 0;
    const char *body = web_body(p->x, &len);
    if (!p->proven)
        return -1;
    const char *from = n ? p->seal + p->sent : body + (p->sent - VOUCH_MAC_BYTES);
    n = n ? n : len - (p->sent - VOUCH_MAC_BYTES);
    n = n < size ? n : size;
    memcpy(out, from, n);
    p->sent += n;
    return (int64_t)n;
}

static int send_rest(struct parcel *p, size_t n)
{
    if (!p->begun)
        web_stream_begin(p->x, 200, "text/event-stream");
    p->begun = true;
    int rc = web_stream_data(p->x, p->rest.data, n);
    buf_drop(&p->rest, n);
    return rc;
}

/* What is cut off is not sent: before the first event the stream has not begun, and an error stands
   behind whole ones. */
static int on_piece(void *user, const char *data, size_t len)
{
    struct parcel *p = user;
    size_t before = p->rest.len, whole = 0;
    if (buf_add(&p->rest, data, len))
        return -ERR_MEMORY;
    for (size_t i = 0; i < len; i++) { /* an empty line ends an event */
        bool event = data[i] == '\n' && p->line;
        p->line = data[i] == '\n';
        p->a.told.events += event;
        whole = event ? before + i + 1 : whole;
    }
    return whole ? send_rest(p, whole) : 0;
}

/* What a replica says that served it; what else it may say is of its own state. */
static bool is_answer(int status)
{
    return status == 200 || status == 400 || status == 500;
}

static struct forward_peer *find_peer(struct forward *f, const char *uid)
{
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->peers[i].uid, uid))
            return &f->peers[i];
    return NULL;
}

static void avoid(struct parcel *p, const struct http_response *r)
{
    struct forward_peer *peer = find_peer(p->of, p->uid);
    if (!peer || (p->proven && (!r->error.code || r->error.code == ERR_DRAINED)))
        return;
    peer->shy_ms = clock_ms() + SHY_MS;
    if (r->error.code == ERR_DRAINED)
        log_warn("a replica did not prove to be one, and got nothing", LOG_S("pod", peer->name));
    else
        log_warn("a replica did not answer", LOG_S("pod", peer->name), LOG_ERR(&r->error));
}

static void on_answer(void *user, const struct http_response *r)
{
    struct parcel *p = user;
    avoid(p, r);
    if (p->begun && r->error.code) {
        end_with_error(p,
            r->error.code == ERR_DRAINED ? "the client does not take its answer"
                                         : "the model was stopped");
        return;
    }
    bool whole = p->proven && is_answer(r->status) && (!p->stream || r->status != 200);
    if (!p->begun && (r->error.code || !whole)) {
        hand_back(p);
        return;
    }
    meter_routed(METER_FORWARDED);
    if (p->begun && p->rest.len)
        (void)send_rest(p, p->rest.len);
    if (p->begun)
        web_stream_end(p->x);
    else
        web_answer(p->x, r->status, "application/json", r->body, r->len, NULL);
    parcel_free(p);
}

/* -- what goes out -- */

static int beyond_places(const struct forward *f, int answers)
{
    int waiting = answers - f->conf.serve->max_sequences;
    return waiting > 0 ? waiting : 0;
}

static int send_to(struct parcel *p, const struct forward_peer *peer, int answers, struct err *e)
{
    char url[LIMIT_ADDRESS_BYTES + 64];
    char line[sizeof NAME_HEADER_FORWARDED + 1 + VOUCH_LINE_BYTES] = NAME_HEADER_FORWARDED ": ";
    const char *const headers[] = {line, NULL};
    struct forward *f = p->of;
    size_t len;
    web_body(p->x, &len);
    snprintf(url, sizeof url, "http://%s%s", peer->address, web_path(p->x));
    int rc = vouch_ask(&p->vouch, peer->address, beyond_places(f, answers),
        line + sizeof NAME_HEADER_FORWARDED + 1, e);
    if (rc)
        return rc;
    const struct http_request r = {.method = "POST",
        .url = url,
        .content_type = "application/json",
        .headers = headers,
        .body_fn = on_body,
        .body_len = VOUCH_MAC_BYTES + len,
        .idle_timeout_ms = f->conf.idle_ms,
        .limit = LIMIT_ANSWER_BYTES,
        .line_fn = on_line,
        .data_fn = p->stream ? on_piece : NULL,
        .done_fn = on_answer,
        .user = p};
    return http_start(f->http, &r, e);
}

/* The replica that it is for; NULL: this one. */
static struct forward_peer *peer_for(struct forward *f, uint64_t prefix)
{
    struct forward_peer *peer = &f->peers[route_pick(prefix, f->names, f->count)];
    return strcmp(peer->name, f->conf.pod) ? peer : NULL;
}

static struct parcel *parcel_create(struct forward *f, struct web_exchange *x,
    const struct openai_request *asked, const struct forward_peer *peer, int key)
{
    const struct api_keys *keys = f->conf.keys;
    struct parcel *p = mem_zalloc(sizeof *p);
    if (!p)
        return NULL;
    *p = (struct parcel){.of = f,
        .x = x,
        .next = f->first,
        .place = asked->place,
        .stream = asked->stream,
        .vouch = {.of = f->conf.of, .uid = p->uid, .key = keys->count ? keys->key[key].text : ""},
        .a = {.chat = asked->place != OPENAI_TEXT,
            .created = clock_wall_ms() / 1000,
            .model = asked->model}};
    buf_init(&p->rest, EVENT_BYTES);
    snprintf(p->uid, sizeof p->uid, "%s", peer->uid);
    return p;
}

enum meter_route forward_take(struct forward *f, struct web_exchange *x,
    const struct openai_request *asked, int key, int answers)
{
    struct err e = {0};
    size_t len;
    if (!f || !f->count || !asked->prefix || web_header(x, FORWARDED))
        return METER_UNROUTED;
    struct forward_peer *peer = peer_for(f, asked->prefix);
    if (!peer)
        return METER_KEPT;
    web_body(x, &len);
    if (clock_ms() < peer->shy_ms || f->in_flight >= f->conf.serve->max_queue ||
        len + VOUCH_MAC_BYTES > LIMIT_REQUEST_BYTES)
        return METER_FALLBACK;
    struct parcel *p = parcel_create(f, x, asked, peer, key);
    if (!p || send_to(p, peer, answers, &e)) {
        log_warn("a request is not forwarded", LOG_S("pod", peer->name), LOG_ERR(&e));
        mem_free(p);
        return METER_FALLBACK;
    }
    f->first = p;
    f->in_flight++;
    web_set_user(x, p, on_gone);
    return METER_FORWARDED;
}

/* -- what comes in -- */

bool forward_visits(const struct forward *f, const struct web_exchange *x)
{
    return f && web_header(x, FORWARDED);
}

#define NOTED_KEYS (LIMIT_API_KEYS + 1) /* of a note: 0, nothing; then of each key */

/* What its first line says is found once, and noted: which key it vouches for, and how much its
   sender has to do. */
int forward_key(const struct forward *f, struct web_exchange *x)
{
    struct vouch v = {.of = f->conf.of, .uid = f->conf.uid};
    struct net_address at;
    int ahead;
    if (!web_noted(x)) {
        int key = vouch_read(&v, f->conf.keys, web_header(x, FORWARDED), &at, &ahead);
        if (key < 0 || !web_reached(x, at.host, at.port))
            return -1;
        web_note(x, (int64_t)ahead * NOTED_KEYS + key + 1);
    }
    return (int)(web_noted(x) % NOTED_KEYS) - 1;
}

/* The nonce is of one exchange, and no other: it need not be kept. */
static int read_again(const struct forward *f, struct web_exchange *x, struct vouch *v)
{
    int key = forward_key(f, x);
    *v = (struct vouch){.of = f->conf.of, .uid = f->conf.uid};
    if (key < 0 || !vouch_again(v, f->conf.keys, web_header(x, FORWARDED), key))
        return -ERR_USER;
    uint64_t id = web_id(x);
    uint8_t mac[SECRET_MAC_BYTES];
    const struct secret_part part = {&id, sizeof id};
    int rc = secret_mac(f->secret, &part, 1, mac, NULL);
    if (!rc)
        io_hex(mac, SECRET_NONCE_BYTES, v->nonce);
    return rc;
}

bool forward_welcome(const struct forward *f, struct web_exchange *x)
{
    char line[sizeof NAME_HEADER_PROOF + 1 + VOUCH_LINE_BYTES] = NAME_HEADER_PROOF ": ";
    struct vouch v;
    if (!forward_visits(f, x))
        return true;
    if (read_again(f, x, &v) || vouch_answer(&v, line + sizeof NAME_HEADER_PROOF + 1, NULL))
        return false;
    web_continue(x, line);
    return true;
}

bool forward_enters(const struct forward *f, struct web_exchange *x)
{
    struct vouch v;
    size_t len;
    const char *body = web_body(x, &len);
    if (!forward_visits(f, x))
        return true;
    if (read_again(f, x, &v) || !vouch_sealed(&v, body, len))
        return false;
    web_body_drop(x, VOUCH_MAC_BYTES);
    web_pulse(x, PULSE_MS);
    return true;
}

bool forward_admits(const struct forward *f, struct web_exchange *x, int answers)
{
    return !forward_visits(f, x) || forward_key(f, x) < 0 ||
        beyond_places(f, answers) <= web_noted(x) / NOTED_KEYS + f->conf.serve->routing.max_ahead;
}

/* -- who there is -- */

static int copy_peers(
    struct arena *a, const struct desired *d, struct forward_peer *peers, const char **names)
{
    for (int i = 0; i < d->member_count; i++) {
        const struct desired_member *m = &d->members[i];
        peers[i] = (struct forward_peer){.name = arena_strdup(a, m->pod),
            .uid = arena_strdup(a, m->uid),
            .address = arena_strdup(a, m->address)};
        names[i] = peers[i].name;
        if (!peers[i].name || !peers[i].uid || !peers[i].address)
            return -ERR_MEMORY;
    }
    return 0;
}

/* Those under way to whom is not ready any more; what has begun ends as it will. */
static void call_back(struct forward *f)
{
    struct parcel *p = f->first;
    while (p) {
        if (p->begun || find_peer(f, p->uid)) {
            p = p->next;
            continue;
        }
        http_cancel(f->http, p);
        hand_back(p);
        p = f->first; /* the list may be another */
    }
}

int forward_told(struct forward *f, const struct desired *d, struct err *e)
{
    size_t n = (size_t)d->member_count + 1;
    struct arena *a = arena_create(LIMIT_REPORT_BYTES);
    struct forward_peer *peers = a ? arena_array(a, n, sizeof *peers) : NULL;
    const char **names = peers ? arena_array(a, n, sizeof *names) : NULL;
    if (!names || copy_peers(a, d, peers, names)) {
        arena_destroy(a);
        return err_set(e, ERR_MEMORY, "no memory for the replicas");
    }
    for (int i = 0; i < d->member_count; i++) {
        const struct forward_peer *before = find_peer(f, peers[i].uid);
        peers[i].shy_ms = before ? before->shy_ms : 0;
    }
    arena_destroy(f->arena);
    f->arena = a;
    f->peers = peers;
    f->names = names;
    f->count = d->member_count;
    log_info("replicas that are ready", LOG_I("count", f->count));
    call_back(f);
    return 0;
}

/* -- life -- */

int forward_in_flight(const struct forward *f)
{
    return f ? f->in_flight : 0;
}

void forward_leave(struct forward *f)
{
    for (struct parcel *p = f ? f->first : NULL; p; p = p->next)
        if (!p->begun)
            web_last(p->x);
}

void forward_end(struct forward *f)
{
    while (f && f->first) {
        http_cancel(f->http, f->first);
        end_with_error(f->first, "the model was stopped");
    }
}

void forward_tick(struct forward *f)
{
    struct err e = {0};
    if (f && http_turn(f->http, NULL, 0, 0, &e))
        log_warn("forwarding failed", LOG_ERR(&e));
}
