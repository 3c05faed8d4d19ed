/*
 * http: the only file that includes libcurl. One multi handle, driven by http_turn.
 *
 * http_start only queues: easy handles are added and removed inside http_turn and never while curl
 * is calling back, so callbacks may start and cancel freely. Deadlines are kept here on clock_ms
 * (curl's own count from another clock and have no idle limit below a second). A streaming request
 * that ends in an error status gets its body in done_fn like any other, so that the server's reason
 * is not lost. Knows nothing of Kubernetes.
 */
#include "base/http.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_IN_FLIGHT 64
#define DEFAULT_LIMIT     ((size_t)64 << 20)
#define CONNECT_MS        10000
#define CA_CACHE_SECONDS  60 /* a rotated CA file is read again after so long */
#define EXTRA_FDS_MAX     16
#define LINE_BYTES        1024 /* of a head that line_fn hears: a longer one is passed over */
#define PROBE_SECONDS     2    /* of a peer that must show that it is there */

struct http_transfer {
    struct http_transfer *next;
    uint64_t id;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body;
    int64_t deadline_ms, idle_ms, last_byte_ms; /* deadline 0: none */
    bool added;
    enum { END_NONE, END_STOPPED, END_LIMIT } end; /* why write_body refused */
    int64_t (*body_fn)(void *user, char *out, size_t size);
    int (*line_fn)(void *user, int status, const char *line);
    int (*data_fn)(void *user, const char *data, size_t len);
    void (*done_fn)(void *user, const struct http_response *r);
    void *user;
    char curl_error[CURL_ERROR_SIZE];
};

struct http {
    CURLM *multi;
    struct http_transfer *first, **tail; /* in the order of http_start */
    int running, max_running, gather_ms, peer_ms;
    int epoll; /* holds curl's sockets, of a watched client; else -1 */
    uint64_t started;
    char *strings[7]; /* copies of conf's */
    char *user_agent;
    bool insecure, http2;
};

enum { CA_FILE, CERT_FILE, KEY_FILE, CA_PEM, CERT_PEM, KEY_PEM };

static void transfer_free(struct http *h, struct http_transfer *t)
{
    if (t->added) {
        curl_multi_remove_handle(h->multi, t->easy);
        h->running--;
    }
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    buf_done(&t->body);
    mem_free(t);
}

static void unlink_transfer(struct http *h, struct http_transfer *t)
{
    struct http_transfer **at = &h->first;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    if (h->tail == &t->next)
        h->tail = at;
}

/* curl says what it waits for. A socket that is closed has left the set by itself. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    const struct http *h = user;
    struct epoll_event ev = {.data.fd = fd};
    (void)easy;
    (void)known;
    ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (what == CURL_POLL_REMOVE)
        epoll_ctl(h->epoll, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(h->epoll, EPOLL_CTL_MOD, fd, &ev) && errno == ENOENT)
        return epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &ev);
    return 0;
}

static int make_watched(struct http *h)
{
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (h->epoll < 0)
        return -1;
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    return 0;
}

int http_create(const struct http_conf *conf, struct http **out, struct err *e)
{
    static bool ready;
    if (!ready && curl_global_init(CURL_GLOBAL_DEFAULT))
        return err_set(e, ERR_MEMORY, "cannot initialise libcurl");
    ready = true;
    struct http *h = mem_zalloc(sizeof *h);
    if (!h)
        return err_set(e, ERR_MEMORY, "no memory for an HTTP client");
    h->tail = &h->first;
    h->epoll = -1;
    h->peer_ms = conf->peer_ms;
    h->max_running = conf->max_in_flight ? conf->max_in_flight : DEFAULT_IN_FLIGHT;
    h->gather_ms = conf->gather_ms;
    h->insecure = conf->insecure;
    h->http2 = conf->http2;
    const char *from[] = {conf->ca_file, conf->cert_file, conf->key_file, conf->ca_pem,
        conf->cert_pem, conf->key_pem, conf->user_agent};
    for (int i = 0; i < 7; i++)
        if (from[i] && !(h->strings[i] = mem_strdup(from[i])))
            goto nomem;
    h->user_agent = h->strings[6];
    h->multi = curl_multi_init();
    if (!h->multi || (conf->watched && make_watched(h)))
        goto nomem;
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->max_running);
    *out = h;
    return 0;
nomem:
    http_destroy(h);
    return err_set(e, ERR_MEMORY, "no memory for an HTTP client");
}

void http_destroy(struct http *h)
{
    if (!h)
        return;
    while (h->first) {
        struct http_transfer *t = h->first;
        unlink_transfer(h, t);
        struct http_response r = {.body = "", .retry_after_ms = -1};
        err_set(&r.error, ERR_DRAINED, "the HTTP client is closing");
        t->done_fn(t->user, &r);
        transfer_free(h, t);
    }
    curl_multi_cleanup(h->multi);
    if (h->epoll >= 0)
        close(h->epoll);
    for (int i = 0; i < 7; i++)
        mem_free(h->strings[i]);
    mem_free(h);
}

static size_t write_body(char *data, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    size_t len = size * count;
    long status = 0;
    t->last_byte_ms = clock_ms();
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (t->data_fn && status < 300) {
        if (t->data_fn(t->user, data, len)) {
            t->end = END_STOPPED;
            return CURL_WRITEFUNC_ERROR;
        }
        return len;
    }
    if (buf_add(&t->body, data, len)) {
        t->end = END_LIMIT;
        return CURL_WRITEFUNC_ERROR;
    }
    return len;
}

static size_t see_header(char *data, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    char line[LINE_BYTES];
    size_t len = size * count;
    long status = 0;
    t->last_byte_ms = clock_ms();
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!t->line_fn || len >= sizeof line)
        return len;
    snprintf(line, sizeof line, "%.*s", (int)len, data);
    line[strcspn(line, "\r\n")] = 0;
    if (!t->line_fn(t->user, (int)status, line))
        return len;
    t->end = END_STOPPED;
    return CURL_WRITEFUNC_ERROR;
}

static size_t read_body(char *out, size_t size, size_t count, void *user)
{
    struct http_transfer *t = user;
    int64_t n = t->body_fn(t->user, out, size * count);
    if (n >= 0)
        return (size_t)n;
    t->end = END_STOPPED;
    return CURL_READFUNC_ABORT;
}

static int add_header(struct http_transfer *t, const char *line)
{
    struct curl_slist *l = curl_slist_append(t->headers, line);
    if (!l)
        return -1;
    t->headers = l;
    return 0;
}

static int add_headers(struct http_transfer *t, const struct http_request *r)
{
    buf_auto struct buf line;
    buf_init(&line, 64 << 10);
    int bad = 0;
    if (r->content_type) {
        buf_printf(&line, "Content-Type: %s", r->content_type);
        bad |= !buf_ok(&line) || add_header(t, line.data);
    }
    if (r->bearer) {
        buf_reset(&line);
        buf_printf(&line, "Authorization: Bearer %s", r->bearer);
        bad |= !buf_ok(&line) || add_header(t, line.data);
    }
    /* Without it curl waits a second for "100 Continue" before a large body. */
    bad |= add_header(t, r->body_fn ? "Expect: 100-continue" : "Expect:");
    for (int i = 0; r->headers && r->headers[i]; i++)
        bad |= add_header(t, r->headers[i]);
    return bad ? -1 : 0;
}

static void set_tls(const struct http *h, CURL *c)
{
    char *const *s = h->strings;
    if (h->insecure) {
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    const CURLoption file[] = {CURLOPT_CAINFO, CURLOPT_SSLCERT, CURLOPT_SSLKEY};
    const CURLoption blob[] = {CURLOPT_CAINFO_BLOB, CURLOPT_SSLCERT_BLOB, CURLOPT_SSLKEY_BLOB};
    for (int i = 0; i < 3; i++) {
        if (s[CA_FILE + i])
            curl_easy_setopt(c, file[i], s[CA_FILE + i]);
        if (s[CA_PEM + i]) {
            struct curl_blob b = {
                .data = s[CA_PEM + i], .len = strlen(s[CA_PEM + i]), .flags = CURL_BLOB_NOCOPY};
            curl_easy_setopt(c, blob[i], &b);
        }
    }
    curl_easy_setopt(c, CURLOPT_CA_CACHE_TIMEOUT, (long)CA_CACHE_SECONDS);
}

/* Before it connects. */
static int set_patience(void *user, curl_socket_t fd, curlsocktype purpose)
{
    const struct http *h = user;
    const unsigned patience_ms = (unsigned)h->peer_ms;
    (void)purpose;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof patience_ms);
    return CURL_SOCKOPT_OK;
}

static void set_peer(const struct http *h, CURL *c)
{
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(h->peer_ms ? h->peer_ms : CONNECT_MS));
    if (!h->peer_ms)
        return;
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, (long)PROBE_SECONDS);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, (long)PROBE_SECONDS);
    curl_easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, set_patience);
    curl_easy_setopt(c, CURLOPT_SOCKOPTDATA, h);
}

static int set_body(const struct http *h, struct http_transfer *t, const struct http_request *r)
{
    CURL *c = t->easy;
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    if (!r->body_fn)
        return curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, r->body) ? -1 : 0;
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, read_body);
    curl_easy_setopt(c, CURLOPT_READDATA, t);
    curl_easy_setopt(
        c, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)(h->peer_ms ? h->peer_ms : CONNECT_MS));
    return 0;
}

static int set_request(const struct http *h, struct http_transfer *t, const struct http_request *r)
{
    CURL *c = t->easy;
    if (add_headers(t, r) || curl_easy_setopt(c, CURLOPT_URL, r->url) ||
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method))
        return -1;
    if (!strcasecmp(r->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if ((r->body || r->body_fn) && set_body(h, t, r))
        return -1;
    set_tls(h, c);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION,
        h->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    /* Wait for the shared connection rather than open one more for each request of a burst;
     * without TLS there is no HTTP/2, and waiting would put the requests in a row. */
    bool share = h->http2 && !strncasecmp(r->url, "https:", 6);
    curl_easy_setopt(c, CURLOPT_PIPEWAIT, share ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    set_peer(h, c);
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 32L << 10);
    if (h->user_agent)
        curl_easy_setopt(c, CURLOPT_USERAGENT, h->user_agent);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, write_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, see_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_PRIVATE, t);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->curl_error);
    return 0;
}

int http_start(struct http *h, const struct http_request *r, struct err *e)
{
    assert(r->done_fn && (r->timeout_ms > 0 || r->idle_timeout_ms > 0));
    struct http_transfer *t = mem_zalloc(sizeof *t);
    if (!t || !(t->easy = curl_easy_init())) {
        mem_free(t);
        return err_set(e, ERR_MEMORY, "no memory for a request");
    }
    buf_init(&t->body, r->limit ? r->limit : DEFAULT_LIMIT);
    if (set_request(h, t, r)) {
        transfer_free(h, t);
        return err_set(e, ERR_USER, "cannot request %s %.150s", r->method, r->url);
    }
    int64_t now = clock_ms();
    h->started++;
    t->deadline_ms = r->timeout_ms > 0 ? now + r->timeout_ms : 0;
    t->idle_ms = r->idle_timeout_ms;
    t->last_byte_ms = now;
    t->body_fn = r->body_fn;
    t->line_fn = r->line_fn;
    t->data_fn = r->data_fn;
    t->done_fn = r->done_fn;
    t->user = r->user;
    *h->tail = t;
    h->tail = &t->next;
    return 0;
}

void http_cancel(struct http *h, const void *user)
{
    for (struct http_transfer *t = h->first, *after; t; t = after) {
        after = t->next;
        if (t->user != user)
            continue;
        unlink_transfer(h, t);
        transfer_free(h, t);
    }
}

int http_fd(const struct http *h)
{
    return h->epoll;
}

int http_in_flight(const struct http *h)
{
    int n = 0;
    for (const struct http_transfer *t = h->first; t; t = t->next)
        n++;
    return n;
}

static void describe_failure(const struct http_transfer *t, CURLcode code, struct err *e)
{
    const char *url = "";
    curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
    const char *why = t->curl_error[0] ? t->curl_error : curl_easy_strerror(code);
    if (t->end == END_STOPPED)
        err_set(e, ERR_DRAINED, "%.150s: stopped by the receiver", url);
    else if (t->end == END_LIMIT)
        err_set(e, ERR_RETRY, "%.150s: the answer exceeds %zu bytes", url, t->body.limit);
    else if (code == CURLE_OUT_OF_MEMORY)
        err_set(e, ERR_MEMORY, "%.150s: out of memory", url);
    else if (code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM ||
        code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_URL_MALFORMAT)
        err_set(e, ERR_USER, "%.150s: %s", url, why);
    else
        err_set(e, ERR_RETRY, "%.150s: %s", url, why);
}

/* Takes t out of the list, tells its owner, frees it. */
static void finish(struct http *h, struct http_transfer *t, const struct err *failure)
{
    struct http_response r = {.body = buf_cstr(&t->body), .len = t->body.len, .retry_after_ms = -1};
    unlink_transfer(h, t);
    if (failure) {
        r.error = *failure;
        r.body = "";
        r.len = 0;
    } else {
        long status = 0;
        curl_off_t seconds = 0;
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds);
        r.status = (int)status;
        if (seconds > 0 && seconds < 86400)
            r.retry_after_ms = seconds * 1000;
    }
    t->done_fn(t->user, &r);
    transfer_free(h, t);
}

static void reap(struct http *h)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(h->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        struct http_transfer *t = NULL;
        CURLcode code = m->data.result;
        struct err failure;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        if (code != CURLE_OK)
            describe_failure(t, code, &failure);
        finish(h, t, code == CURLE_OK ? NULL : &failure);
    }
}

/* Ends what is late. Returns the next deadline, or -1. */
static int64_t expire(struct http *h)
{
    int64_t now = clock_ms(), next = -1;
    for (struct http_transfer *t = h->first, *after; t; t = after) {
        after = t->next;
        int64_t end = t->deadline_ms;
        if (t->idle_ms > 0 && (!end || t->last_byte_ms + t->idle_ms < end))
            end = t->last_byte_ms + t->idle_ms;
        if (now >= end) {
            const char *url = "";
            struct err late;
            curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
            err_set(&late, ERR_HANG, "%.150s: no answer in time", url);
            finish(h, t, &late);
            after = h->first; /* the callback may have changed the list */
        } else if (next < 0 || end < next) {
            next = end;
        }
    }
    return next;
}

static int promote(struct http *h, bool *any, struct err *e)
{
    for (struct http_transfer *t = h->first; t && h->running < h->max_running; t = t->next) {
        if (t->added)
            continue;
        CURLMcode m = curl_multi_add_handle(h->multi, t->easy);
        if (m)
            return err_set(e, ERR_MEMORY, "cannot start a request: %s", curl_multi_strerror(m));
        t->added = *any = true;
        h->running++;
    }
    return 0;
}

/* What the sockets that it waits for have to say, and what is due. */
static CURLMcode act(struct http *h)
{
    struct epoll_event events[64];
    int running, n = epoll_wait(h->epoll, events, 64, 0);
    CURLMcode m = curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    for (int i = 0; i < n && !m; i++) {
        int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
            (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
            (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        m = curl_multi_socket_action(h->multi, events[i].data.fd, what, &running);
    }
    return m;
}

static int perform(struct http *h, struct err *e)
{
    int running;
    CURLMcode m = h->epoll >= 0 ? act(h) : curl_multi_perform(h->multi, &running);
    if (m)
        return err_set(
            e, m == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_BUG, "curl: %s", curl_multi_strerror(m));
    reap(h);
    return 0;
}

int http_turn(struct http *h, const int *extra_fds, int extra_count, int64_t wait_ms, struct err *e)
{
    assert(extra_count <= EXTRA_FDS_MAX);
    struct curl_waitfd extra[EXTRA_FDS_MAX];
    for (int i = 0; i < extra_count; i++)
        extra[i] = (struct curl_waitfd){.fd = extra_fds[i], .events = CURL_WAIT_POLLIN};
    uint64_t before = h->started;
    bool any = false;
    int ready = 0, rc = promote(h, &any, e);
    /* curl looks at each request in flight, whichever has news: once a turn, after the wait, is
     * enough unless there is something to send. */
    int running = h->running;
    if (rc || (any && (rc = perform(h, e))))
        return rc;
    int64_t next = expire(h);
    if (next >= 0 && next - clock_ms() < wait_ms)
        wait_ms = next - clock_ms();
    /* A callback above may have started a request, or made room for one that waits: nothing
     * would wake us for it. */
    if (h->started != before || h->running < running)
        return 0;
    if (wait_ms < 0)
        wait_ms = 0;
    CURLMcode m = h->epoll >= 0 ? CURLM_OK
                                : curl_multi_poll(h->multi, extra, (unsigned)extra_count,
                                      wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms, &ready);
    if (m)
        return err_set(
            e, m == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_BUG, "curl: %s", curl_multi_strerror(m));
    if (ready && h->gather_ms)
        poll(NULL, 0, h->gather_ms);
    rc = perform(h, e);
    if (!rc)
        expire(h);
    return rc;
}

struct http_alone {
    struct buf *out;
    struct err *e;
    int result;
    bool done;
};

static void once_done(void *user, const struct http_response *r)
{
    struct http_alone *o = user;
    o->done = true;
    o->result = r->status;
    if (r->error.code != ERR_NONE) {
        *o->e = r->error;
        o->result = -(int)r->error.code;
    } else if (buf_add(o->out, r->body, r->len)) {
        o->result = err_set(o->e, ERR_MEMORY, "the answer does not fit");
    }
}

int http_once(
    const struct http_conf *conf, const struct http_request *r, struct buf *out, struct err *e)
{
    struct http *h = NULL;
    struct err error = {0};
    struct http_alone o = {.out = out, .e = &error};
    struct http_request copy = *r;
    copy.done_fn = once_done;
    copy.user = &o;
    int rc = http_create(conf, &h, e);
    if (!rc)
        rc = http_start(h, &copy, e);
    while (!rc && !o.done)
        rc = http_turn(h, NULL, 0, 1000, e);
    if (!rc && (rc = o.result) < 0 && e)
        *e = error;
    http_destroy(h);
    return rc;
}
