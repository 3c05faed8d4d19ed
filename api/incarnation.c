/*
 * incarnation: written whole or not at all. It must not lock: who writes holds the folder's lock.
 */
#include "api/incarnation.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

int incarnation_path(const char *checkpoint, char out[LIMIT_PATH_BYTES], struct err *e)
{
    int n = snprintf(out, LIMIT_PATH_BYTES, "%s/incarnation", checkpoint);
    return n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "checkpoint path is too long");
}

int incarnation_read(const char *checkpoint, int64_t *out, struct err *e)
{
    char file[LIMIT_PATH_BYTES];
    int rc = incarnation_path(checkpoint, file, e);
    if (rc)
        return rc;
    struct err why = {0};
    buf_auto struct buf text;
    buf_init(&text, 64);
    int64_t n = 0;
    rc = io_read_file(file, 63, &text, &why);
    if (!rc && !number_file(buf_cstr(&text), text.len, &n))
        rc = err_set(&why, ERR_DATA,
            "%s: holds no incarnation, a whole number from 1 to %" PRId64
            "; remove it when nothing else uses the folder",
            file, NUMBER_EXACT);
    if (rc && why.sys != ENOENT) {
        if (e)
            *e = why;
        return rc;
    }
    *out = n;
    return 0;
}

int incarnation_write(const char *checkpoint, int64_t incarnation, struct err *e)
{
    char file[LIMIT_PATH_BYTES], text[32];
    int rc = incarnation_path(checkpoint, file, e);
    if (rc)
        return rc;
    int n = snprintf(text, sizeof text, "%" PRId64 "\n", incarnation);
    return io_write_file(file, text, (size_t)n, 0644, e);
}
