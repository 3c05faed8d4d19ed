/*
 * openai_tools: goal: tools, the choice among them and what messages tell of calls reach the rank
 * as a template wants them; what cannot be kept to is refused by its field's name. Method: pure;
 * the rank's request is compared as text, for a table of requests; refusals by status, field and a
 * word.
 * needs: faults
 */
#include "agent/openai.h"

#include "base/json.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <string.h>

static struct openai_refusal no;
static struct openai_request took;
static struct buf frame;

static int read_of(enum wire_calls calls, enum openai_place place, const char *body)
{
    const struct openai_conf conf = {
        .model = "m", .context_length = 4096, .most_choices = 20, .calls = calls};
    buf_done(&frame);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    no = (struct openai_refusal){0};
    return openai_read(&conf, 7, place, 0, body, strlen(body), &took, &frame, &no);
}

#define BODY     "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"
#define TOOL(in) "{\"type\":\"function\",\"function\":{" in "}}"
#define F        TOOL("\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"}")
#define G        TOOL("\"name\":\"g\"")
#define TOOLS    BODY ",\"tools\":[" F "," G "]"
#define BEGIN    "{\"id\":7,\"chat\":true,\"messages\":["
#define MIDDLE   "],\"max_tokens\":512,\"temperature\":1,\"top_p\":1,\"stop\":[]"
#define USER     "{\"role\":\"user\",\"content\":\"a\"}"

static const struct {
    const char *body, *frame;
    int calls;
} taken[] = {
    {TOOLS "}", BEGIN USER MIDDLE ",\"tools\":[" F "," G "]}", LIMIT_TOOLS},
    {TOOLS ",\"tool_choice\":\"auto\",\"parallel_tool_calls\":true}",
        BEGIN USER MIDDLE ",\"tools\":[" F "," G "]}", LIMIT_TOOLS},
    {TOOLS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false}",
        BEGIN USER MIDDLE ",\"tools\":[" F "," G
                          "],\"tool_choice\":\"required\",\"parallel_tool_calls\":false}",
        1},
    {TOOLS ",\"tool_choice\":" G "}",
        BEGIN USER MIDDLE ",\"tools\":[" F "," G
                          "],\"tool_choice\":{\"function\":{\"name\":\"g\"}}}",
        LIMIT_TOOLS},
    /* the model is not shown them */
    {TOOLS ",\"tool_choice\":\"none\",\"response_format\":{\"type\":\"json_object\"}}",
        BEGIN USER MIDDLE ",\"response_format\":{\"type\":\"json_object\"}}", 0},
    {BODY ",\"tools\":[],\"tool_choice\":\"auto\",\"parallel_tool_calls\":true}",
        BEGIN USER MIDDLE "}", 0},
    /* what says nothing to a model is not shown */
    {BODY ",\"tools\":[" TOOL("\"strict\":true,\"name\":\"g\",\"parameters\":null") "]}",
        BEGIN USER MIDDLE ",\"tools\":[" G "]}", LIMIT_TOOLS},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{"
     "\"id\":\"i\",\"index\":0,\"type\":\"function\",\"function\":{\"arguments\":\"{ \\\"x\\\" : "
     "12345678901234567890}\",\"name\":\"f\"}},{\"id\":\"j\",\"type\":\"function\",\"function\":{"
     "\"name\":\"g\",\"arguments\":\"\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"i\",\"content\":"
     "[{\"type\":\"text\",\"text\":\"r\"}]}]}",
        BEGIN "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"i\",\"type\":"
              "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{ \"x\" : "
              "12345678901234567890}}},{\"id\":\"j\",\"type\":\"function\",\"function\":{\"name\":"
              "\"g\",\"arguments\":{}}}]},{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":"
              "\"i\"}" MIDDLE "}",
        0},
};

START_TEST(what_is_taken)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        int rc = read_of(WIRE_CALLS_HERMES, OPENAI_CHAT, taken[i].body);
        ck_assert_msg(!rc, "%s: %s", taken[i].body, no.message);
        ck_assert_str_eq(buf_cstr(&frame), taken[i].frame);
        ck_assert_int_eq(took.calls, taken[i].calls);
    }
    ck_assert(!read_of(WIRE_CALLS_LLAMA, OPENAI_TEMPLATE, BODY ",\"tools\":[" G "]}"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&frame), "\"tools\":[" G "]}"));
}
END_TEST

#define ONE(tool)     BODY ",\"tools\":[" tool "]}"
#define MESSAGE(text) "{\"model\":\"m\",\"messages\":[{" text "}]}"
#define CALLS(text)   MESSAGE("\"role\":\"assistant\",\"tool_calls\":" text)
#define FUNCTION(in)  "{\"id\":\"i\",\"type\":\"function\",\"function\":{" in "}}"

static const struct {
    const char *body, *param, *word;
} refused[] = {
    {BODY ",\"tools\":{}}", "tools", "list"},
    {ONE("7"), "tools[0]", "object"},
    {ONE("{\"type\":\"custom\"}"), "tools[0].type", "function"},
    {ONE("{\"function\":{\"name\":\"f\"}}"), "tools[0].type", "needed"},
    {ONE("{\"type\":\"function\"}"), "tools[0].function", "needed"},
    {ONE("{\"type\":\"function\",\"function\":7}"), "tools[0].function", "object"},
    {ONE(TOOL("\"name\":\"a b\"")), "tools[0].function.name", "letters"},
    {ONE(TOOL("\"name\":\"f\",\"x\":1")), "tools[0].function.x", "field"},
    {ONE(TOOL("\"name\":\"f\",\"parameters\":[]")), "tools[0].function.parameters", "schema"},
    {ONE(TOOL("\"name\":\"f\",\"parameters\":{\"type\":\"string\"}")),
        "tools[0].function.parameters", "object"},
    {ONE(G "," G), "tools[1].function.name", "another tool"},
    {BODY ",\"tool_choice\":\"required\"}", "tool_choice", "needs tools"},
    {BODY ",\"tools\":[],\"tool_choice\":" G "}", "tool_choice", "needs tools"},
    {TOOLS ",\"tool_choice\":\"any\"}", "tool_choice", "required"},
    {TOOLS ",\"tool_choice\":" TOOL("\"name\":\"h\"") "}", "tool_choice.function.name", "\"h\""},
    {TOOLS ",\"tool_choice\":{\"type\":\"allowed_tools\"}}", "tool_choice.type", "function"},
    {TOOLS ",\"response_format\":{\"type\":\"json_object\"}}", "response_format", "tools"},
    {TOOLS ",\"tool_choice\":\"required\",\"min_tokens\":2}", "tool_choice", "min_tokens"},
    {MESSAGE("\"role\":\"tool\",\"content\":\"a\""), "messages[0].tool_call_id", "needed"},
    {MESSAGE("\"role\":\"user\",\"content\":\"a\",\"tool_call_id\":\"i\""),
        "messages[0].tool_call_id", "tool"},
    {MESSAGE("\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[{}]"), "messages[0].tool_calls",
        "assistant"},
    {CALLS("{}"), "messages[0].tool_calls", "list"},
    {CALLS("[{}]"), "messages[0].tool_calls[0].type", "needed"},
    {CALLS("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"),
        "messages[0].tool_calls[0].id", "needed"},
    {CALLS("[" FUNCTION("\"arguments\":\"{}\"") "]"), "messages[0].tool_calls[0].function.name",
        "needed"},
    {CALLS("[" FUNCTION("\"name\":\"f\"") "]"), "messages[0].tool_calls[0].function.arguments",
        "needed"},
    {CALLS("[" FUNCTION("\"name\":\"f\",\"arguments\":\"[1]\"") "]"),
        "messages[0].tool_calls[0].function.arguments", "object"},
    {CALLS("[" FUNCTION("\"name\":\"f\",\"arguments\":\"{\\\"x\\\":\"") "]"),
        "messages[0].tool_calls[0].function.arguments", "object"},
};

START_TEST(what_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(
            read_of(WIRE_CALLS_HERMES, OPENAI_CHAT, refused[i].body), "taken: %s", refused[i].body);
        ck_assert_msg(no.status == 400 && !strcmp(no.param, refused[i].param) &&
                strstr(no.message, refused[i].word),
            "%s: %d %s: %s", refused[i].body, no.status, no.param, no.message);
    }
    ck_assert(read_of(WIRE_CALLS_NONE, OPENAI_CHAT, TOOLS "}"));
    ck_assert_str_eq(no.message, "tools: the model's chat template takes no tools");
    ck_assert(!read_of(WIRE_CALLS_NONE, OPENAI_CHAT, TOOLS ",\"tool_choice\":\"none\"}"));
    ck_assert(read_of(WIRE_CALLS_UNKNOWN, OPENAI_CHAT, TOOLS "}"));
    ck_assert_str_eq(no.message, "tools: the form of the calls of this model is not supported");
    buf_auto struct buf many;
    buf_init(&many, LIMIT_REQUEST_BYTES);
    buf_str(&many, BODY ",\"tools\":[" G);
    for (int i = 0; i < LIMIT_TOOLS; i++)
        buf_str(&many, "," G);
    buf_str(&many, "]}");
    ck_assert(read_of(WIRE_CALLS_HERMES, OPENAI_CHAT, buf_cstr(&many)));
    ck_assert_str_eq(no.message, "at most 128 tools");
    ck_assert(read_of(WIRE_CALLS_HERMES, OPENAI_TOKENIZE, "{\"prompt\":\"a\",\"tools\":[" G "]}"));
    ck_assert_str_eq(no.param, "tools");
}
END_TEST

/* The rank reads a tree of so many values, so deep: arguments are a part of it. */
START_TEST(arguments_count)
{
    buf_auto struct buf body;
    buf_init(&body, LIMIT_REQUEST_BYTES);
    for (int deep = 0; deep < 2; deep++) {
        buf_reset(&body);
        buf_str(&body, "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[");
        for (int call = 0; call < 3; call++) {
            buf_str(&body, call ? "," : "");
            buf_str(&body,
                "{\"id\":\"i\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                "\"arguments\":\"{\\\"x\\\":[");
            for (int i = 0; i < (deep ? JSON_DEPTH - 4 : 30000); i++)
                buf_str(&body, deep ? "[" : "1,");
            buf_str(&body, "1");
            for (int i = 0; deep && i < JSON_DEPTH - 4; i++)
                buf_str(&body, "]");
            buf_str(&body, "]}\"}}");
        }
        buf_str(&body, "]}]}");
        ck_assert(read_of(WIRE_CALLS_HERMES, OPENAI_CHAT, buf_cstr(&body)));
        ck_assert_msg(strstr(no.message, "too many values") && !strcmp(no.param, "messages"),
            "%d: %s", deep, no.message);
    }
}
END_TEST

static int read_under_faults(void *user)
{
    (void)user;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (read_of(WIRE_CALLS_HERMES, OPENAI_CHAT, taken[i].body)) {
            ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
            return -1;
        }
    return 0;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, read_under_faults, NULL);
}
END_TEST

UNIT_MAIN("openai_tools", what_is_taken, what_is_refused, arguments_count, out_of_memory)
