/*
 * numbers: a range of whole numbers is cut by their count of digits; of each count the nodes follow
 * both ends digit by digit, and are free once they differ from them.
 */
#include "runtime/grammar/numbers.h"

#include <stdio.h>
#include <string.h>

static int32_t digits(struct automaton *a, int count, int32_t next)
{
    while (count-- > 0)
        next = automaton_byte(a, '0', '9', next);
    return next;
}

/* What follows an end: digits that are at least those of it, or at most. */
static int32_t beyond(struct automaton *a, const char *end, bool least, int32_t next)
{
    if (!*end)
        return next;
    int left = (int)strlen(end) - 1;
    int32_t same = automaton_byte(a, *end, *end, beyond(a, end + 1, least, next));
    int low = least ? *end + 1 : '0', high = least ? '9' : *end - 1;
    return low > high
        ? same
        : automaton_fork(a, same, automaton_byte(a, low, high, digits(a, left, next)));
}

static int32_t between(struct automaton *a, const char *low, const char *high, int32_t next)
{
    if (!*low)
        return next;
    if (*low == *high)
        return automaton_byte(a, *low, *low, between(a, low + 1, high + 1, next));
    int32_t node = automaton_byte(a, *low, *low, beyond(a, low + 1, true, next));
    node =
        automaton_fork(a, node, automaton_byte(a, *high, *high, beyond(a, high + 1, false, next)));
    if (*low + 1 < *high)
        node = automaton_fork(
            a, node, automaton_byte(a, *low + 1, *high - 1, digits(a, (int)strlen(low) - 1, next)));
    return node;
}

/* Of low..high, 0 or more. */
static int32_t natural(struct automaton *a, int64_t low, int64_t high, int32_t next)
{
    int32_t node = AUTOMATON_NEVER;
    for (int64_t first = 0, last = 9; low <= high && first <= high && last <= NUMBERS_MOST;
         first = last + 1, last = 10 * last + 9) {
        char from[24], to[24];
        if (last < low)
            continue;
        snprintf(from, sizeof from, "%lld", (long long)(first > low ? first : low));
        snprintf(to, sizeof to, "%lld", (long long)(last < high ? last : high));
        node = automaton_fork(a, node, between(a, from, to, next));
    }
    return node;
}

static int64_t bounded(int64_t x)
{
    return x > NUMBERS_MOST ? NUMBERS_MOST : x < -NUMBERS_MOST ? -NUMBERS_MOST : x;
}

int32_t numbers_whole(struct automaton *a, int64_t low, int64_t high, int32_t next)
{
    int32_t node = AUTOMATON_NEVER;
    if (low > NUMBERS_MOST || high < -NUMBERS_MOST)
        return node;
    low = bounded(low);
    high = bounded(high);
    if (low < 0)
        node = automaton_byte(a, '-', '-', natural(a, high < 0 ? -high : 1, -low, next));
    if (high >= 0)
        node = automaton_fork(a, node, natural(a, low > 0 ? low : 0, high, next));
    return node;
}

/* A point and digits, at least one. */
static int32_t fraction(struct automaton *a, int32_t next)
{
    int32_t node = next;
    for (int i = 1; i < NUMBERS_DIGITS; i++)
        node = automaton_fork(a, next, automaton_byte(a, '0', '9', node));
    return automaton_byte(a, '.', '.', automaton_byte(a, '0', '9', node));
}

/* With a fraction a number is up to 1 farther from 0 than its digits before the point say. */
int32_t numbers_within(struct automaton *a, int64_t low, int64_t high, int32_t next)
{
    int32_t node = numbers_whole(a, low, high, next), rest = fraction(a, next);
    if (low > NUMBERS_MOST || high < -NUMBERS_MOST)
        return node;
    low = bounded(low);
    high = bounded(high);
    if (low < 0)
        node = automaton_fork(
            a, node, automaton_byte(a, '-', '-', natural(a, high < 0 ? -high : 0, -low - 1, rest)));
    if (high > 0)
        node = automaton_fork(a, node, natural(a, low > 0 ? low : 0, high - 1, rest));
    return node;
}

int32_t numbers_any(struct automaton *a, int32_t next)
{
    int32_t power =
        automaton_byte(a, '0', '9', automaton_fork(a, next, automaton_byte(a, '0', '9', next)));
    int32_t sign =
        automaton_fork(a, automaton_byte(a, '+', '+', power), automaton_byte(a, '-', '-', power));
    power = automaton_fork(a, power, sign);
    int32_t exponent =
        automaton_fork(a, automaton_byte(a, 'e', 'e', power), automaton_byte(a, 'E', 'E', power));
    int32_t rest = automaton_fork(a, next, exponent);
    rest = automaton_fork(a, rest, fraction(a, rest));
    int32_t node = automaton_byte(a, '0', '0', rest), digit = rest;
    for (int i = 1; i < NUMBERS_DIGITS; i++)
        digit = automaton_fork(a, rest, automaton_byte(a, '0', '9', digit));
    node = automaton_fork(a, node, automaton_byte(a, '1', '9', digit));
    return automaton_fork(a, node, automaton_byte(a, '-', '-', node));
}
