/*
 * isa_neon_dot: the fast operations for NEON with dot products of bytes (Cortex-A55 and A76,
 * Neoverse N1 and newer). See cpu.h and isa_body.h.
 */
#if defined(__aarch64__)
#include <sys/auxv.h>

#pragma GCC target("arch=armv8.2-a+dotprod")

#define ISA             neon_dot
#define ISA_VECTOR      4 /* floats */
#define ISA_USABLE_EXPR (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)

#include "kernels/cpu/isa_body.h"
#endif
