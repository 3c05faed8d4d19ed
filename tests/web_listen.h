/*
 * web_listen: a door of base/web with defaults, for tests that ask one.
 */
#ifndef TESTS_WEB_LISTEN_H
#define TESTS_WEB_LISTEN_H

#include "base/web.h"

static inline int web_listen(struct web *on, const char *host, uint16_t number, web_request_fn *fn,
    void *user, uint16_t *bound, struct err *why)
{
    const struct web_door door = {.host = host, .port = number, .request_fn = fn, .user = user};
    return web_open(on, &door, bound, why);
}

#endif
