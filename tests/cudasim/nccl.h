/*
 * nccl: stands for NCCL's header when kernels/cuda/nccl.c is compiled for the host: the part of its
 * API in use, with its names, values and meanings, implemented by nccl.cc between processes of one
 * machine. Communicators are non-blocking; operations run when their stream is asked, and never end
 * while a peer does not take part, until the communicator is aborted.
 */
#ifndef TESTS_CUDASIM_NCCL_H
#define TESTS_CUDASIM_NCCL_H

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NCCL_MAJOR           2
#define NCCL_MINOR           28
#define NCCL_PATCH           9
#define NCCL_VERSION_CODE    22809
#define NCCL_UNIQUE_ID_BYTES 128
#define NCCL_SPLIT_NOCOLOR   -1

typedef enum {
    ncclSuccess = 0,
    ncclUnhandledCudaError = 1,
    ncclSystemError = 2,
    ncclInternalError = 3,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
    ncclRemoteError = 6,
    ncclInProgress = 7
} ncclResult_t;
typedef enum { ncclSum = 0, ncclProd = 1, ncclMax = 2, ncclMin = 3, ncclAvg = 4 } ncclRedOp_t;
typedef enum {
    ncclInt8 = 0,
    ncclChar = 0,
    ncclUint8 = 1,
    ncclInt32 = 2,
    ncclInt = 2,
    ncclUint32 = 3,
    ncclInt64 = 4,
    ncclUint64 = 5,
    ncclFloat16 = 6,
    ncclHalf = 6,
    ncclFloat32 = 7,
    ncclFloat = 7,
    ncclFloat64 = 8,
    ncclBfloat16 = 9
} ncclDataType_t;

typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;
typedef struct {
    int blocking; /* 0 only */
} ncclConfig_t;
#define NCCL_CONFIG_INITIALIZER \
    { \
        1 \
    }

ncclResult_t ncclGetVersion(int *version);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRankConfig(
    ncclComm_t *out, int world, ncclUniqueId id, int rank, ncclConfig_t *config);
ncclResult_t ncclCommSplit(
    ncclComm_t parent, int colour, int key, ncclComm_t *out, ncclConfig_t *config);
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state);
ncclResult_t ncclCommCount(ncclComm_t c, int *count);
ncclResult_t ncclCommUserRank(ncclComm_t c, int *rank);
ncclResult_t ncclCommFinalize(ncclComm_t c);
ncclResult_t ncclCommDestroy(ncclComm_t c);
ncclResult_t ncclCommAbort(ncclComm_t c);
const char *ncclGetErrorString(ncclResult_t r);
const char *ncclGetLastError(ncclComm_t c);
ncclResult_t ncclMemAlloc(void **out, size_t bytes);
ncclResult_t ncclMemFree(void *p);
ncclResult_t ncclCommRegister(ncclComm_t c, void *p, size_t bytes, void **handle);
ncclResult_t ncclCommDeregister(ncclComm_t c, void *handle);
ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t t,
    ncclRedOp_t op, ncclComm_t c, cudaStream_t s);
ncclResult_t ncclReduce(const void *in, void *out, size_t count, ncclDataType_t t, ncclRedOp_t op,
    int root, ncclComm_t c, cudaStream_t s);
ncclResult_t ncclReduceScatter(const void *in, void *out, size_t count, ncclDataType_t t,
    ncclRedOp_t op, ncclComm_t c, cudaStream_t s);
ncclResult_t ncclAllGather(
    const void *in, void *out, size_t count, ncclDataType_t t, ncclComm_t c, cudaStream_t s);
ncclResult_t ncclBroadcast(const void *in, void *out, size_t count, ncclDataType_t t, int root,
    ncclComm_t c, cudaStream_t s);
ncclResult_t ncclSend(
    const void *in, size_t count, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s);
ncclResult_t ncclRecv(
    void *out, size_t count, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s);
/* What is called between them, by this thread on one communicator, is called at the end, sends and
 * receives all at once. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

#ifdef __cplusplus
}
#endif
#endif
