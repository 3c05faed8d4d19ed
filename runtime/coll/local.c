/*
 * coll_local: collectives between the ranks of one pod through shared memory.
 *
 * A region is one memfd that the leader makes; the others open it through /proc/<leader>/fd, so
 * nothing has a name that a crash could leave behind. Every rank owns one part of each region.
 * Region 0 holds each rank's barrier word and its staging area. Ranks meet at numbered phases: a
 * rank stores its own phase, then waits for the others' to reach it, spinning briefly, then by
 * futex in slices of COLL_SLICE_MS in which it also looks at the control sockets (a dead rank
 * closes them), at abort and at its deadline.
 */
#include "base/clock.h"
#include "base/io.h"
#include "runtime/coll/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct word { /* one rank's place in the barrier; the first bytes of its part of region 0 */
    _Atomic uint32_t phase;
    _Atomic uint32_t sleepers;
    uint8_t pad[COLL_REGION0_HEADER - 8];
};

#define SPINS \
    4000 /* about 20 us: longer than an uncontended phase, shorter than a scheduling quantum   \
          */

static uint8_t *part_of(const struct coll *c, int region, int local)
{
    const struct coll_region *r = &c->region[region];
    return r->base + (size_t)local * r->part_bytes;
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
    struct word *w = (struct word *)(void *)part_of(c, 0, local);
    int64_t start_ms = clock_ms();
    for (int spin = 0;; spin++) {
        uint32_t seen = atomic_load_explicit(&w->phase, memory_order_acquire);
        if ((int32_t)(seen - phase) >= 0)
            return 0;
        if (spin < SPINS) {
#ifdef __x86_64__
            __builtin_ia32_pause();
#endif
            continue;
        }
        int r = coll_check_wait(c, start_ms, c->local[local], e);
        if (r)
            return r;
        atomic_fetch_add(&w->sleepers, 1);
        sleep_on(&w->phase, seen);
        atomic_fetch_sub(&w->sleepers, 1);
    }
}

int coll_local_barrier(struct coll *c, struct err *e)
{
    if (c->local_count == 1)
        return 0;
    uint32_t phase = ++c->phase;
    struct word *mine = (struct word *)(void *)part_of(c, 0, c->local_index);
    atomic_store(&mine->phase, phase);
    if (atomic_load(&mine->sleepers))
        wake_all(&mine->phase);
    for (int i = 0; i < c->local_count; i++) {
        int r = i == c->local_index ? 0 : wait_for_phase(c, i, phase, e);
        if (r)
            return r;
    }
    coll_beat(c, -1);
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

int coll_local_allreduce(struct coll *c, int region, size_t offset, int64_t count, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    int r = coll_local_barrier(c, e); /* every part is complete */
    if (r)
        return r;
    int64_t first, number;
    share(count, coll_element(t), c->local_count, c->local_index, &first, &number);
    void *parts[COLL_MAX_LOCAL];
    for (int i = 0; i < c->local_count; i++)
        parts[i] = part_of(c, region, i) + offset + (size_t)first * coll_element(t);
    if (number > 0)
        coll_reduce_all(parts, c->local_count, number, t, op);
    return coll_local_barrier(c, e); /* every share is reduced */
}

int coll_local_spread(struct coll *c, int region, size_t offset, size_t bytes, struct err *e)
{
    int r = coll_local_barrier(c, e); /* the leader's part is complete */
    if (r)
        return r;
    if (c->local_index > 0)
        memcpy(part_of(c, region, c->local_index) + offset, part_of(c, region, 0) + offset, bytes);
    return coll_local_barrier(c, e); /* nobody reads the leader's part any more */
}

/* What the leader tells the others about a new region, and their acknowledgement (the same bytes).
 */
struct offer {
    int64_t pid, fd;
    uint64_t bytes;
};

static int offer_region(struct coll *c, int fd, uint64_t bytes, struct err *e)
{
    struct offer o = {getpid(), fd, bytes}, back;
    int64_t deadline_ms = clock_ms() + c->conf.timeout_ms;
    for (int i = 1; i < c->local_count; i++) {
        int r = io_send_full(c->control[i], &o, sizeof o, deadline_ms, e);
        if (r)
            return r;
    }
    for (int i = 1; i < c->local_count; i++) {
        int r = io_recv_full(c->control[i], &back, sizeof back, deadline_ms, e);
        if (r)
            return r;
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
    int r = map_region(c, fd, bytes, part_bytes, e);
    return r ? r : offer_region(c, fd, bytes, e);
}

static int join_region(struct coll *c, uint64_t bytes, size_t part_bytes, struct err *e)
{
    struct offer o;
    int64_t deadline_ms = clock_ms() + c->conf.timeout_ms;
    int r = io_recv_full(c->control[0], &o, sizeof o, deadline_ms, e);
    if (r)
        return r;
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)o.pid, (long long)o.fd);
    io_auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, ERR_PEER, errno, "open the leader's shared memory %s", path);
    bool same = o.bytes == bytes;
    o.bytes = bytes;
    r = same ? map_region(c, fd, bytes, part_bytes, e) : 0;
    if (!r)
        r = io_send_full(c->control[0], &o, sizeof o, deadline_ms, e);
    if (!r && !same)
        r = err_set(e, ERR_BUG, "the leader made a shared region of another size");
    return r;
}

int coll_local_region(struct coll *c, size_t part_bytes, struct err *e)
{
    if (c->region_count == COLL_MAX_REGIONS)
        return err_set(e, ERR_BUG, "more than %d shared regions", COLL_MAX_REGIONS);
    uint64_t part = (part_bytes + 4095) & ~(uint64_t)4095, bytes;
    if (part < part_bytes || __builtin_mul_overflow(part, (uint64_t)c->local_count, &bytes))
        return err_set(
            e, ERR_MEMORY, "a shared region of %zu bytes a rank is too large", part_bytes);
    return c->local_index == 0 ? make_region(c, bytes, part, e) : join_region(c, bytes, part, e);
}

void coll_local_done(struct coll *c)
{
    for (int i = 0; i < c->region_count; i++)
        munmap(c->region[i].base, c->region[i].part_bytes * (size_t)c->local_count);
    c->region_count = 0;
}
