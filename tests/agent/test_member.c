/*
 * member: goal: a pod follows one coordinator: refuses old incarnations, relays its ranks, never
 * mixes incarnations and ends its ranks when the coordinator is gone. Method: the member, its ranks
 * (testrank: this program with TESTRANK set) and a scripted coordinator on one loop.
 */
#include "agent/canary.h"
#include "agent/member.h"
#include "agent/mesh.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "tests/agent/testrank.h"
#include "tests/web_listen.h"

#include <check.h>
#include <string.h>

static struct web *w;
static struct procs *procs;
static struct member *member;
static struct front *front; /* or NULL */
static struct gate *gate;
static const struct proof_identity of = {"t", "u"};
static struct err e;
static uint16_t port;
static char dir[64], job_file[128];
static struct jobspec spec;
static struct arena *arena;

struct side { /* a coordinator */
    const char *uid;
    int64_t term, refused_by; /* greatest term that it was refused for */
    struct proof proof;
    bool proven;
    struct web_socket *s;
    int count[MESH_TYPES];
    int64_t incarnation; /* of the last message */
    int64_t exit_incarnation;
    enum exit_class exit_class_;
    uint16_t port;
    int loaded;
    int decodes;     /* beats of its first rank that say so */
    int64_t late_ms; /* the silence that was told with the first that says prefill */
};
static struct side first, second;

static void side_open(void *user, struct web_socket *s)
{
    struct side *side = user;
    buf_auto struct buf call;
    buf_init(&call, PROOF_BYTES);
    side->s = s;
    ck_assert_int_eq(proof_call(&side->proof, &of, side->uid, "u", side->term, &call, &e), 0);
    ck_assert_int_eq(web_send(s, call.data, call.len), 0);
}

static void side_proves(struct side *side, const char *text, size_t len)
{
    buf_auto struct buf answer;
    buf_init(&answer, PROOF_BYTES);
    ck_assert_int_eq(proof_answer(&side->proof, text, len, &answer, &e), 0);
    ck_assert_int_eq(web_send(side->s, answer.data, answer.len), 0);
    side->proven = true;
}

static void side_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct side *side = user;
    json_auto struct json *v = NULL;
    struct mesh_msg m;
    (void)s;
    if (!side->proven) {
        side_proves(side, text, len);
        return;
    }
    ck_assert_int_eq(json_parse(text, len, &v, &e), 0);
    ck_assert_msg(mesh_decode(v, &m, &e) == 0, "%s", e.text);
    side->count[m.type]++;
    if (m.type == MESH_REFUSED)
        side->refused_by = m.term;
    side->incarnation = m.incarnation;
    if (m.type == MESH_PREPARED)
        side->port = m.ports[0];
    if (m.type == MESH_FRAME)
        side->loaded += m.frame == WIRE_LOADED;
    if (m.type == MESH_BEAT) {
        side->decodes += m.beats[0].phase == WIRE_PHASE_SERVE_DECODE;
        if (m.beats[0].phase == WIRE_PHASE_SERVE_PREFILL && !side->late_ms)
            side->late_ms = m.beats[0].silent_ms;
    }
    if (m.type == MESH_EXIT) {
        side->exit_incarnation = m.incarnation;
        side->exit_class_ = m.class_;
    }
}

static void side_closed(void *user, struct web_socket *s, const char *why)
{
    struct side *side = user;
    (void)s;
    (void)why;
    side->s = NULL;
}

static void on_request(void *user, struct web_exchange *x)
{
    (void)user;
    web_answer(x, 404, "text/plain", "", 0, NULL);
}

#define until(condition) \
    do { \
        int64_t until_ms = clock_ms() + 10000; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s", #condition); \
            ck_assert_int_eq(web_turn(w, 10, &e), 0); \
            procs_tick(procs, clock_ms()); \
            member_tick(member, clock_ms()); \
        } \
    } while (0)

static void call(struct side *side, int64_t term, const char *uid)
{
    static const struct web_socket_fns fns = {side_open, side_message, side_closed};
    struct web_socket *s;
    *side = (struct side){.term = term, .uid = uid};
    ck_assert_int_eq(web_dial(w, "127.0.0.1", port, MESH_PATH, &fns, side, &s, &e), 0);
}

static void dial(struct side *side, int64_t term, const char *uid)
{
    call(side, term, uid);
    until(side->count[MESH_HELLO] == 1);
}

static void prepare_many(struct side *side, int64_t incarnation, int ranks)
{
    mesh_send(side->s,
        &(struct mesh_msg){.type = MESH_PREPARE,
            .incarnation = incarnation,
            .term = side->term,
            .secret = "00",
            .ranks = ranks});
}

static void prepare(struct side *side, int64_t incarnation)
{
    prepare_many(side, incarnation, 1);
}

static void start(struct side *side, int64_t incarnation)
{
    char table[128];
    snprintf(table, sizeof table, "[{\"rank\":0,\"host\":\"127.0.0.1\",\"port\":%u}]", side->port);
    mesh_send(side->s,
        &(struct mesh_msg){
            .type = MESH_START, .incarnation = incarnation, .world = 1, .table_json = table});
}

static void create_member(void)
{
    struct member_conf conf = {.procs = procs,
        .front = front,
        .spec = &spec,
        .job_file = job_file,
        .rank_program = "/proc/self/exe",
        .bind_host = "127.0.0.1",
        .run_dir = dir,
        .pod = "p",
        .uid = "u",
        .node = "n",
        .incarnation = 5};
    ck_assert_int_eq(member_create(&conf, &member, &e), 0);
    ck_assert_int_eq(gate_create(w, &of, "u", &member_link_fns, member, &gate, &e), 0);
}

static void read_job(const char *text)
{
    json_auto struct json *v = NULL;
    ck_assert_int_eq(io_write_file(job_file, text, strlen(text), 0600, &e), 0);
    ck_assert_int_eq(json_read_file(job_file, 1 << 20, &v, &e), 0);
    ck_assert_msg(jobspec_decode(v, arena, &spec, &e) == 0, "%s", e.text);
}

static void setup(void)
{
    char text[1024];
    snprintf(dir, sizeof dir, "/tmp/test-member-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(job_file, sizeof job_file, "%s/job.json", dir);
    snprintf(text, sizeof text,
        "{\"name\":\"t\",\"namespace\":\"d\",\"uid\":\"u\",\"generation\":1,\"spec\":{"
        "\"storage\":[{\"name\":\"d\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "\"model\":{\"source\":\"/tmp/m.gguf\"},\"checkpoint\":{\"path\":\"%s/c\"},"
        "\"train\":{\"method\":\"Full\",\"data\":{\"train\":\"/tmp/t.txt\"},"
        "\"sequenceLength\":16,\"batchSequences\":1,\"steps\":9,\"output\":\"/tmp/o\"}}}",
        dir);
    setenv("TESTRANK", "steps=100000,step_ms=5", 1);
    arena = arena_create(1 << 20);
    read_job(text);
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(procs_create(w, &procs, &e), 0);
    create_member();
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
}

static void teardown(void)
{
    procs_destroy(procs);
    web_destroy(w);
    gate_destroy(gate);
    member_destroy(member);
    front_destroy(front);
    front = NULL;
    arena_destroy(arena);
    io_remove_tree(dir, &e);
}

static void run_first(void)
{
    dial(&first, 2, "c0");
    ck_assert_int_eq(first.incarnation, 5);
    prepare(&first, 6);
    until(first.count[MESH_PREPARED] == 1);
    ck_assert(!member_in_world(member));
    start(&first, 6);
    until(first.loaded == 1);
    ck_assert(member_in_world(member));
    ck_assert_int_eq(member_sequences(member), TESTRANK_SHARE);
}

START_TEST(refuses_what_is_old)
{
    run_first();
    prepare(&first, 6);
    until(first.count[MESH_REFUSED] == 1);
    ck_assert_int_eq(first.incarnation, 6);
    mesh_send(first.s, &(struct mesh_msg){.type = MESH_STOP, .incarnation = 5, .mode = MESH_KILL});
    until(first.count[MESH_BEAT] >= 2); /* the stop of another incarnation changes nothing */
    ck_assert(member_busy(member));
}
END_TEST

START_TEST(drains_when_told)
{
    run_first();
    mesh_send(first.s, &(struct mesh_msg){.type = MESH_STOP, .incarnation = 6, .mode = MESH_DRAIN});
    until(first.count[MESH_ENDED] == 1);
    ck_assert_int_eq(first.count[MESH_EXIT], 1);
    ck_assert_int_eq(first.exit_class_, EXIT_CLASS_DRAINED);
    ck_assert(!member_busy(member));
    ck_assert_int_eq(member_sequences(member), 0);
}
END_TEST

START_TEST(never_mixes_incarnations)
{
    run_first();
    prepare(&first, 7); /* while ranks of 6 live */
    until(first.count[MESH_PREPARED] == 2);
    ck_assert_int_eq(first.count[MESH_EXIT], 1); /* 6 had ended before */
    ck_assert_int_eq(first.exit_incarnation, 6);
    ck_assert_int_eq(procs_count(procs), 1);
    ck_assert_int_eq(member_incarnation(member), 7);
}
END_TEST

START_TEST(follows_a_newer_coordinator)
{
    run_first();
    dial(&second, 3, "c1");
    ck_assert_int_eq(second.incarnation, 6); /* it learns what was seen */
    until(!first.s && !member_busy(member));
    ck_assert_int_eq(first.refused_by, 3); /* and the older one that it is over */
    prepare(&second, 7);
    until(second.count[MESH_PREPARED] == 1);
}
END_TEST

/* The ranks of the present coordinator are not touched by one whose term is over, or who has the
 * same one as another pod. */
START_TEST(refuses_a_coordinator_that_is_over)
{
    static const struct {
        int64_t term;
        const char *uid;
    } table[] = {{1, "c0"}, {1, "c1"}, {2, "c1"}};
    run_first();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        call(&second, table[i].term, table[i].uid);
        until(second.proven && !second.s);
        ck_assert_int_eq(second.refused_by, 2);
        ck_assert_int_eq(second.count[MESH_HELLO], 0);
        ck_assert(member_busy(member) && first.s);
    }
    first.term = 1; /* an order of the past on a link that holds */
    prepare(&first, 7);
    until(first.count[MESH_REFUSED] == 1);
    ck_assert_int_eq(first.refused_by, 2);
    first.term = 4; /* the same process was given another */
    prepare(&first, 7);
    until(first.count[MESH_PREPARED] == 2);
    ck_assert_int_eq(member_term(member), 4);
}
END_TEST

/* The same coordinator comes back at once, an older one not even to an agent that has started
 * anew. */
START_TEST(keeps_the_term_over_a_restart)
{
    dial(&first, 2, "c0");
    web_close(first.s);
    until(!first.s);
    gate_destroy(gate);
    member_destroy(member);
    web_destroy(w);
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    create_member();
    ck_assert_int_eq(web_listen(w, "127.0.0.1", 0, on_request, NULL, &port, &e), 0);
    ck_assert_int_eq(member_term(member), 2);
    call(&second, 1, "old");
    until(second.proven && !second.s);
    ck_assert_int_eq(second.refused_by, 2);
    dial(&first, 2, "c0");
}
END_TEST

START_TEST(ends_its_ranks_when_the_coordinator_is_gone)
{
    run_first();
    int64_t start_ms = clock_ms();
    web_close(first.s);
    until(!member_busy(member));
    ck_assert_int_ge(clock_ms() - start_ms, MEMBER_ORPHAN_MS - 100);
}
END_TEST

static int no_rank(void *user, enum wire_type type, const char *json)
{
    (void)user;
    (void)type;
    (void)json;
    return -ERR_PEER;
}

/* A model that steps on and on, and does not answer what its agent asked. */
START_TEST(a_first_answer_is_awaited_for_a_minute)
{
    static const struct api_keys none;
    const struct front_conf conf = {.web = w,
        .listen_host = "127.0.0.1",
        .model = "m",
        .keys = &none,
        .max_at_rank = 1,
        .send_fn = no_rank};
    setenv("TESTRANK", "token_ms=5,fault=busy,incarnation=6", 1);
    read_job("{\"name\":\"t\",\"namespace\":\"d\",\"uid\":\"u\",\"generation\":1,\"spec\":{"
             "\"storage\":[{\"name\":\"d\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
             "\"model\":{\"source\":\"/tmp/m.gguf\"},\"serve\":{\"modelName\":\"m\"}}}");
    gate_destroy(gate);
    member_destroy(member);
    ck_assert_msg(!front_create(&conf, &front, &e), "%s", e.text);
    create_member();
    run_first();
    until(first.decodes);
    member_tick(member, clock_ms() + CANARY_MS - 15000);
    member_tick(member, clock_ms() + CANARY_MS);
    until(first.late_ms);
    ck_assert_int_ge(first.late_ms, CANARY_MS);
    ck_assert_int_ge(first.decodes, 2);
    ck_assert(!front_serving(front));
}
END_TEST

START_TEST(leaves_by_asking_first)
{
    run_first();
    member_leave(member, clock_ms());
    until(first.count[MESH_LEAVING] == 1);
    ck_assert(member_busy(member)); /* the coordinator says when */
    mesh_send(first.s, &(struct mesh_msg){.type = MESH_STOP, .incarnation = 6, .mode = MESH_DRAIN});
    until(!member_busy(member));
    mesh_send(first.s, &(struct mesh_msg){.type = MESH_RELEASE});
    until(member_released(member));
}
END_TEST

#define RUN_RANKS     8
#define RUN_VARIABLES 45

/* A large environment reaches every rank whole: nothing a spec may hold is lost on the way. */
START_TEST(every_rank_gets_the_whole_environment)
{
    static char value[4097];
    const char *keys[RUN_VARIABLES], *values[RUN_VARIABLES];
    memset(value, 'x', 4096);
    for (int i = 0; i < RUN_VARIABLES; i++) {
        keys[i] = arena_printf(arena, "E%d", i);
        values[i] = value;
    }
    spec.task = TASK_RUN;
    spec.run = (struct jobspec_run){
        .command = {"/bin/sh", "-c",
            arena_printf(arena, "env | grep -c '^E[0-9]*=xxx' >%s/$RANK", dir)},
        .command_count = 3,
        .env = {keys, values, RUN_VARIABLES}};
    dial(&first, 2, "c0");
    prepare_many(&first, 6, RUN_RANKS);
    until(first.count[MESH_PREPARED] == 1);
    start(&first, 6);
    until(first.count[MESH_ENDED] == 1);
    for (int i = 0; i < RUN_RANKS; i++) {
        char path[128];
        buf_auto struct buf text;
        buf_init(&text, 100);
        snprintf(path, sizeof path, "%s/%d", dir, i);
        ck_assert_int_eq(io_read_file(path, 100, &text, &e), 0);
        ck_assert_int_eq((int)strtol(buf_cstr(&text), NULL, 10), RUN_VARIABLES);
    }
}
END_TEST

int main(void)
{
    if (getenv("TESTRANK"))
        return testrank_main();
    Suite *suite = suite_create("member");
    TCase *tc = tcase_create("member");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, refuses_what_is_old);
    tcase_add_test(tc, drains_when_told);
    tcase_add_test(tc, never_mixes_incarnations);
    tcase_add_test(tc, follows_a_newer_coordinator);
    tcase_add_test(tc, refuses_a_coordinator_that_is_over);
    tcase_add_test(tc, keeps_the_term_over_a_restart);
    tcase_add_test(tc, ends_its_ranks_when_the_coordinator_is_gone);
    tcase_add_test(tc, a_first_answer_is_awaited_for_a_minute);
    tcase_add_test(tc, leaves_by_asking_first);
    tcase_add_test(tc, every_rank_gets_the_whole_environment);
    tcase_set_timeout(tc, 30);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
