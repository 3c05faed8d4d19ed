/*
 * isa_avx512bf16: the fast operations for AVX-512 with dot products of BF16 and of integers
 * (Zen 4, Cooper Lake, Sapphire Rapids and newer). See cpu.h and isa_body.h.
 */
#if defined(__x86_64__) && !defined(LLMJOB_WITHOUT_AVX512)
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")
#pragma GCC target("avx512bf16,avx512vnni,prefer-vector-width=512")

#define ISA        avx512bf16
#define ISA_VECTOR 16 /* floats */
#define ISA_USABLE_EXPR \
    (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16") && \
        __builtin_cpu_supports("avx512vnni"))

#include "kernels/cpu/isa_body.h"
#endif
