/*
 * family: what the published formats call things. Maps a Hugging Face config.json or a GGUF file's
 * keys onto struct model_config, and tensor names onto the canonical ones (runtime/weights.h), and
 * lists the tensors that a configuration must have. One architecture so far: "llama". What it does
 * not know (another architecture, biases, scaled rotary positions) is refused, never ignored.
 */
#ifndef RUNTIME_FAMILY_H
#define RUNTIME_FAMILY_H

#include "base/json.h"
#include "runtime/gguf.h"
#include "runtime/weights.h"

struct family_tensor {
	char name[128]; /* canonical */
	int dims;
	int64_t shape[2];
	int64_t rotary_heads; /* of rows that turn with positions; 0: none */
};
int family_tensor_count(const struct model_config *c);
void family_tensor(const struct model_config *c, int i, struct family_tensor *out);

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e);
/* path is only for messages. */
int family_config_json(const struct json *config, const char *path, struct model_config *out,
		       struct err *e);
void family_config_write(const struct model_config *c, enum dtype store, struct jsonw *w);

/* Canonical name of a GGUF tensor; false when unknown. */
bool family_gguf_name(const char *name, char out[128]);
/* The row of a GGUF file at which canonical row `row` of a rotary matrix stands: its converter
   interleaves the two halves of each head. */
int64_t family_gguf_row(int64_t row, int64_t head_dim);

#endif
