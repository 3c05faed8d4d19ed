/*
 * Goal: what a request asks for is taken as it says, cut to what the context has room for, and what
 * it may not ask for is refused by one sentence. Method: requests to the tiny byte model, whose
 * tokens are bytes. (What goes out of it, token by token: test_infer.)
 */
#include "runtime/serve/turn.h"

#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#define CONTEXT 64

static char folder[64];
static struct weights *w;
static struct door door;
static struct err e, no_chat;
static struct turn_conf conf;

static void setup(void)
{
    char path[128];
    golden_folder(folder);
    bytes_model(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    static struct jobspec_served_adapter adapters[] = {{"one", "/one"}, {"two", "/two"}};
    static const struct jobspec_serve serve = {.adapters = adapters, .adapter_count = 2};
    conf = (struct turn_conf){.door = &door, .weights = w, .no_chat = &no_chat, .serve = &serve};
    ck_assert_msg(!tok_open(w, &conf.tok, &e), "%s", e.text);
    conf.context = CONTEXT;
    conf.vocab = weights_config(w)->vocab;
    err_set(&no_chat, ERR_DATA, "there is no template");
}

static void teardown(void)
{
    tok_close(conf.tok);
    weights_close(w);
    golden_remove(folder);
}

static int read_text(const char *text, struct turn *t)
{
    static struct inbox_request q;
    q = (struct inbox_request){.id = 1, .text = (char *)(uintptr_t)text, .len = strlen(text)};
    turn_init(t, &q);
    e = (struct err){0};
    return turn_read(&conf, t, &e);
}

START_TEST(a_request_is_taken)
{
    struct turn t;
    ck_assert_msg(
        !read_text("{\"id\":1,\"prompt\":\"abc\",\"max_tokens\":7,\"temperature\":0.5,"
                   "\"top_p\":0.25,\"seed\":3,\"stop\":[\"x\",\"yz\"],"
                   "\"salt\":\"00000000000000ff\",\"key\":2,\"weight\":3,\"priority\":-4}",
            &t),
        "%s", e.text);
    ck_assert_int_eq(t.prompt.count, 3);
    ck_assert_int_eq(t.prompt.id[1], 'b');
    ck_assert_int_eq(t.max_tokens, 7);
    ck_assert_int_eq(t.stops, 2);
    ck_assert(t.terms.salt == 255 && t.terms.key == 2 && t.terms.weight == 3);
    ck_assert_int_eq(t.terms.priority, -4);
    ck_assert_str_eq(t.stop[1], "yz");
    ck_assert(t.draws.temperature == 0.5f && t.draws.top_p == 0.25f && t.draws.state == 3);
    ck_assert(!t.draws.shape && !t.ignores_ends && !t.shows_special);
    turn_done(&t);
    ck_assert(!read_text("{\"id\":1,\"prompt_ids\":[1,2],\"max_tokens\":1000}", &t));
    ck_assert_int_eq(t.max_tokens, CONTEXT - 2);
    ck_assert_int_eq(t.adapter, 0);
    turn_done(&t);
    ck_assert(!read_text("{\"id\":1,\"prompt\":\"abc\",\"adapter\":\"two\"}", &t));
    ck_assert_int_eq(t.adapter, 2);
    turn_done(&t);
    ck_assert(!read_text("{\"id\":1,\"prompt\":\"abc\",\"min_tokens\":2,\"ignore_eos\":true,"
                         "\"skip_special_tokens\":false,\"top_k\":5}",
        &t));
    ck_assert(t.draws.shape == &t.shape && t.ignores_ends && t.shows_special);
    ck_assert(t.shape.top_k == 5 && t.shape.min_tokens == 2);
    ck_assert(t.shape.ends == 1 && weights_ends(w, t.shape.end[0]));
    turn_done(&t);
}
END_TEST

START_TEST(what_may_not_be_is_refused)
{
    static const struct {
        const char *text, *word;
    } table[] = {
        {"{\"id\":1}", "neither messages nor a prompt"},
        {"{\"id\":1,\"prompt\":\"\"}", "empty"},
        {"{\"id\":1,\"prompt_ids\":[256]}", "token id 256"},
        {"{\"id\":1,\"chat\":true,\"messages\":[]}", "there is no template"},
        {"{\"id\":1,\"prompt\":\"a\",\"temperature\":-1}", "temperature"},
        {"{\"id\":1,\"prompt\":\"a\",\"top_p\":2}", "top_p"},
        {"{\"id\":1,\"prompt\":\"a\",\"logit_bias\":{\"256\":1}}", "0 to 255"},
        {"{\"id\":1,\"prompt\":\"a\",\"stop\":[\"\"]}", "stop"},
        {"{\"id\":1,\"prompt\":\"a\",\"adapter\":\"three\"}", "no adapter three"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct turn t;
        ck_assert_int_eq(read_text(table[i].text, &t), -ERR_USER);
        ck_assert_msg(strstr(e.text, table[i].word), "case %zu: %s", i, e.text);
        turn_done(&t);
    }
}
END_TEST

#define TOOLS \
    "{\"id\":1,\"chat\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[{" \
    "\"type\":\"function\",\"function\":{\"name\":\"f\"%s}}]%s}"

static int read_tools(const char *parameters, const char *more, struct turn *t)
{
    static char text[512];
    snprintf(text, sizeof text, TOOLS, parameters, more);
    return read_text(text, t);
}

/* The template shows them, and an answer that must be a call is held to it. */
/* Up to max_tokens, to an end of the turn, or to what its format does not allow. */
START_TEST(guesses_that_may_come_true)
{
    static const int32_t ids[] = {'"', 'a', 'x', 'b', 'a'};
    struct turn t;
    buf_init(&conf.text, 1 << 16);
    ck_assert(!read_text("{\"id\":1,\"prompt\":\"abc\",\"max_tokens\":4}", &t));
    ck_assert_int_eq(turn_may_follow(&conf, &t, ids, 5), 3);
    t.produced = 2;
    ck_assert_int_eq(turn_may_follow(&conf, &t, ids, 5), 1);
    t.produced = 4;
    ck_assert_int_eq(turn_may_follow(&conf, &t, ids, 5), 0);
    turn_done(&t);
    int32_t ending[] = {'a', tok_eos(conf.tok), 'a'};
    ck_assert(!read_text("{\"id\":1,\"prompt\":\"abc\"}", &t));
    ck_assert_int_eq(turn_may_follow(&conf, &t, ending, 3), ending[1] < 0 ? 3 : 1);
    ck_assert_int_eq(turn_may_follow(&conf, &t, ids, 5), 5);
    turn_done(&t);
    ck_assert(!read_text("{\"id\":1,\"prompt\":\"abc\",\"response_format\":{\"json_schema\":{"
                         "\"schema\":{\"pattern\":\"^[ab]*$\"}}}}",
        &t));
    float logits[256] = {0};
    constrain_logits(t.constrain, NULL, 0, logits, 256); /* which finds out what may be next */
    ck_assert(!constrain_take(t.constrain, "\"", 1, &e));
    constrain_logits(t.constrain, NULL, 0, logits, 256);
    ck_assert_int_eq(turn_may_follow(&conf, &t, ids + 1, 4), 1);
    turn_done(&t);
    turn_conf_done(&conf);
}
END_TEST

START_TEST(tools_are_shown_and_called)
{
    struct chat *chat;
    struct turn t;
    ck_assert(!chat_parse("{{ tools[0].function.name }}<tool_call>", NULL, NULL, &chat, &e));
    conf.chat = chat;
    buf_init(&conf.text, 1 << 16);
    ck_assert_msg(!read_tools("", "", &t), "%s", e.text);
    ck_assert(t.prompt.count == 12 && t.prompt.id[0] == 'f' && t.prompt.id[1] == '<');
    ck_assert(t.shows_special && !t.constrain);
    turn_done(&t);
    ck_assert_msg(!read_tools("", ",\"tool_choice\":\"required\"", &t), "%s", e.text);
    ck_assert(t.shows_special && t.constrain && t.draws.shape == &t.shape);
    turn_done(&t);
    ck_assert_int_eq(read_tools(",\"parameters\":{\"type\":\"object\",\"not\":{}}",
                         ",\"tool_choice\":{\"function\":{\"name\":\"f\"}}", &t),
        -ERR_USER);
    ck_assert_str_eq(t.param, "tools[0].function.parameters.not");
    turn_done(&t);
    turn_conf_done(&conf);
    conf.chat = NULL;
    chat_close(chat);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"turn", 60, setup, teardown},
        (const TTest *const[]){a_request_is_taken, what_may_not_be_is_refused,
            guesses_that_may_come_true, tools_are_shown_and_called, NULL});
}
