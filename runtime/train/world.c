/*
 * world: from the agent's orders to a collective. Must not decide anything that ranks could decide
 * differently: all that is not in the orders comes from the environment that they share.
 */
#include "runtime/train/world.h"

#include "api/names.h"
#include "base/log.h"
#include "runtime/door/beat.h"

#include <stdlib.h>

#define COLL_WAIT_MS 120000 /* the agent's verdict on a hang comes much earlier */

static int read_staged(bool *staged, struct err *e)
{
    const char *how = getenv(NAME_ENV_COLL);
    *staged = how && !strcmp(how, NAME_ENV_COLL_STAGED);
    if (how && *how && !*staged)
        return err_set(e, ERR_USER, NAME_ENV_COLL ": \"%s\" is not " NAME_ENV_COLL_STAGED, how);
    return 0;
}

static void limit_end(void *door, const struct err *why)
{
    door_end_within(door, DOOR_END_MS, why);
}

int world_connect(
    struct orders *orders, struct door *d, struct dev *dev, struct coll **out, struct err *e)
{
    struct coll_conf conf = {.rank = orders->rank,
        .world = orders->world,
        .peers = orders->peers,
        .listen_fd = orders->listen_fd,
        .secret = orders->secret,
        .incarnation = orders->incarnation,
        .timeout_ms = COLL_WAIT_MS,
        .page = d->page,
        .dev = dev,
        .failing_fn = limit_end,
        .failing_user = d};
    int rc = read_staged(&conf.staged, e);
    if (rc)
        return rc;
    beat_phase(d->page, WIRE_PHASE_CONNECT);
    orders->listen_fd = -1;
    rc = coll_create(&conf, out, e);
    if (!rc && orders->rank == 0)
        log_info(
            "world", LOG_I("ranks", orders->world), LOG_S("collectives", coll_transport(*out)));
    return rc;
}
