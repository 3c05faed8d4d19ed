/*
 * recommend: an item's number in the catalogue is its id in the index, so that a search, which sees
 * each vector once, adds up the other parts beside it.
 */
#include "runtime/serve/recommend.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/serve/catalogue.h"
#include "runtime/serve/kept.h"
#include "runtime/serve/vectors.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TEXT "text" /* the part that is no feature */
#define TOP  10     /* items of an answer, where nothing is said */

struct recommend {
    const struct jobspec_serve *serve;
    struct catalogue *catalogue;
    struct vectors *vectors;
    struct reader *reader;
    int64_t embedded; /* items whose vectors were not kept */
    bool *out;        /* (items) of a request: what is left out */
};

/* -- the catalogue's vectors -- */

struct embedding { /* of items' texts, some at a time */
    struct recommend *r;
    struct kept_folder *kept; /* or NULL */
    int64_t made;             /* of them: those that were not kept */
    struct tok_ids ids, types;
    struct encoder_text texts[ENCODER_TEXTS];
    int64_t from[ENCODER_TEXTS + 1]; /* in ids */
    int n;
    int64_t next; /* item */
    float *found; /* (ENCODER_TEXTS, dim) */
};

static int refuse_item(const struct embedding *b, int64_t item, struct err *e)
{
    return err_wrap(
        e, "%s: item \"%.60s\"", b->r->serve->recommend.items, catalogue_id(b->r->catalogue, item));
}

/* Those of a pass; the first item's place is b->next - b->n. */
static int embed_pass(struct embedding *b, struct err *e)
{
    int64_t dim = reader_facts(b->r->reader)->dim, item = b->next - b->n;
    for (int i = 0; i < b->n; i++)
        b->texts[i] = (struct encoder_text){
            b->ids.id + b->from[i], b->types.id + b->from[i], b->from[i + 1] - b->from[i]};
    int rc = kept_embed(b->kept, b->r->reader, b->texts, b->n, b->found, &b->made, e);
    for (int i = 0; i < b->n && !rc; i++)
        if ((rc = vectors_put(b->r->vectors, item + i, b->found + i * dim, e)))
            return refuse_item(b, item + i, e);
    b->n = 0;
    b->ids.count = b->types.count = 0;
    return rc;
}

static int add_item(struct embedding *b, struct err *e)
{
    const struct reader *reader = b->r->reader;
    const struct reader_text text = {
        .first = catalogue_text(b->r->catalogue, b->next), .most = reader_facts(reader)->context};
    int rc = 0;
    if (b->n == ENCODER_TEXTS || (b->n && b->ids.count + text.most > reader_rows(reader)))
        rc = embed_pass(b, e);
    if (rc)
        return rc;
    b->from[b->n] = b->ids.count;
    if (reader_tokens(reader, &text, &b->ids, &b->types, e))
        return refuse_item(b, b->next, e);
    b->from[++b->n] = b->ids.count;
    b->next++;
    return 0;
}

int64_t recommend_embedded(const struct recommend *r)
{
    return r->embedded;
}

static int embed_items(struct recommend *r, struct err *e)
{
    struct embedding b = {.r = r};
    const char *folder = r->serve->embedding_cache;
    int64_t count = catalogue_count(r->catalogue), since_ms = clock_ms();
    b.found = mem_array((size_t)(ENCODER_TEXTS * reader_facts(r->reader)->dim), sizeof *b.found);
    int rc = b.found ? 0 : err_set(e, ERR_MEMORY, "no memory for the vectors of a pass");
    if (!rc && folder)
        rc = kept_open(folder, r->reader, count, &b.kept, e);
    kept_take_turns(b.kept, KEPT_TURN_MS);
    while (!rc && b.next < count)
        rc = add_item(&b, e);
    if (!rc)
        rc = embed_pass(&b, e);
    r->embedded = b.made;
    kept_write(b.kept);
    kept_close(b.kept);
    mem_free(b.found);
    tok_ids_done(&b.ids);
    tok_ids_done(&b.types);
    if (!rc)
        log_info("recommends", LOG_S("items", r->serve->recommend.items),
            LOG_I("count", vectors_count(r->vectors)), LOG_I("embedded", recommend_embedded(r)),
            LOG_I("bytes", vectors_bytes(r->vectors)), LOG_I("ms", clock_ms() - since_ms));
    return rc;
}

static int open_vectors(struct recommend *r, int64_t budget_bytes, struct err *e)
{
    const char *path = r->serve->recommend.items;
    int64_t count = catalogue_count(r->catalogue), dim = reader_facts(r->reader)->dim;
    int64_t left = budget_bytes - (r->serve->embedding_cache ? kept_bytes(dim, count) : 0);
    int rc = vectors_create(dim, left, &r->vectors, e);
    if (rc)
        return err_wrap(e, "%s", path);
    if (vectors_most(r->vectors) < count)
        return err_set(e, ERR_USER,
            "%s: %lld items, and the memory that is left beside the model holds %lld vectors", path,
            (long long)count, (long long)vectors_most(r->vectors));
    r->out = mem_array((size_t)count, sizeof *r->out);
    return r->out ? 0 : err_set(e, ERR_MEMORY, "no memory for the items of %s", path);
}

int recommend_open(const struct jobspec_serve *serve, struct reader *reader, int64_t budget_bytes,
    struct recommend **out, struct err *e)
{
    struct recommend *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory for recommendations");
    r->serve = serve;
    r->reader = reader;
    int rc = catalogue_open(serve->recommend.items, serve->recommend.features,
        serve->recommend.feature_count, &r->catalogue, e);
    if (!rc)
        rc = open_vectors(r, budget_bytes, e);
    if (!rc)
        rc = embed_items(r, e);
    if (rc)
        recommend_close(r);
    else
        *out = r;
    return rc;
}

void recommend_close(struct recommend *r)
{
    if (!r)
        return;
    catalogue_close(r->catalogue);
    vectors_destroy(r->vectors);
    mem_free(r->out);
    mem_free(r);
}

/* -- what is asked -- */

static const struct jobspec_feature *feature_of(const struct recommend *r, int i)
{
    return &r->serve->recommend.features[i];
}

static int feature_count(const struct recommend *r)
{
    return r->serve->recommend.feature_count;
}

/* Of part i, the text or a feature. */
static const char *part_name(const struct recommend *r, int i)
{
    return i ? feature_of(r, i - 1)->name : TEXT;
}

static int read_weights(struct recommend_asked *a, const struct json *weights, struct err *e)
{
    const struct recommend *r = a->of;
    int parts = 1 + feature_count(r);
    a->weights[0] = r->serve->recommend.text_weight;
    for (int i = 1; i < parts; i++)
        a->weights[i] = feature_of(r, i - 1)->weight;
    json_each (w, weights) {
        int i = 0;
        while (i < parts && strcmp(part_name(r, i), json_key(w)) != 0)
            i++;
        if (i == parts)
            return err_set(e, ERR_USER,
                "weights.%.60s: the parts of a score are text and what "
                "spec.serve.recommend.features names",
                json_key(w));
        a->weights[i] = json_number_value(w);
    }
    return 0;
}

static int read_history(struct recommend_asked *a, struct err *e)
{
    a->items = mem_array((size_t)a->count + 1, sizeof *a->items); /* none has none */
    if (!a->items)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    int i = 0;
    json_each (one, a->history) {
        const char *id = json_string_value(one);
        a->items[i] = id ? catalogue_find(a->of->catalogue, id) : -1;
        if (id && a->items[i] < 0)
            return err_set(e, ERR_USER, "history[%d]: there is no item \"%.60s\"", i, id);
        a->texts += !id;
        i++;
    }
    a->texts += a->query != NULL;
    return 0;
}

/* Of element i of the history. */
static double recency(const struct recommend_asked *a, int i)
{
    double half = a->of->serve->recommend.half_life;
    return half > 0 ? exp2(-(a->count - 1 - i) / half) : 1;
}

static void add_vector(struct recommend_asked *a, const float *x, double weight)
{
    int64_t dim = reader_facts(a->of->reader)->dim;
    double squares = 0;
    for (int64_t i = 0; i < dim; i++)
        squares += (double)x[i] * x[i];
    for (int64_t i = 0; i < dim && squares > 0; i++)
        a->vector[i] += weight * x[i] / sqrt(squares);
}

int recommend_ask(
    struct recommend *r, const struct json *body, struct recommend_asked *out, struct err *e)
{
    struct recommend_asked *a = out;
    *a = (struct recommend_asked){.of = r,
        .history = json_get(body, "history"),
        .query = json_get(body, "query"),
        .top = json_int(body, "top", TOP),
        .exclude = json_bool(body, "exclude", true)};
    size_t n = json_count(a->history);
    if (n > LIMIT_HISTORY)
        return err_set(e, ERR_USER, "history has at most %d elements", LIMIT_HISTORY);
    a->count = (int)n;
    a->vector = mem_array((size_t)reader_facts(r->reader)->dim, sizeof *a->vector);
    if (!a->vector)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    int rc = read_weights(a, json_get(body, "weights"), e);
    if (rc || (rc = read_history(a, e)))
        return rc;
    for (int i = 0; i < a->count; i++)
        if (a->items[i] >= 0)
            add_vector(a, vectors_get(r->vectors, a->items[i]), recency(a, i));
    return 0;
}

void recommend_done(struct recommend_asked *a)
{
    mem_free(a->items);
    mem_free(a->vector);
    *a = (struct recommend_asked){.of = NULL};
}

/* Where the text number k stands in the history; a->count: it is the query. */
static int place_of(const struct recommend_asked *a, int64_t k)
{
    int i = 0;
    while (i < a->count && (a->items[i] >= 0 || k-- > 0))
        i++;
    return i;
}

const struct json *recommend_text(const struct recommend_asked *a, int64_t k)
{
    int place = place_of(a, k);
    const struct json *one = json_first(a->history);
    if (place == a->count)
        return a->query;
    while (place-- > 0)
        one = json_next(one);
    return json_get(one, TEXT);
}

void recommend_take(struct recommend_asked *a, const float *found)
{
    int place = place_of(a, a->taken++);
    add_vector(a, found, place < a->count ? recency(a, place) : 1);
}

/* -- scores -- */

struct scoring {
    struct recommend_asked *a;
    double mean[LIMIT_FEATURES]; /* Near: the history's; NaN: it has none */
    float *part[LIMIT_FEATURES]; /* Shared: of each text, the part of the history that has it */
};

static double mean_of(const struct recommend_asked *a, int f)
{
    double sum = 0, all = 0;
    for (int i = 0; i < a->count; i++) {
        float x = a->items[i] < 0 ? NAN : catalogue_value(a->of->catalogue, f, a->items[i]);
        if (isnan(x))
            continue;
        sum += recency(a, i) * x;
        all += recency(a, i);
    }
    return all > 0 ? sum / all : NAN;
}

static int share_of(const struct recommend_asked *a, int f, float **out, struct err *e)
{
    const struct catalogue *c = a->of->catalogue;
    float *part = mem_array((size_t)catalogue_kinds(c, f), sizeof *part);
    double all = 0;
    if (!part)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    for (int i = 0; i < a->count; i++)
        all += a->items[i] >= 0 ? recency(a, i) : 0;
    for (int i = 0; i < a->count; i++) {
        int n = 0;
        const int32_t *kind = a->items[i] >= 0 ? catalogue_shared(c, f, a->items[i], &n) : NULL;
        for (int k = 0; k < n; k++)
            part[kind[k]] += (float)(recency(a, i) / all);
    }
    *out = part;
    return 0;
}

static double shared_part(const struct scoring *s, int f, int64_t item)
{
    int n;
    double sum = 0;
    const int32_t *kind = catalogue_shared(s->a->of->catalogue, f, item, &n);
    for (int k = 0; k < n; k++)
        sum += s->part[f][kind[k]];
    return n ? sum / n : 0;
}

/* Of feature f, before its weight. */
static double feature_part(const struct scoring *s, int f, int64_t item)
{
    enum feature_use use = feature_of(s->a->of, f)->use;
    if (use == FEATURE_SHARED)
        return shared_part(s, f, item);
    double x = catalogue_value(s->a->of->catalogue, f, item);
    if (use == FEATURE_NEAR)
        x = 1 - fabs(x - s->mean[f]);
    return isnan(x) ? 0 : x;
}

/* A search's vectors_score_fn. */
static float score_item(void *user, int64_t item, float dot)
{
    const struct scoring *s = user;
    const struct recommend_asked *a = s->a;
    if (a->of->out[item])
        return -INFINITY;
    double sum = a->weights[0] * (double)dot;
    for (int f = 0; f < feature_count(a->of); f++)
        sum += a->weights[1 + f] * feature_part(s, f, item);
    return (float)sum;
}

static int begin_scoring(struct scoring *s, struct err *e)
{
    int rc = 0;
    for (int f = 0; f < feature_count(s->a->of) && !rc; f++) {
        enum feature_use use = feature_of(s->a->of, f)->use;
        s->mean[f] = use == FEATURE_NEAR ? mean_of(s->a, f) : NAN;
        if (use == FEATURE_SHARED)
            rc = share_of(s->a, f, &s->part[f], e);
    }
    return rc;
}

static void leave_out(const struct recommend_asked *a, bool out)
{
    for (int i = 0; i < a->count && a->exclude; i++)
        if (a->items[i] >= 0)
            a->of->out[a->items[i]] = out;
}

/* -- the answer -- */

static void write_number(struct jsonw *w, const char *key, double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    jsonw_raw(w, key, text);
}

static void write_item(
    const struct scoring *s, const struct vectors_hit *hit, float dot, struct buf *out)
{
    const struct recommend_asked *a = s->a;
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "id", catalogue_id(a->of->catalogue, hit->id));
    jsonw_str(&w, "text", catalogue_text(a->of->catalogue, hit->id));
    write_number(&w, "score", (double)hit->score);
    jsonw_open(&w, "parts", '{');
    write_number(&w, TEXT, a->weights[0] * (double)dot);
    for (int f = 0; f < feature_count(a->of); f++)
        write_number(&w, part_name(a->of, 1 + f), a->weights[1 + f] * feature_part(s, f, hit->id));
    jsonw_close(&w);
    jsonw_close(&w);
}

static float product(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return (float)sum;
}

/* The history's vector, of length 1; of none, zeroes. */
static void direct(const struct recommend_asked *a, int64_t dim, float *x)
{
    for (int64_t i = 0; i < dim; i++)
        x[i] = (float)a->vector[i];
    reader_normalize(x, dim);
}

static int search_items(struct scoring *s, struct buf *out, struct err *e)
{
    struct recommend_asked *a = s->a;
    struct recommend *r = a->of;
    int64_t dim = reader_facts(r->reader)->dim, count = catalogue_count(r->catalogue);
    int64_t top = a->top < count ? a->top : count;
    mem_autofree float *x = mem_array((size_t)dim, sizeof *x);
    mem_autofree struct vectors_hit *hits = mem_array((size_t)top, sizeof *hits);
    if (!x || !hits)
        return err_set(e, ERR_USER, "the request needs more memory than one may have");
    direct(a, dim, x);
    leave_out(a, true);
    a->told = vectors_search(r->vectors, x, top, score_item, s, hits);
    leave_out(a, false);
    for (int64_t i = 0; i < a->told; i++) {
        if (i)
            buf_char(out, ',');
        write_item(s, &hits[i], product(x, vectors_get(r->vectors, hits[i].id), dim), out);
    }
    return 0;
}

int recommend_tell(struct recommend_asked *a, struct buf *out, struct err *e)
{
    struct scoring s = {.a = a};
    assert(a->taken == a->texts);
    int rc = begin_scoring(&s, e);
    if (!rc)
        rc = search_items(&s, out, e);
    for (int f = 0; f < LIMIT_FEATURES; f++)
        mem_free(s.part[f]);
    return rc;
}
