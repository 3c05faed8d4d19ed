/*
 * coll_tcp: the ring between the pods' leaders, over the sockets that coll_meet has opened.
 *
 * Ring (Patarasuk and Yuan, 2009): n-1 steps of reduce-scatter, n-1 of all-gather, sending and
 * receiving at once. A chunk is summed along the ring in one fixed order, so the result is bitwise
 * the same everywhere.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/internal.h"
#include "runtime/door/beat.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SPIN_BYTES (64 << 10) /* of what comes in a step that is little */
#define SPINS      200        /* of two calls each: 100 us, longer than a way there and back */

struct tcp_head { /* stands before what a neighbour sends first: a mismatch would mix tensors */
    uint64_t sequence, count, what;
};

struct transfer { /* one step: bytes out to next, bytes in from prev */
    const uint8_t *out;
    size_t out_left;
    uint8_t *in;
    size_t in_left;
    bool reduce; /* else store */
    enum dtype t;
    enum coll_reduce op;
    size_t held; /* bytes in c->segment that are not a whole element yet */
    bool same;   /* what comes is reduced into what goes, and only where that has gone */
    const struct tcp_head *head; /* goes and comes first; or NULL */
    size_t head_out, head_in;    /* bytes of it that have gone, and come */
    struct tcp_head theirs;
};

static int rank_before(const struct coll *c)
{
    return c->leaders[(c->leader_index + c->leader_count - 1) % c->leader_count];
}

static int rank_after(const struct coll *c)
{
    return c->leaders[(c->leader_index + 1) % c->leader_count];
}

static int closed(struct coll *c, int peer, struct err *e)
{
    coll_tell_awaited(c, peer);
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    return err_set(e, ERR_PEER, "rank %d closed its connection", peer);
}

/* The head goes with what follows it: one segment of a small message. */
static int push(struct coll *c, struct transfer *t, struct err *e)
{
    size_t head = t->head ? sizeof *t->head - t->head_out : 0;
    struct iovec v[2] = {{(uint8_t *)t->head + t->head_out, head}, {(void *)t->out, t->out_left}};
    struct msghdr m = {.msg_iov = head ? v : v + 1, .msg_iovlen = head ? 2 : 1};
    ssize_t n = sendmsg(c->next, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : closed(c, rank_after(c), e);
    c->sent_bytes += n;
    size_t of_head = (size_t)n < head ? (size_t)n : head;
    t->head_out += of_head;
    t->out += (size_t)n - of_head;
    t->out_left -= (size_t)n - of_head;
    return n > 0;
}

/* Both neighbours must be in the same collective. */
static int compare_heads(const struct tcp_head *mine, const struct tcp_head *theirs, struct err *e)
{
    if (!memcmp(mine, theirs, sizeof *mine))
        return 0;
    return err_set(e, ERR_BUG,
        "ranks disagree: collective %llu of %lld elements here, %llu of %lld there",
        (unsigned long long)mine->sequence, (long long)mine->count,
        (unsigned long long)theirs->sequence, (long long)theirs->count);
}

/* 1: some bytes came; 0: none yet. */
static int take(struct coll *c, void *to, size_t bytes, size_t *n, struct err *e)
{
    ssize_t got = recv(c->prev, to, bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return closed(c, rank_before(c), e);
    *n = (size_t)got;
    return 1;
}

static int pull_head(struct coll *c, struct transfer *t, struct err *e)
{
    size_t n = 0;
    int rc = take(c, (uint8_t *)&t->theirs + t->head_in, sizeof t->theirs - t->head_in, &n, e);
    if (rc <= 0)
        return rc;
    t->head_in += n;
    if (t->head_in == sizeof t->theirs && (rc = compare_heads(t->head, &t->theirs, e)))
        return rc;
    return 1;
}

static int pull(struct coll *c, struct transfer *t, struct err *e)
{
    if (t->head && t->head_in < sizeof t->theirs)
        return pull_head(c, t, e);
    uint8_t *to = t->reduce ? c->segment + t->held : t->in;
    size_t room = t->reduce ? COLL_RING_SEGMENT - t->held : t->in_left;
    size_t left = t->in_left - (t->same ? t->out_left : 0), held = t->reduce ? t->held : 0, n = 0;
    if (left <= held)
        return 0; /* what it would be reduced into has not gone */
    int rc = take(c, to, left - held < room ? left - held : room, &n, e);
    if (rc <= 0)
        return rc;
    if (!t->reduce) {
        t->in += n;
        t->in_left -= n;
        return 1;
    }
    size_t element = coll_element(t->t), have = t->held + n, whole = have / element * element;
    coll_reduce_pair(t->in, c->segment, (int64_t)(whole / element), t->t, t->op);
    t->held = have - whole;
    memmove(c->segment, c->segment + whole, t->held);
    t->in += whole;
    t->in_left -= whole;
    return 1;
}

static bool goes(const struct transfer *t)
{
    return t->out_left || (t->head && t->head_out < sizeof *t->head);
}

static bool comes(const struct transfer *t)
{
    return t->in_left || (t->head && t->head_in < sizeof t->theirs);
}

/* Until a neighbour's bytes or room are there, or it is time to look at the rest. Of little the
   first wait is by looking again and again: to sleep and be woken takes longer than to come. */
static int await(
    struct coll *c, const struct transfer *t, int64_t start_ms, int *spins, struct err *e)
{
    if (*spins > 0) {
        --*spins;
        return 0;
    }
    /* What comes may have to wait until more has gone. */
    bool hears = comes(t) && !(t->same && t->in_left <= t->out_left + t->held);
    struct pollfd p[3] = {{c->next, goes(t) ? POLLOUT : 0, 0}, {c->prev, hears ? POLLIN : 0, 0},
        {c->abort_fd, POLLIN, 0}};
    poll(p, 3, COLL_SLICE_MS * 5);
    return coll_check_wait(c, start_ms, rank_before(c), e);
}

static int run_transfer(struct coll *c, struct transfer *t, struct err *e)
{
    int64_t start_ms = clock_ms();
    int spins = t->in_left <= SPIN_BYTES ? SPINS : 0;
    while (goes(t) || comes(t)) {
        int pushed = goes(t) ? push(c, t, e) : 0;
        if (pushed < 0)
            return pushed;
        int pulled = comes(t) ? pull(c, t, e) : 0;
        if (pulled < 0)
            return pulled;
        int rc = pushed || pulled ? 0 : await(c, t, start_ms, &spins, e);
        if (rc)
            return rc;
        if (pushed || pulled) {
            beat_progress(coll_page(c), rank_before(c));
            start_ms = clock_ms();
        }
    }
    return 0;
}

/* What tells one collective from another; first: of the slices, or NULL. */
static uint64_t signature(
    const struct coll *c, const int64_t *first, enum dtype t, enum coll_reduce op, bool gathers)
{
    uint64_t sum = 0;
    for (int i = 0; first && i <= c->leader_count; i++)
        sum = (sum ^ (uint64_t)first[i]) * 1099511628211u + 1;
    return sum << 24 | (uint64_t)gathers << 16 | (uint64_t)t << 8 | (uint64_t)op;
}

static struct tcp_head head_of(const struct coll *c, int64_t count, uint64_t what)
{
    return (struct tcp_head){c->sequence, (uint64_t)count, what};
}

/* -- the ring -- */

struct ring_range { /* of elements */
    int64_t first, end;
};

/* The k-th of as many even parts as there are leaders; k counts around the ring. */
static struct ring_range chunk(const struct coll *c, int64_t count, int k)
{
    int n = c->leader_count;
    k = (k % n + n) % n;
    return (struct ring_range){count * k / n, count * (k + 1) / n};
}

/* One step: a range goes on to the next, another comes and is reduced into data, or stored. */
static int pass_on(struct coll *c, void *data, size_t element, struct ring_range out,
    struct ring_range in, struct transfer x, struct err *e)
{
    x.out = (const uint8_t *)data + (size_t)out.first * element;
    x.out_left = (size_t)(out.end - out.first) * element;
    x.in = (uint8_t *)data + (size_t)in.first * element;
    x.in_left = (size_t)(in.end - in.first) * element;
    return run_transfer(c, &x, e);
}

/* Afterwards this rank's chunk me + 1 is reduced. The head goes with the first. */
static int reduce_chunks(struct coll *c, void *data, int64_t count, enum dtype t,
    enum coll_reduce op, const struct tcp_head *head, struct err *e)
{
    int rc = 0, me = c->leader_index;
    struct transfer x = {.reduce = true, .t = t, .op = op, .head = head};
    for (int s = 0; !rc && s < c->leader_count - 1; s++, x.head = NULL)
        rc = pass_on(
            c, data, coll_element(t), chunk(c, count, me - s), chunk(c, count, me - s - 1), x, e);
    return rc;
}

static int tcp_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    const struct tcp_head head = head_of(c, count, signature(c, NULL, t, op, false));
    const struct ring_range all = {0, count};
    if (c->leader_count == 2 && op == COLL_SUM && (size_t)count * coll_element(t) <= SPIN_BYTES)
        /* a + b is b + a: all goes across, as many bytes but one way less */
        return pass_on(c, data, coll_element(t), all, all,
            (struct transfer){.reduce = true, .t = t, .op = op, .same = true, .head = &head}, e);
    int me = c->leader_index, rc = reduce_chunks(c, data, count, t, op, &head, e);
    for (int s = 0; !rc && s < c->leader_count - 1; s++)
        rc = pass_on(c, data, coll_element(t), chunk(c, count, me + 1 - s), chunk(c, count, me - s),
            (struct transfer){0}, e);
    return rc;
}

/* The least range that has all that these leaders, counted around the ring, want of a chunk. */
static struct ring_range wanted(
    const struct coll *c, const int64_t *first, struct ring_range chunk, int leader, int number)
{
    struct ring_range r = {chunk.end, chunk.first};
    for (int i = 0; i < number; i++) {
        int j = (leader + i) % c->leader_count;
        int64_t from = first[j] > chunk.first ? first[j] : chunk.first;
        int64_t to = first[j + 1] < chunk.end ? first[j + 1] : chunk.end;
        if (from >= to)
            continue;
        r.first = from < r.first ? from : r.first;
        r.end = to > r.end ? to : r.end;
    }
    return r.first < r.end ? r : (struct ring_range){0, 0};
}

/* Chunks are summed as all-reduce does, so the sums are its; then each goes on around the ring, but
 * only what of it those who have not had it yet want: of slices like the chunks each goes one step
 * further. */
static int tcp_reduce_scatter(struct coll *c, void *data, const int64_t *first, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    int n = c->leader_count, me = c->leader_index;
    int64_t count = first[n];
    const struct tcp_head head = head_of(c, count, signature(c, first, t, op, false));
    if (n == 2 && op == COLL_SUM) /* a + b is b + a: the slices themselves go across */
        return pass_on(c, data, coll_element(t), (struct ring_range){first[!me], first[!me + 1]},
            (struct ring_range){first[me], first[me + 1]},
            (struct transfer){.reduce = true, .t = t, .op = op, .head = &head}, e);
    int rc = reduce_chunks(c, data, count, t, op, &head, e);
    for (int s = 0; !rc && s < n - 1; s++) {
        struct ring_range out = wanted(c, first, chunk(c, count, me + 1 - s), me + 1, n - 1 - s);
        struct ring_range in = wanted(c, first, chunk(c, count, me - s), me, n - 1 - s);
        rc = pass_on(c, data, coll_element(t), out, in, (struct transfer){0}, e);
    }
    return rc;
}

static int tcp_all_gather(
    struct coll *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    int n = c->leader_count, me = c->leader_index, rc = 0;
    const struct tcp_head head =
        head_of(c, first[n] * (int64_t)element, signature(c, first, DTYPE_U8, COLL_SUM, true));
    for (int s = 0; !rc && s < n - 1; s++) {
        int out = (me - s + n) % n, in = (out + n - 1) % n;
        rc = pass_on(c, data, element, (struct ring_range){first[out], first[out + 1]},
            (struct ring_range){first[in], first[in + 1]},
            (struct transfer){.head = s ? NULL : &head}, e);
    }
    return rc;
}

static int tcp_open(struct coll *c, struct err *e)
{
    c->segment = mem_aligned(64, COLL_RING_SEGMENT);
    return c->segment ? 0 : err_set(e, ERR_MEMORY, "no memory for a ring of %d", c->leader_count);
}

static void tcp_close(struct coll *c)
{
    io_close(c->next);
    io_close(c->prev);
    c->next = c->prev = -1;
    mem_free(c->segment);
    c->segment = NULL;
}

const struct coll_transport coll_tcp = {
    .name = "tcp",
    .open = tcp_open,
    .all_reduce = tcp_all_reduce,
    .reduce_scatter = tcp_reduce_scatter,
    .all_gather = tcp_all_gather,
    .close = tcp_close,
};
