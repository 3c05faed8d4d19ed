/*
 * openai_items: lists are copied element by element, so that what goes to the rank is of one form
 * however the client wrote it.
 */
#include "agent/openai_items.h"

#include "agent/openai_internal.h"
#include "api/limits.h"

#include <math.h>
#include <string.h>

/* -- what the model does -- */

static const struct {
    const char *what;
    uint64_t places;
} kinds[WIRE_DOES_KINDS] = {
    [WIRE_DOES_GENERATE] = {"goes on with texts", ~(uint64_t)OPENAI_ITEMS},
    [WIRE_DOES_EMBED] = {"embeds texts", OPENAI_EMBED | OPENAI_SCORE | OPENAI_RERANK},
    [WIRE_DOES_CLASSIFY] = {"classifies texts", OPENAI_CLASSIFY | OPENAI_SCORE | OPENAI_RERANK},
    [WIRE_DOES_TAG] = {"labels words", OPENAI_CLASSIFY},
    [WIRE_DOES_RECOMMEND] = {"embeds texts and recommends items",
        OPENAI_EMBED | OPENAI_SCORE | OPENAI_RERANK | OPENAI_RECOMMEND},
};

static const char *name_of(enum openai_place place)
{
    switch (place) {
    case OPENAI_CHAT:
        return "chat";
    case OPENAI_TEXT:
        return "completions";
    case OPENAI_MESSAGES:
        return "messages";
    case OPENAI_RESPONSES:
        return "responses";
    case OPENAI_EMBED:
        return "embeddings";
    case OPENAI_CLASSIFY:
        return "classify";
    case OPENAI_SCORE:
        return "score";
    case OPENAI_RERANK:
        return "rerank";
    case OPENAI_RECOMMEND:
        return "recommend";
    case OPENAI_SEARCH:
        return "search";
    default:
        return "this";
    }
}

int openai_check_does(
    const struct openai_conf *conf, enum openai_place place, struct openai_refusal *r)
{
    if (place == OPENAI_SEARCH && !conf->documents && conf->does == WIRE_DOES_GENERATE)
        return openai_refuse(
            r, 404, NULL, NULL, "there are no documents to search in: spec.serve.retrieval");
    if (place == OPENAI_LINE)
        return conf->watches
            ? 0
            : openai_refuse(r, 404, NULL, NULL, "nothing is watched: spec.serve.classify");
    if (kinds[conf->does].places & place)
        return 0;
    return openai_refuse(r, 400, "unsupported_task", "model",
        "The model `%.100s` %s: %s is not answered", conf->model, kinds[conf->does].what,
        name_of(place));
}

/* -- requests -- */

static int check_count(size_t n, const char *param, struct openai_refusal *r)
{
    return n >= 1 && n <= LIMIT_ITEMS
        ? 0
        : REFUSE(r, param, "%s must have 1 to %d elements", param, LIMIT_ITEMS);
}

static int copy_ids(const struct json *ids, const char *key, const char *param, struct jsonw *w,
    struct openai_refusal *r)
{
    jsonw_open(w, key, '[');
    json_each (id, ids) {
        double n = json_number_value(id);
        if (!json_is_number(id) || !(n >= 0 && n <= INT32_MAX) || n != floor(n))
            return REFUSE(r, param, "token ids are whole numbers from 0");
        jsonw_int(w, NULL, (int64_t)n);
    }
    jsonw_close(w);
    return json_count(ids) ? 0 : REFUSE(r, param, "a list of token ids is empty");
}

/* A text, a list of token ids, or a list of either. */
static int copy_input(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *input = openai_given(v, "input"),
                      *first = json_is_array(input) ? json_first(input) : NULL;
    bool alone = json_is_string(input) || json_is_number(first), texts = json_is_string(first);
    if (!alone && !texts && !json_is_array(first))
        return REFUSE(r, "input",
            "input must be a string or a list of token ids, or a list of strings or of such lists");
    if (!alone && check_count(json_count(input), "input", r))
        return -1;
    jsonw_open(w, "input", '[');
    if (json_is_string(input))
        jsonw_str(w, NULL, json_string_value(input));
    else if (alone && copy_ids(input, NULL, "input", w, r))
        return -1;
    json_each (one, alone ? NULL : input) {
        if (texts ? !json_is_string(one) : !json_is_array(one))
            return REFUSE(r, "input", "input must be strings alone or lists of token ids alone");
        if (texts)
            jsonw_str(w, NULL, json_string_value(one));
        else if (copy_ids(one, NULL, "input", w, r))
            return -1;
    }
    jsonw_close(w);
    return 0;
}

/* Strings, or objects with one; of a list or alone. */
static int copy_texts(const struct json *v, const char *key, const char *to, bool documents,
    struct jsonw *w, struct openai_refusal *r)
{
    const struct json *list = openai_given(v, key);
    bool alone = !documents && json_is_string(list);
    if (!alone && !json_is_array(list))
        return REFUSE(r, key, "%s must be %sa list", key, documents ? "" : "a string or ");
    if (!alone && check_count(json_count(list), key, r))
        return -1;
    jsonw_open(w, to, '[');
    if (alone)
        jsonw_str(w, NULL, json_string_value(list));
    json_each (one, alone ? NULL : list) {
        const struct json *text = one;
        if (documents && json_is_object(one)) {
            if (openai_check_fields(one, OPENAI_DOCUMENT, "documents.", r))
                return -1;
            text = json_get(one, "text");
        }
        if (!json_is_string(text))
            return REFUSE(r, key, "%s must be strings%s", key,
                documents ? ", or objects with a string \"text\"" : "");
        jsonw_str(w, NULL, json_string_value(text));
    }
    jsonw_close(w);
    return 0;
}

static int copy_embed(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const char *format = json_str(v, "encoding_format", "float");
    bool base64 = !strcmp(format, "base64");
    if (!base64 && strcmp(format, "float") != 0)
        return REFUSE(r, "encoding_format", "encoding_format must be float or base64");
    jsonw_bool(w, "base64", base64);
    if (openai_given(v, "dimensions"))
        jsonw_int(w, "dimensions", json_int(v, "dimensions", 0));
    return copy_input(v, w, r);
}

static int copy_score(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *first = openai_given(v, "text_1"), *second = openai_given(v, "text_2");
    size_t n = json_is_array(first) ? json_count(first) : 1,
           m = json_is_array(second) ? json_count(second) : 1;
    if (n != 1 && n != m)
        return REFUSE(r, "text_1", "text_1 must be one text, or as many as text_2");
    return copy_texts(v, "text_1", "first", false, w, r) ||
            copy_texts(v, "text_2", "second", false, w, r)
        ? -1
        : 0;
}

static int copy_rerank(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const char *query = json_str(v, "query", NULL);
    if (!query)
        return REFUSE(r, "query", "query is needed");
    jsonw_open(w, "first", '[');
    jsonw_str(w, NULL, query);
    jsonw_close(w);
    if (openai_given(v, "top_n"))
        jsonw_int(w, "top", json_int(v, "top_n", 0));
    jsonw_bool(w, "documents", json_bool(v, "return_documents", true));
    return copy_texts(v, "documents", "second", true, w, r);
}

/* An id of a number is its digits, as an item's is. */
static int copy_had(const struct json *one, int i, struct jsonw *w, struct openai_refusal *r)
{
    char path[32], digits[24];
    double n = json_number_value(one);
    snprintf(path, sizeof path, "history[%d]", i);
    if (json_is_string(one)) {
        jsonw_str(w, NULL, json_string_value(one));
        return 0;
    }
    if (json_is_number(one) && n == floor(n) && fabs(n) <= EXACT) {
        snprintf(digits, sizeof digits, "%.0f", n);
        jsonw_str(w, NULL, digits);
        return 0;
    }
    if (!json_is_object(one))
        return REFUSE(r, path, "%s must be an item's id or an object with a string \"text\"", path);
    snprintf(path, sizeof path, "history[%d].", i);
    if (openai_check_fields(one, OPENAI_HAD, path, r))
        return -1;
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "text", json_str(one, "text", ""));
    jsonw_close(w);
    return 0;
}

static int copy_weights(const struct json *weights, struct jsonw *w, struct openai_refusal *r)
{
    if (!json_is_object(weights))
        return REFUSE(r, "weights", "weights must be an object of numbers");
    jsonw_open(w, "weights", '{');
    json_each (one, weights) {
        double x = json_number_value(one);
        char path[80];
        snprintf(path, sizeof path, "weights.%.63s", json_key(one));
        if (!json_is_number(one) || !(fabs(x) <= LIMIT_FEATURE_WEIGHT))
            return REFUSE(r, path, "%s must be a number from %d to %d", path, -LIMIT_FEATURE_WEIGHT,
                LIMIT_FEATURE_WEIGHT);
        jsonw_num(w, json_key(one), x);
    }
    jsonw_close(w);
    return 0;
}

static int copy_recommend(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *history = openai_given(v, "history"), *weights = openai_given(v, "weights");
    int i = 0;
    if (!json_is_array(history) || json_count(history) > LIMIT_HISTORY)
        return REFUSE(r, "history", "history must be a list of at most %d elements", LIMIT_HISTORY);
    jsonw_open(w, "history", '[');
    json_each (one, history)
        if (copy_had(one, i++, w, r))
            return -1;
    jsonw_close(w);
    if (openai_given(v, "query"))
        jsonw_str(w, "query", json_str(v, "query", ""));
    if (openai_given(v, "top_n"))
        jsonw_int(w, "top", json_int(v, "top_n", 0));
    jsonw_bool(w, "exclude", json_bool(v, "exclude_history", true));
    return weights ? copy_weights(weights, w, r) : 0;
}

int openai_copy_items(
    const struct json *v, enum openai_place place, struct jsonw *w, struct openai_refusal *r)
{
    const char *read = place == OPENAI_EMBED ? "embed"
        : place == OPENAI_CLASSIFY           ? "classify"
        : place == OPENAI_SCORE              ? "compare"
        : place == OPENAI_RECOMMEND          ? "recommend"
                                             : "rank";
    jsonw_str(w, "read", read);
    if (openai_given(v, "truncate_prompt_tokens")) {
        int64_t most = json_int(v, "truncate_prompt_tokens", 0);
        if (!most)
            return REFUSE(r, "truncate_prompt_tokens",
                "truncate_prompt_tokens must be 1 or more, or -1: as many as the model reads");
        jsonw_int(w, "truncate", most);
    }
    switch (place) {
    case OPENAI_EMBED:
        return copy_embed(v, w, r);
    case OPENAI_CLASSIFY:
        return copy_input(v, w, r);
    case OPENAI_SCORE:
        return copy_score(v, w, r);
    case OPENAI_RECOMMEND:
        return copy_recommend(v, w, r);
    default:
        return copy_rerank(v, w, r);
    }
}

/* -- answers -- */

/* buf, not jsonw: the elements are JSON already, and may be many. */
void openai_items(struct buf *out, const struct openai_answer *a, enum openai_place place,
    const char *elements, size_t len, struct openai_usage u)
{
    bool rank = place & (OPENAI_RERANK | OPENAI_RECOMMEND), plain = place == OPENAI_EMBED;
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    if (!plain) {
        char id[48];
        snprintf(id, sizeof id, "%s-%llu", name_of(place), (unsigned long long)a->id);
        jsonw_str(&w, "id", id);
    }
    if (!rank)
        jsonw_str(&w, "object", "list");
    if (!plain)
        jsonw_int(&w, "created", a->created);
    jsonw_str(&w, "model", a->model);
    openai_tell_members(&w, a);
    jsonw_open(&w, "usage", '{');
    jsonw_int(&w, "prompt_tokens", u.prompt);
    jsonw_int(&w, "total_tokens", u.prompt);
    jsonw_close(&w);
    jsonw_open(&w, rank ? "results" : "data", '[');
    buf_add(out, elements, len);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}
