/*
 * memory: the simulator's device and pinned memory. Addresses of device memory come from one
 * reserved range and are never used twice, so that a pointer that outlived its allocation faults.
 * An allocation ends (within 64 bytes, which are watched) at a guard page and begins after one.
 *
 * Nobody has access rights to it. While work of a stream runs, between sim_memory_open and _close,
 * a fault of that work opens the piece it touched, and the end closes what was opened; so host code
 * that follows a device pointer crashes, and memory that is not used costs nothing. What was never
 * written reads as NaN patterns. Called under sim_lock.
 */
#include "tests/cudasim/sim.hh"

#include <csignal>
#include <cstdio>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#define ALIGNMENT          64 /* what dev.h promises; the toolkit gives 256 */
#define WATCHED            64 /* bytes before an allocation that are looked at after each kernel */
#define PIECE_BYTES        ((size_t)256 << 10)
#define POISON             0xff
#define SIGNAL_STACK_BYTES ((size_t)64 << 10)

enum piece_state { PIECE_NEW, PIECE_ZERO, PIECE_USED, PIECE_OPEN };
struct allocation {
    uintptr_t begin, end;       /* as asked for */
    uintptr_t first, after;     /* whole pages */
    std::vector<uint8_t> piece; /* piece_state of PIECE_BYTES from first */
};
struct opened {
    struct allocation *allocation;
    size_t piece;
};

static std::map<uintptr_t, allocation> allocations; /* by end */
static std::map<uintptr_t, uintptr_t> pinned;       /* end to begin */
static std::vector<opened> open_pieces;
uintptr_t sim_arena;
static uintptr_t arena_next;
static size_t used, pieces; /* bytes and pieces of all allocations */
static int open_count;
struct sim_range sim_recent[SIM_RECENT];

static uintptr_t page(void)
{
    static const uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE);
    return size;
}

static bool arena_reserve(void)
{
    if (sim_arena)
        return true;
    void *p = mmap(
        nullptr, SIM_ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("cudasim: SIM_ARENA_BYTES of addresses");
        return false;
    }
    sim_arena = arena_next = (uintptr_t)p;
    return true;
}

cudaError_t sim_memory_take(size_t bytes, void **out)
{
    uint64_t total = sim_number("LLMJOB_CUDASIM_MEMORY_MIB", 8192) << 20;
    if (!bytes) {
        *out = nullptr;
        return cudaSuccess;
    }
    if (bytes > total || used + bytes > total || !arena_reserve())
        return cudaErrorMemoryAllocation;
    size_t padded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t pages = (padded + WATCHED + page() - 1) / page() * page();
    if (arena_next + pages + 2 * page() > sim_arena + SIM_ARENA_BYTES) {
        fprintf(stderr, "cudasim: all of SIM_ARENA_BYTES was handed out once\n");
        return cudaErrorMemoryAllocation;
    }
    uintptr_t first = arena_next + page();
    arena_next = first + pages;
    allocation a = {
        first + pages - padded, first + pages - padded + bytes, first, first + pages, {}};
    a.piece.resize((pages + PIECE_BYTES - 1) / PIECE_BYTES, PIECE_NEW);
    *out = (void *)a.begin;
    used += bytes;
    pieces += a.piece.size();
    open_pieces.reserve(pieces); /* a signal's handler adds to it, and must not allocate */
    allocations[a.end] = std::move(a);
    return cudaSuccess;
}

cudaError_t sim_memory_give(void *p)
{
    if (!p)
        return cudaSuccess;
    auto i = allocations.upper_bound((uintptr_t)p);
    if (i == allocations.end() || i->second.begin != (uintptr_t)p)
        return cudaErrorInvalidValue;
    const allocation &a = i->second;
    void *fresh = mmap((void *)a.first, a.after - a.first, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (fresh == MAP_FAILED)
        return cudaErrorUnknown;
    for (size_t k = open_pieces.size(); k-- > 0;)
        if (open_pieces[k].allocation == &a)
            open_pieces.erase(open_pieces.begin() + (long)k);
    used -= a.end - a.begin;
    pieces -= a.piece.size();
    allocations.erase(i);
    memset(sim_recent, 0, sizeof(sim_recent));
    return cudaSuccess;
}

size_t sim_memory_used(void)
{
    return used;
}

/* -- opening and closing -- */
static struct allocation *around(uintptr_t at) /* its slack included */
{
    auto i = allocations.upper_bound(at);
    if (i != allocations.end() && i->second.first <= at)
        return &i->second;
    if (i != allocations.begin() && std::prev(i)->second.after > at)
        return &std::prev(i)->second;
    return nullptr;
}

static size_t piece_at(const struct allocation *a, size_t piece, uintptr_t *at)
{
    *at = a->first + piece * PIECE_BYTES;
    return a->after - *at < PIECE_BYTES ? a->after - *at : PIECE_BYTES;
}

static void piece_open(struct allocation *a, size_t piece)
{
    uintptr_t at;
    size_t bytes = piece_at(a, piece, &at);
    if (mprotect((void *)at, bytes, PROT_READ | PROT_WRITE))
        _exit(99); /* cannot be: the range is ours */
    if (a->piece[piece] == PIECE_NEW)
        memset((void *)at, POISON, bytes);
    a->piece[piece] = PIECE_OPEN;
    open_pieces.push_back({a, piece});
}

/* The slack before and after an allocation, where it is open, is as it was? */
static bool slack_intact(const struct allocation *a, uintptr_t from, uintptr_t to, uintptr_t *bad)
{
    for (uintptr_t at = from; at < to; at++)
        if (a->piece[(at - a->first) / PIECE_BYTES] == PIECE_OPEN &&
            *(const unsigned char *)at != POISON) {
            *bad = at;
            return false;
        }
    return true;
}

bool sim_memory_intact(char *text, size_t size)
{
    uintptr_t bad;
    for (const opened &o : open_pieces) {
        const struct allocation *a = o.allocation;
        if ((o.piece && o.piece + 1 < a->piece.size()) ||
            (slack_intact(a, a->begin - WATCHED, a->begin, &bad) &&
                slack_intact(a, a->end, a->after, &bad)))
            continue;
        sim_memory_describe(bad, 1, text, size);
        *(unsigned char *)bad = POISON;
        return false;
    }
    return true;
}

static struct sigaction old_actions[2];
static stack_t old_stack;

/* Work of a stream touched device memory that is closed: opens it. Anything else is the engine's,
   or the program's own. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    struct allocation *a =
        number == SIGSEGV && sim_memory_is_device((void *)at) ? around(at) : nullptr;
    if (a && a->piece[(at - a->first) / PIECE_BYTES] != PIECE_OPEN)
        piece_open(a, (at - a->first) / PIECE_BYTES);
    else if (!sim_fault(number, at, context))
        signal(number, SIG_DFL);
}

void sim_memory_open(void)
{
    static char *signal_stack;
    struct sigaction caught = {};
    stack_t mine = {};
    if (open_count++)
        return;
    if (!signal_stack)
        signal_stack = (char *)mmap(nullptr, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    caught.sa_sigaction = on_signal;
    caught.sa_flags = SA_SIGINFO | SA_ONSTACK;
    mine.ss_sp = signal_stack;
    mine.ss_size = SIGNAL_STACK_BYTES;
    sigaltstack(&mine, &old_stack); /* a fibre that used up its stack has none for a signal */
    sigaction(SIGSEGV, &caught, &old_actions[0]);
    sigaction(SIGFPE, &caught, &old_actions[1]);
}

void sim_memory_close(void)
{
    if (--open_count)
        return;
    for (const opened &o : open_pieces) {
        uintptr_t at;
        size_t bytes = piece_at(o.allocation, o.piece, &at);
        mprotect((void *)at, bytes, PROT_NONE);
        o.allocation->piece[o.piece] = PIECE_USED;
    }
    open_pieces.clear();
    sigaction(SIGSEGV, &old_actions[0], nullptr);
    sigaction(SIGFPE, &old_actions[1], nullptr);
    sigaltstack(&old_stack, nullptr);
}

/* Whole pieces that nobody used yet are zero by themselves. */
void sim_memory_set(void *p, int value, size_t bytes)
{
    uintptr_t at = (uintptr_t)p, end = at + bytes;
    struct allocation *a = around(at);
    while (at < end) {
        uintptr_t begin;
        size_t piece = (at - a->first) / PIECE_BYTES, all = piece_at(a, piece, &begin);
        size_t n = (begin + all < end ? begin + all : end) - at;
        if (!value && n == all && a->piece[piece] < PIECE_USED)
            a->piece[piece] = PIECE_ZERO;
        else
            memset((void *)at, value, n);
        at += n;
    }
}

bool sim_memory_holds(const void *p, size_t bytes)
{
    uintptr_t at = (uintptr_t)p;
    auto i = allocations.upper_bound(at);
    return i != allocations.end() && i->second.begin <= at && i->second.end - at >= bytes;
}

bool sim_memory_find(uintptr_t at, size_t bytes)
{
    auto i = allocations.upper_bound(at);
    if (i == allocations.end() || i->second.begin > at || i->second.end - at < bytes)
        return false;
    sim_recent[at >> 12 & (SIM_RECENT - 1)] = {i->second.begin, i->second.end};
    return true;
}

void sim_memory_describe(uintptr_t at, size_t bytes, char *text, size_t size)
{
    auto after = allocations.upper_bound(at);
    const allocation *near = around(at); /* else the one before, else the one behind */
    if (!near && after != allocations.begin())
        near = &std::prev(after)->second;
    if (!near && after != allocations.end())
        near = &after->second;
    if (!near)
        snprintf(
            text, size, "%zu bytes at 0x%lx, where nothing is allocated", bytes, (unsigned long)at);
    else if (at < near->begin)
        snprintf(text, size, "%zu bytes, %zu before the %zu bytes at 0x%lx", bytes,
            (size_t)(near->begin - at), (size_t)(near->end - near->begin),
            (unsigned long)near->begin);
    else
        snprintf(text, size, "%zu bytes at offset %zu of the %zu bytes at 0x%lx", bytes,
            (size_t)(at - near->begin), (size_t)(near->end - near->begin),
            (unsigned long)near->begin);
}

/* -- pinned host memory: host memory whose asynchronous copies are late -- */
cudaError_t sim_pinned_take(size_t bytes, void **out)
{
    size_t pages = (bytes + page() - 1) / page() * page();
    void *p = mmap(nullptr, pages ? pages : page(), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    sim_pinned_add(p, bytes ? bytes : 1);
    *out = p;
    return cudaSuccess;
}

cudaError_t sim_pinned_give(void *p)
{
    auto i = pinned.upper_bound((uintptr_t)p);
    if (i == pinned.end() || i->second != (uintptr_t)p)
        return cudaErrorInvalidValue;
    munmap(p, (i->first - i->second + page() - 1) / page() * page());
    pinned.erase(i);
    return cudaSuccess;
}

void sim_pinned_add(void *p, size_t bytes)
{
    pinned[(uintptr_t)p + bytes] = (uintptr_t)p;
}

bool sim_pinned_remove(void *p)
{
    auto i = pinned.upper_bound((uintptr_t)p);
    if (i == pinned.end() || i->second != (uintptr_t)p)
        return false;
    pinned.erase(i);
    return true;
}

bool sim_pinned_holds(const void *p, size_t bytes)
{
    uintptr_t at = (uintptr_t)p;
    auto i = pinned.upper_bound(at);
    return i != pinned.end() && i->second <= at && i->first - at >= bytes;
}
