/*
 * fake_cublaslt: how test_blas steers and watches the library of fake_cublaslt.c, which stands for
 * cuBLASLt below kernels/cuda/blas.c: it multiplies on the host by what descriptors and layouts
 * say, and ends the program on a call that cuBLASLt would not allow. One thread.
 */
#ifndef TESTS_CUDA_FAKE_CUBLASLT_H
#define TESTS_CUDA_FAKE_CUBLASLT_H

#include <cublasLt.h>
#include <stdbool.h>

struct fake_cublaslt {
    /* the test's */
    int64_t fail_nth;       /* this call that can fail does, counted from 1; 0: none */
    cublasStatus_t failure; /* by this */
    cublasStatus_t plain;   /* what it says to an epilogue; SUCCESS: it has all of them */
    int unusable;           /* the first so many of its answers are not runnable */
    int none;               /* so many questions find no algorithm at all */
    cudaError_t last_error; /* of the runtime */
    /* the library's */
    int64_t calls;             /* that can fail */
    int64_t asked, multiplied; /* heuristics, products */
    int64_t alive;             /* handles, descriptors, layouts, preferences, device memory */
    uint32_t epilogue;         /* of the last product */
    cublasComputeType_t compute;
    size_t workspace;
};
extern struct fake_cublaslt fake_cublaslt;

#endif
