/*
 * strings: characters of a JSON string (RFC 8259, 7) as an automaton reads them: what must be
 * escaped is, and anything else stands for itself. NUL, which base/json refuses, is left out.
 */
#ifndef RUNTIME_GRAMMAR_STRINGS_H
#define RUNTIME_GRAMMAR_STRINGS_H

#include "runtime/grammar/automaton.h"

#define STRINGS_LAST 0x10ffff /* code point */

/* A code point of low..high, in one way only. */
int32_t strings_point(struct automaton *a, uint32_t low, uint32_t high, int32_t next);
/* A rule: any code point, also as \uXXXX, and as a pair of these beyond U+FFFF. */
int32_t strings_any(struct automaton *a);
/* The text of a value that is given, byte by byte as it is printed here. */
int32_t strings_quoted(struct automaton *a, const char *text, int32_t next);

#endif
