/*
 * marks: how Check learns where a test was when it crashed. It writes each assertion that holds to
 * a file, which was nine tenths of the work of a test that has a hundred thousand; here each line
 * does so when a process reaches it first. The compiler includes it before the text of tests, and
 * of fixtures that assert.
 */
#ifndef TESTS_MARKS_H
#define TESTS_MARKS_H

#include <check.h>
#include <stdint.h>

/* Any thread may assert. */
static inline void marks_reach(const char *file, int line)
{
    static uint64_t reached[64]; /* a bit a line of the file */
    uint64_t bit = UINT64_C(1) << line % 64;
    if (!(__atomic_fetch_or(&reached[line / 64 % 64], bit, __ATOMIC_RELAXED) & bit))
        _mark_point(file, line);
}
#define _mark_point(file, line) marks_reach(file, line)

#endif
