/*
 * openai_answer: goal: answers are what OpenAI's clients read, to the byte: chunks, whole bodies of
 * one choice and several, logprobs in both forms, whatever bytes a token has. Method: pure; texts
 * are compared; frames of logprobs that are cut or empty are refused.
 * needs: faults
 */
#include "agent/openai_answer.h"

#include "base/json.h"
#include "tests/unit.h"

#include <math.h>

static struct openai_refusal no;

static const struct openai_answer chat = {
    .id = 5, .chat = true, .include_usage = true, .created = 9, .model = "m"};
static const struct openai_answer text = {.id = 5, .created = 9, .model = "m"};

#define HEAD(id, object) \
    "{\"id\":\"" id "-5\",\"object\":\"" object "\",\"created\":9,\"model\":\"m\"," \
    "\"choices\":["
#define CHUNK "data: " HEAD("chatcmpl", "chat.completion.chunk")
#define USAGE \
    "],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3,\"total_tokens\":5," \
    "\"prompt_tokens_details\":{\"cached_tokens\":1}}}"

#define MODEL(id, more) \
    "{\"id\":\"" id "\",\"object\":\"model\",\"created\":0,\"owned_by\":\"llmjob\"," \
    "\"max_model_len\":100" more "}"
#define PARENT ",\"parent\":\"m\""

START_TEST(answers)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    openai_chunk(&b, &chat, &(struct openai_choice){.first = true, .text = "a", .len = 1});
    openai_chunk(&b, &chat, &(struct openai_choice){.index = 1, .finish = "stop"});
    openai_last(&b, &chat, (struct openai_usage){2, 3, 1});
    ck_assert_str_eq(b.data,
        CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},"
              "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n" CHUNK
              "{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
              "\"usage\":null}\n\n" CHUNK USAGE "\n\ndata: [DONE]\n\n");
    buf_reset(&b);
    const struct openai_choice two[] = {{.text = "a\"", .len = 2, .finish = "length"},
        {.index = 1, .text = "b", .len = 1, .finish = "stop"}};
    openai_whole(&b, &text, two, 1, (struct openai_usage){2, 3, 1});
    ck_assert_str_eq(b.data,
        HEAD("cmpl", "text_completion") "{\"index\":0,\"text\":\"a\\\"\",\"logprobs\":null,"
                                        "\"finish_reason\":\"length\"}" USAGE);
    buf_reset(&b);
    openai_whole(&b, &chat, two, 2, (struct openai_usage){2, 3, 1});
    ck_assert_str_eq(b.data,
        HEAD("chatcmpl", "chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\","
                                            "\"content\":\"a\\\"\"},\"logprobs\":null,"
                                            "\"finish_reason\":\"length\"},{\"index\":1,"
                                            "\"message\":{\"role\":\"assistant\","
                                            "\"content\":\"b\"},\"logprobs\":null,"
                                            "\"finish_reason\":\"stop\"}" USAGE);
    buf_reset(&b);
    ck_assert_int_eq(openai_refuse(&no, 429, "queue_full", NULL, "%d", 7), -1);
    openai_error_event(&b, &no);
    ck_assert_str_eq(b.data,
        "data: {\"error\":{\"message\":\"7\",\"type\":\"rate_limit_error\","
        "\"param\":null,\"code\":\"queue_full\"}}\n\n");
    struct openai_answer of = text; /* several */
    of.members = (struct openai_members){2, 3};
    buf_reset(&b);
    openai_whole(&b, &of, two, 1, (struct openai_usage){2, 3, 1});
    ck_assert_ptr_nonnull(
        strstr(b.data, "\"model\":\"m\",\"llmjob\":{\"members\":2,\"of\":3},\"choices\":["));
}
END_TEST

/* -- calls of tools -- */

/* The ids are the answer's own, the same in a stream as whole. */
START_TEST(of_calls)
{
    struct calls calls;
    buf_auto struct buf whole, b;
    buf_init(&whole, 1 << 16);
    buf_init(&b, 1 << 16);
    calls_init(&calls, WIRE_CALLS_MISTRAL, 9);
    static const char said[] = "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{\"x\":1}},"
                               "{\"name\":\"g\",\"arguments\":{}}]";
    ck_assert(!calls_add(&calls, said, sizeof said - 1) && !calls_end(&calls));
    const struct openai_choice c = {.text = "", .calls = &calls, .finish = "tool_calls"};
    openai_whole(&whole, &chat, &c, 1, (struct openai_usage){2, 3, 1});
    const char *at = strstr(whole.data, "tool_calls\":[{\"id\":\"");
    ck_assert_msg(at && strstr(whole.data, "\"content\":null,") &&
            strstr(whole.data, "\"finish_reason\":\"tool_calls\""),
        "%s", whole.data);
    char first[10], want[256];
    snprintf(first, sizeof first, "%s", at + strlen("tool_calls\":[{\"id\":\""));
    ck_assert_uint_eq(strspn(first, "abcdefghijklmnopqrstuvwxyz0123456789"), 9);
    snprintf(want, sizeof want,
        "\"tool_calls\":[{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{\\\"x\\\":1}\"}},{\"id\":\"",
        first);
    ck_assert_msg(strstr(whole.data, want), "%s", whole.data);
    openai_chunk(&b, &chat, &c);
    snprintf(want, sizeof want, "\"tool_calls\":[{\"index\":0,\"id\":\"%s\",", first);
    ck_assert_msg(strstr(b.data, want), "%s", b.data);
    buf_reset(&b);
    openai_chunk(&b, &chat, &(struct openai_choice){.calls = &calls, .from = 1});
    ck_assert_msg(
        strstr(b.data, "\"tool_calls\":[{\"index\":1,") && !strstr(b.data, first), "%s", b.data);
    calls_done(&calls);
}
END_TEST

/* -- logprobs -- */

static int add_token(
    struct openai_logprobs *l, bool of_chat, bool hidden, const struct wire_logprob *x, int n)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    wire_put_token(&b, &(struct wire_token){.request = 1, .count = 1, .hidden = hidden});
    for (int i = 0; i < n; i++)
        wire_put_logprob(&b, &x[i]);
    return buf_ok(&b) ? openai_logprobs_add(l, of_chat,
                            &(struct wire_frame){WIRE_LOGPROBS, b.data, (uint32_t)b.len})
                      : -ERR_MEMORY;
}

/* A token with one likelier beside it; the first half of a character; its rest; one of no text. */
static const struct wire_logprob first[] = {
    {1, -1.5f, "a", 1}, {2, -0.25f, "\"", 1}, {1, -1.5f, "a", 1}};
static const struct wire_logprob half[] = {
    {3, -INFINITY, "\xc3", 1}, {4, -0.5f, "b", 1}, {5, -0.75f, "b", 1}};
static const struct wire_logprob rest[] = {{6, -0.5f, "\xa9", 1}};
static const struct wire_logprob end[] = {{7, -2, "<s>", 3}};
static const struct wire_logprob nothing[] = {{1, NAN, "a", 1}};

#define A     "\"token\":\"a\",\"logprob\":-1.5,\"bytes\":[97]"
#define CUT   "\"token\":\"\xef\xbf\xbd\","
#define QUOTE "\"token\":\"\\\"\",\"logprob\":-0.25,\"bytes\":[34]"

START_TEST(of_a_chat)
{
    struct openai_logprobs l;
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    openai_logprobs_init(&l);
    ck_assert_int_eq(add_token(&l, true, false, first, 3), 0);
    ck_assert_int_eq(add_token(&l, true, false, half, 1), 0);
    const struct openai_choice c = {.text = "a", .len = 1, .logprobs = &l};
    openai_chunk(&b, &chat, &c);
    ck_assert_str_eq(b.data,
        CHUNK "{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":["
              "{" A ",\"top_logprobs\":[{" QUOTE "},{" A "}]},"
              "{" CUT "\"logprob\":-9999,\"bytes\":[195],\"top_logprobs\":[]}],"
              "\"refusal\":null},\"finish_reason\":null}],\"usage\":null}\n\n");
    ck_assert_uint_gt(openai_logprobs_bytes(&l), 0);
    openai_logprobs_sent(&l);
    ck_assert_uint_eq(openai_logprobs_bytes(&l), 0);
    buf_reset(&b);
    openai_chunk(&b, &chat, &c);
    ck_assert_ptr_nonnull(strstr(b.data, "\"logprobs\":{\"content\":[],\"refusal\":null}"));
    openai_logprobs_done(&l);
}
END_TEST

START_TEST(of_a_text)
{
    struct openai_logprobs l;
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    openai_logprobs_init(&l);
    ck_assert_int_eq(add_token(&l, false, false, nothing, 1), 0);
    ck_assert_int_eq(add_token(&l, false, true, end, 1), 0);
    ck_assert_int_eq(add_token(&l, false, false, first, 2), 0);
    openai_logprobs_sent(&l); /* offsets go on */
    ck_assert_int_eq(add_token(&l, false, false, half, 3), 0);
    ck_assert_int_eq(add_token(&l, false, false, rest, 1), 0);
    ck_assert_int_eq(add_token(&l, false, false, first, 3), 0);
    const struct openai_choice c = {.text = "", .logprobs = &l, .finish = "stop"};
    openai_whole(&b, &text, &c, 1, (struct openai_usage){2, 3, 1});
    ck_assert_str_eq(b.data,
        HEAD("cmpl",
            "text_completion") "{\"index\":0,\"text\":\"\",\"logprobs\":{"
                               "\"tokens\":[\"bytes:\\\\xc3\",\"bytes:\\\\xa9\",\"a\"],"
                               "\"token_logprobs\":[-9999,-0.5,-1.5],"
                               "\"top_logprobs\":[{\"b\":-0.5,\"bytes:\\\\xc3\":-9999},"
                               "{\"bytes:\\\\xa9\":-0.5},"
                               "{\"\\\"\":-0.25,\"a\":-1.5}],"
                               "\"text_offset\":[2,3,3]},\"finish_reason\":\"stop\"}" USAGE);
    openai_logprobs_sent(&l);
    buf_reset(&b);
    ck_assert_int_eq(add_token(&l, false, false, nothing, 1), 0);
    openai_whole(&b, &text, &c, 1, (struct openai_usage){2, 3, 1});
    ck_assert_ptr_nonnull(strstr(b.data,
        "{\"tokens\":[\"a\"],\"token_logprobs\":[null],\"top_logprobs\":[null],"
        "\"text_offset\":[4]}"));
    openai_logprobs_done(&l);
}
END_TEST

/* _: of 3,000 bytes, as no token is. */
START_TEST(odd_frames)
{
    static char many[3000];
    struct openai_logprobs l;
    memset(many, 'x', sizeof many);
    openai_logprobs_init(&l);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(add_token(&l, i, false, NULL, 0), -ERR_BUG);
        ck_assert_int_eq(
            openai_logprobs_add(&l, i, &(struct wire_frame){WIRE_LOGPROBS, many, 15}), -ERR_BUG);
        ck_assert_int_eq(openai_logprobs_bytes(&l), 0);
    }
    ck_assert_int_eq(
        add_token(&l, false, false, &(struct wire_logprob){1, -1, many, sizeof many}, 1), 0);
    ck_assert_uint_lt(openai_logprobs_bytes(&l), 3000);
    int rc = 0;
    for (int i = 0; i < 3000 && !rc; i++)
        rc = add_token(&l, true, false, &(struct wire_logprob){1, -1, many, sizeof many}, 1);
    ck_assert_int_eq(rc, -ERR_MEMORY);
    openai_logprobs_done(&l);
}
END_TEST

static int add_under_faults(void *user)
{
    struct openai_logprobs l;
    openai_logprobs_init(&l);
    int rc = add_token(&l, *(bool *)user, false, half, 3);
    openai_logprobs_done(&l);
    return rc;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, add_under_faults, &(bool){false});
    fault_each(FAULT_MEM, add_under_faults, &(bool){true});
}
END_TEST

START_TEST(models)
{
    static const struct jobspec_served_adapter adapters[] = {{"org/fine", "/a"}, {"b", "/b"}};
    const struct openai_conf conf = {
        .model = "m", .context_length = 100, .adapters = adapters, .adapter_count = 2};
    buf_auto struct buf b;
    buf_init(&b, 1 << 16);
    ck_assert(!openai_models(&b, &conf, NULL, &no));
    ck_assert_str_eq(b.data,
        "{\"object\":\"list\",\"data\":[" MODEL("m", "") "," MODEL("org/fine", PARENT) "," MODEL(
            "b", PARENT) "]}");
    buf_reset(&b);
    ck_assert(!openai_models(&b, &conf, "m", &no));
    ck_assert_str_eq(b.data, MODEL("m", ""));
    buf_reset(&b);
    ck_assert(!openai_models(&b, &conf, "org/fine", &no));
    ck_assert_str_eq(b.data, MODEL("org/fine", PARENT));
    ck_assert_int_eq(openai_models(&b, &conf, "org", &no), -1);
    ck_assert(no.status == 404 && !strcmp(no.code, "model_not_found"));
}
END_TEST

UNIT_MAIN(
    "openai_answer", models, answers, of_calls, of_a_chat, of_a_text, odd_frames, out_of_memory)
