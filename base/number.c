/*
 * number: one loop, in which a value that would pass max ends the reading. It must not log, nor
 * know what a number means.
 */
#include "base/number.h"

bool number_whole(const char *text, size_t n, int64_t max, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        int digit = text[i] - '0';
        if (digit < 0 || digit > 9 || v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    if (!n)
        return false;
    *out = v;
    return true;
}

bool number_file(const char *text, size_t n, int64_t *out)
{
    int64_t v = 0;
    if (n && text[n - 1] == '\n')
        n--;
    if (!number_whole(text, n, NUMBER_EXACT, &v) || v < 1)
        return false;
    *out = v;
    return true;
}
