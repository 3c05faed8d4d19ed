/*
 * conf: flag over environment over file over default, from one table; built in main, checked once, passed down.
 *
 *   static const struct conf_item items[] = {
 *     {"listen", CONF_STR, offsetof(struct conf, listen), "LLMJOB_LISTEN", "0.0.0.0:8080", "address to listen on"},
 *     {0}};
 * `--name value`, `--name=value` and, for CONF_BOOL, bare `--name` are accepted; `--help` prints the table.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/err.h"

#include <stddef.h>

enum conf_kind { CONF_STR, CONF_INT, CONF_NUM, CONF_BOOL }; /* const char *, int64_t, double, bool */

struct conf_item {
	const char *name;
	enum conf_kind kind;
	size_t offset;
	const char *env;  /* or NULL */
	const char *def;  /* or NULL: zero value */
	const char *help;
};

/*
 * Fills *out. Returns the index in argv of the first argument that is no flag (argc when none), 0 after
 * --help was printed to stdout, or -ERR_USER. A file given by --config is a YAML map of the same names.
 */
int conf_load(const struct conf_item *items, int argc, char **argv, void *out, struct err *e);
void conf_help(const struct conf_item *items, const char *usage);

#endif
