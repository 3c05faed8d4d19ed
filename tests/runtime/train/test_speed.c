/*
 * Goal: ranks measure figures that can be true, and all come to the same. Method: worlds of real
 * processes: pods of two ranks each, one pod, one rank a pod, on processors and on simulated GPUs.
 * needs: cuda threads
 */
#include "runtime/train/speed.h"

#include "tests/runtime/coll/ranks.h"
#include "tests/unit.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define RANKS 4

static int pod_ranks;

/* A power of two between what no machine is below and above. */
static bool can_be(double figure, double least, double most)
{
    return figure >= least && figure <= most && exp2(round(log2(figure))) == figure;
}

/* What no machine is slower than; links only where there are four pods to compare, or ranks. */
static bool is_rank(const struct speed_rank *r, int members)
{
    return r->flops_per_s > 1e6 && r->memory_bytes_per_s > 1e6 &&
        (members < 4 ? r->link_bytes_per_s == 0 : r->link_bytes_per_s > 1e3);
}

static int body(struct coll *c, int rank, const struct ranks *w)
{
    struct speed_world world = {
        .coll = c, .dev = ranks_device, .rank = rank, .world = w->size, .pod_ranks = pod_ranks};
    struct cost_speed s;
    struct speed_rank each[RANKS];
    struct err e = {0};
    if (speed_measure(&world, DTYPE_F32, each, &s, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct cost_link links[] = {s.inside, s.between};
    for (int i = 0; i < 2; i++)
        if (!can_be(links[i].latency_s, 1e-7, 60) || !can_be(links[i].bytes_per_s, 1e3, 1e13))
            return 2;
    if (!can_be(s.flops_per_s, 1e6, 1e16) || !can_be(s.memory_bytes_per_s, 1e6, 1e14))
        return 3;
    if (s.pod_ranks != pod_ranks || s.shared != !strcmp(w->kind, "cpu"))
        return 4;
    for (int i = 0; i < w->size; i++)
        if (!is_rank(&each[i], w->size / (pod_ranks < w->size ? pod_ranks : 1)))
            return 6;
    if (!ranks_same(c, each, (size_t)w->size * sizeof *each, w))
        return 7;
    return ranks_same(c, &s, offsetof(struct cost_speed, pod_ranks), w) ? 0 : 5;
}

START_TEST(all_come_to_the_same)
{
    pod_ranks = 2;
    ranks_run((struct ranks){.size = 4, .replica = {0, 0, 1, 1}, .kind = "cpu"}, body);
    ranks_run((struct ranks){.size = 2, .kind = "cpu"}, body);
    pod_ranks = 1;
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .kind = "cpu"}, body);
    ranks_run((struct ranks){.size = RANKS, .replica = {0, 1, 2, 3}, .kind = "cpu"}, body);
}
END_TEST

START_TEST(devices_too)
{
    pod_ranks = 2;
    ranks_run((struct ranks){.size = 2, .kind = "cuda"}, body);
    ranks_run((struct ranks){.size = 2, .kind = "cuda", .staged = true}, body);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"speed", 60, NULL, NULL},
        (const TTest *const[]){all_come_to_the_same, devices_too, NULL});
}
