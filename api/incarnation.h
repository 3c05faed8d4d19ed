/*
 * incarnation: the file in a checkpoint's folder that holds the greatest incarnation that has begun
 * to write there: a whole number from 1 as text, and a newline. A coordinator counts on from it;
 * rank 0 refuses to write below it.
 */
#ifndef API_INCARNATION_H
#define API_INCARNATION_H

#include "api/limits.h"
#include "base/err.h"

#include <stdint.h>

int incarnation_path(const char *checkpoint, char out[LIMIT_PATH_BYTES], struct err *e);
/* 0: nobody has begun. -ERR_DATA: it holds what no writer leaves. */
int incarnation_read(const char *checkpoint, int64_t *out, struct err *e);
int incarnation_write(const char *checkpoint, int64_t incarnation, struct err *e);

#endif
