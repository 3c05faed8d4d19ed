/*
 * train/copies: what a rank would write to a checkpoint, in memory that outlives it, after every so
 * many steps: in its own pod, and in another one, whose ranks' parts it keeps likewise. Pods keep
 * each other's in twos, and three where one is left over. A part is copied where the training
 * stands, at a step's end, and crosses to the other pod on a thread while the next step computes;
 * that has ended on every rank before the next step counts, and so before any rank writes over the
 * copy before it. What a death costs is thus one step, or what stands between two copies.
 *
 * Of memory they get what the plan and the saver's copy leave; where that is too little on one rank
 * nobody makes any, and the log says so.
 */
#include "runtime/train/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/ckpt/copy.h"

#include <errno.h>
#include <pthread.h>

#define CHUNK_BYTES ((int64_t)8 << 20) /* of what crosses, between two looks whether it does */
#define LOOK_MS     500
#define STILL_MS    120000 /* without a byte: as long as a collective is waited for */

struct copy_head {      /* goes before a part */
    int64_t seal, file; /* bytes */
};

struct copies {
    int64_t bytes; /* of a part, of this rank and of the one that it keeps */
    int64_t theirs_bytes;
    struct ckpt_copy_slot own[2], theirs[2];
    struct coll *coll; /* of the ranks that keep each other's; NULL: no other pod does */
    int to, from;      /* in it */
    /* what crosses */
    pthread_t thread;
    bool crossing;
    int64_t step;
    struct ckpt_copy_slot *send, *receive;
    _Atomic int64_t crossed;
    int rc;
    struct err why;
    /* told in the end */
    int64_t count, held_up_ns, waited_ns;
};

int64_t train_copy_period(const struct train *t)
{
    int64_t local = t->spec->train.communication.local_steps;
    return t->spec->checkpoint.in_memory_every_steps * (local > 1 ? local : 1);
}

int64_t train_copy_bytes(const struct train *t)
{
    const struct copies *c = t->copies;
    return c ? c->own[0].bytes + c->own[1].bytes + c->theirs[0].bytes + c->theirs[1].bytes : 0;
}

/* -- who keeps whose -- */

/* Of a rank; size 0: pods are of unlike size, or there is but one. */
static struct layout_group keepers(const struct train *t, int rank)
{
    int n = train_ranks_of_pods(t), pods = t->orders->world / n, pod = rank / n;
    bool left_over = pods % 2 && pod >= pods - 3;
    int first = left_over ? pods - 3 : pod / 2 * 2;
    struct layout_group g = {first * n + rank % n, n, left_over ? 3 : 2, pod - first};
    const struct wire_peer *peers = t->orders->peers;
    if (pods < 2)
        g.size = 0;
    for (int i = 0; i < g.size; i++)
        if (i != g.index && peers[g.first + i * n].replica == peers[rank].replica)
            g.size = 0;
    return g;
}

/* Each rank has one, or none has. */
static struct layout_group own_keepers(const struct train *t)
{
    for (int i = 0; i < t->orders->world; i++)
        if (!keepers(t, i).size)
            return (struct layout_group){.size = 0};
    return keepers(t, t->orders->rank);
}

static int rank_in_pod(const struct train *t)
{
    const struct wire_peer *peers = t->orders->peers;
    int rank = t->orders->rank, n = 0;
    for (int i = 0; i < rank; i++)
        n += peers[i].replica == peers[rank].replica;
    return n;
}

/* -- their memory -- */

static int open_slots(struct train *t, struct copies *c, struct err *e)
{
    int fd = t->orders->copies_fd, local = rank_in_pod(t), rc = 0;
    int64_t room = t->snapshot_room - (t->saver ? t->plan.memory.snapshot : 0);
    int64_t all = 2 * (c->bytes + c->theirs_bytes);
    if (fd < 0)
        return err_set(e, ERR_MEMORY, "this pod has no memory that outlives its ranks");
    if (all > room)
        return err_set(e, ERR_MEMORY, "they take %lld MiB, and %lld MiB are left for them",
            (long long)(all >> 20), (long long)((room > 0 ? room : 0) >> 20));
    for (int i = 0; i < 2 && !rc; i++) {
        rc = ckpt_copy_open(fd, ckpt_copy_slot(local, CKPT_COPY_OWN, i), c->bytes, &c->own[i], e);
        int slot = ckpt_copy_slot(local, CKPT_COPY_NEIGHBOURS, i);
        if (!rc) /* what a world before this one kept there is in no plan of this one */
            rc = c->theirs_bytes ? ckpt_copy_open(fd, slot, c->theirs_bytes, &c->theirs[i], e)
                                 : ckpt_copy_drop(fd, slot, e);
    }
    return rc;
}

static void close_slots(struct copies *c)
{
    for (int i = 0; i < 2; i++) {
        ckpt_copy_close(&c->own[i]);
        ckpt_copy_close(&c->theirs[i]);
    }
}

/* Of this rank, whoever wrote there: their memory goes back. */
static void drop_slots(struct train *t, struct copies *c)
{
    struct err why;
    close_slots(c);
    for (int i = 0, first = rank_in_pod(t) * CKPT_COPY_SLOTS; i < CKPT_COPY_SLOTS; i++)
        if (t->orders->copies_fd >= 0 && ckpt_copy_drop(t->orders->copies_fd, first + i, &why))
            log_warn("copies stay in memory", LOG_ERR(&why));
}

/* How large a part is that this rank keeps. */
static int ask_sizes(struct train *t, struct copies *c, const struct layout_group *g, struct err *e)
{
    mem_autofree int64_t *all = mem_array((size_t)t->orders->world, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", t->orders->world);
    c->bytes = t->plan.memory.snapshot;
    int rc = coll_allgather(t->coll, &c->bytes, sizeof c->bytes, all, e);
    if (rc || !g->size)
        return rc;
    c->to = (g->index + 1) % g->size;
    c->from = (g->index + g->size - 1) % g->size;
    c->theirs_bytes = all[g->first + c->from * g->stride];
    return 0;
}

static int meet_keepers(
    struct train *t, struct copies *c, const struct layout_group *g, struct err *e)
{
    int rc = g->size ? coll_group_beside(t->coll, g, &c->coll, e) : 0;
    return rc || !g->size ? rc : coll_connect(c->coll, e);
}

int train_open_copies(struct train *t, struct err *e)
{
    if (!train_copy_period(t))
        return 0;
    struct copies *c = t->copies = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for copies");
    const struct layout_group g = own_keepers(t);
    struct err why = {.code = ERR_NONE, .text = "another rank has no memory for them"};
    int rc = ask_sizes(t, c, &g, e);
    if (rc)
        return rc;
    int32_t lacks = open_slots(t, c, &why) ? 1 : 0;
    rc = coll_allreduce(t->coll, &lacks, 1, DTYPE_I32, COLL_MAX, e);
    if (rc)
        return rc;
    if (lacks) {
        if (train_leads(t))
            log_warn("no copies are kept in memory", LOG_S("because", why.text));
        snprintf(t->copies_told, sizeof t->copies_told, "none: %.200s", why.text);
        drop_slots(t, c);
        train_close_copies(t);
        return 0;
    }
    snprintf(t->copies_told, sizeof t->copies_told,
        "every %lld steps, in a rank's pod%s: %lld MiB a rank", (long long)train_copy_period(t),
        g.size ? " and in another" : "", (long long)(train_copy_bytes(t) >> 20));
    if (train_leads(t))
        log_info("copies are kept in memory", LOG_S("copies", t->copies_told));
    return meet_keepers(t, c, &g, e);
}

void train_close_copies(struct train *t)
{
    struct copies *c = t->copies;
    if (!c)
        return;
    if (c->crossing) {
        coll_abort(c->coll);
        pthread_join(c->thread, NULL);
    }
    close_slots(c);
    mem_free(c);
    t->copies = NULL;
}

void train_drop_copies(struct train *t)
{
    struct copies *c = t->copies;
    if (!c)
        return;
    if (train_leads(t) && c->count)
        log_info("copies were kept in memory", LOG_I("copies", c->count),
            LOG_F("heldUpMs", 1e-6 * (double)c->held_up_ns / (double)c->count),
            LOG_F("waitedMs", 1e-6 * (double)c->waited_ns / (double)c->count));
    drop_slots(t, c);
}

/* -- to another pod -- */

/* Bytes [at, at + n) of what both members have, as much of it as each has. */
static int cross_chunk(struct copies *c, const struct copy_head *mine,
    const struct copy_head *theirs, char *to, int64_t at, struct err *e)
{
    struct coll_message m[2];
    int n = 0;
    int64_t out = mine->file - at, in = theirs->file - at;
    if (out > 0)
        m[n++] = (struct coll_message){ckpt_copy_file(c->send, mine->file) + at,
            (size_t)(out < CHUNK_BYTES ? out : CHUNK_BYTES), c->to, false};
    if (in > 0)
        m[n++] = (struct coll_message){
            to + at, (size_t)(in < CHUNK_BYTES ? in : CHUNK_BYTES), c->from, true};
    return coll_exchange_start(c->coll, m, n, e);
}

static int exchange(
    struct copies *c, const void *out, size_t sent, void *in, size_t received, struct err *e)
{
    const struct coll_message m[] = {
        {(void *)out, sent, c->to, false}, {in, received, c->from, true}};
    return coll_exchange_start(c->coll, m, 2, e);
}

static int cross(struct copies *c, struct err *e)
{
    const char *text;
    struct copy_head mine = {.file = c->send->sealed}, theirs;
    mine.seal = ckpt_copy_sealed(c->send, &text);
    mem_autofree char *seal = mem_alloc((size_t)CKPT_COPY_SEAL_BYTES);
    if (!seal)
        return err_set(e, ERR_MEMORY, "no memory to keep a copy");
    int rc = exchange(c, &mine, sizeof mine, &theirs, sizeof theirs, e);
    if (rc)
        return rc;
    char *to = ckpt_copy_file(c->receive, theirs.file);
    if (!to || theirs.seal < 1 || theirs.seal > CKPT_COPY_SEAL_BYTES - (int64_t)sizeof mine.seal)
        return err_set(
            e, ERR_BUG, "a copy of %lld bytes comes from another pod", (long long)theirs.file);
    ckpt_copy_break(c->receive);
    int64_t all = mine.file > theirs.file ? mine.file : theirs.file;
    for (int64_t at = 0; at < all; at += CHUNK_BYTES) {
        rc = cross_chunk(c, &mine, &theirs, to, at, e);
        if (rc)
            return rc;
        atomic_fetch_add(&c->crossed, CHUNK_BYTES);
        point_pass_at("cross", c->step);
    }
    rc = exchange(c, text, (size_t)mine.seal, seal, (size_t)theirs.seal, e);
    if (!rc)
        ckpt_copy_put_seal(c->receive, seal, theirs.seal);
    return rc;
}

static void *run_crossing(void *user)
{
    struct copies *c = user;
    c->rc = cross(c, &c->why);
    return NULL;
}

static int begin_crossing(struct copies *c, int turn, int64_t step, struct err *e)
{
    c->send = &c->own[turn];
    c->receive = &c->theirs[turn];
    c->step = step;
    int failed = pthread_create(&c->thread, NULL, run_crossing, c);
    if (failed)
        return err_sys(e, ERR_MEMORY, failed, "no thread to pass a copy on");
    c->crossing = true;
    return 0;
}

/* Has the thread ended? Waits for it a while. */
static bool has_crossed(struct copies *c)
{
    c->crossing = clock_join(c->thread, LOOK_MS) != 0;
    return !c->crossing;
}

int train_copied(struct train *t, struct err *e)
{
    struct copies *c = t->copies;
    if (!c || !c->crossing)
        return 0;
    int64_t begun_ns = clock_ns(), moved_ms = clock_ms(), crossed = -1;
    beat_phase(t->door->page, WIRE_PHASE_CHECKPOINT);
    while (!has_crossed(c)) {
        int64_t now = atomic_load(&c->crossed);
        if (now != crossed) {
            moved_ms = clock_ms();
            beat(t->door->page); /* the agent hears of what comes forward */
        }
        crossed = now;
        if (clock_ms() - moved_ms > STILL_MS)
            return err_set(
                e, ERR_HANG, "nothing of a copy came to another pod for %d s", STILL_MS / 1000);
    }
    c->waited_ns += clock_ns() - begun_ns;
    if (c->rc)
        *e = c->why;
    return c->rc;
}

/* -- at a step's end -- */

static int copy_own(struct train *t, struct ckpt_copy_slot *s, struct err *e)
{
    struct ckpt_state state = t->state;
    struct ckpt_writer *w = NULL;
    int rank = t->orders->rank;
    int rc = ckpt_copy_begin(s, t->spec->checkpoint.path, state.step, rank, &w, e);
    if (rc)
        return rc;
    rc = train_put_slice(t, w, e);
    if (rc) {
        ckpt_abandon(w);
        return rc;
    }
    train_describe(t, &state);
    return ckpt_copy_seal(s, w, &state, rank, e);
}

int train_copy(struct train *t, struct err *e)
{
    struct copies *c = t->copies;
    int64_t period = train_copy_period(t), begun_ns = clock_ns();
    if (!c || t->state.step % period)
        return 0;
    int turn = (int)(t->state.step / period % 2);
    int64_t begun = trace_begin(t->trace);
    beat_phase(t->door->page, WIRE_PHASE_CHECKPOINT);
    int rc = copy_own(t, &c->own[turn], e);
    if (!rc && c->coll)
        rc = begin_crossing(c, turn, t->state.step, e);
    trace_end(t->trace, begun, TRACE_RANK, "copy", "bytes", c->bytes);
    c->count++;
    c->held_up_ns += clock_ns() - begun_ns;
    return rc;
}
