/*
 * gpu: which GPU the plugin beside this program opens, for tests that run on both: with the plugin
 * of tests/cudasim as part of `make test`, with the real one by `make gpu-check`. A case that the
 * machine cannot run (the simulator injects a fault, NCCL needs a device a rank) is a counted skip.
 */
#ifndef TESTS_GPU_GPU_H
#define TESTS_GPU_GPU_H

#include <check.h>
#include <stdbool.h>

#define GPU_MOST 4 /* devices that are looked for */

struct gpu {
    bool simulated;
    int devices;
    bool shared; /* LLMJOB_NCCL_SHARE=1: ranks of NCCL may share a device */
    char name[96];
};

/* Before any test, and before this process touches CUDA: children could not use it then. Looks from
   a child, prints what it found, and ends the program with one line when no device opens. */
void gpu_open(void);
/* What gpu_open found. */
const struct gpu *gpu(void);
/* Whether NCCL can connect so many ranks here. */
bool gpu_connects(int ranks);
/* From now on this process and its children see the first n devices only. */
void gpu_show(int n);

struct gpu_case {
    const TTest *test;
    int ranks;      /* of NCCL; 0: none */
    bool simulated; /* needs the simulator */
};
#define GPU_ANY(test) \
    { \
        test, 0, false \
    }
#define GPU_RANKS(test, ranks) \
    { \
        test, ranks, false \
    }
#define GPU_SIMULATED(test) \
    { \
        test, 0, true \
    }
#define GPU_CASES_MAX 64

/* The tests of the cases that can run here, NULL behind the last; the others are skipped. The list
   ends with a NULL test. */
const TTest *const *gpu_tests(const struct gpu_case *cases);
#define GPU_TESTS(...) gpu_tests((const struct gpu_case[]){__VA_ARGS__, GPU_ANY(NULL)})

#endif
