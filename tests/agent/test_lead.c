/*
 * lead: goal: the coordinator's hands do what the world decides, over a real mesh. Method: one loop
 * holds the lead and a scripted member that answers prepare, start and stop by hand, so each
 * message on the wire is seen.
 */
#include "agent/gate.h"
#include "agent/lead.h"
#include "agent/mesh.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"

#include <check.h>
#include <string.h>

#include "tests/unit.h"
#include "tests/web_listen.h"

static struct web *w;
static struct lead *lead;
static struct err e;
static uint16_t port;
static char dir[64];
static struct web_socket *member;
static int count[MESH_TYPES];
static int64_t incarnation;
static char secret[80], table[512];
static enum mesh_stop mode;

static const struct jobspec spec = {.task = TASK_TRAIN, .device = {.per_replica = 2}};

static const struct proof_identity of = {"secret", "job"};

static void member_open(void *user, struct web_socket *s, int64_t term, const char *uid)
{
    (void)user;
    ck_assert_int_eq(term, 2);
    ck_assert_str_eq(uid, "u");
    member = s;
    mesh_send(s,
        &(struct mesh_msg){.type = MESH_HELLO,
            .incarnation = 9,
            .replica = 0,
            .uid = "u",
            .pod = "p",
            .node = "n"});
}

static void member_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    json_auto struct json *v = NULL;
    struct mesh_msg m;
    (void)user;
    (void)s;
    ck_assert_int_eq(json_parse(text, len, &v, &e), 0);
    ck_assert_msg(mesh_decode(v, &m, &e) == 0, "%s", e.text);
    count[m.type]++;
    if (m.type != MESH_RELEASE)
        incarnation = m.incarnation;
    if (m.type == MESH_PREPARE) {
        ck_assert_int_eq(m.term, 2);
        snprintf(secret, sizeof secret, "%s", m.secret);
        ck_assert_int_eq(m.ranks, 2);
    }
    if (m.type == MESH_START) {
        buf_auto struct buf out;
        buf_init(&out, sizeof table);
        json_print(m.table, &out);
        snprintf(table, sizeof table, "%s", buf_cstr(&out));
    }
    if (m.type == MESH_STOP)
        mode = m.mode;
}

static void member_closed(void *user, struct web_socket *s, const char *why)
{
    (void)user;
    (void)s;
    (void)why;
    member = NULL;
}

static void on_request(void *user, struct web_exchange *x)
{
    (void)user;
    web_answer(x, 404, "text/plain", "", 0, NULL);
}

static void create_lead(void)
{
    struct lead_conf conf = {.web = w,
        .spec = &spec,
        .of = of,
        .uid = "u",
        .run_dir = dir,
        .self_host = "127.0.0.1",
        .self_port = port,
        .incarnation = 3,
        .term = 2};
    ck_assert_msg(lead_create(&conf, &lead, &e) == 0, "%s", e.text);
}

static void want(bool suspend, bool release)
{
    struct desired_member one = {0, "p", "u", "n", ""};
    struct desired d = {.generation = 1,
        .term = 2,
        .replicas = 1,
        .suspend = suspend,
        .release = release,
        .elastic = {.min_replicas = 1, .wait_seconds = 60},
        .restart = {.max_restarts = 1, .window_seconds = 60},
        .members = &one,
        .member_count = 1};
    ck_assert_msg(lead_desired(lead, &d, &e) == 0, "%s", e.text);
}

static struct arena *arena;
static enum job_state state(struct report *r)
{
    if (!arena)
        arena = arena_create(1 << 20);
    arena_reset(arena);
    ck_assert_int_eq(lead_report(lead, arena, r, &e), 0);
    return r->state;
}

#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + 10000; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
            ck_assert_int_eq(web_turn(w, 10, &e), 0); \
            lead_tick(lead, clock_ms()); \
        } \
    } while (0)

START_TEST(leads_a_member_through_a_life)
{
    static const struct gate_fns fns = {member_open, member_message, member_closed};
    struct gate *gate;
    struct report r;
    snprintf(dir, sizeof dir, "/tmp/test-lead-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(gate_create(w, &of, "u", &fns, NULL, &gate, &e), 0);
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
    create_lead();
    want(false, false);
    until(count[MESH_PREPARE] == 1);
    ck_assert_int_eq(incarnation, 10); /* above what the member has seen */
    ck_assert_uint_eq(strlen(secret), 64);
    mesh_send(member,
        &(struct mesh_msg){
            .type = MESH_PREPARED, .incarnation = 10, .ports = {4001, 4002}, .port_count = 2});
    until(count[MESH_START] == 1);
    ck_assert_ptr_nonnull(strstr(table, "\"host\":\"127.0.0.1\",\"port\":4002"));
    for (int i = 0; i < 2; i++)
        mesh_send(member,
            &(struct mesh_msg){.type = MESH_FRAME,
                .incarnation = 10,
                .local = i,
                .frame = WIRE_LOADED,
                .payload_json = "{\"steps\":50}"});
    until(state(&r) == JOB_RUNNING);
    ck_assert_int_eq(r.steps, 50);
    want(true, false);
    until(count[MESH_STOP] == 1);
    ck_assert_int_eq(mode, MESH_DRAIN);
    for (int i = 0; i < 2; i++)
        mesh_send(member,
            &(struct mesh_msg){.type = MESH_EXIT,
                .incarnation = 10,
                .local = i,
                .class_ = EXIT_CLASS_DRAINED,
                .message = "",
                .log_tail = ""});
    mesh_send(member, &(struct mesh_msg){.type = MESH_ENDED, .incarnation = 10});
    until(state(&r) == JOB_SUSPENDED && r.ranks == 0);
    ck_assert_str_eq(r.attempts[0].cause, "Suspended");
    /* Another life of this agent remembers. */
    lead_tick(lead, clock_ms());
    lead_destroy(lead);
    create_lead();
    state(&r);
    ck_assert_int_eq(r.incarnation, 10);
    ck_assert_int_eq(r.attempt_count, 1);
    web_close(member);
    until(!member);
    want(false, true);
    ck_assert(lead_released(lead));
    web_destroy(w);
    lead_destroy(lead);
    gate_destroy(gate);
    io_remove_tree(dir, &e);
}
END_TEST

/* A member follows another: the coordinator is over, and its next life knows by whom. */
START_TEST(ends_when_a_member_follows_another)
{
    static const struct gate_fns fns = {member_open, member_message, member_closed};
    struct gate *gate;
    struct report r;
    snprintf(dir, sizeof dir, "/tmp/test-lead-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memset(count, 0, sizeof count);
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(gate_create(w, &of, "u", &fns, NULL, &gate, &e), 0);
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
    create_lead();
    want(false, false);
    until(count[MESH_PREPARE] == 1);
    ck_assert(!lead_over(lead));
    mesh_send(member, &(struct mesh_msg){.type = MESH_REFUSED, .term = 7});
    until(count[MESH_STOP] == 1);
    ck_assert_int_eq(mode, MESH_KILL);
    mesh_send(member, &(struct mesh_msg){.type = MESH_ENDED, .incarnation = 10});
    until(lead_over(lead));
    lead_tick(lead, clock_ms());
    lead_destroy(lead);
    create_lead();
    state(&r);
    ck_assert_int_eq(r.term, 7);
    struct desired d = {.generation = 2, .term = 2};
    ck_assert_int_eq(lead_desired(lead, &d, &e), -ERR_USER);
    web_destroy(w);
    lead_destroy(lead);
    gate_destroy(gate);
    io_remove_tree(dir, &e);
}
END_TEST

UNIT_MAIN("lead", leads_a_member_through_a_life, ends_when_a_member_follows_another)
