/*
 * family_keys: which keys of a model's description may stand there although nobody reads them. A
 * description can say things that change what the model computes (a sliding window, a scale of the
 * logits, experts): what is not implemented is refused by its name, never passed over. Errors are
 * ERR_DATA.
 */
#ifndef RUNTIME_FAMILY_KEYS_H
#define RUNTIME_FAMILY_KEYS_H

#include "base/json.h"
#include "runtime/family/config.h"
#include "runtime/files/gguf.h"

/* c: what was read. Of a GGUF file every key of its architecture must be known here. */
int family_keys_gguf(const struct gguf *g, const struct model_config *c, struct err *e);
/* A config.json has too many keys that are nobody's affair: those are named that would matter. */
int family_keys_json(
    const struct json *config, const char *path, const struct model_config *c, struct err *e);

#endif
