/*
 * engine: runs a kernel on the host. Blocks run one after another, in an order that the seed gives;
 * the threads of a block are fibres, switched at barriers and warp operations only, and taken up in
 * an order that the seed gives too. So a result that depends on the order differs between seeds.
 *
 * A fault of a thread (check.cc, a signal, a barrier that not all reach) ends the whole launch: its
 * text names kernel, block and thread. The fibres that are left are never resumed. Called under
 * sim_lock with device memory open.
 */
#include "tests/cudasim/sim.hh"

#include "base/random.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)128 << 10)
#define GUARD_BYTES ((size_t)64 << 10) /* a page on every processor */

/* The same object as cudasim_at, which kernels see as constant. */
struct cudasim_coordinates now __asm__("cudasim_at");

struct sim_engine sim;
char sim_failure_text[512];
uint64_t sim_seed;
int64_t sim_launches;

static struct sim_thread threads[SIM_THREADS];
static unsigned order[SIM_THREADS];
static unsigned live, at_barrier;
static bool released;   /* a barrier opened: begin a new round */
static unsigned cursor; /* in order: who is running */
static void *scheduler_sp;
static uint64_t random_state;
static char *shared_end;               /* of the pages for dynamic shared memory; a guard follows */
static thread_local char fixed_anchor; /* lies in the segment of the __shared__ arrays */

/* -- switching: saves what a called function must preserve, exchanges stacks -- */
extern "C" void sim_switch(void **save, void *to) __attribute__((visibility("hidden")));
extern "C" void sim_thread_begin(void) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
__asm__(".text\n.hidden sim_switch\n.globl sim_switch\n.type sim_switch, @function\nsim_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size sim_switch, .-sim_switch\n");
#define SAVED_WORDS   8 /* six registers, the return address, one that aligns */
#define SAVED_PC      6
#define CONTEXT_PC(c) ((c)->uc_mcontext.gregs[REG_RIP])
#define CONTEXT_SP(c) ((c)->uc_mcontext.gregs[REG_RSP])
#define ENTRY_SKEW    8 /* the stack pointer at a function's entry, below a multiple of 16 */
#elif defined(__aarch64__)
__asm__(".text\n.hidden sim_switch\n.globl sim_switch\n.type sim_switch, %function\nsim_switch:\n"
        "sub sp, sp, #160\n"
        "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\n"
        "stp x25, x26, [sp, #48]\nstp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
        "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\n"
        "stp d14, d15, [sp, #144]\n"
        "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
        "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\n"
        "ldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
        "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\n"
        "ldp d14, d15, [sp, #144]\n"
        "add sp, sp, #160\nret\n.size sim_switch, .-sim_switch\n");
#define SAVED_WORDS   20
#define SAVED_PC      11
#define CONTEXT_PC(c) ((c)->uc_mcontext.pc)
#define CONTEXT_SP(c) ((c)->uc_mcontext.sp)
#define ENTRY_SKEW    0
#else
#error "cudasim knows how to switch fibres on x86-64 and aarch64"
#endif

static void enter(unsigned position)
{
    cursor = position;
    sim.thread = &threads[order[position]];
    now.thread.x = sim.thread->index;
}

static void resume(unsigned position) /* from the scheduler */
{
    enter(position);
    sim.running = true;
    sim_switch(&scheduler_sp, sim.thread->sp);
    sim.running = false;
}

/* To the next thread that can go on, or to the scheduler at the end of a round; back when
   resumed. */
static void leave(void)
{
    struct sim_thread *t = sim.thread;
    unsigned next = cursor + 1;
    while (next < sim.launch->block && threads[order[next]].state != SIM_READY)
        next++;
    if (sim.status || released || next >= sim.launch->block) {
        sim_switch(&t->sp, scheduler_sp);
        return;
    }
    enter(next);
    sim_switch(&t->sp, sim.thread->sp);
}

/* The life of a fibre: the kernel once for each block. */
extern "C" void sim_thread_begin(void)
{
    for (;;) {
        sim.launch->enter(sim.launch->arguments);
        sim.thread->state = SIM_ENDED;
        live--;
        leave();
    }
}

void sim_wait(enum sim_state state, const char *file, int line)
{
    struct sim_thread *t = sim.thread;
    t->state = state;
    t->file = file;
    t->line = line;
    leave();
}

/* -- failures -- */
static void fail_text(const char *what)
{
    const char *file = strrchr(sim.launch->file, '/');
    snprintf(sim_failure_text, sizeof(sim_failure_text),
        "kernel %.100s (%s:%d), block %u,%u,%u, thread %u: %s [LLMJOB_CUDASIM_SEED=%llu]",
        sim_kernel_name(sim.launch->kernel), file ? file + 1 : sim.launch->file, sim.launch->line,
        now.block.x, now.block.y, now.block.z, sim.thread ? sim.thread->index : 0, what,
        (unsigned long long)sim_seed);
}

void sim_fail(cudaError_t status, const char *fmt, ...)
{
    char what[320];
    va_list ap;
    sim.running = false;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    if (sim.status == cudaSuccess) {
        sim.status = status;
        fail_text(what);
    }
    sim.thread->state = SIM_ENDED;
    leave();
    abort(); /* the scheduler gives up at a failure */
}

void cudasim_fail(const char *fmt, ...)
{
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    sim_fail(cudaErrorLaunchFailure, "%s", what);
}

static uintptr_t fault_at;
static int fault_signal;

static void after_fault(void) /* on the fibre's stack, outside the signal handler */
{
    char where[200];
    if (fault_signal == SIGFPE)
        sim_fail(cudaErrorLaunchFailure, "integer division by zero");
    if (sim_memory_is_device((void *)fault_at)) {
        sim_memory_describe(fault_at, 1, where, sizeof(where));
        sim_fail(cudaErrorIllegalAddress, "out of bounds in global memory: %s", where);
    }
    if (fault_at - (uintptr_t)shared_end < GUARD_BYTES)
        sim_fail(cudaErrorIllegalAddress, "out of bounds in shared memory: offset %zu of %zu bytes",
            (size_t)(fault_at - (uintptr_t)sim.shared), sim.launch->shared);
    if (fault_at - (uintptr_t)sim.stacks < sim.stacks_bytes)
        sim_fail(cudaErrorLaunchFailure, "local memory beyond %zu bytes", STACK_BYTES);
    sim_fail(cudaErrorIllegalAddress, "an address that is no device memory: 0x%lx",
        (unsigned long)fault_at);
}

bool sim_fault(int number, uintptr_t at, void *context)
{
    ucontext_t *c = (ucontext_t *)context;
    if (!sim.running)
        return false;
    fault_at = at;
    fault_signal = number;
    CONTEXT_PC(c) = (decltype(CONTEXT_PC(c) + 0))(uintptr_t)after_fault;
    CONTEXT_SP(c) = (decltype(CONTEXT_SP(c) + 0))((uintptr_t)sim.thread->stack_top - ENTRY_SKEW);
    return true;
}

/* -- preparation -- */
static int find_fixed(struct dl_phdr_info *info, size_t, void *)
{
    char *begin = (char *)info->dlpi_tls_data;
    for (int i = 0; begin && i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS &&
            (uintptr_t)(&fixed_anchor - begin) < info->dlpi_phdr[i].p_memsz) {
            sim.fixed = begin;
            sim.fixed_bytes = info->dlpi_phdr[i].p_memsz;
            return 1;
        }
    return 0;
}

static bool prepare_once(void)
{
    const size_t each = STACK_BYTES + GUARD_BYTES;
    if (sim.stacks)
        return true;
    size_t shared = (SIM_SHARED_MAX + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
    char *stacks = (char *)mmap(nullptr, SIM_THREADS * each + GUARD_BYTES, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *room =
        (char *)mmap(nullptr, shared + GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED || room == MAP_FAILED ||
        mprotect(room, shared, PROT_READ | PROT_WRITE))
        return false;
    for (unsigned i = 0; i < SIM_THREADS; i++) {
        char *first = stacks + GUARD_BYTES + i * each;
        if (mprotect(first, STACK_BYTES, PROT_READ | PROT_WRITE))
            return false;
        /* At varying offsets in the page, lest all hot frames share a cache line's set. */
        threads[i].stack_top = first + STACK_BYTES - i % 32 * 128;
        threads[i].index = i;
    }
    shared_end = room + shared;
    sim.stacks_bytes = SIM_THREADS * each + GUARD_BYTES;
    sim.stacks = stacks;
    return true;
}

static void prepare_threads(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uintptr_t *sp = (uintptr_t *)threads[i].stack_top - SAVED_WORDS;
        memset(sp, 0, SAVED_WORDS * sizeof(*sp));
        sp[SAVED_PC] = (uintptr_t)sim_thread_begin;
        threads[i].sp = sp;
        order[i] = i;
    }
}

static void order_threads(unsigned count)
{
    for (unsigned i = 0; sim_seed == 1 && i < count; i++)
        order[i] = count - 1 - i;
    for (unsigned i = count; sim_seed > 1 && i > 1; i--)
        std::swap(order[i - 1], order[random_next(&random_state) % i]);
}

/* -- barriers -- */
static void open_barrier(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        threads[i].state = SIM_READY;
    at_barrier = 0;
    released = true;
    sim.interval++;
    order_threads(count);
}

void cudasim_barrier(const char *file, int line)
{
    unsigned count = sim.launch->block;
    if (++at_barrier == count) {
        for (unsigned i = 0; i < count; i++)
            if (threads[i].state == SIM_AT_BARRIER &&
                (threads[i].line != line || strcmp(threads[i].file, file)))
                sim_fail(cudaErrorLaunchFailure,
                    "barrier divergence: it waits at %s:%d, thread %u at "
                    "%s:%d",
                    file, line, i, threads[i].file, threads[i].line);
        open_barrier(count);
        leave();
        return;
    }
    sim_wait(SIM_AT_BARRIER, file, line);
}

/* A warp operation that a lane of its mask does not reach. */
static void stuck_at_warp(struct sim_thread *t, char *what, size_t size)
{
    struct sim_thread *lane = &threads[t->index / 32 * 32];
    unsigned missing = 0;
    while (missing < 32 && (!(t->op->mask >> missing & 1) || lane[missing].state == SIM_AT_WARP))
        missing++;
    int n = snprintf(what, size, "%s (%s:%d) with mask 0x%08x waits for lane %u, ", t->op->name,
        t->file, t->line, t->op->mask, missing % 32);
    if (missing == 32)
        snprintf(what + n, size - n, "which waits with another mask");
    else if (lane[missing].state == SIM_ENDED)
        snprintf(what + n, size - n, "which has ended");
    else
        snprintf(
            what + n, size - n, "which waits at %s:%d", lane[missing].file, lane[missing].line);
}

/* No thread can go on: says why. */
static void stuck(unsigned count)
{
    struct sim_thread *ended = nullptr, *barrier = nullptr, *warp = nullptr;
    char what[320];
    for (unsigned i = 0; i < count; i++) {
        struct sim_thread *t = &threads[i];
        (t->state == SIM_ENDED ? ended : t->state == SIM_AT_WARP ? warp : barrier) = t;
    }
    sim.thread = warp ? warp : barrier;
    if (warp)
        stuck_at_warp(warp, what, sizeof(what));
    else
        snprintf(what, sizeof(what), "barrier divergence: it waits at %s:%d, thread %u has ended",
            barrier->file, barrier->line, ended ? ended->index : 0);
    sim.status = cudaErrorLaunchFailure;
    fail_text(what);
}

/* -- blocks -- */
static void fill_shared(void)
{
    memset(sim.shared, 0xff, (size_t)(shared_end - sim.shared));
    if (sim.fixed_bytes > sizeof(fixed_anchor))
        memset(sim.fixed, 0xff, sim.fixed_bytes);
}

static void run_block(uint64_t block)
{
    const struct cudasim_launch *l = sim.launch;
    unsigned count = l->block;
    now.block.x = (unsigned)(block % l->grid.x);
    now.block.y = (unsigned)(block / l->grid.x % l->grid.y);
    now.block.z = (unsigned)(block / l->grid.x / l->grid.y);
    fill_shared();
    for (unsigned i = 0; i < count; i++) {
        threads[i].state = SIM_READY;
        threads[i].copies = threads[i].groups = 0;
    }
    live = count;
    open_barrier(count);
    while (live) {
        bool progress = false;
        released = false;
        for (unsigned i = 0; i < count && !released; i++) {
            if (threads[order[i]].state != SIM_READY)
                continue;
            progress = true;
            resume(i);
            i = cursor;
            if (sim.status)
                return;
        }
        if (!progress)
            return stuck(count);
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void run_blocks(void)
{
    const struct cudasim_launch *l = sim.launch;
    uint64_t count = (uint64_t)l->grid.x * l->grid.y * l->grid.z, step = 1, first = 0;
    if (sim_seed == 1) {
        step = count - 1;
        first = count - 1;
    } else if (sim_seed > 1) { /* visits each once: step and count have no common divisor */
        do
            step = random_next(&random_state) % (count < 1u << 31 ? count : 1u << 31) + 1;
        while (common_divisor(step, count) != 1);
        first = random_next(&random_state) % count;
    }
    for (uint64_t i = 0; i < count && !sim.status; i++)
        run_block((uint64_t)((first + (unsigned __int128)i * step) % count));
}

/* After its blocks: what the kernel did that no single access shows. */
static void check_launch(const struct cudasim_launch *l)
{
    char what[200], text[260];
    if (!sim_memory_intact(what, sizeof(what))) {
        snprintf(text, sizeof(text), "it, or another thread, wrote out of bounds: %s", what);
        sim.status = cudaErrorIllegalAddress;
    } else if (l->shared + sim.fixed_used > l->shared_most) {
        snprintf(text, sizeof(text),
            "%zu bytes of shared memory and %zu of __shared__ arrays: it may have %zu", l->shared,
            sim.fixed_used, l->shared_most);
        sim.status = cudaErrorLaunchOutOfResources;
    }
    if (sim.status)
        fail_text(text);
}

cudaError_t sim_run(const struct cudasim_launch *l)
{
    if (!prepare_once())
        return cudaErrorMemoryAllocation;
    fixed_anchor = 0; /* gives this OS thread its segment */
    sim.fixed_bytes = sim.fixed_used = 0;
    dl_iterate_phdr(find_fixed, nullptr);
    sim.launch = l;
    sim.status = cudaSuccess;
    sim.thread = nullptr;
    sim.shared = shared_end - (l->shared + 15) / 16 * 16;
    now = {{0, 0, 0}, {0, 0, 0}, dim3(l->block), l->grid};
    random_state = sim_seed + (uint64_t)++sim_launches * 0x2545f4914f6cdd1du;
    prepare_threads(l->block);

    run_blocks();
    sim_kernel_ran(l->kernel);
    if (!sim.status)
        check_launch(l);
    return sim.status;
}

void *cudasim_shared(void)
{
    if (!sim.launch->shared)
        cudasim_fail("dynamic shared memory, but the launch gives none");
    return sim.shared;
}
