/*
 * table: the operation tables of the kinds "cpu" and "cpu-ref", and the choice of the instruction
 * set.
 *
 * The choice is made at the first operation and holds for the process; it is the only global of the
 * room. It is the best that the processor has, or what NAME_ENV_ISA names: so one machine shows
 * what those with less compute. (oneDNN's products have ONEDNN_MAX_CPU_ISA.)
 */
#include "kernels/cpu/cpu.h"

#include "api/names.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const struct cpu_isa *const table_isas[] = {
#if defined(__x86_64__)
#ifndef LLMJOB_WITHOUT_AVX512
    &cpu_isa_avx512bf16,
    &cpu_isa_avx512,
#endif
    &cpu_isa_avx2,
#elif defined(__aarch64__)
    &cpu_isa_neon_i8mm,
    &cpu_isa_neon_dot,
#endif
#ifndef LLMJOB_WITHOUT_BASE
    &cpu_isa_base,
#endif
};

static _Atomic(const struct cpu_isa *) table_isa;

const struct cpu_isa *cpu_isa_usable(int i)
{
    for (size_t n = 0; n < sizeof table_isas / sizeof *table_isas; n++)
        if (table_isas[n]->usable() && i-- == 0)
            return table_isas[n];
    return NULL;
}

int cpu_isa_require(const struct cpu_isa *best, struct err *e)
{
    const char *named = getenv(NAME_ENV_ISA);
    if (best)
        return 0;
    if (named && *named)
        return err_set(e, ERR_DEVICE, NAME_ENV_ISA ": there is no %s here", named);
    return err_set(e, ERR_DEVICE,
        "this program was built for processors with AVX2, FMA, F16C and BMI2 alone (NATIVE=1), and "
        "this one has not all of them");
}

/* What the environment names, or the best; or NULL. */
static const struct cpu_isa *table_wanted(void)
{
    const char *named = getenv(NAME_ENV_ISA);
    const struct cpu_isa *isa;
    for (int i = 0; (isa = cpu_isa_usable(i)); i++)
        if (!named || !*named || !strcmp(isa->name, named))
            break;
    return isa;
}

void cpu_isa_force(const struct cpu_isa *isa)
{
    atomic_store(&table_isa, isa);
}

const struct cpu_isa *cpu_isa_chosen(void)
{
    const struct cpu_isa *isa = atomic_load_explicit(&table_isa, memory_order_relaxed);
    if (!isa) {
        isa = table_wanted();
        atomic_store(&table_isa, isa);
    }
    return isa;
}

#define TABLE_DISPATCH(name, args) \
    static void table_##name(struct dev *d, const args *a) \
    { \
        cpu_isa_chosen()->ops.name(d, a); \
    }
LLMJOB_OPS(TABLE_DISPATCH)
#undef TABLE_DISPATCH

#define TABLE_CPU(name, args) .name = table_##name,
#define TABLE_REF(name, args) .name = op_ref_##name,
const struct ops cpu_ops = {LLMJOB_OPS(TABLE_CPU)};
const struct ops cpu_ref_ops = {LLMJOB_OPS(TABLE_REF)};
