/*
 * calls: a machine that takes a byte. What may be a call is held until it is one, or cannot be;
 * then it goes to the text, and the byte that decided is looked at anew.
 */
#include "agent/calls.h"

#include "base/json.h"
#include "base/mem.h"

#include <string.h>

#define TEXT_BYTES  (1 << 20)
#define SPACE_BYTES 256 /* that are held before a call */

static const struct {
    const char *open, *close; /* around the JSON of a call; "": nothing */
    char bracket;             /* that the JSON begins with */
} forms[WIRE_CALLS_FORMS] = {
    [WIRE_CALLS_HERMES] = {"<tool_call>", "</tool_call>", '{'},
    [WIRE_CALLS_LLAMA] = {"<|python_tag|>", "", '{'},
    [WIRE_CALLS_MISTRAL] = {"[TOOL_CALLS]", "", '['},
};

void calls_init(struct calls *c, enum wire_calls form, int most)
{
    *c = (struct calls){.form = form,
        .most = most < CALLS_MOST ? most : CALLS_MOST,
        .state = forms[form].open ? CALLS_TEXT : CALLS_REST};
    buf_init(&c->text, TEXT_BYTES);
    buf_init(&c->held, CALLS_BYTES + 2 * SPACE_BYTES);
}

void calls_done(struct calls *c)
{
    for (int i = 0; i < c->count; i++) {
        mem_free(c->call[i].name);
        mem_free(c->call[i].arguments);
    }
    buf_done(&c->text);
    buf_done(&c->held);
}

/* -- JSON -- */

/* One more byte of an array or an object; true: it is the last. */
static bool scan(struct calls *c, char b)
{
    if (c->escape) {
        c->escape = false;
    } else if (c->string) {
        c->escape = b == '\\';
        c->string = b != '"';
    } else if (b == '"') {
        c->string = true;
    }
    if (!c->string && (b == '{' || b == '['))
        c->depth++;
    if (!c->string && (b == '}' || b == ']'))
        c->depth--;
    return c->depth == 0;
}

/* The end of the value that stands at p, in JSON that was parsed. */
static const char *value_end(const char *p)
{
    struct calls s = {0};
    if (*p == '{' || *p == '[') {
        while (!scan(&s, *p++))
            ;
        return p;
    }
    if (*p != '"')
        return p + strcspn(p, ",]} \t\r\n");
    for (p++; *p != '"'; p++)
        p += *p == '\\';
    return p + 1;
}

static const char *skip(const char *p, const char *bytes)
{
    return p + strspn(p, bytes);
}

/* The text of the member that `value` is, of an object whose text is p. */
static const char *member_text(const char *p, const struct json *object, const struct json *value)
{
    p = skip(p + 1, " \t\r\n");
    json_each (member, object) {
        p = skip(value_end(p), " \t\r\n:"); /* behind its name */
        if (member == value)
            break;
        p = skip(value_end(p), " \t\r\n,");
    }
    return p;
}

/* -- calls -- */

/* Its text is p. */
static bool is_call(const struct json *v)
{
    const char *name = json_str(v, "name", "");
    const struct json *arguments = json_get(v, "arguments");
    return json_is_object(v) && *name &&
        json_is_object(arguments ? arguments : json_get(v, "parameters"));
}

static void add_call(struct calls *c, const struct json *v, const char *text)
{
    struct calls_call *call = &c->call[c->count];
    const struct json *arguments = json_get(v, "arguments");
    if (c->count == c->most)
        return;
    text = member_text(text, v, arguments ? arguments : json_get(v, "parameters"));
    *call = (struct calls_call){
        mem_strdup(json_str(v, "name", "")), mem_strndup(text, (size_t)(value_end(text) - text))};
    c->no_memory = c->no_memory || !call->name || !call->arguments;
    c->count++;
    c->bytes += call->name && call->arguments ? strlen(call->name) + strlen(call->arguments) : 0;
}

/* The calls that are held, if that is what they are. */
static bool take_calls(struct calls *c)
{
    json_auto struct json *v = NULL;
    const char *text = buf_cstr(&c->held) + c->json;
    int rc = json_parse(text, c->end - c->json, &v, NULL);
    c->no_memory = c->no_memory || rc == -ERR_MEMORY;
    if (rc)
        return false;
    if (json_is_object(v)) {
        if (!is_call(v))
            return false;
        add_call(c, v, text);
        return true;
    }
    json_each (item, v)
        if (!is_call(item))
            return false;
    text = skip(text + 1, " \t\r\n");
    json_each (item, v) {
        add_call(c, item, text);
        text = skip(value_end(text), " \t\r\n,");
    }
    return json_count(v) > 0;
}

/* -- bytes -- */

static bool is_space(char b)
{
    return b == ' ' || b == '\n' || b == '\t' || b == '\r';
}

/* The call is whole, or none: it is told, or is text. */
static void finish_call(struct calls *c)
{
    bool is = take_calls(c);
    if (!is)
        buf_add(&c->text, c->held.data, c->held.len);
    buf_reset(&c->held);
    c->state = is || c->form != WIRE_CALLS_LLAMA ? CALLS_TEXT : CALLS_REST;
}

static void take_byte(struct calls *c, char b);

/* What is held is text, but for a part of what closes a call, which is looked at anew. */
static void give_up(struct calls *c)
{
    size_t again = c->state == CALLS_CLOSE ? c->matched : 0;
    buf_add(&c->text, c->held.data, c->held.len - again);
    buf_reset(&c->held);
    c->state = c->form == WIRE_CALLS_LLAMA ? CALLS_REST : CALLS_TEXT;
    for (size_t i = 0; i < again; i++)
        take_byte(c, forms[c->form].close[i]);
}

static void begin_json(struct calls *c, char b)
{
    c->json = c->held.len;
    c->depth = 0;
    c->string = c->escape = false;
    c->state = CALLS_JSON;
    scan(c, b);
}

/* Does the call go on with b, or begin? If so it is held. */
static bool is_held(struct calls *c, char b)
{
    const char *open = forms[c->form].open, *close = forms[c->form].close;
    bool llama = c->form == WIRE_CALLS_LLAMA;
    switch (c->state) {
    case CALLS_TEXT:
        if (is_space(b) || (llama && c->count && b == ';'))
            return c->held.len < SPACE_BYTES;
        if (b == *open) {
            c->matched = 1;
            c->state = CALLS_OPEN;
            return true;
        }
        if (llama && b == '{')
            begin_json(c, b);
        return c->state == CALLS_JSON;
    case CALLS_OPEN:
        if (b != open[c->matched])
            return false;
        if (!open[++c->matched])
            c->state = CALLS_BEFORE;
        return true;
    case CALLS_BEFORE:
        if (b == forms[c->form].bracket)
            begin_json(c, b);
        return c->state == CALLS_JSON || (is_space(b) && c->held.len < 2 * SPACE_BYTES);
    case CALLS_JSON:
        if (scan(c, b)) {
            c->end = c->held.len + 1;
            c->matched = 0;
            c->state = CALLS_CLOSE;
        }
        return c->held.len < CALLS_BYTES;
    case CALLS_CLOSE:
        if (!c->matched && is_space(b))
            return c->held.len < CALLS_BYTES + SPACE_BYTES;
        if (b != close[c->matched])
            return false;
        c->matched++;
        return true;
    case CALLS_REST:
        break;
    }
    return false;
}

static void take_byte(struct calls *c, char b)
{
    bool begins = c->state == CALLS_TEXT && !c->held.len;
    if (is_held(c, b)) {
        buf_char(&c->held, b);
    } else if (begins || c->state == CALLS_REST) { /* no call begins with it */
        buf_char(&c->text, b);
        c->state = c->form == WIRE_CALLS_LLAMA ? CALLS_REST : c->state;
    } else {
        give_up(c);
        take_byte(c, b);
    }
    if (c->state == CALLS_CLOSE && !forms[c->form].close[c->matched])
        finish_call(c);
}

static int result(const struct calls *c)
{
    return c->no_memory || !buf_ok(&c->text) || !buf_ok(&c->held) ? -ERR_MEMORY : 0;
}

int calls_add(struct calls *c, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len && !result(c); i++)
        take_byte(c, bytes[i]);
    return result(c);
}

int calls_end(struct calls *c)
{
    bool between = c->state == CALLS_TEXT && c->count;
    if (c->state == CALLS_CLOSE) /* the model may end its turn there */
        finish_call(c);
    else if (!between && c->held.len)
        buf_add(&c->text, c->held.data, c->held.len);
    buf_reset(&c->held);
    c->state = CALLS_REST;
    return result(c);
}
