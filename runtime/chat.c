/*
 * chat: one model's template, parsed once, and the rendering of a client's messages with it. What
 * the client sent is checked here (ERR_USER), so that what a template complains of is the
 * template's own. Called by infer.c. Each rendering has its own arena; a struct chat is read-only
 * after opening.
 */
#include "runtime/chat.h"

#include "base/io.h"
#include "base/limits.h"
#include "base/mem.h"
#include "runtime/chat_ast.h"
#include "runtime/gguf.h"
#include "runtime/weights.h"

#define TEMPLATE_LIMIT (1 << 20) /* bytes */
#define CONFIG_LIMIT   (64 << 20)
#define PARSE_ARENA    ((size_t)64 << 20)
#define RENDER_ARENA   ((size_t)256 << 20)

struct chat {
	struct arena *a;
	struct chat_node *program;
	const char *bos, *eos; /* or NULL */
};

int chat_parse(const char *template_text, const char *bos, const char *eos, struct chat **out,
	       struct err *e)
{
	if (strlen(template_text) > TEMPLATE_LIMIT)
		return err_set(e, ERR_DATA, "chat template is longer than %d bytes",
			       TEMPLATE_LIMIT);
	struct chat *c = mem_zalloc(sizeof *c);
	if (c)
		c->a = arena_create(PARSE_ARENA);
	if (!c || !c->a) {
		chat_close(c);
		return err_set(e, ERR_MEMORY, "no memory for a chat template");
	}
	c->bos = bos ? arena_strdup(c->a, bos) : NULL;
	c->eos = eos ? arena_strdup(c->a, eos) : NULL;
	if (chat_parse_template(template_text, c->a, &c->program, e)) {
		chat_close(c);
		return err_wrap(e, "chat template");
	}
	*out = c;
	return 0;
}

void chat_close(struct chat *c)
{
	if (!c)
		return;
	arena_destroy(c->a);
	mem_free(c);
}

/* -- from a model -- */

static char *gguf_text(const struct gguf *g, const char *key)
{
	struct gguf_str s;
	return gguf_string(g, key, &s, NULL) ? NULL : mem_strndup(s.s, s.len);
}

/* The text of a special token, for the template's bos_token and eos_token; NULL when there is none.
 */
static char *gguf_token(const struct gguf *g, int32_t id)
{
	mem_autofree struct gguf_str *tokens = NULL;
	int64_t count;
	if (id < 0 || gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &count, NULL) ||
	    id >= count)
		return NULL;
	return mem_strndup(tokens[id].s, tokens[id].len);
}

static int open_gguf(const struct weights *w, struct chat **out, struct err *e)
{
	const struct gguf *g = weights_gguf(w);
	mem_autofree char *text = gguf_text(g, "tokenizer.chat_template");
	mem_autofree char *bos = gguf_token(g, weights_config(w)->bos_id);
	mem_autofree char *eos = gguf_token(g, weights_config(w)->eos_id);
	if (!text)
		return err_set(e, ERR_DATA, "%s: the model has no chat template", weights_path(w));
	return chat_parse(text, bos, eos, out, e) ? err_wrap(e, "%s", weights_path(w)) : 0;
}

/* A template, or the one named "default" of a list of them. */
static const char *config_template(const struct json *config)
{
	const struct json *v = json_get(config, "chat_template");
	json_each (item, json_is_array(v) ? v : NULL)
		if (!strcmp(json_str(item, "name", ""), "default"))
			return json_str(item, "template", NULL);
	return json_string_value(v);
}

static const char *config_token(const struct json *config, const char *key)
{
	const struct json *v = json_get(config, key);
	return json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
}

int chat_open_folder(const char *folder, struct chat **out, struct err *e)
{
	char config_path[LIMIT_PATH_BYTES], jinja_path[LIMIT_PATH_BYTES];
	json_auto struct json *config = NULL;
	buf_auto struct buf jinja;
	buf_init(&jinja, TEMPLATE_LIMIT);
	if (snprintf(config_path, LIMIT_PATH_BYTES, "%s/tokenizer_config.json", folder) >=
		    LIMIT_PATH_BYTES ||
	    snprintf(jinja_path, LIMIT_PATH_BYTES, "%s/chat_template.jinja", folder) >=
		    LIMIT_PATH_BYTES)
		return err_set(e, ERR_DATA, "%s: path too long", folder);
	int rc = 0;
	if (io_exists(config_path))
		rc = json_read_file(config_path, CONFIG_LIMIT, &config, e);
	const char *text = config_template(config);
	if (!rc && io_exists(jinja_path)) {
		rc = io_read_file(jinja_path, TEMPLATE_LIMIT, &jinja, e);
		text = buf_cstr(&jinja);
	}
	if (rc)
		return rc;
	if (!text)
		return err_set(e, ERR_DATA, "%s: the model has no chat template", folder);
	rc = chat_parse(text, config_token(config, "bos_token"), config_token(config, "eos_token"),
			out, e);
	return rc ? err_wrap(e, "%s", folder) : 0;
}

int chat_open(struct weights *w, struct chat **out, struct err *e)
{
	return weights_gguf(w) ? open_gguf(w, out, e) : chat_open_folder(weights_path(w), out, e);
}

/* -- rendering -- */

/* Content is text, or a list of text parts, which are joined. */
static int set_content(struct arena *a, struct chat_map *message, const struct json *content, int i,
		       struct err *e)
{
	struct chat_value v = chat_from_json(a, content);
	if (json_is_array(content)) {
		buf_auto struct buf text;
		buf_init(&text, LIMIT_REQUEST_BYTES);
		json_each (part, content) {
			const char *s = json_str(part, "text", NULL);
			if (!s || strcmp(json_str(part, "type", ""), "text"))
				return err_set(e, ERR_USER,
					       "messages[%d].content: only text parts are served",
					       i);
			buf_str(&text, s);
		}
		v = chat_string(a, buf_cstr(&text), text.len);
	} else if (!json_is_string(content)) {
		return err_set(e, ERR_USER, "messages[%d].content: not a string", i);
	}
	return chat_map_put(a, message, "content", v);
}

static int set_messages(struct arena *a, const struct json *messages, struct chat_value *out,
			struct err *e)
{
	if (!json_is_array(messages) || !json_count(messages))
		return err_set(e, ERR_USER, "messages: not a list with at least one message");
	*out = chat_list(a, (int64_t)json_count(messages));
	int i = 0;
	json_each (m, messages) {
		if (!json_is_object(m))
			return err_set(e, ERR_USER, "messages[%d]: not an object", i);
		const char *role = json_str(m, "role", NULL);
		if (!role || !*role)
			return err_set(e, ERR_USER, "messages[%d].role: not a string", i);
		struct chat_value v = chat_from_json(a, m);
		if (out->kind != CHAT_LIST || v.kind != CHAT_MAP)
			return err_set(e, ERR_MEMORY, "no memory to render a conversation");
		int rc = set_content(a, v.map, json_get(m, "content"), i, e);
		if (rc)
			return rc;
		out->items[i++] = v;
	}
	return 0;
}

static int render(struct chat *c, const struct json *messages, bool add_generation_prompt,
		  struct arena *a, struct buf *out, struct err *e)
{
	struct chat_value list, globals = chat_new_map(a);
	if (globals.kind != CHAT_MAP)
		return err_set(e, ERR_MEMORY, "no memory to render a conversation");
	int rc = set_messages(a, messages, &list, e);
	if (rc)
		return rc;
	struct chat_map *g = globals.map;
	rc = chat_map_put(a, g, "messages", list);
	rc = rc ? rc
		: chat_map_put(a, g, "add_generation_prompt", chat_bool(add_generation_prompt));
	rc = rc ? rc : chat_map_put(a, g, "tools", chat_none());
	rc = rc ? rc : chat_map_put(a, g, "documents", chat_none());
	if (c->bos && !rc)
		rc = chat_map_put(a, g, "bos_token", chat_string(a, c->bos, strlen(c->bos)));
	if (c->eos && !rc)
		rc = chat_map_put(a, g, "eos_token", chat_string(a, c->eos, strlen(c->eos)));
	if (rc)
		return err_set(e, ERR_MEMORY, "no memory to render a conversation");
	rc = chat_eval(c->program, g, a, out, e);
	return rc == -ERR_DATA ? err_wrap(e, "chat template") : rc;
}

int chat_render(struct chat *c, const struct json *messages, bool add_generation_prompt,
		struct buf *out, struct err *e)
{
	struct arena *a = arena_create(RENDER_ARENA);
	if (!a)
		return err_set(e, ERR_MEMORY, "no memory to render a conversation");
	size_t before = out->len;
	int rc = render(c, messages, add_generation_prompt, a, out, e);
	arena_destroy(a);
	if (rc && out->data && out->len > before)
		out->data[out->len = before] = 0;
	return rc;
}
