/*
 * coll_tcp: the sockets of a world, and the ring all-reduce between the pods' leaders.
 *
 * Connections: every non-leader to its leader (control), every leader to the next one (ring). Each
 * side proves that it knows the incarnation's secret by HMAC-SHA-256 before anything that it sends
 * is used: connector -> acceptor   hello: fields, connector's nonce, mac over them acceptor ->
 * connector   challenge: acceptor's nonce, mac over both nonces connector -> acceptor   proof: mac
 * over both nonces, the other way round All ranks first send every hello, then answer, then prove,
 * so a ring of ranks that all wait cannot arise. Callers are read side by side, so a stranger (a
 * port scan) holds nobody up; it is dropped at its hello, or after HELLO_MS without one.
 *
 * Ring (Patarasuk and Yuan, 2009): n-1 steps of reduce-scatter, n-1 of all-gather, sending and
 * receiving at once. A chunk is summed along the ring in one fixed order, so the result is bitwise
 * the same everywhere.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll_internal.h"
#include "runtime/hash.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAC_BYTES   32
#define NONCE_BYTES 16
#define HELLO_MS    5000 /* a rank on a busy machine may stall between connection and hello */
#define CALLERS     64   /* read side by side; more of them wait in the listener's queue */

struct hello {
	char magic[8];
	int64_t incarnation;
	int32_t from, to, ring, zero;
	uint8_t nonce[NONCE_BYTES];
	uint8_t mac[MAC_BYTES];
};
struct challenge {
	uint8_t nonce[NONCE_BYTES];
	uint8_t mac[MAC_BYTES];
};
struct link { /* one connection while it is being authenticated */
	int fd;
	struct hello hello;
	struct challenge challenge;
};
struct caller { /* whose hello is not whole yet */
	struct link link;
	size_t have; /* bytes of it */
	int64_t until_ms;
};
struct callers {
	struct caller list[CALLERS];
	int count;
};

static void mac_of(const struct coll *c, const char *role, const void *a, size_t a_len,
		   const void *b, size_t b_len, uint8_t out[MAC_BYTES])
{
	uint8_t text[sizeof(struct hello) + 64];
	size_t n = strlen(role);
	memcpy(text, role, n);
	memcpy(text + n, a, a_len);
	if (b_len)
		memcpy(text + n + a_len, b, b_len);
	int r = hash_hmac_sha256(c->conf.secret, strlen(c->conf.secret), text, n + a_len + b_len,
				 out, NULL);
	assert(!r);
	(void)r;
}

/* In a time that does not tell where they differ. */
static bool same_mac(const uint8_t *a, const uint8_t *b)
{
	unsigned differ = 0;
	for (int i = 0; i < MAC_BYTES; i++)
		differ |= (unsigned)(a[i] ^ b[i]);
	return !differ;
}

static int begin_link(struct coll *c, int to, bool ring, struct link *l, int64_t deadline_ms,
		      struct err *e)
{
	const struct coll_peer *p = &c->peers[to];
	l->fd = io_connect(p->host, p->port, deadline_ms, e);
	if (l->fd < 0)
		return err_wrap(e, "connect to rank %d at %s:%u", to, p->host, p->port);
	struct hello *h = &l->hello;
	*h = (struct hello){
		.incarnation = c->conf.incarnation, .from = c->conf.rank, .to = to, .ring = ring};
	memcpy(h->magic, "llmcoll1", 8);
	int r = io_random(h->nonce, sizeof h->nonce, e);
	if (r)
		return r;
	mac_of(c, "hello", h, offsetof(struct hello, mac), NULL, 0, h->mac);
	return io_send_full(l->fd, h, sizeof *h, deadline_ms, e);
}

static bool hello_is_ours(const struct coll *c, const struct hello *h)
{
	uint8_t mac[MAC_BYTES];
	mac_of(c, "hello", h, offsetof(struct hello, mac), NULL, 0, mac);
	return same_mac(mac, h->mac) && h->to == c->conf.rank &&
	       h->incarnation == c->conf.incarnation && !memcmp(h->magic, "llmcoll1", 8);
}

/* Which slot a proven caller takes: 0 the ring's, i > 0 the local rank i's; -1: not expected here.
 */
static int slot_of(const struct coll *c, const struct hello *h)
{
	int n = c->leader_count;
	if (h->ring)
		return h->from == c->leaders[(c->leader_index + n - 1) % n] ? 0 : -1;
	for (int i = 1; i < c->local_count; i++)
		if (c->local[i] == h->from)
			return i;
	return -1;
}

/* Until one of the callers speaks or has been silent for too long, or another one comes. */
static int await_caller(const struct coll *c, struct callers *k, int64_t deadline_ms, struct err *e)
{
	struct pollfd p[CALLERS + 1];
	int64_t now_ms = clock_ms(), until_ms = deadline_ms;
	int n = k->count;
	for (int i = 0; i < n; i++) {
		p[i] = (struct pollfd){k->list[i].link.fd, POLLIN, 0};
		if (until_ms > k->list[i].until_ms)
			until_ms = k->list[i].until_ms;
	}
	p[n] = (struct pollfd){n < CALLERS ? c->conf.listen_fd : -1, POLLIN, 0};
	int ready = poll(p, (nfds_t)n + 1, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);
	if (ready <= 0 && clock_ms() >= deadline_ms)
		return err_set(e, ERR_HANG, "no connection in time");
	if (ready <= 0 || !p[n].revents)
		return 0;
	int fd = io_accept(c->conf.listen_fd, deadline_ms, e);
	if (fd < 0)
		return fd;
	k->list[k->count++] = (struct caller){.link.fd = fd, .until_ms = clock_ms() + HELLO_MS};
	return 0;
}

/* 1: a valid hello is whole; 0: not yet; -1: none of ours. */
static int hear(const struct coll *c, struct caller *k)
{
	struct err ignored;
	struct hello *h = &k->link.hello;
	int64_t n = io_recv_now(k->link.fd, (char *)h + k->have, sizeof *h - k->have, &ignored);
	if (n < 0)
		return -1;
	k->have += (size_t)n;
	if (k->have == sizeof *h)
		return hello_is_ours(c, h) ? 1 : -1;
	return clock_ms() < k->until_ms ? 0 : -1;
}

static int challenge(struct coll *c, struct link *l, int64_t deadline_ms, struct err *e)
{
	struct challenge *ch = &l->challenge;
	int r = io_random(ch->nonce, sizeof ch->nonce, e);
	if (r)
		return r;
	mac_of(c, "challenge", l->hello.nonce, NONCE_BYTES, ch->nonce, NONCE_BYTES, ch->mac);
	return io_send_full(l->fd, ch, sizeof *ch, deadline_ms, e);
}

/* Hears all callers; challenges those that are expected and lets the others go. */
static int sort_callers(struct coll *c, struct callers *k, struct link *in, int *got,
			int64_t deadline_ms, struct err *e)
{
	int r = 0;
	for (int i = k->count - 1; !r && i >= 0; i--) {
		int heard = hear(c, &k->list[i]);
		if (!heard)
			continue;
		struct link l = k->list[i].link;
		k->list[i] = k->list[--k->count];
		int slot = heard > 0 ? slot_of(c, &l.hello) : -1;
		if (slot < 0 || in[slot].fd >= 0) {
			io_close(l.fd);
			continue;
		}
		in[slot] = l;
		++*got;
		r = challenge(c, &in[slot], deadline_ms, e);
	}
	return r;
}

/* Accepts until every expected caller has said a valid hello, and challenges each. */
static int accept_links(struct coll *c, struct link *in, int expected, int64_t deadline_ms,
			struct err *e)
{
	struct callers k = {.count = 0};
	int got = 0, r = 0;
	while (!r && got < expected) {
		r = await_caller(c, &k, deadline_ms, e);
		if (r)
			err_wrap(e, "wait for %d of %d ranks to connect", expected - got, expected);
		else
			r = sort_callers(c, &k, in, &got, deadline_ms, e);
	}
	while (k.count)
		io_close(k.list[--k.count].link.fd);
	return r;
}

static int prove(struct coll *c, struct link *l, int64_t deadline_ms, struct err *e)
{
	uint8_t mac[MAC_BYTES];
	int r = io_recv_full(l->fd, &l->challenge, sizeof l->challenge, deadline_ms, e);
	if (r)
		return err_wrap(e, "rank %d's challenge", l->hello.to);
	mac_of(c, "challenge", l->hello.nonce, NONCE_BYTES, l->challenge.nonce, NONCE_BYTES, mac);
	if (!same_mac(mac, l->challenge.mac))
		return err_set(e, ERR_PEER, "rank %d does not know the incarnation's secret",
			       l->hello.to);
	mac_of(c, "proof", l->challenge.nonce, NONCE_BYTES, l->hello.nonce, NONCE_BYTES, mac);
	return io_send_full(l->fd, mac, sizeof mac, deadline_ms, e);
}

static int check_proof(struct coll *c, struct link *l, int64_t deadline_ms, struct err *e)
{
	uint8_t mac[MAC_BYTES], theirs[MAC_BYTES];
	int r = io_recv_full(l->fd, theirs, sizeof theirs, deadline_ms, e);
	if (r)
		return err_wrap(e, "rank %d's proof", l->hello.from);
	mac_of(c, "proof", l->challenge.nonce, NONCE_BYTES, l->hello.nonce, NONCE_BYTES, mac);
	if (!same_mac(mac, theirs))
		return err_set(e, ERR_PEER, "rank %d does not know the incarnation's secret",
			       l->hello.from);
	return 0;
}

static int shake_hands(struct coll *c, struct link *out, int outs, struct link *in, int expected,
		       int64_t deadline_ms, struct err *e)
{
	int r = accept_links(c, in, expected, deadline_ms, e);
	for (int i = 0; !r && i < outs; i++)
		r = prove(c, &out[i], deadline_ms, e);
	for (int i = 0; !r && i < COLL_MAX_LOCAL; i++)
		if (in[i].fd >= 0)
			r = check_proof(c, &in[i], deadline_ms, e);
	return r;
}

int coll_tcp_connect(struct coll *c, struct err *e)
{
	int64_t deadline_ms = clock_ms() + c->conf.timeout_ms;
	bool leader = c->leader_index >= 0, ring = leader && c->leader_count > 1;
	struct link out = {.fd = -1}, in[COLL_MAX_LOCAL];
	for (int i = 0; i < COLL_MAX_LOCAL; i++)
		in[i].fd = -1;
	int outs = ring || !leader, expected = leader ? c->local_count - 1 + ring : 0, r = 0;
	if (outs) {
		int to = ring ? c->leaders[(c->leader_index + 1) % c->leader_count] : c->local[0];
		r = begin_link(c, to, ring, &out, deadline_ms, e);
	}
	if (!r)
		r = shake_hands(c, &out, outs, in, expected, deadline_ms, e);
	if (r) {
		io_close(out.fd);
		for (int i = 0; i < COLL_MAX_LOCAL; i++)
			io_close(in[i].fd);
		return r;
	}
	if (!leader) {
		c->control[0] = out.fd;
		return 0;
	}
	for (int i = 1; i < c->local_count; i++)
		c->control[i] = in[i].fd;
	c->next = out.fd;
	c->prev = in[0].fd;
	if (!ring)
		return 0;
	r = io_set_nonblocking(c->next, true, e);
	return r ? r : io_set_nonblocking(c->prev, true, e);
}

/* -- the ring -- */

struct transfer { /* one step: bytes out to next, bytes in from prev */
	const uint8_t *out;
	size_t out_left;
	uint8_t *in;
	size_t in_left;
	bool reduce; /* else store */
	enum dtype t;
	enum coll_reduce op;
	size_t held; /* bytes in c->segment that are not a whole element yet */
};

static int closed(struct coll *c, int peer, struct err *e)
{
	if (atomic_load(&c->aborted))
		return err_set(e, ERR_DRAINED, "collective aborted");
	return err_set(e, ERR_PEER, "rank %d closed its connection", peer);
}

static int push(struct coll *c, struct transfer *t, struct err *e)
{
	ssize_t n = send(c->next, t->out, t->out_left, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : closed(c, c->leaders[(c->leader_index + 1) % c->leader_count], e);
	t->out += n;
	t->out_left -= (size_t)n;
	return n > 0;
}

static int pull(struct coll *c, struct transfer *t, struct err *e)
{
	uint8_t *to = t->reduce ? c->segment + t->held : t->in;
	size_t room = t->reduce ? COLL_RING_SEGMENT - t->held : t->in_left;
	size_t want = t->in_left - (t->reduce ? t->held : 0);
	ssize_t n = recv(c->prev, to, want < room ? want : room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return closed(c,
			      c->leaders[(c->leader_index + c->leader_count - 1) % c->leader_count],
			      e);
	if (!t->reduce) {
		t->in += n;
		t->in_left -= (size_t)n;
		return 1;
	}
	size_t element = coll_element(t->t), have = t->held + (size_t)n,
	       whole = have / element * element;
	coll_reduce_pair(t->in, c->segment, (int64_t)(whole / element), t->t, t->op);
	t->held = have - whole;
	memmove(c->segment, c->segment + whole, t->held);
	t->in += whole;
	t->in_left -= whole;
	return 1;
}

static int run_transfer(struct coll *c, struct transfer *t, struct err *e)
{
	int prev = c->leaders[(c->leader_index + c->leader_count - 1) % c->leader_count];
	int64_t start_ms = clock_ms();
	while (t->out_left || t->in_left) {
		int moved = 0, r = t->out_left ? push(c, t, e) : 0;
		if (r < 0)
			return r;
		moved += r;
		r = t->in_left ? pull(c, t, e) : 0;
		if (r < 0)
			return r;
		moved += r;
		if (moved) {
			coll_beat(c, prev);
			start_ms = clock_ms();
			continue;
		}
		struct pollfd p[3] = {{c->next, t->out_left ? POLLOUT : 0, 0},
				      {c->prev, t->in_left ? POLLIN : 0, 0},
				      {c->abort_fd, POLLIN, 0}};
		poll(p, 3, COLL_SLICE_MS * 5);
		r = coll_check_wait(c, start_ms, prev, e);
		if (r)
			return r;
	}
	return 0;
}

/* Both neighbours must be in the same collective: a mismatch would silently mix tensors. */
static int agree(struct coll *c, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
	uint64_t mine[3] = {c->sequence, (uint64_t)count, (uint64_t)t << 8 | (uint64_t)op},
		 theirs[3];
	struct transfer x = {.out = (const uint8_t *)mine,
			     .out_left = sizeof mine,
			     .in = (uint8_t *)theirs,
			     .in_left = sizeof theirs};
	int r = run_transfer(c, &x, e);
	if (r)
		return r;
	if (memcmp(mine, theirs, sizeof mine))
		return err_set(
			e, ERR_BUG,
			"ranks disagree: collective %llu of %lld elements here, %llu of %lld there",
			(unsigned long long)mine[0], (long long)mine[1],
			(unsigned long long)theirs[0], (long long)theirs[1]);
	return 0;
}

int coll_tcp_allreduce(struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op,
		       struct err *e)
{
	int n = c->leader_count, me = c->leader_index;
	size_t element = coll_element(t);
	int r = agree(c, count, t, op, e);
	for (int step = 0; !r && step < 2 * (n - 1); step++) {
		bool reduce = step < n - 1;
		int s = reduce ? step : step - (n - 1);
		int out = reduce ? (me - s + 2 * n) % n : (me + 1 - s + 2 * n) % n,
		    in = (out + n - 1) % n;
		int64_t out_first = count * out / n, in_first = count * in / n;
		struct transfer x = {
			.out = (const uint8_t *)data + (size_t)out_first * element,
			.out_left = (size_t)(count * (out + 1) / n - out_first) * element,
			.in = (uint8_t *)data + (size_t)in_first * element,
			.in_left = (size_t)(count * (in + 1) / n - in_first) * element,
			.reduce = reduce,
			.t = t,
			.op = op,
		};
		r = run_transfer(c, &x, e);
	}
	return r;
}
