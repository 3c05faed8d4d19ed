/*
 * Goal: a list of adapters that changes while requests are in flight: who was taken under an
 * earlier one has its adapter, by its path, whether it is at the rank or waits; who comes has what
 * is listed now; each rank that serves is told; and what the rank says of the list is reported when
 * it is of this one. Method: the test is the clients and the rank of a front.
 */
#include "agent/roster.h"
#include "tests/agent/fronts.h"

#define ADAPTERS(...) \
    (struct jobspec_served_adapter[]){__VA_ARGS__}, \
        (int)(sizeof(struct jobspec_served_adapter[]){__VA_ARGS__} / \
            sizeof(struct jobspec_served_adapter))

static struct roster roster;

static void begin(int64_t memory)
{
    struct jobspec_served_adapter both[] = {{"a", "/d/a"}, {"b", "/d/b"}};
    const struct jobspec_serve s = {.adapters = both, .adapter_count = 2, .adapter_memory = memory};
    ck_assert_int_eq(roster_init(&roster, &s, &e), 0);
    memset(both, 0, sizeof both); /* they are copied */
    listed = &roster;
    serve("tiny", 8);
}

static void end(void)
{
    teardown();
    ck_assert_int_eq(roster.versions, 1); /* no request is left that holds another */
    roster_done(&roster);
    ck_assert_int_eq(roster.versions, 0);
    listed = NULL;
}

static void asks(struct front_client *c, const char *model)
{
    char body[160];
    client_open(c);
    snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"hi\"}", model);
    int before = front_in_flight(f);
    ask(c, "/v1/completions", body);
    until(c, front_in_flight(f) > before || has(c, "HTTP/1.1 4"));
}

static bool hears(const char *adapter, const char *path)
{
    char text[96];
    snprintf(text, sizeof text, "\"adapter\":\"%s\",\"adapter_path\":\"%s\"", adapter, path);
    return last_type == WIRE_REQUEST && strstr(last_json, text);
}

/* The first is at the rank, the second waits, and both have an adapter that is listed no more. */
START_TEST(who_was_taken_ends_as_it_began)
{
    struct front_client c[6];
    begin(1 << 20);
    asks(&c[0], "a");
    ck_assert(hears("a", "/d/a"));
    asks(&c[1], "a");
    ck_assert_int_eq(sent, 1);
    ck_assert_int_eq(roster_change(&roster, ADAPTERS({"b", "/d/c"}, {"n", "/d/n"}), &e), 0);
    ck_assert(sent == 2 && last_type == WIRE_LISTED);
    ck_assert_str_eq(last_json,
        "{\"list\":1,\"adapters\":[{\"name\":\"b\",\"path\":\"/d/c\"},{\"name\":\"n\",\"path\":"
        "\"/d/n\"}]}");
    asks(&c[2], "a");
    ck_assert(has(&c[2], " 404 ") && has(&c[2], "model_not_found"));
    asks(&c[3], "b");
    asks(&c[4], "n");
    client_open(&c[5]);
    send_head(&c[5], "GET /v1/models", "Authorization: Bearer key");
    until(&c[5], has(&c[5], "\"n\""));
    ck_assert(has(&c[5], "\"b\"") && !has(&c[5], "\"a\""));
    ck_assert_int_eq(roster.versions, 2);
    finish(1, "stop", "");
    ck_assert(hears("a", "/d/a"));
    finish(2, "stop", "");
    ck_assert(hears("b", "/d/c"));
    ck_assert_int_eq(roster.versions, 1);
    finish(last_id(), "stop", "");
    ck_assert(hears("n", "/d/n"));
    finish(last_id(), "stop", "");
    for (int i = 0; i < 2; i++)
        until(&c[i], has(&c[i], " 200 ") && has(&c[i], "\"model\":\"a\""));
    for (int i = 0; i < 6; i++)
        client_close(&c[i]);
    end();
}
END_TEST

/* The present one of the job file is known to a rank that begins; another is told to each. */
START_TEST(each_rank_is_told)
{
    begin(1 << 20);
    ck_assert_int_eq(sent, 0);
    front_lost(f);
    ck_assert_int_eq(roster_change(&roster, ADAPTERS({"n", "/d/n"}), &e), 0);
    ck_assert_int_eq(sent, 0); /* nobody is there */
    ck_assert_int_eq(front_ready(f, 100, WIRE_CALLS_NONE, &e), 0);
    ck_assert(sent == 1 && last_type == WIRE_LISTED && strstr(last_json, "\"list\":1,"));
    ck_assert_int_eq(roster_change(&roster, NULL, 0, &e), 0);
    ck_assert_str_eq(last_json, "{\"list\":2,\"adapters\":[]}");
    end();
}
END_TEST

static void rank_says(int list, int unseen, const char *wrong)
{
    char json[160];
    int n = snprintf(json, sizeof json, "{\"loaded\":0,\"list\":%d,\"unseen\":%d,\"wrong\":\"%s\"}",
        list, unseen, wrong);
    front_frame(f, &(struct wire_frame){WIRE_ADAPTERS, json, (uint32_t)n});
}

static struct report reported(void)
{
    struct report r;
    report_init(&r);
    roster_report(&roster, &r);
    return r;
}

START_TEST(what_the_rank_says_of_this_list_is_reported)
{
    const struct jobspec_served_adapter both[] = {{"a", "/d/a"}, {"b", "/d/b"}};
    begin(1 << 20);
    ck_assert_int_eq(reported().adapters_list, 0);
    rank_says(0, 1, "b: no such folder");
    ck_assert_int_eq(reported().adapters_list, 0);
    rank_says(0, 0, "b: no such folder");
    ck_assert_int_eq(reported().adapters_list, report_adapters(both, 2));
    ck_assert_str_eq(reported().adapters_wrong, "b: no such folder");
    ck_assert_int_eq(roster_change(&roster, both, 1, &e), 0);
    ck_assert(reported().adapters_list == 0 && !*reported().adapters_wrong);
    rank_says(1, 0, "");
    ck_assert_int_eq(reported().adapters_list, report_adapters(both, 1));
    ck_assert_int_ne(report_adapters(both, 1), report_adapters(both, 2));
    front_lost(f);
    ck_assert_int_eq(reported().adapters_list, 0);
    end();
    begin(0); /* all are there from the start, and no list is ever told */
    rank_says(0, 0, "");
    ck_assert_int_eq(reported().adapters_list, 0);
    struct front_client c;
    asks(&c, "b");
    ck_assert(strstr(last_json, "\"adapter\":\"b\"") && !strstr(last_json, "adapter_path"));
    client_close(&c);
    turn(NULL);
    until(NULL, !front_in_flight(f));
    end();
}
END_TEST

START_TEST(versions_are_bounded)
{
    struct roster_list *held[ROSTER_VERSIONS];
    begin(1 << 20);
    for (int i = 1; i < ROSTER_VERSIONS; i++) { /* each of them has a request */
        held[i] = roster_hold(&roster);
        ck_assert_int_eq(roster_change(&roster, ADAPTERS({"n", "/d/n"}), &e), 0);
    }
    ck_assert_int_eq(roster_change(&roster, ADAPTERS({"m", "/d/m"}), &e), -ERR_RETRY);
    ck_assert_str_eq(roster_now(&roster)->adapters[0].name, "n");
    roster_release(held[1]);
    ck_assert_int_eq(roster_change(&roster, ADAPTERS({"m", "/d/m"}), &e), 0);
    ck_assert_str_eq(held[2]->adapters[0].name, "n");
    for (int i = 2; i < ROSTER_VERSIONS; i++)
        roster_release(held[i]);
    end();
}
END_TEST

UNIT_MAIN("roster", who_was_taken_ends_as_it_began, each_rank_is_told,
    what_the_rank_says_of_this_list_is_reported, versions_are_bounded)
