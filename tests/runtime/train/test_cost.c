/*
 * Goal: each part of a step's predicted time is what it is said to be. Method: one figure of a
 * device or a link made to be all that costs, and what remains counted by hand for a tiny model.
 */
#include "runtime/train/cost.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define T 32
#define B 16

static struct err e;

static struct planner_input input(int world, int tensor, int pipeline)
{
    struct model_config c = tiny_gpt2();
    c.layers = 4;
    c.heads = c.kv_heads = 4;
    c.head_dim = 8;
    c.dim = 32;
    c.ffn_dim = 128;
    c.vocab = 64;
    c.context = T;
    return (struct planner_input){.model = {.config = c, .train = true, .sequence_length = T},
        .batch_sequences = B,
        .world = world,
        .tensor = tensor,
        .pipeline = pipeline,
        .budget_bytes = INT64_MAX};
}

/* Free, but for what is set later. */
static struct cost_speed free_of_cost(int pod_ranks)
{
    return (struct cost_speed){.flops_per_s = INFINITY,
        .memory_bytes_per_s = INFINITY,
        .inside = {0, INFINITY},
        .between = {0, INFINITY},
        .pod_ranks = pod_ranks};
}

static struct cost cost_of(const struct planner_input *in, int micro, const struct cost_speed *s)
{
    struct planner_plan p;
    struct cost c;
    ck_assert_msg(!planner_with(in, micro, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.micro_sequences, micro);
    cost_step(in, &p, s, &c);
    ck_assert_double_eq_tol(
        c.compute + c.tensor + c.expert + c.context + c.pipeline + c.idle + c.data + c.optimizer,
        c.total, 1e-9 * c.total);
    return c;
}

static void is_near(double got, double want)
{
    ck_assert_msg(fabs(got - want) <= 1e-9 * fabs(want), "%.12g, not %.12g", got, want);
}

/* Of a row: a layer's 12 C^2 matrices and T/2 keys and values, the head's V C; each product forward
   and twice backward. A micro-batch of n rows takes the time of 16 more (PLANNER_ROWS / 128). */
START_TEST(operations_are_counted)
{
    struct planner_input in = input(1, 1, 1);
    struct cost_speed s = free_of_cost(1);
    s.flops_per_s = 1e9;
    double layer = 2.0 * 12 * 32 * 32 + 4.0 * 32 * T / 2, head = 2.0 * 64 * 32;
    double rows = B * T * (1 + 16.0 / (2 * T));
    is_near(cost_of(&in, 2, &s).compute, 3 * rows * (4 * layer + head) / 1e9);
    in.model.recompute = RECOMPUTE_SELECTIVE; /* one of the feed-forward's two */
    is_near(
        cost_of(&in, 2, &s).compute, rows * (4 * (3 * layer + 2.0 * 4 * 32 * 32) + 3 * head) / 1e9);
    in.model.recompute = RECOMPUTE_FULL; /* all but the other */
    is_near(
        cost_of(&in, 2, &s).compute, rows * (4 * (4 * layer - 2.0 * 4 * 32 * 32) + 3 * head) / 1e9);
    in.model.recompute = RECOMPUTE_NONE;
    static const char *const targets[] = {"q_proj", NULL};
    in.model.lora_rank = 4; /* no gradients of the matrices */
    in.model.lora_targets = targets;
    double scores = 4.0 * 32 * T / 2;
    is_near(cost_of(&in, 2, &s).compute, rows * (4 * (2 * layer + scores) + 2 * head) / 1e9);
}
END_TEST

START_TEST(shares_of_layers_are_summed_up)
{
    struct planner_input in = input(4, 4, 1);
    struct cost_speed s = free_of_cost(4);
    s.inside.bytes_per_s = 1e6;
    /* Four sums a layer, one of the embedding and one of the head, each (n, C) F32. */
    double one = 2.0 * 3 / 4 * 2 * T * 32 * 4 / 1e6;
    is_near(cost_of(&in, 2, &s).tensor, 8 * (4 * 4 + 2) * one);
    in.model.recompute = RECOMPUTE_FULL;
    is_near(cost_of(&in, 2, &s).tensor, 8 * (5 * 4 + 2) * one);
    s.inside.latency_s = 1;
    is_near(cost_of(&in, 2, &s).tensor, 8 * (5 * 4 + 2) * (6 + one)); /* two laps of a ring */
    s.inside.latency_s = 0;
    s.pod_ranks = 2; /* half of them: both ways out of a pod are the group's */
    s.between = (struct cost_link){0, 4e5};
    is_near(cost_of(&in, 2, &s).tensor, 8 * (5 * 4 + 2) * one * 1e6 / 8e5);
    s.pod_ranks = 1;
    is_near(cost_of(&in, 2, &s).tensor, 8 * (5 * 4 + 2) * one * 1e6 / 4e5);
}
END_TEST

/* Two stages of two layers; the second has the head as well, and the first waits for it. */
START_TEST(stages_wait_for_the_slowest)
{
    struct planner_input in = input(2, 1, 2);
    struct cost_speed s = free_of_cost(2);
    s.flops_per_s = 1e9;
    double layer = 2.0 * 12 * 32 * 32 + 4.0 * 32 * T / 2, head = 2.0 * 64 * 32;
    double micro = 3 * T * (1 + 16.0 / T) * (2 * layer + head) / 1e9;
    struct cost c = cost_of(&in, 1, &s);
    is_near(c.compute, B * micro);
    is_near(c.idle, micro);
    s = free_of_cost(2);
    s.inside.bytes_per_s = 1e6;
    c = cost_of(&in, 1, &s);
    is_near(c.pipeline, B * 2 * (T * 32 * 4 / 1e6)); /* there and back */
    is_near(c.data, in.model.config.tied_embeddings ? 4.0 * 64 * 32 / 1e6 : 0);
}
END_TEST

/* Stages of a pod that share its processor take what they take together, and wait for other pods
   alone. */
START_TEST(stages_of_a_pod_share_its_processor)
{
    struct planner_input in = input(4, 1, 4);
    struct cost_speed s = free_of_cost(2);
    s.flops_per_s = 1e9;
    s.shared = true;
    double layer = 2.0 * 12 * 32 * 32 + 4.0 * 32 * T / 2, head = 2.0 * 64 * 32;
    double rows = 3 * T * (1 + 16.0 / T) / 1e9;
    struct cost c = cost_of(&in, 1, &s); /* the second pod has the head */
    is_near(c.compute, B * rows * (layer + head / 2));
    is_near(c.idle, rows * (layer + head / 2));
    in.model.config.layers = 5; /* two and one in the first */
    c = cost_of(&in, 1, &s);
    is_near(c.compute, B * rows * 1.5 * layer);
    is_near(c.idle, rows * 1.5 * layer);
    s.pod_ranks = 4;
    in.model.config.layers = 6;
    c = cost_of(&in, 1, &s);
    is_near(c.compute, B * rows * (6 * layer + head) / 4);
    is_near(c.idle, 0);
    in = input(4, 1, 2); /* two replicas, whose stages are two ranks apart: a pod has no two */
    s.pod_ranks = 2;
    c = cost_of(&in, 1, &s);
    is_near(c.compute, B / 2 * rows * (2 * layer + head));
    is_near(c.idle, rows * (2 * layer + head));
    in.virtual_stages = 2;
    in.batch_sequences = B - 2; /* seven micro-batches a replica */
    s.pod_ranks = 4;
    c = cost_of(&in, 1, &s);
    is_near(c.compute, 7 * rows * (4 * layer + head) / 2);
    is_near(c.idle, 0);
}
END_TEST

/* Two stages of two chunks of a layer: half as long idle, and twice the messages; of an odd number
   of micro-batches one is missing. */
START_TEST(chunks_wait_less_and_tell_more)
{
    struct planner_input in = input(2, 1, 2);
    struct cost_speed s = free_of_cost(2);
    s.flops_per_s = 1e9;
    in.virtual_stages = 2;
    double layer = 2.0 * 12 * 32 * 32 + 4.0 * 32 * T / 2, head = 2.0 * 64 * 32;
    double micro = 3 * T * (1 + 16.0 / T) * (2 * layer + head) / 1e9;
    struct cost c = cost_of(&in, 1, &s);
    is_near(c.compute, B * micro);
    is_near(c.idle, micro / 2);
    in.batch_sequences = B - 1;
    is_near(cost_of(&in, 1, &s).idle, micro / 2 + micro);
    in.batch_sequences = B;
    s = free_of_cost(2);
    s.inside.bytes_per_s = 1e6;
    is_near(cost_of(&in, 1, &s).pipeline, B * 2 * 2 * (T * 32 * 4 / 1e6));
    in.model.config.layers = 5; /* two, one, one and one: all wait for the two */
    s = free_of_cost(2);
    s.flops_per_s = 1e9;
    is_near(cost_of(&in, 1, &s).compute, B * 3 * T * (1 + 16.0 / T) * 4 * layer / 1e9);
}
END_TEST

START_TEST(gradients_and_state_pass)
{
    struct planner_input in = input(4, 1, 1);
    struct planner_plan p;
    struct cost_speed s = free_of_cost(2);
    ck_assert(!planner_with(&in, 1, &p, &e));
    double bytes = (double)p.memory.gradient;
    s.inside.bytes_per_s = 8e6;
    s.between.bytes_per_s = 1e6;
    is_near(cost_of(&in, 1, &s).data, 2.0 * 3 / 4 * bytes / 2e6);
    s = free_of_cost(2);
    s.memory_bytes_per_s = 1e6;
    is_near(cost_of(&in, 1, &s).optimizer, (4 * bytes + 2.0 * (double)p.memory.optimizer) / 1e6);
    in.zero_stage = 1;
    struct cost whole = cost_of(&in, 1, &s);
    ck_assert(!planner_with(&in, 1, &p, &e));
    is_near(whole.optimizer, (bytes + 2.0 * (double)p.memory.optimizer) / 1e6);
    s = free_of_cost(2);
    s.inside.bytes_per_s = 8e6;
    s.between.bytes_per_s = 1e6;
    double half = 3.0 / 4 * bytes / 2e6, batches = (double)in.batch_sequences / 4;
    is_near(cost_of(&in, 1, &s).data, 2 * half);
    in.zero_stage = 2;
    is_near(cost_of(&in, 1, &s).data, (batches + 1) * half);
    in.zero_stage = 3;
    is_near(cost_of(&in, 1, &s).data, 3 * batches * half);
}
END_TEST

/* Steps of a gradient's sum over 64 pods of two ranks, where bytes cost nothing: the host's rings,
   NCCL's, and its trees; halves go around a ring. */
START_TEST(latency_grows_with_ranks)
{
    struct planner_input in = input(128, 1, 1);
    struct cost_speed s = free_of_cost(2);
    in.batch_sequences = 128;
    s.inside.latency_s = 1;
    s.between.latency_s = 100;
    is_near(cost_of(&in, 1, &s).data, 2 * 1 + 2 * 63 * 100);
    in.zero_stage = 1;
    is_near(cost_of(&in, 1, &s).data, 2 * 1 + 2 * 63 * 100);
    s.trees = true;
    is_near(cost_of(&in, 1, &s).data, 2 * 64 * 1 + 2 * 63 * 100);
    in.zero_stage = 0;
    is_near(cost_of(&in, 1, &s).data, 2 * 1 + 2 * 6 * 100);
    s = free_of_cost(2); /* a ring moves less */
    s.trees = true;
    s.inside.bytes_per_s = s.between.bytes_per_s = 1e6;
    struct planner_plan p;
    ck_assert(!planner_with(&in, 1, &p, &e));
    is_near(cost_of(&in, 1, &s).data, 2.0 * 127 / 128 * (double)p.memory.gradient / 1e6);
}
END_TEST

/* Three halves a layer of all tokens' keys and values; gradients over both axes. */
START_TEST(keys_and_values_pass)
{
    struct planner_input in = input(4, 1, 1);
    struct planner_plan p;
    struct cost_speed s = free_of_cost(4);
    in.context = 2;
    ck_assert(!planner_with(&in, 2, &p, &e));
    s.inside.bytes_per_s = 1e6;
    double keys = 2 * T * 2 * 32 * 4, batches = B / 2 / 2;
    struct cost c = cost_of(&in, 2, &s);
    is_near(c.context, batches * 4 * 3 * keys / 2 / 1e6);
    is_near(c.data, 2.0 * 3 / 4 * (double)p.memory.gradient / 1e6);
    in.model.recompute = RECOMPUTE_FULL;
    is_near(cost_of(&in, 2, &s).context, batches * 4 * 4 * keys / 2 / 1e6);
    s = free_of_cost(4);
    s.inside.latency_s = 1;
    in.model.recompute = RECOMPUTE_NONE;
    is_near(cost_of(&in, 2, &s).context, batches * 4 * 3);
    is_near(cost_of(&in, 2, &s).data, 6);
}
END_TEST

/* Rows go two ways forward and three back; what is not of experts is summed up between them. */
START_TEST(rows_go_to_their_experts)
{
    struct planner_input in = input(4, 1, 1);
    struct model_config *m = &in.model.config;
    struct planner_plan p;
    struct cost_speed s = free_of_cost(4);
    *m = tiny_config(true);
    m->layers = 4;
    m->heads = m->kv_heads = 4;
    m->head_dim = 8;
    m->dim = 32;
    m->experts = 4;
    m->experts_per_token = 2;
    m->expert_ffn_dim = 16;
    in.expert = 2;
    ck_assert_msg(!planner_with(&in, 1, &p, &e), "%s", e.text);
    s.inside.bytes_per_s = 1e6;
    double rows = T * 2 * 32 * 4, batches = B / 4, experts = 4.0 * 4 * 2 * 3 * 32 * 16;
    struct cost c = cost_of(&in, 1, &s);
    is_near(
        c.expert, batches * 4 * 5 * rows / 2 / 1e6 + ((double)p.memory.gradient - experts) / 1e6);
    is_near(c.data, (double)p.memory.gradient / 1e6);
    s = free_of_cost(4);
    s.inside.latency_s = 1;
    is_near(cost_of(&in, 1, &s).expert, batches * 4 * 5 + 2);
    in.tensor = in.pipeline = 2; /* two layers, which follow one another, of half the columns */
    in.world = 8;
    s = free_of_cost(8);
    s.inside.bytes_per_s = 1e6;
    ck_assert_msg(!planner_with(&in, 1, &p, &e), "%s", e.text);
    batches = B / 2;
    is_near(cost_of(&in, 1, &s).expert,
        batches * 2 * 5 * rows / 2 / 1e6 + ((double)p.memory.gradient - experts / 4) / 1e6);
}
END_TEST

UNIT_MAIN("cost", operations_are_counted, shares_of_layers_are_summed_up,
    stages_wait_for_the_slowest, stages_of_a_pod_share_its_processor,
    chunks_wait_less_and_tell_more, gradients_and_state_pass, latency_grows_with_ranks,
    keys_and_values_pass, rows_go_to_their_experts)
