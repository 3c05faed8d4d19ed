/*
 * rank: the rank's half of api/wire.h. Frames of the agent are trusted to be well formed (a breach
 * is a bug), but sizes and counts in them are still checked. Must not know what training or serving
 * do.
 */
#include "runtime/rank.h"

#include "base/clock.h"
#include "api/exitcode.h"
#include "base/io.h"
#include "base/log.h"
#include "api/names.h"
#include "runtime/door/beat.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PREPARE_MS   60000  /* the agent sends it right after the spawn */
#define START_MS     600000 /* the slowest member may have to pull an image */
#define SEND_MS      30000  /* an agent that does not read for so long is stuck */
#define COLL_WAIT_MS 120000 /* the agent's verdict on a hang comes much earlier */
#define POLL_MS      1000
#define WORLD_MAX    (LIMIT_REPLICAS * LIMIT_RANKS_PER_REPLICA)

int rank_send(struct rank *r, enum wire_type type, const void *data, size_t size, struct err *e)
{
    int rc;

    if (r->fd < 0)
        return 0;
    pthread_mutex_lock(&r->send_lock);
    rc = wire_send(r->fd, type, data, (uint32_t)size, clock_ms() + SEND_MS, e);
    pthread_mutex_unlock(&r->send_lock);
    return rc;
}

int rank_send_fields(struct rank *r, enum wire_type type, const struct rank_field *f, struct err *e)
{
    buf_auto struct buf b;
    struct jsonw w;

    buf_init(&b, LIMIT_FRAME_BYTES);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    for (; f->name; f++)
        if (f->text)
            jsonw_str(&w, f->name, f->text);
        else if (fabs(f->value) < 0x1p53 && f->value == floor(f->value))
            jsonw_int(&w, f->name, (int64_t)f->value);
        else
            jsonw_num(&w, f->name, f->value);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory for a frame");
    return rank_send(r, type, b.data, b.len, e);
}

int rank_send_done(struct rank *r, int64_t step, const char *output, struct err *e)
{
    char text[64];

    atomic_store(&r->ending, true);
    if (output)
        return rank_send_fields(r, WIRE_DONE,
            (struct rank_field[]){
                {"step", (double)step, NULL}, {"output", 0, output}, {NULL, 0, NULL}},
            e);
    snprintf(text, sizeof text, "{\"step\":%lld,\"drained\":true}", (long long)step);
    return rank_send(r, WIRE_DONE, text, strlen(text), e);
}

void rank_send_failed(struct rank *r, const struct err *why)
{
    atomic_store(&r->ending, true);
    (void)rank_send_fields(r, WIRE_FAILED,
        (struct rank_field[]){
            {"class", 0, err_code_name(why->code)}, {"message", 0, why->text}, {NULL, 0, NULL}},
        NULL);
}

struct ending {
    struct rank *rank;
    int64_t ms;
    struct err why;
};

static void *end_process(void *arg)
{
    const struct ending *end = arg;
    struct timespec ts = {end->ms / 1000, end->ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
    log_error("the device does not let go", LOG_I("rank", end->rank->rank), LOG_ERR(&end->why));
    if (!atomic_load(&end->rank->ending))
        rank_send_failed(end->rank, &end->why);
    _exit((int)exit_class_of(end->why.code));
}

void rank_end_within(struct rank *r, int64_t ms, const struct err *why)
{
    static struct ending end; /* the thread's, as long as the process lives */
    pthread_t thread;

    if (atomic_exchange(&r->limited, true))
        return;
    end = (struct ending){r, ms, *why};
    if (!pthread_create(&thread, NULL, end_process, &end))
        pthread_detach(thread);
}

/* -- the agent's frames -- */

static int next_frame(
    struct rank *r, enum wire_type type, int64_t wait_ms, struct json **out, struct err *e)
{
    struct wire_frame f;
    int rc = wire_wait(&r->reader, r->fd, clock_ms() + wait_ms, &f, e);

    if (rc < 0)
        return rc;
    if (f.type != type)
        return err_set(e, ERR_BUG, "frame %d where %d is due", (int)f.type, (int)type);
    return json_parse_within(f.data, f.len, LIMIT_FRAME_VALUES, out, e);
}

static int take_job(struct rank *r, const struct json *v, struct err *e)
{
    json_auto struct json *job = NULL;
    int rc = json_read_file(json_str(v, "job_file", ""), LIMIT_JOB_FILE_BYTES, &job, e);

    if (!rc)
        rc = jobspec_decode(job, r->arena, &r->job, e);
    r->spec = &r->job;
    return rc;
}

static int prepare(struct rank *r, struct err *e)
{
    json_auto struct json *v = NULL;
    uint16_t port = 0;
    int rc = next_frame(r, WIRE_PREPARE, PREPARE_MS, &v, e);

    if (!rc)
        rc = take_job(r, v, e);
    if (rc)
        return rc;
    r->incarnation = json_int(v, "incarnation", 0);
    r->local_rank = (int)json_int(v, "rank_local", 0);
    r->local_world = (int)json_int(v, "local_world", 1);
    r->replica = (int)json_int(v, "replica", 0);
    snprintf(r->secret, sizeof r->secret, "%s", json_str(v, "secret", ""));
    if (r->local_world < 1 || r->local_world > LIMIT_RANKS_PER_REPLICA)
        return err_set(e, ERR_BUG, "a replica of %d ranks", r->local_world);
    r->listen_fd = io_listen(json_str(v, "bind_host", "0.0.0.0"), 0, &port, e);
    if (r->listen_fd < 0)
        return r->listen_fd;
    return rank_send_fields(
        r, WIRE_READY, (struct rank_field[]){{"port", port, NULL}, {NULL, 0, NULL}}, e);
}

static int take_peer(struct rank *r, const struct json *v, struct err *e)
{
    int64_t rank = json_int(v, "rank", -1);
    const char *host = json_str(v, "host", "");
    struct coll_peer *p;

    if (rank < 0 || rank >= r->world || strlen(host) >= sizeof p->host)
        return err_set(
            e, ERR_BUG, "a peer of rank %lld in a world of %d", (long long)rank, r->world);
    p = &r->peers[rank];
    p->rank = (int)rank;
    p->replica = (int)json_int(v, "replica", 0);
    p->local_rank = (int)json_int(v, "local_rank", 0);
    p->port = (uint16_t)json_int(v, "port", 0);
    snprintf(p->host, sizeof p->host, "%s", host);
    return 0;
}

static int start(struct rank *r, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = next_frame(r, WIRE_START, START_MS, &v, e);

    if (rc)
        return rc;
    r->rank = (int)json_int(v, "rank", 0);
    r->world = (int)json_int(v, "world", 1);
    if (r->world < 1 || r->world > WORLD_MAX || r->rank < 0 || r->rank >= r->world ||
        json_count(json_get(v, "ranks")) != (size_t)r->world)
        return err_set(e, ERR_BUG, "rank %d in a world of %d", r->rank, r->world);
    r->peers = arena_array(r->arena, (size_t)r->world, sizeof *r->peers);
    if (!r->peers)
        return err_set(e, ERR_MEMORY, "no memory for a world of %d", r->world);
    json_each (peer, json_get(v, "ranks")) {
        if (!rc)
            rc = take_peer(r, peer, e);
    }
    return rc;
}

/* -- the reader thread -- */

/* Who asked is told when it cannot be taken: it would wait for ever. */
static void refuse_request(struct rank *r, uint64_t id, const struct err *why)
{
    struct err e = {0};

    log_warn("request refused", LOG_I("id", id), LOG_ERR(why));
    if (rank_send_fields(r, WIRE_FINISHED,
            (struct rank_field[]){{"id", (double)id, NULL}, {"reason", 0, "error"},
                {"message", 0, why->text}, {NULL, 0, NULL}},
            &e))
        log_warn("the refusal was not sent", LOG_ERR(&e));
}

static void take_request(struct rank *r, const struct wire_frame *f)
{
    uint64_t id = wire_request_id(f);
    struct err e = {0};

    if (!id)
        err_set(&e, ERR_BUG, "it does not begin with an id");
    else if (!r->sched)
        err_set(&e, ERR_BUG, "this rank does not serve");
    if (e.code || sched_push(r->sched, id, f->data, f->len, &e))
        refuse_request(r, id, &e);
}

static void take_cancel(struct rank *r, const struct wire_frame *f)
{
    json_auto struct json *body = NULL;

    if (!json_parse_within(f->data, f->len, LIMIT_FRAME_VALUES, &body, NULL) && r->sched)
        sched_cancel(r->sched, (uint64_t)json_int(body, "id", 0));
}

static void take_frame(struct rank *r, const struct wire_frame *f)
{
    switch (f->type) {
    case WIRE_STOP:
        atomic_store(&r->stop, true);
        if (r->sched)
            sched_wake(r->sched);
        break;
    case WIRE_CHECKPOINT:
        atomic_store(&r->checkpoint, true);
        break;
    case WIRE_REQUEST:
        take_request(r, f);
        break;
    case WIRE_CANCEL:
        take_cancel(r, f);
        break;
    default:
        log_warn("unexpected frame", LOG_I("type", f->type));
    }
}

static void *read_frames(void *arg)
{
    struct rank *r = arg;
    struct wire_frame f;
    struct err e = {0};
    int rc = 0;

    while (rc >= 0) {
        struct pollfd p = {.fd = r->fd, .events = POLLIN};

        while ((rc = wire_next(&r->reader, &f, &e)) == 1)
            take_frame(r, &f);
        if (rc < 0)
            break;
        if (poll(&p, 1, POLL_MS) > 0)
            rc = wire_read(&r->reader, r->fd, &e);
    }
    if (!atomic_load(&r->ending)) {
        log_error("the agent is gone", LOG_ERR(&e));
        /* The main thread may be stuck in a kernel or a driver: nothing to unwind is worth
         * the wait, not even a communicator, whose abort may wait itself. */
        _exit(EXIT_CLASS_PEER);
    }
    return NULL;
}

/* -- life -- */

int rank_device(const char *resource, int local_rank, const char **kind, int *index, struct err *e)
{
    *kind = device_kind(resource);
    *index = *kind && strcmp(*kind, "cpu") != 0 ? local_rank : 0;
    if (*kind)
        return 0;
    return err_set(e, ERR_USER,
        "spec.device.resource: %s: only spec.run can use it; spec.train and spec.serve "
        "know cpu, nvidia.com/gpu and nvidia.com/mig-*",
        resource);
}

static int open_device(struct rank *r, struct err *e)
{
    struct dev_info info;
    const char *kind = NULL;
    int index = 0, rc = rank_device(r->spec->device.resource, r->local_rank, &kind, &index, e);

    if (rc)
        return rc;
    rc = dev_open(kind, index, 0, &r->dev, e);
    if (rc)
        return rc;
    dev_describe(r->dev, &info);
    r->budget_bytes = info.memory_bytes;
    if (!info.host_readable || r->local_world == 1)
        return 0;
    /* The replica's memory and processors are shared by its ranks. */
    r->budget_bytes /= r->local_world;
    dev_close(r->dev);
    r->dev = NULL;
    info.threads = info.threads / r->local_world;
    return dev_open(kind, index, info.threads > 1 ? info.threads : 1, &r->dev, e);
}

static int read_staged(bool *staged, struct err *e)
{
    const char *how = getenv(NAME_ENV_COLL);

    *staged = how && !strcmp(how, NAME_ENV_COLL_STAGED);
    if (how && *how && !*staged)
        return err_set(e, ERR_USER, NAME_ENV_COLL ": \"%s\" is not " NAME_ENV_COLL_STAGED, how);
    return 0;
}

static void limit_end(void *rank, const struct err *why)
{
    rank_end_within(rank, RANK_END_MS, why);
}

static int connect_world(struct rank *r, struct err *e)
{
    struct coll_conf conf = {.rank = r->rank,
        .world = r->world,
        .peers = r->peers,
        .listen_fd = r->listen_fd,
        .secret = r->secret,
        .incarnation = r->incarnation,
        .timeout_ms = COLL_WAIT_MS,
        .page = r->page,
        .dev = r->dev,
        .failing_fn = limit_end,
        .failing_user = r};
    struct coll *c = NULL;
    int rc = read_staged(&conf.staged, e);

    if (rc)
        return rc;

    beat_phase(r->page, WIRE_PHASE_CONNECT);
    r->listen_fd = -1;
    rc = coll_create(&conf, &c, e);
    atomic_store(&r->coll, c);
    if (!rc && r->rank == 0)
        log_info("world", LOG_I("ranks", r->world), LOG_S("collectives", coll_transport(c)));
    return rc;
}

int rank_open(struct rank *r, int fd, struct wire_page *page, struct err *e)
{
    pthread_t reader;
    int rc;

    *r = (struct rank){.fd = fd, .page = page, .listen_fd = -1};
    pthread_mutex_init(&r->send_lock, NULL);
    wire_reader_init(&r->reader);
    r->arena = arena_create(64 << 20);
    if (!r->arena)
        return err_set(e, ERR_MEMORY, "no memory for a rank");
    rc = prepare(r, e);
    if (!rc)
        rc = start(r, e);
    if (!rc && r->spec->task == TASK_SERVE)
        rc = sched_create(LIMIT_RANK_REQUESTS, &r->sched, e);
    if (rc)
        return rc;
    rc = pthread_create(&reader, NULL, read_frames, r);
    if (rc)
        return err_sys(e, ERR_MEMORY, rc, "cannot start the reader thread");
    pthread_detach(reader);
    rc = open_device(r, e);
    if (!rc && r->spec->task == TASK_TRAIN)
        rc = connect_world(r, e);
    return rc;
}

void rank_close(struct rank *r)
{
    /* The reader thread lives as long as the process and uses fd, reader, send_lock and sched.
     */
    atomic_store(&r->ending, true);
    coll_destroy(atomic_exchange(&r->coll, NULL));
    dev_close(r->dev);
    r->dev = NULL;
    io_close(r->listen_fd);
    arena_destroy(r->arena);
    r->arena = NULL;
}
