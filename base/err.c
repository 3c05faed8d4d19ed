/*
 * err: fixed-size errors owned by the caller. Nothing here allocates or logs; a long text is cut,
 * never refused, so that reporting a failure cannot fail. Calls nothing of the house but utf8.
 */
#include "base/err.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[ERR_CODES] = {
    [ERR_NONE] = "none",
    [ERR_RETRY] = "retry",
    [ERR_USER] = "user",
    [ERR_DATA] = "data",
    [ERR_CORRUPT] = "corrupt",
    [ERR_DEVICE] = "device",
    [ERR_PEER] = "peer",
    [ERR_HANG] = "hang",
    [ERR_MEMORY] = "memory",
    [ERR_DRAINED] = "drained",
    [ERR_BUG] = "bug",
};

/* What comes from outside must neither break the one-line promise nor act on a terminal: errors end
 * in logs, in status and on screens. */
static void make_one_line(char *s)
{
    char shown[UTF8_SHOWN_BYTES];
    for (size_t n; *s; s += n) {
        n = utf8_show(s, strlen(s), shown);
        if (strncmp(s, shown, n) != 0 || shown[n])
            memset(s, (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : '?', n);
    }
}

static void set_text(struct err *e, const char *fmt, va_list ap)
{
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    make_one_line(e->text);
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        set_text(e, fmt, ap);
        va_end(ap);
        e->code = code;
        e->sys = 0;
    }
    return -(int)code;
}

int err_sys(struct err *e, enum err_code code, int sys, const char *fmt, ...)
{
    if (sys == ENOMEM)
        code = ERR_MEMORY;
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        set_text(e, fmt, ap);
        va_end(ap);
        size_t n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, ": %s", strerror(sys));
        e->code = code;
        e->sys = sys;
    }
    return -(int)code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -(int)ERR_BUG;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    set_text(e, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", old);
    return -(int)e->code;
}

const char *err_code_name(enum err_code code)
{
    return code < ERR_CODES ? code_names[code] : "bug";
}

enum err_code err_code_parse(const char *name)
{
    for (int i = 0; name && i < ERR_CODES; i++)
        if (!strcmp(name, code_names[i]))
            return (enum err_code)i;
    return ERR_BUG;
}
