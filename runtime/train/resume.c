/*
 * resume: agree, look, claim, load. The look before the claim reads manifests only; once claimed,
 * no older incarnation can commit, and only then is the newest generation fixed. A rank that cannot
 * read a generation takes the one before, and the others follow it. It must not write to the folder
 * before the look, nor return on one rank what another does not know.
 */
#include "runtime/train/resume.h"

#include "base/log.h"
#include "runtime/files/hash.h"
#include "runtime/train/identity.h"
#include "runtime/train/recall.h"

static bool leader(const struct resume *c)
{
    return c->orders->rank == 0;
}

static const char *folder(const struct resume *c)
{
    return c->orders->spec->checkpoint.path;
}

/* -- the same files everywhere -- */

/* Storage that shows one file late, or a path of the node's own. */
static int agree_on_files(const struct resume *c, struct err *e)
{
    char first[CKPT_IDENTITY_BYTES];
    struct identity_difference d = {.count = 0};
    int world = c->orders->world;
    mem_autofree struct identity_difference *all = mem_array((size_t)world, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", world);
    memcpy(first, c->identity, sizeof first);
    int rc;
    if ((rc = coll_broadcast(c->coll, first, sizeof first, 0, e)) ||
        (rc = identity_compare(first, c->identity, &d, e)) ||
        (rc = coll_allgather(c->coll, &d, sizeof d, all, e)))
        return rc;
    for (int i = 0; i < world; i++)
        if (all[i].count)
            return err_set(e, ERR_DATA, "%s: rank %d reads another than rank 0: %s, rank 0: %s",
                all[i].key, i, all[i].is, all[i].was);
    return 0;
}

/* -- whose checkpoints -- */

static int refuse_another(const struct resume *c, const struct ckpt_state *s, struct err *e)
{
    struct identity_difference d = {.count = 0};
    if (!s->identity[0]) {
        if (!strcmp(s->spec_hash, c->hash_v1))
            return 0;
        return err_set(e, ERR_USER,
            "spec.checkpoint.path: %.120s holds the checkpoints of another training", folder(c));
    }
    int rc = identity_compare(s->identity, c->identity, &d, e);
    if (rc || !d.count)
        return rc;
    char more[24] = "";
    if (d.count > 1)
        snprintf(more, sizeof more, ", and %d more", d.count - 1);
    return err_set(e, ERR_USER,
        "spec.checkpoint.path: %.60s%s is of another training: %s: %s in the "
        "checkpoint, %s now%s",
        folder(c), strlen(folder(c)) > 60 ? "..." : "", d.key, d.was, d.is, more);
}

static int check_state(const struct resume *c, const struct ckpt_state *s, struct err *e)
{
    int rc = refuse_another(c, s, e);
    if (!rc && s->step > c->steps)
        rc = err_set(e, ERR_USER,
            "spec.train.steps: %lld, but the checkpoint is at step %lld already",
            (long long)c->steps, (long long)s->step);
    return rc;
}

/* Each world has a secret of its own, of which this tells nothing. */
static int owner_of(const struct resume *c, char out[65], struct err *e)
{
    return hash_sha256_hex(c->orders->secret, strlen(c->orders->secret), out, e);
}

/* A newer world goes on without us: that is no orderly end. */
static int fail_superseded(const struct resume *c, struct err *e)
{
    return err_set(e, ERR_PEER, "%.120s: a newer incarnation has begun", folder(c));
}

/* *stored: the step of the newest generation; -1: there is none. */
static int look_and_claim(const struct resume *c, int64_t *stored, struct err *e)
{
    struct ckpt_state s = {.step = -1};
    char owner[65];
    int rc = ckpt_peek(folder(c), &s, e);
    if (rc || (s.step >= 0 && (rc = check_state(c, &s, e))))
        return rc;
    if (s.step >= 0 && !s.identity[0])
        log_warn("a checkpoint of version 0.1.0 says less of its training: weights and "
                 "data were not compared");
    *stored = s.step;
    rc = owner_of(c, owner, e);
    rc = rc ? rc : ckpt_claim(folder(c), c->orders->incarnation, owner, e);
    return rc == -ERR_DRAINED ? fail_superseded(c, e) : rc;
}

static int claim(const struct resume *c, int64_t *stored, struct err *e)
{
    struct {
        struct err verdict;
        int64_t stored;
    } told = {.stored = -1};
    if (leader(c))
        look_and_claim(c, &told.stored, &told.verdict);
    int rc = coll_broadcast(c->coll, &told, sizeof told, 0, e);
    if (!rc && told.verdict.code != ERR_NONE) {
        *e = told.verdict;
        rc = -(int)e->code;
    }
    *stored = told.stored;
    return rc;
}

/* -- loading -- */

/* Ranks that are new take up what others have of their own. */
static int read_state(
    const struct resume *c, struct ckpt_reader *r, const struct ckpt_state *s, struct err *e)
{
    int was = s->world > 0 ? s->world : 1;
    int rc = shard_read(r, c->dev, c->model, c->optim, c->orders->rank % was, e);
    for (int i = 0; i < c->extra_count && !rc; i++)
        rc = shard_read_extra(r, c->dev, c->model, &c->extras[i], e);
    return rc;
}

/* This rank's newest, of a step up to `limit`; a generation that breaks while it is read is passed
 * over like one that cannot be opened. */
static int load_newest(
    const struct resume *c, int64_t limit, struct ckpt_state *state, struct err *e)
{
    struct err first = {0};
    for (;;) {
        struct ckpt_reader *reader = NULL;
        struct ckpt_state s;
        int rc = ckpt_open_newest(folder(c), limit, &reader, &s, e);
        if (rc == -ERR_CORRUPT && first.code != ERR_NONE)
            return err_wrap(e, "%.140s", first.text);
        if (rc || !reader)
            return rc;
        rc = check_state(c, &s, e);
        rc = rc ? rc : read_state(c, reader, &s, e);
        ckpt_close(reader);
        if (!rc)
            *state = s;
        if (rc != -ERR_CORRUPT)
            return rc;
        if (first.code == ERR_NONE)
            first = *e;
        log_warn("checkpoint skipped", LOG_I("step", s.step), LOG_ERR(e));
        limit = s.step - 1;
    }
}

/* Until all hold the same generation: whoever has a newer one goes back to the oldest. */
static int load(const struct resume *c, struct ckpt_state *state, struct err *e)
{
    int64_t limit = INT64_MAX;
    for (;;) {
        int rc = state->step <= limit && limit < INT64_MAX ? 0 : load_newest(c, limit, state, e);
        int32_t step[2] = {(int32_t)state->step, -(int32_t)state->step};
        if (!rc)
            rc = coll_allreduce(c->coll, step, 2, DTYPE_I32, COLL_MAX, e);
        if (rc || step[0] == -step[1])
            return rc;
        /* To begin anew because one rank sees nothing would lose what the others see. */
        if (!step[1])
            return err_set(e, ERR_CORRUPT,
                "%.120s: a rank sees no checkpoint there, another step %d", folder(c), step[0]);
        if (leader(c))
            log_warn("not every rank can read the newest checkpoint", LOG_I("newest", step[0]),
                LOG_I("common", -step[1]));
        limit = -step[1];
    }
}

/* -- out of memory that outlived ranks -- */

static int read_recalled(
    const struct resume *c, struct recall *r, const struct ckpt_state *s, bool *has, struct err *e)
{
    struct ckpt_reader *reader = NULL;
    struct err why = {.code = ERR_NONE};
    int rc = recall_open(r, &reader, &why);
    *has = !rc;
    if (rc == -ERR_CORRUPT) { /* nothing was loaded yet */
        if (leader(c))
            log_warn("copies in memory are passed over", LOG_ERR(&why));
        return 0;
    }
    if (rc) {
        *e = why;
        return rc;
    }
    int failed = read_state(c, reader, s, &why);
    if (failed)
        log_warn("a copy in memory cannot be read", LOG_ERR(&why));
    rc = recall_end(r, failed, e);
    ckpt_close(reader);
    return rc;
}

/* What is newer than all of storage; *has: there was such. */
static int load_recalled(
    const struct resume *c, int64_t stored, struct ckpt_state *state, bool *has, struct err *e)
{
    const struct recall_conf conf = {.coll = c->coll,
        .rank = c->orders->rank,
        .world = c->orders->world,
        .peers = c->orders->peers,
        .fd = c->orders->copies_fd};
    struct recall *r = NULL;
    struct ckpt_state s;
    struct err why;
    *has = false;
    if (!c->orders->spec->checkpoint.in_memory_every_steps)
        return 0;
    int rc = recall_find(&conf, stored, c->steps, &r, &s, e);
    if (rc || !r)
        return rc;
    if (check_state(c, &s, &why)) {
        if (leader(c))
            log_warn("copies in memory are passed over", LOG_ERR(&why));
    } else {
        rc = read_recalled(c, r, &s, has, e);
    }
    recall_destroy(r);
    if (rc || !*has)
        return rc;
    *state = s;
    if (leader(c))
        log_info("goes on from copies in memory", LOG_I("step", s.step), LOG_I("stored", stored),
            LOG_I("parts", s.world));
    return 0;
}

/* What was passed over stays, under a name that no save gives. */
static int set_aside(const struct resume *c, struct ckpt_state *state, struct err *e)
{
    int rc = ckpt_set_aside(folder(c), state, e);
    return rc == -ERR_DRAINED ? fail_superseded(c, e) : rc;
}

int resume_run(const struct resume *c, struct ckpt_state *state, struct err *e)
{
    int64_t stored;
    bool recalled;
    int rc;
    if ((rc = agree_on_files(c, e)) || (rc = claim(c, &stored, e)) ||
        (c->begin_fn && (rc = c->begin_fn(c->user, c->identity, e))) ||
        (rc = load_recalled(c, stored, state, &recalled, e)) ||
        (!recalled && (rc = load(c, state, e))) || (rc = owner_of(c, state->owner, e)))
        return rc;
    state->stored_step = recalled ? stored : state->step > 0 ? state->step : -1;
    state->incarnation = c->orders->incarnation;
    state->world = c->orders->world;
    state->spec_hash[0] = 0;
    memcpy(state->identity, c->identity, sizeof state->identity);
    return leader(c) ? set_aside(c, state, e) : 0;
}
