/*
 * guard: a walk over a tree that json_parse has bounded in depth and size. Names inside objects are
 * guarded too: a template may print them.
 */
#include "runtime/text/guard.h"

#include "api/limits.h"

#define GUARDED_LIMIT (4 * LIMIT_REQUEST_BYTES) /* every character with a guard */

static struct json *guarded_string(const struct tok *t, const char *s)
{
    buf_auto struct buf text;
    buf_init(&text, GUARDED_LIMIT);
    return tok_guard(t, s, strlen(s), &text) ? NULL : json_new_string(buf_cstr(&text));
}

/* NULL: no memory. */
static struct json *guarded(const struct tok *t, const struct json *v)
{
    bool object = json_is_object(v);
    if (json_is_string(v))
        return guarded_string(t, json_string_value(v));
    if (!object && !json_is_array(v))
        return json_is_number(v) ? json_new_number(json_number_value(v))
            : json_is_bool(v)    ? json_new_bool(json_bool_value(v))
                                 : json_new_null();
    struct json *copy = object ? json_new_object() : json_new_array();
    json_each (item, v) {
        struct json *value = guarded(t, item);
        json_auto struct json *key = object ? guarded_string(t, json_key(item)) : NULL;
        const char *name = json_string_value(key);
        int rc = 0;
        if (!object)
            rc = json_push(copy, value);
        else if (name)
            rc = json_put(copy, name, value);
        else
            json_destroy(value);
        if (rc || (object && !name)) {
            json_destroy(copy);
            return NULL;
        }
    }
    return copy;
}

int guard_json(const struct tok *t, const struct json *v, struct json **out, struct err *e)
{
    struct json *copy = guarded(t, v);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a conversation");
    *out = copy;
    return 0;
}
