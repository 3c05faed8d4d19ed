/*
 * Goal: proofs of a secret are HMAC-SHA-256 over parts that cannot be confused with one another,
 * and a pod's token fits that pod alone. Method: a vector that Python's hmac gave for the
 * documented layout; lists of parts that join to the same bytes; bounds; a table of near misses.
 */
#include "base/secret.h"

#include "base/io.h"
#include "tests/unit.h"

#include <string.h>

static struct err e;

static const char *mac_of(const char *key, const struct secret_part *parts, size_t count)
{
    static char hex[4][2 * SECRET_MAC_BYTES + 1];
    static int next;
    uint8_t mac[SECRET_MAC_BYTES];
    ck_assert_msg(secret_mac(key, parts, count, mac, &e) == 0, "%s", e.text);
    next = (next + 1) % 4;
    io_hex(mac, sizeof mac, hex[next]);
    return hex[next];
}

/* hmac.new(b"Jefe", struct.pack("<I", 28) + b"what do ya want for nothing?", "sha256") */
START_TEST(a_known_vector)
{
    const struct secret_part part = SECRET_TEXT("what do ya want for nothing?");
    ck_assert_str_eq(mac_of("Jefe", &part, 1),
        "c9867ba1a547b71d336a70a3c0c4b9bcee431755aa6b8e906e9afc20f3148c5e");
}
END_TEST

START_TEST(lists_of_parts_are_not_confused)
{
    const struct secret_part one[] = {SECRET_TEXT("ab"), SECRET_TEXT("c")};
    const struct secret_part other[] = {SECRET_TEXT("a"), SECRET_TEXT("bc")};
    const struct secret_part joined[] = {SECRET_TEXT("abc"), SECRET_TEXT("")};
    const char *mac = mac_of("k", one, 2);
    ck_assert_str_ne(mac, mac_of("k", other, 2));
    ck_assert_str_ne(mac, mac_of("k", joined, 2));
    ck_assert_str_ne(mac, mac_of("q", one, 2));
    ck_assert_str_eq(mac, mac_of("k", one, 2));
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    static char text[SECRET_PARTS_BYTES];
    uint8_t mac[SECRET_MAC_BYTES] = {7};
    const struct secret_part fits = {text, sizeof text - 4}, more = {text, sizeof text - 3};
    const struct secret_part huge = {text, SIZE_MAX};
    ck_assert_int_eq(secret_mac("k", &fits, 1, mac, &e), 0);
    mac[0] = 7;
    ck_assert_int_eq(secret_mac("k", &more, 1, mac, &e), -ERR_DATA);
    ck_assert_int_eq(secret_mac("k", &huge, 1, mac, &e), -ERR_DATA);
    ck_assert_int_eq(mac[0], 7);
}
END_TEST

START_TEST(a_token_fits_one_pod)
{
    char a[SECRET_TOKEN_BYTES], b[SECRET_TOKEN_BYTES];
    ck_assert_int_eq(secret_of_pod("token", "u1", a, &e), 0);
    ck_assert_uint_eq(strlen(a), 64);
    ck_assert_int_eq(secret_of_pod("token", "u2", b, &e), 0);
    ck_assert_str_ne(a, b);
    ck_assert_int_eq(secret_of_pod("other", "u1", b, &e), 0);
    ck_assert_str_ne(a, b);
    ck_assert(secret_same(a, a, 64));
    ck_assert(!secret_same(a, b, 64));
}
END_TEST

START_TEST(only_the_whole_secret_passes)
{
    static const struct {
        const char *given, *secret;
        bool equal;
    } table[] = {
        {"s3cret", "s3cret", true},
        {"s3creT", "s3cret", false},
        {"s3cre", "s3cret", false},
        {"s3crets", "s3cret", false},
        {"", "s3cret", false},
        {NULL, "s3cret", false},
        {"", "", false},
        {NULL, "", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_int_eq(secret_equal(table[i].given, table[i].secret), table[i].equal);
}
END_TEST

START_TEST(a_bearer_has_its_scheme)
{
    static const struct {
        const char *header;
        bool passes;
    } table[] = {
        {"Bearer k", true},
        {"bearer k", true},
        {"Bearer  k", false},
        {"Bearer k ", false},
        {"Bearer", false},
        {"Bearer ", false},
        {"Basic k", false},
        {"k", false},
        {"Bearer kk", false},
        {"Bearerk", false},
        {"", false},
        {NULL, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_int_eq(secret_bearer(table[i].header, "k"), table[i].passes);
    ck_assert(!secret_bearer("Bearer ", ""));
}
END_TEST

UNIT_MAIN("secret", only_the_whole_secret_passes, a_bearer_has_its_scheme, a_known_vector,
    lists_of_parts_are_not_confused, what_does_not_fit_is_refused, a_token_fits_one_pod)
