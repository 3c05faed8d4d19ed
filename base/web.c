/*
 * web: the loop of an agent and the small server of the controller, on libwebsockets 4.1.
 *
 * libwebsockets owns connections and protocol parsing; this file owns what it does not do well:
 * listening (sockets are bound and accepted here, so that a taken port is an error and connections
 * are counted), adopted descriptors (all in one epoll set that libwebsockets watches, so a hang-up
 * never closes them behind the caller's back), and output queues with bounds. A connection's opaque
 * user data is its exchange while one is under way, and its web_socket after an upgrade. Nothing
 * calls back into the user during web_destroy.
 */
#include "base/web.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_BYTES         16384 /* one write a turn and connection, so that all get their share */
#define STREAM_BYTES        (1 << 20)
#define SEND_BYTES          (16 << 20) /* queued messages of one WebSocket */
#define HEADER_BYTES        8192
#define ANSWER_TIMEOUT_SECS 30 /* for each piece of an answer to be taken by a slow client */

struct watch {
	struct watch *next;
	int fd;
	bool dead; /* unwatched inside a callback; freed after the round */
	void (*fn)(void *user, int fd);
	void *user;
};

struct listener {
	struct listener *next;
	struct web *web;
	int fd;
	uint16_t port;
	web_request_fn *fn;
	void *user;
};

struct socket_path {
	struct socket_path *next;
	char *path;
	const struct web_socket_fns *fns;
	void *user;
};

struct web {
	struct lws_context *cx;
	struct lws_vhost
		*vhost; /* one: libwebsockets would choose among several by the Host header */
	lws_sorted_usec_list_t timer;
	lws_retry_bo_t retry;
	int epoll, epoll_dup; /* the second is libwebsockets' to close */
	struct watch *watches;
	struct listener *listeners;
	struct socket_path *paths;
	size_t body_limit;
	int connections, max_connections;
	bool destroying;
};

struct web_exchange {
	struct web *web;
	struct lws *wsi;
	const struct listener *listener;
	char method[16];
	char *path, *query;
	struct buf headers; /* "name\0value\0" ... */
	struct buf body;
	bool dispatched, answered, streaming, head_sent, ended, terminated, close_after;
	int status;
	char content_type[128];
	struct buf extra; /* further headers as "name:\0value\0" */
	struct buf out;
	size_t out_sent;
	void *user;
	void (*gone_fn)(void *user);
};

struct message {
	struct message *next;
	size_t len;
	unsigned char data[]; /* LWS_PRE bytes of room, then the text */
};

struct web_socket {
	struct web *web;
	struct lws *wsi;
	struct web_socket_fns fns;
	void *user;
	bool open, dialing, closing, failed;
	char why[128];
	struct buf in;
	struct message *head, **tail;
	size_t queued;
};

static int protocol_callback(struct lws *wsi, enum lws_callback_reasons reason, void *session,
			     void *in, size_t len);

static const struct lws_protocols protocols[] = {
	{.name = "llmjob", .callback = protocol_callback, .rx_buffer_size = WRITE_BYTES},
	{0},
};

/* ---- life
 * -------------------------------------------------------------------------------------------- */

static struct lws_vhost *add_vhost(struct web *w)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.protocols = protocols,
		.timeout_secs = 5,
		.connect_timeout_secs = 5,
		.keepalive_timeout = 60,
		.retry_and_idle_policy = &w->retry,
	};
	return lws_create_vhost(w->cx, &info);
}

int web_create(const struct web_conf *conf, struct web **out, struct err *e)
{
	struct web *w = mem_zalloc(sizeof *w);
	if (!w)
		return err_set(e, ERR_MEMORY, "out of memory");
	w->epoll = w->epoll_dup = -1;
	w->body_limit = conf && conf->body_limit ? conf->body_limit : LIMIT_REQUEST_BYTES;
	w->max_connections = conf && conf->max_connections ? conf->max_connections : 1024;
	w->retry = (lws_retry_bo_t){.secs_since_valid_ping = 2, .secs_since_valid_hangup = 8};
	lws_set_log_level(0, NULL);
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.fd_limit_per_thread = (unsigned)w->max_connections + 64,
		.pt_serv_buf_size = WRITE_BYTES,
		.max_http_header_data = HEADER_BYTES,
		.timeout_secs = 5,
		.user = w,
	};
	w->cx = lws_create_context(&info);
	w->vhost = w->cx ? add_vhost(w) : NULL;
	if (w->vhost)
		w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll >= 0)
		w->epoll_dup = fcntl(w->epoll, F_DUPFD_CLOEXEC, 0);
	lws_sock_file_fd_type fd = {.filefd = w->epoll_dup};
	if (w->epoll_dup < 0 ||
	    !lws_adopt_descriptor_vhost(w->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, "llmjob", NULL)) {
		web_destroy(w);
		return err_set(e, ERR_RETRY, "the web loop cannot be created");
	}
	*out = w;
	return 0;
}

void web_destroy(struct web *w)
{
	if (!w)
		return;
	w->destroying = true;
	lws_sul_cancel(&w->timer);
	if (w->cx)
		lws_context_destroy(w->cx);
	io_close(w->epoll);
	for (struct listener *l = w->listeners, *next; l; l = next) {
		next = l->next;
		io_close(l->fd);
		mem_free(l);
	}
	for (struct watch *x = w->watches, *next; x; x = next) {
		next = x->next;
		mem_free(x);
	}
	for (struct socket_path *p = w->paths, *next; p; p = next) {
		next = p->next;
		mem_free(p->path);
		mem_free(p);
	}
	mem_free(w);
}

/* ---- adopted descriptors and listeners
 * ----------------------------------------------------------------- */

int web_watch_fd(struct web *w, int fd, void (*fn)(void *user, int fd), void *user, struct err *e)
{
	struct watch *x = mem_zalloc(sizeof *x);
	if (!x)
		return err_set(e, ERR_MEMORY, "out of memory");
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = x};
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		mem_free(x);
		return err_sys(e, ERR_BUG, errno, "watching descriptor %d", fd);
	}
	*x = (struct watch){.next = w->watches, .fd = fd, .fn = fn, .user = user};
	w->watches = x;
	return 0;
}

void web_unwatch_fd(struct web *w, int fd)
{
	for (struct watch *x = w->watches; x; x = x->next)
		if (x->fd == fd && !x->dead) {
			epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
			x->dead = true;
			return;
		}
}

static void sweep_watches(struct web *w)
{
	for (struct watch **at = &w->watches; *at;) {
		struct watch *x = *at;
		if (x->dead) {
			*at = x->next;
			mem_free(x);
		} else {
			at = &x->next;
		}
	}
}

static void run_watches(struct web *w)
{
	struct epoll_event events[64];
	int n = epoll_wait(w->epoll, events, 64, 0);
	for (int i = 0; i < n; i++) {
		struct watch *x = events[i].data.ptr;
		if (!x->dead)
			x->fn(x->user, x->fd);
	}
	sweep_watches(w);
}

static void accept_clients(void *user, int fd)
{
	struct listener *l = user;
	for (int i = 0; i < 64; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client < 0)
			return;
		if (l->web->connections >= l->web->max_connections)
			close(client);
		else
			lws_adopt_socket_vhost(l->web->vhost, client); /* closes it when it fails */
	}
}

int web_listen(struct web *w, const char *host, uint16_t port, web_request_fn *fn, void *user,
	       uint16_t *bound_port, struct err *e)
{
	struct listener *l = mem_zalloc(sizeof *l);
	if (!l)
		return err_set(e, ERR_MEMORY, "out of memory");
	*l = (struct listener){.web = w, .fn = fn, .user = user};
	uint16_t bound = 0;
	l->fd = io_listen(host, port, &bound, e);
	int rc = l->fd < 0 ? l->fd : io_set_nonblocking(l->fd, true, e);
	if (rc == 0)
		rc = web_watch_fd(w, l->fd, accept_clients, l, e);
	if (rc) {
		io_close(l->fd);
		mem_free(l);
		return rc;
	}
	l->port = bound;
	l->next = w->listeners;
	w->listeners = l;
	if (bound_port)
		*bound_port = bound;
	return 0;
}

/* ---- the turn
 * ------------------------------------------------------------------------------------------ */

static void timer_done(lws_sorted_usec_list_t *sul)
{
	(void)sul; /* its only work was to end the wait */
}

int web_turn(struct web *w, int64_t wait_ms, struct err *e)
{
	if (wait_ms > 0)
		lws_sul_schedule(w->cx, 0, &w->timer, timer_done, wait_ms * 1000);
	int n = lws_service(w->cx, wait_ms > 0 ? 0 : -1);
	lws_sul_cancel(&w->timer);
	sweep_watches(w);
	return n < 0 ? err_set(e, ERR_BUG, "the web loop ended") : 0;
}

void web_wake(struct web *w)
{
	lws_cancel_service(w->cx);
}

/* ---- requests
 * ------------------------------------------------------------------------------------------ */

/* Headers that libwebsockets has no token for. */
static const char *const custom_headers[] = {"x-llmjob-token:", "x-request-id:"};

static void exchange_free(struct web_exchange *x)
{
	if (!x)
		return;
	lws_set_opaque_user_data(x->wsi, NULL);
	mem_free(x->path);
	mem_free(x->query);
	buf_done(&x->headers);
	buf_done(&x->body);
	buf_done(&x->extra);
	buf_done(&x->out);
	mem_free(x);
}

static void add_header(struct web_exchange *x, const char *name, size_t name_len, const char *value)
{
	buf_add(&x->headers, name, name_len);
	buf_char(&x->headers, '\0');
	buf_add(&x->headers, value, strlen(value) + 1);
}

static void copy_headers(struct web_exchange *x)
{
	char value[HEADER_BYTES];
	for (int t = 0; t < WSI_TOKEN_COUNT; t++) {
		const char *name = (const char *)lws_token_to_string((enum lws_token_indexes)t);
		size_t n = name ? strlen(name) : 0;
		if (n < 2 || name[n - 1] != ':' ||
		    lws_hdr_copy(x->wsi, value, sizeof value, (enum lws_token_indexes)t) <= 0)
			continue;
		add_header(x, name, n - 1, value);
	}
	for (size_t i = 0; i < sizeof custom_headers / sizeof *custom_headers; i++) {
		int n = (int)strlen(custom_headers[i]);
		if (lws_hdr_custom_copy(x->wsi, value, sizeof value, custom_headers[i], n) > 0)
			add_header(x, custom_headers[i], (size_t)n - 1, value);
	}
}

/* Fills the method; returns the token that holds the path. */
static enum lws_token_indexes read_method(struct web_exchange *x)
{
	static const struct {
		enum lws_token_indexes token;
		const char *name;
	} methods[] = {
		{WSI_TOKEN_GET_URI, "GET"},         {WSI_TOKEN_POST_URI, "POST"},
		{WSI_TOKEN_PUT_URI, "PUT"},         {WSI_TOKEN_DELETE_URI, "DELETE"},
		{WSI_TOKEN_PATCH_URI, "PATCH"},     {WSI_TOKEN_HEAD_URI, "HEAD"},
		{WSI_TOKEN_OPTIONS_URI, "OPTIONS"}, {WSI_TOKEN_HTTP_COLON_PATH, "GET"},
	};
	size_t i = 0, last = sizeof methods / sizeof *methods - 1;
	while (i < last && lws_hdr_total_length(x->wsi, methods[i].token) <= 0)
		i++;
	snprintf(x->method, sizeof x->method, "%s", methods[i].name);
	if (i == last) /* HTTP/2 names it in a header of its own */
		lws_hdr_copy(x->wsi, x->method, sizeof x->method, WSI_TOKEN_HTTP_COLON_METHOD);
	return methods[i].token;
}

static char *copy_token(struct lws *wsi, enum lws_token_indexes token)
{
	int n = lws_hdr_total_length(wsi, token);
	char *s = mem_zalloc((size_t)(n > 0 ? n : 0) + 2);
	if (s && n > 0)
		lws_hdr_copy(wsi, s, n + 1, token);
	return s;
}

static char *copy_query(struct lws *wsi)
{
	int n = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS);
	size_t size = (size_t)(n > 0 ? n : 0) + 2, at = 0;
	char *s = mem_zalloc(size);
	for (int i = 0; s && n > 0; i++) { /* libwebsockets keeps each argument as a fragment */
		size_t amp = i ? 1 : 0;
		if (at + amp >= size)
			break;
		int k = lws_hdr_copy_fragment(wsi, s + at + amp, (int)(size - at - amp),
					      WSI_TOKEN_HTTP_URI_ARGS, i);
		if (k < 0)
			break;
		if (amp)
			s[at] = '&';
		at += amp + (size_t)k;
	}
	if (s)
		s[at] = '\0';
	return s;
}

/* The listener that accepted a connection, by its local port. */
static const struct listener *listener_of(struct web *w, struct lws *wsi)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	if (getsockname(lws_get_socket_fd(lws_get_network_wsi(wsi)), (struct sockaddr *)&a, &n))
		return NULL;
	uint16_t port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
						      : ((struct sockaddr_in *)&a)->sin_port);
	for (const struct listener *l = w->listeners; l; l = l->next)
		if (l->port == port)
			return l;
	return NULL;
}

static struct web_exchange *exchange_create(struct web *w, struct lws *wsi)
{
	struct web_exchange *x = mem_zalloc(sizeof *x);
	if (!x)
		return NULL;
	x->web = w;
	x->wsi = wsi;
	x->listener = listener_of(w, wsi);
	buf_init(&x->headers, 4 * HEADER_BYTES);
	buf_init(&x->body, w->body_limit);
	buf_init(&x->extra, HEADER_BYTES);
	buf_init(&x->out, STREAM_BYTES);
	x->path = copy_token(wsi, read_method(x));
	x->query = copy_query(wsi);
	copy_headers(x);
	lws_set_opaque_user_data(wsi, x);
	if (!x->listener || !x->path || !x->query || !buf_ok(&x->headers)) {
		exchange_free(x);
		return NULL;
	}
	return x;
}

static void refuse(struct web_exchange *x, int status, const char *text)
{
	x->dispatched = true;
	x->close_after = true; /* what is left of its body is not read */
	web_answer(x, status, "text/plain", text, strlen(text), NULL);
}

static void dispatch(struct web_exchange *x)
{
	x->dispatched = true;
	lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0);
	x->listener->fn(x->listener->user, x);
}

/* Content-Length of a request: 0 when it has none and needs none, -1 when it cannot be read. */
static int64_t expected_body(const struct web_exchange *x)
{
	const char *length = web_header(x, "content-length");
	if (!length)
		return strcmp(x->method, "POST") && strcmp(x->method, "PUT") &&
				       strcmp(x->method, "PATCH")
			       ? 0
			       : -1;
	char *end;
	errno = 0;
	long long n = strtoll(length, &end, 10);
	return errno || *end || end == length || n < 0 ? -1 : n;
}

static int on_request(struct web *w, struct lws *wsi)
{
	if (lws_get_opaque_user_data(wsi))
		return -1; /* a pipelined request while one is under way */
	struct web_exchange *x = exchange_create(w, wsi);
	if (!x)
		return -1;
	int64_t n = expected_body(x);
	if (n < 0)
		refuse(x, 411, "Content-Length is needed\n");
	else if ((uint64_t)n > w->body_limit)
		refuse(x, 413, "the request body is too large\n");
	else if (n == 0)
		dispatch(x);
	return 0;
}

static int on_body(struct web_exchange *x, const void *data, size_t len)
{
	if (!x || x->dispatched)
		return 0;
	if (buf_add(&x->body, data, len))
		refuse(x, 413, "the request body is too large\n");
	return 0;
}

const char *web_method(const struct web_exchange *x)
{
	return x->method;
}

const char *web_path(const struct web_exchange *x)
{
	return x->path;
}

const char *web_query(const struct web_exchange *x)
{
	return x->query;
}

const char *web_header(const struct web_exchange *x, const char *lower_case_name)
{
	const char *p = x->headers.data, *end = p ? p + x->headers.len : NULL;
	while (p && p < end) {
		const char *value = p + strlen(p) + 1;
		if (!strcmp(p, lower_case_name))
			return value;
		p = value + strlen(value) + 1;
	}
	return NULL;
}

const char *web_body(const struct web_exchange *x, size_t *len)
{
	*len = x->body.len;
	return buf_cstr(&x->body);
}

void web_set_user(struct web_exchange *x, void *user, void (*gone_fn)(void *user))
{
	x->user = user;
	x->gone_fn = gone_fn;
}

/* ---- answers
 * ------------------------------------------------------------------------------------------- */

static void begin_answer(struct web_exchange *x, int status, const char *content_type)
{
	x->answered = true;
	x->status = status;
	snprintf(x->content_type, sizeof x->content_type, "%s", content_type);
	lws_callback_on_writable(x->wsi);
}

void web_add_header(struct web_exchange *x, const char *line)
{
	const char *colon = strchr(line, ':');
	buf_printf(&x->extra, "%.*s%c", (int)(colon - line) + 1, line, '\0');
	colon += 1 + strspn(colon + 1, " ");
	buf_add(&x->extra, colon, strlen(colon) + 1);
}

void web_answer(struct web_exchange *x, int status, const char *content_type, const void *body,
		size_t len, const char *const *headers)
{
	for (; headers && *headers; headers++)
		web_add_header(x, *headers);
	x->out.limit = len;
	if (len && strcmp(x->method, "HEAD"))
		buf_add(&x->out, body, len);
	if (!buf_ok(&x->out)) {
		buf_reset(&x->out);
		status = 500;
	}
	begin_answer(x, status, content_type);
	x->ended = true;
	x->gone_fn = NULL;
}

void web_stream_begin(struct web_exchange *x, int status, const char *content_type)
{
	x->streaming = true;
	begin_answer(x, status, content_type);
}

int web_stream_data(struct web_exchange *x, const void *data, size_t len)
{
	if (x->out.len - x->out_sent + len > STREAM_BYTES)
		return -ERR_MEMORY;
	if (x->out_sent > 0 && x->out.len + len > STREAM_BYTES) {
		buf_drop(&x->out, x->out_sent);
		x->out_sent = 0;
	}
	int rc = buf_add(&x->out, data, len);
	lws_callback_on_writable(x->wsi);
	return rc;
}

void web_stream_end(struct web_exchange *x)
{
	x->ended = true;
	x->gone_fn = NULL;
	lws_callback_on_writable(x->wsi);
}

static bool is_h2(const struct web_exchange *x)
{
	return lws_get_network_wsi(x->wsi) != x->wsi;
}

static int write_head(struct web_exchange *x)
{
	unsigned char head[LWS_PRE + HEADER_BYTES], *p = head + LWS_PRE, *start = p,
						    *end = head + sizeof head - 1;
	lws_filepos_t length = x->streaming ? LWS_ILLEGAL_HTTP_CONTENT_LEN : x->out.len;
	if (lws_add_http_header_status(x->wsi, (unsigned)x->status, &p, end) ||
	    lws_add_http_header_by_token(x->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE,
					 (const unsigned char *)x->content_type,
					 (int)strlen(x->content_type), &p, end) ||
	    (x->streaming
		     ? !is_h2(x) && lws_add_http_header_by_name(
					    x->wsi, (const unsigned char *)"transfer-encoding:",
					    (const unsigned char *)"chunked", 7, &p, end)
		     : lws_add_http_header_content_length(x->wsi, length, &p, end)))
		return -1;
	const char *h = x->extra.data, *h_end = h ? h + x->extra.len : NULL;
	while (h && h < h_end) {
		const char *value = h + strlen(h) + 1;
		if (lws_add_http_header_by_name(x->wsi, (const unsigned char *)h,
						(const unsigned char *)value, (int)strlen(value),
						&p, end))
			return -1;
		h = value + strlen(value) + 1;
	}
	if (lws_finalize_http_header(x->wsi, &p, end))
		return -1;
	bool last = !x->streaming && x->out.len == 0;
	enum lws_write_protocol how = LWS_WRITE_HTTP_HEADERS;
	if (last && is_h2(x))
		how |= LWS_WRITE_H2_STREAM_END;
	x->head_sent = true;
	return lws_write(x->wsi, start, (size_t)(p - start), how) < 0 ? -1 : 0;
}

/* Writes at most WRITE_BYTES of the queue, as one chunk when streaming over HTTP/1.1. */
static int write_piece(struct web_exchange *x)
{
	unsigned char piece[LWS_PRE + 16 + WRITE_BYTES + 16];
	size_t n = x->out.len - x->out_sent, at = LWS_PRE;
	if (n > WRITE_BYTES)
		n = WRITE_BYTES;
	bool chunked = x->streaming && !is_h2(x);
	bool last = x->ended && x->out_sent + n == x->out.len;
	if (chunked && n)
		at += (size_t)snprintf((char *)piece + at, 16, "%zx\r\n", n);
	if (n)
		memcpy(piece + at, x->out.data + x->out_sent, n);
	at += n;
	if (chunked) {
		const char *tail = n && last ? "\r\n0\r\n\r\n" : last ? "0\r\n\r\n" : "\r\n";
		memcpy(piece + at, tail, strlen(tail));
		at += strlen(tail);
	}
	x->out_sent += n;
	if (x->out_sent == x->out.len) {
		buf_reset(&x->out);
		x->out_sent = 0;
	}
	x->terminated = last;
	return lws_write(x->wsi, piece + LWS_PRE, at - LWS_PRE,
			 last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0
		       ? -1
		       : 0;
}

static bool has_more(const struct web_exchange *x)
{
	return x->out.len > x->out_sent || (x->streaming && x->ended && !x->terminated);
}

static int on_writable(struct web_exchange *x)
{
	if (!x || !x->answered)
		return 0;
	lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, ANSWER_TIMEOUT_SECS);
	if (!x->head_sent ? write_head(x) : has_more(x) ? write_piece(x) : 0)
		return -1;
	if (has_more(x)) {
		lws_callback_on_writable(x->wsi);
		return 0;
	}
	if (!x->ended) { /* a stream that waits for its producer, not for the client */
		lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0);
		return 0;
	}
	struct lws *wsi = x->wsi;
	bool close_after = x->close_after;
	exchange_free(x);
	return close_after || lws_http_transaction_completed(wsi) ? -1 : 0;
}

static void on_http_closed(struct web *w, struct web_exchange *x)
{
	if (!x)
		return;
	void (*gone_fn)(void *) = x->gone_fn;
	void *user = x->user;
	exchange_free(x);
	if (gone_fn && !w->destroying)
		gone_fn(user);
}

/* ---- WebSocket
 * ----------------------------------------------------------------------------------------- */

static struct web_socket *socket_create(struct web *w, struct lws *wsi,
					const struct web_socket_fns *fns, void *user)
{
	struct web_socket *s = mem_zalloc(sizeof *s);
	if (!s)
		return NULL;
	*s = (struct web_socket){.web = w, .wsi = wsi, .fns = *fns, .user = user};
	s->tail = &s->head;
	buf_init(&s->in, w->body_limit);
	return s;
}

static void socket_free(struct web_socket *s)
{
	if (!s)
		return;
	if (s->wsi)
		lws_set_opaque_user_data(s->wsi, NULL);
	for (struct message *m = s->head, *next; m; m = next) {
		next = m->next;
		mem_free(m);
	}
	buf_done(&s->in);
	mem_free(s);
}

int web_accept_sockets(struct web *w, const char *path, const struct web_socket_fns *fns,
		       void *user, struct err *e)
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

int web_dial(struct web *w, const char *host, uint16_t port, const char *path,
	     const struct web_socket_fns *fns, void *user, struct web_socket **out, struct err *e)
{
	struct web_socket *s = socket_create(w, NULL, fns, user);
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
		.retry_and_idle_policy = &w->retry,
	};
	struct lws *wsi = lws_client_connect_via_info(&info);
	s->dialing = false;
	if (!wsi || s->failed) {
		int rc = err_set(e, ERR_PEER, "%s:%u: %s", host, port,
				 s->why[0] ? s->why : "cannot be dialled");
		s->wsi = NULL;
		socket_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

int web_send(struct web_socket *s, const char *text, size_t len)
{
	if (s->closing)
		return 0;
	struct message *m =
		s->queued + len > SEND_BYTES ? NULL : mem_alloc(sizeof *m + LWS_PRE + len);
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

void web_socket_set_user(struct web_socket *s, void *user)
{
	s->user = user;
}

void web_socket_limit(struct web_socket *s, size_t bytes)
{
	s->in.limit = bytes;
}

static const struct socket_path *find_path(struct web *w, struct lws *wsi)
{
	mem_autofree char *uri = copy_token(wsi, WSI_TOKEN_GET_URI);
	for (const struct socket_path *p = w->paths; uri && p; p = p->next)
		if (!strcmp(uri, p->path))
			return p;
	return NULL;
}

/* Called while the upgrade can still be refused; 0 lets it happen. */
static int on_upgrade(struct web *w, struct lws *wsi, const char *to)
{
	if (strcasecmp(to, "websocket"))
		return 0;
	if (find_path(w, wsi))
		return 0;
	return lws_return_http_status(wsi, HTTP_STATUS_NOT_FOUND, NULL) ? -1 : 1;
}

static int on_accepted(struct web *w, struct lws *wsi)
{
	const struct socket_path *p = find_path(w, wsi);
	struct web_socket *s = p ? socket_create(w, wsi, p->fns, p->user) : NULL;
	if (!s)
		return -1;
	lws_set_opaque_user_data(wsi, s);
	s->open = true;
	s->fns.open_fn(s->user, s);
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

static int on_message(struct web_socket *s, const char *data, size_t len)
{
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

static int on_socket_writable(struct web_socket *s)
{
	struct message *m = s->head;
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
	return s->closing ? -1 : 0;
}

static void on_socket_closed(struct web_socket *s, const char *why)
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
	if (!s->web->destroying)
		s->fns.closed_fn(s->user, s, s->why);
	socket_free(s);
}

/* ---- the one callback
 * ---------------------------------------------------------------------------------- */

static int protocol_callback(struct lws *wsi, enum lws_callback_reasons reason, void *session,
			     void *in, size_t len)
{
	(void)session;
	struct lws_context *cx = wsi ? lws_get_context(wsi) : NULL;
	struct web *w = cx ? lws_context_user(cx) : NULL;
	switch (reason) {
	case LWS_CALLBACK_WSI_CREATE:
		w->connections++;
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		w->connections--;
		return 0;
	case LWS_CALLBACK_RAW_RX_FILE:
		run_watches(w);
		return 0;
	case LWS_CALLBACK_HTTP:
		return on_request(w, wsi);
	case LWS_CALLBACK_HTTP_BODY:
		return on_body(lws_get_opaque_user_data(wsi), in, len);
	case LWS_CALLBACK_HTTP_BODY_COMPLETION: {
		struct web_exchange *x = lws_get_opaque_user_data(wsi);
		if (x && !x->dispatched)
			dispatch(x);
		return 0;
	}
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return on_writable(lws_get_opaque_user_data(wsi));
	case LWS_CALLBACK_CLOSED_HTTP:
		on_http_closed(w, lws_get_opaque_user_data(wsi));
		return 0;
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return on_upgrade(w, wsi, in);
	case LWS_CALLBACK_ESTABLISHED:
		return on_accepted(w, wsi);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		return on_dialled(lws_get_opaque_user_data(wsi));
	case LWS_CALLBACK_RECEIVE:
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return on_message(lws_get_opaque_user_data(wsi), in, len);
	case LWS_CALLBACK_SERVER_WRITEABLE:
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return on_socket_writable(lws_get_opaque_user_data(wsi));
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		on_socket_closed(lws_get_opaque_user_data(wsi), in);
		return 0;
	case LWS_CALLBACK_CLOSED:
	case LWS_CALLBACK_CLIENT_CLOSED:
		on_socket_closed(lws_get_opaque_user_data(wsi), NULL);
		return 0;
	default:
		return 0; /* libwebsockets asks about much that concerns nobody here */
	}
}
