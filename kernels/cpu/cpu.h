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

/* matmul.c, experts.c; the same for every instruction set. */
void op_cpu_matmul(struct dev *d, const struct op_matmul *a);
void op_cpu_route(struct dev *d, const struct op_route *a);
void op_cpu_route_back(struct dev *d, const struct op_route *a);
void op_cpu_expert_gather(struct dev *d, const struct op_expert_rows *a);
void op_cpu_expert_sum(struct dev *d, const struct op_expert_rows *a);
void op_cpu_expert_weigh(struct dev *d, const struct op_expert_weigh *a);
void op_cpu_expert_matmul(struct dev *d, const struct op_expert_matmul *a);
void op_cpu_expert_quant_matmul(struct dev *d, const struct op_expert_quant_matmul *a);
/* At least bytes of 64-byte aligned memory, valid until the next call for the same scratch; NULL
 * after dev_fail. */
void *cpu_scratch(struct dev *d, enum cpu_scratch which, size_t bytes);
/* Records a failure of an operation. */
void cpu_fail(struct dev *d, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* One instruction set: the operations written in the files ending in _body.h, and those that are
   common to all (isa_body.h says which). */
struct cpu_isa {
    const char *name;
    bool (*usable)(void);
    struct ops ops;
    /* For matmul.c: out (rows, cols) F32 = x of type t with rows ld apart; */
    void (*widen)(enum dtype t, const void *x, int64_t ld, int64_t rows, int64_t cols, float *out);
    /* and C = act(product + bias), with pre; product (m, n) F32, NULL: it stands in C. */
    void (*finish)(const struct op_matmul *a, const float *product);
    /* and the whole product where oneDNN has none of the types, or NULL; m, n and k at least 1 */
    void (*product)(struct dev *d, const struct op_matmul *a);
};
extern const struct cpu_isa cpu_isa_avx512bf16, cpu_isa_avx512, cpu_isa_avx2, cpu_isa_base;
extern const struct cpu_isa cpu_isa_neon_i8mm, cpu_isa_neon_dot;

/* One is chosen at the first operation and holds for the process: the best of those that the
   processor can run, or the one that NAME_ENV_ISA names. */

/* table.c: the tables of the two kinds, and the choice of the instruction set. */
extern const struct ops cpu_ops, cpu_ref_ops;
const struct cpu_isa *cpu_isa_chosen(void);
/* The i-th that this processor can run, best first; NULL beyond the last. */
const struct cpu_isa *cpu_isa_usable(int i);
/* ERR_DEVICE where there is none: a build for some processors alone runs on another, or
   NAME_ENV_ISA names one that is not among them. */
int cpu_isa_require(const struct cpu_isa *best, struct err *e);
/* Tests: "cpu" devices compute with this one from now on; NULL: the best. */
void cpu_isa_force(const struct cpu_isa *isa);

/* matmul.c: the primitives of one device. */
int matmul_cache_create(struct matmul_cache **out, struct err *e);
void matmul_cache_destroy(struct matmul_cache *c);
/* Tests: products of 16-bit operands are computed as F32 on this device from now on, as on a
 * processor for which oneDNN has none. */
void matmul_force_wide(struct dev *d);

#endif
