/*
 * front: one struct front_request per exchange in flight, in the order they came, found by id (what
 * the rank says) or by the exchange (what the client does). Its choices, one or several, are
 * answers that the rank knows by ids of their own, in a row. The rank has some of them; the others
 * wait as the text their client sent, which stays in its exchange, and are translated a second time
 * at their turn. Text from the rank waits in `pending` until it ends at a character's boundary. The
 * second answer to a prompt is handed over when the first has begun: its keys are found then.
 */
#include "agent/front.h"

#include "agent/calls.h"
#include "agent/dialect.h"
#include "agent/meter.h"
#include "agent/monitor.h"
#include "agent/openai.h"
#include "agent/openai_answer.h"
#include "agent/openai_items.h"
#include "agent/page.h"
#include "agent/readings.h"
#include "agent/reply.h"
#include "agent/share.h"
#include "agent/stores.h"
#include "base/clock.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES  4                        /* of a body, that a token is thought to take */
#define ANSWER_BYTES (1 << 20)                /* of one choice */
#define HELD_BYTES   (LIMIT_ANSWER_BYTES / 2) /* of all choices of an answer, and their logprobs */
#define QUIET_MS     1000 /* that whoever asks again on a connection takes for that */
#define API_SLOTS    (LIMIT_QUEUE_REQUESTS + 256) /* all that wait, and as many that ask */
#define API_BYTES    (64 << 20) /* their bodies and what they have not read of their answers */

struct front_choice {
    bool spoken;                     /* its first text has come */
    int64_t told_ms;                 /* its last */
    bool begun;                      /* a chunk of it was sent */
    const char *finish;              /* NULL while it goes on */
    char stop[LIMIT_STOP_BYTES + 1]; /* the text that ended it */
    struct buf text;                 /* whole answers */
    struct buf pending;              /* the beginning of a character */
    struct openai_logprobs logprobs;
    struct calls calls; /* of tools, if there may be any */
    int calls_sent;     /* of a stream */
    char *annotations;  /* as JSON, when it has ended; NULL: there can be none */
};

struct front_request {
    struct front *front;
    struct front_request *next;
    struct web_exchange *x;
    struct openai_answer a; /* its id is the first choice's, the others' follow */
    struct openai_request asked;
    struct share_cost cost;
    struct roster_list *roster; /* whose adapters it may name */
    bool begun;                 /* of a stream */
    int64_t started_ms;
    struct front_choice *choice; /* (asked.choices) */
    int handed;                  /* of these, to the rank */
    int finished;
    struct openai_usage usage; /* of those finished */
};

struct front {
    struct front_conf conf;
    struct front_request *head; /* the oldest */
    uint64_t next_id;
    struct key_shares share; /* knows what the rank has not finished; a client may be gone */
    bool listening, ready, draining, leaving;
    uint16_t port;
    int64_t ended_ms; /* when a request ended last */
    int64_t context_length;
    enum wire_calls calls; /* how the model calls tools */
    enum wire_does does;   /* what it does with a text */
    struct openai_members members;
    struct stores stores; /* documents that it answers from */
};

static void serve_here(void *user, struct web_exchange *x);

int front_create(const struct front_conf *conf, struct front **out, struct err *e)
{
    struct front *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "out of memory");
    f->conf = *conf;
    if (f->conf.max_queue <= 0 || f->conf.max_queue > LIMIT_QUEUE_REQUESTS)
        f->conf.max_queue = LIMIT_QUEUE_REQUESTS;
    share_init(&f->share,
        &(struct share_conf){.most = f->conf.max_queue,
            .most_bytes = LIMIT_QUEUE_BYTES,
            .most_tokens = f->conf.max_queue_tokens,
            .at_rank = f->conf.max_at_rank,
            .at_rank_more = f->conf.max_turns});
    for (int i = 0; i < f->conf.keys->count; i++)
        share_weigh(&f->share, i, f->conf.keys->key[i].weight);
    f->next_id = 1;
    meter_register(conf->model);
    forward_bind(conf->forward, serve_here, f);
    *out = f;
    return 0;
}

static void count_queue(const struct front *f)
{
    int n = 0;
    for (const struct front_request *r = f->head; r; r = r->next)
        n += r->asked.choices - r->handed;
    meter_queue(f->share.answers, n);
}

static void request_free(struct front_request *r)
{
    struct front *f = r->front;
    struct front_request **at = &f->head;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    f->ended_ms = clock_ms();
    share_leave(&f->share, &r->cost);
    count_queue(f);
    for (int i = 0; i < r->asked.choices; i++) {
        buf_done(&r->choice[i].text);
        buf_done(&r->choice[i].pending);
        openai_logprobs_done(&r->choice[i].logprobs);
        calls_done(&r->choice[i].calls);
        mem_free(r->choice[i].annotations);
    }
    roster_release(r->roster);
    mem_free(r->choice);
    mem_free(r);
}

void front_destroy(struct front *f)
{
    if (!f)
        return;
    while (f->head)
        request_free(f->head);
    mem_free(f);
}

void front_set_rank(
    struct front *f, int (*send_fn)(void *user, enum wire_type type, const char *json), void *user)
{
    f->conf.send_fn = send_fn;
    f->conf.user = user;
    monitor_set_rank(f->conf.monitor, send_fn, user);
}

/* -- answers -- */

static struct openai_choice choice_of(const struct front_request *r, const struct front_choice *c)
{
    return (struct openai_choice){.index = (int)(c - r->choice),
        .text = buf_cstr(&c->text),
        .len = c->text.len,
        .logprobs = r->asked.logprobs ? &c->logprobs : NULL,
        .calls = r->asked.calls ? &c->calls : NULL,
        .from = c->calls_sent,
        .annotations = c->annotations,
        .finish = c->finish,
        .stop = c->stop};
}

/* text may be NULL; what logprobs there are go along. */
static int send_chunk(struct front_request *r, struct front_choice *c, const char *text, size_t len)
{
    struct openai_choice said = choice_of(r, c);
    buf_auto struct buf out;
    buf_init(&out, LIMIT_ANSWER_BYTES);
    if (!r->begun)
        web_stream_begin(r->x, 200, "text/event-stream");
    said.first = !c->begun;
    said.text = text;
    said.len = len;
    dialect_chunk(&out, r->asked.place, &r->a, &said);
    openai_logprobs_sent(&c->logprobs);
    c->calls_sent = c->calls.count;
    r->begun = c->begun = true;
    return buf_ok(&out) ? web_stream_data(r->x, out.data, out.len) : -ERR_MEMORY;
}

/* Its places here are free at once; the rank's when the rank says so. */
static void cancel(const struct front_request *r)
{
    for (int i = 0; i < r->handed; i++) {
        char json[48];
        if (r->choice[i].finish)
            continue;
        snprintf(json, sizeof json, "{\"id\":%llu}", (unsigned long long)r->a.id + (unsigned)i);
        r->front->conf.send_fn(r->front->conf.user, WIRE_CANCEL, json);
    }
}

/* What else of it the rank has is cancelled. */
static void end_with_error(struct front_request *r, const struct openai_refusal *why)
{
    cancel(r);
    if (r->begun) {
        buf_auto struct buf out;
        buf_init(&out, 8192);
        dialect_error_event(&out, r->asked.place, &r->a, why);
        web_stream_data(r->x, buf_cstr(&out), out.len);
        web_stream_end(r->x);
    } else {
        reply_error(r->x, why);
    }
    request_free(r);
}

static void write_whole(struct front_request *r, struct buf *out)
{
    struct openai_choice said[LIMIT_CHOICES];
    for (int i = 0; i < r->asked.choices; i++)
        said[i] = choice_of(r, &r->choice[i]);
    dialect_whole(out, r->asked.place, &r->a, said, r->asked.choices, r->usage);
}

/* The client does not take what it asked for, or the answer has no end. */
static void end_outgrown(struct front_request *r)
{
    struct openai_refusal why;
    openai_refuse(&why, 500, NULL, NULL, "the answer outgrew its bound");
    end_with_error(r, &why);
}

/* All its choices have ended. */
static void end_well(struct front_request *r)
{
    struct openai_choice first = choice_of(r, r->choice);
    bool streams = r->asked.stream;
    buf_auto struct buf out;
    buf_init(&out, LIMIT_ANSWER_BYTES);
    if (streams)
        dialect_last(&out, r->asked.place, &r->a, &first, r->usage);
    else
        write_whole(r, &out);
    if (!buf_ok(&out) || (streams && web_stream_data(r->x, out.data, out.len))) {
        end_outgrown(r);
        return;
    }
    if (streams)
        web_stream_end(r->x);
    else
        reply_json(r->x, 200, &out);
    request_free(r);
}

/* -- the rank's turn -- */

static struct openai_conf api_of(const struct front *f, int key, const struct roster_list *list)
{
    return (struct openai_conf){.model = f->conf.model,
        .context_length = f->context_length,
        .calls = f->calls,
        .does = f->does,
        .documents = f->stores.there,
        .watches = f->conf.monitor,
        .adapters = list ? list->adapters : NULL,
        .adapter_count = list ? list->count : 0,
        .adapter_paths = list && list->live,
        .keys = f->conf.keys,
        .key = key,
        .most_choices = f->conf.max_queue < LIMIT_CHOICES ? f->conf.max_queue : LIMIT_CHOICES};
}

/* Of its next choice; the prompt is computed once. */
static int64_t tokens_of(const struct front_request *r)
{
    const struct openai_request *a = &r->asked;
    int64_t prompt = (int64_t)r->cost.bytes / TOKEN_BYTES * a->answers / a->choices;
    return (r->handed % a->answers ? 0 : prompt) +
        share_usual(&r->front->share, r->cost.key, a->most_tokens);
}

/* The next choice of r, as frame has it. */
static int hand_over(
    struct front *f, struct front_request *r, const struct buf *frame, struct openai_refusal *why)
{
    if (f->conf.send_fn(f->conf.user, WIRE_REQUEST, frame->data))
        return openai_refuse(why, 503, NULL, NULL, "the model does not answer");
    share_hand(
        &f->share, r->a.id + (unsigned)r->handed, r->cost.key, r->asked.priority, tokens_of(r));
    r->handed++;
    count_queue(f);
    return 0;
}

/* Has it a choice whose turn may come? */
static bool may_go(const struct front_request *r)
{
    const struct front_choice *first = &r->choice[r->handed - r->handed % r->asked.answers];
    return r->handed < r->asked.choices &&
        (r->handed % r->asked.answers == 0 || first->spoken || first->finish);
}

/* Whose turn it is, if the rank has a place for it. */
static struct front_request *next_waiting(struct front *f)
{
    bool wants[LIMIT_API_KEYS] = {false};
    struct front_request *next = NULL;
    for (const struct front_request *r = f->head; r; r = r->next)
        wants[r->cost.key] |= may_go(r);
    share_round(&f->share, wants);
    for (struct front_request *r = f->head; r; r = r->next)
        if (may_go(r) && share_has_place(&f->share, r->cost.key, r->asked.priority) &&
            (!next ||
                !share_is_first(&f->share, next->cost.key, next->asked.priority, r->cost.key,
                    r->asked.priority)))
            next = r;
    return next;
}

/* As many as the rank has places for. */
static void hand_waiting(struct front *f)
{
    for (struct front_request *r; (r = next_waiting(f));) {
        struct openai_conf api = api_of(f, r->cost.key, r->roster);
        struct openai_refusal why;
        struct openai_request again;
        buf_auto struct buf frame;
        size_t len;
        const char *body = web_body(r->x, &len);
        buf_init(&frame, LIMIT_FRAME_BYTES);
        if (openai_read(&api, r->a.id + (unsigned)r->handed, r->asked.place, r->handed, body, len,
                &again, &frame, &why) ||
            hand_over(f, r, &frame, &why))
            end_with_error(r, &why);
    }
}

/* The rank has finished a request. */
static void next_turn(struct front *f, uint64_t finished, const struct json *v)
{
    const char *reason = json_str(v, "reason", "");
    share_end(&f->share, finished,
        json_int(v, "prompt_tokens", 0) - json_int(v, "cached_tokens", 0),
        json_int(v, "completion_tokens", 0), !strcmp(reason, "stop") || !strcmp(reason, "length"),
        clock_ms());
    hand_waiting(f);
}

/* -- what the rank says -- */

static struct front_request *find(struct front *f, uint64_t id, struct front_choice **c)
{
    for (struct front_request *r = f->head; r; r = r->next)
        if (id >= r->a.id && id - r->a.id < (unsigned)r->handed) {
            *c = &r->choice[id - r->a.id];
            return r;
        }
    return NULL;
}

/* Text of whole characters, and what calls have come. */
static int pass_text(struct front_request *r, struct front_choice *c, const char *text, size_t n)
{
    bool more = n || c->calls.count > c->calls_sent, kept = dialect_keeps_text(r->asked.place);
    if ((!r->asked.stream || kept) && buf_add(&c->text, text, n))
        return -ERR_MEMORY;
    return r->asked.stream && more ? send_chunk(r, c, n ? text : NULL, n) : 0;
}

/* A character cut short at the end waits for its rest, and what may be a call for its end. */
static int pass_on(struct front_request *r, struct front_choice *c, bool all)
{
    size_t n = all ? c->pending.len : utf8_whole(buf_cstr(&c->pending), c->pending.len);
    struct calls *calls = r->asked.calls ? &c->calls : NULL;
    int rc = calls ? calls_add(calls, buf_cstr(&c->pending), n) : 0;
    if (calls && all)
        rc = calls_end(calls) ? -ERR_MEMORY : rc;
    const struct buf *said = calls ? &calls->text : &c->pending;
    rc = rc ? rc : pass_text(r, c, buf_cstr(said), calls ? said->len : n);
    if (calls)
        buf_reset(&calls->text);
    buf_drop(&c->pending, n);
    return rc;
}

static size_t bytes_held(const struct front_request *r)
{
    size_t sum = 0;
    for (int i = 0; i < r->asked.choices; i++)
        sum += r->choice[i].text.len + openai_logprobs_bytes(&r->choice[i].logprobs) +
            r->choice[i].calls.held.len + r->choice[i].calls.bytes;
    return sum;
}

static void on_token(struct front *f, const struct wire_frame *frame)
{
    struct front_choice *c;
    struct wire_token head;
    if (!wire_take_token(frame, &head))
        return;
    struct front_request *r = find(f, head.request, &c);
    int64_t now = clock_ms();
    if (head.count)
        meter_token(r && c->spoken ? now - c->told_ms : -1);
    if (!r)
        return; /* cancelled meanwhile */
    c->told_ms = now;
    r->a.begun = (struct openai_usage){.prompt = head.prompt, .cached = head.cached};
    if (!c->spoken && !(r->asked.place & (OPENAI_RENDERED | OPENAI_ITEMS)))
        meter_first_token(now - r->started_ms);
    bool first = !c->spoken && r->handed < r->asked.choices;
    c->spoken = true;
    if (buf_add(&c->pending, frame->data + WIRE_TOKEN_BYTES, frame->len - WIRE_TOKEN_BYTES) ||
        pass_on(r, c, false) || bytes_held(r) > HELD_BYTES)
        end_outgrown(r);
    else if (first)
        hand_waiting(f);
}

static void on_logprobs(struct front *f, const struct wire_frame *frame)
{
    struct front_choice *c;
    struct wire_token head;
    struct front_request *r = wire_take_token(frame, &head) ? find(f, head.request, &c) : NULL;
    if (r && (openai_logprobs_add(&c->logprobs, r->a.chat, frame) || bytes_held(r) > HELD_BYTES))
        end_outgrown(r);
}

/* All answers to a prompt count it once. */
static void add_usage(struct front_request *r, const struct front_choice *c, const struct json *v)
{
    bool first = (c - r->choice) % r->asked.answers == 0;
    r->usage.prompt += first ? json_int(v, "prompt_tokens", 0) : 0;
    r->usage.cached += first ? json_int(v, "cached_tokens", 0) : 0;
    r->a.begun = r->usage;
    if (!(r->asked.place & OPENAI_RENDERED))
        meter_ended(c->finish, clock_ms() - r->started_ms, first, v);
    r->usage.completion += json_int(v, "completion_tokens", 0);
}

static void end_choice(struct front_request *r, struct front_choice *c, const struct json *v)
{
    bool length = !strcmp(json_str(v, "reason", ""), "length");
    const char *annotations = json_str(v, "annotations", "");
    if (pass_on(r, c, true) || (*annotations && !(c->annotations = mem_strdup(annotations)))) {
        c->finish = "error";
        end_outgrown(r);
        return;
    }
    snprintf(c->stop, sizeof c->stop, "%s", json_str(v, "stop", ""));
    c->finish = length ? "length" : c->calls.count ? "tool_calls" : "stop";
    add_usage(r, c, v);
    if (r->asked.stream)
        send_chunk(r, c, NULL, 0);
    if (++r->finished == r->asked.choices)
        end_well(r);
}

static void on_finished(struct front *f, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct front_choice *c;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e)) {
        log_warn("a finished frame is no JSON", LOG_ERR(&e));
        return;
    }
    uint64_t id = (uint64_t)json_int(v, "id", 0);
    if (json_num(v, "searched", 0) > 0)
        meter_searched(json_num(v, "searched", 0));
    meter_read(v);
    struct front_request *r = find(f, id, &c);
    if (r && !strcmp(json_str(v, "reason", "error"), "error")) {
        struct openai_refusal why; /* before the first token the request is at fault, if no other */
        const char *param = json_str(v, "param", "");
        int status = (int)json_int(v, "status", 0);
        bool begun = json_int(v, "completion_tokens", 0);
        c->finish = "error";
        openai_refuse(&why,
            status      ? status
                : begun ? 500
                        : 400,
            NULL, *param ? param : NULL, "%s", json_str(v, "message", "failed"));
        end_with_error(r, &why);
    } else if (r) {
        end_choice(r, c, v);
    }
    next_turn(f, id, v);
}

void front_frame(struct front *f, const struct wire_frame *frame)
{
    if (monitor_frame(f->conf.monitor, frame))
        return;
    if (frame->type == WIRE_TOKEN)
        on_token(f, frame);
    else if (frame->type == WIRE_LOGPROBS)
        on_logprobs(f, frame);
    else if (frame->type == WIRE_FINISHED)
        on_finished(f, frame);
    else if (frame->type == WIRE_ADAPTERS)
        roster_hear(f->conf.roster, frame);
    else if (frame->type == WIRE_INDEXED)
        stores_hear(&f->stores, frame);
}

/* -- what clients ask -- */

static void on_gone(void *user)
{
    struct front_request *r = user;
    cancel(r);
    request_free(r);
}

static int key_of(const struct front *f, struct web_exchange *x)
{
    if (forward_visits(f->conf.forward, x))
        return forward_key(f->conf.forward, x);
    return keys_find(f->conf.keys, web_header(x, "authorization"), web_header(x, "x-api-key"));
}

static int authorize(const struct front *f, struct web_exchange *x, struct openai_refusal *r)
{
    bool known = key_of(f, x) >= 0 && forward_welcome(f->conf.forward, x);
    return known ? 0 : openai_refuse(r, 401, "invalid_api_key", NULL, "Incorrect API key provided");
}

/* The last in order of those of a key of which the rank has nothing; NULL: there is none. */
static struct front_request *last_waiting(struct front *f, int key)
{
    struct front_request *last = NULL;
    for (struct front_request *r = f->head; r; r = r->next)
        if (r->cost.key == key && !r->handed &&
            (!last || r->asked.priority >= last->asked.priority))
            last = r;
    return last;
}

static int refuse_full(const struct front *f, struct openai_refusal *r)
{
    openai_refuse(r, 429, "queue_full", NULL, "too many requests are in flight");
    r->retry_seconds = share_retry_seconds(&f->share, clock_ms());
    return -1;
}

/* enters: those that have a place which is c's leave it; else that is only asked. */
static int admit(struct front *f, const struct share_cost *c, bool enters, struct openai_refusal *r)
{
    if ((f->draining && !f->leaving) || !f->ready)
        return openai_refuse(
            r, 503, NULL, NULL, f->draining ? "the server is draining" : "the model is loading");
    while (!share_admits(&f->share, c)) {
        struct openai_refusal why;
        struct front_request *last = last_waiting(f, share_beyond(&f->share, c));
        if (!last)
            return refuse_full(f, r);
        if (!enters)
            return 0;
        refuse_full(f, &why);
        end_with_error(last, &why);
    }
    return 0;
}

static struct front_request *request_create(struct front *f, struct web_exchange *x,
    const struct share_cost *cost, const struct openai_request *asked)
{
    struct front_request *r = mem_zalloc(sizeof *r), **at = &f->head;
    struct front_choice *choice = mem_array((size_t)asked->choices, sizeof *choice);
    if (!r || !choice) {
        mem_free(r);
        mem_free(choice);
        return NULL;
    }
    *r = (struct front_request){.front = f,
        .x = x,
        .a = {.id = f->next_id,
            .chat = asked->place != OPENAI_TEXT,
            .include_usage = asked->include_usage,
            .created = clock_wall_ms() / 1000,
            .model = asked->model,
            .members = f->members,
            .asked = web_body(x, &(size_t){0})},
        .asked = *asked,
        .cost = *cost,
        .roster = roster_hold(f->conf.roster),
        .started_ms = clock_ms(),
        .choice = choice};
    size_t most = asked->place & OPENAI_ITEMS ? LIMIT_ITEMS_BYTES : ANSWER_BYTES;
    for (int i = 0; i < asked->choices; i++) {
        buf_init(&choice[i].text, most);
        buf_init(&choice[i].pending, most);
        openai_logprobs_init(&choice[i].logprobs);
        calls_init(&choice[i].calls, f->calls, asked->calls);
    }
    while (*at)
        at = &(*at)->next;
    *at = r;
    f->next_id += (unsigned)asked->choices;
    share_enter(&f->share, cost, r->started_ms);
    count_queue(f);
    return r;
}

/* What the model answers, here, or of another replica; back: it was to be another's. */
static void on_asked(struct front *f, struct web_exchange *x, enum openai_place place, bool back)
{
    enum meter_route route = METER_FALLBACK;
    struct share_cost cost = {.key = key_of(f, x), .answers = 1};
    struct openai_conf api = api_of(f, cost.key, roster_now(f->conf.roster));
    struct openai_request asked;
    struct openai_refusal why;
    struct front_request *r = NULL;
    buf_auto struct buf frame;
    const char *body = web_body(x, &cost.bytes);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    if (!admit(f, &cost, false, &why) &&
        !openai_read(&api, f->next_id, place, 0, body, cost.bytes, &asked, &frame, &why)) {
        if (!back)
            route = forward_take(f->conf.forward, x, &asked, cost.key, f->share.answers);
        if (route == METER_FORWARDED)
            return;
        cost.answers = asked.choices;
        cost.tokens = (int64_t)cost.bytes / TOKEN_BYTES +
            asked.choices * share_usual(&f->share, cost.key, asked.most_tokens);
        if (!admit(f, &cost, true, &why) && !(r = request_create(f, x, &cost, &asked)))
            openai_refuse(&why, 503, NULL, NULL, "out of memory");
    }
    if (!r) {
        reply_error(x, &why);
        return;
    }
    if (next_waiting(f) == r && hand_over(f, r, &frame, &why)) {
        end_with_error(r, &why);
        return;
    }
    meter_accepted();
    meter_routed(route);
    count_queue(f);
    web_set_user(x, r, on_gone);
    hand_waiting(f);
}

static void serve_here(void *user, struct web_exchange *x)
{
    on_asked(user, x, openai_place_of(web_path(x)), true);
}

/* Before the body is read. A browser asks without the key whether it may send it (OPTIONS). */
static bool on_head(void *user, struct web_exchange *x)
{
    const struct front *f = user;
    const char *length = web_header(x, "content-length");
    struct openai_refusal why;
    if (page_answer(x))
        return false;
    web_add_header(x, "Access-Control-Allow-Origin: *");
    if (!strcmp(web_path(x), "/health") || !strcmp(web_method(x), "OPTIONS"))
        return true;
    int rc = authorize(f, x, &why);
    if (!rc && length && strtoull(length, NULL, 10) > LIMIT_REQUEST_BYTES)
        rc = openai_refuse(&why, 413, NULL, NULL, "the request body is too large");
    if (rc)
        reply_error(x, &why);
    return !rc;
}

static void on_request(void *user, struct web_exchange *x)
{
    struct front *f = user;
    const char *path = web_path(x), *method = web_method(x);
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD"), post = !strcmp(method, "POST");
    enum openai_place place = openai_place_of(path);
    bool read = !place && readings_has(path);
    struct openai_refusal why;
    if (f->leaving)
        web_last(x);
    if (!forward_enters(f->conf.forward, x)) {
        openai_refuse(&why, 401, NULL, NULL, "no proof of being a replica of this job");
        reply_error(x, &why);
    } else if (!strcmp(method, "OPTIONS")) {
        reply_preflight(x);
    } else if (place == OPENAI_LINE) {
        const struct openai_conf api = api_of(f, 0, roster_now(f->conf.roster));
        if (openai_check_does(&api, place, &why))
            reply_error(x, &why);
        else
            monitor_request(f->conf.monitor, x);
    } else if (read && get) {
        const struct readings r = {
            api_of(f, 0, roster_now(f->conf.roster)), &f->stores, front_serving(f)};
        if (!readings_answer(&r, x, &why))
            reply_error(x, &why);
    } else if (place && post && !forward_admits(f->conf.forward, x, f->share.answers)) {
        web_answer(x, 421, "text/plain", "", 0, NULL);
    } else if (place && post) {
        on_asked(f, x, place, false);
    } else {
        reply_no_method(x, place ? "POST, OPTIONS" : read ? "GET, HEAD, OPTIONS" : NULL);
    }
}

/* -- the rank's life -- */

int front_ready(struct front *f, int64_t context_length, enum wire_calls calls, struct err *e)
{
    if (!f->listening) {
        struct web_door door = {.host = f->conf.listen_host,
            .port = f->conf.listen_port,
            .request_fn = on_request,
            .admit_fn = on_head,
            .user = f,
            .plain = true,
            .slots = API_SLOTS,
            .body_limit = LIMIT_REQUEST_BYTES,
            .memory = API_BYTES};
        int rc = web_open(f->conf.web, &door, &f->port, e);
        if (rc)
            return rc;
        f->listening = true;
        log_info("serving", LOG_S("model", f->conf.model), LOG_I("port", f->port));
    }
    f->context_length = context_length;
    f->calls = calls;
    f->ready = true;
    f->draining = false;
    monitor_ready(f->conf.monitor);
    roster_open(f->conf.roster, f->conf.send_fn, f->conf.user);
    return 0;
}

void front_lost(struct front *f)
{
    f->ready = false;
    roster_lost(f->conf.roster);
    monitor_lost(f->conf.monitor);
    share_lost(&f->share);
    while (f->head) {
        struct openai_refusal why;
        f->head->handed = 0; /* nobody is left to be told */
        openai_refuse(&why, 503, NULL, NULL, "the model was stopped");
        end_with_error(f->head, &why);
    }
    if (f->draining || f->leaving)
        forward_end(f->conf.forward);
}

void front_does(struct front *f, enum wire_does does, struct openai_members members)
{
    f->does = does;
    f->members = members;
    meter_members(members.there, members.of);
}

void front_leave(struct front *f)
{
    f->leaving = true;
    for (struct front_request *r = f->head; r; r = r->next)
        if (!r->begun) /* the others' clients were told that they may ask again, and may */
            web_last(r->x);
    forward_leave(f->conf.forward);
}

void front_drain(struct front *f)
{
    f->draining = true;
    monitor_drain(f->conf.monitor);
}

bool front_serving(const struct front *f)
{
    return f->ready && !f->draining && !f->leaving;
}

void front_measure(const struct front *f)
{
    const struct front_request *r = f->head;
    while (r && r->handed == r->asked.choices)
        r = r->next;
    meter_oldest(r ? clock_ms() - r->started_ms : 0);
}

int front_in_flight(const struct front *f)
{
    return f->share.answers + monitor_at_rank(f->conf.monitor);
}

bool front_done(const struct front *f)
{
    return !f->share.answers && !monitor_streams(f->conf.monitor) &&
        !forward_in_flight(f->conf.forward) &&
        (!f->leaving || clock_ms() - f->ended_ms >= QUIET_MS);
}

uint16_t front_port(const struct front *f)
{
    return f->port;
}
