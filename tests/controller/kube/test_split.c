/*
 * Goal: the pieces are the objects, whole and in order, however the bytes are cut; malformed text
 * is refused; a piece that is too long costs only itself. Method: one text fed at every cut into
 * two and byte by byte; texts that end early or are not JSON; the limit, with pieces behind it.
 */
#include "controller/kube/split.h"

#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define LIST \
    "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"7\",\"x\":{\"items\":[{}]}}," \
    " \"items\" : [ {\"a\":\"}]\\\"{\"},\n{\"metadata\":{\"n\":[1,[2]]}} , {} ],\"z\":[{}]}"
#define LIST_PIECES \
    "M{\"resourceVersion\":\"7\",\"x\":{\"items\":[{}]}}|" \
    "I{\"a\":\"}]\\\"{\"}|I{\"metadata\":{\"n\":[1,[2]]}}|I{}|"
#define WATCH        "{\"type\":\"ADDED\",\"object\":{\"a\":[{}]}}\n{\"s\":\"\\\\\"}\n\n{}\n"
#define WATCH_PIECES "I{\"type\":\"ADDED\",\"object\":{\"a\":[{}]}}|I{\"s\":\"\\\\\"}|I{}|"

static int collect(void *user, enum split_piece kind, char *text, size_t len)
{
    struct buf *out = user;
    buf_char(out, "IMH"[kind]);
    buf_add(out, text, len);
    return buf_char(out, '|');
}

static void check(
    enum split_mode mode, const char *text, size_t first, size_t step, const char *want)
{
    buf_auto struct buf got;
    struct split s;
    struct err e;
    size_t len = strlen(text);
    buf_init(&got, 4096);
    split_init(&s, mode, 1000, collect, &got);
    ck_assert_int_eq(split_feed(&s, text, first, &e), 0);
    for (size_t at = first; at < len; at += step)
        ck_assert_int_eq(split_feed(&s, text + at, at + step < len ? step : len - at, &e), 0);
    ck_assert(split_at_end(&s));
    ck_assert_str_eq(buf_cstr(&got), want);
    split_done(&s);
}

START_TEST(pieces_do_not_depend_on_the_cuts)
{
    for (size_t cut = 0; cut <= strlen(LIST); cut++)
        check(SPLIT_LIST, LIST, cut, 1000, LIST_PIECES);
    for (size_t cut = 0; cut <= strlen(WATCH); cut++)
        check(SPLIT_WATCH, WATCH, cut, 1000, WATCH_PIECES);
    check(SPLIT_LIST, LIST, 0, 1, LIST_PIECES);
    check(SPLIT_WATCH, WATCH, 0, 1, WATCH_PIECES);
    check(SPLIT_LIST, "{\"items\":null,\"metadata\":{}}", 0, 1, "M{}|");
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    buf_auto struct buf got;
    struct split s;
    struct err e;
    buf_init(&got, 4096);
    split_init(&s, SPLIT_WATCH, 1000, collect, &got);
    ck_assert_int_eq(split_feed(&s, "}", 1, &e), -ERR_DATA);
    split_done(&s);
    split_init(&s, SPLIT_LIST, 1000, collect, &got);
    ck_assert_int_eq(split_feed(&s, "{\"items\":[{", 11, &e), 0);
    ck_assert(!split_at_end(&s));
    split_done(&s);
}
END_TEST

START_TEST(one_piece_too_long_does_not_end_the_stream)
{
    buf_auto struct buf got;
    struct split s;
    struct err e;
    const char *text = "{\"a\":12}{\"a\":123}{\"a\":{\"b\":[1,2,3]}}{\"c\":1}";
    for (size_t step = 1; step <= strlen(text); step++) {
        buf_init(&got, 4096);
        split_init(&s, SPLIT_WATCH, 8, collect, &got);
        for (size_t at = 0; at < strlen(text); at += step) {
            size_t left = strlen(text) - at;
            ck_assert(!split_feed(&s, text + at, left < step ? left : step, &e));
        }
        ck_assert_str_eq(buf_cstr(&got), "I{\"a\":12}|H{\"a\":123|H{\"a\":{\"b|I{\"c\":1}|");
        split_done(&s);
        buf_done(&got);
    }
    buf_init(&got, 0);
}
END_TEST

static int stop(void *user, enum split_piece kind, char *text, size_t len)
{
    (void)kind, (void)text, (void)len;
    return ++*(int *)user == 2 ? -77 : 0;
}

START_TEST(the_receiver_can_stop_it)
{
    struct split s;
    struct err e;
    int seen = 0;
    split_init(&s, SPLIT_WATCH, 100, stop, &seen);
    ck_assert_int_eq(split_feed(&s, "{}{}{}", 6, &e), -77);
    ck_assert_int_eq(seen, 2);
    split_done(&s);
}
END_TEST

UNIT_MAIN("split", pieces_do_not_depend_on_the_cuts, what_is_wrong_is_refused,
    one_piece_too_long_does_not_end_the_stream, the_receiver_can_stop_it)
