/*
 * ras: asks NCCL's own watch over the job (its RAS threads, since NCCL 2.24) why nothing moves.
 * Every process with a communicator answers on localhost:28028, or where NCCL_RAS_ADDR says; the
 * answer is about the whole job. Source: NCCL user guide, "RAS". Thread: any.
 */
#ifndef KERNELS_CUDA_RAS_H
#define KERNELS_CUDA_RAS_H

#include <stddef.h>
#include <stdint.h>

/* One line, what RAS reports under "Errors", else under "Warnings": "INCOMPLETE Missing
   communicator data from 1 job process ...". Empty when it reports neither, is not there or takes
   longer. */
void ras_query(char *out, size_t size, int64_t timeout_ms);

#endif
