/*
 * family_keys: two tables, one of the keys that are known and one of those that must be neutral.
 * Sources: llama.cpp's gguf-py/gguf/constants.py and llama-model.cpp; transformers' configurations.
 */
#include "runtime/family/keys.h"

#include "runtime/family/family.h"
#include "runtime/family/pooling.h"

enum rule {
    KEY_KNOWN,   /* read with the description, or nothing depends on it */
    KEY_NEUTRAL, /* has this value, which changes nothing */
    KEY_CAUSAL,  /* whether attention sees no later tokens, as the family has it */
    KEY_POOLING, /* which vector is a text's: pooling.h reads it, of families of whole texts */
    KEY_LABELS,  /* names of labels, of a model that has some */
};

static const struct {
    const char *name;
    enum rule rule;
    double neutral;
} gguf_keys[] = {
    {"block_count", KEY_KNOWN, 0},
    {"context_length", KEY_KNOWN, 0},
    {"embedding_length", KEY_KNOWN, 0},
    {"feed_forward_length", KEY_KNOWN, 0},
    {"vocab_size", KEY_KNOWN, 0},
    {"tensor_data_layout", KEY_KNOWN, 0},
    {"attention.head_count", KEY_KNOWN, 0},
    {"attention.head_count_kv", KEY_KNOWN, 0},
    {"attention.key_length", KEY_KNOWN, 0},
    {"attention.value_length", KEY_KNOWN, 0},
    {"attention.layer_norm_epsilon", KEY_KNOWN, 0},
    {"attention.layer_norm_rms_epsilon", KEY_KNOWN, 0},
    {"rope.dimension_count", KEY_KNOWN, 0},
    {"rope.freq_base", KEY_KNOWN, 0},
    {"rope.scaling.type", KEY_KNOWN, 0},
    {"rope.scaling.original_context_length", KEY_KNOWN, 0},
    {"rope.scaling.finetuned", KEY_KNOWN, 0},
    {"rope.scaling.factor", KEY_KNOWN, 0},
    {"rope.scaling.attn_factor", KEY_NEUTRAL, 1},
    {"rope.scale_linear", KEY_NEUTRAL, 1},
    {"attention.sliding_window", KEY_KNOWN, 0},
    {"attention.causal", KEY_CAUSAL, 0},
    {"attention.clamp_kqv", KEY_NEUTRAL, 0},
    {"attention.max_alibi_bias", KEY_NEUTRAL, 0},
    {"attention.shared_kv_layers", KEY_NEUTRAL, 0},
    {"attn_logit_softcapping", KEY_NEUTRAL, 0},
    {"final_logit_softcapping", KEY_NEUTRAL, 0},
    {"logit_scale", KEY_NEUTRAL, 1},
    {"residual_scale", KEY_NEUTRAL, 1},
    {"embedding_scale", KEY_NEUTRAL, 1},
    {"use_parallel_residual", KEY_NEUTRAL, 0},
    {"expert_count", KEY_KNOWN, 0},
    {"expert_used_count", KEY_KNOWN, 0},
    {"expert_feed_forward_length", KEY_KNOWN, 0},
    {"expert_gating_func", KEY_NEUTRAL, 1}, /* softmax */
    {"expert_weights_norm", KEY_NEUTRAL, 1},
    {"expert_weights_scale", KEY_NEUTRAL, 1},
    {"expert_shared_count", KEY_NEUTRAL, 0},
    {"leading_dense_block_count", KEY_NEUTRAL, 0},
    {"nextn_predict_layers", KEY_NEUTRAL, 0},
    {"pooling_type", KEY_POOLING, 0},
    {"classifier.output_labels", KEY_LABELS, 0},
};

/* Is it as the model is? */
static bool agrees(
    const struct gguf *g, int64_t key, enum rule rule, double neutral, const struct model_config *c)
{
    double value = 0;
    if (rule == KEY_KNOWN)
        return true;
    if (rule == KEY_LABELS)
        return c->labels;
    if (!gguf_key_number(g, key, &value))
        return false;
    switch (rule) {
    case KEY_CAUSAL:
        return value == !c->bidirectional;
    case KEY_POOLING:
        return c->labels ? value == POOLING_GGUF_RANK
                         : !value || (c->bidirectional && pooling_of_gguf(value, NULL));
    default:
        return value == neutral;
    }
}

static int check_gguf(const struct gguf *g, int64_t key, const char *name, size_t len,
    const struct model_config *c, struct err *e)
{
    size_t known = sizeof gguf_keys / sizeof *gguf_keys, i = 0;
    while (i < known && (strlen(gguf_keys[i].name) != len || memcmp(gguf_keys[i].name, name, len)))
        i++;
    if (i < known && agrees(g, key, gguf_keys[i].rule, gguf_keys[i].neutral, c))
        return 0;
    return err_set(e, ERR_DATA,
        "%s: key %s.%.*s would change what the model computes and is not supported", gguf_path(g),
        family_gguf_architecture(c), (int)(len < 80 ? len : 80), name);
}

int family_keys_gguf(const struct gguf *g, const struct model_config *c, struct err *e)
{
    const char *architecture = family_gguf_architecture(c);
    size_t prefix = strlen(architecture);
    for (int64_t i = 0; i < gguf_key_count(g); i++) {
        struct gguf_str key = gguf_key_name(g, i);
        if (key.len <= prefix || memcmp(key.s, architecture, prefix) || key.s[prefix] != '.')
            continue;
        int rc = check_gguf(g, i, key.s + prefix + 1, key.len - prefix - 1, c, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* -- config.json -- */

#define NOTHING (-1) /* no number is neutral, only null or an empty list or object */
#define CAUSAL  (-2) /* whether attention sees no later tokens, as the family has it */
#define EXPERTS (-3) /* how many experts there are, as they were read */

static const struct {
    const char *name;
    double neutral; /* of a truth value: 0 or 1 */
} json_keys[] = {
    {"alibi", 0},
    {"attention_multiplier", NOTHING},
    {"attn_logit_softcapping", 0},
    {"clip_qkv", 0},
    {"decoder_sparse_step", 1},
    {"dim_model_base", NOTHING},
    {"embedding_multiplier", 1},
    {"final_logit_softcapping", 0},
    {"is_causal", CAUSAL},
    {"key_multiplier", 1},
    {"lm_head_multiplier", 1},
    {"logit_scale", 1},
    {"logits_scaling", 1},
    {"mlp_only_layers", NOTHING},
    {"n_routed_experts", 0},
    {"n_shared_experts", 0},
    {"no_rope_layers", NOTHING},
    {"num_experts", EXPERTS},
    {"num_local_experts", EXPERTS},
    {"num_shared_experts", 0},
    {"parallel_attn", 0},
    {"partial_rotary_factor", 1},
    {"pruned_heads", NOTHING},
    {"qk_layernorm", 0},
    {"quantization_config", NOTHING},
    {"query_pre_attn_scalar", NOTHING},
    {"residual_multiplier", 1},
    {"rope_interleaved", 0},
    {"rotary_pct", 1},
    {"router_jitter_noise", 0},
    {"scale_depth", NOTHING},
    {"scale_emb", 1},
    {"scoring_func", NOTHING},
    {"shared_expert_intermediate_size", 0},
    {"use_bidirectional_attention", 0},
    {"use_parallel_residual", 0},
    {"use_qk_norm", 0},
};

static int refuse(const char *path, const char *name, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: %s would change what the model computes and is not supported",
        path, name);
}

static bool is_neutral(const struct json *v, double neutral)
{
    if (!v || json_is_null(v))
        return true;
    if (json_is_number(v))
        return json_number_value(v) == neutral;
    if (json_is_bool(v))
        return json_bool_value(v) == neutral;
    return (json_is_object(v) || json_is_array(v)) && !json_count(v);
}

/* Positions: one way for all layers and all of a head. */
static int check_rotary(const struct json *config, const char *path, struct err *e)
{
    const struct json *rope = json_get(config, "rope_parameters");
    const struct json *scaling = json_get(config, "rope_scaling");
    if (scaling && !json_is_null(scaling) && !json_is_object(scaling))
        return refuse(path, "rope_scaling", e);
    if (rope && !json_is_null(rope) && !json_is_object(rope))
        return refuse(path, "rope_parameters", e);
    if (!is_neutral(json_get(rope, "partial_rotary_factor"), 1))
        return refuse(path, "rope_parameters.partial_rotary_factor", e);
    json_each (v, rope)
        if (json_is_object(v))
            return refuse(path, "rope_parameters by kind of layer", e);
    return 0;
}

/* One window for all layers, of families that have any; transformers looks at sliding_window where
   use_sliding_window, if it is there, is true. */
static int check_window(
    const struct json *config, const char *path, const struct model_config *c, struct err *e)
{
    const struct json *window = json_get(config, "sliding_window");
    const char *all = c->window ? "sliding_attention" : "full_attention";
    bool may = json_get(config, "use_sliding_window") || family_of(c)->free_window;
    json_each (kind, json_get(config, "layer_types"))
        if (strcmp(json_string_value(kind) ? json_string_value(kind) : "", all)) {
            char name[64];
            snprintf(name, sizeof name, "layer_types other than %s", all);
            return refuse(path, name, e);
        }
    if (may || is_neutral(window, 0) || json_number_value(window) >= (double)c->context)
        return 0;
    return refuse(path, "sliding_window", e);
}

int family_keys_json(
    const struct json *config, const char *path, const struct model_config *c, struct err *e)
{
    for (size_t i = 0; i < sizeof json_keys / sizeof *json_keys; i++) {
        double neutral = json_keys[i].neutral;
        neutral = neutral == CAUSAL ? !c->bidirectional : neutral;
        neutral = neutral == EXPERTS ? (double)c->experts : neutral;
        if (!is_neutral(json_get(config, json_keys[i].name), neutral))
            return refuse(path, json_keys[i].name, e);
    }
    int rc = check_rotary(config, path, e);
    return rc ? rc : check_window(config, path, c, e);
}
