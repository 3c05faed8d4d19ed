/*
 * Goal: a reader fed with any bytes gives exactly the frames that stand in them, then a refusal or
 * a wait. Method: the bytes go through a socket in pieces of a length taken from the first byte;
 * every frame that comes out is compared with the header and payload at its place in the input.
 */
#include "base/io.h"
#include "api/limits.h"
#include "api/wire.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void same_frame(const struct wire_frame *f, const uint8_t *at, size_t left)
{
    uint32_t len;
    uint16_t type;
    must(left >= 8);
    memcpy(&len, at, sizeof len);
    memcpy(&type, at + 4, sizeof type);
    must(f->len == le32toh(len) && f->len <= left - 8);
    must(f->type == (enum wire_type)le16toh(type) && f->type > 0);
    must(at[6] == 0 && at[7] == 0);
    must(!memcmp(f->data, at + 8, f->len) && f->data[f->len] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    struct wire_reader r;
    struct wire_frame f;
    wire_reader_init(&r);
    size_t piece = size ? (size_t)data[0] + 1 : 1, taken = 0;
    int rc = 0;
    for (size_t at = 0; at < size && rc >= 0; at += piece) {
        piece = piece > size - at ? size - at : piece;
        must(!io_send_full(pair[0], data + at, piece, INT64_MAX, NULL));
        must(wire_read(&r, pair[1], NULL) == 1);
        while ((rc = wire_next(&r, &f, NULL)) == 1) {
            same_frame(&f, data + taken, size - taken);
            taken += 8 + f.len;
        }
    }
    must(rc == 0 || rc == -ERR_BUG);
    wire_reader_done(&r);
    io_close(pair[0]);
    io_close(pair[1]);
    return 0;
}
