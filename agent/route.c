/*
 * route: numbers are FNV-1a of what counts, each part with its end, and mixed before they are
 * compared, since FNV's high bits hardly know the last bytes.
 */
#include "agent/route.h"

#include "base/hash.h"
#include "base/random.h"

#include <string.h>

#define ROUTE_IDS (ROUTE_BYTES / 4) /* of a prompt that is token ids */

static uint64_t add_text(uint64_t h, const char *text)
{
    size_t n = strlen(text);
    return hash_bytes(hash_bytes(h, text, n < ROUTE_BYTES ? n : ROUTE_BYTES), "", 1);
}

/* A string, or a list of parts with texts. */
static uint64_t add_content(uint64_t h, const struct json *content)
{
    if (json_is_string(content))
        return add_text(h, json_string_value(content));
    json_each (part, content)
        h = add_text(h, json_str(part, "text", ""));
    return h;
}

static uint64_t add_messages(uint64_t h, const struct json *messages)
{
    json_each (m, messages) {
        const char *role = json_str(m, "role", "");
        h = add_content(add_text(h, role), json_get(m, "content"));
        if (!strcmp(role, "user"))
            break;
    }
    return h;
}

static uint64_t add_prompt(uint64_t h, const struct json *prompt)
{
    const struct json *first = json_is_array(prompt) ? json_first(prompt) : NULL;
    if (json_is_string(prompt))
        return add_text(h, json_string_value(prompt));
    if (json_is_string(first) || json_is_array(first))
        return add_prompt(h, first);
    int n = 0;
    json_each (id, prompt) {
        int64_t number = (int64_t)json_number_value(id);
        if (n++ == ROUTE_IDS)
            break;
        h = hash_bytes(h, &number, sizeof number);
    }
    return h;
}

uint64_t route_prefix(
    const struct openai_conf *conf, const struct json *v, const struct openai_request *r)
{
    const char *salt = json_str(v, "cache_salt", NULL);
    const char *key = conf->keys && conf->keys->count ? conf->keys->key[conf->key].text : "";
    uint64_t h = add_text(HASH_START, r->adapter ? r->adapter : "");
    h = add_text(add_text(h, salt ? "salt" : "key"), salt ? salt : key);
    const struct json *messages = json_get(v, "messages");
    return messages ? add_messages(h, messages) : add_prompt(h, json_get(v, "prompt"));
}

int route_pick(uint64_t prefix, const char *const *names, int count)
{
    uint64_t most = 0;
    int best = 0;
    for (int i = 0; i < count; i++) {
        uint64_t weight = random_mix(hash_bytes(prefix, names[i], strlen(names[i])));
        if (i && weight <= most)
            continue;
        most = weight;
        best = i;
    }
    return best;
}
