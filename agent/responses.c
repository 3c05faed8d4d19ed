/*
 * responses: items of an input become the messages of a chat. Calls belong to the assistant's
 * message before them, or to one of their own that says nothing. Of an answer the text is one item,
 * the first, and each call another; so the items of a stream are those of a whole body.
 */
#include "agent/responses.h"

#include "agent/openai_internal.h"
#include "api/limits.h"

#include <stdio.h>
#include <string.h>

#define PATH 96

/* -- requests -- */

/* An object at path, its fields checked. */
static int check_object(
    const struct json *v, enum openai_place place, const char *path, struct openai_refusal *r)
{
    char prefix[PATH + 1];
    snprintf(prefix, sizeof prefix, "%s.", path);
    if (!json_is_object(v))
        return REFUSE(r, path, "%s must be an object", path);
    return openai_check_fields(v, place, prefix, r);
}

/* A string, or a list of parts of one type, put together. */
static int write_text(struct jsonw *w, const struct json *content, const char *type,
    const char *path, struct openai_refusal *r)
{
    int i = 0;
    buf_auto struct buf text;
    buf_init(&text, LIMIT_REQUEST_BYTES);
    if (!json_is_string(content) && !json_is_array(content))
        return REFUSE(r, path, "%s must be a string or a list of parts", path);
    if (json_is_string(content))
        buf_str(&text, json_string_value(content));
    json_each (part, content) {
        char at[PATH];
        snprintf(at, sizeof at, "%.60s[%d].type", path, i);
        if (json_is_object(part) && strcmp(json_str(part, "type", type), type) != 0)
            return REFUSE(r, at, "%s: a part of the type \"%.40s\" is not supported here", at,
                json_str(part, "type", ""));
        snprintf(at, sizeof at, "%.60s[%d]", path, i++);
        if (check_object(part, OPENAI_SAID_PART, at, r))
            return -1;
        buf_str(&text, json_str(part, "text", ""));
    }
    jsonw_str(w, "content", buf_cstr(&text));
    return buf_ok(&text) ? 0 : openai_no_memory(r);
}

/* The assistant's message that is being written. */
enum turn {
    TURN_NONE,
    TURN_SAID,  /* calls may follow */
    TURN_CALLS, /* its list of calls is open */
};

static void end_turn(struct jsonw *w, enum turn *turn)
{
    if (*turn == TURN_CALLS)
        jsonw_close(w);
    if (*turn != TURN_NONE)
        jsonw_close(w);
    *turn = TURN_NONE;
}

static int write_message(struct jsonw *w, enum turn *turn, const struct json *item,
    const char *path, struct openai_refusal *r)
{
    char at[PATH];
    if (check_object(item, OPENAI_SAID, path, r))
        return -1;
    const char *role = json_str(item, "role", "");
    bool assistant = !strcmp(role, "assistant");
    snprintf(at, sizeof at, "%s.role", path);
    if (!assistant && strcmp(role, "user") && strcmp(role, "system") && strcmp(role, "developer"))
        return REFUSE(r, at, "%s must be user, assistant, system or developer", at);
    snprintf(at, sizeof at, "%s.content", path);
    end_turn(w, turn);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "role", role);
    if (write_text(
            w, openai_given(item, "content"), assistant ? "output_text" : "input_text", at, r))
        return -1;
    if (assistant)
        *turn = TURN_SAID;
    else
        jsonw_close(w);
    return 0;
}

static int write_call(struct jsonw *w, enum turn *turn, const struct json *item, const char *path,
    struct openai_refusal *r)
{
    if (check_object(item, OPENAI_SAID_CALL, path, r))
        return -1;
    if (*turn == TURN_NONE) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "role", "assistant");
    }
    if (*turn != TURN_CALLS)
        jsonw_open(w, "tool_calls", '[');
    *turn = TURN_CALLS;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", json_str(item, "call_id", ""));
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", json_str(item, "name", ""));
    jsonw_str(w, "arguments", json_str(item, "arguments", ""));
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_output(struct jsonw *w, enum turn *turn, const struct json *item, const char *path,
    struct openai_refusal *r)
{
    char at[PATH];
    if (check_object(item, OPENAI_SAID_OUTPUT, path, r))
        return -1;
    end_turn(w, turn);
    snprintf(at, sizeof at, "%s.output", path);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "role", "tool");
    jsonw_str(w, "tool_call_id", json_str(item, "call_id", ""));
    if (write_text(w, openai_given(item, "output"), "input_text", at, r))
        return -1;
    jsonw_close(w);
    return 0;
}

static int write_item(struct jsonw *w, enum turn *turn, const struct json *item, const char *path,
    struct openai_refusal *r)
{
    char at[PATH];
    const char *type = json_str(item, "type", openai_given(item, "type") ? "" : "message");
    if (!strcmp(type, "message"))
        return write_message(w, turn, item, path, r);
    if (!strcmp(type, "function_call"))
        return write_call(w, turn, item, path, r);
    if (!strcmp(type, "function_call_output"))
        return write_output(w, turn, item, path, r);
    snprintf(at, sizeof at, "%s.type", path);
    return REFUSE(r, at,
        "%s: an item of the type \"%.40s\" is not supported: it may be \"message\", "
        "\"function_call\" or \"function_call_output\"",
        at, type);
}

static int write_input(struct jsonw *w, const struct json *v, struct openai_refusal *r)
{
    const struct json *input = openai_given(v, "input");
    enum turn turn = TURN_NONE;
    int i = 0;
    if (!json_is_string(input) && (!json_is_array(input) || !json_count(input)))
        return REFUSE(r, "input", "input must be a string or a non-empty list of items");
    jsonw_open(w, "messages", '[');
    if (openai_given(v, "instructions")) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "role", "system");
        jsonw_str(w, "content", json_str(v, "instructions", ""));
        jsonw_close(w);
    }
    if (json_is_string(input)) {
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "role", "user");
        jsonw_str(w, "content", json_string_value(input));
        jsonw_close(w);
    }
    json_each (item, input) {
        char path[32];
        snprintf(path, sizeof path, "input[%d]", i++);
        if (write_item(w, &turn, item, path, r))
            return -1;
    }
    end_turn(w, &turn);
    jsonw_close(w);
    return 0;
}

static int write_tool(
    struct jsonw *w, const struct json *tool, const char *path, struct openai_refusal *r)
{
    const struct json *parameters = openai_given(tool, "parameters");
    if (check_object(tool, OPENAI_FLAT_TOOL, path, r))
        return -1;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", json_str(tool, "name", ""));
    if (openai_given(tool, "description"))
        jsonw_str(w, "description", json_str(tool, "description", ""));
    if (parameters && openai_copy_json(w, "parameters", parameters, r))
        return -1;
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_tools(struct jsonw *w, const struct json *v, struct openai_refusal *r)
{
    const struct json *tools = openai_given(v, "tools");
    int i = 0;
    if (!tools)
        return 0;
    if (!json_is_array(tools))
        return REFUSE(r, "tools", "tools must be a list");
    jsonw_open(w, "tools", '[');
    json_each (tool, tools) {
        char path[32];
        snprintf(path, sizeof path, "tools[%d]", i++);
        if (write_tool(w, tool, path, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}

static int write_choice(struct jsonw *w, const struct json *choice, struct openai_refusal *r)
{
    if (!choice)
        return 0;
    if (json_is_string(choice)) {
        jsonw_str(w, "tool_choice", json_string_value(choice));
        return 0;
    }
    if (check_object(choice, OPENAI_FLAT_CHOICE, "tool_choice", r))
        return -1;
    jsonw_open(w, "tool_choice", '{');
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", json_str(choice, "name", ""));
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_format(struct jsonw *w, const struct json *format, struct openai_refusal *r)
{
    static const char *const only[] = {"name", "schema"};
    if (check_object(format, OPENAI_TEXT_FORMAT, "text.format", r))
        return -1;
    const char *type = json_str(format, "type", "");
    bool by_schema = !strcmp(type, "json_schema");
    if (!by_schema && strcmp(type, "text") != 0 && strcmp(type, "json_object") != 0)
        return REFUSE(
            r, "text.format.type", "text.format.type must be text, json_object or json_schema");
    for (int i = 0; i < 2; i++) {
        char at[PATH];
        snprintf(at, sizeof at, "text.format.%s", only[i]);
        if (by_schema != (openai_given(format, only[i]) != NULL))
            return REFUSE(r, at, "%s %s", at,
                by_schema ? "is needed" : "stands only beside the type json_schema");
    }
    jsonw_open(w, "response_format", '{');
    jsonw_str(w, "type", type);
    if (by_schema) {
        jsonw_open(w, "json_schema", '{');
        jsonw_str(w, "name", json_str(format, "name", ""));
        if (openai_copy_json(w, "schema", openai_given(format, "schema"), r))
            return -1;
        jsonw_close(w);
    }
    jsonw_close(w);
    return 0;
}

static int write_drawing(struct jsonw *w, const struct json *v, struct openai_refusal *r)
{
    static const char *const names[] = {"temperature", "top_p"};
    const struct json *text = openai_given(v, "text"), *format = openai_given(text, "format");
    if (openai_given(v, "max_output_tokens"))
        jsonw_num(w, "max_completion_tokens", json_num(v, "max_output_tokens", 0));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (openai_given(v, names[i]))
            jsonw_num(w, names[i], json_num(v, names[i], 0));
    jsonw_bool(w, "stream", json_bool(v, "stream", false));
    if (openai_given(v, "parallel_tool_calls"))
        jsonw_bool(w, "parallel_tool_calls", json_bool(v, "parallel_tool_calls", true));
    if (text && check_object(text, OPENAI_TEXT_FORM, "text", r))
        return -1;
    return format ? write_format(w, format, r) : 0;
}

int responses_as_chat(const struct json *v, struct buf *out, struct openai_refusal *r)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    if (write_input(&w, v, r) || write_tools(&w, v, r) ||
        write_choice(&w, openai_given(v, "tool_choice"), r) || write_drawing(&w, v, r))
        return -1;
    jsonw_close(&w);
    return jsonw_end(&w) ? openai_no_memory(r) : 0;
}

/* -- answers -- */

static void begin_event(struct buf *out, struct jsonw *w, struct openai_answer *a, const char *type)
{
    buf_printf(out, "event: %s\ndata: ", type);
    jsonw_init(w, out);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", type);
    jsonw_int(w, "sequence_number", a->told.events++);
}

static void end_event(struct buf *out, struct jsonw *w)
{
    jsonw_close(w);
    jsonw_end(w);
    buf_str(out, "\n\n");
}

/* An event of the item that is told, and of its only part if it is the message. */
static void begin_item_event(
    struct buf *out, struct jsonw *w, struct openai_answer *a, const char *type, const char *item)
{
    begin_event(out, w, a, type);
    jsonw_int(w, "output_index", a->told.parts);
    jsonw_str(w, "item_id", item);
    if (a->told.open)
        jsonw_int(w, "content_index", 0);
}

static void message_id(char out[40], const struct openai_answer *a)
{
    snprintf(out, 40, "msg_%llu", (unsigned long long)a->id);
}

static bool was_cut(const struct openai_choice *c)
{
    return !strcmp(c->finish, "length");
}

static int calls_of(const struct openai_choice *c)
{
    return c->calls ? c->calls->count : 0;
}

/* An answer of calls alone has none. */
static bool has_message(const struct openai_choice *c)
{
    return c->len || !calls_of(c);
}

static void write_nothing(struct jsonw *w, const char *key)
{
    jsonw_open(w, key, '[');
    jsonw_close(w);
}

/* c: NULL when it begins. */
static void write_part(struct jsonw *w, const char *key, const struct openai_choice *c)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "type", "output_text");
    jsonw_strn(w, "text", c ? c->text : "", c ? c->len : 0);
    jsonw_raw(w, "annotations", c && c->annotations ? c->annotations : "[]");
    write_nothing(w, "logprobs");
    jsonw_close(w);
}

/* c: NULL when it begins. */
static void write_said(
    struct jsonw *w, const char *key, const struct openai_answer *a, const struct openai_choice *c)
{
    char id[40];
    message_id(id, a);
    jsonw_open(w, key, '{');
    jsonw_str(w, "id", id);
    jsonw_str(w, "type", "message");
    jsonw_str(w, "role", "assistant");
    jsonw_str(w, "status", !c ? "in_progress" : was_cut(c) ? "incomplete" : "completed");
    jsonw_open(w, "content", '[');
    if (c)
        write_part(w, NULL, c);
    jsonw_close(w);
    jsonw_close(w);
}

static void write_made(struct jsonw *w, const char *key, const struct openai_answer *a,
    const struct openai_choice *c, int call, bool begins)
{
    char id[OPENAI_CALL_ID], item[OPENAI_CALL_ID + 4];
    openai_call_id(id, a, c->index, call);
    snprintf(item, sizeof item, "fc_%s", id);
    jsonw_open(w, key, '{');
    jsonw_str(w, "id", item);
    jsonw_str(w, "type", "function_call");
    jsonw_str(w, "call_id", id);
    jsonw_str(w, "name", c->calls->call[call].name);
    jsonw_str(w, "arguments", begins ? "" : c->calls->call[call].arguments);
    jsonw_str(w, "status", begins ? "in_progress" : "completed");
    jsonw_close(w);
}

static void write_usage(struct jsonw *w, struct openai_usage u)
{
    jsonw_open(w, "usage", '{');
    jsonw_int(w, "input_tokens", u.prompt);
    jsonw_open(w, "input_tokens_details", '{');
    jsonw_int(w, "cached_tokens", u.cached);
    jsonw_int(w, "cache_write_tokens", 0);
    jsonw_close(w);
    jsonw_int(w, "output_tokens", u.completion);
    jsonw_open(w, "output_tokens_details", '{');
    jsonw_int(w, "reasoning_tokens", 0);
    jsonw_close(w);
    jsonw_int(w, "total_tokens", u.prompt + u.completion);
    jsonw_close(w);
}

/* A member of the request as it was given, or what its absence means. */
static void repeat(struct jsonw *w, const struct json *asked, const char *key, const char *absent)
{
    const struct json *v = openai_given(asked, key);
    struct openai_refusal ignored;
    if (!v)
        jsonw_raw(w, key, absent);
    else if (openai_copy_json(w, key, v, &ignored))
        w->out->failed = true;
}

/* What was asked for, but the input. */
static void write_asked(struct jsonw *w, const struct openai_answer *a)
{
    static const struct {
        const char *key, *absent;
    } told[] = {{"instructions", "null"}, {"max_output_tokens", "null"}, {"metadata", "{}"},
        {"parallel_tool_calls", "true"}, {"temperature", "1"},
        {"text", "{\"format\":{\"type\":\"text\"}}"}, {"tool_choice", "\"auto\""}, {"tools", "[]"},
        {"top_p", "1"}, {"truncation", "\"disabled\""}};
    json_auto struct json *asked = NULL;
    if (a->asked && json_parse(a->asked, strlen(a->asked), &asked, NULL))
        w->out->failed = true; /* it was read before: there is no memory */
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        repeat(w, asked, told[i].key, told[i].absent);
}

/* c: NULL while it goes on. */
static void write_response(struct jsonw *w, const char *key, const struct openai_answer *a,
    const struct openai_choice *c, struct openai_usage u)
{
    char id[40];
    snprintf(id, sizeof id, "resp_%llu", (unsigned long long)a->id);
    jsonw_open(w, key, '{');
    jsonw_str(w, "id", id);
    jsonw_str(w, "object", "response");
    jsonw_int(w, "created_at", a->created);
    jsonw_str(w, "status", !c ? "in_progress" : was_cut(c) ? "incomplete" : "completed");
    jsonw_bool(w, "background", false);
    jsonw_null(w, "error");
    if (c && was_cut(c))
        jsonw_raw(w, "incomplete_details", "{\"reason\":\"max_output_tokens\"}");
    else
        jsonw_null(w, "incomplete_details");
    jsonw_str(w, "model", a->model);
    openai_tell_members(w, a);
    jsonw_open(w, "output", '[');
    if (c && has_message(c))
        write_said(w, NULL, a, c);
    for (int i = 0; c && i < calls_of(c); i++)
        write_made(w, NULL, a, c, i, false);
    jsonw_close(w);
    write_asked(w, a);
    jsonw_null(w, "previous_response_id");
    jsonw_bool(w, "store", false);
    if (c)
        write_usage(w, u);
    else
        jsonw_null(w, "usage");
    jsonw_close(w);
}

static void tell_response(struct buf *out, struct openai_answer *a, const char *type,
    const struct openai_choice *c, struct openai_usage u)
{
    struct jsonw w;
    begin_event(out, &w, a, type);
    write_response(&w, "response", a, c, u);
    end_event(out, &w);
}

static void open_message(struct buf *out, struct openai_answer *a)
{
    char id[40];
    struct jsonw w;
    message_id(id, a);
    begin_event(out, &w, a, "response.output_item.added");
    jsonw_int(&w, "output_index", a->told.parts);
    write_said(&w, "item", a, NULL);
    end_event(out, &w);
    a->told.open = true;
    begin_item_event(out, &w, a, "response.content_part.added", id);
    write_part(&w, "part", NULL);
    end_event(out, &w);
}

static void close_message(struct buf *out, struct openai_answer *a, const struct openai_choice *c)
{
    char id[40];
    struct jsonw w;
    message_id(id, a);
    begin_item_event(out, &w, a, "response.output_text.done", id);
    jsonw_strn(&w, "text", c->text, c->len);
    write_nothing(&w, "logprobs");
    end_event(out, &w);
    begin_item_event(out, &w, a, "response.content_part.done", id);
    write_part(&w, "part", c);
    end_event(out, &w);
    a->told.open = false;
    begin_event(out, &w, a, "response.output_item.done");
    jsonw_int(&w, "output_index", a->told.parts++);
    write_said(&w, "item", a, c);
    end_event(out, &w);
}

static void tell_call(
    struct buf *out, struct openai_answer *a, const struct openai_choice *c, int call)
{
    char id[OPENAI_CALL_ID], item[OPENAI_CALL_ID + 4];
    struct jsonw w;
    openai_call_id(id, a, c->index, call);
    snprintf(item, sizeof item, "fc_%s", id);
    begin_event(out, &w, a, "response.output_item.added");
    jsonw_int(&w, "output_index", a->told.parts);
    write_made(&w, "item", a, c, call, true);
    end_event(out, &w);
    begin_item_event(out, &w, a, "response.function_call_arguments.delta", item);
    jsonw_str(&w, "delta", c->calls->call[call].arguments);
    end_event(out, &w);
    begin_item_event(out, &w, a, "response.function_call_arguments.done", item);
    jsonw_str(&w, "name", c->calls->call[call].name);
    jsonw_str(&w, "arguments", c->calls->call[call].arguments);
    end_event(out, &w);
    begin_event(out, &w, a, "response.output_item.done");
    jsonw_int(&w, "output_index", a->told.parts++);
    write_made(&w, "item", a, c, call, false);
    end_event(out, &w);
}

void responses_chunk(struct buf *out, struct openai_answer *a, const struct openai_choice *c)
{
    char id[40];
    struct jsonw w;
    message_id(id, a);
    if (c->first) {
        tell_response(out, a, "response.created", NULL, (struct openai_usage){0});
        tell_response(out, a, "response.in_progress", NULL, (struct openai_usage){0});
    }
    if (!c->len)
        return;
    if (!a->told.open)
        open_message(out, a);
    begin_item_event(out, &w, a, "response.output_text.delta", id);
    jsonw_strn(&w, "delta", c->text, c->len);
    write_nothing(&w, "logprobs");
    end_event(out, &w);
}

void responses_last(
    struct buf *out, struct openai_answer *a, const struct openai_choice *c, struct openai_usage u)
{
    if (!a->told.open && has_message(c))
        open_message(out, a);
    if (a->told.open)
        close_message(out, a, c);
    for (int i = 0; i < calls_of(c); i++)
        tell_call(out, a, c, i);
    tell_response(out, a, was_cut(c) ? "response.incomplete" : "response.completed", c, u);
}

void responses_error_event(struct buf *out, struct openai_answer *a, const struct openai_refusal *r)
{
    struct jsonw w;
    begin_event(out, &w, a, "error");
    jsonw_str(&w, "code", r->code ? r->code : r->type);
    jsonw_strn(
        &w, "message", r->message, strlen(r->message)); /* either may be cut in a character */
    if (*r->param)
        jsonw_strn(&w, "param", r->param, strlen(r->param));
    else
        jsonw_null(&w, "param");
    end_event(out, &w);
}

void responses_whole(struct buf *out, const struct openai_answer *a, const struct openai_choice *c,
    struct openai_usage u)
{
    struct jsonw w;
    jsonw_init(&w, out);
    write_response(&w, NULL, a, c, u);
    jsonw_end(&w);
}
