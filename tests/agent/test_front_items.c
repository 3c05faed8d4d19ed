/*
 * front: goal: requests to a model that reads whole texts become what the rank reads, and the
 * elements that it says an answer, longer than a text may be; what the model does not do is
 * refused, a client that goes frees its place, and texts are counted. Method: as test_front.c.
 */
#include "tests/unit.h"

#include "tests/agent/fronts.h"

static void finish_reading(uint64_t id, int items)
{
    char json[160];
    int n = snprintf(json, sizeof json,
        "{\"id\":%llu,\"reason\":\"stop\",\"prompt_tokens\":7,\"completion_tokens\":0,"
        "\"items\":%d,\"recommended\":%d}",
        (unsigned long long)id, items, items + 1);
    front_frame(f, &(struct wire_frame){WIRE_FINISHED, json, (uint32_t)n});
}

START_TEST(reads_texts)
{
    struct front_client c;
    buf_auto struct buf metrics;
    buf_init(&metrics, 1 << 16);
    char numbers[3000]; /* 600 times: more than a text of an answer may have */
    memset(numbers, ' ', sizeof numbers);
    front_does(f, WIRE_DOES_EMBED, (struct openai_members){2, 3});
    client_open(&c);
    ask(&c, "/v1/embeddings", "{\"model\":\"tiny\",\"input\":[\"a\",\"b\"]}");
    until(&c, sent == 1);
    ck_assert_str_eq(
        last_json, "{\"id\":1,\"read\":\"embed\",\"base64\":false,\"input\":[\"a\",\"b\"]}");
    say(1, "{\"index\":0}", 11);
    say(1, ",{\"index\":1", 11);
    for (int i = 0; i < 600; i++)
        say(1, numbers, sizeof numbers);
    say(1, "}", 1);
    finish_reading(1, 2);
    until(&c, has(&c, "}]}"));
    ck_assert(has(&c, "HTTP/1.1 200") && has(&c, "\"data\":[{\"index\":0},{\"index\":1 ") &&
        has(&c, "{\"prompt_tokens\":7,\"total_tokens\":7}"));
    ck_assert(has(&c, "\"llmjob\":{\"members\":2,\"of\":3}"));
    client_close(&c);
    metric_print(&metrics);
    ck_assert(strstr(buf_cstr(&metrics), "\n" NAME_METRIC_MEMBERS " 2\n") &&
        strstr(buf_cstr(&metrics), "\n" NAME_METRIC_MISSING " 1\n"));
    ck_assert_msg(strstr(buf_cstr(&metrics), "\n" NAME_METRIC_ITEMS " 2\n") &&
            strstr(buf_cstr(&metrics), "\n" NAME_METRIC_ITEM_TOKENS " 7\n") &&
            strstr(buf_cstr(&metrics), "\n" NAME_METRIC_RECOMMENDED " 3\n"),
        "%s", buf_cstr(&metrics));
    client_open(&c);
    ask(&c, "/v1/chat/completions", CHAT "}");
    until(&c, has(&c, " 400 ") && has(&c, "embeds texts"));
    client_close(&c);
    client_open(&c);
    ask(&c, "/v2/rerank", "{\"model\":\"tiny\",\"query\":\"a\",\"documents\":[\"b\"]}");
    until(&c, sent == 2);
    client_close(&c); /* goes away */
    until(NULL, sent == 3 && last_type == WIRE_CANCEL);
    ck_assert_int_eq(front_in_flight(f), 0);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"front_items", 30, setup, teardown},
        (const TTest *const[]){reads_texts, NULL});
}
