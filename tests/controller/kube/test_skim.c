/*
 * Goal: an object that no parser takes still tells its names, and what nobody needs of an object
 * costs nothing and breaks nothing: one stranger's object must not hide all others. Method: tables
 * of texts with what is read and what is left of them; every text cut short at every byte.
 */
#include "controller/kube/skim.h"

#include "base/json.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define DEEP_8  "[[[[[[[["
#define DEEP_64 DEEP_8 DEEP_8 DEEP_8 DEEP_8 DEEP_8 DEEP_8 DEEP_8 DEEP_8
#define SHUT_8  "]]]]]]]]"
#define SHUT_64 SHUT_8 SHUT_8 SHUT_8 SHUT_8 SHUT_8 SHUT_8 SHUT_8 SHUT_8

static const struct {
    const char *text, *name, *namespace_, *uid, *version, *left;
} objects[] = {
    {"{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a-0\",\"namespace\":\"n\",\"uid\":\"u-1\","
     "\"resourceVersion\":\"17\"},\"spec\":{\"name\":\"no\"}}",
        "a-0", "n", "u-1", "17", NULL},
    /* what the parser refuses stands in what is cut */
    {"{\"metadata\":{\"annotations\":{\"a\":\"\\u0000\"},\"name\":\"a\",\"managedFields\":[{"
     "\"f\":" DEEP_64 DEEP_8 SHUT_64 SHUT_8 "}],\"uid\":\"u\"},\"x\":1}",
        "a", "", "u", "",
        "{\"metadata\":{\"annotations\":[],\"name\":\"a\",\"managedFields\":[],\"uid\":\"u\"},"
        "\"x\":1}"},
    /* of pods and nodes what is not kept is the greater part */
    {"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"volumes\":[{\"name\":\"v\"}],\"containers\":"
     "[{\"image\":\"]\"}],\"nodeName\":\"m\",\"tolerations\":[1,2]},\"status\":{\"images\":["
     "\"i\"],"
     "\"phase\":\"Running\",\"x\":{\"containers\":[1]}},\"containers\":[1]}",
        "a", "", "", "",
        "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"volumes\":[],\"containers\":[],\"nodeName\":"
        "\"m\",\"tolerations\":[]},\"status\":{\"images\":[],\"phase\":\"Running\",\"x\":{"
        "\"containers\":[1]}},\"containers\":[1]}"},
    /* or elsewhere: the names are found before and behind it */
    {" { \"a\" : \"\\u0000}\\\"{\" , \"metadata\" : { \"labels\" : {\"name\":\"no\"} , "
     "\"name\" : "
     "\"b.c\" } }",
        "b.c", "", "", "", NULL},
    {"{\"a\":" DEEP_64 DEEP_64 SHUT_64 SHUT_64 ",\"metadata\":{\"name\":\"deep\"}}", "deep", "", "",
        "", NULL},
    /* the first of its key counts, as with the parser */
    {"{\"metadata\":{\"name\":\"a\",\"name\":\"b\"}}", "a", "", "", "", NULL},
    /* no names */
    {"{\"metadata\":{\"name\":\"\\u0061\"}}", "", "", "", "", NULL},
    {"{\"metadata\":{\"name\":\"a/../b\"}}", "", "", "", "", NULL},
    {"{\"metadata\":{\"name\":7}}", "", "", "", "", NULL},
    {"{\"metadata\":[{\"name\":\"a\"}]}", "", "", "", "", NULL},
    {"[]", "", "", "", "", NULL},
    {"", "", "", "", "", NULL},
};

START_TEST(names_are_read_and_ballast_is_cut)
{
    const size_t n = sizeof objects / sizeof *objects;
    ck_assert_int_lt(_i, (int)n);
    mem_autofree char *text = mem_strdup(objects[_i].text);
    struct skim s;
    size_t len = skim_object(text, strlen(text), false, &s);
    ck_assert_str_eq(s.name, objects[_i].name);
    ck_assert_str_eq(s.namespace_, objects[_i].namespace_);
    ck_assert_str_eq(s.uid, objects[_i].uid);
    ck_assert_str_eq(s.version, objects[_i].version);
    ck_assert_str_eq(s.type, "");
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_str_eq(text, objects[_i].left ? objects[_i].left : objects[_i].text);
}
END_TEST

START_TEST(events_have_a_type_and_an_object)
{
    char text[] = "{\"type\":\"DELETED\",\"object\":{\"type\":\"no\",\"metadata\":{\"annotations\":"
                  "{},\"name\":\"a\",\"resourceVersion\":\"3\"}},\"metadata\":{\"name\":\"no\"}}";
    struct skim s;
    skim_object(text, strlen(text), true, &s);
    ck_assert_str_eq(s.type, "DELETED");
    ck_assert_str_eq(s.name, "a");
    ck_assert_str_eq(s.version, "3");
    ck_assert_ptr_nonnull(strstr(text, "\"annotations\":[],"));
}
END_TEST

START_TEST(a_text_may_end_anywhere)
{
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        for (size_t n = 0; n < strlen(objects[i].text); n++) {
            mem_autofree char *text = mem_strndup(objects[i].text, n);
            struct skim s;
            ck_assert_uint_le(skim_object(text, n, false, &s), n);
            skim_object(text, strlen(text), true, &s);
            skim_version(text, strlen(text));
        }
}
END_TEST

START_TEST(members_of_the_root_are_left_out)
{
    const char *const names[] = {"ranks", "b", NULL};
    buf_auto struct buf out;
    const char *text = "{\"a\":{\"ranks\":[1]},\"ranks\":[{},{}],\"b\":{\"x\":\"]}\"},\"ranks\":7,"
                       "\"c\":\"ranks\"}";
    buf_init(&out, 1000);
    ck_assert(!skim_without(text, strlen(text), names, &out));
    ck_assert_str_eq(out.data,
        "{\"a\":{\"ranks\":[1]},\"ranks\":[],\"b\":[],\"ranks\":[],"
        "\"c\":\"ranks\"}");
    for (size_t n = 0; n < strlen(text); n++) {
        buf_reset(&out);
        ck_assert(!skim_without(text, n, names, &out));
    }
}
END_TEST

START_TEST(versions_are_read_from_answers)
{
    const char *text = "{\"metadata\":{\"annotations\":{\"resourceVersion\":\"1\"},"
                       "\"resourceVersion\":\"184467\"}}";
    ck_assert_uint_eq(skim_version(text, strlen(text)), 184467);
    ck_assert_uint_eq(skim_version("{}", 2), 0);
    ck_assert_uint_eq(skim_version("{\"metadata\":{\"resourceVersion\":\"", 31), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("skim");
    TCase *c = tcase_create("skim");
    tcase_add_loop_test(
        c, names_are_read_and_ballast_is_cut, 0, (int)(sizeof objects / sizeof *objects));
    tcase_add_test(c, events_have_a_type_and_an_object);
    tcase_add_test(c, a_text_may_end_anywhere);
    tcase_add_test(c, members_of_the_root_are_left_out);
    tcase_add_test(c, versions_are_read_from_answers);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
