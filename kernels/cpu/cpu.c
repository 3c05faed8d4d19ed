/*
 * cpu: see cpu.h. Host memory, synchronous operations, scratch that grows to the largest need of
 * the operations run so far. dev_open sets the number of OpenMP threads of the calling thread,
 * which therefore must be the one that computes. Threads by default: the processors of the affinity
 * mask, no more than the cgroup's CPU quota rounded up.
 */
#include "kernels/cpu/cpu.h"

#include "base/mem.h"
#include "kernels/cpu/name.h"
#include "kernels/quant.h"

#include <limits.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPU_HUGE_PAGE ((size_t)2 << 20)

/* -- shared with the operations -- */
void cpu_fail(struct dev *d, enum err_code code, const char *fmt, ...)
{
    struct err e = {.code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof e.text, fmt, ap);
    va_end(ap);
    dev_fail(d, &e);
}

void *cpu_scratch(struct dev *d, enum cpu_scratch which, size_t bytes)
{
    struct cpu_dev *c = (struct cpu_dev *)d;
    if (bytes <= c->scratch[which].bytes)
        return c->scratch[which].data;
    size_t align = bytes >= CPU_HUGE_PAGE ? CPU_HUGE_PAGE : 64;
    bytes = (bytes + 4095) & ~(size_t)4095;
    void *p = mem_aligned(align, bytes);
    if (!p) {
        cpu_fail(d, ERR_MEMORY, "no memory for %zu bytes of scratch", bytes);
        return NULL;
    }
    if (align == CPU_HUGE_PAGE)
        madvise(p, bytes, MADV_HUGEPAGE);
    mem_free(c->scratch[which].data);
    c->scratch[which].data = p;
    c->scratch[which].bytes = bytes;
    return p;
}

/* -- what the machine has -- */
/* The first one or two numbers of a small file; missing ones stay as they are ("max" is
   missing). */
static void cpu_read_numbers(const char *path, long long *first, long long *second)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    long long a, b;
    int n = fscanf(f, "%lld %lld", &a, &b);
    if (n >= 1)
        *first = a;
    if (n >= 2 && second)
        *second = b;
    fclose(f);
}

static int cpu_default_threads(void)
{
    cpu_set_t set;
    long long quota = -1, period = 100000;
    int n = 1;
    if (!sched_getaffinity(0, sizeof set, &set))
        n = CPU_COUNT(&set);
    cpu_read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period);
    if (quota < 0) {
        cpu_read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, NULL);
        cpu_read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, NULL);
    }
    if (quota > 0 && period > 0 && (quota + period - 1) / period < n)
        n = (int)((quota + period - 1) / period);
    return n;
}

/* Of the limits of a cgroup, "/a/b", and of those above it the least, where that is below
   `least`. */
static int64_t cpu_least_limit(const char *top, const char *group, const char *file, int64_t least)
{
    for (size_t n = strlen(group) + 1; n-- > 0;) {
        char path[PATH_MAX];
        long long limit = -1;
        if (group[n] && group[n] != '/')
            continue;
        snprintf(path, sizeof path, "%s%.*s/%s", top, (int)n, group, file);
        cpu_read_numbers(path, &limit, NULL);
        least = limit > 0 && limit < least ? limit : least;
    }
    return least;
}

/* In a container the process's group is the one that is mounted, whatever it is called outside. */
static int64_t cpu_memory_bytes(void)
{
    int64_t least = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    char line[PATH_MAX];
    FILE *f = fopen("/proc/self/cgroup", "re");
    least = cpu_least_limit("/sys/fs/cgroup", "", "memory.max", least);
    least = cpu_least_limit("/sys/fs/cgroup/memory", "", "memory.limit_in_bytes", least);
    while (f && fgets(line, sizeof line, f)) {
        char *which = strchr(line, ':'), *group = which ? strchr(which + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (!which[1])
            least = cpu_least_limit("/sys/fs/cgroup", group, "memory.max", least);
        else if (!strcmp(which + 1, "memory"))
            least = cpu_least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", least);
    }
    if (f)
        fclose(f);
    return least;
}

/* -- the drivers -- */
static void cpu_close(struct dev *d)
{
    struct cpu_dev *c = (struct cpu_dev *)d;
    matmul_cache_destroy(c->matmul);
    for (int i = 0; i < CPU_SCRATCHES; i++)
        mem_free(c->scratch[i].data);
    mem_free(c);
}

static int cpu_open_as(const struct driver *driver, const struct ops *ops, int index, int threads,
    struct dev **out, struct err *e)
{
    if (index != 0)
        return err_set(e, ERR_USER, "device %s:%d does not exist: there is one, number 0",
            driver->kind, index);
    struct cpu_dev *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a device");
    c->base.driver = driver;
    c->base.ops = ops;
    c->threads = threads ? threads : cpu_default_threads();
    int rc = matmul_cache_create(&c->matmul, e);
    if (rc) {
        cpu_close(&c->base);
        return rc;
    }
    omp_set_dynamic(0);
    omp_set_num_threads(c->threads);
    *out = &c->base;
    return 0;
}

static int cpu_open(int index, int threads, struct dev **out, struct err *e)
{
    int rc = cpu_isa_require(cpu_isa_chosen(), e);
    return rc ? rc : cpu_open_as(&cpu_driver, &cpu_ops, index, threads, out, e);
}

static int cpu_ref_open(int index, int threads, struct dev **out, struct err *e)
{
    return cpu_open_as(&cpu_ref_driver, &cpu_ref_ops, index, threads, out, e);
}

static void cpu_describe(const struct dev *d, struct dev_info *out)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    *out = (struct dev_info){.threads = ((const struct cpu_dev *)d)->threads,
        .memory_bytes = cpu_memory_bytes(),
        .host_readable = true};
    snprintf(out->kind, sizeof out->kind, "%s", d->driver->kind);
    cpu_name_of(f, out->name, sizeof out->name);
    if (f)
        fclose(f);
}

/* Whole pages are the kernel's zeros, which come when one is first touched: of large blocks nothing
   is written twice, and nothing that is not used. */
static int cpu_take(size_t bytes, bool sweeps, void **out, struct err *e)
{
    size_t align = bytes >= CPU_HUGE_PAGE ? CPU_HUGE_PAGE : 64;
    size_t rounded = bytes > SIZE_MAX - align ? 0 : (bytes + align) / align * align;
    void *p = rounded ? mem_aligned(align, rounded) : NULL;
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for %zu bytes on the cpu device", bytes);
    /* Huge pages halve the address translation misses of whole-model sweeps. */
    if (align == CPU_HUGE_PAGE && sweeps)
        madvise(p, rounded, MADV_HUGEPAGE);
    if (align != CPU_HUGE_PAGE || madvise(p, rounded, MADV_DONTNEED))
        memset(p, 0, bytes);
    *out = p;
    return 0;
}

static int cpu_alloc(struct dev *d, size_t bytes, void **out, struct err *e)
{
    (void)d;
    return cpu_take(bytes, true, out, e);
}

static int cpu_reserve(struct dev *d, size_t bytes, void **out, struct err *e)
{
    (void)d;
    return cpu_take(bytes, false, out, e);
}

static void cpu_free(struct dev *d, void *p)
{
    (void)d;
    mem_free(p);
}

static void cpu_copy_in(struct dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memcpy(dst, src, bytes);
}

/* Of what is large each thread copies some, and has its pages. */
static void cpu_upload(struct dev *d, void *dst, const void *src, size_t bytes)
{
    const size_t piece = (size_t)256 << 10;
    (void)d;
#pragma omp parallel for schedule(static) if (bytes > 4 * piece)
    for (size_t at = 0; at < bytes; at += piece)
        memcpy((char *)dst + at, (const char *)src + at, bytes - at < piece ? bytes - at : piece);
}

static void cpu_zero(struct dev *d, void *dst, size_t bytes)
{
    (void)d;
    memset(dst, 0, bytes);
}

static void cpu_wait(struct dev *d)
{
    (void)d;
}

#define CPU_DRIVER(kind_name, open_fn) \
    { \
        .abi = DRIVER_ABI, .kind = kind_name, .open = open_fn, .close = cpu_close, \
        .describe = cpu_describe, .alloc = cpu_alloc, .free = cpu_free, .upload = cpu_upload, \
        .download = cpu_copy_in, .zero = cpu_zero, .copy = cpu_copy_in, .wait = cpu_wait, \
        .rows_alike = true, .reserve = cpu_reserve \
    }
const struct driver cpu_driver = CPU_DRIVER("cpu", cpu_open);
const struct driver cpu_ref_driver = CPU_DRIVER("cpu-ref", cpu_ref_open);
