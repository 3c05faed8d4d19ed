/*
 * orders: the two frames that open a rank, decoded. Frames of the agent are trusted to be well
 * formed (a breach is a bug), but sizes and counts in them are still checked: an array is indexed
 * by what they say.
 */
#include "runtime/door/orders.h"

#include "api/limits.h"
#include "base/io.h"

#define PREPARE_MS 60000  /* the agent sends it right after the spawn */
#define START_MS   600000 /* the slowest member may have to pull an image */
#define WORLD_MAX  (LIMIT_REPLICAS * LIMIT_RANKS_PER_REPLICA)

static int take_job(struct orders *o, const struct json *v, struct err *e)
{
    return jobspec_load(json_str(v, "job_file", ""), o->arena, &o->job, e);
}

static int take_prepare(struct orders *o, struct door *d, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = door_next(d, WIRE_PREPARE, PREPARE_MS, &v, e);
    if (!rc)
        rc = take_job(o, v, e);
    if (rc)
        return rc;
    o->incarnation = json_int(v, "incarnation", 0);
    o->local_rank = (int)json_int(v, "rank_local", 0);
    o->local_world = (int)json_int(v, "local_world", 1);
    o->replica = (int)json_int(v, "replica", 0);
    o->copies_fd = json_bool(v, "copies", false) ? WIRE_FD_COPIES : -1;
    snprintf(o->secret, sizeof o->secret, "%s", json_str(v, "secret", ""));
    if (o->local_world < 1 || o->local_world > LIMIT_RANKS_PER_REPLICA)
        return err_set(e, ERR_BUG, "a replica of %d ranks", o->local_world);
    uint16_t port = 0;
    o->listen_fd = io_listen(json_str(v, "bind_host", "0.0.0.0"), 0, &port, e);
    if (o->listen_fd < 0)
        return o->listen_fd;
    return door_send_fields(
        d, WIRE_READY, (struct door_field[]){{"port", port, NULL}, {NULL, 0, NULL}}, e);
}

static int take_peer(struct orders *o, const struct json *v, struct err *e)
{
    int64_t rank = json_int(v, "rank", -1);
    const char *host = json_str(v, "host", "");
    struct wire_peer *p;
    if (rank < 0 || rank >= o->world || strlen(host) >= sizeof p->host)
        return err_set(
            e, ERR_BUG, "a peer of rank %lld in a world of %d", (long long)rank, o->world);
    p = &o->peers[rank];
    p->rank = (int)rank;
    p->replica = (int)json_int(v, "replica", 0);
    p->local_rank = (int)json_int(v, "local_rank", 0);
    p->port = (uint16_t)json_int(v, "port", 0);
    snprintf(p->host, sizeof p->host, "%s", host);
    snprintf(p->node, sizeof p->node, "%s", json_str(v, "node", ""));
    return 0;
}

static int take_start(struct orders *o, struct door *d, struct err *e)
{
    json_auto struct json *v = NULL;
    int rc = door_next(d, WIRE_START, START_MS, &v, e);
    if (rc)
        return rc;
    o->rank = d->rank = (int)json_int(v, "rank", 0);
    o->world = (int)json_int(v, "world", 1);
    if (o->world < 1 || o->world > WORLD_MAX || o->rank < 0 || o->rank >= o->world ||
        json_count(json_get(v, "ranks")) != (size_t)o->world)
        return err_set(e, ERR_BUG, "rank %d in a world of %d", o->rank, o->world);
    o->peers = arena_array(o->arena, (size_t)o->world, sizeof *o->peers);
    if (!o->peers)
        return err_set(e, ERR_MEMORY, "no memory for a world of %d", o->world);
    json_each (peer, json_get(v, "ranks")) {
        rc = take_peer(o, peer, e);
        if (rc)
            return rc;
    }
    return 0;
}

int orders_take(struct orders *o, struct door *d, struct err *e)
{
    *o = (struct orders){.listen_fd = -1, .copies_fd = -1, .arena = arena_create(64 << 20)};
    o->spec = &o->job;
    if (!o->arena)
        return err_set(e, ERR_MEMORY, "no memory for a rank");
    int rc = take_prepare(o, d, e);
    return rc ? rc : take_start(o, d, e);
}

void orders_done(struct orders *o)
{
    io_close(o->listen_fd);
    o->listen_fd = -1;
    arena_destroy(o->arena);
    o->arena = NULL;
}
