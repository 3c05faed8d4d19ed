/*
 * anthropic: blocks of a message become the text, the calls and the results of calls that chat
 * completions know. A turn of the user that has results becomes a message of the role `tool` each,
 * and then one of the user with what text there is.
 */
#include "agent/anthropic.h"

#include "agent/openai_internal.h"
#include "api/limits.h"

#include <stdio.h>
#include <string.h>

#define PATH 96

/* -- requests -- */

static enum openai_place place_of(const char *type)
{
    return !strcmp(type, "text")       ? OPENAI_TEXT_BLOCK
        : !strcmp(type, "tool_use")    ? OPENAI_USE_BLOCK
        : !strcmp(type, "tool_result") ? OPENAI_RESULT_BLOCK
                                       : 0;
}

/* One of `allowed`, its fields checked. */
static int check_block(
    const struct json *block, uint64_t allowed, const char *path, struct openai_refusal *r)
{
    char at[PATH];
    enum openai_place place = place_of(json_str(block, "type", ""));
    if (!json_is_object(block))
        return REFUSE(r, path, "%s must be an object", path);
    snprintf(at, sizeof at, "%.80s.type", path);
    if (!(place & allowed))
        return REFUSE(r, at, "%s: a block of the type \"%.40s\" is not supported here", at,
            json_str(block, "type", ""));
    snprintf(at, sizeof at, "%.80s.", path);
    return openai_check_fields(block, place, at, r);
}

static int check_blocks(
    const struct json *blocks, uint64_t allowed, const char *path, struct openai_refusal *r)
{
    int i = 0;
    if (json_is_string(blocks))
        return 0;
    if (!json_is_array(blocks))
        return REFUSE(r, path, "%s must be a string or a list of blocks", path);
    json_each (block, blocks) {
        char at[PATH];
        snprintf(at, sizeof at, "%.80s[%d]", path, i++);
        if (check_block(block, allowed, at, r))
            return -1;
    }
    return 0;
}

static bool is_type(const struct json *block, const char *type)
{
    return !strcmp(json_str(block, "type", ""), type);
}

/* The text of a string, or of all blocks of text. */
static int write_text(struct jsonw *w, const struct json *blocks, struct openai_refusal *r)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_REQUEST_BYTES);
    if (json_is_string(blocks))
        buf_str(&text, json_string_value(blocks));
    else
        json_each (block, blocks)
            if (is_type(block, "text"))
                buf_str(&text, json_str(block, "text", ""));
    jsonw_str(w, "content", buf_cstr(&text));
    return buf_ok(&text) ? 0 : openai_no_memory(r);
}

static int write_results(
    struct jsonw *w, const struct json *content, const char *path, struct openai_refusal *r)
{
    bool text = false;
    int i = 0;
    json_each (block, content) {
        char at[PATH];
        snprintf(at, sizeof at, "%.80s[%d]", path, i++);
        text = text || is_type(block, "text");
        if (!is_type(block, "tool_result"))
            continue;
        if (text)
            return REFUSE(r, at, "%s: results of tools come before the text", at);
        const struct json *said = openai_given(block, "content");
        snprintf(at, sizeof at, "%.70s[%d].content", path, i - 1);
        if (said && check_blocks(said, OPENAI_TEXT_BLOCK, at, r))
            return -1;
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "role", "tool");
        jsonw_str(w, "tool_call_id", json_str(block, "tool_use_id", ""));
        if (write_text(w, said, r))
            return -1;
        jsonw_close(w);
    }
    return 0;
}

static int write_call(
    struct jsonw *w, const struct json *use, const char *path, struct openai_refusal *r)
{
    const struct json *input = openai_given(use, "input");
    buf_auto struct buf text;
    buf_init(&text, LIMIT_REQUEST_BYTES);
    if (!json_is_object(input))
        return REFUSE(r, path, "%s.input must be an object", path);
    if (json_print(input, &text))
        return openai_no_memory(r);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", json_str(use, "id", ""));
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", json_str(use, "name", ""));
    jsonw_str(w, "arguments", text.data);
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_calls(
    struct jsonw *w, const struct json *content, const char *path, struct openai_refusal *r)
{
    int i = 0;
    jsonw_open(w, "tool_calls", '[');
    json_each (block, content) {
        char at[PATH];
        snprintf(at, sizeof at, "%.80s[%d]", path, i++);
        if (is_type(block, "tool_use") && write_call(w, block, at, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}

static int write_turn(
    struct jsonw *w, const struct json *turn, bool last, const char *path, struct openai_refusal *r)
{
    char at[PATH];
    snprintf(at, sizeof at, "%s.", path);
    if (!json_is_object(turn))
        return REFUSE(r, path, "%s must be an object", path);
    if (openai_check_fields(turn, OPENAI_TURN, at, r))
        return -1;
    const char *role = json_str(turn, "role", "");
    const struct json *content = openai_given(turn, "content");
    bool user = !strcmp(role, "user");
    snprintf(at, sizeof at, "%s.role", path);
    if (!user && strcmp(role, "assistant") != 0)
        return REFUSE(r, at, "%s must be user or assistant", at);
    if (last && !user)
        return REFUSE(r, at, "%s: the last message must be of the user", at);
    snprintf(at, sizeof at, "%s.content", path);
    if (check_blocks(content,
            OPENAI_TEXT_BLOCK | (uint64_t)(user ? OPENAI_RESULT_BLOCK : OPENAI_USE_BLOCK), at, r))
        return -1;
    if (user && write_results(w, content, at, r))
        return -1;
    const struct json *end = json_first(content);
    while (user && end && is_type(end, "tool_result"))
        end = json_next(end);
    if (user && json_count(content) && !end)
        return 0; /* results alone */
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "role", role);
    if (write_text(w, content, r) || (!user && write_calls(w, content, at, r)))
        return -1;
    jsonw_close(w);
    return 0;
}

static int write_messages(struct jsonw *w, const struct json *v, struct openai_refusal *r)
{
    const struct json *messages = openai_given(v, "messages"), *system = openai_given(v, "system");
    int i = 0;
    if (!json_is_array(messages) || !json_count(messages))
        return REFUSE(r, "messages", "messages must be a non-empty array");
    jsonw_open(w, "messages", '[');
    if (system) {
        if (check_blocks(system, OPENAI_TEXT_BLOCK, "system", r))
            return -1;
        jsonw_open(w, NULL, '{');
        jsonw_str(w, "role", "system");
        if (write_text(w, system, r))
            return -1;
        jsonw_close(w);
    }
    json_each (turn, messages) {
        char path[32];
        snprintf(path, sizeof path, "messages[%d]", i++);
        if (write_turn(w, turn, !json_next(turn), path, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}

static int write_tool(
    struct jsonw *w, const struct json *tool, const char *path, struct openai_refusal *r)
{
    char at[PATH];
    snprintf(at, sizeof at, "%s.", path);
    if (!json_is_object(tool))
        return REFUSE(r, path, "%s must be an object", path);
    if (openai_check_fields(tool, OPENAI_USABLE, at, r))
        return -1;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", json_str(tool, "name", ""));
    if (openai_given(tool, "description"))
        jsonw_str(w, "description", json_str(tool, "description", ""));
    if (openai_copy_json(w, "parameters", openai_given(tool, "input_schema"), r))
        return -1;
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_choice(struct jsonw *w, const struct json *choice, struct openai_refusal *r)
{
    const char *type = json_str(choice, "type", ""), *name = json_str(choice, "name", NULL);
    bool one = !strcmp(type, "tool"), any = !strcmp(type, "any");
    if (!json_is_object(choice))
        return REFUSE(r, "tool_choice", "tool_choice must be an object");
    if (openai_check_fields(choice, OPENAI_USE, "tool_choice.", r))
        return -1;
    if (!one && !any && strcmp(type, "auto") != 0 && strcmp(type, "none") != 0)
        return REFUSE(r, "tool_choice.type", "tool_choice.type must be auto, any, tool or none");
    if (one != (name != NULL))
        return REFUSE(r, "tool_choice.name", "tool_choice.name %s",
            one ? "is needed" : "stands only beside the type tool");
    if (json_bool(choice, "disable_parallel_tool_use", false))
        jsonw_bool(w, "parallel_tool_calls", false);
    if (!one) {
        jsonw_str(w, "tool_choice", any ? "required" : type);
        return 0;
    }
    jsonw_open(w, "tool_choice", '{');
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", name);
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int write_tools(
    struct jsonw *w, const struct json *v, enum openai_place place, struct openai_refusal *r)
{
    const struct json *tools = openai_given(v, "tools"), *choice = openai_given(v, "tool_choice");
    int i = 0;
    if (tools && !json_is_array(tools))
        return REFUSE(r, "tools", "tools must be a list");
    if (tools)
        jsonw_open(w, "tools", '[');
    json_each (tool, tools) {
        char path[32];
        snprintf(path, sizeof path, "tools[%d]", i++);
        if (write_tool(w, tool, path, r))
            return -1;
    }
    if (tools)
        jsonw_close(w);
    return choice && place == OPENAI_MESSAGES ? write_choice(w, choice, r) : 0;
}

static int write_drawing(struct jsonw *w, const struct json *v, struct openai_refusal *r)
{
    static const char *const names[] = {"max_tokens", "temperature", "top_p", "top_k"};
    const struct json *stop = openai_given(v, "stop_sequences");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (openai_given(v, names[i]))
            jsonw_num(w, names[i], json_num(v, names[i], 0));
    jsonw_bool(w, "stream", json_bool(v, "stream", false));
    if (!stop)
        return 0;
    if (!json_is_array(stop))
        return REFUSE(r, "stop_sequences", "stop_sequences must be a list");
    return openai_copy_json(w, "stop", stop, r);
}

int anthropic_as_chat(
    const struct json *v, enum openai_place place, struct buf *out, struct openai_refusal *r)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "model", json_str(v, "model", ""));
    if (write_messages(&w, v, r) || write_tools(&w, v, place, r) ||
        (place == OPENAI_MESSAGES && write_drawing(&w, v, r)))
        return -1;
    jsonw_close(&w);
    return jsonw_end(&w) ? openai_no_memory(r) : 0;
}

/* -- answers -- */

static void begin_event(struct buf *out, struct jsonw *w, const char *type)
{
    buf_printf(out, "event: %s\ndata: ", type);
    jsonw_init(w, out);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", type);
}

static void end_event(struct buf *out, struct jsonw *w)
{
    jsonw_close(w);
    jsonw_end(w);
    buf_str(out, "\n\n");
}

static void write_usage(struct jsonw *w, struct openai_usage u)
{
    jsonw_open(w, "usage", '{');
    jsonw_int(w, "input_tokens", u.prompt - u.cached);
    jsonw_int(w, "cache_creation_input_tokens", 0);
    jsonw_int(w, "cache_read_input_tokens", u.cached);
    jsonw_int(w, "output_tokens", u.completion);
    jsonw_close(w);
}

static void write_reason(struct jsonw *w, const struct openai_choice *c)
{
    const char *finish = c && c->finish ? c->finish : NULL;
    bool stopped = c && c->stop && *c->stop;
    jsonw_str(w, "stop_reason",
        !finish                             ? NULL
            : !strcmp(finish, "length")     ? "max_tokens"
            : !strcmp(finish, "tool_calls") ? "tool_use"
            : stopped                       ? "stop_sequence"
                                            : "end_turn");
    jsonw_str(w, "stop_sequence", stopped ? c->stop : NULL);
}

static void open_message(struct jsonw *w, const char *key, const struct openai_answer *a)
{
    char id[40];
    snprintf(id, sizeof id, "msg_%llu", (unsigned long long)a->id);
    jsonw_open(w, key, '{');
    jsonw_str(w, "id", id);
    jsonw_str(w, "type", "message");
    jsonw_str(w, "role", "assistant");
    jsonw_str(w, "model", a->model);
    openai_tell_members(w, a);
    jsonw_open(w, "content", '[');
}

/* The content is told. */
static void close_message(struct jsonw *w, const struct openai_choice *c, struct openai_usage u)
{
    jsonw_close(w);
    write_reason(w, c);
    write_usage(w, u);
    jsonw_close(w);
}

static void write_use(struct jsonw *w, const char *key, const struct openai_answer *a,
    const struct openai_choice *c, int call, const char *input)
{
    char id[OPENAI_CALL_ID];
    openai_call_id(id, a, c->index, call);
    jsonw_open(w, key, '{');
    jsonw_str(w, "type", "tool_use");
    jsonw_str(w, "id", id);
    jsonw_str(w, "name", c->calls->call[call].name);
    jsonw_raw(w, "input", input);
    jsonw_close(w);
}

static void write_words(struct jsonw *w, const char *key, const char *text, size_t len)
{
    jsonw_open(w, key, '{');
    jsonw_str(w, "type", "text");
    jsonw_strn(w, "text", text, len);
    jsonw_raw(w, "citations", "null");
    jsonw_close(w);
}

static void tell_stop(struct buf *out, struct openai_answer *a)
{
    struct jsonw w;
    begin_event(out, &w, "content_block_stop");
    jsonw_int(&w, "index", a->told.parts++);
    end_event(out, &w);
    a->told.open = false;
}

static void tell_delta(struct buf *out, const struct openai_answer *a, const char *type,
    const char *key, const char *text, size_t len)
{
    struct jsonw w;
    begin_event(out, &w, "content_block_delta");
    jsonw_int(&w, "index", a->told.parts);
    jsonw_open(&w, "delta", '{');
    jsonw_str(&w, "type", type);
    jsonw_strn(&w, key, text, len);
    jsonw_close(&w);
    end_event(out, &w);
}

static void tell_text(struct buf *out, struct openai_answer *a, const struct openai_choice *c)
{
    struct jsonw w;
    if (!a->told.open) {
        begin_event(out, &w, "content_block_start");
        jsonw_int(&w, "index", a->told.parts);
        write_words(&w, "content_block", "", 0);
        end_event(out, &w);
        a->told.open = true;
    }
    tell_delta(out, a, "text_delta", "text", c->text, c->len);
}

static void tell_call(
    struct buf *out, struct openai_answer *a, const struct openai_choice *c, int call)
{
    struct jsonw w;
    const char *input = c->calls->call[call].arguments;
    begin_event(out, &w, "content_block_start");
    jsonw_int(&w, "index", a->told.parts);
    write_use(&w, "content_block", a, c, call, "{}");
    end_event(out, &w);
    tell_delta(out, a, "input_json_delta", "partial_json", input, strlen(input));
    tell_stop(out, a);
}

void anthropic_chunk(struct buf *out, struct openai_answer *a, const struct openai_choice *c)
{
    struct jsonw w;
    if (c->first) {
        begin_event(out, &w, "message_start");
        open_message(&w, "message", a);
        close_message(&w, NULL, a->begun);
        end_event(out, &w);
        begin_event(out, &w, "ping");
        end_event(out, &w);
    }
    if (c->len)
        tell_text(out, a, c);
    for (int i = c->from; c->calls && i < c->calls->count; i++) {
        if (a->told.open)
            tell_stop(out, a);
        tell_call(out, a, c, i);
    }
    if (c->finish && a->told.open)
        tell_stop(out, a);
}

void anthropic_last(struct buf *out, const struct openai_choice *c, struct openai_usage u)
{
    struct jsonw w;
    begin_event(out, &w, "message_delta");
    jsonw_open(&w, "delta", '{');
    write_reason(&w, c);
    jsonw_close(&w);
    write_usage(&w, u);
    end_event(out, &w);
    begin_event(out, &w, "message_stop");
    end_event(out, &w);
}

void anthropic_whole(struct buf *out, const struct openai_answer *a, const struct openai_choice *c,
    struct openai_usage u)
{
    struct jsonw w;
    jsonw_init(&w, out);
    open_message(&w, NULL, a);
    if (c->len || !c->calls || !c->calls->count)
        write_words(&w, NULL, c->text, c->len);
    for (int i = 0; c->calls && i < c->calls->count; i++)
        write_use(&w, NULL, a, c, i, c->calls->call[i].arguments);
    close_message(&w, c, u);
    jsonw_end(&w);
}

void anthropic_count(struct buf *out, const char *tokens, size_t len)
{
    json_auto struct json *v = NULL;
    struct jsonw w;
    jsonw_init(&w, out);
    if (json_parse_within(tokens, len, LIMIT_FRAME_VALUES, &v, NULL)) {
        out->failed = true;
        return;
    }
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "input_tokens", json_int(v, "count", 0));
    jsonw_close(&w);
    jsonw_end(&w);
}

static void write_error(struct jsonw *w, const struct openai_refusal *r)
{
    const char *type = r->status == 401 ? "authentication_error"
        : r->status == 404              ? "not_found_error"
        : r->status == 413              ? "request_too_large"
        : r->status == 429              ? "rate_limit_error"
        : r->status == 503              ? "overloaded_error"
        : r->status >= 500              ? "api_error"
                                        : "invalid_request_error";
    jsonw_open(w, "error", '{');
    jsonw_str(w, "type", type);
    jsonw_strn(w, "message", r->message, strlen(r->message)); /* may be cut in a character */
    jsonw_close(w);
}

void anthropic_error(struct buf *out, const struct openai_refusal *r)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "type", "error");
    write_error(&w, r);
    jsonw_close(&w);
    jsonw_end(&w);
}

void anthropic_error_event(struct buf *out, const struct openai_refusal *r)
{
    struct jsonw w;
    begin_event(out, &w, "error");
    write_error(&w, r);
    end_event(out, &w);
}
