/*
 * coll_local: the ranks of one pod through shared memory.
 *
 * A region is one memfd that the leader makes; the others open it through /proc/<leader>/fd, so
 * nothing has a name that a crash could leave behind. Every rank owns one part of each region.
 * Region 0 holds each rank's barrier word and its two staging areas, for memory that is not shared.
 * Ranks meet at numbered phases: a rank stores its own phase, then waits for the others' to reach
 * it, spinning briefly, at last giving way to whoever wants its processor, then by futex in slices
 * of COLL_SLICE_MS in which it also looks at the control sockets (a dead rank closes them), at
 * abort and at its deadline.
 */
#include "base/clock.h"
#include "base/io.h"
#include "runtime/coll/internal.h"
#include "runtime/door/beat.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPINS  4000 /* longer than a phase that nobody delays */
#define PAUSES 100  /* of them without a look whether the other needs this processor: 4 us */
#define YIELDS 64   /* every so many of the rest */

#define FOR_ITSELF_BYTES (4 << 10) /* of all parts together: a meeting costs more than the sums */
#define FEW              3         /* ranks; with more of them the sums of all cost more */

struct word { /* one rank's place in the barrier */
    _Atomic uint32_t phase;
    _Atomic uint32_t sleepers;
};

/* The beginning of a rank's part of region 0: its word, with no other's cache lines, and what it
 * has for each local rank, of an all-to-all. */
struct header {
    _Alignas(128) struct word word;
    _Alignas(64) struct ready {
        uint64_t region, offset, bytes;
    } ready[COLL_MAX_LOCAL];
};
#define HEADER_BYTES sizeof(struct header)

static uint8_t *part_of(const struct coll *c, int region, int local)
{
    const struct coll_region *r = &c->region[region];
    return r->base + (size_t)local * r->part_bytes;
}

static struct header *header_of(const struct coll *c, int local)
{
    return (struct header *)(void *)part_of(c, 0, local);
}

static void wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void sleep_on(_Atomic uint32_t *word, uint32_t seen)
{
    struct timespec slice = {.tv_nsec = COLL_SLICE_MS * 1000000L};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &slice, NULL, 0);
}

static int wait_for_phase(struct coll *c, int local, uint32_t phase, struct err *e)
{
    struct word *w = &header_of(c, local)->word;
    int64_t start_ms = clock_ms();
    struct err why;
    for (int spin = 0, rc = 0;; spin++) {
        uint32_t seen = atomic_load_explicit(&w->phase, memory_order_acquire);
        if ((int32_t)(seen - phase) >= 0)
            return 0;
        if (rc) {
            if (e)
                *e = why;
            return rc;
        }
        if (spin < SPINS) {
#ifdef __x86_64__
            __builtin_ia32_pause();
#endif
            if (spin >= PAUSES && spin % YIELDS == 0)
                sched_yield();
            continue;
        }
        /* A rank may have gone on and ended well since: its phase is looked at once more. */
        if ((rc = coll_check_wait(c, start_ms, c->local[local], &why)))
            continue;
        atomic_fetch_add(&w->sleepers, 1);
        sleep_on(&w->phase, seen);
        atomic_fetch_sub(&w->sleepers, 1);
    }
}

static int meet_locals(struct coll *c, struct err *e)
{
    uint32_t phase = ++c->phase;
    struct word *mine = &header_of(c, c->local_index)->word;
    atomic_store(&mine->phase, phase);
    if (atomic_load(&mine->sleepers))
        wake_all(&mine->phase);
    for (int i = 0; i < c->local_count; i++) {
        int rc = i == c->local_index ? 0 : wait_for_phase(c, i, phase, e);
        if (rc)
            return rc;
    }
    beat_progress(coll_page(c), -1);
    return 0;
}

/* The share of count elements that local rank i reduces, cut at 64-byte lines. */
static void share(int64_t count, size_t element, int n, int i, int64_t *first, int64_t *number)
{
    int64_t line = (int64_t)(64 / element);
    int64_t lines = (count + line - 1) / line;
    int64_t from = lines * i / n * line, to = lines * (i + 1) / n * line;
    *first = from;
    *number = (to < count ? to : count) - from;
}

/* The region whose part of this rank holds [p, p + bytes), or -1. */
static int find_region(const struct coll *c, const void *p, size_t bytes, size_t *offset)
{
    for (int i = 1; i < c->region_count; i++) {
        const uint8_t *part = part_of(c, i, c->local_index);
        if ((const uint8_t *)p >= part &&
            (const uint8_t *)p + bytes <= part + c->region[i].part_bytes) {
            *offset = (size_t)((const uint8_t *)p - part);
            return i;
        }
    }
    return -1;
}

bool coll_local_holds(const struct coll *c, const void *p, size_t bytes)
{
    size_t offset;
    return find_region(c, p, bytes, &offset) > 0;
}

/* Two areas are used in turn: whoever writes to one again has met all others since they read it. */
static size_t staging_at(const struct coll *c)
{
    return HEADER_BYTES + (c->phase & 1 ? COLL_STAGING : 0);
}

/* Where the pod's ranks find the same bytes of each other. */
struct shared {
    int region;
    size_t offset;
    uint8_t *mine;
};

static struct shared place_of(const struct coll *c, const void *data, size_t bytes)
{
    struct shared s;
    s.region = find_region(c, data, bytes, &s.offset);
    if (s.region < 0) {
        assert(bytes <= COLL_STAGING);
        s.region = 0;
        s.offset = staging_at(c);
    }
    s.mine = part_of(c, s.region, c->local_index) + s.offset;
    return s;
}

static void copy_unless_same(void *to, const void *from, size_t bytes)
{
    if (to != from)
        memcpy(to, from, bytes);
}

/* The parts' elements [first, first + number), reduced, go to the parts [from, to). */
static void reduce_parts(const struct coll *c, const struct shared *s, int64_t first,
    int64_t number, int from, int to, enum dtype t, enum coll_reduce op)
{
    void *parts[COLL_MAX_LOCAL];
    for (int i = 0; i < c->local_count; i++)
        parts[i] = part_of(c, s->region, i) + s->offset + (size_t)first * coll_element(t);
    if (number > 0)
        coll_reduce_all(parts, c->local_count, parts + from, to - from, number, t, op);
}

/* By one meeting: each rank sums all of it for itself, out of the staging areas. */
static int reduce_for_itself(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t at = staging_at(c);
    void *parts[COLL_MAX_LOCAL];
    for (int i = 0; i < c->local_count; i++)
        parts[i] = part_of(c, 0, i) + at;
    coll_reduce_all(&data, 1, &parts[c->local_index], 1, count, t, op); /* a copy */
    int rc = meet_locals(c, e);                                         /* every part is complete */
    if (!rc)
        coll_reduce_all(parts, c->local_count, &data, 1, count, t, op);
    return rc;
}

/* Whether that is faster than a share for each and two meetings, or than what copies it would take:
 * a few ranks, or little. */
static bool is_for_itself(const struct coll *c, const void *data, size_t bytes)
{
    size_t read = bytes * (size_t)c->local_count;
    return read <= FOR_ITSELF_BYTES || (c->local_count <= FEW && !coll_local_holds(c, data, bytes));
}

static int local_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t), bytes = (size_t)count * element;
    if (is_for_itself(c, data, bytes))
        return reduce_for_itself(c, data, count, t, op, e);
    struct shared s = place_of(c, data, bytes);
    copy_unless_same(s.mine, data, bytes);
    int rc = meet_locals(c, e); /* every part is complete */
    if (rc)
        return rc;
    int64_t first, number;
    share(count, element, c->local_count, c->local_index, &first, &number);
    reduce_parts(c, &s, first, number, 0, c->local_count, t, op);
    rc = meet_locals(c, e); /* every share is reduced */
    if (!rc)
        copy_unless_same(data, s.mine, bytes);
    return rc;
}

/* A rank reads its slice of every part and writes that of its own. */
static int local_reduce_scatter(struct coll *c, void *data, const int64_t *first, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    int me = c->local_index;
    size_t element = coll_element(t), bytes = (size_t)first[c->local_count] * element;
    size_t at = (size_t)first[me] * element, length = (size_t)first[me + 1] * element - at;
    struct shared s = place_of(c, data, bytes);
    copy_unless_same(s.mine, data, bytes);
    int rc = meet_locals(c, e); /* every part is complete */
    if (rc)
        return rc;
    reduce_parts(c, &s, first[me], first[me + 1] - first[me], me, me + 1, t, op);
    rc = meet_locals(c, e); /* nobody reads this rank's part any more */
    if (!rc)
        copy_unless_same((uint8_t *)data + at, s.mine + at, length);
    return rc;
}

static int local_all_gather(
    struct coll *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    struct shared s = place_of(c, data, (size_t)first[c->local_count] * element);
    size_t at = (size_t)first[c->local_index] * element;
    copy_unless_same(
        s.mine + at, (uint8_t *)data + at, (size_t)first[c->local_index + 1] * element - at);
    int rc = meet_locals(c, e); /* every slice is there */
    for (int i = 0; !rc && i < c->local_count; i++) {
        size_t from = (size_t)first[i] * element, to = (size_t)first[i + 1] * element;
        if (i != c->local_index)
            memcpy((uint8_t *)data + from, part_of(c, s.region, i) + s.offset + from, to - from);
    }
    return rc ? rc : meet_locals(c, e); /* nobody reads this rank's slice any more */
}

static int local_broadcast(struct coll *c, void *data, size_t bytes, struct err *e)
{
    struct shared s = place_of(c, data, bytes);
    if (c->local_index == 0)
        copy_unless_same(s.mine, data, bytes);
    int rc = meet_locals(c, e); /* the leader's part is complete */
    if (rc)
        return rc;
    if (c->local_index > 0)
        memcpy(data, part_of(c, s.region, 0) + s.offset, bytes);
    return meet_locals(c, e); /* nobody reads the leader's part any more */
}

/* A message's other end among the local ranks, or -1. */
static int local_peer(const struct coll *c, const struct coll_message *m)
{
    int i = m->peer - (c->index - c->local_index);
    return i >= 0 && i < c->local_count ? i : -1;
}

/* Where what this rank has for the others lies. */
static void make_ready(struct coll *c, const struct coll_message *messages, int n)
{
    struct header *mine = header_of(c, c->local_index);
    for (int i = 0; i < n; i++) {
        const struct coll_message *m = &messages[i];
        int peer = m->receive ? -1 : local_peer(c, m);
        size_t offset = 0;
        if (peer < 0)
            continue;
        int region = find_region(c, m->data, m->bytes, &offset);
        assert(region > 0);
        mine->ready[peer] = (struct ready){(uint64_t)region, offset, m->bytes};
    }
}

static int take_message(struct coll *c, const struct coll_message *m, int peer, struct err *e)
{
    const struct ready *r = &header_of(c, peer)->ready[c->local_index];
    if (r->bytes != m->bytes)
        return err_set(e, ERR_BUG, "rank %d has %llu bytes for rank %d, %zu are awaited",
            c->local[peer], (unsigned long long)r->bytes, c->conf.rank, m->bytes);
    if (m->bytes)
        memcpy(m->data, part_of(c, (int)r->region, peer) + r->offset, m->bytes);
    return 0;
}

int coll_local_all_to_all(struct coll *c, struct coll_message *messages, int *n, struct err *e)
{
    int left = 0, wrong = 0;
    make_ready(c, messages, *n);
    int rc = meet_locals(c, e); /* all is there */
    for (int i = 0; !rc && i < *n; i++) {
        int peer = local_peer(c, &messages[i]);
        if (peer < 0)
            messages[left++] = messages[i];
        else if (messages[i].receive && !wrong)
            wrong = take_message(c, &messages[i], peer, e);
    }
    if (!rc && !wrong)          /* a rank that was told a wrong size leaves */
        rc = meet_locals(c, e); /* nobody reads this rank's part any more */
    *n = left;
    return rc ? rc : wrong;
}

/* -- regions -- */

/* What the leader tells the others of a new region, and their acknowledgement: the same bytes. */
struct offer {
    int64_t pid, fd;
    uint64_t bytes;
};

static int offer_region(struct coll *c, int fd, uint64_t bytes, struct err *e)
{
    struct offer o = {getpid(), fd, bytes}, back;
    int64_t deadline_ms = clock_ms() + c->conf.timeout_ms;
    for (int i = 1; i < c->local_count; i++) {
        int rc = io_send_full(c->control[i], &o, sizeof o, deadline_ms, e);
        if (rc)
            return rc;
    }
    for (int i = 1; i < c->local_count; i++) {
        int rc = io_recv_full(c->control[i], &back, sizeof back, deadline_ms, e);
        if (rc)
            return rc;
        if (memcmp(&o, &back, sizeof o))
            return err_set(
                e, ERR_BUG, "rank %d asked for a shared region of another size", c->local[i]);
    }
    return 0;
}

static int map_region(struct coll *c, int fd, uint64_t bytes, size_t part_bytes, struct err *e)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(
            e, ERR_MEMORY, errno, "map %llu bytes of shared memory", (unsigned long long)bytes);
    c->region[c->region_count++] = (struct coll_region){p, part_bytes};
    return 0;
}

static int make_region(struct coll *c, uint64_t bytes, size_t part_bytes, struct err *e)
{
    io_auto_fd int fd = memfd_create("llmjob-coll", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        return err_sys(
            e, ERR_MEMORY, errno, "make %llu bytes of shared memory", (unsigned long long)bytes);
    int rc = map_region(c, fd, bytes, part_bytes, e);
    return rc ? rc : offer_region(c, fd, bytes, e);
}

static int join_region(struct coll *c, uint64_t bytes, size_t part_bytes, struct err *e)
{
    struct offer o;
    int64_t deadline_ms = clock_ms() + c->conf.timeout_ms;
    int rc = io_recv_full(c->control[0], &o, sizeof o, deadline_ms, e);
    if (rc)
        return rc;
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)o.pid, (long long)o.fd);
    io_auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, ERR_PEER, errno, "open the leader's shared memory %s", path);
    bool same = o.bytes == bytes;
    o.bytes = bytes;
    if ((same && (rc = map_region(c, fd, bytes, part_bytes, e))) ||
        (rc = io_send_full(c->control[0], &o, sizeof o, deadline_ms, e)))
        return rc;
    return same ? 0 : err_set(e, ERR_BUG, "the leader made a shared region of another size");
}

/* One more region, of all local ranks. */
static int add_region(struct coll *c, size_t part_bytes, struct err *e)
{
    if (c->region_count == COLL_MAX_REGIONS)
        return err_set(e, ERR_BUG, "more than %d shared regions", COLL_MAX_REGIONS);
    uint64_t part = (part_bytes + 4095) & ~(uint64_t)4095, bytes;
    if (part < part_bytes || __builtin_mul_overflow(part, (uint64_t)c->local_count, &bytes))
        return err_set(
            e, ERR_MEMORY, "a shared region of %zu bytes a rank is too large", part_bytes);
    return c->local_index == 0 ? make_region(c, bytes, part, e) : join_region(c, bytes, part, e);
}

static int local_open(struct coll *c, struct err *e)
{
    return add_region(c, HEADER_BYTES + 2 * COLL_STAGING, e);
}

static int local_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    int rc = c->region_count ? 0 : add_region(c, HEADER_BYTES, e); /* 0 is never the caller's */
    if (rc || (rc = add_region(c, bytes, e)))
        return rc;
    *out = part_of(c, c->region_count - 1, c->local_index);
    return 0;
}

static void local_close(struct coll *c)
{
    for (int i = 0; i < c->region_count; i++)
        munmap(c->region[i].base, c->region[i].part_bytes * (size_t)c->local_count);
    c->region_count = 0;
}

const struct coll_transport coll_local = {
    .name = "local",
    .open = local_open,
    .alloc = local_alloc,
    .all_reduce = local_all_reduce,
    .reduce_scatter = local_reduce_scatter,
    .all_gather = local_all_gather,
    .broadcast = local_broadcast,
    .close = local_close,
};
