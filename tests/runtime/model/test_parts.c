/*
 * Goal: the table of a model's tensors is complete, without overlap, and found by the indexes that
 * model uses. Method: the tiny models, tied and untied, walked against names and shapes and against
 * family's list of the same tensors; SmolLM2's and GPT-2's count of parameters; sizes that
 * overflow.
 * needs: faults
 */
#include "runtime/model/parts.h"

#include "runtime/family/family.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

static void check_table(struct model_config c, int count)
{
    struct parts p = {0};
    int64_t end = 0;

    ck_assert_msg(!parts_base(&c, &p, &e), "%s", e.text);
    ck_assert_int_eq(p.count, count);
    ck_assert_int_eq(family_tensor_count(&c), count);
    for (int i = 0; i < count; i++) {
        struct family_tensor t;
        const struct model_part *found;

        family_tensor(&c, i, &t);
        found = parts_find(&p, t.name);
        ck_assert_msg(found != NULL, "%s", t.name);
        ck_assert(found->dims == t.dims && found->shape[0] == t.shape[0]);
        ck_assert(t.dims == 1 || found->shape[1] == t.shape[1]);
    }
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
    struct model_config c = tiny_config(true);

    check_table(c, 1 + 3 * 9 + 1);
    check_table(tiny_config(false), 1 + 3 * 9 + 2);
    c.qkv_bias = true;
    check_table(c, 1 + 3 * 12 + 1);
    c.o_bias = c.ffn_bias = true;
    check_table(c, 1 + 3 * 16 + 1);
    check_table(tiny_gpt2(), 2 + 3 * 16 + 2);
}
END_TEST

START_TEST(indexes_point_at_names)
{
    struct model_config c = tiny_config(false);
    struct parts p = {0};
    const struct model_part *q;

    ck_assert(!parts_base(&c, &p, &e));
    q = &p.at[parts_index_linear(&c, 2, LINEAR_QKV)];
    ck_assert_str_eq(q[0].name, "model.layers.2.self_attn.q_proj.weight");
    ck_assert_str_eq(q[2].name, "model.layers.2.self_attn.v_proj.weight");
    ck_assert_int_eq(q[1].offset, q[0].offset + q[0].count); /* joined */
    ck_assert_int_eq(q[2].offset, q[1].offset + q[1].count);
    ck_assert_str_eq(
        p.at[parts_index_linear(&c, 0, LINEAR_O)].name, "model.layers.0.self_attn.o_proj.weight");
    q = &p.at[parts_index_linear(&c, 1, LINEAR_GATE_UP)];
    ck_assert_str_eq(q[0].name, "model.layers.1.mlp.gate_proj.weight");
    ck_assert_int_eq(q[1].offset, q[0].offset + q[0].count);
    ck_assert_str_eq(
        p.at[parts_index_linear(&c, 1, LINEAR_DOWN)].name, "model.layers.1.mlp.down_proj.weight");
    ck_assert_str_eq(
        p.at[parts_index_norm(&c, 1, 1)].name, "model.layers.1.post_attention_layernorm.weight");
    ck_assert_str_eq(p.at[parts_index_final_norm(&c)].name, "model.norm.weight");
    ck_assert_str_eq(p.at[parts_index_head(&c)].name, "lm_head.weight");
    c.tied_embeddings = true;
    ck_assert_int_eq(parts_index_head(&c), 0);
    parts_done(&p);
}
END_TEST

START_TEST(indexes_of_gpt2_point_at_names)
{
    struct model_config c = tiny_gpt2();
    struct parts p = {0};
    const struct model_part *q;

    ck_assert_int_eq(parts_index_positions(&c), 1);
    ck_assert(!parts_base(&c, &p, &e));
    ck_assert_str_eq(p.at[1].name, "model.embed_positions.weight");
    ck_assert(p.at[1].shape[0] == 17 && p.at[1].decay);
    ck_assert_str_eq(
        p.at[parts_index_linear(&c, 1, LINEAR_GATE_UP)].name, "model.layers.1.mlp.up_proj.weight");
    q = &p.at[parts_index_bias(&c, 2, LINEAR_QKV)];
    ck_assert_str_eq(q[0].name, "model.layers.2.self_attn.q_proj.bias");
    ck_assert_str_eq(q[2].name, "model.layers.2.self_attn.v_proj.bias");
    ck_assert_int_eq(q[1].offset, q[0].offset + q[0].count); /* joined */
    ck_assert_int_eq(q[2].offset, q[1].offset + q[1].count);
    ck_assert_str_eq(
        p.at[parts_index_bias(&c, 0, LINEAR_DOWN)].name, "model.layers.0.mlp.down_proj.bias");
    q = &p.at[parts_index_norm(&c, 1, 1)];
    ck_assert_str_eq(q[0].name, "model.layers.1.post_attention_layernorm.weight");
    ck_assert_str_eq(q[1].name, "model.layers.1.post_attention_layernorm.bias");
    q = &p.at[parts_index_final_norm(&c)];
    ck_assert_str_eq(q[0].name, "model.norm.weight");
    ck_assert_str_eq(q[1].name, "model.norm.bias");
    parts_done(&p);
    c = tiny_config(true);
    ck_assert_int_eq(parts_index_positions(&c), -1);
}
END_TEST

START_TEST(gpt2_has_124_439_808_parameters)
{
    struct model_config c = tiny_gpt2();
    struct parts p = {0};
    int64_t sum = 0;

    c.vocab = 50257;
    c.dim = 768;
    c.layers = c.heads = c.kv_heads = 12;
    c.head_dim = 64;
    c.ffn_dim = 3072;
    c.context = 1024;
    ck_assert(!parts_base(&c, &p, &e));
    for (int i = 0; i < p.count; i++)
        sum += p.at[i].count;
    ck_assert_int_eq(sum, 124439808);
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
    struct model_config c = tiny_gpt2();
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

UNIT_MAIN("parts", tables_are_whole, indexes_point_at_names, indexes_of_gpt2_point_at_names,
    gpt2_has_124_439_808_parameters, smollm2_has_134_515_008_parameters, absurd_sizes_are_refused,
    allocation_failures_are_seen)
