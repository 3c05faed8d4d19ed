/*
 * pattern: what of regular expressions (ECMA-262) a JSON schema's strings may ask for: characters,
 * `.`, classes, groups, `|`, quantifiers up to PATTERN_REPEAT, \d \w \s and their opposites, \t \n
 * \r \f \v \xHH \uHHHH, and ^ and $ at the ends of the whole or of its alternatives. Anything else
 * is refused by name.
 *
 * Where readers of patterns differ, what is built is what all of them take: \d, \w and \s are
 * ASCII, and so is the opposite of a class that has one of them; `.` is no end of a line of
 * Unicode's; $ is the end of the text and no line's.
 */
#ifndef RUNTIME_GRAMMAR_PATTERN_H
#define RUNTIME_GRAMMAR_PATTERN_H

#include "runtime/grammar/automaton.h"

#define PATTERN_REPEAT 1000
#define PATTERN_NODES  4096
#define PATTERN_DEPTH  32 /* of groups */

struct pattern_length {  /* of what it matches, in characters */
    int64_t least, most; /* most -1: no bound */
};

/* The characters of a string, without its quotes, that the pattern is found in; any: the rule of
   any character. *node and *length; -ERR_USER: it is not supported. */
int pattern_build(struct automaton *a, const char *pattern, int32_t any, int32_t next,
    int32_t *node, struct pattern_length *length, struct err *e);

#endif
