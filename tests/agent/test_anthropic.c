/*
 * anthropic: goal: a Messages request asks the model what the chat completion of the same meaning
 * asks, to the byte of the rank's request; what cannot be asked is refused by its name; and answers
 * are what Anthropic's clients read: events in their order, blocks that each begin and end once.
 * Method: pure; both requests are read and their frames compared; texts of answers are compared.
 * needs: faults
 */
#include "agent/anthropic.h"

#include "agent/dialect.h"
#include "base/json.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <string.h>

static struct openai_refusal no;
static struct openai_request took;

static int read_as(enum openai_place place, const char *body, struct buf *frame)
{
    static const struct openai_conf conf = {
        .model = "m", .context_length = 4096, .most_choices = 20, .calls = WIRE_CALLS_HERMES};
    buf_init(frame, LIMIT_FRAME_BYTES);
    no = (struct openai_refusal){0};
    return openai_read(&conf, 7, place, 0, body, strlen(body), &took, frame, &no);
}

#define HEAD       "{\"model\":\"m\",\"max_tokens\":9,\"messages\":["
#define USER(text) "{\"role\":\"user\",\"content\":" text "}"
#define SAID(text) "{\"role\":\"assistant\",\"content\":" text "}"
#define TEXT(text) "{\"type\":\"text\",\"text\":\"" text "\"}"
#define SCHEMA     "{\"type\":\"object\",\"properties\":{}}"
#define ASKED      HEAD USER("\"a\"") "]"
#define USE        "{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"f\",\"input\":{\"x\":1}}"
#define RESULT(in) "{\"type\":\"tool_result\",\"tool_use_id\":\"1\"" in "}"
#define TOOLS      ",\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":" SCHEMA "}]"
#define FUNCTIONS \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\"," \
    "\"parameters\":" SCHEMA "}}]"
#define CALLED \
    "{\"role\":\"assistant\",\"content\":\"b\",\"tool_calls\":[{\"id\":\"1\",\"type\":" \
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}]}"
#define ANSWERED(text) "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"" text "\"}"

static const struct {
    const char *theirs, *chat;
} same[] = {
    {ASKED "}", ASKED "}"},
    {ASKED ",\"system\":\"s\",\"metadata\":{\"user_id\":\"u\"}}",
        HEAD "{\"role\":\"system\",\"content\":\"s\"}," USER("\"a\"") "]}"},
    {HEAD USER("[" TEXT("a") "," TEXT("b") "]") "],\"system\":[" TEXT("s") "," TEXT("t") "]}",
        HEAD "{\"role\":\"system\",\"content\":\"st\"}," USER("\"ab\"") "]}"},
    {ASKED ",\"temperature\":0.5,\"top_p\":0.9,\"top_k\":3,\"stop_sequences\":[\"x\",\"y\"]}",
        ASKED ",\"temperature\":0.5,\"top_p\":0.9,\"top_k\":3,\"stop\":[\"x\",\"y\"]}"},
    {HEAD USER("\"a\"") "," SAID("[" TEXT("b") "," USE "]") "," USER(
         "[" RESULT(",\"content\":\"c\"") "," TEXT("d") "]") "]" TOOLS "}",
        HEAD USER("\"a\"") "," CALLED "," ANSWERED("c") "," USER("\"d\"") "]" FUNCTIONS "}"},
    {HEAD USER("\"a\"") "," SAID("[" TEXT("b") "," USE "]") "," USER(
         "[" RESULT(",\"content\":[" TEXT("c") "]") "]") "]" TOOLS "}",
        HEAD USER("\"a\"") "," CALLED "," ANSWERED("c") "]" FUNCTIONS "}"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"any\",\"disable_parallel_tool_use\":true}}",
        ASKED FUNCTIONS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false}"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}}",
        ASKED FUNCTIONS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"none\"}}", ASKED "}"},
};

START_TEST(asks_the_same)
{
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        buf_auto struct buf theirs, chat;
        ck_assert_msg(
            !read_as(OPENAI_CHAT, same[i].chat, &chat), "%s: %s", same[i].chat, no.message);
        ck_assert_msg(!read_as(OPENAI_MESSAGES, same[i].theirs, &theirs), "%s: %s", same[i].theirs,
            no.message);
        ck_assert(took.place == OPENAI_MESSAGES && took.choices == 1);
        ck_assert_str_eq(theirs.data, chat.data);
    }
    buf_auto struct buf count, tokens;
    ck_assert(!read_as(OPENAI_COUNT, "{\"model\":\"m\",\"messages\":[" USER("\"a\"") "]}", &count));
    ck_assert(!read_as(OPENAI_TOKENIZE, "{\"messages\":[" USER("\"a\"") "]}", &tokens));
    ck_assert_str_eq(count.data, tokens.data);
}
END_TEST

static const struct {
    const char *body, *param, *word;
} refused[] = {
    {"{\"model\":\"m\",\"messages\":[" USER("\"a\"") "]}", "max_tokens", "needed"},
    {HEAD "]}", "messages", "non-empty"},
    {HEAD USER("\"a\"") "," SAID("\"b\"") "]}", "messages[1].role", "of the user"},
    {HEAD "{\"role\":\"system\",\"content\":\"a\"}]}", "messages[0].role", "user or assistant"},
    {HEAD USER("7") "]}", "messages[0].content", "list of blocks"},
    {HEAD USER("[{\"type\":\"image\"}]") "]}", "messages[0].content[0].type", "image"},
    {HEAD USER("[" USE "]") "]}", "messages[0].content[0].type", "tool_use"},
    {HEAD USER("[" TEXT("a") "," RESULT("") "]") "]}", "messages[0].content[1]", "before the text"},
    {HEAD USER("[{\"type\":\"text\",\"text\":\"a\",\"x\":1}]") "]}", "messages[0].content[0].x",
        "not a field"},
    {ASKED ",\"temperature\":1.5}", "temperature", "from 0 to 1"},
    {ASKED ",\"n\":2}", "n", "not a field"},
    {ASKED ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}", "thinking",
        "not supported"},
    {ASKED ",\"stop_sequences\":\"x\"}", "stop_sequences", "list"},
    {ASKED ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\",\"input_schema\":{}}]}",
        "tools[0].type", "custom"},
    {ASKED ",\"tools\":[{\"name\":\"f\"}]}", "tools[0].input_schema", "needed"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"tool\"}}", "tool_choice.name", "needed"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"auto\",\"name\":\"f\"}}", "tool_choice.name",
        "only"},
    {ASKED TOOLS ",\"tool_choice\":{\"type\":\"required\"}}", "tool_choice.type", "any"},
};

START_TEST(what_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        buf_auto struct buf frame;
        ck_assert_msg(
            read_as(OPENAI_MESSAGES, refused[i].body, &frame), "taken: %s", refused[i].body);
        ck_assert_msg(no.status == 400 && !strcmp(no.param, refused[i].param) &&
                strstr(no.message, refused[i].word),
            "%s: %d %s: %s", refused[i].body, no.status, no.param, no.message);
    }
}
END_TEST

/* -- answers -- */

#define EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define USAGE(in, cached, out) \
    "\"usage\":{\"input_tokens\":" in ",\"cache_creation_input_tokens\":0," \
    "\"cache_read_input_tokens\":" cached ",\"output_tokens\":" out "}"
#define BLOCK   "{\"type\":\"text\",\"text\":\"\",\"citations\":null}"
#define MESSAGE "{\"id\":\"msg_5\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\","

START_TEST(streams_blocks)
{
    struct openai_answer a = {
        .id = 5, .chat = true, .created = 9, .model = "m", .begun = {.prompt = 20, .cached = 16}};
    struct calls calls;
    char id[OPENAI_CALL_ID], want[4096];
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    calls_init(&calls, WIRE_CALLS_HERMES, 9);
    struct openai_choice c = {.first = true, .text = "Hi", .len = 2, .calls = &calls};
    dialect_chunk(&b, OPENAI_MESSAGES, &a, &c);
    static const char said[] = "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}</tool_call>";
    ck_assert(!calls_add(&calls, said, sizeof said - 1) && !calls_end(&calls));
    dialect_chunk(&b, OPENAI_MESSAGES, &a, &(struct openai_choice){.calls = &calls});
    c = (struct openai_choice){.calls = &calls, .from = 1, .finish = "tool_calls"};
    dialect_chunk(&b, OPENAI_MESSAGES, &a, &c);
    dialect_last(&b, OPENAI_MESSAGES, &a, &c, (struct openai_usage){20, 3, 16});
    openai_call_id(id, &a, 0, 0);
    snprintf(want, sizeof want,
        EVENT("message_start",
            ",\"message\":" MESSAGE
            "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null," USAGE("4", "16", "0") "}")
            EVENT("ping", "") EVENT("content_block_start",
                ",\"index\":0,\"content_block\":" BLOCK) EVENT("content_block_delta",
                ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}")
                EVENT("content_block_stop", ",\"index\":0") EVENT("content_block_start",
                    ",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":"
                    "\"f\",\"input\":{}}") EVENT("content_block_delta",
                    ",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":"
                    "\"{\\\"x\\\":1}\"}") EVENT("content_block_stop", ",\"index\":1")
                    EVENT("message_delta",
                        ",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null}," USAGE(
                            "4", "16", "3")) EVENT("message_stop", ""),
        id);
    ck_assert_str_eq(b.data, want);
    buf_reset(&b);
    c = (struct openai_choice){.text = "Hi", .len = 2, .calls = &calls, .finish = "tool_calls"};
    dialect_whole(&b, OPENAI_MESSAGES, &a, &c, 1, (struct openai_usage){20, 3, 16});
    snprintf(want, sizeof want,
        MESSAGE "\"content\":[{\"type\":\"text\",\"text\":\"Hi\",\"citations\":null},"
                "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":\"f\",\"input\":{\"x\":1}}],"
                "\"stop_reason\":\"tool_use\",\"stop_sequence\":null," USAGE("4", "16", "3") "}",
        id);
    ck_assert_str_eq(b.data, want);
    calls_done(&calls);
}
END_TEST

START_TEST(says_why_it_ended)
{
    static const struct {
        const char *finish, *stop, *text;
    } table[] = {{"stop", "", "\"end_turn\",\"stop_sequence\":null"},
        {"length", "", "\"max_tokens\",\"stop_sequence\":null"},
        {"stop", "x", "\"stop_sequence\",\"stop_sequence\":\"x\""}};
    struct openai_answer a = {.id = 5, .model = "m"};
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < 3; i++) {
        struct openai_choice c = {.text = "", .finish = table[i].finish, .stop = table[i].stop};
        buf_reset(&b);
        dialect_whole(&b, OPENAI_MESSAGES, &a, &c, 1, (struct openai_usage){0});
        ck_assert_msg(strstr(buf_cstr(&b), table[i].text), "%s", buf_cstr(&b));
    }
    buf_reset(&b);
    openai_refuse(&no, 429, "queue_full", NULL, "later");
    dialect_error(&b, OPENAI_COUNT, &no);
    ck_assert_str_eq(b.data,
        "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"later\"}}");
    buf_reset(&b);
    dialect_error_event(&b, OPENAI_MESSAGES, &a, &no);
    ck_assert_str_eq(
        b.data, EVENT("error", ",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"later\"}"));
    buf_reset(&b);
    static const char tokens[] = "{\"count\":7,\"max_model_len\":9,\"tokens\":[1]}";
    struct openai_choice c = {.text = tokens, .len = sizeof tokens - 1};
    dialect_whole(&b, OPENAI_COUNT, &a, &c, 1, (struct openai_usage){0});
    ck_assert_str_eq(b.data, "{\"input_tokens\":7}");
}
END_TEST

/* Whatever fails, the answer is that this server is at fault, not the request. */
static int read_under_faults(void *user)
{
    (void)user;
    buf_auto struct buf frame;
    if (!read_as(OPENAI_MESSAGES, same[4].theirs, &frame))
        return 0;
    ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
    return -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, read_under_faults, NULL);
}
END_TEST

UNIT_MAIN(
    "anthropic", asks_the_same, what_is_refused, streams_blocks, says_why_it_ended, out_of_memory)
