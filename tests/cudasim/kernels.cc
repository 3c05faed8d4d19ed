/*
 * kernels: the kernels of the plugin: their names, how often each ran, how much shared memory a
 * block of each may have; and their launch. Each is registered when the library is loaded, wherever
 * a launch of it was compiled (cudasim.h), so that what no test launches is known by name.
 */
#include "tests/cudasim/sim.hh"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>

#define KERNELS 1024

static struct kernel {
    const void *function;
    char name[200];
    size_t shared_asked; /* dynamic, that launches may give a block; 0: it did not ask */
} kernels[KERNELS];
static int known;
static std::atomic<int64_t> *ran; /* times; shared with forked processes */
int64_t sim_calls;

#define LOCKED std::lock_guard<std::recursive_mutex> guard(sim_lock)

/* Of "... [with auto kernel = name<a, b>; A = {...}]" the name. */
static void copy_name(const char *text, char *name, size_t size)
{
    const char *at = strstr(text, "kernel = ");
    int depth = 0, n = 0;
    at = at ? at + strlen("kernel = ") : text;
    for (; at[n] && (depth || (at[n] != ';' && at[n] != ']')); n++)
        depth += (at[n] == '<' || at[n] == '[') - (at[n] == '>' || at[n] == ']');
    snprintf(name, size, "%.*s", n, at);
}

/* While the library is loaded: other files' variables may not be there yet. */
int cudasim_register(const void *function, const char *text)
{
    if (!ran)
        ran = (std::atomic<int64_t> *)mmap(nullptr, KERNELS * sizeof(*ran), PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ran == MAP_FAILED || known == KERNELS) {
        fprintf(stderr, "cudasim: no room for kernel %d\n", known);
        abort();
    }
    kernels[known].function = function;
    copy_name(text, kernels[known].name, sizeof(kernels[known].name));
    return known++;
}

const char *sim_kernel_name(int number)
{
    return kernels[number].name;
}

int64_t sim_kernel(int number, const char **name)
{
    if (number < 0 || number >= known)
        return -1;
    *name = kernels[number].name;
    return ran[number];
}

void sim_kernel_ran(int number)
{
    ran[number]++;
}

/* -- shared memory -- */
size_t sim_shared_max(void)
{
    size_t bytes = (size_t)sim_number("LLMJOB_CUDASIM_SHARED_KIB", SIM_SHARED_MAX >> 10) << 10;
    return bytes < SIM_SHARED_MAX ? bytes : SIM_SHARED_MAX;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    LOCKED;
    int i = 0;
    while (i < known && kernels[i].function != function)
        i++;
    if (i == known)
        return sim_result(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > sim_shared_max())
        return sim_result(cudaErrorInvalidValue);
    kernels[i].shared_asked = (size_t)value;
    return sim_result(cudaSuccess);
}

/* -- launching -- */
static bool has_shape(const struct cudasim_launch *l)
{
    return l->grid.x && l->grid.y && l->grid.z && l->grid.x <= INT32_MAX &&
        l->grid.y <= UINT16_MAX && l->grid.z <= UINT16_MAX && l->block && l->block <= SIM_THREADS &&
        l->block % 32 == 0; /* a rule of ours: whole warps */
}

cudaError_t cudasim_enqueue(const struct cudasim_launch *given, cudaStream_t s)
{
    LOCKED;
    struct launch_holder {
        struct cudasim_launch l;
        ~launch_holder()
        {
            l.drop(l.arguments);
        }
    };
    auto h = std::shared_ptr<launch_holder>(new launch_holder{*given});
    struct cudasim_launch *l = &h->l;
    size_t asked = kernels[l->kernel].shared_asked, most = asked ? asked : SIM_SHARED_UNASKED;
    l->shared_most = asked ? sim_shared_max() : SIM_SHARED_UNASKED;
    if (!has_shape(l))
        return sim_result(cudaErrorInvalidConfiguration);
    if (l->shared > most) {
        fprintf(stderr, "cudasim: kernel %s: %zu bytes of shared memory: it may have %zu\n",
            sim_kernel_name(l->kernel), l->shared, most);
        return sim_result(cudaErrorInvalidValue);
    }
    sim_calls++;
    return sim_enqueue(s, [=] {
        cudaError_t status = sim_run(&h->l);
        if (status)
            fprintf(stderr, "cudasim: %s\n", sim_failure_text);
        return status;
    });
}
