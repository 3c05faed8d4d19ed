/*
 * coll_nccl: device memory reduced and moved by the device's own communicators (kernels/driver.h).
 * Their id is made by rank 0 and goes round by the host's transports, whose sockets stay open: a
 * rank that died is seen there, often long before the network of the devices gives up. The host's
 * one wait polls, so that a deadline, an abort and a closed socket end it like any other wait of
 * coll; after that the communicator is aborted, or whoever waits for the device next would never
 * come back. The abort itself may never come back either: conf.failing_fn is told before it.
 *
 * A communicator is the main thread's but for nccl_abort.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/driver.h"
#include "runtime/coll/internal.h"
#include "runtime/door/beat.h"

#include <time.h>

#define POLL_US 50   /* far below a step; the update that follows the reduction hides it */
#define ASK_MS  4000 /* of waiting; the agent waits for 10 s at least, or five steps */

static const struct driver_comms *comms(const struct coll *c)
{
    return dev_comms(c->conf.dev);
}

bool coll_nccl_can(const struct coll *c)
{
    return comms(c) != NULL;
}

static void nccl_close(struct coll *c)
{
    struct driver_comm *comm = atomic_exchange(&c->comm, NULL);
    if (comm)
        comms(c)->destroy(comm);
    coll_staged_free(c);
    mem_free(c->passed);
    c->passed = NULL;
}

static void nccl_abort(struct coll *c)
{
    struct driver_comm *comm = atomic_load(&c->comm);
    if (comm)
        comms(c)->abort(comm);
}

static int nccl_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    struct driver_comm *comm = atomic_load(&c->comm);
    return comm ? comms(c)->alloc(comm, bytes, out, e) : coll_staged_alloc(c, bytes, out, e);
}

/* Something failed: a rank that is gone explains it better than what the network says. */
static int give_up(struct coll *c, const struct err *network, struct err *e)
{
    struct err why;
    if (!coll_check_wait(c, clock_ms(), -1, &why) && !coll_check_ring(c, &why))
        why = *network;
    if (c->conf.failing_fn)
        c->conf.failing_fn(c->conf.failing_user, &why);
    nccl_abort(c);
    if (e)
        *e = why;
    return -(int)why.code;
}

static int nccl_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    struct err why = {0};
    int rc = comms(c)->allreduce(
        atomic_load(&c->comm), data, count, t, op == COLL_SUM ? DRIVER_SUM : DRIVER_MAX, &why);
    return rc ? give_up(c, &why, e) : 0;
}

static int nccl_reduce_scatter(struct coll *c, void *data, const int64_t *first, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    struct err why = {0};
    int rc = comms(c)->reduce_scatter(
        atomic_load(&c->comm), data, first, t, op == COLL_SUM ? DRIVER_SUM : DRIVER_MAX, &why);
    return rc ? give_up(c, &why, e) : 0;
}

static int nccl_all_gather(
    struct coll *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    struct err why = {0};
    int rc = comms(c)->allgather(atomic_load(&c->comm), data, first, element, &why);
    return rc ? give_up(c, &why, e) : 0;
}

static void nccl_join(struct coll *c)
{
    comms(c)->join(atomic_load(&c->comm));
}

/* The agent's verdict comes long before the deadline, and tells what stands on the page. */
static void ask_network(struct coll *c)
{
    char known[WIRE_NOTE_BYTES];
    comms(c)->explain(known, sizeof known);
    if (!*known)
        return;
    log_warn("a collective does not end", LOG_I("rank", c->conf.rank),
        LOG_I("collective", c->sequence), LOG_S("network", known));
    beat_note(c->conf.page, known);
}

static int waited(struct coll *c, int64_t start_ms, bool asked)
{
    c->waited_ms = clock_ms() - start_ms;
    if (asked)
        beat_note(c->conf.page, "");
    return 0;
}

static int nccl_wait(struct coll *c, struct err *e)
{
    const struct timespec pause = {.tv_nsec = POLL_US * 1000};
    int64_t start_ms = clock_ms(), looked_ms = start_ms;
    int64_t ask_ms = 2 * c->waited_ms > ASK_MS ? 2 * c->waited_ms : ASK_MS;
    struct err why = {0};
    bool asked = false;
    for (;;) {
        int rc = comms(c)->poll(atomic_load(&c->comm), &why);
        if (!rc)
            return waited(c, start_ms, asked);
        int64_t now_ms = clock_ms();
        if (rc > 0 && now_ms - looked_ms >= COLL_SLICE_MS) {
            looked_ms = now_ms;
            rc = coll_check_wait(c, start_ms, -1, &why);
            if (!rc && !(rc = coll_check_ring(c, &why)) && !asked && now_ms - start_ms >= ask_ms) {
                asked = true;
                ask_network(c);
            }
        }
        if (rc < 0)
            return give_up(c, &why, e);
        nanosleep(&pause, NULL);
    }
}

/* The first collective connects, which may take long and waits without a look at the sockets: here,
 * where nothing else is under way yet and the agent expects it. */
static int meet(struct coll *c, struct err *e)
{
    void *word = NULL;
    struct err why = {0};
    if (nccl_alloc(c, sizeof(float), &word, &why))
        return give_up(c, &why, e);
    int rc = nccl_all_reduce(c, word, 1, DTYPE_F32, COLL_SUM, e);
    return rc ? rc : nccl_wait(c, e);
}

static int nccl_exchange(struct coll *c, const struct coll_message *messages, int n, struct err *e)
{
    struct err why = {0};
    for (int i = 0; i < n; i++)
        c->passed[i] = (struct driver_message){
            messages[i].data, messages[i].bytes, messages[i].peer, messages[i].receive};
    int rc = comms(c)->exchange(atomic_load(&c->comm), c->passed, n, &why);
    return rc ? give_up(c, &why, e) : 0;
}

static int nccl_all_to_all(struct coll *c, struct coll_message *messages, int n, struct err *e)
{
    return nccl_exchange(c, messages, n, e);
}

/* As meet: the first message of a pair connects. A word goes from each member to each. */
static int nccl_connect(struct coll *c, struct err *e)
{
    int n = 0;
    struct err why = {0};
    void *words = NULL;
    c->passed = mem_array((size_t)coll_most_messages(c), sizeof *c->passed);
    if (!c->passed)
        return err_set(e, ERR_MEMORY, "no memory to connect %d ranks", c->size);
    if (nccl_alloc(c, 2 * sizeof(float) * (size_t)c->size, &words, &why))
        return give_up(c, &why, e);
    for (int i = 0; i < 2 * c->size; i++)
        if (i / 2 != c->index)
            c->messages[n++] =
                (struct coll_message){(float *)words + i, sizeof(float), i / 2, i % 2 != 0};
    int rc = nccl_exchange(c, c->messages, n, e);
    return rc ? rc : nccl_wait(c, e);
}

static int nccl_open(struct coll *c, struct err *e)
{
    if (c->size == 1)
        return 0;
    uint8_t id[DRIVER_COMM_ID_BYTES] = {0};
    int rc = c->index == 0 ? comms(c)->unique_id(id, e) : 0;
    if (!rc)
        rc = coll_broadcast(c, id, sizeof id, 0, e);
    if (rc)
        return rc;
    struct driver_comm *comm = NULL;
    struct err why = {0};
    rc = comms(c)->create(c->conf.dev, id, c->index, c->size, c->conf.timeout_ms, &comm, &why);
    atomic_store(&c->comm, comm);
    return rc ? give_up(c, &why, e) : meet(c, e);
}

const struct coll_transport coll_nccl = {
    .name = "nccl",
    .overlaps = true,
    .open = nccl_open,
    .alloc = nccl_alloc,
    .all_reduce = nccl_all_reduce,
    .reduce_scatter = nccl_reduce_scatter,
    .all_gather = nccl_all_gather,
    .connect = nccl_connect,
    .exchange = nccl_exchange,
    .all_to_all = nccl_all_to_all,
    .join = nccl_join,
    .wait = nccl_wait,
    .abort = nccl_abort,
    .close = nccl_close,
};
