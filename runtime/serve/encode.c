/*
 * encode: the texts of a pass stand in one list of tokens, with whose they are; one that did not
 * fit is the first of the next pass. What a request has wrong ends that request; only the rank's
 * own faults end the rank.
 */
#include "runtime/serve/encode.h"

#include "api/limits.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/family/family.h"
#include "runtime/serve/items.h"
#include "runtime/serve/readers.h"

#define IDLE_MS 1000

struct encode_asked { /* a request that is answered */
    struct inbox_request *q;
    struct items_asked items;
    struct err fault; /* it ends with this; code 0: it has none */
};

struct encode_text {         /* of a pass */
    struct encode_asked *of; /* NULL: nobody's any more */
    int64_t begin, count;
};

struct encode {
    struct infer_conf conf;
    const struct jobspec *spec;
    struct weights *weights;
    struct reader *reader;       /* or NULL: */
    struct readers *readers;     /* several as one */
    const struct reader *speaks; /* the one, or the first; NULL: a rank without */
    struct recommend *recommend; /* or NULL */
    struct encode_asked *asked;  /* (most) those without a request are free */
    int most, count;
    int turn; /* whose the first text of the next pass is */
    struct tok_ids ids, types;
    struct encode_text texts[ENCODER_TEXTS + 1];
    int n;
    float *found; /* of a pass: embeddings, or logits */
    struct buf out, frame;
    int64_t passes, tokens, read; /* so far */
};

/* It has the requests. */
static bool leads(const struct encode *s)
{
    return s->conf.orders->rank == 0;
}

/* -- requests -- */

static int send_finished(
    struct encode *s, const struct encode_asked *a, const char *reason, struct err *e)
{
    return door_send_fields(s->conf.door, WIRE_FINISHED,
        (struct door_field[]){{"id", (double)a->q->id, NULL}, {"reason", 0, reason},
            {"prompt_tokens", (double)a->items.tokens, NULL}, {"completion_tokens", 0, NULL},
            {"items", (double)a->items.taken, NULL},
            {"recommended", (double)a->items.recommends.told, NULL}, {"message", 0, a->fault.text},
            {NULL, 0, NULL}},
        e);
}

static int end_asked(struct encode *s, struct encode_asked *a, const char *reason, struct err *e)
{
    int rc = send_finished(s, a, reason, e);
    for (int i = 0; i < s->n; i++)
        if (s->texts[i].of == a)
            s->texts[i].of = NULL;
    inbox_finish(s->conf.inbox, a->q);
    items_done(&a->items);
    *a = (struct encode_asked){.q = NULL};
    s->count--;
    return rc;
}

/* A failure of its own is kept: it is told of when the pass is over. */
static int keep_fault(struct encode_asked *a, const struct err *fault, struct err *e)
{
    bool own = fault->code == ERR_USER || fault->code == ERR_DATA || fault->code == ERR_MEMORY;
    if (!own) {
        *e = *fault;
        return -(int)fault->code;
    }
    a->fault = *fault;
    return 0;
}

static int send_text(struct encode *s, const struct encode_asked *a, struct err *e)
{
    const struct wire_token head = {.request = a->q->id};
    buf_reset(&s->frame);
    wire_put_token(&s->frame, &head);
    if (!s->out.len)
        return 0;
    if (buf_add(&s->frame, s->out.data, s->out.len))
        return err_set(e, ERR_MEMORY, "no memory for an answer");
    return door_send(s->conf.door, WIRE_TOKEN, s->frame.data, s->frame.len, e);
}

/* It has no texts: all is said now. */
static int tell_at_once(struct encode *s, struct encode_asked *a, struct err *e)
{
    struct err fault = {0};
    buf_reset(&s->out);
    if (items_tell_at_once(&a->items, &s->out, &fault))
        return keep_fault(a, &fault, e);
    return send_text(s, a, e);
}

static int begin_asked(struct encode *s, struct inbox_request *q, struct err *e)
{
    struct encode_asked *a = s->asked;
    struct err fault = {0};
    while (a->q)
        a++;
    a->q = q;
    s->count++;
    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_RENDER);
    if (items_open(&a->items, s->speaks, s->recommend, q->text, q->len, &fault))
        return keep_fault(a, &fault, e);
    return items_over(&a->items) ? tell_at_once(s, a, e) : 0;
}

static int take_requests(struct encode *s, struct err *e)
{
    int rc = 0;
    while (!rc && s->count < s->most) {
        bool idle = !s->count, stop = atomic_load(&s->conf.door->stop);
        if (idle)
            beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_IDLE);
        struct inbox_request *q = inbox_take(s->conf.inbox, idle && !stop ? IDLE_MS : 0);
        if (!q && idle && stop) {
            rc = readers_end(s->readers, e);
            return rc ? rc : err_set(e, ERR_DRAINED, "stopped on request");
        }
        if (!q)
            break;
        rc = begin_asked(s, q, e);
    }
    return rc;
}

/* Those that are cancelled, at fault, or answered. */
static int end_some(struct encode *s, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < s->most && !rc; i++) {
        struct encode_asked *a = &s->asked[i];
        if (!a->q)
            continue;
        if (atomic_load(&a->q->cancelled))
            rc = end_asked(s, a, "cancelled", e);
        else if (a->fault.code)
            rc = end_asked(s, a, "error", e);
        else if (items_over(&a->items))
            rc = end_asked(s, a, "stop", e);
    }
    return rc;
}

/* -- a pass -- */

static bool fits(const struct encode *s)
{
    return s->n <= ENCODER_TEXTS && s->ids.count <= reader_rows(s->speaks);
}

/* The next text of a request, behind those of the pass. */
static int add_text(struct encode *s, struct encode_asked *a, struct err *e)
{
    struct err fault = {0};
    int64_t begin = s->ids.count;
    if (items_read(&a->items, &s->ids, &s->types, &fault)) {
        s->ids.count = s->types.count = begin;
        return keep_fault(a, &fault, e);
    }
    s->texts[s->n++] = (struct encode_text){a, begin, s->ids.count - begin};
    return 0;
}

static bool has_text(const struct encode_asked *a)
{
    return a->q && !a->fault.code && a->items.next < a->items.texts;
}

/* Texts of all requests in turn, one more than fit, or all there are. */
static int gather_texts(struct encode *s, struct err *e)
{
    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_RENDER);
    for (int without = 0; without < s->most && fits(s); s->turn = (s->turn + 1) % s->most) {
        struct encode_asked *a = &s->asked[s->turn];
        without = has_text(a) ? 0 : without + 1;
        int rc = has_text(a) ? add_text(s, a, e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int read_pass(struct encode *s, int n, struct err *e)
{
    struct encoder_text texts[ENCODER_TEXTS];
    for (int i = 0; i < n; i++)
        texts[i] = (struct encoder_text){
            s->ids.id + s->texts[i].begin, s->types.id + s->texts[i].begin, s->texts[i].count};
    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_PREFILL);
    s->passes++;
    s->read += n;
    s->tokens += s->texts[n - 1].begin + s->texts[n - 1].count;
    if (s->readers)
        return readers_label(s->readers, texts, n, s->found, e);
    return reader_facts(s->speaks)->does == WIRE_DOES_EMBED
        ? reader_embed(s->reader, texts, n, s->found, e)
        : reader_label(s->reader, texts, n, s->found, e);
}

/* Numbers that are found of a text. */
static int64_t width_of(const struct encode *s, const struct encode_text *t)
{
    const struct reader_facts *f = reader_facts(s->speaks);
    if (f->does == WIRE_DOES_EMBED)
        return f->dim;
    return f->does == WIRE_DOES_TAG ? t->count * f->labels : f->labels;
}

static int tell_pass(struct encode *s, int n, struct err *e)
{
    const float *found = s->found;
    int rc = 0;
    for (int i = 0; i < n && !rc; found += width_of(s, &s->texts[i++])) {
        struct encode_asked *a = s->texts[i].of;
        struct err fault = {0};
        if (!a || a->fault.code)
            continue;
        buf_reset(&s->out);
        if (items_tell(&a->items, found, s->texts[i].count, &s->out, &fault))
            rc = keep_fault(a, &fault, e);
        else
            rc = send_text(s, a, e);
    }
    return rc;
}

/* What did not fit is the first of the next. */
static void carry_on(struct encode *s, int n)
{
    int64_t from = n < s->n ? s->texts[n].begin : s->ids.count;
    size_t left = (size_t)(s->ids.count - from) * sizeof *s->ids.id;
    s->ids.count = s->types.count = s->ids.count - from;
    if (n < s->n) {
        memmove(s->ids.id, s->ids.id + from, left);
        memmove(s->types.id, s->types.id + from, left);
        s->texts[0] = s->texts[n];
        s->texts[0].begin = 0;
    }
    s->n -= n;
}

static int run_pass(struct encode *s, struct err *e)
{
    int rc = gather_texts(s, e), n = fits(s) ? s->n : s->n - 1;
    if (rc || !n)
        return rc ? rc : readers_rest(s->readers, e);
    if ((rc = read_pass(s, n, e)) || (rc = tell_pass(s, n, e)))
        return rc;
    carry_on(s, n);
    return 0;
}

/* -- life -- */

/* Of a GGUF file the first look is at its architecture: what goes on with texts is opened once. One
   that is none is found out by who serves it. */
static bool may_read(const char *source)
{
    char config[LIMIT_PATH_BYTES + 16];
    struct gguf *g = NULL;
    struct gguf_str name;
    const struct family *f = NULL;
    snprintf(config, sizeof config, "%s/config.json", source);
    if (io_exists(config))
        return true;
    if (!gguf_open(source, &g, NULL) && !gguf_string(g, "general.architecture", &name, NULL))
        f = family_of_gguf(name.s, name.len);
    gguf_close(g);
    return f && f->fixed.bidirectional;
}

int encode_serves(const struct orders *o, bool *out, struct err *e)
{
    struct weights *w = NULL;
    enum wire_does does = WIRE_DOES_GENERATE;
    int rc = 0;
    *out = false;
    if (may_read(o->spec->model.source)) {
        rc = weights_open(o->spec->model.source, NULL, &w, e);
        if (!rc)
            rc = reader_does(w, &does, e);
        weights_close(w);
    }
    if (!rc && does != WIRE_DOES_EMBED && o->spec->serve.recommend.items)
        return err_set(
            e, ERR_USER, "spec.serve.recommend: %s does not embed texts", o->spec->model.source);
    if (!rc)
        *out = does != WIRE_DOES_GENERATE;
    return rc;
}

static int open_host(struct encode *s, struct err *e)
{
    const struct reader_facts *f = reader_facts(s->speaks);
    int64_t rows = reader_rows(s->speaks);
    int64_t most = f->does == WIRE_DOES_EMBED ? ENCODER_TEXTS * f->dim
        : f->does == WIRE_DOES_TAG            ? rows * f->labels
                                              : ENCODER_TEXTS * f->labels;
    s->found = mem_array((size_t)most, sizeof *s->found);
    s->asked = mem_array((size_t)s->most, sizeof *s->asked);
    return s->found && s->asked ? 0 : err_set(e, ERR_MEMORY, "no memory for %d requests", s->most);
}

/* The labels that alerts count are the model's. */
static int check_alerts(const struct encode *s, struct err *e)
{
    const struct reader_facts *f = reader_facts(s->speaks);
    int n = s->spec->serve.classify.alert_count;
    if (n && f->does != WIRE_DOES_CLASSIFY)
        return err_set(e, ERR_USER, "spec.serve.classify: %.150s has no labels of texts to watch",
            s->spec->model.source);
    for (int i = 0; i < n; i++) {
        const char *label = s->spec->serve.classify.alerts[i].label;
        int64_t k = 0;
        while (k < f->labels && strcmp(f->names[k], label) != 0)
            k++;
        if (k == f->labels)
            return err_set(e, ERR_USER,
                "spec.serve.classify.alerts[%d].label: \"%.60s\" is none of the %lld labels of the "
                "model, which begin with \"%.60s\"",
                i, label, (long long)f->labels, f->names[0]);
    }
    return 0;
}

static int open_recommended(struct encode *s, struct err *e)
{
    if (!s->spec->serve.recommend.items)
        return 0;
    int64_t left = s->conf.budget_bytes - reader_facts(s->reader)->memory_bytes;
    return recommend_open(&s->spec->serve, s->reader, left, &s->recommend, e);
}

static int tell_open(const struct encode *s, struct err *e)
{
    const struct reader_facts *f = s->speaks ? reader_facts(s->speaks) : NULL;
    struct dev_info info;
    struct readers_facts all = {.count = 0};
    dev_describe(s->conf.dev, &info);
    if (s->readers)
        readers_tell(s->readers, &all);
    else
        all = (struct readers_facts){.parameters = f->parameters, .bytes = f->memory_bytes};
    int rc = door_send_fields(s->conf.door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)all.parameters, NULL},
            {"memory_bytes", (double)all.bytes, NULL}, {"resumed_step", 0, NULL},
            {"steps", 0, NULL}, {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
    if (rc || !leads(s) || (rc = readers_rest(s->readers, e))) /* all have loaded */
        return rc;
    enum wire_does does = s->recommend ? WIRE_DOES_RECOMMEND : f->does;
    log_info("reads texts", LOG_S("does", wire_does_name(does)), LOG_I("tokens", f->context),
        LOG_I("dimensions", f->dim), LOG_I("labels", f->labels));
    return door_send_fields(s->conf.door, WIRE_SERVING,
        (struct door_field[]){{"model", 0, s->spec->serve.model_name},
            {"context_length", (double)f->context, NULL},
            {"calls", 0, wire_calls_name(WIRE_CALLS_NONE)}, {"does", 0, wire_does_name(does)},
            {"members", (double)all.count, NULL}, {"of", (double)all.of, NULL}, {NULL, 0, NULL}},
        e);
}

static int open_all(struct encode *s, struct err *e)
{
    beat_phase(s->conf.door->page, WIRE_PHASE_LOAD);
    int rc = weights_open(s->spec->model.source, s->spec->model.sha256, &s->weights, e);
    if (rc)
        return rc;
    bool several = s->spec->serve.ensemble.member_count;
    int ranks = several && s->spec->serve.ensemble.ranks > 1 ? s->spec->serve.ensemble.ranks : 1;
    if (s->conf.orders->world != ranks)
        return err_set(e, ERR_USER,
            "spec.parallelism: a model that reads whole texts, as %s does, is served by one rank, "
            "or its members by as many as spec.serve.ensemble.ranks says",
            s->spec->model.source);
    if (s->spec->serve.adapter_count)
        return err_set(
            e, ERR_USER, "spec.serve.adapters: not beside a model that reads whole texts");
    if (s->spec->serve.speculation.method)
        return err_set(
            e, ERR_USER, "spec.serve.speculation: not of a model that reads whole texts");
    if (s->spec->serve.retrieval.documents)
        return err_set(e, ERR_USER,
            "spec.serve.retrieval: a model that reads whole texts answers no questions");
    if (s->spec->serve.kv_cache != KV_CACHE_AUTO)
        return err_set(
            e, ERR_USER, "spec.serve.kvCache: a model that reads whole texts has no such cache");
    const struct reader_conf c = {.weights = s->weights,
        .dev = s->conf.dev,
        .t = model_type_of(s->spec->precision),
        .context = s->spec->serve.context_length,
        .budget_bytes = s->conf.budget_bytes,
        .page = s->conf.door->page};
    const struct readers_conf all = {s->spec, c, s->conf.coll, s->conf.orders->rank};
    rc = several ? readers_open(&all, &s->readers, e) : reader_open(&c, &s->reader, e);
    if (rc || (several && (rc = readers_load(s->readers, e))))
        return rc;
    s->speaks = several ? readers_first(s->readers) : s->reader;
    if (leads(s) && ((rc = check_alerts(s, e)) || (rc = open_host(s, e))))
        return rc;
    weights_release(s->weights); /* the reader has them */
    rc = open_recommended(s, e);
    return rc ? rc : tell_open(s, e);
}

static void close_all(struct encode *s)
{
    for (int i = 0; s->asked && i < s->most; i++)
        items_done(&s->asked[i].items);
    mem_free(s->asked);
    mem_free(s->found);
    tok_ids_done(&s->ids);
    tok_ids_done(&s->types);
    buf_done(&s->out);
    buf_done(&s->frame);
    readers_close(s->readers);
    recommend_close(s->recommend);
    reader_close(s->reader);
    weights_close(s->weights);
}

/* Until it is to stop: -ERR_DRAINED. */
static int serve(struct encode *s, struct err *e)
{
    int rc;
    if (!leads(s))
        return readers_follow(s->readers, e);
    while (!(rc = take_requests(s, e)) && !(rc = end_some(s, e)) && !(rc = run_pass(s, e)) &&
        !(rc = end_some(s, e)))
        beat(s->conf.door->page);
    if (rc == -ERR_DRAINED)
        log_info("served", LOG_I("passes", s->passes), LOG_I("texts", s->read),
            LOG_I("tokens", s->tokens));
    return rc;
}

int encode_run(const struct infer_conf *c, struct err *e)
{
    mem_autofree struct encode *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a serving rank");
    s->conf = *c;
    s->spec = c->orders->spec;
    s->most = s->spec->serve.max_sequences;
    buf_init(&s->out, LIMIT_ITEMS_BYTES);
    buf_init(&s->frame, LIMIT_FRAME_BYTES);
    int rc = open_all(s, e);
    if (!rc)
        rc = serve(s, e);
    if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, 0, NULL, NULL);
    close_all(s);
    return rc;
}
