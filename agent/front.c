/*
 * front: see front.h. One struct request per exchange in flight, found by id (what the rank says)
 * or by the exchange (what the client does). Text from the rank waits in `pending` until it ends at
 * a character's boundary.
 */
#include "agent/front.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"

#include <endian.h>
#include <math.h>
#include <string.h>

#define TOKEN_HEADER 16
#define ANSWER_BYTES (1 << 20)
#define STOPS        4
#define DEFAULT_MAX_TOKENS                                                                         \
	512 /* a chat request that names none; /v1/completions has OpenAI's 16                     \
	     */

static struct metric requests_total = {.name = "llmjob_requests_total",
				       .help = "Requests to the OpenAI API that were accepted",
				       .kind = METRIC_COUNTER};
static struct metric refused_total = {.name = "llmjob_requests_refused_total",
				      .help = "Requests answered with an error status",
				      .kind = METRIC_COUNTER};
static struct metric tokens_total = {.name = "llmjob_generated_tokens_total",
				     .help = "Tokens generated",
				     .kind = METRIC_COUNTER};
static struct metric first_token = {.name = "llmjob_first_token_seconds",
				    .help = "From request to first token",
				    .kind = METRIC_HISTOGRAM};
static struct metric in_flight = {.name = "llmjob_requests_in_flight",
				  .help = "Requests waiting or generating",
				  .kind = METRIC_GAUGE};

struct request {
	struct front *front;
	struct request *next;
	uint64_t id;
	struct web_exchange *x;
	bool chat, stream, include_usage, begun;
	int64_t started_ms, created;
	struct buf text;    /* whole answers */
	struct buf pending; /* the beginning of a character */
};

struct front {
	struct front_conf conf;
	struct request *head;
	uint64_t next_id;
	bool listening, ready, draining;
	uint16_t port;
	int64_t context_length;
	int count;
};

int front_create(const struct front_conf *conf, struct front **out, struct err *e)
{
	struct front *f = mem_zalloc(sizeof *f);
	if (!f)
		return err_set(e, ERR_MEMORY, "out of memory");
	f->conf = *conf;
	if (f->conf.max_queue <= 0 || f->conf.max_queue > LIMIT_QUEUE_REQUESTS)
		f->conf.max_queue = LIMIT_QUEUE_REQUESTS;
	f->next_id = 1;
	struct metric *all[] = {&requests_total, &refused_total, &tokens_total, &first_token,
				&in_flight};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		metric_register(all[i]);
	*out = f;
	return 0;
}

static void request_free(struct request *r)
{
	struct front *f = r->front;
	for (struct request **at = &f->head; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
	f->count--;
	metric_set(&in_flight, f->count);
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

void front_set_rank(struct front *f,
		    int (*send_fn)(void *user, enum wire_type type, const char *json), void *user)
{
	f->conf.send_fn = send_fn;
	f->conf.user = user;
}

/* ---- errors in OpenAI's form
 * ----------------------------------------------------------------------------- */

struct refusal {
	int status;
	const char *type, *code, *param;
	char message[256];
};

static void write_error(struct buf *out, const struct refusal *r)
{
	struct jsonw w;
	jsonw_init(&w, out);
	jsonw_open(&w, NULL, '{');
	jsonw_open(&w, "error", '{');
	jsonw_str(&w, "message", r->message);
	jsonw_str(&w, "type", r->type);
	jsonw_str(&w, "param", r->param);
	jsonw_str(&w, "code", r->code);
	jsonw_close(&w);
	jsonw_close(&w);
	jsonw_end(&w);
}

static void answer_error(struct web_exchange *x, const struct refusal *r)
{
	buf_auto struct buf body;
	buf_init(&body, 8192);
	write_error(&body, r);
	const char *retry[] = {"Retry-After: 1", NULL};
	bool later = r->status == 429 || r->status == 503;
	metric_add(&refused_total, 1);
	web_answer(x, r->status, "application/json", buf_cstr(&body), body.len,
		   later ? retry : NULL);
}

static int refuse(struct refusal *r, int status, const char *code, const char *param,
		  const char *message)
{
	*r = (struct refusal){.status = status,
			      .type = status == 429   ? "rate_limit_error"
				      : status >= 500 ? "server_error"
				      : status == 401 ? "authentication_error"
						      : "invalid_request_error",
			      .code = code,
			      .param = param};
	snprintf(r->message, sizeof r->message, "%s", message);
	return -1;
}

/* ---- reading a request
 * ----------------------------------------------------------------------------------- */

static int number_in(const struct json *v, const char *key, double min, double max, double def,
		     double *out, struct refusal *r)
{
	const struct json *n = json_get(v, key);
	*out = def;
	if (!n || json_is_null(n))
		return 0;
	*out = json_number_value(n);
	if (json_is_number(n) && *out >= min && *out <= max)
		return 0;
	char text[160];
	snprintf(text, sizeof text, "%s must be a number from %g to %g", key, min, max);
	return refuse(r, 400, NULL, key, text);
}

static int copy_messages(const struct json *v, struct jsonw *w, struct refusal *r)
{
	const struct json *messages = json_get(v, "messages");
	if (!json_is_array(messages) || !json_count(messages))
		return refuse(r, 400, NULL, "messages", "messages must be a non-empty array");
	jsonw_open(w, "messages", '[');
	json_each (m, messages) {
		const char *role = json_str(m, "role", NULL);
		const struct json *content = json_get(m, "content");
		if (!role || (!json_is_string(content) && !json_is_array(content)))
			return refuse(r, 400, NULL, "messages",
				      "each message needs a role and a content");
		jsonw_open(w, NULL, '{');
		jsonw_str(w, "role", role);
		if (json_is_string(content)) {
			jsonw_str(w, "content", json_string_value(content));
		} else { /* parts: text only */
			buf_auto struct buf text;
			buf_init(&text, LIMIT_REQUEST_BYTES);
			json_each (part, content) {
				if (strcmp(json_str(part, "type", ""), "text"))
					return refuse(r, 400, NULL, "messages",
						      "only text content is supported");
				buf_str(&text, json_str(part, "text", ""));
			}
			jsonw_str(w, "content", buf_cstr(&text));
		}
		jsonw_close(w);
	}
	jsonw_close(w);
	return 0;
}

static int copy_prompt(const struct json *v, struct jsonw *w, struct refusal *r)
{
	const struct json *prompt = json_get(v, "prompt");
	if (json_is_array(prompt) && json_count(prompt) == 1)
		prompt = json_first(prompt);
	if (!json_is_string(prompt))
		return refuse(r, 400, NULL, "prompt", "prompt must be one string");
	jsonw_str(w, "prompt", json_string_value(prompt));
	return 0;
}

static int copy_stop(const struct json *v, struct jsonw *w, struct refusal *r)
{
	const struct json *stop = json_get(v, "stop");
	jsonw_open(w, "stop", '[');
	if (json_is_string(stop)) {
		jsonw_str(w, NULL, json_string_value(stop));
	} else if (json_is_array(stop)) {
		if (json_count(stop) > STOPS)
			return refuse(r, 400, NULL, "stop", "at most 4 stop sequences");
		json_each (s, stop) {
			if (!json_is_string(s))
				return refuse(r, 400, NULL, "stop", "stop sequences are strings");
			jsonw_str(w, NULL, json_string_value(s));
		}
	} else if (stop && !json_is_null(stop)) {
		return refuse(r, 400, NULL, "stop", "stop must be a string or an array of strings");
	}
	jsonw_close(w);
	return 0;
}

static int copy_sampling(const struct front *f, const struct json *v, bool chat, struct jsonw *w,
			 struct refusal *r)
{
	double n, temperature, top_p, seed, tokens;
	double limit = f->context_length ? (double)f->context_length : 1 << 20;
	double usual = !chat ? 16 : limit < DEFAULT_MAX_TOKENS ? limit : DEFAULT_MAX_TOKENS;
	const char *key =
		json_get(v, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
	if (number_in(v, "n", 1, 1, 1, &n, r) ||
	    number_in(v, "temperature", 0, 2, 1, &temperature, r) ||
	    number_in(v, "top_p", 0, 1, 1, &top_p, r) ||
	    number_in(v, "seed", -9007199254740991.0, 9007199254740991.0, NAN, &seed, r) ||
	    number_in(v, key, 1, 1 << 24, usual, &tokens, r))
		return -1;
	jsonw_int(w, "max_tokens", (int64_t)(tokens < limit ? tokens : limit));
	jsonw_num(w, "temperature", temperature);
	jsonw_num(w, "top_p", top_p);
	if (!isnan(seed))
		jsonw_int(w, "seed", (int64_t)seed);
	return 0;
}

/* Checks body v and writes the rank's request to out. */
static int translate(const struct front *f, const struct json *v, const struct request *q,
		     struct buf *out, struct refusal *r)
{
	struct jsonw w;
	const char *model = json_str(v, "model", NULL);
	if (!json_is_object(v))
		return refuse(r, 400, NULL, NULL, "the body must be a JSON object");
	if (!model)
		return refuse(r, 400, NULL, "model", "model is needed");
	if (strcmp(model, f->conf.model)) {
		char text[200];
		snprintf(text, sizeof text, "The model `%.100s` does not exist", model);
		return refuse(r, 404, "model_not_found", "model", text);
	}
	if (json_count(json_get(v, "tools")) || json_bool(v, "logprobs", false))
		return refuse(r, 400, NULL, json_get(v, "tools") ? "tools" : "logprobs",
			      "this parameter is not supported");
	jsonw_init(&w, out);
	jsonw_open(&w, NULL, '{');
	jsonw_int(&w, "id", (int64_t)q->id);
	jsonw_bool(&w, "chat", q->chat);
	if (q->chat ? copy_messages(v, &w, r) : copy_prompt(v, &w, r))
		return -1;
	if (copy_sampling(f, v, q->chat, &w, r) || copy_stop(v, &w, r))
		return -1;
	jsonw_close(&w);
	return jsonw_end(&w) ? refuse(r, 413, NULL, NULL, "the request is too large") : 0;
}

/* ---- answers
 * --------------------------------------------------------------------------------------------- */

static void write_head(struct jsonw *w, const struct request *r, bool chunk)
{
	char id[40];
	snprintf(id, sizeof id, "%s-%llu", r->chat ? "chatcmpl" : "cmpl",
		 (unsigned long long)r->id);
	jsonw_open(w, NULL, '{');
	jsonw_str(w, "id", id);
	jsonw_str(w, "object",
		  !r->chat ? "text_completion"
		  : chunk  ? "chat.completion.chunk"
			   : "chat.completion");
	jsonw_int(w, "created", r->created);
	jsonw_str(w, "model", r->front->conf.model);
}

static void write_usage(struct jsonw *w, int64_t prompt, int64_t completion)
{
	jsonw_open(w, "usage", '{');
	jsonw_int(w, "prompt_tokens", prompt);
	jsonw_int(w, "completion_tokens", completion);
	jsonw_int(w, "total_tokens", prompt + completion);
	jsonw_close(w);
}

/* One event: text may be NULL; finish NULL while it goes on; first opens a chat answer with the
 * role. */
static int send_chunk(struct request *r, const char *text, size_t len, const char *finish)
{
	buf_auto struct buf out;
	buf_init(&out, ANSWER_BYTES);
	buf_str(&out, "data: ");
	struct jsonw w;
	jsonw_init(&w, &out);
	write_head(&w, r, true);
	jsonw_open(&w, "choices", '[');
	jsonw_open(&w, NULL, '{');
	jsonw_int(&w, "index", 0);
	if (r->chat) {
		jsonw_open(&w, "delta", '{');
		if (!r->begun)
			jsonw_str(&w, "role", "assistant");
		if (text)
			jsonw_strn(&w, "content", text, len);
		jsonw_close(&w);
	} else {
		jsonw_strn(&w, "text", text ? text : "", len);
	}
	jsonw_null(&w, "logprobs");
	jsonw_str(&w, "finish_reason", finish);
	jsonw_close(&w);
	jsonw_close(&w);
	if (r->include_usage)
		jsonw_null(&w, "usage");
	jsonw_close(&w);
	r->begun = true;
	if (jsonw_end(&w) || buf_str(&out, "\n\n"))
		return -ERR_MEMORY;
	return web_stream_data(r->x, out.data, out.len);
}

static void end_stream(struct request *r, int64_t prompt, int64_t completion)
{
	if (r->include_usage) {
		buf_auto struct buf out;
		buf_init(&out, 8192);
		buf_str(&out, "data: ");
		struct jsonw w;
		jsonw_init(&w, &out);
		write_head(&w, r, true);
		jsonw_open(&w, "choices", '[');
		jsonw_close(&w);
		write_usage(&w, prompt, completion);
		jsonw_close(&w);
		jsonw_end(&w);
		buf_str(&out, "\n\n");
		web_stream_data(r->x, buf_cstr(&out), out.len);
	}
	web_stream_data(r->x, "data: [DONE]\n\n", 14);
	web_stream_end(r->x);
}

static void answer_whole(struct request *r, const char *finish, int64_t prompt, int64_t completion)
{
	buf_auto struct buf out;
	buf_init(&out, 2 * ANSWER_BYTES);
	struct jsonw w;
	jsonw_init(&w, &out);
	write_head(&w, r, false);
	jsonw_open(&w, "choices", '[');
	jsonw_open(&w, NULL, '{');
	jsonw_int(&w, "index", 0);
	if (r->chat) {
		jsonw_open(&w, "message", '{');
		jsonw_str(&w, "role", "assistant");
		jsonw_strn(&w, "content", buf_cstr(&r->text), r->text.len);
		jsonw_close(&w);
	} else {
		jsonw_strn(&w, "text", buf_cstr(&r->text), r->text.len);
	}
	jsonw_null(&w, "logprobs");
	jsonw_str(&w, "finish_reason", finish);
	jsonw_close(&w);
	jsonw_close(&w);
	write_usage(&w, prompt, completion);
	jsonw_close(&w);
	jsonw_end(&w);
	web_answer(r->x, 200, "application/json", buf_cstr(&out), out.len, NULL);
}

static void end_with_error(struct request *r, const struct refusal *why)
{
	if (r->stream && r->begun) {
		buf_auto struct buf out;
		buf_init(&out, 8192);
		buf_str(&out, "data: ");
		write_error(&out, why);
		buf_str(&out, "\n\n");
		web_stream_data(r->x, buf_cstr(&out), out.len);
		web_stream_end(r->x);
	} else {
		answer_error(r->x, why);
	}
	request_free(r);
}

/* ---- what the rank says
 * ---------------------------------------------------------------------------------- */

static struct request *find(struct front *f, uint64_t id)
{
	for (struct request *r = f->head; r; r = r->next)
		if (r->id == id)
			return r;
	return NULL;
}

static void cancel(struct request *r)
{
	char json[48];
	snprintf(json, sizeof json, "{\"id\":%llu}", (unsigned long long)r->id);
	r->front->conf.send_fn(r->front->conf.user, WIRE_CANCEL, json);
}

/* Bytes of s that end at a character's boundary; a character cut short at the end waits. */
static size_t whole_characters(const char *s, size_t n)
{
	size_t back = 0;
	while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back >= n)
		return back < 3 ? 0
				: n; /* nothing but continuation bytes: no character to wait for */
	unsigned char lead = (unsigned char)s[n - 1 - back];
	size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
	return need > back + 1 ? n - 1 - back : n;
}

static int pass_on(struct request *r, bool all)
{
	size_t n = all ? r->pending.len : whole_characters(buf_cstr(&r->pending), r->pending.len);
	if (n == 0)
		return 0;
	int rc = 0;
	if (!r->stream) {
		rc = buf_add(&r->text, r->pending.data, n);
	} else {
		if (!r->begun)
			web_stream_begin(r->x, 200, "text/event-stream");
		rc = send_chunk(r, r->pending.data, n, NULL);
	}
	buf_drop(&r->pending, n);
	return rc;
}

static void on_token(struct front *f, const struct wire_frame *frame)
{
	if (frame->len < TOKEN_HEADER)
		return;
	uint64_t id;
	memcpy(&id, frame->data, sizeof id);
	struct request *r = find(f, le64toh(id));
	metric_add(&tokens_total, 1);
	if (!r)
		return; /* cancelled meanwhile */
	if (!r->begun && !r->text.len && !r->pending.len)
		metric_observe(&first_token, (double)(clock_ms() - r->started_ms) / 1000);
	if (buf_add(&r->pending, frame->data + TOKEN_HEADER, frame->len - TOKEN_HEADER) ||
	    pass_on(r, false)) {
		/* The client does not take what it asked for, or the answer has no end. */
		struct refusal why;
		cancel(r);
		refuse(&why, 500, NULL, NULL, "the answer outgrew its bound");
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
	struct request *r = find(f, (uint64_t)json_int(v, "id", 0));
	if (!r)
		return;
	const char *reason = json_str(v, "reason", "error");
	int64_t prompt = json_int(v, "prompt_tokens", 0);
	int64_t completion = json_int(v, "completion_tokens", 0);
	if (!strcmp(reason, "error")) {
		struct refusal why; /* before the first token it is the request that is at fault */
		refuse(&why, completion ? 500 : 400, NULL, NULL, json_str(v, "message", "failed"));
		end_with_error(r, &why);
		return;
	}
	const char *finish = strcmp(reason, "length") ? "stop" : "length";
	pass_on(r, true);
	if (r->stream) {
		if (!r->begun)
			web_stream_begin(r->x, 200, "text/event-stream");
		send_chunk(r, NULL, 0, finish);
		end_stream(r, prompt, completion);
	} else {
		answer_whole(r, finish, prompt, completion);
	}
	request_free(r);
}

void front_frame(struct front *f, const struct wire_frame *frame)
{
	if (frame->type == WIRE_TOKEN)
		on_token(f, frame);
	else if (frame->type == WIRE_FINISHED)
		on_finished(f, frame);
}

/* ---- what clients ask
 * ------------------------------------------------------------------------------------ */

static void on_gone(void *user)
{
	struct request *r = user;
	cancel(r);
	request_free(r);
}

static int authorize(const struct front *f, const struct web_exchange *x, struct refusal *r)
{
	if (!f->conf.api_key)
		return 0;
	const char *auth = web_header(x, "authorization");
	size_t n = strlen(f->conf.api_key);
	unsigned char diff = 1;
	if (auth && !strncmp(auth, "Bearer ", 7) && strlen(auth + 7) == n) {
		diff = 0;
		for (size_t i = 0; i < n; i++)
			diff |= (unsigned char)(auth[7 + i] ^ f->conf.api_key[i]);
	}
	return diff ? refuse(r, 401, "invalid_api_key", NULL, "Incorrect API key provided") : 0;
}

static int admit(const struct front *f, size_t body_len, struct refusal *r)
{
	if (f->draining || !f->ready)
		return refuse(r, 503, NULL, NULL,
			      f->draining ? "the server is draining" : "the model is loading");
	if (body_len > LIMIT_REQUEST_BYTES)
		return refuse(r, 413, NULL, NULL, "the request body is too large");
	if (f->count >= f->conf.max_queue)
		return refuse(r, 429, "queue_full", NULL, "too many requests are in flight");
	return 0;
}

static int submit(struct front *f, struct request *q, const char *body, size_t len,
		  struct refusal *r)
{
	json_auto struct json *v = NULL;
	buf_auto struct buf frame;
	struct err e = {0};
	buf_init(&frame, LIMIT_FRAME_BYTES);
	if (json_parse(body, len, &v, &e))
		return refuse(r, 400, NULL, NULL, e.text);
	q->stream = json_bool(v, "stream", false);
	q->include_usage =
		q->stream && json_bool(json_get(v, "stream_options"), "include_usage", false);
	if (translate(f, v, q, &frame, r))
		return -1;
	if (f->conf.send_fn(f->conf.user, WIRE_REQUEST, frame.data))
		return refuse(r, 503, NULL, NULL, "the model does not answer");
	return 0;
}

static void on_completion(struct front *f, struct web_exchange *x, bool chat)
{
	struct refusal why;
	size_t len;
	const char *body = web_body(x, &len);
	struct request *q = NULL;
	if (admit(f, len, &why) == 0 && !(q = mem_zalloc(sizeof *q)))
		refuse(&why, 503, NULL, NULL, "out of memory");
	if (!q) {
		answer_error(x, &why);
		return;
	}
	*q = (struct request){.front = f,
			      .next = f->head,
			      .id = f->next_id++,
			      .x = x,
			      .chat = chat,
			      .started_ms = clock_ms(),
			      .created = clock_wall_ms() / 1000};
	buf_init(&q->text, ANSWER_BYTES);
	buf_init(&q->pending, ANSWER_BYTES);
	f->head = q;
	metric_set(&in_flight, ++f->count);
	if (submit(f, q, body, len, &why)) {
		answer_error(x, &why);
		request_free(q);
		return;
	}
	metric_add(&requests_total, 1);
	web_set_user(x, q, on_gone);
}

static void on_models(const struct front *f, struct web_exchange *x)
{
	buf_auto struct buf out;
	buf_init(&out, 8192);
	struct jsonw w;
	jsonw_init(&w, &out);
	jsonw_open(&w, NULL, '{');
	jsonw_str(&w, "object", "list");
	jsonw_open(&w, "data", '[');
	jsonw_open(&w, NULL, '{');
	jsonw_str(&w, "id", f->conf.model);
	jsonw_str(&w, "object", "model");
	jsonw_int(&w, "created", 0);
	jsonw_str(&w, "owned_by", "llmjob");
	if (f->context_length)
		jsonw_int(&w, "max_model_len", f->context_length);
	jsonw_close(&w);
	jsonw_close(&w);
	jsonw_close(&w);
	jsonw_end(&w);
	web_answer(x, 200, "application/json", buf_cstr(&out), out.len, NULL);
}

static void on_request(void *user, struct web_exchange *x)
{
	struct front *f = user;
	const char *path = web_path(x), *method = web_method(x);
	bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD"),
	     post = !strcmp(method, "POST");
	struct refusal why;
	if (!strcmp(path, "/health") && get) {
		bool well = f->ready && !f->draining;
		web_answer(x, well ? 200 : 503, "application/json",
			   well ? "{\"status\":\"ok\"}" : "{\"status\":\"unavailable\"}",
			   well ? 15 : 24, NULL);
		return;
	}
	bool chat = !strcmp(path, "/v1/chat/completions");
	bool plain = !strcmp(path, "/v1/completions");
	bool models = !strcmp(path, "/v1/models");
	if (authorize(f, x, &why))
		answer_error(x, &why);
	else if (models && get)
		on_models(f, x);
	else if ((chat || plain) && post)
		on_completion(f, x, chat);
	else {
		refuse(&why, chat || plain || models ? 405 : 404, NULL, NULL,
		       "there is nothing at this path for this method");
		answer_error(x, &why);
	}
}

/* ---- the rank's life
 * ------------------------------------------------------------------------------------- */

int front_ready(struct front *f, int64_t context_length, struct err *e)
{
	if (!f->listening) {
		int rc = web_listen(f->conf.web, f->conf.listen_host, f->conf.listen_port,
				    on_request, f, &f->port, e);
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
	while (f->head) {
		struct refusal why;
		refuse(&why, 503, NULL, NULL, "the model was stopped");
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
