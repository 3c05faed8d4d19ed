/*
 * Goal: an address is read as it was written, and what is none is refused.
 * Method: a table of texts with the host and port that each stands for; what is written again is
 * read as the same.
 */
#include "base/net.h"

#include "tests/unit.h"

#include <string.h>

START_TEST(addresses_are_read_and_written)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        const char *written; /* NULL: as text */
    } good[] = {
        {"10.0.0.7:7070", "10.0.0.7", 7070, NULL},
        {"[fd00::7]:7070", "fd00::7", 7070, NULL},
        {"fd00::7:80", "fd00::7", 80, "[fd00::7]:80"},
        {"name.of.a.host:0", "name.of.a.host", 0, NULL},
        {"[host]:65535", "host", 65535, "host:65535"},
        {":8080", "", 8080, NULL},
        {"[]:8080", "", 8080, ":8080"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct net_address a;
        char text[NET_TEXT_BYTES];
        ck_assert_msg(net_parse(good[i].text, &a), "%s", good[i].text);
        ck_assert_str_eq(a.host, good[i].host);
        ck_assert_uint_eq(a.port, good[i].port);
        net_write(a.host, a.port, text);
        ck_assert_str_eq(text, good[i].written ? good[i].written : good[i].text);
    }
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
    static const char *const bad[] = {"", "host", "host:", "host:x", "host:80x", "host: 80",
        "host:-1", "host:+1", "host:65536", "host:99999999999999999999", ":"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct net_address a = {.host = "kept", .port = 1};
        ck_assert_msg(!net_parse(bad[i], &a), "\"%s\"", bad[i]);
        ck_assert_str_eq(a.host, "kept");
    }
    char longest[NET_HOST_BYTES + 8];
    memset(longest, 'a', sizeof longest);
    struct net_address a;
    memcpy(longest + NET_HOST_BYTES - 1, ":80", 4);
    ck_assert(net_parse(longest, &a));
    memcpy(longest + NET_HOST_BYTES - 1, "a:80", 5);
    ck_assert(!net_parse(longest, &a));
}
END_TEST

START_TEST(who_listens_everywhere_is_reached_by_loopback)
{
    ck_assert_str_eq(net_near("0.0.0.0"), "127.0.0.1");
    ck_assert_str_eq(net_near("::"), "127.0.0.1");
    ck_assert_str_eq(net_near("::1"), "::1");
    ck_assert_str_eq(net_near("10.0.0.7"), "10.0.0.7");
}
END_TEST

UNIT_MAIN("net", addresses_are_read_and_written, what_is_no_address_is_refused,
    who_listens_everywhere_is_reached_by_loopback)
