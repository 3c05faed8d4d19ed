/*
 * ras: see ras.h. The protocol is lines of text: the client names the protocol and a time limit,
 * each answered by one line, then asks for the status, which comes as sections of headings
 * underlined by
 * "=" until the server closes the connection. Only called when something hangs already.
 */
#include "kernels/cuda/ras.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/net.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RAS_HOST     "localhost"
#define RAS_PORT     28028
#define ANSWER_BYTES 16384 /* of a status; errors of a large job may be cut */

/* What NCCL_RAS_ADDR says; its host may be left out. */
static struct net_address ras_address(void)
{
    const char *given = getenv("NCCL_RAS_ADDR");
    struct net_address to = {RAS_HOST, RAS_PORT}, own;
    if (!given || !net_parse(given, &own) || !own.port)
        return to;
    if (!*own.host)
        memcpy(own.host, RAS_HOST, sizeof RAS_HOST);
    return own;
}

/* All that comes until the connection is closed, or as much as fits, ended with a zero. */
static void ras_read(int fd, char *text, size_t size, int64_t deadline_ms)
{
    size_t used = 0;
    while (used + 1 < size && !io_wait_readable(fd, deadline_ms, NULL)) {
        int64_t n = io_recv_now(fd, text + used, size - used - 1, NULL);
        if (n < 0)
            break;
        used += (size_t)n;
    }
    text[used] = 0;
}

/* The text below the underlined heading, up to the next heading, on one line. False: none. */
static bool ras_section(const char *text, const char *heading, char *out, size_t size)
{
    char mark[64];
    size_t used = 0;
    bool gap = false;
    snprintf(mark, sizeof(mark), "\n%s\n=", heading);
    const char *p = strstr(text, mark);
    out[0] = 0;
    if (!p)
        return false;
    p += strlen(mark);
    p += strspn(p, "=");
    const char *end = strstr(p, "\n==");
    if (end) /* the heading above that line is not of this section */
        do
            end--;
        while (end > p && *end != '\n');
    for (; *p && p != end && used + 2 < size; p++) {
        if (isspace((unsigned char)*p)) {
            gap = used > 0;
            continue;
        }
        if (gap)
            out[used++] = ' ';
        out[used++] = *p;
        gap = false;
    }
    out[used] = 0;
    return used > 0;
}

void ras_query(char *out, size_t size, int64_t timeout_ms)
{
    char ask[96], text[ANSWER_BYTES];
    int64_t deadline_ms = clock_ms() + timeout_ms;
    out[0] = 0;
    struct net_address to = ras_address();
    io_auto_fd int fd = io_connect(to.host, to.port, deadline_ms, NULL);
    if (fd < 0)
        return;
    /* RAS gives up on silent processes after its own limit: half of ours, so that its answer
     * comes. */
    int n = snprintf(ask, sizeof(ask), "CLIENT PROTOCOL 2\nTIMEOUT %lld\nSTATUS\n",
        (long long)(timeout_ms / 2000 > 0 ? timeout_ms / 2000 : 1));
    if (io_send_full(fd, ask, (size_t)n, deadline_ms, NULL))
        return;
    ras_read(fd, text, sizeof(text), deadline_ms);
    if (!ras_section(text, "Errors", out, size))
        ras_section(text, "Warnings", out, size);
}
