/*
 * Goal: a question is asked with what its documents say before it, and what its answer has from
 * them is cited, word for word; where nothing has to do with it, or an answer that must cite does
 * not, it says so. Method: a folder of small files, a tiny BERT as the encoder and the tiny byte
 * model's tokenizer; prompts are compared whole; answers are given byte by byte in the model's
 * place, and what goes out is read from the door, as an agent does.
 */
#include "runtime/serve/turn.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/model/device.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <stdio.h>
#include <sys/socket.h>

#define CONTEXT 1200
#define TEMPLATE \
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}" \
    "{% if add_generation_prompt %}<assistant>{% endif %}"

static char folder[64];
static int ends[2];
static struct door door;
static struct wire_reader reader;
static struct dev *dev;
static struct weights *w;
static struct err e;
static struct jobspec_serve serve;
static struct turn_conf conf;

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/documents/%s", folder, name);
    ck_assert_msg(!io_write_new(path, text, strlen(text), 0644, &e), "%s", e.text);
}

static void open_documents(void)
{
    const struct retrieve_conf c = {.spec = &serve.retrieval,
        .dev = dev,
        .precision = PRECISION_FP32,
        .budget_bytes = (int64_t)1 << 28,
        .door = &door};
    ck_assert_msg(!retrieve_open(&c, &conf.retrieve, &e), "%s", e.text);
    ck_assert_msg(!retrieve_index(conf.retrieve, &e), "%s", e.text);
}

static void setup(void)
{
    static char documents[128];
    char path[128];
    golden_folder(folder);
    bytes_model(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    snprintf(documents, sizeof documents, "%s/documents", folder);
    ck_assert(!io_mkdirs(documents, 0755, &e));
    put("cats.md", "# Of cats\nA cat sleeps most of the day. It eats fish.");
    put("dogs.txt", "A dog walks with its owner every morning.");
    ck_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    door_init(&door, ends[0], NULL);
    wire_reader_init(&reader);
    ck_assert_msg(!dev_open("cpu", 0, 2, &dev, &e), "%s", e.text);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    serve = (struct jobspec_serve){.retrieval = {.documents = documents,
                                       .encoder.source = GOLDEN "tiny-bert-masked",
                                       .chunk_tokens = 48,
                                       .overlap_tokens = 8,
                                       .max_chunks = 40,
                                       .results = 2,
                                       .min_score = -1,
                                       .not_found = "Not there.",
                                       .scan_seconds = 5}};
    conf = (struct turn_conf){.door = &door, .weights = w, .serve = &serve};
    buf_init(&conf.text, 1 << 20);
    buf_init(&conf.frame, LIMIT_FRAME_BYTES);
    ck_assert_msg(!tok_open(w, &conf.tok, &e), "%s", e.text);
    ck_assert_msg(!chat_parse(TEMPLATE, "", "", &conf.chat, &e), "%s", e.text);
    conf.context = CONTEXT;
    conf.vocab = weights_config(w)->vocab;
    open_documents();
}

static void teardown(void)
{
    retrieve_close(conf.retrieve);
    chat_close(conf.chat);
    tok_close(conf.tok);
    turn_conf_done(&conf);
    weights_close(w);
    dev_close(dev);
    wire_reader_done(&reader);
    io_close(ends[0]);
    io_close(ends[1]);
    golden_remove(folder);
}

/* -- a turn -- */

static struct turn t;
static char said[4096]; /* what went out */
static struct json *finished;

static int begin(const char *text)
{
    static struct inbox_request q;
    q = (struct inbox_request){.id = 1, .text = (char *)(uintptr_t)text, .len = strlen(text)};
    turn_init(&t, &q);
    return turn_read(&conf, &t, &e);
}

#define ASK(question) \
    "{\"id\":1,\"chat\":true,\"max_tokens\":200,\"messages\":[{\"role\":\"system\",\"content\":" \
    "\"s\"},{\"role\":\"user\",\"content\":\"" question "\"}]}"

/* Prompts are bytes. */
static const char *prompt(void)
{
    static char text[CONTEXT + 1];
    int64_t i = 0;
    for (; i < t.prompt.count && i < CONTEXT; i++)
        text[i] = (char)t.prompt.id[i];
    text[i] = 0;
    return text;
}

static void answer(const char *text)
{
    for (; *text && !t.reason; text++)
        ck_assert_msg(!turn_take(&conf, &t, (unsigned char)*text, NULL, &e), "%s", e.text);
    int32_t end = 0;
    while (!weights_ends(w, end))
        end++;
    if (!t.reason)
        ck_assert(!turn_take(&conf, &t, end, NULL, &e));
}

/* Ends it; frames of texts are put together. */
static void finish(void)
{
    struct wire_frame f = {.type = WIRE_TOKEN};
    size_t at = 0;
    ck_assert(!turn_finish(&conf, &t, t.reason, "", &e));
    while (f.type != WIRE_FINISHED) {
        ck_assert(!wire_wait(&reader, ends[1], clock_ms() + 10000, &f, &e));
        if (f.type != WIRE_TOKEN)
            continue;
        memcpy(said + at, f.data + WIRE_TOKEN_BYTES, f.len - WIRE_TOKEN_BYTES);
        at += f.len - WIRE_TOKEN_BYTES;
    }
    said[at] = 0;
    json_destroy(finished);
    finished = NULL;
    ck_assert(!json_parse(f.data, f.len, &finished, &e));
    turn_done(&t);
}

static void check_finished(const char *text, const char *annotations)
{
    finish();
    ck_assert_str_eq(said, text);
    ck_assert_str_eq(json_str(finished, "annotations", "none"), annotations);
    ck_assert_str_eq(json_str(finished, "reason", ""), "stop");
}

START_TEST(documents_stand_before_the_question)
{
    ck_assert_msg(!begin(ASK("What does a cat eat?")), "%s", e.text);
    ck_assert_str_eq(prompt(),
        "<system>s\n<user>Documents:\n\n"
        "[1] cats.md\nOf cats\n\nA cat sleeps most of the day. It eats fish.\n\n"
        "[2] dogs.txt\nA dog walks with its owner every morning.\n\n"
        "Answer from these documents, in their words. If they do not say it, answer: Not there.\n\n"
        "Question: What does a cat eat?\n<assistant>");
    answer("Well, a cat sleeps most of the day, \xc3\xa9");
    check_finished("Well, a cat sleeps most of the day, \xc3\xa9",
        "[{\"type\":\"file_citation\",\"file_id\":\"file-a5e58419e8e5e263\",\"filename\":"
        "\"cats.md\",\"index\":0,\"quote\":\"cat sleeps most of the day\",\"start_index\":8,"
        "\"end_index\":34}]");
    ck_assert(json_num(finished, "searched", 0) > 0);
}
END_TEST

START_TEST(only_questions_are_looked_for)
{
    ck_assert(!begin("{\"id\":1,\"chat\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                     "{\"role\":\"assistant\",\"content\":\"b\"}]}"));
    ck_assert_str_eq(prompt(), "<user>a\n<assistant>b\n<assistant>");
    answer("A cat sleeps most of the day.");
    check_finished("A cat sleeps most of the day.", "");
    ck_assert(!begin("{\"id\":1,\"prompt\":\"a\"}"));
    ck_assert_str_eq(prompt(), "a");
    turn_done(&t);
    ck_assert(!begin("{\"id\":1,\"render\":\"tokens\",\"chat\":true,\"messages\":[{\"role\":"
                     "\"user\",\"content\":\"a\"}]}"));
    ck_assert_str_eq(prompt(), "<user>a\n<assistant>");
    turn_done(&t);
}
END_TEST

START_TEST(what_has_nothing_to_do_with_it_is_no_answer)
{
    serve.retrieval.min_score = 1.5;
    ck_assert(!begin(ASK("cat")));
    ck_assert_str_eq(t.reason, "stop");
    check_finished("Not there.", "[]");
    ck_assert_int_eq(json_int(finished, "completion_tokens", -1), 0);
    /* where the answer has a form it is the model's */
    ck_assert(!begin("{\"id\":1,\"chat\":true,\"response_format\":{\"type\":\"json_object\"},"
                     "\"messages\":[{\"role\":\"user\",\"content\":\"cat\"}]}"));
    ck_assert(!t.reason);
    ck_assert_str_eq(prompt(), "<user>cat\n<assistant>");
    turn_done(&t);
}
END_TEST

START_TEST(answers_that_must_cite_do_or_are_none)
{
    serve.retrieval.answers = ANSWERS_CITED;
    ck_assert(!begin(ASK("cat")));
    answer("I think it flies.");
    check_finished("Not there.", "[]");
    ck_assert(!begin(ASK("cat")));
    answer("A cat sleeps most of it");
    finish();
    ck_assert_str_eq(said, "A cat sleeps most of it");
    ck_assert(strstr(json_str(finished, "annotations", ""), "\"quote\":\"A cat sleeps most of\""));
    /* what stands behind a stop text is no part of it */
    ck_assert(!begin("{\"id\":1,\"chat\":true,\"stop\":[\"!\"],\"messages\":[{\"role\":\"user\","
                     "\"content\":\"cat\"}]}"));
    answer("It! A cat sleeps most of the day.");
    check_finished("Not there.", "[]");
}
END_TEST

/* Each byte is a token: of two passages one leaves room. */
START_TEST(passages_leave_room_for_an_answer)
{
    ck_assert(!begin(ASK("cat")));
    conf.context = t.prompt.count + 50;
    turn_done(&t);
    ck_assert(!begin(ASK("cat")));
    ck_assert(strstr(prompt(), "[1] cats.md") && !strstr(prompt(), "[2]"));
    turn_done(&t);
    conf.context = 100;
    ck_assert_int_eq(begin(ASK("cat")), -ERR_USER);
    ck_assert_msg(strstr(e.text, "the context 100"), "%s", e.text);
    turn_done(&t);
}
END_TEST

static const struct json *search(const char *what)
{
    char text[300];
    snprintf(text, sizeof text, "{\"id\":1,\"search\":{%s}}", what);
    ck_assert_msg(!begin(text), "%s", e.text);
    finish();
    json_auto struct json *body = NULL;
    static struct json *kept;
    json_destroy(kept);
    kept = NULL;
    ck_assert(!json_parse(said, strlen(said), &kept, &e));
    return json_get(kept, "data");
}

START_TEST(searches_are_answered)
{
    const struct json *data = search("\"query\":\"owner\",\"most\":1");
    ck_assert_uint_eq(json_count(data), 1);
    const struct json *first = json_first(data);
    ck_assert_str_eq(json_str(first, "filename", ""), "dogs.txt");
    ck_assert_str_eq(json_str(json_first(json_get(first, "content")), "text", ""),
        "A dog walks with its owner every morning.");
    ck_assert(json_num(first, "rank_score", 0) > 0.9 && json_num(first, "score", -1) >= 0);
    data = search("\"query\":\"sleeps\",\"most\":1");
    ck_assert_str_eq(json_str(json_get(json_first(data), "attributes"), "title", ""), "Of cats");
    ck_assert_uint_eq(json_count(search("\"query\":\"owner\",\"most\":9")), 2);
    ck_assert_uint_eq(json_count(search("\"query\":\"owner\",\"most\":9,\"vectors\":0")), 1);
    ck_assert_uint_eq(json_count(search("\"query\":\"owner\",\"most\":9,\"threshold\":1.01")), 0);
    static const char *const bad[] = {"{\"id\":1,\"search\":{\"query\":\"a\",\"most\":0}}",
        "{\"id\":1,\"search\":{\"query\":\" \",\"most\":1}}",
        "{\"id\":1,\"search\":{\"query\":\"a\",\"most\":1,\"words\":0,\"vectors\":0}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(begin(bad[i]), -ERR_USER);
        turn_done(&t);
    }
    struct retrieve *had = conf.retrieve;
    conf.retrieve = NULL;
    ck_assert_int_eq(begin("{\"id\":1,\"search\":{\"query\":\"a\",\"most\":1}}"), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec.serve.retrieval"), "%s", e.text);
    turn_done(&t);
    conf.retrieve = had;
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"cite", 60, setup, teardown},
        (const TTest *const[]){documents_stand_before_the_question, only_questions_are_looked_for,
            what_has_nothing_to_do_with_it_is_no_answer, answers_that_must_cite_do_or_are_none,
            passages_leave_room_for_an_answer, searches_are_answered, NULL});
}
