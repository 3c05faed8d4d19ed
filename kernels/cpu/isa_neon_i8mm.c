/*
 * isa_neon_i8mm: the fast operations for NEON with products of matrices of bytes (Cortex-X2,
 * Neoverse V1, N2 and newer). See cpu.h and isa_body.h.
 */
#if defined(__aarch64__)
#include <sys/auxv.h>

#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")

#define ISA        neon_i8mm
#define ISA_VECTOR 4 /* floats */
#define ISA_USABLE_EXPR \
    ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM))

#include "kernels/cpu/isa_body.h"
#endif
