/*
 * mesh: goal: every message reads back as it was written, garbage is refused, and links redial
 * until they are forgotten. Method: round trips over all types and a table of malformed messages;
 * one web loop that holds both ends of a link.
 */
#include "agent/gate.h"
#include "agent/mesh.h"
#include "base/clock.h"
#include "base/io.h"

#include <check.h>
#include <string.h>

#include "tests/unit.h"
#include "tests/web_listen.h"

static struct err e;

static void round_trip(const struct mesh_msg *in, struct mesh_msg *out, struct json **v)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    ck_assert_int_eq(mesh_encode(in, &text, &e), 0);
    ck_assert_int_eq(json_parse(text.data, text.len, v, &e), 0);
    ck_assert_msg(mesh_decode(*v, out, &e) == 0, "%s", e.text);
    ck_assert_int_eq(out->type, in->type);
    ck_assert_int_eq(out->incarnation, in->incarnation);
}

START_TEST(messages_read_back)
{
    struct mesh_msg m;
    json_auto struct json *hello = NULL, *exit = NULL, *beat = NULL, *start = NULL, *frame = NULL;
    round_trip(&(struct mesh_msg){.type = MESH_HELLO,
                   .incarnation = 12,
                   .replica = 3,
                   .uid = "u",
                   .pod = "p",
                   .node = "n"},
        &m, &hello);
    ck_assert_int_eq(m.replica, 3);
    ck_assert_str_eq(m.uid, "u");
    round_trip(&(struct mesh_msg){.type = MESH_EXIT,
                   .incarnation = 4,
                   .local = 1,
                   .class_ = EXIT_CLASS_DATA,
                   .signal = 9,
                   .asked = true,
                   .message = "a \"b\"\n\xff",
                   .log_tail = "t"},
        &m, &exit);
    ck_assert_int_eq(m.class_, EXIT_CLASS_DATA);
    ck_assert_int_eq(m.signal, 9);
    ck_assert(m.asked);
    ck_assert_str_eq(m.message, "a \"b\"\n\xef\xbf\xbd");
    round_trip(&(struct mesh_msg){.type = MESH_BEAT,
                   .beats = {{.phase = WIRE_PHASE_BACKWARD,
                                 .step = 5,
                                 .silent_ms = 6,
                                 .collective = 7,
                                 .in_collective = true,
                                 .operation = 1,
                                 .waiting_for = -1},
                       {.waiting_for = 2, .share = 6, .note = "NCCL: \"slow\""}},
                   .beat_count = 2},
        &m, &beat);
    ck_assert_int_eq(m.beat_count, 2);
    ck_assert_str_eq(m.beats[0].note, "");
    ck_assert_int_eq(m.beats[1].waiting_for, 2);
    ck_assert(m.beats[0].share == 0 && m.beats[1].share == 6);
    ck_assert_str_eq(m.beats[1].note, "NCCL: \"slow\"");
    ck_assert_int_eq(m.beats[0].phase, WIRE_PHASE_BACKWARD);
    ck_assert_int_eq(m.beats[0].waiting_for, -1);
    ck_assert(m.beats[0].in_collective);
    round_trip(
        &(struct mesh_msg){
            .type = MESH_START, .world = 2, .table_json = "[{\"rank\":0},{\"rank\":1}]"},
        &m, &start);
    ck_assert_uint_eq(json_count(m.table), 2);
    round_trip(
        &(struct mesh_msg){
            .type = MESH_FRAME, .local = 2, .frame = WIRE_STEP, .payload_json = "{\"step\":3}"},
        &m, &frame);
    ck_assert_int_eq(m.frame, WIRE_STEP);
    ck_assert_int_eq(json_int(m.payload, "step", 0), 3);
    json_auto struct json *last = NULL;
    round_trip(&(struct mesh_msg){.type = MESH_FRAME, .frame = WIRE_BALANCED, .payload_json = "{}"},
        &m, &last);
    ck_assert_int_eq(m.frame, WIRE_BALANCED);
    for (int mode = MESH_DRAIN; mode <= MESH_KILL; mode++) {
        json_auto struct json *stop = NULL;
        round_trip(&(struct mesh_msg){.type = MESH_STOP, .mode = (enum mesh_stop)mode}, &m, &stop);
        ck_assert_int_eq(m.mode, mode);
    }
}
END_TEST

START_TEST(garbage_is_refused)
{
    static const char *const table[] = {
        "{}",
        "[]",
        "{\"t\":\"dance\"}",
        "{\"t\":\"hello\"}",
        "{\"t\":\"hello\",\"replica\":5000}",
        "{\"t\":\"hello\",\"replica\":0,\"incarnation\":-1}",
        "{\"t\":\"prepare\",\"term\":1,\"ranks\":65,\"firstRank\":0}",
        "{\"t\":\"prepare\",\"term\":1,\"ranks\":0,\"firstRank\":0}",
        "{\"t\":\"prepare\",\"ranks\":1,\"firstRank\":0}",
        "{\"t\":\"prepare\",\"term\":0,\"ranks\":1,\"firstRank\":0}",
        "{\"t\":\"refused\",\"term\":-1}",
        "{\"t\":\"prepared\",\"ports\":[70000]}",
        "{\"t\":\"start\",\"world\":1}",
        "{\"t\":\"start\",\"world\":0,\"ranks\":[]}",
        "{\"t\":\"stop\",\"mode\":\"gently\"}",
        "{\"t\":\"frame\",\"local\":64,\"type\":66}",
        "{\"t\":\"frame\",\"local\":0,\"type\":1}",
        "{\"t\":\"exit\",\"local\":-1,\"class\":0}",
        "{\"t\":\"exit\",\"local\":0,\"class\":256}",
        "{\"t\":\"beat\",\"ranks\":[[0,0,0]]}",
        "{\"t\":\"beat\",\"ranks\":[[99,0,0,0,0,0,0]]}",
        "{\"t\":\"beat\",\"ranks\":[[0,0,1e300,0,0,0,0]]}",
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        json_auto struct json *v = NULL;
        struct mesh_msg m = {.replica = 4711};
        ck_assert_int_eq(json_parse(table[i], strlen(table[i]), &v, &e), 0);
        ck_assert_msg(mesh_decode(v, &m, &e) == -ERR_DATA, "accepted: %s", table[i]);
        ck_assert_int_eq(m.replica, 4711); /* untouched */
    }
}
END_TEST

/* -- links -- */

static struct web_socket *server;
static int hellos, closes, released;

static void server_open(void *user, struct web_socket *s, int64_t term, const char *uid)
{
    (void)user;
    ck_assert_int_eq(term, 3);
    ck_assert_str_eq(uid, "u0");
    server = s;
    mesh_send(
        s, &(struct mesh_msg){.type = MESH_HELLO, .replica = 5, .uid = "", .pod = "", .node = ""});
}

static void server_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    (void)user;
    (void)s;
    (void)len;
    released += strstr(text, "release") != NULL;
}

static void server_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    (void)why;
    server = NULL;
}

static void on_message(void *user, int replica, const struct mesh_msg *m)
{
    ck_assert_ptr_eq(user, &hellos);
    ck_assert_int_eq(replica, 5);
    hellos += m->type == MESH_HELLO;
}

static void on_closed(void *user, int replica, const char *why)
{
    (void)user;
    (void)replica;
    (void)why;
    closes++;
}

static void on_request(void *user, struct web_exchange *x)
{
    (void)user;
    web_answer(x, 404, "text/plain", "", 0, NULL);
}

static struct web *w;
static struct mesh *m;
static const struct proof_identity of = {"secret", "job"};

#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + 10000; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
            mesh_tick(m, clock_ms()); \
            ck_assert_int_eq(web_turn(w, 10, &e), 0); \
        } \
    } while (0)

START_TEST(links_redial_until_forgotten)
{
    static const struct gate_fns server_fns = {server_open, server_message, server_closed};
    struct gate *gate;
    static const struct mesh_fns fns = {on_message, on_closed};
    uint16_t port = 0;
    char address[32];
    /* A port that nobody listens on yet. */
    int fd = io_listen("127.0.0.1", 0, &port, &e);
    io_close(fd);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(mesh_create(w, &of, "u0", &fns, &hellos, &m, &e), 0);
    mesh_term(m, 3);
    ck_assert_int_lt(mesh_keep(m, 4, "u4", "nonsense", &e), 0);
    ck_assert_int_eq(mesh_keep(m, 5, "u5", "", &e), 0); /* no address yet */
    ck_assert_int_eq(mesh_keep(m, 5, "u5", address, &e), 0);
    for (int i = 0; i < 5; i++) {
        mesh_tick(m, clock_ms());
        web_turn(w, 10, &e);
    }
    ck_assert_int_eq(hellos, 0);
    ck_assert_int_eq(gate_create(w, &of, "u5", &server_fns, NULL, &gate, &e), 0);
    ck_assert_int_eq(web_listen(w, "127.0.0.1", port, on_request, NULL, NULL, &e), 0);
    until(hellos == 1);
    mesh_tell(m, 5, &(struct mesh_msg){.type = MESH_RELEASE});
    mesh_tell(m, 6, &(struct mesh_msg){.type = MESH_RELEASE}); /* nobody */
    until(released == 1);
    web_close(server); /* the member breaks it */
    until(closes == 1 && hellos == 2);
    mesh_drop(m, 5); /* the coordinator breaks it */
    until(closes == 2 && hellos == 3);
    ck_assert_int_eq(mesh_keep(m, 5, "new", address, &e), 0); /* another pod is not there */
    until(!server);
    int64_t wait_ms = clock_ms() + 600;
    until(clock_ms() > wait_ms);
    ck_assert_int_eq(hellos, 3);
    ck_assert_int_eq(mesh_keep(m, 5, "u5", address, &e), 0);
    until(hellos == 4);
    mesh_forget(m, 5);
    until(!server);
    int64_t end_ms = clock_ms() + 600; /* beyond its back-off: it stays away */
    until(clock_ms() > end_ms);
    ck_assert_int_eq(hellos, 4);
    ck_assert_int_eq(closes, 3);
    web_destroy(w);
    mesh_destroy(m);
    gate_destroy(gate);
}
END_TEST

/* -- a stranger who holds a member's address by now -- */

static int heard;
static const char *lie;

static void stranger_open(void *user, struct web_socket *s)
{
    (void)user;
    /* What a member would say: it is worth nothing from him. */
    if (!lie)
        return;
    mesh_send(s,
        &(struct mesh_msg){.type = MESH_HELLO, .replica = 5, .uid = "u5", .pod = "", .node = ""});
    mesh_send(s, &(struct mesh_msg){.type = MESH_REFUSED, .term = 9000});
}

static void stranger_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    (void)user;
    (void)len;
    heard++;
    ck_assert_ptr_null(strstr(text, of.token));
    if (lie)
        web_send(s, lie, strlen(lie));
}

static void stranger_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    (void)why;
    closes++;
}

/* He learns no secret, is not heard, and is left when he says nothing. */
static void meet_stranger(const char *says)
{
    static const struct web_socket_fns stranger = {
        stranger_open, stranger_message, stranger_closed};
    static const struct mesh_fns fns = {on_message, on_closed};
    char address[32];
    uint16_t port = 0;
    lie = says;
    heard = closes = hellos = 0;
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(web_accept_sockets(w, MESH_PATH, &stranger, NULL, &e), 0);
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
    ck_assert_int_eq(mesh_create(w, &of, "u0", &fns, &hellos, &m, &e), 0);
    mesh_term(m, 3);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    ck_assert_int_eq(mesh_keep(m, 5, "u5", address, &e), 0);
    until(heard == 1);
    mesh_tell(m, 5, &(struct mesh_msg){.type = MESH_RELEASE}); /* nobody is there */
    if (!lie)
        mesh_tick(m, clock_ms() + PROOF_MS);
    until(closes == 1);
    ck_assert_int_eq(hellos, 0);
    web_destroy(w);
    mesh_destroy(m);
}

START_TEST(an_address_proves_nothing)
{
    meet_stranger("{\"t\":\"challenge\",\"nonce\":\"00\",\"mac\":\"00\"}");
    meet_stranger(NULL);
}
END_TEST

UNIT_MAIN("mesh", messages_read_back, garbage_is_refused, links_redial_until_forgotten,
    an_address_proves_nothing)
