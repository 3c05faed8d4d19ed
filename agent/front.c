/*
 * front: one struct front_request per exchange in flight, in the order they came, found by
 * id (what the rank says) or by the exchange (what the client does). The rank has some of them; the
 * others wait as the text their client sent, which stays in its exchange, and are translated a
 * second time at their turn. Text from the rank waits in `pending` until it ends at a
 * character's boundary.
 */
#include "agent/front.h"

#include "agent/openai.h"
#include "base/clock.h"
#include "base/json.h"
#include "api/limits.h"
#include "api/names.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/secret.h"
#include "base/utf8.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_HEADER 16
#define ANSWER_BYTES (1 << 20)
#define MODELS_PATH  "/v1/models"
#define API_SLOTS    (LIMIT_QUEUE_REQUESTS + 256) /* all that wait, and as many that ask */
#define API_BYTES    (64 << 20) /* their bodies and what they have not read of their answers */

static struct metric requests_total = {.name = NAME_METRIC_REQUESTS,
    .help = "Requests to the OpenAI API that were accepted",
    .kind = METRIC_COUNTER};
static struct metric refused_total = {.name = NAME_METRIC_REFUSED,
    .help = "Requests answered with an error status",
    .kind = METRIC_COUNTER};
static struct metric tokens_total = {
    .name = NAME_METRIC_TOKENS, .help = "Tokens generated", .kind = METRIC_COUNTER};
static struct metric first_token = {.name = NAME_METRIC_FIRST_TOKEN,
    .help = "From request to first token",
    .kind = METRIC_HISTOGRAM};
static struct metric in_flight = {
    .name = NAME_METRIC_IN_FLIGHT, .help = "Requests waiting or generating", .kind = METRIC_GAUGE};

static struct metric waiting = {.name = NAME_METRIC_WAITING,
    .help = "Requests that the rank has not been handed yet",
    .kind = METRIC_GAUGE};

struct front_request {
    struct front *front;
    struct front_request *next;
    struct web_exchange *x;
    struct openai_answer a;
    bool stream, begun;
    bool handed; /* to the rank */
    int64_t started_ms;
    size_t body_len;
    struct buf text;    /* whole answers */
    struct buf pending; /* the beginning of a character */
};

struct front {
    struct front_conf conf;
    struct front_request *head; /* the oldest */
    uint64_t next_id;
    uint64_t at_rank[FRONT_AT_RANK]; /* ids that the rank has not finished; a client may be gone */
    int at_rank_count;               /* while it is below max_at_rank, nobody waits */
    bool listening, ready, draining;
    uint16_t port;
    int64_t context_length;
    int count;
    size_t bytes; /* of the bodies of all in flight */
};

int front_create(const struct front_conf *conf, struct front **out, struct err *e)
{
    struct front *f = mem_zalloc(sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "out of memory");
    f->conf = *conf;
    if (f->conf.max_queue <= 0 || f->conf.max_queue > LIMIT_QUEUE_REQUESTS)
        f->conf.max_queue = LIMIT_QUEUE_REQUESTS;
    assert(f->conf.max_at_rank >= 1 && f->conf.max_at_rank <= FRONT_AT_RANK);
    f->next_id = 1;
    struct metric *all[] = {
        &requests_total, &refused_total, &tokens_total, &first_token, &in_flight, &waiting};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        metric_register(all[i]);
    *out = f;
    return 0;
}

static void count_waiting(const struct front *f)
{
    int n = 0;
    for (const struct front_request *r = f->head; r; r = r->next)
        n += !r->handed;
    metric_set(&waiting, n);
}

static void request_free(struct front_request *r)
{
    struct front *f = r->front;
    for (struct front_request **at = &f->head; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    f->count--;
    f->bytes -= r->body_len;
    metric_set(&in_flight, f->count);
    count_waiting(f);
    buf_done(&r->text);
    buf_done(&r->pending);
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
}

/* -- answers -- */

static void answer_json(struct web_exchange *x, int status, const struct buf *body)
{
    web_answer(x, buf_ok(body) ? status : 503, "application/json", buf_cstr(body), body->len, NULL);
}

static void answer_error(struct web_exchange *x, const struct openai_refusal *r)
{
    buf_auto struct buf body;
    buf_init(&body, 8192);
    openai_error(&body, r);
    if (r->status == 429 || r->status == 503)
        web_add_header(x, "Retry-After: 1");
    metric_add(&refused_total, 1);
    answer_json(x, r->status, &body);
}

/* text may be NULL; finish NULL while it goes on. */
static int send_chunk(struct front_request *r, const char *text, size_t len, const char *finish)
{
    buf_auto struct buf out;
    buf_init(&out, 2 * ANSWER_BYTES);
    if (!r->begun)
        web_stream_begin(r->x, 200, "text/event-stream");
    openai_chunk(&out, &r->a, !r->begun, text, len, finish);
    r->begun = true;
    return buf_ok(&out) ? web_stream_data(r->x, out.data, out.len) : -ERR_MEMORY;
}

static void end_with_error(struct front_request *r, const struct openai_refusal *why)
{
    if (r->begun) {
        buf_auto struct buf out;
        buf_init(&out, 8192);
        openai_error_event(&out, why);
        web_stream_data(r->x, buf_cstr(&out), out.len);
        web_stream_end(r->x);
    } else {
        answer_error(r->x, why);
    }
    request_free(r);
}

static void end_well(struct front_request *r, const char *finish, struct openai_usage u)
{
    buf_auto struct buf out;
    buf_init(&out, 2 * ANSWER_BYTES);
    if (r->stream) {
        send_chunk(r, NULL, 0, finish);
        openai_last(&out, &r->a, u);
        web_stream_data(r->x, buf_cstr(&out), out.len);
        web_stream_end(r->x);
    } else {
        openai_whole(&out, &r->a, buf_cstr(&r->text), r->text.len, finish, u);
        answer_json(r->x, 200, &out);
    }
    request_free(r);
}

/* -- the rank's turn -- */

static struct openai_conf api_of(const struct front *f)
{
    return (struct openai_conf){f->conf.model, f->context_length};
}

static int translate(
    const struct front *f, struct front_request *r, struct buf *frame, struct openai_refusal *why)
{
    struct openai_conf api = api_of(f);
    struct openai_request q;
    size_t len;
    const char *body = web_body(r->x, &len);
    if (openai_read(&api, r->a.id, r->a.chat, body, len, &q, frame, why))
        return -1;
    r->stream = q.stream;
    r->a.include_usage = q.include_usage;
    return 0;
}

static bool rank_is_free(const struct front *f)
{
    return f->at_rank_count < f->conf.max_at_rank;
}

static int hand_over(
    struct front *f, struct front_request *r, const struct buf *frame, struct openai_refusal *why)
{
    if (f->conf.send_fn(f->conf.user, WIRE_REQUEST, frame->data))
        return openai_refuse(why, 503, NULL, NULL, "the model does not answer");
    f->at_rank[f->at_rank_count++] = r->a.id;
    r->handed = true;
    count_waiting(f);
    return 0;
}

static struct front_request *oldest_waiting(struct front *f)
{
    struct front_request *r = f->head;
    while (r && r->handed)
        r = r->next;
    return r;
}

/* The rank has finished a request: the oldest that waits is its next. */
static void next_turn(struct front *f, uint64_t finished)
{
    for (int i = 0; i < f->at_rank_count; i++)
        if (f->at_rank[i] == finished) {
            f->at_rank[i] = f->at_rank[--f->at_rank_count];
            break;
        }
    for (struct front_request *r; rank_is_free(f) && (r = oldest_waiting(f));) {
        struct openai_refusal why;
        buf_auto struct buf frame;
        buf_init(&frame, LIMIT_FRAME_BYTES);
        if (translate(f, r, &frame, &why) || hand_over(f, r, &frame, &why))
            end_with_error(r, &why);
    }
}

/* Its place here is free at once; the rank's when the rank says so. */
static void cancel(struct front_request *r)
{
    char json[48];
    if (!r->handed)
        return;
    snprintf(json, sizeof json, "{\"id\":%llu}", (unsigned long long)r->a.id);
    r->front->conf.send_fn(r->front->conf.user, WIRE_CANCEL, json);
}

/* -- what the rank says -- */

static struct front_request *find(struct front *f, uint64_t id)
{
    for (struct front_request *r = f->head; r; r = r->next)
        if (r->a.id == id)
            return r;
    return NULL;
}

/* A character cut short at the end waits for its rest. */
static int pass_on(struct front_request *r, bool all)
{
    size_t n = all ? r->pending.len : utf8_whole(buf_cstr(&r->pending), r->pending.len);
    if (n == 0)
        return 0;
    int rc =
        r->stream ? send_chunk(r, r->pending.data, n, NULL) : buf_add(&r->text, r->pending.data, n);
    buf_drop(&r->pending, n);
    return rc;
}

static void on_token(struct front *f, const struct wire_frame *frame)
{
    if (frame->len < TOKEN_HEADER)
        return;
    uint64_t id;
    memcpy(&id, frame->data, sizeof id);
    struct front_request *r = find(f, le64toh(id));
    metric_add(&tokens_total, 1);
    if (!r)
        return; /* cancelled meanwhile */
    if (!r->begun && !r->text.len && !r->pending.len)
        metric_observe(&first_token, (double)(clock_ms() - r->started_ms) / 1000);
    if (buf_add(&r->pending, frame->data + TOKEN_HEADER, frame->len - TOKEN_HEADER) ||
        pass_on(r, false)) {
        /* The client does not take what it asked for, or the answer has no end. */
        struct openai_refusal why;
        cancel(r);
        openai_refuse(&why, 500, NULL, NULL, "the answer outgrew its bound");
        end_with_error(r, &why);
    }
}

static void on_finished(struct front *f, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e)) {
        log_warn("a finished frame is no JSON", LOG_ERR(&e));
        return;
    }
    uint64_t id = (uint64_t)json_int(v, "id", 0);
    struct front_request *r = find(f, id);
    const char *reason = json_str(v, "reason", "error");
    struct openai_usage u = {json_int(v, "prompt_tokens", 0), json_int(v, "completion_tokens", 0),
        json_int(v, "cached_tokens", 0)};
    if (r && !strcmp(reason, "error")) {
        struct openai_refusal why; /* before the first token the request is at fault */
        openai_refuse(
            &why, u.completion ? 500 : 400, NULL, NULL, "%s", json_str(v, "message", "failed"));
        end_with_error(r, &why);
    } else if (r) {
        pass_on(r, true);
        end_well(r, strcmp(reason, "length") ? "stop" : "length", u);
    }
    next_turn(f, id);
}

void front_frame(struct front *f, const struct wire_frame *frame)
{
    if (frame->type == WIRE_TOKEN)
        on_token(f, frame);
    else if (frame->type == WIRE_FINISHED)
        on_finished(f, frame);
}

/* -- what clients ask -- */

static void on_gone(void *user)
{
    struct front_request *r = user;
    cancel(r);
    request_free(r);
}

static int authorize(const struct front *f, const struct web_exchange *x, struct openai_refusal *r)
{
    if (!f->conf.api_key)
        return 0;
    return secret_bearer(web_header(x, "authorization"), f->conf.api_key)
        ? 0
        : openai_refuse(r, 401, "invalid_api_key", NULL, "Incorrect API key provided");
}

static int admit(const struct front *f, size_t body_len, struct openai_refusal *r)
{
    if (f->draining || !f->ready)
        return openai_refuse(
            r, 503, NULL, NULL, f->draining ? "the server is draining" : "the model is loading");
    if (f->count >= f->conf.max_queue || f->bytes + body_len > LIMIT_QUEUE_BYTES)
        return openai_refuse(r, 429, "queue_full", NULL, "too many requests are in flight");
    return 0;
}

static struct front_request *request_create(
    struct front *f, struct web_exchange *x, bool chat, size_t body_len)
{
    struct front_request *r = mem_zalloc(sizeof *r), **at = &f->head;
    if (!r)
        return NULL;
    *r = (struct front_request){.front = f,
        .x = x,
        .a = {.id = f->next_id++,
            .chat = chat,
            .created = clock_wall_ms() / 1000,
            .model = f->conf.model},
        .started_ms = clock_ms(),
        .body_len = body_len};
    buf_init(&r->text, ANSWER_BYTES);
    buf_init(&r->pending, ANSWER_BYTES);
    while (*at)
        at = &(*at)->next;
    *at = r;
    f->bytes += body_len;
    metric_set(&in_flight, ++f->count);
    return r;
}

static void on_completion(struct front *f, struct web_exchange *x, bool chat)
{
    struct openai_refusal why;
    struct front_request *r = NULL;
    buf_auto struct buf frame;
    size_t len;
    web_body(x, &len);
    buf_init(&frame, LIMIT_FRAME_BYTES);
    if (admit(f, len, &why) == 0 && !(r = request_create(f, x, chat, len)))
        openai_refuse(&why, 503, NULL, NULL, "out of memory");
    if (!r) {
        answer_error(x, &why);
        return;
    }
    if (translate(f, r, &frame, &why) || (rank_is_free(f) && hand_over(f, r, &frame, &why))) {
        end_with_error(r, &why);
        return;
    }
    metric_add(&requests_total, 1);
    count_waiting(f);
    web_set_user(x, r, on_gone);
}

/* path: what follows /v1/models. */
static void on_models(const struct front *f, struct web_exchange *x, const char *path)
{
    buf_auto struct buf out;
    buf_init(&out, 8192);
    struct openai_conf api = api_of(f);
    struct openai_refusal why;
    if (*path && strcmp(path + 1, f->conf.model)) {
        openai_refuse(
            &why, 404, "model_not_found", "model", "The model `%.100s` does not exist", path + 1);
        answer_error(x, &why);
        return;
    }
    if (*path)
        openai_model(&out, &api);
    else
        openai_models(&out, &api);
    answer_json(x, 200, &out);
}

static void on_health(const struct front *f, struct web_exchange *x)
{
    const char *text = front_serving(f) ? "{\"status\":\"ok\"}" : "{\"status\":\"unavailable\"}";
    web_answer(x, front_serving(f) ? 200 : 503, "application/json", text, strlen(text), NULL);
}

/* Pages of any origin may ask: what proves who asks is a key in a header, which a browser adds for
 * nobody, and never a cookie. `*` does not stand for Authorization. */
static void on_preflight(struct web_exchange *x)
{
    static const char *const headers[] = {"Access-Control-Allow-Methods: GET, POST, OPTIONS",
        "Access-Control-Allow-Headers: Authorization, Content-Type, *",
        "Access-Control-Max-Age: 86400", NULL};
    web_answer(x, 204, "text/plain", "", 0, headers);
}

static const char *after(const char *path, const char *start)
{
    size_t n = strlen(start);
    return !strncmp(path, start, n) && (!path[n] || path[n] == '/') ? path + n : NULL;
}

/* Before the body is read. A browser asks without the key whether it may send it (OPTIONS). */
static bool on_head(void *user, struct web_exchange *x)
{
    const struct front *f = user;
    const char *length = web_header(x, "content-length");
    struct openai_refusal why;
    web_add_header(x, "Access-Control-Allow-Origin: *");
    if (!strcmp(web_path(x), "/health") || !strcmp(web_method(x), "OPTIONS"))
        return true;
    int rc = authorize(f, x, &why);
    if (!rc && length && strtoull(length, NULL, 10) > LIMIT_REQUEST_BYTES)
        rc = openai_refuse(&why, 413, NULL, NULL, "the request body is too large");
    if (rc)
        answer_error(x, &why);
    return !rc;
}

static void on_request(void *user, struct web_exchange *x)
{
    struct front *f = user;
    const char *path = web_path(x), *method = web_method(x), *model = after(path, MODELS_PATH);
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD"), post = !strcmp(method, "POST");
    bool chat = !strcmp(path, "/v1/chat/completions"), text = !strcmp(path, "/v1/completions"),
         health = !strcmp(path, "/health");
    struct openai_refusal why;
    if (!strcmp(method, "OPTIONS"))
        on_preflight(x);
    else if (health && get)
        on_health(f, x);
    else if (model && get)
        on_models(f, x, model);
    else if ((chat || text) && post)
        on_completion(f, x, chat);
    else {
        if (chat || text || model || health)
            web_add_header(x, chat || text ? "Allow: POST, OPTIONS" : "Allow: GET, HEAD, OPTIONS");
        openai_refuse(&why, chat || text || model || health ? 405 : 404, NULL, NULL,
            "there is nothing at this path for this method");
        answer_error(x, &why);
    }
}

/* -- the rank's life -- */

int front_ready(struct front *f, int64_t context_length, struct err *e)
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
    f->ready = true;
    f->draining = false;
    return 0;
}

void front_lost(struct front *f)
{
    f->ready = false;
    f->at_rank_count = 0;
    while (f->head) {
        struct openai_refusal why;
        openai_refuse(&why, 503, NULL, NULL, "the model was stopped");
        end_with_error(f->head, &why);
    }
}

void front_drain(struct front *f)
{
    f->draining = true;
}

bool front_serving(const struct front *f)
{
    return f->ready && !f->draining;
}

int front_in_flight(const struct front *f)
{
    return f->count;
}

uint16_t front_port(const struct front *f)
{
    return f->port;
}
