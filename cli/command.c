/*
 * command: the one way in which commands read their arguments. Uses base/conf; changes only the
 * order of argv's pointers. Must not print but for --help.
 */
#include "cli/command.h"

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
