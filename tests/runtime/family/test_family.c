/*
 * Goal: names and configurations of both formats come out as the one canonical form; what is not
 * known is refused. Method: tables; the golden config.json; a configuration written and read back.
 */
#include "runtime/family/family.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

static const struct model_config tiny = {
    .architecture = "llama",
    .vocab = 256,
    .dim = 64,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 16,
    .ffn_dim = 128,
    .context = 128,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true,
    .bos_id = 1,
    .eos_id = 2,
    .pad_id = -1,
};

static const struct model_config gpt2 = {
    .architecture = "gpt2",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 4,
    .head_dim = 8,
    .ffn_dim = 128,
    .context = 48,
    .norm_eps = 1e-5f,
    .norm = NORM_LAYER,
    .activation = ACTIVATION_GELU,
    .positions = POSITIONS_LEARNED,
    .qkv_bias = true,
    .o_bias = true,
    .ffn_bias = true,
    .scaled_init = true,
    .tied_embeddings = true,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
};

static const struct model_config qwen2 = {
    .architecture = "qwen2",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 8,
    .ffn_dim = 48,
    .context = 64,
    .norm_eps = 1e-6f,
    .rope_theta = 10000,
    .qkv_bias = true,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
};

static const struct model_config qwen3 = {
    .architecture = "qwen3",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 12,
    .ffn_dim = 48,
    .context = 64,
    .norm_eps = 1e-6f,
    .rope_theta = 1000000,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
    .qk_norm = true,
};

static const struct model_config mistral = {
    .architecture = "mistral",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 8,
    .ffn_dim = 48,
    .context = 64,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
    .window = 7,
};

static const struct model_config llama3 = {
    .architecture = "llama",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 16,
    .ffn_dim = 48,
    .context = 64,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
    .rope_scaling = {OP_ROPE_LLAMA3, 8, 1, 4, 32},
};

static const struct model_config bert = {
    .architecture = "bert",
    .vocab = 96,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 4,
    .head_dim = 8,
    .ffn_dim = 64,
    .context = 48,
    .norm_eps = 1e-12f,
    .norm = NORM_LAYER,
    .activation = ACTIVATION_GELU_ERF,
    .positions = POSITIONS_LEARNED,
    .qkv_bias = true,
    .o_bias = true,
    .ffn_bias = true,
    .tied_embeddings = true,
    .post_norm = true,
    .bidirectional = true,
    .embed_norm = true,
    .types = 2,
    .labels = 5,
    .bos_id = -1,
    .eos_id = -1,
    .pad_id = 0,
};

static const struct model_config qwen3_moe = {
    .architecture = "qwen3_moe",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 12,
    .ffn_dim = 48,
    .context = 64,
    .norm_eps = 1e-6f,
    .rope_theta = 1000000,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
    .qk_norm = true,
    .experts = 4,
    .experts_per_token = 2,
    .expert_ffn_dim = 24,
    .balance_loss_coef = 0.5f,
};

static const struct model_config mixtral = {
    .architecture = "mixtral",
    .vocab = 131,
    .dim = 32,
    .layers = 2,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 8,
    .ffn_dim = 20,
    .context = 64,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .bos_id = 0,
    .eos_id = 0,
    .pad_id = -1,
    .experts = 4,
    .experts_per_token = 2,
    .expert_ffn_dim = 20,
    .norm_topk = true,
    .balance_loss_coef = 0.25f,
};

static void check_equal(const struct model_config *a, const struct model_config *b)
{
    ck_assert_str_eq(a->architecture, b->architecture);
    ck_assert(a->vocab == b->vocab && a->dim == b->dim && a->layers == b->layers);
    ck_assert(a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim);
    ck_assert(a->ffn_dim == b->ffn_dim && a->context == b->context);
    ck_assert(a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta);
    ck_assert(a->norm == b->norm && a->activation == b->activation);
    ck_assert(a->positions == b->positions && a->qkv_bias == b->qkv_bias);
    ck_assert(a->o_bias == b->o_bias && a->ffn_bias == b->ffn_bias);
    ck_assert(a->scaled_init == b->scaled_init);
    ck_assert(a->tied_embeddings == b->tied_embeddings);
    ck_assert(a->post_norm == b->post_norm && a->bidirectional == b->bidirectional);
    ck_assert(a->embed_norm == b->embed_norm && a->types == b->types && a->labels == b->labels);
    ck_assert(!a->labels || (a->pooled == b->pooled && a->last == b->last));
    ck_assert(!a->labels || a->several == b->several);
    ck_assert(a->masked == b->masked);
    ck_assert_int_eq(a->more_eos_count, b->more_eos_count);
    ck_assert_mem_eq(a->more_eos, b->more_eos, sizeof a->more_eos);
    ck_assert(a->bos_id == b->bos_id && a->eos_id == b->eos_id && a->pad_id == b->pad_id);
    ck_assert(a->window == b->window && a->qk_norm == b->qk_norm);
    ck_assert_mem_eq(&a->rope_scaling, &b->rope_scaling, sizeof a->rope_scaling);
    ck_assert(a->experts == b->experts && a->experts_per_token == b->experts_per_token);
    ck_assert(a->expert_ffn_dim == b->expert_ffn_dim && a->norm_topk == b->norm_topk);
    ck_assert(a->balance_loss_coef == b->balance_loss_coef);
}

static void check_golden(const char *path, const struct model_config *want)
{
    struct model_config c;
    struct err e = {0};
    ck_assert_msg(model_config_read(path, &c, &e) == 0, "%s", e.text);
    check_equal(&c, want);
}

START_TEST(the_golden_configs_are_read)
{
    struct model_config c;
    struct err e = {0};
    check_golden(GOLDEN "tiny-llama/config.json", &tiny);
    check_golden(GOLDEN "tiny-gpt2/config.json", &gpt2);
    check_golden(GOLDEN "tiny-qwen2/config.json", &qwen2);
    check_golden(GOLDEN "tiny-bert/config.json", &bert);
    c = bert;
    c.labels = 3;
    c.pooled = true;
    check_golden(GOLDEN "tiny-bert-texts/config.json", &c);
    check_golden(GOLDEN "tiny-qwen3/config.json", &qwen3);
    check_golden(GOLDEN "tiny-mistral/config.json", &mistral);
    check_golden(GOLDEN "tiny-llama3/config.json", &llama3);
    check_golden(GOLDEN "tiny-qwen3-moe/config.json", &qwen3_moe);
    check_golden(GOLDEN "tiny-mixtral/config.json", &mixtral);
    ck_assert_int_eq(model_config_read("tests/none.json", &c, &e), -ERR_DATA);
}
END_TEST

static void write_and_read(const struct model_config *c, const char *holds)
{
    struct model_config back;
    buf_auto struct buf text;
    buf_init(&text, 1 << 16);
    struct jsonw w;
    jsonw_init(&w, &text);
    family_config_write(c, NULL, DTYPE_BF16, &w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_msg(strstr(text.data, holds) != NULL, "%s", text.data);
    json_auto struct json *v = NULL;
    struct err e = {0};
    ck_assert_int_eq(json_parse(text.data, text.len, &v, &e), 0);
    ck_assert_msg(family_config_json(v, "config.json", &back, &e) == 0, "%s", e.text);
    check_equal(c, &back);
}

START_TEST(a_config_survives_writing_and_reading)
{
    struct model_config c = tiny;
    c.norm_eps = 9.999999747378752e-06f;
    c.rope_theta = 130000;
    c.tied_embeddings = false;
    write_and_read(&c, "1e-05");
    c.qkv_bias = c.o_bias = true;
    write_and_read(&c, "attention_bias");
    c.ffn_bias = true;
    write_and_read(&c, "LlamaForCausalLM");
    write_and_read(&gpt2, "GPT2LMHeadModel");
    write_and_read(&qwen2, "Qwen2ForCausalLM");
    write_and_read(&bert, "BertForTokenClassification");
    write_and_read(&qwen3, "Qwen3ForCausalLM");
    write_and_read(&mistral, "\"sliding_window\":7");
    write_and_read(&qwen3_moe, "Qwen3MoeForCausalLM");
    write_and_read(&mixtral, "\"num_local_experts\":4");
    c = mixtral;
    c.window = 9;
    c.balance_loss_coef = 0;
    write_and_read(&c, "\"router_aux_loss_coef\":0.0");
    c = qwen3_moe;
    c.norm_topk = true;
    write_and_read(&c, "\"norm_topk_prob\":true");
    write_and_read(&llama3, "\"original_max_position_embeddings\":32");
    c = mistral;
    c.window = 0;
    write_and_read(&c, "\"sliding_window\":null");
    c = qwen3;
    c.window = 9;
    write_and_read(&c, "\"use_sliding_window\":true");
    c = qwen2;
    c.window = 9;
    c.rope_scaling = (struct op_rope_scaling){.kind = OP_ROPE_LINEAR, .factor = 2.5f};
    write_and_read(&c, "\"rope_type\":\"linear\"");
    write_and_read(&bert, "\"id2label\":{\"0\":\"LABEL_0\",");
    c = bert;
    c.pooled = true;
    write_and_read(&c, "[\"BertForSequenceClassification\"]");
    c.several = true;
    write_and_read(&c, "\"problem_type\":\"multi_label_classification\"");
    c = bert;
    c.labels = 0;
    c.masked = true;
    write_and_read(&c, "[\"BertForMaskedLM\"]");
    const struct model_config *const decoders[] = {&tiny, &qwen2, &qwen3, &mistral};
    static const char *const classes[] = {"[\"LlamaForSequenceClassification\"]",
        "[\"Qwen2ForSequenceClassification\"]", "[\"Qwen3ForSequenceClassification\"]",
        "[\"MistralForSequenceClassification\"]"};
    for (int i = 0; i < 4; i++) {
        c = *decoders[i];
        c.labels = 3;
        c.last = true;
        write_and_read(&c, classes[i]);
        c.several = true;
        write_and_read(&c, "multi_label_classification");
        struct gguf_writer *none = NULL;
        struct err e = {0};
        ck_assert_int_eq(family_gguf_write(&c, none, &e), -ERR_DATA);
        ck_assert_ptr_nonnull(strstr(e.text, "a model with labels is written as a Hugging Face"));
    }
    c = bert;
    c.labels = 0;
    c.types = 1;
    write_and_read(&c, "[\"BertModel\"]");
}
END_TEST

START_TEST(labels_go_by_their_names)
{
    static const char *const names[] = {"B-\"X\"", "I-\xc3\xa9", "O"};
    struct model_config c = bert;
    buf_auto struct buf text;
    struct jsonw w;
    buf_init(&text, 1 << 16);
    c.labels = 3;
    jsonw_init(&w, &text);
    family_config_write(&c, names, DTYPE_F32, &w);
    ck_assert_int_eq(jsonw_end(&w), 0);
    json_auto struct json *v = NULL;
    struct err e = {0};
    ck_assert_int_eq(json_parse(text.data, text.len, &v, &e), 0);
    for (int i = 0; i < 3; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        ck_assert_str_eq(json_str(json_get(v, "id2label"), key, ""), names[i]);
        ck_assert_int_eq(json_int(json_get(v, "label2id"), names[i], -1), i);
    }
    ck_assert_int_eq((int)json_count(json_get(v, "label2id")), 3);
    /* a file counts by id2label, by num_labels, or has transformers' two */
    static const struct {
        const char *more;
        int64_t labels;
        bool pooled; /* if the file has one */
    } rows[] = {
        {"\"architectures\":[\"BertForTokenClassification\"]", 2, false},
        {"\"architectures\":[\"BertForTokenClassification\"],\"num_labels\":7", 7, false},
        {"\"architectures\":[\"BertForTokenClassification\"],\"id2label\":{\"0\":\"O\"}", 1, false},
        {"\"architectures\":[\"BertForSequenceClassification\"],\"num_labels\":7", 7, true},
        {"\"architectures\":[\"BertForMaskedLM\"],\"id2label\":{\"0\":\"O\"}", 0, true},
        {"\"architectures\":null", 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_auto struct json *config = NULL;
        char short_config[256];
        int n = snprintf(
            short_config, sizeof short_config, "{\"model_type\":\"bert\",%s}", rows[i].more);
        ck_assert_int_eq(json_parse(short_config, (size_t)n, &config, &e), 0);
        ck_assert_msg(!family_config_json(config, "c.json", &c, &e), "%s", e.text);
        ck_assert_msg(c.labels == rows[i].labels && c.vocab == 30522, "%s", rows[i].more);
        ck_assert_msg(c.pooled == rows[i].pooled, "%s", rows[i].more);
    }
}
END_TEST

START_TEST(lists_of_end_tokens_survive)
{
    struct model_config c = tiny;
    c.more_eos[0] = 0;
    c.more_eos_count = 1;
    write_and_read(&c, "\"eos_token_id\":[2,0]");
    ck_assert(model_config_ends(&c, 2) && model_config_ends(&c, 0));
    ck_assert(!model_config_ends(&c, 1) && !model_config_ends(&c, -1));
    c.more_eos[0] = 256;
    struct err e = {0};
    ck_assert_int_eq(model_config_check(&c, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "256"));
}
END_TEST

/* What no config.json of the architecture can say is refused before it is written. */
START_TEST(what_cannot_be_expressed_is_refused)
{
    struct err e = {0};
    struct model_config c = tiny;
    ck_assert_int_eq(family_config_expressible(&tiny, &e), 0);
    ck_assert_int_eq(family_config_expressible(&gpt2, &e), 0);
    ck_assert_int_eq(family_config_expressible(&qwen2, &e), 0);
    ck_assert_int_eq(family_config_expressible(&qwen3, &e), 0);
    ck_assert_int_eq(family_config_expressible(&mistral, &e), 0);
    ck_assert_int_eq(family_config_expressible(&qwen3_moe, &e), 0);
    ck_assert_int_eq(family_config_expressible(&mixtral, &e), 0);
    for (int i = 0; i < 4; i++) {
        c = i == 0 ? qwen3_moe : i == 1 ? qwen3 : mixtral;
        c.experts = i == 0 ? 0 : 4;
        c.norm_topk = i != 2;
        c.expert_ffn_dim += i == 3;
        ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
        ck_assert(strstr(e.text, "has these experts") && strstr(e.text, c.architecture));
    }
    c = tiny;
    c.window = 9;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = qwen3;
    c.qk_norm = false;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = mistral;
    c.qk_norm = true;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.rope_scaling = llama3.rope_scaling;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = tiny;
    c.qkv_bias = true; /* and no o_bias */
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = tiny;
    c.norm = NORM_LAYER;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = qwen2;
    c.qkv_bias = false;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.kv_heads = 2;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.positions = POSITIONS_ROTARY;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.labels = 5;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.pooled = true;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = gpt2;
    c.types = 2;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = tiny;
    c.bidirectional = true;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = bert;
    ck_assert_int_eq(family_config_expressible(&c, &e), 0);
    c.activation = ACTIVATION_GELU;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    c = bert;
    c.post_norm = false;
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
    snprintf(c.architecture, sizeof c.architecture, "t5");
    ck_assert_int_eq(family_config_expressible(&c, &e), -ERR_DATA);
}
END_TEST

#define BASE \
    "\"vocab_size\":256,\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128"
/* Where a config.json is silent transformers' defaults hold; and both of its ways to say how
   frequencies are scaled are read. */
START_TEST(silence_and_other_ways_to_say_it)
{
    static const struct {
        const char *config;
        int64_t head_dim, kv_heads, context, window;
        struct op_rope_scaling scaling;
    } rows[] = {
        {"\"model_type\":\"llama\"", 2, 32, 2048, 0, {0}},
        {"\"model_type\":\"qwen3\"", 128, 32, 32768, 0, {0}},
        {"\"model_type\":\"mistral\"", 2, 8, 131072, 4096, {0}},
        {"\"model_type\":\"mistral\",\"sliding_window\":null", 2, 8, 131072, 0, {0}},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":2", 2, 32,
            2048, 0, {0}},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":0,"
         "\"sliding_window\":5",
            2, 32, 2048, 5, {0}},
        {"\"model_type\":\"qwen3\",\"use_sliding_window\":true,\"sliding_window\":5,"
         "\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]",
            128, 32, 32768, 5, {0}},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":false,\"sliding_window\":5", 2, 32, 2048,
            0, {0}},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}", 2, 32,
            2048, 0, {.kind = OP_ROPE_LINEAR, .factor = 4}},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":32.0,"
         "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
         "\"original_max_position_embeddings\":8192}",
            2, 32, 2048, 0, {OP_ROPE_LLAMA3, 32, 1, 4, 8192}},
        {"\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":32,"
         "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192,"
         "\"rope_theta\":500000.0}",
            2, 32, 2048, 0, {OP_ROPE_LLAMA3, 32, 1, 4, 8192}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_auto struct json *v = NULL;
        struct model_config c;
        struct err e = {0};
        char text[1024];
        int n =
            snprintf(text, sizeof text, "{%s," BASE ",\"num_attention_heads\":32}", rows[i].config);
        ck_assert_int_eq(json_parse(text, (size_t)n, &v, &e), 0);
        ck_assert_msg(!family_config_json(v, "c.json", &c, &e), "%s", e.text);
        ck_assert_msg(c.head_dim == rows[i].head_dim && c.kv_heads == rows[i].kv_heads &&
                c.context == rows[i].context && c.window == rows[i].window,
            "%s", rows[i].config);
        ck_assert_mem_eq(&c.rope_scaling, &rows[i].scaling, sizeof c.rope_scaling);
    }
}
END_TEST

#define MIXTURE BASE ",\"num_attention_heads\":4,\"num_experts\":4,\"num_experts_per_tok\":2"
static const struct {
    const char *config, *says;
} bad[] = {
    {"[]", "not an object"},
    {"{\"model_type\":\"t5\"}",
        "\"t5\"; what is read: llama, qwen2, qwen3, mistral, gpt2, bert, "
        "qwen3_moe, mixtral"},
    {"{\"model_type\":\"qwen3_moe\"," BASE ",\"num_attention_heads\":4,\"num_experts\":4}",
        "8 experts for each token of 4"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"num_local_experts\":5}", "num_local_experts"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"decoder_sparse_step\":2}", "decoder_sparse_step"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"mlp_only_layers\":[0]}", "mlp_only_layers"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"shared_expert_intermediate_size\":9}",
        "shared_expert_intermediate_size"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"router_aux_loss_coef\":-1}", "coefficient -1"},
    {"{\"model_type\":\"qwen3_moe\"," MIXTURE ",\"use_sliding_window\":true}",
        "use_sliding_window = true"},
    {"{\"model_type\":\"qwen3_moe\"," BASE ",\"num_attention_heads\":4,\"num_experts\":1025}",
        "1025 experts"},
    {"{\"model_type\":\"mixtral\"," BASE ",\"num_attention_heads\":8,\"num_local_experts\":0}",
        "num_local_experts"},
    {"{\"model_type\":\"mixtral\"," BASE ",\"num_attention_heads\":8,\"router_jitter_noise\":0.1}",
        "router_jitter_noise"},
    {"{\"model_type\":\"mixtral\",\"vocab_size\":9,\"hidden_size\":16,\"num_attention_heads\":8,"
     "\"num_hidden_layers\":1000,\"intermediate_size\":8,\"num_local_experts\":1000}",
        "1000 layers of 1000 experts"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"num_experts\":4}",
        "num_experts"},
    {"{\"model_type\":\"bert\",\"hidden_act\":\"relu\"}", "hidden_act \"relu\""},
    {"{\"model_type\":\"bert\",\"position_embedding_type\":\"relative_key\"}",
        "position_embedding_type \"relative_key\""},
    {"{\"model_type\":\"bert\",\"is_decoder\":true}", "is_decoder"},
    {"{\"model_type\":\"bert\",\"add_cross_attention\":true}", "add_cross_attention"},
    {"{\"model_type\":\"bert\",\"type_vocab_size\":0}", "type_vocab_size"},
    {"{\"model_type\":\"bert\",\"type_vocab_size\":70000}", "token types"},
    {"{\"model_type\":\"bert\",\"num_attention_heads\":7}", "hidden size"},
    {"{\"model_type\":\"bert\",\"architectures\":[\"BertForTokenClassification\"],"
     "\"id2label\":{}}",
        "id2label"},
    {"{\"model_type\":\"bert\",\"architectures\":[\"BertForTokenClassification\"],"
     "\"num_labels\":70000}",
        "labels"},
    {"{\"model_type\":\"llama\"," BASE "}", "num_attention_heads"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":0}", "num_attention_heads"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":2.5}", "num_attention_heads"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"num_key_value_heads\":3}",
        "no multiple"},
    {"{\"model_type\":\"qwen2\"," BASE
     ",\"num_attention_heads\":4,\"use_sliding_window\":true,\"max_window_layers\":1}",
        "max_window_layers = 1 of 2 layers"},
    {"{\"model_type\":\"qwen2\"," BASE
     ",\"num_attention_heads\":4,\"use_sliding_window\":true,\"layer_types\":"
     "[\"sliding_attention\",\"full_attention\"]}",
        "layer_types other than sliding_attention"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"use_sliding_window\":true}",
        "use_sliding_window = true"},
    {"{\"model_type\":\"mistral\"," BASE ",\"num_attention_heads\":4,\"num_key_value_heads\":4,"
     "\"sliding_window\":0}",
        "sliding_window"},
    {"{\"model_type\":\"qwen3\"," BASE ",\"num_attention_heads\":32,\"attention_bias\":true}",
        "attention_bias = true"},
    {"{\"model_type\":\"llama\"," BASE
     ",\"num_attention_heads\":4,\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}",
        "rotary scaling \"linear\" lacks a number"},
    {"{\"model_type\":\"llama\"," BASE
     ",\"num_attention_heads\":4,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
     "\"low_freq_factor\":4,\"high_freq_factor\":4,\"original_max_position_embeddings\":9}}",
        "rotary scaling \"llama3\" lacks a number"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"rope_scaling\":{}}",
        "rotary scaling \"unnamed\""},
    {"{\"model_type\":\"gpt2\",\"activation_function\":\"relu\"}", "relu"},
    {"{\"model_type\":\"gpt2\",\"scale_attn_weights\":false}", "scale_attn_weights"},
    {"{\"model_type\":\"gpt2\",\"scale_attn_by_inverse_layer_idx\":true}",
        "scale_attn_by_inverse_layer_idx"},
    {"{\"model_type\":\"gpt2\",\"add_cross_attention\":true}", "add_cross_attention"},
    {"{\"model_type\":\"gpt2\",\"n_head\":7}", "hidden size"},
    {"{\"model_type\":\"gpt2\",\"n_layer\":0}", "n_layer"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"hidden_act\":\"gelu\"}",
        "gelu"},
    {"{\"model_type\":\"llama\"," BASE
     ",\"num_attention_heads\":4,\"rope_scaling\":{\"rope_type\":\"llama3\"}}",
        "llama3"},
    {"{\"model_type\":\"llama\"," BASE
     ",\"num_attention_heads\":4,\"rope_parameters\":{\"rope_type\":\"yarn\"}}",
        "yarn"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"eos_token_id\":256}",
        "outside the vocabulary"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"rms_norm_eps\":0}", "epsilon"},
    {"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"head_dim\":15}", "odd"},
    {"{\"model_type\":\"llama\"," BASE
     ",\"num_attention_heads\":4,\"max_position_embeddings\":2147483647}",
        "context"},
};

START_TEST(what_is_not_known_is_refused)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_auto struct json *v = NULL;
        struct model_config c = {.dim = 77};
        struct err e = {0};
        ck_assert_int_eq(json_parse(bad[i].config, strlen(bad[i].config), &v, &e), 0);
        ck_assert_msg(family_config_json(v, "c.json", &c, &e) == -ERR_DATA, "%s", bad[i].config);
        ck_assert_msg(strstr(e.text, bad[i].says) && !strncmp(e.text, "c.json", 6), "%s", e.text);
        ck_assert_int_eq(c.dim, 77); /* unchanged on failure */
    }
}
END_TEST

/* The place of the canonical tensor `name`. */
static struct family_place place_of(
    const struct model_config *c, enum family_format f, const char *name)
{
    struct tensors t = {0};
    struct family_place p;
    struct err e;
    ck_assert(!tensors_create(c, &t, &e));
    ck_assert_msg(tensors_find(&t, name) != NULL, "%s", name);
    family_place(c, &t, tensors_find(&t, name), f, &p);
    tensors_done(&t);
    return p;
}

static bool is_called(const struct family_place *p, const char *name)
{
    return !strcmp(p->name, name) || !strcmp(p->name + p->optional, name);
}

START_TEST(names_of_files_are_known)
{
    static const struct {
        const struct model_config *c;
        enum family_format format;
        const char *canonical, *file;
    } rows[] = {
        {&tiny, FAMILY_GGUF, "model.embed_tokens.weight", "token_embd.weight"},
        {&qwen2, FAMILY_GGUF, "lm_head.weight", "output.weight"},
        {&tiny, FAMILY_GGUF, "model.norm.weight", "output_norm.weight"},
        {&tiny, FAMILY_GGUF, "model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"},
        {&tiny, FAMILY_GGUF, "model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"},
        {&tiny, FAMILY_GGUF, "model.layers.0.post_attention_layernorm.weight",
            "blk.0.ffn_norm.weight"},
        {&qwen2, FAMILY_GGUF, "model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"},
        {&tiny, FAMILY_HF, "model.layers.1.mlp.gate_proj.weight",
            "model.layers.1.mlp.gate_proj.weight"},
        {&gpt2, FAMILY_HF, "model.embed_positions.weight", "transformer.wpe.weight"},
        {&gpt2, FAMILY_HF, "model.embed_positions.weight", "wpe.weight"},
        {&gpt2, FAMILY_HF, "model.layers.1.self_attn.v_proj.bias", "h.1.attn.c_attn.bias"},
        {&gpt2, FAMILY_HF, "model.layers.1.mlp.up_proj.weight", "transformer.h.1.mlp.c_fc.weight"},
        {&gpt2, FAMILY_HF, "model.norm.bias", "ln_f.bias"},
        {&bert, FAMILY_HF, "model.embed_types.weight",
            "bert.embeddings.token_type_embeddings.weight"},
        {&bert, FAMILY_HF, "model.embed_norm.bias", "embeddings.LayerNorm.bias"},
        {&bert, FAMILY_HF, "model.layers.1.input_layernorm.weight",
            "bert.encoder.layer.1.attention.output.LayerNorm.weight"},
        {&bert, FAMILY_HF, "model.layers.0.post_attention_layernorm.bias",
            "encoder.layer.0.output.LayerNorm.bias"},
        {&bert, FAMILY_HF, "model.layers.1.mlp.down_proj.weight",
            "encoder.layer.1.output.dense.weight"},
        {&bert, FAMILY_HF, "classifier.weight", "classifier.weight"},
        {&gpt2, FAMILY_GGUF, "model.embed_positions.weight", "position_embd.weight"},
        {&qwen3, FAMILY_GGUF, "model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"},
        {&qwen3_moe, FAMILY_HF, "model.layers.1.mlp.experts.3.up_proj.weight",
            "model.layers.1.mlp.experts.3.up_proj.weight"},
        {&mixtral, FAMILY_HF, "model.layers.1.mlp.experts.3.up_proj.weight",
            "model.layers.1.block_sparse_moe.experts.3.w3.weight"},
        {&mixtral, FAMILY_HF, "model.layers.0.mlp.gate.weight",
            "model.layers.0.block_sparse_moe.gate.weight"},
        {&mixtral, FAMILY_HF, "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.q_proj.weight"},
        {&qwen3_moe, FAMILY_GGUF, "model.layers.0.mlp.gate.weight", "blk.0.ffn_gate_inp.weight"},
        {&mixtral, FAMILY_GGUF, "model.layers.1.mlp.experts.2.down_proj.weight",
            "blk.1.ffn_down_exps.weight"},
        {&qwen3, FAMILY_HF, "model.layers.0.self_attn.k_norm.weight",
            "model.layers.0.self_attn.k_norm.weight"},
        {&mistral, FAMILY_GGUF, "lm_head.weight", "output.weight"},
        {&gpt2, FAMILY_GGUF, "model.layers.0.self_attn.k_proj.weight", "blk.0.attn_qkv.weight"},
        {&gpt2, FAMILY_GGUF, "model.layers.0.input_layernorm.bias", "blk.0.attn_norm.bias"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct family_place p = place_of(rows[i].c, rows[i].format, rows[i].canonical);
        ck_assert_msg(is_called(&p, rows[i].file), "%s, not %s", p.name, rows[i].file);
        ck_assert(!is_called(&p, "attn_q.weight") && !is_called(&p, ""));
    }
}
END_TEST

/* GPT-2's (in, out) matrices, q, k and v in one; GGUF's rotary order is llama's and mistral's. */
START_TEST(places_say_how_a_file_keeps_a_tensor)
{
    struct family_place p = place_of(&gpt2, FAMILY_HF, "model.layers.1.self_attn.k_proj.weight");
    ck_assert(p.dims == 2 && p.shape[0] == 32 && p.shape[1] == 96);
    ck_assert(p.transposed && p.first == 32 && !p.interleaved);
    p = place_of(&gpt2, FAMILY_GGUF, "model.layers.1.self_attn.v_proj.weight");
    ck_assert(p.shape[0] == 96 && p.shape[1] == 32 && !p.transposed && p.first == 64);
    p = place_of(&gpt2, FAMILY_HF, "model.layers.0.self_attn.v_proj.bias");
    ck_assert(p.dims == 1 && p.shape[0] == 96 && p.first == 64 && !p.transposed);
    p = place_of(&gpt2, FAMILY_HF, "model.layers.0.mlp.down_proj.weight");
    ck_assert(p.shape[0] == 128 && p.shape[1] == 32 && p.transposed && p.first == 0);
    p = place_of(&gpt2, FAMILY_HF, "model.embed_positions.weight");
    ck_assert(p.shape[0] == 48 && p.shape[1] == 32 && !p.transposed);
    p = place_of(&tiny, FAMILY_GGUF, "model.layers.0.self_attn.k_proj.weight");
    ck_assert(p.interleaved && p.shape[0] == 32 && p.first == 0);
    p = place_of(&mistral, FAMILY_GGUF, "model.layers.0.self_attn.q_proj.weight");
    ck_assert(p.interleaved && p.shape[0] == 32);
    p = place_of(&qwen3_moe, FAMILY_GGUF, "model.layers.0.mlp.experts.2.up_proj.weight");
    ck_assert(p.stacked == 4 && p.first == 2 * 24 && p.shape[0] == 4 * 24 && p.shape[1] == 32);
    p = place_of(&qwen3, FAMILY_GGUF, "model.layers.0.self_attn.q_norm.weight");
    ck_assert(!p.interleaved && p.dims == 1 && p.shape[0] == 12);
    p = place_of(&qwen2, FAMILY_GGUF, "model.layers.0.self_attn.k_proj.weight");
    ck_assert(!p.interleaved);
    p = place_of(&tiny, FAMILY_HF, "model.layers.0.self_attn.k_proj.weight");
    ck_assert(!p.interleaved);
}
END_TEST

/* llama.cpp: reshape(heads, 2, half, cols).swapaxes(1, 2): our row s * half + j stands at 2 * j +
 * s. */
START_TEST(rotary_rows_are_found)
{
    bool seen[48] = {false};
    for (int64_t row = 0; row < 48; row++) {
        int64_t at = family_gguf_row(row, 16), head = row / 16, s = row % 16 / 8, j = row % 8;
        ck_assert_int_eq(at, head * 16 + 2 * j + s);
        ck_assert(!seen[at]);
        seen[at] = true;
    }
}
END_TEST

UNIT_MAIN("family", the_golden_configs_are_read, a_config_survives_writing_and_reading,
    labels_go_by_their_names, lists_of_end_tokens_survive, what_cannot_be_expressed_is_refused,
    silence_and_other_ways_to_say_it, what_is_not_known_is_refused, names_of_files_are_known,
    places_say_how_a_file_keeps_a_tensor, rotary_rows_are_found)
