/*
 * Goal: what goes on from one beginning is for one replica, by whichever API it comes, and what
 * begins otherwise, or may not share a cache, is for any; all are for about as many; and a replica
 * that comes or goes moves only what is its own. Method: requests through openai_read, tables of
 * pairs; 5,000 drawn numbers.
 */
#include "agent/route.h"

#include "base/random.h"
#include "tests/unit.h"

#include <string.h>

static struct api_keys keys;
static const struct jobspec_served_adapter adapters[] = {{.name = "a", .path = "/a"}};

static uint64_t prefix_by(const char *path, int key, const char *body)
{
    const struct openai_conf conf = {.model = "m",
        .most_choices = 8,
        .adapters = adapters,
        .adapter_count = 1,
        .keys = &keys,
        .key = key};
    struct openai_request r;
    struct openai_refusal why;
    buf_auto struct buf frame;
    buf_init(&frame, 1 << 20);
    ck_assert_msg(
        !openai_read(&conf, 1, openai_place_of(path), 0, body, strlen(body), &r, &frame, &why),
        "%s: %s", body, why.message);
    return r.prefix;
}

#define CHAT     "/v1/chat/completions"
#define TEXT     "/v1/completions"
#define SYSTEM   "{\"role\":\"system\",\"content\":\"Be brief.\"}"
#define USER(x)  "{\"role\":\"user\",\"content\":\"" x "\"}"
#define SAID(x)  ",{\"role\":\"assistant\",\"content\":\"" x "\"}," USER("go on")
#define MANY(x)  x x x x x x x x
#define LONG     MANY(MANY("0123456789")) /* 640 bytes */
#define ASKED(x) "{\"model\":\"m\",\"messages\":[" x "]"

START_TEST(a_beginning_is_one_number)
{
    static const struct {
        bool same;
        const char *path, *body, *other_path, *other;
    } table[] = {
        {true, CHAT, ASKED(SYSTEM "," USER("hi")) "}", CHAT,
            ASKED(SYSTEM "," USER("hi") SAID("ho")) ",\"max_tokens\":3,\"stream\":true}"},
        {true, CHAT, ASKED(SYSTEM "," USER("hi")) "}", "/v1/messages",
            "{\"model\":\"m\",\"max_tokens\":9,\"system\":\"Be brief.\",\"messages\":[" USER("hi")
                SAID("ho") "]}"},
        {true, CHAT, ASKED(USER("hi")) "}", "/v1/responses", "{\"model\":\"m\",\"input\":\"hi\"}"},
        {true, CHAT, ASKED(USER("hi")) "}", CHAT,
            ASKED("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}") "}"},
        {true, TEXT, "{\"model\":\"m\",\"prompt\":\"" LONG "a\"}", TEXT,
            "{\"model\":\"m\",\"prompt\":\"" LONG "b\"}"},
        {true, TEXT, "{\"model\":\"m\",\"prompt\":[\"x\",\"y\"]}", TEXT,
            "{\"model\":\"m\",\"prompt\":\"x\"}"},
        {true, TEXT, "{\"model\":\"m\",\"prompt\":[1,2]}", TEXT,
            "{\"model\":\"m\",\"prompt\":[[1,2],[3]]}"},
        {false, TEXT, "{\"model\":\"m\",\"prompt\":[1,2]}", TEXT,
            "{\"model\":\"m\",\"prompt\":[1,3]}"},
        {false, TEXT, "{\"model\":\"m\",\"prompt\":\"x\"}", TEXT,
            "{\"model\":\"a\",\"prompt\":\"x\"}"},
        {false, TEXT, "{\"model\":\"m\",\"prompt\":\"x\"}", TEXT,
            "{\"model\":\"m\",\"prompt\":\"xy\"}"},
        {false, CHAT, ASKED(SYSTEM "," USER("hi")) "}", CHAT, ASKED(USER("hi")) "}"},
        {false, CHAT, ASKED(SYSTEM "," USER("hi")) "}", CHAT, ASKED(SYSTEM "," USER("ho")) "}"},
        {false, CHAT, ASKED(USER("hi")) "}", CHAT, ASKED(USER("hi")) ",\"cache_salt\":\"s\"}"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint64_t a = prefix_by(table[i].path, 0, table[i].body);
        uint64_t b = prefix_by(table[i].other_path, 0, table[i].other);
        ck_assert_msg(a && (a == b) == table[i].same, "%s and %s", table[i].body, table[i].other);
    }
    static const char rendered[] = "{\"model\":\"m\",\"prompt\":\"x\"}";
    ck_assert_uint_eq(prefix_by("/tokenize", 0, rendered), 0);
}
END_TEST

/* As in the cache: a key finds what it has computed, or who names the same salt. */
START_TEST(keys_have_numbers_of_their_own)
{
    static const char two[] = "one\ntwo\n", asked[] = "{\"model\":\"m\",\"prompt\":\"x\"}";
    static const char salted[] = "{\"model\":\"m\",\"prompt\":\"x\",\"cache_salt\":\"s\"}";
    struct err e = {0};
    ck_assert_int_eq(keys_read(two, strlen(two), &keys, &e), 0);
    ck_assert_uint_ne(prefix_by(TEXT, 0, asked), prefix_by(TEXT, 1, asked));
    ck_assert_uint_eq(prefix_by(TEXT, 0, salted), prefix_by(TEXT, 1, salted));
}
END_TEST

#define NAMES   5
#define NUMBERS 5000

START_TEST(who_comes_or_goes_moves_its_own)
{
    static const char *const names[NAMES] = {"j-0", "j-1", "j-2", "j-3", "j-4"};
    static const char *const without[] = {"j-0", "j-1", "j-3", "j-4"};
    uint64_t state = 1;
    int had[NAMES] = {0};
    for (int i = 0; i < NUMBERS; i++) {
        uint64_t prefix = random_next(&state);
        int pick = route_pick(prefix, names, NAMES);
        had[pick]++;
        if (pick != 2)
            ck_assert_str_eq(without[route_pick(prefix, without, NAMES - 1)], names[pick]);
    }
    for (int i = 0; i < NAMES; i++)
        ck_assert_msg(abs(had[i] - NUMBERS / NAMES) < NUMBERS / NAMES / 5, "%d: %d", i, had[i]);
}
END_TEST

UNIT_MAIN("route", a_beginning_is_one_number, keys_have_numbers_of_their_own,
    who_comes_or_goes_moves_its_own)
