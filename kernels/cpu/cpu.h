/*
 * cpu: the two CPU drivers, "cpu" (fast) and "cpu-ref" (plain loops), and what the fast operations
 * share.
 *
 * The fast operations are written once (the files ending in _body.h) and compiled once per
 * instruction set (isa_*.c), so that one program serves every x86-64 and aarch64; cpu_open chooses
 * the best table that the processor can run. Matrix products go to oneDNN (matmul.c). Results
 * depend on the instruction set but not on the number of threads, matmul excepted. Included only by
 * kernels/cpu and kernels/dev.c, and by the tests that compare the instruction sets.
 */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/driver.h"

struct matmul_cache;

/* The scratch memories of a device: an operation may call op_cpu_matmul while it uses its own. */
enum cpu_scratch {
    CPU_SCRATCH_OP,
    CPU_SCRATCH_ROUNDED, /* x of quant_matmul */
    CPU_SCRATCH_MATMUL,
    CPU_SCRATCH_MATMUL_A, /* widened operands and result */
    CPU_SCRATCH_MATMUL_B,
    CPU_SCRATCH_MATMUL_C,
    CPU_SCRATCHES
};

struct cpu_dev {
    struct dev base;
    int threads;
    struct {
        void *data; /* grows to the largest need, then stays */
        size_t bytes;
    } scratch[CPU_SCRATCHES];
    struct matmul_cache *matmul;
};

extern const struct driver cpu_driver, cpu_ref_driver;

/* At least bytes of 64-byte aligned memory, valid until the next call for the same scratch; NULL
 * after dev_fail. */
void *cpu_scratch(struct dev *d, enum cpu_scratch which, size_t bytes);
/* x of the product: a's own, or rounded to scratch as int8_x says; NULL after dev_fail. */
const float *cpu_rounded_x(struct dev *d, const struct op_quant_matmul *a);
/* Records a failure of an operation. */
void cpu_fail(struct dev *d, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The operations of LLMJOB_OPS that are compiled per instruction set: all but matmul and what
 * table.c leaves to the reference. */
#define CPU_ISA_OPS(X) \
    X(quant_matmul, struct op_quant_matmul) \
    X(embed, struct op_embed) \
    X(embed_back, struct op_embed) \
    X(rmsnorm, struct op_rmsnorm) \
    X(rmsnorm_back, struct op_rmsnorm) \
    X(layernorm, struct op_layernorm) \
    X(layernorm_back, struct op_layernorm) \
    X(bias_back, struct op_bias_back) \
    X(gelu_back, struct op_gelu_back) \
    X(dropout, struct op_dropout) \
    X(rope, struct op_rope) \
    X(attention, struct op_attention) \
    X(attention_back, struct op_attention) \
    X(kv_store, struct op_kv_store) \
    X(attention_decode, struct op_attention_decode) \
    X(swiglu, struct op_swiglu) \
    X(swiglu_back, struct op_swiglu) \
    X(xent, struct op_xent) \
    X(axpby, struct op_axpby) \
    X(convert, struct op_convert) \
    X(sumsq, struct op_sumsq) \
    X(adamw, struct op_adamw)

/* One instruction set: the operations written in the files ending in _body.h; matmul stays NULL, it
 * is common to all. */
struct cpu_isa {
    const char *name;
    bool (*usable)(void);
    struct ops ops;
    /* For matmul.c: out (rows, cols) F32 = x of type t with rows ld apart; */
    void (*widen)(enum dtype t, const void *x, int64_t ld, int64_t rows, int64_t cols, float *out);
    /* and C = act(product + bias), with pre; product (m, n) F32, NULL: it stands in C. */
    void (*finish)(const struct op_matmul *a, const float *product);
};
extern const struct cpu_isa cpu_isa_avx512bf16, cpu_isa_avx512, cpu_isa_avx2, cpu_isa_base;

/* table.c: the tables of the two kinds, and the choice of the instruction set. */
extern const struct ops cpu_ops, cpu_ref_ops;
const struct cpu_isa *cpu_isa_chosen(void);
/* The i-th that this processor can run, best first; NULL beyond the last. */
const struct cpu_isa *cpu_isa_usable(int i);
/* Tests: "cpu" devices compute with this one from now on; NULL: the best. */
void cpu_isa_force(const struct cpu_isa *isa);

/* matmul.c: the primitives of one device. */
int matmul_cache_create(struct matmul_cache **out, struct err *e);
void matmul_cache_destroy(struct matmul_cache *c);
/* Tests: products of 16-bit operands are computed as F32 on this device from now on, as on a
 * processor for which oneDNN has none. */
void matmul_force_wide(struct dev *d);

#endif
