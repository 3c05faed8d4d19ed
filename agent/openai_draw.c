/*
 * openai_draw: how an answer is drawn and what it may be: sampling, logprobs, texts that stop it,
 * its format. The schema of a format is the rank's to read.
 */
#include "agent/openai_internal.h"

#include "base/random.h"
#include "api/limits.h"

#include <string.h>

#define DEFAULT_MAX_TOKENS 512 /* a chat request that names none */
#define TEXT_MAX_TOKENS    16  /* /v1/completions, as OpenAI has it */

static int copy_stop_string(const struct json *s, struct jsonw *w, struct openai_refusal *r)
{
    const char *text = json_string_value(s);
    if (!text || !*text || strlen(text) > LIMIT_STOP_BYTES)
        return REFUSE(
            r, "stop", "each stop sequence must be a string of 1 to %d bytes", LIMIT_STOP_BYTES);
    jsonw_str(w, NULL, text);
    return 0;
}

static int copy_stop(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *stop = openai_given(v, "stop");
    jsonw_open(w, "stop", '[');
    if (json_is_array(stop)) {
        if (json_count(stop) > LIMIT_STOP_STRINGS)
            return REFUSE(r, "stop", "at most %d stop sequences", LIMIT_STOP_STRINGS);
        json_each (s, stop)
            if (copy_stop_string(s, w, r))
                return -1;
    } else if (stop && copy_stop_string(stop, w, r)) {
        return -1;
    }
    jsonw_close(w);
    return 0;
}

static int check_schema(const struct json *v, struct openai_refusal *r)
{
    static const char path[] = "response_format.json_schema";
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *name;
    if (!json_is_object(v))
        return REFUSE(r, path, "%s must be an object", path);
    if (openai_check_fields(v, OPENAI_SCHEMA, "response_format.json_schema.", r))
        return -1;
    name = json_str(v, "name", "");
    if (!*name || strlen(name) > 64 || name[strspn(name, letters)])
        return REFUSE(r, "response_format.json_schema.name",
            "%s.name must be 1 to 64 letters, digits, _ and -", path);
    return 0;
}

/* The schema itself is the rank's to read. */
static int copy_format(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *format = openai_given(v, "response_format"),
                      *schema = openai_given(format, "json_schema");
    if (!format)
        return 0;
    if (!json_is_object(format))
        return REFUSE(r, "response_format", "response_format must be an object");
    if (openai_check_fields(format, OPENAI_FORMAT, "response_format.", r))
        return -1;
    const char *type = json_str(format, "type", "");
    bool by_schema = !strcmp(type, "json_schema"), text = !strcmp(type, "text");
    if (!by_schema && !text && strcmp(type, "json_object") != 0)
        return REFUSE(r, "response_format.type",
            "response_format.type must be text, json_object or json_schema");
    if (by_schema != (schema != NULL))
        return REFUSE(r, "response_format.json_schema", "response_format.json_schema %s",
            by_schema ? "is needed" : "stands only beside the type json_schema");
    if (by_schema && check_schema(schema, r))
        return -1;
    if (text)
        return 0;
    if (json_num(v, "min_tokens", 0) > 0 || json_bool(v, "ignore_eos", false))
        return REFUSE(r, "response_format",
            "response_format says where an answer ends: min_tokens and ignore_eos cannot");
    return openai_copy_json(w, "response_format", format, r);
}

static int copy_biases(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *biases = openai_given(v, "logit_bias");
    if (!biases)
        return 0;
    if (!json_is_object(biases) || json_count(biases) > LIMIT_BIASES)
        return REFUSE(
            r, "logit_bias", "logit_bias must be an object of at most %d token ids", LIMIT_BIASES);
    jsonw_open(w, "logit_bias", '{');
    json_each (bias, biases) {
        const char *id = json_key(bias);
        double by = json_number_value(bias);
        if (!*id || strlen(id) > 10 || strspn(id, "0123456789") != strlen(id))
            return REFUSE(r, "logit_bias", "logit_bias: \"%.20s\" is no token id", id);
        if (!json_is_number(bias) || !(by >= -100 && by <= 100))
            return REFUSE(
                r, "logit_bias", "logit_bias: %s must have a number from -100 to 100", id);
        if (json_get(biases, id) != bias)
            return REFUSE(r, "logit_bias", "logit_bias: %s is given twice", id);
        jsonw_num(w, id, by);
    }
    jsonw_close(w);
    return 0;
}

/* What goes to the rank as it is, where it is given: numbers and truths of the table. */
static void copy_as_they_are(const struct json *v, struct jsonw *w)
{
    static const char *const names[] = {"frequency_penalty", "presence_penalty", "top_k", "min_p",
        "repetition_penalty", "min_tokens", "ignore_eos", "skip_special_tokens", "echo"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct json *x = openai_given(v, names[i]);
        if (json_is_bool(x))
            jsonw_bool(w, names[i], json_bool_value(x));
        else if (x)
            jsonw_num(w, names[i], json_number_value(x));
    }
}

/* The likeliest of each token that are told, -1: nothing is. */
static int copy_logprobs(
    const struct json *v, bool chat, struct jsonw *w, bool *told, struct openai_refusal *r)
{
    int64_t top = chat ? json_int(v, "top_logprobs", 0) : json_int(v, "logprobs", -1);
    if (chat && !json_bool(v, "logprobs", false)) {
        if (top)
            return REFUSE(r, "top_logprobs", "top_logprobs needs \"logprobs\": true");
        top = -1;
    }
    *told = top >= 0;
    if (*told)
        jsonw_int(w, "logprobs", top);
    return 0;
}

/* The answer number `answer` to a prompt draws numbers of its own. */
static int64_t seed_of(int64_t seed, int answer)
{
    uint64_t mixed = random_mix(random_mix((uint64_t)seed) + (uint64_t)answer);
    return answer ? (int64_t)(mixed >> 11) : seed; /* what JSON carries safely */
}

static int copy_sampling(const struct openai_conf *conf, const struct json *v, bool chat,
    int answer, struct jsonw *w, struct openai_request *out, struct openai_refusal *r)
{
    const struct json *newer = openai_given(v, "max_completion_tokens"),
                      *older = openai_given(v, "max_tokens"), *tokens = newer ? newer : older;
    double limit = conf->context_length ? (double)conf->context_length : 1 << 20;
    double most = chat ? DEFAULT_MAX_TOKENS : TEXT_MAX_TOKENS;
    if (newer && older && json_number_value(newer) != json_number_value(older))
        return REFUSE(
            r, "max_tokens", "max_tokens is the older name of max_completion_tokens: give one");
    if (tokens)
        most = json_number_value(tokens);
    if (most < 1 && !json_bool(v, "echo", false))
        return REFUSE(r, "max_tokens", "max_tokens may be 0 with echo alone");
    out->most_tokens = (int64_t)(most < limit ? most : limit);
    jsonw_int(w, "max_tokens", out->most_tokens);
    jsonw_num(w, "temperature", json_num(v, "temperature", 1));
    jsonw_num(w, "top_p", json_num(v, "top_p", 1));
    if (openai_given(v, "seed"))
        jsonw_int(w, "seed", seed_of(json_int(v, "seed", 0), answer));
    if (json_num(v, "min_tokens", 0) > most)
        return REFUSE(r, "min_tokens", "min_tokens is more than the %.0f of max_tokens", most);
    copy_as_they_are(v, w);
    return copy_biases(v, w, r);
}

int openai_copy_drawn(const struct openai_conf *conf, const struct json *v, bool chat, int answer,
    struct jsonw *w, struct openai_request *out, struct openai_refusal *r)
{
    return copy_sampling(conf, v, chat, answer, w, out, r) ||
            copy_logprobs(v, chat, w, &out->logprobs, r) || copy_stop(v, w, r) ||
            copy_format(v, w, r)
        ? -1
        : 0;
}
