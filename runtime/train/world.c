/*
 * world: from the agent's orders to a collective, and over it to one plan. Must not decide anything
 * that ranks could decide differently: all that is not in the orders comes from the environment
 * that they share.
 */
#include "runtime/train/world.h"

#include "api/names.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/door/beat.h"
#include "runtime/train/choose.h"

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
    door_end_soon(door, why);
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
    point_tell(orders->rank, orders->incarnation);
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

/* -- the plan -- */

struct told {           /* by rank 0 */
    struct err refusal; /* ERR_NONE: the rest holds */
    struct planner_plan plan;
    int tensor, pipeline, zero_stage;
};

static int least_budget(struct coll *c, const struct planner_input *in, int64_t *out, struct err *e)
{
    mem_autofree int64_t *all = mem_array((size_t)in->world, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", in->world);
    int rc = coll_allgather(c, &in->budget_bytes, sizeof in->budget_bytes, all, e);
    if (rc)
        return rc;
    *out = in->budget_bytes;
    for (int i = 0; i < in->world; i++)
        *out = all[i] < *out ? all[i] : *out;
    return 0;
}

static int tell(struct coll *c, const struct planner_input *in, struct told *t, struct err *e)
{
    t->tensor = in->tensor;
    t->pipeline = in->pipeline;
    t->zero_stage = in->zero_stage;
    return coll_broadcast(c, t, sizeof *t, 0, e);
}

/* In the words of llmjob plan's flags. */
static void log_measured(const struct cost_speed *s)
{
    log_info("measured", LOG_F("tflops", 1e-12 * s->flops_per_s),
        LOG_F("memoryGBs", 1e-9 * s->memory_bytes_per_s),
        LOG_F("insideGBs", 1e-9 * s->inside.bytes_per_s),
        LOG_F("insideUs", 1e6 * s->inside.latency_s),
        LOG_F("betweenGBs", 1e-9 * s->between.bytes_per_s),
        LOG_F("betweenUs", 1e6 * s->between.latency_s));
}

static int measure(const struct speed_world *w, enum dtype t, struct speed_rank *each,
    struct cost_speed *out, struct err *e)
{
    int rc = speed_measure(w, t, each, out, e);
    if (!rc && w->rank == 0)
        log_measured(out);
    return rc;
}

/* Another layout in place of the one that is refused. */
static int choose(const struct speed_world *w, const struct cost_speed *s,
    struct planner_input *least, struct told *t, struct err *e)
{
    const struct err refused = t->refusal;
    t->refusal.code = ERR_NONE;
    if (w->rank == 0)
        choose_plan(least, s, &refused, &t->plan, &t->refusal);
    return tell(w->coll, least, t, e);
}

/* Layers of stages by the speed of the slowest rank of each. */
static void share_layers(
    const struct planner_input *in, const struct speed_rank *each, struct planner_plan *p)
{
    int64_t ns[PLANNER_STAGES] = {0};
    double fastest = 0;
    for (int i = 0; i < in->world; i++)
        fastest = each[i].flops_per_s > fastest ? each[i].flops_per_s : fastest;
    for (int i = 0; i < in->world && p->layout.pp <= PLANNER_STAGES; i++) {
        int64_t *slowest = &ns[layout_place(&p->layout, i).pp];
        int64_t own = (int64_t)(1e6 * fastest / each[i].flops_per_s);
        *slowest = own > *slowest ? own : *slowest;
    }
    (void)planner_stages(in, ns, p);
}

int world_plan(const struct speed_world *w, struct planner_input *in, struct speed_rank *each,
    struct planner_plan *out, struct err *e)
{
    struct planner_input least = *in;
    struct cost_speed speed;
    int rc = each ? measure(w, in->model.t, each, &speed, e) : 0;
    if (rc || (rc = least_budget(w->coll, in, &least.budget_bytes, e)))
        return rc;
    struct told t = {.refusal = {.code = ERR_NONE}};
    if (w->rank == 0)
        planner_plan(&least, &t.plan, &t.refusal);
    if ((rc = tell(w->coll, &least, &t, e)))
        return rc;
    bool chooses = t.refusal.code != ERR_NONE && choose_may(&least);
    if (chooses &&
        ((!each && (rc = measure(w, in->model.t, NULL, &speed, e))) ||
            (rc = choose(w, &speed, &least, &t, e))))
        return rc;
    if (each && w->rank == 0 && t.refusal.code == ERR_NONE)
        share_layers(&least, each, &t.plan);
    if (each && (rc = tell(w->coll, &least, &t, e)))
        return rc;
    if (t.refusal.code != ERR_NONE) {
        *e = t.refusal;
        return -(int)e->code;
    }
    in->tensor = t.tensor;
    in->pipeline = t.pipeline;
    in->zero_stage = t.zero_stage;
    rc = planner_measure(in, &t.plan, e);
    if (!rc)
        *out = t.plan;
    return rc;
}

int world_agree(struct coll *c, int world, uint64_t digest, int64_t count, struct err *e)
{
    const uint64_t mine[2] = {digest, (uint64_t)count};
    mem_autofree uint64_t *all = mem_array((size_t)world, sizeof mine);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", world);
    int rc = coll_allgather(c, mine, sizeof mine, all, e);
    for (int i = 1; i < world && !rc; i++)
        if (memcmp(all, all + (ptrdiff_t)2 * i, sizeof mine) != 0)
            rc = err_set(e, ERR_USER,
                "rank %d reads another model or other data than rank 0: all replicas need the same "
                "storage",
                i);
    return rc;
}
