/*
 * openai_tools: tools in a request: those that may be called, the choice among them, and messages
 * that tell of calls. The arguments of these are a string of a client's, which a template wants as
 * an object: they are parsed, and refused unless they are one.
 */
#include "agent/openai_internal.h"

#include "api/limits.h"

#include <stdio.h>
#include <string.h>

#define PATH 128 /* of a field, in a refusal */

/* The object of a member, its fields checked; path: of the member. NULL: it is refused. */
static const struct json *read_object(const struct json *v, const char *key,
    enum openai_place place, const char *path, struct openai_refusal *r)
{
    const struct json *object = openai_given(v, key);
    char prefix[PATH + 1];
    snprintf(prefix, sizeof prefix, "%s.", path);
    if (!json_is_object(object)) {
        REFUSE(r, path, "%s must be an object", path);
        return NULL;
    }
    return openai_check_fields(object, place, prefix, r) ? NULL : object;
}

/* {"type": "function", "function": {...}} at path: the function. NULL: it is refused. */
static const struct json *read_function(const struct json *v, enum openai_place place,
    enum openai_place inner, const char *path, struct openai_refusal *r)
{
    char at[PATH];
    snprintf(at, sizeof at, "%s.", path);
    if (!json_is_object(v)) {
        REFUSE(r, path, "%s must be an object", path);
        return NULL;
    }
    if (openai_check_fields(v, place, at, r))
        return NULL;
    snprintf(at, sizeof at, "%s.function", path);
    return read_object(v, "function", inner, at, r);
}

/* -- tools -- */

static bool is_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return *name && strlen(name) <= 64 && !name[strspn(name, letters)];
}

static const struct json *find_tool(const struct json *tools, const char *name)
{
    json_each (tool, tools) {
        const struct json *function = json_get(tool, "function");
        if (!strcmp(json_str(function, "name", ""), name))
            return function;
    }
    return NULL;
}

static int copy_tool(const struct json *tools, const struct json *tool, int i, struct jsonw *w,
    struct openai_refusal *r)
{
    char path[32], at[PATH];
    snprintf(path, sizeof path, "tools[%d]", i);
    const struct json *function = read_function(tool, OPENAI_TOOL, OPENAI_FUNCTION, path, r);
    if (!function)
        return -1;
    const char *name = json_str(function, "name", "");
    const char *description = json_str(function, "description", NULL);
    const struct json *parameters = openai_given(function, "parameters");
    snprintf(at, sizeof at, "%s.function.name", path);
    if (!is_name(name))
        return REFUSE(r, at, "%s must be 1 to 64 letters, digits, _ and -", at);
    if (find_tool(tools, name) != function)
        return REFUSE(r, at, "%s: there is another tool of this name", at);
    snprintf(at, sizeof at, "%s.function.parameters", path);
    if (parameters &&
        (!json_is_object(parameters) ||
            (json_count(parameters) && strcmp(json_str(parameters, "type", ""), "object") != 0)))
        return REFUSE(r, at, "%s must be a schema whose type is \"object\"", at);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", name);
    if (description)
        jsonw_str(w, "description", description);
    if (parameters && openai_copy_json(w, "parameters", parameters, r))
        return -1;
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

static int copy_choice(const struct json *tools, const struct json *choice, struct jsonw *w,
    bool *must, struct openai_refusal *r)
{
    const char *word = json_string_value(choice);
    *must = choice && (!word || !strcmp(word, "required"));
    if (word && *must)
        jsonw_str(w, "tool_choice", word);
    if (word && !*must && strcmp(word, "auto") != 0)
        return REFUSE(
            r, "tool_choice", "tool_choice must be none, auto, required or a function's name");
    if (word || !choice)
        return 0;
    const struct json *function =
        read_function(choice, OPENAI_CHOICE, OPENAI_CHOSEN, "tool_choice", r);
    if (!function)
        return -1;
    const char *name = json_str(function, "name", "");
    if (!find_tool(tools, name))
        return REFUSE(r, "tool_choice.function.name",
            "tool_choice.function.name: no tool has the name \"%.64s\"", name);
    jsonw_open(w, "tool_choice", '{');
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", name);
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

/* What cannot be asked for beside calls. */
static int check_beside(const struct json *v, bool must, struct openai_refusal *r)
{
    const struct json *format = openai_given(v, "response_format");
    if (format && strcmp(json_str(format, "type", "text"), "text") != 0)
        return REFUSE(r, "response_format",
            "response_format says what the answer is: with tools it may only be text, unless "
            "tool_choice is none");
    if (must && (json_num(v, "min_tokens", 0) > 0 || json_bool(v, "ignore_eos", false)))
        return REFUSE(r, "tool_choice",
            "tool_choice says where an answer ends: min_tokens and ignore_eos cannot");
    return 0;
}

int openai_copy_tools(const struct openai_conf *conf, const struct json *v, struct jsonw *w,
    struct openai_request *out, struct openai_refusal *r)
{
    const struct json *tools = openai_given(v, "tools"), *choice = openai_given(v, "tool_choice");
    bool none = !strcmp(json_str(v, "tool_choice", ""), "none"), must;
    bool parallel = json_bool(v, "parallel_tool_calls", true);
    if (tools && !json_is_array(tools))
        return REFUSE(r, "tools", "tools must be a list");
    if (none ||
        (!json_count(tools) && !strcmp(json_str(v, "tool_choice", "auto"), "auto") &&
            !json_is_object(choice)))
        return 0;
    if (!json_count(tools))
        return REFUSE(r, "tool_choice", "tool_choice needs tools");
    if (json_count(tools) > LIMIT_TOOLS)
        return REFUSE(r, "tools", "at most %d tools", LIMIT_TOOLS);
    if (conf->calls == WIRE_CALLS_NONE)
        return REFUSE(r, "tools", "tools: the model's chat template takes no tools");
    if (conf->calls == WIRE_CALLS_UNKNOWN)
        return REFUSE(r, "tools", "tools: the form of the calls of this model is not supported");
    int i = 0;
    jsonw_open(w, "tools", '[');
    json_each (tool, tools)
        if (copy_tool(tools, tool, i++, w, r))
            return -1;
    jsonw_close(w);
    if (copy_choice(tools, choice, w, &must, r) || check_beside(v, must, r))
        return -1;
    if (!parallel)
        jsonw_bool(w, "parallel_tool_calls", false);
    out->calls = parallel ? LIMIT_TOOLS : 1;
    return 0;
}

/* -- messages -- */

static int copy_arguments(
    const struct json *function, const char *path, struct jsonw *w, struct openai_refusal *r)
{
    const char *text = json_str(function, "arguments", NULL);
    json_auto struct json *v = NULL;
    char at[PATH];
    int rc = text && *text ? json_parse(text, strlen(text), &v, NULL) : 0;
    snprintf(at, sizeof at, "%s.function.arguments", path);
    if (rc == -ERR_MEMORY)
        return openai_no_memory(r);
    if (!text || rc || (*text && !json_is_object(v)))
        return REFUSE(r, at, "%s must be an object of JSON, as a string", at);
    jsonw_raw(w, "arguments", *text ? text : "{}");
    return 0;
}

static int copy_call(
    const struct json *call, const char *path, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *function = read_function(call, OPENAI_CALL, OPENAI_CALLED, path, r);
    if (!function)
        return -1;
    const char *id = json_str(call, "id", ""), *name = json_str(function, "name", "");
    char at[PATH];
    snprintf(at, sizeof at, "%s.%s", path, *id ? "function.name" : "id");
    if (!*id || !*name)
        return REFUSE(r, at, "%s is needed", at);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", id);
    jsonw_str(w, "type", "function");
    jsonw_open(w, "function", '{');
    jsonw_str(w, "name", name);
    if (copy_arguments(function, path, w, r))
        return -1;
    jsonw_close(w);
    jsonw_close(w);
    return 0;
}

int openai_copy_calls(const struct json *message, const char *role, const char *prefix,
    struct jsonw *w, struct openai_refusal *r)
{
    const struct json *calls = openai_given(message, "tool_calls");
    const char *id = json_str(message, "tool_call_id", NULL);
    bool tool = !strcmp(role, "tool");
    char path[64];
    snprintf(path, sizeof path, "%stool_call_id", prefix);
    if (tool != (id && *id))
        return REFUSE(r, path, "%s %s", path,
            tool ? "is needed" : "stands only in a message of the role \"tool\"");
    if (id)
        jsonw_str(w, "tool_call_id", id);
    snprintf(path, sizeof path, "%stool_calls", prefix);
    if (calls && (!json_is_array(calls) || json_count(calls) > LIMIT_TOOLS))
        return REFUSE(r, path, "%s must be a list of at most %d calls", path, LIMIT_TOOLS);
    if (!json_count(calls))
        return 0;
    if (strcmp(role, "assistant") != 0)
        return REFUSE(r, path, "%s stands only in a message of the role \"assistant\"", path);
    int i = 0;
    jsonw_open(w, "tool_calls", '[');
    json_each (call, calls) {
        snprintf(path, sizeof path, "%stool_calls[%d]", prefix, i++);
        if (copy_call(call, path, w, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}
