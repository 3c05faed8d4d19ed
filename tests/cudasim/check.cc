/*
 * check: what each access of a kernel must satisfy. In the checked build the kernels are compiled
 * with -fsanitize=thread,alignment,bounds and without those sanitizers' libraries: the calls that
 * the compiler inserts end here. An access must lie in one live allocation of device memory, in the
 * block's shared memory, on the thread's stack, or be to the plugin's own constants; host memory is
 * out of reach as on a device.
 *
 * Shared memory is watched for races, byte by byte: two threads touch it, one of them writes, and
 * no barrier (for threads of a warp: no __syncwarp) lies between. This does not depend on the order
 * in which threads happen to run. Global memory is not watched so: there the orders must agree.
 */
#include "tests/cudasim/sim.hh"

#include <cstdio>

/* A stamp says who and when: the interval in the upper half, the interval of the thread's warp, the
   thread. 0: nobody. */
#define STAMP(interval, warp_interval, who) \
    ((uint64_t)(interval) << 32 | (uint64_t)(warp_interval) << 16 | (uint64_t)(who))
#define WHO           0xffffu
#define MANY_OF_WARP  0x4000u /* readers: several threads, of the warp in the low bits */
#define MANY_OF_BLOCK 0x8000u
#define ATOMICALLY    0x8000u /* writer */

struct cell {
    uint64_t write, read; /* stamps of the last writer and of the readers */
};
/* Notes are taken at the size of an access: for 16 bytes, for a word, for a byte. An access is
   checked against the notes of its own size, of greater ones, and, where a granule had such
   accesses in this interval, of smaller ones. */
#define GRANULE 16
struct granule {
    struct cell whole;
    uint32_t words_in, bytes_in; /* the interval of the latest access of that size */
};
struct details {
    struct cell word[4], byte[GRANULE];
};
static struct granule dynamic_granules[SIM_SHARED_MAX / GRANULE + 1], fixed_granules[16 << 10];
static int64_t fixed_in[16 << 10]; /* the latest launch that touched the granule */
static struct details dynamic_details[SIM_SHARED_MAX / GRANULE + 1], fixed_details[16 << 10];

extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" const char _end[] __attribute__((visibility("hidden")));

/* Where the notes about an address of shared memory are. */
struct notes {
    struct granule *granule;
    struct details *details;
    size_t offset; /* from the granule */
};
static inline bool find(uintptr_t at, struct notes *out)
{
    uintptr_t offset = at - (uintptr_t)sim.shared;
    if (offset < sim.launch->shared) {
        *out = {&dynamic_granules[offset / GRANULE], &dynamic_details[offset / GRANULE],
            offset % GRANULE};
        return true;
    }
    if (at - (uintptr_t)sim.fixed >= sim.fixed_bytes)
        return false;
    offset = at - ((uintptr_t)sim.fixed & ~(uintptr_t)(GRANULE - 1));
    if (offset / GRANULE >= sizeof(fixed_granules) / sizeof(*fixed_granules))
        return false;
    if (fixed_in[offset / GRANULE] != sim_launches) {
        fixed_in[offset / GRANULE] = sim_launches;
        sim.fixed_used += GRANULE;
    }
    *out = {&fixed_granules[offset / GRANULE], &fixed_details[offset / GRANULE], offset % GRANULE};
    return true;
}

[[noreturn]] __attribute__((cold, noinline)) static void race(
    uintptr_t at, bool write, uint64_t stamp, bool other_wrote)
{
    bool dynamic = at - (uintptr_t)sim.shared < sim.launch->shared;
    unsigned other = stamp & WHO;
    char who[40];
    if (!other_wrote && other & MANY_OF_BLOCK)
        snprintf(who, sizeof(who), "other threads");
    else if (!other_wrote && other & MANY_OF_WARP)
        snprintf(who, sizeof(who), "threads of warp %u", other & 0xff);
    else
        snprintf(who, sizeof(who), "thread %u", other & ~ATOMICALLY);
    sim_fail(cudaErrorLaunchFailure,
        "race in shared memory: it %s offset %zu of %s, which %s %s, with no barrier "
        "between",
        write ? "writes" : "reads", (size_t)(at - (uintptr_t)(dynamic ? sim.shared : sim.fixed)),
        dynamic ? "the dynamic part" : "the __shared__ arrays", who,
        other_wrote ? "wrote" : "read");
}

/* Both in this interval of the block: is one before the other all the same? */
static bool ordered(uint64_t stamp, uint64_t mine)
{
    unsigned other = stamp & 0x3ff, me = mine & 0x3ff;
    return other == me ||
        (other / 32 == me / 32 && (stamp >> 16 & 0xffff) != (mine >> 16 & 0xffff));
}

static void check_readers(uint64_t readers, uint64_t mine, uintptr_t at)
{
    unsigned other = readers & WHO, warp = (mine & 0x3ff) / 32;
    bool fine;
    if (other & MANY_OF_BLOCK)
        fine = false;
    else if (other & MANY_OF_WARP)
        fine = (other & 0xff) == warp && (readers >> 16 & 0xffff) != (mine >> 16 & 0xffff);
    else
        fine = ordered(readers, mine);
    if (!fine)
        race(at, true, readers, false);
}

/* Another reader in the same interval. */
static uint64_t add_reader(uint64_t readers, uint64_t mine)
{
    unsigned other = readers & WHO, me = mine & WHO;
    uint64_t many = (mine & ~(uint64_t)WHO) | MANY_OF_WARP | me / 32;
    if (other & MANY_OF_BLOCK || readers == many)
        return readers;
    if (other == me)
        return mine;
    if ((other & MANY_OF_WARP ? other & 0xff : other / 32) != me / 32)
        return (mine & ~(uint64_t)WHO) | MANY_OF_BLOCK;
    /* When the warp had a __syncwarp since, the others' reads are before whatever follows. */
    return (readers >> 16 & 0xffff) != (mine >> 16 & 0xffff) ? mine : many;
}

static inline void check_cell(
    const struct cell *c, uint64_t mine, uintptr_t at, enum sim_access access)
{
    if (c->write >> 32 == mine >> 32 && !ordered(c->write, mine) &&
        !(access == SIM_ATOMIC && c->write & ATOMICALLY))
        race(at, access != SIM_READ, c->write, true);
    if (access != SIM_READ && c->read >> 32 == mine >> 32)
        check_readers(c->read, mine, at);
}

static inline void note(struct cell *c, uint64_t mine, enum sim_access access)
{
    if (access == SIM_READ)
        c->read = c->read >> 32 == mine >> 32 ? add_reader(c->read, mine) : mine;
    else
        c->write = mine | (access == SIM_ATOMIC ? ATOMICALLY : 0);
}

/* An access of one granule, of 16, 4 or 1 bytes, aligned; `at` for the report. */
static void check_granule(
    const struct notes *n, uint64_t mine, uintptr_t at, size_t bytes, enum sim_access access)
{
    struct granule *g = n->granule;
    struct details *d = n->details;
    size_t word = n->offset / 4;
    check_cell(&g->whole, mine, at, access);
    if (bytes < GRANULE)
        check_cell(&d->word[word], mine, at, access);
    else if (g->words_in == sim.interval)
        for (size_t i = 0; i < 4; i++)
            check_cell(&d->word[i], mine, at + 4 * i, access);
    if (g->bytes_in == sim.interval)
        for (size_t i = 0; i < bytes; i++)
            check_cell(&d->byte[n->offset + i], mine, at + i, access);
    if (bytes == GRANULE) {
        note(&g->whole, mine, access);
    } else if (bytes == 4) {
        g->words_in = sim.interval;
        note(&d->word[word], mine, access);
    } else {
        g->bytes_in = sim.interval;
        note(&d->byte[n->offset], mine, access);
    }
}

static void check_race(struct notes n, uintptr_t at, size_t bytes, enum sim_access access)
{
    unsigned me = sim.thread->index;
    uint64_t mine = STAMP(sim.interval, sim.warp_interval[me / 32], me);
    while (bytes) {
        size_t size = n.offset == 0 && bytes >= GRANULE ? GRANULE
            : n.offset % 4 == 0 && bytes >= 4           ? 4
                                                        : 1;
        check_granule(&n, mine, at, size, access);
        at += size;
        bytes -= size;
        n.offset += size;
        if (n.offset == GRANULE) {
            n.offset = 0;
            n.granule++;
            n.details++;
        }
    }
}

bool sim_in_shared(uintptr_t at, size_t bytes)
{
    uintptr_t offset = at - (uintptr_t)sim.shared;
    if (offset < sim.launch->shared)
        return sim.launch->shared - offset >= bytes;
    offset = at - (uintptr_t)sim.fixed;
    return offset < sim.fixed_bytes && sim.fixed_bytes - offset >= bytes;
}

[[noreturn]] __attribute__((cold, noinline)) static void out_of_bounds(
    uintptr_t at, size_t bytes, bool write)
{
    const char *verb = write ? "writes" : "reads";
    char where[200];
    if (at + bytes + SIM_SHARED_MAX > (uintptr_t)sim.shared &&
        at < (uintptr_t)sim.shared + SIM_SHARED_MAX)
        sim_fail(cudaErrorIllegalAddress,
            "out of bounds in shared memory: it %s %zu bytes at offset %td of %zu", verb, bytes,
            (ptrdiff_t)(at - (uintptr_t)sim.shared), sim.launch->shared);
    if (!sim_memory_is_device((void *)at))
        sim_fail(cudaErrorIllegalAddress, "it %s %zu bytes of host memory, at 0x%lx", verb, bytes,
            (unsigned long)at);
    sim_memory_describe(at, bytes, where, sizeof(where));
    sim_fail(cudaErrorIllegalAddress, "out of bounds in global memory: it %s %s", verb, where);
}

void sim_check(uintptr_t at, size_t bytes, enum sim_access access)
{
    const struct cudasim_launch *l = sim.launch;
    struct notes n;
    if (sim_memory_is_device((void *)at)) {
        if (sim_memory_fast(at, bytes))
            return;
    } else if (find(at, &n)) {
        if (sim_in_shared(at, bytes))
            return check_race(n, at, bytes, access);
    } else if (at - (uintptr_t)sim.stacks < sim.stacks_bytes ||
        at - (uintptr_t)__ehdr_start < (uintptr_t)(_end - __ehdr_start) ||
        at - (uintptr_t)l->arguments < l->arguments_bytes) {
        return;
    }
    out_of_bounds(at, bytes, access != SIM_READ);
}

/* -- what wrappers of kernel.cuh ask -- */
void cudasim_shared16(const void *p, bool write, const char *what)
{
    uintptr_t at = (uintptr_t)p;
    if (!sim_in_shared(at, 16))
        sim_fail(cudaErrorIllegalAddress, "%s: not 16 bytes of shared memory: offset %td of %zu",
            what, (ptrdiff_t)(at - (uintptr_t)sim.shared), sim.launch->shared);
    if (at % 16)
        sim_fail(cudaErrorMisalignedAddress, "%s: shared memory, offset %td: not aligned to 16",
            what, (ptrdiff_t)(at - (uintptr_t)sim.shared));
    sim_check(at, 16, write ? SIM_WRITE : SIM_READ);
}

void cudasim_global(const void *p, const char *what)
{
    if (!sim_memory_is_device(p))
        sim_fail(cudaErrorIllegalAddress, "%s: 0x%lx is not global memory", what,
            (unsigned long)(uintptr_t)p);
}

void cudasim_atomic(void *p, size_t bytes)
{
    if ((uintptr_t)p % bytes)
        sim_fail(cudaErrorMisalignedAddress, "an atomic of %zu bytes at 0x%lx", bytes,
            (unsigned long)(uintptr_t)p);
    sim_check((uintptr_t)p, bytes, SIM_ATOMIC);
}

/* A copy under way leaves a NaN pattern; the bytes come at the wait. */
void cudasim_copy_async(void *shared, const void *global, bool valid)
{
    struct sim_thread *t = sim.thread;
    cudasim_shared16(shared, true, "copy_async16");
    if (valid) {
        if ((uintptr_t)global % 16)
            sim_fail(cudaErrorMisalignedAddress,
                "copy_async16: global memory at 0x%lx: not aligned to 16",
                (unsigned long)(uintptr_t)global);
        cudasim_global(global, "copy_async16");
        sim_check((uintptr_t)global, 16, SIM_READ);
    }
    if (t->copies == SIM_COPIES)
        cudasim_fail("copy_async16: over %d copies under way", SIM_COPIES);
    memset(shared, 0xff, 16);
    t->copy[t->copies++] = {shared, global, valid, t->groups};
}

void cudasim_copy_commit(void)
{
    sim.thread->groups++;
}

void cudasim_copy_wait(int newest)
{
    struct sim_thread *t = sim.thread;
    unsigned kept = 0;
    for (unsigned i = 0; i < t->copies; i++) {
        const struct sim_copy *c = &t->copy[i];
        if (c->group + (unsigned)newest >= t->groups) {
            t->copy[kept++] = *c;
            continue;
        }
        sim_check((uintptr_t)c->to, 16, SIM_WRITE);
        if (c->valid)
            memcpy(c->to, c->from, 16);
        else
            memset(c->to, 0, 16);
    }
    t->copies = kept;
}

/* -- what the compiler calls -- */
#define HOOK(name, bytes, access) \
    extern "C" void name(void *p); \
    void name(void *p) \
    { \
        if (sim.running) \
            sim_check((uintptr_t)p, bytes, access); \
    }
#define HOOKS(bytes) \
    HOOK(__tsan_read##bytes, bytes, SIM_READ) \
    HOOK(__tsan_write##bytes, bytes, SIM_WRITE)
#define HOOKS_UNALIGNED(bytes) \
    HOOK(__tsan_unaligned_read##bytes, bytes, SIM_READ) \
    HOOK(__tsan_unaligned_write##bytes, bytes, SIM_WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOKS_UNALIGNED(2)
HOOKS_UNALIGNED(4)
HOOKS_UNALIGNED(8)
HOOKS_UNALIGNED(16)
extern "C" {
void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes);
void __tsan_func_entry(void *p);
void __tsan_func_exit(void *p);
void __tsan_init(void);
void __tsan_vptr_update(void **p, void *value);
void __ubsan_handle_type_mismatch_v1(void *data, uintptr_t at);
void __ubsan_handle_out_of_bounds(void *data, uintptr_t index);
void __ubsan_handle_type_mismatch_v1_abort(void *data, uintptr_t at);
void __ubsan_handle_out_of_bounds_abort(void *data, uintptr_t index);
}
void __tsan_read_range(void *p, unsigned long bytes)
{
    if (sim.running)
        sim_check((uintptr_t)p, bytes, SIM_READ);
}
void __tsan_write_range(void *p, unsigned long bytes)
{
    if (sim.running)
        sim_check((uintptr_t)p, bytes, SIM_WRITE);
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void *)
{
}
void __tsan_init(void)
{
}
void __tsan_vptr_update(void **, void *)
{
}

/* The beginning of both handlers' data, as the compiler lays it out. */
struct place {
    const char *file;
    uint32_t line, column;
};
void __ubsan_handle_type_mismatch_v1(void *data, uintptr_t at)
{
    const struct place *p = (const struct place *)data;
    if (sim.running)
        sim_fail(cudaErrorMisalignedAddress, "misaligned access at %s:%u: address 0x%lx", p->file,
            p->line, (unsigned long)at);
    fprintf(stderr, "cudasim: host code at %s:%u: misaligned 0x%lx\n", p->file, p->line,
        (unsigned long)at);
    __builtin_trap();
}
void __ubsan_handle_out_of_bounds(void *data, uintptr_t index)
{
    const struct place *p = (const struct place *)data;
    if (sim.running)
        sim_fail(cudaErrorIllegalAddress, "index %ld is out of the array at %s:%u", (long)index,
            p->file, p->line);
    fprintf(stderr, "cudasim: host code at %s:%u: index %ld is out of the array\n", p->file,
        p->line, (long)index);
    __builtin_trap();
}
void __ubsan_handle_type_mismatch_v1_abort(void *data, uintptr_t at)
{
    __ubsan_handle_type_mismatch_v1(data, at);
}
void __ubsan_handle_out_of_bounds_abort(void *data, uintptr_t index)
{
    __ubsan_handle_out_of_bounds(data, index);
}
