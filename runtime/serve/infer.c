/*
 * infer: one request after another, from prompt to last token. The model says what comes next; this
 * file decides when to stop (end of turn, stop string, length, context, cancel) and what text may
 * go out: only whole UTF-8 characters, and never a part of a stop string.
 */
#include "runtime/serve/infer.h"

#include "base/io.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/utf8.h"
#include "runtime/door/beat.h"
#include "runtime/text/chat.h"
#include "runtime/text/guard.h"
#include "runtime/model/engine.h"
#include "runtime/serve/sample.h"
#include "runtime/text/tok.h"

#include <endian.h>

#define IDLE_MS         1000
#define PREFILL_TOKENS  ENGINE_ROWS /* between two looks at `cancelled` */
#define DEFAULT_CONTEXT 8192        /* of the cache, when the model would allow more */
#define AGENT_VALUES    64          /* that the agent adds to a client's request */

struct infer {
    struct infer_conf conf;
    struct weights *weights;
    struct tok *tok;
    struct chat *chat; /* NULL: no_chat says why */
    struct err no_chat;
    struct model *model;
    struct engine *engine;
    struct sampler sampler;
    const struct model_config *config;
    int64_t context, vocab;
    int32_t *cached; /* (context): the tokens whose keys stand in the cache */
    int64_t cached_count;
    struct buf text; /* scratch of one request */
    struct buf frame;
};

struct turn { /* one request on its way */
    struct sched_request *q;
    struct json *body; /* its text, decoded */
    struct tok_ids prompt;
    const char *stop[LIMIT_STOP_STRINGS];
    int stops;
    int64_t max_tokens, produced;
    struct buf pending; /* text that is not out yet */
    const char *reason;
};

/* -- text out -- */

static int send_text(struct infer *s, struct turn *t, size_t n, struct err *e)
{
    uint64_t id = htole64(t->q->id);
    uint32_t head[2] = {htole32((uint32_t)t->produced), 0};

    if (!n)
        return 0;
    buf_reset(&s->frame);
    buf_add(&s->frame, &id, sizeof id);
    buf_add(&s->frame, head, sizeof head);
    if (buf_add(&s->frame, t->pending.data, n))
        return err_set(e, ERR_MEMORY, "no memory for a token");
    buf_drop(&t->pending, n);
    return door_send(s->conf.door, WIRE_TOKEN, s->frame.data, s->frame.len, e);
}

/* Bytes at the end of p that could be the beginning of a stop string. */
static size_t held_back(const struct turn *t, const char *p, size_t n)
{
    size_t most = 0;

    for (int i = 0; i < t->stops; i++) {
        size_t len = strlen(t->stop[i]);

        for (size_t k = len - 1 < n ? len - 1 : n; k > most; k--)
            if (!memcmp(p + n - k, t->stop[i], k)) {
                most = k;
                break;
            }
    }
    return most;
}

/* The earliest stop string in the pending text, or NULL. */
static const char *find_stop(const struct turn *t)
{
    const char *first = NULL;

    for (int i = 0; i < t->stops && t->pending.len; i++) {
        const char *at = memmem(t->pending.data, t->pending.len, t->stop[i], strlen(t->stop[i]));

        if (at && (!first || at < first))
            first = at;
    }
    return first;
}

/* Sends what may go out. last: all of it. Sets t->reason at a stop string. */
static int flush_text(struct infer *s, struct turn *t, bool last, struct err *e)
{
    const char *stop = find_stop(t);
    size_t n = t->pending.len;

    if (stop) {
        t->reason = "stop";
        return send_text(s, t, (size_t)(stop - t->pending.data), e);
    }
    if (!last && n) {
        n -= held_back(t, t->pending.data, n);
        n = utf8_whole(t->pending.data, n);
    }
    return send_text(s, t, n, e);
}

/* -- prompt in -- */

/* Special tokens are the template's: in what the client wrote they are text. */
static int encode_chat(struct infer *s, struct turn *t, struct err *e)
{
    json_auto struct json *messages = NULL;
    int rc = guard_json(s->tok, json_get(t->body, "messages"), &messages, e);

    buf_reset(&s->text);
    if (rc || (rc = chat_render(s->chat, messages, true, &s->text, e)))
        return rc;
    return tok_encode_guarded(s->tok, buf_cstr(&s->text), (int64_t)s->text.len, &t->prompt, e);
}

static int take_ids(struct infer *s, const struct json *ids, struct tok_ids *out, struct err *e)
{
    int rc = 0;

    json_each (id, ids) {
        double n = json_number_value(id);

        if (!(n >= 0 && n < (double)s->vocab))
            return err_set(
                e, ERR_USER, "token id %.0f: the model has 0 to %lld", n, (long long)s->vocab - 1);
        rc = rc ? rc : tok_ids_add(out, (int32_t)n, e);
    }
    return rc;
}

static int encode_prompt(struct infer *s, struct turn *t, struct err *e)
{
    const struct json *body = t->body;
    const char *prompt = json_str(body, "prompt", NULL);
    const struct json *ids = json_get(body, "prompt_ids");
    bool chat = json_bool(body, "chat", false);
    int rc;

    if (chat && !s->chat)
        return err_set(e, ERR_USER, "chat is not served: %.180s; use completions", s->no_chat.text);
    if (chat)
        rc = encode_chat(s, t, e);
    else if (ids)
        rc = take_ids(s, ids, &t->prompt, e);
    else if (!prompt)
        rc = err_set(e, ERR_USER, "the request has neither messages nor a prompt");
    else
        rc = tok_encode_document(s->tok, prompt, (int64_t)strlen(prompt), &t->prompt, e);
    if (rc)
        return rc;
    if (t->prompt.count == 0)
        return err_set(e, ERR_USER, "the prompt is empty");
    if (t->prompt.count >= s->context)
        return err_set(e, ERR_USER, "the prompt has %lld tokens, the context %lld",
            (long long)t->prompt.count, (long long)s->context);
    return 0;
}

static int read_request(struct infer *s, struct turn *t, struct err *e)
{
    const struct json *body = t->body;
    double temperature = json_num(body, "temperature", 1), top_p = json_num(body, "top_p", 1);
    uint64_t drawn = (uint64_t)json_int(body, "seed", 0);
    int64_t room;
    int rc;

    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_RENDER);
    rc = encode_prompt(s, t, e);
    if (rc)
        return rc;
    if (!(temperature >= 0 && temperature <= 100) || !(top_p >= 0 && top_p <= 1))
        return err_set(e, ERR_USER, "temperature must be in [0, 100], top_p in [0, 1]");
    if (!json_get(body, "seed"))
        rc = io_random(&drawn, sizeof drawn, e);
    if (rc)
        return rc;
    if (top_p > 0)
        sampler_start(&s->sampler, temperature, top_p, drawn);
    else /* the likeliest token alone */
        sampler_start(&s->sampler, 0, 1, drawn);
    room = s->context - t->prompt.count;
    t->max_tokens = json_int(body, "max_tokens", 0);
    if (t->max_tokens <= 0 || t->max_tokens > room)
        t->max_tokens = room;
    json_each (stop, json_get(body, "stop")) {
        const char *text = json_string_value(stop);

        if (!text || !*text || strlen(text) > LIMIT_STOP_BYTES || t->stops == LIMIT_STOP_STRINGS)
            return err_set(e, ERR_USER, "stop must be at most %d strings of 1 to %d bytes",
                LIMIT_STOP_STRINGS, LIMIT_STOP_BYTES);
        t->stop[t->stops++] = text;
    }
    return 0;
}

/* -- tokens -- */

/* Runs `count` tokens, which follow what the cache holds. */
static int extend(struct infer *s, const int32_t *ids, int64_t count, struct err *e)
{
    int64_t past = s->cached_count;
    int rc = engine_extend(s->engine, ids, count, past, false, NULL, e);

    s->cached_count = rc ? 0 : past + count;
    if (!rc)
        memcpy(s->cached + past, ids, (size_t)count * sizeof *ids);
    return rc;
}

/* Runs one more token and draws the one that follows it. */
static int next_token(struct infer *s, int32_t id, int32_t *next, struct err *e)
{
    int64_t past = s->cached_count;
    const struct sample_draw draw = sampler_draw(&s->sampler);
    int rc = engine_next(s->engine, id, past, &draw, next, e);
    s->cached_count = rc ? 0 : past + 1;
    if (!rc)
        s->cached[past] = id;
    return rc;
}

/* All of the prompt but its last token: that one runs by itself, as when all before it is cached,
   so that the same request gives the same answer whether the cache is warm or not. */
static int prefill(struct infer *s, struct turn *t, struct err *e)
{
    const int32_t *ids = t->prompt.id;
    int64_t count = t->prompt.count - 1, from = 0, n;
    int rc = 0;

    while (from < count && from < s->cached_count && s->cached[from] == ids[from])
        from++;
    s->cached_count = from;
    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_PREFILL);
    for (; from < count && !rc && !atomic_load(&t->q->cancelled); from += n) {
        n = count - from < PREFILL_TOKENS ? count - from : PREFILL_TOKENS;
        rc = extend(s, ids + from, n, e);
    }
    return rc;
}

static bool ends_turn(const struct infer *s, int32_t id)
{
    return id == tok_eos(s->tok) || weights_ends(s->weights, id);
}

static int decode(struct infer *s, struct turn *t, struct err *e)
{
    int32_t id = t->prompt.id[t->prompt.count - 1];

    beat_phase(s->conf.door->page, WIRE_PHASE_SERVE_DECODE);
    while (!t->reason) {
        if (atomic_load(&t->q->cancelled)) {
            t->reason = "cancelled";
            break;
        }
        int rc = next_token(s, id, &id, e);
        beat(s->conf.door->page);
        if (rc)
            return rc;
        if (ends_turn(s, id)) {
            t->reason = "stop";
            break;
        }
        t->produced++;
        if (tok_decode(s->tok, id, true, &t->pending))
            return err_set(e, ERR_MEMORY, "no memory for a token");
        rc = flush_text(s, t, false, e);
        if (rc)
            return rc;
        if (!t->reason && t->produced >= t->max_tokens)
            t->reason = "length";
    }
    return 0;
}

static int finish(
    struct infer *s, struct turn *t, const char *reason, const char *message, struct err *e)
{
    return door_send_fields(s->conf.door, WIRE_FINISHED,
        (struct door_field[]){{"id", (double)t->q->id, NULL}, {"reason", 0, reason},
            {"prompt_tokens", (double)t->prompt.count, NULL},
            {"completion_tokens", (double)t->produced, NULL}, {"message", 0, message},
            {NULL, 0, NULL}},
        e);
}

static int answer_request(struct infer *s, struct turn *t, struct err *e)
{
    int rc;

    if ((rc = json_parse_within(t->q->text, t->q->len, JSON_VALUES + AGENT_VALUES, &t->body, e)) ||
        (rc = read_request(s, t, e))) {
        if (rc == -ERR_MEMORY) /* of what one request asks for: no reason to end for */
            return err_set(e, ERR_USER, "the request needs more memory than one may have");
        return rc;
    }
    if ((rc = prefill(s, t, e)) || (rc = decode(s, t, e)))
        return rc;
    return strcmp(t->reason, "cancelled") != 0 && !find_stop(t) ? flush_text(s, t, true, e) : 0;
}

/* The request's own faults end the request; only the rank's faults are returned. */
static int serve(struct infer *s, struct sched_request *q, struct err *e)
{
    struct turn t = {.q = q};
    struct err fault = {0};
    int rc;

    if (atomic_load(&q->cancelled)) /* while it waited */
        return finish(s, &t, "cancelled", "", e);
    buf_init(&t.pending, LIMIT_REQUEST_BYTES);
    rc = answer_request(s, &t, &fault);
    if (!rc)
        rc = finish(s, &t, t.reason, "", &fault);
    else if (fault.code == ERR_USER || fault.code == ERR_DATA)
        rc = finish(s, &t, "error", fault.text, &fault);
    buf_done(&t.pending);
    tok_ids_done(&t.prompt);
    json_destroy(t.body);
    if (rc)
        *e = fault;
    return rc;
}

/* -- life -- */

static int open_model(struct infer *s, struct err *e)
{
    const struct jobspec *spec = s->conf.spec;
    struct model_conf c = {
        .config = *s->config, .t = model_type_of(spec->precision), .page = s->conf.door->page};
    struct memplan plan;
    int rc;

    s->context = s->config->context < DEFAULT_CONTEXT ? s->config->context : DEFAULT_CONTEXT;
    if (spec->serve.context_length > s->config->context)
        return err_set(e, ERR_USER,
            "spec.serve.contextLength: %d exceeds the model's context of %lld",
            spec->serve.context_length, (long long)s->config->context);
    if (spec->serve.context_length)
        s->context = spec->serve.context_length;
    c.kv_capacity = s->context;
    if ((rc = memplan_model(&c, s->weights, &plan, e)) ||
        (rc = memplan_require(&plan, s->conf.budget_bytes, e)) ||
        (rc = model_create(s->conf.dev, &c, &s->model, e)) ||
        (rc = model_load(s->model, s->weights, e)))
        return rc;
    return engine_create(s->model, &s->engine, e);
}

static int open_text(struct infer *s, struct err *e)
{
    int rc = tok_open(s->weights, &s->tok, e);

    if (!rc && chat_open(s->weights, &s->chat, &s->no_chat))
        log_warn(
            "chat is not served", LOG_S("model", weights_path(s->weights)), LOG_ERR(&s->no_chat));
    return rc;
}

static int open_all(struct infer *s, struct err *e)
{
    const struct jobspec *spec = s->conf.spec;
    struct dev_info info;
    int rc;

    beat_phase(s->conf.door->page, WIRE_PHASE_LOAD);
    rc = weights_open(spec->model.source, spec->model.sha256, &s->weights, e);
    if (rc)
        return rc;
    s->config = weights_config(s->weights);
    s->vocab = s->config->vocab;
    if ((rc = open_text(s, e)) || (rc = open_model(s, e)))
        return rc;
    dev_describe(s->conf.dev, &info);
    s->cached = mem_array((size_t)s->context, sizeof *s->cached);
    if (!s->cached)
        return err_set(
            e, ERR_MEMORY, "no memory for a context of %lld tokens", (long long)s->context);
    rc = door_send_fields(s->conf.door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)model_parameters(s->model), NULL},
            {"memory_bytes", (double)model_memory_bytes(s->model), NULL}, {"resumed_step", 0, NULL},
            {"steps", 0, NULL}, {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
    if (rc)
        return rc;
    return door_send_fields(s->conf.door, WIRE_SERVING,
        (struct door_field[]){{"model", 0, spec->serve.model_name},
            {"context_length", (double)s->context, NULL}, {NULL, 0, NULL}},
        e);
}

static void close_all(struct infer *s)
{
    mem_free(s->cached);
    engine_destroy(s->engine);
    model_destroy(s->model);
    chat_close(s->chat);
    tok_close(s->tok);
    weights_close(s->weights);
    buf_done(&s->text);
    buf_done(&s->frame);
}

int infer_run(const struct infer_conf *c, struct err *e)
{
    struct infer s = {.conf = *c};
    int rc;

    buf_init(&s.text, 4 * LIMIT_REQUEST_BYTES); /* with a guard behind every character */
    buf_init(&s.frame, LIMIT_FRAME_BYTES);
    rc = open_all(&s, e);
    while (!rc) {
        struct sched_request *q;

        beat_phase(c->door->page, WIRE_PHASE_SERVE_IDLE);
        q = sched_take(c->queue, IDLE_MS);
        if (!q && atomic_load(&c->door->stop))
            rc = err_set(e, ERR_DRAINED, "stopped on request");
        if (!q)
            continue;
        rc = serve(&s, q, e);
        sched_finish(c->queue, q);
    }
    if (rc == -ERR_DRAINED)
        (void)door_send_done(c->door, 0, NULL, NULL);
    close_all(&s);
    return rc;
}
