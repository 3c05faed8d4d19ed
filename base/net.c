/*
 * net: the last colon ends the host, so that an address of IPv6 needs no brackets to be read, but
 * it is written with them: it also stands in URLs. It must not ask the system anything.
 */
#include "base/net.h"

#include "base/number.h"

#include <stdio.h>
#include <string.h>

bool net_parse(const char *text, struct net_address *out)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || !number_whole(colon + 1, strlen(colon + 1), UINT16_MAX, &port))
        return false;
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n >= sizeof out->host)
        return false;
    memcpy(out->host, text, n);
    out->host[n] = '\0';
    out->port = (uint16_t)port;
    return true;
}

void net_write(const char *host, unsigned port, char out[NET_TEXT_BYTES])
{
    snprintf(out, NET_TEXT_BYTES, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

const char *net_near(const char *host)
{
    return !strcmp(host, "0.0.0.0") || !strcmp(host, "::") ? NET_LOOPBACK : host;
}
