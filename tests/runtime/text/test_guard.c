/*
 * Goal: of a chat's messages every string, names included, loses its special tokens, and the rest
 * of the tree stays what it is. Method: a tree with one of each kind, guarded and printed, with the
 * guards shown; the same under failing allocations.
 * needs: faults
 */
#include "runtime/text/guard.h"

#include "runtime/text/tok_added.h"
#include "tests/runtime/gguf_make.h"
#include "tests/unit.h"

static struct tok *tok; /* of the tiny model: <s> and </s> */
static struct json *messages;

static void setup(void)
{
    static const char text[] = "[{\"<s>\":\"a</s>b\",\"n\":1.5,\"t\":true,\"f\":false,\"z\":null,"
                               "\"l\":[\"<s>\",[],{}]},\"plain\"]";
    buf_auto struct buf file;
    struct gguf *g = NULL;
    struct tok_def d;
    struct err e = {0};
    struct arena *a = arena_create(1 << 24);
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    ck_assert_int_eq(gguf_parse(file.data, file.len, "tiny", &g, &e), 0);
    ck_assert_int_eq(tok_def_gguf(g, a, &d, &e), 0);
    ck_assert_int_eq(tok_create(&d, "tiny", &tok, &e), 0);
    arena_destroy(a);
    gguf_close(g);
    ck_assert_int_eq(json_parse(text, sizeof text - 1, &messages, &e), 0);
}

static void done(void)
{
    json_destroy(messages);
    tok_close(tok);
}

START_TEST(strings_are_guarded_and_nothing_else_changes)
{
#define G TOK_GUARD
    static const char want[] = "[{\"<" G "s>\":\"a<" G "/s>b\",\"n\":1.5,\"t\":true,\"f\":false,"
                               "\"z\":null,\"l\":[\"<" G "s>\",[],{}]},\"plain\"]";
    struct json *copy = NULL;
    struct err e = {0};
    buf_auto struct buf text;
    buf_init(&text, 1 << 12);
    ck_assert_int_eq(guard_json(tok, messages, &copy, &e), 0);
    ck_assert_int_eq(json_print(copy, &text), 0);
    ck_assert_str_eq(buf_cstr(&text), want);
    json_destroy(copy);
    copy = NULL;
    ck_assert_int_eq(guard_json(tok, NULL, &copy, &e), 0); /* no messages: for others to say */
    ck_assert(json_is_null(copy));
    json_destroy(copy);
}
END_TEST

static int guard_all(void *user)
{
    (void)user;
    struct json *copy = NULL;
    struct err e = {0};
    int rc = guard_json(tok, messages, &copy, &e);
    json_destroy(copy);
    return rc;
}

START_TEST(failed_allocations_are_reported)
{
    fault_each(FAULT_MEM, guard_all, NULL);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "guard", .setup = setup, .done = done},
        (const TTest *const[]){
            strings_are_guarded_and_nothing_else_changes, failed_allocations_are_reported, NULL});
}
