/*
 * front: goal: the OpenAI API as clients know it: whole and streamed answers, whole characters
 * only, usage, errors in their form, bounds, cancelling and draining. The rank has so many requests
 * at a time and the others wait as text, bounded in number and bytes (kind: what strangers make us
 * hold). Method: the real server on a real socket; the test is both the client and the rank: it
 * reads the frames that the front sends and answers with tokens of its choice.
 */
#include "tests/agent/fronts.h"

#define KEY "Authorization: Bearer key"

START_TEST(answers_a_chat_whole)
{
    struct front_client c;
    client_open(&c);
    ask(&c, "/v1/chat/completions",
        CHAT ",\"max_tokens\":5,\"temperature\":0,\"seed\":9,\"stop\":\"\\n\"}");
    until(&c, sent == 1);
    ck_assert_int_eq(last_type, WIRE_REQUEST);
    *strstr(last_json, ",\"key\":0") = 0;
    ck_assert_str_eq(last_json,
        "{\"id\":1,\"chat\":true,\"messages\":[{\"role\":\"user\","
        "\"content\":\"hi\"}],\"max_tokens\":5,\"temperature\":0,"
        "\"top_p\":1,\"seed\":9,\"stop\":[\"\\n\"]");
    say(1, "Hel", 3);
    say(1, "lo\xc3", 3);
    say(1, "\xa9", 1);
    finish(1, "stop", "");
    until(&c, has(&c, "\"total_tokens\":10"));
    ck_assert(has(&c, "HTTP/1.1 200"));
    ck_assert(has(&c, "\"message\":{\"role\":\"assistant\",\"content\":\"Hello\xc3\xa9\"}"));
    ck_assert(has(&c, "\"finish_reason\":\"stop\""));
    ck_assert(has(&c, "\"object\":\"chat.completion\""));
    ck_assert_int_eq(front_in_flight(f), 0);
    client_close(&c);
}
END_TEST

START_TEST(streams_whole_characters)
{
    struct front_client c;
    client_open(&c);
    ask(&c, "/v1/chat/completions",
        CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    until(&c, sent == 1);
    say(1, "a", 1);
    until(&c, has(&c, "\"delta\":{\"role\":\"assistant\",\"content\":\"a\"}"));
    ck_assert(has(&c, "text/event-stream"));
    const char smile[] = "\xf0\x9f\x99\x82";
    for (int i = 0; i < 3; i++) {
        say(1, smile + i, 1);
        turn(&c);
    }
    size_t before = c.in.len;
    for (int i = 0; i < 5; i++)
        turn(&c);
    ck_assert_uint_eq(c.in.len, before);
    say(1, smile + 3, 1);
    until(&c, has(&c, "\"content\":\"\xf0\x9f\x99\x82\""));
    finish(1, "length", "");
    until(&c, has(&c, "data: [DONE]\n\n"));
    ck_assert(has(&c, "\"finish_reason\":\"length\""));
    ck_assert(has(&c,
        "\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
        "\"total_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":2}"));
    client_close(&c);
}
END_TEST

/* What the prompt took stands in the first event, as the rank says it with the first text, or with
   the end of an answer without any. */
START_TEST(a_message_begins_with_what_its_prompt_took)
{
    static const char begun[] = "\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,"
                                "\"cache_read_input_tokens\":2,\"output_tokens\":0}}}";
    for (int speaks = 0; speaks < 2; speaks++) {
        struct front_client c;
        client_open(&c);
        ask(&c, "/v1/messages", CHAT ",\"max_tokens\":9,\"stream\":true}");
        until(&c, sent == 1 + speaks);
        if (speaks)
            say(2, "a", 1);
        finish(1 + (uint64_t)speaks, "stop", "");
        until(&c, has(&c, "message_stop"));
        ck_assert(has(&c, begun));
        client_close(&c);
    }
}
END_TEST

/* A response's stream says at its end all that it said; what fails is an event with its number. */
START_TEST(streams_a_response)
{
    static const char asked[] =
        "{\"model\":\"tiny\",\"input\":\"hi\",\"top_p\":0.5,\"stream\":true}";
    struct front_client c;
    char piece[1001], whole[64];
    memset(piece, 'x', 1000);
    piece[1000] = 0;
    client_open(&c);
    ask(&c, "/v1/responses", asked);
    until(&c, sent == 1);
    for (int i = 0; i < 100; i++)
        say(1, piece, 1000);
    say(1, "end", 3);
    finish(1, "stop", "");
    until(&c, has(&c, "\"total_tokens\":10"));
    ck_assert(has(&c, "event: response.created\n") && has(&c, "event: response.completed\n"));
    ck_assert(has(&c, "\"output_tokens_details\"") && !has(&c, "[DONE]"));
    ck_assert(has(&c, "\"top_p\":0.5,"));
    int times = 0;
    snprintf(whole, sizeof whole, "\"text\":\"%.20s", piece);
    for (const char *p = buf_cstr(&c.in); (p = strstr(p, whole)); times++) {
        p += strlen(whole);
        ck_assert_uint_eq(strspn(p, "x"), 100 * 1000 - 20);
    }
    ck_assert_int_eq(times, 4); /* of the text, its part, its item and the response */
    client_close(&c);
    client_open(&c); /* more than a stream can end with is said to be, not left out */
    ask(&c, "/v1/responses", asked);
    until(&c, sent == 2);
    for (int i = 0; i < 400; i++)
        say(2, piece, 1000);
    finish(2, "stop", "");
    until(&c, has(&c, "outgrew"));
    ck_assert(has(&c, "event: error\n") && !has(&c, "event: response.completed\n"));
    client_close(&c);
    client_open(&c);
    ask(&c, "/v1/responses", asked);
    until(&c, sent == 3);
    say(3, "x", 1);
    front_lost(f);
    until(&c, has(&c, "event: error\n"));
    ck_assert(has(&c, "\"sequence_number\":5,\"code\":\"server_error\""));
    client_close(&c);
}
END_TEST

START_TEST(completes_a_prompt)
{
    struct front_client c;
    client_open(&c);
    ask(&c, "/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"In the\",\"stream\":true}");
    until(&c, sent == 1);
    ck_assert_ptr_nonnull(strstr(last_json, "\"prompt\":\"In the\",\"max_tokens\":16"));
    say(1, "x", 1);
    finish(1, "stop", "");
    until(&c, has(&c, "[DONE]"));
    ck_assert(has(&c, "\"text\":\"x\""));
    ck_assert(has(&c, "text_completion"));
    client_close(&c);
}
END_TEST

START_TEST(refuses_with_the_right_status)
{
    static const struct {
        const char *path, *body, *status, *text;
    } table[] = {
        {"/v1/chat/completions", "{", " 400 ", "invalid_request_error"},
        {"/v1/chat/completions", "[]", " 400 ", "JSON object"},
        {"/v1/chat/completions", "{\"model\":\"tiny\"}", " 400 ", "\"param\":\"messages\""},
        {"/v1/chat/completions", "{\"model\":\"big\",\"messages\":[]}", " 404 ", "model_not_found"},
        {"/v1/chat/completions", CHAT ",\"n\":3}", " 400 ", "\"param\":\"n\""},
        {"/v1/chat/completions", CHAT ",\"temperature\":\"hot\"}", " 400 ", "temperature"},
        {"/v1/chat/completions", CHAT ",\"max_tokens\":0}", " 400 ", "max_tokens"},
        {"/v1/chat/completions", CHAT ",\"stop\":[1]}", " 400 ", "stop"},
        {"/v1/completions", "{\"model\":\"tiny\",\"prompt\":7}", " 400 ", "prompt"},
        {"/chat/completions", CHAT ",\"max_tokens\":0}", " 400 ", "max_tokens"},
        {"/completions", "{\"prompt\":\"a\"}", " 404 ", "error"},
        {"/models", "{}", " 405 ", "error"},
        {"/v1/models", "{}", " 405 ", "error"},
        {"/v2", "{}", " 404 ", "error"},
        {"/v1/monitor", "{\"text\":\"a\"}", " 404 ", "nothing is watched"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct front_client c;
        client_open(&c);
        ask(&c, table[i].path, table[i].body);
        until(&c, has(&c, "\"error\":{\"message\":"));
        ck_assert_msg(
            has(&c, table[i].status) && has(&c, table[i].text), "case %zu: %s", i, buf_cstr(&c.in));
        client_close(&c);
    }
    ck_assert_int_eq(sent, 0);
    ck_assert_int_eq(front_in_flight(f), 0);
}
END_TEST

/* A megabyte of a stranger is not read to be thrown away. */
START_TEST(refuses_before_the_body)
{
    static const struct {
        const char *headers, *want;
    } table[] = {
        {"Content-Length: 900000", "invalid_api_key"},
        {"Content-Length: 900000\r\nAuthorization: Bearer no", "invalid_api_key"},
        {"Content-Length: 1100000\r\nAuthorization: Bearer key", "too large\",\"type\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct front_client c;
        client_open(&c);
        send_head(&c, "POST /v1/completions", table[i].headers);
        until(&c, has(&c, table[i].want) && c.closed);
        ck_assert(has(&c, "Allow-Origin: *\r\n"));
        client_close(&c);
    }
}
END_TEST

START_TEST(needs_the_key_and_a_bounded_body)
{
    struct front_client c;
    client_open(&c);
    send_head(&c, "GET /v1/models", "Authorization: Bearer no");
    until(&c, has(&c, " 401 ") && has(&c, "invalid_api_key"));
    client_close(&c);
    client_open(&c);
    size_t n = (1 << 20) + 100;
    char *big = mem_alloc(n + 1);
    memset(big, ' ', n);
    big[n] = '\0';
    ask(&c, "/v1/completions", big);
    until(&c, has(&c, " 413 "));
    mem_free(big);
    client_close(&c);
}
END_TEST

START_TEST(bounds_its_queue)
{
    struct front_client c[3];
    for (int i = 0; i < 3; i++) {
        client_open(&c[i]);
        ask(&c[i], "/v1/chat/completions", CHAT "}");
        if (i < 2)
            until(&c[i], front_in_flight(f) == i + 1);
    }
    ck_assert_int_eq(sent, 1); /* the other one waits here */
    until(&c[2], has(&c[2], " 429 ") && has(&c[2], "rate_limit_error"));
    ck_assert(has(&c[2], "etry-"));
    finish(1, "stop", "");
    ck_assert_int_eq(sent, 2);
    ck_assert_uint_eq(last_id(), 2);
    until(&c[0], has(&c[0], " 200 "));
    buf_reset(&c[2].in); /* there is room again, on the same connection */
    ask(&c[2], "/v1/chat/completions", CHAT "}");
    until(&c[2], front_in_flight(f) == 2);
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    until(NULL, front_in_flight(f) == 0);
}
END_TEST

/* Three of four; one that ends or goes makes room for the fourth, in whatever order. */
START_TEST(the_rank_has_several)
{
    struct front_client c[5];
    max_at_rank = 3;
    serve_again("tiny", 8);
    for (int i = 0; i < 5; i++) {
        client_open(&c[i]);
        ask(&c[i], "/v1/chat/completions", CHAT ",\"stream\":true}");
        until(&c[i], front_in_flight(f) == i + 1);
    }
    ck_assert_int_eq(sent, 3);
    ck_assert(metric_is(NAME_METRIC_WAITING " 2"));
    until(NULL, !metric_is(NAME_METRIC_WAIT " 0")); /* both wait on */
    say(3, "c", 1);                                 /* each has its own words */
    say(1, "a", 1);
    until(&c[2], has(&c[2], "\"content\":\"c\""));
    until(&c[0], has(&c[0], "\"content\":\"a\""));
    finish(2, "stop", "");
    until(&c[1], has(&c[1], "[DONE]"));
    ck_assert_int_eq(sent, 4);
    ck_assert_uint_eq(last_id(), 4);
    finish(99, "stop", ""); /* nobody's: no place is free */
    ck_assert_int_eq(sent, 4);
    client_close(&c[0]);
    until(NULL, front_in_flight(f) == 3);
    ck_assert_int_eq(last_type, WIRE_CANCEL);
    finish(1, "cancelled", "");
    ck_assert_uint_eq(last_id(), 5);
    ck_assert(metric_is(NAME_METRIC_WAITING " 0"));
    ck_assert(metric_is(NAME_METRIC_WAIT " 0"));
    for (uint64_t id = 3; id <= 5; id++)
        finish(id, "stop", "");
    ck_assert_int_eq(front_in_flight(f), 0);
    for (int i = 1; i < 5; i++)
        client_close(&c[i]);
    max_at_rank = 1;
}
END_TEST

/* Two prompts, two answers to each. The second answer to a prompt is handed over when the first has
   begun; each is a place of the queue; what they are comes together. */
START_TEST(several_answers)
{
    struct front_client c, other;
    max_at_rank = 4;
    serve_again("tiny", 5);
    client_open(&c);
    client_open(&other);
    ask(&c, "/v1/completions",
        "{\"model\":\"tiny\",\"prompt\":[\"A\",\"B\"],\"n\":2,\"logprobs\":0}");
    until(&c, sent == 1);
    ck_assert_int_eq(front_in_flight(f), 4);
    ck_assert(metric_is(NAME_METRIC_WAITING " 3"));
    ask(&other, "/v1/chat/completions", CHAT ",\"n\":2}");
    until(&other, has(&other, " 429 "));
    finish(1, "stop", ""); /* without a word */
    ck_assert(sent == 3 && last_id() == 3);
    ck_assert_ptr_nonnull(strstr(last_json, "\"prompt\":\"B\""));
    tell_logprob(4, "early", -1); /* not handed over yet: nobody's */
    say(3, "b", 1);
    ck_assert(sent == 4 && last_id() == 4);
    ck_assert_ptr_nonnull(strstr(last_json, "\"prompt\":\"B\""));
    for (uint64_t id = 2; id <= 4; id++) {
        tell_logprob(id, "w", -0.5f * (float)id);
        say(id, id == 2 ? "w" : "W", 1);
        finish(id, id == 3 ? "length" : "stop", "");
    }
    until(&c, has(&c, "\"total_tokens\":26")); /* 2 * 7 and 4 * 3 */
#define LOGPROBS(t, o, p) \
    "{\"tokens\":[" t "],\"token_logprobs\":[" p "],\"top_logprobs\":[" o "],\"text_offset\":["
    ck_assert_msg(
        has(&c,
            "[{\"index\":0,\"text\":\"\",\"logprobs\":" LOGPROBS("", "",
                "") "]},\"finish_reason\":\"stop\"},"
                    "{\"index\":1,\"text\":\"w\",\"logprobs\":" LOGPROBS("\"w\"", "{\"w\":-1}",
                        "-1") "0]},\"finish_reason\":\"stop\"},"
                              "{\"index\":2,\"text\":\"bW\",\"logprobs\":" LOGPROBS("\"w\"",
                                  "{\"w\":-1.5}",
                                  "-1.5") "0]},\"finish_reason\":\"length\"},"
                                          "{\"index\":3,\"text\":\"W\",\"logprobs\":"),
        "%s", buf_cstr(&c.in));
    ck_assert_int_eq(front_in_flight(f), 0);
    client_close(&c);
    client_close(&other);
    max_at_rank = 1;
}
END_TEST

/* Streamed; one of them fails, or the client goes: the other is cancelled. */
START_TEST(several_answers_end_together)
{
    struct front_client c;
    max_at_rank = 2;
    serve_again("tiny", 5);
    client_open(&c);
    ask(&c, "/v1/chat/completions", CHAT ",\"n\":2,\"stream\":true,\"logprobs\":true}");
    until(&c, sent == 1);
    tell_logprob(1, "a", -1);
    say(1, "a", 1);
    ck_assert_int_eq(sent, 2);
    say(2, "b", 1);
    until(&c, has(&c, "\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"b\"}"));
    ck_assert(has(&c,
        "\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},\"logprobs\":{"
        "\"content\":[{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97],\"top_logprobs\":[]}]"));
    if (_i) {
        client_close(&c);
        until(NULL, sent == 4);
        ck_assert_int_eq(last_type, WIRE_CANCEL);
        ck_assert_uint_eq(last_id(), 2);
    } else {
        finish(2, "error", "no");
        until(&c, has(&c, "data: {\"error\":{\"message\":\"no\""));
        ck_assert(sent == 3 && last_type == WIRE_CANCEL && last_id() == 1);
        client_close(&c);
    }
    ck_assert_int_eq(front_in_flight(f), 0);
    max_at_rank = 1;
}
END_TEST

/* The rank's text is the body. */
START_TEST(renders)
{
    static const struct {
        const char *path, *body, *asked;
    } table[] = {{"/tokenize", "{\"prompt\":\"hi\"}", "\"render\":\"tokens\""},
        {"/detokenize", "{\"tokens\":[3]}", "\"prompt_ids\":[3]"},
        {"/apply-template", CHAT "}", "\"render\":\"text\",\"chat\":true"}};
    struct front_client c;
    client_open(&c);
    for (int i = 0; i < 3; i++) {
        ask(&c, table[i].path, table[i].body);
        until(&c, sent == i + 1);
        ck_assert_ptr_nonnull(strstr(last_json, table[i].asked));
        say(last_id(), "{\"some\":", 8);
        say(last_id(), "\"body\"}", 7);
        finish(last_id(), "stop", "");
        until(&c, has(&c, "\r\n\r\n{\"some\":\"body\"}"));
        ck_assert(has(&c, " 200 ") && has(&c, "application/json"));
        buf_reset(&c.in);
    }
    client_close(&c);
}
END_TEST

#define LARGE 1000000 /* bytes of a request */
#define MANY  40

static int64_t resident_kib(void)
{
    buf_auto struct buf text;
    buf_init(&text, 65536);
    ck_assert_int_eq(io_read_file("/proc/self/status", 65536, &text, &e), 0);
    const char *at = strstr(buf_cstr(&text), "VmRSS:");
    ck_assert_ptr_nonnull(at);
    return strtoll(at + 6, NULL, 10);
}

/* Far fewer than max_queue, and refused all the same; those that wait have their turn. */
START_TEST(bounds_its_queue_in_bytes)
{
    static const char start[] = "{\"model\":\"tiny\",\"prompt\":\"";
    static struct front_client c[MANY];
    int taken = LIMIT_QUEUE_BYTES / LARGE, refused = 0;
    char *body = mem_alloc(LARGE + 1);
    serve_again("tiny", 256);
    memset(body, 'x', LARGE);
    memcpy(body, start, sizeof start - 1);
    memcpy(body + LARGE - 2, "\"}", 3);
    int64_t before = resident_kib();
    ck_assert_int_gt(before, 0);
    for (int i = 0; i < MANY; i++) {
        client_open(&c[i]);
        ask(&c[i], "/v1/completions", body);
        if (i < taken)
            until(&c[i], front_in_flight(f) == i + 1);
        else
            until(&c[i], has(&c[i], " 429 ") && has(&c[i], "etry-"));
        refused += i >= taken;
    }
    ck_assert_int_eq(refused, MANY - taken);
    /* The bodies, what a buffer may have in reserve, and one request as it is decoded. */
#ifndef __SANITIZE_ADDRESS__ /* it keeps what was freed */
    ck_assert_int_lt(resident_kib() - before, (2 * LIMIT_QUEUE_BYTES + (8 << 20)) / 1024);
#endif
    ck_assert_int_eq(sent, 1);
    for (int i = 0; i < taken; i++) {
        ck_assert_uint_eq((uint64_t)i + 1, last_id());
        finish((uint64_t)i + 1, "stop", "");
        until(&c[i], has(&c[i], " 200 "));
    }
    ck_assert_int_eq(front_in_flight(f), 0);
    buf_reset(&c[MANY - 1].in);
    ask(&c[MANY - 1], "/v1/completions", body);
    until(&c[MANY - 1], sent == taken + 1);
    for (int i = 0; i < MANY; i++)
        client_close(&c[i]);
    mem_free(body);
}
END_TEST

/* One that waits goes: the rank never hears of it. The one that the rank has goes: the next one's
 * turn is when the rank says that it is free. */
START_TEST(the_gone_free_their_places)
{
    struct front_client c[3];
    for (int i = 0; i < 3; i++)
        client_open(&c[i]);
    for (int i = 0; i < 2; i++) {
        ask(&c[i], "/v1/chat/completions", CHAT "}");
        until(&c[i], front_in_flight(f) == i + 1);
    }
    client_close(&c[1]);
    until(NULL, front_in_flight(f) == 1);
    ck_assert_int_eq(sent, 1);
    ask(&c[2], "/v1/chat/completions", CHAT "}");
    until(&c[2], front_in_flight(f) == 2);
    client_close(&c[0]);
    until(NULL, front_in_flight(f) == 1);
    ck_assert_int_eq(sent, 2);
    ck_assert_int_eq(last_type, WIRE_CANCEL);
    finish(1, "cancelled", "");
    ck_assert_int_eq(sent, 3);
    ck_assert_int_eq(last_type, WIRE_REQUEST);
    ck_assert_uint_eq(last_id(), 3);
    finish(3, "stop", "");
    until(&c[2], has(&c[2], " 200 "));
    client_close(&c[2]);
}
END_TEST

/* _i: whether it is streamed, to a client that does not read. */
START_TEST(an_answer_is_bounded)
{
    struct front_client c;
    char piece[1000];
    int said = 0;
    memset(piece, 'x', sizeof piece);
    client_open(&c);
    ask(&c, "/v1/chat/completions", _i ? CHAT ",\"stream\":true}" : CHAT "}");
    until(&c, sent == 1);
    while (said++ < 3000 && last_type != WIRE_CANCEL)
        say(1, piece, sizeof piece);
    ck_assert_int_eq(last_type, WIRE_CANCEL);
    ck_assert_int_eq(front_in_flight(f), 0);
    until(&c, _i ? c.closed || has(&c, "outgrew") : has(&c, " 500 ") && has(&c, "outgrew"));
    client_close(&c);
}
END_TEST

/* Each of its characters takes six as JSON. It is the answer's fault, and nobody's to ask again. */
START_TEST(a_whole_answer_is_bounded_as_it_is_written)
{
    struct front_client c;
    char piece[1000];
    memset(piece, 1, sizeof piece);
    serve_again("tiny", 3);
    client_open(&c);
    ask(&c, "/v1/chat/completions", CHAT ",\"n\":3}");
    for (int id = 1; id <= 3; id++) {
        until(&c, sent == id);
        for (int i = 0; i < 1000; i++)
            say((uint64_t)id, piece, sizeof piece);
        finish((uint64_t)id, "length", "");
    }
    until(&c, has(&c, " 500 ") && has(&c, "outgrew"));
    client_close(&c);
}
END_TEST

static int rank_refuses(void *user, enum wire_type type, const char *json)
{
    (void)user;
    (void)type;
    (void)json;
    return -ERR_RETRY;
}

START_TEST(a_rank_that_takes_nothing)
{
    struct front_client c;
    client_open(&c);
    front_set_rank(f, rank_refuses, NULL);
    ask(&c, "/v1/chat/completions", CHAT "}");
    until(&c, has(&c, " 503 ") && has(&c, "etry-"));
    ck_assert_int_eq(front_in_flight(f), 0);
    client_close(&c);
}
END_TEST

/* _i: 0 before the first token, 1 in the middle of a stream */
START_TEST(a_client_that_goes_cancels)
{
    struct front_client c;
    client_open(&c);
    ask(&c, "/v1/chat/completions", _i ? CHAT ",\"stream\":true}" : CHAT "}");
    until(&c, sent == 1);
    if (_i) {
        say(1, "a", 1);
        until(&c, has(&c, "\"content\":\"a\""));
    }
    client_close(&c);
    until(NULL, sent == 2);
    ck_assert_int_eq(last_type, WIRE_CANCEL);
    ck_assert_uint_eq(last_id(), 1);
    ck_assert_int_eq(front_in_flight(f), 0);
    say(1, "late", 4); /* what was on its way finds nobody */
    finish(1, "cancelled", "");
}
END_TEST

START_TEST(drains_and_loses_its_rank)
{
    struct front_client a, b;
    client_open(&a);
    ask(&a, "/v1/chat/completions", CHAT ",\"stream\":true}");
    until(&a, sent == 1);
    say(1, "a", 1);
    front_drain(f);
    client_open(&b);
    ask(&b, "/v1/chat/completions", CHAT "}");
    until(&b, has(&b, " 503 ") && has(&b, "draining"));
    ck_assert_int_eq(front_in_flight(f), 1);
    say(1, "b", 1); /* the accepted one goes on */
    finish(1, "stop", "");
    until(&a, has(&a, "[DONE]"));
    ck_assert_int_eq(front_ready(f, 100, WIRE_CALLS_NONE, &e), 0);
    buf_reset(&a.in);
    buf_reset(&b.in);
    ask(&a, "/v1/chat/completions", CHAT ",\"stream\":true}");
    until(&a, sent == 2);
    say(2, "a", 1);
    ask(&b, "/v1/chat/completions", CHAT "}");
    until(&b, front_in_flight(f) == 2);
    front_lost(f);
    until(&a, has(&a, "data: {\"error\":{\"message\":\"the model was stopped\""));
    until(&b, has(&b, " 503 "));
    ck_assert(!front_serving(f));
    ck_assert_int_eq(front_ready(f, 100, WIRE_CALLS_NONE, &e), 0); /* the next rank is free */
    buf_reset(&b.in);
    ask(&b, "/v1/chat/completions", CHAT "}");
    until(&b, sent == 3);
    client_close(&a);
    client_close(&b);
}
END_TEST

START_TEST(a_rank_error_is_an_answer)
{
    struct front_client c;
    client_open(&c);
    ask(&c, "/v1/chat/completions", CHAT "}");
    until(&c, sent == 1);
    finish(1, "error", "the prompt has 200 tokens, the context 100");
    until(&c, has(&c, " 400 ") && has(&c, "the prompt has 200 tokens"));
    ck_assert(has(&c, "\"param\":\"messages\""));
    client_close(&c);
    client_open(&c); /* an adapter that cannot be loaded is not the request's fault */
    ask(&c, "/v1/chat/completions", CHAT "}");
    until(&c, sent == 2);
    static char lacks[] = "{\"id\":2,\"reason\":\"error\",\"message\":\"b: no\",\"status\":503}";
    front_frame(f, &(struct wire_frame){WIRE_FINISHED, lacks, sizeof lacks - 1});
    until(&c, has(&c, " 503 ") && has(&c, "b: no"));
    client_close(&c);
}
END_TEST

START_TEST(tells_its_models_and_health)
{
    static const struct {
        const char *line, *header, *status, *text;
    } table[] = {
        {"GET /v1/models", KEY, " 200 ", "\"object\":\"list\""},
        {"GET /v1/models", KEY, " 200 ", "\"id\":\"org/tiny\""},
        {"GET /models", KEY, " 200 ", "\"object\":\"list\""},
        {"GET /models/org/tiny", KEY, " 200 ", "{\"id\":\"org/tiny\",\"object\":\"model\""},
        {"GET /modelsx", KEY, " 404 ", "\"param\":null"},
        {"GET /v1/models/org/tiny", KEY, " 200 ", "{\"id\":\"org/tiny\",\"object\":\"model\""},
        {"GET /v1/models/org%2Ftiny", KEY, " 200 ", "{\"id\":\"org/tiny\""},
        {"GET /v1/models/org", KEY, " 404 ", "\"code\":\"model_not_found\""},
        {"GET /v1/monitor", KEY, " 404 ", "nothing is watched: spec.serve.classify"},
        {"GET /v1/models/", KEY, " 404 ", "\"param\":\"model\""},
        {"GET /v1/modelsx", KEY, " 404 ", "\"param\":null"},
        {"GET /v1/models/org/tiny", "Accept: */*", " 401 ", "invalid_api_key"},
        {"DELETE /v1/models/org/tiny", KEY, " 405 ", "GET, HEAD"},
        {"GET /v1/completions", KEY, " 405 ", "POST"},
        {"GET /health", "Accept: */*", " 200 ", "{\"status\":\"ok\"}"},
    };
    serve_again("org/tiny", 2);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct front_client c;
        client_open(&c);
        send_head(&c, table[i].line, table[i].header);
        until(&c, has(&c, "}"));
        ck_assert_msg(has(&c, table[i].status) && has(&c, table[i].text), "%s: %s", table[i].line,
            buf_cstr(&c.in));
        client_close(&c);
    }
}
END_TEST

/* Kind: what the ecosystem expects. A browser asks first, without the key, and reads nothing that
 * does not name its origin, streams and errors included. */
START_TEST(pages_of_any_origin_may_ask)
{
    struct front_client c;
    client_open(&c);
    send_head(&c, "OPTIONS /v1/chat/completions",
        "Origin: https://x.example\r\nAccess-Control-Request-Method: POST\r\n"
        "Access-Control-Request-Headers: authorization,content-type,x-stainless-os");
    until(&c, has(&c, "\r\n\r\n"));
    ck_assert_msg(has(&c, " 204 ") && has(&c, "llow-") && has(&c, "rigin: *\r\n") &&
            has(&c, "ethods: GET, POST, OPTIONS\r\n") &&
            has(&c, "eaders: Authorization, Content-Type, *\r\n"),
        "%s", buf_cstr(&c.in));
    client_close(&c);
    client_open(&c);
    ask(&c, "/v1/chat/completions", "{");
    until(&c, has(&c, " 400 ") && has(&c, "rigin: *\r\n"));
    client_close(&c);
    client_open(&c);
    ask(&c, "/v1/chat/completions", CHAT ",\"stream\":true}");
    until(&c, sent == 1);
    say(last_id(), "a", 1);
    until(&c, has(&c, "text/event-stream") && has(&c, "rigin: *\r\n"));
    finish(last_id(), "stop", "");
    until(&c, has(&c, "[DONE]"));
    client_close(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("front");
    TCase *tc = tcase_create("front");
    tcase_add_checked_fixture(tc, setup, teardown);
    const TTest *const tests[] = {answers_a_chat_whole, streams_whole_characters,
        a_message_begins_with_what_its_prompt_took, streams_a_response, completes_a_prompt,
        refuses_with_the_right_status, refuses_before_the_body, needs_the_key_and_a_bounded_body,
        bounds_its_queue, the_rank_has_several, several_answers, renders, bounds_its_queue_in_bytes,
        the_gone_free_their_places, a_rank_that_takes_nothing, drains_and_loses_its_rank,
        a_rank_error_is_an_answer, tells_its_models_and_health, pages_of_any_origin_may_ask};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tc, tests[i]);
    tcase_add_loop_test(tc, several_answers_end_together, 0, 2);
    tcase_add_loop_test(tc, an_answer_is_bounded, 0, 2);
    tcase_add_test(tc, a_whole_answer_is_bounded_as_it_is_written);
    tcase_add_loop_test(tc, a_client_that_goes_cancels, 0, 2);
    tcase_set_timeout(tc, 30);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
