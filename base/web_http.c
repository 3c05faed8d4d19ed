/*
 * web_http: listeners, connections and exchanges of base/web. A connection reads a head, then a
 * body, is asked (its exchange is the handler's until the answer is out), and begins anew; what
 * came in behind a request waits in `in`, so pipelined requests are answered in turn. One read a
 * round and connection; nothing here waits.
 *
 * drive() is the only place that moves a connection on or closes it. Functions that callers reach
 * (web_answer, ...) only fill buffers and ask for a writable event, so a connection never goes away
 * under its caller.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/web_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define IN_BYTES     REQUEST_HEAD_BYTES
#define STREAM_BYTES (1 << 20) /* of a stream that the client has not taken */
#define HEAD_BYTES   8192      /* of an answer */
#define EXTRA_BYTES  2048      /* of its further headers */
#define DOOR_BYTES   (16 << 20)
#define ACCEPT_ROUND 64
#define LINGER_MS    2000 /* until the client has read why it was refused */
#define KEY_BYTES    24   /* Sec-WebSocket-Key: 16 bytes in base64 */

enum web_phase {
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_ASKED,  /* the handler's, until ended and written */
    PHASE_LINGER, /* answered and shut down: what still comes is thrown away */
};

struct connection {
    struct watch watch;
    struct listener *listener;
    enum web_phase phase;
    bool begun;                    /* PHASE_HEAD: a byte of the request is here */
    bool eof;                      /* the client sends no more */
    bool closes;                   /* after this answer */
    bool driven;                   /* inside drive, which asks for events when it is done */
    int64_t since_ms, deadline_ms; /* of the phase; deadline 0: none */
    size_t scanned;                /* of `in`, by request_find */
    struct buf in;
    struct web_exchange *x;
};

struct web_exchange {
    struct connection *c;
    struct request request;
    struct request_body reader;
    struct buf body, out;
    struct buf extra; /* header lines of the answer to come */
    size_t sent;      /* of out */
    size_t held;      /* what the listener counts for it */
    uint64_t id;
    int64_t note;                  /* the caller's */
    int64_t pulse_ms, pulse_at_ms; /* how often, 0: never; when next */
    bool headless, begun, ended;   /* begun: the answer */
    void *user;
    void (*gone_fn)(void *user);
};

enum web_step {
    STEP_GO,   /* once more, in the phase that it is in now */
    STEP_WAIT, /* for the client, the handler or a deadline */
    STEP_END,
};

static void on_event(struct watch *watch, uint32_t events);

/* -- what is held -- */

static void count_held(struct web_exchange *x)
{
    size_t now = x->body.cap + x->out.cap;
    x->c->listener->held += now - x->held;
    x->held = now;
}

/* Whether n more bytes in b stay within the door's memory, also while b is being moved. */
static bool may_hold(const struct web_exchange *x, const struct buf *b, size_t n)
{
    const struct listener *l = x->c->listener;
    size_t need = b->len + n + 1, grows = need <= b->cap ? 0 : 2 * need;
    return grows <= l->door.memory && l->held <= l->door.memory - grows;
}

static void exchange_release(struct web_exchange *x)
{
    buf_done(&x->body);
    buf_done(&x->out);
    buf_done(&x->extra);
    request_done(&x->request);
}

static void exchange_free(struct web_exchange *x)
{
    if (!x)
        return;
    x->c->x = NULL;
    exchange_release(x);
    count_held(x);
    mem_free(x);
}

static struct web_exchange *exchange_create(struct connection *c)
{
    struct web_exchange *x = mem_zalloc(sizeof *x);
    if (!x)
        return NULL;
    x->c = c;
    x->id = ++c->listener->web->exchanges;
    buf_init(&x->body, c->listener->door.body_limit);
    buf_init(&x->out, STREAM_BYTES + HEAD_BYTES);
    buf_init(&x->extra, EXTRA_BYTES);
    c->x = x;
    return x;
}

static bool has_output(const struct web_exchange *x)
{
    return x && x->out.len > x->sent;
}

/* -- connections -- */

static void enter(struct connection *c, enum web_phase phase, int64_t limit_ms)
{
    c->phase = phase;
    c->since_ms = clock_ms();
    c->deadline_ms = limit_ms ? c->since_ms + limit_ms : 0;
}

/* Asks for the events that the connection can make use of. */
static void arm(struct connection *c)
{
    uint32_t events = c->phase != PHASE_ASKED ? EPOLLIN : c->eof ? 0 : EPOLLRDHUP;
    if (has_output(c->x) || (c->phase == PHASE_ASKED && c->x->ended))
        events |= EPOLLOUT;
    web_watch_events(c->listener->web, &c->watch, events);
}

/* Its memory goes after the round, the rest now. handed: the descriptor and the slot live on. */
static void connection_end(struct connection *c, bool handed)
{
    struct listener *l = c->listener;
    struct web_exchange *x = c->x;
    void (*gone_fn)(void *) = x ? x->gone_fn : NULL;
    void *user = x ? x->user : NULL;
    web_watch_drop(l->web, &c->watch);
    if (!handed) {
        io_close(c->watch.fd);
        l->connections--;
    }
    exchange_free(x);
    buf_done(&c->in);
    if (gone_fn)
        gone_fn(user);
}

static void connection_done(struct watch *watch)
{
    struct connection *c = (struct connection *)watch;
    if (watch->dead)
        return;
    io_close(watch->fd);
    if (c->x)
        exchange_release(c->x);
    mem_free(c->x);
    buf_done(&c->in);
}

/* -- reading -- */

/* An answer of our own; what follows on the connection is not read any more. */
static enum web_step refuse(struct connection *c, int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {400, "the request is malformed\n"},
        {404, "not found\n"},
        {405, "this method is not for this server\n"},
        {408, "the request came too slowly\n"},
        {411, "Content-Length or chunked transfer-encoding is needed\n"},
        {413, "the request body is too large\n"},
        {417, "only 100-continue can be expected\n"},
        {426, "WebSocket version 13 is needed\n"},
        {431, "the request's headers are too large\n"},
        {501, "this method or transfer-encoding is not implemented\n"},
        {503, "the server holds too many requests\n"},
        {505, "version 1.1 is spoken here\n"},
    };
    const char *const later[] = {"Retry-After: 1", NULL};
    const char *const version[] = {"Sec-WebSocket-Version: 13", NULL};
    struct web_exchange *x = c->x ? c->x : exchange_create(c);
    size_t i = 0;
    if (!x)
        return STEP_END;
    while (i + 1 < sizeof table / sizeof *table && table[i].status != status)
        i++;
    c->closes = true;
    enter(c, PHASE_ASKED, WEB_WRITE_MS);
    web_answer(x, status, "text/plain", table[i].text, strlen(table[i].text),
        status == 503       ? later
            : status == 426 ? version
                            : NULL);
    return STEP_GO;
}

static bool is_key(const char *key)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return key && strlen(key) == KEY_BYTES && strspn(key, base64) == KEY_BYTES - 2 &&
        !strcmp(key + KEY_BYTES - 2, "==");
}

static enum web_step upgrade(struct connection *c)
{
    struct listener *l = c->listener;
    const struct request *r = &c->x->request;
    const struct socket_path *p = web_socket_path(l->web, r->path);
    const char *version = request_header(r, "sec-websocket-version");
    const char *key = request_header(r, "sec-websocket-key");
    if (!p)
        return refuse(c, 404);
    if (!version || strcmp(version, "13") != 0)
        return refuse(c, 426);
    /* A client waits for the answer before it goes on. */
    if (!is_key(key) || r->chunked || r->length || c->in.len)
        return refuse(c, 400);
    char own[KEY_BYTES + 1];
    int fd = c->watch.fd;
    memcpy(own, key, sizeof own);
    connection_end(c, true);
    web_socket_accept(l, fd, own, p);
    return STEP_END;
}

static enum web_step ask(struct connection *c)
{
    const struct web_door *door = &c->listener->door;
    enter(c, PHASE_ASKED, 0);
    door->request_fn(door->user, c->x);
    return STEP_GO;
}

static bool needs_length(const struct request *r)
{
    bool has =
        !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") || !strcmp(r->method, "PATCH");
    return has && !r->sized && !r->chunked;
}

/* Whether the door lets the request's body in; when not, it has been answered. */
static bool admitted(struct connection *c)
{
    const struct web_door *door = &c->listener->door;
    const struct request *r = &c->x->request;
    bool closes = c->closes;
    if (!door->admit_fn)
        return true;
    c->closes = closes || r->chunked || r->length; /* the body will not be read */
    if (!door->admit_fn(door->user, c->x))
        return false;
    c->closes = closes;
    return true;
}

static enum web_step read_request(struct connection *c, size_t n)
{
    struct web_exchange *x = exchange_create(c);
    if (!x)
        return STEP_END;
    struct request *r = &x->request;
    int status = request_parse(c->in.data, n, r);
    buf_drop(&c->in, n);
    if (status)
        return refuse(c, status);
    x->headless = !strcmp(r->method, "HEAD");
    c->closes = !r->keep_alive;
    if (r->websocket && !c->listener->door.plain)
        return upgrade(c);
    enter(c, PHASE_ASKED, 0);
    if (!admitted(c))
        return STEP_GO;
    if (needs_length(r))
        return refuse(c, 411);
    if (r->length > x->body.limit)
        return refuse(c, 413);
    if (r->sized)
        x->body.limit = (size_t)r->length;
    request_body_begin(&x->reader, r);
    enter(c, PHASE_BODY, WEB_BODY_MS);
    if (r->expects && !request_body_ended(&x->reader) && !c->in.len && !x->out.len)
        buf_str(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");
    return STEP_GO;
}

static enum web_step step_head(struct connection *c)
{
    int n = request_find(c->in.data, c->in.len, &c->scanned);
    if (n == 0)
        return c->eof ? STEP_END : STEP_WAIT;
    if (n < 0)
        return refuse(c, -n);
    c->scanned = 0;
    if (n > 2)
        return read_request(c, (size_t)n);
    buf_drop(&c->in, 2); /* an empty line before a request means nothing */
    return STEP_GO;
}

/* Takes n bytes of `in` at most as body; *used says how many. 0, or the status to answer. */
static int take_body(struct web_exchange *x, const char *data, size_t n, size_t *used)
{
    *used = 0;
    while (*used < n && !request_body_ended(&x->reader)) {
        const char *piece;
        size_t len;
        int64_t k = request_body_take(&x->reader, data + *used, n - *used, &piece, &len);
        if (k < 0)
            return (int)-k;
        if (len > x->body.limit - x->body.len)
            return 413;
        if (len && (!may_hold(x, &x->body, len) || buf_add(&x->body, piece, len)))
            return 503;
        count_held(x);
        *used += (size_t)k;
    }
    return 0;
}

static int flush(struct connection *c)
{
    struct web_exchange *x = c->x;
    if (!has_output(x))
        return 0;
    int64_t n = io_send_now(c->watch.fd, x->out.data + x->sent, x->out.len - x->sent, NULL);
    if (n < 0)
        return -1;
    x->sent += (size_t)n;
    if (x->sent < x->out.len)
        return 0;
    buf_done(&x->out);
    x->sent = 0;
    count_held(x);
    if (c->phase == PHASE_ASKED)
        c->deadline_ms = 0;
    return 0;
}

static enum web_step step_body(struct connection *c)
{
    size_t used;
    if (flush(c)) /* the word that the client waits for */
        return STEP_END;
    int status = take_body(c->x, c->in.data, c->in.len, &used);
    if (status)
        return refuse(c, status);
    buf_drop(&c->in, used);
    if (request_body_ended(&c->x->reader))
        return ask(c);
    return c->eof ? STEP_END : STEP_WAIT;
}

static enum web_step step_asked(struct connection *c)
{
    if (flush(c))
        return STEP_END;
    if (has_output(c->x))
        return STEP_WAIT;
    if (!c->x->ended)
        return c->eof ? STEP_END : STEP_WAIT;
    exchange_free(c->x);
    if (c->closes) { /* closing with input unread would take the answer away again */
        shutdown(c->watch.fd, SHUT_WR);
        enter(c, PHASE_LINGER, LINGER_MS);
        return STEP_GO;
    }
    c->begun = c->in.len > 0;
    if (!c->begun)
        buf_done(&c->in);
    enter(c, PHASE_HEAD, c->begun ? WEB_HEAD_MS : WEB_IDLE_MS);
    return STEP_GO;
}

static enum web_step step_linger(struct connection *c)
{
    buf_done(&c->in);
    return c->eof ? STEP_END : STEP_WAIT;
}

static void drive(struct connection *c)
{
    static enum web_step (*const steps[])(struct connection * c) = {
        [PHASE_HEAD] = step_head,
        [PHASE_BODY] = step_body,
        [PHASE_ASKED] = step_asked,
        [PHASE_LINGER] = step_linger,
    };
    enum web_step step = STEP_GO;
    c->driven = true;
    while (step == STEP_GO) /* ends: only what is in `in` is read */
        step = steps[c->phase](c);
    c->driven = false;
    if (c->watch.dead)
        return;
    if (step == STEP_END)
        connection_end(c, false);
    else
        arm(c);
}

static int fill(struct connection *c)
{
    char piece[IN_BYTES];
    int64_t n = io_recv_now(c->watch.fd, piece, sizeof piece - c->in.len, NULL);
    c->eof = n < 0;
    if (n <= 0)
        return 0;
    if (c->phase == PHASE_HEAD && !c->begun) {
        c->begun = true;
        enter(c, PHASE_HEAD, WEB_HEAD_MS);
    }
    return buf_add(&c->in, piece, (size_t)n);
}

static void on_event(struct watch *watch, uint32_t events)
{
    struct connection *c = (struct connection *)watch;
    bool broken = events & (EPOLLERR | EPOLLHUP);
    if (c->phase == PHASE_ASKED)
        c->eof = c->eof || (events & EPOLLRDHUP);
    else if (events & (EPOLLIN | EPOLLRDHUP))
        broken = fill(c) || broken;
    if (broken)
        connection_end(c, false);
    else
        drive(c);
}

/* -- listening -- */

/* How much would be lost: nothing of who has not brought a whole request, or was refused; a body,
 * or an answer that the client does not take; -1: the handler is at it. */
static int loss_of(const struct connection *c)
{
    if (c->phase == PHASE_ASKED)
        return c->x->ended ? 1 : -1;
    return c->phase == PHASE_BODY;
}

/* Ends the connection with the least loss that has waited for its client the longest. */
static bool make_room(struct listener *l)
{
    struct connection *victim = NULL;
    int least = 0;
    for (struct watch *x = l->web->watches; x; x = x->next) {
        struct connection *c = (struct connection *)x;
        if (x->fn != on_event || x->dead || c->listener != l)
            continue;
        int loss = loss_of(c);
        if (loss >= 0 &&
            (!victim || loss < least || (loss == least && c->since_ms <= victim->since_ms))) {
            victim = c;
            least = loss;
        }
    }
    if (victim)
        connection_end(victim, false);
    return victim != NULL;
}

void web_http_adopt(struct listener *l, int fd)
{
    struct connection *c = NULL;
    if (l->connections < l->door.slots || make_room(l))
        c = mem_zalloc(sizeof *c);
    if (!c || web_watch_add(l->web, &c->watch, fd, EPOLLIN)) {
        mem_free(c);
        io_close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->watch.fn = on_event;
    c->watch.done_fn = connection_done;
    c->listener = l;
    buf_init(&c->in, IN_BYTES);
    enter(c, PHASE_HEAD, WEB_HEAD_MS);
    l->connections++;
}

void web_http_left(struct listener *l)
{
    l->connections--;
}

static void on_clients(struct watch *watch, uint32_t events)
{
    struct listener *l = (struct listener *)watch;
    (void)events;
    for (int i = 0; i < ACCEPT_ROUND; i++) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            web_http_adopt(l, fd);
            continue;
        }
        /* No descriptor: the client stays in the queue, and would be told of for ever. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            make_room(l);
            l->paused = true;
            web_watch_events(l->web, watch, 0);
        }
        return;
    }
}

static void listener_done(struct watch *watch)
{
    io_close(watch->fd);
}

int web_open(struct web *w, const struct web_door *door, uint16_t *bound_port, struct err *e)
{
    struct listener *l = mem_zalloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "out of memory");
    *l = (struct listener){
        .web = w, .door = *door, .watch.fn = on_clients, .watch.done_fn = listener_done};
    l->door.host = NULL;
    l->door.slots = door->slots ? door->slots : w->max_connections;
    l->door.body_limit = door->body_limit ? door->body_limit : w->body_limit;
    l->door.memory = door->memory ? door->memory : DOOR_BYTES;
    uint16_t bound = door->port;
    int fd = door->listener ? door->listener : io_listen(door->host, door->port, &bound, e);
    int rc = fd < 0 ? fd : io_set_nonblocking(fd, true, e);
    if (rc == 0 && (rc = web_watch_add(w, &l->watch, fd, EPOLLIN)))
        rc = err_sys(e, ERR_BUG, -rc, "watching descriptor %d", fd);
    if (rc) {
        if (fd != door->listener)
            io_close(fd);
        mem_free(l);
        return rc;
    }
    if (bound_port)
        *bound_port = bound;
    return 0;
}

/* -- deadlines -- */

bool web_http_waits(const struct web *w)
{
    for (const struct watch *x = w->watches; x; x = x->next)
        if (!x->dead &&
            (x->fn == on_event || (x->fn == on_clients && ((struct listener *)x)->paused)))
            return true;
    return false;
}

static void check_deadline(struct connection *c, int64_t now_ms)
{
    if (!c->deadline_ms || now_ms < c->deadline_ms)
        return;
    bool told = (c->phase == PHASE_HEAD && c->begun) || c->phase == PHASE_BODY;
    if (told && refuse(c, 408) == STEP_GO) {
        drive(c);
        return;
    }
    if (c->phase == PHASE_ASKED) /* the kernel, too, forgets what the client does not take */
        setsockopt(
            c->watch.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    connection_end(c, false);
}

/* The client is to be written to, outside of drive too. */
static void output_ready(struct web_exchange *x)
{
    struct connection *c = x->c;
    count_held(x);
    if (has_output(x) && !c->deadline_ms)
        enter(c, c->phase, WEB_WRITE_MS);
    if (!c->driven)
        arm(c);
}

static void beat(struct connection *c, int64_t now_ms)
{
    struct web_exchange *x = c->x;
    if (c->phase != PHASE_ASKED || !x->pulse_ms || x->begun || now_ms < x->pulse_at_ms)
        return;
    x->pulse_at_ms = now_ms + x->pulse_ms;
    if (!has_output(x))
        buf_str(&x->out, "HTTP/1.1 102 Processing\r\n\r\n");
    output_ready(x);
}

void web_http_tick(struct web *w, int64_t now_ms)
{
    for (struct watch *x = w->watches; x; x = x->next) {
        struct listener *l = (struct listener *)x;
        if (x->fn == on_event && !x->dead)
            beat((struct connection *)x, now_ms);
        if (x->fn == on_event && !x->dead)
            check_deadline((struct connection *)x, now_ms);
        if (x->fn == on_clients && l->paused) {
            l->paused = false;
            web_watch_events(w, x, EPOLLIN);
        }
    }
}

/* -- the request, to the handler -- */

const char *web_method(const struct web_exchange *x)
{
    return x->headless ? "GET" : x->request.method;
}

const char *web_path(const struct web_exchange *x)
{
    return x->request.path;
}

const char *web_header(const struct web_exchange *x, const char *lower_case_name)
{
    return request_header(&x->request, lower_case_name);
}

const char *web_body(const struct web_exchange *x, size_t *len)
{
    *len = x->body.len;
    return buf_cstr(&x->body);
}

uint64_t web_id(const struct web_exchange *x)
{
    return x->id;
}

bool web_reached(const struct web_exchange *x, const char *host, uint16_t port)
{
    return io_own_is(x->c->watch.fd, host, port);
}

void web_note(struct web_exchange *x, int64_t note)
{
    x->note = note;
}

int64_t web_noted(const struct web_exchange *x)
{
    return x->note;
}

void web_continue(struct web_exchange *x, const char *line)
{
    buf_printf(&x->out, "HTTP/1.1 100 Continue\r\n%s\r\n\r\n", line);
}

void web_body_drop(struct web_exchange *x, size_t n)
{
    buf_drop(&x->body, n);
}

void web_pulse(struct web_exchange *x, int64_t every_ms)
{
    x->pulse_ms = every_ms;
    x->pulse_at_ms = clock_ms() + every_ms;
}

void web_set_user(struct web_exchange *x, void *user, void (*gone_fn)(void *user))
{
    x->user = user;
    x->gone_fn = gone_fn;
}

/* -- answers -- */

void web_add_header(struct web_exchange *x, const char *line)
{
    if (!strpbrk(line, "\r\n"))
        buf_printf(&x->extra, "%s\r\n", line);
}

void web_last(struct web_exchange *x)
{
    x->c->closes = true;
}

/* length: of the body, -1 for a stream */
static void write_head(struct web_exchange *x, int status, const char *content_type, int64_t length,
    const char *const *headers)
{
    struct connection *c = x->c;
    const struct request *r = &x->request;
    bool bodiless = status == 204 || status == 304;
    x->begun = true;
    if (length < 0 && r->http10) /* no chunks there: the end of the stream is its end */
        c->closes = true;
    buf_printf(&x->out, "HTTP/1.1 %d %s\r\n", status, request_reason(status));
    if (!bodiless)
        buf_printf(&x->out, "Content-Type: %s\r\n", content_type);
    if (length >= 0 && !bodiless)
        buf_printf(&x->out, "Content-Length: %lld\r\n", (long long)length);
    if (length < 0 && !r->http10)
        buf_str(&x->out, "Transfer-Encoding: chunked\r\n");
    if (c->closes || r->http10)
        buf_printf(&x->out, "Connection: %s\r\n", c->closes ? "close" : "keep-alive");
    for (; headers && *headers; headers++)
        web_add_header(x, *headers);
    buf_printf(&x->out, "%s\r\n", buf_cstr(&x->extra));
    buf_done(&x->extra);
}

void web_answer(struct web_exchange *x, int status, const char *content_type, const void *body,
    size_t len, const char *const *headers)
{
    static const char full[] = "the server holds too much\n";
    if (!may_hold(x, &x->out, HEAD_BYTES + len) && len > sizeof full) {
        status = 503;
        content_type = "text/plain";
        body = full;
        len = sizeof full - 1;
        headers = NULL;
    }
    x->out.limit = x->out.len + HEAD_BYTES + len;
    write_head(x, status, content_type, (int64_t)len, headers);
    if (len && !x->headless && status != 204)
        buf_add(&x->out, body, len);
    if (!buf_ok(&x->out)) { /* nothing can be said: the connection ends */
        buf_init(&x->out, 0);
        x->c->closes = true;
    }
    x->ended = true;
    x->gone_fn = NULL;
    buf_done(&x->body);
    output_ready(x);
}

void web_stream_begin(struct web_exchange *x, int status, const char *content_type)
{
    write_head(x, status, content_type, -1, NULL);
    output_ready(x);
}

/* One chunk, or what ends them. */
static int add_chunk(struct web_exchange *x, const void *data, size_t len)
{
    if (x->headless)
        return 0;
    if (x->request.http10)
        return buf_add(&x->out, data, len);
    buf_printf(&x->out, "%zx\r\n", len);
    buf_add(&x->out, data, len);
    return buf_str(&x->out, "\r\n");
}

int web_stream_data(struct web_exchange *x, const void *data, size_t len)
{
    size_t framed = len + 32; /* with the last chunk, so that an end always fits */
    if (!len)
        return 0;
    if (x->sent && x->out.len + framed > x->out.limit) {
        buf_drop(&x->out, x->sent);
        x->sent = 0;
    }
    if (x->out.len + framed > x->out.limit || !may_hold(x, &x->out, framed))
        return -ERR_MEMORY;
    int rc = add_chunk(x, data, len);
    output_ready(x);
    return rc;
}

size_t web_stream_left(const struct web_exchange *x)
{
    return x->out.len - x->sent;
}

void web_stream_end(struct web_exchange *x)
{
    if (add_chunk(x, NULL, 0)) /* a stream that lacks an end must not look whole */
        x->c->closes = true;
    x->ended = true;
    x->gone_fn = NULL;
    output_ready(x);
}
