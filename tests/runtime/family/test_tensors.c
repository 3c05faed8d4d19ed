/*
 * Goal: the table of a model's tensors is complete, without overlap, and every tensor is found by
 * its name and by what it is. Method: the tiny models, tied and untied, with and without biases:
 * each entry against the sizes of the configuration and against both ways of looking it up; joined
 * matrices; the order of computing; the axes; SmolLM2's and GPT-2's count of parameters; sizes that
 * overflow.
 * needs: faults
 */
#include "runtime/family/tensors.h"

#include "base/mem.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

static struct err e;

static void make(const struct model_config *c, struct tensors *t)
{
    *t = (struct tensors){0};
    ck_assert_msg(!tensors_create(c, t, &e), "%s", e.text);
}

static const struct tensor *get(
    const struct tensors *t, enum tensor_role role, enum tensor_part part, int layer)
{
    return tensors_get(t, role, part, layer, -1);
}

/* The model's tensors that a layer has, of each weight and of each bias. */
static void check_table(struct model_config c, int count)
{
    struct tensors t;
    int64_t end = 0;
    make(&c, &t);
    ck_assert_int_eq(t.count, count);
    mem_autofree bool *seen = mem_array((size_t)count, sizeof *seen);
    bool vectors = false;
    for (int i = 0; i < count; i++) {
        const struct tensor *x = &t.at[i];
        ck_assert_int_ge(x->offset, end);
        ck_assert_int_lt(x->offset - end, TENSORS_ALIGN);
        ck_assert_int_eq(x->count, x->shape[0] * x->shape[1]);
        ck_assert(x->dims == 2 || x->shape[1] == 1);
        ck_assert_int_eq(x->decay, x->dims == 2);
        ck_assert(x->dims == 1 || !vectors); /* matrices first */
        vectors = x->dims == 1;
        ck_assert_ptr_eq(tensors_find(&t, x->name), x);
        ck_assert_ptr_eq(tensors_get(&t, x->role, x->part, x->layer, x->expert), x);
        ck_assert_msg(x->order >= 0 && x->order < count && !seen[x->order], "%s", x->name);
        seen[x->order] = true;
        end = x->offset + x->count;
    }
    ck_assert_int_eq(t.elements, end);
    ck_assert_ptr_null(tensors_find(&t, "model.norm"));
    ck_assert_ptr_null(tensors_find(&t, ""));
    ck_assert_ptr_null(get(&t, TENSOR_Q, TENSOR_WEIGHT, (int)c.layers));
    ck_assert_ptr_null(get(&t, TENSOR_Q, TENSOR_WEIGHT, -1));
    ck_assert_ptr_null(get(&t, TENSOR_Q, TENSOR_LORA_A, 0));
    ck_assert_ptr_null(get(&t, TENSOR_HEAD, TENSOR_WEIGHT, 0));
    ck_assert_ptr_null(tensors_get(&t, TENSOR_DOWN, TENSOR_WEIGHT, 0, 0)); /* no expert */
    tensors_done(&t);
    ck_assert_ptr_null(tensors_find(&t, "lm_head.weight"));
    ck_assert_ptr_null(get(&t, TENSOR_EMBED, TENSOR_WEIGHT, -1));
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
    check_table(tiny_bert(), 3 + 2 + 3 * 16 + 2);
    check_table(tiny_texts(), 3 + 2 + 3 * 16 + 4);
    check_table(shape_of("tiny-qwen3"), 1 + 3 * 11 + 2);
}
END_TEST

static void is(const struct tensor *x, const char *name, int64_t rows, int64_t columns)
{
    ck_assert_msg(x != NULL, "%s", name);
    ck_assert_str_eq(x->name, name);
    ck_assert_msg(x->shape[0] == rows && x->shape[1] == columns, "%s", name);
}

static void behind(const struct tensor *a, const struct tensor *b)
{
    ck_assert_int_eq(b->offset, a->offset + a->count);
}

START_TEST(tensors_are_found_by_role)
{
    struct model_config c = tiny_config(false); /* 61 words, 24, 6 heads on 2 of 8, 40 */
    struct tensors t;
    make(&c, &t);
    const struct tensor *q = get(&t, TENSOR_Q, TENSOR_WEIGHT, 2);
    is(q, "model.layers.2.self_attn.q_proj.weight", 48, 24);
    is(get(&t, TENSOR_V, TENSOR_WEIGHT, 2), "model.layers.2.self_attn.v_proj.weight", 16, 24);
    behind(q, get(&t, TENSOR_K, TENSOR_WEIGHT, 2));
    behind(get(&t, TENSOR_K, TENSOR_WEIGHT, 2), get(&t, TENSOR_V, TENSOR_WEIGHT, 2));
    ck_assert(q->rotary_heads == 6 && q[1].rotary_heads == 2 && q[2].rotary_heads == 0);
    is(get(&t, TENSOR_O, TENSOR_WEIGHT, 0), "model.layers.0.self_attn.o_proj.weight", 24, 48);
    const struct tensor *gate = get(&t, TENSOR_GATE, TENSOR_WEIGHT, 1);
    is(gate, "model.layers.1.mlp.gate_proj.weight", 40, 24);
    is(&gate[1], "model.layers.1.mlp.up_proj.weight", 40, 24);
    behind(gate, &gate[1]);
    is(get(&t, TENSOR_DOWN, TENSOR_WEIGHT, 1), "model.layers.1.mlp.down_proj.weight", 24, 40);
    is(get(&t, TENSOR_NORM_FFN, TENSOR_WEIGHT, 1), "model.layers.1.post_attention_layernorm.weight",
        24, 1);
    is(get(&t, TENSOR_NORM_FINAL, TENSOR_WEIGHT, -1), "model.norm.weight", 24, 1);
    is(get(&t, TENSOR_HEAD, TENSOR_WEIGHT, -1), "lm_head.weight", 61, 24);
    ck_assert_ptr_null(get(&t, TENSOR_POSITIONS, TENSOR_WEIGHT, -1));
    ck_assert_ptr_null(get(&t, TENSOR_Q, TENSOR_BIAS, 0));
    tensors_done(&t);
    c.tied_embeddings = true;
    make(&c, &t);
    ck_assert_ptr_null(get(&t, TENSOR_HEAD, TENSOR_WEIGHT, -1));
    is(get(&t, TENSOR_EMBED, TENSOR_WEIGHT, -1), "model.embed_tokens.weight", 61, 24);
    tensors_done(&t);
}
END_TEST

START_TEST(norms_of_heads_are_found_by_role)
{
    struct model_config c = shape_of("tiny-qwen3"); /* 6 heads on 2 of 10 */
    struct tensors t;
    make(&c, &t);
    const struct tensor *norm = get(&t, TENSOR_NORM_Q, TENSOR_WEIGHT, 1);
    is(norm, "model.layers.1.self_attn.q_norm.weight", 10, 1);
    is(get(&t, TENSOR_NORM_K, TENSOR_WEIGHT, 2), "model.layers.2.self_attn.k_norm.weight", 10, 1);
    ck_assert(norm->axis == AXIS_NONE && !norm->decay && !norm->rotary_heads);
    ck_assert_int_eq(norm->order, get(&t, TENSOR_V, TENSOR_WEIGHT, 1)->order + 1);
    is(get(&t, TENSOR_Q, TENSOR_WEIGHT, 0), "model.layers.0.self_attn.q_proj.weight", 60, 24);
    tensors_done(&t);
}
END_TEST

START_TEST(tensors_of_gpt2_are_found_by_role)
{
    struct model_config c = tiny_gpt2(); /* 21, 3 heads of 7, 37, 17 positions */
    struct tensors t;
    make(&c, &t);
    is(get(&t, TENSOR_POSITIONS, TENSOR_WEIGHT, -1), "model.embed_positions.weight", 17, 21);
    ck_assert(t.at[1].role == TENSOR_POSITIONS && t.at[1].decay);
    ck_assert_ptr_null(get(&t, TENSOR_GATE, TENSOR_WEIGHT, 1));
    is(get(&t, TENSOR_UP, TENSOR_WEIGHT, 1), "model.layers.1.mlp.up_proj.weight", 37, 21);
    const struct tensor *q = get(&t, TENSOR_Q, TENSOR_BIAS, 2);
    is(q, "model.layers.2.self_attn.q_proj.bias", 21, 1);
    is(&q[2], "model.layers.2.self_attn.v_proj.bias", 21, 1);
    behind(&q[0], &q[1]);
    behind(&q[1], &q[2]);
    ck_assert_int_eq(q->rotary_heads, 0);
    is(get(&t, TENSOR_DOWN, TENSOR_BIAS, 0), "model.layers.0.mlp.down_proj.bias", 21, 1);
    is(get(&t, TENSOR_NORM_FFN, TENSOR_BIAS, 1), "model.layers.1.post_attention_layernorm.bias", 21,
        1);
    is(get(&t, TENSOR_NORM_FINAL, TENSOR_BIAS, -1), "model.norm.bias", 21, 1);
    tensors_done(&t);
}
END_TEST

/* No final norm, and labels instead of a vocabulary. */
START_TEST(tensors_of_bert_are_found_by_role)
{
    struct model_config c = tiny_bert();
    struct tensors t;
    make(&c, &t);
    is(get(&t, TENSOR_TYPES, TENSOR_WEIGHT, -1), "model.embed_types.weight", 2, 21);
    is(get(&t, TENSOR_NORM_EMBED, TENSOR_WEIGHT, -1), "model.embed_norm.weight", 21, 1);
    is(get(&t, TENSOR_NORM_EMBED, TENSOR_BIAS, -1), "model.embed_norm.bias", 21, 1);
    is(get(&t, TENSOR_CLASSIFIER, TENSOR_WEIGHT, -1), "classifier.weight", 5, 21);
    is(get(&t, TENSOR_CLASSIFIER, TENSOR_BIAS, -1), "classifier.bias", 5, 1);
    ck_assert_ptr_null(get(&t, TENSOR_NORM_FINAL, TENSOR_WEIGHT, -1));
    ck_assert_ptr_null(get(&t, TENSOR_HEAD, TENSOR_WEIGHT, -1));
    ck_assert_int_eq(tensors_find(&t, "model.embed_types.weight")->order, 2);
    ck_assert_int_eq(tensors_find(&t, "model.embed_norm.bias")->order, 4);
    ck_assert_int_eq(tensors_find(&t, "classifier.weight")->order, t.count - 2);
    ck_assert_ptr_eq(&t.at[t.count - 1], tensors_find(&t, "classifier.bias"));
    ck_assert(!tensors_find(&t, "classifier.bias")->decay);
    tensors_done(&t);
    c.pooled = true;
    make(&c, &t);
    is(get(&t, TENSOR_POOLER, TENSOR_WEIGHT, -1), "model.pooler.weight", 21, 21);
    is(get(&t, TENSOR_POOLER, TENSOR_BIAS, -1), "model.pooler.bias", 21, 1);
    ck_assert(tensors_find(&t, "model.pooler.weight")->decay);
    ck_assert_int_eq(tensors_find(&t, "model.pooler.weight")->order, t.count - 4);
    ck_assert_int_eq(tensors_find(&t, "classifier.weight")->order, t.count - 2);
    tensors_done(&t);
    c.pooled = false;
    c.tied_embeddings = false;
    make(&c, &t);
    ck_assert_ptr_null(get(&t, TENSOR_HEAD, TENSOR_WEIGHT, -1));
    tensors_done(&t);
}
END_TEST

/* Embeddings, layers, the norm, the head; each bias behind its weight. */
START_TEST(the_order_of_computing_is_known)
{
    static const char *const first[] = {"model.embed_tokens.weight", "model.embed_positions.weight",
        "model.layers.0.input_layernorm.weight", "model.layers.0.input_layernorm.bias",
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.k_proj.weight"};
    static const char *const last[] = {"model.layers.2.mlp.down_proj.weight",
        "model.layers.2.mlp.down_proj.bias", "model.norm.weight", "model.norm.bias",
        "lm_head.weight"};
    struct model_config c = tiny_gpt2();
    struct tensors t;
    c.tied_embeddings = false;
    make(&c, &t);
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(tensors_find(&t, first[i])->order, i);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(tensors_find(&t, last[i])->order, t.count - 5 + i);
    tensors_done(&t);
}
END_TEST

/* The flat range, which optimizers and shards walk. */
START_TEST(the_order_of_the_flat_range_is_known)
{
    static const enum tensor_role layer[] = {
        TENSOR_Q, TENSOR_K, TENSOR_V, TENSOR_O, TENSOR_UP, TENSOR_DOWN};
    static const struct {
        enum tensor_role role;
        enum tensor_part part;
    } vectors[] = {{TENSOR_NORM_ATTENTION, TENSOR_WEIGHT}, {TENSOR_NORM_ATTENTION, TENSOR_BIAS},
        {TENSOR_NORM_FFN, TENSOR_WEIGHT}, {TENSOR_NORM_FFN, TENSOR_BIAS}, {TENSOR_Q, TENSOR_BIAS},
        {TENSOR_K, TENSOR_BIAS}, {TENSOR_V, TENSOR_BIAS}, {TENSOR_O, TENSOR_BIAS},
        {TENSOR_UP, TENSOR_BIAS}, {TENSOR_DOWN, TENSOR_BIAS}};
    struct model_config c = tiny_gpt2();
    struct tensors t;
    c.tied_embeddings = false;
    make(&c, &t);
    const struct tensor *x = t.at;
    ck_assert(x++->role == TENSOR_EMBED && x++->role == TENSOR_POSITIONS);
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < 6; i++, x++)
            ck_assert(x->role == layer[i] && x->part == TENSOR_WEIGHT && x->layer == l);
    ck_assert(x++->role == TENSOR_HEAD);
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < 10; i++, x++)
            ck_assert(x->role == vectors[i].role && x->part == vectors[i].part && x->layer == l);
    ck_assert(x[0].role == TENSOR_NORM_FINAL && x[1].part == TENSOR_BIAS);
    ck_assert_ptr_eq(x + 2, t.at + t.count);
    tensors_done(&t);
}
END_TEST

/* A matrix that is cut by rows gives its bias to those rows; one that is cut by columns has its
   bias added once. */
START_TEST(axes_fit_together)
{
    struct model_config c = tiny_config(false);
    struct tensors t;
    c.qkv_bias = c.o_bias = c.ffn_bias = true;
    make(&c, &t);
    for (int i = 0; i < t.count; i++) {
        const struct tensor *x = &t.at[i];
        bool bias = x->part == TENSOR_BIAS, norm = strstr(x->name, "norm") != NULL;
        bool columns = x->role == TENSOR_O || x->role == TENSOR_DOWN;
        enum tensor_axis want = norm || (columns && bias) ? AXIS_NONE
            : columns                                     ? AXIS_COLUMNS
                                                          : AXIS_ROWS;
        ck_assert_msg(x->axis == want, "%s", x->name);
    }
    tensors_done(&t);
}
END_TEST

START_TEST(linears_are_stacked_by_rows)
{
    struct model_config c = tiny_config(true);
    struct linear_shape s;
    c.qkv_bias = true;
    linear_shape(&c, LINEAR_QKV, &s);
    ck_assert(s.in == 24 && s.out == 48 + 2 * 16 && s.pieces == 3 && s.bias);
    ck_assert(s.role[0] == TENSOR_Q && s.role[1] == TENSOR_K && s.role[2] == TENSOR_V);
    ck_assert(s.rows[0] == 48 && s.rows[1] == 16 && s.rows[2] == 16);
    linear_shape(&c, LINEAR_GATE_UP, &s);
    ck_assert(s.in == 24 && s.out == 80 && s.pieces == 2 && s.role[1] == TENSOR_UP && !s.bias);
    linear_shape(&c, LINEAR_DOWN, &s);
    ck_assert(s.in == 40 && s.out == 24 && s.pieces == 1 && s.role[0] == TENSOR_DOWN);
    c = tiny_gpt2();
    linear_shape(&c, LINEAR_GATE_UP, &s);
    ck_assert(s.out == 37 && s.pieces == 1 && s.role[0] == TENSOR_UP && s.bias);
    ck_assert_str_eq(tensor_short_name(TENSOR_UP), "up_proj");
    ck_assert_str_eq(tensor_short_name(TENSOR_HEAD), "lm_head");
}
END_TEST

/* Experts stand at one distance from each other, gates and ups before downs; files have them expert
   by expert. */
START_TEST(experts_are_a_range)
{
    struct model_config c = shape_of("tiny-qwen3-moe"); /* 5 experts of 13, 24 channels */
    struct linear_shape s;
    struct tensors t;
    make(&c, &t);
    ck_assert_int_eq(t.experts, 5);
    ck_assert_int_eq(t.count, 1 + 2 * (4 + 4 + 1 + 3 * 5) + 2);
    for (int l = 0; l < 2; l++) {
        const struct tensor *router = tensors_get(&t, TENSOR_ROUTER, TENSOR_WEIGHT, l, -1);
        const struct tensor *before = tensors_get(&t, TENSOR_EXPERT_GATE, TENSOR_WEIGHT, l, 0);
        const struct tensor *down = tensors_get(&t, TENSOR_EXPERT_DOWN, TENSOR_WEIGHT, l, 0);
        ck_assert(router->shape[0] == 5 && router->axis == AXIS_NONE && router->expert == -1);
        ck_assert(before[10].role == TENSOR_EXPERT_DOWN && before[10].expert == 0);
        for (int i = 0; i < 5; i++) {
            const struct tensor *gate = tensors_get(&t, TENSOR_EXPERT_GATE, TENSOR_WEIGHT, l, i);
            const struct tensor *up = tensors_get(&t, TENSOR_EXPERT_UP, TENSOR_WEIGHT, l, i);
            const struct tensor *last = tensors_get(&t, TENSOR_EXPERT_DOWN, TENSOR_WEIGHT, l, i);
            ck_assert(gate->expert == i && last->expert == i && up->axis == AXIS_ROWS);
            ck_assert_int_eq(up->offset, gate->offset + gate->count);
            ck_assert_int_eq(gate->offset - before->offset, i * 640); /* 2 * 13 * 24, aligned */
            ck_assert_int_eq(last->offset - down->offset, i * 320);
            ck_assert(up->order == gate->order + 1 && last->order == up->order + 1);
            ck_assert_int_eq(gate->order, router->order + 1 + 3 * i);
        }
    }
    ck_assert_ptr_null(tensors_get(&t, TENSOR_UP, TENSOR_WEIGHT, 0, -1));
    ck_assert_ptr_nonnull(tensors_find(&t, "model.layers.1.mlp.experts.4.down_proj.weight"));
    linear_shape(&c, LINEAR_EXPERT_GATE_UP, &s);
    ck_assert(s.in == 24 && s.out == 26 && s.pieces == 2 && s.role[0] == TENSOR_EXPERT_GATE);
    linear_shape(&c, LINEAR_GATE_UP, &s);
    ck_assert_int_eq(s.pieces, 0);
    tensors_done(&t);
}
END_TEST

START_TEST(gpt2_has_124_439_808_parameters)
{
    struct model_config c = tiny_gpt2();
    struct tensors p = {0};
    int64_t sum = 0;
    c.vocab = 50257;
    c.dim = 768;
    c.layers = c.heads = c.kv_heads = 12;
    c.head_dim = 64;
    c.ffn_dim = 3072;
    c.context = 1024;
    ck_assert(!tensors_create(&c, &p, &e));
    for (int i = 0; i < p.count; i++)
        sum += p.at[i].count;
    ck_assert_int_eq(sum, 124439808);
    tensors_done(&p);
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
    struct tensors p = {0};
    int64_t sum = 0;
    ck_assert(!tensors_create(&c, &p, &e));
    for (int i = 0; i < p.count; i++)
        sum += p.at[i].count;
    ck_assert_int_eq(sum, 134515008);
    tensors_done(&p);
}
END_TEST

static int add(struct tensors *t, int64_t rows, int64_t columns)
{
    struct tensor x = {.role = TENSOR_EMBED, .layer = -1, .expert = -1, .dims = 2};
    x.shape[0] = rows;
    x.shape[1] = columns;
    const struct model_config c = tiny_gpt2();
    return tensors_add(t, &c, &x, false, &e);
}

/* How often the shares of all ranks have each element of x. */
static void count_shares(const struct model_config *whole, int tensor, int pipeline, int expert,
    int chunks, const struct tensor *x, uint8_t *seen)
{
    for (int rank = 0; rank < tensor * pipeline * expert; rank++) {
        const struct model_cut at = {tensor, rank % tensor, pipeline, rank / tensor % pipeline,
            expert, rank / tensor / pipeline, NULL, chunks};
        struct model_config c, back;
        struct tensors part;
        ck_assert_msg(!model_config_share(whole, &at, &c, &e), "%s", e.text);
        back = c;
        model_config_whole(&back);
        ck_assert(!memcmp(&back, whole, sizeof back));
        make(&c, &part);
        const struct tensor *p = tensors_find(&part, x->name);
        for (int64_t k = 0; p && k < p->count; k++)
            seen[(p->begin[0] + k / p->shape[1]) * x->shape[1] + p->begin[1] + k % p->shape[1]]++;
        ck_assert(!p || (p->whole[0] == x->shape[0] && p->whole[1] == x->shape[1]));
        ck_assert(!p || tensor_is_cut(p) == (tensor > 1 && x->axis != AXIS_NONE));
        tensors_done(&part);
    }
}

/* Each element is on one rank, or, of what is not cut, on one rank of each stage that has it;
   and an embedding that is the head, too, on two stages. Of ranks that share experts all have what
   is of no expert. */
static void check_chunks(
    const struct model_config *whole, int tensor, int pipeline, int expert, int chunks)
{
    struct tensors all;
    make(whole, &all);
    for (int i = 0; i < all.count; i++) {
        const struct tensor *x = &all.at[i];
        mem_autofree uint8_t *seen = mem_array((size_t)x->count, 1);
        bool twice = x->role == TENSOR_EMBED && whole->tied_embeddings && pipeline > 1;
        int want = (x->axis == AXIS_NONE ? tensor : 1) * (twice ? 2 : 1);
        want *= tensor_of_expert(x->role) ? 1 : expert;
        count_shares(whole, tensor, pipeline, expert, chunks, x, seen);
        for (int64_t k = 0; k < x->count; k++)
            ck_assert_msg(seen[k] == want, "%s: %d times, not %d", x->name, seen[k], want);
    }
    tensors_done(&all);
}

static void check_shares(const struct model_config *whole, int tensor, int pipeline, int expert)
{
    check_chunks(whole, tensor, pipeline, expert, 1);
}

static void refuse_share(const struct model_config *whole, struct model_cut at, const char *says)
{
    struct model_config out;
    ck_assert_int_eq(model_config_share(whole, &at, &out, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, says));
}

START_TEST(shares_are_the_whole)
{
    struct model_config gpt2 = tiny_gpt2(), llama = tiny_config(true), out;
    check_shares(&gpt2, (int)gpt2.kv_heads, 1, 1);
    check_shares(&gpt2, 2, 2, 1);
    llama.heads = 6;
    llama.kv_heads = 3;
    llama.layers = 5;
    check_shares(&llama, 2, 1, 1); /* two heads and one */
    check_shares(&llama, 1, 3, 1); /* two layers, two and one */
    check_shares(&llama, 3, 5, 1);
    llama.tied_embeddings = false;
    check_shares(&llama, 2, 2, 1);
    ck_assert(
        !model_config_share(&llama, &(struct model_cut){1, 0, 1, 0, 1, 0, NULL, 1}, &out, &e));
    ck_assert(!model_config_is_share(&out) && !memcmp(&out, &llama, sizeof out));
    refuse_share(&llama, (struct model_cut){.tensor_size = 4, .pipeline_size = 1},
        "spec.parallelism.tensor: 4, but spec.model has 3 key/value heads to share out");
    refuse_share(&llama, (struct model_cut){.tensor_size = 1, .pipeline_size = 6},
        "spec.parallelism.pipeline: 6, but spec.model has 5 layers");
    refuse_share(&llama, (struct model_cut){.expert_size = 2},
        "spec.parallelism.expert: 2, but spec.model has 0 experts a layer to share out");
    llama.experts = 4;
    llama.experts_per_token = 2;
    llama.expert_ffn_dim = 24;
    check_shares(&llama, 1, 1, 2);
    check_shares(&llama, 1, 1, 3); /* two experts, one and one */
    check_shares(&llama, 2, 2, 1);
    check_shares(&llama, 2, 2, 2);
    llama.expert_ffn_dim = 23; /* twelve columns and eleven */
    check_shares(&llama, 2, 1, 3);
    refuse_share(&llama, (struct model_cut){.expert_size = 5},
        "spec.parallelism.expert: 5, but spec.model has 4 experts a layer to share out");
    llama.expert_ffn_dim = 2;
    refuse_share(&llama, (struct model_cut){.tensor_size = 3, .pipeline_size = 1},
        "spec.parallelism.tensor: 3, but spec.model has experts of 2 columns to share out");
}
END_TEST

/* Seven layers on two ranks of three chunks each: two, and five of one. */
START_TEST(layers_may_be_in_chunks)
{
    static const struct {
        int stage, begins[4];
        int64_t layers[4];
    } want[] = {{0, {0, 2, 3, 4}, {0, 1, 3, 5}}, {1, {0, 1, 2, 3}, {2, 4, 6}}};
    struct model_config llama = tiny_config(true), c;
    llama.layers = 7;
    for (int i = 0; i < 2; i++) {
        const struct model_cut cut = {1, 0, 2, want[i].stage, 1, 0, NULL, 3};
        ck_assert_msg(!model_config_share(&llama, &cut, &c, &e), "%s", e.text);
        ck_assert_int_eq(c.layers, want[i].begins[3]);
        ck_assert_int_eq(model_config_chunks(&c), 3);
        for (int k = 0; k < 4; k++)
            ck_assert_int_eq(model_config_chunk_begins(&c, k), want[i].begins[k]);
        for (int k = 0; k < c.layers; k++)
            ck_assert_int_eq(model_config_layer(&c, k), want[i].layers[k]);
        for (int k = 0; k < 3; k++) {
            ck_assert_int_eq(model_config_chunk_is_first(&c, k), i == 0 && k == 0);
            ck_assert_int_eq(model_config_chunk_is_last(&c, k), i == 1 && k == 2);
        }
    }
    llama.kv_heads = 2;
    llama.heads = 4;
    check_chunks(&llama, 2, 2, 1, 3);
    check_chunks(&llama, 1, 3, 1, 2);
    refuse_share(&llama, (struct model_cut){.tensor_size = 1, .pipeline_size = 4, .chunks = 2},
        "spec.parallelism.virtualStages: 2 on each of 4 ranks, but spec.model has 7 layers");
}
END_TEST

START_TEST(absurd_sizes_are_refused)
{
    struct tensors t = {0};
    ck_assert_int_eq(add(&t, INT64_MAX / 2, 4), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "model.embed_tokens.weight"));
    ck_assert_int_eq(add(&t, INT64_MAX / 8, 1), -ERR_DATA);
    ck_assert_int_eq(add(&t, 0, 4), -ERR_DATA);
    ck_assert_int_eq(add(&t, 4, 0), -ERR_DATA);
    ck_assert_int_eq(add(&t, -1, 4), -ERR_DATA);
    ck_assert(!t.count && !t.elements);
    tensors_done(&t);
}
END_TEST

static int build(void *user)
{
    struct model_config c = tiny_gpt2();
    struct tensors p = {0};
    int rc = tensors_create(&c, &p, &e);
    (void)user;
    tensors_done(&p);
    return rc;
}

START_TEST(allocation_failures_are_seen)
{
    fault_each(FAULT_MEM, build, NULL);
}
END_TEST

UNIT_MAIN("tensors", tables_are_whole, tensors_are_found_by_role, norms_of_heads_are_found_by_role,
    tensors_of_gpt2_are_found_by_role, tensors_of_bert_are_found_by_role,
    the_order_of_computing_is_known, the_order_of_the_flat_range_is_known, axes_fit_together,
    linears_are_stacked_by_rows, shares_are_the_whole, layers_may_be_in_chunks, experts_are_a_range,
    gpt2_has_124_439_808_parameters, smollm2_has_134_515_008_parameters, absurd_sizes_are_refused,
    allocation_failures_are_seen)
