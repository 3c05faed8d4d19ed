/*
 * control: how a test steers the simulated plugin: the symbol CUDASIM_CONTROL of the library that
 * dev_open("cuda") loaded (struct dev, plugin). A plugin for real devices has none.
 */
#ifndef TESTS_CUDASIM_CONTROL_H
#define TESTS_CUDASIM_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dev;

/* Small kernels that each do one thing wrong, and one that does the same right. */
enum cudasim_fault {
    CUDASIM_FAULT_NONE,
    CUDASIM_FAULT_BARRIER_ELSEWHERE, /* half a block waits at another barrier */
    CUDASIM_FAULT_BARRIER_ENDED,     /* half a block never comes */
    CUDASIM_FAULT_WARP_ENDED,        /* a lane of a shuffle's mask has ended */
    CUDASIM_FAULT_WARP_OUTSIDE,      /* a lane reads one that is not in the mask */
    CUDASIM_FAULT_GLOBAL_READ,       /* one element after an allocation */
    CUDASIM_FAULT_GLOBAL_WRITE,
    CUDASIM_FAULT_GLOBAL_BEFORE, /* one element before */
    CUDASIM_FAULT_GLOBAL_FREED,
    CUDASIM_FAULT_HOST_MEMORY, /* a host pointer */
    CUDASIM_FAULT_SHARED_BOUNDS,
    CUDASIM_FAULT_ARRAY_BOUNDS,  /* of a __shared__ array */
    CUDASIM_FAULT_SHARED_RACE,   /* a barrier is missing */
    CUDASIM_FAULT_ARRAY_RACE,    /* of a __shared__ array */
    CUDASIM_FAULT_WARP_RACE,     /* a __syncwarp is missing */
    CUDASIM_FAULT_COPY_RACE,     /* a barrier after copy_async_wait is missing */
    CUDASIM_FAULT_COPY_UNWAITED, /* copy_async_wait is missing */
    CUDASIM_FAULT_COPY_MISALIGNED,
    CUDASIM_FAULT_VECTOR_MISALIGNED,
    CUDASIM_FAULT_STORE_ELSEWHERE, /* shared memory, by what stores to global memory */
    CUDASIM_FAULT_SHARED_ARRAYS,   /* with them it is more than what needs no asking */
    CUDASIM_FAULT_SHARED_UNASKED,  /* the dynamic part alone is; the launch is refused */
    CUDASIM_FAULT_UNINITIALISED,   /* shared memory is read before it is written */
    CUDASIM_FAULT_GLOBAL_ORDER,    /* threads of a block exchange through global memory */
    CUDASIM_FAULT_BLOCK_ORDER,     /* blocks exchange through global memory */
    CUDASIM_FAULTS
};

struct cudasim_control {
    /* 0: threads and blocks in order, 1: reversed, else shuffled by it. At first what
       LLMJOB_CUDASIM_SEED says, else 0. */
    void (*order)(uint64_t seed);
    const char *(*failure)(void); /* of the last kernel that failed: kernel, block, thread, why */
    void (*forget)(void);         /* the failure, and work enqueued behind it */
    /* The name of what cudaPeekAtLastError says, or "": blas.c would take it for a failure. */
    const char *(*last_error)(void);
    int64_t (*launches)(void); /* kernels run */
    int64_t (*calls)(void);    /* kernels that the host launched or recorded, one by one */
    int64_t (*replays)(void);  /* recordings that it launched */
    void (*refuse)(bool on);   /* recordings cannot be made from now on */
    /* Products take bias and GELU along, or never, as a cuBLASLt without a kernel for it. */
    void (*epilogues)(bool on);
    /* How often the plugin's kernel `number` ran in this process and those that it forked since
       it loaded the plugin; name: the kernel's, with its template arguments. -1: there are not
       so many. */
    int64_t (*kernel)(int number, const char **name);
    /* Enqueues the kernel of a fault on d; room: CUDASIM_FAULT_FLOATS floats of device memory,
       an allocation of its own; host: as much memory of the host. */
    void (*fault)(struct dev *d, enum cudasim_fault f, float *room, float *host);
};
#define CUDASIM_FAULT_FLOATS 250 /* ends in the middle of 64 bytes */
#define CUDASIM_CONTROL      "llmjob_cudasim"
typedef const struct cudasim_control *cudasim_control_fn(void);

const struct cudasim_control *llmjob_cudasim(void) __attribute__((visibility("default")));
void cudasim_fault(struct dev *d, enum cudasim_fault f, float *room, float *host);

#ifdef __cplusplus
}
#endif
#endif
