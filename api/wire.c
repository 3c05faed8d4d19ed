/*
 * wire: frames between an agent and its ranks. The reader keeps bytes in one buffer and hands out
 * frames in place: the payload is shifted one byte down into its own header, so that the promised
 * NUL behind it does not touch the next frame. A peer that breaks the format is a bug, never
 * trusted further.
 */
#include "api/wire.h"

#include "base/io.h"
#include "api/limits.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define PIECE_BYTES (64 << 10)

static const char *const phase_names[WIRE_PHASES] = {
    [WIRE_PHASE_START] = "start",
    [WIRE_PHASE_CONNECT] = "connect",
    [WIRE_PHASE_LOAD] = "load",
    [WIRE_PHASE_DATA] = "data",
    [WIRE_PHASE_FORWARD] = "forward",
    [WIRE_PHASE_BACKWARD] = "backward",
    [WIRE_PHASE_COLLECTIVE] = "collective",
    [WIRE_PHASE_OPTIMIZER] = "optimizer",
    [WIRE_PHASE_EVALUATE] = "evaluate",
    [WIRE_PHASE_CHECKPOINT] = "checkpoint",
    [WIRE_PHASE_EXPORT] = "export",
    [WIRE_PHASE_SERVE_IDLE] = "idle",
    [WIRE_PHASE_SERVE_PREFILL] = "prefill",
    [WIRE_PHASE_SERVE_DECODE] = "decode",
    [WIRE_PHASE_SERVE_RENDER] = "render",
};

const char *wire_phase_name(enum wire_phase p)
{
    return p < WIRE_PHASES ? phase_names[p] : "unknown"; /* the page is another process's */
}

const char *wire_operation_name(uint32_t operation)
{
    static const char *const names[WIRE_OPERATIONS] = {"none", "allreduce", "allgather",
        "broadcast", "barrier", "reduce-scatter", "all-to-all", "exchange"};
    return operation < WIRE_OPERATIONS ? names[operation] : "unknown";
}

static const char *const calls_names[WIRE_CALLS_FORMS] = {
    "none", "unknown", "hermes", "llama", "mistral"};

const char *wire_calls_name(enum wire_calls c)
{
    return calls_names[c];
}

enum wire_calls wire_calls_of(const char *name)
{
    for (int i = 0; i < WIRE_CALLS_FORMS; i++)
        if (!strcmp(calls_names[i], name))
            return (enum wire_calls)i;
    return WIRE_CALLS_NONE;
}

static const char *const does_names[WIRE_DOES_KINDS] = {
    "generate", "embed", "classify", "tag", "recommend"};

const char *wire_does_name(enum wire_does d)
{
    return does_names[d];
}

enum wire_does wire_does_of(const char *name)
{
    for (int i = 0; i < WIRE_DOES_KINDS; i++)
        if (!strcmp(does_names[i], name))
            return (enum wire_does)i;
    return WIRE_DOES_GENERATE;
}

void wire_page_note(struct wire_page *p, const char *text)
{
    uint64_t words[WIRE_NOTE_BYTES / 8] = {0};
    snprintf((char *)words, sizeof words, "%s", text);
    atomic_fetch_add(&p->note_writes, 1);
    for (size_t i = 0; i < WIRE_NOTE_BYTES / 8; i++)
        atomic_store(&p->note[i], words[i]);
    atomic_fetch_add(&p->note_writes, 1);
}

void wire_page_noted(const struct wire_page *p, char out[WIRE_NOTE_BYTES])
{
    uint32_t writes = atomic_load(&p->note_writes);
    for (size_t i = 0; i < WIRE_NOTE_BYTES / 8; i++) {
        uint64_t word = atomic_load(&p->note[i]);
        memcpy(out + 8 * i, &word, 8);
    }
    out[WIRE_NOTE_BYTES - 1] = 0;
    if (writes % 2 || atomic_load(&p->note_writes) != writes)
        out[0] = 0;
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}

void wire_reader_init(struct wire_reader *r)
{
    buf_init(&r->in, WIRE_HEADER_BYTES + LIMIT_FRAME_BYTES + PIECE_BYTES);
    r->used = 0;
}

void wire_reader_done(struct wire_reader *r)
{
    buf_done(&r->in);
    r->used = 0;
}

int wire_read(struct wire_reader *r, int fd, struct err *e)
{
    char piece[PIECE_BYTES];
    buf_drop(&r->in, r->used);
    r->used = 0;
    size_t room = r->in.limit - r->in.len;
    if (!room)
        return 1; /* whole frames wait for wire_next */
    int64_t n = io_recv_now(fd, piece, room < sizeof piece ? room : sizeof piece, e);
    if (n <= 0)
        return (int)n;
    if (buf_add(&r->in, piece, (size_t)n))
        return err_set(e, ERR_MEMORY, "out of memory for a frame");
    return 1;
}

int wire_next(struct wire_reader *r, struct wire_frame *out, struct err *e)
{
    size_t left = r->in.len - r->used;
    if (left < WIRE_HEADER_BYTES)
        return 0;
    char *frame = r->in.data + r->used;
    uint32_t len;
    uint16_t type, zero;
    memcpy(&len, frame, sizeof len);
    memcpy(&type, frame + 4, sizeof type);
    memcpy(&zero, frame + 6, sizeof zero);
    len = le32toh(len);
    type = le16toh(type);
    if (zero || !type || len > LIMIT_FRAME_BYTES)
        return err_set(e, ERR_BUG, "malformed frame: type %u, %u bytes", type, len);
    if (left - WIRE_HEADER_BYTES < len)
        return 0;
    char *data = memmove(frame + WIRE_HEADER_BYTES - 1, frame + WIRE_HEADER_BYTES, len);
    data[len] = 0;
    r->used += WIRE_HEADER_BYTES + len;
    *out = (struct wire_frame){.type = type, .data = data, .len = len};
    return 1;
}

int wire_wait(
    struct wire_reader *r, int fd, int64_t deadline_ms, struct wire_frame *out, struct err *e)
{
    for (;;) {
        int rc = wire_next(r, out, e);
        if (rc)
            return rc < 0 ? rc : 0;
        rc = io_wait_readable(fd, deadline_ms, e);
        if (!rc)
            rc = wire_read(r, fd, e);
        if (rc < 0)
            return rc;
    }
}

void wire_header(enum wire_type type, uint32_t len, char out[WIRE_HEADER_BYTES])
{
    assert(len <= LIMIT_FRAME_BYTES && type > 0 && type <= UINT16_MAX);
    uint32_t le_len = htole32(len);
    uint16_t le_type = htole16((uint16_t)type);
    memcpy(out, &le_len, sizeof le_len);
    memcpy(out + 4, &le_type, sizeof le_type);
    memset(out + 6, 0, 2);
}

uint64_t wire_request_id(const struct wire_frame *f)
{
    static const char start[] = "{\"id\":";
    size_t n = sizeof start - 1;
    return f->len > n && !memcmp(f->data, start, n) ? strtoull(f->data + n, NULL, 10) : 0;
}

int wire_put_token(struct buf *out, const struct wire_token *t)
{
    uint64_t request = htole64(t->request);
    uint32_t rest[] = {
        htole32(t->count), htole32(t->hidden), htole32(t->prompt), htole32(t->cached)};
    buf_add(out, &request, sizeof request);
    return buf_add(out, rest, sizeof rest);
}

bool wire_take_token(const struct wire_frame *f, struct wire_token *out)
{
    uint64_t request;
    uint32_t rest[4];
    if (f->len < WIRE_TOKEN_BYTES)
        return false;
    memcpy(&request, f->data, sizeof request);
    memcpy(rest, f->data + sizeof request, sizeof rest);
    *out = (struct wire_token){.request = le64toh(request),
        .count = le32toh(rest[0]),
        .hidden = rest[1] != 0,
        .prompt = le32toh(rest[2]),
        .cached = le32toh(rest[3])};
    return true;
}

int wire_put_logprob(struct buf *out, const struct wire_logprob *x)
{
    uint32_t head[3] = {(uint32_t)x->token, 0, htole32(x->len)};
    memcpy(&head[1], &x->logprob, sizeof head[1]);
    head[0] = htole32(head[0]);
    head[1] = htole32(head[1]);
    buf_add(out, head, sizeof head);
    return buf_add(out, x->bytes, x->len);
}

bool wire_take_logprob(const struct wire_frame *f, uint32_t *at, struct wire_logprob *out)
{
    uint32_t head[3];
    if (*at > f->len || f->len - *at < sizeof head)
        return false;
    memcpy(head, f->data + *at, sizeof head);
    for (int i = 0; i < 3; i++)
        head[i] = le32toh(head[i]);
    if (f->len - *at - sizeof head < head[2])
        return false;
    *out = (struct wire_logprob){
        .token = (int32_t)head[0], .bytes = f->data + *at + sizeof head, .len = head[2]};
    memcpy(&out->logprob, &head[1], sizeof out->logprob);
    *at += (uint32_t)sizeof head + head[2];
    return true;
}

int wire_send(
    int fd, enum wire_type type, const void *data, uint32_t len, int64_t deadline_ms, struct err *e)
{
    char frame[4096]; /* small frames, tokens above all, go out in one system call */
    wire_header(type, len, frame);
    uint32_t first =
        len < sizeof frame - WIRE_HEADER_BYTES ? len : sizeof frame - WIRE_HEADER_BYTES;
    if (first)
        memcpy(frame + WIRE_HEADER_BYTES, data, first);
    int rc = io_send_full(fd, frame, WIRE_HEADER_BYTES + first, deadline_ms, e);
    if (!rc && first < len)
        rc = io_send_full(fd, (const char *)data + first, len - first, deadline_ms, e);
    return rc;
}
