/*
 * vouch: goal: a request passes only between the two replicas that it was made for, with a key that
 * both have, and nothing that was heard of one opens another. The kind: an address that another has
 * got, and proofs that whoever holds it can use again. Method: both ends in memory; one thing is
 * changed at a time, each byte of each line among them; lines of other sides and earlier requests.
 * needs: faults
 */
#include "agent/vouch.h"

#include <string.h>

#include "tests/unit.h"

static struct err e;
static const struct proof_identity good = {"the job's token", "job-uid"};
static const struct api_keys keys = {.count = 2, .key = {{.text = "one"}, {.text = "two"}}}, nobody,
                             others = {.count = 1, .key = {{.text = "three"}}};
static struct vouch asking, asked;
static struct net_address at;
static int ahead;
static char lines[2][VOUCH_LINE_BYTES], seal[VOUCH_MAC_BYTES + 1];

static void set_nonce(char digit)
{
    memset(asked.nonce, digit, sizeof asked.nonce - 1);
    asked.nonce[sizeof asked.nonce - 1] = 0;
}

struct ends {
    struct proof_identity of;
    const char *uid;
    const struct api_keys *keys;
};

/* The key that is found, or how far it went: -1 the first line was refused, -2 the answer, -3 what
 * goes before the body. */
static int shake(const char *key, const struct ends *theirs)
{
    asking = (struct vouch){.of = good, .uid = "pod-uid", .key = key};
    asked = (struct vouch){.of = theirs->of, .uid = theirs->uid};
    ck_assert_int_eq(vouch_ask(&asking, "[fd00::7]:8000", 12, lines[0], &e), 0);
    int found = vouch_read(&asked, theirs->keys, lines[0], &at, &ahead);
    if (found < 0)
        return -1;
    const struct vouch read = asked;
    asked = (struct vouch){.of = theirs->of, .uid = theirs->uid};
    ck_assert(vouch_again(&asked, theirs->keys, lines[0], found));
    ck_assert(asked.key == read.key && !strcmp(asked.head, read.head) && !*asked.nonce);
    set_nonce('a');
    ck_assert_int_eq(vouch_answer(&asked, lines[1], &e), 0);
    if (!vouch_heard(&asking, lines[1]))
        return -2;
    ck_assert_int_eq(vouch_seal(&asking, seal, &e), 0);
    return vouch_sealed(&asked, seal, strlen(seal)) ? found : -3;
}

START_TEST(both_ends_know_each_other_and_the_key)
{
    const struct ends same = {good, "pod-uid", &keys}, open = {good, "pod-uid", &nobody};
    ck_assert_int_eq(shake("one", &same), 0);
    ck_assert_int_eq(shake("two", &same), 1);
    ck_assert_int_eq(ahead, 12);
    ck_assert_str_eq(at.host, "fd00::7");
    ck_assert_uint_eq(at.port, 8000);
    for (int i = 0; i < 2; i++)
        ck_assert(!strstr(lines[i], "two") && !strstr(lines[i], good.token));
    ck_assert_int_eq(shake("", &open), 0);
}
END_TEST

START_TEST(another_token_job_pod_or_key_is_refused)
{
    const struct ends table[] = {{{"another token", "job-uid"}, "pod-uid", &keys},
        {{"the job's token", "another job"}, "pod-uid", &keys}, {good, "another pod", &keys},
        {good, "pod-uid", &others}, {good, "pod-uid", &nobody}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_int_eq(shake("one", &table[i]), -1);
    ck_assert_int_eq(shake("", &(struct ends){good, "pod-uid", &keys}), -1);
}
END_TEST

START_TEST(nothing_can_be_said_again)
{
    const struct ends same = {good, "pod-uid", &keys};
    char answer[VOUCH_LINE_BYTES], before[VOUCH_MAC_BYTES + 1];
    ck_assert_int_eq(shake("one", &same), 0);
    memcpy(answer, lines[1], sizeof answer);
    memcpy(before, seal, sizeof before);
    ck_assert_int_eq(shake("one", &same), 0);
    ck_assert(!vouch_heard(&asking, answer)); /* of the first request */
    ck_assert(!vouch_sealed(&asked, before, strlen(before)));
    ck_assert_int_eq(shake("one", &same), 0);
    set_nonce('b'); /* all that was heard, on another connection */
    ck_assert_int_eq(vouch_answer(&asked, answer, &e), 0);
    ck_assert(!vouch_sealed(&asked, seal, strlen(seal)));
    ck_assert(!vouch_heard(&asking, lines[0])); /* of another side */
    ck_assert(!vouch_sealed(&asked, strrchr(lines[1], ' ') + 1, VOUCH_MAC_BYTES));
    ck_assert(!vouch_sealed(&asked, seal, VOUCH_MAC_BYTES - 1));
}
END_TEST

START_TEST(a_changed_byte_is_noticed)
{
    const struct ends same = {good, "pod-uid", &keys};
    ck_assert_int_eq(shake("one", &same), 0);
    for (int line = 0; line < 2; line++)
        for (size_t i = 0; lines[line][i]; i++) {
            char c = lines[line][i];
            lines[line][i] = c == '1' ? '2' : '1';
            if (line)
                ck_assert(!vouch_heard(&asking, lines[line]));
            else
                ck_assert_int_eq(vouch_read(&asked, &keys, lines[line], &at, &ahead), -1);
            lines[line][i] = c;
        }
    ck_assert(vouch_heard(&asking, lines[1]));
    ck_assert_int_eq(vouch_read(&asked, &keys, lines[0], &at, &ahead), 0);
}
END_TEST

START_TEST(garbage_is_refused)
{
    static char huge[4096];
    memset(huge, ' ', sizeof huge - 1);
    const char *const garbage[] = {"", " ", "0", "0 127.0.0.1:1 a b", huge, huge + 4000};
    asked = (struct vouch){.of = good, .uid = "pod-uid"};
    asking = (struct vouch){.of = good, .uid = "pod-uid", .key = ""};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        ck_assert_int_eq(vouch_read(&asked, &nobody, garbage[i], &at, &ahead), -1);
        ck_assert(!vouch_heard(&asking, garbage[i]));
    }
    ck_assert(!vouch_again(&asked, &nobody, "0", 0));
    ck_assert_int_eq(vouch_ask(&asking, huge, 0, lines[0], &e), -ERR_USER);
    static const struct {
        int ahead;
        const char *address;
    } lies[] = {
        {-1, "127.0.0.1:1"}, {0, "127.0.0.1"}, {0, huge + sizeof huge - 1 - LIMIT_ADDRESS_BYTES}};
    memset(huge, '1', sizeof huge - 1); /* by who has the token */
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        ck_assert_int_eq(vouch_ask(&asking, lies[i].address, lies[i].ahead, lines[0], &e), 0);
        ck_assert_int_eq(vouch_read(&asked, &nobody, lines[0], &at, &ahead), -1);
    }
}
END_TEST

static int ask(void *user)
{
    (void)user;
    return vouch_ask(&asking, "127.0.0.1:1", 0, lines[0], &e);
}

START_TEST(failed_calls_are_reported)
{
    asking = (struct vouch){.of = good, .uid = "pod-uid", .key = ""};
    fault_each(FAULT_IO, ask, NULL);
}
END_TEST

UNIT_MAIN("vouch", both_ends_know_each_other_and_the_key, another_token_job_pod_or_key_is_refused,
    nothing_can_be_said_again, a_changed_byte_is_noticed, garbage_is_refused,
    failed_calls_are_reported)
