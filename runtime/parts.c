/*
 * parts: the table of a model's tensors. Order: embedding; per layer q, k, v, o, gate, up, down;
 * head unless tied; then per layer its two norms; the final norm. The order is part of nothing on
 * disk: checkpoints go by name. Sizes are checked in 64 bits: parts_add refuses what would overflow
 * the flat range in bytes.
 */
#include "runtime/parts.h"

#include "base/limits.h"
#include "base/mem.h"

#define PIECES_PER_LAYER 7

void parts_linear(const struct model_config *c, enum linear_kind kind, struct linear_shape *out)
{
	int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	const struct linear_shape shapes[LINEARS] = {
		[LINEAR_QKV] = {c->dim,
				q + 2 * kv,
				3,
				{q, kv, kv},
				{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		[LINEAR_O] = {q, c->dim, 1, {c->dim}, {"self_attn.o_proj"}},
		[LINEAR_GATE_UP] = {c->dim,
				    2 * c->ffn_dim,
				    2,
				    {c->ffn_dim, c->ffn_dim},
				    {"mlp.gate_proj", "mlp.up_proj"}},
		[LINEAR_DOWN] = {c->ffn_dim, c->dim, 1, {c->dim}, {"mlp.down_proj"}},
	};

	*out = shapes[kind];
}

void parts_done(struct parts *p)
{
	mem_free(p->at);
	*p = (struct parts){0};
}

void parts_name(char out[128], int64_t layer, const char *piece, const char *suffix)
{
	snprintf(out, 128, "model.layers.%lld.%s.%s", (long long)layer, piece, suffix);
}

int parts_add(struct parts *p, const char *name, int64_t rows, int64_t cols, bool joined,
	      struct err *e)
{
	int64_t count, start = p->elements, bytes;
	struct model_part *part;

	if (!joined)
		start = (start + PARTS_ALIGN - 1) / PARTS_ALIGN * PARTS_ALIGN;
	if (rows <= 0 || cols < 0 || __builtin_mul_overflow(rows, cols ? cols : 1, &count) ||
	    __builtin_add_overflow(start, count, &p->elements) ||
	    __builtin_mul_overflow(p->elements, 16, &bytes))
		return err_set(e, ERR_DATA, "%s: a tensor of %lld x %lld is too large", name,
			       (long long)rows, (long long)cols);
	if (p->count == p->capacity) {
		int capacity = p->capacity ? 2 * p->capacity : 64;
		void *grown = mem_grow(p->at, (size_t)capacity, sizeof(*p->at));

		if (!grown || capacity > 4 * LIMIT_TENSORS)
			return err_set(e, ERR_MEMORY, "no memory for a table of %d tensors",
				       capacity);
		p->at = grown;
		p->capacity = capacity;
	}
	part = &p->at[p->count++];
	*part = (struct model_part){.offset = start,
				    .count = count,
				    .dims = cols ? 2 : 1,
				    .shape = {rows, cols},
				    .decay = cols != 0};
	snprintf(part->name, sizeof(part->name), "%s", name);
	return 0;
}

static int add_layer(struct parts *p, const struct model_config *c, int64_t layer, struct err *e)
{
	struct linear_shape s;
	char name[128];
	int rc = 0;

	for (enum linear_kind kind = 0; kind < LINEARS; kind++) {
		parts_linear(c, kind, &s);
		for (int i = 0; i < s.pieces && !rc; i++) {
			parts_name(name, layer, s.name[i], "weight");
			rc = parts_add(p, name, s.rows[i], s.in, i > 0, e);
		}
	}
	return rc;
}

int parts_base(const struct model_config *c, struct parts *out, struct err *e)
{
	struct parts p = {0};
	char name[128];
	int rc = parts_add(&p, "model.embed_tokens.weight", c->vocab, c->dim, false, e);

	for (int64_t l = 0; l < c->layers && !rc; l++)
		rc = add_layer(&p, c, l, e);
	if (!rc && !c->tied_embeddings)
		rc = parts_add(&p, "lm_head.weight", c->vocab, c->dim, false, e);
	for (int64_t l = 0; l < c->layers && !rc; l++) {
		parts_name(name, l, "input_layernorm", "weight");
		rc = parts_add(&p, name, c->dim, 0, false, e);
		parts_name(name, l, "post_attention_layernorm", "weight");
		if (!rc)
			rc = parts_add(&p, name, c->dim, 0, false, e);
	}
	if (!rc)
		rc = parts_add(&p, "model.norm.weight", c->dim, 0, false, e);
	if (rc) {
		parts_done(&p);
		return rc;
	}
	*out = p;
	return 0;
}

const struct model_part *parts_find(const struct parts *p, const char *name)
{
	for (int i = 0; i < p->count; i++)
		if (!strcmp(p->at[i].name, name))
			return &p->at[i];
	return NULL;
}

int parts_index_linear(int64_t layer, enum linear_kind kind)
{
	static const int first[LINEARS] = {0, 3, 4, 6};

	return 1 + (int)layer * PIECES_PER_LAYER + first[kind];
}

static int first_norm(const struct model_config *c)
{
	return 1 + (int)c->layers * PIECES_PER_LAYER + (c->tied_embeddings ? 0 : 1);
}

int parts_index_norm(const struct model_config *c, int64_t layer, int which)
{
	return first_norm(c) + 2 * (int)layer + which;
}

int parts_index_final_norm(const struct model_config *c)
{
	return first_norm(c) + 2 * (int)c->layers;
}

int parts_index_head(const struct model_config *c)
{
	return c->tied_embeddings ? 0 : 1 + (int)c->layers * PIECES_PER_LAYER;
}
