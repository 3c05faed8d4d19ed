/*
 * readings: each answer is made as it is asked for.
 */
#include "agent/readings.h"

#include "agent/openai_answer.h"
#include "agent/openapi.h"
#include "agent/reply.h"

#include <string.h>

static const char *after(const char *path, const char *start)
{
    size_t n = strlen(start);
    return !strncmp(path, start, n) && (!path[n] || path[n] == '/') ? path + n : NULL;
}

static const char *after_models(const char *path)
{
    const char *model = after(path, "/v1/models");
    return model ? model : after(path, "/models");
}

bool readings_has(const char *path)
{
    return after_models(path) || after(path, STORES_PATH) || !strcmp(path, "/health") ||
        !strcmp(path, "/openapi.json");
}

bool readings_answer(const struct readings *r, struct web_exchange *x, struct openai_refusal *why)
{
    const char *path = web_path(x), *model = after_models(path), *store = after(path, STORES_PATH);
    buf_auto struct buf out;
    int rc = 0, status = 200;
    buf_init(&out, OPENAPI_BYTES); /* what is longest */
    if (!strcmp(path, "/health")) {
        status = r->serving ? 200 : 503;
        buf_printf(&out, "{\"status\":\"%s\"}", r->serving ? "ok" : "unavailable");
    } else if (model)
        rc = openai_models(&out, &r->api, *model ? model + 1 : NULL, why);
    else if (store)
        rc = stores_write(&out, r->stores, r->api.model, *store ? store + 1 : NULL, why);
    else
        openapi_write(&out, &r->api, r->api.keys->count);
    if (rc)
        return false;
    reply_json(x, status, &out);
    return true;
}
