/*
 * numbers: JSON numbers of a range as an automaton reads them. Digits are bounded, so that no
 * answer is a number without end: NUMBERS_DIGITS before the point and behind it, two in an
 * exponent.
 */
#ifndef RUNTIME_GRAMMAR_NUMBERS_H
#define RUNTIME_GRAMMAR_NUMBERS_H

#include "runtime/grammar/automaton.h"

#define NUMBERS_DIGITS 15
#define NUMBERS_MOST   999999999999999 /* of that many digits: a double holds them all */

/* Whole numbers of low..high, within NUMBERS_MOST of 0. */
int32_t numbers_whole(struct automaton *a, int64_t low, int64_t high, int32_t next);
/* Any numbers of that range, without an exponent. */
int32_t numbers_within(struct automaton *a, int64_t low, int64_t high, int32_t next);
/* Any number. */
int32_t numbers_any(struct automaton *a, int32_t next);

#endif
