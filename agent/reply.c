/*
 * reply: says, and decides nothing.
 */
#include "agent/reply.h"

#include "agent/dialect.h"
#include "agent/meter.h"

#include <stdio.h>

void reply_json(struct web_exchange *x, int status, const struct buf *body)
{
    web_answer(x, buf_ok(body) ? status : 503, "application/json", buf_cstr(body), body->len, NULL);
}

void reply_error(struct web_exchange *x, const struct openai_refusal *r)
{
    buf_auto struct buf body;
    buf_init(&body, 8192);
    dialect_error(&body, openai_place_of(web_path(x)), r);
    if (r->status == 429 || r->status == 503) {
        char line[32];
        snprintf(line, sizeof line, "Retry-After: %d", r->retry_seconds ? r->retry_seconds : 1);
        web_add_header(x, line);
    }
    meter_refused();
    reply_json(x, r->status, &body);
}

void reply_no_method(struct web_exchange *x, const char *allowed)
{
    struct openai_refusal why;
    char line[64];
    snprintf(line, sizeof line, "Allow: %s", allowed ? allowed : "");
    if (allowed)
        web_add_header(x, line);
    openai_refuse(
        &why, allowed ? 405 : 404, NULL, NULL, "there is nothing at this path for this method");
    reply_error(x, &why);
}

/* `*` does not stand for Authorization. */
void reply_preflight(struct web_exchange *x)
{
    static const char *const headers[] = {"Access-Control-Allow-Methods: GET, POST, OPTIONS",
        "Access-Control-Allow-Headers: Authorization, Content-Type, *",
        "Access-Control-Max-Age: 86400", NULL};
    web_answer(x, 204, "text/plain", "", 0, headers);
}
