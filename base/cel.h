/*
 * cel: rules in the Common Expression Language (github.com/google/cel-spec), as far as those of
 * manifests/crd.yaml use it, over JSON: numbers, strings, booleans, lists; ?:, ||, &&, comparisons,
 * in, + - * / %, !; has(), double(), size(), startsWith(), endsWith(), lowerAscii(), all(),
 * exists(), exists_one(). Evaluated from the text, left to right; what does not count is only read
 * over, and nothing is allocated.
 *
 * Two liberties: a list that is not there is empty, for defaults of lists are not written out; and
 * whole numbers are told from others by their value, as JSON has them, when they are divided.
 */
#ifndef BASE_CEL_H
#define BASE_CEL_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>

/* Whether the rule holds of self. ERR_BUG names what it is not understood or true of nothing for: a
 * member that is not there, and that no has() has asked after. */
int cel_holds(const char *rule, const struct json *self, bool *holds, struct err *e);

#endif
