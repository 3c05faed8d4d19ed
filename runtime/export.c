/*
 * export: tensors leave the device one by one through one host buffer of the largest. The folder
 * appears whole or not at all (hf_writer renames it into place); the adapter is written after that,
 * by the same names that peft uses.
 */
#include "runtime/export.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/beat.h"
#include "runtime/safetensors.h"

static int64_t largest(struct model *m)
{
	int64_t most = 0;

	for (int i = 0; i < model_base_count(m); i++)
		if (model_base_at(m, i)->count > most)
			most = model_base_at(m, i)->count;
	return most;
}

static int write_merged(struct model *m, struct hf_writer *w, enum dtype store,
			struct wire_page *page, struct err *e)
{
	mem_autofree float *host = mem_array((size_t)largest(m), sizeof(float));
	int rc = 0;

	if (!host)
		return err_set(e, ERR_MEMORY, "no memory to export the model");
	for (int i = 0; i < model_base_count(m) && !rc; i++) {
		const struct model_part *p = model_base_at(m, i);

		rc = model_read(m, p->name, true, host, p->count, e);
		if (!rc)
			rc = hf_writer_tensor(w, p->name, p->dims, p->shape, host, store, e);
		beat(page);
	}
	return rc;
}

static int adapter_config(const struct jobspec *spec, struct buf *out)
{
	const struct jobspec_train *t = &spec->train;
	struct jsonw w;

	jsonw_init(&w, out);
	jsonw_open(&w, NULL, '{');
	jsonw_str(&w, "peft_type", "LORA");
	jsonw_str(&w, "task_type", "CAUSAL_LM");
	jsonw_str(&w, "base_model_name_or_path", spec->model.source);
	jsonw_int(&w, "r", t->lora.rank);
	jsonw_num(&w, "lora_alpha", t->lora.alpha);
	jsonw_num(&w, "lora_dropout", 0);
	jsonw_str(&w, "bias", "none");
	jsonw_bool(&w, "fan_in_fan_out", false);
	jsonw_bool(&w, "inference_mode", true);
	jsonw_open(&w, "target_modules", '[');
	for (int i = 0; i < t->lora.target_count; i++)
		jsonw_str(&w, NULL, t->lora.targets[i]);
	jsonw_close(&w);
	jsonw_close(&w);
	return jsonw_end(&w);
}

static int write_factors(struct model *m, const char *path, struct err *e)
{
	int count = model_part_count(m), rc;
	mem_autofree struct safetensors_entry *entry = mem_array((size_t)count, sizeof(*entry));
	mem_autofree float *host = mem_array((size_t)model_trainable(m), sizeof(float));
	buf_auto struct buf file;

	buf_init(&file, SIZE_MAX / 2);
	if (!entry || !host)
		return err_set(e, ERR_MEMORY, "no memory to export the adapter");
	for (int i = 0; i < count; i++) {
		const struct model_part *p = model_part_at(m, i);

		entry[i].type = DTYPE_F32;
		entry[i].dims = p->dims;
		entry[i].shape[0] = p->shape[0];
		entry[i].shape[1] = p->shape[1];
		entry[i].bytes = p->count * 4;
		snprintf(entry[i].name, sizeof(entry[i].name), "base_model.model.%s", p->name);
	}
	rc = safetensors_header(entry, count, (const char *const[]){"format", "pt", NULL}, 0, &file,
				e);
	for (int i = 0; i < count && !rc; i++) {
		const struct model_part *p = model_part_at(m, i);

		rc = model_read(m, p->name, false, host, p->count, e);
		if (!rc && buf_add(&file, host, (size_t)p->count * 4))
			rc = err_set(e, ERR_MEMORY, "no memory to export the adapter");
	}
	return rc ? rc : io_write_file(path, file.data, file.len, 0644, e);
}

static int write_adapter(struct model *m, const struct jobspec *spec, struct err *e)
{
	char path[LIMIT_PATH_BYTES + 64];
	buf_auto struct buf config;
	int rc;

	buf_init(&config, LIMIT_JOB_FILE_BYTES);
	if (adapter_config(spec, &config))
		return err_set(e, ERR_MEMORY, "no memory to export the adapter");
	snprintf(path, sizeof(path), "%s/adapter", spec->train.output);
	rc = io_mkdirs(path, 0755, e);
	if (!rc) {
		snprintf(path, sizeof(path), "%s/adapter/adapter_config.json", spec->train.output);
		rc = io_write_file(path, config.data, config.len, 0644, e);
	}
	if (!rc) {
		snprintf(path, sizeof(path), "%s/adapter/adapter_model.safetensors",
			 spec->train.output);
		rc = write_factors(m, path, e);
	}
	return rc;
}

int export_model(struct model *m, const struct model_config *c, struct weights *tokenizer_from,
		 const struct jobspec *spec, enum dtype store, struct wire_page *page,
		 struct err *e)
{
	struct hf_writer *w = NULL;
	int rc = hf_writer_create(spec->train.output, c, tokenizer_from, &w, e);

	if (rc)
		return rc;
	rc = write_merged(m, w, store, page, e);
	if (!rc)
		rc = hf_writer_commit(w, e);
	hf_writer_destroy(w);
	if (!rc && spec->train.method == METHOD_LORA)
		rc = write_adapter(m, spec, e);
	return rc;
}
