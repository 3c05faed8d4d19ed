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
    beat_wait(c->conf.page, peer);
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    return err_set(e, ERR_PEER, "rank %d closed its connection", peer);
}

static int push(struct coll *c, struct transfer *t, struct err *e)
{
    ssize_t n = send(c->next, t->out, t->out_left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : closed(c, rank_after(c), e);
    t->out += n;
    t->out_left -= (size_t)n;
    c->sent_bytes += n;
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
        return closed(c, rank_before(c), e);
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
    int prev = rank_before(c);
    int64_t start_ms = clock_ms();
    while (t->out_left || t->in_left) {
        int pushed = t->out_left ? push(c, t, e) : 0;
        if (pushed < 0)
            return pushed;
        int pulled = t->in_left ? pull(c, t, e) : 0;
        if (pulled < 0)
            return pulled;
        if (pushed || pulled) {
            beat_progress(c->conf.page, prev);
            start_ms = clock_ms();
            continue;
        }
        struct pollfd p[3] = {{c->next, t->out_left ? POLLOUT : 0, 0},
            {c->prev, t->in_left ? POLLIN : 0, 0}, {c->abort_fd, POLLIN, 0}};
        poll(p, 3, COLL_SLICE_MS * 5);
        int rc = coll_check_wait(c, start_ms, prev, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* Both neighbours must be in the same collective: a mismatch would silently mix tensors. */
static int agree(struct coll *c, int64_t count, uint64_t what, struct err *e)
{
    uint64_t mine[3] = {c->sequence, (uint64_t)count, what}, theirs[3];
    struct transfer x = {.out = (const uint8_t *)mine,
        .out_left = sizeof mine,
        .in = (uint8_t *)theirs,
        .in_left = sizeof theirs};
    int rc = run_transfer(c, &x, e);
    if (rc)
        return rc;
    if (memcmp(mine, theirs, sizeof mine))
        return err_set(e, ERR_BUG,
            "ranks disagree: collective %llu of %lld elements here, %llu of %lld there",
            (unsigned long long)mine[0], (long long)mine[1], (unsigned long long)theirs[0],
            (long long)theirs[1]);
    return 0;
}

/* What tells one collective from another of as many elements; first: of the slices, or NULL. */
static uint64_t signature(
    const struct coll *c, const int64_t *first, enum dtype t, enum coll_reduce op, bool gathers)
{
    uint64_t sum = 0;
    for (int i = 0; first && i <= c->leader_count; i++)
        sum = (sum ^ (uint64_t)first[i]) * 1099511628211u + 1;
    return sum << 24 | (uint64_t)gathers << 16 | (uint64_t)t << 8 | (uint64_t)op;
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

/* Afterwards this rank's chunk me + 1 is reduced. */
static int reduce_chunks(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    int rc = 0, me = c->leader_index;
    struct transfer x = {.reduce = true, .t = t, .op = op};
    for (int s = 0; !rc && s < c->leader_count - 1; s++)
        rc = pass_on(
            c, data, coll_element(t), chunk(c, count, me - s), chunk(c, count, me - s - 1), x, e);
    return rc;
}

static int tcp_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    int me = c->leader_index, rc = agree(c, count, signature(c, NULL, t, op, false), e);
    if (!rc)
        rc = reduce_chunks(c, data, count, t, op, e);
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
    int rc = agree(c, count, signature(c, first, t, op, false), e);
    if (!rc && n == 2 && op == COLL_SUM) /* a + b is b + a: the slices themselves go across */
        return pass_on(c, data, coll_element(t), (struct ring_range){first[!me], first[!me + 1]},
            (struct ring_range){first[me], first[me + 1]},
            (struct transfer){.reduce = true, .t = t, .op = op}, e);
    if (!rc)
        rc = reduce_chunks(c, data, count, t, op, e);
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
    int n = c->leader_count, me = c->leader_index;
    int rc =
        agree(c, first[n] * (int64_t)element, signature(c, first, DTYPE_U8, COLL_SUM, true), e);
    for (int s = 0; !rc && s < n - 1; s++) {
        int out = (me - s + n) % n, in = (out + n - 1) % n;
        rc = pass_on(c, data, element, (struct ring_range){first[out], first[out + 1]},
            (struct ring_range){first[in], first[in + 1]}, (struct transfer){0}, e);
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
