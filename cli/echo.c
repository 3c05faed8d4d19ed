/*
 * echo: the log of a replica is written by its agent and by the programs that it started; lines of
 * the agent are told by how base/log begins them and left out. A line that is longer than what is
 * read at once comes in pieces.
 */
#include "cli/echo.h"

#include "base/buf.h"
#include "base/io.h"

#include <string.h>

#define PIECE_BYTES (64 << 10)
#define MOST_PIECES 16 /* of a replica in a call: its log may grow faster than it is shown */
#define LAST_PIECES (1 << 14)
#define STAMP_BYTES 24 /* 2026-11-30T22:32:15.065Z */
#define LEVEL_BYTES 6  /* " info " */

/* How much of a line the program wrote: a line of the agent's may stand behind what had no end. */
static size_t programs_part(const char *line, size_t n)
{
    static const char name[] = " llmjob-agent: ";
    const char *at = memmem(line, n, name, sizeof name - 1);
    size_t before = at ? (size_t)(at - line) : 0;
    if (before < STAMP_BYTES + LEVEL_BYTES)
        return n;
    const char *stamp = at - LEVEL_BYTES - STAMP_BYTES;
    return stamp[10] == 'T' && stamp[STAMP_BYTES - 1] == 'Z' ? (size_t)(stamp - line) : n;
}

static int show_line(struct buf *out, int replica, const char *line, size_t n)
{
    size_t own = programs_part(line, n);
    if (!own && n)
        return 0;
    char head[16];
    snprintf(head, sizeof head, "[%d] ", replica);
    int rc = buf_str(out, head);
    rc = rc ? rc : buf_add(out, line, own);
    return rc ? rc : buf_str(out, "\n");
}

/* text: n bytes of a log, read whole; how many of them were shown, or -code. */
static int64_t show_piece(struct buf *out, int replica, const char *text, size_t n, bool last)
{
    size_t shown = 0;
    while (shown < n) {
        const char *line = text + shown, *end = memchr(line, '\n', n - shown);
        size_t length = end ? (size_t)(end - line) : n - shown;
        if (!end && !last && (shown || n < PIECE_BYTES)) /* a later piece begins with it */
            break;
        if (show_line(out, replica, line, length))
            return -ERR_MEMORY;
        shown += length + (end != NULL);
    }
    return (int64_t)shown;
}

/* 1: there is more. */
static int show_replica(
    struct echo *x, const struct crew *c, int replica, bool last, int fd, struct err *e)
{
    char path[512], text[PIECE_BYTES];
    struct err none;
    buf_auto struct buf out;
    int64_t *at = &x->at[replica];
    buf_init(&out, 16 * PIECE_BYTES);
    io_auto_fd int log = io_open_read(crew_log(c, replica, path, sizeof path), &none);
    int64_t left = log < 0 ? 0 : io_file_size(path, &none) - *at;
    size_t n = left < PIECE_BYTES ? (size_t)(left < 0 ? 0 : left) : PIECE_BYTES;
    if (!n || io_pread_full(log, text, n, *at, &none))
        return 0;
    int64_t shown = show_piece(&out, replica, text, n, last && left <= PIECE_BYTES);
    if (shown < 0)
        return err_set(e, ERR_MEMORY, "out of memory showing %s", path);
    *at += shown;
    int rc = io_write_full(fd, buf_cstr(&out), out.len, e);
    return rc ? rc : shown > 0 && left > shown;
}

int echo_news(struct echo *x, const struct crew *c, bool last, int fd, struct err *e)
{
    int most = last ? LAST_PIECES : MOST_PIECES;
    for (int i = 0; i < c->count; i++) {
        int more = 1;
        for (int piece = 0; more && piece < most; piece++)
            if ((more = show_replica(x, c, i, last, fd, e)) < 0)
                return more;
    }
    return 0;
}
