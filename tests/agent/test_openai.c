/*
 * openai: goal: nothing that a client says is passed over in silence (kind: meaning that changes
 * silently): each field of the table does what docs/openai.md says of it, every other one is
 * refused by its name, and null is the same as absent. Method: pure; the rank's request is compared
 * as text, and every row of the table is tried with what it takes and with what it does not. The
 * document is made again from the table and compared.
 * needs: faults
 */
#include "agent/openai.h"

#include "base/io.h"
#include "base/json.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <string.h>

static struct openai_refusal no;
static struct openai_request took;
static struct buf frame;

static int read_choice(enum openai_place place, int choice, const char *body)
{
    static const struct jobspec_served_adapter adapters[] = {{"fine", "/x"}, {"org/two", "/y"}};
    enum wire_does does = place == OPENAI_CLASSIFY ? WIRE_DOES_CLASSIFY
        : place & OPENAI_ITEMS                     ? WIRE_DOES_RECOMMEND
                                                   : WIRE_DOES_GENERATE;
    const struct openai_conf conf = {.model = "m",
        .context_length = 4096,
        .most_choices = 20,
        .calls = WIRE_CALLS_HERMES,
        .documents = true,
        .does = does,
        .adapters = adapters,
        .adapter_count = 2};
    buf_done(&frame);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    no = (struct openai_refusal){0};
    return openai_read(&conf, 7, place, choice, body, strlen(body), &took, &frame, &no);
}

static int read_body(bool chat, const char *body)
{
    return read_choice(chat ? OPENAI_CHAT : OPENAI_TEXT, 0, body);
}

#define CHAT         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"
#define TEXT         "{\"model\":\"m\",\"prompt\":\"a\""
#define FORMAT(text) ",\"response_format\":{" text "}}"
#define SCHEMA(text) "\"type\":\"json_schema\",\"json_schema\":{" text "}"
#define UNSHAPED     "\"temperature\":1,\"top_p\":1,\"stop\":[]"
#define SAME         UNSHAPED "}"

#define CHAT_IS(message, rest) "{\"id\":7,\"chat\":true,\"messages\":[" message "]," rest
#define TEXT_IS(prompt, rest)  "{\"id\":7,\"chat\":false," prompt "," rest
#define USER_A                 "{\"role\":\"user\",\"content\":\"a\"}"

static const struct {
    bool chat;
    const char *body, *frame;
} taken[] = {
    {true, CHAT "}", CHAT_IS(USER_A, "\"max_tokens\":512," SAME)},
    {false, TEXT "}", TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {false, "{\"prompt\":\"a\"}", TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    /* null is absent */
    {true, "{\"model\":null,\"messages\":[" USER_A "]}",
        CHAT_IS(USER_A, "\"max_tokens\":512," SAME)},
    {true, CHAT ",\"max_completion_tokens\":null,\"max_tokens\":5}",
        CHAT_IS(USER_A, "\"max_tokens\":5," SAME)},
    {true, CHAT ",\"max_completion_tokens\":5,\"max_tokens\":5}",
        CHAT_IS(USER_A, "\"max_tokens\":5," SAME)},
    {true, CHAT ",\"max_tokens\":9999}", CHAT_IS(USER_A, "\"max_tokens\":4096," SAME)},
    {false, TEXT ",\"seed\":-3,\"top_p\":0,\"temperature\":0,\"stop\":\"x\"}",
        TEXT_IS("\"prompt\":\"a\"",
            "\"max_tokens\":16,\"temperature\":0,\"top_p\":0,\"seed\":-3,\"stop\":[\"x\"]}")},
    {false, TEXT ",\"stop\":[\"x\",\"y\"],\"seed\":null}",
        TEXT_IS("\"prompt\":\"a\"",
            "\"max_tokens\":16,\"temperature\":1,\"top_p\":1,\"stop\":[\"x\",\"y\"]}")},
    {false,
        TEXT ",\"top_k\":5,\"min_p\":0.5,\"presence_penalty\":1,\"frequency_penalty\":-1,"
             "\"repetition_penalty\":1.5,\"min_tokens\":3,\"ignore_eos\":true,"
             "\"skip_special_tokens\":false,\"logit_bias\":{\"7\":-100,\"8\":0.5}}",
        TEXT_IS("\"prompt\":\"a\"",
            "\"max_tokens\":16,\"temperature\":1,\"top_p\":1,\"frequency_penalty\":-1,"
            "\"presence_penalty\":1,\"top_k\":5,\"min_p\":0.5,\"repetition_penalty\":1.5,"
            "\"min_tokens\":3,\"ignore_eos\":true,\"skip_special_tokens\":false,"
            "\"logit_bias\":{\"7\":-100,\"8\":0.5},\"stop\":[]}")},
    {true, CHAT ",\"priority\":-1000}",
        CHAT_IS(USER_A, "\"max_tokens\":512," UNSHAPED ",\"priority\":-1000}")},
    {false, TEXT ",\"priority\":0}", TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    /* response_format */
    {false, TEXT FORMAT("\"type\":\"text\""),
        TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {true, CHAT FORMAT("\"type\":\"json_object\""),
        CHAT_IS(USER_A,
            "\"max_tokens\":512," UNSHAPED ",\"response_format\":{\"type\":\"json_object\"}}")},
    {true, CHAT FORMAT(SCHEMA("\"name\":\"n\",\"schema\":{\"type\":\"string\"}")),
        CHAT_IS(USER_A,
            "\"max_tokens\":512," UNSHAPED ",\"response_format\":{" SCHEMA(
                "\"name\":\"n\",\"schema\":{\"type\":\"string\"}") "}}")},
    /* prompts */
    {false, "{\"model\":\"m\",\"prompt\":[\"a\"]}",
        TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {false, "{\"model\":\"m\",\"prompt\":[1,2,3e2]}",
        TEXT_IS("\"prompt_ids\":[1,2,300]", "\"max_tokens\":16," SAME)},
    {false, "{\"model\":\"m\",\"prompt\":[5]}",
        TEXT_IS("\"prompt_ids\":[5]", "\"max_tokens\":16," SAME)},
    {false, "{\"model\":\"m\",\"prompt\":[[1,2]]}",
        TEXT_IS("\"prompt_ids\":[1,2]", "\"max_tokens\":16," SAME)},
    /* adapters */
    {false, "{\"model\":\"org/two\",\"prompt\":\"a\"}",
        TEXT_IS("\"adapter\":\"org/two\",\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {false, TEXT ",\"adapter\":\"fine\"}",
        TEXT_IS("\"adapter\":\"fine\",\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {false, "{\"model\":\"fine\",\"prompt\":\"a\",\"adapter\":\"fine\"}",
        TEXT_IS("\"adapter\":\"fine\",\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    {false, TEXT ",\"adapter\":null}", TEXT_IS("\"prompt\":\"a\"", "\"max_tokens\":16," SAME)},
    /* what is told */
    {true, CHAT ",\"logprobs\":true,\"top_logprobs\":3}",
        CHAT_IS(USER_A,
            "\"max_tokens\":512,\"temperature\":1,\"top_p\":1,\"logprobs\":3,\"stop\":[]}")},
    {true, CHAT ",\"logprobs\":true}",
        CHAT_IS(USER_A,
            "\"max_tokens\":512,\"temperature\":1,\"top_p\":1,\"logprobs\":0,\"stop\":[]}")},
    {true, CHAT ",\"logprobs\":false,\"top_logprobs\":0}",
        CHAT_IS(USER_A, "\"max_tokens\":512," SAME)},
    {false, TEXT ",\"logprobs\":1,\"echo\":true,\"max_tokens\":0}",
        TEXT_IS("\"prompt\":\"a\"",
            "\"max_tokens\":0,\"temperature\":1,\"top_p\":1,\"echo\":true,\"logprobs\":1,"
            "\"stop\":[]}")},
    /* messages */
    {true,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":null,"
        "\"refusal\":null,\"tool_calls\":[],\"annotations\":[],\"audio\":null,\"parsed\":null}]}",
        CHAT_IS("{\"role\":\"assistant\",\"content\":\"\"}", "\"max_tokens\":512," SAME)},
    {true,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"name\":\"n\",\"content\":["
        "{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}",
        CHAT_IS(
            "{\"role\":\"system\",\"content\":\"ab\",\"name\":\"n\"}", "\"max_tokens\":512," SAME)},
};

START_TEST(what_is_taken)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        ck_assert_msg(
            !read_body(taken[i].chat, taken[i].body), "%s: %s", taken[i].body, no.message);
        ck_assert_str_eq(frame.data, taken[i].frame);
    }
    ck_assert(!read_body(true, CHAT ",\"stream\":true}") && took.stream && !took.include_usage);
    ck_assert(
        !read_body(true, CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}") &&
        took.include_usage);
    ck_assert(!read_body(true, CHAT ",\"stream_options\":null}") && !took.stream);
}
END_TEST

/* The salt of the key, or of the name that is given, which is not the name itself. */
START_TEST(a_salt_is_the_keys_or_named)
{
    struct api_keys keys;
    struct err e;
    char salts[4][KEYS_SALT_BYTES + 1];
    ck_assert_int_eq(keys_read("a\nb weight=9", 12, &keys, &e), 0);
    for (int i = 0; i < 4; i++) {
        const struct openai_conf conf = {
            .model = "m", .context_length = 4096, .most_choices = 20, .keys = &keys, .key = i % 2};
        const char *body = i < 2 ? TEXT "}" : TEXT ",\"cache_salt\":\"ours\"}";
        buf_done(&frame);
        buf_init(&frame, LIMIT_FRAME_BYTES);
        ck_assert(!openai_read(&conf, 7, OPENAI_TEXT, 0, body, strlen(body), &took, &frame, &no));
        const char *at = strstr(frame.data, ",\"salt\":\"");
        ck_assert_ptr_nonnull(at);
        ck_assert_ptr_nonnull(
            strstr(frame.data, i % 2 ? "\"key\":1,\"weight\":9" : "\"key\":0,\"weight\":1"));
        ck_assert_ptr_null(strstr(frame.data, "ours"));
        snprintf(salts[i], sizeof salts[i], "%s", at + 9);
    }
    ck_assert_str_ne(salts[0], salts[1]);
    ck_assert_str_ne(salts[0], salts[2]);
    ck_assert_str_eq(salts[2], salts[3]);
    static const char *const not [] = {"\"\"", "1", "[]", "true"};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++) {
        char body[128];
        snprintf(body, sizeof body, TEXT ",\"cache_salt\":%s}", not [i]);
        ck_assert(read_body(false, body) && no.status == 400);
        ck_assert_str_eq(no.param, "cache_salt");
    }
}
END_TEST

/* Of three prompts, each with two answers: which prompt, and the seed that it draws with. */
START_TEST(each_answer_is_a_request)
{
    static const char *const bodies[] = {
        "{\"model\":\"m\",\"n\":2,\"seed\":5,\"prompt\":[\"a\",\"b\",\"c\"]}",
        "{\"model\":\"m\",\"n\":2,\"seed\":5,\"prompt\":[[97],[98],[99]]}"};
    for (int i = 0; i < 2; i++) {
        int64_t second = 0;
        for (int k = 0; k < 6; k++) {
            json_auto struct json *v = NULL;
            struct err e = {0};
            ck_assert_msg(!read_choice(OPENAI_TEXT, k, bodies[i]), "%s", no.message);
            ck_assert(took.choices == 6 && took.answers == 2 && !took.logprobs);
            ck_assert(!json_parse(frame.data, frame.len, &v, &e));
            if (i)
                ck_assert_int_eq(
                    (int)json_number_value(json_first(json_get(v, "prompt_ids"))), 97 + k / 2);
            else
                ck_assert_int_eq(*json_str(v, "prompt", ""), 'a' + k / 2);
            int64_t seed = json_int(v, "seed", 0);
            if (k % 2 == 0)
                ck_assert_int_eq(seed, 5);
            else if (k == 1)
                second = seed;
            ck_assert(k % 2 == 0 || (seed == second && seed != 5 && seed > 0));
        }
    }
    ck_assert(
        !read_body(true, CHAT ",\"n\":8,\"logprobs\":true}") && took.choices == 8 && took.logprobs);
}
END_TEST

START_TEST(what_is_rendered)
{
    static const struct {
        enum openai_place place;
        const char *body, *frame;
    } table[] = {
        {OPENAI_TOKENIZE, "{\"prompt\":\"a\"}",
            "{\"id\":7,\"render\":\"tokens\",\"chat\":false,\"add_special_tokens\":true,"
            "\"add_generation_prompt\":true,\"prompt\":\"a\"}"},
        {OPENAI_TOKENIZE, CHAT ",\"add_generation_prompt\":false}",
            "{\"id\":7,\"render\":\"tokens\",\"chat\":true,\"add_special_tokens\":true,"
            "\"add_generation_prompt\":false,\"messages\":[" USER_A "]}"},
        {OPENAI_DETOKENIZE, "{\"tokens\":[3,4],\"model\":\"m\"}",
            "{\"id\":7,\"render\":\"text\",\"prompt_ids\":[3,4]}"},
        {OPENAI_TEMPLATE, CHAT "}",
            "{\"id\":7,\"render\":\"text\",\"chat\":true,\"add_special_tokens\":true,"
            "\"add_generation_prompt\":true,\"messages\":[" USER_A "]}"},
    };
    static const struct {
        enum openai_place place;
        const char *body, *param;
    } not [] = {{OPENAI_TOKENIZE, "{}", "prompt"}, {OPENAI_TOKENIZE, "{\"prompt\":[1]}", "prompt"},
        {OPENAI_TOKENIZE, CHAT ",\"prompt\":\"a\"}", "prompt"},
        {OPENAI_TOKENIZE, CHAT ",\"add_special_tokens\":true}", "add_special_tokens"},
        {OPENAI_TOKENIZE, "{\"prompt\":\"a\",\"model\":\"x\"}", "model"},
        {OPENAI_TOKENIZE, "{\"prompt\":\"a\",\"n\":1}", "n"},
        {OPENAI_DETOKENIZE, "{\"tokens\":\"a\"}", "tokens"},
        {OPENAI_DETOKENIZE, "{\"tokens\":[-1]}", "tokens"},
        {OPENAI_DETOKENIZE, "{\"tokens\":[]}", "tokens"},
        {OPENAI_TEMPLATE, "{\"prompt\":\"a\"}", "prompt"}, {OPENAI_TEMPLATE, "{}", "messages"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(!read_choice(table[i].place, 0, table[i].body), "%s", no.message);
        ck_assert_str_eq(frame.data, table[i].frame);
        ck_assert(took.place == table[i].place && took.choices == 1);
    }
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++) {
        ck_assert_msg(read_choice(not [i].place, 0, not [i].body), "taken: %s", not [i].body);
        ck_assert_str_eq(no.param, not [i].param);
    }
}
END_TEST

#define MESSAGE(text) "{\"model\":\"m\",\"messages\":[" USER_A "," text "]}"
#define PART(text)    MESSAGE("{\"role\":\"user\",\"content\":[" text "]}")

static const struct {
    bool chat;
    const char *body;
    int status;
    const char *param, *text;
} refused[] = {
    {true, "{", 400, "", "JSON"},
    {true, "[]", 400, "", "JSON object"},
    {true, "{}", 400, "messages", "messages is needed"},
    {true, "{\"model\":1}", 400, "model", "a string"},
    {true, "{\"model\":\"x\"}", 404, "model", "`x` does not exist"},
    {true, CHAT ",\"adapter\":\"m\"}", 404, "adapter", "The adapter `m` does not exist"},
    {true, CHAT ",\"adapter\":1}", 400, "adapter", "a string"},
    {false, "{\"model\":\"org\",\"prompt\":\"a\"}", 404, "model", "The model `org` does not exist"},
    {false, "{\"model\":\"org/two\",\"prompt\":\"a\",\"adapter\":\"fine\"}", 400, "adapter",
        "name two adapters"},
    {true, CHAT ",\"frobnicate\":1}", 400, "frobnicate", "frobnicate is not a field"},
    {false, TEXT ",\"max_completion_tokens\":1}", 400, "max_completion_tokens", "field"},
    {true, CHAT ",\"prompt\":\"a\"}", 400, "prompt", "field"},
    {true, CHAT ",\"n\":0}", 400, "n", "from 1 to 8"},
    {true, CHAT ",\"n\":9}", 400, "n", "from 1 to 8"},
    {false, "{\"model\":\"m\",\"n\":7,\"prompt\":[\"a\",\"b\",\"c\"]}", 400, "prompt",
        "21 answers are asked for, a request may have 20"},
    {true, CHAT ",\"top_logprobs\":2}", 400, "top_logprobs", "needs"},
    {true, CHAT ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs", "from 0 to 20"},
    {true, CHAT ",\"logprobs\":1}", 400, "logprobs", "true or false"},
    {false, TEXT ",\"logprobs\":6}", 400, "logprobs", "from 0 to 5"},
    {false, TEXT ",\"logprobs\":true}", 400, "logprobs", "from 0 to 5"},
    {false, TEXT ",\"max_tokens\":0}", 400, "max_tokens", "with echo alone"},
    {true, CHAT ",\"echo\":true}", 400, "echo", "field"},
    {false, TEXT ",\"best_of\":2}", 400, "best_of", "only be 1"},
    {true, CHAT ",\"seed\":1,\"seed\":2}", 400, "seed", "twice"},
    {true, CHAT ",\"n\":\"1\"}", 400, "n", "n"},
    {true, CHAT ",\"logit_bias\":{\"5\":-101}}", 400, "logit_bias", "from -100 to 100"},
    {true, CHAT ",\"logit_bias\":{\"-5\":1}}", 400, "logit_bias", "no token id"},
    {true, CHAT ",\"logit_bias\":{\"\":1}}", 400, "logit_bias", "no token id"},
    {true, CHAT ",\"logit_bias\":{\"5\":null}}", 400, "logit_bias", "number"},
    {true, CHAT ",\"logit_bias\":{\"5\":1,\"5\":1}}", 400, "logit_bias", "twice"},
    {true, CHAT ",\"logit_bias\":[1]}", 400, "logit_bias", "object"},
    {true, CHAT ",\"frequency_penalty\":2.1}", 400, "frequency_penalty", "from -2 to 2"},
    {true, CHAT ",\"repetition_penalty\":0}", 400, "repetition_penalty", "from 0.01 to 100"},
    {true, CHAT ",\"top_k\":-2}", 400, "top_k", "from -1"},
    {true, CHAT ",\"min_tokens\":5,\"max_tokens\":4}", 400, "min_tokens", "more than the 4"},
    {true, CHAT ",\"response_format\":\"json\"}", 400, "response_format", "must be an object"},
    {true, CHAT FORMAT("\"type\":\"xml\""), 400, "response_format.type", "json_object"},
    {true, CHAT FORMAT("\"type\":\"json_object\",\"x\":1"), 400, "response_format.x", "field"},
    {true, CHAT FORMAT("\"type\":\"json_schema\""), 400, "response_format.json_schema", "needed"},
    {true, CHAT FORMAT("\"type\":\"json_object\",\"json_schema\":{}"), 400,
        "response_format.json_schema", "only beside"},
    {true, CHAT FORMAT(SCHEMA("\"schema\":{}")), 400, "response_format.json_schema.name", "needed"},
    {true, CHAT FORMAT(SCHEMA("\"name\":\"a b\",\"schema\":{}")), 400,
        "response_format.json_schema.name", "64"},
    {true, CHAT FORMAT(SCHEMA("\"name\":\"a\"")), 400, "response_format.json_schema.schema",
        "needed"},
    {true, CHAT FORMAT(SCHEMA("\"name\":\"a\",\"schema\":{},\"strict\":1")), 400,
        "response_format.json_schema.strict", "true or false"},
    {true, CHAT ",\"min_tokens\":1" FORMAT("\"type\":\"json_object\""), 400, "response_format",
        "min_tokens"},
    {true, CHAT ",\"functions\":[{}]}", 400, "functions", "not supported"},
    {true, CHAT ",\"store\":true}", 400, "store", "false"},
    {true, CHAT ",\"stream\":\"yes\"}", 400, "stream", "true or false"},
    {true, CHAT ",\"stream_options\":{}}", 400, "stream_options", "stream"},
    {true, CHAT ",\"stream\":true,\"stream_options\":{\"x\":1}}", 400, "stream_options.x", "field"},
    {true, CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}", 400,
        "stream_options.include_usage", "true or false"},
    {true, CHAT ",\"temperature\":2.1}", 400, "temperature", "from 0 to 2"},
    {true, CHAT ",\"temperature\":\"hot\"}", 400, "temperature", "number"},
    {true, CHAT ",\"max_tokens\":0}", 400, "max_tokens", "from 1 to 16777216"},
    {true, CHAT ",\"max_tokens\":1.5}", 400, "max_tokens", "whole"},
    {true, CHAT ",\"max_tokens\":1,\"max_completion_tokens\":2}", 400, "max_tokens", "older name"},
    {true, CHAT ",\"seed\":0.5}", 400, "seed", "whole"},
    {true, CHAT ",\"stop\":[1]}", 400, "stop", "string"},
    {true, CHAT ",\"stop\":\"\"}", 400, "stop", "1 to 256"},
    {true, CHAT ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", 400, "stop", "at most 4"},
    {false, "{\"model\":\"m\"}", 400, "prompt", "prompt"},
    {false, "{\"model\":\"m\",\"prompt\":7}", 400, "prompt", "prompt"},
    {false, "{\"model\":\"m\",\"prompt\":[]}", 400, "prompt", "prompt"},
    {false, "{\"model\":\"m\",\"prompt\":[[]]}", 400, "prompt", "prompt"},
    {false, "{\"model\":\"m\",\"prompt\":[\"a\",[1]]}", 400, "prompt", "alone"},
    {false, "{\"model\":\"m\",\"prompt\":[[1],[\"b\"]]}", 400, "prompt", "token ids"},
    {false, "{\"model\":\"m\",\"prompt\":[[1],[]]}", 400, "prompt", "list of token ids"},
    {false, "{\"model\":\"m\",\"prompt\":[1,\"a\"]}", 400, "prompt", "token ids"},
    {false, "{\"model\":\"m\",\"prompt\":[-1]}", 400, "prompt", "token ids"},
    {false, "{\"model\":\"m\",\"prompt\":[1.5]}", 400, "prompt", "token ids"},
    {false, "{\"model\":\"m\",\"prompt\":[3000000000]}", 400, "prompt", "token ids"},
    {true, "{\"model\":\"m\"}", 400, "messages", "needed"},
    {true, "{\"model\":\"m\",\"messages\":[]}", 400, "messages", "non-empty"},
    {true, MESSAGE("7"), 400, "messages", "object"},
    {true, MESSAGE("{\"content\":\"a\"}"), 400, "messages[1].role", "needed"},
    {true, MESSAGE("{\"role\":\"user\"}"), 400, "messages[1].content", "string or"},
    {true, MESSAGE("{\"role\":\"user\",\"content\":null}"), 400, "messages[1].content",
        "string or"},
    {true, MESSAGE("{\"role\":\"user\",\"content\":7}"), 400, "messages[1].content", "string or"},
    {true, MESSAGE("{\"role\":\"function\",\"content\":\"a\"}"), 400, "messages[1].role",
        "function"},
    {true, MESSAGE("{\"role\":\"user\",\"content\":\"a\",\"x\":1}"), 400, "messages[1].x", "field"},
    {true, PART("{\"type\":\"image_url\",\"image_url\":{}}"), 400, "messages[1].content[0].type",
        "\"text\""},
    {true, PART("{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\"}"), 400,
        "messages[1].content[1].text", "needed"},
    {true, PART("7"), 400, "messages[1].content[0]", "must be"},
};

START_TEST(what_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(read_body(refused[i].chat, refused[i].body), "taken: %s", refused[i].body);
        ck_assert_msg(no.status == refused[i].status && !strcmp(no.param, refused[i].param) &&
                strstr(no.message, refused[i].text) && !strcmp(no.type, "invalid_request_error"),
            "%s: %d %s: %s", refused[i].body, no.status, no.param, no.message);
    }
}
END_TEST

/* Likewise, of Anthropic's API. */
static int read_block_with(const char *member, uint64_t place, struct buf *body)
{
#define AT(there) (place == (there) ? member : "")
    if (place == OPENAI_COUNT)
        buf_printf(body, CHAT "%s}", member);
    else
        buf_printf(body,
            "{\"model\":\"m\",\"max_tokens\":5%s,\"messages\":[{\"role\":\"user\",\"content\":["
            "{\"type\":\"tool_result\",\"tool_use_id\":\"1\"%s},"
            "{\"type\":\"text\",\"text\":\"a\"%s}]%s},{"
            "\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"1\","
            "\"name\":\"f\",\"input\":{}%s}]},{\"role\":\"user\",\"content\":\"b\"}]%s%s%s%s%s}",
            AT(OPENAI_MESSAGES), AT(OPENAI_RESULT_BLOCK), AT(OPENAI_TEXT_BLOCK), AT(OPENAI_TURN),
            AT(OPENAI_USE_BLOCK),
            place >= OPENAI_USABLE ? ",\"tools\":[{\"name\":\"f\",\"input_schema\":{}" : "",
            AT(OPENAI_USABLE),
            place >= OPENAI_USABLE ? "}],\"tool_choice\":{\"type\":\"auto\"" : "", AT(OPENAI_USE),
            place >= OPENAI_USABLE ? "}" : "");
    return read_choice(place == OPENAI_COUNT ? OPENAI_COUNT : OPENAI_MESSAGES, 0, buf_cstr(body));
#undef AT
}

/* Likewise, of the Responses API. */
static int read_item_with(const char *member, uint64_t place, struct buf *body)
{
#define AT(there) (place == (there) ? member : "")
    bool tools = place & (OPENAI_FLAT_TOOL | OPENAI_FLAT_CHOICE);
    buf_printf(body,
        "{\"model\":\"m\"%s,\"input\":[{\"role\":\"user\",\"content\":["
        "{\"type\":\"input_text\",\"text\":\"a\"%s}]%s},{\"type\":\"function_call\","
        "\"call_id\":\"1\",\"name\":\"f\",\"arguments\":\"{}\"%s},{\"type\":"
        "\"function_call_output\",\"call_id\":\"1\",\"output\":\"b\"%s}]",
        AT(OPENAI_RESPONSES), AT(OPENAI_SAID_PART), AT(OPENAI_SAID), AT(OPENAI_SAID_CALL),
        AT(OPENAI_SAID_OUTPUT));
    if (tools)
        buf_printf(body,
            ",\"tools\":[{\"type\":\"function\",\"name\":\"f\"%s}],"
            "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"%s}",
            AT(OPENAI_FLAT_TOOL), AT(OPENAI_FLAT_CHOICE));
    if (place & (OPENAI_TEXT_FORM | OPENAI_TEXT_FORMAT))
        buf_printf(body, ",\"text\":{\"format\":{\"type\":\"text\"%s}%s}", AT(OPENAI_TEXT_FORMAT),
            AT(OPENAI_TEXT_FORM));
    buf_str(body, "}");
    return read_choice(OPENAI_RESPONSES, 0, buf_cstr(body));
#undef AT
}

/* Likewise, of a search. */
static int read_search_with(const char *member, uint64_t place, struct buf *body)
{
#define AT(there) (place == (there) ? member : "")
    buf_printf(body,
        "{\"query\":\"a\",\"ranking_options\":{\"hybrid_search\":{\"text_weight\":1%s}%s}%s}",
        AT(OPENAI_HYBRID), AT(OPENAI_RANKING), AT(OPENAI_SEARCH));
    return read_choice(OPENAI_SEARCH, 0, buf_cstr(body));
#undef AT
}

/* A request with one more field, at the place where the field stands. */
static int read_with(const struct openai_field *f, uint64_t place, const char *value)
{
    buf_auto struct buf body;
    char member[128];
    buf_init(&body, 4096);
    snprintf(member, sizeof member, ",\"%s\":%s", f->name, value);
    if (place >= OPENAI_SEARCH)
        return read_search_with(member, place, &body);
    if (place >= OPENAI_RESPONSES && !(place & OPENAI_ITEMS))
        return read_item_with(member, place, &body);
    if (place >= OPENAI_MESSAGES && !(place & OPENAI_ITEMS))
        return read_block_with(member, place, &body);
    if (place == OPENAI_CHAT || place == OPENAI_TEXT || (place & OPENAI_RENDERED))
        buf_printf(&body, "%s,\"%s\":%s}",
            place == OPENAI_DETOKENIZE                                           ? "{\"tokens\":[1]"
                : place == OPENAI_TEXT || !strcmp(f->name, "add_special_tokens") ? TEXT
                                                                                 : CHAT,
            f->name, value);
    else if (place == OPENAI_MESSAGE)
        buf_printf(&body,
            "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"%s\":%s}]}",
            f->name, value);
    else if (place == OPENAI_PART)
        buf_printf(&body,
            "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{"
            "\"type\":\"text\",\"text\":\"a\",\"%s\":%s}]}]}",
            f->name, value);
    else if (place == OPENAI_FORMAT)
        buf_printf(&body, CHAT FORMAT("\"type\":\"text\",\"%s\":%s"), f->name, value);
    else if (place == OPENAI_SCHEMA)
        buf_printf(
            &body, CHAT FORMAT(SCHEMA("\"name\":\"n\",\"schema\":{},\"%s\":%s")), f->name, value);
    else if (place & (OPENAI_TOOL | OPENAI_FUNCTION | OPENAI_CHOICE | OPENAI_CHOSEN))
        buf_printf(&body,
            CHAT ",\"tools\":[{\"type\":\"function\"%s,\"function\":{\"name\":\"f\"%s}}],"
                 "\"tool_choice\":{\"type\":\"function\"%s,\"function\":{\"name\":\"f\"%s}}}",
            place == OPENAI_TOOL ? member : "", place == OPENAI_FUNCTION ? member : "",
            place == OPENAI_CHOICE ? member : "", place == OPENAI_CHOSEN ? member : "");
    else if (place & (OPENAI_CALL | OPENAI_CALLED))
        buf_printf(&body,
            "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\","
            "\"type\":\"function\"%s,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"%s}}]}]}",
            place == OPENAI_CALL ? member : "", place == OPENAI_CALLED ? member : "");
    else if (place & OPENAI_ITEMS)
        buf_printf(&body, "{\"model\":\"m\",%s%s}",
            place == OPENAI_SCORE           ? "\"text_1\":\"a\",\"text_2\":\"b\""
                : place == OPENAI_RERANK    ? "\"query\":\"a\",\"documents\":[\"b\"]"
                : place == OPENAI_RECOMMEND ? "\"history\":[\"a\"]"
                                            : "\"input\":\"a\"",
            member);
    else
        buf_printf(&body, CHAT ",\"stream\":true,\"stream_options\":{\"%s\":%s}}", f->name, value);
    if (!(place & (OPENAI_TEXT | OPENAI_RENDERED | OPENAI_ITEMS)))
        place = OPENAI_CHAT;
    return read_choice(place, 0, buf_cstr(&body));
}

/* It stands in every request that is tried. */
static bool stands_already(const struct openai_field *f)
{
    return f->needed || !strcmp(f->name, "text_weight") || !strcmp(f->name, "hybrid_search") ||
        !strcmp(f->name, "ranking_options") || !strcmp(f->name, "content") ||
        !strcmp(f->name, "format") || !strcmp(f->name, "model") || !strcmp(f->name, "messages") ||
        !strcmp(f->name, "prompt");
}

static void try_fixed(const struct openai_field *f, uint64_t place)
{
    char values[64];
    char *rest;
    snprintf(values, sizeof values, "%s", f->values);
    for (char *v = strtok_r(values, " ", &rest); v; v = strtok_r(NULL, " ", &rest))
        ck_assert_msg(!read_with(f, place, v), "%s: %s: %s", f->name, v, no.message);
    ck_assert_msg(read_with(f, place, "\"other\""), "%s", f->name);
    ck_assert_msg(
        strstr(no.param, f->name) && strstr(no.message, f->name) && strstr(no.message, f->values),
        "%s: %s", no.param, no.message);
    ck_assert_int_eq(no.status, 400);
}

START_TEST(every_row_does_what_it_says)
{
    static const char *const odd[] = {"\"other\"", "-1.5", "[7]", "{\"a\":{}}", "true"};
    size_t count;
    const struct openai_field *fields = openai_fields(&count);
    for (const struct openai_field *f = fields; f < fields + count; f++)
        for (int bit = 0; bit < OPENAI_PLACES; bit++) {
            uint64_t place = (uint64_t)1 << bit;
            if (!(f->places & place & ~(uint64_t)OPENAI_LINES) || stands_already(f))
                continue; /* lines: test_monitor_line */
            ck_assert_msg(!read_with(f, place, "null"), "%s: %s", f->name, no.message);
            if (f->kind == OPENAI_FIXED)
                try_fixed(f, place);
            for (size_t i = 0; f->kind == OPENAI_IGNORED && i < 5; i++)
                ck_assert_msg(!read_with(f, place, odd[i]), "%s", f->name);
            if (f->kind == OPENAI_NUMBER || f->kind == OPENAI_WHOLE)
                ck_assert_msg(read_with(f, place, "1e30"), "%s", f->name);
        }
}
END_TEST

/* -- the document -- */

static const char *const kinds[] = {"a number", "a whole number", "true or false", "a string", ""};

static void write_row(struct buf *out, const struct openai_field *f)
{
    char text[160] = "";
    if (f->kind == OPENAI_FIXED && *f->values) {
        size_t at = 0;
        for (const char *p = f->values; *p && at + 2 < sizeof text; p++) {
            const char *piece = *p == ' ' ? "`, `" : (char[]){*p, 0};
            at += (size_t)snprintf(text + at, sizeof text - at, "%s", piece);
        }
        buf_printf(out, "| `%s` | only `%s` | %s |\n", f->name, text, f->note);
    } else if (f->kind == OPENAI_FIXED) {
        buf_printf(out, "| `%s` | refused | %s |\n", f->name, f->note);
    } else if (f->kind == OPENAI_IGNORED) {
        buf_printf(out, "| `%s` | ignored | %s |\n", f->name, f->note);
    } else {
        if (f->kind == OPENAI_NUMBER)
            snprintf(text, sizeof text, " from %g to %g", f->min, f->max);
        else if (f->max == 1 << 24)
            snprintf(text, sizeof text, " from %.0f to %.0f", f->min, f->max);
        buf_printf(out, "| `%s` | %s%s | %s |\n", f->name, kinds[f->kind], text, f->note);
    }
}

static void write_document(struct buf *out)
{
    size_t count, objects;
    const struct openai_field *fields = openai_fields(&count);
    const struct openai_object *o = openai_objects(&objects);
    for (const struct openai_object *end = o + objects; o < end; o++) {
        if (o->path)
            buf_printf(out, "\n### `POST %s`\n", o->path);
        else
            buf_printf(out, "\n### %s\n", o->title);
        if (o->place & OPENAI_LINES)
            buf_str(out, "\nEach line of the body; further members mean nothing.\n");
        buf_str(out, "\n| field | takes | |\n|---|---|---|\n");
        for (const struct openai_field *f = fields; f < fields + count; f++)
            if (f->places & o->place)
                write_row(out, f);
    }
}

#define MARK "<!-- the rest is the table of agent/openai_table.c -->\n"

START_TEST(the_document_is_current)
{
    buf_auto struct buf doc, made;
    struct err e = {0};
    buf_init(&doc, 1 << 20);
    buf_init(&made, 1 << 20);
    write_document(&made);
    ck_assert_int_eq(io_read_file("docs/openai.md", 1 << 20, &doc, &e), 0);
    const char *mark = strstr(buf_cstr(&doc), MARK);
    ck_assert_ptr_nonnull(mark);
    bool current = !strcmp(mark + strlen(MARK), buf_cstr(&made));
    if (!current)
        fprintf(stderr, "%s", buf_cstr(&made));
    ck_assert_msg(current, "docs/openai.md is old: what stands above must follow its mark");
}
END_TEST

/* Whatever fails, the answer is that this server is at fault, not the request. */
static int read_under_faults(void *user)
{
    (void)user;
    if (!read_body(true, CHAT ",\"stop\":[\"x\"],\"logit_bias\":{}}"))
        return 0;
    ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
    return -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, read_under_faults, NULL);
}
END_TEST

UNIT_MAIN("openai", what_is_taken, a_salt_is_the_keys_or_named, each_answer_is_a_request,
    what_is_rendered, what_is_refused, every_row_does_what_it_says, the_document_is_current,
    out_of_memory)
