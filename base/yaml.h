/*
 * yaml: YAML text to a json tree, by libyaml. A quoted scalar is a string; a plain one has the type
 * that kubectl sees: yes, no, on, off, y and n are booleans too, 0x1F, 0o17, 017, 0b101 and 1_000
 * numbers. Anchors and aliases are refused. Errors name the line.
 */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include "base/err.h"
#include "base/json.h"

#include <stddef.h>

/* All documents of the stream as a json array. */
int yaml_parse(const char *text, size_t len, struct json **out, struct err *e);
int yaml_read_file(const char *path, size_t limit, struct json **out, struct err *e);

#endif
