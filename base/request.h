/*
 * request: reads HTTP/1.1 requests (RFC 9112): bytes in, a request and the pieces of its body out.
 * Pure: no socket, no clock, and it is fuzzed by itself (tests/base/fuzz_request.c).
 *
 * It is strict where two readers of one stream could differ about where a request ends: lines end
 * in CRLF, a header that counts comes once, a length is digits, transfer-encoding is "chunked" on
 * HTTP/1.1 alone and never beside a length. What it refuses has a status; the stream is then lost
 * and the connection must be closed. A request owns one allocation of its head's size.
 */
#ifndef BASE_REQUEST_H
#define BASE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_HEAD_BYTES 16384 /* request line and headers; beyond it 431 */
#define REQUEST_HEADERS    100

struct request {
    char *text;                        /* what the pointers below point into */
    const char *method, *path, *query; /* path: decoded; query: as sent, "" when absent */
    const char *headers, *headers_end; /* "name\0value\0", names in lower case */
    bool http10, keep_alive, expects;  /* expects: waits for 100 before it sends the body */
    bool sized, chunked, websocket;    /* sized: has a Content-Length */
    uint64_t length;                   /* of the body, unless chunked */
};

/*
 * The length of the head that begins at data, its last empty line included; 0 when more bytes are
 * needed, a negative status when no head can become of it. An empty line before a head is a head
 * of 2 bytes, to be dropped. *at keeps the place between calls with more bytes, 0 at first.
 */
int request_find(const char *data, size_t len, size_t *at);
/* Reads a head that request_find found. 0, or the status to answer. */
int request_parse(const char *head, size_t len, struct request *out);
void request_done(struct request *r); /* zeroed is fine */
const char *request_header(const struct request *r, const char *lower_case_name); /* or NULL */

struct request_body {
    int state; /* of request.c */
    uint64_t left;
    unsigned digits, line;
};

void request_body_begin(struct request_body *b, const struct request *r);
bool request_body_ended(const struct request_body *b);
/*
 * Takes bytes of the body: returns how many, with at most one piece of content among them, or a
 * negative status. Takes nothing beyond the end.
 */
int64_t request_body_take(
    struct request_body *b, const char *data, size_t len, const char **piece, size_t *piece_len);

/* What a status is called (RFC 9110, 15); "Status", of one that is not answered here. */
const char *request_reason(int status);

#endif
