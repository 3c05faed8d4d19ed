/*
 * values: getters that check, no tables: which keys a family has stands in its own file.
 */
#include "runtime/family/values.h"

#include <math.h>

/* -- config.json -- */

static int read_size(
    const struct json *config, const char *path, const struct values_size *s, struct err *e)
{
    const struct json *v = json_get(config, s->key);
    if ((!v || json_is_null(v)) && s->def > 0) {
        *s->out = s->def;
        return 0;
    }
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 1 && d <= INT32_MAX) || d != floor(d))
        return err_set(e, ERR_DATA, "%s: %s is no positive whole number", path, s->key);
    *s->out = (int64_t)d;
    return 0;
}

int values_sizes(const struct json *config, const char *path, const struct values_size *list,
    int count, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < count && !rc; i++)
        rc = read_size(config, path, &list[i], e);
    return rc;
}

int values_require(
    const struct json *config, const char *path, const char *key, bool value, struct err *e)
{
    if (json_bool(config, key, value) == value)
        return 0;
    return err_set(
        e, ERR_DATA, "%s: %s = %s is not supported", path, key, value ? "false" : "true");
}

float values_share(const struct json *config, const char *key, double def)
{
    return (float)json_num(config, key, def);
}

int32_t values_id(const struct json *v)
{
    double d = json_number_value(v);
    return json_is_number(v) && d >= 0 && d <= INT32_MAX ? (int32_t)d : -1;
}

double values_short(float f)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)f);
    double d = strtod(text, NULL);
    return (float)d == f ? d : (double)f;
}

/* -- GGUF -- */

int values_gguf_int(const struct gguf *g, const char *key, int64_t *out, struct err *e)
{
    return gguf_has(g, key) ? gguf_int(g, key, -1, INT32_MAX, out, e) : 0;
}

int values_gguf_id(const struct gguf *g, const char *key, int32_t *out, struct err *e)
{
    int64_t v = -1;
    int rc = values_gguf_int(g, key, &v, e);
    if (!rc)
        *out = (int32_t)v;
    return rc;
}

const struct gguf_tensor *values_gguf_tensor(const struct gguf *g, const char *name)
{
    for (int i = 0; i < gguf_tensor_count(g); i++)
        if (!strcmp(gguf_tensor_at(g, i)->name, name))
            return gguf_tensor_at(g, i);
    return NULL;
}
