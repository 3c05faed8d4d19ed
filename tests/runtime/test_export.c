/*
 * Goal: the exported folder holds the merged model and peft's adapter, and opens again as a model.
 * Method: the tiny Llama with peft's own factors (golden): the folder's weights against W + scale B
 * A by plain loops, the adapter's tensors against the factors, its configuration field by field.
 */
#include "runtime/export.h"

#include "base/mem.h"
#include "runtime/safetensors.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

static struct err e;

static void load_factors(struct dev *d, struct model *m, struct safetensors *s)
{
	for (int i = 0; i < model_part_count(m); i++) {
		const struct model_part *p = model_part_at(m, i);
		const struct safetensors_tensor *t = safetensors_find(s, p->name);

		ck_assert_ptr_nonnull(t);
		dev_upload(d, model_master(m) + p->offset, t->data, (size_t)t->bytes);
	}
}

static const float *factor(struct safetensors *s, const char *stem, const char *which)
{
	char name[192];

	snprintf(name, sizeof(name), "%s.lora_%s.weight", stem, which);
	return (const float *)safetensors_find(s, name)->data;
}

/* v_proj of layer 1: (32, 64), rank 4, scale 2 */
static void check_merged(struct weights *before, struct weights *after, struct safetensors *s)
{
	static const char stem[] = "model.layers.1.self_attn.v_proj";
	static float w[32][64], got[32][64];
	const float *a = factor(s, stem, "A"), *b = factor(s, stem, "B");
	char name[64];

	snprintf(name, sizeof(name), "%s.weight", stem);
	ck_assert(!weights_read(before, name, 32, 64, 0, 32, DTYPE_F32, w, &e));
	ck_assert_msg(!weights_read(after, name, 32, 64, 0, 32, DTYPE_F32, got, &e), "%s", e.text);
	for (int o = 0; o < 32; o++)
		for (int i = 0; i < 64; i++) {
			double want = (double)w[o][i];

			for (int r = 0; r < 4; r++)
				want += 2 * (double)b[o * 4 + r] * (double)a[r * 64 + i];
			ck_assert_double_eq_tol((double)got[o][i], want, 1e-6);
		}
	/* k_proj was no target */
	ck_assert(!weights_read(before, "model.layers.1.self_attn.k_proj.weight", 32, 64, 0, 32,
				DTYPE_F32, w, &e));
	ck_assert(!weights_read(after, "model.layers.1.self_attn.k_proj.weight", 32, 64, 0, 32,
				DTYPE_F32, got, &e));
	ck_assert_mem_eq(w, got, sizeof(w));
}

static void check_adapter(const char *folder, struct safetensors *s)
{
	json_auto struct json *v = NULL;
	struct safetensors *f;
	char path[256];

	snprintf(path, sizeof(path), "%s/adapter/adapter_model.safetensors", folder);
	ck_assert_msg(!safetensors_open(path, &f, &e), "%s", e.text);
	ck_assert_int_eq(safetensors_count(f), 8);
	for (int i = 0; i < 8; i++) {
		const struct safetensors_tensor *got = safetensors_at(f, i), *want;

		ck_assert(!strncmp(got->name, "base_model.model.", 17));
		want = safetensors_find(s, got->name + 17);
		ck_assert_ptr_nonnull(want);
		ck_assert_int_eq(want->shape[0], got->shape[0]);
		ck_assert_int_eq(want->bytes, got->bytes);
		ck_assert_mem_eq(want->data, got->data, (size_t)got->bytes);
	}
	safetensors_close(f);
	snprintf(path, sizeof(path), "%s/adapter/adapter_config.json", folder);
	ck_assert_msg(!json_read_file(path, 1 << 16, &v, &e), "%s", e.text);
	ck_assert_str_eq(json_str(v, "peft_type", ""), "LORA");
	ck_assert_str_eq(json_str(v, "task_type", ""), "CAUSAL_LM");
	ck_assert_int_eq(json_int(v, "r", 0), 4);
	ck_assert_int_eq(json_int(v, "lora_alpha", 0), 8);
	ck_assert_int_eq((int)json_count(json_get(v, "target_modules")), 2);
}

START_TEST(folder_holds_the_merged_model_and_the_adapter)
{
	static const char *const targets[] = {"q_proj", "v_proj", NULL};
	struct model_conf c = {.t = DTYPE_F32,
			       .train = true,
			       .micro_sequences = 1,
			       .sequence_length = 4,
			       .lora_rank = 4,
			       .lora_alpha = 8,
			       .lora_targets = targets};
	struct jobspec spec = {
		.train = {.method = METHOD_LORA, .lora = {4, 8, {"q_proj", "v_proj"}, 2}}};
	struct weights *before, *after;
	struct safetensors *s;
	char folder[64], model[128], output[128];
	struct model *m;
	struct dev *d;

	golden_folder(folder);
	bytes_model(folder);
	snprintf(model, sizeof(model), "%s/model", folder);
	snprintf(output, sizeof(output), "%s/output", folder);
	spec.model.source = model;
	spec.train.output = output;
	ck_assert(!dev_open("cpu", 0, 1, &d, &e));
	ck_assert_msg(!weights_open(model, NULL, &before, &e), "%s", e.text);
	c.config = *weights_config(before);
	ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
	ck_assert(!model_load(m, before, &e));
	ck_assert_msg(!safetensors_open(GOLDEN "tiny_lora.safetensors", &s, &e), "%s", e.text);
	load_factors(d, m, s);
	ck_assert_msg(!export_model(m, &c.config, before, &spec, DTYPE_F32, NULL, &e), "%s",
		      e.text);
	ck_assert_msg(!weights_open(output, NULL, &after, &e), "%s", e.text);
	ck_assert_int_eq(weights_config(after)->dim, 64);
	check_merged(before, after, s);
	check_adapter(output, s);
	safetensors_close(s);
	weights_close(before);
	weights_close(after);
	model_destroy(m);
	dev_close(d);
	golden_remove(folder);
}
END_TEST

UNIT_MAIN("export", folder_holds_the_merged_model_and_the_adapter)
