/*
 * keys: goal: each line of a Secret is a key with its weight, what is no such line is refused by
 * its number, and two keys have no salt in common unless they name it. The kind: a list that is
 * half read, and one tenant who learns from the cache what another has asked. Method: tables.
 */
#include "agent/keys.h"

#include "tests/unit.h"

#include <string.h>

static struct api_keys k;
static struct err e;

static int read_text(const char *text)
{
    e = (struct err){0};
    return keys_read(text, strlen(text), &k, &e);
}

START_TEST(a_line_is_a_key)
{
    ck_assert_int_eq(read_text("one"), 0);
    ck_assert(k.count == 1 && keys_weight(&k, 0) == 1);
    ck_assert_int_eq(read_text("one\r\n\n  \ntwo weight=3 \nthree\tweight=100\n"), 0);
    ck_assert_int_eq(k.count, 3);
    ck_assert(keys_weight(&k, 0) == 1 && keys_weight(&k, 1) == 3 && keys_weight(&k, 2) == 100);
    ck_assert_int_eq(keys_find(&k, "Bearer one", NULL), 0);
    ck_assert_int_eq(keys_find(&k, "bearer two", NULL), 1);
    ck_assert_int_eq(keys_find(&k, "Bearer three", NULL), 2);
    ck_assert_int_eq(keys_find(&k, NULL, "two"), 1);
    ck_assert_int_eq(keys_find(&k, "Bearer no", "two"), 1);
    ck_assert_int_eq(keys_find(&k, NULL, "Bearer two"), -1);
    static const char *const others[] = {
        NULL, "", "one", "Bearer ", "Bearer tw", "Bearer two ", "Bearer two weight=3", "Basic one"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_int_eq(keys_find(&k, others[i], NULL), -1);
}
END_TEST

START_TEST(without_keys_everybody_is_one)
{
    static const struct api_keys none;
    ck_assert_int_eq(keys_find(&none, NULL, NULL), 0);
    ck_assert_int_eq(keys_find(&none, "Bearer any", NULL), 0);
    ck_assert_int_eq(keys_weight(&none, 0), 1);
}
END_TEST

START_TEST(what_is_no_key_is_refused)
{
    static const struct {
        const char *text, *says;
    } table[] = {
        {"", "there is none"},
        {"\n \r\n", "there is none"},
        {"one\ntwo 3", "line 2: behind a key"},
        {"one weight=0", "line 1: behind a key"},
        {"one weight=101", "line 1: behind a key"},
        {"one weight=-1", "line 1: behind a key"},
        {"one weight=1x", "line 1: behind a key"},
        {"one weight=99999999999999999999", "line 1: behind a key"},
        {" one", "line 1: a key has 1 to 255"},
        {"one\n\none weight=2", "line 3: the key is there twice"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_int_eq(read_text(table[i].text), -ERR_USER);
        ck_assert_msg(strstr(e.text, table[i].says), "%s: %s", table[i].text, e.text);
    }
    ck_assert_int_eq(keys_read("a\0b", 3, &k, &e), -ERR_USER);
    char text[400];
    memset(text, 'x', sizeof text);
    text[255] = 0;
    ck_assert_int_eq(read_text(text), 0);
    text[255] = 'x', text[256] = 0;
    ck_assert_int_eq(read_text(text), -ERR_USER);
    text[256] = 'x', text[399] = 0;
    ck_assert_int_eq(read_text(text), -ERR_USER);
    char many[LIMIT_API_KEYS * 4 + 5];
    for (int i = 0; i <= LIMIT_API_KEYS; i++)
        snprintf(many + (size_t)i * 4, 5, "%03d\n", i);
    ck_assert_int_eq(read_text(many), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "there may be 64"));
    many[sizeof many - 5] = 0;
    ck_assert_int_eq(read_text(many), 0);
    ck_assert_int_eq(k.count, LIMIT_API_KEYS);
}
END_TEST

START_TEST(salts_differ_unless_they_are_named)
{
    static const struct api_keys none;
    char a[KEYS_SALT_BYTES], b[KEYS_SALT_BYTES], again[KEYS_SALT_BYTES], was[KEYS_SALT_BYTES];
    ck_assert_int_eq(read_text("one\ntwo"), 0);
    ck_assert_int_eq(keys_salt(&k, 0, NULL, a, &e), 0);
    ck_assert_int_eq(keys_salt(&k, 1, NULL, b, &e), 0);
    ck_assert_int_eq(keys_salt(&k, 0, NULL, again, &e), 0);
    ck_assert_uint_eq(strlen(a), 16);
    ck_assert_str_eq(a, again);
    ck_assert_str_ne(a, b);
    ck_assert_int_eq(keys_salt(&k, 1, "one", again, &e), 0); /* a name is no key */
    ck_assert_str_ne(a, again);
    ck_assert_int_eq(keys_salt(&k, 0, "one", b, &e), 0);
    ck_assert_str_eq(b, again);
    memcpy(was, a, sizeof was);
    ck_assert_int_eq(read_text("one\ntwo"), 0); /* of another process */
    ck_assert_int_eq(keys_salt(&k, 0, NULL, a, &e), 0);
    ck_assert_str_ne(a, was);
    ck_assert_int_eq(keys_salt(&none, 0, NULL, a, &e), 0);
    ck_assert_str_eq(a, "");
    ck_assert_int_eq(keys_salt(&none, 0, "x", a, &e), 0);
    ck_assert_uint_eq(strlen(a), 16);
}
END_TEST

UNIT_MAIN("keys", a_line_is_a_key, without_keys_everybody_is_one, what_is_no_key_is_refused,
    salts_differ_unless_they_are_named)
