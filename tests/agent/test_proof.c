/*
 * proof: goal: a handshake ends well only between the two ends that it was made for, and what it
 * proved cannot be used for another job, pod, term, time or side. The kind: a secret, or a proof,
 * that whoever holds an address can use again. Method: both ends in memory; a table that changes
 * one thing at a time; the other side's, an earlier session's and garbled messages.
 * needs: faults
 */
#include "agent/proof.h"

#include <string.h>

#include "tests/unit.h"

static struct err e;
static struct proof coordinator, member;
static struct buf call, challenge, answer;

static void renew(struct buf *b)
{
    buf_done(b);
    buf_init(b, PROOF_BYTES);
}

/* 0, or how far it went: 1 the call was refused, 2 the challenge, 3 the proof. */
static int shake(const struct proof_identity *ours, const struct proof_identity *theirs,
    const char *wanted, const char *is)
{
    renew(&call);
    renew(&challenge);
    renew(&answer);
    ck_assert_int_eq(proof_call(&coordinator, ours, "c0", wanted, 4, &call, &e), 0);
    if (proof_challenge(&member, theirs, is, call.data, call.len, &challenge, &e))
        return 1;
    if (proof_answer(&coordinator, challenge.data, challenge.len, &answer, &e))
        return 2;
    return proof_check(&member, answer.data, answer.len, &e) ? 3 : 0;
}

static const struct proof_identity good = {"the job's token", "job-uid"};

START_TEST(both_ends_prove_themselves)
{
    ck_assert_int_eq(shake(&good, &good, "m1", "m1"), 0);
    ck_assert_int_eq(member.term, 4);
    ck_assert_str_eq(member.coordinator, "c0");
    const struct buf *all[] = {&call, &challenge, &answer};
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_null(strstr(buf_cstr(all[i]), good.token));
}
END_TEST

START_TEST(another_token_job_or_pod_is_refused)
{
    static const struct proof_identity token = {"another token", "job-uid"},
                                       job = {"the job's token", "another job"};
    ck_assert_int_eq(shake(&good, &token, "m1", "m1"), 2);
    ck_assert_int_eq(e.code, ERR_PEER);
    ck_assert_int_eq(shake(&good, &job, "m1", "m1"), 2);
    ck_assert_int_eq(shake(&good, &good, "m1", "m2"), 2);
}
END_TEST

/* What one end said is changed on the way: it binds the other end all the same. */
START_TEST(a_changed_call_is_noticed)
{
    static const struct {
        const char *from, *to;
    } table[] = {{"\"term\":4", "\"term\":5"}, {"\"uid\":\"c0\"", "\"uid\":\"c1\""}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_int_eq(shake(&good, &good, "m1", "m1"), 0);
        char *at = strstr(call.data, table[i].from);
        ck_assert_ptr_nonnull(at);
        memcpy(at, table[i].to, strlen(table[i].to));
        renew(&challenge);
        ck_assert_int_eq(
            proof_challenge(&member, &good, "m1", call.data, call.len, &challenge, &e), 0);
        ck_assert_int_eq(
            proof_answer(&coordinator, challenge.data, challenge.len, &answer, &e), -ERR_PEER);
    }
}
END_TEST

START_TEST(nothing_can_be_said_again)
{
    ck_assert_int_eq(shake(&good, &good, "m1", "m1"), 0);
    char old_challenge[PROOF_BYTES + 1], old_answer[PROOF_BYTES + 1], echo[PROOF_BYTES + 1];
    snprintf(old_challenge, sizeof old_challenge, "%s", challenge.data);
    snprintf(old_answer, sizeof old_answer, "%s", answer.data);
    ck_assert_int_eq(shake(&good, &good, "m1", "m1"), 0);
    /* an earlier session's */
    ck_assert_int_eq(
        proof_answer(&coordinator, old_challenge, strlen(old_challenge), &answer, &e), -ERR_PEER);
    ck_assert_int_eq(proof_check(&member, old_answer, strlen(old_answer), &e), -ERR_PEER);
    /* the member's own mac, given back to it as the coordinator's */
    snprintf(echo, sizeof echo, "{\"t\":\"proof\",%s", strstr(challenge.data, "\"mac\""));
    ck_assert_int_eq(proof_check(&member, echo, strlen(echo), &e), -ERR_PEER);
}
END_TEST

START_TEST(garbage_is_refused)
{
    static const char *const calls[] = {"", "{", "[]", "{}", "{\"t\":\"proof\"}",
        "{\"t\":\"call\"}", "{\"t\":\"call\",\"term\":0,\"uid\":\"c\",\"nonce\":\"n\"}",
        "{\"t\":\"call\",\"term\":1e300,\"uid\":\"c\",\"nonce\":\"n\"}",
        "{\"t\":\"call\",\"term\":1,\"uid\":\"\",\"nonce\":\"n\"}",
        "{\"t\":\"call\",\"term\":1,\"uid\":\"c\"}",
        "{\"t\":\"call\",\"term\":1,\"uid\":\"c\",\"nonce\":"
        "\"0123456789012345678901234567890123456789\"}",
        "{\"t\":\"call\",\"term\":1,\"uid\":\"c\",\"nonce\":[1,2,3,4,5,6,7,8,9]}"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        renew(&challenge);
        ck_assert_msg(
            proof_challenge(&member, &good, "m", calls[i], strlen(calls[i]), &challenge, &e) < 0,
            "%s", calls[i]);
        ck_assert_uint_eq(challenge.len, 0);
    }
    static const char *const others[] = {"{}", "{\"t\":\"challenge\"}", "{\"t\":\"proof\"}",
        "{\"t\":\"proof\",\"mac\":\"\"}", "{\"t\":\"challenge\",\"nonce\":\"a\",\"mac\":7}"};
    ck_assert_int_eq(shake(&good, &good, "m1", "m1"), 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t len = strlen(others[i]);
        renew(&answer);
        ck_assert_int_lt(proof_answer(&coordinator, others[i], len, &answer, &e), 0);
        ck_assert_uint_eq(answer.len, 0);
        ck_assert_int_lt(proof_check(&member, others[i], len, &e), 0);
    }
}
END_TEST

static int whole_handshake(void *user)
{
    buf_auto struct buf a, b, c;
    (void)user;
    buf_init(&a, PROOF_BYTES);
    buf_init(&b, PROOF_BYTES);
    buf_init(&c, PROOF_BYTES);
    int rc;
    if ((rc = proof_call(&coordinator, &good, "c0", "m1", 4, &a, &e)) ||
        (rc = proof_challenge(&member, &good, "m1", a.data, a.len, &b, &e)) ||
        (rc = proof_answer(&coordinator, b.data, b.len, &c, &e)))
        return rc;
    return proof_check(&member, c.data, c.len, &e);
}

START_TEST(what_fails_proves_nothing)
{
    fault_each(FAULT_MEM, whole_handshake, NULL);
    fault_each(FAULT_IO, whole_handshake, NULL);
}
END_TEST

UNIT_MAIN("proof", what_fails_proves_nothing, both_ends_prove_themselves,
    another_token_job_or_pod_is_refused, a_changed_call_is_noticed, nothing_can_be_said_again,
    garbage_is_refused)
