/*
 * infer: the loop of a serving rank: takes requests, runs a step of those it has (batcher.h), and
 * hands each its token (turn.h). What a request cannot have ends that request; only the rank's own
 * faults end the rank.
 */
#include "runtime/serve/infer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/convert/adapters.h"
#include "runtime/door/beat.h"
#include "runtime/model/beside.h"
#include "runtime/model/engine.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/draft.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/loras.h"
#include "runtime/serve/team.h"
#include "runtime/serve/turn.h"

#include <string.h>

#define IDLE_MS      1000
#define STEP_MS      100  /* in which nobody waits longer for a token because of a prompt */
#define DRAFT_SHARE  0.02 /* of the time, that is lost to a draft that does not pay, at most */
#define FEW_ROWS     4    /* whose products read weights once (kernels/cpu/quant_ints_body.h) */
#define INDEX_REST   4    /* times as long as a chunk took, answers go on before the next one */
#define INDEX_CHUNKS 4    /* that are indexed at once while there are none */
#define USUAL_TOKENS 1024 /* of a sequence beside the longest, as the cache is planned */

#define SERVICE_UNAVAILABLE 503 /* of HTTP: an adapter that is not there */

struct infer {
    struct infer_conf conf;
    const struct jobspec *spec;
    struct team *team; /* or NULL */
    struct weights *weights;
    struct tok *tok;
    struct chat *chat; /* or NULL */
    struct err no_chat;
    struct beside *beside; /* adapters; or NULL */
    struct loras *loras;   /* which of them are in memory; NULL: all are */
    char *list;            /* of them (WIRE_LISTED), that has no place yet; or NULL */
    struct draft *draft;   /* or NULL */
    struct model *model;
    struct engine *engine;
    struct ensemble *ensemble;         /* in place of these two; or NULL */
    struct ensemble_facts of_ensemble; /* without one all 0 */
    struct batcher *batcher;
    struct turn_conf turns;
    int64_t index_ms;            /* before which no chunk is indexed beside answers */
    struct batcher_drawn *drawn; /* (most) */
    bool draft_loses;            /* as was said */
    int most;                    /* sequences at once, */
    int places;                  /* and beside them those that give way to each other */
    int taken;                   /* of these, */
    int waiting;                 /* and of these, those that wait for their adapter */
    struct served {
        struct turn_conf *turns;
        struct turn turn;
        struct batcher_seq *seq; /* NULL: it waits for its adapter */
        struct loras_ticket ticket;
        bool waits, adapted; /* for that; it has it */
    } * served;              /* (places) those without a request are free */
};

/* -- requests -- */

/* It is over; q and what it held are free. */
static int end_turn(
    struct infer *s, struct served *v, const char *reason, const char *message, struct err *e)
{
    if (v->seq) {
        v->turn.cached = batcher_cached(v->seq);
        v->turn.guessed = batcher_guessed(v->seq, &v->turn.right);
        batcher_remove(s->batcher, v->seq);
    }
    if (v->adapted)
        loras_end(s->loras, v->turn.adapter);
    if (v->waits)
        loras_give_up(s->loras, &v->ticket);
    s->waiting -= v->waits;
    s->taken--;
    int rc = turn_finish(&s->turns, &v->turn, reason, message, e);
    inbox_finish(s->conf.inbox, v->turn.q);
    turn_done(&v->turn);
    *v = (struct served){0};
    return rc;
}

static struct served *free_place(struct infer *s)
{
    int i = 0;
    while (s->served[i].turn.q)
        i++;
    return &s->served[i];
}

/* What it asks for it cannot have, or the rank is at fault. */
static int end_refused(struct infer *s, struct served *v, const struct err *fault, struct err *e)
{
    if (fault->code == ERR_USER || fault->code == ERR_DATA)
        return end_turn(s, v, "error", fault->text, e);
    *e = *fault;
    return -(int)fault->code;
}

static int begin_sequence(struct infer *s, struct served *v, struct err *e)
{
    struct err fault = {0};
    if (!batcher_add(s->batcher, v->turn.prompt.id, v->turn.prompt.count, &v->turn.draws,
            &v->turn.terms, v, &v->seq, &fault))
        return 0;
    return end_refused(s, v, &fault, e);
}

/* One that waits, if its adapter is there: keys that were computed with one are found by what it
   held. */
static int begin_adapted(struct infer *s, struct served *v, struct err *e)
{
    struct err fault = {0};
    int rc = loras_begin(s->loras, &v->ticket, &fault);
    if (rc == -ERR_RETRY)
        return 0;
    v->waits = false;
    s->waiting--;
    v->turn.status = rc ? SERVICE_UNAVAILABLE : 0;
    if (rc)
        return end_turn(s, v, "error", fault.text, e);
    v->turn.terms.salt ^= loras_digest(s->loras, v->turn.adapter);
    v->adapted = true;
    return begin_sequence(s, v, e);
}

static int begin_turn(struct infer *s, struct inbox_request *q, struct err *e)
{
    struct served *v = free_place(s);
    struct err fault = {0};
    turn_init(&v->turn, q);
    v->turns = &s->turns;
    s->taken++;
    if (atomic_load(&q->cancelled)) /* while it waited */
        return end_turn(s, v, "cancelled", "", e);
    if (turn_read(&s->turns, &v->turn, &fault))
        return end_refused(s, v, &fault, e);
    if (v->turn.reason)
        return end_turn(s, v, v->turn.reason, "", e);
    if (!s->loras || !v->turn.adapter)
        return begin_sequence(s, v, e);
    v->ticket = loras_wait(s->loras, v->turn.adapter);
    v->waits = true;
    s->waiting++;
    return begin_adapted(s, v, e);
}

/* How long to wait for one, while none runs. */
static int64_t idle_ms(const struct infer *s)
{
    int64_t index = s->turns.retrieve ? retrieve_wait(s->turns.retrieve) : IDLE_MS;
    bool ends = atomic_load(&s->conf.door->stop) && !s->waiting;
    bool works = s->loras && !loras_rests(s->loras);
    return ends || works ? 0 : index < IDLE_MS ? index : IDLE_MS;
}

/* As many as there are places for; one alone while others wait for their next token. */
static int take_requests(struct infer *s, struct err *e)
{
    int rc = 0, before = batcher_count(s->batcher);
    while (!rc && s->taken < s->places) {
        bool idle = batcher_count(s->batcher) == 0;
        if (idle)
            beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_IDLE);
        bool stop = atomic_load(&s->conf.door->stop);
        struct inbox_request *q = inbox_take(s->conf.inbox, idle ? idle_ms(s) : 0);
        if (!q && idle && stop && !s->waiting) {
            rc = team_end(s->team, e);
            return rc ? rc : err_set(e, ERR_DRAINED, "stopped on request");
        }
        if (!q)
            break;
        rc = begin_turn(s, q, e);
        if (before)
            break;
    }
    return rc;
}

/* -- adapters -- */

/* The one that has waited longest, behind the number `after`; NULL: there is none. */
static struct served *next_waiting(struct infer *s, int64_t after)
{
    struct served *next = NULL;
    for (int i = 0; i < s->places; i++) {
        struct served *v = &s->served[i];
        if (v->waits && v->ticket.number > after &&
            (!next || v->ticket.number < next->ticket.number))
            next = v;
    }
    return next;
}

static int begin_waiting(struct infer *s, struct err *e)
{
    int rc = 0;
    struct served *v = next_waiting(s, 0);
    for (int64_t at; v && !rc; v = next_waiting(s, at)) {
        at = v->ticket.number;
        rc = begin_adapted(s, v, e);
    }
    return rc;
}

static int tell_adapters(const struct infer *s, struct err *e)
{
    struct loras_figures f;
    loras_tell(s->loras, &f);
    return door_send_fields(s->conf.door, WIRE_ADAPTERS,
        (struct door_field[]){{"loaded", (double)f.there, NULL}, {"bytes", (double)f.bytes, NULL},
            {"loads", (double)f.loaded, NULL}, {"drops", (double)f.dropped, NULL},
            {"failures", (double)f.failed, NULL}, {"seconds", f.seconds, NULL},
            {"list", (double)f.list, NULL}, {"unseen", f.unseen, NULL}, {"wrong", 0, f.why},
            {NULL, 0, NULL}},
        e);
}

static int copy_listed(const struct json *v, struct jobspec_served_adapter *out, int *count)
{
    *count = 0;
    json_each (one, json_get(v, "adapters")) {
        if (*count == LIMIT_ADAPTERS)
            return -1;
        struct jobspec_served_adapter *a = &out[(*count)++];
        *a = (struct jobspec_served_adapter){json_str(one, "name", ""), json_str(one, "path", "")};
    }
    return 0;
}

/* The newest list, if one has come; one that has no place yet stays, and is tried again. */
static int take_list(struct infer *s, struct err *e)
{
    mem_autofree struct jobspec_served_adapter *listed = NULL;
    json_auto struct json *v = NULL;
    struct err why = {0};
    int count;
    char *list = inbox_take_list(s->conf.inbox);
    if (list)
        mem_free(s->list);
    s->list = list ? list : s->list;
    if (!s->list || !s->loras)
        return 0;
    int rc = json_parse_within(s->list, strlen(s->list), LIMIT_FRAME_VALUES, &v, &why);
    if (!rc && !(listed = mem_array(LIMIT_ADAPTERS, sizeof *listed)))
        rc = err_set(&why, ERR_MEMORY, "no memory for it");
    if (!rc && copy_listed(v, listed, &count))
        rc = err_set(&why, ERR_BUG, "more than %d adapters", LIMIT_ADAPTERS);
    rc = rc ? rc : loras_list(s->loras, listed, count, json_int(v, "list", 0), &why);
    if (rc == -ERR_RETRY)
        return 0;
    mem_free(s->list);
    s->list = NULL;
    return rc ? err_set(e, why.code, "a list of adapters: %.200s", why.text) : 0;
}

/* Those that requests wait for are loaded, a little at a time. */
static int keep_adapters(struct infer *s, struct err *e)
{
    if (!s->loras)
        return 0;
    if (take_list(s, e))
        return -(int)e->code;
    bool changed = loras_step(s->loras, batcher_count(s->batcher) > 0);
    int rc = changed ? tell_adapters(s, e) : 0;
    return rc ? rc : begin_waiting(s, e);
}

/* -- steps -- */

static int end_cancelled(struct infer *s, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < s->places && !rc; i++) {
        struct served *v = &s->served[i];
        if (v->turn.q && atomic_load(&v->turn.q->cancelled))
            rc = end_turn(s, v, "cancelled", "", e);
    }
    return rc;
}

static int give_token(struct infer *s, const struct batcher_drawn *d, struct err *e)
{
    struct served *v = batcher_user(d->seq);
    v->turn.cached = batcher_cached(d->seq);
    int rc = turn_take(&s->turns, &v->turn, d->id, d->logits, e);
    return rc || !v->turn.reason ? rc : end_turn(s, v, v->turn.reason, v->turn.fault.text, e);
}

/* Whether the draft pays is said when it changes. */
static void tell_draft(struct infer *s)
{
    struct batcher_figures f;
    batcher_tell(s->batcher, &f);
    if (f.draft_loses == s->draft_loses)
        return;
    s->draft_loses = f.draft_loses;
    log_info(
        f.draft_loses ? "the draft does not pay: it is only tried now and then" : "the draft pays",
        LOG_I("guessed_tokens", f.guessed), LOG_I("right_tokens", f.right));
}

static int step(struct infer *s, struct err *e)
{
    int n, rc = end_cancelled(s, e);
    if (rc || !batcher_count(s->batcher))
        return rc ? rc : team_rest(s->team, e);
    beat_phase(s->conf.door->page,
        batcher_decodes(s->batcher) ? WIRE_PHASE_SERVE_DECODE : WIRE_PHASE_SERVE_PREFILL);
    rc = batcher_step(s->batcher, s->drawn, &n, e);
    beat(s->conf.door->page);
    while (!rc && n) {
        for (int i = 0; i < n && !rc; i++)
            rc = give_token(s, &s->drawn[i], e);
        rc = rc ? rc : batcher_next(s->batcher, s->drawn, &n, e);
    }
    if (s->draft)
        tell_draft(s);
    return rc;
}

/* A batcher_conf's score_fn. */
static int give_score(void *user, int64_t at, const float *logits, struct err *e)
{
    struct served *v = user;
    return turn_score(v->turns, &v->turn, at, logits, e);
}

/* A batcher_conf's may_follow_fn. */
static int keep_guesses(void *user, const int32_t *ids, int n)
{
    const struct served *v = user;
    return turn_may_follow(v->turns, &v->turn, ids, n);
}

/* Documents that have changed are indexed, a little at a time. */
static int keep_indexed(struct infer *s, struct err *e)
{
    int64_t from = clock_ms();
    bool busy = batcher_count(s->batcher) > 0;
    if (!s->turns.retrieve || (busy && from < s->index_ms))
        return 0;
    int rc = retrieve_step(s->turns.retrieve, busy ? 1 : INDEX_CHUNKS, e);
    int64_t now = clock_ms();
    s->index_ms = now + INDEX_REST * (now - from);
    return rc;
}

/* -- life -- */

/* Of a pass, at most. */
static int64_t parts_of(const struct infer *s)
{
    return batcher_parts(s->most, s->spec->serve.speculation.method);
}

/* Of a cache of which a page takes so many bytes (0: this rank has no member), where `left` bytes
   are left beside those of the longest sequence: these, and as many of a usual length as may run,
   unless memory says less: what a pod's programs take stays free. */
static int agree_on_pages(struct infer *s, int64_t context, enum dtype type, int64_t page,
    int64_t left, int64_t *pages, struct err *e)
{
    int64_t usual = kvcache_pages(context < USUAL_TOKENS ? context : USUAL_TOKENS);
    int64_t more = (s->most - 1) * usual, room = page ? left / page : more;
    *pages = kvcache_pages(context) + (more < room ? more : room);
    int rc = team_agree(s->team, weights_digest(s->weights), parts_of(s), context, pages, e);
    if (!rc)
        log_info("cache of keys and values", LOG_I("tokens", *pages * KVCACHE_PAGE),
            LOG_S("type", dtype_name(type)), LOG_I("bytes", *pages * page),
            LOG_I("sequences", s->most));
    return rc;
}

/* c becomes this rank's share. */
static int plan_pages(struct infer *s, struct model_conf *c, struct err *e)
{
    const struct model_conf whole = *c;
    struct memplan plan;
    int rc;
    if ((rc = team_share(s->team, c, e)) || (rc = memplan_model(c, s->weights, &plan, e)) ||
        (rc = team_require(&plan, s->conf.budget_bytes, &whole, s->weights, e)))
        return rc;
    int64_t page = model_cache_bytes(c, 1) + (s->draft ? draft_page_bytes(s->draft) : 0);
    return agree_on_pages(s, c->kv_capacity, model_cache_type(c), page,
        s->conf.budget_bytes - plan.total, &c->kv_pages, e);
}

static int describe_adapters(struct infer *s, struct model_conf *c, struct err *e)
{
    if (!s->spec->serve.adapter_count && !s->spec->serve.adapter_memory)
        return 0;
    const struct jobspec_serve *v = &s->spec->serve;
    const struct model_config *whole = weights_config(s->weights);
    int rc = v->adapter_memory
        ? beside_create(whole, LORAS_PLACES, v->adapter_memory, &s->beside, e)
        : adapters_describe(v, whole, &s->beside, e);
    c->beside = s->beside;
    return rc ? err_wrap(e, "spec.serve.adapters") : 0;
}

static int describe_draft(struct infer *s, struct model_conf *c, struct err *e)
{
    const struct draft_conf d = {.source = s->spec->serve.speculation.model,
        .t = c->t,
        .vocab = c->config.vocab,
        .context = c->kv_capacity};
    if (s->spec->serve.speculation.method != SPECULATION_DRAFT)
        return 0;
    int rc = draft_open(&d, &s->draft, e);
    if (rc || (rc = draft_compare(s->draft, s->tok, e)))
        return rc;
    c->draft_bytes = draft_bytes(s->draft);
    return 0;
}

static int open_adapters(struct infer *s, const struct model_config *own, struct err *e)
{
    const struct jobspec_serve *v = &s->spec->serve;
    uint64_t digest;
    if (!s->beside)
        return 0;
    if (v->adapter_memory) {
        const struct loras_conf c = {.serve = v,
            .own = weights_config(s->weights),
            .weights = s->weights,
            .dev = s->conf.dev,
            .beside = s->beside,
            .inbox = s->conf.inbox};
        log_info("adapters are loaded when they are wanted", LOG_I("adapters", v->adapter_count),
            LOG_I("bytes", v->adapter_memory));
        int rc = loras_create(&c, &s->loras, e);
        s->turns.loras = s->loras;
        return rc;
    }
    log_info("adapters beside the model", LOG_I("adapters", beside_count(s->beside)),
        LOG_I("bytes", beside_bytes(s->beside, own)),
        LOG_I("greatest_rank", beside_rank(s->beside)));
    int rc =
        adapters_load(v, own, s->weights, s->conf.dev, s->beside, s->conf.door->page, &digest, e);
    if (rc || (rc = team_compare(s->team, digest, e)))
        err_wrap(e, "spec.serve.adapters");
    return rc;
}

static int open_batcher(struct infer *s, int64_t context, int64_t pages, struct err *e)
{
    struct dev_info info;
    dev_describe(s->conf.dev, &info);
    const struct batcher_conf b = {.engine = s->engine,
        .ensemble = s->ensemble,
        .team = s->team,
        .dev = s->conf.dev,
        .vocab = weights_config(s->weights)->vocab,
        .context = context,
        .pages = pages,
        .most = s->most,
        .waiting = s->places - s->most,
        .rows = ENGINE_ROWS,
        .target_ms = STEP_MS,
        .score_fn = give_score,
        .guesses = s->spec->serve.speculation.method ? s->spec->serve.speculation.tokens : 0,
        .few = info.host_readable ? FEW_ROWS : 0,
        .may_follow_fn = keep_guesses,
        .draft = s->draft,
        .draft_share = DRAFT_SHARE};
    s->turns.vocab = b.vocab;
    s->turns.context = context;
    return batcher_create(&b, &s->batcher, e);
}

static int open_model(struct infer *s, struct err *e)
{
    struct model_conf c = {.config = *weights_config(s->weights),
        .t = model_type_of(s->spec->precision),
        .kv_cache = s->spec->serve.kv_cache,
        .page = s->conf.door->page};
    struct dev_info info;
    int rc;
    dev_describe(s->conf.dev, &info);
    c.programs = info.host_readable ? memplan_programs(c.config.vocab) : 0;
    if ((rc = describe_adapters(s, &c, e)))
        return rc;
    if ((rc = engine_context(&c.config, s->spec->serve.context_length, &c.kv_capacity, e)) ||
        (rc = describe_draft(s, &c, e)) || (rc = plan_pages(s, &c, e)) ||
        (rc = model_create(s->conf.dev, &c, &s->model, e)) ||
        (rc = model_load(s->model, s->weights, e)) || (rc = open_adapters(s, &c.config, e)) ||
        (s->draft && (rc = draft_load(s->draft, s->conf.dev, c.kv_pages, s->conf.door->page, e))) ||
        (rc = engine_create(s->model, &s->engine, e)))
        return rc;
    weights_release(s->weights); /* the model has them */
    return open_batcher(s, c.kv_capacity, c.kv_pages, e);
}

/* The job's model is there for its texts alone, unless it is a member. */
static int open_members(struct infer *s, struct err *e)
{
    const struct ensemble_conf c = {.spec = s->spec,
        .weights = s->weights,
        .tok = s->tok,
        .dev = s->conf.dev,
        .page = s->conf.door->page,
        .parts = (int)parts_of(s),
        .coll = s->conf.coll,
        .rank = s->conf.orders->rank};
    struct model_conf any = {.config = *weights_config(s->weights),
        .t = model_type_of(s->spec->precision),
        .kv_cache = s->spec->serve.kv_cache};
    struct dev_info info;
    dev_describe(s->conf.dev, &info);
    s->conf.budget_bytes -= info.host_readable ? memplan_programs(any.config.vocab) : 0;
    struct ensemble_facts *f = &s->of_ensemble;
    int64_t pages;
    int rc = team_share(s->team, &any, e); /* none is divided: the team learns of the vocabulary */
    if (rc || (rc = ensemble_open(&c, &s->ensemble, e)) ||
        (rc = ensemble_require(s->ensemble, s->conf.budget_bytes, e)))
        return rc;
    ensemble_tell(s->ensemble, f);
    if ((rc = agree_on_pages(s, f->context, model_cache_type(&any), f->page_bytes,
             s->conf.budget_bytes - f->bytes, &pages, e)) ||
        (rc = ensemble_load(s->ensemble, pages, e)))
        return rc;
    ensemble_tell(s->ensemble, f); /* what has been loaded now */
    weights_release(s->weights);
    return open_batcher(s, f->context, pages, e);
}

static int open_text(struct infer *s, struct err *e)
{
    int rc = tok_open(s->weights, &s->tok, e);

    if (!rc && chat_open(s->weights, &s->chat, &s->no_chat))
        log_warn(
            "chat is not served", LOG_S("model", weights_path(s->weights)), LOG_ERR(&s->no_chat));
    s->turns.weights = s->weights;
    s->turns.serve = &s->spec->serve;
    s->turns.tok = s->tok;
    s->turns.chat = s->chat;
    s->turns.no_chat = &s->no_chat;
    return rc;
}

/* The encoder's memory and the library's are the model's no more. */
static int open_documents(struct infer *s, struct err *e)
{
    const struct jobspec *spec = s->spec;
    const struct retrieve_conf c = {&spec->serve.retrieval, s->conf.dev, spec->precision,
        s->conf.budget_bytes, spec->serve.embedding_cache, s->conf.door};
    if (!spec->serve.retrieval.documents)
        return 0;
    int rc = retrieve_open(&c, &s->turns.retrieve, e);
    if (!rc)
        s->conf.budget_bytes -= retrieve_bytes(s->turns.retrieve);
    return rc;
}

static int open_all(struct infer *s, struct err *e)
{
    const struct jobspec *spec = s->spec;
    const struct ensemble_facts *f = &s->of_ensemble;
    bool several = spec->serve.ensemble.member_count;
    struct dev_info info;
    int rc;

    beat_phase(s->conf.door->page, WIRE_PHASE_LOAD);
    s->most = spec->serve.max_sequences;
    s->places = s->most + LIMIT_RANK_REQUESTS;
    s->drawn = mem_array((size_t)s->most, sizeof *s->drawn);
    s->served = mem_array((size_t)s->places, sizeof *s->served);
    if (!s->drawn || !s->served)
        return err_set(e, ERR_MEMORY, "no memory for %d requests", s->most);
    if ((rc = team_open(s->conf.coll, s->conf.orders, &s->team, e)) ||
        (rc = weights_open(spec->model.source, spec->model.sha256, &s->weights, e)) ||
        ((several || team_leads(s->team)) && (rc = open_text(s, e))) ||
        (rc = open_documents(s, e)) || (rc = several ? open_members(s, e) : open_model(s, e)))
        return rc;
    dev_describe(s->conf.dev, &info);
    int64_t parameters = s->model ? model_parameters(s->model) : f->parameters,
            bytes = s->model ? model_memory_bytes(s->model) : f->bytes;
    rc = door_send_fields(s->conf.door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)parameters, NULL},
            {"memory_bytes", (double)bytes, NULL}, {"resumed_step", 0, NULL}, {"steps", 0, NULL},
            {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
    if (rc || !team_leads(s->team) || (rc = team_rest(s->team, e))) /* all have loaded */
        return rc;
    if (s->turns.retrieve && (rc = retrieve_index(s->turns.retrieve, e)))
        return rc;
    return door_send_fields(s->conf.door, WIRE_SERVING,
        (struct door_field[]){{"model", 0, spec->serve.model_name},
            {"context_length", (double)s->turns.context, NULL},
            {"calls", 0, wire_calls_name(s->chat ? chat_calls(s->chat) : WIRE_CALLS_NONE)},
            {"members", (double)f->count, NULL}, {"of", (double)f->of, NULL}, {NULL, 0, NULL}},
        e);
}

static void tell_figures(const struct infer *s)
{
    struct batcher_figures f;
    batcher_tell(s->batcher, &f);
    log_info("served", LOG_I("steps", f.steps), LOG_I("stopped", f.stopped),
        LOG_I("gave_way", f.gave_way), LOG_I("prompt_tokens", f.prompt_rows),
        LOG_I("cached_tokens", f.cached), LOG_I("pages", f.pages),
        LOG_I("pages_left", f.pages_left), LOG_I("guessed_tokens", f.guessed),
        LOG_I("right_tokens", f.right));
}

static void close_all(struct infer *s)
{
    for (int i = 0; s->served && i < s->places; i++)
        if (s->served[i].turn.q)
            turn_done(&s->served[i].turn);
    mem_free(s->served);
    mem_free(s->drawn);
    retrieve_close(s->turns.retrieve);
    batcher_destroy(s->batcher);
    team_close(s->team);
    ensemble_destroy(s->ensemble);
    draft_close(s->draft);
    engine_destroy(s->engine);
    model_destroy(s->model);
    bool left = !loras_destroy(s->loras);
    mem_free(s->list);
    beside_destroy(s->beside);
    chat_close(s->chat);
    tok_close(s->tok);
    if (!left)
        weights_close(s->weights);
    turn_conf_done(&s->turns);
}

/* Until it is to stop: -ERR_DRAINED. */
static int serve(struct infer *s, struct err *e)
{
    int rc = 0;
    if (!team_leads(s->team))
        return team_follow(s->team, s->engine, s->ensemble, s->conf.door->page, e);
    while (!rc && !(rc = take_requests(s, e)) && !(rc = step(s, e)) && !(rc = keep_adapters(s, e)))
        rc = keep_indexed(s, e);
    if (rc == -ERR_DRAINED)
        tell_figures(s);
    return rc;
}

int infer_run(const struct infer_conf *c, struct err *e)
{
    struct infer s = {.conf = *c, .spec = c->orders->spec, .turns.door = c->door};
    int rc;

    buf_init(&s.turns.text, 4 * LIMIT_REQUEST_BYTES); /* with a guard behind every character */
    buf_init(&s.turns.frame, LIMIT_FRAME_BYTES);
    rc = open_all(&s, e);
    if (!rc)
        rc = serve(&s, e);
    if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, 0, NULL, NULL);
    close_all(&s);
    return rc;
}
