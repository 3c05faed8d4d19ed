/*
 * Goal: of the layouts that a world may have the fastest that fits is chosen, and nothing is that
 * was told or is not allowed. Method: the tiny model under shrinking budgets, and a world's every
 * layout by hand; and the layouts that Megatron-LM's authors chose for models of 1.7 to 1,008
 * billion parameters, on figures of the devices that they had.
 * needs: sample
 */
#include "runtime/train/choose.h"

#include "runtime/train/optim.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <stdio.h>

static struct err e;

/* -- what has been published -- */

/* Narayanan et al., arXiv:2104.04473, table 1: weak scaling on DGX A100 nodes, GPT of 2,048 tokens
   a sequence and 51,200 tokens of vocabulary; TFLOP/s of a GPU as reached. Chunks of a stage's
   layers from the authors' commands for that table (Megatron-LM, examples/sc21/run_table_1.sh):
   layers / pipeline / --num-layers-per-virtual-pipeline-stage. */
static const struct published {
    double billions;
    int heads, dim, layers, tensor, pipeline, chunks, ranks, batch;
    double tflops;
} published[] = {
    {1.7, 24, 2304, 24, 1, 1, 1, 32, 512, 137},
    {3.6, 32, 3072, 30, 2, 1, 1, 64, 512, 138},
    {7.5, 32, 4096, 36, 4, 1, 1, 128, 512, 142},
    {18.4, 48, 6144, 40, 8, 1, 1, 256, 1024, 135},
    {39.1, 64, 8192, 48, 8, 2, 1, 512, 1536, 138},
    {76.1, 80, 10240, 60, 8, 4, 3, 1024, 1792, 140},
    {145.6, 96, 12288, 80, 8, 8, 2, 1536, 2304, 148},
    {310.1, 128, 16384, 96, 8, 16, 2, 1920, 2160, 155},
    {529.6, 128, 20480, 105, 8, 35, 3, 2520, 2520, 163},
    {1008.0, 160, 25600, 128, 8, 64, 1, 3072, 3072, 163},
};
#define ROWS ((int)(sizeof published / sizeof *published))
#define WANT 9 /* of them */

/* The vendor's figures of an A100 80GB (312 TFLOP/s in BF16, seven tenths of which large products
   are taken to reach; 2,039 GB/s of memory; NVLink of 300 GB/s one way) and of InfiniBand HDR, a
   port a GPU (200 Gb/s); NCCL's own figures of a step (src/graph/tuning.cc, Ring, Simple). */
static const struct cost_speed a100 = {.flops_per_s = 0.7 * 312e12,
    .memory_bytes_per_s = 2039e9,
    .inside = {3.4e-6, 300e9},
    .between = {14e-6, 25e9},
    .pod_ranks = 8,
    .trees = true};
#define A100_BYTES (80LL << 30)

static const struct optim_conf adamw = {.name = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.95};

/* As they trained: FP16 weights beside F32 ones, every layer made again, no state divided. */
static struct planner_input published_input(const struct published *r)
{
    struct model_config c = tiny_gpt2();
    c.vocab = 51200;
    c.dim = r->dim;
    c.layers = r->layers;
    c.heads = c.kv_heads = r->heads;
    c.head_dim = r->dim / r->heads;
    c.ffn_dim = 4 * (int64_t)r->dim;
    c.context = 2048;
    return (struct planner_input){.model = {.config = c,
                                      .t = DTYPE_BF16,
                                      .train = true,
                                      .sequence_length = 2048,
                                      .recompute = RECOMPUTE_FULL,
                                      .optimizer_fn = optim_bytes,
                                      .optimizer = &adamw},
        .batch_sequences = r->batch,
        .world = r->ranks,
        .virtual_stages = r->chunks,
        .budget_bytes = A100_BYTES / 10 * 9,
        .rows = 65536,
        .most = {.tensor = r->ranks, .pipeline = r->ranks}};
}

/* Operations of a step as the paper counts them (its equation 3). */
static double published_flops(const struct published *r)
{
    double h = r->dim, s = 2048, l = r->layers;
    return 96 * r->batch * s * l * h * h * (1 + s / (6 * h) + 51200 / (16 * l * h));
}

static int rank_of(const struct choices *all, const struct published *r)
{
    for (int i = 0; i < all->fitting; i++)
        if (all->at[i].tensor == r->tensor && all->at[i].pipeline == r->pipeline)
            return i;
    return -1;
}

static bool compare_published(const struct published *r)
{
    const struct planner_input in = published_input(r);
    struct choices all;
    char best[CHOOSE_TEXT_BYTES];
    ck_assert_msg(!choose_layouts(&in, &a100, &all, &e), "%s", e.text);
    int at = rank_of(&all, r);
    ck_assert_int_ge(at, 0);
    const struct layout_choice *c = &all.at[at];
    choose_text(&all.at[0], best);
    double reached = published_flops(r) / r->ranks / (r->tflops * 1e12);
    printf("%7.1f %6d %4d %4d  %2d of %3d  %8.2f s %8.2f s  %-20s %8.2f s %5.2f\n", r->billions,
        r->ranks, r->tensor, r->pipeline, at + 1, all.fitting, reached, c->cost.total, best,
        all.at[0].cost.total, c->cost.total / reached);
    choose_done(&all);
    return at < 2;
}

START_TEST(published_layouts_are_among_the_two_best)
{
    int good = 0;
    printf("billion  ranks   tp   pp  place        measured  predicted  best                 "
           "predicted  pred./meas.\n");
    for (int i = 0; i < ROWS; i++)
        good += compare_published(&published[i]);
    printf("%d of %d published layouts are among the two that are predicted to be fastest\n", good,
        ROWS);
    fflush(stdout);
    ck_assert_int_ge(good, WANT);
}
END_TEST

/* -- what is open, and what is not -- */

static const struct cost_speed slow = {.flops_per_s = 1e9,
    .memory_bytes_per_s = 1e9,
    .inside = {1e-4, 1e9},
    .between = {1e-3, 1e8},
    .pod_ranks = 2};

/* Four ranks, and a model of four layers and two key/value heads; everything open. */
static struct planner_input open_input(int64_t budget)
{
    struct model_config c = tiny_config(true);
    c.layers = 4;
    c.heads = 4;
    c.kv_heads = 2;
    return (struct planner_input){.model = {.config = c,
                                      .train = true,
                                      .sequence_length = 32,
                                      .optimizer_fn = optim_bytes,
                                      .optimizer = &adamw},
        .batch_sequences = 32,
        .world = 4,
        .budget_bytes = budget,
        .most = {.tensor = 4, .pipeline = 4, .zero_stage = 3}};
}

static void list(const struct planner_input *in, char *out, size_t size)
{
    struct choices all;
    int n = 0;
    ck_assert_msg(!choose_layouts(in, &slow, &all, &e), "%s", e.text);
    *out = 0;
    for (int zero = 0; zero < 4; zero++)
        for (int tp = 1; tp <= 4; tp++)
            for (int pp = 1; pp <= 4; pp++)
                for (int i = 0; i < all.count; i++)
                    if (all.at[i].zero_stage == zero && all.at[i].tensor == tp &&
                        all.at[i].pipeline == pp)
                        n += snprintf(out + n, size - (size_t)n, "%d.%d.%d ", tp, pp, zero);
    choose_done(&all);
}

START_TEST(each_legal_layout_is_there_once)
{
    struct planner_input in = open_input(INT64_MAX);
    char text[256];
    list(&in, text, sizeof text); /* no tensor 4: there are two key/value heads */
    ck_assert_str_eq(text, "1.1.0 1.2.0 1.4.0 2.1.0 2.2.0 1.1.1 1.2.1 2.1.1 1.1.2 1.1.3 ");
    in.tensor = 2;
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "2.1.0 2.2.0 2.1.1 ");
    in.tensor = 1;
    in.zero_stage = 1;
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "1.1.1 1.2.1 1.4.1 ");
    in.zero_stage = 3; /* of a model that is not shared else */
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "1.1.3 ");
    in = open_input(INT64_MAX);
    in.data = 2; /* two ranks share a model, somehow */
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "1.2.0 2.1.0 1.2.1 2.1.1 ");
    in = open_input(INT64_MAX);
    in.most.tensor = in.most.pipeline = 0;
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "1.1.0 1.1.1 1.1.2 1.1.3 ");
    in.model.config.experts = 4;
    in.model.config.experts_per_token = 2;
    in.model.config.expert_ffn_dim = 8;
    in.most.tensor = 4; /* experts' columns with the heads, of which there are two */
    list(&in, text, sizeof text);
    ck_assert_str_eq(text, "1.1.0 2.1.0 1.1.1 2.1.1 1.1.2 1.1.3 ");
}
END_TEST

START_TEST(nothing_is_open_where_all_is_told)
{
    struct planner_input in = open_input(1);
    ck_assert(choose_may(&in));
    in.tensor = in.pipeline = in.zero_stage = 1;
    ck_assert(!choose_may(&in));
    in = open_input(1);
    in.world = 1;
    ck_assert(!choose_may(&in));
    in.world = 4;
    in.most.tensor = in.most.pipeline = in.most.zero_stage = 0;
    ck_assert(!choose_may(&in));
}
END_TEST

/* From all memory down to none: what is taken fits, nothing that fits is faster, and of the layouts
   fewer and fewer fit. */
START_TEST(the_fastest_that_fits_is_taken)
{
    struct planner_input in = open_input(INT64_MAX);
    const struct err told = {.code = ERR_MEMORY, .text = "told"};
    struct choices all;
    int fitting = 11;
    int64_t budget = 4 << 20;
    for (;; budget = budget * 15 / 16) {
        struct planner_plan p;
        in = open_input(budget);
        ck_assert(!choose_layouts(&in, &slow, &all, &e));
        ck_assert_int_eq(all.count, 10);
        ck_assert_int_le(all.fitting, fitting);
        fitting = all.fitting;
        int rc = choose_plan(&in, &slow, &told, &p, &e);
        if (!fitting) {
            ck_assert_int_eq(rc, -ERR_MEMORY);
            ck_assert_ptr_nonnull(strstr(e.text, "told; dp"));
            ck_assert_ptr_nonnull(strstr(e.text, ", the least of 10 layouts, takes"));
            break;
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_int_le(p.memory.total, budget);
        ck_assert(in.tensor == all.at[0].tensor && in.pipeline == all.at[0].pipeline);
        for (int i = 1; i < all.count; i++)
            ck_assert(i >= fitting ? all.at[i].plan.memory.total > budget
                                   : all.at[i].cost.total >= all.at[0].cost.total);
        ck_assert_ptr_nonnull(strstr(p.reason, "is predicted to be the fastest of"));
        struct planner_plan again; /* what was taken, told */
        ck_assert_msg(
            !planner_measure(&in, &p, &e) && !planner_plan(&in, &again, &e), "%s", e.text);
        choose_done(&all);
    }
    choose_done(&all);
    ck_assert_int_lt(budget, 1 << 20);
}
END_TEST

/* Refused as it was told, where there is nothing else. */
START_TEST(what_cannot_be_is_refused_as_told)
{
    struct planner_input in = open_input(INT64_MAX);
    const struct err told = {.code = ERR_USER, .text = "told"};
    struct planner_plan p;
    struct choices all;
    in.data = 3;
    ck_assert_int_eq(choose_plan(&in, &slow, &told, &p, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "told");
    ck_assert_int_eq(choose_layouts(&in, &slow, &all, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.parallelism.data: 3"));
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "choose"},
        (const TTest *const[]){each_legal_layout_is_there_once, nothing_is_open_where_all_is_told,
            the_fastest_that_fits_is_taken, what_cannot_be_is_refused_as_told,
            published_layouts_are_among_the_two_best, NULL});
}
