/*
 * front: goal: whose requests wait for whom: keys take turns at the rank and in a full queue,
 * whatever another key has waiting, and a priority is heeded among one's own; and of those who go
 * away nothing is left, whenever they go. Method: as in test_front the test is the clients, of two
 * keys, and the rank.
 */
#include "base/random.h"
#include "tests/agent/fronts.h"
#include "tests/sample.h"

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

/* Each is thought to take 100, and a few of its body. */
START_TEST(a_queue_of_tokens)
{
    struct front_client c[3];
    max_tokens = 300;
    serve_again("tiny", 8);
    comes(&c[0], "key", ",\"max_tokens\":100", true);
    comes(&c[1], "key", ",\"max_tokens\":100", true);
    comes(&c[2], "key", ",\"max_tokens\":100", false);
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    max_tokens = 0;
}
END_TEST

/* -- clients that go away -- */

#define GONE      200
#define AT_ONCE   6
#define BODY_TEXT "{\"model\":\"tiny\",\"prompt\":\"hi\",\"stream\":true}"

static uint64_t held[64]; /* by the rank; each is cancelled, or ends */
static int held_count, cancelled;

static int rank_holds(void *user, enum wire_type type, const char *json)
{
    (void)user;
    uint64_t id = strtoull(json + 6, NULL, 10);
    if (type == WIRE_REQUEST) {
        ck_assert_int_lt(held_count, 64);
        held[held_count++] = id;
        return 0;
    }
    ck_assert_int_eq(type, WIRE_CANCEL);
    cancelled++;
    return 0;
}

/* What the rank does of its own: a token or an end for one of those that it has. */
static void rank_goes_on(uint64_t *random)
{
    if (!held_count)
        return;
    int i = (int)(random_next(random) % (uint64_t)held_count);
    say(held[i], "a", 1);
    if (random_next(random) % 3)
        return;
    uint64_t id = held[i];
    held[i] = held[--held_count];
    finish(id, "stop", "");
}

/* Of the bytes of a request as many as it comes to; all of them: it is read. */
static void sends_some(struct front_client *c, uint64_t *random)
{
    char text[512];
    int n = snprintf(text, sizeof text,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        "Content-Length: %zu\r\n\r\n" BODY_TEXT,
        random_next(random) % 2 ? "key" : "other", sizeof BODY_TEXT - 1);
    size_t all = (size_t)n, some = random_next(random) % (2 * all);
    some = some < all ? some : all;
    ck_assert_int_eq(some ? io_send_full(c->fd, text, some, clock_ms() + 1000, &e) : 0, 0);
}

/* While they connect, in the head, in the body, while they wait, before and within the answer:
   nothing is left of them, and the next is answered. */
START_TEST(hundreds_go_away)
{
    uint64_t seed = sample_setting("LLMJOB_SEED"), random = seed;
    struct front_client c[AT_ONCE];
    int asked = 0, waited = 0;
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    max_at_rank = 2;
    max_turns = 1;
    serve_again("tiny", 4);
    front_set_rank(f, rank_holds, NULL);
    for (int i = 0; i < AT_ONCE; i++)
        client_open(&c[i]);
    for (int i = 0; i < GONE; i++) {
        struct front_client *one = &c[random_next(&random) % AT_ONCE];
        sends_some(one, &random);
        for (uint64_t turns = random_next(&random) % 6; turns > 0; turns--) {
            turn(one);
            if (random_next(&random) % 2)
                rank_goes_on(&random);
        }
        asked += front_in_flight(f) > 0;
        waited += front_in_flight(f) > held_count;
        client_close(one);
        client_open(one);
    }
    for (int i = 0; i < AT_ONCE; i++)
        client_close(&c[i]);
    until(NULL, front_in_flight(f) == 0);
    ck_assert_msg(asked > GONE / 10 && cancelled > GONE / 30, "%d asked, %d waited, %d cancelled",
        asked, waited, cancelled);
    while (held_count) /* those that are cancelled end, too */
        finish(held[--held_count], "cancelled", "");
    ck_assert(metric_is(NAME_METRIC_WAITING " 0"));
    client_open(&c[0]);
    ask(&c[0], "/v1/completions", BODY_TEXT);
    until(&c[0], held_count == 1);
    say(held[0], "b", 1);
    finish(held[0], "stop", "");
    until(&c[0], has(&c[0], "[DONE]"));
    client_close(&c[0]);
    max_at_rank = 1;
    max_turns = 0;
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"front_turns", 30, setup, teardown},
        (const TTest *const[]){
            keys_take_turns, a_crowd_makes_room, a_queue_of_tokens, hundreds_go_away, NULL});
}
