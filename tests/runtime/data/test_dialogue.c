/*
 * Goal: of a conversation what the assistant says is learnt, of a prompt its completion, and what
 * cannot be told apart is refused. Method: a tokenizer of bytes with three special tokens; what is
 * learnt is written out as text beside what is not, in brackets; templates with marks, without, and
 * such as render earlier turns otherwise later on; 80 conversations as transformers marks them.
 * needs: faults
 */
#include "runtime/data/dialogue.h"

#include "base/buf.h"
#include "base/mem.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#define CHATML \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define MARKED \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" \
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}" \
    "<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}" \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* What was thought is shown of the last answer alone. */
#define THINKING \
    "{% for m in messages %}{{ m.role }}:{% if loop.last %}{{ m.thought }}{% endif %}" \
    "{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"

static struct err e;

/* Ids are bytes, 256 and 257 ChatML's; of merges there is one: "ab" is 258. */
static struct tok *make_tokenizer(void)
{
    static char text[256][2];
    struct tok *t = NULL;
    struct tok_text tokens[259], merges[1][2] = {{{"a", 1}, {"b", 1}}};
    uint8_t kinds[259];
    for (int b = 0; b < 256; b++) {
        uint32_t c = tok_byte_char((uint8_t)b);
        text[b][0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
        text[b][1] = (char)(0x80 | (c & 0x3f));
        tokens[b] = (struct tok_text){text[b], c < 0x80 ? 1 : 2};
        kinds[b] = TOK_NORMAL;
    }
    tokens[256] = (struct tok_text){"<|im_start|>", 12};
    tokens[257] = (struct tok_text){"<|im_end|>", 10};
    tokens[258] = (struct tok_text){"ab", 2};
    kinds[256] = kinds[257] = TOK_SPECIAL;
    kinds[258] = TOK_NORMAL;
    struct tok_def d = {.vocab = 259,
        .tokens = tokens,
        .kinds = kinds,
        .merges = merges,
        .merge_count = 1,
        .bos = -1,
        .eos = 257,
        .pad = -1};
    ck_assert_msg(!tok_create(&d, "bytes", &t, &e), "%s", e.text);
    return t;
}

/* What is learnt in brackets; special tokens as S and E. */
static const char *written(const struct tok_ids *ids)
{
    static struct buf out;
    buf_done(&out);
    buf_init(&out, 1 << 16);
    bool learnt = false;
    for (int64_t i = 0; i < ids->count; i++) {
        int32_t id = ids->id[i] < 0 ? ~ids->id[i] : ids->id[i];
        if (learnt != (ids->id[i] >= 0))
            buf_char(&out, learnt ? ']' : '[');
        learnt = ids->id[i] >= 0;
        buf_printf(&out, id == 256 ? "S" : id == 257 ? "E" : id == 258 ? "(ab)" : "%c", id);
    }
    if (learnt)
        buf_char(&out, ']');
    return buf_cstr(&out);
}

/* What is learnt, or the sentence of refusal. */
static const char *marked(const char *template, const char *text)
{
    static char result[1000];
    struct tok *t = make_tokenizer();
    struct chat *c = NULL;
    struct tok_ids ids = {0};
    int64_t learnt = 0;
    json_auto struct json *messages = NULL;
    ck_assert_msg(!chat_parse(template, NULL, "<|im_end|>", &c, &e), "%s", e.text);
    ck_assert_msg(!json_parse(text, strlen(text), &messages, &e), "%s: %s", text, e.text);
    int rc = dialogue_messages(t, c, messages, &ids, &learnt, &e);
    ck_assert(!rc || rc == -ERR_DATA);
    ck_assert(rc || (learnt > 0 && ids.id[learnt] >= 0 && ids.id[learnt - 1] < 0));
    snprintf(result, sizeof result, "%s", rc ? e.text : written(&ids));
    tok_ids_done(&ids);
    chat_close(c);
    tok_close(t);
    return result;
}

#define U(x) "{\"role\":\"user\",\"content\":\"" x "\"}"
#define A(x) "{\"role\":\"assistant\",\"content\":\"" x "\"}"

START_TEST(what_the_assistant_says_is_learnt)
{
    static const char *const rows[][3] = {
        {CHATML, "[" U("hi") "," A("yo") "]", "Suser\nhiE\nSassistant\n[yoE\n]"},
        {CHATML, "[" U("a") "," A("x") "," U("b") "," A("y") "]",
            "Suser\naE\nSassistant\n[xE\n]Suser\nbE\nSassistant\n[yE\n]"},
        {CHATML, "[" U("a") "," A("x") "," U("b") "]", "Suser\naE\nSassistant\n[xE\n]Suser\nbE\n"},
        {MARKED, "[" U("hi") "," A("yo") "]", "Suser\nhiE\nSassistant\n[yoE]\n"},
        {MARKED, "[" A("x") "," U("b") "," A("y") "]",
            "Sassistant\n[xE]\nSuser\nbE\nSassistant\n[yE]\n"},
        /* what a message says is text */
        {MARKED, "[" U("<|im_end|>") "," A("x") "]", "Suser\n<|im_end|>E\nSassistant\n[xE]\n"},
        /* one answer may be thought about */
        {THINKING, "[" U("q") ",{\"role\":\"assistant\",\"content\":\"r\",\"thought\":\"t\"}]",
            "user:q;assistant:[tr;]"},
        {"{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            "[" U("hey") "]", "h[ey]"}, /* nothing comes before the first */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(marked(rows[i][0], rows[i][1]), rows[i][2]);
}
END_TEST

START_TEST(what_cannot_be_told_apart_is_refused)
{
    static const char *const rows[][3] = {
        {CHATML, "[" U("hi") "]", "nothing in it is to be learnt"},
        {MARKED, "[" U("hi") "]", "nothing in it is to be learnt"},
        {CHATML, "[]", "messages: not a list with at least one message"},
        {CHATML, "{}", "messages: not a list with at least one message"},
        {CHATML, "[7]", "messages[0]: not an object"},
        {CHATML, "[{\"content\":\"x\"}]", "messages[0].role: not a string"},
        {CHATML, "[" A("x") "," U("y") "]", "messages[0]: the assistant has nothing to answer"},
        {THINKING,
            "[" U("q") ",{\"role\":\"assistant\",\"content\":\"r\",\"thought\":\"t\"}," U(
                "s") "," A("z") "]",
            "messages[3]: the chat template renders an earlier answer otherwise"},
        {"{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
            "[" U("q") "," A("r") "]", "messages[1]: with this answer the chat template renders"},
        {"{{ raise_exception('no') }}", "[" U("q") "," A("r") "]", "no"},
        {"{% set x %}{% generation %}a{% endgeneration %}{% endset %}{{ x }}", "[" U("q") "]",
            "generation inside of a block that is captured"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = marked(rows[i][0], rows[i][1]);
        ck_assert_msg(strstr(text, rows[i][2]) != NULL, "%s: %s", rows[i][1], text);
    }
}
END_TEST

/* A token across the border is learnt; eos is, where the text does not end with it. */
START_TEST(completions_are_learnt)
{
    static const char *const rows[][3] = {
        {"Q: x A:", " yes", "Q: x A:[ yesE]"},
        {"Q", "no<|im_end|>", "Q[noE]"},
        {"xa", "bc", "x[(ab)cE]"},
        {"Q", "", "Q[E]"},
        {"", "abc", "(ab)[cE]"},
    };
    struct tok *t = make_tokenizer();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tok_ids ids = {0};
        int64_t learnt;
        ck_assert(!tok_ids_add(&ids, 7, &e)); /* it appends */
        ck_assert_msg(
            !dialogue_completion(t, rows[i][0], rows[i][1], &ids, &learnt, &e), "%s", e.text);
        ids.id++;
        ids.count--;
        ck_assert_str_eq(written(&ids), rows[i][2]);
        ck_assert(ids.id[learnt] >= 0);
        ids.id--;
        tok_ids_done(&ids);
    }
    tok_close(t);
}
END_TEST

/* Against transformers' assistant_masks, also where no special token stands at a border. */
START_TEST(marks_are_the_references)
{
    char path[1024];
    int64_t count, marks, rows = 0, learnt;
    struct tok *t = NULL;
    if (!golden_fetch("tokenizer-qwen3", path))
        return;
    ck_assert_msg(!tok_open_folder(path, -1, -1, &t, &e), "%s", e.text);
    json_auto struct json *all = golden_json(GOLDEN "dialogue.json");
    json_each (row, all) {
        struct chat *c = NULL;
        struct tok_ids got = {0};
        const struct json *messages = json_get(row, "messages");
        mem_autofree int32_t *ids = golden_ids(json_get(row, "ids"), &count);
        mem_autofree int32_t *mask = golden_ids(json_get(row, "learnt"), &marks);
        ck_assert(!chat_parse(json_str(row, "template", ""), NULL, NULL, &c, &e));
        ck_assert_msg(!dialogue_messages(t, c, messages, &got, &learnt, &e), "%s", e.text);
        ck_assert(got.count == count && marks == count);
        for (int64_t i = 0; i < count; i++)
            ck_assert_msg(got.id[i] == (mask[i] ? ids[i] : ~ids[i]), "row %lld, token %lld",
                (long long)rows, (long long)i);
        rows++;
        tok_ids_done(&got);
        chat_close(c);
    }
    ck_assert_int_eq(rows, 80);
    tok_close(t);
}
END_TEST

struct parts {
    struct tok *tok;
    struct chat *chat;
    struct json *messages;
};

static int both(void *user)
{
    struct parts *p = user;
    struct tok_ids ids = {0};
    struct err why = {0};
    int64_t learnt;
    int rc = dialogue_messages(p->tok, p->chat, p->messages, &ids, &learnt, &why);
    rc = rc ? rc : dialogue_completion(p->tok, "xa", "bc", &ids, &learnt, &why);
    tok_ids_done(&ids);
    return rc;
}

START_TEST(failed_allocations_are_reported)
{
    static const char text[] = "[" U("hi") "," A("yo") "," U("a") "," A("b") "]";
    struct parts p = {.tok = make_tokenizer()};
    ck_assert(!json_parse(text, sizeof text - 1, &p.messages, &e));
    ck_assert(!chat_parse(CHATML, NULL, NULL, &p.chat, &e));
    fault_each(FAULT_MEM, both, &p);
    json_destroy(p.messages);
    chat_close(p.chat);
    tok_close(p.tok);
}
END_TEST

UNIT_MAIN("dialogue", what_the_assistant_says_is_learnt, what_cannot_be_told_apart_is_refused,
    completions_are_learnt, marks_are_the_references, failed_allocations_are_reported)
