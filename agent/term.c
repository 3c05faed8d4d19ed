/*
 * term: the file is one line, "number uid", written whole or not at all.
 */
#include "agent/term.h"

#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define TERM_FILE "term"

bool term_admits(const struct term *seen, int64_t number, const char *uid)
{
    return number > seen->number || (number == seen->number && !strcmp(uid, seen->uid));
}

void term_take(struct term *seen, int64_t number, const char *uid)
{
    seen->number = number;
    if (uid != seen->uid)
        snprintf(seen->uid, sizeof seen->uid, "%s", uid);
}

static int term_path(const char *run_dir, char path[LIMIT_PATH_BYTES], struct err *e)
{
    int n = snprintf(path, LIMIT_PATH_BYTES, "%s/" TERM_FILE, run_dir);
    return n > 0 && n < LIMIT_PATH_BYTES ? 0 : err_set(e, ERR_USER, "--run-dir is too long");
}

void term_load(const char *run_dir, struct term *out)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    struct err e = {0};
    *out = (struct term){0};
    buf_init(&text, 128);
    if (term_path(run_dir, path, &e) || !io_exists(path))
        return;
    long long number = 0;
    char uid[sizeof out->uid];
    int rc = io_read_file(path, 127, &text, &e);
    if (rc == 0 && (sscanf(buf_cstr(&text), "%lld %63[^\n]", &number, uid) != 2 || number < 1))
        rc = err_set(&e, ERR_DATA, "%s: no term", path);
    if (rc == 0)
        term_take(out, number, uid);
    else
        log_warn("the kept term cannot be read", LOG_ERR(&e));
}

int term_save(const char *run_dir, const struct term *t, struct err *e)
{
    char path[LIMIT_PATH_BYTES], text[128];
    int rc = term_path(run_dir, path, e);
    if (rc)
        return rc;
    int n = snprintf(text, sizeof text, "%lld %s\n", (long long)t->number, t->uid);
    return io_write_file(path, text, (size_t)n, 0600, e);
}
