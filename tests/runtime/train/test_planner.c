/*
 * Goal: the planner takes the largest micro-batch that fits and pays, and says how much is missing
 * when none fits. Method: the tiny model under shrinking budgets: the plan fits, and one sequence
 * more would not; a device's chunk of logits by hand.
 */
#include "runtime/train/planner.h"

#include "runtime/train/optim.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

static struct planner_input input(int64_t batch, int world, int64_t budget)
{
    return (struct planner_input){
        .model = {.config = tiny_config(true), .train = true, .sequence_length = 32},
        .batch_sequences = batch,
        .world = world,
        .budget_bytes = budget};
}

START_TEST(budget_bounds_the_micro_batch)
{
    struct planner_input in = input(64, 1, INT64_MAX);
    struct planner_plan p, less;
    struct memplan more;

    ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.micro_sequences, 64); /* 2048 rows */
    while (p.micro_sequences > 1) {
        in.budget_bytes = p.memory.total - 1;
        ck_assert_msg(!planner_plan(&in, &less, &e), "%s", e.text);
        ck_assert_int_eq(less.micro_sequences, p.micro_sequences - 1);
        ck_assert_int_le(less.memory.total, in.budget_bytes);
        in.model.micro_sequences = p.micro_sequences;
        ck_assert(!memplan_model(&in.model, NULL, &more, &e));
        ck_assert_int_eq(more.total, p.memory.total);
        p = less;
    }
    in.budget_bytes = p.memory.total - 1;
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "MiB"));
}
END_TEST

START_TEST(recomputation_is_hinted_at)
{
    struct planner_input in = input(64, 1, INT64_MAX);
    int64_t total[3];
    struct planner_plan p;

    in.model.sequence_length = 2048; /* one sequence a micro-batch */
    for (enum recompute r = 0; r < 3; r++) {
        in.model.recompute = r;
        ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
        total[r] = p.memory.total;
    }
    ck_assert(total[2] < total[1] && total[1] < total[0]);
    in.model.recompute = RECOMPUTE_NONE;
    in.budget_bytes = total[1];
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.recompute: Selective would fit"));
    in.budget_bytes = total[2];
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.recompute: Full would fit"));
    in.budget_bytes = total[2] - 1;
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_MEMORY);
    ck_assert_ptr_null(strstr(e.text, "recompute"));
}
END_TEST

START_TEST(a_sample_may_be_several_sequences)
{
    struct planner_input in = input(64, 1, INT64_MAX), single = in;
    struct planner_plan p, given;
    in.sample_rows = 2;
    ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.micro_sequences, 32); /* 2048 rows */
    single.batch_sequences = 2;
    in.batch_sequences = 1;
    ck_assert(!planner_plan(&in, &p, &e) && !planner_plan(&single, &given, &e));
    ck_assert(p.micro_sequences == 1 && given.micro_sequences == 2);
    ck_assert_int_eq(p.memory.total, given.memory.total);
    in.budget_bytes = p.memory.total;
    ck_assert(!planner_measure(&in, &p, &e));
    ck_assert_int_eq(p.memory.total, given.memory.total);
}
END_TEST

START_TEST(a_given_plan_is_measured)
{
    struct planner_input in = input(64, 2, INT64_MAX);
    struct planner_plan p, given = {.layout = {2, 1, 1, 1, 1}};
    ck_assert(!planner_plan(&in, &p, &e));
    given.micro_sequences = p.micro_sequences;
    given.logit_rows = p.logit_rows;
    in.budget_bytes = p.memory.total;
    ck_assert_msg(!planner_measure(&in, &given, &e), "%s", e.text);
    ck_assert_int_eq(given.memory.total, p.memory.total);
    in.budget_bytes--;
    ck_assert_int_eq(planner_measure(&in, &given, &e), -ERR_MEMORY);
    given.layout.dp = 3;
    ck_assert_int_eq(planner_measure(&in, &given, &e), -ERR_USER);
}
END_TEST

/* State that is divided makes room; and the data axis is what was asked for, or a refusal. */
START_TEST(state_is_divided_over_the_data_axis)
{
    const struct optim_conf oc = {.name = OPTIMIZER_ADAMW};
    struct planner_input in = input(64, 4, INT64_MAX);
    struct planner_plan whole, p;
    in.model.optimizer_fn = optim_bytes;
    in.model.optimizer = &oc;
    in.model.config.layers = 12;
    ck_assert_msg(!planner_plan(&in, &whole, &e), "%s", e.text);
    ck_assert_int_eq(whole.owners, 0);
    in.zero_stage = 1;
    in.data = 4;
    in.rank = 2;
    ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.owners, 4);
    ck_assert_int_lt(p.memory.optimizer, whole.memory.optimizer / 4 + 16384);
    ck_assert_msg(!planner_measure(&in, &p, &e), "%s", e.text);
    ck_assert(p.owners == 4 && p.owner == 2);
    ck_assert_int_lt(p.memory.total, whole.memory.total);
    in.model.slice_fn = optim_owns;
    for (in.zero_stage = 2; in.zero_stage <= 3; in.zero_stage++) {
        whole = p;
        ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
        ck_assert_int_eq(p.owners, 4);
        ck_assert_int_lt(p.memory.total, whole.memory.total);
    }
    in.data = 3;
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.parallelism.data: 3, but the world has 4 ranks"));
    in.world = 1;
    in.data = in.rank = 0;
    ck_assert(!planner_plan(&in, &p, &e) && p.owners == 0);
}
END_TEST

/* Ranks that share sequences have the activations of some tokens each, and all of the weights;
   those with the same weights divide the optimizer's state. */
START_TEST(sequences_are_divided_over_the_context_axis)
{
    struct planner_input in = input(4, 1, INT64_MAX);
    struct planner_plan whole, p;
    in.model.sequence_length = 4096;
    ck_assert_msg(!planner_plan(&in, &whole, &e), "%s", e.text);
    in.world = 8;
    in.context = 4;
    in.rank = 6;
    in.zero_stage = 1;
    ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.micro_sequences, 2); /* as many rows as one rank has of fewer sequences */
    ck_assert(p.layout.dp == 2 && p.layout.cp == 4 && p.owners == 8);
    p.micro_sequences = whole.micro_sequences;
    ck_assert_msg(!planner_measure(&in, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.owner, 6);
    ck_assert_int_eq(p.memory.master, whole.memory.master);
    ck_assert_int_lt(p.memory.saved, whole.memory.saved / 4 + 16384);
    ck_assert_int_lt(p.memory.scratch, whole.memory.scratch);
    in.model.sequence_length = 4100;
    ck_assert_int_eq(planner_plan(&in, &p, &e), -ERR_USER);
    ck_assert_str_eq(
        e.text, "spec.train.sequenceLength: 4100, which is no multiple of 2 x context, 8");
}
END_TEST

/* What all axes together give to a rank of a mixture, and its plan is what is counted of it. */
START_TEST(experts_are_shared_out_in_every_way)
{
    struct planner_input in = input(64, 16, INT64_MAX);
    struct planner_plan p;
    struct model_conf c;

    in.model.sequence_length = 64;
    in.model.config.experts = 4;
    in.model.config.experts_per_token = 2;
    in.model.config.expert_ffn_dim = 25;
    in.tensor = in.pipeline = in.expert = in.context = 2;
    ck_assert_msg(!planner_plan(&in, &p, &e), "%s", e.text);
    ck_assert(p.layout.dp == 1 && p.layout.tp == 2 && p.layout.ep == 2);
    for (in.rank = 0; in.rank < 16; in.rank++) {
        struct place at = layout_place(&p.layout, in.rank);
        struct memplan memory;

        ck_assert_msg(!planner_model(&in, &p, &c, &e), "%s", e.text);
        ck_assert_int_eq(c.config.experts, 2);
        ck_assert_int_eq(c.config.share.first_expert, 2 * at.ep);
        ck_assert_int_eq(c.config.expert_ffn_dim, at.tp ? 12 : 13);
        ck_assert_int_eq(c.config.share.first_expert_ffn, at.tp ? 13 : 0);
        ck_assert(c.stage == at.pp && c.context_rank == at.cp);
        ck_assert(!memplan_model(&c, NULL, &memory, &e));
        ck_assert_int_le(memory.total, p.memory.total);
    }
}
END_TEST

START_TEST(share_bounds_the_micro_batch)
{
    struct planner_input in = input(10, 4, INT64_MAX);
    struct planner_plan p;

    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.micro_sequences, 3);
    ck_assert_int_eq(p.layout.dp, 4);
    in.batch_sequences = 2; /* some ranks have nothing to do */
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.micro_sequences, 1);
    in.model.sequence_length = 60000; /* long sequences still go one by one */
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.micro_sequences, 1);
}
END_TEST

/* Whatever the routers choose: of each token of both ranks two rows may come to the two experts
   here. */
START_TEST(experts_have_room_for_all_that_may_come)
{
    struct planner_input in = input(64, 2, INT64_MAX);
    const int64_t row = 2 * 24 * 4; /* gate and up of a row, F32 */
    struct planner_plan one, two;
    struct model_conf c;

    in.model.config.experts = 4;
    in.model.config.experts_per_token = 2;
    in.model.config.expert_ffn_dim = 24;
    ck_assert_msg(!planner_plan(&in, &one, &e), "%s", e.text);
    in.expert = 2;
    ck_assert_msg(!planner_plan(&in, &two, &e), "%s", e.text);
    ck_assert_int_eq(two.layout.dp, 1);
    ck_assert_int_eq(two.layout.ep, 2);
    ck_assert_int_eq(two.micro_sequences, one.micro_sequences);
    ck_assert(!planner_model(&in, &two, &c, &e));
    ck_assert_int_eq(c.config.experts, 2);
    int64_t tokens = two.micro_sequences * in.model.sequence_length;
    int64_t more = in.model.config.layers * tokens * 2 * row;
    ck_assert_int_ge(two.memory.saved, one.memory.saved + more);
    ck_assert_int_lt(two.memory.saved, one.memory.saved + more * 5 / 4);
    ck_assert_int_lt(two.memory.master, one.memory.master);
    in.world = 6;
    in.expert = 4;
    ck_assert_int_eq(planner_plan(&in, &two, &e), -ERR_USER);
    ck_assert_ptr_nonnull(
        strstr(e.text, "tensor x pipeline x expert x context is 4, which does not divide"));
}
END_TEST

/* On a device logits may take a sixteenth of the memory, up to 8,192 rows. */
START_TEST(devices_take_more_logits)
{
    struct planner_input in = input(4096, 1, INT64_MAX);
    struct planner_plan p;

    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.logit_rows, 0);
    in.rows = 65536;
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.logit_rows, 8192);
    ck_assert_int_eq(p.memory.logits, 8192 * 64 * 4);
    in.budget_bytes = 16 << 20;
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.logit_rows, (1 << 20) / (64 * 4));
    in.model.t = DTYPE_BF16;
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.logit_rows, (1 << 20) / (64 * 6));
}
END_TEST

/* There are few labels: logits of all rows are kept, padded to 64 columns. */
START_TEST(logits_of_labels_are_all_there)
{
    struct planner_input in = input(4096, 1, INT64_MAX);
    struct planner_plan p;

    in.model.config = tiny_bert();
    in.model.sequence_length = 16;
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.micro_sequences, 128);
    ck_assert_int_eq(p.memory.logits, 2048 * 64 * 4);
    in.rows = 65536;
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert_int_eq(p.memory.logits, 65536 * 64 * 4);
}
END_TEST

/* Eight layers by two stages of which the second is three times as slow; all layers are there once,
   and what does not fit is left even. */
START_TEST(stages_follow_speed)
{
    struct planner_input in = input(16, 2, INT64_MAX);
    struct planner_plan even, p;
    struct model_conf c[2];

    in.model.config.layers = 8;
    in.pipeline = 2;
    ck_assert_msg(!planner_plan(&in, &even, &e), "%s", e.text);
    p = even;
    ck_assert(!planner_stages(&in, (int64_t[]){1000, 1100}, &p));
    ck_assert(!memcmp(&p, &even, sizeof p));
    ck_assert(planner_stages(&in, (int64_t[]){1000, 3000}, &p));
    ck_assert(p.stage_layers[0] == 6 && p.stage_layers[1] == 2);
    ck_assert_int_gt(p.memory.total, even.memory.total);
    for (in.rank = 0; in.rank < 2; in.rank++)
        ck_assert_msg(!planner_model(&in, &p, &c[in.rank], &e), "%s", e.text);
    ck_assert(c[0].config.layers == 6 && c[0].config.share.first_layer == 0);
    ck_assert(c[1].config.layers == 2 && c[1].config.share.first_layer == 6);
    in.rank = 0;
    struct planner_plan again = p;
    ck_assert(!planner_measure(&in, &again, &e));
    ck_assert_int_eq(again.memory.total, p.memory.total);
    in.budget_bytes = p.memory.total - 1;
    p = even;
    ck_assert(!planner_stages(&in, (int64_t[]){1000, 3000}, &p));
    ck_assert(!memcmp(&p, &even, sizeof p));
    in = input(16, 2, INT64_MAX); /* there are no stages */
    ck_assert(!planner_plan(&in, &p, &e));
    ck_assert(!planner_stages(&in, (int64_t[]){1}, &p));
}
END_TEST

/* A larger share of the batch than an equal one may have a micro-batch in flight for each stage. */
START_TEST(unlike_shares_have_room_in_pipelines)
{
    struct planner_input in = input(4, 8, INT64_MAX);
    struct planner_plan p;
    struct model_conf c;

    in.model.config.layers = 4;
    in.pipeline = 4;
    in.batch_sequences = 2;
    ck_assert_msg(!planner_with(&in, 1, &p, &e), "%s", e.text);
    ck_assert(!planner_model(&in, &p, &c, &e));
    ck_assert_int_eq(c.in_flight[0], 1);
    in.unlike = true;
    ck_assert(!planner_model(&in, &p, &c, &e));
    ck_assert_int_eq(c.in_flight[0], 4);
}
END_TEST

/* Of four stages in two chunks the first keeps eleven parts of layers, as the paper has it, and has
   room for one more: eight for its first chunk and four for the second; the last five and one. */
START_TEST(chunks_keep_more_micro_batches)
{
    struct planner_input in = input(16, 4, INT64_MAX);
    struct planner_plan p, one;
    struct model_conf c;

    in.model.config.layers = 8;
    in.pipeline = 4;
    ck_assert_msg(!planner_with(&in, 1, &one, &e), "%s", e.text);
    ck_assert_int_eq(one.chunks, 1);
    in.virtual_stages = 2;
    ck_assert_msg(!planner_with(&in, 1, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.chunks, 2);
    ck_assert(!planner_model(&in, &p, &c, &e));
    ck_assert_int_eq(c.config.layers, 2);
    ck_assert_int_eq(c.in_flight[0], 8);
    ck_assert_int_eq(c.in_flight[1], 4);
    double more = (double)p.memory.saved / (double)one.memory.saved; /* four of two layers */
    ck_assert_msg(more > 1.4 && more < 1.6, "%g", more);
    in.rank = 3;
    ck_assert(!planner_model(&in, &p, &c, &e));
    ck_assert_int_eq(c.in_flight[0], 5);
    ck_assert_int_eq(c.in_flight[1], 1);
    ck_assert(!planner_stages(&in, (int64_t[]){1000, 1000, 1000, 3000}, &p));
    in.virtual_stages = 3;
    ck_assert_int_eq(planner_with(&in, 1, &p, &e), -ERR_USER);
}
END_TEST

UNIT_MAIN("planner", budget_bounds_the_micro_batch, recomputation_is_hinted_at,
    a_sample_may_be_several_sequences, a_given_plan_is_measured,
    state_is_divided_over_the_data_axis, sequences_are_divided_over_the_context_axis,
    share_bounds_the_micro_batch, experts_have_room_for_all_that_may_come,
    experts_are_shared_out_in_every_way, devices_take_more_logits, logits_of_labels_are_all_there,
    stages_follow_speed, unlike_shares_have_room_in_pipelines, chunks_keep_more_micro_batches)
