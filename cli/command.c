/*
 * command: the one way in which commands read their arguments. Uses base/conf; changes only the
 * order of argv's pointers. And the one way in which commands print what comes from outside.
 */
#include "cli/command.h"

#include "api/limits.h"
#include "base/buf.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stddef.h>

int command_flags(const struct conf_item *items, const char *usage, const char *what, int argc,
    char **argv, void *conf, const char **operand, struct err *e)
{
    const char *found = NULL;
    if (argc > 1 && argv[1][0] != '-') {
        found = argv[1];
        argv++;
        argc--;
    }
    argv[0] = (char *)usage; /* conf_load shows it above the flags */
    int next = conf_load(items, argc, argv, conf, e);
    if (next <= 0)
        return next;
    if (!found && next < argc)
        found = argv[next++];
    if (!found)
        return err_set(e, ERR_USER, "no %s given; --help tells more", what);
    if (next < argc)
        return err_set(e, ERR_USER, "%.80s: one %s is expected", argv[next], what);
    *operand = found;
    return 1;
}

void command_print(FILE *to, const char *fmt, ...)
{
    buf_auto struct buf text;
    va_list ap;
    buf_init(&text, 2 * LIMIT_JOB_FILE_BYTES);
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    const char *s = buf_ok(&text) ? buf_cstr(&text) : "out of memory to print";
    utf8_print(to, s);
    fputc('\n', to);
}
