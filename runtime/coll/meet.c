/*
 * coll_meet: how the ranks of a world meet: every non-leader connects to its leader (control),
 * every leader to the next one (ring); and later, where messages are wanted, every member to all
 * those after it (pairs). Each side proves that it knows the incarnation's secret by
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
#include "base/mem.h"
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

enum link { LINK_CONTROL, LINK_RING, LINK_PAIR };
struct hello {
    char magic[8];
    int64_t incarnation;
    int32_t from, to, link, zero;
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
    int *place; /* where the connection belongs */
    enum link link;
    bool done;
    struct hello hello;
    struct challenge challenge;
    size_t have; /* bytes of the challenge */
    int again;   /* times it was let go */
    int64_t due_ms, patience_ms;
};
struct meeting {
    struct coll *c;
    int64_t deadline_ms;
    bool pairs;
    struct call *calls;
    int call_count, calls_done;
    int expected, got;
    struct pollfd *polls;           /* for all callers, all calls and the listener */
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

static bool has_expected_address(const struct meeting *m, int fd)
{
    const struct coll *c = m->c;
    for (int i = 0; m->pairs && i < c->index; i++)
        if (io_peer_is(fd, c->conf.peers[c->first + i * c->stride].host))
            return true;
    if (m->pairs)
        return false;
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
        if (!has_expected_address(m, fd)) {
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
        !memcmp(h->magic, "llmcoll2", 8);
}

/* Where a caller belongs; NULL: not expected here. */
static int *place_of(const struct meeting *m, const struct hello *h)
{
    struct coll *c = m->c;
    if (m->pairs) {
        int i = (h->from - c->first) / c->stride;
        bool before = i >= 0 && i < c->index && c->first + i * c->stride == h->from;
        return before && h->link == LINK_PAIR ? &c->pair[i] : NULL;
    }
    if (h->link == LINK_RING)
        return c->leader_count > 1 && h->from == ring_before(c) ? &c->prev : NULL;
    for (int i = 1; i < c->local_count && h->link == LINK_CONTROL; i++)
        if (c->local[i] == h->from)
            return &c->control[i];
    return NULL;
}

static bool challenge(const struct meeting *m, struct caller *k)
{
    struct err ignored;
    struct challenge *ch = &k->challenge;
    const int *place = hello_is_ours(m->c, &k->hello) ? place_of(m, &k->hello) : NULL;
    if (!place || *place >= 0 || io_random(ch->nonce, sizeof ch->nonce, &ignored) ||
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
        secret_same(mac, k->proof, sizeof mac) && *place_of(m, &k->hello) < 0;
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
            *place_of(m, &k->hello) = k->fd;
            m->got++;
            k->fd = -1;
        }
        if (heard)
            let_go(m, i);
    }
    return rc;
}

/* -- whom we call -- */

static int say_hello(const struct meeting *m, struct call *o, struct err *e)
{
    const struct coll *c = m->c;
    struct hello *h = &o->hello;
    *h = (struct hello){.incarnation = c->conf.incarnation,
        .from = c->conf.rank,
        .to = o->to,
        .link = (int32_t)o->link};
    memcpy(h->magic, "llmcoll2", 8);
    o->have = 0;
    int rc = io_random(h->nonce, sizeof h->nonce, e);
    if (!rc)
        rc = mac_of_hello(c, h, h->mac, e);
    return rc ? rc : io_send_full(o->fd, h, sizeof *h, m->deadline_ms, e);
}

/* Another call some time later, when there is time; else rc. */
static int call_again(struct call *o, int rc)
{
    io_close(o->fd);
    o->fd = -1;
    o->due_ms = clock_ms() + CALL_GAP_MS;
    return rc == -ERR_PEER && o->again++ < CALL_AGAIN ? 0 : rc;
}

static int connect_call(const struct meeting *m, struct call *o, struct err *e)
{
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
    int rc = say_hello(m, o, e);
    return rc ? call_again(o, err_wrap(e, "hello to rank %d", o->to)) : 0;
}

static int answer_challenge(struct meeting *m, struct call *o, struct err *e)
{
    struct challenge *ch = &o->challenge;
    uint8_t mac[SECRET_MAC_BYTES];
    int64_t n = io_recv_now(o->fd, (char *)ch + o->have, sizeof *ch - o->have, e);
    if (n < 0)
        return call_again(o, err_wrap(e, "rank %d's challenge", o->to));
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
    m->calls_done++;
    return 0;
}

static int tend_calls(struct meeting *m, struct err *e)
{
    int rc = 0;
    for (int i = 0; !rc && i < m->call_count; i++) {
        struct call *o = &m->calls[i];
        if (!o->done)
            rc = o->fd < 0 ? connect_call(m, o, e) : answer_challenge(m, o, e);
    }
    return rc;
}

/* -- the meeting -- */

static int too_late(const struct meeting *m, struct err *e)
{
    int i = 0;
    if (m->got < m->expected)
        return err_set(
            e, ERR_HANG, "wait for %d of %d ranks to connect", m->expected - m->got, m->expected);
    while (m->calls[i].done)
        i++;
    return err_set(e, ERR_HANG, "rank %d's challenge did not come in time", m->calls[i].to);
}

/* Until somebody speaks or calls, or has been silent for too long. */
static int await_any(const struct meeting *m, struct err *e)
{
    struct pollfd *p = m->polls;
    int64_t now_ms = clock_ms(), until_ms = m->deadline_ms;
    int n = 0;
    for (; n < m->count; n++) {
        p[n] = (struct pollfd){m->callers[n].fd, POLLIN, 0};
        if (until_ms > m->callers[n].until_ms)
            until_ms = m->callers[n].until_ms;
    }
    if (m->got < m->expected)
        p[n++] = (struct pollfd){m->c->conf.listen_fd, POLLIN, 0};
    for (int i = 0; i < m->call_count; i++) {
        const struct call *o = &m->calls[i];
        if (!o->done && o->fd >= 0)
            p[n++] = (struct pollfd){o->fd, POLLIN, 0};
        else if (!o->done && until_ms > o->due_ms)
            until_ms = o->due_ms;
    }
    poll(p, (nfds_t)n, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);
    return clock_ms() < m->deadline_ms ? 0 : too_late(m, e);
}

static bool is_over(const struct meeting *m)
{
    return m->got == m->expected && m->calls_done == m->call_count;
}

static int converse(struct meeting *m, struct err *e)
{
    int rc = 0;
    while (!rc && !is_over(m)) {
        if ((rc = tend_calls(m, e)) || (rc = hear_callers(m, e)))
            break;
        if (!is_over(m))
            rc = await_any(m, e);
    }
    while (m->count)
        let_go(m, m->count - 1);
    return rc;
}

/* Whoever called has its place already; so do those we called when all went well. */
static int hold(struct meeting *m, struct err *e)
{
    mem_autofree struct pollfd *polls =
        mem_array((size_t)(CALLERS + 1 + m->call_count), sizeof *polls);
    m->polls = polls;
    int rc =
        polls ? converse(m, e) : err_set(e, ERR_MEMORY, "no memory for %d calls", m->call_count);
    for (int i = 0; i < m->call_count; i++)
        if (rc)
            io_close(m->calls[i].fd);
        else
            *m->calls[i].place = m->calls[i].fd;
    return rc;
}

int coll_meet(struct coll *c, struct err *e)
{
    bool leader = c->leader_index >= 0, ring = leader && c->leader_count > 1;
    struct call call = {.fd = -1,
        .to = ring ? c->leaders[(c->leader_index + 1) % c->leader_count] : c->local[0],
        .place = ring ? &c->next : &c->control[0],
        .link = ring ? LINK_RING : LINK_CONTROL,
        .patience_ms = CONNECT_MS};
    struct meeting m = {.c = c,
        .deadline_ms = clock_ms() + c->conf.timeout_ms,
        .expected = leader ? c->local_count - 1 + ring : 0,
        .calls = &call,
        .call_count = !leader || ring};
    int rc = hold(&m, e);
    if (rc || !ring)
        return rc;
    rc = io_set_nonblocking(c->next, true, e);
    return rc ? rc : io_set_nonblocking(c->prev, true, e);
}

int coll_meet_pairs(struct coll *c, struct err *e)
{
    int after = c->size - 1 - c->index;
    mem_autofree struct call *calls = mem_array((size_t)after, sizeof *calls);
    if (!calls && after)
        return err_set(e, ERR_MEMORY, "no memory for %d calls", after);
    for (int i = 0; i < after; i++) {
        int member = c->index + 1 + i;
        calls[i] = (struct call){.fd = -1,
            .to = c->first + member * c->stride,
            .place = &c->pair[member],
            .link = LINK_PAIR,
            .patience_ms = CONNECT_MS};
    }
    struct meeting m = {.c = c,
        .deadline_ms = clock_ms() + c->conf.timeout_ms,
        .pairs = true,
        .expected = c->index,
        .calls = calls,
        .call_count = after};
    return hold(&m, e);
}
