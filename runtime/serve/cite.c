/*
 * cite: what was found is copied, since the library changes while the model answers.
 */
#include "runtime/serve/cite.h"

#include "base/clock.h"
#include "base/mem.h"
#include "api/limits.h"
#include "runtime/retrieval/quote.h"

#include <string.h>

#define QUOTES 32 /* of an answer, at most */

struct passage {
    char *file, *title, *text;
    uint64_t file_id;
};

struct cite {
    const struct jobspec_retrieval *spec;
    struct passage passage[LIMIT_RETRIEVAL_RESULTS];
    int count;
    int64_t took_ns;
    struct buf said; /* the beginning of the answer */
};

/* -- what is found -- */

static int keep_passage(struct cite *c, const struct library_hit *h, struct err *e)
{
    struct passage *p = &c->passage[c->count++];
    bool titled = h->title_len && h->text != h->title; /* the text does not begin with it */
    p->file = mem_strdup(h->file);
    p->title = mem_strndup(h->title, titled ? h->title_len : 0);
    p->text = mem_strndup(h->text, h->len);
    p->file_id = h->file_id;
    return p->file && p->title && p->text ? 0 : err_set(e, ERR_USER, "no memory for documents");
}

static int find_passages(struct retrieve *r, struct cite *c, const char *question, struct err *e)
{
    struct library_hit hits[LIMIT_RETRIEVAL_RESULTS];
    const struct retrieve_query q = {question, 1, 1, c->spec->results};
    int64_t from = clock_ns();
    bool related = false;
    int n = retrieve_search(r, &q, hits, e), rc = n < 0 ? n : 0;
    c->took_ns = clock_ns() - from;
    for (int i = 0; i < n; i++)
        related |= hits[i].cosine >= c->spec->min_score;
    for (int i = 0; i < n && related && !rc; i++)
        rc = keep_passage(c, &hits[i], e);
    return rc;
}

static const struct json *last_of(const struct json *messages)
{
    const struct json *last = NULL;
    json_each (m, messages)
        last = m;
    return last;
}

int cite_open(struct retrieve *r, const struct jobspec_retrieval *spec, const struct json *messages,
    struct cite **out, struct err *e)
{
    const struct json *last = last_of(messages);
    const char *question = json_str(last, "content", NULL);
    *out = NULL;
    if (!question || strcmp(json_str(last, "role", ""), "user") != 0)
        return 0;
    struct cite *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_USER, "no memory for documents");
    c->spec = spec;
    buf_init(&c->said, QUOTE_ANSWER);
    int rc = find_passages(r, c, question, e);
    if (rc) {
        cite_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void cite_close(struct cite *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        mem_free(c->passage[i].file);
        mem_free(c->passage[i].title);
        mem_free(c->passage[i].text);
    }
    buf_done(&c->said);
    mem_free(c);
}

int cite_passages(const struct cite *c)
{
    return c->count;
}

double cite_seconds(const struct cite *c)
{
    return (double)c->took_ns / 1e9;
}

/* -- the prompt -- */

static void write_question(const struct cite *c, const char *question, int n, struct buf *out)
{
    buf_str(out, "Documents:\n\n");
    for (int i = 0; i < n; i++) {
        const struct passage *p = &c->passage[i];
        buf_printf(out, "[%d] %s", i + 1, p->file);
        if (*p->title)
            buf_printf(out, ": %s", p->title);
        buf_printf(out, "\n%s\n\n", p->text);
    }
    buf_printf(out,
        "Answer from these documents, in their words. If they do not say it, answer: %s\n\n"
        "Question: %s",
        c->spec->not_found, question);
}

/* What else the message has stays as it is. */
static void write_last(const struct cite *c, const struct json *last, int n, struct jsonw *w)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_FRAME_BYTES);
    write_question(c, json_str(last, "content", ""), n, &text);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "role", "user");
    jsonw_strn(w, "content", buf_cstr(&text), text.len);
    if (json_str(last, "name", NULL))
        jsonw_str(w, "name", json_str(last, "name", NULL));
    jsonw_close(w);
    w->out->failed |= !buf_ok(&text);
}

int cite_messages(
    const struct cite *c, const struct json *messages, int n, struct json **out, struct err *e)
{
    buf_auto struct buf text;
    const struct json *last = last_of(messages);
    struct jsonw w;
    buf_init(&text, LIMIT_FRAME_BYTES);
    jsonw_init(&w, &text);
    jsonw_open(&w, NULL, '[');
    json_each (m, messages) {
        if (m == last) {
            write_last(c, last, n, &w);
            continue;
        }
        jsonw_raw(&w, NULL, "");
        json_print(m, &text);
    }
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_USER, "the messages and the documents have more than %d MiB",
            LIMIT_FRAME_BYTES >> 20);
    return json_parse_within(text.data, text.len, JSON_VALUES + LIMIT_AGENT_VALUES, out, e);
}

/* -- the answer -- */

void cite_hear(struct cite *c, const char *text, size_t len)
{
    size_t room = QUOTE_ANSWER - c->said.len;
    buf_add(&c->said, text, len < room ? len : room);
}

/* Characters of a text up to a byte of it. */
static int64_t characters(const char *text, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void write_citation(const struct cite *c, const struct quote *q, struct jsonw *w)
{
    const struct passage *p = &c->passage[q->source];
    const char *said = buf_cstr(&c->said);
    char id[LIBRARY_FILE_ID];
    library_file_id(p->file_id, id);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "file_citation");
    jsonw_str(w, "file_id", id);
    jsonw_str(w, "filename", p->file);
    jsonw_int(w, "index", q->source);
    jsonw_strn(w, "quote", p->text + q->from, q->to - q->from);
    jsonw_int(w, "start_index", characters(said, q->at));
    jsonw_int(w, "end_index", characters(said, q->at + q->len));
    jsonw_close(w);
}

static int find_quotes(
    const struct cite *c, const char *text, size_t len, struct quote quotes[QUOTES])
{
    struct quote_source sources[LIMIT_RETRIEVAL_RESULTS];
    for (int i = 0; i < c->count; i++)
        sources[i] = (struct quote_source){c->passage[i].text, strlen(c->passage[i].text)};
    return quote_find(text, len, sources, c->count, quotes, QUOTES);
}

int cite_quotes(const struct cite *c, const char *text, size_t len)
{
    struct quote quotes[QUOTES];
    return find_quotes(c, text, len, quotes);
}

int cite_tell(const struct cite *c, struct buf *out)
{
    struct quote quotes[QUOTES];
    struct jsonw w;
    int n = find_quotes(c, buf_cstr(&c->said), c->said.len, quotes);
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '[');
    for (int i = 0; i < n; i++)
        write_citation(c, &quotes[i], &w);
    jsonw_close(&w);
    return jsonw_end(&w) || !buf_ok(&c->said) ? -1 : n;
}

/* -- searches -- */

static void write_hit(const struct library_hit *h, struct jsonw *w)
{
    char id[LIBRARY_FILE_ID];
    library_file_id(h->file_id, id);
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "file_id", id);
    jsonw_str(w, "filename", h->file);
    jsonw_num(w, "score", h->cosine > 0 ? h->cosine < 1 ? h->cosine : 1 : 0);
    jsonw_num(w, "rank_score", h->rank);
    jsonw_open(w, "attributes", '{');
    if (h->title_len)
        jsonw_strn(w, "title", h->title, h->title_len);
    jsonw_close(w);
    jsonw_open(w, "content", '[');
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "type", "text");
    jsonw_strn(w, "text", h->text, h->len);
    jsonw_close(w);
    jsonw_close(w);
    jsonw_close(w);
}

int cite_search(
    struct retrieve *r, const struct json *search, struct buf *out, double *seconds, struct err *e)
{
    struct library_hit hits[LIMIT_RETRIEVAL_FOUND];
    double threshold = json_num(search, "threshold", 0);
    int64_t most = json_int(search, "most", 0), from = clock_ns();
    const struct retrieve_query q = {json_str(search, "query", ""), json_num(search, "words", 1),
        json_num(search, "vectors", 1), (int)most};
    struct jsonw w;
    if (most < 1 || most > LIMIT_RETRIEVAL_FOUND)
        return err_set(e, ERR_USER, "a search finds 1 to %d", LIMIT_RETRIEVAL_FOUND);
    if (!(q.words >= 0 && q.vectors >= 0 && q.words + q.vectors > 0))
        return err_set(e, ERR_USER, "a search weighs words, vectors or both");
    int n = retrieve_search(r, &q, hits, e);
    if (n < 0)
        return n;
    *seconds = (double)(clock_ns() - from) / 1e9;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "object", "vector_store.search_results.page");
    jsonw_open(&w, "search_query", '[');
    jsonw_str(&w, NULL, q.text);
    jsonw_close(&w);
    jsonw_open(&w, "data", '[');
    for (int i = 0; i < n; i++)
        if (hits[i].cosine >= threshold)
            write_hit(&hits[i], &w);
    jsonw_close(&w);
    jsonw_bool(&w, "has_more", false);
    jsonw_null(&w, "next_page");
    jsonw_close(&w);
    return jsonw_end(&w)
        ? err_set(e, ERR_USER, "the results have more than %d bytes", LIMIT_REQUEST_BYTES)
        : 0;
}
