/*
 * Goal: what the agent says in its first two frames is what a rank works by, and what cannot be
 * true is refused before anything is indexed by it. Method: real frames to a child process that
 * compares every field; a table of bad frames.
 */
#include "runtime/door/orders.h"

#include "api/exitcode.h"
#include "base/clock.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64];
static struct agent a;
static struct door d; /* in the child */

static void setup(void)
{
    golden_folder(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static bool same_peer(
    const struct wire_peer *p, int rank, int replica, int local, const char *host, uint16_t port)
{
    return p->rank == rank && p->replica == replica && p->local_rank == local &&
        !strcmp(p->host, host) && p->port == port;
}

/* The number of the first thing that is not as said; 0: all is. */
static int wrong_order(const struct orders *o)
{
    const bool right[] = {o->spec->task == TASK_TRAIN, o->spec->train.steps == 5, o->rank == 1,
        d.rank == 1, o->world == 2, o->replica == 4, o->local_rank == 2, o->local_world == 3,
        o->incarnation == 77, !strcmp(o->secret, "5ec7e7"),
        same_peer(&o->peers[0], 0, 0, 0, "10.0.0.1", 4001),
        same_peer(&o->peers[1], 1, 4, 2, "10.0.0.2", 4002) && !strcmp(o->peers[1].node, "n2") &&
            !*o->peers[0].node};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (!right[i])
            return (int)i + 1;
    return 0;
}

static int body(int fd)
{
    struct orders o;
    struct err e = {0};
    door_init(&d, fd, NULL);
    int rc = orders_take(&o, &d, &e);
    if (rc)
        door_send_failed(&d, &e);
    else {
        io_auto_fd int caller = io_accept(o.listen_fd, clock_ms() + AGENT_MS, &e);
        rc = caller < 0 ? 98 : wrong_order(&o);
    }
    orders_done(&o);
    orders_done(&o); /* twice is fine */
    return e.code ? (int)exit_class_of(e.code) : rc;
}

#define PREPARE \
    "{\"job_file\":\"%s/job.json\",\"incarnation\":77,\"secret\":\"5ec7e7\",\"rank_local\":2," \
    "\"local_world\":%d,\"replica\":4,\"bind_host\":\"127.0.0.1\"}"

/* The listener's port, 0: the rank said something else. */
static int prepare(int local_world)
{
    struct jobspec s = agent_job(TASK_TRAIN, "cpu", folder);
    char path[128], text[512];
    buf_auto struct buf b;
    struct err e = {0};
    buf_init(&b, LIMIT_JOB_FILE_BYTES);
    ck_assert_msg(!jobspec_encode(&s, &b, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/job.json", folder);
    golden_write(path, b.data, b.len);
    snprintf(text, sizeof text, PREPARE, folder, local_world);
    agent_spawn(&a, body);
    agent_send(&a, WIRE_PREPARE, text);
    if (local_world < 1 || local_world > LIMIT_RANKS_PER_REPLICA)
        return 0;
    json_auto struct json *v = agent_expect(&a, WIRE_READY);
    return (int)json_int(v, "port", 0);
}

START_TEST(every_field_arrives)
{
    struct err e = {0};
    int port = prepare(3);
    ck_assert_int_gt(port, 0);
    agent_send(&a, WIRE_START,
        "{\"rank\":1,\"world\":2,\"ranks\":["
        "{\"rank\":1,\"replica\":4,\"local_rank\":2,\"host\":\"10.0.0.2\",\"port\":4002,"
        "\"node\":\"n2\"},"
        "{\"rank\":0,\"replica\":0,\"local_rank\":0,\"host\":\"10.0.0.1\",\"port\":4001}]}");
    io_auto_fd int call = io_connect("127.0.0.1", (uint16_t)port, clock_ms() + AGENT_MS, &e);
    ck_assert_msg(call >= 0, "%s", e.text);
    ck_assert_int_eq(agent_wait(&a), 0);
}
END_TEST

static void refused(const char *class, const char *word)
{
    agent_expect_failed(&a, class, word);
    ck_assert_int_eq(agent_end(&a), (int)exit_class_of(err_code_parse(class)));
}

START_TEST(a_bad_prepare_is_refused)
{
    static const struct {
        enum wire_type type;
        const char *json, *class, *word;
    } rows[] = {
        {WIRE_START, "{}", "bug", "is due"},
        {WIRE_PREPARE, "{\"job_file\":\"/nowhere/job.json\"}", "data", "/nowhere"},
        {WIRE_PREPARE, "{\"job_file\":\"/dev/null\"}", "data", "/dev/null"},
        {WIRE_PREPARE, "{}", "data", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        agent_spawn(&a, body);
        agent_send(&a, rows[i].type, rows[i].json);
        refused(rows[i].class, rows[i].word);
    }
    prepare(0);
    refused("bug", "a replica of 0 ranks");
    prepare(LIMIT_RANKS_PER_REPLICA + 1);
    refused("bug", "a replica of");
}
END_TEST

START_TEST(a_bad_start_is_refused)
{
#define PEER(rank) "{\"rank\":" #rank ",\"host\":\"h\"}"
    static const char *const rows[][2] = {
        {"{\"rank\":0,\"world\":0,\"ranks\":[]}", "in a world of 0"},
        {"{\"rank\":0,\"world\":100000000,\"ranks\":[]}", "in a world of"},
        {"{\"rank\":-1,\"world\":1,\"ranks\":[" PEER(0) "]}", "rank -1"},
        {"{\"rank\":1,\"world\":1,\"ranks\":[" PEER(0) "]}", "rank 1"},
        {"{\"rank\":0,\"world\":2,\"ranks\":[" PEER(0) "]}", "in a world of 2"},
        {"{\"rank\":0,\"world\":1}", "in a world of 1"},
        {"{\"rank\":0,\"world\":1,\"ranks\":[" PEER(1) "]}", "a peer of rank 1"},
        {"{\"rank\":0,\"world\":1,\"ranks\":[" PEER(-1) "]}", "a peer of rank -1"},
        {"{\"rank\":0,\"world\":1,\"ranks\":[{}]}", "a peer of rank -1"},
        {"{\"rank\":0,\"world\":1,\"ranks\":[{\"rank\":0,\"host\":\"0123456789012345678901234567890"
         "123456789012345678901234567890123\"}]}",
            "a peer of rank 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        prepare(1);
        agent_send(&a, WIRE_START, rows[i][0]);
        refused("bug", rows[i][1]);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"orders", 60, setup, teardown},
        (const TTest *const[]){
            every_field_arrives, a_bad_prepare_is_refused, a_bad_start_is_refused, NULL});
}
