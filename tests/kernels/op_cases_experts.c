/*
 * op_cases_experts: the cases of a mixture of experts. What a choice or an order is computed from
 * is random; rows and places come from the device's own sort, which is exact. See op_cases.h.
 */
#include "tests/kernels/op_cases.h"

/* shape: n, experts, choices, tokens of a sequence, 1: normalized, 1: with lengths, 1: without
   balance */
static struct op_route route_of(struct parity_run *r, const int64_t *s)
{
    struct op_route a = {
        .n = s[0], .e = s[1], .k = s[2], .tokens = s[3], .normalized = s[4], .t = r->t};
    int64_t sequences = a.n / a.tokens;
    a.p = parity_input(r, a.n * a.e, DTYPE_F32, 3);
    a.expert = parity_space(r, a.n * a.k, DTYPE_I32);
    a.weight = parity_space(r, a.n * a.k, DTYPE_F32);
    a.count = parity_input(r, sequences * a.e, DTYPE_F32, 0);
    a.length = s[5] ? parity_ids(r, sequences, (int32_t)a.tokens) : NULL;
    return a;
}

void op_case_route(struct parity_run *r, const int64_t *s)
{
    struct op_route a = route_of(r, s);
    r->ops->route(r->d, &a);
    r->ops->route(r->d, &a); /* of the probabilities: counts add up */
    parity_output(r, a.p, a.n * a.e, DTYPE_F32, 1e-5);
    parity_output(r, a.expert, a.n * a.k, DTYPE_I32, 0x1p-40);
    parity_output(r, a.weight, a.n * a.k, DTYPE_F32, 1e-5);
    parity_output(r, a.count, a.n / a.tokens * a.e, DTYPE_F32, 0x1p-40);
}

void op_case_route_back(struct parity_run *r, const int64_t *s)
{
    struct op_route a = route_of(r, s);
    r->ops->route(r->d, &a);
    a.dweight = parity_input(r, a.n * a.k, DTYPE_F32, 1);
    a.balance = s[6] ? NULL : parity_input(r, a.n / a.tokens, DTYPE_F32, 0.3f);
    a.dlogits = parity_space(r, a.n * a.e, r->t);
    r->ops->route_back(r->d, &a);
    parity_output(r, a.dlogits, a.n * a.e, r->t, op_case_near(r->t, 2e-5));
}

/* n choices of `e` experts in order. */
static struct op_expert_sort sorted(struct parity_run *r, int64_t n, int64_t e)
{
    struct op_expert_sort a = {.n = n, .e = e};
    a.expert = parity_ids(r, n, (int32_t)e);
    a.row = parity_space(r, n, DTYPE_I32);
    a.place = parity_space(r, n, DTYPE_I32);
    a.offset = parity_space(r, e + 1, DTYPE_I32);
    r->ops->expert_sort(r->d, &a);
    return a;
}

/* shape: n, experts */
void op_case_expert_sort(struct parity_run *r, const int64_t *s)
{
    struct op_expert_sort a = sorted(r, s[0], s[1]);
    parity_output(r, a.row, a.n, DTYPE_I32, 0x1p-40);
    parity_output(r, a.place, a.n, DTYPE_I32, 0x1p-40);
    parity_output(r, a.offset, a.e + 1, DTYPE_I32, 0x1p-40);
}

/* shape: n, choices, c, experts, 1: y accumulates */
void op_case_expert_gather(struct parity_run *r, const int64_t *s)
{
    struct op_expert_rows a = {.n = s[0], .k = s[1], .c = s[2], .t = r->t};
    a.row = sorted(r, a.n * a.k, s[3]).row;
    a.x = parity_input(r, a.n * a.c, r->t, 1);
    a.y = parity_space(r, a.n * a.k * a.c, r->t);
    r->ops->expert_gather(r->d, &a);
    parity_output(r, a.y, a.n * a.k * a.c, r->t, 0x1p-40);
}

void op_case_expert_sum(struct parity_run *r, const int64_t *s)
{
    struct op_expert_rows a = {.n = s[0], .k = s[1], .c = s[2], .accumulate = s[4], .t = r->t};
    a.place = sorted(r, a.n * a.k, s[3]).place;
    a.x = parity_input(r, a.n * a.k * a.c, r->t, 1);
    a.y = s[4] ? parity_input(r, a.n * a.c, r->t, 1) : parity_space(r, a.n * a.c, r->t);
    r->ops->expert_sum(r->d, &a);
    parity_output(r, a.y, a.n * a.c, r->t, op_case_near(r->t, 2e-6));
}

/* shape: n, c, 1: backward */
void op_case_expert_weigh(struct parity_run *r, const int64_t *s)
{
    struct op_expert_weigh a = {.n = s[0], .c = s[1], .t = r->t};
    a.row = sorted(r, a.n, 3).row;
    a.weight = parity_input(r, a.n, DTYPE_F32, 1);
    a.x = parity_input(r, a.n * a.c, r->t, 1);
    a.dy = s[2] ? parity_input(r, a.n * a.c, r->t, 1) : NULL;
    a.dweight = parity_input(r, a.n, DTYPE_F32, 1);
    r->ops->expert_weigh(r->d, &a);
    parity_output(r, a.x, a.n * a.c, r->t, op_case_near(r->t, 1e-6));
    if (a.dy)
        parity_output(r, a.dy, a.n * a.c, r->t, op_case_near(r->t, 1e-6));
    parity_output(r, a.dweight, a.n, DTYPE_F32, 2e-5);
}

/* shape: n, experts, in, out, padding between experts, first of the experts that are here, how many
   are not here at the end */
void op_case_expert_matmul(struct parity_run *r, const int64_t *s)
{
    struct op_expert_matmul a = {.n = s[0], .in = s[2], .out = s[3], .t = r->t};
    a.experts = s[1] - s[5] - s[6];
    a.ldw = a.in * a.out + s[4];
    a.offset = sorted(r, a.n, s[1]).offset + s[5];
    a.w = parity_input(r, a.experts * a.ldw, r->t, 1);
    a.x = parity_input(r, a.n * a.in, r->t, 1);
    a.dy = parity_input(r, a.n * a.out, r->t, 1);
    a.y = parity_input(r, a.n * a.out, r->t, 1);
    a.dx = parity_input(r, a.n * a.in, r->t, 1);
    a.dw = parity_input(r, a.experts * a.ldw, DTYPE_F32, 1);
    r->ops->expert_matmul(r->d, &a);
    parity_output(r, a.y, a.n * a.out, r->t, op_case_near(r->t, 2e-5));
    parity_output(r, a.dx, a.n * a.in, r->t, op_case_near(r->t, 2e-5));
    parity_output(r, a.dw, a.experts * a.ldw, DTYPE_F32, 2e-5);
}

/* shape: m, n, k, type of W */
void op_case_quant_matmul(struct parity_run *r, const int64_t *s)
{
    struct op_quant_matmul a = {.m = s[0], .n = s[1], .k = s[2], .w_type = (enum dtype)s[3]};
    a.x = parity_input(r, a.m * a.k, DTYPE_F32, 1);
    a.w = parity_blocks(r, a.n * a.k, a.w_type);
    for (int coarse = 0; coarse <= (dtype_block(a.w_type) > 1); coarse++) {
        a.coarse = coarse;
        a.y = parity_space(r, a.m * a.n, DTYPE_F32);
        r->ops->quant_matmul(r->d, &a);
        parity_output(r, a.y, a.m * a.n, DTYPE_F32, coarse ? OP_CASE_COARSE : 2e-5);
    }
}

/* shape: n, experts, in, out, type of W, rows between experts */
void op_case_expert_quant_matmul(struct parity_run *r, const int64_t *s)
{
    struct op_expert_quant_matmul a = {
        .n = s[0], .experts = s[1], .in = s[2], .out = s[3], .w_type = (enum dtype)s[4]};
    a.stride = dtype_bytes(a.w_type, (a.out + s[5]) * a.in);
    a.offset = sorted(r, a.n, a.experts).offset;
    a.w = parity_blocks(r, a.experts * (a.out + s[5]) * a.in, a.w_type);
    a.x = parity_input(r, a.n * a.in, DTYPE_F32, 1);
    for (int coarse = 0; coarse <= (dtype_block(a.w_type) > 1); coarse++) {
        a.coarse = coarse;
        a.y = parity_space(r, a.n * a.out, DTYPE_F32);
        r->ops->expert_quant_matmul(r->d, &a);
        parity_output(r, a.y, a.n * a.out, DTYPE_F32, coarse ? OP_CASE_COARSE : 2e-5);
    }
}
