/*
 * openai: openai_read walks each object of a request once against the table (openai_check_fields,
 * openai_table.c), and only then reads what it uses: so nothing that a client says is passed over
 * in silence, and a reader may take a field's type for granted.
 */
#include "agent/anthropic.h"
#include "agent/openai_internal.h"
#include "agent/openai_items.h"
#include "agent/responses.h"
#include "agent/route.h"
#include "agent/stores.h"

#include "api/limits.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES (OPENAI_MESSAGES | OPENAI_COUNT)

/* -- refusing -- */

int openai_refuse(
    struct openai_refusal *r, int status, const char *code, const char *param, const char *fmt, ...)
{
    *r = (struct openai_refusal){.status = status,
        .type = status == 429 ? "rate_limit_error"
            : status >= 500   ? "server_error"
            : status == 401   ? "authentication_error"
                              : "invalid_request_error",
        .code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->message, sizeof r->message, fmt, ap);
    va_end(ap);
    if (param)
        snprintf(r->param, sizeof r->param, "%s", param);
    return -1;
}

/* -- checking -- */

static const struct openai_field *find_field(const char *name, enum openai_place place)
{
    size_t count;
    const struct openai_field *fields = openai_fields(&count);
    for (size_t i = 0; i < count; i++)
        if ((fields[i].places & place) && !strcmp(fields[i].name, name))
            return &fields[i];
    return NULL;
}

const struct json *openai_given(const struct json *v, const char *key)
{
    const struct json *x = json_get(v, key);
    return json_is_null(x) ? NULL : x;
}

static bool is_whole(const struct json *v, double min, double max)
{
    double n = json_number_value(v);
    return json_is_number(v) && n >= min && n <= max && n == floor(n);
}

/* Whether v is one of the values, which are JSON without spaces; -1: no memory to tell. */
static int is_one_of(const struct json *v, const char *values)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_FRAME_BYTES);
    if (json_print(v, &text))
        return -1;
    for (const char *p = values; *p;) {
        size_t n = strcspn(p, " ");
        if (n == text.len && !memcmp(p, text.data, n))
            return 1;
        p += n + (p[n] == ' ');
    }
    return 0;
}

static int check_fixed(
    const struct openai_field *f, const struct json *v, const char *path, struct openai_refusal *r)
{
    int is = is_one_of(v, f->values);
    if (is < 0)
        return openai_no_memory(r);
    if (is)
        return 0;
    return REFUSE(r, path,
        *f->values ? "%s is not supported: it may only be %s" : "%s is not supported%s", path,
        f->values);
}

static int check_value(
    const struct openai_field *f, const struct json *v, const char *path, struct openai_refusal *r)
{
    switch (f->kind) {
    case OPENAI_NUMBER:
        if (json_is_number(v) && json_number_value(v) >= f->min && json_number_value(v) <= f->max)
            return 0;
        return REFUSE(r, path, "%s must be a number from %g to %g", path, f->min, f->max);
    case OPENAI_WHOLE:
        if (is_whole(v, f->min, f->max))
            return 0;
        return REFUSE(r, path, "%s must be a whole number from %.0f to %.0f", path, f->min, f->max);
    case OPENAI_BOOL:
        return json_is_bool(v) ? 0 : REFUSE(r, path, "%s must be true or false", path);
    case OPENAI_STRING:
        return json_is_string(v) ? 0 : REFUSE(r, path, "%s must be a string", path);
    case OPENAI_FIXED:
        return check_fixed(f, v, path, r);
    case OPENAI_OWN:
    case OPENAI_IGNORED:
        break;
    }
    return 0;
}

static int check_needed(const struct json *object, enum openai_place place, const char *prefix,
    struct openai_refusal *r)
{
    size_t count;
    const struct openai_field *fields = openai_fields(&count);
    for (const struct openai_field *f = fields; f < fields + count; f++) {
        char path[sizeof r->param];
        if (!f->needed || !(f->places & place) || openai_given(object, f->name))
            continue;
        snprintf(path, sizeof path, "%s%s", prefix, f->name);
        return REFUSE(r, path, "%s is needed", path);
    }
    return 0;
}

int openai_check_fields(const struct json *object, enum openai_place place, const char *prefix,
    struct openai_refusal *r)
{
    json_each (v, object) {
        const struct openai_field *f = find_field(json_key(v), place);
        char path[sizeof r->param];
        snprintf(path, sizeof path, "%s%.60s", prefix, json_key(v));
        if (!f && (place & OPENAI_LINES))
            continue;
        if (!f)
            return REFUSE(r, path, "%s is not a field of this request", path);
        if (json_get(object, f->name) != v) /* readers differ in which one counts */
            return REFUSE(r, path, "%s is given twice", path);
        if (!json_is_null(v) && check_value(f, v, path, r))
            return -1;
    }
    return check_needed(object, place, prefix, r);
}

int openai_no_memory(struct openai_refusal *r)
{
    return openai_refuse(r, 503, NULL, NULL, "out of memory");
}

int openai_copy_json(
    struct jsonw *w, const char *key, const struct json *v, struct openai_refusal *r)
{
    jsonw_raw(w, key, "");
    return json_print(v, w->out) ? openai_no_memory(r) : 0;
}

/* -- messages -- */

static int join_parts(
    const struct json *parts, const char *prefix, struct buf *text, struct openai_refusal *r)
{
    int i = 0;
    json_each (part, parts) {
        char path[64], dot[64];
        snprintf(path, sizeof path, "%scontent[%d]", prefix, i);
        snprintf(dot, sizeof dot, "%scontent[%d].", prefix, i++);
        if (!json_is_object(part))
            return REFUSE(r, path, "%s must be an object", path);
        if (openai_check_fields(part, OPENAI_PART, dot, r))
            return -1;
        buf_str(text, json_str(part, "text", ""));
    }
    return buf_ok(text) ? 0 : openai_no_memory(r);
}

static int copy_message(
    const struct json *m, const char *prefix, struct jsonw *w, struct openai_refusal *r)
{
    if (!json_is_object(m))
        return REFUSE(r, "messages", "each message must be an object");
    if (openai_check_fields(m, OPENAI_MESSAGE, prefix, r))
        return -1;
    const char *role = json_str(m, "role", ""), *name = json_str(m, "name", NULL);
    const struct json *content = openai_given(m, "content");
    char path[48];
    snprintf(path, sizeof path, "%srole", prefix);
    if (!*role)
        return REFUSE(r, path, "%s is needed", path);
    if (!strcmp(role, "function"))
        return REFUSE(r, path, "%s: \"%s\" is not supported", path, role);
    if (!strcmp(role, "developer"))
        role = "system";
    snprintf(path, sizeof path, "%scontent", prefix);
    if (content ? !json_is_string(content) && !json_is_array(content)
                : strcmp(role, "assistant") != 0)
        return REFUSE(r, path, "%s must be a string or a list of text parts", path);
    buf_auto struct buf parts;
    buf_init(&parts, LIMIT_REQUEST_BYTES);
    if (json_is_array(content) && join_parts(content, prefix, &parts, r))
        return -1;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "role", role);
    jsonw_str(
        w, "content", json_is_string(content) ? json_string_value(content) : buf_cstr(&parts));
    if (name)
        jsonw_str(w, "name", name);
    if (openai_copy_calls(m, role, prefix, w, r))
        return -1;
    jsonw_close(w);
    return 0;
}

static int copy_messages(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *messages = openai_given(v, "messages");
    if (!json_is_array(messages) || !json_count(messages))
        return REFUSE(r, "messages", "messages must be a non-empty array");
    int i = 0;
    jsonw_open(w, "messages", '[');
    json_each (m, messages) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "messages[%d].", i++);
        if (copy_message(m, prefix, w, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}

/* -- what else is used -- */

static int check_prompt(const struct json *prompt, struct openai_refusal *r)
{
    if (json_is_string(prompt))
        return 0;
    if (!json_is_array(prompt) || !json_count(prompt))
        return REFUSE(r, "prompt", "prompt must be a string or a list of token ids");
    json_each (id, prompt)
        if (!is_whole(id, 0, INT32_MAX))
            return REFUSE(r, "prompt", "token ids are whole numbers from 0");
    return 0;
}

/* Is it a list of prompts? Else it is one. */
static bool is_several(const struct json *prompt)
{
    const struct json *first = json_is_array(prompt) ? json_first(prompt) : NULL;
    return json_is_string(first) || json_is_array(first);
}

static int check_prompts(const struct json *prompt, struct openai_refusal *r)
{
    bool strings = json_is_string(json_first(prompt));
    if (!is_several(prompt))
        return check_prompt(prompt, r);
    json_each (one, prompt) {
        if (json_is_string(one) != strings)
            return REFUSE(r, "prompt", "prompt must be strings alone or lists of token ids alone");
        if (check_prompt(one, r))
            return -1;
    }
    return 0;
}

static void copy_ids(const struct json *ids, struct jsonw *w)
{
    jsonw_open(w, "prompt_ids", '[');
    json_each (id, ids)
        jsonw_int(w, NULL, (int64_t)json_number_value(id));
    jsonw_close(w);
}

/* The prompt number `which`, if there are several. */
static int copy_prompt(
    const struct json *v, int64_t which, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *prompt = openai_given(v, "prompt");
    if (check_prompts(prompt, r))
        return -1;
    if (is_several(prompt))
        for (prompt = json_first(prompt); which > 0; which--)
            prompt = json_next(prompt);
    if (json_is_string(prompt)) {
        jsonw_str(w, "prompt", json_string_value(prompt));
        return 0;
    }
    copy_ids(prompt, w);
    return 0;
}

static int read_stream(const struct json *v, struct openai_request *out, struct openai_refusal *r)
{
    const struct json *options = openai_given(v, "stream_options");
    out->stream = json_bool(v, "stream", false);
    out->include_usage = json_bool(options, "include_usage", false);
    if (!options)
        return 0;
    if (!json_is_object(options) || !out->stream)
        return REFUSE(
            r, "stream_options", "stream_options must be an object, beside \"stream\": true");
    return openai_check_fields(options, OPENAI_STREAM, "stream_options.", r);
}

const char *openai_find_adapter(const struct openai_conf *conf, const char *name)
{
    for (int i = 0; i < conf->adapter_count; i++)
        if (!strcmp(conf->adapters[i].name, name))
            return conf->adapters[i].name;
    return NULL;
}

/* An adapter of that name beside the model. */
static int read_adapter(const struct openai_conf *conf, const char *name,
    struct openai_request *out, struct openai_refusal *r)
{
    const char *adapter = openai_find_adapter(conf, name);
    if (!adapter)
        return openai_refuse(
            r, 404, "model_not_found", "adapter", "The adapter `%.100s` does not exist", name);
    if (out->adapter && adapter != out->adapter)
        return REFUSE(r, "adapter", "model and adapter name two adapters: give one");
    out->adapter = out->model = adapter;
    return 0;
}

static int read_model(const struct openai_conf *conf, const struct json *v,
    struct openai_request *out, struct openai_refusal *r)
{
    const char *model = json_str(v, "model", NULL), *adapter = json_str(v, "adapter", NULL);
    if (model && strcmp(model, conf->model) && !(out->adapter = openai_find_adapter(conf, model)))
        return openai_refuse(
            r, 404, "model_not_found", "model", "The model `%.100s` does not exist", model);
    out->model = out->adapter ? out->adapter : conf->model;
    return adapter ? read_adapter(conf, adapter, out, r) : 0;
}

static int copy_rendered(const struct openai_conf *conf, const struct json *v,
    enum openai_place place, struct jsonw *w, struct openai_request *out, struct openai_refusal *r)
{
    const struct json *tokens = openai_given(v, "tokens");
    bool chat = place == OPENAI_TEMPLATE || openai_given(v, "messages");
    jsonw_str(w, "render", place == OPENAI_TOKENIZE ? "tokens" : "text");
    if (place == OPENAI_DETOKENIZE) {
        if (!json_is_array(tokens) || check_prompt(tokens, r))
            return REFUSE(r, "tokens", "tokens must be a list of token ids, whole numbers from 0");
        copy_ids(tokens, w);
        return 0;
    }
    jsonw_bool(w, "chat", chat);
    if (chat && (openai_given(v, "prompt") || json_bool(v, "add_special_tokens", false)))
        return REFUSE(r, openai_given(v, "prompt") ? "prompt" : "add_special_tokens",
            "with messages there is neither a prompt nor add_special_tokens");
    jsonw_bool(w, "add_special_tokens", json_bool(v, "add_special_tokens", true));
    jsonw_bool(w, "add_generation_prompt", json_bool(v, "add_generation_prompt", true));
    if (chat)
        return copy_messages(v, w, r) || openai_copy_tools(conf, v, w, out, r) ? -1 : 0;
    if (openai_given(v, "tools"))
        return REFUSE(r, "tools", "tools stand beside messages");
    if (!openai_given(v, "prompt"))
        return REFUSE(r, "prompt", "prompt is needed, or messages");
    jsonw_str(w, "prompt", json_str(v, "prompt", ""));
    return 0;
}

static int copy_asked(const struct openai_conf *conf, const struct json *v, int choice,
    struct jsonw *w, struct openai_request *out, struct openai_refusal *r)
{
    enum openai_place place = out->place & (OPENAI_MESSAGES | OPENAI_RESPONSES) ? OPENAI_CHAT
        : out->place == OPENAI_COUNT                                            ? OPENAI_TOKENIZE
                                                                                : out->place;
    bool chat = place == OPENAI_CHAT;
    if (place & OPENAI_ITEMS)
        return openai_copy_items(v, place, w, r);
    if (place == OPENAI_SEARCH)
        return stores_copy_search(v, w, r);
    if (place & OPENAI_RENDERED)
        return copy_rendered(conf, v, place, w, out, r);
    jsonw_bool(w, "chat", chat);
    if (out->adapter)
        jsonw_str(w, "adapter", out->adapter);
    for (int i = 0; i < conf->adapter_count && out->adapter && conf->adapter_paths; i++)
        if (conf->adapters[i].name == out->adapter)
            jsonw_str(w, "adapter_path", conf->adapters[i].path);
    return (chat ? copy_messages(v, w, r) : copy_prompt(v, choice / out->answers, w, r)) ||
            openai_copy_drawn(conf, v, chat, choice % out->answers, w, out, r) ||
            (chat && openai_copy_tools(conf, v, w, out, r)) || openai_copy_terms(conf, v, w, out, r)
        ? -1
        : 0;
}

/* How many answers there are to be. */
static int read_choices(const struct openai_conf *conf, const struct json *v,
    struct openai_request *out, struct openai_refusal *r)
{
    const struct json *prompt = openai_given(v, "prompt");
    size_t prompts = is_several(prompt) ? json_count(prompt) : 1;
    out->answers = (int)json_int(v, "n", 1);
    if (prompts * (size_t)out->answers > (size_t)conf->most_choices)
        return REFUSE(r, prompts > 1 ? "prompt" : "n",
            "%zu answers are asked for, a request may have %d", prompts * (size_t)out->answers,
            conf->most_choices);
    out->choices = (int)prompts * out->answers;
    return 0;
}

/* Arguments that were text are values there, of which the rank takes so many. */
static int check_frame(const struct buf *frame, struct openai_refusal *r)
{
    json_auto struct json *v = NULL;
    size_t most = JSON_VALUES + LIMIT_AGENT_VALUES;
    int rc = json_parse_within(frame->data, frame->len, most, &v, NULL);
    if (rc == -ERR_MEMORY)
        return openai_no_memory(r);
    return rc ? REFUSE(r, "messages",
                    "messages: the arguments of tool_calls have too many values, or too deep ones")
              : 0;
}

/* What another API asks for, as the request of OpenAI's that asks the same. */
static int translate(enum openai_place place, struct json **v, struct openai_refusal *r)
{
    buf_auto struct buf body;
    struct json *chat = NULL;
    struct err e = {0};
    buf_init(&body, LIMIT_FRAME_BYTES);
    if (!(place & (MESSAGES | OPENAI_RESPONSES)))
        return 0;
    if (place & MESSAGES ? anthropic_as_chat(*v, place, &body, r) : responses_as_chat(*v, &body, r))
        return -1;
    int rc = json_parse_within(body.data, body.len, JSON_VALUES + LIMIT_AGENT_VALUES, &chat, &e);
    if (rc)
        return openai_refuse(r, rc == -ERR_MEMORY ? 503 : 400, NULL, NULL, "%s", e.text);
    json_destroy(*v);
    *v = chat;
    return 0;
}

int openai_read(const struct openai_conf *conf, uint64_t id, enum openai_place place, int choice,
    const char *body, size_t len, struct openai_request *out, struct buf *frame,
    struct openai_refusal *r)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    struct jsonw w;
    int rc = json_parse(body, len, &v, &e);
    if (rc == -ERR_MEMORY)
        return openai_refuse(r, 503, NULL, NULL, "%s", e.text);
    if (rc)
        return REFUSE(r, NULL, "%s", e.text);
    if (!json_is_object(v))
        return REFUSE(r, NULL, "the body must be a JSON object");
    *out = (struct openai_request){.place = place};
    if (read_model(conf, v, out, r) || openai_check_does(conf, place, r) ||
        openai_check_fields(v, place, "", r) || translate(place, &v, r) || read_stream(v, out, r) ||
        read_choices(conf, v, out, r))
        return -1;
    assert(choice < out->choices);
    if (!(place & (OPENAI_RENDERED | OPENAI_ITEMS)))
        out->prefix = route_prefix(conf, v, out);
    jsonw_init(&w, frame);
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "id", (int64_t)id);
    if (copy_asked(conf, v, choice, &w, out, r))
        return -1;
    jsonw_close(&w);
    if (jsonw_end(&w))
        return openai_no_memory(r);
    return strstr(frame->data, "\"tool_calls\":") ? check_frame(frame, r) : 0;
}
