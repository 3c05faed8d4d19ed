/*
 * isa_base: the fast operations for what every processor of the architecture has (SSE2 on x86-64,
 * NEON on aarch64). See cpu.h and isa_body.h.
 */
#ifndef LLMJOB_WITHOUT_BASE
#define ISA             base
#define ISA_VECTOR      4 /* floats */
#define ISA_USABLE_EXPR true

#include "kernels/cpu/isa_body.h"
#endif
