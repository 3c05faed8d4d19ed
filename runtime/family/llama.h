/*
 * llama: what other families' config.json have in common with Llama's: sizes, rotary positions, the
 * epsilon and the embeddings; with Qwen2's: a window that counts where a switch says so; and what
 * mixtures of experts have alike. What c has before is what holds where config.json is silent.
 */
#ifndef RUNTIME_FAMILY_LLAMA_H
#define RUNTIME_FAMILY_LLAMA_H

#include "runtime/family/family.h"

int llama_json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e);
void llama_json_write(const struct model_config *c, struct jsonw *w);
/* After the number of layers. ERR_DATA where some layers have the window and others not. */
int llama_window_by_switch(
    const struct json *config, const char *path, struct model_config *c, struct err *e);
/* num_experts or num_local_experts, how many a token goes to, and the coefficient of the balance
   loss; experts and experts_per_token are before what holds where config.json is silent. */
int llama_read_experts(
    const struct json *config, const char *path, struct model_config *c, struct err *e);
void llama_write_balance(const struct model_config *c, struct jsonw *w);
void llama_write_switch(const struct model_config *c, struct jsonw *w);

#endif
