/*
 * exitcode: the one table between error codes and process exit statuses. Pure.
 */
#include "api/exitcode.h"

#include <stddef.h>

static const struct {
    enum err_code code;
    enum exit_class exit;
} table[] = {
    {ERR_NONE, EXIT_CLASS_DONE},
    {ERR_USER, EXIT_CLASS_USER},
    {ERR_DATA, EXIT_CLASS_DATA},
    {ERR_CORRUPT, EXIT_CLASS_CORRUPT},
    {ERR_DEVICE, EXIT_CLASS_DEVICE},
    {ERR_PEER, EXIT_CLASS_PEER},
    {ERR_HANG, EXIT_CLASS_HANG},
    {ERR_MEMORY, EXIT_CLASS_MEMORY},
    {ERR_DRAINED, EXIT_CLASS_DRAINED},
    {ERR_BUG, EXIT_CLASS_BUG},
    {ERR_RETRY, EXIT_CLASS_RETRY},
};

enum exit_class exit_class_of(enum err_code code)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == code)
            return table[i].exit;
    return EXIT_CLASS_BUG;
}

enum err_code exit_class_code(int status)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if ((int)table[i].exit == status)
            return table[i].code;
    return ERR_BUG;
}
