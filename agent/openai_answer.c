/*
 * openai_answer: logprobs are kept as the items of JSON lists, so that what waits is what will be
 * sent.
 */
#include "agent/openai_answer.h"

#include "base/json.h"
#include "base/random.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LIST_BYTES  (4 << 20)
#define LEAST       -9999.0 /* for a probability of 0, which JSON cannot say */
#define TOKEN_BYTES 1024    /* of a token, as it is shown */

/* -- logprobs -- */

void openai_logprobs_init(struct openai_logprobs *l)
{
    *l = (struct openai_logprobs){0};
    for (int i = 0; i < OPENAI_LISTS; i++)
        buf_init(&l->list[i], LIST_BYTES);
}

void openai_logprobs_done(struct openai_logprobs *l)
{
    for (int i = 0; i < OPENAI_LISTS; i++)
        buf_done(&l->list[i]);
}

void openai_logprobs_sent(struct openai_logprobs *l)
{
    for (int i = 0; i < OPENAI_LISTS; i++)
        buf_reset(&l->list[i]);
}

size_t openai_logprobs_bytes(const struct openai_logprobs *l)
{
    size_t sum = 0;
    for (int i = 0; i < OPENAI_LISTS; i++)
        sum += l->list[i].len;
    return sum;
}

static void write_logprob(struct jsonw *w, const char *key, float logprob)
{
    if (isnan(logprob))
        jsonw_null(w, key);
    else
        jsonw_num(w, key, isinf(logprob) ? LEAST : (double)logprob);
}

/* token, logprob and bytes of an open object. */
static void write_token(struct jsonw *w, const struct wire_logprob *x)
{
    jsonw_strn(w, "token", x->bytes, x->len);
    write_logprob(w, "logprob", x->logprob);
    jsonw_open(w, "bytes", '[');
    for (uint32_t i = 0; i < x->len; i++)
        jsonw_int(w, NULL, (uint8_t)x->bytes[i]);
    jsonw_close(w);
}

/* The next item of a list. */
static void begin_item(struct jsonw *w, struct buf *list)
{
    if (list->len)
        buf_char(list, ',');
    jsonw_init(w, list);
}

static int add_content(struct buf *list, const struct wire_frame *f)
{
    uint32_t at = WIRE_TOKEN_BYTES;
    struct wire_logprob x;
    struct jsonw w;
    if (!wire_take_logprob(f, &at, &x))
        return -ERR_BUG;
    begin_item(&w, list);
    jsonw_open(&w, NULL, '{');
    write_token(&w, &x);
    jsonw_open(&w, "top_logprobs", '[');
    while (wire_take_logprob(f, &at, &x)) {
        jsonw_open(&w, NULL, '{');
        write_token(&w, &x);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_close(&w);
    return jsonw_end(&w);
}

/* A token as the older form shows it. */
static void show_token(const struct wire_logprob *x, char out[TOKEN_BYTES])
{
    size_t n = x->len < TOKEN_BYTES / 8 ? x->len : TOKEN_BYTES / 8, at = 0;
    if (x->len < TOKEN_BYTES && utf8_valid_prefix(x->bytes, x->len) == x->len) {
        memcpy(out, x->bytes, x->len);
        out[x->len] = 0;
        return;
    }
    at = (size_t)snprintf(out, TOKEN_BYTES, "bytes:");
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, TOKEN_BYTES - at, "\\x%02x", (uint8_t)x->bytes[i]);
}

/* The likeliest as an object; the token that came is one of its members. Tokens that look alike are
   one, the likelier. */
static int add_top(struct buf *list, const struct wire_frame *f, uint32_t at,
    const struct wire_logprob *came, const char *shown)
{
    buf_auto struct buf seen;
    struct wire_logprob x;
    struct jsonw w;
    bool has_it = false;
    buf_init(&seen, 64 * TOKEN_BYTES); /* names, each between two NULs */
    begin_item(&w, list);
    if (isnan(came->logprob)) {
        jsonw_null(&w, NULL);
        return jsonw_end(&w);
    }
    buf_char(&seen, 0);
    jsonw_open(&w, NULL, '{');
    while (wire_take_logprob(f, &at, &x)) {
        char between[1 + TOKEN_BYTES] = {0}, *name = between + 1;
        show_token(&x, name);
        if (buf_ok(&seen) && memmem(seen.data, seen.len, between, strlen(name) + 2))
            continue;
        buf_add(&seen, name, strlen(name) + 1);
        has_it = has_it || !strcmp(name, shown);
        write_logprob(&w, name, x.logprob);
    }
    if (!has_it)
        write_logprob(&w, shown, came->logprob);
    jsonw_close(&w);
    return jsonw_end(&w) || !buf_ok(&seen) ? -ERR_MEMORY : 0;
}

/* Characters that begin in it. */
static int64_t count_characters(const char *text, uint32_t len)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < len; i++)
        n += ((uint8_t)text[i] & 0xc0) != 0x80;
    return n;
}

static int add_lists(struct openai_logprobs *l, const struct wire_frame *f, bool hidden)
{
    uint32_t at = WIRE_TOKEN_BYTES;
    char shown[TOKEN_BYTES];
    struct wire_logprob x;
    struct jsonw w;
    int rc;
    if (!wire_take_logprob(f, &at, &x))
        return -ERR_BUG;
    show_token(&x, shown);
    begin_item(&w, &l->list[0]);
    jsonw_str(&w, NULL, shown);
    rc = jsonw_end(&w);
    begin_item(&w, &l->list[1]);
    write_logprob(&w, NULL, x.logprob);
    rc = jsonw_end(&w) || rc;
    rc = add_top(&l->list[2], f, at, &x, shown) || rc;
    begin_item(&w, &l->list[3]);
    jsonw_int(&w, NULL, l->characters);
    rc = jsonw_end(&w) || rc;
    l->characters += hidden ? 0 : count_characters(x.bytes, x.len);
    return rc ? -ERR_MEMORY : 0;
}

int openai_logprobs_add(struct openai_logprobs *l, bool chat, const struct wire_frame *f)
{
    struct wire_token head;
    if (!wire_take_token(f, &head))
        return -ERR_BUG;
    return chat ? add_content(&l->list[0], f) : add_lists(l, f, head.hidden);
}

static void write_list(struct jsonw *w, const char *key, const struct buf *items)
{
    jsonw_open(w, key, '[');
    if (items->len)
        buf_add(w->out, items->data, items->len);
    jsonw_close(w);
}

static void write_logprobs(
    struct jsonw *w, const struct openai_answer *a, const struct openai_logprobs *l)
{
    static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    if (!l) {
        jsonw_null(w, "logprobs");
        return;
    }
    jsonw_open(w, "logprobs", '{');
    if (a->chat) {
        write_list(w, "content", &l->list[0]);
        jsonw_null(w, "refusal");
    }
    for (int i = 0; i < OPENAI_LISTS && !a->chat; i++)
        write_list(w, names[i], &l->list[i]);
    jsonw_close(w);
}

/* -- answers -- */

void openai_tell_members(struct jsonw *w, const struct openai_answer *a)
{
    if (!a->members.of)
        return;
    jsonw_open(w, "llmjob", '{');
    jsonw_int(w, "members", a->members.there);
    jsonw_int(w, "of", a->members.of);
    jsonw_close(w);
}

static void write_head(struct jsonw *w, const struct openai_answer *a, bool chunk)
{
    char id[40];
    snprintf(id, sizeof id, "%s-%llu", a->chat ? "chatcmpl" : "cmpl", (unsigned long long)a->id);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", id);
    jsonw_str(w, "object",
        !a->chat    ? "text_completion"
            : chunk ? "chat.completion.chunk"
                    : "chat.completion");
    jsonw_int(w, "created", a->created);
    jsonw_str(w, "model", a->model);
    openai_tell_members(w, a);
}

static void write_usage(struct jsonw *w, struct openai_usage u)
{
    jsonw_open(w, "usage", '{');
    jsonw_int(w, "prompt_tokens", u.prompt);
    jsonw_int(w, "completion_tokens", u.completion);
    jsonw_int(w, "total_tokens", u.prompt + u.completion);
    jsonw_open(w, "prompt_tokens_details", '{');
    jsonw_int(w, "cached_tokens", u.cached);
    jsonw_close(w);
    jsonw_close(w);
}

void openai_call_id(char out[OPENAI_CALL_ID], const struct openai_answer *a, int choice, int call)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    uint64_t x =
        random_mix(random_mix(a->id + (unsigned)choice) + (uint64_t)a->created) + (unsigned)call;
    x = random_mix(x);
    for (int i = 0; i < OPENAI_CALL_ID - 1; i++, x /= 36)
        out[i] = letters[x % 36];
    out[OPENAI_CALL_ID - 1] = 0;
}

/* Those that were not sent yet, if there are any. */
static void write_calls(
    struct jsonw *w, const struct openai_answer *a, const struct openai_choice *c, bool chunk)
{
    char id[OPENAI_CALL_ID];
    if (!c->calls || c->calls->count <= c->from)
        return;
    jsonw_open(w, "tool_calls", '[');
    for (int i = c->from; i < c->calls->count; i++) {
        jsonw_open(w, NULL, '{');
        if (chunk)
            jsonw_int(w, "index", i);
        openai_call_id(id, a, c->index, i);
        jsonw_str(w, "id", id);
        jsonw_str(w, "type", "function");
        jsonw_open(w, "function", '{');
        jsonw_str(w, "name", c->calls->call[i].name);
        jsonw_str(w, "arguments", c->calls->call[i].arguments);
        jsonw_close(w);
        jsonw_close(w);
    }
    jsonw_close(w);
}

/* With its end. */
static void write_annotations(struct jsonw *w, const struct openai_choice *c)
{
    if (c->finish && c->annotations)
        jsonw_raw(w, "annotations", c->annotations);
}

/* What follows the text of a choice. */
static void end_choice(
    struct jsonw *w, const struct openai_answer *a, const struct openai_choice *c)
{
    write_logprobs(w, a, c->logprobs);
    jsonw_str(w, "finish_reason", c->finish);
    jsonw_close(w);
}

void openai_chunk(
    struct buf *out, const struct openai_answer *a, const struct openai_choice *choice)
{
    struct jsonw w;
    buf_str(out, "data: ");
    jsonw_init(&w, out);
    write_head(&w, a, true);
    jsonw_open(&w, "choices", '[');
    jsonw_open(&w, NULL, '{');
    jsonw_int(&w, "index", choice->index);
    if (a->chat) {
        jsonw_open(&w, "delta", '{');
        if (choice->first)
            jsonw_str(&w, "role", "assistant");
        if (choice->text)
            jsonw_strn(&w, "content", choice->text, choice->len);
        write_calls(&w, a, choice, true);
        write_annotations(&w, choice);
        jsonw_close(&w);
    } else {
        jsonw_strn(&w, "text", choice->text ? choice->text : "", choice->len);
    }
    end_choice(&w, a, choice);
    jsonw_close(&w);
    if (a->include_usage)
        jsonw_null(&w, "usage");
    jsonw_close(&w);
    jsonw_end(&w);
    buf_str(out, "\n\n");
}

void openai_last(struct buf *out, const struct openai_answer *a, struct openai_usage u)
{
    struct jsonw w;
    if (a->include_usage) {
        buf_str(out, "data: ");
        jsonw_init(&w, out);
        write_head(&w, a, true);
        jsonw_open(&w, "choices", '[');
        jsonw_close(&w);
        write_usage(&w, u);
        jsonw_close(&w);
        jsonw_end(&w);
        buf_str(out, "\n\n");
    }
    buf_str(out, "data: [DONE]\n\n");
}

static void write_choice(
    struct jsonw *w, const struct openai_answer *a, const struct openai_choice *c)
{
    jsonw_open(w, NULL, '{');
    jsonw_int(w, "index", c->index);
    if (a->chat) {
        jsonw_open(w, "message", '{');
        jsonw_str(w, "role", "assistant");
        if (c->calls && c->calls->count && !c->len)
            jsonw_null(w, "content");
        else
            jsonw_strn(w, "content", c->text, c->len);
        write_calls(w, a, c, false);
        write_annotations(w, c);
        jsonw_close(w);
    } else {
        jsonw_strn(w, "text", c->text, c->len);
    }
    end_choice(w, a, c);
}

void openai_whole(struct buf *out, const struct openai_answer *a,
    const struct openai_choice *choices, int count, struct openai_usage u)
{
    struct jsonw w;
    jsonw_init(&w, out);
    write_head(&w, a, false);
    jsonw_open(&w, "choices", '[');
    for (int i = 0; i < count; i++)
        write_choice(&w, a, &choices[i]);
    jsonw_close(&w);
    write_usage(&w, u);
    jsonw_close(&w);
    jsonw_end(&w);
}

void openai_error(struct buf *out, const struct openai_refusal *r)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "error", '{');
    jsonw_strn(&w, "message", r->message, strlen(r->message)); /* may be cut in a character */
    jsonw_str(&w, "type", r->type);
    if (r->param[0])
        jsonw_strn(&w, "param", r->param, strlen(r->param));
    else
        jsonw_null(&w, "param");
    jsonw_str(&w, "code", r->code);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

void openai_error_event(struct buf *out, const struct openai_refusal *r)
{
    buf_str(out, "data: ");
    openai_error(out, r);
    buf_str(out, "\n\n");
}

static void write_model(struct jsonw *w, const struct openai_conf *conf, const char *adapter)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", adapter ? adapter : conf->model);
    jsonw_str(w, "object", "model");
    jsonw_int(w, "created", 0);
    jsonw_str(w, "owned_by", "llmjob");
    if (conf->context_length)
        jsonw_int(w, "max_model_len", conf->context_length);
    if (adapter)
        jsonw_str(w, "parent", conf->model);
    jsonw_close(w);
}

int openai_models(
    struct buf *out, const struct openai_conf *conf, const char *id, struct openai_refusal *r)
{
    struct jsonw w;
    const char *adapter = id ? openai_find_adapter(conf, id) : NULL;
    if (id && !adapter && strcmp(id, conf->model) != 0)
        return openai_refuse(
            r, 404, "model_not_found", "model", "The model `%.100s` does not exist", id);
    jsonw_init(&w, out);
    if (id) {
        write_model(&w, conf, adapter);
        return 0;
    }
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "object", "list");
    jsonw_open(&w, "data", '[');
    write_model(&w, conf, NULL);
    for (int i = 0; i < conf->adapter_count; i++)
        write_model(&w, conf, conf->adapters[i].name);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
    return 0;
}
