/*
 * web_socket: WebSockets of base/web, on libwebsockets 4.1. It is shown an upgrade as a request
 * that is written here, after web_http.c has read and granted the client's; so its own HTTP server
 * never reads a byte of a stranger. Output queues are bounded; a lws connection's opaque user data
 * is its web_socket. Nothing calls back into the user during web_destroy.
 */
#include "base/io.h"
#include "base/mem.h"
#include "base/web_internal.h"

#include <libwebsockets.h>
#include <string.h>

#define SEND_BYTES (16 << 20) /* queued messages of one WebSocket */

struct message {
    struct message *next;
    size_t len;
    unsigned char data[]; /* LWS_PRE bytes of room, then the text */
};

struct web_socket {
    struct web *web;
    struct listener *listener; /* server: whose slot it holds */
    struct lws *wsi;
    struct web_socket_fns fns;
    void *user;
    bool open, dialing, closing, failed;
    bool silent; /* server, before open_fn: nobody knows it */
    char why[128];
    struct buf in;
    struct message *head, **tail;
    size_t queued;
};

static struct web_socket *socket_create(struct web *w, const struct web_socket_fns *fns, void *user)
{
    struct web_socket *s = mem_zalloc(sizeof *s);
    if (!s)
        return NULL;
    *s = (struct web_socket){.web = w, .fns = *fns, .user = user};
    s->tail = &s->head;
    buf_init(&s->in, w->body_limit);
    return s;
}

static void socket_free(struct web_socket *s)
{
    if (!s)
        return;
    for (struct message *m = s->head, *next; m; m = next) {
        next = m->next;
        mem_free(m);
    }
    if (s->listener && !s->web->destroying)
        web_http_left(s->listener);
    buf_done(&s->in);
    mem_free(s);
}

/* -- the server's side -- */

int web_accept_sockets(
    struct web *w, const char *path, const struct web_socket_fns *fns, void *user, struct err *e)
{
    struct socket_path *p = mem_zalloc(sizeof *p);
    char *own_path = mem_strdup(path);
    if (!p || !own_path) {
        mem_free(p);
        mem_free(own_path);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    *p = (struct socket_path){w->paths, own_path, fns, user};
    w->paths = p;
    return 0;
}

const struct socket_path *web_socket_path(const struct web *w, const char *path)
{
    const struct socket_path *p = w->paths;
    while (p && strcmp(path, p->path) != 0)
        p = p->next;
    return p;
}

void web_socket_accept(struct listener *l, int fd, const char *key, const struct socket_path *p)
{
    struct web *w = l->web;
    struct web_socket *s = socket_create(w, p->fns, p->user);
    if (!s) {
        io_close(fd);
        web_http_left(l);
        return;
    }
    s->listener = l;
    s->silent = true;
    char text[256];
    int n = snprintf(text, sizeof text,
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
        key);
    /* libwebsockets answers it before it returns; the callbacks find s in `adopting`. */
    w->adopting = s;
    struct lws *wsi = lws_adopt_socket_vhost_readbuf(w->vhost, fd, text, (size_t)n);
    if (w->adopting && wsi) { /* put off */
        s->wsi = wsi;
        lws_set_opaque_user_data(wsi, s);
    } else if (w->adopting) {
        socket_free(s);
    }
    w->adopting = NULL;
}

static int on_upgrade(struct lws *wsi)
{
    struct web *w = lws_context_user(lws_get_context(wsi));
    if (w->adopting) {
        w->adopting->wsi = wsi;
        lws_set_opaque_user_data(wsi, w->adopting);
        w->adopting = NULL;
    }
    return lws_get_opaque_user_data(wsi) ? 0 : -1;
}

static int on_accepted(struct web_socket *s)
{
    if (!s)
        return -1;
    s->open = true;
    s->silent = false;
    s->fns.open_fn(s->user, s);
    return 0;
}

/* -- the client's side -- */

int web_dial(struct web *w, const char *host, uint16_t port, const char *path,
    const struct web_socket_fns *fns, void *user, struct web_socket **out, struct err *e)
{
    struct web_socket *s = socket_create(w, fns, user);
    if (!s)
        return err_set(e, ERR_MEMORY, "out of memory");
    s->dialing = true;
    struct lws_client_connect_info info = {
        .context = w->cx,
        .vhost = w->vhost,
        .address = host,
        .port = port,
        .path = path,
        .host = host,
        .local_protocol_name = "llmjob",
        .opaque_user_data = s,
        .pwsi = &s->wsi,
        .retry_and_idle_policy = w->retry,
    };
    struct lws *wsi = lws_client_connect_via_info(&info);
    s->dialing = false;
    if (!wsi || s->failed) {
        int rc =
            err_set(e, ERR_PEER, "%s:%u: %s", host, port, s->why[0] ? s->why : "cannot be dialled");
        socket_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

static int on_dialled(struct web_socket *s)
{
    s->open = true;
    s->fns.open_fn(s->user, s);
    if (s->head || s->closing)
        lws_callback_on_writable(s->wsi);
    return 0;
}

/* -- both -- */

int web_send(struct web_socket *s, const char *text, size_t len)
{
    if (s->closing)
        return 0;
    struct message *m = s->queued + len > SEND_BYTES ? NULL : mem_alloc(sizeof *m + LWS_PRE + len);
    if (!m)
        return -ERR_MEMORY;
    m->next = NULL;
    m->len = len;
    memcpy(m->data + LWS_PRE, text, len);
    *s->tail = m;
    s->tail = &m->next;
    s->queued += len;
    if (s->open)
        lws_callback_on_writable(s->wsi);
    return 0;
}

void web_close(struct web_socket *s)
{
    s->closing = true;
    if (s->open)
        lws_callback_on_writable(s->wsi); /* after what is queued */
    else
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

void web_socket_limit(struct web_socket *s, size_t bytes)
{
    s->in.limit = bytes;
}

static int on_message(struct web_socket *s, const char *data, size_t len)
{
    if (!s)
        return -1;
    if (buf_add(&s->in, data, len)) {
        snprintf(s->why, sizeof s->why, "a message is too large");
        return -1;
    }
    if (!lws_is_final_fragment(s->wsi) || lws_remaining_packet_payload(s->wsi))
        return 0;
    if (!s->closing)
        s->fns.message_fn(s->user, s, buf_cstr(&s->in), s->in.len);
    buf_reset(&s->in);
    return 0;
}

static int on_writable(struct web_socket *s)
{
    struct message *m = s ? s->head : NULL;
    if (m) {
        s->head = m->next;
        if (!s->head)
            s->tail = &s->head;
        s->queued -= m->len;
        int n = lws_write(s->wsi, m->data + LWS_PRE, m->len, LWS_WRITE_TEXT);
        mem_free(m);
        if (n < 0)
            return -1;
        if (s->head || s->closing)
            lws_callback_on_writable(s->wsi);
        return 0;
    }
    return !s || s->closing ? -1 : 0;
}

static void on_closed(struct web_socket *s, const char *why)
{
    if (!s)
        return;
    if (!s->why[0])
        snprintf(s->why, sizeof s->why, "%s", why ? why : "closed");
    if (s->dialing) { /* web_dial reports it */
        s->failed = true;
        return;
    }
    s->open = false;
    s->closing = true; /* what the callback sends goes nowhere */
    if (!s->silent && !s->web->destroying)
        s->fns.closed_fn(s->user, s, s->why);
    socket_free(s);
}

int web_socket_callback(struct lws *wsi, int reason, void *in, size_t len)
{
    struct web_socket *s = wsi ? lws_get_opaque_user_data(wsi) : NULL;
    switch ((enum lws_callback_reasons)reason) {
    case LWS_CALLBACK_HTTP:
        return -1; /* only upgrades come here */
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(wsi);
    case LWS_CALLBACK_ESTABLISHED:
        return on_accepted(s);
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        return on_dialled(s);
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_message(s, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writable(s);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_WSI_DESTROY: /* whichever comes first */
        if (s)
            lws_set_opaque_user_data(wsi, NULL);
        on_closed(s, reason == LWS_CALLBACK_CLIENT_CONNECTION_ERROR ? in : NULL);
        return 0;
    default:
        return 0; /* libwebsockets asks about much that concerns nobody here */
    }
}
