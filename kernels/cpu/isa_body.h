/*
 * isa_body: the body of every isa_*.c: the fast operations, compiled for one instruction set.
 *
 * The including file defines ISA (a name), ISA_VECTOR (floats a vector register holds) and
 * ISA_USABLE_EXPR, and sets the target by pragma; no -m flag is needed, and the compiler never
 * emits an instruction outside its file. Loops are plain C with "omp simd", or GCC vectors of
 * ISA_VECTOR floats where registers must be named. Sums have a fixed order: work is cut into chunks
 * that do not depend on the number of threads.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <omp.h>

/* Nobody here looks at floating-point exceptions. Where they count, GCC vectorises no loop that
   calls math_exp: it may compute no side of a condition in vain. NaN stays NaN. */
#pragma GCC optimize("no-trapping-math")

#define ISA_JOIN_(a, b) a##b
#define ISA_JOIN(a, b)  ISA_JOIN_(a, b)
#define ISA_STRING_(a)  #a
#define ISA_STRING(a)   ISA_STRING_(a)
#define ISA_INLINE      static inline __attribute__((always_inline))

/* One register of floats. The only typedef of the house: a vector type has no other name. Loads are
 * aligned. */
typedef float isa_vec __attribute__((vector_size(4 * ISA_VECTOR), may_alias));

/* name(t, a, i) with t a constant, once for each type of activations. The private copy of the
   arguments tells the compiler that no store can change them; without it no loop is vectorised. */
#define ISA_LEAF(name, args, suffix, t) \
    static void name##_##suffix(const args *a, int64_t i) \
    { \
        args copy = *a; \
        name(t, &copy, i); \
    }
#define ISA_LEAVES(name, args) \
    ISA_LEAF(name, args, f32, DTYPE_F32) \
    ISA_LEAF(name, args, bf16, DTYPE_BF16) \
    ISA_LEAF(name, args, f16, DTYPE_F16)
/* The one of them for a type known at run time. */
#define ISA_TYPED(name, t) \
    ((t) == DTYPE_F32 ? name##_f32 : (t) == DTYPE_BF16 ? name##_bf16 : name##_f16)

/* Below this many bytes of work a second thread costs more than it brings. */
#define ISA_PARALLEL_BYTES (64 << 10)

#include "kernels/cpu/math_body.h"
#include "kernels/cpu/rows_body.h"
#include "kernels/cpu/layernorm_body.h"
#include "kernels/cpu/matmul_body.h"
#if defined(__AVX2__) && ISA_VECTOR == 8
#include "kernels/cpu/product_body.h"
#else
#define isa_product NULL
#endif
#include "kernels/cpu/state_body.h"
#include "kernels/cpu/vector_body.h"
#include "kernels/cpu/optim_body.h"
#include "kernels/cpu/tile_body.h"
#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/attention_back_body.h"
#include "kernels/cpu/quant_body.h"
#include "kernels/cpu/quant_ints_body.h"
#include "kernels/cpu/attention_cached_body.h"

static bool isa_usable(void)
{
    return ISA_USABLE_EXPR;
}

/* Common to all: products are oneDNN's (matmul.c); what moves rows to experts and back is bound by
   memory (experts.c); sample, which runs once a token, is the reference's. */
#define isa_matmul              op_cpu_matmul
#define isa_route               op_cpu_route
#define isa_route_back          op_cpu_route_back
#define isa_expert_sort         op_ref_expert_sort
#define isa_expert_gather       op_cpu_expert_gather
#define isa_expert_sum          op_cpu_expert_sum
#define isa_expert_weigh        op_cpu_expert_weigh
#define isa_expert_matmul       op_cpu_expert_matmul
#define isa_expert_quant_matmul op_cpu_expert_quant_matmul
#define isa_sample              op_ref_sample

#define ISA_ENTRY(name, args) .name = isa_##name,
const struct cpu_isa ISA_JOIN(cpu_isa_, ISA) = {.name = ISA_STRING(ISA),
    .usable = isa_usable,
    .ops = {LLMJOB_OPS(ISA_ENTRY)},
    .widen = matmul_widen,
    .finish = isa_matmul_finish,
    .product = isa_product};
