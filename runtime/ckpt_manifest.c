/*
 * ckpt_manifest: the hash is the first field, computed over the text with zeros in its place.
 * Numbers that may pass 2^53 (the seed) are written as hexadecimal text; a loss that is not known
 * is null.
 */
#include "runtime/ckpt_manifest.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/hash.h"

#include <inttypes.h>
#include <math.h>

#define MANIFEST_LIMIT (16 << 20)
#define FILES_LIMIT    65536

static const char head[] = "{\"xxh3\":\"0000000000000000\",";
#define HASH_AT 9 /* of the digits in head */

void ckpt_file_name(int rank, const char hash[17], char out[64])
{
	snprintf(out, 64, "rank-%05d-%.16s.safetensors", rank, hash);
}

static void write_fields(struct jsonw *w, const struct ckpt_manifest *m)
{
	const struct ckpt_state *s = &m->state;
	char seed[17];
	snprintf(seed, sizeof seed, "%016" PRIx64, s->seed);
	jsonw_str(w, "xxh3", "0000000000000000");
	jsonw_int(w, "version", 1);
	jsonw_int(w, "step", s->step);
	jsonw_int(w, "samples", s->samples);
	jsonw_int(w, "tokens", s->tokens);
	jsonw_str(w, "seed", seed);
	jsonw_int(w, "incarnation", s->incarnation);
	jsonw_int(w, "world", s->world);
	jsonw_num(w, "firstLoss", s->first_loss);
	jsonw_num(w, "loss", s->loss);
	jsonw_num(w, "firstValidationLoss", s->first_validation_loss);
	jsonw_num(w, "validationLoss", s->validation_loss);
	jsonw_str(w, "specHash", s->spec_hash);
	jsonw_open(w, "files", '[');
	for (int i = 0; i < m->file_count; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_str(w, "name", m->files[i].name);
		jsonw_int(w, "bytes", m->files[i].bytes);
		jsonw_str(w, "xxh3", m->files[i].hash);
		jsonw_close(w);
	}
	jsonw_close(w);
}

int ckpt_manifest_write(const char *path, const struct ckpt_manifest *m, struct err *e)
{
	buf_auto struct buf text;
	buf_init(&text, MANIFEST_LIMIT);
	struct jsonw w;
	jsonw_init(&w, &text);
	jsonw_open(&w, NULL, '{');
	write_fields(&w, m);
	jsonw_close(&w);
	if (jsonw_end(&w))
		return err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
	if (text.len < sizeof head || memcmp(text.data, head, sizeof head - 1))
		return err_set(e, ERR_BUG, "%s: the writer's form has changed", path);
	char hash[HASH_XXH3_HEX];
	hash_xxh3_hex(text.data, text.len, hash);
	memcpy(text.data + HASH_AT, hash, 16);
	return io_write_file(path, text.data, text.len, 0644, e);
}

static double number_or_nan(const struct json *v, const char *key)
{
	return json_num(v, key, NAN);
}

static int read_files(const struct json *list, struct ckpt_manifest *m, struct err *e)
{
	size_t count = json_count(list);
	if (!json_is_array(list) || !count || count > FILES_LIMIT)
		return err_set(e, ERR_CORRUPT, "files are no list of 1 to %d", FILES_LIMIT);
	m->files = mem_array(count, sizeof *m->files);
	if (!m->files)
		return err_set(e, ERR_MEMORY, "no memory for %zu files", count);
	json_each (v, list) {
		struct ckpt_file *f = &m->files[m->file_count++];
		const char *name = json_str(v, "name", ""), *hash = json_str(v, "xxh3", "");
		f->bytes = json_int(v, "bytes", -1);
		if (!*name || strchr(name, '/') || *name == '.' || strlen(name) >= sizeof f->name ||
		    strlen(hash) != 16 || f->bytes < 0)
			return err_set(e, ERR_CORRUPT, "file %d is not described",
				       m->file_count - 1);
		memcpy(f->name, name, strlen(name) + 1);
		memcpy(f->hash, hash, 17);
	}
	return 0;
}

static int read_state(const struct json *v, struct ckpt_state *s, struct err *e)
{
	const char *seed = json_str(v, "seed", ""), *spec_hash = json_str(v, "specHash", "");
	int64_t world = json_int(v, "world", -1);
	*s = (struct ckpt_state){
		.step = json_int(v, "step", -1),
		.samples = json_int(v, "samples", -1),
		.tokens = json_int(v, "tokens", -1),
		.seed = strtoull(seed, NULL, 16),
		.incarnation = json_int(v, "incarnation", -1),
		.first_loss = number_or_nan(v, "firstLoss"),
		.loss = number_or_nan(v, "loss"),
		.first_validation_loss = number_or_nan(v, "firstValidationLoss"),
		.validation_loss = number_or_nan(v, "validationLoss"),
	};
	if (json_int(v, "version", 0) != 1)
		return err_set(e, ERR_CORRUPT, "version is not 1");
	if (s->step < 0 || s->samples < 0 || s->tokens < 0 || s->incarnation < 0 || world < 1 ||
	    world > INT32_MAX || strlen(seed) != 16 || strlen(spec_hash) >= sizeof s->spec_hash)
		return err_set(e, ERR_CORRUPT, "a field is missing or absurd");
	s->world = (int)world;
	memcpy(s->spec_hash, spec_hash, strlen(spec_hash) + 1);
	return 0;
}

static int parse(struct buf *text, struct ckpt_manifest *m, struct err *e)
{
	char said[17] = "", hash[HASH_XXH3_HEX];
	if (text->len < sizeof head)
		return err_set(e, ERR_CORRUPT, "cut off");
	memcpy(said, text->data + HASH_AT, 16);
	memcpy(text->data + HASH_AT, head + HASH_AT, 16);
	hash_xxh3_hex(text->data, text->len, hash);
	if (memcmp(text->data, head, sizeof head - 1) || strcmp(said, hash))
		return err_set(e, ERR_CORRUPT, "its hash does not match");
	json_auto struct json *v = NULL;
	if (json_parse(text->data, text->len, &v, e))
		return err_set(e, ERR_CORRUPT, "not JSON");
	int rc = read_state(v, &m->state, e);
	return rc ? rc : read_files(json_get(v, "files"), m, e);
}

int ckpt_manifest_read(const char *path, struct ckpt_manifest *out, struct err *e)
{
	buf_auto struct buf text;
	buf_init(&text, MANIFEST_LIMIT);
	int rc = io_read_file(path, MANIFEST_LIMIT, &text, e);
	if (rc)
		return rc;
	struct ckpt_manifest m = {0};
	rc = parse(&text, &m, e);
	if (rc) {
		ckpt_manifest_done(&m);
		return err_wrap(e, "%s", path);
	}
	*out = m;
	return 0;
}

void ckpt_manifest_done(struct ckpt_manifest *m)
{
	mem_free(m->files);
	m->files = NULL;
	m->file_count = 0;
}
