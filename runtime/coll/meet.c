/*
 * coll_meet: how the ranks of a world meet: every non-leader connects to its leader (control),
 * every leader to the next one (ring). Each side proves that it knows the incarnation's secret by
 * HMAC-SHA-256 before anything that it sends is used:
 *
 *   connector -> acceptor   hello: fields, connector's nonce, mac over them
 *   acceptor -> connector   challenge: acceptor's nonce, mac over both nonces
 *   connector -> acceptor   proof: mac over both nonces, the other way round
 *
 * One loop waits for all of it at once, so ranks that wait for each other in a ring go on.
 * Strangers hold nobody up: who calls from an address that no expected rank has is let go before a
 * byte is read; a place in the world is given for a proof only; of those without one at most
 * CALLERS are kept, the silent ones for HELLO_MS, and the oldest makes room for the next.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/secret.h"
#include "runtime/coll/internal.h"

#include <poll.h>
#include <string.h>

#define HELLO_MS    5000 /* a rank on a busy machine may stall between connection and hello */
#define CALLERS     64   /* without proof, side by side */
#define ACCEPTS     256  /* a turn, so that those who speak get theirs */
#define CONNECT_MS  250  /* the first try: a queue full of strangers loses it, and is emptied */
#define CALL_AGAIN  10   /* times that a call is made again when it was let go without an answer */
#define CALL_GAP_MS 100

struct hello {
    char magic[8];
    int64_t incarnation;
    int32_t from, to, ring, zero;
    uint8_t nonce[SECRET_NONCE_BYTES];
    uint8_t mac[SECRET_MAC_BYTES];
};
struct challenge {
    uint8_t nonce[SECRET_NONCE_BYTES];
    uint8_t mac[SECRET_MAC_BYTES];
};
struct caller { /* one that has not proved itself yet */
    int fd;
    bool challenged; /* its hello was a rank's, the proof is awaited */
    struct hello hello;
    struct challenge challenge;
    uint8_t proof[SECRET_MAC_BYTES];
    size_t have; /* bytes of hello or proof */
    int64_t until_ms;
};
struct call { /* ours; fd -1: not connected */
    int fd, to;
    bool ring, done;
    struct hello hello;
    struct challenge challenge;
    size_t have; /* bytes of the challenge */
    int again;   /* times it was let go */
    int64_t due_ms, patience_ms;
};
struct meeting {
    struct coll *c;
    int64_t deadline_ms;
    struct call call;
    int expected, got;
    int in[COLL_MAX_LOCAL];         /* proven: [0] the ring's, [i] the local rank i's */
    struct caller callers[CALLERS]; /* oldest first */
    int count;
};

/* -- proofs -- */

static int mac_of(const struct coll *c, const char *role, const void *a, size_t a_len,
    const void *b, size_t b_len, uint8_t out[SECRET_MAC_BYTES], struct err *e)
{
    const struct secret_part parts[] = {SECRET_TEXT(role), {a, a_len}, {b, b_len}};
    return secret_mac(c->conf.secret, parts, 3, out, e);
}

static int mac_of_hello(
    const struct coll *c, const struct hello *h, uint8_t out[SECRET_MAC_BYTES], struct err *e)
{
    return mac_of(c, "hello", h, offsetof(struct hello, mac), NULL, 0, out, e);
}

static int mac_of_challenge(const struct coll *c, const struct hello *h, const struct challenge *ch,
    uint8_t out[SECRET_MAC_BYTES], struct err *e)
{
    return mac_of(c, "challenge", h->nonce, sizeof h->nonce, ch->nonce, sizeof ch->nonce, out, e);
}

static int mac_of_proof(const struct coll *c, const struct hello *h, const struct challenge *ch,
    uint8_t out[SECRET_MAC_BYTES], struct err *e)
{
    return mac_of(c, "proof", ch->nonce, sizeof ch->nonce, h->nonce, sizeof h->nonce, out, e);
}

/* -- those who call us -- */

static void let_go(struct meeting *m, int i)
{
    io_close(m->callers[i].fd);
    m->count--;
    memmove(&m->callers[i], &m->callers[i + 1], sizeof *m->callers * (size_t)(m->count - i));
}

/* The rank before this leader in the ring. */
static int ring_before(const struct coll *c)
{
    return c->leaders[(c->leader_index + c->leader_count - 1) % c->leader_count];
}

static bool has_expected_address(const struct coll *c, int fd)
{
    return (c->leader_count > 1 && io_peer_is(fd, c->conf.peers[ring_before(c)].host)) ||
        (c->local_count > 1 && io_peer_is(fd, c->conf.peers[c->conf.rank].host));
}

/* The oldest stranger; of those that said a rank's hello the oldest when there is none. */
static int least_promising(const struct meeting *m)
{
    for (int i = 0; i < m->count; i++)
        if (!m->callers[i].challenged)
            return i;
    return 0;
}

static int accept_callers(struct meeting *m, struct err *e)
{
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = io_accept(m->c->conf.listen_fd, clock_ms(), e);
        if (fd == -ERR_HANG)
            return 0; /* no more */
        if (fd < 0)
            return fd;
        if (!has_expected_address(m->c, fd)) {
            io_close(fd);
            continue;
        }
        if (m->count == CALLERS)
            let_go(m, least_promising(m));
        m->callers[m->count++] = (struct caller){.fd = fd, .until_ms = clock_ms() + HELLO_MS};
    }
    return 0;
}

static bool hello_is_ours(const struct coll *c, const struct hello *h)
{
    uint8_t mac[SECRET_MAC_BYTES];
    struct err ignored;
    return !mac_of_hello(c, h, mac, &ignored) && secret_same(mac, h->mac, sizeof mac) &&
        h->to == c->conf.rank && h->incarnation == c->conf.incarnation &&
        !memcmp(h->magic, "llmcoll1", 8);
}

/* Where a caller belongs: 0 the ring, i > 0 the local rank i; -1: not expected here. */
static int slot_of(const struct coll *c, const struct hello *h)
{
    if (h->ring)
        return c->leader_count > 1 && h->from == ring_before(c) ? 0 : -1;
    for (int i = 1; i < c->local_count; i++)
        if (c->local[i] == h->from)
            return i;
    return -1;
}

static bool challenge(const struct meeting *m, struct caller *k)
{
    struct err ignored;
    struct challenge *ch = &k->challenge;
    int slot = hello_is_ours(m->c, &k->hello) ? slot_of(m->c, &k->hello) : -1;
    if (slot < 0 || m->in[slot] >= 0 || io_random(ch->nonce, sizeof ch->nonce, &ignored) ||
        mac_of_challenge(m->c, &k->hello, ch, ch->mac, &ignored) ||
        io_send_full(k->fd, ch, sizeof *ch, k->until_ms, &ignored))
        return false;
    k->challenged = true;
    k->have = 0;
    return true;
}

static bool proof_is_right(const struct meeting *m, const struct caller *k)
{
    uint8_t mac[SECRET_MAC_BYTES];
    struct err ignored;
    return !mac_of_proof(m->c, &k->hello, &k->challenge, mac, &ignored) &&
        secret_same(mac, k->proof, sizeof mac) && m->in[slot_of(m->c, &k->hello)] < 0;
}

/* 1: proven; 0: not yet; -1: none of ours. */
static int hear(const struct meeting *m, struct caller *k)
{
    struct err ignored;
    for (;;) {
        char *into = k->challenged ? (char *)k->proof : (char *)&k->hello;
        size_t want = k->challenged ? sizeof k->proof : sizeof k->hello;
        int64_t n = io_recv_now(k->fd, into + k->have, want - k->have, &ignored);
        if (n < 0)
            return -1;
        if (n == 0)
            return clock_ms() < k->until_ms ? 0 : -1;
        k->have += (size_t)n;
        if (k->have < want)
            continue;
        if (k->challenged)
            return proof_is_right(m, k) ? 1 : -1;
        if (!challenge(m, k))
            return -1;
    }
}

static int hear_callers(struct meeting *m, struct err *e)
{
    int rc = m->got < m->expected ? accept_callers(m, e) : 0;
    for (int i = m->count - 1; !rc && i >= 0; i--) {
        struct caller *k = &m->callers[i];
        int heard = hear(m, k);
        if (heard > 0) {
            m->in[slot_of(m->c, &k->hello)] = k->fd;
            m->got++;
            k->fd = -1;
        }
        if (heard)
            let_go(m, i);
    }
    return rc;
}

/* -- whom we call -- */

static int say_hello(struct meeting *m, struct err *e)
{
    const struct coll *c = m->c;
    struct call *o = &m->call;
    struct hello *h = &o->hello;
    *h = (struct hello){
        .incarnation = c->conf.incarnation, .from = c->conf.rank, .to = o->to, .ring = o->ring};
    memcpy(h->magic, "llmcoll1", 8);
    o->have = 0;
    int rc = io_random(h->nonce, sizeof h->nonce, e);
    if (!rc)
        rc = mac_of_hello(c, h, h->mac, e);
    return rc ? rc : io_send_full(o->fd, h, sizeof *h, m->deadline_ms, e);
}

/* Another call some time later, when there is time; else rc. */
static int call_again(struct meeting *m, int rc)
{
    struct call *o = &m->call;
    io_close(o->fd);
    o->fd = -1;
    o->due_ms = clock_ms() + CALL_GAP_MS;
    return rc == -ERR_PEER && o->again++ < CALL_AGAIN ? 0 : rc;
}

static int connect_call(struct meeting *m, struct err *e)
{
    struct call *o = &m->call;
    const struct wire_peer *p = &m->c->conf.peers[o->to];
    int64_t now_ms = clock_ms(), until_ms = now_ms + o->patience_ms;
    if (now_ms < o->due_ms)
        return 0;
    bool last = until_ms >= m->deadline_ms;
    o->fd = io_connect(p->host, p->port, last ? m->deadline_ms : until_ms, e);
    if (o->fd == -ERR_HANG && !last) {
        o->patience_ms *= 2; /* a slow network, or a name that takes long */
        return 0;
    }
    if (o->fd < 0)
        return err_wrap(e, "connect to rank %d at %s:%u", o->to, p->host, p->port);
    int rc = say_hello(m, e);
    return rc ? call_again(m, err_wrap(e, "hello to rank %d", o->to)) : 0;
}

static int answer_challenge(struct meeting *m, struct err *e)
{
    struct call *o = &m->call;
    struct challenge *ch = &o->challenge;
    uint8_t mac[SECRET_MAC_BYTES];
    int64_t n = io_recv_now(o->fd, (char *)ch + o->have, sizeof *ch - o->have, e);
    if (n < 0)
        return call_again(m, err_wrap(e, "rank %d's challenge", o->to));
    o->have += (size_t)n;
    if (o->have < sizeof *ch)
        return 0;
    int rc = mac_of_challenge(m->c, &o->hello, ch, mac, e);
    if (rc)
        return rc;
    if (!secret_same(mac, ch->mac, sizeof mac))
        return err_set(e, ERR_PEER, "rank %d does not know the incarnation's secret", o->to);
    if ((rc = mac_of_proof(m->c, &o->hello, ch, mac, e)) ||
        (rc = io_send_full(o->fd, mac, sizeof mac, m->deadline_ms, e)))
        return rc;
    o->done = true;
    return 0;
}

static int tend_call(struct meeting *m, struct err *e)
{
    if (m->call.done)
        return 0;
    return m->call.fd < 0 ? connect_call(m, e) : answer_challenge(m, e);
}

/* -- the meeting -- */

/* Until somebody speaks or calls, or has been silent for too long. */
static int await_any(const struct meeting *m, struct err *e)
{
    struct pollfd p[CALLERS + 2];
    int64_t now_ms = clock_ms(), until_ms = m->deadline_ms;
    int n = 0;
    for (; n < m->count; n++) {
        p[n] = (struct pollfd){m->callers[n].fd, POLLIN, 0};
        if (until_ms > m->callers[n].until_ms)
            until_ms = m->callers[n].until_ms;
    }
    if (m->got < m->expected)
        p[n++] = (struct pollfd){m->c->conf.listen_fd, POLLIN, 0};
    if (!m->call.done && m->call.fd >= 0)
        p[n++] = (struct pollfd){m->call.fd, POLLIN, 0};
    else if (!m->call.done && until_ms > m->call.due_ms)
        until_ms = m->call.due_ms;
    poll(p, (nfds_t)n, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);
    if (clock_ms() < m->deadline_ms)
        return 0;
    if (m->got < m->expected)
        return err_set(
            e, ERR_HANG, "wait for %d of %d ranks to connect", m->expected - m->got, m->expected);
    return err_set(e, ERR_HANG, "rank %d's challenge did not come in time", m->call.to);
}

static int hold(struct meeting *m, struct err *e)
{
    int rc = 0;
    while (!rc && (m->got < m->expected || !m->call.done)) {
        if ((rc = tend_call(m, e)) || (rc = hear_callers(m, e)))
            break;
        if (m->got < m->expected || !m->call.done)
            rc = await_any(m, e);
    }
    while (m->count)
        let_go(m, m->count - 1);
    return rc;
}

int coll_meet(struct coll *c, struct err *e)
{
    bool leader = c->leader_index >= 0, ring = leader && c->leader_count > 1;
    struct meeting m = {.c = c,
        .deadline_ms = clock_ms() + c->conf.timeout_ms,
        .expected = leader ? c->local_count - 1 + ring : 0,
        .call = {.fd = -1, .ring = ring, .done = leader && !ring, .patience_ms = CONNECT_MS}};
    m.call.to = ring ? c->leaders[(c->leader_index + 1) % c->leader_count] : c->local[0];
    for (int i = 0; i < COLL_MAX_LOCAL; i++)
        m.in[i] = -1;
    int rc = hold(&m, e);
    if (rc) {
        io_close(m.call.fd);
        for (int i = 0; i < COLL_MAX_LOCAL; i++)
            io_close(m.in[i]);
        return rc;
    }
    if (!leader) {
        c->control[0] = m.call.fd;
        return 0;
    }
    for (int i = 1; i < c->local_count; i++)
        c->control[i] = m.in[i];
    c->next = m.call.fd;
    c->prev = m.in[0];
    if (!ring)
        return 0;
    rc = io_set_nonblocking(c->next, true, e);
    return rc ? rc : io_set_nonblocking(c->prev, true, e);
}
