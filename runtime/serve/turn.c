/*
 * turn: see turn.h. Text waits in `pending` until it is certain that no stop string begins in it.
 */
#include "runtime/serve/turn.h"

#include "base/fair.h"
#include "base/io.h"
#include "base/utf8.h"
#include "api/wire.h"
#include "runtime/convert/adapters.h"
#include "runtime/door/beat.h"
#include "runtime/serve/logprob.h"
#include "runtime/serve/loras.h"
#include "runtime/text/guard.h"

#include <math.h>
#include <stdlib.h>

#define SERVICE_UNAVAILABLE 503 /* of HTTP: no place for an adapter */

void turn_init(struct turn *t, struct inbox_request *q)
{
    *t = (struct turn){.q = q};
    buf_init(&t->pending, LIMIT_REQUEST_BYTES);
}

void turn_conf_done(struct turn_conf *s)
{
    vocab_destroy(s->texts);
    buf_done(&s->text);
    buf_done(&s->frame);
}

void turn_done(struct turn *t)
{
    constrain_close(t->constrain);
    cite_close(t->cite);
    buf_done(&t->pending);
    tok_ids_done(&t->prompt);
    json_destroy(t->body);
}

/* -- text out -- */

static struct wire_token token_of(const struct turn *t)
{
    return (struct wire_token){.request = t->q->id,
        .count = (uint32_t)t->produced,
        .prompt = (uint32_t)t->prompt.count,
        .cached = (uint32_t)t->cached};
}

static int send_text(struct turn_conf *s, struct turn *t, size_t n, struct err *e)
{
    const struct wire_token head = token_of(t);

    if (!n)
        return 0;
    buf_reset(&s->frame);
    wire_put_token(&s->frame, &head);
    if (buf_add(&s->frame, t->pending.data, n))
        return err_set(e, ERR_MEMORY, "no memory for a token");
    if (t->cite)
        cite_hear(t->cite, t->pending.data, n);
    buf_drop(&t->pending, n);
    return door_send(s->door, WIRE_TOKEN, s->frame.data, s->frame.len, e);
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

/* The earliest stop string in the pending text, or NULL; which it is: t->found. */
static const char *find_stop(struct turn *t)
{
    const char *first = NULL;

    for (int i = 0; i < t->stops && t->pending.len; i++) {
        const char *at = memmem(t->pending.data, t->pending.len, t->stop[i], strlen(t->stop[i]));

        if (!at || (first && at >= first))
            continue;
        first = at;
        t->found = t->stop[i];
    }
    return first;
}

/* May its answer be any text? */
static bool is_free(const struct turn *t)
{
    return !constrain_asked(t->body) && !json_get(t->body, "tools");
}

/* Of answers that must cite: may the first n bytes go out? What cites nothing is another text. */
static int check_cited(struct turn_conf *s, struct turn *t, size_t *n, struct err *e)
{
    if (cite_quotes(t->cite, buf_cstr(&t->pending), *n))
        return 0;
    const char *instead = s->serve->retrieval.not_found;
    buf_reset(&t->pending);
    *n = strlen(instead);
    return buf_str(&t->pending, instead) ? err_set(e, ERR_MEMORY, "no memory for an answer") : 0;
}

/* Sends what may go out. last: all of it. Sets t->reason at a stop string. */
static int flush_text(struct turn_conf *s, struct turn *t, bool last, struct err *e)
{
    const char *stop = t->produced < t->shape.min_tokens ? NULL : find_stop(t);
    bool whole = t->cite && s->serve->retrieval.answers == ANSWERS_CITED && is_free(t);
    size_t n = stop ? (size_t)(stop - t->pending.data) : t->pending.len;

    if (stop)
        t->reason = "stop";
    if (whole && (stop || last)) {
        int rc = check_cited(s, t, &n, e);
        return rc ? rc : send_text(s, t, n, e);
    }
    if (stop)
        return send_text(s, t, n, e);
    if (whole)
        return 0;
    if (!last && n) {
        n -= held_back(t, t->pending.data, n);
        n = utf8_whole(t->pending.data, n);
    }
    return send_text(s, t, n, e);
}

/* -- logprobs out -- */

/* Of a token, and the n - 1 likeliest. */
static int send_logprobs(
    struct turn_conf *s, const struct turn *t, const struct logprob *x, int n, struct err *e)
{
    struct wire_token head = token_of(t);

    buf_reset(&s->text);
    tok_decode(s->tok, x->token, !t->shows_special, &s->text);
    head.hidden = !s->text.len;
    buf_reset(&s->frame);
    wire_put_token(&s->frame, &head);
    for (int i = 0; i < n; i++) {
        buf_reset(&s->text);
        if (tok_decode(s->tok, x[i].token, false, &s->text) ||
            wire_put_logprob(&s->frame,
                &(struct wire_logprob){
                    x[i].token, x[i].logprob, buf_cstr(&s->text), (uint32_t)s->text.len}))
            return err_set(e, ERR_MEMORY, "no memory for logprobs");
    }
    return door_send(s->door, WIRE_LOGPROBS, s->frame.data, s->frame.len, e);
}

static int tell_logprobs(
    struct turn_conf *s, const struct turn *t, int32_t id, const float *logits, struct err *e)
{
    struct logprob x[1 + LIMIT_LOGPROBS];
    logprob_of(logits, s->vocab, id, t->logprobs, x);
    return send_logprobs(s, t, x, 1 + t->logprobs, e);
}

/* Nothing comes before a prompt's first token. */
static int tell_first(struct turn_conf *s, const struct turn *t, struct err *e)
{
    return send_logprobs(s, t, &(struct logprob){*t->prompt.id, NAN}, 1, e);
}

int turn_score(struct turn_conf *s, struct turn *t, int64_t at, const float *logits, struct err *e)
{
    int rc = at ? 0 : tell_first(s, t, e);
    return rc ? rc : tell_logprobs(s, t, t->prompt.id[at + 1], logits, e);
}

/* The prompt as the client wrote it, or the text of its tokens. */
static int send_echo(struct turn_conf *s, struct turn *t, struct err *e)
{
    const char *prompt = json_str(t->body, "prompt", NULL);
    int rc = t->logprobs >= 0 && t->prompt.count == 1 ? tell_first(s, t, e) : 0;

    if (prompt)
        buf_str(&t->pending, prompt);
    for (int64_t i = 0; i < t->prompt.count && !prompt; i++)
        tok_decode(s->tok, t->prompt.id[i], !t->shows_special, &t->pending);
    t->echoes = false;
    if (rc || !buf_ok(&t->pending))
        return rc ? rc : err_set(e, ERR_MEMORY, "no memory for a prompt");
    return send_text(s, t, t->pending.len, e);
}

/* -- prompt in -- */

/* Does the beginning of an answer stand behind the messages? */
static bool generates(const struct turn *t)
{
    return json_bool(t->body, "add_generation_prompt", true);
}

/* Special tokens are the template's: in what the client wrote they are text. */
static int encode_messages(
    struct turn_conf *s, struct turn *t, const struct json *said, struct err *e)
{
    json_auto struct json *messages = NULL, *tools = NULL;
    int rc = guard_json(s->tok, said, &messages, e);

    t->prompt.count = 0;
    buf_reset(&s->text);
    if (rc || (rc = guard_json(s->tok, json_get(t->body, "tools"), &tools, e)) ||
        (rc = chat_render_tools(s->chat, messages, tools, generates(t), &s->text, e)))
        return rc;
    return tok_encode_guarded(s->tok, buf_cstr(&s->text), (int64_t)s->text.len, &t->prompt, e);
}

/* As many passages as leave room for an answer. */
static int encode_passages(struct turn_conf *s, struct turn *t, struct err *e)
{
    const struct json *said = json_get(t->body, "messages");
    int64_t most = json_int(t->body, "max_tokens", s->context), room = s->context / 4;
    int rc = 0;
    for (int n = cite_passages(t->cite); n && !rc; n--) {
        json_auto struct json *messages = NULL;
        rc = cite_messages(t->cite, said, n, &messages, e);
        if (rc || (rc = encode_messages(s, t, messages, e)) ||
            t->prompt.count + (most < room ? most : room) <= s->context)
            break;
    }
    return rc;
}

/* Where the documents do not say it, that is the answer. */
static int answer_not_found(struct turn_conf *s, struct turn *t, struct err *e)
{
    buf_str(&t->pending, s->serve->retrieval.not_found);
    t->reason = "stop";
    return send_text(s, t, t->pending.len, e);
}

/* A question is answered from documents, if there are some; what is only shown is as it came. */
static int encode_chat(struct turn_conf *s, struct turn *t, struct err *e)
{
    const struct json *said = json_get(t->body, "messages");
    if (!s->retrieve || json_get(t->body, "render"))
        return encode_messages(s, t, said, e);
    int rc = cite_open(s->retrieve, &s->serve->retrieval, said, &t->cite, e);
    if (rc)
        return rc;
    t->searched = t->cite ? cite_seconds(t->cite) : 0;
    if (t->cite && cite_passages(t->cite))
        return encode_passages(s, t, e);
    return t->cite && is_free(t) ? answer_not_found(s, t, e) : encode_messages(s, t, said, e);
}

static int take_ids(struct turn_conf *s, const struct json *ids, struct tok_ids *out, struct err *e)
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

static int encode_prompt(struct turn_conf *s, struct turn *t, struct err *e)
{
    const struct json *body = t->body;
    const char *prompt = json_str(body, "prompt", NULL);
    const struct json *ids = json_get(body, "prompt_ids");
    bool chat = json_bool(body, "chat", false);
    int rc;

    if (chat && !s->chat)
        return err_set(
            e, ERR_USER, "chat is not served: %.180s; use completions", s->no_chat->text);
    if (chat)
        rc = encode_chat(s, t, e);
    else if (ids)
        rc = take_ids(s, ids, &t->prompt, e);
    else if (!prompt)
        rc = err_set(e, ERR_USER, "the request has neither messages nor a prompt");
    else if (json_bool(body, "add_special_tokens", true))
        rc = tok_encode_document(s->tok, prompt, (int64_t)strlen(prompt), &t->prompt, e);
    else
        rc = tok_encode(s->tok, prompt, (int64_t)strlen(prompt), true, &t->prompt, e);
    return rc;
}

/* Is it a prompt that an answer can follow? */
static int check_prompt(const struct turn_conf *s, const struct turn *t, struct err *e)
{
    if (t->prompt.count == 0)
        return err_set(e, ERR_USER, "the prompt is empty");
    if (t->prompt.count >= s->context)
        return err_set(e, ERR_USER, "the prompt has %lld tokens, the context %lld",
            (long long)t->prompt.count, (long long)s->context);
    return 0;
}

static bool ends_turn(const struct turn_conf *s, int32_t id)
{
    return id == tok_eos(s->tok) || weights_ends(s->weights, id);
}

/* What the answer may be. */
static int read_format(struct turn_conf *s, struct turn *t, struct err *e)
{
    int rc = 0;
    if (!constrain_asked(t->body))
        return 0;
    if (!s->texts)
        rc = constrain_vocab(s->tok, s->weights, s->vocab, &s->texts, e);
    enum wire_calls calls = s->chat ? chat_calls(s->chat) : WIRE_CALLS_NONE;
    rc = rc ? rc : constrain_open(t->body, calls, s->texts, &t->constrain, t->param, e);
    t->shape.constrain = t->constrain;
    return rc;
}

static int read_shape(struct turn_conf *s, struct turn *t, struct err *e)
{
    int rc = shape_read(t->body, s->vocab, &t->shape, e);
    if (rc || (rc = read_format(s, t, e)))
        return rc;
    bool ends = t->shape.min_tokens || t->constrain;
    for (int64_t id = 0; ends && id < s->vocab; id++)
        if (t->shape.ends < SHAPE_ENDS && ends_turn(s, (int32_t)id))
            t->shape.end[t->shape.ends++] = (int32_t)id;
    t->ignores_ends = json_bool(t->body, "ignore_eos", false);
    t->shows_special = !json_bool(t->body, "skip_special_tokens", true) ||
        json_get(t->body, "tools"); /* what opens a call may be one */
    if (!t->shape.plain || t->constrain)
        t->draws.shape = &t->shape;
    return 0;
}

/* For whom it is. */
static int read_terms(struct turn *t, struct err *e)
{
    int64_t key = json_int(t->body, "key", 0), weight = json_int(t->body, "weight", 1);
    if (key < 0 || key >= FAIR_CLASSES || weight < 1 || weight > FAIR_WEIGHT)
        return err_set(e, ERR_USER, "key %lld of weight %lld", (long long)key, (long long)weight);
    t->terms = (struct batcher_terms){.salt = strtoull(json_str(t->body, "salt", "0"), NULL, 16),
        .key = (int)key,
        .weight = (int)weight,
        .priority = (int)json_int(t->body, "priority", 0),
        .adapter = t->adapter};
    return 0;
}

/* What is told beside the answer. */
static int read_told(struct turn_conf *s, struct turn *t, struct err *e)
{
    int64_t logprobs = json_int(t->body, "logprobs", -1);
    if (logprobs < -1 || logprobs > LIMIT_LOGPROBS)
        return err_set(e, ERR_USER, "logprobs must be 0 to %d", LIMIT_LOGPROBS);
    t->logprobs = (int)(logprobs < s->vocab ? logprobs : s->vocab);
    t->echoes = json_bool(t->body, "echo", false);
    t->draws.tells = t->logprobs >= 0;
    t->draws.scores = t->logprobs >= 0 && t->echoes;
    return 0;
}

static int read_adapter(const struct turn_conf *s, struct turn *t, struct err *e)
{
    const char *name = json_str(t->body, "adapter", NULL);
    const char *path = json_str(t->body, "adapter_path", NULL);
    if (name && s->loras) {
        t->adapter = loras_find(s->loras, name, path, e);
        t->status = t->adapter || !path ? 0 : SERVICE_UNAVAILABLE;
        return t->adapter ? 0 : -(int)e->code;
    }
    t->adapter = name ? adapters_find(s->serve, name) : 0;
    if (!name || t->adapter)
        return 0;
    return err_set(e, ERR_USER, "there is no adapter %.100s", name);
}

static int read_request(struct turn_conf *s, struct turn *t, struct err *e)
{
    const struct json *body = t->body;
    double temperature = json_num(body, "temperature", 1), top_p = json_num(body, "top_p", 1);
    uint64_t drawn = (uint64_t)json_int(body, "seed", 0);
    int64_t room;
    int rc;

    beat_phase(s->door->page, WIRE_PHASE_SERVE_RENDER);
    if ((rc = read_adapter(s, t, e)) || (rc = encode_prompt(s, t, e)) || t->reason ||
        (rc = check_prompt(s, t, e)))
        return rc;
    if (!(temperature >= 0 && temperature <= 100) || !(top_p >= 0 && top_p <= 1))
        return err_set(e, ERR_USER, "temperature must be in [0, 100], top_p in [0, 1]");
    if (!json_get(body, "seed"))
        rc = io_random(&drawn, sizeof drawn, e);
    if (rc)
        return rc;
    if (top_p > 0)
        sampler_start(&t->draws, temperature, top_p, drawn);
    else /* the likeliest token alone */
        sampler_start(&t->draws, 0, 1, drawn);
    if ((rc = read_shape(s, t, e)))
        return rc;
    if ((rc = read_told(s, t, e)) || (rc = read_terms(t, e)))
        return rc;
    room = s->context - t->prompt.count;
    t->max_tokens = json_int(body, "max_tokens", room);
    if (t->max_tokens < !t->echoes || t->max_tokens > room)
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

/* -- what is only rendered -- */

/* A conversation as the template has it, or the text of tokens. */
static int render_text(struct turn_conf *s, struct turn *t, struct err *e)
{
    const struct json *messages = json_get(t->body, "messages");
    int rc = 0;
    buf_reset(&s->text);
    if (messages && !s->chat)
        return err_set(e, ERR_USER, "chat is not served: %.180s", s->no_chat->text);
    if (messages)
        rc = chat_render_tools(
            s->chat, messages, json_get(t->body, "tools"), generates(t), &s->text, e);
    else
        rc = take_ids(s, json_get(t->body, "prompt_ids"), &t->prompt, e);
    for (int64_t i = 0; i < t->prompt.count; i++)
        tok_decode(s->tok, t->prompt.id[i], false, &s->text);
    if (!rc && !buf_ok(&s->text))
        return err_set(e, ERR_MEMORY, "no memory for a text");
    return rc;
}

static int render(struct turn_conf *s, struct turn *t, const char *what, struct err *e)
{
    bool tokens = !strcmp(what, "tokens");
    struct jsonw w;
    beat_phase(s->door->page, WIRE_PHASE_SERVE_RENDER);
    int rc = tokens ? encode_prompt(s, t, e) : render_text(s, t, e);
    if (rc)
        return rc;
    jsonw_init(&w, &t->pending);
    jsonw_open(&w, NULL, '{');
    if (tokens) {
        jsonw_int(&w, "count", t->prompt.count);
        jsonw_int(&w, "max_model_len", s->context);
        jsonw_open(&w, "tokens", '[');
        for (int64_t i = 0; i < t->prompt.count; i++)
            jsonw_int(&w, NULL, t->prompt.id[i]);
        jsonw_close(&w);
    } else {
        jsonw_strn(&w, "prompt", buf_cstr(&s->text), s->text.len);
    }
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(
            e, ERR_USER, "the answer would be longer than %d bytes", LIMIT_REQUEST_BYTES);
    t->reason = "stop";
    return send_text(s, t, t->pending.len, e);
}

static int search(struct turn_conf *s, struct turn *t, const struct json *what, struct err *e)
{
    beat_phase(s->door->page, WIRE_PHASE_SERVE_RENDER);
    if (!s->retrieve)
        return err_set(e, ERR_USER, "there are no documents: spec.serve.retrieval");
    int rc = cite_search(s->retrieve, what, &t->pending, &t->searched, e);
    if (rc)
        return rc;
    t->reason = "stop";
    return send_text(s, t, t->pending.len, e);
}

int turn_read(struct turn_conf *s, struct turn *t, struct err *e)
{
    int rc =
        json_parse_within(t->q->text, t->q->len, JSON_VALUES + LIMIT_AGENT_VALUES, &t->body, e);
    const char *what = json_str(t->body, "render", NULL);
    const struct json *wanted = json_get(t->body, "search");
    if (!rc)
        rc = wanted ? search(s, t, wanted, e)
            : what  ? render(s, t, what, e)
                    : read_request(s, t, e);
    if (!rc)
        return 0;
    if (rc == -ERR_MEMORY) /* of what one request asks for: no reason for the rank to end */
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    return rc;
}

/* -- tokens -- */

/* Ends the turn where the answer's text may not be what it is now, or is all that it may be. */
static void follow_format(struct turn *t, size_t before)
{
    size_t len = t->pending.len - before;
    if (constrain_take(t->constrain, buf_cstr(&t->pending) + before, len, &t->fault))
        t->reason = "error";
    else if (constrain_is_over(t->constrain))
        t->reason = "stop";
}

int turn_take(struct turn_conf *s, struct turn *t, int32_t id, const float *logits, struct err *e)
{
    int rc;
    if (t->echoes && (rc = send_echo(s, t, e)))
        return rc;
    if (!t->max_tokens) {
        t->reason = "length";
        return 0;
    }
    if (!t->ignores_ends && ends_turn(s, id)) {
        t->reason = "stop";
        if (t->constrain)
            follow_format(t, t->pending.len);
        return t->fault.code ? 0 : flush_text(s, t, true, e);
    }
    t->produced++;
    if (logits && (rc = tell_logprobs(s, t, id, logits, e)))
        return rc;
    size_t before = t->pending.len;
    if (tok_decode(s->tok, id, !t->shows_special, &t->pending))
        return err_set(e, ERR_MEMORY, "no memory for a token");
    if (t->constrain)
        follow_format(t, before);
    if (t->reason)
        return t->fault.code ? 0 : flush_text(s, t, true, e);
    if ((rc = flush_text(s, t, false, e)) || t->reason || t->produced < t->max_tokens)
        return rc;
    t->reason = "length";
    return flush_text(s, t, true, e);
}

int turn_may_follow(struct turn_conf *s, const struct turn *t, const int32_t *ids, int n)
{
    buf_reset(&s->text);
    for (int i = 0; i < n; i++) {
        size_t before = s->text.len;
        if (t->produced + i + 1 >= t->max_tokens || (!t->ignores_ends && ends_turn(s, ids[i])))
            return i;
        if (!t->constrain)
            continue;
        if (tok_decode(s->tok, ids[i], true, &s->text) || s->text.len == before ||
            !constrain_may_follow(t->constrain, buf_cstr(&s->text), s->text.len))
            return i;
    }
    return n;
}

int turn_finish(struct turn_conf *s, const struct turn *t, const char *reason, const char *message,
    struct err *e)
{
    buf_auto struct buf cited;
    buf_init(&cited, LIMIT_CITATIONS_BYTES);
    if (t->cite && cite_tell(t->cite, &cited) < 0) /* they are too long, or there is no memory */
        buf_reset(&cited);
    return door_send_fields(s->door, WIRE_FINISHED,
        (struct door_field[]){{"id", (double)t->q->id, NULL}, {"reason", 0, reason},
            {"prompt_tokens", (double)t->prompt.count, NULL},
            {"cached_tokens", (double)t->cached, NULL},
            {"completion_tokens", (double)t->produced, NULL},
            {"guessed_tokens", (double)t->guessed, NULL}, {"right_tokens", (double)t->right, NULL},
            {"message", 0, message}, {"status", t->status, NULL}, {"param", 0, t->param},
            {"stop", 0, t->found ? t->found : ""}, {"searched", t->searched, NULL},
            {"annotations", 0, buf_cstr(&cited)}, {NULL, 0, NULL}},
        e);
}
