/*
 * openai_terms: what the rank is told of who asks.
 */
#include "agent/openai_internal.h"

#include "api/limits.h"

#include <string.h>

static int copy_salt(
    const struct openai_conf *conf, const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    static const struct api_keys open;
    const struct json *given = openai_given(v, "cache_salt");
    const char *shared = json_string_value(given);
    char salt[KEYS_SALT_BYTES];
    struct err e = {0};
    if (given && (!shared || !*shared || strlen(shared) > LIMIT_SALT_BYTES))
        return REFUSE(
            r, "cache_salt", "cache_salt must be a string of 1 to %d bytes", LIMIT_SALT_BYTES);
    if (keys_salt(conf->keys ? conf->keys : &open, conf->key, shared, salt, &e))
        return openai_refuse(r, 503, NULL, NULL, "%s", e.text);
    if (*salt)
        jsonw_str(w, "salt", salt);
    return 0;
}

int openai_copy_terms(const struct openai_conf *conf, const struct json *v, struct jsonw *w,
    struct openai_request *out, struct openai_refusal *r)
{
    out->priority = (int)json_int(v, "priority", 0);
    if (out->priority)
        jsonw_int(w, "priority", out->priority);
    if (conf->keys && conf->keys->count) {
        jsonw_int(w, "key", conf->key);
        jsonw_int(w, "weight", keys_weight(conf->keys, conf->key));
    }
    return copy_salt(conf, v, w, r);
}
