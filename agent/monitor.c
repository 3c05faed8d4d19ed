/*
 * monitor: streams take turns: whose lines went to the rank last stands behind the others, and the
 * source takes its turn when no client's lines wait. What was handed over ends in one place,
 * end_batch, whatever came of it.
 */
#include "agent/monitor_internal.h"

#include "agent/meter.h"
#include "agent/openai.h"
#include "agent/reply.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

#define SAID_BYTES  LIMIT_ITEMS_BYTES
#define LINE_LABELS 64 /* of a text with several */

/* -- life -- */

static void on_change(void *user, const struct alerts_change *c)
{
    struct monitor *m = user;
    m->changed = true;
    hooks_add(m->hooks, c, m->now_ms);
    if (c->firing)
        log_warn("alert fires", LOG_S("alert", c->alert->name), LOG_S("label", c->alert->label),
            LOG_F("share", c->share), LOG_I("texts", c->items));
    else
        log_info("alert resolved", LOG_S("alert", c->alert->name), LOG_F("share", c->share),
            LOG_I("texts", c->items));
}

int monitor_create(const struct jobspec *spec, const char *job_dir, const char *run_dir,
    struct monitor **out, struct err *e)
{
    const char *file = spec->serve.classify.file, *directory = spec->serve.classify.directory;
    *out = NULL;
    if (spec->task != TASK_SERVE || !spec->serve.classify.alert_count)
        return 0;
    struct monitor *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a monitor");
    *m = (struct monitor){.spec = spec, .next_id = MONITOR_ID, .now_ms = clock_ms(), .said_ms = -1};
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++) {
        buf_init(&m->batches[i].frame, LIMIT_FRAME_BYTES);
        buf_init(&m->batches[i].said, SAID_BYTES);
    }
    int rc = alerts_create(
        spec->serve.classify.alerts, spec->serve.classify.alert_count, on_change, m, &m->alerts, e);
    rc = rc ? rc : hooks_create(spec, job_dir, &m->hooks, e);
    if (!rc && (file || directory))
        rc = intake_create(file ? file : directory, directory, &m->intake, e);
    rc = rc ? rc : monitor_keep_create(m, run_dir, e);
    if (rc) {
        monitor_destroy(m);
        return rc;
    }
    monitor_tell_register(m);
    *out = m;
    return 0;
}

static void stream_free(struct watched *s)
{
    struct monitor *m = s->m;
    struct watched **at = &m->streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    m->stream_count--;
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++)
        if (m->batches[i].of == s)
            m->batches[i].of = NULL;
    mem_free(s);
}

/* Behind the others. */
static void stream_last(struct watched *s)
{
    struct watched **at = &s->m->streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->next = NULL;
    while (*at)
        at = &(*at)->next;
    *at = s;
}

void monitor_destroy(struct monitor *m)
{
    if (!m)
        return;
    monitor_keep_end(m);
    while (m->streams)
        stream_free(m->streams);
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++) {
        buf_done(&m->batches[i].frame);
        buf_done(&m->batches[i].said);
    }
    intake_destroy(m->intake);
    hooks_destroy(m->hooks);
    alerts_destroy(m->alerts);
    mem_free(m);
}

/* -- what comes of a text -- */

static int labels_of(const struct json *element, const char *out[LINE_LABELS])
{
    const struct json *several = json_get(element, "labels");
    int n = 0;
    if (!several)
        out[n++] = json_str(element, "label", "");
    json_each (one, several)
        if (n < LINE_LABELS && json_string_value(one))
            out[n++] = json_string_value(one);
    return n;
}

static void count_text(struct monitor *m, const struct monitor_line *l, const struct json *element)
{
    const char *labels[LINE_LABELS];
    int n = labels_of(element, labels);
    for (int i = 0; i < n; i++)
        monitor_tell_text(labels[i]);
    if (l->ms > m->said_ms) {
        m->said_ms = l->ms;
        m->heard_ms = m->now_ms;
    }
    m->texts++;
    m->late += !alerts_add(m->alerts, l->ms, labels, n);
    m->changed = true;
}

static void batch_free(struct watched_batch *b)
{
    buf_reset(&b->frame);
    buf_reset(&b->said);
    b->id = 0;
    b->of = NULL;
    b->count = b->texts = 0;
    b->bytes = 0;
    b->source = b->sent = false;
}

static void end_stream(struct watched *s)
{
    if (!s->begun) /* no line was in it */
        web_stream_begin(s->x, 200, "application/x-ndjson");
    web_stream_end(s->x);
    stream_free(s);
}

/* What lacks its end must not look whole: its last line says so. */
static void end_early(struct watched *s)
{
    static const char last[] = "{\"error\":\"the model was stopped\"}\n";
    struct openai_refusal why;
    if (s->begun) {
        web_stream_data(s->x, last, sizeof last - 1);
        end_stream(s);
        return;
    }
    openai_refuse(&why, 503, NULL, NULL, "the model was stopped");
    reply_error(s->x, &why);
    stream_free(s);
}

/* All that was sent of it is answered: is there more? */
static void end_if_over(struct watched *s)
{
    size_t len;
    web_body(s->x, &len);
    if (!s->asks && s->at == len)
        end_stream(s);
}

static void answer_client(struct watched *s, const struct buf *out)
{
    if (!s->begun)
        web_stream_begin(s->x, 200, "application/x-ndjson");
    s->begun = true;
    s->asks = false;
    stream_last(s);
    if (!buf_ok(out) || web_stream_data(s->x, out->data, out->len)) {
        end_early(s);
        return;
    }
    end_if_over(s);
}

/* elements: of the answer to its texts; NULL: there is none, and why. */
static void end_batch(
    struct monitor *m, struct watched_batch *b, const struct json *elements, const char *why)
{
    const struct json *element = json_first(elements);
    struct watched *s = b->of;
    buf_auto struct buf out;
    buf_init(&out, SAID_BYTES);
    for (int i = 0; i < b->count; i++) {
        const struct monitor_line *l = &b->lines[i];
        const struct json *said = *l->wrong ? NULL : element;
        if (said)
            count_text(m, l, said);
        else
            m->wrong++;
        if (s)
            monitor_line_answer(l, said, why, &out);
        element = *l->wrong ? element : json_next(element);
    }
    if (b->source) {
        if (!elements && b->texts)
            log_warn("texts of the source were not classified", LOG_S("why", why));
        intake_mark(m->intake);
        m->changed = true;
    }
    batch_free(b);
    if (s)
        answer_client(s, &out);
}

/* -- the rank -- */

void monitor_set_rank(struct monitor *m,
    int (*send_fn)(void *user, enum wire_type type, const char *json), void *user)
{
    if (!m)
        return;
    m->send_fn = send_fn;
    m->user = user;
}

void monitor_ready(struct monitor *m)
{
    if (!m)
        return;
    m->ready = true;
    m->draining = false;
}

void monitor_lost(struct monitor *m)
{
    if (!m)
        return;
    m->ready = false;
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++) {
        struct watched_batch *b = &m->batches[i];
        b->sent = false;
        buf_reset(&b->said);
        if (b->id && !b->source)
            end_batch(m, b, NULL, "the model was stopped");
    }
    while (m->streams)
        end_early(m->streams);
}

void monitor_drain(struct monitor *m)
{
    if (m)
        m->draining = true;
}

static struct watched_batch *find_batch(struct monitor *m, uint64_t id)
{
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++)
        if (m->batches[i].id == id && m->batches[i].sent)
            return &m->batches[i];
    return NULL;
}

static void on_finished(struct monitor *m, struct watched_batch *b, const struct json *v)
{
    json_auto struct json *elements = NULL;
    struct err e = {0};
    buf_auto struct buf list;
    buf_init(&list, SAID_BYTES + 2);
    meter_read(v);
    if (strcmp(json_str(v, "reason", ""), "stop") != 0) {
        end_batch(m, b, NULL, json_str(v, "message", "the model refused it"));
        return;
    }
    buf_printf(&list, "[%s]", buf_cstr(&b->said));
    bool read = buf_ok(&b->said) && buf_ok(&list) &&
        !json_parse_within(list.data, list.len, LIMIT_FRAME_VALUES, &elements, &e) &&
        json_count(elements) == (size_t)b->texts;
    end_batch(m, b, read ? elements : NULL, "the model's answer cannot be read");
}

bool monitor_frame(struct monitor *m, const struct wire_frame *frame)
{
    struct wire_token head;
    if (!m || !monitor_at_rank(m))
        return false;
    if (frame->type != WIRE_FINISHED) {
        bool ours = wire_take_token(frame, &head) && head.request >= MONITOR_ID;
        struct watched_batch *b = ours ? find_batch(m, head.request) : NULL;
        if (b && frame->type == WIRE_TOKEN)
            buf_add(&b->said, frame->data + WIRE_TOKEN_BYTES, frame->len - WIRE_TOKEN_BYTES);
        return ours;
    }
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e) ||
        json_int(v, "id", 0) < (int64_t)MONITOR_ID)
        return false;
    struct watched_batch *b = find_batch(m, (uint64_t)json_int(v, "id", 0));
    if (b)
        on_finished(m, b, v);
    return true;
}

/* -- lines become requests -- */

static void batch_begin(struct monitor *m, struct watched_batch *b)
{
    b->id = m->next_id++;
    buf_printf(&b->frame, "{\"id\":%llu,\"read\":\"classify\",\"truncate\":-1,\"input\":[",
        (unsigned long long)b->id);
}

/* Of b->lines the next; text (len) is there if nothing is wrong. */
static void batch_add(struct watched_batch *b, const char *text, size_t len)
{
    if (*b->lines[b->count++].wrong)
        return;
    struct jsonw w;
    jsonw_init(&w, &b->frame);
    buf_str(&b->frame, b->texts ? "," : "");
    jsonw_strn(&w, NULL, text, len);
    b->texts++;
    b->bytes += len;
}

static bool batch_full(const struct watched_batch *b)
{
    return b->count == MONITOR_TEXTS || b->bytes >= MONITOR_BYTES;
}

/* A request to the rank, or an end where there is no text. */
static void batch_send(struct monitor *m, struct watched_batch *b)
{
    if (!b->texts) {
        end_batch(m, b, NULL, "");
        return;
    }
    if (!buf_ok(&b->frame)) {
        end_batch(m, b, NULL, "out of memory");
        return;
    }
    b->sent = !m->send_fn(m->user, WIRE_REQUEST, b->frame.data);
}

static void line_add(struct watched_batch *b, int64_t index, const char *line, size_t len)
{
    json_auto struct json *tree = NULL;
    const char *text;
    struct monitor_line *l = &b->lines[b->count];
    l->index = index;
    monitor_line_read(line, len, clock_wall_ms(), l, &tree, &text);
    batch_add(b, text, text ? strlen(text) : 0);
}

static bool is_blank(const char *line, size_t len)
{
    while (len && strchr(" \t\r", line[len - 1]))
        len--;
    return !len;
}

static void fill_of_client(struct monitor *m, struct watched_batch *b, struct watched *s)
{
    size_t all;
    const char *body = web_body(s->x, &all);
    batch_begin(m, b);
    b->of = s;
    while (s->at < all && !batch_full(b)) {
        const char *line = body + s->at, *end = memchr(line, '\n', all - s->at);
        size_t len = end ? (size_t)(end - line) : all - s->at;
        s->at += len + (end ? 1 : 0);
        if (!is_blank(line, len))
            line_add(b, s->lines++, line, len);
    }
    s->asks = true;
    buf_str(&b->frame, "]}");
    batch_send(m, b);
}

/* A file's text, of the directory that is followed. */
static void text_add(struct watched_batch *b, const struct follow_item *item)
{
    struct monitor_line *l = &b->lines[b->count];
    *l = (struct monitor_line){.ms = item->ms, .wrong = "it is empty"};
    if (item->len)
        *l->wrong = 0;
    batch_add(b, item->text, item->len);
}

static void tell_wrong(const struct monitor_line *l, const struct follow_item *item)
{
    if (*l->wrong)
        log_warn("passed over in the source", LOG_S("what", item->name ? item->name : "a line"),
            LOG_S("why", l->wrong));
}

static void fill_of_source(struct monitor *m, struct watched_batch *b)
{
    struct follow_item item;
    batch_begin(m, b);
    while (!batch_full(b) && intake_next(m->intake, &item)) {
        if (!item.name && !item.cut && is_blank(item.text, item.len))
            continue;
        if (item.name)
            text_add(b, &item);
        else
            line_add(b, 0, item.text, item.cut ? MONITOR_LINE_BYTES + 1 : item.len);
        tell_wrong(&b->lines[b->count - 1], &item);
    }
    if (!b->count) {
        batch_free(b);
        return;
    }
    b->source = true;
    buf_str(&b->frame, "]}");
    batch_send(m, b);
}

static struct watched_batch *free_batch(struct monitor *m)
{
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++)
        if (!m->batches[i].id)
            return &m->batches[i];
    return NULL;
}

/* Whose turn it is. */
static struct watched *next_stream(struct monitor *m)
{
    struct watched *s = m->streams;
    while (s && (s->asks || web_stream_left(s->x) >= MONITOR_LEFT))
        s = s->next;
    return s;
}

static bool source_waits(const struct monitor *m)
{
    if (!m->intake || m->draining)
        return false;
    const struct intake_view v = intake_view(m->intake);
    if (!v.waiting || (!v.whole && v.waiting < MONITOR_TEXTS))
        return false;
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++)
        if (m->batches[i].source)
            return false;
    return true;
}

static void hand_lines(struct monitor *m)
{
    struct watched_batch *b;
    for (int i = 0; i < LIMIT_RANK_WATCHING && m->ready; i++)
        if (m->batches[i].id && !m->batches[i].sent)
            batch_send(m, &m->batches[i]);
    while (m->ready && (b = free_batch(m))) {
        struct watched *s = next_stream(m);
        if (s)
            fill_of_client(m, b, s);
        else if (source_waits(m))
            fill_of_source(m, b);
        else
            return;
    }
}

/* -- what clients ask -- */

static void on_gone(void *user)
{
    struct watched *s = user;
    struct monitor *m = s->m;
    for (int i = 0; i < LIMIT_RANK_WATCHING; i++) {
        struct watched_batch *b = &m->batches[i];
        char json[48];
        if (b->of != s)
            continue;
        snprintf(json, sizeof json, "{\"id\":%llu}", (unsigned long long)b->id);
        if (b->sent)
            m->send_fn(m->user, WIRE_CANCEL, json);
        else
            batch_free(b);
    }
    stream_free(s);
}

static void on_posted(struct monitor *m, struct web_exchange *x)
{
    struct openai_refusal why;
    struct watched *s = NULL, **at = &m->streams;
    if (!m->ready || m->draining)
        openai_refuse(&why, 503, NULL, NULL, "%s",
            m->draining ? "the server is draining" : "the model is loading");
    else if (m->stream_count >= MONITOR_STREAMS)
        openai_refuse(&why, 429, "queue_full", NULL, "too many streams are watched");
    else if (!(s = mem_zalloc(sizeof *s)))
        openai_refuse(&why, 503, NULL, NULL, "out of memory");
    if (!s) {
        reply_error(x, &why);
        return;
    }
    *s = (struct watched){.m = m, .x = x};
    while (*at)
        at = &(*at)->next;
    *at = s;
    m->stream_count++;
    meter_accepted();
    web_set_user(x, s, on_gone);
    size_t len;
    web_body(x, &len);
    if (!len)
        end_stream(s);
    hand_lines(m);
}

void monitor_request(struct monitor *m, struct web_exchange *x)
{
    const char *method = web_method(x);
    if (!strcmp(method, "POST")) {
        on_posted(m, x);
    } else if (!strcmp(method, "GET")) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        monitor_tell_state(m, &out);
        reply_json(x, 200, &out);
    } else {
        reply_no_method(x, "GET, POST, OPTIONS");
    }
}

/* -- time -- */

/* Said once, until it answers. */
static void say_late(struct monitor *m)
{
    int64_t source_ms = m->source.late_ms, state_ms = saver_late_ms(m->saver);
    bool late = source_ms || state_ms;
    if (late && !m->late_said)
        log_warn(source_ms ? "the source does not answer"
                           : "the folder of what is watched does not answer",
            LOG_I("seconds", (source_ms ? source_ms : state_ms) / 1000));
    if (!late && m->late_said)
        log_info("the folders of what is watched answer again");
    m->late_said = late;
}

void monitor_tick(struct monitor *m, int64_t now_ms)
{
    if (!m)
        return;
    m->now_ms = now_ms;
    monitor_keep_tick(m);
    hand_lines(m);
    if (m->intake)
        m->source = intake_view(m->intake);
    say_late(m);
    /* what is still to be read is no silence */
    if (!m->ready || monitor_at_rank(m) || m->streams || m->source.behind)
        m->heard_ms = now_ms;
    int64_t since_ms = now_ms - m->heard_ms - MONITOR_GRACE_MS;
    if (m->said_ms >= 0 && since_ms > 0)
        alerts_advance(m->alerts, m->said_ms + since_ms);
    hooks_tick(m->hooks, now_ms);
    monitor_tell_measure(m);
}

int monitor_streams(const struct monitor *m)
{
    return m ? m->stream_count : 0;
}

int monitor_at_rank(const struct monitor *m)
{
    int n = 0;
    for (int i = 0; m && i < LIMIT_RANK_WATCHING; i++)
        n += m->batches[i].sent;
    return n;
}
