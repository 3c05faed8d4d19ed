/*
 * net: addresses as text. "host:port", the host of IPv6 in brackets; a host alone has none. What a
 * listener on all addresses is called, and where this machine reaches it. Pure: names are looked up
 * and sockets opened by base/io.
 */
#ifndef BASE_NET_H
#define BASE_NET_H

#include <stdbool.h>
#include <stdint.h>

#define NET_HOST_BYTES 256                  /* a name of DNS and the NUL */
#define NET_TEXT_BYTES (NET_HOST_BYTES + 8) /* "[host]:65535" */
#define NET_LOOPBACK   "127.0.0.1"

struct net_address {
    char host[NET_HOST_BYTES]; /* without brackets; may be empty, as in ":8080" */
    uint16_t port;
};

bool net_parse(const char *text, struct net_address *out); /* false: out is untouched */
void net_write(const char *host, unsigned port, char out[NET_TEXT_BYTES]);
/* The host by which this machine reaches who listens at host: itself, or loopback for all. */
const char *net_near(const char *host);

#endif
