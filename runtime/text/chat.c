/*
 * chat: one model's template, parsed once, and the rendering of a client's messages with it. What
 * the client sent is checked here (ERR_USER), so that what a template complains of is the
 * template's own. Each rendering has its own arena; a struct chat is read-only after opening.
 */
#include "runtime/text/chat.h"

#include "base/clock.h"
#include "base/io.h"
#include "api/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/text/chat_ast.h"
#include "runtime/files/gguf.h"
#include "runtime/files/hash.h"
#include "runtime/family/weights.h"

#define TEMPLATE_LIMIT (1 << 20) /* bytes */
#define CONFIG_LIMIT   (8 << 20) /* of tokenizer_config.json: at most 35 MiB when parsed */
#define CONFIG_VALUES  ((size_t)256 << 10)
#define PARSE_ARENA    ((size_t)64 << 20)

struct chat {
    struct arena *a;
    struct chat_node *program;
    const char *bos, *eos; /* or NULL */
    bool marks;
    bool parts; /* it knows what a content in parts is */
    enum wire_calls calls;
    uint64_t digest;
};

/* Families share a marker: what else stands beside it, or does not, tells them apart. */
static enum wire_calls calls_of(const char *text)
{
    static const struct {
        const char *has, *too, *without;
        enum wire_calls calls;
    } forms[] = {
        {"<function=", "", NULL, WIRE_CALLS_UNKNOWN}, /* Qwen3-Coder: <tool_call> around XML */
        {"<arg_key>", "", NULL, WIRE_CALLS_UNKNOWN},  /* GLM, likewise */
        {"[TOOL_CALLS]", "", "[ARGS]", WIRE_CALLS_MISTRAL},
        {"<tool_call>", "", NULL, WIRE_CALLS_HERMES},
        {"\"parameters\": ", "ipython", NULL, WIRE_CALLS_LLAMA},
    };
    if (!strstr(text, "tools"))
        return WIRE_CALLS_NONE;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strstr(text, forms[i].has) && strstr(text, forms[i].too) &&
            !(forms[i].without && strstr(text, forms[i].without)))
            return forms[i].calls;
    return WIRE_CALLS_UNKNOWN;
}

static uint64_t digest_text(const char *s)
{
    return s ? hash_xxh3(s, strlen(s)) : 0;
}

int chat_parse(
    const char *template_text, const char *bos, const char *eos, struct chat **out, struct err *e)
{
    if (strlen(template_text) > TEMPLATE_LIMIT)
        return err_set(e, ERR_DATA, "chat template is longer than %d bytes", TEMPLATE_LIMIT);
    struct chat *c = mem_zalloc(sizeof *c);
    if (c)
        c->a = arena_create(PARSE_ARENA);
    if (!c || !c->a) {
        chat_close(c);
        return err_set(e, ERR_MEMORY, "no memory for a chat template");
    }
    c->bos = bos ? arena_strdup(c->a, bos) : NULL;
    c->eos = eos ? arena_strdup(c->a, eos) : NULL;
    c->calls = calls_of(template_text);
    c->parts = strstr(template_text, "['type'] == 'text'") ||
        strstr(template_text, "[\"type\"] == \"text\"") ||
        strstr(template_text, ".type == 'text'") || strstr(template_text, ".type == \"text\"");
    const uint64_t of[] = {digest_text(template_text), digest_text(bos), digest_text(eos)};
    c->digest = hash_xxh3(of, sizeof of);
    if (chat_parse_template(template_text, c->a, &c->program, &c->marks, e)) {
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

/* The text of a special token, for the template's bos_token and eos_token; NULL when there is
   none. */
static char *gguf_token(const struct gguf *g, int32_t id)
{
    mem_autofree struct gguf_str *tokens = NULL;
    int64_t count;
    if (id < 0 || gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &count, NULL) || id >= count)
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
        return err_set(e, ERR_USER, "the model has no chat template");
    return chat_parse(text, bos, eos, out, e) ? err_wrap(e, "%s", gguf_path(g)) : 0;
}

/* A template, or the one named "default" of a list of them; NULL: there is none. */
static int config_template(
    const struct json *config, const char *path, const char **out, struct err *e)
{
    const struct json *v = json_get(config, "chat_template");
    if (v && !json_is_null(v) && !json_is_string(v) && !json_is_array(v))
        return err_set(e, ERR_DATA, "%s: chat_template is neither a text nor a list", path);
    *out = json_string_value(v);
    json_each (item, json_is_array(v) ? v : NULL)
        if (!strcmp(json_str(item, "name", ""), "default"))
            *out = json_str(item, "template", NULL);
    return 0;
}

static const char *config_token(const struct json *config, const char *key)
{
    const struct json *v = json_get(config, key);
    return json_is_object(v) ? json_str(v, "content", NULL) : json_string_value(v);
}

struct chat_files { /* of a folder */
    struct json *config;
    struct buf jinja;
    const char *text;            /* the template, in one of them; NULL: there is none */
    char path[LIMIT_PATH_BYTES]; /* of that one */
};

static void close_files(struct chat_files *f)
{
    json_destroy(f->config);
    buf_done(&f->jinja);
}

/* A failure needs close_files, too. */
static int open_files(const char *folder, struct chat_files *f, struct err *e)
{
    char config_path[LIMIT_PATH_BYTES], jinja_path[LIMIT_PATH_BYTES];
    *f = (struct chat_files){0};
    buf_init(&f->jinja, TEMPLATE_LIMIT);
    if (snprintf(config_path, LIMIT_PATH_BYTES, "%s/tokenizer_config.json", folder) >=
            LIMIT_PATH_BYTES ||
        snprintf(jinja_path, LIMIT_PATH_BYTES, "%s/chat_template.jinja", folder) >=
            LIMIT_PATH_BYTES)
        return err_set(e, ERR_DATA, "%s: path too long", folder);
    int rc = 0;
    bool own = io_exists(jinja_path);
    memcpy(f->path, own ? jinja_path : config_path, sizeof f->path);
    if (io_exists(config_path))
        rc = json_read_file_within(config_path, CONFIG_LIMIT, CONFIG_VALUES, &f->config, e);
    if (rc || !own)
        return rc ? rc : config_template(f->config, config_path, &f->text, e);
    rc = io_read_file(jinja_path, TEMPLATE_LIMIT, &f->jinja, e);
    f->text = buf_cstr(&f->jinja);
    return !rc && utf8_valid_prefix(f->jinja.data, f->jinja.len) != f->jinja.len
        ? err_set(e, ERR_DATA, "%s: invalid UTF-8", jinja_path)
        : rc;
}

int chat_open_folder(const char *folder, struct chat **out, struct err *e)
{
    struct chat_files f;
    int rc = open_files(folder, &f, e);
    if (!rc && !f.text)
        rc = err_set(e, ERR_USER, "the model has no chat template");
    else if (!rc &&
        chat_parse(f.text, config_token(f.config, "bos_token"), config_token(f.config, "eos_token"),
            out, e))
        rc = err_wrap(e, "%s", f.path);
    close_files(&f);
    return rc;
}

int chat_template_folder(const char *folder, char **out, struct err *e)
{
    struct chat_files f;
    int rc = open_files(folder, &f, e);
    char *text = !rc && f.text ? mem_strdup(f.text) : NULL;
    if (!rc && f.text && !text)
        rc = err_set(e, ERR_MEMORY, "no memory for a chat template");
    close_files(&f);
    if (!rc)
        *out = text;
    return rc;
}

int chat_open(struct weights *w, struct chat **out, struct err *e)
{
    return weights_gguf(w) ? open_gguf(w, out, e) : chat_open_folder(weights_path(w), out, e);
}

bool chat_marks(const struct chat *c)
{
    return c->marks;
}

enum wire_calls chat_calls(const struct chat *c)
{
    return c->calls;
}

uint64_t chat_digest(const struct chat *c)
{
    return c->digest;
}

/* -- rendering -- */

/* Content is text, or a list of text parts, which are joined where the template knows no parts.
 * What an assistant that called tools says may be null or absent, which is no text. */
static int set_content(struct chat_work *w, struct chat_map *message, const struct json *m, int i,
    bool parts, struct err *e)
{
    const struct json *content = json_get(m, "content");
    bool none = !content || json_is_null(content);
    struct chat_value key = chat_constant("content"), v = chat_constant("");
    if (json_is_array(content)) {
        struct buf text;
        buf_init(&text, LIMIT_REQUEST_BYTES);
        json_each (part, content) {
            const char *s = json_str(part, "text", NULL);
            if (!s || strcmp(json_str(part, "type", ""), "text")) {
                buf_done(&text);
                return err_set(e, ERR_USER, "messages[%d].content: only text parts are served", i);
            }
            buf_str(&text, s);
        }
        v = chat_take(w, &text);
        v = parts ? chat_from_json(w, content) : v;
    } else if (json_is_string(content)) {
        v = chat_from_json(w, content);
    } else if (!none || strcmp(json_str(m, "role", ""), "assistant") != 0) {
        return err_set(e, ERR_USER, "messages[%d].content: not a string", i);
    }
    return w->rc ? w->rc : chat_map_put(w, message, &key, v);
}

static int set_messages(struct chat_work *w, const struct json *messages, bool parts,
    struct chat_value *out, struct err *e)
{
    if (!json_is_array(messages) || !json_count(messages))
        return err_set(e, ERR_USER, "messages: not a list with at least one message");
    *out = chat_list(w, (int64_t)json_count(messages));
    int i = 0;
    json_each (m, w->rc ? NULL : messages) {
        if (!json_is_object(m))
            return err_set(e, ERR_USER, "messages[%d]: not an object", i);
        const char *role = json_str(m, "role", NULL);
        if (!role || !*role)
            return err_set(e, ERR_USER, "messages[%d].role: not a string", i);
        struct chat_value v = chat_from_json(w, m);
        int rc = w->rc ? w->rc : set_content(w, v.map, m, i, parts, e);
        if (rc)
            return rc;
        out->items[i++] = v;
    }
    return w->rc;
}

static int render(struct chat *c, const struct json *messages, const struct json *tools,
    bool add_generation_prompt, struct chat_work *w, struct buf *out, struct err *e)
{
    struct chat_value list, globals = chat_new_map(w);
    int rc = w->rc ? w->rc : set_messages(w, messages, c->parts, &list, e);
    if (rc)
        return rc;
    const struct {
        const char *name;
        struct chat_value v;
    } variables[] = {
        {"messages", list},
        {"add_generation_prompt", chat_bool(add_generation_prompt)},
        {"tools", json_count(tools) ? chat_from_json(w, tools) : chat_none()},
        {"documents", chat_none()},
        {"bos_token", c->bos ? chat_constant(c->bos) : (struct chat_value){0}},
        {"eos_token", c->eos ? chat_constant(c->eos) : (struct chat_value){0}},
    };
    for (size_t i = 0; i < sizeof variables / sizeof *variables && !w->rc; i++) {
        struct chat_value key = chat_constant(variables[i].name);
        if (variables[i].v.kind != CHAT_UNDEFINED)
            chat_map_put(w, globals.map, &key, variables[i].v);
    }
    return w->rc ? w->rc : chat_eval(c->program, globals.map, w, out);
}

static int render_within(struct chat *c, const struct json *messages, const struct json *tools,
    bool add_generation_prompt, struct chat_spans *spans, struct buf *out, struct err *e)
{
    struct err why = {0};
    struct chat_work w = {.a = arena_create(CHAT_ARENA),
        .e = &why,
        .spans = spans,
        .text = out,
        .units = CHAT_UNITS,
        .look_at = CHAT_UNITS,
        .until_ms = clock_thread_ms() + CHAT_RENDER_MS};
    if (!w.a)
        return err_set(e, ERR_MEMORY, "no memory to render a conversation");
    size_t before = out->len;
    int rc = render(c, messages, tools, add_generation_prompt, &w, out, &why);
    if (rc == -ERR_DATA)
        err_wrap(&why, "chat template");
    arena_destroy(w.a);
    if (rc && out->data && out->len > before)
        out->data[out->len = before] = 0;
    if (rc && e)
        *e = why;
    return rc;
}

int chat_render(struct chat *c, const struct json *messages, bool add_generation_prompt,
    struct buf *out, struct err *e)
{
    return render_within(c, messages, NULL, add_generation_prompt, NULL, out, e);
}

int chat_render_tools(struct chat *c, const struct json *messages, const struct json *tools,
    bool add_generation_prompt, struct buf *out, struct err *e)
{
    return render_within(c, messages, tools, add_generation_prompt, NULL, out, e);
}

int chat_render_marked(struct chat *c, const struct json *messages, struct chat_spans *spans,
    struct buf *out, struct err *e)
{
    spans->count = 0;
    return render_within(c, messages, NULL, false, spans, out, e);
}
