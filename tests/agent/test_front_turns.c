/*
 * front: goal: whose requests wait for whom: keys take turns at the rank and in a full queue,
 * whatever another key has waiting, and a priority is heeded among one's own. Method: as in
 * test_front the test is the clients, of two keys, and the rank.
 */
#include "tests/agent/fronts.h"

/* Opens another client of a key that asks, and waits until it is taken or refused. */
static void comes(struct front_client *c, const char *key, const char *more, bool taken)
{
    char body[256];
    int before = front_in_flight(f);
    client_open(c);
    as_key = key;
    snprintf(body, sizeof body, CHAT "%s}", more);
    ask(c, "/v1/chat/completions", body);
    as_key = "key";
    if (taken)
        until(c, front_in_flight(f) == before + 1);
    else
        until(c, has(c, " 429 "));
}

/* One place at the rank and one for another's turn. Then the rank's places go by turns, not by age;
   a key's most urgent goes first. */
START_TEST(keys_take_turns)
{
    struct front_client c[6];
    max_turns = 1;
    serve_again("tiny", 8);
    for (int i = 0; i < 3; i++)
        comes(&c[i], "key", ",\"max_tokens\":1", true);
    ck_assert_int_eq(sent, 1);
    ck_assert_ptr_nonnull(strstr(last_json, "\"key\":0,\"weight\":1,\"salt\":\""));
    comes(&c[3], "other", ",\"max_tokens\":1,\"priority\":3", true);
    ck_assert(sent == 2 && last_id() == 4); /* it has none there */
    ck_assert_ptr_nonnull(strstr(last_json, "\"priority\":3,\"key\":1,\"weight\":2,\"salt\":\""));
    comes(&c[4], "other", ",\"max_tokens\":1", true);
    comes(&c[5], "other", ",\"max_tokens\":1,\"priority\":-1", true);
    ck_assert_int_eq(sent, 2);
    finish(4, "stop", "");
    ck_assert(sent == 3 && last_id() == 6);
    static const uint64_t order[] = {1, 6, 5, 2, 3};
    for (int i = 0; i < 5; i++)
        finish(order[i], "stop", "");
    ck_assert(sent == 6 && front_in_flight(f) == 0);
    for (int i = 0; i < 6; i++)
        client_close(&c[i]);
    max_turns = 0;
}
END_TEST

/* A key has the whole queue; another's request has a place all the same, and the newest of those
   that wait is told to come again. */
START_TEST(a_crowd_makes_room)
{
    struct front_client c[6];
    serve_again("tiny", 3);
    for (int i = 0; i < 3; i++)
        comes(&c[i], "key", "", true);
    comes(&c[3], "key", "", false);
    client_open(&c[4]);
    as_key = "other";
    ask(&c[4], "/v1/chat/completions", CHAT "}");
    until(&c[2], has(&c[2], " 429 ") && has(&c[2], "queue_full") && has(&c[2], "etry-"));
    ck_assert_int_eq(front_in_flight(f), 3);
    as_key = "key";
    comes(&c[5], "key", "", false);
    finish(1, "stop", "");
    until(&c[0], has(&c[0], " 200 "));
    finish(last_id(), "stop", "");
    finish(last_id(), "stop", "");
    until(&c[4], has(&c[4], " 200 "));
    ck_assert_int_eq(front_in_flight(f), 0);
    for (int i = 0; i < 6; i++)
        client_close(&c[i]);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"front_turns", 30, setup, teardown},
        (const TTest *const[]){keys_take_turns, a_crowd_makes_room, NULL});
}
