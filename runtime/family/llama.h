/*
 * llama: what other families' config.json have in common with Llama's: sizes, rotary positions, the
 * epsilon and the embeddings.
 */
#ifndef RUNTIME_FAMILY_LLAMA_H
#define RUNTIME_FAMILY_LLAMA_H

#include "runtime/family/family.h"

int llama_json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e);
void llama_json_write(const struct model_config *c, struct jsonw *w);

#endif
