/*
 * Goal: a serving rank gives the tokens the model gives, counts them rightly, stops where it must,
 * and survives bad requests. Method: the rank in a child process, this test as its agent. On the
 * tiny byte model greedy text is compared with engine_extend called here; stop strings are cut out
 * of that text; the same on the simulated GPU (tests/cudasim), whose memory the host cannot read,
 * and whose text, greedy or drawn, must be the processor's. Cancelling and chat need a model that
 * takes its time: SmolLM2. What cannot be done says its reason to the client (a chat template that
 * does not compile: the line), and where a rank is shows in its heartbeat page whatever it does.
 * needs: cuda
 */
#include "runtime/serve/infer.h"

#include "runtime/model/engine.h"
#include "tests/runtime/serve/rank.h"

#include <ctype.h>
#include <math.h>

#define PROMPT "In the beginning "
#define TOKENS 24

#define GREEDY "\"prompt\":\"" PROMPT "\",\"max_tokens\":24,\"temperature\":0"

/* What the model says by itself, and the logits after each token but the last. */
static float logits_of[sizeof(PROMPT) - 1 + TOKENS][256];
static void greedy(char *out)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = 64};
    int32_t ids[sizeof(PROMPT)];
    float logits[256];
    struct weights *w;
    struct engine *engine;
    struct model *m;
    struct dev *d;
    int n = 0;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &w, &e), "%s", e.text);
    c.config = *weights_config(w);
    ck_assert(
        !model_create(d, &c, &m, &e) && !model_load(m, w, &e) && !engine_create(m, &engine, &e));
    for (const char *p = PROMPT; *p; p++)
        ids[n++] = *p;
    ck_assert(!engine_extend(engine, ids, n, 0, true, *logits_of, &e));
    memcpy(logits, logits_of[n - 1], sizeof logits);
    for (int i = 0; i < TOKENS; i++) {
        int32_t best = 0;
        for (int j = 1; j < 256; j++)
            best = logits[j] > logits[best] ? j : best;
        out[i] = (char)best;
        ck_assert(!engine_extend(engine, &best, 1, n + i, false, logits, &e));
        memcpy(logits_of[n + i], logits, sizeof logits);
    }
    engine_destroy(engine);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}

START_TEST(greedy_text_is_the_models)
{
    struct answer o, again;
    char want[TOKENS];
    resource = _i;
    serve_bytes();
    o = ask(1, GREEDY);
    again = ask(2, GREEDY); /* now from the cache */
    greedy(want);
    ck_assert_str_eq(o.reason, "length");
    ck_assert_int_eq(o.prompt, (int)strlen(PROMPT));
    ck_assert_int_eq(o.completion, TOKENS);
    ck_assert_uint_eq(o.len, TOKENS);
    ck_assert_mem_eq(o.text, want, TOKENS);
    ck_assert_mem_eq(again.text, want, TOKENS);
    stop_serving();
}
END_TEST

static double logprob_at(const float *logits, int32_t id)
{
    double sum = 0;
    for (int i = 0; i < 256; i++)
        sum += exp((double)logits[i]);
    return (double)logits[id] - log(sum);
}

/* at: of the prompt and the answer together, from the second token on. */
static void is_told(const struct told *t, int at, int n)
{
    const float *logits = logits_of[at - 1];
    double sum = 0;
    ck_assert_int_eq(t->n, 1 + n);
    for (int i = 0; i <= n; i++) {
        ck_assert_double_eq_tol((double)t->of[i].logprob, logprob_at(logits, t->of[i].token), 1e-5);
        sum += i ? exp((double)t->of[i].logprob) : 0;
        ck_assert(i < 2 || t->of[i].logprob <= t->of[i - 1].logprob);
    }
    ck_assert_double_le(sum, 1 + 1e-6);
}

/* _i: 1: of a GPU. As told beside a greedy answer; and of a prompt alone, as it is scored, whether
   its keys are in the cache or not. */
START_TEST(logprobs_are_the_models)
{
    int prompt = (int)strlen(PROMPT);
    struct answer o;
    char want[TOKENS];
    resource = _i;
    serve_bytes();
    greedy(want);
    o = ask(1, GREEDY ",\"logprobs\":3,\"repetition_penalty\":1");
    ck_assert_mem_eq(o.text, want, TOKENS);
    ck_assert_int_eq(o.told, TOKENS);
    for (int i = 0; i < TOKENS; i++) {
        is_told(&o.tokens[i], prompt + i, 3);
        ck_assert_uint_eq(o.tokens[i].count, (uint32_t)i + 1);
        ck_assert_int_eq(o.tokens[i].of[0].token, o.tokens[i].of[1].token);
        ck_assert_int_eq(o.tokens[i].first, want[i]);
    }
    for (int max_tokens = 0; max_tokens < 3; max_tokens += 2) {
        char text[128];
        snprintf(text, sizeof text,
            "\"prompt\":\"" PROMPT "\",\"max_tokens\":%d,\"temperature\":0,\"logprobs\":2,"
            "\"echo\":true",
            max_tokens);
        o = ask(2 + max_tokens, text);
        ck_assert_str_eq(o.reason, "length");
        ck_assert_int_eq(o.completion, max_tokens);
        ck_assert_uint_eq(o.len, (size_t)(prompt + max_tokens));
        ck_assert_mem_eq(o.text, PROMPT, (size_t)prompt);
        ck_assert_mem_eq(o.text + prompt, want, (size_t)max_tokens);
        ck_assert_int_eq(o.told, prompt + max_tokens);
        ck_assert(o.tokens[0].n == 1 && isnan(o.tokens[0].of[0].logprob));
        for (int i = 1; i < o.told; i++) {
            is_told(&o.tokens[i], i, 2);
            ck_assert_int_eq(o.tokens[i].first, i < prompt ? PROMPT[i] : want[i - prompt]);
            ck_assert_uint_eq(o.tokens[i].count, i < prompt ? 0 : (uint32_t)(i - prompt) + 1);
        }
    }
    o = ask(7, "\"prompt_ids\":[98],\"max_tokens\":0,\"logprobs\":0,\"echo\":true");
    ck_assert(o.told == 1 && isnan(o.tokens[0].of[0].logprob) && o.len == 1 && *o.text == 'b');
    o = ask(8, "\"prompt\":\"" PROMPT "\",\"max_tokens\":0,\"echo\":true");
    ck_assert(!o.told && o.len == (size_t)prompt && !o.completion);
    stop_serving();
}
END_TEST

#define DRAWN "\"prompt\":\"ab\",\"max_tokens\":40,\"temperature\":1.5,\"seed\":5"

/* Where two characters stand side by side that need no escape and come here first; -1: nowhere. */
static int plain_pair(const char *text, int n)
{
    for (int i = 4; i + 1 < n; i++)
        if (isalnum((unsigned char)text[i]) && isalnum((unsigned char)text[i + 1]) &&
            !memmem(text, (size_t)i + 1, text + i, 2))
            return i;
    return -1;
}

START_TEST(stop_strings_end_and_are_not_sent)
{
    struct answer o, cut;
    char rest[256];
    int from;
    resource = _i;
    serve_bytes();
    o = ask(1, DRAWN);
    ck_assert_uint_eq(o.len, 40);
    from = plain_pair(o.text, 40);
    ck_assert_int_gt(from, 0);
    snprintf(rest, sizeof rest, DRAWN ",\"stop\":[\"zzz\",\"%.2s\"]", o.text + from);
    cut = ask(2, rest);
    ck_assert_str_eq(cut.reason, "stop");
    ck_assert_uint_eq(cut.len, (size_t)from);
    ck_assert_mem_eq(cut.text, o.text, (size_t)from);
    ck_assert_int_eq(cut.completion, from + 2);
    stop_serving();
}
END_TEST

#define NEGATIVE "\"prompt\":\"ab\",\"max_tokens\":40,\"temperature\":1.5,\"seed\":-"

START_TEST(seeds_repeat)
{
    static const char other[] =
        "\"prompt\":\"ab\",\"max_tokens\":40,\"temperature\":1.5,\"seed\":6";
    struct answer x, y, z;
    serve_bytes();
    x = ask(1, DRAWN);
    y = ask(2, DRAWN);
    z = ask(3, other);
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_mem_eq(x.text, y.text, x.len);
    ck_assert(z.len != x.len || memcmp(x.text, z.text, x.len));
    x = ask(4, NEGATIVE "5"); /* a seed like any other */
    y = ask(5, NEGATIVE "5");
    z = ask(6, NEGATIVE "6");
    ck_assert_mem_eq(x.text, y.text, sizeof x.text);
    ck_assert(memcmp(x.text, z.text, sizeof x.text));
    stop_serving();
}
END_TEST

START_TEST(no_nucleus_is_the_likeliest)
{
    struct answer o;
    char want[TOKENS];
    resource = _i;
    serve_bytes();
    o = ask(1, "\"prompt\":\"" PROMPT "\",\"max_tokens\":24,\"temperature\":1,\"top_p\":0");
    greedy(want);
    ck_assert_str_eq(o.reason, "length");
    ck_assert_mem_eq(o.text, want, TOKENS);
    stop_serving();
}
END_TEST

START_TEST(ids_are_a_prompt)
{
    buf_auto struct buf rest;
    struct answer o;
    char want[TOKENS];
    serve_bytes();
    buf_init(&rest, 1 << 10);
    buf_str(&rest, "\"max_tokens\":24,\"temperature\":0,\"prompt_ids\":[");
    for (const char *p = PROMPT; *p; p++) /* ids are bytes here */
        buf_printf(&rest, p[1] ? "%d," : "%d]", *p);
    o = ask(1, buf_cstr(&rest));
    greedy(want);
    ck_assert_int_eq(o.prompt, (int)strlen(PROMPT));
    ck_assert_mem_eq(o.text, want, TOKENS);
    o = ask(2, "\"prompt_ids\":[97,256]");
    ck_assert_str_eq(o.reason, "error");
    ck_assert_ptr_nonnull(strstr(o.message, "256"));
    o = ask(3, "\"prompt_ids\":[]");
    ck_assert_str_eq(o.reason, "error");
    stop_serving();
}
END_TEST

/* Kind: a client ends the rank. What is too much for one request ends that one. */
START_TEST(too_much_for_one_request_ends_alone)
{
    /* Some 2 GB of a conversation of 1 MB. */
    static const char template[] =
        "{% for m in messages %}{% for k in messages %}{% set x = m.content ~ k.content %}"
        "{% endfor %}{% endfor %}{{ messages | length }}";
    buf_auto struct buf text;
    char path[128];
    struct answer o;
    snprintf(path, sizeof path, "%s/model/chat_template.jinja", folder);
    golden_write(path, template, sizeof template - 1);
    serve_bytes();
    buf_init(&text, LIMIT_FRAME_BYTES);
    buf_str(&text, "{\"id\":1,\"chat\":true,\"messages\":[");
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "%s{\"role\":\"user\",\"content\":\"%01000d\"}", i ? "," : "", i);
    buf_str(&text, "]}");
    agent_send(&a, WIRE_REQUEST, buf_cstr(&text));
    o = collect(1, 0);
    ck_assert_str_eq(o.reason, "error");
    o = ask(2,
        "\"chat\":true,\"max_tokens\":2,\"temperature\":0,\"messages\":[{\"role\":\"user\","
        "\"content\":\"x\"}]");
    ck_assert_int_eq(o.prompt, 1);
    ck_assert_int_eq(o.completion, 2);
    stop_serving();
}
END_TEST

#define SIX 6

/* Their frames come between one another's, and each one's text is what it is alone. */
#define AB ",\"response_format\":{\"json_schema\":{\"schema\":{\"pattern\":\"^[ab]{12,20}$\"}}}"
START_TEST(many_are_answered_at_once)
{
    static struct answer alone[SIX], at_once[SIX];
    char rest[SIX][256], text[512];
    int ended = 0, last = -1, turns = 0;
    serve_bytes();
    for (int i = 0; i < SIX; i++) {
        snprintf(rest[i], sizeof rest[i],
            "\"prompt\":\"" PROMPT "%.*s\",\"max_tokens\":%d,\"temperature\":%g,\"seed\":%d%s", i,
            "and so on", 20 + i, i % 3 * 0.8, i, i < 3 ? "" : AB);
        alone[i] = ask(i + 1, rest[i]);
    }
    ck_assert_int_eq(alone[0].cached, 0);
    ck_assert_int_eq(alone[1].cached, 16); /* a page of what the first began with */
    for (int i = 0; i < SIX; i++) {
        snprintf(text, sizeof text, "{\"id\":%d,%s}", 11 + i, rest[i]);
        agent_send(&a, WIRE_REQUEST, text);
    }
    while (ended < SIX) {
        struct answer end = {0};
        next_frame();
        int i = a.frame.type == WIRE_TOKEN ? token_of() - 11 : take_end(&end) - 11;
        ck_assert(i >= 0 && i < SIX);
        turns += i != last;
        last = i;
        if (a.frame.type == WIRE_TOKEN) {
            take_text(&at_once[i]);
            continue;
        }
        ck_assert_str_eq(end.reason, alone[i].reason);
        ck_assert_int_eq(end.completion, alone[i].completion);
        ended++;
    }
    ck_assert_int_gt(turns, 3 * SIX);
    for (int i = 0; i < SIX; i++) {
        ck_assert(i < 3 || (alone[i].len >= 14 && strspn(alone[i].text, "\"ab") == alone[i].len));
        ck_assert_uint_eq(at_once[i].len, alone[i].len);
        ck_assert_mem_eq(at_once[i].text, alone[i].text, alone[i].len);
    }
    stop_serving();
}
END_TEST

/* Cold, then with the whole prompt in the cache. */
START_TEST(a_gpu_gives_the_same_text)
{
    static const char *const requests[] = {GREEDY, DRAWN, DRAWN, DRAWN ",\"top_p\":0.7",
        "\"prompt\":\"abc\",\"max_tokens\":40,\"temperature\":20,\"seed\":9",
        DRAWN ",\"top_k\":20,\"min_p\":0.01,\"frequency_penalty\":0.7,\"repetition_penalty\":1.3"};
    static struct answer of[2][6];
    for (resource = 0; resource < 2; resource++) {
        serve_bytes();
        for (int i = 0; i < 6; i++)
            of[resource][i] = ask(i + 1, requests[i]);
        stop_serving();
    }
    for (int i = 0; i < 6; i++) {
        ck_assert_str_eq(of[1][i].reason, of[0][i].reason);
        ck_assert_int_eq(of[1][i].completion, of[0][i].completion);
        ck_assert_uint_eq(of[1][i].len, of[0][i].len);
        ck_assert_mem_eq(of[1][i].text, of[0][i].text, of[0][i].len);
    }
    ck_assert_mem_eq(of[0][1].text, of[0][2].text, of[0][1].len);
    for (int i = 3; i < 6; i++)
        ck_assert(
            of[0][1].len != of[0][i].len || memcmp(of[0][1].text, of[0][i].text, of[0][1].len));
}
END_TEST

/* Puts `text` into the model's folder, or, for tokenizer.json, at the beginning of what is
   there. */
static void model_file(const char *name, const char *text)
{
    char path[128];
    buf_auto struct buf all;
    buf_init(&all, 1 << 20);
    snprintf(path, sizeof path, "%s/model/%s", folder, name);
    if (!strcmp(name, "tokenizer.json"))
        ck_assert_msg(!io_read_file(path, 1 << 20, &all, &e), "%s", e.text);
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    buf_printf(&out, "%s%s", text, all.len ? all.data + 1 : "");
    golden_write(path, out.data, out.len);
}

/* Of the kind "meaning that changes silently": what a prompt is made of. */
START_TEST(special_tokens_are_the_templates)
{
    struct answer o;
    resource = 0;
    model_file("tokenizer.json",
        "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true}],"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
        "\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
        "\"special_tokens\":{\"<s>\":{\"ids\":[1]}}},");
    model_file(
        "chat_template.jinja", "{% for m in messages %}<s>{{ m.content | trim }}{% endfor %}");
    serve_bytes();
    o = ask(1, "\"prompt\":\"<s>a\",\"max_tokens\":1"); /* and one before the text */
    ck_assert_int_eq(o.prompt, 3);
    o = ask(2, "\"prompt\":\"\",\"max_tokens\":1");
    ck_assert_int_eq(o.prompt, 1);
    o = ask(3,
        "\"chat\":true,\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":"
        "\"<s>a\"},{\"role\":\"user\",\"content\":\"b\"}]");
    ck_assert_str_eq(o.message, "");
    ck_assert_int_eq(o.prompt, 1 + 4 + 1 + 1);
    o = ask(4,
        "\"chat\":true,\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":[{"
        "\"type\":\"text\",\"text\":\" <\"},{\"type\":\"text\",\"text\":\"s>a \"}]}]");
    ck_assert_str_eq(o.message, "");
    ck_assert_int_eq(o.prompt, 1 + 4);
    stop_serving();
}
END_TEST

START_TEST(every_end_token_stops)
{
    char want[TOKENS], text[128];
    struct answer o;
    resource = 0;
    greedy(want);
    snprintf(text, sizeof text, "{\"eos_token_id\":[0,%d]}", (uint8_t)*want);
    model_file("generation_config.json", text);
    serve_bytes();
    o = ask(1, GREEDY);
    ck_assert_str_eq(o.reason, "stop");
    ck_assert_int_eq(o.completion, 0);
    ck_assert_uint_eq(o.len, 0);
    o = ask(2, GREEDY ",\"min_tokens\":3");
    ck_assert_int_ge(o.completion, 3);
    ck_assert_uint_ge(o.len, 3);
    ck_assert_ptr_null(memchr(o.text, *want, 3));
    o = ask(3, GREEDY ",\"ignore_eos\":true");
    ck_assert_str_eq(o.reason, "length");
    ck_assert_mem_eq(o.text, want, TOKENS);
    o = ask(4, GREEDY ",\"ignore_eos\":true,\"presence_penalty\":2,\"frequency_penalty\":2");
    ck_assert_mem_eq(o.text, want, 1); /* nothing was generated yet */
    ck_assert(memcmp(o.text, want, TOKENS));
    snprintf(text, sizeof text, GREEDY ",\"logit_bias\":{\"%d\":-100}", (uint8_t)*want);
    o = ask(5, text);
    ck_assert_str_eq(o.reason, "length");
    ck_assert_ptr_null(memchr(o.text, *want, TOKENS));
    stop_serving();
}
END_TEST

START_TEST(bad_requests_end_alone)
{
    char want[TOKENS];
    struct answer o;
    resource = _i;
    serve_bytes();
    o = ask(1, "\"prompt\":\"\"");
    ck_assert_str_eq(o.reason, "error");
    o = ask(2, "\"chat\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]");
    ck_assert_str_eq(o.reason, "error");
    ck_assert_ptr_nonnull(strstr(o.message, "template"));
    o = ask(3, "\"max_tokens\":3");
    ck_assert_str_eq(o.reason, "error");
    o = ask(4, "\"prompt\":\"0123456789012345678901234567890123456789012345678901234567890123\"");
    ck_assert_str_eq(o.reason, "error");
    ck_assert_ptr_nonnull(strstr(o.message, "context"));
    o = ask(5, "\"prompt\":\"x\",\"temperature\":-1");
    ck_assert_str_eq(o.reason, "error");
    o = ask(6, "\"prompt\":\"x\",\"stop\":[\"\"]");
    ck_assert_str_eq(o.reason, "error");
    o = ask(7, "\"prompt\":\"x\",\"temperature\":0"); /* no max_tokens: to the end of the
                                                         context */
    ck_assert_str_eq(o.reason, "length");
    ck_assert_int_eq(o.completion, 63);
    o = ask(8, GREEDY);
    greedy(want);
    ck_assert_mem_eq(o.text, want, TOKENS);
    stop_serving();
}
END_TEST

static void write_template(const char *template)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model/chat_template.jinja", folder);
    golden_write(path, template, strlen(template));
}

#define SAY_AB \
    "\"chat\":true,\"max_tokens\":2,\"temperature\":0," \
    "\"messages\":[{\"role\":\"user\",\"content\":\"ab\"}]"

START_TEST(what_is_only_rendered)
{
    static const struct {
        const char *asked, *body;
    } table[] = {
        {"\"render\":\"tokens\",\"prompt\":\"a\\u00e9\"",
            "{\"count\":3,\"max_model_len\":64,\"tokens\":[97,195,169]}"},
        {"\"render\":\"tokens\",\"prompt\":\"\",\"add_special_tokens\":false",
            "{\"count\":0,\"max_model_len\":64,\"tokens\":[]}"},
        {"\"render\":\"text\",\"prompt_ids\":[97,195,169,34]", "{\"prompt\":\"a\xc3\xa9\\\"\"}"},
        {"\"render\":\"text\",\"chat\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]",
            "{\"prompt\":\"[x]A:\"}"},
        {"\"render\":\"text\",\"chat\":true,\"add_generation_prompt\":false,"
         "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]",
            "{\"prompt\":\"[x]\"}"},
        {"\"render\":\"tokens\",\"chat\":true,\"messages\":[{\"role\":\"user\","
         "\"content\":\"x\"}]",
            "{\"count\":5,\"max_model_len\":64,\"tokens\":[91,120,93,65,58]}"},
    };
    struct answer o;
    write_template("{% for m in messages %}[{{ m.content }}]{% endfor %}"
                   "{% if add_generation_prompt %}A:{% endif %}");
    serve_bytes();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        o = ask((int)i + 1, table[i].asked);
        ck_assert_str_eq(o.reason, "stop");
        ck_assert_uint_eq(o.len, strlen(table[i].body));
        ck_assert_mem_eq(o.text, table[i].body, o.len);
        ck_assert_int_eq(o.completion, 0);
    }
    o = ask(20, "\"render\":\"text\",\"prompt_ids\":[256]");
    ck_assert(!strcmp(o.reason, "error") && strstr(o.message, "256"));
    stop_serving();
}
END_TEST

START_TEST(a_template_that_does_not_compile_says_why)
{
    struct answer o;
    write_template("{{ messages[0].content }}\n{% import 'x' as y %}");
    serve_bytes();
    o = ask(1, SAY_AB);
    ck_assert_str_eq(o.reason, "error");
    ck_assert_msg(
        strstr(o.message, "line 2: tag is not supported: \"import\"") != NULL, "%s", o.message);
    o = ask(2, GREEDY); /* completions go on */
    ck_assert_str_eq(o.reason, "length");
    stop_serving();
}
END_TEST

START_TEST(a_template_that_goes_too_far_ends_its_request_alone)
{
    struct answer o;
    write_template("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}"
                   "{% endfor %}");
    serve_bytes();
    o = ask(1, SAY_AB);
    ck_assert_str_eq(o.reason, "error");
    ck_assert_msg(strstr(o.message, "chat template: line 1") != NULL, "%s", o.message);
    o = ask(2, GREEDY);
    ck_assert_str_eq(o.reason, "length");
    stop_serving();
}
END_TEST

/* Some 50 ms of rendering; the test may be asleep for as long, so it looks at several. */
START_TEST(rendering_is_a_phase)
{
    char text[256];
    bool seen = false;
    write_template("{% for i in range(60000) %}{% set x = i %}{% endfor %}"
                   "{{ messages[0].content }}");
    serve_bytes();
    snprintf(text, sizeof text, "{\"id\":1,%s}", SAY_AB);
    for (int i = 0; i < 50 && !seen; i++) {
        uint64_t before = atomic_load(&page->beats);
        int64_t until = clock_ms() + AGENT_MS;
        agent_send(&a, WIRE_REQUEST, text);
        while (atomic_load(&page->beats) == before && clock_ms() < until)
            usleep(100); /* the page has no event to wait for */
        seen = atomic_load(&page->phase) == WIRE_PHASE_SERVE_RENDER;
        ck_assert_str_eq(collect(1, 0).reason, "length");
    }
    ck_assert(seen);
    stop_serving();
}
END_TEST

START_TEST(smollm2_answers_and_is_cancelled)
{
    struct answer o;
    char model[1024], path[128];
    if (!golden_fetch("smollm2", model))
        return;
    snprintf(path, sizeof path, "%s/smollm2.gguf", folder);
    ck_assert_int_eq(symlink(model, path), 0);
    serve(path, 1024);
    o = ask(1,
        "\"chat\":true,\"temperature\":0,\"max_tokens\":40,\"messages\":"
        "[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]");
    ck_assert_str_eq(o.reason, "stop");
    ck_assert_msg(strstr(o.text, "Paris") != NULL, "%s", o.text);
    agent_send(&a, WIRE_REQUEST,
        "{\"id\":2,\"prompt\":\"Once upon a time\",\"max_tokens\":900,\"temperature\":0}");
    o = collect(2, 3);
    ck_assert_str_eq(o.reason, "cancelled");
    ck_assert_uint_le(page->beats - *cancelled_at, 2 * 33 + 2); /* two steps of 30 layers */
    stop_serving();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("infer");
    TCase *c = tcase_create("infer");
    SRunner *r = srunner_create(s);
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    const TTest *const tests[] = {seeds_repeat, ids_are_a_prompt,
        too_much_for_one_request_ends_alone, many_are_answered_at_once, a_gpu_gives_the_same_text,
        special_tokens_are_the_templates, every_end_token_stops, what_is_only_rendered,
        a_template_that_does_not_compile_says_why,
        a_template_that_goes_too_far_ends_its_request_alone, rendering_is_a_phase,
        smollm2_answers_and_is_cancelled};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(c, tests[i]);
    tcase_add_loop_test(c, greedy_text_is_the_models, 0, 2);
    tcase_add_loop_test(c, stop_strings_end_and_are_not_sent, 0, 2);
    tcase_add_loop_test(c, logprobs_are_the_models, 0, 2);
    tcase_add_loop_test(c, no_nucleus_is_the_likeliest, 0, 2);
    tcase_add_loop_test(c, bad_requests_end_alone, 0, 2);
    suite_add_tcase(s, c);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
