/*
 * crew: a member that ended is started again after a second, with a new uid, as a new pod would
 * have. Ports are found by listening at any. The control port's socket is handed to the agent: who
 * calls while it starts waits for it in the socket's queue, and nobody else can have the port. That
 * of the API is let go of when all members that start together have theirs, since nobody shall come
 * before there is an answer. Another program may take it in between: the agent then fails to
 * listen, ends, and the next start asks again. Must not decide how many there are.
 */
#include "cli/crew.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/net.h"

#include <signal.h>
#include <string.h>

#define AGAIN_MS 1000

void crew_init(struct crew *c, const struct crew_conf *conf)
{
    *c = (struct crew){.conf = *conf};
    for (int i = 0; i < CREW_MEMBERS; i++)
        c->members[i].child.pidfd = -1;
}

const char *crew_log(const struct crew *c, int replica, char *out, size_t size)
{
    snprintf(out, size, "%s/agent-%d.log", c->conf.folder, replica);
    return out;
}

/* Sockets of members that start together; -1: none. All are open until all ports are known: the
   kernel may give a port that was let go of once more. */
struct held {
    int control[CREW_MEMBERS], serve[CREW_MEMBERS];
};

static void let_go(int fds[CREW_MEMBERS])
{
    for (int i = 0; i < CREW_MEMBERS; i++) {
        io_close(fds[i]);
        fds[i] = -1;
    }
}

static int find_port(int *fd, uint16_t wanted, uint16_t *out, struct err *e)
{
    struct err ignored;
    *fd = wanted ? io_listen(NET_LOOPBACK, wanted, out, &ignored) : -1;
    if (*fd < 0)
        *fd = io_listen(NET_LOOPBACK, 0, out, e);
    return *fd < 0 ? *fd : 0;
}

static int find_ports(struct crew *c, int replica, struct held *h, struct err *e)
{
    struct crew_member *m = &c->members[replica];
    uint16_t first = replica ? 0 : c->conf.serve_port;
    int rc = find_port(&h->control[replica], m->port, &m->port, e);
    return rc
        ? rc
        : find_port(&h->serve[replica], m->serve_port ? m->serve_port : first, &m->serve_port, e);
}

/* A member's GPUs, one behind another's, out of those that the user lets us see; none when they do
 * not suffice: CUDA then says so. */
static const char *own_gpus(const struct crew *c, int replica, char *out, size_t size)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int first = replica * c->conf.gpus, n = snprintf(out, size, "CUDA_VISIBLE_DEVICES=");
    for (int i = 0; i < first + c->conf.gpus; i++) {
        int len = visible ? (int)strcspn(visible, ",") : 0;
        const char *comma = i > first ? "," : "";
        if (i >= first && !visible)
            n += snprintf(out + n, size - (size_t)n, "%s%d", comma, i);
        else if (i >= first && len && (size_t)(n + len + 2) < size)
            n += snprintf(out + n, size - (size_t)n, "%s%.*s", comma, len, visible);
        if (visible)
            visible += len + (visible[len] == ',');
    }
    return out;
}

/* control: a socket that listens at its port. */
static int start_member(struct crew *c, int replica, int control, struct err *e)
{
    struct crew_member *m = &c->members[replica];
    char run[512];
    snprintf(run, sizeof run, "%s/run-%d", c->conf.folder, replica);
    int rc = io_mkdirs(run, 0700, e);
    if (rc)
        return rc;
    uint8_t id[16];
    rc = io_random(id, sizeof id, e);
    if (rc)
        return rc;
    io_hex(id, sizeof id, m->uid);
    char log[512], job[512], listen[32], serve[32], passed[16], number[16], pod[96], gpus[4096];
    snprintf(job, sizeof job, "%s/job", c->conf.folder);
    snprintf(listen, sizeof listen, NET_LOOPBACK ":%u", m->port);
    snprintf(passed, sizeof passed, "%d", SPAWN_PASSED);
    snprintf(serve, sizeof serve, NET_LOOPBACK ":%u", m->serve_port);
    snprintf(number, sizeof number, "%d", replica);
    snprintf(pod, sizeof pod, "%s-%d", c->conf.job, replica);
    const char *argv[] = {c->conf.agent, "--job-dir", job, "--run-dir", run, "--listen", listen,
        "--listen-fd", passed, "--serve-listen", serve, "--replica", number, "--pod", pod,
        "--pod-uid", m->uid, "--node", "local", "--rank-program", c->conf.rank_program, NULL};
    return spawn_start(argv, c->conf.gpus ? own_gpus(c, replica, gpus, sizeof gpus) : NULL, control,
        crew_log(c, replica, log, sizeof log), &m->child, e);
}

static bool is_due(const struct crew_member *m, int64_t now_ms)
{
    return !m->child.pid && now_ms >= m->again_ms;
}

static int start_members(struct crew *c, int count, const struct held *h, struct err *e)
{
    for (int i = 0; i < count; i++) {
        int rc = h->control[i] < 0 ? 0 : start_member(c, i, h->control[i], e);
        if (rc)
            return rc;
        c->starts += h->control[i] >= 0;
        if (i >= c->count)
            c->count = i + 1;
    }
    return 0;
}

int crew_keep(struct crew *c, int count, struct err *e)
{
    if (count > CREW_MEMBERS)
        return err_set(e, ERR_USER, "replicas: at most %d on one machine", CREW_MEMBERS);
    int64_t now_ms = clock_ms();
    struct held held;
    int rc = 0;
    memset(&held, -1, sizeof held);
    for (int i = 0; !rc && i < count; i++)
        if (is_due(&c->members[i], now_ms))
            rc = find_ports(c, i, &held, e);
    let_go(held.serve);
    if (!rc)
        rc = start_members(c, count, &held, e);
    let_go(held.control);
    return rc;
}

int crew_reap(struct crew *c)
{
    for (int i = 0; i < c->count; i++) {
        struct crew_member *m = &c->members[i];
        if (!spawn_ended(&m->child, &m->status))
            continue;
        m->ended++;
        m->again_ms = clock_ms() + AGAIN_MS;
        return i;
    }
    return -1;
}

void crew_shrink(struct crew *c, int count, int64_t grace_ms)
{
    int64_t deadline = clock_ms() + grace_ms;
    for (int i = count; i < c->count; i++)
        spawn_signal(&c->members[i].child, SIGTERM);
    for (int i = count; i < c->count; i++) {
        spawn_end(&c->members[i].child, deadline);
        c->members[i] = (struct crew_member){.child.pidfd = -1};
    }
    if (c->count > count)
        c->count = count;
}

struct desired_member *crew_members(const struct crew *c, struct arena *a)
{
    struct desired_member *out = arena_array(a, CREW_MEMBERS, sizeof *out);
    for (int i = 0; out && i < c->count; i++) {
        const struct crew_member *m = &c->members[i];
        out[i] = (struct desired_member){
            .replica = i,
            .pod = arena_printf(a, "%s-%d", c->conf.job, i),
            .uid = arena_strdup(a, m->uid),
            .node = "local",
            .address = m->child.pid ? arena_printf(a, NET_LOOPBACK ":%u", m->port) : "",
        };
        if (!out[i].pod || !out[i].uid || !out[i].address)
            return NULL;
    }
    return out;
}
