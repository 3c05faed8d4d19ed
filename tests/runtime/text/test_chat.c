/*
 * Goal: a conversation renders to the same text as jinja2 gives, with the templates of published
 * models and with one for each construct; what jinja2 refuses is refused, and the reason names the
 * line. No template and no conversation can crash a rank or hold it up: a tree or a value of any
 * depth, a value within itself, work of any kind without end. Method: golden renders; malformed
 * messages; a table of bombs, each in a thread with a small stack, whose processor time is taken.
 * needs: faults threads
 */
#include "runtime/text/chat.h"

#include "base/clock.h"
#include "runtime/family/weights.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <pthread.h>

static struct chat *open_group(const struct json *group)
{
    struct chat *c = NULL;
    struct err e = {0};
    const char *model = json_str(group, "model", NULL);
    char path[1024];
    int rc;
    if (!model) {
        rc = chat_parse(json_str(group, "template", ""), json_str(group, "bos", NULL),
            json_str(group, "eos", NULL), &c, &e);
    } else if (!golden_fetch(model, path)) {
        return NULL;
    } else if (strstr(path, ".gguf")) {
        struct weights *w = NULL;
        ck_assert_msg(weights_open(path, NULL, &w, &e) == 0, "%s", e.text);
        rc = chat_open(w, &c, &e);
        weights_close(w);
    } else {
        rc = chat_open_folder(path, &c, &e);
    }
    ck_assert_msg(rc == 0, "%s: %s", model ? model : json_str(group, "template", ""), e.text);
    return c;
}

/* said: messages, tools where there are any, and whether the assistant's turn is begun. */
static void check_case(
    struct chat *c, const struct json *group, const struct json *said, const struct json *v)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    buf_str(&out, "before ");
    struct err e = {0};
    int rc = chat_render_tools(c, json_get(said, "messages"), json_get(said, "tools"),
        json_bool(said, "add_generation_prompt", false), &out, &e);
    const char *want = json_str(v, "text", NULL), *name = json_str(group, "template", "");
    if (!want) {
        int code = json_bool(v, "raised", false) ? -ERR_USER : -ERR_DATA;
        ck_assert_msg(rc == code, "%s: %d, expected %d (%s): %s", name, rc, code,
            json_str(v, "error", ""), e.text);
        ck_assert_str_eq(out.data, "before "); /* nothing is appended */
        if (code == -ERR_USER)
            ck_assert_str_eq(e.text, json_str(v, "error", ""));
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", name, e.text);
    ck_assert_msg(
        !strcmp(out.data + 7, want), "%s: got\n%s\nexpected\n%s", name, out.data + 7, want);
}

START_TEST(renders_equal_jinja2)
{
    json_auto struct json *golden = golden_json(GOLDEN "chat.json");
    const struct json *said[40];
    size_t conversations = 0;
    int cases = 0;
    json_each (v, json_get(golden, "conversations")) {
        ck_assert_uint_lt(conversations, 40);
        said[conversations++] = v;
    }
    clock_set_fake(1000, 1753963200000); /* 2025-07-31, as make_chat.py has it */
    json_each (group, json_get(golden, "groups")) {
        struct chat *c = open_group(group);
        size_t at = 0, every = (size_t)json_int(group, "every", 1);
        json_each (v, c ? json_get(group, "cases") : NULL) {
            ck_assert_uint_lt(every * at, conversations);
            check_case(c, group, said[every * at++], v);
            cases++;
        }
        chat_close(c);
    }
    printf("%d renders\n", cases);
    ck_assert_int_ge(cases, 300);
}
END_TEST

static int render_text(const char *template, const char *messages, struct buf *out, struct err *e)
{
    struct chat *c = NULL;
    struct json *m = NULL;
    int rc = chat_parse(template, NULL, NULL, &c, e);
    if (!rc && !(rc = json_parse(messages, strlen(messages), &m, e)))
        rc = chat_render(c, m, true, out, e);
    json_destroy(m);
    chat_close(c);
    return rc;
}

START_TEST(malformed_messages_are_the_clients_error)
{
    static const char *const bad[][2] = {
        {"{}", "messages"},
        {"[]", "messages"},
        {"[1]", "messages[0]"},
        {"[{\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":1,\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\"}]", "messages[1].content"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", "messages[0].content"},
    };
    buf_auto struct buf out;
    buf_init(&out, 1000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        ck_assert_int_eq(render_text("{{ messages[0].content }}", bad[i][0], &out, &e), -ERR_USER);
        ck_assert_msg(!strncmp(e.text, bad[i][1], strlen(bad[i][1])), "%s", e.text);
    }
}
END_TEST

START_TEST(text_parts_are_joined)
{
    buf_auto struct buf out;
    buf_init(&out, 1000);
    struct err e = {0};
    ck_assert_int_eq(render_text("{{ messages[0].content }}",
                         "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                         "{\"type\":\"text\",\"text\":\"b\"}]}]",
                         &out, &e),
        0);
    ck_assert_str_eq(buf_cstr(&out), "ab");
}
END_TEST

START_TEST(an_assistant_may_say_nothing)
{
    static const char *const said[] = {"\"content\":null,", ""};
    for (int i = 0; i < 2; i++) {
        buf_auto struct buf out;
        char messages[256];
        struct err e = {0};
        buf_init(&out, 1000);
        snprintf(messages, sizeof messages,
            "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",%s"
            "\"tool_calls\":[{\"id\":\"1\"}]}]",
            said[i]);
        ck_assert_msg(!render_text("{{ messages[1].content|trim }}|{{ "
                                   "messages[1].tool_calls[0].id }}",
                          messages, &out, &e),
            "%s", e.text);
        ck_assert_str_eq(buf_cstr(&out), "|1");
    }
}
END_TEST

static const char hello[] = "[{\"role\":\"user\",\"content\":\"x\"}]";

/* A template sees tools as the client of OpenAI's has them; none is none. */
START_TEST(tools_are_the_templates)
{
    static const char template[] =
        "{% if tools %}{% for t in tools %}{{ t.function.name }} {{ t | tojson }}{% endfor %}"
        "{% endif %}{{ tools is none }}{{ messages[0].content }}";
    static const char tool[] = "{\"type\": \"function\", \"function\": {\"name\": \"f\", "
                               "\"parameters\": {\"n\": 1}}}";
    buf_auto struct buf out, list;
    json_auto struct json *messages = NULL, *tools = NULL;
    struct chat *c = NULL;
    struct err e = {0};
    buf_init(&out, 1000);
    buf_init(&list, 1000);
    buf_printf(&list, "[%s]", tool);
    ck_assert(!chat_parse(template, NULL, NULL, &c, &e));
    ck_assert(!json_parse(hello, strlen(hello), &messages, &e));
    ck_assert(!json_parse(list.data, list.len, &tools, &e));
    ck_assert_msg(!chat_render_tools(c, messages, tools, true, &out, &e), "%s", e.text);
    ck_assert(!chat_render_tools(c, messages, NULL, true, &out, &e));
    buf_reset(&list);
    buf_printf(&list, "f %sFalsexTruex", tool);
    ck_assert_str_eq(out.data, list.data);
    chat_close(c);
}
END_TEST

/* Pieces of the templates of families, and whole ones where they are there. */
START_TEST(the_form_of_calls_is_the_templates)
{
    static const struct {
        const char *text;
        enum wire_calls calls;
    } table[] = {
        {"{{ messages[0].content }}", WIRE_CALLS_NONE},
        {"no t00ls: <tool_call>", WIRE_CALLS_NONE},
        {"{{ tools }}<tool_call>", WIRE_CALLS_HERMES},
        {"{{ tools }}<tool_call><function=", WIRE_CALLS_UNKNOWN},
        {"{{ tools }}[TOOL_CALLS]", WIRE_CALLS_MISTRAL},
        {"{{ tools }}[TOOL_CALLS][ARGS]", WIRE_CALLS_UNKNOWN},
        {"{{ tools }}\"parameters\": ipython", WIRE_CALLS_LLAMA},
        {"{{ tools }}\"parameters\": ", WIRE_CALLS_UNKNOWN}, /* Command-R */
        {"{{ tools }}", WIRE_CALLS_UNKNOWN},
    };
    static const struct {
        const char *model;
        enum wire_calls calls;
    } models[] = {{"tokenizer-qwen3", WIRE_CALLS_HERMES}, {"tokenizer-gemma3", WIRE_CALLS_NONE}};
    struct err e = {0};
    struct chat *c;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(!chat_parse(table[i].text, NULL, NULL, &c, &e), "%s", e.text);
        ck_assert_msg(chat_calls(c) == table[i].calls, "%s", table[i].text);
        chat_close(c);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[1024];
        if (!golden_fetch(models[i].model, path))
            continue;
        ck_assert_msg(!chat_open_folder(path, &c, &e), "%s", e.text);
        ck_assert_msg(chat_calls(c) == models[i].calls, "%s: %s", models[i].model,
            wire_calls_name(chat_calls(c)));
        chat_close(c);
    }
}
END_TEST

/* What cannot be compiled, or evaluated, says where and why. */
START_TEST(the_reason_names_the_line)
{
    static const char *const bad[][2] = {
        {"a\n{% include 'x' %}", "chat template: line 2: tag is not supported: \"include\""},
        {"{% break %}", "chat template: line 1: a jump outside of a loop: \"break\""},
        {"{{ '\\ud800' }}", "chat template: line 1: an escape in a string is no character"},
        {"{% for m in messages %}", "chat template: line 1: a block does not end"},
        {"\n\n{{ messages|frobnicate }}",
            "chat template: line 3: filter \"frobnicate\" is not supported"},
        {"{{ frobnicate() }}", "chat template: line 1: function \"frobnicate\" is not supported"},
        {"{{ 1\n + 'a' }}",
            "chat template: line 2: arithmetic on an integer and a string is not supported"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_auto struct buf out;
        struct err e = {0};
        buf_init(&out, 1000);
        ck_assert_int_eq(render_text(bad[i][0], hello, &out, &e), -ERR_DATA);
        ck_assert_msg(!strncmp(e.text, bad[i][1], strlen(bad[i][1])), "%s", e.text);
    }
}
END_TEST

/* -- bombs -- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* Its frames are wider, and its time may end before the work does. */
#define STACK_BYTES (8 << 20)
#define IN_TIME(e)  strstr((e).text, "takes too long")
#else
#define STACK_BYTES (2 << 20)
#define IN_TIME(e)  false
#endif

struct bomb {
    const char *head, *unit, *tail; /* unit stands `times` */
    int times;
    const char *reason; /* in the error */
};

static const struct bomb bombs[] = {
    {"{{ 1", "+1", " }}", 100000, "nested too deeply"},
    {"{{ a", ".b", " is defined }}", 100000, "nested too deeply"},
    {"{{ 'a'", "|trim", " }}", 100000, "nested too deeply"},
    {"{{ ", "not ", "a }}", 100000, "nested too deeply"},
    {"{{ ", "-", "1 }}", 100000, "nested too deeply"},
    {"{{ ", "(", "", 100000, "nested too deeply"},
    {"{{ ", "[", "", 100000, "nested too deeply"},
    {"{{ 1", " < 1", " }}", 100000, "nested too deeply"},
    {"", "{% if a %}", "", 50000, "nested too deeply"},
    {"{% if a %}", "{% elif a %}", "{% endif %}", 50000, "nested too deeply"},
    {"{% set n = namespace() %}{% set n.a = [n] %}{{ [n.a]|tojson }}", "", "", 0,
        "cannot become JSON"},
    {"{% set n = namespace(x={}) %}{% set n.x = [n] %}{{ n.x }}", "", "", 0, "nested too deeply"},
    {"{% set n = namespace() %}{% set m = namespace() %}{% set n.a = m %}{% set m.a = n %}"
     "{{ n == m }}",
        "", "", 0, "nested too deeply"},
    {"{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor "
     "%}{{ n.x|tojson }}",
        "", "", 0, "nested too deeply"},
    {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "", "", 0, "nested too deeply"},
    {"{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "", "", 0,
        "the template"},
    {"{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(16) %}{% set n.s = n.s + "
     "n.s %}{% endfor %}{% for i in range(100000) %}{% if 'ab' in n.s %}x{% endif %}{% endfor "
     "%}",
        "", "", 0, "does too much"},
    {"{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(30) %}{% set n.s = n.s ~ "
     "n.s %}{% endfor %}",
        "", "", 0, "MiB"},
    {"{% set n = namespace(l=[1]) %}{% for i in range(30) %}{% set n.l = n.l + n.l %}{% endfor "
     "%}",
        "", "", 0, "MiB"},
    {"{{ ('ab' * 1000000)|upper|length }}", "{{ ('ab' * 1000000)|upper|length }}", "", 100,
        "the template"},
    {"{{ (['a' * 100000] * 500)|join }}", "", "", 0, "a text of more than 16 MiB"},
    {"{{ [['a' * 100000] * 500]|tojson }}", "", "", 0, "a text of more than 16 MiB"},
    {"{{ 'a' * 10000000000 }}", "", "", 0, "too much"},
    {"{{ range(1000000000) }}", "", "", 0, "too long"},
};

struct trial {
    const char *template, *messages;
    struct err e;
    int rc;
    int64_t spent_ms;
};

static void *try_bomb(void *user)
{
    struct trial *t = user;
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    int64_t from = clock_thread_ms();
    t->rc = render_text(t->template, t->messages, &out, &t->e);
    t->spent_ms = clock_thread_ms() - from;
    return NULL;
}

static void try_in_thread(struct trial *t)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    ck_assert_int_eq(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
    ck_assert_int_eq(pthread_create(&thread, &attr, try_bomb, t), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
}

START_TEST(bombs_are_refused_in_time)
{
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        const struct bomb *b = &bombs[i];
        struct trial t = {.messages = hello};
        buf_auto struct buf text;
        buf_init(&text, 2 << 20);
        buf_str(&text, b->head);
        for (int k = 0; k < b->times; k++)
            buf_str(&text, b->unit);
        buf_str(&text, b->tail);
        t.template = buf_cstr(&text);
        try_in_thread(&t);
        ck_assert_msg(t.rc == -ERR_DATA && (strstr(t.e.text, b->reason) || IN_TIME(t.e)),
            "%.80s: %d %s", t.template, t.rc, t.e.text);
        ck_assert_msg(
            t.spent_ms <= 2 * CHAT_RENDER_MS, "%.80s: %lld ms", t.template, (long long)t.spent_ms);
    }
}
END_TEST

/* A client's side of it: one message of as many keys as a request may hold. */
START_TEST(a_flood_of_keys_is_refused_in_time)
{
    struct trial t = {.template = "{{ messages[0].content }}"};
    buf_auto struct buf text;
    buf_init(&text, 2 << 20);
    buf_str(&text, "[{\"role\":\"user\",\"content\":\"x\"");
    for (int i = 0; i < 60000; i++)
        buf_printf(&text, ",\"k%d\":0", i);
    buf_str(&text, "}]");
    t.messages = buf_cstr(&text);
    try_in_thread(&t);
    ck_assert_msg(t.rc == -ERR_DATA && strstr(t.e.text, "the template"), "%d %s", t.rc, t.e.text);
    ck_assert_int_le(t.spent_ms, 2 * CHAT_RENDER_MS);
}
END_TEST

/* What a budget is for must not be in its way: a long conversation, and one huge message. */
START_TEST(long_conversations_fit)
{
    struct trial t = {.template =
                          "{% set n = namespace(last='') %}{% for m in messages %}{% if m.role == "
                          "'user' and loop.index0 % 2 == 0 %}{{ '<u>' + m['content'] | trim + "
                          "'</u>' }}{% elif m.role == 'assistant' %}{{ "
                          "m.content.split('</think>')[-1]"
                          ".lstrip() }}{% set n.last = m.content %}{% endif %}{% endfor %}"};
    buf_auto struct buf text;
    for (int shape = 0; shape < 2; shape++) {
        buf_init(&text, 2 << 20);
        buf_char(&text, '[');
        for (int i = 0; i < (shape ? 1 : 5000); i++) {
            buf_printf(&text, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "",
                i % 2 ? "assistant" : "user");
            for (int k = 0; k < (shape ? 9000 : 1); k++)
                buf_str(&text,
                    "some hundred bytes of what people and models say to one "
                    "another when they talk for long on end, ");
            buf_str(&text, "\"}");
        }
        buf_char(&text, ']');
        t.messages = buf_cstr(&text);
        try_in_thread(&t);
        ck_assert_msg(!t.rc, "%s", t.e.text);
        buf_done(&text);
    }
    buf_init(&text, 1);
}
END_TEST

START_TEST(output_is_bounded)
{
    buf_auto struct buf out;
    buf_init(&out, 1000);
    struct err e = {0};
    ck_assert_int_eq(
        render_text("{% for i in range(9000) %}long{% endfor %}", hello, &out, &e), -ERR_USER);
}
END_TEST

static int open_and_render(void *user)
{
    (void)user;
    buf_auto struct buf out;
    buf_init(&out, 1000);
    struct err e = {0};
    int rc = render_text("{% macro say(m) %}{{ m.role + ': ' + m.content|trim }}{% endmacro %}"
                         "{% for m in messages %}{{ say(m) }}{% endfor %}",
        "[{\"role\":\"user\",\"content\":\" x \"}]", &out, &e);
    if (!rc)
        ck_assert_str_eq(buf_cstr(&out), "user: x");
    return rc;
}

START_TEST(failed_allocations_are_reported)
{
    fault_each(FAULT_MEM, open_and_render, NULL);
}
END_TEST

UNIT_MAIN("chat", renders_equal_jinja2, malformed_messages_are_the_clients_error,
    text_parts_are_joined, an_assistant_may_say_nothing, tools_are_the_templates,
    the_form_of_calls_is_the_templates, the_reason_names_the_line, bombs_are_refused_in_time,
    a_flood_of_keys_is_refused_in_time, long_conversations_fit, output_is_bounded,
    failed_allocations_are_reported)
