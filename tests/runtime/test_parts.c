/*
 * Goal: the table of a model's tensors is complete, without overlap, and found by the indexes that
 * model uses. Method: the tiny model, tied and untied, walked against names and shapes; SmolLM2's
 * count of parameters; sizes that overflow.
 */
#include "runtime/parts.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

static void check_table(bool tied)
{
	struct model_config c = tiny_config(tied);
	struct parts p = {0};
	int64_t end = 0;

	ck_assert_msg(!parts_base(&c, &p, &e), "%s", e.text);
	ck_assert_int_eq(p.count, 1 + 3 * 9 + 1 + !tied);
	for (int i = 0; i < p.count; i++) {
		const struct model_part *t = &p.at[i];

		ck_assert_int_ge(t->offset, end);
		ck_assert_int_lt(t->offset - end, PARTS_ALIGN);
		ck_assert_int_eq(t->count, t->shape[0] * (t->dims == 2 ? t->shape[1] : 1));
		ck_assert_int_eq(t->decay, t->dims == 2);
		ck_assert_ptr_eq(parts_find(&p, t->name), t);
		end = t->offset + t->count;
	}
	ck_assert_int_eq(p.elements, end);
	parts_done(&p);
}

START_TEST(tables_are_whole)
{
	check_table(true);
	check_table(false);
}
END_TEST

START_TEST(indexes_point_at_names)
{
	struct model_config c = tiny_config(false);
	struct parts p = {0};
	const struct model_part *q;

	ck_assert(!parts_base(&c, &p, &e));
	q = &p.at[parts_index_linear(2, LINEAR_QKV)];
	ck_assert_str_eq(q[0].name, "model.layers.2.self_attn.q_proj.weight");
	ck_assert_str_eq(q[2].name, "model.layers.2.self_attn.v_proj.weight");
	ck_assert_int_eq(q[1].offset, q[0].offset + q[0].count); /* joined */
	ck_assert_int_eq(q[2].offset, q[1].offset + q[1].count);
	ck_assert_str_eq(p.at[parts_index_linear(0, LINEAR_O)].name,
			 "model.layers.0.self_attn.o_proj.weight");
	q = &p.at[parts_index_linear(1, LINEAR_GATE_UP)];
	ck_assert_str_eq(q[0].name, "model.layers.1.mlp.gate_proj.weight");
	ck_assert_int_eq(q[1].offset, q[0].offset + q[0].count);
	ck_assert_str_eq(p.at[parts_index_linear(1, LINEAR_DOWN)].name,
			 "model.layers.1.mlp.down_proj.weight");
	ck_assert_str_eq(p.at[parts_index_norm(&c, 1, 1)].name,
			 "model.layers.1.post_attention_layernorm.weight");
	ck_assert_str_eq(p.at[parts_index_final_norm(&c)].name, "model.norm.weight");
	ck_assert_str_eq(p.at[parts_index_head(&c)].name, "lm_head.weight");
	c.tied_embeddings = true;
	ck_assert_int_eq(parts_index_head(&c), 0);
	parts_done(&p);
}
END_TEST

START_TEST(smollm2_has_134_515_008_parameters)
{
	struct model_config c = {.vocab = 49152,
				 .dim = 576,
				 .layers = 30,
				 .heads = 9,
				 .kv_heads = 3,
				 .head_dim = 64,
				 .ffn_dim = 1536,
				 .context = 2048,
				 .tied_embeddings = true};
	struct parts p = {0};
	int64_t sum = 0;

	ck_assert(!parts_base(&c, &p, &e));
	for (int i = 0; i < p.count; i++)
		sum += p.at[i].count;
	ck_assert_int_eq(sum, 134515008);
	parts_done(&p);
}
END_TEST

START_TEST(absurd_sizes_are_refused)
{
	struct parts p = {0};

	ck_assert_int_eq(parts_add(&p, "x", INT64_MAX / 2, 4, false, &e), -ERR_DATA);
	ck_assert_int_eq(parts_add(&p, "x", INT64_MAX / 8, 1, false, &e), -ERR_DATA);
	ck_assert_int_eq(parts_add(&p, "x", 0, 4, false, &e), -ERR_DATA);
	ck_assert_int_eq(parts_add(&p, "x", -1, 4, false, &e), -ERR_DATA);
	ck_assert_int_eq(p.count, 0);
	parts_done(&p);
}
END_TEST

static int build(void *user)
{
	struct model_config c = tiny_config(true);
	struct parts p = {0};
	int rc = parts_base(&c, &p, &e);

	(void)user;
	parts_done(&p);
	return rc;
}

START_TEST(allocation_failures_are_seen)
{
	fault_each(FAULT_MEM, build, NULL);
}
END_TEST

UNIT_MAIN("parts", tables_are_whole, indexes_point_at_names, smollm2_has_134_515_008_parameters,
	  absurd_sizes_are_refused, allocation_failures_are_seen)
