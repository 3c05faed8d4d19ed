/*
 * ref_sample: the reference of drawing tokens: probabilities relative to the greatest, rounded to
 * F32; their sum in double, before rounding. It serves the fast kind as well: it runs once a token
 * and sequence. Threads share sequences or, of one, its probabilities, which are added up in order.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

#include <assert.h>
#include <omp.h>

#define REF_ALONE 4096 /* so few probabilities are one thread's */

struct ref_candidate {
    float p;
    int32_t id;
};

static bool ref_likelier(struct ref_candidate x, struct ref_candidate y)
{
    return x.p != y.p ? x.p > y.p : x.id < y.id;
}

/* A heap, the likeliest on top: only the nucleus is ever sorted, and nothing is allocated. */
static void ref_sift(struct ref_candidate *heap, int64_t n, int64_t at)
{
    struct ref_candidate moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && ref_likelier(heap[child + 1], heap[child]))
            child++;
        if (!ref_likelier(heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static int32_t ref_greatest(const float *logits, int64_t v)
{
    int32_t best = 0;
    for (int64_t j = 1; j < v; j++)
        if (logits[j] > logits[best])
            best = (int32_t)j;
    return best;
}

/* The candidates of a row by index; *sum is that of all probabilities; returns how many. */
static int64_t ref_candidates(const float *logits, int64_t v, double temperature, double top_p,
    struct ref_candidate *out, double *sum)
{
    double top = logits[ref_greatest(logits, v)], p;
    int64_t n = 0;
    static_assert(sizeof p == sizeof *out, "a probability stands where its candidate will");
#pragma omp parallel for schedule(static) private(p) if (v > REF_ALONE && !omp_in_parallel())
    for (int64_t j = 0; j < v; j++) {
        p = exp((logits[j] - top) / temperature);
        memcpy(&out[j], &p, sizeof p);
    }
    *sum = 0;
    for (int64_t j = 0; j < v; j++) {
        memcpy(&p, &out[j], sizeof p);
        out[j] = (struct ref_candidate){(float)p, (int32_t)j};
        *sum += p;
    }
    /* What is left out sums up to less than 1 - top_p. */
    double least = top_p < 1 ? (1 - top_p) / (double)v * *sum : 0;
    for (int64_t j = 0; j < v; j++)
        if (out[j].p >= least)
            out[n++] = out[j];
    return n;
}

/* Moves the nucleus, likeliest first, to the end of the n candidates, backwards; returns its
   size. */
static int64_t ref_nucleus(struct ref_candidate *heap, int64_t n, double enough, double *kept)
{
    int64_t left = n;
    for (int64_t i = n / 2; i-- > 0;)
        ref_sift(heap, n, i);
    while (left > 0 && *kept < enough) {
        struct ref_candidate top = heap[0];
        *kept += top.p;
        heap[0] = heap[--left];
        heap[left] = top;
        if (left > 0)
            ref_sift(heap, left, 0);
    }
    return n - left;
}

static int32_t ref_draw(const float *logits, int64_t v, double temperature, double top_p, double u,
    struct ref_candidate *c)
{
    double kept = 0, sum;
    int64_t n = ref_candidates(logits, v, temperature, top_p, c, &sum), end = 0;
    if (top_p < 1) {
        end = ref_nucleus(c, n, top_p * sum, &kept);
    } else {
        while (end < n && kept < sum)
            kept += c[end++].p;
    }
    int32_t drawn = c[0].id; /* what remains when a logit is no number */
    double left = u * kept;
    for (int64_t j = 0; j < end; j++) {
        const struct ref_candidate *at = &c[top_p < 1 ? n - 1 - j : j];
        drawn = at->id;
        left -= at->p;
        if (left < 0)
            break;
    }
    return drawn;
}

static void ref_draw_row(const struct op_sample *a, int64_t i, struct ref_candidate *candidates)
{
    const float *logits = a->logits + i * a->v;
    struct ref_candidate *own = candidates + a->v * omp_get_thread_num();
    a->token[i] = a->temperature[i] <= 0
        ? ref_greatest(logits, a->v)
        : ref_draw(logits, a->v, a->temperature[i], a->top_p[i], a->u[i], own);
}

void op_ref_sample(struct dev *d, const struct op_sample *a)
{
    struct ref_candidate *candidates =
        cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(a->v * omp_get_max_threads()) * sizeof *candidates);
    if (!candidates)
        return;
    if (a->n == 1) { /* not within a region of one thread, where a team is made anew */
        ref_draw_row(a, 0, candidates);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < a->n; i++)
        ref_draw_row(a, i, candidates);
}
