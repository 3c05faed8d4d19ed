/*
 * op_cases: for every operation of LLMJOB_OPS a case: inputs, the call, its outputs with
 * tolerances, and the shapes to try. A case reads r->t (F32, BF16, F16 in this order, up to its
 * `last`) and a shape whose meaning is the case's own. What does not go with r->t has no output.
 */
#ifndef TESTS_KERNELS_OP_CASES_H
#define TESTS_KERNELS_OP_CASES_H

#include "tests/kernels/parity.h"

#define OP_CASE_SHAPES 80
#define OP_CASE_SIZES  11 /* of a shape */

struct op_case {
    const char *name;
    void (*run)(struct parity_run *r, const int64_t *shape);
    enum dtype last;
    bool by_threads; /* its sums may depend on the number of threads */
    int64_t shapes[OP_CASE_SHAPES][OP_CASE_SIZES]; /* ends with a zero first entry */
    bool blocks; /* on CPUs a cache of Q8_0, too, of whole blocks a head */
};

/* A tolerance: that of F32, or one rounding to the type more. */
double op_case_near(enum dtype t, double f32);

/* Of op_cases_optim.c; in shapes of updates, what the sum of the gradient's squares is. */
#define CLIPPED   1
#define UNCLIPPED 2
#define INFINITE  8
#define NO_NUMBER 16
void op_case_axpby(struct parity_run *r, const int64_t *s);
void op_case_sumsq(struct parity_run *r, const int64_t *s);
void op_case_adamw(struct parity_run *r, const int64_t *s);
void op_case_sgd(struct parity_run *r, const int64_t *s);
void op_case_lion(struct parity_run *r, const int64_t *s);
void op_case_importance(struct parity_run *r, const int64_t *s);
void op_case_mask(struct parity_run *r, const int64_t *s);
void op_case_adafactor(struct parity_run *r, const int64_t *s);

/* Of op_cases_cache.c. */
void op_case_kv_store(struct parity_run *r, const int64_t *s);
void op_case_attention_decode(struct parity_run *r, const int64_t *s);

/* Of op_cases_experts.c. */
void op_case_route(struct parity_run *r, const int64_t *s);
void op_case_route_back(struct parity_run *r, const int64_t *s);
void op_case_expert_sort(struct parity_run *r, const int64_t *s);
void op_case_expert_gather(struct parity_run *r, const int64_t *s);
void op_case_expert_sum(struct parity_run *r, const int64_t *s);
void op_case_expert_weigh(struct parity_run *r, const int64_t *s);
void op_case_expert_matmul(struct parity_run *r, const int64_t *s);
void op_case_quant_matmul(struct parity_run *r, const int64_t *s);
void op_case_expert_quant_matmul(struct parity_run *r, const int64_t *s);

#define OP_CASE_COARSE 1e-4 /* of a product whose x is rounded to 16 bits (kernels/ops.h) */

extern const struct op_case *const op_cases;
extern const int op_case_count;

#endif
