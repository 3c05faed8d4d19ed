/*
 * table: the operation tables of the kinds "cpu" and "cpu-ref", and the choice of the instruction
 * set.
 *
 * The choice is made at the first operation and holds for the process; it is the only global of the
 * room. An entry that the fast version leaves to the reference is listed here and nowhere else:
 * sample, which runs once a token.
 */
#include "kernels/cpu/cpu.h"

#include <stdatomic.h>

static const struct cpu_isa *const table_isas[] = {
#if defined(__x86_64__)
    &cpu_isa_avx512bf16,
    &cpu_isa_avx512,
    &cpu_isa_avx2,
#endif
    &cpu_isa_base,
};

static _Atomic(const struct cpu_isa *) table_isa;

const struct cpu_isa *cpu_isa_usable(int i)
{
    for (size_t n = 0; n < sizeof table_isas / sizeof *table_isas; n++)
        if (table_isas[n]->usable() && i-- == 0)
            return table_isas[n];
    return NULL;
}

void cpu_isa_force(const struct cpu_isa *isa)
{
    atomic_store(&table_isa, isa);
}

const struct cpu_isa *cpu_isa_chosen(void)
{
    const struct cpu_isa *isa = atomic_load_explicit(&table_isa, memory_order_relaxed);
    if (!isa) {
        isa = cpu_isa_usable(0);
        atomic_store(&table_isa, isa);
    }
    return isa;
}

/* op_cpu_matmul stands in matmul.c; every other operation goes to the chosen instruction set. */
#define TABLE_DISPATCH(name, args) \
    void op_cpu_##name(struct dev *d, const args *a) \
    { \
        cpu_isa_chosen()->ops.name(d, a); \
    }
CPU_ISA_OPS(TABLE_DISPATCH)
#undef TABLE_DISPATCH

void op_cpu_sample(struct dev *d, const struct op_sample *a)
{
    op_ref_sample(d, a);
}

#define TABLE_CPU(name, args) .name = op_cpu_##name,
#define TABLE_REF(name, args) .name = op_ref_##name,
const struct ops cpu_ops = {LLMJOB_OPS(TABLE_CPU)};
const struct ops cpu_ref_ops = {LLMJOB_OPS(TABLE_REF)};
