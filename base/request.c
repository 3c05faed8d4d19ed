/*
 * request: a head is copied once and taken apart in place: what is written never
 * overtakes what is read, since "name: value CRLF" is longer than the two strings it becomes.
 */
#include "base/request.h"

#include "base/mem.h"

#include <string.h>

#define CHUNK_DIGITS  16
#define CHUNK_LINE    256 /* extensions of one chunk, which nobody reads */
#define TRAILER_BYTES 4096

static bool is_token(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_text(unsigned char c) /* of a header's value */
{
    return (c >= ' ' && c != 0x7f) || c == '\t';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static int hex(char c)
{
    c = lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int request_find(const char *data, size_t len, size_t *at)
{
    for (size_t i = *at; i < len; i++) {
        char c = data[i];
        bool after_cr = i > 0 && data[i - 1] == '\r';
        if (i >= REQUEST_HEAD_BYTES)
            return -431;
        if ((c == '\n') != after_cr || (c != '\r' && c != '\n' && !is_text(c)))
            return -400;
        if (c != '\n')
            continue;
        if (i == 1 || (i >= 3 && data[i - 2] == '\n'))
            return (int)i + 1;
    }
    *at = len;
    return len < REQUEST_HEAD_BYTES ? 0 : -431;
}

/* -- the request line -- */

static int read_method(struct request *r, char *word)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    for (const char *p = word; *p; p++)
        if (!is_token((unsigned char)*p))
            return 400;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(word, known[i])) {
            r->method = known[i];
            return 0;
        }
    if (!*word)
        return 400;
    return !strcmp(word, "CONNECT") || !strcmp(word, "TRACE") ? 405 : 501;
}

static int decode_path(char *path)
{
    char *to = path;
    for (const char *p = path; *p; p++) {
        int high = 0, low = 0;
        if (*p == '%') {
            high = hex(p[1]);
            low = high < 0 ? -1 : hex(p[2]);
            if (low < 0 || high * 16 + low == 0)
                return 400;
            p += 2;
            *to++ = (char)(high * 16 + low);
        } else {
            *to++ = *p;
        }
    }
    *to = 0;
    return 0;
}

static int read_target(struct request *r, char *target)
{
    for (const char *p = target; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '#')
            return 400;
    char *mark = strchr(target, '?');
    if (mark)
        *mark = 0;
    r->query = mark ? mark + 1 : "";
    if (!strcmp(target, "*")) {
        r->path = "*";
        return strcmp(r->method, "OPTIONS") ? 400 : 0;
    }
    if (target[0] != '/') { /* absolute: what a proxy would be sent */
        char *host = !strncasecmp(target, "http://", 7) ? target + 7 : NULL;
        if (!host || !*host || *host == '/')
            return 400;
        target = strchr(host, '/');
    }
    r->path = target ? target : "/";
    return target ? decode_path(target) : 0;
}

static int read_version(struct request *r, const char *word)
{
    r->http10 = !strcmp(word, "HTTP/1.0");
    r->keep_alive = !r->http10;
    if (r->http10 || !strcmp(word, "HTTP/1.1"))
        return 0;
    bool other = strlen(word) == 8 && !strncmp(word, "HTTP/", 5) && word[6] == '.' &&
        word[5] >= '0' && word[5] <= '9' && word[7] >= '0' && word[7] <= '9';
    return other ? 505 : 400;
}

static int read_first_line(struct request *r, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version)
        return 400;
    *target++ = 0;
    *version++ = 0;
    int status = read_version(r, version);
    if (!status)
        status = read_method(r, line);
    return status ? status : read_target(r, target);
}

/* -- headers -- */

const char *request_header(const struct request *r, const char *lower_case_name)
{
    for (const char *p = r->headers; p && p < r->headers_end;) {
        const char *value = p + strlen(p) + 1;
        if (!strcmp(p, lower_case_name))
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

/* Moves "name: value" to `to` as two strings; returns the place behind them, NULL when
 * malformed. */
static char *read_header(char *line, char *to)
{
    char *p = line;
    for (; is_token((unsigned char)*p); p++)
        *to++ = lower(*p);
    if (p == line || *p != ':')
        return NULL; /* a folded line or a blank before the colon, too */
    p++;
    *to++ = 0;
    p += strspn(p, " \t");
    size_t n = strlen(p);
    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    for (size_t i = 0; i < n; i++)
        if (!is_text((unsigned char)p[i]))
            return NULL;
    memmove(to, p, n);
    to[n] = 0;
    return to + n + 1;
}

/* Whether a list such as Connection's has the word. */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ","), end = len;
        while (end && (list[end - 1] == ' ' || list[end - 1] == '\t'))
            end--;
        if (end == n && !strncasecmp(list, word, n))
            return true;
        list += len;
    }
    return false;
}

static int read_length(struct request *r, const char *value)
{
    size_t n = strlen(value);
    if (!n || n > 18)
        return 400;
    uint64_t length = 0;
    for (const char *p = value; *p; p++) {
        if (*p < '0' || *p > '9')
            return 400;
        length = length * 10 + (uint64_t)(*p - '0');
    }
    r->sized = true;
    r->length = length;
    return 0;
}

/* What a header means to the connection. The first of a name that may come once has been seen by
 * request_header when `again`. */
static int read_meaning(struct request *r, const char *name, const char *value, bool again)
{
    static const char *const once[] = {"host", "content-length", "transfer-encoding", "expect",
        "authorization", "content-type", "x-llmjob-token", "upgrade", "origin", "sec-websocket-key",
        "sec-websocket-version"};
    for (size_t i = 0; again && i < sizeof once / sizeof *once; i++)
        if (!strcmp(name, once[i]))
            return 400;
    if (!strcmp(name, "content-length"))
        return read_length(r, value);
    if (!strcmp(name, "transfer-encoding")) {
        r->chunked = true;
        return r->http10 ? 400 : strcasecmp(value, "chunked") ? 501 : 0;
    }
    if (!strcmp(name, "expect")) {
        r->expects = !r->http10;
        return strcasecmp(value, "100-continue") ? 417 : 0;
    }
    if (!strcmp(name, "upgrade"))
        r->websocket = list_has(value, "websocket");
    return 0;
}

static int read_headers(struct request *r, char *line, char *end, char *to)
{
    int count = 0;
    bool close = false, keep = false, upgrade = false;
    r->headers = r->headers_end = to;
    for (char *next; line < end; line = next) {
        char *lf = memchr(line, '\n', (size_t)(end - line));
        if (!lf || lf == line || lf[-1] != '\r')
            return 400;
        lf[-1] = 0;
        next = lf + 1;
        if (++count > REQUEST_HEADERS)
            return 431;
        char *after = read_header(line, to);
        if (!after)
            return 400;
        const char *value = to + strlen(to) + 1;
        int status = read_meaning(r, to, value, request_header(r, to) != NULL);
        if (status)
            return status;
        if (!strcmp(to, "connection")) {
            close = close || list_has(value, "close");
            keep = keep || list_has(value, "keep-alive");
            upgrade = upgrade || list_has(value, "upgrade");
        }
        r->headers_end = to = after;
    }
    r->keep_alive = !close && (!r->http10 || keep);
    r->websocket = r->websocket && upgrade && !r->http10 && !strcmp(r->method, "GET");
    if (r->sized && r->chunked)
        return 400;
    return r->http10 || request_header(r, "host") ? 0 : 400;
}

int request_parse(const char *head, size_t len, struct request *out)
{
    struct request r = {.text = mem_strndup(head, len)};
    if (!r.text)
        return 503;
    char *lf = memchr(r.text, '\n', len);
    bool whole = len >= 4 && !memcmp(head + len - 4, "\r\n\r\n", 4) && strlen(r.text) == len;
    int status = 400;
    if (whole && lf && lf > r.text && lf[-1] == '\r') {
        lf[-1] = 0;
        status = read_first_line(&r, r.text);
    }
    if (!status) /* written behind the first line, read from its end: never overtaken */
        status = read_headers(&r, lf + 1, r.text + len - 2, lf + 1);
    if (status) {
        mem_free(r.text);
        return status;
    }
    *out = r;
    return 0;
}

void request_done(struct request *r)
{
    mem_free(r->text);
    *r = (struct request){0};
}

/* -- the body -- */

enum {
    BODY_ENDED,
    BODY_LENGTH, /* content up to Content-Length */
    BODY_SIZE,   /* "1a2b[;extension]CRLF" */
    BODY_EXTENSION,
    BODY_SIZE_LF,
    BODY_DATA,
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER, /* lines of headers up to an empty one, all dropped */
    BODY_TRAILER_LF,
    BODY_END_LF,
};

void request_body_begin(struct request_body *b, const struct request *r)
{
    *b = (struct request_body){.state = r->chunked ? BODY_SIZE
            : r->length                            ? BODY_LENGTH
                                                   : BODY_ENDED,
        .left = r->chunked ? 0 : r->length};
}

bool request_body_ended(const struct request_body *b)
{
    return b->state == BODY_ENDED;
}

static int take_size(struct request_body *b, char c)
{
    int digit = hex(c);
    if (digit >= 0) {
        b->left = b->left << 4 | (uint64_t)digit;
        return ++b->digits > CHUNK_DIGITS ? -400 : 0;
    }
    b->state = c == '\r' ? BODY_SIZE_LF : BODY_EXTENSION;
    return b->digits && (c == '\r' || c == ';') ? 0 : -400;
}

/* A line's end, or one more byte of what is dropped. `most` bounds it. */
static int skip(struct request_body *b, char c, int at_end, unsigned most)
{
    if (c == '\r')
        b->state = at_end;
    else if (!is_text((unsigned char)c) || ++b->line > most)
        return -400;
    return 0;
}

static int expect(struct request_body *b, char c, char want, int next)
{
    b->state = next;
    return c == want ? 0 : -400;
}

static int take_frame(struct request_body *b, char c)
{
    switch (b->state) {
    case BODY_SIZE:
        return take_size(b, c);
    case BODY_EXTENSION:
        return skip(b, c, BODY_SIZE_LF, CHUNK_LINE);
    case BODY_SIZE_LF:
        b->digits = b->line = 0;
        return expect(b, c, '\n', b->left ? BODY_DATA : BODY_TRAILER);
    case BODY_DATA_CR:
        return expect(b, c, '\r', BODY_DATA_LF);
    case BODY_DATA_LF:
        return expect(b, c, '\n', BODY_SIZE);
    case BODY_TRAILER: /* digits: whether this line has a byte */
        if (c == '\r' && !b->digits)
            return expect(b, c, '\r', BODY_END_LF);
        b->digits = 1;
        return skip(b, c, BODY_TRAILER_LF, TRAILER_BYTES);
    case BODY_TRAILER_LF:
        b->digits = 0;
        return expect(b, c, '\n', BODY_TRAILER);
    default:
        return expect(b, c, '\n', BODY_ENDED);
    }
}

int64_t request_body_take(
    struct request_body *b, const char *data, size_t len, const char **piece, size_t *piece_len)
{
    size_t i = 0;
    *piece = NULL;
    *piece_len = 0;
    while (i < len && b->state != BODY_ENDED) {
        if (b->state != BODY_LENGTH && b->state != BODY_DATA) {
            int rc = take_frame(b, data[i++]);
            if (rc)
                return rc;
            continue;
        }
        size_t n = b->left < len - i ? (size_t)b->left : len - i;
        *piece = data + i;
        *piece_len = n;
        b->left -= n;
        if (!b->left)
            b->state = b->state == BODY_LENGTH ? BODY_ENDED : BODY_DATA_CR;
        return (int64_t)(i + n);
    }
    return (int64_t)i;
}

/* -- answers -- */

const char *request_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].reason;
    return "Status";
}
