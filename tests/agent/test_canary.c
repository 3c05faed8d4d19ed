/*
 * Goal: the agent's own request is one that a rank takes, and its answer is told from others'.
 * Method: its text; frames of it, of another, and of none.
 * needs: faults
 */
#include "agent/canary.h"

#include "base/json.h"
#include "tests/unit.h"

START_TEST(it_asks_for_one_token)
{
    buf_auto struct buf b;
    json_auto struct json *v = NULL;
    struct err e = {0};
    buf_init(&b, 1024);
    ck_assert_int_eq(canary_write(WIRE_DOES_GENERATE, &b, &e), 0);
    const struct wire_frame f = {WIRE_REQUEST, b.data, (uint32_t)b.len};
    ck_assert_uint_eq(wire_request_id(&f), CANARY_ID);
    ck_assert_int_eq(json_parse(b.data, b.len, &v, &e), 0);
    ck_assert_int_eq(json_int(v, "max_tokens", 0), 1);
    ck_assert(json_bool(v, "ignore_eos", false));
    buf_auto struct buf small;
    buf_init(&small, 8);
    ck_assert_int_eq(canary_write(WIRE_DOES_GENERATE, &small, &e), -ERR_MEMORY);
}
END_TEST

START_TEST(who_reads_is_asked_to_read)
{
    static const char *const want[] = {[WIRE_DOES_EMBED] = "embed",
        [WIRE_DOES_CLASSIFY] = "classify",
        [WIRE_DOES_TAG] = "classify",
        [WIRE_DOES_RECOMMEND] = "embed"};
    for (enum wire_does does = WIRE_DOES_EMBED; does < WIRE_DOES_KINDS; does++) {
        buf_auto struct buf b;
        json_auto struct json *v = NULL;
        struct err e = {0};
        buf_init(&b, 1024);
        ck_assert_int_eq(canary_write(does, &b, &e), 0);
        ck_assert_int_eq(json_parse(b.data, b.len, &v, &e), 0);
        ck_assert_int_eq(json_int(v, "id", 0), (int64_t)CANARY_ID);
        ck_assert_str_eq(json_str(v, "read", ""), want[does]);
        ck_assert(json_is_array(json_get(v, "input")));
    }
}
END_TEST

static enum canary_says hear(enum wire_type type, const char *text, size_t n)
{
    char why[256] = "";
    const struct wire_frame f = {type, text, (uint32_t)n};
    enum canary_says says = canary_hear(&f, why);
    ck_assert(says != CANARY_REFUSED || *why);
    return says;
}

START_TEST(its_answer_is_told_from_others)
{
    static const struct {
        const char *text;
        enum canary_says says;
    } table[] = {
        {"{\"id\":1125899906842624,\"reason\":\"length\",\"completion_tokens\":1}",
            CANARY_ANSWERED},
        {"{\"id\":1125899906842624,\"reason\":\"stop\",\"completion_tokens\":0}", CANARY_REFUSED},
        {"{\"id\":1125899906842624,\"reason\":\"stop\",\"items\":1}", CANARY_ANSWERED},
        {"{\"id\":1125899906842624,\"reason\":\"error\",\"completion_tokens\":1,"
         "\"message\":\"no\"}",
            CANARY_REFUSED},
        {"{\"id\":7,\"reason\":\"length\",\"completion_tokens\":1}", CANARY_NOTHING},
        {"{\"id\":", CANARY_NOTHING},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_int_eq(hear(WIRE_FINISHED, table[i].text, strlen(table[i].text)), table[i].says);
    for (uint64_t id = CANARY_ID - 1; id <= CANARY_ID; id++) {
        buf_auto struct buf b;
        buf_init(&b, 64);
        ck_assert_int_eq(wire_put_token(&b, &(struct wire_token){.request = id, .count = 1}), 0);
        enum canary_says want = id == CANARY_ID ? CANARY_MORE : CANARY_NOTHING;
        ck_assert_int_eq(hear(WIRE_TOKEN, b.data, b.len), want);
        ck_assert_int_eq(hear(WIRE_LOGPROBS, b.data, b.len), want);
        ck_assert_int_eq(hear(WIRE_TOKEN, b.data, 3), CANARY_NOTHING);
    }
}
END_TEST

UNIT_MAIN(
    "canary", it_asks_for_one_token, who_reads_is_asked_to_read, its_answer_is_told_from_others)
