/*
 * nvml: what the driver's management library knows of one GPU's health: the XID of an error, memory
 * errors, the driver's version. libnvidia-ml comes with the driver, so it is opened at run time and
 * may be absent: every function then says nothing. Source: NVML API Reference (its ABI is stable).
 * Thread: with its device, one.
 */
#ifndef KERNELS_CUDA_NVML_H
#define KERNELS_CUDA_NVML_H

#include <stddef.h>

struct nvml;
/* pci_bus_id: as cudaDeviceGetPCIBusId writes it. NULL when there is no library or no such GPU. */
struct nvml *nvml_open(const char *pci_bus_id);
void nvml_close(struct nvml *n);
/* After an error: "XID 48 (double-bit ECC error), 2 uncorrected memory errors", or "". Waits a
   moment for the driver to say what happened. */
void nvml_health(struct nvml *n, char *out, size_t size);
/* "580.65.06", or "" without the library. */
void nvml_driver_version(char *out, size_t size);

#endif
