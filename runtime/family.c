/*
 * family: tables and their readers. The order of family_tensor is the order of computing:
 * embedding, layers, final norm, head. Pure but for model_config_read. Called by weights.c, parts.c
 * and weights_write.c. Sources: transformers' LlamaConfig; llama.cpp's gguf-py/gguf/constants.py
 * and its converter's LlamaModel.permute.
 */
#include "runtime/family.h"

#include <math.h>

#define CONFIG_FILE_LIMIT (1 << 20)

enum row_kind { ROWS_ONE, ROWS_DIM, ROWS_Q, ROWS_KV, ROWS_FFN };

static const struct {
	const char *canonical, *gguf; /* within a layer */
	enum row_kind rows, cols;
	bool rotary;
} layer_tensors[] = {
	{"input_layernorm", "attn_norm", ROWS_DIM, ROWS_ONE, false},
	{"self_attn.q_proj", "attn_q", ROWS_Q, ROWS_DIM, true},
	{"self_attn.k_proj", "attn_k", ROWS_KV, ROWS_DIM, true},
	{"self_attn.v_proj", "attn_v", ROWS_KV, ROWS_DIM, false},
	{"self_attn.o_proj", "attn_output", ROWS_DIM, ROWS_Q, false},
	{"post_attention_layernorm", "ffn_norm", ROWS_DIM, ROWS_ONE, false},
	{"mlp.gate_proj", "ffn_gate", ROWS_FFN, ROWS_DIM, false},
	{"mlp.up_proj", "ffn_up", ROWS_FFN, ROWS_DIM, false},
	{"mlp.down_proj", "ffn_down", ROWS_DIM, ROWS_FFN, false},
};
#define LAYER_TENSORS ((int)(sizeof layer_tensors / sizeof *layer_tensors))

static int64_t extent(const struct model_config *c, enum row_kind k)
{
	switch (k) {
	case ROWS_DIM:
		return c->dim;
	case ROWS_Q:
		return c->heads * c->head_dim;
	case ROWS_KV:
		return c->kv_heads * c->head_dim;
	case ROWS_FFN:
		return c->ffn_dim;
	default:
		return 1;
	}
}

int family_tensor_count(const struct model_config *c)
{
	return (int)c->layers * LAYER_TENSORS + (c->tied_embeddings ? 2 : 3);
}

void family_tensor(const struct model_config *c, int i, struct family_tensor *out)
{
	int in_layers = (int)c->layers * LAYER_TENSORS;
	*out = (struct family_tensor){.dims = 2, .shape = {c->vocab, c->dim}};
	if (i == 0) {
		snprintf(out->name, sizeof out->name, "model.embed_tokens.weight");
	} else if (i <= in_layers) {
		int l = (i - 1) / LAYER_TENSORS, t = (i - 1) % LAYER_TENSORS;
		snprintf(out->name, sizeof out->name, "model.layers.%d.%s.weight", l,
			 layer_tensors[t].canonical);
		out->dims = layer_tensors[t].cols == ROWS_ONE ? 1 : 2;
		out->shape[0] = extent(c, layer_tensors[t].rows);
		out->shape[1] = extent(c, layer_tensors[t].cols);
		if (layer_tensors[t].rotary)
			out->rotary_heads = out->shape[0] / c->head_dim;
	} else if (i == in_layers + 1) {
		snprintf(out->name, sizeof out->name, "model.norm.weight");
		out->dims = 1;
		out->shape[0] = c->dim;
		out->shape[1] = 1;
	} else {
		snprintf(out->name, sizeof out->name, "lm_head.weight");
	}
}

bool family_gguf_name(const char *name, char out[128])
{
	static const char *const whole[][2] = {
		{"token_embd.weight", "model.embed_tokens.weight"},
		{"output_norm.weight", "model.norm.weight"},
		{"output.weight", "lm_head.weight"},
	};
	for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
		if (!strcmp(name, whole[i][0])) {
			snprintf(out, 128, "%s", whole[i][1]);
			return true;
		}
	if (strncmp(name, "blk.", 4) || name[4] < '0' || name[4] > '9')
		return false;
	char *part;
	unsigned long layer = strtoul(name + 4, &part, 10);
	for (int i = 0; *part == '.' && layer < 100000 && i < LAYER_TENSORS; i++) {
		size_t n = strlen(layer_tensors[i].gguf);
		if (strncmp(part + 1, layer_tensors[i].gguf, n) || strcmp(part + 1 + n, ".weight"))
			continue;
		snprintf(out, 128, "model.layers.%lu.%s.weight", layer, layer_tensors[i].canonical);
		return true;
	}
	return false;
}

int64_t family_gguf_row(int64_t row, int64_t head_dim)
{
	int64_t in_head = row % head_dim, half = head_dim / 2;
	return row - in_head + 2 * (in_head % half) + in_head / half;
}

int model_config_check(const struct model_config *c, struct err *e)
{
	const struct {
		const char *name;
		int64_t value, low, high;
	} bounds[] = {
		{"vocabulary", c->vocab, 1, 1 << 22},
		{"hidden size", c->dim, 1, 1 << 17},
		{"layers", c->layers, 1, 1024},
		{"attention heads", c->heads, 1, 1024},
		{"key/value heads", c->kv_heads, 1, 1024},
		{"head size", c->head_dim, 2, 1024},
		{"feed-forward size", c->ffn_dim, 1, 1 << 20},
		{"context", c->context, 1, 1 << 24},
	};
	if (strcmp(c->architecture, "llama"))
		return err_set(e, ERR_DATA, "architecture \"%s\" is not supported",
			       c->architecture);
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
		if (bounds[i].value < bounds[i].low || bounds[i].value > bounds[i].high)
			return err_set(e, ERR_DATA, "%s of %lld is not in [%lld, %lld]",
				       bounds[i].name, (long long)bounds[i].value,
				       (long long)bounds[i].low, (long long)bounds[i].high);
	if (c->heads % c->kv_heads)
		return err_set(e, ERR_DATA,
			       "%lld attention heads are no multiple of %lld key/value heads",
			       (long long)c->heads, (long long)c->kv_heads);
	if (c->head_dim % 2)
		return err_set(e, ERR_DATA, "head size %lld is odd", (long long)c->head_dim);
	if (!(c->norm_eps > 0 && c->norm_eps < 1))
		return err_set(e, ERR_DATA, "norm epsilon %g is not in (0, 1)",
			       (double)c->norm_eps);
	if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12f))
		return err_set(e, ERR_DATA, "rotary base %g is not in [1, 1e12]",
			       (double)c->rope_theta);
	const int32_t ids[] = {c->bos_id, c->eos_id, c->pad_id};
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		if (ids[i] < -1 || ids[i] >= c->vocab)
			return err_set(e, ERR_DATA, "special token %d lies outside the vocabulary",
				       ids[i]);
	return 0;
}

/* -- GGUF -- */

static const struct gguf_tensor *gguf_named(const struct gguf *g, const char *name)
{
	for (int i = 0; i < gguf_tensor_count(g); i++)
		if (!strcmp(gguf_tensor_at(g, i)->name, name))
			return gguf_tensor_at(g, i);
	return NULL;
}

/* An absent key leaves *out as it is. */
static int optional_int(const struct gguf *g, const char *key, int64_t *out, struct err *e)
{
	return gguf_has(g, key) ? gguf_int(g, key, -1, INT32_MAX, out, e) : 0;
}

static int optional_id(const struct gguf *g, const char *key, int32_t *out, struct err *e)
{
	int64_t v = -1;
	int rc = optional_int(g, key, &v, e);
	if (!rc)
		*out = (int32_t)v;
	return rc;
}

static int gguf_sizes(const struct gguf *g, struct model_config *c, struct err *e)
{
	const struct {
		const char *key;
		int64_t *out;
	} required[] = {
		{"llama.embedding_length", &c->dim},
		{"llama.block_count", &c->layers},
		{"llama.attention.head_count", &c->heads},
		{"llama.feed_forward_length", &c->ffn_dim},
		{"llama.context_length", &c->context},
	};
	int rc = 0;
	for (size_t i = 0; !rc && i < sizeof required / sizeof *required; i++)
		rc = gguf_int(g, required[i].key, 1, INT32_MAX, required[i].out, e);
	if (rc)
		return rc;
	c->kv_heads = c->heads;
	c->head_dim = c->dim / c->heads;
	rc = optional_int(g, "llama.attention.head_count_kv", &c->kv_heads, e);
	if (!rc)
		rc = optional_int(g, "llama.attention.key_length", &c->head_dim, e);
	int64_t value_dim = c->head_dim, rotary = c->head_dim;
	if (!rc)
		rc = optional_int(g, "llama.attention.value_length", &value_dim, e);
	if (!rc)
		rc = optional_int(g, "llama.rope.dimension_count", &rotary, e);
	if (!rc && (value_dim != c->head_dim || rotary != c->head_dim))
		rc = err_set(
			e, ERR_DATA,
			"%s: heads whose values or rotary part differ in size are not supported",
			gguf_path(g));
	return rc;
}

static int gguf_numbers(const struct gguf *g, struct model_config *c, struct err *e)
{
	double eps, theta = 10000;
	struct gguf_str scaling;
	int rc = gguf_num(g, "llama.attention.layer_norm_rms_epsilon", &eps, e);
	if (!rc && gguf_has(g, "llama.rope.freq_base"))
		rc = gguf_num(g, "llama.rope.freq_base", &theta, e);
	if (rc)
		return rc;
	if (gguf_has(g, "llama.rope.scaling.type")) {
		rc = gguf_string(g, "llama.rope.scaling.type", &scaling, e);
		if (rc)
			return rc;
		if (scaling.len != 4 || memcmp(scaling.s, "none", 4))
			return err_set(e, ERR_DATA, "%s: rotary scaling \"%.*s\" is not supported",
				       gguf_path(g), (int)(scaling.len < 32 ? scaling.len : 32),
				       scaling.s);
	}
	c->norm_eps = (float)eps;
	c->rope_theta = (float)theta;
	return 0;
}

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e)
{
	struct gguf_str architecture;
	int rc = gguf_string(g, "general.architecture", &architecture, e);
	if (rc)
		return rc;
	if (architecture.len != 5 || memcmp(architecture.s, "llama", 5))
		return err_set(e, ERR_DATA, "%s: architecture \"%.*s\" is not supported",
			       gguf_path(g), (int)(architecture.len < 64 ? architecture.len : 64),
			       architecture.s);
	struct model_config c = {.architecture = "llama"};
	const struct gguf_tensor *embedding = gguf_named(g, "token_embd.weight");
	if (!embedding)
		return err_set(e, ERR_DATA, "%s: tensor token_embd.weight is missing",
			       gguf_path(g));
	c.vocab = embedding->shape[0];
	c.tied_embeddings = !gguf_named(g, "output.weight");
	rc = gguf_sizes(g, &c, e);
	if (!rc)
		rc = gguf_numbers(g, &c, e);
	if (!rc)
		rc = optional_id(g, "tokenizer.ggml.bos_token_id", &c.bos_id, e);
	if (!rc)
		rc = optional_id(g, "tokenizer.ggml.eos_token_id", &c.eos_id, e);
	if (!rc)
		rc = optional_id(g, "tokenizer.ggml.padding_token_id", &c.pad_id, e);
	if (rc)
		return rc;
	if (model_config_check(&c, e))
		return err_wrap(e, "%s", gguf_path(g));
	*out = c;
	return 0;
}

/* -- config.json -- */

static int json_size(const struct json *config, const char *path, const char *key, int64_t def,
		     int64_t *out, struct err *e)
{
	const struct json *v = json_get(config, key);
	if ((!v || json_is_null(v)) && def > 0) {
		*out = def;
		return 0;
	}
	double d = json_number_value(v);
	if (!json_is_number(v) || !(d >= 1 && d <= INT32_MAX) || d != floor(d))
		return err_set(e, ERR_DATA, "%s: %s is no positive whole number", path, key);
	*out = (int64_t)d;
	return 0;
}

/* A number, a list of them (the first counts), or none. */
static int32_t json_id(const struct json *config, const char *key)
{
	const struct json *v = json_get(config, key);
	if (json_is_array(v))
		v = json_first(v);
	double d = json_number_value(v);
	return json_is_number(v) && d >= 0 && d <= INT32_MAX ? (int32_t)d : -1;
}

static int refuse_unknown(const struct json *config, const char *path, struct err *e)
{
	const struct json *rope = json_get(config, "rope_parameters");
	const struct json *scaling = json_get(config, "rope_scaling");
	const char *type = json_str(rope, "rope_type", "default");
	if (json_is_object(scaling))
		type = json_str(scaling, "rope_type", json_str(scaling, "type", "unnamed"));
	const char *activation = json_str(config, "hidden_act", "silu");
	if (strcmp(type, "default"))
		return err_set(e, ERR_DATA, "%s: rotary scaling \"%.32s\" is not supported", path,
			       type);
	if (strcmp(activation, "silu"))
		return err_set(e, ERR_DATA, "%s: hidden_act \"%.32s\" is not supported", path,
			       activation);
	if (json_bool(config, "attention_bias", false) || json_bool(config, "mlp_bias", false))
		return err_set(e, ERR_DATA, "%s: biases are not supported", path);
	return 0;
}

int family_config_json(const struct json *config, const char *path, struct model_config *out,
		       struct err *e)
{
	struct model_config c = {0};
	if (!json_is_object(config))
		return err_set(e, ERR_DATA, "%s: not an object", path);
	const char *type = json_str(config, "model_type", "");
	if (strcmp(type, "llama"))
		return err_set(e, ERR_DATA, "%s: model_type \"%.32s\" is not supported", path,
			       type);
	snprintf(c.architecture, sizeof c.architecture, "llama");
	int rc = refuse_unknown(config, path, e);
	if (!rc)
		rc = json_size(config, path, "vocab_size", 0, &c.vocab, e);
	if (!rc)
		rc = json_size(config, path, "hidden_size", 0, &c.dim, e);
	if (!rc)
		rc = json_size(config, path, "num_hidden_layers", 0, &c.layers, e);
	if (!rc)
		rc = json_size(config, path, "num_attention_heads", 0, &c.heads, e);
	if (!rc)
		rc = json_size(config, path, "num_key_value_heads", c.heads, &c.kv_heads, e);
	if (!rc)
		rc = json_size(config, path, "head_dim", c.dim / c.heads, &c.head_dim, e);
	if (!rc)
		rc = json_size(config, path, "intermediate_size", 0, &c.ffn_dim, e);
	if (!rc)
		rc = json_size(config, path, "max_position_embeddings", 2048, &c.context, e);
	if (rc)
		return rc;
	c.norm_eps = (float)json_num(config, "rms_norm_eps", 1e-6);
	c.rope_theta = (float)json_num(json_get(config, "rope_parameters"), "rope_theta",
				       json_num(config, "rope_theta", 10000));
	c.tied_embeddings = json_bool(config, "tie_word_embeddings", false);
	c.bos_id = json_id(config, "bos_token_id");
	c.eos_id = json_id(config, "eos_token_id");
	c.pad_id = json_id(config, "pad_token_id");
	if (model_config_check(&c, e))
		return err_wrap(e, "%s", path);
	*out = c;
	return 0;
}

int model_config_read(const char *path, struct model_config *out, struct err *e)
{
	json_auto struct json *config = NULL;
	int rc = json_read_file(path, CONFIG_FILE_LIMIT, &config, e);
	return rc ? rc : family_config_json(config, path, out, e);
}

static void write_id(struct jsonw *w, const char *key, int32_t id)
{
	if (id < 0)
		jsonw_null(w, key);
	else
		jsonw_int(w, key, id);
}

/* The nearest double that prints short: 1e-05, not 9.999999747378752e-06. */
static double short_double(float f)
{
	char text[32];
	snprintf(text, sizeof text, "%.7g", (double)f);
	double d = strtod(text, NULL);
	return (float)d == f ? d : (double)f;
}

void family_config_write(const struct model_config *c, enum dtype store, struct jsonw *w)
{
	jsonw_open(w, NULL, '{');
	jsonw_open(w, "architectures", '[');
	jsonw_str(w, NULL, "LlamaForCausalLM");
	jsonw_close(w);
	jsonw_str(w, "model_type", "llama");
	jsonw_str(w, "torch_dtype", store == DTYPE_BF16 ? "bfloat16" : "float32");
	jsonw_int(w, "vocab_size", c->vocab);
	jsonw_int(w, "hidden_size", c->dim);
	jsonw_int(w, "intermediate_size", c->ffn_dim);
	jsonw_int(w, "num_hidden_layers", c->layers);
	jsonw_int(w, "num_attention_heads", c->heads);
	jsonw_int(w, "num_key_value_heads", c->kv_heads);
	jsonw_int(w, "head_dim", c->head_dim);
	jsonw_int(w, "max_position_embeddings", c->context);
	jsonw_str(w, "hidden_act", "silu");
	jsonw_num(w, "rms_norm_eps", short_double(c->norm_eps));
	jsonw_num(w, "rope_theta", short_double(c->rope_theta));
	jsonw_bool(w, "attention_bias", false);
	jsonw_bool(w, "mlp_bias", false);
	jsonw_bool(w, "tie_word_embeddings", c->tied_embeddings);
	write_id(w, "bos_token_id", c->bos_id);
	write_id(w, "eos_token_id", c->eos_id);
	write_id(w, "pad_token_id", c->pad_id);
	jsonw_close(w);
}
