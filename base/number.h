/*
 * number: whole numbers in text that others may have written: files, names of files, metadata.
 * Digits and nothing else; no sign, no space, no saturation, and a greatest value that the caller
 * names. Pure.
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_EXACT ((INT64_C(1) << 53) - 1) /* the greatest that JSON carries exactly */

/* n bytes of text, from 0 to max; *out is untouched when they are anything else. */
bool number_whole(const char *text, size_t n, int64_t max, int64_t *out);
/* What a file with one number holds: that number from 1 to NUMBER_EXACT, and perhaps a newline. */
bool number_file(const char *text, size_t n, int64_t *out);

#endif
