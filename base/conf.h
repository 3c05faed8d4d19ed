/*
 * conf: flag over environment over file over default, from one table; built in main, checked once,
 * passed down.
 *
 *   static const struct conf_item items[] = {
 *     {"listen", CONF_STR, offsetof(struct conf, listen), "LLMJOB_LISTEN", ":8080", "address"},
 *     {0}};
 *
 * `--name value`, `--name=value` and, for CONF_BOOL, bare `--name` are accepted; `--` ends the
 * flags; `--help` prints the table. Thread: main's.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/err.h"

#include <stddef.h>

enum conf_kind {
    CONF_STR,  /* const char * */
    CONF_INT,  /* int64_t */
    CONF_NUM,  /* double */
    CONF_BOOL, /* bool */
};

struct conf_item {
    const char *name;
    enum conf_kind kind;
    size_t offset;
    const char *env; /* or NULL */
    const char *def; /* or NULL: zero value */
    const char *help;
};

/*
 * Fills *out. Returns the index in argv of the first argument that is no flag (argc when none), 0
 * after
 * --help was printed to stdout, or -ERR_USER with *out unchanged. A file given by --config is a
 * YAML map of the same names.
 */
int conf_load(const struct conf_item *items, int argc, char **argv, void *out, struct err *e);
/* Strings taken from a file live until here: at the end of main, or of a test. */
void conf_done(void);

#endif
