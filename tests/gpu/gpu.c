/*
 * gpu: see gpu.h. The child that looks shares a struct gpu with its parent; a plugin is the
 * simulated one when it has the simulator's control.
 */
#include "tests/gpu/gpu.h"

#include "api/names.h"
#include "kernels/driver.h"
#include "tests/cudasim/control.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    struct gpu gpu;
    char failure[256];
} * found;

static void look(void)
{
    struct err e = {0};
    struct dev *d = NULL;
    struct dev_info info;

    while (found->gpu.devices < GPU_MOST && !dev_open("cuda", found->gpu.devices, 0, &d, &e)) {
        dev_describe(d, &info);
        found->gpu.simulated = dlsym(d->plugin, CUDASIM_CONTROL) != NULL;
        if (!found->gpu.devices++)
            snprintf(found->gpu.name, sizeof found->gpu.name, "%s", info.name);
        dev_close(d);
    }
    snprintf(found->failure, sizeof found->failure, "%s", e.text);
}

void gpu_open(void)
{
    const char *share = getenv(NAME_ENV_NCCL_SHARE);
    pid_t child;
    int status = -1;

    found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        exit(1);
    fflush(stdout);
    child = fork();
    if (!child) {
        look();
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status || !found->gpu.devices) {
        printf("no GPU to test on: %s\n",
            *found->failure ? found->failure : "the process that opened it ended");
        exit(1);
    }
    found->gpu.shared = share && !strcmp(share, "1");
    if (found->gpu.simulated)
        printf("simulated on the host: nothing of this ran on a device\n");
    else
        printf("on %s%s\n", found->gpu.name, found->gpu.devices > 1 ? " and its neighbours" : "");
}

const struct gpu *gpu(void)
{
    return &found->gpu;
}

bool gpu_connects(int ranks)
{
    return ranks <= found->gpu.devices || found->gpu.shared;
}

void gpu_show(int n)
{
    char count[16], list[64] = "";
    size_t len = 0;

    for (int i = 0; i < n && len < sizeof list; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%d", i ? "," : "", i);
    snprintf(count, sizeof count, "%d", n);
    setenv("LLMJOB_CUDASIM_DEVICES", count, 1);
    setenv("CUDA_VISIBLE_DEVICES", list, 1);
}

const TTest *const *gpu_tests(const struct gpu_case *cases)
{
    static const TTest *tests[GPU_CASES_MAX + 1];
    int n = 0;

    for (; cases->test; cases++) {
        if (cases->simulated && !found->gpu.simulated)
            printf("SKIP: %s: only the simulator can make it happen\n", cases->test->name);
        else if (!gpu_connects(cases->ranks))
            printf("SKIP: %s: NCCL needs %d devices for %d ranks\n", cases->test->name,
                cases->ranks, cases->ranks);
        else if (n < GPU_CASES_MAX)
            tests[n++] = cases->test;
    }
    fflush(stdout);
    tests[n] = NULL;
    return tests;
}
