/*
 * qwen2: Llama with biases of q, k and v, always, and of nothing else. Rows of GGUF files are in
 * canonical order. Source: transformers' Qwen2Config and modeling_qwen2.
 */
#include "runtime/family/llama.h"

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    jsonw_bool(w, "use_sliding_window", false);
}

const struct family family_qwen2 = {
    .architecture = "qwen2",
    .model_class = "Qwen2ForCausalLM",
    .fixed = {.architecture = "qwen2", .qkv_bias = true},
    .free_heads = true,
    .window_by_switch = true,
    .json_read = llama_json_read,
    .json_write = json_write,
};
