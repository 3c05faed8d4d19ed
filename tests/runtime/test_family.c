/*
 * Goal: names and configurations of both formats come out as the one canonical form; what is not
 * known is refused. Method: tables; the golden config.json; a configuration written and read back.
 */
#include "runtime/family.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

static const struct model_config tiny = {
	.architecture = "llama",
	.vocab = 256,
	.dim = 64,
	.layers = 2,
	.heads = 4,
	.kv_heads = 2,
	.head_dim = 16,
	.ffn_dim = 128,
	.context = 128,
	.norm_eps = 1e-5f,
	.rope_theta = 10000,
	.tied_embeddings = true,
	.bos_id = 1,
	.eos_id = 2,
	.pad_id = -1,
};

static void check_equal(const struct model_config *a, const struct model_config *b)
{
	ck_assert_str_eq(a->architecture, b->architecture);
	ck_assert(a->vocab == b->vocab && a->dim == b->dim && a->layers == b->layers);
	ck_assert(a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim);
	ck_assert(a->ffn_dim == b->ffn_dim && a->context == b->context);
	ck_assert(a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta);
	ck_assert(a->tied_embeddings == b->tied_embeddings);
	ck_assert(a->bos_id == b->bos_id && a->eos_id == b->eos_id && a->pad_id == b->pad_id);
}

START_TEST(the_golden_config_is_read)
{
	struct model_config c;
	struct err e = {0};
	ck_assert_msg(model_config_read(GOLDEN "tiny-llama/config.json", &c, &e) == 0, "%s",
		      e.text);
	check_equal(&c, &tiny);
	ck_assert_int_eq(model_config_read("tests/none.json", &c, &e), -ERR_DATA);
}
END_TEST

START_TEST(a_config_survives_writing_and_reading)
{
	struct model_config c = tiny, back;
	c.norm_eps = 9.999999747378752e-06f;
	c.rope_theta = 130000;
	c.tied_embeddings = false;
	buf_auto struct buf text;
	buf_init(&text, 1 << 16);
	struct jsonw w;
	jsonw_init(&w, &text);
	family_config_write(&c, DTYPE_BF16, &w);
	ck_assert_int_eq(jsonw_end(&w), 0);
	ck_assert_ptr_nonnull(strstr(text.data, "1e-05"));
	json_auto struct json *v = NULL;
	struct err e = {0};
	ck_assert_int_eq(json_parse(text.data, text.len, &v, &e), 0);
	ck_assert_int_eq(family_config_json(v, "config.json", &back, &e), 0);
	check_equal(&c, &back);
}
END_TEST

#define BASE                                                                                       \
	"\"vocab_size\":256,\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128"
START_TEST(what_is_not_known_is_refused)
{
	static const struct {
		const char *config, *says;
	} bad[] = {
		{"[]", "not an object"},
		{"{\"model_type\":\"gpt2\"}", "\"gpt2\""},
		{"{\"model_type\":\"llama\"," BASE "}", "num_attention_heads"},
		{"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":0}",
		 "num_attention_heads"},
		{"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":2.5}",
		 "num_attention_heads"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"num_key_value_heads\":3}",
		 "no multiple"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"attention_bias\":true}",
		 "biases"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"hidden_act\":\"gelu\"}",
		 "gelu"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"rope_scaling\":{\"rope_type\":\"llama3\"}}",
		 "llama3"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"rope_parameters\":{\"rope_type\":\"yarn\"}}",
		 "yarn"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"eos_token_id\":256}",
		 "outside the vocabulary"},
		{"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"rms_norm_eps\":0}",
		 "epsilon"},
		{"{\"model_type\":\"llama\"," BASE ",\"num_attention_heads\":4,\"head_dim\":15}",
		 "odd"},
		{"{\"model_type\":\"llama\"," BASE
		 ",\"num_attention_heads\":4,\"max_position_embeddings\":2147483647}",
		 "context"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		json_auto struct json *v = NULL;
		struct model_config c = {.dim = 77};
		struct err e = {0};
		ck_assert_int_eq(json_parse(bad[i].config, strlen(bad[i].config), &v, &e), 0);
		ck_assert_msg(family_config_json(v, "c.json", &c, &e) == -ERR_DATA, "%s",
			      bad[i].config);
		ck_assert_msg(strstr(e.text, bad[i].says) && !strncmp(e.text, "c.json", 6), "%s",
			      e.text);
		ck_assert_int_eq(c.dim, 77); /* unchanged on failure */
	}
}
END_TEST

START_TEST(gguf_names_are_mapped)
{
	static const char *const pairs[][2] = {
		{"token_embd.weight", "model.embed_tokens.weight"},
		{"output.weight", "lm_head.weight"},
		{"blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"},
		{"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"},
		{"blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"},
	};
	static const char *const unknown[] = {"rope_freqs.weight",
					      "blk.0.attn_q.bias",
					      "blk.x.attn_q.weight",
					      "blk.-1.attn_q.weight",
					      "blk.0.attn_q",
					      "blk.0",
					      "",
					      "blk.99999999999999999999.attn_q.weight"};
	char name[128];
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		ck_assert(family_gguf_name(pairs[i][0], name));
		ck_assert_str_eq(name, pairs[i][1]);
	}
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
		ck_assert_msg(!family_gguf_name(unknown[i], name), "%s", unknown[i]);
}
END_TEST

START_TEST(tensors_are_listed_with_their_shapes)
{
	struct family_tensor t;
	ck_assert_int_eq(family_tensor_count(&tiny), 20);
	int64_t elements = 0;
	for (int i = 0; i < 20; i++) {
		family_tensor(&tiny, i, &t);
		elements += t.shape[0] * t.shape[1];
	}
	ck_assert_int_eq(elements, 90432);
	family_tensor(&tiny, 12, &t);
	ck_assert_str_eq(t.name, "model.layers.1.self_attn.k_proj.weight");
	ck_assert(t.shape[0] == 32 && t.shape[1] == 64 && t.rotary_heads == 2);
	family_tensor(&tiny, 13, &t);
	ck_assert_int_eq(t.rotary_heads, 0);
	struct model_config untied = tiny;
	untied.tied_embeddings = false;
	family_tensor(&untied, 20, &t);
	ck_assert_str_eq(t.name, "lm_head.weight");
}
END_TEST

/* llama.cpp: reshape(heads, 2, half, cols).swapaxes(1, 2): our row s * half + j stands at 2 * j +
 * s. */
START_TEST(rotary_rows_are_found)
{
	bool seen[48] = {false};
	for (int64_t row = 0; row < 48; row++) {
		int64_t at = family_gguf_row(row, 16), head = row / 16, s = row % 16 / 8,
			j = row % 8;
		ck_assert_int_eq(at, head * 16 + 2 * j + s);
		ck_assert(!seen[at]);
		seen[at] = true;
	}
}
END_TEST

UNIT_MAIN("family", the_golden_config_is_read, a_config_survives_writing_and_reading,
	  what_is_not_known_is_refused, gguf_names_are_mapped, tensors_are_listed_with_their_shapes,
	  rotary_rows_are_found)
