/*
 * tiny: a small Llama and a small GPT-2 with odd sizes and random weights, for tests that need any
 * model at all. The sizes are no multiples of a vector, the Llama's heads are grouped 3 to 1, and
 * weights are larger than a fresh model's, so that no gradient is near zero.
 */
#ifndef TESTS_RUNTIME_TINY_H
#define TESTS_RUNTIME_TINY_H

#include "base/mem.h"
#include "runtime/model.h"
#include "runtime/parts.h"

#include <check.h>

#define TINY_T 13
#define TINY_B 3

static inline struct model_config tiny_config(bool tied)
{
	return (struct model_config){.architecture = "llama",
				     .vocab = 61,
				     .dim = 24,
				     .layers = 3,
				     .heads = 6,
				     .kv_heads = 2,
				     .head_dim = 8,
				     .ffn_dim = 40,
				     .context = 64,
				     .norm_eps = 1e-5f,
				     .rope_theta = 10000,
				     .tied_embeddings = tied,
				     .bos_id = -1,
				     .eos_id = -1,
				     .pad_id = -1};
}

static inline struct model_config tiny_gpt2(void)
{
	return (struct model_config){.architecture = "gpt2",
				     .vocab = 61,
				     .dim = 21,
				     .layers = 3,
				     .heads = 3,
				     .kv_heads = 3,
				     .head_dim = 7,
				     .ffn_dim = 37,
				     .context = 17,
				     .norm_eps = 1e-5f,
				     .norm = NORM_LAYER,
				     .activation = ACTIVATION_GELU,
				     .positions = POSITIONS_LEARNED,
				     .qkv_bias = true,
				     .o_bias = true,
				     .ffn_bias = true,
				     .scaled_init = true,
				     .tied_embeddings = true,
				     .bos_id = -1,
				     .eos_id = -1,
				     .pad_id = -1};
}

static inline double tiny_random(uint64_t *state) /* (-1, 1) */
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (double)(int64_t)(*state >> 11) * 0x1p-52 - 1;
}

/* Replaces what model_init_random set: matrices and biases +-0.3, norms 1 +- 0.3; of the trained
   parts only. */
static inline void tiny_fill(struct dev *d, struct model *m, uint64_t seed)
{
	for (int i = 0; i < model_part_count(m); i++) {
		const struct model_part *p = model_part_at(m, i);
		mem_autofree float *host = mem_array((size_t)p->count, sizeof(float));

		ck_assert_ptr_nonnull(host);
		bool weight = p->dims == 1 && !strstr(p->name, ".bias");
		for (int64_t j = 0; j < p->count; j++)
			host[j] = (float)((weight ? 1 : 0) + 0.3 * tiny_random(&seed));
		dev_upload(d, model_master(m) + p->offset, host, (size_t)p->count * 4);
	}
	model_master_changed(m);
}

static inline void tiny_ids(int32_t *ids, int64_t n, uint64_t seed)
{
	for (int64_t i = 0; i < n; i++)
		ids[i] = (int32_t)((tiny_random(&seed) + 1) / 2 * 61) % 61;
}

#endif
