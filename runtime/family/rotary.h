/*
 * rotary: what descriptions say of rotary positions: their base, and how their frequencies are
 * scaled for long contexts (struct op_rope_scaling), from a config.json or a GGUF file and back.
 * Kinds that are not computed are refused by name. Errors are ERR_DATA and name the file.
 *
 * A GGUF file of a "llama3" scaling holds, instead of its numbers, what every frequency is divided
 * by (llama.cpp's LlamaModel.generate_extra_tensors). These factors say neither `low` nor `high`
 * nor the context, but only their ratios; they are taken to be those of 1, 4 and the context that
 * the file names, or 8192, as all published models have them, and refused where they are not.
 */
#ifndef RUNTIME_FAMILY_ROTARY_H
#define RUNTIME_FAMILY_ROTARY_H

#include "base/json.h"
#include "runtime/family/config.h"
#include "runtime/files/gguf.h"

#define ROTARY_GGUF_FACTORS "rope_freqs.weight" /* (head_dim / 2) F32 */

int rotary_json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e);
void rotary_json_write(const struct model_config *c, struct jsonw *w);
/* prefix: of the architecture's keys, "llama". After c's head_dim. */
int rotary_gguf_read(
    const struct gguf *g, const char *prefix, struct model_config *c, struct err *e);
/* What the frequency of a pair is divided by. */
double rotary_factor(const struct model_config *c, int64_t pair);
/* Whether a scaling is none, or one that can be computed. */
bool rotary_scaling_ok(const struct op_rope_scaling *s);

#endif
