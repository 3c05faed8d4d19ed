/*
 * warp: warp operations, tensor cores included, and half precision. Each lane brings its operands;
 * the last lane of the mask to arrive computes for all, directly in the others' operands, since
 * they stand still. Fragment layouts are those of the PTX ISA, as kernel.cuh states them.
 */
#include "tests/cudasim/sim.hh"

static struct {
    uint32_t waiting;
    struct cudasim_warp *lane[32];
    struct sim_thread *thread[32];
} warps[SIM_THREADS / 32];
static int64_t warps_launch; /* what is in warps belongs to this launch */

void cudasim_warp(struct cudasim_warp *op)
{
    struct sim_thread *t = sim.thread;
    unsigned warp = t->index / 32, lane = t->index % 32;
    auto *w = &warps[warp];
    if (warps_launch != sim_launches) { /* the one before may have failed halfway */
        memset(warps, 0, sizeof(warps));
        warps_launch = sim_launches;
    }
    if (!(op->mask >> lane & 1))
        sim_fail(cudaErrorLaunchFailure, "%s (%s:%d): lane %u is not in its mask 0x%08x", op->name,
            op->file, op->line, lane, op->mask);
    t->op = op;
    w->lane[lane] = op;
    w->thread[lane] = t;
    w->waiting |= 1u << lane;
    if ((w->waiting & op->mask) != op->mask) {
        sim_wait(SIM_AT_WARP, op->file, op->line);
        return;
    }
    struct cudasim_warp *all[32] = {};
    for (unsigned i = 0; i < 32; i++) {
        if (!(op->mask >> i & 1))
            continue;
        all[i] = w->lane[i];
        if (all[i]->mask != op->mask || all[i]->combine != op->combine)
            sim_fail(cudaErrorLaunchFailure,
                "%s (%s:%d) with mask 0x%08x, but lane %u is at %s (%s:%d) with "
                "mask 0x%08x",
                op->name, op->file, op->line, op->mask, i, all[i]->name, all[i]->file, all[i]->line,
                all[i]->mask);
    }
    op->combine(all, op->mask);
    for (unsigned i = 0; i < 32; i++)
        if (op->mask >> i & 1)
            w->thread[i]->state = SIM_READY;
    w->waiting &= ~op->mask;
}

void cudasim_combine_sync(struct cudasim_warp *const *, uint32_t)
{
    sim.warp_interval[sim.thread->index / 32]++;
}

void cudasim_combine_shuffle(struct cudasim_warp *const lane[32], uint32_t mask)
{
    for (int i = 0; i < 32; i++) {
        if (!lane[i])
            continue;
        if (lane[i]->from < 0 || lane[i]->from > 31 || !(mask >> lane[i]->from & 1))
            sim_fail(cudaErrorLaunchFailure,
                "%s (%s:%d): lane %d reads lane %d, which is not in the mask "
                "0x%08x",
                lane[i]->name, lane[i]->file, lane[i]->line, i, lane[i]->from, mask);
        lane[i]->out = lane[lane[i]->from]->in;
    }
}

/* Gives `result` to all. */
static void spread(struct cudasim_warp *const lane[32], uint64_t result)
{
    for (int i = 0; i < 32; i++)
        if (lane[i])
            lane[i]->out = result;
}

void cudasim_combine_ballot(struct cudasim_warp *const lane[32], uint32_t)
{
    uint64_t votes = 0;
    for (int i = 0; i < 32; i++)
        if (lane[i] && lane[i]->in)
            votes |= (uint64_t)1 << i;
    spread(lane, votes);
}

void cudasim_combine_add(struct cudasim_warp *const lane[32], uint32_t)
{
    uint64_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += lane[i] ? lane[i]->in : 0;
    spread(lane, sum);
}

void cudasim_combine_max(struct cudasim_warp *const lane[32], uint32_t)
{
    int64_t best = INT64_MIN;
    for (int i = 0; i < 32; i++)
        best = lane[i] ? max((long)best, (long)lane[i]->in) : best;
    spread(lane, (uint64_t)best);
}

void cudasim_combine_min(struct cudasim_warp *const lane[32], uint32_t)
{
    int64_t best = INT64_MAX;
    for (int i = 0; i < 32; i++)
        best = lane[i] ? min((long)best, (long)lane[i]->in) : best;
    spread(lane, (uint64_t)best);
}

static float bf16_of(uint32_t word, int upper) /* of a register */
{
    return __uint_as_float(upper ? word & 0xffff0000u : word << 16);
}

static float f16_of(uint32_t word, int upper)
{
    return cudasim_from_half((uint16_t)(upper ? word >> 16 : word));
}

static void combine_mma(struct cudasim_warp *const lane[32], float (*half_of)(uint32_t, int))
{
    float a[16][16], b[8][16]; /* b[n][k] */
    for (int i = 0; i < 32; i++) {
        int g = i / 4, t = i % 4;
        for (int half = 0; half < 2; half++) {
            int k = 2 * t + half;
            a[g][k] = half_of(lane[i]->a[0], half);
            a[g + 8][k] = half_of(lane[i]->a[1], half);
            a[g][k + 8] = half_of(lane[i]->a[2], half);
            a[g + 8][k + 8] = half_of(lane[i]->a[3], half);
            b[g][k] = half_of(lane[i]->b[0], half);
            b[g][k + 8] = half_of(lane[i]->b[1], half);
        }
    }
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 4; j++) {
            int row = i / 4 + j / 2 * 8, column = i % 4 * 2 + j % 2;
            float sum = lane[i]->d[j];
            for (int k = 0; k < 16; k++)
                sum += a[row][k] * b[column][k];
            lane[i]->d[j] = sum;
        }
}

void cudasim_combine_mma_bf16(struct cudasim_warp *const lane[32], uint32_t)
{
    combine_mma(lane, bf16_of);
}

void cudasim_combine_mma_f16(struct cudasim_warp *const lane[32], uint32_t)
{
    combine_mma(lane, f16_of);
}

void cudasim_combine_ldmatrix(struct cudasim_warp *const lane[32], uint32_t)
{
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 4; j++)
            lane[i]->words[j] = lane[8 * j + i / 4]->row[i % 4];
}

void cudasim_combine_ldmatrix_trans(struct cudasim_warp *const lane[32], uint32_t)
{
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 4; j++) {
            uint16_t pair[2]; /* column i / 4 of rows 2 (i % 4) and the next */
            for (int r = 0; r < 2; r++)
                memcpy(&pair[r], (const char *)lane[8 * j + 2 * (i % 4) + r]->row + i / 4 * 2, 2);
            lane[i]->words[j] = pair[0] | (uint32_t)pair[1] << 16;
        }
}

/* -- half precision -- */
float cudasim_from_half(uint16_t bits)
{
    unsigned exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float x = exponent == 31 ? (mantissa ? NAN : INFINITY)
        : exponent           ? ldexpf((float)(mantissa | 1024), (int)exponent - 25)
                             : ldexpf((float)mantissa, -24);
    return bits & 0x8000 ? -x : x;
}

uint16_t cudasim_to_half(float x)
{
    uint32_t bits = __float_as_uint(x);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    float size = fabsf(x);
    if (std::isnan(x))
        return 0x7fff;
    if (size >= 65520) /* halfway to what would be the next number */
        return sign | 0x7c00;
    if (size < 0x1p-14f) /* subnormal: multiples of 2^-24, rounded to nearest even */
        return (uint16_t)(sign | (uint16_t)nearbyintf(ldexpf(size, 24)));
    bits &= 0x7fffffffu;
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13));
}
