/*
 * stores: goal: what a client of OpenAI's sends to search becomes the rank's request, what is not
 * supported is refused by name, and the documents are told as a vector store. Method: bodies
 * beside frames and answers, by openai_read as the front calls it.
 * needs: faults
 */
#include "agent/stores.h"

#include "tests/unit.h"

#include <string.h>

static struct openai_conf conf = {.model = "m", .most_choices = 8, .documents = true};
static struct openai_refusal no;

static int read_search(const char *body, struct buf *frame)
{
    struct openai_request asked;
    buf_reset(frame);
    return openai_read(&conf, 7, OPENAI_SEARCH, 0, body, strlen(body), &asked, frame, &no);
}

START_TEST(a_search_becomes_the_ranks)
{
    buf_auto struct buf frame;
    buf_init(&frame, 4096);
    ck_assert_msg(!read_search("{\"query\":\"a b\"}", &frame), "%s", no.message);
    ck_assert_str_eq(buf_cstr(&frame),
        "{\"id\":7,\"search\":{\"query\":\"a b\",\"most\":10,\"threshold\":0,\"words\":1,"
        "\"vectors\":1}}");
    ck_assert(!read_search("{\"query\":[\"x\"],\"max_num_results\":3,\"ranking_options\":{"
                           "\"ranker\":\"auto\",\"score_threshold\":0.5,\"hybrid_search\":{"
                           "\"embedding_weight\":0,\"text_weight\":2}},\"rewrite_query\":false}",
        &frame));
    ck_assert_str_eq(buf_cstr(&frame),
        "{\"id\":7,\"search\":{\"query\":\"x\",\"most\":3,\"threshold\":0.5,\"words\":2,"
        "\"vectors\":0}}");
}
END_TEST

START_TEST(what_is_not_supported_is_named)
{
    static const struct {
        const char *body, *param;
    } cases[] = {{"{}", "query"}, {"{\"query\":\"\"}", "query"},
        {"{\"query\":[\"a\",\"b\"]}", "query"}, {"{\"query\":7}", "query"},
        {"{\"query\":\"a\",\"filters\":{\"type\":\"eq\"}}", "filters"},
        {"{\"query\":\"a\",\"rewrite_query\":true}", "rewrite_query"},
        {"{\"query\":\"a\",\"max_num_results\":51}", "max_num_results"},
        {"{\"query\":\"a\",\"model\":\"m\"}", "model"},
        {"{\"query\":\"a\",\"ranking_options\":7}", "ranking_options"},
        {"{\"query\":\"a\",\"ranking_options\":{\"ranker\":\"best\"}}", "ranking_options.ranker"},
        {"{\"query\":\"a\",\"ranking_options\":{\"hybrid_search\":7}}",
            "ranking_options.hybrid_search"},
        {"{\"query\":\"a\",\"ranking_options\":{\"hybrid_search\":{\"embedding_weight\":0,"
         "\"text_weight\":0}}}",
            "ranking_options.hybrid_search"},
        {"{\"query\":\"a\",\"ranking_options\":{\"hybrid_search\":{\"x\":0}}}",
            "ranking_options.hybrid_search.x"}};
    buf_auto struct buf frame;
    buf_init(&frame, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(read_search(cases[i].body, &frame), "%s", cases[i].body);
        ck_assert_str_eq(no.param, cases[i].param);
        ck_assert_int_eq(no.status, 400);
    }
    conf.documents = false;
    ck_assert(read_search("{\"query\":\"a\"}", &frame));
    ck_assert(no.status == 404 && strstr(no.message, "spec.serve.retrieval"));
    conf.does = WIRE_DOES_EMBED;
    ck_assert(read_search("{\"query\":\"a\"}", &frame));
    ck_assert_str_eq(no.code, "unsupported_task");
    conf.does = WIRE_DOES_GENERATE;
    conf.documents = true;
}
END_TEST

START_TEST(documents_are_a_vector_store)
{
    static const char text[] =
        "{\"files\":3,\"passed_over\":1,\"chunks\":40,\"bytes\":500,\"seconds\":0.5}";
    struct stores s = {.there = false};
    buf_auto struct buf out;
    buf_init(&out, 4096);
    ck_assert(!stores_write(&out, &s, "m", NULL, &no));
    ck_assert_str_eq(buf_cstr(&out),
        "{\"object\":\"list\",\"data\":[],\"first_id\":null,\"last_id\":null,\"has_more\":false}");
    ck_assert(stores_write(&out, &s, "m", STORES_ID, &no) && no.status == 404);
    stores_hear(&s, &(struct wire_frame){WIRE_INDEXED, text, sizeof text - 1});
    stores_hear(&s, &(struct wire_frame){WIRE_INDEXED, "{", 1}); /* says nothing */
    buf_reset(&out);
    ck_assert(!stores_write(&out, &s, "m", STORES_ID, &no));
    ck_assert_msg(strstr(buf_cstr(&out),
                      "{\"id\":\"vs_documents\",\"object\":\"vector_store\","
                      "\"name\":\"m\",\"status\":\"completed\",") &&
            strstr(buf_cstr(&out),
                "\"usage_bytes\":500,\"file_counts\":{\"in_progress\":0,"
                "\"completed\":3,\"failed\":1,\"cancelled\":0,\"total\":4}"),
        "%s", buf_cstr(&out));
    buf_reset(&out);
    ck_assert(!stores_write(&out, &s, "m", NULL, &no));
    ck_assert(strstr(buf_cstr(&out), "\"data\":[{\"id\":\"vs_documents\"") &&
        strstr(buf_cstr(&out), "\"first_id\":\"vs_documents\""));
    ck_assert(stores_write(&out, &s, "m", "vs_other", &no) && no.status == 404);
}
END_TEST

static int search_under_faults(void *user)
{
    buf_auto struct buf frame;
    (void)user;
    buf_init(&frame, 4096);
    if (!read_search("{\"query\":\"a\",\"ranking_options\":{\"ranker\":\"auto\"}}", &frame))
        return 0;
    ck_assert_msg(no.status == 503, "%d %s", no.status, no.message);
    return -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, search_under_faults, NULL);
}
END_TEST

UNIT_MAIN("stores", a_search_becomes_the_ranks, what_is_not_supported_is_named,
    documents_are_a_vector_store, out_of_memory)
