/*
 * gate: goal: nothing of a socket without proof reaches the member, however many there are, and
 * they neither stay nor keep a coordinator out. The kind: a stranger who is heard, or who holds a
 * place, because he could connect. Method: a gate, strangers and a coordinator on one loop; the
 * clock of the deadline is handed in.
 */
#include "agent/gate.h"
#include "agent/mesh.h"
#include "base/clock.h"

#include <string.h>

#include "tests/unit.h"
#include "tests/web_listen.h"

static struct web *w;
static struct gate *gate;
static struct err e;
static uint16_t port;
static const struct proof_identity of = {"token", "job"};

/* -- the member behind the gate -- */
static int opened, messages, closed;
static int64_t term;

static void member_open(void *user, struct web_socket *s, int64_t number, const char *uid)
{
    (void)user;
    (void)s;
    opened++;
    term = number;
    ck_assert_str_eq(uid, "c0");
}

static void member_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    (void)user;
    (void)s;
    messages++;
    ck_assert_int_eq((int)len, 5);
    ck_assert_str_eq(text, "after");
}

static void member_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    (void)why;
    closed++;
}

/* -- those who call -- */
struct gate_visitor {
    struct web_socket *s;
    const struct proof_identity *of;
    struct proof proof;
    bool ended, challenged;
};

static void caller_open(void *user, struct web_socket *s)
{
    struct gate_visitor *c = user;
    buf_auto struct buf call;
    buf_init(&call, PROOF_BYTES);
    c->s = s;
    if (!c->of)
        return; /* a silent one */
    ck_assert_int_eq(proof_call(&c->proof, c->of, "c0", "m1", 9, &call, &e), 0);
    ck_assert_int_eq(web_send(s, call.data, call.len), 0);
}

static void caller_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct gate_visitor *c = user;
    buf_auto struct buf answer;
    buf_init(&answer, PROOF_BYTES);
    c->challenged = true;
    if (proof_answer(&c->proof, text, len, &answer, &e))
        return;
    ck_assert_int_eq(web_send(s, answer.data, answer.len), 0);
    ck_assert_int_eq(web_send(s, "after", 5), 0);
}

static void caller_closed(void *user, struct web_socket *s, const char *why)
{
    struct gate_visitor *c = user;
    (void)s;
    (void)why;
    c->ended = true;
    c->s = NULL;
}

static void on_request(void *user, struct web_exchange *x)
{
    (void)user;
    web_answer(x, 404, "text/plain", "", 0, NULL);
}

static void turn(void)
{
    ck_assert_int_eq(web_turn(w, 10, &e), 0);
}

#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + 10000; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
            turn(); \
        } \
    } while (0)

static void dial(struct gate_visitor *c, const struct proof_identity *who)
{
    static const struct web_socket_fns fns = {caller_open, caller_message, caller_closed};
    struct web_socket *s;
    *c = (struct gate_visitor){.of = who};
    ck_assert_int_eq(web_dial(w, "127.0.0.1", port, MESH_PATH, &fns, c, &s, &e), 0);
}

static void begin(void)
{
    static const struct gate_fns fns = {member_open, member_message, member_closed};
    opened = messages = closed = 0;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(gate_create(w, &of, "m1", &fns, NULL, &gate, &e), 0);
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
}

static void end(void)
{
    web_destroy(w);
    gate_destroy(gate);
}

START_TEST(a_coordinator_gets_through)
{
    struct gate_visitor c;
    begin();
    dial(&c, &of);
    until(messages == 1);
    ck_assert_int_eq(opened, 1);
    ck_assert_int_eq(term, 9);
    gate_tick(gate, clock_ms() + 2 * PROOF_MS); /* it has no deadline any more */
    web_close(c.s);
    until(closed == 1);
    end();
}
END_TEST

/* It never answers the challenge rightly, whatever it says first. */
START_TEST(who_does_not_know_the_token_is_not_heard)
{
    static const struct proof_identity other = {"guessed", "job"};
    static char big[4 * PROOF_BYTES];
    struct gate_visitor c;
    begin();
    dial(&c, &other);
    until(c.challenged);
    web_send(c.s, "after", 5);
    until(c.ended);
    dial(&c, NULL);
    until(c.s);
    web_send(c.s, "{\"t\":\"prepare\",\"incarnation\":9}", 31);
    until(c.ended);
    dial(&c, NULL);
    until(c.s);
    memset(big, ' ', sizeof big);
    web_send(c.s, big, sizeof big);
    until(c.ended);
    ck_assert_int_eq(opened + messages + closed, 0);
    end();
}
END_TEST

START_TEST(the_silent_are_closed_in_time)
{
    struct gate_visitor c;
    begin();
    dial(&c, NULL);
    until(c.s);
    gate_tick(gate, clock_ms());
    for (int i = 0; i < 5; i++)
        turn();
    ck_assert(!c.ended);
    gate_tick(gate, clock_ms() + PROOF_MS);
    until(c.ended);
    ck_assert_int_eq(opened + closed, 0);
    end();
}
END_TEST

START_TEST(many_strangers_keep_nobody_out)
{
    static struct gate_visitor strangers[3 * GATE_CALLERS];
    struct gate_visitor c;
    int n = (int)(sizeof strangers / sizeof *strangers), left = 0;
    begin();
    for (int i = 0; i < n; i++)
        dial(&strangers[i], NULL);
    for (int i = 0; i < n; i++)
        until(strangers[i].s || strangers[i].ended);
    dial(&c, &of);
    until(messages == 1);
    do {
        left = 0;
        for (int i = 0; i < n; i++)
            left += !strangers[i].ended;
        turn();
    } while (left > GATE_CALLERS);
    ck_assert_int_eq(opened, 1);
    end();
}
END_TEST

UNIT_MAIN("gate", a_coordinator_gets_through, who_does_not_know_the_token_is_not_heard,
    the_silent_are_closed_in_time, many_strangers_keep_nobody_out)
