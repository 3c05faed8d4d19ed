/*
 * Goal: files are not read as what they are not: a key that would change what the model computes is
 * refused by name, a neutral one is not. Method: small GGUF files and config.json with one key more
 * than is needed, of each rule.
 */
#include "runtime/family/keys.h"

#include "runtime/family/family.h"
#include "tests/runtime/gguf_make.h"
#include "tests/unit.h"

/* key: its architecture's, which is llama or bert. */
static int read_gguf(const char *key, uint32_t type, double value, struct err *e)
{
    const char *of = !strncmp(key, "bert.", 5) ? "bert" : "llama";
    char name[64];
    struct gguf_make m;
    struct gguf *g = NULL;
    struct model_config c;
    buf_auto struct buf file;
    const float row[16] = {0};
    float f = (float)value;
    uint32_t u = (uint32_t)value;
    buf_init(&file, 1 << 16);
    gguf_make_init(&m);
    gguf_make_str(&m, "general.architecture", of);
    gguf_make_u32(&m, "general.odd", 1);
    gguf_make_u32(&m, "other.logit_scale", 3);
    for (int i = 0; i < 5; i++) {
        static const struct {
            const char *key;
            uint32_t value;
        } sizes[] = {{"embedding_length", 16}, {"block_count", 1}, {"attention.head_count", 2},
            {"feed_forward_length", 8}, {"context_length", 128}};
        snprintf(name, sizeof name, "%s.%s", of, sizes[i].key);
        gguf_make_u32(&m, name, sizes[i].value);
    }
    snprintf(name, sizeof name, "%s.attention.layer_norm_%sepsilon", of, *of == 'b' ? "" : "rms_");
    gguf_make_f32(&m, name, 1e-5f);
    if (type == 7)
        gguf_make_raw(&m, key, 7, &(uint8_t){value != 0}, 1);
    else if (type == 8)
        gguf_make_str(&m, key, "none");
    else
        gguf_make_raw(&m, key, type, type == 6 ? (const void *)&f : &u, 4);
    gguf_make_tensor(&m, "token_embd.weight", 0, 2, (const int64_t[]){16, 1}, -1, row, sizeof row);
    gguf_make_finish(&m, &file);
    ck_assert_msg(gguf_parse(file.data, file.len, "made.gguf", &g, e) == 0, "%s", e->text);
    int rc = family_config_gguf(g, &c, e);
    if (!rc && strstr(key, "sliding_window")) /* of which llamas are Mistral's */
        ck_assert(c.window == (value < 128 ? value : 0) &&
            !strcmp(c.architecture, c.window ? "mistral" : "llama"));
    if (!rc && strstr(key, "scaling.factor"))
        ck_assert(c.rope_scaling.kind == (value > 1 ? OP_ROPE_LINEAR : OP_ROPE_PLAIN));
    gguf_close(g);
    gguf_make_done(&m);
    return rc;
}

START_TEST(keys_of_gguf_files_are_known_or_refused)
{
    static const struct {
        const char *key;
        uint32_t type; /* 4: u32, 6: f32, 7: bool, 8: the string "none" */
        double value;
        bool refused;
    } rows[] = {
        {"llama.vocab_size", 4, 1, false},
        {"llama.rope.scaling.type", 8, 0, false},
        {"llama.rope.scaling.factor", 6, 1, false},
        {"llama.rope.scaling.factor", 6, 4, false}, /* linear, as llama.cpp takes it */
        {"llama.rope.scaling.factor", 6, 0.5, true},
        {"llama.rope.scaling.yarn_log_multiplier", 6, 0.1, true},
        {"llama.attention.sliding_window", 4, 0, false},
        {"llama.attention.sliding_window", 4, 128, false},
        {"llama.attention.sliding_window", 4, 127, false},
        {"llama.attention.causal", 7, 1, false},
        {"llama.attention.causal", 7, 0, true},
        {"llama.expert_count", 4, 0, false},
        {"llama.expert_shared_count", 4, 1, true},
        {"llama.expert_gating_func", 4, 1, false},
        {"llama.expert_gating_func", 4, 2, true},
        {"llama.expert_weights_norm", 7, 0, true},
        {"llama.logit_scale", 6, 1, false},
        {"llama.logit_scale", 6, 0.5, true},
        {"llama.logit_scale", 8, 0, true},
        {"llama.attention.scale", 6, 1, true},
        {"llama.something_new", 4, 0, true},
        {"llama2.something_new", 4, 0, false},
        {"llama.pooling_type", 4, 0, false},
        {"llama.pooling_type", 4, 3, true},
        {"bert.attention.causal", 7, 0, false},
        {"bert.attention.causal", 7, 1, true},
        {"bert.pooling_type", 4, 0, false},
        {"bert.pooling_type", 4, 1, false},
        {"bert.pooling_type", 4, 3, false},
        {"bert.pooling_type", 4, 4, true}, /* of labels, and it has none */
        {"bert.pooling_type", 4, 9, true},
        {"bert.classifier.output_labels", 8, 0, true},
        {"bert.something_new", 4, 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {0};
        int rc = read_gguf(rows[i].key, rows[i].type, rows[i].value, &e);
        ck_assert_msg(rc == (rows[i].refused ? -ERR_DATA : 0), "%zu: %s", i, e.text);
        if (rc)
            ck_assert_msg(strstr(e.text, rows[i].key) && strstr(e.text, "made.gguf"), "%s", e.text);
    }
}
END_TEST

START_TEST(keys_of_configs_that_matter_are_refused)
{
    static const struct {
        const char *model, *more, *says; /* says NULL: read */
    } rows[] = {
        {"llama", "\"pretraining_tp\":1,\"use_cache\":true,\"anything\":[1]", NULL},
        {"llama", "\"sliding_window\":null,\"rope_scaling\":null,\"num_experts\":null", NULL},
        {"llama", "\"sliding_window\":128", NULL},
        {"llama", "\"sliding_window\":64", "sliding_window"},
        {"llama", "\"sliding_window\":64,\"use_sliding_window\":false", NULL},
        {"llama", "\"sliding_window\":64,\"use_sliding_window\":true", "use_sliding_window"},
        {"qwen2", "\"sliding_window\":64", NULL},
        {"qwen2", "\"layer_types\":[\"full_attention\"]", NULL},
        {"qwen2", "\"layer_types\":[\"sliding_attention\"]", "layer_types"},
        {"mistral", "\"num_key_value_heads\":1,\"sliding_window\":64", NULL},
        {"mistral", "\"num_key_value_heads\":1,\"layer_types\":[\"full_attention\"]",
            "layer_types"},
        {"gpt2", "\"n_head\":1,\"n_embd\":16,\"sliding_window\":64", "sliding_window"},
        {"llama", "\"rope_scaling\":{\"rope_type\":\"llama3\"}", "llama3"},
        {"llama", "\"rope_scaling\":\"yarn\"", "rope_scaling"},
        {"llama", "\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}",
            "rope_parameters.partial_rotary_factor"},
        {"llama", "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":5}}",
            "by kind of layer"},
        {"llama", "\"partial_rotary_factor\":1.0,\"logits_scaling\":1", NULL},
        {"llama", "\"partial_rotary_factor\":0.25", "partial_rotary_factor"},
        {"llama", "\"embedding_multiplier\":12", "embedding_multiplier"},
        {"llama", "\"final_logit_softcapping\":30.0", "final_logit_softcapping"},
        {"llama", "\"num_local_experts\":8", "num_local_experts"},
        {"llama", "\"quantization_config\":{\"quant_method\":\"gptq\"}", "quantization_config"},
        {"llama", "\"use_qk_norm\":true", "use_qk_norm"},
        {"llama", "\"query_pre_attn_scalar\":256", "query_pre_attn_scalar"},
        {"llama", "\"is_causal\":false", "is_causal"},
        {"bert", "\"is_causal\":false", NULL},
        {"bert", "\"is_causal\":true", "is_causal"},
        {"bert", "\"gradient_checkpointing\":false,\"classifier_dropout\":null", NULL},
        {"llama", "\"pruned_heads\":{}", NULL},
        {"llama", "\"pruned_heads\":{\"0\":[1]}", "pruned_heads"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_config c;
        struct err e = {0};
        json_auto struct json *v = NULL;
        buf_auto struct buf text;
        buf_init(&text, 1 << 12);
        buf_printf(&text,
            "{\"model_type\":\"%s\",\"vocab_size\":9,\"hidden_size\":16,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":2,"
            "\"intermediate_size\":8,\"max_position_embeddings\":128,%s}",
            rows[i].model, rows[i].more);
        ck_assert_msg(json_parse(text.data, text.len, &v, &e) == 0, "%s", e.text);
        int rc = family_config_json(v, "config.json", &c, &e);
        if (rows[i].says)
            ck_assert_msg(rc == -ERR_DATA && strstr(e.text, rows[i].says), "%zu: %s", i, e.text);
        else
            ck_assert_msg(rc == 0, "%zu: %s", i, e.text);
    }
}
END_TEST

UNIT_MAIN(
    "family_keys", keys_of_gguf_files_are_known_or_refused, keys_of_configs_that_matter_are_refused)
