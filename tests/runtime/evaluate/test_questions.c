/*
 * Goal: questions become the tokens that lm-evaluation-harness makes of them, and what is none is
 * refused by file and line. Method: a tokenizer of a few merges, so that it shows where a text was
 * cut; tables of questions with their ids, and of lines that are refused; a chat template; the
 * fault loop.
 * needs: faults
 */
#include "runtime/evaluate/questions.h"

#include "base/io.h"
#include "runtime/family/weights.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

/* Ids are places in the list. */
static const char tokenizer[] =
    "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
    "\"added_tokens\":[{\"id\":11,\"content\":\"<s>\",\"special\":true}],%s"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\xc4\xa0\":3,\"\xc4\x8a\":4,"
    "\"\xc4\xa0"
    "a\":5,\"\xc4\xa0"
    "b\":6,\"ab\":7,\":\":8,\"<\":9,\">\":10,\"s\":12},"
    "\"merges\":[\"\xc4\xa0 a\",\"\xc4\xa0 b\",\"a b\"]}}";
static const char begins[] = "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                             "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
                             "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[11],"
                             "\"tokens\":[\"<s>\"]}}},";

static char folder[64];
static struct err e;
static struct weights *weights;
static struct tok *tok;

static void open_tok(const char *post)
{
    char path[128], text[2048];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    int n = snprintf(text, sizeof text, tokenizer, post);
    golden_write(path, text, (size_t)n);
    ck_assert_msg(!weights_open(folder, NULL, &weights, &e), "%s", e.text);
    ck_assert_msg(!tok_open(weights, &tok, &e), "%s", e.text);
}

static void setup(void)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    golden_folder(folder);
    for (int i = 0; i < 2; i++) {
        char from[128], to[128];
        buf_auto struct buf b;
        buf_init(&b, 1 << 24);
        snprintf(from, sizeof from, GOLDEN "tiny-llama/%s", files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        ck_assert(!io_read_file(from, 1 << 24, &b, &e));
        golden_write(to, b.data, b.len);
    }
    tok = NULL;
    weights = NULL;
}

static void teardown(void)
{
    tok_close(tok);
    weights_close(weights);
    golden_remove(folder);
}

static int read_text(const char *text, struct chat *chat, int64_t length, struct questions *q)
{
    const struct questions_conf c = {.path = "q.jsonl", .tok = tok, .chat = chat, .length = length};
    *q = (struct questions){.list = NULL};
    return questions_read(&c, text, strlen(text), q, &e);
}

/* "5 0 | 6 1 | 2": the context, then its choices. */
static void say(const struct questions *q, const struct question *x, char *out, size_t size)
{
    size_t n = 0;
    for (int64_t i = 0; i < x->count; i++)
        n += (size_t)snprintf(out + n, size - n, "%d ", q->ids.id[x->first + i]);
    for (int k = 0; k < x->choices; k++) {
        const struct questions_choice *c = &q->choices[x->choice + k];
        n += (size_t)snprintf(out + n, size - n, "| ");
        for (int64_t i = 0; i < c->count; i++)
            n += (size_t)snprintf(out + n, size - n, "%d ", q->ids.id[c->first + i]);
    }
}

static void reads_as(const char *text, struct chat *chat, const char *want)
{
    struct questions q;
    char is[256];
    ck_assert_msg(!read_text(text, chat, 100, &q), "%s: %s", text, e.text);
    ck_assert_int_eq(q.count, 1);
    say(&q, &q.list[0], is, sizeof is);
    ck_assert_msg(!strcmp(is, want), "%s: \"%s\", not \"%s\"", text, is, want);
    questions_done(&q);
}

START_TEST(a_choice_has_the_tokens_behind_the_context)
{
    open_tok("");
    /* A space between, which is the choice's: " a" is one token. */
    reads_as("{\"context\":\"ab\",\"choices\":[\"a\",\"bb\"],\"answer\":0}", NULL, "7 | 5 | 6 1 ");
    /* The context's own goes to the choice; there is no second one. */
    reads_as("{\"context\":\"ab \",\"choices\":[\"a\",\"b\"],\"answer\":0}", NULL, "7 | 5 | 6 ");
    reads_as("{\"context\":\"ab\",\"choices\":[\" a\",\"b\"],\"answer\":0}", NULL, "7 | 5 | 6 ");
    reads_as(
        "{\"context\":\"c\\n\",\"choices\":[\"a\",\"b\"],\"answer\":0}", NULL, "2 | 4 0 | 4 1 ");
    /* Together "a" and "b" are another token: as many are the context's as it has alone. */
    reads_as("{\"context\":\"c:a\",\"choices\":[\" c\",\"\\nb\"],\"answer\":0}", NULL,
        "2 8 0 | 3 2 | 4 1 ");
    tok_close(tok);
    weights_close(weights);
    open_tok(begins);
    reads_as("{\"context\":\"ab\",\"choices\":[\"a\",\"b\"],\"answer\":0}", NULL, "11 7 | 5 | 6 ");
    reads_as("{\"context\":\"\",\"choices\":[\"a\",\"b\"],\"answer\":0}", NULL, "11 | 0 | 1 ");
}
END_TEST

START_TEST(characters_lines_and_answers_are_kept)
{
    static const char text[] =
        "\n{\"context\":\"a\",\"choices\":[\"a\",\" abc\"],\"answer\":1,\"more\":[1]}\r\n"
        "  \n{\"context\":\"<s>b\",\"choices\":[\"c\",\"b\",\"a\"],\"answer\":\"C\"}";
    struct questions q;
    open_tok("");
    ck_assert_msg(!read_text(text, NULL, 100, &q), "%s", e.text);
    ck_assert_int_eq(q.count, 2);
    ck_assert_int_eq(q.list[0].line, 2);
    ck_assert_int_eq(q.list[1].line, 4);
    ck_assert_int_eq(q.list[0].answer, 1);
    ck_assert_int_eq(q.list[1].answer, 2);
    ck_assert_int_eq(q.choices[1].characters, 4);
    ck_assert_int_eq(q.ids.id[q.list[1].first], 11); /* a special token, as in any text */
    questions_done(&q);
}
END_TEST

START_TEST(of_a_chat_the_context_is_the_users)
{
    struct chat *chat;
    open_tok("");
    ck_assert_msg(!chat_parse("{% for m in messages %}b:{{ m.content }}{% endfor %}"
                              "{% if add_generation_prompt %}c\n{% endif %}",
                      "", "", &chat, &e),
        "%s", e.text);
    reads_as("{\"question\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0}", chat,
        "1 8 0 2 | 4 0 | 4 1 ");
    /* It is text, and so is a choice. */
    reads_as("{\"context\":\"<s>\",\"choices\":[\"<s>\",\"b\"],\"answer\":0}", chat,
        "1 8 9 12 10 2 | 4 9 12 10 | 4 1 ");
    chat_close(chat);
}
END_TEST

static const struct {
    const char *line, *says;
} refused[] = {
    {"[1]", "q.jsonl: line 2: no object with one of the strings \"context\" and \"question\""},
    {"{\"context\":\"a\",\"question\":\"b\"}", "q.jsonl: line 2: no object with one of"},
    {"{\"context\":1}", "q.jsonl: line 2: no object with one of"},
    {"{\"context\":\"a\"}", "line 2: \"choices\": no list of 2 to 64 texts"},
    {"{\"context\":\"a\",\"choices\":[\"a\"]}", "line 2: \"choices\": no list of 2"},
    {"{\"context\":\"a\",\"choices\":[\"a\",1],\"answer\":0}", "line 2: \"choices\"[1] is no"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"\"],\"answer\":0}",
        "line 2: \"choices\"[1] is empty"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"]}", "line 2: \"answer\": neither an index"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":2}", "line 2: \"answer\": neither"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":-1}", "line 2: \"answer\": neither"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0.5}", "line 2: \"answer\": neither"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":\"C\"}",
        "line 2: \"answer\": neither"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":\"0\"}",
        "line 2: \"answer\": neither"},
    {"{\"context\":\"a\",\"choices\":[\"a\",\"cccccc\"],\"answer\":0}",
        "line 2: \"choices\"[1] has 7 tokens, and spec.evaluate.sequenceLength is 6"},
    {"{\"context\":\"a\",", "line 2: "},
    {"{\"context\":\"\xff\"}", "line 2: invalid UTF-8"},
};

START_TEST(what_is_no_question_is_refused)
{
    open_tok("");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct questions q;
        char text[256];
        snprintf(text, sizeof text,
            "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0}\n%s\n", refused[i].line);
        ck_assert_int_eq(read_text(text, NULL, 6, &q), -ERR_DATA);
        ck_assert_msg(strstr(e.text, refused[i].says) != NULL, "%s: %s", refused[i].line, e.text);
        questions_done(&q);
    }
    struct questions q;
    ck_assert_int_eq(read_text("\n\n", NULL, 6, &q), -ERR_DATA);
    ck_assert_str_eq(e.text, "q.jsonl: no question in it");
    questions_done(&q);
}
END_TEST

static int read_body(void *unused)
{
    struct questions q;
    (void)unused;
    int rc = read_text("{\"question\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0}", NULL, 50, &q);
    questions_done(&q);
    return rc;
}

START_TEST(no_memory_is_said)
{
    open_tok("");
    fault_each(FAULT_MEM, read_body, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"questions", 60, setup, teardown},
        (const TTest *const[]){a_choice_has_the_tokens_behind_the_context,
            characters_lines_and_answers_are_kept, of_a_chat_the_context_is_the_users,
            what_is_no_question_is_refused, no_memory_is_said, NULL});
}
