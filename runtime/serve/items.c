/*
 * items: texts are read in the order of the answer's elements, so that nothing is kept but the one
 * embedding that others are compared with, and a ranking's scores.
 */
#include "runtime/serve/items.h"

#include "api/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/serve/vectors.h"
#include "runtime/serve/words.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define NUMBER_BYTES 16 /* of an embedding's number as text, its comma included */

/* -- what is asked -- */

static int read_kind(struct items_asked *t, struct err *e)
{
    static const char *const names[] = {"embed", "classify", "compare", "rank", "recommend"};
    const char *kind = json_str(t->body, "read", "");
    for (int i = 0; i < 5; i++)
        if (!strcmp(kind, names[i])) {
            t->kind = (enum items_kind)i;
            return 0;
        }
    return err_set(e, ERR_USER, "the model reads texts, and does not go on with them");
}

static bool compares(const struct items_asked *t)
{
    return t->kind == ITEMS_COMPARE || t->kind == ITEMS_RANK;
}

/* Can the model do it? */
static int check_kind(const struct items_asked *t, struct err *e)
{
    const struct reader_facts *f = reader_facts(t->reader);
    bool embeds = f->does == WIRE_DOES_EMBED;
    if (t->kind == ITEMS_EMBED && !embeds)
        return err_set(e, ERR_USER, "the model tells labels, and has no embeddings");
    if (t->kind == ITEMS_CLASSIFY && embeds)
        return err_set(e, ERR_USER, "the model embeds texts, and has no labels");
    if (compares(t) && !embeds && (f->does == WIRE_DOES_TAG || f->several || f->labels > 2))
        return err_set(e, ERR_USER,
            "texts are compared by embeddings, or by a classifier of pairs with one label or two; "
            "this model %s",
            f->does == WIRE_DOES_TAG ? "labels words" : "has others");
    return 0;
}

static int count_texts(struct items_asked *t, struct err *e)
{
    const struct json *first = json_get(t->body, compares(t) ? "first" : "input"),
                      *second = json_get(t->body, "second");
    size_t n = json_count(first), m = json_count(second);
    t->first = t->told = json_first(first);
    t->second = json_first(second);
    t->count = (int64_t)(compares(t) ? m : n);
    t->single = n == 1;
    t->paired = compares(t) && reader_facts(t->reader)->does != WIRE_DOES_EMBED;
    if (!t->count || t->count > LIMIT_ITEMS || (compares(t) && n != 1 && n != m))
        return err_set(e, ERR_USER, "a request has 1 to %d texts, or pairs of them", LIMIT_ITEMS);
    t->texts = !compares(t) || t->paired ? t->count : t->single ? 1 + t->count : 2 * t->count;
    return 0;
}

/* Of an answer that would be too long the request says so before anything is computed. */
static int read_form(struct items_asked *t, struct err *e)
{
    int64_t dim = reader_facts(t->reader)->dim;
    bool base64 = json_bool(t->body, "base64", false);
    t->dimensions = json_int(t->body, "dimensions", dim);
    if (t->dimensions < 1 || t->dimensions > dim)
        return err_set(
            e, ERR_USER, "dimensions: the model's embeddings have 1 to %lld", (long long)dim);
    int64_t each = base64 ? t->dimensions * 16 / 3 : t->dimensions * NUMBER_BYTES;
    if (t->kind == ITEMS_EMBED && t->count * (each + 64) > LIMIT_ITEMS_BYTES)
        return err_set(e, ERR_USER,
            "%lld embeddings of %lld numbers exceed the %d MiB of an answer: ask for fewer%s",
            (long long)t->count, (long long)t->dimensions, LIMIT_ITEMS_BYTES >> 20,
            base64 ? "" : ", or for encoding_format base64");
    return 0;
}

static int read_most(struct items_asked *t, struct err *e)
{
    int64_t context = reader_facts(t->reader)->context;
    const struct json *most = json_get(t->body, "truncate");
    if (!most)
        return 0;
    t->most = json_int(t->body, "truncate", 0);
    if (t->most > context)
        return err_set(e, ERR_USER, "truncate_prompt_tokens: the model reads %lld tokens at most",
            (long long)context);
    t->most = t->most < 0 ? context : t->most;
    return 0;
}

static int open_recommended(struct items_asked *t, struct recommend *rec, struct err *e)
{
    if (!rec)
        return err_set(e, ERR_USER, "the job has no spec.serve.recommend");
    int rc = recommend_ask(rec, t->body, &t->recommends, e);
    t->texts = t->recommends.texts;
    return rc;
}

int items_open(struct items_asked *t, const struct reader *r, struct recommend *rec,
    const char *text, size_t len, struct err *e)
{
    int64_t dim = reader_facts(r)->dim;
    *t = (struct items_asked){.reader = r};
    int rc = json_parse_within(text, len, JSON_VALUES + LIMIT_AGENT_VALUES, &t->body, e);
    if (rc || (rc = read_kind(t, e)) || (rc = read_most(t, e)))
        return rc;
    if (t->kind == ITEMS_RECOMMEND)
        return open_recommended(t, rec, e);
    if ((rc = check_kind(t, e)) || (rc = count_texts(t, e)) || (rc = read_form(t, e)))
        return rc;
    t->kept = mem_array((size_t)dim, sizeof *t->kept);
    t->scores = mem_array((size_t)t->count, sizeof *t->scores);
    return t->kept && t->scores
        ? 0
        : err_set(e, ERR_USER, "the request needs more memory than one may have");
}

void items_done(struct items_asked *t)
{
    recommend_done(&t->recommends);
    json_destroy(t->body);
    mem_free(t->kept);
    mem_free(t->scores);
    *t = (struct items_asked){.reader = NULL};
}

/* -- texts to tokens -- */

static int read_ids(
    struct items_asked *t, const struct json *list, struct tok_ids *ids, struct err *e)
{
    int64_t from = ids->count, context = reader_facts(t->reader)->context;
    int rc = 0;
    json_each (id, list) {
        double n = json_number_value(id);
        if (!rc && (!t->most || ids->count - from < t->most))
            rc = tok_ids_add(ids, n >= 0 && n <= INT32_MAX ? (int32_t)n : -1, e);
    }
    if (!rc && (ids->count == from || ids->count - from > context))
        rc = err_set(e, ERR_USER, "it has %lld tokens: the model reads 1 to %lld",
            (long long)(ids->count - from), (long long)context);
    return rc;
}

/* As a training has them: each word's tokens by themselves. */
static int read_words(struct items_asked *t, const char *text, struct tok_ids *ids, struct err *e)
{
    const struct tok *tok = reader_tok(t->reader);
    const struct tok_affix *prefix = tok_prefix(tok), *suffix = tok_suffix(tok);
    int64_t from = ids->count, context = t->most ? t->most : reader_facts(t->reader)->context;
    struct words_word w = {0, 0};
    int rc = 0;
    for (int i = 0; i < prefix->count && !rc; i++)
        rc = tok_ids_add(ids, prefix->id[i], e);
    while (!rc && words_next(text, (int64_t)strlen(text), &w)) {
        int64_t before = ids->count;
        rc = tok_encode_word(tok, text + w.at, w.end - w.at, ids, e);
        if (!rc && ids->count - from + suffix->count > context) {
            ids->count = before;
            if (!t->most)
                rc = err_set(e, ERR_USER, "it has more than the %lld tokens that the model reads",
                    (long long)context);
            break;
        }
    }
    for (int i = 0; i < suffix->count && !rc; i++)
        rc = tok_ids_add(ids, suffix->id[i], e);
    return rc || ids->count > from ? rc : err_set(e, ERR_USER, "it is empty");
}

static int read_text(struct items_asked *t, const struct json *from, struct tok_ids *ids,
    struct tok_ids *types, struct err *e)
{
    const struct reader_text text = {.first = json_string_value(from), .most = t->most};
    bool words = reader_facts(t->reader)->does == WIRE_DOES_TAG;
    int64_t before = ids->count;
    int rc;
    if (text.first && !words)
        return reader_tokens(t->reader, &text, ids, types, e);
    if (words && !text.first)
        return err_set(e, ERR_USER, "a model that labels words reads texts, not token ids");
    if ((rc = words ? read_words(t, text.first, ids, e) : read_ids(t, from, ids, e)))
        return rc;
    for (int64_t i = before; i < ids->count && !rc; i++)
        rc = tok_ids_add(types, 0, e);
    return rc;
}

static int read_pair(
    struct items_asked *t, struct tok_ids *ids, struct tok_ids *types, struct err *e)
{
    const struct reader_text pair = {.first = json_string_value(t->first),
        .second = json_string_value(t->second),
        .most = t->most};
    t->second = json_next(t->second);
    t->first = t->single ? t->first : json_next(t->first);
    return reader_tokens(t->reader, &pair, ids, types, e);
}

/* Of texts that are compared: the first one, or of each pair its first, then the second. */
static const struct json *take_one(struct items_asked *t)
{
    if (t->kind == ITEMS_RECOMMEND)
        return recommend_text(&t->recommends, t->next);
    bool first = !compares(t) || (t->single ? !t->next : t->next % 2 == 0);
    const struct json **at = first ? &t->first : &t->second, *v = *at;
    *at = json_next(v);
    return v;
}

int items_read(struct items_asked *t, struct tok_ids *ids, struct tok_ids *types, struct err *e)
{
    int64_t before = ids->count;
    assert(t->next < t->texts);
    int rc = t->paired ? read_pair(t, ids, types, e) : read_text(t, take_one(t), ids, types, e);
    const struct encoder_text text = {ids->id + before, types->id + before, ids->count - before};
    if (rc || (rc = reader_check(t->reader, &text, e)))
        return err_wrap(e, "%s number %lld", t->paired ? "pair" : "text", (long long)t->next);
    t->tokens += ids->count - before;
    t->next++;
    return 0;
}

/* -- what is said of them -- */

static void write_number(struct jsonw *w, const char *key, double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", x);
    jsonw_raw(w, key, isfinite(x) ? text : "null");
}

/* The index of an element is its place among those that there are. */
static void begin_element(struct jsonw *w, struct buf *out, bool first, int64_t index)
{
    if (!first)
        buf_str(out, ",");
    jsonw_init(w, out);
    jsonw_open(w, NULL, '{');
    jsonw_int(w, "index", index);
}

/* Little-endian F32 in base64 (RFC 4648), as OpenAI's client reads it. */
static int add_base64(struct jsonw *w, const float *x, int64_t n, struct err *e)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)x;
    size_t size = (size_t)n * sizeof *x, at = 0;
    mem_autofree char *text = mem_array(size / 3 + 1, 4);
    if (!text)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
            (left > 2 ? p[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            text[at++] = k <= left ? letters[v >> (18 - 6 * k) & 63] : '=';
    }
    jsonw_strn(w, "embedding", text, at);
    return 0;
}

/* The first `dimensions` of it, of length 1 again if all of it is. */
static int tell_embedding(struct items_asked *t, const float *found, struct buf *out, struct err *e)
{
    const struct reader_facts *f = reader_facts(t->reader);
    int64_t n = t->dimensions;
    struct jsonw w;
    memcpy(t->kept, found, (size_t)n * sizeof *found);
    if (f->normalized && n < f->dim)
        reader_normalize(t->kept, n);
    begin_element(&w, out, !t->taken, t->taken);
    jsonw_str(&w, "object", "embedding");
    if (json_bool(t->body, "base64", false)) {
        int rc = add_base64(&w, t->kept, n, e);
        if (rc)
            return rc;
    } else {
        jsonw_open(&w, "embedding", '[');
        for (int64_t i = 0; i < n; i++)
            write_number(&w, NULL, (double)t->kept[i]);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    return 0;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Of label i, from n logits: among all, or by itself. */
static double probability(const struct reader_facts *f, const float *logits, int64_t i)
{
    double most = (double)logits[0], sum = 0;
    if (f->several || f->labels == 1)
        return sigmoid((double)logits[i]);
    for (int64_t k = 1; k < f->labels; k++)
        most = (double)logits[k] > most ? (double)logits[k] : most;
    for (int64_t k = 0; k < f->labels; k++)
        sum += exp((double)logits[k] - most);
    return exp((double)logits[i] - most) / sum;
}

static int64_t likeliest(const struct reader_facts *f, const float *logits)
{
    int64_t best = 0;
    for (int64_t k = 1; k < f->labels; k++)
        best = logits[k] > logits[best] ? k : best;
    return best;
}

static void tell_labels(struct items_asked *t, const float *logits, struct buf *out)
{
    const struct reader_facts *f = reader_facts(t->reader);
    struct jsonw w;
    begin_element(&w, out, !t->taken, t->taken);
    jsonw_str(&w, "label", f->names[likeliest(f, logits)]);
    jsonw_open(&w, "probs", '[');
    for (int64_t k = 0; k < f->labels; k++)
        write_number(&w, NULL, probability(f, logits, k));
    jsonw_close(&w);
    jsonw_int(&w, "num_classes", f->labels);
    if (f->several) { /* a logit above 0 */
        jsonw_open(&w, "labels", '[');
        for (int64_t k = 0; k < f->labels; k++)
            if (logits[k] > 0)
                jsonw_str(&w, NULL, f->names[k]);
        jsonw_close(&w);
    }
    jsonw_close(&w);
}

/* -- entities -- */

static int64_t characters(const char *text, int64_t bytes)
{
    int64_t n = 0;
    for (int64_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void write_entity(struct jsonw *w, const char *text, const struct words_entity *x)
{
    int64_t at = x->place.at, start = characters(text, at), bytes = x->place.end - at;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "entity_group", x->kind);
    write_number(w, "score", x->sum / (double)x->words);
    jsonw_strn(w, "word", text + at, (size_t)bytes);
    jsonw_int(w, "start", start);
    jsonw_int(w, "end", start + characters(text + at, bytes));
    jsonw_close(w);
}

/* A word is told of at its first token, which a walk as that of read_words finds. */
static int walk_entities(const struct items_asked *t, const char *text, const float *logits,
    int64_t rows, struct jsonw *w, struct err *e)
{
    const struct reader_facts *f = reader_facts(t->reader);
    const struct tok *tok = reader_tok(t->reader);
    int64_t row = tok_prefix(tok)->count, end = rows - tok_suffix(tok)->count;
    struct tok_ids ids = {.id = NULL};
    struct words_entity x = {.kind = NULL}, ended;
    struct words_word at = {0, 0};
    int rc = 0;
    while (!rc && row < end && words_next(text, (int64_t)strlen(text), &at)) {
        const float *own = logits + row * f->labels;
        ids.count = 0;
        rc = tok_encode_word(tok, text + at.at, at.end - at.at, &ids, e);
        int64_t best = likeliest(f, own);
        if (!rc && ids.count &&
            words_add(&x, &at, f->names[best], probability(f, own, best), &ended))
            write_entity(w, text, &ended);
        row += ids.count;
    }
    if (!rc && x.kind)
        write_entity(w, text, &x);
    tok_ids_done(&ids);
    return rc;
}

static int tell_entities(
    struct items_asked *t, const float *logits, int64_t rows, struct buf *out, struct err *e)
{
    const char *text = json_string_value(t->told);
    struct jsonw w;
    begin_element(&w, out, !t->taken, t->taken);
    jsonw_open(&w, "entities", '[');
    int rc = walk_entities(t, text, logits, rows, &w, e);
    jsonw_close(&w);
    jsonw_int(&w, "num_classes", reader_facts(t->reader)->labels);
    jsonw_close(&w);
    t->told = json_next(t->told);
    return rc;
}

/* -- two texts -- */

static void say_score(struct items_asked *t, int64_t i, double score, struct buf *out)
{
    struct jsonw w;
    t->scores[i] = (float)score;
    if (t->kind == ITEMS_RANK)
        return;
    begin_element(&w, out, !i, i);
    jsonw_str(&w, "object", "score");
    write_number(&w, "score", score);
    jsonw_close(&w);
}

/* Of two labels the second is that the texts belong together. */
static void tell_pair(struct items_asked *t, const float *found, struct buf *out)
{
    const struct reader_facts *f = reader_facts(t->reader);
    bool first = t->single ? !t->taken : t->taken % 2 == 0;
    if (t->paired)
        say_score(t, t->taken, probability(f, found, f->labels - 1), out);
    else if (first)
        memcpy(t->kept, found, (size_t)f->dim * sizeof *found);
    else
        say_score(t, t->single ? t->taken - 1 : t->taken / 2,
            vectors_cosine(t->kept, found, f->dim), out);
}

/* -- a ranking -- */

struct items_ranked {
    float score;
    int64_t index;
};

static int by_score(const void *x, const void *y)
{
    const struct items_ranked *a = x, *b = y;
    int order = (a->score < b->score) - (a->score > b->score);
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

static int tell_ranking(struct items_asked *t, struct buf *out, struct err *e)
{
    int64_t top = json_int(t->body, "top", t->count);
    mem_autofree struct items_ranked *all = mem_array((size_t)t->count, sizeof *all);
    mem_autofree const struct json **text = mem_array((size_t)t->count, sizeof *text);
    int64_t i = 0;
    if (!all || !text)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    json_each (document, json_get(t->body, "second")) {
        all[i] = (struct items_ranked){t->scores[i], i};
        text[i++] = document;
    }
    qsort(all, (size_t)t->count, sizeof *all, by_score);
    for (i = 0; i < t->count && i < top; i++) {
        struct jsonw w;
        begin_element(&w, out, !i, all[i].index);
        if (json_bool(t->body, "documents", true)) {
            jsonw_open(&w, "document", '{');
            jsonw_str(&w, "text", json_string_value(text[all[i].index]));
            jsonw_close(&w);
        }
        write_number(&w, "relevance_score", (double)all[i].score);
        jsonw_close(&w);
    }
    return 0;
}

/* Behind the last text: what all of them lead to. */
static int tell_end(struct items_asked *t, struct buf *out, struct err *e)
{
    if (t->kind == ITEMS_RECOMMEND)
        return recommend_tell(&t->recommends, out, e);
    return t->kind == ITEMS_RANK ? tell_ranking(t, out, e) : 0;
}

static int refuse_length(struct err *e)
{
    return err_set(e, ERR_USER, "the answer would be longer than %d MiB: ask for fewer",
        LIMIT_ITEMS_BYTES >> 20);
}

int items_tell_at_once(struct items_asked *t, struct buf *out, struct err *e)
{
    int rc = tell_end(t, out, e);
    return rc || buf_ok(out) ? rc : refuse_length(e);
}

int items_tell(
    struct items_asked *t, const float *found, int64_t rows, struct buf *out, struct err *e)
{
    size_t before = out->len;
    int rc = 0;
    if (t->kind == ITEMS_RECOMMEND)
        recommend_take(&t->recommends, found);
    else if (t->kind == ITEMS_EMBED)
        rc = tell_embedding(t, found, out, e);
    else if (compares(t))
        tell_pair(t, found, out);
    else if (reader_facts(t->reader)->does == WIRE_DOES_TAG)
        rc = tell_entities(t, found, rows, out, e);
    else
        tell_labels(t, found, out);
    t->taken++;
    if (!rc && items_over(t))
        rc = tell_end(t, out, e);
    t->said += out->len - before;
    return rc || (buf_ok(out) && t->said <= LIMIT_ITEMS_BYTES) ? rc : refuse_length(e);
}
