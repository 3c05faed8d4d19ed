/*
 * coll_pairs: messages between two members over a connection of their own, which coll_meet_pairs
 * has opened. A message is a frame (its number among those from this sender to this receiver, and
 * its size) and its bytes. All messages of one exchange go on at once, each as far as its socket
 * takes it, so that members may send to each other, or around a ring, whatever the sizes; of the
 * messages of one sender to one receiver the first that is not through goes on.
 *
 * Device memory that the host cannot read goes through windows of host memory, one a message.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/internal.h"
#include "runtime/door/beat.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct flow_frame {
    uint64_t number, bytes;
};

struct flow { /* a message under way */
    int member;
    bool receive;
    struct flow_frame frame, came; /* the message's; what has come of the sender's */
    size_t framed;                 /* bytes of the frame that are through */
    uint8_t *at;                   /* where the socket's bytes come from or go to */
    size_t left;                   /* of them */
    uint8_t *device;               /* what follows, staged: through the window */
    size_t rest, held;             /* bytes that follow; bytes in the window */
    uint8_t *window;
};

struct flow_pair {
    uint64_t sent, received; /* messages */
    uint64_t turn[2];        /* the pass that last looked at one that is sent, received */
};

struct coll_flows {
    struct flow_pair *pair; /* size */
    struct flow *flow;      /* coll_most_messages */
    struct pollfd *poll;    /* one more than those */
    int polled;
    uint64_t turn;
    size_t window; /* bytes; 0: the memory is the host's */
};

int coll_most_messages(const struct coll *c)
{
    return 2 * c->size;
}

int coll_pairs_open(struct coll *c, struct err *e)
{
    if (c->pair) /* of messages of another kind of memory */
        return 0;
    size_t n = (size_t)coll_most_messages(c);
    struct coll_flows *s = c->flows = mem_zalloc(sizeof *s);
    c->pair = mem_array((size_t)c->size, sizeof *c->pair);
    if (s) {
        s->pair = mem_array((size_t)c->size, sizeof *s->pair);
        s->flow = mem_array(n, sizeof *s->flow);
        s->poll = mem_array(n + 1, sizeof *s->poll);
    }
    for (int i = 0; c->pair && i < c->size; i++)
        c->pair[i] = -1;
    if (!s || !c->pair || !s->pair || !s->flow || !s->poll)
        return err_set(e, ERR_MEMORY, "no memory to connect %d ranks", c->size);
    return coll_meet_pairs(c, e);
}

void coll_pairs_close(struct coll *c)
{
    for (int i = 0; c->pair && i < c->size; i++)
        io_close(c->pair[i]);
    if (c->flows) {
        mem_free(c->flows->pair);
        mem_free(c->flows->flow);
        mem_free(c->flows->poll);
    }
    mem_free(c->flows);
    mem_free(c->pair);
    c->flows = NULL;
    c->pair = NULL;
}

static int rank_of(const struct coll *c, const struct flow *f)
{
    return c->first + f->member * c->stride;
}

/* -- one message -- */

static bool is_through(const struct flow *f)
{
    return f->framed == sizeof f->frame && !f->left && !f->rest && !f->held;
}

/* The next bytes that are sent come into the window; those that were received leave it. */
static int turn_window(struct coll *c, struct flow *f, struct err *e)
{
    int rc = 0;
    if (f->receive && f->held) {
        dev_upload(c->conf.dev, f->device, f->window, f->held);
        f->device += f->held;
    }
    size_t n = f->rest < c->flows->window ? f->rest : c->flows->window;
    if (!f->receive && n) {
        dev_download(c->conf.dev, f->window, f->device, n);
        rc = dev_sync(c->conf.dev, e);
        f->device += n;
    }
    f->at = f->window;
    f->left = n;
    f->rest -= n;
    f->held = f->receive ? n : 0;
    return rc;
}

static int closed(struct coll *c, const struct flow *f, struct err *e)
{
    beat_wait(coll_page(c), rank_of(c, f));
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    return err_set(e, ERR_PEER, "rank %d closed its connection", rank_of(c, f));
}

/* Bytes that a socket took or gave now, 0: none; -ERR_PEER. */
static int64_t move(
    struct coll *c, const struct flow *f, void *at, size_t n, int flags, struct err *e)
{
    int fd = c->pair[f->member];
    ssize_t moved = f->receive ? recv(fd, at, n, MSG_DONTWAIT)
                               : send(fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    if (moved < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    c->sent_bytes += moved > 0 && !f->receive ? moved : 0;
    return moved <= 0 ? closed(c, f, e) : moved;
}

static int check_frame(const struct coll *c, const struct flow *f, struct err *e)
{
    if (!f->receive || !memcmp(&f->frame, &f->came, sizeof f->frame))
        return 0;
    return err_set(e, ERR_BUG,
        "rank %d sends message %llu of %llu bytes, message %llu of %llu bytes is awaited",
        rank_of(c, f), (unsigned long long)f->came.number, (unsigned long long)f->came.bytes,
        (unsigned long long)f->frame.number, (unsigned long long)f->frame.bytes);
}

/* As far as the socket goes; 1: something moved, 0: nothing. */
static int advance(struct coll *c, struct flow *f, struct err *e)
{
    int rc = 0;
    int64_t n;
    if (f->framed < sizeof f->frame) {
        struct flow_frame *frame = f->receive ? &f->came : &f->frame;
        n = move(c, f, (char *)frame + f->framed, sizeof *frame - f->framed,
            f->frame.bytes ? MSG_MORE : 0, e);
        if (n <= 0)
            return (int)n;
        f->framed += (size_t)n;
        return f->framed == sizeof f->frame && (rc = check_frame(c, f, e)) ? rc : 1;
    }
    if (!f->left && (rc = turn_window(c, f, e)))
        return rc;
    n = move(c, f, f->at, f->left, 0, e);
    if (n <= 0)
        return (int)n;
    f->at += n;
    f->left -= (size_t)n;
    if (!f->left && (f->rest || f->held))
        rc = turn_window(c, f, e);
    return rc ? rc : 1;
}

/* -- all of an exchange -- */

static void begin_flow(
    struct coll *c, struct flow *f, const struct coll_message *m, uint8_t *window)
{
    struct flow_pair *p = &c->flows->pair[m->peer];
    *f = (struct flow){.member = m->peer, .receive = m->receive};
    f->frame = (struct flow_frame){m->receive ? ++p->received : ++p->sent, m->bytes};
    if (!c->flows->window) {
        f->at = m->data;
        f->left = m->bytes;
        return;
    }
    f->device = m->data;
    f->rest = m->bytes;
    f->window = window;
}

/* Each message goes on. *first: one that is not through, one awaited rather than one sent; -1: all
 * are. */
static int advance_all(struct coll *c, int n, int *first, struct err *e)
{
    struct coll_flows *s = c->flows;
    int moved = 0;
    *first = -1;
    s->polled = 0;
    s->turn++;
    for (int i = 0; i < n; i++) {
        struct flow *f = &s->flow[i];
        uint64_t *turn = &s->pair[f->member].turn[f->receive];
        if (is_through(f) || *turn == s->turn)
            continue;
        *turn = s->turn;
        int rc = advance(c, f, e);
        if (rc < 0)
            return rc;
        moved |= rc;
        if (*first < 0 || (f->receive && !s->flow[*first].receive))
            *first = i;
        s->poll[s->polled++] =
            (struct pollfd){c->pair[f->member], f->receive ? POLLIN : POLLOUT, 0};
    }
    return moved;
}

static int check_flow(struct coll *c, const struct flow *f, int64_t start_ms, struct err *e)
{
    int rank = rank_of(c, f);
    beat_wait(coll_page(c), rank);
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    if (clock_ms() - start_ms <= c->conf.timeout_ms)
        return 0;
    return err_set(e, ERR_HANG, "message %llu %s rank %d, %lld ms waited for",
        (unsigned long long)f->frame.number, f->receive ? "from" : "to", rank,
        (long long)c->conf.timeout_ms);
}

int coll_pairs_exchange(struct coll *c, const struct coll_message *messages, int n,
    uint8_t *windows, size_t bytes, struct err *e)
{
    struct coll_flows *s = c->flows;
    s->window = windows && n ? bytes / (size_t)n & ~(size_t)63 : 0;
    for (int i = 0; i < n; i++)
        begin_flow(c, &s->flow[i], &messages[i], windows ? windows + (size_t)i * s->window : NULL);
    for (int64_t start_ms = clock_ms();;) {
        int first;
        int moved = advance_all(c, n, &first, e);
        if (moved < 0 || first < 0)
            return moved < 0 ? moved : 0;
        const struct flow *f = &s->flow[first];
        if (moved) {
            beat_progress(coll_page(c), rank_of(c, f));
            start_ms = clock_ms();
            continue;
        }
        s->poll[s->polled] = (struct pollfd){c->abort_fd, POLLIN, 0};
        poll(s->poll, (nfds_t)s->polled + 1, COLL_SLICE_MS * 5);
        int rc = check_flow(c, f, start_ms, e);
        if (rc)
            return rc;
    }
}
