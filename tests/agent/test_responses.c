/*
 * responses: goal: a request to /v1/responses asks the model what the chat completion of the same
 * meaning asks, to the byte of the rank's request; what cannot be asked is refused by its name; and
 * answers are what clients of that API read: events in their order and numbered, items that each
 * begin and end once, and a last event that has the whole body. Method: pure; both requests are
 * read and their frames compared; texts of answers are compared.
 * needs: faults
 */
#include "agent/responses.h"

#include "agent/dialect.h"
#include "base/json.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <string.h>

static struct openai_refusal no;
static struct openai_request took;

static int read_as(enum openai_place place, const char *body, struct buf *frame)
{
    static const struct jobspec_served_adapter adapters[] = {{"fine", "/x"}};
    static const struct openai_conf conf = {.model = "m",
        .context_length = 4096,
        .most_choices = 20,
        .calls = WIRE_CALLS_HERMES,
        .adapters = adapters,
        .adapter_count = 1};
    buf_init(frame, LIMIT_FRAME_BYTES);
    no = (struct openai_refusal){0};
    return openai_read(&conf, 7, place, 0, body, strlen(body), &took, frame, &no);
}

#define MODEL            "{\"model\":\"m\""
#define INPUT(in)        MODEL ",\"input\":[" in "]"
#define CHAT(in)         MODEL ",\"messages\":[" in "]"
#define USER             "{\"role\":\"user\",\"content\":\"a\"}"
#define SAID(text)       "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define PART(type, text) "{\"type\":\"" type "\",\"text\":\"" text "\"}"
#define OWN(text) \
    "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[],\"logprobs\":[]}"
#define PARTS(role, more, parts) \
    "{\"type\":\"message\",\"role\":\"" role "\"" more ",\"content\":[" parts "]}"
#define ASKED   MODEL ",\"input\":\"a\""
#define CHATTED CHAT(USER)
#define SCHEMA  "{\"type\":\"object\",\"properties\":{}}"
#define CALL(id) \
    "{\"type\":\"function_call\",\"id\":\"fc_1\",\"status\":\"completed\"," \
    "\"call_id\":\"" id "\",\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}"
#define OUTPUT(id, text) \
    "{\"type\":\"function_call_output\",\"call_id\":\"" id "\",\"output\":" text "}"
#define CALLED(id) \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"f\"," \
    "\"arguments\":\"{\\\"x\\\":1}\"}}"
#define ANSWERED(id) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"c\"}"
#define TOOLS \
    ",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\",\"strict\":true," \
    "\"parameters\":" SCHEMA "}]"
#define FUNCTIONS \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\"," \
    "\"parameters\":" SCHEMA "}}]"
#define FORM(format) ",\"text\":{\"format\":{" format "}}}"
#define SEVERAL      "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":["

static const struct {
    const char *theirs, *chat;
} same[] = {
    {ASKED "}", CHATTED "}"},
    {INPUT(USER) ",\"store\":false,\"metadata\":{\"a\":\"b\"},\"previous_response_id\":null}",
        CHATTED "}"},
    {ASKED ",\"instructions\":\"s\",\"temperature\":0.5,\"top_p\":0.9,\"max_output_tokens\":9}",
        CHAT("{\"role\":\"system\",\"content\":\"s\"}," USER) ",\"temperature\":0.5,\"top_p\":0.9,"
                                                              "\"max_tokens\":9}"},
    {INPUT(PARTS("developer", "",
         PART("input_text", "s") "," PART("input_text", "t")) "," USER "," PARTS("assistant",
         ",\"id\":\"msg_1\",\"status\":\"completed\"", OWN("b")) "," USER) "}",
        CHAT("{\"role\":\"system\",\"content\":\"st\"}," USER "," SAID("b") "," USER) "}"},
    {INPUT(USER "," SAID("b") "," CALL("1") "," OUTPUT("1", "\"c\"") "," USER) TOOLS "}",
        CHAT(USER ",{\"role\":\"assistant\",\"content\":\"b\",\"tool_calls\":[" CALLED(
            "1") "]}," ANSWERED("1") "," USER) FUNCTIONS "}"},
    {INPUT(USER "," CALL("1") "," CALL("2") "," OUTPUT("1", "\"c\"") "," OUTPUT(
         "2", "[" PART("input_text", "c") "]")) TOOLS "}",
        CHAT(USER "," SEVERAL CALLED("1") "," CALLED("2") "]}," ANSWERED("1") "," ANSWERED("2"))
            FUNCTIONS "}"},
    {INPUT(USER "," CALL("1") "," SAID("b") "," SAID("d")) TOOLS "}",
        CHAT(USER "," SEVERAL CALLED("1") "]}," SAID("b") "," SAID("d")) FUNCTIONS "}"},
    {ASKED TOOLS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false}",
        CHATTED FUNCTIONS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false}"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}}",
        CHATTED FUNCTIONS
        ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}"},
    {ASKED FORM("\"type\":\"text\""), CHATTED "}"},
    {ASKED FORM("\"type\":\"json_object\""),
        CHATTED ",\"response_format\":{\"type\":\"json_object\"}}"},
    {ASKED FORM("\"type\":\"json_schema\",\"name\":\"n\",\"strict\":true,\"schema\":" SCHEMA),
        CHATTED ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                "\"schema\":" SCHEMA "}}}"},
    {"{\"model\":\"fine\",\"input\":\"a\"}", "{\"model\":\"fine\",\"messages\":[" USER "]}"},
};

START_TEST(asks_the_same)
{
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        buf_auto struct buf theirs, chat;
        ck_assert_msg(
            !read_as(OPENAI_CHAT, same[i].chat, &chat), "%s: %s", same[i].chat, no.message);
        ck_assert_msg(!read_as(OPENAI_RESPONSES, same[i].theirs, &theirs), "%s: %s", same[i].theirs,
            no.message);
        ck_assert(took.place == OPENAI_RESPONSES && took.choices == 1 && !took.stream);
        ck_assert_str_eq(theirs.data, chat.data);
    }
    buf_auto struct buf streamed;
    ck_assert(!read_as(OPENAI_RESPONSES, ASKED ",\"stream\":true}", &streamed));
    ck_assert(took.stream);
}
END_TEST

static const struct {
    const char *body, *param, *word;
} refused[] = {
    {MODEL "}", "input", "needed"},
    {MODEL ",\"input\":[]}", "input", "non-empty"},
    {MODEL ",\"input\":7}", "input", "string"},
    {INPUT("7") "}", "input[0]", "object"},
    {INPUT("{\"type\":\"reasoning\",\"summary\":[]}") "}", "input[0].type", "reasoning"},
    {INPUT("{\"type\":7}") "}", "input[0].type", "not supported"},
    {INPUT("{\"role\":\"tool\",\"content\":\"a\"}") "}", "input[0].role", "developer"},
    {INPUT(USER ",{\"role\":\"user\"}") "}", "input[1].content", "needed"},
    {INPUT("{\"role\":\"user\",\"content\":7}") "}", "input[0].content", "list of parts"},
    {INPUT("{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}") "}",
        "input[0].content[0].type", "input_image"},
    {INPUT("{\"role\":\"user\",\"content\":[" PART("output_text", "a") "]}") "}",
        "input[0].content[0].type", "output_text"},
    {INPUT("{\"role\":\"user\",\"content\":[7]}") "}", "input[0].content[0]", "object"},
    {INPUT("{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}") "}", "input[0].content[0].type",
        "needed"},
    {INPUT("{\"role\":\"user\",\"content\":\"a\",\"x\":1}") "}", "input[0].x", "not a field"},
    {INPUT("{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"{}\"}") "}",
        "input[0].call_id", "needed"},
    {INPUT(USER "," OUTPUT("1", "{}")) "}", "input[1].output", "list of parts"},
    {ASKED ",\"store\":true}", "store", "only be false"},
    {ASKED ",\"previous_response_id\":\"resp_1\"}", "previous_response_id", "not supported"},
    {ASKED ",\"conversation\":\"c\"}", "conversation", "not supported"},
    {ASKED ",\"background\":true}", "background", "only be false"},
    {ASKED ",\"reasoning\":{\"effort\":\"high\"}}", "reasoning", "not supported"},
    {ASKED ",\"max_tokens\":9}", "max_tokens", "not a field"},
    {ASKED ",\"max_output_tokens\":0}", "max_output_tokens", "from 1"},
    {ASKED ",\"messages\":[" USER "]}", "messages", "not a field"},
    {ASKED ",\"tools\":{}}", "tools", "list"},
    {ASKED ",\"tools\":[{\"type\":\"web_search\"}]}", "tools[0].type", "function"},
    {ASKED ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}",
        "tools[0].function", "not a field"},
    {ASKED TOOLS ",\"tool_choice\":7}", "tool_choice", "object"},
    {ASKED TOOLS ",\"tool_choice\":\"any\"}", "tool_choice", "required"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"function\"}}", "tool_choice.name", "needed"},
    {ASKED ",\"text\":7}", "text", "object"},
    {ASKED ",\"text\":{\"format\":7}}", "text.format", "object"},
    {ASKED FORM("\"type\":\"xml\""), "text.format.type", "json_object"},
    {ASKED FORM("\"type\":\"json_schema\",\"name\":\"n\""), "text.format.schema", "needed"},
    {ASKED FORM("\"type\":\"json_schema\",\"schema\":{}"), "text.format.name", "needed"},
    {ASKED FORM("\"type\":\"text\",\"schema\":{}"), "text.format.schema", "only"},
    {"{\"model\":\"none\",\"input\":\"a\"}", "model", "does not exist"},
};

START_TEST(what_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        buf_auto struct buf frame;
        ck_assert_msg(
            read_as(OPENAI_RESPONSES, refused[i].body, &frame), "taken: %s", refused[i].body);
        ck_assert_msg((no.status == 400 || no.status == 404) &&
                !strcmp(no.param, refused[i].param) && strstr(no.message, refused[i].word),
            "%s: %d %s: %s", refused[i].body, no.status, no.param, no.message);
    }
}
END_TEST

/* -- answers -- */

#define EVENT(type, n, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n rest "}\n\n"
#define HEAD(status, details, output, usage) \
    HEAD_AS( \
        status, details, output, usage, "null", "null", "{}", "true", "1", "\"auto\"", "[]", "1")
#define HEAD_AS(status, details, output, usage, instructions, most, metadata, parallel, \
    temperature, choice, tools, top_p) \
    "{\"id\":\"resp_5\",\"object\":\"response\",\"created_at\":9,\"status\":\"" status \
    "\",\"background\":false,\"error\":null,\"incomplete_details\":" details \
    ",\"model\":\"m\",\"output\":[" output "],\"instructions\":" instructions \
    ",\"max_output_tokens\":" most ",\"metadata\":" metadata ",\"parallel_tool_calls\":" parallel \
    ",\"temperature\":" temperature \
    ",\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":" choice ",\"tools\":" tools \
    ",\"top_p\":" top_p ",\"truncation\":\"disabled\"," \
    "\"previous_response_id\":null,\"store\":false,\"usage\":" usage "}"
#define USAGE \
    "{\"input_tokens\":20,\"input_tokens_details\":{\"cached_tokens\":16," \
    "\"cache_write_tokens\":0},\"output_tokens\":3," \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":23}"
#define BEGUN HEAD("in_progress", "null", "", "null")
#define MESSAGE(status, content) \
    "{\"id\":\"msg_5\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"" status \
    "\",\"content\":[" content "]}"
#define AT0 ",\"output_index\":0"
#define AT1 ",\"output_index\":1"
#define IN  AT0 ",\"item_id\":\"msg_5\",\"content_index\":0"
#define MADE(status, arguments) \
    "{\"id\":\"fc_%1$s\",\"type\":\"function_call\",\"call_id\":\"%1$s\",\"name\":\"f\"," \
    "\"arguments\":\"" arguments "\",\"status\":\"" status "\"}"
#define ARGUMENTS "{\\\"x\\\":1}"
#define BOTH      MESSAGE("completed", OWN("Hi there")) "," MADE("completed", ARGUMENTS)

static const char streamed[] = EVENT("response.created", "0", ",\"response\":" BEGUN) EVENT(
    "response.in_progress", "1", ",\"response\":" BEGUN) EVENT("response.output_item.added", "2",
    AT0 ",\"item\":" MESSAGE("in_progress", "")) EVENT("response.content_part.added", "3",
    IN ",\"part\":" OWN("")) EVENT("response.output_text.delta", "4",
    IN ",\"delta\":\"Hi\",\"logprobs\":[]") EVENT("response.output_text.delta", "5",
    IN ",\"delta\":\" there\",\"logprobs\":[]") EVENT("response.output_text.done", "6",
    IN ",\"text\":\"Hi there\",\"logprobs\":[]") EVENT("response.content_part.done", "7",
    IN ",\"part\":" OWN("Hi there")) EVENT("response.output_item.done", "8",
    AT0 ",\"item\":" MESSAGE("completed", OWN("Hi there"))) EVENT("response.output_item.added", "9",
    AT1 ",\"item\":" MADE("in_progress", "")) EVENT("response.function_call_arguments.delta", "10",
    AT1 ",\"item_id\":\"fc_%1$s\","
        "\"delta\":\"" ARGUMENTS "\"") EVENT("response.function_call_arguments.done", "11",
    AT1 ",\"item_id\":\"fc_%1$s\","
        "\"name\":\"f\",\"arguments\":\"" ARGUMENTS "\"")
    EVENT("response.output_item.done", "12", AT1 ",\"item\":" MADE("completed", ARGUMENTS))
        EVENT("response.completed", "13", ",\"response\":" HEAD("completed", "null", BOTH, USAGE));

START_TEST(streams_items)
{
    struct openai_answer a = {.id = 5, .chat = true, .created = 9, .model = "m"};
    struct calls calls;
    char id[OPENAI_CALL_ID], want[8192];
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    calls_init(&calls, WIRE_CALLS_HERMES, 9);
    struct openai_choice c = {.first = true, .text = "Hi", .len = 2, .calls = &calls};
    dialect_chunk(&b, OPENAI_RESPONSES, &a, &c);
    c = (struct openai_choice){.text = " there", .len = 6, .calls = &calls};
    dialect_chunk(&b, OPENAI_RESPONSES, &a, &c);
    static const char said[] = "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}</tool_call>";
    ck_assert(!calls_add(&calls, said, sizeof said - 1) && !calls_end(&calls));
    dialect_chunk(&b, OPENAI_RESPONSES, &a, &(struct openai_choice){.calls = &calls});
    c = (struct openai_choice){
        .calls = &calls, .from = 1, .finish = "tool_calls", .text = "Hi there", .len = 8};
    ck_assert(dialect_keeps_text(OPENAI_RESPONSES) && !dialect_keeps_text(OPENAI_CHAT));
    dialect_last(&b, OPENAI_RESPONSES, &a, &c, (struct openai_usage){20, 3, 16});
    openai_call_id(id, &a, 0, 0);
    snprintf(want, sizeof want, streamed, id);
    ck_assert_str_eq(b.data, want);
    buf_reset(&b);
    dialect_whole(&b, OPENAI_RESPONSES, &a, &c, 1, (struct openai_usage){20, 3, 16});
    snprintf(want, sizeof want, HEAD("completed", "null", BOTH, USAGE), id);
    ck_assert_str_eq(b.data, want);
    buf_reset(&b); /* calls alone are items alone */
    c.len = 0;
    dialect_whole(&b, OPENAI_RESPONSES, &a, &c, 1, (struct openai_usage){20, 3, 16});
    snprintf(want, sizeof want, HEAD("completed", "null", MADE("completed", ARGUMENTS), USAGE), id);
    ck_assert_str_eq(b.data, want);
    calls_done(&calls);
}
END_TEST

#define CUT(text) \
    HEAD("incomplete", "{\"reason\":\"max_output_tokens\"}", MESSAGE("incomplete", OWN(text)), \
        USAGE)

START_TEST(says_why_it_ended)
{
    struct openai_answer a = {.id = 5, .chat = true, .created = 9, .model = "m"};
    struct openai_choice c = {.text = "", .finish = "length"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    dialect_whole(&b, OPENAI_RESPONSES, &a, &c, 1, (struct openai_usage){20, 3, 16});
    ck_assert_str_eq(b.data, CUT(""));
    buf_reset(&b); /* an answer without a word is a message, too */
    dialect_last(&b, OPENAI_RESPONSES, &a, &c, (struct openai_usage){20, 3, 16});
    ck_assert_str_eq(b.data,
        EVENT("response.output_item.added", "0", AT0 ",\"item\":" MESSAGE("in_progress", ""))
            EVENT("response.content_part.added", "1", IN ",\"part\":" OWN(""))
                EVENT("response.output_text.done", "2", IN ",\"text\":\"\",\"logprobs\":[]")
                    EVENT("response.content_part.done", "3", IN ",\"part\":" OWN(""))
                        EVENT("response.output_item.done", "4",
                            AT0 ",\"item\":" MESSAGE("incomplete", OWN("")))
                            EVENT("response.incomplete", "5", ",\"response\":" CUT("")));
    buf_reset(&b);
    openai_refuse(&no, 503, NULL, NULL, "the model was stopped");
    dialect_error_event(&b, OPENAI_RESPONSES, &a, &no);
    ck_assert_str_eq(b.data,
        EVENT("error", "6",
            ",\"code\":\"server_error\",\"message\":\"the model was stopped\","
            "\"param\":null"));
    buf_reset(&b);
    dialect_error(&b, OPENAI_RESPONSES, &no);
    ck_assert_ptr_nonnull(strstr(b.data, "\"type\":\"server_error\""));
}
END_TEST

/* All but the input is told again as it was given. */
START_TEST(repeats_what_was_asked)
{
    static const char schema[] = "[{\"type\":\"function\",\"name\":\"f\"}]";
    struct openai_answer a = {.id = 5, .chat = true, .created = 9, .model = "m"};
    struct openai_choice c = {.text = "b", .len = 1, .finish = "stop"};
    char want[4096];
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    a.asked = ASKED ",\"instructions\":\"s\",\"max_output_tokens\":7,\"metadata\":{\"a\":\"b\"},"
                    "\"parallel_tool_calls\":false,\"temperature\":0.5,\"tool_choice\":\"none\","
                    "\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],\"top_p\":null}";
    dialect_whole(&b, OPENAI_RESPONSES, &a, &c, 1, (struct openai_usage){20, 3, 16});
    snprintf(want, sizeof want,
        HEAD_AS("completed", "null", MESSAGE("completed", OWN("b")), USAGE, "\"s\"", "7",
            "{\"a\":\"b\"}", "false", "0.5", "\"none\"", "%s", "1"),
        schema);
    ck_assert_str_eq(b.data, want);
}
END_TEST

/* Whatever fails, the answer is that this server is at fault, not the request. */
static int read_under_faults(void *user)
{
    (void)user;
    buf_auto struct buf frame;
    if (!read_as(OPENAI_RESPONSES, same[5].theirs, &frame))
        return 0;
    ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
    return -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, read_under_faults, NULL);
}
END_TEST

UNIT_MAIN("responses", asks_the_same, what_is_refused, streams_items, says_why_it_ended,
    repeats_what_was_asked, out_of_memory)
