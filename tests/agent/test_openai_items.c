/*
 * openai_items: goal: what clients write in the forms of OpenAI, vLLM, Jina and Cohere reaches the
 * rank as one form, and what a model does not do is refused by its name. Method: pure; requests
 * beside the rank's as text, refusals by param and words, answers parsed.
 * needs: faults
 */
#include "agent/openai_items.h"

#include "base/json.h"
#include "api/limits.h"
#include "tests/unit.h"

#include <string.h>

static struct openai_refusal no;
static struct buf frame;

static int read_as(enum wire_does does, enum openai_place place, const char *body)
{
    const struct openai_conf conf = {
        .model = "m", .context_length = 256, .most_choices = 20, .does = does};
    struct openai_request took;
    buf_done(&frame);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    no = (struct openai_refusal){0};
    return openai_read(&conf, 7, place, 0, body, strlen(body), &took, &frame, &no);
}

static int read_body(enum openai_place place, const char *body)
{
    return read_as(
        place == OPENAI_CLASSIFY ? WIRE_DOES_CLASSIFY : WIRE_DOES_RECOMMEND, place, body);
}

#define M(rest)      "{\"model\":\"m\"," rest "}"
#define IS(rest)     "{\"id\":7," rest "}"
#define EMBED(rest)  IS("\"read\":\"embed\",\"base64\":false," rest)
#define INPUT(input) "\"input\":" input

static const struct {
    enum openai_place place;
    const char *body, *frame;
} taken[] = {
    {OPENAI_EMBED, M(INPUT("\"a\"")), EMBED(INPUT("[\"a\"]"))},
    {OPENAI_EMBED, M(INPUT("[\"a\",\"\"]")), EMBED(INPUT("[\"a\",\"\"]"))},
    {OPENAI_EMBED, M(INPUT("[1,2]")), EMBED(INPUT("[[1,2]]"))},
    {OPENAI_EMBED, M(INPUT("[[1],[2,3]]")), EMBED(INPUT("[[1],[2,3]]"))},
    {OPENAI_EMBED, M(INPUT("\"a\"") ",\"encoding_format\":\"base64\",\"dimensions\":8"),
        IS("\"read\":\"embed\",\"base64\":true,\"dimensions\":8," INPUT("[\"a\"]"))},
    {OPENAI_EMBED,
        M(INPUT("\"a\"") ",\"encoding_format\":\"float\",\"dimensions\":null,\"user\":\"u\","
                         "\"truncate_prompt_tokens\":-1"),
        IS("\"read\":\"embed\",\"truncate\":-1,\"base64\":false," INPUT("[\"a\"]"))},
    {OPENAI_CLASSIFY, M(INPUT("[\"a\",\"b\"]") ",\"truncate_prompt_tokens\":9"),
        IS("\"read\":\"classify\",\"truncate\":9," INPUT("[\"a\",\"b\"]"))},
    {OPENAI_SCORE, M("\"text_1\":\"a\",\"text_2\":\"b\""),
        IS("\"read\":\"compare\",\"first\":[\"a\"],\"second\":[\"b\"]")},
    {OPENAI_SCORE, M("\"text_1\":\"a\",\"text_2\":[\"b\",\"c\"]"),
        IS("\"read\":\"compare\",\"first\":[\"a\"],\"second\":[\"b\",\"c\"]")},
    {OPENAI_SCORE, M("\"text_1\":[\"a\",\"d\"],\"text_2\":[\"b\",\"c\"]"),
        IS("\"read\":\"compare\",\"first\":[\"a\",\"d\"],\"second\":[\"b\",\"c\"]")},
    {OPENAI_RERANK, M("\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}]"),
        IS("\"read\":\"rank\",\"first\":[\"q\"],\"documents\":true,\"second\":[\"a\",\"b\"]")},
    {OPENAI_RERANK,
        M("\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":3,\"return_documents\":false"),
        IS("\"read\":\"rank\",\"first\":[\"q\"],\"top\":3,\"documents\":false,\"second\":[\"a\"]")},
    {OPENAI_RECOMMEND, M("\"history\":[]"),
        IS("\"read\":\"recommend\",\"history\":[],\"exclude\":true")},
    {OPENAI_RECOMMEND,
        M("\"history\":[\"a\",7,{\"text\":\"t\"}],\"query\":\"q\",\"user\":\"u\",\"top_n\":3,"
          "\"exclude_history\":false,\"weights\":{\"text\":0.5,\"year\":-2}"),
        IS("\"read\":\"recommend\",\"history\":[\"a\",\"7\",{\"text\":\"t\"}],\"query\":\"q\","
           "\"top\":3,\"exclude\":false,\"weights\":{\"text\":0.5,\"year\":-2}")},
};

START_TEST(what_is_taken)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        ck_assert_msg(
            !read_body(taken[i].place, taken[i].body), "%s: %s", taken[i].body, no.message);
        ck_assert_str_eq(buf_cstr(&frame), taken[i].frame);
    }
}
END_TEST

static const struct {
    enum openai_place place;
    const char *body, *param, *text;
} refused[] = {
    {OPENAI_EMBED, M("\"user\":\"u\""), "input", "needed"},
    {OPENAI_EMBED, M(INPUT("7")), "input", "string or a list"},
    {OPENAI_EMBED, M(INPUT("[]")), "input", "string or a list"},
    {OPENAI_EMBED, M(INPUT("{\"a\":1}")), "input", "string or a list"},
    {OPENAI_EMBED, M(INPUT("[\"a\",1]")), "input", "strings alone"},
    {OPENAI_EMBED, M(INPUT("[[1],\"a\"]")), "input", "token ids alone"},
    {OPENAI_EMBED, M(INPUT("[[1],[]]")), "input", "empty"},
    {OPENAI_EMBED, M(INPUT("[1,\"a\"]")), "input", "whole numbers"},
    {OPENAI_EMBED, M(INPUT("[[-1]]")), "input", "whole numbers"},
    {OPENAI_EMBED, M(INPUT("[1.5]")), "input", "whole numbers"},
    {OPENAI_EMBED, M(INPUT("[5000000000]")), "input", "whole numbers"},
    {OPENAI_EMBED, M(INPUT("\"a\"") ",\"encoding_format\":\"int8\""), "encoding_format", "base64"},
    {OPENAI_EMBED, M(INPUT("\"a\"") ",\"dimensions\":0"), "dimensions", "from 1"},
    {OPENAI_EMBED, M(INPUT("\"a\"") ",\"truncate_prompt_tokens\":0"), "truncate_prompt_tokens",
        "1 or more"},
    {OPENAI_EMBED, M(INPUT("\"a\"") ",\"stream\":true"), "stream", "no"},
    {OPENAI_EMBED, "{\"model\":1,\"input\":\"a\"}", "model", "a string"},
    {OPENAI_SCORE, M("\"text_1\":\"a\""), "text_2", "text_2"},
    {OPENAI_SCORE, M("\"text_2\":\"a\""), "text_1", "text_1"},
    {OPENAI_SCORE, M("\"text_1\":[\"a\",\"b\"],\"text_2\":\"c\""), "text_1", "as many"},
    {OPENAI_SCORE, M("\"text_1\":[\"a\",\"b\"],\"text_2\":[\"c\"]"), "text_1", "as many"},
    {OPENAI_SCORE, M("\"text_1\":\"a\",\"text_2\":[]"), "text_2", "1 to 2048"},
    {OPENAI_SCORE, M("\"text_1\":\"a\",\"text_2\":[7]"), "text_2", "strings"},
    {OPENAI_RERANK, M("\"documents\":[\"a\"]"), "query", "needed"},
    {OPENAI_RERANK, M("\"query\":\"q\""), "documents", "needed"},
    {OPENAI_RERANK, M("\"query\":\"q\",\"documents\":\"a\""), "documents", "list"},
    {OPENAI_RERANK, M("\"query\":\"q\",\"documents\":[{}]"), "documents.text", "needed"},
    {OPENAI_RERANK, M("\"query\":\"q\",\"documents\":[{\"text\":\"a\",\"image\":1}]"),
        "documents.image", "field"},
    {OPENAI_RERANK, M("\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0"), "top_n", "from 1"},
    {OPENAI_RECOMMEND, M("\"top_n\":3"), "history", "needed"},
    {OPENAI_RECOMMEND, M("\"history\":\"a\""), "history", "list"},
    {OPENAI_RECOMMEND, M("\"history\":[\"a\",true]"), "history[1]", "an item's id"},
    {OPENAI_RECOMMEND, M("\"history\":[1.5]"), "history[0]", "an item's id"},
    {OPENAI_RECOMMEND, M("\"history\":[{\"id\":\"a\"}]"), "history[0].id", "field"},
    {OPENAI_RECOMMEND, M("\"history\":[{}]"), "history[0].text", "needed"},
    {OPENAI_RECOMMEND, M("\"history\":[],\"top_n\":2049"), "top_n", "to 2048"},
    {OPENAI_RECOMMEND, M("\"history\":[],\"weights\":[1]"), "weights", "object"},
    {OPENAI_RECOMMEND, M("\"history\":[],\"weights\":{\"x\":\"1\"}"), "weights.x", "number"},
    {OPENAI_RECOMMEND, M("\"history\":[],\"weights\":{\"x\":1001}"), "weights.x", "to 1000"},
};

START_TEST(what_is_refused)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(read_body(refused[i].place, refused[i].body), "taken: %s", refused[i].body);
        ck_assert_msg(no.status == 400 && !strcmp(no.param, refused[i].param) &&
                strstr(no.message, refused[i].text),
            "%s: %d %s: %s", refused[i].body, no.status, no.param, no.message);
    }
}
END_TEST

/* One more than there may be. */
START_TEST(inputs_are_counted)
{
    buf_auto struct buf body;
    buf_init(&body, 1 << 20);
    for (int n = LIMIT_ITEMS; n <= LIMIT_ITEMS + 1; n++) {
        buf_reset(&body);
        buf_str(&body, "{\"model\":\"m\",\"input\":[\"a\"");
        for (int i = 1; i < n; i++)
            buf_str(&body, ",\"a\"");
        buf_str(&body, "]}");
        ck_assert_int_eq(read_body(OPENAI_EMBED, body.data), n > LIMIT_ITEMS ? -1 : 0);
    }
    ck_assert_msg(!strcmp(no.param, "input") && strstr(no.message, "2048"), "%s", no.message);
    for (int n = LIMIT_HISTORY; n <= LIMIT_HISTORY + 1; n++) {
        buf_reset(&body);
        buf_str(&body, "{\"model\":\"m\",\"history\":[1");
        for (int i = 1; i < n; i++)
            buf_str(&body, ",1");
        buf_str(&body, "]}");
        ck_assert_int_eq(read_body(OPENAI_RECOMMEND, body.data), n > LIMIT_HISTORY ? -1 : 0);
    }
    ck_assert_msg(!strcmp(no.param, "history") && strstr(no.message, "1000"), "%s", no.message);
}
END_TEST

START_TEST(a_model_does_what_it_does)
{
    static const struct {
        enum openai_place place;
        const char *body;
        const char *name;
        int by; /* bits: who answers it */
    } cases[] = {
        {OPENAI_CHAT, M("\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"), "chat",
            1 << WIRE_DOES_GENERATE},
        {OPENAI_TEXT, M("\"prompt\":\"a\""), "completions", 1 << WIRE_DOES_GENERATE},
        {OPENAI_TOKENIZE, "{\"prompt\":\"a\"}", "this", 1 << WIRE_DOES_GENERATE},
        {OPENAI_EMBED, M(INPUT("\"a\"")), "embeddings",
            1 << WIRE_DOES_EMBED | 1 << WIRE_DOES_RECOMMEND},
        {OPENAI_CLASSIFY, M(INPUT("\"a\"")), "classify",
            1 << WIRE_DOES_CLASSIFY | 1 << WIRE_DOES_TAG},
        {OPENAI_SCORE, M("\"text_1\":\"a\",\"text_2\":\"b\""), "score",
            1 << WIRE_DOES_CLASSIFY | 1 << WIRE_DOES_EMBED | 1 << WIRE_DOES_RECOMMEND},
        {OPENAI_RERANK, M("\"query\":\"a\",\"documents\":[\"b\"]"), "rerank",
            1 << WIRE_DOES_CLASSIFY | 1 << WIRE_DOES_EMBED | 1 << WIRE_DOES_RECOMMEND},
        {OPENAI_RECOMMEND, M("\"history\":[]"), "recommend", 1 << WIRE_DOES_RECOMMEND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int does = 0; does < WIRE_DOES_KINDS; does++) {
            int rc = read_as((enum wire_does)does, cases[i].place, cases[i].body);
            if (cases[i].by >> does & 1) {
                ck_assert_msg(!rc, "%s: %s", cases[i].name, no.message);
                continue;
            }
            ck_assert(rc && no.status == 400 && !strcmp(no.code, "unsupported_task"));
            ck_assert_msg(
                strstr(no.message, cases[i].name) && strstr(no.message, "`m`"), "%s", no.message);
        }
}
END_TEST

START_TEST(bodies_have_their_forms)
{
    const struct openai_answer a = {.id = 5, .created = 9, .model = "m"};
    const struct openai_usage u = {.prompt = 11};
    static const char elements[] = "{\"index\":0},{\"index\":1}";
    static const struct {
        enum openai_place place;
        const char *body;
    } cases[] = {
        {OPENAI_EMBED,
            "{\"object\":\"list\",\"model\":\"m\",\"usage\":{\"prompt_tokens\":11,\"total_tokens\":"
            "11},\"data\":[{\"index\":0},{\"index\":1}]}"},
        {OPENAI_CLASSIFY,
            "{\"id\":\"classify-5\",\"object\":\"list\",\"created\":9,\"model\":\"m\",\"usage\":{"
            "\"prompt_tokens\":11,\"total_tokens\":11},\"data\":[{\"index\":0},{\"index\":1}]}"},
        {OPENAI_SCORE,
            "{\"id\":\"score-5\",\"object\":\"list\",\"created\":9,\"model\":\"m\",\"usage\":{"
            "\"prompt_tokens\":11,\"total_tokens\":11},\"data\":[{\"index\":0},{\"index\":1}]}"},
        {OPENAI_RERANK,
            "{\"id\":\"rerank-5\",\"created\":9,\"model\":\"m\",\"usage\":{\"prompt_tokens\":11,"
            "\"total_tokens\":11},\"results\":[{\"index\":0},{\"index\":1}]}"},
        {OPENAI_RECOMMEND,
            "{\"id\":\"recommend-5\",\"created\":9,\"model\":\"m\",\"usage\":{\"prompt_tokens\":11,"
            "\"total_tokens\":11},\"results\":[{\"index\":0},{\"index\":1}]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_auto struct buf out;
        buf_init(&out, 4096);
        openai_items(&out, &a, cases[i].place, elements, strlen(elements), u);
        ck_assert_str_eq(buf_cstr(&out), cases[i].body);
    }
}
END_TEST

static int read_under_faults(void *user)
{
    (void)user;
    if (!read_body(OPENAI_RERANK, M("\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}]")) &&
        !read_body(OPENAI_RECOMMEND, M("\"history\":[1,{\"text\":\"b\"}],\"weights\":{\"x\":1}")))
        return 0;
    ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
    return -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, read_under_faults, NULL);
}
END_TEST

UNIT_MAIN("openai_items", what_is_taken, what_is_refused, inputs_are_counted,
    a_model_does_what_it_does, bodies_have_their_forms, out_of_memory)
