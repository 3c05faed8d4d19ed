/*
 * tok_json: tokenizer.json of Hugging Face's tokenizers, read and written. Reading takes the
 * byte-level BPE family: model BPE, pre-tokenizers ByteLevel, Split (by expression, isolated),
 * Digits and sequences of them. Writing spells every stage as a Split, which the reference applies
 * to the same effect. Called by tok_open and weights_write.c. Strings of a definition live in the
 * tree it was read from.
 */
#include "runtime/tok_def.h"

#include "base/io.h"
#include "base/limits.h"
#include "runtime/weights.h"

#include <math.h>

#define TOKENIZER_FILE_LIMIT (128 << 20)

struct reader {
	const char *path;
	struct arena *a;
	struct tok_def d;
	bool byte_level;
};

static int unsupported(const struct reader *r, const char *what, const char *value, struct err *e)
{
	return err_set(e, ERR_DATA, "%s: %s \"%.40s\" is not supported", r->path, what,
		       value ? value : "?");
}

static int no_memory(const struct reader *r, struct err *e)
{
	return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", r->path);
}

static int add_pattern(struct reader *r, const char *pattern, struct err *e)
{
	if (r->d.pattern_count == TOK_SPLIT_STAGES)
		return err_set(e, ERR_DATA, "%s: more than %d pre-tokenizer stages", r->path,
			       TOK_SPLIT_STAGES);
	r->d.patterns[r->d.pattern_count++] = pattern;
	return 0;
}

static int read_split(struct reader *r, const struct json *v, struct err *e)
{
	const char *pattern = json_str(json_get(v, "pattern"), "Regex", NULL);
	const char *behavior = json_str(v, "behavior", "");
	if (!pattern)
		return unsupported(r, "pre-tokenizer Split by", "String", e);
	if (strcmp(behavior, "Isolated") || json_bool(v, "invert", false))
		return unsupported(r, "pre-tokenizer Split with behavior", behavior, e);
	return add_pattern(r, pattern, e);
}

static int read_byte_level(struct reader *r, const struct json *v, struct err *e)
{
	if (json_bool(v, "add_prefix_space", true))
		return unsupported(r, "pre-tokenizer ByteLevel with", "add_prefix_space", e);
	r->byte_level = true;
	if (!json_bool(v, "use_regex", true))
		return 0;
	return add_pattern(r,
			   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
			   "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
			   e);
}

static int read_pre_tokenizer(struct reader *r, const struct json *v, struct err *e)
{
	const char *type = json_str(v, "type", "none");
	if (r->byte_level)
		return unsupported(r, "pre-tokenizer after ByteLevel:", type, e);
	if (!strcmp(type, "ByteLevel"))
		return read_byte_level(r, v, e);
	if (!strcmp(type, "Split"))
		return read_split(r, v, e);
	if (!strcmp(type, "Digits"))
		return add_pattern(
			r, json_bool(v, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", e);
	return unsupported(r, "pre-tokenizer", type, e);
}

static int read_stages(struct reader *r, const struct json *v, struct err *e)
{
	int rc = 0;
	if (strcmp(json_str(v, "type", ""), "Sequence")) {
		rc = read_pre_tokenizer(r, v, e);
	} else {
		json_each (stage, json_get(v, "pretokenizers")) {
			rc = read_pre_tokenizer(r, stage, e);
			if (rc)
				return rc;
		}
	}
	if (!rc && !r->byte_level)
		rc = unsupported(r, "tokenizer that is not", "ByteLevel", e);
	return rc;
}

static int read_normalizer(struct reader *r, const struct json *v, struct err *e)
{
	if (!v || json_is_null(v))
		return 0;
	const char *type = json_str(v, "type", "?");
	if (strcmp(type, "NFC"))
		return unsupported(r, "normalizer", type, e);
	r->d.nfc = true;
	return 0;
}

/* An id of the file: whole, and small enough for tables to be sized by it. */
static bool valid_id(const struct json *v, int32_t *out)
{
	double d = json_number_value(v);
	if (!json_is_number(v) || !(d >= 0 && d < TOK_VOCAB_LIMIT) || d != floor(d))
		return false;
	*out = (int32_t)d;
	return true;
}

static int read_vocab(struct reader *r, const struct json *vocab, const struct json *added,
		      struct err *e)
{
	struct tok_def *d = &r->d;
	int32_t id = -1;
	json_each (v, vocab) {
		if (!valid_id(v, &id))
			return err_set(e, ERR_DATA, "%s: token \"%.40s\" has no valid id", r->path,
				       json_key(v));
		if (id >= d->vocab)
			d->vocab = id + 1;
	}
	json_each (v, added) {
		if (!valid_id(json_get(v, "id"), &id) || !json_str(v, "content", NULL))
			return err_set(e, ERR_DATA, "%s: an added token has no valid id or content",
				       r->path);
		if (id >= d->vocab)
			d->vocab = id + 1;
	}
	if (!d->vocab)
		return err_set(e, ERR_DATA, "%s: the vocabulary is empty", r->path);
	d->tokens = arena_array(r->a, (size_t)d->vocab, sizeof *d->tokens);
	d->kinds = arena_array(r->a, (size_t)d->vocab, 1);
	if (!d->tokens || !d->kinds)
		return no_memory(r, e);
	json_each (v, vocab) {
		valid_id(v, &id);
		if (d->kinds[id] != TOK_UNUSED)
			return err_set(e, ERR_DATA, "%s: id %d stands twice", r->path, id);
		d->tokens[id] = (struct tok_text){json_key(v), strlen(json_key(v))};
		d->kinds[id] = TOK_NORMAL;
	}
	return 0;
}

static int read_added(struct reader *r, const struct json *added, struct err *e)
{
	json_each (v, added) {
		int32_t id = -1;
		const char *content = json_str(v, "content", "");
		valid_id(json_get(v, "id"), &id);
		if (json_bool(v, "lstrip", false) || json_bool(v, "rstrip", false) ||
		    json_bool(v, "single_word", false))
			return unsupported(r, "added token with strip or single_word:", content, e);
		r->d.tokens[id] = (struct tok_text){content, strlen(content)};
		r->d.kinds[id] = json_bool(v, "special", false) ? TOK_SPECIAL : TOK_ADDED;
	}
	return 0;
}

static int read_merges(struct reader *r, const struct json *merges, struct err *e)
{
	size_t count = json_count(merges), i = 0;
	if (!json_is_array(merges) || count > TOK_MERGES_LIMIT)
		return err_set(e, ERR_DATA, "%s: merges are no list of at most %d", r->path,
			       TOK_MERGES_LIMIT);
	r->d.merges = arena_array(r->a, count + 1, sizeof *r->d.merges);
	if (!r->d.merges)
		return no_memory(r, e);
	json_each (m, merges) {
		const char *left = json_string_value(m), *right = NULL;
		size_t left_len = 0;
		if (left) { /* "a b", the older form */
			const char *space = strchr(left, ' ');
			left_len = space ? (size_t)(space - left) : 0;
			right = space ? space + 1 : NULL;
		} else if (json_count(m) == 2) { /* ["a", "b"] */
			left = json_string_value(json_first(m));
			right = json_string_value(json_next(json_first(m)));
			left_len = left ? strlen(left) : 0;
		}
		if (!left || !right)
			return err_set(e, ERR_DATA, "%s: merge %zu is no pair", r->path, i);
		r->d.merges[i][0] = (struct tok_text){left, left_len};
		r->d.merges[i][1] = (struct tok_text){right, strlen(right)};
		i++;
	}
	r->d.merge_count = (int64_t)count;
	return 0;
}

static int check_model(struct reader *r, const struct json *model, struct err *e)
{
	const char *type = json_str(model, "type", "BPE");
	if (strcmp(type, "BPE"))
		return unsupported(r, "model", type, e);
	if (json_num(model, "dropout", 0) != 0)
		return unsupported(r, "model with", "dropout", e);
	if (json_bool(model, "byte_fallback", false))
		return unsupported(r, "model with", "byte_fallback", e);
	if (*json_str(model, "continuing_subword_prefix", "") ||
	    *json_str(model, "end_of_word_suffix", ""))
		return unsupported(r, "model with", "prefix or suffix", e);
	r->d.ignore_merges = json_bool(model, "ignore_merges", false);
	return 0;
}

/* tokenizer_config.json names a token by text, or by an object with content. */
static int32_t named_token(const struct tok_def *d, const struct json *config, const char *key)
{
	const struct json *v = json_get(config, key);
	const char *text = json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
	for (int32_t i = 0; text && i < d->vocab; i++)
		if (d->kinds[i] != TOK_UNUSED && d->tokens[i].len == strlen(text) &&
		    !memcmp(d->tokens[i].s, text, d->tokens[i].len))
			return i;
	return -1;
}

int tok_def_json(const struct json *root, const struct json *config, const char *path,
		 struct arena *a, struct tok_def *out, struct err *e)
{
	struct reader r = {.path = path, .a = a};
	const struct json *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
	if (!json_is_object(json_get(model, "vocab")))
		return err_set(e, ERR_DATA, "%s: model.vocab is missing", path);
	int rc = check_model(&r, model, e);
	if (!rc)
		rc = read_normalizer(&r, json_get(root, "normalizer"), e);
	if (!rc)
		rc = read_stages(&r, json_get(root, "pre_tokenizer"), e);
	if (!rc)
		rc = read_vocab(&r, json_get(model, "vocab"), added, e);
	if (!rc)
		rc = read_added(&r, added, e);
	if (!rc)
		rc = read_merges(&r, json_get(model, "merges"), e);
	if (rc)
		return rc;
	r.d.bos = named_token(&r.d, config, "bos_token");
	r.d.eos = named_token(&r.d, config, "eos_token");
	*out = r.d;
	return 0;
}

/* Reads folder/name; absent and optional: *out stays NULL. */
static int read_file(const char *folder, const char *name, bool optional, struct json **out,
		     char path[LIMIT_PATH_BYTES], struct err *e)
{
	if (snprintf(path, LIMIT_PATH_BYTES, "%s/%s", folder, name) >= LIMIT_PATH_BYTES)
		return err_set(e, ERR_DATA, "%s: path too long", folder);
	if (optional && !io_exists(path))
		return 0;
	return json_read_file(path, TOKENIZER_FILE_LIMIT, out, e);
}

int tok_open_folder(const char *folder, int32_t bos, int32_t eos, struct tok **out, struct err *e)
{
	json_auto struct json *root = NULL, *config = NULL;
	char path[LIMIT_PATH_BYTES];
	int rc = read_file(folder, "tokenizer_config.json", true, &config, path, e);
	if (!rc)
		rc = read_file(folder, "tokenizer.json", false, &root, path, e);
	if (rc)
		return rc;
	struct arena *a = arena_create(TOK_ARENA_BYTES);
	struct tok_def d;
	rc = a ? tok_def_json(root, config, path, a, &d, e)
	       : err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
	if (!rc) {
		d.bos = d.bos < 0 ? bos : d.bos;
		d.eos = d.eos < 0 ? eos : d.eos;
		rc = tok_create(&d, path, out, e);
	}
	arena_destroy(a);
	return rc;
}

/* Ids that the model's embedding lacks are refused here. */
int tok_open(struct weights *w, struct tok **out, struct err *e)
{
	struct tok *t = NULL;
	int rc;
	if (weights_gguf(w)) {
		struct arena *a = arena_create(TOK_ARENA_BYTES);
		struct tok_def d;
		rc = a ? tok_def_gguf(weights_gguf(w), a, &d, e)
		       : err_set(e, ERR_MEMORY, "no memory for a vocabulary");
		if (!rc)
			rc = tok_create(&d, weights_path(w), &t, e);
		arena_destroy(a);
	} else {
		rc = tok_open_folder(weights_path(w), weights_config(w)->bos_id,
				     weights_config(w)->eos_id, &t, e);
	}
	if (rc)
		return rc;
	if (tok_vocab(t) > weights_config(w)->vocab) {
		rc = err_set(e, ERR_DATA, "%s: tokenizer has %d tokens, the model %lld",
			     weights_path(w), tok_vocab(t), (long long)weights_config(w)->vocab);
		tok_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

/* -- writing -- */

static void write_added(const struct tok_def *d, struct jsonw *w)
{
	jsonw_open(w, "added_tokens", '[');
	for (int32_t i = 0; i < d->vocab; i++) {
		if (d->kinds[i] != TOK_ADDED && d->kinds[i] != TOK_SPECIAL)
			continue;
		jsonw_open(w, NULL, '{');
		jsonw_int(w, "id", i);
		jsonw_strn(w, "content", d->tokens[i].s, d->tokens[i].len);
		jsonw_bool(w, "single_word", false);
		jsonw_bool(w, "lstrip", false);
		jsonw_bool(w, "rstrip", false);
		jsonw_bool(w, "normalized", false);
		jsonw_bool(w, "special", d->kinds[i] == TOK_SPECIAL);
		jsonw_close(w);
	}
	jsonw_close(w);
}

static void write_byte_level(struct jsonw *w, const char *key)
{
	jsonw_open(w, key, '{');
	jsonw_str(w, "type", "ByteLevel");
	jsonw_bool(w, "add_prefix_space", false);
	jsonw_bool(w, "trim_offsets", true);
	jsonw_bool(w, "use_regex", false);
	jsonw_close(w);
}

static void write_stages(const struct tok_def *d, struct jsonw *w)
{
	jsonw_open(w, "pre_tokenizer", '{');
	jsonw_str(w, "type", "Sequence");
	jsonw_open(w, "pretokenizers", '[');
	for (int i = 0; i < d->pattern_count; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_str(w, "type", "Split");
		jsonw_open(w, "pattern", '{');
		jsonw_str(w, "Regex", d->patterns[i]);
		jsonw_close(w);
		jsonw_str(w, "behavior", "Isolated");
		jsonw_bool(w, "invert", false);
		jsonw_close(w);
	}
	write_byte_level(w, NULL);
	jsonw_close(w);
	jsonw_close(w);
}

static void write_model(const struct tok_def *d, struct jsonw *w, struct arena *a)
{
	jsonw_open(w, "model", '{');
	jsonw_str(w, "type", "BPE");
	jsonw_null(w, "dropout");
	jsonw_null(w, "unk_token");
	jsonw_null(w, "continuing_subword_prefix");
	jsonw_null(w, "end_of_word_suffix");
	jsonw_bool(w, "fuse_unk", false);
	jsonw_bool(w, "byte_fallback", false);
	jsonw_bool(w, "ignore_merges", d->ignore_merges);
	jsonw_open(w, "vocab", '{');
	for (int32_t i = 0; i < d->vocab; i++) {
		if (d->kinds[i] == TOK_UNUSED)
			continue;
		const char *key = arena_printf(a, "%.*s", (int)d->tokens[i].len, d->tokens[i].s);
		jsonw_int(w, key ? key : "", i);
	}
	jsonw_close(w);
	jsonw_open(w, "merges", '[');
	for (int64_t i = 0; i < d->merge_count; i++) {
		jsonw_open(w, NULL, '[');
		for (int k = 0; k < 2; k++)
			jsonw_strn(w, NULL, d->merges[i][k].s, d->merges[i][k].len);
		jsonw_close(w);
	}
	jsonw_close(w);
	jsonw_close(w);
}

int tok_def_write(const struct tok_def *d, struct buf *out, struct err *e)
{
	struct arena *a = arena_create(TOK_ARENA_BYTES);
	if (!a)
		return err_set(e, ERR_MEMORY, "no memory to write a tokenizer");
	struct jsonw w;
	jsonw_init(&w, out);
	jsonw_open(&w, NULL, '{');
	jsonw_str(&w, "version", "1.0");
	jsonw_null(&w, "truncation");
	jsonw_null(&w, "padding");
	write_added(d, &w);
	if (d->nfc) {
		jsonw_open(&w, "normalizer", '{');
		jsonw_str(&w, "type", "NFC");
		jsonw_close(&w);
	} else {
		jsonw_null(&w, "normalizer");
	}
	write_stages(d, &w);
	write_byte_level(&w, "post_processor");
	write_byte_level(&w, "decoder");
	write_model(d, &w, a);
	jsonw_close(&w);
	int rc = jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory to write a tokenizer") : 0;
	arena_destroy(a);
	return rc;
}
