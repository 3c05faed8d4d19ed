/*
 * evaluated: the report of an evaluation (spec.evaluate) as a table for people.
 */
#ifndef CLI_EVALUATED_H
#define CLI_EVALUATED_H

#include "base/json.h"

#include <stdio.h>

/* path: where the report stands. */
void evaluated_print(FILE *to, const struct json *report, const char *path);

#endif
