/*
 * family: what the published formats call things. Maps a Hugging Face config.json or a GGUF file's
 * keys onto struct model_config (family/config.c), lists the tensors that a configuration must have
 * by their canonical names (weights.h), and says where a file of each format keeps them.
 * Architectures: "llama", "qwen2", "gpt2". What it does not know (another architecture, scaled
 * rotary positions, another activation) is refused, never ignored.
 */
#ifndef RUNTIME_FAMILY_FAMILY_H
#define RUNTIME_FAMILY_FAMILY_H

#include "base/json.h"
#include "runtime/files/gguf.h"
#include "runtime/family/tensors.h"
#include "runtime/family/weights.h"

enum family_format { FAMILY_HF, FAMILY_GGUF };
struct family_place { /* where a file keeps a canonical tensor */
    char name[128];   /* the file's tensor; several canonical ones may be parts of it */
    int dims;         /* of the file's whole tensor */
    int64_t shape[2]; /* (rows, 1) for a vector */
    int64_t first;    /* the part begins at this row, or column when transposed */
    bool transposed;  /* the file has (in, out) */
    bool interleaved; /* rows are in the order of family_gguf_row */
};
void family_place(const struct model_config *c, const struct tensor *t, enum family_format format,
    struct family_place *out);
/* Is that what a file calls it? GPT-2's names may lack their "transformer.". */
bool family_place_is(const struct family_place *p, const char *name);
/* The row of a GGUF file at which canonical row `row` of a rotary matrix stands: its converter
   interleaves the two halves of each head. */
int64_t family_gguf_row(int64_t row, int64_t head_dim);

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e);
/* path is only for messages. */
int family_config_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e);
/* eos_token_id: a number, a list of them, or none. */
int family_eos_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e);
/* ERR_DATA when the description is none that config.json can express for its architecture: what
   family_config_write would lose. */
int family_config_expressible(const struct model_config *c, struct err *e);
/* bos_token_id, eos_token_id, pad_token_id; null, or nothing at all, where there is none. */
void family_ids_write(const struct model_config *c, bool nulls, struct jsonw *w);
void family_config_write(const struct model_config *c, enum dtype store, struct jsonw *w);

#endif
