/*
 * team: a message is a head, then the parts, then all ids, then all pages. What comes is checked
 * before it is used.
 */
#include "runtime/serve/team.h"

#include "base/mem.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/relay.h"
#include "runtime/train/planner.h"
#include "runtime/train/world.h"

#include <assert.h>

#define ADVISED_RANKS 64

struct team_head {
    int32_t parts, ids, pages, unused; /* how many of each follow */
};
struct team_part {
    int32_t count, past;
    int32_t draws, sees; /* of its last token: the next one, the logits; 0 or 1 */
    int32_t adapter;     /* engine_part's */
    struct sample_draw draw;
};

struct team {
    struct coll *world;
    struct group group;
    int rank, ranks;
    int32_t most_parts, most_pages;
    int64_t vocab;
    struct relay *relay;
    float *logits; /* (seen, V) of who follows; NULL: none were seen yet */
    int32_t seen;
    struct engine_part *parts; /* (most_parts) */
};

/* -- life -- */

int team_open(struct coll *world, const struct orders *o, struct team **out, struct err *e)
{
    const struct jobspec *spec = o->spec;
    int members = spec->serve.ensemble.ranks > 1 ? spec->serve.ensemble.ranks : 1;
    const struct planner_input in = {.world = o->world,
        .tensor = spec->parallelism.tensor,
        .pipeline = spec->parallelism.pipeline};
    struct layout l;
    *out = NULL;
    int rc = planner_lay_out(&in, &l, e);
    if (rc)
        return rc;
    if (l.dp != members)
        return err_set(e, ERR_USER,
            "spec.parallelism: tensor x pipeline is %d, and %d ranks are to serve the model",
            l.tp * l.pp * members, o->world);
    if (!world)
        return 0;
    struct team *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for a team");
    *t = (struct team){.world = world, .rank = o->rank, .ranks = o->world};
    if ((rc = group_open(world, &l, o->rank, &t->group, e))) {
        team_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void team_close(struct team *t)
{
    if (!t)
        return;
    relay_destroy(t->relay);
    mem_free(t->logits);
    mem_free(t->parts);
    mem_free(t);
}

bool team_leads(const struct team *t)
{
    return !t || t->rank == 0;
}

int team_share(struct team *t, struct model_conf *c, struct err *e)
{
    if (!t)
        return 0;
    t->vocab = c->config.vocab;
    return group_share(&t->group, c, e);
}

/* The first that fits, of the fewest ranks, tensors first. */
static bool find_layout(int64_t budget_bytes, const struct model_conf *c, const struct weights *w,
    struct layout *out, struct memplan *plan)
{
    for (int ranks = 2; ranks <= ADVISED_RANKS; ranks++)
        for (int tp = ranks; tp >= 1; tp--) {
            const struct layout l = {1, tp, ranks / tp, 1, 1};
            if (ranks % tp || group_measure(&l, c, w, plan, NULL) || plan->total > budget_bytes)
                continue;
            *out = l;
            return true;
        }
    return false;
}

int team_require(const struct memplan *p, int64_t budget_bytes, const struct model_conf *c,
    const struct weights *w, struct err *e)
{
    struct err why;
    struct layout l;
    struct memplan plan;
    if (!memplan_require(p, budget_bytes, &why))
        return 0;
    if (c->draft_bytes || !find_layout(budget_bytes, c, w, &l, &plan))
        return err_set(e, ERR_MEMORY, "%s", why.text);
    return err_set(e, ERR_MEMORY,
        "%.140s; with spec.parallelism {tensor: %d, pipeline: %d} each of %d ranks needs %lld",
        why.text, l.tp, l.pp, l.tp * l.pp, (long long)(plan.total >> 20) + 1);
}

static int least_pages(struct team *t, int64_t *pages, struct err *e)
{
    mem_autofree int64_t *all = mem_array((size_t)t->ranks, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", t->ranks);
    int rc = coll_allgather(t->world, pages, sizeof *pages, all, e);
    for (int i = 0; i < t->ranks && !rc; i++)
        *pages = all[i] < *pages ? all[i] : *pages;
    return rc;
}

int team_agree(
    struct team *t, uint64_t digest, int64_t parts, int64_t tokens, int64_t *pages, struct err *e)
{
    if (!t)
        return 0;
    assert(parts >= 1 && parts <= ENGINE_ROWS && t->vocab && !t->relay);
    t->most_parts = (int32_t)parts;
    t->most_pages = (int32_t)(parts * kvcache_pages(tokens));
    size_t limit = sizeof(struct team_head) + (size_t)parts * sizeof(struct team_part) +
        (ENGINE_ROWS + (size_t)t->most_pages) * sizeof(int32_t);
    t->parts = mem_array((size_t)parts, sizeof *t->parts);
    if (!t->parts)
        return err_set(e, ERR_MEMORY, "no memory for passes of %lld parts", (long long)parts);
    int rc = relay_create(t->world, limit, &t->relay, e);
    rc = rc ? rc : world_agree(t->world, t->ranks, digest, tokens, e);
    return rc ? rc : least_pages(t, pages, e);
}

int team_compare(struct team *t, uint64_t digest, struct err *e)
{
    return t ? world_agree(t->world, t->ranks, digest, 0, e) : 0;
}

/* -- messages -- */

static size_t size_of(const struct team_head *h)
{
    return sizeof *h + (size_t)h->parts * sizeof(struct team_part) +
        ((size_t)h->ids + (size_t)h->pages) * sizeof(int32_t);
}

static struct team_part *parts_of(struct team *t)
{
    return (void *)((struct team_head *)relay_message(t->relay) + 1);
}

static int32_t *ids_of(struct team *t, const struct team_head *h)
{
    return (void *)(parts_of(t) + h->parts);
}

/* -- rank 0 -- */

int team_tell(struct team *t, const struct engine_part *parts, int n, struct err *e)
{
    struct team_head h = {.parts = n};
    if (!t)
        return 0;
    for (int i = 0; i < n; i++) {
        h.ids += (int32_t)parts[i].count;
        h.pages += (int32_t)kvcache_pages(parts[i].past + parts[i].count);
    }
    assert(n <= t->most_parts && h.ids <= ENGINE_ROWS && h.pages <= t->most_pages);
    struct team_part *told = parts_of(t);
    int32_t *ids = ids_of(t, &h), *pages = ids + h.ids;
    for (int i = 0; i < n; i++) {
        const struct engine_part *p = &parts[i];
        int64_t paged = kvcache_pages(p->past + p->count);
        told[i] = (struct team_part){.count = (int32_t)p->count,
            .past = (int32_t)p->past,
            .draws = p->draw != NULL,
            .sees = p->logits != NULL,
            .adapter = p->adapter};
        if (p->draw)
            told[i].draw = *p->draw;
        memcpy(ids, p->ids, (size_t)p->count * sizeof *ids);
        memcpy(pages, p->pages, (size_t)paged * sizeof *pages);
        ids += p->count;
        pages += paged;
    }
    memcpy(relay_message(t->relay), &h, sizeof h);
    return relay_send(t->relay, RELAY_RUN, size_of(&h), e);
}

int team_rest(struct team *t, struct err *e)
{
    return t ? relay_send(t->relay, RELAY_REST, 0, e) : 0;
}

int team_end(struct team *t, struct err *e)
{
    return t ? relay_send(t->relay, RELAY_END, 0, e) : 0;
}

/* -- the others -- */

/* Who follows has no use for logits, but the last stage of a pipeline has them first. */
static int make_room(struct team *t, const struct team_head *h, struct err *e)
{
    int32_t seen = 0;
    for (int i = 0; i < h->parts; i++)
        seen += parts_of(t)[i].sees != 0;
    if (seen <= t->seen)
        return 0;
    mem_free(t->logits);
    t->seen = 0;
    t->logits = mem_array((size_t)seen * (size_t)t->vocab, sizeof *t->logits);
    if (!t->logits)
        return err_set(e, ERR_MEMORY, "no memory for the logits of %d sequences", seen);
    t->seen = seen;
    return 0;
}

static int check_head(const struct team *t, const struct team_head *h, size_t bytes, struct err *e)
{
    if (h->parts < 0 || h->parts > t->most_parts || h->ids < 0 || h->ids > ENGINE_ROWS ||
        h->pages < 0 || h->pages > t->most_pages || size_of(h) != bytes)
        return err_set(e, ERR_BUG, "rank 0 tells of %d sequences, %d tokens and %d pages", h->parts,
            h->ids, h->pages);
    return 0;
}

/* The parts of the pass, which lie in the message, of a model with so many adapters. */
static int read_parts(struct team *t, const struct team_head *h, int adapters, struct err *e)
{
    const struct team_part *told = parts_of(t);
    const int32_t *ids = ids_of(t, h), *pages = ids + h->ids;
    int64_t left = h->ids, pages_left = h->pages;
    float *logits = t->logits;
    for (int i = 0; i < h->parts; i++) {
        const struct team_part *p = &told[i];
        if (p->count < 1 || p->count > left || p->past < 0 ||
            kvcache_pages((int64_t)p->past + p->count) > pages_left)
            return err_set(
                e, ERR_BUG, "rank 0 tells of a part of %d tokens after %d", p->count, p->past);
        if (p->adapter < 0 || p->adapter > adapters)
            return err_set(e, ERR_BUG, "rank 0 tells of adapter %d of %d", p->adapter, adapters);
        int64_t paged = kvcache_pages((int64_t)p->past + p->count);
        t->parts[i] = (struct engine_part){.ids = ids,
            .count = p->count,
            .past = p->past,
            .pages = pages,
            .adapter = p->adapter,
            .draw = p->draws ? &p->draw : NULL,
            .logits = p->sees ? logits : NULL};
        logits += p->sees ? t->vocab : 0;
        ids += p->count;
        pages += paged;
        left -= p->count;
        pages_left -= paged;
    }
    return 0;
}

struct follower {
    struct team *team;
    struct engine *engine;
    struct ensemble *ensemble;
};

static int run_told(void *user, size_t bytes, struct err *e)
{
    struct follower *f = user;
    struct team_head h = {0};
    int rc, adapters = f->engine ? engine_adapters(f->engine) : 0;
    memcpy(&h, relay_message(f->team->relay), sizeof h);
    if ((rc = check_head(f->team, &h, bytes, e)) || (rc = make_room(f->team, &h, e)) ||
        (rc = read_parts(f->team, &h, adapters, e)))
        return rc;
    return ensemble_pass(f->ensemble, f->engine, f->team->parts, h.parts, e);
}

int team_follow(
    struct team *t, struct engine *g, struct ensemble *s, struct wire_page *page, struct err *e)
{
    struct follower f = {t, g, s};
    return relay_follow(t->relay, run_told, &f, WIRE_PHASE_SERVE_DECODE, page, e);
}
