/*
 * readings: goal: what is only looked at is answered by the agent itself; and with documents an
 * answer has what it cites, whole or in the last event of a stream, in each of OpenAI's forms.
 * Method: as test_front.c.
 */
#include "agent/readings.h"

#include "tests/unit.h"

#include "tests/agent/fronts.h"

static void look(struct front_client *c, const char *path)
{
    char text[256];
    client_open(c);
    int n = snprintf(text, sizeof text,
        "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\nConnection: close\r\n\r\n",
        path);
    ck_assert_int_eq(send(c->fd, text, (size_t)n, MSG_NOSIGNAL), n);
    until(c, c->closed);
}

static void index_some(void)
{
    static const char text[] =
        "{\"files\":2,\"passed_over\":0,\"chunks\":9,\"bytes\":70,\"seconds\":0.25}";
    front_frame(f, &(struct wire_frame){WIRE_INDEXED, text, sizeof text - 1});
}

static void finish_citing(uint64_t id)
{
    static const char cited[] = "[{\\\"type\\\":\\\"file_citation\\\",\\\"quote\\\":\\\"x\\\"}]";
    char json[300];
    int n = snprintf(json, sizeof json,
        "{\"id\":%llu,\"reason\":\"stop\",\"prompt_tokens\":7,\"completion_tokens\":1,"
        "\"searched\":0.5,\"annotations\":\"%s\"}",
        (unsigned long long)id, cited);
    front_frame(f, &(struct wire_frame){WIRE_FINISHED, json, (uint32_t)n});
}

START_TEST(stores_models_and_the_description_are_told)
{
    struct front_client c;
    ck_assert(readings_has("/v1/models/x") && readings_has("/v1/vector_stores") &&
        readings_has("/health") && !readings_has("/v1/modelsx") && !readings_has("/"));
    look(&c, "/v1/vector_stores/vs_documents");
    ck_assert(has(&c, " 404 "));
    client_close(&c);
    index_some();
    static const struct {
        const char *path, *text;
    } cases[] = {{"/v1/vector_stores/vs_documents", "\"completed\":2,"},
        {"/v1/vector_stores", "\"data\":[{\"id\":\"vs_documents\""},
        {"/v1/models", "\"data\":[{\"id\":\"tiny\""}, {"/v1/models/other", " 404 "},
        {"/openapi.json", "/v1/vector_stores/vs_documents/search"}, {"/health", "\"ok\""},
        {"/v1/vector_stores/vs_documents/search", " 405 "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        look(&c, cases[i].path);
        ck_assert_msg(has(&c, cases[i].text), "%s: %s", cases[i].path, buf_cstr(&c.in));
        client_close(&c);
    }
}
END_TEST

START_TEST(a_search_is_answered_by_the_rank)
{
    struct front_client c;
    buf_auto struct buf metrics;
    buf_init(&metrics, 1 << 16);
    index_some();
    client_open(&c);
    ask(&c, "/v1/vector_stores/vs_documents/search", "{\"query\":\"q\"}");
    until(&c, sent == 1);
    ck_assert_msg(strstr(last_json, "\"search\":{\"query\":\"q\""), "%s", last_json);
    say(1, "{\"data\":[]}", 11);
    finish_citing(1);
    until(&c, has(&c, "{\"data\":[]}"));
    client_close(&c);
    metric_print(&metrics);
    ck_assert(strstr(buf_cstr(&metrics), "\n" NAME_METRIC_SEARCHES "_sum 0.500\n") &&
        strstr(buf_cstr(&metrics), "\n" NAME_METRIC_CHUNKS " 9\n"));
}
END_TEST

#define CITED "\"annotations\":[{\"type\":\"file_citation\",\"quote\":\"x\"}]"

static void check_cited(const char *path, const char *body, const char *cited)
{
    struct front_client c;
    sent = 0;
    client_open(&c);
    ask(&c, path, body);
    until(&c, sent == 1);
    uint64_t id = last_id();
    say(id, "word", 4);
    finish_citing(id);
    until(&c, has(&c, cited));
    ck_assert(has(&c, "word"));
    client_close(&c);
    until(NULL, front_in_flight(f) == 0);
}

START_TEST(answers_have_what_they_cite)
{
    check_cited("/v1/chat/completions", CHAT "}",
        "\"message\":{\"role\":\"assistant\",\"content\":\"word\"," CITED "}");
    check_cited("/v1/chat/completions", CHAT ",\"stream\":true}", "\"delta\":{" CITED "}");
    check_cited(
        "/v1/responses", "{\"model\":\"tiny\",\"input\":\"a\"}", "\"text\":\"word\"," CITED);
    check_cited("/v1/responses", "{\"model\":\"tiny\",\"input\":\"a\",\"stream\":true}",
        "\"part\":{\"type\":\"output_text\",\"text\":\"word\"," CITED);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"readings", 30, setup, teardown},
        (const TTest *const[]){stores_models_and_the_description_are_told,
            a_search_is_answered_by_the_rank, answers_have_what_they_cite, NULL});
}
