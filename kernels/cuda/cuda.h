/*
 * cuda: what the files of the CUDA plugin share: the device, its errors, its scratch, and the
 * declarations of the operations. C and CUDA C++ include it.
 *
 * driver.c owns the device, blas.c is the only includer of cuBLASLt, nccl.c of NCCL, nvml.c of
 * NVML. The kernels (.cu) see struct cuda_dev, kernel.cuh and nothing else. Compiled against
 * tests/cudasim instead of the toolkit, all but blas.c and nccl.c become a device that computes on
 * the host, for tests. Operations only enqueue on the device's stream: no allocation, no waiting.
 */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cuda_runtime.h> /* has templates: outside of extern "C" */

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/driver.h"
#include "kernels/ops.h"

/* Scratch of an operation, one block a device, taken at open: sums of blocks before they are added
   up in a fixed order, split attention. cuBLASLt's workspace is blas.c's own. */
#define CUDA_SCRATCH_BYTES ((size_t)64 << 20)

struct blas;
struct nvml;
struct cuda_staging;
struct cuda_dev {
    struct dev base;
    int index;
    int sm_count;
    int capability;      /* 90: compute capability 9.0 */
    size_t shared_max;   /* bytes of shared memory that one block may ask for */
    cudaStream_t stream; /* of every operation */
    void *scratch;       /* CUDA_SCRATCH_BYTES */
    struct blas *blas;
    char name[96], uuid[48];
    /* driver.c's own */
    int64_t memory_bytes; /* free when it was opened */
    struct cuda_staging *staging;
    struct nvml *nvml;
    bool recording;
    bool asked; /* NVML, about the first failure */
};

/* An error that names the device, `what` failed and why; the first one of class device also the XID
   or ECC state, where NVML tells. Returns -code. */
int cuda_failed(
    struct cuda_dev *c, enum err_code code, const char *what, const char *why, struct err *e);
/* What a call to the runtime returned, likewise. Returns 0 or a negative code. */
int cuda_error(struct cuda_dev *c, cudaError_t status, const char *what, struct err *e);
/* Likewise, for an operation: the error sticks to the device until dev_sync. */
int cuda_check(struct cuda_dev *c, cudaError_t status, const char *what);
/* Whether a poll found work under way. The runtime keeps that as its last error, where whoever
   looks for one next would take it for a failure; it is cleared here. */
bool cuda_busy(cudaError_t polled);
/* A bad argument of an operation (an unsupported shape or type): ERR_DEVICE, sticks to the
   device. */
void cuda_refuse(struct dev *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define OPS_DECLARE_CUDA(name, args) void op_cuda_##name(struct dev *, const args *);
LLMJOB_OPS(OPS_DECLARE_CUDA)
#undef OPS_DECLARE_CUDA

/* What cuBLASLt does not do (elementwise.cu). finish: bias, pre and GELU of a product whose C (m,
   n) already holds alpha * A * B + beta * C; narrow: all of a product with F32 operands and a C of
   16 bits, by products with an F32 result in scratch. */
void cuda_matmul_finish(struct dev *d, const struct op_matmul *a);
void cuda_matmul_narrow(struct dev *d, const struct op_matmul *a);

int blas_create(struct cuda_dev *c, struct blas **out, struct err *e);
void blas_destroy(struct blas *b);
extern const struct driver_comms nccl_comms;

#ifdef __cplusplus
}
#endif
#endif
