/*
 * isa_avx2: the fast operations for AVX2 with FMA and F16C (x86-64-v3). See cpu.h and isa_body.h.
 */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")

#define ISA        avx2
#define ISA_VECTOR 8 /* floats */
#define ISA_USABLE_EXPR \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && \
        __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2"))

#include "kernels/cpu/isa_body.h"
#endif
